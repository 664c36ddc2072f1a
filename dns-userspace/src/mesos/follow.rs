//! The loop: detects masters, fetches the state when something happens or time has come, and
//! hands every state on.
//!
//! A fetch runs beside the loop, so one that hangs delays nothing else: a detection event drops
//! it and begins another with the candidates of that moment.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::bytes::Bytes;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use super::fetch::{FetchError, FetchSettings, Fetched, Fetcher, SetupError};
use super::leader::{Candidates, Detection, DetectionSettings, detect};
use super::master::MasterAddress;
use super::zookeeper::ZooKeeperStatus;

/// Refreshes that detection events cause are at least this far apart, as in mesos-dns.
const EVENT_SPACING: Duration = Duration::from_secs(1);
/// Fetches that are wished for are at least this far apart, and ten times as long as one takes: the
/// leading master is not to be kept busy by them.
const WISH_SPACING: Duration = Duration::from_secs(1);
const WISH_SPACING_FETCHES: u32 = 10;
/// Pause after the first failed fetch; it doubles with each further one, up to the refresh period.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Different error texts logged during one outage; the rest is counted.
const MAX_LOGGED_ERRORS: usize = 8;

/// What is followed, and how.
#[derive(Clone, Debug)]
pub struct FollowSettings {
    /// Whether the state is fetched at all, and masters not only looked for.
    pub fetches: bool,
    /// `RefreshSeconds`: the time from one fetch to the next; more than zero.
    pub refresh: Duration,
    /// How masters are found.
    pub detection: DetectionSettings,
    /// How they are asked.
    pub fetch: FetchSettings,
}

/// A state that was fetched.
#[derive(Clone, Debug)]
pub struct Observation {
    /// One JSON object with a leader in it; checked for syntax only.
    pub body: Bytes,
    /// The `leader` text in it: `master@10.0.0.1:5050`.
    pub leader: String,
    /// The candidates of that fetch; `masterN` records follow their order.
    pub candidates: Candidates,
    /// The master that gave the state.
    pub fetched_from: MasterAddress,
    /// When it had arrived.
    pub at: SystemTime,
}

/// How following goes, for `status`, readiness and metrics.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The masters known, the leading one first.
    pub candidates: Candidates,
    /// The leader by the last state fetched.
    pub leader: Option<MasterAddress>,
    /// The master that gave the last state.
    pub fetched_from: Option<MasterAddress>,
    /// When the last state arrived.
    pub last_success: Option<SystemTime>,
    /// The last failure, also when it is over.
    pub last_error: Option<FetchFailure>,
    /// Failures since the last success.
    pub failures_in_a_row: u64,
    /// Whether the leader has been unknown for longer than `ZkDetectionTimeout`.
    pub detection_timed_out: bool,
    /// The connection to ZooKeeper, where there is one.
    pub zookeeper: Option<ZooKeeperStatus>,
    /// Counts since the start.
    pub counters: Counters,
}

/// A failed fetch.
#[derive(Clone, Debug)]
pub struct FetchFailure {
    /// Each master asked, with the reason.
    pub error: String,
    /// When it failed.
    pub at: SystemTime,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Fetches begun.
    pub fetches: u64,
    /// Fetches that gave a state.
    pub successes: u64,
    /// Fetches that failed.
    pub failures: u64,
    /// Fetches dropped because a detection event came.
    pub replaced: u64,
    /// Changes of the candidates.
    pub detection_events: u64,
    /// Octets of all states, decompressed.
    pub state_octets: u64,
}

/// A running loop; ends when dropped.
pub struct Follower {
    /// The states, in order of arrival. If the receiver is slow, only the latest waits.
    pub observations: mpsc::Receiver<Observation>,
    /// How it goes.
    pub status: watch::Receiver<Status>,
    /// The masters known; a change is a detection event.
    pub candidates: watch::Receiver<Candidates>,
    /// Wishes for a fetch before its time, for who knows that the state has changed. The first is
    /// granted at once; others wait, together, so that fetches stay rare.
    pub wishes: Arc<Notify>,
    _task: AbortOnDropHandle<()>,
}

/// Starts to follow. Must be called within a tokio runtime.
///
/// Nothing that Mesos or ZooKeeper do ends it.
///
/// # Errors
///
/// [`SetupError`] when a certificate or key in the settings cannot be used.
pub fn follow(settings: FollowSettings) -> Result<Follower, SetupError> {
    let fetcher = Arc::new(Fetcher::new(settings.fetch)?);
    let fetch = move |candidates: Candidates| {
        let fetcher = Arc::clone(&fetcher);
        async move { fetcher.refresh(&candidates).await }
    };
    let detection = detect(&settings.detection);
    let refresh = settings.fetches.then_some(settings.refresh);
    Ok(follow_with(
        refresh,
        settings.detection.timeout,
        detection,
        fetch,
    ))
}

impl Follower {
    /// Follows nobody, and never has anything to tell. Must be called within a tokio runtime.
    #[must_use]
    pub fn idle() -> Self {
        let (outlet, observations) = mpsc::channel(1);
        let (status, status_receiver) = watch::channel(Status::default());
        let (candidates, candidates_receiver) = watch::channel(Candidates::default());
        let task = async move {
            let _senders = (outlet, status, candidates);
            std::future::pending().await
        };
        Self {
            observations,
            status: status_receiver,
            candidates: candidates_receiver,
            wishes: Arc::default(),
            _task: AbortOnDropHandle::new(tokio::spawn(task)),
        }
    }
}

/// The loop with any way to fetch, every `refresh` or never.
fn follow_with<Fetch, Fetching>(
    refresh: Option<Duration>,
    detection_timeout: Duration,
    detection: Detection,
    fetch: Fetch,
) -> Follower
where
    Fetch: Fn(Candidates) -> Fetching + Send + 'static,
    Fetching: Future<Output = Result<Fetched, FetchError>> + Send + 'static,
{
    let (outlet, observations) = mpsc::channel(1);
    let candidates = detection.candidates.clone();
    let (status, status_receiver) = watch::channel(Status::default());
    let wishes = Arc::new(Notify::new());
    let run = Loop {
        wishes: Arc::clone(&wishes),
        fetches: refresh.is_some(),
        refresh: refresh.unwrap_or_default().max(Duration::from_millis(1)),
        detection_timeout,
        detection,
        fetch,
        status,
        outlet,
        waiting: None,
        outage: Outage::default(),
    };
    let task = AbortOnDropHandle::new(tokio::spawn(run.run()));
    Follower {
        observations,
        status: status_receiver,
        candidates,
        wishes,
        _task: task,
    }
}

struct Loop<Fetch> {
    wishes: Arc<Notify>,
    fetches: bool,
    refresh: Duration,
    detection_timeout: Duration,
    detection: Detection,
    fetch: Fetch,
    status: watch::Sender<Status>,
    outlet: mpsc::Sender<Observation>,
    /// A state the receiver has no room for yet.
    waiting: Option<Observation>,
    outage: Outage,
}

/// A fetch under way.
struct InFlight {
    begun: Instant,
    candidates: Candidates,
    task: AbortOnDropHandle<Result<Fetched, FetchError>>,
}

impl<Fetch, Fetching> Loop<Fetch>
where
    Fetch: Fn(Candidates) -> Fetching + Send + 'static,
    Fetching: Future<Output = Result<Fetched, FetchError>> + Send + 'static,
{
    async fn run(mut self) {
        let outlet = self.outlet.clone();
        let mut candidates = self.detection.candidates.clone();
        let mut zookeeper = self.detection.zookeeper.clone();
        let with_zookeeper = zookeeper.is_some();
        let mut in_flight: Option<InFlight> = None;
        let begun = Instant::now();
        let first = candidates.borrow_and_update().clone();
        // Before ZooKeeper has said anything there may be nobody to ask.
        let wait = first.to_ask().next().is_none() && with_zookeeper;
        let mut due = if wait { begun + self.refresh } else { begun };
        self.status.send_modify(|status| status.candidates = first);
        let wishes = Arc::clone(&self.wishes);
        let (mut wished, mut wishes_from) = (false, begun);
        let mut event_due: Option<Instant> = None;
        let mut next_event_at = begun;
        let mut leader_overdue = self.leader_overdue(begun, with_zookeeper);
        loop {
            tokio::select! {
                () = outlet.closed() => return,
                permit = outlet.reserve(), if self.waiting.is_some() => {
                    if let (Ok(permit), Some(observation)) = (permit, self.waiting.take()) {
                        permit.send(observation);
                    }
                }
                Ok(()) = candidates.changed() => {
                    let list = candidates.borrow_and_update().clone();
                    debug!(leader = ?list.leader, others = list.others.len(), "masters changed");
                    leader_overdue = match (&list.leader, leader_overdue) {
                        (Some(_), _) => None,
                        (None, Some(at)) => Some(at),
                        (None, None) => self.leader_overdue(Instant::now(), with_zookeeper),
                    };
                    self.status.send_modify(|status| {
                        status.counters.detection_events += 1;
                        status.detection_timed_out &= list.leader.is_none();
                        status.candidates = list;
                    });
                    if self.fetches {
                        event_due.get_or_insert(next_event_at);
                    }
                }
                changed = changed(&mut zookeeper) => match changed {
                    Some(present) => self.status.send_modify(|status| status.zookeeper = Some(present)),
                    None => zookeeper = None,
                },
                () = at(event_due) => {
                    event_due = None;
                    next_event_at = Instant::now() + EVENT_SPACING;
                    if in_flight.take().is_some() {
                        self.status.send_modify(|status| status.counters.replaced += 1);
                    }
                    (in_flight, due) = self.begin(candidates.borrow().clone());
                }
                () = sleep_until(due), if self.fetches && in_flight.is_none() => {
                    (in_flight, due) = self.begin(candidates.borrow().clone());
                }
                () = wishes.notified() => wished = self.fetches,
                () = at(wished.then_some(wishes_from)), if in_flight.is_none() => {
                    wished = false;
                    (in_flight, due) = self.begin(candidates.borrow().clone());
                }
                result = finished(&mut in_flight) => {
                    if let Some(fetch) = in_flight.take() {
                        let pause = fetch.begun.elapsed() * WISH_SPACING_FETCHES;
                        wishes_from = Instant::now() + pause.max(WISH_SPACING);
                    }
                    due = self.finish(result, due);
                }
                () = at(leader_overdue) => {
                    leader_overdue = None;
                    warn!(after = ?self.detection_timeout, "no leading master detected; going on without");
                    self.status.send_modify(|status| status.detection_timed_out = true);
                }
            }
        }
    }

    /// When an unknown leader is to be complained about.
    fn leader_overdue(&self, since: Instant, with_zookeeper: bool) -> Option<Instant> {
        (with_zookeeper && !self.detection_timeout.is_zero())
            .then(|| since + self.detection_timeout)
    }

    /// Begins a fetch; gives the time of the one after it, too.
    fn begin(&self, candidates: Candidates) -> (Option<InFlight>, Instant) {
        self.status
            .send_modify(|status| status.counters.fetches += 1);
        let task = AbortOnDropHandle::new(tokio::spawn((self.fetch)(candidates.clone())));
        (
            Some(InFlight {
                begun: Instant::now(),
                candidates,
                task,
            }),
            Instant::now() + self.refresh,
        )
    }

    /// Takes in the outcome of a fetch; gives the time of the next one.
    fn finish(
        &mut self,
        (candidates, result): (Candidates, Result<Fetched, String>),
        due: Instant,
    ) -> Instant {
        let moment = SystemTime::now();
        match result {
            Ok(fetched) => {
                if let Some(failures) = self.outage.over() {
                    info!(failures, master = %fetched.fetched_from, "state is fetched again");
                }
                self.status.send_modify(|status| {
                    status.leader = MasterAddress::from_leader(&fetched.leader).ok();
                    status.fetched_from = Some(fetched.fetched_from.clone());
                    status.last_success = Some(moment);
                    status.failures_in_a_row = 0;
                    status.counters.successes += 1;
                    status.counters.state_octets += fetched.body.len() as u64;
                });
                let Fetched {
                    body,
                    leader,
                    fetched_from,
                } = fetched;
                self.waiting = Some(Observation {
                    body,
                    leader,
                    candidates,
                    fetched_from,
                    at: moment,
                });
                due
            }
            Err(error) => {
                let retry = self.outage.failed(&error, self.refresh);
                self.status.send_modify(|status| {
                    status.failures_in_a_row += 1;
                    status.counters.failures += 1;
                    status.last_error = Some(FetchFailure { error, at: moment });
                });
                // Never later than the regular time, unless that passed while the fetch hung.
                due.min(Instant::now() + retry).max(Instant::now())
            }
        }
    }
}

/// Waits for the fetch under way; for ever if there is none.
async fn finished(in_flight: &mut Option<InFlight>) -> (Candidates, Result<Fetched, String>) {
    let Some(fetch) = in_flight else {
        return std::future::pending().await;
    };
    let result = match (&mut fetch.task).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(error) => Err(format!("the fetch ended early: {error}")),
    };
    (fetch.candidates.clone(), result)
}

/// Waits until a moment; for ever without one.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Waits for a change; `None` when there can be no more, for ever without a channel.
async fn changed(
    zookeeper: &mut Option<watch::Receiver<ZooKeeperStatus>>,
) -> Option<ZooKeeperStatus> {
    let Some(receiver) = zookeeper else {
        return std::future::pending().await;
    };
    receiver.changed().await.ok()?;
    Some(receiver.borrow_and_update().clone())
}

/// Failures since the last success: the pause grows, and each different error is logged once.
#[derive(Default)]
struct Outage {
    failures: u64,
    logged: HashSet<String>,
}

impl Outage {
    /// Notes a failure; gives the pause before the next try.
    fn failed(&mut self, error: &str, longest: Duration) -> Duration {
        self.failures += 1;
        if self.logged.len() < MAX_LOGGED_ERRORS && self.logged.insert(error.to_owned()) {
            warn!(
                error,
                failures = self.failures,
                "Error generating records; keeping old DNS state"
            );
        } else {
            debug!(
                error,
                failures = self.failures,
                "Error generating records; keeping old DNS state"
            );
        }
        let doublings = u32::try_from(self.failures - 1).unwrap_or(u32::MAX).min(16);
        let pause = (FIRST_RETRY * 2_u32.pow(doublings)).min(longest);
        pause.mul_f64(rand::random_range(0.75..1.0))
    }

    /// Ends the outage; gives the count of failures if there were any.
    fn over(&mut self) -> Option<u64> {
        let failures = std::mem::take(self).failures;
        (failures > 0).then_some(failures)
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
