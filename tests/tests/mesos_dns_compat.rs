//! Drop-in for mesos-dns: what the real program was seen to give for a state and a configuration,
//! from `tests/fixtures/mesos-dns` (see the README there).

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dns_userspace::commands::records::{Format, Row, hosts_file, render};
use dns_userspace::config::{Config, Surroundings, load};
use dns_userspace::mesos::{Defect, State, parse};
use dns_userspace::records::{self, explain};
use serde::Deserialize;
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/mesos-dns")
        .join(name)
}

fn config(name: &str) -> Config {
    let path = fixture(&format!("{name}.config.json"));
    load(&path, &Surroundings::default()).unwrap().config
}

fn state(name: &str) -> State {
    let (state, defects) = parse(&fs::read(fixture(&format!("{name}.json"))).unwrap()).unwrap();
    assert!(defects.is_empty(), "{name}: {defects}");
    state
}

fn captured(name: &str) -> Value {
    serde_json::from_slice(&fs::read(fixture(name)).unwrap()).unwrap()
}

fn rendered(config: &Config, state: &State, format: Format) -> Vec<u8> {
    render(config, state, format, &[], &hosts_file).unwrap().0
}

fn value_of(config: &Config, state: &State, format: Format) -> Value {
    serde_json::from_slice(&rendered(config, state, format)).unwrap()
}

fn served(config: &Config, state: &State) -> Vec<Row> {
    #[derive(Deserialize)]
    struct Served {
        name: String,
        r#type: String,
        ttl: u32,
        data: String,
    }
    let rows: Vec<Served> = serde_json::from_slice(&rendered(config, state, Format::Json)).unwrap();
    rows.into_iter()
        .map(|row| Row {
            name: row.name,
            r#type: row.r#type,
            ttl: row.ttl,
            data: row.data,
        })
        .collect()
}

fn data_of(rows: &[Row], name: &str, rtype: &str) -> Vec<String> {
    rows.iter()
        .filter(|row| row.name == name && row.r#type == rtype)
        .map(|row| row.data.clone())
        .collect()
}

const CASES: [(&str, &str); 6] = [
    ("edge", "f1"),
    ("edge", "f2"),
    ("edge", "f3"),
    ("fake-local", "f1"),
    ("fake-local", "f2"),
    ("fake-local", "f3"),
];

/// Records by type and name, values as sets.
fn as_sets(body: &Value) -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    serde_json::from_value(body["Records"].clone()).unwrap()
}

#[test]
fn axfr_has_the_captured_records() {
    for (state_name, config_name) in CASES {
        let case = format!("{state_name}.{config_name}");
        let expected = captured(&format!("{case}.axfr.json"));
        let body = value_of(&config(config_name), &state(state_name), Format::Axfr);
        for (kind, names) in as_sets(&expected) {
            let ours = &as_sets(&body)[&kind];
            for (name, values) in &names {
                assert_eq!(ours.get(name), Some(values), "{case} {kind} {name}");
            }
            let more: Vec<_> = ours
                .keys()
                .filter(|name| !names.contains_key(*name))
                .collect();
            assert!(more.is_empty(), "{case} {kind}: {more:?}");
        }
        for field in [
            "TTL",
            "Serial",
            "RefreshSeconds",
            "Mname",
            "Rname",
            "Domain",
        ] {
            assert_eq!(body[field], expected[field], "{case} {field}");
        }
    }
}

/// The captured text is re-indented, so shape and order are compared through a reader that keeps
/// the order of keys.
#[test]
fn axfr_has_the_captured_order_of_keys() {
    for (state_name, config_name) in CASES {
        let expected = captured(&format!("{state_name}.{config_name}.axfr.json"));
        let body = value_of(&config(config_name), &state(state_name), Format::Axfr);
        let keys =
            |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
        assert_eq!(keys(&body), keys(&expected));
        for kind in ["As", "AAAAs", "SRVs"] {
            assert_eq!(
                keys(&body["Records"][kind]),
                keys(&expected["Records"][kind])
            );
        }
    }
}

#[test]
fn enumerate_is_as_captured() {
    for (state_name, config_name) in CASES {
        let expected = captured(&format!("{state_name}.{config_name}.enumerate.json"));
        let body = value_of(&config(config_name), &state(state_name), Format::Enumerate);
        // As texts, because the order of keys counts.
        assert_eq!(
            body.to_string(),
            expected.to_string(),
            "{state_name}.{config_name}"
        );
    }
}

#[test]
fn bodies_are_indented_as_by_go() {
    let body = rendered(&config("f1"), &state("edge"), Format::Axfr);
    let text = String::from_utf8(body).unwrap();
    assert!(
        text.starts_with("{\n  \"TTL\": 60,\n  \"Serial\": 0,\n"),
        "{text:.80}"
    );
    assert!(text.contains("\n  \"Records\": {\n   \"As\": {\n    \"-akyr1-s1.marathon"));
    assert!(text.ends_with("\n   }\n  }\n }"));
    let empty = rendered(&config("f1"), &State::default(), Format::Enumerate);
    assert_eq!(empty, b"{\n  \"frameworks\": null\n }");
}

#[test]
fn the_worked_example_is_served() {
    let rows = served(&config("f1"), &state("edge"));
    let name = "web-front-end.marathon.prod-1.mesos.";
    assert_eq!(data_of(&rows, name, "A"), ["10.1.0.1", "10.1.0.2"]);
    assert_eq!(
        data_of(
            &rows,
            "_web-front-end._udp.marathon.prod-1.slave.mesos.",
            "SRV"
        ),
        [
            "0 1 31002 web-front-end-7f4dq-s1.marathon.prod-1.slave.mesos.",
            "0 1 31003 web-front-end-7f4dq-s1.marathon.prod-1.slave.mesos.",
            "0 1 31004 web-front-end-smr3j-s2.marathon.prod-1.slave.mesos.",
            "0 1 31005 web-front-end-smr3j-s2.marathon.prod-1.slave.mesos.",
        ]
    );
    assert_eq!(
        data_of(&rows, "mesos.", "SOA"),
        ["ns1.mesos. root.ns1.mesos. 0 60 600 86400 60"]
    );
    assert_eq!(data_of(&rows, "mesos.", "NS"), ["ns1.mesos."]);
    assert_eq!(data_of(&rows, "ns1.mesos.", "A"), ["127.0.0.1"]);
}

#[test]
fn ttl_and_weight_follow_the_configuration() {
    let rows = served(&config("f3"), &state("fake-local"));
    assert!(rows.iter().all(|row| row.ttl == 5));
    assert_eq!(
        data_of(&rows, "_leader._tcp.example.org.", "SRV"),
        ["0 10 15050 leader.example.org."]
    );
    // Without SOAMinttl the minimum is the TTL, as in the original.
    assert_eq!(
        data_of(&rows, "example.org.", "SOA"),
        ["ns1.example.org. hostmaster.example.org. 0 60 600 86400 5"]
    );
}

/// Lookups of the original are in lower case, so a raw name with capitals is in the listing only.
#[test]
fn raw_names_with_capitals_are_not_reachable() {
    let rows = served(&config("f1"), &state("edge"));
    assert_eq!(
        data_of(&rows, "disc-name-x.marathon.prod-1.mesos.", "A"),
        ["10.1.0.1"]
    );
    for row in &rows {
        assert!(!row.name.contains("disc.name_x"), "{row:?}");
        assert!(!row.data.contains("isc.name_x"), "{row:?}");
        assert!(
            row.name.bytes().all(|byte| byte.is_ascii_graphic()),
            "{row:?}"
        );
    }
}

/// A raw name without capitals is reachable, dots and all.
#[test]
fn raw_names_in_lower_case_are_reachable() {
    let rows = served(&config("f1"), &state("fake-local"));
    assert_eq!(data_of(&rows, "big.dog.marathon.mesos.", "A").len(), 1);
}

/// The original answers nothing at all here; see section 11 of its behaviour.
#[test]
fn long_canonical_names_are_cut_for_dns_only() {
    let rows = served(&config("f1"), &state("edge"));
    let long = "long-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    assert_eq!(long.len(), 63);
    let cut = format!("{}-hrtnm-s1", &long[..54]);
    let owner = format!("{cut}.http-fw.slave.mesos.");
    assert_eq!(data_of(&rows, &owner, "A"), ["10.1.0.1"]);
    // The SRV owner is one octet too long for a label, with the underscore in front of it.
    assert!(
        !rows
            .iter()
            .any(|row| row.name.contains(&format!("_{long}")))
    );

    let mut state = state("edge");
    let task = &mut state.frameworks[1].tasks[0];
    Arc::make_mut(task).name = long[..60].into();
    let rows = served(&config("f1"), &state);
    let service = format!("_{}._tcp.http-fw.mesos.", &long[..60]);
    assert_eq!(
        data_of(&rows, &service, "SRV"),
        [format!("0 1 31080 {owner}"), format!("0 1 31081 {owner}")]
    );
    let axfr = String::from_utf8(rendered(&config("f1"), &state, Format::Axfr)).unwrap();
    assert!(axfr.contains(&format!("{}-hrtnm-s1.http-fw.mesos.", &long[..60])));
    assert!(!axfr.contains(&cut));
}

/// DC/OS writes `tcp,udp`; the original makes one label of it and clients find neither.
#[test]
fn two_protocols_in_one_are_served_under_both() {
    let rows = served(&config("f1"), &state("edge"));
    let target = "disc-name-x-u6d45-s1.marathon.prod-1.mesos.";
    for protocol in ["tcpudp", "tcp", "udp"] {
        let owner = format!("_disc-name-x._{protocol}.marathon.prod-1.mesos.");
        assert!(data_of(&rows, &owner, "SRV").contains(&format!("0 1 7 {target}")));
    }
}

#[test]
fn candidates_are_numbered_as_documented() {
    let numbered = |candidates: &[&str]| -> Vec<String> {
        let mut config = config("f1");
        config.masters = candidates.iter().map(ToString::to_string).collect();
        let state = State {
            leader: "master@0.0.0.6:7".into(),
            ..State::default()
        };
        let body = value_of(&config, &state, Format::Axfr);
        let names = as_sets(&body)["As"].clone();
        (0..9)
            .filter_map(|i| names.get(&format!("master{i}.mesos.")))
            .map(|values| values.iter().cloned().collect::<Vec<_>>().join(","))
            .collect()
    };
    assert_eq!(numbered(&["0.0.0.8:9"]), ["0.0.0.8", "0.0.0.6"]);
    assert_eq!(
        numbered(&["0.0.0.8:9", "0.0.0.6:7", "0.0.0.7:0"]),
        ["0.0.0.8", "0.0.0.6", "0.0.0.7"]
    );
    assert_eq!(
        numbered(&["0.0.0.6:7", "0.0.0.6:7", "0.0.0.8:9", "0.0.0.8:9"]),
        ["0.0.0.6", "0.0.0.8"]
    );
    assert_eq!(numbered(&[]), ["0.0.0.6"]);
    // The original crashes on names.
    assert_eq!(numbered(&["localhost:5050"]), ["127.0.0.1", "0.0.0.6"]);
    assert_eq!(numbered(&["nowhere.invalid:5050", ""]), ["0.0.0.6"]);
}

#[test]
fn ports_reach_dns_modulo_two_to_the_sixteenth() {
    let body =
        br#"{"leader":"m@10.0.0.1:5050","slaves":[{"id":"a-S0","pid":"slave(1)@10.0.0.2:5051"}],
        "frameworks":[{"name":"fw","pid":"s@10.0.0.3:1","tasks":[{"id":"t","name":"t",
        "slave_id":"a-S0","state":"TASK_RUNNING","discovery":{"name":"web","ports":{"ports":[
        {"number":70000,"protocol":"tcp"},{"number":-1,"protocol":"udp"}]}}}]}]}"#;
    let (state, defects) = parse(body).unwrap();
    assert!(defects.is_empty());
    let rows = served(&config("f1"), &state);
    let first = |owner: &str| data_of(&rows, owner, "SRV")[0].clone();
    assert!(first("_web._tcp.fw.mesos.").starts_with("0 1 4464 "));
    assert!(first("_web._udp.fw.mesos.").starts_with("0 1 65535 "));
    let axfr = String::from_utf8(rendered(&config("f1"), &state, Format::Axfr)).unwrap();
    assert!(axfr.contains(".fw.mesos.:70000"));
}

#[test]
fn one_bad_record_harms_only_itself() {
    let body = br#"{"leader":"m@10.0.0.1:5050",
     "slaves":[{"id":"a-S0","pid":"slave(1)@10.0.0.2:5051"},{"id":"a-S1"},{"id":"a-S2","pid":"x"},
        {"id":"a-S3","pid":null},{"id":7},null,"agent",{"id":"a-S4","pid":"slave(1)@nowhere.invalid:5051"}],
     "frameworks":[5,{"name":"broken","pid":"","tasks":[
        {"id":"in-broken","name":"in-broken","slave_id":"a-S0","state":"TASK_RUNNING"}]},
       {"name":{},"tasks":[]},
       {"name":"fw","pid":"s@10.0.0.3:1","tasks":[7,null,
        {"id":5,"name":"x","slave_id":"a-S0","state":"TASK_RUNNING"},
        {"id":"p","name":"ports","slave_id":"a-S0","state":"TASK_RUNNING",
         "resources":{"ports":"31000, [1-x, 80-81, 9]"}},
        {"id":"q","name":"brackets","slave_id":"a-S0","state":"TASK_RUNNING","resources":{"ports":"80-81"}},
        {"id":"s","name":"statuses","slave_id":"a-S0","state":"TASK_RUNNING","statuses":[
          {"state":"TASK_RUNNING","timestamp":"9","container_status":{"network_infos":[{"ip_address":"10.9.0.9"}]}},
          {"state":"TASK_RUNNING","timestamp":1e999},
          {"state":"TASK_RUNNING","timestamp":1,"container_status":{"network_infos":[
             {"ip_addresses":[{"ip_address":5},{"ip_address":"10.9.0.1"},6]},7]}}]},
        {"id":"d","name":"x","slave_id":"a-S0","state":"TASK_RUNNING","discovery":{"name":"disc",
          "ports":{"ports":[{"number":"80"},{"number":80.0},{"number":81,"protocol":"tcp"}]}}},
        {"id":"h","name":"headless","slave_id":"a-S1","state":"TASK_RUNNING","statuses":[
          {"state":"TASK_RUNNING","container_status":{"network_infos":[{"ip_address":"10.9.0.2"}]}}]},
        {"id":"l","name":"last","slave_id":"a-S0","state":"TASK_RUNNING"}]}]}"#;
    let (state, defects) = parse(body).unwrap();
    assert_eq!(defects.count(Defect::AgentPid), 4, "{defects}");
    assert_eq!(defects.count(Defect::FrameworkPid), 1, "{defects}");
    assert!(defects.count(Defect::PortRange) >= 2, "{defects}");
    assert!(defects.count(Defect::WrongType) >= 7, "{defects}");
    assert_eq!(defects.count(Defect::Number), 1, "{defects}");

    let rows = served(&config("f1"), &state);
    for (name, data) in [
        ("in-broken.broken.mesos.", "10.0.0.2"),
        ("ports.fw.mesos.", "10.0.0.2"),
        ("brackets.fw.mesos.", "10.0.0.2"),
        ("statuses.fw.mesos.", "10.9.0.1"),
        ("disc.fw.mesos.", "10.0.0.2"),
        ("headless.fw.mesos.", "10.9.0.2"),
        ("last.fw.mesos.", "10.0.0.2"),
        ("fw.mesos.", "10.0.0.3"),
        ("slave.mesos.", "10.0.0.2"),
    ] {
        assert_eq!(data_of(&rows, name, "A"), [data], "{name}");
    }
    let services: Vec<String> = rows
        .iter()
        .filter(|row| row.name == "_disc._tcp.fw.mesos.")
        .map(|row| row.data.clone())
        .collect();
    assert_eq!(services.len(), 1, "{services:?}");
    assert_eq!(data_of(&rows, "_ports._tcp.fw.mesos.", "SRV").len(), 2);
    assert_eq!(data_of(&rows, "broken.mesos.", "A"), Vec::<String>::new());
}

#[test]
fn each_agent_adds_its_own_address() {
    let two = ["10.1.0.1", "10.1.0.2"];
    for (agents, addresses, ports) in [
        (
            r#"{"id":"S1","pid":"s@10.1.0.1:5051"},{"id":"S1","pid":"s@10.1.0.2:5052"}"#,
            &two[..],
            &["5051", "5052"][..],
        ),
        (
            r#"{"id":"S1","pid":"s@10.1.0.1:5051"},{"id":"S1","pid":"bad"}"#,
            &two[..1],
            &["5051"],
        ),
        (
            r#"{"pid":"s@10.1.0.1:5051"},{"id":"S2","pid":"s@10.1.0.2:5052"},
               {"pid":"s@10.1.0.3:5053"}"#,
            &["10.1.0.1", "10.1.0.2", "10.1.0.3"],
            &["5051", "5052", "5053"],
        ),
    ] {
        let task = r#"{"id":"t","name":"t","slave_id":"S1","state":"TASK_RUNNING"}"#;
        let body = format!(
            r#"{{"leader":"m@10.0.0.1:5050","slaves":[{agents}],
                "frameworks":[{{"name":"fw","hostname":"","tasks":[{task}]}}]}}"#
        );
        let (state, _) = parse(body.as_bytes()).unwrap();
        let rows = served(&config("f1"), &state);
        assert_eq!(data_of(&rows, "slave.mesos.", "A"), addresses, "{agents}");
        let services: Vec<String> = ports
            .iter()
            .map(|port| format!("0 1 {port} slave.mesos."))
            .collect();
        let found = data_of(&rows, "_slave._tcp.mesos.", "SRV");
        assert_eq!(found, services, "{agents}");
        // Of several with the id, the last that has an address counts for tasks.
        let of_task: &[&str] = if agents.contains("S2") {
            &[]
        } else {
            &addresses[addresses.len() - 1..]
        };
        assert_eq!(data_of(&rows, "t.fw.mesos.", "A"), of_task, "{agents}");
    }
}

/// A resolver of the C library takes these for addresses: 8.1.0.1, 10.0.0.2, 0.0.0.42.
#[test]
fn hosts_that_only_look_like_addresses_have_none() {
    let body = br#"{"leader":"m@10.0.0.1:5050",
        "slaves":[{"id":"S1","pid":"s@010.1.0.1:5051"},{"id":"S2","pid":"s@10.2:5052"},
                  {"id":"S3","pid":"s@node3:5053"}],
        "frameworks":[{"name":"fw","hostname":"42","tasks":[]}]}"#;
    let (state, _) = parse(body).unwrap();
    let resolve = |host: &str| {
        assert_eq!(host, "node3");
        vec!["10.1.0.3".parse().unwrap()]
    };
    let format = Format::Json;
    let config = config("f1");
    let (text, defects) = render(&config, &state, format, &[], &resolve).unwrap();
    let rows: Value = serde_json::from_slice(&text).unwrap();
    let agents: Vec<&str> = rows
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["name"] == "slave.mesos.")
        .filter_map(|row| row["data"].as_str())
        .collect();
    assert_eq!(agents, ["10.1.0.3"]);
    assert!(!rows.to_string().contains("\"fw.mesos.\""));
    assert_eq!(defects.count(Defect::UnresolvedHost), 3, "{defects}");
}

#[test]
fn an_unreadable_whole_is_refused() {
    let good = fs::read(fixture("edge.json")).unwrap();
    assert!(parse(&good).is_ok());
    for bad in [
        &good[..good.len() / 2],
        b"",
        b"<html>502</html>",
        b"[]",
        b"{} x",
        br#"{"frameworks":{}}"#,
        br#"{"slaves":"none"}"#,
        br#"{"leader":1}"#,
    ] {
        assert!(
            parse(bad).is_err(),
            "{:?}",
            String::from_utf8_lossy(&bad[..bad.len().min(40)])
        );
    }
}

#[test]
fn keys_match_in_any_case_and_the_last_wins() {
    let (state, defects) = parse(
        br#"{"LEADER":"m@10.0.0.1:1","leader":"m@10.0.0.2:1","Slaves":[{"ID":"x","PID":"s@10.0.0.9:1"}],
        "slaves":[{"Id":"a","Id":"b","pid":"s@10.0.0.3:1"}],"frameworks":null}"#,
    )
    .unwrap();
    assert!(defects.is_empty());
    assert_eq!(&*state.leader, "m@10.0.0.2:1");
    assert_eq!(state.agents.len(), 1);
    assert_eq!(&*state.agents[0].id, "b");
}

#[test]
fn an_explanation_names_task_agent_source_and_rule() {
    let settings = config("f1").record_settings(&[]);
    let (found, _) = explain::explain(
        &state("edge"),
        &[],
        &settings,
        &hosts_file,
        "Netinfo.marathon.prod-1.mesos",
    );
    assert_eq!(found.len(), 3);
    assert_eq!(
        found[0].to_string(),
        "netinfo.marathon.prod-1.mesos. A 10.9.0.1\n    \
         rule: own address of a task, source netinfo\n    \
         framework: Marathon.Prod_1\n    \
         task: netinfo.0014\n    \
         agent: 20150101-000000-1-5050-1-S1\n    \
         status: TASK_RUNNING since 1\n    \
         DNS: served"
    );
    let name = "Disc.Name_X.marathon.prod-1.mesos.";
    let (found, _) = explain::explain(&state("edge"), &[], &settings, &hosts_file, name);
    assert!(found.iter().all(|one| one.dns_name.is_none()));
    assert_eq!(found.len(), 1);
}

/// mesos-dns tells the port from the target by the last colon, and sends no record with two.
#[test]
fn an_explanation_says_that_a_target_is_no_name() {
    let task = r#"{"id":"t","name":"t","slave_id":"S1","state":"TASK_RUNNING",
        "discovery":{"name":"a:b","ports":{"ports":[{"number":7,"protocol":"tcp"}]}}}"#;
    let body = format!(
        r#"{{"leader":"m@10.0.0.1:5050","slaves":[{{"id":"S1","pid":"s@10.1.0.1:5051"}}],
            "frameworks":[{{"name":"fw","hostname":"","tasks":[{task}]}}]}}"#
    );
    let (state, _) = parse(body.as_bytes()).unwrap();
    let settings = config("f1").record_settings(&[]);
    let name = "_a:b._tcp.fw.mesos";
    let (found, _) = explain::explain(&state, &[], &settings, &hosts_file, name);
    assert!(!found.is_empty());
    for one in found {
        let text = one.to_string();
        let end = "DNS: not served, its target is no name";
        assert!(one.rtype == "SRV" && text.ends_with(end), "{text}");
    }
}

/// The name server's own address is served in whatever case it is configured.
#[test]
fn the_name_server_is_served_in_any_case() {
    let mut config = config("f1");
    config.soa_mname = "NS1.Mesos.".into();
    let rows = served(&config, &state("edge"));
    assert_eq!(data_of(&rows, "ns1.mesos.", "A"), ["127.0.0.1"]);
    let set = records::build(
        &state("edge"),
        &[],
        &config.record_settings(&[]),
        &hosts_file,
    );
    assert!(set.find("NS1.Mesos.").is_some());
}

mod generated {
    //! States that no cluster would have: nothing of them may panic, or take a neighbour's record.

    use dns_userspace::records::to_zone;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[A-Za-z0-9._ *:-]{0,90}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map(key(), inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn key() -> impl Strategy<Value = String> {
        prop::sample::select(vec![
            "id",
            "ID",
            "name",
            "Name",
            "pid",
            "state",
            "ports",
            "labels",
            "statuses",
            "timestamp",
            "number",
            "protocol",
            "key",
            "value",
            "ip_address",
            "ip_addresses",
            "tasks",
            "x",
        ])
        .prop_map(String::from)
    }

    /// Mostly what belongs here.
    fn mostly(proper: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Value> {
        prop_oneof![6 => proper, 1 => anything()]
    }

    fn text(pattern: &'static str) -> impl Strategy<Value = Value> {
        mostly(prop_oneof![
            3 => pattern.prop_map(Value::from),
            1 => any::<String>().prop_map(Value::from),
        ])
    }

    fn task() -> impl Strategy<Value = Value> {
        let address = || text("10\\.[0-9]\\.0\\.[1-9]|2001:db8::[1-9]|[a-z.]{0,5}");
        let info = mostly(
            (prop::collection::vec(address(), 0..3), address()).prop_map(|(list, one)| {
                let list: Vec<Value> = list
                    .into_iter()
                    .map(|ip| json!({"ip_address": ip}))
                    .collect();
                json!({"ip_addresses": list, "ip_address": one})
            }),
        );
        let status = mostly((info, anything()).prop_map(|(info, time)| {
            json!({"state": "TASK_RUNNING", "timestamp": time,
                   "container_status": {"network_infos": [info]}})
        }));
        let port = mostly(
            (anything(), text("tcp|udp|tcp,udp|"), text("[a-zA-Z.-]{0,70}")).prop_map(
                |(number, protocol, name)| {
                    json!({"number": number, "protocol": protocol, "name": name})
                },
            ),
        );
        let discovery = mostly(
            (text("[A-Za-z.:_-]{0,80}"), port)
                .prop_map(|(name, port)| json!({"name": name, "ports": {"ports": [port]}})),
        );
        mostly(
            (
                text("[A-Za-z0-9._-]{0,40}"),
                text("[A-Za-z0-9._-]{0,90}"),
                text("a-S0|a-S1|[a-z.-]{0,9}"),
                text(r"\[[0-9]{1,4}-[0-9]{1,4}\]|\[\]|[0-9\[\], -]{0,12}"),
                status,
                prop::option::of(discovery),
            )
                .prop_map(|(id, name, agent, ports, status, discovery)| {
                    json!({"id": id, "name": name, "slave_id": agent, "state": "TASK_RUNNING",
                           "resources": {"ports": ports}, "statuses": [status],
                           "discovery": discovery})
                }),
        )
    }

    fn framework() -> impl Strategy<Value = Value> {
        mostly(
            (
                text("[A-Za-z0-9._-]{0,70}"),
                mostly(prop_oneof![
                    Just(json!("s@10.2.0.1:99")),
                    Just(json!("s@[2001:db8::9]:http"))
                ]),
                prop::collection::vec(task(), 0..4),
            )
                .prop_map(|(name, pid, tasks)| json!({"name": name, "pid": pid, "tasks": tasks})),
        )
    }

    fn agent() -> impl Strategy<Value = Value> {
        mostly(
            (
                text("a-S[1-9]|[a-z.-]{0,9}"),
                text("slave\\(1\\)@10\\.1\\.0\\.[1-9]:5051|x@y"),
            )
                .prop_map(|(id, pid)| json!({"id": id, "pid": pid})),
        )
        // The neighbour's agent stays the only one of its id.
        .prop_filter("a-S0 is taken", |agent| !agent.to_string().contains("a-S0"))
    }

    fn neighbour(name: &str) -> Value {
        json!({"id": name, "name": name, "slave_id": "a-S0", "state": "TASK_RUNNING",
               "resources": {"ports": "[31000-31000]"}})
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn neighbours_keep_their_records(
            agents in prop::collection::vec(agent(), 0..4),
            frameworks in prop::collection::vec(framework(), 0..4),
            mut tasks in prop::collection::vec(task(), 0..4),
            place in any::<prop::sample::Index>(),
        ) {
            tasks.insert(place.index(tasks.len() + 1), neighbour("zz-inside"));
            let mut agents = agents;
            agents.insert(place.index(agents.len() + 1), json!({"id": "a-S0", "pid": "s@10.1.0.77:1"}));
            let mut frameworks = frameworks;
            let own = json!({"name": "zz-own", "pid": "s@10.2.0.77:1", "tasks": tasks});
            frameworks.insert(place.index(frameworks.len() + 1), own);
            let document = json!({
                "leader": "m@10.0.0.1:5050", "slaves": agents, "frameworks": frameworks,
            });

            let (state, _) = parse(document.to_string().as_bytes()).unwrap();
            let config = config("f1");
            let rows = served(&config, &state);
            let inside = data_of(&rows, "zz-inside.zz-own.mesos.", "A");
            prop_assert!(inside.contains(&"10.1.0.77".to_string()), "{inside:?}");
            let service = data_of(&rows, "_zz-inside._tcp.zz-own.mesos.", "SRV");
            prop_assert!(service.iter().any(|data| data.starts_with("0 1 31000 ")), "{service:?}");
            let scheduler = data_of(&rows, "zz-own.mesos.", "A");
            prop_assert!(scheduler.contains(&"10.2.0.77".to_string()));

            // The listings hold every record, and DNS nothing that they do not.
            let body = value_of(&config, &state, Format::Axfr);
            let listed = as_sets(&body);
            for row in rows.iter().filter(|row| row.r#type == "A") {
                let known = listed["As"].contains_key(&row.name);
                let cut = row.name.split('.').any(|label| label.len() > 32);
                prop_assert!(known || cut, "{row:?}");
            }
            value_of(&config, &state, Format::Enumerate);
        }

        #[test]
        fn canonical_names_of_different_tasks_stay_apart(
            name in "[a-z]{50,63}",
            ids in prop::collection::btree_set("[a-z0-9]{1,12}", 2..20),
        ) {
            let tasks: Vec<Value> = ids
                .iter()
                .map(|id| {
                    let mut task = neighbour(&name);
                    task["id"] = json!(id);
                    task
                })
                .collect();
            let document = json!({
                "leader": "m@10.0.0.1:5050",
                "slaves": [{"id": "a-S0", "pid": "s@10.1.0.77:1"}],
                "frameworks": [{"name": "fw", "tasks": tasks}],
            });
            let (state, _) = parse(document.to_string().as_bytes()).unwrap();
            let settings = config("f1").record_settings(&[]);
            let set = records::build(&state, &[], &settings, &hosts_file);
            let zone = to_zone::zone(&settings, true).unwrap();
            let content = to_zone::zone_content(&set, &settings, &zone.apex);
            let canonical = content
                .rrsets
                .iter()
                .filter(|(owner, rrset)| {
                    let text = owner.to_string();
                    rrset.data().len() == 1 && text.ends_with("-s0.fw.mesos.")
                })
                .count();
            let hashes: BTreeSet<String> =
                ids.iter().map(|id| records::label::task_hash(id)).collect();
            prop_assert_eq!(canonical, hashes.len());
        }
    }
}
