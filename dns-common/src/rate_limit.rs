//! Response rate limiting by client prefix: the policy as data, the one decision, and the accounts
//! of prefixes, for the kernel and for user space alike. The state of a prefix is one number, which
//! whoever keeps it may lose: it then starts anew with a full share.
//!
//! The algorithm is the generic cell rate algorithm: the state is the time at which the prefix will
//! have used up what it was given, and it may lie ahead of the present by the window at most.
//!
//! Accounts take memory of a fixed size, whatever addresses a flood invents: a prefix has its line by
//! its hash, and where there are more prefixes than places in a line, the one that has used the least
//! of its share is forgotten.

use crate::name::Hasher;

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
#[repr(u32)]
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

    /// The prefix of an IPv6 address, of which only the first half is asked for.
    #[inline(always)]
    #[must_use]
    pub const fn ipv6_prefix(&self, half: [u8; 8]) -> u64 {
        let high = u64::from_be_bytes(half);
        if self.ipv6_bits == 0 {
            return 0;
        }
        let shift = 64u32.wrapping_sub(self.ipv6_bits) & 63;
        high >> shift << shift
    }

    /// Takes a response at `now`, in microseconds, from the share of a prefix whose state is `state`, 0
    /// if it has none. Gives the next state; `None` if the share is used up.
    #[inline(always)]
    #[must_use]
    pub const fn take(&self, state: u64, now: u64) -> Option<u64> {
        let end = now.wrapping_add(self.window);
        // One that is further ahead was made by another window or another clock.
        let is_ahead = state > now && state <= end.wrapping_add(Self::MICROSECONDS);
        let from = if is_ahead { state } else { now };
        let next = from.wrapping_add(self.interval);
        if next <= end { Some(next) } else { None }
    }

    /// What becomes of a query beyond the share; `chance` is any number.
    #[inline(always)]
    #[must_use]
    pub const fn beyond(&self, chance: u32) -> Allowance {
        match chance.checked_rem(self.slip) {
            Some(0) => Allowance::Slip,
            _ => Allowance::Drop,
        }
    }

    /// Decides about one query at `now`, in microseconds of a clock that never goes back, by the account
    /// of a prefix with this hash in its line. `chance` gives any number.
    #[inline(always)]
    #[must_use]
    pub fn charge<L: Line>(
        &self,
        line: &L,
        hash: u64,
        now: u64,
        chance: impl Fn() -> u32,
    ) -> Allowance {
        // The top bit is always set, so that no account looks free.
        let tag = (hash | 1 << 63) & !STATE;
        // An account that others change at the same time is read again; that they do it more often
        // than this is as good as never, and costs them nothing.
        for _ in 0..2 {
            let (slot, seen) = find(line, tag);
            let state = if seen & !STATE == tag {
                seen & STATE
            } else {
                0
            };
            let Some(next) = self.take(state, now & STATE) else {
                return self.beyond(chance());
            };
            if line.replace(slot, seen, tag | (next & STATE)) {
                break;
            }
        }
        Allowance::Answer
    }
}

/// Accounts that share a cache line. Each is the state of a prefix in the lower 48 bits, nine years of
/// microseconds, and a tag from its hash above; 0 is free.
pub trait Line {
    /// The account in a place below [`ACCOUNTS_PER_LINE`].
    fn load(&self, slot: u32) -> u64;
    /// Puts `next` there if it still is `seen`, and says whether it was.
    fn replace(&self, slot: u32, seen: u64, next: u64) -> bool;
}

/// Accounts in a [`Line`]: 64 octets.
pub const ACCOUNTS_PER_LINE: u32 = 8;
/// Lines: 65,536 prefixes in half a megabyte.
pub const LINES: u32 = 8192;

const STATE: u64 = (1 << 48) - 1;

/// The keyed hash of a prefix.
#[inline(always)]
#[must_use]
pub const fn hash(seed: u64, prefix: u64) -> u64 {
    let mut hasher = Hasher::new(seed);
    hasher.push(prefix);
    hasher.finish()
}

/// The number of the line of a prefix with this hash.
#[inline(always)]
#[must_use]
pub const fn line_of(hash: u64) -> u32 {
    hash as u32 % LINES
}

/// The account of this tag, or the one to give up for it, with its content.
#[inline(always)]
fn find<L: Line>(line: &L, tag: u64) -> (u32, u64) {
    let mut least = (0, line.load(0));
    if least.1 & !STATE == tag {
        return least;
    }
    for slot in 1..ACCOUNTS_PER_LINE {
        let seen = line.load(slot);
        if seen & !STATE == tag {
            return (slot, seen);
        }
        if seen & STATE < least.1 & STATE {
            least = (slot, seen);
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    /// Answers among `count` queries that come `gap` microseconds apart.
    fn answered(limit: RateLimit, state: &mut u64, start: u64, count: u64, gap: u64) -> u64 {
        let mut answers = 0;
        for at in (0..count).map(|one| start + one * gap) {
            if let Some(next) = limit.take(*state, at) {
                *state = next;
                answers += 1;
            }
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
        assert_eq!(limit.take(2 * SECOND, SECOND), None);
        assert_eq!(
            [0, 1, 2, 3].map(|chance| limit.beyond(chance)),
            [
                Allowance::Slip,
                Allowance::Drop,
                Allowance::Drop,
                Allowance::Slip
            ]
        );
        assert_eq!(RateLimit::new(1, 1, 0).beyond(0), Allowance::Drop);
    }

    #[test]
    fn a_state_that_cannot_be_is_none() {
        let limit = RateLimit::new(10, 5, 0);
        let full = 105 * SECOND;
        assert_eq!(limit.take(full, 100 * SECOND), None);
        // Another clock may be a tick behind.
        assert_eq!(limit.take(full, 100 * SECOND - 10_000), None);
        // As after an hour's window that was cut to five seconds.
        assert_eq!(limit.take(full, 50 * SECOND), limit.take(0, 50 * SECOND));
    }

    #[test]
    fn prefixes_are_24_and_56_bits() {
        let limit = RateLimit::new(1, 1, 0);
        let v4 = |last| limit.ipv4_prefix([192, 0, 2, last]);
        assert_eq!(v4(1), v4(255));
        assert_ne!(v4(1), limit.ipv4_prefix([192, 0, 3, 1]));
        let v6 = |seventh, last| {
            let half = [0x20, 1, 0xd, 0xb8, 0, 0, seventh, last];
            limit.ipv6_prefix(half)
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
