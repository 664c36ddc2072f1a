//! Homes: slots of the map that blobs live in, where a hash alone says which is a name's.
//!
//! A small blob may live in the home of its name's hash. The reader then finds it without the index
//! or a shortcut, and the tag, the name and an address are in one cache line. Whatever has not found
//! room at home is found by the index, so a tag that is missing costs time and no answer.
//!
//! A home begins with its tag, one word: the hash of the name that the blob behind it answers for, or 0
//! while it answers for none.

use crate::blob::{MAX_OCTETS, SLOT_OCTETS};

/// Octets of a tag.
pub const TAG_OCTETS: u32 = 8;
/// The most octets of a blob at home.
pub const ROOM_OCTETS: u32 = SLOT_OCTETS - TAG_OCTETS;
/// The page of the first homes. Those of the page before have the reference that no blob has.
pub const FIRST_PAGE: u32 = 1;
/// Homes in a page.
pub const PER_PAGE: u32 = MAX_OCTETS / SLOT_OCTETS;

/// The number of the home for a hash, where `mask` is one less than there are homes.
#[inline(always)]
#[must_use]
pub const fn number(hash: u64, mask: u64) -> u64 {
    hash & mask
}

/// The [reference](crate::blob::reference) of the blob in a home.
#[inline(always)]
#[must_use]
pub const fn reference(number: u64) -> u64 {
    const FIRST: u64 = (FIRST_PAGE * MAX_OCTETS + TAG_OCTETS) as u64 / 8;
    FIRST.wrapping_add(number.wrapping_mul(SLOT_OCTETS as u64 / 8))
}

/// The number of the home with this reference.
#[must_use]
pub const fn number_at(reference: u64) -> u64 {
    const WORDS_PER_HOME: u64 = SLOT_OCTETS as u64 / 8;
    reference.wrapping_sub(self::reference(0)) / WORDS_PER_HOME
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::reference;

    #[test]
    fn a_blob_at_home_ends_with_its_slot() {
        for number in [0, 1, 63, 64, 1 << 20] {
            let (page, octets) = reference::parts(super::reference(number));
            assert_eq!(page, 1 + number / 64);
            assert_eq!(u64::from(octets), number % 64 * 64 + 8);
            assert_eq!((octets + ROOM_OCTETS) % SLOT_OCTETS, 0);
            assert_eq!(number_at(super::reference(number)), number);
        }
    }
}
