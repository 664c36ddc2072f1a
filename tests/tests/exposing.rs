//! `docs/exposing.md`: the names of a cluster for clients outside of it, through BIND and Unbound.
//!
//! The servers run on hosts of a network of their own, from the files that the document shows.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use serde_json::{Value, json};
use tests::{
    daemon,
    dig::{Dig, Record, Response},
    fake_master::FakeMaster,
    how_to::{Files, files},
    name_server::{bind, unbound},
    needs_daemon, needs_root, needs_tool,
    netns::Netns,
    network::Network,
};

const DOCUMENT: &str = include_str!("../../docs/exposing.md");
const MASTER: &str = "192.0.2.11";
const BIND: &str = "192.0.2.2";
const UNBOUND: &str = "192.0.2.3";
const CONFIGURATION: &str = "/etc/mesos-dns/config.json";

fn shown(heading: &str) -> Files {
    files(DOCUMENT, heading).unwrap()
}

/// A master at its address, with the task `web` of marathon on two agents, at one of their ports each.
fn start_master(host: &Netns) -> FakeMaster {
    let master = host
        .enter(|| FakeMaster::start_at(format!("{MASTER}:5050").parse()?))
        .unwrap();
    let task = |number: u32| -> Value {
        json!({"id": format!("web.{number}"), "name": "web", "slave_id": format!("S{number}"), "framework_id": "F1",
            "state": "TASK_RUNNING", "resources": {"ports": format!("[3100{number}-3100{number}]")},
            "statuses": [{"state": "TASK_RUNNING", "timestamp": 1.0, "container_status": {
                "network_infos": [{"ip_addresses": [{"ip_address": format!("10.0.0.{number}")}]}]}}]})
    };
    let agent = |number: u32| -> Value {
        json!({"id": format!("S{number}"), "hostname": format!("10.0.1.{number}"),
            "pid": format!("slave(1)@10.0.1.{number}:5051")})
    };
    master.serve_state(&json!({"leader": format!("master@{MASTER}:5050"),
        "slaves": [agent(1), agent(2)],
        "frameworks": [{"id": "F1", "name": "marathon", "pid": "scheduler@192.0.2.12:8080",
            "hostname": "192.0.2.12", "tasks": [task(1), task(2)]}]}));
    master
}

fn sorted(response: &Response, rtype: &str) -> Vec<String> {
    let mut data: Vec<String> = response
        .data(rtype)
        .iter()
        .map(|&data| data.to_owned())
        .collect();
    data.sort();
    data
}

fn is_soa_of(record: &Record, apex: &str) -> bool {
    record.rtype == "SOA" && record.name == apex
}

#[test]
fn a_resolver_finds_a_delegated_domain() {
    needs_root!();
    needs_tool!("dig", "ip", "named", "nsenter", "unbound", "unshare");
    needs_daemon!();
    let mut network = Network::new().unwrap();
    let master_host = network.host("master", MASTER).unwrap();
    let our_host = network.host("mesos-xdns", "192.0.2.1").unwrap();
    let bind_host = network.host("bind", BIND).unwrap();
    let unbound_host = network.host("unbound", UNBOUND).unwrap();
    let _master = start_master(&master_host);
    let ours = shown("Delegation: mesos-xdns");
    let mut daemon = daemon::start(&our_host, &ours.at(CONFIGURATION).unwrap()).unwrap();
    let _bind = bind(
        &bind_host,
        shown("Delegation: BIND, which has the parent zone"),
    )
    .unwrap();
    let _unbound = unbound(
        &unbound_host,
        shown("Delegation: Unbound, which the clients ask"),
    )
    .unwrap();
    let at = |server: &str| Dig::at(server).from(network.client());
    let resolve = |name: &str, rtype: &str| {
        let dig = at(UNBOUND).option("+timeout=5");
        dig.ask(&format!("{name}.sfo.widgets.com"), rtype).unwrap()
    };

    // Parent and child agree, and the parent knows the address.
    let referral = at(BIND).option("+norecurse");
    let referral = referral.ask("mesos.sfo.widgets.com", "NS").unwrap();
    let own = at("192.0.2.1").option("+norecurse");
    let own = own.ask("mesos.sfo.widgets.com", "NS").unwrap();
    let [delegation] = referral.authority.as_slice() else {
        panic!("{referral:?}");
    };
    assert!(!referral.has_flag("aa") && own.has_flag("aa"));
    assert_eq!(delegation.data, "mesosdns1.sfo.widgets.com.");
    assert_eq!(own.data("NS"), [delegation.data.as_str()]);
    let glue = at(BIND).option("+norecurse");
    let glue = glue.ask("mesosdns1.sfo.widgets.com", "A").unwrap();
    assert!(glue.has_flag("aa"));
    assert_eq!(glue.data("A"), ["192.0.2.1"]);
    let soa = resolve("mesos", "SOA");
    let soa = soa.data("SOA");
    assert!(
        soa[0].starts_with("mesosdns1.sfo.widgets.com. hostmaster.sfo.widgets.com. "),
        "{soa:?}"
    );

    // SRV first: a resolver that minimises names must not meet a denial on its way down.
    let services = resolve("_web._tcp.marathon.mesos", "SRV");
    let services = sorted(&services, "SRV");
    assert_eq!(services.len(), 2, "{services:?}");
    for service in &services {
        let words: Vec<&str> = service.split(' ').collect();
        let [_, _, port, target] = words.as_slice() else {
            panic!("{service}");
        };
        let target = target.trim_end_matches(".sfo.widgets.com.");
        let address = format!("10.0.1.{}", port.trim_start_matches("3100"));
        assert_eq!(sorted(&resolve(target, "A"), "A"), [address]);
    }
    let web = resolve("web.marathon.mesos", "A");
    assert_eq!(sorted(&web, "A"), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(resolve("leader.mesos", "A").data("A"), [MASTER]);
    // The parent's own names are still the parent's.
    assert_eq!(resolve("mesosdns1", "A").data("A"), ["192.0.2.1"]);

    let nodata = resolve("web.marathon.mesos", "TXT");
    assert_eq!(nodata.status, "NOERROR");
    assert_eq!(nodata.answer, []);
    assert!(is_soa_of(&nodata.authority[0], "mesos.sfo.widgets.com."));

    let denial = resolve("nope.marathon.mesos", "A");
    assert_eq!(denial.status, "NXDOMAIN");
    assert!(is_soa_of(&denial.authority[0], "mesos.sfo.widgets.com."));
    assert!(denial.authority[0].ttl <= 60, "{denial:?}");

    // What is asked again does not come to us: there is nobody any more.
    daemon.stop().unwrap();
    let direct = at("192.0.2.1").ask("mesos.sfo.widgets.com", "SOA");
    assert!(direct.is_err(), "{direct:?}");
    assert_eq!(resolve("nope.marathon.mesos", "A").status, "NXDOMAIN");
    assert_eq!(resolve("web.marathon.mesos", "TXT").status, "NOERROR");
}
