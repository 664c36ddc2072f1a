//! The records under the Mesos domain, kept up to date change by change: what a full build of the
//! same state gives, at the cost of what changed.
//!
//! Each agent, framework and task contributes the records that [`generate`](super::generate) makes
//! for it alone; a record is there as long as somebody contributes it. What a contributor had is
//! not kept but made again, by the facts as they were.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use self::direct::{Contribution, Cuts, Direct};
use super::counted::CountedRecords;
use super::mesos::{self, FrameworkNames, host_addresses};
use super::{Settings, fixed};
use crate::mesos::pid::{is_name, split_host_port};
use crate::mesos::state::{Agent, Framework, Scheduler, State, Task};
use crate::mesos::state_model::{FrameworkFacts, StateChange, StateChanges};
use crate::mesos::tasks::TaskKey;
use crate::mesos::{Defect, Defects};
use crate::zones::{Name, Rrset};

mod direct;

/// A cluster and its records.
pub struct LiveRecords {
    settings: Arc<Settings>,
    apex: Name,
    /// The leading master, `master@host:port`.
    leader: String,
    /// The masters, `host:port`, in the order in which they are numbered.
    candidates: Vec<String>,
    agents: HashMap<Arc<str>, AgentEntry>,
    frameworks: HashMap<Arc<str>, FrameworkEntry>,
    tasks: HashMap<TaskKey, TaskEntry>,
    on_agent: HashMap<Arc<str>, HashSet<TaskKey>>,
    of_framework: HashMap<Arc<str>, HashSet<TaskKey>>,
    /// What a fetched state says of schedulers, by framework; events have no ports of them.
    schedulers: HashMap<Box<str>, Scheduler>,
    /// Addresses of host names.
    hosts: HashMap<Box<str>, Vec<IpAddr>>,
    /// Whether any was looked for among them.
    looked_for_hosts: Cell<bool>,
    records: CountedRecords,
    fixed: Contribution,
    defects: Defects,
    cuts: Cuts,
    arrivals: u64,
}

struct AgentEntry {
    agent: Arc<Agent>,
    addresses: Vec<IpAddr>,
}

struct FrameworkEntry {
    facts: Arc<FrameworkFacts>,
    names: FrameworkNames,
}

struct TaskEntry {
    task: Arc<Task>,
    arrival: u64,
}

impl LiveRecords {
    /// The records of a cluster of which nothing is known but its masters.
    #[must_use]
    pub fn new(
        settings: Arc<Settings>,
        apex: Name,
        leader: String,
        candidates: Vec<String>,
    ) -> Self {
        let mut live = Self {
            settings,
            apex,
            leader,
            candidates,
            agents: HashMap::new(),
            frameworks: HashMap::new(),
            tasks: HashMap::new(),
            on_agent: HashMap::new(),
            of_framework: HashMap::new(),
            schedulers: HashMap::new(),
            hosts: HashMap::new(),
            looked_for_hosts: Cell::default(),
            records: CountedRecords::default(),
            fixed: Contribution::default(),
            defects: Defects::default(),
            cuts: Cuts::default(),
            arrivals: 0,
        };
        live.renew_fixed(&mut Vec::new());
        live
    }

    /// The same cluster by other settings.
    #[must_use]
    pub fn with_settings(&self, settings: Arc<Settings>, apex: Name) -> Self {
        let mut live = Self::new(settings, apex, self.leader.clone(), self.candidates.clone());
        live.hosts.clone_from(&self.hosts);
        live.schedulers.clone_from(&self.schedulers);
        live.renew_fixed(&mut Vec::new());
        live.apply(&self.whole());
        live
    }

    fn whole(&self) -> StateChanges {
        let agents = self.agents.iter();
        let agents = agents
            .map(|(id, entry)| StateChange::Agent(Arc::clone(id), Some(Arc::clone(&entry.agent))));
        let frameworks = self.frameworks.iter();
        let frameworks = frameworks.map(|(id, entry)| {
            StateChange::Framework(Arc::clone(id), Some(Arc::clone(&entry.facts)))
        });
        let mut tasks: Vec<(&TaskKey, &TaskEntry)> = self.tasks.iter().collect();
        tasks.sort_unstable_by_key(|(_, entry)| entry.arrival);
        let tasks = tasks
            .into_iter()
            .map(|(key, entry)| StateChange::Task(key.clone(), Some(Arc::clone(&entry.task))));
        StateChanges {
            resync: true,
            list: agents.chain(frameworks).chain(tasks).collect(),
        }
    }

    /// Applies changes; gives the names whose records are others than before.
    pub fn apply(&mut self, changes: &StateChanges) -> HashSet<Name> {
        let mut changed = HashSet::new();
        if changes.resync {
            self.remove_others(changes, &mut changed);
        }
        for change in &changes.list {
            match change {
                StateChange::Agent(id, agent) => self.set_agent(id, agent.as_ref(), &mut changed),
                StateChange::Framework(id, facts) => {
                    self.set_framework(id, facts.as_ref(), &mut changed);
                }
                StateChange::Task(key, task) => self.set_task(key, task.as_ref(), &mut changed),
            }
        }
        changed
    }

    /// Takes away what a whole state does not name.
    fn remove_others(&mut self, changes: &StateChanges, changed: &mut HashSet<Name>) {
        let (mut agents, mut frameworks, mut tasks) =
            (HashSet::new(), HashSet::new(), HashSet::new());
        for change in &changes.list {
            match change {
                StateChange::Agent(id, Some(_)) => _ = agents.insert(id),
                StateChange::Framework(id, Some(_)) => _ = frameworks.insert(id),
                StateChange::Task(key, Some(_)) => _ = tasks.insert(key),
                _ => {}
            }
        }
        let gone: Vec<TaskKey> = not_in(self.tasks.keys(), &tasks);
        for key in gone {
            self.set_task(&key, None, changed);
        }
        for id in not_in(self.frameworks.keys(), &frameworks) {
            self.set_framework(&id, None, changed);
        }
        for id in not_in(self.agents.keys(), &agents) {
            self.set_agent(&id, None, changed);
        }
    }

    fn set_task(&mut self, key: &TaskKey, task: Option<&Arc<Task>>, changed: &mut HashSet<Name>) {
        let before = self.tasks.get(key);
        if before.map(|entry| &entry.task) == task {
            return;
        }
        let old = self.of_task(key, before.map(|entry| &*entry.task));
        let arrival = before.map_or_else(
            || {
                self.arrivals += 1;
                self.arrivals
            },
            |entry| entry.arrival,
        );
        if let Some(before) = self.tasks.remove(key) {
            remove_from(&mut self.on_agent, &before.task.agent_id, key);
            remove_from(&mut self.of_framework, &key.framework_id, key);
        }
        if let Some(task) = task {
            insert_into(&mut self.on_agent, &task.agent_id, key);
            insert_into(&mut self.of_framework, &key.framework_id, key);
            let task = Arc::clone(task);
            self.tasks.insert(key.clone(), TaskEntry { task, arrival });
        }
        let keys = std::slice::from_ref(key);
        self.exchange(old, keys, Contribution::default(), changed);
    }

    fn set_agent(
        &mut self,
        id: &Arc<str>,
        agent: Option<&Arc<Agent>>,
        changed: &mut HashSet<Name>,
    ) {
        let before = self.agents.get(id);
        if before.map(|entry| &entry.agent) == agent {
            return;
        }
        let keys: Vec<TaskKey> = self
            .on_agent
            .get(id)
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        let mut old = self.of_tasks(&keys);
        old.add(self.of_agent(id));
        match agent {
            Some(agent) => {
                let addresses = self.agent_addresses(agent);
                let agent = Arc::clone(agent);
                let entry = AgentEntry { agent, addresses };
                self.agents.insert(Arc::clone(id), entry);
            }
            None => _ = self.agents.remove(id),
        }
        let own = self.of_agent(id);
        self.exchange(old, &keys, own, changed);
    }

    fn set_framework(
        &mut self,
        id: &Arc<str>,
        facts: Option<&Arc<FrameworkFacts>>,
        changed: &mut HashSet<Name>,
    ) {
        let before = self.frameworks.get(id);
        if before.map(|entry| &entry.facts) == facts {
            return;
        }
        let keys: Vec<TaskKey> = self
            .of_framework
            .get(id)
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        let is_renamed = before.map(|entry| &entry.facts.name) != facts.map(|facts| &facts.name);
        let keys = if is_renamed { keys } else { Vec::new() };
        let mut old = self.of_tasks(&keys);
        old.add(self.of_scheduler(id));
        let was_master = self.is_called_master(id);
        match facts {
            Some(facts) => {
                let names = FrameworkNames::new(&facts.name, &self.settings);
                let facts = Arc::clone(facts);
                let entry = FrameworkEntry { facts, names };
                self.frameworks.insert(Arc::clone(id), entry);
            }
            None => {
                self.frameworks.remove(id);
                self.schedulers.remove(&**id);
            }
        }
        let own = self.of_scheduler(id);
        self.exchange(old, &keys, own, changed);
        if was_master || self.is_called_master(id) {
            self.renew_fixed(changed);
        }
    }

    /// Takes over the leading master, `master@host:port`, and the masters as they are numbered;
    /// gives the names whose records are others than before.
    pub fn set_masters(&mut self, leader: &str, candidates: &[String]) -> HashSet<Name> {
        let mut changed = HashSet::new();
        leader.clone_into(&mut self.leader);
        candidates.clone_into(&mut self.candidates);
        self.renew_fixed(&mut changed);
        changed
    }

    /// Takes over what a fetched state says of schedulers, by the ids of their frameworks; gives the
    /// names whose records are others than before.
    pub fn set_schedulers(
        &mut self,
        schedulers: impl IntoIterator<Item = (Box<str>, Scheduler)>,
    ) -> HashSet<Name> {
        let mut changed = HashSet::new();
        for (id, scheduler) in schedulers {
            if self.schedulers.get(&id) == Some(&scheduler) {
                continue;
            }
            let old = self.of_scheduler(&id);
            self.schedulers.insert(id.clone(), scheduler);
            let own = self.of_scheduler(&id);
            self.exchange(old, &[], own, &mut changed);
            if self.is_called_master(&id) {
                self.renew_fixed(&mut changed);
            }
        }
        changed
    }

    /// Takes over the addresses of a host name; gives the names whose records are others than
    /// before.
    pub fn set_host(&mut self, host: &str, addresses: &[IpAddr]) -> HashSet<Name> {
        let mut changed = HashSet::new();
        if self.hosts.get(host).is_some_and(|known| known == addresses) {
            return changed;
        }
        let old: Vec<(Arc<str>, Contribution)> = self
            .frameworks
            .keys()
            .filter(|id| self.scheduler_host(id) == Some(host))
            .map(|id| (Arc::clone(id), self.of_scheduler(id)))
            .collect();
        self.hosts.insert(host.into(), addresses.to_vec());
        for (id, old) in old {
            let own = self.of_scheduler(&id);
            self.exchange(old, &[], own, &mut changed);
        }
        let is_on_it = |entry: &AgentEntry| {
            let pid = entry.agent.pid.as_ref();
            pid.is_some_and(|pid| *pid.host == *host)
        };
        let agents = self.agents.iter().filter(|(_, entry)| is_on_it(entry));
        let agents: Vec<(Arc<str>, Arc<Agent>)> = agents
            .map(|(id, entry)| (Arc::clone(id), Arc::clone(&entry.agent)))
            .collect();
        for (id, agent) in agents {
            // Its addresses are kept with it, so what it had is still made as it was.
            self.set_agent(&id, None, &mut changed);
            self.set_agent(&id, Some(&agent), &mut changed);
        }
        self.renew_fixed(&mut changed);
        changed
    }

    /// The host names that records depend on, if those may be others than when this was asked last.
    /// The addresses of all others are forgotten: frameworks come and go, each with a host.
    pub fn take_hosts(&mut self) -> Option<BTreeSet<String>> {
        if !self.looked_for_hosts.take() {
            return None;
        }
        let of_agent = |entry: &'_ AgentEntry| Some(entry.agent.pid.as_ref()?.host.to_string());
        let of_agents = self.agents.values().filter_map(of_agent);
        let frameworks = self.frameworks.keys();
        let of_schedulers = frameworks.filter_map(|id| self.scheduler_host(id).map(str::to_owned));
        let leader = self.leader.split('@').nth(1);
        let masters = self.candidates.iter().map(String::as_str).chain(leader);
        let masters = masters.filter_map(|one| split_host_port(one).ok());
        let of_masters = masters.map(|(host, _)| host.to_owned());
        let all = of_agents.chain(of_schedulers).chain(of_masters);
        let hosts: BTreeSet<String> = all.filter(|host| is_name(host)).collect();
        self.hosts.retain(|host, _| hosts.contains(&**host));
        Some(hosts)
    }

    /// Every host name whose addresses are known.
    pub fn known_hosts(&self) -> impl Iterator<Item = (&str, &[IpAddr])> {
        let hosts = self.hosts.iter();
        hosts.map(|(host, addresses)| (&**host, addresses.as_slice()))
    }

    /// The RRsets of one name; none if it has no records.
    #[must_use]
    pub fn rrsets(&self, name: &Name) -> Vec<Rrset> {
        self.records.rrsets(name, self.settings.ttl)
    }

    /// All RRsets of the zone but its authority records.
    #[must_use]
    pub fn content(&self) -> Vec<(Name, Rrset)> {
        self.records.content(self.settings.ttl)
    }

    /// What the cluster holds but these records do not.
    #[must_use]
    pub const fn defects(&self) -> &Defects {
        &self.defects
    }

    /// How many tasks run.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// The leading master, `master@host:port`.
    #[must_use]
    pub fn leader(&self) -> &str {
        &self.leader
    }

    /// The masters, in the order in which they are numbered.
    #[must_use]
    pub fn candidates(&self) -> &[String] {
        &self.candidates
    }

    /// The cluster as a fetched state would tell it: frameworks by id, tasks as they came.
    #[must_use]
    pub fn state(&self) -> State {
        let mut agents: Vec<&AgentEntry> = self.agents.values().collect();
        agents.sort_unstable_by(|a, b| a.agent.id.cmp(&b.agent.id));
        let frameworks: BTreeMap<&Arc<str>, &FrameworkEntry> = self.frameworks.iter().collect();
        let frameworks = frameworks.into_iter().map(|(id, entry)| {
            let keys = self.of_framework.get(id).into_iter().flatten();
            let mut tasks: Vec<&TaskEntry> = keys.filter_map(|key| self.tasks.get(key)).collect();
            tasks.sort_unstable_by_key(|entry| entry.arrival);
            Framework {
                id: (&**id).into(),
                name: entry.facts.name.clone(),
                scheduler: self.scheduler(id, &entry.facts),
                tasks: tasks
                    .into_iter()
                    .map(|entry| Arc::clone(&entry.task))
                    .collect(),
            }
        });
        State {
            leader: self.leader.as_str().into(),
            frameworks: frameworks.collect(),
            agents: agents
                .into_iter()
                .map(|entry| (*entry.agent).clone())
                .collect(),
        }
    }

    /// The addresses of a host name, as far as they are known.
    fn resolve(&self, host: &str) -> Vec<IpAddr> {
        self.looked_for_hosts.set(true);
        self.hosts.get(host).cloned().unwrap_or_default()
    }

    fn agent_addresses(&self, agent: &Agent) -> Vec<IpAddr> {
        let host = agent.pid.as_ref().map_or("", |pid| &*pid.host);
        host_addresses(host, &|host| self.resolve(host))
    }

    fn scheduler(&self, id: &str, facts: &FrameworkFacts) -> Scheduler {
        let known = self.schedulers.get(id);
        known
            .cloned()
            .unwrap_or_else(|| Scheduler::Hostname(facts.hostname.clone()))
    }

    /// The host of a scheduler, if it is a name.
    fn scheduler_host(&self, id: &str) -> Option<&str> {
        let host = match self.schedulers.get(id) {
            Some(Scheduler::Pid(pid)) => &*pid.host,
            Some(Scheduler::Hostname(host)) => host,
            Some(Scheduler::Unknown) => return None,
            None => &*self.frameworks.get(id)?.facts.hostname,
        };
        Some(host).filter(|host| is_name(host))
    }

    fn direct(&self) -> Direct<'_> {
        Direct::new(&self.apex, &self.settings, &self.cuts)
    }

    fn of_agent(&self, id: &str) -> Contribution {
        let mut sink = self.direct();
        if let Some(entry) = self.agents.get(id) {
            if entry.agent.pid.is_none() {
                let place = || format!("agent {id}: no pid");
                sink.made.defects.note(Defect::AgentPid, place);
            }
            mesos::agent_records(&entry.agent, &entry.addresses, &self.settings, &mut sink);
        }
        sink.finish()
    }

    fn write_scheduler(&self, id: &str, sink: &mut Direct<'_>) {
        let Some(entry) = self.frameworks.get(id) else {
            return;
        };
        let framework = Framework {
            id: id.into(),
            name: entry.facts.name.clone(),
            scheduler: self.scheduler(id, &entry.facts),
            tasks: Vec::new(),
        };
        let resolve = |host: &str| self.resolve(host);
        let mut defects = Defects::default();
        mesos::framework_records(&framework, &self.settings, &resolve, sink, &mut defects);
        sink.made.defects.merge(&defects);
    }

    fn of_scheduler(&self, id: &str) -> Contribution {
        let mut sink = self.direct();
        self.write_scheduler(id, &mut sink);
        sink.finish()
    }

    fn of_task(&self, key: &TaskKey, task: Option<&Task>) -> Contribution {
        let Some(task) = task else {
            return Contribution::default();
        };
        let framework = self.frameworks.get(&key.framework_id);
        let agent = self.agents.get(&*task.agent_id);
        let Some((framework, agent)) = framework.zip(agent) else {
            return Contribution::default();
        };
        let mut sink = self.direct();
        let (names, settings) = (&framework.names, &self.settings);
        mesos::task_records(task, &agent.addresses, names, settings, &mut sink);
        sink.finish()
    }

    fn of_tasks(&self, keys: &[TaskKey]) -> Contribution {
        let mut all = Contribution::default();
        for key in keys {
            let task = self.tasks.get(key).map(|entry| &*entry.task);
            all.add(self.of_task(key, task));
        }
        all
    }

    /// Puts the present records of tasks, and `own` ones, in the place of `old` ones.
    fn exchange(
        &mut self,
        old: Contribution,
        keys: &[TaskKey],
        own: Contribution,
        changed: &mut HashSet<Name>,
    ) {
        let mut new = self.of_tasks(keys);
        if !old.cuts.is_empty() || !new.cuts.is_empty() {
            if self.cuts.count(&old.cuts, &new.cuts) {
                // Others' names may be cut in another way by this: seldom, as it takes two long
                // names that begin alike with the same hash, and not worth an index.
                self.rebuild(changed);
                return;
            }
            // How these are cut may depend on their own coming.
            new = self.of_tasks(keys);
        }
        new.add(own);
        self.records.replace(&old.records, &new.records, changed);
        self.defects.merge(&new.defects);
        self.defects.retract(&old.defects);
    }

    /// Makes every record anew.
    fn rebuild(&mut self, changed: &mut HashSet<Name>) {
        let before = std::mem::take(&mut self.records);
        let keys: Vec<TaskKey> = self.tasks.keys().cloned().collect();
        let mut all = self.of_tasks(&keys);
        for id in self.agents.keys() {
            all.add(self.of_agent(id));
        }
        for id in self.frameworks.keys() {
            all.add(self.of_scheduler(id));
        }
        all.records.extend(self.fixed.records.iter().cloned());
        all.defects.merge(&self.fixed.defects);
        self.defects = all.defects;
        self.records.replace(&[], &all.records, &mut Vec::new());
        changed.extend(before.names_that_differ(&self.records));
    }

    fn is_called_master(&self, id: &str) -> bool {
        let entry = self.frameworks.get(id);
        entry.is_some_and(|entry| entry.names == FrameworkNames::new("master", &self.settings))
    }

    /// Brings the records of the name server and the masters up to date.
    fn renew_fixed(&mut self, changed: &mut impl Extend<Name>) {
        let mut sink = self.direct();
        fixed::name_server_records(&self.settings.name_server, &mut sink);
        let own = sink.made.records.len();
        // A framework may be called `master`: whom its records name gets no number.
        let masters = FrameworkNames::new("master", &self.settings);
        for (id, entry) in &self.frameworks {
            if entry.names == masters {
                self.write_scheduler(id, &mut sink);
            }
        }
        sink.made.records.truncate(own);
        sink.made.defects = Defects::default();
        let resolve = |host: &str| self.resolve(host);
        let mut defects = Defects::default();
        fixed::master_records(
            &self.leader,
            &self.candidates,
            &self.settings,
            &resolve,
            &mut sink,
            &mut defects,
        );
        let mut new = sink.finish();
        new.defects.merge(&defects);
        self.records
            .replace(&self.fixed.records, &new.records, changed);
        self.defects.merge(&new.defects);
        self.defects.retract(&self.fixed.defects);
        self.fixed = new;
    }
}

fn not_in<K: Clone + Eq + std::hash::Hash>(
    all: impl Iterator<Item = impl std::borrow::Borrow<K>>,
    present: &HashSet<&K>,
) -> Vec<K> {
    all.filter(|one| !present.contains(one.borrow()))
        .map(|one| one.borrow().clone())
        .collect()
}

fn insert_into(index: &mut HashMap<Arc<str>, HashSet<TaskKey>>, id: &str, key: &TaskKey) {
    match index.get_mut(id) {
        Some(keys) => _ = keys.insert(key.clone()),
        None => _ = index.insert(id.into(), HashSet::from([key.clone()])),
    }
}

fn remove_from(index: &mut HashMap<Arc<str>, HashSet<TaskKey>>, id: &str, key: &TaskKey) {
    if let Some(keys) = index.get_mut(id) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(id);
        }
    }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
