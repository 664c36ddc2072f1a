//! Where blobs live: pages of one BPF array, each cut into slots of one size.

use std::collections::BTreeMap;

use dns_common::blob;

/// Slot sizes in units of [`blob::SLOT_OCTETS`]: half the waste of powers of two.
const CLASSES: [u32; 13] = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 21, 32, 64];
const UNITS_PER_PAGE: u32 = blob::MAX_OCTETS / blob::SLOT_OCTETS;

/// Hands out slots and takes them back. A slot given back is not handed out again before
/// [`Self::free`]: a reader may still hold it.
#[derive(Debug)]
pub(super) struct Slots {
    pages: u32,
    /// Pages in use; those behind have never been cut.
    cut: u32,
    free: [Vec<u32>; CLASSES.len()],
    /// Pages before `cut` that nobody has cut: between those that were in use when the slots were
    /// taken over.
    spare: Vec<u32>,
    /// Given back since the last grace period.
    waiting: Waiting,
}

impl Slots {
    /// Slots of `pages` empty pages. The first unit is never handed out: 0 means no blob.
    pub(super) fn new(pages: u32) -> Self {
        Self {
            pages,
            cut: 1,
            free: Default::default(),
            spare: Vec::new(),
            waiting: Waiting::default(),
        }
    }

    fn class(octets: usize) -> Option<usize> {
        let units = u32::try_from(octets.div_ceil(blob::SLOT_OCTETS as usize)).ok()?;
        CLASSES.iter().position(|&size| size >= units)
    }

    /// A slot of at least `octets` octets; `None` if there is none left.
    pub(super) fn take(&mut self, octets: usize) -> Option<u32> {
        let class = Self::class(octets)?;
        if self.free.get(class)?.is_empty() {
            self.cut_page(class)?;
        }
        self.free.get_mut(class)?.pop()
    }

    fn cut_page(&mut self, class: usize) -> Option<()> {
        let page = match self.spare.pop() {
            Some(page) => page,
            None if self.cut < self.pages => {
                self.cut += 1;
                self.cut - 1
            }
            None => return None,
        };
        let first = page * UNITS_PER_PAGE;
        let size = *CLASSES.get(class)?;
        let free = self.free.get_mut(class)?;
        for slot in (0..UNITS_PER_PAGE / size).rev() {
            free.push(first + slot * size);
        }
        Some(())
    }

    /// Marks slots as in use, of which an earlier process has taken each for so many octets: all
    /// there are, before any other is taken. `None` if these are no slots.
    pub(super) fn occupy(&mut self, used: impl Iterator<Item = (u32, usize)>) -> Option<()> {
        // By page: the class of its slots, and a bit for each unit at which one in use starts.
        let mut pages: BTreeMap<u32, (usize, u64)> = BTreeMap::new();
        for (place, octets) in used {
            let class = Self::class(octets)?;
            let size = *CLASSES.get(class)?;
            let (page, unit) = (place / UNITS_PER_PAGE, place % UNITS_PER_PAGE);
            let (of_page, taken) = pages.entry(page).or_insert((class, 0));
            let is_slot = unit % size == 0 && unit + size <= UNITS_PER_PAGE;
            let bit = 1 << unit;
            if page == 0 || page >= self.pages || *of_page != class || !is_slot || *taken & bit != 0
            {
                return None;
            }
            *taken |= bit;
        }
        for (page, (class, taken)) in pages {
            self.spare.extend(self.cut..page);
            self.cut = page + 1;
            let size = *CLASSES.get(class)?;
            let units = (0..UNITS_PER_PAGE / size).map(|slot| slot * size);
            let free = units.filter(|unit| taken & 1 << unit == 0);
            let first = page * UNITS_PER_PAGE;
            let slots = self.free.get_mut(class)?;
            slots.extend(free.map(|unit| first + unit));
        }
        Some(())
    }

    /// Gives a slot of `octets` octets back.
    pub(super) fn give_back(&mut self, reference: u32, octets: usize) {
        if let Some(class) = Self::class(octets).and_then(|class| u8::try_from(class).ok()) {
            self.waiting.0.push((class, reference));
        }
    }

    /// How many slots wait for the readers to be gone.
    pub(super) const fn waiting(&self) -> usize {
        self.waiting.0.len()
    }

    /// The slots given back so far, to be freed after a grace period.
    pub(super) fn take_waiting(&mut self) -> Waiting {
        std::mem::take(&mut self.waiting)
    }

    /// Makes slots free. No reader may hold one any more.
    pub(super) fn free(&mut self, waiting: Waiting) {
        for (class, reference) in waiting.0 {
            if let Some(free) = self.free.get_mut(usize::from(class)) {
                free.push(reference);
            }
        }
    }

    /// Takes slots back that are not free after all.
    pub(super) fn wait_again(&mut self, waiting: Waiting) {
        self.waiting.0.extend(waiting.0);
    }
}

/// Slots given back that a reader may still hold, each with its class.
#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<(u8, u32)>);

impl Waiting {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn slots_never_overlap_nor_cross_a_page() {
        let mut slots = Slots::new(400);
        let mut owner: HashMap<u32, u32> = HashMap::new();
        let mut taken = 0;
        for octets in (1..=4096).step_by(61).cycle() {
            let Some(reference) = slots.take(octets) else {
                break;
            };
            taken += 1;
            let units = octets.div_ceil(64) as u32;
            assert_ne!(reference, 0);
            assert_eq!(
                reference / 64,
                (reference + units - 1) / 64,
                "{octets} at {reference}"
            );
            for unit in reference..reference + units {
                assert_eq!(owner.insert(unit, reference), None);
            }
        }
        assert!(taken > 500, "{taken}");
    }

    #[test]
    fn slots_that_were_in_use_are_not_handed_out() {
        let mut before = Slots::new(200);
        let mut kept = Vec::new();
        for (number, octets) in (1..=4096).step_by(97).cycle().take(300).enumerate() {
            let Some(reference) = before.take(octets) else {
                continue;
            };
            // Most are given back, so that whole pages are free again.
            if number % 5 == 0 && octets < 2048 {
                kept.push((reference, octets));
            }
        }
        assert!(kept.len() > 20);
        let mut after = Slots::new(200);
        after.occupy(kept.iter().copied()).unwrap();
        let mut used = HashMap::new();
        for (reference, octets) in kept {
            for unit in reference..reference + octets.div_ceil(64) as u32 {
                assert_eq!(used.insert(unit, reference), None);
            }
        }
        let mut taken = 0;
        for octets in [4096, 2048, 640, 64] {
            while let Some(reference) = after.take(octets) {
                taken += 1;
                assert!(reference >= 64);
                for unit in reference..reference + octets.div_ceil(64) as u32 {
                    assert_eq!(used.insert(unit, reference), None, "{octets}");
                }
            }
        }
        assert!(taken > 10, "{taken}");
    }

    #[test]
    fn what_is_no_slot_is_refused() {
        for used in [
            vec![(0, 64)],
            vec![(64 * 40, 64)],
            vec![(64, 64), (64, 64)],
            vec![(64, 64), (66, 128)],
            vec![(65, 128)],
            vec![(64 + 63, 128)],
        ] {
            let mut slots = Slots::new(40);
            assert_eq!(slots.occupy(used.iter().copied()), None, "{used:?}");
        }
    }

    #[test]
    fn a_slot_waits_for_its_readers() {
        let mut slots = Slots::new(2);
        let first = slots.take(4096).unwrap();
        assert_eq!(slots.take(4096), None);
        slots.give_back(first, 4096);
        assert_eq!(slots.take(4096), None);
        let waiting = slots.take_waiting();
        assert_eq!(slots.take(4096), None);
        slots.free(waiting);
        assert_eq!(slots.take(4096), Some(first));
    }
}
