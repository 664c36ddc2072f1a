//! Type and class of the question (RFC 6895).

use dns_common::Verdict;

use super::{ANSWER, PLAIN, SOA, Table, WEB_A};

const NAME: &str = "'web' 'marathon' 'mesos' .";

/// What denies the type for [`NAME`].
fn nodata(rtype: &str) -> String {
    format!("1234 8580 0001 0000 0001 0000 {NAME} {rtype} 0001 c019 {SOA}")
}

/// An error with the question.
fn error(code: u8, rtype: &str, class: &str) -> String {
    format!("1234 81{code:02x} 0001 0000 0000 0000 {NAME} {rtype} {class}")
}

fn ask(rtype: &str, class: &str) -> String {
    format!("{PLAIN} {NAME} {rtype} {class}")
}

pub(super) fn add(table: &mut Table) {
    const FORMERR: u8 = 1;
    const NOTIMP: u8 = 4;
    const REFUSED: u8 = 5;
    let meta = Verdict::MetaType;
    table
        .number(37)
        .ordinary()
        .up(
            "ANY: one RRset (RFC 8482)",
            &ask("00ff", "0001"),
            meta,
            &format!("{ANSWER} {NAME} 00ff 0001 {WEB_A}"),
        )
        .up(
            "AXFR (RFC 5936, section 4.2)",
            &ask("00fc", "0001"),
            meta,
            &error(FORMERR, "00fc", "0001"),
        )
        .up(
            "IXFR",
            &ask("00fb", "0001"),
            meta,
            &error(REFUSED, "00fb", "0001"),
        );
    table
        .number(38)
        .ordinary()
        .up("type 0", &ask("0000", "0001"), meta, &nodata("0000"))
        .up(
            "OPT",
            &ask("0029", "0001"),
            meta,
            &error(FORMERR, "0029", "0001"),
        )
        .up(
            "TKEY",
            &ask("00f9", "0001"),
            meta,
            &error(NOTIMP, "00f9", "0001"),
        )
        .up(
            "TSIG",
            &ask("00fa", "0001"),
            meta,
            &error(NOTIMP, "00fa", "0001"),
        )
        .up(
            "type 128",
            &ask("0080", "0001"),
            meta,
            &error(NOTIMP, "0080", "0001"),
        );
    for (what, rtype) in [
        ("type 127", "007f"),
        ("type 256", "0100"),
        ("type 65535", "ffff"),
    ] {
        table.tx(what, &ask(rtype, "0001"), Verdict::NoData, &nodata(rtype));
    }
    table.number(39);
    for (what, rtype) in [("HTTPS", "0041"), ("SVCB", "0040")] {
        table
            .tx(what, &ask(rtype, "0001"), Verdict::NoData, &nodata(rtype))
            .up(
                what,
                &ask(rtype, "0003"),
                Verdict::Class,
                &error(REFUSED, rtype, "0003"),
            );
    }
    table.number(40).ordinary();
    for (what, class) in [
        ("class 0", "0000"),
        ("HS", "0004"),
        ("NONE", "00fe"),
        ("ANY", "00ff"),
    ] {
        table.up(
            what,
            &ask("0001", class),
            Verdict::Class,
            &error(REFUSED, "0001", class),
        );
    }
    let version = "'version' 'bind' . 0010 0003";
    table.up(
        "version.bind CH TXT",
        &format!("{PLAIN} {version}"),
        Verdict::Class,
        &format!("1234 8105 0001 0000 0000 0000 {version}"),
    );
    let apex =
        |rtype: &str| format!("1234 8580 0001 0000 0001 0000 'mesos' . {rtype} 0001 c00c {SOA}");
    table.number(41);
    for (what, rtype) in [("RRSIG", "002e"), ("NSEC", "002f"), ("DNSKEY", "0030")] {
        table.tx(
            what,
            &format!("{PLAIN} 'mesos' . {rtype} 0001"),
            Verdict::NoData,
            &apex(rtype),
        );
    }
    table.up(
        "DS belongs to the parent (RFC 4035, section 3.1.4.1)",
        &format!("{PLAIN} 'mesos' . 002b 0001"),
        meta,
        &apex("002b"),
    );
    let v6 = "'v6' 'mesos' .";
    table
        .number(42)
        .tx("AAAA of a name with A", &ask("001c", "0001"), Verdict::NoData, &nodata("001c"))
        .tx(
            "AAAA",
            &format!("{PLAIN} {v6} 001c 0001"),
            Verdict::Answered,
            &format!("{ANSWER} {v6} 001c 0001 c00c 001c 0001 0000003c 0010 20010db8 00000000 00000000 0000000a"),
        )
        .tx(
            "A of a name with AAAA",
            &format!("{PLAIN} {v6} 0001 0001"),
            Verdict::NoData,
            &format!("1234 8580 0001 0000 0001 0000 {v6} 0001 0001 c00f {SOA}"),
        )
        .up("AAAA of another class", &ask("001c", "0003"), Verdict::Class, &error(REFUSED, "001c", "0003"));
    others(table);
}

/// The other types that the zone has: SRV with its address, TXT, SOA and NS, and a DNAME.
fn others(table: &mut Table) {
    let srv = "'_web' '_tcp' 'marathon' 'mesos' . 0021 0001";
    let below = "'web' 'tree' 'mesos' . 0001 0001";
    table
        .number(76)
        .tx(
            "SRV with the address of its target",
            &format!("{PLAIN} {srv}"),
            Verdict::Answered,
            // The target is whole (RFC 2782); the address's owner points at it.
            &format!(
                "1234 8580 0001 0001 0000 0001 {srv} \
                 c00c 0021 0001 0000003c 001a 0000 0001 7918 'web' 'marathon' 'mesos' . \
                 c03c 0001 0001 0000003c 0004 0a000001"
            ),
        )
        .tx(
            "TXT",
            &format!("{PLAIN} 'txt' 'mesos' . 0010 0001"),
            Verdict::Answered,
            &format!("{ANSWER} 'txt' 'mesos' . 0010 0001 c00c 0010 0001 0000003c 0006 'hello'"),
        )
        .tx(
            "SOA",
            &format!("{PLAIN} 'mesos' . 0006 0001"),
            Verdict::Answered,
            &format!("{ANSWER} 'mesos' . 0006 0001 c00c {SOA}"),
        )
        .tx(
            "NS",
            &format!("{PLAIN} 'mesos' . 0002 0001"),
            Verdict::Answered,
            &format!("{ANSWER} 'mesos' . 0002 0001 c00c 0002 0001 0000003c 000b 'ns1' 'mesos' ."),
        )
        .up(
            "a name below a DNAME (RFC 6672)",
            &format!("{PLAIN} {below}"),
            Verdict::Miss,
            &format!(
                "1234 8580 0001 0003 0000 0000 {below} \
                 c010 0027 0001 0000003c 0010 'marathon' 'mesos' . \
                 c00c 0005 0001 0000003c 0014 'web' 'marathon' 'mesos' . \
                 c048 0001 0001 0000003c 0004 0a000001"
            ),
        );
}
