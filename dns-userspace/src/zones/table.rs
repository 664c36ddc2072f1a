//! Every name of every zone in one table whose versions share what did not change.
//!
//! A tree over the hash, four bits at a step. A change copies the leaf it falls in and the branches
//! above it, about a hundred pointers whatever the number of names; the older version stays whole
//! for those who read it. What two versions do not share is found without a look at the rest.

use std::cmp::Ordering;
use std::slice;
use std::sync::Arc;

use super::Node;

const BITS: u32 = 4;
const FAN_OUT: usize = 1 << BITS;
/// A leaf with more entries is split. A copy counts up each of them, so small leaves make cheap
/// changes; each leaf costs about 90 octets, so large ones make small tables.
const LEAF_ENTRIES: usize = 40;

/// A node with its hash. In a leaf they ascend by hash, then by owner.
type Entry = (u64, Arc<Node>);

#[derive(Debug, Clone, Default)]
enum Tree {
    #[default]
    Empty,
    Leaf(Arc<Vec<Entry>>),
    Branch(Arc<[Tree; FAN_OUT]>),
}

/// A version of the table. A clone is the next version.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    root: Tree,
    len: usize,
}

/// Which child of a branch at `depth` a hash belongs to.
const fn digit(hash: u64, depth: u32) -> usize {
    (hash << (BITS * depth) >> (u64::BITS - BITS)) as usize
}

/// Where the node of `wire` is, or where it would be put.
fn find(entries: &[Entry], hash: u64, wire: &[u8]) -> Result<usize, usize> {
    entries.binary_search_by(|(other, node)| {
        let by_hash = other.cmp(&hash);
        by_hash.then_with(|| node.owner().wire().cmp(wire))
    })
}

impl Tree {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Empty, Self::Empty) => true,
            (Self::Leaf(one), Self::Leaf(other)) => Arc::ptr_eq(one, other),
            (Self::Branch(one), Self::Branch(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// The entries of the leaf that a hash belongs to.
    fn leaf(&self, hash: u64) -> &[Entry] {
        let mut tree = self;
        let mut depth = 0;
        loop {
            match tree {
                Self::Empty => return &[],
                Self::Leaf(entries) => return entries,
                Self::Branch(children) => match children.get(digit(hash, depth)) {
                    Some(child) => tree = child,
                    None => return &[],
                },
            }
            depth += 1;
        }
    }

    /// Puts `node` in place of the one of the same name; says whether there was none.
    fn insert(&mut self, depth: u32, hash: u64, node: Arc<Node>) -> bool {
        match self {
            Self::Empty => {
                *self = Self::Leaf(Arc::new(vec![(hash, node)]));
                true
            }
            Self::Leaf(entries) => {
                let entries = Arc::make_mut(entries);
                match find(entries, hash, node.owner().wire()) {
                    Ok(at) => {
                        if let Some(slot) = entries.get_mut(at) {
                            slot.1 = node;
                        }
                        false
                    }
                    Err(at) => {
                        if entries.len() == entries.capacity() {
                            // A few more rather than as many again: a million names share these.
                            entries.reserve_exact(3);
                        }
                        entries.insert(at, (hash, node));
                        if entries.len() > LEAF_ENTRIES && depth < u64::BITS / BITS {
                            *self = Self::split(std::mem::take(entries), depth);
                        }
                        true
                    }
                }
            }
            Self::Branch(children) => {
                let child = Arc::make_mut(children).get_mut(digit(hash, depth));
                child.is_some_and(|child| child.insert(depth + 1, hash, node))
            }
        }
    }

    fn split(entries: Vec<Entry>, depth: u32) -> Self {
        let mut parts: [Vec<Entry>; FAN_OUT] = Default::default();
        for entry in entries {
            if let Some(part) = parts.get_mut(digit(entry.0, depth)) {
                part.push(entry);
            }
        }
        let children = parts.map(|mut part| {
            part.shrink_to_fit();
            if part.is_empty() {
                Self::Empty
            } else if part.len() > LEAF_ENTRIES && depth + 1 < u64::BITS / BITS {
                Self::split(part, depth + 1)
            } else {
                Self::Leaf(Arc::new(part))
            }
        });
        Self::Branch(Arc::new(children))
    }

    /// Takes the node of a name out; says whether there was one.
    fn remove(&mut self, depth: u32, hash: u64, wire: &[u8]) -> bool {
        match self {
            Self::Empty => false,
            Self::Leaf(entries) => {
                let Ok(at) = find(entries, hash, wire) else {
                    return false;
                };
                if entries.len() == 1 {
                    *self = Self::Empty;
                } else {
                    Arc::make_mut(entries).remove(at);
                }
                true
            }
            Self::Branch(children) => {
                let children = Arc::make_mut(children);
                let child = children.get_mut(digit(hash, depth));
                let removed = child.is_some_and(|child| child.remove(depth + 1, hash, wire));
                if removed && children.iter().all(|one| matches!(one, Self::Empty)) {
                    *self = Self::Empty;
                }
                removed
            }
        }
    }

    fn entries(&self) -> Entries<'_> {
        Entries {
            above: vec![slice::from_ref(self).iter()],
            leaf: [].iter(),
        }
    }

    fn differences<'t>(
        &'t self,
        before: &'t Self,
        note: &mut impl FnMut(u64, Option<&'t Arc<Node>>, Option<&'t Arc<Node>>),
    ) {
        if self.is_same(before) {
            return;
        }
        if let (Self::Branch(after), Self::Branch(before)) = (self, before) {
            for (after, before) in after.iter().zip(&**before) {
                after.differences(before, note);
            }
            return;
        }
        let (mut olds, mut news) = (before.entries().peekable(), self.entries().peekable());
        loop {
            let order = match (olds.peek(), news.peek()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((old_hash, old)), Some((new_hash, new))) => old_hash
                    .cmp(new_hash)
                    .then_with(|| old.owner().wire().cmp(new.owner().wire())),
            };
            let old = olds.next_if(|_| order.is_le());
            let new = news.next_if(|_| order.is_ge());
            match (old, new) {
                (Some((_, old)), Some((_, new))) if Arc::ptr_eq(old, new) => {}
                (old, new) => {
                    let hash = old.or(new).map_or(0, |(hash, _)| *hash);
                    note(hash, old.map(|(_, node)| node), new.map(|(_, node)| node));
                }
            }
        }
    }
}

impl Table {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, hash: u64, wire: &[u8]) -> Option<&Arc<Node>> {
        let leaf = self.root.leaf(hash);
        let at = find(leaf, hash, wire).ok()?;
        leaf.get(at).map(|(_, node)| node)
    }

    /// The nodes of a hash, in the order of their owners. More than one where names collide.
    pub(super) fn all(&self, hash: u64) -> impl Iterator<Item = &Arc<Node>> {
        let leaf = self.root.leaf(hash);
        let start = leaf.partition_point(|(other, _)| *other < hash);
        let rest = leaf.get(start..).unwrap_or_default().iter();
        rest.take_while(move |(other, _)| *other == hash)
            .map(|(_, node)| node)
    }

    /// Puts `node` in place of the one of the same name.
    pub(super) fn insert(&mut self, hash: u64, node: Arc<Node>) {
        self.len += usize::from(self.root.insert(0, hash, node));
    }

    pub(super) fn remove(&mut self, hash: u64, wire: &[u8]) {
        self.len -= usize::from(self.root.remove(0, hash, wire));
    }

    /// Every node with its hash, ascending by hash, then by owner.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, &Arc<Node>)> {
        self.root.entries().map(|(hash, node)| (*hash, node))
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.entries().map(|(_, node)| node)
    }

    /// Tells of each name whose node is not the same in both versions: its hash, the node in
    /// `before`, and the one in this version.
    pub(super) fn differences<'t>(
        &'t self,
        before: &'t Self,
        mut note: impl FnMut(u64, Option<&'t Arc<Node>>, Option<&'t Arc<Node>>),
    ) {
        self.root.differences(&before.root, &mut note);
    }
}

/// Walks the leaves from left to right.
struct Entries<'t> {
    above: Vec<slice::Iter<'t, Tree>>,
    leaf: slice::Iter<'t, Entry>,
}

impl<'t> Iterator for Entries<'t> {
    type Item = &'t Entry;

    fn next(&mut self) -> Option<&'t Entry> {
        loop {
            if let Some(entry) = self.leaf.next() {
                return Some(entry);
            }
            match self.above.last_mut()?.next() {
                None => {
                    self.above.pop();
                }
                Some(Tree::Empty) => {}
                Some(Tree::Leaf(entries)) => self.leaf = entries.iter(),
                Some(Tree::Branch(children)) => self.above.push(children.iter()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::zones::few::Few;
    use crate::zones::{Name, ZoneIndex};

    fn node(text: &str) -> Arc<Node> {
        let owner = Name::from_text(text).unwrap();
        Arc::new(Node::new(owner, ZoneIndex(0), Few::default(), false, false))
    }

    fn text(node: &Arc<Node>) -> String {
        node.owner().to_string()
    }

    #[test]
    fn names_of_equal_hash_are_told_apart() {
        let mut table = Table::default();
        for text in ["c.mesos", "a.mesos", "b.mesos"] {
            table.insert(7, node(text));
        }
        let found = table.get(7, b"\x01b\x05mesos\0").unwrap();
        assert_eq!(text(found), "b.mesos.");
        table.remove(7, b"\x01a\x05mesos\0");
        assert!(table.get(7, b"\x01a\x05mesos\0").is_none());
        assert!(table.get(7, b"\x01c\x05mesos\0").is_some());
        assert_eq!(
            table.all(7).map(text).collect::<Vec<_>>(),
            ["b.mesos.", "c.mesos."]
        );
        assert_eq!(table.len(), 2);
    }

    /// More names of one hash than a leaf is meant for: there is nothing to split them by.
    #[test]
    fn a_leaf_of_one_hash_grows() {
        let mut table = Table::default();
        let names: Vec<String> = (100..200).map(|i| format!("n{i}.mesos.")).collect();
        for text in &names {
            table.insert(7, node(text));
        }
        assert_eq!(table.all(7).map(text).collect::<Vec<_>>(), names);
    }

    fn model(table: &Table) -> BTreeMap<(u64, String), *const Node> {
        let entries = table.entries();
        entries
            .map(|(hash, node)| ((hash, text(node)), Arc::as_ptr(node)))
            .collect()
    }

    proptest! {
        /// Two versions, the later made from the earlier by insertions and removals: both hold what
        /// a plain map holds, and what they differ in is what those maps differ in.
        #[test]
        fn versions_are_as_plain_maps(
            // Few hashes in few places, so that names meet, leaves split and branches empty.
            first in prop::collection::vec((0u64..8, 0u64..40, any::<bool>()), 0..400),
            then in prop::collection::vec((0u64..8, 0u64..40, any::<bool>()), 0..400),
        ) {
            let mut table = Table::default();
            let mut plain = BTreeMap::new();
            let mut before = None;
            for (step, (high, low, keep)) in first.iter().chain(&then).enumerate() {
                if step == first.len() {
                    before = Some((table.clone(), plain.clone()));
                }
                let hash = (high << 61) | ((low / 2) << 8);
                let owner = format!("n{high}-{low}.mesos.");
                if *keep {
                    let node = node(&owner);
                    plain.insert((hash, owner), Arc::as_ptr(&node));
                    table.insert(hash, node);
                } else {
                    let wire = Name::from_text(&owner).unwrap();
                    table.remove(hash, wire.wire());
                    plain.remove(&(hash, owner));
                }
            }
            let (older, older_plain) = before.unwrap_or_else(|| (table.clone(), plain.clone()));
            prop_assert_eq!(table.len(), plain.len());
            prop_assert_eq!(&model(&table), &plain);
            prop_assert_eq!(&model(&older), &older_plain);
            prop_assert!(table.entries().is_sorted_by_key(|(hash, node)| (hash, text(node))));
            let mut found = BTreeMap::new();
            table.differences(&older, |_, old, new| {
                let owner = text(old.or(new).unwrap());
                found.insert(owner, (old.map(Arc::as_ptr), new.map(Arc::as_ptr)));
            });
            let differing: BTreeMap<_, _> = older_plain
                .keys()
                .chain(plain.keys())
                .map(|key| {
                    let pair = (older_plain.get(key).copied(), plain.get(key).copied());
                    (key.1.clone(), pair)
                })
                .filter(|(_, (old, new))| old != new)
                .collect();
            prop_assert_eq!(found, differing);
        }
    }
}
