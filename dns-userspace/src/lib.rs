//! The control plane of mesos-xdns, as a pipeline of modules that only point forward:
//!
//! ```text
//! mesos  →  records  →  zones  →  answers  →  dataplane (BPF maps)
//!                                         ↘  server (sockets), http
//! ```
//!
//! `records`, `zones` and `answers` are pure: no I/O, no clock, no lock. `config` is read at the
//! edges and handed inward as small structs.

pub mod answers;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod dataplane;
pub mod forwarder;
pub mod http;
pub mod memory;
pub mod mesos;
pub mod records;
pub mod server;
pub mod telemetry;
pub mod transfer;
pub mod zones;
