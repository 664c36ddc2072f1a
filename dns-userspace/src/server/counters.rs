//! What the server did, counted by each worker for itself and added up when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::answers::Rcode;

/// Response codes that are counted one by one: those of the header, and 16, BADVERS.
pub const RCODES: usize = 17;

/// The counters of one worker; on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    queries: AtomicU64,
    ignored: AtomicU64,
    fast: AtomicU64,
    forwarded: AtomicU64,
    shed: AtomicU64,
    panics: AtomicU64,
    unsent: AtomicU64,
    octets_out: AtomicU64,
    rcodes: [AtomicU64; RCODES],
}

/// Counters added up over workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages received.
    pub queries: u64,
    /// Messages that got no response because they are no queries.
    pub ignored: u64,
    /// Responses made by the fast path.
    pub fast: u64,
    /// Queries handed to the forwarder.
    pub forwarded: u64,
    /// Queries refused with SERVFAIL because too many were being forwarded.
    pub shed: u64,
    /// Queries whose answering panicked; must stay 0.
    pub panics: u64,
    /// Responses that the kernel did not take.
    pub unsent: u64,
    /// Octets of responses.
    pub octets_out: u64,
    /// Responses by code.
    pub rcodes: [u64; RCODES],
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn query(&self) {
        add(&self.queries, 1);
    }

    pub(super) fn ignored(&self) {
        add(&self.ignored, 1);
    }

    pub(super) fn fast(&self) {
        add(&self.fast, 1);
    }

    pub(super) fn forwarded(&self) {
        add(&self.forwarded, 1);
    }

    pub(super) fn shed(&self) {
        add(&self.shed, 1);
    }

    pub(super) fn panic(&self) {
        add(&self.panics, 1);
    }

    pub(super) fn unsent(&self, count: u64) {
        add(&self.unsent, count);
    }

    /// Counts a response by its size and code.
    pub(super) fn response(&self, octets: usize, rcode: Rcode) {
        add(&self.octets_out, octets as u64);
        if let Some(counter) = self.rcodes.get(usize::from(rcode.0)) {
            add(counter, 1);
        }
    }

    fn read_into(&self, totals: &mut Totals) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        totals.queries += read(&self.queries);
        totals.ignored += read(&self.ignored);
        totals.fast += read(&self.fast);
        totals.forwarded += read(&self.forwarded);
        totals.shed += read(&self.shed);
        totals.panics += read(&self.panics);
        totals.unsent += read(&self.unsent);
        totals.octets_out += read(&self.octets_out);
        for (total, counter) in totals.rcodes.iter_mut().zip(&self.rcodes) {
            *total += read(counter);
        }
    }
}

impl Totals {
    /// The counts by name; response codes not among them.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u64); 8] {
        [
            ("queries", self.queries),
            ("ignored", self.ignored),
            ("fast", self.fast),
            ("forwarded", self.forwarded),
            ("shed", self.shed),
            ("panics", self.panics),
            ("unsent", self.unsent),
            ("octets_out", self.octets_out),
        ]
    }

    /// Adds up the counters of several workers.
    pub fn of<'c>(counters: impl IntoIterator<Item = &'c Counters>) -> Self {
        let mut totals = Self::default();
        for one in counters {
            one.read_into(&mut totals);
        }
        totals
    }
}
