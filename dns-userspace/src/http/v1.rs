//! The HTTP API of mesos-dns: the same paths, the same JSON, the same codes.

use axum::http::{HeaderMap, header};
use rand::seq::{IndexedRandom, SliceRandom};
use serde::Serialize;

use super::config_body::config_body;
use crate::config::Config;
use crate::daemon::Published;
use crate::records::{MesosRecords, go_json};

/// A resource under `/v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    Version,
    Config,
    /// The addresses of a host, by its name as it was asked for.
    Host(String),
    /// `/v1/hosts/{host}/ports`, which mesos-dns never had.
    Ports,
    /// The hosts of a service, by its name as it was asked for.
    Service(String),
    Enumerate,
    Axfr,
}

/// What a decoded and cleaned path names, with or without a slash at the end.
pub(super) fn endpoint(path: &str, config: &Config) -> Option<Endpoint> {
    let mut segments = path.strip_prefix("/v1/")?.trim_end_matches('/').split('/');
    let endpoint = match (segments.next()?, segments.next(), segments.next()) {
        ("version", None, None) => Endpoint::Version,
        ("config", None, None) => Endpoint::Config,
        ("hosts", Some(host), None) => Endpoint::Host(host.to_owned()),
        ("hosts", Some(_), Some("ports")) => Endpoint::Ports,
        ("services", Some(service), None) => Endpoint::Service(service.to_owned()),
        ("enumerate", None, None) if config.enumeration_on => Endpoint::Enumerate,
        ("axfr", None, None) if config.enumeration_on => Endpoint::Axfr,
        _ => return None,
    };
    segments.next().is_none().then_some(endpoint)
}

/// Whether the client takes JSON by the rule of go-restful: without `Accept`, or when that holds
/// `*/*` or the type itself. Other wildcards do not count.
pub(super) fn accepts(headers: &HeaderMap) -> bool {
    let Some(accept) = headers.get(header::ACCEPT) else {
        return true;
    };
    let accept = accept.to_str().unwrap_or_default();
    accept.is_empty()
        || accept.split(',').any(|range| {
            let media = range.split(';').next().unwrap_or_default().trim();
            media == "*/*" || media == "application/json"
        })
}

impl Endpoint {
    /// Whether the body is as large as the zone, and may take name lookups.
    pub(super) const fn is_listing(&self) -> bool {
        matches!(self, Self::Enumerate | Self::Axfr)
    }

    /// The body; empty where nothing is known yet.
    pub(super) fn body(
        &self,
        config: &Config,
        published: Option<&Published>,
    ) -> serde_json::Result<Vec<u8>> {
        match (self, published) {
            (Self::Version, _) => go_json::to_vec(&Version::default()),
            (Self::Config, _) => config_body(config, published.map_or(0, |one| one.serial)),
            (Self::Host(host), Some(published)) => hosts(published.records(), host),
            (Self::Host(_), None) => go_json::to_vec(&[HostRow::default()]),
            (Self::Service(service), Some(published)) => services(published.records(), service),
            (Self::Service(_), None) => go_json::to_vec(&[ServiceRow::default()]),
            (Self::Enumerate, Some(published)) => published.enumerate_body(),
            (Self::Axfr, Some(published)) => published.axfr_body(config.refresh_seconds),
            (Self::Enumerate | Self::Axfr | Self::Ports, _) => Ok(Vec::new()),
        }
    }
}

/// The identity that clients of mesos-dns look for. The version is that of the API; this
/// program's own is in `/status` and `/metrics`.
#[derive(Serialize)]
struct Version {
    #[serde(rename = "Service")]
    service: &'static str,
    #[serde(rename = "URL")]
    url: &'static str,
    #[serde(rename = "Version")]
    version: &'static str,
}

impl Default for Version {
    fn default() -> Self {
        Self {
            service: "Mesos-DNS",
            url: "https://github.com/mesosphere/mesos-dns",
            version: "dev",
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct HostRow<'a> {
    host: &'a str,
    ip: String,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct ServiceRow<'a> {
    service: &'a str,
    host: &'a str,
    ip: String,
    port: String,
}

/// The key of what was asked for: without `.*`, in lower case, with a final dot.
fn key(asked: &str) -> String {
    let mut key = asked.replace(".*", "").to_lowercase();
    if !key.ends_with('.') {
        key.push('.');
    }
    key
}

fn hosts(records: &MesosRecords, asked: &str) -> serde_json::Result<Vec<u8>> {
    let key = key(asked);
    let mut rows = Vec::new();
    if let Some(id) = records.find(&key) {
        for addresses in [records.a_of(id), records.aaaa_of(id)] {
            rows.extend(shuffled(addresses).into_iter().map(|address| HostRow {
                host: &key,
                ip: address.to_string(),
            }));
        }
    }
    some_or_blank(rows)
}

fn services(records: &MesosRecords, asked: &str) -> serde_json::Result<Vec<u8>> {
    let mut rows = Vec::new();
    let services = records
        .find(&key(asked))
        .map_or(&[][..], |id| records.srv_of(id));
    for service in shuffled(services) {
        let host = records.name(service.target);
        // mesos-dns cannot tell such a target from its port.
        if host.contains(':') {
            continue;
        }
        let v4 = records.a_of(service.target).choose(&mut rand::rng());
        let v6 = records.aaaa_of(service.target).choose(&mut rand::rng());
        rows.extend([v4, v6].into_iter().flatten().map(|address| ServiceRow {
            service: asked,
            host,
            ip: address.to_string(),
            port: service.port.to_string(),
        }));
    }
    some_or_blank(rows)
}

/// In any order, as in mesos-dns: clients that take the first spread over all.
fn shuffled<T>(values: &[T]) -> Vec<&T> {
    let mut values: Vec<&T> = values.iter().collect();
    values.shuffle(&mut rand::rng());
    values
}

/// Nothing found is one row of empty texts.
fn some_or_blank<T: Default + Serialize>(mut rows: Vec<T>) -> serde_json::Result<Vec<u8>> {
    if rows.is_empty() {
        rows.push(T::default());
    }
    go_json::to_vec(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_is_read_as_go_restful_does() {
        let accepts = |value: &'static str| {
            let value = header::HeaderValue::from_static(value);
            accepts(&HeaderMap::from_iter([(header::ACCEPT, value)]))
        };
        assert!(super::accepts(&HeaderMap::new()));
        for good in ["", "*/*", "application/json", "text/html, */*;q=0.8"] {
            assert!(accepts(good), "{good}");
        }
        for bad in ["text/html", "application/*", "application/xml;q=0.9"] {
            assert!(!accepts(bad), "{bad}");
        }
    }

    #[test]
    fn a_name_of_wildcards_only_is_nobody() {
        // The original fails on the empty name with a stack trace.
        let records =
            crate::records::set::Builder::default().finish(crate::mesos::Defects::default());
        let body = hosts(&records, ".*").unwrap();
        assert_eq!(
            body,
            b"[\n  {\n   \"host\": \"\",\n   \"ip\": \"\"\n  }\n ]"
        );
    }
}
