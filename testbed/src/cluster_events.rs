//! The event stream of a made-up cluster of any size, for measurements: what the operator API of a
//! master sends at first, and each change of a task.

use std::fmt::Write;
use std::net::Ipv4Addr;

/// Frameworks, among which tasks are spread.
pub const FRAMEWORKS: usize = 10;

/// A cluster with this many running tasks on this many agents, in [`FRAMEWORKS`] frameworks, each
/// task with a name, a port, an address and a VIP of its own.
#[derive(Clone, Copy, Debug)]
pub struct ClusterEvents {
    /// The tasks.
    pub tasks: usize,
    /// The agents.
    pub agents: usize,
}

impl ClusterEvents {
    /// The first event of a stream.
    #[must_use]
    pub fn subscribed(self) -> String {
        let mut out = String::with_capacity(self.tasks * 900 + self.agents * 200 + 1000);
        out.push_str(
            r#"{"type":"SUBSCRIBED","subscribed":{"heartbeat_interval_seconds":15.0,"get_state":{"get_agents":{"agents":["#,
        );
        for agent in 0..self.agents.max(1) {
            let (high, low) = (agent / 250, agent % 250 + 1);
            // Writing to a string cannot fail.
            let _ = write!(
                out,
                r#"{}{{"active":true,"version":"1.11.0","pid":"slave(1)@10.1.{high}.{low}:5051","agent_info":{{"hostname":"10.1.{high}.{low}","port":5051,"id":{{"value":"6f2c0a51-S{agent}"}}}}}}"#,
                separator(agent)
            );
        }
        out.push_str(r#"]},"get_frameworks":{"frameworks":["#);
        for framework in 0..FRAMEWORKS {
            let _ = write!(
                out,
                r#"{}{{"active":true,"framework_info":{{"id":{{"value":"6f2c0a51-{framework:04}"}},"name":"marathon-{framework}","hostname":"10.2.0.{}","user":"root"}}}}"#,
                separator(framework),
                framework + 1
            );
        }
        out.push_str(r#"]},"get_tasks":{"tasks":["#);
        for task in 0..self.tasks {
            out.push_str(separator(task));
            self.write_task(&mut out, task);
        }
        out.push_str("]}}}}");
        out
    }

    fn write_task(self, out: &mut String, task: usize) {
        let (framework, agent) = (task % FRAMEWORKS, task % self.agents.max(1));
        let port = 31000 + task % 900;
        let _ = write!(
            out,
            r#"{{"name":"service-{task}","task_id":{{"value":"group_service-{task}.562f-11e4"}},"framework_id":{{"value":"6f2c0a51-{framework:04}"}},"agent_id":{{"value":"6f2c0a51-S{agent}"}},"state":"TASK_RUNNING","resources":[{{"name":"cpus","type":"SCALAR","scalar":{{"value":0.1}}}},{{"name":"ports","type":"RANGES","ranges":{{"range":[{{"begin":{port},"end":{port}}}]}}}}],"container":{{"type":"MESOS","network_infos":[{{"name":"dcos"}}]}},"discovery":{{"visibility":"FRAMEWORK","name":"service-{task}","ports":{{"ports":[{{"number":80,"name":"http","protocol":"tcp","labels":{{"labels":[{{"key":"VIP_0","value":"/group/service-{task}:80"}},{{"key":"network-scope","value":"container"}}]}}}}]}}}},"statuses":[{}]}}"#,
            self.status(task, first_address(task))
        );
    }

    fn status(self, task: usize, address: Ipv4Addr) -> String {
        let agent = task % self.agents.max(1);
        format!(
            r#"{{"task_id":{{"value":"group_service-{task}.562f-11e4"}},"agent_id":{{"value":"6f2c0a51-S{agent}"}},"state":"TASK_RUNNING","timestamp":1450000000.5,"source":"SOURCE_EXECUTOR","container_status":{{"network_infos":[{{"ip_addresses":[{{"ip_address":"{address}","protocol":"IPv4"}}]}}]}}}}"#
        )
    }

    /// The event by which a task gets another address.
    #[must_use]
    pub fn updated(self, task: usize, address: Ipv4Addr) -> String {
        format!(
            r#"{{"type":"TASK_UPDATED","task_updated":{{"framework_id":{{"value":"6f2c0a51-{:04}"}},"state":"TASK_RUNNING","status":{}}}}}"#,
            task % FRAMEWORKS,
            self.status(task, address)
        )
    }

    /// A task's name under the Mesos domain `mesos`.
    #[must_use]
    pub fn mesos_name(self, task: usize) -> String {
        format!("service-{task}.marathon-{}.mesos", task % FRAMEWORKS)
    }

    /// A task's name in the zone of DC/OS, by its own address.
    #[must_use]
    pub fn dcos_name(self, task: usize) -> String {
        format!(
            "service-{task}.marathon-{}.containerip.dcos.thisdcos.directory",
            task % FRAMEWORKS
        )
    }
}

const fn separator(place: usize) -> &'static str {
    if place == 0 { "" } else { "," }
}

/// The address of a task before it has another.
fn first_address(task: usize) -> Ipv4Addr {
    let [_, high, middle, low] = u32::try_from(task).unwrap_or_default().to_be_bytes();
    Ipv4Addr::new(9, high, middle, low)
}
