//! Frames of TC: in a buffer of the kernel's own, which can always be grown, and may lie in pieces.

use core::mem::offset_of;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::{
    bpf_l4_csum_replace, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_pull_data,
    bpf_skb_store_bytes,
};
use dns_common::Verdict;

use crate::frame::ethertype;
use crate::functions::functions;
use crate::packet::{Context, Packet, Words};

/// No frame with a query that the responder understands is longer.
const MAX_FRAME_OCTETS: u32 = 1400;

impl Context for __sk_buff {
    const DATA: usize = offset_of!(__sk_buff, data);
    const DATA_END: usize = offset_of!(__sk_buff, data_end);

    #[inline(always)]
    fn interface(packet: Packet<Self>) -> u32 {
        // SAFETY: the context is the one that the kernel gave to the program.
        unsafe { (*packet.context()).ifindex }
    }

    #[inline(always)]
    fn whole(packet: Packet<Self>) -> u32 {
        // SAFETY: as above.
        unsafe { (*packet.context()).len }
    }

    /// The kernel takes the outer tag out of the frame, and puts it back on the way out.
    #[inline(always)]
    fn tags_aside(packet: Packet<Self>) -> u32 {
        // SAFETY: as above.
        u32::from(unsafe { (*packet.context()).vlan_present } != 0)
    }

    /// By a helper: a program that stores in place has the kernel copy whatever frame somebody else
    /// has too, before it runs.
    #[inline(always)]
    fn store<T: Words>(packet: Packet<Self>, at: u32, word: T) -> Option<()> {
        let octets = size_of::<T>() as u32;
        // SAFETY: the context is the kernel's, which checks the offset; the word is as large as
        // said.
        let result = unsafe {
            let from = (&raw const word).cast();
            bpf_skb_store_bytes(packet.context(), at, from, octets, 0)
        };
        (result == 0).then_some(())
    }

    #[inline(always)]
    fn resize(packet: Packet<Self>, octets: u32, _: u32) -> Result<(), Verdict> {
        // Another length also makes the kernel forget a sum of the whole frame (CHECKSUM_COMPLETE).
        if octets == packet.octets() {
            change_tail(packet, octets.wrapping_add(1))?;
        }
        change_tail(packet, octets)
    }

    /// Where the sender has left the sum to its card (CHECKSUM_PARTIAL), as sockets at the other end
    /// of a veth do, the sum stays to be made; a helper that keeps checksums right leaves it alone.
    #[inline(always)]
    fn is_summed_later(packet: Packet<Self>, at: u32) -> bool {
        let before = packet.load::<u16>(at);
        // SAFETY: the context is the kernel's, which checks the offset.
        let result = unsafe { bpf_l4_csum_replace(packet.context(), at, 0, 1, 2) };
        result == 0 && before.is_some() && packet.load::<u16>(at) == before
    }

    #[inline(always)]
    fn ancestor(packet: Packet<Self>, udp_at: u32, at: u32, octets: u32) -> u64 {
        xdns_tc_ancestor(packet.context(), udp_at, at, octets)
    }

    #[inline(always)]
    fn is_allowed(packet: Packet<Self>, ip_at: u32, ipv6: u32) -> u32 {
        xdns_tc_is_allowed(packet.context(), ip_at, ipv6)
    }

    #[inline(always)]
    fn allowance(packet: Packet<Self>, place: u64) -> u32 {
        xdns_tc_allowance(packet.context(), place)
    }

    #[inline(always)]
    fn slip(packet: Packet<Self>, place: u64, end: u32, edns: u32, question_sum: u64) -> u32 {
        xdns_tc_slip(packet.context(), place, end, edns, question_sum)
    }

    #[inline(always)]
    unsafe fn copy(packet: Packet<Self>, to: *mut u8, octets: u32) -> bool {
        let context = packet.context().cast_const().cast();
        // SAFETY: the context is the kernel's, and the caller vouches for the room.
        unsafe { bpf_skb_load_bytes(context, 0, to.cast(), octets) == 0 }
    }
}

#[inline(always)]
fn change_tail(packet: Packet<__sk_buff>, octets: u32) -> Result<(), Verdict> {
    // SAFETY: the context is the kernel's; pointers are derived anew at each access.
    match unsafe { bpf_skb_change_tail(packet.context(), octets, 0) } {
        0 => Ok(()),
        _ => Err(Verdict::Resize),
    }
}

/// Brings the octets of a frame that may carry a query to where the program can read them.
///
/// # Errors
/// It carries none.
#[inline(always)]
pub(crate) fn gather(packet: Packet<__sk_buff>) -> Result<(), Verdict> {
    const UDP: u64 = 17;
    // SAFETY: the context is the one that the kernel gave to the program.
    let (octets, protocol, segment) = unsafe {
        let context = packet.context();
        ((*context).len, (*context).protocol, (*context).gso_size)
    };
    // Several datagrams as one, or segments of TCP.
    if octets > MAX_FRAME_OCTETS || segment != 0 {
        return Err(Verdict::NotDns);
    }
    if packet.octets() == octets {
        return Ok(());
    }
    if let Some(word) = packet.load::<u64>(16) {
        let protocol = match protocol as u16 {
            ethertype::IPV4 => word >> 56,
            ethertype::IPV6 => (word >> 32) & 0xff,
            // Behind another tag.
            _ => UDP,
        };
        if protocol != UDP {
            return Err(Verdict::NotDns);
        }
    }
    // SAFETY: the context is the kernel's; pointers are derived anew at each access.
    match unsafe { bpf_skb_pull_data(packet.context(), octets) } {
        0 => Ok(()),
        _ => Err(Verdict::Length),
    }
}

functions! {
    __sk_buff: xdns_tc_ancestor, xdns_tc_is_allowed, xdns_tc_allowance, xdns_tc_slip
}
