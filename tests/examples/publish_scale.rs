//! Publication at scale: what it takes to load very many names into the kernel's maps, how much
//! memory a name takes, and how soon changes are visible. Needs root.
//!
//! `cargo run --release -p tests --example publish_scale -- [NAMES] [CHANGES]`

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use dns_userspace::dataplane::Settings;
use dns_userspace::zones::{Editor, Name, Rdata, Rrset, Rtype};
use tests::frame::Frame;
use tests::generate::{Ask, name, query, zone};
use tests::kernel::{Action, Kernel, SEED, settings};
use tests::measure::{Memory, cpu_time, map_octets};

/// Rounds of changes; the median counts.
const ROUNDS: u32 = 9;

#[global_allocator]
static ALLOCATOR: dns_userspace::memory::Allocator = dns_userspace::memory::Allocator;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u32| arguments.next().map_or(Ok(default), |text| text.parse());
    let (names, changes) = (number(1_000_000)?, number(1000)?.max(1));
    ensure!(changes <= names, "more changes than names");

    let before = (Memory::now()?, map_octets()?);
    // Room for the apex, what lies between it and the names, and the name server.
    let mut kernel = Kernel::load(&Settings {
        max_names: names + 8,
        ..settings()
    })?;
    let apex = name("mesos");
    let mut editor = Editor::new(SEED, vec![zone("mesos")], kernel.encoder(), 1)?;
    kernel.publish(editor.snapshot())?;

    let content = (0..names).map(|index| record(index, 0)).collect();
    let (start, cpu) = (Instant::now(), cpu_time());
    editor.replace(&apex, content)?;
    let diff = editor.commit(2);
    let committed = start.elapsed();
    kernel.publish(editor.snapshot())?;
    let (loaded, cpu) = (start.elapsed(), cpu_time() - cpu);
    drop(diff);
    let after = (Memory::now()?, map_octets()?);
    println!(
        "{names} names loaded in {:.0} ms, {:.0} ms of them for the zones; processor time {:.0} ms",
        milliseconds(loaded),
        milliseconds(committed),
        milliseconds(cpu)
    );
    for index in [0, names / 2, names - 1] {
        ensure!(
            answers(&mut kernel, index, 0)?,
            "{} is not answered",
            owner(index)
        );
    }
    let per_name = |octets: u64| octets / u64::from(names);
    let user = per_name(after.0.own.saturating_sub(before.0.own));
    let maps = per_name(after.1.saturating_sub(before.1));
    println!(
        "octets for each name: {maps} in maps, {user} of the process, {} in all",
        maps + user
    );

    let mut visible = Vec::new();
    let step = names / changes;
    for round in 1..=ROUNDS {
        let changed = (0..changes).map(|nth| nth * step + (round % step.max(1)) % names);
        let changed: Vec<(Name, Rrset)> = changed.map(|index| record(index, round)).collect();
        let last = changed.len() as u32 - 1;
        let start = Instant::now();
        for (owner, rrset) in changed {
            editor.set(&owner, vec![rrset])?;
        }
        let diff = editor.commit(2 + round);
        ensure!(
            diff.changed.len() as u32 == changes + 1,
            "the apex and the names change"
        );
        kernel.publish(editor.snapshot())?;
        // What the last of them says is what a client gets from here on.
        visible.push(start.elapsed());
        let index = last * step + (round % step.max(1)) % names;
        ensure!(
            answers(&mut kernel, index, round)?,
            "{} is not changed",
            owner(index)
        );
    }
    visible.sort_unstable();
    let median = visible.get(visible.len() / 2).copied().unwrap_or_default();
    let worst = visible.last().copied().unwrap_or_default();
    println!(
        "{changes} changes visible after {:.1} ms (median of {ROUNDS}), at worst {:.1} ms",
        milliseconds(median),
        milliseconds(worst)
    );
    Ok(())
}

fn owner(index: u32) -> Name {
    name(&format!("task-{index:07}.bench.mesos"))
}

fn address(index: u32, generation: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(
        0x0a00_0000 | (index.wrapping_add(generation.wrapping_mul(0x10_0001)) & 0xff_ffff),
    )
}

fn record(index: u32, generation: u32) -> (Name, Rrset) {
    let data = vec![Rdata::A(address(index, generation))];
    (owner(index), Rrset::new(Rtype::A, 60, data))
}

/// Whether the kernel gives the address of this generation.
fn answers(kernel: &mut Kernel, index: u32, generation: u32) -> anyhow::Result<bool> {
    let message = query(&Ask {
        owner: owner(index),
        upper: 0,
        id: 7,
        flags: 0x0100,
        rtype: Rtype::A.0,
        opt: None,
        version: 0,
    });
    let frame = Frame::query([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), message);
    let (action, out) = kernel.run(&frame.octets())?;
    let octets = address(index, generation).octets();
    Ok(action == Action::Tx && out.ends_with(&octets))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
