//! Question and blob to response: decide everything, grow, then write.
//!
//! Until [`Message::resize`] has succeeded nothing is written, so that a query which is not
//! answered leaves as it came. After it nothing can fail but a bound that was checked before.

use crate::blob::{self, Blob, Head, Table};
use crate::encloser;
use crate::message::Message;
use crate::name;
use crate::plan::{self, Plan, denial, is_special};
use crate::question::{self, Edns, Question};
use crate::rate_limit::Allowance;
use crate::sum::Sums;
use crate::tally::Response;
use crate::verdict::Verdict;
use crate::wire::HEADER_OCTETS;
use crate::write;

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
            if plan::is_one_address(&question, head) {
                return respond_with_address(message, table, &question, &blob, head);
            }
            plan::choose(message, table, &question, blob, head)?
        }
        None => deny_name(message, table, &question)?,
    };
    if question.edns.other_version() {
        plan.refuse_version(&question);
    }
    let octets = plan::fit(table, &question, &mut plan)?;
    plan.blur(message);
    question.edns = Edns::from_bits(message.blur(question.edns.bits()));

    let verdict = plan.verdict;
    send(
        message,
        table,
        &question,
        octets,
        None,
        verdict,
        |message| write::write(message, &question, &plan),
    )
}

/// The most frequent response, with less to decide: it fits every client, and its record is of one of
/// two sizes.
#[inline(always)]
fn respond_with_address<M: Message, T: Table>(
    message: &mut M,
    table: &T,
    question: &Question,
    blob: &T::Blob,
    head: Head,
) -> Result<Response, Verdict> {
    let rtype = message.blur(u32::from(question.rtype)) as u16;
    let flags = message.blur(plan::response_flags(question, head));
    let from = message.blur(head.first_at());
    let first = message.blur(head.first_octets());
    let octets = message.blur(write::bare_octets(question.end, question.edns).wrapping_add(first));
    let verdict = Verdict::Answered as u32;
    send(
        message,
        table,
        question,
        octets,
        Some(rtype),
        verdict,
        |message| write::write_address(message, question, flags, blob, from, first),
    )
}

/// Makes room for a response of `octets` octets, if the query arrived as it was sent, and writes it.
/// Without `rtype` the type asked is loaded again.
#[inline(always)]
fn send<M: Message, T: Table>(
    message: &mut M,
    table: &T,
    question: &Question,
    octets: u32,
    rtype: Option<u16>,
    verdict: u32,
    write: impl FnOnce(&mut M) -> Option<Sums>,
) -> Result<Response, Verdict> {
    message.resize(octets, question.end, &question.sums)?;
    let rtype = match rtype {
        Some(rtype) => rtype,
        None => question::rtype(message, question.end).ok_or(Verdict::Broken)?,
    };
    // Nothing that goes up has taken from the share.
    if table.limits() {
        match message.ration(question.end, question.edns, question.sums.question) {
            Allowance::Answer => {}
            Allowance::Slip => {
                let verdict = Verdict::Slipped;
                return Ok(Response { verdict, rtype });
            }
            Allowance::Drop => return Err(Verdict::Limited),
        }
    }
    let response = write(message).ok_or(Verdict::Broken)?;
    message.seal(&response).ok_or(Verdict::Broken)?;
    let verdict = Verdict::of_response(verdict);
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
