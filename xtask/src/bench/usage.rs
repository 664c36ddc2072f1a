//! What a server takes of the machine: processor time and memory of its processes.

use std::{fs, time::Duration};

/// A process and all below it.
pub(super) fn family(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|id| Some((id, fields(id)?.get(1)?.parse().ok()?)))
        .collect();
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(id, _)| *id),
        );
        next += 1;
    }
    family
}

/// Processor time so far, in user space and in the kernel on behalf of the process.
pub(super) fn processor_time(family: &[u32]) -> Duration {
    family.iter().filter_map(|id| time_of(*id)).sum()
}

/// Memory of the processes; what they share counts once.
pub(super) fn memory(family: &[u32]) -> u64 {
    family.iter().filter_map(|id| proportional_set(*id)).sum()
}

/// The most memory that each of the processes had in RAM, in all.
pub(super) fn peak(family: &[u32]) -> u64 {
    let of = |id: &u32| -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        kibibytes(&status, "VmHWM:")
    };
    family.iter().filter_map(of).sum()
}

/// The octets that a file below /proc says of a key.
fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The fields of /proc/PID/stat behind the name, from the state on.
fn fields(id: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name stands in parentheses and may hold any.
    let (_, rest) = stat.rsplit_once(") ")?;
    Some(rest.split(' ').map(str::to_owned).collect())
}

fn time_of(id: u32) -> Option<Duration> {
    let fields = fields(id)?;
    let ticks: u64 = [11, 12]
        .iter()
        .map(|&at| fields.get(at)?.parse::<u64>().ok())
        .sum::<Option<u64>>()?;
    // SAFETY: sysconf takes a number and touches no memory.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Some(Duration::from_secs_f64(
        ticks as f64 / per_second.max(1) as f64,
    ))
}

/// Octets of the proportional set: a page shared by two counts half for each.
fn proportional_set(id: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).ok()?;
    kibibytes(&rollup, "Pss:")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn children_count() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let family = family(std::process::id());
        assert!(family.contains(&child.id()));
        assert!(memory(&family) > memory(&[child.id()]));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn work_takes_processor_time() {
        let own = [std::process::id()];
        let before = processor_time(&own);
        let mut sum = 0u64;
        while processor_time(&own) < before + Duration::from_millis(20) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(processor_time(&own) > before);
    }
}
