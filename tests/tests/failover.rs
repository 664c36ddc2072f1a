//! The daemon through leader changes and a restart of ZooKeeper, asked once a millisecond.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    collections::BTreeSet,
    env,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use dns_userspace::mesos::master::MasterAddress;
use hickory_proto::op::ResponseCode;
use serde_json::json;
use tests::{
    fake_master::{Behaviour, FakeMaster},
    needs,
    port::free_ports,
    running::{Asking, Running, http_get, wait_for, wait_until_ready},
    zookeeper::{Ensemble, NodeKind, Writer, available},
};

/// The directory the masters register in.
const PATH: &str = "/mesos";
/// Names another number of leader changes than a run in CI has time for.
const VARIABLE: &str = "MESOS_XDNS_SOAK_CHANGES";
const CHANGES: usize = 4;

fn master(host: u8) -> FakeMaster {
    let address = SocketAddr::from(([127, 0, 0, host], 0));
    FakeMaster::start_at(address).unwrap()
}

/// What every master says, but for who leads: tasks that run throughout.
fn tell(masters: &[FakeMaster], leader: usize) {
    let tasks: Vec<_> = (1..=3)
        .map(|number| {
            json!({"id": format!("web.{number}"), "name": "web", "slave_id": "S",
                "framework_id": "F", "state": "TASK_RUNNING", "statuses": [{
                    "state": "TASK_RUNNING", "timestamp": 1.0, "container_status": {
                        "network_infos": [{"ip_addresses": [
                            {"ip_address": format!("10.0.0.{number}")}]}]}}]})
        })
        .collect();
    let state = json!({
        "leader": format!("master@{}", masters[leader].address()),
        "slaves": [{"id": "S", "hostname": "10.0.0.9", "pid": "slave(1)@10.0.0.9:5051"}],
        "frameworks": [{"id": "F", "name": "marathon", "tasks": tasks}]});
    for master in masters {
        master.serve_state(&state);
    }
}

/// Nodes that outlive sessions and servers; the lowest number leads.
struct Registry {
    server: SocketAddr,
    next: u32,
    nodes: Vec<String>,
}

impl Registry {
    fn register(&mut self, master: &FakeMaster) -> String {
        let address = master.address();
        let address = MasterAddress::new(address.ip().to_string(), address.port());
        let info = json!({
            "address": {"hostname": address.host(), "ip": address.host(), "port": address.port()},
            "id": "4b2d8f3e-0000-4000-8000-000000000000", "pid": format!("master@{address}"),
            "port": address.port(), "version": "1.11.0"})
        .to_string();
        let mut session = Writer::connect(self.server).unwrap();
        session.ensure(PATH).unwrap();
        self.next += 1;
        let path = format!("{PATH}/json.info_{:010}", self.next);
        let path = session
            .create(&path, info.as_bytes(), NodeKind::Persistent)
            .unwrap();
        session.close().unwrap();
        path
    }

    /// Has the leading master leave and come back behind the others.
    fn step_down(&mut self, masters: &[FakeMaster], leader: usize) {
        let mut session = Writer::connect(self.server).unwrap();
        session.delete(&self.nodes[leader]).unwrap();
        session.close().unwrap();
        self.nodes[leader] = self.register(&masters[leader]);
    }
}

fn leading(http: SocketAddr) -> String {
    http_get(http, "/v1/hosts/leader.mesos").map_or_else(|_| String::new(), |(_, body)| body)
}

#[test]
fn leader_changes_and_a_zookeeper_restart_cost_no_answer() {
    let missing = available();
    needs!(missing.is_ok(), missing.unwrap_err());
    let changes = env::var(VARIABLE).map_or(CHANGES, |text| text.parse().unwrap());

    let mut ensemble = Ensemble::start(1, Duration::from_secs(4)).unwrap();
    let masters = [master(1), master(2), master(3)];
    let mut leader = 0;
    tell(&masters, leader);
    let mut registry = Registry {
        server: ensemble.addresses()[0],
        next: 0,
        nodes: Vec::new(),
    };
    for master in &masters {
        let node = registry.register(master);
        registry.nodes.push(node);
    }
    let ports = free_ports(2);
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let http = at(ports[1]);
    let running = Running::start(&json!({
        "zk": ensemble.url(PATH), "refreshSeconds": 1, "stateTimeoutSeconds": 1,
        "listener": "127.0.0.1", "port": ports[0],
        "httpListener": "127.0.0.1", "httpPort": ports[1], "externalOn": false,
    }))
    .unwrap();
    wait_until_ready(http).unwrap();

    let tasks: BTreeSet<Ipv4Addr> = (1..=3).map(|last| [10, 0, 0, last].into()).collect();
    let of_masters: BTreeSet<Ipv4Addr> = (1..=3).map(|last| [127, 0, 0, last].into()).collect();
    let names = ["web.marathon.mesos", "leader.mesos", "master0.mesos"];
    let asking = Asking::start(at(ports[0]), &names, move |name, (code, _, addresses)| {
        *code == ResponseCode::NoError
            && if name.starts_with("web") {
                *addresses == tasks
            } else {
                addresses.len() == 1 && addresses.is_subset(&of_masters)
            }
    })
    .unwrap();

    for change in 0..changes {
        let old = leader;
        leader = (leader + 1) % masters.len();
        if change % 2 == 1 {
            // It does not only lose its place, it hangs.
            masters[old].behave(Behaviour::Hang);
        }
        tell(&masters, leader);
        registry.step_down(&masters, old);
        let expected = masters[leader].address().ip().to_string();
        let found = wait_for("leader", || leading(http), |body| body.contains(&expected));
        found.unwrap();
        masters[old].behave(Behaviour::State);
    }

    ensemble.kill(0).unwrap();
    // The masters go on without it, and so do we: the state is still fetched.
    let served = masters[leader].requests().len();
    let limit = tests::running::LIMIT;
    masters[leader]
        .wait_for_requests(served + 2, limit)
        .unwrap();
    ensemble.restart(0).unwrap();
    let old = leader;
    leader = (leader + 1) % masters.len();
    tell(&masters, leader);
    registry.step_down(&masters, old);
    let expected = masters[leader].address().ip().to_string();
    wait_for("leader", || leading(http), |body| body.contains(&expected)).unwrap();

    let (asked, wrong) = asking.stop().unwrap();
    assert!(asked > 100, "{asked}");
    assert_eq!(wrong, Vec::<String>::new(), "of {asked}");
    eprintln!("{asked} questions over {} leader changes", changes + 1);
    drop(running);
}
