//! One Mesos state through the whole pipeline: records, zones, answers, maps.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use arc_swap::ArcSwapOption;
use tracing::{debug, info, warn};

use crate::answers::encode::BlobEncoder;
use crate::dataplane::DataPlane;
use crate::mesos::Defects;
use crate::mesos::follow::Observation;
use crate::mesos::state::{self, State};
use crate::records::dcos::Update;
use crate::records::{self, MesosRecords, to_zone};
use crate::zones::snapshot::Served;
use crate::zones::{Diff, EditError, Editor, Snapshot, Zone};

use super::dcos::{Cluster, News};

/// What is served, with what it was computed from; for the HTTP API.
#[derive(Debug)]
pub struct Published {
    /// The state, as far as it was read.
    pub state: State,
    /// The masters, in the order in which they are numbered.
    pub candidates: Vec<String>,
    /// The records, as mesos-dns names them.
    pub records: MesosRecords,
    /// Unix time of the refresh, in seconds: the serial that mesos-dns shows.
    pub serial: u32,
}

/// Shared with the readers of what the pipeline makes.
#[derive(Debug)]
pub struct Outlet {
    /// The zones.
    pub served: Arc<Served>,
    /// `None` until the first state has come through.
    pub published: ArcSwapOption<Published>,
}

/// Takes observations in and brings what is served up to date.
pub(super) struct Pipeline {
    settings: records::Settings,
    zone: Zone,
    editor: Editor,
    dataplane: Arc<Mutex<DataPlane>>,
    outlet: Arc<Outlet>,
    logged: Defects,
    cluster: Option<Arc<Cluster>>,
    /// Whether anything was published.
    begun: bool,
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
        let zone = to_zone::zone(&settings, recursion_available)
            .with_context(|| format!("domain {:?}", settings.domain))?;
        let mut zones = vec![zone.clone()];
        if let Some(cluster) = &cluster {
            zones.extend(cluster.zones().zones()?);
        }
        let editor = Editor::new(seed, zones, Arc::new(BlobEncoder), now())?;
        let outlet = Outlet {
            served: Arc::new(Served::from(Arc::clone(editor.snapshot()))),
            published: ArcSwapOption::empty(),
        };
        let mut pipeline = Self {
            settings,
            zone,
            editor,
            dataplane,
            outlet: Arc::new(outlet),
            logged: Defects::default(),
            cluster,
            begun: false,
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

    /// Takes in one state. Blocks: names in the state may have to be looked up.
    ///
    /// # Errors
    /// The state cannot be read; all stays as it was.
    pub(super) fn apply(&mut self, observation: &Observation) -> anyhow::Result<()> {
        let start = Instant::now();
        let (state, mut defects) = state::parse(&observation.body)
            .with_context(|| format!("state of {}", observation.fetched_from))?;
        let candidates: Vec<String> = observation
            .candidates
            .listed()
            .map(ToString::to_string)
            .collect();
        let serial = unix_seconds(observation.at);
        let before = self.outlet.published.load_full();
        if let Some(before) = &before
            && before.state == state
            && before.candidates == candidates
        {
            debug!("state unchanged");
            return Ok(());
        }
        let records = records::build(&state, &candidates, &self.settings, &look_up);
        let content = to_zone::zone_content(&records, &self.settings, &self.zone.apex);
        defects.merge(&records.defects);
        defects.merge(&content.defects);
        self.report(defects);

        self.editor.replace(&self.zone.apex, content.rrsets)?;
        let diff = self.publish();
        let tasks: usize = state.frameworks.iter().map(|one| one.tasks.len()).sum();
        let published = Published {
            state,
            candidates,
            records,
            serial,
        };
        self.outlet.published.store(Some(Arc::new(published)));
        self.mirror(&diff)?;
        info!(
            tasks,
            names = self.editor.snapshot().len(),
            added = diff.added.len(),
            changed = diff.changed.len(),
            removed = diff.removed.len(),
            milliseconds = start.elapsed().as_millis(),
            "published"
        );
        Ok(())
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
        if !std::mem::replace(&mut self.begun, true) {
            // The apex and the like were there before anything was published.
            diff = Diff::between(&Snapshot::empty(snapshot.seed()), &snapshot);
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
        self.logged = defects;
    }
}

/// Locks, also after a panic elsewhere: the data behind it is valid at any time.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn look_up(host: &str) -> Vec<IpAddr> {
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
