//! What answers for the daemon: the parts that its tasks, and the HTTP API, share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::dcos::Cluster;
use super::pipeline::{Outlet, Pipeline, lock};
use super::published::Published;
use super::sockets::Sockets;
use super::status::{self, Measures, Status};
use crate::config::Config;
use crate::dataplane::DataPlane;
use crate::http::{Readiness, Source};
use crate::mesos::follow;
use crate::telemetry::Watch;
use crate::transfer::{Health, Versions};
use crate::zones::Name;

/// Everything that the account is made of. A reload replaces what is in the cells.
pub(super) struct Account {
    pub(super) config: ArcSwap<Config>,
    pub(super) outlet: Arc<Outlet>,
    pub(super) pipeline: Arc<Mutex<Pipeline>>,
    pub(super) dataplane: Arc<Mutex<DataPlane>>,
    pub(super) sockets: Mutex<Sockets>,
    pub(super) following: Mutex<watch::Receiver<follow::Status>>,
    pub(super) cluster: Option<Arc<Cluster>>,
    pub(super) versions: Option<Arc<Versions>>,
    pub(super) secondaries: Vec<(Name, Arc<Mutex<Health>>)>,
    pub(super) follows_mesos: bool,
    pub(super) reload_succeeded: AtomicBool,
    pub(super) is_ending: AtomicBool,
    pub(super) watch: Arc<Watch>,
}

impl Account {
    fn status_with(&self, server: &status::ServerTotals) -> Status {
        let snapshot = self.outlet.served.load();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: self.readiness() == Readiness::Ready,
            mesos: status::Mesos {
                followed: self.follows_mesos,
                ..status::Mesos::of(&lock(&self.following).borrow())
            },
            dcos: self.cluster.as_deref().map(status::Dcos::of),
            zones: status::ZoneStatus::of(&snapshot),
            names: snapshot.len() as u64,
            xdp: status::Xdp::of(&lock(&self.dataplane)),
            server: status::named(server),
            transfer: status::transferred(self.versions.as_deref()),
            secondary: self.secondaries.iter().map(status::Secondary::of).collect(),
        }
    }
}

impl Source for Account {
    fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    fn published(&self) -> Option<Arc<Published>> {
        let present = self.outlet.published.load_full();
        let is_fresh = present.as_ref().is_some_and(|one| one.is_fresh());
        if is_fresh || !self.outlet.is_stale.load(Ordering::Relaxed) {
            return present;
        }
        lock(&self.pipeline).renew_published();
        self.outlet.published.load_full()
    }

    fn readiness(&self) -> Readiness {
        let is_known = || {
            let snapshot = self.outlet.served.load();
            (!self.follows_mesos || self.outlet.published.load().is_some())
                && snapshot.zones().iter().all(|zone| zone.complete)
        };
        if self.is_ending.load(Ordering::Relaxed) {
            Readiness::Ending
        } else if is_known() {
            Readiness::Ready
        } else if self.secondaries.iter().any(|(_, one)| lock(one).expired) {
            Readiness::Expired
        } else {
            Readiness::Starting
        }
    }

    fn status(&self) -> Status {
        let server = status::totals(lock(&self.sockets).dns.as_ref());
        self.status_with(&server)
    }

    fn measures(&self) -> Measures {
        let (server, forwarder) = {
            let sockets = lock(&self.sockets);
            let dns = sockets.dns.as_ref();
            let forwarder = dns.and_then(crate::server::Server::forwarder);
            (status::totals(dns), forwarder)
        };
        Measures {
            status: self.status_with(&server),
            server,
            forwarder,
            left_out: self.outlet.left_out.load_full(),
            leader_changes: self.outlet.leader_changes.load(Ordering::Relaxed),
            publish_duration: self.outlet.publish_duration.clone(),
            reload_succeeded: self.reload_succeeded.load(Ordering::Relaxed),
        }
    }
    fn watch(&self) -> Arc<Watch> {
        Arc::clone(&self.watch)
    }
}
