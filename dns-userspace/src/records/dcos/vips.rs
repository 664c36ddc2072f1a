//! Virtual IPs: which there are, who serves them, and their names under `l4lb.thisdcos.directory`.
//!
//! Kept up to date task by task. A VIP exists, and its name resolves, exactly while it has a
//! backend, even one that takes no connections any more.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::contributions::Contributions;
use super::directory::address;
use super::label::domain_labels;
use super::vip_address::{Allocator, VipName};
use super::zones::{L4LB, TTL};
use crate::mesos::tasks::{Protocol, Runtime, Task, TaskKey, TaskPort, TaskState};
use crate::zones::{Name, Rrset};

/// What stands before the port of a VIP.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VipHost {
    /// An address given as such: it has no name and needs no allocation.
    Literal(IpAddr),
    /// A name whose addresses are allocated.
    Named(VipName),
}

/// A VIP.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VipKey {
    /// The transport.
    pub protocol: Protocol,
    /// The address or the name.
    pub host: VipHost,
    /// The port, without an upper bound, as in dcos-l4lb.
    pub port: u64,
}

/// The name and port, or address and port, that a client uses. IPv6 addresses have no brackets,
/// as in dcos-net's `/v1/vips`.
impl fmt::Display for VipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            VipHost::Literal(ip) => write!(f, "{ip}:{}", self.port),
            VipHost::Named(vip) => write!(f, "{}:{}", vip_domain(vip), self.port),
        }
    }
}

/// Where the connections of a VIP end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// The agent that runs it.
    pub agent_ip: IpAddr,
    /// Its address: the agent's or the task's own.
    pub ip: IpAddr,
    /// Its port.
    pub port: u16,
    /// 0 if it takes no more connections, else 1.
    pub weight: u8,
}

/// Reads a VIP label, `<name or address>:<port>`, split at the last colon. `None` if it is not one.
#[must_use]
pub fn parse_label(label: &str, framework: &str, protocol: Protocol) -> Option<VipKey> {
    let (host, port) = label.rsplit_once(':')?;
    let port = port.parse().ok().filter(|&port| port > 0)?;
    let host = match host.parse() {
        Ok(ip) => VipHost::Literal(ip),
        Err(_) => VipHost::Named(VipName {
            framework: framework.to_owned(),
            label: host.to_owned(),
        }),
    };
    Some(VipKey {
        protocol,
        host,
        port,
    })
}

/// The VIPs a task serves, and how. Only running tasks and those being killed serve any.
#[must_use]
pub fn task_vips(task: &Task, ipv6: bool) -> Vec<(VipKey, Backend)> {
    let weight = match (task.state, task.healthy) {
        (TaskState::Running, None | Some(true)) => 1,
        (TaskState::Running, Some(false)) | (TaskState::Killing, _) => 0,
        (TaskState::Preparing | TaskState::Terminal, _) => return Vec::new(),
    };
    let (Some(framework), Some(agent_ip)) = (&task.framework, task.agent_ip) else {
        return Vec::new();
    };
    let mut vips = Vec::new();
    for port in &task.ports {
        for label in &port.vips {
            let Some(key) = parse_label(label, framework, port.protocol) else {
                continue;
            };
            for (ip, port) in endpoints(task, agent_ip, port, ipv6) {
                let fits = match key.host {
                    VipHost::Literal(vip) => vip.is_ipv4() == ip.is_ipv4(),
                    VipHost::Named(_) => true,
                };
                if fits {
                    let backend = Backend {
                        agent_ip,
                        ip,
                        port,
                        weight,
                    };
                    vips.push((key.clone(), backend));
                }
            }
        }
    }
    vips.sort_unstable();
    vips.dedup();
    vips
}

/// The agent's port that leads to the task, or else the port at each of the task's addresses.
fn endpoints(
    task: &Task,
    agent_ip: IpAddr,
    port: &TaskPort,
    ipv6: bool,
) -> impl Iterator<Item = (IpAddr, u16)> {
    let mapped = port.host_port.map(|host_port| (agent_ip, host_port));
    let own = port
        .port
        .filter(|_| mapped.is_none())
        .into_iter()
        .flat_map(move |port| {
            task.task_ips
                .iter()
                .filter(move |ip| ipv6 || ip.is_ipv4())
                .map(move |&ip| (ip, port))
        });
    mapped.into_iter().chain(own)
}

/// All VIPs with their backends, the addresses of the named ones, and their names.
#[derive(Debug, Clone)]
pub struct Vips {
    ipv6: bool,
    by_task: HashMap<TaskKey, Vec<(VipKey, Backend)>>,
    backends: BTreeMap<VipKey, BTreeMap<Backend, u32>>,
    allocator: Allocator,
    records: Contributions<VipName>,
    /// VIPs that could not be given all their addresses because a range is used up, and which of
    /// both they lack: IPv4, IPv6.
    without_address: BTreeMap<VipName, [bool; 2]>,
    /// VIPs of which DNS has no name.
    without_name: BTreeSet<VipName>,
}

impl Vips {
    /// No VIPs yet; `allocator` may hold addresses from before a restart, which
    /// [`Self::replace_tasks`] takes back if they are not in use. `ipv6` says whether tasks' IPv6
    /// addresses serve VIPs.
    #[must_use]
    pub fn new(allocator: Allocator, ipv6: bool) -> Self {
        Self {
            ipv6,
            by_task: HashMap::new(),
            backends: BTreeMap::new(),
            allocator,
            records: Contributions::new(TTL),
            without_address: BTreeMap::new(),
            without_name: BTreeSet::new(),
        }
    }

    /// Takes over what is known of some tasks, `None` for those that are over. VIPs that appear
    /// in one call get their addresses in the order of framework and label, whatever the order of
    /// the tasks. Names whose records are others than before are added to `changed`.
    pub fn set_tasks<'a>(
        &mut self,
        tasks: impl Iterator<Item = (&'a TaskKey, Option<&'a Task>)>,
        changed: &mut BTreeSet<Name>,
    ) {
        let mut touched = BTreeSet::new();
        for (key, task) in tasks {
            let vips = task
                .map(|task| task_vips(task, self.ipv6))
                .unwrap_or_default();
            self.set_backends(key, vips, &mut touched);
        }
        self.settle(touched, changed);
    }

    /// Takes over all tasks; those that are not among them are over, and addresses that no VIP
    /// uses are free.
    pub fn replace_tasks<'a>(
        &mut self,
        tasks: impl Iterator<Item = (&'a TaskKey, &'a Arc<Task>)>,
        changed: &mut BTreeSet<Name>,
    ) {
        let mut touched: BTreeSet<VipName> = self
            .allocator
            .allocations()
            .into_iter()
            .map(|allocation| allocation.vip)
            .collect();
        let mut present = HashSet::new();
        for (key, task) in tasks {
            present.insert(key);
            self.set_backends(key, task_vips(task, self.ipv6), &mut touched);
        }
        let gone: Vec<TaskKey> = self
            .by_task
            .keys()
            .filter(|key| !present.contains(key))
            .cloned()
            .collect();
        for key in gone {
            self.set_backends(&key, Vec::new(), &mut touched);
        }
        self.settle(touched, changed);
    }

    fn set_backends(
        &mut self,
        task: &TaskKey,
        vips: Vec<(VipKey, Backend)>,
        touched: &mut BTreeSet<VipName>,
    ) {
        if self.by_task.get(task).map_or(&[][..], Vec::as_slice) == vips {
            return;
        }
        for (key, backend) in &vips {
            let backends = self.backends.entry(key.clone()).or_default();
            *backends.entry(*backend).or_insert(0) += 1;
            note(key, touched);
        }
        let before = if vips.is_empty() {
            self.by_task.remove(task)
        } else {
            self.by_task.insert(task.clone(), vips)
        };
        for (key, backend) in before.iter().flatten() {
            let Some(backends) = self.backends.get_mut(key) else {
                continue;
            };
            if let Some(count) = backends.get_mut(backend) {
                *count -= 1;
                if *count == 0 {
                    backends.remove(backend);
                }
            }
            if backends.is_empty() {
                self.backends.remove(key);
            }
            note(key, touched);
        }
    }

    /// Gives and takes back addresses: first everything that is free, so that the order of a
    /// batch is that of the names alone. What has come free goes to VIPs that wait, too.
    fn settle(&mut self, touched: BTreeSet<VipName>, changed: &mut BTreeSet<Name>) {
        let with_families = |vip: VipName| {
            let families = self.families(&vip);
            (vip, families)
        };
        let mut vips: BTreeMap<VipName, [bool; 2]> =
            touched.into_iter().map(with_families).collect();
        let mut freed = false;
        for (vip, [ipv4, ipv6]) in &vips {
            freed |= !ipv4 && self.allocator.release_ipv4(vip);
            freed |= !ipv6 && self.allocator.release_ipv6(vip);
        }
        if freed {
            for vip in self.without_address.keys() {
                if !vips.contains_key(vip) {
                    vips.insert(vip.clone(), self.families(vip));
                }
            }
        }
        for (vip, [ipv4, ipv6]) in vips {
            let misses_ipv4 = ipv4 && self.allocator.ipv4(&vip).is_none();
            let misses_ipv6 = ipv6 && self.allocator.ipv6(&vip).is_none();
            let name = vip_name(&vip);
            let records = match &name {
                Some(name) => {
                    let addresses = self.allocator.addresses(&vip);
                    addresses.map(|ip| (name.clone(), address(ip))).collect()
                }
                None => Vec::new(),
            };
            self.records.set(vip.clone(), records, changed);
            if misses_ipv4 || misses_ipv6 {
                let misses = [misses_ipv4, misses_ipv6];
                self.without_address.insert(vip.clone(), misses);
            } else {
                self.without_address.remove(&vip);
            }
            if (ipv4 || ipv6) && name.is_none() {
                self.without_name.insert(vip);
            } else {
                self.without_name.remove(&vip);
            }
        }
    }

    /// Whether a VIP has IPv4 backends, and IPv6 ones, on any port.
    fn families(&self, vip: &VipName) -> [bool; 2] {
        let mut families = [false, false];
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let key = |port| VipKey {
                protocol,
                host: VipHost::Named(vip.clone()),
                port,
            };
            for backends in self.backends.range(key(0)..=key(u64::MAX)) {
                for backend in backends.1.keys() {
                    let [ipv4, ipv6] = &mut families;
                    *(if backend.ip.is_ipv4() { ipv4 } else { ipv6 }) = true;
                }
            }
        }
        families
    }

    /// All VIPs with their backends, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&VipKey, impl Iterator<Item = &Backend>)> {
        self.backends
            .iter()
            .map(|(key, backends)| (key, backends.keys()))
    }

    /// The addresses of a VIP: its own if it is literal, else those allocated.
    #[must_use]
    pub fn addresses(&self, key: &VipKey) -> Vec<IpAddr> {
        match &key.host {
            VipHost::Literal(ip) => vec![*ip],
            VipHost::Named(vip) => self.allocator.addresses(vip).collect(),
        }
    }

    /// Who has which address, to be kept over a restart.
    #[must_use]
    pub const fn allocator(&self) -> &Allocator {
        &self.allocator
    }

    /// VIPs that have backends but no address of their family, because its range is used up; and of
    /// which family that is: IPv4, IPv6.
    #[must_use]
    pub const fn without_address(&self) -> &BTreeMap<VipName, [bool; 2]> {
        &self.without_address
    }

    /// VIPs that have backends and no name: it would be longer than 255 octets, or nothing is left of
    /// it.
    #[must_use]
    pub const fn without_name(&self) -> &BTreeSet<VipName> {
        &self.without_name
    }

    /// The RRsets of one name of the zone; none if it has no records.
    #[must_use]
    pub fn rrsets(&self, name: &Name) -> Vec<Rrset> {
        self.records.rrsets(name)
    }

    /// All RRsets of the zone but its authority records.
    #[must_use]
    pub fn content(&self) -> Vec<(Name, Rrset)> {
        self.records.content()
    }

    /// The body of `GET /v1/vips`, with the addresses of each VIP if they are wanted.
    #[must_use]
    pub fn listing(&self, with_addresses: bool) -> Vec<VipListing> {
        self.iter()
            .map(|(key, backends)| VipListing {
                vip: key.to_string(),
                addresses: with_addresses.then(|| self.addresses(key)),
                protocol: key.protocol.as_str().to_owned(),
                backend: backends
                    .map(|backend| BackendListing {
                        ip: backend.ip,
                        port: backend.port,
                    })
                    .collect(),
            })
            .collect()
    }
}

fn note(key: &VipKey, touched: &mut BTreeSet<VipName>) {
    if let VipHost::Named(vip) = &key.host {
        touched.insert(vip.clone());
    }
}

/// A VIP in the body of `GET /v1/vips`. Weights are not shown, backends of weight 0 are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipListing {
    /// Name or address, and port.
    pub vip: String,
    /// Its own addresses, where they are asked for; dcos-net does not list them. Several VIPs may
    /// share a name, so that its records do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<IpAddr>>,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Its backends.
    pub backend: Vec<BackendListing>,
}

/// A backend in the body of `GET /v1/vips`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendListing {
    /// The address.
    pub ip: IpAddr,
    /// The port.
    pub port: u16,
}

/// The domain name of a VIP without a final dot. Its dots are kept, unlike in the names of tasks.
/// A label or a framework of which nothing is left is left out.
#[must_use]
pub fn vip_domain(vip: &VipName) -> String {
    let mut name = String::new();
    for part in [domain_labels(&vip.label), domain_labels(&vip.framework)] {
        if !part.is_empty() {
            name += &part;
            name.push('.');
        }
    }
    name + L4LB
}

/// The same in DNS; `None` if it is too long, or would be the apex of the zone.
fn vip_name(vip: &VipName) -> Option<Name> {
    let domain = vip_domain(vip);
    let name = Name::from_text(&domain).ok();
    name.filter(|_| domain != L4LB)
}

/// A port of an agent and the container it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MappedPort {
    /// The transport.
    pub protocol: Protocol,
    /// The port of the agent.
    pub host_port: u16,
    /// The container's first address.
    pub task_ip: IpAddr,
    /// The port of the container.
    pub port: u16,
}

/// The containers behind the agent's ports. Docker maps its ports itself and has none here.
#[must_use]
pub fn mapped_ports(task: &Task) -> Vec<MappedPort> {
    let serves = matches!(task.state, TaskState::Running | TaskState::Killing);
    let (true, Some(&task_ip)) = (serves, task.task_ips.first()) else {
        return Vec::new();
    };
    if task.runtime == Some(Runtime::Docker) {
        return Vec::new();
    }
    task.ports
        .iter()
        .filter_map(|port| {
            Some(MappedPort {
                protocol: port.protocol,
                host_port: port.host_port?,
                task_ip,
                port: port.port?,
            })
        })
        .collect()
}

#[cfg(test)]
#[path = "vips_tests.rs"]
mod tests;
