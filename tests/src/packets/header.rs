//! The message header: counts, flags, opcode, id (RFC 1035, section 4.1.1; RFC 9619).

use dns_common::Verdict;

use super::{ANSWER, FORMERR, OPT, PLAIN, Table, WEB, WEB_A};

pub(super) fn add(table: &mut Table) {
    counts(table);
    opcodes(table);
    other_records(table);
    flags(table);
}

fn counts(table: &mut Table) {
    let cookie = "00 0029 04d0 00 00 0000 000c  000a 0008 0102030405060708";
    table
        .number(1)
        .ordinary()
        .up(
            "QDCOUNT 0",
            "1234 0100 0000 0000 0000 0000",
            Verdict::Counts,
            FORMERR,
        )
        .up(
            "QDCOUNT 0 before a question",
            &format!("1234 0100 0000 0000 0000 0000 {WEB}"),
            Verdict::Counts,
            FORMERR,
        )
        .up(
            "QDCOUNT 0 with a cookie",
            &format!("1234 0100 0000 0000 0000 0001 {cookie}"),
            Verdict::Counts,
            &format!("1234 8001 0000 0000 0000 0001 {OPT}"),
        );
    table
        .number(2)
        .ordinary()
        .up(
            "QDCOUNT 2 (RFC 9619)",
            &format!("1234 0100 0002 0000 0000 0000 {WEB} {WEB}"),
            Verdict::Counts,
            FORMERR,
        )
        .up(
            "QDCOUNT 2 with one question",
            &format!("1234 0100 0002 0000 0000 0000 {WEB}"),
            Verdict::Counts,
            FORMERR,
        )
        .up(
            "QDCOUNT 256",
            &format!("1234 0100 0100 0000 0000 0000 {WEB}"),
            Verdict::Counts,
            FORMERR,
        )
        .up(
            "a second question that is not counted",
            &format!("{PLAIN} {WEB} {WEB}"),
            Verdict::Length,
            FORMERR,
        );
}

fn opcodes(table: &mut Table) {
    table
        .number(3)
        .ordinary()
        .up(
            "QR",
            &format!("1234 8100 0001 0000 0000 0000 {WEB}"),
            Verdict::NotQuery,
            "",
        )
        .up(
            "a whole response",
            &format!("{ANSWER} {WEB} {WEB_A}"),
            Verdict::NotQuery,
            "",
        );
    table.number(4).ordinary();
    for (name, opcode) in [
        ("IQUERY", 1),
        ("STATUS", 2),
        ("opcode 3", 3),
        ("NOTIFY", 4),
        ("UPDATE", 5),
        ("DSO", 6),
        ("opcode 15", 15),
    ] {
        let query = format!("1234 {:02x}00 0001 0000 0000 0000 {WEB}", opcode << 3 | 1);
        let notimp = format!("1234 {:02x}04 0000 0000 0000 0000", opcode << 3 | 0x80);
        table.up(name, &query, Verdict::NotQuery, &notimp);
    }
    table.up(
        "STATUS with an OPT record",
        &format!("1234 1100 0001 0000 0000 0001 {WEB} {OPT}"),
        Verdict::NotQuery,
        &format!("1234 9004 0000 0000 0000 0001 {OPT}"),
    );
}

fn other_records(table: &mut Table) {
    let soa = "c015 0006 0001 00000000 0016 00 00 00000001 00000002 00000003 00000004 00000005";
    let ixfr = "'web' 'marathon' 'mesos' . 00fb 0001";
    table
        .number(5)
        .ordinary()
        .up(
            "ANCOUNT 1 without a record",
            &format!("1234 0100 0001 0001 0000 0000 {WEB}"),
            Verdict::Counts,
            FORMERR,
        )
        .up(
            "an answer in a query",
            &format!("1234 0100 0001 0001 0000 0000 {WEB} {WEB_A}"),
            Verdict::Counts,
            &format!("{ANSWER} {WEB} {WEB_A}"),
        )
        .up(
            "IXFR with its SOA (RFC 1995)",
            &format!("1234 0000 0001 0000 0001 0000 {ixfr} {soa}"),
            Verdict::Counts,
            &format!("1234 8005 0001 0000 0000 0000 {ixfr}"),
        );
    let tsig = "'key' . 00fa 00ff 00000000 0003 010203";
    let sig0 = "00 0018 00ff 00000000 0003 010203";
    let query = format!("1234 0100 0001 0000 0000 0001 {WEB}");
    let plain = format!("{ANSWER} {WEB} {WEB_A}");
    table
        .number(6)
        .tx(
            "OPT",
            &format!("{query} {OPT}"),
            Verdict::Answered,
            &format!("1234 8580 0001 0001 0000 0001 {WEB} {WEB_A} {OPT}"),
        )
        .up(
            "TSIG (RFC 8945)",
            &format!("{query} {tsig}"),
            Verdict::Edns,
            &plain,
        )
        .up(
            "SIG(0) (RFC 2931)",
            &format!("{query} {sig0}"),
            Verdict::Edns,
            &plain,
        )
        .up("ARCOUNT 1 without a record", &query, Verdict::Edns, FORMERR);
    let two = format!("1234 0100 0001 0000 0000 0002 {WEB}");
    table
        .number(7)
        .tx(
            "one OPT",
            &format!("{query} {OPT}"),
            Verdict::Answered,
            &format!("1234 8580 0001 0001 0000 0001 {WEB} {WEB_A} {OPT}"),
        )
        .up(
            "two OPT (RFC 6891, section 6.1.1)",
            &format!("{two} {OPT} {OPT}"),
            Verdict::Counts,
            FORMERR,
        )
        .up(
            "OPT and TSIG",
            &format!("{two} {OPT} {tsig}"),
            Verdict::Counts,
            &format!("1234 8580 0001 0001 0000 0001 {WEB} {WEB_A} {OPT}"),
        )
        .up(
            "a second OPT that is not counted",
            &format!("{query} {OPT} {OPT}"),
            Verdict::Edns,
            FORMERR,
        );
}

fn flags(table: &mut Table) {
    table.number(19);
    for (name, flags, given) in [
        ("TC", "0300", "8580"),
        ("AA", "0500", "8580"),
        ("RA", "0180", "8580"),
        ("Z", "0140", "8580"),
        ("AD", "0120", "8580"),
        ("CD", "0110", "8590"),
        ("RCODE 5", "0105", "8580"),
        ("all of them", "07ff", "8590"),
    ] {
        table.tx(
            name,
            &format!("1234 {flags} 0001 0000 0000 0000 {WEB}"),
            Verdict::Answered,
            &format!("1234 {given} 0001 0001 0000 0000 {WEB} {WEB_A}"),
        );
    }
    table.up(
        "all of them in a response",
        &format!("1234 87ff 0001 0000 0000 0000 {WEB}"),
        Verdict::NotQuery,
        "",
    );
    let notimp = "1234 9004 0000 0000 0000 0000";
    table
        .number(20)
        .ordinary()
        .tx(
            "RD is 0",
            &format!("1234 0000 0001 0000 0000 0000 {WEB}"),
            Verdict::Answered,
            &format!("1234 8480 0001 0001 0000 0000 {WEB} {WEB_A}"),
        )
        .up(
            "a bit of the opcode",
            &format!("1234 1000 0001 0000 0000 0000 {WEB}"),
            Verdict::NotQuery,
            notimp,
        );
    table.number(21);
    for id in ["0000", "ffff", "0100", "0001"] {
        table.tx(
            &format!("id {id}"),
            &format!("{id} 0100 0001 0000 0000 0000 {WEB}"),
            Verdict::Answered,
            &format!("{id} 8580 0001 0001 0000 0000 {WEB} {WEB_A}"),
        );
        table.up(
            &format!("id {id} and another class"),
            &format!("{id} 0100 0001 0000 0000 0000 'web' 'marathon' 'mesos' . 0001 0003"),
            Verdict::Class,
            &format!("{id} 8105 0001 0000 0000 0000 'web' 'marathon' 'mesos' . 0001 0003"),
        );
    }
}
