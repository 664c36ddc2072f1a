//! Zones between servers: given to secondaries (AXFR of RFC 5936, IXFR of RFC 1995, NOTIFY of RFC
//! 1996), and taken from primaries.
//!
//! As a primary, [`Versions`] keeps serials and the last changes, [`Responder`] answers who may
//! transfer, and a [`Notifier`] tells secondaries that there is news. As a secondary, [`Secondaries`]
//! keeps zones by the timers of their SOA, and hands on what comes. Signatures (RFC 8945) are
//! checked and made on the octets of messages, by `tsig`.

mod fetch;
#[cfg(fuzzing)]
pub mod fuzzing;
mod history;
mod incoming;
mod ledger;
mod notify;
mod outgoing;
mod prefix;
mod respond;
mod secondary;
mod store;
mod tsig;
mod versions;
mod wire;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

pub use incoming::{Changes, Incoming, Unusable, Whole};
pub use notify::{Notifier, Target};
pub use outgoing::Outgoing;
pub use prefix::{BadPrefix, Prefix};
pub use respond::{Access, Allowed, Hearing, Responder, Response};
pub use secondary::{Health, Secondaries, Take, Taken, Zone as SecondaryZone};
pub use tsig::{Algorithm, Key, Keys, Unbelieved};
pub use versions::Versions;

/// What was done so far. All of it only grows.
#[derive(Debug, Default)]
pub struct Counters {
    whole_out: AtomicU64,
    changes_out: AtomicU64,
    broken_out: AtomicU64,
    refused: AtomicU64,
    unbelieved: AtomicU64,
    notifies_sent: AtomicU64,
    notifies_acknowledged: AtomicU64,
    notifies_failed: AtomicU64,
    notifies_received: AtomicU64,
    whole_in: AtomicU64,
    changes_in: AtomicU64,
    refreshes: AtomicU64,
    refreshes_failed: AtomicU64,
}

/// [`Counters`] at one moment, by name.
pub type Totals = [(&'static str, u64); 13];

impl Counters {
    /// Reads them all.
    #[must_use]
    pub fn totals(&self) -> Totals {
        [
            ("axfr_out", &self.whole_out),
            ("ixfr_out", &self.changes_out),
            ("broken_off", &self.broken_out),
            ("refused", &self.refused),
            ("tsig_errors", &self.unbelieved),
            ("notify_sent", &self.notifies_sent),
            ("notify_acknowledged", &self.notifies_acknowledged),
            ("notify_failed", &self.notifies_failed),
            ("notify_received", &self.notifies_received),
            ("axfr_in", &self.whole_in),
            ("ixfr_in", &self.changes_in),
            ("refreshes", &self.refreshes),
            ("refreshes_failed", &self.refreshes_failed),
        ]
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Seconds since 1970.
fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
