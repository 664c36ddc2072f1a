//! Configuration: read at the edges, checked once, and handed inward as small structs.
//!
//! The file is the `config.json` of mesos-dns with objects of our own beside its keys. [`load`] stops
//! at the first problem in the order of mesos-dns and with its words; [`check`] finds them all.

mod cache;
pub mod dcos;
mod follow;
mod found;
pub mod host;
pub(crate) mod members;
pub mod mesos_dns;
pub(crate) mod places;
mod reverse;
mod secret;
pub mod server;
#[cfg(test)]
mod tests;
mod tls;
pub mod transfer;
mod validate;
pub mod xdp;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub use dcos::Dcos;
pub use host::Surroundings;
pub use secret::Secret;
pub use server::Server;
pub use tls::Tls;
pub use transfer::{Secondary, Transfer};
pub use xdp::{OnExit, Xdp, XdpMode};

use crate::forwarder::CacheSettings;
use crate::records::reverse::Reverse;
use crate::records::{self, IpSource, LabelRule, NameServer, SoaSettings};

/// Every setting, typed and checked. Names are those of the file; times are in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `RefreshSeconds`: period of the refresh; at least 1.
    pub refresh_seconds: u32,
    /// `Port` of DNS, UDP and TCP.
    pub port: u16,
    /// `Timeout` of one try at one upstream; never 0.
    pub timeout_seconds: u32,
    /// `StateTimeoutSeconds`: timeout of one fetch of the state; at least 1.
    pub state_timeout_seconds: u32,
    /// `ZkDetectionTimeout`; 0 waits for ever.
    pub zk_detection_timeout_seconds: u32,
    /// `HttpPort` of the HTTP API.
    pub http_port: u16,
    /// `TTL` of every record.
    pub ttl: u32,
    /// `SRVRecordDefaultWeight`.
    pub srv_weight: u16,
    /// `SOASerial`, which only offline listings show.
    pub soa_serial: u32,
    /// `SOARefresh`.
    pub soa_refresh: u32,
    /// `SOARetry`.
    pub soa_retry: u32,
    /// `SOAExpire`.
    pub soa_expire: u32,
    /// `SOAMinttl`, if the file has it. mesos-dns ignores it and takes the TTL; so does an absent
    /// key here.
    pub soa_minttl: Option<u32>,
    /// `SOAMname`, ending in one dot.
    pub soa_mname: String,
    /// `SOARname`, with dots for `@` and ending in one dot.
    pub soa_rname: String,
    /// `Masters`, each `host:port`.
    pub masters: Vec<String>,
    /// `ZoneResolvers`: upstreams of zones, whose names are as written, in any case; each an address
    /// with or without port.
    pub zone_resolvers: BTreeMap<String, Vec<String>>,
    /// `Resolvers`: the default upstreams; those of this host if the list was empty.
    pub resolvers: Vec<String>,
    /// `IPSources`, the best first.
    pub ip_sources: Vec<IpSource>,
    /// `Zk`: the ZooKeeper URL, or empty.
    pub zk: String,
    /// `Domain`, in lower case.
    pub domain: String,
    /// `File`: the path of the file, unless it names another.
    pub file: String,
    /// `Listener`: the address DNS listens on, as written.
    pub listener: String,
    /// `HTTPListener`: the address or host name the HTTP API listens on.
    pub http_listener: String,
    /// `RecurseOn`: the RA bit of answers from our zone.
    pub recurse_on: bool,
    /// `DnsOn`.
    pub dns_on: bool,
    /// `HttpOn`.
    pub http_on: bool,
    /// `ExternalOn`: other names are forwarded.
    pub external_on: bool,
    /// `EnforceRFC952`.
    pub enforce_rfc952: bool,
    /// `SetTruncateBit`.
    pub set_truncate_bit: bool,
    /// `EnumerationOn`: `/v1/axfr` and `/v1/enumerate` are served.
    pub enumeration_on: bool,
    /// `MesosHTTPSOn`.
    pub mesos_https_on: bool,
    /// `CACertFile`.
    pub ca_cert_file: String,
    /// `CertFile`.
    pub cert_file: String,
    /// `KeyFile`.
    pub key_file: String,
    /// What those three files hold.
    pub tls: Tls,
    /// `MesosCredentials`, used or not.
    pub mesos_credentials: Credentials,
    /// `IAMConfigFile`.
    pub iam_config_file: String,
    /// `MesosAuthentication`, as what it needs.
    pub authentication: Authentication,
    /// `xdp`.
    pub xdp: Xdp,
    /// `cache`.
    pub cache: CacheSettings,
    /// `transfer`.
    pub transfer: Transfer,
    /// `secondary`: zones of other servers.
    pub secondary: Vec<Secondary>,
    /// `reverse`.
    pub reverse: Reverse,
    /// `server`.
    pub server: Server,
    /// `dcos`, if the file has it.
    pub dcos: Option<Dcos>,
}

/// A name and a secret for basic authentication.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The principal.
    pub principal: String,
    /// Its secret.
    pub secret: Secret,
}

/// How requests to Mesos are authenticated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Authentication {
    /// Not at all.
    #[default]
    None,
    /// By [`Config::mesos_credentials`].
    Basic,
    /// By a token from a login service.
    Iam(Iam),
}

impl Authentication {
    /// The configured word.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::None => "",
            Self::Basic => "basic",
            Self::Iam(_) => "iam",
        }
    }
}

/// What the IAM file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Iam {
    /// The user.
    pub uid: String,
    /// The RSA key in PEM that signs the login token.
    pub private_key: Secret,
    /// Where to log in.
    pub login_endpoint: String,
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// The file it is in.
    pub file: PathBuf,
    /// The key, if it is one key's fault.
    pub key: Option<String>,
    /// The value as JSON, secrets left out.
    pub value: Option<String>,
    /// What is wrong, in the words of mesos-dns where it has any.
    pub message: String,
    /// What would be accepted.
    pub accepted: Option<&'static str>,
}

/// `file: message (key = value; accepted: …)`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.message)?;
        let Some(key) = &self.key else {
            return Ok(());
        };
        write!(f, " ({key}")?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        if let Some(accepted) = self.accepted {
            write!(f, "; accepted: {accepted}")?;
        }
        f.write_str(")")
    }
}

/// What a file says, and what is worth a warning.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Sentences for the log: unknown keys by name, settings without effect.
    pub warnings: Vec<String>,
}

/// Everything that is to say about a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// What to serve with, if nothing is wrong.
    pub config: Option<Config>,
    /// What is wrong, in the order in which mesos-dns looks.
    pub problems: Vec<Problem>,
    /// As [`Loaded::warnings`].
    pub warnings: Vec<String>,
}

/// Reads and validates a file, up to the first problem.
///
/// # Errors
/// The first problem in the order of mesos-dns.
pub fn load(path: &Path, surroundings: &Surroundings) -> Result<Loaded, Problem> {
    let Checked {
        config,
        problems,
        warnings,
    } = check(path, surroundings);
    match (config, problems.into_iter().next()) {
        (Some(config), None) => Ok(Loaded { config, warnings }),
        (_, Some(problem)) => Err(problem),
        (None, None) => Err(Problem {
            file: path.to_owned(),
            key: None,
            value: None,
            message: "no configuration".into(),
            accepted: None,
        }),
    }
}

/// Reads and validates a file, and finds everything that is wrong with it.
#[must_use]
pub fn check(path: &Path, surroundings: &Surroundings) -> Checked {
    let path = surroundings.absolute(path);
    let body = match std::fs::read(&path) {
        Ok(body) => body,
        Err(error) => {
            let message = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    format!("missing configuration file: \"{}\"", path.display())
                }
                _ => format!("configuration file \"{}\": {error}", path.display()),
            };
            let problem = Problem {
                file: path,
                key: None,
                value: None,
                message,
                accepted: None,
            };
            return Checked {
                config: None,
                problems: vec![problem],
                warnings: Vec::new(),
            };
        }
    };
    check_text(&body, &path, surroundings)
}

/// As [`check`], for a file whose content is known. `path` is absolute and only named; the files
/// it refers to are read.
#[must_use]
pub fn check_text(body: &[u8], path: &Path, surroundings: &Surroundings) -> Checked {
    let mut reading = mesos_dns::read(body, path);
    validate::validate(&mut reading, surroundings);
    Checked {
        config: reading.problems.is_empty().then_some(reading.config),
        problems: reading.problems,
        warnings: reading.warnings,
    }
}

impl Config {
    /// What record generation needs. `interfaces` are the addresses of this host, for the record
    /// of a name server that listens on all of them.
    #[must_use]
    pub fn record_settings(&self, interfaces: &[IpAddr]) -> records::Settings {
        records::Settings {
            domain: self.domain.clone(),
            ip_sources: self.ip_sources.clone(),
            labels: if self.enforce_rfc952 {
                LabelRule::Rfc952
            } else {
                LabelRule::Rfc1123
            },
            name_server: NameServer {
                name: self.soa_mname.clone(),
                addresses: records::fixed::listener_addresses(&self.listener, interfaces),
            },
            ttl: self.ttl,
            srv_weight: self.srv_weight,
            soa: SoaSettings {
                rname: self.soa_rname.clone(),
                refresh: self.soa_refresh,
                retry: self.soa_retry,
                expire: self.soa_expire,
                minimum: self.soa_minttl.unwrap_or(self.ttl),
            },
            reverse: self.reverse.clone(),
        }
    }
}
