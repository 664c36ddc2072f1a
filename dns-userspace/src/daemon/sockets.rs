//! The sockets of the daemon: opened with what they answer by, and closed without losing what
//! came in.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::account::Account;
use super::dcos::Cluster;
use super::listen;
use super::setup::Setup;
use super::transfers::Transfers;
use crate::answers::Policy;
use crate::config::{self, Dcos};
use crate::forwarder::Forwarder;
use crate::http;
use crate::server::{
    self, Certificate, Encrypted, EncryptedProtocol, FastPath, FinishedAnswers, Server, Terms,
};
use crate::telemetry::Watch;
use crate::transfer::Responder;
use crate::zones::snapshot::Served;

/// How long queries under way may take at the end.
const DRAIN: Duration = Duration::from_secs(5);
/// How long requests under way may take at the end.
const HTTP_DRAIN: Duration = Duration::from_secs(1);

/// What is open.
#[derive(Default)]
pub(super) struct Sockets {
    pub(super) dns: Option<Server>,
    pub(super) http: Option<HttpServer>,
}

impl Sockets {
    /// Answers what was taken in, then closes. HTTP goes on meanwhile, so that whoever asks
    /// learns that this is the end.
    pub(super) async fn close(self) {
        if let Some(dns) = self.dns {
            dns.shut_down(DRAIN).await;
        }
        if let Some(http) = self.http {
            http.stop.cancel();
            // What takes longer is cut off, by the end of the process if not before.
            let _ = tokio::time::timeout(HTTP_DRAIN, http.task).await;
        }
    }
}

/// How queries are answered.
#[derive(Clone)]
pub(super) struct Answering {
    pub(super) policy: Policy,
    pub(super) terms: Terms,
    pub(super) forwarder: Option<Arc<Forwarder>>,
    pub(super) transfers: Option<Arc<Responder>>,
}

impl Answering {
    /// By the configuration. Must be called within a tokio runtime, which asks upstreams.
    ///
    /// # Errors
    /// An upstream that cannot be used.
    pub(super) fn new(
        setup: &Setup,
        cluster: Option<&Arc<Cluster>>,
        transfers: &Transfers,
    ) -> Result<Self> {
        let own = setup.own_sockets()?;
        let forwarder = match listen::forwarder_settings(&setup.config, cluster, &own)? {
            Some(settings) => {
                let runtime = Handle::current();
                Some(Arc::new(Forwarder::new(settings, &own, runtime)?))
            }
            None => None,
        };
        Ok(Self {
            policy: listen::policy(&setup.config),
            terms: listen::terms(&setup.config),
            forwarder,
            transfers: transfers.responder(&setup.config),
        })
    }

    fn fast_path() -> Option<Arc<dyn FastPath>> {
        Some(Arc::new(FinishedAnswers))
    }

    /// Has an open server answer this way.
    pub(super) fn apply_to(&self, server: &Server) {
        server.set_rules(
            self.policy,
            self.terms.clone(),
            Self::fast_path(),
            self.forwarder.clone(),
        );
        server.set_transfers(self.transfers.clone());
    }

    /// Opens the DNS sockets. Those of encrypted transports are taken over from the server before,
    /// which may go on to use them.
    ///
    /// # Errors
    /// A socket that cannot be had and that is not dispensable, or a certificate that cannot be
    /// used.
    pub(super) fn open(
        &self,
        setup: &Setup,
        served: &Arc<Served>,
        watch: &Arc<Watch>,
        before: Option<&Server>,
    ) -> Result<Server> {
        let mut tcp = listen::tcp_limits(&setup.config);
        if let Some(dcos) = setup.dcos() {
            tcp.idle = dcos.times.tcp_idle;
        }
        let mut settings = server::Settings {
            listen: setup.sockets()?,
            udp_workers: listen::udp_workers(&setup.config),
            policy: self.policy,
            terms: self.terms.clone(),
            tcp,
            encrypted: match before {
                Some(before) => before.encrypted().cloned().collect(),
                None => encrypted(&setup.config.server)?,
            },
            watch: Arc::clone(watch),
        };
        let listener = listen::listener(&setup.config)?;
        loop {
            let served = Arc::clone(served);
            match server::start(&settings, served, Self::fast_path(), self.forwarder.clone()) {
                Err(error)
                    if settings.listen.len() > 1
                        && listen::is_dispensable(&setup.config, listener, &error) =>
                {
                    warn!(%error, "DNS is served without this address");
                    settings.listen.retain(|one| *one != error.address);
                }
                result => {
                    let server = result?;
                    server.set_transfers(self.transfers.clone());
                    info!(addresses = ?server.listening(), "DNS is served");
                    for one in server.encrypted() {
                        info!(addresses = ?one.listening(), "DNS over {} is served", one.protocol());
                    }
                    return Ok(server);
                }
            }
        }
    }
}

/// The configuration of an encrypted transport, and its key.
const fn encrypted_config(
    protocol: EncryptedProtocol,
    server: &config::server::Server,
) -> (&'static str, &config::server::Encrypted) {
    match protocol {
        EncryptedProtocol::Tls => ("server.tls", &server.tls),
        EncryptedProtocol::Https => ("server.https", &server.https),
    }
}

/// The encrypted transports that are not off.
fn encrypted(server: &config::server::Server) -> Result<Vec<Encrypted>> {
    let mut all = Vec::new();
    for protocol in EncryptedProtocol::ALL {
        let (key, config) = encrypted_config(protocol, server);
        if config.listeners.is_empty() {
            continue;
        }
        let certificate = Certificate::load(&config.certificate, &config.key);
        let certificate = certificate.map_err(|error| anyhow!("{key}: {error}"))?;
        let bound = Encrypted::bind(protocol, &config.listeners, certificate);
        all.push(bound.with_context(|| format!("{key}.listeners"))?);
    }
    Ok(all)
}

/// Has clients shown what the files of the configuration hold now.
pub(super) fn renew_certificates(server: &Server, config: &config::server::Server) {
    for one in server.encrypted() {
        let (key, files) = encrypted_config(one.protocol(), config);
        let renewed = one.certificate().replace(&files.certificate, &files.key);
        if let Err(error) = renewed {
            warn!(key, error, "the certificate stays as it was");
        }
    }
}

/// The running HTTP API.
pub(super) struct HttpServer {
    pub(super) stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Opens the socket of the HTTP API.
///
/// # Errors
/// It cannot be had.
pub(super) async fn open_http(setup: &Setup) -> Result<TcpListener> {
    let (host, port) = (setup.config.http_listener.as_str(), setup.config.http_port);
    bind_http(host, port)
        .await
        .with_context(|| format!("failed to setup http server: {host}:{port}"))
}

/// As Go listens: no host stands for all addresses, of both families where there are two.
async fn bind_http(host: &str, port: u16) -> io::Result<TcpListener> {
    if host.is_empty() {
        let all: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
        return TcpListener::bind(&all.map(|ip| SocketAddr::new(ip, port))[..]).await;
    }
    TcpListener::bind((host, port)).await
}

/// Opens the socket of the REST API of a DC/OS node.
///
/// # Errors
/// It cannot be had.
pub(super) async fn open_rest(dcos: &Dcos) -> Result<TcpListener> {
    let place = dcos.rest_listener;
    TcpListener::bind(place)
        .await
        .with_context(|| format!("dcos.rest_listener: {place}"))
}

impl HttpServer {
    pub(super) fn start(listener: TcpListener, account: Arc<Account>) -> Self {
        if let Ok(address) = listener.local_addr() {
            info!(%address, "HTTP is served");
        }
        let stop = CancellationToken::new();
        let task = tokio::spawn(http::serve(listener, account, stop.clone()));
        Self { stop, task }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn http_without_a_host_is_served_at_every_address() {
        let listener = bind_http("", 0).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(
            TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .await
                .is_ok()
        );
        // Where the host has IPv6.
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok() {
            assert!(
                TcpStream::connect((Ipv6Addr::LOCALHOST, port))
                    .await
                    .is_ok()
            );
        }
    }
}
