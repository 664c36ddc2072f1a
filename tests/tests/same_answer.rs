//! The kernel, the fast path and the slow path give the same answer, octet by octet, or leave the
//! packet as it came.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use dns_common::{Interface, Verdict};
use dns_userspace::answers::fast;
use dns_userspace::answers::respond::{Decision, Policy, Transport, decide};
use dns_userspace::dataplane::{Mode, Settings, Xdp};
use dns_userspace::zones::{Rdata, Rrset, Rtype};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use tests::frame::Frame;
use tests::generate::{Ask, ask, content, editor, name, query, replace};
use tests::needs_root;

const SEED: u64 = 0x0123_4567_89ab_cdef;
const XDP_TX: u32 = 3;
const XDP_PASS: u32 = 2;

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
            let query = query(ask);
            let mut buffer = query.clone();
            buffer.resize(2048, 0xee);
            let (verdict, octets) = fast::answer(editor.snapshot(), &policy, &mut buffer, query.len());
            if verdict.is_response() {
                let slow = decide(editor.snapshot(), &query, Transport::Udp, &policy);
                let Decision::Respond(slow, _) = slow else {
                    return Err(TestCaseError::fail(format!("{ask:?}: {slow:?}")));
                };
                prop_assert_eq!(&buffer[..octets], &slow[..], "{:?}", ask);
            } else {
                prop_assert_eq!(&buffer[..query.len()], &query[..], "{:?} {:?}", ask, verdict);
                prop_assert!(buffer[query.len()..].iter().all(|octet| *octet == 0xee));
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

fn settings() -> Settings {
    Settings {
        interfaces: Vec::new(),
        mode: Mode::Off,
        max_names: 4096,
        seed: SEED,
        addresses: vec!["10.0.0.53".parse().unwrap(), "fd00::53".parse().unwrap()],
        port: 53,
        max_udp_octets: Policy::default().max_udp_octets,
        sets_truncate_bit: true,
    }
}

/// The program loaded, and told of the interface that `BPF_PROG_TEST_RUN` pretends.
fn kernel(settings: &Settings) -> Xdp {
    let object = dns_userspace::dataplane::object().expect("built with the XDP program");
    let mut xdp = Xdp::load(object, settings).unwrap();
    let mac = u64::from_le_bytes([2, 0, 0, 0, 0, 1, 0, 0]);
    xdp.set_interface(Interface {
        mac,
        index: 1,
        reserved: 0,
    })
    .unwrap();
    xdp
}

fn frame(ask: &Ask, payload: Vec<u8>) -> Frame {
    let mut frame = if ask.upper & 1 == 0 {
        Frame::query(
            "10.0.0.7".parse().unwrap(),
            "10.0.0.53".parse().unwrap(),
            payload,
        )
    } else {
        Frame::query(
            "fd00::7".parse().unwrap(),
            "fd00::53".parse().unwrap(),
            payload,
        )
    };
    let tags = [(0x88a8, 0x2007), (0x8100, 0x0123)];
    frame.tags = tags[..(ask.upper >> 1) as usize % 3].to_vec();
    frame.source_port = 1024 | ask.id;
    frame
}

/// Runs the program over a frame: what it returned, and the frame afterwards.
fn run(xdp: &mut Xdp, octets: &[u8]) -> (u32, Vec<u8>) {
    use aya::programs::{TestRun, TestRunOptions};
    let mut out = vec![0; 4096];
    let mut options = TestRunOptions::new();
    options.data_in = Some(octets);
    options.data_out = Some(&mut out);
    let result = xdp.program().unwrap().test_run(options).unwrap();
    let size = result.data_size_out as usize;
    (result.return_value, out[..size].to_vec())
}

#[test]
fn the_kernel_says_what_user_space_says() {
    needs_root!();
    let mut xdp = kernel(&settings());
    let mut editor = editor(SEED);
    let first = dns_userspace::zones::Diff::between(
        &dns_userspace::zones::Snapshot::empty(SEED),
        editor.snapshot(),
    );
    xdp.publish(editor.snapshot(), &first).unwrap();
    let mut runner = TestRunner::new(Config::default());
    let policy = Policy::default();
    let (mut responses, mut questions) = (0u32, 0u32);
    for _ in 0..200 {
        let (content, complete) = content().new_tree(&mut runner).unwrap().current();
        let mut owners: Vec<_> = content.iter().map(|(owner, _)| owner.clone()).collect();
        owners.push(name("mesos"));
        let diff = replace(&mut editor, content, complete);
        xdp.publish(editor.snapshot(), &diff).unwrap();
        for _ in 0..200 {
            let mut ask = ask().new_tree(&mut runner).unwrap().current();
            if !questions.is_multiple_of(3) {
                ask.owner = owners[ask.id as usize % owners.len()].clone();
            }
            let mut message = query(&ask);
            if questions.is_multiple_of(7) {
                // One octet of damage.
                let at = ask.upper as usize % message.len();
                message[at] ^= 1 << (ask.id % 8);
            }
            questions += 1;
            let frame = frame(&ask, message.clone());
            let mut sent = frame.octets();
            if questions.is_multiple_of(5) {
                // What Ethernet and tags that were taken off leave behind the datagram.
                sent.resize(sent.len() + 1 + ask.upper as usize % 60, 0xaa);
            }
            let (action, out) = run(&mut xdp, &sent);
            let mut buffer = message.clone();
            buffer.resize(2048, 0);
            let (verdict, octets) =
                fast::answer(editor.snapshot(), &policy, &mut buffer, message.len());
            if verdict.is_response() {
                responses += 1;
                assert_eq!(action, XDP_TX, "{ask:?} {verdict:?}");
                let expected = frame.reply(buffer[..octets].to_vec());
                assert_eq!(Frame::read(&out), Ok(expected), "{ask:?}");
            } else {
                assert_eq!(action, XDP_PASS, "{ask:?} {verdict:?}");
                assert_eq!(out, sent, "{ask:?} {verdict:?}");
            }
        }
    }
    assert!(
        responses * 4 > questions,
        "{responses} responses to {questions} questions"
    );
    let counted: u64 = xdp.counters().iter().map(|(_, count)| count).sum();
    assert_eq!(counted, u64::from(questions));
    for (verdict, count) in xdp.counters() {
        assert!(
            count > 0 || !verdict.is_response(),
            "no question led to {verdict:?}"
        );
    }
    let broken = xdp
        .counters()
        .iter()
        .find(|(one, _)| *one == Verdict::Broken)
        .unwrap()
        .1;
    assert_eq!(broken, 0);
}

#[test]
fn names_that_do_not_fit_are_left_to_user_space_and_never_denied() {
    needs_root!();
    const ROOM: u32 = 24;
    let mut xdp = kernel(&Settings {
        max_names: ROOM,
        ..settings()
    });
    let mut editor = editor(SEED);
    let empty = dns_userspace::zones::Snapshot::empty(SEED);
    let first = dns_userspace::zones::Diff::between(&empty, editor.snapshot());
    xdp.publish(editor.snapshot(), &first).unwrap();
    let address = |last: u8| Rrset::new(Rtype::A, 60, vec![Rdata::A([10, 0, 0, last].into())]);
    let asks = |owner: &str| Ask {
        owner: name(owner),
        upper: 0,
        id: 7,
        flags: 0x0100,
        rtype: 1,
        opt: None,
        version: 0,
    };
    // Grows past the room, and shrinks again.
    for count in [10u8, 60, 40, 10] {
        let owners: Vec<String> = (0..count).map(|i| format!("t{i}.mesos")).collect();
        let content = owners
            .iter()
            .zip(0..)
            .map(|(owner, i)| (name(owner), address(i)))
            .collect();
        let diff = replace(&mut editor, content, true);
        xdp.publish(editor.snapshot(), &diff).unwrap();
        let fits = u32::from(count) + 2 <= ROOM;
        let mut answered = 0;
        for owner in &owners {
            let frame = frame(&asks(owner), query(&asks(owner)));
            let (action, out) = run(&mut xdp, &frame.octets());
            if action == XDP_TX {
                answered += 1;
                // An answer, never a denial.
                let reply = Frame::read(&out).unwrap();
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
        let nobody = frame(&asks("nobody.mesos"), query(&asks("nobody.mesos")));
        let (action, _) = run(&mut xdp, &nobody.octets());
        assert_eq!(action == XDP_TX, fits, "denied with {count} names");
    }
}
