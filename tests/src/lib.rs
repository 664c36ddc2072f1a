//! What needs more than one module: the harness, and in `tests/` the tests that use it.

pub mod cable;
pub mod cluster_state;
pub mod dig;
pub mod fake_master;
pub mod requirements;
pub mod served;
pub mod upstream;
pub mod zookeeper;

pub use testbed::{netns, process, xdp};
