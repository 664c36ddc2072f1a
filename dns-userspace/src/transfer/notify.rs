//! Tells secondaries that a zone has changed (RFC 1996), until they say that they heard.
//!
//! One task for each secondary, and within it one attempt for each zone. Whatever changes while an
//! attempt is under way is told by the same attempt, or by one after it: a storm of changes costs a
//! secondary a few messages.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use super::tsig::{Exchange, Key, Unbelieved};
use super::versions::Versions;
use super::wire::{Envelope, Line, Message, Writer, flags, question, soa_data};
use super::{count, unix_seconds};
use crate::answers::Rcode;
use crate::zones::snapshot::Served;
use crate::zones::{Name, Rtype, Zone};

/// How long each attempt waits for a response. The last is as long as the others together; then
/// the secondary is left to its refresh timer until there is another change.
const PATIENCE: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(15),
    Duration::from_secs(30),
];
/// A zone is told of to one secondary at most this often.
const SPACING: Duration = Duration::from_millis(100);
/// Responses are as long as the notice and a signature.
const MAX_RESPONSE_OCTETS: usize = 1232;

/// A secondary that is told.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// What notices to it are signed with.
    pub key: Option<Arc<Key>>,
}

/// Tells secondaries for as long as it lives.
#[derive(Debug)]
pub struct Notifier {
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Notifier {
    /// Starts; every zone that is there is told of at once. Notices come from `source` if it is
    /// given. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(
        targets: Vec<Target>,
        source: Option<IpAddr>,
        served: &Arc<Served>,
        versions: &Arc<Versions>,
    ) -> Self {
        let start = |target: Target| {
            let telling = Arc::new(Telling {
                target,
                source,
                served: Arc::clone(served),
                versions: Arc::clone(versions),
            });
            AbortOnDropHandle::new(tokio::spawn(telling.run()))
        };
        Self {
            _tasks: targets.into_iter().map(start).collect(),
        }
    }
}

struct Telling {
    target: Target,
    source: Option<IpAddr>,
    served: Arc<Served>,
    versions: Arc<Versions>,
}

/// How telling of a zone ended: the serial told of last, and what went wrong if anything did.
type Told = (Name, u32, Result<(), TellError>);

/// Why a secondary does not know.
#[derive(Debug, thiserror::Error)]
enum TellError {
    #[error("no response")]
    Silence,
    #[error("it responds with {0}")]
    Code(Rcode),
    #[error(transparent)]
    Unbelieved(#[from] Unbelieved),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Telling {
    async fn run(self: Arc<Self>) {
        let mut news = self.versions.news();
        let mut told: HashMap<Name, u32> = HashMap::new();
        let mut under_way: HashSet<Name> = HashSet::new();
        let mut failing: HashSet<Name> = HashSet::new();
        let mut attempts: JoinSet<Told> = JoinSet::new();
        loop {
            let snapshot = self.served.load_full();
            for zone in snapshot.zones() {
                let is_known = told.get(&zone.apex) == Some(&zone.soa.serial);
                let has_content = zone.complete && !zone.withdrawn;
                if has_content && !is_known && under_way.insert(zone.apex.clone()) {
                    attempts.spawn(Arc::clone(&self).tell(zone.apex.clone()));
                }
            }
            drop(snapshot);
            tokio::select! {
                changed = news.changed() => if changed.is_err() {
                    return;
                },
                Some(Ok((zone, serial, result))) = attempts.join_next() => {
                    under_way.remove(&zone);
                    self.report(&zone, serial, result, &mut failing);
                    told.insert(zone, serial);
                }
            }
        }
    }

    fn report(
        &self,
        zone: &Name,
        serial: u32,
        result: Result<(), TellError>,
        failing: &mut HashSet<Name>,
    ) {
        let secondary = self.target.address;
        match result {
            Ok(()) => {
                count(&self.versions.counters.notifies_acknowledged);
                if failing.remove(zone) {
                    info!(%zone, %secondary, "the secondary takes notices again");
                } else {
                    debug!(%zone, %secondary, serial, "the secondary knows");
                }
            }
            Err(error) => {
                count(&self.versions.counters.notifies_failed);
                if failing.insert(zone.clone()) {
                    warn!(%zone, %secondary, %error, "the secondary does not take notices");
                } else {
                    debug!(%zone, %secondary, %error, "the secondary does not take notices");
                }
            }
        }
    }

    /// Tells of a zone, of its latest version at each attempt.
    async fn tell(self: Arc<Self>, apex: Name) -> Told {
        let mut serial = 0;
        let mut result = Err(TellError::Silence);
        for patience in PATIENCE {
            let snapshot = self.served.load_full();
            let zone = snapshot.zones().iter().find(|one| one.apex == apex);
            let Some(zone) = zone.cloned() else {
                break;
            };
            serial = zone.soa.serial;
            let deadline = Instant::now() + patience;
            result = self.attempt(&zone, deadline).await;
            if !matches!(result, Err(TellError::Silence | TellError::Io(_))) {
                break;
            }
            // An error of the network comes at once, and is over at another time.
            tokio::time::sleep_until(deadline).await;
        }
        sleep(SPACING).await;
        (apex, serial, result)
    }

    async fn attempt(&self, zone: &Zone, deadline: Instant) -> Result<(), TellError> {
        let address = self.target.address;
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let source = self.source.filter(|ip| ip.is_ipv4() == any.is_ipv4());
        let socket = UdpSocket::bind((source.unwrap_or(any), 0)).await?;
        socket.connect(address).await?;
        let id = rand::random();
        let mut notice = notice(id, zone);
        let key = self.target.key.as_ref();
        let mut exchange = key.map(|key| Exchange::begin(key, &mut notice, unix_seconds()));
        socket.send(&notice).await?;
        count(&self.versions.counters.notifies_sent);
        let mut buffer = vec![0; MAX_RESPONSE_OCTETS];
        loop {
            let received = timeout_at(deadline, socket.recv(&mut buffer)).await;
            let len = received.map_err(|_| TellError::Silence)??;
            let octets = buffer.get(..len).unwrap_or_default();
            let Ok(response) = Message::read(octets) else {
                continue;
            };
            let is_ours = response.id == id
                && response.flags & (flags::QR | flags::OPCODE) == flags::QR | flags::NOTIFY
                && response
                    .question
                    .as_ref()
                    .is_none_or(|one| one.0 == zone.apex);
            if !is_ours {
                continue;
            }
            if let Some(exchange) = &mut exchange {
                exchange.check(octets, &response, unix_seconds())?;
            }
            return match response.rcode() {
                0 => Ok(()),
                code => Err(TellError::Code(Rcode(code))),
            };
        }
    }
}

/// The notice, with the SOA as a hint (RFC 1996, section 3.7).
fn notice(id: u16, zone: &Zone) -> Vec<u8> {
    let envelope = Envelope {
        id,
        flags: flags::NOTIFY | flags::AA,
        question: question(&zone.apex, Rtype::SOA),
    };
    let data = soa_data(zone);
    let mut writer = Writer::new(&envelope, true);
    writer.push(&Line::new(&zone.apex, zone.soa_ttl, &data));
    writer.finish()
}
