//! RRsets: the records of one owner and type, in the form that goes on the wire.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::few::Few;
use super::{Name, NameError};

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

    /// Whether a name with an alias may have it too: SIG, KEY and NXT (RFC 2181, section 10.1), RRSIG
    /// and NSEC (RFC 4035, section 2.5).
    pub(super) const fn may_be_beside_cname(self) -> bool {
        matches!(self.0, 24 | 25 | 30 | 46 | 47)
    }
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
    /// Any other type, as it came in a zone transfer (RFC 3597): names in it are not compressed.
    Opaque(Rtype, Box<[u8]>),
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
            Self::Opaque(rtype, _) => *rtype,
        }
    }

    /// Reads the wire form of a type's data, names in it not compressed. Names are folded where the
    /// type is one that we know.
    ///
    /// # Errors
    /// The octets are not data of this type.
    pub fn from_wire(rtype: Rtype, wire: &[u8]) -> Result<Self, NameError> {
        const BAD: NameError = NameError::Malformed;
        Ok(match rtype {
            Rtype::A => Self::A(<[u8; 4]>::try_from(wire).map_err(|_| BAD)?.into()),
            Rtype::AAAA => Self::Aaaa(<[u8; 16]>::try_from(wire).map_err(|_| BAD)?.into()),
            Rtype::CNAME => Self::Cname(Name::from_wire(wire)?),
            Rtype::DNAME => Self::Dname(Name::from_wire(wire)?),
            Rtype::NS => Self::Ns(Name::from_wire(wire)?),
            Rtype::PTR => Self::Ptr(Name::from_wire(wire)?),
            Rtype::SRV => {
                let (fields, target) = wire.split_first_chunk::<6>().ok_or(BAD)?;
                let [p, p2, w, w2, o, o2] = *fields;
                let field = |high, low| u16::from_be_bytes([high, low]);
                let target = Name::from_wire(target)?;
                Self::Srv(field(p, p2), field(w, w2), field(o, o2), target)
            }
            Rtype::TXT => {
                let mut strings = Vec::new();
                let mut rest = wire;
                while let Some((&len, tail)) = rest.split_first() {
                    let (text, after) = tail.split_at_checked(len.into()).ok_or(BAD)?;
                    strings.push(text.to_vec());
                    rest = after;
                }
                if strings.is_empty() {
                    return Err(BAD);
                }
                Self::Txt(strings)
            }
            Rtype::SOA => Self::Soa(Box::new(Soa::from_wire(wire)?)),
            other => Self::Opaque(other, wire.into()),
        })
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
            Self::Opaque(_, data) => out.extend_from_slice(data),
        }
    }
}

impl Soa {
    fn from_wire(wire: &[u8]) -> Result<Self, NameError> {
        const BAD: NameError = NameError::Malformed;
        let (mname, rest) = Name::split_from_wire(wire)?;
        let (rname, rest) = Name::split_from_wire(rest)?;
        let (fields, []) = rest.as_chunks::<4>() else {
            return Err(BAD);
        };
        let &[serial, refresh, retry, expire, minimum] = fields else {
            return Err(BAD);
        };
        Ok(Self {
            mname,
            rname,
            serial: u32::from_be_bytes(serial),
            refresh: u32::from_be_bytes(refresh),
            retry: u32::from_be_bytes(retry),
            expire: u32::from_be_bytes(expire),
            minimum: u32::from_be_bytes(minimum),
        })
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
            // RFC 3597, section 5.
            Self::Opaque(_, data) => {
                write!(f, "\\# {}", data.len())?;
                if !data.is_empty() {
                    f.write_str(" ")?;
                }
                data.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
            }
        }
    }
}

/// The records of one type at one owner: one TTL (RFC 2181, section 5.2), data sorted and without
/// repetition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rrset {
    rtype: Rtype,
    ttl: u32,
    data: Few<Rdata>,
}

impl Rrset {
    /// Sorts `data` and removes repetitions. Data of another type is dropped.
    #[must_use]
    pub fn new(rtype: Rtype, ttl: u32, data: impl IntoIterator<Item = Rdata>) -> Self {
        let of_type = data.into_iter().filter(|one| one.rtype() == rtype);
        let data = match of_type.collect() {
            Few::Several(all) => {
                let mut all = all.into_vec();
                all.sort_unstable();
                all.dedup();
                all.into()
            }
            one => one,
        };
        Self { rtype, ttl, data }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text).unwrap()
    }

    fn soa() -> Soa {
        Soa {
            mname: name("ns1.mesos"),
            rname: name("root.ns1.mesos"),
            serial: u32::MAX,
            refresh: 1,
            retry: 2,
            expire: 3,
            minimum: 4,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for data in [
            Rdata::A([10, 0, 0, 1].into()),
            Rdata::Aaaa("fd00::1".parse().unwrap()),
            Rdata::Srv(1, 2, 65535, name("a.mesos")),
            Rdata::Cname(name("a.mesos")),
            Rdata::Dname(name("a.mesos")),
            Rdata::Ns(name(".")),
            Rdata::Ptr(name("a.mesos")),
            Rdata::Txt(vec![b"one".to_vec(), Vec::new()]),
            Rdata::Soa(Box::new(soa())),
            Rdata::Opaque(Rtype(257), Box::from(*b"\0\x05issueca.example")),
            Rdata::Opaque(Rtype(65280), Box::default()),
        ] {
            let mut wire = Vec::new();
            data.write(&mut wire);
            assert_eq!(
                Rdata::from_wire(data.rtype(), &wire),
                Ok(data.clone()),
                "{data}"
            );
            // No type that we know allows for more or less.
            if !matches!(data, Rdata::Opaque(..) | Rdata::Txt(_)) {
                assert!(
                    Rdata::from_wire(data.rtype(), &wire[1..]).is_err(),
                    "{data}"
                );
                wire.push(7);
                assert!(Rdata::from_wire(data.rtype(), &wire).is_err(), "{data}");
            }
        }
        assert!(Rdata::from_wire(Rtype::TXT, b"").is_err());
        assert!(Rdata::from_wire(Rtype::TXT, b"\x03ab").is_err());
    }

    /// The example of RFC 3597, section 5.
    #[test]
    fn rfc3597_5_opaque_data_is_shown_in_hex() {
        let data = Rdata::Opaque(Rtype(731), Box::from([0xab, 0xcd, 0xef, 1, 0x23, 0x45]));
        assert_eq!(data.to_string(), "\\# 6 abcdef012345");
        assert_eq!(
            Rdata::Opaque(Rtype(62347), Box::default()).to_string(),
            "\\# 0"
        );
    }
}
