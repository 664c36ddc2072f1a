//! The program at its interfaces, from a start that may find another daemon's to an end that may
//! leave ours.
//!
//! A start with maps that fit takes them over, answers included, and puts its program in the place
//! of the earlier one at once. Where they do not fit, as after an upgrade, the earlier program goes
//! on with its own maps until ours hold everything, and only then is replaced. Either way every
//! packet meets a program that can answer.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use dns_common::policy::LEASE_WORD;
use tracing::{info, warn};

use super::attach::{Attachment, Port, Wanted};
use super::bpf;
use super::hook;
use super::lease::Lease;
use super::mapping::Mapping;
use super::pins::{self, Held, Pins, Set};
use super::program::{Settings, Xdp};
use crate::zones::Snapshot;

/// How long an earlier program answers after the first zone is known, for those that are not.
const PATIENCE: Duration = Duration::from_secs(10);

/// What becomes of the program when the daemon ends or is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Where maps and links are pinned, in a BPF file system.
    pub pin_path: PathBuf,
    /// Whether the program is left behind at an orderly end.
    pub stays: bool,
    /// Seconds without a sign of the daemon after which the kernel stops to answer; 0 for never.
    pub lease_seconds: u32,
    /// Whether an interface may be served in generic mode where native mode was preferred.
    pub allows_generic: bool,
    /// Whether the variant of the program is loaded that logs its verdicts.
    pub traces: bool,
}

/// How the program is held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pinning {
    /// Where maps and links are pinned.
    pub path: Option<PathBuf>,
    /// Why they are not.
    pub problem: Option<String>,
}

/// An attached program.
pub struct Running {
    xdp: Xdp,
    object: &'static [u8],
    settings: Settings,
    life: Life,
    lease: Lease,
    pins: Result<Pins, String>,
    /// Where the maps are pinned.
    directory: Option<PathBuf>,
    ports: Vec<Port>,
    /// Whether the maps hold all that is to be known.
    is_settled: bool,
    /// When the first zone was known.
    known_since: Option<Instant>,
}

impl Running {
    /// Loads `object` and attaches it. Some interface must take it, or come later.
    ///
    /// # Errors
    /// Says what keeps the kernel from answering. Nothing of an earlier daemon is left then.
    pub(super) fn start(
        object: &'static [u8],
        settings: &Settings,
        life: &Life,
        lease: &Lease,
        may_adopt: bool,
    ) -> Result<Self> {
        let pins = Pins::open(&life.pin_path).map_err(|error| format!("{error:#}"));
        if let Err(problem) = &pins {
            warn!(problem, "XDP is not pinned: it leaves with the daemon");
        }
        let started = Self::start_with(object, settings, life, lease, pins, may_adopt);
        if started.is_err() {
            lease.release();
            remove_leftovers(&life.pin_path, &settings.interfaces);
        }
        started
    }

    fn start_with(
        object: &'static [u8],
        settings: &Settings,
        life: &Life,
        lease: &Lease,
        pins: Result<Pins, String>,
        may_adopt: bool,
    ) -> Result<Self> {
        let (held, sets) = match &pins {
            Ok(pins) => (pins.links(), pins.sets()),
            Err(_) => (Vec::new(), Vec::new()),
        };
        let current = sets
            .iter()
            .find(|set| held.iter().any(|link| set.is_read_by(link)));
        let adopted = current
            .or_else(|| sets.iter().find(|set| set.is_ours()))
            .filter(|set| may_adopt && set.is_ours())
            .and_then(|set| adopt(object, settings, set));
        let is_adopted = adopted.is_some();
        let (mut xdp, directory) = match adopted {
            Some((xdp, set)) => (xdp, Some(set.directory.clone())),
            None => load(object, settings, pins.as_ref().ok())?,
        };
        lease.set_clock(xdp.clock()?);
        lease.set_length(life.lease_seconds);
        if let Some(current) = current.filter(|_| !is_adopted) {
            // Whom the earlier program answers is not known here.
            let result = match settings.allowed.is_empty() {
                true => renew_for(current, lease),
                false => silence(current),
            };
            if let Err(error) = result {
                warn!(
                    error = format!("{error:#}"),
                    "the lease of an earlier daemon is not changed"
                );
            }
        }
        // What has run out is old, and waits until it is brought up to date.
        if !is_adopted || lease.is_running(xdp.policy())? {
            lease.hold(xdp.policy())?;
        }
        let mut running = Self {
            ports: Vec::new(),
            is_settled: false,
            known_since: None,
            object,
            settings: settings.clone(),
            life: life.clone(),
            lease: lease.clone(),
            pins,
            directory,
            xdp,
        };
        running.take_links(held, is_adopted);
        running.attach_missing();
        if running
            .ports
            .iter()
            .all(|port| !port.is_attached() && port.index != 0)
        {
            bail!("{}", running.problem().unwrap_or_default());
        }
        Ok(running)
    }

    const fn wanted(&self) -> Wanted {
        Wanted {
            mode: self.settings.mode,
            allows_generic: self.life.allows_generic,
            tc: self.settings.tc,
        }
    }

    /// Goes on with links of an earlier daemon, and removes those that nobody wants.
    fn take_links(&mut self, held: Vec<Held>, is_adopted: bool) {
        let wanted = self.wanted();
        let mut served = HashSet::new();
        let (second, first): (Vec<_>, Vec<_>) = held.into_iter().partition(|link| link.is_second);
        for link in first {
            let is_wanted = self.settings.interfaces.contains(&link.interface)
                && !served.contains(&link.interface);
            let taken = match is_wanted {
                true => Port::adopt(&mut self.xdp, link, wanted),
                false => Err(link),
            };
            match taken {
                Ok(port) => {
                    served.insert(port.name.clone());
                    self.ports.push(port);
                }
                Err(link) => drop_link(&link),
            }
        }
        for link in second {
            let mut ports = self.ports.iter_mut();
            let port = ports.find(|port| port.name == link.interface);
            let taken = match port.filter(|_| wanted.tc) {
                Some(port) => port.adopt_hook(link),
                None => Err(link),
            };
            if let Err(link) = taken {
                drop_link(&link);
            }
        }
        if is_adopted {
            self.replace_programs();
        } else if self.ports.is_empty() {
            self.forget_others();
        } else {
            info!("the program of an earlier version answers until the names are known");
        }
    }

    /// Attaches to the interfaces that have no port yet, in the order of the configuration, and sees
    /// to what is behind the others.
    fn attach_missing(&mut self) {
        let wanted = self.wanted();
        for port in &mut self.ports {
            port.complete(&mut self.xdp, self.pins.as_ref().ok(), wanted.tc);
        }
        for name in &self.settings.interfaces {
            if !self.ports.iter().any(|port| port.name == *name) {
                let port = Port::attach(&mut self.xdp, self.pins.as_ref().ok(), name, wanted);
                self.ports.push(port);
            }
        }
    }

    /// Puts our program in the place of any earlier one.
    fn replace_programs(&mut self) {
        let pins = self.pins.as_ref().ok();
        for port in self.ports.iter_mut().filter(|port| port.is_waiting) {
            port.update(&mut self.xdp, pins, self.settings.tc);
        }
        self.forget_others();
    }

    /// Removes all sets of maps but ours, and the program that ours has replaced.
    fn forget_others(&mut self) {
        self.lease.hold_only(self.xdp.policy());
        let (Ok(pins), Some(directory)) = (&self.pins, &self.directory) else {
            return;
        };
        pins.keep_only(Some(directory));
        for (now, next) in pins::PROGRAMS {
            let next = directory.join(next);
            if next.exists()
                && let Err(error) = std::fs::rename(&next, directory.join(now))
            {
                warn!(%error, "the pin of the program keeps its name");
            }
        }
    }

    /// Brings the maps to `snapshot`.
    ///
    /// # Errors
    /// The kernel refuses an update.
    pub(super) fn publish(&mut self, snapshot: &Arc<Snapshot>) -> io::Result<()> {
        self.xdp.publish(snapshot)?;
        let mut zones = snapshot.zones().iter();
        if self.known_since.is_none() && zones.any(|zone| zone.complete) {
            self.known_since = Some(Instant::now());
        }
        let is_complete = self.known_since.is_some() && zones_are_complete(snapshot);
        self.settle(is_complete)
    }

    /// Has our program answer by what it knows: all zones, or those that came in good time.
    fn settle(&mut self, is_complete: bool) -> io::Result<()> {
        let is_late = self
            .known_since
            .is_some_and(|since| since.elapsed() > PATIENCE);
        if self.is_settled || !(is_complete || is_late) {
            return Ok(());
        }
        self.is_settled = true;
        if self.ports.iter().any(|port| port.is_waiting) {
            self.replace_programs();
        }
        self.lease.hold(self.xdp.policy())
    }

    /// Goes on by other settings, with other maps if it says so. The kernel answers throughout.
    ///
    /// # Errors
    /// The maps that they ask for cannot be had; those that are there stay.
    pub(super) fn change(&mut self, settings: &Settings, life: &Life) -> Result<bool> {
        let is_elsewhere = life.pin_path != self.life.pin_path;
        let before = self.settings.max_names;
        self.settings = settings.clone();
        self.life = life.clone();
        self.lease.set_length(life.lease_seconds);
        self.lease.renew()?;
        let is_renewed = is_elsewhere || settings.max_names != before;
        // Those that will be replaced too answer until then.
        self.xdp.set_policy(settings);
        let renewed = match is_renewed {
            true => self.renew_maps(is_elsewhere),
            false => Ok(()),
        };
        if renewed.is_err() {
            self.settings.max_names = before;
        }
        let wanted = self.wanted();
        self.ports.retain_mut(|port| {
            let stays = settings.interfaces.contains(&port.name) && wanted.allows(port.mode());
            if !stays {
                port.detach();
            }
            stays
        });
        self.attach_missing();
        renewed.map(|()| is_renewed)
    }

    /// Makes maps anew. Their program takes the place of the one that answers when they are full.
    fn renew_maps(&mut self, is_elsewhere: bool) -> Result<()> {
        let mut elsewhere = None;
        if is_elsewhere {
            let pins = Pins::open(&self.life.pin_path).map_err(|error| format!("{error:#}"));
            if let Err(problem) = &pins {
                warn!(problem, "XDP is not pinned: it leaves with the daemon");
            }
            if let Ok(pins) = &pins {
                pins.links().iter().for_each(drop_link);
            }
            elsewhere = Some(pins);
        }
        let pins = elsewhere.as_ref().unwrap_or(&self.pins);
        let (mut xdp, directory) = load(self.object, &self.settings, pins.as_ref().ok())?;
        self.lease.hold(xdp.policy())?;
        for port in &mut self.ports {
            port.tell(&mut xdp);
            port.is_waiting = port.is_attached();
        }
        self.xdp = xdp;
        self.directory = directory;
        self.is_settled = false;
        self.known_since = None;
        if let Some(pins) = elsewhere {
            for port in &mut self.ports {
                if let Err(error) = port.pin_below(pins.as_ref().ok()) {
                    warn!(
                        interface = port.name,
                        error = format!("{error:#}"),
                        "not pinned"
                    );
                }
            }
            if let Ok(before) = std::mem::replace(&mut self.pins, pins) {
                before.remove_all();
            }
        }
        Ok(())
    }

    /// Takes in what has become of the interfaces.
    pub(super) fn refresh(&mut self) {
        if let Err(error) = self.settle(false) {
            warn!(%error, "the kernel's lease is not renewed");
        }
        let wanted = self.wanted();
        for port in &mut self.ports {
            if port.refresh(&mut self.xdp) {
                port.detach();
                *port = Port::attach(&mut self.xdp, self.pins.as_ref().ok(), &port.name, wanted);
            }
        }
    }

    /// Ends with the daemon: leaves the program to the next one, or takes it away.
    pub(super) fn end(mut self) {
        let answers = self.problem().is_none();
        if self.life.stays && self.pins.is_ok() {
            if let Err(error) = self.lease.renew() {
                warn!(%error, "the lease is not renewed");
            }
            if answers {
                info!(
                    lease_seconds = self.life.lease_seconds,
                    "XDP stays and answers"
                );
            }
        } else {
            self.remove();
            if answers {
                info!("XDP is detached");
            }
        }
    }

    /// Takes program and maps away.
    pub(super) fn remove(&mut self) {
        self.lease.release();
        for port in &mut self.ports {
            port.detach();
        }
        if let Ok(pins) = std::mem::replace(&mut self.pins, Err("removed".to_owned())) {
            pins.remove_all();
        }
    }

    pub(super) const fn xdp(&self) -> &Xdp {
        &self.xdp
    }

    pub(super) const fn xdp_mut(&mut self) -> &mut Xdp {
        &mut self.xdp
    }

    /// How each interface is served, by the kernel's own account.
    pub(super) fn attachments(&self) -> Vec<Attachment> {
        self.ports.iter().map(Port::attachment).collect()
    }

    /// Why no interface is served; `None` if one is.
    pub(super) fn problem(&self) -> Option<String> {
        let mut problems = Vec::new();
        for one in self.attachments() {
            problems.push(one.problem?);
        }
        Some(problems.join("; "))
    }

    pub(super) fn pinning(&self) -> Pinning {
        match &self.pins {
            Ok(pins) if pins.root().exists() => Pinning {
                path: Some(pins.root().to_owned()),
                problem: None,
            },
            Ok(_) => Pinning {
                path: None,
                problem: Some("removed from outside".to_owned()),
            },
            Err(problem) => Pinning {
                path: None,
                problem: Some(problem.clone()),
            },
        }
    }
}

/// Removes what an earlier daemon has left at a pin path and, where that can have no pin, at these
/// interfaces.
pub(super) fn remove_leftovers(pin_path: &Path, interfaces: &[String]) {
    for interface in interfaces {
        if hook::remove_filter(interface) {
            info!(interface, "the TC program of an earlier daemon is removed");
        }
    }
    if pin_path.exists()
        && let Ok(pins) = Pins::open(pin_path)
    {
        let links = pins.links();
        if !links.is_empty() {
            info!(path = %pin_path.display(), "the XDP program of an earlier daemon is removed");
        }
        links.iter().for_each(drop_link);
        pins.remove_all();
    }
}

fn adopt<'s>(object: &[u8], settings: &Settings, set: &'s Set) -> Option<(Xdp, &'s Set)> {
    match Xdp::adopt(object, settings, set) {
        Ok(xdp) => {
            let names = xdp.occupancy().names;
            info!(names, path = %set.directory.display(), "the kernel's maps are taken over");
            Some((xdp, set))
        }
        Err(error) => {
            let error = format!("{error:#}");
            warn!(error, "the kernel's maps are made anew");
            None
        }
    }
}

/// Loads the program with empty maps, pinned if there is a place for them.
fn load(object: &[u8], settings: &Settings, pins: Option<&Pins>) -> Result<(Xdp, Option<PathBuf>)> {
    let Some(pins) = pins else {
        return Ok((Xdp::load_silent(object, settings, None)?, None));
    };
    let part = pins.begin_set()?;
    match Xdp::load_silent(object, settings, Some(&part)) {
        Ok(xdp) => Ok((xdp, Some(pins.end_set(&part)?))),
        Err(error) => {
            pins::remove(&part);
            Err(error)
        }
    }
}

/// The policy of another set of maps, to its lease.
fn policy_of(set: &Set) -> Result<Mapping> {
    let map = set.policy()?;
    let policy = std::os::fd::AsFd::as_fd(map.fd());
    Ok(Mapping::new(policy, LEASE_WORD + 1)?)
}

/// Has the program of another set of maps pass everything up.
fn silence(set: &Set) -> Result<()> {
    policy_of(set)?.store(LEASE_WORD, 0);
    Ok(())
}

/// Renews the lease of another set of maps too, unless it has run out.
fn renew_for(set: &Set, lease: &Lease) -> Result<()> {
    let policy = Arc::new(policy_of(set)?);
    if lease.is_running(&policy)? {
        lease.hold(&policy)?;
    }
    Ok(())
}

/// Takes a link of another daemon off its interface, and what may be behind it without a link.
fn drop_link(held: &Held) {
    hook::remove_filter(&held.interface);
    if held.link.is_some()
        && let Err(error) = bpf::detach_pinned(&held.path)
    {
        warn!(interface = held.interface, %error, "a link is not detached");
    }
    pins::remove(&held.path);
}

/// Whether every zone's content is known.
fn zones_are_complete(snapshot: &Snapshot) -> bool {
    snapshot.zones().iter().all(|zone| zone.complete)
}
