//! All zones at one moment. Readers never wait and never see a mix of two moments.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::hash::owner_hash;
use super::table::Table;
use super::{Name, Node, Zone, ZoneIndex};

/// The snapshot being served: the writer stores, every reader loads.
pub type Served = ArcSwap<Snapshot>;

/// Every zone and every name at one moment. Immutable; what changes is which snapshot is served.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(super) seed: u64,
    pub(super) zones: Vec<Arc<Zone>>,
    /// For each zone what [`Self::denial`] gives.
    pub(super) denials: Vec<Option<Box<[u8]>>>,
    pub(super) table: Table,
    pub(super) generation: u64,
}

impl Snapshot {
    /// A snapshot without zones: every name is somebody else's.
    #[must_use]
    pub fn empty(seed: u64) -> Self {
        Self {
            seed,
            zones: Vec::new(),
            denials: Vec::new(),
            table: Table::default(),
            generation: 0,
        }
    }

    /// The key of the owner hash.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// How many commits came before; grows by one with each snapshot of an editor.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The zones, in the order that [`ZoneIndex`] counts.
    #[must_use]
    pub fn zones(&self) -> &[Arc<Zone>] {
        &self.zones
    }

    /// One zone.
    #[must_use]
    pub fn zone(&self, index: ZoneIndex) -> Option<&Zone> {
        self.zones.get(usize::from(index.0)).map(|zone| &**zone)
    }

    /// The zone with the longest apex that is `name` or an ancestor of it.
    #[must_use]
    pub fn enclosing_zone(&self, name: &Name) -> Option<(ZoneIndex, &Zone)> {
        (0u8..)
            .zip(&self.zones)
            .filter(|(_, zone)| name.is_at_or_below(&zone.apex))
            .max_by_key(|(_, zone)| zone.apex.wire().len())
            .map(|(index, zone)| (ZoneIndex(index), &**zone))
    }

    /// The node of a name in folded wire form, whichever zone it is in.
    #[must_use]
    pub fn lookup(&self, wire: &[u8]) -> Option<&Arc<Node>> {
        self.table.get(owner_hash(self.seed, wire), wire)
    }

    /// The node of a name.
    #[must_use]
    pub fn node(&self, name: &Name) -> Option<&Arc<Node>> {
        self.lookup(name.wire())
    }

    /// The nodes under a hash, in the order of their owners: more than one where names collide.
    pub(crate) fn all(&self, hash: u64) -> impl Iterator<Item = &Arc<Node>> {
        self.table.all(hash)
    }

    /// Tells of each name whose node is not the same as in `before`, which has the same seed: its
    /// hash, and the node in `before` and in this snapshot.
    pub(crate) fn differences<'s>(
        &'s self,
        before: &'s Self,
        note: impl FnMut(u64, Option<&'s Arc<Node>>, Option<&'s Arc<Node>>),
    ) {
        self.table.differences(&before.table, note);
    }

    /// The finished answers under a hash. Where names collide, those of one of them: the caller
    /// compares the name.
    #[must_use]
    pub fn blob(&self, hash: u64) -> Option<&[u8]> {
        let node = self.table.all(hash).next()?;
        // A name that nobody asks for: it exists, and what it says goes the slow way.
        Some(node.blob().unwrap_or(&[0; 16]))
    }

    /// The finished SOA that denies names and types of a zone; `None` while the zone is not
    /// complete.
    #[must_use]
    pub fn denial(&self, index: ZoneIndex) -> Option<&[u8]> {
        self.denials.get(usize::from(index.0))?.as_deref()
    }

    /// Every node, empty non-terminals included, in no order.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.table.nodes()
    }

    /// How many nodes there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no node at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.table.len() == 0
    }
}
