//! Any state gives the records that mesos-dns would make of it: a second program, written from the
//! description of mesos-dns alone (sections 4 to 6 of its behaviour) and not from ours, makes them too,
//! and both must agree. It reproduces what the original was captured to say.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, Ipv6Addr},
    path::Path,
};

use dns_userspace::{
    commands::records::{Format, hosts_file, render},
    config::{Surroundings, check_text},
    mesos::state::parse,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

type Records = BTreeMap<&'static str, BTreeMap<String, BTreeSet<String>>>;

/// Section 5.
struct Rule {
    is_rfc952: bool,
}

impl Rule {
    fn label(&self, text: &str) -> String {
        let mut mangled = String::new();
        for letter in text.chars() {
            match letter {
                'A'..='Z' => mangled.push(letter.to_ascii_lowercase()),
                'a'..='z' | '0'..='9' => mangled.push(letter),
                '-' | '.' | '_' => mangled.push('-'),
                _ => {}
            }
        }
        let trimmed = mangled.trim_start_matches(|letter: char| {
            letter == '-' || (self.is_rfc952 && letter.is_ascii_digit())
        });
        let most = if self.is_rfc952 { 24 } else { 63 };
        let size = trimmed.len().min(most);
        let (head, tail) = trimmed.split_at(size);
        let head = head.trim_end_matches('-');
        let tail = tail.trim_start_matches('-');
        let room = size - head.len();
        format!("{head}{}", &tail[..room.min(tail.len())])
    }

    fn frag(&self, text: &str) -> String {
        let parts = text.split('.').map(|part| self.label(part));
        parts
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(".")
    }
}

fn hash(id: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";
    let digest = Sha1::digest(id.as_bytes());
    let bits: String = digest.iter().map(|octet| format!("{octet:08b}")).collect();
    let groups = (0..5).map(|group| usize::from_str_radix(&bits[group * 5..][..5], 2).unwrap());
    groups.map(|group| char::from(ALPHABET[group])).collect()
}

/// The address of a text, canonical; an IPv4 address within an IPv6 one is itself.
fn address(text: &str) -> Option<IpAddr> {
    Some(match text.parse().ok()? {
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
        ip => ip,
    })
}

fn written(ip: IpAddr) -> String {
    match ip {
        // As the original prints it: no dotted quad.
        IpAddr::V6(ip) if ip.segments()[..6] == [0; 6] && ip > Ipv6Addr::LOCALHOST => {
            let [.., high, low] = ip.segments();
            format!("::{high:x}:{low:x}")
        }
        ip => ip.to_string(),
    }
}

/// `id@host:port`: host, empty or an address, and port.
fn upid(text: Option<&str>) -> Option<(Option<IpAddr>, u16)> {
    let text = text?.trim_matches([' ', '"']);
    let (_, place) = text.split_once('@')?;
    let (host, port) = place.rsplit_once(':')?;
    let port = port.parse().ok()?;
    if host.is_empty() {
        return Some((None, port));
    }
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    Some((Some(address(host)?), port))
}

fn ports(text: &str) -> Vec<u16> {
    let inside = text.trim().trim_matches(['[', ']']);
    inside
        .split(',')
        .filter_map(|piece| {
            let (low, high) = piece.trim().split_once('-')?;
            Some(low.parse::<u16>().ok()?..=high.parse::<u16>().ok()?)
        })
        .flatten()
        .collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

#[derive(Default)]
struct Made(Records);

impl Made {
    fn put(&mut self, kind: &'static str, name: String, value: String) {
        self.0
            .entry(kind)
            .or_default()
            .entry(name)
            .or_default()
            .insert(value);
    }

    fn address(&mut self, name: &str, ip: &str) {
        let kind = if ip.contains(':') { "AAAAs" } else { "As" };
        self.put(kind, name.to_owned(), ip.to_owned());
    }

    fn service(&mut self, name: String, target: &str, port: impl std::fmt::Display) {
        self.put("SRVs", name, format!("{target}:{port}"));
    }
}

/// Section 4, "Task addresses".
fn task_addresses(task: &Value, agent: &[String], sources: &[String]) -> Vec<String> {
    let time = |status: &Value| status["timestamp"].as_f64().unwrap_or_default();
    let mut newest: Option<&Value> = None;
    for status in list(&task["statuses"]).filter(|one| one["state"] == "TASK_RUNNING") {
        if time(status) > newest.map_or(-1.0, time) {
            newest = Some(status);
        }
    }
    let nothing = Value::Null;
    let status = newest.unwrap_or(&nothing);
    let label = |key: &str| -> Vec<String> {
        let labels = list(&status["labels"]).filter(|label| text(label, "key") == key);
        labels
            .map(|label| text(label, "value").to_owned())
            .collect()
    };
    for source in sources {
        let texts = match source.as_str() {
            "host" => agent.to_vec(),
            "mesos" => label("MesosContainerizer.NetworkSettings.IPAddress"),
            "docker" => label("Docker.NetworkSettings.IPAddress"),
            _ => list(&status["container_status"]["network_infos"])
                .flat_map(|network| {
                    let all: Vec<String> = list(&network["ip_addresses"])
                        .map(|one| text(one, "ip_address").to_owned())
                        .collect();
                    if all.is_empty() {
                        vec![text(network, "ip_address").to_owned()]
                    } else {
                        all
                    }
                })
                .collect(),
        };
        let good: Vec<String> = texts
            .iter()
            .filter_map(|one| address(one))
            .map(written)
            .collect();
        if !good.is_empty() {
            return good;
        }
    }
    Vec::new()
}

/// Section 6, for masters and listeners that are addresses.
fn model(state: &Value, config: &Value) -> Records {
    let mut made = Made::default();
    let rule = Rule {
        is_rfc952: config["EnforceRFC952"] == true,
    };
    let domain = format!("{}.", text(config, "Domain").to_lowercase());
    let sources: Vec<String> = serde_json::from_value(config["IPSources"].clone()).unwrap();
    let frameworks: Vec<&Value> = list(&state["frameworks"]).collect();
    for framework in &frameworks {
        let label = rule.frag(text(framework, "name"));
        let (host, port) = match framework["pid"].as_str() {
            Some(pid) => match upid(Some(pid)) {
                Some((host, port)) => (host, Some(port)),
                None => continue,
            },
            // The only name that needs no resolver.
            None if framework["hostname"] == "localhost" => (address("127.0.0.1"), None),
            None => (address(text(framework, "hostname")), None),
        };
        let Some(host) = host else { continue };
        let name = format!("{label}.{domain}");
        made.address(&name, &written(host));
        if let Some(port) = port {
            made.service(format!("_framework._tcp.{name}"), &name, port);
        }
    }
    let mut agents: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for agent in list(&state["slaves"]) {
        let place = upid(agent["pid"].as_str());
        let addresses = agents.entry(text(agent, "id")).or_default();
        if let Some((Some(host), port)) = place {
            addresses.push(written(host));
            made.address(&format!("slave.{domain}"), &written(host));
            made.service(
                format!("_slave._tcp.{domain}"),
                &format!("slave.{domain}"),
                port,
            );
        }
    }
    let server = format!("{}.", text(config, "SOAMname").trim_end_matches('.'));
    made.address(&server, text(config, "Listener"));
    masters(&mut made, &domain, text(state, "leader"), config);
    for framework in frameworks {
        let below = format!("{}.{domain}", rule.frag(text(framework, "name")));
        for task in list(&framework["tasks"]) {
            let Some(agent) = agents.get(text(task, "slave_id")) else {
                continue;
            };
            if task["state"] != "TASK_RUNNING" {
                continue;
            }
            let addresses = task_addresses(task, agent, &sources);
            let below_agent = format!("{}.slave.{domain}", rule.frag(text(framework, "name")));
            let discovered = text(&task["discovery"], "name");
            let has_discovery = !discovered.is_empty();
            let names = match has_discovery {
                true => vec![discovered.to_owned(), rule.label(discovered)],
                false => vec![rule.label(text(task, "name"))],
            };
            for name in names {
                let tail = text(task, "slave_id")
                    .rsplit('-')
                    .next()
                    .unwrap()
                    .to_lowercase();
                let canonical = format!("{name}-{}-{tail}", hash(text(task, "id")));
                for (below, ips) in [(&below, &addresses), (&below_agent, agent)] {
                    for ip in ips {
                        made.address(&format!("{name}.{below}"), ip);
                        made.address(&format!("{canonical}.{below}"), ip);
                    }
                }
                let target = format!("{canonical}.{below_agent}");
                for port in ports(text(&task["resources"], "ports")) {
                    for protocol in ["tcp", "udp"] {
                        made.service(format!("_{name}._{protocol}.{below_agent}"), &target, port);
                        if !has_discovery {
                            made.service(format!("_{name}._{protocol}.{below}"), &target, port);
                        }
                    }
                }
                let target = format!("{canonical}.{below}");
                for port in list(&task["discovery"]["ports"]["ports"]).filter(|_| has_discovery) {
                    let given = rule.label(text(port, "protocol"));
                    let both = ["tcp".to_owned(), "udp".to_owned()];
                    let protocols = if given.is_empty() {
                        both.to_vec()
                    } else {
                        vec![given]
                    };
                    for protocol in protocols {
                        let service = format!("_{name}._{protocol}.{below}");
                        let named = rule.label(text(port, "name"));
                        if !named.is_empty() {
                            made.service(format!("_{named}.{service}"), &target, &port["number"]);
                        }
                        made.service(service, &target, &port["number"]);
                    }
                }
            }
        }
    }
    made.0
}

/// Section 6.3, for IPv4.
fn masters(made: &mut Made, domain: &str, leader: &str, config: &Value) {
    let (_, leader) = leader.split_once('@').unwrap();
    let (leader_ip, port) = leader.split_once(':').unwrap();
    let (leading, any) = (format!("leader.{domain}"), format!("master.{domain}"));
    made.address(&leading, leader_ip);
    made.address(&any, leader_ip);
    for protocol in ["tcp", "udp"] {
        made.service(format!("_leader._{protocol}.{domain}"), &leading, port);
    }
    let mut known = BTreeSet::from([leader_ip]);
    let mut numbered: Vec<&str> = Vec::new();
    let mut has_leader = false;
    for master in list(&config["Masters"]) {
        let master = master.as_str().unwrap();
        let (ip, _) = master.split_once(':').unwrap();
        let is_new = if master == leader {
            !std::mem::replace(&mut has_leader, true)
        } else {
            known.insert(ip)
        };
        if is_new {
            made.address(&any, ip);
            numbered.push(ip);
        }
    }
    if !has_leader {
        numbered.push(leader_ip);
    }
    for (number, ip) in numbered.iter().enumerate() {
        made.address(&format!("master{number}.{domain}"), ip);
    }
}

/// The same from the daemon's own code.
fn ours(state: &Value, config: &Value) -> Records {
    let checked = check_text(
        config.to_string().as_bytes(),
        Path::new("/config.json"),
        &Surroundings::default(),
    );
    let config = checked.config.unwrap();
    let (state, _) = parse(state.to_string().as_bytes()).unwrap();
    let (body, _) = render(&config, &state, Format::Axfr, &[], &hosts_file).unwrap();
    listed(&serde_json::from_slice(&body).unwrap())
}

/// The records of a body of `/v1/axfr`.
fn listed(body: &Value) -> Records {
    ["As", "AAAAs", "SRVs"]
        .into_iter()
        .map(|kind| {
            (
                kind,
                serde_json::from_value(body["Records"][kind].clone()).unwrap(),
            )
        })
        .filter(|(_, records): &(_, BTreeMap<_, _>)| !records.is_empty())
        .collect()
}

/// Names whose values differ, with both.
fn differences(one: &Records, other: &Records) -> Vec<String> {
    let flat = |records: &Records| -> BTreeSet<String> {
        let named = records.iter().flat_map(|(kind, names)| {
            names
                .iter()
                .map(move |(name, values)| format!("{kind} {name:?} {values:?}"))
        });
        named.collect()
    };
    let (one, other) = (flat(one), flat(other));
    let only = |mark: char, here: &BTreeSet<String>, there: &BTreeSet<String>| {
        here.difference(there)
            .map(|line| format!("{mark} {line}"))
            .collect::<Vec<_>>()
    };
    [only('-', &one, &other), only('+', &other, &one)].concat()
}

const NAMES: [&str; 14] = [
    "web",
    "Web.Front_End",
    "a b",
    "日本",
    "",
    "-x-",
    "4abc",
    "big.dog",
    "x_y",
    "K\u{212a}elvin",
    "a..b",
    "-.-",
    "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa--bc",
];
const IPS: [&str; 12] = [
    "10.0.0.1",
    "10.0.0.2",
    "010.1.1.1",
    "::ffff:10.1.2.3",
    "fd00::1",
    "FD00:0::A",
    "1.2.3",
    "",
    "fe80::1%eth0",
    " 1.1.1.1",
    "1.2.3.4/8",
    "::10.1.2.3",
];

fn of(texts: &'static [&'static str]) -> impl Strategy<Value = Value> {
    prop::sample::select(texts).prop_map(Value::from)
}

fn all(items: impl Strategy<Value = Value>, most: usize) -> impl Strategy<Value = Value> {
    prop::collection::vec(items, 0..most).prop_map(Value::from)
}

fn status() -> impl Strategy<Value = Value> {
    let network = prop_oneof![
        (
            all(of(&IPS).prop_map(|ip| json!({"ip_address": ip})), 3),
            of(&IPS)
        )
            .prop_map(|(ips, ip)| json!({"ip_addresses": ips, "ip_address": ip})),
        Just(json!({})),
    ];
    let key = of(&[
        "MesosContainerizer.NetworkSettings.IPAddress",
        "Docker.NetworkSettings.IPAddress",
        "docker.networksettings.ipaddress",
    ]);
    let label = (key, of(&IPS)).prop_map(|(key, value)| json!({"key": key, "value": value}));
    let time = prop::sample::select(vec![0.0, 1.5, 1.5, 2.0, -2.0, -0.5]);
    (
        of(&["TASK_RUNNING", "TASK_RUNNING", "TASK_STAGING"]),
        time,
        all(network, 3),
        all(label, 3),
    )
        .prop_map(|(state, time, networks, labels)| {
            json!({"state": state, "timestamp": time, "labels": labels,
                "container_status": {"network_infos": networks}})
        })
}

fn task() -> impl Strategy<Value = Value> {
    let number = prop::sample::select(vec![80, 0, 443, 70_000]);
    let port = (number, of(&["tcp", "udp", "TCP", "", "s_t"]), of(&["http", "", "Ht_Tp", "-"]))
        .prop_map(|(number, protocol, name)| json!({"number": number, "protocol": protocol, "name": name}));
    let discovery = (of(&NAMES), all(port, 4))
        .prop_map(|(name, ports)| json!({"name": name, "ports": {"ports": ports}}));
    let ranges = of(&[
        "",
        "[]",
        "[31000-31001]",
        "[31000-31000, 31005-31006]",
        "[5-4]",
        " [1-1] ",
    ]);
    let state = of(&[
        "TASK_RUNNING",
        "TASK_RUNNING",
        "TASK_RUNNING",
        "TASK_STAGING",
        "task_running",
        "TASK_KILLING",
    ]);
    let agent = of(&["20-S0", "NODASH", "x-", "A.b-S1.x", "gone"]);
    (of(&NAMES), "[a-zé.]{1,9}", agent, state, ranges, all(status(), 4), prop::option::of(discovery)).prop_map(
        |(name, id, agent, state, ports, statuses, discovery)| {
            json!({"name": name, "id": id, "slave_id": agent, "state": state, "resources": {"ports": ports},
                "statuses": statuses, "discovery": discovery})
        },
    )
}

fn state() -> impl Strategy<Value = Value> {
    let pid = || {
        of(&[
            "s(1)@10.1.0.1:5051",
            "s(1)@10.1.0.2:5051",
            "s(1)@[fd00::9]:5051",
            "bad",
            "s@:5051",
            "",
            " \"s(1)@10.1.0.3:5051\" ",
            "a@b@c:1",
            "s@10.0.0.1:99999",
        ])
    };
    let agents = prop::sample::subsequence(vec!["20-S0", "NODASH", "x-", "A.b-S1.x"], 0..=4)
        .prop_flat_map(move |ids| (Just(ids), prop::collection::vec(pid(), 4)))
        .prop_map(|(ids, pids)| {
            let agents = ids
                .into_iter()
                .zip(pids)
                .map(|(id, pid)| json!({"id": id, "pid": pid}));
            agents.collect::<Vec<Value>>()
        });
    let scheduler = of(&[
        "s@10.3.0.5:8080",
        "s@[fd00::5]:1",
        "s@10.3.0.6:0",
        "s@:9",
        "bad",
    ]);
    let framework = (
        of(&NAMES),
        of(&["10.3.0.1", "", "fd00::7"]),
        prop::option::of(scheduler),
        all(task(), 6),
    )
        .prop_map(|(name, host, pid, tasks)| {
            let mut framework = json!({"name": name, "hostname": host, "tasks": tasks});
            if let Some(pid) = pid {
                framework["pid"] = pid;
            }
            framework
        });
    let leader = of(&["m@10.9.0.1:5050", "m@10.9.0.2:5050", "m@10.9.0.2:5051"]);
    (leader, agents, all(framework, 4)).prop_map(|(leader, agents, frameworks)| {
        json!({"leader": leader, "slaves": agents, "frameworks": frameworks})
    })
}

fn config() -> impl Strategy<Value = Value> {
    let masters = vec![
        "10.9.0.1:5050",
        "10.9.0.2:5050",
        "10.9.0.3:5050",
        "10.9.0.2:5051",
    ];
    (
        prop::sample::subsequence(masters, 1..=4).prop_shuffle(),
        of(&["127.0.0.1", "10.7.7.7", "fd00::53", "2001:db8:0:0::53"]),
        any::<bool>(),
        prop::sample::subsequence(vec!["netinfo", "mesos", "host", "docker"], 1..=4).prop_shuffle(),
        of(&["mesos", "Mesos.Example"]),
        of(&["ns1.mesos", "NS.Example.."]),
    )
        .prop_map(|(masters, listener, is_rfc952, sources, domain, server)| {
            json!({"Masters": masters, "Listener": listener, "EnforceRFC952": is_rfc952,
                "IPSources": sources, "Domain": domain, "SOAMname": server})
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_state_gives_the_records_of_the_model(state in state(), config in config()) {
        let differing = differences(&ours(&state, &config), &model(&state, &config));
        prop_assert!(differing.is_empty(), "{:#?}", differing);
    }
}

/// The model against the original: without that, both could be wrong alike.
#[test]
fn the_model_gives_what_the_original_was_captured_to_say() {
    let read = |name: &str| -> Value {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mesos-dns");
        serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap()
    };
    for number in 1..=3 {
        let file = read(&format!("f{number}.config.json"));
        let given = |key: &str| {
            let mut members = file.as_object().unwrap().iter();
            let found = members.find(|(one, _)| one.eq_ignore_ascii_case(key));
            found.map(|(_, value)| value.clone())
        };
        let mut config = json!({"Domain": "mesos", "SOAMname": "ns1.mesos", "Masters": [], "Listener": "",
            "EnforceRFC952": false, "IPSources": ["netinfo", "mesos", "host"]});
        for (key, value) in config.as_object_mut().unwrap() {
            if let Some(given) = given(key) {
                *value = given;
            }
        }
        let state = read("fake-local.json");
        let captured = listed(&read(&format!("fake-local.f{number}.axfr.json")));
        let differing = differences(&model(&state, &config), &captured);
        assert!(differing.is_empty(), "f{number}: {differing:#?}");
    }
}
