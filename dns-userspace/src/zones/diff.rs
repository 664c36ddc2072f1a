//! What changed from one snapshot to the next.

use std::sync::Arc;

use super::{Name, Node, Snapshot, ZoneIndex};

/// A name whose RRsets or standing changed.
#[derive(Debug, Clone)]
pub struct Change {
    /// As it was.
    pub before: Arc<Node>,
    /// As it is.
    pub after: Arc<Node>,
}

/// The serial of a zone before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SerialStep {
    /// Which zone.
    pub zone: ZoneIndex,
    /// The serial before.
    pub before: u32,
    /// The serial after.
    pub after: u32,
}

/// The smallest set of names whose replacement leads from one snapshot to the next. Empty
/// non-terminals count as names; a zone's apex is among the changed whenever its serial is.
#[derive(Debug, Clone, Default)]
pub struct Diff {
    /// Names that did not exist.
    pub added: Vec<Arc<Node>>,
    /// Names that exist in both and differ.
    pub changed: Vec<Change>,
    /// Names that exist no more.
    pub removed: Vec<Arc<Node>>,
    /// Names that did not change, with fresh nodes because their finished answers hold addresses or
    /// aliases of names that did.
    pub renewed: Vec<Arc<Node>>,
    /// Zones whose content changed.
    pub serials: Vec<SerialStep>,
}

impl Diff {
    /// Whether nothing changed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.added.is_empty()
            && self.changed.is_empty()
            && self.removed.is_empty()
            && self.renewed.is_empty()
    }

    /// The nodes to be written: added, changed and renewed ones.
    pub fn written(&self) -> impl Iterator<Item = &Arc<Node>> {
        let changed = self.changed.iter().map(|change| &change.after);
        self.added.iter().chain(changed).chain(&self.renewed)
    }

    /// The names that have other addresses or another alias than before, or came or went.
    pub(super) fn names_that_lead_elsewhere(&self) -> impl Iterator<Item = &Name> {
        let changed = self.changed.iter();
        let changed = changed.filter(|change| change.before.leads_elsewhere_than(&change.after));
        self.added
            .iter()
            .chain(&self.removed)
            .chain(changed.map(|change| &change.after))
            .map(|node| node.owner())
    }

    /// Compares two snapshots of one seed, as after a reload that made another editor. What both
    /// share is skipped. Zones are matched by apex for the serials.
    #[must_use]
    pub fn between(before: &Snapshot, after: &Snapshot) -> Self {
        let mut diff = Self::default();
        after
            .table
            .differences(&before.table, |_, before, after| diff.note(before, after));
        for (index, zone) in (0u8..).zip(after.zones()) {
            let older = before.zones().iter().find(|one| one.apex == zone.apex);
            if let Some(older) = older.filter(|one| one.soa.serial != zone.soa.serial) {
                diff.serials.push(SerialStep {
                    zone: ZoneIndex(index),
                    before: older.soa.serial,
                    after: zone.soa.serial,
                });
            }
        }
        diff
    }

    pub(super) fn note(&mut self, before: Option<&Arc<Node>>, after: Option<&Arc<Node>>) {
        match (before.cloned(), after.cloned()) {
            (None, Some(after)) => self.added.push(after),
            (Some(before), None) => self.removed.push(before),
            (Some(before), Some(after)) if !before.says_the_same(&after) => {
                self.changed.push(Change { before, after });
            }
            (Some(before), Some(after)) if before.blob() != after.blob() => {
                self.renewed.push(after);
            }
            _ => {}
        }
    }
}
