//! Bounds-checked access to packet memory: the only `unsafe` that touches it.

use core::arch::asm;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use dns_common::Verdict;

use crate::frame;

/// No offset is larger; a bound that the verifier needs to see.
const OFFSET_MASK: u32 = 0xfff;

/// Masks an offset out of the compiler's sight, so that the verifier sees the mask at its place.
#[inline(always)]
pub(crate) fn bound(offset: u32) -> u32 {
    let mut offset = u64::from(offset);
    // SAFETY: a mask of a register.
    unsafe {
        asm!(
            "{offset} &= {mask}",
            offset = inout(reg) offset,
            mask = const OFFSET_MASK,
            options(pure, nomem, nostack),
        );
    }
    offset as u32
}

/// A frame in the driver's buffer. Words are little-endian, offsets count from its first octet.
#[derive(Clone, Copy)]
pub(crate) struct Packet(*mut xdp_md);

impl Packet {
    pub(crate) const fn new(context: *mut xdp_md) -> Self {
        Self(context)
    }

    /// Index of the interface that the frame came in on.
    #[inline(always)]
    pub(crate) fn interface(self) -> u32 {
        // SAFETY: the context is the one that the kernel gave to the program.
        unsafe { (*self.0).ingress_ifindex }
    }

    /// Octets of the frame.
    #[inline(always)]
    pub(crate) fn octets(self) -> u32 {
        let end: u64;
        // The verifier makes an unknown number of the difference of two packet pointers.
        // SAFETY: loads `data` and `data_end` of the context that the kernel gave to the program.
        unsafe {
            asm!(
                "{start} = *(u32 *)({context} + 0)",
                "{end} = *(u32 *)({context} + 4)",
                "{end} -= {start}",
                start = out(reg) _,
                end = out(reg) end,
                context = in(reg) self.0,
                options(pure, readonly, nostack),
            );
        }
        end as u32
    }

    /// The address of `octets` octets at `at`, if the packet has them.
    #[inline(always)]
    fn at(self, at: u32, octets: u32) -> Option<*mut u8> {
        let (mut start, end): (u64, u64);
        // The kernel makes 64-bit pointers of these 32-bit fields, which the compiler must not
        // come to know, or it cuts them down again.
        // SAFETY: loads `data` and `data_end` of the context that the kernel gave to the program.
        unsafe {
            asm!(
                "{start} = *(u32 *)({context} + 0)",
                "{end} = *(u32 *)({context} + 4)",
                start = out(reg) start,
                end = out(reg) end,
                context = in(reg) self.0,
                options(pure, readonly, nostack),
            );
        }
        // In one piece: the compiler would otherwise take the mask for redundant, or move the offset
        // to the other side of the comparison, and the verifier could follow neither.
        // SAFETY: a mask and an addition of registers.
        unsafe {
            asm!(
                "{offset} &= {mask}",
                "{start} += {offset}",
                start = inout(reg) start,
                offset = inout(reg) u64::from(at) => _,
                mask = const OFFSET_MASK,
                options(pure, nomem, nostack),
            );
        }
        (start + u64::from(octets) <= end).then_some(start as *mut u8)
    }

    #[inline(always)]
    pub(crate) fn load<T: Words>(self, at: u32) -> Option<T> {
        let pointer = self.at(at, size_of::<T>() as u32)?.cast::<T>();
        // SAFETY: `at` checked that the packet has these octets; any bits are a valid integer.
        Some(unsafe { pointer.read_unaligned() })
    }

    #[inline(always)]
    pub(crate) fn store<T: Words>(self, at: u32, value: T) -> Option<()> {
        let pointer = self.at(at, size_of::<T>() as u32)?.cast::<T>();
        // SAFETY: `at` checked that the packet has these octets, and nobody else has the packet.
        unsafe { pointer.write_unaligned(value) };
        Some(())
    }

    /// Whether the frame has `octets` octets or more.
    #[inline(always)]
    pub(crate) fn has(self, octets: u32) -> bool {
        self.at(octets, 0).is_some()
    }

    /// Grows the frame at its start, or shrinks it if `octets` is negative.
    #[inline(always)]
    pub(crate) fn grow_front(self, octets: i32) -> bool {
        // SAFETY: the context is the kernel's; pointers are derived anew at each access.
        unsafe { bpf_xdp_adjust_head(self.0, octets.wrapping_neg()) == 0 }
    }

    /// [`frame::make_room_in_front`], as a function of its own.
    #[inline(always)]
    pub(crate) fn make_room_in_front(self, growth: i32, kept: u32) -> Result<(), Verdict> {
        match xdns_make_room(self.0, growth, kept) {
            0 => Ok(()),
            1 => Err(Verdict::Resize),
            _ => Err(Verdict::Broken),
        }
    }

    /// [`frame::ancestor`], as a function of its own.
    #[inline(always)]
    pub(crate) fn ancestor(self, udp_at: u32, at: u32, octets: u32) -> u64 {
        xdns_ancestor(self.0, udp_at, at, octets)
    }

    /// Grows or shrinks the frame at its end.
    #[inline(always)]
    pub(crate) fn adjust_tail(self, delta: i32) -> bool {
        // SAFETY: the context is the kernel's; pointers are derived anew at each access.
        unsafe { bpf_xdp_adjust_tail(self.0, delta) == 0 }
    }
}

// The verifier sees a global function once, whatever leads to its calls.

#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn xdns_make_room(context: *mut xdp_md, growth: i32, kept: u32) -> u32 {
    match frame::make_room_in_front(Packet(context), growth, kept) {
        Ok(()) => 0,
        Err(Verdict::Resize) => 1,
        Err(_) => 2,
    }
}

#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn xdns_ancestor(context: *mut xdp_md, udp_at: u32, at: u32, octets: u32) -> u64 {
    frame::ancestor(Packet(context), udp_at, at, octets).get()
}

/// Values of which any bits are valid: little-endian words as they stand in the packet.
pub(crate) trait Words: Copy {}

impl Words for u16 {}
impl Words for u32 {}
impl Words for u64 {}
impl Words for [u32; 3] {}
impl Words for [u32; 5] {}
impl Words for [u64; 4] {}
impl Words for [u64; 5] {}
