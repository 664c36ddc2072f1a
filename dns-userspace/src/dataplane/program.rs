//! The XDP program and the TC program behind it: loaded, bound to their maps, told what they need to
//! know.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use aya::maps::{Array, LpmTrie, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::{Program, ProgramError, SchedClassifier, Xdp as XdpProgram};
use aya::{Btf, Ebpf, EbpfLoader, Pod};
use dns_common::policy::{
    HOMES_WORD, INTERFACE_SLOTS, LEASE_WORD, MAX_ADDRESSES, SAMPLE_WORD, SEED_WORD, SHORTCUTS_WORD,
    flags,
};
use dns_common::shortcut::WORDS;
use dns_common::tally::COUNTERS;
use dns_common::{Interface, Policy, RateLimit};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::arena::Arena;
use super::clients::Allowed;
use super::homes::Homes;
use super::index::Index;
use super::lease::{Clock, tick};
use super::mapping::Mapping;
use super::pins::{self, Set};
use super::publish::{Occupancy, Publisher};
use super::shortcuts::Shortcuts;
use super::tally::Tally;
use super::{Mode, trace};
use crate::transfer::Prefix;
use crate::zones::{Encoder, Snapshot};

/// Name of the program in the object.
pub(super) const PROGRAM: &str = "mesos_xdns";
/// Name of the TC program in the object.
pub(super) const TC_PROGRAM: &str = "mesos_xdns_tc";
/// Name of the program that tells the time.
const CLOCK: &str = "xdns_clock";
const POLICY_WORDS: usize = size_of::<Policy>() / size_of::<u64>();
/// Blob octets for each name that the maps are sized for: a typical name takes one or two slots.
const OCTETS_PER_NAME: u64 = 192;

/// What the data plane needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Interfaces to attach to.
    pub interfaces: Vec<String>,
    /// How to attach.
    pub mode: Mode,
    /// Whether a TC program answers what an XDP program has no room for.
    pub tc: bool,
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
    /// EDNS options that user space answers: see [`Policy::raised_options`].
    pub raised_options: u32,
    /// Clients that are answered; none means all.
    pub allowed: Vec<Prefix>,
    /// How often each prefix is answered.
    pub limit: RateLimit,
}

/// The XDP program as an ELF object; `None` in a build without it.
pub fn object() -> Option<&'static [u8]> {
    #[cfg(has_bpf)]
    return Some(aya::include_bytes_aligned!(env!("MESOS_XDNS_BPF_OBJECT")));
    #[cfg(not(has_bpf))]
    None
}

/// The object, or the variant of it that logs its verdict on each packet.
pub(super) fn variant(traces: bool) -> Option<&'static [u8]> {
    #[cfg(has_bpf)]
    if traces {
        return Some(aya::include_bytes_aligned!(env!(
            "MESOS_XDNS_BPF_TRACE_OBJECT"
        )));
    }
    let _ = traces;
    object()
}

/// A loaded program and its maps. Dropping it takes both away, unless somebody else holds them.
pub struct Xdp {
    ebpf: Ebpf,
    /// Why the kernel did not accept the TC program.
    tc_problem: Option<String>,
    publisher: Publisher,
    allowed: Allowed,
    /// Microseconds of a tick of the kernel's clock.
    tick: u32,
    policy: Arc<Mapping>,
    /// One of how many packets is handed over.
    sample_every: u32,
    /// Index of the interface in each slot of the map `INTERFACES` that this program was told.
    interfaces: HashMap<u32, u32>,
    /// Logs what the program says, if it does.
    _trace: Option<AbortOnDropHandle<()>>,
}

/// The values of the maps as aya wants them.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct MapValue<T>(T);

// SAFETY: it is `repr(C)`, without padding, and any bits are valid in it.
unsafe impl Pod for MapValue<Interface> {}

/// Where the maps are.
enum Place<'a> {
    /// They go with the process.
    Memory,
    /// New ones, pinned in an empty directory.
    New(&'a Path),
    /// Those of an earlier daemon.
    Adopted(&'a Set),
}

impl Xdp {
    /// Loads `object` without attaching it. It answers for ever.
    ///
    /// # Errors
    /// The kernel does not permit it, or its verifier does not accept the program.
    pub fn load(object: &[u8], settings: &Settings) -> Result<Self> {
        let xdp = Self::open(object, settings, &Place::Memory)?;
        xdp.policy.store(LEASE_WORD, u64::MAX);
        Ok(xdp)
    }

    /// Loads `object` with maps that are pinned in an empty directory, or in none.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(super) fn load_silent(
        object: &[u8],
        settings: &Settings,
        directory: Option<&Path>,
    ) -> Result<Self> {
        let place = directory.map_or(Place::Memory, Place::New);
        let mut xdp = Self::open(object, settings, &place)?;
        if let Some(directory) = directory {
            xdp.pin(|(now, _)| directory.join(now))?;
        }
        Ok(xdp)
    }

    /// Loads `object` with the maps that an earlier daemon has left, answers included. The seed is
    /// theirs, and not that of `settings`.
    ///
    /// # Errors
    /// As [`Self::load`], or the maps do not fit or hold what is no answer.
    pub(super) fn adopt(object: &[u8], settings: &Settings, set: &Set) -> Result<Self> {
        let pages = pages(settings)?;
        let shortcuts = Shortcuts::room_for(settings.max_names);
        for (map, room) in [
            ("INDEX", settings.max_names),
            ("SHORTCUTS", shortcuts),
            ("BLOBS", pages),
        ] {
            let found = set.room(map)?;
            ensure!(found == room, "{map} has room for {found} and not {room}");
        }
        let mut xdp = Self::open(object, settings, &Place::Adopted(set))?;
        for (_, next) in pins::PROGRAMS {
            pins::remove(&set.directory.join(next));
        }
        xdp.pin(|(_, next)| set.directory.join(next))?;
        Ok(xdp)
    }

    /// Pins the programs where `place` says by their names.
    fn pin(&mut self, place: impl Fn((&'static str, &'static str)) -> PathBuf) -> Result<()> {
        let [xdp, tc] = pins::PROGRAMS;
        self.program()?.pin(place(xdp))?;
        if self.tc_problem.is_none() {
            self.classifier()?.pin(place(tc))?;
        }
        Ok(())
    }

    fn open(object: &[u8], settings: &Settings, place: &Place<'_>) -> Result<Self> {
        let pages = pages(settings)?;
        let shortcuts = Shortcuts::room_for(settings.max_names);
        let btf = Btf::from_sys_fs().ok();
        let pinned = match place {
            Place::Adopted(set) => set.maps(),
            Place::Memory | Place::New(_) => Vec::new(),
        };
        let mut loader = EbpfLoader::new();
        loader
            .btf(btf.as_ref())
            .map_max_entries("INDEX", settings.max_names)
            .map_max_entries("SHORTCUTS", shortcuts)
            .map_max_entries("BLOBS", pages);
        if let Place::Adopted(set) = place {
            for name in &pinned {
                loader.map_pin_path(name, set.directory.join(name));
            }
        }
        let mut ebpf = loader.load(object).context("loading the maps")?;
        let trace = trace::follow(&mut ebpf)?;
        if let Place::New(directory) = place {
            // A BPF file system has no names with a dot; such maps hold constants of the program.
            for (name, map) in ebpf.maps().filter(|(name, _)| !name.contains('.')) {
                map.pin(directory.join(name))
                    .with_context(|| format!("pinning the BPF map {name}"))?;
            }
        }
        program(&mut ebpf, PROGRAM)?
            .load()
            .map_err(|error| anyhow!("loading the program: {}", brief(&error)))?;
        let tc_problem = classifier(&mut ebpf)?
            .load()
            .err()
            .map(|error| format!("loading the TC program: {}", brief(&error)));
        let policy = Mapping::new(array(&ebpf, "POLICY")?, POLICY_WORDS)
            .context("mapping the BPF map POLICY")?;
        let policy = Arc::new(policy);
        let is_adopted = matches!(place, Place::Adopted(_));
        let seed = match is_adopted {
            true => policy.load(SEED_WORD),
            false => settings.seed,
        };
        let index = take_hash_map(&mut ebpf, "INDEX")?;
        let words = Mapping::new(array(&ebpf, "SHORTCUTS")?, shortcuts as usize * WORDS)
            .context("mapping the BPF map SHORTCUTS")?;
        let shortcuts = Shortcuts::new(words, Arc::clone(&policy), shortcuts);
        let arena = Arena::new(array(&ebpf, "BLOBS")?, pages, seed);
        let arena = Arc::new(arena.context("mapping the BPF map BLOBS")?);
        let homes = Homes::new(Arc::clone(&arena), Arc::clone(&policy));
        let mut publisher = Publisher::new(
            Index::new(index, shortcuts, homes),
            arena,
            array(&ebpf, "ZONES")?,
            seed,
            settings.max_names as usize,
        )
        .context("mapping the BPF map ZONES")?;
        if is_adopted {
            publisher.adopt().context("reading the maps")?;
        }
        let Some(Map::LpmTrie(allowed)) = ebpf.take_map("ALLOWED") else {
            bail!("the object has no LPM trie ALLOWED");
        };
        let allowed = LpmTrie::try_from(Map::LpmTrie(allowed))?;
        let allowed = Allowed::new(allowed).context("reading the BPF map ALLOWED")?;
        let mut xdp = Self {
            ebpf,
            tc_problem,
            publisher,
            allowed,
            tick: u32::try_from(tick()?.as_micros())?,
            policy,
            sample_every: 0,
            interfaces: HashMap::new(),
            _trace: trace,
        };
        xdp.set_policy(settings);
        Ok(xdp)
    }

    /// Tells the program whom to answer and how, all but the seed, which it has for life, and the
    /// lease.
    pub(super) fn set_policy(&mut self, settings: &Settings) {
        // Between the two the list holds and some of it may be missing: then user space answers.
        self.store_policy(settings, 0);
        if let Err(error) = self.allowed.set(&settings.allowed)
            && !settings.allowed.is_empty()
        {
            warn!(%error, "server.allow_clients cannot be told to the kernel: it answers nobody");
            self.store_policy(settings, flags::CLOSED);
        }
    }

    fn store_policy(&self, settings: &Settings, more_flags: u32) {
        let policy = Policy {
            seed: self.publisher.seed(),
            sample_every: self.sample_every,
            ..policy(settings, self.tick)
        };
        let policy = Policy {
            flags: policy.flags | more_flags,
            ..policy
        };
        // SAFETY: `Policy` is `repr(C)`, without padding, and made of whole words.
        let words: [u64; POLICY_WORDS] = unsafe { std::mem::transmute(policy) };
        for (at, word) in words.into_iter().enumerate() {
            if ![LEASE_WORD, SHORTCUTS_WORD, HOMES_WORD].contains(&at) {
                self.policy.store(at, word);
            }
        }
    }

    /// Has one of `every` packets handed over; none if it is 0.
    pub(super) fn set_sampling(&mut self, every: u32) {
        self.sample_every = every;
        self.policy.store(SAMPLE_WORD, every.into());
    }

    /// Where packets are handed over.
    ///
    /// # Errors
    /// The object has no such map, or it cannot be mapped.
    pub(super) fn samples(&self) -> Result<RingBuf<MapData>> {
        let Some(Map::RingBuf(map)) = self.ebpf.map("SAMPLES") else {
            bail!("the object has no ring buffer SAMPLES");
        };
        let map = MapData::from_fd(map.fd().as_fd().try_clone_to_owned()?)?;
        Ok(RingBuf::try_from(Map::RingBuf(map))?)
    }

    /// Where the kernel reads the lease.
    pub(super) const fn policy(&self) -> &Arc<Mapping> {
        &self.policy
    }

    /// The kernel's clock.
    pub(super) fn clock(&mut self) -> Result<Clock> {
        let program = program(&mut self.ebpf, CLOCK)?;
        program.load().context("loading the clock")?;
        let program = program.fd()?.as_fd().try_clone_to_owned()?;
        Clock::new(program).context("reading the kernel's clock")
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
        if let Some(&before) = self.interfaces.get(&slot)
            && before != interface.index
            && interface_exists(before)
        {
            bail!("interfaces {before} and {} share a slot", interface.index);
        }
        slots
            .set(slot, MapValue(interface), 0)
            .context("writing the BPF map INTERFACES")?;
        self.interfaces.insert(slot, interface.index);
        Ok(())
    }

    /// The program, to attach it or to run it by `BPF_PROG_TEST_RUN`.
    ///
    /// # Errors
    /// The object has no such program.
    pub fn program(&mut self) -> Result<&mut XdpProgram> {
        program(&mut self.ebpf, PROGRAM)
    }

    /// The TC program, for the same.
    ///
    /// # Errors
    /// The kernel did not accept it.
    pub fn classifier(&mut self) -> Result<&mut SchedClassifier> {
        if let Some(problem) = &self.tc_problem {
            bail!("{problem}");
        }
        classifier(&mut self.ebpf)
    }

    /// The key of the owner hash.
    pub(super) fn seed(&self) -> u64 {
        self.publisher.seed()
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

    /// What the program has counted, over all CPUs.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally_in("COUNTERS")
    }

    /// What the TC program has answered or dropped of that after the XDP program had passed it.
    #[must_use]
    pub fn second_tally(&self) -> Tally {
        self.tally_in("SECOND_COUNTERS")
    }

    fn tally_in(&self, map: &str) -> Tally {
        let Some(map) = self.ebpf.map(map) else {
            return Tally::default();
        };
        let counters = PerCpuArray::<_, [u64; COUNTERS]>::try_from(map);
        let counters = counters.and_then(|counters| counters.get(&0, 0));
        counters.map_or_else(|_| Tally::default(), |cpus| Tally::of(&cpus))
    }

    pub(super) fn occupancy(&self) -> Occupancy {
        self.publisher.occupancy()
    }
}

/// Pages that the names need.
fn pages(settings: &Settings) -> Result<u32> {
    let pages = u64::from(settings.max_names) * OCTETS_PER_NAME
        / u64::from(dns_common::blob::MAX_OCTETS)
        + 64;
    u32::try_from(pages).context("xdp.max_names is too large")
}

fn classifier(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier> {
    let program: &mut Program = ebpf
        .program_mut(TC_PROGRAM)
        .with_context(|| format!("the object has no program {TC_PROGRAM}"))?;
    Ok(program.try_into()?)
}

fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut XdpProgram> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("the object has no program {name}"))?;
    Ok(program.try_into()?)
}

fn take_hash_map(ebpf: &mut Ebpf, name: &str) -> Result<MapData> {
    match ebpf.take_map(name) {
        Some(Map::HashMap(data)) => Ok(data),
        _ => bail!("the object has no hash map {name}"),
    }
}

/// Whether an interface of this index is in the network namespace of the process.
fn interface_exists(index: u32) -> bool {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the size that a name may have.
    !unsafe { libc::if_indextoname(index, name.as_mut_ptr()) }.is_null()
}

fn array<'e>(ebpf: &'e Ebpf, name: &str) -> Result<BorrowedFd<'e>> {
    match ebpf.map(name) {
        Some(Map::Array(data)) => Ok(data.fd().as_fd()),
        _ => bail!("the object has no array {name}"),
    }
}

/// The last lines of the verifier's log say what it did not like.
fn brief(error: &ProgramError) -> String {
    let text = format!("{error}");
    let lines: Vec<&str> = text.lines().collect();
    lines
        .get(lines.len().saturating_sub(6)..)
        .unwrap_or_default()
        .join(" | ")
}

fn policy(settings: &Settings, tick: u32) -> Policy {
    let mut policy = Policy {
        seed: settings.seed,
        max_udp: u32::from(settings.max_udp_octets),
        port: u32::from(settings.port),
        raised_options: settings.raised_options,
        flags: [
            (settings.sets_truncate_bit, flags::TRUNCATE),
            (!settings.allowed.is_empty(), flags::RESTRICTED),
            (settings.limit.interval != 0, flags::LIMITED),
        ]
        .into_iter()
        .filter_map(|(is_set, flag)| is_set.then_some(flag))
        .sum(),
        tick,
        limit: settings.limit,
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
