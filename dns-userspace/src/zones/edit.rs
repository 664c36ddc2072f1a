//! The one writer: takes content, whole zones or single names, and gives out the next snapshot
//! with the difference to the last.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::diff::SerialStep;
use super::hash::owner_hash;
use super::node::tidy;
use super::table::Table;
use super::{
    Diff, Encoder, MAX_ZONES, Name, Node, Rrset, Rtype, Snapshot, Zone, ZoneIndex, serial,
};

/// Why content was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// More zones than [`MAX_ZONES`].
    #[error("{0} zones configured, at most {MAX_ZONES} are served")]
    TooManyZones(usize),
    /// Two zones with one apex.
    #[error("zone {0} is configured twice")]
    DuplicateZone(Name),
    /// No zone has this apex.
    #[error("no zone {0} is served")]
    NoSuchZone(Name),
    /// A name that belongs to none of the zones.
    #[error("{0} is in none of the served zones")]
    OutsideZones(Name),
}

/// Holds the content of all zones and brings it forward, change by change.
///
/// Changes are gathered by [`replace`](Self::replace) and [`set`](Self::set) and appear together
/// at [`commit`](Self::commit), so that no reader sees half of what one Mesos state says.
pub struct Editor {
    seed: u64,
    encoder: Arc<dyn Encoder>,
    zones: Vec<Arc<Zone>>,
    /// For each zone every name that has a node, with the number of names one label below it: a
    /// name without RRsets exists as long as that number is not zero (RFC 8020, section 2).
    names: Vec<HashMap<Name, u32>>,
    table: Table,
    /// The nodes that changes since the last commit began with.
    touched: HashMap<Name, Option<Arc<Node>>>,
    zones_touched: bool,
    snapshot: Arc<Snapshot>,
}

impl Editor {
    /// An editor of `zones`, each of them empty but for SOA and NS at the apex. `now` is the unix
    /// time in seconds and becomes the serial of each zone whose own is 0.
    ///
    /// # Errors
    /// Too many zones, or two with the same apex.
    pub fn new(
        seed: u64,
        zones: Vec<Zone>,
        encoder: Arc<dyn Encoder>,
        now: u32,
    ) -> Result<Self, EditError> {
        if zones.len() > MAX_ZONES {
            return Err(EditError::TooManyZones(zones.len()));
        }
        let mut apexes = HashSet::new();
        let mut editor = Self {
            seed,
            encoder,
            names: vec![HashMap::new(); zones.len()],
            zones: Vec::with_capacity(zones.len()),
            table: Table::new(),
            touched: HashMap::new(),
            zones_touched: true,
            snapshot: Arc::new(Snapshot::empty(seed)),
        };
        for mut zone in zones {
            if !apexes.insert(zone.apex.clone()) {
                return Err(EditError::DuplicateZone(zone.apex));
            }
            if zone.soa.serial == 0 {
                zone.soa.serial = now;
            }
            editor.zones.push(Arc::new(zone));
        }
        for index in editor.indices() {
            editor.write_apex(index, Vec::new());
        }
        // A zone inside another of ours makes its ancestors exist there.
        for apex in apexes {
            editor.adopt(&apex);
        }
        editor.publish();
        for node in editor.snapshot.nodes() {
            node.encode(&editor.snapshot, &*editor.encoder);
        }
        Ok(editor)
    }

    /// The snapshot of the last commit.
    #[must_use]
    pub const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Makes `content` the whole content of the zone at `apex`, and the zone complete. Several
    /// RRsets of one owner and type are merged; a SOA is left out, the zone has its own; an NS
    /// RRset at the apex takes the place of the zone's own. Returns how many RRsets were left out
    /// because their owner is not in this zone.
    ///
    /// # Errors
    /// There is no such zone.
    pub fn replace(
        &mut self,
        apex: &Name,
        content: Vec<(Name, Rrset)>,
    ) -> Result<usize, EditError> {
        let zone = self.index_of(apex)?;
        let mut wanted: HashMap<Name, Vec<Rrset>> = HashMap::with_capacity(content.len() / 2);
        let mut outside = 0;
        for (name, rrset) in content {
            if self.zone_of(&name) == Some(zone) {
                wanted.entry(name).or_default().push(rrset);
            } else {
                outside += 1;
            }
        }
        for gone in self.names_not_in(zone, &wanted) {
            self.put(zone, &gone, Vec::new());
        }
        for (name, rrsets) in wanted {
            self.put(zone, &name, rrsets);
        }
        self.set_complete(zone, true);
        Ok(outside)
    }

    /// Makes `rrsets` the whole content of one name; none removes it. The rules of
    /// [`replace`](Self::replace) hold, and the zone's completeness stays as it is.
    ///
    /// # Errors
    /// The name is in none of the zones.
    pub fn set(&mut self, name: &Name, rrsets: Vec<Rrset>) -> Result<(), EditError> {
        let zone = self
            .zone_of(name)
            .ok_or_else(|| EditError::OutsideZones(name.clone()))?;
        self.put(zone, name, rrsets);
        Ok(())
    }

    /// Says whether the content of the zone at `apex` is known (see [`Zone::complete`]).
    ///
    /// # Errors
    /// There is no such zone.
    pub fn mark_complete(&mut self, apex: &Name, complete: bool) -> Result<(), EditError> {
        let zone = self.index_of(apex)?;
        self.set_complete(zone, complete);
        Ok(())
    }

    /// Ends a set of changes: moves the serial of each zone whose content differs, has the written
    /// nodes encoded, and makes the next snapshot. Without a difference the snapshot stays the
    /// same one. `now` is the unix time in seconds.
    pub fn commit(&mut self, now: u32) -> Diff {
        let mut touched = std::mem::take(&mut self.touched);
        touched.retain(|name, before| !self.restore_if_same(name, before.as_ref()));
        let mut diff = Diff::default();
        for zone in self.zones_of(&touched) {
            let Some(step) = self.advance_serial(zone, now) else {
                continue;
            };
            diff.serials.push(step);
        }
        for (name, before) in std::mem::take(&mut self.touched) {
            touched.entry(name).or_insert(before);
        }
        for (name, before) in &touched {
            diff.note(before.as_ref(), self.node(name));
        }
        if !diff.is_empty() || self.zones_touched {
            self.publish();
            for node in diff.written() {
                node.encode(&self.snapshot, &*self.encoder);
            }
        }
        diff
    }

    fn publish(&mut self) {
        self.zones_touched = false;
        self.touched.clear();
        self.snapshot = Arc::new(Snapshot {
            seed: self.seed,
            zones: self.zones.clone(),
            table: self.table.clone(),
            generation: self.snapshot.generation + 1,
        });
    }

    fn indices(&self) -> impl Iterator<Item = ZoneIndex> + use<> {
        (0u8..).map(ZoneIndex).take(self.zones.len())
    }

    fn zone(&self, index: ZoneIndex) -> Option<&Arc<Zone>> {
        self.zones.get(usize::from(index.0))
    }

    fn index_of(&self, apex: &Name) -> Result<ZoneIndex, EditError> {
        self.indices()
            .find(|&index| self.zone(index).is_some_and(|zone| zone.apex == *apex))
            .ok_or_else(|| EditError::NoSuchZone(apex.clone()))
    }

    fn zone_of(&self, name: &Name) -> Option<ZoneIndex> {
        (0u8..)
            .zip(&self.zones)
            .filter(|(_, zone)| name.is_at_or_below(&zone.apex))
            .max_by_key(|(_, zone)| zone.apex.wire().len())
            .map(|(index, _)| ZoneIndex(index))
    }

    fn names_of(&mut self, zone: ZoneIndex) -> Option<&mut HashMap<Name, u32>> {
        self.names.get_mut(usize::from(zone.0))
    }

    fn node(&self, name: &Name) -> Option<&Arc<Node>> {
        self.table
            .get(owner_hash(self.seed, name.wire()), name.wire())
    }

    /// The names with content in `zone` that `wanted` does not speak of.
    fn names_not_in(&self, zone: ZoneIndex, wanted: &HashMap<Name, Vec<Rrset>>) -> Vec<Name> {
        let names = self.names.get(usize::from(zone.0)).into_iter().flatten();
        names
            .map(|(name, _)| name)
            .filter(|name| !wanted.contains_key(*name))
            .filter(|name| {
                self.node(name)
                    .is_some_and(|node| !node.is_empty_non_terminal())
            })
            .cloned()
            .collect()
    }

    fn set_complete(&mut self, index: ZoneIndex, complete: bool) {
        let Some(zone) = self.zones.get_mut(usize::from(index.0)) else {
            return;
        };
        if zone.complete != complete {
            Arc::make_mut(zone).complete = complete;
            self.zones_touched = true;
        }
    }

    /// Makes `rrsets` the content of `name`, which is in `zone`.
    fn put(&mut self, zone: ZoneIndex, name: &Name, mut rrsets: Vec<Rrset>) {
        rrsets.retain(|one| one.rtype() != Rtype::SOA);
        if self.zone(zone).is_some_and(|zone| zone.apex == *name) {
            self.write_apex(zone, rrsets);
            return;
        }
        let rrsets = tidy(rrsets);
        let before = self.node(name).cloned();
        let has_children = self
            .names_of(zone)
            .and_then(|names| names.get(name))
            .is_some_and(|&children| children > 0);
        if rrsets.is_empty() && !has_children {
            if before.is_some() {
                self.remove(zone, name);
                self.disown(name);
                self.hide_or_show_below(zone, name, before.as_deref());
            }
            return;
        }
        if before
            .as_ref()
            .is_some_and(|node| *node.rrsets() == *rrsets)
        {
            return;
        }
        if before.is_none() {
            self.adopt(name);
        }
        self.write(zone, name, rrsets, false);
        self.hide_or_show_below(zone, name, before.as_deref());
    }

    /// Writes the apex of `zone`: `rrsets` without a SOA, and the zone's own SOA and NS.
    fn write_apex(&mut self, index: ZoneIndex, mut rrsets: Vec<Rrset>) {
        let Some(zone) = self.zone(index).cloned() else {
            return;
        };
        if !rrsets.iter().any(|one| one.rtype() == Rtype::NS) {
            rrsets.extend(zone.ns_rrset());
        }
        rrsets.push(zone.soa_rrset());
        let rrsets = tidy(rrsets);
        let before = self.node(&zone.apex).cloned();
        if before
            .as_ref()
            .is_some_and(|node| *node.rrsets() == *rrsets)
        {
            return;
        }
        self.write(index, &zone.apex, rrsets, true);
        self.hide_or_show_below(index, &zone.apex, before.as_deref());
    }

    fn write(&mut self, zone: ZoneIndex, name: &Name, rrsets: Box<[Rrset]>, apex: bool) {
        let hash = owner_hash(self.seed, name.wire());
        let before = self.table.get(hash, name.wire()).cloned();
        // The owner in the node, in the set of names and in the changes is one allocation.
        let owner = before
            .as_ref()
            .map_or_else(|| name.clone(), |node| node.owner().clone());
        let occluded = !apex && self.is_below_cut(name);
        self.touched.entry(owner.clone()).or_insert(before);
        if let Some(names) = self.names_of(zone) {
            names.entry(owner.clone()).or_insert(0);
        }
        let node = Node::new(owner, zone, rrsets, apex, occluded);
        self.table.insert(hash, Arc::new(node));
    }

    fn remove(&mut self, zone: ZoneIndex, name: &Name) {
        let hash = owner_hash(self.seed, name.wire());
        let before = self.table.get(hash, name.wire()).cloned();
        self.touched.entry(name.clone()).or_insert(before);
        if let Some(names) = self.names_of(zone) {
            names.remove(name);
        }
        self.table.remove(hash, name.wire());
    }

    fn is_below_cut(&self, name: &Name) -> bool {
        let parent = name.parent().and_then(|parent| self.node(&parent).cloned());
        parent.is_some_and(|parent| parent.is_cut() || parent.is_occluded())
    }

    /// Counts `child` with its parent, and makes the ancestors exist that do not yet. An apex has
    /// a node before anything is below it, so that is where the walk ends.
    fn adopt(&mut self, child: &Name) {
        let mut missing = Vec::new();
        let mut next = child.parent();
        while let Some(name) = next {
            let Some(zone) = self.zone_of(&name) else {
                break;
            };
            if let Some(children) = self.names_of(zone).and_then(|names| names.get_mut(&name)) {
                *children += 1;
                break;
            }
            next = name.parent();
            missing.push((zone, name));
        }
        // From the top, since whether a name is hidden depends on its parent.
        for (zone, name) in missing.into_iter().rev() {
            self.write(zone, &name, Box::default(), false);
            if let Some(children) = self.names_of(zone).and_then(|names| names.get_mut(&name)) {
                *children = 1;
            }
        }
    }

    /// Undoes [`adopt`](Self::adopt) for a child that is gone: ancestors that neither have RRsets
    /// nor other children go too.
    fn disown(&mut self, child: &Name) {
        let mut next = child.parent();
        while let Some(name) = next {
            let Some(zone) = self.zone_of(&name) else {
                return;
            };
            let Some(children) = self.names_of(zone).and_then(|names| names.get_mut(&name)) else {
                return;
            };
            *children = children.saturating_sub(1);
            let in_use = *children > 0;
            if in_use
                || self
                    .node(&name)
                    .is_some_and(|node| !node.is_empty_non_terminal())
            {
                return;
            }
            self.remove(zone, &name);
            next = name.parent();
        }
    }

    /// Rewrites the names below `name` when it became or ceased to be a cut. Walks the whole zone,
    /// which is fine since cuts come from the operator and not from tasks.
    fn hide_or_show_below(&mut self, zone: ZoneIndex, name: &Name, before: Option<&Node>) {
        let was_cut = before.is_some_and(Node::is_cut);
        let is_cut = self.node(name).is_some_and(|node| node.is_cut());
        if was_cut == is_cut {
            return;
        }
        let Some(names) = self.names_of(zone) else {
            return;
        };
        let mut below: Vec<Name> = names
            .keys()
            .filter(|other| *other != name && other.is_at_or_below(name))
            .cloned()
            .collect();
        below.sort_by_key(|other| other.wire().len());
        for other in below {
            let Some(node) = self.node(&other).cloned() else {
                continue;
            };
            if node.is_occluded() != self.is_below_cut(&other) {
                self.write(zone, &other, node.rrsets().into(), false);
            }
        }
    }

    /// Whether `name` says what it said before the changes; the node from before, with its blob,
    /// is put back then.
    fn restore_if_same(&mut self, name: &Name, before: Option<&Arc<Node>>) -> bool {
        match (before, self.node(name)) {
            (None, None) => true,
            (Some(before), Some(after)) if before.says_the_same(after) => {
                let hash = owner_hash(self.seed, name.wire());
                self.table.insert(hash, Arc::clone(before));
                true
            }
            _ => false,
        }
    }

    fn zones_of(&self, touched: &HashMap<Name, Option<Arc<Node>>>) -> Vec<ZoneIndex> {
        let mut zones: Vec<ZoneIndex> = touched
            .iter()
            .filter_map(|(name, before)| before.as_ref().or_else(|| self.node(name)))
            .map(|node| node.zone())
            .collect();
        zones.sort_unstable();
        zones.dedup();
        zones
    }

    fn advance_serial(&mut self, index: ZoneIndex, now: u32) -> Option<SerialStep> {
        let zone = self.zones.get_mut(usize::from(index.0))?;
        if zone.fixed_serial {
            return None;
        }
        let zone = Arc::make_mut(zone);
        let before = zone.soa.serial;
        let after = serial::next(before, now);
        zone.soa.serial = after;
        let apex = zone.apex.clone();
        let node = self.node(&apex)?;
        let rrsets = node.rrsets().iter();
        let rest: Vec<Rrset> = rrsets
            .filter(|one| one.rtype() != Rtype::SOA)
            .cloned()
            .collect();
        self.write_apex(index, rest);
        Some(SerialStep {
            zone: index,
            before,
            after,
        })
    }
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
