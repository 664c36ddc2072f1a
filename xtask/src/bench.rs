//! `cargo xtask bench`: replies per second and program time, against the least and the usual.
//!
//! On one veth pair, in one run, the same queries go to (a) a bare XDP reflector, the bound no
//! answer in the kernel can beat, (b) the daemon answering in the kernel, (c) the daemon answering
//! in user space, (d) NSD with the same records. Client and server share the CPUs, so the subjects
//! alternate, round by round, and medians are compared; the sharp figure is the program's own time
//! per packet, from the kernel's statistics, which are on for every subject.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use testbed::netns::{self, End, Netns};

use crate::{
    build::{self, Profile},
    setup, shell,
    toolchain::find_program,
};

mod kxdpgun;
mod program_time;
mod report;
mod subject;
mod zone;

use program_time::Statistics;
use report::{Measurement, Report};
use subject::Subject;

/// Measures replies per second and program time against a reflector and NSD.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds; each measures every subject once with each kind of load
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: u32,
    /// Length of one measurement
    #[arg(long, default_value_t = 5, value_name = "N")]
    seconds: u32,
    /// Queries per second that the client tries to send
    #[arg(long, default_value_t = 2_000_000, value_name = "N")]
    rate: u32,
    /// Names in the zone
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    names: u32,
    /// Also write the results to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure this daemon instead of building one
    #[arg(long, value_name = "FILE")]
    daemon: Option<PathBuf>,
    /// Measure only these
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<subject::Kind>,
}

/// The client's interface and address.
const CLIENT: (&str, &str) = ("client", "192.0.2.1/24");

/// The server's interface, inside [`Bed::server`].
const INTERFACE: &str = "server";

/// The server's address.
const SERVER: &str = "192.0.2.2";

/// Everything a subject needs to know about where it runs.
struct Bed {
    client: Netns,
    server: Netns,
    /// For files of servers; below cargo's target folder.
    folder: PathBuf,
    daemon: PathBuf,
    names: u32,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::programs(setup::FOR_BENCH);
    ensure!(
        setup::is_root(),
        "the bench needs root, for network namespaces and BPF"
    );
    ensure!(find_program("kxdpgun").is_some(), "the bench needs kxdpgun");
    ensure!(
        (1..=zone::MOST_NAMES).contains(&arguments.names),
        "--names must be between 1 and {}",
        zone::MOST_NAMES
    );
    let wanted = |kind: &subject::Kind| arguments.only.is_empty() || arguments.only.contains(kind);
    let kinds: Vec<_> = subject::Kind::ALL.into_iter().filter(wanted).collect();
    let daemon = match &arguments.daemon {
        Some(daemon) => daemon.clone(),
        None if kinds.iter().any(|kind| kind.is_daemon()) => build::daemon(Profile::Release)?,
        None => PathBuf::new(),
    };
    let bed = Bed::make(daemon, arguments.names)?;
    let loads = zone::loads(&bed.folder, arguments.names)?;
    let statistics = Statistics::switch_on()?;
    let mut report = Report::default();
    for round in 1..=arguments.rounds {
        for kind in &kinds {
            if report.is_missing(*kind) {
                continue;
            }
            let subject = match Subject::start(*kind, &bed) {
                Ok(subject) => subject,
                Err(error) => {
                    eprintln!("{kind}: {error:#}");
                    report.missing(*kind, format!("{error:#}"));
                    continue;
                }
            };
            for load in &loads {
                let before = statistics.read(&bed.server, INTERFACE)?;
                let replies = kxdpgun::run(
                    &bed.client,
                    &load.queries,
                    SERVER,
                    arguments.rate,
                    Duration::from_secs(arguments.seconds.into()),
                )?;
                let after = statistics.read(&bed.server, INTERFACE)?;
                let program_ns = after
                    .zip(before)
                    .and_then(|(after, before)| after.since(before));
                eprintln!(
                    "round {round}, {kind}, {}: {:.0} replies/s, {} ns",
                    load.name,
                    replies.per_second,
                    program_ns.map_or("-".to_owned(), |ns| format!("{ns:.0}"))
                );
                report.add(Measurement {
                    subject: *kind,
                    load: load.name,
                    replies_per_second: replies.per_second,
                    answered: replies.answered(),
                    program_ns,
                });
            }
            subject.stop()?;
        }
    }
    drop(statistics);
    print!("{}", report.table(arguments.rounds, arguments.seconds));
    if let Some(path) = &arguments.json {
        let json = report.json(arguments.rounds, arguments.seconds);
        fs::write(path, format!("{json:#}\n"))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    report.complete()
}

impl Bed {
    fn make(daemon: PathBuf, names: u32) -> Result<Self> {
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
            names,
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
