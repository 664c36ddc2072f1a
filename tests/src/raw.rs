//! Frames to and from an interface as they are, past the network stack: an AF_PACKET socket.

use std::{
    ffi::CString,
    io,
    mem::zeroed,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

/// Frames that one call of the kernel takes at most.
const BATCH: usize = 64;

/// An interface of the namespace that it was opened in.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
}

impl Wire {
    /// Opens an interface to send, and to see what comes in if it is to listen.
    ///
    /// # Errors
    /// Needs CAP_NET_RAW and the interface.
    pub fn open(interface: &str, listens: bool) -> Result<Self> {
        let name = CString::new(interface)?;
        // SAFETY: the pointer is to a string that ends with a zero and lives through the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        ensure!(index != 0, "{interface}: {}", io::Error::last_os_error());
        // Bound below, so that nothing of other interfaces comes in before.
        // SAFETY: socket takes no memory.
        let socket =
            unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        ensure!(socket >= 0, "AF_PACKET: {}", io::Error::last_os_error());
        // SAFETY: the kernel has just given this descriptor to us alone.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        for option in [
            libc::PACKET_QDISC_BYPASS,
            libc::PACKET_IGNORE_OUTGOING,
            libc::PACKET_AUXDATA,
        ] {
            let one: libc::c_int = 1;
            // SAFETY: the value is an int that lives through the call.
            let status = unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_PACKET,
                    option,
                    (&raw const one).cast(),
                    size_of::<libc::c_int>() as u32,
                )
            };
            ensure!(
                status == 0,
                "option {option}: {}",
                io::Error::last_os_error()
            );
        }
        // SAFETY: all zeros is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index as i32;
        if listens {
            address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        }
        // SAFETY: the address is a sockaddr_ll of the size that is said, and lives through the call.
        let status = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        ensure!(status == 0, "bind: {}", io::Error::last_os_error());
        Ok(Self { socket })
    }

    /// Sends frames, and says how many the kernel took.
    ///
    /// # Errors
    /// The kernel takes none.
    pub fn send(&self, frames: &[Vec<u8>]) -> Result<usize> {
        let mut sent = 0;
        for batch in frames.chunks(BATCH) {
            let mut parts: Vec<libc::iovec> = batch
                .iter()
                .map(|frame| libc::iovec {
                    iov_base: frame.as_ptr().cast_mut().cast(),
                    iov_len: frame.len(),
                })
                .collect();
            let mut messages: Vec<libc::mmsghdr> = parts
                .iter_mut()
                .map(|part| {
                    // SAFETY: all zeros is a valid mmsghdr.
                    let mut message: libc::mmsghdr = unsafe { zeroed() };
                    message.msg_hdr.msg_iov = part;
                    message.msg_hdr.msg_iovlen = 1;
                    message
                })
                .collect();
            // SAFETY: the headers point at `parts`, and those at the frames; all live through the
            // call, which only reads the frames.
            let taken = unsafe {
                libc::sendmmsg(
                    self.socket.as_raw_fd(),
                    messages.as_mut_ptr(),
                    messages.len() as u32,
                    0,
                )
            };
            match usize::try_from(taken) {
                Ok(taken) => sent += taken,
                // The other end has no room for more at the moment.
                Err(_) if io::Error::last_os_error().raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(_) => return Err(io::Error::last_os_error()).context("sendmmsg"),
            }
        }
        Ok(sent)
    }

    /// The next frame that comes in and is wanted, with the VLAN tag that the stack has taken out.
    ///
    /// # Errors
    /// None comes in time.
    pub fn receive(&self, limit: Duration, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>> {
        let deadline = Instant::now() + limit;
        let mut buffer = vec![0; 65_536];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut poll = libc::pollfd {
                fd: self.socket.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one pollfd, which lives through the call.
            let ready = unsafe { libc::poll(&raw mut poll, 1, left.as_millis() as i32) };
            ensure!(ready > 0, "no such frame within {limit:?}");
            let (size, tag) = self.take(&mut buffer)?;
            let mut frame = buffer[..size].to_vec();
            if let Some((protocol, tag)) = tag {
                let tag = [protocol.to_be_bytes(), tag.to_be_bytes()].concat();
                frame.splice(12..12, tag);
            }
            if wanted(&frame) {
                return Ok(frame);
            }
        }
    }

    /// Octets of a frame that is there, and protocol and content of the tag beside it.
    fn take(&self, buffer: &mut [u8]) -> Result<(usize, Option<(u16, u16)>)> {
        // Aligned as control messages must be.
        let mut control = [0u64; 16];
        let mut part = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        // SAFETY: all zeros is a valid msghdr.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: buffers are as long as is said, and live through the call.
        let size = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) };
        let Ok(size) = usize::try_from(size) else {
            return Err(io::Error::last_os_error()).context("recvmsg");
        };
        // SAFETY: the kernel has filled the header; what follows it is as long as it says.
        let beside = unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            let is_it = |header: *mut libc::cmsghdr| {
                (*header).cmsg_level == libc::SOL_PACKET
                    && (*header).cmsg_type == libc::PACKET_AUXDATA
            };
            (!header.is_null() && is_it(header)).then(|| {
                let data = libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>();
                data.read_unaligned()
            })
        };
        let tag = beside
            .filter(|beside| beside.tp_status & libc::TP_STATUS_VLAN_VALID != 0)
            .map(|beside| (beside.tp_vlan_tpid, beside.tp_vlan_tci));
        Ok((size, tag))
    }
}
