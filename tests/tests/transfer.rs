//! Zones between servers: BIND, Knot DNS and NSD follow ours, and ours follows BIND, Knot DNS and
//! another of ours, answering from what it got in the kernel.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    env, fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use dns_userspace::daemon::Status;
use serde_json::{Value, json};
use tests::{
    cable::{Cable, SERVER},
    dig::{Dig, Response},
    fake_master::{Behaviour, Events, FakeMaster},
    needs_daemon, needs_root, needs_scene, needs_tool,
    netns::Netns,
    peer::{self, KEY, Peer, SECRET, Zone, bind, knot, nsd, transferred, update},
    scene::{Daemon, Plan, add_tasks, fake_local},
};

/// How long anything that must happen may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A directory that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        Self(env::temp_dir().join(format!("mesos-xdns-{name}-{}", std::process::id())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn keys() -> Value {
    json!([{"name": KEY, "secret": SECRET}])
}

/// Asks again and again until an answer is good.
fn wait_for<T: std::fmt::Debug>(what: &str, ask: impl Fn() -> T, good: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        let answer = ask();
        if good(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: still {answer:?}");
        // What is asked offers nothing to wait on.
        thread::sleep(Duration::from_millis(50));
    }
}

fn serial(host: &Netns, server: &str, zone: &str) -> Option<u32> {
    let response = Dig::at(server).from(host).ask(zone, "SOA").ok()?;
    let data = response.data("SOA").first().map(ToString::to_string)?;
    data.split(' ').nth(2)?.parse().ok()
}

/// The state with as many more tasks as `count`, at addresses that `round` decides.
fn state(master: &FakeMaster, round: u32) -> Value {
    let mut state = fake_local();
    state["leader"] = format!("master@{}", master.address()).into();
    let addresses = |count: u32| -> Vec<String> {
        let all = (0..count).map(|n| format!("10.{}.{}.{n}", 100 + round / 200, round % 200));
        all.collect()
    };
    add_tasks(&mut state, "moving", &addresses(1 + round % 7));
    add_tasks(&mut state, &format!("round-{}", round / 3), &addresses(2));
    state
}

fn primary(master: &FakeMaster, folder: &Folder, notify: &[&str]) -> Plan {
    let mut plan = Plan::following(&[master.address()]);
    plan.interfaces.clear();
    plan.config["listener"] = "127.0.0.1".into();
    plan.config["xdp"]["mode"] = "off".into();
    let notify: Vec<Value> = notify
        .iter()
        .map(|address| json!({"address": address, "key": KEY}))
        .collect();
    plan.config["transfer"] = json!({
        "keys": keys(),
        "allow": [{"address": "127.0.0.0/8", "key": KEY}],
        "notify": notify,
        "state_directory": folder.0,
    });
    plan
}

/// Every secondary has the serial of ours, and the same records.
fn assert_same_content(host: &Netns, secondaries: &[&Peer]) -> u32 {
    let ours = serial(host, "127.0.0.1", "mesos").unwrap();
    let expected = transferred(host, "127.0.0.1", "mesos", &peer::signed()).unwrap();
    assert!(expected.len() > 20, "{expected:?}");
    for secondary in secondaries {
        let address = secondary.address;
        wait_for(
            address,
            || serial(host, address, "mesos"),
            |theirs| *theirs == Some(ours),
        );
        let theirs = transferred(host, address, "mesos", &[]).unwrap();
        assert_eq!(theirs, expected, "{address}");
    }
    ours
}

#[test]
fn bind_knot_and_nsd_follow_fifty_changes_and_a_restart() {
    needs_root!();
    needs_tool!("dig", "ip", "knotd", "named", "nsd", "nsenter", "unshare");
    needs_daemon!();
    let host = Netns::new("transfer").unwrap();
    let folder = Folder::new("primary");
    let master = host.enter(FakeMaster::start).unwrap();
    master.serve_state(&state(&master, 0));
    let targets = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];
    let mut daemon = primary(&master, &folder, &targets).start(&host).unwrap();
    let zones = [Zone::Secondary("mesos", "127.0.0.1")];
    let bind = bind(&host, targets[0], &zones).unwrap();
    let knot = knot(&host, targets[1], &zones).unwrap();
    let nsd = nsd(&host, targets[2], &zones).unwrap();
    let all = [&bind, &knot, &nsd];
    let mut last = assert_same_content(&host, &all);
    let whole = daemon.status().unwrap().transfer["axfr_out"];

    for round in 1..=50 {
        master.serve_state(&state(&master, round));
        let next = wait_for(
            "another serial",
            || serial(&host, "127.0.0.1", "mesos"),
            |serial| serial.is_some_and(|serial| serial != last),
        );
        assert!(next.unwrap() > last, "{next:?} after {last}");
        last = next.unwrap();
    }
    assert_eq!(assert_same_content(&host, &all), last);
    let status = daemon.status().unwrap();
    let count = |kind: &str| status.transfer[kind];
    // They may skip versions, and then get several in one transfer; none of them gets it all anew.
    assert!(count("ixfr_out") >= 60, "{:?}", status.transfer);
    // Each asked for the zone itself, and for the comparison dig did.
    assert_eq!(count("axfr_out"), whole + 1, "{:?}", status.transfer);
    assert!(count("notify_acknowledged") >= 60, "{:?}", status.transfer);
    assert_eq!((count("tsig_errors"), count("broken_off")), (0, 0));

    // The same content has the same serial after a restart, other content a higher one.
    daemon.stop().unwrap();
    daemon.restart().unwrap();
    assert_eq!(serial(&host, "127.0.0.1", "mesos"), Some(last));
    assert_same_content(&host, &all);
    daemon.kill().unwrap();
    master.serve_state(&state(&master, 77));
    daemon.restart().unwrap();
    assert!(assert_same_content(&host, &all) > last);

    assert_no_complaint(&all);
}

/// None of them has anything to say against what it got.
fn assert_no_complaint(peers: &[&Peer]) {
    // While ours was down, and before it told of itself, they may have asked in vain.
    const COMPLAINTS: [&str; 9] = [
        "malformed",
        "bad ",
        "ignor",
        "out of zone",
        "has no ",
        "CNAME",
        "(check-",
        "FORMERR",
        "semantic",
    ];
    for peer in peers {
        let log = peer.log();
        // Mesos tasks may have names that are no host names, and mesos-dns serves them.
        const KNOWN: [&str; 3] = ["(check-names)", "built with", "working directory"];
        let is_known = |line: &str| KNOWN.iter().any(|words| line.contains(words));
        let is_complaint =
            |line: &&String| COMPLAINTS.iter().any(|word| line.contains(word)) && !is_known(line);
        let found: Vec<&String> = log.iter().filter(is_complaint).collect();
        assert!(found.is_empty(), "{}: {found:#?}", peer.address);
    }
}

/// An event stream with a task of two addresses, whose port is a VIP.
fn events() -> Events {
    let status = json!({"state": "TASK_RUNNING", "timestamp": 1.0, "container_status": {
        "network_infos": [{"ip_addresses": [
            {"ip_address": "10.0.0.1"}, {"ip_address": "fd00::1"}]}]}});
    let task = json!({"name": "web_server/x", "task_id": {"value": "web.1"},
        "framework_id": {"value": "F1"}, "agent_id": {"value": "S1"},
        "state": "TASK_RUNNING", "statuses": [status],
        "resources": [{"name": "ports", "type": "RANGES", "ranges": {"range": [
            {"begin": 31000, "end": 31000}]}}],
        "discovery": {"name": "web", "visibility": "FRAMEWORK", "ports": {"ports": [
            {"number": 31000, "protocol": "tcp", "name": "http", "labels": {"labels": [
                {"key": "VIP_0", "value": "/web:80"}]}}]}},
        "container": {"type": "MESOS", "network_infos": [{"name": "dcos"}]}});
    let agent = json!({"agent_info": {"id": {"value": "S1"}, "hostname": "10.0.1.1"}});
    let framework = json!({"framework_info": {"id": {"value": "F1"}, "name": "marathon"}});
    let events = Events::default();
    events.begin_with(&json!({"type": "SUBSCRIBED", "subscribed": {
        "heartbeat_interval_seconds": 15.0, "get_state": {
            "get_agents": {"agents": [agent]},
            "get_frameworks": {"frameworks": [framework]},
            "get_tasks": {"tasks": [task]}}}}));
    events
}

/// Whatever a cluster makes us serve: the odd names of a fixture, the zones of a DC/OS node with
/// all their copies under the cluster's id, and an operator's aliases.
#[test]
fn bind_knot_and_nsd_load_every_zone_without_complaint() {
    needs_root!();
    needs_tool!("dig", "ip", "knotd", "named", "nsd", "nsenter", "unshare");
    needs_daemon!();
    let host = Netns::new("zones").unwrap();
    let folder = Folder::new("zones");
    let master = host.enter(FakeMaster::start).unwrap();
    let edge = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/mesos-dns/edge.json");
    let mut state: Value = serde_json::from_slice(&fs::read(edge).unwrap()).unwrap();
    state["leader"] = format!("master@{}", master.address()).into();
    master.serve_state(&state);
    master.behave_at("/api/v1", Behaviour::Events(events()));
    let mut plan = primary(&master, &folder, &["127.0.0.2", "127.0.0.3", "127.0.0.4"]);
    plan.config["dcos"] = json!({
        "mesos_source": "poll",
        "cluster_id": "yor6tqhiag39y6cjkdd4w9uzo45qhku6ra8hl7hpr6d9ukjaz3jo",
        "masters": ["192.0.2.11", "192.0.2.12"],
        "listeners": ["127.0.0.1:53"],
        "rest_listener": "127.0.0.1:62080",
        "vip_file": folder.0.join("vips"),
        "static_zones": {"contoso.com": [
            {"type": "DNAME", "name": "@", "value": "mesos"},
            {"type": "TXT", "name": "@", "value": "a \"quoted\" text"}],
            "fabrikam.com": [
            {"type": "CNAME", "name": "shop", "value": "web.marathon.mesos"},
            {"type": "A", "name": "www", "value": "192.0.2.80"}]},
    });
    let daemon = plan.start(&host).unwrap();
    let is_whole = |status: &Status| status.zones.iter().all(|zone| zone.complete);
    let status = daemon.wait_until(is_whole).unwrap();
    let names: Vec<&str> = status
        .zones
        .iter()
        .map(|zone| zone.apex.trim_end_matches('.'))
        .collect();
    assert!(names.len() > 10, "{names:?}");
    let zones: Vec<Zone<'_>> = names
        .iter()
        .map(|name| Zone::Secondary(name, "127.0.0.1"))
        .collect();
    let bind = bind(&host, "127.0.0.2", &zones).unwrap();
    let knot = knot(&host, "127.0.0.3", &zones).unwrap();
    let nsd = nsd(&host, "127.0.0.4", &zones).unwrap();
    let mut records = 0;
    for name in names {
        let ours = serial(&host, "127.0.0.1", name);
        assert!(ours.is_some_and(|serial| serial > 1), "{name}: {ours:?}");
        let expected = transferred(&host, "127.0.0.1", name, &peer::signed()).unwrap();
        records += expected.len();
        for peer in [&bind, &knot, &nsd] {
            let what = format!("{name} at {}", peer.address);
            wait_for(
                &what,
                || serial(&host, peer.address, name),
                |theirs| *theirs == ours,
            );
            let theirs = transferred(&host, peer.address, name, &[]).unwrap();
            assert_eq!(theirs, expected, "{what}");
        }
    }
    assert!(records > 700, "{records}");
    assert_no_complaint(&[&bind, &knot, &nsd]);
}

const EXAMPLE_ORG: &str = "\
$TTL 300
@          SOA    ns1 hostmaster 7 3600 600 8 60
           NS     ns1
           MX     10 mail
           CAA    0 issue \"ca.example\"
           TXT    \"one\" \"two words\"
ns1        A      192.0.2.53
mail       A      192.0.2.25
           AAAA   2001:db8::25
www        A      192.0.2.80
           HTTPS  1 . alpn=h2
alias      CNAME  www
_sip._tcp  SRV    0 5 5060 www
sub        NS     ns.sub
ns.sub     A      192.0.2.54
moved      DNAME  example.net.
odd        TYPE65280 \\# 4 0a000001
";

const EXAMPLE_NET: &str = "\
$TTL 300
@          SOA    ns1 hostmaster 7 3600 600 86400 60
           NS     ns1
ns1        A      192.0.2.53
www        A      192.0.2.80
*.wild     A      192.0.2.7
";

struct Edge {
    daemon: Daemon,
    cable: Cable,
}

impl Edge {
    fn ask(&self, name: &str, rtype: &str) -> Response {
        let dig = Dig::at(SERVER[0]).from(&self.cable.client);
        dig.ask(name, rtype).unwrap()
    }

    fn has(&self, name: &str, rtype: &str, expected: &str) {
        let data = || -> Vec<String> {
            let response = self.ask(name, rtype);
            response
                .data(rtype)
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        wait_for(name, data, |data| data.iter().any(|one| one == expected));
    }

    fn status(&self) -> Status {
        self.daemon.status().unwrap()
    }

    /// How often the kernel gave this verdict.
    fn verdict(&self, name: &str) -> u64 {
        self.status().xdp.verdicts[name]
    }
}

#[test]
fn zones_of_bind_knot_and_ours_are_answered_in_the_kernel() {
    needs_scene!();
    needs_tool!("kdig", "knotd", "named", "nsupdate", "unshare");
    let cable = Cable::new().unwrap();
    let host = &cable.server;
    let (own, kept) = (Folder::new("own"), Folder::new("edge"));
    let master = host.enter(FakeMaster::start).unwrap();
    master.serve_state(&state(&master, 0));
    let mut ours = primary(&master, &own, &[SERVER[0]]);
    ours.config["transfer"]["allow"] = json!([{"key": KEY}]);
    ours.config["httpPort"] = 8124.into();
    let mut ours = ours.start(host).unwrap();
    let mut bind = bind(
        host,
        "127.0.0.2",
        &[Zone::Primary("example.org", EXAMPLE_ORG, SERVER[0])],
    )
    .unwrap();
    let mut knot = knot(
        host,
        "127.0.0.3",
        &[Zone::Primary("example.net", EXAMPLE_NET, SERVER[0])],
    )
    .unwrap();

    let mut plan = Plan::following(&[]);
    plan.config.as_object_mut().unwrap().remove("masters");
    plan.config["listener"] = SERVER[0].into();
    plan.config["transfer"] = json!({
        "keys": keys(),
        "allow": [SERVER[0]],
        "state_directory": kept.0,
    });
    plan.config["secondary"] = json!([
        // The first of them does not answer.
        {"zone": "mesos", "primaries": ["127.0.0.9", "127.0.0.1"], "key": KEY, "answers_as": "mesos-dns"},
        {"zone": "example.org", "primaries": ["127.0.0.2"], "key": KEY},
        {"zone": "example.net", "primaries": ["127.0.0.3"], "key": KEY},
    ]);
    let daemon = plan.start(host).unwrap();
    let mut edge = Edge { daemon, cable };
    let host = &edge.cable.server;

    // What each primary has is what is answered and given on.
    let signed = peer::signed();
    for (server, zone) in [
        ("127.0.0.1", "mesos"),
        ("127.0.0.2", "example.org"),
        ("127.0.0.3", "example.net"),
    ] {
        let theirs = transferred(host, server, zone, &signed).unwrap();
        let given_on = transferred(host, SERVER[0], zone, &[]).unwrap();
        assert_eq!(given_on, theirs, "{zone}");
        assert!(theirs.len() > 4);
    }
    edge.has("mail.example.org", "AAAA", "2001:db8::25");
    edge.has("example.org", "MX", "10 mail.example.org.");
    edge.has("example.org", "CAA", "0 issue \"ca.example\"");
    edge.has("odd.example.org", "TYPE65280", "\\# 4 0A000001");
    edge.has("alias.example.org", "A", "192.0.2.80");
    edge.has("www.moved.example.org", "A", "192.0.2.80");
    edge.has("a.b.wild.example.net", "A", "192.0.2.7");
    let referral = edge.ask("host.sub.example.org", "A");
    assert!(!referral.has_flag("aa") && referral.answer.is_empty());
    assert_eq!(referral.additional[0].data, "192.0.2.54");

    // In the kernel: data, denials of types and of names, but not where a wildcard might be.
    let before = (
        edge.verdict("answered"),
        edge.verdict("nxdomain"),
        edge.verdict("nodata"),
    );
    edge.has("www.example.org", "A", "192.0.2.80");
    edge.has("_sip._tcp.example.org", "SRV", "0 5 5060 www.example.org.");
    assert_eq!(edge.ask("nope.example.org", "A").status, "NXDOMAIN");
    assert_eq!(edge.ask("www.example.org", "TXT").status, "NOERROR");
    assert_eq!(edge.ask("nope.example.net", "A").status, "NXDOMAIN");
    let after = (
        edge.verdict("answered"),
        edge.verdict("nxdomain"),
        edge.verdict("nodata"),
    );
    assert_eq!(after, (before.0 + 2, before.1 + 1, before.2 + 1));

    // Changes come by NOTIFY, long before the zones' refresh, and only what changed comes.
    let count = |edge: &Edge, kind: &str| edge.status().transfer[kind];
    let whole = count(&edge, "axfr_in");
    for round in 1..=10 {
        let address = format!("192.0.2.{}", 100 + round);
        let change = format!(
            "update add new.example.org 60 A {address}\nupdate delete www{}.example.org",
            round - 1
        );
        update(host, "127.0.0.2", "example.org", &change).unwrap();
        edge.has("new.example.org", "A", &address);
        let change =
            format!("update delete www.example.net A\nupdate add www.example.net 60 A {address}");
        update(host, "127.0.0.3", "example.net", &change).unwrap();
        edge.has("www.example.net", "A", &address);
        master.serve_state(&state(&master, round));
        edge.has("moving.marathon.mesos", "A", &format!("10.100.{round}.0"));
    }
    let status = edge.status();
    assert!(status.transfer["ixfr_in"] >= 30, "{:?}", status.transfer);
    assert_eq!(status.transfer["axfr_in"], whole, "{:?}", status.transfer);
    for (server, zone) in [("127.0.0.2", "example.org"), ("127.0.0.3", "example.net")] {
        let theirs = transferred(host, server, zone, &signed).unwrap();
        assert_eq!(
            transferred(host, SERVER[0], zone, &[]).unwrap(),
            theirs,
            "{zone}"
        );
    }

    // Strangers say nothing: neither by address nor by key.
    let mut notify = edge.cable.client.command("kdig");
    notify.args([&format!("@{}", SERVER[0]), "-t", "NOTIFY=9", "example.org"]);
    let said = String::from_utf8(notify.output().unwrap().stdout).unwrap();
    assert!(said.contains("REFUSED"), "{said}");

    // Without primaries a restart answers at once from what was kept, the last change included.
    let kept_is_saved = || fs::read_dir(&kept.0).unwrap().count();
    wait_for("files", kept_is_saved, |count| *count >= 3);
    thread::sleep(Duration::from_secs(3));
    for peer in [&mut bind, &mut knot] {
        peer.stop().unwrap();
    }
    ours.stop().unwrap();
    edge.daemon.kill().unwrap();
    edge.daemon.restart().unwrap();
    edge.has("new.example.org", "A", "192.0.2.110");
    edge.has("www.example.net", "A", "192.0.2.110");
    edge.has("moving.marathon.mesos", "A", "10.100.10.0");

    // Eight seconds after the last refresh example.org has expired, everywhere.
    let asked = || edge.ask("www.example.org", "A").status;
    wait_for("expiry", asked, |status| status == "SERVFAIL");
    for (name, rtype) in [("example.org", "SOA"), ("nope.example.org", "A")] {
        assert_eq!(edge.ask(name, rtype).status, "SERVFAIL", "{name}");
    }
    edge.has("www.example.net", "A", "192.0.2.110");
    let refused = transferred(&edge.cable.server, SERVER[0], "example.org", &[]);
    assert!(refused.is_err(), "{refused:?}");
}
