//! Snapshots to BPF maps.
//!
//! # What a reader sees
//!
//! A reader is one run of the XDP program. It hashes a name, reads a place in the index, reads the
//! blob in that place, and compares the name in the blob with the one asked. The claim: **each
//! name's answer is the old or the new one, whole**, however fast they change.
//!
//! 1. *A blob never changes while a reader can reach it.* [`Arena::lease`] writes it before anybody
//!    knows of its place; the index names the place after that, by a system call or behind a
//!    release fence, and a reader gets from the index to the blob by an address that it read, an
//!    order that every processor keeps. So whoever finds the place finds the blob complete.
//! 2. *A place is written again only when no reader can hold it.* It goes back to the arena when
//!    its [`Blob`] is dropped, and a snapshot keeps the blobs of its nodes. The publisher keeps the
//!    snapshot that the maps show ([`Publisher::shown`]) until the index leads away from everything
//!    in it that is gone, so a place that came back is in no entry of the index. From then on only
//!    runs that began before can hold it, and [`Arena`] waits until they have ended: XDP programs
//!    run in read-side sections of RCU, and a grace period ends no sooner than those that were
//!    under way at its start.
//! 3. *An entry of the index is one word.* A reader finds the old or the new place. The element of
//!    a hash map may be given to another key while it is read; the place read then is that of
//!    another name, its blob is whole by 1 and 2, and the comparison of the name turns it away.
//!
//! 4. *A shortcut leads where the index leads.* It is written after the entry of the index and taken
//!    away before it, one word at a time, so what is said in 2 and 3 of an entry holds for it: it is
//!    gone before the place that it leads to goes back. A word may be missing, or be found by a hash
//!    with the same upper half: the index is asked, or the name compared.
//!
//! 5. *A tag says what the index says.* A small blob may live in a home, at the place that the hash of
//!    its name gives, and is found there by its tag: one word, which is set after the entry of the
//!    index leads to the blob and after the blob is written, and cleared before the entry goes or
//!    after it leads elsewhere; in each case before the place goes back. So 1 to 4 hold for it as
//!    well: whoever finds the tag finds the old or the new answer, and a home is written again only a
//!    grace period after its tag went. A reader has no address from the tag, so the program makes the
//!    address of the blob depend on it: the order is again one that every processor keeps. A tag is
//!    the whole hash, and may be missing.
//!
//! By 3 to 5 an answer is from one blob, by 1 and 2 that blob is as it was written for the name in it,
//! and the name is the one asked: no answer is torn and none is another's. `tests/publication.rs`
//! tries it with ten thousand changes a second.
//!
//! What an earlier daemon has left in the maps ([`Publisher::inherited`]) is shown like the nodes of
//! a snapshot, and goes by the same rules. The place of a blob that a snapshot has too, octet for
//! octet, is shared by both, and so the index need not change where the answer does not.
//!
//! # More than one name
//!
//! A change of many names is not one step for the kernel: for some milliseconds some names are
//! new and others old. What holds instead: names appear before others go, and from before the first
//! that appears until after the last that goes the zone denies nothing, so that whoever learns
//! of a new name from a new answer is never told that it does not exist; user space, which has
//! the whole new snapshot, answers meanwhile. A generation for each zone would make it one step, at
//! the price of a second look-up for every query, or of two indexes in memory; answers of DNS are
//! by name, and a resolver that asks for two names gets no such promise from any server.

use std::collections::HashSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use dns_common::blob::{self, Head};
use tracing::warn;

use super::arena::{Arena, ArenaEncoder, name_in};
use super::index::{Index, Refused};
use super::mapping::Mapping;
use crate::zones::blob::Blob;
use crate::zones::hash::{ByHash, OwnerHasher, owner_hash};
use crate::zones::{Encoder, Name, Node, Snapshot, ZoneIndex};

/// Where a blob has its flags.
const FLAGS_AT: usize = 3;

/// What is in the maps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Names in the index.
    pub names: usize,
    /// Names that the index can hold.
    pub capacity: usize,
    /// Names left to user space because the maps are full.
    pub left_out: usize,
    /// Names left to user space because another has their hash.
    pub collisions: usize,
    /// Changes of the index and of the zones' denials since the start.
    pub updates: u64,
}

/// Keeps the maps equal to the snapshot that was published last: the index has for each hash the
/// answers of the first node of that hash, but for those in `absent`.
pub(super) struct Publisher {
    index: Index,
    arena: Arc<Arena>,
    zones: Mapping,
    capacity: usize,
    /// What the maps show. Its nodes keep the places that the index leads to.
    shown: Arc<Snapshot>,
    /// The answers of nodes that have theirs elsewhere than in the arena, by hash.
    copies: ByHash<Blob>,
    /// Hashes of names that are not in the index.
    absent: ByHash<Absent>,
    /// Hashes with several names, and how many of them are left to user space.
    crowded: ByHash<usize>,
    /// Hashes that the kernel would not remove, and what keeps the places they lead to.
    stuck: HashSet<u64, OwnerHasher>,
    held: Vec<(Arc<Snapshot>, Vec<Blob>)>,
    /// The SOA of each zone that may deny.
    denials: Vec<Option<Blob>>,
    /// What an earlier daemon has left in the index, by hash, until a snapshot says otherwise.
    inherited: ByHash<Blob>,
    names: usize,
    updates: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// There is no room.
    Full,
    /// Nothing finished: not even that the name exists can be said.
    Unfinished,
    /// The kernel did not take it.
    Refused,
}

/// One publication under way.
#[derive(Default)]
struct Step {
    /// Hashes that were tried again.
    retried: HashSet<u64>,
    /// Hashes whose entries are to go.
    gone: Vec<u64>,
    /// What the index leads to until the step is done.
    retired: Vec<Blob>,
    /// The first thing that the kernel refused.
    error: Option<i32>,
}

impl Publisher {
    pub(super) fn new(
        index: Index,
        arena: Arc<Arena>,
        zones: BorrowedFd<'_>,
        seed: u64,
        capacity: usize,
    ) -> io::Result<Self> {
        let hasher = OwnerHasher::new(seed);
        Ok(Self {
            index,
            arena,
            zones: Mapping::new(zones, blob::MAX_ZONES as usize)?,
            capacity,
            shown: Arc::new(Snapshot::empty(seed)),
            copies: ByHash::with_hasher(hasher),
            absent: ByHash::with_hasher(hasher),
            crowded: ByHash::with_hasher(hasher),
            stuck: HashSet::with_hasher(hasher),
            held: Vec::new(),
            denials: (0..blob::MAX_ZONES).map(|_| None).collect(),
            inherited: ByHash::with_hasher(hasher),
            names: 0,
            updates: 0,
        })
    }

    /// The key of the owner hash.
    pub(super) fn seed(&self) -> u64 {
        self.shown.seed()
    }

    /// Takes over what an earlier daemon has left in the maps: the index and the denials. They answer
    /// until a snapshot says otherwise.
    ///
    /// # Errors
    /// The maps hold something that no daemon leaves there.
    pub(super) fn adopt(&mut self) -> io::Result<()> {
        let entries = self.index.entries()?;
        let denials: Vec<(usize, u64)> = (0..self.denials.len())
            .map(|zone| (zone, self.zones.load(zone)))
            .filter(|(_, place)| *place != 0)
            .collect();
        let names = entries.iter().map(|&(hash, place)| (Some(hash), place));
        let places: Vec<_> = names
            .chain(denials.iter().map(|&(_, place)| (None, place)))
            .collect();
        let seed = self.seed();
        let mut blobs = self.arena.inherit(&places)?.into_iter();
        for ((hash, _), blob) in entries.into_iter().zip(&mut blobs) {
            if name_in(&blob).is_none_or(|name| owner_hash(seed, name) != hash) {
                return Err(io::Error::other("a name is not where its hash says"));
            }
            self.inherited.insert(hash, blob);
        }
        for ((zone, _), blob) in denials.into_iter().zip(blobs) {
            if let Some(slot) = self.denials.get_mut(zone) {
                *slot = Some(blob);
            }
        }
        self.names = self.inherited.len();
        self.arena.expect(self.names);
        self.index.renew(self.names)
    }

    /// Takes out what an earlier daemon has published and this snapshot does not have. Names of a
    /// zone that is not complete stay: their answers are the best that are known.
    fn settle(&mut self, snapshot: &Snapshot, step: &mut Step) {
        if self.inherited.is_empty() {
            return;
        }
        if !self.has_zones_of(snapshot) {
            self.withdraw_denials(step);
        }
        let gone = self.inherited.iter().filter(|(hash, blob)| {
            let zone = head(blob).zone();
            let is_open = || {
                let name = Name::from_wire(name_in(blob)?).ok()?;
                let (index, one) = snapshot.enclosing_zone(&name)?;
                Some(index.0 == zone && !one.complete)
            };
            snapshot.all(**hash).next().is_none() && is_open() != Some(true)
        });
        let gone: Vec<u64> = gone.map(|(hash, _)| *hash).collect();
        for hash in gone {
            self.bring(hash, snapshot, step);
        }
    }

    /// Whether the zones that may deny are those that the snapshot numbers likewise: blobs refer
    /// to them by number.
    fn has_zones_of(&self, snapshot: &Snapshot) -> bool {
        let mut denials = (0u8..).zip(&self.denials);
        denials.all(|(number, denial)| {
            let is_same = || {
                let apex = snapshot.zone(ZoneIndex(number))?.apex.wire();
                let blob = self.inherited.get(&owner_hash(self.seed(), apex))?;
                Some(name_in(blob)? == apex && head(blob).zone() == number)
            };
            denial.is_none() || is_same() == Some(true)
        })
    }

    /// Lets the kernel deny nothing at all.
    fn withdraw_denials(&mut self, step: &mut Step) {
        for (zone, denial) in self.denials.iter_mut().enumerate() {
            if let Some(denial) = denial.take() {
                self.zones.store(zone, 0);
                step.retired.push(denial);
            }
        }
    }

    /// Encodes nodes where this publisher needs not copy them from.
    pub(super) fn encoder(&self) -> Arc<dyn Encoder> {
        Arc::new(ArenaEncoder(Arc::clone(&self.arena)))
    }

    pub(super) fn occupancy(&self) -> Occupancy {
        let full = self.absent.values().filter(|one| **one == Absent::Full);
        Occupancy {
            names: self.names,
            capacity: self.capacity,
            left_out: full.count(),
            collisions: self.crowded.values().sum(),
            updates: self.updates,
        }
    }

    /// Brings the maps to `snapshot`.
    ///
    /// # Errors
    /// The kernel refuses an update; the name concerned is left to user space and tried again at
    /// the next publication.
    pub(super) fn publish(&mut self, snapshot: &Arc<Snapshot>) -> io::Result<()> {
        let was_full = self.is_any(Absent::Full);
        let before = Arc::clone(&self.shown);
        let mut step = Step::default();
        if let Err(error) = self.index.widen(snapshot.len().min(self.capacity)) {
            warn!(%error, "some names have no shortcut: reading the BPF map INDEX");
        }
        // Blobs were written by plain stores; what follows makes them known.
        fence(Ordering::Release);
        self.settle(snapshot, &mut step);
        self.retry(Absent::Refused, snapshot, &mut step);
        let mut last = None;
        snapshot.differences(&before, |hash, _, _| {
            if last != Some(hash) && !step.retried.contains(&hash) {
                self.bring(hash, snapshot, &mut step);
            }
            last = Some(hash);
        });
        if self.finish(snapshot, &mut step) && self.is_any(Absent::Full) {
            self.retry(Absent::Full, snapshot, &mut step);
            self.finish(snapshot, &mut step);
        }
        self.shown = Arc::clone(snapshot);
        // Only now may places go back that the index led to.
        self.held.push((before, step.retired));
        if self.stuck.is_empty() {
            self.held.clear();
        }
        self.write_denials(snapshot);
        if !was_full && self.is_any(Absent::Full) {
            warn!(
                left_out = self.occupancy().left_out,
                capacity = self.capacity,
                "the kernel's maps are full; the names left out are answered from user space, \
                 raise xdp.max_names"
            );
        }
        self.arena.tidy_up()?;
        step.error.map_or(Ok(()), |reason| {
            let error = io::Error::from_raw_os_error(reason);
            Err(io::Error::other(format!(
                "updating the BPF map INDEX: {error}"
            )))
        })
    }

    fn is_any(&self, reason: Absent) -> bool {
        self.absent.values().any(|one| *one == reason)
    }

    /// Whether the index has an entry for a hash, before this step.
    fn is_there(&self, hash: u64) -> bool {
        let is_shown = self.shown.all(hash).next().is_some();
        is_shown && !self.absent.contains_key(&hash)
            || self.stuck.contains(&hash)
            || self.inherited.contains_key(&hash)
    }

    fn retry(&mut self, reason: Absent, snapshot: &Snapshot, step: &mut Step) {
        let absent = self.absent.iter().filter(|(_, one)| **one == reason);
        let mut again: Vec<u64> = absent.map(|(hash, _)| *hash).collect();
        if reason == Absent::Refused {
            again.extend(&self.stuck);
        }
        // In the table's order, as they are looked up there.
        again.sort_unstable();
        for hash in again {
            if reason == Absent::Full && self.names >= self.capacity {
                break;
            }
            if step.retried.insert(hash) {
                self.bring(hash, snapshot, step);
            }
        }
    }

    /// Has the entry of a hash say what `snapshot` says.
    fn bring(&mut self, hash: u64, snapshot: &Snapshot, step: &mut Step) {
        let was_there = self.is_there(hash);
        self.absent.remove(&hash);
        self.stuck.remove(&hash);
        let inherited = self.inherited.remove(&hash);
        let mut nodes = snapshot.all(hash);
        let first = nodes.next();
        match nodes.count() {
            0 => self.crowded.remove(&hash),
            others => self.crowded.insert(hash, others),
        };
        let place = first.map(|node| {
            if !was_there {
                self.withdraw_denial(node, step);
            }
            if was_there || self.names < self.capacity {
                self.place(hash, node, step)
            } else {
                Err(Absent::Full)
            }
        });
        let led_to = inherited.as_ref().and_then(|one| one.place_in(&self.arena));
        step.retired.extend(inherited);
        if let (Some(before), Some(Ok(place))) = (led_to, place)
            && before == place
        {
            return;
        }
        self.updates += 1;
        match place {
            Some(Ok(place)) => {
                self.names += usize::from(!was_there);
                let mut refused = Refused::new();
                self.index.insert(hash, place, &mut refused);
                self.note_refused(&refused, snapshot, step);
            }
            Some(Err(reason)) => self.leave_out(hash, reason, was_there, first, step),
            None => {
                step.retired.extend(self.copies.remove(&hash));
                if was_there {
                    self.names -= 1;
                    step.gone.push(hash);
                }
            }
        }
    }

    /// Leaves a name that exists to user space.
    fn leave_out(
        &mut self,
        hash: u64,
        reason: Absent,
        was_there: bool,
        node: Option<&Arc<Node>>,
        step: &mut Step,
    ) {
        if let Some(node) = node {
            self.withdraw_denial(node, step);
        }
        self.absent.insert(hash, reason);
        step.retired.extend(self.copies.remove(&hash));
        if was_there {
            self.names -= 1;
            step.gone.push(hash);
        }
    }

    /// Where the answers of a node are in the arena.
    fn place(&mut self, hash: u64, node: &Node, step: &mut Step) -> Result<u32, Absent> {
        let blob = node.finished().ok_or(Absent::Unfinished)?;
        if let Some(place) = blob.place_in(&self.arena) {
            if !self.copies.is_empty() {
                step.retired.extend(self.copies.remove(&hash));
            }
            return Ok(place);
        }
        let copy = self.arena.lease(blob).ok_or(Absent::Full)?;
        let place = copy.place_in(&self.arena).ok_or(Absent::Full)?;
        step.retired.extend(self.copies.insert(hash, copy));
        Ok(place)
    }

    /// Has the kernel do what is gathered; says whether entries went.
    fn finish(&mut self, snapshot: &Snapshot, step: &mut Step) -> bool {
        let mut refused = Refused::new();
        self.index.flush_insertions(&mut refused);
        self.note_refused(&refused, snapshot, step);
        refused.clear();
        let gone = std::mem::take(&mut step.gone);
        self.index.remove(&gone, &mut refused);
        for (hash, reason) in refused {
            step.error.get_or_insert(reason);
            self.stuck.insert(hash);
            self.names += 1;
        }
        !gone.is_empty()
    }

    /// Takes names out whose new answers the kernel refused: the old ones must not stay.
    fn note_refused(&mut self, refused: &Refused, snapshot: &Snapshot, step: &mut Step) {
        for &(hash, reason) in refused {
            step.error.get_or_insert(reason);
            let node = snapshot.all(hash).next();
            self.leave_out(hash, Absent::Refused, true, node, step);
        }
    }

    /// Lets the kernel deny nothing in the zone of a name that appears, or that exists and leaves
    /// the index.
    fn withdraw_denial(&mut self, node: &Node, step: &mut Step) {
        let zone = usize::from(node.zone().0);
        if let Some(denial) = self.denials.get_mut(zone).and_then(Option::take) {
            self.zones.store(zone, 0);
            step.retired.push(denial);
        }
    }

    /// Publishes the SOA of each zone that may deny.
    fn write_denials(&mut self, snapshot: &Snapshot) {
        // A name that is missing in the index must not be denied.
        let is_whole = self.absent.is_empty() && self.crowded.is_empty();
        for (index, shown) in (0u8..).zip(&mut self.denials) {
            let wanted = snapshot.denial(ZoneIndex(index)).map(|octets| {
                let mut octets = octets.to_vec();
                if let Some(flags) = octets.get_mut(FLAGS_AT).filter(|_| !is_whole) {
                    *flags &= !blob::flags::DENIES_NAMES;
                }
                octets
            });
            if shown.as_deref() == wanted.as_deref() {
                continue;
            }
            let fresh = wanted.and_then(|octets| self.arena.lease(&octets));
            let place = fresh.as_ref().and_then(|one| one.place_in(&self.arena));
            self.zones
                .store(usize::from(index), place.map_or(0, u64::from));
            self.updates += 1;
            *shown = fresh;
        }
    }
}

/// The head of a blob.
fn head(blob: &Blob) -> Head {
    let octets = blob.first_chunk().copied();
    Head::from_bits(u64::from_le_bytes(octets.unwrap_or_default()))
}
