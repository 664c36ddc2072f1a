//! Snapshots to BPF maps: blobs first, then one update of the index for each name.
//!
//! A reader finds a reference in the index and reads the blob behind it. A blob is complete before
//! its reference is published, never changed afterwards, and its place is used again only when
//! every program run that could hold the reference has ended. A reader therefore sees the old or
//! the new answer of a name, whole.

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;

use aya::maps::{HashMap as BpfHashMap, MapData};
use dns_common::blob;
use tracing::warn;

use super::mapping::{Mapping, wait_for_readers};
use super::slots::Slots;
use crate::zones::hash::owner_hash;
use crate::zones::{Diff, Node, Snapshot};

/// Where a blob has its flags.
const FLAGS_AT: usize = 3;
const WORDS_PER_SLOT: usize = blob::SLOT_OCTETS as usize / 8;

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

/// Keeps the maps equal to the snapshot that was published last.
pub(super) struct Publisher {
    index: BpfHashMap<MapData, u64, u64>,
    blobs: Mapping,
    zones: Mapping,
    slots: Slots,
    seed: u64,
    capacity: usize,
    published: HashMap<u64, Published>,
    /// The blob of each zone's SOA.
    denials: Vec<Option<Published>>,
    occupancy: Occupancy,
    /// Names that should be in the maps and are not.
    missing: HashMap<Box<[u8]>, Missing>,
}

#[derive(Debug, Clone, Copy)]
struct Published {
    reference: u64,
    octets: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Full,
    Collision,
    Unfinished,
    Refused,
}

impl Publisher {
    pub(super) fn new(
        index: BpfHashMap<MapData, u64, u64>,
        blobs: BorrowedFd<'_>,
        pages: u32,
        zones: BorrowedFd<'_>,
        seed: u64,
        capacity: usize,
    ) -> io::Result<Self> {
        Ok(Self {
            blobs: Mapping::new(blobs, pages as usize * blob::MAX_OCTETS as usize / 8)?,
            zones: Mapping::new(zones, blob::MAX_ZONES as usize)?,
            index,
            slots: Slots::new(pages),
            seed,
            capacity,
            published: HashMap::new(),
            denials: Vec::new(),
            occupancy: Occupancy {
                capacity,
                ..Occupancy::default()
            },
            missing: HashMap::new(),
        })
    }

    pub(super) const fn occupancy(&self) -> Occupancy {
        self.occupancy
    }

    /// Brings the maps from the snapshot before `diff` to `snapshot`.
    pub(super) fn publish(&mut self, snapshot: &Snapshot, diff: &Diff) -> io::Result<()> {
        let was_full = self.occupancy.left_out > 0;
        let mut first_error = None;
        if !diff.removed.is_empty() || self.missing.values().any(|one| *one == Missing::Refused) {
            first_error = self.retry(snapshot).err();
        }
        for node in &diff.removed {
            let result = self.remove(node.owner().wire());
            first_error = first_error.or(self.note(node.owner().wire(), result));
        }
        for node in diff.written() {
            let result = self.write(node);
            first_error = first_error.or(self.note(node.owner().wire(), result));
        }
        self.write_denials(snapshot);
        if self.slots.has_waiting() {
            wait_for_readers()?;
            self.slots.recycle();
        }
        self.occupancy.names = self.published.len();
        self.occupancy.left_out = self
            .missing
            .values()
            .filter(|one| **one == Missing::Full)
            .count();
        self.occupancy.collisions = self
            .missing
            .values()
            .filter(|one| **one == Missing::Collision)
            .count();
        if self.occupancy.left_out > 0 && !was_full {
            warn!(
                left_out = self.occupancy.left_out,
                capacity = self.capacity,
                "the kernel's maps are full; the names left out are answered from user space, \
                 raise xdp.max_names"
            );
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Publishes names left out before, as far as there is room, and takes out those that are gone.
    fn retry(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let mut first_error = None;
        for owner in std::mem::take(&mut self.missing).into_keys() {
            let result = match snapshot.lookup(&owner) {
                Some(node) => self.write(node),
                None => self.remove(&owner),
            };
            first_error = first_error.or(self.note(&owner, result));
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Remembers a name whose update the kernel refused, so that it is tried again.
    fn note(&mut self, owner: &[u8], result: io::Result<()>) -> Option<io::Error> {
        let error = result.err()?;
        self.withdraw_denials();
        self.missing.insert(owner.into(), Missing::Refused);
        Some(error)
    }

    /// Lets the kernel deny nothing, before a name that exists leaves the index.
    fn withdraw_denials(&mut self) {
        for (index, slot) in self.denials.iter_mut().enumerate() {
            if let Some(before) = slot.take() {
                self.zones.store(index, 0);
                self.slots
                    .give_back(before.reference, usize::from(before.octets));
            }
        }
    }

    fn place(reference: u64) -> usize {
        usize::try_from(reference).unwrap_or(usize::MAX / WORDS_PER_SLOT) * WORDS_PER_SLOT
    }

    /// Whether the blob under `hash` is that of `owner`.
    fn is_of(&self, published: Published, owner: &[u8]) -> bool {
        let at = Self::place(published.reference);
        let octets = self.blobs.load(at).to_ne_bytes();
        octets
            .first()
            .is_some_and(|&octets| usize::from(octets) == owner.len())
            && self.blobs.holds(at + 1, owner)
    }

    fn write(&mut self, node: &Node) -> io::Result<()> {
        let owner = node.owner().wire();
        let hash = owner_hash(self.seed, owner);
        let before = self.published.get(&hash).copied();
        if let Some(before) = before
            && !self.is_of(before, owner)
        {
            self.missing.insert(owner.into(), Missing::Collision);
            return Ok(());
        }
        let Some(octets) = node.blob() else {
            self.withdraw_denials();
            self.remove(owner)?;
            self.missing.insert(owner.into(), Missing::Unfinished);
            return Ok(());
        };
        if before.is_none() && self.published.len() >= self.capacity {
            self.missing.insert(owner.into(), Missing::Full);
            return Ok(());
        }
        let Some(fresh) = self.store(octets) else {
            // An old answer must not stay in the place of one that does not fit.
            self.withdraw_denials();
            self.remove(owner)?;
            self.missing.insert(owner.into(), Missing::Full);
            return Ok(());
        };
        if let Err(error) = self.index.insert(hash, fresh.reference, 0) {
            self.slots
                .give_back(fresh.reference, usize::from(fresh.octets));
            self.withdraw_denials();
            self.remove(owner)?;
            self.missing.insert(owner.into(), Missing::Full);
            return if before.is_none() {
                Ok(())
            } else {
                Err(map_error(error))
            };
        }
        self.occupancy.updates += 1;
        self.published.insert(hash, fresh);
        if let Some(before) = before {
            self.slots
                .give_back(before.reference, usize::from(before.octets));
        }
        self.missing.remove(owner);
        Ok(())
    }

    /// Writes a blob where no reader looks yet.
    fn store(&mut self, octets: &[u8]) -> Option<Published> {
        let reference = self.slots.take(octets.len())?;
        self.blobs.fill(Self::place(reference), octets);
        // The reference follows by a system call or a releasing store: after these stores.
        std::sync::atomic::fence(std::sync::atomic::Ordering::Release);
        Some(Published {
            reference,
            octets: u16::try_from(octets.len()).ok()?,
        })
    }

    fn remove(&mut self, owner: &[u8]) -> io::Result<()> {
        self.missing.remove(owner);
        let hash = owner_hash(self.seed, owner);
        let Some(before) = self.published.get(&hash).copied() else {
            return Ok(());
        };
        if !self.is_of(before, owner) {
            return Ok(());
        }
        self.index.remove(&hash).map_err(map_error)?;
        self.occupancy.updates += 1;
        self.published.remove(&hash);
        self.slots
            .give_back(before.reference, usize::from(before.octets));
        Ok(())
    }

    /// Publishes the SOA of each zone that may deny.
    fn write_denials(&mut self, snapshot: &Snapshot) {
        for index in 0..blob::MAX_ZONES as usize {
            let wanted = u8::try_from(index).ok().and_then(|index| {
                let mut octets = snapshot.denial(crate::zones::ZoneIndex(index))?.to_vec();
                if !self.missing.is_empty()
                    && let Some(flags) = octets.get_mut(FLAGS_AT)
                {
                    // A name that is missing in the index must not be denied.
                    *flags &= !blob::flags::DENIES_NAMES;
                }
                Some(octets)
            });
            let wanted = wanted.as_deref();
            let before = self.denials.get(index).copied().flatten();
            if let (Some(before), Some(octets)) = (before, wanted)
                && usize::from(before.octets) == octets.len()
                && self.blobs.holds(Self::place(before.reference), octets)
            {
                continue;
            }
            let fresh = wanted.and_then(|octets| self.store(octets));
            if before.is_none() && fresh.is_none() {
                continue;
            }
            self.zones
                .store(index, fresh.map_or(0, |fresh| fresh.reference));
            self.occupancy.updates += 1;
            if let Some(before) = before {
                self.slots
                    .give_back(before.reference, usize::from(before.octets));
            }
            if self.denials.len() <= index {
                self.denials.resize(index + 1, None);
            }
            if let Some(slot) = self.denials.get_mut(index) {
                *slot = fresh;
            }
        }
    }
}

fn map_error(error: aya::maps::MapError) -> io::Error {
    io::Error::other(format!("updating the BPF map INDEX: {error}"))
}
