//! The name of the question (RFC 1035, sections 2.3.4 and 4.1.4; RFC 4343; RFC 4592; RFC 8020).

use dns_common::{Verdict, name};

use super::{ANSWER, FORMERR, PLAIN, SOA, Table, WEB_A};
use crate::{kernel::SEED, octets::octets};

const A_IN: &str = "0001 0001";
/// Octets of the labels before the zone, about where others cut their keys off.
const CUTS: [usize; 3] = [48, 63, 128];

/// The labels of a name of `octets` octets that ends in `last` before its zone.
fn long(octets: usize, last: char) -> Vec<String> {
    let mut left = octets - 1;
    let mut labels = Vec::new();
    while left > 0 {
        let label = left.min(60);
        labels.push("p".repeat(label));
        left -= label;
    }
    let end = labels.last_mut().expect("a label");
    end.push(last);
    labels
}

fn notation(labels: &[String]) -> String {
    let labels: Vec<String> = labels.iter().map(|label| format!("'{label}'")).collect();
    labels.join(" ") + " 'mesos' ."
}

/// Two names with the same hash under [`SEED`]: what the first word changes, the second undoes. Only
/// the first is in the zone.
///
/// # Panics
/// If names are hashed in another way than this knows.
fn colliding() -> [Vec<u8>; 2] {
    let word = |octets: &[u8]| u64::from_le_bytes(octets.try_into().expect("eight octets"));
    let after = |first: u64| {
        let input = SEED ^ first;
        let mixed = (input ^ (input >> 29)).wrapping_mul(0x9fb2_1c65_1e98_df25);
        mixed ^ (mixed >> 32)
    };
    // One label of 31 octets, of which this is the front.
    let one: [u8; 16] = *b"\x1fcollidexxxxxxxx";
    let other = (0..0x10_0000)
        .map(|number| {
            let mut other = one;
            other[3..8].copy_from_slice(format!("{number:05x}").as_bytes());
            let second = word(&one[8..]) ^ after(word(&one[..8])) ^ after(word(&other[..8]));
            other[8..].copy_from_slice(&second.to_le_bytes());
            other
        })
        .find(|other| {
            let back = &other[8..];
            !back.contains(&0) && !back.iter().any(u8::is_ascii_uppercase)
        })
        .expect("a name");
    let rest = b"yyyyyyyyyyyyyyyy\x05mesos\0";
    let names = [one, other].map(|front| [&front[..], &rest[..]].concat());
    let hashes = names.each_ref().map(|wire| name::hash(SEED, wire));
    assert_eq!(hashes[0], hashes[1], "names are hashed in another way");
    names
}

/// A wire name as the presentation format with every octet escaped.
fn text(wire: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = wire;
    while let [length, after @ ..] = rest
        && *length > 0
    {
        let (label, next) = after.split_at(usize::from(*length));
        for octet in label {
            text.push_str(&format!("\\{octet:03}"));
        }
        text.push('.');
        rest = next;
    }
    text
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

pub(super) fn records(lines: &mut Vec<String>) {
    lines.push(format!("{}.mesos A 10.0.0.63", "l".repeat(63)));
    for octets in CUTS {
        for (last, number) in [('a', 1), ('b', 2)] {
            lines.push(format!(
                "{}.mesos A 10.0.{octets}.{number}",
                long(octets, last).join(".")
            ));
        }
    }
    // What lies beside the letters: '[' and '{', '@' and '`', two letters of Latin-1.
    lines.push("\\123x.mesos A 10.0.0.91".to_owned());
    lines.push("\\096x.mesos A 10.0.0.64".to_owned());
    lines.push("\\225x.mesos A 10.0.0.225".to_owned());
    lines.push(format!("{} A 10.0.0.99", text(&colliding()[0])));
    lines.push("a.b.deep.mesos A 10.0.0.4".to_owned());
    // mesos-dns takes tasks with a star in their name, too.
    for (owner, number) in [("*", 2), ("*ne", 3), ("one", 4)] {
        lines.push(format!("{owner}.wf.mesos A 10.9.9.{number}"));
    }
}

fn answer(question: &str, address: &str) -> String {
    format!("{ANSWER} {question} c00c 0001 0001 0000003c 0004 {address}")
}

/// A denial with the SOA, whose owner is found at `apex`.
fn denial(flags: &str, question: &str, apex: usize) -> String {
    format!(
        "1234 {flags} 0001 0000 0001 0000 {question} {:04x} {SOA}",
        0xc000 + apex
    )
}

pub(super) fn add(table: &mut Table) {
    letters(table);
    malformed(table);
    lengths(table);
    truncated(table);
    alike(table);
    tree(table);
}

fn letters(table: &mut Table) {
    let mixed = "'wEb' 'MaRaThOn' 'MeSoS' . 0001 0001";
    table
        .number(22)
        .tx(
            "mixed case",
            &format!("{PLAIN} {mixed}"),
            Verdict::Answered,
            &format!("{ANSWER} {mixed} {WEB_A}"),
        )
        .up(
            "mixed case and another class",
            &format!("{PLAIN} 'wEb' 'MaRaThOn' 'MeSoS' . 0001 0004"),
            Verdict::Class,
            "1234 8105 0001 0000 0000 0000 'wEb' 'MaRaThOn' 'MeSoS' . 0001 0004",
        );
    table.number(29);
    for (what, octet, address) in [
        ("{ is itself", "7b", "0a00005b"),
        ("` is itself", "60", "0a000040"),
        ("an octet of Latin-1", "e1", "0a0000e1"),
    ] {
        let question = format!("02 {octet} 78 'mesos' . {A_IN}");
        table.tx(
            what,
            &format!("{PLAIN} {question}"),
            Verdict::Answered,
            &answer(&question, address),
        );
    }
    for (what, octet) in [
        ("[ is not {", "5b"),
        ("@ is not `", "40"),
        ("no letter of ASCII folds", "c1"),
        ("nor does 0xff", "ff"),
    ] {
        let question = format!("02 {octet} 78 'mesos' . {A_IN}");
        table.tx(
            what,
            &format!("{PLAIN} {question}"),
            Verdict::NxDomain,
            &denial("8583", &question, 15),
        );
    }
    // A zero in a label is no end of the name.
    let zero = format!("03 77 00 62 'marathon' 'mesos' . {A_IN}");
    table
        .up(
            "a zero octet in a label",
            &format!("{PLAIN} {zero}"),
            Verdict::Class,
            &denial("8583", &zero, 25),
        )
        .up(
            "a zero octet, then what would be type and class",
            &format!("{PLAIN} 06 77 00 0001 0001 'mesos' . {A_IN}"),
            Verdict::Length,
            &denial("8583", &format!("06 77 00 0001 0001 'mesos' . {A_IN}"), 19),
        );
}

fn malformed(table: &mut Table) {
    table.number(23).ordinary();
    // The program takes the first zero octet for the root, and what is before it for no name.
    for (what, name, ends_early, with_root) in [
        (
            "a pointer to itself",
            "c00c",
            Verdict::Malformed,
            Verdict::Miss,
        ),
        (
            "a pointer to the header",
            "c000",
            Verdict::Miss,
            Verdict::Class,
        ),
        (
            "a pointer forward",
            "c012",
            Verdict::Malformed,
            Verdict::Miss,
        ),
        (
            "a pointer behind a label",
            "'web' c00c",
            Verdict::Malformed,
            Verdict::Miss,
        ),
    ] {
        table
            .up(what, &format!("{PLAIN} {name} {A_IN}"), ends_early, FORMERR)
            .up(
                &format!("{what}, and a root"),
                &format!("{PLAIN} {name} 00 {A_IN}"),
                with_root,
                FORMERR,
            );
    }
    table.number(24).ordinary();
    for first in ["43", "83"] {
        table.up(
            &format!("label type {first}"),
            &format!("{PLAIN} {first} 77 65 62 'marathon' 'mesos' . {A_IN}"),
            Verdict::Miss,
            FORMERR,
        );
    }
}

fn lengths(table: &mut Table) {
    let most = format!("'{}' 'mesos' . {A_IN}", "l".repeat(63));
    table
        .number(25)
        .tx(
            "a label of 63 octets",
            &format!("{PLAIN} {most}"),
            Verdict::Answered,
            &answer(&most, "0a00003f"),
        )
        .up(
            "a label of 64 octets",
            &format!("{PLAIN} '{}' 'mesos' . {A_IN}", "l".repeat(64)),
            Verdict::Miss,
            FORMERR,
        );
    let of = |last: usize| {
        let label = "n".repeat(63);
        format!(
            "'{label}' '{label}' '{label}' '{}' 'mesos' . {A_IN}",
            "n".repeat(last)
        )
    };
    table
        .number(26)
        .tx(
            "a name of 255 octets",
            &format!("{PLAIN} {}", of(55)),
            Verdict::NxDomain,
            &denial("8583", &of(55), 12 + 248),
        )
        .up(
            "a name of 256 octets",
            &format!("{PLAIN} {}", of(56)),
            Verdict::Malformed,
            FORMERR,
        );
    let labels = |count: usize| format!("{} 'mesos' . {A_IN}", "'n' ".repeat(count));
    table
        .number(27)
        .tx(
            "8 labels before the zone",
            &format!("{PLAIN} {}", labels(8)),
            Verdict::NxDomain,
            &denial("8583", &labels(8), 12 + 16),
        )
        .up(
            "127 labels less the zone's own",
            &format!("{PLAIN} {}", labels(124)),
            Verdict::Miss,
            &denial("8583", &labels(124), 12 + 248),
        );
    table.number(28).ordinary();
    for (what, rtype) in [("NS of the root", "0002"), ("A of the root", "0001")] {
        table.up(
            what,
            &format!("{PLAIN} . {rtype} 0001"),
            Verdict::Miss,
            &format!("1234 8105 0001 0000 0000 0000 . {rtype} 0001"),
        );
    }
}

fn truncated(table: &mut Table) {
    table.number(30).ordinary();
    for (what, name) in [
        ("a name without its end", "'web' 'marathon' 'mesos'"),
        ("a label that is cut", "'web' 'marathon' 05 6d65"),
        ("nothing behind the header", ""),
    ] {
        table.up(
            what,
            &format!("{PLAIN} {name}"),
            Verdict::Malformed,
            FORMERR,
        );
    }
    table.number(31).ordinary();
    for (what, rest) in [
        ("no type", ""),
        ("half a type", "00"),
        ("no class", "0001"),
        ("half a class", "0001 00"),
    ] {
        table.up(
            what,
            &format!("{PLAIN} 'web' 'marathon' 'mesos' . {rest}"),
            Verdict::Malformed,
            FORMERR,
        );
    }
}

fn alike(table: &mut Table) {
    table.number(32);
    for octets in CUTS {
        for (last, number) in [('a', 1), ('b', 2)] {
            let question = format!("{} {A_IN}", notation(&long(octets, last)));
            table.tx(
                &format!("{last} after {octets} octets"),
                &format!("{PLAIN} {question}"),
                Verdict::Answered,
                &answer(&question, &format!("0a00{octets:02x}{number:02x}")),
            );
        }
        let question = format!("{} 0001 0003", notation(&long(octets, 'a')));
        table.up(
            "and another class",
            &format!("{PLAIN} {question}"),
            Verdict::Class,
            &format!("1234 8105 0001 0000 0000 0000 {question}"),
        );
    }
    let [stored, other] = colliding();
    let stored = format!("{} {A_IN}", hex(&stored));
    let other = format!("{} {A_IN}", hex(&other));
    assert_eq!(octets(&stored).len(), octets(&other).len());
    table
        .number(33)
        .tx(
            "a name",
            &format!("{PLAIN} {stored}"),
            Verdict::Answered,
            &answer(&stored, "0a000063"),
        )
        .up(
            "another with the same hash",
            &format!("{PLAIN} {other}"),
            Verdict::Collision,
            &denial("8583", &other, 12 + 32),
        );
}

fn tree(table: &mut Table) {
    let between = format!("'deep' 'mesos' . {A_IN}");
    let missing = format!("'dee' 'mesos' . {A_IN}");
    table
        .number(34)
        .tx(
            "an empty non-terminal",
            &format!("{PLAIN} {between}"),
            Verdict::NoData,
            &denial("8580", &between, 17),
        )
        .tx(
            "one deeper",
            &format!("{PLAIN} 'b' {between}"),
            Verdict::NoData,
            &denial("8580", &format!("'b' {between}"), 19),
        )
        .tx(
            "no such name",
            &format!("{PLAIN} {missing}"),
            Verdict::NxDomain,
            &denial("8583", &missing, 16),
        )
        .up(
            "an empty non-terminal of another class",
            &format!("{PLAIN} 'deep' 'mesos' . 0001 0003"),
            Verdict::Class,
            "1234 8105 0001 0000 0000 0000 'deep' 'mesos' . 0001 0003",
        );
    let below = format!("'a' 'cut' 'mesos' . {A_IN}");
    let wild = format!("'a' 'wild' 'directory' . {A_IN}");
    let plain = format!("'plain' 'directory' . {A_IN}");
    let star = format!("'*' 'wf' 'mesos' . {A_IN}");
    let beside = format!("'dee' 'wf' 'mesos' . {A_IN}");
    let glued = format!("'o' '*ne' 'wf' 'mesos' . {A_IN}");
    table
        .number(35)
        .tx(
            "a name beside",
            &format!("{PLAIN} {plain}"),
            Verdict::Answered,
            &answer(&plain, "0a090901"),
        )
        .up(
            "a name below a zone cut",
            &format!("{PLAIN} {below}"),
            Verdict::Miss,
            // A referral: no AA (RFC 1034, section 4.3.2).
            &format!(
                "1234 8180 0001 0000 0001 0000 {below} c00e 0002 0001 0000003c 0017 'ns1' \
                 'elsewhere' 'example' ."
            ),
        )
        .up(
            "a name that a wildcard gives",
            &format!("{PLAIN} {wild}"),
            Verdict::Miss,
            &answer(&wild, "0a090909"),
        )
        .tx(
            "a star that is no wildcard",
            &format!("{PLAIN} {star}"),
            Verdict::Answered,
            &answer(&star, "0a090902"),
        )
        .tx(
            "a name beside it",
            &format!("{PLAIN} {beside}"),
            Verdict::NxDomain,
            &denial("8583", &beside, 19),
        )
        .up(
            "a name below a label with a star, which is another name",
            &format!("{PLAIN} {glued}"),
            Verdict::Miss,
            &format!("{ANSWER} {glued} 'one' c012 0001 0001 0000003c 0004 0a090904"),
        );
    let alias = "'alias' 'mesos' .";
    table
        .number(36)
        .tx(
            "the address of an alias",
            &format!("{PLAIN} {alias} {A_IN}"),
            Verdict::Answered,
            &format!(
                "1234 8580 0001 0002 0000 0000 {alias} {A_IN} \
                 c00c 0005 0001 0000003c 0014 'web' 'marathon' 'mesos' . \
                 c029 0001 0001 0000003c 0004 0a000001"
            ),
        )
        .tx(
            "the alias itself",
            &format!("{PLAIN} {alias} 0005 0001"),
            Verdict::Answered,
            &format!(
                "{ANSWER} {alias} 0005 0001 c00c 0005 0001 0000003c 0014 'web' 'marathon' 'mesos' ."
            ),
        )
        .up(
            "an alias and another class",
            &format!("{PLAIN} {alias} 0001 0003"),
            Verdict::Class,
            &format!("1234 8105 0001 0000 0000 0000 {alias} 0001 0003"),
        );
}
