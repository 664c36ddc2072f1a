//! The event stream of the leading master: subscribes, keeps the task model, and passes on what
//! changes.
//!
//! Losing the stream changes nothing that is published. A stream that begins is held back until
//! the master has its agents together (see [`ReadinessTimes`]); then its whole state is passed on
//! at once.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Response, StatusCode};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::bytes::{Bytes, BytesMut};
use tokio_util::codec::Decoder;
use tracing::{debug, info, warn};

use super::events::{Event, EventError};
use super::pid::is_name;
use super::reconnect::{Readiness, ReadinessTimes, Reconnect, ReconnectTimes};
use super::recordio::{RecordIo, RecordIoError};
use super::state_model::{StateChanges, StateModel};
use super::tasks::{Changes, TaskModel};
use crate::config::Tls;

/// The interval of heartbeats until the master names one.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(15);
/// Heartbeats that may be missed before the stream counts as lost.
const MISSED_HEARTBEATS: u32 = 3;
/// Redirects followed in one attempt.
const MAX_REDIRECTS: usize = 3;
/// The time a host name may take to resolve.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Host names resolved at a time.
const RESOLVE_AT_A_TIME: usize = 32;
/// A buffer that had to grow past this is given back when its record is read.
const KEPT_BUFFER_OCTETS: usize = 1 << 20;

/// What to do when a master is not the leading one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRedirect {
    /// Go where it points.
    Follow,
    /// Ask the first master again after this time, as dcos-net does with the master beside it:
    /// being subscribed is then being the leader.
    Wait(Duration),
}

/// How masters are spoken to.
#[derive(Debug, Clone)]
pub struct OperatorApiSettings {
    /// https instead of http.
    pub https: bool,
    /// What to do when a master is not the leading one.
    pub on_redirect: OnRedirect,
    /// The DC/OS service token, sent as `Authorization: token=…`.
    pub token: Option<String>,
    /// Whether what the state document would say is kept, too.
    pub keeps_state: bool,
    /// Longest wait for the head of the response.
    pub response_timeout: Duration,
    /// Longest record that is read; the first of a stream holds the whole state.
    pub max_record_octets: usize,
    /// Waits between attempts.
    pub reconnect: ReconnectTimes,
    /// Waits before a stream is published.
    pub readiness: ReadinessTimes,
}

impl Default for OperatorApiSettings {
    fn default() -> Self {
        Self {
            https: false,
            on_redirect: OnRedirect::Follow,
            token: None,
            keeps_state: false,
            response_timeout: Duration::from_secs(30),
            max_record_octets: 512 << 20,
            reconnect: ReconnectTimes::default(),
            readiness: ReadinessTimes::default(),
        }
    }
}

/// Makes the HTTP client for [`follow`]: no redirects of its own, no bound on how long a response
/// lasts. Without certificate authorities, masters are not verified.
///
/// # Errors
/// If a certificate or key cannot be used.
pub fn http_client(
    tls: &Tls,
    connect_timeout: Duration,
) -> Result<reqwest::Client, reqwest::Error> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Fails only if another thread was faster, with the same provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .pool_max_idle_per_host(0)
        .tcp_nodelay(true)
        .connect_timeout(connect_timeout);
    builder = match &tls.ca {
        Some(pem) => builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(pem)?),
        None => builder.tls_danger_accept_invalid_certs(true),
    };
    if let Some(pem) = &tls.identity {
        builder = builder.identity(reqwest::Identity::from_pem(pem)?);
    }
    builder.build()
}

/// A look-up of an agent's host name, under way.
pub type Lookup = Pin<Box<dyn Future<Output = Option<IpAddr>> + Send>>;

/// Looks up host names of agents that are no addresses.
pub type Resolver = Arc<dyn Fn(String) -> Lookup + Send + Sync>;

/// What comes from the stream.
#[derive(Debug)]
pub enum Observation {
    /// A master leads and has sent its state, which is not passed on yet.
    Subscribed {
        /// Where it is.
        leader: Option<SocketAddr>,
    },
    /// What an event changed, or the whole state when a stream is published first.
    Changes {
        /// In the names of DC/OS.
        tasks: Changes,
        /// In what the state document would say; nothing unless it is kept.
        state: StateChanges,
    },
    /// The stream is lost. What is published stays.
    Lost,
}

/// How the stream is doing, for metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamStatus {
    /// Whether there is a subscription.
    pub subscribed: bool,
    /// Records received.
    pub messages: u64,
    /// Events among them, in the order of [`Event::KINDS`].
    pub events: [u64; Event::KINDS.len()],
    /// Octets of records received.
    pub octets: u64,
    /// Attempts and streams that failed.
    pub failures: u64,
    /// Agents with a known address, as of the last heartbeat; so are the following.
    pub agents: usize,
    /// Frameworks.
    pub frameworks: usize,
    /// Tasks that are not over.
    pub tasks: usize,
    /// Tasks among them that wait for their agent or framework.
    pub waiting_tasks: usize,
    /// Records and values that were skipped in this stream.
    pub skipped: u64,
}

/// Why there is no stream (any more).
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("no master is known")]
    NoMaster,
    #[error("{0}")]
    Http(String),
    #[error("{master} answers {status}")]
    Status { master: String, status: StatusCode },
    #[error("{0} redirects to nowhere")]
    BadRedirect(String),
    #[error("{0} does not lead")]
    NotLeading(String),
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    #[error("no heartbeat within {0:?}")]
    Silence(Duration),
    #[error("the master ended the stream")]
    Ended,
    #[error(transparent)]
    Framing(#[from] RecordIoError),
    #[error(transparent)]
    Event(#[from] EventError),
    #[error("the first event is no SUBSCRIBED")]
    NotSubscribed,
    #[error("nobody listens any more")]
    NobodyListens,
}

/// Follows the event stream of the leading master until the receiver of `out` is dropped.
/// `masters` are `host:port`, in the order in which they are asked.
pub async fn follow(
    settings: OperatorApiSettings,
    client: reqwest::Client,
    masters: watch::Receiver<Vec<String>>,
    resolver: Resolver,
    out: mpsc::Sender<Observation>,
    status: watch::Sender<StreamStatus>,
) {
    let mut reconnect = Reconnect::new(settings.reconnect);
    let mut follower = Follower {
        settings,
        client,
        masters,
        resolver,
        out,
        status,
    };
    let mut failing = false;
    loop {
        let mut subscribed_at = None;
        let error = follower.stream(&mut subscribed_at).await;
        follower.status.send_modify(|status| {
            status.subscribed = false;
            status.failures += u64::from(!matches!(error, StreamError::NotLeading(_)));
        });
        if subscribed_at.is_some() && follower.out.send(Observation::Lost).await.is_err() {
            return;
        }
        let wait = match (&error, follower.settings.on_redirect) {
            (StreamError::NobodyListens, _) => return,
            // It is a follower's business not to lead.
            (StreamError::NotLeading(_), OnRedirect::Wait(time)) => {
                debug!(%error, "waiting for the master to lead");
                time
            }
            _ => {
                if !failing || subscribed_at.is_some() {
                    warn!(%error, "no event stream; zones stay as they are");
                }
                failing = true;
                let lived = subscribed_at.map(|at| at.elapsed());
                reconnect.wait(lived, rand::random())
            }
        };
        if subscribed_at.is_some() {
            failing = false;
        }
        tokio::select! {
            () = sleep(wait) => {}
            () = follower.out.closed() => return,
        }
    }
}

struct Follower {
    settings: OperatorApiSettings,
    client: reqwest::Client,
    masters: watch::Receiver<Vec<String>>,
    resolver: Resolver,
    out: mpsc::Sender<Observation>,
    status: watch::Sender<StreamStatus>,
}

impl Follower {
    /// One stream from its beginning to its end. `subscribed_at` is set when the state has come.
    async fn stream(&mut self, subscribed_at: &mut Option<Instant>) -> StreamError {
        let response = match self.connect().await {
            Ok(response) => response,
            Err(error) => return error,
        };
        let end = self.read(response, subscribed_at).await;
        end.err().unwrap_or(StreamError::Ended)
    }

    /// Asks the masters in turn until one answers with a stream.
    async fn connect(&mut self) -> Result<Response, StreamError> {
        let masters = self.masters.borrow_and_update().clone();
        let mut last = StreamError::NoMaster;
        let asked = match self.settings.on_redirect {
            OnRedirect::Follow => masters.len(),
            OnRedirect::Wait(_) => 1,
        };
        for master in masters.into_iter().take(asked) {
            match self.connect_by(master).await {
                Ok(response) => return Ok(response),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Asks one master, and the one it points to.
    async fn connect_by(&self, mut master: String) -> Result<Response, StreamError> {
        for _ in 0..=MAX_REDIRECTS {
            let response = self.subscribe(&master).await?;
            let status = response.status();
            if status == StatusCode::OK {
                return Ok(response);
            }
            if !status.is_redirection() {
                return Err(StreamError::Status { master, status });
            }
            if self.settings.on_redirect != OnRedirect::Follow {
                return Err(StreamError::NotLeading(master));
            }
            master = redirect_target(&response).ok_or(StreamError::BadRedirect(master))?;
        }
        Err(StreamError::BadRedirect(master))
    }

    async fn subscribe(&self, master: &str) -> Result<Response, StreamError> {
        let scheme = if self.settings.https { "https" } else { "http" };
        let mut request = self
            .client
            .post(format!("{scheme}://{master}/api/v1"))
            .header(CONTENT_TYPE, "application/json")
            .body(r#"{"type":"SUBSCRIBE"}"#);
        if let Some(token) = &self.settings.token
            && let Ok(mut value) = HeaderValue::from_str(&format!("token={token}"))
        {
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let limit = self.settings.response_timeout;
        match timeout(limit, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(StreamError::Http(with_causes(&error))),
            Err(_) => Err(StreamError::NoAnswer(limit)),
        }
    }

    async fn read(
        &mut self,
        response: Response,
        subscribed_at: &mut Option<Instant>,
    ) -> Result<(), StreamError> {
        let leader = response.remote_addr();
        let mut records = Records::new(response, self.settings.max_record_octets);
        let mut models = Models::default();
        let mut heartbeat = DEFAULT_HEARTBEAT;
        let mut silent_at = Instant::now() + heartbeat * MISSED_HEARTBEATS;

        let first = self.next(&mut records, silent_at, heartbeat).await?;
        let Event::Subscribed(subscribed) = &first else {
            return Err(StreamError::NotSubscribed);
        };
        heartbeat = subscribed.heartbeat_interval().unwrap_or(heartbeat);
        self.apply(&mut models, &first).await;
        let now = Instant::now();
        *subscribed_at = Some(now);
        silent_at = now + heartbeat * MISSED_HEARTBEATS;
        let mut readiness = Readiness::new(subscribed.state(), self.settings.readiness, now);
        drop(first);
        self.report(&models.tasks, true);
        info!(leader = ?leader, tasks = models.tasks.tasks().count(), "subscribed to events");
        self.send(Observation::Subscribed { leader }).await?;

        // Held back: events change the model, but nothing is passed on.
        while Instant::now() < readiness.until() {
            let waited = timeout_at(
                readiness.until(),
                self.next(&mut records, silent_at, heartbeat),
            );
            let Ok(event) = waited.await else { break };
            let event = event?;
            readiness.note(&event, Instant::now());
            self.apply(&mut models, &event).await;
            if matches!(event, Event::Heartbeat) {
                silent_at = Instant::now() + heartbeat * MISSED_HEARTBEATS;
                self.report(&models.tasks, true);
            }
        }
        let whole = Observation::Changes {
            tasks: models.tasks.whole(),
            state: match self.settings.keeps_state {
                true => models.state.whole(),
                false => StateChanges::default(),
            },
        };
        self.send(whole).await?;

        loop {
            let event = self.next(&mut records, silent_at, heartbeat).await?;
            let (tasks, state) = self.apply(&mut models, &event).await;
            match &event {
                Event::Subscribed(again) => {
                    heartbeat = again.heartbeat_interval().unwrap_or(heartbeat);
                    silent_at = Instant::now() + heartbeat * MISSED_HEARTBEATS;
                }
                Event::Heartbeat => {
                    silent_at = Instant::now() + heartbeat * MISSED_HEARTBEATS;
                    self.report(&models.tasks, true);
                }
                Event::Other(kind) => debug!(kind, "an event that is not read"),
                _ => {}
            }
            if tasks.resync || !tasks.tasks.is_empty() || !state.is_empty() {
                self.send(Observation::Changes { tasks, state }).await?;
            }
        }
    }

    /// The next event, unless the master is silent until `silent_at`.
    async fn next(
        &self,
        records: &mut Records,
        silent_at: Instant,
        heartbeat: Duration,
    ) -> Result<Event, StreamError> {
        let record = tokio::select! {
            // What has arrived is read even when we come late to it.
            biased;
            record = timeout_at(silent_at, records.next()) => record,
            () = self.out.closed() => return Err(StreamError::NobodyListens),
        };
        let record = record.map_err(|_| StreamError::Silence(heartbeat * MISSED_HEARTBEATS))??;
        self.status.send_modify(|status| {
            status.messages += 1;
            status.octets += record.len() as u64;
        });
        let event = Event::from_json(&record)?;
        self.status.send_modify(|status| {
            if let Some(count) = status.events.get_mut(event.kind()) {
                *count += 1;
            }
        });
        Ok(event)
    }

    async fn apply(&self, models: &mut Models, event: &Event) -> (Changes, StateChanges) {
        let names = event.hostnames().filter(|name| is_name(name));
        let names: Vec<String> = names.map(str::to_owned).collect();
        let found = lookup_all(&self.resolver, names).await;
        let tasks = models.tasks.apply(event, &|name| found.get(name).copied());
        let state = match self.settings.keeps_state {
            true => models.state.apply(event),
            false => StateChanges::default(),
        };
        (tasks, state)
    }

    fn report(&self, model: &TaskModel, subscribed: bool) {
        self.status.send_modify(|status| {
            status.subscribed = subscribed;
            status.agents = model.agents().count();
            status.frameworks = model.frameworks();
            status.tasks = model.tasks().count();
            status.waiting_tasks = model.waiting();
            status.skipped = model.skipped();
        });
    }

    async fn send(&self, observation: Observation) -> Result<(), StreamError> {
        let sent = self.out.send(observation).await;
        sent.map_err(|_| StreamError::NobodyListens)
    }
}

/// What a stream has told so far.
#[derive(Default)]
struct Models {
    tasks: TaskModel,
    state: StateModel,
}

/// Where a redirect leads: `host:port`.
fn redirect_target(response: &Response) -> Option<String> {
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    // Mesos leaves the scheme out: `//10.0.0.1:5050/api/v1`.
    let target = response.url().join(location).ok()?;
    let (host, port) = (target.host_str()?, target.port_or_known_default()?);
    Some(format!("{host}:{port}"))
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

async fn lookup_all(resolver: &Resolver, mut names: Vec<String>) -> HashMap<String, IpAddr> {
    let mut found = HashMap::new();
    names.sort_unstable();
    names.dedup();
    let mut names = names.into_iter();
    let mut lookups = JoinSet::new();
    loop {
        while lookups.len() < RESOLVE_AT_A_TIME
            && let Some(name) = names.next()
        {
            let lookup = resolver(name.clone());
            lookups.spawn(async move { (name, timeout(RESOLVE_TIMEOUT, lookup).await) });
        }
        match lookups.join_next().await {
            Some(Ok((name, Ok(Some(ip))))) => {
                found.insert(name, ip);
            }
            Some(Ok((name, _))) => warn!(name, "an agent's host name does not resolve"),
            Some(Err(_)) => {}
            None => return found,
        }
    }
}

/// The records of a response.
struct Records {
    response: Response,
    decoder: RecordIo,
    buffer: BytesMut,
}

impl Records {
    fn new(response: Response, limit: usize) -> Self {
        Self {
            response,
            decoder: RecordIo::new(limit),
            buffer: BytesMut::new(),
        }
    }

    /// The next record. Cancelling it loses nothing.
    async fn next(&mut self) -> Result<Bytes, StreamError> {
        loop {
            if let Some(record) = self.decoder.decode(&mut self.buffer)? {
                if record.len() > KEPT_BUFFER_OCTETS {
                    // What follows would keep the memory of the large record.
                    self.buffer = BytesMut::from(self.buffer.as_ref());
                }
                return Ok(record);
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) => {
                    return self
                        .decoder
                        .decode_eof(&mut self.buffer)?
                        .ok_or(StreamError::Ended);
                }
                Err(error) => return Err(StreamError::Http(with_causes(&error))),
            }
        }
    }
}

#[cfg(test)]
#[path = "operator_api_tests.rs"]
mod tests;
