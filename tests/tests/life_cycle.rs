//! The life of the kernel's side: it answers while the daemon ends in whatever way, is replaced or
//! starts again, and no longer than the daemon allows.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;
use tests::{
    cable::{Cable, INTERFACE, SERVER},
    daemon,
    dig::Dig,
    needs_scene, needs_tool,
    netns::Netns,
    pins::Pins,
    scene::{Plan, Scene, add_tasks, fake_local},
    steady::{Account, Steady},
    xdp,
};

/// A name of the fixture, and its address.
const TASK: &str = "nginx.marathon.mesos";
const ADDRESS: [u8; 4] = [10, 3, 0, 3];

const LIMIT: Duration = Duration::from_secs(30);

fn pinned(pins: &Pins) -> impl FnOnce(&mut Plan) {
    let path = pins.path();
    move |plan| {
        plan.config["xdp"]["pin_path"] = path.to_str().unwrap().into();
        plan.config["xdp"]["on_exit"] = json!("keep");
    }
}

fn steady(scene: &Scene) -> Steady {
    let steady = Steady::start(&scene.cable.client, SERVER[0], TASK, &[ADDRESS]).unwrap();
    steady.answer_more(200).unwrap();
    steady
}

/// Every query had its right answer, and the kernel gave all of them.
fn assert_none_lost(account: &Account) {
    assert_eq!(account.wrong, Vec::<Vec<u8>>::new());
    assert_eq!(account.lost, 0, "{account:?}");
    assert_eq!(account.right, account.sent);
}

fn dig<'s>(scene: &'s Scene, server: &str) -> Dig<'s> {
    Dig::at(server).from(&scene.cable.client)
}

/// Whether a question gets an answer; what nobody answers takes two seconds.
fn is_answered(scene: &Scene) -> bool {
    dig(scene, SERVER[0]).ask(TASK, "A").is_ok()
}

fn wait_until(what: &str, mut good: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !good() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What `ip` says of XDP on the server's interface.
fn xdp_of(server: &Netns) -> String {
    let text = server
        .ip(&format!("-details link show {INTERFACE}"))
        .unwrap();
    let lines = text.lines().filter(|line| line.contains("xdp"));
    lines.collect::<Vec<_>>().join("\n")
}

fn detach(namespace: &Netns, arguments: &[&str]) -> String {
    let output = namespace
        .command(daemon::binary().unwrap())
        .arg("detach")
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn has_said(scene: &Scene, text: &str) -> bool {
    scene.daemon.log().iter().any(|line| line.contains(text))
}

#[test]
fn a_killed_daemon_leaves_the_kernel_answering_and_the_next_one_takes_over() {
    needs_scene!();
    let pins = Pins::mount().unwrap();
    let mut scene = Scene::with(&fake_local(), pinned(&pins)).unwrap();
    let steady = steady(&scene);
    for _ in 0..2 {
        scene.daemon.kill().unwrap();
        // Nobody but the kernel is there to give these.
        steady.answer_more(1000).unwrap();
        scene.daemon.restart().unwrap();
        steady.answer_more(200).unwrap();
    }
    assert!(has_said(&scene, "the kernel's maps are taken over"));
    let status = scene.daemon.status().unwrap();
    assert_eq!(status.xdp.mode, "native");
    // The state is the same; a serial that counts seconds is not, and stands in two places.
    assert!(status.xdp.updates <= 2, "{:?}", status.xdp);
    assert_eq!(status.xdp.names, status.names);
    assert_none_lost(&steady.end().unwrap());
    // A name that was not there is denied, in the kernel as before.
    let absent = dig(&scene, SERVER[0]).ask("absent.mesos", "A").unwrap();
    assert_eq!(absent.status, "NXDOMAIN");
    let verdicts = scene.daemon.status().unwrap().xdp.verdicts;
    assert_eq!(verdicts["nxdomain"], 1);
}

#[test]
fn what_changed_while_no_daemon_ran_is_brought_up_to_date() {
    needs_scene!();
    let pins = Pins::mount().unwrap();
    let mut before = fake_local();
    add_tasks(&mut before, "goes", &["10.9.9.1".to_owned()]);
    add_tasks(&mut before, "moves", &["10.9.9.2".to_owned()]);
    let mut scene = Scene::with(&before, pinned(&pins)).unwrap();
    let steady = steady(&scene);
    scene.daemon.kill().unwrap();
    let old = dig(&scene, SERVER[0])
        .ask("goes.marathon.mesos", "A")
        .unwrap();
    assert_eq!(old.data("A"), ["10.9.9.1"], "known until more is known");
    let mut after = fake_local();
    add_tasks(&mut after, "comes", &["10.9.9.3".to_owned()]);
    add_tasks(&mut after, "moves", &["10.9.9.4".to_owned()]);
    let master = scene.master.as_ref().unwrap();
    master.serve_state(&after);
    master
        .set_leader(&format!("master@{}", master.address()))
        .unwrap();
    scene.daemon.restart().unwrap();
    let ask = |name: &str| dig(&scene, SERVER[0]).ask(name, "A").unwrap();
    assert_eq!(ask("goes.marathon.mesos").status, "NXDOMAIN");
    assert_eq!(ask("comes.marathon.mesos").data("A"), ["10.9.9.3"]);
    assert_eq!(ask("moves.marathon.mesos").data("A"), ["10.9.9.4"]);
    let status = scene.daemon.status().unwrap();
    assert_eq!(status.xdp.names, status.names);
    assert!((1..60).contains(&status.xdp.updates), "{:?}", status.xdp);
    assert_none_lost(&steady.end().unwrap());
}

#[test]
fn maps_of_another_size_are_filled_before_they_take_over() {
    needs_scene!();
    let pins = Pins::mount().unwrap();
    let mut scene = Scene::with(&fake_local(), pinned(&pins)).unwrap();
    let steady = steady(&scene);
    scene.daemon.kill().unwrap();
    scene
        .daemon
        .configure(|config| config["xdp"]["max_names"] = json!(5000))
        .unwrap();
    scene.daemon.restart().unwrap();
    assert!(has_said(&scene, "the kernel's maps are made anew"));
    scene.daemon.said("XDP replaced").unwrap();
    let status = scene.daemon.status().unwrap();
    assert_eq!(
        (status.xdp.mode.as_str(), status.xdp.capacity),
        ("native", 5000)
    );
    steady.answer_more(200).unwrap();
    assert_none_lost(&steady.end().unwrap());
    let found = pins.pinned();
    let sets = found.iter().filter(|pin| pin.ends_with("/POLICY")).count();
    assert_eq!(sets, 1, "{found:?}");
    assert!(
        found.contains(&format!("link-native-{INTERFACE}")),
        "{found:?}"
    );
}

#[test]
fn a_hundred_replacements_lose_nothing() {
    needs_scene!();
    let pins = Pins::mount().unwrap();
    let mut scene = Scene::with(&fake_local(), pinned(&pins)).unwrap();
    let steady = steady(&scene);
    for number in 0..100 {
        let names = 4097 + number % 2;
        scene
            .daemon
            .configure(|config| config["xdp"]["max_names"] = json!(names))
            .unwrap();
        scene.daemon.reload().unwrap();
        steady.answer_more(20).unwrap();
    }
    assert_none_lost(&steady.end().unwrap());
    let log = scene.daemon.log();
    let replaced = log.iter().filter(|line| line.contains("XDP replaced"));
    assert_eq!(replaced.count(), 100);
}

#[test]
fn an_orderly_end_keeps_or_detaches_as_configured() {
    needs_scene!();
    let pins = Pins::mount().unwrap();
    let mut scene = Scene::with(&fake_local(), pinned(&pins)).unwrap();
    let root = std::fs::metadata(pins.path()).unwrap().permissions().mode();
    assert_eq!(root & 0o777, 0o700);
    for pin in pins.pinned() {
        let mode = std::fs::metadata(pins.path().join(&pin))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{pin}");
    }
    scene.daemon.stop().unwrap();
    assert!(is_answered(&scene), "kept");
    scene
        .daemon
        .configure(|config| config["xdp"]["on_exit"] = json!("detach"))
        .unwrap();
    scene.daemon.restart().unwrap();
    assert!(is_answered(&scene));
    scene.daemon.stop().unwrap();
    assert_eq!(xdp_of(&scene.cable.server), "");
    assert_eq!(pins.pinned(), Vec::<String>::new());
    assert!(!pins.path().exists());
}

#[test]
fn switched_off_means_off_although_a_program_was_left() {
    needs_scene!();
    let pins = Pins::mount().unwrap();
    let mut scene = Scene::with(&fake_local(), pinned(&pins)).unwrap();
    scene.daemon.kill().unwrap();
    assert_ne!(xdp_of(&scene.cable.server), "");
    scene
        .daemon
        .configure(|config| config["xdp"]["mode"] = json!("off"))
        .unwrap();
    scene.daemon.restart().unwrap();
    assert_eq!(xdp_of(&scene.cable.server), "");
    assert!(!pins.path().exists());
    assert!(is_answered(&scene), "by user space");
}

#[test]
fn the_kernel_passes_when_the_lease_has_run_out() {
    needs_scene!();
    let pins = Pins::mount().unwrap();
    let change = pinned(&pins);
    let mut scene = Scene::with(&fake_local(), |plan| {
        change(plan);
        plan.config["xdp"]["lease_seconds"] = json!(1);
    })
    .unwrap();
    // A daemon that hangs: what the kernel passes waits for it.
    scene.daemon.signal(libc::SIGSTOP);
    wait_until("a stopped daemon keeps its lease", || !is_answered(&scene));
    scene.daemon.signal(libc::SIGCONT);
    let resumed = scene
        .daemon
        .wait_until(|status| status.xdp.verdicts["lease"] > 0)
        .unwrap();
    let answered = resumed.xdp.answered;
    wait_until("the lease is not renewed", || {
        assert!(is_answered(&scene));
        scene.daemon.status().unwrap().xdp.answered > answered
    });
    // One that is gone: nobody answers.
    scene.daemon.kill().unwrap();
    wait_until("a killed daemon keeps its lease", || !is_answered(&scene));
    scene.daemon.restart().unwrap();
    let before = scene.daemon.status().unwrap().xdp.answered;
    assert!(is_answered(&scene));
    assert_eq!(scene.daemon.status().unwrap().xdp.answered, before + 1);
}

#[test]
fn what_an_ended_lease_covered_is_not_revived_unseen() {
    needs_scene!();
    let pins = Pins::mount().unwrap();
    let change = pinned(&pins);
    let mut scene = Scene::with(&fake_local(), |plan| {
        change(plan);
        plan.config["xdp"]["lease_seconds"] = json!(1);
    })
    .unwrap();
    scene.daemon.kill().unwrap();
    wait_until("the lease does not end", || !is_answered(&scene));
    // Without a state there is nothing better to say than was known long ago, and that is too old.
    let address = scene.master.take().unwrap().address();
    let mut restarted = scene.daemon.launch().unwrap();
    restarted
        .wait_for("the kernel's maps are taken over", LIMIT)
        .unwrap();
    assert!(!is_answered(&scene), "{address} is gone");
    restarted.stop().unwrap();
}

#[test]
fn a_user_with_the_documented_rights_pins_and_takes_over() {
    needs_scene!();
    needs_tool!("setpriv");
    let pins = Pins::mount().unwrap();
    // As the service unit makes it.
    std::fs::create_dir(pins.path()).unwrap();
    std::os::unix::fs::chown(pins.path(), Some(65534), Some(65534)).unwrap();
    let change = pinned(&pins);
    let mut scene = Scene::with(&fake_local(), |plan| {
        change(plan);
        let rights = "-all,+net_bind_service,+bpf,+net_admin,+perfmon";
        let mut wrapper = vec![
            "setpriv".to_owned(),
            "--reuid=65534".to_owned(),
            "--regid=65534".to_owned(),
            "--clear-groups".to_owned(),
            "--pdeathsig=KILL".to_owned(),
        ];
        for option in ["inh-caps", "ambient-caps", "bounding-set"] {
            wrapper.push(format!("--{option}={rights}"));
        }
        plan.wrapper = wrapper;
    })
    .unwrap();
    let steady = steady(&scene);
    scene.daemon.kill().unwrap();
    steady.answer_more(200).unwrap();
    scene.daemon.restart().unwrap();
    assert!(has_said(&scene, "the kernel's maps are taken over"));
    assert_none_lost(&steady.end().unwrap());
    scene
        .daemon
        .configure(|config| config["xdp"]["on_exit"] = json!("detach"))
        .unwrap();
    scene.daemon.reload().unwrap();
    scene.daemon.stop().unwrap();
    assert_eq!(pins.pinned(), Vec::<String>::new());
    assert_eq!(xdp_of(&scene.cable.server), "");
}

#[test]
fn a_path_outside_a_bpf_file_system_is_named() {
    needs_scene!();
    let folder = std::env::temp_dir().join(format!("mesos-xdns-no-bpf-{}", std::process::id()));
    let path = folder.display().to_string();
    let mut scene = Scene::with(&fake_local(), |plan| {
        plan.config["xdp"]["pin_path"] = path.as_str().into();
        plan.config["xdp"]["on_exit"] = json!("keep");
    })
    .unwrap();
    let line = scene.daemon.said("XDP is not pinned").unwrap();
    assert!(line.contains("is not in a BPF file system"), "{line}");
    let status = scene.daemon.status().unwrap();
    assert_eq!(
        (status.xdp.mode.as_str(), status.xdp.pinned),
        ("native", None)
    );
    assert!(status.xdp.unpinned.unwrap().contains(&path));
    scene.daemon.kill().unwrap();
    wait_until("it stays", || xdp_of(&scene.cable.server).is_empty());
    assert!(!Path::new(&path).exists());
}

#[test]
fn detach_takes_away_one_daemons_program_and_no_other() {
    needs_scene!();
    let pins = [Pins::mount().unwrap(), Pins::mount().unwrap()];
    let mut scenes = [
        Scene::with(&fake_local(), pinned(&pins[0])).unwrap(),
        Scene::with(&fake_local(), pinned(&pins[1])).unwrap(),
    ];
    let config = scenes[0].daemon.configuration();
    let said = detach(
        &scenes[0].cable.server,
        &["--config", config.to_str().unwrap()],
    );
    assert_eq!(said, "detached from one interface\n");
    assert_eq!(xdp_of(&scenes[0].cable.server), "");
    assert!(!pins[0].path().exists());
    let status = scenes[0].daemon.status().unwrap();
    assert_eq!(status.xdp.mode, "off");
    assert_eq!(status.xdp.interfaces[INTERFACE], "detached from outside");
    assert!(status.xdp.reason.unwrap().contains("detached from outside"));
    assert_eq!(status.xdp.pinned, None);
    assert_eq!(status.xdp.unpinned.unwrap(), "removed from outside");
    assert!(is_answered(&scenes[0]), "by user space");
    assert_ne!(xdp_of(&scenes[1].cable.server), "");
    assert_eq!(scenes[1].daemon.status().unwrap().xdp.mode, "native");
    // One that is not pinned is found at its interface.
    let unpinned = Scene::with(&fake_local(), |plan| {
        plan.config["xdp"]["pin_path"] = json!("/proc/none");
    })
    .unwrap();
    let said = detach(
        &unpinned.cable.server,
        &["--pin-path", "/proc/none", "--interface", INTERFACE],
    );
    assert_eq!(said, "detached from one interface\n");
    assert_eq!(unpinned.daemon.status().unwrap().xdp.mode, "off");
    assert_eq!(scenes[1].daemon.status().unwrap().xdp.mode, "native");
    // At the end nothing stays, and nothing is said to.
    scenes[0].daemon.stop().unwrap();
    assert!(!has_said(&scenes[0], "XDP stays"));
    scenes[1].daemon.stop().unwrap();
    assert!(has_said(&scenes[1], "XDP stays and answers"));
}

#[test]
fn another_program_is_named_and_stays() {
    needs_scene!();
    let cable = Cable::new().unwrap();
    let _other = cable
        .server
        .enter(|| xdp::pass().attach(INTERFACE))
        .unwrap();
    let before = xdp_of(&cable.server);
    let mut scene = Scene::on(cable, &fake_local(), |_| {}).unwrap();
    let line = scene.daemon.said("XDP is off").unwrap();
    assert!(
        line.contains("another XDP program, mxd_pass (id "),
        "{line}"
    );
    assert_eq!(xdp_of(&scene.cable.server), before);
    assert!(is_answered(&scene));
}

#[test]
fn auto_is_generic_only_where_that_is_allowed() {
    needs_scene!();
    let scene = Scene::with(&fake_local(), |plan| {
        plan.interfaces = vec!["lo".to_owned()];
        plan.config["xdp"]["mode"] = json!("auto");
        plan.config["xdp"]["allow_generic"] = json!(true);
    })
    .unwrap();
    let status = scene.daemon.status().unwrap();
    assert_eq!(status.xdp.mode, "generic");
    let detail = &status.xdp.details["lo"];
    assert!(
        detail.contains("driver none, MTU 65536")
            && detail.contains("not native: native XDP on lo"),
        "{detail}"
    );
}

#[test]
fn two_daemons_do_not_share_a_pin_path() {
    needs_scene!();
    let pins = Pins::mount().unwrap();
    let first = Scene::with(&fake_local(), pinned(&pins)).unwrap();
    let mut second = Scene::with(&fake_local(), pinned(&pins)).unwrap();
    let line = second.daemon.said("XDP is not pinned").unwrap();
    assert!(line.contains("is in use by another daemon"), "{line}");
    assert!(is_answered(&first) && is_answered(&second));
    drop(second);
    assert!(pins.path().exists());
    assert_eq!(first.daemon.status().unwrap().xdp.mode, "native");
}

#[test]
fn the_kernel_follows_addresses_and_interfaces() {
    needs_scene!();
    let pins = Pins::mount().unwrap();
    let scene = Scene::with(&fake_local(), pinned(&pins)).unwrap();
    let server = &scene.cable.server;
    let answered = || scene.daemon.status().unwrap().xdp.answered;
    let is_answered_in_kernel = |address: &str| {
        let before = answered();
        let reply = dig(&scene, address).ask(TASK, "A");
        reply.is_ok() && answered() == before + 1
    };
    assert!(is_answered_in_kernel(SERVER[0]));
    let start = Instant::now();
    server
        .ip(&format!("address add 192.0.2.77/24 dev {INTERFACE}"))
        .unwrap();
    wait_until("the new address is not taken", || {
        is_answered_in_kernel("192.0.2.77")
    });
    server
        .ip(&format!("link set {INTERFACE} address 02:00:00:00:00:77"))
        .unwrap();
    wait_until("the new link-layer address is not taken", || {
        is_answered_in_kernel(SERVER[0])
    });
    // The kernel tells of it; looking now and then would take half a minute.
    assert!(
        start.elapsed() < Duration::from_secs(25),
        "{:?}",
        start.elapsed()
    );
    // Gone, and there again.
    server.ip(&format!("link delete {INTERFACE}")).unwrap();
    let gone = scene
        .daemon
        .wait_until(|status| status.xdp.mode == "off")
        .unwrap();
    assert!(gone.xdp.interfaces[INTERFACE].contains("there is no interface"));
    let _cable = scene.cable.lay_again().unwrap();
    scene
        .daemon
        .wait_until(|status| status.xdp.mode == "native")
        .unwrap();
    wait_until("the new interface is not served", || {
        is_answered_in_kernel(SERVER[0])
    });
}
