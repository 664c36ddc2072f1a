//! What is asked: the same records for every subject, and the queries for them.

use std::{
    fmt::{self, Write as _},
    fs,
    io::{BufWriter, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::ValueEnum;

/// Names of the small zone.
pub(super) const SMALL: u32 = 10_000;

/// Names of the large zone.
pub(super) const LARGE: u32 = 1_000_000;

/// Addresses of [`TWENTY_NAME`].
const TWENTY: u32 = 20;

/// A name with many addresses: tasks of one name.
const TWENTY_NAME: &str = "twenty.bench.mesos";

/// Queries in a file of random names, which the client sends over and over.
const RANDOM_QUERIES: u32 = 100_000;

/// The records of a run: names `n0000000.bench.mesos` with one address each, and one with twenty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dataset {
    /// [`SMALL`] names.
    Small,
    /// [`LARGE`] names.
    Large,
}

impl Dataset {
    pub(super) const ALL: [Self; 2] = [Self::Small, Self::Large];

    /// Names with one address.
    pub(super) fn names(self) -> u32 {
        match self {
            Self::Small => SMALL,
            Self::Large => LARGE,
        }
    }

    /// The zone file below a folder; the apex is `mesos`.
    pub(super) fn file(self, folder: &Path) -> PathBuf {
        folder.join(match self {
            Self::Small => "small.zone",
            Self::Large => "large.zone",
        })
    }

    /// Writes the zone file.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(super) fn write(self, folder: &Path) -> Result<()> {
        let path = self.file(folder);
        let write = || -> std::io::Result<()> {
            let mut out = BufWriter::new(fs::File::create(&path)?);
            out.write_all(
                b"$ORIGIN mesos.\n$TTL 60\n@ SOA ns1 root 1 60 600 86400 60\n@ NS ns1\n\
                  ns1 A 192.0.2.2\n",
            )?;
            for (name, address) in records(self.names()) {
                writeln!(out, "{name}. A {address}")?;
            }
            out.flush()
        };
        write().with_context(|| format!("writing {}", path.display()))
    }
}

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Workload {
    /// One name, over and over
    Hot,
    /// 10,000 names at random
    Names,
    /// 1,000,000 names at random
    Million,
    /// 10,000 names at random, three in ten of which do not exist
    Misses,
    /// Random names that do not exist
    Nxdomain,
    /// A name with twenty addresses
    Twenty,
}

impl Workload {
    pub(super) const ALL: [Self; 6] = [
        Self::Hot,
        Self::Names,
        Self::Million,
        Self::Misses,
        Self::Nxdomain,
        Self::Twenty,
    ];

    /// The records that it asks for.
    pub(super) fn dataset(self) -> Dataset {
        match self {
            Self::Million => Dataset::Large,
            _ => Dataset::Small,
        }
    }

    /// The response codes that right answers have: NOERROR, NXDOMAIN.
    pub(super) fn expects(self) -> (bool, bool) {
        match self {
            Self::Hot | Self::Names | Self::Million | Self::Twenty => (true, false),
            Self::Misses => (true, true),
            Self::Nxdomain => (false, true),
        }
    }

    /// The name whose latency is measured.
    pub(super) fn probe(self) -> String {
        match self {
            Self::Twenty => TWENTY_NAME.to_owned(),
            Self::Nxdomain => Random(1).absent(),
            _ => name(self.dataset().names() / 2),
        }
    }

    /// Writes the queries in the format of kxdpgun and dnsperf.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(super) fn queries(self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(format!("{self}.queries").replace(' ', "-"));
        fs::write(&path, self.text()).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    fn text(self) -> String {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut text = String::new();
        let lines = match self {
            Self::Hot | Self::Twenty => 1,
            Self::Million => LARGE,
            _ => RANDOM_QUERIES,
        };
        for _ in 0..lines {
            let _ = match self {
                Self::Hot => writeln!(text, "{} A", name(0)),
                Self::Twenty => writeln!(text, "{TWENTY_NAME} A"),
                Self::Nxdomain => writeln!(text, "{} A", random.absent()),
                Self::Misses if random.below(10) < 3 => writeln!(text, "{} A", random.absent()),
                _ => {
                    let index = random.below(self.dataset().names());
                    writeln!(text, "{} A", name(index))
                }
            };
        }
        text
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Hot => "one hot name",
            Self::Names => "10000 names",
            Self::Million => "1000000 names",
            Self::Misses => "30 % misses",
            Self::Nxdomain => "NXDOMAIN flood",
            Self::Twenty => "20 addresses",
        })
    }
}

/// Marsaglia's xorshift: the same queries in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u32) -> u32 {
        u32::try_from((self.next() >> 16) % u64::from(bound)).unwrap_or_default()
    }

    /// A name that no zone has.
    fn absent(&mut self) -> String {
        format!("x{:012x}.bench.mesos", self.next() >> 16)
    }
}

/// The name of a task, as mesos-dns names it.
pub(super) fn name(index: u32) -> String {
    format!("n{index:07}.bench.mesos")
}

fn address(index: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + index)
}

/// Names and addresses of all tasks.
fn records(names: u32) -> impl Iterator<Item = (String, Ipv4Addr)> {
    let single = (0..names).map(|index| (name(index), address(index)));
    let many = (0..TWENTY).map(move |index| (TWENTY_NAME.to_owned(), address(names + index)));
    single.chain(many)
}

/// The records as a Mesos state whose leading master is at `leader`, `address:port`. Written as
/// text: as a tree of values a large state would take gigabytes.
pub(super) fn state(names: u32, leader: &str) -> String {
    let mut text = format!(
        r#"{{"leader":"master@{leader}","pid":"master@{leader}","slaves":[{{"id":"S0","hostname":"10.255.0.1","pid":"slave(1)@10.255.0.1:5051"}}],"frameworks":[{{"id":"F0","name":"bench","pid":"scheduler(1)@10.255.0.2:15000","hostname":"10.255.0.2","active":true,"tasks":["#
    );
    for (number, (name, address)) in records(names).enumerate() {
        let task = name.split('.').next().unwrap_or_default();
        let comma = if number == 0 { "" } else { "," };
        let _ = write!(
            text,
            r#"{comma}{{"id":"{task}.{number}","name":"{task}","slave_id":"S0","state":"TASK_RUNNING","statuses":[{{"state":"TASK_RUNNING","timestamp":1,"container_status":{{"network_infos":[{{"ip_addresses":[{{"ip_address":"{address}"}}]}}]}}}}]}}"#
        );
    }
    text.push_str("]}]}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_holds_the_records_of_the_zone_file() {
        let state: serde_json::Value = serde_json::from_str(&state(300, "127.0.0.1:5050")).unwrap();
        let tasks = state["frameworks"][0]["tasks"].as_array().unwrap();
        let of_state: Vec<(String, String)> = tasks
            .iter()
            .map(|task| {
                let name = task["name"].as_str().unwrap();
                let address = &task["statuses"][0]["container_status"]["network_infos"][0];
                let address = address["ip_addresses"][0]["ip_address"].as_str().unwrap();
                (format!("{name}.bench.mesos"), address.to_owned())
            })
            .collect();
        let of_zone: Vec<(String, String)> = records(300)
            .map(|(name, address)| (name, address.to_string()))
            .collect();
        assert_eq!(of_state, of_zone);
        assert_eq!(of_zone.len(), 320);
    }

    #[test]
    fn three_queries_in_ten_miss() {
        let text = Workload::Misses.text();
        let misses = text.lines().filter(|line| line.starts_with('x')).count();
        assert!((29_000..31_000).contains(&misses), "{misses}");
    }
}
