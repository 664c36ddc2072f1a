//! One query to one upstream, and what is taken for its response.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::answers::query::HEADER_OCTETS;
use crate::answers::{Query, Rcode, Transport};

/// How long an upstream that failed is asked after the others.
const AVOIDED: Duration = Duration::from_secs(5);

const TC: u8 = 0b10;

/// A query and the upstream it goes to.
pub(super) struct Exchange<'q> {
    pub(super) upstream: SocketAddr,
    pub(super) query: &'q Query<'q>,
    /// The query as the client sent it.
    pub(super) message: &'q [u8],
    pub(super) timeout: Duration,
}

impl Exchange<'_> {
    /// Asks over the transport the client used, and again over TCP where a UDP response is
    /// truncated. If that fails the truncated response is better than none.
    pub(super) async fn run(&self, transport: Transport) -> io::Result<Vec<u8>> {
        match transport {
            Transport::Tcp => self.bounded(self.over_tcp()).await,
            Transport::Udp => {
                let response = self.bounded(self.over_udp()).await?;
                if response.get(2).is_some_and(|flags| flags & TC != 0) {
                    return Ok(self.bounded(self.over_tcp()).await.unwrap_or(response));
                }
                Ok(response)
            }
        }
    }

    async fn bounded(
        &self,
        exchange: impl Future<Output = io::Result<Vec<u8>>>,
    ) -> io::Result<Vec<u8>> {
        timeout(self.timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// From a socket of its own: its port is random, and since it is connected the kernel drops
    /// what comes from elsewhere (RFC 5452, section 9).
    async fn over_udp(&self) -> io::Result<Vec<u8>> {
        let any: SocketAddr = if self.upstream.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(self.upstream).await?;
        let id = rand::random();
        socket.send(&self.with_id(id)).await?;
        let mut buffer = vec![0; usize::from(u16::MAX)];
        loop {
            let len = socket.recv(&mut buffer).await?;
            let response = buffer.get(..len).unwrap_or_default();
            // Anything else may be forged; the true response may be on its way.
            if self.is_response(response, id) {
                return Ok(response.to_vec());
            }
        }
    }

    async fn over_tcp(&self) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.upstream).await?;
        let id = rand::random();
        let message = self.with_id(id);
        let len = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut framed = len.to_be_bytes().to_vec();
        framed.extend_from_slice(&message);
        stream.write_all(&framed).await?;
        let len = stream.read_u16().await?;
        let mut response = vec![0; usize::from(len)];
        stream.read_exact(&mut response).await?;
        if self.is_response(&response, id) {
            Ok(response)
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    fn with_id(&self, id: u16) -> Vec<u8> {
        let mut message = self.message.to_vec();
        for (slot, octet) in message.iter_mut().zip(id.to_be_bytes()) {
            *slot = octet;
        }
        message
    }

    /// Whether this is a response to our query: QR set, our id, opcode QUERY, and the question in
    /// any letter case. A bare header is taken from a server that could not read the question.
    fn is_response(&self, response: &[u8], id: u16) -> bool {
        let Some((header, rest)) = response.split_first_chunk::<HEADER_OCTETS>() else {
            return false;
        };
        let [id0, id1, flags, _, count0, count1, ..] = *header;
        if [id0, id1] != id.to_be_bytes() || flags & 0xf8 != 0x80 {
            return false;
        }
        match u16::from_be_bytes([count0, count1]) {
            0 => rest.is_empty() && !is_final(response),
            1 => {
                let question = self.query.question;
                rest.get(..question.len())
                    .is_some_and(|echoed| echoed.eq_ignore_ascii_case(question))
            }
            _ => false,
        }
    }
}

/// Whether a response decides the matter: the other codes say something of the upstream rather than
/// of the name, and another may know better.
pub(super) fn is_final(response: &[u8]) -> bool {
    let rcode = Rcode(response.get(3).map_or(2, |octet| u16::from(octet & 0xf)));
    matches!(rcode, Rcode::NOERROR | Rcode::NXDOMAIN | Rcode::YXDOMAIN)
}

/// Which upstreams failed of late, so that a dead one costs one timeout and not one per query.
#[derive(Debug)]
pub(super) struct Health {
    start: Instant,
    /// When each upstream last failed, in milliseconds since `start` and one; 0 for never.
    failed: HashMap<SocketAddr, AtomicU64>,
}

impl Health {
    pub(super) fn of(upstreams: impl Iterator<Item = SocketAddr>) -> Self {
        Self {
            start: Instant::now(),
            failed: upstreams.map(|one| (one, AtomicU64::new(0))).collect(),
        }
    }

    /// The upstreams as preferred, those that failed of late after the others.
    pub(super) fn in_order(&self, upstreams: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut ordered = upstreams.to_vec();
        // The sort is stable.
        ordered.sort_by_key(|upstream| self.failed_of_late(upstream));
        ordered
    }

    pub(super) fn note_failure(&self, upstream: SocketAddr) {
        self.note(upstream, self.elapsed() + 1);
    }

    pub(super) fn note_success(&self, upstream: SocketAddr) {
        self.note(upstream, 0);
    }

    fn note(&self, upstream: SocketAddr, value: u64) {
        if let Some(failed) = self.failed.get(&upstream) {
            failed.store(value, Ordering::Relaxed);
        }
    }

    fn failed_of_late(&self, upstream: &SocketAddr) -> bool {
        let failed = self.failed.get(upstream);
        let at = failed.map_or(0, |failed| failed.load(Ordering::Relaxed));
        let avoided = u64::try_from(AVOIDED.as_millis()).unwrap_or(u64::MAX);
        at != 0 && self.elapsed().saturating_sub(at) < avoided
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `web.example A IN`.
    const QUERY: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03Web\x07example\x00\x00\x01\x00\x01";

    fn taken(change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let query = Query::parse(QUERY).unwrap();
        let exchange = Exchange {
            upstream: "192.0.2.1:53".parse().unwrap(),
            query: &query,
            message: QUERY,
            timeout: Duration::from_secs(1),
        };
        let mut response = exchange.with_id(0xbeef);
        response[2] |= 0x80;
        change(&mut response);
        exchange.is_response(&response, 0xbeef)
    }

    #[test]
    fn rfc5452_9_1_only_our_id_and_question_are_taken() {
        assert!(taken(|_| {}));
        assert!(taken(|response| response[13] = b'w'), "another case");
        assert!(!taken(|response| response[0] = 0), "another id");
        assert!(!taken(|response| response[2] = 0x01), "a query");
        assert!(!taken(|response| response[2] = 0xa1), "another opcode");
        assert!(!taken(|response| response[13] = b'x'), "another name");
        assert!(!taken(|response| response[26] = 28), "another type");
        assert!(!taken(|response| response[5] = 2), "two questions");
        assert!(!taken(|response| response.truncate(20)), "a cut question");
        assert!(
            !taken(|response| response.truncate(11)),
            "less than a header"
        );
    }

    #[test]
    fn a_bare_header_is_taken_with_an_error_only() {
        let bare = |rcode: u8| {
            move |response: &mut Vec<u8>| {
                response.truncate(HEADER_OCTETS);
                response[3] = rcode;
                response[5] = 0;
            }
        };
        assert!(taken(bare(1)));
        assert!(!taken(bare(0)));
        assert!(!taken(bare(3)));
    }

    #[test]
    fn an_upstream_that_failed_is_asked_after_the_others() {
        let [a, b]: [SocketAddr; 2] =
            ["192.0.2.1:53", "192.0.2.2:53"].map(|one| one.parse().unwrap());
        let health = Health::of([a, b].into_iter());
        assert_eq!(health.in_order(&[a, b]), [a, b]);
        health.note_failure(a);
        assert_eq!(health.in_order(&[a, b]), [b, a]);
        health.note_failure(b);
        assert_eq!(health.in_order(&[a, b]), [a, b]);
        health.note_success(b);
        assert_eq!(health.in_order(&[a, b]), [b, a]);
    }
}
