//! Names we do not own: which upstreams are asked, in what order, what of their responses is kept
//! and for how long, and what goes back to the client.
//!
//! A worker tries [`Forwarder::cached`], which neither waits nor allocates more than the response.
//! What that does not have goes to [`Forwarder::forward`], which joins those who wait for the same
//! question or asks upstreams for all of them.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use rand::seq::SliceRandom;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::answers::message::Size;
use crate::answers::{ExtendedError, Policy, Query, Rcode, Transport, message};
use crate::zones::Name;

mod admission;
mod ask;
mod cache;
mod clock;
mod exchange;
mod flights;
#[cfg(fuzzing)]
pub mod fuzzing;
mod kept;
mod pass_back;
mod response;
pub mod route;
mod upstream;

pub use admission::Permit;
pub(crate) use admission::one_client;
pub use cache::CacheSettings;
pub use clock::Clock;
pub use kept::TtlBounds;
pub use route::{RouteError, Routes};
pub use upstream::{RCODES, UpstreamReadout};

use admission::Admission;
use ask::{Ask, Key};
use cache::Cache;
use exchange::Failure;
use flights::{Flight, Flights, Joined};
use kept::{Age, Kept, Kind};
use pass_back::{Hand, to_client};
use response::Response;
use upstream::{Upstream, add};

/// A client waits so long for something better than a stale answer (RFC 8767, section 5, client
/// response timer).
const STALE_PATIENCE: Duration = Duration::from_millis(1_800);
/// A client waits so long for upstreams that have all been silent of late. They are asked on, so
/// that their return is noticed.
const DEAD_PATIENCE: Duration = Duration::from_millis(800);

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
    /// What is kept of responses.
    pub cache: CacheSettings,
    /// By which time goes.
    pub clock: Clock,
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

/// What the forwarder did, in total.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Questions put to an upstream, every try counted.
    pub tries: u64,
    /// Tries without a usable response in time.
    pub failures: u64,
    /// Queries answered with what was kept and fresh.
    pub hits: u64,
    /// Queries for which upstreams had to be asked.
    pub misses: u64,
    /// Those of them that joined others waiting for the same question.
    pub joined: u64,
    /// Queries answered with what was older than its TTL.
    pub stale: u64,
    /// Questions put before the answer ran out.
    pub prefetches: u64,
}

/// Totals, and the state at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readout {
    /// What was done.
    pub totals: Totals,
    /// Answers kept.
    pub entries: u64,
    /// Octets of memory that they take.
    pub octets: u64,
    /// Queries that wait for upstreams.
    pub waiting: u64,
    /// Questions for which no upstream had a response at all, by the zone that chose the upstreams.
    pub exhausted: Vec<(String, u64)>,
    /// Each upstream, by address.
    pub upstreams: Vec<UpstreamReadout>,
}

#[derive(Debug, Default)]
struct Counts {
    /// By the number of the zone.
    exhausted: Vec<AtomicU64>,
    hits: AtomicU64,
    misses: AtomicU64,
    joined: AtomicU64,
    stale: AtomicU64,
    prefetches: AtomicU64,
}

/// Asks upstreams on behalf of clients.
#[derive(Debug)]
pub struct Forwarder {
    routes: Routes,
    upstreams: HashMap<SocketAddr, Arc<Upstream>>,
    listening: Vec<SocketAddr>,
    manner: Manner,
    bounds: TtlBounds,
    admission: Arc<Admission>,
    cache: Cache,
    flights: Arc<Flights>,
    counts: Counts,
    clock: Clock,
    runtime: Handle,
}

impl Forwarder {
    /// A forwarder by these settings. `listening` are the addresses that we answer at. Upstreams
    /// are asked by tasks of `runtime`.
    ///
    /// # Errors
    /// An upstream is ourselves, which would forward to itself without end, or a zone has no
    /// upstream.
    pub fn new(
        settings: Settings,
        listening: &[SocketAddr],
        runtime: Handle,
    ) -> Result<Self, RouteError> {
        let routes = Routes::new(settings.resolvers, settings.zones, listening)?;
        let upstream = |address| {
            let clock = settings.clock.clone();
            let upstream = Upstream::new(address, settings.timeout, clock);
            (address, Arc::new(upstream))
        };
        Ok(Self {
            upstreams: routes.all().map(upstream).collect(),
            listening: listening.to_vec(),
            manner: settings.manner,
            bounds: settings.cache.ttl,
            admission: Admission::new(settings.max_in_flight),
            cache: Cache::new(&settings.cache),
            flights: Flights::new(settings.max_in_flight),
            counts: Counts {
                exhausted: routes.zones().map(|_| AtomicU64::new(0)).collect(),
                ..Counts::default()
            },
            routes,
            clock: settings.clock,
            runtime,
        })
    }

    /// Takes room for one query of `client`; `None` if there is none for it.
    #[must_use]
    pub fn admit(&self, client: IpAddr) -> Option<Permit> {
        self.admission.admit(client)
    }

    /// What was done so far, and what is.
    #[must_use]
    pub fn readout(&self) -> Readout {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut upstreams: Vec<UpstreamReadout> =
            self.upstreams.values().map(|one| one.readout()).collect();
        upstreams.sort_by_key(|one| one.address);
        let counts = &self.counts;
        let totals = Totals {
            tries: upstreams.iter().map(|one| one.tries).sum(),
            failures: upstreams.iter().map(|one| one.failures).sum(),
            hits: read(&counts.hits),
            misses: read(&counts.misses),
            joined: read(&counts.joined),
            stale: read(&counts.stale),
            prefetches: read(&counts.prefetches),
        };
        Readout {
            totals,
            entries: self.cache.entries(),
            octets: self.cache.octets(),
            waiting: self.admission.under_way() as u64,
            exhausted: self
                .routes
                .zones()
                .zip(counts.exhausted.iter().map(read))
                .collect(),
            upstreams,
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

    /// The response to `query` if it can be made of what is kept. An answer whose time is nearly
    /// over is fetched anew behind it.
    #[must_use]
    pub fn cached(self: &Arc<Self>, query: &Query<'_>, size: Size) -> Option<Vec<u8>> {
        let key = Key::of(query);
        let now = self.clock.now();
        let (kept, age) = self.cache.get(key.octets(), now)?;
        let hand = match age {
            Age::Fresh(gone) => {
                if self.cache.use_once(&kept, now) {
                    self.prefetch(Ask::new(query, &key, Transport::Udp));
                }
                add(&self.counts.hits);
                Hand::Aged(gone)
            }
            Age::Stale if kept.is_resting(now) => {
                add(&self.counts.stale);
                Hand::Stale
            }
            Age::Stale | Age::Expired => return None,
        };
        Some(to_client(query, &kept, hand, size))
    }

    /// Gets the response to `message`, a query that [`Query::parse`] accepts, in the size the
    /// client can take. The first upstream whose response is neither SERVFAIL nor REFUSED nor the
    /// like decides; without one, data older than its TTL; without that, the first response there
    /// was; without any, SERVFAIL.
    pub async fn forward(
        self: &Arc<Self>,
        message: &[u8],
        transport: Transport,
        policy: &Policy,
        permit: Permit,
    ) -> Vec<u8> {
        let _permit = permit;
        let Ok(query) = Query::parse(message) else {
            return Vec::new();
        };
        let size = policy.size(&query, transport);
        // Somebody may have got it meanwhile.
        if let Some(response) = self.cached(&query, size) {
            return response;
        }
        add(&self.counts.misses);
        let key = Key::of(&query);
        let stale = self.cache.get(key.octets(), self.clock.now());
        let stale = stale.map(|(kept, _)| kept);
        let ask = Ask::new(&query, &key, transport);
        let answer = self.answer(ask, stale.is_some()).await;
        match (answer, stale) {
            (Some(kept), stale) if kept.kind != Kind::Failure || stale.is_none() => {
                to_client(&query, &kept, Hand::New, size)
            }
            (_, Some(stale)) => {
                add(&self.counts.stale);
                to_client(&query, &stale, Hand::Stale, size)
            }
            (_, None) => {
                let why = ExtendedError::NO_REACHABLE_AUTHORITY;
                message::write_explained(&query, Rcode::SERVFAIL, why, size)
            }
        }
    }

    /// What upstreams say; `None` if the client should not wait for it any longer, or if there is
    /// no room.
    async fn answer(self: &Arc<Self>, ask: Ask, has_stale: bool) -> Option<Arc<Kept>> {
        let are_dead = {
            let mut upstreams = self.upstreams(&ask.name).peekable();
            upstreams.peek().is_some() && upstreams.all(|one| one.is_dead())
        };
        let wait = match self.flights.join(&ask.key, ask.transport) {
            Joined::NoRoom => return None,
            Joined::Follows(wait) => {
                add(&self.counts.joined);
                wait
            }
            Joined::Leads(flight, wait) => {
                self.runtime.spawn(Arc::clone(self).fly(flight, ask));
                wait
            }
        };
        let patience = match (are_dead, has_stale) {
            (true, _) => DEAD_PATIENCE,
            (false, true) => STALE_PATIENCE,
            (false, false) => return wait.answer().await,
        };
        timeout(patience, wait.answer()).await.unwrap_or(None)
    }

    /// Fetches an answer that nobody waits for, if there is room to spare.
    fn prefetch(self: &Arc<Self>, ask: Ask) {
        if !self.flights.has_room_to_spare() {
            return;
        }
        if let Joined::Leads(flight, _) = self.flights.join(&ask.key, ask.transport) {
            add(&self.counts.prefetches);
            self.runtime.spawn(Arc::clone(self).fly(flight, ask));
        }
    }

    /// Asks upstreams and tells everybody.
    async fn fly(self: Arc<Self>, flight: Flight, ask: Ask) {
        let kept = Arc::new(self.resolve(&ask).await);
        self.cache.put(&ask.key, &kept, self.clock.now());
        flight.land(kept);
    }

    async fn resolve(&self, ask: &Ask) -> Kept {
        let mut others = Others::default();
        let asked = self.ask_all(ask, &mut others);
        let best = match self.manner.overall {
            Some(overall) => timeout(overall, asked).await.unwrap_or(None),
            None => asked.await,
        };
        let now = self.clock.now();
        if let Some(response) = best.or(others.response) {
            return Kept::new(response, ask.rtype, &self.bounds, now);
        }
        let (zone, _) = self.routes.upstreams(&ask.name);
        if let Some(count) = self.counts.exhausted.get(zone) {
            add(count);
        }
        let why = if others.is_broken {
            ExtendedError::NETWORK_ERROR
        } else {
            ExtendedError::NO_REACHABLE_AUTHORITY
        };
        Kept::failure(&ask.question(), why, now)
    }

    fn upstreams(&self, name: &Name) -> impl Iterator<Item = &Arc<Upstream>> {
        let (_, addresses) = self.routes.upstreams(name);
        addresses
            .iter()
            .filter_map(|address| self.upstreams.get(address))
    }

    /// Asks the upstreams until one decides: those that are well some at a time, then the others
    /// all at once. While some are well the others are asked behind them now and then, to see
    /// whether they have come back.
    async fn ask_all(&self, ask: &Ask, others: &mut Others) -> Option<Response> {
        let mut upstreams: Vec<_> = self.upstreams(&ask.name).map(Arc::clone).collect();
        if self.manner.spreads {
            upstreams.shuffle(&mut rand::rng());
        }
        let (well, mut ill): (Vec<_>, Vec<_>) =
            upstreams.into_iter().partition(|one| one.is_well());
        if !well.is_empty() {
            for one in &ill {
                self.probe(one, ask);
            }
        }
        for together in well.chunks(self.manner.at_a_time.get()) {
            if let Some(response) = self.ask_some(ask, together, others).await {
                return Some(response);
            }
        }
        // There is an answer of a kind; nobody has to wait for the dead to better it.
        if others.response.is_some() {
            ill.retain(|one| !one.is_dead());
        }
        self.ask_some(ask, &ill, others).await
    }

    fn probe(&self, upstream: &Arc<Upstream>, ask: &Ask) {
        if !upstream.claim_probe() {
            return;
        }
        let (upstream, ask) = (Arc::clone(upstream), ask.clone());
        let listening = self.listening.clone();
        self.runtime.spawn(async move {
            // The upstream's own account is what is wanted of it.
            let _ = exchange::ask(&upstream, &ask, &listening).await;
        });
    }

    async fn ask_some(
        &self,
        ask: &Ask,
        together: &[Arc<Upstream>],
        others: &mut Others,
    ) -> Option<Response> {
        let mut running: Vec<_> = together
            .iter()
            .map(|upstream| Box::pin(exchange::ask(upstream, ask, &self.listening)))
            .collect();
        while let Some(result) = next(&mut running).await {
            match result {
                Ok(response) if response.is_final() => return Some(response),
                Ok(response) => {
                    others.response.get_or_insert(response);
                }
                Err(error) => others.is_broken |= !matches!(error, Failure::Unreachable(_)),
            }
        }
        None
    }
}

/// What upstreams said that did not decide.
#[derive(Default)]
struct Others {
    /// The first response of a code that says nothing of the name.
    response: Option<Response>,
    /// Whether one was reached and could not be understood.
    is_broken: bool,
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
