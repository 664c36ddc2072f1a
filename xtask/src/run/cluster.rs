//! The sample cluster: four frameworks, six agents, about sixty tasks that come and go.

use serde_json::{Value, json};

/// Agents of the cluster.
const AGENTS: u32 = 6;

/// An application: tasks of one name, between a least and a greatest number of them.
struct Application {
    framework: &'static str,
    name: &'static str,
    least: usize,
    most: usize,
}

/// Together between 38 and 82 tasks. `web` stays at twenty: a name with twenty addresses.
const APPLICATIONS: &[Application] = &[
    application("marathon", "web", 20, 20),
    application("marathon", "api", 4, 10),
    application("marathon", "cache", 2, 6),
    application("marathon", "search", 2, 5),
    application("kafka", "broker", 3, 5),
    application("kafka", "connect", 1, 4),
    application("cassandra", "node", 3, 6),
    application("metronome", "report", 0, 8),
    application("metronome", "backup", 0, 6),
    application("metronome", "train", 3, 12),
];

const fn application(
    framework: &'static str,
    name: &'static str,
    least: usize,
    most: usize,
) -> Application {
    Application {
        framework,
        name,
        least,
        most,
    }
}

/// A task that runs.
struct Task {
    application: usize,
    number: u32,
    agent: u32,
    started: u64,
}

/// The cluster at one moment.
pub(crate) struct Cluster {
    tasks: Vec<Task>,
    next: u32,
    random: u64,
    leader: String,
}

impl Cluster {
    /// A cluster whose leading master is at `leader`, `address:port`. The same seed gives the same
    /// course of events.
    pub(crate) fn new(leader: String, seed: u64) -> Self {
        let mut cluster = Self {
            tasks: Vec::new(),
            next: 1,
            random: seed | 1,
            leader,
        };
        for (index, application) in APPLICATIONS.iter().enumerate() {
            for _ in 0..application.least.midpoint(application.most) {
                cluster.start(index, 0);
            }
        }
        cluster
    }

    /// One task ends or starts; `now` is the time in seconds since the epoch. Says which.
    pub(crate) fn step(&mut self, now: u64) -> String {
        let movable: Vec<_> = (0..APPLICATIONS.len())
            .filter(|index| APPLICATIONS.get(*index).is_some_and(|a| a.least < a.most))
            .collect();
        let pick = self.below(movable.len());
        let index = movable.get(pick).copied().unwrap_or_default();
        let Some(application) = APPLICATIONS.get(index) else {
            return String::new();
        };
        let running: Vec<_> = (0..self.tasks.len())
            .filter(|task| {
                self.tasks
                    .get(*task)
                    .is_some_and(|t| t.application == index)
            })
            .collect();
        let grow = match running.len() {
            count if count <= application.least => true,
            count if count >= application.most => false,
            _ => self.below(2) == 0,
        };
        let mut verb = "started";
        if grow {
            self.start(index, now);
        } else if let Some(task) = running.get(self.below(running.len())) {
            self.tasks.remove(*task);
            verb = "ended";
        }
        format!("{}.{} {verb}", application.name, application.framework)
    }

    /// How many tasks run.
    pub(crate) fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Owner names of all applications under a domain.
    pub(crate) fn names(domain: &str) -> Vec<String> {
        APPLICATIONS
            .iter()
            .map(|application| format!("{}.{}.{domain}", application.name, application.framework))
            .collect()
    }

    /// The state as a Mesos master serves it.
    pub(crate) fn state(&self) -> Value {
        let mut frameworks: Vec<&str> = APPLICATIONS.iter().map(|a| a.framework).collect();
        frameworks.dedup();
        let frameworks: Vec<_> = frameworks
            .iter()
            .enumerate()
            .map(|(index, name)| self.framework(index, name))
            .collect();
        let agents: Vec<_> = (1..=AGENTS)
            .map(|agent| {
                json!({
                    "id": agent_id(agent),
                    "hostname": format!("10.0.1.{agent}"),
                    "pid": format!("slave(1)@10.0.1.{agent}:5051"),
                    "active": true,
                })
            })
            .collect();
        json!({
            "version": "1.11.0",
            "cluster": "sample",
            "leader": format!("master@{}", self.leader),
            "pid": format!("master@{}", self.leader),
            "hostname": "sample-master",
            "slaves": agents,
            "frameworks": frameworks,
        })
    }

    fn framework(&self, index: usize, name: &str) -> Value {
        let id = format!("5a3c1e00-0000-4000-8000-00000000f00d-{index:04}");
        let tasks: Vec<_> = self
            .tasks
            .iter()
            .filter_map(|task| Some((task, APPLICATIONS.get(task.application)?)))
            .filter(|(_, application)| application.framework == name)
            .map(|(task, application)| task_json(task, application, &id))
            .collect();
        json!({
            "id": id,
            "name": name,
            "pid": format!("scheduler(1)@10.0.0.{}:15000", 10 + index),
            "hostname": format!("scheduler-{name}"),
            "active": true,
            "tasks": tasks,
        })
    }

    fn start(&mut self, application: usize, now: u64) {
        let agent = u32::try_from(self.below(AGENTS as usize)).unwrap_or_default() + 1;
        self.tasks.push(Task {
            application,
            number: self.next,
            agent,
            started: now,
        });
        self.next = self.next.wrapping_add(1);
    }

    /// A number below `bound`, by xorshift.
    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from((self.random >> 11) % bound).unwrap_or_default()
    }
}

fn agent_id(agent: u32) -> String {
    format!("5a3c1e00-0000-4000-8000-00000000f00d-S{agent}")
}

fn task_json(task: &Task, application: &Application, framework: &str) -> Value {
    let low = task.number & 0xff;
    let address = format!("10.32.{}.{low}", task.agent);
    let address6 = format!("2001:db8:32:{}::{low:x}", task.agent);
    let port = 31_000 + (task.number % 900);
    json!({
        "id": format!("{}.{:08x}-0000-11f0-9000-70b3d5800001", application.name, task.number),
        "name": application.name,
        "framework_id": framework,
        "slave_id": agent_id(task.agent),
        "state": "TASK_RUNNING",
        "resources": { "cpus": 0.5, "mem": 256, "disk": 0, "ports": format!("[{port}-{port}]") },
        "statuses": [{
            "state": "TASK_RUNNING",
            "timestamp": task.started,
            "container_status": {
                "network_infos": [{
                    "ip_addresses": [
                        { "protocol": "IPv4", "ip_address": address },
                        { "protocol": "IPv6", "ip_address": address6 },
                    ],
                }],
            },
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_stays_near_sixty_tasks_of_four_frameworks() {
        let mut cluster = Cluster::new("127.0.0.1:5050".to_owned(), 7);
        for now in 0..1000 {
            cluster.step(now);
            assert!(
                (38..=82).contains(&cluster.tasks()),
                "{} tasks",
                cluster.tasks()
            );
        }
        let state = cluster.state();
        let frameworks = state["frameworks"].as_array().unwrap();
        assert_eq!(frameworks.len(), 4);
        let tasks = frameworks
            .iter()
            .flat_map(|f| f["tasks"].as_array().unwrap());
        assert_eq!(tasks.clone().count(), cluster.tasks());
        assert_eq!(tasks.filter(|task| task["name"] == "web").count(), 20);
    }
}
