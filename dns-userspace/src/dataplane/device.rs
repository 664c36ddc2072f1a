//! What the kernel says of a network interface, XDP included (rtnetlink(7)), and when that changes.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
/// Events of interfaces, and of addresses of both families.
const GROUPS: u32 =
    (libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR) as u32;
const HEADER_OCTETS: usize = 16;
const LINK_OCTETS: usize = 16;

/// Attributes of an interface.
mod attribute {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const NAME: u16 = 3;
    pub(super) const MTU: u16 = 4;
    pub(super) const RX_QUEUES: u16 = 32;
    pub(super) const XDP: u16 = 43;
    pub(super) const XDP_NATIVE_ID: u16 = 5;
    pub(super) const XDP_GENERIC_ID: u16 = 6;
    pub(super) const XDP_OFFLOADED_ID: u16 = 7;
    /// Flags in the type of an attribute.
    pub(super) const TYPE_MASK: u16 = 0x3fff;
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Device {
    /// Its index.
    pub(super) index: u32,
    /// Its link-layer address, if that has six octets.
    pub(super) mac: Option<[u8; 6]>,
    /// Octets of a packet.
    pub(super) mtu: u32,
    /// Queues for packets that come in.
    pub(super) queues: u32,
    /// Id of the XDP program in the driver.
    pub(super) native: Option<u32>,
    /// Id of the XDP program after the driver.
    pub(super) generic: Option<u32>,
    /// Id of the XDP program in the card.
    pub(super) offloaded: Option<u32>,
}

impl Device {
    /// The interface of this name in the network namespace of the process; `None` if there is none.
    ///
    /// # Errors
    /// The kernel does not say.
    pub(super) fn named(name: &str) -> io::Result<Option<Self>> {
        let mut socket = route_socket()?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.write_all(&request(name))?;
        let mut reply = vec![0; 32768];
        let octets = socket.read(&mut reply)?;
        let reply = reply.get(..octets).unwrap_or_default();
        match (u16_at(reply, 4), i32_at(reply, HEADER_OCTETS)) {
            (Some(RTM_NEWLINK), _) => {
                Ok(Self::read(reply.get(HEADER_OCTETS..).unwrap_or_default()))
            }
            (_, Some(error)) if error == -libc::ENODEV => Ok(None),
            (_, Some(error)) if error < 0 => Err(io::Error::from_raw_os_error(-error)),
            _ => Err(io::Error::other(
                "an answer of rtnetlink that cannot be read",
            )),
        }
    }

    /// Reads `struct ifinfomsg` and the attributes behind it.
    fn read(message: &[u8]) -> Option<Self> {
        let mut device = Self {
            index: u32_at(message, 4)?,
            ..Self::default()
        };
        for (kind, value) in attributes(message.get(LINK_OCTETS..)?) {
            match kind {
                attribute::ADDRESS => device.mac = value.try_into().ok(),
                attribute::MTU => device.mtu = u32_at(value, 0)?,
                attribute::RX_QUEUES => device.queues = u32_at(value, 0)?,
                attribute::XDP => {
                    for (kind, value) in attributes(value) {
                        match kind {
                            attribute::XDP_NATIVE_ID => device.native = u32_at(value, 0),
                            attribute::XDP_GENERIC_ID => device.generic = u32_at(value, 0),
                            attribute::XDP_OFFLOADED_ID => device.offloaded = u32_at(value, 0),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Some(device)
    }

    /// The XDP programs on it.
    pub(super) fn programs(&self) -> impl Iterator<Item = u32> {
        [self.native, self.generic, self.offloaded]
            .into_iter()
            .flatten()
    }
}

fn route_socket() -> io::Result<Socket> {
    Socket::new(
        Domain::from(libc::AF_NETLINK),
        Type::RAW.cloexec(),
        Some(Protocol::from(libc::NETLINK_ROUTE)),
    )
}

/// Asks for one interface by its name.
fn request(name: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(64);
    message.extend([0; 4]);
    message.extend(RTM_GETLINK.to_ne_bytes());
    // NLM_F_REQUEST.
    message.extend(1u16.to_ne_bytes());
    // Sequence number, port, and an empty `struct ifinfomsg`.
    message.extend([0; 8 + LINK_OCTETS]);
    let value = name.as_bytes();
    let octets = u16::try_from(value.len() + 5).unwrap_or(u16::MAX);
    message.extend(octets.to_ne_bytes());
    message.extend(attribute::NAME.to_ne_bytes());
    message.extend(value);
    message.push(0);
    message.resize(message.len().next_multiple_of(4), 0);
    let octets = u32::try_from(message.len()).unwrap_or(u32::MAX);
    for (to, from) in message.iter_mut().zip(octets.to_ne_bytes()) {
        *to = from;
    }
    message
}

/// Type and value of each attribute. Ends at the first that cannot be read.
fn attributes(mut octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(octets, 0)?);
        let kind = u16_at(octets, 2)? & attribute::TYPE_MASK;
        let value = octets.get(4..length)?;
        octets = octets.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*octets.get(at..)?.first_chunk()?))
}

fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*octets.get(at..)?.first_chunk()?))
}

fn i32_at(octets: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(*octets.get(at..)?.first_chunk()?))
}

/// The name of the driver of an interface, as `ethtool -i` prints it.
pub(super) fn driver(name: &str) -> Option<String> {
    const ETHTOOL_GDRVINFO: u32 = 3;
    const SIOCETHTOOL: libc::c_ulong = 0x8946;
    #[repr(C)]
    struct Information {
        command: u32,
        driver: [u8; 32],
        rest: [u8; 160],
    }
    #[repr(C)]
    struct Request {
        name: [u8; libc::IFNAMSIZ],
        information: *mut Information,
        rest: [u64; 1],
    }
    let mut information = Information {
        command: ETHTOOL_GDRVINFO,
        driver: [0; 32],
        rest: [0; 160],
    };
    let mut request = Request {
        name: [0; libc::IFNAMSIZ],
        information: &raw mut information,
        rest: [0],
    };
    if name.len() >= request.name.len() {
        return None;
    }
    for (to, from) in request.name.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).ok()?;
    // SAFETY: a request of the size of `struct ifreq`, whose pointer leads to a structure of the
    // size of `struct ethtool_drvinfo`, which the kernel fills; both live through the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result != 0 {
        return None;
    }
    let text = information.driver.split(|octet| *octet == 0).next()?;
    let text = String::from_utf8_lossy(text).into_owned();
    (!text.is_empty()).then_some(text)
}

/// Tells when interfaces or their addresses change.
#[derive(Debug)]
pub struct Watch(AsyncFd<Socket>);

impl Watch {
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The kernel does not permit it.
    pub fn new() -> io::Result<Self> {
        let socket = route_socket()?;
        socket.set_nonblocking(true)?;
        // SAFETY: all zeros are a valid address of this family.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = GROUPS;
        // SAFETY: the kernel reads one address of the size that it is told.
        let result = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the socket owns its descriptor, which nobody closes or replaces before it is dropped.
        let watch = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        Ok(Self(watch?))
    }

    /// Waits until something has changed. What, is to be looked up; events may be lost.
    ///
    /// # Errors
    /// The socket is broken.
    pub async fn changed(&self) -> io::Result<()> {
        let mut events = [0; 32768];
        let mut socket = self.0.get_ref();
        loop {
            let mut ready = self.0.readable().await?;
            let mut count = 0;
            loop {
                match socket.read(&mut events) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    // More events than the socket can hold are events too.
                    Ok(_) => count += 1,
                    Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => count += 1,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            ready.clear_ready();
            if count > 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_and_what_is_not_there_is_not() {
        let lo = Device::named("lo").unwrap().unwrap();
        assert_eq!(lo.index, 1);
        assert_eq!(lo.mac, Some([0; 6]));
        assert!(lo.mtu >= 1500 && lo.queues >= 1, "{lo:?}");
        assert_eq!(Device::named("absent0").unwrap(), None);
        assert_eq!(driver("lo"), None);
    }

    #[test]
    fn half_an_attribute_ends_the_list() {
        let octets = [5, 0, 3, 0, b'x', 0, 0, 0, 9, 0, 4, 0, 1];
        let found: Vec<(u16, &[u8])> = attributes(&octets).collect();
        assert_eq!(found, [(3, &b"x"[..])]);
        assert_eq!(attributes(&[0, 0, 1, 0]).count(), 0);
    }
}
