//! One's complement sums (RFC 1071) over little-endian words, as UDP's checksum needs them.

/// Sums of a message's parts, of fewer than 56 bits, in the byte order of the words they were taken
/// from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    /// The header.
    pub header: u64,
    /// The question section.
    pub question: u64,
    /// All that follows.
    pub records: u64,
}

/// The two halves of a word as terms of a sum.
#[inline(always)]
#[must_use]
pub const fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff).wrapping_add(word >> 32)
}

/// Folds a sum to 16 bits.
#[inline(always)]
#[must_use]
pub const fn fold_sum(sum: u64) -> u64 {
    let sum = (sum & 0xffff_ffff).wrapping_add(sum >> 32);
    let sum = (sum & 0xffff).wrapping_add(sum >> 16);
    let sum = (sum & 0xffff).wrapping_add(sum >> 16);
    (sum & 0xffff).wrapping_add(sum >> 16)
}

/// The sum of octets that stand at `at`: octets swapped where the place is odd (RFC 1071, section
/// 2(B)), which is 256 times the sum, modulo 65535. Of fewer than 2^16 halves.
#[inline(always)]
#[must_use]
pub const fn sum_at(at: u32, sum: u64) -> u64 {
    sum << ((at & 1) << 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum of RFC 1071, section 1, octet by octet.
    fn plain(octets: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in octets.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn pieces_at_any_place_add_up() {
        let octets: [u8; 32] = core::array::from_fn(|i| (i as u8).wrapping_mul(37) ^ 0xa5);
        for cut in 1..24 {
            let (front, back) = (&octets[..cut], &octets[cut..cut + 8]);
            let mut first = [0u8; 24];
            first[..cut].copy_from_slice(front);
            let mut sum = 0;
            for word in first.chunks(8) {
                sum += halves(u64::from_le_bytes(word.try_into().unwrap()));
            }
            let second = halves(u64::from_le_bytes(back.try_into().unwrap()));
            let total = fold_sum(fold_sum(sum) + sum_at(cut as u32, second));
            assert_eq!(
                (total as u16).swap_bytes(),
                plain(&octets[..cut + 8]),
                "cut at {cut}"
            );
        }
    }
}
