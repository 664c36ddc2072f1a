//! Where XDP is off, refused or not permitted the daemon works alone, and says which it is in the
//! log and in its status.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use serde_json::json;
use tests::{
    cable::{Cable, SERVER},
    dig::Dig,
    needs_scene, needs_tool,
    scene::{Plan, Scene, fake_local},
};

/// The daemon answers over both protocols and families without the kernel, and its log and both
/// forms of its status hold `reason`.
fn works_alone(cable: Cable, reason: &str, change: impl FnOnce(&mut Plan)) -> Scene {
    let mut scene = Scene::on(cable, &fake_local(), change).unwrap();
    for server in SERVER {
        let dig = Dig::at(server).from(&scene.cable.client);
        for dig in [
            dig.clone(),
            dig.clone().option("+noedns"),
            dig.option("+tcp"),
        ] {
            let response = dig.ask("nginx.marathon.mesos", "A").unwrap();
            assert_eq!(response.data("A"), ["10.3.0.3"], "{reason}");
            let response = dig.ask("absent.mesos", "A").unwrap();
            assert_eq!(response.status, "NXDOMAIN", "{reason}");
        }
    }
    let line = scene.daemon.said("XDP is off").unwrap();
    assert!(line.contains(reason), "{line}");
    let status = scene.daemon.status().unwrap();
    assert!(status.ready);
    assert_eq!(status.xdp.mode, "off");
    assert_eq!(status.xdp.answered, 0);
    assert_eq!(status.server["udp"]["queries"], 8);
    assert_eq!(status.server["tcp"]["queries"], 4);
    let said = status.xdp.reason.unwrap();
    assert!(said.contains(reason), "{said}");
    let text = scene.daemon.status_text().unwrap();
    assert!(text.contains("off: ") && text.contains(reason), "{text}");
    scene
}

#[test]
fn switched_off() {
    needs_scene!();
    works_alone(Cable::new().unwrap(), "not configured", |plan| {
        plan.config["xdp"]["mode"] = json!("off");
    });
}

#[test]
fn no_interface() {
    needs_scene!();
    works_alone(Cable::new().unwrap(), "not configured", |plan| {
        plan.interfaces.clear();
    });
}

#[test]
fn without_dns_the_kernel_is_silent_too() {
    needs_scene!();
    let scene = Scene::with(&fake_local(), |plan| plan.config["dnsOn"] = json!(false)).unwrap();
    let status = scene.daemon.status().unwrap();
    assert_eq!(status.xdp.mode, "off");
    assert!(status.ready && status.server.is_empty());
    let dig = Dig::at(SERVER[0]).from(&scene.cable.client);
    assert!(dig.ask("nginx.marathon.mesos", "A").is_err());
}

#[test]
fn loopback_has_no_native_xdp() {
    needs_scene!();
    for mode in ["auto", "native"] {
        works_alone(
            Cable::new().unwrap(),
            "the driver has no native XDP",
            |plan| {
                plan.interfaces = vec!["lo".to_owned()];
                plan.config["xdp"]["mode"] = json!(mode);
                plan.config["xdp"]["tc"] = json!(false);
            },
        );
    }
}

#[test]
fn the_driver_refuses_large_frames() {
    needs_scene!();
    let cable = Cable::new().unwrap();
    // Frames from the other end would not fit a page, which veth's driver does not accept.
    cable.client.ip("link set client mtu 9000").unwrap();
    works_alone(cable, "at this MTU", |_| {});
}

#[test]
fn there_is_no_such_interface() {
    needs_scene!();
    works_alone(
        Cable::new().unwrap(),
        "there is no interface absent0",
        |plan| plan.interfaces = vec!["absent0".to_owned()],
    );
}

#[test]
fn one_interface_of_two_is_enough() {
    needs_scene!();
    let scene = Scene::with(&fake_local(), |plan| plan.interfaces.push("lo".to_owned())).unwrap();
    let dig = Dig::at(SERVER[0]).from(&scene.cable.client);
    let response = dig.ask("nginx.marathon.mesos", "A").unwrap();
    assert_eq!(response.data("A"), ["10.3.0.3"]);
    let status = scene.daemon.status().unwrap();
    assert_eq!(
        (status.xdp.mode.as_str(), status.xdp.answered),
        ("native", 1)
    );
    assert_eq!(status.xdp.interfaces["server"], "native");
    assert!(status.xdp.interfaces["lo"].contains("native XDP on lo: "));
}

#[test]
fn an_ordinary_user_may_not() {
    needs_scene!();
    needs_tool!("setpriv");
    works_alone(Cable::new().unwrap(), "XDP needs root", |plan| {
        // No right but that to port 53.
        let unprivileged = [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all,+net_bind_service",
            "--ambient-caps=-all,+net_bind_service",
            "--bounding-set=-all,+net_bind_service",
            "--pdeathsig=KILL",
        ];
        plan.wrapper = unprivileged.map(str::to_owned).to_vec();
    });
}
