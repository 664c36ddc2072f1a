//! Zones of other servers: kept by the timers of their SOA (RFC 1034, section 4.3.5) and by NOTIFY,
//! from one primary or another.
//!
//! One task for each zone. What comes in is handed on and taken in by who has the zones; what does
//! not fit there is transferred whole.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use super::count;
use super::fetch::{FetchError, Primary};
use super::incoming::{Changes, Incoming, Unusable, Whole};
use super::store::ZoneFile;
use super::tsig::Key;
use super::versions::Versions;
use crate::zones::snapshot::Served;
use crate::zones::{Name, Rtype, Soa, serial};

/// Bounds of the timers, whatever a SOA says: a zero must not become a storm, nor a mistake a
/// month of silence.
const MIN_PERIOD: Duration = Duration::from_secs(1);
const MAX_PERIOD: Duration = Duration::from_secs(24 * 3600);
/// Between attempts while there is no zone yet: from the first on twice as long each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const MAX_FIRST_RETRY: Duration = Duration::from_secs(60);
/// Notices are followed at most this often.
const NOTICE_SPACING: Duration = Duration::from_millis(50);
/// A zone that changes all the time is written to its file at most this often.
const SAVE_SPACING: Duration = Duration::from_secs(2);

/// The key of a signed zone (RFC 4034, section 2).
const DNSKEY: Rtype = Rtype(48);

/// A zone to keep.
#[derive(Debug, Clone)]
pub struct Zone {
    /// Its apex.
    pub apex: Name,
    /// Whom it is taken from, in the order of preference.
    pub primaries: Vec<SocketAddr>,
    /// What requests are signed with.
    pub key: Option<Arc<Key>>,
    /// The address that requests come from, if it is to be a certain one.
    pub source: Option<IpAddr>,
    /// A transfer must be over within this.
    pub timeout: Duration,
}

/// What becomes of a zone.
#[derive(Debug)]
pub enum Take {
    /// This is all of it.
    Whole(Whole),
    /// This is different.
    Changes(Changes),
    /// It is too old to be answered from.
    Withdraw,
}

/// Something to take in, and where to say whether it was.
#[derive(Debug)]
pub struct Taken {
    /// The zone.
    pub zone: Name,
    /// What becomes of it.
    pub take: Take,
    /// How it went.
    pub done: oneshot::Sender<Result<(), Unusable>>,
}

/// How a zone is doing.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// The primary that it was taken from, or found to be the same as, last.
    pub primary: Option<SocketAddr>,
    /// The serial that is held.
    pub serial: Option<u32>,
    /// When it was known to be the latest.
    pub refreshed: Option<Instant>,
    /// What went wrong last, until it goes well.
    pub error: Option<String>,
    /// Whether what was held became too old.
    pub expired: bool,
}

/// The zones that are kept; they are left as they are when this is dropped.
pub struct Secondaries {
    /// What is to be taken in, in order.
    pub taken: mpsc::Receiver<Taken>,
    keepers: Vec<Kept>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

/// What is shared with the task of a zone.
struct Kept {
    apex: Name,
    wake: Arc<Notify>,
    health: Arc<Mutex<Health>>,
}

impl Secondaries {
    /// Starts to keep `zones`, first from the files in `directory`. Must be called within a tokio
    /// runtime.
    #[must_use]
    pub fn start(
        zones: Vec<Zone>,
        directory: &Path,
        served: &Arc<Served>,
        versions: &Arc<Versions>,
    ) -> Self {
        let (sink, taken) = mpsc::channel(1);
        let mut keepers = Vec::new();
        let mut tasks = Vec::new();
        for zone in zones {
            let kept = Kept {
                apex: zone.apex.clone(),
                wake: Arc::default(),
                health: Arc::default(),
            };
            let keeper = Keeper {
                file: ZoneFile::new(directory, &zone.apex),
                wake: Arc::clone(&kept.wake),
                health: Arc::clone(&kept.health),
                sink: sink.clone(),
                served: Arc::clone(served),
                versions: Arc::clone(versions),
                held: None,
                refreshed: Instant::now(),
                preferred: 0,
                saved: true,
                last_save: None,
                first_retry: FIRST_RETRY,
                seen: HashMap::new(),
                zone,
            };
            keepers.push(kept);
            tasks.push(AbortOnDropHandle::new(tokio::spawn(keeper.run())));
        }
        Self {
            taken,
            keepers,
            _tasks: tasks,
        }
    }

    /// Whom to wake when a primary says that a zone has changed.
    #[must_use]
    pub fn wakes(&self) -> HashMap<Name, Arc<Notify>> {
        let kept = self.keepers.iter();
        kept.map(|one| (one.apex.clone(), Arc::clone(&one.wake)))
            .collect()
    }

    /// How the zones are doing, now and later.
    #[must_use]
    pub fn health(&self) -> Vec<(Name, Arc<Mutex<Health>>)> {
        let kept = self.keepers.iter();
        kept.map(|one| (one.apex.clone(), Arc::clone(&one.health)))
            .collect()
    }
}

/// The version of a primary, beside the one that was held.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Theirs {
    Earlier,
    Same,
    /// It is held now.
    Later,
}

struct Keeper {
    zone: Zone,
    file: ZoneFile,
    wake: Arc<Notify>,
    health: Arc<Mutex<Health>>,
    sink: mpsc::Sender<Taken>,
    served: Arc<Served>,
    versions: Arc<Versions>,
    /// The SOA of what is held and not expired.
    held: Option<Soa>,
    /// When `held` was known to be the latest.
    refreshed: Instant,
    /// Which primary was right last.
    preferred: usize,
    saved: bool,
    last_save: Option<Instant>,
    first_retry: Duration,
    /// The serial that each primary had last.
    seen: HashMap<SocketAddr, u32>,
}

impl Keeper {
    async fn run(mut self) {
        self.restore().await;
        // Whether a primary said that there is news: then one that knows of none is not believed
        // before the others were asked.
        let mut is_noticed = false;
        loop {
            let result = self.refresh(is_noticed).await;
            let wait = self.note(result);
            self.save_if_due().await;
            let next = Instant::now() + wait;
            is_noticed = self.rest(next).await;
        }
    }

    /// Waits until `next`, or for a notice, and says which it was. Expiry and saving come due
    /// meanwhile.
    async fn rest(&mut self, next: Instant) -> bool {
        sleep(NOTICE_SPACING).await;
        loop {
            let expires = self
                .held
                .as_ref()
                .map(|soa| self.refreshed + Duration::from_secs(soa.expire.into()));
            let save = self
                .last_save
                .filter(|_| !self.saved)
                .map(|last| last + SAVE_SPACING);
            let wakes = [Some(next), expires, save];
            let first = wakes.into_iter().flatten().min().unwrap_or(next);
            let wake = Arc::clone(&self.wake);
            tokio::select! {
                () = wake.notified() => return true,
                () = sleep_until(first) => {}
            }
            let now = Instant::now();
            if expires.is_some_and(|at| at <= now) {
                self.expire().await;
            }
            self.save_if_due().await;
            if next <= now {
                return false;
            }
        }
    }

    /// Takes the zone from its file, if it is not too old.
    async fn restore(&mut self) {
        let file = self.file.clone();
        let loaded = tokio::task::spawn_blocking(move || file.load()).await;
        let (whole, age) = match loaded {
            Ok(Ok(Some(found))) => found,
            Ok(Ok(None)) => return,
            Ok(Err(error)) => {
                let file = self.file.path().display();
                warn!(%file, %error, "the zone is transferred anew");
                return;
            }
            Err(_) => return,
        };
        let soa = whole.soa.clone();
        if age >= Duration::from_secs(soa.expire.into()) {
            info!(zone = %self.zone.apex, "the zone that was kept is too old");
            self.let_go();
            return;
        }
        if self.hand_on(Take::Whole(whole)).await.is_ok() {
            info!(zone = %self.zone.apex, serial = soa.serial, ?age, "the zone is as it was kept");
            let now = Instant::now();
            self.set_refreshed(now.checked_sub(age).unwrap_or(now));
            self.hold(soa);
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&mut self, soa: Soa) {
        let mut health = self.health();
        (health.serial, health.expired) = (Some(soa.serial), false);
        drop(health);
        self.held = Some(soa);
    }

    fn let_go(&mut self) {
        let mut health = self.health();
        (health.serial, health.expired) = (None, true);
        drop(health);
        self.held = None;
    }

    fn set_refreshed(&mut self, at: Instant) {
        self.refreshed = at;
        self.health().refreshed = Some(at);
    }

    /// Asks primaries until one has what is held, or after a notice until one has news.
    async fn refresh(&mut self, is_noticed: bool) -> Result<(), Vec<(SocketAddr, FetchError)>> {
        count(&self.versions.counters.refreshes);
        let mut errors = Vec::new();
        let mut is_current = false;
        let (first, count) = (self.preferred, self.zone.primaries.len());
        for at in (0..count).map(|n| (first + n) % count) {
            let Some(&address) = self.zone.primaries.get(at) else {
                break;
            };
            let theirs = match self.refresh_from(address).await {
                Ok(theirs) => theirs,
                Err(error) => {
                    errors.push((address, error));
                    continue;
                }
            };
            self.set_refreshed(Instant::now());
            is_current = true;
            if theirs != Theirs::Earlier {
                self.preferred = at;
                self.health().primary = Some(address);
            }
            match theirs {
                Theirs::Later => break,
                Theirs::Same if !is_noticed => break,
                // Others may be ahead of it.
                Theirs::Same | Theirs::Earlier => {}
            }
        }
        if is_current { Ok(()) } else { Err(errors) }
    }

    /// Brings the zone up to what one primary has.
    async fn refresh_from(&mut self, address: SocketAddr) -> Result<Theirs, FetchError> {
        let primary = Primary {
            address,
            key: self.zone.key.clone(),
            source: self.zone.source,
        };
        let apex = self.zone.apex.clone();
        if let Some(held) = &self.held {
            let theirs = primary.soa(&apex).await?;
            let before = self.seen.insert(address, theirs.serial);
            if !serial::is_after(theirs.serial, held.serial) {
                if theirs.serial != held.serial {
                    let (held, theirs) = (held.serial, theirs.serial);
                    if before.is_none_or(|before| serial::is_after(before, theirs)) {
                        warn!(
                            zone = %apex, %address, theirs, held,
                            "the serial of the primary is behind ours: nothing is taken from it \
                             until it is later (RFC 1982)"
                        );
                    }
                    return Ok(Theirs::Earlier);
                }
                if self.saved
                    && let Err(error) = self.file.touch()
                {
                    debug!(zone = %apex, %error, "the time of the file");
                }
                return Ok(Theirs::Same);
            }
        }
        let held = self.held.clone();
        let result = self.transfer(&primary, held.as_ref()).await;
        let result = match result {
            // Without changes, or with such that make no sense, the whole zone is had.
            Err(error) if held.is_some() => {
                debug!(zone = %apex, %address, %error, "no incremental transfer");
                self.transfer(&primary, None).await
            }
            result => result,
        };
        result.map(|()| Theirs::Later)
    }

    async fn transfer(&mut self, primary: &Primary, held: Option<&Soa>) -> Result<(), FetchError> {
        let limit = self.zone.timeout;
        let apex = self.zone.apex.clone();
        let transferred = timeout(limit, primary.transfer(&apex, held)).await;
        let incoming = transferred.unwrap_or(Err(FetchError::Silence))?;
        let counters = &self.versions.counters;
        let (soa, take, how, counter) = match incoming {
            Incoming::Nothing => return Ok(()),
            Incoming::Whole(whole) => (
                whole.soa.clone(),
                Take::Whole(whole),
                "whole",
                &counters.whole_in,
            ),
            Incoming::Changes(changes) => {
                let soa = changes.soa.clone();
                (soa, Take::Changes(changes), "changes", &counters.changes_in)
            }
        };
        count(counter);
        if let Take::Whole(whole) = &take
            && self.held.is_none()
            && whole
                .records
                .iter()
                .any(|(_, rrset)| rrset.rtype() == DNSKEY)
        {
            warn!(zone = %apex, "the zone is signed, and is answered without DNSSEC");
        }
        self.hand_on(take).await?;
        let (serial, from) = (soa.serial, primary.address);
        if self.held.is_some() {
            debug!(zone = %apex, serial, %from, how, "transferred");
        } else {
            info!(zone = %apex, serial, %from, how, "transferred");
        }
        self.hold(soa);
        self.saved = false;
        self.last_save.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Has something taken in, and waits until it is.
    async fn hand_on(&self, take: Take) -> Result<(), Unusable> {
        let (done, result) = oneshot::channel();
        let taken = Taken {
            zone: self.zone.apex.clone(),
            take,
            done,
        };
        // Who takes nothing any more ends, and this task with it.
        let _ = self.sink.send(taken).await;
        match result.await {
            Ok(result) => result,
            Err(_) => std::future::pending().await,
        }
    }

    /// Notes how a refresh went, and gives the time until the next.
    fn note(&mut self, result: Result<(), Vec<(SocketAddr, FetchError)>>) -> Duration {
        let zone = &self.zone.apex;
        let (refresh, retry) = match &self.held {
            Some(soa) => (period(soa.refresh), period(soa.retry)),
            None => (MIN_PERIOD, self.first_retry),
        };
        match result {
            Ok(()) => {
                self.first_retry = FIRST_RETRY;
                if self.health().error.take().is_some() {
                    info!(%zone, "the zone is refreshed again");
                }
                jittered(refresh)
            }
            Err(errors) => {
                count(&self.versions.counters.refreshes_failed);
                let texts = errors
                    .iter()
                    .map(|(address, error)| format!("{address}: {error}"));
                let error = texts.collect::<Vec<_>>().join("; ");
                if self.health().error.as_ref() == Some(&error) {
                    debug!(%zone, error, "the zone is not refreshed");
                } else {
                    warn!(%zone, error, "the zone is not refreshed");
                }
                self.health().error = Some(error);
                if self.held.is_none() {
                    self.first_retry = (self.first_retry * 2).min(MAX_FIRST_RETRY);
                }
                jittered(retry.min(refresh.max(MAX_FIRST_RETRY)))
            }
        }
    }

    async fn expire(&mut self) {
        warn!(zone = %self.zone.apex, "the zone has expired: it is answered with SERVFAIL");
        // There is nothing about this that may not fit.
        let _ = self.hand_on(Take::Withdraw).await;
        self.let_go();
        self.saved = true;
    }

    async fn save_if_due(&mut self) {
        let is_due = self
            .last_save
            .is_none_or(|last| last.elapsed() >= SAVE_SPACING);
        if self.saved || !is_due {
            return;
        }
        let (file, snapshot) = (self.file.clone(), self.served.load_full());
        let saving = tokio::task::spawn_blocking(move || file.save(&snapshot));
        if let Ok(Err(error)) = saving.await {
            let file = self.file.path().display();
            warn!(%file, %error, "the zone is not kept for a restart");
        }
        self.saved = true;
        self.last_save = Some(Instant::now());
    }
}

fn period(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into()).clamp(MIN_PERIOD, MAX_PERIOD)
}

/// Somewhat less, so that a fleet that started together does not ask together.
fn jittered(period: Duration) -> Duration {
    period.mul_f64(rand::random_range(0.85..=1.0))
}

#[cfg(test)]
#[path = "secondary_tests.rs"]
mod tests;
