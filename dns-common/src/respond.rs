//! Question and blob to response: decide everything, grow, then write.
//!
//! Until [`Message::resize`] has succeeded nothing is written, so that a query which is not
//! answered leaves as it came. After it nothing can fail but a bound that was checked before.

use crate::blob::{self, Blob, Entry, Head, Table, entry_flags};
use crate::encloser::{self, Ancestor};
use crate::name;
use crate::question::{self, Edns, Question};
use crate::rate_limit::Allowance;
use crate::sum::{Sums, fold_sum, halves, sum_at};
use crate::tally::Response;
use crate::verdict::Verdict;
use crate::wire::{HEADER_OCTETS, MIN_UDP_OCTETS, OPT_OCTETS, flags, rtype};

/// A DNS message in a buffer that can be loaded from, resized and stored to. Offsets count from
/// the start of the message; words are little-endian.
pub trait Message: Sized {
    /// Octets of the message.
    fn octets(&self) -> u32;
    /// Eight octets, `None` where that is outside the buffer. Where the message ends in them, what
    /// follows is anything.
    fn load_u64(&self, at: u32) -> Option<u64>;
    /// Four octets, `None` outside the message.
    fn load_u32(&self, at: u32) -> Option<u32>;
    /// The octets of a word of which the first `left` count: the others are zero. `None` if more
    /// than eight count, or where that is outside the message.
    ///
    /// They are loaded with those before them: behind there may be nothing, and there is always a
    /// header before.
    #[inline(always)]
    fn last_word(&self, at: u32, left: u32) -> Option<u64> {
        if left > name::WORD {
            return None;
        }
        let missing = name::WORD.wrapping_sub(left);
        let word = self.load_u64(at.wrapping_sub(missing))?;
        // In two steps, as a shift by a whole word is none.
        Some((word >> (missing.wrapping_mul(4) & 63)) >> (missing.wrapping_mul(4) & 63))
    }
    /// Gives `value` back. In the kernel, as a number of which the verifier knows nothing: a value
    /// that it knows exactly, such as the trip count of a loop, has all that follows verified once
    /// for each.
    fn forget(&self, value: u64) -> u64;
    /// The same with a smaller number.
    #[inline(always)]
    fn blur(&self, value: u32) -> u32 {
        self.forget(u64::from(value)) as u32
    }
    /// Gives an offset below 4096 back. In the kernel, masked out of the compiler's sight, so that
    /// an offset which a loop moves on has the same range in every turn.
    fn bound(&self, offset: u32) -> u32;
    /// Accepts the query's checksum and makes room for a response of `octets` octets, of which the
    /// first `kept` stay those of the query. An error leaves everything as it was.
    ///
    /// # Errors
    /// [`Verdict::Checksum`] or [`Verdict::Resize`].
    fn resize(&mut self, octets: u32, kept: u32, query: &Sums) -> Result<(), Verdict>;
    /// Stores eight octets, `None` outside the message.
    fn store_u64(&mut self, at: u32, word: u64) -> Option<()>;
    /// Stores four times eight octets, `None` outside the message.
    fn store_chunk(&mut self, at: u32, words: [u64; 4]) -> Option<()>;
    /// Stores four octets, `None` outside the message.
    fn store_u32(&mut self, at: u32, word: u32) -> Option<()>;
    /// Stores two octets, `None` outside the message.
    fn store_u16(&mut self, at: u32, word: u16) -> Option<()>;
    /// [`encloser::ancestor`]. In the kernel a function of its own, which the verifier sees once.
    #[inline(always)]
    fn ancestor<T: Table>(&self, table: &T, at: u32, octets: u32) -> Ancestor {
        encloser::ancestor(self, table, at, octets)
    }
    /// Leaves so many octets of what was resized. `None` if it cannot be done.
    fn shrink(&mut self, octets: u32) -> Option<()>;
    /// Takes a response to the question that ends there from the share of the client's prefix. What
    /// slips is then the response of [`slip`].
    #[inline(always)]
    fn ration(&mut self, _end: u32, _edns: Edns, _question_sum: u64) -> Allowance {
        Allowance::Answer
    }
    /// Completes what surrounds the message: lengths, addresses, checksums.
    fn seal(&mut self, response: &Sums) -> Option<()>;
}

/// A piece of the response: octets `from..from + octets` of the blob. Either none or at least
/// eight, as every record has eleven or more.
#[derive(Clone, Copy)]
struct Piece {
    from: u32,
    octets: u32,
}

/// All that is needed to write the response.
struct Plan<B> {
    blob: B,
    /// A [`Verdict`] of a response, as its number.
    verdict: u32,
    /// Header flags, as a number; from bit 16 on the upper bits of the code, which go into OPT.
    flags: u32,
    /// Records of the answer, authority and additional section, a byte each from the lowest; OPT
    /// not counted.
    counts: u32,
    head: Piece,
    rotating: Piece,
    /// Stands before the tail if it is not zero: the owner that a shared SOA lacks.
    tail_owner: u32,
    tail: Piece,
}

impl<B> Plan<B> {
    /// BADVERS in place of what was planned; the OPT record has the code (RFC 6891, section 6.1.3).
    #[inline(always)]
    fn refuse_version(&mut self, question: &Question) {
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
    fn blur<M: Message>(&mut self, message: &M) {
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

/// Turns the query in `message` into its response, if `table` has the answer.
///
/// # Errors
/// The verdict says why it did not; unless the message [is lost](Verdict::is_lost), it is unchanged.
#[inline(always)]
pub fn respond<M: Message, T: Table>(message: &mut M, table: &T) -> Result<Response, Verdict> {
    let mut question = question::read(message, table.seed(), table.raised_options())?;
    let mut plan = match table.find(question.hash) {
        Some(blob) => {
            let head = compare(message, HEADER_OCTETS, question.name_octets, &blob)?;
            plan(message, table, &question, blob, head)?
        }
        None => deny_name(message, table, &question)?,
    };
    if question.edns.other_version() {
        plan.refuse_version(&question);
    }
    let octets = fit(table, &question, &mut plan)?;
    plan.blur(message);
    question.edns = Edns::from_bits(message.blur(question.edns.bits()));

    let query = Sums {
        header: question.header_sum,
        question: question.question_sum,
        records: sum_from(message, question.end, message.octets())?,
    };
    message.resize(octets, question.end, &query)?;
    let rtype = question::rtype(message, question.end).ok_or(Verdict::Broken)?;
    // Nothing that goes up has taken from the share.
    if table.limits() {
        match message.ration(question.end, question.edns, question.question_sum) {
            Allowance::Answer => {}
            Allowance::Slip => {
                let verdict = Verdict::Slipped;
                return Ok(Response { verdict, rtype });
            }
            Allowance::Drop => return Err(Verdict::Limited),
        }
    }
    let response = write(message, &question, &plan).ok_or(Verdict::Broken)?;
    message.seal(&response).ok_or(Verdict::Broken)?;
    let verdict = Verdict::of_response(plan.verdict);
    Ok(Response { verdict, rtype })
}

/// Compares the name of `octets` octets at `start` with that of the blob, whole: an equal hash
/// proves nothing. Equality with a stored name, which is well formed, also proves that the labels
/// of the question are.
#[inline(always)]
pub(crate) fn compare<M: Message, B: Blob>(
    message: &M,
    start: u32,
    octets: u32,
    blob: &B,
) -> Result<Head, Verdict> {
    let head = Head::from_bits(blob.load_u64(0).ok_or(Verdict::Collision)?);
    if head.name_octets() != octets {
        return Err(Verdict::Collision);
    }
    let mut left = octets;
    let mut at = message.bound(start);
    let mut stored_at = blob::NAME_AT;
    // Bounded by the longest name.
    for _ in 0..name::MAX_WORDS {
        if left <= name::WORD {
            break;
        }
        let word = message.load_u64(at).ok_or(Verdict::Collision)?;
        let stored = blob.load_u64(stored_at).ok_or(Verdict::Collision)?;
        if name::fold(word) != stored {
            return Err(Verdict::Collision);
        }
        at = message.bound(at.wrapping_add(name::WORD));
        stored_at = message.bound(stored_at.wrapping_add(name::WORD));
        left = left.wrapping_sub(name::WORD);
    }
    let left = message.blur(left);
    let word = message
        .last_word(message.blur(at), left)
        .ok_or(Verdict::Collision)?;
    let stored = blob
        .load_u64(message.blur(stored_at))
        .ok_or(Verdict::Collision)?;
    if name::fold(word) != stored {
        return Err(Verdict::Collision);
    }
    Ok(head)
}

/// Denies a name that is not in the index.
#[inline(always)]
fn deny_name<M: Message, T: Table>(
    message: &M,
    table: &T,
    question: &Question,
) -> Result<Plan<T::Blob>, Verdict> {
    if is_special(question.rtype) {
        return Err(Verdict::MetaType);
    }
    let (apex_at, head) = encloser::find(message, table, question.name_octets)?;
    denial(table, question, head, apex_at, Verdict::NxDomain)
}

/// Chooses the answer.
#[inline(always)]
fn plan<M: Message, T: Table>(
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
const fn is_special(rtype: u16) -> bool {
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
fn denial<T: Table>(
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
fn response_flags(question: &Question, head: Head) -> u32 {
    const { assert!(blob::flags::RA == 1) };
    let recursion = u32::from(head.flags() & blob::flags::RA).wrapping_mul(flags::RA as u32);
    u32::from(flags::QR | flags::AA | copied_flags(question)) | recursion
}

#[inline(always)]
const fn copied_flags(question: &Question) -> u16 {
    copied(question.flags)
}

#[inline(always)]
const fn copied(query_flags: u16) -> u16 {
    query_flags & (flags::RD | flags::CD)
}

/// Octets of a response without records.
#[inline(always)]
const fn bare_octets(end: u32, edns: Edns) -> u32 {
    if edns.present() {
        end.wrapping_add(OPT_OCTETS)
    } else {
        end
    }
}

/// Octets of the response; cuts the plan where it does not fit the client.
#[inline(always)]
fn fit<T: Table>(table: &T, question: &Question, plan: &mut Plan<T::Blob>) -> Result<u32, Verdict> {
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

/// Writes header, records and OPT; the question stays as it was sent.
#[inline(always)]
fn write<M: Message, B: Blob>(
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
        question: question.question_sum,
        records: fold_sum(sum),
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
        records: fold_sum(records),
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
    Some(fold_sum(halves(header).wrapping_add(u64::from(counts))))
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
        let words = blob.load_chunk(from)?;
        message.store_chunk(to, words)?;
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
