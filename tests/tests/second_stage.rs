//! What the XDP program has no room for is answered by the TC program behind it; where there is no
//! XDP, all of it is.
//!
//! What answers is read from the daemon's own account, and what is sent from the wire.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{
    cable::{Cable, INTERFACE, SERVER},
    dig::{Dig, Response},
    frame::Frame,
    needs_scene, needs_tool,
    netns::Netns,
    pins::Pins,
    raw::Wire,
    scene::{Plan, Scene, add_tasks, fake_local},
};

/// How long anything that must happen may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A name with twenty addresses, 10.20.0.1 to 10.20.0.20.
const WIDE: &str = "wide.marathon.mesos";
/// A name with sixty, for which a frame on veth never has the room.
const WIDEST: &str = "widest.marathon.mesos";
/// A name with one.
const TASK: &str = "nginx.marathon.mesos";

fn state() -> Value {
    let mut state = fake_local();
    add_tasks(&mut state, "wide", &wide());
    let widest: Vec<String> = (1..=60).map(|number| format!("10.60.0.{number}")).collect();
    add_tasks(&mut state, "widest", &widest);
    state
}

fn wide() -> Vec<String> {
    (1..=20).map(|number| format!("10.20.0.{number}")).collect()
}

fn scene(change: impl FnOnce(&mut Plan)) -> Scene {
    Scene::with(&state(), change).unwrap()
}

/// Who answered: XDP, TC behind it, and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Count {
    first: u64,
    second: u64,
    server: u64,
}

fn count(scene: &Scene) -> Count {
    let status = scene.daemon.status().unwrap();
    let responses = ["answered", "nodata", "nxdomain", "truncated", "badvers"];
    let first = responses.map(|one| status.xdp.verdicts[one]).iter().sum();
    let second = status.xdp.second_verdicts.values().sum();
    assert_eq!(status.xdp.answered, first + second);
    let all: u64 = status.xdp.verdicts.values().sum();
    assert_eq!(status.xdp.answered + status.xdp.passed, all);
    Count {
        first,
        second,
        server: status.server["udp"]["queries"],
    }
}

fn ask(scene: &Scene, dig: &Dig<'_>, name: &str, rtype: &str) -> (Response, Count) {
    let before = count(scene);
    let response = dig.ask(name, rtype).unwrap();
    let after = count(scene);
    let by = Count {
        first: after.first - before.first,
        second: after.second - before.second,
        server: after.server - before.server,
    };
    (response, by)
}

const FIRST: Count = Count {
    first: 1,
    second: 0,
    server: 0,
};
const SECOND: Count = Count {
    first: 0,
    second: 1,
    server: 0,
};

#[test]
fn twenty_addresses_are_answered_in_the_kernel() {
    needs_scene!();
    let scene = scene(|_| {});
    let mut by_second = 0;
    for server in SERVER {
        let dig = Dig::at(server).from(&scene.cable.client);
        for options in [
            &[][..],
            &["+noedns"],
            &["+bufsize=4096"],
            &["+bufsize=1232"],
            &["+bufsize=512"],
            &["+cookie"],
        ] {
            let dig = options.iter().fold(dig.clone(), |dig, one| dig.option(one));
            for id in [0usize, 7, 65535] {
                let dig = dig.clone().option(&format!("+qid={id}"));
                let (response, by) = ask(&scene, &dig, WIDE, "A");
                let mut expected = wide();
                expected.sort_by_key(|ip| ip.parse::<std::net::Ipv4Addr>().unwrap());
                expected.rotate_left(id % 20);
                assert_eq!(response.data("A"), expected, "{server} {options:?}");
                // Some frames happen to have the room, and none goes up.
                assert_eq!(by.first + by.second, 1, "{server} {options:?}: {by:?}");
                assert_eq!(by.server, 0, "{server} {options:?}");
                by_second += by.second;
            }
        }
        let (response, by) = ask(&scene, &dig, "wIdE.MARATHON.mesos", "A");
        assert_eq!(response.data("A").len(), 20);
        assert_eq!((by.first + by.second, by.server), (1, 0));
        let question = response.question.unwrap();
        assert_eq!(question.0, "wIdE.MARATHON.mesos.");
        let (_, by) = ask(&scene, &dig, TASK, "A");
        assert_eq!(by, FIRST);
    }
    assert!(by_second > 0, "all frames had room");
}

/// A plan with the TC program alone.
fn alone(plan: &mut Plan) {
    plan.config["xdp"]["mode"] = json!("tc");
}

fn pinned(pins: &Pins, plan: &mut Plan) {
    plan.config["xdp"]["pin_path"] = pins.path().to_str().unwrap().into();
    plan.config["xdp"]["on_exit"] = json!("keep");
}

fn run(namespace: &Netns, line: &str) -> String {
    let mut words = line.split(' ');
    let mut command = namespace.command(words.next().unwrap());
    let output = command.args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn without_xdp_it_answers_alone() {
    needs_scene!();
    let scene = scene(alone);
    let status = scene.daemon.status().unwrap();
    assert_eq!(status.xdp.mode, "tc");
    assert_eq!(status.xdp.interfaces[INTERFACE], "tc");
    assert!(
        !scene
            .cable
            .server
            .ip("-details link show server")
            .unwrap()
            .contains("xdp")
    );
    for server in SERVER {
        let dig = Dig::at(server).from(&scene.cable.client);
        for (name, rtype, status) in [
            (TASK, "A", "NOERROR"),
            (WIDEST, "A", "NOERROR"),
            (TASK, "AAAA", "NOERROR"),
            ("absent.mesos", "A", "NXDOMAIN"),
            ("_chronos._tcp.marathon.mesos", "SRV", "NOERROR"),
        ] {
            let (response, by) = ask(&scene, &dig, name, rtype);
            assert_eq!((by, &*response.status), (FIRST, status), "{name} {rtype}");
        }
        let dig = dig.option("+notcp");
        let (_, by) = ask(&scene, &dig, TASK, "ANY");
        assert_eq!((by.first, by.server), (0, 1));
    }
    let verdicts = scene.daemon.status().unwrap().xdp.verdicts;
    assert_eq!((verdicts["answered"], verdicts["meta_type"]), (6, 2));
}

#[test]
fn auto_takes_it_where_the_driver_refuses() {
    needs_scene!();
    let cable = Cable::new().unwrap();
    // Frames from the other end would not fit a page, which veth's driver does not accept.
    cable.client.ip("link set client mtu 9000").unwrap();
    let scene = Scene::on(cable, &state(), |plan| {
        plan.config["xdp"]["mode"] = json!("auto");
    })
    .unwrap();
    let status = scene.daemon.status().unwrap();
    assert_eq!((&*status.xdp.mode, status.xdp.reason), ("tc", None));
    let detail = &status.xdp.details[INTERFACE];
    assert!(
        detail.contains("not native: native XDP on server"),
        "{detail}"
    );
    let dig = Dig::at(SERVER[0]).from(&scene.cable.client);
    assert_eq!(ask(&scene, &dig, WIDEST, "A").1, FIRST);
}

#[test]
fn left_out_it_leaves_long_answers_to_the_server() {
    needs_scene!();
    let mut scene = scene(|plan| plan.config["xdp"]["tc"] = json!(false));
    let by = |scene: &Scene| {
        let dig = Dig::at(SERVER[0]).from(&scene.cable.client);
        let (response, by) = ask(scene, &dig, WIDEST, "A");
        assert_eq!(response.data("A").len(), 60);
        by
    };
    assert_eq!(by(&scene).server, 1);
    for (wanted, expected) in [
        (true, SECOND),
        (
            false,
            Count {
                second: 0,
                server: 1,
                ..SECOND
            },
        ),
    ] {
        let change = |config: &mut Value| config["xdp"]["tc"] = json!(wanted);
        scene.daemon.configure(change).unwrap();
        scene.daemon.reload().unwrap();
        assert_eq!(by(&scene), expected);
        let status = scene.daemon.status().unwrap();
        assert_eq!(
            status.xdp.details[INTERFACE].contains("; TC behind it"),
            wanted
        );
    }
}

/// Whoever sums up a datagram, the client or its card, the response has the sum that it should.
#[test]
fn checksums_are_right_whoever_makes_them() {
    needs_scene!();
    needs_tool!("ethtool");
    let as_configured: fn(&mut Plan) = |_| {};
    for (change, name) in [(as_configured, WIDEST), (alone, TASK)] {
        let scene = scene(change);
        let wire = scene
            .cable
            .client
            .enter(|| Wire::open("client", true))
            .unwrap();
        for (client, server) in [("on", "on"), ("on", "off"), ("off", "on"), ("off", "off")] {
            run(
                &scene.cable.client,
                &format!("ethtool -K client tx {client}"),
            );
            run(
                &scene.cable.server,
                &format!("ethtool -K {INTERFACE} tx {server}"),
            );
            for address in SERVER {
                let dig = Dig::at(address).from(&scene.cable.client);
                let (response, by) = ask(&scene, &dig, name, "A");
                assert_eq!((by.server, &*response.status), (0, "NOERROR"));
                let is_reply = |frame: &[u8]| Frame::source_port(frame) == Some(53);
                let frame = wire.receive(LIMIT, is_reply).unwrap();
                let read = Frame::read(&frame);
                // Left to the receiving end, as in all that sockets send over veth; the client has
                // accepted it.
                let is_left = (client, server) == ("on", "on");
                let is_right = match &read {
                    Ok(_) => !is_left,
                    Err(error) => is_left && error.contains("UDP checksum"),
                };
                assert!(is_right, "{client} {server} {address}: {read:?}");
            }
        }
    }
}

fn is_answered(scene: &Scene) -> bool {
    let dig = Dig::at(SERVER[0]).from(&scene.cable.client);
    dig.ask(WIDEST, "A")
        .is_ok_and(|response| response.data("A").len() == 60)
}

fn wait_until(what: &str, mut good: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !good() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn it_outlives_the_daemon_and_is_taken_over() {
    needs_scene!();
    let as_configured: fn(&mut Plan) = |_| {};
    for (change, by) in [(as_configured, SECOND), (alone, FIRST)] {
        let pins = Pins::mount().unwrap();
        let mut scene = scene(|plan| {
            change(plan);
            pinned(&pins, plan);
        });
        let before = scene.daemon.status().unwrap().xdp.mode;
        for _ in 0..2 {
            scene.daemon.kill().unwrap();
            assert!(is_answered(&scene), "without a daemon");
            scene.daemon.restart().unwrap();
            // Before Linux 6.6 no link is there to be taken over.
            let is_link =
                |pin: &String| pin.starts_with("link-second") || pin.starts_with("link-tc");
            if pins.pinned().iter().any(is_link) {
                scene.daemon.said("TC replaced").unwrap();
            }
        }
        let status = scene.daemon.status().unwrap();
        assert_eq!(status.xdp.mode, before);
        let dig = Dig::at(SERVER[0]).from(&scene.cable.client);
        assert_eq!(ask(&scene, &dig, WIDEST, "A").1, by);
        // Other maps, filled before their programs take over.
        let change = |config: &mut Value| config["xdp"]["max_names"] = json!(5000);
        scene.daemon.configure(change).unwrap();
        scene.daemon.reload().unwrap();
        scene
            .daemon
            .wait_until(|status| status.xdp.capacity == 5000)
            .unwrap();
        assert_eq!(ask(&scene, &dig, WIDEST, "A").1, by);
        // Left behind in order, it answers until its lease ends.
        let change = |config: &mut Value| config["xdp"]["lease_seconds"] = json!(1);
        scene.daemon.configure(change).unwrap();
        scene.daemon.reload().unwrap();
        scene.daemon.stop().unwrap();
        wait_until("the lease does not end", || !is_answered(&scene));
        let change = |config: &mut Value| config["xdp"]["on_exit"] = json!("detach");
        scene.daemon.configure(change).unwrap();
        scene.daemon.restart().unwrap();
        assert_eq!(ask(&scene, &dig, WIDEST, "A").1, by);
        scene.daemon.stop().unwrap();
        assert_eq!(pins.pinned(), Vec::<String>::new());
    }
}

#[test]
fn detach_takes_it_away_and_no_program_of_others() {
    needs_scene!();
    needs_tool!("tc");
    let as_configured: fn(&mut Plan) = |_| {};
    for change in [as_configured, alone] {
        let pins = Pins::mount().unwrap();
        let scene = scene(|plan| {
            change(plan);
            pinned(&pins, plan);
        });
        let server = &scene.cable.server;
        run(server, &format!("tc qdisc replace dev {INTERFACE} clsact"));
        run(
            server,
            &format!("tc filter add dev {INTERFACE} ingress u32 match u32 0 0 classid 1:1"),
        );
        let others = || {
            let text = run(server, &format!("tc filter show dev {INTERFACE} ingress"));
            let lines = text.lines().filter(|line| line.contains("u32"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let before = others();
        assert!(!before.is_empty());
        let arguments = ["detach", "--interface", INTERFACE];
        let output = scene.daemon.command(&arguments).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said, "detached from one interface\n");
        assert_eq!(others(), before);
        assert_eq!(pins.pinned(), Vec::<String>::new());
        let status = scene.daemon.status().unwrap();
        assert_eq!(status.xdp.mode, "off");
        let dig = Dig::at(SERVER[0]).from(&scene.cable.client);
        let (_, by) = ask(&scene, &dig, WIDEST, "A");
        assert_eq!((by.first + by.second, by.server), (0, 1));
    }
}
