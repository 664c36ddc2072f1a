//! What a response will hold: chosen from the blob of the name, and cut to what the client takes.
//! Nothing has been written yet.

use crate::blob::{self, Blob, Entry, Head, Table, entry_flags};
use crate::message::Message;
use crate::question::Question;
use crate::verdict::Verdict;
use crate::wire::{HEADER_OCTETS, MIN_UDP_OCTETS, flags, rtype};
use crate::write::{A_OCTETS, AAAA_OCTETS, bare_octets};

/// A piece of the response: octets `from..from + octets` of the blob. Either none or at least
/// eight, as every record has eleven or more.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) from: u32,
    pub(crate) octets: u32,
}

/// All that is needed to write the response.
pub(crate) struct Plan<B> {
    pub(crate) blob: B,
    /// A [`Verdict`] of a response, as its number.
    pub(crate) verdict: u32,
    /// Header flags, as a number; from bit 16 on the upper bits of the code, which go into OPT.
    pub(crate) flags: u32,
    /// Records of the answer, authority and additional section, a byte each from the lowest; OPT
    /// not counted.
    pub(crate) counts: u32,
    pub(crate) head: Piece,
    pub(crate) rotating: Piece,
    /// Stands before the tail if it is not zero: the owner that a shared SOA lacks.
    pub(crate) tail_owner: u32,
    pub(crate) tail: Piece,
}

impl<B> Plan<B> {
    /// BADVERS in place of what was planned; the OPT record has the code (RFC 6891, section 6.1.3).
    #[inline(always)]
    pub(crate) fn refuse_version(&mut self, question: &Question) {
        self.verdict = Verdict::BadVersion as u32;
        const BADVERS: u32 = 16;
        self.flags = u32::from(flags::QR | copied_flags(question)) | BADVERS >> 4 << 16;
        self.leave_out_records();
    }

    #[inline(always)]
    fn leave_out_records(&mut self) {
        self.counts = 0;
        self.head.octets = 0;
        self.rotating.octets = 0;
        self.tail_owner = 0;
        self.tail.octets = 0;
    }

    /// See [`Message::blur`]: the ways to a plan meet here.
    #[inline(always)]
    pub(crate) fn blur<M: Message>(&mut self, message: &M) {
        self.verdict = message.blur(self.verdict);
        self.flags = message.blur(self.flags);
        self.counts = message.blur(self.counts);
        self.tail_owner = message.blur(self.tail_owner);
        for piece in [&mut self.head, &mut self.rotating, &mut self.tail] {
            piece.from = message.blur(piece.from);
            piece.octets = message.blur(piece.octets);
        }
    }
}

/// Whether the answer is the first answer, and one address.
#[inline(always)]
pub(crate) fn is_one_address(question: &Question, head: Head) -> bool {
    let octets = match question.rtype {
        rtype::A => A_OCTETS,
        rtype::AAAA => AAAA_OCTETS,
        _ => return false,
    };
    head.first_type() == question.rtype
        && head.first_octets() == octets
        && head.flags() & blob::flags::PASS == 0
        && !question.edns.other_version()
}

/// Chooses the answer.
#[inline(always)]
pub(crate) fn choose<M: Message, T: Table>(
    message: &M,
    table: &T,
    question: &Question,
    blob: T::Blob,
    head: Head,
) -> Result<Plan<T::Blob>, Verdict> {
    if head.flags() & blob::flags::PASS != 0 {
        return Err(Verdict::Miss);
    }
    if head.first_type() == question.rtype && !is_special(question.rtype) {
        return Ok(first_answer(question, blob, head));
    }
    let mut at = head.directory_at();
    let mut found = false;
    // Bounded by the largest directory.
    for index in 0..blob::MAX_ENTRIES {
        if index >= head.entries() {
            break;
        }
        let rtype = blob.load_u16(at).ok_or(Verdict::Miss)?;
        if rtype == question.rtype || (rtype == blob::ANY_OTHER_TYPE && !is_special(question.rtype))
        {
            found = true;
            break;
        }
        at = at.wrapping_add(blob::ENTRY_OCTETS);
    }
    if found {
        let at = message.blur(at);
        let low = blob.load_u64(at).ok_or(Verdict::Miss)?;
        let high = blob.load_u64(at.wrapping_add(8)).ok_or(Verdict::Miss)?;
        return answer(question, blob, head, Entry::from_words(low, high));
    }
    if is_special(question.rtype) {
        return Err(Verdict::MetaType);
    }
    let owner = HEADER_OCTETS.wrapping_add(head.apex_offset());
    denial(table, question, head, owner, Verdict::NoData)
}

/// Whether a type has a meaning of its own, so that its absence is not NODATA.
#[inline(always)]
pub(crate) const fn is_special(rtype: u16) -> bool {
    rtype == 0
        || rtype == rtype::OPT
        || rtype == rtype::DS
        || (rtype >= rtype::FIRST_META && rtype <= rtype::LAST_META)
}

/// The one record of the first answer.
#[inline(always)]
fn first_answer<B: Blob>(question: &Question, blob: B, head: Head) -> Plan<B> {
    let none = Piece { from: 0, octets: 0 };
    Plan {
        blob,
        verdict: Verdict::Answered as u32,
        flags: response_flags(question, head),
        counts: 1,
        head: none,
        rotating: Piece {
            from: head.first_at(),
            octets: head.first_octets(),
        },
        tail_owner: 0,
        tail: none,
    }
}

/// The records of one directory entry.
#[inline(always)]
fn answer<B: Blob>(
    question: &Question,
    blob: B,
    head: Head,
    entry: Entry,
) -> Result<Plan<B>, Verdict> {
    if entry.flags & entry_flags::UNFIT != 0 {
        return Err(Verdict::TooBig);
    }
    let body_at = u32::from(entry.body_at);
    let rotating_at = body_at.wrapping_add(u32::from(entry.head_octets));
    let rotating_octets = u32::from(entry.rotating_octets);
    let mut first = 0;
    let mut tail_at = rotating_at.wrapping_add(rotating_octets);
    if entry.rotating > 1 {
        tail_at = tail_at.wrapping_add(rotating_octets);
        // Rotated left by the id modulo the count: reproducible, and the order of dcos-dns.
        let count = u32::from(entry.rotating);
        let turn = u32::from(question.id).checked_rem(count).unwrap_or(0);
        first = if entry.stride != 0 {
            turn.wrapping_mul(u32::from(entry.stride))
        } else {
            let starts_at = body_at.wrapping_sub(count.wrapping_mul(2));
            let start = blob.load_u16(starts_at.wrapping_add(turn.wrapping_mul(2)));
            u32::from(start.ok_or(Verdict::Miss)?)
        };
    }
    Ok(Plan {
        blob,
        verdict: Verdict::Answered as u32,
        flags: response_flags(question, head),
        counts: entry.counts(),
        head: Piece {
            from: body_at,
            octets: u32::from(entry.head_octets),
        },
        rotating: Piece {
            from: rotating_at.wrapping_add(first),
            octets: rotating_octets,
        },
        tail_owner: 0,
        tail: Piece {
            from: tail_at,
            octets: u32::from(entry.tail_octets),
        },
    })
}

/// The SOA of the zone, which says for how long the denial holds (RFC 2308, section 3).
#[inline(always)]
pub(crate) fn denial<T: Table>(
    table: &T,
    question: &Question,
    head: Head,
    owner: u32,
    mut verdict: Verdict,
) -> Result<Plan<T::Blob>, Verdict> {
    let blob = table.soa(head.zone()).ok_or(Verdict::Miss)?;
    let low = blob.load_u64(blob::NAME_AT).ok_or(Verdict::Miss)?;
    let high = blob
        .load_u64(blob::NAME_AT.wrapping_add(8))
        .ok_or(Verdict::Miss)?;
    let entry = Entry::from_words(low, high);
    let zone_flags = Head::from_bits(blob.load_u64(0).ok_or(Verdict::Miss)?).flags();
    let mut response = response_flags(question, head);
    if verdict as u32 == Verdict::NxDomain as u32 {
        if zone_flags & blob::flags::DENIES_NAMES == 0 {
            return Err(Verdict::Miss);
        }
        // mesos-dns says of any service that it exists, without records.
        if question.rtype == rtype::SRV && zone_flags & blob::flags::EVERY_SERVICE != 0 {
            verdict = Verdict::NoData;
        } else {
            response |= u32::from(flags::NXDOMAIN);
        }
    }
    let none = Piece { from: 0, octets: 0 };
    Ok(Plan {
        blob,
        verdict: verdict as u32,
        flags: response,
        counts: 1 << 8,
        head: none,
        rotating: none,
        tail_owner: 0xc000 | owner,
        tail: Piece {
            from: u32::from(entry.body_at),
            octets: u32::from(entry.tail_octets),
        },
    })
}

#[inline(always)]
pub(crate) fn response_flags(question: &Question, head: Head) -> u32 {
    const { assert!(blob::flags::RA == 1) };
    let recursion = u32::from(head.flags() & blob::flags::RA).wrapping_mul(flags::RA as u32);
    u32::from(flags::QR | flags::AA | copied_flags(question)) | recursion
}

#[inline(always)]
const fn copied_flags(question: &Question) -> u16 {
    copied(question.flags)
}

#[inline(always)]
pub(crate) const fn copied(query_flags: u16) -> u16 {
    query_flags & (flags::RD | flags::CD)
}

/// Octets of the response; cuts the plan where it does not fit the client.
#[inline(always)]
pub(crate) fn fit<T: Table>(
    table: &T,
    question: &Question,
    plan: &mut Plan<T::Blob>,
) -> Result<u32, Verdict> {
    let mut limit = MIN_UDP_OCTETS;
    let fixed = bare_octets(question.end, question.edns);
    if question.edns.present() {
        // Smaller values mean 512 (RFC 6891, section 6.2.3).
        limit = question
            .edns
            .size()
            .max(MIN_UDP_OCTETS)
            .min(table.max_udp());
    }
    let owner_octets = if plan.tail_owner == 0 { 0 } else { 2 };
    let needed = fixed
        .wrapping_add(plan.head.octets)
        .wrapping_add(plan.rotating.octets);
    let octets = needed
        .wrapping_add(owner_octets)
        .wrapping_add(plan.tail.octets);
    if octets <= limit {
        return Ok(octets);
    }
    if needed <= limit || plan.head.octets != 0 || !table.truncates() {
        // Some of it may still fit: more than finished answers can say.
        return Err(Verdict::TooBig);
    }
    // Required data is missing: TC, and no part of an RRset (RFC 2181, section 9).
    plan.verdict = Verdict::Truncated as u32;
    plan.flags |= flags::TC as u32;
    plan.leave_out_records();
    Ok(fixed)
}
