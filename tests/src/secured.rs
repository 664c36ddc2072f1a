//! A server in the test's own process that also answers over TLS and HTTPS, and the programs that
//! ask it there.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    process::{Command, Output},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use dns_userspace::server::EncryptedProtocol;

use crate::{
    keys::{Keys, SERVER_NAME, Stream},
    served::{Plan, Served},
};

/// How long anything may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(30);

/// The server, and the authority that its certificate is from.
pub struct Secured {
    /// `ca.pem`; `server.pem` with its key is what clients are shown.
    pub keys: Keys,
    /// The server.
    pub served: Served,
    /// Where it speaks TLS.
    pub tls: SocketAddr,
    /// Where it speaks HTTPS.
    pub https: SocketAddr,
}

impl Secured {
    /// Serves a plan over TLS and HTTPS besides.
    ///
    /// # Errors
    ///
    /// As [`Plan::start`].
    pub fn start(mut plan: Plan) -> Result<Self> {
        let keys = Keys::new();
        keys.certificates(&["server"]);
        let all = EncryptedProtocol::ALL.map(|one| keys.encrypted(one, "server"));
        let [tls, https] = [&all[0], &all[1]].map(|one| one.listening()[0]);
        plan.settings.encrypted = all.to_vec();
        Ok(Self {
            keys,
            served: plan.start()?,
            tls,
            https,
        })
    }

    /// A program of `kdig`'s or `dig`'s kind, which asks for a name and type in a way of its own;
    /// what it prints. `CA` in the options stands for the file of the authority.
    ///
    /// # Errors
    ///
    /// It fails, or says that there is no answer.
    pub fn ask(
        &self,
        program: &str,
        server: SocketAddr,
        options: &[&str],
        name: &str,
        rtype: &str,
    ) -> Result<String> {
        let ca = self.keys.path("ca.pem").display().to_string();
        let options = options.iter().map(|one| one.replace("CA", &ca));
        let mut command = Command::new(program);
        command
            .arg(format!("@{}", server.ip()))
            .args(["-p", &server.port().to_string()])
            .args(options)
            .args(["+timeout=10", "+retry=0", "-q", name, "-t", rtype]);
        // A file of the user must not change the question.
        command.env("HOME", "/nonexistent");
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().context("running the program")?;
        let [said, complained] =
            [stdout, stderr].map(|one| String::from_utf8_lossy(&one).into_owned());
        ensure!(
            status.success() && said.contains("HEADER"),
            "{command:?}: {status}\n{said}{complained}"
        );
        Ok(said)
    }

    /// Runs curl, which believes in the authority, for a path of the HTTPS server; gives the head of
    /// the response and the body.
    ///
    /// # Errors
    ///
    /// There is no response.
    pub fn curl(&self, options: &[&str], path: &str) -> Result<(String, Vec<u8>)> {
        let mut command = Command::new("curl");
        command
            .args([
                "--disable",
                "--silent",
                "--show-error",
                "--include",
                "--max-time",
                "20",
            ])
            .arg("--cacert")
            .arg(self.keys.path("ca.pem"))
            .args([
                "--resolve",
                &format!("{SERVER_NAME}:{}:127.0.0.1", self.https.port()),
            ])
            .args(options)
            .arg(format!("https://{SERVER_NAME}:{}{path}", self.https.port()));
        let output = command.output().context("running curl")?;
        let end = output
            .stdout
            .windows(4)
            .position(|four| four == b"\r\n\r\n");
        let complained = String::from_utf8_lossy(&output.stderr);
        let end = end.with_context(|| format!("{command:?}: {complained}"))?;
        let (head, body) = output.stdout.split_at(end + 4);
        Ok((String::from_utf8_lossy(head).to_lowercase(), body.to_vec()))
    }
}

/// An A query for a name, without EDNS.
pub fn query(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}

/// A message with its length before it.
pub fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

/// Reads a message with its length before it.
///
/// # Errors
///
/// The stream ends or fails before.
pub fn read_framed(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// Asks for the one address of a name over a stream.
pub fn answer_over(stream: &mut Stream, name: &str) {
    stream.write_all(&framed(&query(7, name))).expect("writing");
    let response = read_framed(stream).expect("a response");
    assert_eq!(response.get(7), Some(&1), "one record");
}

/// How long it takes until the other side closes; what it says before is read.
pub fn time_to_close(stream: &mut impl Read) -> Duration {
    let start = Instant::now();
    let mut sink = vec![0; 65536];
    while !matches!(stream.read(&mut sink), Ok(0) | Err(_)) {
        assert!(start.elapsed() < LIMIT, "it goes on");
    }
    start.elapsed()
}
