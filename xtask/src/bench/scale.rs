//! The control plane at size: from a state of many tasks to answers in the kernel, and what the
//! same state costs again at each refresh.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use testbed::{cluster_state::cluster_state, process::Process};

use super::{Bed, INTERFACE, SERVER, program_time, subject::Pins, usage};
use crate::master::Master;

/// Tasks in the states that are measured.
pub(super) const TASKS: [usize; 3] = [5_000, 50_000, 100_000];

/// Where the daemon serves its status.
const STATUS: &str = "http://127.0.0.1:8123";

/// How long a state may take to be published.
const PATIENCE: Duration = Duration::from_secs(120);

/// Refreshes of the same state that are averaged.
const REFRESHES: u64 = 5;

/// Between two refreshes, and longer than reading a state takes.
const REST: Duration = Duration::from_millis(600);

/// What one state costs.
pub(super) struct Cost {
    pub(super) tasks: usize,
    /// Whether the kernel answers, or user space alone.
    pub(super) in_kernel: bool,
    pub(super) state_octets: usize,
    /// Names that are served.
    pub(super) names: u64,
    /// From the start of the daemon to the last name served.
    pub(super) published: Duration,
    /// Processor time until then.
    pub(super) processor_time: Duration,
    /// Memory of the process between two refreshes.
    pub(super) memory: u64,
    /// The most that it had in RAM until it was published.
    pub(super) peak: u64,
    /// Memory of the BPF maps.
    pub(super) map_memory: u64,
    /// Processor time of a refresh that changes nothing.
    pub(super) refresh: Duration,
}

/// Starts the daemon on a state of this many tasks, with XDP or without.
///
/// # Errors
///
/// The daemon does not publish it.
pub(super) fn measure(bed: &Bed, tasks: usize, in_kernel: bool) -> Result<Cost> {
    let listener = bed.server.enter(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
    let leader = listener.local_addr()?.to_string();
    let state = String::from_utf8(cluster_state(tasks, (tasks / 25).clamp(10, 5_000)))?;
    let state = state.replace("master@10.0.0.1:5050", &format!("master@{leader}"));
    let state_octets = state.len();
    let _master = Master::serve(listener, state)?;
    let pins = Pins::new();
    let config = json!({
        "masters": [leader],
        "refreshSeconds": 1,
        "stateTimeoutSeconds": 60,
        "domain": "mesos",
        "listener": SERVER,
        "externalon": false,
        "httpListener": "127.0.0.1",
        "xdp": {
            "interfaces": [INTERFACE],
            "mode": if in_kernel { "native" } else { "off" },
            "max_names": tasks * 24 + 100_000,
            "pin_path": pins.path(),
            "on_exit": "detach",
        },
    });
    let path = bed.folder.join("scale.config.json");
    fs::write(&path, format!("{config:#}\n"))
        .with_context(|| format!("writing {}", path.display()))?;
    let start = Instant::now();
    let mut command = bed.server.command(&bed.daemon);
    let mut process = Process::start("mesos-xdns", command.args(["run", "--config"]).arg(&path))?;
    let status = wait_until_published(bed, &path, &mut process, in_kernel)?;
    let published = start.elapsed();
    let family = usage::family(process.id());
    let processor_time = usage::processor_time(&family);
    let peak = usage::peak(&family);
    let map_memory = match in_kernel {
        true => program_time::map_memory(&bed.server, INTERFACE)?,
        false => 0,
    };
    let refresh = refresh(bed, &path, &family, &status)?;
    // A state that has come is being read.
    thread::sleep(REST);
    let memory = usage::memory(&family);
    process.stop()?;
    Ok(Cost {
        tasks,
        in_kernel,
        state_octets,
        names: number(&status, "/names"),
        published,
        processor_time,
        memory,
        peak,
        map_memory,
        refresh,
    })
}

fn wait_until_published(
    bed: &Bed,
    config: &Path,
    process: &mut Process,
    in_kernel: bool,
) -> Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        // The daemon refuses until it has a state.
        if let Ok(status) = status(bed, config)
            && status["ready"] == true
            && (!in_kernel
                || number(&status, "/xdp/names") + number(&status, "/xdp/left_out")
                    >= number(&status, "/names"))
        {
            return Ok(status);
        }
        if let Some(status) = process.exited() {
            bail!("ended, {status}:\n{}", process.output().join("\n"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!(
        "nothing published within {} s:\n{}",
        PATIENCE.as_secs(),
        process.output().join("\n")
    )
}

/// Processor time of a refresh that finds the state unchanged.
fn refresh(bed: &Bed, config: &Path, family: &[u32], before: &Value) -> Result<Duration> {
    let fetches = |status: &Value| number(status, "/mesos/successes");
    let wait_for = |wanted: u64| -> Result<Duration> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if fetches(&status(bed, config)?) >= wanted {
                return Ok(usage::processor_time(family));
            }
            thread::sleep(Duration::from_millis(200));
        }
        bail!("the state was not fetched again")
    };
    let first = wait_for(fetches(before) + 1)?;
    let last = wait_for(fetches(before) + 1 + REFRESHES)?;
    Ok((last - first) / u32::try_from(REFRESHES)?)
}

pub(super) fn status(bed: &Bed, config: &Path) -> Result<Value> {
    let config = config.to_str().context("a path that is no UTF-8")?;
    let daemon = bed.daemon.to_str().context("a path that is no UTF-8")?;
    let arguments = ["status", "--json", "--url", STATUS, "--config", config];
    Ok(serde_json::from_str(&super::inside(
        &bed.server,
        daemon,
        &arguments,
    )?)?)
}

pub(super) fn number(status: &Value, pointer: &str) -> u64 {
    status.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

impl Cost {
    /// For programs; times in seconds, sizes in octets.
    pub(super) fn json(&self) -> Value {
        json!({
            "tasks": self.tasks,
            "in_kernel": self.in_kernel,
            "state_octets": self.state_octets,
            "names": self.names,
            "published_seconds": self.published.as_secs_f64(),
            "processor_seconds": self.processor_time.as_secs_f64(),
            "memory_octets": self.memory,
            "peak_memory_octets": self.peak,
            "map_memory_octets": self.map_memory,
            "refresh_processor_seconds": self.refresh.as_secs_f64(),
        })
    }
}
