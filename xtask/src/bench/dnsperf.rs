//! The load as a client on sockets makes it: dnsperf waits for answers and measures their latency.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use testbed::netns::Netns;

use super::inside;

/// What dnsperf measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Answers {
    pub(super) per_second: f64,
    /// The mean.
    pub(super) latency: Duration,
}

/// Sends the queries of a file, over and over, keeping 100 of them under way.
///
/// # Errors
///
/// dnsperf fails or prints something else than expected.
pub(super) fn run(
    client: &Netns,
    queries: &Path,
    server: &str,
    duration: Duration,
) -> Result<Answers> {
    let queries = queries.to_str().context("a path that is no UTF-8")?;
    let seconds = duration.as_secs().to_string();
    let arguments = [
        "-s", server, "-d", queries, "-l", &seconds, "-c", "4", "-q", "100", "-t", "1",
    ];
    let text = inside(client, "dnsperf", &arguments)?;
    read(&text).with_context(|| format!("reading what dnsperf printed:\n{text}"))
}

fn read(text: &str) -> Result<Answers> {
    let value = |key: &str| -> Result<f64> {
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(key))
            .with_context(|| format!("no line {key}"))?;
        let number = line.split_whitespace().next().unwrap_or_default();
        number.parse().with_context(|| format!("{key} {number}"))
    };
    Ok(Answers {
        per_second: value("Queries per second:")?,
        latency: Duration::try_from_secs_f64(value("Average Latency (s):")?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// dnsperf 2.10.0.
    const SUMMARY: &str = "
Statistics:

  Queries sent:         350512
  Queries completed:    350512 (100.00%)
  Queries lost:         0 (0.00%)

  Response codes:       NOERROR 350512 (100.00%)
  Average packet size:  request 38, response 54
  Run time (s):         3.000245
  Queries per second:   116827.792397

  Average Latency (s):  0.000804 (min 0.000013, max 0.011312)
  Latency StdDev (s):   0.000442
";

    #[test]
    fn the_summary_is_read() {
        let answers = read(SUMMARY).unwrap();
        assert!((answers.per_second - 116_827.8).abs() < 0.1);
        assert_eq!(answers.latency, Duration::from_micros(804));
        assert!(read("Warning: requires at least one query\n").is_err());
    }
}
