//! What a cached answer of an upstream costs: `cargo run --release -p tests --example forward_cost`.
//!
//! Handing one out of the cache is compared with what it would cost to keep records and write a
//! message from them, as hickory-proto does it; by one thread, and by as many as there are cores on
//! one name.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement prints what it found, and ends where it cannot"
)]

use std::{
    hint::black_box,
    net::Ipv4Addr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use dns_userspace::{
    answers::{Policy, Query, Transport},
    forwarder::{CacheSettings, Clock, Forwarder, Manner, Settings},
};
use hickory_proto::{
    op::Message,
    serialize::binary::{BinDecodable, BinEncodable},
};
use tests::{upstream::Upstream, wire};

const TIMES: u32 = 1_000_000;

fn per_call(mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..TIMES {
        call();
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
}

fn main() {
    let upstream = Upstream::start(Ipv4Addr::new(192, 0, 2, 1)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let settings = Settings {
        resolvers: vec![upstream.address],
        zones: Vec::new(),
        timeout: Duration::from_secs(5),
        max_in_flight: 64,
        manner: Manner::default(),
        cache: CacheSettings {
            prefetch: 0,
            ..CacheSettings::default()
        },
        clock: Clock::default(),
    };
    let forwarder = Forwarder::new(settings, &[], runtime.handle().clone()).unwrap();
    let forwarder = Arc::new(forwarder);
    let policy = Policy::default();
    for name in ["ttl86400.example.org", "many20.example.org"] {
        let octets = wire::Query::new(7, name, "A")
            .unwrap()
            .edns(0, &[])
            .octets();
        let permit = forwarder.admit(Ipv4Addr::LOCALHOST.into()).unwrap();
        let answering = forwarder.forward(&octets, Transport::Udp, &policy, permit);
        let response = runtime.block_on(answering);
        let parsing = per_call(|| {
            black_box(Query::parse(black_box(&octets)).unwrap());
        });
        let cached = |octets: &[u8]| {
            let query = Query::parse(black_box(octets)).unwrap();
            let size = policy.size(&query, Transport::Udp);
            black_box(forwarder.cached(&query, size).unwrap());
        };
        let handing = per_call(|| cached(&octets));
        let message = Message::from_bytes(&response).unwrap();
        let writing = per_call(|| {
            let mut message = black_box(&message).clone();
            for record in &mut message.answers {
                record.ttl = record.ttl.saturating_sub(1);
            }
            black_box(message.to_bytes().unwrap());
        });
        println!(
            "{name}: {} octets; parse {parsing:.0} ns, parse and hand out {handing:.0} ns; \
             write by hickory-proto {writing:.0} ns",
            response.len()
        );
        let cores = thread::available_parallelism().unwrap().get();
        let all: Vec<f64> = thread::scope(|scope| {
            let running: Vec<_> = (0..cores)
                .map(|_| scope.spawn(|| per_call(|| cached(&octets))))
                .collect();
            running.into_iter().map(|one| one.join().unwrap()).collect()
        });
        println!("  {cores} threads on it at one time, each: {all:.0?} ns");
    }
}
