//! Forged responses: whatever an attacker gets wrong, nothing of it reaches a client or the cache
//! (RFC 5452), and what he has to guess is evenly spread.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
};

use tests::{
    served::{Plan, Served},
    upstream::Upstream,
    wire::{Query, client, receive},
};

const TRUE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const EVIL: [u8; 4] = [6, 6, 6, 6];

fn scene() -> (Upstream, Served) {
    let upstream = Upstream::start(TRUE).unwrap();
    let mut plan = Plan::mesos(&[]).forwarding_to(&[upstream.address]);
    let settings = plan.upstreams.as_mut().unwrap();
    settings.timeout = std::time::Duration::from_secs(20);
    settings.max_in_flight = 4096;
    (upstream, plan.start().unwrap())
}

/// Who sends a forged response.
#[derive(Clone, Copy)]
enum Sender {
    /// The upstream's own address and port, as a forger has them who can choose his source.
    Upstream,
    AnotherPort,
    AnotherAddress,
}

impl Sender {
    fn send(self, octets: &[u8], upstream: &Upstream, to: SocketAddr) {
        let from = |address: Ipv4Addr, port: u16| {
            let socket = UdpSocket::bind((address, port)).unwrap();
            socket.send_to(octets, to).unwrap();
        };
        match self {
            Self::Upstream => upstream.send(octets, to),
            Self::AnotherPort => from(Ipv4Addr::LOCALHOST, 0),
            Self::AnotherAddress => from(Ipv4Addr::new(127, 0, 0, 2), upstream.address.port()),
        }
    }
}

/// The response as it would be taken, with an address of the forger's.
fn forged(truth: &[u8]) -> Vec<u8> {
    let at = truth
        .windows(4)
        .position(|octets| octets == TRUE.octets())
        .unwrap();
    let mut out = truth.to_vec();
    out[at..at + 4].copy_from_slice(&EVIL);
    out
}

fn flip_a_letter(message: &mut [u8]) {
    let letter = message[12..]
        .iter()
        .position(u8::is_ascii_alphabetic)
        .unwrap();
    message[12 + letter] ^= 0x20;
}

#[test]
fn rfc5452_9_1_nothing_forged_is_taken() {
    type Change = fn(&mut Vec<u8>);
    let rows: [(&str, Sender, Change); 9] = [
        ("wrong id", Sender::Upstream, |message| message[1] ^= 1),
        ("wrong name", Sender::Upstream, |message| message[13] ^= 3),
        ("wrong type", Sender::Upstream, |message| {
            let end = question_end(message);
            message[end - 3] ^= 29;
        }),
        ("wrong class", Sender::Upstream, |message| {
            let end = question_end(message);
            message[end - 1] = 3;
        }),
        ("wrong case", Sender::Upstream, |message| {
            flip_a_letter(message);
        }),
        ("no response", Sender::Upstream, |message| {
            message[2] &= 0x7f
        }),
        ("no question", Sender::Upstream, |message| {
            let end = question_end(message);
            message.drain(12..end);
            message[5] = 0;
        }),
        ("wrong port", Sender::AnotherPort, |_| {}),
        ("wrong address", Sender::AnotherAddress, |_| {}),
    ];
    for (row, sender, change) in rows {
        let (upstream, served) = scene();
        upstream.hold();
        let client = client(served.address()).unwrap();
        let query = Query::new(1, "some.long.name.example", "A").unwrap();
        client.send(&query.octets()).unwrap();
        upstream.wait_for(1);
        let (truth, to) = upstream.held().remove(0);
        let mut message = forged(&truth);
        change(&mut message);
        sender.send(&message, &upstream, to);
        upstream.release();
        let reply = receive(&client).unwrap();
        assert_eq!(reply.addresses(), [IpAddr::from(TRUE)], "{row}");
        // The row was seen and turned away, or never arrived.
        let mismatches = u64::from(matches!(sender, Sender::Upstream));
        let readout = served.forwarder();
        assert_eq!(readout.upstreams[0].mismatches, mismatches, "{row}");
        // Late, after the true one; and the true one once more.
        Sender::Upstream.send(&forged(&truth), &upstream, to);
        Sender::Upstream.send(&truth, &upstream, to);
        let again = served.query("some.long.name.example", "A").unwrap();
        assert_eq!(again.addresses(), [IpAddr::from(TRUE)], "{row}, kept");
    }
}

fn question_end(message: &[u8]) -> usize {
    let mut at = 12;
    while message[at] != 0 {
        at += 1 + usize::from(message[at]);
    }
    at + 5
}

#[test]
fn a_guesser_drives_the_question_to_tcp() {
    let (upstream, served) = scene();
    let reply = served.query("guess.example", "A").unwrap();
    assert_eq!(reply.addresses(), [IpAddr::from(TRUE)]);
    let tcp: Vec<bool> = upstream.seen().iter().map(|one| one.tcp).collect();
    assert_eq!(tcp, [false, true]);
    assert_eq!(served.forwarder().upstreams[0].mismatches, 3);
}

#[test]
fn an_upstream_that_loses_letter_case_is_asked_over_tcp_once_and_then_without() {
    let (upstream, served) = scene();
    for n in 0..4 {
        // The first label makes the scripted server give the question back in lower case.
        let name = format!("lower.zone{n}.example");
        let reply = served.query(&name, "A").unwrap();
        assert_eq!(reply.addresses(), [IpAddr::from(TRUE)], "{name}");
    }
    let seen = upstream.seen();
    let tcp: Vec<bool> = seen.iter().map(|one| one.tcp).collect();
    assert_eq!(tcp, [false, true, false, false, false]);
    let is_lower = |message: &[u8]| !message[12..].iter().any(u8::is_ascii_uppercase);
    assert!(!is_lower(&seen[0].message) && is_lower(&seen[4].message));
}

#[test]
fn rfc6891_7_an_upstream_without_edns_is_asked_without() {
    let (upstream, served) = scene();
    let reply = served.query("noedns.example", "A").unwrap();
    assert_eq!(reply.addresses(), [IpAddr::from(TRUE)]);
    assert_eq!(served.query("noedns.a.example", "A").unwrap().rcode(), 0);
    let with_edns: Vec<bool> = upstream
        .seen()
        .iter()
        .map(|one| one.message[11] == 1)
        .collect();
    assert_eq!(with_edns, [true, false, false]);
}

/// Chi-square of counts against an even spread.
fn chi_square(counts: &[u32]) -> f64 {
    let total: u32 = counts.iter().sum();
    let expected = f64::from(total) / counts.len() as f64;
    let term = |count: &u32| (f64::from(*count) - expected).powi(2) / expected;
    counts.iter().map(term).sum()
}

#[test]
fn rfc5452_9_2_ports_ids_and_case_are_evenly_spread() {
    const QUERIES: u16 = 6_400;
    const BINS: usize = 64;
    // An even spread over 64 bins passes this once in a million runs.
    const LIMIT: f64 = 131.0;
    let (upstream, served) = scene();
    let client = client(served.address()).unwrap();
    for n in 0..QUERIES {
        let query = Query::new(n, &format!("host-{n}.example.org"), "A").unwrap();
        client.send(&query.octets()).unwrap();
        receive(&client).unwrap();
    }
    let seen = upstream.seen();
    assert_eq!(seen.len(), usize::from(QUERIES));
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let mut range = range.split_whitespace().map(|word| word.parse().unwrap());
    let (low, high): (u32, u32) = (range.next().unwrap(), range.next().unwrap());
    let mut ports = [0; BINS];
    let mut ids = [0; BINS];
    let (mut upper, mut letters) = (0u32, 0u32);
    for one in &seen {
        let port = u32::from(one.from.port()) - low;
        ports[(port as usize * BINS) / (high - low + 1) as usize] += 1;
        ids[usize::from(one.message[0]) / (256 / BINS)] += 1;
        let name = one.message[12..]
            .iter()
            .filter(|octet| octet.is_ascii_alphabetic());
        for letter in name {
            letters += 1;
            upper += u32::from(letter.is_ascii_uppercase());
        }
    }
    for (what, bins) in [("ports", ports), ("ids", ids)] {
        let found = chi_square(&bins);
        assert!(found < LIMIT, "{what}: {found} {bins:?}");
        // And no counter that is too even to be random.
        assert!(found > 20.0, "{what}: {found} {bins:?}");
    }
    let share = f64::from(upper) / f64::from(letters);
    assert!((share - 0.5).abs() < 0.01, "{share} of {letters} letters");
    // One after the other tells nothing of the next: steps are spread as well.
    let mut steps = [0; BINS];
    for pair in seen.windows(2) {
        let id = |at: usize| u16::from_be_bytes([pair[at].message[0], pair[at].message[1]]);
        steps[usize::from(id(1).wrapping_sub(id(0)) >> 10)] += 1;
    }
    assert!(chi_square(&steps) < LIMIT, "{steps:?}");
}
