//! The demo's live table, from what `mesos-xdns status --json` says.

use std::{
    io::{self, IsTerminal, Write as _},
    time::{Duration, Instant},
};

use serde_json::Value;

/// On a pipe there is one table in so much time.
const PIPE_INTERVAL: Duration = Duration::from_secs(5);

/// A table that is drawn over itself on a terminal.
pub(super) struct Table {
    lines: usize,
    terminal: bool,
    printed: Option<Instant>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            lines: 0,
            terminal: io::stdout().is_terminal(),
            printed: None,
        }
    }

    /// Shows the daemon's status and the cluster's.
    pub(super) fn show(&mut self, status: &Value, tasks: usize, event: &str) {
        let recent = |last: Instant| last.elapsed() < PIPE_INTERVAL;
        if !self.terminal && self.printed.is_some_and(recent) {
            return;
        }
        self.printed = Some(Instant::now());
        let mut text = render(status, tasks, event);
        let lines = text.lines().count();
        if self.terminal && self.lines > 0 {
            text = format!("\x1b[{}A\x1b[J{text}", self.lines);
        } else if !self.terminal {
            text.push('\n');
        }
        self.lines = lines;
        // A closed standard output does not end the demo.
        let _ = io::stdout().write_all(text.as_bytes());
        let _ = io::stdout().flush();
    }
}

/// The table.
fn render(status: &Value, tasks: usize, event: &str) -> String {
    let number = |path: &str| {
        let value = status.pointer(path).and_then(Value::as_u64);
        value.unwrap_or(0).to_string()
    };
    let mut lines = vec![("tasks", tasks.to_string(), format!("last change: {event}"))];
    if let Some(error) = status.get("error").and_then(Value::as_str) {
        lines.push(("status", "-".to_owned(), error.replace('\n', "; ")));
    } else {
        lines.push(("names published", number("/names"), how(status)));
        lines.push((
            "answered in the kernel",
            number("/xdp/answered"),
            answers(status),
        ));
        lines.push((
            "passed to user space",
            number("/xdp/passed"),
            passed(status),
        ));
        lines.push((
            "asked in user space",
            number("/server/udp/queries"),
            String::new(),
        ));
    }
    lines
        .iter()
        .map(|(what, count, detail)| {
            format!("{what:<24}{count:>8}   {detail}")
                .trim_end()
                .to_owned()
                + "\n"
        })
        .collect()
}

/// The verdicts that are answers from the kernel, by the names in the status.
const ANSWERED: [&str; 6] = [
    "answered",
    "nodata",
    "nxdomain",
    "truncated",
    "badvers",
    "slipped",
];

/// Whether XDP is on, and how, or why not.
fn how(status: &Value) -> String {
    let text = |path: &str| status.pointer(path).and_then(Value::as_str);
    match (text("/xdp/reason"), text("/xdp/mode")) {
        (Some(reason), _) => format!("user space only: {reason}"),
        (None, Some(mode)) => format!("XDP {mode}"),
        (None, None) => String::new(),
    }
}

/// The answers of XDP, and of TC behind it.
fn answers(status: &Value) -> String {
    let first = verdicts(status, "/xdp/verdicts", |one| ANSWERED.contains(&one));
    let second = verdicts(status, "/xdp/second_verdicts", |_| true);
    match second.is_empty() {
        true => first,
        false => format!("{first}; by TC: {second}"),
    }
}

/// What XDP has passed, and how much of it TC has kept from user space.
fn passed(status: &Value) -> String {
    let first = verdicts(status, "/xdp/verdicts", |one| !ANSWERED.contains(&one));
    let second = status.pointer("/xdp/second_verdicts");
    let second = second.and_then(Value::as_object).into_iter().flatten();
    match second.filter_map(|(_, count)| count.as_u64()).sum() {
        0u64 => first,
        taken => format!("by XDP: {first}; less {taken} by TC"),
    }
}

/// Some of the counts at a place of the status, largest first, without zeros.
fn verdicts(status: &Value, place: &str, wanted: impl Fn(&str) -> bool) -> String {
    let counts = status.pointer(place).and_then(Value::as_object);
    let mut counts: Vec<_> = counts
        .into_iter()
        .flatten()
        .filter(|(name, _)| wanted(name))
        .filter_map(|(name, count)| Some((name, count.as_u64().filter(|count| *count > 0)?)))
        .collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let counts: Vec<_> = counts
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    counts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_tells_the_kernels_answers_from_what_it_passed() {
        let status = json!({
            "names": 217,
            "xdp": {
                "mode": "native",
                "answered": 51,
                "passed": 20,
                "verdicts": { "answered": 48, "nodata": 1, "miss": 18, "resize": 2, "other_host": 2 },
                "second_verdicts": { "answered": 2, "nodata": 0 },
            },
            "server": { "udp": { "queries": 18 } },
        });
        let expected = "\
tasks                         59   last change: cache.marathon ended
names published              217   XDP native
answered in the kernel        51   answered 48, nodata 1; by TC: answered 2
passed to user space          20   by XDP: miss 18, resize 2, other_host 2; less 2 by TC
asked in user space           18
";
        assert_eq!(render(&status, 59, "cache.marathon ended"), expected);
    }

    #[test]
    fn a_daemon_that_cannot_be_asked_is_told() {
        let status = json!({ "error": "no route\nat all" });
        assert!(render(&status, 59, "none").contains("no route; at all"));
    }
}
