//! The TC program at the ingress of an interface: behind the XDP program, for what that has no room
//! for, or in its place.
//!
//! Since Linux 6.6 a link holds it, which is pinned and replaced like that of XDP. Before, it is a
//! filter of the qdisc clsact, which stays without its maker and is found by its name.

use std::path::PathBuf;

use anyhow::{Context, Result};
use aya::programs::links::FdLink;
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, TcAttachType};

use super::bpf;
use super::pins::{self, Held, Pins};
use super::program::{TC_PROGRAM, Xdp};

/// The program at one interface.
#[derive(Debug)]
pub(super) struct Hook {
    interface: String,
    index: u32,
    /// Whether an XDP program is before it.
    is_second: bool,
    /// `None` for a filter.
    link: Option<SchedClassifierLink>,
    pin: Option<PathBuf>,
    /// Id of the program.
    program: u32,
}

impl Hook {
    /// Attaches the program behind those of others.
    ///
    /// # Errors
    /// The kernel did not accept the program, or refuses.
    pub(super) fn attach(
        xdp: &mut Xdp,
        pins: Option<&Pins>,
        interface: &str,
        index: u32,
        is_second: bool,
    ) -> Result<Self> {
        let program = xdp.classifier()?;
        let mut hook = Self {
            interface: interface.to_owned(),
            index,
            is_second,
            link: None,
            pin: None,
            program: program.info()?.id(),
        };
        let failed = || format!("a TC program on {interface}");
        let ingress = TcAttachType::Ingress;
        if bpf::tcx_programs(index).is_err() {
            // One that is there will do; without any the next step fails.
            let _ = tc::qdisc_add_clsact(interface);
            remove_filter(interface);
            let options = TcAttachOptions::Netlink(NlOptions::default());
            let attached = program.attach_with_options(interface, ingress, options);
            let link = program.take_link(attached.with_context(failed)?)?;
            // Dropped, it would take the filter away, which is to outlive the daemon.
            std::mem::forget(link);
            return Ok(hook);
        }
        let options = TcAttachOptions::TcxOrder(LinkOrder::last());
        let attached = program.attach_with_options(interface, ingress, options);
        hook.link = Some(program.take_link(attached.with_context(failed)?)?);
        hook.pin_below(pins)?;
        Ok(hook)
    }

    /// Goes on with a link that an earlier daemon has left.
    ///
    /// # Errors
    /// It is not at this interface.
    pub(super) fn adopt(held: Held, index: u32) -> Result<Self, Held> {
        let is_there = bpf::tcx_programs(index).is_ok_and(|ids| ids.contains(&held.program));
        if !is_there || held.link.is_none() {
            return Err(held);
        }
        let link = held.link.map(SchedClassifierLink::try_from);
        Ok(Self {
            interface: held.interface,
            index,
            is_second: held.is_second,
            link: link.and_then(Result::ok),
            pin: Some(held.path),
            program: held.program,
        })
    }

    /// Puts the program of `xdp` in the place of the one that is there.
    ///
    /// # Errors
    /// The kernel refuses; then none is there.
    pub(super) fn update(mut self, xdp: &mut Xdp, pins: Option<&Pins>) -> Result<Self> {
        let Some(link) = self.link.take() else {
            return Self::attach(xdp, pins, &self.interface, self.index, self.is_second);
        };
        let program = xdp.classifier().inspect_err(|_| self.unpin())?;
        let id = program.attach_to_link(link).inspect_err(|_| self.unpin())?;
        self.link = Some(program.take_link(id)?);
        self.program = program.info()?.id();
        Ok(self)
    }

    /// Pins the link, if it is one, there and nowhere else.
    ///
    /// # Errors
    /// The file system refuses.
    pub(super) fn pin_below(&mut self, pins: Option<&Pins>) -> Result<()> {
        let Some(link) = self.link.take() else {
            return Ok(());
        };
        let mut link = FdLink::try_from(link)?;
        let before = self.pin.take();
        if let Some(pins) = pins {
            let path = pins.hook(self.is_second, &self.interface);
            if before.as_ref() != Some(&path) {
                pins::remove(&path);
            }
            link = FdLink::from(
                link.pin(&path)
                    .with_context(|| format!("pinning {}", path.display()))?,
            );
            self.pin = Some(path);
        }
        self.link = Some(SchedClassifierLink::try_from(link)?);
        if let Some(before) = before {
            pins::remove(&before);
        }
        Ok(())
    }

    /// Takes the program off the interface.
    pub(super) fn detach(mut self) {
        self.unpin();
        if self.link.is_none() {
            remove_filter(&self.interface);
        }
        // Nobody else holds a link: with its descriptor it goes.
    }

    fn unpin(&mut self) {
        if let Some(pin) = self.pin.take() {
            pins::remove(&pin);
        }
    }

    /// Whether it is there by the kernel's own account, as far as that can be asked.
    pub(super) fn is_there(&self) -> bool {
        self.link.is_none()
            || bpf::tcx_programs(self.index).is_ok_and(|ids| ids.contains(&self.program))
    }
}

/// Removes filters of our name from an interface. Gives whether there were any.
pub(super) fn remove_filter(interface: &str) -> bool {
    tc::qdisc_detach_program(interface, TcAttachType::Ingress, TC_PROGRAM).is_ok()
}
