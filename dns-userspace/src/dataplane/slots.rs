//! Where blobs live: pages of one BPF array, each cut into slots of one size.

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
        if self.cut >= self.pages {
            return None;
        }
        let first = self.cut * UNITS_PER_PAGE;
        self.cut += 1;
        let size = *CLASSES.get(class)?;
        let free = self.free.get_mut(class)?;
        for slot in (0..UNITS_PER_PAGE / size).rev() {
            free.push(first + slot * size);
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
