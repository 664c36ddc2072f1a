//! What the XDP program has no room for is answered by the TC program behind it; where there is no
//! XDP, all of it is.
//!
//! What answers is read from the daemon's own account, and what is sent from the wire.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use serde_json::Value;
use tests::{
    cable::SERVER,
    dig::{Dig, Response},
    needs_scene,
    scene::{Plan, Scene, add_tasks, fake_local},
};

/// A name with twenty addresses, 10.20.0.1 to 10.20.0.20.
const WIDE: &str = "wide.marathon.mesos";
/// A name with one.
const TASK: &str = "nginx.marathon.mesos";

fn state() -> Value {
    let mut state = fake_local();
    add_tasks(&mut state, "wide", &wide());
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
        assert_eq!(by, SECOND);
        let question = response.question.unwrap();
        assert_eq!(question.0, "wIdE.MARATHON.mesos.");
        let (_, by) = ask(&scene, &dig, TASK, "A");
        assert_eq!(by, FIRST);
    }
    assert!(by_second > 12, "{by_second}");
}
