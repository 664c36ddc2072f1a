//! Where cluster state comes from: the leading master's `state` document, reduced to what is read,
//! and the event streams.

pub mod defects;
pub mod events;
pub mod json;
mod lenient;
pub mod recordio;
pub mod state;
mod task_fields;
pub mod tasks;

pub use defects::{Defect, Defects};
pub use state::{State, StateError, parse};
