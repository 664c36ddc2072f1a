//! The forwarder's part of the page: its cache, and its upstreams by address, of which there are as
//! many as the configuration names.

use super::{Labels, Page, as_f64, rcode, sum};
use crate::forwarder::{Readout, UpstreamReadout};

pub(super) fn forward(page: &mut Page<'_>, readout: &Readout) {
    let totals = &readout.totals;
    for (name, help, value) in [
        ("forward_tries", "Questions put to upstreams", totals.tries),
        (
            "forward_failures",
            "Tries without a usable response in time",
            totals.failures,
        ),
        (
            "forward_exhausted",
            "Questions for which no upstream had a response",
            totals.exhausted,
        ),
        (
            "forward_joined",
            "Queries that waited for the answer to the same question of others",
            totals.joined,
        ),
        (
            "cache_hits",
            "Queries answered from the cache within the TTL",
            totals.hits,
        ),
        (
            "cache_misses",
            "Queries that upstreams were asked for",
            totals.misses,
        ),
        (
            "cache_served_stale",
            "Queries answered from the cache after the TTL",
            totals.stale,
        ),
        (
            "cache_prefetch",
            "Questions put to upstreams before the answer in the cache ran out",
            totals.prefetches,
        ),
    ] {
        page.counter(name, help, [(vec![], value)]);
    }
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
        page.gauge(name, help, [(vec![], as_f64(value))]);
    }
    upstreams(page, &readout.upstreams);
}

fn upstreams(page: &mut Page<'_>, upstreams: &[UpstreamReadout]) {
    let labels = |one: &UpstreamReadout| -> Labels { vec![("to", one.address.to_string())] };
    let responses = upstreams.iter().flat_map(|one| {
        let by_code = one.rcodes.iter().enumerate();
        by_code
            .filter(|(_, count)| **count > 0)
            .map(move |(code, count)| {
                let mut labels = labels(one);
                labels.push(("rcode", rcode(code)));
                (labels, *count)
            })
    });
    page.counter(
        "forward_responses",
        "Responses of each upstream, by code",
        sum(responses),
    );
    type Value = fn(&UpstreamReadout) -> u64;
    let counters: [(&str, &str, Value); 4] = [
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
    for (name, help, value) in counters {
        page.counter(
            name,
            help,
            upstreams.iter().map(|one| (labels(one), value(one))),
        );
    }
    page.gauge(
        "forward_healthy",
        "1 if the upstream answered when it was asked last",
        upstreams
            .iter()
            .map(|one| (labels(one), f64::from(u8::from(one.is_well)))),
    );
    page.gauge(
        "forward_rtt_seconds",
        "Smoothed time of the responses of each upstream",
        upstreams
            .iter()
            .filter_map(|one| Some((labels(one), one.rtt?.as_secs_f64()))),
    );
}
