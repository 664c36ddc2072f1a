//! TCP: connections taken in, within bounds, and each served by a task.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::answers::Transport;

use super::admission::{Admission, Place};
use super::counters::{Counters, Totals};
use super::stream::Session;
use super::terms::Client;
use super::{BindError, Shared, bind_error, open};

/// Connections that the kernel completes before we take them.
const BACKLOG: i32 = 1024;
/// What the kernel may hold for a client that does not read.
const SEND_BUFFER_OCTETS: usize = 128 * 1024;

/// Bounds of service over streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpLimits {
    /// Connections at one time.
    pub connections: usize,
    /// Connections at one time from one address.
    pub per_client: usize,
    /// Within this the first query must be there (mesos-dns: 2 s).
    pub first_query: Duration,
    /// Within this after the last one each further query must be there whole (mesos-dns: 8 s).
    pub idle: Duration,
    /// Within this the client must take in what waits for it.
    pub write: Duration,
}

impl Default for TcpLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            per_client: 128,
            first_query: Duration::from_secs(2),
            idle: Duration::from_secs(8),
            write: Duration::from_secs(10),
        }
    }
}

pub(super) fn bind(address: SocketAddr, protocol: &'static str) -> Result<StdListener, BindError> {
    let error = bind_error(address, protocol);
    let socket = open(address, socket2::Protocol::TCP).map_err(&error)?;
    // Connections inherit it; the kernel would let the buffer of a slow reader grow to megabytes.
    let _ = socket.set_send_buffer_size(SEND_BUFFER_OCTETS);
    socket.listen(BACKLOG).map_err(&error)?;
    socket.set_nonblocking(true).map_err(&error)?;
    Ok(StdListener::from(socket))
}

/// What takes in connections of one kind.
#[derive(Clone)]
pub(super) struct Acceptor {
    pub(super) shared: Arc<Shared>,
    pub(super) counters: Arc<Counters>,
    pub(super) admission: Arc<Admission>,
    pub(super) limits: TcpLimits,
}

impl Acceptor {
    pub(super) fn new(shared: &Arc<Shared>, counters: &Arc<Counters>, limits: TcpLimits) -> Self {
        Self {
            shared: Arc::clone(shared),
            counters: Arc::clone(counters),
            admission: Admission::new(limits.connections, limits.per_client),
            limits,
        }
    }

    /// Serves the connections of a listener by `serve` until the server stops.
    pub(super) fn start<S, F>(&self, listener: StdListener, serve: S)
    where
        S: Fn(TcpStream, Client, Acceptor) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let acceptor = self.clone();
        self.shared.tasks.spawn(async move {
            if let Err(error) = acceptor.accept(listener, serve).await {
                tracing::error!(%error, "service over TCP ended");
            }
        });
    }

    async fn accept<S, F>(self, listener: StdListener, serve: S) -> io::Result<()>
    where
        S: Fn(TcpStream, Client, Acceptor) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let accepted = tokio::select! {
                () = self.shared.stop.cancelled() => return Ok(()),
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, or a client that went away: neither ends the service.
                    tracing::debug!(%error, "accepting");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            // Over the bound the connection is closed, and the client tries elsewhere.
            let Some(place) = self.admit(peer) else {
                continue;
            };
            // Responses are written whole; waiting to join them with others helps nobody.
            let _ = stream.set_nodelay(true);
            let client = Client {
                address: peer.ip(),
                transport: Transport::Tcp,
                is_encrypted: false,
                idle: Some(self.limits.idle),
            };
            let serving = serve(stream, client, self.clone());
            self.shared.tasks.spawn(async move {
                serving.await;
                drop(place);
            });
        }
    }

    fn admit(&self, peer: SocketAddr) -> Option<Place> {
        let place = self.admission.admit(peer.ip());
        let mut tally = Totals::default();
        match place {
            Some(_) => tally.connections += 1,
            None => tally.turned_away += 1,
        }
        self.counters.take(&mut tally);
        place
    }

    /// What serves one connection over DNS's own framing.
    pub(super) fn session(self, client: Client) -> Session {
        Session {
            shared: self.shared,
            counters: self.counters,
            admission: self.admission,
            limits: self.limits,
            client,
        }
    }
}

/// Serves plain TCP until the server stops.
pub(super) fn serve(acceptor: &Acceptor, listeners: Vec<StdListener>) {
    for listener in listeners {
        acceptor.start(listener, |stream, client, acceptor| {
            acceptor.session(client).run(stream)
        });
    }
}
