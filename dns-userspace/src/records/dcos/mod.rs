//! All zones of a DC/OS node, held together: task changes in, changed names out, aliases
//! included.
//!
//! The first whole state makes whole zones; afterwards a changed task is a few changed names.

pub mod aliases;
pub mod cluster_id;
pub mod contributions;
pub mod directory;
pub mod label;
pub mod vip_address;
pub mod vips;
pub mod zones;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use self::aliases::{Rename, aliases};
use self::cluster_id::ClusterId;
use self::directory::Directory;
use self::vip_address::{Allocation, Allocator, DEFAULT_IPV4_RANGE, DEFAULT_IPV6_RANGE, Range};
use self::vips::Vips;
use self::zones::{DCOS, L4LB, MESOS, StaticRecord, StaticZoneError, ZoneContent, mirrored};
use crate::mesos::tasks::Changes;
use crate::zones::{Name, NameError, Rrset, Zone};

/// What the zones depend on besides the tasks.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The node's own address, for `thisnode`.
    pub node_ip: Option<IpAddr>,
    /// The masters' addresses, for `master` and `zk-N`.
    pub masters: Vec<IpAddr>,
    /// Whether tasks' IPv6 addresses serve VIPs.
    pub ipv6: bool,
    /// Addresses of named VIPs.
    pub vip_ipv4_range: Range<Ipv4Addr>,
    /// Addresses of named VIPs.
    pub vip_ipv6_range: Range<Ipv6Addr>,
    /// The cluster's id, for the names under `dcos.directory`.
    pub cluster_id: Option<ClusterId>,
    /// The operator's own zones: apex and records.
    pub static_zones: Vec<(String, Vec<StaticRecord>)>,
}

/// Those of packaged DC/OS.
impl Default for Settings {
    fn default() -> Self {
        Self {
            node_ip: None,
            masters: Vec::new(),
            ipv6: true,
            vip_ipv4_range: DEFAULT_IPV4_RANGE,
            vip_ipv6_range: DEFAULT_IPV6_RANGE,
            cluster_id: None,
            static_zones: Vec::new(),
        }
    }
}

/// What is to be published. Names are listed after the zones they are in, if those are replaced.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// Zones whose whole content is this.
    pub zones: Vec<ZoneContent>,
    /// Names whose whole content is this; without RRsets, the name is gone.
    pub names: Vec<(Name, Vec<Rrset>)>,
}

/// The content of all zones.
#[derive(Debug, Clone)]
pub struct DcosZones {
    cluster_id: Option<ClusterId>,
    node_ip: Option<IpAddr>,
    public_ips: Vec<IpAddr>,
    masters: Vec<IpAddr>,
    statics: Vec<ZoneContent>,
    mirror: Option<ZoneContent>,
    directory: Directory,
    vips: Vips,
    dcos_aliases: Vec<Rename>,
    l4lb_aliases: Vec<Rename>,
    mesos_aliases: Vec<Rename>,
    synced: bool,
}

impl DcosZones {
    /// The zones before anything is known of tasks. `allocations` are the VIP addresses given out
    /// before a restart.
    ///
    /// # Errors
    /// If a static zone cannot be served.
    pub fn new(settings: &Settings, allocations: &[Allocation]) -> Result<Self, StaticZoneError> {
        let statics = settings
            .static_zones
            .iter()
            .map(|(apex, records)| zones::static_zone(apex, records))
            .collect::<Result<_, _>>()?;
        let mut allocator = Allocator::new(settings.vip_ipv4_range, settings.vip_ipv6_range);
        // An address that the configured range no longer has is given out anew.
        allocator.restore(allocations);
        let cluster = settings.cluster_id.as_ref();
        let renames = |apex: &str| {
            Name::from_text(apex)
                .and_then(|apex| aliases(&apex, cluster))
                .map_err(|error| StaticZoneError::Apex(apex.to_owned(), error))
        };
        let mut zones = Self {
            cluster_id: settings.cluster_id,
            node_ip: settings.node_ip,
            public_ips: Vec::new(),
            masters: settings.masters.clone(),
            statics,
            mirror: None,
            directory: Directory::default(),
            vips: Vips::new(allocator, settings.ipv6),
            dcos_aliases: renames(DCOS)?,
            l4lb_aliases: renames(L4LB)?,
            mesos_aliases: renames(MESOS)?,
            synced: false,
        };
        let mut changed = BTreeSet::new();
        zones.directory.set_masters(&settings.masters, &mut changed);
        Ok(zones)
    }

    /// The facts of every zone, aliases included, for an editor.
    ///
    /// # Errors
    /// If a name of an alias is too long.
    pub fn zones(&self) -> Result<Vec<Zone>, NameError> {
        Ok(self.content()?.into_iter().map(|one| one.zone).collect())
    }

    /// Every zone with its content, aliases included. Zones of which nothing is known yet are
    /// empty.
    ///
    /// # Errors
    /// If a name of an alias is too long.
    pub fn content(&self) -> Result<Vec<ZoneContent>, NameError> {
        let mut zones = self.own_content()?;
        if self.mirror.is_none() {
            zones.push(ZoneContent::new(MESOS, Vec::new())?);
        }
        self.with_aliases(zones)
    }

    /// Every zone with its content under its own name only. The copy of the mesos-dns zone is
    /// among them if it was given as a whole.
    ///
    /// # Errors
    /// None in fact.
    pub fn own_content(&self) -> Result<Vec<ZoneContent>, NameError> {
        let mut zones = vec![self.dcos()?, self.l4lb()?];
        zones.extend(self.mirror.clone());
        zones.extend(self.fixed()?);
        Ok(zones)
    }

    /// What is known from the start: every zone but those of tasks, VIPs and mesos-dns, and the
    /// names of the masters.
    ///
    /// # Errors
    /// If a name of an alias is too long.
    pub fn first(&self) -> Result<Update, NameError> {
        let masters = self.directory.content();
        let masters = masters.into_iter().map(|(name, _)| name).collect();
        let mut update = self.changed(&masters, &BTreeSet::new());
        update.zones = self.with_aliases(self.fixed()?)?;
        Ok(update)
    }

    fn fixed(&self) -> Result<Vec<ZoneContent>, NameError> {
        let mut zones = vec![
            zones::thisnode(self.node_ip, &self.public_ips)?,
            zones::spartan()?,
            zones::localhost()?,
            zones::zk(&self.masters)?,
        ];
        zones.extend(self.statics.iter().cloned());
        Ok(zones)
    }

    fn dcos(&self) -> Result<ZoneContent, NameError> {
        ZoneContent::new(DCOS, self.directory.content())
    }

    fn l4lb(&self) -> Result<ZoneContent, NameError> {
        ZoneContent::new(L4LB, self.vips.content())
    }

    fn with_aliases(&self, mut zones: Vec<ZoneContent>) -> Result<Vec<ZoneContent>, NameError> {
        let mut copies = Vec::new();
        for zone in &zones {
            for rename in aliases(&zone.zone.apex, self.cluster_id.as_ref())? {
                copies.push(rename.content(zone));
            }
        }
        zones.append(&mut copies);
        Ok(zones)
    }

    /// Takes over what an event did to the task model.
    ///
    /// # Errors
    /// If a name of an alias is too long.
    pub fn apply(&mut self, changes: &Changes) -> Result<Update, NameError> {
        let (mut tasks, mut vips) = (BTreeSet::new(), BTreeSet::new());
        let pairs = changes
            .tasks
            .iter()
            .map(|(key, task)| (key, task.as_deref()));
        if changes.resync {
            let whole = || {
                let tasks = changes.tasks.iter();
                tasks.filter_map(|(key, task)| Some((key, task.as_ref()?)))
            };
            self.directory.replace_tasks(whole(), &mut tasks);
            self.vips.replace_tasks(whole(), &mut vips);
        } else {
            for (key, task) in pairs.clone() {
                self.directory.set_task(key, task, &mut tasks);
            }
            self.vips.set_tasks(pairs, &mut vips);
        }
        if changes.resync && !self.synced {
            self.synced = true;
            return Ok(Update {
                zones: self.with_aliases(vec![self.dcos()?, self.l4lb()?])?,
                names: Vec::new(),
            });
        }
        Ok(self.changed(&tasks, &vips))
    }

    /// Takes over the cluster's id, if it was not known from the start. Gives the zones that come
    /// to be, and the content of those whose own is known; that of the copy of `.mesos` is not kept
    /// here and has to be mirrored again.
    ///
    /// # Errors
    /// If a name of an alias is too long.
    pub fn set_cluster_id(&mut self, id: ClusterId) -> Result<(Vec<Zone>, Update), NameError> {
        if self.cluster_id == Some(id) {
            return Ok((Vec::new(), Update::default()));
        }
        let before: BTreeSet<Name> = self.zones()?.into_iter().map(|one| one.apex).collect();
        self.cluster_id = Some(id);
        let renames = |apex: &str| aliases(&Name::from_text(apex)?, Some(&id));
        self.dcos_aliases = renames(DCOS)?;
        self.l4lb_aliases = renames(L4LB)?;
        self.mesos_aliases = renames(MESOS)?;
        let mut zones = self.zones()?;
        zones.retain(|zone| !before.contains(&zone.apex));
        let mut known = self.fixed()?;
        if self.synced {
            known.extend([self.dcos()?, self.l4lb()?]);
        }
        let mut content = self.with_aliases(known)?;
        content.retain(|one| !before.contains(&one.zone.apex));
        let update = Update {
            zones: content,
            names: Vec::new(),
        };
        Ok((zones, update))
    }

    /// Takes over the address of the leading master, for `leader`.
    pub fn set_leader(&mut self, leader: Option<IpAddr>) -> Update {
        let mut changed = BTreeSet::new();
        self.directory.set_leader(leader, &mut changed);
        self.changed(&changed, &BTreeSet::new())
    }

    /// Takes over the masters' addresses.
    ///
    /// # Errors
    /// If a name of an alias is too long.
    pub fn set_masters(&mut self, masters: &[IpAddr]) -> Result<Update, NameError> {
        let mut changed = BTreeSet::new();
        self.directory.set_masters(masters, &mut changed);
        self.masters = masters.to_vec();
        let mut update = self.changed(&changed, &BTreeSet::new());
        update.zones = self.with_aliases(vec![zones::zk(masters)?])?;
        Ok(update)
    }

    /// Takes over the node's public addresses.
    ///
    /// # Errors
    /// If a name of an alias is too long.
    pub fn set_public_ips(&mut self, public_ips: &[IpAddr]) -> Result<Update, NameError> {
        self.public_ips = public_ips.to_vec();
        let zone = zones::thisnode(self.node_ip, public_ips)?;
        Ok(Update {
            zones: self.with_aliases(vec![zone])?,
            names: Vec::new(),
        })
    }

    /// The node's public addresses.
    #[must_use]
    pub fn public_ips(&self) -> &[IpAddr] {
        &self.public_ips
    }

    /// Takes over the whole copy of the mesos-dns zone.
    ///
    /// # Errors
    /// If a name of an alias is too long.
    pub fn set_mirror(&mut self, mirror: ZoneContent) -> Result<Update, NameError> {
        let zones = self.with_aliases(vec![mirror.clone()])?;
        self.mirror = Some(mirror);
        Ok(Update {
            zones,
            names: Vec::new(),
        })
    }

    /// The apexes of the copy of the mesos-dns zone: its own and those of its aliases.
    ///
    /// # Errors
    /// None in fact.
    pub fn mirror_apexes(&self) -> Result<Vec<Name>, NameError> {
        let own = std::iter::once(Name::from_text(MESOS)?);
        let others = self.mesos_aliases.iter().map(|alias| alias.asked.clone());
        Ok(own.chain(others).collect())
    }

    /// What becomes of one changed name of our own mesos-dns zone in its copy. The copy itself is
    /// not kept here: whoever serves `.mesos` has it.
    ///
    /// # Errors
    /// None in fact.
    pub fn mirror_name(
        &self,
        domain: &Name,
        name: &Name,
        rrsets: &[Rrset],
    ) -> Result<Update, NameError> {
        let apex = Name::from_text(MESOS)?;
        let mut update = Update::default();
        if let Some(name) = name.with_suffix_replaced(domain, &apex) {
            let rrsets = rrsets.iter().filter_map(|one| mirrored(domain, &apex, one));
            push(&mut update, name, rrsets.collect(), &self.mesos_aliases);
        }
        Ok(update)
    }

    fn changed(&self, tasks: &BTreeSet<Name>, vips: &BTreeSet<Name>) -> Update {
        let mut update = Update::default();
        for name in tasks {
            let rrsets = self.directory.rrsets(name);
            push(&mut update, name.clone(), rrsets, &self.dcos_aliases);
        }
        for name in vips {
            let rrsets = self.vips.rrsets(name);
            push(&mut update, name.clone(), rrsets, &self.l4lb_aliases);
        }
        update
    }

    /// The VIPs.
    #[must_use]
    pub const fn vips(&self) -> &Vips {
        &self.vips
    }
}

fn push(update: &mut Update, name: Name, rrsets: Vec<Rrset>, aliases: &[Rename]) {
    let copies = aliases
        .iter()
        .filter_map(|alias| alias.node(&name, &rrsets));
    update.names.extend(copies);
    update.names.push((name, rrsets));
}

#[cfg(test)]
mod tests;
