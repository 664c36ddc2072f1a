//! A name's finished answers: one immutable value, read in place by the kernel and by user space.
//!
//! ```text
//!  0  name octets        u8    wire form, root label included
//!  1  entries            u8    of the directory
//!  2  zone               u8    index of the zone, for its SOA
//!  3  flags              u8    [`flags`]
//!  4  apex offset        u8    where the zone's name starts within the name
//!  5  first type         u8    of the first answer, 0 for none
//!  6  first octets       u8    of the first answer
//!  7  units              u8    of [`SLOT_OCTETS`] that it takes
//!  8  name               folded, filled up with zeros to a multiple of eight octets
//!     first answer       one finished record, filled up likewise
//!     directory          `entries` times 16 octets, see [`Entry`]
//!     bodies             finished records
//! ```
//!
//! The first answer is a single record that is all there is to say to its type: with a short name,
//! one cache line holds all that a question for an address needs.
//!
//! The body of an entry is `head`, then the rotating records, written twice if there are several,
//! then `tail`. The records that rotate can thus be copied from any first record in one piece.
//! `head` holds a CNAME chain, `tail` the authority and additional records. Owner names point at
//! the question or are spelled out, never at a record that rotates.
//!
//! Where the rotating records differ in size, the octets right before the body list the start of
//! each, as little-endian u16 relative to the first.

/// Octets before the name.
pub const NAME_AT: u32 = 8;
/// Where the size of the blob is noted.
pub const UNITS_AT: usize = 7;
/// Octets of a directory entry.
pub const ENTRY_OCTETS: u32 = 16;
/// The most entries of a directory.
pub const MAX_ENTRIES: u32 = 12;
/// The most octets of a blob.
pub const MAX_OCTETS: u32 = 4096;
/// Octets of a page of the map that blobs live in. No blob reaches into the last
/// [`SLOT_OCTETS`]: whatever is loaded from a place before them, however it is bounded to that, stays
/// within the page.
pub const PAGE_OCTETS: u32 = MAX_OCTETS + SLOT_OCTETS;
/// Blobs start at multiples of this within their page.
pub const SLOT_OCTETS: u32 = 64;
/// The most zones.
pub const MAX_ZONES: u32 = 64;
/// References of blobs: where in the map they start, in words of eight octets, counted as if pages had
/// [`MAX_OCTETS`]. No blob has the reference 0.
pub mod reference {
    use super::MAX_OCTETS;

    const WORDS_PER_PAGE: u64 = MAX_OCTETS as u64 / 8;

    /// Page, and octets from its start.
    #[inline(always)]
    #[must_use]
    pub const fn parts(reference: u64) -> (u64, u32) {
        let word = (reference % WORDS_PER_PAGE) as u32;
        (reference / WORDS_PER_PAGE, word.wrapping_mul(8))
    }
}

/// The type of an entry that stands for every type not listed before it: what a CNAME gives.
pub const ANY_OTHER_TYPE: u16 = 0;

/// Bits of the blob's flags.
pub mod flags {
    /// Responses carry RA=1.
    pub const RA: u8 = 1;
    /// Nothing below this name may be denied: a delegation, a DNAME or a wildcard governs it.
    pub const OPAQUE: u8 = 2;
    /// Only a rendezvous for what lies below; a question for the name itself goes up.
    pub const PASS: u8 = 4;
    /// On the SOA of a zone: every name of the zone is in the index, so that a name which is not
    /// found does not exist.
    pub const DENIES_NAMES: u8 = 8;
    /// On the SOA of a zone: an SRV question for a name that does not exist gets NOERROR.
    pub const EVERY_SERVICE: u8 = 16;
}

/// Reads one blob. Past its end there is `None` or, in the kernel, whatever else its page has: offsets
/// come from the blob itself, and no encoder writes one that leads out of it.
pub trait Blob: Copy {
    /// Eight octets at `at`, little-endian. `None` past the end.
    fn load_u64(&self, at: u32) -> Option<u64>;
    /// `WORDS` times eight octets at `at`, little-endian. `None` past the end.
    fn load_words<const WORDS: usize>(&self, at: u32) -> Option<[u64; WORDS]>;
    /// Two octets at `at`, little-endian. `None` past the end.
    fn load_u16(&self, at: u32) -> Option<u16>;
}

/// Finds blobs.
pub trait Table {
    /// How a blob is read.
    type Blob: Blob;
    /// The key of the name hash.
    fn seed(&self) -> u64;
    /// The most octets of a response over UDP.
    fn max_udp(&self) -> u32;
    /// Whether an answer that does not fit is answered with TC=1.
    fn truncates(&self) -> bool;
    /// EDNS options that send a query up, a bit for each code below 32.
    fn raised_options(&self) -> u32;
    /// Whether [`Message::allowance`](crate::Message::allowance) is asked. Where it is not, that has
    /// been decided before.
    #[inline(always)]
    fn limits(&self) -> bool {
        false
    }
    /// The blob whose owner name has this hash. The caller compares the name.
    fn find(&self, hash: u64) -> Option<Self::Blob>;
    /// The SOA record that denies names and types of a zone: a blob without a name, whose one
    /// entry has the record, less its owner, as its tail. `None` if the zone denies nothing.
    fn soa(&self, zone: u8) -> Option<Self::Blob>;
}

/// The first eight octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head(u64);

impl Head {
    /// Packs the fields.
    #[must_use]
    pub const fn new(name_octets: u8, entries: u8, zone: u8, flags: u8, apex_offset: u8) -> Self {
        Self(u64::from_le_bytes([
            name_octets,
            entries,
            zone,
            flags,
            apex_offset,
            0,
            0,
            0,
        ]))
    }

    /// The same with a first answer.
    #[must_use]
    pub const fn with_first(self, rtype: u8, octets: u8) -> Self {
        Self(self.0 | (rtype as u64) << 40 | (octets as u64) << 48)
    }

    /// The same with another number of entries.
    #[must_use]
    pub const fn with_entries(self, entries: u8) -> Self {
        Self(self.0 & !0xff00 | (entries as u64) << 8)
    }

    /// The blob's size in units of [`SLOT_OCTETS`].
    #[must_use]
    pub const fn units(self) -> usize {
        (self.0 >> 56) as usize
    }

    /// The type of the first answer; 0 if there is none.
    #[inline(always)]
    #[must_use]
    pub const fn first_type(self) -> u16 {
        ((self.0 >> 40) & 0xff) as u16
    }

    /// Octets of the first answer.
    #[inline(always)]
    #[must_use]
    pub const fn first_octets(self) -> u32 {
        ((self.0 >> 48) & 0xff) as u32
    }

    /// Where the first answer starts: behind the name.
    #[inline(always)]
    #[must_use]
    pub const fn first_at(self) -> u32 {
        NAME_AT.wrapping_add(crate::name::words(self.name_octets()).wrapping_mul(crate::name::WORD))
    }

    /// Reads what [`Self::get`] gave.
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// As stored.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Octets of the name in wire form.
    #[inline(always)]
    #[must_use]
    pub const fn name_octets(self) -> u32 {
        (self.0 & 0xff) as u32
    }

    /// Entries of the directory.
    #[inline(always)]
    #[must_use]
    pub const fn entries(self) -> u32 {
        ((self.0 >> 8) & 0xff) as u32
    }

    /// Index of the zone.
    #[inline(always)]
    #[must_use]
    pub const fn zone(self) -> u8 {
        ((self.0 >> 16) & 0xff) as u8
    }

    /// See [`flags`].
    #[inline(always)]
    #[must_use]
    pub const fn flags(self) -> u8 {
        ((self.0 >> 24) & 0xff) as u8
    }

    /// Where the zone's name starts within the name.
    #[inline(always)]
    #[must_use]
    pub const fn apex_offset(self) -> u32 {
        ((self.0 >> 32) & 0xff) as u32
    }

    /// Where the directory starts.
    #[inline(always)]
    #[must_use]
    pub const fn directory_at(self) -> u32 {
        self.first_at()
            .wrapping_add(crate::name::words(self.first_octets()).wrapping_mul(crate::name::WORD))
    }
}

/// What to answer for one type.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The type asked, or [`ANY_OTHER_TYPE`].
    pub rtype: u16,
    /// Records in the answer section.
    pub answers: u8,
    /// Records in the authority section.
    pub authorities: u8,
    /// Records in the additional section, OPT not counted.
    pub additionals: u8,
    /// Records that rotate; 0 in an entry whose answer never fits a datagram.
    pub rotating: u8,
    /// Octets of the records before those that rotate.
    pub head_octets: u16,
    /// Where the body starts, from the start of the blob.
    pub body_at: u16,
    /// Octets of the records that rotate, written once.
    pub rotating_octets: u16,
    /// Octets of the records behind.
    pub tail_octets: u16,
    /// Octets of each record that rotates, or 0 if a list of starts stands before the body.
    pub stride: u8,
    /// See [`entry_flags`].
    pub flags: u8,
}

/// Bits of [`Entry::flags`].
pub mod entry_flags {
    /// The answer is larger than any datagram: only its type is listed.
    pub const UNFIT: u8 = 1;
}

const _: () = assert!(size_of::<Entry>() == ENTRY_OCTETS as usize);

impl Entry {
    /// Reads two words as written by [`Self::words`].
    #[inline(always)]
    #[must_use]
    pub const fn from_words(low: u64, high: u64) -> Self {
        Self {
            rtype: low as u16,
            answers: (low >> 16) as u8,
            authorities: (low >> 24) as u8,
            additionals: (low >> 32) as u8,
            rotating: (low >> 40) as u8,
            head_octets: (low >> 48) as u16,
            body_at: high as u16,
            rotating_octets: (high >> 16) as u16,
            tail_octets: (high >> 32) as u16,
            stride: (high >> 48) as u8,
            flags: (high >> 56) as u8,
        }
    }

    /// Records by section, a byte each from the lowest.
    #[inline(always)]
    #[must_use]
    pub const fn counts(self) -> u32 {
        u32::from_le_bytes([self.answers, self.authorities, self.additionals, 0])
    }

    /// The entry as two little-endian words.
    #[must_use]
    pub const fn words(self) -> (u64, u64) {
        (
            self.rtype as u64
                | (self.answers as u64) << 16
                | (self.authorities as u64) << 24
                | (self.additionals as u64) << 32
                | (self.rotating as u64) << 40
                | (self.head_octets as u64) << 48,
            self.body_at as u64
                | (self.rotating_octets as u64) << 16
                | (self.tail_octets as u64) << 32
                | (self.stride as u64) << 48
                | (self.flags as u64) << 56,
        )
    }
}

/// A blob in ordinary memory.
#[derive(Clone, Copy, Debug)]
pub struct SliceBlob<'a>(pub &'a [u8]);

impl SliceBlob<'_> {
    #[inline(always)]
    fn chunk<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        self.0.get(at as usize..)?.first_chunk().copied()
    }
}

impl Blob for SliceBlob<'_> {
    #[inline(always)]
    fn load_u64(&self, at: u32) -> Option<u64> {
        self.chunk(at).map(u64::from_le_bytes)
    }

    #[inline(always)]
    fn load_words<const WORDS: usize>(&self, at: u32) -> Option<[u64; WORDS]> {
        let octets = self.0.get(at as usize..)?.as_chunks().0;
        let octets: &[[u8; 8]; WORDS] = octets.first_chunk()?;
        Some(octets.map(u64::from_le_bytes))
    }

    #[inline(always)]
    fn load_u16(&self, at: u32) -> Option<u16> {
        self.chunk(at).map(u16::from_le_bytes)
    }
}
