//! Ctrl-C as something to wait for, so that everything made is removed on the way out.

use std::time::Duration;

/// SIGINT, SIGTERM and SIGHUP, kept from ending the process.
///
/// Children inherit this, but for those that `Process` starts.
pub(crate) struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Keeps the signals back from this thread and those it starts from here on.
    pub(crate) fn hold() -> Self {
        // SAFETY: an all-zero sigset_t is a valid one to initialise, and each call gets a pointer
        // to it that is valid for the call.
        let set = unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
                libc::sigaddset(&raw mut set, signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            set
        };
        Self { set }
    }

    /// Waits, and says whether a signal came.
    pub(crate) fn came_within(&self, limit: Duration) -> bool {
        let limit = libc::timespec {
            tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(limit.subsec_nanos()),
        };
        // SAFETY: both pointers are valid for the call; no information about the signal is asked.
        let signal = unsafe {
            libc::sigtimedwait(&raw const self.set, std::ptr::null_mut(), &raw const limit)
        };
        signal > 0
    }
}
