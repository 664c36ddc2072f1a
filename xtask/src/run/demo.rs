//! The sample cluster in action: a master, the daemon behind a veth pair, a client, a live table.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use testbed::{
    netns::{self, End, Netns},
    process::Process,
    xdp::{self, Attached},
};

use super::{Arguments, cluster::Cluster, table::Table};
use crate::{build, master::Master, setup, shell, signals::Signals};

/// The daemon's address: a documentation network (RFC 5737), which nothing else uses.
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 53);

/// The daemon's IPv6 address (RFC 3849).
const SERVER6: &str = "2001:db8:53::53";

/// The end of the cable where people type dig.
const CLIENT_INTERFACE: &str = "mxd-client";

/// The daemon's end of the cable.
const SERVER_INTERFACE: &str = "mxd-server";

/// Where the daemon keeps its maps alive; removed before and after.
const PINS: &str = "/sys/fs/bpf/mesos-xdns-demo";

/// Time between two events in the cluster, and between two looks at the daemon.
const TICK: Duration = Duration::from_secs(1);

/// Where the daemon of the demo runs.
struct Place {
    /// With XDP; `None` is a loopback port.
    bed: Option<Bed>,
    address: SocketAddr,
}

/// The namespace of the daemon and the cable from here to there.
struct Bed {
    _pass: Attached,
    namespace: Netns,
}

impl Drop for Bed {
    fn drop(&mut self) {
        remove_cable();
        remove_pins();
    }
}

pub(super) fn run(daemon: &Path, arguments: &Arguments) -> Result<()> {
    let signals = Signals::hold();
    let place = Place::choose(arguments.no_xdp)?;
    let listener = place.within(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
    let leader = listener.local_addr()?;
    let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut cluster = Cluster::new(leader.to_string(), seed);
    let master = Master::serve(listener, cluster.state().to_string())?;
    let config = write_config(&place, leader)?;

    let mut command = place.command(daemon);
    let mut process = Process::start("mesos-xdns", command.args(["run", "--config"]).arg(&config))?;
    place.wait_for_answers(&mut process)?;
    print!("{}", place.introduction());
    spawn_client(place.address, arguments.load);

    let start = Instant::now();
    let mut table = Table::new();
    let mut event = String::from("none yet");
    let mut ticks = 0_u32;
    loop {
        let status = place.status(daemon, &config);
        table.show(&status, cluster.tasks(), &event);
        let over = arguments
            .seconds
            .is_some_and(|seconds| start.elapsed() >= Duration::from_secs(seconds));
        if over || signals.came_within(TICK) {
            break;
        }
        if let Some(status) = process.exited() {
            bail!(
                "the daemon ended, {status}:\n{}",
                process.output().join("\n")
            );
        }
        ticks += 1;
        if ticks.is_multiple_of(3) {
            event = cluster.step(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
            master.set_state(cluster.state().to_string());
        }
    }
    println!("\nRemoving what the demo made.");
    process.stop()?;
    Ok(())
}

impl Place {
    fn choose(no_xdp: bool) -> Result<Self> {
        let reason = if no_xdp {
            Some("--no-xdp is given")
        } else if !setup::is_root() {
            Some("this is not root")
        } else {
            None
        };
        let Some(reason) = reason else {
            let address = SocketAddr::from((SERVER, 53));
            return Ok(Self {
                bed: Some(Bed::make()?),
                address,
            });
        };
        println!(
            "Answers come from user space only, because {reason}.\n\
             With root this demo makes a namespace and a veth pair, attaches the XDP program to it\n\
             in native mode, and most queries are answered before the kernel's network stack.\n"
        );
        let free = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        Ok(Self {
            bed: None,
            address: free,
        })
    }

    /// Runs a closure where the daemon runs.
    fn within<T: Send>(&self, inside: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        match &self.bed {
            Some(bed) => bed.namespace.enter(inside),
            None => inside(),
        }
    }

    /// A command that runs where the daemon runs.
    fn command(&self, program: &Path) -> Command {
        match &self.bed {
            Some(bed) => bed.namespace.command(program),
            None => Command::new(program),
        }
    }

    /// The daemon's own account, or an object that says why there is none.
    fn status(&self, daemon: &Path, config: &Path) -> Value {
        let mut command = self.command(daemon);
        let output = shell::output(command.args(["status", "--json", "--config"]).arg(config));
        output
            .and_then(|text| Ok(serde_json::from_str(&text)?))
            .unwrap_or_else(|error| json!({ "error": format!("{error:#}") }))
    }

    /// Waits until the daemon answers a query.
    fn wait_for_answers(&self, process: &mut Process) -> Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let query = query(1, "web.marathon.mesos");
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut reply = [0; 4096];
        while Instant::now() < deadline {
            // Refused until the daemon listens.
            let sent = socket.send_to(&query, self.address);
            if sent.is_ok()
                && let Ok(length) = socket.recv(&mut reply)
                && let Some([_, _, _, flags, _, _, 0, 1..=u8::MAX]) = reply.get(..length.min(8))
                && flags & 0x0f == 0
            {
                return Ok(());
            }
            if let Some(status) = process.exited() {
                bail!(
                    "the daemon ended, {status}:\n{}",
                    process.output().join("\n")
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!(
            "no answer from {} within 20 s; the daemon said:\n{}",
            self.address,
            process.output().join("\n")
        )
    }

    fn introduction(&self) -> String {
        let at = match self.address.port() {
            53 => format!("@{}", self.address.ip()),
            port => format!("@{} -p {port}", self.address.ip()),
        };
        let mut text = format!(
            "A sample cluster runs: four frameworks on six agents. In another terminal:\n\n  \
             dig {at} web.marathon.mesos\n  \
             dig {at} node.cassandra.mesos AAAA +noedns\n  \
             dig {at} _web._tcp.marathon.mesos SRV\n  \
             dig {at} leader.mesos\n"
        );
        if self.bed.is_some() {
            text.push_str(&format!("  dig @{SERVER6} BroKer.KafKa.MESOS\n"));
        }
        text.push_str("\nCtrl-C ends it and removes everything.\n\n");
        text
    }
}

impl Bed {
    fn make() -> Result<Self> {
        remove_pins();
        let namespace = Netns::new("demo")?;
        remove_cable();
        netns::connect(
            End {
                namespace: None,
                interface: CLIENT_INTERFACE,
                addresses: &["198.51.100.54/30", "2001:db8:53::54/64"],
            },
            End {
                namespace: Some(&namespace),
                interface: SERVER_INTERFACE,
                addresses: &["198.51.100.53/30", "2001:db8:53::53/64"],
            },
        )?;
        let pass = xdp::pass().attach(CLIENT_INTERFACE)?;
        Ok(Self {
            _pass: pass,
            namespace,
        })
    }
}

/// The daemon's configuration, in mesos-dns's own format.
fn write_config(place: &Place, leader: SocketAddr) -> Result<PathBuf> {
    let xdp = match place.bed {
        Some(_) => json!({
            "interfaces": [SERVER_INTERFACE],
            "mode": "native",
            "max_names": 4096,
            "pin_path": PINS,
            "on_exit": "detach",
        }),
        None => json!({ "mode": "off" }),
    };
    let any = if place.bed.is_some() {
        "0.0.0.0"
    } else {
        "127.0.0.1"
    };
    let http_port = if place.bed.is_some() {
        8123
    } else {
        free_port()?
    };
    let config = json!({
        "masters": [leader.to_string()],
        "refreshSeconds": 1,
        "ttl": 60,
        "domain": "mesos",
        "listener": any,
        "port": place.address.port(),
        "httplistener": any,
        "httpport": http_port,
        "externalon": false,
        "xdp": xdp,
    });
    let path = build::target_folder()?.join("demo.config.json");
    fs::write(&path, format!("{config:#}\n"))
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Removes the veth pair of this or a crashed run: it goes with its namespace too, but not at once.
fn remove_cable() {
    if netns::ip(None, &format!("link show {CLIENT_INTERFACE}")).is_ok()
        && let Err(error) = netns::ip(None, &format!("link delete {CLIENT_INTERFACE}"))
    {
        eprintln!("{CLIENT_INTERFACE} stays behind: {error:#}");
    }
}

/// Takes the pinned program and maps of this or a crashed run from the BPF file system.
fn remove_pins() {
    if Path::new(PINS).exists()
        && let Err(error) = fs::remove_dir_all(PINS)
    {
        eprintln!("{PINS} stays behind: {error}");
    }
}

/// Asks for the sample's names at a gentle rate, one in ten for a name that does not exist.
fn spawn_client(server: SocketAddr, rate: u32) {
    if rate == 0 {
        return;
    }
    thread::spawn(move || {
        let Ok(socket) = UdpSocket::bind("0.0.0.0:0") else {
            return;
        };
        let mut names = Cluster::names("mesos");
        names.push("no-such-task.marathon.mesos".to_owned());
        for (id, name) in (0..=u16::MAX).cycle().zip(names.iter().cycle()) {
            // Lost queries show in the table.
            let _ = socket.send_to(&query(id, name), server);
            thread::sleep(Duration::from_secs(1) / rate);
        }
    });
}

/// A query for A records.
fn query(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    // Recursion desired; one question.
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or_default());
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}
