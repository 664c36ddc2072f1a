//! Hard packets, one by one: the program answers or passes each as the tables say, octet by octet,
//! and the service says what the tables say of those that pass.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::collections::BTreeMap;

use hickory_proto::{op::Message, serialize::binary::BinDecodable};
use tests::{
    frame::Frame,
    kernel::{Action, Kernel, Stage, settings},
    needs_root,
    packets::{self, Case, Outcome, Service},
};

/// What the list of hard packets has that is no single packet; where it is tried instead.
const ELSEWHERE: &[(u8, &str)] = &[
    (46, "hard_network.rs: a frame without room to grow"),
    (
        60,
        "docs/operations.md: a tag that the card takes off is not seen by any program",
    ),
    (69, "publication.rs: queries during updates"),
    (70, "life_cycle.rs"),
    (71, "publication.rs: a place that is used again"),
    (72, "same_answer.rs"),
    (73, "flood.rs"),
    (74, "cargo xtask test --only kernels"),
    (75, "xdp_network.rs: a client with checksum offload"),
];

#[test]
fn the_program_does_what_the_tables_say() {
    needs_root!();
    for stage in Stage::ALL {
        does_what_the_tables_say(stage);
    }
}

fn does_what_the_tables_say(stage: Stage) {
    let editor = packets::editor();
    let mut kernel = Kernel::load_stage(stage, &settings()).unwrap();
    kernel.publish(editor.snapshot()).unwrap();
    let mut wrong = Vec::new();
    let cases = packets::all();
    for of_number in cases.chunk_by(|one, other| one.number == other.number) {
        let mut expected = kernel.counters();
        let of_number = of_number.iter().filter(|case| kernel.can_run(&case.frame));
        let of_number: Vec<_> = of_number.collect();
        for case in &of_number {
            let (action, out) = kernel.run(&case.frame).unwrap();
            let (Outcome::Answer(verdict, _) | Outcome::Pass(verdict)) = &case.kernel;
            let good = match &case.kernel {
                Outcome::Answer(_, reply) => action == Action::Tx && out == reply,
                Outcome::Pass(_) => action == Action::Pass && out == case.frame,
            };
            if !good {
                wrong.push(format!("{}: {action:?} {out:02x?}", name(case)));
            }
            for (one, count) in &mut expected {
                *count += u64::from(one == verdict);
            }
        }
        if kernel.counters() == expected {
            continue;
        }
        // One by one, which takes longer.
        for case in of_number {
            let (_, verdict, _) = kernel.judge(&case.frame).unwrap();
            let (Outcome::Answer(expected, _) | Outcome::Pass(expected)) = &case.kernel;
            if verdict != *expected {
                wrong.push(format!("{}: {verdict:?}, not {expected:?}", name(case)));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{stage:?}: {} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    println!("tables: {} packets", cases.len());
}

/// The most instructions that the verifier may go through, on any kernel.
const BUDGET: u32 = 60_000;

#[test]
fn the_verifier_stays_within_its_budget() {
    needs_root!();
    let counts = Stage::ALL.map(|stage| {
        let mut kernel = Kernel::load_stage(stage, &settings()).unwrap();
        kernel.verified_instructions().unwrap()
    });
    let [xdp, tc] = counts;
    println!("verifier: {xdp} and {tc} instructions");
    assert!(xdp <= BUDGET && tc <= BUDGET, "{xdp} and {tc} instructions");
}

#[test]
fn user_space_says_the_same() {
    let editor = packets::editor();
    let mut wrong = Vec::new();
    for case in packets::all() {
        let Some(message) = message(&case) else {
            continue;
        };
        let found = packets::serve(&editor, &message);
        if found != case.service {
            wrong.push(format!(
                "{}:\n  {found:02x?}\n  {:02x?}",
                name(&case),
                case.service
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_number_has_neighbours() {
    let mut numbers: BTreeMap<u8, (u32, u32)> = BTreeMap::new();
    for case in packets::all() {
        let (answered, passed) = numbers.entry(case.number).or_default();
        match case.kernel {
            Outcome::Answer(..) => *answered += 1,
            Outcome::Pass(_) => *passed += 1,
        }
    }
    for number in 1..=75 {
        let elsewhere = ELSEWHERE.iter().any(|(one, _)| *one == number);
        match numbers.get(&number) {
            None => assert!(elsewhere, "{number} is nowhere"),
            Some((answered, passed)) => {
                assert!(!elsewhere, "{number} is in the tables");
                assert!(
                    *answered > 0 && *passed > 0,
                    "{number}: {answered} and {passed}"
                );
            }
        }
    }
}

/// What the tables expect is DNS in the eyes of another implementation.
#[test]
fn expected_answers_are_read_by_another_decoder() {
    for case in packets::all() {
        let Outcome::Answer(_, reply) = &case.kernel else {
            continue;
        };
        let Service::Response(message) = &case.service else {
            panic!("{}: answered by the program only", name(&case));
        };
        assert!(reply.ends_with(message), "{}", name(&case));
        let message = Message::from_bytes(message).unwrap();
        assert_eq!(message.queries.len(), 1, "{}", name(&case));
        assert!(message.metadata.authoritative || message.metadata.response_code != 0.into());
    }
}

fn name(case: &Case) -> String {
    format!("{}, {}", case.number, case.what)
}

/// The message that user space gets, if the case says that it gets one.
fn message(case: &Case) -> Option<Vec<u8>> {
    if matches!(case.service, Service::Unreached | Service::Host(_)) {
        return None;
    }
    // Some have headers that the reader of frames does not take: they carry the ordinary query.
    Frame::read(&case.frame).ok().map(|frame| frame.payload)
}
