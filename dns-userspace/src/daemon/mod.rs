//! The life of the process: from a configuration to answers, until a signal ends it.
//!
//! Order of events, as in mesos-dns: the first state is fetched before any socket is opened, so
//! that a client meets a refused connection and never a false denial.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::answers::{Policy, fast};
use crate::config::{Config, Surroundings, XdpMode};
use crate::dataplane::{self, DataPlane, Mode};
use crate::forwarder::Forwarder;
use crate::http;
use crate::mesos::follow::{self, Follower};
use crate::server::{self, FastPath, Server};
use crate::zones::Snapshot;

mod listen;
mod pipeline;
mod status;

pub use pipeline::{Outlet, Published};
use pipeline::{Pipeline, lock};
pub use status::Status;

/// How long queries under way may take at the end.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs until `end` is ready.
///
/// # Errors
/// A setting that cannot be used, or a socket that cannot be had.
pub async fn run(
    config: &Config,
    surroundings: &Surroundings,
    end: impl Future<Output = ()>,
) -> Result<()> {
    let daemon = Daemon::new(config, surroundings)?;
    let server = Arc::clone(&daemon.account.server);
    tokio::select! {
        result = daemon.serve(config) => result?,
        () = end => info!("ending"),
    }
    let server = lock(&server).take();
    if let Some(server) = server {
        server.shut_down(DRAIN).await;
    }
    Ok(())
}

/// What answers for the daemon: all that its status is made of.
#[derive(Clone)]
struct Account {
    outlet: Arc<Outlet>,
    dataplane: Arc<Mutex<DataPlane>>,
    server: Arc<Mutex<Option<Server>>>,
    following: watch::Receiver<follow::Status>,
}

impl http::Source for Account {
    fn status(&self) -> Status {
        let snapshot = self.outlet.served.load();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: self.outlet.published.load().is_some(),
            mesos: status::Mesos::of(&self.following.borrow()),
            zones: status::ZoneStatus::of(&snapshot),
            names: snapshot.len() as u64,
            xdp: status::Xdp::of(&lock(&self.dataplane)),
            server: status::of_server(lock(&self.server).as_ref()),
        }
    }
}

struct Daemon {
    pipeline: Pipeline,
    follower: Follower,
    account: Account,
    listener: IpAddr,
    own: Vec<IpAddr>,
    policy: Policy,
}

impl Daemon {
    fn new(config: &Config, surroundings: &Surroundings) -> Result<Self> {
        let listener = listen::listener(config)?;
        let own = listen::own_addresses(listener, &surroundings.addresses);
        let policy = Policy {
            sets_truncate_bit: config.set_truncate_bit,
            ..Policy::default()
        };
        let seed = rand::random();
        let dataplane = start_dataplane(config, seed, &own, &policy);
        let dataplane = Arc::new(Mutex::new(dataplane));
        let pipeline = Pipeline::new(
            config.record_settings(&surroundings.addresses),
            config.recurse_on,
            seed,
            Arc::clone(&dataplane),
        )?;
        let settings = config.follow_settings().context("Zk")?;
        let follower = follow::follow(settings).context("TLS towards Mesos")?;
        let account = Account {
            outlet: pipeline.outlet(),
            dataplane,
            server: Arc::default(),
            following: follower.status.clone(),
        };
        Ok(Self {
            pipeline,
            follower,
            account,
            listener,
            own,
            policy,
        })
    }

    /// Serves from the first good state on, for ever.
    async fn serve(mut self, config: &Config) -> Result<()> {
        let mut listening = false;
        while let Some(observation) = self.follower.observations.recv().await {
            // Reading a large state takes a while, and host names may have to be looked up.
            let (pipeline, result) = tokio::task::spawn_blocking(move || {
                let result = self.pipeline.apply(&observation);
                (self.pipeline, result)
            })
            .await
            .context("the pipeline broke off")?;
            self.pipeline = pipeline;
            match result {
                Ok(()) if !listening => {
                    self.listen(config).await?;
                    listening = true;
                    info!("ready");
                }
                Ok(()) => {}
                Err(error) => warn!(error = format!("{error:#}"), "state not used"),
            }
        }
        // The follower ends with us, not before.
        std::future::pending().await
    }

    async fn listen(&self, config: &Config) -> Result<()> {
        if config.dns_on {
            let server = self.open_server(config)?;
            info!(addresses = ?server.listening(), "DNS is served");
            *lock(&self.account.server) = Some(server);
        }
        if config.http_on {
            let place = (config.http_listener.as_str(), config.http_port);
            let listener = tokio::net::TcpListener::bind(place)
                .await
                .with_context(|| format!("failed to setup http server: {}:{}", place.0, place.1))?;
            info!(address = %listener.local_addr()?, "HTTP is served");
            let source = Arc::new(self.account.clone());
            tokio::spawn(http::serve(listener, source));
        }
        Ok(())
    }

    fn open_server(&self, config: &Config) -> Result<Server> {
        let own: Vec<SocketAddr> = self
            .own
            .iter()
            .map(|&ip| SocketAddr::new(ip, config.port))
            .collect();
        let forwarder = match listen::forwarder_settings(config)? {
            Some(settings) => Some(Arc::new(Forwarder::new(settings, &own)?)),
            None => None,
        };
        let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
        let mut settings = server::Settings {
            listen: listen::sockets(self.listener, config.port),
            udp_workers: workers,
            policy: self.policy,
            tcp: server::TcpLimits::default(),
        };
        let start = |settings: &server::Settings| {
            let fast = Arc::new(Finished(self.policy));
            let served = Arc::clone(&self.account.outlet.served);
            server::start(settings, served, Some(fast), forwarder.clone())
        };
        match start(&settings) {
            // A host without IPv6 is served over IPv4 alone.
            Err(error) if error.address.is_ipv6() && self.listener.is_ipv4() => {
                warn!(%error, "DNS is served over IPv4 only");
                settings.listen.retain(SocketAddr::is_ipv4);
                Ok(start(&settings)?)
            }
            result => Ok(result?),
        }
    }
}

/// The responder that the kernel runs too.
struct Finished(Policy);

impl FastPath for Finished {
    fn answer(&self, snapshot: &Snapshot, message: &mut [u8], len: usize) -> Option<usize> {
        let (verdict, octets) = fast::answer(snapshot, &self.0, message, len);
        verdict.is_response().then_some(octets)
    }
}

fn start_dataplane(config: &Config, seed: u64, own: &[IpAddr], policy: &Policy) -> DataPlane {
    let dataplane = DataPlane::start(&dataplane::Settings {
        interfaces: config.xdp.interfaces.clone(),
        mode: match config.xdp.mode {
            XdpMode::Auto => Mode::Auto,
            XdpMode::Native => Mode::Native,
            XdpMode::Generic => Mode::Generic,
            XdpMode::Off => Mode::Off,
        },
        max_names: config.xdp.max_names,
        seed,
        addresses: own
            .iter()
            .copied()
            .filter(|one| !one.is_loopback())
            .collect(),
        port: config.port,
        max_udp_octets: policy.max_udp_octets,
        sets_truncate_bit: policy.sets_truncate_bit,
    });
    if let DataPlane::Off(reason) = &dataplane {
        match reason {
            dataplane::Reason::Configured => info!(%reason, "XDP is off"),
            _ => warn!(%reason, "XDP is off: user space answers everything"),
        }
    }
    dataplane
}
