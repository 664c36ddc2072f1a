//! Headers of IP and UDP that contradict themselves or the frame, options, fragments, checksums.

use dns_common::Verdict;

use super::{
    Service, Table,
    layers::{
        ANSWERED, IP, UDP, UDP_V6, damaged, message, replaced, response, seal, v4, v6, whole, with,
    },
    query, query_v6,
};
use crate::{frame::sum, octets::octets};

/// The lengths of the IPv4 and of the UDP header.
fn lengths(ip: u16, udp: u16) -> Vec<u8> {
    let mut octets = with(IP + 2, &ip.to_be_bytes());
    octets[UDP + 4..UDP + 6].copy_from_slice(&udp.to_be_bytes());
    octets
}

pub(super) fn add(table: &mut Table) {
    contradictions(table);
    ip_headers(table);
    checksums(table);
    extension_headers(table);
}

fn contradictions(table: &mut Table) {
    // 20 + 8 + 12 + 24 octets, of which 44 are UDP's.
    let udp = (8 + message().len()) as u16;
    let ip = 20 + udp;
    table
        .number(49)
        .turned(
            "nothing",
            lengths(ip, udp),
            ANSWERED,
            v4().reply(response()).octets(),
            response(),
        )
        .not_answered(
            "UDP ends before IP does",
            lengths(ip, udp - 1),
            Verdict::Length,
        )
        .not_answered("UDP ends behind IP", lengths(ip, udp + 1), Verdict::Length);
    for udp in 0..8 {
        table.not_answered(
            &format!("UDP length {udp}"),
            lengths(ip, udp),
            Verdict::Length,
        );
    }
    table
        .number(50)
        .answered("nothing", &v4(), ANSWERED, response())
        .not_answered(
            "IP and UDP are longer than the frame",
            lengths(ip + 1, udp + 1),
            Verdict::Length,
        )
        .not_answered("the longest IP", lengths(65_535, 65_515), Verdict::Length)
        .not_answered("IP and no UDP", lengths(20, udp), Verdict::Length)
        .not_answered("IP and half of UDP", lengths(24, 4), Verdict::Length)
        .not_answered("IP shorter than itself", lengths(19, udp), Verdict::Length)
        .not_answered("IP of no octets", lengths(0, udp), Verdict::Length)
        .not_answered("a header of 4 words", with(IP, &[0x44]), Verdict::IpOptions)
        .not_answered("version 5", with(IP, &[0x55]), Verdict::IpOptions)
        .not_answered(
            "version 4 behind the ethertype of 6",
            replaced(&v6(), IP, &[0x45]),
            Verdict::NotIp,
        );
    let payload = |octets: u16| replaced(&v6(), IP + 4, &octets.to_be_bytes());
    table
        .not_answered(
            "an IPv6 payload that is too long",
            payload(udp + 1),
            Verdict::Length,
        )
        .not_answered("one that is too short", payload(udp - 1), Verdict::Length)
        .not_answered("none: a jumbogram, or nothing", payload(0), Verdict::Length);
    table
        .number(67)
        .answered("nothing", &v4(), ANSWERED, response())
        .passed(
            "one UDP header before two datagrams",
            {
                let twice = [v4().octets(), message()].concat();
                let mut octets = twice;
                octets[IP + 2..IP + 4].copy_from_slice(&(ip + udp - 8).to_be_bytes());
                seal(&mut octets);
                octets
            },
            Verdict::Length,
            // The host leaves what is behind the datagram out.
            whole(),
        );
}

fn ip_headers(table: &mut Table) {
    let options = |options: [u8; 8]| {
        let mut octets = v4().octets();
        octets.splice(UDP..UDP, options);
        octets[IP] = 0x47;
        let length = 8 + u16::from_be_bytes([octets[IP + 2], octets[IP + 3]]);
        octets[IP + 2..IP + 4].copy_from_slice(&length.to_be_bytes());
        seal(&mut octets);
        octets
    };
    table
        .number(51)
        .answered("no option", &v4(), ANSWERED, response())
        .passed(
            "router alert",
            options([0x94, 4, 0, 0, 0, 0, 0, 0]),
            Verdict::IpOptions,
            whole(),
        )
        .passed(
            "loose source route",
            options([0x83, 7, 8, 192, 0, 2, 2, 0]),
            Verdict::IpOptions,
            Service::Host(response()),
        );
    let fragment = |field: u16| with(IP + 6, &field.to_be_bytes());
    let reply = v4().reply(response()).octets();
    table
        .number(52)
        .turned("DF", fragment(0x4000), ANSWERED, reply.clone(), response())
        .turned("no DF", fragment(0), ANSWERED, reply, response())
        .not_answered("the first fragment", fragment(0x2000), Verdict::IpOptions)
        .not_answered("one in the middle", fragment(0x2010), Verdict::IpOptions)
        .not_answered("the last", fragment(0x0010), Verdict::IpOptions)
        .passed(
            "the reserved bit",
            fragment(0x8000),
            Verdict::IpOptions,
            whole(),
        );
}

fn checksums(table: &mut Table) {
    let mut reply = v4().reply(response()).octets();
    reply[UDP + 6..UDP + 8].fill(0);
    table
        .number(53)
        .turned(
            "none over IPv4",
            damaged(UDP + 6, &[0, 0]),
            ANSWERED,
            reply,
            response(),
        )
        .not_answered(
            "none over IPv6",
            replaced(&v6(), UDP_V6 + 6, &[0, 0]),
            Verdict::Checksum,
        );
    table.number(54);
    for (family, frame, udp) in [("IPv4", v4(), UDP), ("IPv6", v6(), UDP_V6)] {
        let sent = frame.octets();
        let right = u16::from_be_bytes([sent[udp + 6], sent[udp + 7]]);
        // What a sender on the same host leaves: the sum of the pseudo header.
        let addresses = if udp == UDP {
            UDP - 8..UDP
        } else {
            UDP_V6 - 32..UDP_V6
        };
        let length = u16::from_be_bytes([sent[udp + 4], sent[udp + 5]]);
        let mut pseudo = sent[addresses].to_vec();
        pseudo.extend([0, 17]);
        pseudo.extend(length.to_be_bytes());
        let partial = sum(&pseudo) as u16;
        let checksum = |value: u16| replaced(&frame, udp + 6, &value.to_be_bytes());
        table.turned(
            format!("partial, {family}"),
            checksum(partial),
            ANSWERED,
            frame.reply(response()).octets(),
            response(),
        );
        for wrong in [
            right ^ 1,
            right ^ 0x8000,
            !right,
            right.swap_bytes(),
            0xffff,
            partial ^ 1,
        ] {
            table.not_answered(
                &format!("{wrong:04x}, {family}"),
                checksum(wrong),
                Verdict::Checksum,
            );
        }
        // Each octet of the message that does not change what is asked.
        for (what, at) in [("id", 0), ("RD", 2), ("the letter case", 13)] {
            let octet = sent[udp + 8 + at] ^ if at == 13 { 0x20 } else { 1 };
            let damaged = replaced(&frame, udp + 8 + at, &[octet]);
            table.not_answered(
                &format!("{what} is damaged, {family}"),
                damaged,
                Verdict::Checksum,
            );
        }
        let from = replaced(&frame, udp, &[0x9c, 0x41]);
        table.not_answered(
            &format!("the source port is damaged, {family}"),
            from,
            Verdict::Checksum,
        );
    }
    table
        .not_answered(
            "the TTL is damaged",
            damaged(IP + 8, &[18]),
            Verdict::Checksum,
        )
        .not_answered(
            "the source address is damaged",
            damaged(IP + 15, &[5]),
            Verdict::Checksum,
        );
    zero(table);
}

/// Responses whose checksum is computed as 0 and sent as all ones.
fn zero(table: &mut Table) {
    table.number(55);
    for name in ["'n01'", "'nn01'"] {
        let question = format!("{name} 'mesos' . 0001 0001");
        for family in [query, query_v6] {
            let at = |id: u32| {
                let frame = family(octets(&format!(
                    "{id:04x} 0100 0001 0000 0000 0000 {question}"
                )));
                let answer = octets(&format!(
                    "{id:04x} 8580 0001 0001 0000 0000 {question} c00c 0001 0001 0000003c 0004 0a020101"
                ));
                let reply = frame.reply(answer.clone()).octets();
                let udp = reply.len() - 8 - answer.len();
                (reply[udp + 6..udp + 8] == [0xff, 0xff]).then_some((frame, answer))
            };
            let (frame, answer) = (0..0x1_0000).find_map(at).expect("an id");
            let id = format!("{:02x}{:02x}", answer[0], answer[1]);
            table.answered(format!("{name} with id {id}"), &frame, ANSWERED, answer);
            let mut wrong = frame.octets();
            let udp = wrong.len() - 8 - frame.payload.len();
            wrong[udp + 7] ^= 1;
            table.not_answered(&format!("{name}, and damaged"), wrong, Verdict::Checksum);
        }
    }
}

fn extension_headers(table: &mut Table) {
    let with = |next: u8, header: [u8; 8]| {
        let mut octets = v6().octets();
        octets.splice(UDP_V6..UDP_V6, header);
        octets[IP + 6] = next;
        let length = 8 + u16::from_be_bytes([octets[IP + 4], octets[IP + 5]]);
        octets[IP + 4..IP + 6].copy_from_slice(&length.to_be_bytes());
        octets
    };
    // The next header is UDP; the rest is a PadN option of four octets.
    let padding = [17, 0, 1, 4, 0, 0, 0, 0];
    table
        .number(57)
        .answered("none", &v6(), ANSWERED, response())
        .passed(
            "hop-by-hop options",
            with(0, padding),
            Verdict::IpOptions,
            whole(),
        )
        .passed(
            "destination options",
            with(60, padding),
            Verdict::IpOptions,
            whole(),
        )
        .passed(
            "an atomic fragment (RFC 6946)",
            with(44, [17, 0, 0, 0, 0, 0, 0, 7]),
            Verdict::IpOptions,
            whole(),
        )
        .not_answered(
            "a first fragment",
            with(44, [17, 0, 0, 1, 0, 0, 0, 7]),
            Verdict::IpOptions,
        )
        .passed(
            "a routing header",
            with(43, [17, 0, 0, 0, 0, 0, 0, 0]),
            Verdict::IpOptions,
            Service::Host(response()),
        )
        .not_answered(
            "no next header",
            replaced(&v6(), IP + 6, &[59]),
            Verdict::IpOptions,
        );
}
