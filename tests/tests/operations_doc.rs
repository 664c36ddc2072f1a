//! `docs/operations.md` and the service unit: what they say of verdicts and rights is so.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{collections::BTreeSet, fs, process::Command};

use dns_common::Verdict;
use serde_json::json;
use tests::{
    cable::SERVER, daemon, dig::Dig, needs, needs_daemon, needs_root, needs_tool, scene::Scene,
};

const DOCUMENT: &str = include_str!("../../docs/operations.md");
const UNIT: &str = include_str!("../../packaging/systemd/mesos-xdns.service");

/// First cells of the table rows below a heading, without their backquotes.
fn column(heading: &str) -> Vec<&'static str> {
    let section = DOCUMENT
        .split("\n## ")
        .find(|section| section.lines().next() == Some(heading))
        .unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| Some(row.split_once('`')?.0))
        .collect()
}

/// Values of a key of the unit.
fn setting(key: &str) -> BTreeSet<&'static str> {
    let values = UNIT
        .lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.flat_map(str::split_whitespace).collect()
}

#[test]
fn every_verdict_is_explained_in_its_order() {
    let names: Vec<&str> = Verdict::ALL.iter().map(|verdict| verdict.name()).collect();
    assert_eq!(column("Statistics"), names);
}

#[test]
fn the_unit_gives_the_rights_of_the_document() {
    let rights: BTreeSet<&str> = column("Rights").into_iter().collect();
    assert_eq!(rights.len(), 4);
    assert_eq!(setting("AmbientCapabilities"), rights);
    assert_eq!(setting("CapabilityBoundingSet"), rights);
}

/// Starts the daemon with some of the documented rights, and says in which mode XDP runs.
fn mode_with(rights: &[&str]) -> String {
    let set: String = rights
        .iter()
        .map(|right| format!(",+{}", right.trim_start_matches("CAP_").to_lowercase()))
        .collect();
    let scene = Scene::with(&json!({"slaves": [], "frameworks": []}), |plan| {
        plan.wrapper = ["--bounding-set", "--inh-caps"]
            .map(|option| format!("{option}=-all{set}"))
            .to_vec();
        plan.wrapper.insert(0, "setpriv".to_owned());
    })
    .unwrap();
    let dig = Dig::at(SERVER[0]).from(&scene.cable.client);
    let response = dig.ask("leader.mesos", "A").unwrap();
    assert_eq!(response.data("A"), ["127.0.0.1"]);
    scene.daemon.status().unwrap().xdp.mode
}

#[test]
fn the_documented_rights_are_enough_and_needed() {
    needs_root!();
    needs_tool!("dig", "ip", "nsenter", "setpriv");
    needs_daemon!();
    needs!(
        dns_userspace::dataplane::object().is_some(),
        "this build has no XDP program"
    );
    let rights = column("Rights");
    assert_eq!(mode_with(&rights), "native");
    // Port 53 is needed in any case, so the first one stays.
    for missing in 1..rights.len() {
        let mut some = rights.clone();
        let missing = some.remove(missing);
        assert_eq!(mode_with(&some), "off", "without {missing}");
    }
}

#[test]
fn systemd_accepts_the_unit() {
    needs_tool!("systemd-analyze");
    needs_daemon!();
    // What it starts must exist.
    let binary = daemon::binary().unwrap().canonicalize().unwrap();
    let unit = UNIT.replace("/usr/bin/mesos-xdns", binary.to_str().unwrap());
    let folder = std::env::temp_dir().join(format!("mesos-xdns-unit-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("mesos-xdns.service");
    fs::write(&file, unit).unwrap();
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&file)
        .output();
    fs::remove_dir_all(&folder).unwrap();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("mesos-xdns"))
        .collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}
