//! Where blobs live: pages of one BPF array, each cut into slots of one size. The first are [homes].
//!
//! Places are [references](blob::reference).
//!
//! [homes]: dns_common::home

use std::collections::BTreeMap;

use dns_common::{blob, home};

/// Slot sizes in units of [`blob::SLOT_OCTETS`]: half the waste of powers of two.
const CLASSES: [u32; 13] = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 21, 32, 64];
const UNITS_PER_PAGE: u32 = blob::MAX_OCTETS / blob::SLOT_OCTETS;
const WORDS_PER_UNIT: u32 = blob::SLOT_OCTETS / 8;
const WORDS_PER_PAGE: u32 = blob::MAX_OCTETS / 8;

/// Hands out slots and takes them back. A slot given back is not handed out again before
/// [`Self::free`]: a reader may still hold it.
#[derive(Debug)]
pub(super) struct Slots {
    pages: u32,
    /// Pages in use; those behind have never been cut.
    cut: u32,
    free: [Vec<u32>; CLASSES.len()],
    /// The pages of homes: a bit for each that is free.
    homes: Vec<u64>,
    /// Pages before `cut` that nobody has cut: between those that were in use when the slots were
    /// taken over.
    spare: Vec<u32>,
    /// Given back since the last grace period.
    waiting: Waiting,
}

impl Slots {
    /// Slots of `pages` empty pages, half of them at most homes. The first unit is never handed out: 0
    /// means no blob.
    pub(super) fn new(pages: u32) -> Self {
        let homes = most_home_pages(pages);
        Self {
            pages,
            cut: home::FIRST_PAGE + homes,
            free: Default::default(),
            homes: vec![u64::MAX; homes as usize],
            spare: Vec::new(),
            waiting: Waiting::default(),
        }
    }

    fn class(octets: usize) -> Option<usize> {
        let units = u32::try_from(octets.div_ceil(blob::SLOT_OCTETS as usize)).ok()?;
        CLASSES.iter().position(|&size| size >= units)
    }

    /// The home of this number, if it is free and there is room for so many octets.
    pub(super) fn take_home(&mut self, number: u64, octets: usize) -> Option<u32> {
        if octets > home::ROOM_OCTETS as usize {
            return None;
        }
        let place = u32::try_from(home::reference(number)).ok()?;
        let (page, bit) = home_bit(place)?;
        let free = self.homes.get_mut(page)?;
        if *free & bit == 0 {
            return None;
        }
        *free &= !bit;
        Some(place)
    }

    /// How many homes there are, free or not.
    pub(super) const fn homes(&self) -> usize {
        self.homes.len() * home::PER_PAGE as usize
    }

    /// Whether this place is a home, and not one that was made something else.
    pub(super) fn is_home(&self, place: u32) -> bool {
        home_bit(place).is_some_and(|(page, _)| page < self.homes.len())
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
            // Homes that nobody lives in are the last reserve.
            None => {
                self.homes.pop_if(|free| *free == u64::MAX)?;
                home::FIRST_PAGE + u32::try_from(self.homes.len()).ok()?
            }
        };
        let size = *CLASSES.get(class)?;
        let free = self.free.get_mut(class)?;
        for slot in (0..UNITS_PER_PAGE / size).rev() {
            free.push(page * WORDS_PER_PAGE + slot * size * WORDS_PER_UNIT);
        }
        Some(())
    }

    /// Marks slots as in use, of which an earlier process has taken each for so many octets: all
    /// there are, before any other is taken. `None` if these are no slots.
    pub(super) fn occupy(&mut self, used: impl Iterator<Item = (u32, usize)>) -> Option<()> {
        // By page: the class of its slots, and a bit for each unit at which one in use starts.
        let mut pages: BTreeMap<u32, (usize, u64)> = BTreeMap::new();
        let mut at_home = Vec::new();
        for (place, octets) in used {
            if home_bit(place).is_some() {
                at_home.push((place, octets));
                continue;
            }
            let class = Self::class(octets)?;
            let size = *CLASSES.get(class)?;
            let (page, unit) = (
                place / WORDS_PER_PAGE,
                place % WORDS_PER_PAGE / WORDS_PER_UNIT,
            );
            let (of_page, taken) = pages.entry(page).or_insert((class, 0));
            let is_slot =
                place % WORDS_PER_UNIT == 0 && unit % size == 0 && unit + size <= UNITS_PER_PAGE;
            let bit = 1 << unit;
            if page == 0 || page >= self.pages || *of_page != class || !is_slot || *taken & bit != 0
            {
                return None;
            }
            *taken |= bit;
        }
        if let Some((&first, _)) = pages.first_key_value() {
            // From there on they are homes no more.
            self.homes.truncate((first - home::FIRST_PAGE) as usize);
        }
        for (place, octets) in at_home {
            self.take_home(home::number_at(place.into()), octets)?;
        }
        self.cut = home::FIRST_PAGE + u32::try_from(self.homes.len()).ok()?;
        for (page, (class, taken)) in pages {
            self.spare.extend(self.cut..page);
            self.cut = page + 1;
            let size = *CLASSES.get(class)?;
            let units = (0..UNITS_PER_PAGE / size).map(|slot| slot * size);
            let free = units.filter(|unit| taken & 1 << unit == 0);
            let slots = self.free.get_mut(class)?;
            slots.extend(free.map(|unit| page * WORDS_PER_PAGE + unit * WORDS_PER_UNIT));
        }
        Some(())
    }

    /// Gives a slot of `octets` octets back.
    pub(super) fn give_back(&mut self, place: u32, octets: usize) {
        if let Some(class) = Self::class(octets).and_then(|class| u8::try_from(class).ok()) {
            self.waiting.0.push((class, place));
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
        for (class, place) in waiting.0 {
            if let Some((page, bit)) = home_bit(place) {
                if let Some(free) = self.homes.get_mut(page) {
                    *free |= bit;
                }
            } else if let Some(free) = self.free.get_mut(usize::from(class)) {
                free.push(place);
            }
        }
    }

    /// Takes slots back that are not free after all.
    pub(super) fn wait_again(&mut self, waiting: Waiting) {
        self.waiting.0.extend(waiting.0);
    }
}

/// The most pages of homes among so many pages: a power of two, or none.
fn most_home_pages(pages: u32) -> u32 {
    match pages / 2 {
        0 => 0,
        half => 1 << half.ilog2(),
    }
}

/// The page among those of homes, and the bit in it, if a place is in a home.
fn home_bit(place: u32) -> Option<(usize, u64)> {
    if place % WORDS_PER_UNIT != home::TAG_OCTETS / 8 {
        return None;
    }
    let page = (place / WORDS_PER_PAGE).checked_sub(home::FIRST_PAGE)?;
    Some((
        page as usize,
        1 << (place % WORDS_PER_PAGE / WORDS_PER_UNIT),
    ))
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

    /// Units from a place on.
    fn units(place: u32, octets: usize) -> std::ops::Range<u32> {
        let first = place / WORDS_PER_UNIT;
        first..first + octets.div_ceil(64) as u32
    }

    #[test]
    fn slots_never_overlap_nor_cross_a_page() {
        let mut slots = Slots::new(400);
        let mut owner: HashMap<u32, u32> = HashMap::new();
        let mut taken = 0;
        let mut own = |place, octets| {
            let units = units(place, octets);
            assert!(units.start >= 64);
            assert_eq!(
                units.start / 64,
                (units.end - 1) / 64,
                "{octets} at {place}"
            );
            assert!(units.end <= 400 * 64);
            for unit in units {
                assert_eq!(owner.insert(unit, place), None);
            }
        };
        for number in (0..8192).step_by(3) {
            own(slots.take_home(number, 56).unwrap(), 56);
        }
        for octets in (1..=4096).step_by(61).cycle() {
            let Some(place) = slots.take(octets) else {
                break;
            };
            taken += 1;
            own(place, octets);
        }
        assert!(taken > 300, "{taken}");
        for number in 0..8192 {
            if let Some(place) = slots.take_home(number, 1) {
                own(place, 1);
            }
        }
        assert_eq!(slots.take_home(8192, 1), None);
    }

    #[test]
    fn homes_that_nobody_lives_in_are_the_last_reserve() {
        let mut slots = Slots::new(64);
        // A page nobody uses, 32 pages of homes, and 31 for all else.
        assert_eq!(slots.homes(), 32 * 64);
        let last = slots.take_home(30 * 64, 56).unwrap();
        assert_eq!(slots.take_home(5, 57), None);
        let taken = std::iter::from_fn(|| slots.take(4096)).count();
        assert_eq!(taken, 31 + 1);
        assert_eq!(slots.homes(), 31 * 64);
        assert!(slots.is_home(last));
        assert_eq!(slots.take_home(31 * 64, 56), None);
        slots.give_back(last, 56);
        let waiting = slots.take_waiting();
        assert_eq!(slots.take_home(30 * 64, 56), None);
        slots.free(waiting);
        assert_eq!(slots.take_home(30 * 64, 56), Some(last));
    }

    #[test]
    fn slots_that_were_in_use_are_not_handed_out() {
        let mut before = Slots::new(200);
        let mut kept = Vec::new();
        for (number, octets) in (1..=4096).step_by(97).cycle().take(400).enumerate() {
            let home = before.take_home(number as u64 * 7, octets);
            let Some(place) = home.or_else(|| before.take(octets)) else {
                continue;
            };
            // Most are given back, so that whole pages are free again.
            if number % 5 == 0 && octets < 2048 {
                kept.push((place, octets));
            }
        }
        assert!(kept.len() > 20);
        let mut after = Slots::new(200);
        after.occupy(kept.iter().copied()).unwrap();
        let mut used = HashMap::new();
        for &(place, octets) in &kept {
            for unit in units(place, octets) {
                assert_eq!(used.insert(unit, place), None);
            }
        }
        let mut taken = 0;
        for octets in [4096, 2048, 640, 64] {
            while let Some(place) = after.take(octets) {
                taken += 1;
                assert!(place >= WORDS_PER_PAGE);
                for unit in units(place, octets) {
                    assert_eq!(used.insert(unit, place), None, "{octets}");
                }
            }
        }
        assert!(taken > 10, "{taken}");
        for place in (0..8192).filter_map(|number| after.take_home(number, 56)) {
            for unit in units(place, 56) {
                assert_eq!(used.insert(unit, place), None);
            }
        }
    }

    #[test]
    fn what_is_no_slot_is_refused() {
        let unit = |number: u32| number * WORDS_PER_UNIT;
        for used in [
            vec![(unit(0), 64)],
            vec![(unit(64 * 40), 64)],
            vec![(unit(64), 64), (unit(64), 64)],
            vec![(unit(64), 64), (unit(66), 128)],
            vec![(unit(65), 128)],
            vec![(unit(64 + 63), 128)],
            vec![(unit(64) + 1, 64)],
            vec![(unit(64) + 2, 56)],
            vec![(unit(65) + 1, 56), (unit(65) + 1, 56)],
            vec![(unit(64 * 17) + 1, 56)],
            // A home behind what is none.
            vec![(unit(64 * 3), 64), (unit(64 * 4) + 1, 56)],
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
