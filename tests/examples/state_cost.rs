//! What one refresh costs from the body to the zone content: processor time of the best of several
//! runs, and
//! peak memory over what the program has when idle.
//!
//! `cargo run --release -p tests --example state_cost -- [TASKS] [AGENTS]`

use std::mem::MaybeUninit;
use std::time::Duration;

use dns_userspace::config::{Surroundings, check_text};
use dns_userspace::records::{build, to_zone};
use dns_userspace::zones::{Name, Rrset};
use dns_userspace::{commands, mesos};
use tests::cluster_state::cluster_state;

/// Runs of which the best counts.
const RUNS: usize = 15;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let tasks = arguments.next().map_or(Ok(5006), |text| text.parse())?;
    let agents = arguments.next().map_or(Ok(200), |text| text.parse())?;
    let body = cluster_state(tasks, agents);
    let text = br#"{"masters":["10.0.0.1:5050"],"listener":"10.0.0.53"}"#;
    let checked = check_text(text, "config.json".as_ref(), &Surroundings::default());
    let Some(config) = checked.config else {
        anyhow::bail!("configuration: {:?}", checked.problems);
    };
    let settings = config.record_settings(&[]);
    let resolve = &commands::records::hosts_file;

    let idle = peak_kilobytes()?;
    let mut best = [Duration::MAX; 3];
    let mut counts = (0, 0);
    for run in 0..RUNS {
        let start = cpu_time();
        let (state, _) = mesos::parse(&body)?;
        let parsed = cpu_time();
        let set = build(&state, &config.masters, &settings, resolve);
        let built = cpu_time();
        let zone = to_zone::zone(&settings, true)?;
        let content: Vec<(Name, Rrset)> = to_zone::zone_content(&set, &settings, &zone.apex).rrsets;
        let done = cpu_time();
        counts = (set.len(), content.len());
        let steps = [parsed - start, built - parsed, done - built];
        for (best, step) in best.iter_mut().zip(steps) {
            *best = (*best).min(step);
        }
        if run == 0 {
            println!(
                "peak over idle, one refresh: {} kB",
                peak_kilobytes()? - idle
            );
        }
    }
    println!(
        "{tasks} tasks, {} bytes, {} records, {} RRsets",
        body.len(),
        counts.0,
        counts.1
    );
    for (what, time) in ["parse", "records", "zone content"].iter().zip(best) {
        println!("{what}: {:.1} ms", time.as_secs_f64() * 1e3);
    }
    println!(
        "all: {:.1} ms",
        best.iter().sum::<Duration>().as_secs_f64() * 1e3
    );
    Ok(())
}

/// The most memory this process has had resident so far.
fn peak_kilobytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    Ok(number.unwrap_or_default().parse()?)
}

/// The processor time that this thread has had.
fn cpu_time() -> Duration {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: the pointer is to a place for the structure, which the call fills; zeros are a valid
    // value of it, should the call fail.
    let time = unsafe {
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr());
        time.assume_init()
    };
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::from_secs(seconds)
        + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or_default())
}
