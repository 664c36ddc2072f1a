//! The life of the kernel's side as the field's load generator sees it: kxdpgun counts as many
//! replies as it sent queries, whatever becomes of the daemon.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test needs and does not get ends it"
)]

use std::{fs, path::PathBuf, process::Stdio};

use serde_json::json;
use tests::{
    cable::{Cable, SERVER},
    needs_scene, needs_tool,
    pins::Pins,
    scene::{Scene, fake_local},
};

/// Queries per second: what a busy machine can still send and take.
const RATE: &str = "5000";
const SECONDS: &str = "12";

/// A file with one question.
struct Queries(PathBuf);

impl Queries {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("kxdpgun-{}", std::process::id()));
        fs::write(&path, "nginx.marathon.mesos A\n").unwrap();
        Self(path)
    }
}

impl Drop for Queries {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The number behind `words` in what kxdpgun printed.
fn count(text: &str, words: &str) -> u64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(words));
    let rest = rest.unwrap_or_else(|| panic!("no {words:?} in {text}"));
    let number = rest.split_whitespace().next().unwrap();
    number.parse().unwrap()
}

#[test]
fn kxdpgun_gets_every_reply_while_daemons_die_and_programs_change() {
    needs_scene!();
    needs_tool!("kxdpgun");
    let pins = Pins::mount().unwrap();
    let mut cable = Cable::new().unwrap();
    cable.make_room_for_a_program();
    let mut scene = Scene::on(cable, &fake_local(), |plan| {
        plan.config["xdp"]["pin_path"] = pins.path().to_str().unwrap().into();
        plan.config["xdp"]["on_exit"] = json!("keep");
    })
    .unwrap();
    let queries = Queries::new();
    let load = scene
        .cable
        .client
        .command("kxdpgun")
        .args(["-t", SECONDS, "-Q", RATE, "-i"])
        .arg(&queries.0)
        .arg(SERVER[0])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let answers_more = |scene: &Scene| {
        let before = scene.daemon.status().unwrap().xdp.answered;
        scene
            .daemon
            .wait_until(|status| status.xdp.answered > before + 500)
            .unwrap();
    };
    answers_more(&scene);
    scene.daemon.kill().unwrap();
    scene.daemon.restart().unwrap();
    answers_more(&scene);
    scene.daemon.stop().unwrap();
    scene.daemon.restart().unwrap();
    let mut replacements = 0;
    let mut load = load;
    while replacements < 100 && load.try_wait().unwrap().is_none() {
        replacements += 1;
        let names = 4097 + replacements % 2;
        scene
            .daemon
            .configure(|config| config["xdp"]["max_names"] = json!(names))
            .unwrap();
        scene.daemon.reload().unwrap();
    }
    let output = load.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(replacements >= 10, "{replacements}");
    let (sent, received) = (
        count(&text, "total queries:"),
        count(&text, "total replies:"),
    );
    assert!(sent > 20_000, "{text}");
    assert_eq!(received, sent, "after {replacements} replacements: {text}");
    assert_eq!(count(&text, "responded NOERROR:"), sent, "{text}");
}
