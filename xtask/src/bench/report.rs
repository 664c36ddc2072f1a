//! Medians and ratios, as a table and as JSON.

use std::{fmt::Write as _, fs, thread};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::subject::Kind;

/// One measurement of one subject under one load.
pub(super) struct Measurement {
    pub(super) subject: Kind,
    pub(super) load: &'static str,
    pub(super) replies_per_second: f64,
    /// Share of replies with NOERROR, 0 to 1.
    pub(super) answered: f64,
    /// Nanoseconds per packet, where an XDP program ran.
    pub(super) program_ns: Option<f64>,
}

/// All measurements of a run.
#[derive(Default)]
pub(super) struct Report {
    measurements: Vec<Measurement>,
    missing: Vec<(Kind, String)>,
}

/// One line of the table.
struct Row {
    subject: Kind,
    load: &'static str,
    replies_per_second: f64,
    answered: f64,
    program_ns: Option<f64>,
    /// Replies per second as a share of the reflector's.
    of_reflector: Option<f64>,
    /// Replies per second as a multiple of NSD's.
    of_nsd: Option<f64>,
}

impl Report {
    pub(super) fn add(&mut self, measurement: Measurement) {
        self.measurements.push(measurement);
    }

    /// Notes that a subject cannot be measured.
    pub(super) fn missing(&mut self, subject: Kind, reason: String) {
        self.missing.push((subject, reason));
    }

    pub(super) fn is_missing(&self, subject: Kind) -> bool {
        self.missing.iter().any(|(missing, _)| *missing == subject)
    }

    /// Fails if something was not measured.
    pub(super) fn complete(&self) -> Result<()> {
        let missing: Vec<_> = self
            .missing
            .iter()
            .map(|(kind, _)| kind.to_string())
            .collect();
        ensure!(missing.is_empty(), "not measured: {}", missing.join(", "));
        Ok(())
    }

    fn rows(&self) -> Vec<Row> {
        let mut loads: Vec<&'static str> = self.measurements.iter().map(|m| m.load).collect();
        loads.sort_unstable();
        loads.dedup();
        let mut rows = Vec::new();
        for load in loads {
            for subject in Kind::ALL {
                let Some(replies_per_second) =
                    self.median(subject, load, |m| Some(m.replies_per_second))
                else {
                    continue;
                };
                let share = |other| {
                    let base = self.median(other, load, |m| Some(m.replies_per_second))?;
                    (base > 0.0).then(|| replies_per_second / base)
                };
                rows.push(Row {
                    subject,
                    load,
                    replies_per_second,
                    answered: self
                        .median(subject, load, |m| Some(m.answered))
                        .unwrap_or(0.0),
                    program_ns: self.median(subject, load, |m| m.program_ns),
                    of_reflector: share(Kind::Reflector),
                    of_nsd: share(Kind::Nsd),
                });
            }
        }
        rows
    }

    fn median(
        &self,
        subject: Kind,
        load: &str,
        value: impl Fn(&Measurement) -> Option<f64>,
    ) -> Option<f64> {
        let values = self
            .measurements
            .iter()
            .filter(|m| m.subject == subject && m.load == load)
            .filter_map(value);
        median(values.collect())
    }

    /// The table for people.
    pub(super) fn table(&self, rounds: u32, seconds: u32) -> String {
        let mut text = format!(
            "\n{}; medians of {rounds} rounds of {seconds} s; BPF statistics on\n\n\
             {:<14} {:<24} {:>10} {:>9} {:>8} {:>12} {:>8}\n",
            machine(),
            "load",
            "subject",
            "replies/s",
            "NOERROR",
            "ns/pkt",
            "of reflector",
            "x NSD"
        );
        let share = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.2}"));
        for row in self.rows() {
            let _ = writeln!(
                text,
                "{:<14} {:<24} {:>10.0} {:>8.1}% {:>8} {:>12} {:>8}",
                row.load,
                row.subject,
                row.replies_per_second,
                row.answered * 100.0,
                row.program_ns
                    .map_or("-".to_owned(), |ns| format!("{ns:.0}")),
                share(row.of_reflector),
                share(row.of_nsd),
            );
        }
        for (subject, reason) in &self.missing {
            let reason = reason.lines().next().unwrap_or_default();
            let _ = writeln!(text, "{subject}: not measured: {reason}");
        }
        text
    }

    /// The same for programs.
    pub(super) fn json(&self, rounds: u32, seconds: u32) -> Value {
        let rows: Vec<_> = self
            .rows()
            .iter()
            .map(|row| {
                json!({
                    "load": row.load,
                    "subject": row.subject.to_string(),
                    "replies_per_second": row.replies_per_second.round(),
                    "noerror_share": row.answered,
                    "program_ns_per_packet": row.program_ns,
                    "replies_of_reflector": row.of_reflector,
                    "replies_of_nsd": row.of_nsd,
                })
            })
            .collect();
        let missing: Vec<_> = self
            .missing
            .iter()
            .map(|(kind, reason)| json!({ "subject": kind.to_string(), "reason": reason }))
            .collect();
        json!({
            "machine": machine(),
            "rounds": rounds,
            "seconds": seconds,
            "results": rows,
            "missing": missing,
        })
    }
}

/// The middle value, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *values.get(middle.checked_sub(1)?)?;
    Some(f64::midpoint(lower, upper))
}

/// Kernel, processor and how many of it.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease");
    let processors = read("/proc/cpuinfo");
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let count = thread::available_parallelism().map_or(1, usize::from);
    format!("Linux {}, {count} x {model}", release.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn ratios_are_between_medians_under_the_same_load() {
        let mut report = Report::default();
        for (subject, replies) in [
            (Kind::Reflector, 100.0),
            (Kind::Kernel, 90.0),
            (Kind::Nsd, 30.0),
        ] {
            report.add(Measurement {
                subject,
                load: "one hot name",
                replies_per_second: replies,
                answered: 1.0,
                program_ns: None,
            });
        }
        let rows = report.rows();
        let kernel = rows.iter().find(|row| row.subject == Kind::Kernel).unwrap();
        assert_eq!(kernel.of_reflector, Some(0.9));
        assert_eq!(kernel.of_nsd, Some(3.0));
    }
}
