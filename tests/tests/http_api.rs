//! The HTTP API over a real socket: every body that was captured from mesos-dns, and the rules
//! around them.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use dns_userspace::telemetry::{Top, Watch};
use dns_userspace::{
    config::{self, Config, Surroundings},
    daemon::{Measures, Published, Status},
    http::{self, Readiness, Source},
    mesos,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// What the API tells about in these tests.
struct Fixture {
    config: Arc<Config>,
    published: Arc<Published>,
    readiness: Mutex<Readiness>,
    watch: Arc<Watch>,
    /// As the data plane is while its maps are written.
    busy: Mutex<()>,
    /// How many wait for it, or had their turn.
    asked: AtomicU32,
}

impl Fixture {
    fn wait(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        drop(self.busy.lock().unwrap());
    }
}

impl Source for Fixture {
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config)
    }

    fn published(&self) -> Option<Arc<Published>> {
        Some(Arc::clone(&self.published))
    }

    fn readiness(&self) -> Readiness {
        *self.readiness.lock().unwrap()
    }

    fn status(&self) -> Status {
        self.wait();
        Status::default()
    }

    fn measures(&self) -> Measures {
        self.wait();
        Measures::default()
    }

    fn watch(&self) -> Arc<Watch> {
        Arc::clone(&self.watch)
    }
}

/// A running API; ends with its runtime.
struct Api {
    address: SocketAddr,
    source: Arc<Fixture>,
    _runtime: tokio::runtime::Runtime,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mesos-dns")
}

fn start(state: &str, change: impl Fn(&mut Config)) -> Api {
    let config = fixtures().join("f1.config.json");
    let mut config = config::load(&config, &Surroundings::default())
        .unwrap()
        .config;
    change(&mut config);
    let body = fs::read(fixtures().join(state)).unwrap();
    let (state, _) = mesos::state::parse(&body).unwrap();
    let settings = config.record_settings(&[]);
    let published = Published::new(
        Arc::new(state),
        config.masters.clone(),
        Arc::new(settings),
        0,
    );
    let source = Arc::new(Fixture {
        config: Arc::new(config),
        published: Arc::new(published),
        readiness: Mutex::new(Readiness::Ready),
        watch: Arc::default(),
        busy: Mutex::default(),
        asked: AtomicU32::new(0),
    });
    // One thread, so that who waits on it has everybody wait.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let address = listener.local_addr().unwrap();
    let served = Arc::clone(&source);
    runtime.spawn(http::serve(listener, served, CancellationToken::new()));
    Api {
        address,
        source,
        _runtime: runtime,
    }
}

struct Answer {
    status: u16,
    headers: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Api {
    /// Sends a request as it is, so that no client tidies its path up.
    fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        self.ask_as(method, path, &self.address.to_string(), headers)
    }

    /// The same to a host of this name.
    fn ask_as(&self, method: &str, path: &str, host: &str, headers: &str) -> Answer {
        self.send(&format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n"
        ))
    }

    /// Sends a request, and waits until the connection ends.
    fn send(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let (status, headers) = head.split_once("\r\n").unwrap();
        Answer {
            status: status.split(' ').nth(1).unwrap().parse().unwrap(),
            headers: headers.to_owned(),
            body: body.to_owned(),
        }
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }
}

/// Rows have no order in the original, and a row of a service holds one address of its host,
/// whichever; everything else counts.
fn rows_sorted(api: &Api, body: &str) -> Vec<String> {
    let Ok(Value::Array(mut rows)) = serde_json::from_str(body) else {
        return vec![body.to_owned()];
    };
    for row in &mut rows {
        let ip = row["ip"].as_str().unwrap().to_owned();
        let host = row["host"].as_str().unwrap();
        if row.get("service").is_some() && !host.is_empty() {
            let addresses = api.get(&format!("/v1/hosts/{host}")).body;
            assert!(addresses.contains(&format!("\"{ip}\"")), "{host} {ip}");
            row["ip"] = if ip.contains(':') { "v6" } else { "v4" }.into();
        }
    }
    let mut rows: Vec<String> = rows.iter().map(ToString::to_string).collect();
    rows.sort();
    rows
}

#[test]
fn every_captured_body_is_reproduced() {
    let mut compared = 0;
    for (state, captured) in [
        ("fake-local.json", "fake-local.f1.api.json"),
        ("edge.json", "edge.f1.api.json"),
    ] {
        let observed = fs::read(fixtures().join(captured)).unwrap();
        let observed: Vec<Value> = serde_json::from_slice(&observed).unwrap();
        let shown_path = observed.iter().find_map(|one| {
            let body = one["body"].as_str()?;
            let config: Value = serde_json::from_str(body).ok()?;
            Some(config.get("File")?.as_str()?.to_owned())
        });
        let api = start(state, |config| config.file = shown_path.clone().unwrap());
        for one in observed {
            let path = one["path"].as_str().unwrap();
            let answer = api.get(path);
            let of = format!("{captured} {path}");
            assert_eq!(u64::from(answer.status), one["status"], "{of}");
            let content_type = answer.header("Content-Type").unwrap();
            assert_eq!(content_type, one["content_type"], "{of}");
            let body = one["body"].as_str().unwrap();
            assert_eq!(
                rows_sorted(&api, &answer.body),
                rows_sorted(&api, body),
                "{of}"
            );
            let same_form = |text: &str| {
                let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                lines.retain(|line| !line.trim_start().starts_with("\"ip\": "));
                lines.sort();
                lines
            };
            assert_eq!(same_form(&answer.body), same_form(body), "{of}");
            let length = answer.header("Content-Length").unwrap();
            assert_eq!(length, answer.body.len().to_string(), "{of}");
            compared += 1;
        }
    }
    assert_eq!(compared, 33);
}

#[test]
fn listings_are_those_of_the_record_set() {
    let api = start("edge.json", |_| {});
    for listing in ["axfr", "enumerate"] {
        let expected = fixtures().join(format!("edge.f1.{listing}.json"));
        let expected: Value = serde_json::from_slice(&fs::read(expected).unwrap()).unwrap();
        let answer = api.get(&format!("/v1/{listing}"));
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body, expected, "{listing}");
    }
}

#[test]
fn listings_can_be_switched_off() {
    let api = start("edge.json", |config| config.enumeration_on = false);
    for path in ["/v1/axfr", "/v1/enumerate"] {
        let answer = api.get(path);
        assert_eq!((answer.status, &*answer.body), (404, "404: Page Not Found"));
    }
    assert_eq!(api.get("/v1/version").status, 200);
}

#[test]
fn only_get_is_allowed() {
    let api = start("edge.json", |_| {});
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let answer = api.ask(method, "/v1/version", "");
        assert_eq!(
            (answer.status, &*answer.body, answer.header("Allow")),
            (405, "405: Method Not Allowed", Some("GET")),
            "{method}"
        );
    }
    assert_eq!(api.ask("HEAD", "/v1/version", "").status, 405);
    assert_eq!(api.ask("POST", "/nothing", "").status, 404);
}

#[test]
fn json_must_be_acceptable() {
    let api = start("edge.json", |_| {});
    let answer = api.ask("GET", "/v1/version", "Accept: text/html\r\n");
    assert_eq!((answer.status, &*answer.body), (406, "406: Not Acceptable"));
    let browser = "Accept: text/html,application/xml;q=0.9,*/*;q=0.8\r\n";
    assert_eq!(api.ask("GET", "/v1/version", browser).status, 200);
}

#[test]
fn paths_are_cleaned_by_redirect() {
    let api = start("edge.json", |_| {});
    for (path, location) in [
        ("//v1/version", "/v1/version"),
        ("/v1//hosts/leader.mesos?a=b", "/v1/hosts/leader.mesos?a=b"),
        ("/v1/hosts/../version/", "/v1/version/"),
        ("//evil.example/", "/evil.example/"),
    ] {
        let answer = api.get(path);
        let found = (answer.status, answer.header("Location"));
        assert_eq!(found, (301, Some(location)), "{path}");
    }
    assert_eq!(api.get("/v1/version/?a=b").status, 200);
    assert_eq!(api.get("/v1/hosts/%zz").status, 400);
}

#[test]
fn a_host_of_stars_only_is_the_blank_record() {
    let api = start("edge.json", |_| {});
    let answer = api.get("/v1/hosts/.*");
    let blank = "[\n  {\n   \"host\": \"\",\n   \"ip\": \"\"\n  }\n ]";
    assert_eq!((answer.status, &*answer.body), (200, blank));
}

#[test]
fn no_page_of_another_origin_may_read() {
    let api = start("edge.json", |_| {});
    let answer = api.ask("GET", "/v1/config", "Origin: http://evil.example\r\n");
    assert!(!answer.headers.to_lowercase().contains("access-control"));
}

#[test]
fn alive_and_ready_are_different_questions() {
    let api = start("edge.json", |_| {});
    assert_eq!(api.get("/ready").status, 200);
    for (readiness, reason) in [
        (Readiness::Starting, "no state has been published yet\n"),
        (Readiness::Expired, "a zone of another server has expired\n"),
        (Readiness::Ending, "ending\n"),
    ] {
        *api.source.readiness.lock().unwrap() = readiness;
        let answer = api.get("/ready");
        assert_eq!((answer.status, &*answer.body), (503, reason));
        assert_eq!(api.get("/health").status, 200);
    }
    // Probes of load balancers use HEAD.
    assert_eq!(api.ask("HEAD", "/health", "").status, 200);
}

/// RFC 9112, section 3.2: 400 to a request of HTTP/1.1 without Host or with several. In the words of
/// Go's server, which ends the connection.
#[test]
fn a_request_names_one_host() {
    let api = start("edge.json", |_| {});
    for path in ["/v1/version", "/health", "/nowhere"] {
        let none = api.send(&format!("GET {path} HTTP/1.1\r\n\r\n"));
        assert_eq!(none.status, 400);
        assert_eq!(none.body, "400 Bad Request: missing required Host header");
        let two = api.send(&format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"
        ));
        assert_eq!(two.status, 400);
        assert_eq!(two.body, "400 Bad Request: too many Host headers");
    }
    // It may be empty, and clients of HTTP/1.0 know of none.
    assert_eq!(api.ask_as("GET", "/health", "", "").status, 200);
    assert_eq!(api.send("GET /health HTTP/1.0\r\n\r\n").status, 200);
}

#[test]
fn readiness_turns_on_connections_that_are_open() {
    let api = start("edge.json", |_| {});
    let mut stream = TcpStream::connect(api.address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut ask = || {
        stream
            .write_all(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let mut buffer = [0; 1024];
        let len = stream.read(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    };
    assert!(ask().starts_with("HTTP/1.1 200 "));
    *api.source.readiness.lock().unwrap() = Readiness::Ending;
    assert!(ask().starts_with("HTTP/1.1 503 "));
}

#[test]
fn who_waits_for_the_data_plane_holds_nobody_up() {
    let api = start("edge.json", |_| {});
    let busy = api.source.busy.lock().unwrap();
    thread::scope(|scope| {
        let waiting = ["/metrics", "/status/"].map(|path| scope.spawn(|| api.get(path).status));
        let begun = Instant::now();
        while api.source.asked.load(Ordering::Relaxed) < 2 {
            assert!(begun.elapsed() < Duration::from_secs(10), "not in time");
            thread::sleep(Duration::from_millis(5));
        }
        for path in ["/health", "/ready", "/v1/version"] {
            assert_eq!(api.get(path).status, 200, "{path}");
        }
        drop(busy);
        for one in waiting {
            assert_eq!(one.join().unwrap(), 200);
        }
    });
}

#[test]
fn metrics_are_a_page_of_text_in_the_format_that_is_asked_for() {
    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let api = start("edge.json", |_| {});
    for (accept, expected) in [
        ("", TEXT),
        ("Accept: */*\r\n", TEXT),
        ("Accept: text/plain\r\n", TEXT),
        ("Accept: application/openmetrics-text\r\n", OPENMETRICS),
        // Prometheus 2 and 3, and one who prefers the other.
        (
            "Accept: application/openmetrics-text;version=1.0.0;q=0.5,application/\
             openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2\r\n",
            OPENMETRICS,
        ),
        (
            "Accept: text/plain, application/openmetrics-text;q=0.5\r\n",
            TEXT,
        ),
        ("Accept: application/openmetrics-text;q=0\r\n", TEXT),
        ("Accept: application/openmetrics-text;q=0.5, */*\r\n", TEXT),
        (
            "Accept: application/openmetrics-text;q=0.5, text/*;q=0.4, */*\r\n",
            OPENMETRICS,
        ),
    ] {
        let answer = api.ask_as("GET", "/metrics", "localhost", accept);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("Content-Type").unwrap(), expected, "{accept}");
        let sample = "\nmesos_xdns_config_last_reload_success 1";
        assert!(answer.body.contains(sample), "{}", answer.body);
        let is_marked = answer.body.ends_with("# EOF\n");
        assert_eq!(is_marked, expected == OPENMETRICS, "{accept}");
    }
}

#[test]
fn who_asks_is_told_to_this_host_only() {
    let api = start("fake-local.json", |_| {});
    let top = api.get("/top");
    assert_eq!(top.status, 200);
    let top: Top = serde_json::from_str(&top.body).unwrap();
    assert_eq!(top, Top::default(), "nothing has been gathered yet");
    assert!(api.source.watch.every() > 0, "gathering begins");
    // A page whose name was made to point here (DNS rebinding).
    let foreign = api.ask_as("GET", "/top", "rebound.example", "");
    assert_eq!(foreign.status, 403);
    assert_eq!(api.ask_as("GET", "/top", "localhost:8123", "").status, 200);
    assert_eq!(api.get("/capture?every=x").status, 400);
}
