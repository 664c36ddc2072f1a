//! A packet that the XDP program hands to user space, for those who watch.

/// Octets kept of a frame: a power of two.
pub const SNAP_OCTETS: usize = 512;

/// A frame as the program left it, a response where it answered. Travels through the BPF ring
/// buffer `SAMPLES`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Sample {
    /// Octets of the whole frame.
    pub octets: u32,
    /// The number of its [`Verdict`](crate::Verdict).
    pub verdict: u32,
    /// The first octets of the frame; past its end there is anything.
    pub frame: [u8; SNAP_OCTETS],
}

const _: () = assert!(size_of::<Sample>() == 8 + SNAP_OCTETS);
