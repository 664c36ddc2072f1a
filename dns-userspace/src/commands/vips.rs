//! `vips`: virtual IPs and their addresses.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use super::api::runtime;
use super::{event_file, load_config};
use crate::config::{Dcos, Surroundings, Tls};
use crate::mesos::operator_api::http_client;
use crate::records::dcos::vip_address::{Allocator, VipName};
use crate::records::dcos::vips::{VipListing, vip_domain};

/// Longest wait for the running daemon.
const DAEMON_TIMEOUT: Duration = Duration::from_secs(5);

/// Arguments of `vips`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration, in the format of mesos-dns
    #[arg(long, default_value = "config.json")]
    pub config: PathBuf,
    /// Print the address that this VIP would get, in the order given, from an empty table
    #[arg(
        long,
        num_args = 2,
        value_names = ["LABEL", "FRAMEWORK"],
        allow_hyphen_values = true,
        conflicts_with = "events"
    )]
    pub allocate: Vec<String>,
    /// List the VIPs after the last event of this file instead of those of the running daemon
    #[arg(long)]
    pub events: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Prints addresses to be, or the VIPs there are.
///
/// # Errors
/// When the configuration is not valid, the file is none of events, or the daemon does not answer.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<u8> {
    let config = load_config(&arguments.config, &Surroundings::of_this_host())?;
    let dcos = config.dcos.unwrap_or_default();
    if !arguments.allocate.is_empty() {
        let allocated = allocate(&dcos, &arguments.allocate);
        serde_json::to_writer_pretty(&mut *out, &allocated)?;
        writeln!(out)?;
        return Ok(0);
    }
    let vips = match &arguments.events {
        Some(path) => of_events(&dcos, path)?,
        None => of_daemon(&dcos)?,
    };
    let vips: Vec<Listed> = vips.into_iter().map(Listed::from).collect();
    if arguments.json {
        serde_json::to_writer_pretty(&mut *out, &vips)?;
        writeln!(out)?;
    } else {
        write_table(&vips, out)?;
    }
    Ok(0)
}

/// A VIP and the address it would get.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Allocated {
    label: String,
    framework: String,
    name: String,
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
}

/// Allocates pairs of label and framework in their order.
fn allocate(dcos: &Dcos, pairs: &[String]) -> Vec<Allocated> {
    let mut allocator = Allocator::new(dcos.vip_ipv4_range, dcos.vip_ipv6_range);
    pairs
        .chunks_exact(2)
        .filter_map(|pair| {
            let [label, framework] = pair else {
                return None;
            };
            // As in the label of a port, where a port stands behind the name.
            let name = label
                .rsplit_once(':')
                .filter(|(_, port)| port.parse::<u16>().is_ok());
            let vip = VipName {
                framework: framework.clone(),
                label: name.map_or(label.as_str(), |(name, _)| name).to_owned(),
            };
            Some(Allocated {
                name: vip_domain(&vip),
                ipv4: allocator.ipv4(&vip),
                ipv6: allocator.ipv6(&vip),
                label: vip.label,
                framework: vip.framework,
            })
        })
        .collect()
}

/// A VIP as it is listed.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Listed {
    vip: String,
    addresses: Vec<IpAddr>,
    protocol: String,
    backends: Vec<String>,
}

impl From<VipListing> for Listed {
    fn from(listing: VipListing) -> Self {
        let backends = listing.backend.iter();
        Self {
            vip: listing.vip,
            addresses: listing.addresses.unwrap_or_default(),
            protocol: listing.protocol,
            backends: backends
                .map(|backend| SocketAddr::new(backend.ip, backend.port).to_string())
                .collect(),
        }
    }
}

fn of_events(dcos: &Dcos, path: &Path) -> anyhow::Result<Vec<VipListing>> {
    let body = fs::read(path).with_context(|| format!("reading the events {}", path.display()))?;
    let zones = event_file::zones_after(&body, path, dcos)?;
    Ok(zones.vips().listing(true))
}

fn of_daemon(dcos: &Dcos) -> anyhow::Result<Vec<VipListing>> {
    let url = format!("http://{}/v1/vips?addresses", dcos.rest_listener);
    runtime()?
        .block_on(async {
            let client = http_client(&Tls::default(), DAEMON_TIMEOUT)?;
            let answer = client.get(&url).timeout(DAEMON_TIMEOUT).send().await?;
            answer.error_for_status()?.json().await
        })
        .with_context(|| format!("asking the daemon at {url}"))
}

fn write_table(vips: &[Listed], out: &mut impl Write) -> std::io::Result<()> {
    let rows: Vec<[String; 4]> = vips
        .iter()
        .map(|one| {
            let ips: Vec<String> = one.addresses.iter().map(ToString::to_string).collect();
            [
                one.vip.clone(),
                ips.join(","),
                one.protocol.clone(),
                one.backends.join(","),
            ]
        })
        .collect();
    let head = ["VIP", "ADDRESS", "PROTOCOL", "BACKENDS"].map(String::from);
    let all = || std::iter::once(&head).chain(&rows);
    let width = |text: fn(&[String; 4]) -> &String| {
        all().map(|row| text(row).len()).max().unwrap_or_default()
    };
    let (vip, ip, protocol) = (width(|r| &r[0]), width(|r| &r[1]), width(|r| &r[2]));
    for [a, b, c, d] in all() {
        let line = format!("{a:vip$}  {b:ip$}  {c:protocol$}  {d}");
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_be_match_dcos_l4lb() {
        let pairs = ["/foo", "bar", "svc1265", "marathon", "svc4703", "marathon"].map(String::from);
        let text = serde_json::to_value(allocate(&Dcos::default(), &pairs)).unwrap();
        assert_eq!(
            text[0],
            serde_json::json!({"label": "/foo", "framework": "bar",
                "name": "foo.bar.l4lb.thisdcos.directory", "ipv4": "11.138.58.156",
                "ipv6": "fd01:c::6d7:a93:e041:647f"})
        );
        let with_port = ["/foo:80".to_owned(), "bar".to_owned()];
        let with_port = serde_json::to_value(allocate(&Dcos::default(), &with_port)).unwrap();
        assert_eq!(with_port[0], text[0], "the port is no part of the name");
        assert_eq!(text[1]["ipv4"], "11.29.210.66");
        assert_eq!(text[2]["ipv4"], "11.29.210.67");
    }

    #[test]
    fn the_table_lists_vips_with_addresses_and_backends() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/dcos/tcp-and-udp.json"
        );
        let listed = of_events(&Dcos::default(), Path::new(path)).unwrap();
        let listed: Vec<Listed> = listed.into_iter().map(Listed::from).collect();
        let mut text = Vec::new();
        write_table(&listed, &mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "VIP                                      ADDRESS        PROTOCOL  BACKENDS\n\
             app.marathon.l4lb.thisdcos.directory:80  11.171.172.79  tcp       172.17.0.3:6416\n\
             app.marathon.l4lb.thisdcos.directory:80  11.171.172.79  udp       172.17.0.3:6416\n"
        );
    }
}
