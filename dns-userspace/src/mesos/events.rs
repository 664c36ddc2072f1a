//! The events of the Mesos v1 operator API, as far as they are read. Also the answer to the
//! `GET_STATE` call, which has the same content as the first event of a stream.
//!
//! Reading is tolerant: a value of the wrong type counts as absent, a record without its id is
//! left for the task model to skip, an event that is not known is [`Event::Other`].

use std::time::Duration;

use serde::Deserialize;

use super::lenient;

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
    AgentAdded(AgentInfo),
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

/// Everything the master knows, as far as it is read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ClusterState {
    #[serde(deserialize_with = "lenient::object")]
    get_agents: Option<Agents>,
    #[serde(deserialize_with = "lenient::object")]
    get_frameworks: Option<Frameworks>,
    #[serde(deserialize_with = "lenient::object")]
    get_tasks: Option<Tasks>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Agents {
    #[serde(deserialize_with = "lenient::list")]
    agents: Option<Vec<AgentObject>>,
    #[serde(deserialize_with = "lenient::list")]
    recovered_agents: Option<Vec<AgentInfo>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct AgentObject {
    #[serde(deserialize_with = "lenient::object")]
    agent_info: Option<AgentInfo>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Frameworks {
    #[serde(deserialize_with = "lenient::list")]
    frameworks: Option<Vec<FrameworkObject>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct FrameworkObject {
    #[serde(deserialize_with = "lenient::object")]
    framework_info: Option<FrameworkInfo>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Tasks {
    #[serde(deserialize_with = "lenient::list")]
    tasks: Option<Vec<TaskObject>>,
    /// Where an agent's own `GET_STATE` answer has them.
    #[serde(deserialize_with = "lenient::list")]
    launched_tasks: Option<Vec<TaskObject>>,
}

impl ClusterState {
    /// Registered agents.
    pub fn agents(&self) -> impl Iterator<Item = &AgentInfo> {
        let agents = self.get_agents.as_ref().and_then(|a| a.agents.as_deref());
        agents
            .unwrap_or_default()
            .iter()
            .filter_map(|agent| agent.agent_info.as_ref())
    }

    /// Agents a master has read from its registry after a fail-over and not yet heard of.
    #[must_use]
    pub fn recovered_agents(&self) -> &[AgentInfo] {
        self.get_agents
            .as_ref()
            .and_then(|agents| agents.recovered_agents.as_deref())
            .unwrap_or_default()
    }

    /// Frameworks.
    pub fn frameworks(&self) -> impl Iterator<Item = &FrameworkInfo> {
        let frameworks = self
            .get_frameworks
            .as_ref()
            .and_then(|f| f.frameworks.as_deref());
        frameworks
            .unwrap_or_default()
            .iter()
            .filter_map(|framework| framework.framework_info.as_ref())
    }

    /// Tasks; completed, orphaned and unreachable ones are not among them.
    #[must_use]
    pub fn tasks(&self) -> &[TaskObject] {
        self.get_tasks
            .as_ref()
            .and_then(|tasks| tasks.tasks.as_deref().or(tasks.launched_tasks.as_deref()))
            .unwrap_or_default()
    }
}

/// What an agent says of itself.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct AgentInfo {
    /// The id, without which the record is skipped.
    #[serde(deserialize_with = "lenient::id")]
    pub id: Option<String>,
    /// A host name or an address.
    #[serde(deserialize_with = "lenient::text")]
    pub hostname: Option<String>,
}

/// What a framework says of itself.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct FrameworkInfo {
    /// The id, without which the record is skipped.
    #[serde(deserialize_with = "lenient::id")]
    pub id: Option<String>,
    /// The name.
    #[serde(deserialize_with = "lenient::text")]
    pub name: Option<String>,
}

/// A change of a task's status.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct TaskUpdate {
    /// The framework of the task.
    #[serde(deserialize_with = "lenient::id")]
    pub framework_id: Option<String>,
    /// The latest state, which may be ahead of the one in the status.
    #[serde(deserialize_with = "lenient::text")]
    pub state: Option<String>,
    /// The status, which carries the task's id.
    #[serde(deserialize_with = "lenient::object")]
    pub status: Option<TaskStatus>,
}

/// A task.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct TaskObject {
    /// The Mesos name.
    #[serde(deserialize_with = "lenient::text")]
    pub name: Option<String>,
    /// The id within the framework.
    #[serde(deserialize_with = "lenient::id")]
    pub task_id: Option<String>,
    /// The framework.
    #[serde(deserialize_with = "lenient::id")]
    pub framework_id: Option<String>,
    /// The agent it runs on.
    #[serde(deserialize_with = "lenient::id")]
    pub agent_id: Option<String>,
    /// The state, `TASK_RUNNING` and so on.
    #[serde(deserialize_with = "lenient::text")]
    pub state: Option<String>,
    /// The statuses so far, in no certain order.
    #[serde(deserialize_with = "lenient::list")]
    pub statuses: Option<Vec<TaskStatus>>,
    /// The container it asks for.
    #[serde(deserialize_with = "lenient::object")]
    pub container: Option<Container>,
    /// Discovery information.
    #[serde(deserialize_with = "lenient::object")]
    pub discovery: Option<Discovery>,
    /// Labels of the task.
    #[serde(deserialize_with = "lenient::object")]
    pub labels: Option<Labels>,
    /// Resources, of which only ports are read.
    #[serde(deserialize_with = "lenient::list")]
    pub resources: Option<Vec<Resource>>,
    /// Whether the task has a Mesos health check.
    #[serde(deserialize_with = "lenient::present")]
    pub health_check: bool,
}

/// A status of a task.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct TaskStatus {
    /// The task.
    #[serde(deserialize_with = "lenient::id")]
    pub task_id: Option<String>,
    /// The agent.
    #[serde(deserialize_with = "lenient::id")]
    pub agent_id: Option<String>,
    /// The state this status reported.
    #[serde(deserialize_with = "lenient::text")]
    pub state: Option<String>,
    /// Seconds since 1970.
    #[serde(deserialize_with = "lenient::float")]
    pub timestamp: Option<f64>,
    /// The verdict of the health check.
    #[serde(deserialize_with = "lenient::boolean")]
    pub healthy: Option<bool>,
    /// The container as it is.
    #[serde(deserialize_with = "lenient::object")]
    pub container_status: Option<ContainerStatus>,
}

/// A container as it is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ContainerStatus {
    /// Its networks.
    #[serde(deserialize_with = "lenient::list")]
    pub network_infos: Option<Vec<NetworkInfo>>,
}

/// A network of a container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NetworkInfo {
    /// Addresses in this network.
    #[serde(deserialize_with = "lenient::list")]
    pub ip_addresses: Option<Vec<IpAddress>>,
    /// Ports of the agent that lead to ports of the container.
    #[serde(deserialize_with = "lenient::list")]
    pub port_mappings: Option<Vec<PortMapping>>,
}

/// An address, or the wish for one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct IpAddress {
    /// The address; absent in a wish.
    #[serde(deserialize_with = "lenient::text")]
    pub ip_address: Option<String>,
}

/// A port of the agent that leads to a port of the container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PortMapping {
    /// The port of the agent.
    #[serde(deserialize_with = "lenient::port")]
    pub host_port: Option<u16>,
    /// The port of the container.
    #[serde(deserialize_with = "lenient::port")]
    pub container_port: Option<u16>,
    /// `tcp` or `udp` in any letter case.
    #[serde(deserialize_with = "lenient::text")]
    pub protocol: Option<String>,
}

/// A container as it was asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Container {
    /// `MESOS` or `DOCKER`.
    #[serde(rename = "type", deserialize_with = "lenient::text")]
    pub kind: Option<String>,
    /// Networks, with port mappings for the Mesos containerizer.
    #[serde(deserialize_with = "lenient::list")]
    pub network_infos: Option<Vec<NetworkInfo>>,
    /// Settings of the Docker containerizer.
    #[serde(deserialize_with = "lenient::object")]
    pub docker: Option<Docker>,
}

/// Settings of the Docker containerizer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Docker {
    /// Ports of the agent that lead to ports of the container.
    #[serde(deserialize_with = "lenient::list")]
    pub port_mappings: Option<Vec<PortMapping>>,
}

/// Discovery information of a task.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Discovery {
    /// The name to be found under.
    #[serde(deserialize_with = "lenient::text")]
    pub name: Option<String>,
    #[serde(deserialize_with = "lenient::object")]
    ports: Option<DiscoveryPorts>,
}

impl Discovery {
    /// The ports; `None` if none are given, which is not the same as an empty list.
    #[must_use]
    pub fn ports(&self) -> Option<&[DiscoveryPort]> {
        self.ports.as_ref()?.ports.as_deref()
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct DiscoveryPorts {
    #[serde(deserialize_with = "lenient::list")]
    ports: Option<Vec<DiscoveryPort>>,
}

/// A port of the discovery information.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct DiscoveryPort {
    /// The port number.
    #[serde(deserialize_with = "lenient::port")]
    pub number: Option<u16>,
    /// The port's name.
    #[serde(deserialize_with = "lenient::text")]
    pub name: Option<String>,
    /// `tcp` or `udp` in any letter case.
    #[serde(deserialize_with = "lenient::text")]
    pub protocol: Option<String>,
    /// Labels of the port.
    #[serde(deserialize_with = "lenient::object")]
    pub labels: Option<Labels>,
}

/// Labels.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Labels {
    #[serde(deserialize_with = "lenient::list")]
    labels: Option<Vec<Label>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Label {
    #[serde(deserialize_with = "lenient::text")]
    key: Option<String>,
    #[serde(deserialize_with = "lenient::text")]
    value: Option<String>,
}

impl Labels {
    /// Keys and values of the labels that have both.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let labels = self.labels.as_deref().unwrap_or_default();
        labels
            .iter()
            .filter_map(|label| Some((label.key.as_deref()?, label.value.as_deref()?)))
    }
}

/// A resource of a task.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Resource {
    #[serde(deserialize_with = "lenient::text")]
    name: Option<String>,
    #[serde(rename = "type", deserialize_with = "lenient::text")]
    kind: Option<String>,
    #[serde(deserialize_with = "lenient::object")]
    ranges: Option<Ranges>,
    #[serde(deserialize_with = "lenient::object")]
    scalar: Option<Scalar>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Ranges {
    #[serde(deserialize_with = "lenient::list")]
    range: Option<Vec<PortRange>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PortRange {
    #[serde(deserialize_with = "lenient::port")]
    begin: Option<u16>,
    #[serde(deserialize_with = "lenient::port")]
    end: Option<u16>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Scalar {
    #[serde(deserialize_with = "lenient::port")]
    value: Option<u16>,
}

impl Resource {
    /// The ports of a `ports` resource, ranges expanded in order.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        let is_ports = self.name.as_deref() == Some("ports");
        let kind = self.kind.as_deref().filter(|_| is_ports);
        let ranges = match kind {
            Some("RANGES") => self.ranges.as_ref().and_then(|r| r.range.as_deref()),
            _ => None,
        };
        let scalar = match kind {
            Some("SCALAR") => self.scalar.as_ref().and_then(|scalar| scalar.value),
            _ => None,
        };
        ranges
            .unwrap_or_default()
            .iter()
            .filter_map(|range| Some(range.begin?..=range.end?))
            .flatten()
            .chain(scalar)
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
                .and_then(|added| added.agent?.agent_info)
                .map(Self::AgentAdded),
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
            Self::AgentAdded(agent) => (None, Some(agent)),
            _ => (None, None),
        };
        state
            .into_iter()
            .flat_map(ClusterState::agents)
            .chain(agent)
            .filter_map(|agent| agent.hostname.as_deref())
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
        assert_eq!(state.agents().count(), 1);
        assert_eq!(state.frameworks().count(), 0);
        assert!(state.recovered_agents().is_empty());
        assert_eq!(state.tasks().len(), 1);
        assert_eq!(state.tasks()[0].task_id.as_deref(), Some("t"));
        assert_eq!(state.tasks()[0].name, None);
    }
}
