//! What is asked: the header and the question checked and the OPT record read, or the reason why
//! the responder does not answer.

use crate::message::Message;
use crate::name::{self, Hasher};
use crate::sum::{Sums, halves, sum_at};
use crate::verdict::Verdict;
use crate::wire::{HEADER_OCTETS, OPT_OCTETS, flags, rtype};

/// The most EDNS options that are looked through.
const MAX_OPTIONS: u32 = 8;

/// A question that the responder understands in full.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Message id, as a number.
    pub id: u16,
    /// Header flags, as a number.
    pub flags: u16,
    /// Octets of the name in wire form, the root label included. The name has not been walked:
    /// only a comparison with a stored name shows that its labels are sound.
    pub name_octets: u32,
    /// Keyed hash of the folded name.
    pub hash: u64,
    /// Type asked.
    pub rtype: u16,
    /// Where the question ends, from the start of the message.
    pub end: u32,
    /// The OPT record, if there is one.
    pub edns: Edns,
    /// One's complement sums of the query.
    pub sums: Sums,
}

/// What a client's OPT record says (RFC 6891, section 6.1.3), in one word: present, DO, whether
/// the version is another than 0, size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns(u32);

impl Edns {
    const PRESENT: u32 = 1 << 31;
    const DNSSEC_OK: u32 = 1 << 30;
    const OTHER_VERSION: u32 = 1 << 29;
    const NONE: Self = Self(0);

    /// Whether there is one; a response has one if and only if the query had.
    #[inline(always)]
    #[must_use]
    pub const fn present(self) -> bool {
        self.0 != 0
    }

    /// As a number.
    #[inline(always)]
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// From its number.
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The most octets that the client takes.
    #[inline(always)]
    #[must_use]
    pub const fn size(self) -> u32 {
        self.0 & 0xffff
    }

    /// Whether its version is one that is not known: any but 0.
    #[inline(always)]
    #[must_use]
    pub const fn other_version(self) -> bool {
        self.0 & Self::OTHER_VERSION != 0
    }

    /// DNSSEC OK, to be copied (RFC 3225, section 3).
    #[inline(always)]
    #[must_use]
    pub const fn dnssec_ok(self) -> bool {
        self.0 & Self::DNSSEC_OK != 0
    }
}

/// Reads a query. One with an EDNS option in `raised` (see
/// [`Policy::raised_options`](crate::Policy::raised_options)) is left to user space.
///
/// # Errors
/// The verdict says what is not understood; nothing has been written.
#[inline(always)]
pub fn read<M: Message>(message: &M, seed: u64, raised: u32) -> Result<Question, Verdict> {
    let octets = message.octets();
    let header = message.load_u64(0).ok_or(Verdict::Length)?;
    let counts = message.load_u32(8).ok_or(Verdict::Length)?;
    let id = (header as u16).swap_bytes();
    let header_flags = ((header >> 16) as u16).swap_bytes();
    if header_flags & (flags::QR | flags::OPCODE) != 0 {
        return Err(Verdict::NotQuery);
    }
    // QDCOUNT 1, ANCOUNT 0; NSCOUNT 0, ARCOUNT 0 or 1; as little-endian words.
    if header >> 32 != 0x0000_0100 || counts & !0x0100_0000 != 0 {
        return Err(Verdict::Counts);
    }

    let mut hasher = Hasher::new(seed);
    let mut sum = 0u64;
    let mut at = HEADER_OCTETS;
    // Bounded by the longest name.
    for _ in 0..name::MAX_WORDS {
        let Some(word) = message.load_u64(at) else {
            break;
        };
        if name::zero_octets(word) != 0 {
            break;
        }
        hasher.push(name::fold(word));
        sum = sum.wrapping_add(halves(word));
        at = message.bound(at.wrapping_add(name::WORD));
    }
    let at = message.bound(message.blur(at));
    sum = message.forget(sum);
    let word = window(message, at, octets)?;
    let zeros = name::zero_octets(word);
    if zeros == 0 {
        return Err(Verdict::Malformed);
    }
    let (before_root, mask) = name::first_mark(zeros);
    hasher.push(name::fold(word & mask));
    sum = sum.wrapping_add(halves(word & mask));
    let name_octets = at
        .wrapping_sub(HEADER_OCTETS)
        .wrapping_add(before_root)
        .wrapping_add(1);
    let name_octets = message.blur(name_octets);
    if name_octets > name::MAX_OCTETS {
        return Err(Verdict::Malformed);
    }

    let type_at = HEADER_OCTETS.wrapping_add(name_octets);
    let end = type_at.wrapping_add(4);
    if end > octets {
        return Err(Verdict::Malformed);
    }
    let type_and_class = message.load_u32(type_at).ok_or(Verdict::Malformed)?;
    if ((type_and_class >> 16) as u16).swap_bytes() != rtype::CLASS_IN {
        return Err(Verdict::Class);
    }
    sum = sum.wrapping_add(sum_at(type_at, u64::from(type_and_class)));

    let edns = if counts == 0 {
        if end != octets {
            return Err(Verdict::Length);
        }
        Edns::NONE
    } else {
        read_opt(message, end, octets, raised)?
    };

    Ok(Question {
        id,
        flags: header_flags,
        name_octets,
        hash: hasher.finish(),
        rtype: (type_and_class as u16).swap_bytes(),
        end,
        edns: Edns(message.blur(edns.0)),
        sums: Sums {
            header: halves(header).wrapping_add(u64::from(counts)),
            question: message.forget(sum),
            records: message.forget(sum_from(message, end, octets)?),
        },
    })
}

/// The type of the question that ends there. To load it again costs the verifier less than to keep it
/// over all that depends on it.
#[inline(always)]
pub(crate) fn rtype<M: Message>(message: &M, end: u32) -> Option<u16> {
    let type_and_class = message.load_u32(end.wrapping_sub(4))?;
    Some((type_and_class as u16).swap_bytes())
}

/// Reads the one additional record, which must be an OPT that ends with the message.
#[inline(always)]
fn read_opt<M: Message>(message: &M, at: u32, octets: u32, raised: u32) -> Result<Edns, Verdict> {
    let front = message.load_u64(at).ok_or(Verdict::Edns)?;
    let back = message.load_u32(at.wrapping_add(7)).ok_or(Verdict::Edns)?;
    // Root owner and type.
    if front & 0xff_ffff != u64::from(rtype::OPT) << 16 {
        return Err(Verdict::Edns);
    }
    let data_octets = u32::from(((back >> 16) as u16).swap_bytes());
    let mut option_at = at.wrapping_add(OPT_OCTETS);
    if option_at.wrapping_add(data_octets) != octets {
        return Err(Verdict::Edns);
    }
    // Every option but those raised is ignored and none is echoed (RFC 6891, section 6.1.2), but
    // each must end within the record.
    let mut is_raised = 0u64;
    for _ in 0..MAX_OPTIONS {
        if option_at >= octets {
            break;
        }
        let option = message.load_u32(option_at).ok_or(Verdict::Edns)?;
        let option_octets = u32::from(((option >> 16) as u16).swap_bytes());
        // Without a branch: codes that are equal modulo 64 go up too, which is only slower.
        let code = u32::from((option as u16).swap_bytes());
        is_raised |= u64::from(raised) >> (code & 63);
        option_at = option_at.wrapping_add(4).wrapping_add(option_octets);
    }
    if message.blur(option_at) != octets {
        return Err(Verdict::Edns);
    }
    if is_raised & 1 != 0 {
        return Err(Verdict::Option);
    }
    let size = u32::from(((front >> 24) as u16).swap_bytes());
    let dnssec_ok = (back & 0x80) << 23;
    let version = if (front >> 48) & 0xff == 0 {
        0
    } else {
        Edns::OTHER_VERSION
    };
    Ok(Edns(Edns::PRESENT | dnssec_ok | version | size))
}

/// The sum of the octets from an offset to another. Long option lists are not worth the kernel's time.
#[inline(always)]
fn sum_from<M: Message>(message: &M, from: u32, end: u32) -> Result<u64, Verdict> {
    const MAX_TRAILING_WORDS: u32 = 40;
    let mut left = message.blur(end.wrapping_sub(from));
    if left == 0 {
        return Ok(0);
    }
    let mut sum = 0u64;
    let mut at = message.bound(from);
    for _ in 0..MAX_TRAILING_WORDS {
        if left <= name::WORD {
            break;
        }
        sum = sum.wrapping_add(halves(message.load_u64(at).ok_or(Verdict::Edns)?));
        at = message.bound(at.wrapping_add(name::WORD));
        left = left.wrapping_sub(name::WORD);
    }
    let left = message.blur(left);
    let word = message
        .last_word(message.blur(at), left)
        .ok_or(Verdict::Edns)?;
    let sum = message.forget(sum).wrapping_add(halves(word));
    Ok(message.forget(sum_at(from, sum)))
}

/// Eight octets at `at`. Past the end of the message there is anything, or zeros: a name that
/// reaches there is too long for its message.
#[inline(always)]
fn window<M: Message>(message: &M, at: u32, octets: u32) -> Result<u64, Verdict> {
    if let Some(word) = message.load_u64(at) {
        return Ok(word);
    }
    let left = message.blur(octets.wrapping_sub(at));
    if left == 0 {
        return Err(Verdict::Malformed);
    }
    message.last_word(at, left).ok_or(Verdict::Malformed)
}
