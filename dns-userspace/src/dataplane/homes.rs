//! The tags of the [homes]: which of them the kernel finds answers in, without index or shortcut.
//!
//! A tag says no more than the index: it is there while the index leads to the blob behind it, or led
//! there before the change under way. It may be missing.
//!
//! [homes]: dns_common::home

use std::sync::Arc;

use dns_common::home;
use dns_common::policy::HOMES_WORD;

use super::arena::Arena;
use super::mapping::Mapping;

/// The homes as the program sees them.
pub(super) struct Homes {
    arena: Arc<Arena>,
    /// Where the program reads how many homes are in use.
    policy: Arc<Mapping>,
    /// One less than it reads there.
    mask: u64,
}

impl Homes {
    /// As an earlier daemon has left them, if there was one.
    pub(super) fn new(arena: Arc<Arena>, policy: Arc<Mapping>) -> Self {
        let mask = policy.load(HOMES_WORD);
        Self {
            arena,
            policy,
            mask,
        }
    }

    /// Whether blobs move into more homes than the program knows of.
    pub(super) fn are_few(&self) -> bool {
        self.mask != self.arena.home_mask()
    }

    /// Takes all tags away, and has the program know as many homes as blobs move into.
    pub(super) fn renew(&mut self) {
        self.arena.clear_tags();
        self.mask = self.arena.home_mask();
        self.policy.store(HOMES_WORD, self.mask);
    }

    /// The home for a hash, as a place.
    fn home(&self, hash: u64) -> Option<u32> {
        u32::try_from(home::reference(home::number(hash, self.mask))).ok()
    }

    /// Tags the home for a hash, if that is the place, or takes its tag away.
    pub(super) fn insert(&self, hash: u64, place: u32) {
        match self.home(hash) {
            Some(home) if home == place => self.arena.change_tag(home, |_| Some(hash)),
            _ => self.remove(hash),
        }
    }

    /// Takes the tag for a hash away.
    pub(super) fn remove(&self, hash: u64) {
        if let Some(home) = self.home(hash) {
            self.arena
                .change_tag(home, |tag| (tag == hash).then_some(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs::File;
    use std::os::fd::{AsFd, FromRawFd};

    use dns_common::blob::{self, Head};

    use super::*;
    use crate::zones::blob::Blob;
    use crate::zones::hash::owner_hash;

    const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

    fn memory(octets: usize) -> File {
        // SAFETY: a new file in memory, and nobody else has its descriptor.
        let file = unsafe { File::from_raw_fd(libc::memfd_create(c"words".as_ptr(), 0)) };
        file.set_len(octets as u64).unwrap();
        file
    }

    /// Octets of a blob, with a name and something behind it.
    fn octets(name: u32, version: u32, length: usize) -> (u64, Vec<u8>) {
        let mut wire = vec![8];
        wire.extend_from_slice(format!("{name:08x}").as_bytes());
        wire.push(0);
        let mut octets = Head::new(wire.len() as u8, 0, 0, 0, 0)
            .get()
            .to_le_bytes()
            .to_vec();
        octets.extend_from_slice(&wire);
        octets.resize(length - 4, 0);
        octets.extend_from_slice(&version.to_le_bytes());
        (owner_hash(SEED, &wire), octets)
    }

    #[test]
    fn no_tag_says_else_than_the_index() {
        const PAGES: u32 = 130;
        let blobs = memory((PAGES * blob::PAGE_OCTETS) as usize);
        let policy = memory(8 * (HOMES_WORD + 1));
        let policy = Arc::new(Mapping::new(policy.as_fd(), HOMES_WORD + 1).unwrap());
        let arena = Arc::new(Arena::new(blobs.as_fd(), PAGES, SEED).unwrap());
        let mut homes = Homes::new(Arc::clone(&arena), Arc::clone(&policy));
        let mut index: HashMap<u64, Blob> = HashMap::new();
        let mut state = 1u64;
        let mut moved = 0;
        for step in 1..60_000u32 {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            // Names come one after the other, so that the homes grow.
            let name = (state >> 33) as u32 % (1 + step / 20);
            let length = 24 + (state >> 40) as usize % 48;
            let (hash, octets) = octets(name, step, length);
            if state >> 61 == 0 {
                homes.remove(hash);
                index.remove(&hash);
            } else {
                arena.expect(index.len());
                let blob = arena.lease(&octets).unwrap();
                if homes.are_few() {
                    homes.renew();
                    for (hash, blob) in &index {
                        homes.insert(*hash, blob.place_in(&arena).unwrap());
                    }
                    moved += 1;
                }
                homes.insert(hash, blob.place_in(&arena).unwrap());
                index.insert(hash, blob);
            }
            arena.tidy_up().unwrap();
            let home = homes.home(hash).unwrap();
            if arena.tag(home) == hash {
                assert_eq!(
                    index.get(&hash).and_then(|one| one.place_in(&arena)),
                    Some(home)
                );
            }
        }
        assert!(moved > 5, "{moved}");
        let mut at_home = 0;
        for (hash, blob) in &index {
            let place = blob.place_in(&arena).unwrap();
            let home = homes.home(*hash).unwrap();
            assert_eq!(arena.tag(home) == *hash, place == home);
            at_home += usize::from(place == home);
        }
        assert!(at_home > index.len() / 20, "{at_home} of {}", index.len());
    }
}
