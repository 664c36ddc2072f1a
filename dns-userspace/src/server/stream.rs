//! DNS over a stream (RFC 7766): many queries per connection, answered as they are ready, within
//! bounds that keep slow or silent clients from holding what others need. TCP and TLS share it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

use crate::answers::Rcode;
use crate::transfer::Outgoing;

use super::admission::Admission;
use super::breakdown::Source;
use super::counters::{Counters, Totals};
use super::handle::{Basis, Outcome};
use super::terms::{Client, Extras};
use super::{Shared, TcpLimits, forward};

/// Responses that wait for a client to read, those under way at upstreams among them.
const WAITING_RESPONSES: usize = 32;
/// KiB of responses that wait for a client to read: room for the largest.
const WAITING_KIB: u32 = 64;
/// Octets that are read or written at one time, where there are so many.
const CHUNK_OCTETS: usize = 16 * 1024;
/// Octets that are made room for first: most queries are shorter.
const FIRST_OCTETS: usize = 256;

/// One connection.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) counters: Arc<Counters>,
    pub(super) admission: Arc<Admission>,
    pub(super) limits: TcpLimits,
    pub(super) client: Client,
}

/// A response and the room that it takes while it waits.
struct Ready {
    response: Vec<u8>,
    _room: Option<OwnedSemaphorePermit>,
}

/// Where responses wait.
#[derive(Clone)]
struct Outbox {
    sender: mpsc::Sender<Ready>,
    room: Arc<Semaphore>,
}

impl Session {
    /// Answers until either side has enough.
    pub(super) async fn run(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let (reader, writer) = tokio::io::split(stream);
        let (sender, receiver) = mpsc::channel(WAITING_RESPONSES);
        let outbox = Outbox {
            sender,
            room: Arc::new(Semaphore::new(WAITING_KIB as usize)),
        };
        let writing = write_responses(writer, receiver, self.limits.write);
        // The reader ends first and drops its sender; the writer ends when the last response,
        // forwarded ones included, is written. A writer that fails closes the channel, which ends
        // the reader.
        tokio::join!(self.read_queries(reader, outbox), writing);
    }

    async fn read_queries(&self, mut reader: impl AsyncRead + Unpin, outbox: Outbox) {
        let mut inbox = Inbox::default();
        let mut patience = self.limits.first_query;
        loop {
            let deadline = Instant::now() + patience;
            let message = loop {
                if let Some(message) = inbox.take_message() {
                    break message;
                }
                let filled = tokio::select! {
                    () = self.shared.stop.cancelled() => return,
                    () = outbox.sender.closed() => return,
                    filled = timeout_at(deadline, inbox.fill(&mut reader)) => filled,
                };
                if !matches!(filled, Ok(Ok(1..))) {
                    return;
                }
            };
            patience = self.admission.patience(self.limits.idle);
            if self.answer(message, &outbox).await.is_none() {
                return;
            }
        }
    }

    /// Answers one message, or starts to forward it; `None` ends the connection.
    async fn answer(&self, mut message: Vec<u8>, outbox: &Outbox) -> Option<()> {
        let mut tally = Totals::default();
        let received = Instant::now();
        self.shared.show(self.client.address, &message);
        // A client that does not read must not hold what this is answered by.
        let outcome = {
            let transfers = self.shared.transfers.load();
            let basis = Basis {
                rules: &self.shared.rules.load(),
                snapshot: &self.shared.served.load(),
                transfers: transfers.as_deref(),
            };
            match basis.answer_guarded(&mut message, self.client, &mut tally) {
                Outcome::Claimed => basis.transfer(&message, self.client, &mut tally),
                outcome => outcome,
            }
        };
        tally.breakdown.took(received.elapsed());
        self.counters.take(&mut tally);
        let response = match outcome {
            // Whoever sends what is no query over a stream gets no second chance.
            Outcome::Nothing | Outcome::Claimed => return None,
            Outcome::InPlace(len) => {
                message.truncate(len);
                message
            }
            Outcome::Respond(response) => response,
            Outcome::Forward(extras) => {
                match self.forward(message, extras, received, outbox).await? {
                    Some(response) => response,
                    None => return Some(()),
                }
            }
            Outcome::Transfer(outgoing) => return self.transfer(*outgoing, outbox).await,
        };
        outbox.send(response).await
    }

    /// Sends a zone transfer, off the threads that answer others. `None` if not all of it was sent:
    /// a client that does not read has its connection closed by the writer.
    async fn transfer(&self, outgoing: Outgoing, outbox: &Outbox) -> Option<()> {
        let (outbox, counters) = (outbox.clone(), Arc::clone(&self.counters));
        let runtime = self.shared.runtime.clone();
        let sending = tokio::task::spawn_blocking(move || {
            outgoing.run(|message| {
                let mut tally = Totals::default();
                tally.response(Source::Zones, message.len(), Rcode::NOERROR);
                counters.take(&mut tally);
                runtime.block_on(outbox.send(message)).is_some()
            })
        });
        sending.await.unwrap_or(false).then_some(())
    }

    /// Starts to forward, and lets the reader go on to the next query, whose answer may come first;
    /// a response is given back only where there is no room for that. The place in the outbox is
    /// taken first, so that a client cannot have more under way than may wait. `None` ends the
    /// connection.
    async fn forward(
        &self,
        message: Vec<u8>,
        extras: Extras,
        received: Instant,
        outbox: &Outbox,
    ) -> Option<Option<Vec<u8>>> {
        let query = forward::Query {
            message,
            extras,
            counters: Arc::clone(&self.counters),
            received,
        };
        let forward = match query.admit(self.shared.rules.load_full(), self.client) {
            Ok(forward) => forward,
            Err(response) => return response.map(Some),
        };
        let place = outbox.sender.clone().reserve_owned().await.ok()?;
        let room = Arc::clone(&outbox.room);
        self.shared.tasks.spawn(async move {
            let response = forward.run().await;
            place.send(Ready::new(response, room).await);
        });
        Some(None)
    }
}

impl Ready {
    /// Waits for room.
    async fn new(response: Vec<u8>, room: Arc<Semaphore>) -> Self {
        let kib = u32::try_from(response.len().div_ceil(1024)).unwrap_or(WAITING_KIB);
        let room = room.acquire_many_owned(kib.min(WAITING_KIB)).await;
        Self {
            response,
            // It is never closed.
            _room: room.ok(),
        }
    }
}

impl Outbox {
    /// Waits for a place, then for room; `None` if there will be none, as the client takes nothing any
    /// more. In this order, as forwarded responses do it: what has room is never held up by what waits
    /// for some.
    async fn send(&self, response: Vec<u8>) -> Option<()> {
        let sending = async {
            let place = self.sender.reserve().await.ok()?;
            place.send(Ready::new(response, Arc::clone(&self.room)).await);
            Some(())
        };
        tokio::select! {
            sent = sending => sent,
            () = self.sender.closed() => None,
        }
    }
}

/// What has arrived and was not taken yet. It grows with what arrives, not with what is announced.
#[derive(Default)]
struct Inbox {
    octets: Vec<u8>,
    taken: usize,
}

impl Inbox {
    /// Takes a message out, with the two octets of length before it (RFC 1035, section 4.2.2), if
    /// all of it is there.
    fn take_message(&mut self) -> Option<Vec<u8>> {
        let (len, rest) = self.octets.get(self.taken..)?.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_be_bytes(*len));
        let message = rest.get(..len)?.to_vec();
        self.taken += 2 + len;
        Some(message)
    }

    /// Reads more; 0 octets mean the end.
    async fn fill(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        self.octets.drain(..self.taken);
        self.taken = 0;
        if self.octets.is_empty() {
            // A connection that waits holds no more than it needs for the next query.
            self.octets.shrink_to(FIRST_OCTETS);
        }
        let more = self.octets.len().clamp(FIRST_OCTETS, CHUNK_OCTETS);
        self.octets.reserve(more);
        reader.read_buf(&mut self.octets).await
    }
}

async fn write_responses(
    mut writer: impl AsyncWrite + Unpin,
    mut responses: mpsc::Receiver<Ready>,
    patience: Duration,
) {
    let mut framed = Vec::new();
    while let Some(ready) = responses.recv().await {
        framed.clear();
        frame(&ready.response, &mut framed);
        let mut rooms = vec![ready];
        // Those that wait already go along in one write (RFC 7766, section 8).
        while framed.len() < CHUNK_OCTETS
            && let Ok(ready) = responses.try_recv()
        {
            frame(&ready.response, &mut framed);
            rooms.push(ready);
        }
        let writing = async {
            writer.write_all(&framed).await?;
            writer.flush().await
        };
        match timeout(patience, writing).await {
            Ok(Ok(())) => {}
            _ => return,
        }
        framed.shrink_to(FIRST_OCTETS);
    }
    // The client learns that this is the end, and not an accident. What it says to that is nothing
    // to us.
    let _ = timeout(patience, writer.shutdown()).await;
}

fn frame(response: &[u8], framed: &mut Vec<u8>) {
    if let Ok(len) = u16::try_from(response.len()) {
        framed.extend_from_slice(&len.to_be_bytes());
        framed.extend_from_slice(response);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that asks for more at once than may wait, the last of it as large as all room: each of
    /// its responses waits for those before it, and none for those behind it.
    #[tokio::test]
    async fn a_large_response_behind_forwarded_ones_holds_none_of_them() {
        let (sender, mut receiver) = mpsc::channel(WAITING_RESPONSES);
        let outbox = Outbox {
            sender,
            room: Arc::new(Semaphore::new(WAITING_KIB as usize)),
        };
        let mut places = Vec::new();
        for _ in 0..WAITING_RESPONSES {
            places.push(outbox.sender.clone().reserve_owned().await.unwrap());
        }
        let mut large = Box::pin(outbox.send(vec![1; 65_000]));
        tokio::select! {
            biased;
            _ = &mut large => panic!("no place is left"),
            () = std::future::ready(()) => {}
        }
        for place in places {
            let ready = Ready::new(vec![2; 1024], Arc::clone(&outbox.room));
            let ready = timeout(Duration::from_secs(5), ready).await;
            place.send(ready.expect("it waits for what waits for it"));
            assert_eq!(receiver.recv().await.unwrap().response.len(), 1024);
        }
        large.await.unwrap();
        assert_eq!(receiver.recv().await.unwrap().response.len(), 65_000);
    }
}
