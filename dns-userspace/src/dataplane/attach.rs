//! The program on its interfaces.

use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use aya::programs::links::FdLink;
use aya::programs::xdp::XdpLink;
use aya::programs::{XdpMode, loaded_programs};
use dns_common::Interface;
use tracing::{info, warn};

use super::device::{self, Device};
use super::pins::{Held, Pins};
use super::program::Xdp;
use super::reason;

/// A result whose error is a problem to tell.
type Result<T, E = anyhow::Error> = std::result::Result<T, E>;

/// How the program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As [`Mode::Native`]; where the driver cannot, as [`Mode::Generic`] if that is allowed, or
    /// else user space alone.
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

/// The mode that is wanted, and whether `auto` may be generic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) mode: Mode,
    pub(super) allows_generic: bool,
}

impl Wanted {
    /// The modes to try, in order.
    const fn modes(self) -> &'static [Mode] {
        match (self.mode, self.allows_generic) {
            (Mode::Off, _) => &[],
            (Mode::Generic, _) => &[Mode::Generic],
            (Mode::Auto, true) => &[Mode::Native, Mode::Generic],
            (Mode::Auto, false) | (Mode::Native, _) => &[Mode::Native],
        }
    }

    /// Whether a link of this mode will do.
    pub(super) fn allows(self, mode: Mode) -> bool {
        self.modes().contains(&mode)
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
    /// Driver, MTU and queues, and why it is not native where that was tried.
    pub detail: String,
}

/// One interface as the daemon holds it.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) name: String,
    /// Its index when it was attached, 0 if it was not there.
    pub(super) index: u32,
    mac: Option<[u8; 6]>,
    /// The mode of the link; [`Mode::Off`] without one.
    mode: Mode,
    link: Option<XdpLink>,
    pin: Option<PathBuf>,
    /// Id of the program that the link holds.
    program: u32,
    /// Whether that is the program of an earlier set of maps.
    pub(super) is_waiting: bool,
    problem: Option<String>,
    /// Driver, MTU and queues, and what was tried in vain before.
    detail: String,
}

impl Port {
    /// Attaches the program to the interface of this name, or keeps why not.
    pub(super) fn attach(xdp: &mut Xdp, pins: Option<&Pins>, name: &str, wanted: Wanted) -> Self {
        let mut port = Self {
            name: name.to_owned(),
            index: 0,
            mac: None,
            mode: Mode::Off,
            link: None,
            pin: None,
            program: 0,
            is_waiting: false,
            problem: None,
            detail: String::new(),
        };
        if let Err(error) = port.try_attach(xdp, pins, wanted) {
            port.problem = Some(reason::explain(&error));
        }
        port.log();
        port
    }

    /// Goes on with a link that an earlier daemon has left.
    ///
    /// # Errors
    /// It is not that of the interface of its name, or not of a mode that is wanted.
    pub(super) fn adopt(xdp: &mut Xdp, held: Held, wanted: Wanted) -> Result<Self, Held> {
        let device = Device::named(&held.interface).ok().flatten();
        let is_usable = |device: &Device| {
            let there = match held.mode {
                Mode::Generic => device.generic,
                _ => device.native,
            };
            there == Some(held.program) && wanted.allows(held.mode)
        };
        let Some(device) = device.filter(is_usable) else {
            return Err(held);
        };
        let Held {
            path,
            mode,
            interface,
            link,
            program,
        } = held;
        let told = xdp.set_interface(describe(&device));
        let mut port = Self {
            detail: detail(&interface, &device),
            name: interface,
            index: device.index,
            mac: device.mac,
            mode,
            link: None,
            pin: Some(path),
            program,
            is_waiting: true,
            problem: None,
        };
        let link = link
            .context("the pin is no link")
            .and_then(|link| Ok(XdpLink::try_from(link)?));
        match told.and(link) {
            Ok(link) => port.link = Some(link),
            Err(error) => port.problem = Some(reason::explain(&error)),
        }
        Ok(port)
    }

    fn try_attach(&mut self, xdp: &mut Xdp, pins: Option<&Pins>, wanted: Wanted) -> Result<()> {
        let device = Device::named(&self.name)
            .context("asking for the network interface")?
            .ok_or_else(|| anyhow!("there is no interface {}", self.name))?;
        self.index = device.index;
        self.mac = device.mac;
        self.detail = detail(&self.name, &device);
        if let Some(other) = device.programs().next() {
            bail!(
                "another XDP program, {}, is attached to {}",
                program_named(other),
                self.name
            );
        }
        xdp.set_interface(describe(&device))?;
        let mut refused: Option<anyhow::Error> = None;
        for &mode in wanted.modes() {
            let Err(error) = self.link_in(xdp, pins, mode) else {
                if let Some(error) = refused {
                    self.detail =
                        format!("{}; not native: {}", self.detail, reason::explain(&error));
                }
                return Ok(());
            };
            refused = Some(match refused {
                None => error,
                Some(first) => anyhow!("{}; {}", reason::explain(&first), reason::explain(&error)),
            });
        }
        let error = refused.unwrap_or_else(|| anyhow!("switched off"));
        Err(error.context(self.detail.clone()))
    }

    fn link_in(&mut self, xdp: &mut Xdp, pins: Option<&Pins>, mode: Mode) -> Result<()> {
        let flags = match mode {
            Mode::Generic => XdpMode::Skb,
            _ => XdpMode::Driver,
        };
        let program = xdp.program()?;
        let id = program
            .attach_to_if_index(self.index, flags)
            .with_context(|| format!("{} XDP on {}", mode.name(), self.name))?;
        let mut link = program.take_link(id)?;
        self.program = program.info()?.id();
        if let Some(pins) = pins {
            let path = pins.link(mode, &self.name);
            super::pins::remove(&path);
            let pinned = FdLink::try_from(link)?.pin(&path);
            let pinned = pinned.with_context(|| format!("pinning {}", path.display()))?;
            link = XdpLink::try_from(FdLink::from(pinned))?;
            self.pin = Some(path);
        }
        self.link = Some(link);
        self.mode = mode;
        Ok(())
    }

    /// Tells another set of maps of the interface.
    pub(super) fn tell(&self, xdp: &mut Xdp) {
        let device = Device {
            index: self.index,
            mac: self.mac,
            ..Device::default()
        };
        if let Err(error) = xdp.set_interface(describe(&device)) {
            warn!(interface = self.name, error = format!("{error:#}"));
        }
    }

    /// Puts the program in the place of the one that the link holds, without a packet in between
    /// that meets neither.
    pub(super) fn update(&mut self, xdp: &mut Xdp) {
        self.is_waiting = false;
        let Some(link) = self.link.take() else {
            return;
        };
        let replaced = xdp.program().and_then(|program| {
            let id = program.attach_to_link(link)?;
            let id_of_program = program.info()?.id();
            Ok((program.take_link(id)?, id_of_program))
        });
        match replaced {
            Ok((link, program)) => {
                self.link = Some(link);
                self.program = program;
                info!(
                    interface = self.name,
                    mode = self.mode.name(),
                    "XDP replaced"
                );
            }
            Err(error) => {
                let error = error.context("replacing the program");
                self.problem = Some(reason::explain(&error));
                self.detach();
                self.log();
            }
        }
    }

    /// Pins the link elsewhere.
    pub(super) fn pin_below(&mut self, pins: Option<&Pins>) -> Result<()> {
        let Some(link) = self.link.take() else {
            return Ok(());
        };
        let link = FdLink::try_from(link)?;
        let before = self.pin.take();
        self.link = Some(match pins {
            Some(pins) => {
                let path = pins.link(self.mode, &self.name);
                let link = link.pin(&path)?;
                self.pin = Some(path);
                XdpLink::try_from(FdLink::from(link))?
            }
            None => XdpLink::try_from(link)?,
        });
        if let Some(before) = before {
            super::pins::remove(&before);
        }
        Ok(())
    }

    /// Takes the program off the interface.
    pub(super) fn detach(&mut self) {
        if let Some(pin) = self.pin.take() {
            super::pins::remove(&pin);
        }
        // Nobody else holds the link: with its descriptor it goes.
        self.link = None;
        self.mode = Mode::Off;
        self.is_waiting = false;
    }

    /// Whether it is attached, as far as we know.
    pub(super) const fn is_attached(&self) -> bool {
        self.link.is_some()
    }

    /// The mode of its link.
    pub(super) const fn mode(&self) -> Mode {
        self.mode
    }

    /// Takes in what has become of the interface. Gives whether it is to be attached again.
    pub(super) fn refresh(&mut self, xdp: &mut Xdp) -> bool {
        let Ok(device) = Device::named(&self.name) else {
            return false;
        };
        let Some(device) = device else {
            if self.index != 0 {
                self.detach();
                self.index = 0;
                self.problem = Some(format!("there is no interface {} any more", self.name));
                self.log();
            }
            return false;
        };
        if device.index != self.index {
            return true;
        }
        if device.mac != self.mac && self.is_attached() {
            match xdp.set_interface(describe(&device)) {
                Ok(()) => info!(interface = self.name, "another link-layer address"),
                Err(error) => warn!(interface = self.name, error = format!("{error:#}")),
            }
        }
        self.mac = device.mac;
        false
    }

    /// What the kernel says of it at this moment.
    pub(super) fn attachment(&self) -> Attachment {
        let mut attachment = Attachment {
            interface: self.name.clone(),
            mode: self.mode,
            problem: self.problem.clone(),
            detail: self.detail.clone(),
        };
        if !self.is_attached() {
            attachment.mode = Mode::Off;
            return attachment;
        }
        let problem = match Device::named(&self.name) {
            Ok(Some(device)) if device.programs().any(|id| id == self.program) => {
                return attachment;
            }
            Ok(Some(device)) => match device.programs().next() {
                Some(other) => format!(
                    "detached from outside; XDP program {} is there",
                    program_named(other)
                ),
                None => "detached from outside".to_owned(),
            },
            Ok(None) => format!("there is no interface {} any more", self.name),
            Err(error) => format!("the kernel does not say what is attached: {error}"),
        };
        attachment.mode = Mode::Off;
        attachment.problem = Some(problem);
        attachment
    }

    fn log(&self) {
        match &self.problem {
            None => info!(
                interface = self.name,
                mode = self.mode.name(),
                detail = self.detail,
                "XDP attached"
            ),
            Some(problem) => warn!(interface = self.name, problem, "XDP not attached"),
        }
    }
}

/// What the program needs to know of an interface.
fn describe(device: &Device) -> Interface {
    let [a, b, c, d, e, f] = device.mac.unwrap_or_default();
    Interface {
        mac: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
        index: device.index,
        reserved: 0,
    }
}

/// What decides over native mode.
fn detail(name: &str, device: &Device) -> String {
    let driver = device::driver(name).unwrap_or_else(|| "none".to_owned());
    let (mtu, queues) = (device.mtu, device.queues);
    format!("driver {driver}, MTU {mtu}, receive queues {queues}")
}

/// A program as `bpftool` would show it. Its name takes `CAP_SYS_ADMIN`.
pub(super) fn program_named(id: u32) -> String {
    let name = loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)
        .and_then(|program| program.name_as_str().map(str::to_owned));
    name.map_or_else(|| format!("id {id}"), |name| format!("{name} (id {id})"))
}
