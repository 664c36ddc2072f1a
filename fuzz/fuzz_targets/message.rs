//! A DNS message from any octets: no panic, every response keeps to the rules that hold whatever was
//! asked, and the responder that the kernel runs says the same or leaves the message alone.
#![no_main]

use std::sync::{Arc, LazyLock};

use dns_userspace::{
    answers::{Decision, Policy, Query, Transport, decide, encode::BlobEncoder, fast},
    zones::{Editor, Name, Rdata, Rrset, Rtype, Snapshot, Soa, Zone},
};
use libfuzzer_sys::fuzz_target;

static SNAPSHOT: LazyLock<Arc<Snapshot>> = LazyLock::new(|| {
    let name = |text: &str| Name::from_text(text).expect("a name");
    let soa = Soa {
        mname: name("ns1.mesos"),
        rname: name("root.ns1.mesos"),
        serial: 1,
        refresh: 60,
        retry: 600,
        expire: 86400,
        minimum: 60,
    };
    let zone = Zone::new(name("mesos"), soa, 60, vec![name("ns1.mesos")], 60);
    let addresses = |count: u8| (1..=count).map(|last| Rdata::A([10, 0, 0, last].into())).collect::<Vec<_>>();
    let content = vec![
        (name("web.marathon.mesos"), Rrset::new(Rtype::A, 60, addresses(2))),
        // Too large for a plain UDP response.
        (name("many.marathon.mesos"), Rrset::new(Rtype::A, 60, addresses(100))),
        (
            name("_web._tcp.marathon.mesos"),
            Rrset::new(Rtype::SRV, 60, vec![Rdata::Srv(0, 0, 31000, name("web.marathon.mesos"))]),
        ),
        (
            name("alias.mesos"),
            Rrset::new(Rtype::CNAME, 60, vec![Rdata::Cname(name("web.marathon.mesos"))]),
        ),
    ];
    let mut editor = Editor::new(7, vec![zone], Arc::new(BlobEncoder), 1).expect("one zone");
    editor.replace(&name("mesos"), content).expect("content below the apex");
    editor.commit(1);
    Arc::clone(editor.snapshot())
});

fuzz_target!(|message: &[u8]| {
    let policy = Policy::default();
    let mut buffer = message.to_vec();
    buffer.resize(message.len().max(4096), 0xee);
    let (verdict, octets) = fast::answer(&SNAPSHOT, &policy, &mut buffer, message.len());
    if verdict.is_response() {
        let Decision::Respond(response, _) = decide(&SNAPSHOT, message, Transport::Udp, &policy)
        else {
            panic!("the slow path has no response: {verdict:?}");
        };
        assert_eq!(buffer.get(..octets), Some(&response[..]), "{verdict:?}");
    } else {
        assert_eq!(buffer.get(..message.len()), Some(message), "{verdict:?}");
    }
    for transport in [Transport::Udp, Transport::Tcp] {
        let decision = decide(&SNAPSHOT, message, transport, &policy);
        assert_eq!(decision, decide(&SNAPSHOT, message, transport, &policy));
        let Decision::Respond(response, _) = decision else {
            continue;
        };
        assert_eq!(response.get(..2), message.get(..2), "the id is echoed");
        assert!(response[2] & 0x80 != 0, "QR is set");
        assert_eq!(
            decide(&SNAPSHOT, &response, transport, &policy),
            Decision::Ignore,
            "two servers cannot answer each other for ever"
        );
        if transport == Transport::Udp {
            let edns = Query::parse(message).ok().and_then(|query| query.edns);
            let limit = edns.map_or(512, |edns| edns.size.clamp(512, policy.max_udp_octets));
            assert!(response.len() <= usize::from(limit), "RFC 6891, section 6.2.3");
        }
    }
});
