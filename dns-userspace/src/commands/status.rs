//! `status`: what a running daemon says of itself.

use std::collections::BTreeMap;
use std::io::Write;

use super::api;
use crate::daemon::Status;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    api: api::Target,
    /// Print the whole account as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the account. Status 1 if the daemon is not ready.
///
/// # Errors
/// No daemon answers.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<u8> {
    let api = arguments.api.api()?;
    let status: Status = api::runtime()?.block_on(api.json("/status"))?;
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&status)?)?;
    } else {
        write!(out, "{}", text(&status))?;
    }
    Ok(u8::from(!status.ready))
}

/// The line of zone transfers, where there are any.
fn transferred(
    line: &(String, BTreeMap<String, u64>),
) -> Option<(&String, &BTreeMap<String, u64>)> {
    (!line.1.is_empty()).then_some((&line.0, &line.1))
}

/// The account in a few lines for people.
fn text(status: &Status) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10}{value}");
    };
    line("version", status.version.clone());
    line("ready", if status.ready { "yes" } else { "no" }.to_owned());
    let mesos = &status.mesos;
    let age = mesos.state_age_seconds.map_or_else(
        || "no state yet".to_owned(),
        |age| {
            format!(
                "state {age:.0} s old from {}",
                mesos.fetched_from.as_deref().unwrap_or("?")
            )
        },
    );
    if mesos.followed {
        let leader = mesos.leader.as_deref().unwrap_or("unknown");
        line("mesos", format!("leader {leader}, {age}"));
    }
    if mesos.failures_in_a_row > 0 {
        let error = mesos.last_error.as_deref().unwrap_or("?");
        line(
            "",
            format!("{} fetches failed since: {error}", mesos.failures_in_a_row),
        );
    }
    for zone in &status.zones {
        line("zone", format!("{} serial {}", zone.apex, zone.serial));
    }
    for zone in &status.secondary {
        let primary = zone.primary.as_deref().unwrap_or("no primary");
        let age = zone.age_seconds.map(|age| format!(", {age:.0} s ago"));
        let expired = if zone.expired { " expired," } else { "" };
        let age = age.unwrap_or_default();
        let mut text = format!("{}{expired} from {primary}{age}", zone.apex);
        if let Some(error) = &zone.error {
            text += &format!("; {error}");
        }
        line("secondary", text);
    }
    line("names", status.names.to_string());
    let xdp = &status.xdp;
    match &xdp.reason {
        Some(reason) => line("xdp", format!("off: {reason}")),
        None => line(
            "xdp",
            format!(
                "{}, {} of {} names, answered {}, passed {}, dropped {}",
                xdp.mode, xdp.names, xdp.capacity, xdp.answered, xdp.passed, xdp.dropped
            ),
        ),
    }
    let responses = xdp.responses.iter().flat_map(|(rtype, by_code)| {
        let counts = by_code.iter();
        counts.map(move |(code, count)| format!("{rtype} {code} {count}"))
    });
    let responses: Vec<String> = responses.collect();
    if !responses.is_empty() {
        line("", format!("responses: {}", responses.join(", ")));
    }
    for (interface, how) in &xdp.interfaces {
        let detail = xdp.details.get(interface).filter(|one| !one.is_empty());
        let detail = detail.map_or_else(String::new, |detail| format!(" ({detail})"));
        line("", format!("{interface}: {how}{detail}"));
    }
    match (&xdp.pinned, &xdp.unpinned) {
        (Some(path), _) => line("", format!("pinned in {path}")),
        (_, Some(why)) => line("", format!("not pinned: {why}")),
        (None, None) => {}
    }
    if xdp.left_out > 0 {
        line(
            "",
            format!("{} names do not fit: raise xdp.max_names", xdp.left_out),
        );
    }
    let transfer = ("transfer".to_owned(), status.transfer.clone());
    for (transport, counts) in status.server.iter().chain(transferred(&transfer)) {
        let counts: Vec<String> = counts
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        line(transport, counts.join(", "));
    }
    text
}
