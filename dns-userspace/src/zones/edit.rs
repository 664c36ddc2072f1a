//! The one writer: takes content, whole zones or single names, and gives out the next snapshot
//! with the difference to the last.

mod tree;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::ahead;
use super::diff::SerialStep;
use super::hash::{OwnerHasher, owner_hash};
use super::referrers::{Referrers, targets};
use super::table::Table;
use super::{
    Diff, Encoder, MAX_ZONES, Name, NameError, Node, Rrset, Rtype, Snapshot, Soa, Zone, ZoneIndex,
    serial,
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
    /// A zone that comes later has names already, in another zone.
    #[error("zone {0} has names in another zone")]
    Inhabited(Name),
    /// A name that is too long.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A name that belongs to none of the zones.
    #[error("{0} is in none of the served zones")]
    OutsideZones(Name),
}

/// An RRset to be put, with the hash of its owner.
struct Given {
    hash: u64,
    owner: Name,
    rrset: Rrset,
}

/// A set of zones.
#[derive(Clone, Copy, Default)]
struct ZoneSet(u64);

const _: () = assert!(MAX_ZONES <= u64::BITS as usize);

impl ZoneSet {
    const fn insert(&mut self, zone: ZoneIndex) {
        self.0 |= 1 << zone.0;
    }

    const fn has(self, zone: ZoneIndex) -> bool {
        self.0 >> zone.0 & 1 == 1
    }
}

/// Holds the content of all zones and brings it forward, change by change.
///
/// Changes are gathered by [`replace`](Self::replace) and [`set`](Self::set) and appear together
/// at [`commit`](Self::commit), so that no reader sees half of what one Mesos state says.
pub struct Editor {
    seed: u64,
    encoder: Arc<dyn Encoder>,
    zones: Vec<Arc<Zone>>,
    /// How many names are one label below a name, for those with any: a name without RRsets exists
    /// as long as it is in here (RFC 8020, section 2).
    children: HashMap<Name, u32, OwnerHasher>,
    referrers: Referrers,
    /// How many nodes are cuts; most often none, and then nothing is hidden.
    cuts: usize,
    /// Names with others below them that became or ceased to be cuts since the last commit.
    moved_cuts: HashSet<Name, OwnerHasher>,
    table: Table,
    zones_touched: bool,
    /// Zones that were given a serial since the last commit.
    numbered: ZoneSet,
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
            children: HashMap::with_hasher(OwnerHasher::new(seed)),
            referrers: Referrers::new(seed),
            cuts: 0,
            moved_cuts: HashSet::with_hasher(OwnerHasher::new(seed)),
            zones: Vec::with_capacity(zones.len()),
            table: Table::default(),
            zones_touched: true,
            numbered: ZoneSet::default(),
            snapshot: Arc::new(Snapshot::empty(seed)),
        };
        for zone in zones {
            if !apexes.insert(zone.apex.clone()) {
                return Err(EditError::DuplicateZone(zone.apex));
            }
            editor.zones.push(Arc::new(emptied(zone, now)));
        }
        for index in editor.indices() {
            editor.write_apex(index, Vec::new());
        }
        // A zone inside another of ours makes its ancestors exist there.
        for apex in apexes {
            let parent = apex.parent();
            if let Some(above) = parent.and_then(|parent| editor.zone_of(&parent)) {
                editor.adopt(above, &apex);
            }
        }
        editor.publish();
        for node in editor.snapshot.nodes() {
            node.encode(&editor.snapshot, &*editor.encoder);
        }
        Ok(editor)
    }

    /// Adds a zone that was not known from the start, empty but for SOA and NS at the apex. It
    /// appears with the next commit; the other zones keep their places.
    ///
    /// # Errors
    /// Too many zones, one with the same apex, or names at or below the apex that are in another.
    pub fn add(&mut self, zone: Zone, now: u32) -> Result<(), EditError> {
        let count = self.zones.len() + 1;
        let index = u8::try_from(self.zones.len())
            .ok()
            .filter(|_| count <= MAX_ZONES)
            .ok_or(EditError::TooManyZones(count))?;
        if self.index_of(&zone.apex).is_ok() {
            return Err(EditError::DuplicateZone(zone.apex));
        }
        let apex = zone.apex.clone();
        let is_inhabited = self
            .table
            .nodes()
            .any(|node| node.owner().is_at_or_below(&apex));
        if is_inhabited {
            return Err(EditError::Inhabited(apex));
        }
        self.zones.push(Arc::new(emptied(zone, now)));
        self.zones_touched = true;
        self.write_apex(ZoneIndex(index), Vec::new());
        let above = apex.parent().and_then(|parent| self.zone_of(&parent));
        if let Some(above) = above {
            self.adopt(above, &apex);
        }
        Ok(())
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
        let count = content.len();
        let mut given: Vec<Given> = content
            .into_iter()
            .filter(|(owner, _)| self.zone_of(owner) == Some(zone))
            .map(|(owner, rrset)| Given {
                hash: owner_hash(self.seed, owner.wire()),
                owner,
                rrset,
            })
            .collect();
        let outside = count - given.len();
        // In the table's own order, so that one walk of each finds what differs, and what is
        // written next to each other lies next to each other.
        given.sort_unstable_by(|a, b| (a.hash, a.owner.wire()).cmp(&(b.hash, b.owner.wire())));
        for gone in self.not_in(zone, &given) {
            let hash = owner_hash(self.seed, gone.wire());
            self.put(zone, hash, &gone, Vec::new());
        }
        let mut rest = given.into_iter();
        let mut until_fetched = 0;
        while let Some(first) = rest.next() {
            if until_fetched == 0 {
                let next = rest.as_slice().iter().take(ahead::NAMES);
                ahead::fetch(next.map(|one| (&one.owner, Some(&one.rrset))));
                until_fetched = ahead::NAMES;
            }
            until_fetched -= 1;
            let Given { hash, owner, rrset } = first;
            let mut rrsets = vec![rrset];
            let is_more = |next: &Given| next.hash == hash && next.owner == owner;
            while rest.as_slice().first().is_some_and(is_more) {
                rrsets.extend(rest.next().map(|more| more.rrset));
            }
            self.put(zone, hash, &owner, rrsets);
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
        self.put(zone, owner_hash(self.seed, name.wire()), name, rrsets);
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

    /// Gives the zone at `apex` another SOA. The next commit leaves its serial as it is; those after
    /// it move the serial on, unless [`Zone::fixed_serial`] says otherwise.
    ///
    /// # Errors
    /// There is no such zone.
    pub fn set_soa(&mut self, apex: &Name, soa: Soa, ttl: u32) -> Result<(), EditError> {
        let index = self.index_of(apex)?;
        if let Some(zone) = self.zones.get_mut(usize::from(index.0))
            && (zone.soa != soa || zone.soa_ttl != ttl)
        {
            let zone = Arc::make_mut(zone);
            (zone.soa, zone.soa_ttl) = (soa, ttl);
            self.zones_touched = true;
            self.numbered.insert(index);
            self.rewrite_apex(index);
        }
        Ok(())
    }

    /// Takes everything from the zone at `apex`, and has every question for it fail until
    /// [`Self::replace`] (see [`Zone::withdrawn`]).
    ///
    /// # Errors
    /// There is no such zone.
    pub fn withdraw(&mut self, apex: &Name) -> Result<(), EditError> {
        let index = self.index_of(apex)?;
        self.replace(apex, Vec::new())?;
        self.set_complete(index, false);
        if let Some(zone) = self.zones.get_mut(usize::from(index.0)) {
            let zone = Arc::make_mut(zone);
            zone.withdrawn = true;
            // No answer says so; a node that differs is encoded anew.
            zone.soa.serial = zone.soa.serial.wrapping_add(1);
        }
        self.rewrite_apex(index);
        Ok(())
    }

    /// Ends a set of changes: moves the serial of each zone whose content differs, has the written
    /// nodes encoded, and makes the next snapshot. Without a difference the snapshot stays the
    /// same one. `now` is the unix time in seconds.
    pub fn commit(&mut self, now: u32) -> Diff {
        self.hide_and_show();
        let before = Arc::clone(&self.snapshot);
        let mut diff = Diff::default();
        let (mut touched, mut fresh) = (ZoneSet::default(), ZoneSet::default());
        let mut undone = Vec::new();
        self.table.differences(&before.table, |_, before, after| {
            if let (Some(before), Some(after)) = (before, after)
                && before.says_the_same(after)
            {
                // The node from before has its blob already.
                undone.push(Arc::clone(before));
                return;
            }
            let Some(node) = after.or(before) else {
                return;
            };
            touched.insert(node.zone());
            if before.is_some_and(|before| before.is_apex()) {
                // Noted below, when it has its serial.
                return;
            }
            if node.is_apex() {
                // A zone begins with the serial it was given.
                fresh.insert(node.zone());
            }
            diff.note(before, after);
        });
        for node in undone {
            let hash = owner_hash(self.seed, node.owner().wire());
            self.table.insert(hash, node);
        }
        let numbered = std::mem::take(&mut self.numbered);
        for zone in self.indices() {
            if !touched.has(zone) || fresh.has(zone) {
                continue;
            }
            let Some(apex) = self.zone(zone).map(|zone| zone.apex.clone()) else {
                continue;
            };
            if !numbered.has(zone) {
                diff.serials.extend(self.advance_serial(zone, now));
            }
            diff.note(before.node(&apex), self.node(&apex));
        }
        diff.renewed = self.renew_referrers(&before, &diff);
        if !diff.is_empty() || self.zones_touched {
            self.publish();
            let mut written = diff.written();
            loop {
                let next: Vec<&Arc<Node>> = written.by_ref().take(ahead::NAMES).collect();
                if next.is_empty() {
                    break;
                }
                let owners = next
                    .iter()
                    .map(|node| (node.owner(), node.rrsets().first()));
                ahead::fetch(owners);
                for node in next {
                    node.encode(&self.snapshot, &*self.encoder);
                }
            }
        }
        diff
    }

    /// Has every node encoded again, by another encoder, and makes a snapshot of them.
    pub fn encode_with(&mut self, encoder: Arc<dyn Encoder>) {
        self.encoder = encoder;
        self.hide_and_show();
        let entries = self.table.entries();
        let fresh: Vec<(u64, Arc<Node>)> = entries
            .map(|(hash, node)| (hash, Arc::new(node.without_blob())))
            .collect();
        for (hash, node) in &fresh {
            self.table.insert(*hash, Arc::clone(node));
        }
        self.publish();
        for (_, node) in &fresh {
            node.encode(&self.snapshot, &*self.encoder);
        }
    }

    fn publish(&mut self) {
        self.zones_touched = false;
        self.snapshot = Arc::new(Snapshot {
            seed: self.seed,
            zones: self.zones.clone(),
            denials: self
                .zones
                .iter()
                .map(|zone| self.encoder.encode_denial(zone))
                .collect(),
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

    fn node(&self, name: &Name) -> Option<&Arc<Node>> {
        self.table
            .get(owner_hash(self.seed, name.wire()), name.wire())
    }

    /// The names with content in `zone` that `given`, in the table's order, does not speak of.
    fn not_in(&self, zone: ZoneIndex, given: &[Given]) -> Vec<Name> {
        let mut rest = given.iter().peekable();
        let mut gone = Vec::new();
        for (hash, node) in self.table.entries() {
            if node.zone() != zone || node.is_empty_non_terminal() {
                continue;
            }
            let key = (hash, node.owner().wire());
            while rest
                .next_if(|one| (one.hash, one.owner.wire()) < key)
                .is_some()
            {}
            if rest
                .peek()
                .is_none_or(|one| (one.hash, one.owner.wire()) != key)
            {
                gone.push(node.owner().clone());
            }
        }
        gone
    }

    fn set_complete(&mut self, index: ZoneIndex, complete: bool) {
        let Some(zone) = self.zones.get_mut(usize::from(index.0)) else {
            return;
        };
        if zone.complete != complete || zone.withdrawn {
            let zone = Arc::make_mut(zone);
            (zone.complete, zone.withdrawn) = (complete, false);
            self.zones_touched = true;
        }
    }

    /// Puts fresh nodes in place of those whose records lead to a name of `diff` whose addresses or
    /// alias changed, by one alias or more, so that they are encoded again. An older snapshot keeps
    /// the nodes it has.
    fn renew_referrers(&mut self, before: &Snapshot, diff: &Diff) -> Vec<Arc<Node>> {
        let names: Vec<&Name> = if before.len() < diff.added.len() {
            // Few names are older than the change, as at the first fill: where these lead.
            let targets = before.nodes().flat_map(|node| targets(node.rrsets()));
            let leads_elsewhere = |name: &&Name| match (before.node(name), self.node(name)) {
                (Some(before), Some(after)) => before.leads_elsewhere_than(after),
                (before, after) => before.or(after).is_some(),
            };
            targets.filter(leads_elsewhere).collect()
        } else {
            diff.names_that_lead_elsewhere().collect()
        };
        let owners = self.referrers.that_lead_to(names, |owner| {
            let node = self.node(owner);
            node.is_some_and(|node| node.rrset(Rtype::CNAME).is_some())
        });
        let renewed: Vec<Arc<Node>> = owners
            .into_iter()
            .filter_map(|owner| self.node(owner))
            // What is new is encoded anyway.
            .filter(|node| node.blob().is_some())
            .map(|node| Arc::new(node.without_blob()))
            .collect();
        for node in &renewed {
            let hash = owner_hash(self.seed, node.owner().wire());
            self.table.insert(hash, Arc::clone(node));
        }
        renewed
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
        self.rewrite_apex(index);
        Some(SerialStep {
            zone: index,
            before,
            after,
        })
    }
}

/// A zone before its content: with a serial, and without what another editor counted of it.
const fn emptied(mut zone: Zone, now: u32) -> Zone {
    if zone.soa.serial == 0 {
        zone.soa.serial = now;
    }
    zone.wildcards = 0;
    zone
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
