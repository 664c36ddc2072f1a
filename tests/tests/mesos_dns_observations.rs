//! What the real mesos-dns was seen to answer, asked of us with the same octets.
//!
//! Every difference stands in [`DIFFERENT`] with its reason, and one that is no difference any more
//! fails the test too.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use dns_userspace::{
    commands::records::hosts_file,
    config::{self, host::Surroundings},
    forwarder, mesos, records,
    zones::Name,
};
use hickory_proto::{op::Message, rr::Record, serialize::binary::BinDecodable};
use serde_json::Value;
use tests::{
    served::{Plan, Served},
    upstream::Upstream,
};

const APEX: &str = "the SOA has the apex as its owner (RFC 2308, section 3)";
const SRV_SOA: &str = "the empty answer has a SOA, so that it can be kept";
const OWN_DATA: &str = "SOA and NS are data of the apex: answered there, and nowhere else";
const NODATA: &str = "a name with names below it exists (RFC 8020)";
const ANY: &str = "SOA and NS are left to those who ask for them";
const OURS: &str = "DS of a name of ours is ours to deny";
const CLASS: &str = "there is nothing in another class";
const OPCODE: &str = "nothing but QUERY is implemented";
const EDNS: &str = "OPT is answered with OPT (RFC 6891, section 6.1.1)";
const WHOLE: &str = "truncation does not split an RRset";
const RETRY: &str = "a truncated response of an upstream is fetched over TCP";
const ONE_QUESTION: &str = "a query has one question (RFC 9619)";

/// Name, type and option of what is answered differently, and why.
const DIFFERENT: &[(&str, &str, &str, &str)] = &[
    ("toy-store.ipv6-framework.mesos", "ANY", "", ANY),
    ("_car-store._udp.marathon.mesos", "A", "", APEX),
    ("leader.mesos", "AAAA", "", APEX),
    ("leader.mesos", "TXT", "", APEX),
    ("leader.mesos", "SRV", "", SRV_SOA),
    ("leader.mesos", "ANY", "", ANY),
    ("leader.mesos", "DS", "", OURS),
    ("mesos", "SOA", "", OWN_DATA),
    ("mesos", "NS", "", OWN_DATA),
    ("mesos", "A", "", NODATA),
    ("mesos", "ANY", "", OWN_DATA),
    ("nope.mesos", "A", "", APEX),
    ("nope.mesos", "AAAA", "", APEX),
    ("nope.mesos", "SRV", "", SRV_SOA),
    ("nope.mesos", "TXT", "", APEX),
    ("nope.mesos", "ANY", "", ANY),
    ("nope.mesos", "SOA", "", OWN_DATA),
    ("nope.mesos", "NS", "", OWN_DATA),
    ("tc.example.org", "A", "", RETRY),
    ("many60.example.org", "A", "", WHOLE),
    ("leader.mesos", "A", "edns", EDNS),
    ("leader.mesos", "A", "qclass", CLASS),
    ("leader.mesos", "A", "opcode", OPCODE),
    ("no question", "", "", ONE_QUESTION),
    ("two questions", "", "", ONE_QUESTION),
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mesos-dns")
}

/// The state and configuration of the capture, with upstreams of our own.
fn start(fast: bool) -> (Served, [Upstream; 2]) {
    let upstreams = [1, 2].map(|last| Upstream::start(Ipv4Addr::new(198, 51, 100, last)).unwrap());
    let config = config::load(&fixtures().join("f1.config.json"), &Surroundings::default())
        .unwrap()
        .config;
    let body = fs::read(fixtures().join("fake-local.json")).unwrap();
    let (state, _) = mesos::state::parse(&body).unwrap();
    let settings = config.record_settings(&[]);
    let set = records::build(&state, &config.masters, &settings, &hosts_file);
    let zone = records::to_zone::zone(&settings, config.recurse_on).unwrap();
    let content = records::to_zone::zone_content(&set, &settings, &zone.apex);
    let apex = zone.apex.clone();
    let mut plan = Plan::mesos(&[]);
    plan.zones = vec![(zone, Vec::new())];
    plan.upstreams = Some(forwarder::Settings {
        resolvers: vec![upstreams[0].address],
        zones: vec![(
            Name::from_text("corp.example").unwrap(),
            vec![upstreams[1].address],
        )],
        timeout: Duration::from_millis(300),
        max_in_flight: 64,
        manner: Default::default(),
        // mesos-dns keeps nothing.
        cache: forwarder::CacheSettings::OFF,
        clock: Default::default(),
    });
    if !fast {
        plan.fast_path = None;
    }
    let mut served = plan.start().unwrap();
    served.editor.replace(&apex, content.rrsets).unwrap();
    served.publish();
    (served, upstreams)
}

fn ask(server: SocketAddr, query: &[u8], tcp: bool) -> Vec<u8> {
    let patience = Some(Duration::from_secs(5));
    if tcp {
        let mut stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(patience).unwrap();
        let len = u16::try_from(query.len()).unwrap();
        stream.write_all(&len.to_be_bytes()).unwrap();
        stream.write_all(query).unwrap();
        let mut len = [0; 2];
        stream.read_exact(&mut len).unwrap();
        let mut response = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut response).unwrap();
        return response;
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(patience).unwrap();
    socket.send_to(query, server).unwrap();
    let mut buffer = [0; 4096];
    let len = socket.recv(&mut buffer).unwrap();
    buffer[..len].to_vec()
}

/// Whether the first response after `query` is the one to the query sent behind it.
fn is_silent(server: SocketAddr, query: &[u8]) -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket.send_to(query, server).unwrap();
    let mut good = query.to_vec();
    good[0] ^= 0xff;
    good[2] = 1;
    socket.send_to(&good, server).unwrap();
    let mut buffer = [0; 4096];
    socket.recv(&mut buffer).unwrap();
    buffer[..2] == good[..2]
}

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
        .collect()
}

/// A section as the capture has it: sorted texts, here without letter case.
fn texts(records: &[Record]) -> Vec<String> {
    let mut lines: Vec<String> = records
        .iter()
        .map(|record| {
            let text = record.to_string().to_ascii_lowercase();
            let serial = tests::served::SERIAL + 1;
            text.replace(&format!(" {serial} "), " serial ")
        })
        .collect();
    lines.sort();
    lines
}

fn captured(observed: &Value, section: &str) -> Vec<String> {
    let lines = observed[section].as_array().unwrap().iter();
    let mut lines: Vec<String> = lines
        .map(|line| line.as_str().unwrap().to_ascii_lowercase())
        .collect();
    lines.sort();
    lines
}

/// What differs, in words; empty if nothing does.
fn difference(observed: &Value, response: &[u8]) -> String {
    let message = Message::from_bytes(response).unwrap();
    let flags = u16::from_be_bytes([response[2], response[3]]);
    let names = [
        (15, "qr"),
        (10, "aa"),
        (9, "tc"),
        (8, "rd"),
        (7, "ra"),
        (5, "ad"),
        (4, "cd"),
    ];
    let flags: Vec<&str> = names
        .iter()
        .filter(|(bit, _)| flags & (1 << bit) != 0)
        .map(|(_, name)| *name)
        .collect();
    let rcode = [
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED",
    ];
    let rcode = rcode[usize::from(response[3] & 0xf)];
    let mut found = Vec::new();
    let mut compare = |what: &str, theirs: String, ours: String| {
        if theirs != ours {
            found.push(format!("{what}: {theirs} there, {ours} here"));
        }
    };
    let text = |key: &str| observed[key].as_str().unwrap_or_default().to_owned();
    compare("rcode", text("rcode"), rcode.to_owned());
    compare("flags", text("flags"), flags.join(" "));
    compare(
        "edns",
        (!observed["edns"].is_null()).to_string(),
        message.edns.is_some().to_string(),
    );
    for (section, records) in [
        ("answer", &message.answers),
        ("authority", &message.authorities),
        ("additional", &message.additionals),
    ] {
        let (theirs, ours) = (captured(observed, section), texts(records));
        compare(section, format!("{theirs:?}"), format!("{ours:?}"));
    }
    found.join("; ")
}

#[test]
fn every_observation_is_reproduced_but_for_the_listed_ones() {
    for fast in [true, false] {
        let (served, _upstreams) = start(fast);
        replay(&served);
    }
}

fn replay(served: &Served) {
    let text = fs::read_to_string(fixtures().join("fake-local.f1.dns.json")).unwrap();
    let capture: Value = serde_json::from_str(&text).unwrap();
    let mut wrong = Vec::new();
    for one in capture["observations"].as_array().unwrap() {
        let note = one["note"].as_str().unwrap_or_default();
        let name = one["qname"].as_str().unwrap_or(note);
        let rtype = one["qtype"].as_str().unwrap_or_default();
        let option = ["edns", "rd", "cd", "qclass", "opcode", "proto"]
            .into_iter()
            .find(|key| !one[key].is_null())
            .unwrap_or_default();
        let query = octets(one["query_hex"].as_str().unwrap());
        let observed = &one["observed"];
        if observed.get("reply").is_some_and(Value::is_null) {
            assert!(is_silent(served.address(), &query), "{note}");
            continue;
        }
        let response = ask(served.address(), &query, option == "proto");
        let difference = difference(observed, &response);
        let listed = DIFFERENT
            .iter()
            .find(|row| (row.0, row.1, row.2) == (name, rtype, option));
        if difference.is_empty() == listed.is_some() {
            let reason = listed.map_or("unlisted", |row| row.3);
            wrong.push(format!("{name} {rtype} {option} ({reason}): {difference}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
