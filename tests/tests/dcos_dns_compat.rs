//! Drop-in for dcos-dns: what the real program was seen to answer, from `tests/fixtures/dcos` (see
//! the README there), and the names of the DC/OS documentation.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use dns_userspace::answers::{Decision, Policy, Transport, decide};
use dns_userspace::mesos::events::Event;
use dns_userspace::mesos::tasks::TaskModel;
use dns_userspace::records::dcos::DcosZones;
use dns_userspace::records::dcos::Settings;
use dns_userspace::records::dcos::cluster_id::ClusterId;
use dns_userspace::records::dcos::zones::{Axfr, StaticRecord};
use dns_userspace::zones::{Editor, Name, NoEncoder, Rdata, Snapshot};
use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::BinDecodable;
use serde_json::{Value, json};

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/dcos");
    fs::read_to_string(path.join(name)).unwrap()
}

/// The zones that the observations in `wire-observations.json` were made on.
fn observed_zones(setup: &Value) -> DcosZones {
    let ip = |value: &Value| value.as_str().unwrap().parse().unwrap();
    let records = |zone: &Value| -> Vec<StaticRecord> {
        zone.as_array()
            .unwrap()
            .iter()
            .map(|record| {
                let text = |key: &str| record[key].as_str().unwrap();
                cname(text("name"), text("value"))
            })
            .collect()
    };
    let mut static_zones: Vec<(String, Vec<StaticRecord>)> = setup["static_zones"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(apex, zone)| (apex.clone(), records(zone)))
        .collect();
    static_zones.push(("test.thisdcos.directory".into(), test_zone()));
    let settings = Settings {
        node_ip: Some(ip(&setup["node_ip"])),
        masters: setup["masters"]
            .as_array()
            .unwrap()
            .iter()
            .map(ip)
            .collect(),
        cluster_id: Some(
            ClusterId::from_text(setup["cluster_public_key_zbase32"].as_str().unwrap()).unwrap(),
        ),
        static_zones,
        ..Settings::default()
    };
    let mut zones = DcosZones::new(&settings, &[]).unwrap();
    zones.set_leader(settings.node_ip);
    let mut model = TaskModel::default();
    let mut feed = |text: &str| {
        let event = Event::from_json(text.as_bytes()).unwrap();
        zones.apply(&model.apply(&event, &|_| None)).unwrap();
    };
    fixture(setup["tasks"].as_str().unwrap())
        .lines()
        .for_each(&mut feed);
    for (n, vip) in setup["named_vips"].as_array().unwrap().iter().enumerate() {
        feed(&vip_task(n, vip[0].as_str().unwrap()).to_string());
    }
    let axfr = fixture(setup["axfr"].as_str().unwrap());
    let mirror = Axfr::from_json(axfr.as_bytes()).unwrap().mirror().unwrap();
    zones.set_mirror(mirror).unwrap();
    zones
}

/// A task of the marathon of `operator-api.json` that serves a VIP.
fn vip_task(n: usize, label: &str) -> Value {
    let cluster = "30257977-0153-499d-a5b0-35afd842ef4d";
    json!({"type": "TASK_ADDED", "task_added": {"task": {
        "name": "vip", "task_id": {"value": format!("vip.{n}")}, "state": "TASK_RUNNING",
        "framework_id": {"value": format!("{cluster}-0001")},
        "agent_id": {"value": format!("{cluster}-S0")},
        "statuses": [{"timestamp": 1.0, "container_status": {"network_infos": [
            {"ip_addresses": [{"ip_address": "9.0.0.1"}]}]}}],
        "discovery": {"name": "vip", "ports": {"ports": [{"number": 80, "protocol": "tcp",
            "labels": {"labels": [{"key": "VIP_0", "value": format!("{label}:80")}]}}]}}}}})
}

fn cname(name: &str, target: &str) -> StaticRecord {
    StaticRecord {
        name: name.into(),
        ttl: 5,
        data: Rdata::Cname(Name::from_text(target).unwrap()),
    }
}

/// `test_zone_records` of the set-up.
fn test_zone() -> Vec<StaticRecord> {
    let five = [3, 1, 2, 5, 4].map(|last| StaticRecord {
        name: "five".into(),
        ttl: 5,
        data: Rdata::A([127, 0, 0, last].into()),
    });
    let aliases = [
        cname("c1", "five.test.thisdcos.directory"),
        cname("l1", "l2.test.thisdcos.directory"),
        cname("l2", "l1.test.thisdcos.directory"),
        cname("dang", "nope.dcos.thisdcos.directory"),
        cname("dang2", "nope.test.thisdcos.directory"),
        cname("nod", "registry.component.thisdcos.directory"),
    ];
    five.into_iter().chain(aliases).collect()
}

fn snapshot(zones: &DcosZones) -> Arc<Snapshot> {
    let mut editor = Editor::new(7, zones.zones().unwrap(), Arc::new(NoEncoder), 1).unwrap();
    for content in zones.content().unwrap() {
        let outside = editor.replace(&content.zone.apex, content.records).unwrap();
        assert_eq!(outside, 0, "{}", content.zone.apex);
    }
    editor.commit(1);
    Arc::clone(editor.snapshot())
}

fn rtype(name: &str) -> u16 {
    match name {
        "A" => 1,
        "NS" => 2,
        "CNAME" => 5,
        "SOA" => 6,
        "TXT" => 16,
        "AAAA" => 28,
        "SRV" => 33,
        "RRSIG" => 46,
        "ANY" => 255,
        other => panic!("type {other}"),
    }
}

fn question(name: &str, rtype: u16, id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    let mut message = vec![high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&rtype.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message
}

fn section(records: &[Record]) -> Vec<String> {
    let row = |record: &Record| record.to_string().replacen(" IN ", " ", 1);
    records.iter().map(row).collect()
}

/// A response in the form of the observations.
fn shown(response: &[u8]) -> Value {
    let message = Message::from_bytes(response).unwrap();
    let head = &message.metadata;
    let flags = [
        ("QR", head.message_type == MessageType::Response),
        ("AA", head.authoritative),
        ("TC", head.truncation),
        ("RD", head.recursion_desired),
        ("RA", head.recursion_available),
        ("AD", head.authentic_data),
        ("CD", head.checking_disabled),
    ];
    let flags: Vec<&str> = flags
        .iter()
        .filter(|(_, on)| *on)
        .map(|(flag, _)| *flag)
        .collect();
    let rcode = match u16::from(head.response_code) {
        0 => "NOERROR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        5 => "REFUSED",
        other => panic!("rcode {other}"),
    };
    let questions: Vec<String> = message
        .queries
        .iter()
        .map(|q| q.name().to_string())
        .collect();
    json!({
        "rcode": rcode,
        "flags": flags,
        "question_echo": questions,
        "answer": section(&message.answers),
        "authority": section(&message.authorities),
        "additional": section(&message.additionals),
        "response_has_opt": message.edns.is_some(),
    })
}

/// What is answered otherwise than by dcos-dns on purpose: the name, the type, and what differs.
fn fixes(observed: &mut Value) {
    let (name, rtype) = (observed["qname"].to_string(), observed["qtype"].to_string());
    match (name.trim_matches('"'), rtype.trim_matches('"')) {
        // An empty non-terminal exists (RFC 8020, section 2).
        ("marathon.agentip.dcos.thisdcos.directory", "A") => observed["rcode"] = "NOERROR".into(),
        // The question comes back octet for octet, and with it the owner names that point to it.
        ("NONE-on-HOST.marathon.agentip.DCOS.thisdcos.GLOBAL", "A") => {
            let asked = "NONE-on-HOST.marathon.agentip.DCOS.thisdcos.GLOBAL.";
            observed["question_echo"] = json!([asked]);
            observed["answer"] = json!([format!("{asked} 5 A 172.17.0.4")]);
        }
        // A type that we have no data of is NODATA; nothing is special about RRSIG
        // (RFC 8906, section 3.1.2).
        ("none-on-host.marathon.agentip.dcos.thisdcos.directory", "RRSIG") => {
            observed["rcode"] = "NOERROR".into();
            observed["flags"] = json!(["QR", "AA", "RD"]);
            observed["authority"] = json!([
                "dcos.thisdcos.directory. 1 SOA ns.spartan. support.mesosphere.com. 1 60 180 86400 1"
            ]);
        }
        // The SOA is that of the zone the alias leads to (RFC 2308, section 2.2).
        ("registry.component.thisdcos.directory", "AAAA") => {
            observed["authority"] = json!([
                "dcos.thisdcos.directory. 1 SOA ns.spartan. support.mesosphere.com. 1 60 180 86400 1"
            ]);
        }
        // The rcode is that of the last name of the chain (RFC 6604, section 2.1).
        ("dang.test.thisdcos.directory" | "dang2.test.thisdcos.directory", "A") => {
            observed["rcode"] = "NXDOMAIN".into();
        }
        // A service comes with the addresses of its target (RFC 2782).
        ("_http._none-on-host._tcp.marathon.mesos.thisdcos.directory", "SRV") => {
            let target = "none-on-host-5geu6-s0.marathon.mesos.thisdcos.directory.";
            observed["additional"] = json!([format!("{target} 5 A 172.17.0.5")]);
        }
        _ => {}
    }
}

#[test]
fn every_observation_on_the_wire_is_matched() {
    let fixture: Value = serde_json::from_str(&fixture("wire-observations.json")).unwrap();
    let snapshot = snapshot(&observed_zones(&fixture["setup"]));
    let observations = fixture["observations"].as_array().unwrap();
    assert!(observations.len() >= 42);
    let mut differing = Vec::new();
    for observed in observations {
        let mut observed = observed.clone();
        fixes(&mut observed);
        let name = observed["qname"].as_str().unwrap();
        let id = u16::try_from(observed["id"].as_u64().unwrap()).unwrap();
        let message = question(name, rtype(observed["qtype"].as_str().unwrap()), id);
        let decision = decide(&snapshot, &message, Transport::Udp, &Policy::default());
        let Decision::Respond(response, _) = decision else {
            panic!("{name}: {decision:?}");
        };
        let shown = shown(&response);
        for (key, value) in shown.as_object().unwrap() {
            if observed[key] != *value {
                differing.push(format!("{name} {id}: {key}: {} != {value}", observed[key]));
            }
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// Tasks that no capture has, each with the names it must have by the rules of sections 2 and 3 of
/// dcos-net's behaviour: `agentip`, `containerip` and `autoip`.
#[test]
fn odd_tasks_have_the_records_that_the_rules_say() {
    const AGENT: &str = "172.17.0.4";
    // Of the two hyphens after 62 letters one fits and is stripped, and the next letter takes its place.
    let long = format!("{}--b{}", "a".repeat(62), "c".repeat(5));
    let cut = format!("{}b", "a".repeat(62));
    let ips = |ips: &[&str]| json!({"ip_addresses": ips.iter().map(|ip| json!({"ip_address": ip})).collect::<Vec<_>>()});
    let mapping = |port: u16, protocol: &str| json!({"container_port": port, "host_port": 31000 + port, "protocol": protocol});
    let port = |number: u16, scope: &str| {
        json!({"number": number, "protocol": "tcp",
        "labels": {"labels": [{"key": "network-scope", "value": scope}]}})
    };
    let with_ports = |ports: Value| json!({"discovery": {"ports": {"ports": ports}}});
    let none = json!({});
    // What is in the task besides, its networks, and the label and addresses that follow.
    type Row<'a> = (&'a str, Value, Value, &'a str, &'a [&'a str], &'a [&'a str]);
    let rows: Vec<Row<'_>> = vec![
        (
            "Ünï_cödé日本.X",
            none.clone(),
            json!([ips(&["9.0.0.1"])]),
            "n-cd-x",
            &["9.0.0.1"],
            &["9.0.0.1"],
        ),
        (
            "-_.4abc",
            none.clone(),
            json!([ips(&["9.0.0.2"])]),
            "4abc",
            &["9.0.0.2"],
            &["9.0.0.2"],
        ),
        (
            &long,
            none.clone(),
            json!([ips(&["9.0.0.3"])]),
            &cut,
            &["9.0.0.3"],
            &["9.0.0.3"],
        ),
        (
            "six",
            none.clone(),
            json!([ips(&["fd01:b::5"])]),
            "six",
            &["fd01:b::5"],
            &["fd01:b::5"],
        ),
        (
            "two",
            none.clone(),
            json!([ips(&["9.0.1.1"]), {}, ips(&["fd01:b::6", "9.0.1.2"])]),
            "two",
            &["9.0.1.1", "9.0.1.2", "fd01:b::6"],
            &["9.0.1.1", "9.0.1.2", "fd01:b::6"],
        ),
        ("bare", none.clone(), Value::Null, "bare", &[], &[AGENT]),
        (
            "protocol",
            none.clone(),
            json!([{"ip_addresses": [{"protocol": "IPv4"}]}]),
            "protocol",
            &[],
            &[AGENT],
        ),
        (
            "bad",
            none.clone(),
            json!([ips(&["999.1.1.1", "9.0.0.4", "x"])]),
            "bad",
            &["9.0.0.4"],
            &["9.0.0.4"],
        ),
        (
            "named",
            json!({"discovery": {"name": "Other.Name"}}),
            json!([ips(&["9.0.0.5"])]),
            "other-name",
            &["9.0.0.5"],
            &["9.0.0.5"],
        ),
        (
            "docker",
            json!({"container": {"type": "DOCKER", "docker": {"port_mappings": [mapping(80, "TCP")]}}}),
            json!([ips(&["172.18.0.2"])]),
            "docker",
            &["172.18.0.2"],
            &[AGENT],
        ),
        (
            "sctp",
            json!({"container": {"type": "DOCKER", "docker": {"port_mappings": [mapping(80, "sctp")]}}}),
            json!([ips(&["172.18.0.3"])]),
            "sctp",
            &["172.18.0.3"],
            &["172.18.0.3"],
        ),
        (
            "ucr",
            json!({"container": {"type": "MESOS", "network_infos": [{"port_mappings": [mapping(81, "udp")]}]}}),
            json!([ips(&["172.31.0.2"])]),
            "ucr",
            &["172.31.0.2"],
            &[AGENT],
        ),
        (
            "host",
            with_ports(json!([port(31005, "host")])),
            json!([ips(&[AGENT])]),
            "host",
            &[AGENT],
            &[AGENT],
        ),
        (
            "scope",
            with_ports(json!([port(31006, "host")])),
            json!([ips(&["9.0.0.6"])]),
            "scope",
            &["9.0.0.6"],
            &[AGENT],
        ),
        (
            "inner",
            with_ports(json!([port(80, "container")])),
            json!([ips(&["9.0.0.7"])]),
            "inner",
            &["9.0.0.7"],
            &["9.0.0.7"],
        ),
        // A scope that is none takes the ports away, and nothing else.
        (
            "where",
            with_ports(json!([port(31007, "moon")])),
            json!([ips(&["9.0.0.8"])]),
            "where",
            &["9.0.0.8"],
            &["9.0.0.8"],
        ),
        (
            "...",
            none.clone(),
            json!([ips(&["9.0.0.9"])]),
            "",
            &[],
            &[],
        ),
    ];
    let id = |value: &str| json!({"value": value});
    let mut tasks: Vec<Value> = rows.iter().map(|(name, more, networks, ..)| {
        let mut task = json!({"name": name, "task_id": id(name), "framework_id": id("F"), "agent_id": id("S0"),
            "state": "TASK_RUNNING", "statuses": [{"timestamp": 1.0, "state": "TASK_RUNNING",
                "container_status": {"network_infos": networks}}]});
        task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        task
    }).collect();
    // None of these has a name: every other state, an agent and a framework that are not known, no id.
    for state in [
        "STAGING",
        "STARTING",
        "KILLING",
        "UNREACHABLE",
        "UNKNOWN",
        "FINISHED",
        "FAILED",
        "KILLED",
        "LOST",
        "ERROR",
        "DROPPED",
        "GONE",
        "GONE_BY_OPERATOR",
        "NONSENSE",
    ] {
        let mut task = tasks[0].clone();
        task["state"] = format!("TASK_{state}").into();
        (task["name"], task["task_id"]) = (format!("hidden-{state}").into(), id(state));
        tasks.push(task);
    }
    for (key, value) in [
        ("agent_id", id("SX")),
        ("framework_id", id("FX")),
        ("task_id", Value::Null),
    ] {
        let mut task = tasks[0].clone();
        (task["name"], task["task_id"]) = (format!("hidden-{key}").into(), id(key));
        task[key] = value;
        tasks.push(task);
    }
    tasks.extend([json!(null), json!(7), json!([]), json!({"task_id": 3})]);
    let state = json!({"type": "GET_STATE", "get_state": {
        "get_agents": {"agents": [{"agent_info": {"id": id("S0"), "hostname": AGENT}}]},
        "get_frameworks": {"frameworks": [{"framework_info": {"id": id("F"), "name": "dev/My.Frame_work"}}]},
        "get_tasks": {"tasks": tasks}}});
    let event = Event::from_json(state.to_string().as_bytes()).unwrap();
    let mut zones = DcosZones::new(&Settings::default(), &[]).unwrap();
    zones
        .apply(&TaskModel::default().apply(&event, &|_| None))
        .unwrap();
    let own = zones.own_content().unwrap();
    let dcos = own
        .iter()
        .find(|one| one.zone.apex.to_string() == "dcos.thisdcos.directory.")
        .unwrap();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, rrset) in &dcos.records {
        assert_eq!(rrset.ttl(), 5, "{name}");
        let data = rrset.data().iter().map(ToString::to_string);
        found.entry(name.to_string()).or_default().extend(data);
    }
    let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (.., label, container, auto) in rows {
        for (kind, ips) in [
            ("agentip", &[AGENT][..]),
            ("containerip", container),
            ("autoip", auto),
        ] {
            if label.is_empty() || ips.is_empty() {
                continue;
            }
            let name = format!("{label}.devmy-frame-work.{kind}.dcos.thisdcos.directory.");
            expected
                .entry(name)
                .or_default()
                .extend(ips.iter().map(ToString::to_string));
        }
    }
    assert_eq!(found, expected);
}
