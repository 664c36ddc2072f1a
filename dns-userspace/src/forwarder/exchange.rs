//! One question to one upstream, and what is taken for its response (RFC 5452, section 9).
//!
//! Each question has a socket of its own with a port that the kernel chooses at random out of
//! `ip_local_port_range` (a wider range would take ports that tasks of the cluster are given), an
//! id at random, and letters in random case. The socket is connected, so that what comes from
//! another address or port never arrives.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket as StdSocket};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::ask::Ask;
use super::response::{Response, is_truncated};
use super::upstream::{Upstream, add};
use crate::answers::query::HEADER_OCTETS;
use crate::answers::{Rcode, Transport};

/// Datagrams that do not answer the question, after which it goes over TCP: somebody is guessing.
const MISMATCHES: usize = 3;
/// More than we offer to take. A datagram that fills it is taken for cut.
const BUFFER_OCTETS: usize = 4096;
/// A connection is used again within this time (RFC 7766, section 6.2.3).
const IDLE: Duration = Duration::from_secs(4);

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Silence, or the network says that nobody is there.
    #[error("no response: {0}")]
    Unreachable(io::Error),
    /// There was something, and it was no use.
    #[error("no usable response: {0}")]
    Broken(io::Error),
    /// It is ourselves.
    #[error("the upstream is this server itself")]
    Loop,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::TimedOut
            | Kind::ConnectionRefused
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable => Self::Unreachable(error),
            _ => Self::Broken(error),
        }
    }
}

/// What a message is to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// Its response.
    Exact,
    /// Its response but for the case of letters.
    CaseLost,
    /// Nothing.
    Other,
}

/// What came over UDP.
enum Datagram {
    Response(Vec<u8>),
    CaseLost,
    /// So many others that it is better not to wait.
    Doubtful,
}

/// Asks and notes what came of it. `own` are the addresses we listen at.
pub(super) async fn ask(
    upstream: &Arc<Upstream>,
    ask: &Ask,
    own: &[SocketAddr],
) -> Result<Response, Failure> {
    add(&upstream.counts.tries);
    let exchange = Exchange { upstream, ask, own };
    let mut packets = 1;
    let result = exchange.run(&mut packets).await;
    match &result {
        Ok(response) => {
            upstream.note_success(response.rcode);
            if !response.is_final() {
                add(&upstream.counts.failures);
            }
        }
        Err(error) => {
            tracing::debug!(upstream = %upstream.address, %error, "forwarding");
            upstream.note_failure(packets);
        }
    }
    result
}

struct Exchange<'a> {
    upstream: &'a Arc<Upstream>,
    ask: &'a Ask,
    own: &'a [SocketAddr],
}

impl Exchange<'_> {
    /// Asks, without EDNS if the upstream shows that it does not know it (RFC 6891, section 7).
    async fn run(&self, packets: &mut u32) -> Result<Response, Failure> {
        let now = self.upstream.clock.now();
        let with_edns = !self.upstream.lacks_edns.is_known(now);
        let response = self.over_any(with_edns, packets).await?;
        let is_refused = matches!(response.rcode, Rcode::FORMERR | Rcode::NOTIMP);
        if !with_edns || !is_refused || response.has_opt {
            return Ok(response);
        }
        let plain = self.over_any(false, packets).await?;
        if !matches!(plain.rcode, Rcode::FORMERR | Rcode::NOTIMP) {
            self.upstream.lacks_edns.note(now);
        }
        Ok(plain)
    }

    /// Asks over the transport the client used, and again over TCP where a response over UDP is
    /// truncated or in doubt. If that fails a truncated response is better than none.
    async fn over_any(&self, with_edns: bool, packets: &mut u32) -> Result<Response, Failure> {
        let question = self.question();
        let octets = match self.ask.transport {
            Transport::Udp => match self.over_udp(&question, with_edns, packets).await? {
                Datagram::Response(octets) if is_truncated(&octets) => {
                    let whole = self.over_tcp(&question, with_edns).await;
                    whole.unwrap_or(octets)
                }
                Datagram::Response(octets) => octets,
                Datagram::Doubtful => self.over_tcp(&question, with_edns).await?,
                Datagram::CaseLost => self.without_case(&question, with_edns, packets).await?,
            },
            _ => self.over_tcp(&question, with_edns).await?,
        };
        Response::read(octets, &question)
            .ok_or_else(|| Failure::Broken(io::ErrorKind::InvalidData.into()))
    }

    /// The question as it is sent.
    fn question(&self) -> Vec<u8> {
        if self.upstream.lacks_case.is_known(self.upstream.clock.now()) {
            self.ask.question()
        } else {
            self.ask.question_in_random_case()
        }
    }

    /// A response had all but the case of letters: forged, or from an upstream that does not give
    /// it back. Over TCP nobody forges; without TCP the question goes out once more in lower case,
    /// with another id and port.
    async fn without_case(
        &self,
        question: &[u8],
        with_edns: bool,
        packets: &mut u32,
    ) -> Result<Vec<u8>, Failure> {
        if let Ok(octets) = self.over_tcp(question, with_edns).await {
            return Ok(octets);
        }
        let folded = self.ask.question();
        match self.over_udp(&folded, with_edns, packets).await? {
            Datagram::Response(octets) => {
                self.upstream.lacks_case.note(self.upstream.clock.now());
                Ok(octets)
            }
            _ => Err(Failure::Broken(io::ErrorKind::InvalidData.into())),
        }
    }

    async fn over_udp(
        &self,
        question: &[u8],
        with_edns: bool,
        packets: &mut u32,
    ) -> Result<Datagram, Failure> {
        let socket = udp_socket(self.upstream.address)?;
        let local = || Ok(socket.local_addr()?.ip());
        if is_ourselves(local, self.upstream.address, self.own)? {
            return Err(Failure::Loop);
        }
        let id = rand::random();
        let message = self.ask.message(id, question, with_edns);
        let start = Instant::now();
        let deadline = start + self.upstream.timeout;
        let mut pause = self.upstream.resend_after();
        let mut resend = start + pause;
        *packets = 1;
        send(&socket, &message)?;
        // After that, and to read only: tokio would first wait to be told that there is room.
        // SAFETY: the socket owns one descriptor for as long as it lives, and lives in here.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        let socket = socket.map_err(io::Error::from)?;
        let mut buffer = vec![0; BUFFER_OCTETS];
        let mut mismatches = 0;
        loop {
            let receiving = socket.async_io(Interest::READABLE, |one| one.recv(&mut buffer));
            let received = timeout_at(resend.min(deadline), receiving).await;
            let Ok(received) = received else {
                if resend >= deadline {
                    return Err(io::Error::from(io::ErrorKind::TimedOut).into());
                }
                pause *= 2;
                resend += pause;
                *packets += 1;
                add(&self.upstream.counts.resent);
                send(socket.get_ref(), &message)?;
                continue;
            };
            let octets = buffer.get(..received?).unwrap_or_default();
            match matching(octets, id, question) {
                Match::Exact if octets.len() == BUFFER_OCTETS => return Ok(Datagram::Doubtful),
                Match::Exact => {
                    // Which of several copies was answered cannot be known (RFC 6298, section 3).
                    if *packets == 1 {
                        self.upstream.note_time(start.elapsed());
                    }
                    return Ok(Datagram::Response(octets.to_vec()));
                }
                Match::CaseLost => {
                    add(&self.upstream.counts.mismatches);
                    return Ok(Datagram::CaseLost);
                }
                // It may be forged; the true response may be on its way.
                Match::Other => {
                    add(&self.upstream.counts.mismatches);
                    mismatches += 1;
                    if mismatches >= MISMATCHES {
                        return Ok(Datagram::Doubtful);
                    }
                }
            }
        }
    }

    /// Over the connection of the question before, or else over one of its own.
    async fn over_tcp(&self, question: &[u8], with_edns: bool) -> Result<Vec<u8>, Failure> {
        add(&self.upstream.counts.over_tcp);
        let id = rand::random();
        let message = self.ask.message(id, question, with_edns);
        let bound = self.upstream.timeout;
        if let Some(stream) = take_idle(self.upstream) {
            // The upstream may have closed it, or forgotten it.
            let again = timeout(bound / 2, self.on_stream(stream, id, question, &message));
            if let Ok(Ok(octets)) = again.await {
                return Ok(octets);
            }
        }
        let fresh = async {
            let stream = TcpStream::connect(self.upstream.address).await?;
            let local = || Ok(stream.local_addr()?.ip());
            if is_ourselves(local, self.upstream.address, self.own)? {
                return Err(Failure::Loop);
            }
            self.on_stream(stream, id, question, &message).await
        };
        timeout(bound, fresh)
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }

    async fn on_stream(
        &self,
        mut stream: TcpStream,
        id: u16,
        question: &[u8],
        message: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let len = u16::try_from(message.len())
            .map_err(|_| Failure::Broken(io::ErrorKind::InvalidInput.into()))?;
        let mut framed = len.to_be_bytes().to_vec();
        framed.extend_from_slice(message);
        stream.write_all(&framed).await?;
        let len = stream.read_u16().await?;
        let mut octets = vec![0; usize::from(len)];
        stream.read_exact(&mut octets).await?;
        match matching(&octets, id, question) {
            Match::Exact => {}
            Match::CaseLost => self.upstream.lacks_case.note(self.upstream.clock.now()),
            Match::Other => return Err(Failure::Broken(io::ErrorKind::InvalidData.into())),
        }
        put_idle(self.upstream, stream);
        Ok(octets)
    }
}

/// A connection that was used a moment ago.
fn take_idle(upstream: &Upstream) -> Option<TcpStream> {
    let mut idle = upstream.idle.lock().unwrap_or_else(PoisonError::into_inner);
    idle.take().map(|(stream, _)| stream)
}

/// Keeps a connection for a while.
fn put_idle(upstream: &Arc<Upstream>, stream: TcpStream) {
    let now = upstream.clock.now();
    let mut idle = upstream.idle.lock().unwrap_or_else(PoisonError::into_inner);
    *idle = Some((stream, now));
    drop(idle);
    let upstream = Arc::downgrade(upstream);
    tokio::spawn(async move {
        tokio::time::sleep(IDLE).await;
        if let Some(upstream) = upstream.upgrade() {
            let mut idle = upstream.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.as_ref().is_some_and(|(_, since)| *since == now) {
                *idle = None;
            }
        }
    });
}

/// Whether what goes to `upstream` from `local` arrives at a socket of ours: the host sends from
/// the very address it sends to, or on loopback, and we listen there. Addresses come and go, so it
/// is looked at with each question, where we listen at such a place at all.
fn is_ourselves(
    local: impl FnOnce() -> io::Result<IpAddr>,
    upstream: SocketAddr,
    own: &[SocketAddr],
) -> io::Result<bool> {
    let listens = own.iter().any(|own| {
        let is_wildcard = own.ip().is_unspecified() && own.is_ipv4() == upstream.is_ipv4();
        own.port() == upstream.port() && (is_wildcard || own.ip() == upstream.ip())
    });
    Ok(listens && (upstream.ip().is_loopback() || local()? == upstream.ip()))
}

/// A socket of its own towards an upstream, whose port the kernel chooses as it connects. Its
/// datagrams are never held to a path MTU that somebody claims by ICMP.
fn udp_socket(upstream: SocketAddr) -> io::Result<StdSocket> {
    let socket = Socket::new(
        Domain::for_address(upstream),
        Type::DGRAM.nonblocking(),
        Some(Protocol::UDP),
    )?;
    ignore_path_mtu(&socket, upstream.is_ipv4())?;
    socket.connect(&upstream.into())?;
    Ok(socket.into())
}

/// Sends a datagram. One for which the kernel has no room is lost as others are, and sent again.
fn send(socket: &StdSocket, message: &[u8]) -> io::Result<()> {
    match socket.send(message) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        sent => sent.map(drop),
    }
}

fn ignore_path_mtu(socket: &Socket, is_ipv4: bool) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // IP_PMTUDISC_OMIT and IPV6_PMTUDISC_OMIT.
    const OMIT: libc::c_int = 5;
    let (level, option) = if is_ipv4 {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)
    };
    // SAFETY: the value is an int of the stated length that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(&OMIT).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What a message is to our question: its response has QR set, our id, opcode QUERY, and the
/// question octet for octet. A bare header is taken, with an error, from a server that could not
/// read the question.
pub(super) fn matching(message: &[u8], id: u16, question: &[u8]) -> Match {
    let Some((header, rest)) = message.split_first_chunk::<HEADER_OCTETS>() else {
        return Match::Other;
    };
    let [id0, id1, flags, low, count0, count1, ..] = *header;
    if [id0, id1] != id.to_be_bytes() || flags & 0xf8 != 0x80 {
        return Match::Other;
    }
    match (
        u16::from_be_bytes([count0, count1]),
        rest.get(..question.len()),
    ) {
        (0, _) if rest.is_empty() && !matches!(low & 0xf, 0 | 3 | 6) => Match::Exact,
        (1, Some(echoed)) if echoed == question => Match::Exact,
        (1, Some(echoed)) if echoed.eq_ignore_ascii_case(question) => Match::CaseLost,
        _ => Match::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: &[u8] = b"\x03wEb\x07exAmple\x00\x00\x01\x00\x01";

    fn matched(change: impl FnOnce(&mut Vec<u8>)) -> Match {
        let mut message = b"\xbe\xef\x81\x80\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
        message.extend_from_slice(QUESTION);
        change(&mut message);
        matching(&message, 0xbeef, QUESTION)
    }

    #[test]
    fn rfc5452_9_1_only_our_id_and_question_are_taken() {
        assert_eq!(matched(|_| {}), Match::Exact);
        assert_eq!(matched(|message| message[14] = b'e'), Match::CaseLost);
        type Change = fn(&mut Vec<u8>);
        let others: [(&str, Change); 9] = [
            ("another id", |message| message[0] = 0),
            ("a query", |message| message[2] = 0x01),
            ("another opcode", |message| message[2] = 0xa1),
            ("another name", |message| message[13] = b'x'),
            ("another type", |message| message[26] = 28),
            ("another class", |message| message[28] = 3),
            ("two questions", |message| message[5] = 2),
            ("a cut question", |message| message.truncate(20)),
            ("less than a header", |message| message.truncate(11)),
        ];
        for (what, change) in others {
            assert_eq!(matched(change), Match::Other, "{what}");
        }
    }

    #[test]
    fn a_bare_header_is_taken_with_an_error_only() {
        let bare = |rcode: u8| {
            move |message: &mut Vec<u8>| {
                message.truncate(HEADER_OCTETS);
                message[3] = rcode;
                message[5] = 0;
            }
        };
        assert_eq!(matched(bare(1)), Match::Exact);
        assert_eq!(matched(bare(2)), Match::Exact);
        assert_eq!(matched(bare(0)), Match::Other);
        assert_eq!(matched(bare(3)), Match::Other);
    }

    #[test]
    fn an_upstream_that_became_our_own_address_is_seen() {
        let own: Vec<SocketAddr> = ["0.0.0.0:53", "[2001:db8::1]:53"]
            .iter()
            .map(|one| one.parse().unwrap())
            .collect();
        let is_ours = |local: &str, upstream: &str| {
            let local = || Ok(local.parse().unwrap());
            is_ourselves(local, upstream.parse().unwrap(), &own).unwrap()
        };
        assert!(is_ours("192.0.2.1", "192.0.2.1:53"));
        assert!(is_ours("127.0.0.1", "127.0.0.2:53"));
        assert!(is_ours("2001:db8::1", "[2001:db8::1]:53"));
        assert!(
            !is_ours("192.0.2.1", "192.0.2.1:5353"),
            "another server here"
        );
        assert!(!is_ours("192.0.2.1", "192.0.2.2:53"), "another host");
        assert!(!is_ours("::1", "[::1]:53"), "we listen elsewhere");
    }

    #[test]
    fn path_mtu_is_left_to_the_interface() {
        use std::os::fd::AsRawFd;
        for (upstream, level, option) in [
            ("127.0.0.1:9", libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
            ("[::1]:9", libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
        ] {
            let Ok(socket) = udp_socket(upstream.parse().unwrap()) else {
                // A host without IPv6.
                continue;
            };
            let mut value: libc::c_int = 0;
            let mut len = size_of::<libc::c_int>() as libc::socklen_t;
            // SAFETY: the value and its length are valid for the call.
            let result = unsafe {
                libc::getsockopt(
                    socket.as_raw_fd(),
                    level,
                    option,
                    std::ptr::from_mut(&mut value).cast(),
                    &raw mut len,
                )
            };
            assert_eq!((result, value), (0, 5));
        }
    }
}
