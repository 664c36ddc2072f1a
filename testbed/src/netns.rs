//! Network namespaces and veth pairs that vanish with the value that made them.
//!
//! A name carries the id of the process that made it, so a later run can remove what a crash left
//! behind.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, anyhow, ensure};

/// Starts the name of every namespace made here.
const PREFIX: &str = "mxd";

/// Where iproute2 keeps named namespaces.
const FOLDER: &str = "/run/netns";

/// A network namespace of our own, with loopback up.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes a namespace; the first call of a process also removes what crashed runs left.
    ///
    /// # Errors
    ///
    /// Needs root and iproute2.
    pub fn new(purpose: &str) -> Result<Self> {
        static CLEAN: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        CLEAN.call_once(remove_leftovers);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{number}-{purpose}", std::process::id());
        ip(None, &format!("netns add {name}"))?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The name under which `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it, as `nsenter --net=` takes it.
    pub fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }

    /// A command that will run inside.
    ///
    /// `nsenter` and not `ip netns exec`, because that mounts another `/sys`, which hides what is
    /// pinned below `/sys/fs/bpf`.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display()));
        command.arg("--").arg(program);
        command
    }

    /// Runs `ip` with these space-separated arguments inside.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        ip(Some(self), arguments)
    }

    /// Runs a closure on a thread of its own inside the namespace: sockets opened there stay there.
    ///
    /// # Errors
    ///
    /// The namespace cannot be entered, or the closure fails or panics.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = self.path();
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        thread::scope(|scope| {
            scope
                .spawn(move || {
                    // SAFETY: setns takes a descriptor, which `file` keeps open, and changes only
                    // this thread, which ends with the closure.
                    let status = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
                    ensure!(
                        status == 0,
                        "entering {}: {}",
                        path.display(),
                        std::io::Error::last_os_error()
                    );
                    inside()
                })
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a closure inside {} panicked", self.name)))
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Err(error) = ip(None, &format!("netns delete {}", self.name)) {
            eprintln!("namespace {} stays behind: {error:#}", self.name);
        }
    }
}

/// Runs `ip` with these space-separated arguments, in a namespace or where the process is.
///
/// # Errors
///
/// Carries the command and what it wrote to standard error.
pub fn ip(namespace: Option<&Netns>, arguments: &str) -> Result<String> {
    let mut command = Command::new("ip");
    if let Some(namespace) = namespace {
        command.args(["-netns", &namespace.name]);
    }
    let output = command
        .args(arguments.split_whitespace())
        .output()
        .context("running ip, of the package iproute2")?;
    ensure!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// One end of a veth pair.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Its namespace, or the one the process is in.
    pub namespace: Option<&'a Netns>,
    /// Its interface name, at most 15 bytes.
    pub interface: &'a str,
    /// Its addresses with prefix length.
    pub addresses: &'a [&'a str],
}

/// Connects two ends with a veth pair, gives them their addresses and brings them up.
///
/// The pair vanishes with the namespace of either end. IPv6 addresses are usable at once
/// (`nodad`). Checksums stay offloaded, as between containers: a frame that a local socket sends
/// reaches XDP with a partial one.
///
/// # Errors
///
/// Carries the `ip` command that failed.
pub fn connect(one: End<'_>, other: End<'_>) -> Result<()> {
    let place = other
        .namespace
        .map_or_else(String::new, |namespace| format!("netns {}", namespace.name));
    ip(
        one.namespace,
        &format!(
            "link add {} type veth peer name {} {place}",
            one.interface, other.interface
        ),
    )?;
    for end in [one, other] {
        for address in end.addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            ip(
                end.namespace,
                &format!("address add {address} dev {} {nodad}", end.interface),
            )?;
        }
        ip(end.namespace, &format!("link set {} up", end.interface))?;
    }
    Ok(())
}

/// Removes the namespaces of processes that are gone.
fn remove_leftovers() {
    let Ok(entries) = fs::read_dir(FOLDER) else {
        return;
    };
    for name in entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
    {
        let mut parts = name.split('-');
        let ours = parts.next() == Some(PREFIX);
        let process = parts.next().and_then(|id| id.parse::<u32>().ok());
        if let (true, Some(process)) = (ours, process)
            && !Path::new("/proc").join(process.to_string()).exists()
            && let Err(error) = ip(None, &format!("netns delete {name}"))
        {
            eprintln!("namespace {name} of an earlier run stays behind: {error:#}");
        }
    }
}
