//! Where the daemon listens and whom it asks, as addresses; and what of that cannot be together.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::mesos_dns::Reading;
use super::{Config, Dcos, Surroundings};
use crate::forwarder::RouteError;
use crate::forwarder::route::own_address;

const DNS_PORT: u16 = 53;

/// The sockets of the DNS server. The IPv4 wildcard stands for all addresses of both families.
pub(crate) fn dns_sockets(listener: IpAddr, port: u16) -> Vec<SocketAddr> {
    let mut sockets = vec![SocketAddr::new(listener, port)];
    if listener == Ipv4Addr::UNSPECIFIED {
        sockets.push(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port));
    }
    sockets
}

/// The addresses that are ours behind `listener`, out of those of all interfaces.
pub(crate) fn own_addresses(listener: IpAddr, interfaces: &[IpAddr]) -> Vec<IpAddr> {
    if !listener.is_unspecified() {
        return vec![listener];
    }
    let is_v6_only = listener.is_ipv6();
    interfaces
        .iter()
        .copied()
        .filter(|one| !is_v6_only || one.is_ipv6())
        .collect()
}

/// The part of a DC/OS node, if this is one.
pub(crate) fn dcos(config: &Config) -> Option<&Dcos> {
    config.dcos.as_ref().filter(|dcos| dcos.enabled)
}

/// Where a DC/OS node answers besides: its own listeners, unless a socket reaches them already.
pub(crate) fn dcos_sockets(config: &Config, others: &[SocketAddr]) -> Vec<SocketAddr> {
    let Some(dcos) = dcos(config) else {
        return Vec::new();
    };
    let reached = |one: &SocketAddr| {
        others.iter().any(|other| {
            let is_wildcard = other.ip().is_unspecified() && other.is_ipv4() == one.is_ipv4();
            other.port() == one.port() && (is_wildcard || other.ip() == one.ip())
        })
    };
    let sockets = dcos.listeners.iter().filter(|one| !reached(one));
    sockets.copied().collect()
}

/// Where we answer, which is where nothing must be forwarded to.
pub(crate) fn own_sockets(
    config: &Config,
    listener: IpAddr,
    interfaces: &[IpAddr],
) -> Vec<SocketAddr> {
    let own = own_addresses(listener, interfaces).into_iter();
    let mut own: Vec<SocketAddr> = own.map(|ip| SocketAddr::new(ip, config.port)).collect();
    own.extend(dcos_sockets(config, &dns_sockets(listener, config.port)));
    own
}

/// An upstream, at port 53 unless it says otherwise.
pub(crate) fn upstream(text: &str) -> Option<SocketAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let bare = bare.parse().map(|ip| SocketAddr::new(ip, DNS_PORT));
    bare.or_else(|_| text.parse()).ok()
}

/// Finds upstreams that are ourselves, and addresses that two of our servers would have.
pub(super) fn validate(reading: &mut Reading, surroundings: &Surroundings) {
    let Ok(listener) = reading.config.listener.parse() else {
        return;
    };
    let own = own_sockets(&reading.config, listener, &surroundings.addresses);
    for (key, upstream) in upstreams(&reading.config) {
        if let Some(listening) = own_address(upstream, &own) {
            let message = RouteError::OwnAddress {
                upstream,
                listening,
            };
            let accepted = "an address at which we do not answer";
            reading.problem(key, &upstream, message.to_string(), accepted);
        }
    }
    let mut taken: Vec<Place> = Vec::new();
    for place in listened_at(&reading.config, listener) {
        match taken.iter().find(|other| other.excludes(&place)) {
            None => taken.push(place),
            Some(other) => {
                let Place { key, address, .. } = place;
                let message = format!("{key}: {address} is taken by {}", other.key);
                let accepted = "an address and port that nothing else of this file has";
                reading.problem(key, &address, message, accepted);
            }
        }
    }
}

/// Whom we ask, with the key that says so. A text that is no address is a problem already.
fn upstreams(config: &Config) -> Vec<(&'static str, SocketAddr)> {
    if !config.external_on {
        return Vec::new();
    }
    let zones = config.zone_resolvers.values().flatten();
    let zones = zones.filter_map(|text| Some(("ZoneResolvers", upstream(text)?)));
    match dcos(config) {
        Some(dcos) => {
            let all = dcos.upstreams.iter().map(|one| ("dcos.upstreams", *one));
            let forward = dcos.forward_zones.values().flatten();
            let forward = forward.map(|one| ("dcos.forward_zones", *one));
            all.chain(zones).chain(forward).collect()
        }
        None => {
            let all = config.resolvers.iter();
            let all = all.filter_map(|text| Some(("Resolvers", upstream(text)?)));
            all.chain(zones).collect()
        }
    }
}

/// A place where connections are taken in.
struct Place {
    key: &'static str,
    address: SocketAddr,
    /// Whether `[::]` takes IPv4 connections, too.
    is_dual: bool,
}

impl Place {
    /// Whether the system gives only one of both.
    fn excludes(&self, other: &Self) -> bool {
        let covers = |one: &Self, other: &Self| {
            let is_same_family = one.address.is_ipv4() == other.address.is_ipv4();
            one.is_dual || one.address.ip().is_unspecified() && is_same_family
        };
        let (own, others) = (self.address, other.address);
        own.port() == others.port()
            && own.port() != 0
            && (own.ip() == others.ip() || covers(self, other) || covers(other, self))
    }
}

/// Where connections are taken in. A host name in `HTTPListener` is left out: what it stands for may
/// change.
fn listened_at(config: &Config, listener: IpAddr) -> Vec<Place> {
    let mut places = Vec::new();
    let mut add = |key, addresses: &[SocketAddr], is_dual: bool| {
        places.extend(addresses.iter().map(|&address| Place {
            key,
            address,
            is_dual: is_dual && address.ip() == Ipv6Addr::UNSPECIFIED,
        }));
    };
    let dns = dns_sockets(listener, config.port);
    if config.dns_on {
        add("Port", &dns, false);
        add("dcos.listeners", &dcos_sockets(config, &dns), false);
    }
    if config.http_on {
        let host = match config.http_listener.as_str() {
            "" => Some(Ipv6Addr::UNSPECIFIED.into()),
            host => host.parse::<IpAddr>().ok(),
        };
        let address = host.map(|ip| SocketAddr::new(ip, config.http_port));
        add("HttpPort", address.as_slice(), true);
    }
    if let Some(dcos) = dcos(config) {
        add("dcos.rest_listener", &[dcos.rest_listener], true);
    }
    if config.dns_on {
        add("server.tls.listeners", &config.server.tls.listeners, false);
        add(
            "server.https.listeners",
            &config.server.https.listeners,
            false,
        );
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wildcard_is_every_address() {
        let all: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        assert_eq!(own_addresses(Ipv4Addr::UNSPECIFIED.into(), &all), all);
        assert_eq!(own_addresses(all[0], &all), all[..1]);
        assert_eq!(own_addresses(Ipv6Addr::UNSPECIFIED.into(), &all), all[1..]);
    }
}
