//! Who leads to whom: finished answers hold the addresses of the names that their records lead to, so
//! they change when those do.

use std::collections::HashSet;

use super::hash::{ByHash, OwnerHasher, owner_hash};
use super::{Name, Node, Rdata, Rrset};

/// The owners of the SRV, NS and CNAME records that lead to a name. Names are told by their hashes: of
/// two with one hash it is enough to know the owners that lead to either.
pub(super) struct Referrers {
    seed: u64,
    /// An owner is in as often as it has records that lead to the name.
    owners: ByHash<Vec<u64>>,
}

impl Referrers {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            owners: ByHash::with_hasher(OwnerHasher::new(seed)),
        }
    }

    /// Takes in owners, each with a name that a record of it leads to; equal names one after the other.
    pub(super) fn add(&mut self, links: impl Iterator<Item = (u64, u64)>) {
        let mut links = links.peekable();
        while let Some((name, owner)) = links.next() {
            let owners = self.owners.entry(name).or_default();
            owners.push(owner);
            while let Some((_, owner)) = links.next_if(|(next, _)| *next == name) {
                owners.push(owner);
            }
        }
    }

    /// Forgets where the records of a node lead.
    pub(super) fn forget(&mut self, node: &Node) {
        let mut targets = targets(node.rrsets()).peekable();
        if targets.peek().is_none() {
            return;
        }
        let owner = owner_hash(self.seed, node.owner().wire());
        for target in targets {
            let hash = owner_hash(self.seed, target.wire());
            let Some(owners) = self.owners.get_mut(&hash) else {
                continue;
            };
            if let Some(at) = owners.iter().position(|one| *one == owner) {
                owners.swap_remove(at);
            }
            if owners.is_empty() {
                self.owners.remove(&hash);
            }
        }
    }

    /// The owners that lead to one of `names`, by themselves or by one alias or more. `is_alias` says
    /// whether an owner is one.
    pub(super) fn that_lead_to(
        &self,
        mut names: Vec<u64>,
        is_alias: impl Fn(u64) -> bool,
    ) -> HashSet<u64, OwnerHasher> {
        let mut found = HashSet::with_hasher(OwnerHasher::new(self.seed));
        while let Some(name) = names.pop() {
            for &owner in self.of(name) {
                if found.insert(owner) && is_alias(owner) {
                    names.push(owner);
                }
            }
        }
        found
    }

    /// The owners that lead to a name.
    pub(super) fn of(&self, name: u64) -> &[u64] {
        let owners = self.owners.get(&name);
        owners.map(Vec::as_slice).unwrap_or_default()
    }
}

/// The names whose addresses go with the records.
pub(super) fn targets(rrsets: &[Rrset]) -> impl Iterator<Item = &Name> {
    let data = rrsets.iter().flat_map(Rrset::data);
    data.filter_map(|data| match data {
        Rdata::Srv(_, _, _, target) | Rdata::Ns(target) | Rdata::Cname(target) => Some(target),
        _ => None,
    })
}
