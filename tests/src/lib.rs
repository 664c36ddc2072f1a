//! What needs more than one module: the harness, and in `tests/` the tests that use it.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a harness ends a test by a panic"
)]

pub mod behind;
pub mod cable;
pub mod cluster;
pub mod daemon;
pub mod dcos_cluster;
pub mod differential;
pub mod dig;
pub mod fake_master;
pub mod frame;
pub mod generate;
pub mod how_to;
pub mod kernel;
pub mod keys;
pub mod measure;
pub mod name_server;
pub mod network;
pub mod octets;
pub mod oracle;
pub mod packets;
pub mod peer;
pub mod pins;
pub mod port;
pub mod raw;
pub mod requirements;
pub mod running;
pub mod scene;
pub mod secured;
pub mod served;
pub mod steady;
pub mod upstream;
pub mod wire;
pub mod zookeeper;

pub use testbed::{netns, process, xdp};
