//! The forwarder's part of the page: its cache, and its upstreams by address, of which there are as
//! many as the configuration names.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::page::{Labels, Page, Rows};
use super::{as_f64, rcode, sum};
use crate::forwarder::{Readout, UpstreamReadout};

const OF_ALL: Rows<'_, Readout> = &[
    ("forward_tries", "Questions put to upstreams", |one| {
        one.totals.tries
    }),
    (
        "forward_failures",
        "Tries without a usable response in time",
        |one| one.totals.failures,
    ),
    (
        "forward_joined",
        "Queries that waited for the answer to the same question of others",
        |one| one.totals.joined,
    ),
    (
        "cache_hits",
        "Queries answered from the cache within the TTL",
        |one| one.totals.hits,
    ),
    (
        "cache_misses",
        "Queries that upstreams were asked for",
        |one| one.totals.misses,
    ),
    (
        "cache_served_stale",
        "Queries answered from the cache after the TTL",
        |one| one.totals.stale,
    ),
    (
        "cache_prefetch",
        "Questions put to upstreams before the answer in the cache ran out",
        |one| one.totals.prefetches,
    ),
];

const OF_EACH: Rows<'_, UpstreamReadout> = &[
    (
        "forward_upstream_failures",
        "Tries of each upstream without a usable response in time",
        |one| one.failures,
    ),
    (
        "forward_resent",
        "Datagrams sent to each upstream again for want of a response",
        |one| one.resent,
    ),
    (
        "forward_mismatches",
        "Datagrams from the address of each upstream that answered no question, as forged ones do",
        |one| one.mismatches,
    ),
    (
        "forward_tcp",
        "Questions put to each upstream over TCP",
        |one| one.over_tcp,
    ),
];

pub(super) fn forward(page: &mut Page<'_>, readout: &Readout) -> fmt::Result {
    page.counters(OF_ALL, &[(Vec::new(), readout)])?;
    page.counter(
        "forward_exhausted",
        "Questions for which no upstream had a response, by the zone that chose the upstreams",
        by_zone(&readout.exhausted),
    )?;
    for (name, help, value) in [
        ("cache_entries", "Answers in the cache", readout.entries),
        (
            "cache_size_bytes",
            "Memory of the answers in the cache",
            readout.octets,
        ),
        (
            "forward_waiting",
            "Queries that wait for upstreams",
            readout.waiting,
        ),
    ] {
        page.level(name, help, as_f64(value))?;
    }
    let upstreams: Vec<(Labels, &UpstreamReadout)> = readout
        .upstreams
        .iter()
        .map(|one| (vec![("to", one.address.to_string())], one))
        .collect();
    let responses = upstreams.iter().flat_map(|(labels, one)| {
        let by_code = one.rcodes.iter().enumerate();
        by_code
            .filter(|(_, count)| **count > 0)
            .map(move |(code, count)| {
                let mut labels = labels.clone();
                labels.push(("rcode", rcode(code).to_owned()));
                (labels, *count)
            })
    });
    page.counter(
        "forward_responses",
        "Responses of each upstream, by code",
        sum(responses),
    )?;
    page.counters(OF_EACH, &upstreams)?;
    page.gauge(
        "forward_healthy",
        "1 if the upstream answered when it was asked last",
        upstreams
            .iter()
            .map(|(labels, one)| (labels.clone(), f64::from(u8::from(one.is_well)))),
    )?;
    page.gauge(
        "forward_rtt_seconds",
        "Smoothed time of the responses of each upstream",
        upstreams
            .iter()
            .filter_map(|(labels, one)| Some((labels.clone(), one.rtt?.as_secs_f64()))),
    )
}

/// `forward_exhausted` once more, by the name that dcos-dns gave it.
#[derive(Debug)]
pub(super) struct Failures(Vec<(String, u64)>);

impl Failures {
    pub(super) fn of(readout: &Readout) -> Self {
        Self(readout.exhausted.clone())
    }
}

impl Collector for Failures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        Page(encoder).counter(
            "dns_forwarder_failures",
            "Questions for which no upstream had a response, by the zone that chose the upstreams",
            by_zone(&self.0),
        )
    }
}

fn by_zone(counts: &[(String, u64)]) -> impl Iterator<Item = (Labels, u64)> {
    counts
        .iter()
        .map(|(zone, count)| (vec![("zone", zone.clone())], *count))
}
