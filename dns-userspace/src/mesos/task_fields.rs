//! The fields of the task model: each is computed on its own from what an event says of a task.

use std::net::IpAddr;

use super::objects::{DiscoveryPort, NetworkInfo, PortMapping, Resource, TaskObject, TaskStatus};
use super::tasks::{Protocol, Runtime, Task, TaskPort, TaskState};

/// Brings every field up to date. A field for which there is no value keeps the one it has, and
/// so does one whose values make no sense; the number of the latter is returned.
pub(super) fn update(
    task: &mut Task,
    state: Option<&str>,
    status: &TaskStatus,
    object: Option<&TaskObject>,
) -> u64 {
    if let Some(name) = object.and_then(name) {
        task.name = Some(name.to_owned());
    }
    let ips = task_ips(status);
    if !ips.is_empty() {
        task.task_ips = ips;
    }
    if let Some(state) = state {
        task.state = task_state(state);
    }
    if let Some(healthy) = healthy(status, object) {
        task.healthy = Some(healthy);
    }
    let kind = object.and_then(|object| object.container.as_ref()?.kind.as_deref());
    match kind {
        Some("MESOS") => task.runtime = Some(Runtime::Mesos),
        Some("DOCKER") => task.runtime = Some(Runtime::Docker),
        _ => {}
    }
    // Last, because host networking is seen from the state and the addresses.
    match ports(task, kind, status, object) {
        Ok(ports) => {
            if !ports.is_empty() {
                task.ports = ports;
            }
            0
        }
        Err(BadPorts) => 1,
    }
}

/// The status with the greatest timestamp, the later one of two.
pub(super) fn latest_status(statuses: &[TaskStatus]) -> Option<&TaskStatus> {
    let time = |status: &TaskStatus| status.timestamp.unwrap_or(f64::NEG_INFINITY);
    statuses.iter().max_by(|a, b| time(a).total_cmp(&time(b)))
}

fn name(object: &TaskObject) -> Option<&str> {
    let discovery = object.discovery.as_ref().and_then(|d| d.name.as_deref());
    discovery.or(object.name.as_deref())
}

fn task_ips(status: &TaskStatus) -> Vec<IpAddr> {
    status_networks(status)
        .iter()
        .flat_map(|network| network.ip_addresses.as_deref().unwrap_or_default())
        .filter_map(|address| address.ip_address.as_deref()?.parse().ok())
        .collect()
}

fn status_networks(status: &TaskStatus) -> &[NetworkInfo] {
    status
        .container_status
        .as_ref()
        .and_then(|container| container.network_infos.as_deref())
        .unwrap_or_default()
}

/// Which states are terminal is said by `isTerminalState` in Mesos' `protobuf_utils.cpp`.
fn task_state(state: &str) -> TaskState {
    match state {
        "TASK_RUNNING" => TaskState::Running,
        "TASK_KILLING" => TaskState::Killing,
        "TASK_FINISHED"
        | "TASK_FAILED"
        | "TASK_KILLED"
        | "TASK_LOST"
        | "TASK_ERROR"
        | "TASK_DROPPED"
        | "TASK_GONE"
        | "TASK_GONE_BY_OPERATOR" => TaskState::Terminal,
        _ => TaskState::Preparing,
    }
}

fn healthy(status: &TaskStatus, object: Option<&TaskObject>) -> Option<bool> {
    let unchecked = object.filter(|object| object.health_check).map(|_| false);
    status.healthy.or(unchecked)
}

/// The ports of a task make no sense: none of them is taken over.
struct BadPorts;

fn ports(
    task: &Task,
    kind: Option<&str>,
    status: &TaskStatus,
    object: Option<&TaskObject>,
) -> Result<Vec<TaskPort>, BadPorts> {
    let mapped = mapped_ports(kind, status, object)?;
    let labelled = match object {
        Some(object) => labelled_ports(object)?,
        None => Vec::new(),
    };
    let discovered = match object
        .and_then(|object| object.discovery.as_ref())
        .and_then(|discovery| discovery.ports())
    {
        Some(ports) => discovery_ports(ports)?,
        None => task.ports.clone(),
    };
    let merged = merge(merge(mapped, labelled), discovered);
    let placed = matches!(task.state, TaskState::Running | TaskState::Killing);
    if placed && task.agent_ip.is_some_and(|ip| task.task_ips == [ip]) {
        return Ok(without_host_ports(merged));
    }
    Ok(merged)
}

/// Port mappings: of the task's networks or else, for pods, of the status' networks; of the
/// Docker settings for that containerizer.
fn mapped_ports(
    kind: Option<&str>,
    status: &TaskStatus,
    object: Option<&TaskObject>,
) -> Result<Vec<TaskPort>, BadPorts> {
    let container = object.and_then(|object| object.container.as_ref());
    let mappings: Vec<&PortMapping> = match kind.unwrap_or("MESOS") {
        "MESOS" => container
            .and_then(|container| container.network_infos.as_deref())
            .unwrap_or_else(|| status_networks(status))
            .iter()
            .flat_map(|network| network.port_mappings.as_deref().unwrap_or_default())
            .collect(),
        "DOCKER" => container
            .and_then(|container| container.docker.as_ref()?.port_mappings.as_deref())
            .unwrap_or_default()
            .iter()
            .collect(),
        _ => return Err(BadPorts),
    };
    let mut ports = Vec::with_capacity(mappings.len());
    for mapping in mappings {
        let protocol = mapping.protocol.as_deref().ok_or(BadPorts)?;
        let port = mapping.container_port.ok_or(BadPorts)?;
        let host_port = mapping.host_port.ok_or(BadPorts)?;
        if let Some(protocol) = Protocol::from_text(protocol) {
            ports.push(TaskPort {
                protocol,
                port: Some(port),
                host_port: Some(host_port),
                name: None,
                vips: Vec::new(),
            });
        }
    }
    Ok(ports)
}

/// Task labels `VIP_PORT<n>` with `tcp://<vip>` or `udp://<vip>`: the n-th port resource gets the
/// VIP.
fn labelled_ports(object: &TaskObject) -> Result<Vec<TaskPort>, BadPorts> {
    let labels = object.labels.as_ref();
    let mut ports = Vec::new();
    for (key, value) in labels.into_iter().flat_map(|labels| labels.pairs()) {
        let Some(index) = strip_prefix_any_case(key, "vip_port").and_then(|n| n.parse().ok())
        else {
            continue;
        };
        let (protocol, vip) = match (value.strip_prefix("tcp://"), value.strip_prefix("udp://")) {
            (Some(vip), _) => (Protocol::Tcp, vip),
            (_, Some(vip)) => (Protocol::Udp, vip),
            (None, None) => continue,
        };
        let resources = object.resources.as_deref().unwrap_or_default();
        let host_port = resources.iter().flat_map(Resource::ports).nth(index);
        ports.push(TaskPort {
            protocol,
            port: None,
            host_port: Some(host_port.ok_or(BadPorts)?),
            name: None,
            vips: vec![vip.to_owned()],
        });
    }
    Ok(ports)
}

fn strip_prefix_any_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Ports of the discovery information. Their number is one of the agent if the label
/// `network-scope` says `host`.
fn discovery_ports(given: &[DiscoveryPort]) -> Result<Vec<TaskPort>, BadPorts> {
    let mut ports = Vec::with_capacity(given.len());
    for one in given {
        let number = one.number.and_then(|number| u16::try_from(number).ok());
        let number = number.ok_or(BadPorts)?;
        let protocol = one.protocol.as_deref().ok_or(BadPorts)?;
        let pairs = || one.labels.iter().flat_map(|labels| labels.pairs());
        let mut scopes =
            pairs().filter_map(|(key, value)| (key == "network-scope").then_some(value));
        let of_host = match (scopes.next(), scopes.next()) {
            (None, _) | (Some("container"), None) => false,
            (Some("host"), None) => true,
            _ => return Err(BadPorts),
        };
        if number == 0 && !of_host {
            continue;
        }
        let Some(protocol) = Protocol::from_text(protocol) else {
            continue;
        };
        // Exactly these two letter cases, as in dcos-net.
        let is_vip = |key: &str| key.starts_with("VIP") || key.starts_with("vip");
        ports.push(TaskPort {
            protocol,
            port: (!of_host).then_some(number),
            host_port: of_host.then_some(number),
            name: Some(one.name.as_deref().unwrap_or("default").to_owned()),
            vips: pairs()
                .filter(|(key, _)| is_vip(key))
                .map(|(_, value)| value.to_owned())
                .collect(),
        });
    }
    Ok(ports)
}

/// Puts each port of `first` together with the first port of `second` that it matches; its fields
/// win. Matched ports move to the front, as in dcos-net, where the order decides which of several
/// candidates is matched.
fn merge(first: Vec<TaskPort>, second: Vec<TaskPort>) -> Vec<TaskPort> {
    let mut merged = second;
    for port in first {
        match merged.iter().position(|other| matches(&port, other)) {
            Some(at) => {
                let other = merged.remove(at);
                if let Some(passed) = merged.get_mut(..at) {
                    passed.reverse();
                }
                merged.insert(0, join(port, other));
            }
            None => {
                merged.reverse();
                merged.insert(0, port);
            }
        }
    }
    merged
}

fn matches(a: &TaskPort, b: &TaskPort) -> bool {
    a.protocol == b.protocol
        && ((a.port.is_some() && a.port == b.port)
            || (a.host_port.is_some() && a.host_port == b.host_port))
}

/// The fields of both, those of `winner` where both have one, the VIPs of both.
fn join(winner: TaskPort, other: TaskPort) -> TaskPort {
    let vips = match (winner.vips.is_empty(), other.vips.is_empty()) {
        (true, _) => other.vips,
        (_, true) => winner.vips,
        (false, false) => {
            let mut vips = winner.vips;
            vips.extend(other.vips);
            vips.sort_unstable();
            vips.dedup();
            vips
        }
    };
    TaskPort {
        protocol: winner.protocol,
        port: winner.port.or(other.port),
        host_port: winner.host_port.or(other.host_port),
        name: winner.name.or(other.name),
        vips,
    }
}

/// In host networking a port of the agent is a port of the task; equal ones become one.
fn without_host_ports(ports: Vec<TaskPort>) -> Vec<TaskPort> {
    let mut merged: Vec<TaskPort> = Vec::with_capacity(ports.len());
    for mut port in ports {
        port.port = port.host_port.take().or(port.port);
        let same = merged
            .iter_mut()
            .find(|other| other.protocol == port.protocol && other.port == port.port);
        match same {
            Some(other) => *other = join(other.clone(), port),
            None => merged.push(port),
        }
    }
    merged
}
