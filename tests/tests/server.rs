//! The server on real sockets, asked by a real dig and by raw octets.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use dns_userspace::{
    answers::{Policy, Rcode, Transport},
    server::{FastPath, breakdown::Source},
    zones::Snapshot,
};
use proptest::prelude::*;
use tests::{
    dig::Dig,
    needs_tool,
    served::{Plan, Served, record},
    upstream::Upstream,
};

/// `web.mesos A IN`, id 0x1234, RD.
const QUERY: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03web\x05mesos\x00\x00\x01\x00\x01";

fn plan() -> Plan {
    let mut content = vec![
        "ns1.mesos A 10.0.0.53".to_owned(),
        "web.mesos A 10.0.0.2".to_owned(),
        "web.mesos A 10.0.0.1".to_owned(),
        "web.mesos AAAA fd00::1".to_owned(),
        "_web._tcp.mesos SRV 0 1 31000 web.mesos".to_owned(),
    ];
    for n in 0..60 {
        content.push(format!("many.mesos A 10.1.0.{n}"));
    }
    for n in 0..2000 {
        content.push(format!("huge.mesos A 10.2.{}.{}", n / 250, n % 250));
    }
    let lines: Vec<&str> = content.iter().map(String::as_str).collect();
    Plan::mesos(&lines)
}

fn start() -> Served {
    plan().start().unwrap()
}

fn udp_client(server: SocketAddr) -> UdpSocket {
    let any = if server.is_ipv4() {
        "127.0.0.1:0"
    } else {
        "[::1]:0"
    };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(server).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket
}

fn ask_udp(socket: &UdpSocket, message: &[u8]) -> Vec<u8> {
    socket.send(message).unwrap();
    let mut buffer = [0; 4096];
    let len = socket.recv(&mut buffer).unwrap();
    buffer[..len].to_vec()
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

fn read_framed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn tcp_client(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    stream
}

/// Whether the server ends the connection in time.
fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 16]), Ok(0)) || {
        let error = stream.read(&mut [0; 16]).map_err(|error| error.kind());
        error == Err(std::io::ErrorKind::ConnectionReset)
    }
}

#[test]
fn dig_gets_the_same_over_udp_tcp_and_ipv6() {
    needs_tool!("dig");
    let served = start();
    let v6 = served.address_v6();
    let ways = [
        served.dig(),
        served.dig().option("+tcp"),
        served.dig().option("+noedns"),
        served.dig().option("+bufsize=4096"),
        Dig::at(v6.ip()).port(v6.port()),
    ];
    for way in ways {
        let response = way.ask("WEB.Mesos", "A").unwrap();
        assert_eq!(response.status, "NOERROR");
        assert_eq!(response.flags, ["qr", "aa", "rd", "ra"]);
        let mut data = response.data("A");
        data.sort_unstable();
        assert_eq!(data, ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(response.question.unwrap().0, "WEB.Mesos.");
        // The owner is the question, so it comes back in the letter case that was sent.
        assert_eq!(response.answer[0].name, "WEB.Mesos.");
    }
    let srv = served.dig().ask("_web._tcp.mesos", "SRV").unwrap();
    assert_eq!(srv.data("SRV"), ["0 1 31000 web.mesos."]);
    assert_eq!(srv.additional.len(), 3);
    assert_eq!(
        served.totals(Transport::Tcp).breakdown.codes(Source::Zones)[0],
        1
    );
    assert_eq!(
        served.totals(Transport::Udp).breakdown.codes(Source::Zones)[0],
        5
    );
}

#[test]
fn negative_answers_have_the_soa() {
    needs_tool!("dig");
    let served = start();
    for (name, rtype, status) in [
        ("nope.mesos", "A", "NXDOMAIN"),
        ("web.mesos", "TXT", "NOERROR"),
        ("_tcp.mesos", "A", "NOERROR"),
        ("nope.mesos", "SRV", "NOERROR"),
        ("web.mesos", "DS", "NOERROR"),
    ] {
        let response = served.dig().ask(name, rtype).unwrap();
        assert_eq!(response.status, status, "{name} {rtype}");
        assert!(response.answer.is_empty() && response.has_flag("aa"));
        let [soa] = response.authority.as_slice() else {
            panic!("one SOA: {response:?}");
        };
        assert_eq!((soa.name.as_str(), soa.rtype.as_str()), ("mesos.", "SOA"));
    }
    let refused = served.dig().ask("www.example.org", "A").unwrap();
    assert_eq!(
        (refused.status.as_str(), refused.has_flag("aa")),
        ("REFUSED", false)
    );
}

#[test]
fn a_truncated_response_is_whole_over_tcp() {
    needs_tool!("dig");
    let served = start();
    let cut = served
        .dig()
        .option("+noedns")
        .option("+ignore")
        .ask("many.mesos", "A")
        .unwrap();
    assert!(cut.has_flag("tc") && cut.answer.is_empty() && cut.octets <= 512);
    let whole = served.dig().ask("many.mesos", "A").unwrap();
    assert!(!whole.has_flag("tc") && whole.octets <= 1232);
    assert_eq!(whole.answer.len(), 60);
    // dig goes on to TCP by itself.
    let huge = served.dig().ask("huge.mesos", "A").unwrap();
    assert_eq!(huge.answer.len(), 2000);
}

/// BIND and NSD answer queries of any length over UDP; here they are answered over TCP.
#[test]
fn a_query_longer_than_the_buffer_is_sent_to_tcp() {
    let served = start();
    let server = served.address();
    // RFC 7830: padding, in the one OPT record.
    let padded = |octets: usize| {
        let mut query = QUERY.to_vec();
        query[11] = 1;
        let padding = octets - query.len() - 15;
        query.extend([0, 0, 41, 4, 208, 0, 0, 0, 0]);
        query.extend(u16::try_from(padding + 4).unwrap().to_be_bytes());
        query.extend([0, 12]);
        query.extend(u16::try_from(padding).unwrap().to_be_bytes());
        query.resize(octets, 0);
        query
    };
    let client = udp_client(server);
    let fits = ask_udp(&client, &padded(4096));
    assert_eq!(
        (fits[2], fits[3] & 0xf, fits[7]),
        (0x85, 0, 2),
        "AA, RD, NOERROR"
    );
    for octets in [4097, 5000, 60_000] {
        let query = padded(octets);
        let response = ask_udp(&client, &query);
        // QR, TC and RD of the query; the question and nothing else.
        assert_eq!(response[..2], query[..2]);
        assert_eq!(response[2..4], [0x83, 0]);
        assert_eq!(response[4..12], [0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(response[12..], QUERY[12..]);
        let mut stream = tcp_client(server);
        stream.write_all(&framed(&query)).unwrap();
        let whole = read_framed(&mut stream).unwrap();
        assert_eq!((whole.len(), &whole[2..12]), (fits.len(), &fits[2..12]));
    }
    // What is no question is not taken for one.
    let mut several = padded(5000);
    several[5] = 2;
    assert_eq!(ask_udp(&client, &several)[2..4], [0x80, 1], "FORMERR");
    let mut response = padded(5000);
    response[2] |= 0x80;
    client.send(&response).unwrap();
    assert_eq!(
        ask_udp(&client, &padded(4096)),
        fits,
        "and no response before"
    );
}

#[test]
fn records_rotate_with_the_id_as_in_dcos_dns() {
    let served = start();
    let socket = udp_client(served.address());
    for (id, first) in [(0u16, 1), (1, 2), (2, 1), (65535, 2)] {
        let query = [&id.to_be_bytes(), &QUERY[2..]].concat();
        let response = ask_udp(&socket, &query);
        let data = QUERY.len() + 12;
        assert_eq!(response[data..data + 4], [10, 0, 0, first]);
    }
}

#[test]
fn a_committed_change_is_in_the_next_response() {
    let mut served = start();
    let socket = udp_client(served.address());
    let (owner, rrset) = record("web.mesos A 10.9.9.9").unwrap();
    served.editor.set(&owner, vec![rrset]).unwrap();
    served.editor.commit(1_700_000_001);
    served.snapshots.store(Arc::clone(served.editor.snapshot()));
    assert!(ask_udp(&socket, QUERY).ends_with(&[10, 9, 9, 9]));
}

#[test]
fn rfc7766_6_2_1_1_pipelined_queries_are_all_answered() {
    let served = start();
    let mut stream = tcp_client(served.address());
    let mut queries = Vec::new();
    for id in 0..200u16 {
        queries.extend(framed(&[&id.to_be_bytes(), &QUERY[2..]].concat()));
    }
    stream.write_all(&queries).unwrap();
    for id in 0..200u16 {
        let response = read_framed(&mut stream).unwrap();
        assert_eq!(response[..2], id.to_be_bytes());
    }
}

#[test]
fn rfc7766_8_a_query_may_come_octet_by_octet() {
    let served = start();
    let mut stream = tcp_client(served.address());
    stream.set_nodelay(true).unwrap();
    for octet in framed(QUERY) {
        stream.write_all(&[octet]).unwrap();
    }
    assert_eq!(read_framed(&mut stream).unwrap()[..2], QUERY[..2]);
}

#[test]
fn a_silent_or_slow_tcp_client_is_let_go() {
    let mut plan = plan();
    plan.settings.tcp.first_query = Duration::from_millis(150);
    plan.settings.tcp.idle = Duration::from_millis(400);
    let served = plan.start().unwrap();
    let start = Instant::now();
    let mut silent = tcp_client(served.address());
    assert!(is_closed(&mut silent));
    assert!(start.elapsed() < Duration::from_secs(3));

    let mut idle = tcp_client(served.address());
    idle.write_all(&framed(QUERY)).unwrap();
    read_framed(&mut idle).unwrap();
    let start = Instant::now();
    // Half a message does not buy more time.
    idle.write_all(&[0]).unwrap();
    assert!(is_closed(&mut idle));
    assert!(start.elapsed() > Duration::from_millis(300));
}

#[test]
fn tcp_connections_are_bounded_per_client() {
    let mut plan = plan();
    plan.settings.tcp.per_client = 2;
    let served = plan.start().unwrap();
    let mut first = tcp_client(served.address());
    let mut second = tcp_client(served.address());
    for stream in [&mut first, &mut second] {
        stream.write_all(&framed(QUERY)).unwrap();
        read_framed(stream).unwrap();
    }
    let mut third = tcp_client(served.address());
    assert!(is_closed(&mut third));
    drop(first);
    // The place is free as soon as the server sees the end of the first.
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let mut again = tcp_client(served.address());
        let asked = again.write_all(&framed(QUERY));
        if asked.is_ok() && read_framed(&mut again).is_ok() {
            break;
        }
        assert!(Instant::now() < deadline, "no place came free");
    }
}

#[test]
fn what_is_no_query_gets_no_response() {
    let served = start();
    let socket = udp_client(served.address());
    for len in 0..12 {
        socket.send(&QUERY[..len]).unwrap();
    }
    let mut response = QUERY.to_vec();
    response[2] |= 0x80;
    socket.send(&response).unwrap();
    // The first response that arrives is the one to this.
    let query = [b"\x77\x77", &QUERY[2..]].concat();
    assert_eq!(ask_udp(&socket, &query)[..2], *b"\x77\x77");
}

#[test]
fn a_panic_is_one_servfail() {
    struct PanicsAtId1;
    impl FastPath for PanicsAtId1 {
        fn answer(
            &self,
            _: &Snapshot,
            _: &Policy,
            message: &mut [u8],
            _: usize,
        ) -> Option<(usize, Rcode)> {
            if message[..2] == [0, 1] {
                message[2] |= 0x80;
                panic!("as the test wants it");
            }
            None
        }
    }
    let mut plan = plan();
    plan.fast_path = Some(Arc::new(PanicsAtId1));
    let served = plan.start().unwrap();
    let socket = udp_client(served.address());
    let query = [&[0, 1], &QUERY[2..]].concat();
    assert_eq!(
        ask_udp(&socket, &query),
        [0, 1, 0x81, 2, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(ask_udp(&socket, QUERY)[3] & 0xf, 0);
    assert_eq!(served.totals(Transport::Udp).panics, 1);
}

#[test]
fn a_fast_path_answers_in_place() {
    struct Echo;
    impl FastPath for Echo {
        fn answer(
            &self,
            snapshot: &Snapshot,
            _: &Policy,
            message: &mut [u8],
            len: usize,
        ) -> Option<(usize, Rcode)> {
            assert_eq!(snapshot.zones().len(), 1);
            message[2] |= 0x80;
            message[len] = 0xff;
            Some((len + 1, Rcode::NOERROR))
        }
    }
    let mut plan = plan();
    plan.fast_path = Some(Arc::new(Echo));
    let served = plan.start().unwrap();
    let response = ask_udp(&udp_client(served.address()), QUERY);
    assert_eq!(
        (response.len(), response[QUERY.len()]),
        (QUERY.len() + 1, 0xff)
    );
    assert_eq!(served.totals(Transport::Udp).fast, 1);
}

#[test]
fn an_address_in_use_is_named() {
    let served = start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut plan = plan();
    plan.settings.listen = vec![taken.local_addr().unwrap()];
    let error = plan.start().err().unwrap();
    let place = taken.local_addr().unwrap();
    let expected =
        format!("failed to setup \"tcp\" server: {place}: Address already in use (os error 98)");
    // With its causes, as it is printed.
    assert_eq!(format!("{error:#}"), expected);
    drop(served);
}

#[test]
fn shutting_down_answers_what_is_under_way() {
    let upstream = Upstream::start(Ipv4Addr::new(198, 51, 100, 1)).unwrap();
    let mut served = plan().forwarding_to(&[upstream.address]).start().unwrap();
    let socket = udp_client(served.address());
    socket.send(&named("timeout.example.org")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while upstream.seen().is_empty() {
        assert!(Instant::now() < deadline, "the query did not arrive");
        std::thread::yield_now();
    }
    assert!(served.shut_down() < Duration::from_secs(3));
    let mut buffer = [0; 512];
    socket.recv(&mut buffer).unwrap();
    assert_eq!(buffer[3] & 0xf, 2, "SERVFAIL");
}

/// An A query for a name, without EDNS.
fn named(text: &str) -> Vec<u8> {
    let mut message = QUERY[..12].to_vec();
    for label in text.split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}

/// Octets that are near a query, or not at all.
fn near_query() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let near = (changes, 0usize..64).prop_map(|(changes, surplus)| {
        let mut message = QUERY.to_vec();
        message.extend_from_slice(b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00");
        message[11] = 1;
        for (index, octet) in changes {
            let at = index.index(message.len());
            message[at] = octet;
        }
        message.truncate(message.len().saturating_sub(surplus / 2));
        message
    });
    prop_oneof![near, prop::collection::vec(any::<u8>(), 0..600)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn after_any_octets_the_next_query_is_answered(batch in prop::collection::vec(near_query(), 1..16)) {
        thread_local! {
            static SERVED: Served = start();
        }
        SERVED.with(|served| {
            let abuser = udp_client(served.address());
            for message in &batch {
                let _ = abuser.send(message);
            }
            // Every other message goes over TCP too, with a length that may lie.
            let mut stream = tcp_client(served.address());
            for message in batch.iter().step_by(2) {
                let _ = stream.write_all(&framed(message));
            }
            let _ = stream.write_all(batch.first().map(Vec::as_slice).unwrap_or_default());
            drop(stream);
            let response = ask_udp(&udp_client(served.address()), QUERY);
            assert_eq!(response.len(), QUERY.len() + 32);
            assert_eq!(served.totals(Transport::Udp).panics, 0);
            assert_eq!(served.totals(Transport::Tcp).panics, 0);
        });
    }
}
