//! Packets by verdict, and responses by the type that was asked for: one counter for each packet, so
//! that one increment counts both.

use crate::verdict::Verdict;

/// Types that are told apart: the lower ones. All others are counted as type 0.
pub const TYPES: u32 = 64;
/// Counters: one for each type of each response, then one for each other verdict, and some that are
/// never used, so that a mask bounds their numbers.
pub const COUNTERS: usize = USED.next_power_of_two();

const USED: usize = FIRST_OTHER as usize + Verdict::COUNT - Verdict::RESPONSES;

const FIRST_OTHER: u32 = Verdict::RESPONSES as u32 * TYPES;

/// A response, and what it responds to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// A verdict of a response.
    pub verdict: Verdict,
    /// The type that was asked for.
    pub rtype: u16,
}

impl Response {
    /// The number of its counter.
    #[inline(always)]
    #[must_use]
    pub const fn counter(self) -> u32 {
        let rtype = self.rtype as u32;
        let rtype = if rtype < TYPES { rtype } else { 0 };
        (self.verdict as u32).wrapping_mul(TYPES) | rtype
    }
}

impl Verdict {
    /// The number of the counter of a verdict that is no response.
    #[inline(always)]
    #[must_use]
    pub const fn counter(self) -> u32 {
        (self as u32)
            .wrapping_sub(Self::RESPONSES as u32)
            .wrapping_add(FIRST_OTHER)
    }

    /// The counters of a verdict, with the type of each where there are several.
    pub fn counters(self) -> impl Iterator<Item = (u16, u32)> {
        let (first, count) = match self.is_response() {
            true => ((self as u32).wrapping_mul(TYPES), TYPES),
            false => (self.counter(), 1),
        };
        (0..count).map(move |one| (one as u16, first.wrapping_add(one)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_counts_one_thing() {
        let mut numbers = [0u32; USED];
        for verdict in Verdict::ALL {
            for (rtype, number) in verdict.counters() {
                numbers[number as usize] += 1;
                let expected = match verdict.is_response() {
                    true => Response {
                        verdict: *verdict,
                        rtype,
                    }
                    .counter(),
                    false => verdict.counter(),
                };
                assert_eq!(number, expected);
            }
        }
        assert_eq!(numbers, [1; USED]);
        let rare = Response {
            verdict: Verdict::NoData,
            rtype: 65,
        };
        assert_eq!(rare.counter(), TYPES);
    }
}
