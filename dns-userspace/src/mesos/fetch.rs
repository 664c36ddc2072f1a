//! One refresh: asks the masters of a candidate list, in order, for the state of the leading one.

use std::error::Error;
use std::fmt;
use std::io::{self, Write as _};
use std::time::Duration;

use flate2::write::MultiGzDecoder;
use reqwest::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};
use reqwest::{Client, StatusCode};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio_util::bytes::Bytes;

use super::auth::{Authentication, Authenticator, KeyError};
use super::leader::Candidates;
use super::master::MasterAddress;
use super::state_leader::leader_of;
use crate::config::Tls;

/// Redirects followed before a fetch fails, as in mesos-dns.
const MAX_REDIRECTS: usize = 10;
/// Longest wait for a connection, so that a dead host leaves time for the next candidate.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The buffer for a body is reserved up to this size; beyond, it grows with what arrives.
const MAX_RESERVED_OCTETS: u64 = 64 << 20;
/// Taken in at one time: what it may grow to by decompression, a thousandfold, passes the bound of a
/// body by no more.
const PART_OCTETS: usize = 4096;

/// How masters are asked.
#[derive(Clone, Debug)]
pub struct FetchSettings {
    /// `MesosHTTPSOn`: https to the masters.
    pub https: bool,
    /// Certificates to verify masters with, and the one to show them. Without the former, https is
    /// not verified, as in mesos-dns.
    pub tls: Tls,
    /// What is sent to prove who we are.
    pub authentication: Authentication,
    /// `StateTimeoutSeconds`: bound of one request, from connecting to the last octet.
    pub timeout: Duration,
    /// Longest body accepted, in octets, after decompression.
    pub max_body_octets: u64,
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self {
            https: false,
            tls: Tls::default(),
            authentication: Authentication::None,
            timeout: Duration::from_secs(300),
            max_body_octets: 512 << 20,
        }
    }
}

/// Settings no fetcher can be made from.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The CA bundle holds no certificate that can be used.
    #[error("CACertFile parsing failed: no usable certificate in it")]
    CaCertificates,
    /// The client's certificate or key is malformed, or they do not belong together.
    #[error("CertFile and KeyFile cannot be used: {0}")]
    ClientCertificate(String),
    /// The IAM account cannot sign.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(String),
}

/// Why a refresh gave no state: each master asked, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchError(pub Vec<MasterError>);

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no masters given to fetch state.json");
        }
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl Error for FetchError {}

/// Why one master gave no state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("master {master}: {cause}")]
pub struct MasterError {
    /// The master that was asked.
    pub master: MasterAddress,
    /// What went wrong.
    pub cause: Cause,
}

/// What went wrong with one master.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// No complete response: connection, TLS, redirects, decompression, time.
    #[error("{0}")]
    Transport(String),
    /// The login before the fetch failed; the text starts with `IAM authentication failed`.
    #[error("{0}")]
    Login(String),
    /// The body is longer than allowed.
    #[error("the body is longer than {0} octets")]
    TooLarge(u64),
    /// The body is no JSON object, or its leader no text.
    #[error("answered {status} with a body that is no state: {reason}")]
    NotAState {
        /// The status of the response; not looked at when the body is a state.
        status: StatusCode,
        /// What is wrong, and where.
        reason: String,
    },
    /// A state of a master that knows no leader.
    #[error("fetched state does not contain leader information")]
    NoLeader,
    /// A leader that is not `x@host:port`.
    #[error("Invalid leader address: {0}")]
    InvalidLeader(String),
    /// The leading master itself does not say who leads.
    #[error("empty master")]
    EmptyMaster,
}

/// A state, and where it came from.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// One JSON object with a leader in it; checked for syntax only.
    pub body: Bytes,
    /// The `leader` text in it: `master@10.0.0.1:5050`.
    pub leader: String,
    /// The master that gave it.
    pub fetched_from: MasterAddress,
}

/// Asks masters for their state. One connection per request.
pub struct Fetcher {
    client: Client,
    scheme: &'static str,
    authenticator: Authenticator,
    timeout: Duration,
    max_body_octets: u64,
}

/// A response read to its end.
struct Reply {
    body: Bytes,
    leader: String,
    /// The place the last redirect led to.
    answered_by: Option<MasterAddress>,
    peer: Option<std::net::SocketAddr>,
}

impl Fetcher {
    /// Makes a fetcher. Unverified https is warned of where the configuration is read.
    ///
    /// # Errors
    ///
    /// [`SetupError`] when a certificate or key cannot be used.
    pub fn new(settings: FetchSettings) -> Result<Self, SetupError> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Fails only if another thread was faster, with the same provider.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let mut builder = Client::builder()
            .redirect(reqwest::redirect::Policy::limited(MAX_REDIRECTS))
            .referer(false)
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(settings.timeout)
            .connect_timeout(settings.timeout.min(CONNECT_TIMEOUT));
        if let Some(pem) = &settings.tls.ca {
            builder = builder.tls_certs_only(authorities(pem)?);
        } else {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        if let Some(pem) = &settings.tls.identity {
            let identity = reqwest::Identity::from_pem(pem)
                .map_err(|error| SetupError::ClientCertificate(causes(error)))?;
            builder = builder.identity(identity);
        }
        let client = builder.build().map_err(|error| {
            let text = causes(error);
            match &settings.tls.identity {
                Some(_) => SetupError::ClientCertificate(text),
                None => SetupError::Client(text),
            }
        })?;
        Ok(Self {
            client,
            scheme: if settings.https { "https" } else { "http" },
            authenticator: Authenticator::new(settings.authentication)?,
            timeout: settings.timeout,
            max_body_octets: settings.max_body_octets,
        })
    }

    /// Fetches the state of the leading master: tries the candidates in order until one leads to
    /// it.
    ///
    /// # Errors
    ///
    /// One [`MasterError`] for each candidate, none for an empty list.
    pub async fn refresh(&self, candidates: &Candidates) -> Result<Fetched, FetchError> {
        let mut errors = Vec::new();
        for candidate in candidates.to_ask() {
            match self.by_way_of(candidate).await {
                Ok(fetched) => return Ok(fetched),
                Err(error) => errors.push(error),
            }
        }
        Err(FetchError(errors))
    }

    /// Asks one candidate, and then the leader that it names unless that one answered already.
    async fn by_way_of(&self, candidate: &MasterAddress) -> Result<Fetched, MasterError> {
        let at = |master: &MasterAddress| {
            let master = master.clone();
            move |cause| MasterError { master, cause }
        };
        let reply = self.get(candidate).await.map_err(at(candidate))?;
        if reply.leader.is_empty() {
            return Err(at(candidate)(Cause::NoLeader));
        }
        let leader = MasterAddress::from_leader(&reply.leader)
            .map_err(|error| at(candidate)(Cause::InvalidLeader(error.0)))?;
        // mesos-dns compares host texts, so it asks twice when a master is configured by name,
        // and drops the leader's port, so masters on several ports fail.
        if reply.is_from(&leader) || candidate.same_place(&leader) {
            return Ok(Fetched {
                body: reply.body,
                leader: reply.leader,
                fetched_from: leader,
            });
        }
        drop(reply);
        let reply = self.get(&leader).await.map_err(at(&leader))?;
        if reply.leader.is_empty() {
            return Err(at(&leader)(Cause::EmptyMaster));
        }
        Ok(Fetched {
            body: reply.body,
            leader: reply.leader,
            fetched_from: leader,
        })
    }

    /// Fetches `/master/state`; logs in again once if a token of an earlier login is refused.
    async fn get(&self, master: &MasterAddress) -> Result<Reply, Cause> {
        let (mut response, reused) = self.send(master).await?;
        let refused =
            [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&response.status());
        if refused && reused {
            self.authenticator.forget().await;
            (response, _) = self.send(master).await?;
        }
        self.read(response).await
    }

    async fn send(&self, master: &MasterAddress) -> Result<(reqwest::Response, bool), Cause> {
        let request = self
            .client
            .get(format!("{}://{master}/master/state", self.scheme))
            .header(USER_AGENT, "Mesos-DNS")
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT_ENCODING, "gzip")
            .header(CONNECTION, "close");
        let (request, reused) = self
            .authenticator
            .authorize(request, &self.client)
            .await
            .map_err(|error| Cause::Login(error.to_string()))?;
        let response = request
            .send()
            .await
            .map_err(|error| self.transport(error))?;
        Ok((response, reused))
    }

    async fn read(&self, mut response: reqwest::Response) -> Result<Reply, Cause> {
        let too_large = Cause::TooLarge(self.max_body_octets);
        let announced = response.content_length().unwrap_or(0);
        if announced > self.max_body_octets {
            return Err(too_large);
        }
        let reserved = usize::try_from(announced.min(MAX_RESERVED_OCTETS)).unwrap_or(0);
        let mut content = Content::new(&response, reserved);
        let malformed =
            |error: io::Error| Cause::Transport(format!("malformed gzip in the body: {error}"));
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.transport(error))?
        {
            for part in chunk.chunks(PART_OCTETS) {
                content.take(part).map_err(malformed)?;
                if content.octets() as u64 > self.max_body_octets {
                    return Err(too_large);
                }
            }
        }
        let body = content.finish().map_err(malformed)?;
        if body.len() as u64 > self.max_body_octets {
            return Err(too_large);
        }
        let status = response.status();
        let leader = leader_of(&body).map_err(|error| Cause::NotAState {
            status,
            reason: error.to_string(),
        })?;
        let url = response.url();
        let answered_by = url
            .host_str()
            .zip(url.port_or_known_default())
            .map(|(host, port)| {
                MasterAddress::new(host.trim_start_matches('[').trim_end_matches(']'), port)
            });
        Ok(Reply {
            body: body.into(),
            leader,
            answered_by,
            peer: response.remote_addr(),
        })
    }

    fn transport(&self, error: reqwest::Error) -> Cause {
        Cause::Transport(if error.is_timeout() && error.is_connect() {
            format!(
                "no connection within {:?}",
                self.timeout.min(CONNECT_TIMEOUT)
            )
        } else if error.is_timeout() {
            format!("no complete response within {:?}", self.timeout)
        } else {
            causes(error)
        })
    }
}

/// What has come of a body, decompressed.
enum Content {
    Plain(Vec<u8>),
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
}

impl Content {
    /// The name of a coding is the same in any case (RFC 9110, section 8.4.1), and gzip is one or
    /// several members (RFC 1952, section 2.2).
    fn new(response: &reqwest::Response, reserved_octets: usize) -> Self {
        let body = Vec::with_capacity(reserved_octets);
        let coding = response.headers().get(CONTENT_ENCODING);
        match coding.is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"gzip")) {
            true => Self::Gzip(Box::new(MultiGzDecoder::new(body))),
            false => Self::Plain(body),
        }
    }

    fn take(&mut self, part: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(body) => body.write_all(part),
            Self::Gzip(decoder) => decoder.write_all(part),
        }
    }

    fn octets(&self) -> usize {
        match self {
            Self::Plain(body) => body.len(),
            Self::Gzip(decoder) => decoder.get_ref().len(),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain(body) => Ok(body),
            Self::Gzip(decoder) => decoder.finish(),
        }
    }
}

impl Reply {
    fn is_from(&self, master: &MasterAddress) -> bool {
        self.answered_by
            .as_ref()
            .is_some_and(|place| place.same_place(master))
            || self.peer.is_some_and(|peer| master.is_at(peer))
    }
}

/// The certificates of a bundle; those that cannot be used are left out, as in mesos-dns.
fn authorities(pem: &[u8]) -> Result<Vec<reqwest::Certificate>, SetupError> {
    let usable: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .filter_map(Result::ok)
        .filter(|der| RootCertStore::empty().add(der.clone()).is_ok())
        .filter_map(|der| reqwest::Certificate::from_der(&der).ok())
        .collect();
    if usable.is_empty() {
        return Err(SetupError::CaCertificates);
    }
    Ok(usable)
}

/// The error and its causes in one line, without the URL, which may hold a user's password.
pub(super) fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
