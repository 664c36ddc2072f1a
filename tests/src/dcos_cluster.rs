//! A small DC/OS cluster: one agent, marathon, and apps on an overlay network, told by a fake master
//! as events and as the state document.

use std::net::Ipv4Addr;

use anyhow::Result;
use serde_json::{Value, json};

use crate::fake_master::{Behaviour, Events, FakeMaster};

/// The master's side: what the operator API and the state document say.
pub struct Cluster {
    /// Where it can be asked.
    pub master: FakeMaster,
    /// Its event stream.
    pub events: Events,
    /// The tasks that it knows.
    pub tasks: Vec<App>,
}

/// The app of `docs/naming.md`: overlay network, container mode.
#[derive(Clone, Debug)]
pub struct App {
    /// Its name.
    pub name: String,
    /// The id of its task.
    pub id: String,
    /// The address of its container.
    pub ip: Ipv4Addr,
    /// The label of its VIP.
    pub vip: String,
}

impl App {
    /// `/mygroup/myapp`.
    pub fn of_the_documentation() -> Self {
        Self {
            name: "myapp.mygroup".into(),
            id: "mygroup_myapp.1".into(),
            ip: [9, 0, 2, 5].into(),
            vip: "/mygroup/myapp:80".into(),
        }
    }

    /// Others, for the size of it.
    pub fn crowd(count: u16) -> impl Iterator<Item = Self> {
        (0..count).map(|number| {
            let [high, low] = number.to_be_bytes();
            Self {
                name: format!("app-{number}"),
                id: format!("app.{number}"),
                ip: [9, 1, high, low].into(),
                vip: format!("/app-{number}:80"),
            }
        })
    }

    fn discovery(&self) -> Value {
        json!({"visibility": "FRAMEWORK", "name": self.name, "ports": {"ports": [{
            "name": "http", "number": 80, "protocol": "tcp",
            "labels": {"labels": [{"key": "VIP_0", "value": self.vip},
                {"key": "network-scope", "value": "container"}]}}]}})
    }

    fn status(&self) -> Value {
        json!({"state": "TASK_RUNNING", "timestamp": 1.0, "container_status": {
            "network_infos": [{"ip_addresses": [{"ip_address": self.ip}]}]}})
    }

    /// Its task as the operator API tells it.
    pub fn task(&self) -> Value {
        json!({"name": self.name, "task_id": {"value": self.id}, "framework_id": {"value": "F"},
            "agent_id": {"value": "S0"}, "state": "TASK_RUNNING", "resources": [],
            "container": {"type": "MESOS", "network_infos": [{"name": "dcos"}]},
            "discovery": self.discovery(), "statuses": [self.status()]})
    }

    /// An event: its task has come to this state.
    pub fn updated(&self, state: &str) -> Value {
        let mut status = self.status();
        status["state"] = state.into();
        status["task_id"] = json!({"value": self.id});
        status["agent_id"] = json!({"value": "S0"});
        json!({"type": "TASK_UPDATED", "task_updated": {"framework_id": {"value": "F"},
            "state": state, "status": status}})
    }

    fn in_state(&self) -> Value {
        json!({"id": self.id, "name": self.name, "slave_id": "S0", "framework_id": "F",
            "state": "TASK_RUNNING", "resources": {"cpus": 0.1},
            "discovery": self.discovery(), "statuses": [self.status()]})
    }
}

impl Cluster {
    /// Starts a master that knows these tasks, in the network namespace of this thread.
    ///
    /// # Errors
    ///
    /// As [`FakeMaster::start`].
    pub fn start(tasks: &[App]) -> Result<Self> {
        let cluster = Self {
            master: FakeMaster::start()?,
            events: Events::default(),
            tasks: tasks.to_vec(),
        };
        cluster.tell();
        let behaviour = Behaviour::Events(cluster.events.clone());
        cluster.master.behave_at("/api/v1", behaviour);
        Ok(cluster)
    }

    /// Brings what the master says when it is asked up to date with the tasks.
    pub fn tell(&self) {
        self.events.begin_with(&self.subscribed());
        let tasks: Vec<Value> = self.tasks.iter().map(App::in_state).collect();
        self.master.serve_state(&json!({
            "leader": format!("master@{}", self.master.address()),
            "slaves": [{"id": "S0", "hostname": "172.17.0.4", "pid": "slave(1)@172.17.0.4:5051"}],
            "frameworks": [{"id": "F", "name": "marathon", "hostname": "172.17.0.2",
                "pid": "scheduler@172.17.0.2:8080", "tasks": tasks}]}));
    }

    /// The first event of a stream.
    pub fn subscribed(&self) -> Value {
        let tasks: Vec<Value> = self.tasks.iter().map(App::task).collect();
        json!({"type": "SUBSCRIBED", "subscribed": {"heartbeat_interval_seconds": 15.0,
            "get_state": {
                "get_agents": {"agents": [{"pid": "slave(1)@172.17.0.4:5051",
                    "agent_info": {"id": {"value": "S0"}, "hostname": "172.17.0.4"}}]},
                "get_frameworks": {"frameworks": [{"framework_info": {"id": {"value": "F"},
                    "name": "marathon", "hostname": "172.17.0.2"}}]},
                "get_tasks": {"tasks": tasks}}}})
    }
}
