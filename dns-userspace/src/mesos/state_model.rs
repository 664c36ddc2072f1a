//! What the master's state document would say, kept up to date from the events of the operator
//! API: what the records under the Mesos domain are made of, without fetching the state.
//!
//! Where this differs from the task model of DC/OS, it is because the state document does: an
//! agent or framework that is gone takes its tasks along, only `TASK_RUNNING` counts, and the
//! addresses are those of the newest running status.
//!
//! Events have no word of the leading master, nor of the ports of schedulers (their libprocess
//! ids): who needs those has them from elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::events::Event;
use super::objects::{
    AgentObject, ClusterState, FrameworkInfo, Labels, NetworkInfo, Resource, TaskObject,
    TaskStatus, TaskUpdate,
};
use super::pid::{Pid, parse_ip};
use super::state::{Agent, Discovery, DiscoveryPort, StatusSource, Task};
use super::tasks::TaskKey;

/// The port of agents, where an event names none.
const AGENT_PORT: u16 = 5051;
/// The state in which a task has records.
const RUNNING: &str = "TASK_RUNNING";
/// Words in which a task stays for good, as `isTerminalState` in Mesos' `protobuf_utils.cpp`.
const TERMINAL: [&str; 8] = [
    "TASK_FINISHED",
    "TASK_FAILED",
    "TASK_KILLED",
    "TASK_LOST",
    "TASK_ERROR",
    "TASK_DROPPED",
    "TASK_GONE",
    "TASK_GONE_BY_OPERATOR",
];

/// What an event says of a framework.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FrameworkFacts {
    /// Its name.
    pub name: Box<str>,
    /// The host of its scheduler; may be empty.
    pub hostname: Box<str>,
}

/// One thing that is other than before; `None` where it is gone.
#[derive(Debug, Clone)]
pub enum StateChange {
    /// An agent, by its id.
    Agent(Arc<str>, Option<Arc<Agent>>),
    /// A framework, by its id. Its tasks come and go with changes of their own.
    Framework(Arc<str>, Option<Arc<FrameworkFacts>>),
    /// A task; `None` also while it is not running.
    Task(TaskKey, Option<Arc<Task>>),
}

/// What an event did.
#[derive(Debug, Clone, Default)]
pub struct StateChanges {
    /// The list is everything: what it does not name is gone.
    pub resync: bool,
    /// The changes, in order.
    pub list: Vec<StateChange>,
}

impl StateChanges {
    /// Whether nothing changed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        !self.resync && self.list.is_empty()
    }
}

/// Agents, frameworks and tasks of a cluster.
#[derive(Debug, Default)]
pub struct StateModel {
    agents: HashMap<Arc<str>, Arc<Agent>>,
    frameworks: HashMap<Arc<str>, Arc<FrameworkFacts>>,
    tasks: HashMap<TaskKey, Entry>,
    /// Counts what came, so that the whole is told in the order in which it came.
    arrivals: u64,
}

/// A task, running or on its way.
#[derive(Debug)]
struct Entry {
    /// With the addresses of the newest running status.
    task: Arc<Task>,
    is_running: bool,
    /// Times and addresses of running statuses, in order; the newest is in `task`, too.
    running: Vec<(f64, Vec<(StatusSource, IpAddr)>)>,
    /// Whether the last status is one of them: the next of the same state takes its place.
    last_was_running: bool,
    arrival: u64,
}

impl StateModel {
    /// Applies an event.
    pub fn apply(&mut self, event: &Event) -> StateChanges {
        let mut list = Vec::new();
        match event {
            Event::Subscribed(subscribed) => {
                self.replace(subscribed.state());
                return self.whole();
            }
            Event::State(state) => {
                self.replace(Some(state));
                return self.whole();
            }
            Event::TaskAdded(task) => self.task_added(task, &mut list),
            Event::TaskUpdated(update) => self.task_updated(update, &mut list),
            Event::FrameworkUpdated(framework) => self.framework_updated(framework, &mut list),
            Event::FrameworkRemoved(id) => self.framework_removed(id, &mut list),
            Event::AgentAdded(agent) => self.agent_added(agent, &mut list),
            Event::AgentRemoved(id) => {
                if let Some((id, _)) = self.agents.remove_entry(id.as_str()) {
                    list.push(StateChange::Agent(id, None));
                }
            }
            Event::Heartbeat | Event::Other(_) => {}
        }
        StateChanges {
            resync: false,
            list,
        }
    }

    /// Everything, in the order in which it came.
    #[must_use]
    pub fn whole(&self) -> StateChanges {
        let agents = self.agents.iter();
        let agents =
            agents.map(|(id, agent)| StateChange::Agent(Arc::clone(id), Some(Arc::clone(agent))));
        let frameworks = self.frameworks.iter();
        let frameworks = frameworks.map(|(id, framework)| {
            StateChange::Framework(Arc::clone(id), Some(Arc::clone(framework)))
        });
        let running = self.tasks.iter().filter(|(_, entry)| entry.is_running);
        let tasks: BTreeMap<u64, StateChange> = running
            .map(|(key, entry)| {
                let task = Some(Arc::clone(&entry.task));
                (entry.arrival, StateChange::Task(key.clone(), task))
            })
            .collect();
        StateChanges {
            resync: true,
            list: agents
                .chain(frameworks)
                .chain(tasks.into_values())
                .collect(),
        }
    }

    fn replace(&mut self, state: Option<&ClusterState>) {
        *self = Self::default();
        let Some(state) = state else { return };
        let mut unused = Vec::new();
        for agent in state.agents() {
            self.agent_added(agent, &mut unused);
        }
        for framework in state.frameworks() {
            self.framework_updated(framework, &mut unused);
        }
        for task in state.tasks() {
            self.task_added(task, &mut unused);
        }
    }

    fn agent_added(&mut self, object: &AgentObject, list: &mut Vec<StateChange>) {
        let Some(id) = object.info.id.as_deref() else {
            return;
        };
        let agent = Arc::new(Agent {
            id: id.into(),
            pid: agent_pid(object),
        });
        let id: Arc<str> = id.into();
        let before = self.agents.insert(Arc::clone(&id), Arc::clone(&agent));
        if before.as_ref() != Some(&agent) {
            list.push(StateChange::Agent(id, Some(agent)));
        }
    }

    fn framework_updated(&mut self, info: &FrameworkInfo, list: &mut Vec<StateChange>) {
        let Some(id) = info.id.as_deref() else {
            return;
        };
        let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
        let facts = Arc::new(FrameworkFacts {
            name: text(&info.name),
            hostname: text(&info.hostname),
        });
        let id: Arc<str> = id.into();
        let before = self.frameworks.insert(Arc::clone(&id), Arc::clone(&facts));
        if before.as_ref() != Some(&facts) {
            list.push(StateChange::Framework(id, Some(facts)));
        }
    }

    fn framework_removed(&mut self, id: &str, list: &mut Vec<StateChange>) {
        let Some((id, _)) = self.frameworks.remove_entry(id) else {
            return;
        };
        self.tasks.retain(|key, entry| {
            let stays = key.framework_id != id;
            if !stays && entry.is_running {
                list.push(StateChange::Task(key.clone(), None));
            }
            stays
        });
        list.push(StateChange::Framework(id, None));
    }

    fn key(&self, framework_id: &str, task_id: &str) -> TaskKey {
        let known = self.frameworks.get_key_value(framework_id);
        TaskKey {
            framework_id: known.map_or_else(|| framework_id.into(), |(id, _)| Arc::clone(id)),
            task_id: task_id.into(),
        }
    }

    fn task_added(&mut self, object: &TaskObject, list: &mut Vec<StateChange>) {
        let (Some(framework_id), Some(task_id)) =
            (object.framework_id.as_deref(), object.task_id.as_deref())
        else {
            return;
        };
        let key = self.key(framework_id, task_id);
        let before = self.tasks.remove(&key);
        let was = before.as_ref().filter(|entry| entry.is_running);
        let was = was.map(|entry| Arc::clone(&entry.task));
        if object.state.as_deref().is_some_and(is_terminal) {
            list.extend(was.map(|_| StateChange::Task(key, None)));
            return;
        }
        self.arrivals += 1;
        let mut entry = Entry {
            task: Arc::new(task_of(object, task_id)),
            is_running: object.state.as_deref() == Some(RUNNING),
            running: Vec::new(),
            last_was_running: false,
            arrival: before.map_or(self.arrivals, |before| before.arrival),
        };
        for status in object.statuses.as_deref().unwrap_or_default() {
            entry.add_as_listed(status);
        }
        entry.take_newest();
        let is = entry.is_running.then(|| Arc::clone(&entry.task));
        self.tasks.insert(key.clone(), entry);
        if was != is {
            list.push(StateChange::Task(key, is));
        }
    }

    fn task_updated(&mut self, update: &TaskUpdate, list: &mut Vec<StateChange>) {
        let status = update.status.as_ref();
        let (Some(framework_id), Some(status), Some(task_id)) = (
            update.framework_id.as_deref(),
            status,
            status.and_then(|status| status.task_id.as_deref()),
        ) else {
            return;
        };
        let key = self.key(framework_id, task_id);
        let Some(entry) = self.tasks.get_mut(&key) else {
            return;
        };
        let was = entry.is_running.then(|| Arc::clone(&entry.task));
        let state = update.state.as_deref().or(status.state.as_deref());
        if state.is_some_and(is_terminal) {
            self.tasks.remove(&key);
            list.extend(was.map(|_| StateChange::Task(key, None)));
            return;
        }
        entry.is_running = state == Some(RUNNING);
        entry.add_as_updated(status);
        entry.take_newest();
        let is = entry.is_running.then(|| Arc::clone(&entry.task));
        if was != is {
            list.push(StateChange::Task(key, is));
        }
    }
}

impl Entry {
    /// A status in the list of a task.
    fn add_as_listed(&mut self, status: &TaskStatus) {
        self.last_was_running = status.state.as_deref() == Some(RUNNING);
        if self.last_was_running {
            let time = status.timestamp.unwrap_or(0.0);
            self.running.push((time, addresses(status)));
        }
    }

    /// A status of an update, which takes the place of a last one with the same state, as in
    /// `Master::updateTask` of Mesos.
    fn add_as_updated(&mut self, status: &TaskStatus) {
        if self.last_was_running && status.state.as_deref() == Some(RUNNING) {
            self.running.pop();
        }
        self.add_as_listed(status);
    }

    /// Puts the addresses of the newest running status into the task; the earliest wins a tie.
    fn take_newest(&mut self) {
        let mut newest: Option<&(f64, Vec<(StatusSource, IpAddr)>)> = None;
        for one in self.running.iter().filter(|(time, _)| *time > -1.0) {
            if newest.is_none_or(|(best, _)| one.0 > *best) {
                newest = Some(one);
            }
        }
        let time = newest.map(|(time, _)| *time);
        let addresses = newest.map_or(&[][..], |(_, addresses)| addresses);
        if self.task.status_time == time && *self.task.addresses == *addresses {
            return;
        }
        let task = Arc::make_mut(&mut self.task);
        task.status_time = time;
        task.addresses = addresses.to_vec();
    }
}

fn is_terminal(state: &str) -> bool {
    TERMINAL.contains(&state)
}

/// Where an agent listens: by its libprocess id, or by what it says of itself.
fn agent_pid(object: &AgentObject) -> Option<Pid> {
    if let Some(text) = &object.pid {
        return Pid::parse(text).ok();
    }
    Some(Pid {
        host: object.info.hostname.as_deref()?.into(),
        port: object.info.port.unwrap_or(AGENT_PORT),
    })
}

fn task_of(object: &TaskObject, id: &str) -> Task {
    let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
    Task {
        id: id.into(),
        name: text(&object.name),
        agent_id: text(&object.agent_id),
        status_time: None,
        addresses: Vec::new(),
        ports: port_ranges(object.resources.as_deref().unwrap_or_default()),
        discovery: discovery(object),
    }
}

/// All port ranges in ascending order, those that touch put together, as Mesos writes them.
fn port_ranges(resources: &[Resource]) -> Vec<(i64, i64)> {
    let mut ranges: Vec<(i64, i64)> = resources
        .iter()
        .flat_map(Resource::kept_port_ranges)
        .filter(|(begin, end)| begin <= end)
        .map(|(begin, end)| (begin.into(), end.into()))
        .collect();
    ranges.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::with_capacity(ranges.len());
    for (begin, end) in ranges {
        match joined.last_mut() {
            Some((_, last)) if begin <= *last + 1 => *last = end.max(*last),
            _ => joined.push((begin, end)),
        }
    }
    joined
}

fn discovery(object: &TaskObject) -> Option<Box<Discovery>> {
    let discovery = object.discovery.as_ref()?;
    let name = discovery.name.as_deref().filter(|name| !name.is_empty())?;
    let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
    let ports = discovery.ports().unwrap_or_default().iter();
    Some(Box::new(Discovery {
        name: name.into(),
        ports: ports
            .map(|port| DiscoveryPort {
                number: port.number.unwrap_or_default(),
                protocol: text(&port.protocol),
                name: text(&port.name),
            })
            .collect(),
    }))
}

/// The addresses that a status tells, each with its source.
fn addresses(status: &TaskStatus) -> Vec<(StatusSource, IpAddr)> {
    let networks = status.container_status.as_ref();
    let networks = networks.and_then(|container| container.network_infos.as_deref());
    let netinfo = networks.unwrap_or_default().iter().flat_map(of_network);
    let labels = status.labels.iter().flat_map(Labels::pairs);
    let labels = labels.filter_map(|(key, value)| {
        let source = match key {
            "MesosContainerizer.NetworkSettings.IPAddress" => StatusSource::Mesos,
            "Docker.NetworkSettings.IPAddress" => StatusSource::Docker,
            _ => return None,
        };
        Some((source, parse_ip(value)?))
    });
    netinfo
        .map(|ip| (StatusSource::Netinfo, ip))
        .chain(labels)
        .collect()
}

/// `ip_addresses` if it has elements, else the old `ip_address`.
fn of_network(network: &NetworkInfo) -> Vec<IpAddr> {
    let listed = network.ip_addresses.as_deref().unwrap_or_default();
    if listed.is_empty() {
        return network
            .ip_address
            .as_deref()
            .and_then(parse_ip)
            .into_iter()
            .collect();
    }
    let texts = listed.iter().filter_map(|one| one.ip_address.as_deref());
    texts.filter_map(parse_ip).collect()
}
