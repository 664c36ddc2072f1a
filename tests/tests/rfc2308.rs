//! RFC 2308, "Negative Caching of DNS Queries", by section, asked of the daemon with its program in
//! the kernel and of the daemon alone.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "what a test needs and does not get ends it"
)]

use serde_json::json;
use tests::{
    cable::SERVER,
    dig::{Dig, Response},
    needs_scene,
    scene::{Scene, fake_local},
};

/// The daemon in both forms, with a TTL of 120 and a MINIMUM of 30 seconds.
fn planes() -> [(&'static str, Scene); 2] {
    [("kernel", true), ("user space", false)].map(|(plane, xdp)| {
        let scene = Scene::with(&fake_local(), |plan| {
            plan.config["ttl"] = json!(120);
            plan.config["SOAMinttl"] = json!(30);
            if !xdp {
                plan.interfaces.clear();
            }
        });
        (plane, scene.expect("a daemon"))
    })
}

fn ask(scene: &Scene, name: &str, rtype: &str) -> [Response; 2] {
    let dig = Dig::at(SERVER[0]).from(&scene.cable.client);
    [dig.clone(), dig.option("+noedns")].map(|dig| dig.ask(name, rtype).expect("an answer"))
}

#[test]
fn test_2_1_a_name_error_says_nxdomain_with_the_soa() {
    needs_scene!();
    for (plane, scene) in &planes() {
        for name in ["absent.mesos", "a.b.c.mesos", "absent.marathon.mesos"] {
            for response in ask(scene, name, "A") {
                assert_eq!(response.status, "NXDOMAIN", "{plane} {name}");
                denies(&response, plane);
            }
        }
    }
}

#[test]
fn test_2_2_no_data_says_noerror_with_the_soa() {
    needs_scene!();
    for (plane, scene) in &planes() {
        // The last has no records of its own, only names below (RFC 8020, section 2).
        let empty = "_tcp.marathon.mesos";
        for (name, rtype) in [
            ("nginx.marathon.mesos", "AAAA"),
            ("nginx.marathon.mesos", "TXT"),
            ("mesos", "TXT"),
            (empty, "A"),
        ] {
            for response in ask(scene, name, rtype) {
                assert_eq!(response.status, "NOERROR", "{plane} {name} {rtype}");
                denies(&response, plane);
            }
        }
    }
}

/// Section 3: the SOA is in the authority section, with the lesser of its TTL and its MINIMUM.
fn denies(response: &Response, plane: &str) {
    assert!(response.answer.is_empty(), "{plane}");
    assert!(response.has_flag("aa"), "{plane}");
    let [soa] = &response.authority[..] else {
        panic!("{plane}: {:?}", response.authority)
    };
    assert_eq!((soa.name.as_str(), soa.rtype.as_str()), ("mesos.", "SOA"));
    assert_eq!(soa.ttl, 30, "{plane}: {soa:?}");
    assert!(soa.data.ends_with(" 30"), "{plane}: {soa:?}");
}
