//! Takes the program off its interfaces from outside the daemon that put it there.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use aya::programs::{loaded_links, loaded_programs};

use super::program::PROGRAM;
use super::sys::bpf;

/// Detaches every XDP program of this name on the host, in whatever network namespace, and gives
/// the number of interfaces it was on. The daemon, if one runs, goes on in user space.
///
/// # Errors
/// The kernel does not permit it.
pub fn detach_all() -> Result<usize> {
    let programs: HashSet<u32> = loaded_programs()
        .filter_map(Result::ok)
        .filter(|program| program.name_as_str() == Some(PROGRAM))
        .map(|program| program.id())
        .collect();
    let mut detached = 0;
    for link in loaded_links() {
        let link = link.context("listing the BPF links (this takes root)")?;
        if programs.contains(&link.program_id()) {
            detach(link.id()).with_context(|| format!("detaching BPF link {}", link.id()))?;
            detached += 1;
        }
    }
    Ok(detached)
}

fn detach(id: u32) -> io::Result<()> {
    const BPF_LINK_GET_FD_BY_ID: libc::c_int = 30;
    const BPF_LINK_DETACH: libc::c_int = 34;
    let fd = call(BPF_LINK_GET_FD_BY_ID, id)?;
    // SAFETY: the kernel has just made this descriptor for us.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    call(
        BPF_LINK_DETACH,
        u32::try_from(link.as_raw_fd()).unwrap_or_default(),
    )?;
    Ok(())
}

/// bpf(2) with an attribute whose first word counts and whose other words are zero.
fn call(command: libc::c_int, word: u32) -> io::Result<libc::c_int> {
    let mut attribute = [word, 0, 0, 0];
    // SAFETY: so do the commands above want it; there are no addresses in it.
    unsafe { bpf(command, &mut attribute) }
}
