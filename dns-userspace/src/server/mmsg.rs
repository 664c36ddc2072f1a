//! Many datagrams per system call, each with the local address it was sent to: the only `unsafe`
//! of the server, around `recvmmsg`, `sendmmsg` and their control messages.

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use socket2::SockAddr;

/// Octets of a receive buffer; a longer query is cut and found malformed.
pub const BUFFER_OCTETS: usize = 4096;

/// Room for one control message of either family, aligned as `cmsghdr` wants it.
const CONTROL_WORDS: usize = 8;

/// `IP_PMTUDISC_OMIT`: the size of our datagrams does not follow what ICMP claims, which takes
/// away fragmentation poisoning.
const PMTUDISC_OMIT: libc::c_int = 5;

/// The address a datagram was sent to, from which its response leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Local {
    address: IpAddr,
    /// The interface, where the address means nothing without it: link-local IPv6.
    interface: u32,
}

/// One datagram of a [`Batch`].
#[derive(Debug)]
pub struct Datagram<'b> {
    /// The whole buffer.
    pub buffer: &'b mut [u8; BUFFER_OCTETS],
    /// Octets received; 0 for one that did not fit the buffer or came from nowhere.
    pub len: usize,
    /// Where it came from.
    pub peer: SocketAddr,
    /// Where it was sent to, if the socket is told.
    pub local: Option<Local>,
}

struct Slot {
    buffer: Box<[u8; BUFFER_OCTETS]>,
    len: usize,
    peer: Option<SocketAddr>,
    local: Option<Local>,
}

/// Buffers for a fixed number of datagrams.
pub struct Batch {
    slots: Vec<Slot>,
    received: usize,
}

impl Batch {
    /// Room for `capacity` datagrams per call.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let slot = || Slot {
            buffer: Box::new([0; BUFFER_OCTETS]),
            len: 0,
            peer: None,
            local: None,
        };
        Self {
            slots: std::iter::repeat_with(slot).take(capacity).collect(),
            received: 0,
        }
    }

    /// Waits for at least one datagram, as long as the socket's receive timeout allows, and takes
    /// as many as are there.
    ///
    /// # Errors
    /// Those of `recvmmsg`; `WouldBlock` and `Interrupted` mean that there was none.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let count = self.slots.len();
        // SAFETY: all of these are plain C structures for which all-zero is a valid value.
        let mut names: Vec<libc::sockaddr_storage> = vec![unsafe { zeroed() }; count];
        let mut controls = vec![[0u64; CONTROL_WORDS]; count];
        let mut vectors: Vec<libc::iovec> = self
            .slots
            .iter_mut()
            .map(|slot| libc::iovec {
                iov_base: slot.buffer.as_mut_ptr().cast(),
                iov_len: BUFFER_OCTETS,
            })
            .collect();
        let mut headers: Vec<libc::mmsghdr> = Vec::with_capacity(count);
        for ((name, control), vector) in names.iter_mut().zip(&mut controls).zip(&mut vectors) {
            // SAFETY: as above.
            let mut header: libc::mmsghdr = unsafe { zeroed() };
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = socklen::<libc::sockaddr_storage>();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
            headers.push(header);
        }
        self.received = 0;
        // SAFETY: each header points at a name, a control buffer and a vector of its own, and each
        // vector at a slot's buffer, with the true lengths; all of them outlive the call.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_WAITFORONE as _,
                ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for ((slot, header), name) in self
            .slots
            .iter_mut()
            .zip(&headers)
            .zip(&names)
            .take(received)
        {
            let cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            slot.peer = socket_address(name, header.msg_hdr.msg_namelen);
            // SAFETY: the kernel filled this header, and its control buffer is still alive.
            slot.local = unsafe { local_address(&header.msg_hdr) };
            slot.len = if cut || slot.peer.is_none() {
                0
            } else {
                (header.msg_len as usize).min(BUFFER_OCTETS)
            };
        }
        self.received = received;
        Ok(received)
    }

    /// The datagrams of the last [`receive`](Self::receive).
    pub fn datagrams(&mut self) -> impl Iterator<Item = Datagram<'_>> {
        self.slots
            .iter_mut()
            .take(self.received)
            .filter_map(|slot| {
                Some(Datagram {
                    len: slot.len,
                    peer: slot.peer?,
                    local: slot.local,
                    buffer: &mut slot.buffer,
                })
            })
    }

    /// Sends the responses, given by the position of the datagram they respond to: the first
    /// `len` octets of its buffer, to where it came from. Returns how many the kernel took.
    pub fn respond(&mut self, socket: BorrowedFd<'_>, responses: &[(usize, usize)]) -> usize {
        let slots = &self.slots;
        let parts = responses.iter().filter_map(|&(position, len)| {
            let slot = slots.get(position)?;
            Some((slot.buffer.get(..len)?, slot.peer?, slot.local))
        });
        send(socket, parts.collect())
    }
}

/// Sends one datagram, without waiting for room.
pub fn send_one(
    socket: BorrowedFd<'_>,
    octets: &[u8],
    peer: SocketAddr,
    local: Option<Local>,
) -> bool {
    send(socket, vec![(octets, peer, local)]) == 1
}

fn send(socket: BorrowedFd<'_>, parts: Vec<(&[u8], SocketAddr, Option<Local>)>) -> usize {
    let names: Vec<SockAddr> = parts.iter().map(|(_, peer, _)| (*peer).into()).collect();
    let mut controls = vec![[0u64; CONTROL_WORDS]; parts.len()];
    let mut vectors: Vec<libc::iovec> = parts
        .iter()
        .map(|(octets, _, _)| libc::iovec {
            iov_base: octets.as_ptr().cast_mut().cast(),
            iov_len: octets.len(),
        })
        .collect();
    let mut headers: Vec<libc::mmsghdr> = Vec::with_capacity(parts.len());
    let rows = names
        .iter()
        .zip(&mut controls)
        .zip(&mut vectors)
        .zip(&parts);
    for (((name, control), vector), (_, _, local)) in rows {
        // SAFETY: a plain C structure for which all-zero is a valid value.
        let mut header: libc::mmsghdr = unsafe { zeroed() };
        header.msg_hdr.msg_name = name.as_ptr().cast_mut().cast();
        header.msg_hdr.msg_namelen = name.len();
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        if let Some(local) = local {
            // SAFETY: `control` is zeroed, aligned, and outlives the header.
            unsafe { put_local_address(&mut header.msg_hdr, control, *local) };
        }
        headers.push(header);
    }
    let mut sent = 0;
    while let Some(rest) = headers.get_mut(sent..).filter(|rest| !rest.is_empty()) {
        // SAFETY: each header points at a name, a vector and perhaps a control buffer that outlive
        // the call; the kernel only reads what they point at.
        let taken = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                rest.as_mut_ptr(),
                rest.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        match usize::try_from(taken) {
            Ok(taken) if taken > 0 => sent += taken,
            _ => break,
        }
    }
    sent
}

/// Asks for the local address of each datagram, and for datagrams whose size does not follow ICMP.
///
/// # Errors
/// Those of `setsockopt`.
pub fn prepare(socket: BorrowedFd<'_>, family: &SocketAddr) -> io::Result<()> {
    let (level, information, discovery) = match family {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO, libc::IP_MTU_DISCOVER),
        SocketAddr::V6(_) => (
            libc::IPPROTO_IPV6,
            libc::IPV6_RECVPKTINFO,
            libc::IPV6_MTU_DISCOVER,
        ),
    };
    for (option, value) in [(information, 1), (discovery, PMTUDISC_OMIT)] {
        let value: libc::c_int = value;
        // SAFETY: the value is an int of the stated length that outlives the call.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                option,
                ptr::from_ref(&value).cast(),
                socklen::<libc::c_int>(),
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

const fn socklen<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

/// The address in what the kernel wrote; `None` for other families and for port 0, to which
/// nothing can be sent.
fn socket_address(name: &libc::sockaddr_storage, len: libc::socklen_t) -> Option<SocketAddr> {
    let name = ptr::from_ref(name);
    // SAFETY: `sockaddr_storage` is large and aligned enough for either structure, and the length
    // says that the kernel wrote all of it.
    let address = unsafe {
        match libc::c_int::from((*name).ss_family) {
            libc::AF_INET if len >= socklen::<libc::sockaddr_in>() => {
                let v4 = &*name.cast::<libc::sockaddr_in>();
                let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                SocketAddr::from((ip, u16::from_be(v4.sin_port)))
            }
            libc::AF_INET6 if len >= socklen::<libc::sockaddr_in6>() => {
                let v6 = &*name.cast::<libc::sockaddr_in6>();
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                SocketAddr::V6(SocketAddrV6::new(
                    ip,
                    port,
                    v6.sin6_flowinfo,
                    v6.sin6_scope_id,
                ))
            }
            _ => return None,
        }
    };
    Some(address).filter(|address| address.port() != 0)
}

/// Reads the local address out of the control messages.
///
/// # Safety
/// `header` must have been filled by the kernel, its control buffer being valid for
/// `msg_controllen` octets.
unsafe fn local_address(header: &libc::msghdr) -> Option<Local> {
    // SAFETY: the walk of CMSG_FIRSTHDR and CMSG_NXTHDR stays within `msg_controllen`; a message of
    // a stated type has at least that type's data, which is copied out unaligned.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info =
                        ptr::read_unaligned(libc::CMSG_DATA(message).cast::<libc::in_pktinfo>());
                    let ip = Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr));
                    return Some(Local {
                        address: IpAddr::V4(ip),
                        interface: 0,
                    });
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info =
                        ptr::read_unaligned(libc::CMSG_DATA(message).cast::<libc::in6_pktinfo>());
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
                    return Some(Local {
                        address: IpAddr::V6(ip),
                        interface,
                    });
                }
                _ => message = libc::CMSG_NXTHDR(header, message),
            }
        }
    }
    None
}

/// Makes `local` the source of the message.
///
/// # Safety
/// `control` must be zeroed and outlive every use of `header`.
unsafe fn put_local_address(
    header: &mut libc::msghdr,
    control: &mut [u64; CONTROL_WORDS],
    local: Local,
) {
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
    // SAFETY: the buffer holds one message of either type with room to spare (64 octets against
    // CMSG_SPACE of 12 or 20), so CMSG_FIRSTHDR is not null and the data fits behind it.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        match local.address {
            IpAddr::V4(ip) => {
                let mut info: libc::in_pktinfo = MaybeUninit::zeroed().assume_init();
                info.ipi_spec_dst.s_addr = u32::from(ip).to_be();
                (*message).cmsg_level = libc::IPPROTO_IP;
                (*message).cmsg_type = libc::IP_PKTINFO;
                (*message).cmsg_len = libc::CMSG_LEN(size_of::<libc::in_pktinfo>() as u32) as _;
                ptr::write_unaligned(libc::CMSG_DATA(message).cast(), info);
                header.msg_controllen = libc::CMSG_SPACE(size_of::<libc::in_pktinfo>() as u32) as _;
            }
            IpAddr::V6(ip) => {
                let mut info: libc::in6_pktinfo = MaybeUninit::zeroed().assume_init();
                info.ipi6_addr.s6_addr = ip.octets();
                info.ipi6_ifindex = local.interface;
                (*message).cmsg_level = libc::IPPROTO_IPV6;
                (*message).cmsg_type = libc::IPV6_PKTINFO;
                (*message).cmsg_len = libc::CMSG_LEN(size_of::<libc::in6_pktinfo>() as u32) as _;
                ptr::write_unaligned(libc::CMSG_DATA(message).cast(), info);
                header.msg_controllen =
                    libc::CMSG_SPACE(size_of::<libc::in6_pktinfo>() as u32) as _;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    fn echoes_from_the_address_asked(listen: &str, asked: &str) {
        let socket = UdpSocket::bind((listen.parse::<IpAddr>().unwrap(), 0)).unwrap();
        let bound = socket.local_addr().unwrap();
        prepare(socket.as_fd(), &bound).unwrap();
        let client = UdpSocket::bind((asked.parse::<IpAddr>().unwrap(), 0)).unwrap();
        let target = SocketAddr::new(asked.parse().unwrap(), bound.port());
        for text in ["one", "three"] {
            client.send_to(text.as_bytes(), target).unwrap();
        }
        let mut batch = Batch::new(8);
        let mut seen = 0;
        while seen < 2 {
            let count = batch.receive(socket.as_fd()).unwrap();
            let responses: Vec<(usize, usize)> = batch
                .datagrams()
                .enumerate()
                .map(|(position, datagram)| {
                    assert_eq!(datagram.peer, client.local_addr().unwrap());
                    datagram.buffer[0] = b'!';
                    (position, datagram.len)
                })
                .collect();
            assert_eq!(batch.respond(socket.as_fd(), &responses), count);
            seen += count;
        }
        let mut buffer = [0; 16];
        let mut received = Vec::new();
        for _ in 0..2 {
            let (len, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!(from, target, "the response leaves from the address asked");
            received.push(buffer[..len].to_vec());
        }
        assert_eq!(received, [b"!ne".to_vec(), b"!hree".to_vec()]);
    }

    #[test]
    fn a_wildcard_socket_answers_from_the_address_asked() {
        echoes_from_the_address_asked("0.0.0.0", "127.0.0.2");
        echoes_from_the_address_asked("::", "::1");
    }

    #[test]
    fn a_datagram_that_does_not_fit_has_no_octets() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = socket.local_addr().unwrap();
        client.send_to(&[7; BUFFER_OCTETS + 1], target).unwrap();
        let mut batch = Batch::new(1);
        assert_eq!(batch.receive(socket.as_fd()).unwrap(), 1);
        assert_eq!(batch.datagrams().next().unwrap().len, 0);
    }
}
