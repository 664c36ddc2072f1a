//! What is known of an upstream: whether it is well, how fast it is, what it cannot do, and what it
//! was asked.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;

use super::clock::{Clock, millis};
use crate::answers::Rcode;

/// Packets in a row without a response after which an upstream is taken for dead.
const DEAD: u32 = 3;
/// Milliseconds until an upstream that failed is asked again beside the others; doubled with each
/// failure.
const FIRST_PROBE_MS: u64 = 1_000;
const LAST_PROBE_MS: u64 = 32_000;
/// For so long what an upstream cannot do is not tried.
const MEMORY_MS: u64 = 3_600_000;
/// Bounds of the time after which a datagram is sent again.
const RESEND: [Duration; 2] = [Duration::from_millis(400), Duration::from_millis(1_200)];
const FIRST_RESEND: Duration = Duration::from_millis(800);

/// Response codes that are counted one by one: those of the header, and 16, BADVERS.
pub const RCODES: usize = 17;

/// What an upstream may not be able to do, and until when it is not asked to.
#[derive(Debug, Default)]
pub(super) struct Lack(AtomicU64);

impl Lack {
    pub(super) fn is_known(&self, now: u64) -> bool {
        now < self.0.load(Ordering::Relaxed)
    }

    pub(super) fn note(&self, now: u64) {
        self.0.store(now + MEMORY_MS, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    /// How long it may take.
    pub(super) timeout: Duration,
    /// Does not give back the letter case of the question.
    pub(super) lacks_case: Lack,
    /// Does not know EDNS.
    pub(super) lacks_edns: Lack,
    /// A connection for the next question over TCP, and when it was last used.
    pub(super) idle: Mutex<Option<(TcpStream, u64)>>,
    pub(super) counts: Counts,
    pub(super) clock: Clock,
    unanswered: AtomicU32,
    failures_in_a_row: AtomicU32,
    probe: AtomicU64,
    /// Smoothed time of a response in microseconds (as in RFC 6298, section 2); 0 for not known.
    smoothed: AtomicU64,
}

/// What was asked, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) tries: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) resent: AtomicU64,
    pub(super) mismatches: AtomicU64,
    pub(super) over_tcp: AtomicU64,
    rcodes: [AtomicU64; RCODES],
}

/// An upstream's counts and state at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamReadout {
    /// Where it is.
    pub address: SocketAddr,
    /// Questions put to it.
    pub tries: u64,
    /// Those without a usable response in time.
    pub failures: u64,
    /// Datagrams sent again for want of a response.
    pub resent: u64,
    /// Datagrams from its address and port that answered no question of ours.
    pub mismatches: u64,
    /// Questions put over TCP.
    pub over_tcp: u64,
    /// Responses by code.
    pub rcodes: [u64; RCODES],
    /// Smoothed time of its responses; `None` before the first.
    pub rtt: Option<Duration>,
    /// Whether it answered last.
    pub is_well: bool,
}

pub(super) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Upstream {
    pub(super) fn new(address: SocketAddr, timeout: Duration, clock: Clock) -> Self {
        Self {
            address,
            timeout,
            lacks_case: Lack::default(),
            lacks_edns: Lack::default(),
            idle: Mutex::new(None),
            counts: Counts::default(),
            clock,
            unanswered: AtomicU32::new(0),
            failures_in_a_row: AtomicU32::new(0),
            probe: AtomicU64::new(0),
            smoothed: AtomicU64::new(0),
        }
    }

    /// Whether it answered when it was last asked, or never was.
    pub(super) fn is_well(&self) -> bool {
        self.failures_in_a_row.load(Ordering::Relaxed) == 0
    }

    /// Whether it has been silent for so long that nobody should wait for it.
    pub(super) fn is_dead(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed) >= DEAD
    }

    pub(super) fn note_success(&self, rcode: Rcode) {
        self.unanswered.store(0, Ordering::Relaxed);
        self.failures_in_a_row.store(0, Ordering::Relaxed);
        if let Some(count) = self.counts.rcodes.get(usize::from(rcode.0)) {
            add(count);
        }
    }

    /// Notes a failure after so many packets.
    pub(super) fn note_failure(&self, packets: u32) {
        add(&self.counts.failures);
        self.unanswered.fetch_add(packets, Ordering::Relaxed);
        let earlier = self.failures_in_a_row.fetch_add(1, Ordering::Relaxed);
        let pause = FIRST_PROBE_MS
            .saturating_mul(1 << earlier.min(16))
            .min(LAST_PROBE_MS);
        self.probe
            .store(self.clock.now() + pause, Ordering::Relaxed);
    }

    /// Whether it is time to see if it is well again; says so to one who asks.
    pub(super) fn claim_probe(&self) -> bool {
        let now = self.clock.now();
        let due = self.probe.load(Ordering::Relaxed);
        let next = now + millis(self.timeout).saturating_add(FIRST_PROBE_MS);
        due <= now
            && self
                .probe
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    pub(super) fn note_time(&self, taken: Duration) {
        let taken = u64::try_from(taken.as_micros()).unwrap_or(u64::MAX).max(1);
        let old = self.smoothed.load(Ordering::Relaxed);
        let smoothed = match old {
            0 => taken,
            old => (old.saturating_mul(7).saturating_add(taken) / 8).max(1),
        };
        self.smoothed.store(smoothed, Ordering::Relaxed);
    }

    fn rtt(&self) -> Option<Duration> {
        match self.smoothed.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }

    /// After this without a response a datagram is sent again.
    pub(super) fn resend_after(&self) -> Duration {
        let [least, most] = RESEND;
        self.rtt()
            .map_or(FIRST_RESEND, |rtt| (rtt * 4).clamp(least, most))
    }

    pub(super) fn readout(&self) -> UpstreamReadout {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut rcodes = [0; RCODES];
        for (slot, count) in rcodes.iter_mut().zip(&self.counts.rcodes) {
            *slot = read(count);
        }
        UpstreamReadout {
            address: self.address,
            tries: read(&self.counts.tries),
            failures: read(&self.counts.failures),
            resent: read(&self.counts.resent),
            mismatches: read(&self.counts.mismatches),
            over_tcp: read(&self.counts.over_tcp),
            rcodes,
            rtt: self.rtt(),
            is_well: self.is_well(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream() -> Upstream {
        let address = "192.0.2.1:53".parse().unwrap();
        Upstream::new(address, Duration::from_secs(5), Clock::default())
    }

    #[test]
    fn one_success_makes_it_well() {
        let one = upstream();
        assert!(one.is_well() && !one.is_dead());
        one.note_failure(1);
        assert!(!one.is_well() && !one.is_dead());
        one.note_failure(2);
        assert!(one.is_dead());
        one.note_success(Rcode::NOERROR);
        assert!(one.is_well() && !one.is_dead());
        assert_eq!(one.readout().failures, 2);
    }

    #[test]
    fn probes_are_claimed_once_and_grow_rare() {
        let one = upstream();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            one.note_failure(1);
            let mut pause = 0;
            while !one.claim_probe() {
                one.clock.advance(Duration::from_millis(500));
                pause += 500;
            }
            assert!(!one.claim_probe(), "it is under way");
            pauses.push(pause);
        }
        let seconds: Vec<u64> = pauses.iter().map(|pause| (pause + 499) / 1_000).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 32]);
    }

    #[test]
    fn the_time_of_responses_is_smoothed_and_bounds_the_wait() {
        let one = upstream();
        assert_eq!(one.resend_after(), FIRST_RESEND);
        one.note_time(Duration::from_millis(8));
        assert_eq!(one.resend_after(), RESEND[0]);
        for _ in 0..64 {
            one.note_time(Duration::from_millis(200));
        }
        let after = one.resend_after();
        assert!(after > Duration::from_millis(780) && after <= Duration::from_millis(800));
        for _ in 0..64 {
            one.note_time(Duration::from_secs(4));
        }
        assert_eq!(one.resend_after(), RESEND[1]);
    }

    #[test]
    fn a_lack_is_forgotten_in_time() {
        let lack = Lack::default();
        assert!(!lack.is_known(0));
        lack.note(5);
        assert!(lack.is_known(MEMORY_MS + 4) && !lack.is_known(MEMORY_MS + 5));
    }
}
