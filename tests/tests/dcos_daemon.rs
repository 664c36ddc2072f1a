//! A DC/OS node end to end: the daemon follows a master's event stream and state, and `dig` asks it
//! over loopback.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dns_userspace::commands::vips;
use dns_userspace::config::{Config, Surroundings, check_text};
use dns_userspace::daemon;
use serde_json::{Value, json};
use tests::dcos_cluster::{App, Cluster};
use tests::dig::{Dig, Response};
use tests::fake_master::{Behaviour, STATE_PATH};
use tests::needs;
use tests::port::free_port;
use tests::upstream::Upstream;
use tests::zookeeper::{self, Ensemble, NodeKind, Writer};
use tokio::sync::oneshot;

const ID: &str = "yor6tqhiag39y6cjkdd4w9uzo45qhku6ra8hl7hpr6d9ukjaz3jo";
/// The key of that id.
const KEY: [u8; 32] = [
    0x04, 0x09, 0xe8, 0xbb, 0x95, 0xc1, 0xb3, 0xf0, 0x79, 0x89, 0x50, 0xc7, 0xaa, 0x7e, 0x77, 0x86,
    0xb6, 0xee, 0x2a, 0x7e, 0x26, 0x0f, 0xc9, 0x77, 0x8d, 0x27, 0x87, 0xf9, 0xa9, 0x38, 0xbe, 0x53,
];
const DEADLINE: Duration = Duration::from_secs(20);

/// A running daemon; ends when dropped.
struct Node {
    port: u16,
    rest: u16,
    config: Value,
    vip_file: PathBuf,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    fn start(cluster: &Cluster, change: impl FnOnce(&mut Value)) -> Self {
        let (port, rest) = (free_port(), free_port());
        let vip_file = std::env::temp_dir().join(format!("mesos-xdns-vips-{port}.json"));
        let mut config = json!({
            "masters": [cluster.master.address().to_string()],
            "refreshSeconds": 60, "port": port, "listener": "127.0.0.1", "httpon": false,
            "xdp": {"mode": "off"},
            "dcos": {"node_ip": "172.17.0.2", "masters": ["172.17.0.2"], "cluster_id": ID,
                "listeners": [format!("127.0.0.2:{port}"), format!("127.0.0.3:{port}")],
                "rest_listener": format!("127.0.0.1:{rest}"), "settle_seconds": 0.1,
                "reconnect_min_seconds": 0.1, "reconnect_max_seconds": 0.5,
                "vip_file": vip_file, "upstreams": ["127.0.0.9:1"]},
        });
        change(&mut config);
        let written = config;
        let config = checked(&written);
        let (end, ended) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let end = async {
                let _ = ended.await;
            };
            let setup = daemon::Setup {
                config,
                surroundings: Surroundings::default(),
            };
            let load = || Ok(setup.clone());
            let (_, reloads) = tokio::sync::mpsc::channel(1);
            runtime
                .block_on(daemon::run(setup.clone(), load, reloads, end))
                .unwrap();
        });
        Self {
            port,
            rest,
            config: written,
            vip_file,
            end: Some(end),
            thread: Some(thread),
        }
    }

    fn dig(&self) -> Dig<'static> {
        Dig::at("127.0.0.1").port(self.port)
    }

    fn ask(&self, name: &str, rtype: &str) -> Response {
        self.dig().ask(name, rtype).unwrap()
    }

    /// The data of an answer, once there is the right one.
    fn wait_for(&self, name: &str, rtype: &str, wanted: &[&str]) {
        let begun = Instant::now();
        loop {
            let found = self.dig().ask(name, rtype);
            if let Ok(found) = &found
                && data(found) == wanted
            {
                return;
            }
            assert!(
                begun.elapsed() < DEADLINE,
                "{name} {rtype}: {found:?}, not {wanted:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A request to the REST API.
    fn request(&self, method: &str, path: &str, headers: &str) -> (u16, String, String) {
        request(self.rest, method, path, headers)
    }

    fn get(&self, path: &str) -> Value {
        let (status, _, body) = self.request("GET", path, "");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    fn stop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.vip_file);
    }
}

/// Status code, headers and body of a request.
fn request(port: u16, method: &str, path: &str, headers: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}

fn checked(config: &Value) -> Config {
    let checked = check_text(
        config.to_string().as_bytes(),
        Path::new("/config.json"),
        &Surroundings::default(),
    );
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
    checked.config.unwrap()
}

fn data(response: &Response) -> Vec<&str> {
    let mut data: Vec<&str> = response
        .answer
        .iter()
        .map(|one| one.data.as_str())
        .collect();
    data.sort_unstable();
    data
}

#[test]
fn the_names_of_the_documentation_are_answered() {
    let cluster = Cluster::start(&[App::of_the_documentation()]).unwrap();
    let node = Node::start(&cluster, |_| {});
    let container = "myapp-mygroup.marathon.containerip.dcos.thisdcos.directory";
    node.wait_for(container, "A", &["9.0.2.5"]);
    node.wait_for("myapp.mygroup.marathon.mesos", "A", &["9.0.2.5"]);
    for (name, wanted) in [
        (
            "myapp-mygroup.marathon.agentip.dcos.thisdcos.directory",
            "172.17.0.4",
        ),
        (
            "myapp-mygroup.marathon.autoip.dcos.thisdcos.directory",
            "9.0.2.5",
        ),
        (
            "mygroupmyapp.marathon.l4lb.thisdcos.directory",
            "11.198.144.68",
        ),
        (
            "mygroupmyapp.marathon.dclb.thisdcos.global",
            "11.198.144.68",
        ),
        ("myapp.mygroup.marathon.mesos.thisdcos.directory", "9.0.2.5"),
        ("master.dcos.thisdcos.directory", "172.17.0.2"),
        ("zk-5.zk", "172.17.0.2"),
        ("thisnode.thisdcos.directory", "172.17.0.2"),
        ("ready.spartan", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
    ] {
        assert_eq!(data(&node.ask(name, "A")), [wanted], "{name}");
    }
    let leader = node.ask("leader.dcos.thisdcos.directory", "A");
    assert_eq!(data(&leader), ["127.0.0.1"]);
    let srv = node.ask("_http._myapp.mygroup._tcp.marathon.mesos", "SRV");
    assert!(srv.answer[0].data.starts_with("0 1 80 myapp.mygroup-"));
    let srv = node.ask(
        "_http._myapp.mygroup._tcp.marathon.mesos.thisdcos.directory",
        "SRV",
    );
    assert!(srv.answer[0].data.starts_with("1 1 80 myapp.mygroup-"));
    assert!(
        srv.answer[0]
            .data
            .ends_with(".marathon.mesos.thisdcos.directory.")
    );

    // Nobody is asked for names of the cluster that it does not have.
    let denied = node.ask("nope.marathon.agentip.dcos.thisdcos.directory", "A");
    assert_eq!(denied.status, "NXDOMAIN");
    assert_eq!(denied.authority[0].ttl, 1);
    assert_eq!(node.ask("x.foo.thisdcos.directory", "A").status, "REFUSED");
    assert!(!node.ask("ready.spartan", "ANY").answer.is_empty());
}

#[test]
fn other_names_of_a_zone_come_with_the_question_as_sent() {
    let cluster = Cluster::start(&[App::of_the_documentation()]).unwrap();
    let node = Node::start(&cluster, |_| {});
    let id = ID.to_ascii_uppercase();
    let asked = format!("MyApp-mygroup.marathon.ContainerIP.dcos.{id}.DCOS.directory.");
    node.wait_for(&asked, "A", &["9.0.2.5"]);
    let response = node.ask(&asked, "A");
    assert_eq!(response.question, Some((asked.clone(), "A".into())));
    assert_eq!(response.answer[0].name, asked);
    assert_eq!(response.answer[0].ttl, 5);
    let mirror = format!("leader.mesos.{ID}.dcos.directory");
    node.wait_for(&mirror, "A", &["127.0.0.1"]);
}

#[test]
fn a_change_is_answered_at_once_and_outlives_the_stream() {
    let mut tasks = vec![App::of_the_documentation()];
    let others = std::env::var("MESOS_XDNS_TEST_TASKS").map_or(500, |text| text.parse().unwrap());
    tasks.extend(App::crowd(others));
    let mut cluster = Cluster::start(&tasks).unwrap();
    let node = Node::start(&cluster, |_| {});
    let container = "myapp-mygroup.marathon.containerip.dcos.thisdcos.directory";
    node.wait_for(container, "A", &["9.0.2.5"]);
    // The copy is the last that is published at the start.
    let copy = "myapp.mygroup.marathon.mesos.thisdcos.directory";
    node.wait_for(copy, "A", &["9.0.2.5"]);
    let mut app = App::of_the_documentation();
    let mut latencies: Vec<Duration> = (0u8..=255)
        .map(|last| {
            app.ip = [9, 0, 3, last].into();
            let begun = Instant::now();
            cluster.events.send(&app.updated("TASK_RUNNING"));
            wait_for_address(node.port, container, app.ip);
            begun.elapsed()
        })
        .collect();
    latencies.sort_unstable();
    let (p50, p99) = (latencies[128], latencies[253]);
    println!(
        "from event to answer, {others} other tasks, 256 changes: p50 {p50:?}, p99 {p99:?}, worst {:?}",
        latencies[255]
    );
    assert!(p99 < Duration::from_millis(500), "{p99:?}");

    // What is known stays when the stream is lost, and is brought up to date by the next one.
    let mut second = app.clone();
    second.name = "other".into();
    second.id = "other.1".into();
    second.vip = "/other:80".into();
    cluster.tasks = vec![app, second];
    cluster.tell();
    cluster
        .master
        .behave_at("/api/v1", Behaviour::Body(503, "".into()));
    cluster.events.lose();
    for _ in 0..20 {
        assert_eq!(data(&node.ask(container, "A")), ["9.0.3.255"]);
        std::thread::sleep(Duration::from_millis(20));
    }
    let behaviour = Behaviour::Events(cluster.events.clone());
    cluster.master.behave_at("/api/v1", behaviour);
    let other = "other.marathon.containerip.dcos.thisdcos.directory";
    node.wait_for(other, "A", &["9.0.3.255"]);
    assert_eq!(data(&node.ask(container, "A")), ["9.0.3.255"]);
    cluster
        .events
        .send(&cluster.tasks[1].updated("TASK_KILLED"));
    node.wait_for(other, "A", &[]);
    assert_eq!(node.ask(other, "A").status, "NXDOMAIN");
    assert_eq!(
        node.ask("other.marathon.l4lb.thisdcos.directory", "A")
            .status,
        "NXDOMAIN"
    );
}

#[test]
fn the_mesos_domain_follows_its_source() {
    let name = "myapp.mygroup.marathon.mesos";
    let copy = "myapp.mygroup.marathon.mesos.thisdcos.directory";
    for source in ["events", "auto", "poll"] {
        let mut cluster = Cluster::start(&[App::of_the_documentation()]).unwrap();
        let http = free_port();
        let node = Node::start(&cluster, |config| {
            config["dcos"]["mesos_source"] = source.into();
            config["httpon"] = true.into();
            config["httplistener"] = "127.0.0.1".into();
            config["httpport"] = http.into();
        });
        let container = "myapp-mygroup.marathon.containerip.dcos.thisdcos.directory";
        node.wait_for(container, "A", &["9.0.2.5"]);
        node.wait_for(name, "A", &["9.0.2.5"]);
        let leader = cluster.master.address();
        let fetches = |cluster: &Cluster| {
            let all = cluster.master.requests();
            all.iter().filter(|one| one.path == STATE_PATH).count()
        };
        // The port of a scheduler is in the state only, and the whole of an agent in both.
        let port: &[&str] = match source {
            "events" => &[],
            _ => &["0 1 8080 marathon.mesos."],
        };
        node.wait_for("_framework._tcp.marathon.mesos", "SRV", port);
        node.wait_for("marathon.mesos", "A", &["172.17.0.2"]);
        node.wait_for("slave.mesos", "A", &["172.17.0.4"]);
        node.wait_for("master0.mesos", "A", &["127.0.0.1"]);
        let service = format!("0 1 {} leader.mesos.", leader.port());
        node.wait_for("_leader._tcp.mesos", "SRV", &[&service]);

        // Only events tell of a change; the state is still the old one.
        cluster.tasks[0].ip = [9, 0, 2, 6].into();
        cluster
            .events
            .send(&cluster.tasks[0].updated("TASK_RUNNING"));
        node.wait_for(container, "A", &["9.0.2.6"]);
        let wanted = if source == "poll" {
            "9.0.2.5"
        } else {
            "9.0.2.6"
        };
        assert_eq!(data(&node.ask(name, "A")), [wanted], "{source}");
        assert_eq!(data(&node.ask(copy, "A")), [wanted], "{source}");
        let id_copy = format!("myapp.mygroup.marathon.mesos.{ID}.dcos.directory");
        assert_eq!(data(&node.ask(&id_copy, "A")), [wanted], "{source}");
        let listed = request(http, "GET", &format!("/v1/hosts/{name}"), "");
        assert!(listed.2.contains(wanted), "{source}: {}", listed.2);
        if source != "poll" {
            cluster
                .events
                .send(&cluster.tasks[0].updated("TASK_KILLED"));
            node.wait_for(name, "A", &[]);
            assert_eq!(node.ask(name, "A").status, "NXDOMAIN");
            let listed = request(http, "GET", "/v1/axfr", "");
            assert!(!listed.2.contains("myapp"), "{}", listed.2);
        }
        assert_eq!(fetches(&cluster) == 0, source == "events");
    }
}

#[test]
fn a_stream_that_stays_away_leaves_the_mesos_domain_to_the_state() {
    let mut cluster = Cluster::start(&[App::of_the_documentation()]).unwrap();
    let node = Node::start(&cluster, |config| {
        config["refreshSeconds"] = 1.into();
    });
    let name = "myapp.mygroup.marathon.mesos";
    let of_app = |ip: Ipv4Addr| ip.to_string();
    node.wait_for(name, "A", &["9.0.2.5"]);
    cluster.tasks[0].ip = [9, 0, 2, 6].into();
    cluster
        .events
        .send(&cluster.tasks[0].updated("TASK_RUNNING"));
    node.wait_for(name, "A", &[&of_app(cluster.tasks[0].ip)]);
    cluster
        .master
        .behave_at("/api/v1", Behaviour::Body(503, "".into()));
    cluster.events.lose();
    cluster.tasks[0].ip = [9, 0, 2, 7].into();
    cluster.tell();
    node.wait_for(name, "A", &[&of_app(cluster.tasks[0].ip)]);
    // The zones of DC/OS are from events alone.
    let container = "myapp-mygroup.marathon.containerip.dcos.thisdcos.directory";
    assert_eq!(data(&node.ask(container, "A")), ["9.0.2.6"]);
    let behaviour = Behaviour::Events(cluster.events.clone());
    cluster.tasks[0].ip = [9, 0, 2, 8].into();
    cluster.tell();
    cluster.master.behave_at("/api/v1", behaviour);
    node.wait_for(container, "A", &["9.0.2.8"]);
    node.wait_for(name, "A", &["9.0.2.8"]);
    cluster.tasks[0].ip = [9, 0, 2, 9].into();
    cluster
        .events
        .send(&cluster.tasks[0].updated("TASK_RUNNING"));
    node.wait_for(name, "A", &["9.0.2.9"]);
}

#[test]
fn the_id_of_a_cluster_may_come_late_from_zookeeper() {
    let missing = zookeeper::available();
    needs!(missing.is_ok(), missing.unwrap_err());
    let ensemble = Ensemble::start(1, Duration::from_secs(40)).unwrap();
    let cluster = Cluster::start(&[App::of_the_documentation()]).unwrap();
    let node = Node::start(&cluster, |config| {
        config["zk"] = ensemble.url("/mesos").into();
        let dcos = config["dcos"].as_object_mut().unwrap();
        dcos.remove("cluster_id");
        dcos.insert("cluster_key_node".into(), "/navstar_key".into());
    });
    let below = "containerip.dcos.thisdcos.directory";
    node.wait_for(
        &format!("myapp-mygroup.marathon.{below}"),
        "A",
        &["9.0.2.5"],
    );
    node.wait_for("myapp.mygroup.marathon.mesos", "A", &["9.0.2.5"]);
    let asked = |name: &str| format!("{name}.{ID}.dcos.directory");
    // Without the id the name is somebody else's, and there is no upstream.
    assert_eq!(node.ask(&asked("thisnode"), "A").status, "SERVFAIL");

    // Octets as code points, as the masters of DC/OS write them.
    let key: String = KEY.iter().map(|&octet| char::from(octet)).collect();
    let document = json!({"public": key, "secret": "\u{0}"}).to_string();
    let mut writer = Writer::connect(ensemble.addresses()[0]).unwrap();
    writer
        .create("/navstar_key", document.as_bytes(), NodeKind::Persistent)
        .unwrap();
    for (name, wanted) in [
        ("thisnode", "172.17.0.2"),
        ("myapp-mygroup.marathon.containerip.dcos", "9.0.2.5"),
        ("mygroupmyapp.marathon.l4lb", "11.198.144.68"),
        ("myapp.mygroup.marathon.mesos", "9.0.2.5"),
    ] {
        node.wait_for(&asked(name), "A", &[wanted]);
    }
    assert_eq!(node.ask(&asked("nope.dcos"), "A").status, "NXDOMAIN");
    // What changes from here on has its other name, too.
    cluster
        .events
        .send(&cluster.tasks[0].updated("TASK_KILLED"));
    node.wait_for(&asked("myapp-mygroup.marathon.containerip.dcos"), "A", &[]);
}

#[test]
fn each_listener_answers_and_other_names_go_to_the_best_upstream() {
    let good = Upstream::start([192, 0, 2, 80].into()).unwrap();
    let cluster = Cluster::start(&[]).unwrap();
    // Takes queries and says nothing.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let dead = silent.local_addr().unwrap().to_string();
    let node = Node::start(&cluster, |config| {
        let upstreams = json!([dead, good.address.to_string()]);
        config["dcos"]["upstreams"] = upstreams;
    });
    node.wait_for("ready.spartan", "A", &["127.0.0.1"]);
    for address in ["127.0.0.2", "127.0.0.3"] {
        // dig takes a reply from the address asked only.
        let response = Dig::at(address)
            .port(node.port)
            .ask("zk-1.zk", "A")
            .unwrap();
        assert_eq!(data(&response), ["172.17.0.2"]);
        let begun = Instant::now();
        let response = Dig::at(address)
            .port(node.port)
            .ask("a.example", "A")
            .unwrap();
        assert_eq!(data(&response), ["192.0.2.80"]);
        // The other one has five seconds.
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
    assert_eq!(node.ask("thisdcos.directory", "A").status, "NOERROR");
    let seen = good.seen().len();
    assert_eq!(node.ask("a.unknown.thisdcos.global", "A").status, "REFUSED");
    assert_eq!(good.seen().len(), seen);
}

#[test]
fn addresses_of_vips_outlive_a_restart() {
    // Both start at 11.29.210.66: who comes first gets it.
    let app = |label: &str, id: &str| App {
        name: "svc".into(),
        id: id.into(),
        ip: [9, 0, 2, 5].into(),
        vip: label.into(),
    };
    let mut cluster = Cluster::start(&[app("svc4703:80", "b")]).unwrap();
    let mut node = Node::start(&cluster, |_| {});
    let (first, second) = (
        "svc1265.marathon.l4lb.thisdcos.directory",
        "svc4703.marathon.l4lb.thisdcos.directory",
    );
    node.wait_for(second, "A", &["11.29.210.66"]);
    cluster.tasks.push(app("svc1265:80", "a"));
    cluster.tell();
    let task = json!({"type": "TASK_ADDED", "task_added": {"task": cluster.tasks[1].task()}});
    cluster.events.send(&task);
    node.wait_for(first, "A", &["11.29.210.67"]);
    let vip_file = node.vip_file.clone();
    node.stop();
    let again = Node::start(&cluster, |config| {
        config["dcos"]["vip_file"] = json!(vip_file)
    });
    again.wait_for(first, "A", &["11.29.210.67"]);
    assert_eq!(data(&again.ask(second, "A")), ["11.29.210.66"]);
}

#[test]
fn vips_that_wait_for_an_address_are_counted_and_get_one() {
    let app = |id: u8, label: &str| App {
        name: "svc".into(),
        id: format!("svc.{id}"),
        ip: [9, 0, 2, id].into(),
        vip: label.into(),
    };
    let cluster = Cluster::start(&[app(1, "a:80"), app(2, "b:80")]).unwrap();
    let http = free_port();
    let node = Node::start(&cluster, |config| {
        // One address, as the last is no start and one attempt is made.
        config["dcos"]["vip_ipv4_range"] = json!(["11.0.0.0", "11.0.0.1"]);
        config["httpon"] = json!(true);
        config["httplistener"] = json!("127.0.0.1");
        config["httpport"] = json!(http);
    });
    let waiting = || {
        let (_, _, page) = request(http, "GET", "/metrics", "");
        let mut lines = page.lines();
        let value = lines.find_map(|line| line.strip_prefix("mesos_xdns_vips_without_address "));
        value.unwrap().to_owned()
    };
    node.wait_for("a.marathon.l4lb.thisdcos.directory", "A", &["11.0.0.0"]);
    assert_eq!(waiting(), "1.0");
    let b = "b.marathon.l4lb.thisdcos.directory";
    assert_eq!(node.ask(b, "A").status, "NXDOMAIN");
    cluster
        .events
        .send(&cluster.tasks[0].updated("TASK_KILLED"));
    node.wait_for(b, "A", &["11.0.0.0"]);
    assert_eq!(waiting(), "0.0");
}

/// Section 6 of dcos-net's behaviour.
#[test]
fn the_rest_api_lists_what_is_served() {
    let cluster = Cluster::start(&[App::of_the_documentation()]).unwrap();
    let node = Node::start(&cluster, |config| {
        config["dcos"]["static_zones"] = json!({"component.thisdcos.directory": [
            {"type": "CNAME", "name": "registry", "value": "master.dcos.thisdcos.directory"}]});
        config["dcos"]["public_ips"] = json!(["203.0.113.7"]);
    });
    let vip = "mygroupmyapp.marathon.l4lb.thisdcos.directory";
    node.wait_for(vip, "A", &["11.198.144.68"]);
    node.wait_for(
        "myapp.mygroup.marathon.mesos.thisdcos.directory",
        "A",
        &["9.0.2.5"],
    );

    let version = json!({"Service": "dcos-dns", "Version": "0.0.1"});
    assert_eq!(node.get("/v1/version"), version);
    for path in ["/v1/config", "/v1/enumerate"] {
        assert_eq!(node.request("GET", path, "").0, 501);
    }
    assert_eq!(node.request("POST", "/v1/vips", "").0, 405);
    assert_eq!(
        node.request("GET", "/v1/vips", "Accept: text/html\r\n").0,
        406
    );
    assert_eq!(node.request("GET", "/v1/vips", "Accept: */*\r\n").0, 200);

    let row = json!([{"host": vip, "ip": "11.198.144.68"}]);
    assert_eq!(node.get(&format!("/v1/hosts/{vip}")), row);
    assert_eq!(node.get(&format!("/v1/hosts/{vip}.")), row);
    let row = json!([{"host": "master.dcos.thisdcos.directory", "ip": "172.17.0.2"}]);
    assert_eq!(
        node.get("/v1/hosts/registry.component.thisdcos.directory"),
        row
    );
    let alias = "mygroupmyapp.marathon.dclb.thisdcos.directory";
    let row = json!([{"host": alias, "ip": "11.198.144.68"}]);
    assert_eq!(node.get(&format!("/v1/hosts/{alias}")), row);
    for nothing in [
        "leader.mesos",
        "nope.dcos.thisdcos.directory",
        "example.com",
        "a..b",
    ] {
        assert_eq!(
            node.get(&format!("/v1/hosts/{nothing}")),
            json!([]),
            "{nothing}"
        );
    }

    let service = "_http._myapp.mygroup._tcp.marathon.mesos.thisdcos.directory";
    let found = node.get(&format!("/v1/services/{service}"));
    let row = &found[0];
    assert_eq!(
        (&row["service"], &row["port"]),
        (&json!(service), &json!(80))
    );
    assert_eq!(row["ip"], "9.0.2.5");
    assert!(
        row["host"]
            .as_str()
            .unwrap()
            .ends_with(".mesos.thisdcos.directory")
    );
    assert_eq!(node.get(&format!("/v1/services/{vip}")), json!([]));

    let records = node.get("/v1/records");
    let records = records.as_array().unwrap();
    let row = json!({"name": vip, "host": "11.198.144.68", "rtype": "A"});
    assert!(records.contains(&row));
    let row = json!({"name": "ready.spartan", "host": "127.0.0.1", "rtype": "A"});
    assert!(records.contains(&row));
    let is_other = |name: &str| {
        name.ends_with(".mesos") || name.ends_with(".global") || name.ends_with(".dcos.directory")
    };
    assert!(
        !records
            .iter()
            .any(|row| is_other(row["name"].as_str().unwrap()))
    );

    let listed = json!([{"vip": format!("{vip}:80"), "protocol": "tcp",
        "backend": [{"ip": "9.0.2.5", "port": 80}]}]);
    assert_eq!(node.get("/v1/vips"), listed);
    let (_, head, _) = node.request("GET", "/v1/vips", "");
    let tag = head
        .lines()
        .find_map(|line| line.strip_prefix("etag: "))
        .unwrap();
    let known = format!("If-None-Match: {tag}\r\n");
    assert_eq!(node.request("GET", "/v1/vips", &known).0, 304);

    let nodes = node.get("/v1/nodes");
    assert_eq!(nodes[0]["private_ip"], "172.17.0.2");
    assert_eq!(nodes[0]["public_ips"], json!(["203.0.113.7"]));
    assert_eq!(node.get("/lashup/key"), json!({"zbase32_public_key": ID}));
    let (_, _, metrics) = node.request("GET", "/v1/metrics/l4lb", "");
    assert!(metrics.contains("\nvips 1\n"), "{metrics}");
    let (_, _, metrics) = node.request("GET", "/v1/metrics/mesos_listener", "");
    assert!(metrics.contains("\nis_leader 1\n"), "{metrics}");
    let (_, _, metrics) = node.request("GET", "/v1/metrics/dns", "");
    let of_zk = "zone_records{zone=\"zk.\"} 7\n";
    assert!(metrics.contains(of_zk), "{metrics}");
    let (status, _, body) = node.request("GET", "/v1/metrics/nope", "");
    assert_eq!((status, body.as_str()), (404, "Unknown Registry"));

    let text = listed_vips(&node);
    assert!(text.contains("11.198.144.68"), "{text}");
    assert!(text.contains("9.0.2.5:80"), "{text}");
}

/// Section 1 of dcos-net's behaviour: the program is run "every 30 min or on demand".
#[test]
fn public_addresses_are_looked_for_on_demand() {
    let cluster = Cluster::start(&[]).unwrap();
    let folder = std::env::temp_dir().join(format!("mesos-xdns-public-{}", free_port()));
    std::fs::create_dir(&folder).unwrap();
    let printed = folder.join("printed");
    std::fs::write(&printed, "203.0.113.7\n").unwrap();
    let program = folder.join("detect_ip_public");
    // Another process writes it: one that is open for writing here could not be run.
    let written = std::process::Command::new("sh")
        .args([
            "-c",
            "printf '#!/bin/sh\ncat %s\n' \"$1\" >\"$2\" && chmod +x \"$2\"",
        ])
        .args([Path::new("sh"), &printed, &program])
        .status()
        .unwrap();
    assert!(written.success());
    let node = Node::start(&cluster, |config| {
        config["dcos"]["detect_ip_public"] = json!(program);
    });
    let name = "public.thisnode.thisdcos.directory";
    node.wait_for(name, "A", &["203.0.113.7"]);
    let before = node.get("/v1/nodes");
    assert_eq!(before[0]["public_ips"], json!(["203.0.113.7"]));

    std::fs::write(&printed, "203.0.113.8\n2001:db8::8\n").unwrap();
    assert_eq!(node.get("/v1/nodes"), before);
    let after = node.get("/v1/nodes?force");
    assert_eq!(
        after[0]["public_ips"],
        json!(["203.0.113.8", "2001:db8::8"])
    );
    assert!(after[0]["updated"].as_str() > before[0]["updated"].as_str());
    node.wait_for(name, "A", &["203.0.113.8"]);

    // A program that fails leaves what is known, and nobody waiting.
    std::fs::remove_file(&printed).unwrap();
    assert_eq!(node.get("/v1/nodes?force"), after);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// What `mesos-xdns vips` prints of the running daemon.
fn listed_vips(node: &Node) -> String {
    let config = std::env::temp_dir().join(format!("mesos-xdns-config-{}.json", node.port));
    std::fs::write(&config, node.config.to_string()).unwrap();
    let arguments = vips::Arguments {
        config: config.clone(),
        allocate: Vec::new(),
        events: None,
        json: false,
    };
    let mut out = Vec::new();
    let printed = vips::run(&arguments, &mut out);
    std::fs::remove_file(&config).unwrap();
    printed.unwrap();
    String::from_utf8(out).unwrap()
}

/// Sections 7.1 and 7.2 of dcos-net's behaviour: the same name, and an address for each label.
#[test]
fn vips_of_one_name_are_listed_with_their_own_addresses() {
    let app = |id: u8, label: &str| App {
        name: "foo".into(),
        id: format!("foo.{id}"),
        ip: [9, 0, 2, id].into(),
        vip: label.into(),
    };
    // In the order of the labels, which is that of the addresses.
    let cluster = Cluster::start(&[app(1, "/foo:80"), app(2, "FOO:80"), app(3, "foo:80")]).unwrap();
    let node = Node::start(&cluster, |_| {});
    let name = "foo.marathon.l4lb.thisdcos.directory";
    let ips = ["11.64.238.105", "11.64.238.106", "11.64.238.107"];
    let begun = Instant::now();
    loop {
        let found = node.ask(name, "A");
        let mut found = data(&found);
        found.sort_unstable();
        if found == ips {
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "{found:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let text = listed_vips(&node);
    for (ip, backend) in ips.iter().zip(["9.0.2.1:80", "9.0.2.2:80", "9.0.2.3:80"]) {
        let row = format!("{name}:80  {ip}  tcp       {backend}");
        assert!(text.lines().any(|line| line == row), "{text}");
    }
    // Who does not ask for addresses gets the list of dcos-net.
    assert_eq!(node.get("/v1/vips")[0].as_object().unwrap().len(), 3);
}

/// Asks until the answer is this address. Faster than starting a program for each question.
fn wait_for_address(port: u16, name: &str, wanted: Ipv4Addr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .connect(SocketAddr::from(([127, 0, 0, 1], port)))
        .unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let mut query = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    let begun = Instant::now();
    let mut response = [0; 512];
    loop {
        socket.send(&query).unwrap();
        let len = socket.recv(&mut response).unwrap();
        if response[..len].ends_with(&wanted.octets()) {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "{name} is not {wanted}");
    }
}
