//! Time per packet of the XDP program, from the kernel's own statistics.

use std::{fs, time::Duration};

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
        let Some(shown) = program(namespace, interface)? else {
            return Ok(None);
        };
        // Times are missing until the program has run once.
        let number = |name: &str| shown.get(name).and_then(Value::as_u64).unwrap_or(0);
        Ok(Some(RunTime {
            program: number("id"),
            nanoseconds: number("run_time_ns"),
            runs: number("run_cnt"),
        }))
    }
}

/// What bpftool shows of the program on an interface, if there is one.
fn program(namespace: &Netns, interface: &str) -> Result<Option<Value>> {
    let arguments = format!("-json -details link show dev {interface}");
    let links: Value = serde_json::from_str(&namespace.ip(&arguments)?)?;
    let Some(id) = links.pointer("/0/xdp/prog/id").and_then(Value::as_u64) else {
        return Ok(None);
    };
    bpftool(namespace, "prog", id).map(Some)
}

/// Octets of the maps of the program on an interface.
///
/// # Errors
///
/// `ip` or `bpftool` fails.
pub(super) fn map_memory(namespace: &Netns, interface: &str) -> Result<u64> {
    let program = program(namespace, interface)?.unwrap_or_default();
    let maps = program.get("map_ids").and_then(Value::as_array);
    let mut octets = 0;
    for id in maps.into_iter().flatten().filter_map(Value::as_u64) {
        let map = bpftool(namespace, "map", id)?;
        octets += map
            .get("bytes_memlock")
            .and_then(Value::as_u64)
            .unwrap_or(0);
    }
    Ok(octets)
}

fn bpftool(namespace: &Netns, kind: &str, id: u64) -> Result<Value> {
    let id = id.to_string();
    let shown = inside(namespace, "bpftool", &["--json", kind, "show", "id", &id])?;
    serde_json::from_str(&shown).context("reading bpftool's JSON")
}

impl Drop for Statistics {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SWITCH, self.was.trim()) {
            eprintln!("{SWITCH} stays 1, it was {}: {error}", self.was.trim());
        }
    }
}

impl RunTime {
    /// Runs and time since an earlier look at the same program, which ran meanwhile.
    pub(super) fn since(self, before: Self) -> Option<Self> {
        let runs = self
            .runs
            .checked_sub(before.runs)
            .filter(|runs| *runs > 0)?;
        let nanoseconds = self.nanoseconds.checked_sub(before.nanoseconds)?;
        (self.program == before.program).then_some(Self {
            program: self.program,
            nanoseconds,
            runs,
        })
    }

    /// Nanoseconds per run.
    pub(super) fn per_run(self) -> f64 {
        self.nanoseconds as f64 / self.runs.max(1) as f64
    }

    /// Time in all.
    pub(super) fn total(self) -> Duration {
        Duration::from_nanos(self.nanoseconds)
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
        let later = at(7, 1_000, 20).since(at(7, 400, 10)).unwrap();
        assert!((later.per_run() - 60.0).abs() < 1e-9);
        assert_eq!(later.total(), Duration::from_nanos(600));
        assert_eq!(at(7, 400, 10).since(at(7, 400, 10)), None, "it did not run");
        assert_eq!(
            at(8, 1_000, 20).since(at(7, 400, 10)),
            None,
            "another program"
        );
    }
}
