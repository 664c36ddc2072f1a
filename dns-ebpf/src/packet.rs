//! Bounds-checked access to packet memory: the only `unsafe` that touches it. What XDP and TC do
//! differently is in [`crate::xdp`] and [`crate::skb`].

use core::arch::asm;

use dns_common::question::Edns;
use dns_common::{Allowance, Verdict};

use crate::frame::Place;

/// No offset is larger; a bound that the verifier needs to see.
const OFFSET_MASK: u32 = 0xfff;

/// Masks an offset out of the compiler's sight, so that the verifier sees the mask at its place.
#[inline(always)]
pub(crate) fn bound(offset: u32) -> u32 {
    let mut offset = offset;
    // As a register, of which the upper half may be anything: the compiler need not clear it before.
    // SAFETY: a mask of a register.
    unsafe {
        asm!(
            "{offset} &= {mask}",
            offset = inout(reg) offset,
            mask = const OFFSET_MASK,
            options(pure, nomem, nostack),
        );
    }
    offset
}

/// What a program of one kind is given, and what it may do with the frame in it.
pub(crate) trait Context: Copy {
    /// Where it has the address of the frame, as 32 bits that the kernel makes 64 of.
    const DATA: usize;
    /// Where it has the address of the frame's end.
    const DATA_END: usize;

    /// Index of the interface that the frame came in on.
    fn interface(packet: Packet<Self>) -> u32;

    /// Octets of the frame, with those that the program cannot reach.
    fn whole(packet: Packet<Self>) -> u32;

    /// VLAN tags that the kernel keeps beside the frame: 0 or 1.
    fn tags_aside(packet: Packet<Self>) -> u32;

    /// Stores a word that lies within the frame.
    fn store<T: Words>(packet: Packet<Self>, at: u32, word: T) -> Option<()>;

    /// Makes the frame one of `octets` octets, of which the first `kept` stay.
    ///
    /// # Errors
    /// [`Verdict::Resize`] if the frame is as it was, [`Verdict::Broken`] if it is not.
    fn resize(packet: Packet<Self>, octets: u32, kept: u32) -> Result<(), Verdict>;

    /// Whether somebody sums up the UDP datagram on its way out, whose checksum stands at `at`: from
    /// the sum of its pseudo header. May change the checksum.
    fn is_summed_later(packet: Packet<Self>, at: u32) -> bool;

    /// [`crate::frame::ancestor`], as a function of its own.
    fn ancestor(packet: Packet<Self>, udp_at: u32, at: u32, octets: u32) -> u64;

    /// [`crate::clients::is_allowed`], as a function of its own.
    fn is_allowed(packet: Packet<Self>, ip_at: u32, ipv6: u32) -> u32;

    /// [`crate::frame::allowance`], as a function of its own.
    fn allowance(packet: Packet<Self>, place: u64) -> u32;

    /// [`crate::frame::slip`], as a function of its own.
    fn slip(packet: Packet<Self>, place: u64, end: u32, edns: u32, question_sum: u64) -> u32;

    /// Copies the first `octets` octets of the frame.
    ///
    /// # Safety
    /// There is room for them at `to`.
    unsafe fn copy(packet: Packet<Self>, to: *mut u8, octets: u32) -> bool;
}

/// A frame where a program of this kind may read it. Words are little-endian, offsets count from
/// its first octet.
#[derive(Clone, Copy)]
pub(crate) struct Packet<C: Context>(*mut C);

impl<C: Context> Packet<C> {
    pub(crate) const fn new(context: *mut C) -> Self {
        Self(context)
    }

    /// What the kernel gave to the program.
    #[inline(always)]
    pub(crate) const fn context(self) -> *mut C {
        self.0
    }

    /// Index of the interface that the frame came in on.
    #[inline(always)]
    pub(crate) fn interface(self) -> u32 {
        C::interface(self)
    }

    /// VLAN tags that the kernel keeps beside the frame: 0 or 1.
    #[inline(always)]
    pub(crate) fn tags_aside(self) -> u32 {
        C::tags_aside(self)
    }

    /// Octets of the frame, with those that the program cannot reach.
    #[inline(always)]
    pub(crate) fn whole(self) -> u32 {
        C::whole(self)
    }

    /// Octets of the frame.
    #[inline(always)]
    pub(crate) fn octets(self) -> u32 {
        let end: u64;
        // The verifier makes an unknown number of the difference of two packet pointers.
        // SAFETY: loads both addresses from the context that the kernel gave to the program.
        unsafe {
            asm!(
                "{start} = *(u32 *)({context} + {data})",
                "{end} = *(u32 *)({context} + {data_end})",
                "{end} -= {start}",
                start = out(reg) _,
                end = out(reg) end,
                context = in(reg) self.0,
                data = const C::DATA,
                data_end = const C::DATA_END,
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
        // SAFETY: loads both addresses from the context that the kernel gave to the program.
        unsafe {
            asm!(
                "{start} = *(u32 *)({context} + {data})",
                "{end} = *(u32 *)({context} + {data_end})",
                start = out(reg) start,
                end = out(reg) end,
                context = in(reg) self.0,
                data = const C::DATA,
                data_end = const C::DATA_END,
                options(pure, readonly, nostack),
            );
        }
        // In one piece: the compiler would otherwise take the mask for redundant, or move the offset
        // to the other side of the comparison, and the verifier could follow neither.
        // The upper half of the offset's register may be anything.
        // SAFETY: a mask and an addition of registers.
        unsafe {
            asm!(
                "{offset} &= {mask}",
                "{start} += {offset}",
                start = inout(reg) start,
                offset = inout(reg) at => _,
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
        C::store(self, at, value)
    }

    /// [`Self::store`] right into the frame, where the kernel lets the program.
    #[inline(always)]
    pub(crate) fn store_in_place<T: Words>(self, at: u32, value: T) -> Option<()> {
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

    /// Makes the frame one of `octets` octets, of which the first `kept` stay.
    #[inline(always)]
    pub(crate) fn resize(self, octets: u32, kept: u32) -> Result<(), Verdict> {
        C::resize(self, octets, kept)
    }

    /// See [`Context::is_summed_later`].
    #[inline(always)]
    pub(crate) fn is_summed_later(self, at: u32) -> bool {
        C::is_summed_later(self, at)
    }

    /// [`crate::frame::ancestor`], as a function of its own.
    #[inline(always)]
    pub(crate) fn ancestor(self, udp_at: u32, at: u32, octets: u32) -> u64 {
        C::ancestor(self, udp_at, at, octets)
    }

    /// [`crate::clients::is_allowed`], as a function of its own.
    #[inline(always)]
    pub(crate) fn is_allowed(self, ip_at: u32, ipv6: bool) -> bool {
        C::is_allowed(self, ip_at, u32::from(ipv6)) != 0
    }

    /// [`crate::frame::allowance`], as a function of its own.
    #[inline(always)]
    pub(crate) fn allowance(self, place: Place) -> Allowance {
        match C::allowance(self, place.bits()) {
            0 => Allowance::Answer,
            1 => Allowance::Slip,
            _ => Allowance::Drop,
        }
    }

    /// [`crate::frame::slip`], as a function of its own.
    #[inline(always)]
    pub(crate) fn slip(self, place: Place, end: u32, edns: Edns, question_sum: u64) -> bool {
        C::slip(self, place.bits(), end, edns.bits(), question_sum) != 0
    }
}

/// Values of which any bits are valid: little-endian words as they stand in the packet.
pub(crate) trait Words: Copy {}

impl Words for u16 {}
impl Words for u32 {}
impl Words for u64 {}
impl<W: Words, const COUNT: usize> Words for [W; COUNT] {}
