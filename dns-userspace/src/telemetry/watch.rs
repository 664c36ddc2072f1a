//! Who watches, and what is handed to them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::{broadcast, watch};

use super::frame::{Frame, Seen};

/// Samples that a slow watcher may be behind; then it misses some.
const BACKLOG: usize = 1024;

/// A packet or query taken at random from many.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When it was handed over.
    pub at: SystemTime,
    /// What is asked, where that could be read.
    pub seen: Option<Seen>,
    /// The frame, of what passed the XDP program.
    pub frame: Option<Frame>,
}

/// Where samples come together. Whoever has packets asks [`Self::every`], and hands over one of so
/// many; 0 means none.
#[derive(Debug)]
pub struct Watch {
    samples: broadcast::Sender<Sample>,
    every: AtomicU32,
    /// As `every`, for the server; 0 where its queries have been handed over before.
    of_server: AtomicU32,
    changes: watch::Sender<u32>,
    /// Watchers by what they want.
    wanted: Mutex<BTreeMap<u32, usize>>,
}

/// One who watches, until this is dropped.
#[derive(Debug)]
pub struct Watcher {
    watch: Arc<Watch>,
    every: u32,
    samples: broadcast::Receiver<Sample>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            samples: broadcast::Sender::new(BACKLOG),
            every: AtomicU32::new(0),
            of_server: AtomicU32::new(0),
            changes: watch::Sender::new(0),
            wanted: Mutex::default(),
        }
    }
}

impl Watch {
    /// One of how many packets is wanted; 0 if none is.
    #[must_use]
    pub fn every(&self) -> u32 {
        self.every.load(Ordering::Relaxed)
    }

    /// One of how many queries that reach the server is wanted; 0 if none is.
    #[must_use]
    pub fn of_server(&self) -> u32 {
        self.of_server.load(Ordering::Relaxed)
    }

    /// Has the server hand over one of so many queries.
    pub fn ask_server(&self, every: u32) {
        self.of_server.store(every, Ordering::Relaxed);
    }

    /// Tells of changes of [`Self::every`].
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u32> {
        self.changes.subscribe()
    }

    /// Starts to watch one of every `every` packets, or more of them if somebody else wants more.
    #[must_use]
    pub fn watch(self: &Arc<Self>, every: u32) -> Watcher {
        let every = every.max(1);
        let samples = self.samples.subscribe();
        self.change(|wanted| *wanted.entry(every).or_default() += 1);
        Watcher {
            watch: Arc::clone(self),
            every,
            samples,
        }
    }

    /// Hands a sample to all who watch.
    pub fn hand_over(&self, sample: Sample) {
        // Without watchers it is lost.
        let _ = self.samples.send(sample);
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<u32, usize>)) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut wanted);
        let every = wanted.keys().next().copied().unwrap_or(0);
        self.every.store(every, Ordering::Relaxed);
        self.changes.send_if_modified(|before| {
            let differs = *before != every;
            *before = every;
            differs
        });
    }
}

impl Watcher {
    /// The next sample; `None` if the daemon ends. A watcher that is too slow misses some.
    pub async fn next(&mut self) -> Option<Sample> {
        loop {
            match self.samples.recv().await {
                Ok(sample) => return Some(sample),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// How many packets a sample stands for at present.
    #[must_use]
    pub fn stands_for(&self) -> u32 {
        self.watch.every()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let every = self.every;
        self.watch.change(|wanted| {
            if let Some(count) = wanted.get_mut(&every) {
                *count -= 1;
                if *count == 0 {
                    wanted.remove(&every);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_wanted_counts_and_ends_with_its_watcher() {
        let watch = Arc::new(Watch::default());
        let mut changes = watch.changes();
        assert_eq!(watch.every(), 0);
        let coarse = watch.watch(64);
        let fine = watch.watch(8);
        assert_eq!((watch.every(), coarse.stands_for()), (8, 8));
        drop(fine);
        assert_eq!(watch.every(), 64);
        drop(coarse);
        assert_eq!(watch.every(), 0);
        assert_eq!(*changes.borrow_and_update(), 0);
    }

    #[tokio::test]
    async fn every_watcher_gets_every_sample() {
        let watch = Arc::new(Watch::default());
        let (mut one, mut other) = (watch.watch(1), watch.watch(1));
        watch.hand_over(Sample {
            at: SystemTime::UNIX_EPOCH,
            seen: None,
            frame: None,
        });
        assert_eq!(one.next().await.unwrap().at, SystemTime::UNIX_EPOCH);
        assert_eq!(other.next().await.unwrap().at, SystemTime::UNIX_EPOCH);
    }
}
