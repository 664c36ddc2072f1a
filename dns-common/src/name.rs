//! Names as the index sees them: folded eight octets at a time, and hashed with a key.

/// Octets are folded, compared and hashed in words of this size.
pub const WORD: u32 = 8;
/// Words that hold the longest name: 255 octets (RFC 1035, section 2.3.4).
pub const MAX_WORDS: u32 = 32;
/// Octets of the longest name, the root label included.
pub const MAX_OCTETS: u32 = 255;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Folds the ASCII capitals among eight octets, and nothing else (RFC 4343, section 3).
///
/// Length octets are at most 63 and 'A' is 65, so that a whole wire name can be folded without a
/// look at its labels.
#[inline(always)]
#[must_use]
pub const fn fold(word: u64) -> u64 {
    let low = word & !HIGHS;
    let at_least_a = low.wrapping_add(ONES.wrapping_mul(0x80 - 0x41));
    let above_z = low.wrapping_add(ONES.wrapping_mul(0x80 - 0x5b));
    word | (((at_least_a ^ above_z) & !word & HIGHS) >> 2)
}

/// Marks the lowest zero octet of `word` by its top bit; higher marks mean nothing. Zero if no
/// octet is zero.
#[inline(always)]
#[must_use]
pub const fn zero_octets(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// The place (0 to 7) of the lowest mark that [`zero_octets`] made, and a mask of the octets
/// before it. Without a count-trailing-zeros instruction, which BPF lacks.
#[inline(always)]
#[must_use]
pub const fn first_mark(marks: u64) -> (u32, u64) {
    let lowest = marks & marks.wrapping_neg();
    let before = (lowest >> 7).wrapping_sub(1);
    let count = (before & ONES).wrapping_mul(ONES) >> 56;
    (count as u32, before)
}

/// A mask of the first `octets` octets of a word; of all if there are more than eight.
#[inline(always)]
#[must_use]
pub const fn first_octets(octets: u32) -> u64 {
    if octets >= WORD {
        u64::MAX
    } else {
        (1u64 << (octets.wrapping_mul(8) & 63)).wrapping_sub(1)
    }
}

/// The keyed hash of a folded owner name, taken word by word. The last word holds the root label
/// and is filled up with zeros.
///
/// It spreads names over the index and no more: whoever finds an entry compares the whole name.
#[derive(Clone, Copy)]
pub struct Hasher(u64);

impl Hasher {
    /// Starts from the secret of this host.
    #[inline(always)]
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Takes in the next folded word.
    #[inline(always)]
    pub const fn push(&mut self, word: u64) {
        let input = self.0 ^ word;
        // A multiplication leaves a difference in the top bit alone where it is: the next word could
        // undo it under every key.
        let mixed = (input ^ (input >> 29)).wrapping_mul(0x9fb2_1c65_1e98_df25);
        self.0 = mixed ^ (mixed >> 32);
    }

    /// The key of the index.
    #[inline(always)]
    #[must_use]
    pub const fn finish(self) -> u64 {
        let mixed = self.0.wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }
}

/// Words that a name of `octets` octets takes.
#[inline(always)]
#[must_use]
pub const fn words(octets: u32) -> u32 {
    octets.wrapping_add(WORD - 1) / WORD
}

/// Hashes a folded wire name, the root label included.
#[must_use]
pub fn hash(seed: u64, wire: &[u8]) -> u64 {
    let mut hasher = Hasher::new(seed);
    let (whole, rest) = wire.as_chunks();
    for octets in whole {
        hasher.push(u64::from_le_bytes(*octets));
    }
    if !rest.is_empty() {
        let octets = (0u32..).zip(rest);
        hasher.push(octets.fold(0, |word, (at, &octet)| {
            word | u64::from(octet).wrapping_shl(at.wrapping_mul(8))
        }));
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ascii_capitals_fold() {
        for octet in 0..=255u8 {
            for place in 0..8 {
                let mut octets = [0x20; 8];
                octets[place] = octet;
                let mut folded = octets;
                folded[place] = octet.to_ascii_lowercase();
                assert_eq!(fold(u64::from_le_bytes(octets)), u64::from_le_bytes(folded));
            }
        }
    }

    #[test]
    fn first_zero_octet_is_found() {
        for place in 0..8u32 {
            // 0x01 and 0x80 right behind a zero are what this trick gets wrong.
            for filler in [0x01, 0x80, 0xff, 0x00] {
                let mut octets = [filler; 8];
                octets[..place as usize].fill(0x7f);
                octets[place as usize] = 0;
                let (found, before) = first_mark(zero_octets(u64::from_le_bytes(octets)));
                assert_eq!(found, place);
                assert_eq!(before, (1u64 << (8 * place)) - 1);
            }
        }
        assert_eq!(
            zero_octets(u64::from_le_bytes([1, 0x80, 2, 3, 4, 5, 6, 7])),
            0
        );
    }

    #[test]
    fn the_key_changes_every_hash() {
        let name = b"\x03web\x08marathon\x05mesos\0";
        assert_ne!(hash(1, name), hash(2, name));
        assert_ne!(hash(1, name), hash(1, b"\x03wea\x08marathon\x05mesos\0"));
    }

    #[test]
    fn no_other_name_has_the_same_hash_under_every_key() {
        // Bit 63 of one word, and bits 63 and 31 of the next, are turned over.
        let name = *b"\x04db-0\x03web\x04l4lb\x09directory\0";
        let mut other = name;
        for at in [7, 11, 15] {
            other[at] ^= 0x80;
        }
        for key in 0..1000u64 {
            let key = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            assert_ne!(hash(key, &name), hash(key, &other), "{key}");
        }
    }
}
