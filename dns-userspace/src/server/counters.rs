//! What the server did: counted by each worker for itself without any sharing, told to counters
//! that everybody can read, and added up when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::answers::Rcode;

/// Response codes that are counted one by one: those of the header and the first extended ones, as
/// far as BADCOOKIE, 23.
pub const RCODES: usize = 24;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of one worker; on cache lines of their own.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counters {
            $($name: AtomicU64,)*
            rcodes: [AtomicU64; RCODES],
        }

        /// Counts, of a worker since it last told them, or added up over workers.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[$doc])* pub $name: u64,)*
            /// Responses by code.
            pub rcodes: [u64; RCODES],
        }

        impl Counters {
            fn pairs<'c>(&'c self, totals: &'c mut Totals) -> impl Iterator<Item = (&'c AtomicU64, &'c mut u64)> {
                let named = [$((&self.$name, &mut totals.$name),)*];
                named.into_iter().chain(self.rcodes.iter().zip(&mut totals.rcodes))
            }
        }

        impl Totals {
            /// The counts by name; response codes not among them.
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
    /// Octets of responses.
    octets_out,
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
            if *count != 0 {
                counter.fetch_add(std::mem::take(count), Ordering::Relaxed);
            }
        }
    }
}

impl Totals {
    /// Counts a response by its size and code.
    pub(super) fn response(&mut self, octets: usize, rcode: Rcode) {
        self.octets_out += octets as u64;
        if let Some(count) = self.rcodes.get_mut(usize::from(rcode.0)) {
            *count += 1;
        }
    }

    /// Adds up the counters of several workers.
    pub fn of<'c>(counters: impl IntoIterator<Item = &'c Counters>) -> Self {
        let mut totals = Self::default();
        for one in counters {
            for (counter, total) in one.pairs(&mut totals) {
                *total += counter.load(Ordering::Relaxed);
            }
        }
        totals
    }
}
