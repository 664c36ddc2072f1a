//! The local address of a datagram, as the control message beside it says (`IP_PKTINFO`,
//! `IPV6_PKTINFO`): read from what came, and written for what leaves.

use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

/// Room for one control message of either family, aligned as `cmsghdr` wants it.
pub(super) const CONTROL_WORDS: usize = 8;
pub(super) const CONTROL_OCTETS: usize = size_of::<[u64; CONTROL_WORDS]>();

/// The address a datagram was sent to, from which its response leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Local {
    pub(super) address: IpAddr,
    /// The interface, where the address means nothing without it: link-local IPv6.
    pub(super) interface: u32,
}

/// The control message with the local address.
///
/// # Safety
/// `header` must have been filled by the kernel, its control buffer being valid for
/// `msg_controllen` octets.
pub(super) unsafe fn local_message(header: &libc::msghdr) -> Option<*mut libc::cmsghdr> {
    // SAFETY: the walk of CMSG_FIRSTHDR and CMSG_NXTHDR stays within `msg_controllen`.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) | (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    return Some(message);
                }
                _ => message = libc::CMSG_NXTHDR(header, message),
            }
        }
    }
    None
}

/// Reads the local address out of its control message.
///
/// # Safety
/// `message` must be what [`local_message`] gave, with its buffer still there.
pub(super) unsafe fn local_address(message: *mut libc::cmsghdr) -> Option<Local> {
    // SAFETY: a message of a stated type has that type's data, which is copied out unaligned.
    unsafe {
        if (*message).cmsg_level == libc::IPPROTO_IP {
            let info = ptr::read_unaligned(libc::CMSG_DATA(message).cast::<libc::in_pktinfo>());
            let ip = Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr));
            return Some(Local {
                address: IpAddr::V4(ip),
                interface: 0,
            });
        }
        let info = ptr::read_unaligned(libc::CMSG_DATA(message).cast::<libc::in6_pktinfo>());
        let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
        // A multicast address is no source; the kernel chooses one then.
        if ip.is_multicast() {
            return None;
        }
        let interface = if ip.is_unicast_link_local() {
            info.ipi6_ifindex
        } else {
            0
        };
        Some(Local {
            address: IpAddr::V6(ip),
            interface,
        })
    }
}

/// Whether a datagram was sent to a multicast or a broadcast address.
///
/// # Safety
/// As for [`local_message`].
pub(super) unsafe fn went_to_many(header: &libc::msghdr) -> bool {
    // SAFETY: as the caller promises; a message of a stated type has that type's data, which is
    // copied out unaligned.
    unsafe {
        let Some(message) = local_message(header) else {
            return false;
        };
        if (*message).cmsg_level == libc::IPPROTO_IP {
            let info = ptr::read_unaligned(libc::CMSG_DATA(message).cast::<libc::in_pktinfo>());
            // The address that a response leaves from is that of the query, unless that is nobody's
            // own; there is none in a datagram that came before the socket asked for it.
            let (to, own) = (info.ipi_addr.s_addr, info.ipi_spec_dst.s_addr);
            return own != 0 && to != own;
        }
        let info = ptr::read_unaligned(libc::CMSG_DATA(message).cast::<libc::in6_pktinfo>());
        Ipv6Addr::from(info.ipi6_addr.s6_addr).is_multicast()
    }
}

/// Makes what the kernel wrote of a query into what it takes with the response: the same source,
/// and the route by the table rather than by the interface.
///
/// # Safety
/// `header` must have been filled by the kernel, and its control buffer be there and nobody else's.
pub(super) unsafe fn keep_local_address(header: &mut libc::msghdr) {
    // SAFETY: as the caller promises; the data is written where data of its type stands.
    unsafe {
        let message = local_message(header);
        let local = message.and_then(|message| local_address(message));
        let Some((message, local)) = message.zip(local) else {
            header.msg_control = ptr::null_mut();
            header.msg_controllen = 0;
            return;
        };
        header.msg_control = message.cast();
        header.msg_controllen = write_local_address(message, local) as _;
    }
}

/// Makes `local` the source of the message.
///
/// # Safety
/// `control` must be zeroed and outlive every use of `header`.
pub(super) unsafe fn put_local_address(
    header: &mut libc::msghdr,
    control: &mut [u64; CONTROL_WORDS],
    local: Local,
) {
    header.msg_control = control.as_mut_ptr().cast();
    // SAFETY: the buffer holds one message of either type with room to spare (64 octets against
    // CMSG_SPACE of 12 or 20), and is aligned for it.
    header.msg_controllen = unsafe { write_local_address(header.msg_control.cast(), local) as _ };
}

/// Writes a control message; returns the octets it takes.
///
/// # Safety
/// `message` must be aligned and have room for `CMSG_SPACE` of the family's data.
unsafe fn write_local_address(message: *mut libc::cmsghdr, local: Local) -> u32 {
    // SAFETY: as the caller promises; the data is written unaligned.
    unsafe {
        match local.address {
            IpAddr::V4(ip) => {
                let mut info: libc::in_pktinfo = MaybeUninit::zeroed().assume_init();
                info.ipi_spec_dst.s_addr = u32::from(ip).to_be();
                (*message).cmsg_level = libc::IPPROTO_IP;
                (*message).cmsg_type = libc::IP_PKTINFO;
                (*message).cmsg_len = libc::CMSG_LEN(size_of::<libc::in_pktinfo>() as u32) as _;
                ptr::write_unaligned(libc::CMSG_DATA(message).cast(), info);
                libc::CMSG_SPACE(size_of::<libc::in_pktinfo>() as u32)
            }
            IpAddr::V6(ip) => {
                let mut info: libc::in6_pktinfo = MaybeUninit::zeroed().assume_init();
                info.ipi6_addr.s6_addr = ip.octets();
                info.ipi6_ifindex = local.interface;
                (*message).cmsg_level = libc::IPPROTO_IPV6;
                (*message).cmsg_type = libc::IPV6_PKTINFO;
                (*message).cmsg_len = libc::CMSG_LEN(size_of::<libc::in6_pktinfo>() as u32) as _;
                ptr::write_unaligned(libc::CMSG_DATA(message).cast(), info);
                libc::CMSG_SPACE(size_of::<libc::in6_pktinfo>() as u32)
            }
        }
    }
}
