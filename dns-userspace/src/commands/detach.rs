//! `detach`: XDP taken off interfaces, and nothing left of it.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;

use super::load_config;
use crate::config::Surroundings;
use crate::config::xdp::DEFAULT_PIN_PATH;
use crate::dataplane;

/// Arguments of `detach`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration of the daemon whose program is meant: its pin path and interfaces
    #[arg(long, default_value = "config.json")]
    pub config: PathBuf,
    /// An interface on the command line of that daemon
    #[arg(long = "interface", value_name = "IF")]
    pub interfaces: Vec<String>,
    /// The pin path of that daemon, in place of a configuration
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub pin_path: Option<PathBuf>,
    /// The programs of all daemons of this host, in all network namespaces
    #[arg(long, conflicts_with_all = ["config", "interfaces", "pin_path"])]
    pub all: bool,
}

/// Detaches the program and removes what is pinned.
///
/// # Errors
/// The kernel does not permit it, or the configuration cannot be read.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<u8> {
    let detached = if arguments.all {
        dataplane::detach_all()? + dataplane::detach_from(DEFAULT_PIN_PATH.as_ref(), &[])?
    } else {
        let (pin_path, mut interfaces) = match &arguments.pin_path {
            Some(path) => (path.clone(), Vec::new()),
            None => {
                let surroundings = Surroundings::of_this_host();
                let config = load_config(&arguments.config, &surroundings)
                    .context("which program is meant? See --pin-path and --all")?;
                (config.xdp.pin_path, config.xdp.interfaces)
            }
        };
        interfaces.extend(arguments.interfaces.iter().cloned());
        dataplane::detach_from(&pin_path, &interfaces)?
    };
    match detached {
        0 => writeln!(out, "mesos-xdns is attached to no interface")?,
        1 => writeln!(out, "detached from one interface")?,
        count => writeln!(out, "detached from {count} interfaces")?,
    }
    Ok(0)
}
