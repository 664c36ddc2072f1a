//! The program on its interfaces.

use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use aya::programs::links::FdLink;
use aya::programs::xdp::XdpLink;
use aya::programs::{XdpMode, loaded_programs};
use dns_common::Interface;
use dns_common::policy::interface_flags;
use tracing::{info, warn};

use super::device::{self, Device};
use super::hook::Hook;
use super::pins::{Held, Pins};
use super::program::Xdp;
use super::reason;

/// A result whose error is a problem to tell.
type Result<T, E = anyhow::Error> = std::result::Result<T, E>;

/// How the program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As [`Mode::Native`]; where the driver cannot, as [`Mode::Generic`] if that is allowed, or
    /// else as [`Mode::Tc`], or else user space alone.
    Auto,
    /// In the driver.
    Native,
    /// After the driver, on any interface: slow, for tests and trials.
    Generic,
    /// By the TC program, without XDP.
    Tc,
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
            Self::Tc => "tc",
            Self::Off => "off",
        }
    }
}

/// The mode that is wanted, and what `auto` may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) mode: Mode,
    pub(super) allows_generic: bool,
    /// Whether the TC program is wanted behind XDP, and by `auto` in its place.
    pub(super) tc: bool,
}

impl Wanted {
    /// The modes to try, in order.
    fn modes(self) -> impl Iterator<Item = Mode> {
        let auto = self.mode == Mode::Auto;
        let fits = move |one: &Mode| match one {
            Mode::Native => auto,
            Mode::Generic => auto && self.allows_generic,
            Mode::Tc => auto && self.tc,
            Mode::Auto | Mode::Off => false,
        };
        [Mode::Native, Mode::Generic, Mode::Tc]
            .into_iter()
            .filter(move |one| *one == self.mode || fits(one))
    }

    /// Whether a link of this mode will do.
    pub(super) fn allows(self, mode: Mode) -> bool {
        self.modes().any(|one| one == mode)
    }
}

/// One interface and how it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The interface's name.
    pub interface: String,
    /// [`Mode::Native`], [`Mode::Generic`], [`Mode::Tc`], or [`Mode::Off`] where it did not work.
    pub mode: Mode,
    /// Why it did not work.
    pub problem: Option<String>,
    /// Driver, MTU and queues, why it is not native where that was tried, and what there is of TC.
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
    /// The TC program: behind the XDP program, or alone.
    hook: Option<Hook>,
    /// Why it is not behind the XDP program, although it is wanted.
    hook_problem: Option<String>,
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
            hook: None,
            hook_problem: None,
            is_waiting: false,
            problem: None,
            detail: String::new(),
        };
        if let Err(error) = port.try_attach(xdp, pins, wanted) {
            port.problem = Some(reason::explain(&error));
        }
        port.log();
        port.complete(xdp, pins, wanted.tc);
        port
    }

    /// Attaches the TC program behind the XDP program, if it is wanted and not there, or takes it
    /// away if it is not wanted. Without it the kernel answers what it can in XDP.
    pub(super) fn complete(&mut self, xdp: &mut Xdp, pins: Option<&Pins>, wants_tc: bool) {
        // An earlier daemon's XDP program is not followed by ours.
        if self.link.is_none() || self.is_waiting || wants_tc == self.hook.is_some() {
            return;
        }
        if let Some(hook) = self.hook.take() {
            hook.detach();
            info!(interface = self.name, "TC detached");
            return;
        }
        let attached = Hook::attach(xdp, pins, &self.name, self.index, true);
        self.take_hook(attached, "TC attached");
    }

    fn take_hook(&mut self, result: Result<Hook>, what: &str) {
        match result {
            Ok(hook) => {
                self.hook = Some(hook);
                self.hook_problem = None;
                info!(interface = self.name, "{what}");
            }
            Err(error) => {
                let problem = reason::explain(&error);
                // Said once; the status goes on saying it.
                if self.hook_problem.as_ref() != Some(&problem) {
                    warn!(
                        interface = self.name,
                        problem, "no TC program answers what XDP has no room for"
                    );
                }
                self.hook_problem = Some(problem);
            }
        }
    }

    /// Goes on with the link of a TC program behind this XDP program that an earlier daemon has
    /// left.
    ///
    /// # Errors
    /// It is not that of this interface.
    pub(super) fn adopt_hook(&mut self, held: Held) -> Result<(), Held> {
        self.hook = Some(Hook::adopt(held, self.index)?);
        Ok(())
    }

    /// Goes on with a link that an earlier daemon has left.
    ///
    /// # Errors
    /// It is not that of the interface of its name, or not of a mode that is wanted.
    pub(super) fn adopt(xdp: &mut Xdp, held: Held, wanted: Wanted) -> Result<Self, Held> {
        let device = Device::named(&held.interface).ok().flatten();
        let is_usable = |device: &Device| match held.mode {
            Mode::Generic => device.generic == Some(held.program),
            // Seen to by the hook.
            Mode::Tc => true,
            _ => device.native == Some(held.program),
        };
        let device = device.filter(|device| wanted.allows(held.mode) && is_usable(device));
        let Some(device) = device else {
            return Err(held);
        };
        let mut port = Self {
            detail: detail(&held.interface, &device),
            name: held.interface.clone(),
            index: device.index,
            mac: device.mac,
            mode: held.mode,
            link: None,
            pin: None,
            program: held.program,
            hook: None,
            hook_problem: None,
            is_waiting: true,
            problem: None,
        };
        let told = xdp.set_interface(describe(&device, held.mode));
        if held.mode == Mode::Tc {
            port.adopt_hook(held)?;
            if let Err(error) = told {
                port.problem = Some(reason::explain(&error));
                port.detach();
            }
            return Ok(port);
        }
        let Held { path, link, .. } = held;
        port.pin = Some(path);
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
        let other = device.programs().next();
        let mut refused = other.map(|id| {
            let other = program_named(id);
            anyhow!("another XDP program, {other}, is attached to {}", self.name)
        });
        let is_free = other.is_none();
        for mode in wanted.modes().filter(|one| is_free || *one == Mode::Tc) {
            xdp.set_interface(describe(&device, mode))?;
            let attached = match mode {
                Mode::Tc => self.hook_in(xdp, pins, &device),
                _ => self.link_in(xdp, pins, mode),
            };
            let Err(error) = attached else {
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

    /// Attaches the TC program in the place of an XDP program.
    fn hook_in(&mut self, xdp: &mut Xdp, pins: Option<&Pins>, device: &Device) -> Result<()> {
        if device.mac.is_none() {
            bail!("{} has no Ethernet frames", self.name);
        }
        let hook = Hook::attach(xdp, pins, &self.name, self.index, false)?;
        self.hook = Some(hook);
        self.mode = Mode::Tc;
        Ok(())
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
        if let Err(error) = xdp.set_interface(describe(&device, self.mode)) {
            warn!(interface = self.name, error = format!("{error:#}"));
        }
    }

    /// Puts the programs in the place of those that the links hold, without a packet in between
    /// that meets neither.
    pub(super) fn update(&mut self, xdp: &mut Xdp, pins: Option<&Pins>, wants_tc: bool) {
        self.is_waiting = false;
        self.update_link(xdp);
        if let Some(hook) = self.hook.take() {
            let updated = hook.update(xdp, pins);
            self.take_hook(updated, "TC replaced");
            if self.mode == Mode::Tc && self.hook.is_none() {
                self.problem = self.hook_problem.take();
                self.detach();
                self.log();
            }
        }
        self.complete(xdp, pins, wants_tc);
    }

    fn update_link(&mut self, xdp: &mut Xdp) {
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

    /// Pins the links elsewhere.
    pub(super) fn pin_below(&mut self, pins: Option<&Pins>) -> Result<()> {
        if let Some(hook) = &mut self.hook {
            hook.pin_below(pins)?;
        }
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

    /// Takes the programs off the interface.
    pub(super) fn detach(&mut self) {
        if let Some(hook) = self.hook.take() {
            hook.detach();
        }
        if let Some(pin) = self.pin.take() {
            super::pins::remove(&pin);
        }
        // Nobody else holds the link: with its descriptor it goes.
        self.link = None;
        self.mode = Mode::Off;
        self.is_waiting = false;
    }

    /// Whether it is attached, as far as we know.
    pub(super) fn is_attached(&self) -> bool {
        self.link.is_some() || (self.mode == Mode::Tc && self.hook.is_some())
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
            match xdp.set_interface(describe(&device, self.mode)) {
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
        let has_hook = self.hook.as_ref().is_some_and(Hook::is_there);
        if self.mode == Mode::Tc {
            if !has_hook {
                attachment.mode = Mode::Off;
                attachment.problem = Some("detached from outside".to_owned());
            }
            return attachment;
        }
        match (&self.hook, &self.hook_problem) {
            (Some(_), _) if has_hook => attachment.detail += "; TC behind it",
            (Some(_), _) => attachment.detail += "; TC behind it detached from outside",
            (None, Some(problem)) => attachment.detail += &format!("; no TC behind it: {problem}"),
            (None, None) => {}
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

/// What the programs need to know of an interface.
fn describe(device: &Device, mode: Mode) -> Interface {
    let [a, b, c, d, e, f] = device.mac.unwrap_or_default();
    Interface {
        mac: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
        index: device.index,
        flags: match mode {
            Mode::Tc => interface_flags::TC_ALONE,
            _ => 0,
        },
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
