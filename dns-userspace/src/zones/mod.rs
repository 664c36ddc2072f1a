//! Zones: what is served, as values that are replaced and never edited.
//!
//! One [`Editor`] takes content and gives out [`Snapshot`]s; every reader holds one of those for as
//! long as it likes. What two of them differ by is a [`Diff`], and drives serials and map updates.

mod ahead;
pub mod blob;
pub mod diff;
pub mod edit;
mod few;
pub mod hash;
pub mod name;
pub mod node;
mod referrers;
pub mod rrset;
pub mod serial;
pub mod snapshot;
mod table;
pub mod zone;

pub use diff::Diff;
pub use edit::{EditError, Editor};
pub use name::{Name, NameError};
pub use node::{Encoder, NoEncoder, Node};
pub use rrset::{Rdata, Rrset, Rtype, Soa};
pub use snapshot::Snapshot;
pub use zone::{MAX_ZONES, Zone, ZoneIndex};
