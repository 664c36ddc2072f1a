//! What is known of a cluster through the whole pipeline: records, zones, answers, maps.
//!
//! A state that was fetched is read and made into records by [`Prepared::new`], which holds nobody
//! up; what is left to do under the lock is to put them in. An event changes a few names, at once
//! ([`live`]). Whatever was edited is committed and served by `publish`.

mod live;
mod mirror;
mod prepared;
mod successor;
mod transferred;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use arc_swap::{ArcSwap, ArcSwapOption};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use tracing::{debug, info, warn};

use crate::dataplane::DataPlane;
use crate::mesos::Defects;
use crate::mesos::state::State;
use crate::records::dcos::Update;
use crate::records::reverse::Pointers;
use crate::records::{self, MesosRecords, to_zone};
use crate::transfer::Versions;
use crate::zones::snapshot::Served;
use crate::zones::{Diff, EditError, Editor, Name, Snapshot, Zone};

use super::dcos::Cluster;
use super::events::Events;
use super::published::Published;

use prepared::Built;
pub(super) use prepared::Prepared;

/// Shared with the readers of what the pipeline makes.
#[derive(Debug)]
pub struct Outlet {
    /// The zones.
    pub served: Arc<Served>,
    /// `None` until the first state has come through.
    pub published: ArcSwapOption<Published>,
    /// Whether that is made from events.
    pub(super) is_live: AtomicBool,
    /// Whether events have changed records since.
    pub(super) is_stale: AtomicBool,
    /// What records are made by.
    pub(super) settings: ArcSwap<records::Settings>,
    /// What the state holds but is not served.
    pub left_out: ArcSwap<Defects>,
    /// Changes of the leading master.
    pub leader_changes: AtomicU64,
    /// Times from a state that changed to its being served.
    pub publish_duration: Histogram,
}

/// Takes observations in and brings what is served up to date.
pub(super) struct Pipeline {
    settings: Arc<records::Settings>,
    zone: Zone,
    editor: Editor,
    pointers: Option<Pointers>,
    events: Events,
    /// What readers have, while they have nothing of this pipeline's.
    before: Option<Arc<Snapshot>>,
    dataplane: Arc<Mutex<DataPlane>>,
    outlet: Arc<Outlet>,
    /// What reading the present state left out.
    unread: Defects,
    logged: Defects,
    follows_mesos: bool,
    cluster: Option<Arc<Cluster>>,
    versions: Option<Arc<Versions>>,
}

/// Where zones come from, and where their versions are kept.
pub(super) struct Origins {
    /// If not, there is no mesos-dns zone.
    pub(super) follows_mesos: bool,
    /// A DC/OS node, if this is one.
    pub(super) cluster: Option<Arc<Cluster>>,
    /// The zones of other servers, empty.
    pub(super) secondaries: Vec<Zone>,
    /// `None` if zones are not transferred.
    pub(super) versions: Option<Arc<Versions>>,
}

impl Pipeline {
    /// A pipeline that serves nothing yet but what a DC/OS node knows by itself. When there has
    /// been no event stream for `patience`, states fetched take its place.
    ///
    /// # Errors
    /// The configured domain or name server is no domain name, or a zone is there twice.
    pub(super) fn new(
        settings: records::Settings,
        recursion_available: bool,
        seed: u64,
        dataplane: Arc<Mutex<DataPlane>>,
        origins: Origins,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let zone = zone(&settings, recursion_available)?;
        let settings = Arc::new(settings);
        let Origins {
            follows_mesos,
            cluster,
            secondaries,
            versions,
        } = origins;
        let mut zones = Vec::new();
        if follows_mesos {
            zones.push(zone.clone());
        }
        zones.extend(settings.reverse.zones(&settings, recursion_available)?);
        if let Some(cluster) = &cluster {
            zones.extend(cluster.zones().zones()?);
        }
        for zone in &mut zones {
            go_on(zone, versions.as_deref());
        }
        zones.extend(secondaries);
        let encoder = lock(&dataplane).encoder();
        let editor = Editor::new(seed, zones, encoder, now())?;
        let outlet = Outlet {
            served: Arc::new(Served::from(Arc::clone(editor.snapshot()))),
            published: ArcSwapOption::empty(),
            is_live: AtomicBool::new(false),
            is_stale: AtomicBool::new(false),
            settings: ArcSwap::from(Arc::clone(&settings)),
            left_out: ArcSwap::default(),
            leader_changes: AtomicU64::new(0),
            publish_duration: duration_histogram(),
        };
        let mut pipeline = Self {
            pointers: Pointers::new(&settings, zone.apex.clone()),
            settings,
            zone,
            editor,
            events: Events::new(patience),
            before: Some(Arc::new(Snapshot::empty(seed))),
            dataplane,
            outlet: Arc::new(outlet),
            unread: Defects::default(),
            logged: Defects::default(),
            follows_mesos,
            cluster,
            versions,
        };
        if let Some(cluster) = pipeline.cluster.clone() {
            let first = cluster.zones().first()?;
            pipeline.edit(first)?;
            pipeline.publish();
        }
        Ok(pipeline)
    }

    /// What the pipeline makes.
    #[must_use]
    pub(super) fn outlet(&self) -> Arc<Outlet> {
        Arc::clone(&self.outlet)
    }

    /// Takes in a state that was fetched. While there is an event stream, only what events lack.
    ///
    /// # Errors
    /// A name that is too long; all stays as it was.
    pub(super) fn apply(&mut self, prepared: Prepared) -> anyhow::Result<()> {
        let was_live = self.events.live().is_some();
        if let Some(names) = self.events.fetched(&prepared.state) {
            return Ok(self.publish_names(names, prepared.begun)?);
        }
        let candidates = &prepared.candidates;
        if let Some(before) = self.outlet.published.load_full() {
            self.note_leader(&before.state.leader, &prepared.state.leader);
            let is_same = *before.state == *prepared.state && before.candidates == *candidates;
            if is_same && !was_live {
                debug!("state unchanged");
                return Ok(());
            }
        }
        let built = prepared.built;
        let built = built.filter(|built| Arc::ptr_eq(&built.settings, &self.settings));
        let built = built.unwrap_or_else(|| {
            Built::new(&prepared.state, candidates, &self.settings, &self.zone.apex)
        });
        self.unread = prepared.unread;
        let records = self.put_in(built)?;
        let diff = self.publish();
        self.note_published(prepared.state, prepared.candidates, Some(records));
        self.mirror(&diff)?;
        self.log_published(&diff, prepared.begun);
        Ok(())
    }

    fn note_leader(&self, before: &str, leader: &str) {
        if before != leader {
            info!(leader, "another master leads");
            self.outlet.leader_changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Makes the records of a state the content of the mesos-dns zone, from the next commit on.
    fn put_in(&mut self, built: Built) -> Result<MesosRecords, EditError> {
        let Built {
            records, content, ..
        } = built;
        let mut defects = self.unread.clone();
        defects.merge(&records.defects);
        defects.merge(&content.defects);
        self.report(defects);
        self.editor.replace(&self.zone.apex, content.rrsets)?;
        Ok(records)
    }

    fn note_published(
        &self,
        state: Arc<State>,
        candidates: Vec<String>,
        records: Option<MesosRecords>,
    ) {
        let hosts = self.events.live().map(|live| {
            let hosts = live.known_hosts();
            hosts
                .map(|(host, ips)| (host.to_owned(), ips.to_vec()))
                .collect()
        });
        let settings = Arc::clone(&self.settings);
        let mut published = Published::new(state, candidates, settings, self.serial());
        published.records = records.map(Into::into).unwrap_or_default();
        published.hosts = hosts;
        self.outlet
            .is_live
            .store(published.hosts.is_some(), Ordering::Relaxed);
        self.outlet.published.store(Some(Arc::new(published)));
    }

    fn serial(&self) -> u32 {
        let zones = self.editor.snapshot().zones();
        let own = zones.iter().find(|one| one.apex == self.zone.apex);
        own.map_or(0, |one| one.soa.serial)
    }

    fn log_published(&self, diff: &Diff, start: Instant) {
        let took = start.elapsed();
        self.outlet.publish_duration.observe(took.as_secs_f64());
        let published = self.outlet.published.load();
        let frameworks = published.as_ref().map(|one| &one.state.frameworks);
        let tasks: usize = frameworks.map_or(0, |all| all.iter().map(|one| one.tasks.len()).sum());
        info!(
            tasks,
            names = self.editor.snapshot().len(),
            added = diff.added.len(),
            changed = diff.changed.len(),
            removed = diff.removed.len(),
            milliseconds = took.as_millis(),
            "published"
        );
    }

    fn edit(&mut self, update: Update) -> Result<(), EditError> {
        for content in update.zones {
            self.editor.replace(&content.zone.apex, content.records)?;
        }
        for (name, rrsets) in update.names {
            self.editor.set(&name, rrsets)?;
        }
        Ok(())
    }

    /// Ends a set of changes and brings what is served up to date with it.
    fn publish(&mut self) -> Diff {
        let last = Arc::clone(self.editor.snapshot());
        let mut diff = self.editor.commit(now());
        match self.point_back(&diff) {
            Ok(true) => {
                self.editor.commit(now());
                diff = Diff::between(&last, self.editor.snapshot());
            }
            Ok(false) => {}
            Err(error) => warn!(%error, "reverse names are left out"),
        }
        if let Some(versions) = &self.versions {
            let served = self.outlet.served.load_full();
            // After a reload, or a commit of which nothing was served.
            if !Arc::ptr_eq(&served, &last) {
                diff = Diff::between(&served, self.editor.snapshot());
            }
            let again = versions.enter(&mut self.editor, &served, &diff, now());
            diff = again.unwrap_or(diff);
        }
        let snapshot = Arc::clone(self.editor.snapshot());
        if let Some(before) = self.before.take() {
            diff = Diff::between(&before, &snapshot);
        }
        self.serve(&snapshot);
        if let Some(versions) = &self.versions {
            versions.announce();
        }
        diff
    }

    /// Finishes all answers anew, for a data plane that took the place of another.
    pub(super) fn change_dataplane(&mut self) {
        let encoder = lock(&self.dataplane).encoder();
        self.editor.encode_with(encoder);
        let snapshot = Arc::clone(self.editor.snapshot());
        self.serve(&snapshot);
    }

    fn serve(&self, snapshot: &Arc<Snapshot>) {
        self.outlet.served.store(Arc::clone(snapshot));
        let result = lock(&self.dataplane).publish(snapshot);
        if let Err(error) = result {
            warn!(%error, "the kernel's maps could not be brought up to date");
        }
    }

    /// Brings the reverse zones up to date with what was committed. Says whether that takes another
    /// commit.
    fn point_back(&mut self, diff: &Diff) -> Result<bool, EditError> {
        let Some(pointers) = &mut self.pointers else {
            return Ok(false);
        };
        let changes = pointers.update(diff)?;
        let snapshot = self.editor.snapshot();
        let is_known = |apex: &Name| {
            snapshot
                .zones()
                .iter()
                .any(|one| one.apex == *apex && one.complete)
        };
        let mut is_edited = !changes.is_empty();
        if is_known(&self.zone.apex) {
            let mut unknown = self.settings.reverse.apexes()?;
            unknown.retain(|apex| !is_known(apex));
            is_edited |= !unknown.is_empty();
            for apex in unknown {
                self.editor.mark_complete(&apex, true)?;
            }
        }
        for (name, rrsets) in changes {
            self.editor.set(&name, rrsets)?;
        }
        Ok(is_edited)
    }

    /// Says what was left out, when that is not what was left out before.
    fn report(&mut self, defects: Defects) {
        if defects == self.logged {
            return;
        }
        let reasons =
            |of: &Defects| -> Vec<_> { of.entries().iter().map(|one| one.reason).collect() };
        if defects.is_empty() {
            info!("nothing is left out of the state any more");
        } else if self.events.live().is_none() || reasons(&defects) != reasons(&self.logged) {
            // Events change the counts all the time.
            warn!(%defects, "left out of the state");
        }
        self.outlet.left_out.store(Arc::new(defects.clone()));
        self.logged = defects;
    }
}

/// Has a zone begin with the serial it had, and move it with each change, where it is transferred.
fn go_on(zone: &mut Zone, versions: Option<&Versions>) {
    if let Some(versions) = versions {
        zone.fixed_serial = false;
        zone.soa.serial = versions.serial(&zone.apex);
    }
}

fn zone(settings: &records::Settings, recursion_available: bool) -> anyhow::Result<Zone> {
    to_zone::zone(settings, recursion_available)
        .with_context(|| format!("domain {:?}", settings.domain))
}

/// From a millisecond to eight seconds.
pub(super) fn duration_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 14))
}

/// Locks, also after a panic elsewhere: the data behind it is valid at any time.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The addresses of a host by the resolver of the system. Blocks.
pub(crate) fn look_up(host: &str) -> Vec<IpAddr> {
    use std::net::ToSocketAddrs;
    let found = (host, 0).to_socket_addrs();
    found.map_or_else(|_| Vec::new(), |all| all.map(|one| one.ip()).collect())
}

fn unix_seconds(at: SystemTime) -> u32 {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

fn now() -> u32 {
    unix_seconds(SystemTime::now())
}
