//! Signals: what the parent blocks, a child inherits blocked.

use std::{io, ptr};

/// Lets SIGTERM, SIGINT and SIGHUP through to this thread and those that it starts from here on.
///
/// # Errors
/// That of `pthread_sigmask`; nothing has changed then.
pub(super) fn unblock() -> io::Result<()> {
    // SAFETY: an all-zero sigset_t is a valid one to initialise, and each call gets a pointer to it
    // that is valid for the call.
    let error = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut())
    };
    match error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}
