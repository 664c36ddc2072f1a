//! What a frame carries to the service, by the rules of the data plane, read octet by octet: the
//! slow and plain judge of what the program may answer.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use crate::frame::{Frame, sum};

/// A datagram that the program may answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Its headers and its message, as they were sent.
    pub frame: Frame,
    /// Whether it came without a checksum (RFC 768), so that the response has none either.
    pub bare: bool,
}

/// To whom the program answers.
#[derive(Debug, Clone)]
pub struct Host {
    /// Address of the interface.
    pub mac: [u8; 6],
    /// Addresses that are answered.
    pub addresses: Vec<IpAddr>,
    /// The port that is answered.
    pub port: u16,
}

/// The largest message that the program reads.
const MAX_QUERY_OCTETS: usize = 1232;

impl Query {
    /// Reads a frame. `None` if it is none of the program's business.
    pub fn read(octets: &[u8], host: &Host) -> Option<Self> {
        let get = |range: Range<usize>| octets.get(range);
        let number = |at: usize| get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
        let mut tags = Vec::new();
        let mut at = 12;
        while tags.len() < 2 && matches!(number(at)?, 0x8100 | 0x88a8) {
            tags.push((number(at)?, number(at + 2)?));
            at += 4;
        }
        let ethertype = number(at)?;
        let ip = at + 2;
        let (source, destination, udp, length, ttl, tos) = match ethertype {
            0x0800 => ipv4(octets, ip)?,
            0x86dd => ipv6(octets, ip)?,
            _ => return None,
        };
        let datagram = get(udp..udp + length)?;
        let [a, b, c, d, e, f, g, h, message @ ..] = datagram else {
            return None;
        };
        let (source_port, destination_port) =
            (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
        let mac = |at| -> Option<[u8; 6]> { get(at..at + 6)?.try_into().ok() };
        let answerable = mac(0)? == host.mac
            && host.addresses.contains(&destination)
            && mac(6)?[0] & 1 == 0
            && may_be_answered(source)
            && source != destination
            && destination_port == host.port
            && source_port >= 1024
            && usize::from(u16::from_be_bytes([*e, *f])) == length
            && message.len() <= MAX_QUERY_OCTETS;
        let checksum = u16::from_be_bytes([*g, *h]);
        let mut pseudo = Vec::with_capacity(40 + length);
        for address in [source, destination] {
            match address {
                IpAddr::V4(ip) => pseudo.extend(ip.octets()),
                IpAddr::V6(ip) => pseudo.extend(ip.octets()),
            }
        }
        pseudo.extend([0, 17]);
        pseudo.extend((length as u16).to_be_bytes());
        let partial = sum(&pseudo) as u16;
        pseudo.extend(datagram);
        let bare = checksum == 0 && source.is_ipv4();
        let intact = bare || (checksum != 0 && (sum(&pseudo) == 0xffff || checksum == partial));
        (answerable && intact).then(|| Self {
            frame: Frame {
                to: host.mac,
                from: mac(6).unwrap_or_default(),
                tags,
                source,
                destination,
                ttl,
                tos,
                source_port,
                destination_port,
                payload: message.to_vec(),
            },
            bare,
        })
    }

    /// The frame that answers with this message.
    pub fn reply(&self, message: Vec<u8>) -> Vec<u8> {
        let octets = message.len();
        let mut frame = self.frame.reply(message).octets();
        if self.bare {
            let udp = frame.len() - octets - 8;
            frame[udp + 6..udp + 8].fill(0);
        }
        frame
    }
}

type Datagram = (IpAddr, IpAddr, usize, usize, u8, u8);

fn ipv4(octets: &[u8], ip: usize) -> Option<Datagram> {
    let header: &[u8; 20] = octets.get(ip..ip + 20)?.try_into().ok()?;
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    let plain = header[0] == 0x45 && fragment & 0xbfff == 0 && header[9] == 17;
    if !plain || sum(header) != 0xffff {
        return None;
    }
    let address = |at: usize| {
        Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]).into()
    };
    let length = usize::from(u16::from_be_bytes([header[2], header[3]])).checked_sub(20)?;
    Some((
        address(12),
        address(16),
        ip + 20,
        length,
        header[8],
        header[1],
    ))
}

fn ipv6(octets: &[u8], ip: usize) -> Option<Datagram> {
    let header: &[u8; 40] = octets.get(ip..ip + 40)?.try_into().ok()?;
    if header[0] >> 4 != 6 || header[6] != 17 {
        return None;
    }
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 16] = header[at..at + 16].try_into().ok()?;
        Some(Ipv6Addr::from(octets).into())
    };
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let tos = header[0] << 4 | header[1] >> 4;
    Some((address(8)?, address(24)?, ip + 40, length, header[7], tos))
}

/// RFC 1122, section 3.2.1.3; RFC 4291, section 2.
fn may_be_answered(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(ip) => {
            let [first, ..] = ip.octets();
            first != 0 && !ip.is_loopback() && first < 224
        }
        IpAddr::V6(ip) => !ip.is_multicast() && !ip.is_unspecified() && !ip.is_loopback(),
    }
}
