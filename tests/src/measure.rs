//! What this process costs: processor time, memory, and the kernel memory of its BPF maps.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::time::Duration;
use std::{fs, io};

/// The processor time that this thread has had.
#[must_use]
pub fn cpu_time() -> Duration {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: the pointer is to a place for the structure, which the call fills; zeros are a valid
    // value of it, should the call fail.
    let time = unsafe {
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr());
        time.assume_init()
    };
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::from_secs(seconds)
        + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or_default())
}

/// Memory of this process, in octets.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Own memory that is resident. Mapped BPF arrays are not in it: they are the kernel's.
    pub own: u64,
    /// The most that has been resident so far, mapped arrays included.
    pub peak: u64,
    /// What is resident, mapped arrays included.
    pub resident: u64,
}

impl Memory {
    /// As it is now.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn now() -> io::Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let kilobytes = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let octets = |name: &str| {
            kilobytes(name)
                .map(|count| count * 1024)
                .ok_or_else(|| io::Error::other(format!("/proc/self/status has no {name}")))
        };
        Ok(Self {
            own: octets("RssAnon:")?,
            peak: octets("VmHWM:")?,
            resident: octets("VmRSS:")?,
        })
    }
}

/// Has [`Memory::peak`] begin anew from what is resident now.
///
/// # Errors
/// The kernel does not permit it.
pub fn reset_peak() -> io::Result<()> {
    fs::write("/proc/self/clear_refs", "5")
}

/// The kernel memory of the BPF maps that this process holds, in octets: what `bpftool map show`
/// gives as memlock.
///
/// # Errors
/// The descriptors of this process cannot be listed.
pub fn map_octets() -> io::Result<u64> {
    let mut maps: BTreeMap<u64, u64> = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        // A descriptor may be closed meanwhile: that of the listing is.
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        let field = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse().ok()
        };
        if let (Some(id), Some(octets)) = (field("map_id:"), field("memlock:")) {
            maps.insert(id, octets);
        }
    }
    Ok(maps.values().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_measured() {
        let before = Memory::now().unwrap();
        let block = vec![1u8; 32 << 20];
        let after = Memory::now().unwrap();
        assert!(after.own >= before.own + (30 << 20), "{before:?} {after:?}");
        assert!(after.peak >= after.resident, "{after:?}");
        assert!(cpu_time() > Duration::ZERO);
        drop(block);
    }
}
