//! Addresses as texts, by the rules of Go: `name@host:port`, `host:port`, and IP addresses.

use std::net::IpAddr;

/// The place in a libprocess id, `name@host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pid {
    /// An address without brackets, a host name, or nothing.
    pub host: Box<str>,
    /// The port.
    pub port: u16,
}

/// Why a text is no `name@host:port`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PidError {
    /// None or several `@`.
    #[error("expect one `@' in the input")]
    At,
    /// No host and port after the `@`.
    #[error("address {0}: {1}")]
    Address(String, &'static str),
}

impl Pid {
    /// Reads a libprocess id; blanks and double quotes around it are ignored.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn parse(text: &str) -> Result<Self, PidError> {
        let text = text.trim_matches([' ', '"']);
        let mut parts = text.split('@');
        let (Some(_), Some(address), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(PidError::At);
        };
        let fail = |why| PidError::Address(address.to_owned(), why);
        let (host, port) = split_host_port(address).map_err(fail)?;
        let port = match port {
            "" => 0,
            // The services that Go knows without asking the system.
            "http" => 80,
            "https" => 443,
            digits => digits.parse().map_err(|_| fail("invalid port"))?,
        };
        let host = host.into();
        Ok(Self { host, port })
    }
}

/// Splits `host:port` as Go's `net.SplitHostPort` does: an IPv6 host stands in brackets.
///
/// # Errors
/// With Go's words for what is wrong.
pub fn split_host_port(text: &str) -> Result<(&str, &str), &'static str> {
    let (host, port) = if let Some(inner) = text.strip_prefix('[') {
        let (host, after) = inner.split_once(']').ok_or("missing ']' in address")?;
        let port = match after.strip_prefix(':') {
            Some(port) if port.contains(':') => return Err("too many colons in address"),
            Some(port) => port,
            None if after.contains(':') => return Err("too many colons in address"),
            None => return Err("missing port in address"),
        };
        (host, port)
    } else {
        let (host, port) = text.rsplit_once(':').ok_or("missing port in address")?;
        if host.contains(':') {
            return Err("too many colons in address");
        }
        (host, port)
    };
    for part in [host, port] {
        if part.contains('[') {
            return Err("unexpected '[' in address");
        }
        if part.contains(']') {
            return Err("unexpected ']' in address");
        }
    }
    Ok((host, port))
}

/// Reads an address as Go's `net.ParseIP`: dotted quad without leading zeros, or IPv6 without zone;
/// an IPv4-mapped IPv6 address is IPv4.
#[must_use]
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    text.parse().ok().map(|ip: IpAddr| ip.to_canonical())
}

/// Whether a host can be a name: it is no address, nor like one. What ends in a number is none
/// (RFC 1123, section 2.1; "ends in a number" of the URL standard), though resolvers of C libraries
/// take `10.2` and `010.1.0.1` for addresses.
#[must_use]
pub fn is_name(host: &str) -> bool {
    let labels = host.strip_suffix('.').unwrap_or(host);
    let last = labels.rsplit('.').next().unwrap_or(labels);
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    !is_number && !host.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_in_a_number_is_no_name() {
        for host in [
            "localhost",
            "node1",
            "node-1.example.",
            "1.2.c0",
            "0xyz",
            "10.0x1g",
        ] {
            assert!(is_name(host), "{host}");
        }
        for host in [
            "",
            ".",
            "42",
            "10.2",
            "010.1.0.1",
            "127.1",
            "0177.0.0.1",
            "2130706433",
            "0x7f000001",
            "127.0X1",
            "a.0x",
            "node.7",
            "10.1.0.1",
            "10.1.0.1.",
            "256.1.1.1",
            "::1",
            "fe80::1%eth0",
        ] {
            assert!(!is_name(host), "{host}");
        }
    }

    fn pid(text: &str) -> Result<(String, u16), String> {
        Pid::parse(text)
            .map(|pid| (pid.host.into(), pid.port))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn process_ids_give_host_and_port() {
        for (text, host, port) in [
            ("slave(1)@10.1.0.1:5051", "10.1.0.1", 5051),
            (" \"s@[2001:db8::1]:77\" ", "2001:db8::1", 77),
            ("s@node1:http", "node1", 80),
            ("@:0", "", 0),
            ("s@node1:", "node1", 0),
        ] {
            assert_eq!(pid(text), Ok((host.to_owned(), port)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_reason() {
        let at = "expect one `@' in the input";
        for (text, why) in [
            ("", at),
            ("null", at),
            ("a@b@c:1", at),
            ("a@b", "address b: missing port in address"),
            ("a@::1:5", "address ::1:5: too many colons in address"),
            ("a@b:99999", "address b:99999: invalid port"),
            ("a@b:-1", "address b:-1: invalid port"),
            ("a@[b:1", "address [b:1: missing ']' in address"),
            ("a@[b]", "address [b]: missing port in address"),
            ("a@[b]:1:2", "address [b]:1:2: too many colons in address"),
            ("a@b]:1", "address b]:1: unexpected ']' in address"),
        ] {
            assert_eq!(pid(text), Err(why.to_owned()), "{text}");
        }
    }
}
