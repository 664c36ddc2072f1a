//! Reading the object.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use super::*;

const IP: &str = "an IP address";
const IPS: &str = "a list of IP addresses";
const SOCKET: &str = "an IP address, with :port or without";
const SOCKETS: &str = "a list of IP addresses, each with :port or without";
const TEXT: &str = "a text";
const BOOLEAN: &str = "true or false";
const SECONDS: &str = "a number of seconds from 0 to 86400";
const OBJECT: &str = "an object";
const RECORDS: &str =
    "a list of {\"type\": CNAME, DNAME, A, AAAA or TXT, \"name\", \"value\", \"ttl\"}";

/// Reads the object.
pub(in crate::config) fn read(value: &Value) -> Reading {
    let mut reading = Reading {
        dcos: Dcos::default(),
        wrong: Vec::new(),
        unknown: Vec::new(),
    };
    let mut reader = Reader {
        wrong: &mut reading.wrong,
    };
    let Value::Object(members) = value else {
        if !value.is_null() {
            reader.wrong("dcos", value, "is no object", OBJECT);
        }
        return reading;
    };
    let dcos = &mut reading.dcos;
    for (key, value) in members {
        if !read_member(&mut reader, dcos, key, value) {
            reading.unknown.push(key.clone());
        }
    }
    cluster_id(&mut reader, dcos, members);
    let (least, most) = (dcos.times.reconnect_min, dcos.times.reconnect_max);
    if least > most || least.is_zero() {
        let value = members.get("reconnect_min_seconds").unwrap_or(&Value::Null);
        let accepted = "more than 0 and at most reconnect_max_seconds";
        reader.wrong(
            "dcos.reconnect_min_seconds",
            value,
            "does not fit",
            accepted,
        );
    }
    reading
}

/// Reads one member; `false` if its key is not known.
fn read_member(reader: &mut Reader<'_>, dcos: &mut Dcos, key: &str, value: &Value) -> bool {
    let full = format!("dcos.{key}");
    let full = full.as_str();
    let times = &mut dcos.times;
    match key {
        "enabled" => reader.set(full, value, BOOLEAN, Value::as_bool, &mut dcos.enabled),
        "node_ip" => reader.set(full, value, IP, |v| ip(v).map(Some), &mut dcos.node_ip),
        "masters" => reader.set(full, value, IPS, |v| list(v, ip), &mut dcos.masters),
        "public_ips" => reader.set(full, value, IPS, |v| list(v, ip), &mut dcos.public_ips),
        "detect_ip_public" => {
            let slot = &mut dcos.detect_ip_public;
            reader.set(full, value, TEXT, |v| path(v).map(Some), slot);
        }
        "ipv6" => reader.set(full, value, BOOLEAN, Value::as_bool, &mut dcos.ipv6),
        "vip_ipv4_range" => {
            let accepted = "[first, last], two IPv4 addresses, the first below the last";
            reader.set(full, value, accepted, range, &mut dcos.vip_ipv4_range);
        }
        "vip_ipv6_range" => {
            let accepted = "[first, last], two IPv6 addresses, the first below the last";
            reader.set(full, value, accepted, range, &mut dcos.vip_ipv6_range);
        }
        "vip_file" => reader.set(full, value, TEXT, path, &mut dcos.vip_file),
        "static_zones" => dcos.static_zones = static_zones(reader, full, value),
        "forward_zones" => dcos.forward_zones = forward_zones(reader, full, value),
        "upstreams" => reader.set(full, value, SOCKETS, sockets, &mut dcos.upstreams),
        "listeners" => reader.set(full, value, SOCKETS, sockets, &mut dcos.listeners),
        "rest_listener" => {
            let read = |v: &Value| socket(v.as_str()?, 62080);
            reader.set(full, value, SOCKET, read, &mut dcos.rest_listener);
        }
        "mesos_source" => {
            let read = |v: &Value| match v.as_str()? {
                "events" => Some(MesosSource::Events),
                "poll" => Some(MesosSource::Poll),
                "auto" => Some(MesosSource::Auto),
                _ => None,
            };
            reader.set(
                full,
                value,
                "events, poll or auto",
                read,
                &mut dcos.mesos_source,
            );
        }
        "on_redirect" => {
            let read = |v: &Value| match v.as_str()? {
                "follow" => Some(true),
                "wait" => Some(false),
                _ => None,
            };
            reader.set(
                full,
                value,
                "follow or wait",
                read,
                &mut dcos.follows_redirects,
            );
        }
        "max_record_bytes" => {
            let read = |v: &Value| usize::try_from(v.as_u64()?).ok().filter(|&n| n >= 65536);
            let accepted = "a whole number from 65536";
            reader.set(full, value, accepted, read, &mut dcos.max_record_octets);
        }
        // Read together, below.
        "cluster_id" | "cluster_key_file" | "cluster_key_node" => {}
        "recovered_agents_timeout_seconds" => {
            reader.seconds(full, value, &mut times.recovered_agents);
        }
        "settle_seconds" => reader.seconds(full, value, &mut times.settle),
        "reconnect_min_seconds" => reader.seconds(full, value, &mut times.reconnect_min),
        "reconnect_max_seconds" => reader.seconds(full, value, &mut times.reconnect_max),
        "leader_poll_seconds" => reader.seconds(full, value, &mut times.leader_poll),
        "connect_timeout_seconds" => reader.seconds(full, value, &mut times.connect),
        "response_timeout_seconds" => reader.seconds(full, value, &mut times.response),
        "public_ip_refresh_seconds" => reader.seconds(full, value, &mut times.public_ip_refresh),
        "upstream_timeout_seconds" => reader.seconds(full, value, &mut times.upstream),
        "forward_timeout_seconds" => reader.seconds(full, value, &mut times.forward),
        "tcp_idle_timeout_seconds" => reader.seconds(full, value, &mut times.tcp_idle),
        _ => return false,
    }
    true
}

struct Reader<'a> {
    wrong: &'a mut Vec<Wrong>,
}

impl Reader<'_> {
    fn wrong(&mut self, key: &str, value: &Value, message: &str, accepted: &'static str) {
        let message = format_args!(" {message}");
        self.wrong.push(Wrong::new(key, value, message, accepted));
    }

    /// As [`Self::wrong`], for what is said of something within the value.
    fn wrong_within(
        &mut self,
        key: &str,
        value: &Value,
        error: impl Display,
        accepted: &'static str,
    ) {
        let message = format_args!(": {error}");
        self.wrong.push(Wrong::new(key, value, message, accepted));
    }

    /// Takes a value over if it can be read; `null` leaves the default.
    fn set<T>(
        &mut self,
        key: &str,
        value: &Value,
        accepted: &'static str,
        read: impl FnOnce(&Value) -> Option<T>,
        slot: &mut T,
    ) {
        if value.is_null() {
            return;
        }
        match read(value) {
            Some(read) => *slot = read,
            None => self.wrong(key, value, "cannot be used", accepted),
        }
    }

    fn seconds(&mut self, key: &str, value: &Value, slot: &mut Duration) {
        let read = |value: &Value| {
            let seconds = value.as_f64().filter(|s| (0.0..=86400.0).contains(s))?;
            Some(Duration::from_secs_f64(seconds))
        };
        self.set(key, value, SECONDS, read, slot);
    }
}

fn cluster_id(reader: &mut Reader<'_>, dcos: &mut Dcos, members: &Map<String, Value>) {
    let given: Vec<(&str, &Value)> = ["cluster_id", "cluster_key_file", "cluster_key_node"]
        .into_iter()
        .filter_map(|key| Some((key, members.get(key).filter(|value| !value.is_null())?)))
        .collect();
    let [(key, value)] = given.as_slice() else {
        if let Some((key, value)) = given.get(1) {
            let accepted = "one of cluster_id, cluster_key_file and cluster_key_node";
            let message = "is not the only source of the cluster's id";
            reader.wrong(&format!("dcos.{key}"), value, message, accepted);
        }
        return;
    };
    let full = format!("dcos.{key}");
    let Some(text) = value.as_str() else {
        reader.wrong(&full, value, "cannot be used", TEXT);
        return;
    };
    let id = match *key {
        "cluster_id" => ClusterId::from_text(text).map_err(|error| error.to_string()),
        "cluster_key_file" => match std::fs::read(text) {
            Ok(content) => ClusterId::from_key_file(&content).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        },
        _ => {
            if text.starts_with('/') && text.len() > 1 {
                dcos.cluster_id = ClusterIdSource::ZooKeeper(text.to_owned());
            } else {
                reader.wrong(
                    &full,
                    value,
                    "is no node",
                    "the path of a node: /navstar_key",
                );
            }
            return;
        }
    };
    match id {
        Ok(id) => dcos.cluster_id = ClusterIdSource::Given(id),
        Err(message) => {
            let accepted = "a public key of 32 octets, or its 52 characters of z-base-32";
            reader.wrong_within(&full, value, message, accepted);
        }
    }
}

fn static_zones(
    reader: &mut Reader<'_>,
    key: &str,
    value: &Value,
) -> BTreeMap<String, Vec<StaticRecord>> {
    let mut zones = BTreeMap::new();
    let Some(members) = object(reader, key, value) else {
        return zones;
    };
    for (apex, records) in members {
        let full = format!("{key}.{apex}");
        let Some(records) = records.as_array() else {
            reader.wrong(&full, records, "is no list", RECORDS);
            continue;
        };
        let mut read = Vec::new();
        for record in records {
            match static_record(record) {
                Ok(record) => read.push(record),
                Err(message) => reader.wrong_within(&full, record, message, RECORDS),
            }
        }
        if let Err(error) = static_zone(apex, &read) {
            let accepted =
                "a zone below thisdcos.directory or outside it, owners each once beside a CNAME";
            reader.wrong_within(&full, value.get(apex).unwrap_or(value), error, accepted);
            continue;
        }
        zones.insert(apex.clone(), read);
    }
    zones
}

fn static_record(record: &Value) -> Result<StaticRecord, String> {
    let text = |key: &str| {
        let value = record.get(key).and_then(Value::as_str);
        value.ok_or_else(|| format!("has no text {key:?}"))
    };
    let kind = text("type")?.to_ascii_uppercase();
    let value = text("value")?;
    let name = |text: &str| Name::from_text(text).map_err(|error| format!("value: {error}"));
    let data = match kind.as_str() {
        "CNAME" => Rdata::Cname(name(value)?),
        "DNAME" => Rdata::Dname(name(value)?),
        "A" => Rdata::A(value.parse().map_err(|_| "value is no IPv4 address")?),
        "AAAA" => Rdata::Aaaa(value.parse().map_err(|_| "value is no IPv6 address")?),
        // Longer texts are cut into strings of 255 octets (RFC 1035, section 3.3).
        "TXT" => Rdata::Txt(match value.as_bytes() {
            [] => vec![Vec::new()],
            octets => octets.chunks(255).map(<[u8]>::to_vec).collect(),
        }),
        _ => {
            return Err(format!(
                "has the type {kind}, which is not for static zones"
            ));
        }
    };
    let ttl = match record.get("ttl") {
        None | Some(Value::Null) => TTL,
        // RFC 2181, section 8.
        Some(ttl) => ttl
            .as_u64()
            .and_then(|ttl| u32::try_from(ttl).ok())
            .filter(|&ttl| ttl <= i32::MAX.unsigned_abs())
            .ok_or("ttl is no whole number from 0 to 2147483647")?,
    };
    Ok(StaticRecord {
        name: text("name")?.to_owned(),
        ttl,
        data,
    })
}

fn forward_zones(
    reader: &mut Reader<'_>,
    key: &str,
    value: &Value,
) -> BTreeMap<Name, Vec<SocketAddr>> {
    let mut zones = BTreeMap::new();
    for (zone, upstreams) in object(reader, key, value).into_iter().flatten() {
        let full = format!("{key}.{zone}");
        match (Name::from_text(zone), sockets(upstreams)) {
            (Ok(name), Some(upstreams)) => {
                if zones.insert(name, upstreams).is_some() {
                    let accepted = "each zone once, whatever the letter case";
                    reader.wrong(&full, value, "is there twice", accepted);
                }
            }
            (Err(error), _) => reader.wrong_within(&full, value, error, "a domain name"),
            (_, None) => reader.wrong(&full, upstreams, "cannot be used", SOCKETS),
        }
    }
    zones
}

fn object<'v>(
    reader: &mut Reader<'_>,
    key: &str,
    value: &'v Value,
) -> Option<&'v Map<String, Value>> {
    if !value.is_null() && !value.is_object() {
        reader.wrong(key, value, "is no object", OBJECT);
    }
    value.as_object()
}

fn list<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    value.as_array()?.iter().map(read).collect()
}

fn ip(value: &Value) -> Option<IpAddr> {
    value.as_str()?.parse().ok()
}

fn path(value: &Value) -> Option<PathBuf> {
    value
        .as_str()
        .filter(|text| !text.is_empty())
        .map(PathBuf::from)
}

fn sockets(value: &Value) -> Option<Vec<SocketAddr>> {
    list(value, |one| socket(one.as_str()?, DNS_PORT))
}

/// An address with a port, or without one.
fn socket(text: &str, port: u16) -> Option<SocketAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let bare = bare.parse().ok().map(|ip| SocketAddr::new(ip, port));
    bare.or_else(|| text.parse().ok())
}

fn range<T: std::str::FromStr + Ord + Debug>(value: &Value) -> Option<Range<T>> {
    let [first, last] = value.as_array()?.as_slice() else {
        return None;
    };
    let (first, last) = (first.as_str()?.parse().ok()?, last.as_str()?.parse().ok()?);
    (first < last).then_some(Range { first, last })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
