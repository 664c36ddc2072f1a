//! What is known of a cluster through the whole pipeline: records, zones, answers, maps.
//!
//! A state that was fetched is read and made into records by [`Prepared::new`], which holds nobody
//! up; what is left to do under the lock is to put them in. An event changes a few names, at once.

use std::collections::HashSet;
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
use crate::mesos::follow::Observation;
use crate::mesos::operator_api;
use crate::mesos::state::{self, State};
use crate::records::dcos::Update;
use crate::records::reverse::Pointers;
use crate::records::to_zone::ZoneContent;
use crate::records::{self, MesosRecords, to_zone};
use crate::transfer::{Take, Taken, Unusable, Versions};
use crate::zones::snapshot::Served;
use crate::zones::{Diff, EditError, Editor, Name, Snapshot, Zone, serial};

use super::dcos::{Cluster, News};
use super::events::{Events, Outcome};
use super::published::Published;

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
        zones.extend(settings.reverse.zones(&settings)?);
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
        if !self.follows_mesos || (settings == *self.settings && zone == self.zone) {
            return Ok(None);
        }
        let older = self.editor.snapshot();
        let was_reverse = self.reverse_apexes()?;
        let kept = older.zones().iter();
        let kept = kept
            .filter(|one| !was_reverse.contains(&one.apex))
            .map(|one| {
                if one.apex != self.zone.apex {
                    return (**one).clone();
                }
                let mut own = zone.clone();
                own.soa.serial = serial::next(one.soa.serial, now());
                own
            });
        let mut zones: Vec<Zone> = kept.collect();
        zones.extend(settings.reverse.zones(&settings)?);
        let encoder = lock(&self.dataplane).encoder();
        let mut editor = Editor::new(older.seed(), zones, encoder, now())?;
        self.carry_over(&mut editor)?;
        let settings = Arc::new(settings);
        Ok(Some(Self {
            events: self.events.with_settings(&settings, &zone.apex),
            pointers: Pointers::new(&settings, zone.apex.clone()),
            settings,
            zone,
            editor,
            before: Some(self.before.clone().unwrap_or_else(|| Arc::clone(older))),
            dataplane: Arc::clone(&self.dataplane),
            outlet: Arc::clone(&self.outlet),
            unread: self.unread.clone(),
            logged: self.logged.clone(),
            follows_mesos: self.follows_mesos,
            cluster: self.cluster.clone(),
            versions: self.versions.clone(),
        }))
    }

    fn reverse_apexes(&self) -> anyhow::Result<Vec<Name>> {
        let zones = self.settings.reverse.zones(&self.settings)?;
        Ok(zones.into_iter().map(|zone| zone.apex).collect())
    }

    /// Puts the content of zones into another editor: all but what is made of the state of Mesos.
    fn carry_over(&self, editor: &mut Editor) -> anyhow::Result<()> {
        let older = self.editor.snapshot();
        let mut made_anew = vec![self.zone.apex.clone()];
        if let Some(cluster) = &self.cluster {
            made_anew.extend(cluster.zones().mirror_apexes()?);
        }
        made_anew.extend(self.reverse_apexes()?);
        let mut contents = vec![Vec::new(); older.zones().len()];
        for node in older.nodes() {
            if let Some(content) = contents.get_mut(usize::from(node.zone().0)) {
                let rrsets = node.rrsets().iter();
                content.extend(rrsets.map(|one| (node.owner().clone(), one.clone())));
            }
        }
        for (zone, content) in older.zones().iter().zip(contents) {
            if !made_anew.contains(&zone.apex) && !zone.withdrawn {
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

    /// Serves by these settings, the present state included if there is one. Blocks: names in the
    /// state may have to be looked up.
    ///
    /// # Errors
    /// A name that is too long; what is served stays as it was.
    pub(super) fn publish_again(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        self.outlet.settings.store(Arc::clone(&self.settings));
        if self.events.live().is_some() {
            return Ok(self.publish_live(start)?);
        }
        let Some(present) = self.outlet.published.load_full() else {
            self.publish();
            return Ok(());
        };
        let (state, candidates) = (Arc::clone(&present.state), present.candidates.clone());
        let built = Built::new(&state, &candidates, &self.settings, &self.zone.apex);
        let records = self.put_in(built)?;
        self.mirror_whole()?;
        let diff = self.publish();
        self.note_published(state, candidates, Some(records));
        self.log_published(&diff, start);
        Ok(())
    }

    /// Puts the whole copy of the mesos-dns zone in, so that it appears together with what it is a
    /// copy of.
    fn mirror_whole(&mut self) -> Result<(), EditError> {
        let Some(cluster) = self.cluster.clone() else {
            return Ok(());
        };
        self.editor.commit(now());
        let own = Arc::clone(self.editor.snapshot());
        self.edit(cluster.whole_mirror(&self.zone.apex, &own)?)?;
        self.complete_mirror(&cluster)
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

    /// Brings [`Outlet::published`] up to date with what events changed.
    pub(super) fn renew_published(&self) {
        if let Some(live) = self.events.live()
            && self.outlet.is_stale.swap(false, Ordering::Relaxed)
        {
            let candidates = live.candidates().to_vec();
            self.note_published(Arc::new(live.state()), candidates, None);
        }
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

    /// Takes in what became known of a cluster, in order, and publishes it at once.
    pub(super) fn apply_news(&mut self, news: Vec<News>) {
        let Some(cluster) = self.cluster.clone() else {
            return;
        };
        let start = Instant::now();
        let mut names = HashSet::new();
        let mut is_whole = false;
        let leader = self.events.live().map(|live| live.leader().to_owned());
        for one in news {
            match self.take_events(&one) {
                Outcome::Whole => is_whole = true,
                Outcome::Names(more) => names.extend(more),
            }
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
        if let Some((before, live)) = leader.as_deref().zip(self.events.live()) {
            self.note_leader(before, live.leader());
        }
        let published = match is_whole {
            true => self.publish_live(start),
            false => self.publish_names(names, start),
        };
        if let Err(error) = published {
            warn!(%error, "a change of the Mesos domain is left out");
        }
    }

    /// What news mean for the records of the Mesos domain.
    fn take_events(&mut self, news: &News) -> Outcome {
        let events = &mut self.events;
        match news {
            News::Stream(operator_api::Observation::Subscribed { leader }) => {
                events.subscribed(*leader);
            }
            News::Stream(operator_api::Observation::Changes { state, .. }) => {
                return events.apply(state, &self.settings, &self.zone.apex);
            }
            News::Stream(operator_api::Observation::Lost) => events.lost(),
            News::Candidates(candidates) => {
                return Outcome::Names(events.set_candidates(candidates.clone()));
            }
            News::Hosts(hosts) => return Outcome::Names(events.set_hosts(hosts.clone())),
            News::Masters(_) | News::PublicIps(_) | News::ClusterId(_) => {}
        }
        Outcome::Names(HashSet::new())
    }

    /// Publishes all records made from events.
    fn publish_live(&mut self, start: Instant) -> Result<(), EditError> {
        let Some(live) = self.events.live() else {
            return Ok(());
        };
        let (content, defects) = (live.content(), live.defects().clone());
        let (state, candidates) = (Arc::new(live.state()), live.candidates().to_vec());
        self.unread = Defects::default();
        self.report(defects);
        self.editor.replace(&self.zone.apex, content)?;
        let diff = if self.before.is_some() {
            // After a reload all names are written, whatever was committed before.
            self.mirror_whole()?;
            self.publish()
        } else {
            let diff = self.publish();
            self.mirror(&diff)?;
            diff
        };
        self.outlet.is_stale.store(false, Ordering::Relaxed);
        self.note_published(state, candidates, None);
        self.log_published(&diff, start);
        self.ask_for_hosts();
        Ok(())
    }

    /// Publishes the records made from events of these names, in the copy of the zone too, and
    /// whatever else was edited.
    fn publish_names(&mut self, names: HashSet<Name>, start: Instant) -> Result<(), EditError> {
        if let (Some(live), Some(cluster)) = (self.events.live(), self.cluster.clone()) {
            let zones = cluster.zones();
            for name in &names {
                let rrsets = live.rrsets(name);
                let copies = zones.mirror_name(&self.zone.apex, name, &rrsets)?;
                self.editor.set(name, rrsets)?;
                for (copy, rrsets) in copies.names {
                    self.editor.set(&copy, rrsets)?;
                }
            }
            self.outlet
                .is_stale
                .fetch_or(!names.is_empty(), Ordering::Relaxed);
            if *live.defects() != self.logged {
                let defects = live.defects().clone();
                self.report(defects);
            }
        }
        let diff = self.publish();
        self.ask_for_hosts();
        if !diff.is_empty() {
            let took = start.elapsed();
            self.outlet.publish_duration.observe(took.as_secs_f64());
            debug!(
                names = self.editor.snapshot().len(),
                added = diff.added.len(),
                changed = diff.changed.len(),
                removed = diff.removed.len(),
                microseconds = took.as_micros(),
                "published"
            );
        }
        Ok(())
    }

    /// Has the addresses of host names looked up that records need.
    fn ask_for_hosts(&self) {
        if let (Some(live), Some(cluster)) = (self.events.live(), &self.cluster) {
            for host in live.take_unknown_hosts() {
                cluster.ask_for_host(host.into());
            }
        }
    }

    /// Takes in what came of a zone of another server, and publishes it.
    pub(super) fn take(&mut self, taken: Taken) {
        let result = self.edit_transferred(&taken.zone, taken.take);
        if result.is_ok() {
            self.publish();
        }
        // Who asked may have ended meanwhile.
        let _ = taken.done.send(result);
    }

    fn edit_transferred(&mut self, zone: &Name, take: Take) -> Result<(), Unusable> {
        let editor = &mut self.editor;
        let names = match &take {
            Take::Changes(changes) => changes.names(zone, editor.snapshot())?,
            Take::Whole(_) | Take::Withdraw => Vec::new(),
        };
        let edited = match take {
            Take::Withdraw => editor.withdraw(zone),
            Take::Whole(whole) => editor
                .replace(zone, whole.records)
                .and_then(|_| editor.set_soa(zone, whole.soa, whole.soa_ttl)),
            Take::Changes(changes) => names
                .into_iter()
                .try_for_each(|(name, rrsets)| editor.set(&name, rrsets))
                .and_then(|()| editor.set_soa(zone, changes.soa, changes.soa_ttl)),
        };
        edited.map_err(|error| {
            warn!(%zone, %error, "a transfer is left out");
            Unusable::Mismatch
        })
    }

    fn add_zones(&mut self, cluster: &Cluster, zones: Vec<Zone>) -> Result<(), EditError> {
        if zones.is_empty() {
            return Ok(());
        }
        for mut zone in zones {
            go_on(&mut zone, self.versions.as_deref());
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
            let zones = self.settings.reverse.zones(&self.settings)?;
            let unknown: Vec<Name> = zones
                .into_iter()
                .map(|one| one.apex)
                .filter(|apex| !is_known(apex))
                .collect();
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

/// A state that was fetched, read and made into records.
pub(super) struct Prepared {
    begun: Instant,
    state: Arc<State>,
    candidates: Vec<String>,
    /// What reading it left out.
    unread: Defects,
    /// `None` if it says what is served already, or nobody has use for it.
    built: Option<Built>,
}

/// The records of a state.
struct Built {
    settings: Arc<records::Settings>,
    records: MesosRecords,
    content: ZoneContent,
}

impl Prepared {
    /// Reads a state and makes its records, unless `is_needed` says that only what events lack is
    /// taken of it. Blocks: names in the state may have to be looked up.
    ///
    /// # Errors
    /// The state cannot be read.
    pub(super) fn new(
        observation: &Observation,
        outlet: &Outlet,
        is_needed: bool,
    ) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let (state, unread) = state::parse(&observation.body)
            .with_context(|| format!("state of {}", observation.fetched_from))?;
        let listed = observation.candidates.listed();
        let candidates: Vec<String> = listed.map(ToString::to_string).collect();
        let published = outlet.published.load();
        let is_served = published
            .as_ref()
            .is_some_and(|one| *one.state == state && one.candidates == candidates);
        let settings = outlet.settings.load_full();
        let built = match is_needed && !is_served {
            true => {
                let apex = Name::from_text(&settings.domain)?;
                Some(Built::new(&state, &candidates, &settings, &apex))
            }
            false => None,
        };
        Ok(Self {
            begun,
            state: Arc::new(state),
            candidates,
            unread,
            built,
        })
    }
}

impl Built {
    fn new(
        state: &State,
        candidates: &[String],
        settings: &Arc<records::Settings>,
        apex: &Name,
    ) -> Self {
        let records = records::build(state, candidates, settings, &look_up);
        let content = to_zone::zone_content(&records, settings, apex);
        Self {
            settings: Arc::clone(settings),
            records,
            content,
        }
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
