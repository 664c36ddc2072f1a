//! Time per packet of the XDP program, from the kernel's own statistics.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;
use testbed::netns::Netns;

use super::inside;

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// `kernel.bpf_stats_enabled`, on until this is dropped, then as it was.
pub(super) struct Statistics {
    was: String,
}

/// How often a program ran and how long in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunTime {
    program: u64,
    nanoseconds: u64,
    runs: u64,
}

impl Statistics {
    pub(super) fn switch_on() -> Result<Self> {
        let was = fs::read_to_string(SWITCH).with_context(|| format!("reading {SWITCH}"))?;
        fs::write(SWITCH, "1").with_context(|| format!("writing {SWITCH}"))?;
        Ok(Self { was })
    }

    /// The statistics of the program on an interface, if there is one.
    pub(super) fn read(&self, namespace: &Netns, interface: &str) -> Result<Option<RunTime>> {
        let arguments = format!("-json -details link show dev {interface}");
        let links: Value = serde_json::from_str(&namespace.ip(&arguments)?)?;
        let Some(program) = links.pointer("/0/xdp/prog/id").and_then(Value::as_u64) else {
            return Ok(None);
        };
        let id = program.to_string();
        let shown = inside(namespace, "bpftool", &["--json", "prog", "show", "id", &id])?;
        let shown: Value = serde_json::from_str(&shown).context("reading bpftool's JSON")?;
        // Both are missing until the program has run once.
        let number = |name: &str| shown.get(name).and_then(Value::as_u64).unwrap_or(0);
        Ok(Some(RunTime {
            program,
            nanoseconds: number("run_time_ns"),
            runs: number("run_cnt"),
        }))
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SWITCH, self.was.trim()) {
            eprintln!("{SWITCH} stays 1, it was {}: {error}", self.was.trim());
        }
    }
}

impl RunTime {
    /// Nanoseconds per run since an earlier look at the same program.
    pub(super) fn since(self, before: Self) -> Option<f64> {
        let runs = self
            .runs
            .checked_sub(before.runs)
            .filter(|runs| *runs > 0)?;
        let nanoseconds = self.nanoseconds.checked_sub(before.nanoseconds)?;
        (self.program == before.program).then(|| nanoseconds as f64 / runs as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_per_run_and_of_one_program() {
        let at = |program, nanoseconds, runs| RunTime {
            program,
            nanoseconds,
            runs,
        };
        assert_eq!(at(7, 1_000, 20).since(at(7, 400, 10)), Some(60.0));
        assert_eq!(at(7, 400, 10).since(at(7, 400, 10)), None, "it did not run");
        assert_eq!(
            at(8, 1_000, 20).since(at(7, 400, 10)),
            None,
            "another program"
        );
    }
}
