//! Who is answered, and how often: the clients allowed, and the share of each prefix.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use dns_common::rate_limit::{self, ACCOUNTS_PER_LINE, LINES, Line};
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
    #[must_use]
    pub fn allows(&self, client: IpAddr) -> bool {
        self.allowed.is_empty() || self.allowed.iter().any(|prefix| prefix.contains(client))
    }

    /// Takes a response over UDP from the share of the client's prefix.
    #[must_use]
    pub fn take(&self, client: IpAddr) -> Allowance {
        self.rate
            .as_ref()
            .map_or(Allowance::Answer, |rate| rate.take(client))
    }
}

/// The accounts of prefixes.
#[derive(Debug)]
struct Rate {
    limit: RateLimit,
    lines: Box<[Accounts]>,
    start: Instant,
    seed: u64,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Accounts([AtomicU64; ACCOUNTS_PER_LINE as usize]);

impl Line for Accounts {
    fn load(&self, slot: u32) -> u64 {
        self.0
            .get(slot as usize)
            .map_or(0, |one| one.load(Ordering::Relaxed))
    }

    fn replace(&self, slot: u32, seen: u64, next: u64) -> bool {
        let order = Ordering::Relaxed;
        self.0
            .get(slot as usize)
            .is_some_and(|one| one.compare_exchange(seen, next, order, order).is_ok())
    }
}

impl Rate {
    fn new(limit: RateLimit) -> Self {
        Self {
            limit,
            lines: (0..LINES).map(|_| Accounts::default()).collect(),
            start: Instant::now(),
            seed: rand::random(),
        }
    }

    fn take(&self, client: IpAddr) -> Allowance {
        let now = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.take_at(client, now)
    }

    fn take_at(&self, client: IpAddr, now: u64) -> Allowance {
        let prefix = match client {
            IpAddr::V4(ip) => self.limit.ipv4_prefix(ip.octets()),
            IpAddr::V6(ip) => {
                let half = ip.octets().first_chunk().copied();
                self.limit.ipv6_prefix(half.unwrap_or_default())
            }
        };
        let hash = rate_limit::hash(self.seed, prefix);
        let line = self.lines.get(rate_limit::line_of(hash) as usize);
        line.map_or(Allowance::Answer, |line| {
            self.limit.charge(line, hash, now, rand::random)
        })
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
            let takes = (0..count).map(|_| rate.take_at(ip(client), 5_000_000));
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
            let _ = rate.take_at(greedy, 5_000_000);
        }
        for number in 0..200_000u32 {
            let other = IpAddr::from((number << 8).to_be_bytes());
            let _ = rate.take_at(other, 5_000_000);
        }
        assert_eq!(rate.take_at(greedy, 5_000_000), Allowance::Drop);
    }
}
