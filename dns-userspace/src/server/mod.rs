//! The responder's shell on sockets: UDP in threads of its own; TCP, TLS and HTTPS on tokio. All
//! answer from the snapshot being served, and hand names that are not ours to the forwarder.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use dns_common::Verdict;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answers::{Policy, Rcode, Transport, fast};
use crate::forwarder::Forwarder;
use crate::telemetry::{Sample, Seen, Watch};
use crate::transfer::Responder;
use crate::zones::Snapshot;
use crate::zones::snapshot::Served;

mod admission;
pub mod breakdown;
pub mod certificate;
pub mod counters;
mod encrypted;
mod forward;
pub mod guard;
mod handle;
pub mod https;
pub mod mmsg;
mod stream;
mod tcp;
mod terms;
mod udp;

pub use certificate::Certificate;
use counters::Counters;
pub use counters::Totals;
pub use encrypted::{Encrypted, Protocol as EncryptedProtocol};
pub use guard::Guard;
pub use tcp::TcpLimits;
pub use terms::Terms;

/// Answers a query in place where a finished answer exists: the part of the work that the XDP
/// program does too.
pub trait FastPath: Send + Sync {
    /// The query is in the first `len` octets of `message`. `Some` is the length of the response
    /// that took its place, and its code; `None` leaves the message as it was, and the slow path
    /// answers.
    fn answer(
        &self,
        snapshot: &Snapshot,
        policy: &Policy,
        message: &mut [u8],
        len: usize,
    ) -> Option<(usize, Rcode)>;
}

/// The fast path over the finished answers of the snapshot: what the kernel answers, answered here
/// where there is no XDP.
#[derive(Debug, Clone, Copy)]
pub struct FinishedAnswers;

impl FastPath for FinishedAnswers {
    fn answer(
        &self,
        snapshot: &Snapshot,
        policy: &Policy,
        message: &mut [u8],
        len: usize,
    ) -> Option<(usize, Rcode)> {
        let (verdict, octets) = fast::answer(snapshot, policy, message, len);
        let rcode = match verdict {
            Verdict::BadVersion => Rcode::BADVERS,
            _ => header_rcode(message),
        };
        verdict.is_response().then_some((octets, rcode))
    }
}

/// What the server needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Addresses to listen at, over UDP and TCP. Port 0 means any, the same for all protocols.
    pub listen: Vec<SocketAddr>,
    /// UDP sockets, and threads, per address.
    pub udp_workers: usize,
    /// What the operator decides about responses; whether names are forwarded is decided by the
    /// presence of a forwarder.
    pub policy: Policy,
    /// What clients are given besides answers, and which of them.
    pub terms: Terms,
    /// Bounds of TCP, and of each encrypted transport for itself.
    pub tcp: TcpLimits,
    /// What is served over TLS and HTTPS.
    pub encrypted: Vec<Encrypted>,
    /// Who may want to see queries.
    pub watch: Arc<Watch>,
}

/// A socket could not be had; in the words of mesos-dns.
#[derive(Debug, thiserror::Error)]
#[error("failed to setup \"{protocol}\" server: {address}: {cause}")]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// `udp`, `tcp`, `tls` or `https`.
    pub protocol: &'static str,
    /// What the system says.
    pub cause: io::Error,
}

/// What a reload may change while the sockets stay open.
struct Rules {
    fast_path: Option<Arc<dyn FastPath>>,
    forwarder: Option<Arc<Forwarder>>,
    policy: Policy,
    terms: Terms,
}

impl Rules {
    fn new(
        policy: Policy,
        terms: Terms,
        fast_path: Option<Arc<dyn FastPath>>,
        forwarder: Option<Arc<Forwarder>>,
    ) -> Arc<Self> {
        let policy = Policy {
            forwards: forwarder.is_some(),
            ..terms.applied_to(policy)
        };
        Arc::new(Self {
            fast_path,
            forwarder,
            policy,
            terms,
        })
    }
}

/// What every worker shares.
struct Shared {
    served: Arc<Served>,
    rules: ArcSwap<Rules>,
    transfers: ArcSwapOption<Responder>,
    runtime: Handle,
    stop: CancellationToken,
    /// As `stop`, for threads that look often: a token is read under a lock.
    is_stopping: AtomicBool,
    tasks: TaskTracker,
    watch: Arc<Watch>,
    /// Queries over streams while somebody watched.
    shown: AtomicU32,
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Hands a query over a stream, one of as many as are wanted, to whoever watches. The kernel reads
    /// none of them, so that none is seen twice.
    fn show(&self, client: IpAddr, message: &[u8]) {
        let every = self.watch.every();
        if every != 0
            && self
                .shown
                .fetch_add(1, Ordering::Relaxed)
                .is_multiple_of(every)
        {
            self.watch.hand_over(Sample {
                at: SystemTime::now(),
                seen: Seen::of_message(client, message),
                frame: None,
            });
        }
    }

    fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.stop.cancel();
    }
}

/// A running server. Dropping it ends it without waiting.
pub struct Server {
    shared: Arc<Shared>,
    listening: Vec<SocketAddr>,
    udp: Vec<(udp::UdpListener, Arc<Counters>)>,
    tcp: Arc<Counters>,
    encrypted: Vec<encrypted::Serving>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// Opens all sockets, then starts to answer. Must be called within a tokio runtime, which serves
/// TCP and forwarding.
///
/// # Errors
/// A socket cannot be opened; none is served then.
pub fn start(
    settings: &Settings,
    served: Arc<Served>,
    fast_path: Option<Arc<dyn FastPath>>,
    forwarder: Option<Arc<Forwarder>>,
) -> Result<Server, BindError> {
    let shared = Arc::new(Shared {
        served,
        rules: ArcSwap::new(Rules::new(
            settings.policy,
            settings.terms.clone(),
            fast_path,
            forwarder,
        )),
        transfers: ArcSwapOption::empty(),
        runtime: Handle::current(),
        stop: CancellationToken::new(),
        is_stopping: AtomicBool::new(false),
        tasks: TaskTracker::new(),
        watch: Arc::clone(&settings.watch),
        shown: AtomicU32::new(0),
    });
    let mut listening = Vec::new();
    let mut sockets = Vec::new();
    let mut listeners = Vec::new();
    for &address in &settings.listen {
        let bound = bind(address, settings.udp_workers)?;
        sockets.extend(bound.udp);
        listeners.push(bound.tcp);
        listening.push(bound.address);
    }
    let tcp = Arc::new(Counters::default());
    tcp::serve(&tcp::Acceptor::new(&shared, &tcp, settings.tcp), listeners);
    let mut server = Server {
        shared,
        listening,
        udp: Vec::new(),
        tcp,
        encrypted: Vec::new(),
        threads: Vec::new(),
    };
    for encrypted in &settings.encrypted {
        let serving = encrypted.serve(&server.shared, settings.tcp)?;
        server.encrypted.push(serving);
    }
    for (number, socket) in sockets.into_iter().enumerate() {
        let counters = Arc::new(Counters::default());
        server.udp.push((socket.clone(), Arc::clone(&counters)));
        let shared = Arc::clone(&server.shared);
        let address = socket.address;
        let thread = std::thread::Builder::new()
            .name(format!("udp-{number}"))
            .spawn(move || udp::serve(&shared, &socket, &counters))
            .map_err(bind_error(address, "udp"))?;
        server.threads.push(thread);
    }
    Ok(server)
}

impl Server {
    /// The addresses listened at, with the ports that were chosen.
    #[must_use]
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// Answers by other rules from the next message on; those under way end by the old ones.
    pub fn set_rules(
        &self,
        policy: Policy,
        terms: Terms,
        fast_path: Option<Arc<dyn FastPath>>,
        forwarder: Option<Arc<Forwarder>>,
    ) {
        let rules = Rules::new(policy, terms, fast_path, forwarder);
        self.shared.rules.store(rules);
    }

    /// Answers zone transfers, NOTIFY and signed queries in this way from the next message on.
    pub fn set_transfers(&self, transfers: Option<Arc<Responder>>) {
        self.shared.transfers.store(transfers);
    }

    /// What the forwarder did and has, if there is one.
    #[must_use]
    pub fn forwarder(&self) -> Option<crate::forwarder::Readout> {
        let rules = self.shared.rules.load();
        rules.forwarder.as_ref().map(|one| one.readout())
    }

    /// What is served over TLS and HTTPS, and where.
    pub fn encrypted(&self) -> impl Iterator<Item = &Encrypted> {
        self.encrypted.iter().map(|one| &one.encrypted)
    }

    /// What was done over TLS or HTTPS so far; `None` where that is off.
    #[must_use]
    pub fn totals_encrypted(&self, protocol: EncryptedProtocol) -> Option<Totals> {
        let serving = self.encrypted.iter();
        let mut serving = serving.filter(|one| one.encrypted.protocol() == protocol);
        serving.next().map(|one| Totals::of([&*one.counters]))
    }

    /// What was done over one transport without encryption so far.
    #[must_use]
    pub fn totals(&self, transport: Transport) -> Totals {
        match transport {
            Transport::Udp => {
                let mut totals = Totals::of(self.udp.iter().map(|(_, counters)| &**counters));
                totals.overflowed = self.udp.iter().map(|(one, _)| one.overflowed()).sum();
                totals
            }
            Transport::Tcp => Totals::of([&*self.tcp]),
        }
    }

    /// Stops to listen, and waits until what was taken in is answered, at most `patience`.
    pub async fn shut_down(mut self, patience: Duration) {
        self.shared.stop();
        self.shared.tasks.close();
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                // A worker that panicked has nothing left to answer.
                let _ = thread.join();
            }
        });
        let drained = async {
            let _ = joined.await;
            self.shared.tasks.wait().await;
        };
        if tokio::time::timeout(patience, drained).await.is_err() {
            tracing::warn!(?patience, "queries were left unanswered at the end");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

/// The sockets of one address.
struct Bound {
    udp: Vec<udp::UdpListener>,
    tcp: std::net::TcpListener,
    address: SocketAddr,
}

/// Opens the sockets of `address`. For port 0 it chooses until a port is free over UDP and TCP.
fn bind(address: SocketAddr, udp_workers: usize) -> Result<Bound, BindError> {
    const CHOICES: usize = 32;
    let is_taken = |error: &BindError| error.cause.kind() == io::ErrorKind::AddrInUse;
    let mut bound = bind_once(address, udp_workers);
    for _ in 1..CHOICES {
        if address.port() != 0 || !bound.as_ref().is_err_and(is_taken) {
            break;
        }
        bound = bind_once(address, udp_workers);
    }
    bound
}

fn bind_once(mut address: SocketAddr, udp_workers: usize) -> Result<Bound, BindError> {
    let mut sockets = Vec::new();
    for _ in 0..udp_workers.max(1) {
        let (socket, bound) = udp::bind(address)?;
        // The first of them has chosen the port.
        address = bound;
        sockets.push(socket);
    }
    let tcp = tcp::bind(address, "tcp")?;
    Ok(Bound {
        udp: sockets,
        tcp,
        address,
    })
}

/// Opens a bound socket that shares its port with its like.
fn open(address: SocketAddr, protocol: Protocol) -> io::Result<Socket> {
    let kind = if protocol == Protocol::UDP {
        Type::DGRAM
    } else {
        Type::STREAM
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if protocol == Protocol::UDP {
        socket.set_reuse_port(true)?;
    } else {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn bind_error(address: SocketAddr, protocol: &'static str) -> impl Fn(io::Error) -> BindError {
    move |cause| BindError {
        address,
        protocol,
        cause,
    }
}

/// The code in a response's header.
fn header_rcode(response: &[u8]) -> Rcode {
    Rcode(response.get(3).map_or(0, |octet| u16::from(octet & 0xf)))
}
