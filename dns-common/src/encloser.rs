//! The closest encloser of a name that is not in the index: its nearest ancestor that exists
//! (RFC 4592, section 3.3.1), on whose word the name is denied.

use crate::blob::{self, Head, Table};
use crate::name;
use crate::respond::{Message, compare};
use crate::verdict::Verdict;
use crate::wire::HEADER_OCTETS;

/// Labels that are taken off a name; deeper names go up.
const MAX_LABELS: u32 = 6;
/// Words of the longest encloser that is looked for.
const MAX_WORDS: u32 = 11;

/// What [`find`] gives, in one word: a function of its own returns it in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found(u64);

impl Found {
    const IS_FOUND: u64 = 1 << 63;
    const MALFORMED: u64 = 1;
    const COLLISION: u64 = 2;

    /// Where the apex of the zone stands in the message, and what the encloser's blob says.
    #[inline(always)]
    const fn new(apex_at: u32, head: Head) -> Self {
        Self(
            Self::IS_FOUND
                | (apex_at as u64) << 16
                | (head.flags() as u64) << 8
                | head.zone() as u64,
        )
    }

    #[inline(always)]
    const fn failed(verdict: Verdict) -> Self {
        Self(match verdict {
            Verdict::Malformed => Self::MALFORMED,
            Verdict::Collision => Self::COLLISION,
            _ => 0,
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

    /// Where the apex stands in the message; a head with the encloser's zone and flags.
    ///
    /// # Errors
    /// Why there is none.
    #[inline(always)]
    pub const fn read(self) -> Result<(u32, Head), Verdict> {
        if self.0 & Self::IS_FOUND == 0 {
            return Err(match self.0 {
                Self::MALFORMED => Verdict::Malformed,
                Self::COLLISION => Verdict::Collision,
                _ => Verdict::Miss,
            });
        }
        let apex_at = (self.0 >> 16) as u32 & 0xffff;
        Ok((
            apex_at,
            Head::new(0, 0, self.0 as u8, (self.0 >> 8) as u8, 0),
        ))
    }
}

/// Looks for the closest encloser of the name of `octets` octets that stands after the header.
#[inline(always)]
pub fn find<M: Message, T: Table>(message: &M, table: &T, octets: u32) -> Found {
    match try_find(message, table, octets) {
        Ok(found) => found,
        Err(verdict) => Found::failed(verdict),
    }
}

#[inline(always)]
fn try_find<M: Message, T: Table>(message: &M, table: &T, octets: u32) -> Result<Found, Verdict> {
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
        if let Some(blob) = table.find(hash(message, at, left, table.seed())?) {
            let head = compare(message, message.blur(at), message.blur(left), &blob)?;
            if head.flags() & blob::flags::OPAQUE != 0 {
                return Err(Verdict::Miss);
            }
            return Ok(Found::new(at.wrapping_add(head.apex_offset()), head));
        }
    }
    Err(Verdict::Miss)
}

/// The hash of the name of `octets` octets at `start`.
#[inline(always)]
fn hash<M: Message>(message: &M, start: u32, octets: u32, seed: u64) -> Result<u64, Verdict> {
    let mut hasher = name::Hasher::new(seed);
    let mut at = message.bound(message.blur(start));
    let mut left = message.blur(octets);
    // Bounded by the longest name that is looked for.
    for _ in 0..MAX_WORDS {
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
