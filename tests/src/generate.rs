//! Zones and questions at random, for the tests that compare answers.

use std::sync::Arc;

use dns_userspace::answers::encode::BlobEncoder;
use dns_userspace::zones::{Diff, Editor, Encoder, Name, Rdata, Rrset, Rtype, Soa, Zone};
use proptest::prelude::*;

/// The name of a text.
///
/// # Panics
/// If it is none.
pub fn name(text: &str) -> Name {
    Name::from_text(text).expect("a name")
}

/// An empty zone.
pub fn zone(apex: &str) -> Zone {
    let soa = Soa {
        mname: name("ns1.mesos"),
        rname: name("root.ns1.mesos"),
        serial: 7,
        refresh: 60,
        retry: 600,
        expire: 86400,
        minimum: 30,
    };
    Zone {
        recursion_available: true,
        ..Zone::new(name(apex), soa, 60, vec![name("ns1.mesos")], 60)
    }
}

/// Names that share labels, so that questions hit, miss, and meet empty non-terminals.
pub fn owner() -> impl Strategy<Value = Name> {
    let label = prop_oneof![
        45 => prop::sample::select(vec!["a", "b", "web", "_web", "_tcp", "db-0"]).prop_map(String::from),
        15 => "[a-z]{1,63}",
        // Seldom, since a wildcard leaves every denial to user space.
        1 => prop::sample::select(vec!["*", "*b"]).prop_map(String::from),
    ];
    (
        prop::collection::vec(label, 0..4),
        prop::sample::select(vec!["mesos", "l4lb.directory"]),
    )
        .prop_filter_map("too long", |(labels, apex)| {
            let text: String = labels.iter().map(|label| format!("{label}.")).collect();
            Name::from_text(&format!("{text}{apex}.")).ok()
        })
}

/// RRsets of every type that we serve, some larger than any datagram.
pub fn rrset() -> impl Strategy<Value = Rrset> {
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

/// What two zones hold, and whether the second is complete.
pub fn content() -> impl Strategy<Value = (Vec<(Name, Rrset)>, bool)> {
    (
        prop::collection::vec((owner(), rrset()), 0..30),
        any::<bool>(),
    )
}

/// An editor of two empty zones: one takes stars for what RFC 4592 says, one for what mesos-dns does.
///
/// # Panics
/// Never: the zones are fine.
pub fn editor(seed: u64) -> Editor {
    editor_with(seed, Arc::new(BlobEncoder))
}

/// The same, with answers finished by `encoder`.
///
/// # Panics
/// Never: the zones are fine.
pub fn editor_with(seed: u64, encoder: Arc<dyn Encoder>) -> Editor {
    let stars = Zone {
        ignores_stars: true,
        expands_wildcards: false,
        ..zone("l4lb.directory")
    };
    let zones = vec![zone("mesos"), stars];
    Editor::new(seed, zones, encoder, 1).expect("two different zones")
}

/// Makes `content` the whole content.
///
/// # Panics
/// If `editor` is not one of [`editor`].
pub fn replace(editor: &mut Editor, content: Vec<(Name, Rrset)>, complete: bool) -> Diff {
    let (mesos, other) = (name("mesos"), name("l4lb.directory"));
    let (own, others): (Vec<_>, Vec<_>) = content
        .into_iter()
        .partition(|(owner, _)| owner.is_at_or_below(&mesos));
    editor.replace(&mesos, own).expect("a zone");
    editor.replace(&other, others).expect("a zone");
    editor.mark_complete(&other, complete).expect("a zone");
    editor.commit(2)
}

/// Code and data of an EDNS option.
pub type EdnsOption = (u16, Vec<u8>);

/// A question as it is asked.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The name.
    pub owner: Name,
    /// Which of its octets are sent in upper case.
    pub upper: u64,
    /// Message id.
    pub id: u16,
    /// Header flags.
    pub flags: u16,
    /// Type.
    pub rtype: u16,
    /// Size, DO and options of an OPT record.
    pub opt: Option<(u16, bool, Vec<EdnsOption>)>,
    /// The version in it.
    pub version: u8,
}

/// Questions that an honest or an odd client could ask.
pub fn ask() -> impl Strategy<Value = Ask> {
    let options = prop::collection::vec(
        (option_code(), prop::collection::vec(any::<u8>(), 0..20)),
        0..4,
    );
    let size = prop_oneof![Just(0u16), Just(512), Just(1232), Just(4096), any::<u16>()];
    (
        owner(),
        any::<u64>(),
        any::<u16>(),
        prop_oneof![Just(0x0100u16), Just(0), Just(0x0110), (0u16..0x0800)],
        prop_oneof![
            Just(1u16),
            Just(28),
            Just(33),
            Just(16),
            Just(5),
            Just(6),
            Just(2),
            Just(39),
            Just(255),
            Just(65),
            Just(43),
            any::<u16>()
        ],
        prop::option::of((size, any::<bool>(), options)),
        prop_oneof![19 => Just(0u8), 1 => any::<u8>()],
    )
        .prop_map(|(owner, upper, id, flags, rtype, opt, version)| Ask {
            owner,
            upper,
            id,
            flags,
            rtype,
            opt,
            version,
        })
}

/// Codes of EDNS options, those with a meaning among them.
fn option_code() -> impl Strategy<Value = u16> {
    prop_oneof![
        1 => any::<u16>(),
        1 => prop::sample::select(vec![3u16, 8, 10, 11, 12, 15]),
    ]
}

/// The message of a question.
pub fn query(ask: &Ask) -> Vec<u8> {
    let mut message = Vec::new();
    for field in [ask.id, ask.flags, 1, 0, 0, u16::from(ask.opt.is_some())] {
        message.extend_from_slice(&field.to_be_bytes());
    }
    for (place, octet) in ask.owner.wire().iter().enumerate() {
        let raised = ask.upper >> (place % 64) & 1 == 1;
        message.push(if raised {
            octet.to_ascii_uppercase()
        } else {
            *octet
        });
    }
    message.extend_from_slice(&ask.rtype.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    if let Some((size, dnssec_ok, options)) = &ask.opt {
        message.extend_from_slice(&[0, 0, 41]);
        message.extend_from_slice(&size.to_be_bytes());
        message.extend_from_slice(&[0, ask.version, u8::from(*dnssec_ok) << 7, 0]);
        let octets: usize = options.iter().map(|(_, data)| 4 + data.len()).sum();
        message.extend_from_slice(&(octets as u16).to_be_bytes());
        for (code, data) in options {
            message.extend_from_slice(&code.to_be_bytes());
            message.extend_from_slice(&(data.len() as u16).to_be_bytes());
            message.extend_from_slice(data);
        }
    }
    message
}
