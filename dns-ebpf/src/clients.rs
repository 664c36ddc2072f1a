//! Who is answered, and how often: the clients allowed, and the share of each prefix.

use core::arch::asm;

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, LpmTrie};
use aya_ebpf::helpers::bpf_get_prandom_u32;
use aya_ebpf::macros::btf_map;
use dns_common::policy::{self, flags};
use dns_common::rate_limit::{self, ACCOUNTS_PER_LINE, LINES, Line};
use dns_common::{Allowance, Policy};

use crate::jiffies;
use crate::maps::{MMAPABLE, place};
use crate::packet::{Context, Packet};

/// Prefixes of clients that are answered, where not all are. User space writes it.
#[btf_map]
static ALLOWED: LpmTrie<[u32; 5], u32, { policy::MAX_ALLOWED as usize }> = LpmTrie::new();

/// The accounts of prefixes. The program writes it. Can be mapped so that each line begins where a
/// cache line does.
#[btf_map]
static ACCOUNTS: Array<[u64; ACCOUNTS_PER_LINE as usize], { LINES as usize }, MMAPABLE> =
    Array::new();

/// The source of a packet.
#[derive(Clone, Copy)]
pub(crate) enum Source {
    Ipv4(u32),
    Ipv6 { high: u64, low: u64 },
}

impl Source {
    #[inline(always)]
    pub(crate) fn read<C: Context>(packet: Packet<C>, ip_at: u32, ipv6: bool) -> Option<Self> {
        Some(if ipv6 {
            Self::Ipv6 {
                high: packet.load(ip_at.wrapping_add(8))?,
                low: packet.load(ip_at.wrapping_add(16))?,
            }
        } else {
            Self::Ipv4(packet.load(ip_at.wrapping_add(12))?)
        })
    }
}

/// Whether the client of a packet is answered, by a policy that does not answer all.
#[inline(always)]
pub(crate) fn allows<C: Context>(
    packet: Packet<C>,
    policy: &Policy,
    ip_at: u32,
    ipv6: bool,
) -> bool {
    policy.flags & flags::CLOSED == 0 && packet.is_allowed(ip_at, ipv6)
}

/// Whether the source of a packet is in the map.
#[inline(always)]
pub(crate) fn is_allowed<C: Context>(packet: Packet<C>, ip_at: u32, ipv6: bool) -> bool {
    let key = match Source::read(packet, ip_at, ipv6) {
        Some(Source::Ipv4(address)) => policy::allowed_ipv4(32, address),
        Some(Source::Ipv6 { high, low }) => policy::allowed_ipv6(128, high, low),
        None => return false,
    };
    // Whole words, as the verifier wants them on the stack.
    const { assert!(size_of::<Key<[u32; 5]>>() == size_of::<[u64; 3]>()) };
    // SAFETY: a key of this size, of which any bits are valid, without alignment of its own.
    let key = unsafe { &*key.as_ptr().cast() };
    ALLOWED.get(key).is_some()
}

/// Takes a response from the share of the prefix that a client is in.
#[inline(always)]
pub(crate) fn allowance(policy: &Policy, source: Source) -> Option<Allowance> {
    let limit = &policy.limit;
    let prefix = match source {
        Source::Ipv4(address) => limit.ipv4_prefix(address.to_le_bytes()),
        Source::Ipv6 { high, .. } => limit.ipv6_prefix(high.to_le_bytes()),
    };
    let hash = rate_limit::hash(policy.seed, prefix);
    let line = AccountLine(ACCOUNTS.get_ptr_mut(rate_limit::line_of(hash))?.cast());
    let now = jiffies().wrapping_mul(u64::from(policy.tick));
    // SAFETY: takes nothing and gives a number.
    let chance = || unsafe { bpf_get_prandom_u32() };
    Some(limit.charge(&line, hash, now, chance))
}

/// A value of the map `ACCOUNTS`.
struct AccountLine(*mut u64);

impl AccountLine {
    #[inline(always)]
    fn at(&self, slot: u32) -> *mut u64 {
        place::<ACCOUNTS_PER_LINE>(self.0, slot)
    }
}

impl Line for AccountLine {
    #[inline(always)]
    fn load(&self, slot: u32) -> u64 {
        // SAFETY: `at` is within the line; a word is loaded whole.
        unsafe { self.at(slot).read_volatile() }
    }

    #[inline(always)]
    fn replace(&self, slot: u32, seen: u64, next: u64) -> bool {
        let found: u64;
        // The compiler has no such operation for this target.
        // SAFETY: `at` is within the line.
        unsafe {
            asm!(
                "r0 = cmpxchg_64({place} + 0, r0, {next})",
                place = in(reg) self.at(slot),
                next = in(reg) next,
                inout("r0") seen => found,
                options(nostack),
            );
        }
        found == seen
    }
}
