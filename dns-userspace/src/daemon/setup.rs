//! What the daemon runs by.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};

use super::listen;
use crate::config::dcos::MesosSource;
use crate::config::{Config, Dcos, OnExit, Surroundings, XdpMode, places};
use crate::dataplane::{self, Life, Mode};
use crate::mesos::follow::FollowSettings;
use crate::records;

/// A valid configuration and the host it is for.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The configuration.
    pub config: Config,
    /// The host.
    pub surroundings: Surroundings,
}

impl Setup {
    /// The part of a DC/OS node, if this is one.
    pub(super) fn dcos(&self) -> Option<&Dcos> {
        places::dcos(&self.config)
    }

    fn own_addresses(&self) -> Result<Vec<IpAddr>> {
        let listener = listen::listener(&self.config)?;
        let interfaces = &self.surroundings.addresses;
        Ok(places::own_addresses(listener, interfaces))
    }

    /// The DNS sockets to open.
    pub(super) fn sockets(&self) -> Result<Vec<SocketAddr>> {
        let mut sockets = places::dns_sockets(listen::listener(&self.config)?, self.config.port);
        let of_dcos = places::dcos_sockets(&self.config, &sockets);
        sockets.extend(of_dcos);
        Ok(sockets)
    }

    /// Where we answer, which is where nothing must be forwarded to.
    pub(super) fn own_sockets(&self) -> Result<Vec<SocketAddr>> {
        let listener = listen::listener(&self.config)?;
        let interfaces = &self.surroundings.addresses;
        Ok(places::own_sockets(&self.config, listener, interfaces))
    }

    pub(super) fn record_settings(&self) -> records::Settings {
        self.config.record_settings(&self.surroundings.addresses)
    }

    pub(super) fn follow_settings(&self) -> Result<FollowSettings> {
        let mut settings = self.config.follow_settings().context("Zk")?;
        settings.fetches = self
            .dcos()
            .is_none_or(|dcos| dcos.mesos_source != MesosSource::Events);
        Ok(settings)
    }

    /// Whether Mesos is followed at all; if not, all zones are those of other servers.
    pub(super) fn follows_mesos(&self) -> bool {
        !self.config.masters.is_empty() || !self.config.zk.is_empty()
    }

    /// Whether Mesos is followed in the same way by `other`.
    pub(super) fn follows_as(&self, other: &Self) -> bool {
        let of = |setup: &Self| {
            let config = &setup.config;
            (
                (config.masters.clone(), config.zk.clone()),
                (
                    config.refresh_seconds,
                    config.zk_detection_timeout_seconds,
                    config.state_timeout_seconds,
                ),
                (config.mesos_https_on, config.tls.clone()),
                (
                    config.authentication.clone(),
                    config.mesos_credentials.clone(),
                ),
            )
        };
        of(self) == of(other)
    }

    /// Whether other names are forwarded in the same way by `other`.
    pub(super) fn forwards_as(&self, other: &Self) -> bool {
        let of = |setup: &Self| {
            let config = &setup.config;
            (
                (config.external_on, config.timeout_seconds),
                (config.resolvers.clone(), config.zone_resolvers.clone()),
                config.cache,
                // An upstream must not be ourselves.
                setup.own_sockets().ok(),
            )
        };
        of(self) == of(other)
    }

    /// Whether zones are transferred in the same way by `other`.
    pub(super) fn transfers_as(&self, other: &Self) -> bool {
        let of = |setup: &Self| {
            let config = &setup.config;
            let source = config.listener.clone();
            (config.transfer.clone(), config.secondary.clone(), source)
        };
        of(self) == of(other)
    }

    /// What becomes of the XDP program.
    pub(super) fn life(&self) -> Life {
        let xdp = &self.config.xdp;
        Life {
            pin_path: xdp.pin_path.clone(),
            stays: xdp.on_exit == OnExit::Keep,
            lease_seconds: xdp.lease_seconds,
            allows_generic: xdp.allow_generic,
            traces: xdp.trace,
        }
    }

    /// The same on a host with these addresses.
    pub(super) fn with_addresses(&self, addresses: Vec<IpAddr>) -> Self {
        let mut setup = self.clone();
        setup.surroundings.addresses = addresses;
        setup
    }

    pub(super) fn dataplane_settings(&self, seed: u64) -> Result<dataplane::Settings> {
        let xdp = &self.config.xdp;
        let policy = listen::terms(&self.config).applied_to(listen::policy(&self.config));
        let interfaces = &self.surroundings.addresses;
        let (addresses, port) =
            listen::kernel_place(&self.config, &self.own_addresses()?, interfaces);
        Ok(dataplane::Settings {
            interfaces: xdp.interfaces.clone(),
            mode: match xdp.mode {
                // Without DNS the kernel must be as silent as the sockets.
                _ if !self.config.dns_on => Mode::Off,
                XdpMode::Auto => Mode::Auto,
                XdpMode::Native => Mode::Native,
                XdpMode::Generic => Mode::Generic,
                XdpMode::Tc => Mode::Tc,
                XdpMode::Off => Mode::Off,
            },
            tc: xdp.tc,
            max_names: xdp.max_names,
            seed,
            addresses: addresses
                .into_iter()
                .filter(|one| !one.is_loopback())
                .collect(),
            port,
            max_udp_octets: policy.max_udp_octets,
            sets_truncate_bit: policy.sets_truncate_bit,
            raised_options: policy.raised_options(),
            allowed: self.config.server.allow_clients.clone(),
            limit: self.config.server.rate_limit.limit(),
        })
    }
}
