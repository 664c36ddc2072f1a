//! TCP (RFC 7766): many queries per connection, answered as they are ready, within bounds that keep
//! slow or silent clients from holding what others need.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use crate::answers::{Rcode, Transport};
use crate::forwarder::servfail;
use crate::transfer::Outgoing;

use super::counters::{Counters, Totals};
use super::handle::{Basis, Outcome};
use super::{BindError, Shared, bind_error, header_rcode, open};

/// Connections that the kernel completes before we take them.
const BACKLOG: i32 = 1024;
/// Responses that wait for a client to read.
const WAITING_RESPONSES: usize = 32;

/// Bounds of TCP service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpLimits {
    /// Connections at one time.
    pub connections: usize,
    /// Connections at one time from one address.
    pub per_client: usize,
    /// Within this the first query must be there (mesos-dns: 2 s).
    pub first_query: Duration,
    /// Within this after the last one each further query must be there whole (mesos-dns: 8 s).
    pub idle: Duration,
    /// Within this the client must take in a response.
    pub write: Duration,
}

impl Default for TcpLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            per_client: 128,
            first_query: Duration::from_secs(2),
            idle: Duration::from_secs(8),
            write: Duration::from_secs(10),
        }
    }
}

pub(super) fn bind(address: SocketAddr) -> Result<StdListener, BindError> {
    let error = bind_error(address, "TCP");
    let socket = open(address, socket2::Protocol::TCP).map_err(&error)?;
    socket.listen(BACKLOG).map_err(&error)?;
    socket.set_nonblocking(true).map_err(&error)?;
    Ok(StdListener::from(socket))
}

/// Serves until the server stops.
pub(super) fn serve(
    shared: &Arc<Shared>,
    listeners: Vec<StdListener>,
    limits: TcpLimits,
    counters: &Arc<Counters>,
) {
    let admission = Arc::new(Admission {
        total: Arc::new(Semaphore::new(limits.connections)),
        by_client: Mutex::default(),
        per_client: limits.per_client,
    });
    for listener in listeners {
        let (shared, counters) = (Arc::clone(shared), Arc::clone(counters));
        let admission = Arc::clone(&admission);
        let tasks = shared.tasks.clone();
        tasks.spawn(async move {
            let accepted = accept(&shared, listener, &admission, limits, &counters).await;
            if let Err(error) = accepted {
                tracing::error!(%error, "TCP service ended");
            }
        });
    }
}

async fn accept(
    shared: &Arc<Shared>,
    listener: StdListener,
    admission: &Arc<Admission>,
    limits: TcpLimits,
    counters: &Arc<Counters>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a client that went away: neither ends the service.
                tracing::debug!(%error, "accepting");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        // Over the bound the connection is closed, and the client tries elsewhere.
        let Some(place) = admission.admit(peer.ip()) else {
            continue;
        };
        let connection = Connection {
            shared: Arc::clone(shared),
            counters: Arc::clone(counters),
            limits,
            peer: peer.ip(),
        };
        shared.tasks.spawn(async move {
            connection.run(stream).await;
            drop(place);
        });
    }
}

struct Admission {
    total: Arc<Semaphore>,
    by_client: Mutex<HashMap<IpAddr, usize>>,
    per_client: usize,
}

/// A connection's place among those allowed; given back when dropped.
struct Place {
    admission: Arc<Admission>,
    client: IpAddr,
    _total: OwnedSemaphorePermit,
}

impl Admission {
    fn admit(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let total = Arc::clone(&self.total).try_acquire_owned().ok()?;
        let mut by_client = self
            .by_client
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = by_client.entry(client).or_insert(0);
        if *count >= self.per_client {
            return None;
        }
        *count += 1;
        Some(Place {
            admission: Arc::clone(self),
            client,
            _total: total,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let by_client = self.admission.by_client.lock();
        let mut by_client = by_client.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                by_client.remove(&self.client);
            }
        }
    }
}

struct Connection {
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    limits: TcpLimits,
    peer: IpAddr,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        // Responses are written whole; waiting to join them with others helps nobody.
        let _ = stream.set_nodelay(true);
        let (reader, writer) = stream.into_split();
        let (sender, receiver) = mpsc::channel(WAITING_RESPONSES);
        let writing = write_responses(writer, receiver, self.limits.write);
        // The reader ends first and drops its sender; the writer ends when the last response,
        // forwarded ones included, is written. A writer that fails closes the channel, which ends
        // the reader.
        tokio::join!(self.read_queries(reader, sender), writing);
    }

    async fn read_queries(&self, mut reader: OwnedReadHalf, responses: mpsc::Sender<Vec<u8>>) {
        let mut patience = self.limits.first_query;
        loop {
            let query = tokio::select! {
                () = self.shared.stop.cancelled() => return,
                () = responses.closed() => return,
                query = timeout(patience, read_message(&mut reader)) => query,
            };
            let Ok(Ok(mut message)) = query else {
                return;
            };
            patience = self.limits.idle;
            let mut tally = Totals::default();
            let transfers = self.shared.transfers.load_full();
            let basis = Basis {
                rules: &self.shared.rules.load(),
                snapshot: &self.shared.served.load(),
                transfers: transfers.as_deref(),
            };
            let mut outcome = basis.answer_guarded(&mut message, Transport::Tcp, &mut tally);
            if matches!(outcome, Outcome::Claimed) {
                outcome = basis.transfer(&message, self.peer, Transport::Tcp, &mut tally);
            }
            self.counters.take(&mut tally);
            let response = match outcome {
                // Whoever sends what is no query over TCP gets no second chance.
                Outcome::Nothing | Outcome::Claimed => return,
                Outcome::InPlace(len) => {
                    message.truncate(len);
                    message
                }
                Outcome::Respond(response) => response,
                Outcome::Forward => match self.forward(message, &responses).await {
                    Some(response) => response,
                    None => continue,
                },
                Outcome::Transfer(outgoing) => {
                    if self.transfer(*outgoing, &responses).await {
                        continue;
                    }
                    return;
                }
            };
            if responses.send(response).await.is_err() {
                return;
            }
        }
    }

    fn tally(&self, count: impl FnOnce(&mut Totals)) {
        let mut tally = Totals::default();
        count(&mut tally);
        self.counters.take(&mut tally);
    }

    /// Sends a zone transfer, off the threads that answer others. Whether all of it was sent; a
    /// client that does not read has its connection closed by the writer.
    async fn transfer(&self, outgoing: Outgoing, responses: &mpsc::Sender<Vec<u8>>) -> bool {
        let (responses, counters) = (responses.clone(), Arc::clone(&self.counters));
        let sending = tokio::task::spawn_blocking(move || {
            outgoing.run(|message| {
                let mut tally = Totals::default();
                tally.response(message.len(), Rcode::NOERROR);
                counters.take(&mut tally);
                responses.blocking_send(message).is_ok()
            })
        });
        sending.await.unwrap_or(false)
    }

    /// Starts to forward; a response is given back only where there is no room for that. The
    /// channel's place is taken first, so that a client cannot have more under way than may wait.
    async fn forward(
        &self,
        message: Vec<u8>,
        responses: &mpsc::Sender<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let rules = self.shared.rules.load_full();
        let policy = rules.policy;
        let forwarder = rules.forwarder.as_ref();
        let admitted = forwarder.and_then(|one| Some((one, one.admit(self.peer)?)));
        // Without room, or by rules that stopped forwarding a moment ago.
        let Some((forwarder, permit)) = admitted else {
            self.tally(|tally| tally.shed += 1);
            return servfail(&message, Transport::Tcp, &policy);
        };
        let place = responses.clone().reserve_owned().await.ok()?;
        let counters = Arc::clone(&self.counters);
        self.tally(|tally| tally.forwarded += 1);
        let forwarder = Arc::clone(forwarder);
        self.shared.tasks.spawn(async move {
            let response = forwarder
                .forward(&message, Transport::Tcp, &policy, permit)
                .await;
            let mut tally = Totals::default();
            tally.response(response.len(), header_rcode(&response));
            counters.take(&mut tally);
            place.send(response);
        });
        None
    }
}

/// Reads one message and the two octets of length before it (RFC 1035, section 4.2.2).
async fn read_message(reader: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let len = reader.read_u16().await?;
    let mut message = vec![0; usize::from(len)];
    reader.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_responses(
    mut writer: OwnedWriteHalf,
    mut responses: mpsc::Receiver<Vec<u8>>,
    patience: Duration,
) {
    while let Some(response) = responses.recv().await {
        let Ok(len) = u16::try_from(response.len()) else {
            continue;
        };
        // Length and message in one write, as RFC 7766, section 8 asks.
        let mut framed = Vec::with_capacity(response.len() + 2);
        framed.extend_from_slice(&len.to_be_bytes());
        framed.extend_from_slice(&response);
        match timeout(patience, writer.write_all(&framed)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}
