//! What one refresh costs from the body to the kernel's maps: processor time of the best of several
//! runs, and peak memory over what the program has when idle. Without root the maps are left out.
//!
//! `cargo run --release -p tests --example state_cost -- [TASKS] [AGENTS] [RUNS]`

use std::sync::Arc;
use std::time::Duration;

use dns_userspace::answers::encode::BlobEncoder;
use dns_userspace::config::{Surroundings, check_text};
use dns_userspace::dataplane::Settings;
use dns_userspace::records::{build, to_zone};
use dns_userspace::zones::Editor;
use dns_userspace::{commands, mesos};
use testbed::cluster_state::cluster_state;
use tests::kernel::{self, Kernel, SEED};
use tests::measure::{Memory, cpu_time, map_octets, reset_peak};

/// Room in the maps for each task: they have seven or eight names.
const NAMES_PER_TASK: u32 = 8;

const STEPS: [&str; 5] = ["parse", "records", "zone content", "zones", "maps"];

#[global_allocator]
static ALLOCATOR: dns_userspace::memory::Allocator = dns_userspace::memory::Allocator;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (tasks, agents, runs) = (number(5006)?, number(200)?, number(15)?);
    let body = cluster_state(tasks, agents);
    let text = br#"{"masters":["10.0.0.1:5050"],"listener":"10.0.0.53"}"#;
    let checked = check_text(text, "config.json".as_ref(), &Surroundings::default());
    let Some(config) = checked.config else {
        anyhow::bail!("configuration: {:?}", checked.problems);
    };
    let settings = config.record_settings(&[]);
    let resolve = &commands::records::hosts_file;

    let mut best = [Duration::MAX; STEPS.len()];
    let mut counts = [0; 4];
    for run in 0..runs {
        let mut kernel = Kernel::load(&Settings {
            max_names: config
                .xdp
                .max_names
                .max(NAMES_PER_TASK * u32::try_from(tasks)?),
            ..kernel::settings()
        });
        if let (Err(error), 0) = (&kernel, run) {
            println!("without maps: {error:#}");
        }
        let zone = to_zone::zone(&settings, true)?;
        let apex = zone.apex.clone();
        let encoder = match &kernel {
            Ok(kernel) => kernel.encoder(),
            Err(_) => Arc::new(BlobEncoder),
        };
        let mut editor = Editor::new(SEED, vec![zone], encoder, 1)?;
        if let Ok(kernel) = &mut kernel {
            kernel.publish(editor.snapshot())?;
        }
        reset_peak()?;
        let idle = Memory::now()?;
        let mut times = vec![cpu_time()];
        let (state, _) = mesos::parse(&body)?;
        times.push(cpu_time());
        let set = build(&state, &config.masters, &settings, resolve);
        times.push(cpu_time());
        let content = to_zone::zone_content(&set, &settings, &apex).rrsets;
        counts = [set.len(), content.len(), 0, 0];
        times.push(cpu_time());
        editor.replace(&apex, content)?;
        editor.commit(2);
        times.push(cpu_time());
        if let Ok(kernel) = &mut kernel {
            kernel.publish(editor.snapshot())?;
        }
        times.push(cpu_time());
        counts[2] = editor.snapshot().len();
        counts[3] = usize::try_from(map_octets()?)?;
        for (best, pair) in best.iter_mut().zip(times.windows(2)) {
            if let [start, end] = pair {
                *best = (*best).min(*end - *start);
            }
        }
        if run == 0 {
            let now = Memory::now()?;
            println!(
                "over idle, one refresh: peak {} kB, afterwards {} kB",
                now.peak.saturating_sub(idle.resident) / 1024,
                now.own.saturating_sub(idle.own) / 1024
            );
        }
    }
    let [records, rrsets, names, maps] = counts;
    println!(
        "{tasks} tasks, {} bytes, {records} records, {rrsets} RRsets, {names} names, maps of {} kB",
        body.len(),
        maps / 1024
    );
    for (what, time) in STEPS.iter().zip(best) {
        println!("{what}: {:.1} ms", milliseconds(time));
    }
    println!("all: {:.1} ms", milliseconds(best.iter().sum()));
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
