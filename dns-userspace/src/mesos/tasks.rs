//! The task model: what the records of DC/OS are made of, kept up to date from events.
//!
//! It follows dcos-net in every rule that can be seen from outside: each field is computed on its
//! own, a field without a value keeps the one it had, and a task that names an agent or a
//! framework not known yet waits out of sight; those that leave take nothing with them. Unlike
//! there, a running task follows its agent's and framework's changes.
//!
//! Pure: host names of agents are resolved by the caller.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::events::Event;
use super::objects::{AgentInfo, ClusterState, FrameworkInfo, TaskObject, TaskStatus};
use super::task_fields;

/// What names a task: its id is unique within its framework only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey {
    /// The framework's id.
    pub framework_id: Arc<str>,
    /// The task's id.
    pub task_id: Arc<str>,
}

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// Not running yet, or out of reach.
    Preparing,
    /// Running.
    Running,
    /// On its way to be killed; no records, but its connections still end.
    Killing,
    /// Over.
    Terminal,
}

/// What runs a task's container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// The Mesos containerizer, with or without an image.
    Mesos,
    /// The Docker containerizer.
    Docker,
}

/// The transport of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Reads `tcp` or `udp` in any letter case.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("tcp") {
            Some(Self::Tcp)
        } else if text.eq_ignore_ascii_case("udp") {
            Some(Self::Udp)
        } else {
            None
        }
    }

    /// The name in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPort {
    /// The transport.
    pub protocol: Protocol,
    /// The port at the task's own address.
    pub port: Option<u16>,
    /// The port at the agent's address that leads to it; never set in host networking.
    pub host_port: Option<u16>,
    /// The name from the discovery information.
    pub name: Option<String>,
    /// VIP labels, as written.
    pub vips: Vec<String>,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The discovery name, else the Mesos name.
    pub name: Option<String>,
    /// The framework's name; `None` while the framework is not known.
    pub framework: Option<Arc<str>>,
    /// The agent's id.
    pub agent_id: Option<Arc<str>>,
    /// The agent's address; `None` while the agent is not known.
    pub agent_ip: Option<IpAddr>,
    /// Addresses of the task's container, in the order of the status.
    pub task_ips: Vec<IpAddr>,
    /// Where the task is in its life.
    pub state: TaskState,
    /// The verdict of its health check: `None` if it has none, `Some(false)` also before the
    /// first verdict.
    pub healthy: Option<bool>,
    /// What runs its container, if it has one.
    pub runtime: Option<Runtime>,
    /// Its ports.
    pub ports: Vec<TaskPort>,
}

impl Default for Task {
    fn default() -> Self {
        Self {
            name: None,
            framework: None,
            agent_id: None,
            agent_ip: None,
            task_ips: Vec::new(),
            state: TaskState::Preparing,
            healthy: None,
            runtime: None,
            ports: Vec::new(),
        }
    }
}

impl Task {
    /// Whether the task is kept out of sight because its agent or framework is not known.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.agent_ip.is_none() || self.framework.is_none()
    }
}

/// What an event did to the model.
#[derive(Debug, Default)]
pub struct Changes {
    /// The event carried the whole state: what it does not name is gone.
    pub resync: bool,
    /// Tasks that changed, in the order of the event; `None` for one that is over. Tasks that
    /// wait are not among them.
    pub tasks: Vec<(TaskKey, Option<Arc<Task>>)>,
}

/// Tasks, agents and frameworks of a cluster.
#[derive(Debug, Default)]
pub struct TaskModel {
    agents: HashMap<Arc<str>, IpAddr>,
    frameworks: HashMap<Arc<str>, Arc<str>>,
    tasks: HashMap<TaskKey, Arc<Task>>,
    skipped: u64,
}

impl TaskModel {
    /// Applies an event. `resolve` gives the address of an agent's host name that is no address;
    /// an agent it knows nothing of counts as unknown.
    pub fn apply(&mut self, event: &Event, resolve: &dyn Fn(&str) -> Option<IpAddr>) -> Changes {
        let mut changes = Changes::default();
        let out = &mut changes.tasks;
        match event {
            Event::Subscribed(subscribed) => {
                self.replace(subscribed.state(), resolve);
                changes = self.whole();
            }
            Event::State(state) => {
                self.replace(Some(state), resolve);
                changes = self.whole();
            }
            Event::TaskAdded(task) => self.task_added(task, out),
            Event::TaskUpdated(update) => match &update.status {
                Some(status) => self.task_updated(
                    update.framework_id.as_deref(),
                    update.state.as_deref(),
                    status,
                    out,
                ),
                None => self.skipped += 1,
            },
            Event::FrameworkUpdated(framework) => self.framework_updated(framework, out),
            Event::FrameworkRemoved(id) => {
                self.frameworks.remove(id.as_str());
            }
            Event::AgentAdded(agent) => self.agent_added(&agent.info, resolve, out),
            Event::AgentRemoved(id) => {
                self.agents.remove(id.as_str());
            }
            Event::Heartbeat | Event::Other(_) => {}
        }
        changes
    }

    /// The tasks that are not waiting.
    pub fn visible(&self) -> impl Iterator<Item = (&TaskKey, &Arc<Task>)> {
        self.tasks.iter().filter(|(_, task)| !task.is_waiting())
    }

    /// All tasks that are not over, in no certain order.
    pub fn tasks(&self) -> impl Iterator<Item = (&TaskKey, &Arc<Task>)> {
        self.tasks.iter()
    }

    /// How many tasks wait for their agent or framework.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.tasks.values().filter(|task| task.is_waiting()).count()
    }

    /// Agents with a known address.
    pub fn agents(&self) -> impl Iterator<Item = (&str, IpAddr)> {
        self.agents.iter().map(|(id, &ip)| (&**id, ip))
    }

    /// How many frameworks are known.
    #[must_use]
    pub fn frameworks(&self) -> usize {
        self.frameworks.len()
    }

    /// How many records were skipped because they lack what they cannot do without, and how many
    /// values because they made no sense.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The whole state, as the event that carried it would have given it.
    #[must_use]
    pub fn whole(&self) -> Changes {
        let tasks = self
            .visible()
            .map(|(key, task)| (key.clone(), Some(Arc::clone(task))));
        Changes {
            resync: true,
            tasks: tasks.collect(),
        }
    }

    fn replace(&mut self, state: Option<&ClusterState>, resolve: &dyn Fn(&str) -> Option<IpAddr>) {
        *self = Self {
            skipped: self.skipped,
            ..Self::default()
        };
        let Some(state) = state else { return };
        let mut unused = Vec::new();
        for agent in state.agents() {
            self.agent_added(&agent.info, resolve, &mut unused);
        }
        for framework in state.frameworks() {
            self.framework_updated(framework, &mut unused);
        }
        for task in state.tasks() {
            self.task_added(task, &mut unused);
        }
    }

    fn agent_added(
        &mut self,
        agent: &AgentInfo,
        resolve: &dyn Fn(&str) -> Option<IpAddr>,
        out: &mut Vec<(TaskKey, Option<Arc<Task>>)>,
    ) {
        let Some(id) = agent.id.as_deref() else {
            self.skipped += 1;
            return;
        };
        let Some(ip) = agent
            .hostname
            .as_deref()
            .and_then(|hostname| agent_address(hostname, resolve))
        else {
            self.skipped += 1;
            return;
        };
        self.agents.insert(id.into(), ip);
        self.revise(
            out,
            |_, task| task.agent_id.as_deref() == Some(id) && task.agent_ip != Some(ip),
            |task| task.agent_ip = Some(ip),
        );
    }

    fn framework_updated(
        &mut self,
        framework: &FrameworkInfo,
        out: &mut Vec<(TaskKey, Option<Arc<Task>>)>,
    ) {
        let (Some(id), Some(name)) = (framework.id.as_deref(), framework.name.as_deref()) else {
            self.skipped += 1;
            return;
        };
        let name: Arc<str> = name.into();
        self.frameworks.insert(id.into(), Arc::clone(&name));
        self.revise(
            out,
            |key, task| &*key.framework_id == id && task.framework.as_deref() != Some(&*name),
            |task| task.framework = Some(Arc::clone(&name)),
        );
    }

    /// Edits the tasks that `stale` picks.
    fn revise(
        &mut self,
        out: &mut Vec<(TaskKey, Option<Arc<Task>>)>,
        stale: impl Fn(&TaskKey, &Task) -> bool,
        edit: impl Fn(&mut Task),
    ) {
        for (key, task) in &mut self.tasks {
            if stale(key, task) {
                edit(Arc::make_mut(task));
                if !task.is_waiting() {
                    out.push((key.clone(), Some(Arc::clone(task))));
                }
            }
        }
    }

    fn task_added(&mut self, task: &TaskObject, out: &mut Vec<(TaskKey, Option<Arc<Task>>)>) {
        let empty = TaskStatus::default();
        let statuses = task.statuses.as_deref().unwrap_or_default();
        let status = task_fields::latest_status(statuses).unwrap_or(&empty);
        let report = Report {
            framework_id: task.framework_id.as_deref(),
            task_id: task.task_id.as_deref(),
            agent_id: task.agent_id.as_deref(),
            state: task.state.as_deref(),
            status,
            task: Some(task),
        };
        self.apply_report(&report, out);
    }

    fn task_updated(
        &mut self,
        framework_id: Option<&str>,
        state: Option<&str>,
        status: &TaskStatus,
        out: &mut Vec<(TaskKey, Option<Arc<Task>>)>,
    ) {
        let report = Report {
            framework_id,
            task_id: status.task_id.as_deref(),
            agent_id: status.agent_id.as_deref(),
            state: state.or(status.state.as_deref()),
            status,
            task: None,
        };
        self.apply_report(&report, out);
    }

    fn apply_report(&mut self, report: &Report<'_>, out: &mut Vec<(TaskKey, Option<Arc<Task>>)>) {
        let (Some(framework_id), Some(task_id)) = (report.framework_id, report.task_id) else {
            self.skipped += 1;
            return;
        };
        let key = TaskKey {
            framework_id: self.shared_framework_id(framework_id),
            task_id: task_id.into(),
        };
        let before = self.tasks.get(&key);
        let mut task = before.map(|task| Task::clone(task)).unwrap_or_default();
        // An agent or framework that is gone leaves the task what it had of it, or the task's last
        // events would find it out of sight and leave its records behind.
        if let Some(id) = report.agent_id {
            match self.agents.get_key_value(id) {
                Some((id, &ip)) => {
                    task.agent_id = Some(Arc::clone(id));
                    task.agent_ip = Some(ip);
                }
                None if task.agent_id.as_deref() == Some(id) => {}
                None => {
                    task.agent_id = Some(id.into());
                    task.agent_ip = None;
                }
            }
        }
        if let Some(name) = self.frameworks.get(framework_id) {
            task.framework = Some(Arc::clone(name));
        }
        let bad_values = task_fields::update(&mut task, report.state, report.status, report.task);
        self.skipped += bad_values;

        if before.is_some_and(|before| **before == task) {
            return;
        }
        if task.state == TaskState::Terminal {
            self.tasks.remove(&key);
            out.push((key, None));
            return;
        }
        let was_visible = before.is_some_and(|before| !before.is_waiting());
        let is_visible = !task.is_waiting();
        let task = Arc::new(task);
        self.tasks.insert(key.clone(), Arc::clone(&task));
        if is_visible || was_visible {
            out.push((key, Some(task).filter(|_| is_visible)));
        }
    }

    /// Thousands of tasks share a framework; so do they share its id.
    fn shared_framework_id(&self, id: &str) -> Arc<str> {
        self.frameworks
            .get_key_value(id)
            .map_or_else(|| id.into(), |(known, _)| Arc::clone(known))
    }
}

/// What one event says of one task.
struct Report<'a> {
    framework_id: Option<&'a str>,
    task_id: Option<&'a str>,
    agent_id: Option<&'a str>,
    state: Option<&'a str>,
    status: &'a TaskStatus,
    task: Option<&'a TaskObject>,
}

fn agent_address(hostname: &str, resolve: &dyn Fn(&str) -> Option<IpAddr>) -> Option<IpAddr> {
    if let Ok(ip) = hostname.parse() {
        return Some(ip);
    }
    if hostname == "localhost" {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    resolve(hostname)
}

#[cfg(test)]
#[path = "tasks_tests.rs"]
mod tests;
