//! `check --against`: what a running mesos-dns serves, and what would be served in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::config::{Config, Surroundings};
use crate::daemon::look_up;
use crate::mesos::follow::{self, Follower, Observation};
use crate::mesos::state;
use crate::records::{self, report};

/// How long the running server may take for its listing.
const LISTING_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it may take to find a leading master, where the configuration sets no bound.
const DETECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// The body of `/v1/axfr`, as far as it is compared. The serial is the time of a refresh.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listing {
    #[serde(rename = "TTL")]
    ttl: u64,
    mname: String,
    rname: String,
    domain: String,
    records: Records,
}

#[derive(Debug, Deserialize)]
struct Records {
    #[serde(rename = "As")]
    a: BTreeMap<String, Vec<String>>,
    #[serde(rename = "AAAAs")]
    aaaa: BTreeMap<String, Vec<String>>,
    #[serde(rename = "SRVs")]
    srv: BTreeMap<String, Vec<String>>,
}

/// Prints the difference, sorted: `-` what only the running server has, `+` what only we would
/// have. Status 0 if there is none, 1 if there is.
///
/// # Errors
/// One of the two sides cannot be had.
pub(super) fn run(
    config: &Config,
    surroundings: &Surroundings,
    url: &str,
    out: &mut impl Write,
) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let (theirs, observation) = runtime.block_on(async {
        let theirs = listing(url).await?;
        anyhow::Ok((theirs, observation(config).await?))
    })?;
    let ours = ours(config, surroundings, &observation)?;
    let (theirs, ours) = (lines(&theirs), lines(&ours));
    // Sorted by what differs, so that two values of one name stand together.
    let mut differences: Vec<(&String, char)> = theirs
        .difference(&ours)
        .map(|line| (line, '-'))
        .chain(ours.difference(&theirs).map(|line| (line, '+')))
        .collect();
    differences.sort();
    for (line, side) in &differences {
        writeln!(out, "{side} {line}")?;
    }
    let source = &observation.fetched_from;
    if differences.is_empty() {
        writeln!(
            out,
            "{} records at {url}, the same from {source}",
            ours.len()
        )?;
        return Ok(0);
    }
    writeln!(
        out,
        "{} differences between {url} and what is made of the state of {source}; it may not have \
         fetched that state yet",
        differences.len()
    )?;
    Ok(1)
}

async fn listing(url: &str) -> Result<Listing> {
    let url = format!("{}/v1/axfr", url.trim_end_matches('/'));
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(LISTING_TIMEOUT)
        .build()?;
    let fetching = || format!("fetching {url}");
    let response = client.get(&url).send().await.with_context(fetching)?;
    let response = response
        .error_for_status()
        .with_context(|| format!("fetching {url} (EnumerationOn must be true there)"))?;
    response.json().await.with_context(fetching)
}

/// The state of the leading master, found and fetched as the daemon does it.
async fn observation(config: &Config) -> Result<Observation> {
    let settings = config.follow_settings().context("Zk")?;
    let detection = match settings.detection.zookeeper {
        Some(_) if settings.detection.timeout.is_zero() => DETECTION_TIMEOUT,
        Some(_) => settings.detection.timeout,
        // A list is asked once.
        None => Duration::ZERO,
    };
    let patience = settings.fetch.timeout + detection;
    let has_list_only = settings.detection.zookeeper.is_none();
    let mut follower = follow::follow(settings).context("asking the masters")?;
    let mut status = follower.status.clone();
    let failed = status.wait_for(|status| has_list_only && status.failures_in_a_row > 0);
    tokio::select! {
        Some(observation) = follower.observations.recv() => return Ok(observation),
        Ok(_) = failed => {}
        () = tokio::time::sleep(patience) => {}
    }
    bail!("no state from Mesos: {}", last_error(&follower))
}

fn last_error(follower: &Follower) -> String {
    match &follower.status.borrow().last_error {
        Some(failure) => failure.error.clone(),
        None => "no leading master was found".to_owned(),
    }
}

fn ours(
    config: &Config,
    surroundings: &Surroundings,
    observation: &Observation,
) -> Result<Listing> {
    let (state, _) = state::parse(&observation.body)
        .with_context(|| format!("state of {}", observation.fetched_from))?;
    let candidates: Vec<String> = observation
        .candidates
        .listed()
        .map(ToString::to_string)
        .collect();
    let settings = config.record_settings(&surroundings.addresses);
    let records = records::build(&state, &candidates, &settings, &look_up);
    let body = report::axfr_body(&records, &settings, 0, config.refresh_seconds)?;
    Ok(serde_json::from_slice(&body)?)
}

fn lines(listing: &Listing) -> BTreeSet<String> {
    let records = &listing.records;
    let mut lines = BTreeSet::from([
        format!("TTL {}", listing.ttl),
        format!("Mname {}", listing.mname),
        format!("Rname {}", listing.rname),
        format!("Domain {}", listing.domain),
    ]);
    for (rtype, names) in [
        ("A", &records.a),
        ("AAAA", &records.aaaa),
        ("SRV", &records.srv),
    ] {
        for (name, values) in names {
            lines.extend(values.iter().map(|value| format!("{name} {rtype} {value}")));
        }
    }
    lines
}
