//! Changed tasks: from the octets of an event on the wire to the first answer that has the change,
//! and what the daemon needs for it, among many other tasks.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use testbed::{cluster_events::ClusterEvents, process::Process, xdp};

use super::subject::Pins;
use super::{Bed, CLIENT, CLIENT_ADDRESS, INTERFACE, SERVER, latency, program_time, scale, usage};

/// Tasks beside those that change.
pub(super) const TASKS: [usize; 2] = [10_000, 50_000];

/// Changes one after the other, each waited for.
const SINGLE: usize = 1_000;

/// Changes sent at once.
const BURST: usize = 5_000;

/// A port of the client that no server has.
const PORT: u16 = 1_501;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What changes take.
pub(super) struct Changes {
    pub(super) tasks: usize,
    /// Names in the index of the kernel.
    pub(super) names: u64,
    /// From the first event to answers, the daemon's start included.
    pub(super) published: Duration,
    pub(super) memory: u64,
    /// Of single changes: the time that half of them, 99 of 100, and all did not exceed.
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) longest: Duration,
    /// Processor time of the daemon for one single change.
    pub(super) processor_time: Duration,
    /// Changes a second when they come at once.
    pub(super) burst_per_second: f64,
    /// Processor time for one of those.
    pub(super) burst_processor_time: Duration,
    pub(super) memory_after: u64,
    /// Share of the questions asked meanwhile that the kernel answered.
    pub(super) in_kernel: f64,
}

/// The stream of events, written octet by octet.
struct Stream(TcpStream);

impl Stream {
    /// Takes a subscription and begins the stream.
    fn accept(listener: &TcpListener) -> Result<Self> {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        for line in BufReader::new(stream.try_clone()?).lines() {
            if line?.is_empty() {
                break;
            }
        }
        let mut stream = Self(stream);
        stream.0.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        )?;
        Ok(stream)
    }

    fn send(&mut self, events: impl IntoIterator<Item = String>) -> Result<()> {
        let records: String = events
            .into_iter()
            .map(|event| format!("{}\n{event}", event.len()))
            .collect();
        let chunk = format!("{:x}\r\n{records}\r\n", records.len());
        Ok(self.0.write_all(chunk.as_bytes())?)
    }
}

/// Starts the daemon on a stream of this many tasks, and changes some.
///
/// # Errors
///
/// The daemon does not follow.
pub(super) fn measure(bed: &Bed, tasks: usize) -> Result<Changes> {
    let cluster = ClusterEvents {
        tasks,
        agents: (tasks / 25).clamp(10, 5_000),
    };
    let listener = bed.server.enter(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
    let leader = listener.local_addr()?;
    let pins = Pins::new();
    let path = bed.folder.join("changes.config.json");
    let config = config(leader, tasks, &pins, &bed.folder);
    fs::write(&path, format!("{config:#}\n"))
        .with_context(|| format!("writing {}", path.display()))?;
    // veth delivers what the kernel sends back only to an end that has a program, too.
    // kxdpgun leaves its program behind.
    bed.client
        .ip(&format!("link set dev {} xdp off", CLIENT.0))?;
    let _pass = bed.client.enter(|| xdp::pass().attach(CLIENT.0))?;
    let socket = bed
        .client
        .enter(|| Ok(UdpSocket::bind(format!("{CLIENT_ADDRESS}:{PORT}"))?))?;
    socket.connect(format!("{SERVER}:53").parse::<SocketAddr>()?)?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;

    let begun = Instant::now();
    let mut command = bed.server.command(&bed.daemon);
    let mut process = Process::start("mesos-xdns", command.args(["run", "--config"]).arg(&path))?;
    let mut stream = Stream::accept(&listener)?;
    stream.send([cluster.subscribed()])?;
    let last = tasks.saturating_sub(1);
    wait_for(&socket, &cluster.mesos_name(last), None, &mut process)?;
    wait_for(&socket, &cluster.dcos_name(last), None, &mut process)?;
    let status = settled(bed, &path)?;
    let published = begun.elapsed();
    let family = usage::family(process.id());
    let memory = usage::memory(&family) + program_time::map_memory(&bed.server, INTERFACE)?;

    let before = (usage::processor_time(&family), status);
    let mut times = Vec::with_capacity(SINGLE);
    for change in 0..SINGLE {
        // A stride without a factor of the round numbers of tasks spreads them.
        let task = change * 7919 % tasks;
        let address = address(10, change);
        let event = cluster.updated(task, address);
        let sent = Instant::now();
        stream.send([event])?;
        let name = cluster.mesos_name(task);
        wait_for(&socket, &name, Some(address), &mut process)?;
        times.push(sent.elapsed());
        // The daemon has done with one before the next.
        thread::sleep(Duration::from_millis(1));
    }
    let after = (usage::processor_time(&family), scale::status(bed, &path)?);
    times.sort_unstable();
    let quantile = |share: f64| {
        let at = (share * (times.len() - 1) as f64).round() as usize;
        times.get(at).copied().unwrap_or_default()
    };
    let rise = |pointer| {
        let of = |status: &Value| scale::number(status, pointer);
        of(&after.1).saturating_sub(of(&before.1)) as f64
    };
    let (answered, passed) = (rise("/xdp/answered"), rise("/xdp/passed"));

    let sent = Instant::now();
    let task_of = |change: usize| (change * 7919 + 1) % tasks;
    stream.send((0..BURST).map(|change| cluster.updated(task_of(change), address(11, change))))?;
    let name = cluster.mesos_name(task_of(BURST - 1));
    wait_for(&socket, &name, Some(address(11, BURST - 1)), &mut process)?;
    let burst = sent.elapsed();
    let burst_processor_time = usage::processor_time(&family) - after.0;
    let memory_after = usage::memory(&family) + program_time::map_memory(&bed.server, INTERFACE)?;
    process.stop()?;
    Ok(Changes {
        tasks,
        names: scale::number(&before.1, "/xdp/names"),
        published,
        memory,
        p50: quantile(0.5),
        p99: quantile(0.99),
        longest: quantile(1.0),
        processor_time: (after.0 - before.0) / u32::try_from(SINGLE)?,
        burst_per_second: BURST as f64 / burst.as_secs_f64(),
        burst_processor_time: burst_processor_time / u32::try_from(BURST)?,
        memory_after,
        in_kernel: answered / (answered + passed).max(1.0),
    })
}

fn config(leader: SocketAddr, tasks: usize, pins: &Pins, folder: &Path) -> Value {
    json!({
        "masters": [leader.to_string()],
        "domain": "mesos",
        "listener": SERVER,
        "externalon": false,
        "httpListener": "127.0.0.1",
        "xdp": {
            "interfaces": [INTERFACE],
            "mode": "native",
            "max_names": tasks * 40 + 100_000,
            "pin_path": pins.path(),
            "on_exit": "detach",
        },
        "dcos": {
            "mesos_source": "events",
            "listeners": [],
            "settle_seconds": 0,
            "vip_file": folder.join("changes.vips.json"),
        },
    })
}

/// Waits until all names are in the kernel.
fn settled(bed: &Bed, config: &Path) -> Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        // It fails while the daemon is not ready.
        if let Ok(status) = scale::status(bed, config) {
            let of = |pointer| scale::number(&status, pointer);
            if of("/xdp/names") + of("/xdp/left_out") >= of("/names") {
                ensure!(of("/xdp/left_out") == 0, "the maps are full: {status}");
                return Ok(status);
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!("the names do not come into the kernel")
}

/// An address that no task has yet.
fn address(first: u8, change: usize) -> Ipv4Addr {
    let [_, high, middle, low] = u32::try_from(change).unwrap_or_default().to_be_bytes();
    Ipv4Addr::new(first, high, middle, low)
}

/// Asks for an A record until there is the one that is wanted, or any.
fn wait_for(
    socket: &UdpSocket,
    name: &str,
    wanted: Option<Ipv4Addr>,
    process: &mut Process,
) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut id = 0u16;
    let mut reply = [0; 2_048];
    while Instant::now() < deadline {
        id = id.wrapping_add(1);
        // Nobody may listen yet.
        let sent = socket.send(&latency::query(id, name));
        let Ok(octets) = sent.and_then(|_| socket.recv(&mut reply)) else {
            if let Some(status) = process.exited() {
                bail!("ended, {status}:\n{}", process.output().join("\n"));
            }
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let reply = reply.get(..octets).unwrap_or_default();
        let has_answer = reply.get(6..8).is_some_and(|count| count != [0, 0]);
        let is_it = match wanted {
            Some(wanted) => reply.ends_with(&wanted.octets()),
            None => has_answer,
        };
        if is_it && reply.starts_with(&id.to_be_bytes()) {
            return Ok(());
        }
        if wanted.is_none() {
            // It has enough to do.
            thread::sleep(Duration::from_millis(5));
        }
    }
    bail!("{name} does not become {wanted:?}")
}

impl Changes {
    /// For programs; times in seconds, sizes in octets.
    pub(super) fn json(&self) -> Value {
        json!({
            "tasks": self.tasks,
            "names": self.names,
            "published_seconds": self.published.as_secs_f64(),
            "memory_octets": self.memory,
            "p50_seconds": self.p50.as_secs_f64(),
            "p99_seconds": self.p99.as_secs_f64(),
            "longest_seconds": self.longest.as_secs_f64(),
            "processor_seconds": self.processor_time.as_secs_f64(),
            "burst_per_second": self.burst_per_second,
            "burst_processor_seconds": self.burst_processor_time.as_secs_f64(),
            "memory_after_octets": self.memory_after,
            "answered_in_kernel": self.in_kernel,
        })
    }
}
