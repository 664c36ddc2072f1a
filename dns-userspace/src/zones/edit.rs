//! The one writer: takes content, whole zones or single names, and gives out the next snapshot
//! with the difference to the last.

mod tree;

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::iter;
use std::sync::Arc;

use super::ahead::{self, Links};
use super::diff::SerialStep;
use super::few::Few;
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

/// RRsets to be put, each with its owner, until it is.
struct Given(Vec<Option<(Name, Rrset)>>);

impl Given {
    fn owner(&self, at: usize) -> Option<&Name> {
        self.0.get(at)?.as_ref().map(|(owner, _)| owner)
    }

    /// Where one stands to a name in the table's order; `hash` is that of its owner.
    fn order(&self, &(hash, at): &(u64, usize), other: u64, wire: &[u8]) -> Ordering {
        let by_hash = hash.cmp(&other);
        by_hash.then_with(|| self.owner(at).map(Name::wire).cmp(&Some(wire)))
    }

    fn take(&mut self, at: usize) -> Option<(Name, Rrset)> {
        self.0.get_mut(at)?.take()
    }
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
        let nodes: Vec<_> = editor.snapshot.nodes().collect();
        let links = Links::of(&nodes, seed);
        editor.referrers.add(links.hashes(links.len()));
        ahead::encode(&editor.snapshot, &*editor.encoder, &nodes, &links);
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
        let mut given = Given(content.into_iter().map(Some).collect());
        let mut order: Vec<(u64, usize)> = Vec::with_capacity(given.0.len());
        for (at, (owner, _)) in given.0.iter().flatten().enumerate() {
            if self.zone_of(owner) == Some(zone) {
                order.push((owner_hash(self.seed, owner.wire()), at));
            }
        }
        let outside = given.0.len() - order.len();
        // In the table's own order, so that one walk of each finds what differs, and what is
        // written next to each other lies next to each other.
        order.sort_unstable_by(|one, other| {
            let by_hash = one.0.cmp(&other.0);
            by_hash.then_with(|| {
                given
                    .owner(one.1)
                    .map(Name::wire)
                    .cmp(&given.owner(other.1).map(Name::wire))
            })
        });
        for gone in self.not_in(zone, &given, &order) {
            let hash = owner_hash(self.seed, gone.wire());
            self.put(zone, hash, &gone, Few::default());
        }
        let mut rest = order.as_slice();
        let mut until_fetched = 0;
        while let [(hash, first), others @ ..] = rest {
            if until_fetched == 0 {
                let next = rest.iter().take(ahead::NAMES);
                ahead::fetch(next.filter_map(|(_, at)| given.owner(*at)));
                until_fetched = ahead::NAMES;
            }
            until_fetched -= 1;
            rest = others;
            let Some((owner, rrset)) = given.take(*first) else {
                continue;
            };
            let is_more = |one: &&(u64, usize)| given.order(one, *hash, owner.wire()).is_eq();
            let more = others.iter().take_while(is_more).count();
            let (more, others) = others.split_at_checked(more).unwrap_or_default();
            rest = others;
            let more = more.iter().filter_map(|(_, at)| given.take(*at));
            let rrsets = iter::once(rrset).chain(more.map(|(_, rrset)| rrset));
            self.put(zone, *hash, &owner, rrsets.collect());
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
        let hash = owner_hash(self.seed, name.wire());
        self.put(zone, hash, name, rrsets.into_iter().collect());
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
        for node in diff
            .removed
            .iter()
            .chain(diff.changed.iter().map(|one| &one.before))
        {
            self.referrers.forget(node);
        }
        if !diff.is_empty() || self.zones_touched {
            self.publish();
            let written: Vec<_> = diff.written().collect();
            let links = Links::of(&written, self.seed);
            // Those of the renewed nodes, which come last, are known.
            let renewed = diff
                .renewed
                .iter()
                .map(|node| targets(node.rrsets()).count());
            self.referrers
                .add(links.hashes(links.len() - renewed.sum::<usize>()));
            ahead::encode(&self.snapshot, &*self.encoder, &written, &links);
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
        let fresh: Vec<_> = fresh.iter().map(|(_, node)| node).collect();
        let links = Links::of(&fresh, self.seed);
        ahead::encode(&self.snapshot, &*self.encoder, &fresh, &links);
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

    /// The names with content in `zone` that `given` does not speak of; `order` is the table's.
    fn not_in(&self, zone: ZoneIndex, given: &Given, order: &[(u64, usize)]) -> Vec<Name> {
        let mut rest = order.iter().peekable();
        let mut gone = Vec::new();
        for (hash, node) in self.table.entries() {
            if node.zone() != zone || node.is_empty_non_terminal() {
                continue;
            }
            let order = |one: &(u64, usize)| given.order(one, hash, node.owner().wire());
            while rest.next_if(|one| order(one).is_lt()).is_some() {}
            if rest.peek().is_none_or(|one| order(one).is_ne()) {
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
        let names = names.iter().map(|name| owner_hash(self.seed, name.wire()));
        let owners = self.referrers.that_lead_to(names.collect(), |owner| {
            let mut nodes = self.table.all(owner);
            nodes.any(|node| node.rrset(Rtype::CNAME).is_some())
        });
        let renewed: Vec<(u64, Arc<Node>)> = owners
            .into_iter()
            .flat_map(|owner| self.table.all(owner).map(move |node| (owner, node)))
            // What is new is encoded anyway.
            .filter(|(_, node)| node.blob().is_some())
            .map(|(owner, node)| (owner, Arc::new(node.without_blob())))
            .collect();
        for (owner, node) in &renewed {
            self.table.insert(*owner, Arc::clone(node));
        }
        renewed.into_iter().map(|(_, node)| node).collect()
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
