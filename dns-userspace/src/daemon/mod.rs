//! The life of the process: from a configuration to answers, until a signal ends it.
//!
//! Order of events, as in mesos-dns: the first state is fetched before any socket is opened, so
//! that a client meets a refused connection and never a false denial.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use crate::dataplane::{DataPlane, Lease, keep_sampling};
use crate::http::{self, Source as _};
use crate::memory;
use crate::mesos::follow::{self, Follower};
use crate::mesos::leader::Candidates;
use crate::transfer::{Secondaries, Taken};
use crate::zones::Name;

mod account;
mod dcos;
mod events;
mod kernel;
mod listen;
mod pipeline;
mod published;
mod reload;
mod rest;
mod setup;
mod sockets;
mod status;
mod transfers;
mod wanting;

use account::Account;
use dcos::{Feed, News};
pub use pipeline::Outlet;
pub(crate) use pipeline::look_up;
use pipeline::{Origins, Pipeline, Prepared, lock};
pub use published::Published;
pub use setup::Setup;
use sockets::{Answering, HttpServer, Sockets};
pub use status::{Measures, Status, ZoneStatus};
use transfers::Transfers;

/// Runs until `end` is ready. For each message of `reloads` it calls `load` and goes on by what
/// that gives; an error leaves everything as it is, and is logged.
///
/// # Errors
/// A setting that cannot be used, or a socket that cannot be had.
pub async fn run(
    setup: Setup,
    load: impl Fn() -> Result<Setup>,
    reloads: mpsc::Receiver<()>,
    end: impl Future<Output = ()>,
) -> Result<()> {
    let daemon = Daemon::new(setup)?;
    let account = Arc::clone(&daemon.account);
    tokio::select! {
        result = daemon.serve(load, reloads) => result?,
        () = end => info!("ending"),
    }
    // Before anything closes, so that balancers turn away from here while all is still answered.
    account.is_ending.store(true, Ordering::Relaxed);
    lock(&account.dataplane).end();
    let sockets = std::mem::take(&mut *lock(&account.sockets));
    sockets.close().await;
    if let Some(cluster) = &account.cluster {
        cluster.save();
    }
    Ok(())
}

/// What the pipeline is to take in.
enum Work {
    State(Box<Prepared>),
    News(Vec<News>),
    Transfer(Taken),
}

/// What came from the primaries of our secondary zones; never, where there are none.
async fn next_transfer(secondaries: &mut Option<Secondaries>) -> Option<Taken> {
    match secondaries {
        Some(secondaries) => secondaries.taken.recv().await,
        None => std::future::pending().await,
    }
}

/// What there is to know of a DC/OS cluster; never, where there is none.
async fn next_news(feed: &mut Option<Feed>) -> Vec<News> {
    match feed {
        Some(feed) => feed.next().await,
        None => std::future::pending().await,
    }
}

/// Waits for a state to be read; for ever if there is none.
async fn finished(
    preparing: &mut Option<JoinHandle<Result<Prepared>>>,
) -> Result<Result<Prepared>> {
    match preparing {
        Some(task) => task.await.context("reading a state broke off"),
        None => std::future::pending().await,
    }
}

struct Daemon {
    setup: Setup,
    pipeline: Arc<Mutex<Pipeline>>,
    following: Following,
    feed: Option<Feed>,
    account: Arc<Account>,
    answering: Answering,
    transfers: Transfers,
    secondaries: Option<Secondaries>,
    /// Key of the owner hash, the same for as long as the process lives.
    seed: u64,
    lease: Lease,
    _renewing: AbortOnDropHandle<()>,
    _sampling: AbortOnDropHandle<()>,
    is_listening: bool,
    said_ready: bool,
}

impl Daemon {
    fn new(setup: Setup) -> Result<Self> {
        let lease = Lease::default();
        let renewing = kernel::keep_renewing(lease.clone());
        let settings = setup.dataplane_settings(rand::random())?;
        let dataplane = DataPlane::start(&settings, &setup.life(), &lease, true);
        kernel::report(&dataplane);
        // That of maps that were taken over, or of our own.
        let seed = dataplane.seed().unwrap_or(settings.seed);
        let dataplane = Arc::new(Mutex::new(dataplane));
        let follower = if setup.follows_mesos() {
            follow::follow(setup.follow_settings()?).context("asking the masters")?
        } else {
            Follower::idle()
        };
        let following = Following::new(follower);
        let (cluster, feed) = match setup.dcos() {
            Some(dcos) => {
                let candidates = following.candidates.subscribe();
                let (cluster, feed) =
                    dcos::start(&setup.config, dcos, &candidates, &following.wishes)?;
                (Some(cluster), Some(feed))
            }
            None => (None, None),
        };
        let mut transfers = Transfers::new(&setup.config);
        let origins = Origins {
            follows_mesos: setup.follows_mesos(),
            cluster: cluster.clone(),
            secondaries: setup.secondary_zones(),
            versions: transfers.versions.clone(),
        };
        let pipeline = Pipeline::new(
            setup.record_settings(),
            setup.config.recurse_on,
            seed,
            Arc::clone(&dataplane),
            origins,
            Duration::from_secs(setup.config.refresh_seconds.into()),
        )?;
        let served = &pipeline.outlet().served;
        let secondaries = transfers.keep(&setup, served);
        let answering = Answering::new(&setup, cluster.as_ref(), &transfers)?;
        let pipeline = Arc::new(Mutex::new(pipeline));
        let watch = Arc::default();
        let sampling = keep_sampling(Arc::clone(&dataplane), Arc::clone(&watch));
        let sampling = AbortOnDropHandle::new(tokio::spawn(sampling));
        let account = Account {
            config: ArcSwap::from_pointee(setup.config.clone()),
            outlet: lock(&pipeline).outlet(),
            pipeline: Arc::clone(&pipeline),
            dataplane,
            sockets: Mutex::default(),
            following: Mutex::new(following.follower.status.clone()),
            cluster,
            versions: transfers.versions.clone(),
            secondaries: secondaries
                .as_ref()
                .map(Secondaries::health)
                .unwrap_or_default(),
            follows_mesos: setup.follows_mesos(),
            reload_succeeded: AtomicBool::new(true),
            is_ending: AtomicBool::new(false),
            watch,
        };
        Ok(Self {
            setup,
            pipeline,
            following,
            feed,
            account: Arc::new(account),
            answering,
            transfers,
            secondaries,
            seed,
            lease,
            _renewing: renewing,
            _sampling: sampling,
            is_listening: false,
            said_ready: false,
        })
    }

    /// Serves for ever: from the first good state on, or at once where a DC/OS node has names that
    /// its masters need to start, and where primaries must be heard.
    async fn serve(
        mut self,
        load: impl Fn() -> Result<Setup>,
        mut reloads: mpsc::Receiver<()>,
    ) -> Result<()> {
        if self.account.cluster.is_some() || self.secondaries.is_some() {
            self.listen().await?;
        }
        let mut unused = Unused::default();
        // Reading a large state takes a while: beside this loop, so that events need not wait.
        let mut preparing = None;
        let mut host = kernel::Host::watch();
        loop {
            tokio::select! {
                Some(state) = self.following.follower.observations.recv(), if preparing.is_none() => {
                    preparing = Some(self.prepare(state));
                }
                prepared = finished(&mut preparing) => {
                    preparing = None;
                    match prepared? {
                        Ok(state) => {
                            self.take_in(Work::State(Box::new(state)), &mut unused).await?;
                        }
                        Err(error) => unused.failed(&error),
                    }
                }
                news = next_news(&mut self.feed) => {
                    let news = dcos::with_hosts(news).await;
                    self.take_in(Work::News(news), &mut unused).await?;
                }
                Some(taken) = next_transfer(&mut self.secondaries) => {
                    self.take_in(Work::Transfer(taken), &mut unused).await?;
                }
                Some(()) = reloads.recv() => self.reload(load()).await,
                () = host.changed() => self.follow_host().await,
                // The follower ends with us, not before.
                else => std::future::pending().await,
            }
        }
    }

    async fn take_in(&mut self, work: Work, unused: &mut Unused) -> Result<()> {
        let applied = self.on_pipeline(move |pipeline| match work {
            Work::State(state) => pipeline.apply(*state).map(|()| true),
            Work::News(news) => {
                pipeline.apply_news(news);
                Ok(false)
            }
            Work::Transfer(taken) => {
                pipeline.take(taken);
                Ok(false)
            }
        });
        match applied.await? {
            Ok(true) => {
                unused.over();
                // What reading a state took is not needed before the next.
                tokio::task::spawn_blocking(memory::give_back);
            }
            // Of Mesos that says nothing.
            Ok(false) => {}
            Err(error) => {
                unused.failed(&error);
                return Ok(());
            }
        }
        if !self.is_listening {
            self.listen().await?;
        }
        if !self.said_ready && self.account.readiness() == http::Readiness::Ready {
            self.said_ready = true;
            info!("ready");
        }
        Ok(())
    }

    /// Reads a state, not on the threads that answer: host names may have to be looked up.
    fn prepare(&self, state: follow::Observation) -> JoinHandle<Result<Prepared>> {
        let outlet = Arc::clone(&self.account.outlet);
        let is_needed = !outlet.is_live.load(Ordering::Relaxed);
        tokio::task::spawn_blocking(move || Prepared::new(&state, &outlet, is_needed))
    }

    /// Not on the threads that answer.
    async fn on_pipeline<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Pipeline) -> T + Send + 'static,
    ) -> Result<T> {
        let pipeline = Arc::clone(&self.pipeline);
        tokio::task::spawn_blocking(move || work(&mut lock(&pipeline)))
            .await
            .context("the pipeline broke off")
    }

    async fn listen(&mut self) -> Result<()> {
        let config = &self.setup.config;
        let http = match config.http_on {
            true => Some(sockets::open_http(&self.setup).await?),
            false => None,
        };
        let rest = match self.setup.dcos() {
            Some(dcos) => Some(sockets::open_rest(dcos).await?),
            None => None,
        };
        let mut open = Sockets::default();
        if config.dns_on {
            let served = &self.account.outlet.served;
            let watch = &self.account.watch;
            open.dns = Some(self.answering.open(&self.setup, served, watch, None)?);
        }
        open.http = http.map(|one| HttpServer::start(one, Arc::clone(&self.account)));
        *lock(&self.account.sockets) = open;
        // Who is told comes at once.
        let served = &self.account.outlet.served;
        self.transfers.notify(&self.setup, served);
        self.serve_rest(rest)?;
        self.is_listening = true;
        Ok(())
    }

    /// Serves the REST API of a DC/OS node.
    fn serve_rest(&self, listener: Option<TcpListener>) -> Result<()> {
        let cluster = self.account.cluster.as_ref().zip(self.setup.dcos());
        let Some((listener, (cluster, dcos))) = listener.zip(cluster) else {
            return Ok(());
        };
        info!(address = %listener.local_addr()?, "the REST API of dcos-net is served");
        let source = rest::Rest {
            outlet: Arc::clone(&self.account.outlet),
            cluster: Arc::clone(cluster),
            domain: Name::from_text(&self.setup.config.domain)?,
            node_ip: dcos.node_ip,
        };
        tokio::spawn(http::dcos::serve(listener, Arc::new(source)));
        Ok(())
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

/// A follower, and what a DC/OS node shares with it in places that outlive it.
struct Following {
    follower: Follower,
    /// The masters known.
    candidates: watch::Sender<Candidates>,
    /// As [`Follower::wishes`].
    wishes: Arc<Notify>,
    _relay: AbortOnDropHandle<()>,
}

impl Following {
    fn new(follower: Follower) -> Self {
        let (candidates, _) = watch::channel(Candidates::default());
        Self::with(follower, candidates, Arc::default())
    }

    fn with(
        follower: Follower,
        candidates: watch::Sender<Candidates>,
        wishes: Arc<Notify>,
    ) -> Self {
        let mut known = follower.candidates.clone();
        candidates.send_replace(known.borrow_and_update().clone());
        let (outlet, wished) = (candidates.clone(), Arc::clone(&wishes));
        let granting = Arc::clone(&follower.wishes);
        let relay = async move {
            loop {
                tokio::select! {
                    Ok(()) = known.changed() => {
                        outlet.send_replace(known.borrow_and_update().clone());
                    }
                    () = wished.notified() => granting.notify_one(),
                }
            }
        };
        Self {
            follower,
            candidates,
            wishes,
            _relay: AbortOnDropHandle::new(tokio::spawn(relay)),
        }
    }
}
