//! The daemon as an operator runs it: on an interface with native XDP, asked by a real `dig`.
//!
//! What answers is read from the daemon's own account: the kernel's counters of verdicts, and the
//! queries that reached the server's sockets.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::collections::BTreeMap;

use serde_json::Value;
use tests::{
    cable::SERVER,
    dig::{Dig, Response},
    needs_scene,
    scene::{Scene, add_tasks, fake_local},
};

/// A name of the fixture with one address, which tests of mesos-dns use too.
const TASK: &str = "nginx.marathon.mesos";

/// A name with twenty addresses, 10.20.0.1 to 10.20.0.20.
const WIDE: &str = "wide.marathon.mesos";

fn fixture(name: &str) -> Value {
    let path = format!("{}/fixtures/mesos-dns/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn state() -> Value {
    let mut state = fake_local();
    let addresses: Vec<String> = (1..=20).map(|number| format!("10.20.0.{number}")).collect();
    add_tasks(&mut state, "wide", &addresses);
    state
}

/// The addresses that mesos-dns was seen to give a name.
fn expected(kind: &str, name: &str) -> Vec<String> {
    let answers = fixture("fake-local.f1.axfr.json");
    let found = &answers["Records"][kind][format!("{name}.")];
    let mut found: Vec<String> = serde_json::from_value(found.clone()).unwrap();
    found.sort();
    found
}

/// Who answered: verdicts of the kernel by name, and UDP queries at the server.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Count {
    verdicts: BTreeMap<String, u64>,
    server: u64,
}

fn count(scene: &Scene) -> Count {
    let status = scene.daemon.status().unwrap();
    let mut verdicts = status.xdp.verdicts;
    for (verdict, count) in status.xdp.second_verdicts {
        *verdicts.entry(verdict).or_default() += count;
    }
    Count {
        verdicts,
        server: status.server["udp"]["queries"],
    }
}

/// Asks, and says by which way the answer came: a verdict of the kernel, or `server`.
fn ask(scene: &Scene, dig: &Dig<'_>, name: &str, rtype: &str) -> (Response, String) {
    let before = count(scene);
    let response = dig.ask(name, rtype).unwrap();
    let after = count(scene);
    let responses = ["answered", "nodata", "nxdomain", "truncated", "badvers"];
    let mut ways: Vec<String> = responses
        .iter()
        .flat_map(|&verdict| {
            let more = after.verdicts[verdict] - before.verdicts[verdict];
            std::iter::repeat_n(verdict.to_owned(), more as usize)
        })
        .collect();
    let served = after.server - before.server;
    ways.extend(std::iter::repeat_n("server".to_owned(), served as usize));
    (response, ways.join(" "))
}

fn dig<'s>(scene: &'s Scene, options: &[&str]) -> Dig<'s> {
    let dig = Dig::at(SERVER[0]).from(&scene.cable.client);
    options.iter().fold(dig, |dig, option| dig.option(option))
}

fn sorted(mut data: Vec<&str>) -> Vec<&str> {
    data.sort_unstable();
    data
}

#[test]
fn the_kernel_answers_dig() {
    needs_scene!();
    let scene = Scene::with(&state(), |_| {}).unwrap();
    let addresses = expected("As", TASK);
    assert_eq!(addresses.len(), 1);
    let v6 = Dig::at(SERVER[1]).from(&scene.cable.client);
    let ways: [(&str, Dig<'_>); 9] = [
        ("as it comes", dig(&scene, &[])),
        ("+noedns", dig(&scene, &["+noedns"])),
        ("+bufsize=4096", dig(&scene, &["+bufsize=4096"])),
        ("+bufsize=512", dig(&scene, &["+bufsize=512"])),
        ("+cookie", dig(&scene, &["+cookie"])),
        ("+norecurse", dig(&scene, &["+norecurse"])),
        ("+dnssec", dig(&scene, &["+dnssec"])),
        ("over IPv6", v6.clone()),
        ("over IPv6 +noedns", v6.option("+noedns")),
    ];
    for (what, dig) in ways {
        let (response, way) = ask(&scene, &dig, TASK, "A");
        assert_eq!(way, "answered", "{what}: {response:?}");
        assert_eq!(response.status, "NOERROR", "{what}");
        assert_eq!(response.data("A"), addresses, "{what}");
        assert!(response.has_flag("aa"), "{what}");
        assert_eq!(
            response.edns.is_some(),
            !what.contains("+noedns"),
            "{what}: OPT answers OPT (RFC 6891, section 6.1.1)"
        );
    }
}

#[test]
fn the_question_comes_back_in_its_letter_case() {
    needs_scene!();
    let scene = Scene::with(&state(), |_| {}).unwrap();
    let asked = "nGiNx.MARATHON.meSOS";
    let (response, way) = ask(&scene, &dig(&scene, &[]), asked, "A");
    assert_eq!(way, "answered");
    assert_eq!(response.data("A"), expected("As", TASK));
    let question = (format!("{asked}."), "A".to_owned());
    assert_eq!(response.question, Some(question));
}

#[test]
fn the_kernel_answers_every_address_of_the_fixture() {
    needs_scene!();
    let scene = Scene::with(&state(), |_| {}).unwrap();
    let answers = fixture("fake-local.f1.axfr.json");
    let mut checked = 0;
    for (kind, rtype) in [("As", "A"), ("AAAAs", "AAAA")] {
        for name in answers["Records"][kind].as_object().unwrap().keys() {
            let name = name.trim_end_matches('.');
            // The server's own address is that of this test bed.
            if name == "ns1.mesos" {
                continue;
            }
            let (response, way) = ask(&scene, &dig(&scene, &[]), name, rtype);
            assert_eq!(way, "answered", "{name} {rtype}");
            assert_eq!(sorted(response.data(rtype)), expected(kind, name), "{name}");
            checked += 1;
        }
    }
    assert_eq!(checked, 55);
}

#[test]
fn a_missing_type_is_nodata_and_a_missing_name_nxdomain() {
    needs_scene!();
    let scene = Scene::with(&state(), |_| {}).unwrap();
    for (name, rtype, status, verdict) in [
        (TASK, "AAAA", "NOERROR", "nodata"),
        ("absent.mesos", "A", "NXDOMAIN", "nxdomain"),
    ] {
        let (response, way) = ask(&scene, &dig(&scene, &[]), name, rtype);
        assert_eq!(way, verdict, "{name}");
        assert_eq!(response.status, status, "{name}");
        assert!(response.answer.is_empty(), "{name}");
        assert_eq!(response.authority.len(), 1, "{name}");
        assert_eq!(response.authority[0].rtype, "SOA", "{name}");
        assert_eq!(response.authority[0].name, "mesos.", "{name}");
    }
}

#[test]
fn twenty_addresses_are_given_whole_and_in_rotation() {
    needs_scene!();
    let scene = Scene::with(&state(), |_| {}).unwrap();
    let mut all: Vec<String> = (1..=20).map(|number| format!("10.20.0.{number}")).collect();
    all.sort_by_key(|ip| ip.parse::<std::net::Ipv4Addr>().unwrap());
    // A frame from a socket at the other end of a veth has little room to grow in, which is for TC;
    // one that is padded (RFC 7830) has, as frames in a card's own pages have.
    for options in [
        &["+padding=320", "+bufsize=1232"][..],
        &["+bufsize=1232"],
        &["+bufsize=4096"],
        &["+noedns"],
        &[],
    ] {
        for id in [0usize, 7, 20, 65535] {
            let mut options = options.to_vec();
            let qid = format!("+qid={id}");
            options.push(&qid);
            let (response, way) = ask(&scene, &dig(&scene, &options), WIDE, "A");
            assert_eq!(way, "answered", "{options:?}");
            let mut rotated = all.clone();
            rotated.rotate_left(id % 20);
            assert_eq!(response.data("A"), rotated, "{options:?}");
        }
    }
}

#[test]
fn services_come_with_their_targets_and_addresses() {
    needs_scene!();
    let scene = Scene::with(&state(), |_| {}).unwrap();
    let dig = dig(&scene, &[]);
    let (response, way) = ask(&scene, &dig, "_chronos._tcp.marathon.mesos", "SRV");
    assert_eq!(way, "answered");
    let target = "chronos-rx8q6-0.marathon.slave.mesos.";
    assert_eq!(response.data("SRV"), [format!("0 1 31332 {target}")]);
    let additional = &response.additional[0];
    assert_eq!(
        (additional.name.as_str(), additional.data.as_str()),
        (target, "1.2.3.11")
    );
}

#[test]
fn what_is_not_for_the_kernel_is_answered_by_the_server() {
    needs_scene!();
    let scene = Scene::with(&state(), |_| {}).unwrap();
    // ANY has rules of its own (RFC 8482).
    let (_, way) = ask(&scene, &dig(&scene, &["+notcp"]), TASK, "ANY");
    assert_eq!(way, "server");
    let before = count(&scene);
    let response = dig(&scene, &["+tcp"]).ask(TASK, "A").unwrap();
    assert_eq!(response.data("A"), expected("As", TASK));
    assert_eq!(count(&scene).server, before.server);
    let status = scene.daemon.status().unwrap();
    assert_eq!(status.server["tcp"]["queries"], 1);
    let (response, way) = ask(&scene, &dig(&scene, &[]), "example.com", "A");
    assert_eq!(
        (response.status.as_str(), way.as_str()),
        ("REFUSED", "server")
    );
}

#[test]
fn an_unchanged_state_costs_no_map_write() {
    needs_scene!();
    let scene = Scene::with(&state(), |_| {}).unwrap();
    let before = scene.daemon.status().unwrap();
    assert!(before.xdp.updates > 0);
    let fetched = before.mesos.successes;
    let after = scene
        .daemon
        .wait_until(|status| status.mesos.successes >= fetched + 2)
        .unwrap();
    assert_eq!(after.xdp.updates, before.xdp.updates);
    assert_eq!(after.zones[0].serial, before.zones[0].serial);
    // One task more touches its own names only.
    let mut state = state();
    add_tasks(&mut state, "lone", &["10.9.9.9".to_owned()]);
    let master = scene.master.as_ref().unwrap();
    master.serve_state(&state);
    master
        .set_leader(&format!("master@{}", master.address()))
        .unwrap();
    let last = scene
        .daemon
        .wait_until(|status| status.xdp.updates > before.xdp.updates)
        .unwrap();
    let (response, way) = ask(&scene, &dig(&scene, &[]), "lone.marathon.mesos", "A");
    assert_eq!(way, "answered");
    assert_eq!(response.data("A"), ["10.9.9.9"]);
    let updates = last.xdp.updates - before.xdp.updates;
    assert!(updates <= 20, "{updates} of {} names", last.names);
}

#[test]
fn addresses_lead_back_to_names_in_the_kernel() {
    needs_scene!();
    let scene = Scene::with(&state(), |plan| {
        plan.config["reverse"] = serde_json::json!({ "networks": ["10.20.0.0/16"] });
    })
    .unwrap();
    let dig = dig(&scene, &[]);
    for last in 1..=20 {
        let owner = format!("{last}.0.20.10.in-addr.arpa");
        let (response, way) = ask(&scene, &dig, &owner, "PTR");
        assert_eq!(response.data("PTR"), [format!("{WIDE}.")], "{owner}");
        assert_eq!(way, "answered", "{owner}");
    }
    let (response, way) = ask(&scene, &dig, "21.0.20.10.in-addr.arpa", "PTR");
    assert_eq!(
        (response.status.as_str(), way.as_str()),
        ("NXDOMAIN", "nxdomain")
    );
    let (response, way) = ask(&scene, &dig, "0.20.10.in-addr.arpa", "PTR");
    assert_eq!(
        (response.status.as_str(), way.as_str()),
        ("NOERROR", "nodata")
    );
}
