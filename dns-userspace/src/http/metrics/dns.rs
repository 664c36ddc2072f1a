//! What the server and the kernel did with queries. The shape is that of CoreDNS.

use std::fmt;

use dns_common::Verdict;

use super::page::{Distribution, Labels, Page, Rows};
use super::{as_f64, sum};
use crate::daemon::{Measures, Status};
use crate::server::Totals;
use crate::server::breakdown::{CODES, Histogram, SIZES, Source, TIMES, TYPES};

const BY_PATH: Rows<'_, Totals> = &[
    (
        "dns_ignored",
        "Messages that are no queries and got no response",
        |one| one.ignored,
    ),
    (
        "dns_unsent",
        "Responses that the kernel did not take",
        |one| one.unsent,
    ),
    (
        "dns_overflowed",
        "Datagrams that the kernel dropped because no worker took them in time",
        |one| one.overflowed,
    ),
    (
        "dns_prohibited",
        "Queries refused because the client is not among those allowed",
        |one| one.prohibited,
    ),
    ("dns_connections", "Connections taken in", |one| {
        one.connections
    }),
    (
        "dns_connections_turned_away",
        "Connections closed at once because there were too many",
        |one| one.turned_away,
    ),
    (
        "panics",
        "Queries whose answering failed and was cut short; must stay 0",
        |one| one.panics,
    ),
    (
        "forward_requests",
        "Queries handed to the forwarder",
        |one| one.forwarded,
    ),
    (
        "forward_refused",
        "Queries answered SERVFAIL because too many were being forwarded",
        |one| one.shed,
    ),
];

/// Name, help text, and where user space and the kernel count it.
type WithKernel = (&'static str, &'static str, fn(&Totals) -> u64, Verdict);

/// What both count, the kernel by a verdict.
const WITH_KERNEL: [WithKernel; 2] = [
    (
        "dns_limited",
        "Queries without response because the prefix of the client has had its share",
        |one| one.limited,
        Verdict::Limited,
    ),
    (
        "dns_slipped",
        "Queries beyond the share that were told to come back over TCP or with a cookie",
        |one| one.slipped,
        Verdict::Slipped,
    ),
];

pub(super) fn dns(page: &mut Page<'_>, measures: &Measures) -> fmt::Result {
    let xdp = &measures.status.xdp;
    let paths = || measures.server.iter().map(|(path, totals)| (*path, totals));
    let requests = paths().flat_map(|(path, totals)| {
        [("1", false), ("2", true)]
            .into_iter()
            .flat_map(move |(family, is_ipv6)| {
                let counts = totals.breakdown.requests(is_ipv6).iter().zip(TYPES);
                let asked = counts.filter(|(count, _)| **count > 0);
                asked.map(move |(count, rtype)| {
                    let labels = [
                        ("proto", path),
                        ("family", family),
                        ("type", rtype),
                        ("path", path),
                    ];
                    (
                        labels.map(|(key, value)| (key, value.to_owned())).to_vec(),
                        *count,
                    )
                })
            })
    });
    let of_kernel = [("proto", "udp"), ("path", "xdp")];
    let of_kernel = of_kernel
        .map(|(key, value)| (key, value.to_owned()))
        .to_vec();
    page.counter(
        "dns_requests",
        "Queries, by protocol, address family (1 is IPv4, 2 is IPv6), type and where they were taken",
        requests.chain([(of_kernel, xdp.answered)]),
    )?;
    let of_server = paths().flat_map(|(path, totals)| {
        by_source(path).flat_map(move |(labels, source)| {
            let counts = totals.breakdown.codes(source).iter().zip(CODES);
            counts.map(move |(count, code)| (with_code(code, &labels), *count))
        })
    });
    page.counter(
        "dns_responses",
        "Responses, by code, by where they were made and by where their data is from",
        sum(of_server.chain(codes_of_kernel(&measures.status))),
    )?;
    page.family(
        "dns_response_size_bytes",
        "Sizes of responses of user space",
        paths().flat_map(|(path, totals)| {
            by_source(path).map(|(labels, source)| {
                let bounds = SIZES.map(f64::from);
                (
                    labels,
                    distribution(&bounds, 1.0, &totals.breakdown.sizes(source)),
                )
            })
        }),
    )?;
    page.family(
        "dns_request_duration_seconds",
        "Times from taking a query to having its response, in user space",
        paths().flat_map(|(path, totals)| {
            by_source(path).map(|(labels, source)| {
                let bounds = TIMES.map(|microseconds| f64::from(microseconds) / 1e6);
                (
                    labels,
                    distribution(&bounds, 1e9, &totals.breakdown.times(source)),
                )
            })
        }),
    )?;
    let subjects: Vec<(Labels, &Totals)> = paths()
        .map(|(path, totals)| (vec![("path", path.to_owned())], totals))
        .collect();
    for (name, help, value, verdict) in WITH_KERNEL {
        let of_kernel = (
            vec![("path", "xdp".to_owned())],
            of_programs(&measures.status, verdict),
        );
        let of_server = subjects
            .iter()
            .map(|(labels, one)| (labels.clone(), value(one)));
        page.counter(name, help, of_server.chain([of_kernel]))?;
    }
    page.counters(BY_PATH, &subjects)
}

/// Packets with a verdict of either program.
fn of_programs(status: &Status, verdict: Verdict) -> u64 {
    let programs = [&status.xdp.verdicts, &status.xdp.second_verdicts].into_iter();
    programs.filter_map(|one| one.get(verdict.name())).sum()
}

fn by_source(path: &'static str) -> impl Iterator<Item = (Labels, Source)> {
    Source::ALL.into_iter().map(move |source| {
        let labels = [("path", path), ("source", source.as_str())];
        (
            labels.map(|(key, value)| (key, value.to_owned())).to_vec(),
            source,
        )
    })
}

fn with_code(code: &str, labels: &Labels) -> Labels {
    let mut all = vec![("rcode", code.to_owned())];
    all.extend_from_slice(labels);
    all
}

/// What the verdicts of the programs say of the codes they gave.
fn codes_of_kernel(status: &Status) -> impl Iterator<Item = (Labels, u64)> {
    let count = |verdict| of_programs(status, verdict);
    let good = [
        Verdict::Answered,
        Verdict::NoData,
        Verdict::Truncated,
        Verdict::Slipped,
    ]
    .map(count);
    let codes = [
        ("NOERROR", good.iter().sum()),
        ("NXDOMAIN", count(Verdict::NxDomain)),
        ("BADVERS", count(Verdict::BadVersion)),
    ];
    codes.into_iter().map(|(code, count)| {
        let labels = [("path", "xdp"), ("source", Source::Zones.as_str())];
        let labels = labels.map(|(key, value)| (key, value.to_owned())).to_vec();
        (with_code(code, &labels), count)
    })
}

/// A histogram with its bounds, whose sum is in parts of the unit.
fn distribution(bounds: &[f64], parts: f64, counts: &Histogram<'_>) -> Distribution {
    let bounds = bounds.iter().copied().chain([f64::INFINITY]);
    Distribution {
        buckets: bounds.zip(counts.buckets.iter().copied()).collect(),
        sum: as_f64(counts.sum) / parts,
    }
}
