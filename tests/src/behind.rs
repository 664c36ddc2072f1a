//! A server behind the program: both at one end of a cable, in the test's own process, with zones
//! that the test writes down.

use std::{env, net::SocketAddr};

use anyhow::{Result, bail};
use dns_common::Verdict;
use dns_userspace::dataplane::{self, DataPlane, Lease, Life, Mode, Settings};

use crate::{
    cable::{self, Cable, SERVER},
    dig::Dig,
    kernel, packets, requirements,
    served::{Plan, Served},
};

/// The program in the driver, and the server that gets what it passes.
pub struct Behind {
    /// The program; it is taken off first.
    pub plane: DataPlane,
    /// The server, at port 53 of both addresses.
    pub served: Served,
    /// The cable, whose ends have the addresses of [`kernel::MAC`] and [`packets::CLIENT_MAC`].
    pub cable: Cable,
}

/// Whether one can be had.
///
/// # Errors
/// Says what is missing.
pub fn possible() -> Result<(), String> {
    requirements::root()?;
    requirements::tool("ip")?;
    match dataplane::object() {
        Some(_) => Ok(()),
        None => Err("this build has no XDP program".to_owned()),
    }
}

impl Behind {
    /// Starts both.
    ///
    /// # Errors
    /// Needs what [`possible`] asks for.
    pub fn start(plan: Plan) -> Result<Self> {
        Self::with(plan, |_| {})
    }

    /// The same with other settings of the program.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn with(mut plan: Plan, change: impl FnOnce(&mut Settings)) -> Result<Self> {
        let cable = Cable::new()?;
        for (end, interface, mac) in [
            (&cable.server, cable::INTERFACE, kernel::MAC),
            (&cable.client, "client", packets::CLIENT_MAC),
        ] {
            let mac = mac.map(|octet| format!("{octet:02x}")).join(":");
            end.ip(&format!("link set {interface} address {mac}"))?;
        }
        plan.settings.listen = SERVER
            .iter()
            .map(|text| Ok(SocketAddr::new(text.parse()?, 53)))
            .collect::<Result<_>>()?;
        let mut settings = Settings {
            interfaces: vec![cable::INTERFACE.to_owned()],
            mode: Mode::Native,
            tc: false,
            ..kernel::settings()
        };
        change(&mut settings);
        // Nothing is pinned: this is no BPF file system.
        let life = Life {
            pin_path: env::temp_dir().join("mesos-xdns-not-pinned"),
            stays: false,
            lease_seconds: 0,
            allows_generic: false,
            traces: false,
        };
        let (plane, served) = cable.server.enter(move || {
            let lease = Lease::default();
            let mut plane = DataPlane::start(&settings, &life, &lease, false);
            if let DataPlane::Off(reason) = &plane {
                bail!("XDP is off: {reason}");
            }
            let served = plan.start()?;
            plane.publish(served.editor.snapshot())?;
            lease.renew()?;
            Ok((plane, served))
        })?;
        Ok(Self {
            plane,
            served,
            cable,
        })
    }

    /// Packets with this verdict.
    pub fn count(&self, verdict: Verdict) -> u64 {
        let counters = self.plane.counters();
        let found = counters.iter().find(|(one, _)| *one == verdict);
        found.map_or(0, |(_, count)| *count)
    }

    /// Packets that the kernel answered.
    pub fn answered(&self) -> u64 {
        let counters = self.plane.counters();
        let responses = counters.iter().filter(|(verdict, _)| verdict.is_response());
        responses.map(|(_, count)| count).sum()
    }

    /// Asks from the other end: over IPv4, and over IPv6.
    pub fn digs(&self) -> [Dig<'_>; 2] {
        SERVER.map(|address| Dig::at(address).from(&self.cable.client))
    }
}
