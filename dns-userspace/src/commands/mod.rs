//! What the program does when it is called: one file for each command.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use clap::Subcommand;

use crate::config::{self, Config, Surroundings};

mod against;
mod api;
pub mod capture;
pub mod check;
pub mod descriptors;
pub mod detach;
mod event_file;
mod explain;
pub mod mesos_dns;
pub mod records;
pub mod run;
mod signals;
pub mod status;
pub mod top;
pub mod vips;

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write the frames that pass the XDP program, which tcpdump does not see
    Capture(capture::Arguments),
    /// Check a configuration and say everything that is wrong with it
    Check(check::Arguments),
    /// Take XDP off the interfaces and remove what is pinned; a running daemon goes on in user space
    Detach(detach::Arguments),
    /// Print the records of a state file or of captured events, without any network
    Records(records::Arguments),
    /// List virtual IPs, or the addresses they would get
    Vips(vips::Arguments),
    /// Follow Mesos and answer
    Run(run::Arguments),
    /// Ask a running daemon how it is doing
    Status(status::Arguments),
    /// Show what a running daemon is asked for, and by whom
    Top(top::Arguments),
}

impl Command {
    /// Does it. Gives the exit status of a command that ran to its end.
    ///
    /// # Errors
    /// What kept it from its end.
    pub fn run(self) -> anyhow::Result<u8> {
        match self {
            Self::Capture(arguments) => capture::run(&arguments, &mut io::stdout().lock()),
            Self::Check(arguments) => check::run(&arguments, &mut io::stdout().lock()),
            Self::Detach(arguments) => detach::run(&arguments, &mut io::stdout().lock()),
            Self::Records(arguments) => records::run(&arguments, &mut io::stdout().lock()),
            Self::Vips(arguments) => vips::run(&arguments, &mut io::stdout().lock()),
            Self::Run(arguments) => run::run(&arguments),
            Self::Status(arguments) => status::run(&arguments, &mut io::stdout().lock()),
            Self::Top(arguments) => top::run(&arguments, &mut io::stdout().lock()),
        }
    }
}

/// Loads a configuration for a command that needs a valid one; warnings go to stderr.
///
/// # Errors
/// The first problem of the file.
pub fn load_config(path: &Path, surroundings: &Surroundings) -> anyhow::Result<Config> {
    let loaded = config::load(path, surroundings).context("reading the configuration")?;
    for warning in loaded.warnings {
        // Nobody is left to tell when stderr is closed.
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
    Ok(loaded.config)
}
