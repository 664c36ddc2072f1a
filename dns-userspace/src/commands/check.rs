//! `check`: says everything that is wrong with a configuration.

use std::io::Write;
use std::path::PathBuf;

use crate::config::{self, Surroundings};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration, in the format of mesos-dns
    #[arg(long, default_value = "config.json")]
    pub config: PathBuf,
}

/// Checks, and gives 0 for a valid file and 1 for another.
///
/// # Errors
/// When the findings cannot be written.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<u8> {
    let checked = config::check(&arguments.config, &Surroundings::of_this_host());
    for warning in &checked.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    for problem in &checked.problems {
        writeln!(out, "error: {problem}")?;
    }
    match checked.problems.len() {
        0 => {
            writeln!(out, "{}: valid", arguments.config.display())?;
            Ok(0)
        }
        1 => Ok(1),
        more => {
            writeln!(out, "{more} problems")?;
            Ok(1)
        }
    }
}
