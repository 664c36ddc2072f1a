//! The daemon among those that mean it ill: clients that it must not answer, and floods in the name
//! of others. What answers is read from its own account.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::{
    cable::SERVER,
    dig::Dig,
    frame::Frame,
    needs_scene,
    octets::octets,
    pins::Pins,
    raw::Wire,
    scene::{Scene, fake_local},
};

/// A name of the fixture, and its address.
const TASK: &str = "nginx.marathon.mesos";
const ADDRESS: &str = "10.3.0.3";

/// What becomes of the queries of the cable's two clients, 192.0.2.1 and 2001:db8::1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The kernel answers.
    Answered,
    /// User space refuses.
    Refused,
    /// Nobody is there to say anything.
    Silence,
}

fn ask(scene: &Scene, server: &str, has_daemon: bool) -> Fate {
    let verdict = |name: &str| match has_daemon {
        true => scene.daemon.status().unwrap().xdp.verdicts[name],
        false => 0,
    };
    let before = (verdict("answered"), verdict("prohibited"));
    let Ok(response) = Dig::at(server).from(&scene.cable.client).ask(TASK, "A") else {
        return Fate::Silence;
    };
    let more = (
        verdict("answered") - before.0,
        verdict("prohibited") - before.1,
    );
    match response.status.as_str() {
        "NOERROR" => {
            assert_eq!(response.data("A"), [ADDRESS]);
            assert!(!has_daemon || more == (1, 0), "{more:?}");
            Fate::Answered
        }
        "REFUSED" => {
            assert_eq!(response.edns_options, ["EDE: 18 (Prohibited)"]);
            assert_eq!(more, (0, 1));
            Fate::Refused
        }
        other => panic!("{other}"),
    }
}

fn fates(scene: &Scene) -> [Fate; 2] {
    SERVER.map(|server| ask(scene, server, true))
}

fn allow(clients: &[&str]) -> impl FnOnce(&mut Value) {
    let list = json!({ "allow_clients": clients });
    move |config| config["server"] = list
}

#[test]
fn the_list_of_clients_holds_over_reload_and_restart() {
    use Fate::{Answered, Refused, Silence};
    needs_scene!();
    let pins = Pins::mount().unwrap();
    let mut scene = Scene::with(&fake_local(), |plan| {
        plan.config["xdp"]["pin_path"] = pins.path().to_str().unwrap().into();
        plan.config["xdp"]["on_exit"] = json!("keep");
        allow(&["192.0.2.0/24", "203.0.113.0/24"])(&mut plan.config);
    })
    .unwrap();
    assert_eq!(fates(&scene), [Answered, Refused]);
    for (list, expected) in [
        (
            &["2001:db8::/64", "203.0.113.0/24"][..],
            [Refused, Answered],
        ),
        (&["192.0.2.0/31", "2001:db8::1"], [Answered, Answered]),
        // More particular prefixes that are not those of the clients.
        (&["192.0.2.2/31", "2001:db8::2"], [Refused, Refused]),
        (&[], [Answered, Answered]),
        (&["192.0.2.1"], [Answered, Refused]),
    ] {
        scene.daemon.configure(allow(list)).unwrap();
        scene.daemon.reload().unwrap();
        assert_eq!(fates(&scene), expected, "{list:?}");
    }
    // The kernel keeps to the list on its own.
    scene.daemon.kill().unwrap();
    let alone = SERVER.map(|server| ask(&scene, server, false));
    assert_eq!(alone, [Answered, Silence]);
    // The next daemon takes the map over, and changes it.
    scene
        .daemon
        .configure(allow(&["2001:db8::1", "198.51.100.7"]))
        .unwrap();
    scene.daemon.restart().unwrap();
    let taken_over = |scene: &Scene| {
        let log = scene.daemon.log();
        log.iter().any(|line| line.contains("maps are taken over"))
    };
    assert!(taken_over(&scene));
    assert_eq!(fates(&scene), [Refused, Answered]);
    // Maps of another size are made anew, with the list, and what was there before is silent.
    scene
        .daemon
        .configure(|config| {
            allow(&["192.0.2.1"])(config);
            config["xdp"]["max_names"] = json!(2048);
        })
        .unwrap();
    scene.daemon.kill().unwrap();
    scene.daemon.restart().unwrap();
    assert!(!taken_over(&scene));
    scene
        .daemon
        .wait_until(|status| status.xdp.names > 0 && status.ready)
        .unwrap();
    assert_eq!(fates(&scene), [Answered, Refused]);
}

/// Responses a second to each prefix.
const RATE: u64 = 200;

#[test]
fn a_flood_in_the_name_of_a_prefix_gets_its_share_and_others_are_answered() {
    needs_scene!();
    let scene = Scene::with(&fake_local(), |plan| {
        plan.config["server"] = json!({ "rate_limit": {
            "responses_per_second": RATE, "window_seconds": 1, "slip": 2,
        }});
    })
    .unwrap();
    let [client, server] = scene.cable.macs().unwrap();
    let query = "1234 0100 0001 0000 0000 0000 'nginx' 'marathon' 'mesos' . 0001 0001";
    let flood: Vec<Vec<u8>> = (0..=255u8)
        .map(|last| {
            let source = [198, 51, 100, last].into();
            let frame = Frame::query(source, SERVER[0].parse().unwrap(), octets(query));
            Frame {
                from: client,
                to: server,
                ..frame
            }
            .octets()
        })
        .collect();
    let dig = Dig::at(SERVER[0]).from(&scene.cable.client);
    let before = scene.daemon.status().unwrap();
    let start = Instant::now();
    let mut asked = 0;
    let wire = scene
        .cable
        .client
        .enter(|| Wire::open("client", false))
        .unwrap();
    while start.elapsed() < Duration::from_secs(3) {
        for _ in 0..20 {
            wire.send(&flood).unwrap();
        }
        // As resolvers do, three times: the cable may lose one.
        let answer = (0..3).find_map(|_| dig.ask(TASK, "A").ok());
        assert_eq!(answer.expect("an answer").data("A"), [ADDRESS]);
        asked += 1;
    }
    let after = scene.daemon.status().unwrap();
    let time = start.elapsed().as_secs_f64();
    let more = |verdict: &str| after.xdp.verdicts[verdict] - before.xdp.verdicts[verdict];
    let (answered, slipped, limited) = (more("answered"), more("slipped"), more("limited"));
    println!("{asked} questions in {time:.1} s; answered {answered}, {slipped}, {limited}");
    let most = (RATE as f64 * (time + 1.0)) as u64 + asked + 8;
    assert!((RATE..=most).contains(&answered), "at most {most}");
    assert!(slipped + limited > 10 * answered);
    // One of two slips: within a tenth, which is many standard deviations.
    assert!(slipped.abs_diff(limited) < (slipped + limited) / 10);
    assert_eq!(after.xdp.dropped - before.xdp.dropped, limited);
    assert_eq!(after.xdp.responses["A"]["NOERROR"], answered + slipped);
    // The flood never reaches user space.
    let queries = |status: &dns_userspace::daemon::Status| status.server["udp"]["queries"];
    assert_eq!(queries(&after), queries(&before));

    // In the name of the client's own prefix: TC sends it to TCP, and it has its answer.
    let neighbour = Frame {
        from: client,
        to: server,
        ..Frame::query(
            [192, 0, 2, 77].into(),
            SERVER[0].parse().unwrap(),
            octets(query),
        )
    };
    let neighbours = vec![neighbour.octets(); 64];
    let over = AtomicBool::new(false);
    let tcp = || {
        scene
            .daemon
            .status()
            .map_or(0, |one| one.server["tcp"]["queries"])
    };
    let before = tcp();
    let mut answers = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                wire.send(&neighbours).unwrap();
            }
        });
        let deadline = Instant::now() + Duration::from_secs(30);
        // What is dropped has dig wait for two seconds.
        while tcp() == before && Instant::now() < deadline {
            answers.extend(dig.ask(TASK, "A"));
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(tcp() > before, "never sent to TCP");
    for answer in answers {
        assert_eq!(answer.data("A"), [ADDRESS]);
    }
}
