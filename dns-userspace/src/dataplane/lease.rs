//! The time until which the kernel may answer without a sign of the daemon.
//!
//! It stands in a word of the map `POLICY` as ticks of the kernel's clock, and is moved forward by
//! a task of its own, which waits for no lock that a publication holds. A daemon that hangs or is
//! stopped does not renew it, and the kernel passes everything up.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dns_common::policy::LEASE_WORD;

use super::bpf;
use super::mapping::Mapping;

/// For ever.
const NO_END: u64 = u64::MAX;
const XDP_PASS: u32 = 2;
/// How often a lease is renewed at the least.
const PERIOD: Duration = Duration::from_secs(1);

/// The lease of one data plane; clones are the same lease.
#[derive(Clone, Debug, Default)]
pub struct Lease(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    clock: Option<Clock>,
    /// `None` for a lease without end.
    length: Option<Duration>,
    held: Vec<Arc<Mapping>>,
}

impl Lease {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long to wait between two renewals: a small part of the lease, so that a daemon that
    /// ends leaves nearly all of it to its successor.
    #[must_use]
    pub fn period(&self) -> Duration {
        let length = self.state().length;
        length.map_or(PERIOD, |length| PERIOD.min(length / 4))
    }

    /// Lets the kernel answer for another term from this moment on.
    ///
    /// # Errors
    /// The kernel's clock cannot be read; the lease runs out.
    pub fn renew(&self) -> io::Result<()> {
        self.state().renew()
    }

    /// Sets the term, 0 for none, from the next renewal on.
    pub(super) fn set_length(&self, seconds: u32) {
        let length = Duration::from_secs(seconds.into());
        self.state().length = (seconds > 0).then_some(length);
    }

    /// Tells the time by this clock.
    pub(super) fn set_clock(&self, clock: Clock) {
        self.state().clock = Some(clock);
    }

    /// Renews the lease of this policy too, at once.
    pub(super) fn hold(&self, policy: &Arc<Mapping>) -> io::Result<()> {
        let mut state = self.state();
        if !state.held.iter().any(|one| Arc::ptr_eq(one, policy)) {
            state.held.push(Arc::clone(policy));
        }
        state.renew()
    }

    /// Renews no other lease than that of this policy any more.
    pub(super) fn hold_only(&self, policy: &Arc<Mapping>) {
        self.state().held.retain(|one| Arc::ptr_eq(one, policy));
    }

    /// Renews none.
    pub(super) fn release(&self) {
        *self.state() = State::default();
    }

    /// Whether the kernel answers by this policy at this moment.
    pub(super) fn is_running(&self, policy: &Mapping) -> io::Result<bool> {
        let until = policy.load(LEASE_WORD);
        let state = self.state();
        match &state.clock {
            Some(clock) if until != NO_END => Ok(clock.now()? <= until),
            _ => Ok(until == NO_END),
        }
    }
}

impl State {
    fn renew(&self) -> io::Result<()> {
        let until = match (self.length, &self.clock) {
            (None, _) => NO_END,
            (Some(_), None) => return Ok(()),
            (Some(length), Some(clock)) => clock.now()?.saturating_add(clock.ticks(length)),
        };
        for policy in &self.held {
            policy.store(LEASE_WORD, until);
        }
        Ok(())
    }
}

/// The clock that the XDP program reads: ticks, of which only the kernel knows the number.
#[derive(Debug)]
pub(super) struct Clock {
    program: OwnedFd,
    tick: Duration,
}

impl Clock {
    /// A clock that is read by running this program.
    pub(super) fn new(program: OwnedFd) -> io::Result<Self> {
        let clock = Self {
            program,
            tick: tick()?,
        };
        clock.now()?;
        Ok(clock)
    }

    /// Ticks at this moment.
    fn now(&self) -> io::Result<u64> {
        let mut packet = [0; 64];
        let action = bpf::test_run(self.program.as_fd(), &mut packet)?;
        let ticks = packet.first_chunk().copied().map(u64::from_ne_bytes);
        match ticks {
            Some(ticks) if action == XDP_PASS && ticks != 0 => Ok(ticks),
            _ => Err(io::Error::other("the kernel's clock cannot be read")),
        }
    }

    /// Ticks in a time, at least one.
    fn ticks(&self, time: Duration) -> u64 {
        let ticks = time.as_nanos() / self.tick.as_nanos().max(1);
        u64::try_from(ticks).unwrap_or(u64::MAX).max(1)
    }
}

/// The length of a tick: the resolution of the clock that the kernel moves forward at each.
pub(super) fn tick() -> io::Result<Duration> {
    let mut resolution = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one timespec.
    let result = unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &raw mut resolution) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let nanoseconds = u64::try_from(resolution.tv_nsec).map_err(io::Error::other)?;
    match resolution.tv_sec {
        0 if nanoseconds > 0 => Ok(Duration::from_nanos(nanoseconds)),
        _ => Err(io::Error::other(
            "the kernel does not say how long a tick is",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_that_of_a_kernel() {
        // CONFIG_HZ is 100, 250, 300 or 1000 on x86 and arm64, up to 1200 elsewhere.
        let hertz = 1.0 / tick().unwrap().as_secs_f64();
        assert!((20.0..1300.0).contains(&hertz), "{hertz}");
    }

    #[test]
    fn a_lease_is_renewed_several_times_in_its_term() {
        let lease = Lease::default();
        lease.set_length(0);
        assert_eq!(lease.period(), PERIOD);
        lease.set_length(60);
        assert_eq!(lease.period(), PERIOD);
        lease.set_length(1);
        assert_eq!(lease.period(), Duration::from_millis(250));
    }
}
