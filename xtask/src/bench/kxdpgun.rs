//! The load: kxdpgun sends from AF_XDP and counts replies by response code.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use testbed::netns::Netns;

use super::{inside, zone::Workload};

/// What kxdpgun counted in one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Replies {
    pub(super) per_second: f64,
    /// Replies in all.
    pub(super) total: u64,
    /// Replies with response code NOERROR.
    no_error: u64,
    /// Replies with response code NXDOMAIN.
    name_error: u64,
}

impl Replies {
    /// The share of replies with a response code that the load asks for. Below one, something else
    /// was measured than answers.
    pub(super) fn right(&self, workload: Workload) -> f64 {
        let (no_error, name_error) = workload.expects();
        let right = u64::from(no_error) * self.no_error + u64::from(name_error) * self.name_error;
        if self.total == 0 {
            return 0.0;
        }
        right as f64 / self.total as f64
    }
}

/// Sends the queries of a file, over and over, at most `rate` a second.
///
/// # Errors
///
/// kxdpgun fails or prints something else than expected.
pub(super) fn run(
    client: &Netns,
    queries: &Path,
    server: &str,
    rate: u32,
    duration: Duration,
) -> Result<Replies> {
    let queries = queries.to_str().context("a path that is no UTF-8")?;
    let (seconds, rate) = (duration.as_secs().to_string(), rate.to_string());
    let arguments = [
        "-t", &seconds, "-Q", &rate, "-b", "32", "-i", queries, server,
    ];
    let text = inside(client, "kxdpgun", &arguments)?;
    read(&text).with_context(|| format!("reading what kxdpgun printed:\n{text}"))
}

/// Reads kxdpgun's summary.
fn read(text: &str) -> Result<Replies> {
    let replies = text
        .lines()
        .find_map(|line| line.strip_prefix("total replies:"))
        .context("no line of replies")?;
    let (total, rest) = replies
        .trim()
        .split_once(' ')
        .context("no count of replies")?;
    let per_second = rest
        .trim_start_matches(['(', ' '])
        .split(' ')
        .next()
        .context("no rate of replies")?;
    let responded = |code: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix("responded ")?.strip_prefix(code))
            .map_or(Ok(0), |count| count.trim_matches([':', ' ']).parse())
            .with_context(|| format!("count of {code}"))
    };
    Ok(Replies {
        per_second: per_second.parse().context("rate of replies")?,
        total: total.parse().context("count of replies")?,
        no_error: responded("NOERROR")?,
        name_error: responded("NXDOMAIN")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// kxdpgun 3.2.6.
    const SUMMARY: &str = "\
using interface c, XDP threads 1, UDP, native mode
thread#00: sent 1626240, received 482768
total queries:     1626240 (542080 pps)
total replies:     482768 (160922 pps) (29%)
average DNS reply size: 32 B
average Ethernet reply rate: 95579034 bps (95.58 Mbps)
responded NOERROR:   482700
responded NXDOMAIN:   68
duration: 3 s
";

    #[test]
    fn the_summary_is_read() {
        let replies = read(SUMMARY).unwrap();
        assert_eq!(replies.total, 482_768);
        assert!((replies.per_second - 160_922.0).abs() < 0.5);
        let share = |part: f64| part / 482_768.0;
        assert!((replies.right(Workload::Hot) - share(482_700.0)).abs() < 1e-9);
        assert!((replies.right(Workload::Nxdomain) - share(68.0)).abs() < 1e-9);
        assert!((replies.right(Workload::Misses) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn other_text_is_an_error() {
        assert!(read("failed to initialize XDP socket#0 (Device or resource busy)\n").is_err());
    }
}
