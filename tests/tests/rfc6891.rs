//! RFC 6891, "Extension Mechanisms for DNS (EDNS(0))", by section, asked of the daemon with its
//! program in the kernel and of the daemon alone.

#![expect(
    clippy::expect_used,
    reason = "what a test needs and does not get ends it"
)]

use tests::{
    cable::SERVER,
    dig::{Dig, Response},
    needs_scene,
    scene::{Scene, add_tasks, fake_local},
};

const TASK: &str = "nginx.marathon.mesos";

/// The daemon in both forms: with the kernel's help, and without.
fn planes() -> [(&'static str, Scene); 2] {
    let mut state = fake_local();
    for (name, count) in [("twenty", 20), ("forty", 40)] {
        let addresses: Vec<String> = (1..=count).map(|last| format!("10.20.0.{last}")).collect();
        add_tasks(&mut state, name, &addresses);
    }
    let alone = Scene::with(&state, |plan| plan.interfaces.clear()).expect("a daemon alone");
    let kernel = Scene::with(&state, |_| {}).expect("a daemon with XDP");
    [("kernel", kernel), ("user space", alone)]
}

/// Asks without falling back to TCP, over IPv4 and IPv6, which must say the same.
fn ask(scene: &Scene, name: &str, options: &[&str]) -> Response {
    let [v4, v6] = SERVER.map(|server| {
        // One id, which also decides which record comes first.
        let dig = Dig::at(server)
            .from(&scene.cable.client)
            .option("+ignore")
            .option("+qid=4711");
        let dig = options.iter().fold(dig, |dig, option| dig.option(option));
        dig.ask(name, "A").expect("an answer")
    });
    assert_eq!(v4, v6, "{name} {options:?}");
    v4
}

#[test]
fn test_6_1_1_an_opt_record_answers_an_opt_record_only() {
    needs_scene!();
    for (plane, scene) in &planes() {
        let with = ask(scene, TASK, &[]);
        let edns = with.edns.expect("OPT");
        assert!(edns.starts_with("version: 0, flags:;"), "{plane}: {edns}");
        assert_eq!(ask(scene, TASK, &["+noedns"]).edns, None, "{plane}");
        let negative = ask(scene, "absent.mesos", &[]);
        assert!(negative.edns.is_some(), "{plane}");
        assert_eq!(
            ask(scene, "absent.mesos", &["+noedns"]).edns,
            None,
            "{plane}"
        );
        let answered = scene.daemon.status().expect("a status").xdp.answered;
        assert_eq!(answered > 0, *plane == "kernel", "{plane}: {answered}");
    }
}

#[test]
fn test_6_1_2_unknown_options_are_ignored() {
    needs_scene!();
    for (plane, scene) in &planes() {
        let plain = ask(scene, TASK, &[]);
        let with = ask(scene, TASK, &["+ednsopt=65001:0102", "+ednsopt=65002"]);
        assert_eq!(
            with.octets, plain.octets,
            "{plane}: an option was sent back"
        );
        assert_eq!(with.answer, plain.answer, "{plane}");
    }
}

#[test]
fn test_6_1_3_another_version_is_badvers_with_ours() {
    needs_scene!();
    for (plane, scene) in &planes() {
        let response = ask(scene, TASK, &["+edns=1", "+noednsneg"]);
        assert_eq!(response.status, "BADVERS", "{plane}");
        let edns = response.edns.expect("OPT");
        assert!(edns.starts_with("version: 0,"), "{plane}: {edns}");
        assert!(response.answer.is_empty(), "{plane}");
    }
}

#[test]
fn test_6_1_4_reserved_flags_are_zero_in_responses() {
    needs_scene!();
    for (plane, scene) in &planes() {
        let edns = ask(scene, TASK, &["+ednsflags=0x7fff"]).edns.expect("OPT");
        assert!(edns.starts_with("version: 0, flags:;"), "{plane}: {edns}");
        // DO is copied (RFC 3225, section 3).
        let edns = ask(scene, TASK, &["+dnssec"]).edns.expect("OPT");
        assert!(
            edns.starts_with("version: 0, flags: do;"),
            "{plane}: {edns}"
        );
    }
}

#[test]
fn test_6_2_3_sizes_below_512_mean_512() {
    needs_scene!();
    for (plane, scene) in &planes() {
        let response = ask(scene, "twenty.marathon.mesos", &["+bufsize=100"]);
        assert!(!response.has_flag("tc"), "{plane}");
        assert_eq!(response.answer.len(), 20, "{plane}");
        assert!((101..=512).contains(&response.octets), "{plane}");
    }
}

#[test]
fn test_6_2_5_the_clients_size_is_the_limit() {
    needs_scene!();
    for (plane, scene) in &planes() {
        for (option, limit) in [
            ("+noedns", 512),
            ("+bufsize=512", 512),
            ("+bufsize=600", 600),
        ] {
            let response = ask(scene, "forty.marathon.mesos", &[option]);
            assert!(response.has_flag("tc"), "{plane} {option}");
            assert!(response.octets <= limit, "{plane} {option}");
        }
        let response = ask(scene, "forty.marathon.mesos", &["+bufsize=1232"]);
        assert!(!response.has_flag("tc"), "{plane}");
        assert_eq!(response.answer.len(), 40, "{plane}");
    }
}
