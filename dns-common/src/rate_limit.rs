//! Response rate limiting by client prefix: the policy as data, and the one decision, for the kernel
//! and for user space alike. The state of a prefix is one number, which whoever keeps it may lose:
//! it then starts anew with a full share.
//!
//! The algorithm is the generic cell rate algorithm: the state is the time at which the prefix will
//! have used up what it was given, and it may lie ahead of the present by the window at most.

/// Numbers are in host order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// Microseconds for each response; 0 means that nothing is limited.
    pub interval: u64,
    /// Microseconds that a prefix may be ahead, thus what it may get at once.
    pub window: u64,
    /// Of the queries beyond the share one in so many is told to come back over TCP; 0 for none.
    pub slip: u32,
    /// Bits of an IPv4 address that make a prefix, at most 32.
    pub ipv4_bits: u32,
    /// Bits of an IPv6 address that make a prefix, at most 64.
    pub ipv6_bits: u32,
    /// Zero; keeps the size a multiple of eight.
    pub reserved: u32,
}

const _: () = assert!(size_of::<RateLimit>() == 32);

/// What becomes of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// It is answered.
    Answer,
    /// It gets TC=1 and no records.
    Slip,
    /// It gets nothing.
    Drop,
}

impl RateLimit {
    const MICROSECONDS: u64 = 1_000_000;

    /// So many responses a second on average over `window_seconds`, to each /24 or /56.
    #[must_use]
    pub const fn new(responses_per_second: u32, window_seconds: u32, slip: u32) -> Self {
        let interval = match Self::MICROSECONDS.checked_div(responses_per_second as u64) {
            None => 0,
            // More than a million a second are as many as there can be.
            Some(0) => 1,
            Some(interval) => interval,
        };
        Self {
            interval,
            window: (window_seconds as u64).wrapping_mul(Self::MICROSECONDS),
            slip,
            ipv4_bits: 24,
            ipv6_bits: 56,
            reserved: 0,
        }
    }

    /// The prefix of an IPv4 address, as a number that no IPv6 prefix has.
    #[inline(always)]
    #[must_use]
    pub const fn ipv4_prefix(&self, address: [u8; 4]) -> u64 {
        // 0000::/8 is reserved (RFC 4291, section 2.5.3).
        let address = u32::from_be_bytes(address) as u64;
        let shift = 32u32.wrapping_sub(self.ipv4_bits) & 63;
        (address >> shift << shift) << 8 | 1
    }

    /// The prefix of an IPv6 address.
    #[inline(always)]
    #[must_use]
    pub const fn ipv6_prefix(&self, address: [u8; 16]) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = address;
        let high = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        if self.ipv6_bits == 0 {
            return 0;
        }
        let shift = 64u32.wrapping_sub(self.ipv6_bits) & 63;
        high >> shift << shift
    }

    /// Decides about one query of a prefix whose state is `state`, 0 if it has none, at `now`, in
    /// microseconds of a clock that never goes back; `chance` is any number. Gives the next state.
    #[inline(always)]
    #[must_use]
    pub const fn take(&self, state: u64, now: u64, chance: u32) -> (u64, Allowance) {
        let from = if state > now { state } else { now };
        let next = from.wrapping_add(self.interval);
        if next <= now.wrapping_add(self.window) {
            return (next, Allowance::Answer);
        }
        match chance.checked_rem(self.slip) {
            Some(0) => (state, Allowance::Slip),
            _ => (state, Allowance::Drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    /// Answers among `count` queries that come `gap` microseconds apart.
    fn answered(limit: RateLimit, state: &mut u64, start: u64, count: u64, gap: u64) -> u64 {
        let mut answers = 0;
        for at in (0..count).map(|one| start + one * gap) {
            let (next, allowance) = limit.take(*state, at, 1);
            *state = next;
            answers += u64::from(allowance == Allowance::Answer);
        }
        answers
    }

    #[test]
    fn a_prefix_gets_its_rate_and_no_more() {
        let limit = RateLimit::new(100, 2, 0);
        let mut state = 0;
        // At once: what two seconds hold.
        assert_eq!(answered(limit, &mut state, SECOND, 1000, 0), 200);
        // Then, while it asks ten times too much for five seconds, the rate.
        assert_eq!(answered(limit, &mut state, SECOND, 5001, 1000), 500);
        // After the window it has its share again.
        assert_eq!(answered(limit, &mut state, 60 * SECOND, 1000, 0), 200);
        // One that keeps to the rate never notices.
        let mut state = 0;
        assert_eq!(answered(limit, &mut state, SECOND, 5000, 10_000), 5000);
    }

    #[test]
    fn one_in_so_many_slips() {
        let limit = RateLimit::new(1, 1, 3);
        let full = u64::MAX / 2;
        let allowances = [0, 1, 2, 3].map(|chance| limit.take(full, SECOND, chance).1);
        assert_eq!(
            allowances,
            [
                Allowance::Slip,
                Allowance::Drop,
                Allowance::Drop,
                Allowance::Slip
            ]
        );
        let none = RateLimit::new(1, 1, 0);
        assert_eq!(none.take(full, SECOND, 0), (full, Allowance::Drop));
    }

    #[test]
    fn prefixes_are_24_and_56_bits() {
        let limit = RateLimit::new(1, 1, 0);
        let v4 = |last| limit.ipv4_prefix([192, 0, 2, last]);
        assert_eq!(v4(1), v4(255));
        assert_ne!(v4(1), limit.ipv4_prefix([192, 0, 3, 1]));
        let v6 = |seventh, last| {
            let mut address = [0x20, 1, 0xd, 0xb8, 0, 0, seventh, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            address[7] = last;
            limit.ipv6_prefix(address)
        };
        assert_eq!(v6(1, 0), v6(1, 255));
        assert_ne!(v6(1, 0), v6(2, 0));
        let whole = RateLimit {
            ipv4_bits: 32,
            ipv6_bits: 64,
            ..limit
        };
        assert_ne!(
            whole.ipv4_prefix([192, 0, 2, 1]),
            whole.ipv4_prefix([192, 0, 2, 2])
        );
        let none = RateLimit {
            ipv4_bits: 0,
            ipv6_bits: 0,
            ..limit
        };
        assert_eq!(
            none.ipv4_prefix([192, 0, 2, 1]),
            none.ipv4_prefix([10, 0, 2, 2])
        );
    }
}
