//! Cluster state to resource records. Pure: no I/O, no clock, no lock.

pub mod cluster_id;
pub mod dcos_label;
