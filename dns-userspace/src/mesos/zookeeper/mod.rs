//! Reads from ZooKeeper which masters there are and which of them leads.
//!
//! Masters register as nodes of one directory, in the order of their sequence numbers; the lowest
//! leads. This module is a client for just that: it watches the directory over one session, reads
//! the nodes at each change, and goes on with another server of the ensemble when one is lost.

mod connection;
mod jute;
mod target;

use std::net::SocketAddr;
use std::time::Duration;

use rand::seq::SliceRandom;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::bytes::Bytes;
use tracing::{debug, info, warn};

pub use self::target::{TargetError, ZooKeeperTarget};

use self::connection::{Connection, ConnectionError, Session};
use super::master::MasterAddress;
use super::master_info::{self, MasterInfoError};

/// Node names: the prefix of each kind, then a sequence number.
const JSON_PREFIX: &str = "json.info_";
const PROTOBUF_PREFIX: &str = "info_";

/// Listings tried at once when nodes vanish between being listed and being read.
const MAX_LISTINGS: usize = 5;

/// Pause after the first round in which no server of the ensemble could be used, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The masters that ZooKeeper knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// The one that leads: the lowest sequence number among JSON nodes if there are any, else
    /// among protobuf nodes. `None` if there is no node, or if the leader's cannot be read.
    pub leader: Option<MasterAddress>,
    /// All of them, JSON nodes first, by sequence number.
    pub masters: Vec<MasterAddress>,
}

/// The connection to ZooKeeper, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZooKeeperStatus {
    /// The server in use.
    pub server: Option<SocketAddr>,
    /// Connections made.
    pub connections: u64,
    /// Sessions begun; more than one means that a session expired.
    pub sessions: u64,
    /// Listings of the directory read.
    pub listings: u64,
    /// Connections that failed or were not made, since the last listing.
    pub failures: u64,
    /// Why there is no connection.
    pub error: Option<String>,
}

/// Keeps `registered` up to date; runs until aborted.
///
/// While ZooKeeper cannot be reached, and when a session expires, the last listing stays: masters
/// are not gone because ZooKeeper is.
pub(super) async fn follow(
    target: ZooKeeperTarget,
    registered: watch::Sender<Registered>,
    status: watch::Sender<ZooKeeperStatus>,
) {
    let mut session = Session::default();
    let mut pause = FIRST_PAUSE;
    let mut failures = 0_u64;
    loop {
        for address in servers(&target).await {
            let error = match Connection::open(address, &mut session).await {
                Ok(mut connection) => {
                    status.send_modify(|status| {
                        status.connections += 1;
                        status.sessions = session.begun;
                        status.server = Some(address);
                    });
                    let listed_before = status.borrow().listings;
                    let error = serve(&target, &mut connection, &mut session, &registered, |found| {
                        if status.borrow().error.is_some() || listed_before == 0 {
                            info!(server = %address, failures, masters = found.masters.len(), "ZooKeeper is read");
                        }
                        status.send_modify(|status| {
                            status.listings += 1;
                            status.failures = 0;
                            status.error = None;
                        });
                    })
                    .await;
                    if status.borrow().listings > listed_before {
                        pause = FIRST_PAUSE;
                        failures = 0;
                    }
                    error
                }
                Err(error) => error,
            };
            failures += 1;
            let text = format!("{address}: {error}");
            if failures == 1 {
                warn!(server = %address, %error, "ZooKeeper connection failed; keeping what it said last");
            } else {
                debug!(server = %address, %error, failures, "ZooKeeper connection failed");
            }
            status.send_modify(|status| {
                status.server = None;
                status.failures = failures;
                status.error = Some(text);
            });
            session.lost();
        }
        sleep(pause.mul_f64(rand::random_range(0.75..1.25))).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The content of one node, read over a session of its own; `None` if there is none. The first
/// server that answers decides.
///
/// # Errors
/// No server answers; the text is the last one's problem.
pub async fn read_node(target: &ZooKeeperTarget, path: &str) -> Result<Option<Bytes>, String> {
    let mut problem = "no server has an address".to_owned();
    for address in servers(target).await {
        let mut session = Session::default();
        let read = async {
            let mut connection = Connection::open(address, &mut session).await?;
            connection.data(&mut session, path).await
        };
        match read.await {
            Ok(content) => return Ok(content),
            Err(error) => problem = format!("{address}: {error}"),
        }
    }
    Err(problem)
}

/// The addresses of the ensemble in random order, so that clients spread over it.
async fn servers(target: &ZooKeeperTarget) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for (host, port) in &target.servers {
        match tokio::net::lookup_host((host.as_str(), *port)).await {
            Ok(found) => addresses.extend(found),
            Err(error) => debug!(host, %error, "ZooKeeper server has no address"),
        }
    }
    addresses.shuffle(&mut rand::rng());
    addresses
}

/// Reads the directory at once and at every change of it, until the connection fails.
async fn serve(
    target: &ZooKeeperTarget,
    connection: &mut Connection,
    session: &mut Session,
    registered: &watch::Sender<Registered>,
    mut on_listing: impl FnMut(&Registered),
) -> ConnectionError {
    loop {
        let found = match read_masters(target, connection, session).await {
            Ok(found) => found,
            Err(error) => return error,
        };
        on_listing(&found);
        registered.send_if_modified(|last| {
            let differs = *last != found;
            *last = found;
            differs
        });
        if let Err(error) = connection.changed(session).await {
            return error;
        }
    }
}

/// One listing of the directory, with a watch on it, and the content of its nodes.
async fn read_masters(
    target: &ZooKeeperTarget,
    connection: &mut Connection,
    session: &mut Session,
) -> Result<Registered, ConnectionError> {
    for _ in 0..MAX_LISTINGS {
        let Some(names) = connection.children(session, &target.path).await? else {
            // A watch on the missing directory; if it was made in between, list again.
            if connection.watch_creation(session, &target.path).await? {
                continue;
            }
            return Ok(Registered::default());
        };
        if let Some(found) = read_nodes(target, connection, session, &names).await? {
            return Ok(found);
        }
    }
    Err(ConnectionError::Unsteady)
}

/// Reads the nodes of a listing; `None` if one is gone by now.
async fn read_nodes(
    target: &ZooKeeperTarget,
    connection: &mut Connection,
    session: &mut Session,
    names: &[String],
) -> Result<Option<Registered>, ConnectionError> {
    let mut found = Registered::default();
    for (index, node) in nodes(names).into_iter().enumerate() {
        let Some(content) = connection.data(session, &target.child(node.name)).await? else {
            return Ok(None);
        };
        match (node.decode)(&content) {
            Ok(master) => {
                if index == 0 {
                    found.leader = Some(master.clone());
                }
                found.masters.push(master);
            }
            Err(error) => {
                warn!(node = node.name, %error, "a master's ZooKeeper node cannot be read")
            }
        }
    }
    Ok(Some(found))
}

/// A node of a master.
struct Node<'a> {
    name: &'a str,
    decode: fn(&[u8]) -> Result<MasterAddress, MasterInfoError>,
}

/// The masters' nodes among all names: JSON before protobuf, then by sequence number. The first
/// is the leader's. Others, `log_replicas` for one, are left out.
fn nodes(names: &[String]) -> Vec<Node<'_>> {
    let number = |name: &str, prefix: &str| name.strip_prefix(prefix)?.parse::<i64>().ok();
    let mut nodes: Vec<_> = names
        .iter()
        .filter_map(|name| {
            if let Some(sequence) = number(name, JSON_PREFIX) {
                return Some((
                    0,
                    sequence,
                    Node {
                        name,
                        decode: master_info::from_json,
                    },
                ));
            }
            let sequence = number(name, PROTOBUF_PREFIX)?;
            Some((
                1,
                sequence,
                Node {
                    name,
                    decode: master_info::from_protobuf,
                },
            ))
        })
        .collect();
    nodes.sort_by_key(|&(kind, sequence, _)| (kind, sequence));
    nodes.into_iter().map(|(_, _, node)| node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(names: &[&str]) -> Vec<String> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        nodes(&names)
            .iter()
            .map(|node| node.name.to_owned())
            .collect()
    }

    #[test]
    fn lowest_sequence_leads_and_json_goes_before_protobuf() {
        assert_eq!(
            order(&[
                "info_0000000001",
                "json.info_0000000010",
                "log_replicas",
                "json.info_0000000009"
            ]),
            [
                "json.info_0000000009",
                "json.info_0000000010",
                "info_0000000001"
            ]
        );
        assert_eq!(
            order(&["info_2", "info_-1", "info_", "json.info_x"]),
            ["info_-1", "info_2"]
        );
    }
}
