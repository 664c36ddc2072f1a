//! Questions that upstreams are being asked. Whoever asks the same meanwhile waits for the same
//! answer, so that upstreams see each question once, and whoever would forge a response has one
//! id and port to guess (RFC 5452, section 5). A loop of forwarders ends here too: our question
//! comes back as a query and joins those who wait for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::kept::Kept;
use crate::answers::Transport;

type Key = (Box<[u8]>, Transport);
type Waiting = HashMap<Key, watch::Receiver<Option<Arc<Kept>>>>;

#[derive(Debug)]
pub(super) struct Flights {
    under_way: Mutex<Waiting>,
    most: usize,
}

/// What becomes of somebody who asks.
pub(super) enum Joined {
    /// The question is under way.
    Follows(Wait),
    /// It is not; whoever gets this has to ask.
    Leads(Flight, Wait),
    /// Too many are.
    NoRoom,
}

/// The right to ask a question, and the duty to say what came of it.
pub(super) struct Flight {
    flights: Arc<Flights>,
    key: Key,
    sender: watch::Sender<Option<Arc<Kept>>>,
}

/// Waits for an answer.
pub(super) struct Wait(watch::Receiver<Option<Arc<Kept>>>);

impl Flights {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            under_way: Mutex::default(),
            most,
        })
    }

    /// Joins those who wait for a question, or starts to ask it.
    pub(super) fn join(self: &Arc<Self>, key: &[u8], transport: Transport) -> Joined {
        let key: Key = (key.into(), transport);
        let mut under_way = self.lock();
        if let Some(receiver) = under_way.get(&key) {
            return Joined::Follows(Wait(receiver.clone()));
        }
        if under_way.len() >= self.most {
            return Joined::NoRoom;
        }
        let (sender, receiver) = watch::channel(None);
        under_way.insert(key.clone(), receiver.clone());
        drop(under_way);
        let flight = Flight {
            flights: Arc::clone(self),
            key,
            sender,
        };
        Joined::Leads(flight, Wait(receiver))
    }

    /// Whether there is room beside what clients wait for.
    pub(super) fn has_room_to_spare(&self) -> bool {
        self.lock().len() < self.most / 2
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    /// Tells all who wait.
    pub(super) fn land(self, kept: Arc<Kept>) {
        self.sender.send_replace(Some(kept));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
    }
}

impl Wait {
    /// The answer; `None` if whoever asked ended without one.
    pub(super) async fn answer(mut self) -> Option<Arc<Kept>> {
        let answer = self.0.wait_for(Option::is_some).await;
        answer.ok().and_then(|kept| kept.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::ExtendedError;

    fn kept() -> Arc<Kept> {
        Arc::new(Kept::failure(b"", ExtendedError(22), 0))
    }

    #[tokio::test]
    async fn one_asks_and_all_get_the_answer() {
        let flights = Flights::new(4);
        let Joined::Leads(flight, first) = flights.join(b"k", Transport::Udp) else {
            panic!("nobody asked before");
        };
        let Joined::Follows(second) = flights.join(b"k", Transport::Udp) else {
            panic!("it is under way");
        };
        assert!(matches!(
            flights.join(b"k", Transport::Tcp),
            Joined::Leads(..)
        ));
        flight.land(kept());
        assert!(first.answer().await.is_some());
        assert!(second.answer().await.is_some());
        assert!(flights.lock().is_empty());
    }

    #[tokio::test]
    async fn a_flight_that_is_lost_leaves_nobody_waiting() {
        let flights = Flights::new(4);
        let Joined::Leads(flight, wait) = flights.join(b"k", Transport::Udp) else {
            panic!("nobody asked before");
        };
        drop(flight);
        assert!(wait.answer().await.is_none());
    }

    #[test]
    fn their_number_is_bounded() {
        let flights = Flights::new(1);
        let one = flights.join(b"k", Transport::Udp);
        assert!(matches!(flights.join(b"l", Transport::Udp), Joined::NoRoom));
        drop(one);
        assert!(flights.lock().is_empty());
    }
}
