//! DNS over HTTPS (RFC 8484), over HTTP/2 and HTTP/1.1: each request is one query. Connections are
//! kept within the bounds of TCP, and each of them within bounds of its own.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::response::Response;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::server::TlsStream;

use super::counters::Totals;
use super::forward;
use super::handle::{Basis, Outcome};
use super::tcp::Acceptor;
use super::terms::Client;

pub mod exchange;

use exchange::{
    MAX_HEAD_OCTETS, MAX_MESSAGE_OCTETS, Method, carry, query_of, refuse, without_body,
};

/// Requests of one connection at one time.
const MAX_REQUESTS: u32 = 32;
/// Octets of bodies that the client may send ahead, of all its requests together.
const WINDOW_OCTETS: u32 = 64 * 1024;
/// Octets of a response that HTTP/2 has in hand for a client that does not read.
const SEND_BUFFER_OCTETS: usize = 16 * 1024;
/// Octets of a body that are read at most, though no more than a message is kept: a client that is cut
/// off sees no status.
const MAX_BODY_OCTETS: usize = 1 << 20;
/// KiB of responses of one connection that wait for the client to read.
const WAITING_KIB: usize = 512;

/// One connection, until either side has enough.
pub(super) async fn converse(stream: TlsStream<TcpStream>, client: Client, acceptor: Acceptor) {
    let limits = acceptor.limits;
    let patience = acceptor.admission.patience(limits.idle);
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stop = acceptor.shared.stop.clone();
    let connection = Arc::new(Connection {
        acceptor,
        client: Client {
            // HTTP has means of its own to say it.
            idle: None,
            ..client
        },
        room: Arc::new(Semaphore::new(WAITING_KIB)),
        requests: AtomicUsize::new(0),
        last: Mutex::new((Instant::now(), false)),
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(MAX_HEAD_OCTETS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_REQUESTS)
        .max_header_list_size(MAX_HEAD_OCTETS as u32)
        .initial_stream_window_size(WINDOW_OCTETS)
        .initial_connection_window_size(WINDOW_OCTETS)
        .max_send_buf_size(SEND_BUFFER_OCTETS);
    let builder = match is_http2 {
        true => builder.http2_only(),
        false => builder.http1_only(),
    };
    let service = TowerToHyperService::new(respond.with_state(Arc::clone(&connection)));
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = serving.as_mut() => return,
        () = stop.cancelled() => {}
        () = connection.is_idle(limits.first_query, patience) => {}
    }
    // What is under way is answered; a client that does not read is not waited for.
    serving.as_mut().graceful_shutdown();
    let _ = timeout(limits.write, serving).await;
}

/// What the requests of a connection share.
struct Connection {
    acceptor: Acceptor,
    client: Client,
    /// KiB for responses.
    room: Arc<Semaphore>,
    /// Queries that are being answered.
    requests: AtomicUsize,
    /// When the last query was there whole, or was answered, and whether there was one.
    last: Mutex<(Instant, bool)>,
}

async fn respond(State(connection): State<Arc<Connection>>, request: Request) -> Response {
    let patience = connection.acceptor.limits.idle;
    let is_head = request.method() == axum::http::Method::HEAD;
    let query = match timeout(patience, read(request)).await {
        Ok(Ok(query)) => query,
        Ok(Err(status)) => return refuse(status),
        Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT),
    };
    let under_way = UnderWay::new(&connection);
    let response = connection.answer(query).await;
    drop(under_way);
    match response {
        Some(response) => {
            let octets = response.len();
            let carried = connection.carry(response);
            match is_head && carried.status() == StatusCode::OK {
                true => without_body(carried, octets),
                false => carried,
            }
        }
        // What is no query gets no response, and HTTP must give one.
        None => refuse(StatusCode::BAD_REQUEST),
    }
}

/// The query of a request, or why there is none. The head is judged before the body is read; that of
/// a request that holds no query is read too, as not all clients see a response that comes before
/// they have sent everything.
async fn read(request: Request) -> Result<Vec<u8>, StatusCode> {
    let (head, body) = request.into_parts();
    let judged = query_of(&head.method, &head.uri, &head.headers);
    let body = whole(body).await;
    match judged? {
        Method::Get(query) => Ok(query),
        Method::Post => body.ok_or(StatusCode::PAYLOAD_TOO_LARGE),
    }
}

/// A body, unless it is larger than a message.
async fn whole(mut body: Body) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    let mut octets = 0;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame.ok()?.into_data() else {
            continue;
        };
        octets += data.len();
        if octets <= MAX_MESSAGE_OCTETS {
            message.extend_from_slice(&data);
        }
        if octets > MAX_BODY_OCTETS {
            break;
        }
    }
    (octets <= MAX_MESSAGE_OCTETS).then_some(message)
}

fn set_id(message: &mut [u8], id: [u8; 2]) {
    if let Some(slot) = message.first_chunk_mut() {
        *slot = id;
    }
}

impl Connection {
    /// The response to a query; `None` to what is no query.
    async fn answer(&self, mut message: Vec<u8>) -> Option<Vec<u8>> {
        // The id decides which record comes first, and is 0 in most queries (RFC 8484, section 4.1):
        // so that not all clients get the same, it is another one until the response leaves.
        let id = message.first_chunk().copied().unwrap_or_default();
        set_id(&mut message, rand::random());
        let mut response = self.answer_with_id(message).await?;
        set_id(&mut response, id);
        Some(response)
    }

    async fn answer_with_id(&self, mut message: Vec<u8>) -> Option<Vec<u8>> {
        let Acceptor {
            shared, counters, ..
        } = &self.acceptor;
        let mut tally = Totals::default();
        let received = Instant::now();
        shared.show(self.client.address, &message);
        let outcome = {
            let basis = Basis {
                rules: &shared.rules.load(),
                snapshot: &shared.served.load(),
                // A transfer is more than the one message that a response carries: it is refused as
                // where there are none.
                transfers: None,
            };
            basis.answer_guarded(&mut message, self.client, &mut tally)
        };
        tally.breakdown.took(received.elapsed());
        counters.take(&mut tally);
        match outcome {
            Outcome::Nothing | Outcome::Claimed | Outcome::Transfer(_) => None,
            Outcome::InPlace(len) => {
                message.truncate(len);
                Some(message)
            }
            Outcome::Respond(response) => Some(response),
            Outcome::Forward(extras) => {
                let query = forward::Query {
                    message,
                    extras,
                    counters: Arc::clone(counters),
                    received,
                };
                match query.admit(shared.rules.load_full(), self.client) {
                    Ok(forward) => Some(forward.run().await),
                    Err(response) => response,
                }
            }
        }
    }

    /// The HTTP response, if there is room for it beside those that the client has not read yet.
    fn carry(&self, response: Vec<u8>) -> Response {
        let kib = response.len().div_ceil(1024);
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(kib) else {
            return refuse(StatusCode::SERVICE_UNAVAILABLE);
        };
        let waiting = Waiting {
            response,
            _room: room,
        };
        carry(waiting)
    }

    fn touch(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = (Instant::now(), true);
    }

    /// Ends when there was no query within `first`, or after that none for `idle`.
    async fn is_idle(&self, first: Duration, idle: Duration) {
        loop {
            let (at, was_used) = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let deadline = at + if was_used { idle } else { first };
            if deadline <= Instant::now() {
                if self.requests.load(Ordering::Relaxed) == 0 {
                    return;
                }
                // One is with the forwarder, which has a time limit of its own.
                self.touch();
                continue;
            }
            sleep_until(deadline).await;
        }
    }
}

/// A query is being answered; not any more when this is dropped, also by a client that goes away.
struct UnderWay<'c>(&'c Connection);

impl<'c> UnderWay<'c> {
    fn new(connection: &'c Connection) -> Self {
        connection.touch();
        connection.requests.fetch_add(1, Ordering::Relaxed);
        Self(connection)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
        self.0.touch();
    }
}

/// A response, and the room that it takes until the client has read it.
struct Waiting {
    response: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Waiting {
    fn as_ref(&self) -> &[u8] {
        &self.response
    }
}

impl From<Waiting> for Body {
    fn from(waiting: Waiting) -> Self {
        Self::from(Bytes::from_owner(waiting))
    }
}
