//! The command line of mesos-xdns: one command, and the only place where the process exits.

use std::process::ExitCode;

use clap::Parser;
use dns_userspace::commands::{Command, mesos_dns};
use dns_userspace::memory::Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// DNS for Mesos and DC/OS clusters, answered at the network card
#[derive(Debug, Parser)]
#[command(name = "mesos-xdns", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    // An error means that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let result = match mesos_dns::parse(&words.collect::<Vec<_>>()) {
        Some(request) => request.run(),
        None => Arguments::parse().command.run(),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("mesos-xdns: {error:#}");
            ExitCode::FAILURE
        }
    }
}
