//! A DC/OS node in the daemon: what comes from the event stream and from the node itself, and the
//! zones it makes.
//!
//! Everything arrives as [`News`] in one order and is turned into content by the pipeline's one
//! writer. Losing the stream is no news: what is published stays.

mod public_ips;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use super::events::hosts_of;
use super::pipeline::lock;
use super::wanting::Wanting;
use crate::config::dcos::{ClusterIdSource, MesosSource};
use crate::config::{Config, Dcos};
use crate::mesos::leader::Candidates;
use crate::mesos::operator_api::{self, Lookup, Observation, Resolver, StreamStatus};
use crate::mesos::state_model::StateChange;
use crate::mesos::zookeeper::{ZooKeeperTarget, read_node};
use crate::records::dcos::cluster_id::ClusterId;
use crate::records::dcos::vip_address::Allocation;
use crate::records::dcos::{DcosZones, Update};
use crate::zones::{Diff, Name, NameError, Snapshot, Zone};

/// The environment variable with the token of DC/OS services.
const TOKEN_VARIABLE: &str = "SERVICE_AUTH_TOKEN";
/// The port of masters, where `on_redirect` is `wait` and the master beside us is asked.
const MASTER_PORT: u16 = 5050;
/// Changes of the stream that may wait for the pipeline; then the stream waits.
const MAX_WAITING: usize = 4096;
/// Changes that are published together at most.
const MAX_TOGETHER: usize = 512;
/// Between looks whether addresses of VIPs are to be saved.
const SAVE_PERIOD: Duration = Duration::from_secs(1);
/// Between looks for the cluster's key, as in dcos-net.
const KEY_PERIOD: Duration = Duration::from_secs(5);
/// The time a host name may take to resolve.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Look-ups at one time: each takes one of the threads that the pipeline works on, too.
const MAX_LOOKUPS: usize = 64;

/// Someone who waits for something to be taken in; is told so by being dropped.
type Asker = oneshot::Sender<()>;

/// Something that changes the zones.
#[derive(Debug)]
pub(super) enum News {
    /// From the event stream.
    Stream(Observation),
    /// The masters' addresses.
    Masters(Vec<IpAddr>),
    /// The node's public addresses, and who waits for them.
    PublicIps(Vec<IpAddr>, Vec<Asker>),
    /// The cluster's id, from ZooKeeper.
    ClusterId(ClusterId),
    /// The masters, `host:port`, in the order in which they are numbered.
    Candidates(Vec<String>),
    /// Addresses of host names.
    Hosts(Vec<(String, Vec<IpAddr>)>),
}

/// The zones, shared by the pipeline, which alone changes them, and those who list them.
#[derive(Debug)]
pub(super) struct Cluster {
    zones: Mutex<DcosZones>,
    /// How the stream is doing.
    pub(super) stream: watch::Receiver<StreamStatus>,
    id: ArcSwapOption<ClusterId>,
    vip_file: PathBuf,
    /// Whether VIPs changed since their addresses were saved.
    unsaved: AtomicBool,
    /// How many VIPs wait for an address because a range is used up.
    pub(super) vips_without_address: AtomicUsize,
    pub(super) vips_without_name: AtomicUsize,
    /// Where to wish for a state, if what events lack is taken from it.
    wishes: Option<Arc<Notify>>,
    /// Host names to look up: those that records depend on.
    hosts: watch::Sender<BTreeSet<String>>,
    /// Where to have the program run that prints public addresses, if there is one.
    detection: Option<mpsc::Sender<Asker>>,
    public_ips_since: Mutex<SystemTime>,
}

impl Cluster {
    /// The zones before anything is known of tasks, VIPs with the addresses they had before a
    /// restart.
    fn new(
        dcos: &Dcos,
        stream: watch::Receiver<StreamStatus>,
        wishes: &Arc<Notify>,
        hosts: watch::Sender<BTreeSet<String>>,
        detection: Option<mpsc::Sender<Asker>>,
    ) -> Result<Self> {
        let allocations = load(&dcos.vip_file);
        let mut zones = DcosZones::new(&dcos.zone_settings(), &allocations)?;
        zones.set_public_ips(&dcos.public_ips)?;
        Ok(Self {
            zones: Mutex::new(zones),
            stream,
            id: ArcSwapOption::from_pointee(dcos.zone_settings().cluster_id),
            vip_file: dcos.vip_file.clone(),
            unsaved: AtomicBool::new(false),
            vips_without_address: AtomicUsize::new(0),
            vips_without_name: AtomicUsize::new(0),
            wishes: (dcos.mesos_source == MesosSource::Auto).then(|| Arc::clone(wishes)),
            hosts,
            detection,
            public_ips_since: Mutex::new(SystemTime::now()),
        })
    }

    /// The zones as they are.
    pub(super) fn zones(&self) -> MutexGuard<'_, DcosZones> {
        lock(&self.zones)
    }

    /// The cluster's id, as far as it is known. Waits for nobody.
    pub(super) fn id(&self) -> Option<ClusterId> {
        self.id.load().as_deref().copied()
    }

    /// Takes in news. The zones are those that come to be by it.
    pub(super) fn take(&self, news: News) -> Result<(Vec<Zone>, Update), NameError> {
        let mut zones = self.zones();
        let update = match news {
            News::Stream(Observation::Subscribed { leader }) => {
                self.wish();
                zones.set_leader(leader.map(|one| one.ip()))
            }
            News::Stream(Observation::Changes { tasks, state }) => {
                self.unsaved.store(true, Ordering::Relaxed);
                let mut all = state.list.iter();
                if all.any(|one| matches!(one, StateChange::Framework(_, Some(_)))) {
                    self.wish();
                }
                if tasks.resync {
                    info!(tasks = tasks.tasks.len(), "tasks are known");
                }
                let before = Wanting::of(zones.vips());
                let update = zones.apply(&tasks)?;
                let now = Wanting::of(zones.vips());
                now.warn_since(&before);
                let store = |at: &AtomicUsize, count| at.store(count, Ordering::Relaxed);
                store(&self.vips_without_address, now.addresses.len());
                store(&self.vips_without_name, now.names.len());
                update
            }
            News::Stream(Observation::Lost) => Update::default(),
            News::Masters(masters) => zones.set_masters(&masters)?,
            News::Candidates(_) | News::Hosts(_) => Update::default(),
            News::PublicIps(ips, _askers) => {
                *lock(&self.public_ips_since) = SystemTime::now();
                zones.set_public_ips(&ips)?
            }
            News::ClusterId(id) => {
                self.id.store(Some(Arc::new(id)));
                return zones.set_cluster_id(id);
            }
        };
        Ok((Vec::new(), update))
    }

    /// Has the program that prints public addresses run again, if there is one. Ends when they are
    /// taken in, or when there is nothing to be had.
    pub(super) async fn detect_public_ips(&self) {
        let Some(detection) = &self.detection else {
            return;
        };
        let (asker, answered) = oneshot::channel();
        if detection.send(asker).await.is_ok() {
            // The asker is dropped; nothing is ever sent.
            let _ = answered.await;
        }
    }

    /// When the public addresses were found.
    pub(super) fn public_ips_since(&self) -> SystemTime {
        *lock(&self.public_ips_since)
    }

    fn wish(&self) {
        if let Some(wishes) = &self.wishes {
            wishes.notify_one();
        }
    }

    /// Has the addresses of these host names, and no others, looked up: now where they are new, and
    /// all from time to time.
    pub(super) fn ask_for_hosts(&self, hosts: BTreeSet<String>) {
        self.hosts.send_if_modified(|known| {
            let differs = *known != hosts;
            *known = hosts;
            differs
        });
    }

    /// What becomes of changes of our own mesos-dns zone in its copy.
    pub(super) fn mirror(&self, apex: &Name, diff: &Diff) -> Result<Update, NameError> {
        let zones = self.zones();
        let mut update = Update::default();
        let written = diff.added.iter();
        let written = written.chain(diff.changed.iter().map(|change| &change.after));
        let written = written.map(|node| (node.owner(), node.rrsets()));
        let removed = diff.removed.iter().map(|node| (node.owner(), &[][..]));
        for (name, rrsets) in written.chain(removed) {
            if name.is_at_or_below(apex) {
                update
                    .names
                    .extend(zones.mirror_name(apex, name, rrsets)?.names);
            }
        }
        Ok(update)
    }

    /// The whole copy of our own mesos-dns zone.
    pub(super) fn whole_mirror(&self, apex: &Name, own: &Snapshot) -> Result<Update, NameError> {
        self.mirror(apex, &Diff::between(&Snapshot::empty(own.seed()), own))
    }

    /// Saves the addresses of VIPs if they may have changed since.
    pub(super) fn save(&self) {
        if !self.unsaved.swap(false, Ordering::Relaxed) {
            return;
        }
        let allocations = self.zones().vips().allocator().allocations();
        match store(&self.vip_file, &allocations) {
            Ok(()) => debug!(vips = allocations.len(), "addresses of VIPs are saved"),
            Err(error) => {
                let file = self.vip_file.display();
                warn!(%file, %error, "addresses of VIPs cannot be saved and may change at a restart");
            }
        }
    }
}

/// The addresses saved. A file that cannot be read costs VIPs their addresses, not the start.
fn load(path: &Path) -> Vec<Allocation> {
    let read = match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    read.unwrap_or_else(|error| {
        warn!(file = %path.display(), %error, "VIPs get addresses anew");
        Vec::new()
    })
}

/// Replaces the file, so that a reader finds the old list or the new one, whole.
fn store(path: &Path, allocations: &[Allocation]) -> io::Result<()> {
    let text = serde_json::to_vec(allocations)?;
    if std::fs::read(path).is_ok_and(|before| before == text) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    std::fs::write(&partial, text)?;
    std::fs::rename(partial, path)
}

/// Where news comes from; ends when dropped.
pub(super) struct Feed {
    stream: mpsc::Receiver<Observation>,
    others: mpsc::Receiver<News>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Feed {
    /// Everything there is by now, at least one; in order. Loses nothing when cancelled.
    pub(super) async fn next(&mut self) -> Vec<News> {
        let first = tokio::select! {
            Some(one) = self.stream.recv() => News::Stream(one),
            Some(one) = self.others.recv() => one,
            else => std::future::pending().await,
        };
        let mut news = vec![first];
        while news.len() < MAX_TOGETHER
            && let Ok(more) = self.stream.try_recv()
        {
            news.push(News::Stream(more));
        }
        news
    }
}

/// Starts to follow what the zones are made of. Must be called within a tokio runtime.
///
/// # Errors
/// A certificate or a static zone cannot be used.
pub(super) fn start(
    config: &Config,
    dcos: &Dcos,
    candidates: &watch::Receiver<Candidates>,
    wishes: &Arc<Notify>,
) -> Result<(Arc<Cluster>, Feed)> {
    let (status, stream_status) = watch::channel(StreamStatus::default());
    let (hosts_in, hosts) = watch::channel(BTreeSet::new());
    let (detection, detections) = mpsc::channel(16);
    let program = dcos.detect_ip_public.clone();
    let cluster = Arc::new(Cluster::new(
        dcos,
        stream_status,
        wishes,
        hosts_in,
        program.is_some().then_some(detection),
    )?);
    let client = operator_api::http_client(&config.tls, dcos.times.connect)
        .context("TLS towards the operator API")?;
    let token = std::env::var(TOKEN_VARIABLE).ok().filter(|t| !t.is_empty());
    let settings = dcos.operator_api(config.mesos_https_on, token);
    let (masters_in, masters) = watch::channel(masters_to_ask(dcos, &candidates.borrow()));
    let (stream_in, stream) = mpsc::channel(MAX_WAITING);
    let (others_in, others) = mpsc::channel(16);
    let resolver: Resolver = Arc::new(|host| -> Lookup { Box::pin(look_up(host)) });
    let mut tasks = vec![
        spawn(operator_api::follow(
            settings, client, masters, resolver, stream_in, status,
        )),
        spawn(watch_masters(
            dcos.clone(),
            candidates.clone(),
            masters_in,
            others_in.clone(),
        )),
        spawn(save_vips(Arc::clone(&cluster))),
        spawn(look_up_hosts(
            hosts,
            Duration::from_secs(config.refresh_seconds.into()),
            others_in.clone(),
        )),
    ];
    if let Some(program) = program {
        tasks.push(spawn(public_ips::watch(
            program,
            dcos.times.public_ip_refresh,
            detections,
            others_in.clone(),
        )));
    }
    if let ClusterIdSource::ZooKeeper(node) = &dcos.cluster_id {
        if config.zk.is_empty() {
            warn!(node, "cluster_key_node without Zk has no effect");
        } else {
            let target = ZooKeeperTarget::load(&config.zk).context("Zk")?;
            tasks.push(spawn(find_cluster_id(target, node.clone(), others_in)));
        }
    }
    let feed = Feed {
        stream,
        others,
        _tasks: tasks,
    };
    Ok((cluster, feed))
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

/// The masters to subscribe at, in order. One that waits to lead asks the master beside it alone.
fn masters_to_ask(dcos: &Dcos, candidates: &Candidates) -> Vec<String> {
    match dcos.node_ip {
        Some(IpAddr::V4(ip)) if !dcos.follows_redirects => vec![format!("{ip}:{MASTER_PORT}")],
        Some(IpAddr::V6(ip)) if !dcos.follows_redirects => vec![format!("[{ip}]:{MASTER_PORT}")],
        _ => candidates.to_ask().map(ToString::to_string).collect(),
    }
}

/// Passes on which masters there are; their addresses too, unless they are configured.
async fn watch_masters(
    dcos: Dcos,
    mut candidates: watch::Receiver<Candidates>,
    masters: watch::Sender<Vec<String>>,
    news: mpsc::Sender<News>,
) {
    let mut last = BTreeSet::new();
    let mut last_listed = Vec::new();
    loop {
        let known = candidates.borrow_and_update().clone();
        let listed: Vec<String> = known.listed().map(ToString::to_string).collect();
        if listed != last_listed {
            last_listed.clone_from(&listed);
            if news.send(News::Candidates(listed)).await.is_err() {
                return;
            }
        }
        masters.send_if_modified(|last| {
            let next = masters_to_ask(&dcos, &known);
            let differs = *last != next;
            *last = next;
            differs
        });
        let ips: BTreeSet<IpAddr> = known
            .listed()
            .filter_map(|one| one.host().parse().ok())
            .collect();
        if dcos.masters.is_empty() && ips != last && !ips.is_empty() {
            let list = ips.iter().copied().collect();
            if news.send(News::Masters(list)).await.is_err() {
                return;
            }
            last = ips;
        }
        if candidates.changed().await.is_err() {
            // There is no more to come, and what follows the list is to stay.
            std::future::pending::<()>().await;
        }
    }
}

/// Looks for the cluster's key until it is there.
async fn find_cluster_id(target: ZooKeeperTarget, node: String, news: mpsc::Sender<News>) {
    let mut told = String::new();
    loop {
        let problem = match read_node(&target, &node).await {
            Ok(Some(document)) => match ClusterId::from_navstar_key(&document) {
                Ok(id) => {
                    info!(%id, "the cluster's id is known");
                    // The daemon ends before us, or takes it.
                    let _ = news.send(News::ClusterId(id)).await;
                    // Its sender stays open for as long as the others'.
                    return;
                }
                Err(error) => error.to_string(),
            },
            Ok(None) => "there is no such node".to_owned(),
            Err(error) => error,
        };
        if problem != told {
            warn!(%node, problem, "no cluster id yet: no names under dcos.directory");
            told = problem;
        }
        sleep(KEY_PERIOD).await;
    }
}

/// Looks host names up: each when it is asked for, and all of them every `period`.
async fn look_up_hosts(
    mut asked: watch::Receiver<BTreeSet<String>>,
    period: Duration,
    news: mpsc::Sender<News>,
) {
    let mut known = BTreeSet::new();
    let mut again = interval_at(Instant::now() + period, period);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let hosts: Vec<String> = tokio::select! {
            changed = asked.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = asked.borrow_and_update().clone();
                let before = std::mem::replace(&mut known, now);
                known.difference(&before).cloned().collect()
            }
            _ = again.tick() => known.iter().cloned().collect(),
        };
        let found = addresses_of(hosts).await;
        if !found.is_empty() && news.send(News::Hosts(found)).await.is_err() {
            return;
        }
    }
}

/// The addresses of host names by the resolver of the system, those that have any.
async fn addresses_of(hosts: impl IntoIterator<Item = String>) -> Vec<(String, Vec<IpAddr>)> {
    let mut lookups = JoinSet::new();
    let mut all = Vec::new();
    for host in hosts {
        if lookups.len() >= MAX_LOOKUPS {
            all.extend(lookups.join_next().await);
        }
        lookups.spawn(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0));
            let found = timeout(LOOKUP_TIMEOUT, found).await.ok()?.ok()?;
            let mut ips: Vec<IpAddr> = found.map(|one| one.ip()).collect();
            ips.sort_unstable();
            ips.dedup();
            Some((host, ips))
        });
    }
    while let Some(one) = lookups.join_next().await {
        all.push(one);
    }
    // One that panicked found nothing.
    all.into_iter().filter_map(|one| one.ok()?).collect()
}

/// Looks up what a whole state among the news needs, so that no record is missing for a moment.
pub(super) async fn with_hosts(mut news: Vec<News>) -> Vec<News> {
    let hosts: BTreeSet<String> = news
        .iter()
        .filter_map(|one| match one {
            News::Stream(Observation::Changes { state, .. }) => Some(hosts_of(state)),
            _ => None,
        })
        .flatten()
        .map(str::to_owned)
        .collect();
    if !hosts.is_empty() {
        news.insert(0, News::Hosts(addresses_of(hosts).await));
    }
    news
}

async fn save_vips(cluster: Arc<Cluster>) {
    loop {
        sleep(SAVE_PERIOD).await;
        let cluster = Arc::clone(&cluster);
        // A save that panics is tried again when VIPs change.
        let _ = tokio::task::spawn_blocking(move || cluster.save()).await;
    }
}

/// The address of an agent's host name, IPv4 before IPv6.
async fn look_up(host: String) -> Option<IpAddr> {
    let found = tokio::net::lookup_host((host.as_str(), 0)).await.ok()?;
    let ips: Vec<IpAddr> = found.map(|one| one.ip()).collect();
    let ipv4 = ips.iter().find(|ip| ip.is_ipv4());
    ipv4.or_else(|| ips.first()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hosts_are_looked_up_at_once_and_again_as_long_as_they_are_asked_for() {
        let (asked, hosts) = watch::channel(BTreeSet::new());
        let (news, mut feed) = mpsc::channel(1);
        let _task = spawn(look_up_hosts(hosts, Duration::from_millis(20), news));
        let found = async |feed: &mut mpsc::Receiver<News>| {
            let news = timeout(Duration::from_secs(30), feed.recv()).await;
            let Ok(Some(News::Hosts(found))) = news else {
                panic!("{news:?}");
            };
            found.into_iter().map(|(host, _)| host).collect::<Vec<_>>()
        };
        // What needs no resolver.
        for host in ["192.0.2.1", "192.0.2.2", "192.0.2.1"] {
            asked.send_replace(BTreeSet::from([host.to_owned()]));
            // What was under way may come first.
            while found(&mut feed).await != [host] {}
            assert_eq!(found(&mut feed).await, [host], "again");
        }
    }
}
