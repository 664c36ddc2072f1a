//! `cargo xtask bench`: replies per second, processor time, latency and memory, side by side.
//!
//! On one veth pair, in one run, the same queries go to a bare XDP reflector, the bound that no
//! answer in the kernel can beat, to the daemon answering in the kernel and in user space, and to
//! other name servers with the same records. Client and server share the CPUs, so the subjects
//! alternate, round by round, and medians are compared; the sharp figures are a program's own time
//! per packet, from the kernel's statistics, which are on for every subject, and the replies for
//! each second of a server's processor time. Then the control plane is started on states of
//! growing size.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use clap::ValueEnum;
use testbed::netns::{self, End, Netns};

use crate::{
    build::{self, Profile},
    setup, shell,
    toolchain::find_program,
};

mod changes;
mod dnsperf;
mod kxdpgun;
mod latency;
mod page;
mod plot;
mod program_time;
mod report;
mod scale;
mod servers;
mod subject;
mod usage;
mod zone;

use page::Results;
use program_time::Statistics;
use report::{Figures, Measurement, Report, microseconds};
use subject::{Kind, Subject};
use zone::{Dataset, Workload};

/// Measures mesos-xdns beside a bare reflector and other name servers.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Measure only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    what: Vec<Part>,
    /// Measure only these subjects
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Measure only under these loads
    #[arg(long, value_enum, value_delimiter = ',')]
    loads: Vec<Workload>,
    /// Rounds; each measures every subject once with each kind of load
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: u32,
    /// Length of one measurement
    #[arg(long, default_value_t = 4, value_name = "N")]
    seconds: u32,
    /// Queries per second that the client tries to send at saturation
    #[arg(long, default_value_t = 2_000_000, value_name = "N")]
    rate: u32,
    /// Neither latency at half load nor dnsperf: replies and program time alone
    #[arg(long)]
    brief: bool,
    /// Also write the results to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the results, with plots, to docs/performance
    #[arg(long)]
    publish: bool,
    /// Measure this daemon instead of building one
    #[arg(long, value_name = "FILE")]
    daemon: Option<PathBuf>,
    /// Also measure this mesos-dns
    #[arg(long, value_name = "FILE")]
    mesos_dns: Option<PathBuf>,
}

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Answers to queries, beside other name servers
    Queries,
    /// From states of many tasks to answers in the kernel
    Scale,
    /// From events of changed tasks to answers in the kernel
    Changes,
}

/// The client's interface and address.
const CLIENT: (&str, &str) = ("client", "192.0.2.1/24");

/// The server's interface, inside [`Bed::server`].
const INTERFACE: &str = "server";

/// The server's address.
const SERVER: &str = "192.0.2.2";

/// The client's address.
const CLIENT_ADDRESS: &str = "192.0.2.1";

/// Everything a subject needs to know about where it runs.
struct Bed {
    client: Netns,
    server: Netns,
    /// For files of servers; below cargo's target folder.
    folder: PathBuf,
    daemon: PathBuf,
    mesos_dns: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::programs(setup::FOR_BENCH);
    ensure!(
        setup::is_root(),
        "the bench needs root, for network namespaces and BPF"
    );
    ensure!(find_program("kxdpgun").is_some(), "the bench needs kxdpgun");
    let daemon = match &arguments.daemon {
        Some(daemon) => daemon.clone(),
        None => build::daemon(Profile::Release)?,
    };
    let version = shell::output(Command::new(&daemon).arg("--version"))?;
    let bed = Bed::make(daemon, arguments.mesos_dns.clone())?;
    let is_wanted = |part| arguments.what.is_empty() || arguments.what.contains(&part);
    let mut results = Results {
        report: Report::default(),
        scale: Vec::new(),
        changes: Vec::new(),
        rounds: arguments.rounds,
        seconds: arguments.seconds,
        daemon: version.trim().to_owned(),
    };
    if is_wanted(Part::Queries) {
        queries(arguments, &bed, &mut results.report)?;
    }
    if is_wanted(Part::Scale) {
        let subjects = scale::TASKS.map(|tasks| [(tasks, true), (tasks, false)]);
        for (tasks, in_kernel) in subjects.into_iter().flatten() {
            let cost = scale::measure(&bed, tasks, in_kernel)?;
            eprintln!(
                "{tasks} tasks: published after {:.2} s",
                cost.published.as_secs_f64()
            );
            results.scale.push(cost);
        }
    }
    if is_wanted(Part::Changes) {
        for tasks in changes::TASKS {
            let cost = changes::measure(&bed, tasks)?;
            eprintln!("{tasks} tasks: a change is answered after {:?}", cost.p50);
            results.changes.push(cost);
        }
    }
    print!("{}", results.table());
    if let Some(path) = &arguments.json {
        fs::write(path, format!("{:#}\n", results.json()))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    if arguments.publish {
        results.publish()?;
    }
    results.report.complete()
}

/// Measures every subject under every load, round by round.
fn queries(arguments: &Arguments, bed: &Bed, report: &mut Report) -> Result<()> {
    let wanted = |kind: &Kind| match arguments.only.is_empty() {
        true => *kind != Kind::MesosDns || bed.mesos_dns.is_some(),
        false => arguments.only.contains(kind),
    };
    let kinds: Vec<_> = Kind::ALL.into_iter().filter(wanted).collect();
    let statistics = Statistics::switch_on()?;
    for dataset in Dataset::ALL {
        let loads: Vec<(Workload, PathBuf)> = Workload::ALL
            .into_iter()
            .filter(|load| arguments.loads.is_empty() || arguments.loads.contains(load))
            .filter(|load| load.dataset() == dataset)
            .map(|load| Ok((load, load.queries(&bed.folder)?)))
            .collect::<Result<_>>()?;
        if loads.is_empty() {
            continue;
        }
        dataset.write(&bed.folder)?;
        for round in 1..=arguments.rounds {
            for kind in &kinds {
                if report.is_missing(*kind) {
                    continue;
                }
                let subject = match Subject::start(*kind, bed, dataset) {
                    Ok(subject) => subject,
                    Err(error) => {
                        eprintln!("{kind}: {error:#}");
                        report.missing(*kind, format!("{error:#}"));
                        continue;
                    }
                };
                for (workload, queries) in &loads {
                    let figures = Run {
                        arguments,
                        bed,
                        statistics: &statistics,
                        subject: &subject,
                        workload: *workload,
                        queries,
                    }
                    .measure()
                    .with_context(|| format!("{kind}, {workload}"))?;
                    eprintln!(
                        "round {round}, {kind}, {workload}: {:.0} replies/s, {:.1} % right, {} ns",
                        figures.replies_per_second,
                        figures.right * 100.0,
                        figures
                            .program_ns
                            .map_or("-".to_owned(), |ns| format!("{ns:.0}"))
                    );
                    report.add(Measurement {
                        subject: *kind,
                        workload: *workload,
                        figures,
                    });
                }
                subject.stop(bed)?;
            }
        }
    }
    Ok(())
}

/// One subject under one load.
struct Run<'a> {
    arguments: &'a Arguments,
    bed: &'a Bed,
    statistics: &'a Statistics,
    subject: &'a Subject,
    workload: Workload,
    queries: &'a Path,
}

impl Run<'_> {
    fn measure(&self) -> Result<Figures> {
        let seconds = Duration::from_secs(self.arguments.seconds.into());
        // What follows finds caches as a server has them that is in use.
        self.load(self.arguments.rate, Duration::from_secs(1))?;
        let before = (self.program_time()?, self.subject.processor_time());
        let replies = self.load(self.arguments.rate, seconds)?;
        let after = (self.program_time()?, self.subject.processor_time());
        let program = match (before.0, after.0) {
            (Some(before), Some(after)) => after.since(before),
            _ => None,
        };
        let busy = (after.1 - before.1) + program.map(|one| one.total()).unwrap_or_default();
        let mut figures = Figures {
            replies_per_second: replies.per_second,
            right: replies.right(self.workload),
            program_ns: program.map(|one| one.per_run()),
            per_processor_second: (!busy.is_zero())
                .then(|| replies.total as f64 / busy.as_secs_f64()),
            memory: Some(self.subject.memory(self.bed)? as f64),
            ..Figures::default()
        };
        if !self.arguments.brief {
            let half = (replies.per_second / 2.0) as u32;
            self.add_latency(&mut figures, half.max(1_000), seconds)?;
            if !self.subject.is_reflector() {
                let answers = dnsperf::run(&self.bed.client, self.queries, SERVER, seconds)?;
                figures.dnsperf = Some(answers.per_second);
                figures.dnsperf_latency = Some(microseconds(answers.latency));
            }
        }
        Ok(figures)
    }

    fn load(&self, rate: u32, duration: Duration) -> Result<kxdpgun::Replies> {
        kxdpgun::run(&self.bed.client, self.queries, SERVER, rate, duration)
    }

    fn program_time(&self) -> Result<Option<program_time::RunTime>> {
        self.statistics.read(&self.bed.server, INTERFACE)
    }

    /// One query at a time from a socket while kxdpgun sends at `rate`.
    fn add_latency(&self, figures: &mut Figures, rate: u32, duration: Duration) -> Result<()> {
        let name = self.workload.probe();
        let latency = thread::scope(|scope| {
            // The load starts before the probe and outlasts it.
            let load = scope.spawn(|| self.load(rate, duration + Duration::from_secs(1)));
            thread::sleep(Duration::from_millis(500));
            let latency =
                latency::measure(&self.bed.client, CLIENT_ADDRESS, SERVER, &name, duration);
            let load = load.join().map_err(|_| anyhow!("the load broke off"))?;
            load.and(latency)
        })?;
        let quantile = |share| latency.quantile(share).map(microseconds);
        figures.p50 = quantile(0.5);
        figures.p99 = quantile(0.99);
        figures.p999 = quantile(0.999);
        Ok(())
    }
}

impl Bed {
    fn make(daemon: PathBuf, mesos_dns: Option<PathBuf>) -> Result<Self> {
        let folder = build::target_folder()?.join("bench");
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let client = Netns::new("client")?;
        let server = Netns::new("server")?;
        netns::connect(
            End {
                namespace: Some(&client),
                interface: CLIENT.0,
                addresses: &[CLIENT.1],
            },
            End {
                namespace: Some(&server),
                interface: INTERFACE,
                addresses: &["192.0.2.2/24"],
            },
        )?;
        // Neighbours by hand: kxdpgun wants to know the MAC address and never asks for it.
        neighbour(&client, CLIENT.0, SERVER, &mac(&server, INTERFACE)?)?;
        neighbour(&server, INTERFACE, "192.0.2.1", &mac(&client, CLIENT.0)?)?;
        Ok(Self {
            client,
            server,
            folder,
            daemon,
            mesos_dns,
        })
    }
}

fn neighbour(namespace: &Netns, interface: &str, address: &str, mac: &str) -> Result<()> {
    namespace.ip(&format!(
        "neighbour replace {address} lladdr {mac} dev {interface} nud permanent"
    ))?;
    Ok(())
}

/// The MAC address of an interface.
fn mac(namespace: &Netns, interface: &str) -> Result<String> {
    let links: serde_json::Value =
        serde_json::from_str(&namespace.ip(&format!("-json link show dev {interface}"))?)?;
    let mac = links
        .pointer("/0/address")
        .and_then(serde_json::Value::as_str);
    Ok(mac
        .context("an interface without a MAC address")?
        .to_owned())
}

/// Runs a program in a namespace and returns what it prints.
fn inside(namespace: &Netns, program: &str, arguments: &[&str]) -> Result<String> {
    let program = find_program(program).unwrap_or_else(|| Path::new(program).to_path_buf());
    let mut command: Command = namespace.command(program);
    shell::output(command.args(arguments))
}
