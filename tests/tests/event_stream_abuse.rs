//! Event streams that misbehave, again and again: the zones keep what they had, the daemon's memory
//! stays as it was, and it does not hurry to the next stream.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use axum::body::Bytes;
use hickory_proto::op::ResponseCode;
use serde_json::{Value, json};
use tests::{
    daemon,
    dcos_cluster::{App, Cluster},
    fake_master::{Behaviour, Part, Turns, record_io},
    needs_daemon,
    port::free_port,
    process::Process,
    running::{Asking, ask, wait_for},
};

/// Other tasks of the cluster, so that a model that is kept is seen in the memory.
const CROWD: u16 = 1000;
/// Longest record, and the size of those just below it.
const MAX_RECORD: usize = 4 << 20;
/// Streams before the memory is measured, and after.
const WARM_UP: usize = 24;
const STREAMS: usize = 48;
/// What the daemon may have grown by meanwhile: two of the longest records.
const GROWTH: u64 = 2 * MAX_RECORD as u64;
/// How long all those streams may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(240);

/// Names and the address that each has throughout.
const NAMES: [(&str, &str); 5] = [
    (
        "myapp-mygroup.marathon.containerip.dcos.thisdcos.directory",
        "9.0.2.5",
    ),
    (
        "app-7.marathon.agentip.dcos.thisdcos.directory",
        "172.17.0.4",
    ),
    (
        "mygroupmyapp.marathon.l4lb.thisdcos.directory",
        "11.198.144.68",
    ),
    (
        "mygroupmyapp.marathon.dclb.thisdcos.global",
        "11.198.144.68",
    ),
    ("app-999.marathon.mesos", "9.1.3.231"),
];

/// The daemon as a process of its own, on loopback; its files go with it.
struct Node {
    daemon: Process,
    dns: SocketAddr,
    files: Vec<PathBuf>,
}

impl Node {
    fn start(cluster: &Cluster, times: Value) -> Self {
        let port = free_port();
        let file = |what: &str| std::env::temp_dir().join(format!("mesos-xdns-{what}-{port}.json"));
        let (config, vips) = (file("abuse"), file("abuse-vips"));
        let mut dcos = json!({"node_ip": "172.17.0.2", "listeners": [],
            "rest_listener": format!("127.0.0.1:{}", free_port()), "settle_seconds": 0,
            "mesos_source": "events", "vip_file": vips, "max_record_bytes": MAX_RECORD,
            "upstreams": []});
        let members = dcos.as_object_mut().unwrap();
        members.extend(times.as_object().unwrap().clone());
        let text = json!({"masters": [cluster.master.address().to_string()], "port": port,
            "listener": "127.0.0.1", "httpon": false, "refreshSeconds": 60,
            "xdp": {"mode": "off"}, "dcos": dcos});
        fs::write(&config, text.to_string()).unwrap();
        let mut command = Command::new(daemon::binary().unwrap());
        command
            .args(["run", "--config"])
            .arg(&config)
            .env_remove("RUST_LOG");
        Self {
            daemon: Process::start("mesos-xdns", &mut command).unwrap(),
            dns: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            files: vec![config, vips],
        }
    }

    /// Waits until every name has its address.
    fn wait(&self) {
        for (name, address) in NAMES {
            let addresses = || Some(ask(self.dns, name).ok()?.2);
            let wanted = Some([address.parse().unwrap()].into());
            wait_for(name, addresses, |found| *found == wanted).unwrap();
        }
    }

    /// What it has in memory, in octets.
    fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        kib * 1024
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.daemon.stop();
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
    }
}

fn cluster() -> Cluster {
    let mut tasks = vec![App::of_the_documentation()];
    tasks.extend(App::crowd(CROWD));
    Cluster::start(&tasks).unwrap()
}

fn octets(part: impl Into<Bytes>) -> Part {
    Part::Octets(part.into())
}

/// A record that is read and means nothing, of almost the longest kind.
fn wide_record() -> Bytes {
    record_io(&json!({"type": "GREETING", "greeting": "x".repeat(MAX_RECORD - 100)}))
}

/// Streams that begin well and go wrong; none lasts longer than a second.
fn misbehaviour(cluster: &Cluster) -> Vec<Behaviour> {
    let mut subscribed = cluster.subscribed();
    subscribed["subscribed"]["heartbeat_interval_seconds"] = 0.2.into();
    let whole = record_io(&subscribed);
    let heartbeat = record_io(&json!({"type": "HEARTBEAT"}));
    let joined: Vec<u8> = (0..2000)
        .flat_map(|_| {
            [
                heartbeat.clone(),
                record_io(&cluster.tasks[0].updated("TASK_RUNNING")),
            ]
        })
        .flatten()
        .collect();
    let stream = |parts: Vec<Part>| {
        let begin = [Part::Octets(whole.clone())];
        Behaviour::Stream(begin.into_iter().chain(parts).collect())
    };
    vec![
        // Cut anywhere, also within a length and within a character.
        Behaviour::Stream(vec![Part::Chunks(whole.clone(), 61)]),
        stream(vec![Part::Octets(joined.clone().into())]),
        stream(vec![Part::Chunks(joined[..4000].to_vec().into(), 1)]),
        // Longer than allowed by one, and by far, with the octets behind it; a length without end.
        stream(vec![
            octets(format!("{}\n", MAX_RECORD + 1)),
            octets(vec![b'x'; MAX_RECORD + 1]),
        ]),
        stream(vec![octets("999999999999\n"), octets(vec![b' '; 1 << 20])]),
        stream(vec![octets(vec![b'7'; 1 << 20])]),
        // As long as allowed, three times; and one that never ends.
        stream(vec![octets(
            [wide_record(), wide_record(), wide_record()].concat(),
        )]),
        stream(vec![
            octets(wide_record().slice(..MAX_RECORD / 2)),
            Part::Silence(Duration::from_secs(9)),
        ]),
        // No RecordIO, no JSON, no event, no object.
        stream(vec![octets("HTTP/1.1 200 OK\r\n\r\n")]),
        stream(vec![octets("9\n{\"type\":}")]),
        stream(vec![octets(&b"2\n[]4\nnull3\n\xff\xff\xff"[..])]),
        stream(vec![octets(record_io(
            &json!({"type": "TASK_ADDED", "task_added": {"task": {"name": 7}}}),
        ))]),
        // Other first events, and none.
        Behaviour::Stream(vec![Part::Octets(heartbeat.clone())]),
        Behaviour::Stream(vec![]),
        Behaviour::Body(200, "garbage".into()),
        // Silence past three heartbeats, though other events come.
        stream(vec![
            Part::Silence(Duration::from_millis(300)),
            Part::Octets(record_io(&cluster.tasks[1].updated("TASK_RUNNING"))),
            Part::Silence(Duration::from_secs(9)),
        ]),
    ]
}

#[test]
fn streams_that_misbehave_cost_neither_content_nor_memory() {
    needs_daemon!();
    let cluster = cluster();
    let (least, most) = (0.05, 0.5);
    let node = Node::start(
        &cluster,
        json!({"reconnect_min_seconds": least, "reconnect_max_seconds": most}),
    );
    node.wait();

    let names = NAMES.map(|(name, _)| name);
    let asking = Asking::start(node.dns, &names, |name, (code, _, addresses)| {
        let wanted = NAMES.iter().find(|(one, _)| *one == name).unwrap().1;
        *code == ResponseCode::NoError && addresses.iter().map(ToString::to_string).eq([wanted])
    })
    .unwrap();
    let turns = Turns::of(misbehaviour(&cluster));
    cluster
        .master
        .behave_at("/api/v1", Behaviour::InTurn(turns));
    cluster.events.lose();
    cluster
        .master
        .wait_for_requests(1 + WARM_UP, LIMIT)
        .unwrap();
    let before = node.resident();
    let begun = Instant::now();
    let requests = cluster
        .master
        .wait_for_requests(1 + WARM_UP + STREAMS, LIMIT)
        .unwrap();
    let after = node.resident();
    let (asked, wrong) = asking.stop().unwrap();
    assert!(
        wrong.is_empty(),
        "{} of {asked}: {:?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
    println!(
        "{STREAMS} streams in {:?}, {asked} answers, {} KiB before, {} KiB after",
        begun.elapsed(),
        before / 1024,
        after / 1024
    );
    assert!(
        after < before + GROWTH,
        "{before} octets before, {after} after"
    );

    // From the first stream that was not allowed to last on there is a wait before each, in the
    // mean well beyond the shortest.
    let times: Vec<Instant> = requests.iter().map(|one| one.at).collect();
    let gaps: Vec<f64> = times
        .windows(2)
        .map(|two| (two[1] - two[0]).as_secs_f64())
        .collect();
    let (_, later) = gaps.split_at(2);
    assert!(later.iter().all(|gap| *gap >= least), "{gaps:?}");
    let mean = later.iter().sum::<f64>() / later.len() as f64;
    assert!(mean > 3.0 * least, "{mean} of {gaps:?}");

    // And it still follows a master that behaves.
    let mut app = App::of_the_documentation();
    app.ip = [9, 0, 2, 6].into();
    cluster
        .master
        .behave_at("/api/v1", Behaviour::Events(cluster.events.clone()));
    let follows = || {
        cluster.events.send(&app.updated("TASK_RUNNING"));
        ask(node.dns, NAMES[0].0)
            .map(|found| found.2)
            .unwrap_or_default()
    };
    wait_for("a change", follows, |found| *found == [app.ip].into()).unwrap();
}

/// With the times of dcos-net, against a master that ends each stream after a second.
#[test]
fn a_stream_per_second_is_not_taken_up_each_second() {
    needs_daemon!();
    const WATCHED: Duration = Duration::from_secs(15);
    let cluster = cluster();
    let ended = Behaviour::Stream(vec![
        Part::Octets(record_io(&cluster.subscribed())),
        Part::Silence(Duration::from_secs(1)),
    ]);
    cluster.master.behave_at("/api/v1", ended);
    let node = Node::start(&cluster, json!({}));
    node.wait();
    let requests = || cluster.master.requests();
    let first = requests()[0].at;
    let asking = Asking::start(node.dns, &[NAMES[2].0], |_, (code, _, addresses)| {
        *code == ResponseCode::NoError && !addresses.is_empty()
    })
    .unwrap();
    wait_for("the time", || first.elapsed(), |elapsed| *elapsed > WATCHED).unwrap();
    let (asked, wrong) = asking.stop().unwrap();
    assert!(
        wrong.is_empty(),
        "{} of {asked}: {:?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
    let seen: Vec<Duration> = requests().iter().map(|one| one.at - first).collect();
    // The second comes at once; from then on two seconds pass, and more each time.
    assert!((2..=6).contains(&seen.len()), "{seen:?}");
    assert!(
        seen.windows(2)
            .skip(1)
            .all(|two| two[1] - two[0] >= Duration::from_secs(3)),
        "{seen:?}"
    );
}
