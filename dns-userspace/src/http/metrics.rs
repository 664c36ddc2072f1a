//! `/metrics`: the daemon's counts in the text format of Prometheus, with names that are those of
//! CoreDNS but for the prefix. Every set of labels is bounded by this program; names and addresses
//! of clients are never labels.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

mod forward;

use super::process::Process;
use crate::daemon::Measures;
use crate::mesos::Defect;
use crate::server::Totals;
use dns_common::Verdict;

/// Before every name but those of the process.
const PREFIX: &str = "mesos_xdns";
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Names and values.
type Labels = Vec<(&'static str, String)>;

pub(super) fn page(measures: &Measures) -> Response {
    match text(measures) {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The page. It is made anew for each request from counts that are kept elsewhere.
fn text(measures: &Measures) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    let mut page = Page(registry.sub_registry_with_prefix(PREFIX));
    page.gauge(
        "build_info",
        "Always 1; the version of this program",
        [(vec![("version", measures.status.version.clone())], 1.0)],
    );
    dns(&mut page, measures);
    kernel(&mut page, measures);
    zones(&mut page, measures);
    let transfer = measures.status.transfer.iter();
    page.counter(
        "transfer_events",
        "Zone transfers, notices, and what was refused, by kind",
        transfer.map(|(name, count)| (vec![("kind", name.clone())], *count)),
    );
    mesos(&mut page, measures);
    page.gauge(
        "config_last_reload_success",
        "1 if the configuration was taken when it was read last",
        [(vec![], f64::from(u8::from(measures.reload_succeeded)))],
    );
    process(&mut Page(&mut registry), &Process::read());
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// Where families are put. One without labels has one value.
struct Page<'r>(&'r mut Registry);

impl Page<'_> {
    fn gauge(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in values {
            if labels.is_empty() {
                let gauge = Gauge::<f64, AtomicU64>::default();
                gauge.set(value);
                return self.0.register(name, help, gauge);
            }
            family.get_or_create(&labels).set(value);
        }
        self.0.register(name, help, family);
    }

    /// The name is given without its `_total`.
    fn counter(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in values {
            if labels.is_empty() {
                let counter = Counter::<u64>::default();
                counter.inc_by(value);
                return self.0.register(name, help, counter);
            }
            family.get_or_create(&labels).inc_by(value);
        }
        self.0.register(name, help, family);
    }
}

fn dns(page: &mut Page<'_>, measures: &Measures) {
    let xdp = &measures.status.xdp;
    let paths = || measures.server.iter().map(|(path, totals)| (*path, totals));
    let with_xdp = |value: fn(&Totals) -> u64, kernel: u64| {
        let of_server = paths().map(move |(path, totals)| {
            (
                vec![("proto", path.to_owned()), ("path", path.to_owned())],
                value(totals),
            )
        });
        let of_kernel = (
            vec![("proto", "udp".to_owned()), ("path", "xdp".to_owned())],
            kernel,
        );
        of_server.chain([of_kernel]).collect::<Vec<_>>()
    };
    page.counter(
        "dns_requests",
        "Queries, by where they were answered",
        with_xdp(|totals| totals.queries, xdp.answered),
    );
    let of_server = paths().flat_map(|(path, totals)| {
        totals.rcodes.iter().enumerate().map(move |(code, count)| {
            (
                vec![("rcode", rcode(code)), ("path", path.to_owned())],
                *count,
            )
        })
    });
    let verdict = |of: Verdict| -> u64 {
        let programs = [&xdp.verdicts, &xdp.second_verdicts].into_iter();
        programs.filter_map(|one| one.get(of.name())).sum()
    };
    let good = [
        Verdict::Answered,
        Verdict::NoData,
        Verdict::Truncated,
        Verdict::Slipped,
    ]
    .map(verdict);
    let of_kernel = [
        (rcode(0), good.iter().sum()),
        (rcode(3), verdict(Verdict::NxDomain)),
        (rcode(16), verdict(Verdict::BadVersion)),
    ]
    .map(|(code, count)| (vec![("rcode", code), ("path", "xdp".to_owned())], count));
    page.counter(
        "dns_responses",
        "Responses, by code and by where they were made",
        sum(of_server.chain(of_kernel)),
    );
    let by_path = |value: fn(&Totals) -> u64| {
        paths().map(move |(path, totals)| (vec![("path", path.to_owned())], value(totals)))
    };
    page.counter(
        "dns_response_bytes",
        "Octets of responses of user space",
        by_path(|totals| totals.octets_out),
    );
    page.counter(
        "dns_ignored",
        "Messages that are no queries and got no response",
        by_path(|totals| totals.ignored),
    );
    page.counter(
        "dns_unsent",
        "Responses that the kernel did not take",
        by_path(|totals| totals.unsent),
    );
    for (name, help, value) in [
        (
            "dns_overflowed",
            "Datagrams that the kernel dropped because no worker took them in time",
            (|totals| totals.overflowed) as fn(&Totals) -> u64,
        ),
        (
            "dns_prohibited",
            "Queries refused because the client is not among those allowed",
            |totals| totals.prohibited,
        ),
        (
            "dns_limited",
            "Queries without response because the prefix of the client has had its share",
            |totals| totals.limited,
        ),
        (
            "dns_slipped",
            "Queries beyond the share that were told to come back over TCP or with a cookie",
            |totals| totals.slipped,
        ),
        ("dns_connections", "Connections taken in", |totals| {
            totals.connections
        }),
        (
            "dns_connections_turned_away",
            "Connections closed at once because there were too many",
            |totals| totals.turned_away,
        ),
    ] {
        let of_kernel = match name {
            "dns_limited" => Some(Verdict::Limited),
            "dns_slipped" => Some(Verdict::Slipped),
            _ => None,
        };
        let of_kernel = of_kernel.map(|one| (vec![("path", "xdp".to_owned())], verdict(one)));
        page.counter(name, help, by_path(value).chain(of_kernel));
    }
    page.counter(
        "panics",
        "Queries whose answering failed and was cut short; must stay 0",
        by_path(|totals| totals.panics),
    );
    page.counter(
        "forward_requests",
        "Queries handed to the forwarder",
        by_path(|totals| totals.forwarded),
    );
    page.counter(
        "forward_refused",
        "Queries answered SERVFAIL because too many were being forwarded",
        by_path(|totals| totals.shed),
    );
    if let Some(readout) = &measures.forwarder {
        forward::forward(page, readout);
    }
}

fn kernel(page: &mut Page<'_>, measures: &Measures) {
    let xdp = &measures.status.xdp;
    page.counter(
        "xdp_verdicts",
        "Packets that the XDP program saw, or TC without it, by what became of them",
        by_verdict(&xdp.verdicts),
    );
    page.counter(
        "tc_verdicts",
        "Packets that the XDP program passed and the TC program behind it answered or dropped",
        by_verdict(&xdp.second_verdicts),
    );
    page.counter(
        "xdp_responses",
        "Responses that the kernel made, by type and code",
        xdp.responses.iter().flat_map(|(rtype, by_code)| {
            by_code.iter().map(move |(code, count)| {
                let labels = vec![("type", rtype.clone()), ("rcode", code.clone())];
                (labels, *count)
            })
        }),
    );
    let modes = ["native", "generic", "tc", "off"];
    page.gauge(
        "xdp_attached",
        "1 for the mode in which an interface is served",
        xdp.interfaces.iter().flat_map(|(interface, how)| {
            // What is no mode is a problem, and the interface is not served.
            let mode = if modes.contains(&how.as_str()) {
                how
            } else {
                "off"
            };
            modes.map(|one| {
                let labels = vec![("interface", interface.clone()), ("mode", one.to_owned())];
                (labels, f64::from(u8::from(one == mode)))
            })
        }),
    );
    for (name, help, value) in [
        (
            "answers_entries",
            "Names that the kernel answers",
            xdp.names,
        ),
        (
            "answers_capacity",
            "Names that the kernel has room for",
            xdp.capacity,
        ),
        (
            "answers_left_out",
            "Names left to user space because the kernel has no room",
            xdp.left_out,
        ),
    ] {
        page.gauge(name, help, [(vec![], as_f64(value))]);
    }
}

fn by_verdict(
    counts: &BTreeMap<String, u64>,
) -> impl Iterator<Item = (Vec<(&'static str, String)>, u64)> {
    counts
        .iter()
        .map(|(verdict, count)| (vec![("verdict", verdict.clone())], *count))
}

fn zones(page: &mut Page<'_>, measures: &Measures) {
    let status = &measures.status;
    page.gauge(
        "snapshot_names",
        "Names in all zones, empty non-terminals included",
        [(vec![], as_f64(status.names))],
    );
    page.gauge(
        "snapshot_serial",
        "Serial of each zone that is served",
        status
            .zones
            .iter()
            .map(|zone| (vec![("zone", zone.apex.clone())], f64::from(zone.serial))),
    );
    page.gauge(
        "snapshot_age_seconds",
        "Time since Mesos confirmed what is served",
        status.mesos.state_age_seconds.map(|age| (vec![], age)),
    );
    page.0.register(
        "publish_duration_seconds",
        "Time from a state that changed to its being served",
        measures.publish_duration.clone(),
    );
    page.gauge(
        "state_left_out",
        "Parts of the present state without records of their own, by reason",
        Defect::ALL.iter().map(|&reason| {
            let labels = vec![("reason", reason.as_str().to_owned())];
            (labels, as_f64(measures.left_out.count(reason)))
        }),
    );
}

fn mesos(page: &mut Page<'_>, measures: &Measures) {
    let mesos = &measures.status.mesos;
    page.gauge(
        "mesos_connected",
        "1 if the last fetch of the state succeeded",
        [(
            vec![],
            f64::from(u8::from(
                mesos.failures_in_a_row == 0 && mesos.successes > 0,
            )),
        )],
    );
    page.counter(
        "mesos_fetches",
        "Fetches of the state, by their end",
        [("success", mesos.successes), ("failure", mesos.failures)]
            .map(|(result, count)| (vec![("result", result.to_owned())], count)),
    );
    page.counter(
        "leader_changes",
        "Changes of the leading master",
        [(vec![], measures.leader_changes)],
    );
}

fn process(page: &mut Page<'_>, process: &Process) {
    if let Some(cpu) = process.cpu_seconds {
        let counter = Counter::<f64, AtomicU64>::default();
        counter.inc_by(cpu);
        page.0.register(
            "process_cpu_seconds",
            "User and system time of the process",
            counter,
        );
    }
    let octets = process.resident_octets.map(as_f64);
    let descriptors = process.open_descriptors.map(as_f64);
    for (name, help, value) in [
        (
            "process_resident_memory_bytes",
            "Memory of the process in RAM",
            octets,
        ),
        ("process_open_fds", "Descriptors in use", descriptors),
        (
            "process_start_time_seconds",
            "Unix time at which the process started",
            process.start_seconds,
        ),
    ] {
        if let Some(value) = value {
            page.gauge(name, help, [(vec![], value)]);
        }
    }
}

/// The codes that CoreDNS names, and `other`.
fn rcode(code: usize) -> String {
    let names = [
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED",
    ];
    let named = match code {
        16 => Some(&"BADVERS"),
        23 => Some(&"BADCOOKIE"),
        code => names.get(code),
    };
    (*named.unwrap_or(&"other")).to_owned()
}

/// Adds up values with the same labels, so that several codes can be `other`.
fn sum(values: impl IntoIterator<Item = (Labels, u64)>) -> std::collections::BTreeMap<Labels, u64> {
    let mut sums = std::collections::BTreeMap::new();
    for (labels, value) in values {
        *sums.entry(labels).or_default() += value;
    }
    sums
}

#[expect(
    clippy::cast_precision_loss,
    reason = "gauges are floating in the format"
)]
const fn as_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::forwarder::{Readout, UpstreamReadout};
    use crate::server::counters::RCODES;

    fn sample() -> Measures {
        let mut measures = Measures::default();
        let totals = Totals {
            queries: 7,
            rcodes: [1; RCODES],
            ..Totals::default()
        };
        measures.server = vec![("udp", totals), ("tcp", totals)];
        measures.status.xdp.interfaces = BTreeMap::from([("eth0".to_owned(), "native".to_owned())]);
        for verdict in Verdict::ALL {
            measures
                .status
                .xdp
                .verdicts
                .insert(verdict.name().to_owned(), 3);
        }
        measures.status.xdp.responses = BTreeMap::from([(
            "AAAA".to_owned(),
            BTreeMap::from([("NXDOMAIN".to_owned(), 4)]),
        )]);
        measures.status.zones.push(crate::daemon::ZoneStatus {
            apex: "mesos.".to_owned(),
            serial: 5,
            complete: true,
        });
        measures.status.mesos.state_age_seconds = Some(1.5);
        measures.forwarder = Some(Readout {
            upstreams: vec![UpstreamReadout {
                address: "192.0.2.1:53".parse().unwrap(),
                tries: 9,
                failures: 1,
                resent: 0,
                mismatches: 0,
                over_tcp: 0,
                rcodes: [1; crate::forwarder::RCODES],
                rtt: Some(std::time::Duration::from_millis(2)),
                is_well: true,
            }],
            ..Readout::default()
        });
        measures
    }

    /// The names of <https://prometheus.io/docs/practices/naming/>: base units, `_total` for
    /// counters only, one prefix.
    #[test]
    fn names_follow_the_rules_of_prometheus() {
        let page = text(&sample()).unwrap();
        let mut kinds = BTreeMap::new();
        for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            kinds.insert(name, kind);
            assert!(
                name.starts_with("mesos_xdns_") || name.starts_with("process_"),
                "{name}"
            );
            let letters = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.chars().all(letters), "{name}");
            // The format adds _total to the samples of a counter, so the family has none.
            for bad in ["_total", "_milliseconds", "_ms", "_octets", "_count", "__"] {
                assert!(!name.contains(bad), "{name}");
            }
        }
        assert!(kinds.len() > 20, "{kinds:?}");
        for line in page.lines().filter(|line| line.starts_with("# HELP ")) {
            assert!(line.ends_with('.'), "the library ends a help text: {line}");
        }
        for name in kinds.keys().filter(|name| kinds[*name] == "counter") {
            assert!(page.contains(&format!("\n{name}_total")), "{name}");
        }
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn labels_are_few_and_bounded() {
        let page = text(&sample()).unwrap();
        let mut series: BTreeMap<&str, usize> = BTreeMap::new();
        let mut keys = BTreeSet::new();
        assert!(!page.contains("{}"), "{page}");
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (name, rest) = line.split_once(['{', ' ']).unwrap();
            *series.entry(name).or_default() += 1;
            let labels = rest.split_once('}').map_or("", |(labels, _)| labels);
            keys.extend(labels.split("\",").filter_map(|label| {
                let (key, _) = label.split_once('=')?;
                Some(key.to_owned())
            }));
        }
        let allowed = [
            "interface",
            "le",
            "mode",
            "path",
            "proto",
            "rcode",
            "reason",
            "result",
            "to",
            "type",
            "verdict",
            "version",
            "zone",
        ];
        assert_eq!(keys.iter().map(String::as_str).collect::<Vec<_>>(), allowed);
        for (name, count) in series {
            assert!(count <= 32, "{name} has {count} series");
        }
        // 24 codes of each transport come out as 9 names, the rest added up.
        assert!(
            page.contains("dns_responses_total{rcode=\"other\",path=\"udp\"} 16\n"),
            "{page}"
        );
        assert!(
            page.contains("dns_responses_total{rcode=\"NOERROR\",path=\"xdp\"} 12\n"),
            "{page}"
        );
    }
}
