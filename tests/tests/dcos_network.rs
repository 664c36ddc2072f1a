//! A DC/OS node behind its XDP program: what the kernel answers to the names of DC/OS, those under
//! their other names and those that lead through aliases, is what user space answers, octet by
//! octet.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::net::{IpAddr, SocketAddr};

use dns_common::Verdict;
use hickory_proto::rr::{RData, RecordType};
use serde_json::{Value, json};
use tests::{
    cable::{Cable, SERVER},
    dcos_cluster::{App, Cluster},
    needs_scene,
    scene::{Daemon, Plan},
    wire::{self, Query, Reply},
};

const ID: &str = "yor6tqhiag39y6cjkdd4w9uzo45qhku6ra8hl7hpr6d9ukjaz3jo";
/// A name of a task.
const CONTAINER: &str = "myapp-mygroup.marathon.containerip.dcos.thisdcos.directory";

/// The daemon at one end of a cable, with a cluster beside it.
struct Node {
    daemon: Daemon,
    _cluster: Cluster,
    cable: Cable,
}

impl Node {
    fn start() -> Self {
        let cable = Cable::new().unwrap();
        let mut apps = vec![App::of_the_documentation()];
        // A name with three addresses, which come in turn.
        apps.extend((1..=3).map(|last| App {
            name: "three".into(),
            id: format!("three.{last}"),
            ip: [9, 0, 3, last].into(),
            vip: "three:80".into(),
        }));
        let cluster = cable.server.enter(|| Cluster::start(&apps)).unwrap();
        let mut plan = Plan::following(&[cluster.master.address()]);
        plan.config["dcos"] = json!({"node_ip": "172.17.0.2", "cluster_id": ID,
            "masters": ["172.17.0.2", "172.17.0.3"], "public_ips": ["203.0.113.7"],
            "listeners": [], "settle_seconds": 0, "upstreams": [],
            "vip_file": std::env::temp_dir().join(format!("mesos-xdns-vips-{}", std::process::id())),
            "static_zones": {
                "component.thisdcos.directory": chain(),
                "example.test": [
                    {"type": "CNAME", "name": "app", "value": CONTAINER},
                    {"type": "DNAME", "name": "all", "value": "dcos.thisdcos.directory"}]}});
        let daemon = plan.start(&cable.server).unwrap();
        let node = Self {
            daemon,
            _cluster: cluster,
            cable,
        };
        node.daemon
            .wait_until(|status| status.zones.iter().all(|zone| zone.complete))
            .unwrap();
        node
    }

    /// Asks over the cable.
    fn over_cable(&self, query: &Query) -> Reply {
        let server = SocketAddr::new(SERVER[0].parse().unwrap(), 53);
        self.cable
            .client
            .enter(|| wire::ask(server, query))
            .unwrap()
    }

    /// Asks beside the daemon, where no program is.
    fn over_loopback(&self, query: &Query) -> Reply {
        let server = SocketAddr::from(([127, 0, 0, 1], 53));
        self.cable
            .server
            .enter(|| wire::ask(server, query))
            .unwrap()
    }

    /// Answers of the kernel, queries at the server, and those among them whose frames had no room
    /// to grow.
    fn count(&self) -> [u64; 3] {
        let status = self.daemon.status().unwrap();
        let resize = Verdict::Resize.name();
        [
            status.xdp.answered,
            status.server["udp"]["queries"],
            status.xdp.verdicts[resize],
        ]
    }
}

/// Names that lead to `master.dcos.thisdcos.directory` by one step and by more, out of the cluster,
/// to nothing, and in a circle.
fn chain() -> Value {
    let cname = |name: &str, value: &str| json!({"type": "CNAME", "name": name, "value": value});
    json!([
        cname("registry", "master.dcos.thisdcos.directory"),
        cname("two", "registry.component.thisdcos.directory"),
        cname("three", "two.component.thisdcos.directory"),
        cname("app", CONTAINER),
        cname("away", "www.example.com"),
        cname("dangling", "nope.dcos.thisdcos.directory"),
    ])
}

/// Names of every zone, with those that they have besides, and names that are not there.
fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        CONTAINER,
        "myapp-mygroup.marathon.agentip.dcos.thisdcos.directory",
        "myapp-mygroup.marathon.autoip.dcos.thisdcos.directory",
        "three.marathon.containerip.dcos.thisdcos.directory",
        "leader.dcos.thisdcos.directory",
        "master.dcos.thisdcos.directory",
        "mygroupmyapp.marathon.l4lb.thisdcos.directory",
        "myapp.mygroup.marathon.mesos.thisdcos.directory",
        "_http._myapp.mygroup._tcp.marathon.mesos.thisdcos.directory",
        "leader.mesos.thisdcos.directory",
        "registry.component.thisdcos.directory",
        "two.component.thisdcos.directory",
        "three.component.thisdcos.directory",
        "app.component.thisdcos.directory",
        "away.component.thisdcos.directory",
        "dangling.component.thisdcos.directory",
        "thisnode.thisdcos.directory",
        "public.thisnode.thisdcos.directory",
        // Denied: below a name, above one, beside one, and the apex of a zone.
        "nope.marathon.agentip.dcos.thisdcos.directory",
        "marathon.agentip.dcos.thisdcos.directory",
        "x.registry.component.thisdcos.directory",
        "nope.l4lb.thisdcos.directory",
        "dcos.thisdcos.directory",
    ]
    .map(str::to_owned)
    .into();
    let others: Vec<String> = names
        .iter()
        .filter_map(|name| name.strip_suffix("thisdcos.directory"))
        .flat_map(|below| {
            let historic = below.strip_suffix("l4lb.").map(|below| {
                ["directory", "global"].map(|top| format!("{below}dclb.thisdcos.{top}"))
            });
            [
                format!("{below}thisdcos.global"),
                format!("{below}{ID}.dcos.directory"),
            ]
            .into_iter()
            .chain(historic.into_iter().flatten())
        })
        .collect();
    names.extend(others);
    names.extend(
        [
            "zk-1.zk",
            "zk-5.zk",
            "zk-6.zk",
            "ready.spartan",
            "ns.spartan",
            "localhost",
            "app.example.test",
            "example.test",
            "myapp.mygroup.marathon.mesos",
            "_http._myapp.mygroup._tcp.marathon.mesos",
        ]
        .map(str::to_owned),
    );
    names
}

/// Padding (RFC 7830) makes room in a frame, which one from a socket at the other end of a veth has
/// little of.
fn padding() -> Vec<u8> {
    [0, 12, 0, 240].into_iter().chain([0; 240]).collect()
}

/// Questions for all names: in small and mixed letters, with EDNS, without, and padded, with ids of
/// which the order of records depends.
fn questions() -> Vec<(String, Query)> {
    let mut questions = Vec::new();
    for name in names() {
        let mixed: String = name
            .chars()
            .enumerate()
            .map(|(at, letter)| {
                if at % 3 == 0 {
                    letter.to_ascii_uppercase()
                } else {
                    letter
                }
            })
            .collect();
        for rtype in ["A", "AAAA", "SRV", "TXT", "NS", "SOA", "CNAME"] {
            for (id, asked) in [(0, &name), (1, &mixed), (65_535, &name)] {
                let query = Query::new(id, asked, rtype).unwrap();
                let what = format!("{asked} {rtype} {id}");
                questions.push((format!("{what} with EDNS"), query.clone().edns(0, &[])));
                questions.push((format!("{what} padded"), query.clone().edns(0, &padding())));
                questions.push((what, query));
            }
        }
    }
    questions
}

/// Whether an answer is left to user space: an alias that leads to a denial, which changes with the
/// serial of another zone, and an alias asked for what is neither an address nor itself.
fn is_for_user_space(query: &Query, reply: &Reply) -> bool {
    let starts_with_alias = matches!(
        reply.message.answers.first(),
        Some(record) if matches!(record.data, RData::CNAME(_))
    );
    let is_denied = !reply.message.authorities.is_empty();
    let is_usual = [RecordType::A, RecordType::AAAA, RecordType::CNAME]
        .iter()
        .any(|rtype| u16::from(*rtype) == query.rtype);
    starts_with_alias && (is_denied || !is_usual)
}

#[test]
fn the_kernel_answers_names_of_dcos_as_user_space_does() {
    needs_scene!();
    let node = Node::start();
    let questions = questions();
    let before = node.count();
    let replies: Vec<Reply> = questions
        .iter()
        .map(|(_, query)| node.over_cable(query))
        .collect();
    let after = node.count();
    let [answered, served, cramped] = [0, 1, 2].map(|at| after[at] - before[at]);
    let user_space = questions
        .iter()
        .zip(&replies)
        .filter(|((_, query), reply)| is_for_user_space(query, reply))
        .count() as u64;
    // A frame without room is answered by the TC program, where there is one.
    assert!(
        (user_space..=user_space + cramped).contains(&served),
        "{after:?}"
    );
    assert_eq!(answered, questions.len() as u64 - served);
    let [mut answered, mut aliases, mut denied] = [0; 3];
    for ((what, query), reply) in questions.iter().zip(&replies) {
        assert_eq!(*reply, node.over_loopback(query), "{what}");
        answered += usize::from(!reply.addresses().is_empty());
        aliases += usize::from(reply.message.answers.len() > 1 && !reply.addresses().is_empty());
        denied += usize::from(reply.message.answers.is_empty());
    }
    assert_eq!(node.count()[0], after[0], "loopback has no program");
    println!(
        "{} questions, {user_space} of them for user space, {cramped} without room; {answered} with addresses, \
         {aliases} with several records, {denied} denials",
        questions.len()
    );
    assert!(served * 3 < questions.len() as u64 && cramped * 20 < questions.len() as u64);
}

/// What the names mean, so that both sides are not wrong alike: section 1 of dcos-net's behaviour.
#[test]
fn aliases_lead_where_they_should_in_the_kernel() {
    needs_scene!();
    let node = Node::start();
    let masters = ["172.17.0.2", "172.17.0.3"].as_slice();
    let mut asked = 0;
    let before = node.count();
    for (name, addresses) in [
        (
            "myapp-mygroup.marathon.agentip.dcos.thisdcos.directory",
            ["172.17.0.4"].as_slice(),
        ),
        ("master.dcos.thisdcos.directory", masters),
        ("registry.component.thisdcos.directory", masters),
        ("two.component.thisdcos.directory", masters),
        ("three.component.thisdcos.directory", masters),
        ("three.component.thisdcos.global", masters),
        ("app.component.thisdcos.directory", &["9.0.2.5"]),
        (
            "mygroupmyapp.marathon.l4lb.thisdcos.directory",
            &["11.198.144.68"],
        ),
        (
            "mygroupmyapp.marathon.dclb.thisdcos.directory",
            &["11.198.144.68"],
        ),
        (
            "mygroupmyapp.marathon.dclb.thisdcos.global",
            &["11.198.144.68"],
        ),
        (
            "myapp.mygroup.marathon.mesos.thisdcos.directory",
            &["9.0.2.5"],
        ),
        ("zk-2.zk", &["172.17.0.3"]),
        ("zk-3.zk", &["172.17.0.2"]),
        ("thisnode.thisdcos.directory", &["172.17.0.2"]),
        ("ready.spartan", &["127.0.0.1"]),
        ("ns.spartan", &["198.51.100.1"]),
        ("app.example.test", &["9.0.2.5"]),
    ] {
        let other = name
            .strip_suffix("thisdcos.directory")
            .filter(|_| !name.contains("dclb"))
            .map(|below| format!("{below}{ID}.dcos.directory"));
        for name in [Some(name.to_owned()), other].into_iter().flatten() {
            let mut query = Query::new(0, &name, "A").unwrap().edns(0, &padding());
            // Sorted, then rotated left by the id.
            for id in [0u16, 1, 2, 7] {
                query.id = id;
                let reply = node.over_cable(&query);
                let mut wanted: Vec<IpAddr> =
                    addresses.iter().map(|one| one.parse().unwrap()).collect();
                wanted.rotate_left(usize::from(id) % addresses.len());
                assert_eq!(reply.addresses(), wanted, "{name} {id}");
                asked += 1;
            }
        }
    }
    let after = node.count();
    assert_eq!([after[0] - before[0], after[1] - before[1]], [asked, 0]);
}
