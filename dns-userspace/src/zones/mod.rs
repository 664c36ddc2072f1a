//! Zones: what is served, as values that are replaced and never edited.

pub mod name;
pub mod rrset;

pub use name::{Name, NameError};
pub use rrset::{Rdata, Rrset, Rtype};
