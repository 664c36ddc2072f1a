//! The time by which TTLs and health are counted: monotonic, and moved forward by tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Milliseconds since the clock was made. Copies are the same clock.
#[derive(Debug, Clone)]
pub struct Clock {
    start: Instant,
    ahead: Arc<AtomicU64>,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            ahead: Arc::default(),
        }
    }
}

impl Clock {
    /// Milliseconds, never less than before.
    #[must_use]
    pub fn now(&self) -> u64 {
        millis(self.start.elapsed()).saturating_add(self.ahead.load(Ordering::Relaxed))
    }

    /// Moves the time forward, for all copies.
    pub fn advance(&self, by: Duration) {
        self.ahead.fetch_add(millis(by), Ordering::Relaxed);
    }
}

/// Whole milliseconds, at most what 64 bits hold.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
