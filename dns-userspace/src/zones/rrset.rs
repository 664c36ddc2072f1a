//! RRsets: the records of one owner and type, in the form that goes on the wire.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::Name;

/// A record type, as the number on the wire (RFC 1035, section 3.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rtype(pub u16);

impl Rtype {
    /// Host address, RFC 1035.
    pub const A: Self = Self(1);
    /// Name server, RFC 1035.
    pub const NS: Self = Self(2);
    /// Alias of one name, RFC 1035.
    pub const CNAME: Self = Self(5);
    /// Start of authority, RFC 1035.
    pub const SOA: Self = Self(6);
    /// Pointer, RFC 1035.
    pub const PTR: Self = Self(12);
    /// Text, RFC 1035.
    pub const TXT: Self = Self(16);
    /// IPv6 host address, RFC 3596.
    pub const AAAA: Self = Self(28);
    /// Service location, RFC 2782.
    pub const SRV: Self = Self(33);
    /// Alias of a subtree, RFC 6672.
    pub const DNAME: Self = Self(39);
    /// Delegation signer, RFC 4034: asked for at a zone cut, never held by us.
    pub const DS: Self = Self(43);
    /// EDNS pseudo record, RFC 6891.
    pub const OPT: Self = Self(41);
    /// All types, as a question only, RFC 8482.
    pub const ANY: Self = Self(255);
}

impl fmt::Display for Rtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::A => "A",
            Self::NS => "NS",
            Self::CNAME => "CNAME",
            Self::SOA => "SOA",
            Self::PTR => "PTR",
            Self::TXT => "TXT",
            Self::AAAA => "AAAA",
            Self::SRV => "SRV",
            Self::DNAME => "DNAME",
            Self::DS => "DS",
            Self::OPT => "OPT",
            Self::ANY => "ANY",
            Self(other) => return write!(f, "TYPE{other}"),
        })
    }
}

/// The data of one record. The order is that of the fields, addresses by number: the order in
/// which an RRset is kept before it is rotated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rdata {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// A service: priority, weight, port, target.
    Srv(u16, u16, u16, Name),
    /// The canonical name.
    Cname(Name),
    /// The target of a subtree alias.
    Dname(Name),
    /// A name server.
    Ns(Name),
    /// A reverse pointer.
    Ptr(Name),
    /// Character strings, each at most 255 octets.
    Txt(Vec<Vec<u8>>),
    /// Start of authority.
    Soa(Box<Soa>),
}

/// The fields of a start of authority (RFC 1035, section 3.3.13), times in seconds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Soa {
    /// Primary name server.
    pub mname: Name,
    /// Mailbox of the person responsible.
    pub rname: Name,
    /// Version of the zone, ordered by RFC 1982.
    pub serial: u32,
    /// Refresh interval of secondaries.
    pub refresh: u32,
    /// Retry interval of secondaries.
    pub retry: u32,
    /// Time after which secondaries stop to answer.
    pub expire: u32,
    /// Upper bound of the TTL of negative answers (RFC 2308, section 4).
    pub minimum: u32,
}

impl Rdata {
    /// The type this data belongs to.
    #[must_use]
    pub const fn rtype(&self) -> Rtype {
        match self {
            Self::A(_) => Rtype::A,
            Self::Aaaa(_) => Rtype::AAAA,
            Self::Srv(..) => Rtype::SRV,
            Self::Cname(_) => Rtype::CNAME,
            Self::Dname(_) => Rtype::DNAME,
            Self::Ns(_) => Rtype::NS,
            Self::Ptr(_) => Rtype::PTR,
            Self::Txt(_) => Rtype::TXT,
            Self::Soa(_) => Rtype::SOA,
        }
    }

    /// Appends the RDATA in wire form; names are not compressed (RFC 3597, section 4).
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::A(ip) => out.extend_from_slice(&ip.octets()),
            Self::Aaaa(ip) => out.extend_from_slice(&ip.octets()),
            Self::Srv(priority, weight, port, target) => {
                for field in [priority, weight, port] {
                    out.extend_from_slice(&field.to_be_bytes());
                }
                out.extend_from_slice(target.wire());
            }
            Self::Cname(name) | Self::Dname(name) | Self::Ns(name) | Self::Ptr(name) => {
                out.extend_from_slice(name.wire());
            }
            Self::Txt(strings) => {
                for text in strings {
                    let text = text.get(..text.len().min(255)).unwrap_or_default();
                    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
                    out.extend_from_slice(text);
                }
            }
            Self::Soa(soa) => {
                out.extend_from_slice(soa.mname.wire());
                out.extend_from_slice(soa.rname.wire());
                for field in [soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum] {
                    out.extend_from_slice(&field.to_be_bytes());
                }
            }
        }
    }
}

/// Presentation format (RFC 1035, section 5).
impl fmt::Display for Rdata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(ip) => write!(f, "{ip}"),
            Self::Aaaa(ip) => write!(f, "{ip}"),
            Self::Srv(priority, weight, port, target) => {
                write!(f, "{priority} {weight} {port} {target}")
            }
            Self::Cname(name) | Self::Dname(name) | Self::Ns(name) | Self::Ptr(name) => {
                write!(f, "{name}")
            }
            Self::Txt(strings) => {
                for (i, text) in strings.iter().enumerate() {
                    if i > 0 {
                        f.write_str(" ")?;
                    }
                    f.write_str("\"")?;
                    for &octet in text {
                        match octet {
                            b'"' | b'\\' => write!(f, "\\{}", char::from(octet))?,
                            0x20..=0x7e => write!(f, "{}", char::from(octet))?,
                            _ => write!(f, "\\{octet:03}")?,
                        }
                    }
                    f.write_str("\"")?;
                }
                Ok(())
            }
            Self::Soa(soa) => write!(
                f,
                "{} {} {} {} {} {} {}",
                soa.mname, soa.rname, soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum
            ),
        }
    }
}

/// The records of one type at one owner: one TTL (RFC 2181, section 5.2), data sorted and without
/// repetition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rrset {
    rtype: Rtype,
    ttl: u32,
    data: Box<[Rdata]>,
}

impl Rrset {
    /// Sorts `data` and removes repetitions. Data of another type is dropped.
    #[must_use]
    pub fn new(rtype: Rtype, ttl: u32, mut data: Vec<Rdata>) -> Self {
        data.retain(|one| one.rtype() == rtype);
        data.sort_unstable();
        data.dedup();
        Self {
            rtype,
            ttl,
            data: data.into_boxed_slice(),
        }
    }

    /// Adds the data of `other`; the lower TTL holds for all (RFC 2181, section 5.2).
    pub(super) fn merge(&mut self, other: &Self) {
        let data = [&*self.data, &*other.data].concat();
        *self = Self::new(self.rtype, self.ttl.min(other.ttl), data);
    }

    /// Drops all data but the first.
    pub(super) fn keep_first(&mut self) {
        self.data = self.data.iter().take(1).cloned().collect();
    }

    /// The type of every record.
    #[must_use]
    pub const fn rtype(&self) -> Rtype {
        self.rtype
    }

    /// Seconds a resolver may keep the records.
    #[must_use]
    pub const fn ttl(&self) -> u32 {
        self.ttl
    }

    /// The data, ascending.
    #[must_use]
    pub fn data(&self) -> &[Rdata] {
        &self.data
    }
}
