//! Where cluster state comes from: the leading master's `state` document, reduced to what is read,
//! and the event streams.

pub mod auth;
pub mod defects;
pub mod events;
pub mod fetch;
pub mod json;
pub mod leader;
mod lenient;
pub mod master;
mod master_info;
pub mod recordio;
pub mod state;
mod state_leader;
mod task_fields;
pub mod tasks;
pub mod zookeeper;

pub use defects::{Defect, Defects};
pub use state::{State, StateError, parse};
