//! SOA serials: a circle of 2³² numbers ordered by RFC 1982.

/// Whether `a` comes after `b` (RFC 1982, section 3.2). Neither of two serials that lie exactly
/// 2³¹ apart comes after the other.
#[must_use]
pub const fn is_after(a: u32, b: u32) -> bool {
    let ahead = a.wrapping_sub(b);
    ahead != 0 && ahead < 1 << 31
}

/// The serial of a zone whose content changed at `now` (unix time in seconds): the time, as
/// mesos-dns does it, or the previous serial and one when the clock has not gone past that.
#[must_use]
pub const fn next(previous: u32, now: u32) -> u32 {
    if is_after(now, previous) {
        now
    } else {
        previous.wrapping_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc1982_section_3_2_orders_across_the_wrap() {
        assert!(is_after(1, 0));
        assert!(is_after(0, u32::MAX));
        assert!(is_after(44, 0));
        assert!(!is_after(0, 44));
        assert!(!is_after(7, 7));
        // Exactly half the circle apart is undefined: no serial is after the other.
        assert!(!is_after(1 << 31, 0));
        assert!(!is_after(0, 1 << 31));
    }

    #[test]
    fn a_serial_follows_the_clock_and_never_goes_back() {
        assert_eq!(next(0, 1_700_000_000), 1_700_000_000);
        assert_eq!(next(1_700_000_000, 1_700_000_000), 1_700_000_001);
        assert_eq!(next(1_700_000_009, 1_600_000_000), 1_700_000_010);
        assert_eq!(next(u32::MAX, u32::MAX), 0);
    }

    proptest::proptest! {
        #[test]
        fn the_next_serial_is_after_the_previous(previous: u32, now: u32) {
            assert!(is_after(next(previous, now), previous));
        }
    }
}
