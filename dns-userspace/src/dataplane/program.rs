//! The XDP program: loaded, bound to its maps, told what it needs to know.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use aya::maps::{Array, Map, MapData, PerCpuArray};
use aya::programs::Xdp as XdpProgram;
use aya::{Btf, Ebpf, EbpfLoader, Pod};
use dns_common::policy::{INTERFACE_SLOTS, MAX_ADDRESSES, flags};
use dns_common::{Interface, Policy, Verdict};
use tracing::{info, warn};

use super::attach::{self, Attachment, Mode};
use super::publish::{Occupancy, Publisher};
use super::reason;
use crate::zones::{Encoder, Snapshot};

/// Name of the program in the object.
pub(super) const PROGRAM: &str = "mesos_xdns";
/// Blob octets for each name that the maps are sized for: a typical name takes one or two slots.
const OCTETS_PER_NAME: u64 = 192;

/// What the data plane needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Interfaces to attach to.
    pub interfaces: Vec<String>,
    /// How to attach.
    pub mode: Mode,
    /// Names that the maps hold.
    pub max_names: u32,
    /// Key of the owner hash: that of the snapshots.
    pub seed: u64,
    /// Addresses that are answered.
    pub addresses: Vec<IpAddr>,
    /// The UDP port that is answered.
    pub port: u16,
    /// The most octets of a response.
    pub max_udp_octets: u16,
    /// `SetTruncateBit` of mesos-dns.
    pub sets_truncate_bit: bool,
}

/// The XDP program as an ELF object; `None` in a build without it.
pub fn object() -> Option<&'static [u8]> {
    #[cfg(has_bpf)]
    return Some(aya::include_bytes_aligned!(env!("MESOS_XDNS_BPF_OBJECT")));
    #[cfg(not(has_bpf))]
    None
}

/// A loaded and attached program. Dropping it detaches it.
pub struct Xdp {
    ebpf: Ebpf,
    publisher: Publisher,
    attachments: Vec<Attachment>,
}

/// The values of the maps as aya wants them.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct MapValue<T>(T);

// SAFETY: both are `repr(C)`, without padding, and any bits are valid in them.
unsafe impl Pod for MapValue<Policy> {}
// SAFETY: as above.
unsafe impl Pod for MapValue<Interface> {}

impl Xdp {
    /// Loads `object` and attaches it. Some interface must take it.
    pub(super) fn start(object: &[u8], settings: &Settings) -> Result<Self> {
        let mut xdp = Self::load(object, settings)?;
        for name in &settings.interfaces {
            let attachment = xdp.attach(name, settings.mode);
            match &attachment.problem {
                None => info!(
                    interface = name,
                    mode = attachment.mode.name(),
                    "XDP attached"
                ),
                Some(problem) => warn!(interface = name, problem, "XDP not attached"),
            }
            xdp.attachments.push(attachment);
        }
        if xdp.attachments.iter().all(|one| one.mode == Mode::Off) {
            let problems: Vec<&str> = xdp
                .attachments
                .iter()
                .filter_map(|one| one.problem.as_deref())
                .collect();
            bail!("{}", problems.join("; "));
        }
        Ok(xdp)
    }

    /// Loads `object` without attaching it.
    ///
    /// # Errors
    /// The kernel does not permit it, or its verifier does not accept the program.
    pub fn load(object: &[u8], settings: &Settings) -> Result<Self> {
        let pages = u64::from(settings.max_names) * OCTETS_PER_NAME
            / u64::from(dns_common::blob::MAX_OCTETS)
            + 64;
        let pages = u32::try_from(pages).context("xdp.max_names is too large")?;
        let mut ebpf = EbpfLoader::new()
            .btf(Btf::from_sys_fs().ok().as_ref())
            .map_max_entries("INDEX", settings.max_names)
            .map_max_entries("BLOBS", pages)
            .load(object)
            .context("loading the maps")?;
        let program = program(&mut ebpf)?;
        program
            .load()
            .map_err(|error| anyhow!("loading the program: {}", brief(&error)))?;
        let index = take_hash_map(&mut ebpf, "INDEX")?;
        let publisher = Publisher::new(
            index,
            array(&ebpf, "BLOBS")?,
            pages,
            array(&ebpf, "ZONES")?,
            settings.seed,
            settings.max_names as usize,
        )
        .context("mapping the BPF arrays")?;
        let mut xdp = Self {
            ebpf,
            publisher,
            attachments: Vec::new(),
        };
        xdp.set_policy(&policy(settings))?;
        Ok(xdp)
    }

    fn set_policy(&mut self, policy: &Policy) -> Result<()> {
        let map = self
            .ebpf
            .map_mut("POLICY")
            .context("the object has no map POLICY")?;
        Array::<_, MapValue<Policy>>::try_from(map)?
            .set(0, MapValue(*policy), 0)
            .context("writing the BPF map POLICY")
    }

    /// Tells the program of an interface.
    ///
    /// # Errors
    /// Another interface has the same slot, or the kernel refuses.
    pub fn set_interface(&mut self, interface: Interface) -> Result<()> {
        let map = self
            .ebpf
            .map_mut("INTERFACES")
            .context("the object has no map INTERFACES")?;
        let mut slots = Array::<_, MapValue<Interface>>::try_from(map)?;
        let slot = interface.index % INTERFACE_SLOTS;
        let before = slots
            .get(&slot, 0)
            .context("reading the BPF map INTERFACES")?
            .0;
        if before.index != 0 && before.index != interface.index {
            bail!(
                "interfaces {} and {} share a slot",
                before.index,
                interface.index
            );
        }
        slots
            .set(slot, MapValue(interface), 0)
            .context("writing the BPF map INTERFACES")
    }

    fn attach(&mut self, name: &str, mode: Mode) -> Attachment {
        let result = attach::describe(name)
            .and_then(|interface| self.set_interface(interface))
            .and_then(|()| attach::attach(program(&mut self.ebpf)?, name, mode));
        let interface = name.to_owned();
        match result {
            Ok((_, mode)) => Attachment {
                interface,
                mode,
                problem: None,
            },
            Err(error) => Attachment {
                interface,
                mode: Mode::Off,
                problem: Some(reason::explain(&error)),
            },
        }
    }

    /// The program, to run it by `BPF_PROG_TEST_RUN`.
    ///
    /// # Errors
    /// The object has no such program.
    pub fn program(&mut self) -> Result<&mut XdpProgram> {
        program(&mut self.ebpf)
    }

    /// Brings the maps to `snapshot`.
    ///
    /// # Errors
    /// The kernel refuses an update.
    pub fn publish(&mut self, snapshot: &Arc<Snapshot>) -> io::Result<()> {
        self.publisher.publish(snapshot)
    }

    /// Encodes nodes right into the memory that the kernel reads.
    #[must_use]
    pub fn encoder(&self) -> Arc<dyn Encoder> {
        self.publisher.encoder()
    }

    /// Packets by verdict, over all CPUs.
    #[must_use]
    pub fn counters(&self) -> Vec<(Verdict, u64)> {
        let Some(map) = self.ebpf.map("COUNTERS") else {
            return Vec::new();
        };
        let Ok(counters) = PerCpuArray::<_, u64>::try_from(map) else {
            return Vec::new();
        };
        let sum = |verdict: Verdict| -> u64 {
            counters
                .get(&(verdict as u32), 0)
                .map_or(0, |values| values.iter().sum())
        };
        Verdict::ALL
            .iter()
            .map(|&verdict| (verdict, sum(verdict)))
            .collect()
    }

    pub(super) fn occupancy(&self) -> Occupancy {
        self.publisher.occupancy()
    }

    pub(super) fn attachments(&self) -> &[Attachment] {
        &self.attachments
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut XdpProgram> {
    let program = ebpf
        .program_mut(PROGRAM)
        .context("the object has no XDP program")?;
    Ok(program.try_into()?)
}

fn take_hash_map(ebpf: &mut Ebpf, name: &str) -> Result<MapData> {
    match ebpf.take_map(name) {
        Some(Map::HashMap(data)) => Ok(data),
        _ => bail!("the object has no hash map {name}"),
    }
}

fn array<'e>(ebpf: &'e Ebpf, name: &str) -> Result<BorrowedFd<'e>> {
    match ebpf.map(name) {
        Some(Map::Array(data)) => Ok(data.fd().as_fd()),
        _ => bail!("the object has no array {name}"),
    }
}

/// The last lines of the verifier's log say what it did not like.
fn brief(error: &aya::programs::ProgramError) -> String {
    let text = format!("{error}");
    let lines: Vec<&str> = text.lines().collect();
    lines
        .get(lines.len().saturating_sub(6)..)
        .unwrap_or_default()
        .join(" | ")
}

fn policy(settings: &Settings) -> Policy {
    let mut policy = Policy {
        seed: settings.seed,
        answer_until: u64::MAX,
        max_udp: u32::from(settings.max_udp_octets),
        port: u32::from(settings.port),
        flags: if settings.sets_truncate_bit {
            flags::TRUNCATE
        } else {
            0
        },
        ..Policy::silent()
    };
    let mut left_out = 0;
    for address in &settings.addresses {
        let fits = match address {
            IpAddr::V4(ip) => push(&mut policy.ipv4, &mut policy.ipv4_count, ip.octets()),
            IpAddr::V6(ip) => push(&mut policy.ipv6, &mut policy.ipv6_count, ip.octets()),
        };
        left_out += usize::from(!fits);
    }
    if left_out > 0 {
        warn!(
            left_out,
            "the kernel answers at most {MAX_ADDRESSES} addresses of each family; the others are \
             answered from user space"
        );
    }
    policy
}

fn push<T>(slots: &mut [T], count: &mut u32, value: T) -> bool {
    match slots.get_mut(*count as usize) {
        Some(slot) => {
            *slot = value;
            *count += 1;
            true
        }
        None => false,
    }
}
