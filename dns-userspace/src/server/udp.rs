//! UDP: threads that block in the kernel, one socket each, the kernel spreading the clients over
//! them (SO_REUSEPORT). What a thread needs for a batch of queries is laid out when it starts; it
//! shares nothing that is written while it answers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::answers::Transport;
use crate::telemetry::{Sample, Seen};

use super::breakdown::Source;
use super::counters::{Counters, Totals};
use super::handle::{Basis, Header, Outcome};
use super::mmsg::{Batch, Local, dropped, prepare, send_one, takes_local};
use super::terms::{Client, Extras};
use super::{BindError, Shared, bind_error, header_rcode, open};

/// Datagrams per system call.
const BATCH: usize = 32;
/// How often an idle worker looks whether it should end.
const STOP_CHECK: Duration = Duration::from_millis(200);
/// What the kernel may hold for a worker that is busy.
const RECEIVE_BUFFER_OCTETS: usize = 1 << 20;

/// In place of an address that is none.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// A bound socket and where it is bound.
#[derive(Clone)]
pub(super) struct UdpListener {
    socket: Arc<UdpSocket>,
    pub(super) address: SocketAddr,
}

impl UdpListener {
    /// Datagrams that the kernel dropped because no worker took them in time.
    pub(super) fn overflowed(&self) -> u64 {
        dropped(self.socket.as_fd()).unwrap_or_default()
    }
}

pub(super) fn bind(address: SocketAddr) -> Result<(UdpListener, SocketAddr), BindError> {
    let error = bind_error(address, "udp");
    let socket = open(address, socket2::Protocol::UDP).map_err(&error)?;
    prepare(socket.as_fd(), &address).map_err(&error)?;
    socket.set_read_timeout(Some(STOP_CHECK)).map_err(&error)?;
    // The kernel caps what it gives; less than asked for is no reason not to serve.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_OCTETS);
    let socket = UdpSocket::from(socket);
    let address = socket.local_addr().map_err(&error)?;
    let listener = UdpListener {
        socket: Arc::new(socket),
        address,
    };
    Ok((listener, address))
}

/// Answers until the server stops.
pub(super) fn serve(shared: &Arc<Shared>, listener: &UdpListener, counters: &Arc<Counters>) {
    let mut worker = Worker {
        batch: Batch::new(BATCH, takes_local(&listener.address)),
        tally: Totals::default(),
        received: Instant::now(),
        watched: 0,
        unwatched: 0,
        shared,
        listener,
        counters,
    };
    while !shared.is_stopping() {
        match worker.batch.receive(listener.socket.as_fd()) {
            Ok(count) => worker.answer(count),
            Err(error) => match error.kind() {
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => {}
                _ => {
                    tracing::debug!(%error, address = %listener.address, "receiving");
                    // An error that stays must not keep a core busy.
                    std::thread::sleep(Duration::from_millis(10));
                }
            },
        }
    }
}

struct Worker<'w> {
    batch: Batch,
    /// What was counted of this batch.
    tally: Totals,
    /// When the batch came. The clock is read twice for a batch, not for each query.
    received: Instant,
    /// One of how many queries somebody wants to see; 0 if none.
    watched: u32,
    /// Queries since the last that was seen.
    unwatched: u32,
    shared: &'w Arc<Shared>,
    listener: &'w UdpListener,
    counters: &'w Arc<Counters>,
}

impl Worker<'_> {
    /// Answers the datagrams that were received.
    fn answer(&mut self, count: usize) {
        self.received = Instant::now();
        self.watched = self.shared.watch.of_server();
        let snapshot = self.shared.served.load();
        let rules = self.shared.rules.load();
        let transfers = self.shared.transfers.load();
        let basis = Basis {
            rules: &rules,
            snapshot: &snapshot,
            transfers: transfers.as_deref(),
        };
        let mut position = 0;
        let mut header = Header::default();
        while position < count {
            // One net under all of them: after a panic it goes on behind the query that caused it.
            let answering = AssertUnwindSafe(|| {
                while position < count {
                    self.answer_one(basis, position, &mut header);
                    position += 1;
                }
            });
            if catch_unwind(answering).is_err() {
                let outcome = header.after_panic(&mut self.tally);
                self.finish(position, outcome);
                position += 1;
            }
        }
        drop((snapshot, rules, transfers));
        self.tally.breakdown.took(self.received.elapsed());
        // Before the responses leave: whoever has one finds it counted.
        self.counters.take(&mut self.tally);
        self.tally.unsent += self.batch.send(self.listener.socket.as_fd()) as u64;
    }

    fn answer_one(&mut self, basis: Basis<'_>, position: usize, header: &mut Header) {
        // A datagram to whose source nothing can be sent has no octets, and gets no response.
        let address = self.batch.source(position).unwrap_or(NOBODY);
        let Some((buffer, len)) = self.batch.datagram(position) else {
            return;
        };
        *header = Header::of(buffer, len);
        if self.watched != 0 {
            self.unwatched += 1;
            if self.unwatched >= self.watched {
                self.unwatched = 0;
                self.shared.watch.hand_over(Sample {
                    at: SystemTime::now(),
                    seen: Seen::of_message(address, buffer.get(..len).unwrap_or_default()),
                    frame: None,
                });
            }
        }
        let client = Client {
            address,
            transport: Transport::Udp,
            is_encrypted: false,
            idle: None,
        };
        if len == 0 {
            // Of a datagram that did not fit there is a front.
            let outcome = match self.batch.front(position) {
                Some(front) => basis.answer_cut(front, client, &mut self.tally),
                None => basis.answer(&mut [], 0, client, &mut self.tally),
            };
            return self.finish(position, outcome);
        }
        let mut outcome = basis.answer(buffer, len, client, &mut self.tally);
        if matches!(outcome, Outcome::Claimed) {
            let message = buffer.get(..len).unwrap_or_default().to_vec();
            outcome = basis.transfer(&message, client, &mut self.tally);
        }
        self.finish(position, outcome);
    }

    fn finish(&mut self, position: usize, outcome: Outcome) {
        match outcome {
            // Over UDP a transfer is one message, and comes as a response.
            Outcome::Nothing | Outcome::Claimed | Outcome::Transfer(_) => {}
            Outcome::InPlace(len) => self.batch.queue(position, len),
            Outcome::Respond(response) => {
                if let Some((buffer, _)) = self.batch.datagram(position) {
                    for (slot, octet) in buffer.iter_mut().zip(&response) {
                        *slot = *octet;
                    }
                    self.batch.queue(position, response.len());
                }
            }
            Outcome::Forward(extras) => self.forward(position, extras),
        }
    }

    /// Has a task on tokio ask the upstreams and send the response; beyond the bound of the
    /// forwarder the client is told at once, so that it goes to its next server without waiting.
    fn forward(&mut self, position: usize, extras: Extras) {
        let local = self.batch.local(position);
        let Some(peer) = self.batch.peer(position) else {
            return;
        };
        let Some((buffer, len)) = self.batch.datagram(position) else {
            return;
        };
        let message = buffer.get(..len).unwrap_or_default();
        let rules = self.shared.rules.load();
        let policy = rules.policy;
        let forwarder = rules.forwarder.as_ref();
        match forwarder.and_then(|one| Some((one, one.admit(peer.ip())?))) {
            Some((forwarder, permit)) => {
                self.tally.forwarded += 1;
                let forwarder = Arc::clone(forwarder);
                let reply = Reply {
                    socket: Arc::clone(&self.listener.socket),
                    counters: Arc::clone(self.counters),
                    peer,
                    local,
                    received: self.received,
                };
                let message = message.to_vec();
                let task = async move {
                    let mut response = forwarder
                        .forward(&message, Transport::Udp, &policy, permit)
                        .await;
                    extras.add_to(&mut response);
                    reply.send(&response);
                };
                self.shared.tasks.spawn_on(task, &self.shared.runtime);
            }
            // Without room, or by rules that stopped forwarding a moment ago.
            None => {
                self.tally.shed += 1;
                let response = crate::forwarder::servfail(message, Transport::Udp, &policy);
                if let Some(mut response) = response {
                    extras.add_to(&mut response);
                    let rcode = header_rcode(&response);
                    self.tally
                        .response(Source::Upstreams, response.len(), rcode);
                    self.finish(position, Outcome::Respond(response));
                }
            }
        }
    }
}

/// What it takes to respond after the batch is gone.
struct Reply {
    socket: Arc<UdpSocket>,
    counters: Arc<Counters>,
    peer: SocketAddr,
    local: Option<Local>,
    received: Instant,
}

impl Reply {
    fn send(&self, response: &[u8]) {
        let mut tally = Totals::default();
        tally.response(Source::Upstreams, response.len(), header_rcode(response));
        tally.breakdown.took(self.received.elapsed());
        self.counters.take(&mut tally);
        if !send_one(self.socket.as_fd(), response, self.peer, self.local) {
            tally.unsent += 1;
            self.counters.take(&mut tally);
        }
    }
}
