//! Finished answers to BPF maps: load, attach, publish, count.
//!
//! Where XDP is not to be had [`DataPlane::Off`] takes its place and says why; nothing else in the
//! daemon asks which of the two runs.

use std::fmt;
use std::io;
use std::sync::Arc;

use dns_common::Verdict;

use crate::answers::encode::BlobEncoder;
use crate::zones::{Encoder, Snapshot};

mod arena;
mod attach;
mod detach;
mod index;
mod mapping;
mod program;
mod publish;
mod reason;
mod slots;
mod sys;

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

    /// Brings the maps to `snapshot`.
    ///
    /// # Errors
    /// The kernel refuses an update; some names are left to user space then.
    pub fn publish(&mut self, snapshot: &Arc<Snapshot>) -> io::Result<()> {
        match self {
            Self::Xdp(xdp) => xdp.publish(snapshot),
            Self::Off(_) => Ok(()),
        }
    }

    /// What finishes answers where the kernel, if it answers, reads them. Of a data plane that ran
    /// before, or of none, answers are good as well, but take their memory twice.
    #[must_use]
    pub fn encoder(&self) -> Arc<dyn Encoder> {
        match self {
            Self::Xdp(xdp) => xdp.encoder(),
            Self::Off(_) => Arc::new(BlobEncoder),
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
