//! The certificate that TLS clients are shown. It is read again when its files change, while
//! connections go on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A certificate chain with its key, from files.
#[derive(Debug)]
pub struct Certificate {
    current: ArcSwap<CertifiedKey>,
    files: Mutex<Files>,
}

#[derive(Debug, Clone)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// How they looked when they were read last.
    read: Stamp,
    /// How they looked when they were looked at last.
    seen: Stamp,
}

/// What changes when a file is written or replaced: device, inode, size and time.
type Stamp = [Option<(u64, u64, u64, i64, i64)>; 2];

/// What is wrong with a certificate or its key, the file named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityError {
    /// With the certificate.
    Certificate(String),
    /// With the key, or with the two together.
    Key(String),
}

impl From<IdentityError> for String {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Certificate(text) | IdentityError::Key(text) => text,
        }
    }
}

/// A certificate chain in PEM and its private key, checked to belong together; each with the name
/// of its file.
///
/// # Errors
/// Says what is wrong with which of the files.
pub fn certified_key(
    (certificate, pem): (&str, &[u8]),
    (key, key_pem): (&str, &[u8]),
) -> Result<CertifiedKey, IdentityError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| IdentityError::Certificate(format!("{certificate}: {error}")))?;
    if chain.is_empty() {
        let message = format!("{certificate}: no certificate in PEM");
        return Err(IdentityError::Certificate(message));
    }
    let private = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|error| IdentityError::Key(format!("{key}: {error}")))?;
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, private, &provider).map_err(|error| match error {
        rustls::Error::InvalidCertificate(_) => {
            IdentityError::Certificate(format!("{certificate}: {error}"))
        }
        rustls::Error::InconsistentKeys(_) => {
            IdentityError::Key(format!("{certificate}, {key}: {error}"))
        }
        _ => IdentityError::Key(format!("{key}: {error}")),
    })
}

impl Files {
    /// As they are now.
    fn at(certificate: &Path, key: &Path) -> Self {
        let seen = [certificate, key].map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some((
                metadata.dev(),
                metadata.ino(),
                metadata.size(),
                metadata.mtime(),
                metadata.mtime_nsec(),
            ))
        });
        Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            read: seen,
            seen,
        }
    }

    fn read(&self) -> Result<CertifiedKey, String> {
        let octets =
            |path: &Path| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        let (pem, key_pem) = (octets(&self.certificate)?, octets(&self.key)?);
        let [certificate, key] =
            [&self.certificate, &self.key].map(|one| one.display().to_string());
        Ok(certified_key((&certificate, &pem), (&key, &key_pem))?)
    }
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// Says what is wrong with which of them.
    pub fn load(certificate: &Path, key: &Path) -> Result<Arc<Self>, String> {
        let files = Files::at(certificate, key);
        Ok(Arc::new(Self {
            current: ArcSwap::from_pointee(files.read()?),
            files: Mutex::new(files),
        }))
    }

    /// Shows the content of these files from the next connection on.
    ///
    /// # Errors
    /// They cannot be used; what was shown before goes on.
    pub fn replace(&self, certificate: &Path, key: &Path) -> Result<(), String> {
        let files = Files::at(certificate, key);
        let fresh = files.read();
        // Whatever comes of it, the same files are not read twice.
        *self.files() = files;
        self.current.store(Arc::new(fresh?));
        Ok(())
    }

    /// Reads the files again if they are others than were read last, and stay as they are from one
    /// look to the next: who writes one of the two goes on to write the other.
    fn look(&self) -> Option<Result<(), String>> {
        let (certificate, key) = {
            let mut files = self.files();
            let now = Files::at(&files.certificate, &files.key);
            let is_settled = now.seen == files.seen;
            files.seen = now.seen;
            if !is_settled || now.seen == files.read {
                return None;
            }
            (now.certificate, now.key)
        };
        Some(self.replace(&certificate, &key))
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the files until the server stops.
    pub(super) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let certificate = Arc::clone(&self);
            // A file system may hang.
            let looked = tokio::task::spawn_blocking(move || certificate.look()).await;
            match looked {
                Ok(None) | Err(_) => {}
                Ok(Some(Ok(()))) => tracing::info!("the certificate was read again"),
                Ok(Some(Err(error))) => {
                    tracing::warn!(error, "the certificate stays as it was");
                }
            }
        }
    }

    /// How TLS is spoken with it, and the protocols inside, the best first.
    pub(super) fn config(
        self: &Arc<Self>,
        protocols: &[&[u8]],
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Shown(Arc::clone(self))));
        config.alpn_protocols = protocols.iter().map(|one| one.to_vec()).collect();
        // Stub resolvers come and go: resumption without memory for each of them, with a key that
        // changes. Early data, which can be replayed, is not accepted.
        config.ticketer = rustls::crypto::ring::Ticketer::new()?;
        Ok(Arc::new(config))
    }
}

#[derive(Debug)]
struct Shown(Arc<Certificate>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current.load_full())
    }
}
