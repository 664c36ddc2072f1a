//! The objects of the Mesos v1 operator API, as far as they are read: what a master tells of
//! agents, frameworks and tasks, in events and in the answer to `GET_STATE`.
//!
//! Reading is tolerant: a value of the wrong type counts as absent, and a record without its id is
//! left for the models to skip.

use serde::Deserialize;

use super::lenient;

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

/// A registered agent.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct AgentObject {
    /// What it says of itself.
    #[serde(rename = "agent_info", deserialize_with = "lenient::object_or_default")]
    pub info: AgentInfo,
    /// Its libprocess id, `slave(1)@host:port`.
    #[serde(deserialize_with = "lenient::text")]
    pub pid: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Frameworks {
    #[serde(deserialize_with = "lenient::list")]
    frameworks: Option<Vec<FrameworkObject>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct FrameworkObject {
    #[serde(deserialize_with = "lenient::object")]
    pub(super) framework_info: Option<FrameworkInfo>,
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
    #[must_use]
    pub fn agents(&self) -> &[AgentObject] {
        let agents = self.get_agents.as_ref().and_then(|a| a.agents.as_deref());
        agents.unwrap_or_default()
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
    /// The port it listens on.
    #[serde(deserialize_with = "lenient::port")]
    pub port: Option<u16>,
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
    /// The host of its scheduler: a name or an address.
    #[serde(deserialize_with = "lenient::text")]
    pub hostname: Option<String>,
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
    /// Labels of the status, in which old containerizers tell addresses.
    #[serde(deserialize_with = "lenient::object")]
    pub labels: Option<Labels>,
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
    /// The one address that old masters tell instead.
    #[serde(deserialize_with = "lenient::text")]
    pub ip_address: Option<String>,
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
    /// The port number, in no certain range.
    #[serde(deserialize_with = "lenient::integer")]
    pub number: Option<i64>,
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
    /// Whether it may be taken back, as the master's state shows apart.
    #[serde(deserialize_with = "lenient::present")]
    revocable: bool,
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
    /// The ranges of a `ports` resource that is the task's to keep, both ends included: what the
    /// master's state shows as `resources.ports`.
    pub fn kept_port_ranges(&self) -> impl Iterator<Item = (u16, u16)> {
        let is_kept = self.name.as_deref() == Some("ports")
            && self.kind.as_deref() == Some("RANGES")
            && !self.revocable;
        let ranges = self.ranges.as_ref().filter(|_| is_kept);
        ranges
            .and_then(|ranges| ranges.range.as_deref())
            .unwrap_or_default()
            .iter()
            .filter_map(|range| Some((range.begin?, range.end?)))
    }

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
