//! BIND and Unbound from their Debian packages, each on a host of its own.
//!
//! Their files are mounted where the packages have them, in a mount namespace: the paths in the
//! files are the real ones, profiles of AppArmor hold, and the system's own files stay untouched.

use std::{path::Path, time::Duration};

use anyhow::Result;

use crate::{how_to::Files, netns::Netns, process::Process};

/// How long a server may take to start, on a busy machine.
const START: Duration = Duration::from_secs(30);

/// A server with the files it reads.
#[derive(Debug)]
pub struct NameServer {
    process: Process,
    _files: Files,
}

/// Starts BIND. Files that are not given are as Debian has them, without the default zones.
///
/// # Errors
///
/// It does not start; the error carries its log.
pub fn bind(host: &Netns, mut files: Files) -> Result<NameServer> {
    files.write_default(
        "/etc/bind/named.conf",
        "include \"/etc/bind/named.conf.options\";\ninclude \"/etc/bind/named.conf.local\";\n",
    )?;
    let script = "mount --bind \"$0\" /etc/bind \
        && mount -t tmpfs tmpfs /run && mkdir /run/named \
        && mount -t tmpfs tmpfs /var/cache/bind \
        && exec named -g -n 1 -c /etc/bind/named.conf";
    let place = files.at("/etc/bind")?;
    let process = start(host, "named", script, &place, "all zones loaded")?;
    Ok(NameServer {
        process,
        _files: files,
    })
}

/// Starts Unbound. Its main file is Debian's.
///
/// # Errors
///
/// It does not start; the error carries its log.
pub fn unbound(host: &Netns, mut files: Files) -> Result<NameServer> {
    files.write_default(
        "/etc/unbound/unbound.conf",
        "include-toplevel: \"/etc/unbound/unbound.conf.d/*.conf\"\n",
    )?;
    let script = "mount --bind \"$0\" /etc/unbound \
        && mount -t tmpfs tmpfs /run \
        && exec unbound -dd -p";
    let place = files.at("/etc/unbound")?;
    let process = start(host, "unbound", script, &place, "start of service")?;
    Ok(NameServer {
        process,
        _files: files,
    })
}

/// Runs a shell script in the host's network and a mount namespace, until it says that it serves.
fn start(host: &Netns, name: &str, script: &str, place: &Path, ready: &str) -> Result<Process> {
    let mut command = host.command("unshare");
    command.args(["--mount", "--", "sh", "-c", script]);
    command.arg(place);
    let mut process = Process::start(name, &mut command)?;
    process.wait_for(ready, START)?;
    Ok(process)
}

impl NameServer {
    /// What it has logged.
    pub fn output(&self) -> Vec<String> {
        self.process.output()
    }
}
