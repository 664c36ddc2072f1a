//! The state document of a master, reduced to what records are made of. Only tasks in state
//! `TASK_RUNNING` are kept, and of each the addresses of its newest running status.

use std::net::IpAddr;
use std::sync::Arc;

pub use super::pid::{Pid, PidError, is_name, parse_ip, split_host_port};
pub use super::state_reader::{MAX_PORTS_PER_TASK, StateError, parse};

/// A cluster at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// The leading master, `master@host:port`, as written; empty while there is none.
    pub leader: Box<str>,
    /// The agents (`slaves`), in document order.
    pub agents: Vec<Agent>,
    /// The frameworks, in document order.
    pub frameworks: Vec<Framework>,
}

/// An agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agent {
    /// Its id, which tasks refer to.
    pub id: Box<str>,
    /// Where it listens; `None` when the document does not say so in a readable way. Such an agent
    /// has no address, but tasks on it with addresses of their own are served.
    pub pid: Option<Pid>,
}

/// A framework.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Framework {
    /// Its id.
    pub id: Box<str>,
    /// Its name, as registered.
    pub name: Box<str>,
    /// Where its scheduler is.
    pub scheduler: Scheduler,
    /// Its running tasks, in document order.
    pub tasks: Vec<Arc<Task>>,
}

/// Where a framework's scheduler is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scheduler {
    /// A libprocess scheduler, which has a port.
    Pid(Pid),
    /// A scheduler of the HTTP API: only its host name or address is known.
    Hostname(Box<str>),
    /// The process id cannot be read.
    #[default]
    Unknown,
}

/// A running task.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Task {
    /// Its id.
    pub id: Box<str>,
    /// Its name, as given.
    pub name: Box<str>,
    /// The id of the agent that runs it.
    pub agent_id: Box<str>,
    /// Seconds since 1970 of the status the addresses are from.
    pub status_time: Option<f64>,
    /// Addresses in its newest running status, each with the source that names it.
    pub addresses: Vec<(StatusSource, IpAddr)>,
    /// The ports of its resources, as inclusive ranges.
    pub ports: Vec<(i64, i64)>,
    /// Its discovery information, if that has a name.
    pub discovery: Option<Box<Discovery>>,
}

/// Which part of a task's status names an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StatusSource {
    /// `container_status.network_infos`.
    Netinfo,
    /// Labels `MesosContainerizer.NetworkSettings.IPAddress`.
    Mesos,
    /// Labels `Docker.NetworkSettings.IPAddress`.
    Docker,
}

/// How a task wants to be found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discovery {
    /// The name, as given and not empty.
    pub name: Box<str>,
    /// The ports, in document order.
    pub ports: Vec<DiscoveryPort>,
}

/// A port in discovery information.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiscoveryPort {
    /// The number, not checked for its range.
    pub number: i64,
    /// `tcp`, `udp`, both with a comma, or nothing.
    pub protocol: Box<str>,
    /// The name, or nothing.
    pub name: Box<str>,
}
