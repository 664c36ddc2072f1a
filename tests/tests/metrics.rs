//! `/metrics` of a running daemon, read by the parser of the Prometheus project's own client: what it
//! counts, and that `docs/metrics.md` lists what there is.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tests::{
    fake_master::FakeMaster,
    needs,
    port::free_ports,
    running::{Running, http_get_as, wait_for},
    upstream::Upstream,
    wire::{self, Query},
};

const DOCUMENT: &str = include_str!("../../docs/metrics.md");
/// Debian's, for which its package of the parser is.
const PYTHON: &str = "/usr/bin/python3";
/// Prints each family as `[name, kind, [[sample, labels, value], …]]`; an error if the page breaks a
/// rule of the format.
const READER: &str = "
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as families
print(json.dumps([[one.name, one.type, [[s.name, s.labels, s.value] for s in one.samples]]
    for one in families(sys.stdin.read())]))";

fn python(program: &str, input: &str) -> Result<String, String> {
    let mut child = Command::new(PYTHON)
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child
        .wait_with_output()
        .map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// A page: families with their kinds, and samples by name and labels.
#[derive(Debug)]
struct Page {
    kinds: BTreeMap<String, String>,
    labels: BTreeMap<String, BTreeSet<String>>,
    samples: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

impl Page {
    fn read(text: &str) -> Self {
        Self::read_with(READER, text)
    }

    fn read_with(program: &str, text: &str) -> Self {
        let read = python(program, text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        type Sample = (String, BTreeMap<String, String>, f64);
        let families: Vec<(String, String, Vec<Sample>)> = serde_json::from_str(&read).unwrap();
        let mut page = Self {
            kinds: BTreeMap::new(),
            labels: BTreeMap::new(),
            samples: BTreeMap::new(),
        };
        for (family, kind, samples) in families {
            let labels = page.labels.entry(family.clone()).or_default();
            for (sample, with, value) in samples {
                labels.extend(with.keys().filter(|key| *key != "le").cloned());
                let twice = page.samples.insert((sample.clone(), with.clone()), value);
                assert_eq!(twice, None, "{sample} {with:?} is there twice");
            }
            page.kinds.insert(family, kind);
        }
        page
    }

    /// The value of a sample with these labels and no others; 0 if there is none.
    fn value(&self, sample: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let key = (format!("mesos_xdns_{sample}"), labels.collect());
        self.samples.get(&key).copied().unwrap_or_default()
    }
}

/// What the document says of each family: kind and labels.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1).map(str::trim);
        let mut cell = || cells.next().unwrap();
        let name = cell().trim_matches('`').to_owned();
        let kind = cell().to_owned();
        let labels = cell()
            .split(", ")
            .map(|label| label.trim_matches('`').to_owned());
        (
            name,
            (kind, labels.filter(|label| !label.is_empty()).collect()),
        )
    })
    .collect()
}

#[test]
fn queries_are_counted_by_what_they_are() {
    let parser = python("import prometheus_client.openmetrics.parser", "");
    needs!(
        parser.is_ok(),
        format!("needs python3-prometheus-client: {}", parser.unwrap_err())
    );
    let master = FakeMaster::start().unwrap();
    master.serve_state(&json!({
        "leader": format!("master@{}", master.address()),
        "slaves": [{"id": "S", "hostname": "10.0.0.1", "pid": "slave(1)@10.0.0.1:5051"}],
        "frameworks": [{"id": "F", "name": "marathon", "tasks": [{"id": "web.1", "name": "web",
            "slave_id": "S", "framework_id": "F", "state": "TASK_RUNNING"}]}]}));
    let upstream = Upstream::start([192, 0, 2, 80].into()).unwrap();
    let ports = free_ports(2);
    let config = json!({
        "masters": [master.address().to_string()], "refreshSeconds": 1,
        "port": ports[0], "httpListener": "127.0.0.1", "httpPort": ports[1],
        "resolvers": ["127.0.0.1"], "dcos": {"enabled": true, "listeners": [],
            "rest_listener": format!("127.0.0.1:{}", tests::port::free_port()),
            "upstreams": [upstream.address.to_string()], "mesos_source": "poll",
            "vip_file": std::env::temp_dir().join(format!("metrics-vips-{}", ports[0]))},
    });
    let _running = Running::start(&config).unwrap();
    let http = SocketAddr::from((Ipv4Addr::LOCALHOST, ports[1]));
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, ports[0]));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, ports[0]));
    let ask =
        |name: &str, rtype: &str| wire::ask(v4, &Query::new(7, name, rtype).unwrap()).unwrap();
    let known = || wire::ask(v4, &Query::new(7, "web.marathon.mesos", "A").unwrap()).ok();
    let is_known = |reply: &Option<wire::Reply>| reply.as_ref().is_some_and(|one| one.rcode() == 0);
    wait_for("the first state", known, is_known).unwrap();
    let page_as = |accept| http_get_as(http, "/metrics", accept).unwrap().1;
    let page = || Page::read(&page_as("application/openmetrics-text"));
    let before = page();

    for _ in 0..3 {
        assert_eq!(ask("web.marathon.mesos", "A").rcode(), 0);
    }
    let octets = ask("web.marathon.mesos", "AAAA").octets.len();
    assert_eq!(ask("nope.mesos", "TYPE257").rcode(), 3);
    assert_eq!(ask("a.example", "A").rcode(), 0);
    assert_eq!(ask("servfail.example", "TXT").rcode(), 2);
    let over_tcp = Query::new(7, "web.marathon.mesos", "A").unwrap();
    wire::ask_over_tcp(v4, &over_tcp).unwrap();
    let socket = std::net::UdpSocket::bind("[::1]:0").unwrap();
    socket.connect(v6).unwrap();
    socket
        .set_read_timeout(Some(tests::running::LIMIT))
        .unwrap();
    socket
        .send(
            &Query::new(7, "_web._tcp.marathon.mesos", "SRV")
                .unwrap()
                .octets(),
        )
        .unwrap();
    socket.recv(&mut [0; 512]).unwrap();

    let after = page();
    let more = |sample: &str, labels: &[(&str, &str)]| {
        after.value(sample, labels) - before.value(sample, labels)
    };
    for (proto, family, rtype, count) in [
        ("udp", "1", "A", 4.0),
        ("udp", "1", "AAAA", 1.0),
        ("udp", "1", "TXT", 1.0),
        ("udp", "1", "other", 1.0),
        ("udp", "2", "SRV", 1.0),
        ("udp", "2", "A", 0.0),
        ("tcp", "1", "A", 1.0),
    ] {
        let labels = [
            ("proto", proto),
            ("family", family),
            ("type", rtype),
            ("path", proto),
        ];
        assert_eq!(more("dns_requests_total", &labels), count, "{labels:?}");
    }
    for (rcode, path, source, count) in [
        ("NOERROR", "udp", "zones", 5.0),
        ("NXDOMAIN", "udp", "zones", 1.0),
        ("NOERROR", "udp", "upstreams", 1.0),
        ("SERVFAIL", "udp", "upstreams", 1.0),
        ("NOERROR", "tcp", "zones", 1.0),
        ("NOERROR", "tcp", "upstreams", 0.0),
    ] {
        let labels = [("rcode", rcode), ("path", path), ("source", source)];
        assert_eq!(more("dns_responses_total", &labels), count, "{labels:?}");
    }
    for (path, source, count) in [
        ("udp", "zones", 6.0),
        ("udp", "upstreams", 2.0),
        ("tcp", "zones", 1.0),
    ] {
        let labels = [("path", path), ("source", source)];
        for histogram in ["dns_response_size_bytes", "dns_request_duration_seconds"] {
            assert_eq!(
                more(&format!("{histogram}_count"), &labels),
                count,
                "{histogram} {labels:?}"
            );
            assert!(
                more(&format!("{histogram}_sum"), &labels) > 0.0,
                "{histogram} {labels:?}"
            );
        }
    }
    // Everything is smaller than 512 octets, and took some time.
    let small = [("path", "udp"), ("source", "zones"), ("le", "511.0")];
    assert_eq!(more("dns_response_size_bytes_bucket", &small), 6.0);
    assert!(more("dns_response_size_bytes_sum", &small[..2]) > octets as f64);
    let quick = [("path", "udp"), ("source", "zones"), ("le", "+Inf")];
    assert_eq!(more("dns_request_duration_seconds_bucket", &quick), 6.0);
    let time = more("dns_request_duration_seconds_sum", &quick[..2]);
    assert!(time < 30.0, "{time}");

    // The text format of Prometheus has the same families, and says of each what it is.
    let program = READER.replace("openmetrics.parser", "parser");
    let plain = page_as("*/*");
    let plain = Page::read_with(&program, &plain);
    assert_eq!(plain.kinds, after.kinds);
    assert_eq!(plain.labels, after.labels);
    let text = page_as("text/plain;version=0.0.4");
    for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(text.contains(&format!("# HELP {name} ")), "{line}");
        let is_counter = line.ends_with(" counter");
        assert_eq!(is_counter, name.ends_with("_total"), "{line}");
    }

    let documented = documented();
    for (family, kind) in &after.kinds {
        let said = documented
            .get(family)
            .unwrap_or_else(|| panic!("{family} is not documented"));
        assert_eq!(said.0, *kind, "{family}");
        assert!(
            after.labels[family].is_subset(&said.1),
            "{family}: {:?}",
            after.labels[family]
        );
    }
    // What is there only in other circumstances: XDP, and transfers.
    let absent: Vec<&String> = documented
        .keys()
        .filter(|one| !after.kinds.contains_key(*one))
        .collect();
    assert!(
        absent
            .iter()
            .all(|one| one.contains("_xdp_") || one.contains("_tc_") || one.contains("_transfer_")),
        "{absent:?}"
    );
}

/// The parser is one that finds mistakes.
#[test]
fn a_page_that_breaks_the_format_is_noticed() {
    let parser = python("import prometheus_client.openmetrics.parser", "");
    needs!(
        parser.is_ok(),
        format!("needs python3-prometheus-client: {}", parser.unwrap_err())
    );
    for wrong in [
        "a 1\n",
        "# TYPE a counter\na 1\n# EOF\n",
        "# TYPE a histogram\na_bucket{le=\"1.0\"} 2\na_bucket{le=\"+Inf\"} 1\n# EOF\n",
        "# TYPE a gauge\na{b=c} 1\n# EOF\n",
        "# TYPE a gauge\n# TYPE a gauge\na 1\n# EOF\n",
    ] {
        assert!(python(READER, wrong).is_err(), "{wrong}");
    }
    let good: Value =
        serde_json::from_str(&python(READER, "# TYPE a gauge\na 1\n# EOF\n").unwrap()).unwrap();
    assert_eq!(good, json!([["a", "gauge", [["a", {}, 1]]]]));
}
