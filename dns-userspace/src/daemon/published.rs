//! What is served, for the HTTP API: its listings are made from the state when somebody asks.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::pipeline::look_up;
use crate::mesos::State;
use crate::records::{self, MesosRecords, report};

/// How many times as long as making the records takes they are given out, although events have
/// changed some.
const SPACING: u32 = 10;

/// What is served, with what it was computed from.
#[derive(Debug)]
pub struct Published {
    /// The state, as far as it was read.
    pub state: Arc<State>,
    /// The masters, in the order in which they are numbered.
    pub candidates: Vec<String>,
    /// What the records were made by.
    pub settings: Arc<records::Settings>,
    /// The records, as mesos-dns names them, once somebody needs them.
    pub records: OnceLock<MesosRecords>,
    /// Addresses of host names, if they are not to be looked up.
    pub hosts: Option<HashMap<String, Vec<IpAddr>>>,
    /// The serial of the zone: the unix time of its last change, in seconds.
    pub serial: u32,
    /// When this was made, and how long the records took.
    pub(super) made: Instant,
    pub(super) took: OnceLock<Duration>,
}

impl Published {
    /// What is made of a state, nothing of it yet.
    #[must_use]
    pub fn new(
        state: Arc<State>,
        candidates: Vec<String>,
        settings: Arc<records::Settings>,
        serial: u32,
    ) -> Self {
        Self {
            state,
            candidates,
            settings,
            records: OnceLock::new(),
            hosts: None,
            serial,
            made: Instant::now(),
            took: OnceLock::new(),
        }
    }

    /// Whether so little time has passed that it is given out although events have changed
    /// something: who asks all the time must not have it made all the time.
    pub(super) fn is_fresh(&self) -> bool {
        let took = self.took.get();
        took.is_some_and(|took| self.made.elapsed() < *took * SPACING)
    }

    /// The records, as mesos-dns names them. Blocks: names in the state may have to be looked up.
    pub fn records(&self) -> &MesosRecords {
        self.records.get_or_init(|| {
            let begun = Instant::now();
            let resolve = |host: &str| self.resolve(host);
            let built = records::build(&self.state, &self.candidates, &self.settings, &resolve);
            // Set by nobody else.
            let _ = self.took.set(begun.elapsed());
            built
        })
    }

    fn resolve(&self, host: &str) -> Vec<IpAddr> {
        match &self.hosts {
            Some(hosts) => hosts.get(host).cloned().unwrap_or_default(),
            None => look_up(host),
        }
    }

    /// The body of `/v1/enumerate`. Blocks: names in the state may have to be looked up.
    ///
    /// # Errors
    /// As [`report::enumerate_body`].
    pub fn enumerate_body(&self) -> serde_json::Result<Vec<u8>> {
        report::enumerate_body(&self.state, &self.candidates, &self.settings, &|host| {
            self.resolve(host)
        })
    }

    /// The body of `/v1/axfr`. Blocks, as [`Self::records`].
    ///
    /// # Errors
    /// As [`report::axfr_body`].
    pub fn axfr_body(&self, refresh_seconds: u32) -> serde_json::Result<Vec<u8>> {
        report::axfr_body(self.records(), &self.settings, self.serial, refresh_seconds)
    }
}
