//! Other settings after a reload: a pipeline that takes the place of another, before the same
//! readers.

use std::sync::Arc;
use std::time::Instant;

use super::prepared::Built;
use super::{Pipeline, lock, now, zone};
use crate::records;
use crate::records::reverse::Pointers;
use crate::zones::{Editor, Zone, serial};

impl Pipeline {
    /// A pipeline by other settings that has the same readers; they see nothing of it before
    /// [`Self::publish_again`]. `None` if these settings are those of this one.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(in crate::daemon) fn successor(
        &self,
        settings: records::Settings,
        recursion_available: bool,
    ) -> anyhow::Result<Option<Self>> {
        let zone = zone(&settings, recursion_available)?;
        if !self.follows_mesos || (settings == *self.settings && zone == self.zone) {
            return Ok(None);
        }
        let older = self.editor.snapshot();
        let was_reverse = self.settings.reverse.apexes()?;
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
        zones.extend(settings.reverse.zones(&settings, recursion_available)?);
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

    /// Puts the content of zones into another editor: all but what is made of the state of Mesos.
    fn carry_over(&self, editor: &mut Editor) -> anyhow::Result<()> {
        let older = self.editor.snapshot();
        let mut made_anew = vec![self.zone.apex.clone()];
        if let Some(cluster) = &self.cluster {
            made_anew.extend(cluster.zones().mirror_apexes()?);
        }
        made_anew.extend(self.settings.reverse.apexes()?);
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

    /// Serves by these settings, the present state included if there is one. Blocks: names in the
    /// state may have to be looked up.
    ///
    /// # Errors
    /// A name that is too long; what is served stays as it was.
    pub(in crate::daemon) fn publish_again(&mut self) -> anyhow::Result<()> {
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
}
