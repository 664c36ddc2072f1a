//! Records with counts: several contributors may have the same record, which is there as long as
//! one of them has it.

use std::collections::HashMap;

use crate::zones::{Name, Rdata, Rrset};

/// A multiset of records by name.
#[derive(Debug, Clone, Default)]
pub struct CountedRecords {
    /// The data of each name, ascending, with how many have it. Most names have one.
    by_name: HashMap<Name, Vec<(Rdata, u32)>>,
}

impl CountedRecords {
    /// Puts `after` in the place of `before`, which must have been put in; a record counts as
    /// often as it is there. Names whose records are others than before are added to `changed`.
    pub fn replace(
        &mut self,
        before: &[(Name, Rdata)],
        after: &[(Name, Rdata)],
        changed: &mut impl Extend<Name>,
    ) {
        // Adding first keeps a record that stays from coming and going.
        for (name, rdata) in after {
            self.add(name, rdata, changed);
        }
        for (name, rdata) in before {
            self.remove(name, rdata, changed);
        }
    }

    fn add(&mut self, name: &Name, rdata: &Rdata, changed: &mut impl Extend<Name>) {
        let records = self.by_name.entry(name.clone()).or_default();
        match records.binary_search_by(|(one, _)| one.cmp(rdata)) {
            Ok(at) => {
                if let Some((_, count)) = records.get_mut(at) {
                    *count += 1;
                }
            }
            Err(at) => {
                if records.is_empty() {
                    records.reserve_exact(1);
                }
                records.insert(at, (rdata.clone(), 1));
                changed.extend([name.clone()]);
            }
        }
    }

    fn remove(&mut self, name: &Name, rdata: &Rdata, changed: &mut impl Extend<Name>) {
        let Some(records) = self.by_name.get_mut(name) else {
            return;
        };
        let Ok(at) = records.binary_search_by(|(one, _)| one.cmp(rdata)) else {
            return;
        };
        let Some((_, count)) = records.get_mut(at) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            records.remove(at);
            if records.is_empty() {
                self.by_name.remove(name);
            }
            changed.extend([name.clone()]);
        }
    }

    /// The names that have other records in `other` than here.
    pub fn names_that_differ<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Name> + 'a {
        let data = |of: &'a Self, name: &Name| {
            let records = of.by_name.get(name).map_or(&[][..], Vec::as_slice);
            records.iter().map(|(rdata, _)| rdata)
        };
        let only_there = other.by_name.keys();
        let only_there = only_there.filter(|name| !self.by_name.contains_key(*name));
        self.by_name
            .keys()
            .filter(move |name| !data(self, name).eq(data(other, name)))
            .chain(only_there)
            .cloned()
    }

    /// How many names have records.
    #[must_use]
    pub fn names(&self) -> usize {
        self.by_name.len()
    }

    /// The RRsets of one name, each record with `ttl` seconds; none if it has no records.
    #[must_use]
    pub fn rrsets(&self, name: &Name, ttl: u32) -> Vec<Rrset> {
        let records = self.by_name.get(name).map_or(&[][..], Vec::as_slice);
        rrsets_of(records.iter().map(|(rdata, _)| rdata.clone()), ttl)
    }

    /// All RRsets, each record with `ttl` seconds.
    #[must_use]
    pub fn content(&self, ttl: u32) -> Vec<(Name, Rrset)> {
        self.by_name
            .iter()
            .flat_map(|(name, records)| {
                rrsets_of(records.iter().map(|(rdata, _)| rdata.clone()), ttl)
                    .into_iter()
                    .map(|rrset| (name.clone(), rrset))
            })
            .collect()
    }
}

/// Sorts the data of one name into RRsets, in the order of the types' first data.
pub(super) fn rrsets_of(data: impl Iterator<Item = Rdata>, ttl: u32) -> Vec<Rrset> {
    let mut by_type: Vec<(_, Vec<Rdata>)> = Vec::new();
    for rdata in data {
        let rtype = rdata.rtype();
        match by_type.iter_mut().find(|(known, _)| *known == rtype) {
            Some((_, same)) => same.push(rdata),
            None => by_type.push((rtype, vec![rdata])),
        }
    }
    by_type
        .into_iter()
        .map(|(rtype, data)| Rrset::new(rtype, ttl, data))
        .collect()
}
