//! `/metrics`: the daemon's counts in the text format of OpenMetrics or of Prometheus, with names
//! that are those of CoreDNS but for the prefix. Every set of labels is bounded by this program;
//! names and addresses of clients are never labels. `docs/metrics.md` lists them all.

use std::collections::BTreeMap;
use std::fmt;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;

mod dns;
mod forward;
mod page;
mod text_format;

use self::page::{Labels, Page};
use super::process::Process;
use crate::answers::Rcode;
use crate::daemon::Measures;
use crate::mesos::Defect;
use crate::server::breakdown::{CODES, place_of_code};

/// Before every name but those of the process.
const PREFIX: &str = "mesos_xdns";

/// Whether a client prefers OpenMetrics to the text format of Prometheus: as Prometheus does, and as
/// curl and promtool do not.
pub(super) fn wants_openmetrics(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(header::ACCEPT).iter();
    let accept: Vec<&str> = accept.filter_map(|one| one.to_str().ok()).collect();
    let weight = |kind: &str| {
        let ranges = accept.iter().flat_map(|one| one.split(','));
        let weights = ranges.filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let is_kind = parts.next()?.eq_ignore_ascii_case(kind);
            // RFC 9110, section 12.4.2.
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
            is_kind.then_some(weight.unwrap_or(1.0))
        });
        weights.reduce(f32::max)
    };
    // The most specific range counts (RFC 9110, section 12.5.1); one for everything asks for nothing.
    let openmetrics = weight("application/openmetrics-text").unwrap_or(0.0);
    let text = ["text/plain", "text/*", "*/*"].into_iter().find_map(weight);
    openmetrics > 0.0 && openmetrics >= text.unwrap_or(0.0)
}

pub(super) fn openmetrics_page(measures: Measures) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    page(text(measures), content_type)
}

pub(super) fn text_page(measures: Measures) -> Response {
    let text = text(measures).map(|text| text_format::of(&text));
    page(text, "text/plain; version=0.0.4; charset=utf-8")
}

fn page(text: Result<String, fmt::Error>, content_type: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::VARY, "accept"),
    ];
    match text {
        Ok(text) => (headers, text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The page. It is made anew for each request from counts that are kept elsewhere.
fn text(measures: Measures) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    let failures = measures.forwarder.as_ref().map(forward::Failures::of);
    let prefixed = registry.sub_registry_with_prefix(PREFIX);
    prefixed.register_collector(Box::new(measures));
    if let Some(failures) = failures {
        registry.register_collector(Box::new(failures));
    }
    registry.register_collector(Box::new(Process::read()));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

impl Collector for Measures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        page.gauge(
            "build_info",
            "Always 1; the version of this program",
            [(vec![("version", self.status.version.clone())], 1.0)],
        )?;
        dns::dns(&mut page, self)?;
        if let Some(readout) = &self.forwarder {
            forward::forward(&mut page, readout)?;
        }
        kernel(&mut page, self)?;
        zones(&mut page, self)?;
        let transfer = self.status.transfer.iter();
        page.counter(
            "transfer_events",
            "Zone transfers, notices, and what was refused, by kind",
            transfer.map(|(name, count)| (vec![("kind", name.clone())], *count)),
        )?;
        mesos(&mut page, self)?;
        page.level(
            "config_last_reload_success",
            "1 if the configuration was taken when it was read last",
            f64::from(u8::from(self.reload_succeeded)),
        )
    }
}

fn kernel(page: &mut Page<'_>, measures: &Measures) -> fmt::Result {
    let xdp = &measures.status.xdp;
    page.counter(
        "xdp_verdicts",
        "Packets that the XDP program saw, or TC without it, by what became of them",
        by_verdict(&xdp.verdicts),
    )?;
    page.counter(
        "tc_verdicts",
        "Packets that the XDP program passed and the TC program behind it answered or dropped",
        by_verdict(&xdp.second_verdicts),
    )?;
    page.counter(
        "xdp_responses",
        "Responses that the kernel made, by type and code",
        xdp.responses.iter().flat_map(|(rtype, by_code)| {
            by_code.iter().map(move |(code, count)| {
                let labels = vec![("type", rtype.clone()), ("rcode", code.clone())];
                (labels, *count)
            })
        }),
    )?;
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
    )?;
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
        page.level(name, help, as_f64(value))?;
    }
    Ok(())
}

fn by_verdict(counts: &BTreeMap<String, u64>) -> impl Iterator<Item = (Labels, u64)> {
    counts
        .iter()
        .map(|(verdict, count)| (vec![("verdict", verdict.clone())], *count))
}

fn zones(page: &mut Page<'_>, measures: &Measures) -> fmt::Result {
    let status = &measures.status;
    page.level(
        "snapshot_names",
        "Names in all zones, empty non-terminals included",
        as_f64(status.names),
    )?;
    page.gauge(
        "snapshot_serial",
        "Serial of each zone that is served",
        status
            .zones
            .iter()
            .map(|zone| (vec![("zone", zone.apex.clone())], f64::from(zone.serial))),
    )?;
    page.gauge(
        "snapshot_age_seconds",
        "Time since Mesos confirmed what is served",
        status.mesos.state_age_seconds.map(|age| (vec![], age)),
    )?;
    page.family(
        "publish_duration_seconds",
        "Time from a state that changed to its being served",
        [(Vec::new(), measures.publish_duration.clone())],
    )?;
    page.gauge(
        "state_left_out",
        "Parts of the present state without records of their own, by reason",
        Defect::ALL.iter().map(|&reason| {
            let labels = vec![("reason", reason.as_str().to_owned())];
            (labels, as_f64(measures.left_out.count(reason)))
        }),
    )
}

fn mesos(page: &mut Page<'_>, measures: &Measures) -> fmt::Result {
    let mesos = &measures.status.mesos;
    let is_connected = mesos.failures_in_a_row == 0 && mesos.successes > 0;
    page.level(
        "mesos_connected",
        "1 if the last fetch of the state succeeded",
        f64::from(u8::from(is_connected)),
    )?;
    page.counter(
        "mesos_fetches",
        "Fetches of the state, by their end",
        [("success", mesos.successes), ("failure", mesos.failures)]
            .map(|(result, count)| (vec![("result", result.to_owned())], count)),
    )?;
    if let Some(dcos) = &measures.status.dcos {
        page.counter(
            "mesos_events",
            "Events of the stream of the leading master, by type",
            dcos.events
                .iter()
                .map(|(kind, count)| (vec![("type", kind.clone())], *count)),
        )?;
        page.level(
            "vips_without_address",
            "VIPs that wait for an address because a range is used up",
            as_f64(dcos.vips_without_address as u64),
        )?;
        page.level(
            "vips_without_name",
            "VIPs without a name in DNS, as it would be too long or nothing is left of it",
            as_f64(dcos.vips_without_name as u64),
        )?;
    }
    page.counter(
        "leader_changes",
        "Changes of the leading master",
        [(vec![], measures.leader_changes)],
    )
}

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        let cpu = self
            .cpu_seconds
            .map(|cpu| (Vec::new(), ConstCounter::new(cpu)));
        page.family(
            "process_cpu_seconds",
            "User and system time of the process",
            cpu,
        )?;
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Memory of the process in RAM",
                self.resident_octets.map(as_f64),
            ),
            (
                "process_open_fds",
                "Descriptors in use",
                self.open_descriptors.map(as_f64),
            ),
            (
                "process_start_time_seconds",
                "Unix time at which the process started",
                self.start_seconds,
            ),
        ] {
            page.gauge(name, help, value.map(|value| (Vec::new(), value)))?;
        }
        Ok(())
    }
}

/// The codes that CoreDNS names, and `other`.
fn rcode(code: usize) -> &'static str {
    let code = u16::try_from(code).map_or(Rcode(u16::MAX), Rcode);
    CODES.get(place_of_code(code)).copied().unwrap_or("other")
}

/// Adds up values with the same labels, so that several codes can be `other`.
fn sum(values: impl IntoIterator<Item = (Labels, u64)>) -> BTreeMap<Labels, u64> {
    let mut sums = BTreeMap::new();
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
    use crate::server::Totals;
    use crate::server::breakdown::Source;
    use dns_common::Verdict;

    fn sample() -> Measures {
        let mut measures = Measures::default();
        let mut totals = Totals {
            queries: 7,
            ..Totals::default()
        };
        for code in 0..24 {
            totals.breakdown.response(Source::Zones, 100, Rcode(code));
        }
        totals
            .breakdown
            .request(false, b"\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\x1c\0\x01");
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
            exhausted: vec![(".".to_owned(), 5)],
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
        let page = text(sample()).unwrap();
        let mut kinds = BTreeMap::new();
        for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            kinds.insert(name, kind);
            assert!(
                ["mesos_xdns_", "process_", "dns_forwarder_failures"]
                    .iter()
                    .any(|start| name.starts_with(start)),
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
        for name in kinds.keys().filter(|name| kinds[*name] == "counter") {
            assert!(page.contains(&format!("\n{name}_total")), "{name}");
        }
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn labels_are_few_and_bounded() {
        let page = text(sample()).unwrap();
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
            "family",
            "interface",
            "le",
            "mode",
            "path",
            "proto",
            "rcode",
            "reason",
            "result",
            "source",
            "to",
            "type",
            "verdict",
            "version",
            "zone",
        ];
        assert_eq!(keys.iter().map(String::as_str).collect::<Vec<_>>(), allowed);
        for (name, count) in series {
            assert!(count <= 80, "{name} has {count} series");
        }
        // 24 codes of each transport come out as 9 names, the rest added up.
        assert!(
            page.contains(
                "dns_responses_total{rcode=\"other\",path=\"udp\",source=\"zones\"} 16\n"
            ),
            "{page}"
        );
        assert!(
            page.contains(
                "dns_requests_total{proto=\"udp\",family=\"1\",type=\"AAAA\",path=\"udp\"} 1\n"
            ),
            "{page}"
        );
        assert!(
            page.contains(
                "dns_responses_total{rcode=\"NOERROR\",path=\"xdp\",source=\"zones\"} 12\n"
            ),
            "{page}"
        );
    }
}
