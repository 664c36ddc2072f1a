//! A cluster that changes step by step, told both ways: as the events and the `GET_STATE` answer of
//! the operator API, and as the state document that polling gives.
//!
//! It keeps what a master keeps, by the rules of Mesos: a status takes the place of a last one
//! with the same state, a task that is over stays so, and a framework that leaves takes its tasks
//! along (`Master::updateTask` and `Master::removeFramework`).

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

/// Names of apps and frameworks that share labels, collide when mangled or cut, or cannot be asked
/// for.
const NAMES: [&str; 12] = [
    "web",
    "Web",
    "big.dog",
    "big-dog",
    "a b",
    "日本",
    "",
    "master",
    "leader",
    "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnna",
    "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnb",
    "x:1",
];
/// States of tasks; the last four are for good.
const STATES: [&str; 9] = [
    "TASK_STAGING",
    "TASK_STARTING",
    "TASK_RUNNING",
    "TASK_KILLING",
    "TASK_UNREACHABLE",
    "TASK_FINISHED",
    "TASK_FAILED",
    "TASK_LOST",
    "TASK_KILLED",
];
const FIRST_TERMINAL: usize = 5;

/// Something that happens to a cluster. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
pub enum Step {
    /// An agent registers, perhaps again with another address.
    AgentAdded {
        /// Which.
        agent: u8,
        /// The last octet of its address.
        host: u8,
    },
    /// An agent is gone.
    AgentRemoved(u8),
    /// A framework registers, or again with other facts.
    Framework {
        /// Which.
        framework: u8,
        /// Its name, from the list.
        name: u8,
        /// The last octet of its scheduler's address.
        host: u8,
        /// Whether its scheduler has a libprocess id.
        has_pid: bool,
    },
    /// A framework is gone.
    FrameworkRemoved(u8),
    /// A task is launched.
    TaskAdded {
        /// Which.
        task: u8,
        /// Of which framework.
        framework: u8,
        /// On which agent.
        agent: u8,
        /// Its name, from the list.
        name: u8,
        /// Its discovery name, from the list; none beyond it.
        discovery: u8,
        /// Its ports.
        port: u16,
        /// Its state, from the list.
        state: u8,
    },
    /// A status of a task arrives.
    TaskUpdated {
        /// Which.
        task: u8,
        /// The state, from the list.
        state: u8,
        /// The last octet of its address.
        host: u8,
        /// When, in seconds.
        time: u8,
        /// Where it tells its address.
        source: u8,
    },
}

/// Any step.
pub fn step() -> impl Strategy<Value = Step> {
    let few = || 0_u8..4;
    prop_oneof![
        2 => (few(), 0_u8..5).prop_map(|(agent, host)| Step::AgentAdded { agent, host }),
        1 => few().prop_map(Step::AgentRemoved),
        2 => (few(), any::<u8>(), 0_u8..5, any::<bool>()).prop_map(
            |(framework, name, host, has_pid)| Step::Framework { framework, name, host, has_pid }),
        1 => few().prop_map(Step::FrameworkRemoved),
        6 => (0_u8..12, few(), few(), any::<u8>(), 0_u8..20, 31000_u16..31006, 0_u8..4).prop_map(
            |(task, framework, agent, name, discovery, port, state)| Step::TaskAdded {
                task, framework, agent, name, discovery, port, state }),
        8 => (0_u8..12, prop_oneof![3 => Just(2_u8), 1 => 0_u8..9], 0_u8..4, 0_u8..4, 0_u8..5)
            .prop_map(|(task, state, host, time, source)| Step::TaskUpdated {
                task, state, host, time, source }),
    ]
}

#[derive(Clone, Debug)]
struct Framework {
    name: &'static str,
    hostname: String,
    pid: Option<String>,
}

#[derive(Clone, Debug)]
struct Task {
    framework: u8,
    agent: u8,
    name: &'static str,
    discovery: Option<Value>,
    port: u16,
    state: usize,
    /// As the operator API writes them.
    statuses: Vec<Value>,
}

/// What a master knows.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    agents: BTreeMap<u8, u8>,
    frameworks: BTreeMap<u8, Framework>,
    /// By number; the id holds it.
    tasks: BTreeMap<u8, Task>,
}

fn pick(list: &[&'static str], number: u8) -> &'static str {
    list.get(usize::from(number) % list.len())
        .copied()
        .unwrap_or_default()
}

fn id(kind: char, number: u8) -> Value {
    json!({"value": format!("6f2c-{kind}{number}")})
}

impl Cluster {
    /// Lets a step happen; gives the events that a master sends of it.
    pub fn apply(&mut self, step: &Step) -> Vec<Value> {
        match *step {
            Step::AgentAdded { agent, host } => {
                self.agents.insert(agent, host);
                vec![json!({"type": "AGENT_ADDED",
                    "agent_added": {"agent": self.agent_object(agent)}})]
            }
            Step::AgentRemoved(agent) => {
                self.agents.remove(&agent);
                vec![json!({"type": "AGENT_REMOVED",
                    "agent_removed": {"agent_id": id('S', agent)}})]
            }
            Step::Framework {
                framework,
                name,
                host,
                has_pid,
            } => {
                let facts = Framework {
                    name: pick(&NAMES, name),
                    hostname: format!("10.2.0.{host}"),
                    pid: has_pid
                        .then(|| format!("scheduler-1@10.2.1.{host}:{}", 9000 + u16::from(host))),
                };
                let known = self.frameworks.insert(framework, facts).is_some();
                let (kind, member) = match known {
                    true => ("FRAMEWORK_UPDATED", "framework_updated"),
                    false => ("FRAMEWORK_ADDED", "framework_added"),
                };
                vec![json!({"type": kind,
                    member: {"framework": self.framework_object(framework)}})]
            }
            Step::FrameworkRemoved(framework) => {
                let object = self.framework_object(framework);
                if self.frameworks.remove(&framework).is_none() {
                    return Vec::new();
                }
                self.tasks.retain(|_, task| task.framework != framework);
                vec![json!({"type": "FRAMEWORK_REMOVED",
                    "framework_removed": {"framework_info": object["framework_info"]}})]
            }
            Step::TaskAdded {
                task,
                framework,
                agent,
                name,
                discovery,
                port,
                state,
            } => {
                // A master launches tasks of frameworks it knows, each once.
                if !self.frameworks.contains_key(&framework) || self.tasks.contains_key(&task) {
                    return Vec::new();
                }
                let added = Task {
                    framework,
                    agent,
                    name: pick(&NAMES, name),
                    discovery: (usize::from(discovery) < NAMES.len()).then(|| {
                        json!({"visibility": "FRAMEWORK", "name": pick(&NAMES, discovery), "ports": {"ports": [
                            {"number": port, "name": pick(&["http", "", "Web UI"], name), "protocol":
                                pick(&["tcp", "udp", "", "tcp,udp"], discovery)},
                            {"number": 70000, "protocol": "tcp"}]}})
                    }),
                    port,
                    state: usize::from(state).min(FIRST_TERMINAL - 1),
                    statuses: Vec::new(),
                };
                self.tasks.insert(task, added);
                vec![json!({"type": "TASK_ADDED", "task_added": {"task": self.task_object(task)}})]
            }
            Step::TaskUpdated {
                task: number,
                state,
                host,
                time,
                source,
            } => {
                let Some(task) = self.tasks.get_mut(&number) else {
                    return Vec::new();
                };
                let state = usize::from(state) % STATES.len();
                let status = status(number, task.agent, state, host, time, source);
                if task.state < FIRST_TERMINAL {
                    task.state = state;
                }
                if task
                    .statuses
                    .last()
                    .is_some_and(|last| last["state"] == status["state"])
                {
                    task.statuses.pop();
                }
                task.statuses.push(status.clone());
                vec![json!({"type": "TASK_UPDATED", "task_updated": {
                    "framework_id": id('F', task.framework),
                    "state": STATES[task.state], "status": status}})]
            }
        }
    }

    fn agent_object(&self, agent: u8) -> Value {
        let host = self.agents.get(&agent).copied().unwrap_or_default();
        json!({"agent_info": {"id": id('S', agent), "hostname": format!("node-{host}.example"),
            "port": 5051}, "active": true, "version": "1.11.0",
            "pid": format!("slave(1)@10.1.0.{host}:5051")})
    }

    fn framework_object(&self, framework: u8) -> Value {
        let Some(facts) = self.frameworks.get(&framework) else {
            return Value::Null;
        };
        json!({"active": true, "connected": true, "framework_info": {"id": id('F', framework),
            "name": facts.name, "hostname": facts.hostname, "user": "root"}})
    }

    fn task_object(&self, number: u8) -> Value {
        let Some(task) = self.tasks.get(&number) else {
            return Value::Null;
        };
        let port = task.port;
        let range = |begin: u16, end: u16| json!({"begin": begin, "end": end});
        let mut object = json!({"name": task.name, "task_id": id('t', number),
            "framework_id": id('F', task.framework), "agent_id": id('S', task.agent),
            "state": STATES[task.state], "statuses": task.statuses, "resources": [
                {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                {"name": "ports", "type": "RANGES", "role": "*",
                    "ranges": {"range": [range(port + 4, port + 4), range(port, port + 1)]}},
                {"name": "ports", "type": "RANGES", "role": "prod",
                    "ranges": {"range": [range(port + 2, port + 2)]}},
                {"name": "ports", "type": "RANGES", "revocable": {},
                    "ranges": {"range": [range(1, 2)]}}]});
        if let Some(discovery) = &task.discovery {
            object["discovery"] = discovery.clone();
        }
        object
    }

    /// The whole, as the operator API tells it.
    pub fn get_state(&self) -> Value {
        let agents: Vec<Value> = self
            .agents
            .keys()
            .map(|&one| self.agent_object(one))
            .collect();
        let frameworks: Vec<Value> = self
            .frameworks
            .keys()
            .map(|&one| self.framework_object(one))
            .collect();
        let tasks: Vec<Value> = self
            .tasks
            .keys()
            .map(|&one| self.task_object(one))
            .collect();
        json!({"get_agents": {"agents": agents}, "get_frameworks": {"frameworks": frameworks},
            "get_tasks": {"tasks": tasks}})
    }

    /// The first event of a stream.
    pub fn subscribed(&self) -> Value {
        json!({"type": "SUBSCRIBED", "subscribed": {"heartbeat_interval_seconds": 15.0,
            "get_state": self.get_state()}})
    }

    /// The state document, with `leader` as it is.
    pub fn state(&self, leader: &str) -> Value {
        let text = |kind, number| id(kind, number)["value"].clone();
        let agents: Vec<Value> = self
            .agents
            .iter()
            .map(|(&agent, host)| {
                json!({"id": text('S', agent), "hostname": format!("node-{host}.example"),
                "pid": format!("slave(1)@10.1.0.{host}:5051")})
            })
            .collect();
        let frameworks: Vec<Value> = self
            .frameworks
            .iter()
            .map(|(&number, facts)| {
                let tasks = self
                    .tasks
                    .iter()
                    .filter(|(_, task)| task.framework == number);
                let tasks: Vec<Value> = tasks
                    .map(|(&task, one)| {
                        let port = one.port;
                        let statuses: Vec<Value> = one
                            .statuses
                            .iter()
                            .map(|status| {
                                let mut status = status.clone();
                                // There the labels are a plain list.
                                let labels = status["labels"]["labels"].take();
                                status["labels"] = labels;
                                status
                            })
                            .collect();
                        let mut object = json!({"id": text('t', task), "name": one.name,
                    "framework_id": text('F', number), "slave_id": text('S', one.agent),
                    "state": STATES[one.state], "statuses": statuses,
                    "resources": {"cpus": 0.1, "ports": format!("[{}-{}, {}-{}]",
                        port, port + 2, port + 4, port + 4), "ports_revocable": "[1-2]"}});
                        if let Some(discovery) = &one.discovery {
                            object["discovery"] = discovery.clone();
                        }
                        object
                    })
                    .collect();
                let mut object = json!({"id": text('F', number), "name": facts.name,
                "hostname": facts.hostname, "tasks": tasks, "active": true});
                if let Some(pid) = &facts.pid {
                    object["pid"] = pid.as_str().into();
                }
                object
            })
            .collect();
        json!({"leader": leader, "slaves": agents, "frameworks": frameworks})
    }
}

/// A status as the operator API writes it.
fn status(task: u8, agent: u8, state: usize, host: u8, time: u8, source: u8) -> Value {
    let ip = format!("10.9.{task}.{host}");
    let label = |key: &str| json!({"labels": [{"key": key, "value": ip}]});
    let mut status = json!({"task_id": id('t', task), "agent_id": id('S', agent),
        "state": STATES[state], "timestamp": f64::from(time), "labels": {"labels": []}});
    match source {
        0 => {}
        1 => status["labels"] = label("MesosContainerizer.NetworkSettings.IPAddress"),
        2 => status["labels"] = label("Docker.NetworkSettings.IPAddress"),
        3 => {
            status["container_status"] =
                json!({"network_infos": [{"ip_address": ip}, {"ip_addresses": []}]});
        }
        _ => {
            status["container_status"] = json!({"network_infos": [{"ip_addresses":
                [{"ip_address": ip, "protocol": "IPv4"}, {"ip_address": format!("fd00::{task}:{host}")},
                    {"protocol": "IPv6"}]}]});
        }
    }
    status
}
