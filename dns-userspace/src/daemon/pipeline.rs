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
use crate::records::{self, MesosRecords, to_zone};
use crate::zones::snapshot::Served;
use crate::zones::{Diff, Editor, Snapshot, Zone};

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
}

impl Pipeline {
    /// A pipeline that serves nothing yet.
    ///
    /// # Errors
    /// The configured domain or name server is no domain name.
    pub(super) fn new(
        settings: records::Settings,
        recursion_available: bool,
        seed: u64,
        dataplane: Arc<Mutex<DataPlane>>,
    ) -> anyhow::Result<Self> {
        let zone = to_zone::zone(&settings, recursion_available)
            .with_context(|| format!("domain {:?}", settings.domain))?;
        let editor = Editor::new(seed, vec![zone.clone()], Arc::new(BlobEncoder), now())?;
        let outlet = Outlet {
            served: Arc::new(Served::from(Arc::clone(editor.snapshot()))),
            published: ArcSwapOption::empty(),
        };
        Ok(Self {
            settings,
            zone,
            editor,
            dataplane,
            outlet: Arc::new(outlet),
            logged: Defects::default(),
        })
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
        let (state, mut defects) = state::parse(&observation.body).with_context(|| {
            format!(
                "state of {}: keeping the last good one",
                observation.fetched_from
            )
        })?;
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

        let is_first = before.is_none();
        let older = Arc::clone(self.editor.snapshot());
        self.editor.replace(&self.zone.apex, content.rrsets)?;
        let mut diff = self.editor.commit(now());
        if is_first {
            // The apex and the like were there before anything was published.
            diff = Diff::between(&Snapshot::empty(older.seed()), self.editor.snapshot());
        }
        let snapshot = Arc::clone(self.editor.snapshot());
        self.outlet.served.store(Arc::clone(&snapshot));
        let tasks: usize = state.frameworks.iter().map(|one| one.tasks.len()).sum();
        let published = Published {
            state,
            candidates,
            records,
            serial,
        };
        self.outlet.published.store(Some(Arc::new(published)));
        let result = lock(&self.dataplane).publish(&snapshot, &diff);
        if let Err(error) = result {
            warn!(%error, "the kernel's maps could not be brought up to date");
        }
        info!(
            tasks,
            names = snapshot.len(),
            added = diff.added.len(),
            changed = diff.changed.len(),
            removed = diff.removed.len(),
            milliseconds = start.elapsed().as_millis(),
            "published"
        );
        Ok(())
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
