//! Transfers as the RFCs show them.

use std::sync::Arc;

use super::super::history::tests::{a, name, zone};
use super::*;
use crate::zones::{Editor, NoEncoder};

fn soa(serial: u32) -> Record {
    let mut soa = zone("jain.ad.jp", serial).soa;
    soa.serial = serial;
    record("jain.ad.jp", Rdata::Soa(Box::new(soa)))
}

fn record(owner: &str, data: Rdata) -> Record {
    Record {
        owner: name(owner),
        class: CLASS_IN,
        ttl: 60,
        data,
        start: 0,
    }
}

fn address(owner: &str, text: &str) -> Record {
    record(owner, Rdata::A(text.parse().unwrap()))
}

fn assembled(held: Option<u32>, messages: &[&[Record]]) -> Result<Incoming, Unusable> {
    let mut assembly = Assembly::new(&name("jain.ad.jp"), held);
    for (at, records) in messages.iter().enumerate() {
        let is_all = assembly.take(records.to_vec())?;
        assert_eq!(is_all, at + 1 == messages.len(), "message {at}");
    }
    assembly.finish()
}

/// The zone of RFC 1995, section 7, in its version 1.
fn snapshot() -> Arc<Snapshot> {
    let mut first = zone("jain.ad.jp", 1);
    first.fixed_serial = true;
    let mut editor = Editor::new(1, vec![first], Arc::new(NoEncoder), 1).unwrap();
    let nezu = Rrset::new(Rtype::A, 60, vec![Rdata::A([133, 69, 136, 1].into())]);
    let content = vec![(name("nezu.jain.ad.jp"), nezu)];
    editor.replace(&name("jain.ad.jp"), content).unwrap();
    editor.commit(1);
    Arc::clone(editor.snapshot())
}

/// The incremental transfer of RFC 1995, section 7, from version 1 to 3.
fn rfc1995_changes() -> Vec<Record> {
    vec![
        soa(3),
        soa(1),
        address("nezu.jain.ad.jp", "133.69.136.1"),
        soa(2),
        address("jain-bb.jain.ad.jp", "133.69.136.4"),
        address("jain-bb.jain.ad.jp", "192.41.197.2"),
        soa(2),
        address("jain-bb.jain.ad.jp", "133.69.136.4"),
        soa(3),
        address("jain-bb.jain.ad.jp", "133.69.136.3"),
        soa(3),
    ]
}

fn names(incoming: Incoming) -> Vec<String> {
    let Incoming::Changes(changes) = incoming else {
        panic!("{incoming:?}")
    };
    assert_eq!((changes.from, changes.soa.serial), (1, 3));
    let names = changes.names(&name("jain.ad.jp"), &snapshot()).unwrap();
    let text = |(owner, rrsets): &(Name, Vec<Rrset>)| {
        let data = rrsets.iter().flat_map(Rrset::data);
        let data: Vec<String> = data.map(ToString::to_string).collect();
        format!("{owner} {}", data.join(" "))
    };
    names.iter().map(text).collect()
}

#[test]
fn rfc1995_7_the_example_gives_the_third_version() {
    let expected = [
        "jain-bb.jain.ad.jp. 133.69.136.3 192.41.197.2",
        "nezu.jain.ad.jp. ",
    ];
    let whole = assembled(Some(1), &[&rfc1995_changes()]).unwrap();
    assert_eq!(names(whole), expected);
    // One record in each message says the same.
    let records = rfc1995_changes();
    let single: Vec<&[Record]> = records.chunks(1).collect();
    assert_eq!(names(assembled(Some(1), &single).unwrap()), expected);
}

#[test]
fn rfc1995_4_a_whole_zone_may_come_instead() {
    let zone = [
        soa(3),
        record("jain.ad.jp", Rdata::Ns(name("ns.jain.ad.jp"))),
        address("jain-bb.jain.ad.jp", "133.69.136.3"),
        address("jain-bb.jain.ad.jp", "192.41.197.2"),
        soa(3),
    ];
    for held in [None, Some(1)] {
        let Ok(Incoming::Whole(whole)) = assembled(held, &[&zone[..2], &zone[2..]]) else {
            panic!("{held:?}")
        };
        assert_eq!(whole.soa.serial, 3);
        assert_eq!(whole.records.len(), 2);
        let counts = whole.records.iter().map(|(_, rrset)| rrset.data().len());
        assert_eq!(counts.sum::<usize>(), 3);
    }
}

#[test]
fn rfc1995_2_a_lone_soa_that_is_no_newer_is_no_news() {
    assert_eq!(assembled(Some(3), &[&[soa(3)]]), Ok(Incoming::Nothing));
    assert_eq!(assembled(Some(3), &[&[soa(2)]]), Ok(Incoming::Nothing));
    // A newer one alone means that more is to come.
    let mut assembly = Assembly::new(&name("jain.ad.jp"), Some(1));
    assert_eq!(assembly.take(vec![soa(3)]), Ok(false));
}

#[test]
fn transfers_that_make_no_sense_are_refused() {
    let other = address("nezu.jain.ad.jp", "133.69.136.1");
    let first_is_no_soa = assembled(None, &[&[other.clone(), soa(3)]]);
    assert_eq!(first_is_no_soa, Err(Unusable::NoSoa));
    let another_end = assembled(None, &[&[soa(3), other.clone(), soa(2)]]);
    assert_eq!(another_end, Err(Unusable::BrokenChain));
    let behind_the_end = assembled(None, &[&[soa(3), other.clone(), soa(3), other]]);
    assert_eq!(behind_the_end, Err(Unusable::Surplus));
    let mut gap = rfc1995_changes();
    gap[6] = soa(7);
    assert_eq!(assembled(Some(1), &[&gap]), Err(Unusable::BrokenChain));
}

#[test]
fn changes_that_do_not_fit_are_refused() {
    let mut records = rfc1995_changes();
    records[2] = address("nezu.jain.ad.jp", "133.69.136.99");
    let Ok(Incoming::Changes(changes)) = assembled(Some(1), &[&records]) else {
        panic!("no changes")
    };
    let zone = name("jain.ad.jp");
    assert_eq!(changes.names(&zone, &snapshot()), Err(Unusable::Mismatch));
    let Ok(Incoming::Changes(mut changes)) = assembled(Some(1), &[&rfc1995_changes()]) else {
        panic!("no changes")
    };
    changes.from = 7;
    assert_eq!(changes.names(&zone, &snapshot()), Err(Unusable::Mismatch));
}

/// Records of other zones have no place in a transfer, whoever sends them.
#[test]
fn records_outside_the_zone_are_left_out() {
    let records = [
        soa(3),
        address("a.jain.ad.jp", "10.0.0.1"),
        address("www.example.com", "10.0.0.2"),
        soa(3),
    ];
    let Ok(Incoming::Whole(whole)) = assembled(None, &[&records]) else {
        panic!("no zone")
    };
    assert_eq!(whole.records, [(name("a.jain.ad.jp"), a(60, &[1]))]);
}
