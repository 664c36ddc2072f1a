//! The certificate of DNS over TLS and HTTPS in a daemon that runs: renewed in its files while
//! connections go on, and never taken where it is not good.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Command,
};

use serde_json::{Value, json};
use tests::{
    fake_master::FakeMaster,
    keys::{Keys, certificate, shown},
    needs_tool,
    port::free_ports,
    running::{Running, http_get, wait_for, wait_until_ready},
    secured::answer_over,
};

const NAME: &str = "web.marathon.mesos";

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A daemon with a task, and certificates `old` and `new`, of which the first is in use.
struct Scene {
    keys: Keys,
    running: Running,
    config: Value,
    http: SocketAddr,
    tls: SocketAddr,
    https: SocketAddr,
    spare: u16,
    _master: FakeMaster,
}

impl Scene {
    fn start() -> Self {
        let keys = Keys::new();
        keys.certificates(&["old", "new"]);
        keys.replace("server.pem", "old.pem");
        keys.replace("server.key", "old.key");
        let master = FakeMaster::start().unwrap();
        master.serve_state(&json!({
            "leader": format!("master@{}", master.address()),
            "slaves": [{"id": "S", "hostname": "10.0.0.1", "pid": "slave(1)@10.0.0.1:5051"}],
            "frameworks": [{"id": "F", "name": "marathon", "tasks": [{"id": "web.1", "name": "web",
                "slave_id": "S", "framework_id": "F", "state": "TASK_RUNNING"}]}]}));
        let ports = free_ports(5);
        let encrypted = |port: u16| {
            json!({"listeners": [at(port)], "certificate": keys.path("server.pem"),
                "key": keys.path("server.key")})
        };
        let config = json!({
            "masters": [master.address().to_string()], "refreshSeconds": 1,
            "listener": "127.0.0.1", "port": ports[0],
            "httpListener": "127.0.0.1", "httpPort": ports[1], "externalOn": false,
            "server": {"tls": encrypted(ports[2]), "https": encrypted(ports[3])},
        });
        let running = Running::start(&config).unwrap();
        wait_until_ready(at(ports[1])).unwrap();
        Self {
            keys,
            running,
            config,
            http: at(ports[1]),
            tls: at(ports[2]),
            https: at(ports[3]),
            spare: ports[4],
            _master: master,
        }
    }

    fn reload(&self, config: &Value) {
        self.running.reload(&config.to_string()).unwrap();
    }

    fn wait_for_reload(&self, succeeds: bool) {
        let line = format!(
            "\nmesos_xdns_config_last_reload_success {}",
            u8::from(succeeds)
        );
        let page = || http_get(self.http, "/metrics").unwrap().1;
        wait_for("the reload", page, |page| page.contains(&line)).unwrap();
    }

    /// Responses over a transport that the metrics count.
    fn responses(&self, transport: &str) -> u64 {
        let (_, page) = http_get(self.http, "/metrics").unwrap();
        let of_it = format!("\"{transport}\"");
        let lines = page.lines().filter(|line| {
            line.starts_with("mesos_xdns_dns_responses_total{") && line.contains(&of_it)
        });
        let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        counts.sum()
    }

    /// Waits until new clients of both transports are shown a certificate.
    fn wait_until_shown(&self, name: &str) {
        let expected = certificate(&self.keys.path(name));
        for server in [self.tls, self.https] {
            let ask = || shown(&self.keys.connect(server, &[]).unwrap()).unwrap();
            wait_for(name, ask, |shown| *shown == expected).unwrap();
        }
    }
}

#[test]
fn a_renewed_certificate_is_shown_while_connections_go_on() {
    needs_tool!("kdig", "openssl");
    let scene = Scene::start();
    scene.wait_until_shown("old.pem");
    let mut before = scene.keys.connect(scene.tls, &["dot"]).unwrap();
    answer_over(&mut before, NAME);
    // No signal: the files are looked at.
    scene.keys.replace("server.pem", "new.pem");
    scene.keys.replace("server.key", "new.key");
    scene.wait_until_shown("new.pem");
    answer_over(&mut before, NAME);
    let kdig = |pin: &str| {
        let mut command = Command::new("kdig");
        command.args([
            &format!("@{}", scene.tls.ip()),
            "-p",
            &scene.tls.port().to_string(),
        ]);
        command.args([
            "+tls",
            &format!("+tls-pin={pin}"),
            "+retry=0",
            "+timeout=10",
            NAME,
        ]);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("10.0.0.1")
    };
    assert!(kdig(&scene.keys.pin("new")));
    assert!(!kdig(&scene.keys.pin("old")));
    // Back, by SIGHUP, at other paths.
    let mut config = scene.config.clone();
    for transport in ["tls", "https"] {
        config["server"][transport]["certificate"] = json!(scene.keys.path("old.pem"));
        config["server"][transport]["key"] = json!(scene.keys.path("old.key"));
    }
    scene.reload(&config);
    scene.wait_until_shown("old.pem");
    answer_over(&mut before, NAME);
}

#[test]
fn a_broken_certificate_is_not_taken_and_the_last_good_one_stays() {
    needs_tool!("openssl");
    let scene = Scene::start();
    for (file, octets) in [
        ("server.pem", &b"no certificate"[..]),
        ("server.key", b""),
        // A good one that is not that of the key.
        ("server.pem", &scene.keys.read("new.pem")),
    ] {
        let good = scene.keys.read(file);
        scene.keys.write(file, octets);
        scene.reload(&scene.config);
        scene.wait_for_reload(false);
        scene.wait_until_shown("old.pem");
        scene.keys.write(file, &good);
        scene.reload(&scene.config);
        scene.wait_for_reload(true);
        scene.wait_until_shown("old.pem");
    }
    // Without a signal, too: the file is broken for longer than it is waited for before it is read.
    scene.keys.write("server.key", b"no key");
    std::thread::sleep(std::time::Duration::from_secs(4));
    scene.wait_until_shown("old.pem");
    scene.keys.replace("server.key", "new.key");
    scene.keys.replace("server.pem", "new.pem");
    scene.wait_until_shown("new.pem");
}

#[test]
fn encrypted_connections_outlive_the_move_of_the_other_sockets() {
    needs_tool!("openssl");
    let scene = Scene::start();
    let mut before = scene.keys.connect(scene.tls, &["dot"]).unwrap();
    answer_over(&mut before, NAME);
    let mut config = scene.config.clone();
    config["port"] = json!(scene.spare);
    scene.reload(&config);
    wait_for(
        "the move",
        || tests::running::ask(at(scene.spare), NAME).is_ok(),
        |moved| *moved,
    )
    .unwrap();
    // A connection that the server before took in may end with it.
    let answered = || {
        let asked = std::panic::catch_unwind(|| {
            answer_over(&mut scene.keys.connect(scene.tls, &["dot"]).unwrap(), NAME);
        });
        asked.is_ok() && scene.responses("tls") > 0
    };
    wait_for("the server after", answered, |good| *good).unwrap();
    for _ in 0..20 {
        let mut after = scene.keys.connect(scene.tls, &["dot"]).unwrap();
        answer_over(&mut after, NAME);
    }
    // Where they listen does not change.
    config["server"]["tls"]["listeners"] = json!([at(scene.spare)]);
    scene.reload(&config);
    scene.wait_for_reload(false);
    assert!(scene.responses("tls") > 20);
    assert_eq!(scene.responses("https"), 0);
    let (_, status) = http_get(scene.http, "/status").unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert!(status["server"]["tls"]["connections"].as_u64() > Some(20));
}
