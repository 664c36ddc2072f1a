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
use crate::sum::{Sums, halves, sum_at};
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
    let response = write::write(message, &question, &plan).ok_or(Verdict::Broken)?;
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
