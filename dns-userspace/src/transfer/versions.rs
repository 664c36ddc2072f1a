//! The versions of our zones: their serials, their last changes, and the news that there is
//! another one.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::Counters;
use super::history::History;
use super::ledger::Ledger;
use crate::zones::{Diff, Editor, Name, Snapshot};

/// Shared by the one who publishes and those who transfer. Outlives a reload.
#[derive(Debug)]
pub struct Versions {
    ledger: Mutex<Ledger>,
    pub(super) history: History,
    pub(super) counters: Counters,
    news: watch::Sender<u64>,
}

impl Versions {
    /// Goes on from what was kept in `directory`. For each zone the changes of `history_names`
    /// names are kept for IXFR.
    #[must_use]
    pub fn open(directory: &Path, history_names: usize) -> Self {
        Self {
            ledger: Mutex::new(Ledger::open(directory)),
            history: History::new(history_names),
            counters: Counters::default(),
            news: watch::Sender::new(0),
        }
    }

    /// The serial that a zone begins with; 0 for one without a past.
    #[must_use]
    pub fn serial(&self, apex: &Name) -> u32 {
        let ledger = self.ledger.lock();
        ledger.unwrap_or_else(PoisonError::into_inner).serial(apex)
    }

    /// Takes in a commit, before its snapshot is served in place of `served`. A zone that is again
    /// what it was before a restart gets its serial back; then the difference is another, and
    /// returned. `now` is in seconds since 1970.
    pub fn enter(
        &self,
        editor: &mut Editor,
        served: &Snapshot,
        diff: &Diff,
        now: u32,
    ) -> Option<Diff> {
        let ledger = self.ledger.lock();
        let mut ledger = ledger.unwrap_or_else(PoisonError::into_inner);
        ledger.enter(editor, served, diff, &self.history, now)
    }

    /// Says that another snapshot is served.
    pub fn announce(&self) {
        self.news
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Changes with each [`Self::announce`].
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// What was done so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }
}
