//! Names we do not own: which upstreams are asked, in what order, and what of their responses goes
//! back to the client. Nothing is kept.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::num::NonZero;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use rand::seq::SliceRandom;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::answers::{Policy, Query, Rcode, Transport, message};
use crate::zones::Name;

mod pass_back;
pub mod route;
mod upstream;

pub use route::{RouteError, Routes};
use upstream::{Exchange, Health};

/// What the forwarder needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Upstreams of every name that no zone below matches, in order of preference.
    pub resolvers: Vec<SocketAddr>,
    /// Upstreams of the names at or below a zone; the longest zone that matches counts.
    pub zones: Vec<(Name, Vec<SocketAddr>)>,
    /// How long one upstream may take, connecting included.
    pub timeout: Duration,
    /// Queries under way at one time.
    pub max_in_flight: usize,
    /// In which manner upstreams are asked.
    pub manner: Manner,
}

/// How upstreams are asked. By default one after the other as configured, as mesos-dns does.
#[derive(Debug, Clone)]
pub struct Manner {
    /// How long all upstreams together may take.
    pub overall: Option<Duration>,
    /// Upstreams asked at one time; the best answer of those wins.
    pub at_a_time: NonZero<usize>,
    /// Whether upstreams that are equally well are asked in random order.
    pub spreads: bool,
    /// Names that are not forwarded although they are not ours.
    pub fence: Option<Fence>,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            overall: None,
            at_a_time: NonZero::<usize>::MIN,
            spreads: false,
            fence: None,
        }
    }
}

/// Says which names outside our zones are refused all the same.
#[derive(Clone)]
pub struct Fence(pub Arc<dyn Fn(&Name) -> bool + Send + Sync>);

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fence")
    }
}

/// Whether there is room for one more query.
#[derive(Debug)]
pub enum Permit {
    /// There is; the room is given back when this is dropped.
    Granted(OwnedSemaphorePermit),
    /// As many as allowed are under way.
    Refused,
}

/// What the forwarder did, in total.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Queries sent to an upstream, every try counted.
    pub tries: u64,
    /// Tries without a usable response in time.
    pub failures: u64,
    /// Queries for which no upstream had a response at all.
    pub exhausted: u64,
}

/// Asks upstreams on behalf of clients.
#[derive(Debug)]
pub struct Forwarder {
    routes: Routes,
    health: Health,
    timeout: Duration,
    manner: Manner,
    room: Arc<Semaphore>,
    tries: AtomicU64,
    failures: AtomicU64,
    exhausted: AtomicU64,
}

impl Forwarder {
    /// A forwarder by these settings. `listening` are the addresses that we answer at.
    ///
    /// # Errors
    /// An upstream is ourselves, which would forward to itself without end, or a zone has no
    /// upstream.
    pub fn new(settings: Settings, listening: &[SocketAddr]) -> Result<Self, RouteError> {
        let routes = Routes::new(settings.resolvers, settings.zones, listening)?;
        Ok(Self {
            health: Health::of(routes.all()),
            routes,
            timeout: settings.timeout,
            manner: settings.manner,
            room: Arc::new(Semaphore::new(settings.max_in_flight)),
            tries: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            exhausted: AtomicU64::new(0),
        })
    }

    /// Takes room for one query.
    #[must_use]
    pub fn admit(&self) -> Permit {
        Arc::clone(&self.room)
            .try_acquire_owned()
            .map_or(Permit::Refused, Permit::Granted)
    }

    /// What was done so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            tries: self.tries.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            exhausted: self.exhausted.load(Ordering::Relaxed),
        }
    }

    /// Whether a name that is not ours is refused rather than forwarded.
    #[must_use]
    pub fn refuses(&self, name: &Name) -> bool {
        self.manner
            .fence
            .as_ref()
            .is_some_and(|fence| (fence.0)(name))
    }

    /// Gets the response to `message`, a query that [`Query::parse`] accepts, in the size the
    /// client can take. The first upstream whose response is neither SERVFAIL nor REFUSED nor the
    /// like decides; without one, the first response there was; without any, SERVFAIL.
    pub async fn forward(
        &self,
        message: &[u8],
        transport: Transport,
        policy: &Policy,
        permit: OwnedSemaphorePermit,
    ) -> Vec<u8> {
        let _permit = permit;
        let Ok(query) = Query::parse(message) else {
            return Vec::new();
        };
        let size = policy.size(&query, transport);
        let mut second_best = None;
        let asked = self.ask(&query, message, transport, &mut second_best);
        let best = match self.manner.overall {
            Some(overall) => timeout(overall, asked).await.unwrap_or(None),
            None => asked.await,
        };
        if let Some(response) = best.or(second_best) {
            return pass_back::to_client(&query, response, size);
        }
        self.exhausted.fetch_add(1, Ordering::Relaxed);
        message::write_error(&query, Rcode::SERVFAIL, size)
    }

    /// Asks the upstreams, some at a time, until one decides.
    async fn ask(
        &self,
        query: &Query<'_>,
        message: &[u8],
        transport: Transport,
        second_best: &mut Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let mut upstreams = self.routes.upstreams(&query.name).to_vec();
        if self.manner.spreads {
            upstreams.shuffle(&mut rand::rng());
        }
        for together in self
            .health
            .in_order(&upstreams)
            .chunks(self.manner.at_a_time.get())
        {
            let mut running: Vec<_> = together
                .iter()
                .map(|&upstream| Box::pin(self.try_one(upstream, query, message, transport)))
                .collect();
            while let Some(result) = next(&mut running).await {
                match result {
                    Some(response) if upstream::is_final(&response) => return Some(response),
                    Some(response) => {
                        second_best.get_or_insert(response);
                    }
                    None => {}
                }
            }
        }
        None
    }

    async fn try_one(
        &self,
        upstream: SocketAddr,
        query: &Query<'_>,
        message: &[u8],
        transport: Transport,
    ) -> Option<Vec<u8>> {
        self.tries.fetch_add(1, Ordering::Relaxed);
        let exchange = Exchange {
            upstream,
            query,
            message,
            timeout: self.timeout,
        };
        match exchange.run(transport).await {
            Ok(response) => {
                if !upstream::is_final(&response) {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                }
                self.health.note_success(upstream);
                Some(response)
            }
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                self.health.note_failure(upstream);
                tracing::debug!(%upstream, %error, "forwarding");
                None
            }
        }
    }
}

/// The outcome of whichever ends first, which is taken out; `None` when none is left.
async fn next<F: Future>(running: &mut Vec<Pin<Box<F>>>) -> Option<F::Output> {
    if running.is_empty() {
        return None;
    }
    poll_fn(|context| {
        for position in 0..running.len() {
            let Some(one) = running.get_mut(position) else {
                break;
            };
            if let Poll::Ready(output) = one.as_mut().poll(context) {
                drop(running.remove(position));
                return Poll::Ready(Some(output));
            }
        }
        Poll::Pending
    })
    .await
}

/// SERVFAIL for a query that is not forwarded for want of room; `None` if it is no query.
#[must_use]
pub fn servfail(message: &[u8], transport: Transport, policy: &Policy) -> Option<Vec<u8>> {
    let query = Query::parse(message).ok()?;
    let size = policy.size(&query, transport);
    Some(message::write_error(&query, Rcode::SERVFAIL, size))
}
