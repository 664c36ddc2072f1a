//! Frames of XDP: in the driver's buffer, with what room the driver has left around them.

use core::mem::offset_of;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::{
    bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len, bpf_xdp_load_bytes,
};
use dns_common::Verdict;

use crate::frame;
use crate::functions::functions;
use crate::packet::{Context, Packet, Words};

impl Context for xdp_md {
    const DATA: usize = offset_of!(xdp_md, data);
    const DATA_END: usize = offset_of!(xdp_md, data_end);

    #[inline(always)]
    fn interface(packet: Packet<Self>) -> u32 {
        // SAFETY: the context is the one that the kernel gave to the program.
        unsafe { (*packet.context()).ingress_ifindex }
    }

    #[inline(always)]
    fn whole(packet: Packet<Self>) -> u32 {
        // SAFETY: as above.
        unsafe { bpf_xdp_get_buff_len(packet.context()) as u32 }
    }

    #[inline(always)]
    fn tags_aside(_: Packet<Self>) -> u32 {
        0
    }

    #[inline(always)]
    fn store<T: Words>(packet: Packet<Self>, at: u32, word: T) -> Option<()> {
        packet.store_in_place(at, word)
    }

    #[inline(always)]
    fn resize(packet: Packet<Self>, octets: u32, kept: u32) -> Result<(), Verdict> {
        let growth = octets.wrapping_sub(packet.octets()) as i32;
        if growth == 0 || adjust_tail(packet, growth) {
            return Ok(());
        }
        match xdns_make_room(packet.context(), growth, kept) {
            0 => Ok(()),
            1 => Err(Verdict::Resize),
            _ => Err(Verdict::Broken),
        }
    }

    #[inline(always)]
    fn is_summed_later(_: Packet<Self>, _: u32) -> bool {
        false
    }

    #[inline(always)]
    fn ancestor(packet: Packet<Self>, udp_at: u32, at: u32, octets: u32) -> u64 {
        xdns_ancestor(packet.context(), udp_at, at, octets)
    }

    #[inline(always)]
    fn is_allowed(packet: Packet<Self>, ip_at: u32, ipv6: u32) -> u32 {
        xdns_is_allowed(packet.context(), ip_at, ipv6)
    }

    #[inline(always)]
    fn allowance(packet: Packet<Self>, place: u64) -> u32 {
        xdns_allowance(packet.context(), place)
    }

    #[inline(always)]
    fn slip(packet: Packet<Self>, place: u64, end: u32, edns: u32, question_sum: u64) -> u32 {
        xdns_slip(packet.context(), place, end, edns, question_sum)
    }

    #[inline(always)]
    unsafe fn copy(packet: Packet<Self>, to: *mut u8, octets: u32) -> bool {
        // SAFETY: the context is the kernel's, and the caller vouches for the room.
        unsafe { bpf_xdp_load_bytes(packet.context(), 0, to.cast(), octets) == 0 }
    }
}

/// Grows or shrinks the frame at its end.
#[inline(always)]
fn adjust_tail(packet: Packet<xdp_md>, delta: i32) -> bool {
    // SAFETY: the context is the kernel's; pointers are derived anew at each access.
    unsafe { bpf_xdp_adjust_tail(packet.context(), delta) == 0 }
}

/// Grows the frame at its start, or shrinks it if `octets` is negative.
#[inline(always)]
fn grow_front(packet: Packet<xdp_md>, octets: i32) -> bool {
    // SAFETY: the context is the kernel's; pointers are derived anew at each access.
    unsafe { bpf_xdp_adjust_head(packet.context(), octets.wrapping_neg()) == 0 }
}

/// Grows a frame that has no room behind: in front, where drivers leave 256 octets, and moves its
/// first `kept` octets there. What is still missing must be behind.
///
/// veth copies what a socket sent into a buffer that ends with the packet.
#[inline(always)]
fn make_room_in_front(packet: Packet<xdp_md>, growth: i32, kept: u32) -> Result<(), Verdict> {
    // Less than a word could not be moved word by word; the kernel keeps 40 octets for itself.
    let front = growth.clamp(8, 208);
    if !grow_front(packet, front) {
        return Err(Verdict::Resize);
    }
    if front != growth && !adjust_tail(packet, growth.wrapping_sub(front)) {
        return if grow_front(packet, front.wrapping_neg()) {
            Err(Verdict::Resize)
        } else {
            Err(Verdict::Broken)
        };
    }
    frame::move_to_front(packet, front as u32, kept).ok_or(Verdict::Broken)
}

/// [`make_room_in_front`], once for the verifier: see [`functions`].
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn xdns_make_room(context: *mut xdp_md, growth: i32, kept: u32) -> u32 {
    match make_room_in_front(Packet::new(context), growth, kept) {
        Ok(()) => 0,
        Err(Verdict::Resize) => 1,
        Err(_) => 2,
    }
}

functions! {
    xdp_md: xdns_ancestor, xdns_is_allowed, xdns_allowance, xdns_slip
}
