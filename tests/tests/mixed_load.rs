//! Mixed load for a while, then quiet: what the daemon holds returns to what it held before.
//! `MESOS_XDNS_MIXED_SECONDS=600` is the nightly length.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    env, fs,
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use tests::{
    cable::{Cable, SERVER},
    needs_scene,
    running::{http_get, wait_for},
    scene::{Scene, add_tasks, fake_local},
    upstream::Upstream,
    wire::{self, Query, Reply},
};

const SECONDS: &str = "MESOS_XDNS_MIXED_SECONDS";
/// Seconds where nothing else is asked for.
const USUAL_SECONDS: u64 = 20;
/// Names of others that are asked for: all of them are in the cache after a while.
const OTHERS: u32 = 3_000;
/// Octets of memory that an allocator may keep for itself.
const SLACK: u64 = 4 << 20;

#[test]
fn what_the_daemon_holds_returns_to_what_it_held() {
    needs_scene!();
    let seconds = env::var(SECONDS).map_or(USUAL_SECONDS, |text| text.parse().unwrap());
    let seed = rand::random();
    println!("{seconds} s, seed {seed}");
    let cable = Cable::new().unwrap();
    let upstream = || Ok(Upstream::start([192, 0, 2, 80].into())?);
    let upstream = cable.server.enter(upstream).unwrap();
    let scene = Scene::on(cable, &fake_local(), |plan| {
        plan.config["externalOn"] = json!(true);
        plan.config["resolvers"] = json!([upstream.address.to_string()]);
    })
    .unwrap();

    // All that is made once, and kept: caches, pools, threads.
    load(&scene, Duration::from_secs(seconds) / 4, seed);
    let before = Holdings::when_quiet(&scene, None);
    load(&scene, Duration::from_secs(seconds) * 3 / 4, seed + 1);
    let after = Holdings::when_quiet(&scene, Some(&before));
    println!("before {before:?}\nafter  {after:?}");
    assert!(
        after.memory < before.memory + SLACK,
        "{after:?}, {before:?}"
    );
}

/// What the daemon holds.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    descriptors: usize,
    threads: usize,
    /// Names that it serves, and those of them in the kernel.
    names: [u64; 2],
    /// Octets of its own memory in RAM.
    memory: u64,
}

impl Holdings {
    fn of(scene: &Scene) -> Self {
        let process = format!("/proc/{}", scene.daemon.id());
        let count = |what: &str| fs::read_dir(format!("{process}/{what}")).unwrap().count();
        let status = scene.daemon.status().unwrap();
        let text = fs::read_to_string(format!("{process}/status")).unwrap();
        let own = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kilo: u64 = own.unwrap().trim().trim_end_matches(" kB").parse().unwrap();
        Self {
            descriptors: count("fd"),
            threads: count("task"),
            names: [status.names, status.xdp.names],
            memory: kilo * 1024,
        }
    }

    /// What it holds when all that ends by itself has ended: as `expected` but for memory, or without
    /// a change for some seconds.
    fn when_quiet(scene: &Scene, expected: Option<&Self>) -> Self {
        let mut last = Self::of(scene);
        let settled = || {
            thread::sleep(Duration::from_secs(1));
            let now = Self::of(scene);
            let like = expected.unwrap_or(&last);
            let is_settled = Self { memory: 0, ..now } == Self { memory: 0, ..*like };
            last = Self::of(scene);
            (is_settled, expected.map(|one| format!("{one:?}")), now)
        };
        let (_, _, now) = wait_for("quiet", settled, |(is_settled, ..)| *is_settled).unwrap();
        now
    }
}

/// What a client does over and over.
type Work<'w> = dyn Fn(&mut StdRng) -> Result<()> + Sync + 'w;

/// Everything at once for some time; then the state is the first again, and all connections closed.
fn load(scene: &Scene, time: Duration, seed: u64) {
    let over = AtomicBool::new(false);
    let answers = AtomicU64::new(0);
    let wrong = AtomicU64::new(0);
    let until_over = |work: &Work<'_>, seed| {
        let mut random = StdRng::seed_from_u64(seed);
        while !over.load(Ordering::Relaxed) {
            // What is lost on the cable is asked for again.
            let _ = work(&mut random);
        }
        Ok(())
    };
    let server = SocketAddr::new(SERVER[0].parse().unwrap(), 53);
    let ask = |name: &str, rtype: &str, rcode: u8| -> Result<()> {
        let reply = ask(server, name, rtype)?;
        answers.fetch_add(1, Ordering::Relaxed);
        wrong.fetch_add(u64::from(reply.rcode() != rcode), Ordering::Relaxed);
        Ok(())
    };
    let own = |random: &mut StdRng| {
        ask("nginx.marathon.mesos", "A", 0)?;
        ask("_nginx._tcp.marathon.mesos", "SRV", 0)?;
        ask(&format!("n{}.mesos", random.next_u64()), "A", 3)
    };
    let others = |random: &mut StdRng| {
        let number = random.random_range(0..OTHERS);
        ask(&format!("n{number}.example"), "A", 0)?;
        ask(&format!("servfail.n{}.example", number % 50), "A", 2)
    };
    let over_tcp = |random: &mut StdRng| {
        let query = Query::new(random.random(), "nginx.marathon.mesos", "A")?;
        wire::ask_over_tcp(server, &query)?;
        // Half a message, and then the end.
        let mut stream = TcpStream::connect(server)?;
        stream.write_all(&[0, 40, 1])?;
        Ok(())
    };
    let noise = |random: &mut StdRng| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let mut octets = [0; 96];
        for _ in 0..50 {
            random.fill_bytes(&mut octets);
            let octets = &octets[..random.random_range(0..96)];
            socket.send_to(octets, server)?;
        }
        thread::sleep(Duration::from_millis(5));
        Ok(())
    };
    let http = |_: &mut StdRng| {
        for path in [
            "/metrics",
            "/v1/enumerate",
            "/v1/hosts/nginx.marathon.mesos",
        ] {
            http_get(SocketAddr::from(([127, 0, 0, 1], 8123)), path)?;
        }
        thread::sleep(Duration::from_millis(20));
        Ok(())
    };
    let clients: [&Work<'_>; 4] = [&own, &others, &over_tcp, &noise];
    let start = Instant::now();
    thread::scope(|scope| {
        for (work, seed) in clients.into_iter().zip(seed..) {
            scope.spawn(move || scene.cable.client.enter(|| until_over(work, seed)).unwrap());
        }
        scope.spawn(|| scene.cable.server.enter(|| until_over(&http, 0)).unwrap());
        let master = scene.master.as_ref().unwrap();
        for round in 0.. {
            let mut state = fake_local();
            let many = |number: u32| format!("10.9.{}.{}", number / 250, number % 250 + 1);
            add_tasks(
                &mut state,
                &format!("churn{}", round % 7),
                &(0..300).map(many).collect::<Vec<_>>(),
            );
            master.serve_state(&state);
            thread::sleep(Duration::from_millis(1_500));
            if round % 4 == 3 {
                scene.daemon.signal(libc::SIGHUP);
            }
            if start.elapsed() >= time {
                break;
            }
        }
        master.serve_state(&fake_local());
        over.store(true, Ordering::Relaxed);
    });
    let (answers, wrong) = (answers.into_inner(), wrong.into_inner());
    println!(
        "{answers} answers in {:?}, {wrong} of them wrong",
        start.elapsed()
    );
    assert!(
        answers > 1_000 && wrong == 0,
        "{answers} answers, {wrong} wrong"
    );
}

/// Asks once, with little patience.
fn ask(server: SocketAddr, name: &str, rtype: &str) -> Result<Reply> {
    let client = wire::client(server)?;
    client.set_read_timeout(Some(Duration::from_secs(2)))?;
    client.send(&Query::new(7, name, rtype)?.octets())?;
    wire::receive(&client)
}
