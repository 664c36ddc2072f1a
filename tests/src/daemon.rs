//! The daemon as a process of its own, as an operator runs it.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{netns::Netns, process::Process};

/// Names the daemon's binary; `cargo xtask test` sets it.
const VARIABLE: &str = "MESOS_XDNS";

/// How long the first state may take to be served, on a busy machine.
const START: Duration = Duration::from_secs(30);

/// Returns from the test, loudly, unless the daemon has been built.
#[macro_export]
macro_rules! needs_daemon {
    () => {
        if !$crate::requirements::met($crate::daemon::binary().map(drop)) {
            return;
        }
    };
}

/// The daemon: what the environment names, or what lies in the folder this test was built into.
///
/// # Errors
///
/// Says how to build it.
pub fn binary() -> Result<PathBuf, String> {
    if let Some(named) = env::var_os(VARIABLE) {
        return Ok(named.into());
    }
    let built = env::current_exe().ok().and_then(|test| {
        let folder = test.parent()?.parent()?;
        Some(folder.join("mesos-xdns"))
    });
    built
        .filter(|path| path.is_file())
        .ok_or_else(|| "needs the daemon: cargo build --package dns-userspace".to_owned())
}

/// Starts the daemon in a namespace and waits until it listens. Its `/var/lib` is empty, and what
/// it writes there is gone with it.
///
/// # Errors
///
/// It ends or stays silent; the error carries its log.
pub fn start(host: &Netns, configuration: &Path) -> Result<Process> {
    let binary = binary().map_err(anyhow::Error::msg)?;
    let script = "mount -t tmpfs tmpfs /var/lib && exec \"$0\" run --config \"$1\"";
    let mut command = host.command("unshare");
    command.args(["--mount", "--", "sh", "-c", script]);
    command.arg(binary).arg(configuration);
    // What is logged must not depend on who runs the test.
    command.env_remove("RUST_LOG");
    let mut process = Process::start("mesos-xdns", &mut command)?;
    process
        .wait_for("DNS is served", START)
        .with_context(|| format!("with {}", configuration.display()))?;
    Ok(process)
}
