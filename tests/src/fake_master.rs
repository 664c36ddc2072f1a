//! A Mesos master that does what a test tells it: a real HTTP server on a socket of its own.
//!
//! It serves `/master/state` and any other path, logs every request, and can answer with anything
//! a master, or what stands in its place, might answer. It runs on its own thread, so it serves
//! synchronous and asynchronous tests alike, and listens in the network namespace of the thread
//! that starts it.

use std::{
    collections::HashMap,
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
    serve::Listener,
};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::{mpsc, oneshot},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::codec::{BytesCodec, FramedRead};

/// The path of the state.
pub const STATE_PATH: &str = "/master/state";

/// What the master does with a request.
#[derive(Clone, Debug, Default)]
pub enum Behaviour {
    /// Serves the state it was given; other paths are not found.
    #[default]
    State,
    /// Serves the state with another status than 200.
    StateWithStatus(u16),
    /// Serves exactly this.
    Body(u16, Bytes),
    /// Takes the request and never answers.
    Hang,
    /// Sends the head and half of the state, then nothing more.
    Stall,
    /// Announces the state's length and closes the connection after half of it.
    Cut,
    /// Redirects to this `Location`, as it is.
    Redirect(u16, String),
    /// Streams events as the operator API does.
    Events(Events),
    /// Streams octets, and ends.
    Stream(Vec<Part>),
    /// Each request in another of these ways, in turn.
    InTurn(Turns),
}

/// A part of a stream of octets.
#[derive(Clone, Debug)]
pub enum Part {
    /// These octets.
    Octets(Bytes),
    /// These octets, in chunks of at most so many.
    Chunks(Bytes, usize),
    /// Nothing, for so long.
    Silence(Duration),
}

/// Ways of a master that takes another one for each request.
#[derive(Clone, Debug)]
pub struct Turns {
    ways: Arc<[Behaviour]>,
    next: Arc<AtomicUsize>,
}

impl Turns {
    /// Begins with the first of these and comes back to it.
    pub fn of(ways: impl IntoIterator<Item = Behaviour>) -> Self {
        Self {
            ways: ways.into_iter().collect(),
            next: Arc::default(),
        }
    }

    fn take(&self) -> Option<Behaviour> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.ways
            .iter()
            .cycle()
            .nth(turn % self.ways.len().max(1))
            .cloned()
    }
}

/// An event stream: each subscriber gets the first event of that moment, and then what follows.
#[derive(Clone, Debug, Default)]
pub struct Events(Arc<Mutex<Subscriptions>>);

#[derive(Debug, Default)]
struct Subscriptions {
    first: Bytes,
    subscribers: Vec<mpsc::UnboundedSender<Bytes>>,
}

impl Events {
    /// What a subscriber gets first from here on.
    pub fn begin_with(&self, event: &Value) {
        lock(&self.0).first = record_io(event);
    }

    /// Sends an event to all who are subscribed.
    pub fn send(&self, event: &Value) {
        let record = record_io(event);
        let mut subscriptions = lock(&self.0);
        subscriptions
            .subscribers
            .retain(|one| one.send(record.clone()).is_ok());
    }

    /// Ends all streams.
    pub fn lose(&self) {
        lock(&self.0).subscribers.clear();
    }

    /// How many are subscribed.
    pub fn subscribers(&self) -> usize {
        let mut subscriptions = lock(&self.0);
        subscriptions.subscribers.retain(|one| !one.is_closed());
        subscriptions.subscribers.len()
    }

    fn subscribe(&self) -> Body {
        let (sender, mut records) = mpsc::unbounded_channel();
        let first = {
            let mut subscriptions = lock(&self.0);
            subscriptions.subscribers.push(sender);
            subscriptions.first.clone()
        };
        let (mut inner, outer) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move {
            let mut next = Some(first);
            while let Some(record) = next {
                if inner.write_all(&record).await.is_err() {
                    return;
                }
                next = records.recv().await;
            }
        });
        Body::from_stream(FramedRead::new(outer, BytesCodec::new()))
    }
}

/// An event as a RecordIO record.
pub fn record_io(event: &Value) -> Bytes {
    let text = event.to_string();
    format!("{}\n{text}", text.len()).into()
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path with the query.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// When it had been read.
    pub at: Instant,
}

impl Request {
    /// A header's text; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// A running fake master; ends when dropped.
pub struct FakeMaster {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    script: Mutex<Script>,
    requests: Mutex<Vec<Request>>,
    grown: Condvar,
}

#[derive(Default)]
struct Script {
    state: Bytes,
    behaviour: Behaviour,
    elsewhere: HashMap<String, Behaviour>,
    gzip: Option<Gzip>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeMaster {
    /// Starts on a free port of 127.0.0.1, leading itself, with no agents and no frameworks.
    ///
    /// # Errors
    ///
    /// The socket or the thread cannot be made.
    pub fn start() -> Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// As [`start`](Self::start), on a given address; port 0 for a free one.
    ///
    /// # Errors
    ///
    /// The address is in use, or as for `start`.
    pub fn start_at(address: SocketAddr) -> Result<Self> {
        Self::launch(address, None)
    }

    /// As [`start`](Self::start), speaking https.
    ///
    /// # Errors
    ///
    /// As for `start`.
    pub fn start_https(config: rustls::ServerConfig) -> Result<Self> {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::launch(SocketAddr::from(([127, 0, 0, 1], 0)), Some(acceptor))
    }

    fn launch(address: SocketAddr, tls: Option<TlsAcceptor>) -> Result<Self> {
        let listener =
            TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("making a runtime")?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            match tls {
                None => axum::serve(listener, router).await,
                Some(acceptor) => axum::serve(Https { listener, acceptor }, router).await,
            }
        };
        let thread = thread::Builder::new()
            .name(format!("master {address}"))
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        result = serve => if let Err::<(), io::Error>(error) = result {
                            eprintln!("fake master {address}: {error}");
                        },
                        _ = stopped => {}
                    }
                });
                // Ends connections that hang, too.
                runtime.shutdown_background();
            })?;
        let master = Self {
            address,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        };
        master.serve_state(&json!({
            "leader": format!("master@{address}"), "slaves": [], "frameworks": []
        }));
        Ok(master)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves this state from the next request on.
    pub fn serve_state(&self, state: &Value) {
        self.serve_bytes(state.to_string());
    }

    /// Serves these octets as the state.
    pub fn serve_bytes(&self, body: impl Into<Bytes>) {
        lock(&self.shared.script).state = body.into();
    }

    /// Puts another leader into the state, which must be a JSON object.
    ///
    /// # Errors
    ///
    /// The present state is none.
    pub fn set_leader(&self, leader: &str) -> Result<()> {
        let mut script = lock(&self.shared.script);
        let mut state: Value = serde_json::from_slice(&script.state).context("the fake's state")?;
        let Some(object) = state.as_object_mut() else {
            bail!("the fake's state is no object")
        };
        object.insert("leader".to_owned(), leader.into());
        script.state = state.to_string().into();
        Ok(())
    }

    /// Answers requests for the state like this from the next one on.
    pub fn behave(&self, behaviour: Behaviour) {
        lock(&self.shared.script).behaviour = behaviour;
    }

    /// Answers requests for another path like this.
    pub fn behave_at(&self, path: &str, behaviour: Behaviour) {
        let mut script = lock(&self.shared.script);
        script.elsewhere.insert(path.to_owned(), behaviour);
    }

    /// Compresses states for clients that accept gzip.
    pub fn compress(&self, on: bool) {
        lock(&self.shared.script).gzip = on.then_some(Gzip {
            coding: "gzip",
            members: 1,
        });
    }

    /// As [`Self::compress`], with the coding's name written so, and in so many members.
    pub fn compress_as(&self, coding: &'static str, members: usize) {
        lock(&self.shared.script).gzip = Some(Gzip { coding, members });
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    /// Waits until there have been `count` requests, and returns all.
    ///
    /// # Errors
    ///
    /// The deadline passes first.
    pub fn wait_for_requests(&self, count: usize, limit: Duration) -> Result<Vec<Request>> {
        let deadline = Instant::now() + limit;
        let mut requests = lock(&self.shared.requests);
        while requests.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!(
                    "{} of {count} requests after {limit:?}: {requests:?}",
                    requests.len()
                );
            }
            requests = self
                .shared
                .grown
                .wait_timeout(requests, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        Ok(requests.clone())
    }
}

impl Drop for FakeMaster {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Logs a request and answers it by the script.
async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let accepts_gzip = headers
        .get("accept-encoding")
        .is_some_and(|value| value.as_bytes().windows(4).any(|word| word == b"gzip"));
    let (behaviour, state, gzip) = {
        let script = lock(&shared.script);
        let behaviour = match uri.path() {
            STATE_PATH => Some(script.behaviour.clone()),
            path => script.elsewhere.get(path).cloned(),
        };
        let behaviour = match behaviour {
            Some(Behaviour::InTurn(turns)) => turns.take(),
            one => one,
        };
        (
            behaviour,
            script.state.clone(),
            script.gzip.filter(|_| accepts_gzip),
        )
    };
    lock(&shared.requests).push(Request {
        method,
        path: uri.to_string(),
        headers,
        body,
        at: Instant::now(),
    });
    shared.grown.notify_all();
    let half = state.slice(..state.len() / 2);
    match behaviour {
        None => StatusCode::NOT_FOUND.into_response(),
        Some(Behaviour::State) => serve(200, state, gzip),
        Some(Behaviour::StateWithStatus(code)) => serve(code, state, gzip),
        Some(Behaviour::Body(code, body)) => serve(code, body, None),
        Some(Behaviour::Hang) => std::future::pending().await,
        Some(Behaviour::Stall) => then(half, true).into_response(),
        Some(Behaviour::Cut) => {
            let whole = [("content-length", state.len().to_string())];
            (whole, then(half, false)).into_response()
        }
        Some(Behaviour::Events(events)) => {
            ([("content-type", "application/json")], events.subscribe()).into_response()
        }
        Some(Behaviour::Stream(parts)) => {
            ([("content-type", "application/json")], stream(parts)).into_response()
        }
        // A turn is one way; it has no turns of its own.
        Some(Behaviour::InTurn(_)) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Some(Behaviour::Redirect(code, location)) => {
            (status(code), [("location", location)]).into_response()
        }
    }
}

/// A body that gives these octets, and then nothing for ever or its end.
fn then(octets: Bytes, silence: bool) -> Body {
    let (mut inner, outer) = tokio::io::duplex(octets.len().max(1));
    tokio::spawn(async move {
        if inner.write_all(&octets).await.is_ok() && silence {
            std::future::pending::<()>().await;
        }
    });
    Body::from_stream(FramedRead::new(outer, BytesCodec::new()))
}

/// A body of these parts. A reader that goes away ends it.
fn stream(parts: Vec<Part>) -> Body {
    let (mut inner, outer) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move {
        for part in parts {
            let (mut octets, size) = match part {
                Part::Silence(time) => {
                    tokio::time::sleep(time).await;
                    continue;
                }
                Part::Octets(octets) => (octets.clone(), octets.len()),
                Part::Chunks(octets, size) => (octets, size),
            };
            while !octets.is_empty() {
                let chunk = octets.split_to(size.clamp(1, octets.len()));
                if inner.write_all(&chunk).await.is_err() {
                    return;
                }
                // Lets the other end see it before the next.
                tokio::task::yield_now().await;
            }
        }
    });
    Body::from_stream(FramedRead::new(outer, BytesCodec::new()))
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// How states are compressed.
#[derive(Clone, Copy)]
struct Gzip {
    /// The value of `Content-Encoding`.
    coding: &'static str,
    /// Members the body is made of (RFC 1952, section 2.2).
    members: usize,
}

fn serve(code: u16, body: Bytes, gzip: Option<Gzip>) -> Response {
    let head = [("content-type", "application/json")];
    let Some(gzip) = gzip else {
        return (status(code), head, body).into_response();
    };
    let pack = |part: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(part).and_then(|()| encoder.finish())
    };
    let octets = body.len().div_ceil(gzip.members).max(1);
    let packed: std::io::Result<Vec<_>> = body.chunks(octets).map(pack).collect();
    match packed {
        Ok(packed) => {
            let coding = [("content-encoding", gzip.coding)];
            (status(code), head, coding, packed.concat()).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// A listener that gives connections after their TLS handshake; failed ones are dropped.
struct Https {
    listener: tokio::net::TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Https {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, peer) = Listener::accept(&mut self.listener).await;
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
