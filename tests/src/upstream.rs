//! A name server to forward to, whose behaviour the first label of the question chooses.
//!
//! `nxdomain`, `servfail`, `refused` and `nodata` give that; `timeout` gives nothing; `badid` and
//! `badname` give another id or question, and nothing after; `forged` gives both and then the true
//! response; `manyN` gives N addresses, cut with TC over UDP where they do not fit; `tc` sets TC
//! over UDP; `ttlN` gives one address for N seconds; `nxsoaN` and `nosoaN` deny name and type with
//! an SOA whose minimum is N seconds; `lower` gives back the question in lower case; `noedns` knows
//! no EDNS; `guess` gives three wrong ids over UDP and nothing after; anything else gives one
//! address.
//!
//! The whole server can be made to hold its responses over UDP or to be silent, to spoil what it
//! says, and to speak octets of the test's own.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// The TTL of every record given.
pub const TTL: u32 = 77;

/// A running name server on loopback. Its threads end with the test's process.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Where it listens, over UDP and TCP.
    pub address: SocketAddr,
    socket: Arc<UdpSocket>,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<Mutex<Script>>,
}

/// What the server as a whole does.
#[derive(Debug)]
struct Script {
    answer: Ipv4Addr,
    is_silent: bool,
    is_holding: bool,
    held: Vec<(Vec<u8>, SocketAddr)>,
    spoil: Option<Spoil>,
}

/// Changes a response, whose question ends at that octet.
pub type Spoil = fn(&mut Vec<u8>, usize);

impl Script {
    /// The responses to a query.
    fn respond(&self, query: &[u8], udp_limit: Option<usize>) -> Vec<Vec<u8>> {
        if self.is_silent {
            return Vec::new();
        }
        let mut responses = respond(query, self.answer, udp_limit);
        if let Some((spoil, end)) = self.spoil.zip(question_end(query)) {
            for response in &mut responses {
                spoil(response, end);
            }
        }
        responses
    }
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
            socket: Arc::new(udp),
            seen: Arc::default(),
            script: Arc::new(Mutex::new(Script {
                answer,
                is_silent: false,
                is_holding: false,
                held: Vec::new(),
                spoil: None,
            })),
        };
        let server = upstream.clone();
        thread::spawn(move || server.serve_udp());
        let server = upstream.clone();
        thread::spawn(move || server.serve_tcp(&tcp));
        Ok(upstream)
    }

    /// Gives another first address from the next query on.
    pub fn set_answer(&self, answer: Ipv4Addr) {
        self.script().answer = answer;
    }

    /// Whether it takes queries and says nothing, over UDP and TCP.
    pub fn set_silent(&self, is_silent: bool) {
        self.script().is_silent = is_silent;
    }

    /// Has every response spoilt in this way, or none.
    pub fn set_spoil(&self, spoil: Option<Spoil>) {
        self.script().spoil = spoil;
    }

    /// Keeps responses over UDP back until [`release`](Self::release).
    pub fn hold(&self) {
        self.script().is_holding = true;
    }

    /// Sends what was kept back, and goes on as usual.
    pub fn release(&self) {
        let mut script = self.script();
        script.is_holding = false;
        for (response, to) in script.held.drain(..) {
            self.send(&response, to);
        }
    }

    /// The responses kept back, and whom they are for.
    pub fn held(&self) -> Vec<(Vec<u8>, SocketAddr)> {
        self.script().held.clone()
    }

    /// Sends octets from its own address and port.
    pub fn send(&self, octets: &[u8], to: SocketAddr) {
        let _ = self.socket.send_to(octets, to);
    }

    /// Waits until so many queries were seen, at most half a minute; gives those there are.
    pub fn wait_for(&self, count: usize) -> Vec<Seen> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let seen = self.seen();
            if seen.len() >= count || Instant::now() > deadline {
                return seen;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn serve_udp(&self) {
        let mut buffer = [0; 4096];
        while let Ok((len, from)) = self.socket.recv_from(&mut buffer) {
            let query = buffer.get(..len).unwrap_or_default();
            let mut script = self.script();
            let responses = script.respond(query, Some(udp_limit(query)));
            let is_holding = script.is_holding;
            if is_holding {
                let held = responses.iter().map(|response| (response.clone(), from));
                script.held.extend(held);
            }
            drop(script);
            // Before anything is sent, so that whoever has a response finds its query.
            self.note(query, from, false);
            for response in responses.iter().filter(|_| !is_holding) {
                self.send(response, from);
            }
        }
    }

    fn serve_tcp(&self, listener: &TcpListener) {
        while let Ok((stream, from)) = listener.accept() {
            let server = self.clone();
            thread::spawn(move || while server.serve_message(&stream, from).is_ok() {});
        }
    }

    fn serve_message(&self, mut stream: &TcpStream, from: SocketAddr) -> io::Result<()> {
        let mut len = [0; 2];
        stream.read_exact(&mut len)?;
        let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut query)?;
        self.note(&query, from, true);
        let responses = self.script().respond(&query, None);
        for response in responses {
            let len = u16::try_from(response.len()).unwrap_or_default();
            stream.write_all(&[&len.to_be_bytes(), response.as_slice()].concat())?;
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
    let number = |prefix| label.strip_prefix(prefix).and_then(|n| n.parse().ok());
    let many = number("many");
    let ttl = number("ttl").unwrap_or(TTL);
    let with_opt = query.get(11).is_some_and(|count| *count > 0);
    let with_addresses = |rcode: u8, count: u32, udp_limit: Option<usize>| {
        let mut out = with_addresses(question, rcode, (answer, ttl), count, udp_limit);
        if let Some(minimum) = number("nxsoa").or(number("nosoa")) {
            add_soa(&mut out, minimum);
        }
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
    let mut lower = good(1);
    if let Some(name) = lower.get_mut(12..question.len()) {
        name.make_ascii_lowercase();
    }
    if label == "noedns" && with_opt {
        // As a server of RFC 1035 alone does: the header, and what it could read.
        let mut refused = question.to_vec();
        for (slot, octet) in refused.iter_mut().skip(2).zip([0x81, 0x81, 0, 1]) {
            *slot = octet;
        }
        for slot in refused.iter_mut().skip(6).take(6) {
            *slot = 0;
        }
        return vec![refused];
    }
    match label.as_str() {
        "timeout" => vec![],
        "lower" => vec![lower],
        "guess" if udp_limit.is_some() => vec![other_id; 3],
        _ if number("nxsoa").is_some() => vec![with_addresses(3, 0, None)],
        _ if number("nosoa").is_some() => vec![with_addresses(0, 0, None)],
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
    (first, ttl): (Ipv4Addr, u32),
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
        out.extend_from_slice(&ttl.to_be_bytes());
        out.extend_from_slice(&[0, 4]);
        out.extend_from_slice(&(u32::from(first) + n).to_be_bytes());
    }
    out
}

/// Adds the SOA of the question's name to the authority section: TTL 3600, and this minimum.
fn add_soa(out: &mut Vec<u8>, minimum: u32) {
    if let Some(authorities) = out.get_mut(9) {
        *authorities = 1;
    }
    out.extend_from_slice(b"\xc0\x0c\x00\x06\x00\x01\x00\x00\x0e\x10\x00\x18\xc0\x0c\xc0\x0c");
    for field in [1, 2, 3, 4, minimum] {
        out.extend_from_slice(&u32::to_be_bytes(field));
    }
}
