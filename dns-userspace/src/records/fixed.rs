//! The records that are always there: the name server, the leading master and the masters.

use std::net::IpAddr;

use super::addresses::Address;
use super::mesos::{Resolve, host_addresses};
use super::sink::{Rule, Sink};
use super::{NameServer, Settings};
use crate::mesos::state::{parse_ip, split_host_port};
use crate::mesos::{Defect, Defects};

/// The addresses of the name server, under the name that the SOA gives.
pub fn name_server_records<S: Sink>(name_server: &NameServer, sink: &mut S) {
    let owner = sink.name(&name_server.name);
    for address in &name_server.addresses {
        sink.address(owner, address, Rule::NameServer);
    }
}

/// A master's addresses, as they are shown: one as written, or those of a host name.
fn master_addresses(host: &str, resolve: Resolve<'_>) -> Vec<Address> {
    match Address::as_written(host) {
        Some(address) => vec![address],
        None => host_addresses(host, resolve)
            .into_iter()
            .map(Address::from)
            .collect(),
    }
}

/// `leader`, `master` and the numbered masters.
///
/// `leader` is `master@host:port`; `candidates` are `host:port` in the order in which they are
/// numbered, empty ones skipped. An address counts as there by its text, as in the original. A
/// leader that is no candidate gets the number after the last.
pub fn master_records<S: Sink>(
    leader: &str,
    candidates: &[String],
    settings: &Settings,
    resolve: Resolve<'_>,
    sink: &mut S,
    defects: &mut Defects,
) {
    let bad_leader = |defects: &mut Defects| {
        defects.note(Defect::LeaderAddress, || format!("leader {leader:?}"));
    };
    let mut parts = leader.split('@');
    let (Some(_), Some(leader_text), None) = (parts.next(), parts.next(), parts.next()) else {
        return bad_leader(defects);
    };
    let Ok((host, leader_port)) = split_host_port(leader_text) else {
        return bad_leader(defects);
    };
    let leader_addresses = master_addresses(host, resolve);
    if leader_addresses.is_empty() {
        defects.note(Defect::UnresolvedHost, || format!("leader {leader:?}"));
    }

    let domain = &*settings.domain;
    let leader_name = sink.name(&["leader.", domain, "."].concat());
    let masters_name = sink.name(&["master.", domain, "."].concat());
    for address in &leader_addresses {
        sink.address(leader_name, address, Rule::Leader);
        sink.address(masters_name, address, Rule::Leader);
    }
    if let Ok(port) = leader_port.parse::<u16>() {
        for service in ["_leader._tcp.", "_leader._udp."] {
            let owner = sink.name(&[service, domain, "."].concat());
            sink.service(owner, leader_name, i64::from(port), Rule::Leader);
        }
    } else {
        bad_leader(defects);
    }

    let mut numbered = 0_u32;
    let mut number = |sink: &mut S, addresses: &[Address]| {
        let owner = sink.name(&format!("master{numbered}.{domain}."));
        for address in addresses {
            sink.address(owner, address, Rule::Master);
        }
        numbered += 1;
    };
    let mut leader_numbered = false;
    for candidate in candidates {
        let Ok((host, port)) = split_host_port(candidate) else {
            continue;
        };
        let addresses = master_addresses(host, resolve);
        if addresses.is_empty() {
            defects.note(Defect::UnresolvedHost, || format!("master {candidate:?}"));
            continue;
        }
        // A candidate given by name is the leader if that is where its name leads.
        let is_leader = candidate == leader_text
            || (parse_ip(host).is_none()
                && port == leader_port
                && leader_addresses
                    .iter()
                    .any(|leader| addresses.iter().any(|one| one.ip() == leader.ip())));
        if is_leader {
            if !leader_numbered {
                number(sink, &addresses);
                leader_numbered = true;
            }
            continue;
        }
        let mut added = false;
        for address in &addresses {
            if !sink.has_address(masters_name, address) {
                sink.address(masters_name, address, Rule::Master);
                added = true;
            }
        }
        if added {
            number(sink, &addresses);
        }
    }
    if !leader_numbered && !leader_addresses.is_empty() {
        number(sink, &leader_addresses);
    }
}

/// The addresses of the record of a name server that listens on `listener`: that address as
/// written, or for `0.0.0.0` those of `interfaces` without loopback and link-local ones.
#[must_use]
pub fn listener_addresses(listener: &str, interfaces: &[IpAddr]) -> Vec<Address> {
    if listener != "0.0.0.0" {
        return Address::as_written(listener).into_iter().collect();
    }
    interfaces
        .iter()
        .map(IpAddr::to_canonical)
        .filter(|ip| match ip {
            IpAddr::V4(ip) => !ip.is_loopback(),
            IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
        })
        .map(Address::from)
        .collect()
}
