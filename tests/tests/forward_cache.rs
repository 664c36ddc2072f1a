//! What the forwarder keeps of upstreams' answers: how long, for whom, and what it does with it when
//! upstreams fail. The clock is the tests' own.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use dns_userspace::forwarder::{CacheSettings, Clock, TtlBounds, UpstreamReadout};
use tests::{
    served::{Plan, Served},
    upstream::{TTL, Upstream},
    wire::{CHECKING_DISABLED, DNSSEC_OK, Query, Reply, ask, ask_over_tcp, client, receive},
};

const FIRST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// Extended errors (RFC 8914, section 4).
const STALE_ANSWER: u16 = 3;
const NO_REACHABLE_AUTHORITY: u16 = 22;

struct Scene {
    upstream: Upstream,
    clock: Clock,
    served: Served,
}

fn scene_with(change: impl FnOnce(&mut CacheSettings)) -> Scene {
    let upstream = Upstream::start(FIRST).unwrap();
    let mut plan = Plan::mesos(&[]).forwarding_to(&[upstream.address]);
    let settings = plan.upstreams.as_mut().unwrap();
    settings.max_in_flight = 4096;
    let clock = settings.clock.clone();
    change(&mut settings.cache);
    Scene {
        upstream,
        clock,
        served: plan.start().unwrap(),
    }
}

fn scene() -> Scene {
    scene_with(|_| {})
}

impl Scene {
    fn ask(&self, name: &str) -> Reply {
        self.served.query(name, "A").unwrap()
    }

    fn with_edns(&self, name: &str, flags: u16) -> Reply {
        let query = Query::new(9, name, "A").unwrap().edns(flags, &[]);
        ask(self.served.address(), &query).unwrap()
    }

    fn passes(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    fn asked(&self) -> usize {
        self.upstream.seen().len()
    }

    fn this_upstream(&self) -> UpstreamReadout {
        self.served.forwarder().upstreams.remove(0)
    }

    /// Waits until it holds, as what happens behind an answer is nobody's to wait for.
    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what}");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

#[test]
fn an_answer_is_fetched_once_and_its_ttl_falls() {
    let scene = scene_with(|cache| cache.prefetch = 0);
    assert_eq!(scene.ask("ttl300.example").ttl(), Some(300));
    scene.passes(100);
    let later = scene.ask("TTL300.Example");
    assert!(matches!(later.ttl(), Some(199..=200)), "{later:?}");
    assert_eq!(later.addresses(), [IpAddr::from(FIRST)]);
    assert_eq!(scene.asked(), 1);
    scene.passes(199);
    // Never 0: either one second is left, or it is fetched anew.
    assert!(matches!(scene.ask("ttl300.example").ttl(), Some(1 | 300)));
    scene.passes(2);
    assert!(scene.ask("ttl300.example").ttl() >= Some(299));
    scene.until("it is fetched anew", |scene| scene.asked() == 2);
}

#[test]
fn letter_case_id_and_edns_are_each_clients_own() {
    let scene = scene();
    scene.ask("www.example");
    let query = Query::new(0xabcd, "wWw.eXample", "A").unwrap();
    let plain = ask(scene.served.address(), &query).unwrap();
    assert_eq!(plain.octets[..2], [0xab, 0xcd]);
    assert_eq!(plain.octets[12..][..query.name.len()], query.name);
    assert!(plain.message.edns.is_none());
    let with_edns = ask(scene.served.address(), &query.edns(0, &[])).unwrap();
    assert!(with_edns.message.edns.is_some());
    assert_eq!(scene.asked(), 1);
    assert!(scene.this_upstream().tries == 1);
}

#[test]
fn answers_for_dnssec_clients_and_for_others_are_kept_apart() {
    let scene = scene();
    let query = |flags: u16, edns: Option<u16>| {
        let mut query = Query::new(1, "www.example", "A").unwrap();
        query.flags |= flags;
        match edns {
            Some(flags) => query.edns(flags, &[]),
            None => query,
        }
    };
    let kinds = [
        query(0, None),
        query(0, Some(DNSSEC_OK)),
        query(CHECKING_DISABLED, None),
        query(CHECKING_DISABLED, Some(DNSSEC_OK)),
    ];
    for round in 0..2 {
        for (nth, query) in kinds.iter().enumerate() {
            ask(scene.served.address(), query).unwrap();
            let expected = if round == 0 { nth + 1 } else { kinds.len() };
            assert_eq!(scene.asked(), expected, "round {round}: {query:?}");
        }
    }
    for (seen, query) in scene.upstream.seen().iter().zip(&kinds) {
        let flags = u16::from_be_bytes([seen.message[2], seen.message[3]]);
        assert_eq!(flags & CHECKING_DISABLED, query.flags & CHECKING_DISABLED);
        // Ours is the OPT record: 1232 octets, DO as asked, no option.
        let dnssec_ok = query.edns.as_ref().map_or(0, |(flags, _)| flags >> 8) as u8;
        let opt = [0, 0, 41, 4, 208, 0, 0, dnssec_ok, 0, 0, 0];
        assert!(seen.message.ends_with(&opt), "{seen:?}");
    }
}

#[test]
fn rfc6891_6_2_6_options_of_a_client_stay_here() {
    let scene = scene();
    // A client cookie, and a client subnet (RFC 7871).
    let options = b"\x00\x0a\x00\x08abcdefgh\x00\x08\x00\x07\x00\x01\x18\x00\xc0\x00\x02";
    let query = Query::new(1, "www.example", "A").unwrap().edns(0, options);
    ask(scene.served.address(), &query).unwrap();
    let seen = scene.upstream.seen();
    assert!(
        seen[0]
            .message
            .ends_with(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0])
    );
}

#[test]
fn clients_of_udp_and_tcp_share_an_answer() {
    let scene = scene();
    let query = Query::new(1, "many200.example", "A").unwrap();
    let whole = ask_over_tcp(scene.served.address(), &query).unwrap();
    assert_eq!(whole.addresses().len(), 200);
    let cut = ask(scene.served.address(), &query).unwrap();
    assert_eq!(cut.flags() & 0x0200, 0x0200, "TC");
    assert!(cut.octets.len() <= 512);
    assert_eq!(scene.asked(), 1);
}

#[test]
fn addresses_of_a_kept_answer_take_turns() {
    let scene = scene();
    let first = |id: u16| {
        let query = Query::new(id, "many3.example", "A").unwrap();
        ask(scene.served.address(), &query).unwrap().addresses()[0]
    };
    first(0);
    let mut seen = [first(0), first(1), first(2), first(3)];
    assert_eq!(seen[0], seen[3]);
    seen[..3].sort_unstable();
    let expected = [0, 1, 2].map(|n| IpAddr::from(Ipv4Addr::from(u32::from(FIRST) + n)));
    assert_eq!(seen[..3], expected);
}

#[test]
fn rfc2308_5_denials_are_kept_by_the_minimum_of_their_soa() {
    let scene = scene();
    for (name, rcode) in [("nxsoa60.example", 3), ("nosoa60.example", 0)] {
        let before = scene.asked();
        let reply = scene.ask(name);
        // The SOA's own TTL is 3600.
        assert_eq!((reply.rcode(), reply.ttl()), (rcode, Some(60)), "{name}");
        scene.passes(30);
        let reply = scene.ask(name);
        assert_eq!(reply.rcode(), rcode);
        assert!(matches!(reply.ttl(), Some(29..=30)), "{name}: {reply:?}");
        assert_eq!(scene.asked(), before + 1);
        scene.passes(31);
        assert_eq!(scene.ask(name).ttl(), Some(60));
        assert_eq!(scene.asked(), before + 2);
    }
}

#[test]
fn rfc2308_5_a_denial_without_soa_is_not_kept() {
    let scene = scene();
    for _ in 0..2 {
        assert_eq!(scene.ask("nxdomain.example").rcode(), 3);
        assert_eq!(scene.ask("nodata.example").rcode(), 0);
    }
    assert_eq!(scene.asked(), 4);
    assert_eq!(scene.served.forwarder().entries, 0);
}

#[test]
fn a_ttl_of_zero_is_handed_on_and_not_kept() {
    let scene = scene();
    for _ in 0..2 {
        assert_eq!(scene.ask("ttl0.example").ttl(), Some(0));
    }
    assert_eq!(scene.asked(), 2);
}

#[test]
fn bounds_of_ttls_hold() {
    let scene = scene_with(|cache| {
        cache.ttl = TtlBounds {
            min: 10,
            max: 20,
            negative_max: 5,
        };
    });
    assert_eq!(scene.ask("ttl0.example").ttl(), Some(10));
    assert_eq!(scene.ask("ttl15.example").ttl(), Some(15));
    assert_eq!(scene.ask("ttl300.example").ttl(), Some(20));
    assert_eq!(scene.ask("nxsoa60.example").ttl(), Some(5));
    assert_eq!(scene.asked(), 4);
    scene.ask("ttl0.example");
    assert_eq!(scene.asked(), 4);
}

#[test]
fn without_a_cache_each_query_is_asked() {
    let scene = scene_with(|cache| *cache = CacheSettings::OFF);
    for _ in 0..3 {
        assert_eq!(scene.ask("www.example").ttl(), Some(TTL));
    }
    assert_eq!(scene.asked(), 3);
    let readout = scene.served.forwarder();
    assert_eq!((readout.totals.hits, readout.entries), (0, 0));
}

#[test]
fn rfc9520_3_2_a_failure_is_remembered_for_seconds() {
    let scene = scene();
    assert_eq!(scene.ask("servfail.example").rcode(), 2);
    assert_eq!(scene.ask("servfail.example").rcode(), 2);
    assert_eq!(scene.asked(), 1);
    scene.passes(3);
    scene.ask("servfail.example");
    assert_eq!(scene.asked(), 2);
}

#[test]
fn rfc5452_5_equal_questions_under_way_are_one() {
    let scene = scene();
    scene.upstream.hold();
    let address = scene.served.address();
    // Different clients, ids, letter case and EDNS.
    let clients: Vec<UdpSocket> = (0..50u16)
        .map(|n| {
            let name = if n % 2 == 0 {
                "www.example"
            } else {
                "WWW.example"
            };
            let mut query = Query::new(n, name, "A").unwrap();
            if n % 3 == 0 {
                query = query.edns(0, &[]);
            }
            let client = client(address).unwrap();
            client.send(&query.octets()).unwrap();
            client
        })
        .collect();
    scene.until("all wait", |scene| scene.served.forwarder().waiting == 50);
    scene.upstream.release();
    for (n, client) in clients.iter().enumerate() {
        let reply = receive(client).unwrap();
        assert_eq!(reply.octets[..2], (n as u16).to_be_bytes());
        assert_eq!(reply.addresses(), [IpAddr::from(FIRST)]);
        assert_eq!(reply.message.edns.is_some(), n % 3 == 0);
    }
    assert_eq!(scene.asked(), 1);
    let totals = scene.served.forwarder().totals;
    assert_eq!((totals.misses, totals.joined, totals.tries), (50, 49, 1));
    scene.until("all places are free", |scene| {
        scene.served.forwarder().waiting == 0
    });
}

#[test]
fn rfc8767_stale_data_serves_when_upstreams_are_dead() {
    let scene = scene();
    scene.ask("ttl60.example");
    scene.ask("nxsoa60.example");
    scene.upstream.set_silent(true);
    scene.passes(3_600);
    let stale = scene.with_edns("ttl60.example", 0);
    assert_eq!(stale.addresses(), [IpAddr::from(FIRST)]);
    assert_eq!(stale.ttl(), Some(30));
    assert_eq!(stale.extended_error(), Some(STALE_ANSWER));
    // A denial is not used past its time.
    let denial = scene.with_edns("nxsoa60.example", 0);
    assert_eq!(denial.rcode(), 2);
    assert_eq!(denial.extended_error(), Some(NO_REACHABLE_AUTHORITY));
    // Upstreams are left alone with it for half a minute (RFC 8767, section 5).
    scene.until("the refresh failed", |scene| {
        scene.this_upstream().failures >= 2
    });
    let before = scene.asked();
    for _ in 0..20 {
        assert_eq!(scene.ask("ttl60.example").ttl(), Some(30));
    }
    assert_eq!(scene.asked(), before);
    scene.passes(31);
    assert_eq!(scene.ask("ttl60.example").ttl(), Some(30));
    scene.until("it is tried again", |scene| scene.asked() == before + 1);
    // What is back counts at once.
    scene.upstream.set_silent(false);
    scene.upstream.set_answer(SECOND);
    scene.until("the refresh failed", |scene| {
        scene.this_upstream().failures >= 3
    });
    scene.passes(31);
    let fresh = scene.ask("ttl60.example");
    assert_eq!(fresh.addresses(), [IpAddr::from(SECOND)]);
    assert_eq!(fresh.ttl(), Some(60));
    // A day later even data is too old.
    scene.upstream.set_silent(true);
    scene.passes(86_400 + 61);
    assert_eq!(scene.ask("ttl60.example").rcode(), 2);
}

#[test]
fn rfc8767_stale_data_gives_way_to_a_denial() {
    let scene = scene();
    scene.ask("ttl60.example");
    scene.passes(61);
    scene.upstream.hold();
    let client = client(scene.served.address()).unwrap();
    let query = Query::new(3, "ttl60.example", "A").unwrap();
    client.send(&query.octets()).unwrap();
    scene.upstream.wait_for(2);
    // NXDOMAIN is an answer, not a failure.
    let (mut response, to) = scene.upstream.held().remove(0);
    response[3] = response[3] & 0xf0 | 3;
    response[7] = 0;
    scene.upstream.send(&response, to);
    assert_eq!(receive(&client).unwrap().rcode(), 3);
    // Without an SOA it is not kept; the data is gone all the same.
    scene.upstream.set_silent(true);
    assert_eq!(scene.ask("ttl60.example").rcode(), 2);
}

#[test]
fn rfc8767_5_a_client_does_not_wait_long_for_better_than_stale() {
    let scene = {
        let upstream = Upstream::start(FIRST).unwrap();
        let mut plan = Plan::mesos(&[]).forwarding_to(&[upstream.address]);
        let settings = plan.upstreams.as_mut().unwrap();
        settings.timeout = Duration::from_secs(20);
        let clock = settings.clock.clone();
        Scene {
            upstream,
            clock,
            served: plan.start().unwrap(),
        }
    };
    scene.ask("ttl60.example");
    scene.passes(61);
    scene.upstream.hold();
    let start = Instant::now();
    let stale = scene.with_edns("ttl60.example", 0);
    let taken = start.elapsed();
    assert_eq!(stale.extended_error(), Some(STALE_ANSWER));
    assert!(taken >= Duration::from_millis(1_800), "{taken:?}");
    assert!(taken < Duration::from_secs(15), "{taken:?}");
    // The response that comes late is kept.
    scene.upstream.release();
    scene.until("it is kept", |scene| {
        scene.ask("ttl60.example").ttl() > Some(30)
    });
}

#[test]
fn names_asked_for_again_are_fetched_before_they_run_out() {
    let scene = scene();
    scene.ask("ttl100.example");
    scene.ask("ttl200.example");
    scene.upstream.set_answer(SECOND);
    scene.passes(50);
    scene.ask("ttl100.example");
    assert_eq!(scene.asked(), 2, "half of its time is left");
    scene.passes(45);
    // Answered from what is there, and fetched behind it, once.
    let reply = scene.ask("ttl100.example");
    assert_eq!(reply.addresses(), [IpAddr::from(FIRST)]);
    scene.until("it is fetched", |scene| scene.asked() == 3);
    scene.until("it is kept", |scene| {
        scene.ask("ttl100.example").addresses() == [IpAddr::from(SECOND)]
    });
    assert_eq!(scene.asked(), 3);
    assert_eq!(scene.served.forwarder().totals.prefetches, 1);
    // A name that nobody asks for is let go.
    scene.passes(200);
    assert_eq!(scene.asked(), 3);
}

#[test]
fn prefetch_and_stale_can_be_switched_off() {
    let scene = scene_with(|cache| {
        cache.prefetch = 0;
        cache.serve_stale = 0;
    });
    for _ in 0..3 {
        scene.ask("ttl100.example");
    }
    scene.passes(99);
    scene.ask("ttl100.example");
    assert_eq!(scene.asked(), 1);
    scene.upstream.set_silent(true);
    scene.passes(2);
    assert_eq!(scene.ask("ttl100.example").rcode(), 2);
}

#[test]
fn memory_stays_bounded_under_ever_new_names() {
    const BOUND: u64 = 1 << 20;
    let scene = scene_with(|cache| cache.max_octets = BOUND);
    let client = client(scene.served.address()).unwrap();
    for n in 0..8_000u16 {
        let query = Query::new(n, &format!("host-{n}.example"), "A").unwrap();
        client.send(&query.octets()).unwrap();
        receive(&client).unwrap();
    }
    let readout = scene.served.forwarder();
    assert!(readout.octets <= BOUND, "{readout:?}");
    assert!(readout.octets > BOUND / 2, "{readout:?}");
    assert!(readout.entries < 4_000, "{readout:?}");
}

#[test]
fn dead_upstreams_cost_one_timeout_per_outage() {
    let upstream = Upstream::start(FIRST).unwrap();
    let mut plan = Plan::mesos(&[]).forwarding_to(&[upstream.address]);
    plan.upstreams.as_mut().unwrap().timeout = Duration::from_secs(4);
    let served = plan.start().unwrap();
    upstream.set_silent(true);
    let taken = |name: &str| {
        let start = Instant::now();
        let query = Query::new(9, name, "A").unwrap().edns(0, &[]);
        let reply = ask(served.address(), &query).unwrap();
        assert_eq!(reply.rcode(), 2);
        assert_eq!(reply.extended_error(), Some(NO_REACHABLE_AUTHORITY));
        start.elapsed()
    };
    assert!(taken("a.example") >= Duration::from_secs(4));
    for name in ["b.example", "c.example", "d.example"] {
        let taken = taken(name);
        assert!(taken < Duration::from_secs(3), "{name}: {taken:?}");
    }
    // Its return is seen with the next question.
    upstream.set_silent(false);
    assert_eq!(served.query("e.example", "A").unwrap().rcode(), 0);
}

#[test]
fn one_client_cannot_take_every_place() {
    let upstream = Upstream::start(FIRST).unwrap();
    let mut plan = Plan::mesos(&[]).forwarding_to(&[upstream.address]);
    let settings = plan.upstreams.as_mut().unwrap();
    settings.max_in_flight = 8;
    settings.timeout = Duration::from_secs(20);
    let served = plan.start().unwrap();
    upstream.hold();
    let greedy = client(served.address()).unwrap();
    for n in 0..20u16 {
        let query = Query::new(n, &format!("host-{n}.example"), "A").unwrap();
        greedy.send(&query.octets()).unwrap();
    }
    // Half of the places are its own; it is told so at once.
    for _ in 0..16 {
        assert_eq!(receive(&greedy).unwrap().rcode(), 2);
    }
    assert_eq!(upstream.wait_for(4).len(), 4);
    let other = UdpSocket::bind("127.0.0.2:0").unwrap();
    other.connect(served.address()).unwrap();
    let query = Query::new(99, "other.example", "A").unwrap();
    other.send(&query.octets()).unwrap();
    assert_eq!(upstream.wait_for(5).len(), 5);
    upstream.release();
    other
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    assert_eq!(receive(&other).unwrap().rcode(), 0);
}

/// Two servers that forward to each other: a question goes round once, and comes to an end.
#[test]
fn a_loop_of_forwarders_ends() {
    let free = || SocketAddr::from((Ipv4Addr::LOCALHOST, tests::port::free_port()));
    let (a, b) = (free(), free());
    let start = |own: SocketAddr, other: SocketAddr| {
        let mut plan = Plan::mesos(&[]).forwarding_to(&[other]);
        plan.settings.listen = vec![own];
        plan.upstreams.as_mut().unwrap().timeout = Duration::from_secs(2);
        plan.start().unwrap()
    };
    let (first, second) = (start(a, b), start(b, a));
    let query = Query::new(9, "www.example", "A").unwrap();
    assert_eq!(ask(a, &query).unwrap().rcode(), 2);
    // Each sent it once, and perhaps again for want of a response.
    for served in [&first, &second] {
        let readout = served.forwarder();
        assert!(readout.totals.tries <= 2, "{readout:?}");
        assert!(readout.upstreams[0].resent <= 2, "{readout:?}");
    }
}
