//! SIGHUP, as far as the process is concerned: a configuration that is read again while queries
//! come in all the time.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
};

use hickory_proto::op::ResponseCode;
use serde_json::{Value, json};
use tests::{
    fake_master::FakeMaster,
    port::free_ports,
    running::{Asking, Running, ask, http_get, wait_for, wait_until_ready},
};

const NAME: &str = "web.marathon.mesos";

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn ip(last: u8) -> BTreeSet<Ipv4Addr> {
    BTreeSet::from([Ipv4Addr::new(10, 0, 0, last)])
}

/// A master with one task, `name`, on an agent of its own at 10.0.0.`last`.
fn master(name: &str, last: u8) -> FakeMaster {
    let master = FakeMaster::start().unwrap();
    master.serve_state(&json!({
        "leader": format!("master@{}", master.address()),
        "slaves": [{"id": "S", "hostname": format!("10.0.0.{last}"),
            "pid": format!("slave(1)@10.0.0.{last}:5051")}],
        "frameworks": [{"id": "F", "name": "marathon", "tasks": [{"id": "web.1", "name": name,
            "slave_id": "S", "framework_id": "F", "state": "TASK_RUNNING"}]}]}));
    master
}

struct Scene {
    running: Running,
    config: Value,
    dns: u16,
    http: u16,
    spare: [u16; 2],
    _master: FakeMaster,
}

impl Scene {
    fn start() -> Self {
        let master = master("web", 1);
        let ports = free_ports(4);
        let config = json!({
            "masters": [master.address().to_string()], "refreshSeconds": 1,
            "listener": "127.0.0.1", "port": ports[0],
            "httpListener": "127.0.0.1", "httpPort": ports[1], "externalOn": false,
        });
        let running = Running::start(&config).unwrap();
        wait_until_ready(at(ports[1])).unwrap();
        Self {
            running,
            config,
            dns: ports[0],
            http: ports[1],
            spare: [ports[2], ports[3]],
            _master: master,
        }
    }

    fn reload(&mut self, changes: Value) {
        for (key, value) in changes.as_object().unwrap() {
            self.config[key] = value.clone();
        }
        self.running.reload(&self.config.to_string()).unwrap();
    }

    fn reload_succeeded(&self) -> bool {
        let (_, page) = http_get(at(self.http), "/metrics").unwrap();
        page.contains("\nmesos_xdns_config_last_reload_success 1")
    }

    fn ttl(&self) -> Option<u32> {
        ask(at(self.dns), NAME).ok().map(|(_, ttl, _)| ttl)
    }
}

#[test]
fn records_change_without_a_lost_query() {
    let mut scene = Scene::start();
    let asking = Asking::start(at(scene.dns), &[NAME], |_, (code, _, addresses)| {
        *code == ResponseCode::NoError && *addresses == ip(1)
    })
    .unwrap();
    let serial = |http: u16| -> u64 {
        let (_, body) = http_get(at(http), "/v1/axfr").unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        body["Serial"].as_u64().unwrap()
    };
    let mut before = serial(scene.http);
    for ttl in [5, 6, 7] {
        scene.reload(json!({"TTL": ttl, "SOARname": format!("admin{ttl}.mesos")}));
        wait_for("TTL", || scene.ttl(), |found| *found == Some(ttl)).unwrap();
        let (_, shown) = http_get(at(scene.http), "/v1/config").unwrap();
        assert!(shown.contains(&format!("\"TTL\": {ttl},")), "{shown}");
        let after = serial(scene.http);
        assert!(after > before, "{after} does not come after {before}");
        before = after;
    }
    let (asked, wrong) = asking.stop().unwrap();
    assert_eq!(wrong, Vec::<String>::new());
    assert!(asked > 10, "{asked}");
}

#[test]
fn a_bad_configuration_changes_nothing() {
    let mut scene = Scene::start();
    let asking = Asking::start(at(scene.dns), &[NAME], |_, (code, ttl, addresses)| {
        *code == ResponseCode::NoError && *ttl == 60 && *addresses == ip(1)
    })
    .unwrap();
    let bad = [
        "{".to_owned(),
        json!({"masters": ["nowhere"], "TTL": 5}).to_string(),
        {
            // Good in itself, but the port is taken: the other changes are not made either.
            let taken = scene._master.address().port();
            let mut config = scene.config.clone();
            config["TTL"] = 5.into();
            config["httpPort"] = taken.into();
            config.to_string()
        },
    ];
    for text in bad {
        scene.running.reload(&text).unwrap();
        wait_for("failure", || scene.reload_succeeded(), |good| !good).unwrap();
        assert_eq!(http_get(at(scene.http), "/ready").unwrap().0, 200);
        scene.reload(json!({}));
        wait_for("success", || scene.reload_succeeded(), |good| *good).unwrap();
    }
    let (_, wrong) = asking.stop().unwrap();
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn sockets_move_with_their_ports() {
    let mut scene = Scene::start();
    let [dns, http] = scene.spare;
    scene.reload(json!({"port": dns, "httpPort": http}));
    wait_until_ready(at(http)).unwrap();
    let (code, _, addresses) = ask(at(dns), NAME).unwrap();
    assert_eq!((code, addresses), (ResponseCode::NoError, ip(1)));
    wait_for(
        "the old sockets",
        || {
            (
                ask(at(scene.dns), NAME).is_ok(),
                http_get(at(scene.http), "/ready").is_ok(),
            )
        },
        |open| *open == (false, false),
    )
    .unwrap();
    scene.reload(json!({"dnsOn": false}));
    wait_for("no DNS", || ask(at(dns), NAME).is_ok(), |open| !open).unwrap();
    assert_eq!(http_get(at(http), "/ready").unwrap().0, 200);
}

#[test]
fn other_masters_are_followed_and_the_old_answers_stay_until_they_speak() {
    let mut scene = Scene::start();
    let other = master("web", 2);
    let asking = Asking::start(at(scene.dns), &[NAME], |_, (code, _, addresses)| {
        *code == ResponseCode::NoError && (*addresses == ip(1) || *addresses == ip(2))
    })
    .unwrap();
    // First one that is not there.
    let nobody = format!("127.0.0.1:{}", scene.spare[0]);
    scene.reload(json!({"masters": [nobody]}));
    let page = || http_get(at(scene.http), "/metrics").unwrap().1;
    wait_for("outage", page, |page| {
        page.contains("mesos_fetches_total{result=\"failure\"} 1")
    })
    .unwrap();
    assert_eq!(ask(at(scene.dns), NAME).unwrap().2, ip(1));
    assert_eq!(http_get(at(scene.http), "/ready").unwrap().0, 200);
    scene.reload(json!({"masters": [other.address().to_string()]}));
    let addresses = || ask(at(scene.dns), NAME).unwrap().2;
    wait_for("the other master", addresses, |found| *found == ip(2)).unwrap();
    let (_, wrong) = asking.stop().unwrap();
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn another_domain_takes_the_place_of_the_old() {
    let mut scene = Scene::start();
    scene.reload(json!({"domain": "cluster.example"}));
    let name = "web.marathon.cluster.example";
    let addresses = || ask(at(scene.dns), name).ok().map(|(_, _, found)| found);
    wait_for("the domain", addresses, |found| *found == Some(ip(1))).unwrap();
    let (code, _, addresses) = ask(at(scene.dns), NAME).unwrap();
    assert_eq!((code, addresses.len()), (ResponseCode::Refused, 0));
}

#[test]
fn at_the_end_readiness_goes_first() {
    let mut scene = Scene::start();
    scene.running.ask_to_end();
    // Ready or refused: a ready answer after the end was asked for may still be on its way.
    let ask = || {
        http_get(at(scene.http), "/ready")
            .ok()
            .map(|(status, _)| status)
    };
    wait_for("the end", ask, |status| *status != Some(200)).unwrap();
    scene.running.ended().unwrap();
}
