//! A state document of a made-up cluster of any size, for measurements: about a kilobyte for each
//! task, most of it of no use to anybody who makes records of it, as in a real one.

use std::fmt::Write;

/// The document of a cluster with this many tasks on this many agents; the same arguments give the
/// same octets. With 5,006 tasks on 200 agents it has about 5 MB and, of 4,359 running tasks, about
/// 63,000 records.
#[must_use]
pub fn cluster_state(tasks: usize, agents: usize) -> Vec<u8> {
    let agents = agents.max(1);
    let mut out = String::with_capacity(tasks * 1200 + agents * 1200 + 1000);
    out.push_str(
        r#"{"activated_slaves":200.0,"build_date":"2024-01-01","cluster":"made up","leader":"master@10.0.0.1:5050","pid":"master@10.0.0.1:5050","flags":{"quorum":"2","work_dir":"/var/lib/mesos"},"slaves":["#,
    );
    for agent in 0..agents {
        separate(&mut out, agent);
        let (high, low) = (agent / 250, agent % 250 + 1);
        let _ = write!(
            out,
            r#"{{"id":"6f2c0a51-6b1e-4ab4-8f0e-3c7f7a2b9d11-S{agent}","hostname":"10.1.{high}.{low}","port":5051,"attributes":{{"rack":"r{high}","zone":"z{low}"}},"pid":"slave(1)@10.1.{high}.{low}:5051","registered_time":1450000000.5,"resources":{{"disk":100000.0,"mem":64000.0,"gpus":0.0,"cpus":32.0,"ports":"[1025-2180, 2182-3887, 3889-5049, 5052-8079]"}},"used_resources":{{"disk":0.0,"mem":32000.0,"gpus":0.0,"cpus":16.0,"ports":"[31000-31099]"}},"capabilities":["MULTI_ROLE","HIERARCHICAL_ROLE"],"version":"1.11.0","active":true}}"#
        );
    }
    out.push_str(r#"],"frameworks":["#);
    const FRAMEWORKS: usize = 10;
    for framework in 0..FRAMEWORKS {
        separate(&mut out, framework);
        let _ = write!(
            out,
            r#"{{"id":"6f2c0a51-6b1e-4ab4-8f0e-3c7f7a2b9d11-{framework:04}","name":"marathon-{framework}","pid":"scheduler-{framework}@10.2.0.{}:25501","hostname":"scheduler{framework}","active":true,"user":"root","role":"*","completed_tasks":[],"tasks":["#,
            framework + 1
        );
        let mine = (framework..tasks).step_by(FRAMEWORKS);
        for (i, task) in mine.enumerate() {
            separate(&mut out, i);
            write_task(&mut out, task, agents, framework);
        }
        out.push_str("]}");
    }
    out.push_str(r#"],"completed_frameworks":[],"orphan_tasks":[]}"#);
    out.into_bytes()
}

fn separate(out: &mut String, place: usize) {
    if place > 0 {
        out.push(',');
    }
}

fn write_task(out: &mut String, task: usize, agents: usize, framework: usize) {
    // About thirteen of a hundred tasks are on their way up or down.
    let state = match task * 7 % 100 {
        0..87 => "TASK_RUNNING",
        87..94 => "TASK_STAGING",
        _ => "TASK_KILLING",
    };
    let (app, agent) = (task / 4, task % agents);
    let port = 31000 + task % 900;
    let ip = format!(
        "10.{}.{}.{}",
        64 + task / 65536,
        task / 256 % 256,
        task % 256
    );
    let _ = write!(
        out,
        r#"{{"id":"group_service-{app}.{task:08x}-562f-11e4-a088-c20493233aa5","name":"service-{app}.group","framework_id":"6f2c0a51-6b1e-4ab4-8f0e-3c7f7a2b9d11-{framework:04}","executor_id":"","slave_id":"6f2c0a51-6b1e-4ab4-8f0e-3c7f7a2b9d11-S{agent}","state":"{state}","resources":{{"disk":0.0,"mem":128.0,"gpus":0.0,"cpus":0.1,"ports":"[{port}-{}]"}},"role":"*","labels":[{{"key":"team","value":"team-{}"}},{{"key":"HAPROXY_GROUP","value":"external"}}],"statuses":[{{"state":"TASK_STARTING","timestamp":{}.25,"healthy":false}},{{"state":"{state}","timestamp":{}.75,"healthy":true,"labels":[{{"key":"note","value":"a label of no use here"}}],"container_status":{{"container_id":{{"value":"da87d8aa-98f1-4fc3-a260-{task:012x}"}},"network_infos":[{{"ip_addresses":[{{"protocol":"IPv4","ip_address":"{ip}"}}],"name":"overlay","labels":{{}}}}]}}}}]"#,
        port + 1,
        task % 17,
        1_450_000_000 + task,
        1_450_000_100 + task
    );
    if task.is_multiple_of(3) {
        let _ = write!(
            out,
            r#","discovery":{{"visibility":"FRAMEWORK","name":"service-{app}","ports":{{"ports":[{{"number":80,"name":"http","protocol":"tcp"}},{{"number":9090,"name":"metrics","protocol":"tcp"}}]}}}}"#
        );
    }
    let _ = write!(
        out,
        r#","container":{{"type":"DOCKER","docker":{{"image":"registry.example/team-{}/service-{app}:1.2.3","network":"USER","privileged":false,"parameters":[{{"key":"label","value":"com.example.build=2024-01-01T00:00:00Z"}}]}}}}}}"#,
        task % 17
    );
}
