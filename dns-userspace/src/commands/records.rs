//! `records`: what would be served from a state file, without any network.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;

use super::{event_file, explain, load_config};
use crate::config::{Config, Surroundings};
use crate::mesos::state::{self, State};
use crate::records::dcos::zones::Axfr;
use crate::records::{self, Resolve, report, to_zone};
use crate::zones::{Name, Rrset};

/// Arguments of `records`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration, in the format of mesos-dns
    #[arg(long, default_value = "config.json")]
    pub config: PathBuf,
    /// A state document of a master
    #[arg(long, required_unless_present = "events", conflicts_with = "events")]
    pub state: Option<PathBuf>,
    /// Events of the operator API: one per line, one GET_STATE answer, or RecordIO. Prints the
    /// zones of DC/OS after the last one
    #[arg(long, conflicts_with = "explain")]
    pub events: Option<PathBuf>,
    /// A captured /v1/axfr of mesos-dns, for the copy of its zone
    #[arg(long, requires = "events")]
    pub axfr: Option<PathBuf>,
    /// List the zones of DC/OS under their other names too
    #[arg(long, requires = "events")]
    pub aliases: bool,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Json)]
    pub format: Format,
    /// Say of each record of this name where it comes from, and whether the kernel answers it
    #[arg(long, value_name = "NAME", conflicts_with = "format")]
    pub explain: Option<String>,
}

/// Forms of the listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// The body of /v1/axfr of mesos-dns
    Axfr,
    /// The body of /v1/enumerate of mesos-dns
    Enumerate,
    /// A sorted list of all records that DNS serves
    Json,
}

/// Prints the listing.
///
/// # Errors
/// When the configuration is not valid, or the state is none.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<u8> {
    let surroundings = Surroundings::of_this_host();
    let config = load_config(&arguments.config, &surroundings)?;
    if let Some(events) = &arguments.events {
        let text = dcos_rows(&config, arguments, events)?;
        out.write_all(&text)?;
        writeln!(out)?;
        return Ok(0);
    }
    let Some(path) = &arguments.state else {
        bail!("--state or --events is needed");
    };
    let body = fs::read(path).with_context(|| format!("reading the state {}", path.display()))?;
    let (state, defects) =
        state::parse(&body).with_context(|| format!("reading the state {}", path.display()))?;
    if !defects.is_empty() {
        writeln!(io::stderr(), "warning: left out of the state: {defects}")?;
    }
    let addresses = &surroundings.addresses;
    let (text, defects) = match &arguments.explain {
        Some(name) => explain::text(&config, &state, name, addresses, &hosts_file)?,
        None => render(&config, &state, arguments.format, addresses, &hosts_file)?,
    };
    if !defects.is_empty() {
        writeln!(io::stderr(), "warning: without records: {defects}")?;
    }
    out.write_all(&text)?;
    writeln!(out)?;
    Ok(0)
}

/// The zones of DC/OS after the last event of a file.
fn dcos_rows(config: &Config, arguments: &Arguments, events: &Path) -> anyhow::Result<Vec<u8>> {
    if arguments.format != Format::Json {
        bail!("--events is for --format json only");
    }
    let read = |path: &Path, what: &str| {
        fs::read(path).with_context(|| format!("reading the {what} {}", path.display()))
    };
    let dcos = config.dcos.clone().unwrap_or_default();
    let mut zones = event_file::zones_after(&read(events, "events")?, events, &dcos)?;
    if let Some(path) = &arguments.axfr {
        let mirror = Axfr::from_json(&read(path, "zone transfer")?)
            .with_context(|| format!("reading the zone transfer {}", path.display()))?
            .mirror()
            .with_context(|| format!("the domain of {}", path.display()))?;
        zones.set_mirror(mirror)?;
    }
    let content = if arguments.aliases {
        zones.content()?
    } else {
        zones.own_content()?
    };
    let all = content.into_iter().flat_map(|one| {
        let authority = [Some(one.zone.soa_rrset()), one.zone.ns_rrset()];
        let apex = one.zone.apex;
        let authority = authority.into_iter().flatten();
        authority
            .map(move |rrset| (apex.clone(), rrset))
            .chain(one.records)
    });
    Ok(serde_json::to_vec_pretty(&rows(all))?)
}

/// The only name known without a network: `localhost`.
#[must_use]
pub fn hosts_file(host: &str) -> Vec<IpAddr> {
    if host.eq_ignore_ascii_case("localhost") {
        vec![Ipv4Addr::LOCALHOST.into()]
    } else {
        Vec::new()
    }
}

/// A listing and what it lacks. The candidates are the configured masters, as if there were no
/// ZooKeeper.
///
/// # Errors
/// When the domain is too long for DNS.
pub fn render(
    config: &Config,
    state: &State,
    format: Format,
    interfaces: &[IpAddr],
    resolve: Resolve<'_>,
) -> anyhow::Result<(Vec<u8>, crate::mesos::Defects)> {
    let settings = config.record_settings(interfaces);
    let set = records::build(state, &config.masters, &settings, resolve);
    let mut defects = set.defects.clone();
    let text = match format {
        Format::Axfr => {
            report::axfr_body(&set, &settings, config.soa_serial, config.refresh_seconds)?
        }
        Format::Enumerate => report::enumerate_body(state, &config.masters, &settings, resolve)?,
        Format::Json => {
            let mut zone = to_zone::zone(&settings, config.recurse_on)
                .with_context(|| format!("domain {:?}", settings.domain))?;
            zone.soa.serial = config.soa_serial;
            let content = to_zone::zone_content(&set, &settings, &zone.apex);
            defects.merge(&content.defects);
            let authority = [Some(zone.soa_rrset()), zone.ns_rrset()];
            let authority = authority.into_iter().flatten();
            let all = authority
                .map(|rrset| (zone.apex.clone(), rrset))
                .chain(content.rrsets);
            serde_json::to_vec_pretty(&rows(all))?
        }
    };
    Ok((text, defects))
}

/// One record in presentation format.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Row {
    /// The owner, with its final dot.
    pub name: String,
    /// The type.
    pub r#type: String,
    /// Seconds.
    pub ttl: u32,
    /// The data.
    pub data: String,
}

/// RRsets as rows, sorted and each once.
#[must_use]
pub fn rows(rrsets: impl Iterator<Item = (Name, Rrset)>) -> Vec<Row> {
    let mut rows: Vec<Row> = rrsets
        .flat_map(|(name, rrset)| {
            let (name, r#type, ttl) = (name.to_string(), rrset.rtype().to_string(), rrset.ttl());
            let row = |data: &crate::zones::Rdata| Row {
                name: name.clone(),
                r#type: r#type.clone(),
                ttl,
                data: data.to_string(),
            };
            rrset.data().iter().map(row).collect::<Vec<_>>()
        })
        .collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}
