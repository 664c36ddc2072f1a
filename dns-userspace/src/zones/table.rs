//! Every name of every zone in one hash table whose versions share what did not change.
//!
//! 64 groups of 64 shards, each behind an `Arc`. A change copies the shard it falls in, the group
//! of that shard and the root, so its cost is that of 1/4096 of the names and 128 pointers,
//! whatever the number of names; the older version stays whole for those who read it.

use std::sync::Arc;

use super::Node;

const FAN_OUT: usize = 64;

/// Nodes ascending by hash: no spare slots, and a look-up is a binary search in about
/// names / 4096 entries.
#[derive(Debug, Clone, Default)]
struct Shard(Vec<(u64, Arc<Node>)>);

#[derive(Debug, Clone)]
struct Group(Vec<Arc<Shard>>);

/// A version of the table. A clone is the next version.
#[derive(Debug, Clone)]
pub(super) struct Table {
    groups: Vec<Arc<Group>>,
    len: usize,
}

impl Shard {
    /// Where the node of `wire` is, or where it would be put.
    fn find(&self, hash: u64, wire: &[u8]) -> Result<usize, usize> {
        let first = self.0.partition_point(|(other, _)| *other < hash);
        for (offset, (other, node)) in self.0.iter().enumerate().skip(first) {
            if *other != hash {
                break;
            }
            if node.owner().wire() == wire {
                return Ok(offset);
            }
        }
        Err(first)
    }
}

/// The group and the shard of a hash, from its top twelve bits.
const fn place(hash: u64) -> (usize, usize) {
    ((hash >> 58) as usize, (hash >> 52) as usize % FAN_OUT)
}

impl Table {
    pub(super) fn new() -> Self {
        let group = Arc::new(Group(vec![Arc::default(); FAN_OUT]));
        Self {
            groups: vec![group; FAN_OUT],
            len: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, hash: u64, wire: &[u8]) -> Option<&Arc<Node>> {
        let (group, shard) = place(hash);
        let shard = self.groups.get(group)?.0.get(shard)?;
        let at = shard.find(hash, wire).ok()?;
        shard.0.get(at).map(|(_, node)| node)
    }

    /// The first node of a hash; where names collide, one of them.
    pub(super) fn first(&self, hash: u64) -> Option<&Arc<Node>> {
        let (group, shard) = place(hash);
        let shard = self.groups.get(group)?.0.get(shard)?;
        let at = shard.0.partition_point(|(other, _)| *other < hash);
        shard
            .0
            .get(at)
            .filter(|(other, _)| *other == hash)
            .map(|(_, node)| node)
    }

    /// Puts `node` in place of the one of the same name.
    pub(super) fn insert(&mut self, hash: u64, node: Arc<Node>) {
        let Some(shard) = self.shard_mut(hash) else {
            return;
        };
        match shard.find(hash, node.owner().wire()) {
            Ok(at) => {
                if let Some(slot) = shard.0.get_mut(at) {
                    slot.1 = node;
                }
            }
            Err(at) => {
                if shard.0.len() == shard.0.capacity() {
                    // An eighth more rather than as much again: a million names share these.
                    shard.0.reserve_exact(4 + shard.0.len() / 8);
                }
                shard.0.insert(at, (hash, node));
                self.len += 1;
            }
        }
    }

    pub(super) fn remove(&mut self, hash: u64, wire: &[u8]) {
        let Some(shard) = self.shard_mut(hash) else {
            return;
        };
        if let Ok(at) = shard.find(hash, wire) {
            shard.0.remove(at);
            self.len -= 1;
        }
    }

    fn shard_mut(&mut self, hash: u64) -> Option<&mut Shard> {
        let (group, shard) = place(hash);
        let group = Arc::make_mut(self.groups.get_mut(group)?);
        group.0.get_mut(shard).map(Arc::make_mut)
    }

    /// Every node with its hash, ascending by hash.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, &Arc<Node>)> {
        self.groups
            .iter()
            .flat_map(|group| &group.0)
            .flat_map(|shard| &shard.0)
            .map(|(hash, node)| (*hash, node))
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.entries().map(|(_, node)| node)
    }

    /// The nodes of the shards that `other` does not share with this version.
    pub(super) fn nodes_not_shared_with<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = &'a Arc<Node>> {
        self.groups
            .iter()
            .zip(&other.groups)
            .filter(|(own, others)| !Arc::ptr_eq(own, others))
            .flat_map(|(own, others)| own.0.iter().zip(&others.0))
            .filter(|(own, others)| !Arc::ptr_eq(own, others))
            .flat_map(|(own, _)| &own.0)
            .map(|(_, node)| node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zones::{Name, ZoneIndex};

    fn node(text: &str) -> Arc<Node> {
        let owner = Name::from_text(text).unwrap();
        Arc::new(Node::new(owner, ZoneIndex(0), Box::default(), false, false))
    }

    #[test]
    fn names_of_equal_hash_are_told_apart() {
        let mut table = Table::new();
        for text in ["a.mesos", "b.mesos", "c.mesos"] {
            table.insert(7, node(text));
        }
        let found = table.get(7, b"\x01b\x05mesos\0").unwrap();
        assert_eq!(found.owner().to_string(), "b.mesos.");
        table.remove(7, b"\x01a\x05mesos\0");
        assert!(table.get(7, b"\x01a\x05mesos\0").is_none());
        assert!(table.get(7, b"\x01c\x05mesos\0").is_some());
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn a_change_leaves_the_older_version_whole_and_shares_the_rest() {
        let mut table = Table::new();
        table.insert(1 << 60, node("a.mesos"));
        table.insert(1 << 52, node("b.mesos"));
        let older = table.clone();
        table.insert(2 << 52, node("c.mesos"));
        assert_eq!((older.len(), table.len()), (2, 3));
        assert!(older.get(2 << 52, b"\x01c\x05mesos\0").is_none());
        let fresh: Vec<String> = table
            .nodes_not_shared_with(&older)
            .map(|node| node.owner().to_string())
            .collect();
        assert_eq!(fresh, ["c.mesos."]);
    }
}
