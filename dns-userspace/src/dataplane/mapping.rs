//! A BPF array in our address space, written by plain stores while the kernel reads it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// The values of a `BPF_F_MMAPABLE` array, as words.
///
/// Words are stored one by one, so that a reader sees each whole; in which order it sees several
/// is the publisher's affair.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the memory is shared with the kernel anyway and only touched through atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `words` words of the array behind `map`.
    pub(super) fn new(map: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        let octets = words * size_of::<u64>();
        // SAFETY: a new shared mapping of a file descriptor that is open; no address is asked for.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                octets,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { start, words })
    }

    fn word(&self, at: usize) -> Option<&AtomicU64> {
        if at >= self.words {
            return None;
        }
        // SAFETY: within the mapping, which lives as long as `self` and is aligned to a page.
        Some(unsafe { self.start.add(at).as_ref() })
    }

    /// The word at `at`; 0 outside.
    pub(super) fn load(&self, at: usize) -> u64 {
        self.word(at).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Stores a word that a reader may be waiting for: all stores before it are seen first.
    pub(super) fn store(&self, at: usize, value: u64) {
        if let Some(word) = self.word(at) {
            word.store(value, Ordering::Release);
        }
    }

    /// Stores octets from the word at `at` on, filled up with zeros. No reader may know of the
    /// place yet.
    pub(super) fn fill(&self, at: usize, octets: &[u8]) {
        let (whole, rest) = octets.as_chunks();
        for (offset, word) in whole.iter().enumerate() {
            if let Some(slot) = self.word(at + offset) {
                slot.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
            }
        }
        if let Some(slot) = self.word(at + whole.len()).filter(|_| !rest.is_empty()) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(rest) {
                *to = *from;
            }
            slot.store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
    }

    /// The octets from the word at `at` on; none outside.
    ///
    /// # Safety
    /// Nobody stores to them as long as the slice lives.
    pub(super) unsafe fn octets(&self, at: usize, octets: usize) -> &[u8] {
        if at.saturating_mul(8).saturating_add(octets) > self.words.saturating_mul(8) {
            return &[];
        }
        // SAFETY: within the mapping, which lives as long as `self`; the caller vouches for the
        // stores.
        unsafe { std::slice::from_raw_parts(self.start.add(at).as_ptr().cast(), octets) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, to which no reference is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.words * size_of::<u64>()) };
    }
}

/// Waits until every program run that was under way has ended.
///
/// `MEMBARRIER_CMD_GLOBAL` is a grace period of RCU (membarrier(2)), and an XDP program runs
/// within a read-side section of it.
pub(super) fn wait_for_readers() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: takes numbers only.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
