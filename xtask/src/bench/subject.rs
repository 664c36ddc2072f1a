//! What is measured: each subject starts on the server's end of the cable and stops again.

use std::{
    fmt, fs,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::json;
use testbed::{process::Process, xdp};

use super::{Bed, INTERFACE, SERVER, zone};
use crate::{master::Master, toolchain::find_program};

/// How long a server may take to load its names.
const START: Duration = Duration::from_secs(60);

/// The subjects, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// A bare XDP program that turns every query round
    Reflector,
    /// The daemon, answering in the kernel
    Kernel,
    /// The daemon, answering in user space
    UserSpace,
    /// NSD with the same records
    Nsd,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Reflector, Self::Kernel, Self::UserSpace, Self::Nsd];

    pub(super) fn is_daemon(self) -> bool {
        matches!(self, Self::Kernel | Self::UserSpace)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Reflector => "bare reflector",
            Self::Kernel => "mesos-xdns, kernel",
            Self::UserSpace => "mesos-xdns, user space",
            Self::Nsd => "NSD",
        })
    }
}

/// A subject that answers.
pub(super) struct Subject {
    process: Option<Process>,
    _reflector: Option<xdp::Attached>,
    _master: Option<Master>,
    pins: Option<PathBuf>,
}

impl Subject {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    ///
    /// It does not answer in time; the error carries its output.
    pub(super) fn start(kind: Kind, bed: &Bed) -> Result<Self> {
        match kind {
            Kind::Reflector => Self::reflector(bed),
            Kind::Kernel => Self::daemon(bed, true),
            Kind::UserSpace => Self::daemon(bed, false),
            Kind::Nsd => Self::nsd(bed),
        }
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// Its process cannot be waited for.
    pub(super) fn stop(mut self) -> Result<()> {
        if let Some(process) = &mut self.process {
            process.stop()?;
        }
        Ok(())
    }

    fn reflector(bed: &Bed) -> Result<Self> {
        let reflector = bed.server.enter(|| xdp::reflect().attach(INTERFACE))?;
        Ok(Self {
            process: None,
            _reflector: Some(reflector),
            _master: None,
            pins: None,
        })
    }

    fn daemon(bed: &Bed, kernel: bool) -> Result<Self> {
        let listener = bed.server.enter(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
        let leader = listener.local_addr()?.to_string();
        let state = zone::state(bed.names, &leader).to_string();
        let master = Master::serve(listener, state)?;
        let pins = PathBuf::from(format!(
            "/sys/fs/bpf/mesos-xdns-bench-{}",
            std::process::id()
        ));
        let xdp = if kernel {
            json!({
                "interfaces": [INTERFACE],
                "mode": "native",
                "pin_path": pins,
                "on_exit": "detach",
            })
        } else {
            json!({ "mode": "off" })
        };
        let config = json!({
            "masters": [leader],
            "refreshSeconds": 60,
            "domain": "mesos",
            "listener": SERVER,
            "port": 53,
            "externalon": false,
            "httpon": false,
            "xdp": xdp,
        });
        let path = bed.folder.join("mesos-xdns.config.json");
        fs::write(&path, format!("{config:#}\n"))
            .with_context(|| format!("writing {}", path.display()))?;
        let mut command = bed.server.command(&bed.daemon);
        let mut process =
            Process::start("mesos-xdns", command.args(["run", "--config"]).arg(&path))?;
        wait_for_answer(bed, &mut process)?;
        Ok(Self {
            process: Some(process),
            _reflector: None,
            _master: Some(master),
            pins: kernel.then_some(pins),
        })
    }

    fn nsd(bed: &Bed) -> Result<Self> {
        let folder = bed.folder.join("nsd");
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        fs::write(folder.join("mesos.zone"), zone::file(bed.names)).context("writing the zone")?;
        let shown = folder.display();
        let cpus = thread::available_parallelism()?;
        let config = format!(
            "server:\n  ip-address: {SERVER}\n  server-count: {cpus}\n  reuseport: yes\n  \
             username: \"\"\n  chroot: \"\"\n  zonesdir: \"{shown}\"\n  database: \"\"\n  \
             pidfile: \"{shown}/pid\"\n  xfrdfile: \"{shown}/xfrd\"\n  \
             zonelistfile: \"{shown}/zones\"\n  rrl-ratelimit: 0\n\
             remote-control:\n  control-enable: no\n\
             zone:\n  name: mesos\n  zonefile: mesos.zone\n"
        );
        let path = folder.join("nsd.conf");
        fs::write(&path, config).context("writing NSD's configuration")?;
        let program = find_program("nsd").context("nsd is not installed")?;
        let mut command = bed.server.command(program);
        let mut process = Process::start("nsd", command.args(["-d", "-c"]).arg(&path))?;
        wait_for_answer(bed, &mut process)?;
        Ok(Self {
            process: Some(process),
            _reflector: None,
            _master: None,
            pins: None,
        })
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // First the process, or it would find its pins gone.
        self.process = None;
        if let Some(pins) = self.pins.take().filter(|pins| pins.exists())
            && let Err(error) = fs::remove_dir_all(&pins)
        {
            eprintln!("{} stays behind: {error}", pins.display());
        }
    }
}

/// Asks from inside the server's namespace, where XDP is not involved, until there is an answer.
fn wait_for_answer(bed: &Bed, process: &mut Process) -> Result<()> {
    let socket = bed
        .server
        .enter(|| Ok(UdpSocket::bind(format!("{SERVER}:0"))?))?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let server: SocketAddr = format!("{SERVER}:53").parse()?;
    // n00000.bench.mesos A
    let query = *b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x06n00000\x05bench\x05mesos\0\0\x01\0\x01";
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
