//! The memory of the finished answers: one BPF array, mapped, of which nodes lease places.
//!
//! User space answers from the same octets as the kernel, and no name has its answers twice.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, io};

use dns_common::blob;

use super::mapping::{Mapping, wait_for_readers};
use super::slots::Slots;
use crate::answers::encode::BlobEncoder;
use crate::zones::blob::{Blob, Room};
use crate::zones::{Encoder, Node, Snapshot, Zone};

const WORDS_PER_SLOT: usize = blob::SLOT_OCTETS as usize / 8;
/// Places given back before a grace period is waited for: it takes milliseconds, and so costs
/// ten thousand changes a second next to nothing.
const MANY: usize = 8192;

/// Hands out places. One that was given back is handed out again after a grace period, when no
/// program run that was under way can still look at it.
pub(super) struct Arena {
    mapping: Mapping,
    slots: Mutex<Slots>,
}

impl Arena {
    /// An arena in the array behind `blobs`, which has `pages` values of a page each.
    pub(super) fn new(blobs: BorrowedFd<'_>, pages: u32) -> io::Result<Self> {
        let words = pages as usize * blob::MAX_OCTETS as usize / 8;
        Ok(Self {
            mapping: Mapping::new(blobs, words)?,
            slots: Mutex::new(Slots::new(pages)),
        })
    }

    /// Writes `octets` where no reader looks yet; `None` if there is no room.
    pub(super) fn lease(self: &Arc<Self>, octets: &[u8]) -> Option<Blob> {
        let len = u16::try_from(octets.len()).ok()?;
        let taken = self.slots().take(octets.len());
        let place = match taken {
            Some(place) => place,
            None => {
                self.recycle().ok()?;
                self.slots().take(octets.len())?
            }
        };
        self.mapping.fill(at(place), octets);
        let room: Arc<dyn Room> = Arc::<Self>::clone(self);
        Some(Blob::leased(room, place, len))
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

/// The word at which a place starts.
const fn at(place: u32) -> usize {
    place as usize * WORDS_PER_SLOT
}

impl Room for Arena {
    fn octets(&self, place: u32, octets: u16) -> &[u8] {
        // SAFETY: a leased place is written before its blob is made and not again before the blob
        // is dropped; the program only reads.
        unsafe { self.mapping.octets(at(place), usize::from(octets)) }
    }

    fn give_back(&self, place: u32, octets: u16) {
        self.slots().give_back(place, usize::from(octets));
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
    fn encode(&self, snapshot: &Snapshot, node: &Node) -> Option<Blob> {
        let own = BlobEncoder.encode(snapshot, node)?;
        Some(self.0.lease(&own).unwrap_or(own))
    }

    fn encode_denial(&self, zone: &Zone) -> Option<Box<[u8]>> {
        BlobEncoder.encode_denial(zone)
    }
}
