//! `top`: what a running daemon is asked for, and by whom, refreshed until Ctrl-C.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::api;
use crate::daemon::Status;
use crate::telemetry::{Ranking, Top};

/// Time between two pictures.
const REFRESH: Duration = Duration::from_secs(2);
/// A ranking needs so long to come together.
const FIRST: Duration = Duration::from_secs(6);
/// Lines of each ranking.
const LINES: usize = 10;

/// Arguments of `top`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    api: api::Target,
    /// Print one picture and end
    #[arg(long)]
    once: bool,
}

/// Draws until it is interrupted.
///
/// # Errors
/// No daemon answers.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<u8> {
    let api = arguments.api.api()?;
    let is_terminal = std::io::stdout().is_terminal() && !arguments.once;
    api::runtime()?.block_on(async {
        let mut before: Option<(Instant, Status)> = None;
        if arguments.once {
            // The sketches begin when they are asked for.
            let _: Top = api.json("/top").await?;
            before = Some((Instant::now(), api.json("/status").await?));
            tokio::time::sleep(FIRST).await;
        }
        loop {
            let status: Status = api.json("/status").await?;
            let top: Top = api.json("/top").await?;
            let now = Instant::now();
            let picture = picture(
                &status,
                before.as_ref().map(|(at, one)| (now - *at, one)),
                &top,
            );
            if is_terminal {
                // Home, then erase what is below.
                write!(out, "\x1b[H\x1b[J{picture}")?;
            } else {
                writeln!(out, "{picture}")?;
            }
            out.flush()?;
            if arguments.once {
                return Ok(0);
            }
            before = Some((now, status));
            tokio::time::sleep(REFRESH).await;
        }
    })
}

/// Everything, in lines of at most 100 columns.
fn picture(status: &Status, before: Option<(Duration, &Status)>, top: &Top) -> String {
    let mut text = String::new();
    let rate = |count: fn(&Status) -> u64| {
        let Some((elapsed, before)) = before else {
            return "-".to_owned();
        };
        let change = count(status).saturating_sub(count(before));
        format!("{:.0}", change as f64 / elapsed.as_secs_f64().max(0.001))
    };
    let _ = writeln!(
        text,
        "mesos-xdns {}, {}, {} names, xdp {}",
        status.version,
        if status.ready { "ready" } else { "not ready" },
        status.names,
        status.xdp.mode,
    );
    let _ = writeln!(
        text,
        "per second: {} answered in the kernel, {} passed up, {} asked over UDP, {} over TCP\n",
        rate(|one| one.xdp.answered),
        rate(|one| one.xdp.passed),
        rate(|one| queries(one, "udp")),
        rate(|one| queries(one, "tcp")),
    );
    let _ = writeln!(
        text,
        "{:<24}{:>12}{:>16}",
        "verdict", "per second", "in all"
    );
    let mut verdicts = verdicts(status);
    let earlier = before.map(|(_, before)| self::verdicts(before));
    verdicts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (verdict, count) in verdicts.into_iter().filter(|(_, count)| *count > 0) {
        let rate = before.map_or("-".to_owned(), |(elapsed, _)| {
            let mut earlier = earlier.iter().flatten();
            let earlier = earlier.find(|(one, _)| *one == verdict);
            let earlier = earlier.map_or(0, |(_, count)| *count);
            let change = count.saturating_sub(earlier) as f64;
            format!("{:.0}", change / elapsed.as_secs_f64().max(0.001))
        });
        let _ = writeln!(text, "{verdict:<24}{rate:>12}{count:>16}");
    }
    if top.seconds == 0.0 {
        let _ = writeln!(text, "\ngathering names and clients ...");
        return text;
    }
    let _ = writeln!(
        text,
        "\nof the last {:.0} s, by one of {} packets ({} looked at)",
        top.seconds, top.every, top.samples
    );
    rank(&mut text, "name", &top.names);
    rank(&mut text, "client", &top.clients);
    text
}

/// Packets by verdict. What the XDP program has passed for the TC program to answer stands in both.
fn verdicts(status: &Status) -> Vec<(String, u64)> {
    let first = status.xdp.verdicts.iter();
    let second = status.xdp.second_verdicts.iter();
    first
        .map(|(verdict, count)| (verdict.clone(), *count))
        .chain(second.map(|(verdict, count)| (format!("{verdict} (by TC)"), *count)))
        .collect()
}

fn rank(text: &mut String, what: &str, rankings: &[Ranking]) {
    let _ = writeln!(text, "\n{what:<72}{:>12}{:>8}", "per second", "share");
    for one in rankings.iter().take(LINES) {
        let mut of = one.of.clone();
        // A name is ASCII, with escapes for what is not.
        if of.len() > 70 {
            of.truncate(67);
            of.push_str("...");
        }
        let _ = writeln!(
            text,
            "{of:<72}{:>12.0}{:>7.1}%",
            one.per_second,
            one.share * 100.0
        );
    }
}

fn queries(status: &Status, transport: &str) -> u64 {
    let counts = status.server.get(transport);
    counts
        .and_then(|counts| counts.get("queries"))
        .copied()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_changes_over_time() {
        let mut before = Status::default();
        before.xdp.answered = 100;
        before.xdp.verdicts.insert("answered".to_owned(), 100);
        let mut now = before.clone();
        now.xdp.answered = 300;
        now.xdp.verdicts.insert("answered".to_owned(), 300);
        let ranking = |of: &str| Ranking {
            of: of.to_owned(),
            per_second: 64.0,
            share: 0.25,
        };
        let top = Top {
            seconds: 5.0,
            samples: 20,
            every: 16,
            names: vec![ranking(&format!("{}.mesos. A", "x".repeat(90)))],
            clients: vec![ranking("192.0.2.1")],
        };
        let text = picture(&now, Some((Duration::from_secs(2), &before)), &top);
        assert!(
            text.contains("per second: 100 answered in the kernel"),
            "{text}"
        );
        assert!(text.contains("192.0.2.1"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    }
}
