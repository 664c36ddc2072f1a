//! `detach`: XDP taken off all interfaces.

use std::io::Write;

use crate::dataplane;

/// Detaches the program wherever it is.
///
/// # Errors
/// The kernel does not permit it.
pub fn run(out: &mut impl Write) -> anyhow::Result<u8> {
    match dataplane::detach_all()? {
        0 => writeln!(out, "mesos-xdns is attached to no interface")?,
        1 => writeln!(out, "detached from one interface")?,
        count => writeln!(out, "detached from {count} interfaces")?,
    }
    Ok(0)
}
