//! The life of the process: from a configuration to answers, until a signal ends it.
//!
//! Order of events, as in mesos-dns: the first state is fetched before any socket is opened, so
//! that a client meets a refused connection and never a false denial.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::answers::{Policy, fast};
use crate::config::{Config, Surroundings, XdpMode};
use crate::dataplane::{self, DataPlane, Mode};
use crate::forwarder::Forwarder;
use crate::http;
use crate::mesos::follow::{self, Follower};
use crate::server::{self, FastPath, Server};
use crate::zones::{Name, Snapshot};

mod dcos;
mod listen;
mod pipeline;
mod rest;
mod status;

use dcos::{Cluster, Feed, News};
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
    let cluster = daemon.account.cluster.clone();
    tokio::select! {
        result = daemon.serve(config) => result?,
        () = end => info!("ending"),
    }
    let server = lock(&server).take();
    if let Some(server) = server {
        server.shut_down(DRAIN).await;
    }
    if let Some(cluster) = cluster {
        cluster.save();
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
    cluster: Option<Arc<Cluster>>,
}

impl http::Source for Account {
    fn status(&self) -> Status {
        let snapshot = self.outlet.served.load();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: self.outlet.published.load().is_some()
                && snapshot.zones().iter().all(|zone| zone.complete),
            mesos: status::Mesos::of(&self.following.borrow()),
            dcos: self.cluster.as_deref().map(status::Dcos::of),
            zones: status::ZoneStatus::of(&snapshot),
            names: snapshot.len() as u64,
            xdp: status::Xdp::of(&lock(&self.dataplane)),
            server: status::of_server(lock(&self.server).as_ref()),
        }
    }
}

/// What the pipeline is to take in.
enum Work {
    State(Box<follow::Observation>),
    News(Vec<News>),
}

/// What there is to know of a DC/OS cluster; never, where there is none.
async fn next_news(feed: &mut Option<Feed>) -> Vec<News> {
    match feed {
        Some(feed) => feed.next().await,
        None => std::future::pending().await,
    }
}

struct Daemon {
    pipeline: Pipeline,
    follower: Follower,
    feed: Option<Feed>,
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
        let place = listen::kernel_place(config, &own, &surroundings.addresses);
        let dataplane = start_dataplane(config, seed, place, &policy);
        let dataplane = Arc::new(Mutex::new(dataplane));
        let settings = config.follow_settings().context("Zk")?;
        let follower = follow::follow(settings).context("TLS towards Mesos")?;
        let (cluster, feed) = match config.dcos.as_ref().filter(|dcos| dcos.enabled) {
            Some(dcos) => {
                let (cluster, feed) = dcos::start(config, dcos, &follower)?;
                (Some(cluster), Some(feed))
            }
            None => (None, None),
        };
        let pipeline = Pipeline::new(
            config.record_settings(&surroundings.addresses),
            config.recurse_on,
            seed,
            Arc::clone(&dataplane),
            cluster.clone(),
        )?;
        let account = Account {
            outlet: pipeline.outlet(),
            dataplane,
            server: Arc::default(),
            following: follower.status.clone(),
            cluster,
        };
        Ok(Self {
            pipeline,
            follower,
            feed,
            account,
            listener,
            own,
            policy,
        })
    }

    /// Serves for ever: from the first good state on, or at once where a DC/OS node has names that
    /// its masters need to start.
    async fn serve(mut self, config: &Config) -> Result<()> {
        let mut listening = self.account.cluster.is_some();
        if listening {
            self.listen(config).await?;
        }
        let mut unused = Unused::default();
        loop {
            let work = tokio::select! {
                Some(state) = self.follower.observations.recv() => Work::State(Box::new(state)),
                news = next_news(&mut self.feed) => Work::News(news),
                // The follower ends with us, not before.
                else => std::future::pending().await,
            };
            // Reading a large state takes a while, and host names may have to be looked up.
            let (pipeline, result) = tokio::task::spawn_blocking(move || {
                let result = match work {
                    Work::State(state) => self.pipeline.apply(&state).map(|()| true),
                    Work::News(news) => {
                        self.pipeline.apply_news(news);
                        Ok(false)
                    }
                };
                (self.pipeline, result)
            })
            .await
            .context("the pipeline broke off")?;
            self.pipeline = pipeline;
            match result {
                Ok(true) => unused.over(),
                // Of Mesos that says nothing.
                Ok(false) => {}
                Err(error) => {
                    unused.failed(&error);
                    continue;
                }
            }
            if !listening {
                self.listen(config).await?;
                listening = true;
                info!("ready");
            }
        }
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
        if let Some((cluster, dcos)) = self.account.cluster.as_ref().zip(config.dcos.as_ref()) {
            let place = dcos.rest_listener;
            let listener = tokio::net::TcpListener::bind(place)
                .await
                .with_context(|| format!("dcos.rest_listener: {place}"))?;
            info!(address = %listener.local_addr()?, "the REST API of dcos-net is served");
            let source = rest::Rest {
                outlet: Arc::clone(&self.account.outlet),
                cluster: Arc::clone(cluster),
                domain: Name::from_text(&config.domain)?,
                node_ip: dcos.node_ip,
                since: SystemTime::now(),
            };
            tokio::spawn(http::dcos::serve(listener, Arc::new(source)));
        }
        Ok(())
    }

    fn open_server(&self, config: &Config) -> Result<Server> {
        let mut listen = listen::sockets(self.listener, config.port);
        let of_dcos = listen::dcos_sockets(config, &listen);
        let own = self.own.iter();
        let mut own: Vec<SocketAddr> = own.map(|&ip| SocketAddr::new(ip, config.port)).collect();
        own.extend(&of_dcos);
        listen.extend(of_dcos);
        let cluster = self.account.cluster.as_ref();
        let forwarder = match listen::forwarder_settings(config, cluster, &own)? {
            Some(settings) => Some(Arc::new(Forwarder::new(settings, &own)?)),
            None => None,
        };
        let mut tcp = server::TcpLimits::default();
        if let Some(dcos) = config.dcos.as_ref().filter(|dcos| dcos.enabled) {
            tcp.idle = dcos.times.tcp_idle;
        }
        let mut settings = server::Settings {
            listen,
            udp_workers: std::thread::available_parallelism().map_or(1, NonZero::get),
            policy: self.policy,
            tcp,
        };
        loop {
            let fast = Arc::new(Finished(self.policy));
            let served = Arc::clone(&self.account.outlet.served);
            match server::start(&settings, served, Some(fast), forwarder.clone()) {
                Err(error)
                    if settings.listen.len() > 1
                        && listen::is_dispensable(config, self.listener, &error) =>
                {
                    warn!(%error, "DNS is served without this address");
                    settings.listen.retain(|one| *one != error.address);
                }
                result => return Ok(result?),
            }
        }
    }
}

/// States that came and could not be used, since the last that could: a master that goes on
/// sending the same is complained about once.
#[derive(Default)]
struct Unused {
    count: u64,
    logged: String,
}

impl Unused {
    fn failed(&mut self, error: &anyhow::Error) {
        self.count += 1;
        let error = format!("{error:#}");
        if error == self.logged {
            debug!(error, "state not used; keeping old DNS state");
        } else {
            warn!(error, "state not used; keeping old DNS state");
            self.logged = error;
        }
    }

    fn over(&mut self) {
        let before = std::mem::take(self);
        if before.count > 0 {
            info!(unused = before.count, "state is used again");
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

fn start_dataplane(
    config: &Config,
    seed: u64,
    (addresses, port): (Vec<IpAddr>, u16),
    policy: &Policy,
) -> DataPlane {
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
        addresses: addresses
            .into_iter()
            .filter(|one| !one.is_loopback())
            .collect(),
        port,
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
