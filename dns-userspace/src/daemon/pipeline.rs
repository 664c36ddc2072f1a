//! One Mesos state through the whole pipeline: records, zones, answers, maps.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use arc_swap::{ArcSwap, ArcSwapOption};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use tracing::{debug, info, warn};

use crate::answers::encode::BlobEncoder;
use crate::dataplane::DataPlane;
use crate::mesos::Defects;
use crate::mesos::follow::Observation;
use crate::mesos::state::{self, State};
use crate::records::dcos::Update;
use crate::records::{self, MesosRecords, report, to_zone};
use crate::zones::snapshot::Served;
use crate::zones::{Diff, EditError, Editor, Snapshot, Zone, serial};

use super::dcos::{Cluster, News};

/// What is served, with what it was computed from; for the HTTP API.
#[derive(Debug)]
pub struct Published {
    /// The state, as far as it was read.
    pub state: Arc<State>,
    /// The masters, in the order in which they are numbered.
    pub candidates: Vec<String>,
    /// What the records were made by.
    pub settings: Arc<records::Settings>,
    /// The records, as mesos-dns names them.
    pub records: MesosRecords,
    /// The serial of the zone: the unix time of its last change, in seconds.
    pub serial: u32,
}

impl Published {
    /// The body of `/v1/enumerate`. Blocks: names in the state may have to be looked up.
    ///
    /// # Errors
    /// As [`report::enumerate_body`].
    pub fn enumerate_body(&self) -> serde_json::Result<Vec<u8>> {
        report::enumerate_body(&self.state, &self.candidates, &self.settings, &look_up)
    }

    /// The body of `/v1/axfr`.
    ///
    /// # Errors
    /// As [`report::axfr_body`].
    pub fn axfr_body(&self, refresh_seconds: u32) -> serde_json::Result<Vec<u8>> {
        report::axfr_body(&self.records, &self.settings, self.serial, refresh_seconds)
    }
}

/// Shared with the readers of what the pipeline makes.
#[derive(Debug)]
pub struct Outlet {
    /// The zones.
    pub served: Arc<Served>,
    /// `None` until the first state has come through.
    pub published: ArcSwapOption<Published>,
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
    /// What readers have, while they have nothing of this pipeline's.
    before: Option<Arc<Snapshot>>,
    dataplane: Arc<Mutex<DataPlane>>,
    outlet: Arc<Outlet>,
    /// What reading the present state left out.
    unread: Defects,
    logged: Defects,
    cluster: Option<Arc<Cluster>>,
}

impl Pipeline {
    /// A pipeline that serves nothing yet but what a DC/OS node knows by itself.
    ///
    /// # Errors
    /// The configured domain or name server is no domain name, or a zone is there twice.
    pub(super) fn new(
        settings: records::Settings,
        recursion_available: bool,
        seed: u64,
        dataplane: Arc<Mutex<DataPlane>>,
        cluster: Option<Arc<Cluster>>,
    ) -> anyhow::Result<Self> {
        let zone = zone(&settings, recursion_available)?;
        let mut zones = vec![zone.clone()];
        if let Some(cluster) = &cluster {
            zones.extend(cluster.zones().zones()?);
        }
        let editor = Editor::new(seed, zones, Arc::new(BlobEncoder), now())?;
        let outlet = Outlet {
            served: Arc::new(Served::from(Arc::clone(editor.snapshot()))),
            published: ArcSwapOption::empty(),
            left_out: ArcSwap::default(),
            leader_changes: AtomicU64::new(0),
            publish_duration: duration_histogram(),
        };
        let mut pipeline = Self {
            settings: Arc::new(settings),
            zone,
            editor,
            before: Some(Arc::new(Snapshot::empty(seed))),
            dataplane,
            outlet: Arc::new(outlet),
            unread: Defects::default(),
            logged: Defects::default(),
            cluster,
        };
        if let Some(cluster) = pipeline.cluster.clone() {
            let first = cluster.zones().first()?;
            pipeline.edit(first)?;
            pipeline.publish();
        }
        Ok(pipeline)
    }

    /// A pipeline by other settings that has the same readers; they see nothing of it before
    /// [`Self::publish_again`]. `None` if these settings are those of this one.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(super) fn successor(
        &self,
        settings: records::Settings,
        recursion_available: bool,
    ) -> anyhow::Result<Option<Self>> {
        let zone = zone(&settings, recursion_available)?;
        if settings == *self.settings && zone == self.zone {
            return Ok(None);
        }
        let older = self.editor.snapshot();
        let zones = older.zones().iter().map(|one| {
            if one.apex != self.zone.apex {
                return (**one).clone();
            }
            let mut own = zone.clone();
            own.soa.serial = serial::next(one.soa.serial, now());
            own
        });
        let encoder = Arc::new(BlobEncoder);
        let mut editor = Editor::new(older.seed(), zones.collect(), encoder, now())?;
        self.carry_over(&mut editor)?;
        Ok(Some(Self {
            settings: Arc::new(settings),
            zone,
            editor,
            before: Some(self.before.clone().unwrap_or_else(|| Arc::clone(older))),
            dataplane: Arc::clone(&self.dataplane),
            outlet: Arc::clone(&self.outlet),
            unread: self.unread.clone(),
            logged: self.logged.clone(),
            cluster: self.cluster.clone(),
        }))
    }

    /// Puts the content of the DC/OS zones into another editor: all but what is made of the
    /// mesos-dns zone.
    fn carry_over(&self, editor: &mut Editor) -> anyhow::Result<()> {
        let Some(cluster) = &self.cluster else {
            return Ok(());
        };
        let older = self.editor.snapshot();
        let mut made_anew = cluster.zones().mirror_apexes()?;
        made_anew.push(self.zone.apex.clone());
        let mut contents = vec![Vec::new(); older.zones().len()];
        for node in older.nodes() {
            if let Some(content) = contents.get_mut(usize::from(node.zone().0)) {
                let rrsets = node.rrsets().iter();
                content.extend(rrsets.map(|one| (node.owner().clone(), one.clone())));
            }
        }
        for (zone, content) in older.zones().iter().zip(contents) {
            if !made_anew.contains(&zone.apex) {
                editor.replace(&zone.apex, content)?;
                editor.mark_complete(&zone.apex, zone.complete)?;
            }
        }
        Ok(())
    }

    /// What the pipeline makes.
    #[must_use]
    pub(super) fn outlet(&self) -> Arc<Outlet> {
        Arc::clone(&self.outlet)
    }

    /// Takes in one state. Blocks: names in the state may have to be looked up.
    ///
    /// # Errors
    /// The state cannot be read; all stays as it was.
    pub(super) fn apply(&mut self, observation: &Observation) -> anyhow::Result<()> {
        let start = Instant::now();
        let (state, defects) = state::parse(&observation.body)
            .with_context(|| format!("state of {}", observation.fetched_from))?;
        let candidates: Vec<String> = observation
            .candidates
            .listed()
            .map(ToString::to_string)
            .collect();
        if let Some(before) = self.outlet.published.load_full() {
            if before.state.leader != state.leader {
                info!(leader = %state.leader, "another master leads");
                self.outlet.leader_changes.fetch_add(1, Ordering::Relaxed);
            }
            if *before.state == state && before.candidates == candidates {
                debug!("state unchanged");
                return Ok(());
            }
        }
        self.unread = defects;
        let records = self.take_records(&state, &candidates)?;
        let diff = self.publish();
        self.note_published(Arc::new(state), candidates, records);
        self.mirror(&diff)?;
        self.log_published(&diff, start);
        Ok(())
    }

    /// Serves by these settings, the present state included if there is one. Blocks, as
    /// [`Self::apply`].
    ///
    /// # Errors
    /// A name that is too long; what is served stays as it was.
    pub(super) fn publish_again(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        let Some(present) = self.outlet.published.load_full() else {
            self.publish();
            return Ok(());
        };
        let records = self.take_records(&present.state, &present.candidates)?;
        if let Some(cluster) = self.cluster.clone() {
            // The copy appears together with what it is a copy of.
            self.editor.commit(now());
            let own = Arc::clone(self.editor.snapshot());
            self.edit(cluster.whole_mirror(&self.zone.apex, &own)?)?;
            self.complete_mirror(&cluster)?;
        }
        let diff = self.publish();
        let (state, candidates) = (Arc::clone(&present.state), present.candidates.clone());
        self.note_published(state, candidates, records);
        self.log_published(&diff, start);
        Ok(())
    }

    /// Makes the records of a state the content of the mesos-dns zone, from the next commit on.
    fn take_records(
        &mut self,
        state: &State,
        candidates: &[String],
    ) -> Result<MesosRecords, EditError> {
        let records = records::build(state, candidates, &self.settings, &look_up);
        let content = to_zone::zone_content(&records, &self.settings, &self.zone.apex);
        let mut defects = self.unread.clone();
        defects.merge(&records.defects);
        defects.merge(&content.defects);
        self.report(defects);
        self.editor.replace(&self.zone.apex, content.rrsets)?;
        Ok(records)
    }

    fn note_published(&self, state: Arc<State>, candidates: Vec<String>, records: MesosRecords) {
        let zones = self.editor.snapshot().zones();
        let own = zones.iter().find(|one| one.apex == self.zone.apex);
        let published = Published {
            state,
            candidates,
            settings: Arc::clone(&self.settings),
            records,
            serial: own.map_or(0, |one| one.soa.serial),
        };
        self.outlet.published.store(Some(Arc::new(published)));
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

    /// Takes in what became known of a DC/OS cluster, in order, and publishes it at once.
    pub(super) fn apply_news(&mut self, news: Vec<News>) {
        let Some(cluster) = self.cluster.clone() else {
            return;
        };
        let start = Instant::now();
        for one in news {
            let result = cluster
                .take(one)
                .map_err(EditError::from)
                .and_then(|(zones, update)| {
                    self.add_zones(&cluster, zones)?;
                    self.edit(update)
                });
            if let Err(error) = result {
                warn!(%error, "a change of the cluster is left out");
            }
        }
        let diff = self.publish();
        if !diff.is_empty() {
            debug!(
                names = self.editor.snapshot().len(),
                added = diff.added.len(),
                changed = diff.changed.len(),
                removed = diff.removed.len(),
                microseconds = start.elapsed().as_micros(),
                "published"
            );
        }
    }

    fn add_zones(&mut self, cluster: &Cluster, zones: Vec<Zone>) -> Result<(), EditError> {
        if zones.is_empty() {
            return Ok(());
        }
        for zone in zones {
            self.editor.add(zone, now())?;
        }
        if self.outlet.published.load().is_some() {
            let own = Arc::clone(self.editor.snapshot());
            self.edit(cluster.whole_mirror(&self.zone.apex, &own)?)?;
            self.complete_mirror(cluster)?;
        }
        Ok(())
    }

    /// Brings the copy of the mesos-dns zone up to date with what was published of it.
    fn mirror(&mut self, diff: &Diff) -> Result<(), EditError> {
        let Some(cluster) = self.cluster.clone() else {
            return Ok(());
        };
        self.edit(cluster.mirror(&self.zone.apex, diff)?)?;
        self.complete_mirror(&cluster)?;
        self.publish();
        Ok(())
    }

    fn complete_mirror(&mut self, cluster: &Cluster) -> Result<(), EditError> {
        let apexes = cluster.zones().mirror_apexes()?;
        let mut apexes = apexes.iter();
        apexes.try_for_each(|apex| self.editor.mark_complete(apex, true))
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
        let mut diff = self.editor.commit(now());
        let snapshot = Arc::clone(self.editor.snapshot());
        if let Some(before) = self.before.take() {
            // Every name is written: finished answers may differ where the records do not.
            let removed = Diff::between(&before, &snapshot).removed;
            diff = Diff::between(&Snapshot::empty(snapshot.seed()), &snapshot);
            diff.removed = removed;
        }
        self.outlet.served.store(Arc::clone(&snapshot));
        let result = lock(&self.dataplane).publish(&snapshot, &diff);
        if let Err(error) = result {
            warn!(%error, "the kernel's maps could not be brought up to date");
        }
        diff
    }

    /// Says what was left out, when that is not what was left out before.
    fn report(&mut self, defects: Defects) {
        if defects == self.logged {
            return;
        }
        if defects.is_empty() {
            info!("nothing is left out of the state any more");
        } else {
            warn!(%defects, "left out of the state");
        }
        self.outlet.left_out.store(Arc::new(defects.clone()));
        self.logged = defects;
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
