//! Which upstreams a name goes to.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use crate::zones::Name;

/// Why names cannot be forwarded as configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// An upstream that is this very server.
    #[error("upstream {upstream} is this server itself, listening at {listening}")]
    OwnAddress {
        /// The upstream as configured.
        upstream: SocketAddr,
        /// Our address that it reaches.
        listening: SocketAddr,
    },
    /// A zone whose list of upstreams is empty.
    #[error("zone {0} has no upstream")]
    NoUpstream(Name),
}

/// The upstreams of every name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes {
    resolvers: Vec<SocketAddr>,
    /// Longest apex first, so that the first that matches is the longest.
    zones: Vec<(Name, Vec<SocketAddr>)>,
}

impl Routes {
    /// Routes by zone, with `resolvers` for the rest.
    ///
    /// # Errors
    /// A zone without upstreams, or an upstream that is one of the addresses in `listening`.
    pub fn new(
        resolvers: Vec<SocketAddr>,
        mut zones: Vec<(Name, Vec<SocketAddr>)>,
        listening: &[SocketAddr],
    ) -> Result<Self, RouteError> {
        if let Some((zone, _)) = zones.iter().find(|(_, upstreams)| upstreams.is_empty()) {
            return Err(RouteError::NoUpstream(zone.clone()));
        }
        zones.sort_by_key(|(zone, _)| std::cmp::Reverse(zone.wire().len()));
        let routes = Self { resolvers, zones };
        for upstream in routes.all() {
            if let Some(listening) = own_address(upstream, listening) {
                return Err(RouteError::OwnAddress {
                    upstream,
                    listening,
                });
            }
        }
        Ok(routes)
    }

    /// The upstreams of `name`, in order of preference, and the number of the zone that says so.
    #[must_use]
    pub fn upstreams(&self, name: &Name) -> (usize, &[SocketAddr]) {
        let mut zones = (0..).zip(&self.zones);
        zones
            .find(|(_, (zone, _))| name.is_at_or_below(zone))
            .map_or((self.zones.len(), &self.resolvers), |(number, zone)| {
                (number, &zone.1)
            })
    }

    /// The zones in the order of their numbers; the root stands for all other names.
    pub fn zones(&self) -> impl Iterator<Item = String> {
        let zones = self.zones.iter().map(|(zone, _)| zone.to_string());
        zones.chain([".".to_owned()])
    }

    /// Every upstream, perhaps more than once.
    pub fn all(&self) -> impl Iterator<Item = SocketAddr> {
        let of_zones = self.zones.iter().flat_map(|(_, upstreams)| upstreams);
        self.resolvers.iter().chain(of_zones).copied()
    }
}

/// Which of our addresses what is sent to `upstream` arrives at.
pub(crate) fn own_address(upstream: SocketAddr, listening: &[SocketAddr]) -> Option<SocketAddr> {
    let reached = listening.iter().find(|own| reaches(upstream, **own));
    reached.copied()
}

/// Whether what is sent to `upstream` arrives at our socket bound to `own`.
fn reaches(upstream: SocketAddr, own: SocketAddr) -> bool {
    if upstream.port() != own.port() {
        return false;
    }
    if own.ip().is_unspecified() {
        own.is_ipv4() == upstream.is_ipv4() && is_on_this_host(upstream.ip())
    } else {
        own.ip() == upstream.ip()
    }
}

/// Only an address of this host can be bound.
fn is_on_this_host(address: IpAddr) -> bool {
    address.is_unspecified() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text).unwrap()
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_zone_counts_whatever_the_order() {
        let zones = vec![
            (name("example"), vec![at("192.0.2.1:53")]),
            (name("Corp.Example"), vec![at("192.0.2.2:53")]),
            (name("net"), vec![at("192.0.2.3:53")]),
        ];
        let routes = Routes::new(vec![at("192.0.2.9:53")], zones, &[]).unwrap();
        let first = |text: &str| routes.upstreams(&name(text)).1[0];
        assert_eq!(first("host.corp.example"), at("192.0.2.2:53"));
        assert_eq!(first("corp.example"), at("192.0.2.2:53"));
        assert_eq!(first("xcorp.example"), at("192.0.2.1:53"));
        assert_eq!(first("example.org"), at("192.0.2.9:53"));
    }

    #[test]
    fn our_own_address_is_refused_as_upstream() {
        let refused = |upstream: &str, listening: &str| {
            let zones = vec![(name("corp.example"), vec![at(upstream)])];
            Routes::new(vec![], zones, &[at(listening)]).is_err()
        };
        assert!(refused("127.0.0.1:53", "127.0.0.1:53"));
        assert!(refused("127.0.0.1:53", "0.0.0.0:53"));
        assert!(refused("[::1]:53", "[::]:53"));
        assert!(!refused("127.0.0.1:5353", "127.0.0.1:53"));
        assert!(!refused("127.0.0.2:53", "127.0.0.1:53"));
        assert!(!refused("192.0.2.1:53", "0.0.0.0:53"));
        assert!(!refused("127.0.0.1:53", "[::]:53"));
    }

    #[test]
    fn a_zone_without_upstreams_is_refused() {
        let zones = vec![(name("corp.example"), vec![])];
        let error = Routes::new(vec![], zones, &[]).unwrap_err();
        assert_eq!(error, RouteError::NoUpstream(name("corp.example")));
    }
}
