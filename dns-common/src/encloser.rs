//! The closest encloser of a name that is not in the index: its nearest ancestor that exists
//! (RFC 4592, section 3.3.1), on whose word the name is denied.

use crate::blob::{self, Head, Table};
use crate::message::Message;
use crate::name;
use crate::respond::compare;
use crate::verdict::Verdict;
use crate::wire::HEADER_OCTETS;

/// Labels that are taken off a name; deeper names go up.
const MAX_LABELS: u32 = 8;

/// What is known of one ancestor, in one word: a function of its own returns it in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ancestor(u64);

impl Ancestor {
    const EXISTS: u64 = 1 << 63;
    /// It is not in the index.
    pub const ABSENT: Self = Self(0);
    /// It cannot be said whether it is.
    pub const MISS: Self = Self(1);
    const MALFORMED: u64 = 2;
    const COLLISION: u64 = 3;

    /// Where the apex of the zone stands in the message, and what the ancestor's blob says.
    #[inline(always)]
    const fn new(apex_at: u32, head: Head) -> Self {
        Self(
            Self::EXISTS | (apex_at as u64) << 16 | (head.flags() as u64) << 8 | head.zone() as u64,
        )
    }

    #[inline(always)]
    const fn failed(verdict: Verdict) -> Self {
        Self(match verdict {
            Verdict::Malformed => Self::MALFORMED,
            Verdict::Collision => Self::COLLISION,
            _ => return Self::MISS,
        })
    }

    /// Reads what [`Self::get`] gave.
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// As one word.
    #[inline(always)]
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Where the apex stands in the message; a head with the ancestor's zone and flags.
    ///
    /// # Errors
    /// Why it cannot deny.
    #[inline(always)]
    pub const fn read(self) -> Result<(u32, Head), Verdict> {
        if self.0 & Self::EXISTS == 0 {
            return Err(match self.0 {
                Self::MALFORMED => Verdict::Malformed,
                Self::COLLISION => Verdict::Collision,
                _ => Verdict::Miss,
            });
        }
        let apex_at = (self.0 >> 16) as u32 & 0xffff;
        let head = Head::new(0, 0, self.0 as u8, (self.0 >> 8) as u8, 0);
        Ok((apex_at, head))
    }
}

/// Looks for the closest encloser of the name of `octets` octets that stands after the header:
/// where the apex of its zone stands, and a head with its zone and flags.
#[inline(always)]
pub(crate) fn find<M: Message, T: Table>(
    message: &M,
    table: &T,
    octets: u32,
) -> Result<(u32, Head), Verdict> {
    let mut at = HEADER_OCTETS;
    let mut left = octets;
    for _ in 0..MAX_LABELS {
        at = message.bound(message.blur(at));
        left = message.blur(left);
        let label = message.load_u32(at).ok_or(Verdict::Malformed)?;
        let label_octets = (label & 0xff).wrapping_add(1);
        // mesos-dns takes labels that start with an asterisk out of the question.
        if label_octets == 1 || label_octets > 64 || (label >> 8) & 0xff == u32::from(b'*') {
            return Err(Verdict::Miss);
        }
        if label_octets >= left {
            return Err(Verdict::Malformed);
        }
        at = at.wrapping_add(label_octets);
        left = left.wrapping_sub(label_octets);
        let ancestor = message.ancestor(table, at, left);
        if ancestor != Ancestor::ABSENT {
            return ancestor.read();
        }
    }
    Err(Verdict::Miss)
}

/// Looks for the name of `octets` octets that stands at `at`.
#[inline(always)]
pub fn ancestor<M: Message, T: Table>(message: &M, table: &T, at: u32, octets: u32) -> Ancestor {
    match try_ancestor(message, table, at, octets) {
        Ok(ancestor) => ancestor,
        Err(verdict) => Ancestor::failed(verdict),
    }
}

#[inline(always)]
fn try_ancestor<M: Message, T: Table>(
    message: &M,
    table: &T,
    at: u32,
    octets: u32,
) -> Result<Ancestor, Verdict> {
    let Some(blob) = table.find(hash(message, at, octets, table.seed())?) else {
        return Ok(Ancestor::ABSENT);
    };
    let head = compare(message, message.blur(at), message.blur(octets), &blob)?;
    if head.flags() & blob::flags::OPAQUE != 0 {
        return Err(Verdict::Miss);
    }
    Ok(Ancestor::new(at.wrapping_add(head.apex_offset()), head))
}

/// The hash of the name of `octets` octets at `start`.
#[inline(always)]
fn hash<M: Message>(message: &M, start: u32, octets: u32, seed: u64) -> Result<u64, Verdict> {
    let mut hasher = name::Hasher::new(seed);
    let mut at = message.bound(message.blur(start));
    let mut left = message.blur(octets);
    // Bounded by the longest name.
    for _ in 0..name::MAX_WORDS {
        if left <= name::WORD {
            break;
        }
        let word = message.load_u64(at).ok_or(Verdict::Malformed)?;
        hasher.push(name::fold(word));
        at = message.bound(at.wrapping_add(name::WORD));
        left = left.wrapping_sub(name::WORD);
    }
    let left = message.blur(left);
    let word = message
        .last_word(message.blur(at), left)
        .ok_or(Verdict::Miss)?;
    hasher.push(name::fold(word));
    Ok(hasher.finish())
}
