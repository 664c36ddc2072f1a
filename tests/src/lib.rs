//! What needs more than one module: the harness, and in `tests/` the tests that use it.

// A harness ends a test by a panic.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

pub mod cable;
pub mod cluster_state;
pub mod dig;
pub mod fake_master;
pub mod frame;
pub mod generate;
pub mod requirements;
pub mod served;
pub mod upstream;
pub mod zookeeper;

pub use testbed::{netns, process, xdp};
