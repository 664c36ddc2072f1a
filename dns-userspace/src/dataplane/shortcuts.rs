//! The BPF array SHORTCUTS: where answers are, without the look-up in a hash map.
//!
//! A word leads nowhere but to where the index leads for the same hash, or led before the change
//! under way; so it may be missing, and whoever finds it may follow it. The pairs in use grow with the
//! names, as few of them stay in the caches and many do not.

use std::sync::Arc;

use dns_common::policy::SHORTCUTS_WORD;
use dns_common::shortcut::{self, WORDS};

use super::mapping::Mapping;

/// The fewest pairs in use.
const FEWEST: usize = 512;

/// The shortcuts.
pub(super) struct Shortcuts {
    words: Mapping,
    /// Where the program reads how many pairs are in use.
    policy: Arc<Mapping>,
    /// Pairs in use, a power of two.
    pairs: usize,
    /// Pairs that there are, a power of two.
    room: usize,
}

impl Shortcuts {
    /// Pairs for as many names.
    pub(super) fn room_for(names: u32) -> u32 {
        names.checked_next_power_of_two().unwrap_or(1 << 31)
    }

    /// None, in an array of `room` pairs.
    pub(super) fn new(words: Mapping, policy: Arc<Mapping>, room: u32) -> Self {
        let room = room as usize;
        let mut shortcuts = Self {
            words,
            policy,
            pairs: room,
            room,
        };
        // An earlier daemon may have left some, which lead to what is not in the index yet.
        shortcuts.clear();
        shortcuts.use_pairs(0);
        shortcuts
    }

    /// Whether there should be more pairs for as many names.
    pub(super) fn is_narrow(&self, names: usize) -> bool {
        names > self.pairs && self.pairs < self.room
    }

    /// Takes all away, and has pairs for as many names.
    pub(super) fn widen(&mut self, names: usize) {
        self.clear();
        self.use_pairs(names);
    }

    fn clear(&self) {
        for at in (0..self.pairs * WORDS).filter(|&at| self.words.load(at) != 0) {
            self.words.store(at, 0);
        }
    }

    fn use_pairs(&mut self, names: usize) {
        self.pairs = names.max(FEWEST).next_power_of_two().min(self.room);
        self.policy.store(SHORTCUTS_WORD, self.mask());
    }

    const fn mask(&self) -> u64 {
        self.pairs as u64 - 1
    }

    /// The places of the words for a hash.
    fn places(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let first = shortcut::pair(hash, self.mask()) as usize * WORDS;
        first..first + WORDS
    }

    /// Has a hash lead to a place, if there is room for it.
    pub(super) fn insert(&self, hash: u64, place: u32) {
        let mut free = None;
        for at in self.places(hash) {
            let word = self.words.load(at);
            if word == 0 {
                free = free.or(Some(at));
            } else if shortcut::place(word, hash).is_some() {
                free = Some(at);
                break;
            }
        }
        if let Some(at) = free {
            self.words.store(at, shortcut::word(hash, place));
        }
    }

    /// Has a hash lead nowhere.
    pub(super) fn remove(&self, hash: u64) {
        for at in self.places(hash) {
            if shortcut::place(self.words.load(at), hash).is_some() {
                self.words.store(at, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs::File;
    use std::os::fd::{AsFd, FromRawFd};

    use super::*;

    fn memory(words: usize) -> Mapping {
        // SAFETY: a new file in memory, and nobody else has its descriptor.
        let file = unsafe { File::from_raw_fd(libc::memfd_create(c"words".as_ptr(), 0)) };
        file.set_len(words as u64 * 8).unwrap();
        Mapping::new(file.as_fd(), words).unwrap()
    }

    fn shortcuts(room: u32) -> Shortcuts {
        let policy = Arc::new(memory(SHORTCUTS_WORD + 1));
        Shortcuts::new(memory(room as usize * WORDS), policy, room)
    }

    fn found(shortcuts: &Shortcuts, hash: u64) -> Option<u64> {
        let mut words = shortcuts.places(hash).map(|at| shortcuts.words.load(at));
        words.find_map(|word| shortcut::place(word, hash))
    }

    #[test]
    fn none_leads_elsewhere_than_the_index() {
        let mut shortcuts = shortcuts(1024);
        let mut index: HashMap<u64, u32> = HashMap::new();
        let hashes: Vec<u64> = (0..2000)
            .map(|n: u64| crate::zones::hash::owner_hash(0x9e37_79b9_7f4a_7c15, &n.to_le_bytes()))
            .collect();
        let mut state = 1u64;
        for step in 1..100_000u32 {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let hash = hashes[(state >> 33) as usize % hashes.len()];
            if state >> 63 == 0 {
                shortcuts.insert(hash, step);
                index.insert(hash, step);
            } else {
                shortcuts.remove(hash);
                index.remove(&hash);
            }
            if shortcuts.is_narrow(index.len()) {
                shortcuts.widen(index.len());
                index
                    .iter()
                    .for_each(|(hash, place)| shortcuts.insert(*hash, *place));
                assert_eq!(shortcuts.policy.load(SHORTCUTS_WORD), shortcuts.mask());
            }
        }
        let mut with = 0;
        for hash in hashes {
            let there = index.get(&hash).map(|place| u64::from(*place));
            if let Some(place) = found(&shortcuts, hash) {
                assert_eq!(Some(place), there);
                with += 1;
            }
        }
        assert_eq!(shortcuts.pairs, 1024);
        assert!(with > index.len() * 8 / 10, "{with} of {}", index.len());
    }

    #[test]
    fn what_was_there_before_is_gone() {
        let words = memory(1024);
        words.store(77, shortcut::word(1 << 40, 5));
        let policy = Arc::new(memory(SHORTCUTS_WORD + 1));
        let shortcuts = Shortcuts::new(words, policy, 512);
        assert_eq!(shortcuts.words.load(77), 0);
    }

    #[test]
    fn rooms_are_powers_of_two() {
        for (names, room) in [(1, 1), (4096, 4096), (4097, 8192), (u32::MAX, 1 << 31)] {
            assert_eq!(Shortcuts::room_for(names), room);
        }
    }
}
