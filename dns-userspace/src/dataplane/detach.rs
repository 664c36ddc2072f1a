//! Takes the programs off their interfaces from outside the daemon that put it there.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use aya::programs::{loaded_links, loaded_programs};

use super::device::Device;
use super::program::{PROGRAM, TC_PROGRAM};
use super::{bpf, hook, pins};

/// The interfaces that a program was on, of whatever namespace: by their indexes, and by a map that
/// only programs of one daemon have.
type Places = HashSet<(u32, u32)>;

/// Detaches every program of our names on the host, in whatever network namespace, and gives the
/// number of interfaces there were. Daemons that run go on in user space. Before Linux 6.6 TC programs
/// of other network namespaces stay, and answer until their lease ends.
///
/// # Errors
/// The kernel does not permit it.
pub fn detach_all() -> Result<usize> {
    let mut places = Places::new();
    detach_programs(&programs()?, &mut places, |_| true)?;
    Ok(places.len())
}

/// Detaches what a daemon has pinned at this path and removes it, and detaches the programs from
/// these interfaces of the network namespace of the process, where they may be without a pin. Gives
/// the number of interfaces that they were on.
///
/// # Errors
/// The kernel does not permit it.
pub fn detach_from(pin_path: &Path, interfaces: &[String]) -> Result<usize> {
    let mut detached = HashSet::new();
    for held in pins::links_below(pin_path) {
        hook::remove_filter(&held.interface);
        // One that was detached before is a pin and nothing more.
        if held.link.is_some() && bpf::detach_pinned(&held.path).is_ok() {
            detached.insert(held.interface);
        }
    }
    let is_pin_path = pin_path.exists() && pins::is_bpf_file_system(pin_path)?;
    if is_pin_path {
        pins::remove_root(pin_path);
    }
    for name in interfaces {
        let device = Device::named(name).with_context(|| format!("asking for {name}"))?;
        let Some(device) = device else { continue };
        let mut was_there = hook::remove_filter(name);
        let mut there: HashSet<u32> = device.programs().collect();
        there.extend(bpf::tcx_programs(device.index).unwrap_or_default());
        if !there.is_empty() {
            let mut ours = programs()?;
            ours.retain(|id, _| there.contains(id));
            let mut places = Places::new();
            detach_programs(&ours, &mut places, |interface| interface == device.index)?;
            was_there |= !places.is_empty();
        }
        if was_there {
            detached.insert(name.clone());
        }
    }
    Ok(detached.len())
}

/// Ids of all programs of our names, and of the oldest map of each.
fn programs() -> Result<HashMap<u32, u32>> {
    let mut found = HashMap::new();
    for program in loaded_programs() {
        let program = program.context("listing the BPF programs (this takes root)")?;
        if matches!(program.name_as_str(), Some(PROGRAM | TC_PROGRAM)) {
            let maps = program.map_ids()?.unwrap_or_default();
            found.insert(program.id(), maps.into_iter().min().unwrap_or_default());
        }
    }
    Ok(found)
}

/// Detaches links of these programs from interfaces of such an index, and gives where that was.
fn detach_programs(
    programs: &HashMap<u32, u32>,
    places: &mut Places,
    is_meant: impl Fn(u32) -> bool,
) -> Result<()> {
    for link in loaded_links() {
        let link = link.context("listing the BPF links (this takes root)")?;
        let Some(map) = programs.get(&link.program_id()) else {
            continue;
        };
        let failed = || format!("detaching BPF link {}", link.id());
        let held = bpf::link_of_id(link.id()).with_context(failed)?;
        let interface = bpf::interface_of(held.as_fd()).with_context(failed)?;
        if interface != 0 && is_meant(interface) {
            bpf::detach_link(held.as_fd()).with_context(failed)?;
            places.insert((interface, *map));
        }
    }
    Ok(())
}
