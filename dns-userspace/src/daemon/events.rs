//! The event stream as the source of the Mesos domain, beside or in place of the states fetched.
//!
//! While a stream lasts, records are made from it alone. Of the states fetched meanwhile only what
//! events lack is taken: the leading master's own name for itself, and the ports of schedulers.
//! When the stream has been away for a while, the states fetched count again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::info;

use crate::mesos::State;
use crate::mesos::pid::is_name;
use crate::mesos::state::Scheduler;
use crate::mesos::state_model::{StateChange, StateChanges};
use crate::records::Settings;
use crate::records::live::LiveRecords;
use crate::zones::Name;

/// What became of the records.
pub(super) enum Outcome {
    /// All are to be published.
    Whole,
    /// Those of these names are to be published.
    Names(HashSet<Name>),
}

/// The records made from events, and what they are made of besides.
pub(super) struct Events {
    live: Option<LiveRecords>,
    /// How long a stream may be away until states fetched take its place.
    patience: Duration,
    /// Since when there is no stream, or always.
    lost_at: Option<Instant>,
    /// Where the stream comes from.
    stream_from: Option<SocketAddr>,
    /// The leading master by the last state fetched since the stream began.
    fetched_leader: Option<Box<str>>,
    schedulers: Vec<(Box<str>, Scheduler)>,
    candidates: Vec<String>,
    hosts: HashMap<String, Vec<IpAddr>>,
}

impl Events {
    /// Nothing is known yet. A stream may be away for `patience`.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            live: None,
            patience,
            lost_at: None,
            stream_from: None,
            fetched_leader: None,
            schedulers: Vec::new(),
            candidates: Vec::new(),
            hosts: HashMap::new(),
        }
    }

    /// The records, if events are what they are made from.
    pub(super) const fn live(&self) -> Option<&LiveRecords> {
        self.live.as_ref()
    }

    /// Makes the records anew by other settings.
    pub(super) fn with_settings(&self, settings: &Arc<Settings>, apex: &Name) -> Self {
        let live = self.live.as_ref();
        Self {
            live: live.map(|live| live.with_settings(Arc::clone(settings), apex.clone())),
            patience: self.patience,
            lost_at: self.lost_at,
            stream_from: self.stream_from,
            fetched_leader: self.fetched_leader.clone(),
            schedulers: self.schedulers.clone(),
            candidates: self.candidates.clone(),
            hosts: self.hosts.clone(),
        }
    }

    /// A stream has begun; its state is to follow.
    pub(super) fn subscribed(&mut self, from: Option<SocketAddr>) {
        self.lost_at = None;
        self.stream_from = from;
        self.fetched_leader = None;
    }

    /// The stream is lost.
    pub(super) fn lost(&mut self) {
        self.lost_at = Some(Instant::now());
    }

    /// Takes over what events changed.
    pub(super) fn apply(
        &mut self,
        changes: &StateChanges,
        settings: &Arc<Settings>,
        apex: &Name,
    ) -> Outcome {
        let leader = self.leader();
        if let Some(live) = &mut self.live {
            let mut names = live.apply(changes);
            if changes.resync {
                names.extend(live.set_masters(&leader, &self.candidates));
            }
            return Outcome::Names(names);
        }
        if !changes.resync {
            return Outcome::Names(HashSet::new());
        }
        info!("records of the Mesos domain come from the event stream");
        let (settings, candidates) = (Arc::clone(settings), self.candidates.clone());
        let mut live = LiveRecords::new(settings, apex.clone(), leader, candidates);
        for (host, addresses) in &self.hosts {
            live.set_host(host, addresses);
        }
        live.set_schedulers(self.schedulers.iter().cloned());
        live.apply(changes);
        self.live = Some(live);
        Outcome::Whole
    }

    /// Takes over the masters, in the order in which they are numbered.
    pub(super) fn set_candidates(&mut self, candidates: Vec<String>) -> HashSet<Name> {
        self.candidates = candidates;
        self.renew_masters()
    }

    /// Takes over addresses of host names.
    pub(super) fn set_hosts(&mut self, hosts: Vec<(String, Vec<IpAddr>)>) -> HashSet<Name> {
        let mut names = HashSet::new();
        for (host, addresses) in hosts {
            if let Some(live) = &mut self.live {
                names.extend(live.set_host(&host, &addresses));
            }
            self.hosts.insert(host, addresses);
        }
        names
    }

    /// The host names that records depend on, if those may be others than before; the addresses of
    /// all others are forgotten.
    pub(super) fn take_hosts(&mut self) -> Option<BTreeSet<String>> {
        let hosts = self.live.as_mut()?.take_hosts()?;
        self.hosts.retain(|host, _| hosts.contains(host));
        Some(hosts)
    }

    /// Takes from a fetched state what events lack. Gives the names whose records changed, or
    /// `None` if this state is to be published itself.
    pub(super) fn fetched(&mut self, state: &State) -> Option<HashSet<Name>> {
        self.fetched_leader = Some(state.leader.clone());
        let schedulers = state.frameworks.iter();
        let schedulers = schedulers.filter(|one| !one.id.is_empty());
        self.schedulers = schedulers
            .map(|one| (one.id.clone(), one.scheduler.clone()))
            .collect();
        let live = self.live.as_mut()?;
        if self.lost_at.is_some_and(|at| at.elapsed() > self.patience) {
            info!("no event stream: records of the Mesos domain come from the state fetched");
            self.live = None;
            return None;
        }
        let mut names = live.set_schedulers(self.schedulers.iter().cloned());
        names.extend(self.renew_masters());
        Some(names)
    }

    fn renew_masters(&mut self) -> HashSet<Name> {
        let leader = self.leader();
        let live = self.live.as_mut();
        live.map(|live| live.set_masters(&leader, &self.candidates))
            .unwrap_or_default()
    }

    /// The leading master as it calls itself, or else as the stream reached it.
    fn leader(&self) -> String {
        let fetched = self.fetched_leader.as_deref().map(str::to_owned);
        let reached = || self.stream_from.map(|from| format!("master@{from}"));
        fetched.or_else(reached).unwrap_or_default()
    }
}

/// The host names of a whole state whose addresses its records need.
pub(super) fn hosts_of(changes: &StateChanges) -> impl Iterator<Item = &str> {
    let all = changes.list.iter().filter(|_| changes.resync);
    let hosts = all.filter_map(|change| match change {
        StateChange::Agent(_, Some(agent)) => agent.pid.as_ref().map(|pid| &*pid.host),
        StateChange::Framework(_, Some(facts)) => Some(&*facts.hostname),
        _ => None,
    });
    hosts.filter(|host| is_name(host))
}
