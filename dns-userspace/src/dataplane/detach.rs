//! Takes the program off its interfaces from outside the daemon that put it there.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use aya::programs::{loaded_links, loaded_programs};

use super::device::Device;
use super::program::PROGRAM;
use super::{bpf, pins};

/// Detaches every XDP program of this name on the host, in whatever network namespace, and gives
/// the number of interfaces it was on. Daemons that run go on in user space.
///
/// # Errors
/// The kernel does not permit it.
pub fn detach_all() -> Result<usize> {
    detach_programs(&programs()?, |_| true)
}

/// Detaches what a daemon has pinned at this path and removes it, and detaches the program from
/// these interfaces of the network namespace of the process, where it may be without a pin. Gives
/// the number of interfaces that it was on.
///
/// # Errors
/// The kernel does not permit it.
pub fn detach_from(pin_path: &Path, interfaces: &[String]) -> Result<usize> {
    let mut detached = 0;
    for held in pins::links_below(pin_path) {
        let Some(link) = held.link else { continue };
        // One that was detached before is a pin and nothing more.
        let was_attached = bpf::detach_pinned(&held.path).is_ok();
        detached += usize::from(was_attached);
        drop(link);
    }
    let is_pin_path = pin_path.exists() && pins::is_bpf_file_system(pin_path)?;
    if is_pin_path {
        pins::remove_root(pin_path);
    }
    for name in interfaces {
        let device = Device::named(name).with_context(|| format!("asking for {name}"))?;
        let Some(device) = device else { continue };
        let there: HashSet<u32> = device.programs().collect();
        if there.is_empty() {
            continue;
        }
        let ours: HashSet<u32> = programs()?.intersection(&there).copied().collect();
        detached += detach_programs(&ours, |interface| interface == device.index)?;
    }
    Ok(detached)
}

/// Ids of all programs of our name.
fn programs() -> Result<HashSet<u32>> {
    loaded_programs()
        .filter(|program| {
            let program = program.as_ref();
            program.map_or(true, |program| program.name_as_str() == Some(PROGRAM))
        })
        .map(|program| {
            Ok(program
                .context("listing the BPF programs (this takes root)")?
                .id())
        })
        .collect()
}

/// Detaches links of these programs from interfaces of such an index.
fn detach_programs(programs: &HashSet<u32>, is_meant: impl Fn(u32) -> bool) -> Result<usize> {
    let mut detached = 0;
    for link in loaded_links() {
        let link = link.context("listing the BPF links (this takes root)")?;
        if !programs.contains(&link.program_id()) {
            continue;
        }
        let failed = || format!("detaching BPF link {}", link.id());
        let held = bpf::link_of_id(link.id()).with_context(failed)?;
        let interface = bpf::interface_of(held.as_fd()).with_context(failed)?;
        if interface != 0 && is_meant(interface) {
            bpf::detach_link(held.as_fd()).with_context(failed)?;
            detached += 1;
        }
    }
    Ok(detached)
}
