//! The allocator, and when it gives memory back.

pub use mimalloc::MiMalloc as Allocator;

/// Gives the kernel what is free. The allocator keeps it for a second, and then waits for somebody to
/// allocate; a state that was read leaves much behind, and the next one comes after a while.
pub fn give_back() {
    // SAFETY: any thread may call it at any time, and it changes nothing that is in use.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
