use std::sync::Arc;

use proptest::prelude::*;

use super::encode::BlobEncoder;
use super::fast;
use super::respond::{Decision, Policy, Transport, decide};
use crate::zones::rrset::Soa;
use crate::zones::{Editor, Name, Rdata, Rrset, Rtype, Snapshot, Zone};

fn name(text: &str) -> Name {
    Name::from_text(text).unwrap()
}

fn zone(apex: &str) -> Zone {
    let soa = Soa {
        mname: name("ns1.mesos"),
        rname: name("root.ns1.mesos"),
        serial: 7,
        refresh: 60,
        retry: 600,
        expire: 86400,
        minimum: 30,
    };
    Zone { recursion_available: true, ..Zone::new(name(apex), soa, 60, vec![name("ns1.mesos")], 60) }
}

/// Names that share labels, so that questions hit, miss, and meet empty non-terminals.
fn owner() -> impl Strategy<Value = Name> {
    let label = prop_oneof![
        3 => prop::sample::select(vec!["a", "b", "web", "_web", "_tcp", "db-0"]).prop_map(String::from),
        1 => "[a-z]{1,63}",
    ];
    (prop::collection::vec(label, 0..4), prop::sample::select(vec!["mesos", "l4lb.directory"]))
        .prop_filter_map("too long", |(labels, apex)| {
            let text: String = labels.iter().map(|label| format!("{label}.")).collect();
            Name::from_text(&format!("{text}{apex}.")).ok()
        })
}

fn rrset() -> impl Strategy<Value = Rrset> {
    let address = any::<[u8; 4]>().prop_map(|octets| Rdata::A(octets.into()));
    let address6 = any::<[u8; 16]>().prop_map(|octets| Rdata::Aaaa(octets.into()));
    let text = prop::collection::vec(any::<u8>(), 0..40).prop_map(|text| Rdata::Txt(vec![text]));
    let service = (any::<u16>(), owner()).prop_map(|(port, to)| Rdata::Srv(0, 1, port, to));
    let alias = owner().prop_map(Rdata::Cname);
    let subtree = owner().prop_map(Rdata::Dname);
    let cut = owner().prop_map(Rdata::Ns);
    prop_oneof![
        8 => prop::collection::vec(address, 1..90),
        3 => prop::collection::vec(address6, 1..30),
        3 => prop::collection::vec(text, 1..12),
        3 => prop::collection::vec(service, 1..6),
        1 => prop::collection::vec(alias, 1..2),
        1 => prop::collection::vec(subtree, 1..2),
        1 => prop::collection::vec(cut, 1..2),
    ]
    .prop_map(|data| Rrset::new(data.first().map_or(Rtype::A, Rdata::rtype), 60, data))
}

/// Snapshots of two zones, of which the second may be incomplete.
pub(crate) fn snapshot() -> impl Strategy<Value = Arc<Snapshot>> {
    let content = prop::collection::vec((owner(), rrset()), 0..30);
    (content, any::<u64>(), any::<bool>()).prop_map(|(content, seed, complete)| {
        let zones = vec![zone("mesos"), zone("l4lb.directory")];
        let mut editor = Editor::new(seed, zones, Arc::new(BlobEncoder), 1).unwrap();
        let mesos = name("mesos");
        let (own, other): (Vec<_>, Vec<_>) =
            content.into_iter().partition(|(owner, _)| owner.is_at_or_below(&mesos));
        editor.replace(&mesos, own).unwrap();
        editor.replace(&name("l4lb.directory"), other).unwrap();
        editor.mark_complete(&name("l4lb.directory"), complete).unwrap();
        editor.commit(2);
        editor.snapshot().clone()
    })
}

#[derive(Debug, Clone)]
struct Ask {
    owner: Name,
    upper: u64,
    id: u16,
    flags: u16,
    rtype: u16,
    opt: Option<(u16, bool, Vec<(u16, Vec<u8>)>)>,
}

fn ask() -> impl Strategy<Value = Ask> {
    let options = prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..20)), 0..4);
    let size = prop_oneof![Just(0u16), Just(512), Just(1232), Just(4096), any::<u16>()];
    (
        owner(),
        any::<u64>(),
        any::<u16>(),
        prop_oneof![Just(0x0100u16), Just(0), Just(0x0110), (0u16..0x0800)],
        prop_oneof![
            Just(1u16), Just(28), Just(33), Just(16), Just(5), Just(6), Just(2), Just(39), Just(255),
            Just(65), Just(43), any::<u16>()
        ],
        prop::option::of((size, any::<bool>(), options)),
    )
        .prop_map(|(owner, upper, id, flags, rtype, opt)| Ask { owner, upper, id, flags, rtype, opt })
}

fn query(ask: &Ask) -> Vec<u8> {
    let mut message = Vec::new();
    for field in [ask.id, ask.flags, 1, 0, 0, u16::from(ask.opt.is_some())] {
        message.extend_from_slice(&field.to_be_bytes());
    }
    for (place, octet) in ask.owner.wire().iter().enumerate() {
        let raised = ask.upper >> (place % 64) & 1 == 1;
        message.push(if raised { octet.to_ascii_uppercase() } else { *octet });
    }
    message.extend_from_slice(&ask.rtype.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    if let Some((size, dnssec_ok, options)) = &ask.opt {
        message.extend_from_slice(&[0, 0, 41]);
        message.extend_from_slice(&size.to_be_bytes());
        message.extend_from_slice(&[0, 0, u8::from(*dnssec_ok) << 7, 0]);
        let octets: usize = options.iter().map(|(_, data)| 4 + data.len()).sum();
        message.extend_from_slice(&u16::try_from(octets).unwrap().to_be_bytes());
        for (code, data) in options {
            message.extend_from_slice(&code.to_be_bytes());
            message.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
            message.extend_from_slice(data);
        }
    }
    message
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_fast_path_says_what_the_slow_path_says(
        snapshot in snapshot(),
        asks in prop::collection::vec(ask(), 1..60),
    ) {
        let policy = Policy::default();
        for ask in &asks {
            let query = query(ask);
            let mut buffer = query.clone();
            buffer.resize(2048, 0xee);
            let (verdict, octets) = fast::answer(&snapshot, &policy, &mut buffer, query.len());
            if verdict.is_response() {
                let slow = decide(&snapshot, &query, Transport::Udp, &policy);
                prop_assert_eq!(Decision::Respond(buffer[..octets].to_vec()), slow, "{:?}", ask);
            } else {
                prop_assert_eq!(&buffer[..query.len()], &query[..], "{:?} {:?}", ask, verdict);
                prop_assert!(buffer[query.len()..].iter().all(|octet| *octet == 0xee));
            }
        }
    }

    #[test]
    fn any_octets_are_answered_or_left_alone(
        snapshot in snapshot(),
        mut octets in prop::collection::vec(any::<u8>(), 0..300),
        header in any::<bool>(),
    ) {
        if header && octets.len() > 12 {
            octets[2..12].copy_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        }
        let mut buffer = octets.clone();
        buffer.resize(2048, 0);
        let (verdict, _) = fast::answer(&snapshot, &Policy::default(), &mut buffer, octets.len());
        if !verdict.is_response() {
            prop_assert_eq!(&buffer[..octets.len()], &octets[..]);
        }
    }
}

#[test]
fn plain_addresses_take_the_fast_path() {
    let mut editor = Editor::new(1, vec![zone("mesos")], Arc::new(BlobEncoder), 1).unwrap();
    let addresses = (1..=20).map(|i| Rdata::A([10, 0, 0, i].into())).collect();
    let rrset = Rrset::new(Rtype::A, 60, addresses);
    editor.replace(&name("mesos"), vec![(name("web.marathon.mesos"), rrset)]).unwrap();
    editor.commit(2);
    let mut ask = Ask {
        owner: name("web.marathon.mesos"),
        upper: 0x55,
        id: 3,
        flags: 0x0100,
        rtype: 1,
        opt: None,
    };
    for (rtype, expected) in [
        (1, dns_common::Verdict::Answered),
        (28, dns_common::Verdict::NoData),
        (255, dns_common::Verdict::MetaType),
    ] {
        ask.rtype = rtype;
        let query = query(&ask);
        let mut buffer = query.clone();
        buffer.resize(2048, 0);
        let (verdict, octets) =
            fast::answer(editor.snapshot(), &Policy::default(), &mut buffer, query.len());
        assert_eq!(verdict, expected);
        if rtype == 1 {
            // Rotated left by 3: the fourth address comes first.
            let first = 12 + ask.owner.wire().len() + 4 + 12;
            assert_eq!(buffer[first..first + 4], [10, 0, 0, 4]);
            assert_eq!(octets, query.len() + 20 * 16);
        }
    }
}
