//! Finished answers to BPF maps: load, attach, publish, count.
//!
//! Where XDP is not to be had [`DataPlane::Off`] takes its place and says why; nothing else in the
//! daemon asks which of the two runs.

use std::fmt;
use std::io;

use dns_common::Verdict;

use crate::zones::{Diff, Snapshot};

mod attach;
mod detach;
mod mapping;
mod program;
mod publish;
mod reason;
mod slots;

pub use attach::{Attachment, Mode};
pub use detach::detach_all;
pub use program::{Settings, Xdp, object};
pub use publish::Occupancy;

/// The kernel's side of the daemon.
pub enum DataPlane {
    /// An XDP program answers on at least one interface.
    Xdp(Box<Xdp>),
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
    /// Loads the program and attaches it to every interface that takes it. Never fails: what does
    /// not work is a [`Reason`].
    #[must_use]
    pub fn start(settings: &Settings) -> Self {
        if settings.interfaces.is_empty() || settings.mode == Mode::Off {
            return Self::Off(Reason::Configured);
        }
        match program::object() {
            None => Self::Off(Reason::NotBuilt),
            Some(object) => match Xdp::start(object, settings) {
                Ok(xdp) => Self::Xdp(Box::new(xdp)),
                Err(error) => Self::Off(Reason::Refused(reason::explain(&error))),
            },
        }
    }

    /// Brings the maps from the snapshot before `diff` to `snapshot`.
    ///
    /// # Errors
    /// The kernel refuses an update; the maps hold older answers for some names then.
    pub fn publish(&mut self, snapshot: &Snapshot, diff: &Diff) -> io::Result<()> {
        match self {
            Self::Xdp(xdp) => xdp.publish(snapshot, diff),
            Self::Off(_) => Ok(()),
        }
    }

    /// Packets by verdict, over all CPUs, since the program was loaded.
    #[must_use]
    pub fn counters(&self) -> Vec<(Verdict, u64)> {
        match self {
            Self::Xdp(xdp) => xdp.counters(),
            Self::Off(_) => Vec::new(),
        }
    }

    /// What is in the maps.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        match self {
            Self::Xdp(xdp) => xdp.occupancy(),
            Self::Off(_) => Occupancy::default(),
        }
    }

    /// How each interface is served.
    #[must_use]
    pub fn attachments(&self) -> &[Attachment] {
        match self {
            Self::Xdp(xdp) => xdp.attachments(),
            Self::Off(_) => &[],
        }
    }
}
