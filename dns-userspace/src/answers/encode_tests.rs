use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::answers::resolve::tests::{name, zone};
use crate::zones::{Editor, NoEncoder};

const TARGETS: [&str; 6] = [
    "a.fw.mesos",
    "b.a.fw.mesos",
    "task-x1y2z-s17.fw.slave.mesos",
    "task-y1y2z-s17.fw.slave.mesos",
    "mesos",
    "elsewhere.example",
];
const OWNERS: [&str; 4] = [
    "_a._tcp.fw.mesos",
    "_a._tcp.b.a.fw.mesos",
    "_task._udp.fw.slave.mesos",
    "a.fw.mesos",
];

proptest! {
    /// The short way to SRV records gives the octets of the long one: with targets that others end
    /// in, that are in the question, that have several addresses or none, and that do not fit.
    #[test]
    fn services_are_encoded_as_they_are_resolved(
        owner in 0..OWNERS.len(),
        services in prop::collection::vec((0..TARGETS.len(), 0u16..4), 1..12),
        addresses in prop::collection::vec((0..TARGETS.len(), any::<bool>(), 1u8..5), 0..8),
    ) {
        let mut editor = Editor::new(3, vec![zone("mesos")], Arc::new(NoEncoder), 1).unwrap();
        let mut content = Vec::new();
        for (target, is_ipv4, last) in addresses {
            let target = name(TARGETS[target]);
            let (rtype, data) = match is_ipv4 {
                true => (Rtype::A, Rdata::A(Ipv4Addr::new(10, 0, 0, last))),
                false => (Rtype::AAAA, Rdata::Aaaa(Ipv6Addr::from(u128::from(last)))),
            };
            content.push((target, Rrset::new(rtype, 60, [data])));
        }
        let services = services
            .into_iter()
            .map(|(target, port)| Rdata::Srv(0, 1, port, name(TARGETS[target])));
        content.push((name(OWNERS[owner]), Rrset::new(Rtype::SRV, 30, services)));
        editor.replace(&name("mesos"), content).unwrap();
        editor.commit(2);

        let snapshot = editor.snapshot();
        let node = snapshot.node(&name(OWNERS[owner])).unwrap();
        let rrset = node.rrset(Rtype::SRV).unwrap();
        let target = |data: &Rdata| match data {
            Rdata::Srv(.., target) => target.clone(),
            other => unreachable!("{other}"),
        };
        let led_to: Vec<_> = rrset
            .data()
            .iter()
            .map(|data| snapshot.node(&target(data)))
            .collect();
        let parts = |one: Finished| (one.entry, one.starts, one.body);
        let resolution = resolve_at(snapshot, node, Rtype::SRV).unwrap();
        let long = finish(snapshot, node, &resolution, Rtype::SRV).map(parts);
        let short = finish_services(node, rrset, &led_to).map(parts);
        prop_assert_eq!(short, long);
    }
}
