//! `capture`: the frames that pass the XDP program, which tcpdump does not see.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;

use super::api;

/// Arguments of `capture`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    api: api::Target,
    /// Write to this file rather than to standard output
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Take one of so many frames
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// End after so long; without it at Ctrl-C
    #[arg(long, value_name = "N")]
    seconds: Option<u32>,
}

/// Writes a capture in the pcap format, `mesos-xdns capture | tcpdump -nr -` for one.
///
/// # Errors
/// No daemon answers, or the file cannot be written.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<u8> {
    let api = arguments.api.api()?;
    let mut path = format!("/capture?every={}", arguments.every);
    if let Some(seconds) = arguments.seconds {
        path.push_str(&format!("&seconds={seconds}"));
    }
    let mut file = match &arguments.write {
        Some(path) => {
            Some(File::create(path).with_context(|| format!("making {}", path.display()))?)
        }
        None => None,
    };
    api::runtime()?.block_on(async {
        let mut response = api.get(&path).await?;
        while let Some(octets) = response.chunk().await.context("reading the capture")? {
            match &mut file {
                Some(file) => file.write_all(&octets)?,
                None => {
                    out.write_all(&octets)?;
                    out.flush()?;
                }
            }
        }
        Ok(0)
    })
}
