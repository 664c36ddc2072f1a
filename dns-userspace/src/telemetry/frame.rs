//! What a sampled frame says: who asks for what.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::answers::query::HEADER_OCTETS;
use crate::zones::{Name, Rtype};

/// A client and its question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Who asks.
    pub client: IpAddr,
    /// The name asked for, folded.
    pub name: Name,
    /// The type asked for.
    pub rtype: Rtype,
}

/// An Ethernet frame as the XDP program left it, perhaps cut: a response where it answered, else
/// the packet as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The first octets.
    pub octets: Arc<[u8]>,
    /// Octets of the whole frame.
    pub length: u32,
}

impl Seen {
    /// Reads the question of a message, a query or its response.
    #[must_use]
    pub fn of_message(client: IpAddr, message: &[u8]) -> Option<Self> {
        let question = message.get(HEADER_OCTETS..)?;
        // The root label ends the name: a compressed name is none of a question.
        let end = question.iter().position(|octet| *octet == 0)? + 1;
        let (name, rest) = question.split_at_checked(end)?;
        let [high, low, ..] = *rest else {
            return None;
        };
        Some(Self {
            client,
            name: Name::from_wire(name).ok()?,
            rtype: Rtype(u16::from_be_bytes([high, low])),
        })
    }
}

impl Frame {
    /// The client and the question of a UDP datagram. The client is where a response goes to, or
    /// where a query comes from.
    #[must_use]
    pub fn seen(&self) -> Option<Seen> {
        let (source, destination, message) = datagram(&self.octets)?;
        let is_response = message.get(2)? & 0x80 != 0;
        let client = if is_response { destination } else { source };
        Seen::of_message(client, message)
    }
}

/// Source, destination and payload of a UDP datagram in a frame with up to two VLAN tags.
fn datagram(frame: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    const VLAN_TAGS: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
    const UDP: u8 = 17;
    let mut rest = frame.get(12..)?;
    for _ in 0..2 {
        if VLAN_TAGS.iter().any(|tag| rest.starts_with(tag)) {
            rest = rest.get(4..)?;
        }
    }
    let (ethertype, packet) = rest.split_first_chunk::<2>()?;
    let (source, destination, datagram) = match ethertype {
        [0x08, 0x00] => {
            let header = packet.first_chunk::<20>()?;
            let octets = usize::from(header[0] & 0xf) * 4;
            if header[0] >> 4 != 4 || header[9] != UDP {
                return None;
            }
            let address = |at: usize| -> Option<IpAddr> {
                let octets: [u8; 4] = header.get(at..at + 4)?.try_into().ok()?;
                Some(Ipv4Addr::from(octets).into())
            };
            (address(12)?, address(16)?, packet.get(octets..)?)
        }
        [0x86, 0xdd] => {
            let header = packet.first_chunk::<40>()?;
            if header[6] != UDP {
                return None;
            }
            let address = |at: usize| -> Option<IpAddr> {
                let octets: [u8; 16] = header.get(at..at + 16)?.try_into().ok()?;
                Some(Ipv6Addr::from(octets).into())
            };
            (address(8)?, address(24)?, packet.get(40..)?)
        }
        _ => return None,
    };
    Some((source, destination, datagram.get(8..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 791, RFC 768 and RFC 1035 by hand: 192.0.2.1 asks 192.0.2.53 for `Web.mesos` AAAA.
    const QUERY: &[u8] = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\x00\
        \x45\0\0\x37\0\0\0\0\x40\x11\0\0\xc0\0\x02\x01\xc0\0\x02\x35\
        \xc0\0\0\x35\0\x23\0\0\
        \x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03Web\x05mesos\0\0\x1c\0\x01";

    fn seen(octets: &[u8]) -> Option<Seen> {
        let frame = Frame {
            octets: octets.into(),
            length: octets.len() as u32,
        };
        frame.seen()
    }

    #[test]
    fn a_query_names_its_sender() {
        let seen = seen(QUERY).unwrap();
        assert_eq!(seen.client, IpAddr::from([192, 0, 2, 1]));
        assert_eq!(seen.name, Name::from_text("web.mesos").unwrap());
        assert_eq!(seen.rtype, Rtype::AAAA);
    }

    #[test]
    fn a_response_names_its_receiver() {
        let mut response = QUERY.to_vec();
        response[44] |= 0x80;
        assert_eq!(
            seen(&response).unwrap().client,
            IpAddr::from([192, 0, 2, 53])
        );
    }

    #[test]
    fn tags_are_stepped_over() {
        let mut tagged = QUERY.to_vec();
        tagged.splice(12..12, *b"\x88\xa8\x00\x07\x81\x00\x00\x08");
        assert_eq!(seen(&tagged), seen(QUERY));
    }

    #[test]
    fn what_is_no_datagram_says_nothing() {
        let mut tcp = QUERY.to_vec();
        tcp[23] = 6;
        assert_eq!(seen(&tcp), None);
        for end in 0..QUERY.len() - 2 {
            assert_eq!(seen(&QUERY[..end]), None, "cut at {end}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_pass_without_panic(octets: Vec<u8>) {
            let _ = seen(&octets);
        }
    }
}
