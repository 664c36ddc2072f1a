//! What one name's coming and going means for the others: empty non-terminals above it, names that
//! a cut hides below it, and the counts that say whether there are any of either.

use std::collections::HashSet;
use std::sync::Arc;

use super::Editor;
use crate::zones::few::Few;
use crate::zones::hash::{OwnerHasher, owner_hash};
use crate::zones::node::tidy;
use crate::zones::{Name, Node, Rrset, Rtype, ZoneIndex};

impl Editor {
    /// Makes `rrsets` the content of `name`, which is in `zone`.
    pub(super) fn put(&mut self, zone: ZoneIndex, hash: u64, name: &Name, mut rrsets: Few<Rrset>) {
        if rrsets.iter().any(|one| one.rtype() == Rtype::SOA) {
            let all = rrsets.into_vec().into_iter();
            rrsets = all.filter(|one| one.rtype() != Rtype::SOA).collect();
        }
        if self.zone(zone).is_some_and(|zone| zone.apex == *name) {
            self.write_apex(zone, rrsets.into_vec());
            return;
        }
        let rrsets = tidy(rrsets);
        let before = self.table.get(hash, name.wire()).cloned();
        if before
            .as_ref()
            .is_some_and(|node| *node.rrsets() == *rrsets)
        {
            return;
        }
        if rrsets.is_empty() && !self.children.contains_key(name) {
            if let Some(before) = before {
                self.remove(&before);
                self.disown(name);
            }
            return;
        }
        if before.is_none() {
            self.adopt(zone, name);
        }
        self.write(zone, hash, name, rrsets, false, before.as_deref());
    }

    /// Writes the apex of a zone with its present SOA and its other RRsets as they are.
    pub(super) fn rewrite_apex(&mut self, index: ZoneIndex) {
        let apex = self.zone(index).and_then(|zone| self.node(&zone.apex));
        let rrsets = apex.map(|node| node.rrsets()).unwrap_or_default().iter();
        let rest = rrsets.filter(|one| one.rtype() != Rtype::SOA).cloned();
        let rest = rest.collect();
        self.write_apex(index, rest);
    }

    /// Writes the apex of `zone`: `rrsets` without a SOA, and the zone's own SOA and NS.
    pub(super) fn write_apex(&mut self, index: ZoneIndex, mut rrsets: Vec<Rrset>) {
        let Some(zone) = self.zone(index).cloned() else {
            return;
        };
        if !rrsets.iter().any(|one| one.rtype() == Rtype::NS) {
            rrsets.extend(zone.ns_rrset());
        }
        rrsets.push(zone.soa_rrset());
        let rrsets = tidy(rrsets.into());
        let before = self.node(&zone.apex).cloned();
        if before
            .as_ref()
            .is_some_and(|node| *node.rrsets() == *rrsets)
        {
            return;
        }
        let hash = owner_hash(self.seed, zone.apex.wire());
        self.write(index, hash, &zone.apex, rrsets, true, before.as_deref());
    }

    fn write(
        &mut self,
        zone: ZoneIndex,
        hash: u64,
        name: &Name,
        rrsets: Few<Rrset>,
        apex: bool,
        before: Option<&Node>,
    ) {
        // The owner in the node and in the maps is one allocation.
        let owner = before.map_or(name, |node| node.owner()).clone();
        let occluded = !apex && self.is_below_cut(name);
        let node = Node::new(owner, zone, rrsets, apex, occluded);
        if before.is_none() {
            self.count_wildcard(&node, true);
        }
        let (was_cut, is_cut) = (before.is_some_and(Node::is_cut), node.is_cut());
        self.cuts += usize::from(is_cut);
        self.cuts -= usize::from(was_cut);
        self.table.insert(hash, Arc::new(node));
        if was_cut != is_cut && self.children.contains_key(name) {
            self.moved_cuts.insert(name.clone());
        }
    }

    fn remove(&mut self, node: &Node) {
        self.cuts -= usize::from(node.is_cut());
        self.count_wildcard(node, false);
        let wire = node.owner().wire();
        self.table.remove(owner_hash(self.seed, wire), wire);
    }

    /// Counts `node` if it is a wildcard that comes, or one that goes.
    fn count_wildcard(&mut self, node: &Node, comes: bool) {
        let zone = self.zones.get_mut(usize::from(node.zone().0));
        if let Some(zone) = zone.filter(|zone| zone.expands(node)) {
            let count = &mut Arc::make_mut(zone).wildcards;
            *count = if comes {
                count.saturating_add(1)
            } else {
                count.saturating_sub(1)
            };
            self.zones_touched = true;
        }
    }

    /// Counts `child` with its parent, and makes the ancestors exist that do not yet. An apex has
    /// a node before anything is below it, so that is where the walk ends.
    pub(super) fn adopt(&mut self, zone: ZoneIndex, child: &Name) {
        let mut missing = Vec::new();
        for wire in child.suffixes().skip(1) {
            if let Some(children) = self.children.get_mut(wire) {
                *children += 1;
                break;
            }
            let Ok(name) = Name::from_wire(wire) else {
                break;
            };
            let exists = self.node(&name).is_some();
            self.children.insert(name.clone(), 1);
            if exists {
                break;
            }
            missing.push(name);
        }
        // From the top, since whether a name is hidden depends on its parent.
        for name in missing.into_iter().rev() {
            let hash = owner_hash(self.seed, name.wire());
            self.write(zone, hash, &name, Few::default(), false, None);
        }
    }

    /// Undoes [`adopt`](Self::adopt) for a child that is gone: ancestors that neither have RRsets
    /// nor other children go too.
    fn disown(&mut self, child: &Name) {
        for wire in child.suffixes().skip(1) {
            let Some(children) = self.children.get_mut(wire) else {
                return;
            };
            *children = children.saturating_sub(1);
            if *children > 0 {
                return;
            }
            self.children.remove(wire);
            let hash = owner_hash(self.seed, wire);
            let Some(node) = self.table.get(hash, wire).cloned() else {
                return;
            };
            if !node.is_empty_non_terminal() {
                return;
            }
            self.remove(&node);
        }
    }

    fn is_below_cut(&self, name: &Name) -> bool {
        if self.cuts == 0 {
            return false;
        }
        let parent = name.suffixes().nth(1);
        let parent = parent.and_then(|wire| self.table.get(owner_hash(self.seed, wire), wire));
        parent.is_some_and(|parent| parent.is_cut() || parent.is_occluded())
    }

    /// Rewrites the names below those that became or ceased to be cuts, in one walk over the table for
    /// all of them: a zone of another server may have thousands.
    pub(super) fn hide_and_show(&mut self) {
        let moved = std::mem::replace(
            &mut self.moved_cuts,
            HashSet::with_hasher(OwnerHasher::new(self.seed)),
        );
        if moved.is_empty() {
            return;
        }
        let is_below = |node: &Node| {
            let mut above = node.owner().suffixes().skip(1);
            !node.is_apex() && above.any(|wire| moved.contains(wire))
        };
        let below = self.table.nodes().filter(|node| is_below(node));
        let mut below: Vec<Name> = below.map(|node| node.owner().clone()).collect();
        // From the top, since whether a name is hidden depends on its parent.
        below.sort_by_key(|name| name.wire().len());
        for name in below {
            let Some(node) = self.node(&name).cloned() else {
                continue;
            };
            if node.is_occluded() != self.is_below_cut(&name) {
                let hash = owner_hash(self.seed, name.wire());
                let rrsets = node.rrsets().iter().cloned().collect();
                self.write(node.zone(), hash, &name, rrsets, false, Some(&node));
            }
        }
    }
}
