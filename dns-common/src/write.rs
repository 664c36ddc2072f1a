//! Plan to response: header, records and OPT in the place of what followed the question.

use crate::blob::Blob;
use crate::message::Message;
use crate::name;
use crate::plan::{Piece, Plan, copied};
use crate::question::{Edns, Question};
use crate::sum::{Sums, halves, sum_at};
use crate::wire::{OPT_OCTETS, flags, rtype};

/// Octets of an A record whose owner points at the question.
pub(crate) const A_OCTETS: u32 = 16;
/// Octets of an AAAA record of that kind.
pub(crate) const AAAA_OCTETS: u32 = 28;

/// Octets of a response without records.
#[inline(always)]
pub(crate) const fn bare_octets(end: u32, edns: Edns) -> u32 {
    if edns.present() {
        end.wrapping_add(OPT_OCTETS)
    } else {
        end
    }
}

/// Writes header, records and OPT; the question stays as it was sent.
#[inline(always)]
pub(crate) fn write<M: Message, B: Blob>(
    message: &mut M,
    question: &Question,
    plan: &Plan<B>,
) -> Option<Sums> {
    let header = write_header(message, question.id, question.edns, plan.flags, plan.counts)?;
    let mut at = message.blur(question.end);
    let mut sum = copy(message, &plan.blob, plan.head, at)?;
    at = at.wrapping_add(plan.head.octets);
    sum = sum.wrapping_add(copy(message, &plan.blob, plan.rotating, at)?);
    at = at.wrapping_add(plan.rotating.octets);
    if plan.tail_owner != 0 {
        let owner = (plan.tail_owner as u16).swap_bytes();
        message.store_u16(at, owner)?;
        sum = sum.wrapping_add(sum_at(at, u64::from(owner)));
        at = at.wrapping_add(2);
    }
    sum = sum.wrapping_add(copy(message, &plan.blob, plan.tail, at)?);
    at = at.wrapping_add(plan.tail.octets);
    if question.edns.present() {
        sum = sum.wrapping_add(write_opt(message, question.edns, plan.flags >> 16, at)?);
    }
    Some(Sums {
        header,
        question: question.sums.question,
        records: sum,
    })
}

/// Writes a response with the one address record that stands at `from`.
#[inline(always)]
pub(crate) fn write_address<M: Message, B: Blob>(
    message: &mut M,
    question: &Question,
    flags: u32,
    blob: &B,
    from: u32,
    octets: u32,
) -> Option<Sums> {
    let header = write_header(message, question.id, question.edns, flags, 1)?;
    let mut at = question.end;
    let [a, b] = blob.load_words(from)?;
    message.store_words(at, [a, b])?;
    let mut sum = halves(a).wrapping_add(halves(b));
    if octets != A_OCTETS {
        let third = blob.load_u64(from.wrapping_add(16))?;
        message.store_u64(at.wrapping_add(16), third)?;
        // Overlaps the one before it.
        let last = blob.load_u64(from.wrapping_add(20))?;
        message.store_u64(at.wrapping_add(20), last)?;
        sum = sum.wrapping_add(halves(third)).wrapping_add(last >> 32);
    }
    let mut records = sum_at(at, sum);
    at = at.wrapping_add(octets);
    if question.edns.present() {
        records = records.wrapping_add(write_opt(message, question.edns, 0, at)?);
    }
    Some(Sums {
        header,
        question: question.sums.question,
        records,
    })
}

/// Makes a query, for which there is room, its response without records that sends the client to TCP.
#[inline(always)]
pub fn slip<M: Message>(message: &mut M, end: u32, edns: Edns, question_sum: u64) -> Option<()> {
    message.shrink(bare_octets(end, edns))?;
    let front = message.load_u32(0)?;
    let id = (front as u16).swap_bytes();
    let query_flags = ((front >> 16) as u16).swap_bytes();
    let flags = u32::from(flags::QR | flags::TC | copied(query_flags));
    let header = write_header(message, id, edns, flags, 0)?;
    let records = match edns.present() {
        true => write_opt(message, edns, 0, end)?,
        false => 0,
    };
    message.seal(&Sums {
        header,
        question: question_sum,
        records,
    })
}

/// Writes the header and gives its sum.
#[inline(always)]
fn write_header<M: Message>(
    message: &mut M,
    id: u16,
    edns: Edns,
    flags: u32,
    counts: u32,
) -> Option<u64> {
    let with_opt = (counts >> 16).wrapping_add(u32::from(edns.present()));
    let header = u64::from(id.swap_bytes())
        | u64::from((flags as u16).swap_bytes()) << 16
        | 0x0100 << 32
        | u64::from(counts & 0xff) << 56;
    let counts = (counts & 0xff00) | with_opt << 24;
    message.store_u64(0, header)?;
    message.store_u32(8, counts)?;
    Some(halves(header).wrapping_add(u64::from(counts)))
}

/// Copies a piece of the blob and gives its sum.
#[inline(always)]
fn copy<M: Message, B: Blob>(message: &mut M, blob: &B, piece: Piece, at: u32) -> Option<u64> {
    const CHUNK: u32 = 4 * name::WORD;
    const MAX_CHUNKS: u32 = crate::wire::MAX_UDP_OCTETS / CHUNK;
    let mut left = message.blur(piece.octets);
    if left == 0 {
        return Some(0);
    }
    let mut from = message.bound(piece.from);
    let mut to = message.bound(at);
    let mut sum = 0u64;
    // Bounded by the largest response.
    for _ in 0..MAX_CHUNKS {
        if left < CHUNK {
            break;
        }
        let words = blob.load_words::<4>(from)?;
        message.store_words(to, words)?;
        let [a, b, c, d] = words;
        sum = sum.wrapping_add(halves(a)).wrapping_add(halves(b));
        sum = sum.wrapping_add(halves(c)).wrapping_add(halves(d));
        from = message.bound(from.wrapping_add(CHUNK));
        to = message.bound(to.wrapping_add(CHUNK));
        left = left.wrapping_sub(CHUNK);
    }
    left = message.blur(left);
    sum = message.forget(sum);
    from = message.bound(message.blur(from));
    to = message.bound(message.blur(to));
    // Bounded by the words of a chunk.
    for _ in 0..3 {
        if left < name::WORD {
            break;
        }
        let word = blob.load_u64(from)?;
        message.store_u64(to, word)?;
        sum = sum.wrapping_add(halves(word));
        from = message.bound(from.wrapping_add(name::WORD));
        to = message.bound(to.wrapping_add(name::WORD));
        left = left.wrapping_sub(name::WORD);
    }
    left = message.blur(left);
    sum = message.forget(sum);
    from = message.blur(from);
    to = message.blur(to);
    if left != 0 {
        // The last word overlaps the one before it.
        let missing = name::WORD.wrapping_sub(left);
        let word = blob.load_u64(from.wrapping_sub(missing))?;
        message.store_u64(to.wrapping_sub(missing), word)?;
        sum = sum.wrapping_add(halves(word >> (missing.wrapping_mul(8) & 63)));
    }
    Some(sum_at(at, message.forget(sum)))
}

/// Writes the OPT record of the response (RFC 6891, section 6.1.2): our size, version 0, DO
/// copied, no options; BADVERS in the upper bits of the code.
#[inline(always)]
fn write_opt<M: Message>(message: &mut M, edns: Edns, upper_code: u32, at: u32) -> Option<u64> {
    let dnssec_ok = if edns.dnssec_ok() { 0x80u64 } else { 0 };
    let size = crate::wire::MAX_UDP_OCTETS as u16;
    let front = u64::from(rtype::OPT) << 16
        | u64::from(size.swap_bytes()) << 24
        | u64::from(upper_code) << 40
        | dnssec_ok << 56;
    message.store_u64(at, front)?;
    message.store_u32(at.wrapping_add(7), dnssec_ok as u32)?;
    Some(sum_at(at, halves(front)))
}
