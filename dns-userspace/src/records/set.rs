//! The record set under the Mesos domain, as texts: every name once in one arena, values in flat
//! rows. A refresh of 63,000 records takes a few large allocations and not a hundred thousand.

use std::hash::{BuildHasher, RandomState};

use super::addresses::Address;
use super::sink::{Rule, Sink};
use crate::mesos::Defects;
use crate::zones::hash::owner_hash;
/// The handle of a name in one set. Once the set is finished, handles sort as their texts do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameId(u32);

impl NameId {
    /// The place of the name, counted from 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Texts, one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names {
    text: String,
    ends: Vec<usize>,
}

impl Names {
    fn get(&self, id: NameId) -> &str {
        let start = match id.index().checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or_default(),
            None => 0,
        };
        let end = self.ends.get(id.index()).copied().unwrap_or_default();
        self.text.get(start..end).unwrap_or_default()
    }

    fn push(&mut self, text: &str) -> NameId {
        let id = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        self.text.push_str(text);
        self.ends.push(self.text.len());
        NameId(id)
    }
}

/// An SRV value: `target:port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// The target, a name of the same set.
    pub target: NameId,
    /// The port, as found.
    pub port: i64,
}

/// Values by name, both ascending and each once.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rows<V> {
    owners: Vec<(NameId, usize)>,
    values: Vec<V>,
}

impl<V: Ord> Rows<V> {
    fn new(mut pairs: Vec<(NameId, V)>) -> Self {
        pairs.sort_unstable();
        pairs.dedup();
        let mut owners: Vec<(NameId, usize)> = Vec::new();
        let mut values = Vec::with_capacity(pairs.len());
        for (owner, value) in pairs {
            values.push(value);
            match owners.last_mut() {
                Some((last, end)) if *last == owner => *end = values.len(),
                _ => owners.push((owner, values.len())),
            }
        }
        owners.shrink_to_fit();
        Self { owners, values }
    }

    fn iter(&self) -> impl Iterator<Item = (NameId, &[V])> {
        let mut start = 0;
        self.owners.iter().map(move |&(owner, end)| {
            let values = self.values.get(start..end).unwrap_or_default();
            start = end;
            (owner, values)
        })
    }

    fn get(&self, owner: NameId) -> &[V] {
        let Ok(at) = self.owners.binary_search_by_key(&owner, |&(id, _)| id) else {
            return &[];
        };
        let end = self.owners.get(at).map_or(0, |&(_, end)| end);
        let start = match at.checked_sub(1) {
            Some(before) => self.owners.get(before).map_or(0, |&(_, end)| end),
            None => 0,
        };
        self.values.get(start..end).unwrap_or_default()
    }
}

/// Every record under the Mesos domain, with names and values exactly as mesos-dns shows them;
/// names that DNS cannot carry included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MesosRecords {
    names: Names,
    a: Rows<Address>,
    aaaa: Rows<Address>,
    srv: Rows<Service>,
    in_dns_only: Rows<Service>,
    dns_forms: Vec<(NameId, Box<str>)>,
    /// What the state holds but these records do not.
    pub defects: Defects,
}

impl MesosRecords {
    /// The text of a name: full, with its final dot, in the case it was built with.
    #[must_use]
    pub fn name(&self, id: NameId) -> &str {
        self.names.get(id)
    }

    /// The handle of a name, if any record has it as owner or target.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<NameId> {
        let count = u32::try_from(self.names.ends.len()).unwrap_or(u32::MAX);
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.names.get(NameId(middle)).cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(NameId(middle)),
            }
        }
        None
    }

    /// The A records, ascending by name.
    pub fn a(&self) -> impl Iterator<Item = (NameId, &[Address])> {
        self.a.iter()
    }

    /// The AAAA records, ascending by name.
    pub fn aaaa(&self) -> impl Iterator<Item = (NameId, &[Address])> {
        self.aaaa.iter()
    }

    /// The SRV records, ascending by name.
    pub fn srv(&self) -> impl Iterator<Item = (NameId, &[Service])> {
        self.srv.iter()
    }

    /// SRV records that DNS serves beside [`Self::srv`]: a discovery port with protocol `tcp,udp`
    /// under `_tcp` and `_udp`.
    pub fn srv_in_dns_only(&self) -> impl Iterator<Item = (NameId, &[Service])> {
        self.in_dns_only.iter()
    }

    /// The A values of one name.
    #[must_use]
    pub fn a_of(&self, owner: NameId) -> &[Address] {
        self.a.get(owner)
    }

    /// The AAAA values of one name.
    #[must_use]
    pub fn aaaa_of(&self, owner: NameId) -> &[Address] {
        self.aaaa.get(owner)
    }

    /// The SRV values of one name.
    #[must_use]
    pub fn srv_of(&self, owner: NameId) -> &[Service] {
        self.srv.get(owner)
    }

    /// The text of an SRV value: `target:port`.
    #[must_use]
    pub fn service_text(&self, service: &Service) -> String {
        format!("{}:{}", self.name(service.target), service.port)
    }

    /// How many names there are; handles count from 0 to this.
    #[must_use]
    pub const fn name_count(&self) -> usize {
        self.names.ends.len()
    }

    /// How many names have records, counted once for each kind of these.
    #[must_use]
    pub const fn owner_count(&self) -> usize {
        let addresses = self.a.owners.len() + self.aaaa.owners.len();
        addresses + self.srv.owners.len() + self.in_dns_only.owners.len()
    }

    /// How many records there are, those in DNS only left out.
    #[must_use]
    pub fn len(&self) -> usize {
        self.a.values.len() + self.aaaa.values.len() + self.srv.values.len()
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The names that DNS carries in another form, ascending, with it.
    pub fn dns_forms(&self) -> impl Iterator<Item = (NameId, &str)> {
        self.dns_forms.iter().map(|(id, form)| (*id, &**form))
    }

    /// The text under which DNS carries a name, where that differs from [`Self::name`].
    #[must_use]
    pub fn dns_form(&self, id: NameId) -> Option<&str> {
        let at = self
            .dns_forms
            .binary_search_by_key(&id, |(id, _)| *id)
            .ok()?;
        self.dns_forms.get(at).map(|(_, text)| &**text)
    }
}

/// Gathers generated records into a [`MesosRecords`].
#[derive(Debug)]
pub struct Builder {
    names: Names,
    /// The hash of each name, so that growing the table reads no text.
    hashes: Vec<u64>,
    /// Open addressing over `names`: the upper half of the hash, which spares most looks into the
    /// arena, and id + 1, zero for a free slot. A power of two, at most half full.
    slots: Vec<(u32, u32)>,
    seed: u64,
    addresses: Vec<(NameId, Address)>,
    services: Vec<(NameId, Service)>,
    in_dns_only: Vec<(NameId, Service)>,
    dns_forms: Vec<(NameId, Box<str>)>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::for_tasks(0)
    }
}

impl Builder {
    /// A builder with room for what so many tasks usually have: what grows in steps is copied, and all
    /// of it lies in fresh memory each time.
    #[must_use]
    pub fn for_tasks(count: usize) -> Self {
        let names = count * 8;
        let names_and_free = (2 * names).next_power_of_two().max(1024);
        Self {
            names: Names {
                text: String::with_capacity(names * 48),
                ends: Vec::with_capacity(names),
            },
            hashes: Vec::with_capacity(names),
            slots: vec![(0, 0); names_and_free],
            // Names are chosen by tenants.
            seed: RandomState::new().hash_one(()),
            addresses: Vec::with_capacity(count * 4),
            services: Vec::with_capacity(count * 8),
            in_dns_only: Vec::new(),
            dns_forms: Vec::new(),
        }
    }

    /// Sorts everything and ends the set.
    #[must_use]
    pub fn finish(self, defects: Defects) -> MesosRecords {
        let count = u32::try_from(self.names.ends.len()).unwrap_or(u32::MAX);
        // The first octets decide most comparisons without a look into the arena.
        let mut order: Vec<(u128, u32)> = (0..count)
            .map(|id| (prefix(self.names.get(NameId(id))), id))
            .collect();
        order.sort_unstable_by(|(a, x), (b, y)| {
            a.cmp(b)
                .then_with(|| self.names.get(NameId(*x)).cmp(self.names.get(NameId(*y))))
        });
        let mut names = Names {
            text: String::with_capacity(self.names.text.len()),
            ends: Vec::with_capacity(self.names.ends.len()),
        };
        let mut sorted = vec![NameId(0); order.len()];
        for (_, id) in order {
            let place = names.push(self.names.get(NameId(id)));
            if let Some(slot) = sorted.get_mut(NameId(id).index()) {
                *slot = place;
            }
        }
        drop(self.names);
        drop((self.slots, self.hashes));
        let moved = |id: NameId| sorted.get(id.index()).copied().unwrap_or(id);
        let services = |pairs: Vec<(NameId, Service)>| {
            pairs
                .into_iter()
                .map(|(owner, service)| {
                    let target = moved(service.target);
                    (moved(owner), Service { target, ..service })
                })
                .collect()
        };
        let addresses = self.addresses.into_iter();
        let mut v4: Vec<(NameId, Address)> = addresses
            .map(|(owner, address)| (moved(owner), address))
            .collect();
        let v6 = v4.extract_if(.., |(_, address)| address.ip().is_ipv6());
        let v6 = v6.collect();
        let mut dns_forms: Vec<_> = self
            .dns_forms
            .into_iter()
            .map(|(id, text)| (moved(id), text))
            .collect();
        dns_forms.sort_unstable();
        dns_forms.dedup();
        MesosRecords {
            a: Rows::new(v4),
            aaaa: Rows::new(v6),
            srv: Rows::new(services(self.services)),
            in_dns_only: Rows::new(services(self.in_dns_only)),
            dns_forms,
            defects,
            names,
        }
    }

    /// The text of a handle this builder gave.
    #[must_use]
    pub fn text(&self, id: NameId) -> &str {
        self.names.get(id)
    }

    /// The first free slot, or the one that holds `text`.
    fn slot_of(&self, hash: u64, text: &str) -> Option<(usize, Option<NameId>)> {
        let mask = self.slots.len().checked_sub(1)?;
        let tag = tag(hash);
        let mut at = hash as usize & mask;
        loop {
            let &(held, id) = self.slots.get(at)?;
            match id.checked_sub(1) {
                None => return Some((at, None)),
                Some(id) if held == tag && self.names.get(NameId(id)) == text => {
                    return Some((at, Some(NameId(id))));
                }
                Some(_) => at = (at + 1) & mask,
            }
        }
    }

    /// Doubles the table. Every name in it is different, so no text is compared.
    fn grow(&mut self) {
        let size = self.slots.len() * 2;
        let mut slots = vec![(0, 0); size];
        let mask = size - 1;
        for (id, &hash) in (1_u32..).zip(&self.hashes) {
            let mut at = hash as usize & mask;
            while let Some(&(_, 1..)) = slots.get(at) {
                at = (at + 1) & mask;
            }
            if let Some(slot) = slots.get_mut(at) {
                *slot = (tag(hash), id);
            }
        }
        self.slots = slots;
    }
}

/// The first 16 octets, as a number that sorts as they do.
fn prefix(text: &str) -> u128 {
    let mut octets = [0; 16];
    for (to, from) in octets.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    u128::from_be_bytes(octets)
}

impl Sink for Builder {
    type Name = NameId;

    fn name(&mut self, text: &str) -> NameId {
        if self.names.ends.len() * 2 >= self.slots.len() {
            self.grow();
        }
        let hash = owner_hash(self.seed, text.as_bytes());
        let Some((at, found)) = self.slot_of(hash, text) else {
            return NameId(u32::MAX);
        };
        if let Some(id) = found {
            return id;
        }
        let id = self.names.push(text);
        self.hashes.push(hash);
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = (tag(hash), id.0.saturating_add(1));
        }
        id
    }

    fn name_cut_for_dns(&mut self, text: &str, dns: &str) -> NameId {
        let id = self.name(text);
        self.dns_forms.push((id, dns.into()));
        id
    }

    fn address(&mut self, owner: NameId, address: &Address, _: Rule) {
        self.addresses.push((owner, address.clone()));
    }

    fn service(&mut self, owner: NameId, target: NameId, port: i64, _: Rule) {
        self.services.push((owner, Service { target, port }));
    }

    fn service_in_dns_only(&mut self, owner: NameId, target: NameId, port: i64, _: Rule) {
        self.in_dns_only.push((owner, Service { target, port }));
    }

    fn has_address(&self, owner: NameId, address: &Address) -> bool {
        self.addresses
            .iter()
            .any(|(id, value)| *id == owner && value == address)
    }
}

/// What a slot holds of a hash beside its place, which is made of the lower half.
const fn tag(hash: u64) -> u32 {
    (hash >> u32::BITS) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::net::IpAddr;

    proptest! {
        #[test]
        fn a_set_holds_what_was_put_in_once_and_sorted(
            pairs in prop::collection::vec(("[a-c.]{0,20}", 0_u8..4), 0..600)
        ) {
            let mut builder = Builder::default();
            let mut model: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for (name, host) in &pairs {
                let owner = builder.name(name);
                let ip = IpAddr::from([10, 0, 0, *host]);
                builder.address(owner, &ip.into(), Rule::Agent);
                model.entry(name.clone()).or_default().insert(ip.to_string());
            }
            let set = builder.finish(Defects::default());
            let held: Vec<(String, BTreeSet<String>)> = set
                .a()
                .map(|(id, values)| {
                    (set.name(id).to_owned(), values.iter().map(ToString::to_string).collect())
                })
                .collect();
            prop_assert_eq!(&held, &model.into_iter().collect::<Vec<_>>());
            for (name, values) in held {
                let id = set.find(&name).unwrap();
                prop_assert_eq!(set.a_of(id).len(), values.len());
            }
            prop_assert_eq!(set.find("nothing"), None);
        }
    }
}
