//! Named after the RFC section, or the observation of the original program, that gives the
//! expected value.

use std::sync::Arc;

use super::*;
use crate::zones::{Editor, NoEncoder, Soa, Zone};

pub(crate) fn name(text: &str) -> Name {
    Name::from_text(text).unwrap()
}

pub(crate) fn zone(apex: &str) -> Zone {
    let soa = Soa {
        mname: name("ns1.mesos"),
        rname: name("root.ns1.mesos"),
        serial: 1,
        refresh: 60,
        retry: 600,
        expire: 86400,
        minimum: 30,
    };
    Zone::new(name(apex), soa, 60, vec![name("ns1.mesos")], 3600)
}

pub(crate) fn rrset(rtype: &str, data: &[&str]) -> Rrset {
    let one = |text: &&str| match rtype {
        "A" => Rdata::A(text.parse().unwrap()),
        "AAAA" => Rdata::Aaaa(text.parse().unwrap()),
        "CNAME" => Rdata::Cname(name(text)),
        "DNAME" => Rdata::Dname(name(text)),
        "NS" => Rdata::Ns(name(text)),
        "TXT" => Rdata::Txt(vec![text.as_bytes().to_vec()]),
        "SRV" => {
            let (port, target) = text.split_once(' ').unwrap();
            Rdata::Srv(0, 1, port.parse().unwrap(), name(target))
        }
        other => unreachable!("{other}"),
    };
    let data: Vec<Rdata> = data.iter().map(one).collect();
    Rrset::new(data[0].rtype(), 60, data)
}

/// A plain zone with this content.
pub(crate) fn one_zone(apex: &str, content: Vec<(Name, Rrset)>) -> Arc<Snapshot> {
    let mut editor = Editor::new(3, vec![zone(apex)], Arc::new(NoEncoder), 1).unwrap();
    editor.replace(&name(apex), content).unwrap();
    editor.commit(1);
    Arc::clone(editor.snapshot())
}

/// Two zones of ours: one with the quirks of mesos-dns, one with those of dcos-dns, and one plain.
pub(crate) fn snapshot() -> Arc<Snapshot> {
    let mut mesos = zone("mesos");
    mesos.recursion_available = true;
    mesos.unknown_srv_is_nodata = true;
    mesos.ignores_stars = true;
    mesos.expands_wildcards = false;
    let mut directory = zone("dcos.thisdcos.directory");
    directory.alias_to_nothing_is_nodata = true;
    directory.any_follows_aliases = true;
    let zones = vec![
        mesos,
        directory,
        zone("plain.test"),
        zone("child.plain.test"),
    ];
    let mut editor = Editor::new(3, zones, Arc::new(NoEncoder), 1).unwrap();
    let content = [
        ("ns1.mesos", rrset("A", &["10.0.0.53"])),
        ("web.marathon.mesos", rrset("A", &["10.0.0.2", "10.0.0.1"])),
        ("web.marathon.mesos", rrset("AAAA", &["fd00::1"])),
        ("web-1.marathon.mesos", rrset("A", &["10.0.0.1"])),
        ("*.wf.mesos", rrset("A", &["21.0.0.1"])),
        (
            "_web._tcp.marathon.mesos",
            rrset(
                "SRV",
                &[
                    "31000 web-1.marathon.mesos",
                    "31001 web-1.marathon.mesos",
                    "80 elsewhere.com",
                ],
            ),
        ),
        ("five.dcos.thisdcos.directory", rrset("A", &["127.0.0.1"])),
        (
            "c1.dcos.thisdcos.directory",
            rrset("CNAME", &["five.dcos.thisdcos.directory"]),
        ),
        (
            "far.dcos.thisdcos.directory",
            rrset("CNAME", &["www.example.com"]),
        ),
        (
            "dang.dcos.thisdcos.directory",
            rrset("CNAME", &["nope.mesos"]),
        ),
        (
            "l1.dcos.thisdcos.directory",
            rrset("CNAME", &["l2.dcos.thisdcos.directory"]),
        ),
        (
            "l2.dcos.thisdcos.directory",
            rrset("CNAME", &["l1.dcos.thisdcos.directory"]),
        ),
        (
            "sub.plain.test",
            rrset("NS", &["ns.sub.plain.test", "ns1.mesos"]),
        ),
        ("ns.sub.plain.test", rrset("A", &["192.0.2.53"])),
        ("old.plain.test", rrset("DNAME", &["marathon.mesos"])),
        ("d.plain.test", rrset("DNAME", &["marathon.mesos"])),
        ("dang.plain.test", rrset("CNAME", &["nope.plain.test"])),
        ("into.plain.test", rrset("CNAME", &["a.sub.plain.test"])),
        ("*.wild.plain.test", rrset("TXT", &["wild"])),
        ("a.host.wild.plain.test", rrset("A", &["192.0.2.1"])),
    ];
    for apex in [
        "mesos",
        "dcos.thisdcos.directory",
        "plain.test",
        "child.plain.test",
    ] {
        let apex = name(apex);
        let content = content
            .iter()
            .map(|(owner, rrset)| (name(owner), rrset.clone()))
            .collect();
        editor.replace(&apex, content).unwrap();
    }
    editor.commit(1);
    Arc::clone(editor.snapshot())
}

fn texts(entries: &[Entry<'_>]) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in entries {
        for data in entry.rrset.data() {
            let (owner, ttl) = (&entry.owner, entry.rrset.ttl());
            lines.push(format!("{owner} {ttl} {} {data}", entry.rrset.rtype()));
        }
    }
    lines
}

/// The rcode and the three sections, in presentation format.
fn ask(question: &str, rtype: Rtype) -> (Rcode, Vec<String>, Vec<String>, Vec<String>) {
    let snapshot = snapshot();
    let resolution = resolve(&snapshot, &name(question), rtype).unwrap();
    (
        resolution.rcode,
        texts(&resolution.answer),
        texts(&resolution.authority),
        texts(&resolution.additional),
    )
}

fn soa(apex: &str) -> String {
    format!("{apex} 30 SOA ns1.mesos. root.ns1.mesos. 2 60 600 86400 30")
}

#[test]
fn an_rrset_is_answered_whole() {
    let (rcode, answer, authority, additional) = ask("web.marathon.mesos", Rtype::A);
    assert_eq!(rcode, Rcode::NOERROR);
    let expected = [
        "web.marathon.mesos. 60 A 10.0.0.1",
        "web.marathon.mesos. 60 A 10.0.0.2",
    ];
    assert_eq!(answer, expected);
    assert!(authority.is_empty() && additional.is_empty());
}

#[test]
fn rfc2308_2_2_nodata_has_the_apex_soa_with_the_lesser_ttl() {
    let (rcode, answer, authority, _) = ask("web.marathon.mesos", Rtype::TXT);
    assert_eq!((rcode, answer), (Rcode::NOERROR, vec![]));
    assert_eq!(authority, [soa("mesos.")]);
}

#[test]
fn rfc2308_2_1_nxdomain_has_the_apex_soa() {
    let (rcode, answer, authority, _) = ask("nope.marathon.mesos", Rtype::A);
    assert_eq!((rcode, answer), (Rcode::NXDOMAIN, vec![]));
    assert_eq!(authority, [soa("mesos.")]);
}

#[test]
fn rfc8020_an_empty_non_terminal_is_nodata() {
    for question in ["marathon.mesos", "_tcp.marathon.mesos", "mesos"] {
        let (rcode, answer, authority, _) = ask(question, Rtype::A);
        assert_eq!((rcode, answer), (Rcode::NOERROR, vec![]), "{question}");
        assert_eq!(authority, [soa("mesos.")]);
    }
}

#[test]
fn an_unknown_srv_name_is_noerror_as_in_mesos_dns_and_nxdomain_elsewhere() {
    let (rcode, _, authority, _) = ask("nope.mesos", Rtype::SRV);
    assert_eq!(rcode, Rcode::NOERROR);
    assert_eq!(authority, [soa("mesos.")]);
    assert_eq!(ask("nope.plain.test", Rtype::SRV).0, Rcode::NXDOMAIN);
}

#[test]
fn stars_after_the_first_label_are_not_looked_at_in_mesos() {
    let answer = ask("web.*.marathon.mesos", Rtype::A).1;
    assert_eq!(answer[0], "web.marathon.mesos. 60 A 10.0.0.1");
    let answer = ask("_web._tcp.*.marathon.mesos", Rtype::SRV).1;
    assert!(answer[0].starts_with("_web._tcp.*.marathon.mesos. "));
    assert_eq!(ask("*.web.marathon.mesos", Rtype::A).0, Rcode::NXDOMAIN);
    let glued = without_stars(&name("we.*b.marathon.mesos"));
    assert_eq!(glued, Some(name("web.marathon.mesos")));
    assert_eq!(without_stars(&name("*.web.mesos")), None);
}

#[test]
fn rfc2782_srv_comes_with_the_addresses_of_distinct_targets() {
    let (rcode, answer, _, additional) = ask("_web._tcp.marathon.mesos", Rtype::SRV);
    assert_eq!(rcode, Rcode::NOERROR);
    assert_eq!(answer.len(), 3);
    assert_eq!(additional, ["web-1.marathon.mesos. 60 A 10.0.0.1"]);
}

#[test]
fn ns_of_the_apex_comes_with_its_address() {
    let (_, answer, _, additional) = ask("dcos.thisdcos.directory", Rtype::NS);
    assert_eq!(answer, ["dcos.thisdcos.directory. 3600 NS ns1.mesos."]);
    assert_eq!(additional, ["ns1.mesos. 60 A 10.0.0.53"]);
}

#[test]
fn soa_of_the_apex_is_an_answer_with_its_own_ttl() {
    let (_, answer, authority, _) = ask("mesos", Rtype::SOA);
    assert_eq!(
        answer,
        ["mesos. 60 SOA ns1.mesos. root.ns1.mesos. 2 60 600 86400 30"]
    );
    assert!(authority.is_empty());
}

#[test]
fn rfc1034_4_3_2_any_gives_everything_at_the_name_and_dcos_dns_follows_an_alias() {
    assert_eq!(ask("web.marathon.mesos", Rtype::ANY).1.len(), 3);
    let answer = ask("c1.dcos.thisdcos.directory", Rtype::ANY).1;
    let expected = [
        "c1.dcos.thisdcos.directory. 60 CNAME five.dcos.thisdcos.directory.",
        "five.dcos.thisdcos.directory. 60 A 127.0.0.1",
    ];
    assert_eq!(answer, expected);
    let (rcode, answer, authority, _) = ask("dang.plain.test", Rtype::ANY);
    assert_eq!(answer, ["dang.plain.test. 60 CNAME nope.plain.test."]);
    assert_eq!((rcode, authority), (Rcode::NOERROR, vec![]));
}

#[test]
fn a_cname_is_answered_alone_when_asked_for() {
    let answer = ask("c1.dcos.thisdcos.directory", Rtype::CNAME).1;
    assert_eq!(
        answer,
        ["c1.dcos.thisdcos.directory. 60 CNAME five.dcos.thisdcos.directory."]
    );
}

#[test]
fn an_alias_out_of_our_zones_ends_the_answer() {
    let (rcode, answer, authority, _) = ask("far.dcos.thisdcos.directory", Rtype::A);
    assert_eq!(rcode, Rcode::NOERROR);
    assert_eq!(
        answer,
        ["far.dcos.thisdcos.directory. 60 CNAME www.example.com."]
    );
    assert!(authority.is_empty());
}

#[test]
fn an_alias_to_nothing_has_the_soa_of_the_zone_it_leads_to() {
    // dcos-dns keeps NOERROR; RFC 6604, section 3 has the rcode speak of the last name.
    let (rcode, answer, authority, _) = ask("dang.dcos.thisdcos.directory", Rtype::A);
    assert_eq!((rcode, answer.len()), (Rcode::NOERROR, 1));
    assert_eq!(authority, [soa("mesos.")]);
    assert_eq!(ask("dang.plain.test", Rtype::A).0, Rcode::NXDOMAIN);
}

#[test]
fn a_loop_is_servfail_with_one_cname() {
    let (rcode, answer, authority, _) = ask("l1.dcos.thisdcos.directory", Rtype::A);
    assert_eq!(rcode, Rcode::SERVFAIL);
    assert_eq!(
        answer,
        ["l1.dcos.thisdcos.directory. 60 CNAME l2.dcos.thisdcos.directory."]
    );
    assert!(authority.is_empty());
}

#[test]
fn rfc6672_2_2_dname_is_substituted_below_its_owner_only() {
    let (rcode, answer, _, _) = ask("web.old.plain.test", Rtype::AAAA);
    assert_eq!(rcode, Rcode::NOERROR);
    let expected = [
        "old.plain.test. 60 DNAME marathon.mesos.",
        "web.old.plain.test. 60 CNAME web.marathon.mesos.",
        "web.marathon.mesos. 60 AAAA fd00::1",
    ];
    assert_eq!(answer, expected);
    let (rcode, answer, authority, _) = ask("old.plain.test", Rtype::A);
    assert_eq!((rcode, answer), (Rcode::NOERROR, vec![]));
    assert_eq!(authority, [soa("plain.test.")]);
}

#[test]
fn rfc6672_2_2_a_substitution_that_is_too_long_is_yxdomain() {
    let label = "x".repeat(61);
    let long = format!("{label}.{label}.{label}.{}.d.plain.test", "y".repeat(53));
    let (rcode, answer, _, _) = ask(&long, Rtype::A);
    assert_eq!(rcode, Rcode::YXDOMAIN);
    assert_eq!(answer, ["d.plain.test. 60 DNAME marathon.mesos."]);
}

#[test]
fn rfc1034_4_3_2_a_delegation_is_a_referral_with_glue() {
    let snapshot = snapshot();
    for question in ["sub.plain.test", "ns.sub.plain.test", "a.b.sub.plain.test"] {
        let found = resolve(&snapshot, &name(question), Rtype::A).unwrap();
        assert!(!found.authoritative && found.answer.is_empty());
        assert_eq!(found.rcode, Rcode::NOERROR);
        let expected = [
            "sub.plain.test. 60 NS ns1.mesos.",
            "sub.plain.test. 60 NS ns.sub.plain.test.",
        ];
        assert_eq!(texts(&found.authority), expected);
        assert_eq!(texts(&found.additional).len(), 2);
        assert!(found.needs_additional);
    }
    let through_alias = resolve(&snapshot, &name("into.plain.test"), Rtype::A).unwrap();
    assert!(through_alias.authoritative);
    assert_eq!(through_alias.authority.len(), 1);
}

#[test]
fn rfc4035_3_1_4_1_ds_belongs_above_the_cut() {
    let (rcode, answer, authority, _) = ask("sub.plain.test", Rtype::DS);
    assert_eq!((rcode, answer), (Rcode::NOERROR, vec![]));
    assert_eq!(authority, [soa("plain.test.")]);
    let (rcode, _, authority, _) = ask("child.plain.test", Rtype::DS);
    assert_eq!(rcode, Rcode::NOERROR);
    assert_eq!(authority, [soa("plain.test.")]);
    assert_eq!(ask("mesos", Rtype::DS).2, [soa("mesos.")]);
}

#[test]
fn rfc4592_2_2_1_a_wildcard_stands_for_what_does_not_exist() {
    let (rcode, answer, _, _) = ask("x.y.wild.plain.test", Rtype::TXT);
    assert_eq!(rcode, Rcode::NOERROR);
    assert_eq!(answer, ["x.y.wild.plain.test. 60 TXT \"wild\""]);
    // The name exists, as an empty non-terminal, so the wildcard does not speak for it or below.
    assert_eq!(ask("host.wild.plain.test", Rtype::TXT).1, [""; 0]);
    assert_eq!(ask("b.host.wild.plain.test", Rtype::TXT).0, Rcode::NXDOMAIN);
    assert_eq!(ask("x.wild.plain.test", Rtype::A).2, [soa("plain.test.")]);
}

/// mesos-dns looks up exactly the name that is asked for, and leaves a leading `*.` as it is.
#[test]
fn a_task_whose_name_is_a_star_is_no_wildcard() {
    assert_eq!(ask("*.wf.mesos", Rtype::A).1, ["*.wf.mesos. 60 A 21.0.0.1"]);
    let (rcode, answer, authority, _) = ask("nothere.wf.mesos", Rtype::A);
    assert_eq!((rcode, answer), (Rcode::NXDOMAIN, vec![]));
    assert_eq!(authority, [soa("mesos.")]);
    assert_eq!(ask("nothere.*.wf.mesos", Rtype::A).0, Rcode::NXDOMAIN);
}

#[test]
fn a_name_of_nobody_is_none() {
    assert!(resolve(&snapshot(), &name("example.com"), Rtype::A).is_none());
    assert!(resolve(&snapshot(), &name("xmesos"), Rtype::A).is_none());
}

#[test]
fn a_zone_without_content_yet_never_says_nxdomain() {
    let mut editor = Editor::new(1, vec![zone("mesos")], Arc::new(NoEncoder), 1).unwrap();
    editor
        .set(&name("leader.mesos"), vec![rrset("A", &["10.0.0.1"])])
        .unwrap();
    editor.commit(1);
    let snapshot = editor.snapshot();
    let unknown = resolve(snapshot, &name("web.marathon.mesos"), Rtype::A).unwrap();
    assert_eq!(unknown.rcode, Rcode::SERVFAIL);
    assert_eq!(unknown.extended_error, Some(ExtendedError::NOT_READY));
    assert!(unknown.authority.is_empty());
    let known = resolve(snapshot, &name("leader.mesos"), Rtype::A).unwrap();
    assert_eq!((known.rcode, known.answer.len()), (Rcode::NOERROR, 1));
}

/// RFC 1035, section 3.3.13: what expired is no longer authoritative, not even at the apex. Neither
/// a finished answer nor a denial is left for the kernel.
#[test]
fn a_withdrawn_zone_is_servfail_whatever_is_asked() {
    let apex = name("mesos");
    let encoder = Arc::new(crate::answers::encode::BlobEncoder);
    let mut editor = Editor::new(3, vec![zone("mesos")], encoder, 1).unwrap();
    let content = vec![(name("a.mesos"), rrset("A", &["10.0.0.1"]))];
    editor.replace(&apex, content).unwrap();
    editor.commit(2);
    editor.withdraw(&apex).unwrap();
    editor.commit(3);
    for (owner, rtype) in [
        ("mesos", Rtype::SOA),
        ("mesos", Rtype::NS),
        ("a.mesos", Rtype::A),
        ("b.mesos", Rtype::A),
    ] {
        let resolution = resolve(editor.snapshot(), &name(owner), rtype).unwrap();
        assert_eq!(resolution.rcode, Rcode::SERVFAIL, "{owner} {rtype}");
        assert!(!resolution.authoritative && resolution.answer.is_empty());
        let mut query = b"\0\x07\0\0\0\x01\0\0\0\0\0\0".to_vec();
        query.extend_from_slice(name(owner).wire());
        query.extend_from_slice(&rtype.0.to_be_bytes());
        query.extend_from_slice(&[0, 1]);
        let len = query.len();
        query.resize(512, 0);
        let policy = crate::answers::Policy::default();
        let (verdict, _) =
            crate::answers::fast::answer(editor.snapshot(), &policy, &mut query, len);
        assert!(!verdict.is_response(), "{owner} {rtype}: {verdict:?}");
    }
}

/// A signed zone that was transferred has them, and its aliases lead on.
#[test]
fn rfc4035_2_5_what_signs_an_alias_is_beside_it() {
    const RRSIG: Rtype = Rtype(46);
    const NSEC: Rtype = Rtype(47);
    let encoder = Arc::new(crate::answers::encode::BlobEncoder);
    let mut editor = Editor::new(3, vec![zone("signed.test")], encoder, 1).unwrap();
    let opaque = |rtype| Rrset::new(rtype, 60, vec![Rdata::Opaque(rtype, Box::from([7; 20]))]);
    let (alias, target) = (name("alias.signed.test"), name("target.signed.test"));
    let mut content = vec![
        (alias.clone(), rrset("CNAME", &["target.signed.test"])),
        (target.clone(), rrset("A", &["10.0.0.1"])),
    ];
    for owner in [&alias, &target] {
        content.extend([RRSIG, NSEC].map(|rtype| (owner.clone(), opaque(rtype))));
    }
    editor.replace(&name("signed.test"), content).unwrap();
    editor.commit(2);
    let snapshot = editor.snapshot();
    for (rtype, expected) in [
        (Rtype::A, &[(&alias, Rtype::CNAME), (&target, Rtype::A)][..]),
        (Rtype::TXT, &[(&alias, Rtype::CNAME)]),
        (Rtype::CNAME, &[(&alias, Rtype::CNAME)]),
        (RRSIG, &[(&alias, RRSIG)]),
        (NSEC, &[(&alias, NSEC)]),
    ] {
        let resolution = resolve(snapshot, &alias, rtype).unwrap();
        let answer = resolution.answer.iter();
        let answer: Vec<_> = answer.map(|one| (&one.owner, one.rrset.rtype())).collect();
        assert_eq!(answer, expected, "{rtype}");
        // The finished answer, where there is one, is the same.
        let mut query = b"\0\x07\0\0\0\x01\0\0\0\0\0\0".to_vec();
        query.extend_from_slice(alias.wire());
        query.extend_from_slice(&rtype.0.to_be_bytes());
        query.extend_from_slice(&[0, 1]);
        let policy = crate::answers::Policy::default();
        let udp = crate::answers::Transport::Udp;
        let decision = crate::answers::decide(snapshot, &query, udp, &policy);
        let mut buffer = [query.as_slice(), &[0; 512]].concat();
        let (verdict, octets) =
            crate::answers::fast::answer(snapshot, &policy, &mut buffer, query.len());
        assert_eq!(verdict.is_response(), rtype != Rtype::TXT, "{rtype}");
        if verdict.is_response() {
            buffer.truncate(octets);
            let fast = crate::answers::Decision::Respond(buffer, Rcode::NOERROR);
            assert_eq!(decision, fast, "{rtype}");
        }
    }
}

#[test]
fn rfc6895_2_3_codes_have_their_names() {
    for (code, name) in [
        (0, "NOERROR"),
        (1, "FORMERR"),
        (2, "SERVFAIL"),
        (3, "NXDOMAIN"),
        (4, "NOTIMP"),
        (5, "REFUSED"),
        (6, "YXDOMAIN"),
        (7, "YXRRSET"),
        (8, "NXRRSET"),
        (9, "NOTAUTH"),
        (10, "NOTZONE"),
        (11, "code 11"),
        (16, "BADVERS"),
        (23, "BADCOOKIE"),
    ] {
        assert_eq!(Rcode(code).to_string(), name);
    }
}
