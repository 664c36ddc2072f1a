//! The program on its interfaces.

use anyhow::{Context, Result, anyhow, bail};
use aya::programs::xdp::XdpLinkId;
use aya::programs::{Xdp, XdpMode};
use dns_common::Interface;

use crate::config::host;

/// How the program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As [`Mode::Native`]; user space alone where the driver cannot.
    Auto,
    /// In the driver.
    Native,
    /// After the driver, on any interface: slow, for tests and trials.
    Generic,
    /// Not at all.
    Off,
}

impl Mode {
    /// The word of the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Off => "off",
        }
    }
}

/// One interface and how it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The interface's name.
    pub interface: String,
    /// [`Mode::Native`], [`Mode::Generic`], or [`Mode::Off`] where it did not work.
    pub mode: Mode,
    /// Why it did not work.
    pub problem: Option<String>,
}

/// Attaches the program to the interface of this name.
pub(super) fn attach(program: &mut Xdp, name: &str, mode: Mode) -> Result<(XdpLinkId, Mode)> {
    let (flags, achieved) = match mode {
        Mode::Auto | Mode::Native => (XdpMode::Driver, Mode::Native),
        Mode::Generic => (XdpMode::Skb, Mode::Generic),
        Mode::Off => bail!("switched off"),
    };
    let link = program
        .attach(name, flags)
        .with_context(|| format!("{} XDP on {name}", achieved.name()))?;
    Ok((link, achieved))
}

/// What the program needs to know of the interface.
pub(super) fn describe(name: &str) -> Result<Interface> {
    let found = host::interface(name)
        .context("listing the network interfaces")?
        .ok_or_else(|| anyhow!("there is no interface {name}"))?;
    let mac = found.mac.unwrap_or_default();
    let [a, b, c, d, e, f] = mac;
    Ok(Interface {
        mac: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
        index: found.index,
        reserved: 0,
    })
}
