//! Where the daemon listens and whom it asks, from the texts of the configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::config::Config;
use crate::forwarder;
use crate::zones::Name;

/// Queries that may wait for upstreams at one time.
const MAX_FORWARDS: usize = 4096;
const DNS_PORT: u16 = 53;

/// The address of `Listener`.
///
/// # Errors
/// It is no address.
pub(super) fn listener(config: &Config) -> Result<IpAddr> {
    let text = &config.listener;
    text.parse()
        .with_context(|| format!("Listener: {text:?} is no IP address"))
}

/// The sockets of the DNS server. The IPv4 wildcard stands for all addresses of both families.
pub(super) fn sockets(listener: IpAddr, port: u16) -> Vec<SocketAddr> {
    let mut sockets = vec![SocketAddr::new(listener, port)];
    if listener == Ipv4Addr::UNSPECIFIED {
        sockets.push(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port));
    }
    sockets
}

/// The addresses that are ours behind `listener`, out of those of all interfaces.
pub(super) fn own_addresses(listener: IpAddr, interfaces: &[IpAddr]) -> Vec<IpAddr> {
    if !listener.is_unspecified() {
        return vec![listener];
    }
    let is_v6_only = listener.is_ipv6();
    interfaces
        .iter()
        .copied()
        .filter(|one| !is_v6_only || one.is_ipv6())
        .collect()
}

/// Where other names are forwarded to; `None` if they are refused.
///
/// # Errors
/// An upstream is no address, or a zone no domain name.
pub(super) fn forwarder_settings(config: &Config) -> Result<Option<forwarder::Settings>> {
    if !config.external_on {
        return Ok(None);
    }
    let zones = config.zone_resolvers.iter().map(|(zone, resolvers)| {
        let name = Name::from_text(zone).with_context(|| format!("ZoneResolvers: {zone:?}"))?;
        Ok((name, upstreams("ZoneResolvers", resolvers)?))
    });
    Ok(Some(forwarder::Settings {
        resolvers: upstreams("Resolvers", &config.resolvers)?,
        zones: zones.collect::<Result<_>>()?,
        timeout: Duration::from_secs(config.timeout_seconds.into()),
        max_in_flight: MAX_FORWARDS,
    }))
}

fn upstreams(key: &str, texts: &[String]) -> Result<Vec<SocketAddr>> {
    let parse = |text: &String| {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>()
            .map(|ip| SocketAddr::new(ip, DNS_PORT))
            .or_else(|_| text.parse())
            .with_context(|| format!("{key}: {text:?} is no address"))
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
    fn the_wildcard_is_every_address() {
        let all: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        assert_eq!(own_addresses(Ipv4Addr::UNSPECIFIED.into(), &all), all);
        assert_eq!(own_addresses(all[0], &all), all[..1]);
        assert_eq!(own_addresses(Ipv6Addr::UNSPECIFIED.into(), &all), all[1..]);
    }
}
