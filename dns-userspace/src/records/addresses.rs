//! Which of a task's addresses are served, and in what order of preference.

use std::fmt;
use std::net::IpAddr;

use crate::mesos::state::{StatusSource, Task, parse_ip};
use crate::zones::Rdata;

/// A place to find a task's addresses, as `IPSources` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpSource {
    /// The addresses of the task's agent.
    Host,
    /// The label that the Docker containerizer sets.
    Docker,
    /// The label that the Mesos containerizer sets.
    Mesos,
    /// The network information of the container status.
    Netinfo,
}

impl IpSource {
    /// Reads the configured word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Host, Self::Docker, Self::Mesos, Self::Netinfo]
            .into_iter()
            .find(|one| one.as_str() == word)
    }

    /// The configured word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Docker => "docker",
            Self::Mesos => "mesos",
            Self::Netinfo => "netinfo",
        }
    }

    const fn in_status(self) -> Option<StatusSource> {
        match self {
            Self::Host => None,
            Self::Docker => Some(StatusSource::Docker),
            Self::Mesos => Some(StatusSource::Mesos),
            Self::Netinfo => Some(StatusSource::Netinfo),
        }
    }
}

impl fmt::Display for IpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The addresses of the first source that has any, and that source.
#[must_use]
pub fn task_addresses(
    task: &Task,
    agent: &[IpAddr],
    sources: &[IpSource],
) -> Option<(IpSource, Vec<IpAddr>)> {
    sources.iter().find_map(|&source| {
        let found: Vec<IpAddr> = match source.in_status() {
            None => agent.to_vec(),
            Some(wanted) => task
                .addresses
                .iter()
                .filter(|(from, _)| *from == wanted)
                .map(|&(_, ip)| ip)
                .collect(),
        };
        (!found.is_empty()).then_some((source, found))
    })
}

/// An address as a record value. Those of the leader, the masters and the listener are shown as
/// they were written; all others in canonical form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    ip: IpAddr,
    written: Option<Box<str>>,
}

impl Address {
    /// Keeps the text, which must be an address.
    #[must_use]
    pub fn as_written(text: &str) -> Option<Self> {
        let mut address = Self::from(parse_ip(text)?);
        if address.to_string() != text {
            address.written = Some(text.into());
        }
        Some(address)
    }

    /// The record data of the address.
    #[must_use]
    pub const fn rdata(&self) -> Rdata {
        match self.ip {
            IpAddr::V4(ip) => Rdata::A(ip),
            IpAddr::V6(ip) => Rdata::Aaaa(ip),
        }
    }

    /// The address itself; never an IPv4-mapped one.
    #[must_use]
    pub const fn ip(&self) -> IpAddr {
        self.ip
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        Self { ip, written: None }
    }
}

/// The text as written, else a dotted quad or the form of RFC 5952.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.written {
            Some(text) => f.write_str(text),
            None => self.ip.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_source_with_an_address_wins_with_all_of_its_addresses() {
        let task = Task {
            addresses: vec![
                (StatusSource::Mesos, ip("10.0.0.1")),
                (StatusSource::Docker, ip("10.0.0.2")),
                (StatusSource::Mesos, ip("2001:db8::1")),
            ],
            ..Task::default()
        };
        let agent = [ip("10.1.0.1")];
        use IpSource::{Docker, Host, Mesos, Netinfo};
        let pick = |sources: &[IpSource]| task_addresses(&task, &agent, sources);
        assert_eq!(
            pick(&[Netinfo, Mesos, Host]),
            Some((Mesos, vec![ip("10.0.0.1"), ip("2001:db8::1")]))
        );
        assert_eq!(
            pick(&[Netinfo, Docker]),
            Some((Docker, vec![ip("10.0.0.2")]))
        );
        assert_eq!(pick(&[Netinfo, Host]), Some((Host, vec![ip("10.1.0.1")])));
        assert_eq!(pick(&[Netinfo]), None);
    }

    #[test]
    fn addresses_read_as_in_go() {
        for (text, shown) in [
            ("10.1.2.3", Some("10.1.2.3")),
            ("::ffff:10.1.2.3", Some("10.1.2.3")),
            ("::10.1.2.3", Some("::a01:203")),
            ("2001:DB8:0:0::53", Some("2001:db8::53")),
            ("010.1.2.3", None),
            ("10.1.2.3/24", None),
            (" 10.1.2.3", None),
            ("fe80::1%eth0", None),
            ("10.1.2", None),
            ("", None),
        ] {
            let read = parse_ip(text).map(|ip| Address::from(ip).to_string());
            assert_eq!(read.as_deref(), shown, "{text:?}");
        }
    }

    #[test]
    fn written_addresses_keep_their_text() {
        let address = Address::as_written("2001:db8:0:0::53").unwrap();
        assert_eq!(address.to_string(), "2001:db8:0:0::53");
        assert_eq!(address.ip(), ip("2001:db8::53"));
        assert_eq!(
            Address::as_written("10.0.0.1").unwrap(),
            Address::from(ip("10.0.0.1"))
        );
        assert_eq!(Address::as_written("node1"), None);
    }
}
