//! The names under the Mesos domain that come from frameworks, agents and tasks.

use std::collections::HashMap;
use std::net::IpAddr;

use super::Settings;
use super::addresses::{Address, task_addresses};
use super::label::{Canonical, agent_tail, canonical, task_hash};
use super::sink::{Rule, Sink, Subject};
use crate::mesos::state::{Agent, Framework, Scheduler, State, Task, is_name, parse_ip};
use crate::mesos::{Defect, Defects};

/// Looks up a host name. It is only asked for names, never for what is an address or looks like one.
pub type Resolve<'a> = &'a dyn Fn(&str) -> Vec<IpAddr>;

/// The addresses of a host: itself if it is one, else what `resolve` says of a name.
#[must_use]
pub fn host_addresses(host: &str, resolve: Resolve<'_>) -> Vec<IpAddr> {
    match parse_ip(host) {
        Some(ip) => vec![ip],
        None if is_name(host) => resolve(host).iter().map(IpAddr::to_canonical).collect(),
        None => Vec::new(),
    }
}

/// The ends of all names of one framework's tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameworkNames {
    /// `.framework.domain.`
    own: String,
    /// `.framework.slave.domain.`
    slave: String,
}

impl FrameworkNames {
    /// Makes the name of a framework into labels.
    #[must_use]
    pub fn new(framework: &str, settings: &Settings) -> Self {
        let framework = settings.labels.fragment(framework);
        let domain = &*settings.domain;
        Self {
            own: [".", &framework, ".", domain, "."].concat(),
            slave: [".", &framework, ".slave.", domain, "."].concat(),
        }
    }
}

/// The records of a framework's scheduler.
pub fn framework_records<S: Sink>(
    framework: &Framework,
    settings: &Settings,
    resolve: Resolve<'_>,
    sink: &mut S,
    defects: &mut Defects,
) {
    let (host, port) = match &framework.scheduler {
        Scheduler::Pid(pid) => (&*pid.host, Some(pid.port)),
        Scheduler::Hostname(host) => (&**host, None),
        Scheduler::Unknown => return,
    };
    let addresses = host_addresses(host, resolve);
    if addresses.is_empty() {
        if !host.is_empty() {
            let place = || format!("framework {}: host {host:?}", framework.name);
            defects.note(Defect::UnresolvedHost, place);
        }
        return;
    }
    let fragment = settings.labels.fragment(&framework.name);
    let domain = &*settings.domain;
    let owner = sink.name(&[&fragment, ".", domain, "."].concat());
    for ip in addresses {
        sink.address(owner, &ip.into(), Rule::Framework);
    }
    if let Some(port) = port {
        let service = sink.name(&["_framework._tcp.", &fragment, ".", domain, "."].concat());
        sink.service(service, owner, i64::from(port), Rule::Framework);
    }
}

/// The records of an agent; `addresses` are those of its host.
pub fn agent_records<S: Sink>(
    agent: &Agent,
    addresses: &[IpAddr],
    settings: &Settings,
    sink: &mut S,
) {
    let Some(pid) = agent.pid.as_ref().filter(|_| !addresses.is_empty()) else {
        return;
    };
    let domain = &*settings.domain;
    let owner = sink.name(&["slave.", domain, "."].concat());
    for &ip in addresses {
        sink.address(owner, &ip.into(), Rule::Agent);
    }
    let service = sink.name(&["_slave._tcp.", domain, "."].concat());
    sink.service(service, owner, i64::from(pid.port), Rule::Agent);
}

/// The records of one running task on a known agent.
///
/// It depends on nothing but its arguments, so that a source of single task updates can add and
/// remove the records of one task. The order is that of mesos-dns, which its `enumerate` shows.
pub fn task_records<S: Sink>(
    task: &Task,
    agent_addresses: &[IpAddr],
    framework: &FrameworkNames,
    settings: &Settings,
    sink: &mut S,
) {
    let own = task_addresses(task, agent_addresses, &settings.ip_sources);
    let labels = settings.labels;
    let mut writer = TaskWriter {
        task,
        framework,
        hash: task_hash(&task.id),
        tail: agent_tail(&task.agent_id).into_owned(),
        sink,
        name: String::with_capacity(128),
    };
    let (rule, own) = match own {
        Some((source, addresses)) => (Rule::TaskAddress(source), addresses),
        None => (Rule::AgentAddress, Vec::new()),
    };
    match &task.discovery {
        None => {
            let label = labels.label(&task.name);
            let label = writer.labels(&label);
            writer.addresses(&label, &own, rule, agent_addresses);
            writer.resource_ports(&label, &[&framework.slave, &framework.own]);
        }
        Some(discovery) => {
            // Raw first, then mangled, as in the original.
            let mangled = labels.label(&discovery.name);
            for label in [&*discovery.name, &mangled] {
                let label = writer.labels(label);
                writer.addresses(&label, &own, rule, agent_addresses);
                writer.resource_ports(&label, &[&framework.slave]);
                for port in &discovery.ports {
                    let service = labels.label(&port.name);
                    let protocol = labels.label(&port.protocol);
                    let protocols = match &*protocol {
                        "" => vec!["tcp", "udp"],
                        one => vec![one],
                    };
                    writer.discovery_port(&label, &service, &protocols, port.number, false);
                    // `tcp,udp` has the one label `tcpudp` there; clients look for the two.
                    let parts: Vec<String> = port
                        .protocol
                        .split(',')
                        .map(|part| labels.label(part))
                        .filter(|part| !part.is_empty())
                        .collect();
                    if parts.len() > 1 {
                        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                        writer.discovery_port(&label, &service, &parts, port.number, true);
                    }
                }
            }
        }
    }
}

struct TaskWriter<'a, S: Sink> {
    task: &'a Task,
    framework: &'a FrameworkNames,
    hash: String,
    tail: String,
    sink: &'a mut S,
    /// The name being built.
    name: String,
}

/// The leftmost labels of one pass: the name, and the canonical labels made of it.
struct Labels<'l> {
    plain: &'l str,
    canonical: Canonical,
}

impl<S: Sink> TaskWriter<'_, S> {
    fn owner(&mut self, parts: &[&str]) -> S::Name {
        self.name.clear();
        for part in parts {
            self.name.push_str(part);
        }
        self.sink.name(&self.name)
    }

    fn labels<'l>(&self, plain: &'l str) -> Labels<'l> {
        let canonical = canonical(plain, &self.hash, &self.tail);
        Labels { plain, canonical }
    }

    fn canonical(&mut self, labels: &Labels<'_>, suffix: &str) -> S::Name {
        let made = &labels.canonical;
        match &made.dns {
            None => self.owner(&[&made.text, suffix]),
            Some(dns) => {
                let (text, dns) = ([&made.text, suffix].concat(), [dns, suffix].concat());
                self.sink.name_cut_for_dns(&text, &dns)
            }
        }
    }

    fn addresses(&mut self, labels: &Labels<'_>, own: &[IpAddr], rule: Rule, agent: &[IpAddr]) {
        let framework = self.framework;
        for (suffix, addresses, rule) in [
            (&*framework.own, own, rule),
            (&*framework.slave, agent, Rule::AgentAddress),
        ] {
            if addresses.is_empty() {
                continue;
            }
            let plain = self.owner(&[labels.plain, suffix]);
            let canonical = self.canonical(labels, suffix);
            for &ip in addresses {
                let address = Address::from(ip);
                self.sink.address(plain, &address, rule);
                self.sink.address(canonical, &address, rule);
            }
        }
    }

    fn resource_ports(&mut self, labels: &Labels<'_>, suffixes: &[&str]) {
        if self.task.ports.is_empty() {
            return;
        }
        let framework = self.framework;
        let target = self.canonical(labels, &framework.slave);
        let label = labels.plain;
        let mut owners = Vec::with_capacity(4);
        for suffix in suffixes {
            owners.push(self.owner(&["_", label, "._tcp", suffix]));
            owners.push(self.owner(&["_", label, "._udp", suffix]));
        }
        for &(low, high) in &self.task.ports {
            for port in low..=high {
                for &owner in &owners {
                    self.sink.service(owner, target, port, Rule::ResourcePort);
                }
            }
        }
    }

    fn discovery_port(
        &mut self,
        labels: &Labels<'_>,
        service: &str,
        protocols: &[&str],
        port: i64,
        in_dns_only: bool,
    ) {
        let framework = self.framework;
        let target = self.canonical(labels, &framework.own);
        let label = labels.plain;
        let mut owners = Vec::with_capacity(4);
        for protocol in protocols {
            owners.push(self.owner(&["_", label, "._", protocol, &framework.own]));
        }
        if !service.is_empty() {
            for protocol in protocols {
                owners.push(self.owner(&[
                    "_",
                    service,
                    "._",
                    label,
                    "._",
                    protocol,
                    &framework.own,
                ]));
            }
        }
        for owner in owners {
            let rule = Rule::DiscoveryPort;
            if in_dns_only {
                self.sink.service_in_dns_only(owner, target, port, rule);
            } else {
                self.sink.service(owner, target, port, rule);
            }
        }
    }
}

/// The addresses of an agent's host.
#[must_use]
pub fn agent_addresses(agent: &Agent, resolve: Resolve<'_>, defects: &mut Defects) -> Vec<IpAddr> {
    let host = agent.pid.as_ref().map_or("", |pid| &*pid.host);
    let addresses = host_addresses(host, resolve);
    if addresses.is_empty() && !host.is_empty() {
        let place = || format!("agent {}: host {host:?}", agent.id);
        defects.note(Defect::UnresolvedHost, place);
    }
    addresses
}

/// The addresses that tasks have from their agents, by agent id.
#[derive(Debug, Default)]
pub struct AgentAddresses<'s>(HashMap<&'s str, Vec<IpAddr>>);

impl<'s> AgentAddresses<'s> {
    /// Adds an agent. Of several with one id the last that has addresses counts.
    pub fn insert(&mut self, id: &'s str, addresses: Vec<IpAddr>) {
        let known = self.0.entry(id).or_default();
        if !addresses.is_empty() {
            *known = addresses;
        }
    }
}

/// The records of every running task whose agent is known.
pub fn all_task_records<S: Sink>(
    state: &State,
    agents: &AgentAddresses<'_>,
    settings: &Settings,
    sink: &mut S,
) {
    for framework in &state.frameworks {
        sink.enter(Subject::TasksOf(framework));
        let names = FrameworkNames::new(&framework.name, settings);
        for task in &framework.tasks {
            if let Some(addresses) = agents.0.get(&*task.agent_id) {
                sink.enter(Subject::Task(task));
                task_records(task, addresses, &names, settings, sink);
            }
        }
    }
}
