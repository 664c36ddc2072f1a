//! What the server did: counted by each worker for itself without any sharing, told to counters
//! that everybody can read, and added up when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};

use super::breakdown::{Breakdown, CELLS, Source};
use crate::answers::Rcode;

/// Cells of a breakdown that are looked at together: in a batch most have nothing to tell.
const CHUNK: usize = 8;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of one worker; on cache lines of their own.
        #[derive(Debug)]
        #[repr(align(128))]
        pub struct Counters {
            $($name: AtomicU64,)*
            cells: [AtomicU64; CELLS],
        }

        impl Default for Counters {
            fn default() -> Self {
                Self {
                    $($name: AtomicU64::default(),)*
                    cells: [const { AtomicU64::new(0) }; CELLS],
                }
            }
        }

        /// Counts, of a worker since it last told them, or added up over workers.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[$doc])* pub $name: u64,)*
            /// Queries and responses by what they are.
            pub breakdown: Breakdown,
        }

        impl Counters {
            fn pairs<'c>(&'c self, totals: &'c mut Totals) -> impl Iterator<Item = (&'c AtomicU64, &'c mut u64)> {
                [$((&self.$name, &mut totals.$name),)*].into_iter()
            }
        }

        impl Totals {
            /// The counts by name; the breakdown is not among them.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counts! {
    /// Messages received.
    queries,
    /// Messages that got no response because they are no queries.
    ignored,
    /// Responses made by the fast path.
    fast,
    /// Queries handed to the forwarder.
    forwarded,
    /// Queries refused with SERVFAIL because too many were being forwarded.
    shed,
    /// Queries whose answering panicked; must stay 0.
    panics,
    /// Responses that the kernel did not take.
    unsent,
    /// Datagrams that the kernel dropped because no worker took them in time.
    overflowed,
    /// Queries refused because the client is not among those allowed.
    prohibited,
    /// Queries without response because the client's prefix has had its share.
    limited,
    /// Queries beyond the share that were told to come back over TCP, or with a cookie.
    slipped,
    /// Connections taken in.
    connections,
    /// Connections closed at once because there were too many.
    turned_away,
}

impl Counters {
    /// Takes in what a worker counted, and sets that back to nothing.
    pub(super) fn take(&self, tally: &mut Totals) {
        for (counter, count) in self.pairs(tally) {
            move_over(counter, count);
        }
        let cells = self.cells.chunks(CHUNK);
        for (counters, counts) in cells.zip(tally.breakdown.cells.chunks_mut(CHUNK)) {
            if counts.iter().fold(0, |all, count| all | *count) != 0 {
                counters
                    .iter()
                    .zip(counts)
                    .for_each(|(counter, count)| move_over(counter, count));
            }
        }
    }
}

fn move_over(counter: &AtomicU64, count: &mut u64) {
    if *count != 0 {
        counter.fetch_add(std::mem::take(count), Ordering::Relaxed);
    }
}

impl Totals {
    /// Counts a response by its size and code.
    pub(super) fn response(&mut self, source: Source, octets: usize, rcode: Rcode) {
        self.breakdown.response(source, octets, rcode);
    }

    /// Adds up the counters of several workers.
    pub fn of<'c>(counters: impl IntoIterator<Item = &'c Counters>) -> Self {
        let mut totals = Self::default();
        for one in counters {
            for (counter, total) in one.pairs(&mut totals) {
                *total += counter.load(Ordering::Relaxed);
            }
            for (counter, total) in one.cells.iter().zip(&mut totals.breakdown.cells) {
                *total += counter.load(Ordering::Relaxed);
            }
        }
        totals
    }
}
