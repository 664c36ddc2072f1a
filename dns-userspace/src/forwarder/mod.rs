//! Names we do not own: which upstreams are asked, in what order, and what of their responses goes
//! back to the client. Nothing is kept.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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
        for upstream in self.health.in_order(self.routes.upstreams(&query.name)) {
            self.tries.fetch_add(1, Ordering::Relaxed);
            let exchange = Exchange {
                upstream,
                query: &query,
                message,
                timeout: self.timeout,
            };
            match exchange.run(transport).await {
                Ok(response) if upstream::is_final(&response) => {
                    self.health.note_success(upstream);
                    return pass_back::to_client(&query, response, size);
                }
                Ok(response) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    self.health.note_success(upstream);
                    second_best.get_or_insert(response);
                }
                Err(error) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    self.health.note_failure(upstream);
                    tracing::debug!(%upstream, %error, "forwarding");
                }
            }
        }
        if let Some(response) = second_best {
            return pass_back::to_client(&query, response, size);
        }
        self.exhausted.fetch_add(1, Ordering::Relaxed);
        message::write_error(&query, Rcode::SERVFAIL, size)
    }
}

/// SERVFAIL for a query that is not forwarded for want of room; `None` if it is no query.
#[must_use]
pub fn servfail(message: &[u8], transport: Transport, policy: &Policy) -> Option<Vec<u8>> {
    let query = Query::parse(message).ok()?;
    let size = policy.size(&query, transport);
    Some(message::write_error(&query, Rcode::SERVFAIL, size))
}
