use super::*;
use serde_json::{Value, json};

fn event(json: &Value) -> Event {
    Event::from_json(json.to_string().as_bytes()).unwrap()
}

fn apply(model: &mut TaskModel, json: &Value) -> Changes {
    model.apply(&event(json), &|_| None)
}

fn to_json(key: &TaskKey, task: &Task) -> Value {
    let mut ports: Vec<Value> = task
        .ports
        .iter()
        .map(|port| {
            let mut json = json!({"protocol": port.protocol.as_str()});
            if let Some(number) = port.port {
                json["port"] = number.into();
            }
            if let Some(number) = port.host_port {
                json["host_port"] = number.into();
            }
            if let Some(name) = &port.name {
                json["name"] = name.as_str().into();
            }
            if !port.vips.is_empty() {
                json["vip"] = port.vips.clone().into();
            }
            json
        })
        .collect();
    ports.sort_by_key(sort_key);
    json!({
        "framework_id": &*key.framework_id,
        "task_id": &*key.task_id,
        "name": task.name,
        "framework": task.framework.as_deref(),
        "runtime": match task.runtime {
            Some(Runtime::Mesos) => "mesos",
            Some(Runtime::Docker) => "docker",
            None => "unknown",
        },
        "state": match task.state {
            TaskState::Preparing => "preparing",
            TaskState::Running => "running",
            TaskState::Killing => "killing",
            TaskState::Terminal => "terminal",
        },
        "healthy": task.healthy,
        "agent_ip": task.agent_ip.map(|ip| ip.to_string()),
        "task_ip": task.task_ips.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "ports": ports,
    })
}

fn sort_key(port: &Value) -> String {
    format!(
        "{:?} {:?} {:?}",
        port["protocol"], port["port"], port["host_port"]
    )
}

fn sorted(mut tasks: Vec<Value>) -> Vec<Value> {
    for task in &mut tasks {
        task["ports"].as_array_mut().unwrap().sort_by_key(sort_key);
    }
    tasks.sort_by_key(|task| task["task_id"].to_string());
    tasks
}

fn assert_fixture(input: &str, expected: &str) {
    let expected: Value = serde_json::from_str(expected).unwrap();
    let mut model = TaskModel::default();
    let timeline = expected["timeline"].as_array();
    for (at, line) in input
        .lines()
        .filter(|line| !line.trim().is_empty())
        .enumerate()
    {
        model.apply(&Event::from_json(line.as_bytes()).unwrap(), &|_| None);
        let Some(step) = timeline.map(|timeline| &timeline[at]) else {
            continue;
        };
        assert_eq!(
            step["known_tasks"],
            model.tasks().count(),
            "line {}",
            at + 1
        );
        assert_eq!(step["waiting_tasks"], model.waiting(), "line {}", at + 1);
        assert_eq!(step["agents"], model.agents().count(), "line {}", at + 1);
        let mut running: Vec<&str> = model
            .tasks()
            .filter(|(_, task)| task.state == TaskState::Running)
            .map(|(key, _)| &*key.task_id)
            .collect();
        running.sort_unstable();
        assert_eq!(step["running"], json!(running), "line {}", at + 1);
    }
    let tasks = model
        .visible()
        .map(|(key, task)| to_json(key, task))
        .collect();
    let wanted = expected["tasks"].as_array().unwrap().clone();
    assert_eq!(sorted(tasks), sorted(wanted));
    if let Some(agents) = expected["agents"].as_object() {
        for (id, ip) in agents {
            assert!(
                model
                    .agents()
                    .any(|(known, at)| known == id && ip == &at.to_string())
            );
        }
    }
    assert_eq!(model.skipped(), 0);
}

macro_rules! fixture {
    ($($test:ident: $name:literal),* $(,)?) => {$(
        #[test]
        fn $test() {
            assert_fixture(
                include_str!(concat!("../../../tests/fixtures/dcos/", $name, ".json")),
                include_str!(concat!("../../../tests/fixtures/dcos/", $name, ".expected.json")),
            );
        }
    )*};
}

fixture! {
    every_network_mode_is_modelled_as_by_dcos_net: "operator-api",
    a_service_torn_down_is_modelled_as_by_dcos_net: "hello-world",
    a_master_fail_over_is_modelled_as_by_dcos_net: "recovered-agents",
    one_port_with_two_protocols_is_modelled_as_by_dcos_net: "tcp-and-udp",
    a_health_check_without_verdict_is_modelled_as_by_dcos_net: "unhealthy",
    both_kinds_of_vip_labels_are_modelled_as_by_dcos_net: "vip-labels",
}

fn task_added(state: &str) -> Value {
    json!({"type": "TASK_ADDED", "task_added": {"task": {
        "name": "web", "task_id": {"value": "web.1"}, "framework_id": {"value": "F"},
        "agent_id": {"value": "S0"}, "state": state,
        "discovery": {"name": "web", "ports": {"ports": [
            {"number": 80, "protocol": "tcp", "name": "http"}]}}}}})
}

fn status(state: &str, ip: &str) -> Value {
    json!({"type": "TASK_UPDATED", "task_updated": {"framework_id": {"value": "F"},
        "state": state, "status": {"task_id": {"value": "web.1"},
        "agent_id": {"value": "S0"}, "state": "TASK_STAGING", "timestamp": 1.5,
        "container_status": {"network_infos": [{"ip_addresses": [{"ip_address": ip}]}]}}}})
}

fn agent(ip: &str) -> Value {
    json!({"type": "AGENT_ADDED", "agent_added": {"agent": {"agent_info": {
        "id": {"value": "S0"}, "hostname": ip}}}})
}

fn framework(name: &str) -> Value {
    json!({"type": "FRAMEWORK_UPDATED", "framework_updated": {"framework": {"framework_info": {
        "id": {"value": "F"}, "name": name}}}})
}

fn running() -> TaskModel {
    let mut model = TaskModel::default();
    apply(&mut model, &agent("10.0.0.1"));
    apply(&mut model, &framework("marathon"));
    apply(&mut model, &task_added("TASK_STAGING"));
    apply(&mut model, &status("TASK_RUNNING", "9.0.0.1"));
    model
}

fn only(changes: &Changes) -> &Task {
    assert_eq!(changes.tasks.len(), 1, "{changes:?}");
    changes.tasks[0].1.as_deref().unwrap()
}

#[test]
fn a_task_waits_for_its_agent_and_its_framework() {
    let mut model = TaskModel::default();
    assert!(
        apply(&mut model, &task_added("TASK_RUNNING"))
            .tasks
            .is_empty()
    );
    assert!(apply(&mut model, &agent("10.0.0.1")).tasks.is_empty());
    assert_eq!(model.waiting(), 1);
    let changes = apply(&mut model, &framework("marathon"));
    assert_eq!(only(&changes).agent_ip, Some("10.0.0.1".parse().unwrap()));
    assert_eq!(model.waiting(), 0);
}

#[test]
fn the_state_of_the_event_overrides_that_of_the_status() {
    let model = running();
    assert_eq!(model.visible().next().unwrap().1.state, TaskState::Running);
}

#[test]
fn fields_without_a_value_keep_the_old_one() {
    let mut model = running();
    let mut update = status("TASK_KILLING", "x");
    update["task_updated"]["status"]
        .as_object_mut()
        .unwrap()
        .remove("agent_id");
    let changes = apply(&mut model, &update);
    let task = only(&changes);
    assert_eq!(task.state, TaskState::Killing);
    assert_eq!(task.task_ips, ["9.0.0.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(task.ports.len(), 1);
    assert_eq!(task.agent_ip, Some("10.0.0.1".parse().unwrap()));
}

#[test]
fn a_running_task_follows_its_addresses_and_names() {
    let mut model = running();
    let changes = apply(&mut model, &status("TASK_RUNNING", "9.0.0.2"));
    assert_eq!(
        only(&changes).task_ips,
        ["9.0.0.2".parse::<IpAddr>().unwrap()]
    );
    let changes = apply(&mut model, &agent("10.0.0.9"));
    assert_eq!(only(&changes).agent_ip, Some("10.0.0.9".parse().unwrap()));
    let changes = apply(&mut model, &framework("other"));
    assert_eq!(only(&changes).framework.as_deref(), Some("other"));
    assert!(apply(&mut model, &framework("other")).tasks.is_empty());
}

#[test]
fn agents_and_frameworks_that_leave_do_not_touch_their_tasks() {
    let mut model = running();
    let gone = json!({"type": "AGENT_REMOVED", "agent_removed": {"agent_id": {"value": "S0"}}});
    assert!(apply(&mut model, &gone).tasks.is_empty());
    assert_eq!(model.agents().count(), 0);
    let gone = json!({"type": "FRAMEWORK_REMOVED", "framework_removed": {"framework_info":
        {"id": {"value": "F"}, "name": "marathon"}}});
    assert!(apply(&mut model, &gone).tasks.is_empty());
    assert_eq!(model.visible().count(), 1);
    let changes = apply(&mut model, &status("TASK_LOST", "9.0.0.1"));
    assert!(matches!(changes.tasks.as_slice(), [(_, None)]));
    assert_eq!(model.tasks().count(), 0);
}

#[test]
fn a_task_whose_agent_and_framework_left_follows_its_own_events() {
    let agent_gone =
        json!({"type": "AGENT_REMOVED", "agent_removed": {"agent_id": {"value": "S0"}}});
    let framework_gone = json!({"type": "FRAMEWORK_REMOVED", "framework_removed":
        {"framework_info": {"id": {"value": "F"}, "name": "marathon"}}});
    for gone in [agent_gone, framework_gone] {
        let mut model = running();
        apply(&mut model, &gone);
        let changes = apply(&mut model, &status("TASK_RUNNING", "9.0.0.5"));
        let task = only(&changes);
        assert_eq!(task.task_ips, ["9.0.0.5".parse::<IpAddr>().unwrap()]);
        assert_eq!(task.agent_ip, Some("10.0.0.1".parse().unwrap()));
        assert_eq!(task.framework.as_deref(), Some("marathon"));
        assert_eq!(model.waiting(), 0);
        let changes = apply(&mut model, &status("TASK_KILLING", "9.0.0.5"));
        assert_eq!(only(&changes).state, TaskState::Killing);
        let changes = apply(&mut model, &status("TASK_UNREACHABLE", "9.0.0.5"));
        assert_eq!(only(&changes).state, TaskState::Preparing);
    }
}

#[test]
fn a_task_at_another_agent_has_nothing_of_the_one_before() {
    let mut model = running();
    let moved = |ip: &str| {
        let mut event = status("TASK_RUNNING", ip);
        event["task_updated"]["status"]["agent_id"]["value"] = "S9".into();
        event
    };
    let changes = apply(&mut model, &moved("9.0.0.5"));
    assert_eq!(changes.tasks.len(), 1);
    assert_eq!(
        changes.tasks[0].1, None,
        "out of sight, like one that is new"
    );
    assert_eq!((model.waiting(), model.visible().count()), (1, 0));
    assert!(apply(&mut model, &moved("9.0.0.6")).tasks.is_empty());
    let agent = json!({"type": "AGENT_ADDED", "agent_added": {"agent": {"agent_info":
        {"id": {"value": "S9"}, "hostname": "10.0.0.9"}}}});
    let changes = apply(&mut model, &agent);
    let task = only(&changes);
    assert_eq!(task.agent_ip, Some("10.0.0.9".parse().unwrap()));
    assert_eq!(task.task_ips, ["9.0.0.6".parse::<IpAddr>().unwrap()]);
}

#[test]
fn host_names_of_agents_are_resolved_by_the_caller() {
    let mut model = TaskModel::default();
    model.apply(&event(&agent("node.example")), &|_| None);
    assert_eq!(model.agents().count(), 0);
    assert_eq!(model.skipped(), 1);
    let event = event(&agent("node.example"));
    assert_eq!(event.hostnames().collect::<Vec<_>>(), ["node.example"]);
    model.apply(&event, &|name| {
        (name == "node.example").then(|| [10, 0, 0, 7].into())
    });
    assert_eq!(model.agents().next(), Some(("S0", [10, 0, 0, 7].into())));
    apply(&mut model, &agent("localhost"));
    assert_eq!(model.agents().next(), Some(("S0", [127, 0, 0, 1].into())));
}

#[test]
fn ports_that_make_no_sense_keep_the_old_ones() {
    let mut model = running();
    let mut added = task_added("TASK_RUNNING");
    added["task_added"]["task"]["discovery"]["ports"]["ports"] = json!([{"number": 81,
        "protocol": "tcp", "labels": {"labels": [{"key": "network-scope", "value": "moon"}]}}]);
    apply(&mut model, &added);
    assert_eq!(model.visible().next().unwrap().1.ports[0].port, Some(80));
    assert_eq!(model.skipped(), 1);
}
