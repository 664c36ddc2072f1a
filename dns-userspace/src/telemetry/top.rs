//! Who asks most, and what for: sketches over the last seconds, kept while somebody asks for them.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::frame::Seen;
use super::top_k::TopK;
use super::watch::{Watch, Watcher};
use crate::zones::Name;

/// Counters of a sketch: more than are shown, so that those are right.
const COUNTERS: usize = 512;
/// How many are shown.
const SHOWN: usize = 20;
/// What a ranking looks back on.
const WINDOW: Duration = Duration::from_secs(5);
/// Who has not asked for so long no longer watches.
const PATIENCE: Duration = Duration::from_secs(15);
/// One of so many packets is looked at.
const EVERY: u32 = 16;

/// A name or client and its queries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// The name, or the client's address.
    pub of: String,
    /// Queries a second, estimated.
    pub per_second: f64,
    /// Its share of all, 0 to 1.
    pub share: f64,
}

/// What is asked for most, and who asks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Top {
    /// Seconds that are looked back on; 0 until the first are over.
    pub seconds: f64,
    /// Packets that were looked at.
    pub samples: u64,
    /// One of how many.
    pub every: u32,
    /// Names and types, the most frequent first.
    pub names: Vec<Ranking>,
    /// Clients, the most frequent first.
    pub clients: Vec<Ranking>,
}

/// Keeps the sketches. Cheap where nobody asks.
#[derive(Debug)]
pub struct TopService {
    watch: Arc<Watch>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    asked: Option<Instant>,
    running: bool,
    last: Top,
}

impl TopService {
    /// A service over what is handed to `watch`.
    #[must_use]
    pub fn new(watch: Arc<Watch>) -> Self {
        Self {
            watch,
            state: Arc::default(),
        }
    }

    /// The ranking of the last window. Must be called within a tokio runtime.
    #[must_use]
    pub fn ask(&self) -> Top {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked = Some(Instant::now());
        if !state.running {
            state.running = true;
            state.last = Top::default();
            tokio::spawn(keep(self.watch.watch(EVERY), Arc::clone(&self.state)));
        }
        state.last.clone()
    }
}

/// Keeps sketches until nobody asks for them.
async fn keep(mut watcher: Watcher, state: Arc<Mutex<State>>) {
    let mut window = Window::new();
    let mut turn = tokio::time::interval(WINDOW);
    turn.tick().await;
    loop {
        tokio::select! {
            sample = watcher.next() => match sample {
                Some(sample) => if let Some(seen) = sample.seen { window.add(seen) },
                None => return,
            },
            _ = turn.tick() => {
                let full = std::mem::replace(&mut window, Window::new());
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                state.last = full.top(watcher.stands_for());
                if state.asked.is_none_or(|asked| asked.elapsed() > PATIENCE) {
                    state.running = false;
                    return;
                }
            }
        }
    }
}

/// The sketches of some seconds.
struct Window {
    since: Instant,
    names: TopK<(Name, u16)>,
    clients: TopK<IpAddr>,
}

impl Window {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            names: TopK::new(COUNTERS),
            clients: TopK::new(COUNTERS),
        }
    }

    fn add(&mut self, seen: Seen) {
        self.names.add((seen.name, seen.rtype.0));
        self.clients.add(seen.client);
    }

    fn top(&self, every: u32) -> Top {
        let seconds = self.since.elapsed().as_secs_f64();
        let samples = self.names.total();
        let ranking = |of: String, count: u64| Ranking {
            of,
            per_second: count as f64 * f64::from(every) / seconds.max(f64::EPSILON),
            share: count as f64 / samples.max(1) as f64,
        };
        let names = self.names.first(SHOWN).into_iter();
        let clients = self.clients.first(SHOWN).into_iter();
        Top {
            seconds,
            samples,
            every,
            names: names
                .map(|((name, rtype), count, _)| {
                    ranking(format!("{name} {}", crate::zones::Rtype(rtype)), count)
                })
                .collect(),
            clients: clients
                .map(|(client, count, _)| ranking(client.to_string(), count))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::telemetry::Sample;
    use crate::zones::Rtype;

    fn sample(name: &str, client: [u8; 4]) -> Sample {
        Sample {
            at: SystemTime::UNIX_EPOCH,
            seen: Some(Seen {
                client: client.into(),
                name: Name::from_text(name).unwrap(),
                rtype: Rtype::A,
            }),
            frame: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_ranking_comes_while_it_is_asked_for() {
        let watch = Arc::new(Watch::default());
        let service = TopService::new(Arc::clone(&watch));
        assert_eq!(watch.every(), 0);
        assert_eq!(service.ask(), Top::default());
        assert_eq!(watch.every(), EVERY);
        tokio::task::yield_now().await;
        for number in 0..10 {
            let name = if number < 7 { "web.mesos" } else { "db.mesos" };
            watch.hand_over(sample(name, [192, 0, 2, number]));
        }
        tokio::time::sleep(WINDOW + Duration::from_millis(1)).await;
        let top = service.ask();
        assert_eq!((top.samples, top.every), (10, EVERY));
        let of: Vec<&str> = top.names.iter().map(|one| one.of.as_str()).collect();
        assert_eq!(of, ["web.mesos. A", "db.mesos. A"]);
        assert!((top.names[0].share - 0.7).abs() < 1e-9);
        assert_eq!(top.clients.len(), 10);
    }
}
