//! What a configuration takes from the host it is read on, gathered once so that the reading
//! itself depends on nothing else.

use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Component, Path, PathBuf};
use std::{env, fs, io, ptr};

/// The host as configuration sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// `HOME`.
    pub home: Option<String>,
    /// The working directory.
    pub directory: PathBuf,
    /// The name servers of `/etc/resolv.conf`.
    pub name_servers: Vec<IpAddr>,
    /// The addresses of all interfaces, loopback included.
    pub addresses: Vec<IpAddr>,
    /// Whether the configuration is to be served here, and so its addresses must be free of one another
    /// and of its upstreams.
    pub is_served: bool,
}

impl Surroundings {
    /// Looks around. What cannot be found out is left empty.
    #[must_use]
    pub fn of_this_host() -> Self {
        let resolv_conf = fs::read("/etc/resolv.conf").unwrap_or_default();
        Self {
            home: env::var("HOME").ok().filter(|home| !home.is_empty()),
            directory: env::current_dir().unwrap_or_default(),
            name_servers: name_servers(&String::from_utf8_lossy(&resolv_conf)),
            addresses: interface_addresses().unwrap_or_default(),
            is_served: false,
        }
    }

    /// The same, for who serves here or is asked whether that can be.
    #[must_use]
    pub fn served(self) -> Self {
        let is_served = true;
        Self { is_served, ..self }
    }

    /// The absolute path of a configuration file, as Go's `filepath.Abs` gives it: without `.`, `..`
    /// and empty parts. The first `~/` stands for the home directory, and for the working directory
    /// where there is none.
    #[must_use]
    pub fn absolute(&self, path: &Path) -> PathBuf {
        let home = self.home.as_deref().unwrap_or(".");
        let path = match path.to_str() {
            Some(text) => text.replacen("~/", &format!("{home}/"), 1).into(),
            None => path.to_owned(),
        };
        let mut clean = PathBuf::new();
        for part in self.directory.join(path).components() {
            match part {
                Component::CurDir => {}
                // The root has itself above it.
                Component::ParentDir => _ = clean.pop(),
                part => clean.push(part),
            }
        }
        clean
    }

    /// The name servers of this host that are not the host itself.
    #[must_use]
    pub fn upstreams(&self) -> Vec<String> {
        self.name_servers
            .iter()
            .filter(|ip| !self.addresses.contains(ip))
            .map(ToString::to_string)
            .collect()
    }
}

/// The addresses in the `nameserver` lines of a `resolv.conf`, in order. An IPv6 address with a
/// zone is left out.
#[must_use]
pub fn name_servers(resolv_conf: &str) -> Vec<IpAddr> {
    resolv_conf
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver"))
                .then(|| words.next()?.parse().ok())
                .flatten()
        })
        .collect()
}

/// The addresses of all interfaces that are up, in the order of the system.
///
/// # Errors
/// When the system does not say.
pub fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for one in interface_entries()?.into_iter().filter(|one| one.up) {
        addresses.extend(one.address);
    }
    addresses.dedup();
    Ok(addresses)
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its link-layer address, if that has six octets.
    pub mac: Option<[u8; 6]>,
}

/// The interface of a name; `None` if there is none.
///
/// # Errors
/// When the system does not say.
pub fn interface(name: &str) -> io::Result<Option<Interface>> {
    let entry = interface_entries()?
        .into_iter()
        .find(|one| one.name == name && one.link.is_some());
    Ok(entry.and_then(|one| {
        let (index, mac) = one.link?;
        Some(Interface {
            name: one.name,
            index,
            mac,
        })
    }))
}

/// One line of the system's list: an interface with one of its addresses.
struct Entry {
    name: String,
    up: bool,
    address: Option<IpAddr>,
    link: Option<(u32, Option<[u8; 6]>)>,
}

fn interface_entries() -> io::Result<Vec<Entry>> {
    let mut list: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: `list` is a valid place for the pointer that getifaddrs writes.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut entries = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: `next` is an element of the list that getifaddrs made and that is freed below;
        // its name is a C string, its address null or a socket address of the family it states.
        unsafe {
            let one = &*next;
            let address = one.ifa_addr;
            entries.push(Entry {
                name: CStr::from_ptr(one.ifa_name).to_string_lossy().into_owned(),
                up: one.ifa_flags & (libc::IFF_UP as u32) != 0,
                address: if address.is_null() {
                    None
                } else {
                    socket_address(address)
                },
                link: if address.is_null() {
                    None
                } else {
                    link_address(address)
                },
            });
            next = one.ifa_next;
        }
    }
    // SAFETY: `list` came from getifaddrs and nothing refers to it any more.
    unsafe { libc::freeifaddrs(list) };
    Ok(entries)
}

/// # Safety
/// `address` points to a socket address of the family it states.
unsafe fn link_address(address: *const libc::sockaddr) -> Option<(u32, Option<[u8; 6]>)> {
    // SAFETY: the caller's promise; the structure is read whole, and its alignment not relied on.
    unsafe {
        if i32::from(ptr::read_unaligned(&raw const (*address).sa_family)) != libc::AF_PACKET {
            return None;
        }
        let link: libc::sockaddr_ll = ptr::read_unaligned(address.cast());
        let [a, b, c, d, e, f, ..] = link.sll_addr;
        let mac = (link.sll_halen == 6).then_some([a, b, c, d, e, f]);
        Some((u32::try_from(link.sll_ifindex).ok()?, mac))
    }
}

/// # Safety
/// `address` points to a socket address of the family it states.
unsafe fn socket_address(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: the caller's promise; each structure is read whole, and its alignment not relied on.
    unsafe {
        match i32::from(ptr::read_unaligned(&raw const (*address).sa_family)) {
            libc::AF_INET => {
                let v4: libc::sockaddr_in = ptr::read_unaligned(address.cast());
                Some(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
            }
            libc::AF_INET6 => {
                let v6: libc::sockaddr_in6 = ptr::read_unaligned(address.cast());
                Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_tilde_is_the_home_directory() {
        let mut host = Surroundings {
            home: Some("/home/dns".into()),
            directory: "/srv".into(),
            ..Surroundings::default()
        };
        let absolute = |host: &Surroundings, path: &str| host.absolute(Path::new(path));
        assert_eq!(absolute(&host, "~/c.json"), Path::new("/home/dns/c.json"));
        assert_eq!(absolute(&host, "c.json"), Path::new("/srv/c.json"));
        assert_eq!(absolute(&host, "/etc/c.json"), Path::new("/etc/c.json"));
        host.home = None;
        assert_eq!(absolute(&host, "~/c.json"), Path::new("/srv/c.json"));
    }

    /// What Go's `filepath.Abs` gives in `/srv/dns`; as texts, since `Path` compares by parts.
    #[test]
    fn absolute_paths_are_clean() {
        let host = Surroundings {
            directory: "/srv/dns".into(),
            ..Surroundings::default()
        };
        for (path, clean) in [
            ("./run/md.json", "/srv/dns/run/md.json"),
            ("../x", "/srv/x"),
            ("../../../x", "/x"),
            ("a//b", "/srv/dns/a/b"),
            ("a/./../b/", "/srv/dns/b"),
            ("/etc/../c.json", "/c.json"),
            ("//etc//c.json", "/etc/c.json"),
            ("..x/...", "/srv/dns/..x/..."),
        ] {
            let absolute = host.absolute(Path::new(path));
            assert_eq!(absolute.to_str(), Some(clean), "{path}");
        }
    }

    #[test]
    fn resolv_conf_gives_addresses_of_others() {
        let text = "# nameserver 9.9.9.9\nsearch a b\nnameserver 10.0.0.1\nnameserver\t::1 # x\n\
                    nameserver dns\nnameserver fe80::1%eth0\nnameserver 10.0.0.2\n";
        let host = Surroundings {
            name_servers: name_servers(text),
            addresses: vec!["::1".parse().unwrap(), "10.0.0.2".parse().unwrap()],
            ..Surroundings::default()
        };
        assert_eq!(host.name_servers.len(), 3);
        assert_eq!(host.upstreams(), ["10.0.0.1"]);
    }

    #[test]
    fn this_host_has_a_loopback_address() {
        let addresses = interface_addresses().unwrap();
        assert!(addresses.iter().any(IpAddr::is_loopback) || addresses.is_empty());
    }
}
