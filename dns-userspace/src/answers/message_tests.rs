//! The writer against an independent reader (hickory), and against the bounds it must keep.

use std::net::Ipv4Addr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use hickory_proto::serialize::binary::BinDecodable;
use proptest::prelude::*;

use super::super::resolve::tests::{name, one_zone, rrset, snapshot};
use super::super::resolve::{resolve, resolve_within};
use super::super::respond::{Decision, Policy, Transport, decide};
use super::*;

fn question(id: u16, qname: &str, rtype: Rtype, edns: Option<u16>) -> Vec<u8> {
    let mut message = vec![0; HEADER_OCTETS];
    set_u16(&mut message, 0, id);
    set_u16(&mut message, 2, 0x0100);
    set_u16(&mut message, 4, 1);
    for label in qname.split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&rtype.0.to_be_bytes());
    message.extend_from_slice(&CLASS_IN.to_be_bytes());
    if let Some(size) = edns {
        set_u16(&mut message, 10, 1);
        message.extend_from_slice(&[0, 0, 41]);
        message.extend_from_slice(&size.to_be_bytes());
        message.extend_from_slice(&[0, 0, 0x80, 0, 0, 0]);
    }
    message
}

fn respond(message: &[u8], transport: Transport) -> Vec<u8> {
    match decide(&snapshot(), message, transport, &Policy::default()) {
        Decision::Respond(response, _) => response,
        other => unreachable!("{other:?}"),
    }
}

fn read(response: &[u8]) -> Message {
    Message::from_bytes(response).unwrap()
}

fn bare<'s>(answer: Vec<Entry<'s>>) -> Resolution<'s> {
    Resolution {
        rcode: Rcode::NOERROR,
        authoritative: true,
        recursion_available: false,
        answer,
        authority: Vec::new(),
        additional: Vec::new(),
        rotates_types_together: false,
        needs_additional: false,
        extended_error: None,
    }
}

fn addresses(count: u16) -> Rrset {
    let data = (0..count).map(|n| Rdata::A(Ipv4Addr::from(0x0a00_0000 + u32::from(n))));
    Rrset::new(Rtype::A, 60, data)
}

fn entry<'s>(owner: &str, rrset: Rrset) -> Entry<'s> {
    Entry {
        owner: name(owner),
        rrset: std::borrow::Cow::Owned(rrset),
    }
}

#[test]
fn the_question_comes_back_octet_for_octet_and_owners_point_at_it() {
    let asked = question(7, "WeB.marathon.MESOS", Rtype::A, None);
    let response = respond(&asked, Transport::Udp);
    assert_eq!(response[HEADER_OCTETS..asked.len()], asked[HEADER_OCTETS..]);
    assert_eq!(response[asked.len()..][..2], [0xc0, 12]);
    // 12 octets of header, the question, and two records of 2 + 10 + 4.
    assert_eq!(response.len(), asked.len() + 2 * 16);
}

#[test]
fn records_are_rotated_left_by_the_id() {
    let first = |id| {
        let response = respond(
            &question(id, "web.marathon.mesos", Rtype::A, None),
            Transport::Udp,
        );
        read(&response).answers[0].data.to_string()
    };
    assert_eq!(first(0), "10.0.0.1");
    assert_eq!(first(1), "10.0.0.2");
    assert_eq!(first(0xffff), "10.0.0.2");
    assert_eq!(first(0xfffe), "10.0.0.1");
}

/// RFC 6672, section 3.1: a reader meets the DNAME before what is made from it.
#[test]
fn aliases_stay_first_where_types_are_rotated_together() {
    let answer = vec![
        entry("moved.mesos", rrset("DNAME", &["b.mesos"])),
        entry("a.moved.mesos", rrset("CNAME", &["a.b.mesos"])),
        entry("a.b.mesos", addresses(2)),
    ];
    let resolution = Resolution {
        rotates_types_together: true,
        ..bare(answer)
    };
    for id in 0..4 {
        let octets = question(id, "a.moved.mesos", Rtype::A, None);
        let query = Query::parse(&octets).unwrap();
        let size = Policy::default().size(&query, Transport::Udp);
        let message = read(&write(&query, &resolution, size));
        let types: Vec<String> = message
            .answers
            .iter()
            .map(|record| record.record_type().to_string())
            .collect();
        assert_eq!(types, ["DNAME", "CNAME", "A", "A"], "id {id}");
    }
}

#[test]
fn an_independent_reader_sees_the_sections_and_the_flags() {
    let asked = question(9, "_web._tcp.marathon.mesos", Rtype::SRV, Some(4096));
    let message = read(&respond(&asked, Transport::Udp));
    assert_eq!(message.answers.len(), 3);
    assert_eq!(message.additionals.len(), 1);
    let glue = &message.additionals[0];
    assert_eq!(glue.name.to_string(), "web-1.marathon.mesos.");
    assert_eq!(glue.record_type(), RecordType::A);
    let edns = message.edns.as_ref().unwrap();
    assert_eq!((edns.max_payload(), edns.version()), (1232, 0));
    assert!(edns.flags().dnssec_ok);
    assert!(message.metadata.authoritative && message.metadata.recursion_available);
    assert!(message.metadata.recursion_desired && !message.metadata.truncation);
}

#[test]
fn rfc2782_srv_targets_are_not_compressed() {
    let asked = question(9, "_web._tcp.marathon.mesos", Rtype::SRV, None);
    let response = respond(&asked, Transport::Udp);
    let target = b"\x05web-1\x08marathon\x05mesos\0";
    let found = response.windows(target.len()).filter(|part| part == target);
    assert_eq!(found.count(), 2);
}

#[test]
fn rfc8906_8_no_opt_in_no_opt_out() {
    let message = read(&respond(
        &question(1, "nope.mesos", Rtype::A, None),
        Transport::Udp,
    ));
    assert!(message.edns.is_none());
    assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn rfc6891_6_1_3_another_version_is_badvers_without_answer() {
    let mut asked = question(1, "web.marathon.mesos", Rtype::A, Some(1232));
    let version_at = asked.len() - 5;
    asked[version_at] = 100;
    let message = read(&respond(&asked, Transport::Udp));
    // hickory reads 16 as BADSIG, which shares the number.
    assert_eq!(u16::from(message.metadata.response_code), 16);
    assert_eq!(message.edns.as_ref().unwrap().version(), 0);
    assert!(message.answers.is_empty() && message.authorities.is_empty());
}

#[test]
fn rfc8906_8_1_3_header_bits_are_copied_or_cleared() {
    let mut asked = question(1, "web.marathon.mesos", Rtype::A, None);
    // RD, AD, CD and the reserved bit set; AA, TC and RA as well, which mean nothing in a query.
    asked[2] = 0b0000_0111;
    asked[3] = 0b1111_0000;
    let response = respond(&asked, Transport::Udp);
    assert_eq!(response[2..4], [0b1000_0101, 0b1001_0000]);
}

#[test]
fn classes_and_operations_that_are_not_served_get_their_rcode() {
    let rcode = |rtype: u16, class: u16, transport| {
        let mut asked = question(1, "web.marathon.mesos", Rtype(rtype), None);
        let class_at = asked.len() - 2;
        set_u16(&mut asked, class_at, class);
        respond(&asked, transport)[3] & 0xf
    };
    assert_eq!(rcode(1, 3, Transport::Udp), 5, "class CH is refused");
    assert_eq!(
        rcode(252, 1, Transport::Udp),
        1,
        "AXFR over UDP is a format error"
    );
    assert_eq!(rcode(252, 1, Transport::Tcp), 5, "AXFR is refused");
    assert_eq!(rcode(41, 1, Transport::Udp), 1, "OPT is no question");
    assert_eq!(rcode(249, 1, Transport::Udp), 4, "TKEY is not implemented");
    assert_eq!(
        rcode(1000, 1, Transport::Udp),
        0,
        "an unknown type is NODATA"
    );
}

#[test]
fn another_opcode_is_notimp_with_the_opcode_copied() {
    let mut asked = question(0x1234, "web.marathon.mesos", Rtype::A, None);
    asked[2] = 0b0010_0001;
    let response = respond(&asked, Transport::Udp);
    assert_eq!(
        response,
        [0x12, 0x34, 0b1010_0000, 4, 0, 0, 0, 0, 0, 0, 0, 0]
    );
}

#[test]
fn a_name_of_nobody_is_refused_or_forwarded() {
    let asked = question(1, "example.com", Rtype::A, None);
    let message = read(&respond(&asked, Transport::Udp));
    assert_eq!(message.metadata.response_code, ResponseCode::Refused);
    assert!(!message.metadata.authoritative && !message.metadata.recursion_available);
    let policy = Policy {
        forwards: true,
        ..Policy::default()
    };
    let decision = decide(&snapshot(), &asked, Transport::Udp, &policy);
    assert!(matches!(decision, Decision::Forward(query) if query.name == name("example.com")));
}

#[test]
fn rfc8914_4_15_not_ready_is_said_to_those_with_edns() {
    let query_octets = question(1, "web.mesos", Rtype::A, Some(512));
    let query = Query::parse(&query_octets).unwrap();
    let resolution = Resolution {
        rcode: Rcode::SERVFAIL,
        extended_error: Some(ExtendedError::NOT_READY),
        ..bare(vec![])
    };
    let size = Policy::default().size(&query, Transport::Udp);
    let response = write(&query, &resolution, size);
    assert!(response.ends_with(&[0, 6, 0, 15, 0, 2, 0, 14]));
    assert_eq!(
        read(&response).metadata.response_code,
        ResponseCode::ServFail
    );
}

#[test]
fn without_the_truncate_bit_what_fits_is_sent() {
    let octets = question(0, "many.mesos", Rtype::A, None);
    let query = Query::parse(&octets).unwrap();
    let policy = Policy {
        sets_truncate_bit: false,
        ..Policy::default()
    };
    let resolution = bare(vec![entry("many.mesos", addresses(60))]);
    let response = write(&query, &resolution, policy.size(&query, Transport::Udp));
    let message = read(&response);
    assert!(!message.metadata.truncation);
    // (512 - 28) / 16: the same as mesos-dns packs, whose bound is one octet lower.
    assert_eq!(message.answers.len(), 30);
}

#[test]
fn additional_records_are_left_out_without_the_truncate_bit() {
    let octets = question(0, "a.mesos", Rtype::SRV, None);
    let query = Query::parse(&octets).unwrap();
    let mut resolution = bare(vec![entry("a.mesos", rrset("SRV", &["1 b.mesos"]))]);
    resolution.additional = vec![
        entry("b.mesos", addresses(60)),
        entry("c.mesos", addresses(2)),
    ];
    let size = Policy::default().size(&query, Transport::Udp);
    let message = read(&write(&query, &resolution, size));
    assert!(!message.metadata.truncation);
    assert_eq!(message.additionals.len(), 2, "the one that fits stays");
    resolution.needs_additional = true;
    let message = read(&write(&query, &resolution, size));
    assert!(message.metadata.truncation, "glue is needed");
}

fn some_entries() -> impl Strategy<Value = Vec<(u8, u16)>> {
    prop::collection::vec((0u8..6, 1u16..80), 0..6)
}

proptest! {
    #[test]
    fn truncation_keeps_the_limit_and_never_splits_an_rrset(
        answer in some_entries(),
        authority in some_entries(),
        additional in some_entries(),
        edns in prop::option::of(0u16..4096),
        tcp: bool,
        id: u16,
    ) {
        let entries = |rows: Vec<(u8, u16)>| -> Vec<Entry<'static>> {
            let mut seen = std::collections::BTreeSet::new();
            rows.into_iter()
                .filter(|(host, _)| seen.insert(*host))
                .map(|(host, count)| entry(&format!("host-{host}.sub.mesos"), addresses(count)))
                .collect()
        };
        let mut resolution = bare(entries(answer));
        resolution.authority = entries(authority);
        resolution.additional = entries(additional);
        let octets = question(id, "host-0.sub.mesos", Rtype::A, edns);
        let query = Query::parse(&octets).unwrap();
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let response = write(&query, &resolution, Policy::default().size(&query, transport));
        let limit = match (tcp, edns) {
            (true, _) => 65535,
            (false, None) => 512,
            (false, Some(size)) => usize::from(size).clamp(512, 1232),
        };
        prop_assert!(response.len() <= limit);
        let message = read(&response);
        prop_assert_eq!(message.edns.is_some(), edns.is_some());
        let mut left_out = false;
        for (sent, meant) in [
            (&message.answers, &resolution.answer),
            (&message.authorities, &resolution.authority),
            (&message.additionals, &resolution.additional),
        ] {
            let mut expected_total = 0;
            for one in meant.iter() {
                let owner = one.owner.to_string();
                let count = sent.iter().filter(|record| record.name.to_string() == owner).count();
                let whole = one.rrset.data().len();
                prop_assert!(count == 0 || count == whole, "{} of {}", count, whole);
                left_out |= count == 0 && !std::ptr::eq(meant, &resolution.additional);
                expected_total += count;
            }
            prop_assert_eq!(sent.len(), expected_total);
        }
        prop_assert_eq!(message.metadata.truncation, left_out);
    }

    #[test]
    fn any_octets_are_decided_without_panic(mut message: Vec<u8>, header in any::<bool>()) {
        if header {
            // Enough of a query that the reader gets past the header.
            let mut asked = question(1, "web.marathon.mesos", Rtype::A, Some(1232));
            for (slot, octet) in asked.iter_mut().skip(2).zip(&message) {
                *slot ^= octet & 0x11;
            }
            message = asked;
        }
        let _ = decide(&snapshot(), &message, Transport::Udp, &Policy::default());
    }
}

/// What is not looked for, as the answer does not fit, would not have been written either.
#[test]
fn addresses_of_targets_are_no_matter_where_the_answer_is_too_large() {
    let targets: Vec<String> = (0..400).map(|n| format!("t{n}.many.test")).collect();
    let services: Vec<String> = targets.iter().map(|one| format!("80 {one}")).collect();
    let services: Vec<&str> = services.iter().map(String::as_str).collect();
    let service = "_web._tcp.many.test";
    let addresses = targets
        .iter()
        .map(|one| (name(one), rrset("A", &["10.0.0.1"])));
    let content = addresses.chain([(name(service), rrset("SRV", &services))]);
    let snapshot = one_zone("many.test", content.collect());
    let message = question(7, service, Rtype::SRV, Some(1232));
    let query = Query::parse(&message).unwrap();
    let whole = resolve(&snapshot, &query.name, query.rtype).unwrap();
    // Owner as a pointer, the fixed parts, and the target.
    let records: usize = targets.iter().map(|one| 18 + one.len() + 2).sum();
    let exact = message.len() + records;
    for (limit, looks) in [
        (512, 0),
        (1232, 0),
        (records, 400),
        (exact - 1, 400),
        (exact, 400),
        (exact + 16, 400),
        (65_535, 400),
    ] {
        let within = resolve_within(&snapshot, &query.name, query.rtype, limit).unwrap();
        assert_eq!(within.additional.len(), looks, "{limit}");
        for sets_truncate_bit in [true, false] {
            let size = Size {
                limit,
                sets_truncate_bit,
                edns_size: 1232,
            };
            let written = write(&query, &within, size);
            assert!(written.len() <= limit);
            assert_eq!(written, write(&query, &whole, size), "{limit}");
        }
    }
}
