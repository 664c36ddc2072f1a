//! What is measured: each subject starts on the server's end of the cable and stops again.

use std::{
    fmt, fs,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::{Value, json};
use testbed::{process::Process, xdp};

use super::{
    Bed, INTERFACE, SERVER, latency, program_time, servers, usage,
    zone::{self, Dataset},
};
use crate::master::Master;

/// How long a server may take to load its names.
const START: Duration = Duration::from_secs(120);

/// The subjects, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// A bare XDP program that turns every query round
    Reflector,
    /// The daemon, answering in the kernel
    Kernel,
    /// The daemon, answering in user space
    UserSpace,
    /// NSD
    Nsd,
    /// Knot DNS on sockets
    Knot,
    /// Knot DNS on AF_XDP
    KnotXdp,
    /// BIND
    Bind,
    /// Unbound with the zone as its own
    Unbound,
    /// dnsdist with a packet cache, NSD behind it
    Dnsdist,
    /// The mesos-dns given by --mesos-dns
    MesosDns,
}

impl Kind {
    pub(super) const ALL: [Self; 10] = [
        Self::Reflector,
        Self::Kernel,
        Self::UserSpace,
        Self::Nsd,
        Self::Knot,
        Self::KnotXdp,
        Self::Bind,
        Self::Unbound,
        Self::Dnsdist,
        Self::MesosDns,
    ];

    pub(super) fn is_daemon(self) -> bool {
        matches!(self, Self::Kernel | Self::UserSpace)
    }

    /// Whether it holds no records, so that its replies are the queries.
    pub(super) fn is_reflector(self) -> bool {
        self == Self::Reflector
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Reflector => "bare reflector",
            Self::Kernel => "mesos-xdns, kernel",
            Self::UserSpace => "mesos-xdns, user space",
            Self::Nsd => "NSD",
            Self::Knot => "Knot DNS",
            Self::KnotXdp => "Knot DNS, AF_XDP",
            Self::Bind => "BIND",
            Self::Unbound => "Unbound",
            Self::Dnsdist => "dnsdist, cached",
            Self::MesosDns => "mesos-dns",
        })
    }
}

/// A subject that answers. What stands first is ended first.
pub(super) struct Subject {
    kind: Kind,
    process: Option<Process>,
    /// What it gets its records from.
    _source: Source,
    _pins: Option<Pins>,
}

enum Source {
    None,
    Master(#[expect(dead_code, reason = "serves until it is dropped")] Master),
    Primary(#[expect(dead_code, reason = "serves until it is dropped")] Process),
    Reflector(#[expect(dead_code, reason = "answers until it is dropped")] xdp::Attached),
}

impl Subject {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    ///
    /// It does not answer in time; the error carries its output.
    pub(super) fn start(kind: Kind, bed: &Bed, dataset: Dataset) -> Result<Self> {
        match kind {
            Kind::Reflector => {
                let reflector = bed.server.enter(|| xdp::reflect().attach(INTERFACE))?;
                Ok(Self {
                    kind,
                    process: None,
                    _source: Source::Reflector(reflector),
                    _pins: None,
                })
            }
            Kind::Kernel | Kind::UserSpace => Self::daemon(kind, bed, dataset),
            Kind::Nsd => Self::server(kind, bed, dataset, servers::nsd(bed, dataset, SERVER, 53)?),
            Kind::Knot => Self::server(kind, bed, dataset, servers::knot(bed, dataset, false)?),
            Kind::KnotXdp => Self::server(kind, bed, dataset, servers::knot(bed, dataset, true)?),
            Kind::Bind => Self::server(kind, bed, dataset, servers::bind(bed, dataset)?),
            Kind::Unbound => Self::server(kind, bed, dataset, servers::unbound(bed, dataset)?),
            Kind::Dnsdist => {
                let backend = primary(bed, dataset)?;
                let subject = Self::server(kind, bed, dataset, servers::dnsdist(bed, dataset)?)?;
                Ok(Self {
                    _source: Source::Primary(backend),
                    ..subject
                })
            }
            Kind::MesosDns => Self::mesos_dns(bed, dataset),
        }
    }

    /// Whether it gives queries back for answers.
    pub(super) fn is_reflector(&self) -> bool {
        self.kind.is_reflector()
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// Its process cannot be waited for.
    pub(super) fn stop(mut self, bed: &Bed) -> Result<()> {
        if let Some(process) = &mut self.process {
            process.stop()?;
        }
        if self.kind == Kind::KnotXdp {
            // It leaves its program behind, which would run before the next subject.
            bed.server
                .ip(&format!("link set dev {INTERFACE} xdp off"))?;
        }
        Ok(())
    }

    /// Processor time of its processes so far.
    pub(super) fn processor_time(&self) -> Duration {
        usage::processor_time(&self.family())
    }

    /// Memory of its processes, and of the maps of its XDP program.
    ///
    /// # Errors
    ///
    /// The maps cannot be listed.
    pub(super) fn memory(&self, bed: &Bed) -> Result<u64> {
        let maps = program_time::map_memory(&bed.server, INTERFACE)?;
        Ok(usage::memory(&self.family()) + maps)
    }

    fn family(&self) -> Vec<u32> {
        let root = self.process.as_ref().map(Process::id);
        root.map(usage::family).unwrap_or_default()
    }

    fn server(kind: Kind, bed: &Bed, dataset: Dataset, mut command: Command) -> Result<Self> {
        let mut process = Process::start(&kind.to_string(), &mut command)?;
        wait_for_answer(bed, dataset, SERVER, 53, &mut process)?;
        Ok(Self {
            kind,
            process: Some(process),
            _source: Source::None,
            _pins: None,
        })
    }

    fn daemon(kind: Kind, bed: &Bed, dataset: Dataset) -> Result<Self> {
        let pins = (kind == Kind::Kernel).then(Pins::new);
        let xdp = match &pins {
            Some(pins) => json!({
                "interfaces": [INTERFACE],
                "mode": "native",
                // Each task has several names.
                "max_names": dataset.names().max(zone::SMALL * 8) * 5 / 4,
                "pin_path": pins.path(),
                "on_exit": "detach",
            }),
            None => json!({ "mode": "off" }),
        };
        let (source, mut config) = match dataset {
            Dataset::Small => {
                let (master, leader) = master(bed, dataset)?;
                (Source::Master(master), following(&leader))
            }
            // Of a million tasks mesos-dns makes several million names.
            Dataset::Large => (
                Source::Primary(primary(bed, dataset)?),
                json!({
                    "domain": "no-cluster",
                    "listener": SERVER,
                    "port": 53,
                    "externalon": false,
                    "httpon": false,
                    "secondary": [{
                        "zone": "mesos",
                        "primaries": [format!("127.0.0.1:{}", servers::BACKEND_PORT)],
                    }],
                    "transfer": { "state_directory": servers::folder(bed, "mesos-xdns")? },
                }),
            ),
        };
        if let Some(config) = config.as_object_mut() {
            config.insert("xdp".to_owned(), xdp);
        }
        let path = bed.folder.join("mesos-xdns.config.json");
        write_json(&path, &config)?;
        let mut command = bed.server.command(&bed.daemon);
        command.args(["run", "--config"]).arg(&path);
        let subject = Self::server(kind, bed, dataset, command)?;
        Ok(Self {
            _source: source,
            _pins: pins,
            ..subject
        })
    }

    fn mesos_dns(bed: &Bed, dataset: Dataset) -> Result<Self> {
        let program = bed.mesos_dns.as_ref();
        let program = program.context("no binary was given with --mesos-dns")?;
        let (master, leader) = master(bed, dataset)?;
        let path = bed.folder.join("mesos-dns.config.json");
        write_json(&path, &following(&leader))?;
        let mut command = bed.server.command(program);
        command.arg(format!("-config={}", path.display()));
        let subject = Self::server(Kind::MesosDns, bed, dataset, command)?;
        Ok(Self {
            _source: Source::Master(master),
            ..subject
        })
    }
}

/// A Mesos master with the records, and where it listens.
fn master(bed: &Bed, dataset: Dataset) -> Result<(Master, String)> {
    let listener = bed.server.enter(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
    let leader = listener.local_addr()?.to_string();
    let state = zone::state(dataset.names(), &leader);
    Ok((Master::serve(listener, state)?, leader))
}

/// A configuration of mesos-dns.
fn following(leader: &str) -> Value {
    json!({
        "masters": [leader],
        "refreshSeconds": 60,
        "stateTimeoutSeconds": 60,
        "domain": "mesos",
        "listener": SERVER,
        "port": 53,
        "externalon": false,
        "httpon": false,
    })
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    fs::write(path, format!("{value:#}\n")).with_context(|| format!("writing {}", path.display()))
}

/// NSD on loopback, for others to take the zone from or to ask.
fn primary(bed: &Bed, dataset: Dataset) -> Result<Process> {
    let mut command = servers::nsd(bed, dataset, "127.0.0.1", servers::BACKEND_PORT)?;
    let mut process = Process::start("the primary", &mut command)?;
    wait_for_answer(
        bed,
        dataset,
        "127.0.0.1",
        servers::BACKEND_PORT,
        &mut process,
    )?;
    Ok(process)
}

/// Where the daemon pins; removed with this value.
pub(super) struct Pins(PathBuf);

impl Pins {
    pub(super) fn new() -> Self {
        let name = format!("mesos-xdns-bench-{}", std::process::id());
        Self(Path::new("/sys/fs/bpf").join(name))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if self.0.exists()
            && let Err(error) = fs::remove_dir_all(&self.0)
        {
            eprintln!("{} stays behind: {error}", self.0.display());
        }
    }
}

/// Asks from inside the server's namespace, where XDP is not involved, until the last of the names
/// has an answer.
fn wait_for_answer(
    bed: &Bed,
    dataset: Dataset,
    server: &str,
    port: u16,
    process: &mut Process,
) -> Result<()> {
    let socket = bed
        .server
        .enter(|| Ok(UdpSocket::bind(format!("{server}:0"))?))?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let server: SocketAddr = format!("{server}:{port}").parse()?;
    let query = latency::query(0x1234, &zone::name(dataset.names() - 1));
    let deadline = Instant::now() + START;
    let mut reply = [0; 512];
    while Instant::now() < deadline {
        // Refused until the server listens.
        let sent = socket.send_to(&query, server);
        if sent.is_ok()
            && let Ok(length) = socket.recv(&mut reply)
            && let Some([0x12, 0x34, _, _, _, _, 0, 1]) = reply.get(..length.min(8))
        {
            return Ok(());
        }
        if let Some(status) = process.exited() {
            bail!("ended, {status}:\n{}", process.output().join("\n"));
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!(
        "no answer within {} s:\n{}",
        START.as_secs(),
        process.output().join("\n")
    )
}
