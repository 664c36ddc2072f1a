//! bpf(2), for what aya has no function for.

use std::io;

/// Calls bpf(2) with `attribute`, which the kernel reads and writes.
///
/// # Safety
/// The attribute has the layout that the command wants, without padding, and addresses in it are
/// those of memory that is as large as the command takes it for.
pub(super) unsafe fn bpf<T>(command: libc::c_int, attribute: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads and writes as many octets as it is told, all of them the
    // attribute's; the caller vouches for the rest.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attribute),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}
