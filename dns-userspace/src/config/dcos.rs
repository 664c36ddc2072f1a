//! The object `dcos`: the zones, VIPs and upstreams of a DC/OS node. What is not given is as in
//! packaged DC/OS.

mod read;

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::mesos::operator_api::{OnRedirect, OperatorApiSettings};
use crate::mesos::reconnect::{ReadinessTimes, ReconnectTimes};
use crate::records::dcos::Settings;
use crate::records::dcos::cluster_id::ClusterId;
use crate::records::dcos::vip_address::{DEFAULT_IPV4_RANGE, DEFAULT_IPV6_RANGE, Range};
use crate::records::dcos::zones::{StaticRecord, TTL, static_zone};
use crate::zones::{Name, Rdata};

pub(super) use read::read;

/// Settings of a DC/OS node.
#[derive(Debug, Clone, PartialEq)]
pub struct Dcos {
    /// `enabled`: whether any of this is in effect.
    pub enabled: bool,
    /// `node_ip`: the node's own address.
    pub node_ip: Option<IpAddr>,
    /// `masters`: their addresses.
    pub masters: Vec<IpAddr>,
    /// `public_ips`: the node's public addresses.
    pub public_ips: Vec<IpAddr>,
    /// `detect_ip_public`: a program that prints the public addresses, one in each line.
    pub detect_ip_public: Option<PathBuf>,
    /// `ipv6`: whether tasks' IPv6 addresses serve VIPs.
    pub ipv6: bool,
    /// `vip_ipv4_range`.
    pub vip_ipv4_range: Range<Ipv4Addr>,
    /// `vip_ipv6_range`.
    pub vip_ipv6_range: Range<Ipv6Addr>,
    /// `vip_file`: where allocated addresses are kept over a restart.
    pub vip_file: PathBuf,
    /// Where the cluster's id comes from.
    pub cluster_id: ClusterIdSource,
    /// `static_zones`.
    pub static_zones: BTreeMap<String, Vec<StaticRecord>>,
    /// `forward_zones`: upstreams of zones; none stands for the default ones.
    pub forward_zones: BTreeMap<Name, Vec<SocketAddr>>,
    /// `upstreams`: the default ones.
    pub upstreams: Vec<SocketAddr>,
    /// `listeners`: where DNS is answered.
    pub listeners: Vec<SocketAddr>,
    /// `rest_listener`: where the REST API of dcos-net is.
    pub rest_listener: SocketAddr,
    /// `mesos_source`: where the records of the mesos-dns domain come from.
    pub mesos_source: MesosSource,
    /// `on_redirect`: what to do when a master does not lead.
    pub follows_redirects: bool,
    /// The times.
    pub times: Times,
    /// `max_record_bytes`: longest record of the event stream.
    pub max_record_octets: usize,
}

/// Where the cluster's id comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterIdSource {
    /// Nowhere: no names under `dcos.directory`.
    None,
    /// `cluster_id` or `cluster_key_file`, read with the configuration.
    Given(ClusterId),
    /// `cluster_key_node`: a ZooKeeper node of the `Zk` ensemble.
    ZooKeeper(String),
}

/// Where the records of the mesos-dns domain come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MesosSource {
    /// The event stream of the operator API.
    Events,
    /// The state document, fetched every so often.
    Poll,
    /// The event stream while there is one, else the state document.
    Auto,
}

/// Times, each with the key of its meaning; all in seconds in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// `recovered_agents_timeout_seconds`: longest wait for agents after a fail-over.
    pub recovered_agents: Duration,
    /// `settle_seconds`: wait after that, before tasks are published.
    pub settle: Duration,
    /// `reconnect_min_seconds`: shortest wait before the next attempt.
    pub reconnect_min: Duration,
    /// `reconnect_max_seconds`: longest wait before the next attempt.
    pub reconnect_max: Duration,
    /// `leader_poll_seconds`: how often a master that does not lead is asked again.
    pub leader_poll: Duration,
    /// `connect_timeout_seconds` of the operator API.
    pub connect: Duration,
    /// `response_timeout_seconds`: longest wait for the head of its response.
    pub response: Duration,
    /// `public_ip_refresh_seconds`: how often public addresses are looked for.
    pub public_ip_refresh: Duration,
    /// `upstream_timeout_seconds`: longest wait for one upstream.
    pub upstream: Duration,
    /// `forward_timeout_seconds`: longest wait for all of them.
    pub forward: Duration,
    /// `tcp_idle_timeout_seconds`: a silent connection is closed.
    pub tcp_idle: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            recovered_agents: Duration::from_secs(600),
            settle: Duration::from_secs(10),
            reconnect_min: Duration::from_secs(2),
            reconnect_max: Duration::from_secs(30),
            leader_poll: Duration::from_secs(2),
            connect: Duration::from_secs(5),
            response: Duration::from_secs(30),
            public_ip_refresh: Duration::from_secs(1800),
            upstream: Duration::from_secs(5),
            forward: Duration::from_secs(10),
            tcp_idle: Duration::from_secs(10),
        }
    }
}

/// The port of DNS.
const DNS_PORT: u16 = 53;

impl Default for Dcos {
    fn default() -> Self {
        let on = |ip: IpAddr| SocketAddr::new(ip, DNS_PORT);
        let spartan = |last| on(Ipv4Addr::new(198, 51, 100, last).into());
        Self {
            enabled: true,
            node_ip: None,
            masters: Vec::new(),
            public_ips: Vec::new(),
            detect_ip_public: None,
            ipv6: true,
            vip_ipv4_range: DEFAULT_IPV4_RANGE,
            vip_ipv6_range: DEFAULT_IPV6_RANGE,
            vip_file: "/var/lib/mesos-xdns/vips.json".into(),
            cluster_id: ClusterIdSource::None,
            static_zones: BTreeMap::new(),
            forward_zones: BTreeMap::new(),
            upstreams: vec![
                on(Ipv4Addr::new(8, 8, 8, 8).into()),
                on(Ipv4Addr::new(4, 2, 2, 1).into()),
            ],
            listeners: vec![
                spartan(1),
                spartan(2),
                spartan(3),
                on(Ipv6Addr::new(0xfd01, 0xd, 0, 0, 0, 0, 0xc633, 0x6401).into()),
            ],
            rest_listener: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 62080),
            mesos_source: MesosSource::Auto,
            follows_redirects: true,
            times: Times::default(),
            max_record_octets: 512 << 20,
        }
    }
}

impl Dcos {
    /// What the zones depend on. An id that comes from ZooKeeper is not known here.
    #[must_use]
    pub fn zone_settings(&self) -> Settings {
        Settings {
            node_ip: self.node_ip,
            masters: self.masters.clone(),
            ipv6: self.ipv6,
            vip_ipv4_range: self.vip_ipv4_range,
            vip_ipv6_range: self.vip_ipv6_range,
            cluster_id: match self.cluster_id {
                ClusterIdSource::Given(id) => Some(id),
                ClusterIdSource::None | ClusterIdSource::ZooKeeper(_) => None,
            },
            static_zones: self.static_zones.clone().into_iter().collect(),
        }
    }

    /// How the event stream is followed.
    #[must_use]
    pub fn operator_api(&self, https: bool, token: Option<String>) -> OperatorApiSettings {
        OperatorApiSettings {
            https,
            on_redirect: if self.follows_redirects {
                OnRedirect::Follow
            } else {
                OnRedirect::Wait(self.times.leader_poll)
            },
            token,
            keeps_state: self.mesos_source != MesosSource::Poll,
            response_timeout: self.times.response,
            max_record_octets: self.max_record_octets,
            reconnect: ReconnectTimes {
                shortest: self.times.reconnect_min,
                longest: self.times.reconnect_max,
            },
            readiness: ReadinessTimes {
                agents: self.times.recovered_agents,
                settle: self.times.settle,
            },
        }
    }
}

/// Every key of the object, in the order of the documentation.
pub const KEYS: [&str; 31] = [
    "enabled",
    "node_ip",
    "masters",
    "public_ips",
    "detect_ip_public",
    "ipv6",
    "vip_ipv4_range",
    "vip_ipv6_range",
    "vip_file",
    "cluster_id",
    "cluster_key_file",
    "cluster_key_node",
    "static_zones",
    "forward_zones",
    "upstreams",
    "listeners",
    "rest_listener",
    "mesos_source",
    "on_redirect",
    "max_record_bytes",
    "recovered_agents_timeout_seconds",
    "settle_seconds",
    "reconnect_min_seconds",
    "reconnect_max_seconds",
    "leader_poll_seconds",
    "connect_timeout_seconds",
    "response_timeout_seconds",
    "public_ip_refresh_seconds",
    "upstream_timeout_seconds",
    "forward_timeout_seconds",
    "tcp_idle_timeout_seconds",
];

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    /// The key with its path, `dcos.masters`.
    pub(super) key: String,
    /// The value as JSON.
    pub(super) value: String,
    pub(super) message: String,
    pub(super) accepted: &'static str,
}

impl Wrong {
    /// `message` goes on from the key.
    pub(super) fn new(
        key: &str,
        value: impl ToString,
        message: impl Display,
        accepted: &'static str,
    ) -> Self {
        Self {
            key: key.to_owned(),
            value: value.to_string(),
            message: format!("{key}{message}"),
            accepted,
        }
    }
}

/// What was read.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) dcos: Dcos,
    pub(super) wrong: Vec<Wrong>,
    /// Keys that are not known.
    pub(super) unknown: Vec<String>,
}
