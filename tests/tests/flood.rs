//! A flood of names that do not exist, from sources that are not who they say: the kernel denies
//! them, memory stays, user space idles, and a client is answered all the while.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use aya::programs::loaded_programs;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tests::{
    cable::{self, SERVER},
    dig::Dig,
    frame::Frame,
    needs_scene,
    raw::Wire,
    scene::{Scene, fake_local},
};

const NAMES: u64 = 1_000_000;
const TASK: &str = "nginx.marathon.mesos";

#[test]
fn a_million_absent_names_cost_nobody_anything() {
    needs_scene!();
    let scene = Scene::with(&fake_local(), |_| {}).unwrap();
    let macs = scene.cable.macs().unwrap();
    let client = Dig::at(SERVER[0]).from(&scene.cable.client);
    assert_eq!(client.ask(TASK, "A").unwrap().answer.len(), 1);
    let _statistics = aya::sys::enable_stats(aya::sys::Stats::RunTime).unwrap();
    let before = Account::of(&scene);
    let over = AtomicBool::new(false);
    let start = Instant::now();
    let (sent, asked) = thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let sent = scene.cable.client.enter(|| {
                let denied = || Account::of(&scene).verdicts["nxdomain"];
                let first = before.verdicts["nxdomain"];
                let mut source = Source::new(macs);
                let wire = Wire::open("client", false)?;
                let mut sent = 0;
                // Frames that the cable has no room for are lost before any program sees them.
                while denied() < first + NAMES {
                    for _ in 0..50 {
                        sent += wire.send(&source.frames(1_000))? as u64;
                    }
                }
                Ok(sent)
            });
            over.store(true, Ordering::Relaxed);
            sent
        });
        let mut asked = 0;
        while !over.load(Ordering::Relaxed) {
            // As resolvers do, three times: the cable may lose one.
            let answer = (0..3).find_map(|_| client.ask(TASK, "A").ok());
            assert_eq!(answer.expect("an answer").answer.len(), 1);
            asked += 1;
        }
        (flood.join().unwrap().unwrap(), asked)
    });
    let time = start.elapsed();
    let after = Account::of(&scene);
    println!(
        "{sent} frames in {time:?}, {asked} questions of a client; {after:?} after {before:?}"
    );
    assert!(asked > 0);
    // Every packet has one verdict, and nothing else is counted.
    let counted = after.packets() - before.packets();
    assert_eq!(
        counted,
        after.runs - before.runs,
        "packets that the kernel ran the program for"
    );
    let denied = after.verdicts["nxdomain"] - before.verdicts["nxdomain"];
    assert!((NAMES..=sent).contains(&denied), "{denied} of {sent}");
    // The flood never reaches user space.
    assert_eq!(after.queries, before.queries);
    assert!(after.descriptors <= before.descriptors + 8);
    assert!(after.resident < before.resident + (4 << 20), "{after:?}");
    // Ticks of a hundredth of a second: a twentieth of the time, and what asking for the status costs.
    let busy = Duration::from_millis(10 * (after.ticks - before.ticks));
    assert!(busy < time / 5, "{busy:?} of {time:?}");
}

/// What the daemon and the kernel say of the daemon.
#[derive(Debug)]
struct Account {
    verdicts: BTreeMap<String, u64>,
    /// UDP queries at the server's sockets.
    queries: u64,
    /// Octets of resident memory.
    resident: u64,
    /// Processor time in hundredths of a second.
    ticks: u64,
    descriptors: usize,
    /// How often the kernel ran the program.
    runs: u64,
}

impl Account {
    fn of(scene: &Scene) -> Self {
        let runs = runs(scene);
        let process = format!("/proc/{}", scene.daemon.id());
        let stat = fs::read_to_string(format!("{process}/stat")).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let field =
            |number: usize| -> u64 { fields.split(' ').nth(number - 3).unwrap().parse().unwrap() };
        let status = scene.daemon.status().unwrap();
        Self {
            verdicts: status.xdp.verdicts,
            queries: status.server["udp"]["queries"],
            resident: field(24) * 4096,
            ticks: field(14) + field(15),
            descriptors: fs::read_dir(format!("{process}/fd")).unwrap().count(),
            runs,
        }
    }

    fn packets(&self) -> u64 {
        self.verdicts.values().sum()
    }
}

/// How often the kernel ran the program that is on the server's interface.
fn runs(scene: &Scene) -> u64 {
    let link = scene
        .cable
        .server
        .ip(&format!("-json link show {}", cable::INTERFACE))
        .unwrap();
    let link: Value = serde_json::from_str(&link).unwrap();
    let id = link[0]["xdp"]["prog"]["id"].as_u64().unwrap();
    let mut programs = loaded_programs().filter_map(Result::ok);
    let program = programs.find(|one| u64::from(one.id()) == id).unwrap();
    program.run_count()
}

/// Makes queries for random names from random addresses.
struct Source {
    random: StdRng,
    macs: [[u8; 6]; 2],
}

impl Source {
    fn new(macs: [[u8; 6]; 2]) -> Self {
        let seed = rand::random();
        println!("seed {seed}");
        Self {
            random: StdRng::seed_from_u64(seed),
            macs,
        }
    }

    fn frames(&mut self, count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|_| self.frame()).collect()
    }

    fn frame(&mut self) -> Vec<u8> {
        let mut message = Vec::with_capacity(60);
        message.extend(self.random.random::<[u8; 2]>());
        message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 16]);
        for _ in 0..16 {
            message.push(self.random.random_range(b'a'..=b'z'));
        }
        message.extend(b"\x08marathon\x05mesos\0\0\x01\0\x01");
        let v6 = self.random.random_range(0..4) == 0;
        let (from, to): (IpAddr, IpAddr) = if v6 {
            let mut octets: [u8; 16] = self.random.random();
            octets[..2].copy_from_slice(&[0x20, 0x02]);
            (Ipv6Addr::from(octets).into(), SERVER[1].parse().unwrap())
        } else {
            let [_, b, c, d]: [u8; 4] = self.random.random();
            let first = self.random.random_range(1..100);
            (
                Ipv4Addr::new(first, b, c, d).into(),
                SERVER[0].parse().unwrap(),
            )
        };
        let [client, server] = self.macs;
        let frame = Frame {
            from: client,
            to: server,
            source_port: self.random.random_range(1024..=u16::MAX),
            ..Frame::query(from, to, message)
        };
        frame.octets()
    }
}
