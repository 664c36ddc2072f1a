//! Many datagrams per system call, each with the local address it was sent to: the only `unsafe`
//! of the server, around `recvmmsg`, `sendmmsg` and their control messages.
//!
//! What the calls need is laid out once, in [`Batch`]. A response leaves from the buffer that its
//! query came in, with the address and the control message that the kernel wrote beside it.

mod packet_info;

use std::io;
use std::mem::{offset_of, size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use socket2::SockAddr;

pub use packet_info::Local;
use packet_info::{
    CONTROL_OCTETS, CONTROL_WORDS, keep_local_address, local_address, local_message,
    put_local_address, went_to_many,
};

/// Octets of a receive buffer. Of a longer query only the front is there, and its client goes to TCP:
/// more room would cost every query cache, for some that nobody sends but as a test.
pub const BUFFER_OCTETS: usize = 4096;

/// `IP_PMTUDISC_OMIT`: the size of our datagrams does not follow what ICMP claims, which takes
/// away fragmentation poisoning.
const PMTUDISC_OMIT: libc::c_int = 5;

/// A buffer with what the kernel writes beside it. Its size is an odd number of cache lines: buffers
/// a power of two apart would have their first lines, which are all that most queries need, in the
/// same few places of the cache.
#[repr(C, align(64))]
struct Slot {
    buffer: [u8; BUFFER_OCTETS],
    name: libc::sockaddr_storage,
    control: [u64; CONTROL_WORDS],
}

const _: () = assert!(size_of::<Slot>() / 64 % 2 == 1);

/// Buffers for a fixed number of datagrams, and the structures of the system calls about them.
pub struct Batch {
    slots: Box<[Slot]>,
    vectors: Box<[libc::iovec]>,
    /// Of each slot; what the kernel changes in it is set again before the next call.
    headers: Box<[libc::mmsghdr]>,
    /// Responses to be sent, from the front.
    outgoing: Box<[libc::mmsghdr]>,
    received: usize,
    queued: usize,
    takes_local: bool,
}

impl Batch {
    /// Room for `capacity` datagrams per call. `takes_local` says whether responses need a source
    /// address: not where the socket has one of its own.
    #[must_use]
    pub fn new(capacity: usize, takes_local: bool) -> Self {
        let slots = (0..capacity).map(|_| Slot {
            buffer: [0; BUFFER_OCTETS],
            // SAFETY: a plain C structure for which all-zero is a valid value.
            name: unsafe { zeroed() },
            control: [0; CONTROL_WORDS],
        });
        let nowhere = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        // SAFETY: as above.
        let header: libc::mmsghdr = unsafe { zeroed() };
        Self {
            slots: slots.collect(),
            vectors: vec![nowhere; capacity].into(),
            headers: vec![header; capacity].into(),
            outgoing: vec![header; capacity].into(),
            // All headers are to be set before the first call.
            received: capacity,
            queued: 0,
            takes_local,
        }
    }

    /// Waits for at least one datagram, as long as the socket's receive timeout allows, and takes
    /// as many as are there.
    ///
    /// # Errors
    /// Those of `recvmmsg`; `WouldBlock` and `Interrupted` mean that there was none.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let used = self
            .slots
            .iter_mut()
            .zip(&mut self.vectors)
            .zip(&mut self.headers)
            .take(self.received);
        for ((slot, vector), header) in used {
            vector.iov_base = slot.buffer.as_mut_ptr().cast();
            vector.iov_len = BUFFER_OCTETS;
            let header = &mut header.msg_hdr;
            header.msg_name = ptr::from_mut(&mut slot.name).cast();
            header.msg_namelen = socklen::<libc::sockaddr_storage>();
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            if self.takes_local {
                header.msg_control = slot.control.as_mut_ptr().cast();
                header.msg_controllen = CONTROL_OCTETS as _;
            }
        }
        self.received = 0;
        self.queued = 0;
        // SAFETY: each header points at a name and a vector of its own, and perhaps at a control
        // buffer, each vector at the buffer of a slot, with the true lengths; they are on the heap,
        // where they stay as long as `self` lives.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                libc::MSG_WAITFORONE as _,
                ptr::null_mut(),
            )
        };
        self.received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        Ok(self.received)
    }

    /// A datagram of the last [`receive`](Self::receive): its buffer, and its octets. They are none
    /// for one that did not fit, to whose source nothing can be sent, or that went to many: the
    /// kernel gives a broadcast to each of the sockets that share a port.
    pub fn datagram(&mut self, position: usize) -> Option<(&mut [u8; BUFFER_OCTETS], usize)> {
        let header = self.headers.get(..self.received)?.get(position)?;
        let slot = self.slots.get_mut(position)?;
        let len = if is_cut(header) || !is_answerable(header, slot, self.takes_local) {
            0
        } else {
            (header.msg_len as usize).min(BUFFER_OCTETS)
        };
        Some((&mut slot.buffer, len))
    }

    /// The front of a datagram that did not fit, if it can be responded to.
    #[must_use]
    pub fn front(&self, position: usize) -> Option<&[u8; BUFFER_OCTETS]> {
        let header = self.headers.get(..self.received)?.get(position)?;
        let slot = self.slots.get(position)?;
        let is_front = is_cut(header) && is_answerable(header, slot, self.takes_local);
        is_front.then_some(&slot.buffer)
    }

    /// Where a datagram came from.
    #[must_use]
    pub fn peer(&self, position: usize) -> Option<SocketAddr> {
        let header = self.headers.get(..self.received)?.get(position)?;
        let slot = self.slots.get(position)?;
        socket_address(&slot.name, header.msg_hdr.msg_namelen)
    }

    /// The address that a datagram came from.
    #[must_use]
    pub fn source(&self, position: usize) -> Option<IpAddr> {
        self.peer(position).map(|peer| peer.ip())
    }

    /// Where a datagram was sent to, if the socket is told.
    #[must_use]
    pub fn local(&self, position: usize) -> Option<Local> {
        let header = self.headers.get(..self.received)?.get(position)?;
        if !self.takes_local {
            return None;
        }
        // SAFETY: the kernel filled this header, and its control buffer is that of its slot.
        let message = unsafe { local_message(&header.msg_hdr) }?;
        // SAFETY: as above, of the control message found there.
        unsafe { local_address(message) }
    }

    /// Has the first `len` octets of a datagram's buffer sent to where it came from by the next
    /// [`send`](Self::send). Each datagram has one response at most.
    pub fn queue(&mut self, position: usize, len: usize) {
        let received = self.headers.get(..self.received);
        let (Some(header), Some(vector), Some(outgoing)) = (
            received.and_then(|headers| headers.get(position)),
            self.vectors.get_mut(position),
            self.outgoing.get_mut(self.queued),
        ) else {
            return;
        };
        vector.iov_len = len.min(BUFFER_OCTETS);
        *outgoing = *header;
        outgoing.msg_hdr.msg_flags = 0;
        if self.takes_local {
            // SAFETY: the kernel filled this header, and its control buffer is that of its slot,
            // which nothing else refers to.
            unsafe { keep_local_address(&mut outgoing.msg_hdr) };
        }
        self.queued += 1;
    }

    /// Sends what was queued, without waiting for room. Returns how many the kernel did not take.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> usize {
        let queued = std::mem::take(&mut self.queued);
        let outgoing = self.outgoing.get_mut(..queued).unwrap_or_default();
        // SAFETY: each header is a copy of a received one: what it points at is on the heap, where
        // it stays as long as `self` lives, and the kernel wrote the lengths.
        queued - unsafe { send_all(socket, outgoing) }
    }
}

/// Whether the datagram of a received header was longer than its buffer.
const fn is_cut(header: &libc::mmsghdr) -> bool {
    header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0
}

/// Whether a received datagram has a source that can be sent to, and went to us alone.
fn is_answerable(header: &libc::mmsghdr, slot: &Slot, takes_local: bool) -> bool {
    // SAFETY: the kernel filled this header, and its control buffer is that of its slot.
    let went_to_many = takes_local && unsafe { went_to_many(&header.msg_hdr) };
    !went_to_many && port(&slot.name) != 0
}

/// Sends one datagram, without waiting for room.
pub fn send_one(
    socket: BorrowedFd<'_>,
    octets: &[u8],
    peer: SocketAddr,
    local: Option<Local>,
) -> bool {
    let name = SockAddr::from(peer);
    let mut control = [0u64; CONTROL_WORDS];
    let mut vector = libc::iovec {
        iov_base: octets.as_ptr().cast_mut().cast(),
        iov_len: octets.len(),
    };
    // SAFETY: a plain C structure for which all-zero is a valid value.
    let mut header: libc::mmsghdr = unsafe { zeroed() };
    header.msg_hdr.msg_name = name.as_ptr().cast_mut().cast();
    header.msg_hdr.msg_namelen = name.len();
    header.msg_hdr.msg_iov = &raw mut vector;
    header.msg_hdr.msg_iovlen = 1;
    if let Some(local) = local {
        // SAFETY: `control` is zeroed, aligned, and outlives the header.
        unsafe { put_local_address(&mut header.msg_hdr, &mut control, local) };
    }
    // SAFETY: name, vector, octets and control buffer outlive the call.
    unsafe { send_all(socket, std::slice::from_mut(&mut header)) == 1 }
}

/// Sends as many as the kernel takes; one that it refuses does not hold those behind it.
///
/// # Safety
/// What the headers point at must be valid with the stated lengths; the kernel only reads it.
unsafe fn send_all(socket: BorrowedFd<'_>, headers: &mut [libc::mmsghdr]) -> usize {
    let (mut at, mut sent) = (0, 0);
    while let Some(rest) = headers.get_mut(at..).filter(|rest| !rest.is_empty()) {
        // SAFETY: as the caller promises.
        let taken = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                rest.as_mut_ptr(),
                rest.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        match usize::try_from(taken) {
            Ok(taken) if taken > 0 => {
                sent += taken;
                at += taken;
            }
            _ if is_full(&io::Error::last_os_error()) => break,
            _ => at += 1,
        }
    }
    sent
}

/// Whether there is no room, neither for this datagram nor for the next.
fn is_full(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM)
    )
}

/// Asks for datagrams whose size does not follow ICMP, and for the local address of each where the
/// socket has none of its own.
///
/// # Errors
/// Those of `setsockopt`.
pub fn prepare(socket: BorrowedFd<'_>, bound: &SocketAddr) -> io::Result<()> {
    let (level, information, discovery) = match bound {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO, libc::IP_MTU_DISCOVER),
        SocketAddr::V6(_) => (
            libc::IPPROTO_IPV6,
            libc::IPV6_RECVPKTINFO,
            libc::IPV6_MTU_DISCOVER,
        ),
    };
    let information = takes_local(bound).then_some((information, 1));
    for (option, value) in information.into_iter().chain([(discovery, PMTUDISC_OMIT)]) {
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

/// Whether a socket bound here must be told the local address of each datagram: at a wildcard, and
/// at a link-local address, which means nothing without its interface.
#[must_use]
pub fn takes_local(bound: &SocketAddr) -> bool {
    match bound.ip() {
        IpAddr::V4(ip) => ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_unicast_link_local(),
    }
}

/// Datagrams that the kernel dropped because the socket's queue was full, since it was opened.
#[must_use]
pub fn dropped(socket: BorrowedFd<'_>) -> Option<u64> {
    /// `SK_MEMINFO_DROPS` of `linux/sock_diag.h`.
    const DROPS: usize = 8;
    const VALUES: usize = 9;
    let mut values = [0u32; VALUES];
    let mut octets = socklen::<[u32; VALUES]>();
    // SAFETY: the kernel writes at most the stated number of octets into `values`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut octets,
        )
    };
    let whole = result == 0 && octets == socklen::<[u32; VALUES]>();
    whole.then(|| values.get(DROPS).map(|&drops| u64::from(drops)))?
}

const fn socklen<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

/// The port, which both families have in the same place.
fn port(name: &libc::sockaddr_storage) -> u16 {
    const { assert!(offset_of!(libc::sockaddr_in, sin_port) == 2) };
    const { assert!(offset_of!(libc::sockaddr_in6, sin6_port) == 2) };
    // SAFETY: `sockaddr_storage` is larger than either structure, and any bits are a valid port.
    u16::from_be(unsafe { (*ptr::from_ref(name).cast::<libc::sockaddr_in>()).sin_port })
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
        let mut batch = Batch::new(8, takes_local(&bound));
        // Twice, as what a call leaves behind must not change the next.
        for _ in 0..2 {
            for text in ["one", "three"] {
                client.send_to(text.as_bytes(), target).unwrap();
            }
            let mut seen = 0;
            while seen < 2 {
                let count = batch.receive(socket.as_fd()).unwrap();
                for position in 0..count {
                    assert_eq!(batch.peer(position), client.local_addr().ok());
                    let (buffer, len) = batch.datagram(position).unwrap();
                    buffer[0] = b'!';
                    batch.queue(position, len);
                }
                assert!(batch.datagram(count).is_none());
                assert_eq!(batch.send(socket.as_fd()), 0);
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
    }

    #[test]
    fn a_socket_answers_from_the_address_asked() {
        echoes_from_the_address_asked("0.0.0.0", "127.0.0.2");
        echoes_from_the_address_asked("::", "::1");
        echoes_from_the_address_asked("127.0.0.1", "127.0.0.1");
    }

    #[test]
    fn one_datagram_leaves_from_the_address_given() {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let local = Local {
            address: "127.0.0.9".parse().unwrap(),
            interface: 0,
        };
        let peer = client.local_addr().unwrap();
        assert!(send_one(socket.as_fd(), b"text", peer, Some(local)));
        let (len, from) = client.recv_from(&mut [0; 16]).unwrap();
        assert_eq!((len, from.ip()), (4, local.address));
    }

    #[test]
    fn a_datagram_to_many_has_no_octets() {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let bound = socket.local_addr().unwrap();
        prepare(socket.as_fd(), &bound).unwrap();
        let group = Ipv4Addr::new(224, 0, 0, 99);
        socket
            .join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)
            .unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_broadcast(true).unwrap();
        let options = socket2::SockRef::from(&client);
        options.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
        let mut batch = Batch::new(8, takes_local(&bound));
        let broadcast = Ipv4Addr::new(127, 255, 255, 255);
        for (to, octets) in [(broadcast, 0), (group, 0), (Ipv4Addr::LOCALHOST, 4)] {
            client.send_to(b"text", (to, bound.port())).unwrap();
            assert_eq!(batch.receive(socket.as_fd()).unwrap(), 1);
            assert_eq!(batch.datagram(0).unwrap().1, octets, "{to}");
        }
    }

    #[test]
    fn a_datagram_that_does_not_fit_has_a_front_only() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = socket.local_addr().unwrap();
        let mut batch = Batch::new(1, false);
        for (octets, fits) in [(BUFFER_OCTETS, true), (BUFFER_OCTETS + 1, false)] {
            client.send_to(&vec![7; octets], target).unwrap();
            assert_eq!(batch.receive(socket.as_fd()).unwrap(), 1);
            let expected = if fits { octets } else { 0 };
            assert_eq!(batch.datagram(0).unwrap().1, expected);
            assert_eq!(batch.front(0).is_none(), fits);
        }
        assert_eq!(batch.front(0), Some(&[7; BUFFER_OCTETS]));
    }

    #[test]
    fn a_response_that_cannot_be_sent_does_not_hold_the_next() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = SockAddr::from(client.local_addr().unwrap());
        // To port 0 of nowhere, which the kernel refuses.
        let nowhere = SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut vector = libc::iovec {
            iov_base: b"text".as_ptr().cast_mut().cast(),
            iov_len: 4,
        };
        let mut headers = [&nowhere, &peer].map(|name| {
            // SAFETY: a plain C structure for which all-zero is a valid value.
            let mut header: libc::mmsghdr = unsafe { zeroed() };
            header.msg_hdr.msg_name = name.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_namelen = name.len();
            header.msg_hdr.msg_iov = &raw mut vector;
            header.msg_hdr.msg_iovlen = 1;
            header
        });
        // SAFETY: names, vector and text outlive the call.
        assert_eq!(unsafe { send_all(socket.as_fd(), &mut headers) }, 1);
        assert_eq!(client.recv(&mut [0; 16]).unwrap(), 4);
    }

    #[test]
    fn what_a_full_queue_drops_is_counted() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(dropped(socket.as_fd()), Some(0));
        for _ in 0..2000 {
            client
                .send_to(&[0; 1024], socket.local_addr().unwrap())
                .unwrap();
        }
        assert!(dropped(socket.as_fd()).unwrap() > 0);
    }
}
