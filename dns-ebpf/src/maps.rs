//! Every BPF map: what it holds, who writes it, who reads it; and the answers as the responder's
//! table.

use core::arch::asm;

use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray};
use aya_ebpf::macros::btf_map;
use dns_common::blob::{self, Blob, Table};
use dns_common::policy::{self, interface_flags};
use dns_common::{Interface, Policy, Verdict, home, shortcut, tally};

/// `BPF_F_MMAPABLE`: user space writes blobs by plain stores.
pub(crate) const MMAPABLE: usize = 1 << 10;

/// Keyed hash of a folded owner name to the reference of its blob. User space sizes and writes it.
#[btf_map]
static INDEX: HashMap<u64, u64, 262_144> = HashMap::new();

/// Pairs of words that lead to blobs of the index without a look-up in it. User space sizes it, and
/// writes it one word at a time.
#[btf_map]
static SHORTCUTS: Array<[u64; shortcut::WORDS], 262_144, MMAPABLE> = Array::new();

/// Blobs, in pages that are each cut into slots of one size. User space sizes and writes it; a
/// blob is never changed while a reference to it may be held.
#[btf_map]
static BLOBS: Array<[u8; blob::PAGE_OCTETS as usize], 1024, MMAPABLE> = Array::new();

/// The reference of the SOA that denies names of each zone, 0 for none. User space writes it, one
/// word at a time.
#[btf_map]
static ZONES: Array<u64, { blob::MAX_ZONES as usize }, MMAPABLE> = Array::new();

/// One value. User space writes it, one word at a time.
#[btf_map]
static POLICY: Array<Policy, 1, MMAPABLE> = Array::new();

/// The interfaces that are answered on. User space writes it.
#[btf_map]
static INTERFACES: Array<Interface, { policy::INTERFACE_SLOTS as usize }> = Array::new();

/// Packets by verdict and type, for each CPU: one value of them all, so that user space reads them at
/// once. The program writes it.
#[btf_map]
static COUNTERS: PerCpuArray<[u64; tally::COUNTERS], 1> = PerCpuArray::new();

/// Packets that the TC program has answered, or dropped, after the XDP program has passed and counted
/// them. The TC program writes it.
#[btf_map]
static SECOND_COUNTERS: PerCpuArray<[u64; tally::COUNTERS], 1> = PerCpuArray::new();

/// The address of one of `COUNT` words, which is a power of two, out of the compiler's sight, so that
/// the verifier sees the bound at its place.
#[inline(always)]
pub(crate) fn place<const COUNT: u32>(words: *mut u64, number: u32) -> *mut u64 {
    const { assert!(COUNT.is_power_of_two()) };
    let mut place = words;
    // SAFETY: a mask, a shift and an addition of registers.
    unsafe {
        asm!(
            "{number} &= {mask}",
            "{number} <<= 3",
            "{place} += {number}",
            place = inout(reg) place,
            number = inout(reg) u64::from(number) => _,
            mask = const COUNT - 1,
            options(pure, readonly, nostack),
        );
    }
    place
}

/// Counts a packet at one of the numbers of [`tally`].
#[inline(always)]
pub(crate) fn count(number: u32) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        let counter = place::<{ tally::COUNTERS as u32 }>(counters.cast(), number);
        // SAFETY: the value belongs to this CPU, and programs at interfaces do not interrupt one
        // another.
        unsafe { *counter = (*counter).wrapping_add(1) };
    }
}

/// Counts what became of a packet that has been counted as passed.
#[inline(always)]
pub(crate) fn count_second(number: u32) {
    if let Some(counters) = SECOND_COUNTERS.get_ptr_mut(0) {
        let counter = place::<{ tally::COUNTERS as u32 }>(counters.cast(), number);
        // SAFETY: as in `count`.
        unsafe { *counter = (*counter).wrapping_add(1) };
    }
}

/// Whether an interface has no XDP program before the TC program.
#[inline(always)]
pub(crate) fn is_alone(index: u32) -> bool {
    interface(index).is_some_and(|one| one.flags & interface_flags::TC_ALONE != 0)
}

/// The interface of an index, if it is answered on.
#[inline(always)]
pub(crate) fn interface(index: u32) -> Option<&'static Interface> {
    let interface = INTERFACES.get(index % policy::INTERFACE_SLOTS)?;
    (interface.index == index).then_some(interface)
}

/// A number of either size, twice under the exclusive or with another, out of the compiler's sight.
macro_rules! twice_xor {
    ($value:expr, $unknown:expr) => {{
        let mut value = $value;
        // SAFETY: two operations on registers.
        unsafe {
            asm!(
                "{value} ^= {unknown}",
                "{value} ^= {unknown}",
                value = inout(reg) value,
                unknown = in(reg) $unknown,
                options(pure, nomem, nostack),
            );
        }
        value
    }};
}

/// Makes the verifier forget what it knows of a number.
#[derive(Clone, Copy)]
pub(crate) struct Blur(u64);

impl Blur {
    #[inline(always)]
    pub(crate) fn new(policy: &Policy) -> Self {
        Self::by(policy.seed)
    }

    /// Any number that the verifier does not know will do.
    #[inline(always)]
    pub(crate) fn by(unknown: u64) -> Self {
        Self(unknown)
    }

    /// Gives `value` back.
    #[inline(always)]
    pub(crate) fn blur(self, value: u64) -> u64 {
        twice_xor!(value, self.0)
    }

    /// The same with a smaller number, whose register the compiler need not clear before.
    #[inline(always)]
    pub(crate) fn blur_u32(self, value: u32) -> u32 {
        twice_xor!(value, self.0)
    }
}

/// The maps as the responder's table.
#[derive(Clone, Copy)]
pub(crate) struct Answers {
    policy: &'static Policy,
}

impl Answers {
    #[inline(always)]
    pub(crate) fn open() -> Result<Self, Verdict> {
        let policy = POLICY.get(0).ok_or(Verdict::Lease)?;
        Ok(Self { policy })
    }

    #[inline(always)]
    pub(crate) fn policy(&self) -> &'static Policy {
        self.policy
    }

    /// The reference that the shortcuts have for a hash.
    #[inline(always)]
    fn shortcut(&self, hash: u64) -> Option<u64> {
        let pair = shortcut::pair(hash, self.policy.shortcut_mask);
        let words: *const u64 = SHORTCUTS.get_ptr(pair as u32)?.cast();
        // SAFETY: both are within the value; each is loaded whole, before or after a change.
        let words = unsafe { [words.read_volatile(), words.add(1).read_volatile()] };
        shortcut::place(words[0], hash).or(shortcut::place(words[1], hash))
    }

    /// The blob in the home for a hash, if it is tagged with it.
    #[inline(always)]
    fn at_home(&self, hash: u64) -> Option<PageBlob> {
        let number = home::number(hash, self.policy.home_mask);
        let mut home = Self::blob(home::reference(number))?;
        let difference = home.load_u64(0u32.wrapping_sub(home::TAG_OCTETS))? ^ hash;
        // Zero where it matters, but nobody knows: whatever is loaded from the blob needs the tag
        // first, so that no processor loads it before.
        // SAFETY: an exclusive or of registers.
        unsafe {
            asm!(
                "{start} ^= {difference}",
                start = inout(reg) home.start,
                difference = in(reg) difference,
                options(pure, nomem, nostack),
            );
        }
        (difference == 0).then_some(home)
    }

    #[inline(always)]
    fn blob(reference: u64) -> Option<PageBlob> {
        let (page, start) = blob::reference::parts(reference);
        let page = BLOBS.get_ptr(page as u32)?;
        Some(PageBlob {
            page: page.cast(),
            start,
        })
    }
}

impl Table for Answers {
    type Blob = PageBlob;

    #[inline(always)]
    fn seed(&self) -> u64 {
        self.policy.seed
    }

    #[inline(always)]
    fn max_udp(&self) -> u32 {
        self.policy.max_udp
    }

    #[inline(always)]
    fn truncates(&self) -> bool {
        self.policy.flags & policy::flags::TRUNCATE != 0
    }

    #[inline(always)]
    fn raised_options(&self) -> u32 {
        self.policy.raised_options
    }

    #[inline(always)]
    fn limits(&self) -> bool {
        self.policy.flags & policy::flags::LIMITED != 0
    }

    #[inline(always)]
    fn find(&self, hash: u64) -> Option<PageBlob> {
        if let Some(home) = self.at_home(hash) {
            return Some(home);
        }
        let reference = match self.shortcut(hash) {
            Some(reference) => reference,
            // SAFETY: an element that is replaced meanwhile gives another reference, old or new; the
            // responder compares the name in the blob that it leads to.
            None => *unsafe { INDEX.get(hash) }?,
        };
        Self::blob(Blur::new(self.policy).blur(reference))
    }

    #[inline(always)]
    fn soa(&self, zone: u8) -> Option<PageBlob> {
        let reference = *ZONES.get(u32::from(zone))?;
        if reference == 0 {
            return None;
        }
        Self::blob(reference)
    }
}

/// A blob in its page.
#[derive(Clone, Copy)]
pub(crate) struct PageBlob {
    page: *const u8,
    start: u32,
}

impl PageBlob {
    #[inline(always)]
    fn load<T: Copy>(&self, at: u32) -> Option<T> {
        const {
            assert!(blob::MAX_OCTETS.is_power_of_two());
            assert!(size_of::<T>() <= (blob::PAGE_OCTETS - blob::MAX_OCTETS) as usize);
        }
        let mut place = self.page;
        // In one piece and out of the compiler's sight, so that the verifier sees the mask at its place.
        // The upper half of the offset's register may be anything.
        // SAFETY: a mask and an addition of registers.
        unsafe {
            asm!(
                "{offset} &= {mask}",
                "{place} += {offset}",
                place = inout(reg) place,
                offset = inout(reg) self.start.wrapping_add(at) => _,
                mask = const blob::MAX_OCTETS - 1,
                options(pure, readonly, nostack),
            );
        }
        // SAFETY: the octets lie within the page; any bits are a valid integer.
        Some(unsafe { place.cast::<T>().read_unaligned() })
    }
}

impl Blob for PageBlob {
    #[inline(always)]
    fn load_u64(&self, at: u32) -> Option<u64> {
        self.load(at)
    }

    #[inline(always)]
    fn load_words<const WORDS: usize>(&self, at: u32) -> Option<[u64; WORDS]> {
        self.load(at)
    }

    #[inline(always)]
    fn load_u16(&self, at: u32) -> Option<u16> {
        self.load(at)
    }
}
