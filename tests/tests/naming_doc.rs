//! The tables of `docs/naming.md`: each name in them is served with that data, and no name of the
//! example is missing there.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::collections::BTreeSet;
use std::path::Path;

use dns_userspace::commands::records::{Format, hosts_file, render, rows};
use dns_userspace::config::{Surroundings, check_text};
use dns_userspace::mesos::events::Event;
use dns_userspace::mesos::parse;
use dns_userspace::mesos::tasks::TaskModel;
use dns_userspace::records::dcos::{DcosZones, Settings};
use serde_json::{Value, json};

const DOCUMENT: &str = include_str!("../../docs/naming.md");

const AGENT: &str = "172.17.0.4";

/// The app of the example, in one of its variants.
struct Variant {
    /// The heading in the document.
    heading: &'static str,
    framework: &'static str,
    /// The address of the container.
    ip: &'static str,
    /// The number of its port in the discovery information, and where it counts.
    port: (u16, &'static str),
    /// The port of the agent and the one of the container that it leads to.
    mapping: Option<(u16, u16)>,
    /// The ports of the agent that it holds.
    resources: Option<u16>,
    network: Value,
}

fn variants() -> [Variant; 4] {
    let overlay = || json!([{"name": "dcos"}]);
    [
        Variant {
            heading: "Overlay network, container mode",
            framework: "marathon",
            ip: "9.0.2.5",
            port: (80, "container"),
            mapping: None,
            resources: None,
            network: overlay(),
        },
        Variant {
            heading: "Host mode",
            framework: "marathon",
            ip: AGENT,
            port: (31168, "host"),
            mapping: None,
            resources: Some(31168),
            network: json!([]),
        },
        Variant {
            heading: "Bridge mode",
            framework: "marathon",
            ip: "172.31.254.3",
            port: (15263, "host"),
            mapping: Some((15263, 8080)),
            resources: Some(15263),
            network: json!([{"name": "mesos-bridge", "port_mappings":
                [{"host_port": 15263, "container_port": 8080, "protocol": "tcp"}]}]),
        },
        Variant {
            heading: "Another framework",
            framework: "dev.marathon-user",
            ip: "9.0.2.5",
            port: (80, "container"),
            mapping: None,
            resources: None,
            network: overlay(),
        },
    ]
}

impl Variant {
    fn discovery(&self) -> Value {
        json!({"visibility": "FRAMEWORK", "name": "myapp.mygroup", "ports": {"ports": [{
            "name": "http", "number": self.port.0, "protocol": "tcp",
            "labels": {"labels": [{"key": "VIP_0", "value": "/mygroup/myapp:80"},
                {"key": "network-scope", "value": self.port.1}]}}]}})
    }

    fn statuses(&self) -> Value {
        json!([{"state": "TASK_RUNNING", "timestamp": 1.0, "container_status": {
            "network_infos": [{"ip_addresses": [{"ip_address": self.ip}]}]}}])
    }

    /// As the operator API has it.
    fn event(&self) -> Value {
        let resources = self.resources.map(|port| {
            json!({"name": "ports", "type": "RANGES",
                "ranges": {"range": [{"begin": port, "end": port}]}})
        });
        let task = json!({"name": "myapp.mygroup", "task_id": {"value": "mygroup_myapp.1"},
            "framework_id": {"value": "F"}, "agent_id": {"value": "S0"}, "state": "TASK_RUNNING",
            "resources": resources.into_iter().collect::<Vec<_>>(),
            "container": {"type": "MESOS", "network_infos": self.network},
            "discovery": self.discovery(), "statuses": self.statuses()});
        json!({"type": "GET_STATE", "get_state": {
            "get_agents": {"agents": [{"agent_info": {"id": {"value": "S0"}, "hostname": AGENT}}]},
            "get_frameworks": {"frameworks": [
                {"framework_info": {"id": {"value": "F"}, "name": self.framework}}]},
            "get_tasks": {"tasks": [task]}}})
    }

    /// As the master's state has it, which mesos-dns reads.
    fn state(&self) -> Value {
        let mut resources = json!({"cpus": 0.1});
        if let Some(port) = self.resources {
            resources["ports"] = format!("[{port}-{port}]").into();
        }
        json!({"leader": "master@172.17.0.2:5050", "slaves": [
                {"id": "S0", "hostname": AGENT, "pid": format!("slave(1)@{AGENT}:5051")}],
            "frameworks": [{"id": "F", "name": self.framework, "pid": "scheduler@172.17.0.2:8080",
                "hostname": "172.17.0.2", "tasks": [{"id": "mygroup_myapp.1",
                    "name": "myapp.mygroup", "slave_id": "S0", "framework_id": "F",
                    "state": "TASK_RUNNING", "resources": resources,
                    "discovery": self.discovery(), "statuses": self.statuses()}]}]})
    }

    /// Every record of the app: name, type and data.
    fn served(&self) -> BTreeSet<[String; 3]> {
        let mut zones = DcosZones::new(&Settings::default(), &[]).unwrap();
        let mut model = TaskModel::default();
        let event = Event::from_json(self.event().to_string().as_bytes()).unwrap();
        zones.apply(&model.apply(&event, &|_| None)).unwrap();
        assert_eq!(model.skipped(), 0);
        if let Some((host_port, port)) = self.mapping {
            let (_, task) = model.visible().next().unwrap();
            assert_eq!(task.ports[0].host_port, Some(host_port));
            assert_eq!(task.ports[0].port, Some(port));
        }
        let records = zones.own_content().unwrap();
        let dcos = rows(records.into_iter().flat_map(|zone| zone.records));

        let config = check_text(
            br#"{"masters": ["172.17.0.2:5050"]}"#,
            Path::new("config.json"),
            &Surroundings::default(),
        );
        let config = config.config.unwrap();
        let (state, _) = parse(self.state().to_string().as_bytes()).unwrap();
        let (mesos, _) = render(&config, &state, Format::Json, &[], &hosts_file).unwrap();
        let mesos: Vec<Value> = serde_json::from_slice(&mesos).unwrap();
        let mesos = mesos
            .iter()
            .map(|row| ["name", "type", "data"].map(|key| row[key].as_str().unwrap().to_owned()));
        dcos.into_iter()
            .map(|row| [row.name, row.r#type, row.data])
            .chain(mesos)
            .filter(|[name, _, _]| name.contains("myapp"))
            .collect()
    }
}

/// The rows of the table under a heading.
fn documented(heading: &str) -> BTreeSet<[String; 3]> {
    let section = DOCUMENT
        .split("\n### ")
        .find(|section| section.lines().next() == Some(heading))
        .unwrap_or_else(|| panic!("no heading {heading:?}"));
    let rows: BTreeSet<[String; 3]> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let mut cells = line.trim_matches('|').split('|');
            [(); 3].map(|()| cells.next().unwrap().trim().trim_matches('`').to_owned())
        })
        .collect();
    rows
}

/// The names that the DC/OS documentation gives for the first variant.
#[test]
fn the_names_of_the_dcos_documentation_are_there() {
    let [overlay, ..] = variants();
    let served = overlay.served();
    for (name, rtype) in [
        ("myapp.mygroup.marathon.mesos.", "A"),
        ("_myapp.mygroup._tcp.marathon.mesos.", "SRV"),
        ("_http._myapp.mygroup._tcp.marathon.mesos.", "SRV"),
        (
            "myapp-mygroup.marathon.containerip.dcos.thisdcos.directory.",
            "A",
        ),
        (
            "myapp-mygroup.marathon.agentip.dcos.thisdcos.directory.",
            "A",
        ),
        (
            "myapp-mygroup.marathon.autoip.dcos.thisdcos.directory.",
            "A",
        ),
        ("mygroupmyapp.marathon.l4lb.thisdcos.directory.", "A"),
    ] {
        let found = served.iter().find(|[a, b, _]| a == name && b == rtype);
        let [_, _, data] = found.unwrap_or_else(|| panic!("no {name} {rtype}"));
        if name.contains("l4lb") {
            assert!(data.starts_with("11."), "{data}");
        }
    }
}

#[test]
fn the_worked_example_is_served_as_documented() {
    for variant in variants() {
        let (documented, served) = (documented(variant.heading), variant.served());
        let shown = |rows: &BTreeSet<[String; 3]>| -> String {
            rows.iter()
                .map(|[a, b, c]| format!("| `{a}` | {b} | `{c}` |\n"))
                .collect()
        };
        assert_eq!(
            shown(&documented),
            shown(&served),
            "{}:\n{}",
            variant.heading,
            shown(&served)
        );
    }
}

#[test]
fn the_configuration_shown_is_a_valid_one() {
    let (_, rest) = DOCUMENT.split_once("```json\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let checked = check_text(
        text.as_bytes(),
        Path::new("config.json"),
        &Surroundings::default(),
    );
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
    assert!(checked.warnings.is_empty(), "{:?}", checked.warnings);
    assert!(checked.config.unwrap().dcos.unwrap().enabled);
}
