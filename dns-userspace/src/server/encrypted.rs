//! Where encrypted transports are served: their sockets, which outlive the server that serves them,
//! and the certificate.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::{fmt, io};

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::counters::Counters;
use super::tcp::{self, Acceptor};
use super::terms::Client;
use super::{BindError, Certificate, Shared, TcpLimits, https};

/// An encrypted transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// DNS over TLS (RFC 7858).
    Tls,
    /// DNS over HTTPS (RFC 8484).
    Https,
}

impl Protocol {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Tls, Self::Https];

    /// As it is called in counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Https => "https",
        }
    }

    /// As a person says it.
    const fn text(self) -> &'static str {
        match self {
            Self::Tls => "TLS",
            Self::Https => "HTTPS",
        }
    }

    /// The names by ALPN (RFC 7301), the best first. A client that names none is served, and one
    /// that names others only is not.
    const fn alpn(self) -> &'static [&'static [u8]] {
        match self {
            Self::Tls => &[b"dot"],
            Self::Https => &[b"h2", b"http/1.1"],
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Bound sockets of an encrypted transport, and its certificate. A clone has the same ones, so that
/// a server can take the place of another without losing a connection.
#[derive(Debug, Clone)]
pub struct Encrypted {
    protocol: Protocol,
    listeners: Arc<[StdListener]>,
    certificate: Arc<Certificate>,
}

impl Encrypted {
    /// Binds these addresses.
    ///
    /// # Errors
    /// One of them cannot be had.
    pub fn bind(
        protocol: Protocol,
        listen: &[SocketAddr],
        certificate: Arc<Certificate>,
    ) -> Result<Self, BindError> {
        let listeners = listen.iter();
        let listeners = listeners.map(|one| tcp::bind(*one, protocol.name()));
        Ok(Self {
            protocol,
            listeners: listeners.collect::<Result<_, _>>()?,
            certificate,
        })
    }

    /// What is spoken.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The addresses listened at, with the ports that were chosen.
    #[must_use]
    pub fn listening(&self) -> Vec<SocketAddr> {
        let addresses = self.listeners.iter().map(StdListener::local_addr);
        addresses.flatten().collect()
    }

    /// What clients are shown.
    #[must_use]
    pub const fn certificate(&self) -> &Arc<Certificate> {
        &self.certificate
    }

    /// Serves until the server stops.
    pub(super) fn serve(
        &self,
        shared: &Arc<Shared>,
        limits: TcpLimits,
    ) -> Result<Serving, BindError> {
        let listening = self.listening();
        let address = listening.first().copied();
        let error = move |cause: io::Error| BindError {
            address: address.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))),
            protocol: self.protocol.name(),
            cause,
        };
        let config = self.certificate.config(self.protocol.alpn());
        let config = config.map_err(|cause| error(io::Error::other(cause)))?;
        let counters = Arc::new(Counters::default());
        let acceptor = Acceptor::new(shared, &counters, limits);
        for listener in self.listeners.iter() {
            let listener = listener.try_clone().map_err(error)?;
            let (config, protocol) = (Arc::clone(&config), self.protocol);
            acceptor.start(listener, move |stream, client, acceptor| {
                converse(protocol, Arc::clone(&config), stream, client, acceptor)
            });
        }
        let following = Arc::clone(&self.certificate).follow(shared.stop.clone());
        shared.tasks.spawn(following);
        Ok(Serving {
            encrypted: self.clone(),
            counters,
        })
    }
}

/// An encrypted transport that is served.
pub(super) struct Serving {
    pub(super) encrypted: Encrypted,
    pub(super) counters: Arc<Counters>,
}

/// One connection, from the handshake on.
async fn converse(
    protocol: Protocol,
    config: Arc<ServerConfig>,
    stream: TcpStream,
    client: Client,
    acceptor: Acceptor,
) {
    let handshake = TlsAcceptor::from(config).accept(stream);
    let stream: TlsStream<TcpStream> = match timeout(acceptor.limits.first_query, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake"),
        Err(_) => return,
    };
    let client = Client {
        is_encrypted: true,
        ..client
    };
    match protocol {
        Protocol::Tls => acceptor.session(client).run(stream).await,
        Protocol::Https => https::converse(stream, client, acceptor).await,
    }
}
