//! A name server to forward to, whose behaviour the first label of the question chooses.
//!
//! `nxdomain`, `servfail`, `refused` and `nodata` give that; `timeout` gives nothing; `badid` and
//! `badname` give another id or question, and nothing after; `forged` gives both and then the true
//! response; `manyN` gives N addresses, cut with TC over UDP where they do not fit; `tc` sets TC
//! over UDP; anything else gives one address.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// The TTL of every record given.
pub const TTL: u32 = 77;

/// A running name server on loopback. Its threads end with the test's process.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Where it listens, over UDP and TCP.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// A query as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The message.
    pub message: Vec<u8>,
    /// The client's address and port.
    pub from: SocketAddr,
    /// Whether it came over TCP.
    pub tcp: bool,
}

impl Upstream {
    /// Starts a server that gives `answer` as the first address.
    ///
    /// # Errors
    ///
    /// No port can be had.
    pub fn start(answer: Ipv4Addr) -> io::Result<Self> {
        let (udp, tcp) = bind_both()?;
        let upstream = Self {
            address: udp.local_addr()?,
            seen: Arc::default(),
        };
        let server = upstream.clone();
        thread::spawn(move || server.serve_udp(&udp, answer));
        let server = upstream.clone();
        thread::spawn(move || server.serve_tcp(&tcp, answer));
        Ok(upstream)
    }

    /// The queries so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn note(&self, message: &[u8], from: SocketAddr, tcp: bool) {
        let message = message.to_vec();
        let seen = Seen { message, from, tcp };
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(seen);
    }

    fn serve_udp(&self, socket: &UdpSocket, answer: Ipv4Addr) {
        let mut buffer = [0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let query = buffer.get(..len).unwrap_or_default();
            self.note(query, from, false);
            for response in respond(query, answer, Some(udp_limit(query))) {
                let _ = socket.send_to(&response, from);
            }
        }
    }

    fn serve_tcp(&self, listener: &TcpListener, answer: Ipv4Addr) {
        while let Ok((stream, from)) = listener.accept() {
            let _ = self.serve_stream(stream, from, answer);
        }
    }

    fn serve_stream(
        &self,
        mut stream: TcpStream,
        from: SocketAddr,
        answer: Ipv4Addr,
    ) -> io::Result<()> {
        let mut len = [0; 2];
        stream.read_exact(&mut len)?;
        let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut query)?;
        self.note(&query, from, true);
        for response in respond(&query, answer, None) {
            let len = u16::try_from(response.len()).unwrap_or_default();
            stream.write_all(&len.to_be_bytes())?;
            stream.write_all(&response)?;
        }
        Ok(())
    }
}

/// One port for both protocols; the kernel chooses it over UDP, and TCP may have it taken.
fn bind_both() -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..16 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        match TcpListener::bind(udp.local_addr()?) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The OPT record of every response to a query that has one.
const OPT: &[u8] = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";

/// The octets up to the end of the question.
fn question_end(query: &[u8]) -> Option<usize> {
    let mut at = 12;
    loop {
        match *query.get(at)? {
            0 => return Some(at + 5),
            len => at += 1 + usize::from(len),
        }
    }
}

/// The size in an OPT record right behind the question, or 512.
fn udp_limit(query: &[u8]) -> usize {
    let opt = question_end(query).and_then(|end| query.get(end..));
    match opt {
        Some([0, 0, 41, high, low, ..]) => usize::from(u16::from_be_bytes([*high, *low])).max(512),
        _ => 512,
    }
}

fn respond(query: &[u8], answer: Ipv4Addr, udp_limit: Option<usize>) -> Vec<Vec<u8>> {
    let Some(question) = question_end(query).and_then(|end| query.get(..end)) else {
        return Vec::new();
    };
    let len = usize::from(question.get(12).copied().unwrap_or_default());
    let label = question.get(13..13 + len).unwrap_or_default();
    let label = String::from_utf8_lossy(label).to_ascii_lowercase();
    let many = label.strip_prefix("many").and_then(|n| n.parse().ok());
    let with_opt = query.get(11).is_some_and(|count| *count > 0);
    let with_addresses = |rcode: u8, count: u32, udp_limit: Option<usize>| {
        let mut out = with_addresses(question, rcode, answer, count, udp_limit);
        if with_opt {
            out.extend_from_slice(OPT);
            if let Some(additionals) = out.get_mut(11) {
                *additionals = 1;
            }
        }
        out
    };
    let good = |count: u32| with_addresses(0, count, udp_limit.map(|limit| limit - OPT.len()));
    let mut other_id = good(1);
    if let Some(octet) = other_id.first_mut() {
        *octet ^= 0xff;
    }
    let mut other_name = good(1);
    if let Some(octet) = other_name.get_mut(13) {
        *octet ^= 1;
    }
    match label.as_str() {
        "timeout" => vec![],
        "nxdomain" => vec![with_addresses(3, 0, None)],
        "servfail" => vec![with_addresses(2, 0, None)],
        "refused" => vec![with_addresses(5, 0, None)],
        "nodata" => vec![good(0)],
        "badid" => vec![other_id],
        "badname" => vec![other_name],
        "forged" => vec![other_id, other_name, good(1)],
        "tc" if udp_limit.is_some() => {
            let mut cut = good(1);
            if let Some(flags) = cut.get_mut(2) {
                *flags |= 0b10;
            }
            vec![cut]
        }
        _ => vec![good(many.unwrap_or(1))],
    }
}

fn with_addresses(
    question: &[u8],
    rcode: u8,
    first: Ipv4Addr,
    count: u32,
    udp_limit: Option<usize>,
) -> Vec<u8> {
    let limit = udp_limit.unwrap_or(usize::from(u16::MAX));
    let fitting = limit.saturating_sub(question.len()) / 16;
    let sent = count.min(u32::try_from(fitting).unwrap_or(u32::MAX));
    let mut out = question.to_vec();
    let truncation = if sent < count { 0b10 } else { 0 };
    let rd = question.get(2).map_or(0, |flags| flags & 1);
    let counts = u16::try_from(sent).unwrap_or_default().to_be_bytes();
    let header = [
        0x80 | truncation | rd,
        0x80 | rcode,
        0,
        1,
        counts[0],
        counts[1],
        0,
        0,
        0,
        0,
    ];
    for (slot, octet) in out.iter_mut().skip(2).zip(header) {
        *slot = octet;
    }
    for n in 0..sent {
        out.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
        out.extend_from_slice(&TTL.to_be_bytes());
        out.extend_from_slice(&[0, 4]);
        out.extend_from_slice(&(u32::from(first) + n).to_be_bytes());
    }
    out
}
