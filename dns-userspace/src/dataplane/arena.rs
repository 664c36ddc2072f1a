//! The memory of the finished answers: one BPF array, mapped, of which nodes lease places.
//!
//! User space answers from the same octets as the kernel, and no name has its answers twice.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, io};

use dns_common::blob::{self, Head};
use dns_common::home;

use super::mapping::{Mapping, wait_for_readers};
use super::slots::Slots;
use crate::answers::encode::BlobEncoder;
use crate::zones::blob::{Blob, Room};
use crate::zones::hash::owner_hash;
use crate::zones::{Encoder, Node, Snapshot, Zone};

/// Words of a home's tag, which stands right before its place.
const TAG_WORDS: usize = home::TAG_OCTETS as usize / 8;
/// Places given back before a grace period is waited for: it takes milliseconds, and so costs
/// ten thousand changes a second next to nothing.
const MANY: usize = 8192;

/// Hands out places. One that was given back is handed out again after a grace period, when no
/// program run that was under way can still look at it.
pub(super) struct Arena {
    mapping: Mapping,
    slots: Mutex<Slots>,
    inherited: Mutex<Inherited>,
    /// The key of the name hash.
    seed: u64,
    /// One less than the homes that blobs move into.
    home_mask: AtomicU64,
}

/// Blobs of an earlier daemon, to which the index leads. Whoever asks for a place for the same
/// octets gets that one; so each may have several holders.
#[derive(Default)]
struct Inherited {
    /// Places by the hash of the name in them.
    by_hash: HashMap<u64, u32>,
    /// Of each place this hash, and the holders beside the first.
    holders: HashMap<u32, (u64, u32)>,
}

impl Arena {
    /// An arena in the array behind `blobs`, which has `pages` values of a page each.
    pub(super) fn new(blobs: BorrowedFd<'_>, pages: u32, seed: u64) -> io::Result<Self> {
        let words = pages as usize * blob::PAGE_OCTETS as usize / 8;
        Ok(Self {
            mapping: Mapping::new(blobs, words)?,
            slots: Mutex::new(Slots::new(pages)),
            inherited: Mutex::default(),
            seed,
            home_mask: AtomicU64::new(0),
        })
    }

    /// Has homes for as many names, as far as there are as many: few, if there are few names, stay in
    /// the caches.
    pub(super) fn expect(&self, names: usize) {
        if names as u64 <= self.home_mask() {
            return;
        }
        let homes = names.next_power_of_two().min(self.slots().homes());
        let mask = (homes as u64).saturating_sub(1);
        self.home_mask.fetch_max(mask, Ordering::Relaxed);
    }

    /// One less than the homes that blobs move into.
    pub(super) fn home_mask(&self) -> u64 {
        self.home_mask.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn tag(&self, home: u32) -> u64 {
        self.mapping.load(at(home) - TAG_WORDS)
    }

    /// Changes the tag of a home.
    pub(super) fn change_tag(&self, home: u32, change: impl FnOnce(u64) -> Option<u64>) {
        let slots = self.slots();
        let tag = at(home) - TAG_WORDS;
        if slots.is_home(home)
            && let Some(tagged) = change(self.mapping.load(tag))
        {
            self.mapping.store(tag, tagged);
        }
    }

    /// Takes the tags of all homes away.
    pub(super) fn clear_tags(&self) {
        let slots = self.slots();
        for number in 0..slots.homes() as u64 {
            let tag = at(home::reference(number) as u32) - TAG_WORDS;
            if self.mapping.load(tag) != 0 {
                self.mapping.store(tag, 0);
            }
        }
    }

    /// Takes over the blobs in these places, which an earlier daemon has left, before any other is
    /// handed out. By name if there is one, as the denials have none.
    pub(super) fn inherit(
        self: &Arc<Self>,
        places: &[(Option<u64>, u64)],
    ) -> io::Result<Vec<Blob>> {
        // What the earlier one gave back last may still be read.
        wait_for_readers()?;
        let mut used = Vec::with_capacity(places.len());
        let mut inherited = self.inherited();
        for &(hash, place) in places {
            let place = u32::try_from(place).map_err(io::Error::other)?;
            let head = Head::from_bits(self.mapping.load(at(place)));
            if head.units() == 0 {
                return Err(io::Error::other("a place without a blob"));
            }
            used.push((place, octets_at(place, head.units())));
            if let Some(hash) = hash {
                inherited.by_hash.insert(hash, place);
                inherited.holders.insert(place, (hash, 0));
            }
        }
        let taken = self.slots().occupy(used.iter().copied());
        taken.ok_or_else(|| io::Error::other("places that overlap, or are none"))?;
        let room = || -> Arc<dyn Room> { Arc::<Self>::clone(self) };
        let leased = |(place, octets): (u32, usize)| {
            let octets = u16::try_from(octets).map_err(io::Error::other)?;
            Ok(Blob::leased(room(), place, octets))
        };
        used.into_iter().map(leased).collect()
    }

    /// The place of an inherited blob with these octets, with one holder more.
    fn share(&self, octets: &[u8]) -> Option<u32> {
        let mut inherited = self.inherited();
        if inherited.by_hash.is_empty() {
            return None;
        }
        let name = name_in(octets)?;
        let hash = owner_hash(self.seed, name);
        let place = *inherited.by_hash.get(&hash)?;
        // SAFETY: a place that is inherited and held is not written.
        let there = unsafe { self.mapping.octets(at(place), octets.len()) };
        if there != octets {
            return None;
        }
        inherited.holders.get_mut(&place)?.1 += 1;
        Some(place)
    }

    /// Takes one holder from an inherited place; says whether it was not the last.
    fn leave(&self, place: u32) -> bool {
        let mut inherited = self.inherited();
        if inherited.holders.is_empty() {
            return false;
        }
        match inherited.holders.get_mut(&place) {
            None => false,
            Some((_, others)) if *others > 0 => {
                *others -= 1;
                true
            }
            Some((hash, _)) => {
                let hash = *hash;
                inherited.by_hash.remove(&hash);
                inherited.holders.remove(&place);
                false
            }
        }
    }

    fn inherited(&self) -> MutexGuard<'_, Inherited> {
        self.inherited
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `octets` where no reader looks yet; `None` if there is no room.
    pub(super) fn lease(self: &Arc<Self>, octets: &[u8]) -> Option<Blob> {
        let len = u16::try_from(octets.len()).ok()?;
        let room: Arc<dyn Room> = Arc::<Self>::clone(self);
        if let Some(place) = self.share(octets) {
            return Some(Blob::leased(room, place, len));
        }
        let taken = self.take(octets);
        let place = match taken {
            Some(place) => place,
            None => {
                self.recycle().ok()?;
                self.take(octets)?
            }
        };
        self.mapping.fill(at(place), octets);
        Some(Blob::leased(room, place, len))
    }

    /// A place for these octets: the home of the name in them, if it is free.
    fn take(&self, octets: &[u8]) -> Option<u32> {
        let is_small = octets.len() <= home::ROOM_OCTETS as usize;
        let name = name_in(octets).filter(|_| is_small);
        let home = name.map(|name| home::number(owner_hash(self.seed, name), self.home_mask()));
        let mut slots = self.slots();
        let at_home = home.and_then(|home| slots.take_home(home, octets.len()));
        at_home.or_else(|| slots.take(octets.len()))
    }

    /// Makes places free that were given back, if there are many of them. May take milliseconds.
    pub(super) fn tidy_up(&self) -> io::Result<()> {
        if self.slots().waiting() < MANY {
            return Ok(());
        }
        self.recycle()
    }

    fn recycle(&self) -> io::Result<()> {
        let waiting = self.slots().take_waiting();
        if waiting.is_empty() {
            return Ok(());
        }
        // Without the lock: whoever drops a snapshot meanwhile must not wait.
        let result = wait_for_readers();
        let mut slots = self.slots();
        match &result {
            Ok(()) => slots.free(waiting),
            Err(_) => slots.wait_again(waiting),
        }
        result
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        // A panic leaves at most a slot that is never used again.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The owner name in a blob; `None` in a denial.
pub(super) fn name_in(octets: &[u8]) -> Option<&[u8]> {
    let start = blob::NAME_AT as usize;
    let length = usize::from(*octets.first()?);
    octets
        .get(start..start + length)
        .filter(|name| !name.is_empty())
}

/// The word at which a place starts.
const fn at(place: u32) -> usize {
    let (page, octets) = blob::reference::parts(place as u64);
    (page as usize * blob::PAGE_OCTETS as usize + octets as usize) / 8
}

/// Octets of so many units from a place on.
const fn octets_at(place: u32, units: usize) -> usize {
    let (_, octets) = blob::reference::parts(place as u64);
    units * blob::SLOT_OCTETS as usize - (octets % blob::SLOT_OCTETS) as usize
}

impl Room for Arena {
    fn octets(&self, place: u32, octets: u16) -> &[u8] {
        // SAFETY: a leased place is written before its blob is made and not again before the blob
        // is dropped; the program only reads.
        unsafe { self.mapping.octets(at(place), usize::from(octets)) }
    }

    fn give_back(&self, place: u32, octets: u16) {
        if !self.leave(place) {
            self.slots().give_back(place, usize::from(octets));
        }
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Arena")
    }
}

/// Encodes nodes into an arena, and beside it where that is full.
#[derive(Debug)]
pub(super) struct ArenaEncoder(pub(super) Arc<Arena>);

impl Encoder for ArenaEncoder {
    fn encode(
        &self,
        snapshot: &Snapshot,
        node: &Node,
        led_to: &[Option<&Arc<Node>>],
    ) -> Option<Blob> {
        let own = BlobEncoder.encode(snapshot, node, led_to)?;
        self.0.expect(snapshot.len());
        Some(self.0.lease(&own).unwrap_or(own))
    }

    fn encode_denial(&self, zone: &Zone) -> Option<Box<[u8]>> {
        BlobEncoder.encode_denial(zone)
    }
}
