//! Zone transfers in the daemon: what the configuration says of them, as what they run by.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Result, ensure};
use tokio::sync::Notify;

use super::listen;
use super::setup::Setup;
use crate::config::transfer::AnswersAs;
use crate::config::{Config, Secondary, Transfer};
use crate::transfer::{
    Access, Hearing, Key, Keys, Notifier, Responder, Secondaries, SecondaryZone, Target, Versions,
};
use crate::zones::snapshot::Served;
use crate::zones::{Name, Soa, Zone};

/// What of transfers outlives a reload, and what does not.
pub(super) struct Transfers {
    /// `None` where zones neither go anywhere nor come from anywhere.
    pub(super) versions: Option<Arc<Versions>>,
    notifier: Option<Notifier>,
    /// Whom to wake when a zone of another server has changed.
    wakes: HashMap<Name, Arc<Notify>>,
}

impl Transfers {
    /// Nothing is told to anybody before [`Self::notify`].
    pub(super) fn new(config: &Config) -> Self {
        let transfer = &config.transfer;
        let versions = config.transfers().then(|| {
            let versions = Versions::open(&transfer.state_directory, transfer.history_names);
            Arc::new(versions)
        });
        Self {
            versions,
            notifier: None,
            wakes: HashMap::new(),
        }
    }

    /// Starts to keep the zones of other servers, if there are any.
    pub(super) fn keep(&mut self, setup: &Setup, served: &Arc<Served>) -> Option<Secondaries> {
        let config = &setup.config;
        let keys = keys(&config.transfer);
        let versions = self
            .versions
            .as_ref()
            .filter(|_| !config.secondary.is_empty())?;
        let zones = config.secondary.iter().map(|one| SecondaryZone {
            apex: one.zone.clone(),
            primaries: one.primaries.clone(),
            key: one.key.as_ref().and_then(|name| keys.get(name)).cloned(),
            source: source(config),
            timeout: config.transfer.timeout,
        });
        let directory = &config.transfer.state_directory;
        let secondaries = Secondaries::start(zones.collect(), directory, served, versions);
        self.wakes = secondaries.wakes();
        Some(secondaries)
    }

    /// Whether this can go on by another configuration.
    ///
    /// # Errors
    /// What needs a restart.
    pub(super) fn can_follow(&self, old: &Config, new: &Config) -> Result<()> {
        let kept = |transfer: &Transfer| (transfer.state_directory.clone(), transfer.history_names);
        ensure!(
            !new.transfers()
                || (self.versions.is_some() && kept(&old.transfer) == kept(&new.transfer)),
            "transfers do not begin, nor does transfer.state_directory or transfer.history_names \
             change, while the daemon runs: restart for that"
        );
        ensure!(
            old.secondary == new.secondary
                && (new.secondary.is_empty() || old.transfer.keys == new.transfer.keys),
            "secondary, and transfer.keys beside it, do not change while the daemon runs: restart \
             for that"
        );
        Ok(())
    }

    /// Who answers transfers and NOTIFY, if anybody.
    pub(super) fn responder(&self, config: &Config) -> Option<Arc<Responder>> {
        let versions = self.versions.as_ref().filter(|_| config.transfers())?;
        let transfer = &config.transfer;
        let access = Access {
            keys: keys(transfer),
            allow: transfer.allow.clone(),
            max_transfers: transfer.max_transfers,
            timeout: transfer.timeout,
        };
        let hearing = config.secondary.iter().filter_map(|one| {
            let primaries = one.primaries.iter().map(|primary| primary.ip().into());
            let hearing = Hearing {
                from: primaries.chain(one.notify_from.iter().copied()).collect(),
                key: one.key.clone(),
                wake: Arc::clone(self.wakes.get(&one.zone)?),
            };
            Some((one.zone.clone(), hearing))
        });
        let responder = Responder::new(access, Arc::clone(versions), hearing.collect());
        Some(Arc::new(responder))
    }

    /// Tells the secondaries of this configuration, and no others, from here on.
    pub(super) fn notify(&mut self, setup: &Setup, served: &Arc<Served>) {
        let transfer = &setup.config.transfer;
        let keys = keys(transfer);
        let targets = transfer.notify.iter().map(|told| Target {
            address: told.address,
            key: told.key.as_ref().and_then(|name| keys.get(name)).cloned(),
        });
        let targets = targets.collect();
        let source = source(&setup.config);
        let versions = self.versions.as_ref();
        self.notifier = versions.map(|versions| Notifier::start(targets, source, served, versions));
    }
}

impl Config {
    /// Whether zones go to or come from other servers.
    pub(super) fn transfers(&self) -> bool {
        self.transfer.is_on() || !self.secondary.is_empty()
    }
}

/// The address that other servers know us by, if it is a certain one.
fn source(config: &Config) -> Option<IpAddr> {
    let listener = listen::listener(config).ok();
    listener.filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
}

/// A zone of another server before anything is known of it.
fn secondary_zone(secondary: &Secondary, recursion_available: bool) -> Zone {
    // What stands for the SOA until there is one is never answered.
    let nobody = Name::root();
    let soa = Soa {
        mname: nobody.clone(),
        rname: nobody,
        serial: 1,
        refresh: 0,
        retry: 0,
        expire: 0,
        minimum: 0,
    };
    let mut zone = Zone::new(secondary.zone.clone(), soa, 0, Vec::new(), 0);
    zone.fixed_serial = true;
    zone.withdrawn = true;
    match secondary.answers_as {
        AnswersAs::Rfc => {}
        AnswersAs::MesosDns => {
            zone.recursion_available = recursion_available;
            zone.unknown_srv_is_nodata = true;
            zone.ignores_stars = true;
            zone.expands_wildcards = false;
        }
        AnswersAs::DcosDns => {
            zone.alias_to_nothing_is_nodata = true;
            zone.any_follows_aliases = true;
            zone.rotates_types_together = true;
            zone.expands_wildcards = false;
        }
    }
    zone
}

impl Setup {
    /// The zones of other servers, before anything is known of them.
    pub(super) fn secondary_zones(&self) -> Vec<Zone> {
        let config = &self.config;
        let zones = config.secondary.iter();
        zones
            .map(|one| secondary_zone(one, config.recurse_on))
            .collect()
    }
}

fn keys(transfer: &Transfer) -> Keys {
    let keys = transfer.keys.iter();
    keys.filter_map(|key| Key::new(key.name.clone(), key.algorithm, &key.secret))
        .collect()
}
