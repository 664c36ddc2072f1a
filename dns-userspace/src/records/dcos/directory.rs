//! The names of tasks under `dcos.thisdcos.directory`: `agentip`, `containerip` and `autoip`, and
//! the names of the masters beside them.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::contributions::Contributions;
use super::label::label;
use super::zones::{DCOS, TTL};
use crate::mesos::tasks::{Task, TaskKey, TaskState};
use crate::zones::{Name, Rdata, Rrset};

/// Who has a record in the zone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Owner {
    Task(TaskKey),
    Leader,
    Masters,
}

/// The content of the `dcos` zone, kept up to date task by task.
#[derive(Debug, Clone)]
pub struct Directory {
    records: Contributions<Owner>,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            records: Contributions::new(TTL),
        }
    }
}

impl Directory {
    /// Takes over what is known of one task, `None` if it is over. Names whose records are others
    /// than before are added to `changed`.
    pub fn set_task(&mut self, key: &TaskKey, task: Option<&Task>, changed: &mut BTreeSet<Name>) {
        let records = task.map(task_records).unwrap_or_default();
        self.records.set(Owner::Task(key.clone()), records, changed);
    }

    /// Takes over all tasks; those that are not among them are over.
    pub fn replace_tasks<'a>(
        &mut self,
        tasks: impl Iterator<Item = (&'a TaskKey, &'a Arc<Task>)>,
        changed: &mut BTreeSet<Name>,
    ) {
        let mut present = HashSet::new();
        for (key, task) in tasks {
            present.insert(key);
            self.set_task(key, Some(task), changed);
        }
        let gone: Vec<TaskKey> = self
            .records
            .owners()
            .filter_map(|owner| match owner {
                Owner::Task(key) if !present.contains(key) => Some(key.clone()),
                _ => None,
            })
            .collect();
        for key in gone {
            self.set_task(&key, None, changed);
        }
    }

    /// Takes over the address of the leading master, for `leader`.
    pub fn set_leader(&mut self, leader: Option<IpAddr>, changed: &mut BTreeSet<Name>) {
        let records = leader.iter().filter_map(|&ip| master_record("leader", ip));
        self.records.set(Owner::Leader, records.collect(), changed);
    }

    /// Takes over the addresses of all masters, for `master`.
    pub fn set_masters(&mut self, masters: &[IpAddr], changed: &mut BTreeSet<Name>) {
        let records = masters.iter().filter_map(|&ip| master_record("master", ip));
        self.records.set(Owner::Masters, records.collect(), changed);
    }

    /// The RRsets of one name; none if it has no records.
    #[must_use]
    pub fn rrsets(&self, name: &Name) -> Vec<Rrset> {
        self.records.rrsets(name)
    }

    /// All RRsets of the zone but its authority records.
    #[must_use]
    pub fn content(&self) -> Vec<(Name, Rrset)> {
        self.records.content()
    }
}

/// The records of a task. Only a running one has any; its health does not matter.
///
/// `autoip` is the agent's address if any port of the agent leads to the task, else the task's
/// own addresses, else the agent's.
#[must_use]
pub fn task_records(task: &Task) -> Vec<(Name, Rdata)> {
    if task.state != TaskState::Running {
        return Vec::new();
    }
    let (Some(name), Some(framework), Some(agent_ip)) =
        (&task.name, &task.framework, task.agent_ip)
    else {
        return Vec::new();
    };
    // Dots in the framework's name become hyphens here, unlike in the names of VIPs.
    let owner = format!("{}.{}", label(name), label(framework));
    let agent = std::slice::from_ref(&agent_ip);
    let mapped = task.ports.iter().any(|port| port.host_port.is_some());
    let auto = if mapped || task.task_ips.is_empty() {
        agent
    } else {
        &task.task_ips
    };
    let mut records = Vec::with_capacity(1 + 2 * task.task_ips.len().max(1));
    for (kind, ips) in [
        ("agentip", agent),
        ("containerip", task.task_ips.as_slice()),
        ("autoip", auto),
    ] {
        // A name that is too long, or that mangles to an empty label, cannot be asked for.
        let Ok(name) = Name::from_text(&format!("{owner}.{kind}.{DCOS}")) else {
            continue;
        };
        records.extend(ips.iter().map(|&ip| (name.clone(), address(ip))));
    }
    records
}

fn master_record(host: &str, ip: IpAddr) -> Option<(Name, Rdata)> {
    let name = Name::from_text(&format!("{host}.{DCOS}")).ok()?;
    Some((name, address(ip)))
}

/// An address as A or AAAA data.
pub(super) const fn address(ip: IpAddr) -> Rdata {
    match ip {
        IpAddr::V4(ip) => Rdata::A(ip),
        IpAddr::V6(ip) => Rdata::Aaaa(ip),
    }
}
