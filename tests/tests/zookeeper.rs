//! Master detection against real ZooKeeper servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use dns_userspace::mesos::{
    fetch::{FetchSettings, Fetcher},
    follow::{FollowSettings, Follower, Observation, follow},
    leader::{Candidates, Detection, DetectionSettings, detect},
    master::MasterAddress,
    zookeeper::ZooKeeperStatus,
};
use serde_json::json;
use tests::{
    fake_master::{Behaviour, FakeMaster},
    needs,
    zookeeper::{Eavesdropper, Ensemble, NodeKind, Writer, available},
};
use tokio::time::timeout;

/// Longer than anything here takes when it works, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// The session timeout of servers whose sessions are to last.
const LONG: Duration = Duration::from_secs(40);
/// The directory the masters register in.
const PATH: &str = "/mesos";

macro_rules! needs_zookeeper {
    () => {
        let missing = available();
        needs!(missing.is_ok(), missing.unwrap_err());
    };
}

fn master(text: &str) -> MasterAddress {
    text.parse().unwrap()
}

/// A JSON MasterInfo, as Mesos 1.11 writes it.
fn json_info(address: &MasterAddress) -> Vec<u8> {
    let ip = address.host().parse::<Ipv4Addr>().unwrap();
    json!({
        "address": { "hostname": address.host(), "ip": address.host(), "port": address.port() },
        "capabilities": [{ "type": "AGENT_UPDATE" }],
        "hostname": address.host(),
        "id": "4b2d8f3e-0000-4000-8000-000000000000",
        "ip": u32::from_ne_bytes(ip.octets()),
        "pid": format!("master@{address}"),
        "port": address.port(),
        "version": "1.11.0"
    })
    .to_string()
    .into_bytes()
}

/// A protobuf MasterInfo without an address, as Mesos 0.23 writes it.
fn protobuf_info(address: &MasterAddress) -> Vec<u8> {
    fn varint(mut value: u32, into: &mut Vec<u8>) {
        while value >= 0x80 {
            into.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        into.push(value as u8);
    }
    let ip = address.host().parse::<Ipv4Addr>().unwrap();
    let mut bytes = vec![0x0a, 2, b'i', b'd', 0x10];
    varint(u32::from_ne_bytes(ip.octets()), &mut bytes);
    bytes.push(0x18);
    varint(address.port().into(), &mut bytes);
    bytes
}

/// A master's session with its node, which goes with it.
struct Registration {
    session: Writer,
    node: String,
}

fn register_as(server: SocketAddr, prefix: &str, content: &[u8]) -> Registration {
    let mut session = Writer::connect(server).unwrap();
    session.ensure(PATH).unwrap();
    let path = format!("{PATH}/{prefix}");
    let node = session
        .create(&path, content, NodeKind::EphemeralSequential)
        .unwrap();
    Registration { session, node }
}

fn register(server: SocketAddr, address: &MasterAddress) -> Registration {
    register_as(server, "json.info_", &json_info(address))
}

/// A node that outlives sessions and servers; gives its path.
fn register_for_good(server: SocketAddr, address: &MasterAddress) -> String {
    let mut session = Writer::connect(server).unwrap();
    session.ensure(PATH).unwrap();
    let path = format!("{PATH}/json.info_{:010}", address.port());
    session
        .create(&path, &json_info(address), NodeKind::Persistent)
        .unwrap()
}

fn settings(url: &str, masters: &[MasterAddress]) -> DetectionSettings {
    DetectionSettings {
        masters: masters.to_vec(),
        zookeeper: Some(url.parse().unwrap()),
        timeout: Duration::from_secs(30),
    }
}

/// Waits for candidates that meet a condition.
async fn candidates(detection: &Detection, meet: impl FnMut(&Candidates) -> bool) -> Candidates {
    let mut receiver = detection.candidates.clone();
    let found = timeout(DEADLINE, receiver.wait_for(meet)).await;
    let present = detection.candidates.borrow().clone();
    found
        .unwrap_or_else(|_| panic!("still {present:?}"))
        .unwrap()
        .clone()
}

async fn leader_is(detection: &Detection, leader: &MasterAddress) -> Candidates {
    candidates(detection, |list| list.leader.as_ref() == Some(leader)).await
}

/// Waits for a state of the connection.
async fn zookeeper(
    detection: &Detection,
    meet: impl FnMut(&ZooKeeperStatus) -> bool,
) -> ZooKeeperStatus {
    let mut receiver = detection.zookeeper.clone().unwrap();
    let found = timeout(DEADLINE, receiver.wait_for(meet)).await;
    found.expect("the deadline passed").unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_changes_and_the_others_stay_in_order() {
    needs_zookeeper!();
    let ensemble = Ensemble::start(1, LONG).unwrap();
    let server = ensemble.addresses()[0];
    let list: Vec<_> = (1..=3)
        .map(|n| master(&format!("10.0.0.{}:505{n}", 9 - n)))
        .collect();
    let mut registrations: Vec<_> = list
        .iter()
        .map(|address| register(server, address))
        .collect();
    registrations[0]
        .session
        .create(&format!("{PATH}/log_replicas"), b"", NodeKind::Persistent)
        .unwrap();
    let detection = detect(&settings(&ensemble.url(PATH), &[]));
    let found = leader_is(&detection, &list[0]).await;
    assert_eq!(found.others, list[1..]);
    // The leader's session ends, then the second's node alone goes.
    registrations.remove(0).session.close().unwrap();
    let found = leader_is(&detection, &list[1]).await;
    assert_eq!(found.others, list[2..]);
    let second = registrations.remove(0);
    let (mut session, node) = (second.session, second.node);
    session.delete(&node).unwrap();
    let found = leader_is(&detection, &list[2]).await;
    assert_eq!(found.others, []);
    // The first comes back behind the third.
    let _again = register(server, &list[0]);
    let found = candidates(&detection, |list| !list.others.is_empty()).await;
    assert_eq!(
        (found.leader.as_ref(), &found.others[..]),
        (Some(&list[2]), &list[..1])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn protobuf_leads_only_where_there_is_no_json() {
    needs_zookeeper!();
    let ensemble = Ensemble::start(1, LONG).unwrap();
    let server = ensemble.addresses()[0];
    let (old, young) = (master("10.0.0.1:5051"), master("10.0.0.2:5052"));
    let _first = register_as(server, "info_", &protobuf_info(&old));
    let detection = detect(&settings(&ensemble.url(PATH), &[]));
    leader_is(&detection, &old).await;
    let second = register(server, &young);
    let found = leader_is(&detection, &young).await;
    assert_eq!(found.others, std::slice::from_ref(&old));
    second.session.close().unwrap();
    leader_is(&detection, &old).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_whose_node_cannot_be_read_is_unknown_and_the_others_are_listed() {
    needs_zookeeper!();
    let ensemble = Ensemble::start(1, LONG).unwrap();
    let server = ensemble.addresses()[0];
    let (good, configured) = (master("10.0.0.2:5050"), master("10.0.0.9:5050"));
    let broken = register_as(server, "json.info_", b"{\"address\":");
    let _second = register(server, &good);
    let detection = detect(&settings(
        &ensemble.url(PATH),
        std::slice::from_ref(&configured),
    ));
    let found = candidates(&detection, |list| list.others.contains(&good)).await;
    assert_eq!(
        (found.leader, found.others, found.last_resort),
        (None, vec![good.clone()], vec![configured])
    );
    broken.session.close().unwrap();
    leader_is(&detection, &good).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slash_at_the_end_of_the_path_does_not_matter() {
    needs_zookeeper!();
    let ensemble = Ensemble::start(1, LONG).unwrap();
    let address = master("10.0.0.1:5050");
    let _registration = register(ensemble.addresses()[0], &address);
    let detection = detect(&settings(&ensemble.url("/mesos/"), &[]));
    leader_is(&detection, &address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_masters_stand_in_until_the_directory_and_a_master_appear() {
    needs_zookeeper!();
    let ensemble = Ensemble::start(1, LONG).unwrap();
    let server = ensemble.addresses()[0];
    let (address, configured) = (master("10.0.0.1:5050"), master("10.0.0.9:5050"));
    let detection = detect(&settings(
        &ensemble.url(PATH),
        std::slice::from_ref(&configured),
    ));
    assert_eq!(
        detection.candidates.borrow().to_ask().collect::<Vec<_>>(),
        [&configured]
    );
    // There is no directory yet, and a watch waits for it.
    zookeeper(&detection, |status| status.listings == 1).await;
    let mut session = Writer::connect(server).unwrap();
    session.ensure(PATH).unwrap();
    zookeeper(&detection, |status| status.listings == 2).await;
    assert_eq!(
        detection.candidates.borrow().to_ask().collect::<Vec<_>>(),
        [&configured]
    );
    let registration = register(server, &address);
    let found = leader_is(&detection, &address).await;
    assert_eq!(found.last_resort, std::slice::from_ref(&configured));
    registration.session.close().unwrap();
    let found = candidates(&detection, |list| list.leader.is_none()).await;
    assert_eq!(found.others, [configured]);
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_is_not_there_at_the_start_is_found_later() {
    needs_zookeeper!();
    let mut ensemble = Ensemble::start(1, LONG).unwrap();
    let address = master("10.0.0.1:5050");
    ensemble.kill(0).unwrap();
    let detection = detect(&settings(&ensemble.url(PATH), &[]));
    let status = zookeeper(&detection, |status| status.error.is_some()).await;
    assert!(status.error.unwrap().contains("Connection refused"));
    ensemble.restart(0).unwrap();
    let _registration = register(ensemble.addresses()[0], &address);
    leader_is(&detection, &address).await;
    assert_eq!(zookeeper(&detection, |_| true).await.error, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_servers_may_die() {
    needs_zookeeper!();
    let mut ensemble = Ensemble::start(3, LONG).unwrap();
    let (first, second) = (master("10.0.0.1:5050"), master("10.0.0.2:5050"));
    let detection = detect(&settings(&ensemble.url(PATH), &[]));
    let status = zookeeper(&detection, |status| status.listings > 0).await;
    // The one we are connected to; masters register with another.
    let ours = status.server.unwrap();
    let index = ensemble
        .addresses()
        .iter()
        .position(|address| *address == ours)
        .unwrap();
    let other = ensemble.addresses()[(index + 1) % 3];
    let _first = register(other, &first);
    leader_is(&detection, &first).await;
    ensemble.kill(index).unwrap();
    let status = zookeeper(&detection, |s| {
        s.server.is_some_and(|server| server != ours)
    })
    .await;
    assert_eq!(status.sessions, 1, "the session goes on at another server");
    assert_eq!(detection.candidates.borrow().leader.as_ref(), Some(&first));
    // The election that a dead server may cause must be over before one can register.
    let deadline = std::time::Instant::now() + DEADLINE;
    let mut session = loop {
        match Writer::connect(other) {
            Ok(session) => break session,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error:#}"),
        }
        tokio::task::yield_now().await;
    };
    let path = format!("{PATH}/json.info_");
    session
        .create(&path, &json_info(&second), NodeKind::EphemeralSequential)
        .unwrap();
    candidates(&detection, |list| {
        list.listed().any(|master| *master == second)
    })
    .await;
    // A start with one of three dead works as well.
    let late = detect(&settings(&ensemble.url(PATH), &[]));
    candidates(&late, |list| list.listed().any(|master| *master == second)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn session_that_expired_is_replaced_and_the_leader_stays_known() {
    needs_zookeeper!();
    let ensemble = Ensemble::start(1, Duration::from_secs(2)).unwrap();
    let server = ensemble.addresses()[0];
    let (first, second) = (master("10.0.0.1:5050"), master("10.0.0.2:5051"));
    let registration = register_for_good(server, &first);
    let ear = Eavesdropper::start(server).unwrap();
    let detection = detect(&settings(&format!("zk://{}{PATH}", ear.address()), &[]));
    leader_is(&detection, &first).await;
    let mut leaders = detection.candidates.clone();
    leaders.mark_unchanged();
    // Ending the session from elsewhere is what its expiry looks like to its owner.
    let [session] = ear.sessions()[..] else {
        panic!("{:?}", ear.sessions())
    };
    Writer::resume(server, &session).unwrap().close().unwrap();
    let status = zookeeper(&detection, |s| s.sessions == 2 && s.listings == 2).await;
    assert_eq!((status.failures, status.error), (0, None));
    assert!(
        !leaders.has_changed().unwrap(),
        "the leader was known all the time"
    );
    // The new session watches as the old one did.
    Writer::connect(server)
        .unwrap()
        .delete(&registration)
        .unwrap();
    register_for_good(server, &second);
    leader_is(&detection, &second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_session_is_kept_alive() {
    needs_zookeeper!();
    let ensemble = Ensemble::start(1, Duration::from_secs(3)).unwrap();
    let server = ensemble.addresses()[0];
    let (silent, lasting) = (master("10.0.0.1:5050"), master("10.0.0.2:5051"));
    register_for_good(server, &lasting);
    let detection = detect(&settings(&ensemble.url(PATH), &[]));
    leader_is(&detection, &lasting).await;
    // A master that never pings is the clock: its node goes when such a session expires.
    let path = format!("{PATH}/json.info_-");
    let mut session = Writer::connect(server).unwrap();
    session
        .create(&path, &json_info(&silent), NodeKind::EphemeralSequential)
        .unwrap();
    leader_is(&detection, &silent).await;
    leader_is(&detection, &lasting).await;
    let status = zookeeper(&detection, |_| true).await;
    assert_eq!((status.connections, status.sessions), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_of_zookeeper_keeps_the_leader_and_the_session() {
    needs_zookeeper!();
    let mut ensemble = Ensemble::start(1, LONG).unwrap();
    let server = ensemble.addresses()[0];
    let (first, second) = (master("10.0.0.1:5050"), master("10.0.0.2:5051"));
    let registration = register_for_good(server, &first);
    let detection = detect(&settings(&ensemble.url(PATH), &[]));
    leader_is(&detection, &first).await;
    let mut leaders = detection.candidates.clone();
    leaders.mark_unchanged();
    ensemble.restart(0).unwrap();
    let status = zookeeper(&detection, |s| s.connections == 2 && s.listings == 2).await;
    assert_eq!(status.sessions, 1);
    assert!(
        !leaders.has_changed().unwrap(),
        "the leader was known all the time"
    );
    Writer::connect(server)
        .unwrap()
        .delete(&registration)
        .unwrap();
    register_for_good(server, &second);
    leader_is(&detection, &second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_outage_ends_the_session_and_an_emptied_server_is_accepted() {
    needs_zookeeper!();
    let mut ensemble = Ensemble::start(1, Duration::from_secs(2)).unwrap();
    let server = ensemble.addresses()[0];
    let (first, second) = (master("10.0.0.1:5050"), master("10.0.0.2:5051"));
    register_for_good(server, &first);
    // Transactions that the emptied server will not have reached again.
    let mut session = Writer::connect(server).unwrap();
    for _ in 0..50 {
        session.ensure("/churn").unwrap();
        session.delete("/churn").unwrap();
    }
    let detection = detect(&settings(&ensemble.url(PATH), &[]));
    leader_is(&detection, &first).await;
    ensemble.kill(0).unwrap();
    // The pauses between five failures add up to more than the session's two seconds.
    zookeeper(&detection, |status| status.failures >= 5).await;
    assert_eq!(detection.candidates.borrow().leader.as_ref(), Some(&first));
    ensemble.erase(0).unwrap();
    ensemble.restart(0).unwrap();
    register_for_good(server, &second);
    leader_is(&detection, &second).await;
    assert_eq!(zookeeper(&detection, |_| true).await.sessions, 2);
}

/// Settings that fetch rarely, so that only events cause fetches.
fn follow_settings(url: &str, masters: &[MasterAddress]) -> FollowSettings {
    FollowSettings {
        fetches: true,
        refresh: Duration::from_secs(3600),
        detection: settings(url, masters),
        fetch: FetchSettings::default(),
    }
}

/// Waits for a state of this leader.
async fn observed(follower: &mut Follower, leader: &MasterAddress) -> Observation {
    let wait = async {
        loop {
            let observation = follower.observations.recv().await.unwrap();
            if observation.fetched_from == *leader {
                return observation;
            }
        }
    };
    let found = timeout(DEADLINE, wait).await;
    found.unwrap_or_else(|_| panic!("{:?}", follower.status.borrow()))
}

fn at(master: &FakeMaster) -> MasterAddress {
    MasterAddress::new(master.address().ip().to_string(), master.address().port())
}

#[tokio::test(flavor = "multi_thread")]
async fn change_of_leader_brings_its_state_at_once_even_while_a_fetch_hangs() {
    needs_zookeeper!();
    let ensemble = Ensemble::start(1, LONG).unwrap();
    let server = ensemble.addresses()[0];
    let masters = [FakeMaster::start().unwrap(), FakeMaster::start().unwrap()];
    let first = register(server, &at(&masters[0]));
    let second = register(server, &at(&masters[1]));
    let mut follower = follow(follow_settings(&ensemble.url(PATH), &[])).unwrap();
    let observation = observed(&mut follower, &at(&masters[0])).await;
    assert_eq!(observation.candidates.others, [at(&masters[1])]);
    assert_eq!(
        observation.leader,
        format!("master@{}", masters[0].address())
    );
    // The second hangs when it comes to lead, and then a third takes over.
    masters[1].behave(Behaviour::Hang);
    let before = masters[1].requests().len();
    first.session.close().unwrap();
    masters[1].wait_for_requests(before + 1, DEADLINE).unwrap();
    let third = FakeMaster::start().unwrap();
    let _third = register(server, &at(&third));
    second.session.close().unwrap();
    observed(&mut follower, &at(&third)).await;
    let status = follower.status.borrow().clone();
    assert_eq!(status.leader, Some(at(&third)));
    assert!(status.counters.replaced >= 1, "{status:?}");
    assert_eq!(status.failures_in_a_row, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_master_is_asked_at_once_while_zookeeper_is_away() {
    needs_zookeeper!();
    let mut ensemble = Ensemble::start(1, LONG).unwrap();
    let server = ensemble.addresses()[0];
    ensemble.kill(0).unwrap();
    let (configured, registered) = (FakeMaster::start().unwrap(), FakeMaster::start().unwrap());
    let list = [at(&configured)];
    let mut follower = follow(follow_settings(&ensemble.url(PATH), &list)).unwrap();
    observed(&mut follower, &at(&configured)).await;
    let status = follower.status.borrow().zookeeper.clone();
    assert!(status.is_none_or(|status| status.listings == 0));
    ensemble.restart(0).unwrap();
    let _registration = register(server, &at(&registered));
    let observation = observed(&mut follower, &at(&registered)).await;
    assert_eq!(observation.candidates.last_resort, list);
    // With ZooKeeper and the registered master gone, the configured one still serves.
    ensemble.kill(0).unwrap();
    drop(registered);
    let fetcher = Fetcher::new(FetchSettings::default()).unwrap();
    let fetched = fetcher.refresh(&observation.candidates).await.unwrap();
    assert_eq!(fetched.fetched_from, at(&configured));
}
