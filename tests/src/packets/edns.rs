//! The OPT record (RFC 6891) and what it carries.

use dns_common::Verdict;

use super::{FORMERR, OPT, Table, WEB, WEB_A, WITH_OPT};

const ANSWER: &str = "1234 8580 0001 0001 0000 0001";

pub(super) fn add(table: &mut Table) {
    let good = format!("{ANSWER} {WEB} {WEB_A} {OPT}");
    owner_and_version(table, &good);
    sizes_and_flags(table, &good);
    options(table, &good);
    trailing(table, &good);
}

/// An OPT record of this type, size, code, version, flags and RDATA.
fn query(opt: &str) -> String {
    format!("{WITH_OPT} {WEB} {opt}")
}

fn owner_and_version(table: &mut Table, good: &str) {
    table
        .number(8)
        .tx("the root", &query(OPT), Verdict::Answered, good)
        .up(
            "an owner of one label",
            &query("01 61 00 0029 04d0 00 00 0000 0000"),
            Verdict::Edns,
            FORMERR,
        )
        .up(
            "a pointer",
            &query("c00c 0029 04d0 00 00 0000 0000"),
            Verdict::Edns,
            FORMERR,
        );
    let badvers = |flags: &str| {
        format!("1234 8100 0001 0000 0000 0001 {WEB} 00 0029 04d0 01 00 {flags} 0000")
    };
    let nowhere = "'web' 'elsewhere' 'example' . 0001 0001";
    table
        .number(9)
        .tx("version 0", &query(OPT), Verdict::Answered, good)
        .tx(
            "version 1",
            &query("00 0029 04d0 00 01 0000 0000"),
            Verdict::BadVersion,
            &badvers("0000"),
        )
        .tx(
            "version 100 with DO, a flag and an option",
            &query("00 0029 04d0 00 64 ffff 0006 0064 0002 abcd"),
            Verdict::BadVersion,
            &badvers("8000"),
        )
        .tx(
            "a code in a query means nothing",
            &query("00 0029 04d0 ff 00 0000 0000"),
            Verdict::Answered,
            good,
        )
        .up(
            "version 1 of a name elsewhere",
            &format!("{WITH_OPT} {nowhere} 00 0029 04d0 00 01 0000 0000"),
            Verdict::Miss,
            &format!("1234 8100 0001 0000 0000 0001 {nowhere} 00 0029 04d0 01 00 0000 0000"),
        );
}

fn sizes_and_flags(table: &mut Table, good: &str) {
    table.number(10);
    for size in ["0000", "0064", "01ff", "0200", "ffff"] {
        table.tx(
            &format!("size {size}"),
            &query(&format!("00 0029 {size} 00 00 0000 0000")),
            Verdict::Answered,
            good,
        );
    }
    table.up(
        "size 100 and RDATA that is not there",
        &query("00 0029 0064 00 00 0000 0001"),
        Verdict::Edns,
        FORMERR,
    );
    let dnssec_ok = format!("{ANSWER} {WEB} {WEB_A} 00 0029 04d0 00 00 8000 0000");
    table
        .number(11)
        .tx("DO is 0", &query(OPT), Verdict::Answered, good)
        .tx(
            "DO is copied (RFC 3225)",
            &query("00 0029 04d0 00 00 8000 0000"),
            Verdict::Answered,
            &dnssec_ok,
        )
        .up(
            "DO, and another type of record",
            &query("00 0028 04d0 00 00 8000 0000"),
            Verdict::Edns,
            &format!("1234 8580 0001 0001 0000 0000 {WEB} {WEB_A}"),
        );
    table
        .number(12)
        .tx(
            "every flag but DO",
            &query("00 0029 04d0 00 00 7fff 0000"),
            Verdict::Answered,
            good,
        )
        .tx(
            "every flag",
            &query("00 0029 04d0 00 00 ffff 0000"),
            Verdict::Answered,
            &dnssec_ok,
        )
        .up(
            "every flag, and the record cut",
            &query("00 0029 04d0 00 00 7fff 00"),
            Verdict::Edns,
            FORMERR,
        );
}

fn options(table: &mut Table, good: &str) {
    let with =
        |data: &str, octets: usize| query(&format!("00 0029 04d0 00 00 0000 {octets:04x} {data}"));
    let cookie = "000a 0008 0102030405060708";
    table
        .number(13)
        .tx(
            "a client's cookie is not echoed",
            &with(cookie, 12),
            Verdict::Answered,
            good,
        )
        .up(
            "a cookie that overruns its record",
            &with("000a 0009 0102030405060708", 12),
            Verdict::Edns,
            FORMERR,
        );
    table
        .number(14)
        .tx(
            "a cookie of 5 octets: cookies are not implemented",
            &with("000a 0005 0102030405", 9),
            Verdict::Answered,
            good,
        )
        .up(
            "a cookie of 5 octets in 4",
            &with("000a 0005 01020304", 8),
            Verdict::Edns,
            FORMERR,
        );
    table.number(15);
    for (what, data, octets) in [
        ("NSID (RFC 5001)", "0003 0000", 4),
        ("ECS (RFC 7871)", "0008 0007 0001 1800 c00002", 11),
        ("padding (RFC 7830)", "000c 0006 000000000000", 10),
        ("keepalive (RFC 7828)", "000b 0000", 4),
        ("65001", "fde9 0003 616263", 7),
        ("three of them", "0003 0000 000b 0000 fde9 0001 ff", 13),
        (
            "eight of them",
            "0003 0000 0003 0000 0003 0000 0003 0000 0003 0000 0003 0000 0003 0000 0003 0000",
            32,
        ),
    ] {
        table.tx(what, &with(data, octets), Verdict::Answered, good);
    }
    table.up(
        "nine of them",
        &with(&"0003 0000 ".repeat(9), 36),
        Verdict::Edns,
        good,
    );
    table
        .number(16)
        .tx(
            "RDATA as long as it says",
            &with("fde9 0000", 4),
            Verdict::Answered,
            good,
        )
        .up(
            "RDATA that is missing",
            &with("", 4),
            Verdict::Edns,
            FORMERR,
        )
        .up(
            "RDATA that is cut",
            &with("fde9 00", 4),
            Verdict::Edns,
            FORMERR,
        )
        .up(
            "65,535 octets",
            &with("fde9 0000", 0xffff),
            Verdict::Edns,
            FORMERR,
        );
    table
        .number(17)
        .tx(
            "an option that ends",
            &with("fde9 0002 6162", 6),
            Verdict::Answered,
            good,
        )
        .up(
            "one that does not",
            &with("fde9 0003 6162", 6),
            Verdict::Edns,
            FORMERR,
        )
        .up("half a head", &with("fde9 00", 3), Verdict::Edns, FORMERR)
        .up(
            "a second that does not",
            &with("fde9 0000 fde9 ffff", 8),
            Verdict::Edns,
            FORMERR,
        );
}

fn trailing(table: &mut Table, good: &str) {
    let plain = format!("{} {WEB}", super::PLAIN);
    table
        .number(18)
        .tx("nothing behind OPT", &query(OPT), Verdict::Answered, good)
        .up(
            "an octet behind OPT",
            &query(&format!("{OPT} 00")),
            Verdict::Edns,
            FORMERR,
        )
        .up(
            "an octet behind the question",
            &format!("{plain} 00"),
            Verdict::Length,
            FORMERR,
        )
        .up(
            "a record that is not counted",
            &format!("{plain} {OPT}"),
            Verdict::Length,
            FORMERR,
        );
}
