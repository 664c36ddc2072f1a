//! Finished answers to BPF maps: load, attach, publish, count; taken over from an earlier daemon
//! and left to a later one.
//!
//! Where XDP is not to be had [`DataPlane::Off`] takes its place and says why; nothing else in the
//! daemon asks which of the two runs.

use std::fmt;
use std::io;
use std::sync::Arc;

use aya::maps::{MapData, RingBuf};
use dns_common::Verdict;

use crate::answers::encode::BlobEncoder;
use crate::zones::{Encoder, Snapshot};

mod arena;
mod attach;
mod bpf;
mod clients;
mod detach;
mod device;
mod homes;
mod hook;
mod index;
mod lease;
mod mapping;
mod pins;
mod program;
mod publish;
mod reason;
mod running;
mod sample;
mod shortcuts;
mod slots;
mod sys;
mod tally;
mod trace;

pub use attach::{Attachment, Mode};
pub use detach::{detach_all, detach_from};
pub use device::Watch;
pub use lease::Lease;
pub use program::{Settings, Xdp, object};
pub use publish::Occupancy;
pub use running::{Life, Pinning, Running};
pub use sample::keep_sampling;
pub use tally::Tally;

/// The kernel's side of the daemon.
pub enum DataPlane {
    /// An XDP program is there, or a TC program, for interfaces that may come and go.
    Xdp(Box<Running>),
    /// User space answers everything.
    Off(Reason),
}

/// Why XDP does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The configuration says so: no interface, or mode `off`.
    Configured,
    /// This binary was built without the XDP program.
    NotBuilt,
    /// The kernel does not permit or not accept it.
    Refused(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configured => f.write_str("not configured"),
            Self::NotBuilt => f.write_str("this binary was built without the XDP program"),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

impl DataPlane {
    /// Loads the program and attaches it to every interface that takes it; with answers that an
    /// earlier daemon has left, if it may adopt them. Never fails: what does not work is a
    /// [`Reason`].
    #[must_use]
    pub fn start(settings: &Settings, life: &Life, lease: &Lease, may_adopt: bool) -> Self {
        let reason = match program::variant(life.traces) {
            _ if !is_wanted(settings) => Reason::Configured,
            None => Reason::NotBuilt,
            Some(object) => match Running::start(object, settings, life, lease, may_adopt) {
                Ok(running) => return Self::Xdp(Box::new(running)),
                Err(error) => return Self::Off(Reason::Refused(reason::explain(&error))),
            },
        };
        // Nobody would keep it up to date.
        running::remove_leftovers(&life.pin_path, &settings.interfaces);
        Self::Off(reason)
    }

    /// Goes on by other settings. Says whether the maps are others: then answers are to be encoded
    /// by [`Self::encoder`] anew and published. Where the kernel answers before and after, it
    /// answers throughout.
    ///
    /// # Errors
    /// The maps that are asked for cannot be had; those that are there stay.
    pub fn change(&mut self, settings: &Settings, life: &Life, lease: &Lease) -> io::Result<bool> {
        match self {
            Self::Xdp(running) if is_wanted(settings) => {
                let result = running.change(settings, life);
                result.map_err(|error| io::Error::other(reason::explain(&error)))
            }
            Self::Xdp(running) => {
                running.remove();
                *self = Self::Off(Reason::Configured);
                Ok(true)
            }
            Self::Off(_) => {
                *self = Self::start(settings, life, lease, false);
                Ok(true)
            }
        }
    }

    /// Takes in that interfaces may have come, gone or changed.
    pub fn refresh(&mut self) {
        if let Self::Xdp(running) = self {
            running.refresh();
        }
    }

    /// Ends with the daemon. What is configured to stay stays.
    pub fn end(&mut self) {
        if let Self::Xdp(running) = std::mem::replace(self, Self::Off(Reason::Configured)) {
            running.end();
        }
    }

    /// The key of the owner hash that the maps were made with.
    #[must_use]
    pub fn seed(&self) -> Option<u64> {
        match self {
            Self::Xdp(running) => Some(running.xdp().seed()),
            Self::Off(_) => None,
        }
    }

    /// Why the kernel answers nowhere; `None` if it does.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Xdp(running) => running.problem().map(Reason::Refused),
            Self::Off(reason) => Some(reason.clone()),
        }
    }

    /// How the program is held.
    #[must_use]
    pub fn pinning(&self) -> Pinning {
        match self {
            Self::Xdp(running) => running.pinning(),
            Self::Off(_) => Pinning::default(),
        }
    }

    /// Brings the maps to `snapshot`.
    ///
    /// # Errors
    /// The kernel refuses an update; some names are left to user space then.
    pub fn publish(&mut self, snapshot: &Arc<Snapshot>) -> io::Result<()> {
        match self {
            Self::Xdp(running) => running.publish(snapshot),
            Self::Off(_) => Ok(()),
        }
    }

    /// What finishes answers where the kernel, if it answers, reads them. Of a data plane that ran
    /// before, or of none, answers are good as well, but take their memory twice.
    #[must_use]
    pub fn encoder(&self) -> Arc<dyn Encoder> {
        match self {
            Self::Xdp(running) => running.xdp().encoder(),
            Self::Off(_) => Arc::new(BlobEncoder),
        }
    }

    /// Has the kernel hand over one of `every` packets, and says where; none if it is 0.
    fn sample(&mut self, every: u32) -> Option<anyhow::Result<RingBuf<MapData>>> {
        match self {
            Self::Xdp(running) => {
                let xdp = running.xdp_mut();
                xdp.set_sampling(every);
                (every != 0).then(|| xdp.samples())
            }
            Self::Off(_) => None,
        }
    }

    /// What the kernel has counted, over all CPUs, since the maps were made.
    #[must_use]
    pub fn tally(&self) -> Tally {
        match self {
            Self::Xdp(running) => running.xdp().tally(),
            Self::Off(_) => Tally::default(),
        }
    }

    /// Packets by verdict.
    #[must_use]
    pub fn counters(&self) -> Vec<(Verdict, u64)> {
        self.tally().verdicts()
    }

    /// What the TC program has answered or dropped of that after the XDP program had passed it.
    #[must_use]
    pub fn second_tally(&self) -> Tally {
        match self {
            Self::Xdp(running) => running.xdp().second_tally(),
            Self::Off(_) => Tally::default(),
        }
    }

    /// What is in the maps.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        match self {
            Self::Xdp(running) => running.xdp().occupancy(),
            Self::Off(_) => Occupancy::default(),
        }
    }

    /// How each interface is served, by the kernel's own account.
    #[must_use]
    pub fn attachments(&self) -> Vec<Attachment> {
        match self {
            Self::Xdp(running) => running.attachments(),
            Self::Off(_) => Vec::new(),
        }
    }
}

/// Whether the kernel is to answer somewhere.
fn is_wanted(settings: &Settings) -> bool {
    !settings.interfaces.is_empty() && settings.mode != Mode::Off
}
