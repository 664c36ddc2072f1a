//! Records with owners: several tasks may have the same record, which is there as long as one of
//! them has it.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use crate::records::counted::CountedRecords;
use crate::zones::{Name, Rdata, Rrset};

/// A multiset of records, kept by who contributes them. `K` names a contributor.
#[derive(Debug, Clone)]
pub struct Contributions<K> {
    ttl: u32,
    by_owner: HashMap<K, Vec<(Name, Rdata)>>,
    records: CountedRecords,
}

impl<K: Eq + Hash> Contributions<K> {
    /// An empty set whose records all have this TTL, in seconds.
    #[must_use]
    pub fn new(ttl: u32) -> Self {
        Self {
            ttl,
            by_owner: HashMap::new(),
            records: CountedRecords::default(),
        }
    }

    /// Makes `records` the whole contribution of `owner`. Names whose records are others than
    /// before are added to `changed`.
    pub fn set(&mut self, owner: K, mut records: Vec<(Name, Rdata)>, changed: &mut BTreeSet<Name>) {
        records.sort_unstable();
        records.dedup();
        let before = self.by_owner.get(&owner).map_or(&[][..], Vec::as_slice);
        if *before == *records {
            return;
        }
        self.records.replace(before, &records, changed);
        if records.is_empty() {
            self.by_owner.remove(&owner);
        } else {
            self.by_owner.insert(owner, records);
        }
    }

    /// Who contributes anything.
    pub fn owners(&self) -> impl Iterator<Item = &K> {
        self.by_owner.keys()
    }

    /// How many names have records.
    #[must_use]
    pub fn names(&self) -> usize {
        self.records.names()
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names() == 0
    }

    /// The RRsets of one name; none if it has no records.
    #[must_use]
    pub fn rrsets(&self, name: &Name) -> Vec<Rrset> {
        self.records.rrsets(name, self.ttl)
    }

    /// All RRsets.
    #[must_use]
    pub fn content(&self) -> Vec<(Name, Rrset)> {
        self.records.content(self.ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    fn record(name: u8, ip: u8) -> (Name, Rdata) {
        let name = Name::from_text(&format!("n{name}.example")).unwrap();
        (name, Rdata::A([10, 0, 0, ip].into()))
    }

    #[test]
    fn a_record_goes_with_its_last_owner() {
        let mut set = Contributions::new(5);
        let (name, _) = record(1, 1);
        let mut changed = BTreeSet::new();
        set.set("a", vec![record(1, 1)], &mut changed);
        assert_eq!(std::mem::take(&mut changed), BTreeSet::from([name.clone()]));
        set.set("b", vec![record(1, 1), record(1, 1)], &mut changed);
        set.set("a", Vec::new(), &mut changed);
        assert!(changed.is_empty());
        assert_eq!(set.rrsets(&name).len(), 1);
        set.set("b", Vec::new(), &mut changed);
        assert_eq!(changed, BTreeSet::from([name]));
        assert!(set.is_empty() && set.owners().next().is_none());
    }

    proptest! {
        #[test]
        fn changes_are_exact_and_everything_can_leave(
            steps in prop::collection::vec((0u8..5, prop::collection::vec((0u8..6, 0u8..4), 0..5)), 0..60),
        ) {
            let mut set = Contributions::new(5);
            let mut owners: BTreeMap<u8, Vec<(Name, Rdata)>> = BTreeMap::new();
            for (owner, records) in steps {
                let before: BTreeMap<_, _> = all_names().map(|name| (name.clone(), set.rrsets(&name))).collect();
                let records: Vec<_> = records.into_iter().map(|(n, ip)| record(n, ip)).collect();
                owners.insert(owner, records.clone());
                let mut changed = BTreeSet::new();
                set.set(owner, records, &mut changed);
                for name in all_names() {
                    prop_assert_eq!(changed.contains(&name), before[&name] != set.rrsets(&name));
                    let wanted: BTreeSet<Rdata> = owners.values().flatten()
                        .filter(|(other, _)| *other == name).map(|(_, rdata)| rdata.clone()).collect();
                    let have: BTreeSet<Rdata> = set.rrsets(&name).iter()
                        .flat_map(|rrset| rrset.data().to_vec()).collect();
                    prop_assert_eq!(have, wanted);
                }
            }
            for owner in 0..5 {
                set.set(owner, Vec::new(), &mut BTreeSet::new());
            }
            prop_assert!(set.is_empty());
            prop_assert_eq!(set.owners().count(), 0);
        }
    }

    fn all_names() -> impl Iterator<Item = Name> {
        (0u8..6).map(|n| record(n, 0).0)
    }
}
