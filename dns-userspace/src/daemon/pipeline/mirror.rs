//! The zones of a DC/OS node that follow others: copies of the Mesos domain, and the zones of a
//! cluster whose id came later.

use std::sync::Arc;

use super::super::dcos::Cluster;
use super::{Pipeline, go_on, now};
use crate::zones::{Diff, EditError, Zone};

impl Pipeline {
    /// Puts the whole copy of the mesos-dns zone in, so that it appears together with what it is a
    /// copy of.
    pub(super) fn mirror_whole(&mut self) -> Result<(), EditError> {
        let Some(cluster) = self.cluster.clone() else {
            return Ok(());
        };
        self.editor.commit(now());
        let own = Arc::clone(self.editor.snapshot());
        self.edit(cluster.whole_mirror(&self.zone.apex, &own)?)?;
        self.complete_mirror(&cluster)
    }

    pub(super) fn add_zones(
        &mut self,
        cluster: &Cluster,
        zones: Vec<Zone>,
    ) -> Result<(), EditError> {
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
    pub(super) fn mirror(&mut self, diff: &Diff) -> Result<(), EditError> {
        let Some(cluster) = self.cluster.clone() else {
            return Ok(());
        };
        self.edit(cluster.mirror(&self.zone.apex, diff)?)?;
        self.complete_mirror(&cluster)?;
        self.publish();
        Ok(())
    }

    pub(super) fn complete_mirror(&mut self, cluster: &Cluster) -> Result<(), EditError> {
        let apexes = cluster.zones().mirror_apexes()?;
        let mut apexes = apexes.iter();
        apexes.try_for_each(|apex| self.editor.mark_complete(apex, true))
    }
}
