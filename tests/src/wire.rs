//! A client of raw octets, for what dig cannot ask or asks too slowly, and a look at what it gets.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result};
use dns_userspace::zones::Name;
use hickory_proto::{
    op::Message,
    rr::{RData, Record, RecordType},
    serialize::binary::BinDecodable,
};

/// How long a response may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A query in the making: RD is set, and there is no EDNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The message id.
    pub id: u16,
    /// The header's flags.
    pub flags: u16,
    /// The name, in its letter case.
    pub name: Vec<u8>,
    /// The type.
    pub rtype: u16,
    /// The OPT record's flags and options, if there is one.
    pub edns: Option<(u16, Vec<u8>)>,
}

/// The DO bit among the flags of an OPT record.
pub const DNSSEC_OK: u16 = 0x8000;
/// CD among the flags of a header.
pub const CHECKING_DISABLED: u16 = 0x0010;
/// AD among the flags of a header.
pub const AUTHENTIC_DATA: u16 = 0x0020;

impl Query {
    /// Asks for a name and type.
    ///
    /// # Errors
    ///
    /// It is no name, or no type.
    pub fn new(id: u16, name: &str, rtype: &str) -> Result<Self> {
        // The wire form is folded; the letter case of the text goes back into it.
        let mut wire = Name::from_text(name)?.wire().to_vec();
        let labels = name.trim_end_matches('.').split('.');
        let mut at = 0;
        for label in labels {
            if let Some(slot) = wire.get_mut(at + 1..at + 1 + label.len()) {
                slot.copy_from_slice(label.as_bytes());
            }
            at += 1 + label.len();
        }
        let rtype = match rtype.strip_prefix("TYPE") {
            // RFC 3597, section 5.
            Some(number) => number.parse()?,
            None => u16::from(rtype.parse::<RecordType>()?),
        };
        Ok(Self {
            id,
            flags: 0x0100,
            name: wire,
            rtype,
            edns: None,
        })
    }

    /// With an OPT record.
    #[must_use]
    pub fn edns(mut self, flags: u16, options: &[u8]) -> Self {
        self.edns = Some((flags, options.to_vec()));
        self
    }

    /// The message.
    pub fn octets(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let additionals = u16::from(self.edns.is_some());
        for field in [self.id, self.flags, 1, 0, 0, additionals] {
            out.extend_from_slice(&field.to_be_bytes());
        }
        out.extend_from_slice(&self.name);
        for field in [self.rtype, 1] {
            out.extend_from_slice(&field.to_be_bytes());
        }
        if let Some((flags, options)) = &self.edns {
            let len = u16::try_from(options.len()).unwrap_or_default();
            out.push(0);
            for field in [41, 1232, 0, *flags, len] {
                out.extend_from_slice(&field.to_be_bytes());
            }
            out.extend_from_slice(options);
        }
        out
    }
}

/// A response as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The message.
    pub octets: Vec<u8>,
    /// The same, read by another program's code.
    pub message: Message,
}

impl Reply {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// It is no DNS message.
    pub fn read(octets: Vec<u8>) -> Result<Self> {
        let message = Message::from_bytes(&octets).context("reading a response")?;
        Ok(Self { octets, message })
    }

    /// The code in the header.
    pub fn rcode(&self) -> u8 {
        self.octets.get(3).map_or(0, |octet| octet & 0xf)
    }

    /// The header's flags, without the code.
    pub fn flags(&self) -> u16 {
        let octets = self.octets.get(2..4).unwrap_or_default();
        octets
            .iter()
            .fold(0, |flags, octet| flags << 8 | u16::from(*octet))
            & 0xfff0
    }

    /// The addresses in the answer section, in their order.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let address = |record: &Record| match record.data {
            RData::A(ref a) => Some(IpAddr::from(Ipv4Addr::from(*a))),
            RData::AAAA(ref aaaa) => Some(IpAddr::from(Ipv6Addr::from(*aaaa))),
            _ => None,
        };
        self.message.answers.iter().filter_map(address).collect()
    }

    /// The TTL of the first record of answer or authority section.
    pub fn ttl(&self) -> Option<u32> {
        let mut records = self.message.answers.iter().chain(&self.message.authorities);
        records.next().map(|record| record.ttl)
    }

    /// The code of the extended error (RFC 8914) in an OPT record at the end, without text.
    pub fn extended_error(&self) -> Option<u16> {
        self.message.edns.as_ref()?;
        match self.octets.as_slice() {
            [.., 0, 15, 0, 2, high, low] => Some(u16::from_be_bytes([*high, *low])),
            _ => None,
        }
    }
}

/// A socket that asks one server.
///
/// # Errors
///
/// None can be had.
pub fn client(server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Waits for a response.
///
/// # Errors
///
/// None came, or it is no DNS message.
pub fn receive(client: &UdpSocket) -> Result<Reply> {
    let mut buffer = [0; 4096];
    let len = client.recv(&mut buffer).context("waiting for a response")?;
    Reply::read(buffer.get(..len).unwrap_or_default().to_vec())
}

/// Asks over UDP, from a socket of its own.
///
/// # Errors
///
/// As [`receive`].
pub fn ask(server: SocketAddr, query: &Query) -> Result<Reply> {
    let client = client(server)?;
    client.send(&query.octets())?;
    receive(&client)
}

/// Asks over TCP, over a connection of its own.
///
/// # Errors
///
/// No connection, or no response.
pub fn ask_over_tcp(server: SocketAddr, query: &Query) -> Result<Reply> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let octets = query.octets();
    let len = u16::try_from(octets.len())?.to_be_bytes();
    stream.write_all(&[&len, octets.as_slice()].concat())?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut octets = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut octets)?;
    Reply::read(octets)
}
