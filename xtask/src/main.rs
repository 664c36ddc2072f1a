//! The project's own tool: `cargo xtask build | run | test | bench`.
//!
//! Each command lives in the file named after it, and brings along what it needs: `setup` finds or
//! installs it, printing each command before running it. What CI does, `cargo xtask test` does.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod build;
mod master;
mod run;
mod setup;
mod shell;
mod signals;
mod test;
mod test_kernel;
#[path = "../../dns-userspace/build/toolchain.rs"]
mod toolchain;

/// Builds, runs, tests and measures mesos-xdns.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Build(build::Arguments),
    Run(run::Arguments),
    Test(test::Arguments),
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Build(arguments) => build::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
