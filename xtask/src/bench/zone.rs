//! The same records for every subject, and the queries for them.

use std::{
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Names fit into 10.0.0.0/8 with room for both ends.
pub(super) const MOST_NAMES: u32 = 16_000_000;

/// Queries in the file for random names: several times as many as there are names.
const RANDOM_QUERIES: u32 = 100_000;

/// A kind of load.
pub(super) struct Load {
    pub(super) name: &'static str,
    /// kxdpgun's file of queries.
    pub(super) queries: PathBuf,
}

/// The name of a task, as mesos-dns names it.
fn name(index: u32) -> String {
    format!("n{index:05}.bench.mesos")
}

fn address(index: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + index)
}

/// Writes the queries: one hot name, and all names at random.
///
/// # Errors
///
/// A file cannot be written.
pub(super) fn loads(folder: &Path, names: u32) -> Result<Vec<Load>> {
    let mut random = String::new();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..RANDOM_QUERIES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let index = u32::try_from((state >> 16) % u64::from(names)).unwrap_or_default();
        writeln!(random, "{} A", name(index))?;
    }
    [
        ("one hot name", format!("{} A\n", name(0))),
        ("random names", random),
    ]
    .into_iter()
    .map(|(name, text)| {
        let queries = folder.join(format!("{}.queries", name.replace(' ', "-")));
        fs::write(&queries, text).with_context(|| format!("writing {}", queries.display()))?;
        Ok(Load { name, queries })
    })
    .collect()
}

/// The records as a zone file.
pub(super) fn file(names: u32) -> String {
    let mut text = "$ORIGIN mesos.\n$TTL 60\n@ SOA ns1 root 1 60 600 86400 60\n@ NS ns1\n\
                    ns1 A 192.0.2.2\n"
        .to_owned();
    for index in 0..names {
        let _ = writeln!(text, "{}. A {}", name(index), address(index));
    }
    text
}

/// The records as a Mesos state whose leading master is at `leader`, `address:port`.
pub(super) fn state(names: u32, leader: &str) -> Value {
    let tasks: Vec<_> = (0..names)
        .map(|index| {
            let name = name(index);
            let task = name.split('.').next().unwrap_or_default();
            json!({
                "id": format!("{task}.1"),
                "name": task,
                "slave_id": "S0",
                "state": "TASK_RUNNING",
                "statuses": [{
                    "state": "TASK_RUNNING",
                    "timestamp": 1,
                    "container_status": { "network_infos": [
                        { "ip_addresses": [{ "ip_address": address(index) }] }
                    ] },
                }],
            })
        })
        .collect();
    json!({
        "leader": format!("master@{leader}"),
        "pid": format!("master@{leader}"),
        "slaves": [{ "id": "S0", "hostname": "10.255.0.1", "pid": "slave(1)@10.255.0.1:5051" }],
        "frameworks": [{
            "id": "F0",
            "name": "bench",
            "pid": "scheduler(1)@10.255.0.2:15000",
            "hostname": "10.255.0.2",
            "active": true,
            "tasks": tasks,
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zone_file_and_state_hold_the_same_records() {
        let file = file(300);
        let state = state(300, "127.0.0.1:5050");
        for task in state["frameworks"][0]["tasks"].as_array().unwrap() {
            let name = task["name"].as_str().unwrap();
            let address = &task["statuses"][0]["container_status"]["network_infos"][0];
            let address = address["ip_addresses"][0]["ip_address"].as_str().unwrap();
            let record = format!("\n{name}.bench.mesos. A {address}\n");
            assert!(file.contains(&record), "{record}");
        }
    }
}
