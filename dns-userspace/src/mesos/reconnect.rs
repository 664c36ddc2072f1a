//! When to try again after a stream was lost, and when a stream that has just begun may be
//! published. Pure: the time and the random numbers are given.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::events::Event;
use super::objects::ClusterState;

/// Times of reconnecting.
#[derive(Debug, Clone, Copy)]
pub struct ReconnectTimes {
    /// The shortest wait once waiting is due.
    pub shortest: Duration,
    /// The longest wait.
    pub longest: Duration,
}

/// Those of dcos-net.
impl Default for ReconnectTimes {
    fn default() -> Self {
        Self {
            shortest: Duration::from_secs(2),
            longest: Duration::from_secs(30),
        }
    }
}

/// Waits between attempts: none after a stream that lasted, then longer and longer ones.
#[derive(Debug, Clone)]
pub(super) struct Reconnect {
    times: ReconnectTimes,
    attempts: u32,
}

impl Reconnect {
    pub(super) const fn new(times: ReconnectTimes) -> Self {
        Self { times, attempts: 0 }
    }

    /// The wait after a stream that lasted for `lived`, or `None` for an attempt that led to no
    /// stream. A stream counts as lasting if it outlived the longest wait: a master whose streams
    /// end at once is not asked all the time. `random` is from 0 to 1.
    pub(super) fn wait(&mut self, lived: Option<Duration>, random: f64) -> Duration {
        if lived.is_some_and(|lived| lived >= self.times.longest) {
            self.attempts = 0;
        }
        let attempt = self.attempts;
        self.attempts = attempt.saturating_add(1);
        if attempt == 0 && lived.is_some() {
            return Duration::ZERO;
        }
        let shortest = self.times.shortest;
        let longest = self.times.longest.max(shortest);
        let bound = shortest
            .saturating_mul(2u32.saturating_pow(attempt.min(20)))
            .min(longest);
        shortest + (bound - shortest).mul_f64(random.clamp(0.0, 1.0))
    }
}

/// Times that records are held back after a fail-over of the masters.
#[derive(Debug, Clone, Copy)]
pub struct ReadinessTimes {
    /// The longest wait for the agents that a master has read from its registry.
    pub agents: Duration,
    /// The wait after that.
    pub settle: Duration,
}

/// Those of dcos-net.
impl Default for ReadinessTimes {
    fn default() -> Self {
        Self {
            agents: Duration::from_secs(600),
            settle: Duration::from_secs(10),
        }
    }
}

/// Holds a stream back until its picture of the cluster is whole: a master that has just become
/// leader does not know the tasks of agents that have not registered with it again.
#[derive(Debug)]
pub(super) struct Readiness {
    awaited: HashSet<String>,
    settle: Duration,
    /// When the wait is over, given what is known.
    until: Instant,
}

impl Readiness {
    pub(super) fn new(state: Option<&ClusterState>, times: ReadinessTimes, now: Instant) -> Self {
        let mut awaited: HashSet<String> = state
            .map(ClusterState::recovered_agents)
            .unwrap_or_default()
            .iter()
            .filter_map(|agent| agent.id.clone())
            .collect();
        // A master may list an agent among both: it has come back already.
        for agent in state.map(ClusterState::agents).unwrap_or_default() {
            if let Some(id) = &agent.info.id {
                awaited.remove(id);
            }
        }
        let agents = if awaited.is_empty() {
            Duration::ZERO
        } else {
            times.agents
        };
        Self {
            awaited,
            settle: times.settle,
            until: now + agents + times.settle,
        }
    }

    /// Takes note of agents that have come back or are gone for good.
    pub(super) fn note(&mut self, event: &Event, now: Instant) {
        let id = match event {
            Event::AgentAdded(agent) => agent.info.id.as_deref(),
            Event::AgentRemoved(id) => Some(id.as_str()),
            _ => None,
        };
        let last = id.is_some_and(|id| self.awaited.remove(id)) && self.awaited.is_empty();
        if last {
            self.until = self.until.min(now + self.settle);
        }
    }

    /// When the stream may be published, as far as is known.
    pub(super) const fn until(&self) -> Instant {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_first_attempt_after_a_lasting_stream_is_at_once() {
        let mut reconnect = Reconnect::new(ReconnectTimes::default());
        assert_eq!(reconnect.wait(Some(seconds(300)), 1.0), Duration::ZERO);
        let waits: Vec<_> = (0..6).map(|_| reconnect.wait(None, 1.0)).collect();
        assert_eq!(waits, [4, 8, 16, 30, 30, 30].map(seconds));
        assert_eq!(reconnect.wait(None, 0.0), seconds(2));
        assert_eq!(reconnect.wait(Some(seconds(31)), 1.0), Duration::ZERO);
    }

    #[test]
    fn streams_that_end_at_once_are_not_asked_for_all_the_time() {
        let mut reconnect = Reconnect::new(ReconnectTimes::default());
        let waits: Vec<_> = (0..6)
            .map(|_| reconnect.wait(Some(seconds(1)), 1.0))
            .collect();
        assert_eq!(waits, [0, 4, 8, 16, 30, 30].map(seconds));
    }

    fn recovered(ids: &[&str]) -> ClusterState {
        let agents: Vec<_> = ids
            .iter()
            .map(|id| serde_json::json!({"id": {"value": id}}))
            .collect();
        let state = serde_json::json!({"get_agents": {"recovered_agents": agents}});
        serde_json::from_value(state).unwrap()
    }

    fn event(json: &str) -> Event {
        Event::from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn recovered_agents_are_awaited() {
        let now = Instant::now();
        let times = ReadinessTimes::default();
        let mut readiness = Readiness::new(Some(&recovered(&["S0", "S1"])), times, now);
        assert_eq!(readiness.until() - now, seconds(610));
        let added = r#"{"type":"AGENT_ADDED","agent_added":{"agent":{"agent_info":{"id":{"value":"S0"}}}}}"#;
        readiness.note(&event(added), now + seconds(5));
        readiness.note(&event(added), now + seconds(6));
        assert_eq!(readiness.until() - now, seconds(610));
        let removed = r#"{"type":"AGENT_REMOVED","agent_removed":{"agent_id":{"value":"S1"}}}"#;
        readiness.note(&event(removed), now + seconds(20));
        assert_eq!(readiness.until() - now, seconds(30));
        readiness.note(&event(added), now + seconds(25));
        assert_eq!(readiness.until() - now, seconds(30));
    }

    #[test]
    fn recovered_agents_that_have_registered_are_not_awaited() {
        let now = Instant::now();
        let until = |agents: &str| {
            let state = format!(
                r#"{{"get_agents":{{"agents":[{agents}],
                    "recovered_agents":[{{"hostname":"172.17.0.4","id":{{"value":"S0"}}}}]}}}}"#
            );
            let state = serde_json::from_str(&state).unwrap();
            Readiness::new(Some(&state), ReadinessTimes::default(), now).until() - now
        };
        let agent = |id: &str| {
            format!(r#"{{"agent_info":{{"hostname":"172.17.0.4","id":{{"value":"{id}"}}}}}}"#)
        };
        assert_eq!(until(&agent("S0")), seconds(10));
        assert_eq!(until(&agent("S1")), seconds(610));
    }

    #[test]
    fn without_recovered_agents_only_the_settling_is_awaited() {
        let now = Instant::now();
        let readiness = Readiness::new(None, ReadinessTimes::default(), now);
        assert_eq!(readiness.until() - now, seconds(10));
    }
}
