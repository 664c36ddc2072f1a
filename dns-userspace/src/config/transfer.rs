//! The objects `transfer` and `secondary`: whom zones are given to, and where they are taken from.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use data_encoding::BASE64;
use serde_json::{Map, Value};

use super::Secret;
use super::dcos::Wrong;
use crate::transfer::{Algorithm, Allowed, Prefix};
use crate::zones::Name;

/// Octets of a secret below which it is warned of.
const SHORT_SECRET_OCTETS: usize = 16;

/// Zone transfers, out and in.
#[derive(Debug, Clone, PartialEq)]
pub struct Transfer {
    /// `keys`: those of TSIG.
    pub keys: Vec<TransferKey>,
    /// `allow`: who may transfer our zones; nobody if it is empty.
    pub allow: Vec<Allowed>,
    /// `notify`: the secondaries that are told of changes.
    pub notify: Vec<Told>,
    /// `state_directory`: where serials and transferred zones are kept.
    pub state_directory: PathBuf,
    /// `max_transfers`: transfers out at one time.
    pub max_transfers: usize,
    /// `timeout`: one transfer, out or in, may take this long.
    pub timeout: Duration,
    /// `history_names`: changed names of each zone that are kept for IXFR.
    pub history_names: usize,
}

impl Default for Transfer {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            allow: Vec::new(),
            notify: Vec::new(),
            state_directory: "/var/lib/mesos-xdns".into(),
            max_transfers: 16,
            timeout: Duration::from_secs(300),
            history_names: 50_000,
        }
    }
}

impl Transfer {
    /// Whether our zones are given to anybody.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        !self.allow.is_empty() || !self.notify.is_empty()
    }
}

/// A key of TSIG (RFC 8945).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferKey {
    /// `name`: what both sides call it.
    pub name: Name,
    /// `algorithm`.
    pub algorithm: Algorithm,
    /// `secret`, in base64.
    pub secret: Secret,
}

/// A secondary that is told of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// `address`, the port 53 by default.
    pub address: SocketAddr,
    /// `key`: what notices are signed with.
    pub key: Option<Name>,
}

/// A zone that is transferred from other servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secondary {
    /// `zone`.
    pub zone: Name,
    /// `primaries`, the port 53 by default; asked in this order.
    pub primaries: Vec<SocketAddr>,
    /// `key`: what requests are signed with.
    pub key: Option<Name>,
    /// `notify_from`: who may say that the zone has changed, besides the primaries.
    pub notify_from: Vec<Prefix>,
    /// `answers_as`.
    pub answers_as: AnswersAs,
}

/// Whose behaviour a zone has where that differs from the RFCs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AnswersAs {
    /// That of the RFCs.
    #[default]
    Rfc,
    /// That of mesos-dns.
    MesosDns,
    /// That of dcos-dns.
    DcosDns,
}

/// What reading found.
#[derive(Debug)]
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) wrong: Vec<Wrong>,
    pub(super) warnings: Vec<String>,
    /// Keys that are named, with where they are: an entry that is left out moves no other.
    pub(super) named_keys: Vec<(String, Name)>,
}

const PREFIX: &str = "an address, or a prefix such as 192.0.2.0/24";
const SOCKET: &str = "an address, or address:port";
const NAME: &str = "a domain name";
const OBJECT: &str = "an object";

struct Reader {
    wrong: Vec<Wrong>,
    warnings: Vec<String>,
    named_keys: Vec<(String, Name)>,
}

impl Reader {
    const fn new() -> Self {
        Self {
            wrong: Vec::new(),
            warnings: Vec::new(),
            named_keys: Vec::new(),
        }
    }

    fn wrong(&mut self, key: &str, value: &Value, message: &str, accepted: &'static str) {
        let message = format_args!(" {message}");
        self.wrong.push(Wrong::new(key, value, message, accepted));
    }

    /// As [`Self::wrong`], for a value that must not be shown.
    fn wrong_secret(&mut self, key: &str, message: &str, accepted: &'static str) {
        let message = format_args!(" {message}");
        let value = "(not shown)";
        self.wrong.push(Wrong::new(key, value, message, accepted));
    }

    fn object<'v>(&mut self, key: &str, value: &'v Value) -> Option<&'v Map<String, Value>> {
        let object = value.as_object();
        if object.is_none() && !value.is_null() {
            // It may hold secrets.
            self.wrong_secret(key, "is no object", OBJECT);
        }
        object
    }

    fn list<'v>(&mut self, key: &str, value: &'v Value) -> &'v [Value] {
        match value {
            Value::Array(list) => list,
            Value::Null => &[],
            _ => {
                self.wrong_secret(key, "is no list", "a list");
                &[]
            }
        }
    }

    fn unknown(&mut self, path: &str, key: &str) {
        self.warnings
            .push(format!("unknown key \"{path}.{key}\" is ignored"));
    }

    /// What `read` makes of a text; a problem is noted.
    fn text<T>(
        &mut self,
        key: &str,
        value: &Value,
        accepted: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let read = value.as_str().and_then(read);
        if read.is_none() {
            self.wrong(key, value, "cannot be used", accepted);
        }
        read
    }

    fn name(&mut self, key: &str, value: &Value) -> Option<Name> {
        self.text(key, value, NAME, |text| Name::from_text(text).ok())
    }

    /// The name of a key of TSIG that must be there.
    fn named_key(&mut self, key: &str, value: &Value) -> Option<Name> {
        let name = self.name(key, value)?;
        self.named_keys.push((key.to_owned(), name.clone()));
        Some(name)
    }

    fn number(
        &mut self,
        key: &str,
        value: &Value,
        range: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        if value.is_null() {
            return None;
        }
        let number = value.as_u64().filter(|number| range.contains(number));
        if number.is_none() {
            let message = format!(
                "is no whole number from {} to {}",
                range.start(),
                range.end()
            );
            self.wrong(key, value, &message, "a whole number in that range");
        }
        number
    }

    fn key(&mut self, path: &str, value: &Value) -> Option<TransferKey> {
        let object = self.object(path, value)?;
        let (mut name, mut secret) = (None, None);
        let mut algorithm = Algorithm::Sha256;
        for (key, value) in object {
            let full = format!("{path}.{key}");
            match key.as_str() {
                "name" => name = self.name(&full, value),
                "algorithm" => {
                    let accepted = "hmac-sha256, hmac-sha384, hmac-sha512 or hmac-sha1";
                    let read = |text: &str| {
                        let same = |(name, _): &&(&str, _)| text.eq_ignore_ascii_case(name);
                        Algorithm::ALL.iter().find(same).map(|(_, one)| *one)
                    };
                    algorithm = self.text(&full, value, accepted, read).unwrap_or(algorithm);
                }
                "secret" => {
                    let octets = value.as_str().and_then(|text| {
                        let octets = BASE64.decode(text.as_bytes()).ok()?;
                        (!octets.is_empty()).then_some((text, octets.len()))
                    });
                    match octets {
                        Some((text, len)) => {
                            secret = Some(Secret::new(text.to_owned()));
                            if len < SHORT_SECRET_OCTETS {
                                self.warnings.push(format!(
                                    "{full} has {len} octets; RFC 8945 wants as many as the \
                                     algorithm gives"
                                ));
                            }
                        }
                        None => {
                            self.wrong_secret(&full, "is no base64", "the secret in base64");
                            return None;
                        }
                    }
                }
                _ => self.unknown(path, key),
            }
        }
        if name.is_none() && !object.contains_key("name") {
            self.wrong_secret(path, "has no name", "an object with name and secret");
        }
        if secret.is_none() {
            self.wrong_secret(path, "has no secret", "an object with name and secret");
        }
        Some(TransferKey {
            name: name?,
            algorithm,
            secret: secret?,
        })
    }

    fn allowed(&mut self, path: &str, value: &Value) -> Option<Allowed> {
        let prefix = |text: &str| text.parse().ok();
        if value.is_string() {
            let prefix = self.text(path, value, PREFIX, prefix)?;
            return Some(Allowed {
                prefix: Some(prefix),
                key: None,
            });
        }
        let object = self.object(path, value)?;
        let mut allowed = Allowed {
            prefix: None,
            key: None,
        };
        for (key, value) in object {
            let full = format!("{path}.{key}");
            match key.as_str() {
                "address" => allowed.prefix = Some(self.text(&full, value, PREFIX, prefix)?),
                "key" => allowed.key = Some(self.named_key(&full, value)?),
                _ => self.unknown(path, key),
            }
        }
        if allowed.prefix.is_none() && allowed.key.is_none() {
            let accepted = "an object with address, key, or both";
            self.wrong(path, value, "would allow everybody", accepted);
            return None;
        }
        Some(allowed)
    }

    fn told(&mut self, path: &str, value: &Value) -> Option<Told> {
        if value.is_string() {
            let address = self.text(path, value, SOCKET, socket)?;
            return Some(Told { address, key: None });
        }
        let object = self.object(path, value)?;
        let (mut address, mut signed) = (None, None);
        for (key, value) in object {
            let full = format!("{path}.{key}");
            match key.as_str() {
                "address" => address = Some(self.text(&full, value, SOCKET, socket)?),
                "key" => signed = Some(self.named_key(&full, value)?),
                _ => self.unknown(path, key),
            }
        }
        if address.is_none() {
            self.wrong(path, value, "has no address", "an object with address");
        }
        Some(Told {
            address: address?,
            key: signed,
        })
    }

    fn secondary(&mut self, path: &str, value: &Value) -> Option<Secondary> {
        let object = self.object(path, value)?;
        let mut zone = None;
        let mut found = Secondary {
            zone: Name::root(),
            primaries: Vec::new(),
            key: None,
            notify_from: Vec::new(),
            answers_as: AnswersAs::Rfc,
        };
        for (key, value) in object {
            let full = format!("{path}.{key}");
            match key.as_str() {
                "zone" => zone = self.name(&full, value),
                "primaries" => {
                    for (at, one) in self.list(&full, value).iter().enumerate() {
                        let read = self.text(&format!("{full}[{at}]"), one, SOCKET, socket);
                        found.primaries.extend(read);
                    }
                }
                "key" if value.is_null() => {}
                "key" => found.key = self.named_key(&full, value),
                "notify_from" => {
                    for (at, one) in self.list(&full, value).iter().enumerate() {
                        let read = |text: &str| text.parse::<Prefix>().ok();
                        let read = self.text(&format!("{full}[{at}]"), one, PREFIX, read);
                        found.notify_from.extend(read);
                    }
                }
                "answers_as" => {
                    let read = |text: &str| match text {
                        "rfc" => Some(AnswersAs::Rfc),
                        "mesos-dns" => Some(AnswersAs::MesosDns),
                        "dcos-dns" => Some(AnswersAs::DcosDns),
                        _ => None,
                    };
                    let read = self.text(&full, value, "rfc, mesos-dns or dcos-dns", read);
                    found.answers_as = read.unwrap_or_default();
                }
                _ => self.unknown(path, key),
            }
        }
        if zone.is_none() && !object.contains_key("zone") {
            self.wrong(
                path,
                value,
                "has no zone",
                "an object with zone and primaries",
            );
        }
        if found.primaries.is_empty() && object.get("primaries").is_none_or(is_empty) {
            self.wrong(
                path,
                value,
                "has no primaries",
                "an object with zone and primaries",
            );
        }
        found.zone = zone?;
        Some(found)
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_none_or(Vec::is_empty)
}

/// An address with or without port; 53 if it has none, and never 0.
fn socket(text: &str) -> Option<SocketAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse().map(|ip| SocketAddr::new(ip, 53));
    let address = address.or_else(|_| text.parse()).ok()?;
    (address.port() != 0).then_some(address)
}

/// Reads `transfer`.
pub(super) fn read(value: &Value) -> Found<Transfer> {
    let mut reader = Reader::new();
    let mut found = Transfer::default();
    let members = reader.object("transfer", value);
    for (key, value) in members.into_iter().flatten() {
        let full = format!("transfer.{key}");
        let path = |at: usize| format!("{full}[{at}]");
        match key.as_str() {
            "keys" => {
                for (at, one) in reader.list(&full, value).iter().enumerate() {
                    let Some(key) = reader.key(&path(at), one) else {
                        continue;
                    };
                    if found.keys.iter().any(|other| other.name == key.name) {
                        let name = Value::from(key.name.to_string());
                        let full = format!("{}.name", path(at));
                        reader.wrong(&full, &name, "is there twice", "each key once");
                    }
                    found.keys.push(key);
                }
            }
            "allow" => {
                for (at, one) in reader.list(&full, value).iter().enumerate() {
                    found.allow.extend(reader.allowed(&path(at), one));
                }
            }
            "notify" => {
                for (at, one) in reader.list(&full, value).iter().enumerate() {
                    found.notify.extend(reader.told(&path(at), one));
                }
            }
            "state_directory" if !value.is_null() => {
                let read = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
                let read = reader.text(&full, value, "the path of a directory", read);
                found.state_directory = read.unwrap_or(found.state_directory);
            }
            "max_transfers" => {
                let read = reader.number(&full, value, 1..=1000);
                found.max_transfers = read.map_or(found.max_transfers, |n| n as usize);
            }
            "timeout" => {
                let read = reader.number(&full, value, 1..=86_400);
                found.timeout = read.map_or(found.timeout, Duration::from_secs);
            }
            "history_names" => {
                let read = reader.number(&full, value, 0..=10_000_000);
                found.history_names = read.map_or(found.history_names, |n| n as usize);
            }
            "state_directory" => {}
            _ => reader.unknown("transfer", key),
        }
    }
    reader.found(found)
}

/// Reads `secondary`.
pub(super) fn read_secondaries(value: &Value) -> Found<Vec<Secondary>> {
    let mut reader = Reader::new();
    let mut found: Vec<Secondary> = Vec::new();
    for (at, one) in reader.list("secondary", value).iter().enumerate() {
        let path = format!("secondary[{at}]");
        let Some(secondary) = reader.secondary(&path, one) else {
            continue;
        };
        if found.iter().any(|other| other.zone == secondary.zone) {
            let name = Value::from(secondary.zone.to_string());
            reader.wrong(
                &format!("{path}.zone"),
                &name,
                "is there twice",
                "each zone once",
            );
        }
        found.push(secondary);
    }
    reader.found(found)
}

impl Reader {
    fn found<T>(self, value: T) -> Found<T> {
        Found {
            value,
            wrong: self.wrong,
            warnings: self.warnings,
            named_keys: self.named_keys,
        }
    }
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
