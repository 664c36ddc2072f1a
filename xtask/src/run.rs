//! `cargo xtask run`: a sample cluster to play with, or the daemon on a real one.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use crate::{
    build::{self, Profile},
    setup, shell,
};

mod cluster;
mod demo;
mod table;

/// Runs a sample cluster; with arguments after `--`, runs the daemon with them.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Queries per second that the sample cluster's own client asks
    #[arg(long, default_value_t = 20, value_name = "N")]
    load: u32,
    /// End by itself after so many seconds
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Answer in user space only, on a loopback port, as without root
    #[arg(long)]
    no_xdp: bool,
    /// Run this daemon instead of building one
    #[arg(long, value_name = "FILE")]
    daemon: Option<PathBuf>,
    /// Arguments of `mesos-xdns run`, such as --config FILE --interface IF
    #[arg(last = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let daemon = |profile| match &arguments.daemon {
        Some(daemon) => Ok(daemon.clone()),
        None => build::daemon(profile),
    };
    if !arguments.arguments.is_empty() {
        let daemon = daemon(Profile::Release)?;
        return shell::run(Command::new(daemon).arg("run").args(&arguments.arguments));
    }
    setup::programs(setup::FOR_RUN);
    let daemon = daemon(Profile::Debug)?;
    demo::run(&daemon, arguments)
}
