//! `docs/exposing.md`: the names of a cluster for clients outside of it, through BIND and Unbound.
//!
//! The servers run on hosts of a network of their own, from the files that the document shows.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::{
    daemon,
    dig::{Dig, Record, Response},
    fake_master::{Behaviour, Events, FakeMaster},
    how_to::{Files, files},
    name_server::{bind, unbound},
    needs_daemon, needs_root, needs_tool,
    netns::Netns,
    network::Network,
    process::Process,
};

const DOCUMENT: &str = include_str!("../../docs/exposing.md");
const MASTER: &str = "192.0.2.11";
const BIND: &str = "192.0.2.2";
const UNBOUND: &str = "192.0.2.3";
const CONFIGURATION: &str = "/etc/mesos-dns/config.json";

fn shown(heading: &str) -> Files {
    files(DOCUMENT, heading).unwrap()
}

/// A master at its address, with the task `web` of marathon on two agents, at one of their ports
/// each; in its state and as events.
fn start_master(host: &Netns) -> FakeMaster {
    let master = host
        .enter(|| FakeMaster::start_at(format!("{MASTER}:5050").parse()?))
        .unwrap();
    let numbers = [1_u32, 2];
    let status = |number: u32| -> Value {
        json!({"state": "TASK_RUNNING", "timestamp": 1.0, "container_status": {
            "network_infos": [{"ip_addresses": [{"ip_address": format!("10.0.0.{number}")}]}]}})
    };
    let task = |number: u32| -> Value {
        json!({"id": format!("web.{number}"), "name": "web", "slave_id": format!("S{number}"),
            "framework_id": "F1", "state": "TASK_RUNNING", "statuses": [status(number)],
            "resources": {"ports": format!("[3100{number}-3100{number}]")}})
    };
    let agent = |number: u32| -> Value {
        json!({"id": format!("S{number}"), "hostname": format!("10.0.1.{number}"),
            "pid": format!("slave(1)@10.0.1.{number}:5051")})
    };
    master.serve_state(&json!({"leader": format!("master@{MASTER}:5050"),
        "slaves": numbers.map(agent),
        "frameworks": [{"id": "F1", "name": "marathon", "pid": "scheduler@192.0.2.12:8080",
            "hostname": "192.0.2.12", "tasks": numbers.map(task)}]}));

    let agent = |number: u32| -> Value {
        json!({"agent_info": {"id": {"value": format!("S{number}")},
            "hostname": format!("10.0.1.{number}")}})
    };
    let task = |number: u32| -> Value {
        json!({"name": "web", "task_id": {"value": format!("web.{number}")},
            "framework_id": {"value": "F1"}, "agent_id": {"value": format!("S{number}")},
            "state": "TASK_RUNNING", "resources": [], "statuses": [status(number)],
            "container": {"type": "MESOS", "network_infos": [{"name": "dcos"}]}})
    };
    let events = Events::default();
    events.begin_with(&json!({"type": "SUBSCRIBED", "subscribed": {
        "heartbeat_interval_seconds": 15.0, "get_state": {
            "get_agents": {"agents": numbers.map(agent)},
            "get_frameworks": {"frameworks": [
                {"framework_info": {"id": {"value": "F1"}, "name": "marathon"}}]},
            "get_tasks": {"tasks": numbers.map(task)}}}}));
    master.behave_at("/api/v1", Behaviour::Events(events));
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

/// The zone of the cluster.
const CLUSTER: &str = "yor6tqhiag39y6cjkdd4w9uzo45qhku6ra8hl7hpr6d9ukjaz3jo.dcos.directory";

/// Waits until a server knows a name: a DC/OS node answers before it has heard from Mesos.
fn wait_for(dig: &Dig<'_>, name: &str, rtype: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let response = dig.ask(name, rtype);
        if response.as_ref().is_ok_and(|one| !one.answer.is_empty()) {
            return;
        }
        assert!(Instant::now() < deadline, "{response:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Names of the targets of a chain, from the name asked for to the name with the data.
fn chain(response: &Response) -> Vec<(&str, &str, &str)> {
    let aliases = response
        .answer
        .iter()
        .filter(|record| record.rtype != "A" && record.rtype != "SRV");
    aliases
        .map(|one| (one.name.as_str(), one.rtype.as_str(), one.data.as_str()))
        .collect()
}

/// The masters of the cluster and their servers; the third one is not there.
struct Masters {
    _first: Netns,
    _second: Netns,
    _master: FakeMaster,
    _daemons: [Process; 2],
    _files: Files,
}

fn start_masters(network: &mut Network, heading: &str) -> Masters {
    let first = network.host("master1", MASTER).unwrap();
    let second = network.host("master2", "192.0.2.12").unwrap();
    let master = start_master(&first);
    let files = shown(heading);
    let configuration = files.at(CONFIGURATION).unwrap();
    let daemons = [&first, &second].map(|host| daemon::start(host, &configuration).unwrap());
    for address in [MASTER, "192.0.2.12"] {
        let dig = Dig::at(address).from(network.client());
        wait_for(&dig, &format!("leader.mesos.{CLUSTER}"), "A");
    }
    Masters {
        _first: first,
        _second: second,
        _master: master,
        _daemons: daemons,
        _files: files,
    }
}

#[test]
fn bind_forwards_a_cluster_to_those_of_its_masters_that_live() {
    needs_root!();
    needs_tool!("dig", "ip", "named", "nsenter", "unshare");
    needs_daemon!();
    let mut network = Network::new().unwrap();
    let bind_host = network.host("bind", BIND).unwrap();
    let _masters = start_masters(&mut network, "Forward zone: mesos-xdns on every master");
    let _bind = bind(
        &bind_host,
        shown("Forward zone: BIND, which the clients ask"),
    )
    .unwrap();
    let dig = Dig::at(BIND).from(network.client()).option("+timeout=10");
    let ask = |name: &str, rtype: &str| dig.ask(&format!("{name}.{CLUSTER}"), rtype).unwrap();

    assert_eq!(ask("leader.mesos", "A").data("A"), [MASTER]);
    let web = ask("web.marathon.mesos", "A");
    assert_eq!(sorted(&web, "A"), ["10.0.0.1", "10.0.0.2"]);
    let services = ask("_web._tcp.marathon.mesos", "SRV");
    assert_eq!(services.data("SRV").len(), 2);
    for service in services.data("SRV") {
        assert!(service.ends_with(&format!(".{CLUSTER}.")), "{service}");
    }
    let nodata = ask("web.marathon.mesos", "TXT");
    assert_eq!(
        (nodata.status.as_str(), &nodata.answer[..]),
        ("NOERROR", &[][..])
    );
    assert_eq!(ask("nope.marathon.mesos", "A").status, "NXDOMAIN");
    // From the event stream, after the time for agents to come back.
    let web = format!("web.marathon.autoip.dcos.{CLUSTER}");
    wait_for(&dig, &web, "A");
    assert_eq!(
        sorted(&dig.ask(&web, "A").unwrap(), "A"),
        ["10.0.0.1", "10.0.0.2"]
    );
    // It did look for the master that is not there.
    let neighbours = bind_host.ip("neighbour show 192.0.2.13").unwrap();
    assert!(neighbours.contains("192.0.2.13"), "no query went there");
}

#[test]
fn bind_renames_a_zone_into_the_cluster() {
    needs_root!();
    needs_tool!("dig", "ip", "named", "nsenter", "unshare");
    needs_daemon!();
    let mut network = Network::new().unwrap();
    let whole_host = network.host("bind", BIND).unwrap();
    let _masters = start_masters(&mut network, "Forward zone: mesos-xdns on every master");
    let whole = bind(&whole_host, shown("DNAME in BIND: the whole of a zone")).unwrap();
    let dig = Dig::at(BIND).from(network.client()).option("+timeout=10");
    let target = format!("mesos.{CLUSTER}.");
    let leader = dig.ask("leader.contoso.com", "A").unwrap();
    assert_eq!(leader.data("A"), [MASTER]);
    assert_eq!(
        chain(&leader),
        [
            ("contoso.com.", "DNAME", target.as_str()),
            (
                "leader.contoso.com.",
                "CNAME",
                format!("leader.{target}").as_str()
            ),
        ]
    );
    let web = dig.ask("web.marathon.contoso.com", "A").unwrap();
    assert_eq!(sorted(&web, "A"), ["10.0.0.1", "10.0.0.2"]);
    let services = dig.ask("_web._tcp.marathon.contoso.com", "SRV").unwrap();
    assert_eq!(services.data("SRV").len(), 2);
    assert_eq!(dig.ask("nope.contoso.com", "A").unwrap().status, "NXDOMAIN");
    // The owner's own records stay.
    let own = dig.ask("contoso.com", "NS").unwrap();
    assert_eq!(own.data("NS"), ["ns1.example.net."]);
    drop(whole);

    let mut files = shown("DNAME in BIND: some names of a zone");
    for other in ["/etc/bind/named.conf.options", "/etc/bind/named.conf.local"] {
        let shown = shown("DNAME in BIND: the whole of a zone");
        let content = std::fs::read_to_string(shown.at(other).unwrap()).unwrap();
        files.write_default(other, &content).unwrap();
    }
    let _part = bind(&whole_host, files).unwrap();
    let web = dig.ask("web.foo.contoso.com", "A").unwrap();
    assert_eq!(sorted(&web, "A"), ["10.0.0.1", "10.0.0.2"]);
    let target = format!("marathon.mesos.{CLUSTER}.");
    assert_eq!(
        chain(&web)[0],
        ("foo.contoso.com.", "DNAME", target.as_str())
    );
    assert_eq!(
        dig.ask("www.contoso.com", "A").unwrap().data("A"),
        ["192.0.2.80"]
    );
    assert_eq!(
        dig.ask("leader.contoso.com", "A").unwrap().status,
        "NXDOMAIN"
    );
}

#[test]
fn a_static_zone_renames_without_bind() {
    needs_root!();
    needs_tool!("dig", "ip", "nsenter", "unbound", "unshare");
    needs_daemon!();
    let mut network = Network::new().unwrap();
    let unbound_host = network.host("unbound", UNBOUND).unwrap();
    let _masters = start_masters(&mut network, "DNAME in mesos-xdns: the configuration");
    let _unbound = unbound(
        &unbound_host,
        shown("DNAME in mesos-xdns: a resolver before it"),
    )
    .unwrap();
    let target = format!("mesos.{CLUSTER}.");
    let leader = format!("leader.{target}");
    let web = format!("web.marathon.{target}");
    for (server, is_ours) in [(MASTER, true), (UNBOUND, false)] {
        let dig = Dig::at(server).from(network.client()).option("+timeout=10");
        let ask = |name: &str, rtype: &str| dig.ask(name, rtype).unwrap();

        // RFC 6672, section 3.1: the DNAME, the CNAME made from it, and the data.
        let response = ask("leader.contoso.com", "A");
        assert_eq!(response.has_flag("aa"), is_ours);
        assert_eq!(
            chain(&response),
            [
                ("contoso.com.", "DNAME", target.as_str()),
                ("leader.contoso.com.", "CNAME", leader.as_str()),
            ]
        );
        assert_eq!(response.data("A"), [MASTER]);
        assert_eq!(response.answer.last().unwrap().name, leader);

        let response = ask("shop.fabrikam.com", "A");
        assert_eq!(
            chain(&response),
            [("shop.fabrikam.com.", "CNAME", web.as_str())]
        );
        assert_eq!(sorted(&response, "A"), ["10.0.0.1", "10.0.0.2"]);
        let response = ask("web.foo.fabrikam.com", "A");
        assert_eq!(sorted(&response, "A"), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(chain(&response)[1].2, web);
        let services = ask("_web._tcp.marathon.contoso.com", "SRV");
        assert_eq!(services.data("SRV").len(), 2);
        assert_eq!(ask("www.fabrikam.com", "A").data("A"), ["192.0.2.80"]);

        // What the target does not have.
        assert_eq!(ask("nope.contoso.com", "A").status, "NXDOMAIN");
        let nodata = ask("shop.fabrikam.com", "TXT");
        assert_eq!(
            (nodata.status.as_str(), nodata.data("TXT").len()),
            ("NOERROR", 0)
        );
        // Names that are not below a DNAME, RFC 6672, section 2.3: the owner itself is not renamed.
        assert_eq!(ask("foo.fabrikam.com", "A").answer, []);
        assert_eq!(ask("bar.fabrikam.com", "A").status, "NXDOMAIN");
    }
}

/// Asks again and again until there is what is waited for.
fn until(ask: impl Fn() -> Option<()>) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while ask().is_none() {
        assert!(Instant::now() < deadline, "it does not come");
        // What is asked offers nothing to wait on.
        thread::sleep(Duration::from_millis(50));
    }
}

/// BIND holds the zone, and answers on without anybody.
#[test]
fn a_secondary_server_answers_by_itself() {
    needs_root!();
    needs_tool!("dig", "ip", "named", "nsenter", "unshare");
    needs_daemon!();
    let mut network = Network::new().unwrap();
    let master_host = network.host("master", MASTER).unwrap();
    let our_host = network.host("mesos-xdns", "192.0.2.1").unwrap();
    let bind_host = network.host("bind", BIND).unwrap();
    let _master = start_master(&master_host);
    let ours = shown("Secondary servers: mesos-xdns");
    let mut daemon = daemon::start(&our_host, &ours.at(CONFIGURATION).unwrap()).unwrap();
    // A primary that did not answer is left alone by BIND for a while.
    let _bind = bind(&bind_host, shown("Secondary servers: BIND")).unwrap();
    let ask = |name: &str, rtype: &str| Dig::at(BIND).from(network.client()).ask(name, rtype);
    until(|| {
        let web = ask("web.marathon.mesos", "A").ok()?;
        (web.has_flag("aa") && sorted(&web, "A") == ["10.0.0.1", "10.0.0.2"]).then_some(())
    });

    daemon.stop().unwrap();
    assert_eq!(ask("leader.mesos", "A").unwrap().data("A"), [MASTER]);
    assert_eq!(ask("nope.mesos", "A").unwrap().status, "NXDOMAIN");
}

/// The other nodes of a fleet answer from what one of them learns.
#[test]
fn a_fleet_follows_one_of_its_nodes() {
    needs_root!();
    needs_tool!("dig", "ip", "nsenter", "unshare");
    needs_daemon!();
    let mut network = Network::new().unwrap();
    let master_host = network.host("master", MASTER).unwrap();
    let our_host = network.host("mesos-xdns", "192.0.2.1").unwrap();
    let other_host = network.host("node", BIND).unwrap();
    let _master = start_master(&master_host);
    let other = shown("A fleet: every other node");
    let _other = daemon::start(&other_host, &other.at(CONFIGURATION).unwrap()).unwrap();
    let ask = |name: &str, rtype: &str| {
        let dig = Dig::at(BIND).from(network.client());
        dig.ask(name, rtype).unwrap()
    };
    // Before there is anything to answer from.
    assert_eq!(ask("web.marathon.mesos", "A").status, "SERVFAIL");
    let ours = shown("Secondary servers: mesos-xdns");
    let mut first = daemon::start(&our_host, &ours.at(CONFIGURATION).unwrap()).unwrap();
    until(|| {
        let web = ask("web.marathon.mesos", "A");
        (sorted(&web, "A") == ["10.0.0.1", "10.0.0.2"]).then_some(())
    });
    first.stop().unwrap();
    // With the behaviour of mesos-dns, and without anybody to ask.
    assert_eq!(ask("leader.mesos", "A").data("A"), [MASTER]);
    assert!(ask("leader.mesos", "A").has_flag("ra"));
    assert_eq!(ask("_nope._tcp.mesos", "SRV").status, "NOERROR");
    assert_eq!(ask("nope.mesos", "A").status, "NXDOMAIN");
}
