//! How the daemon is doing, as `mesos-xdns status` and monitoring see it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use dns_common::{Response, Verdict};
use prometheus_client::metrics::histogram::Histogram;
use serde::{Deserialize, Serialize};

use super::pipeline::{duration_histogram, lock};
use crate::answers::Transport;
use crate::dataplane::{DataPlane, Tally};
use crate::forwarder;
use crate::mesos::events::Event;
use crate::mesos::{Defects, follow};
use crate::server::{EncryptedProtocol, Server, Totals};
use crate::transfer::{Health, Versions};
use crate::zones::{Name, Rtype, Snapshot};

use super::dcos::Cluster;

/// The daemon's own account.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Status {
    /// Of this binary.
    pub version: String,
    /// Whether the zone is known and served.
    pub ready: bool,
    /// Where records come from.
    pub mesos: Mesos,
    /// The event stream, on a DC/OS node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dcos: Option<Dcos>,
    /// What is served.
    pub zones: Vec<ZoneStatus>,
    /// Names in all zones, empty non-terminals included.
    pub names: u64,
    /// The kernel's side.
    pub xdp: Xdp,
    /// Queries that reached the server, by transport.
    pub server: BTreeMap<String, BTreeMap<String, u64>>,
    /// Zone transfers and notices since the start, where there are any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub transfer: BTreeMap<String, u64>,
    /// Zones of other servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secondary: Vec<Secondary>,
}

/// A zone of another server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Secondary {
    /// Its apex.
    pub apex: String,
    /// The serial that is held; nothing is answered without one.
    pub serial: Option<u32>,
    /// The primary that was right last.
    pub primary: Option<String>,
    /// Seconds since the serial was known to be the latest.
    pub age_seconds: Option<f64>,
    /// What went wrong last, until it goes well.
    pub error: Option<String>,
    /// Whether it became too old to be answered from.
    #[serde(default)]
    pub expired: bool,
}

/// Where records come from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Mesos {
    /// Whether masters are followed at all.
    #[serde(default)]
    pub followed: bool,
    /// The leading master, `host:port`.
    pub leader: Option<String>,
    /// The master that gave the last state.
    pub fetched_from: Option<String>,
    /// Seconds since the last state came.
    pub state_age_seconds: Option<f64>,
    /// Fetches that failed since then.
    pub failures_in_a_row: u64,
    /// The last failure, also when it is over.
    pub last_error: Option<String>,
    /// Fetches that gave a state.
    pub successes: u64,
    /// Fetches that failed.
    pub failures: u64,
}

/// The event stream of a DC/OS node, and what was made of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dcos {
    /// Whether there is a stream.
    pub subscribed: bool,
    /// Records received.
    pub messages: u64,
    /// Events among them, by type.
    #[serde(default)]
    pub events: BTreeMap<String, u64>,
    /// Attempts and streams that failed.
    pub failures: u64,
    /// Agents with a known address, as of the last heartbeat; so are the following.
    pub agents: usize,
    /// Frameworks.
    pub frameworks: usize,
    /// Tasks that are not over.
    pub tasks: usize,
    /// Tasks among them that wait for their agent or framework.
    pub waiting_tasks: usize,
    /// VIPs that wait for an address, because a range is used up; as of now.
    #[serde(default)]
    pub vips_without_address: usize,
    /// VIPs without a name in DNS: it would be too long, or nothing is left of it; as of now.
    #[serde(default)]
    pub vips_without_name: usize,
    /// The id for names under `dcos.directory`.
    pub cluster_id: Option<String>,
}

/// A zone.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ZoneStatus {
    /// Its apex.
    pub apex: String,
    /// Its serial.
    pub serial: u32,
    /// Whether its content is known.
    pub complete: bool,
}

/// The kernel's side.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Xdp {
    /// `native`, `generic`, `tc` or `off`: the best of all interfaces.
    pub mode: String,
    /// Why it is off.
    pub reason: Option<String>,
    /// Mode, or problem, of each interface.
    pub interfaces: BTreeMap<String, String>,
    /// Driver, MTU and queues of each interface, and why it is not native where that was tried.
    #[serde(default)]
    pub details: BTreeMap<String, String>,
    /// Where program and maps are pinned.
    #[serde(default)]
    pub pinned: Option<String>,
    /// Why they are not pinned, and leave with the daemon.
    #[serde(default)]
    pub unpinned: Option<String>,
    /// Names in the index.
    pub names: u64,
    /// Names that the index can hold.
    pub capacity: u64,
    /// Names left to user space because the maps are full.
    pub left_out: u64,
    /// Changes written to the maps since the start.
    pub updates: u64,
    /// Packets answered in the kernel.
    pub answered: u64,
    /// Packets passed up to user space.
    pub passed: u64,
    /// Packets of which nothing comes: those of prefixes that have had their share.
    #[serde(default)]
    pub dropped: u64,
    /// Packets by verdict of the XDP program; of the TC program where that is alone.
    pub verdicts: BTreeMap<String, u64>,
    /// Packets among those that the XDP program passed which the TC program behind it answered or
    /// dropped, by its verdict.
    #[serde(default)]
    pub second_verdicts: BTreeMap<String, u64>,
    /// Responses of both by type and code.
    #[serde(default)]
    pub responses: BTreeMap<String, BTreeMap<String, u64>>,
}

/// What the daemon counted, for monitoring.
#[derive(Debug)]
pub struct Measures {
    /// Its account.
    pub status: Status,
    /// The server's counters, by transport.
    pub server: Vec<(&'static str, Totals)>,
    /// The forwarder's, where names are forwarded.
    pub forwarder: Option<forwarder::Readout>,
    /// What the present state holds but is not served.
    pub left_out: Arc<Defects>,
    /// Changes of the leading master.
    pub leader_changes: u64,
    /// Times from a state that changed to its being served.
    pub publish_duration: Histogram,
    /// Whether the configuration was taken when it was read last.
    pub reload_succeeded: bool,
}

impl Default for Measures {
    fn default() -> Self {
        Self {
            status: Status::default(),
            server: Vec::new(),
            forwarder: None,
            left_out: Arc::default(),
            leader_changes: 0,
            publish_duration: duration_histogram(),
            reload_succeeded: true,
        }
    }
}

impl Mesos {
    pub(super) fn of(status: &follow::Status) -> Self {
        let age = |at: SystemTime| at.elapsed().unwrap_or(Duration::ZERO).as_secs_f64();
        Self {
            followed: true,
            leader: status.leader.as_ref().map(ToString::to_string),
            fetched_from: status.fetched_from.as_ref().map(ToString::to_string),
            state_age_seconds: status.last_success.map(age),
            failures_in_a_row: status.failures_in_a_row,
            last_error: status
                .last_error
                .as_ref()
                .map(|failure| failure.error.clone()),
            successes: status.counters.successes,
            failures: status.counters.failures,
        }
    }
}

impl Dcos {
    pub(super) fn of(cluster: &Cluster) -> Self {
        let stream = cluster.stream.borrow();
        Self {
            subscribed: stream.subscribed,
            messages: stream.messages,
            events: Event::KINDS
                .map(str::to_owned)
                .into_iter()
                .zip(stream.events)
                .collect(),
            failures: stream.failures,
            agents: stream.agents,
            frameworks: stream.frameworks,
            tasks: stream.tasks,
            waiting_tasks: stream.waiting_tasks,
            vips_without_address: cluster.vips_without_address.load(Ordering::Relaxed),
            vips_without_name: cluster.vips_without_name.load(Ordering::Relaxed),
            cluster_id: cluster.id().map(|id| id.to_string()),
        }
    }
}

impl Secondary {
    pub(super) fn of((apex, health): &(Name, Arc<Mutex<Health>>)) -> Self {
        let health = lock(health);
        Self {
            apex: apex.to_string(),
            serial: health.serial,
            primary: health.primary.map(|one| one.to_string()),
            age_seconds: health.refreshed.map(|at| at.elapsed().as_secs_f64()),
            error: health.error.clone(),
            expired: health.expired,
        }
    }
}

impl ZoneStatus {
    pub(super) fn of(snapshot: &Snapshot) -> Vec<Self> {
        let zones = snapshot.zones().iter();
        zones
            .map(|zone| Self {
                apex: zone.apex.to_string(),
                serial: zone.soa.serial,
                complete: zone.complete,
            })
            .collect()
    }
}

impl Xdp {
    pub(super) fn of(dataplane: &DataPlane) -> Self {
        use crate::dataplane::Mode;
        let attachments = dataplane.attachments();
        let has = |mode: Mode| attachments.iter().any(|one| one.mode == mode);
        let mode = [Mode::Native, Mode::Generic, Mode::Tc]
            .into_iter()
            .find(|mode| has(*mode))
            .unwrap_or(Mode::Off);
        let pinning = dataplane.pinning();
        let tally = dataplane.tally();
        // What the second program has taken stands among what the first one has passed.
        let second = dataplane.second_tally();
        let is_taken = |one: Verdict| one.is_response() || one.is_lost();
        let both = |is_counted: fn(Verdict) -> bool| tally.sum(is_counted) + second.sum(is_counted);
        let named = |verdicts: Vec<(Verdict, u64)>| {
            let named = verdicts.into_iter();
            named
                .map(|(verdict, count)| (verdict.name().to_owned(), count))
                .collect()
        };
        let mut second_verdicts = second.verdicts();
        second_verdicts.retain(|(verdict, _)| is_taken(*verdict));
        let occupancy = dataplane.occupancy();
        Self {
            mode: mode.name().to_owned(),
            reason: match mode {
                Mode::Off => dataplane.reason().map(|reason| reason.to_string()),
                _ => None,
            },
            interfaces: attachments
                .iter()
                .map(|one| {
                    let how = one.problem.as_deref().unwrap_or(one.mode.name());
                    (one.interface.clone(), how.to_owned())
                })
                .collect(),
            details: attachments
                .iter()
                .map(|one| (one.interface.clone(), one.detail.clone()))
                .collect(),
            pinned: pinning.path.map(|path| path.display().to_string()),
            unpinned: pinning.problem,
            names: occupancy.names as u64,
            capacity: occupancy.capacity as u64,
            left_out: occupancy.left_out as u64,
            updates: occupancy.updates,
            answered: both(Verdict::is_response),
            passed: tally
                .sum(|one| !is_taken(one))
                .saturating_sub(second.sum(is_taken)),
            dropped: both(Verdict::is_lost),
            verdicts: named(tally.verdicts()),
            second_verdicts: named(second_verdicts),
            responses: by_type_and_code(&[tally, second]),
        }
    }
}

/// Responses of the kernel; types that few ask for are `other`.
fn by_type_and_code(tallies: &[Tally]) -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut responses = BTreeMap::<String, BTreeMap<String, u64>>::new();
    for (Response { verdict, rtype }, count) in tallies.iter().flat_map(Tally::responses) {
        let rtype = match Rtype(rtype) {
            Rtype::A
            | Rtype::AAAA
            | Rtype::SRV
            | Rtype::PTR
            | Rtype::CNAME
            | Rtype::NS
            | Rtype::SOA
            | Rtype::TXT
            | Rtype::DNAME => Rtype(rtype).to_string(),
            _ => "other".to_owned(),
        };
        let code = match verdict {
            Verdict::NxDomain => "NXDOMAIN",
            Verdict::BadVersion => "BADVERS",
            _ => "NOERROR",
        };
        let by_code = responses.entry(rtype).or_default();
        *by_code.entry(code.to_owned()).or_default() += count;
    }
    responses
}

/// The server's counters, by transport.
pub(super) type ServerTotals = Vec<(&'static str, Totals)>;

/// What the server counted.
pub(super) fn totals(server: Option<&Server>) -> ServerTotals {
    let Some(server) = server else {
        return Vec::new();
    };
    let plain = [("udp", Transport::Udp), ("tcp", Transport::Tcp)];
    let plain = plain.map(|(name, transport)| (name, server.totals(transport)));
    let encrypted = EncryptedProtocol::ALL.into_iter();
    let encrypted = encrypted.filter_map(|one| Some((one.name(), server.totals_encrypted(one)?)));
    plain.into_iter().chain(encrypted).collect()
}

/// What was transferred.
pub(super) fn transferred(versions: Option<&Versions>) -> BTreeMap<String, u64> {
    let totals = versions.map(|one| one.counters().totals());
    let totals = totals.into_iter().flatten();
    totals
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}

/// The same by name.
pub(super) fn named(totals: &[(&'static str, Totals)]) -> BTreeMap<String, BTreeMap<String, u64>> {
    let of_one = |totals: &Totals| {
        let named = totals.named().into_iter();
        named
            .map(|(name, count)| (name.to_owned(), count))
            .collect()
    };
    totals
        .iter()
        .map(|(transport, totals)| ((*transport).to_owned(), of_one(totals)))
        .collect()
}
