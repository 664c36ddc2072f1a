//! Reading in an order that spares waiting. Names lie all over the memory, and what waits for one of
//! them waits for each; the processor fetches several at a time where none depends on another.

use std::hint::black_box;
use std::sync::Arc;

use super::hash::owner_hash;
use super::referrers::targets;
use super::{Encoder, Name, Node, Snapshot};

/// Names that are read ahead of their turn: few enough to be in the cache still when that comes.
pub(super) const NAMES: usize = 32;

/// Fetches names.
pub(super) fn fetch<'a>(names: impl Iterator<Item = &'a Name>) {
    // A name may lie in two cache lines.
    let ends = |name: &Name| {
        let octets = [name.wire().first(), name.wire().last()];
        octets
            .into_iter()
            .flatten()
            .fold(0, |seen, octet| seen ^ octet)
    };
    black_box(names.fold(0, |seen, name| seen ^ ends(name)));
}

/// Where the records of some nodes lead.
pub(super) struct Links<'n> {
    /// In the order of the records: the name led to, and the hash of the owner.
    ends: Vec<(&'n Name, u64)>,
    /// The hash of the name led to and its place in `ends`, in the table's order: neighbours share
    /// what is read of it, and many lead to the same.
    by_target: Vec<(u64, usize)>,
}

impl<'n> Links<'n> {
    pub(super) fn of(nodes: &[&'n Arc<Node>], seed: u64) -> Self {
        let mut ends: Vec<(&Name, u64)> = Vec::with_capacity(nodes.len());
        let mut by_target = Vec::with_capacity(nodes.len());
        for some in nodes.chunks(NAMES) {
            let leading = some.iter().filter(|node| !node.rrsets().is_empty());
            fetch(leading.map(|node| node.owner()));
            let from = ends.len();
            for node in some {
                let mut targets = targets(node.rrsets()).peekable();
                if targets.peek().is_some() {
                    let owner = owner_hash(seed, node.owner().wire());
                    ends.extend(targets.map(|target| (target, owner)));
                }
            }
            let fresh = || ends.iter().enumerate().skip(from);
            fetch(fresh().map(|(_, (target, _))| *target));
            by_target
                .extend(fresh().map(|(at, (target, _))| (owner_hash(seed, target.wire()), at)));
        }
        by_target.sort_unstable();
        Self { ends, by_target }
    }

    /// The hashes of each name led to and of the owner, ascending by the first, of the first `count`
    /// records.
    pub(super) fn hashes(&self, count: usize) -> impl Iterator<Item = (u64, u64)> {
        let first = self.by_target.iter().filter(move |(_, at)| *at < count);
        first.filter_map(|&(target, at)| Some((target, self.ends.get(at)?.1)))
    }

    pub(super) const fn len(&self) -> usize {
        self.ends.len()
    }

    /// The nodes led to, in the order of the records.
    fn find<'s>(&self, snapshot: &'s Snapshot) -> Vec<Option<&'s Arc<Node>>> {
        let mut found = vec![None; self.ends.len()];
        let mut last: Option<&Arc<Node>> = None;
        for &(hash, at) in &self.by_target {
            if let (Some(slot), Some((name, _))) = (found.get_mut(at), self.ends.get(at)) {
                let is_it = |node: &&Arc<Node>| node.owner() == *name;
                last = last
                    .filter(is_it)
                    .or_else(|| snapshot.all(hash).find(is_it));
                *slot = last;
            }
        }
        found
    }
}

/// Has nodes of a snapshot encoded, of which `links` are.
pub(super) fn encode(
    snapshot: &Snapshot,
    encoder: &dyn Encoder,
    nodes: &[&Arc<Node>],
    links: &Links<'_>,
) {
    let led_to = links.find(snapshot);
    let mut rest = led_to.as_slice();
    for some in nodes.chunks(NAMES) {
        fetch(some.iter().map(|node| node.owner()));
        let next = rest.iter().take(2 * NAMES).flatten();
        black_box(next.map(|node| node.rrsets().len()).sum::<usize>());
        for node in some {
            let count = targets(node.rrsets()).count();
            let (own, others) = rest.split_at_checked(count).unwrap_or_default();
            node.encode(snapshot, encoder, own);
            rest = others;
        }
    }
}
