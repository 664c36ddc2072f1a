//! Where servers are put to be tried: network namespaces, the cable between them, the programs at
//! its ends, and child processes that end with their owner.
//!
//! A crate of its own, because both the tests and `xtask` use it, and `xtask` must not depend on
//! the daemon: it installs what the daemon is compiled with.

pub mod cluster_events;
pub mod cluster_state;
pub mod netns;
pub mod process;
pub mod xdp;
