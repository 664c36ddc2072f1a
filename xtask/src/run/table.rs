//! The demo's live table, from what `mesos-xdns status --json` says.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write as _},
    time::{Duration, Instant},
};

use serde_json::Value;

/// On a pipe there is one line in so much time.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

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
        let mut out = String::new();
        if self.terminal {
            if self.lines > 0 {
                let _ = write!(out, "\x1b[{}A\x1b[J", self.lines);
            }
            let text = render(status, tasks, event);
            self.lines = text.lines().count();
            out.push_str(&text);
        } else {
            if self
                .printed
                .is_some_and(|last| last.elapsed() < LINE_INTERVAL)
            {
                return;
            }
            self.printed = Some(Instant::now());
            let counts: Vec<_> = counts(status)
                .into_iter()
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            let _ = writeln!(out, "{tasks} tasks; {}; last: {event}", counts.join(", "));
        }
        let _ = io::stdout().write_all(out.as_bytes());
        let _ = io::stdout().flush();
    }
}

/// The table for a terminal.
fn render(status: &Value, tasks: usize, event: &str) -> String {
    let mut text = String::new();
    if let Some(error) = status.get("error").and_then(Value::as_str) {
        let _ = writeln!(
            text,
            "no status: {}",
            error.lines().next().unwrap_or_default()
        );
    }
    let _ = writeln!(text, "{:<24} {tasks}", "tasks");
    let _ = writeln!(text, "{:<24} {event}", "last change");
    for (name, count) in counts(status) {
        let _ = writeln!(text, "{name:<24} {count}");
    }
    text
}

/// Every number and word in the status by its path, without zeros.
fn counts(status: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(status, "", &mut found);
    found
}

fn collect(value: &Value, path: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members.iter().filter(|(name, _)| *name != "error") {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path} {name}")
                };
                collect(member, &path, found);
            }
        }
        Value::Number(number) if number.as_f64() != Some(0.0) => {
            found.push((path.to_owned(), number.to_string()));
        }
        Value::String(text) => found.push((path.to_owned(), text.clone())),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn counts_are_named_by_their_path_and_zeros_left_out() {
        let status = json!({ "xdp": { "mode": "native", "answered": 3, "miss": 0 }, "names": 61 });
        let expected = [
            ("xdp mode", "native"),
            ("xdp answered", "3"),
            ("names", "61"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(counts(&status), expected);
    }
}
