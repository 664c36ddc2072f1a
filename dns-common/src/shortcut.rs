//! Shortcuts: words beside the index that lead from a hash to the place of a name's answers.
//!
//! Names whose hashes agree in their low bits share a pair of words. What has no room in its pair is
//! only in the index, so a word that is missing costs time and no answer.

/// Words that are looked at for a hash: a power of two, so that they lie in one cache line.
pub const WORDS: usize = 2;

const PLACE: u64 = u32::MAX as u64;

/// The number of the pair for a hash, where `mask` is one less than there are pairs.
#[inline(always)]
#[must_use]
pub const fn pair(hash: u64, mask: u64) -> u64 {
    hash & mask
}

/// The word that leads from a hash to a place. No place is 0, and neither is a word.
#[must_use]
pub const fn word(hash: u64, place: u32) -> u64 {
    hash & !PLACE | place as u64
}

/// Where a word leads, if it is one for this hash. It may be one for another hash with the same upper
/// half, or a free one where that half is zero: the caller compares the name.
#[inline(always)]
#[must_use]
pub const fn place(word: u64, hash: u64) -> Option<u64> {
    if (word ^ hash) & !PLACE == 0 {
        Some(word & PLACE)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_leads_from_its_hash_to_its_place() {
        let hash = 0x0123_4567_89ab_cdef;
        assert_eq!(place(word(hash, 42), hash), Some(42));
        assert_eq!(place(word(hash, u32::MAX), hash), Some(PLACE));
        assert_eq!(place(word(hash, 42), hash ^ 1 << 32), None);
        assert_eq!(place(0, hash), None);
    }
}
