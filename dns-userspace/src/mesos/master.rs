//! The address of a master, as the configuration, ZooKeeper and Mesos itself write it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::pid::{is_name, parse_ip};

/// Where a master listens: a host and a port.
///
/// The host is kept as it was written, because the records made from it show that text
/// (mesos-dns does not canonicalise it either). An IPv6 host is held without its brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MasterAddress {
    host: String,
    port: u16,
}

/// A text that is no `host:port`, or whose host is neither a name nor an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not host:port with a port from 1 to 65535")]
pub struct AddressError(pub String);

impl MasterAddress {
    /// Makes an address from a host (IPv6 without brackets) and a port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }

    /// Returns the host as written; IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Tells whether both mean the same place: equal ports, and hosts equal as IP addresses or,
    /// for names, without regard to case.
    pub fn same_place(&self, other: &Self) -> bool {
        self.port == other.port && self.same_host(&other.host)
    }

    /// Tells whether a connection to this socket address is a connection to this master.
    pub fn is_at(&self, peer: SocketAddr) -> bool {
        self.port == peer.port()
            && self
                .host
                .parse::<IpAddr>()
                .is_ok_and(|ip| ip.to_canonical() == peer.ip().to_canonical())
    }

    fn same_host(&self, other: &str) -> bool {
        match (self.host.parse::<IpAddr>(), other.parse::<IpAddr>()) {
            (Ok(a), Ok(b)) => a.to_canonical() == b.to_canonical(),
            _ => self.host.eq_ignore_ascii_case(other),
        }
    }

    /// Reads the `leader` text of a state, `x@host:port` with exactly one `@`
    /// (`master@10.0.0.1:5050`).
    ///
    /// # Errors
    ///
    /// Gives back the text when it has another form.
    pub fn from_leader(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError(text.to_owned());
        let (_, address) = text.split_once('@').ok_or_else(error)?;
        address.parse().map_err(|_| error())
    }
}

impl FromStr for MasterAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let parse = || {
            let (host, port) = text.rsplit_once(':')?;
            let host = match host.strip_prefix('[') {
                Some(rest) => rest.strip_suffix(']').filter(|ip| ip.contains(':'))?,
                None if host.contains([':', ']']) => return None,
                None => host,
            };
            let clean = |c: char| !c.is_whitespace() && !c.is_control() && !"@/?#[]".contains(c);
            let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            let port = port
                .parse::<u16>()
                .ok()
                .filter(|&port| digits && port != 0)?;
            let is_host = is_name(host) || parse_ip(host).is_some();
            (is_host && host.chars().all(clean)).then(|| Self::new(host, port))
        };
        parse().ok_or_else(|| AddressError(text.to_owned()))
    }
}

impl fmt::Display for MasterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_text_is_kept_and_printed_with_brackets_for_ipv6() {
        for text in [
            "127.0.0.1:5050",
            "Master.example:1",
            "[2001:db8:0:0::1]:65535",
        ] {
            assert_eq!(text.parse::<MasterAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn malformed_addresses_are_refused_with_their_text() {
        let bad = [
            "",
            "h",
            "h:",
            ":1",
            "h:0",
            "h:65536",
            "h:+1",
            "::1:5050",
            "[h]:1",
            "[::1:1",
            "a b:1",
            "u@h:1",
            "h/x:1",
            "127.1:1",
            "0177.0.0.1:1",
            "2130706433:1",
        ];
        for text in bad {
            assert_eq!(
                text.parse::<MasterAddress>(),
                Err(AddressError(text.to_owned()))
            );
        }
    }

    #[test]
    fn leader_needs_exactly_one_at_sign() {
        let leader = MasterAddress::from_leader("master@10.0.0.1:5050").unwrap();
        assert_eq!((leader.host(), leader.port()), ("10.0.0.1", 5050));
        for text in ["10.0.0.1:5050", "a@b@10.0.0.1:5050", "master@10.0.0.1"] {
            assert!(MasterAddress::from_leader(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_same_place_can_be_written_in_several_ways() {
        let a: MasterAddress = "[2001:db8::1]:5050".parse().unwrap();
        assert!(a.same_place(&"[2001:DB8:0::1]:5050".parse().unwrap()));
        assert!(!a.same_place(&"[2001:db8::1]:5051".parse().unwrap()));
        assert!(a.is_at("[2001:db8::1]:5050".parse().unwrap()));
        let v4: MasterAddress = "10.0.0.1:1".parse().unwrap();
        assert!(v4.is_at("[::ffff:10.0.0.1]:1".parse().unwrap()));
        let name: MasterAddress = "master.example:1".parse().unwrap();
        assert!(name.same_place(&"Master.Example:1".parse().unwrap()));
    }
}
