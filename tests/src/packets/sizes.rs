//! The size of the response (RFC 1035, section 4.2.1; RFC 2181, section 9; RFC 6891, section 6.2;
//! RFC 9715).

use dns_common::Verdict;

use super::{PLAIN, Table, WITH_OPT, query, query_v6};
use crate::octets::octets;

/// Names with as many addresses as make the response as large as the name says: 512 and 513 octets
/// without OPT and with it, 1232 and 1233 with it.
const SIZED: [(&str, u32); 6] = [
    ("exact512", 30),
    ("exact-513", 30),
    ("edns-exact512", 29),
    ("edns-exact-513", 29),
    ("edns-full1232", 74),
    ("edns-over-1232", 74),
];

/// The id of every query here.
const ID: u32 = 0x1234;

pub(super) fn records(lines: &mut Vec<String>) {
    for (label, count) in SIZED {
        for number in 1..=count {
            lines.push(format!("{label}.mesos A 10.1.0.{number}"));
        }
    }
    for count in 1..=16 {
        for label in ["n", "nn"] {
            for number in 1..=count {
                lines.push(format!("{label}{count:02}.mesos A 10.2.{count}.{number}"));
            }
        }
    }
}

/// Addresses, beginning with that which the id tells.
fn addresses(prefix: &str, count: u32) -> String {
    (0..count)
        .map(|place| {
            let number = 1 + (ID + place) % count;
            format!("c00c 0001 0001 0000003c 0004 {prefix}{number:02x} ")
        })
        .collect()
}

fn opt(size: u32) -> String {
    format!("00 0029 {size:04x} 00 00 0000 0000")
}

pub(super) fn add(table: &mut Table) {
    // Whole or truncated: label, addresses, the size that the client offers, octets of the response.
    let cases: [(u8, &str, u32, Option<u32>, usize); 13] = [
        (43, "exact-513", 30, None, 33),
        (43, "exact-513", 30, Some(1232), 524),
        (44, "exact512", 30, None, 512),
        (44, "edns-exact512", 29, Some(512), 512),
        (44, "edns-exact-513", 29, Some(512), 49),
        (44, "edns-exact-513", 29, Some(513), 513),
        (44, "edns-exact512", 29, Some(0), 512),
        (44, "edns-full1232", 74, Some(1232), 1232),
        (44, "edns-full1232", 74, Some(1231), 48),
        (45, "edns-full1232", 74, Some(4096), 1232),
        (45, "edns-over-1232", 74, Some(4096), 49),
        (45, "edns-over-1232", 74, Some(65_535), 49),
        (45, "edns-over-1232", 74, None, 38),
    ];
    for (number, label, count, size, expected) in cases {
        let question = format!("'{label}' 'mesos' . 0001 0001");
        let whole = expected > 100;
        let (header, sent, added) = match size {
            None => (PLAIN, String::new(), String::new()),
            Some(size) => (WITH_OPT, opt(size), opt(1232)),
        };
        let (flags, answers) = if whole { ("8580", count) } else { ("8780", 0) };
        let records = if whole {
            addresses("0a0100", count)
        } else {
            String::new()
        };
        let more = u32::from(size.is_some());
        let response =
            format!("1234 {flags} 0001 {answers:04x} 0000 {more:04x} {question} {records} {added}");
        assert_eq!(octets(&response).len(), expected, "{label} {size:?}");
        let verdict = if whole {
            Verdict::Answered
        } else {
            Verdict::Truncated
        };
        table.number(number).tx(
            &format!("{label} for {size:?}"),
            &format!("{header} {question} {sent}"),
            verdict,
            &response,
        );
    }
    for number in [43, 44, 45] {
        let question = "'exact512' 'mesos' . 0001 0003";
        table.number(number).up(
            "another class",
            &format!("{PLAIN} {question}"),
            Verdict::Class,
            &format!("1234 8105 0001 0000 0000 0000 {question}"),
        );
    }
    parities(table);
    shorter(table);
}

/// Names of even and odd length, with and without OPT, with 1 to 16 addresses.
fn parities(table: &mut Table) {
    table.number(56);
    for count in 1..=16 {
        for label in ["n", "nn"] {
            let question = format!("'{label}{count:02}' 'mesos' . 0001 0001");
            let records = addresses(&format!("0a02{count:02x}"), count);
            let name = format!("{label}{count:02}");
            table.tx(
                &name,
                &format!("{PLAIN} {question}"),
                Verdict::Answered,
                &format!("1234 8580 0001 {count:04x} 0000 0000 {question} {records}"),
            );
            table.tx(
                &format!("{name} with OPT"),
                &format!("{WITH_OPT} {question} {}", opt(4096)),
                Verdict::Answered,
                &format!(
                    "1234 8580 0001 {count:04x} 0000 0001 {question} {records} {}",
                    opt(1232)
                ),
            );
        }
    }
    for frame in [query, query_v6] {
        let question = "'n01' 'mesos' . 0001 0001";
        let mut octets = frame(octets(&format!("{PLAIN} {question}"))).octets();
        // The last octet of the class: the checksum does not agree any more.
        *octets.last_mut().expect("an octet") = 0;
        table.passed(
            "a class that is damaged",
            octets,
            Verdict::Class,
            super::Service::Unreached,
        );
    }
}

/// Responses that are shorter than their queries.
fn shorter(table: &mut Table) {
    let web = super::WEB;
    let answer = format!(
        "1234 8580 0001 0001 0000 0001 {web} {} {}",
        super::WEB_A,
        opt(1232)
    );
    table.number(47);
    for octets in [0, 1, 15, 100, 200, 280] {
        let data = format!("000c {octets:04x} {}", "00".repeat(octets));
        let sent = format!("00 0029 04d0 00 00 0000 {:04x} {data}", octets + 4);
        table.tx(
            &format!("{octets} octets of padding"),
            &format!("{WITH_OPT} {web} {sent}"),
            Verdict::Answered,
            &answer,
        );
    }
    let data = format!("000c 0190 {}", "00".repeat(400));
    table.up(
        "400 octets of padding",
        &format!("{WITH_OPT} {web} 00 0029 04d0 00 00 0000 0194 {data}"),
        Verdict::Edns,
        &answer,
    );
}
