//! Who is answered, and how often: the clients allowed, and the share of each prefix.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use dns_common::{Allowance, RateLimit};

use crate::transfer::Prefix;

/// The list of clients and the rate, with its accounts.
#[derive(Debug, Default)]
pub struct Guard {
    /// Those who are answered; none means all.
    allowed: Vec<Prefix>,
    rate: Option<Rate>,
}

impl Guard {
    /// Answers those in `allowed`, or all where that is empty, as often as `limit` says.
    #[must_use]
    pub fn new(allowed: Vec<Prefix>, limit: RateLimit) -> Self {
        Self {
            allowed,
            rate: (limit.interval != 0).then(|| Rate::new(limit)),
        }
    }

    /// Whether a client is answered at all.
    pub(super) fn allows(&self, client: IpAddr) -> bool {
        self.allowed.is_empty() || self.allowed.iter().any(|prefix| prefix.contains(client))
    }

    /// Takes a response over UDP from the share of the client's prefix.
    pub(super) fn take(&self, client: IpAddr) -> Allowance {
        self.rate
            .as_ref()
            .map_or(Allowance::Answer, |rate| rate.take(client))
    }
}

/// Accounts of prefixes, in memory of a fixed size: where there are more prefixes than places, the
/// one that has used the least of its share is forgotten.
#[derive(Debug)]
struct Rate {
    limit: RateLimit,
    lines: Box<[Line]>,
    start: Instant,
    seed: u64,
}

/// Accounts that share a cache line. Each is the state of a prefix in the lower 48 bits and a tag
/// from its hash above; 0 is free.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; 8]);

/// 65,536 prefixes in half a megabyte.
const LINES: usize = 8192;
const STATE_BITS: u32 = 48;
const STATE: u64 = (1 << STATE_BITS) - 1;

impl Rate {
    fn new(limit: RateLimit) -> Self {
        Self {
            limit,
            lines: std::iter::repeat_with(Line::default).take(LINES).collect(),
            start: Instant::now(),
            seed: rand::random(),
        }
    }

    fn take(&self, client: IpAddr) -> Allowance {
        // 48 bits of microseconds are nine years.
        let now = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX) & STATE;
        self.take_at(client, now, rand::random())
    }

    fn take_at(&self, client: IpAddr, now: u64, chance: u32) -> Allowance {
        let prefix = match client {
            IpAddr::V4(ip) => self.limit.ipv4_prefix(ip.octets()),
            IpAddr::V6(ip) => self.limit.ipv6_prefix(ip.octets()),
        };
        let mut hasher = dns_common::name::Hasher::new(self.seed);
        hasher.push(prefix);
        let hash = hasher.finish();
        // The top bit is always set, so that no account looks free.
        let tag = (hash | 1 << 63) & !STATE;
        let Some(line) = self.lines.get(hash as usize % LINES) else {
            return Allowance::Answer;
        };
        // An account that others change at the same time is read again; that they do it more often
        // than this is as good as never, and costs them nothing.
        for _ in 0..8 {
            let Some((slot, seen)) = line.find(tag) else {
                break;
            };
            let state = if seen & !STATE == tag {
                seen & STATE
            } else {
                0
            };
            let (next, allowance) = self.limit.take(state, now, chance);
            let written = slot.compare_exchange_weak(
                seen,
                tag | (next & STATE),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if written.is_ok() {
                return allowance;
            }
        }
        Allowance::Answer
    }
}

impl Line {
    /// The account of this tag, or the one to give up for it, with its content.
    fn find(&self, tag: u64) -> Option<(&AtomicU64, u64)> {
        let mut least: Option<(&AtomicU64, u64)> = None;
        for slot in &self.0 {
            let seen = slot.load(Ordering::Relaxed);
            if seen & !STATE == tag {
                return Some((slot, seen));
            }
            if least.is_none_or(|(_, other)| seen & STATE < other & STATE) {
                least = Some((slot, seen));
            }
        }
        least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_prefix_has_its_own_share() {
        let rate = Rate::new(RateLimit::new(10, 1, 0));
        let answered = |client: &str, count: usize| {
            let takes = (0..count).map(|_| rate.take_at(ip(client), 5_000_000, 1));
            takes.filter(|one| *one == Allowance::Answer).count()
        };
        assert_eq!(answered("192.0.2.1", 100), 10);
        assert_eq!(answered("192.0.2.200", 100), 0, "the same /24");
        assert_eq!(answered("192.0.3.1", 100), 10);
        assert_eq!(answered("2001:db8::1", 100), 10);
        assert_eq!(answered("2001:db8:0:0:1::", 100), 0, "the same /56");
        assert_eq!(answered("2001:db8:0:100::", 100), 10);
    }

    #[test]
    fn many_prefixes_do_not_free_one_that_is_over_its_share() {
        let rate = Rate::new(RateLimit::new(10, 1, 0));
        let greedy = ip("192.0.2.1");
        for _ in 0..100 {
            let _ = rate.take_at(greedy, 5_000_000, 1);
        }
        for number in 0..200_000u32 {
            let other = IpAddr::from((number << 8).to_be_bytes());
            let _ = rate.take_at(other, 5_000_000, 1);
        }
        assert_eq!(rate.take_at(greedy, 5_000_000, 1), Allowance::Drop);
    }
}
