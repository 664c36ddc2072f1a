//! Whatever becomes of Mesos, answers stay, and the log says once what happened; a daemon that
//! crashed answers again when it is back.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use tests::{
    cable::SERVER,
    dig::Dig,
    fake_master::Behaviour,
    needs_scene,
    scene::{Scene, fake_local},
};

const TASK: &str = "nginx.marathon.mesos";
const ADDRESS: &str = "10.3.0.3";

/// Asks both planes: the kernel over UDP, the server over TCP.
fn answers_stay(scene: &Scene, during: &str) {
    let before = scene.daemon.status().unwrap();
    let dig = Dig::at(SERVER[0]).from(&scene.cable.client);
    for dig in [dig.clone(), dig.option("+tcp")] {
        let response = dig.ask(TASK, "A").unwrap();
        assert_eq!(response.data("A"), [ADDRESS], "{during}");
    }
    let after = scene.daemon.status().unwrap();
    assert!(after.ready, "{during}");
    assert_eq!(after.xdp.answered, before.xdp.answered + 1, "{during}");
    assert_eq!(after.names, before.names, "{during}");
    assert_eq!(after.xdp.updates, before.xdp.updates, "{during}");
}

/// Warnings and errors from this line of the log on.
fn complaints(scene: &Scene, from: usize) -> Vec<String> {
    let log = scene.daemon.log();
    let grave = |line: &&String| line.contains(" WARN ") || line.contains(" ERROR ");
    log[from..].iter().filter(grave).cloned().collect()
}

#[test]
fn answers_stay_whatever_the_master_says() {
    needs_scene!();
    let scene = Scene::with(&fake_local(), |_| {}).unwrap();
    let master = scene.master.as_ref().unwrap();
    let leader = format!(
        r#"{{"leader":"master@{}","frameworks":{{}}}}"#,
        master.address()
    );
    answers_stay(&scene, "at first");
    for (what, behaviour, word) in [
        (
            "broken JSON",
            Behaviour::Body(200, "{\"frameworks\": [".into()),
            "no state",
        ),
        ("an empty body", Behaviour::Body(200, "".into()), "no state"),
        ("a 500", Behaviour::Body(500, "oops".into()), "500"),
        ("a hang", Behaviour::Hang, "no complete response"),
        (
            "half a state, then silence",
            Behaviour::Stall,
            "no complete response",
        ),
        ("half a state", Behaviour::Cut, "end of file"),
        ("no leader", Behaviour::Body(200, "{}".into()), "leader"),
        (
            "JSON of another kind",
            Behaviour::Body(200, leader.into()),
            "frameworks",
        ),
    ] {
        let start = scene.daemon.log().len();
        let before = scene.daemon.status().unwrap().mesos;
        let asked = master.requests().len();
        master.behave(behaviour);
        // Two more requests after the first one that met this have ended.
        master
            .wait_for_requests(asked + 3, std::time::Duration::from_secs(60))
            .unwrap();
        answers_stay(&scene, what);
        let said = complaints(&scene, start);
        assert_eq!(said.len(), 1, "{what}: {said:#?}");
        assert!(said[0].contains(word), "{what}: {said:?}");
        println!("{what}: {}", said[0]);
        master.behave(Behaviour::State);
        scene
            .daemon
            .wait_until(|status| {
                status.mesos.failures_in_a_row == 0 && status.mesos.successes > before.successes
            })
            .unwrap();
        answers_stay(&scene, "afterwards");
        let said = complaints(&scene, start);
        assert_eq!(said.len(), 1, "after {what}: {said:#?}");
    }
}

#[test]
fn answers_stay_when_the_master_is_gone() {
    needs_scene!();
    let mut scene = Scene::with(&fake_local(), |_| {}).unwrap();
    let start = scene.daemon.log().len();
    drop(scene.master.take());
    let status = scene
        .daemon
        .wait_until(|status| status.mesos.failures_in_a_row >= 3)
        .unwrap();
    let error = status.mesos.last_error.unwrap();
    assert!(error.contains("refused"), "{error}");
    answers_stay(&scene, "without a master");
    let said = complaints(&scene, start);
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].contains("keeping old DNS state"), "{said:?}");
    let text = scene.daemon.status_text().unwrap();
    assert!(text.contains("fetches failed since"), "{text}");
}

#[test]
fn a_daemon_that_was_killed_answers_again_when_it_is_back() {
    needs_scene!();
    let mut scene = Scene::with(&fake_local(), |_| {}).unwrap();
    answers_stay(&scene, "before");
    for _ in 0..3 {
        scene.daemon.kill().unwrap();
        // Nobody but the kernel can answer here, if anybody does: an answer must be right.
        let dig = Dig::at(SERVER[0]).from(&scene.cable.client);
        if let Ok(response) = dig.ask(TASK, "A") {
            assert_eq!(response.data("A"), [ADDRESS]);
        }
        scene.daemon.restart().unwrap();
        answers_stay(&scene, "after a restart");
    }
    scene.daemon.stop().unwrap();
    let links = scene.cable.server.ip("-details link show server").unwrap();
    assert!(!links.contains("xdp"), "a program stays behind: {links}");
}
