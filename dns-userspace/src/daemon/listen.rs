//! Where the daemon listens and whom it asks, from the texts of the configuration.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZero;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::answers::Policy;
use crate::answers::cookie::{Secret, Secrets};
use crate::answers::identity::Identity;
use crate::config::{Config, Dcos, places};
use crate::forwarder;
use crate::records::dcos::aliases::{Route, route};
use crate::server::{BindError, Guard, TcpLimits, Terms};
use crate::zones::Name;

use super::dcos::Cluster;

/// Queries that may wait for upstreams at one time.
const MAX_FORWARDS: usize = 4096;
/// Where mesos-dns answers on the masters of DC/OS.
const MESOS_DNS_PORT: u16 = 61053;

/// The address of `Listener`.
///
/// # Errors
/// It is no address.
pub(super) fn listener(config: &Config) -> Result<IpAddr> {
    let text = &config.listener;
    text.parse()
        .with_context(|| format!("Listener: {text:?} is no IP address"))
}

/// What the configuration says about responses.
pub(super) fn policy(config: &Config) -> Policy {
    Policy {
        sets_truncate_bit: config.set_truncate_bit,
        minimal_any: config.server.minimal_any,
        ..Policy::default()
    }
}

/// What clients are given besides answers, and which of them.
pub(super) fn terms(config: &Config) -> Terms {
    /// For cookies where no secret is shared; the same over reloads, so that cookies stay good.
    static OWN_SECRET: LazyLock<Secret> = LazyLock::new(|| Secret(rand::random()));
    let server = &config.server;
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    let guard = Guard::new(server.allow_clients.clone(), server.rate_limit.limit());
    Terms {
        guard: Arc::new(guard),
        cookies: server.cookies.enabled.then(|| {
            if server.cookies.secrets.is_empty() {
                Secrets::Own(*OWN_SECRET)
            } else {
                Secrets::Shared(server.cookies.secrets.clone())
            }
        }),
        badcookie: server.cookies.badcookie,
        nsid: server.nsid.clone().into_bytes(),
        identity: Identity {
            version: text(&server.version),
            id: text(&server.id),
        },
    }
}

/// Bounds of TCP.
pub(super) fn tcp_limits(config: &Config) -> TcpLimits {
    let tcp = &config.server.tcp;
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let seconds = |number: u32| Duration::from_secs(number.into());
    TcpLimits {
        connections: count(tcp.connections),
        per_client: count(tcp.per_client),
        first_query: seconds(tcp.first_query_seconds),
        idle: seconds(tcp.idle_seconds),
        ..TcpLimits::default()
    }
}

/// UDP threads for each address.
pub(super) fn udp_workers(config: &Config) -> usize {
    match usize::try_from(config.server.udp_workers) {
        Ok(0) | Err(_) => std::thread::available_parallelism().map_or(1, NonZero::get),
        Ok(workers) => workers,
    }
}

/// The addresses and the one port that the kernel answers at: those of the DC/OS listeners if
/// there are any, else those of `Listener`.
pub(super) fn kernel_place(
    config: &Config,
    own: &[IpAddr],
    interfaces: &[IpAddr],
) -> (Vec<IpAddr>, u16) {
    let Some((dcos, first)) =
        places::dcos(config).and_then(|dcos| Some((dcos, dcos.listeners.first()?)))
    else {
        return (own.to_vec(), config.port);
    };
    let port = first.port();
    let mut addresses = if port == config.port {
        own.to_vec()
    } else {
        Vec::new()
    };
    for listener in dcos.listeners.iter().filter(|one| one.port() == port) {
        let more = places::own_addresses(listener.ip(), interfaces);
        addresses.extend(more.iter().filter(|ip| interfaces.contains(ip)));
    }
    addresses.sort_unstable();
    addresses.dedup();
    (addresses, port)
}

/// Whether the daemon serves without a socket that cannot be had: the IPv6 side of a wildcard on a
/// host without IPv6, or a DC/OS listener whose address the host does not have.
pub(super) fn is_dispensable(config: &Config, listener: IpAddr, error: &BindError) -> bool {
    if error.address == SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), config.port) {
        return listener.is_ipv4();
    }
    let is_absent = matches!(
        error.cause.raw_os_error(),
        Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT)
    );
    let dns = places::dns_sockets(listener, config.port);
    is_absent && places::dcos_sockets(config, &dns).contains(&error.address)
}

/// Where other names are forwarded to; `None` if they are refused.
///
/// # Errors
/// An upstream is no address, or a zone no domain name.
pub(super) fn forwarder_settings(
    config: &Config,
    cluster: Option<&Arc<Cluster>>,
    own: &[SocketAddr],
) -> Result<Option<forwarder::Settings>> {
    if !config.external_on {
        return Ok(None);
    }
    if let Some((dcos, cluster)) = config.dcos.as_ref().zip(cluster) {
        return dcos_forwarder(config, dcos, cluster, own).map(Some);
    }
    Ok(Some(forwarder::Settings {
        resolvers: upstreams("Resolvers", &config.resolvers)?,
        zones: zone_upstreams(config)?.into_iter().collect(),
        timeout: Duration::from_secs(config.timeout_seconds.into()),
        max_in_flight: MAX_FORWARDS,
        manner: forwarder::Manner::default(),
        cache: config.cache,
        clock: forwarder::Clock::default(),
    }))
}

/// Upstreams by the rules of dcos-dns: two at a time, zones of the cluster never, and `.mesos` at
/// the masters where it is not ours.
fn dcos_forwarder(
    config: &Config,
    dcos: &Dcos,
    cluster: &Arc<Cluster>,
    own: &[SocketAddr],
) -> Result<forwarder::Settings> {
    let mut zones = zone_upstreams(config)?;
    for (zone, resolvers) in &dcos.forward_zones {
        let resolvers = if resolvers.is_empty() {
            &dcos.upstreams
        } else {
            resolvers
        };
        zones.insert(zone.clone(), resolvers.clone());
    }
    let is_own = |one: &SocketAddr| {
        let reaches = |own: &SocketAddr| own.ip() == one.ip() || own.ip().is_unspecified();
        own.iter()
            .any(|own| own.port() == one.port() && reaches(own))
    };
    let masters: Vec<SocketAddr> = dcos
        .masters
        .iter()
        .map(|&ip| SocketAddr::new(ip, MESOS_DNS_PORT))
        .filter(|one| !is_own(one))
        .collect();
    let mesos = Name::from_text("mesos")?;
    // Nobody else knows the names of this cluster.
    zones.retain(|zone, _| !zone.is_at_or_below(&mesos));
    let has_masters = !masters.is_empty();
    if has_masters {
        zones.insert(mesos, masters);
    }
    let at_a_time = if dcos.upstreams.len() < 3 {
        dcos.upstreams.len()
    } else {
        2
    };
    let cluster = Arc::clone(cluster);
    let fence = move |name: &Name| match route(name, cluster.id().as_ref()) {
        Route::Internal(_) => true,
        Route::Masters => !has_masters,
        Route::Forward => false,
    };
    Ok(forwarder::Settings {
        resolvers: dcos.upstreams.clone(),
        zones: zones.into_iter().collect(),
        timeout: dcos.times.upstream,
        max_in_flight: MAX_FORWARDS,
        manner: forwarder::Manner {
            overall: Some(dcos.times.forward),
            at_a_time: NonZero::new(at_a_time).unwrap_or(NonZero::<usize>::MIN),
            spreads: true,
            fence: Some(forwarder::Fence(Arc::new(fence))),
        },
        cache: config.cache,
        clock: forwarder::Clock::default(),
    })
}

/// The upstreams of `ZoneResolvers`. A zone that is there in several cases has those of all.
fn zone_upstreams(config: &Config) -> Result<BTreeMap<Name, Vec<SocketAddr>>> {
    let mut zones: BTreeMap<Name, Vec<SocketAddr>> = BTreeMap::new();
    for (zone, resolvers) in &config.zone_resolvers {
        let name = Name::from_text(zone).with_context(|| format!("ZoneResolvers: {zone:?}"))?;
        let all = zones.entry(name).or_default();
        for one in upstreams("ZoneResolvers", resolvers)? {
            if !all.contains(&one) {
                all.push(one);
            }
        }
    }
    Ok(zones)
}

fn upstreams(key: &str, texts: &[String]) -> Result<Vec<SocketAddr>> {
    let parse = |text: &String| {
        let address = places::upstream(text);
        address.with_context(|| format!("{key}: {text:?} is no address"))
    };
    texts.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_have_port_53_unless_they_say_otherwise() {
        let texts = [
            "1.1.1.1",
            "1.1.1.1:5353",
            "2001:db8::1",
            "[2001:db8::1]:5353",
        ];
        let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
        let found: Vec<String> = upstreams("Resolvers", &texts)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        let expected = [
            "1.1.1.1:53",
            "1.1.1.1:5353",
            "[2001:db8::1]:53",
            "[2001:db8::1]:5353",
        ];
        assert_eq!(found, expected);
        assert!(upstreams("Resolvers", &["dns.google".to_owned()]).is_err());
    }
    #[test]
    fn zones_are_found_in_any_case() {
        let text = r#"{"Masters": ["10.0.0.1:5050"], "Resolvers": ["192.0.2.9"], "ZoneResolvers":
            {"Corp.Example": ["192.0.2.2", "192.0.2.1"], "corp.EXAMPLE": ["192.0.2.1", "192.0.2.3"]}}"#;
        let path = std::path::Path::new("/c.json");
        let checked = crate::config::check_text(
            text.as_bytes(),
            path,
            &crate::config::Surroundings::default(),
        );
        let settings = forwarder_settings(&checked.config.unwrap(), None, &[]);
        let zones = settings.unwrap().unwrap().zones;
        let at = |last| SocketAddr::from(([192, 0, 2, last], 53));
        let name = Name::from_text("corp.example").unwrap();
        assert_eq!(zones, [(name, vec![at(2), at(1), at(3)])]);
    }
}
