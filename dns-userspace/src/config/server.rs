//! The object `server`: how user space answers, whom, and over what.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use dns_common::RateLimit;
use serde_json::Value;

use super::found::Found;
use super::mesos_dns::Reading;
use super::tls;
use crate::answers::cookie::{self, Secret};
use crate::answers::identity::MAX_TEXT_OCTETS;
use crate::server::certificate::IdentityError;
use crate::transfer::Prefix;

/// The longest NSID: what fits the smallest response beside anything.
const MAX_NSID_OCTETS: usize = 128;
/// UDP sockets for each address at most.
const MAX_WORKERS: u32 = 1024;
const DAY_SECONDS: u32 = 86400;

/// Settings of the server in user space.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Server {
    /// `udp_workers`: threads for each address; 0 for as many as there are cores.
    pub udp_workers: u32,
    /// `minimal_any`.
    pub minimal_any: bool,
    /// `nsid`; empty for none.
    pub nsid: String,
    /// `version`; empty for none.
    pub version: String,
    /// `id`; empty for none.
    pub id: String,
    /// `allow_clients`; none for all.
    pub allow_clients: Vec<Prefix>,
    /// `rate_limit`.
    pub rate_limit: Rate,
    /// `cookies`.
    pub cookies: Cookies,
    /// `tcp`.
    pub tcp: Tcp,
    /// `tls`: DNS over TLS.
    pub tls: Encrypted,
    /// `https`: DNS over HTTPS.
    pub https: Encrypted,
}

/// `rate_limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// `responses_per_second`; 0 for no limit.
    pub responses_per_second: u32,
    /// `window_seconds`.
    pub window_seconds: u32,
    /// `slip`; 0 for none.
    pub slip: u32,
    /// `ipv4_prefix`.
    pub ipv4_prefix: u32,
    /// `ipv6_prefix`.
    pub ipv6_prefix: u32,
}

impl Default for Rate {
    fn default() -> Self {
        Self {
            responses_per_second: 0,
            window_seconds: 5,
            slip: 0,
            ipv4_prefix: 24,
            ipv6_prefix: 56,
        }
    }
}

impl Rate {
    /// The same as what kernel and user space decide by.
    #[must_use]
    pub const fn limit(&self) -> RateLimit {
        RateLimit {
            ipv4_bits: self.ipv4_prefix,
            ipv6_bits: self.ipv6_prefix,
            ..RateLimit::new(self.responses_per_second, self.window_seconds, self.slip)
        }
    }
}

/// `cookies`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cookies {
    /// `enabled`.
    pub enabled: bool,
    /// `badcookie`.
    pub badcookie: bool,
    /// `secret_file`; empty for secrets of our own.
    pub secret_file: String,
    /// What that file holds.
    pub secrets: Vec<Secret>,
}

/// `tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp {
    /// `connections`.
    pub connections: u32,
    /// `per_client`.
    pub per_client: u32,
    /// `first_query_seconds`.
    pub first_query_seconds: u32,
    /// `idle_seconds`.
    pub idle_seconds: u32,
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            connections: 1024,
            per_client: 128,
            first_query_seconds: 2,
            idle_seconds: 8,
        }
    }
}

/// `tls` or `https`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Encrypted {
    /// `listeners`; none switches it off.
    pub listeners: Vec<SocketAddr>,
    /// `certificate`: a file with the chain in PEM.
    pub certificate: PathBuf,
    /// `key`: a file with its private key in PEM.
    pub key: PathBuf,
}

impl Found<'_> {
    /// Reads `server`; gives the keys it does not know.
    pub(super) fn server(&mut self, value: &Value, slot: &mut Server) -> Vec<String> {
        let mut unknown = Vec::new();
        self.each_member(value, &mut unknown, |member, key, value, unknown| {
            match key {
                "udp_workers" => member.within(value, &mut slot.udp_workers, 0, MAX_WORKERS),
                "minimal_any" => member.flag(value, &mut slot.minimal_any),
                "nsid" => member.short(value, &mut slot.nsid, MAX_NSID_OCTETS),
                "version" => member.short(value, &mut slot.version, MAX_TEXT_OCTETS),
                "id" => member.short(value, &mut slot.id, MAX_TEXT_OCTETS),
                "allow_clients" => member.each(
                    value,
                    &mut slot.allow_clients,
                    |text| text.parse().ok(),
                    "a list of addresses and prefixes such as 10.0.0.0/8",
                ),
                "rate_limit" => member.rate_limit(value, &mut slot.rate_limit, unknown),
                "cookies" => member.cookies(value, &mut slot.cookies, unknown),
                "tcp" => member.tcp(value, &mut slot.tcp, unknown),
                "tls" => member.encrypted(value, &mut slot.tls, unknown),
                "https" => member.encrypted(value, &mut slot.https, unknown),
                _ => return false,
            }
            true
        });
        unknown
    }

    /// Reads the members of an object with `read`, which says whether it knows the key; keys are
    /// compared without regard to case. Those it does not know are noted with their path.
    fn each_member(
        &mut self,
        value: &Value,
        unknown: &mut Vec<String>,
        mut read: impl FnMut(&mut Found<'_>, &str, &Value, &mut Vec<String>) -> bool,
    ) {
        let path = self.key().to_owned();
        for (key, value) in self.members(value).into_iter().flatten() {
            let lower = key.to_ascii_lowercase();
            let full = format!("{path}.{lower}");
            if !read(&mut self.member(&full), &lower, value, unknown) {
                unknown.push(format!("{path}.{key}"));
            }
        }
    }

    fn rate_limit(&mut self, value: &Value, slot: &mut Rate, unknown: &mut Vec<String>) {
        self.each_member(value, unknown, |member, key, value, _| {
            match key {
                "responses_per_second" => {
                    member.within(value, &mut slot.responses_per_second, 0, 1_000_000);
                }
                "window_seconds" => member.within(value, &mut slot.window_seconds, 1, 3600),
                "slip" => member.within(value, &mut slot.slip, 0, 1000),
                "ipv4_prefix" => member.within(value, &mut slot.ipv4_prefix, 0, 32),
                "ipv6_prefix" => member.within(value, &mut slot.ipv6_prefix, 0, 64),
                _ => return false,
            }
            true
        });
    }

    fn cookies(&mut self, value: &Value, slot: &mut Cookies, unknown: &mut Vec<String>) {
        self.each_member(value, unknown, |member, key, value, _| {
            match key {
                "enabled" => member.flag(value, &mut slot.enabled),
                "badcookie" => member.flag(value, &mut slot.badcookie),
                "secret_file" => member.text(value, &mut slot.secret_file),
                _ => return false,
            }
            true
        });
    }

    fn tcp(&mut self, value: &Value, slot: &mut Tcp, unknown: &mut Vec<String>) {
        self.each_member(value, unknown, |member, key, value, _| {
            match key {
                "connections" => member.within(value, &mut slot.connections, 1, 1_000_000),
                "per_client" => member.within(value, &mut slot.per_client, 1, 1_000_000),
                "first_query_seconds" => {
                    member.within(value, &mut slot.first_query_seconds, 1, DAY_SECONDS);
                }
                "idle_seconds" => member.within(value, &mut slot.idle_seconds, 1, DAY_SECONDS),
                _ => return false,
            }
            true
        });
    }

    fn encrypted(&mut self, value: &Value, slot: &mut Encrypted, unknown: &mut Vec<String>) {
        self.each_member(value, unknown, |member, key, value, _| {
            match key {
                "listeners" => member.each(
                    value,
                    &mut slot.listeners,
                    |text| text.parse().ok().filter(|one: &SocketAddr| one.port() != 0),
                    "a list of address:port such as 0.0.0.0:853",
                ),
                "certificate" => member.path(value, &mut slot.certificate),
                "key" => member.path(value, &mut slot.key),
                _ => return false,
            }
            true
        });
    }

    fn path(&mut self, value: &Value, slot: &mut PathBuf) {
        let mut text = slot.display().to_string();
        self.text(value, &mut text);
        *slot = text.into();
    }

    fn within(&mut self, value: &Value, slot: &mut u32, least: u32, most: u32) {
        let mut number = *slot;
        self.number(value, "uint32", &mut number);
        if (least..=most).contains(&number) {
            *slot = number;
        } else {
            let message = format!("is not within {least} and {most}");
            self.too_far(value, &message, "a whole number within these bounds");
        }
    }

    fn short(&mut self, value: &Value, slot: &mut String, most: usize) {
        let mut text = slot.clone();
        self.text(value, &mut text);
        if text.len() <= most {
            *slot = text;
        } else {
            let message = format!("is longer than {most} octets");
            self.too_far(value, &message, "a shorter text");
        }
    }

    /// A list of texts that each mean something.
    fn each<T>(
        &mut self,
        value: &Value,
        slot: &mut Vec<T>,
        read: impl Fn(&str) -> Option<T>,
        accepted: &'static str,
    ) {
        let mut texts = Vec::new();
        self.texts(value, &mut texts);
        slot.clear();
        for text in texts {
            match read(&text) {
                Some(one) => slot.push(one),
                None => self.too_far(&Value::String(text), "is not understood", accepted),
            }
        }
    }
}

/// Reads the files that the object names.
pub(super) fn validate(reading: &mut Reading) {
    let server = &mut reading.config.server;
    let encrypted = [("tls", server.tls.clone()), ("https", server.https.clone())];
    let cookies = &mut server.cookies;
    if cookies.enabled && !cookies.secret_file.is_empty() {
        match read_secrets(Path::new(&cookies.secret_file)) {
            Ok(secrets) => cookies.secrets = secrets,
            Err(wrong) => {
                let file = cookies.secret_file.clone();
                reading.problem(
                    "server.cookies.secret_file",
                    &file,
                    wrong,
                    "a file of secrets, 32 hexadecimal digits in each line",
                );
            }
        }
    }
    for (name, one) in encrypted {
        if !one.listeners.is_empty() {
            validate_encrypted(reading, name, &one);
        }
    }
}

/// What is served over TLS needs a certificate, and its key.
fn validate_encrypted(reading: &mut Reading, name: &str, encrypted: &Encrypted) {
    let files = [
        (
            "certificate",
            &encrypted.certificate,
            "a file in PEM with the chain, its own certificate first",
        ),
        (
            "key",
            &encrypted.key,
            "a file in PEM with the private key of the certificate",
        ),
    ];
    let texts = files.map(|(_, file, _)| file.display().to_string());
    let mut is_complete = true;
    for ((key, _, accepted), text) in files.iter().zip(&texts) {
        if text.is_empty() {
            is_complete = false;
            let key = format!("server.{name}.{key}");
            let message = format!("{key} is missing beside listeners");
            reading.problem(&key, text, message, accepted);
        }
    }
    let [certificate, key] = &texts;
    if is_complete && let Err(error) = tls::read_identity(certificate, key) {
        let (member, file, message) = match error {
            IdentityError::Certificate(message) => ("certificate", certificate, message),
            IdentityError::Key(message) => ("key", key, message),
        };
        let accepted = "a certificate and its key, each a file in PEM";
        reading.problem(&format!("server.{name}.{member}"), file, message, accepted);
    }
}

/// A secret in each line, the one that makes cookies first; lines that begin with `#` are remarks.
fn read_secrets(path: &Path) -> Result<Vec<Secret>, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| tls::open_error(&path.display().to_string(), &error))?;
    let lines = text
        .lines()
        .map(str::trim)
        .zip(1..)
        .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    let secrets: Vec<Secret> = lines
        .map(|(line, number)| {
            let octets = data_encoding::HEXLOWER_PERMISSIVE.decode(line.as_bytes());
            let octets = octets.ok().and_then(|octets| octets.try_into().ok());
            // What stands there may be most of a secret.
            octets.map(Secret).ok_or(format!(
                "line {number} of {} is no secret of {} octets",
                path.display(),
                cookie::SECRET_OCTETS
            ))
        })
        .collect::<Result<_, _>>()?;
    if secrets.is_empty() {
        return Err(format!("{} holds no secret", path.display()));
    }
    Ok(secrets)
}
