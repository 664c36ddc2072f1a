//! Whom the kernel answers, and how often: the same clients as user space, and the same number of
//! their queries, octet by octet.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    collections::BTreeMap,
    net::{IpAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use dns_common::{Allowance, RateLimit, Verdict};
use dns_userspace::{
    answers::Transport,
    dataplane::Settings,
    server::{Guard, Terms},
    transfer::Prefix,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tests::{
    behind::{self, Behind},
    differential::Source,
    frame::Frame,
    kernel::{self, Action, Kernel, Stage, settings},
    needs, needs_root,
    octets::octets,
    packets,
    raw::Wire,
    served::Plan,
};

const WEB: &str = "'web' 'marathon' 'mesos' . 0001 0001";
const PLAIN: &str = "1234 0100 0001 0000 0000 0000";
const WITH_OPT: &str = "1234 0100 0001 0000 0000 0001";
const ANSWER: &str = "1234 8580 0001 0001 0000 0000";
const WEB_A: &str = "c00c 0001 0001 0000003c 0004 0a000001";
/// QR, TC, RD: neither AA nor RA, as nobody has looked.
const SLIPPED: &str = "1234 8300 0001 0000 0000 0000";

/// Ten at once, and the next after a quarter of an hour: no test takes as long.
const TEN: RateLimit = RateLimit {
    interval: 1_000_000_000,
    window: 10_000_000_000,
    slip: 0,
    ipv4_bits: 24,
    ipv6_bits: 56,
    reserved: 0,
};
/// Nothing at all: every query is beyond the share, and slips.
const SLIP: RateLimit = RateLimit {
    interval: 10,
    window: 0,
    slip: 1,
    ..TEN
};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A query of a client for an address of the server.
fn from(client: IpAddr, message: Vec<u8>) -> Frame {
    let server = match client {
        IpAddr::V4(_) => "192.0.2.2",
        IpAddr::V6(_) => "2001:db8::2",
    };
    Frame {
        to: kernel::MAC,
        from: packets::CLIENT_MAC,
        ..Frame::query(client, ip(server), message)
    }
}

fn web() -> Vec<u8> {
    octets(&format!("{PLAIN} {WEB}"))
}

fn web_answer() -> Vec<u8> {
    octets(&format!("{ANSWER} {WEB} {WEB_A}"))
}

fn load(change: impl FnOnce(&mut Settings)) -> Kernel {
    load_stage(Stage::Xdp, change)
}

fn load_stage(stage: Stage, change: impl FnOnce(&mut Settings)) -> Kernel {
    let mut settings = settings();
    change(&mut settings);
    let mut kernel = Kernel::load_stage(stage, &settings).unwrap();
    kernel.publish(packets::editor().snapshot()).unwrap();
    kernel
}

fn list(prefixes: &[&str]) -> Vec<Prefix> {
    prefixes.iter().map(|text| text.parse().unwrap()).collect()
}

/// Clients, each beside one that differs from it in a bit, and whether they are allowed.
const CLIENTS: [(&str, bool); 14] = [
    ("192.0.2.1", true),
    ("192.0.2.3", false),
    ("198.51.100.128", true),
    ("198.51.100.255", true),
    ("198.51.100.127", false),
    ("198.51.101.128", false),
    ("2001:db8::1", true),
    ("2001:db8::ffff:ffff:ffff:ffff", true),
    ("2001:db8:0:1::1", false),
    ("2001:db9::1", false),
    ("2001:db8:1::7", true),
    ("2001:db8:1::6", false),
    // The bits of an address of the other family say nothing.
    ("::192.0.2.1", false),
    ("c000:201::", false),
];
const LIST: [&str; 4] = [
    "192.0.2.1",
    "198.51.100.128/25",
    "2001:db8::/64",
    "2001:db8:1::7",
];

#[test]
fn only_clients_on_the_list_are_answered() {
    needs_root!();
    for stage in Stage::ALL {
        only_clients_on_the_list_are_answered_at(stage);
    }
}

fn only_clients_on_the_list_are_answered_at(stage: Stage) {
    let mut kernel = load_stage(stage, |settings| settings.allowed = list(&LIST));
    let mut everybody = load_stage(stage, |_| {});
    for (client, is_allowed) in CLIENTS {
        let frame = from(ip(client), web());
        let answer = frame.reply(web_answer()).octets();
        let (action, verdict, out) = kernel.judge(&frame.octets()).unwrap();
        if is_allowed {
            assert_eq!(
                (action, verdict),
                (Action::Tx, Verdict::Answered),
                "{client}"
            );
            assert_eq!(out, answer, "{client}");
        } else {
            let expected = (Action::Pass, Verdict::Prohibited);
            assert_eq!((action, verdict), expected, "{client}");
            assert_eq!(out, frame.octets(), "{client}");
        }
        let (action, out) = everybody.run(&frame.octets()).unwrap();
        assert_eq!((action, out), (Action::Tx, &answer[..]), "{client}");
        // Another port is nobody's business, whoever asks.
        let other = Frame {
            destination_port: 54,
            ..frame
        };
        let (_, verdict, _) = kernel.judge(&other.octets()).unwrap();
        assert_eq!(verdict, Verdict::NotDns, "{client}");
    }
}

#[test]
fn lists_mean_the_same_in_the_kernel_and_in_user_space() {
    needs_root!();
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut allowed, mut prohibited) = (0, 0);
    for _ in 0..20 {
        // Few bits that differ, so that prefixes lie within one another.
        let address = |random: &mut StdRng| -> IpAddr {
            match random.random::<bool>() {
                true => [
                    10,
                    random.random_range(0..4) << 6,
                    random.random_range(0..4),
                    0,
                ]
                .map(|octet: u8| octet)
                .into(),
                false => {
                    let low = u128::from(random.random::<u8>()) << random.random_range(0..64u8);
                    (0x2001_0db8_u128 << 96 | low | 1).to_be_bytes().into()
                }
            }
        };
        let prefixes: Vec<Prefix> = (0..random.random_range(1..20))
            .map(|_| {
                let address = address(&mut random);
                let (bits, address) = match address {
                    IpAddr::V4(ip) => {
                        let bits = random.random_range(0..=32u32);
                        let kept = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                        (bits, IpAddr::from((ip.to_bits() & kept).to_be_bytes()))
                    }
                    IpAddr::V6(ip) => {
                        let bits = random.random_range(0..=128u32);
                        let kept = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                        (bits, IpAddr::from((ip.to_bits() & kept).to_be_bytes()))
                    }
                };
                format!("{address}/{bits}").parse().unwrap()
            })
            .collect();
        let guard = Guard::new(prefixes.clone(), RateLimit::default());
        let mut kernel = load(|settings| settings.allowed = prefixes.clone());
        for _ in 0..500 {
            let client = address(&mut random);
            let (action, _) = kernel.run(&from(client, web()).octets()).unwrap();
            let is_allowed = guard.allows(client);
            assert_eq!(action == Action::Tx, is_allowed, "{client} {prefixes:?}");
            allowed += u32::from(is_allowed);
            prohibited += u32::from(!is_allowed);
        }
    }
    assert!(allowed > 500 && prohibited > 500, "{allowed}, {prohibited}");
}

#[test]
fn a_prefix_has_its_share_and_no_more() {
    needs_root!();
    for stage in Stage::ALL {
        a_prefix_has_its_share_and_no_more_at(stage);
    }
}

fn a_prefix_has_its_share_and_no_more_at(stage: Stage) {
    let mut kernel = load_stage(stage, |settings| settings.limit = TEN);
    let ask = |kernel: &mut Kernel, client: &str| {
        let frame = from(ip(client), web());
        let (action, verdict, out) = kernel.judge(&frame.octets()).unwrap();
        match verdict {
            Verdict::Answered => {
                assert_eq!(action, Action::Tx);
                assert_eq!(out, frame.reply(web_answer()).octets());
                true
            }
            Verdict::Limited => {
                assert_eq!(action, Action::Drop);
                false
            }
            other => panic!("{other:?}"),
        }
    };
    // What goes up has taken nothing: user space counts it.
    let miss = format!("{PLAIN} 'web' 'elsewhere' 'example' . 0001 0001");
    for _ in 0..50 {
        let frame = from(ip("192.0.2.1"), octets(&miss)).octets();
        assert_eq!(kernel.run(&frame).unwrap(), (Action::Pass, &frame[..]));
    }
    // Nor has what did not arrive as it was sent.
    for _ in 0..50 {
        let mut frame = from(ip("192.0.2.1"), web()).octets();
        // A bit of the checksum.
        frame[40] ^= 1;
        let (action, out) = kernel.run(&frame).unwrap();
        assert_eq!((action, out), (Action::Pass, &frame[..]));
    }
    for number in 0..10 {
        assert!(ask(&mut kernel, "192.0.2.1"), "{number}");
    }
    for client in ["192.0.2.1", "192.0.2.254", "192.0.2.0"] {
        assert!(!ask(&mut kernel, client), "{client}");
    }
    // A bit beside it is another prefix.
    for client in ["192.0.3.1", "192.0.0.1", "2001:db8::1"] {
        for number in 0..10 {
            assert!(ask(&mut kernel, client), "{client}, {number}");
        }
        assert!(!ask(&mut kernel, client), "{client}");
    }
    assert!(!ask(&mut kernel, "2001:db8:0:ff::1"), "the same /56");
    assert!(ask(&mut kernel, "2001:db8:0:100::1"));
}

#[test]
fn kernel_and_user_space_count_alike() {
    needs_root!();
    for stage in Stage::ALL {
        kernel_and_user_space_count_alike_at(stage);
    }
}

fn kernel_and_user_space_count_alike_at(stage: Stage) {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for (ipv4_bits, ipv6_bits) in [(24, 56), (32, 64), (20, 48), (0, 0)] {
        let limit = RateLimit {
            ipv4_bits,
            ipv6_bits,
            ..TEN
        };
        let guard = Guard::new(Vec::new(), limit);
        let mut kernel = load_stage(stage, |settings| settings.limit = limit);
        let mut counts = BTreeMap::<&str, u32>::new();
        for _ in 0..3000 {
            let client: IpAddr = match random.random::<bool>() {
                true => [
                    10,
                    0,
                    random.random_range(0..5),
                    random.random::<u8>() & 0x83,
                ]
                .into(),
                false => {
                    let near = u128::from(random.random::<u16>() & 0x303) << 64;
                    (0x2001_0db8_u128 << 96 | near | 1).to_be_bytes().into()
                }
            };
            let (action, _) = kernel.run(&from(client, web()).octets()).unwrap();
            let allowance = guard.take(client);
            let expected = match allowance {
                Allowance::Answer => Action::Tx,
                Allowance::Slip | Allowance::Drop => Action::Drop,
            };
            assert_eq!(action, expected, "{client}");
            let what = if action == Action::Tx {
                "answered"
            } else {
                "dropped"
            };
            *counts.entry(what).or_default() += 1;
        }
        assert!(counts.len() == 2, "{counts:?}");
    }
}

#[test]
fn a_rate_is_kept_over_time() {
    needs_root!();
    // A hundred at once, and then as many a second.
    let limit = RateLimit::new(100, 1, 0);
    let mut kernel = load(|settings| settings.limit = limit);
    let frame = from(ip("192.0.2.1"), web()).octets();
    let start = Instant::now();
    let (mut asked, mut answered) = (0u32, 0);
    while start.elapsed() < Duration::from_secs(2) {
        let (action, _) = kernel.run(&frame).unwrap();
        asked += 1;
        answered += u32::from(action == Action::Tx);
    }
    let time = start.elapsed().as_secs_f64();
    println!("{answered} of {asked} in {time:.2} s");
    assert!(asked > 1000, "{asked}");
    let most = 100.0 + 100.0 * time + 3.0;
    // Ticks are up to 10 ms long, and a busy machine may not ask for a while.
    assert!(
        (250.0..most).contains(&f64::from(answered)),
        "{answered} in {time} s"
    );
}

/// Queries and what they get when they slip, by RFC 1035, section 4.1.1, and RFC 6891.
fn slips() -> Vec<(&'static str, String, String)> {
    let opt = |flags: &str| format!("00 0029 04d0 00 00 {flags} 0000");
    let long = "'web' 'marathon' 'mesos' . 0001 0001";
    vec![
        (
            "plain",
            format!("{PLAIN} {WEB}"),
            format!("{SLIPPED} {WEB}"),
        ),
        (
            "neither RD nor anything",
            format!("ffff 0000 0001 0000 0000 0000 {WEB}"),
            format!("ffff 8200 0001 0000 0000 0000 {WEB}"),
        ),
        (
            "RD, CD, and what is not copied",
            format!("0000 07ff 0001 0000 0000 0000 {WEB}"),
            format!("0000 8310 0001 0000 0000 0000 {WEB}"),
        ),
        (
            "letter case",
            format!("{PLAIN} 'wEB' 'MARATHON' 'mesos' . 0001 0001"),
            format!("{SLIPPED} 'wEB' 'MARATHON' 'mesos' . 0001 0001"),
        ),
        (
            "OPT",
            format!("{WITH_OPT} {long} {}", opt("0000")),
            format!("1234 8300 0001 0000 0000 0001 {long} {}", opt("0000")),
        ),
        (
            "OPT with DO and options",
            format!("{WITH_OPT} {long} 00 0029 1000 00 00 ffff 0007 fde9 0003 616263"),
            format!("1234 8300 0001 0000 0000 0001 {long} {}", opt("8000")),
        ),
        (
            "a version that nobody knows",
            format!("{WITH_OPT} {long} 00 0029 04d0 00 01 0000 0000"),
            format!("1234 8300 0001 0000 0000 0001 {long} {}", opt("0000")),
        ),
        (
            "NODATA",
            format!("{PLAIN} 'web' 'marathon' 'mesos' . 001c 0001"),
            format!("{SLIPPED} 'web' 'marathon' 'mesos' . 001c 0001"),
        ),
        (
            "NXDOMAIN of an odd length",
            format!("{PLAIN} 'absen' 'marathon' 'mesos' . 0001 0001"),
            format!("{SLIPPED} 'absen' 'marathon' 'mesos' . 0001 0001"),
        ),
        (
            "NXDOMAIN of an even length",
            format!("{PLAIN} 'absent' 'marathon' 'mesos' . 0001 0001"),
            format!("{SLIPPED} 'absent' 'marathon' 'mesos' . 0001 0001"),
        ),
    ]
}

#[test]
fn what_slips_is_sent_to_tcp() {
    needs_root!();
    for stage in Stage::ALL {
        what_slips_is_sent_to_tcp_at(stage);
    }
}

fn what_slips_is_sent_to_tcp_at(stage: Stage) {
    let mut kernel = load_stage(stage, |settings| settings.limit = SLIP);
    for (what, query, response) in slips() {
        for client in ["192.0.2.1", "2001:db8::1"] {
            for tags in [vec![], vec![(0x8100, 7)], vec![(0x88a8, 7), (0x8100, 9)]] {
                let frame = Frame {
                    tags,
                    ..from(ip(client), octets(&query))
                };
                let reply = frame.reply(octets(&response)).octets();
                for padding in [0, 1, 40] {
                    let mut sent = frame.octets();
                    sent.resize(sent.len() + padding, 0);
                    let (action, verdict, out) = kernel.judge(&sent).unwrap();
                    assert_eq!((action, verdict), (Action::Tx, Verdict::Slipped), "{what}");
                    assert_eq!(out, reply, "{what}, {client}");
                }
            }
        }
    }
    // Without a checksum (RFC 768) there is none in the response.
    let frame = from(ip("192.0.2.1"), web());
    let bare = |frame: &Frame| {
        let mut octets = frame.octets();
        octets[40..42].fill(0);
        octets
    };
    let (_, out) = kernel.run(&bare(&frame)).unwrap();
    let slipped = octets(&format!("{SLIPPED} {WEB}"));
    assert_eq!(out, bare(&frame.reply(slipped)));
    let types: BTreeMap<_, _> = kernel
        .responses()
        .into_iter()
        .map(|(one, count)| ((one.verdict, one.rtype), count))
        .collect();
    assert_eq!(types.len(), 2, "{types:?}");
    assert_eq!(types[&(Verdict::Slipped, 28)], 18);
}

#[test]
fn one_in_so_many_slips() {
    needs_root!();
    let mut kernel = load(|settings| settings.limit = RateLimit { slip: 4, ..SLIP });
    let frame = from(ip("192.0.2.1"), web()).octets();
    let slipped = (0..4000)
        .filter(|_| kernel.run(&frame).unwrap().0 == Action::Tx)
        .count();
    // Within six standard deviations of a thousand.
    assert!((830..1170).contains(&slipped), "{slipped}");
}

/// A server in user space by whose limit everything slips gives the very same messages.
#[test]
fn user_space_slips_the_same() {
    needs_root!();
    let mut plan = Plan::mesos(&[]);
    plan.zones = packets::zones();
    plan.settings.terms = Terms {
        guard: Arc::new(Guard::new(Vec::new(), SLIP)),
        ..Terms::default()
    };
    let served = plan.start().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(served.address()).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let said = |message: &[u8]| {
        socket.send(message).unwrap();
        let mut buffer = [0; 2048];
        let len = socket.recv(&mut buffer).unwrap();
        buffer[..len].to_vec()
    };
    for (what, query, response) in slips() {
        assert_eq!(said(&octets(&query)), octets(&response), "{what}");
    }
    let seed = rand::random();
    println!("seed {seed}");
    let mut kernel = load(|settings| settings.limit = SLIP);
    let mut source = Source::new(seed);
    let owners: Vec<_> = ["web.marathon.mesos", "v6.mesos", "alias.mesos"]
        .map(|owner| (tests::generate::name(owner), 1))
        .to_vec();
    let mut slipped = 0;
    for _ in 0..5000 {
        source.next(&owners);
        let frame = source.frame.clone();
        let (action, out) = kernel.run(&frame).unwrap();
        if action != Action::Tx {
            assert_eq!((action, out), (Action::Pass, &frame[..]));
            continue;
        }
        let query = tests::oracle::Query::read(&frame, &tests::differential::host()).unwrap();
        let message = said(&query.frame.payload);
        assert_eq!(out, query.reply(message), "seed {seed}: {frame:02x?}");
        slipped += 1;
    }
    assert!(slipped > 500, "{slipped}");
    assert!(served.totals(Transport::Udp).slipped >= slipped);
}

#[test]
fn memory_does_not_grow_with_prefixes() {
    needs_root!();
    let mut kernel = load(|settings| settings.limit = TEN);
    let greedy = from(ip("192.0.2.1"), web()).octets();
    for _ in 0..20 {
        kernel.run(&greedy).unwrap();
    }
    for number in 1..200_000u32 {
        let client = IpAddr::from((0x0a00_0001 + (number << 8)).to_be_bytes());
        let (action, _) = kernel.run(&from(client, web()).octets()).unwrap();
        assert_eq!(action, Action::Tx, "{client}");
    }
    assert_eq!(kernel.run(&greedy).unwrap().0, Action::Drop);
    // By the kernel's own account.
    let maps = aya::maps::loaded_maps().filter_map(Result::ok);
    let accounts: Vec<_> = maps
        .filter(|map| map.name_as_str() == Some("ACCOUNTS"))
        .collect();
    assert!(!accounts.is_empty());
    for map in accounts {
        assert_eq!((map.max_entries(), map.value_size()), (8192, 64));
    }
}

#[test]
fn a_real_cable_gives_the_same() {
    let possible = behind::possible();
    needs!(possible.is_ok(), possible.unwrap_err());
    const LIMIT: Duration = Duration::from_secs(30);
    let behind = |change: fn(&mut Settings), guard: Guard| {
        let mut plan = Plan::mesos(&[]);
        plan.zones = packets::zones();
        plan.settings.terms.guard = Arc::new(guard);
        Behind::with(plan, change).unwrap()
    };
    let from_server = |frame: &[u8]| frame[6..12] == kernel::MAC && frame[23] == 17;
    let slip = behind(
        |settings| settings.limit = SLIP,
        Guard::new(Vec::new(), SLIP),
    );
    let wire = slip
        .cable
        .client
        .enter(|| Wire::open("client", true))
        .unwrap();
    for (what, query, response) in slips() {
        let frame = from(ip("192.0.2.1"), octets(&query));
        wire.send(&[frame.octets()]).unwrap();
        let came = wire.receive(LIMIT, from_server).unwrap();
        assert_eq!(came, frame.reply(octets(&response)).octets(), "{what}");
    }
    assert_eq!(slip.count(Verdict::Slipped), slips().len() as u64);
    assert_eq!(slip.served.totals(Transport::Udp).queries, 0);

    let restricted = behind(
        |settings| settings.allowed = list(&["192.0.2.1"]),
        Guard::new(list(&["192.0.2.1"]), RateLimit::default()),
    );
    let [v4, v6] = restricted.digs();
    assert_eq!(
        v4.ask("web.marathon.mesos", "A").unwrap().data("A"),
        ["10.0.0.1"]
    );
    assert_eq!(restricted.answered(), 1);
    let refused = v6.ask("web.marathon.mesos", "A").unwrap();
    assert_eq!(refused.status, "REFUSED");
    assert_eq!(refused.edns_options, ["EDE: 18 (Prohibited)"]);
    assert_eq!(restricted.count(Verdict::Prohibited), 1);
    assert_eq!(restricted.answered(), 1);
    assert_eq!(restricted.served.totals(Transport::Udp).prohibited, 1);
}
