//! Where cluster state comes from: the leading master's `state` document, reduced to what is read,
//! and the event streams.
//!
//! [`follow`] owns the loop that fetches it, [`leader`] the list of masters to ask, [`fetch`] one
//! refresh. What leaves the loop is a [`follow::Observation`]: bytes that are a JSON state, and
//! where they came from.

pub mod auth;
pub mod defects;
pub mod events;
pub mod fetch;
pub mod follow;
pub mod json;
pub mod leader;
mod lenient;
pub mod master;
mod master_info;
pub mod objects;
pub mod operator_api;
pub mod pid;
pub mod reconnect;
pub mod recordio;
pub mod state;
mod state_leader;
pub mod state_model;
mod state_reader;
mod task_fields;
pub mod tasks;
pub mod zookeeper;

pub use defects::{Defect, Defects};
pub use state::{State, StateError, parse};
