//! Medians and ratios, as a table and as JSON.

use std::{fmt::Write as _, fs, thread, time::Duration};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{subject::Kind, zone::Workload};

/// One measurement of one subject under one load. What does not apply is `None`.
#[derive(Clone, Debug)]
pub(super) struct Measurement {
    pub(super) subject: Kind,
    pub(super) workload: Workload,
    pub(super) figures: Figures,
}

/// What is measured of a subject under a load.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Figures {
    /// At saturation.
    pub(super) replies_per_second: f64,
    /// Share of replies with the response code asked for, 0 to 1.
    pub(super) right: f64,
    /// Nanoseconds per packet, where an XDP program ran.
    pub(super) program_ns: Option<f64>,
    /// Replies for each second of processor time of the server: its processes and its program.
    pub(super) per_processor_second: Option<f64>,
    /// Octets of its processes and maps.
    pub(super) memory: Option<f64>,
    /// Microseconds at half load: median, 99 % and 99.9 %.
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
    pub(super) p999: Option<f64>,
    /// Answers per second to dnsperf.
    pub(super) dnsperf: Option<f64>,
    /// Microseconds that dnsperf waited, in the mean.
    pub(super) dnsperf_latency: Option<f64>,
}

/// All measurements of a run.
#[derive(Default)]
pub(super) struct Report {
    measurements: Vec<Measurement>,
    missing: Vec<(Kind, String)>,
}

/// The medians of one subject under one load.
pub(super) struct Row {
    pub(super) subject: Kind,
    pub(super) workload: Workload,
    pub(super) figures: Figures,
    /// Replies per second as a share of the reflector's.
    pub(super) of_reflector: Option<f64>,
    /// Replies per second as a multiple of NSD's.
    pub(super) of_nsd: Option<f64>,
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

    /// Subjects that could not be measured, and the first line of why.
    pub(super) fn unmeasured(&self) -> impl Iterator<Item = (Kind, &str)> {
        self.missing
            .iter()
            .map(|(kind, reason)| (*kind, reason.lines().next().unwrap_or_default()))
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

    /// A row for each load and subject that was measured, in their order.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for workload in Workload::ALL {
            for subject in Kind::ALL {
                if let Some(figures) = self.medians(subject, workload) {
                    let share = |other| {
                        let base = self.medians(other, workload)?.replies_per_second;
                        (base > 0.0).then(|| figures.replies_per_second / base)
                    };
                    rows.push(Row {
                        subject,
                        workload,
                        of_reflector: share(Kind::Reflector),
                        of_nsd: share(Kind::Nsd),
                        figures,
                    });
                }
            }
        }
        rows
    }

    fn medians(&self, subject: Kind, workload: Workload) -> Option<Figures> {
        let of: Vec<&Figures> = self
            .measurements
            .iter()
            .filter(|one| one.subject == subject && one.workload == workload)
            .map(|one| &one.figures)
            .collect();
        let median = |value: &dyn Fn(&Figures) -> Option<f64>| {
            median(of.iter().filter_map(|one| value(one)).collect())
        };
        Some(Figures {
            replies_per_second: median(&|one| Some(one.replies_per_second))?,
            right: median(&|one| Some(one.right))?,
            program_ns: median(&|one| one.program_ns),
            per_processor_second: median(&|one| one.per_processor_second),
            memory: median(&|one| one.memory),
            p50: median(&|one| one.p50),
            p99: median(&|one| one.p99),
            p999: median(&|one| one.p999),
            dnsperf: median(&|one| one.dnsperf),
            dnsperf_latency: median(&|one| one.dnsperf_latency),
        })
    }

    /// The table for people.
    pub(super) fn table(&self) -> String {
        let mut text = String::from("\n");
        let _ = writeln!(
            text,
            "{}",
            COLUMNS.map(|(name, width)| pad(name, width)).join(" ")
        );
        for row in self.rows() {
            let cells = row.cells();
            let line: Vec<String> = cells
                .iter()
                .zip(COLUMNS)
                .map(|(cell, (_, width))| pad(cell, width))
                .collect();
            let _ = writeln!(text, "{}", line.join(" "));
        }
        for (subject, reason) in self.unmeasured() {
            let _ = writeln!(text, "{subject}: not measured: {reason}");
        }
        text
    }

    /// The same for programs.
    pub(super) fn json(&self) -> Value {
        let rows: Vec<_> = self
            .rows()
            .iter()
            .map(|row| {
                let figures = &row.figures;
                json!({
                    "load": row.workload.to_string(),
                    "subject": row.subject.to_string(),
                    "replies_per_second": figures.replies_per_second.round(),
                    "right_share": figures.right,
                    "program_ns_per_packet": figures.program_ns,
                    "replies_per_server_processor_second": figures.per_processor_second,
                    "memory_octets": figures.memory,
                    "latency_p50_us": figures.p50,
                    "latency_p99_us": figures.p99,
                    "latency_p999_us": figures.p999,
                    "dnsperf_answers_per_second": figures.dnsperf,
                    "dnsperf_mean_latency_us": figures.dnsperf_latency,
                    "replies_of_reflector": row.of_reflector,
                    "replies_of_nsd": row.of_nsd,
                })
            })
            .collect();
        let missing: Vec<_> = self
            .unmeasured()
            .map(|(kind, reason)| json!({ "subject": kind.to_string(), "reason": reason }))
            .collect();
        json!({ "results": rows, "missing": missing })
    }
}

/// Names and widths of the table's columns; a negative width is aligned to the left.
pub(super) const COLUMNS: [(&str, isize); 12] = [
    ("load", -14),
    ("subject", -22),
    ("replies/s", 10),
    ("right", 7),
    ("ns/packet", 9),
    ("per CPU-s", 10),
    ("p50 us", 8),
    ("p99 us", 8),
    ("p99.9 us", 8),
    ("MiB", 7),
    ("of reflector", 12),
    ("x NSD", 6),
];

fn pad(text: &str, width: isize) -> String {
    let octets = width.unsigned_abs();
    match width < 0 {
        true => format!("{text:<octets$}"),
        false => format!("{text:>octets$}"),
    }
}

impl Row {
    /// The texts of [`COLUMNS`].
    pub(super) fn cells(&self) -> [String; 12] {
        let figures = &self.figures;
        let number = |value: Option<f64>, digits: usize| {
            value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
        };
        [
            self.workload.to_string(),
            self.subject.to_string(),
            number(Some(figures.replies_per_second), 0),
            if self.subject.is_reflector() {
                "-".to_owned()
            } else {
                format!("{:.1}%", figures.right * 100.0)
            },
            number(figures.program_ns, 0),
            number(figures.per_processor_second, 0),
            number(figures.p50, 0),
            number(figures.p99, 0),
            number(figures.p999, 0),
            number(figures.memory.map(mebibytes), 0),
            number(self.of_reflector, 2),
            number(self.of_nsd, 2),
        ]
    }
}

/// Octets as mebibytes.
pub(super) fn mebibytes(octets: f64) -> f64 {
    octets / f64::from(1 << 20)
}

/// A time as microseconds.
pub(super) fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
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
pub(super) fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease");
    let processors = read("/proc/cpuinfo");
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let count = thread::available_parallelism().map_or(1, usize::from);
    // A host's own suffix says nothing to a reader.
    let release = release.trim().split('-').next().unwrap_or_default();
    format!("Linux {release}, {count} x {model}")
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
                workload: Workload::Hot,
                figures: Figures {
                    replies_per_second: replies,
                    right: 1.0,
                    ..Figures::default()
                },
            });
        }
        let rows = report.rows();
        let kernel = rows.iter().find(|row| row.subject == Kind::Kernel).unwrap();
        assert_eq!(kernel.of_reflector, Some(0.9));
        assert_eq!(kernel.of_nsd, Some(3.0));
        let table = report.table();
        assert!(table.lines().all(|line| line.len() < 160), "{table}");
    }
}
