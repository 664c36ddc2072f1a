//! The published page: what was measured, with what, on what, and how to do it again.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    changes::Changes,
    plot::PLOTS,
    report::{COLUMNS, Report, machine, mebibytes},
    scale::Cost,
};
use crate::shell;

/// Where the page is, below the workspace.
const FOLDER: &str = "docs/performance";

/// Programs whose versions the page tells, with the flag that prints them.
const PROGRAMS: [(&str, &str); 8] = [
    ("nsd", "-v"),
    ("knotd", "-V"),
    ("named", "-v"),
    ("unbound", "-V"),
    ("dnsdist", "-V"),
    ("kxdpgun", "-V"),
    ("dnsperf", "-h"),
    ("rustc", "-V"),
];

/// All results of a run.
pub(super) struct Results {
    pub(super) report: Report,
    pub(super) scale: Vec<Cost>,
    pub(super) changes: Vec<Changes>,
    pub(super) rounds: u32,
    pub(super) seconds: u32,
    /// The daemon's own `--version`.
    pub(super) daemon: String,
}

impl Results {
    /// For programs.
    pub(super) fn json(&self) -> Value {
        let mut json = self.report.json();
        if let Some(json) = json.as_object_mut() {
            json.insert("machine".to_owned(), machine().into());
            json.insert("versions".to_owned(), versions(&self.daemon).into());
            json.insert("rounds".to_owned(), self.rounds.into());
            json.insert("seconds".to_owned(), self.seconds.into());
            json.insert(
                "scale".to_owned(),
                self.scale.iter().map(Cost::json).collect(),
            );
            let changes = self.changes.iter().map(Changes::json);
            json.insert("changes".to_owned(), changes.collect());
        }
        json
    }

    /// For people, on the terminal.
    pub(super) fn table(&self) -> String {
        let mut text = format!("\n{}\n", self.conditions());
        text.push_str(&self.report.table());
        if !self.scale.is_empty() {
            let _ = writeln!(text, "\n{}", scale_table(&self.scale));
        }
        if !self.changes.is_empty() {
            let _ = writeln!(text, "\n{}", changes_table(&self.changes));
        }
        text
    }

    /// Writes the page with its pictures and the JSON beside it.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub(super) fn publish(&self) -> Result<()> {
        let folder = shell::workspace()?.join(FOLDER);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let rows = self.report.rows();
        for plot in &PLOTS {
            plot.draw(&folder, &rows)?;
        }
        let json = format!("{:#}\n", self.json());
        write(&folder.join("results.json"), &json)?;
        write(&folder.join("README.md"), &self.page())
    }

    fn conditions(&self) -> String {
        format!(
            "{}; medians of {} rounds of {} s; BPF statistics on",
            machine(),
            self.rounds,
            self.seconds
        )
    }

    fn page(&self) -> String {
        let mut page = format!(
            "# Measured\n\n\
             Written by `cargo xtask bench --publish`, which builds what it needs, measures, and \
             writes this page, [its figures](results.json) and its pictures anew. Text and plots \
             are not edited by hand.\n\n\
             **Where:** {}.\n\n\
             **With:** {}.\n\n\
             **How:** all subjects answer the same records at one end of a veth pair between two \
             network namespaces; kxdpgun sends from AF_XDP at the other end, as fast as it can for \
             the replies per second, at half of the rate found for the latency, which a socket \
             beside it measures one query at a time. Subjects alternate, round by round. The \
             processor time of a server is that of its processes, system calls included, and of its \
             XDP program; interrupts and the driver are nobody's. A program's nanoseconds include \
             the kernel's own statistics: those of the bare reflector are mostly that.\n\n\
             **Limits:** client and server share the processors, so replies per second at \
             saturation say less than ratios in one row, and least where the server needs little: \
             there the client is the bound. veth is no network card: it copies each frame of a \
             socket and has no queues of hardware. Each server runs a worker per processor and \
             with the least it can be asked to send.\n",
            self.conditions(),
            versions(&self.daemon).join("; "),
        );
        for plot in &PLOTS {
            let _ = write!(page, "\n![{}]({})\n", plot.title, plot.file);
        }
        page.push_str("\n## Queries\n\n");
        let head: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        let _ = writeln!(page, "| {} |", head.join(" | "));
        let rule: Vec<&str> = COLUMNS
            .iter()
            .map(|(_, width)| if *width < 0 { "---" } else { "---:" })
            .collect();
        let _ = writeln!(page, "| {} |", rule.join(" | "));
        for row in self.report.rows() {
            let _ = writeln!(page, "| {} |", row.cells().join(" | "));
        }
        for (subject, reason) in self.report.unmeasured() {
            let _ = writeln!(page, "\n{subject} could not be measured: {reason}");
        }
        page.push_str("\ndnsperf, a client on sockets with 100 queries under way:\n\n");
        page.push_str(
            "| load | subject | answers/s | mean latency us |\n| --- | --- | ---: | ---: |\n",
        );
        for row in self.report.rows() {
            if let (Some(answers), Some(latency)) =
                (row.figures.dnsperf, row.figures.dnsperf_latency)
            {
                let _ = writeln!(
                    page,
                    "| {} | {} | {answers:.0} | {latency:.0} |",
                    row.workload, row.subject
                );
            }
        }
        if !self.scale.is_empty() {
            page.push_str(
                "\n## The control plane at size\n\n\
                 From the start of the daemon on a state of so many tasks, about a kilobyte each, \
                 to the last name that is served, in the kernel's maps or by user space alone: processor \
                 time and the most memory until then; the memory of the maps, and what a refresh costs that finds \
                 nothing changed, with the memory afterwards.\n\n",
            );
            page.push_str(&scale_table(&self.scale));
        }
        if !self.changes.is_empty() {
            page.push_str(
                "\n## Changed tasks\n\n\
                 From the octets of an event on the wire to the first answer that has the change, \
                 among so many other tasks of a DC/OS cluster; one after the other, then 5,000 at \
                 once.\n\n",
            );
            page.push_str(&changes_table(&self.changes));
        }
        page
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn scale_table(costs: &[Cost]) -> String {
    let mut text = String::from(
        "| tasks | answered by | state MB | names | published s | CPU s | MiB | at most | maps MiB | refresh CPU ms |\n\
         | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for cost in costs {
        let _ = writeln!(
            text,
            "| {} | {} | {:.1} | {} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0} |",
            cost.tasks,
            if cost.in_kernel {
                "kernel"
            } else {
                "user space"
            },
            cost.state_octets as f64 / 1e6,
            cost.names,
            cost.published.as_secs_f64(),
            cost.processor_time.as_secs_f64(),
            mebibytes(cost.memory as f64),
            mebibytes(cost.peak as f64),
            mebibytes(cost.map_memory as f64),
            cost.refresh.as_secs_f64() * 1e3,
        );
    }
    text
}

fn changes_table(changes: &[Changes]) -> String {
    let mut text = String::from(
        "| tasks | names | published s | MiB | p50 ms | p99 ms | longest ms | CPU ms | in kernel % \
         | at once, a second | CPU ms | MiB after |\n\
         | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    for one in changes {
        let _ = writeln!(
            text,
            "| {} | {} | {:.2} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} | {:.0} | {:.3} | {:.0} |",
            one.tasks,
            one.names,
            one.published.as_secs_f64(),
            mebibytes(one.memory as f64),
            milliseconds(one.p50),
            milliseconds(one.p99),
            milliseconds(one.longest),
            milliseconds(one.processor_time),
            one.in_kernel * 100.0,
            one.burst_per_second,
            milliseconds(one.burst_processor_time),
            mebibytes(one.memory_after as f64),
        );
    }
    text
}

/// The first line that each program prints of its version.
fn versions(daemon: &str) -> Vec<String> {
    let mut versions = vec![daemon.to_owned()];
    for (program, flag) in PROGRAMS {
        let output = Command::new(program)
            .arg(flag)
            .stdin(Stdio::null())
            .output()
            .map(|output| [output.stdout, output.stderr].concat());
        let text = String::from_utf8_lossy(&output.unwrap_or_default()).into_owned();
        let line = text
            .lines()
            .map(str::trim)
            .find(|line| line.contains(|c: char| c.is_ascii_digit()) && line.contains('.'));
        match line.and_then(version_of) {
            Some(version) => versions.push(format!("{program} {version}")),
            None => versions.push(format!("{program} absent")),
        }
    }
    versions
}

/// The first word that looks like a version.
fn version_of(line: &str) -> Option<&str> {
    line.split([' ', ','])
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_what_programs_print() {
        for (line, version) in [
            ("NSD version 4.6.1", "4.6.1"),
            ("knotd (Knot DNS), version 3.2.6", "3.2.6"),
            ("rustc 1.95.0 (59807616e 2026-04-14)", "1.95.0"),
            (
                "BIND 9.18.49-1~deb12u3-Debian (Extended Support Version)",
                "9.18.49-1~deb12u3-Debian",
            ),
        ] {
            assert_eq!(version_of(line), Some(version));
        }
    }
}
