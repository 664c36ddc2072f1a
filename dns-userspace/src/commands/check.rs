//! `check`: says everything that is wrong with a configuration.

use std::io::Write;
use std::path::PathBuf;

use super::against;
use crate::config::{self, Surroundings};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration, in the format of mesos-dns
    #[arg(long, default_value = "config.json")]
    pub config: PathBuf,
    /// Compare with what a running mesos-dns serves, by its HTTP API: http://host:8123
    #[arg(long, value_name = "URL")]
    pub against: Option<String>,
}

/// Checks, and gives 0 for a valid file and 1 for another; 1 too if what is served differs.
///
/// # Errors
/// When the findings cannot be written, or what is served cannot be had.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<u8> {
    let surroundings = Surroundings::of_this_host().served();
    let checked = config::check(&arguments.config, &surroundings);
    for warning in &checked.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    for problem in &checked.problems {
        writeln!(out, "error: {problem}")?;
    }
    match checked.problems.len() {
        0 => {
            writeln!(out, "{}: valid", arguments.config.display())?;
            match (&arguments.against, &checked.config) {
                (Some(url), Some(config)) => against::run(config, &surroundings, url, out),
                _ => Ok(0),
            }
        }
        1 => Ok(1),
        more => {
            writeln!(out, "{more} problems")?;
            Ok(1)
        }
    }
}
