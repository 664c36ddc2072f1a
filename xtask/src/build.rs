//! `cargo xtask build`: the daemon with the XDP program inside.

use std::path::PathBuf;

use anyhow::Result;

use crate::{setup, shell};

/// Installs the eBPF toolchain where it is missing, then builds the daemon.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Build without optimisation: quick to build, not quick to answer in user space
    #[arg(long)]
    debug: bool,
}

/// Which build of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to build; the XDP program is optimised all the same.
    Debug,
    /// What is measured and shipped.
    Release,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let profile = if arguments.debug {
        Profile::Debug
    } else {
        Profile::Release
    };
    let program = daemon(profile)?;
    println!("{}", program.display());
    Ok(())
}

/// Builds the daemon and returns its path.
///
/// # Errors
///
/// It does not build.
pub(crate) fn daemon(profile: Profile) -> Result<PathBuf> {
    setup::ebpf_toolchain()?;
    let (flag, folder) = match profile {
        Profile::Debug => ("", "debug"),
        Profile::Release => ("--release", "release"),
    };
    let arguments = format!("build --package dns-userspace --bin mesos-xdns {flag}");
    shell::run(&mut shell::cargo(&arguments)?)?;
    Ok(target_folder()?.join(folder).join("mesos-xdns"))
}

/// Where cargo builds this workspace.
///
/// # Errors
///
/// The tool was not started by cargo.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let folder = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Ok(shell::workspace()?.join(folder))
}
