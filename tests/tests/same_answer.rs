//! The kernel, the fast path and the slow path give the same answer, octet by octet, or leave the
//! packet as it came.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{collections::BTreeMap, thread};

use dns_common::Verdict;
use dns_userspace::answers::fast;
use dns_userspace::answers::respond::{Decision, Policy, Transport, decide};
use dns_userspace::dataplane::Settings;
use dns_userspace::zones::{Name, Rdata, Rrset, Rtype, Snapshot};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tests::cable::{CLIENT, SERVER};
use tests::differential::{self, Source};
use tests::frame::Frame;
use tests::generate::{Ask, ask, content, editor, editor_with, name, query, replace};
use tests::kernel::{Action, Kernel, SEED, Stage, settings};
use tests::needs_root;
use tests::oracle::Query;

/// Few names, so that they meet: some below others, and one for all that is not there.
const LINKS: [&str; 8] = [
    "a.mesos",
    "b.mesos",
    "c.mesos",
    "d.mesos",
    "x.d.mesos",
    "*.w.mesos",
    "x.w.mesos",
    "e.l4lb.directory",
];

/// What the responder of the kernel makes of a query, in user space: the answer of the slow path, or
/// nothing at all.
fn answers_alike(snapshot: &Snapshot, policy: &Policy, ask: &Ask) -> Result<(), TestCaseError> {
    let query = query(ask);
    let mut buffer = query.clone();
    buffer.resize(2048, 0xee);
    let (verdict, octets) = fast::answer(snapshot, policy, &mut buffer, query.len());
    if verdict.is_response() {
        let slow = decide(snapshot, &query, Transport::Udp, policy);
        let Decision::Respond(slow, _) = slow else {
            return Err(TestCaseError::fail(format!("{ask:?}: {slow:?}")));
        };
        prop_assert_eq!(&buffer[..octets], &slow[..], "{:?}", ask);
    } else {
        prop_assert_eq!(
            &buffer[..query.len()],
            &query[..],
            "{:?} {:?}",
            ask,
            verdict
        );
        prop_assert!(buffer[query.len()..].iter().all(|octet| *octet == 0xee));
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_fast_path_says_what_the_slow_path_says(
        (content, complete) in content(),
        asks in prop::collection::vec(ask(), 1..60),
    ) {
        let mut editor = editor(SEED);
        replace(&mut editor, content, complete);
        let policy = Policy::default();
        for ask in &asks {
            answers_alike(editor.snapshot(), &policy, ask)?;
        }
    }

    /// Names lead to each other by aliases, wildcards and subtrees, and change one by one.
    #[test]
    fn what_lies_at_the_end_of_aliases_is_answered_as_it_is(
        steps in prop::collection::vec((0..LINKS.len(), 0..LINKS.len(), 0u8..6), 1..40),
    ) {
        let mut editor = editor(SEED);
        editor.mark_complete(&name("mesos"), true).unwrap();
        let policy = Policy::default();
        for (owner, target, what) in steps {
            let target = name(LINKS[target]);
            let data = match what {
                0 => None,
                1 => Some(Rdata::A([10, 0, 0, owner as u8].into())),
                2 => Some(Rdata::Dname(target)),
                _ => Some(Rdata::Cname(target)),
            };
            let rrsets = data.into_iter().map(|data| Rrset::new(data.rtype(), 60, vec![data]));
            editor.set(&name(LINKS[owner]), rrsets.collect()).unwrap();
            editor.commit(2);
            for (link, rtype) in LINKS.iter().flat_map(|link| [(link, 1), (link, 5), (link, 28)]) {
                let ask = Ask { owner: name(link), upper: 0, id: 7, flags: 0x0100, rtype, opt: None, version: 0 };
                answers_alike(editor.snapshot(), &policy, &ask)?;
            }
        }
    }

    #[test]
    fn any_octets_are_answered_or_left_alone(
        (content, complete) in content(),
        mut octets in prop::collection::vec(any::<u8>(), 0..300),
        header in any::<bool>(),
    ) {
        if header && octets.len() > 12 {
            octets[2..12].copy_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        }
        let mut editor = editor(SEED);
        replace(&mut editor, content, complete);
        let mut buffer = octets.clone();
        buffer.resize(2048, 0);
        let (verdict, _) =
            fast::answer(editor.snapshot(), &Policy::default(), &mut buffer, octets.len());
        if !verdict.is_response() {
            prop_assert_eq!(&buffer[..octets.len()], &octets[..]);
        }
    }
}

/// How many frames are tried; a nightly run may want a hundred times as many.
const CASES: &str = "MESOS_XDNS_CASES";
/// The seed of a run that is to be repeated.
const FROM_SEED: &str = "MESOS_XDNS_SEED";
/// The most frames between two changes of the zones. A short run changes them more often: what a
/// zone answers is a matter of luck, and few of them may be poor ones.
const FRAMES_PER_ZONE: u64 = 2_000;
/// The fewest changes of the zones in a run.
const ZONES: u64 = 100;

#[test]
fn the_kernel_says_what_user_space_says() {
    needs_root!();
    for stage in Stage::ALL {
        says_what_user_space_says(stage);
    }
}

fn says_what_user_space_says(stage: Stage) {
    let number = |variable: &str| -> Option<u64> {
        let text = std::env::var(variable).ok()?;
        Some(text.parse().unwrap())
    };
    let cases = number(CASES).unwrap_or(match stage {
        Stage::Xdp => 1_000_000,
        Stage::Tc => 500_000,
    });
    let seed = number(FROM_SEED).unwrap_or_else(rand::random);
    let workers = thread::available_parallelism().map_or(1, |cpus| cpus.get().min(4)) as u64;
    let frames = cases.div_ceil(ZONES).min(FRAMES_PER_ZONE);
    let zones = cases.div_ceil(frames).div_ceil(workers);
    println!("{stage:?}: {cases} frames, {FROM_SEED}={seed}");
    let counted: Vec<Counts> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers)
            .map(|worker| {
                scope.spawn(move || compare(stage, seed.wrapping_add(worker), zones, frames))
            })
            .collect();
        let done = workers.into_iter().map(|worker| worker.join());
        let done = done.map(|counts| counts.unwrap_or_else(|_| panic!("{FROM_SEED}={seed}")));
        done.collect()
    });
    let mut total = Counts::new();
    for (verdict, count) in counted.into_iter().flatten() {
        *total.entry(verdict).or_default() += count;
    }
    println!("{total:?}");
    let all: u64 = total.values().sum();
    let responses: u64 = total
        .iter()
        .filter(|(one, _)| one.is_response())
        .map(|(_, n)| n)
        .sum();
    assert!(
        all * 20 >= cases * 19 && responses * 4 > all,
        "{responses} responses to {all} frames"
    );
    for verdict in Verdict::ALL {
        // Broken must not be; the others cannot be here: a lease, a name in the way of another,
        // frames that cannot grow, options that are left to user space, clients that are kept short.
        let never = [
            Verdict::Broken,
            Verdict::Lease,
            Verdict::Collision,
            Verdict::Resize,
            Verdict::Option,
            Verdict::Prohibited,
            Verdict::Limited,
            Verdict::Slipped,
        ];
        let count = total[verdict];
        assert_eq!(
            count == 0,
            never.contains(verdict),
            "{count} of {verdict:?}"
        );
    }
}

/// Packets by verdict.
type Counts = BTreeMap<Verdict, u64>;

/// Tries as many frames over each of as many zones, and counts the verdicts of the program.
///
/// # Panics
/// If the program and user space differ, with the frame.
fn compare(stage: Stage, seed: u64, zones: u64, frames: u64) -> Counts {
    let mut kernel = Kernel::load_stage(stage, &settings()).unwrap();
    let mut editor = editor_with(SEED, kernel.encoder());
    kernel.publish(editor.snapshot()).unwrap();
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed.to_le_bytes(); 4].concat());
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let mut source = Source::new(seed);
    let host = differential::host();
    let policy = Policy::default();
    let mut buffer = Vec::new();
    let mut expected = Counts::new();
    let mut run = 0;
    for zone in 0..zones {
        let (content, complete) = content().new_tree(&mut runner).unwrap().current();
        let of = |(owner, rrset): &(Name, Rrset)| (owner.clone(), rrset.rtype().0);
        let mut owners: Vec<_> = content.iter().map(of).collect();
        owners.push((name("mesos"), Rtype::SOA.0));
        replace(&mut editor, content, complete);
        kernel.publish(editor.snapshot()).unwrap();
        for _ in 0..frames {
            source.next(&owners);
            let sent = &source.frame;
            if !kernel.can_run(sent) {
                continue;
            }
            run += 1;
            let (action, out) = kernel.run(sent).unwrap();
            let shown = || format!("seed {seed}, zone {zone}: {sent:02x?}");
            let query = Query::read(sent, &host);
            let answered = query.and_then(|query| {
                buffer.clear();
                buffer.extend(&query.frame.payload);
                buffer.resize(2048, 0);
                let octets = query.frame.payload.len();
                let (verdict, size) = fast::answer(editor.snapshot(), &policy, &mut buffer, octets);
                verdict.is_response().then_some((query, verdict, size))
            });
            let Some((query, verdict, size)) = answered else {
                assert_eq!(action, Action::Pass, "{}", shown());
                assert_eq!(out, sent, "touched and passed: {}", shown());
                continue;
            };
            *expected.entry(verdict).or_default() += 1;
            assert_eq!(action, Action::Tx, "{verdict:?} {}", shown());
            let response = &buffer[..size];
            assert_eq!(
                out,
                query.reply(response.to_vec()),
                "{verdict:?} {}",
                shown()
            );
            let slow = decide(
                editor.snapshot(),
                &query.frame.payload,
                Transport::Udp,
                &policy,
            );
            let Decision::Respond(slow, _) = slow else {
                panic!("{slow:?}: {}", shown());
            };
            assert_eq!(response, slow, "{verdict:?} {}", shown());
        }
    }
    let counted: Counts = kernel.counters().into_iter().collect();
    assert_eq!(counted.values().sum::<u64>(), run);
    for (verdict, count) in counted.iter().filter(|(verdict, _)| verdict.is_response()) {
        assert_eq!(
            *count,
            expected.get(verdict).copied().unwrap_or_default(),
            "{verdict:?}"
        );
    }
    counted
}

#[test]
fn names_that_do_not_fit_are_left_to_user_space_and_never_denied() {
    needs_root!();
    const ROOM: u32 = 24;
    let mut kernel = Kernel::load(&Settings {
        max_names: ROOM,
        ..settings()
    })
    .unwrap();
    let mut editor = editor(SEED);
    kernel.publish(editor.snapshot()).unwrap();
    let address = |last: u8| Rrset::new(Rtype::A, 60, vec![Rdata::A([10, 0, 0, last].into())]);
    let asks = |owner: &str| {
        let ask = Ask {
            owner: name(owner),
            upper: 0,
            id: 7,
            flags: 0x0100,
            rtype: 1,
            opt: None,
            version: 0,
        };
        let [client, server] = [CLIENT[0], SERVER[0]].map(|text| text.parse().unwrap());
        Frame::query(client, server, query(&ask)).octets()
    };
    // Grows past the room, and shrinks again.
    for count in [10u8, 60, 40, 10] {
        let owners: Vec<String> = (0..count).map(|i| format!("t{i}.mesos")).collect();
        let content = owners
            .iter()
            .zip(0..)
            .map(|(owner, i)| (name(owner), address(i)))
            .collect();
        replace(&mut editor, content, true);
        kernel.publish(editor.snapshot()).unwrap();
        let fits = u32::from(count) + 2 <= ROOM;
        let mut answered = 0;
        for owner in &owners {
            let (action, out) = kernel.run(&asks(owner)).unwrap();
            if action == Action::Tx {
                answered += 1;
                // An answer, never a denial.
                let reply = Frame::read(out).unwrap();
                assert_eq!(reply.payload[3] & 0xf, 0, "{owner}");
                assert_eq!(reply.payload[7], 1, "{owner}");
            }
        }
        assert_eq!(
            answered == usize::from(count),
            fits,
            "{answered} of {count}"
        );
        assert!(answered > 0);
        let (action, _) = kernel.run(&asks("nobody.mesos")).unwrap();
        assert_eq!(action == Action::Tx, fits, "denied with {count} names");
    }
}
