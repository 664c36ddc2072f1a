//! The editor against a model: a plain map of names, rebuilt from nothing for each comparison.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::zones::blob::Blob;
use crate::zones::{NoEncoder, Rdata, rrset::Soa};

const NOW: u32 = 1_700_000_000;

fn name(text: &str) -> Name {
    Name::from_text(text).unwrap()
}

fn zone(apex: &str) -> Zone {
    let soa = Soa {
        mname: name("ns1.mesos"),
        rname: name("root.ns1.mesos"),
        serial: 0,
        refresh: 60,
        retry: 600,
        expire: 86400,
        minimum: 60,
    };
    Zone::new(name(apex), soa, 60, vec![name("ns1.mesos")], 60)
}

fn editor(apexes: &[&str]) -> Editor {
    let zones = apexes.iter().map(|apex| zone(apex)).collect();
    Editor::new(42, zones, Arc::new(NoEncoder), NOW).unwrap()
}

fn a(last: u8) -> Rrset {
    let data = vec![Rdata::A(Ipv4Addr::new(10, 0, 0, last))];
    Rrset::new(Rtype::A, 60, data)
}

fn ns(target: &str) -> Rrset {
    Rrset::new(Rtype::NS, 60, vec![Rdata::Ns(name(target))])
}

fn owners(nodes: &[Arc<Node>]) -> BTreeSet<String> {
    nodes.iter().map(|node| node.owner().to_string()).collect()
}

#[test]
fn wildcards_are_counted_anew_by_another_editor() {
    let mut older = editor(&["mesos"]);
    let content = || vec![(name("*.mesos"), a(1))];
    older.replace(&name("mesos"), content()).unwrap();
    older.commit(NOW + 5);
    let served = Zone::clone(&older.snapshot().zones()[0]);
    let mut later = Zone::clone(&served);
    later.apex = name("later");
    let mut next = Editor::new(42, vec![served], Arc::new(NoEncoder), NOW).unwrap();
    next.add(later, NOW).unwrap();
    next.replace(&name("mesos"), content()).unwrap();
    next.commit(NOW + 10);
    let counts = |editor: &Editor| -> Vec<u32> {
        let zones = editor.snapshot().zones().iter();
        zones.map(|zone| zone.wildcards).collect()
    };
    assert_eq!(counts(&next), [1, 0]);
    next.replace(&name("mesos"), Vec::new()).unwrap();
    next.commit(NOW + 15);
    assert_eq!(counts(&next), [0, 0]);
}

#[test]
fn rfc8020_ancestors_exist_as_long_as_a_name_below_does() {
    let mut editor = editor(&["mesos"]);
    editor
        .set(&name("web.marathon.slave.mesos"), vec![a(1)])
        .unwrap();
    let diff = editor.commit(NOW + 5);
    let expected = [
        "marathon.slave.mesos.",
        "slave.mesos.",
        "web.marathon.slave.mesos.",
    ];
    assert_eq!(owners(&diff.added), expected.map(String::from).into());
    assert_eq!(diff.changed.len(), 1, "the apex has a new serial");

    editor
        .set(&name("web.marathon.slave.mesos"), vec![])
        .unwrap();
    editor.set(&name("slave.mesos"), vec![a(2)]).unwrap();
    let diff = editor.commit(NOW + 6);
    let expected = ["marathon.slave.mesos.", "web.marathon.slave.mesos."];
    assert_eq!(owners(&diff.removed), expected.map(String::from).into());
    assert!(editor.snapshot().node(&name("slave.mesos")).is_some());
}

#[test]
fn unchanged_content_keeps_snapshot_and_serial() {
    let mut editor = editor(&["mesos"]);
    let content = vec![(name("a.mesos"), a(1)), (name("b.c.mesos"), a(2))];
    editor.replace(&name("mesos"), content.clone()).unwrap();
    let diff = editor.commit(NOW + 1);
    assert_eq!(
        diff.serials,
        [SerialStep {
            zone: ZoneIndex(0),
            before: NOW,
            after: NOW + 1
        }]
    );
    let snapshot = Arc::clone(editor.snapshot());
    editor.replace(&name("mesos"), content).unwrap();
    // There and back within one commit is no change either.
    editor.set(&name("a.mesos"), vec![]).unwrap();
    editor.set(&name("x.y.mesos"), vec![a(9)]).unwrap();
    editor.set(&name("a.mesos"), vec![a(1)]).unwrap();
    editor.set(&name("x.y.mesos"), vec![]).unwrap();
    let diff = editor.commit(NOW + 100);
    assert!(diff.is_empty() && diff.serials.is_empty());
    assert!(Arc::ptr_eq(&snapshot, editor.snapshot()));
}

#[test]
fn only_the_zone_that_changed_gets_a_serial() {
    let mut editor = editor(&["mesos", "spartan"]);
    editor.set(&name("ready.spartan"), vec![a(1)]).unwrap();
    editor.commit(NOW + 7);
    let serials: Vec<u32> = editor
        .snapshot()
        .zones()
        .iter()
        .map(|zone| zone.soa.serial)
        .collect();
    assert_eq!(serials, [NOW, NOW + 7]);
    let apex = editor.snapshot().node(&name("spartan")).unwrap();
    let Some([Rdata::Soa(soa)]) = apex.rrset(Rtype::SOA).map(Rrset::data) else {
        unreachable!("the apex has one SOA");
    };
    assert_eq!(soa.serial, NOW + 7);
}

#[test]
fn a_zone_takes_no_name_of_another() {
    let mut editor = editor(&["mesos", "deep.er.mesos"]);
    let content = vec![
        (name("a.mesos"), a(1)),
        (name("a.deep.er.mesos"), a(2)),
        (name("example.com"), a(3)),
    ];
    assert_eq!(editor.replace(&name("mesos"), content), Ok(2));
    assert_eq!(
        editor.set(&name("example.com"), vec![a(1)]),
        Err(EditError::OutsideZones(name("example.com")))
    );
    assert_eq!(
        editor.replace(&name("com"), vec![]),
        Err(EditError::NoSuchZone(name("com")))
    );
    editor.commit(NOW);
    let snapshot = editor.snapshot();
    assert!(snapshot.node(&name("a.deep.er.mesos")).is_none());
    // The inner apex makes the name between the two exist in the outer zone.
    let between = snapshot.node(&name("er.mesos")).unwrap();
    assert!(between.is_empty_non_terminal());
    assert_eq!(between.zone(), ZoneIndex(0));
    let inner = snapshot.node(&name("deep.er.mesos")).unwrap();
    assert_eq!(inner.zone(), ZoneIndex(1));
}

#[test]
fn names_below_a_delegation_are_occluded_while_it_lasts() {
    let mut editor = editor(&["mesos"]);
    editor.set(&name("ns.sub.mesos"), vec![a(1)]).unwrap();
    editor.commit(NOW);
    editor
        .set(&name("sub.mesos"), vec![ns("ns.sub.mesos")])
        .unwrap();
    let diff = editor.commit(NOW);
    let mut changed: Vec<String> = diff
        .changed
        .iter()
        .map(|change| change.after.owner().to_string())
        .collect();
    changed.sort();
    assert_eq!(changed, ["mesos.", "ns.sub.mesos.", "sub.mesos."]);
    let occluded = |editor: &Editor, text: &str| {
        let node = editor.snapshot().node(&name(text));
        node.is_some_and(|node| node.is_occluded())
    };
    assert!(occluded(&editor, "ns.sub.mesos") && !occluded(&editor, "sub.mesos"));
    editor.set(&name("x.y.sub.mesos"), vec![a(2)]).unwrap();
    editor.commit(NOW);
    assert!(occluded(&editor, "y.sub.mesos") && occluded(&editor, "x.y.sub.mesos"));
    editor.set(&name("sub.mesos"), vec![]).unwrap();
    editor.commit(NOW);
    assert!(!occluded(&editor, "ns.sub.mesos") && !occluded(&editor, "x.y.sub.mesos"));
}

/// A zone of another server may have as many as this, and each of them glue.
#[test]
fn thousands_of_delegations_come_and_go_at_once() {
    let mut editor = editor(&["mesos"]);
    let glue = |n: usize| name(&format!("ns.x.sub-{n}.mesos"));
    let content = |count: usize| {
        let delegation = |n: usize| {
            let target = Rdata::Ns(glue(n));
            let cut = name(&format!("sub-{n}.mesos"));
            [
                (cut, Rrset::new(Rtype::NS, 60, vec![target])),
                (glue(n), a(1)),
                (name(&format!("web-{n}.mesos")), a(2)),
            ]
        };
        (0..count).flat_map(delegation).collect::<Vec<_>>()
    };
    let hidden = |editor: &Editor| {
        let nodes = editor.snapshot().nodes();
        nodes.filter(|node| node.is_occluded()).count()
    };
    for count in [5000, 10, 5000, 0] {
        editor.replace(&name("mesos"), content(count)).unwrap();
        editor.commit(NOW);
        assert_eq!(hidden(&editor), 2 * count);
    }
    let without_cuts = content(10).into_iter();
    let without_cuts = without_cuts.filter(|(_, rrset)| rrset.rtype() != Rtype::NS);
    editor.replace(&name("mesos"), content(10)).unwrap();
    editor
        .replace(&name("mesos"), without_cuts.collect())
        .unwrap();
    editor.commit(NOW);
    assert_eq!(hidden(&editor), 0);
}

#[test]
fn data_beside_a_cname_wins_and_equal_types_merge() {
    let mut editor = editor(&["mesos"]);
    let cname = Rrset::new(Rtype::CNAME, 5, vec![Rdata::Cname(name("b.mesos"))]);
    let short = Rrset::new(Rtype::A, 5, vec![Rdata::A(Ipv4Addr::new(10, 0, 0, 2))]);
    editor
        .set(&name("a.mesos"), vec![cname, a(3), short])
        .unwrap();
    editor.commit(NOW);
    let node = editor.snapshot().node(&name("a.mesos")).unwrap();
    let [only] = node.rrsets() else {
        unreachable!("one RRset is left");
    };
    assert_eq!(
        (only.rtype(), only.ttl(), only.data().len()),
        (Rtype::A, 5, 2)
    );
}

#[test]
fn an_incomplete_zone_becomes_complete_with_its_content() {
    let mut editor = editor(&["mesos"]);
    assert!(!editor.snapshot().zones()[0].complete);
    editor.replace(&name("mesos"), vec![]).unwrap();
    assert!(editor.commit(NOW).is_empty());
    assert!(editor.snapshot().zones()[0].complete);
}

#[test]
fn the_encoder_sees_the_whole_snapshot_and_only_what_was_written() {
    struct CountAddresses;
    impl Encoder for CountAddresses {
        fn encode(
            &self,
            snapshot: &Snapshot,
            node: &Node,
            _: &[Option<&Arc<Node>>],
        ) -> Option<Blob> {
            let found = snapshot.node(node.owner())?;
            let count = found.rrset(Rtype::A)?.data().len();
            let octets: Box<[u8]> = Box::new([count as u8]);
            Some(octets.into())
        }

        fn encode_denial(&self, _: &Zone) -> Option<Box<[u8]>> {
            None
        }
    }
    let zones = vec![zone("mesos")];
    let mut editor = Editor::new(1, zones, Arc::new(CountAddresses), NOW).unwrap();
    editor.set(&name("a.mesos"), vec![a(1), a(2)]).unwrap();
    editor.commit(NOW);
    let before = Arc::clone(editor.snapshot().node(&name("a.mesos")).unwrap());
    assert_eq!(before.blob(), Some([2].as_slice()));
    editor.set(&name("b.mesos"), vec![a(1)]).unwrap();
    editor.commit(NOW);
    let after = editor.snapshot().node(&name("a.mesos")).unwrap();
    assert!(Arc::ptr_eq(&before, after));
}

#[test]
fn answers_that_hold_the_addresses_of_others_are_encoded_again() {
    /// As many octets as the target of the SRV record has addresses.
    struct CountTargets;
    impl Encoder for CountTargets {
        fn encode(
            &self,
            snapshot: &Snapshot,
            node: &Node,
            _: &[Option<&Arc<Node>>],
        ) -> Option<Blob> {
            let [Rdata::Srv(_, _, _, target), ..] = node.rrset(Rtype::SRV)?.data() else {
                return None;
            };
            let found = snapshot.node(target).and_then(|node| node.rrset(Rtype::A));
            let octets = vec![0; found.map_or(0, |rrset| rrset.data().len())];
            Some(octets.into_boxed_slice().into())
        }

        fn encode_denial(&self, _: &Zone) -> Option<Box<[u8]>> {
            None
        }
    }
    let srv = Rrset::new(Rtype::SRV, 60, vec![Rdata::Srv(0, 1, 80, name("a.mesos"))]);
    let mut editor = Editor::new(1, vec![zone("mesos")], Arc::new(CountTargets), NOW).unwrap();
    editor.set(&name("_a._tcp.mesos"), vec![srv]).unwrap();
    editor.commit(NOW);
    let octets = |editor: &Editor| {
        let node = editor.snapshot().node(&name("_a._tcp.mesos")).unwrap();
        node.blob().map(<[u8]>::len)
    };
    assert_eq!(octets(&editor), Some(0));
    for (addresses, expected) in [(vec![a(1), a(2)], 2), (vec![a(3)], 1), (vec![], 0)] {
        let older = Arc::clone(editor.snapshot());
        editor.set(&name("a.mesos"), addresses).unwrap();
        let diff = editor.commit(NOW);
        assert_eq!(owners(&diff.renewed), ["_a._tcp.mesos.".to_owned()].into());
        assert_eq!(octets(&editor), Some(expected));
        assert_eq!(Diff::between(&older, editor.snapshot()).renewed.len(), 1);
    }
    // Together with more names than there were.
    for i in 0..50 {
        editor
            .set(&name(&format!("n{i}.mesos")), vec![a(1)])
            .unwrap();
    }
    editor.set(&name("a.mesos"), vec![a(4)]).unwrap();
    let diff = editor.commit(NOW);
    assert_eq!(owners(&diff.renewed), ["_a._tcp.mesos.".to_owned()].into());
    assert_eq!(octets(&editor), Some(1));

    editor.set(&name("_a._tcp.mesos"), vec![]).unwrap();
    editor.commit(NOW);
    editor.set(&name("a.mesos"), vec![a(1)]).unwrap();
    assert!(editor.commit(NOW).renewed.is_empty());
    let target = owner_hash(editor.seed, name("a.mesos").wire());
    assert!(editor.referrers.of(target).is_empty());
}

/// Content as the model keeps it: addresses by name, an empty set standing for NS.
type Model = BTreeMap<Name, BTreeSet<u8>>;

/// Every name the zones must hold, by RFC 4592, section 2.2.2: the apexes, the owners, and all
/// names between an owner and its apex.
fn expected_names(model: &Model, apexes: &[Name]) -> BTreeSet<Name> {
    let mut names: BTreeSet<Name> = apexes.iter().cloned().collect();
    for owner in model.keys().chain(apexes) {
        let mut next = Some(owner.clone());
        while let Some(name) = next {
            if !apexes.iter().any(|apex| name.is_at_or_below(apex)) {
                break;
            }
            next = name.parent();
            names.insert(name);
        }
    }
    names
}

fn assert_equals_model(snapshot: &Snapshot, model: &Model, apexes: &[Name]) {
    let names: BTreeSet<Name> = snapshot.nodes().map(|node| node.owner().clone()).collect();
    assert_eq!(names, expected_names(model, apexes));
    for zone in snapshot.zones() {
        let is_wildcard = |name: &&Name| name.labels().next() == Some(b"*");
        let is_own = |name: &&Name| snapshot.enclosing_zone(name).map(|of| of.1) == Some(&**zone);
        let wildcards = names.iter().filter(is_own).filter(is_wildcard).count();
        assert_eq!(zone.wildcards as usize, wildcards, "{}", zone.apex);
    }
    assert_eq!(snapshot.len(), names.len());
    for name in &names {
        let node = snapshot.node(name).unwrap();
        let found: Vec<u8> = node
            .rrset(Rtype::A)
            .map(|rrset| rrset.data())
            .unwrap_or_default()
            .iter()
            .filter_map(|data| match data {
                Rdata::A(ip) => Some(ip.octets()[3]),
                _ => None,
            })
            .collect();
        let wanted: Vec<u8> = model.get(name).into_iter().flatten().copied().collect();
        assert_eq!(found, wanted, "{name}");
        let has_data = !node.is_empty_non_terminal();
        assert_eq!(has_data, model.contains_key(name) || apexes.contains(name));
    }
}

fn some_name() -> impl Strategy<Value = Name> {
    let label = prop::sample::select(vec!["a", "b", "c", "in", "*"]);
    let apex = prop::sample::select(vec!["mesos", "in.a.mesos"]);
    (prop::collection::vec(label, 0..4), apex).prop_map(|(labels, apex)| {
        let mut text = labels.join(".");
        if !text.is_empty() {
            text.push('.');
        }
        name(&(text + apex))
    })
}

#[derive(Debug, Clone)]
enum Step {
    Set(Name, BTreeSet<u8>),
    Replace(Vec<(Name, u8)>),
    Commit,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (some_name(), prop::collection::btree_set(0u8..4, 0..3))
            .prop_map(|(name, set)| Step::Set(name, set)),
        1 => prop::collection::vec((some_name(), 0u8..4), 0..12).prop_map(Step::Replace),
        2 => Just(Step::Commit),
    ]
}

fn addresses(set: &BTreeSet<u8>) -> Vec<Rrset> {
    set.iter().map(|&last| a(last)).collect()
}

/// The nodes of `diff` put on top of `before`, name by name.
fn applied(before: &Snapshot, diff: &Diff) -> BTreeMap<Name, Vec<Rrset>> {
    let mut nodes: BTreeMap<Name, Vec<Rrset>> = contents(before);
    for node in &diff.removed {
        assert!(nodes.remove(node.owner()).is_some());
    }
    for node in &diff.added {
        let old = nodes.insert(node.owner().clone(), node.rrsets().to_vec());
        assert!(old.is_none());
    }
    for change in &diff.changed {
        let old = nodes.insert(change.after.owner().clone(), change.after.rrsets().to_vec());
        assert_eq!(old.as_deref(), Some(change.before.rrsets()));
    }
    nodes
}

fn contents(snapshot: &Snapshot) -> BTreeMap<Name, Vec<Rrset>> {
    snapshot
        .nodes()
        .map(|node| (node.owner().clone(), node.rrsets().to_vec()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_history_gives_what_the_model_says(steps in prop::collection::vec(step(), 1..40)) {
        let apexes = [name("mesos"), name("in.a.mesos")];
        let mut editor = editor(&["mesos", "in.a.mesos"]);
        let mut model = Model::new();
        let mut now = NOW;
        for step in steps.into_iter().chain([Step::Commit]) {
            match step {
                Step::Set(name, set) => {
                    editor.set(&name, addresses(&set)).unwrap();
                    if set.is_empty() {
                        model.remove(&name);
                    } else {
                        model.insert(name, set);
                    }
                }
                Step::Replace(content) => {
                    let outer = |name: &Name| !name.is_at_or_below(&apexes[1]);
                    model.retain(|name, _| !outer(name));
                    for (name, last) in content.iter().filter(|(name, _)| outer(name)) {
                        model.entry(name.clone()).or_default().insert(*last);
                    }
                    let content = content.into_iter().map(|(name, last)| (name, a(last)));
                    editor.replace(&apexes[0], content.collect()).unwrap();
                }
                Step::Commit => {
                    now += 1;
                    let before = Arc::clone(editor.snapshot());
                    let old_contents = contents(&before);
                    let diff = editor.commit(now);
                    let after = Arc::clone(editor.snapshot());
                    assert_equals_model(&after, &model, &apexes);
                    // The older snapshot is untouched, and the difference leads from it to the
                    // other, as does the one computed without the editor.
                    prop_assert_eq!(contents(&before), old_contents);
                    prop_assert_eq!(applied(&before, &diff), contents(&after));
                    let computed = Diff::between(&before, &after);
                    prop_assert_eq!(applied(&before, &computed), contents(&after));
                    prop_assert_eq!(computed.written().count(), diff.written().count());
                    prop_assert_eq!(computed.serials, diff.serials);
                }
            }
        }
    }
}

#[test]
fn a_zone_added_later_is_as_one_from_the_start() {
    let mut late = editor(&["mesos"]);
    late.set(&name("a.mesos"), vec![a(1)]).unwrap();
    late.commit(NOW);
    late.add(zone("b.example"), NOW).unwrap();
    late.set(&name("x.b.example"), vec![a(2)]).unwrap();
    let diff = late.commit(NOW);
    let expected = ["b.example.", "x.b.example."];
    assert_eq!(owners(&diff.added), expected.map(String::from).into());
    assert!(diff.changed.is_empty() && diff.removed.is_empty());

    let mut early = editor(&["mesos", "b.example"]);
    early.set(&name("a.mesos"), vec![a(1)]).unwrap();
    early.set(&name("x.b.example"), vec![a(2)]).unwrap();
    early.commit(NOW);
    for node in early.snapshot().nodes() {
        let same = late.snapshot().node(node.owner()).unwrap();
        assert_eq!(
            (same.zone(), same.rrsets().len()),
            (node.zone(), node.rrsets().len())
        );
    }
    assert_eq!(late.snapshot().len(), early.snapshot().len());

    let twice = late.add(zone("mesos"), NOW);
    assert_eq!(twice, Err(EditError::DuplicateZone(name("mesos"))));
    let inside = late.add(zone("a.mesos"), NOW);
    assert_eq!(inside, Err(EditError::Inhabited(name("a.mesos"))));
}

/// A secondary's zone: the serial is the primary's, whatever the clock says, and nothing is
/// answered before the first transfer and after the last one expired.
#[test]
fn a_zone_of_another_server_takes_its_soa_and_can_be_withdrawn() {
    let apex = name("mesos");
    let mut theirs = zone("mesos");
    (theirs.fixed_serial, theirs.withdrawn, theirs.ns) = (true, true, Vec::new());
    let mut editor = Editor::new(42, vec![theirs], Arc::new(NoEncoder), NOW).unwrap();
    let soa = Soa {
        serial: 7,
        ..zone("mesos").soa
    };
    let content = vec![(apex.clone(), ns("ns1.mesos")), (name("a.mesos"), a(1))];
    editor.set_soa(&apex, soa.clone(), 30).unwrap();
    editor.replace(&apex, content.clone()).unwrap();
    editor.commit(NOW + 1);
    let held = editor.snapshot().zones()[0].clone();
    assert_eq!((held.soa.serial, held.soa_ttl), (7, 30));
    assert_eq!((held.complete, held.withdrawn), (true, false));
    let rtypes = |editor: &Editor| -> Vec<Rtype> {
        let node = editor.snapshot().node(&apex).unwrap();
        node.rrsets().iter().map(Rrset::rtype).collect()
    };
    assert_eq!(rtypes(&editor), [Rtype::NS, Rtype::SOA]);

    // The SOA alone, as when only the serial moves.
    let soa = Soa { serial: 8, ..soa };
    editor.set_soa(&apex, soa, 30).unwrap();
    let diff = editor.commit(NOW + 2);
    assert_eq!((diff.changed.len(), diff.added.len()), (1, 0));
    let apex_soa = editor.snapshot().node(&apex).unwrap();
    let [Rdata::Soa(soa)] = apex_soa.rrset(Rtype::SOA).unwrap().data() else {
        panic!("{apex_soa:?}")
    };
    assert_eq!(soa.serial, 8);
    assert_eq!(rtypes(&editor), [Rtype::NS, Rtype::SOA]);

    editor.withdraw(&apex).unwrap();
    let diff = editor.commit(NOW + 3);
    let held = &editor.snapshot().zones()[0];
    assert_eq!((held.complete, held.withdrawn), (false, true));
    assert_eq!(owners(&diff.removed), ["a.mesos.".to_owned()].into());
    assert_eq!(diff.changed.len(), 1, "the apex is encoded anew");
    editor.replace(&apex, content).unwrap();
    editor.commit(NOW + 4);
    assert!(!editor.snapshot().zones()[0].withdrawn);
}
