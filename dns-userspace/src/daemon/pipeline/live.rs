//! News of a cluster, one by one: what an event changes is published at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tracing::{debug, warn};

use super::super::dcos::News;
use super::super::events::Outcome;
use super::Pipeline;
use crate::mesos::Defects;
use crate::mesos::operator_api;
use crate::zones::{EditError, Name};

impl Pipeline {
    /// Brings [`Outlet::published`] up to date with what events changed.
    pub(in crate::daemon) fn renew_published(&self) {
        if let Some(live) = self.events.live()
            && self.outlet.is_stale.swap(false, Ordering::Relaxed)
        {
            let candidates = live.candidates().to_vec();
            self.note_published(Arc::new(live.state()), candidates, None);
        }
    }

    /// Takes in what became known of a cluster, in order, and publishes it at once.
    pub(in crate::daemon) fn apply_news(&mut self, news: Vec<News>) {
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
            News::Masters(_) | News::PublicIps(..) | News::ClusterId(_) => {}
        }
        Outcome::Names(HashSet::new())
    }

    /// Publishes all records made from events.
    pub(super) fn publish_live(&mut self, start: Instant) -> Result<(), EditError> {
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
    pub(super) fn publish_names(
        &mut self,
        names: HashSet<Name>,
        start: Instant,
    ) -> Result<(), EditError> {
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
    fn ask_for_hosts(&mut self) {
        if let (Some(hosts), Some(cluster)) = (self.events.take_hosts(), &self.cluster) {
            cluster.ask_for_hosts(hosts);
        }
    }
}
