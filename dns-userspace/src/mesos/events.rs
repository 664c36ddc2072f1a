//! The events of the Mesos v1 operator API, as far as they are read. Also the answer to the
//! `GET_STATE` call, which has the same content as the first event of a stream.
//!
//! Reading is tolerant: a value of the wrong type counts as absent, a record without its id is
//! left for the task model to skip, an event that is not known is [`Event::Other`].

use std::time::Duration;

use serde::Deserialize;

use super::lenient;
use super::objects::{
    AgentObject, ClusterState, FrameworkInfo, FrameworkObject, TaskObject, TaskUpdate,
};

/// One event of a stream.
#[derive(Debug, Clone)]
pub enum Event {
    /// The first event: the whole state.
    Subscribed(Box<Subscribed>),
    /// The answer to `GET_STATE`: the whole state.
    State(Box<ClusterState>),
    /// A sign of life.
    Heartbeat,
    /// A task as the master knows it.
    TaskAdded(Box<TaskObject>),
    /// A task's status.
    TaskUpdated(Box<TaskUpdate>),
    /// A framework is there, or has changed.
    FrameworkUpdated(FrameworkInfo),
    /// The framework with this id is gone.
    FrameworkRemoved(String),
    /// An agent has registered, perhaps again.
    AgentAdded(Box<AgentObject>),
    /// The agent with this id is gone.
    AgentRemoved(String),
    /// An event of another type, or one without its content; its type.
    Other(String),
}

/// A record that is no event at all.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The record is no JSON.
    #[error("a record is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The record is JSON, but no object.
    #[error("a record is no JSON object")]
    NoObject,
}

/// The first event of a stream.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Subscribed {
    /// Seconds between heartbeats.
    #[serde(deserialize_with = "lenient::float")]
    heartbeat_interval_seconds: Option<f64>,
    #[serde(deserialize_with = "lenient::object")]
    get_state: Option<ClusterState>,
}

impl Subscribed {
    /// The time between heartbeats, if it is given and sensible (at most an hour).
    #[must_use]
    pub fn heartbeat_interval(&self) -> Option<Duration> {
        self.heartbeat_interval_seconds
            .filter(|seconds| *seconds > 0.0 && *seconds <= 3600.0)
            .map(Duration::from_secs_f64)
    }

    /// The state at the time of subscription.
    #[must_use]
    pub fn into_state(self) -> ClusterState {
        self.get_state.unwrap_or_default()
    }

    /// The state at the time of subscription.
    #[must_use]
    pub const fn state(&self) -> Option<&ClusterState> {
        self.get_state.as_ref()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Envelope {
    #[serde(rename = "type", deserialize_with = "lenient::text")]
    kind: Option<String>,
    #[serde(deserialize_with = "lenient::object")]
    subscribed: Option<Subscribed>,
    #[serde(deserialize_with = "lenient::object")]
    get_state: Option<ClusterState>,
    #[serde(deserialize_with = "lenient::object")]
    task_added: Option<TaskAdded>,
    #[serde(deserialize_with = "lenient::object")]
    task_updated: Option<TaskUpdate>,
    #[serde(deserialize_with = "lenient::object")]
    framework_added: Option<FrameworkEvent>,
    #[serde(deserialize_with = "lenient::object")]
    framework_updated: Option<FrameworkEvent>,
    #[serde(deserialize_with = "lenient::object")]
    framework_removed: Option<FrameworkObject>,
    #[serde(deserialize_with = "lenient::object")]
    agent_added: Option<AgentEvent>,
    #[serde(deserialize_with = "lenient::object")]
    agent_removed: Option<AgentRemoved>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TaskAdded {
    #[serde(deserialize_with = "lenient::object")]
    task: Option<TaskObject>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FrameworkEvent {
    #[serde(deserialize_with = "lenient::object")]
    framework: Option<FrameworkObject>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AgentEvent {
    #[serde(deserialize_with = "lenient::object")]
    agent: Option<AgentObject>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AgentRemoved {
    #[serde(deserialize_with = "lenient::id")]
    agent_id: Option<String>,
}

impl Event {
    /// A name for each number that [`Self::kind`] gives: the type as Mesos writes it.
    pub const KINDS: [&str; 9] = [
        "SUBSCRIBED",
        "HEARTBEAT",
        "TASK_ADDED",
        "TASK_UPDATED",
        "FRAMEWORK_UPDATED",
        "FRAMEWORK_REMOVED",
        "AGENT_ADDED",
        "AGENT_REMOVED",
        "other",
    ];

    /// Which of [`Self::KINDS`] it is; a framework that was added counts as updated.
    #[must_use]
    pub const fn kind(&self) -> usize {
        match self {
            Self::Subscribed(_) => 0,
            Self::Heartbeat => 1,
            Self::TaskAdded(_) => 2,
            Self::TaskUpdated(_) => 3,
            Self::FrameworkUpdated(_) => 4,
            Self::FrameworkRemoved(_) => 5,
            Self::AgentAdded(_) => 6,
            Self::AgentRemoved(_) => 7,
            Self::State(_) | Self::Other(_) => 8,
        }
    }

    /// Reads one record of a stream, or a `GET_STATE` answer.
    ///
    /// # Errors
    /// If the record is no JSON object.
    pub fn from_json(record: &[u8]) -> Result<Self, EventError> {
        let mut reader = serde_json::Deserializer::from_slice(record);
        let envelope: Option<Envelope> = lenient::object(&mut reader)?;
        reader.end()?;
        let envelope = envelope.ok_or(EventError::NoObject)?;
        let kind = envelope.kind.unwrap_or_default();
        let event = match kind.as_str() {
            "SUBSCRIBED" => envelope.subscribed.map(|s| Self::Subscribed(Box::new(s))),
            "GET_STATE" => envelope.get_state.map(|s| Self::State(Box::new(s))),
            "HEARTBEAT" => Some(Self::Heartbeat),
            "TASK_ADDED" => envelope
                .task_added
                .and_then(|added| added.task)
                .map(|task| Self::TaskAdded(Box::new(task))),
            "TASK_UPDATED" => envelope
                .task_updated
                .map(|u| Self::TaskUpdated(Box::new(u))),
            "FRAMEWORK_ADDED" => framework(envelope.framework_added),
            "FRAMEWORK_UPDATED" => framework(envelope.framework_updated),
            // One level shallower than the other two.
            "FRAMEWORK_REMOVED" => envelope
                .framework_removed
                .and_then(|removed| removed.framework_info?.id)
                .map(Self::FrameworkRemoved),
            "AGENT_ADDED" => envelope
                .agent_added
                .and_then(|added| added.agent)
                .filter(|agent| agent.info.id.is_some())
                .map(|agent| Self::AgentAdded(Box::new(agent))),
            "AGENT_REMOVED" => envelope
                .agent_removed
                .and_then(|removed| removed.agent_id)
                .map(Self::AgentRemoved),
            _ => None,
        };
        Ok(event.unwrap_or(Self::Other(kind)))
    }

    /// The host names of agents the event tells of: what a resolver may have to look up before
    /// the event is applied.
    pub fn hostnames(&self) -> impl Iterator<Item = &str> {
        let (state, agent) = match self {
            Self::Subscribed(subscribed) => (subscribed.state(), None),
            Self::State(state) => (Some(&**state), None),
            Self::AgentAdded(agent) => (None, Some(&**agent)),
            _ => (None, None),
        };
        state
            .into_iter()
            .flat_map(ClusterState::agents)
            .chain(agent)
            .filter_map(|agent| agent.info.hostname.as_deref())
    }
}

fn framework(event: Option<FrameworkEvent>) -> Option<Event> {
    event?
        .framework?
        .framework_info
        .map(Event::FrameworkUpdated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_without_their_content_are_of_no_known_kind() {
        for json in [
            r#"{"type":"TASK_ADDED"}"#,
            r#"{"type":"TASK_ADDED","task_added":{"task":7}}"#,
            r#"{"type":"AGENT_ADDED","agent_added":{"agent":{}}}"#,
            r#"{"type":"FRAMEWORK_REMOVED","framework_removed":[]}"#,
            r#"{"type":"AGENT_REMOVED","agent_removed":{"agent_id":"S0"}}"#,
            r#"{"type":"SOMETHING_ELSE","something":{}}"#,
            "{}",
        ] {
            let event = Event::from_json(json.as_bytes()).unwrap();
            assert!(matches!(event, Event::Other(_)), "{json}: {event:?}");
        }
    }

    #[test]
    fn kinds_are_called_as_mesos_calls_them() {
        for (json, kind) in [
            (r#"{"type":"SUBSCRIBED","subscribed":{}}"#, "SUBSCRIBED"),
            (r#"{"type":"HEARTBEAT"}"#, "HEARTBEAT"),
            (
                r#"{"type":"TASK_ADDED","task_added":{"task":{}}}"#,
                "TASK_ADDED",
            ),
            (
                r#"{"type":"TASK_UPDATED","task_updated":{}}"#,
                "TASK_UPDATED",
            ),
            (
                r#"{"type":"FRAMEWORK_ADDED","framework_added":{"framework":{"framework_info":{}}}}"#,
                "FRAMEWORK_UPDATED",
            ),
            (
                r#"{"type":"FRAMEWORK_REMOVED","framework_removed":{"framework_info":{"id":{"value":"F"}}}}"#,
                "FRAMEWORK_REMOVED",
            ),
            (
                r#"{"type":"AGENT_ADDED","agent_added":{"agent":{"agent_info":{"id":{"value":"S"}}}}}"#,
                "AGENT_ADDED",
            ),
            (
                r#"{"type":"AGENT_REMOVED","agent_removed":{"agent_id":{"value":"S"}}}"#,
                "AGENT_REMOVED",
            ),
            (r#"{"type":"SOMETHING_ELSE"}"#, "other"),
        ] {
            let event = Event::from_json(json.as_bytes()).unwrap();
            assert_eq!(Event::KINDS[event.kind()], kind, "{json}");
        }
    }

    #[test]
    fn what_is_no_event_is_an_error() {
        for json in ["", "7", "[]", "{\"type\":", "null", "{} {}"] {
            assert!(Event::from_json(json.as_bytes()).is_err(), "{json}");
        }
    }

    #[test]
    fn one_bad_record_harms_only_itself() {
        let json = r#"{"type":"SUBSCRIBED","subscribed":{"heartbeat_interval_seconds":"often","get_state":{
            "get_agents":{"agents":[null,{"agent_info":[]},{"agent_info":{"id":{"value":"S0"},"hostname":5}}],
                "recovered_agents":"none"},
            "get_frameworks":7,
            "get_tasks":{"tasks":[{"name":["x"],"task_id":{"value":"t"},"statuses":[{"timestamp":"x"}]},3]}}}}"#;
        let Event::Subscribed(subscribed) = Event::from_json(json.as_bytes()).unwrap() else {
            panic!("not subscribed");
        };
        assert_eq!(subscribed.heartbeat_interval(), None);
        let state = subscribed.into_state();
        assert_eq!(
            state
                .agents()
                .iter()
                .filter(|one| one.info.id.is_some())
                .count(),
            1
        );
        assert_eq!(state.frameworks().count(), 0);
        assert!(state.recovered_agents().is_empty());
        assert_eq!(state.tasks().len(), 1);
        assert_eq!(state.tasks()[0].task_id.as_deref(), Some("t"));
        assert_eq!(state.tasks()[0].name, None);
    }
}
