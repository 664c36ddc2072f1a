//! What an operator sees of single packets: the ranking of `mesos-xdns top`, and captures that
//! tcpdump reads.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::process::{Command, Stdio};

use serde_json::json;
use tests::{
    cable::SERVER,
    dig::Dig,
    fake_master::FakeMaster,
    needs_daemon, needs_scene, needs_tool,
    port::free_ports,
    running::{Running, wait_for},
    scene::{Scene, fake_local},
};

/// A name of the fixture.
const TASK: &str = "nginx.marathon.mesos";

#[test]
fn a_capture_holds_what_xdp_sent() {
    needs_scene!();
    needs_tool!("tcpdump");
    let scene = Scene::with(&fake_local(), |_| {}).unwrap();
    let mut capture = scene.daemon.command(&["capture", "--seconds", "3"]);
    let mut capture = capture.stdout(Stdio::piped()).spawn().unwrap();
    let mut tcpdump = Command::new("tcpdump");
    tcpdump
        .args(["-nn", "-r", "-"])
        .stdin(capture.stdout.take().unwrap());
    let tcpdump = tcpdump
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let dig = Dig::at(SERVER[0]).from(&scene.cable.client);
    while capture.try_wait().unwrap().is_none() {
        dig.ask(TASK, "A").unwrap();
    }
    let text = tcpdump.wait_with_output().unwrap().stdout;
    let text = String::from_utf8(text).unwrap();
    // `IP 192.0.2.53.53 > 192.0.2.1.40000: 1234*- 1/0/1 A 10.3.0.1 (65)`
    let from = format!("{}.53 > ", SERVER[0]);
    let sent = text
        .lines()
        .filter(|line| line.contains(&from) && line.contains(" A "));
    assert!(sent.count() > 0, "{text}");
}

/// What `top` prints while one name is asked for and nothing else.
fn ranking(top: &mut Command, dig: &Dig<'_>) -> String {
    let mut top = top.stdout(Stdio::piped()).spawn().unwrap();
    while top.try_wait().unwrap().is_none() {
        dig.ask(TASK, "A").unwrap();
    }
    let text = String::from_utf8(top.wait_with_output().unwrap().stdout).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{TASK}. A")));
    assert!(line.is_some_and(|line| line.ends_with("100.0%")), "{text}");
    text
}

#[test]
fn the_ranking_names_who_asks_and_what_for() {
    needs_scene!();
    // The API at one address of the host, which is no loopback.
    let scene = Scene::with(&fake_local(), |plan| {
        plan.config["httpListener"] = json!(SERVER[0]);
    })
    .unwrap();
    let mut top = scene.daemon.command(&["top", "--once"]);
    let dig = Dig::at(SERVER[0]).from(&scene.cable.client);
    let text = ranking(&mut top, &dig);
    assert!(text.contains(tests::cable::CLIENT[0]), "{text}");
    assert!(text.contains("answered"), "{text}");
    // The server shows those that the kernel does not read.
    let mut top = scene.daemon.command(&["top", "--once"]);
    let text = ranking(&mut top, &dig.option("+tcp"));
    assert!(text.contains(tests::cable::CLIENT[0]), "{text}");
}

#[test]
fn the_ranking_needs_no_xdp() {
    needs_tool!("dig");
    needs_daemon!();
    let master = FakeMaster::start().unwrap();
    master.serve_state(&fake_local());
    let leader = format!("master@{}", master.address());
    master.set_leader(&leader).unwrap();
    let ports = free_ports(2);
    let config = json!({
        "masters": [master.address().to_string()], "port": ports[0],
        "httpListener": "127.0.0.1", "httpPort": ports[1], "xdp": {"mode": "off"},
    });
    let _running = Running::start(&config).unwrap();
    let dig = Dig::at("127.0.0.1").port(ports[0]);
    let known = || dig.ask(TASK, "A").ok();
    wait_for("the first state", known, |reply| {
        reply.as_ref().is_some_and(|one| !one.answer.is_empty())
    })
    .unwrap();
    let binary = tests::daemon::binary().expect("the daemon's binary");
    for option in ["+notcp", "+tcp"] {
        let mut top = Command::new(&binary);
        let url = format!("http://127.0.0.1:{}", ports[1]);
        top.args(["top", "--once", "--url", &url]);
        let text = ranking(&mut top, &dig.clone().option(option));
        assert!(text.contains("\n127.0.0.1 "), "{text}");
    }
}

#[test]
fn the_tracing_variant_logs_each_verdict() {
    needs_scene!();
    let mut scene = Scene::with(&fake_local(), |plan| {
        plan.arguments.push("--xdp-trace".to_owned());
    })
    .unwrap();
    let dig = Dig::at(SERVER[0]).from(&scene.cable.client);
    dig.ask(TASK, "A").unwrap();
    scene.daemon.said(": answered").unwrap();
    dig.ask("no-such-task.marathon.mesos", "A").unwrap();
    scene.daemon.said(": nxdomain").unwrap();
}
