use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::super::tasks::{Task, TaskKey};
use super::*;

/// Longest time any test waits for something that must happen.
const DEADLINE: Duration = Duration::from_secs(20);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// A master whose answers the test writes octet by octet.
struct FakeMaster {
    listener: TcpListener,
}

/// A request and the connection it came on.
struct Asked {
    head: String,
    socket: TcpStream,
}

impl FakeMaster {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener }
    }

    fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    async fn asked(&self) -> Asked {
        within("a request", async {
            let (mut socket, _) = self.listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(br#"{"type":"SUBSCRIBE"}"#) {
                let octet = socket.read_u8().await.unwrap();
                head.push(octet);
            }
            let head = String::from_utf8(head).unwrap();
            Asked { head, socket }
        })
        .await
    }

    /// Answers a request with a stream.
    async fn stream(&self) -> Asked {
        let mut asked = self.asked().await;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        asked.socket.write_all(head.as_bytes()).await.unwrap();
        asked
    }
}

impl Asked {
    async fn answer(mut self, status: &str, headers: &str) {
        let text = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\n\r\n");
        self.socket.write_all(text.as_bytes()).await.unwrap();
    }

    /// One HTTP chunk. The other side may have gone.
    async fn chunk(&mut self, octets: &[u8]) {
        let mut chunk = format!("{:x}\r\n", octets.len()).into_bytes();
        chunk.extend_from_slice(octets);
        chunk.extend_from_slice(b"\r\n");
        let _ = self.socket.write_all(&chunk).await;
        let _ = self.socket.flush().await;
    }

    async fn record(&mut self, event: &Value) {
        self.chunk(&record(event)).await;
    }

    /// Waits until the other side has closed the connection.
    async fn gone(&mut self) {
        within("the end of a connection", async {
            let mut rest = [0; 64];
            while matches!(self.socket.read(&mut rest).await, Ok(1..)) {}
        })
        .await;
    }
}

fn record(event: &Value) -> Vec<u8> {
    let text = event.to_string();
    format!("{}\n{text}", text.len()).into_bytes()
}

fn subscribed(tasks: &[Value], recovered: &[&str]) -> Value {
    let recovered: Vec<Value> = recovered
        .iter()
        .map(|id| json!({"id": {"value": id}}))
        .collect();
    json!({"type": "SUBSCRIBED", "subscribed": {"heartbeat_interval_seconds": 15.0, "get_state": {
        "get_agents": {"agents": [agent_object("S0", "10.0.0.1")], "recovered_agents": recovered},
        "get_frameworks": {"frameworks": [
            {"framework_info": {"id": {"value": "F"}, "name": "marathon"}}]},
        "get_tasks": {"tasks": tasks}}}})
}

fn agent_object(id: &str, hostname: &str) -> Value {
    json!({"agent_info": {"id": {"value": id}, "hostname": hostname}})
}

fn agent_added(id: &str, hostname: &str) -> Value {
    json!({"type": "AGENT_ADDED", "agent_added": {"agent": agent_object(id, hostname)}})
}

fn task(id: &str, agent: &str) -> Value {
    json!({"name": "web", "task_id": {"value": id}, "framework_id": {"value": "F"},
        "agent_id": {"value": agent}, "state": "TASK_RUNNING"})
}

fn task_added(id: &str) -> Value {
    json!({"type": "TASK_ADDED", "task_added": {"task": task(id, "S0")}})
}

/// A follower under test.
struct Followed {
    observations: mpsc::Receiver<Observation>,
    status: watch::Receiver<StreamStatus>,
    running: JoinHandle<()>,
}

fn quick() -> OperatorApiSettings {
    OperatorApiSettings {
        readiness: ReadinessTimes {
            settle: Duration::ZERO,
            ..ReadinessTimes::default()
        },
        reconnect: ReconnectTimes {
            shortest: Duration::from_millis(1),
            longest: Duration::from_millis(20),
        },
        ..OperatorApiSettings::default()
    }
}

fn start(settings: OperatorApiSettings, masters: &[&FakeMaster]) -> Followed {
    let masters = masters.iter().map(|master| master.address()).collect();
    let (_, masters) = watch::channel(masters);
    let (out, observations) = mpsc::channel(16);
    let (status_out, status) = watch::channel(StreamStatus::default());
    let client = http_client(&Tls::default(), Duration::from_secs(5)).unwrap();
    let resolver: Resolver = Arc::new(|name| {
        Box::pin(async move { (name == "node.example").then(|| [10, 0, 0, 9].into()) })
    });
    let running = tokio::spawn(follow(settings, client, masters, resolver, out, status_out));
    Followed {
        observations,
        status,
        running,
    }
}

type Tasks = Vec<(TaskKey, Option<Arc<Task>>)>;

impl Followed {
    async fn next(&mut self) -> Observation {
        within("an observation", self.observations.recv())
            .await
            .unwrap()
    }

    async fn is_subscribed(&mut self) {
        let next = self.next().await;
        assert!(matches!(next, Observation::Subscribed { .. }), "{next:?}");
    }

    async fn is_lost(&mut self) {
        let next = self.next().await;
        assert!(matches!(next, Observation::Lost), "{next:?}");
    }

    async fn changes(&mut self, resync: bool) -> Tasks {
        match self.next().await {
            Observation::Changes { tasks, .. } if tasks.resync == resync => tasks.tasks,
            other => panic!("{other:?}"),
        }
    }
}

fn ids(tasks: &Tasks) -> Vec<&str> {
    let mut ids: Vec<&str> = tasks.iter().map(|(key, _)| &*key.task_id).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn the_state_is_passed_on_and_then_each_change() {
    let master = FakeMaster::new().await;
    let settings = OperatorApiSettings {
        token: Some("secret".into()),
        ..quick()
    };
    let mut followed = start(settings, &[&master]);
    let mut stream = master.stream().await;
    let head = stream.head.to_ascii_lowercase();
    assert!(head.starts_with("post /api/v1 http/1.1\r\n"), "{head}");
    assert!(
        head.contains("content-type: application/json\r\n"),
        "{head}"
    );
    assert!(head.contains("authorization: token=secret\r\n"), "{head}");
    stream.record(&subscribed(&[task("a", "S0")], &[])).await;
    let Observation::Subscribed { leader } = followed.next().await else {
        panic!("not subscribed");
    };
    assert_eq!(leader.map(|at| at.to_string()), Some(master.address()));
    assert_eq!(ids(&followed.changes(true).await), ["a"]);
    stream.record(&json!({"type": "HEARTBEAT"})).await;
    stream.record(&task_added("b")).await;
    assert_eq!(ids(&followed.changes(false).await), ["b"]);
    let status = followed.status.borrow().clone();
    assert_eq!(
        (status.subscribed, status.messages, status.tasks),
        (true, 3, 1)
    );
}

#[tokio::test]
async fn chunks_may_split_and_join_records() {
    let master = FakeMaster::new().await;
    let mut followed = start(quick(), &[&master]);
    let mut stream = master.stream().await;
    let mut octets = record(&subscribed(&[], &[]));
    for id in ["a", "b", "c"] {
        octets.extend(record(&task_added(id)));
    }
    let (head, tail) = octets.split_at(100);
    for octet in head {
        stream.chunk(&[*octet]).await;
    }
    stream.chunk(tail).await;
    followed.is_subscribed().await;
    let mut seen = followed.changes(true).await;
    while seen.len() < 3 {
        seen.extend(followed.changes(false).await);
    }
    assert_eq!(ids(&seen), ["a", "b", "c"]);
}

#[tokio::test]
async fn what_is_no_stream_of_events_is_given_up_and_asked_for_again() {
    let master = FakeMaster::new().await;
    let settings = OperatorApiSettings {
        max_record_octets: 4096,
        ..quick()
    };
    let mut followed = start(settings, &[&master]);
    let abuses: [&[u8]; 7] = [
        b"4097\n",
        b"99999999999999",
        b"<html>",
        b"4\nnull",
        b"5\n{\"a\":",
        b"-1\n{}",
        b"\n",
    ];
    for abuse in abuses {
        let mut stream = master.stream().await;
        stream.record(&subscribed(&[task("a", "S0")], &[])).await;
        followed.is_subscribed().await;
        assert_eq!(ids(&followed.changes(true).await), ["a"]);
        stream.chunk(abuse).await;
        followed.is_lost().await;
        stream.gone().await;
    }
    // Abuse in place of the first event leads to no observation at all.
    for abuse in abuses {
        let mut stream = master.stream().await;
        stream.chunk(abuse).await;
        stream.gone().await;
    }
    let mut stream = master.stream().await;
    stream.record(&subscribed(&[task("b", "S0")], &[])).await;
    followed.is_subscribed().await;
    assert_eq!(ids(&followed.changes(true).await), ["b"]);
    assert_eq!(followed.status.borrow().failures, 14);
}

#[tokio::test]
async fn a_stream_without_heartbeats_is_lost() {
    let master = FakeMaster::new().await;
    let mut followed = start(quick(), &[&master]);
    let mut stream = master.stream().await;
    let begun = Instant::now();
    let mut first = subscribed(&[], &[]);
    first["subscribed"]["heartbeat_interval_seconds"] = json!(0.1);
    stream.record(&first).await;
    followed.is_subscribed().await;
    assert!(followed.changes(true).await.is_empty());
    // Other events do not count as a sign of life.
    let mut n = 0;
    loop {
        n += 1;
        stream.record(&task_added(&n.to_string())).await;
        match followed.next().await {
            Observation::Changes { .. } => tokio::task::yield_now().await,
            Observation::Lost => break,
            other => panic!("{other:?}"),
        }
        assert!(begun.elapsed() < DEADLINE);
    }
    assert!(
        begun.elapsed() >= Duration::from_millis(300),
        "{:?}",
        begun.elapsed()
    );
    assert!(n > 1);
    drop(stream);
    master.stream().await;
}

#[tokio::test]
async fn recovered_agents_hold_the_stream_back() {
    let master = FakeMaster::new().await;
    let mut followed = start(quick(), &[&master]);
    let mut stream = master.stream().await;
    stream
        .record(&subscribed(&[task("a", "S0")], &["S1", "S2"]))
        .await;
    followed.is_subscribed().await;
    stream.record(&json!({"type": "HEARTBEAT"})).await;
    stream.record(&agent_added("S1", "10.0.0.2")).await;
    stream
        .record(&json!({"type": "TASK_ADDED", "task_added": {"task": task("b", "S1")}}))
        .await;
    let mut status = followed.status.clone();
    within(
        "four records",
        status.wait_for(|status| status.messages == 4),
    )
    .await
    .unwrap();
    assert!(followed.observations.try_recv().is_err());
    stream
        .record(&json!({"type": "AGENT_REMOVED", "agent_removed": {"agent_id": {"value": "S2"}}}))
        .await;
    assert_eq!(ids(&followed.changes(true).await), ["a", "b"]);
}

#[tokio::test]
async fn a_redirect_is_followed() {
    let (first, leader) = (FakeMaster::new().await, FakeMaster::new().await);
    let mut followed = start(quick(), &[&first]);
    let location = format!("Location: //{}/api/v1\r\n", leader.address());
    first
        .asked()
        .await
        .answer("307 Temporary Redirect", &location)
        .await;
    let mut stream = leader.stream().await;
    stream.record(&subscribed(&[], &[])).await;
    followed.is_subscribed().await;
}

#[tokio::test]
async fn a_redirect_is_waited_out() {
    let (local, other) = (FakeMaster::new().await, FakeMaster::new().await);
    let settings = OperatorApiSettings {
        on_redirect: OnRedirect::Wait(Duration::from_millis(1)),
        ..quick()
    };
    let mut followed = start(settings, &[&local, &other]);
    let location = format!("Location: //{}/api/v1\r\n", other.address());
    for _ in 0..3 {
        local
            .asked()
            .await
            .answer("307 Temporary Redirect", &location)
            .await;
    }
    let mut stream = local.stream().await;
    stream.record(&subscribed(&[], &[])).await;
    followed.is_subscribed().await;
    assert_eq!(followed.status.borrow().failures, 0);
}

#[tokio::test]
async fn the_next_master_is_asked_when_one_fails() {
    let (first, second) = (FakeMaster::new().await, FakeMaster::new().await);
    let mut followed = start(quick(), &[&first, &second]);
    first
        .asked()
        .await
        .answer("503 Service Unavailable", "")
        .await;
    let mut stream = second.stream().await;
    stream.record(&subscribed(&[], &[])).await;
    followed.is_subscribed().await;
}

#[tokio::test]
async fn host_names_of_agents_are_looked_up() {
    let master = FakeMaster::new().await;
    let mut followed = start(quick(), &[&master]);
    let mut stream = master.stream().await;
    stream.record(&subscribed(&[], &[])).await;
    followed.is_subscribed().await;
    followed.changes(true).await;
    stream.record(&agent_added("S8", "unknown.example")).await;
    stream.record(&agent_added("S9", "node.example")).await;
    stream
        .record(&json!({"type": "TASK_ADDED", "task_added": {"task": task("a", "S9")}}))
        .await;
    let tasks = followed.changes(false).await;
    assert_eq!(
        tasks[0].1.as_ref().unwrap().agent_ip,
        Some([10, 0, 0, 9].into())
    );
}

#[tokio::test]
async fn short_streams_are_no_reason_to_hurry() {
    let master = FakeMaster::new().await;
    let settings = OperatorApiSettings {
        reconnect: ReconnectTimes {
            shortest: Duration::from_millis(30),
            longest: Duration::from_secs(60),
        },
        ..quick()
    };
    let mut followed = start(settings, &[&master]);
    let mut ended: Option<Instant> = None;
    for n in 0..5 {
        let mut stream = master.stream().await;
        // The first reconnection is at once, all others wait.
        if let Some(ended) = ended.filter(|_| n > 1) {
            assert!(
                ended.elapsed() >= Duration::from_millis(30),
                "{n}: {:?}",
                ended.elapsed()
            );
        }
        stream.record(&subscribed(&[task("a", "S0")], &[])).await;
        followed.is_subscribed().await;
        followed.changes(true).await;
        ended = Some(Instant::now());
        drop(stream);
        followed.is_lost().await;
    }
}

#[tokio::test]
async fn it_ends_when_nobody_listens() {
    let master = FakeMaster::new().await;
    let followed = start(quick(), &[&master]);
    let mut stream = master.stream().await;
    stream.record(&subscribed(&[], &[])).await;
    drop(followed.observations);
    within("the end of the follower", followed.running)
        .await
        .unwrap();
}
