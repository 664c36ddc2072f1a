//! Certificates and keys in files, made by `openssl`, and clients that believe in them.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use dns_userspace::server::{Certificate, Encrypted, EncryptedProtocol};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

/// The name in every certificate, beside 127.0.0.1.
pub const SERVER_NAME: &str = "dns.example.com";

/// Longer than anything takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Files of one test; gone when dropped.
#[derive(Debug)]
pub struct Keys(PathBuf);

/// A TLS connection of a client.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

impl Default for Keys {
    fn default() -> Self {
        Self::new()
    }
}

impl Keys {
    /// An empty folder.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("keys-{}-{count}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        Self(folder)
    }

    /// Runs `openssl` in the folder, and gives what it prints.
    pub fn openssl(&self, arguments: &str) -> Vec<u8> {
        let mut command = Command::new("openssl");
        command
            .args(arguments.split_whitespace())
            .current_dir(&self.0);
        let output = command.output().expect("openssl runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {said}");
        output.stdout
    }

    /// Where a file is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Reads a file.
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("a file of the folder")
    }

    /// Writes a file.
    pub fn write(&self, name: &str, octets: &[u8]) {
        fs::write(self.path(name), octets).expect("a file of the folder");
    }

    /// Puts one file in the place of another, in one step.
    pub fn replace(&self, name: &str, with: &str) {
        let beside = format!("{name}.next");
        self.write(&beside, &self.read(with));
        fs::rename(self.path(&beside), self.path(name)).expect("the folder is ours");
    }

    /// `ca.pem`, and `NAME.pem` with `NAME.key` signed by it for 127.0.0.1 and [`SERVER_NAME`].
    pub fn certificates(&self, names: &[&str]) {
        let curve = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        self.openssl(&format!(
            "req -x509 {curve} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca"
        ));
        let extensions = format!("subjectAltName=IP:127.0.0.1,DNS:{SERVER_NAME}\n");
        self.write("extensions", extensions.as_bytes());
        for name in names {
            self.openssl(&format!(
                "req {curve} -keyout {name}.key -out {name}.csr -subj /CN={name}"
            ));
            self.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                 -extfile extensions -out {name}.pem"
            ));
        }
    }

    /// The pin of a certificate's key: SHA-256 of the SubjectPublicKeyInfo, in base64.
    pub fn pin(&self, name: &str) -> String {
        let der = format!("{name}.spki");
        let public = format!("pkey -in {name}.key -pubout -outform DER -out {der}");
        self.openssl(&public);
        let digest = self.openssl(&format!("dgst -sha256 -binary {der}"));
        data_encoding::BASE64.encode(&digest)
    }

    /// An encrypted transport on loopback, with `NAME.pem` and `NAME.key`.
    pub fn encrypted(&self, protocol: EncryptedProtocol, name: &str) -> Encrypted {
        let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
        let certificate = Certificate::load(&self.path(&certificate), &self.path(&key));
        let listen = [SocketAddr::from(([127, 0, 0, 1], 0))];
        let certificate = certificate.expect("a certificate");
        Encrypted::bind(protocol, &listen, certificate).expect("a port of loopback")
    }

    /// Connects, and shakes hands by `ca.pem`; `alpn` are the protocols that are offered.
    ///
    /// # Errors
    ///
    /// Nobody is there, or the handshake fails.
    pub fn connect(&self, server: SocketAddr, alpn: &[&str]) -> Result<Stream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&self.read("ca.pem"))?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|one| one.as_bytes().to_vec()).collect();
        let mut tcp = TcpStream::connect(server)?;
        tcp.set_read_timeout(Some(LIMIT))?;
        tcp.set_write_timeout(Some(LIMIT))?;
        let name = ServerName::try_from(SERVER_NAME)?;
        let mut connection = ClientConnection::new(Arc::new(config), name)?;
        while connection.is_handshaking() {
            let (read, written) = connection.complete_io(&mut tcp)?;
            ensure!(read + written > 0, "closed in the handshake");
        }
        Ok(StreamOwned::new(connection, tcp))
    }
}

/// The certificate that the server has shown.
pub fn shown(stream: &Stream) -> Option<Vec<u8>> {
    let chain = stream.conn.peer_certificates()?;
    chain.first().map(|one| one.to_vec())
}

/// The first certificate of a file.
pub fn certificate(path: &Path) -> Vec<u8> {
    let certificate = CertificateDer::from_pem_file(path);
    certificate.expect("a certificate in PEM").to_vec()
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
