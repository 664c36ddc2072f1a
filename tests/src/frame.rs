//! Ethernet frames that carry DNS messages, built and read octet by octet: slow, plain, and
//! independent of the data plane's own code.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A UDP datagram in a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Destination address of the Ethernet header.
    pub to: [u8; 6],
    /// Source address of the Ethernet header.
    pub from: [u8; 6],
    /// VLAN tags as TPID and TCI, outermost first.
    pub tags: Vec<(u16, u16)>,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// The message.
    pub payload: Vec<u8>,
}

/// The one's complement sum of RFC 1071, section 1.
pub fn sum(octets: &[u8]) -> u32 {
    let mut sum = 0;
    for pair in octets.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

fn checksum(octets: &[u8]) -> [u8; 2] {
    (!(sum(octets) as u16)).to_be_bytes()
}

impl Frame {
    /// A query from a client to a server, untagged, over the family of the addresses.
    pub fn query(source: IpAddr, destination: IpAddr, payload: Vec<u8>) -> Self {
        Self {
            to: [2, 0, 0, 0, 0, 1],
            from: [2, 0, 0, 0, 0, 2],
            tags: Vec::new(),
            source,
            destination,
            ttl: 17,
            tos: 3,
            source_port: 40_000,
            destination_port: 53,
            payload,
        }
    }

    fn udp(&self) -> Vec<u8> {
        let length = (8 + self.payload.len()) as u16;
        let mut udp = Vec::new();
        udp.extend(self.source_port.to_be_bytes());
        udp.extend(self.destination_port.to_be_bytes());
        udp.extend(length.to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(&self.payload);
        let mut pseudo = Vec::new();
        for address in [self.source, self.destination] {
            match address {
                IpAddr::V4(ip) => pseudo.extend(ip.octets()),
                IpAddr::V6(ip) => pseudo.extend(ip.octets()),
            }
        }
        pseudo.extend([0, 17]);
        pseudo.extend(length.to_be_bytes());
        pseudo.extend(&udp);
        let sum = match checksum(&pseudo) {
            [0, 0] => [0xff, 0xff],
            sum => sum,
        };
        udp[6..8].copy_from_slice(&sum);
        udp
    }

    /// The octets on the wire, without padding.
    ///
    /// # Panics
    /// If the addresses are of different families.
    pub fn octets(&self) -> Vec<u8> {
        let udp = self.udp();
        let mut frame = Vec::new();
        frame.extend(self.to);
        frame.extend(self.from);
        for (tpid, tci) in &self.tags {
            frame.extend(tpid.to_be_bytes());
            frame.extend(tci.to_be_bytes());
        }
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([0x08, 0x00]);
                let mut ip = vec![0x45, self.tos];
                ip.extend(((20 + udp.len()) as u16).to_be_bytes());
                ip.extend([0, 0, 0x40, 0, self.ttl, 17, 0, 0]);
                ip.extend(source.octets());
                ip.extend(destination.octets());
                let sum = checksum(&ip);
                ip[10..12].copy_from_slice(&sum);
                frame.extend(ip);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend([0x86, 0xdd]);
                frame.extend([0x60 | self.tos >> 4, self.tos << 4, 0, 0]);
                frame.extend((udp.len() as u16).to_be_bytes());
                frame.extend([17, self.ttl]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            _ => panic!("addresses of two families"),
        }
        frame.extend(udp);
        frame
    }

    /// The source port of a UDP datagram in a frame, if it is one without tags.
    pub fn source_port(octets: &[u8]) -> Option<u16> {
        let udp = match octets.get(12..14)? {
            [0x08, 0x00] if octets.get(23) == Some(&17) => 34,
            [0x86, 0xdd] if octets.get(20) == Some(&17) => 54,
            _ => return None,
        };
        let port = octets.get(udp..udp + 2)?;
        Some(u16::from_be_bytes([port[0], port[1]]))
    }

    /// Reads what [`Self::octets`] writes.
    ///
    /// # Errors
    /// Says what is wrong with the frame: a length, a checksum, octets too many.
    pub fn read(octets: &[u8]) -> Result<Self, String> {
        let get = |range: std::ops::Range<usize>| {
            octets
                .get(range.clone())
                .ok_or_else(|| format!("frame ends before {range:?}"))
        };
        let number = |at: usize| get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
        let mut tags = Vec::new();
        let mut at = 12;
        while [0x8100, 0x88a8].contains(&number(at)?) {
            tags.push((number(at)?, number(at + 2)?));
            at += 4;
        }
        let ethertype = number(at)?;
        let ip = at + 2;
        let (udp, source, destination, ttl, tos, length) = match ethertype {
            0x0800 => {
                let header = get(ip..ip + 20)?;
                if header[0] != 0x45 || header[9] != 17 {
                    return Err(format!("no plain IPv4 UDP header: {header:?}"));
                }
                if sum(header) != 0xffff {
                    return Err(format!("bad IPv4 header checksum: {header:?}"));
                }
                let octets = |at| <[u8; 4]>::try_from(&header[at..at + 4]).expect("four octets");
                let source: IpAddr = Ipv4Addr::from(octets(12)).into();
                let destination: IpAddr = Ipv4Addr::from(octets(16)).into();
                let length = usize::from(number(ip + 2)?) - 20;
                (ip + 20, source, destination, header[8], header[1], length)
            }
            0x86dd => {
                let header = get(ip..ip + 40)?;
                if header[0] >> 4 != 6 || header[6] != 17 {
                    return Err(format!("no plain IPv6 UDP header: {header:?}"));
                }
                let octets = |at| <[u8; 16]>::try_from(&header[at..at + 16]).expect("16 octets");
                let source: IpAddr = Ipv6Addr::from(octets(8)).into();
                let destination: IpAddr = Ipv6Addr::from(octets(24)).into();
                let tos = header[0] << 4 | header[1] >> 4;
                (
                    ip + 40,
                    source,
                    destination,
                    header[7],
                    tos,
                    usize::from(number(ip + 4)?),
                )
            }
            other => return Err(format!("ethertype {other:04x}")),
        };
        if usize::from(number(udp + 4)?) != length || octets.len() != udp + length {
            return Err(format!(
                "lengths: UDP {}, IP {length}, frame {}",
                number(udp + 4)?,
                octets.len()
            ));
        }
        let address = |at| <[u8; 6]>::try_from(get(at..at + 6)?).map_err(|e| e.to_string());
        let frame = Self {
            to: address(0)?,
            from: address(6)?,
            tags,
            source,
            destination,
            ttl,
            tos,
            source_port: number(udp)?,
            destination_port: number(udp + 2)?,
            payload: get(udp + 8..udp + length)?.to_vec(),
        };
        let given = number(udp + 6)?;
        let right = u16::from_be_bytes([frame.udp()[6], frame.udp()[7]]);
        if given != right {
            return Err(format!("UDP checksum {given:04x}, must be {right:04x}"));
        }
        Ok(frame)
    }

    /// The frame that a response to this one comes in.
    #[must_use]
    pub fn reply(&self, payload: Vec<u8>) -> Self {
        Self {
            to: self.from,
            from: self.to,
            tags: self.tags.clone(),
            source: self.destination,
            destination: self.source,
            ttl: 64,
            tos: 0,
            source_port: self.destination_port,
            destination_port: self.source_port,
            payload,
        }
    }
}
