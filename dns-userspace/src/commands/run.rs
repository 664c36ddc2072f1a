//! `run`: the daemon.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{debug, warn};
use tracing_subscriber::EnvFilter;

use super::{descriptors, load_config, signals};
use crate::config::{Surroundings, XdpMode};
use crate::daemon::{self, Setup};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration, in the format of mesos-dns
    #[arg(long, default_value = "config.json")]
    pub config: PathBuf,
    /// Answer at this interface with XDP; adds to xdp.interfaces
    #[arg(long = "interface", value_name = "IF")]
    pub interfaces: Vec<String>,
    /// In place of xdp.mode
    #[arg(long, value_enum)]
    pub xdp_mode: Option<Mode>,
    /// Load the XDP program in a variant that logs its verdict on each packet: slow
    #[arg(long)]
    pub xdp_trace: bool,
    /// How log lines are written to stderr; which ones, RUST_LOG says
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What is logged unless `RUST_LOG` says it: 0 what happens, 1 more, 2 everything.
    #[arg(skip)]
    pub verbosity: u8,
}

/// Values of `--xdp-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// In the driver if it can
    Auto,
    /// In the driver
    Native,
    /// After the driver, on any interface
    Generic,
    /// By a TC program, without XDP
    Tc,
    /// Not at all
    Off,
}

/// Forms of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One object a line
    Json,
}

/// Runs the daemon until SIGTERM or SIGINT; SIGHUP has it read its configuration again.
///
/// # Errors
/// What kept it from serving.
pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    start_log(arguments);
    if let Err(error) = signals::unblock() {
        warn!(%error, "signals that were blocked from outside stay blocked");
    }
    let setup = arguments.load()?;
    match descriptors::raise_limit() {
        Ok(limit) => debug!(limit, "file descriptors"),
        Err(error) => warn!(%error, "the limit of file descriptors stays as it is"),
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
        let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
        let end = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        // One that waits stands for all that come meanwhile.
        let (sender, reloads) = mpsc::channel(1);
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                let _ = sender.try_send(());
            }
        });
        daemon::run(setup, || arguments.load(), reloads, end).await
    })?;
    Ok(0)
}

impl Arguments {
    /// The configuration, with what the command line says in its place.
    fn load(&self) -> anyhow::Result<Setup> {
        let surroundings = Surroundings::of_this_host().served();
        let mut config = load_config(&self.config, &surroundings)?;
        for interface in &self.interfaces {
            if !config.xdp.interfaces.contains(interface) {
                config.xdp.interfaces.push(interface.clone());
            }
        }
        config.xdp.trace = self.xdp_trace;
        if let Some(mode) = self.xdp_mode {
            config.xdp.mode = match mode {
                Mode::Auto => XdpMode::Auto,
                Mode::Native => XdpMode::Native,
                Mode::Generic => XdpMode::Generic,
                Mode::Tc => XdpMode::Tc,
                Mode::Off => XdpMode::Off,
            };
        }
        Ok(Setup {
            config,
            surroundings,
        })
    }
}

fn start_log(arguments: &Arguments) {
    let level = match arguments.verbosity {
        0 => "info",
        1 => "info,dns_userspace=debug",
        _ => "info,dns_userspace=trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match arguments.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
