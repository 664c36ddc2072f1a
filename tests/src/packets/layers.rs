//! What lies around the message: padding, VLAN tags, addresses, ports, hops, and what is no IP.

use dns_common::Verdict;

use super::{ANSWER, PLAIN, Service, Table, WEB, WEB_A, from_to, query, query_v6};
use crate::{
    frame::{Frame, sum},
    octets::octets,
};

/// Where the IP header starts in a frame without tags.
pub(super) const IP: usize = 14;
/// Where UDP starts behind IPv4, and behind IPv6.
pub(super) const UDP: usize = IP + 20;
pub(super) const UDP_V6: usize = IP + 40;
pub(super) const ANSWERED: Verdict = Verdict::Answered;

pub(super) fn message() -> Vec<u8> {
    octets(&format!("{PLAIN} {WEB}"))
}

pub(super) fn response() -> Vec<u8> {
    octets(&format!("{ANSWER} {WEB} {WEB_A}"))
}

pub(super) fn v4() -> Frame {
    query(message())
}

pub(super) fn v6() -> Frame {
    query_v6(message())
}

pub(super) fn whole() -> Service {
    Service::Response(response())
}

/// The ordinary query over IPv4 with octets replaced, and with a right header checksum.
pub(super) fn with(at: usize, new: &[u8]) -> Vec<u8> {
    let mut octets = damaged(at, new);
    seal(&mut octets);
    octets
}

/// The same with whatever checksum there is then.
pub(super) fn damaged(at: usize, new: &[u8]) -> Vec<u8> {
    replaced(&v4(), at, new)
}

pub(super) fn replaced(frame: &Frame, at: usize, new: &[u8]) -> Vec<u8> {
    let mut octets = frame.octets();
    octets[at..at + new.len()].copy_from_slice(new);
    octets
}

/// Makes the checksum of the IPv4 header right.
pub(super) fn seal(frame: &mut [u8]) {
    let end = IP + 4 * usize::from(frame[IP] & 0xf).max(5);
    frame[IP + 10..IP + 12].fill(0);
    let checksum = !(sum(&frame[IP..end]) as u16);
    frame[IP + 10..IP + 12].copy_from_slice(&checksum.to_be_bytes());
}

impl Table {
    fn both_answered(&mut self, what: &str, change: impl Fn(&mut Frame)) -> &mut Self {
        for (family, mut frame) in [("IPv4", v4()), ("IPv6", v6())] {
            change(&mut frame);
            self.answered(format!("{what}, {family}"), &frame, ANSWERED, response());
        }
        self
    }

    fn both_passed(
        &mut self,
        what: &str,
        verdict: Verdict,
        service: fn() -> Service,
        change: impl Fn(&mut Frame),
    ) -> &mut Self {
        for (family, mut frame) in [("IPv4", v4()), ("IPv6", v6())] {
            change(&mut frame);
            self.passed(
                format!("{what}, {family}"),
                frame.octets(),
                verdict,
                service(),
            );
        }
        self
    }

    pub(super) fn not_answered(
        &mut self,
        what: &str,
        frame: Vec<u8>,
        verdict: Verdict,
    ) -> &mut Self {
        self.passed(what, frame, verdict, Service::Unreached)
    }
}

pub(super) fn add(table: &mut Table) {
    padding(table);
    tags(table);
    addresses(table);
    ports(table);
    time_to_live(table);
    not_ip(table);
}

fn padding(table: &mut Table) {
    table.number(48);
    for count in [1, 2, 6, 18, 46, 1000] {
        for frame in [v4(), v6()] {
            let mut padded = frame.octets();
            padded.resize(padded.len() + count, 0xaa);
            let reply = frame.reply(response()).octets();
            let what = format!("{count} octets behind the datagram");
            table.turned(what, padded, ANSWERED, reply, response());
        }
    }
    // An OPT record in the padding is no OPT record.
    let opt = octets(super::OPT);
    let padded = [v4().octets(), opt].concat();
    let reply = v4().reply(response()).octets();
    table.turned("an OPT record there", padded, ANSWERED, reply, response());
    // The shortest question makes a frame of 59 octets.
    let root = octets(&format!("{PLAIN} . 0001 0001"));
    let refused = Service::Response(octets("1234 8105 0001 0000 0000 0000 . 0001 0001"));
    let mut padded = query(root).octets();
    padded.resize(60, 0);
    table.passed("the root, filled up to 60", padded, Verdict::Miss, refused);
}

fn tags(table: &mut Table) {
    table.number(59);
    for (what, tags) in [
        ("802.1Q", &[(0x8100, 0x0123)][..]),
        ("a priority tag", &[(0x8100, 0xe000)]),
        ("802.1ad", &[(0x88a8, 0x0001)]),
        ("QinQ", &[(0x88a8, 0x2007), (0x8100, 0x0fff)]),
        ("802.1Q twice", &[(0x8100, 0x0002), (0x8100, 0x0003)]),
    ] {
        table.both_answered(what, |frame| frame.tags = tags.to_vec());
    }
    let three = [(0x88a8, 1), (0x8100, 2), (0x8100, 3)];
    table
        .both_passed(
            "three tags",
            Verdict::NotIp,
            || Service::Unreached,
            |frame| {
                frame.tags = three.to_vec();
            },
        )
        .both_passed(
            "a tag of 0x9100",
            Verdict::NotIp,
            || Service::Unreached,
            |frame| {
                // Written as the second tag's place holds it.
                frame.tags = vec![(0x9100, 2)];
            },
        );
}

fn not_ip(table: &mut Table) {
    table
        .number(68)
        .answered("a frame", &v4(), ANSWERED, response());
    for (family, frame, last) in [("IPv4", v4(), UDP + 8), ("IPv6", v6(), UDP_V6 + 8)] {
        // The kernel runs the program over no less than an Ethernet header.
        for length in 14..last {
            table.not_answered(
                &format!("{length} octets of it, {family}"),
                frame.octets()[..length].to_vec(),
                Verdict::Length,
            );
        }
    }
    for (what, ethertype) in [
        ("ARP", 0x0806u16),
        ("LLDP", 0x88cc),
        ("a length of IEEE 802.3", 0x0026),
        ("PPPoE", 0x8864),
        ("MPLS", 0x8847),
        ("IPv4 in the other byte order", 0x0008),
    ] {
        let frame = damaged(12, &ethertype.to_be_bytes());
        table.not_answered(what, frame, Verdict::NotIp);
    }
}

fn addresses(table: &mut Table) {
    table.number(58).answered(
        "a link-local source",
        &from_to("fe80::1", "2001:db8::2", message()),
        ANSWERED,
        response(),
    );
    for (source, service) in [
        ("::", Service::Host(response())),
        ("::1", Service::Unreached),
        ("::ffff:192.0.2.7", Service::Unreached),
        ("ff02::1", Service::Unreached),
        ("2001:db8::2", Service::Host(response())),
    ] {
        let frame = from_to(source, "2001:db8::2", message());
        table.passed(
            format!("from {source}"),
            frame.octets(),
            Verdict::Source,
            service,
        );
    }
    table
        .number(61)
        .both_answered("to our address", |_| {})
        .both_passed(
            "to the broadcast address of Ethernet",
            Verdict::OtherHost,
            || Service::Host(response()),
            |frame| frame.to = [0xff; 6],
        )
        .both_passed(
            "to a multicast address of Ethernet",
            Verdict::OtherHost,
            || Service::Host(response()),
            |frame| frame.to = [0x01, 0, 0x5e, 0, 0, 0xfb],
        )
        .both_passed(
            "from a multicast address of Ethernet",
            Verdict::Source,
            || Service::Host(response()),
            |frame| frame.from[0] |= 1,
        )
        .both_passed(
            "to another address that differs in its last octet",
            Verdict::OtherHost,
            || Service::Unreached,
            |frame| frame.to[5] ^= 1,
        );
    for to in ["192.0.2.255", "255.255.255.255", "224.0.0.251"] {
        let frame = from_to("192.0.2.1", to, message());
        table.not_answered(&format!("to {to}"), frame.octets(), Verdict::NotLocal);
    }
    let mdns = from_to("2001:db8::1", "ff02::fb", message());
    table.not_answered("to ff02::fb", mdns.octets(), Verdict::NotLocal);
    table.number(62).both_answered("to our address", |_| {});
    for (from, to) in [("192.0.2.1", "192.0.2.3"), ("2001:db8::1", "2001:db8::3")] {
        let frame = from_to(from, to, message());
        table.not_answered(&format!("to {to}"), frame.octets(), Verdict::NotLocal);
    }
    table
        .number(63)
        .answered("a client", &v4(), ANSWERED, response());
    for source in [
        "127.0.0.1",
        "0.0.0.0",
        "0.1.2.3",
        "255.255.255.255",
        "240.0.0.1",
        "224.0.0.1",
        "192.0.2.2",
    ] {
        let frame = from_to(source, "192.0.2.2", message());
        table.not_answered(&format!("from {source}"), frame.octets(), Verdict::Source);
    }
}

fn ports(table: &mut Table) {
    table.number(64);
    for port in [1024, 5353, 65_535] {
        table.both_answered(&format!("from port {port}"), |frame| {
            frame.source_port = port
        });
    }
    for port in [7, 19, 53, 123, 1023] {
        table.both_passed(
            &format!("from port {port}"),
            Verdict::Source,
            whole,
            |frame| {
                frame.source_port = port;
            },
        );
    }
    table.both_passed(
        "from port 0",
        Verdict::Source,
        || Service::Unreached,
        |frame| {
            frame.source_port = 0;
        },
    );
    table.number(65).both_answered("to port 53", |_| {});
    for port in [52, 54, 853, 5353, 53 << 8] {
        table.both_passed(
            &format!("to port {port}"),
            Verdict::NotDns,
            || Service::Unreached,
            |frame| frame.destination_port = port,
        );
    }
    for (what, protocol) in [("ICMP", 1), ("TCP", 6), ("SCTP", 132), ("UDP-Lite", 136)] {
        table.not_answered(what, with(IP + 9, &[protocol]), Verdict::NotDns);
    }
    // An ICMP error that quotes our query: port unreachable.
    let mut unreachable = octets("0303 0000 00000000");
    unreachable.extend(&v4().octets()[IP..]);
    let checksum = !(sum(&unreachable) as u16);
    unreachable[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = v4().octets()[..UDP].to_vec();
    frame[IP + 9] = 1;
    frame.extend(&unreachable);
    let length = (frame.len() - IP) as u16;
    frame[IP + 2..IP + 4].copy_from_slice(&length.to_be_bytes());
    seal(&mut frame);
    table.not_answered("an ICMP error that quotes a query", frame, Verdict::NotDns);
}

fn time_to_live(table: &mut Table) {
    table.number(66);
    for ttl in [1, 64, 255] {
        table.both_answered(&format!("{ttl} hops left"), |frame| frame.ttl = ttl);
    }
    for tos in [1, 3, 0xb8, 0xff] {
        table.both_answered(&format!("TOS {tos:02x}"), |frame| frame.tos = tos);
    }
    let mut labelled = replaced(&v6(), IP + 1, &[0x0f, 0xff, 0xff]);
    let reply = v6().reply(response()).octets();
    table.turned(
        "a flow label",
        labelled.clone(),
        ANSWERED,
        reply,
        response(),
    );
    labelled[IP + 6] = 58;
    table.not_answered(
        "a flow label, and another protocol",
        labelled,
        Verdict::IpOptions,
    );
}
