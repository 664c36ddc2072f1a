//! What user space tells the kernel: one value that both responders read.

use crate::rate_limit::RateLimit;

/// Addresses of one family that a [`Policy`] can hold.
pub const MAX_ADDRESSES: usize = 16;

/// Switches and limits, one per host. Lives in the BPF map `POLICY`.
///
/// All numbers are in host order unless said otherwise. The first two words keep their meaning in
/// every version: a daemon renews the lease of the maps of another version until its own are full.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Key of the name hash.
    pub seed: u64,
    /// After this time, in jiffies of the host, the kernel passes everything up. `u64::MAX` means
    /// never, 0 means at once.
    pub answer_until: u64,
    /// The most octets of a response over UDP.
    pub max_udp: u32,
    /// The UDP port that is answered.
    pub port: u32,
    /// See [`flags`].
    pub flags: u32,
    /// Valid entries of `ipv4`.
    pub ipv4_count: u32,
    /// Valid entries of `ipv6`.
    pub ipv6_count: u32,
    /// EDNS options that only user space answers, a bit for each code below 32: a query that has one
    /// of them goes up.
    pub raised_options: u32,
    /// One of so many packets is handed to user space; 0 for none.
    pub sample_every: u32,
    /// Microseconds between two ticks of the kernel's clock.
    pub tick: u32,
    /// One less than the pairs of [shortcuts](crate::shortcut) in use.
    pub shortcut_mask: u64,
    /// One less than the [homes](crate::home) in use.
    pub home_mask: u64,
    /// Addresses that are answered, in network order.
    pub ipv4: [[u8; 4]; MAX_ADDRESSES],
    /// Addresses that are answered, in network order.
    pub ipv6: [[u8; 16]; MAX_ADDRESSES],
    /// How often a prefix is answered, if [`flags::LIMITED`] says so.
    pub limit: RateLimit,
}

const _: () = assert!(size_of::<Policy>() == 64 + 20 * MAX_ADDRESSES + size_of::<RateLimit>());

/// The word of a [`Policy`] that is `seed`.
pub const SEED_WORD: usize = 0;
/// The word of a [`Policy`] that is `answer_until`.
pub const LEASE_WORD: usize = 1;
/// The word of a [`Policy`] whose lower half is `sample_every`.
pub const SAMPLE_WORD: usize = 5;
/// The word of a [`Policy`] that is `shortcut_mask`.
pub const SHORTCUTS_WORD: usize = 6;
/// The word of a [`Policy`] that is `home_mask`.
pub const HOMES_WORD: usize = 7;

const _: () = assert!(core::mem::offset_of!(Policy, seed) == 8 * SEED_WORD);
const _: () = assert!(core::mem::offset_of!(Policy, answer_until) == 8 * LEASE_WORD);
const _: () = assert!(core::mem::offset_of!(Policy, sample_every) == 8 * SAMPLE_WORD);
const _: () = assert!(core::mem::offset_of!(Policy, shortcut_mask) == 8 * SHORTCUTS_WORD);
const _: () = assert!(core::mem::offset_of!(Policy, home_mask) == 8 * HOMES_WORD);

/// Interfaces that the map `INTERFACES` can tell apart: its size, a power of two.
pub const INTERFACE_SLOTS: u32 = 4096;

/// An interface that is answered on. Lives in the BPF map `INTERFACES`, at its index modulo
/// [`INTERFACE_SLOTS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its address in the order of the wire, as the low six octets of a little-endian number; 0
    /// if it has none.
    pub mac: u64,
    /// Its index; 0 in a free slot.
    pub index: u32,
    /// See [`interface_flags`].
    pub flags: u32,
}

const _: () = assert!(size_of::<Interface>() == 16);

/// Bits of [`Interface::flags`].
pub mod interface_flags {
    /// The TC program is alone there, without an XDP program before it.
    pub const TC_ALONE: u32 = 1;
}

/// Prefixes that the map `ALLOWED` has room for at most; clients of others are left to user space.
pub const MAX_ALLOWED: u32 = 65_536;

/// The key of a prefix in the map `ALLOWED`, an LPM trie, as three words: how many bits count, an octet
/// for the family and three of zero, which count first, and the address in network order.
#[inline(always)]
#[must_use]
pub const fn allowed_ipv4(bits: u32, address: u32) -> [u64; 3] {
    [allowed_front(4, bits), address as u64, 0]
}

/// [`allowed_ipv4`] for IPv6, with the address in two words as they are loaded.
#[inline(always)]
#[must_use]
pub const fn allowed_ipv6(bits: u32, high: u64, low: u64) -> [u64; 3] {
    [allowed_front(6, bits), high, low]
}

const fn allowed_front(family: u64, bits: u32) -> u64 {
    bits.wrapping_add(32) as u64 | family << 32
}

/// Bits of [`Policy::flags`].
pub mod flags {
    /// A response that does not fit is answered with TC=1 and no records. Without it such a query
    /// goes up.
    pub const TRUNCATE: u32 = 1;
    /// Only the clients in the map `ALLOWED` are answered.
    pub const RESTRICTED: u32 = 2;
    /// No client is answered: the map may hold some that are not allowed.
    pub const CLOSED: u32 = 4;
    /// [`Policy::limit`](super::Policy::limit) holds.
    pub const LIMITED: u32 = 8;
}

impl Policy {
    /// Answers nothing: the state of the map before user space has spoken.
    #[must_use]
    pub const fn silent() -> Self {
        Self {
            seed: 0,
            answer_until: 0,
            max_udp: crate::wire::MAX_UDP_OCTETS,
            port: 53,
            flags: 0,
            ipv4_count: 0,
            ipv6_count: 0,
            raised_options: 0,
            sample_every: 0,
            tick: 0,
            shortcut_mask: 0,
            home_mask: 0,
            ipv4: [[0; 4]; MAX_ADDRESSES],
            ipv6: [[0; 16]; MAX_ADDRESSES],
            limit: RateLimit::new(0, 0, 0),
        }
    }
}
