//! Names we do not own, through the server to a name server that misbehaves on demand.
//!
//! Expected values are those of the captured observations of mesos-dns where its behaviour is
//! kept; the tests say where it is not.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use dns_userspace::{answers::Transport, zones::Name};
use tests::{
    dig::Response,
    needs_tool,
    served::{Plan, Served},
    upstream::{Spoil, TTL, Upstream},
};

const FIRST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

fn upstreams() -> [Upstream; 2] {
    [FIRST, SECOND].map(|address| Upstream::start(address).unwrap())
}

fn serve(resolvers: &[&Upstream]) -> Served {
    let addresses: Vec<SocketAddr> = resolvers.iter().map(|one| one.address).collect();
    Plan::mesos(&["web.mesos A 10.0.0.1"])
        .forwarding_to(&addresses)
        .start()
        .unwrap()
}

/// Nobody listens here.
fn dead() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

fn ask(served: &Served, name: &str) -> Response {
    served.dig().ask(name, "A").unwrap()
}

#[test]
fn a_good_response_is_passed_on_as_it_is() {
    needs_tool!("dig");
    let [upstream, _] = upstreams();
    let served = serve(&[&upstream]);
    let response = ask(&served, "wWw.Example.org");
    assert_eq!(response.status, "NOERROR");
    assert_eq!(response.flags, ["qr", "rd", "ra"]);
    assert_eq!(response.data("A"), ["198.51.100.1"]);
    assert_eq!(response.answer[0].ttl, TTL);
    assert_eq!(response.question.unwrap().0, "wWw.Example.org.");
    assert_eq!(ask(&served, "nxdomain.example.org").status, "NXDOMAIN");
    let nodata = ask(&served, "nodata.example.org");
    assert_eq!(
        (nodata.status.as_str(), nodata.answer.len()),
        ("NOERROR", 0)
    );
}

#[test]
fn each_try_has_its_own_port_and_id() {
    needs_tool!("dig");
    let [upstream, _] = upstreams();
    let served = serve(&[&upstream]);
    for n in 0..8 {
        ask(&served, &format!("www{n}.example.org"));
    }
    let seen = upstream.seen();
    let distinct = |mut values: Vec<u16>| {
        values.sort_unstable();
        values.dedup();
        values.len()
    };
    let ports = seen.iter().map(|one| one.from.port()).collect();
    let ids = seen
        .iter()
        .map(|one| u16::from_be_bytes([one.message[0], one.message[1]]))
        .collect();
    assert!(distinct(ports) >= 7, "{seen:?}");
    assert!(distinct(ids) >= 7, "{seen:?}");
}

#[test]
fn the_next_upstream_is_asked_after_servfail_refused_and_silence() {
    // mesos-dns takes the first response of any code.
    needs_tool!("dig");
    let [good, _] = upstreams();
    let plan = Plan::mesos(&[]).forwarding_to(&[dead(), good.address]);
    let served = plan.start().unwrap();
    let response = ask(&served, "www.example.org");
    assert_eq!(response.data("A"), ["198.51.100.1"]);
    let [first, second] = upstreams();
    let served = serve(&[&first, &second]);
    for (label, status) in [
        ("servfail", "SERVFAIL"),
        ("refused", "REFUSED"),
        ("timeout", "SERVFAIL"),
        ("badid", "SERVFAIL"),
        ("badname", "SERVFAIL"),
    ] {
        let response = ask(&served, &format!("{label}.example.org"));
        assert_eq!(response.status, status, "{label}");
        assert!(!response.has_flag("aa"));
        let asked = |upstream: &Upstream| {
            let seen = upstream.seen();
            let at = seen.iter().filter(|one| {
                one.message[13..][..label.len()].eq_ignore_ascii_case(label.as_bytes())
            });
            at.count()
        };
        assert_eq!((asked(&first), asked(&second)), (1, 1), "{label}");
    }
}

/// Each in the one record of an answer, which begins behind the question.
const SPOILT: [(&str, Spoil); 6] = [
    ("owner-loops", |message, at| {
        message[at..at + 2].copy_from_slice(&(0xc000 | at as u16).to_be_bytes());
    }),
    ("owner-outside", |message, at| {
        message[at..at + 2].copy_from_slice(&[0xff, 0xff]);
    }),
    ("address-of-three-octets", |message, at| {
        message[at + 11] = 3;
        message.remove(at + 12);
    }),
    ("other-class", |message, at| message[at + 5] = 3),
    ("record-missing", |message, _| message[7] = 2),
    ("cut", |message, at| message.truncate(at + 13)),
];

/// The next is asked, as mesos-dns does; when none is left, the client is told so.
#[test]
fn a_response_that_cannot_be_parsed_is_that_of_no_upstream() {
    needs_tool!("dig");
    let [first, second] = upstreams();
    let served = serve(&[&first, &second]);
    for (what, spoil) in SPOILT {
        first.set_spoil(Some(spoil));
        second.set_spoil(None);
        let response = ask(&served, &format!("{what}.example.org"));
        assert_eq!(response.status, "NOERROR", "{what}");
        assert_eq!(response.data("A"), ["203.0.113.1"], "{what}");
        second.set_spoil(Some(spoil));
        let response = ask(&served, &format!("{what}.example.net"));
        assert_eq!(response.status, "SERVFAIL", "{what}");
        assert_eq!(response.answer.len(), 0, "{what}");
        let asked = |upstream: &Upstream| {
            let label = what.as_bytes();
            let seen = upstream.seen();
            let at = seen
                .iter()
                .filter(|one| one.message[13..][..label.len()].eq_ignore_ascii_case(label));
            at.count()
        };
        // One that failed is asked behind the others, so not always for the first name.
        assert!(asked(&first) >= 1 && asked(&second) >= 2, "{what}");
    }
}

#[test]
fn a_forged_response_is_passed_over_for_the_true_one() {
    needs_tool!("dig");
    let [upstream, _] = upstreams();
    let response = ask(&serve(&[&upstream]), "forged.example.org");
    assert_eq!(response.data("A"), ["198.51.100.1"]);
}

#[test]
fn a_dead_upstream_costs_one_timeout_and_not_one_per_query() {
    let [silent, good] = upstreams();
    silent.set_silent(true);
    let mut plan = Plan::mesos(&[]).forwarding_to(&[silent.address, good.address]);
    plan.upstreams.as_mut().unwrap().timeout = Duration::from_secs(3);
    let served = plan.start().unwrap();
    let taken = |n: u32| {
        let start = Instant::now();
        let response = served.query(&format!("www{n}.example.org"), "A").unwrap();
        assert_eq!(response.rcode(), 0);
        start.elapsed()
    };
    assert!(taken(0) >= Duration::from_secs(3));
    let others: Duration = (1..50).map(taken).sum();
    assert!(others < Duration::from_secs(3), "{others:?}");
}

#[test]
fn a_truncated_response_is_fetched_over_tcp() {
    // mesos-dns passes TC on; here the client has it whole if it can take it.
    needs_tool!("dig");
    let [upstream, _] = upstreams();
    let served = serve(&[&upstream]);
    let response = served
        .dig()
        .option("+ignore")
        .ask("tc.example.org", "A")
        .unwrap();
    assert!(!response.has_flag("tc"));
    assert_eq!(response.data("A"), ["198.51.100.1"]);
    let transports: Vec<bool> = upstream.seen().iter().map(|one| one.tcp).collect();
    assert_eq!(transports, [false, true]);
}

#[test]
fn the_size_limit_of_the_client_holds() {
    needs_tool!("dig");
    let [upstream, _] = upstreams();
    let served = serve(&[&upstream]);
    let dig = || served.dig().option("+ignore");
    let plain = dig()
        .option("+noedns")
        .ask("many60.example.org", "A")
        .unwrap();
    assert!(plain.has_flag("tc") && plain.octets <= 512);
    let large = dig()
        .option("+bufsize=4096")
        .ask("many60.example.org", "A")
        .unwrap();
    assert!(!large.has_flag("tc") && large.answer.len() == 60);
    let huge = dig()
        .option("+bufsize=4096")
        .ask("many200.example.org", "A")
        .unwrap();
    assert!(huge.has_flag("tc") && huge.octets <= 1232, "{huge:?}");
    // Left to itself dig comes back over TCP.
    let whole = served.dig().ask("many200.example.org", "A").unwrap();
    assert_eq!(whole.answer.len(), 200);
}

#[test]
fn tcp_clients_are_forwarded_over_tcp() {
    needs_tool!("dig");
    let [upstream, _] = upstreams();
    let served = serve(&[&upstream]);
    let response = served
        .dig()
        .option("+tcp")
        .ask("many500.example.org", "A")
        .unwrap();
    assert_eq!(response.answer.len(), 500);
    assert!(upstream.seen().iter().all(|one| one.tcp));
    assert_eq!(served.totals(Transport::Tcp).forwarded, 1);
}

#[test]
fn zones_have_their_own_upstreams_and_our_names_none() {
    needs_tool!("dig");
    let [default, corp] = upstreams();
    let mut plan = Plan::mesos(&["web.mesos A 10.0.0.1"]).forwarding_to(&[default.address]);
    let zone = Name::from_text("Corp.Example").unwrap();
    plan.upstreams.as_mut().unwrap().zones = vec![(zone, vec![corp.address])];
    let served = plan.start().unwrap();
    assert_eq!(ask(&served, "host.corp.example").data("A"), ["203.0.113.1"]);
    assert_eq!(ask(&served, "host.example").data("A"), ["198.51.100.1"]);
    assert_eq!(ask(&served, "nope.mesos").status, "NXDOMAIN");
    let ds = served.dig().ask("web.mesos", "DS").unwrap();
    assert!(ds.has_flag("aa") && ds.answer.is_empty());
    assert_eq!((default.seen().len(), corp.seen().len()), (1, 1));
}

#[test]
fn only_queries_are_forwarded() {
    let [upstream, _] = upstreams();
    let served = serve(&[&upstream]);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let mut update = b"\x00\x01\x28\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    update.extend_from_slice(b"\x03www\x07example\x03org\x00\x00\x06\x00\x01");
    client.send_to(&update, served.address()).unwrap();
    let mut buffer = [0; 512];
    let len = client.recv(&mut buffer).unwrap();
    assert_eq!(buffer[..len], [0, 1, 0xa8, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(upstream.seen().is_empty());
}

#[test]
fn beyond_the_bound_clients_are_told_at_once() {
    let [upstream, _] = upstreams();
    let mut plan = Plan::mesos(&[]).forwarding_to(&[upstream.address]);
    let settings = plan.upstreams.as_mut().unwrap();
    settings.max_in_flight = 1;
    settings.timeout = Duration::from_secs(30);
    let served = plan.start().unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(served.address()).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let query =
        b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07timeout\x03org\x00\x00\x01\x00\x01";
    client.send(query).unwrap();
    client.send(query).unwrap();
    let mut buffer = [0; 512];
    let len = client.recv(&mut buffer).unwrap();
    assert_eq!(buffer[3] & 0xf, 2, "SERVFAIL");
    assert_eq!(buffer[12..len], query[12..]);
    assert_eq!(served.totals(Transport::Udp).shed, 1);
}
