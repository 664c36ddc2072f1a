//! Who leads to whom: finished answers hold the addresses of the names that their records lead to, so
//! they change when those do.

use std::collections::{HashMap, HashSet};

use super::hash::{OwnerHasher, owner_hash};
use super::{Name, Rdata, Rrset};

/// The owners of the SRV, NS and CNAME records that lead to a name.
pub(super) struct Referrers {
    seed: u64,
    /// By the hash of the name: of two names with one hash it is enough to know the owners that lead
    /// to either.
    owners: HashMap<u64, Vec<Name>, OwnerHasher>,
}

impl Referrers {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            owners: HashMap::with_hasher(OwnerHasher::new(seed)),
        }
    }

    /// Takes in that the records of `owner` are `after` and no longer `before`.
    pub(super) fn update(&mut self, before: &[Rrset], after: &[Rrset], owner: &Name) {
        for target in targets(before) {
            let hash = self.hash(target);
            if let Some(owners) = self.owners.get_mut(&hash) {
                owners.retain(|one| one != owner);
                if owners.is_empty() {
                    self.owners.remove(&hash);
                }
            }
        }
        for target in targets(after) {
            let owners = self.owners.entry(self.hash(target));
            let owners = owners.or_insert_with(|| Vec::with_capacity(1));
            if !owners.contains(owner) {
                owners.push(owner.clone());
            }
        }
    }

    /// The owners that lead to one of `names`, by themselves or by one alias or more. `is_alias` says
    /// whether an owner is one.
    pub(super) fn that_lead_to<'r>(
        &'r self,
        mut names: Vec<&'r Name>,
        is_alias: impl Fn(&Name) -> bool,
    ) -> HashSet<&'r Name, OwnerHasher> {
        let mut found = HashSet::with_hasher(OwnerHasher::new(self.seed));
        while let Some(name) = names.pop() {
            for owner in self.of(name) {
                if found.insert(owner) && is_alias(owner) {
                    names.push(owner);
                }
            }
        }
        found
    }

    /// The owners that lead to a name.
    pub(super) fn of(&self, name: &Name) -> &[Name] {
        let owners = self.owners.get(&self.hash(name));
        owners.map(Vec::as_slice).unwrap_or_default()
    }

    fn hash(&self, name: &Name) -> u64 {
        owner_hash(self.seed, name.wire())
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
