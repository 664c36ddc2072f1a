//! One message, whatever it came over: the fast path, the slow path, and the net under both.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::answers::message::write_error;
use crate::answers::query::HEADER_OCTETS;
use crate::answers::respond::servfail;
use crate::answers::{Decision, Rcode, Transport, decide};
use crate::zones::Snapshot;

use super::Shared;
use super::counters::Counters;

/// What a worker does with a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing.
    Nothing,
    /// Sends the first octets of the buffer.
    InPlace(usize),
    /// Sends this.
    Respond(Vec<u8>),
    /// Gives the query, which is unchanged in the buffer, to the forwarder.
    Forward,
}

/// Handles the query in the first `len` octets of `buffer`, and counts it. A panic costs this query
/// a SERVFAIL and nobody else anything.
pub(super) fn handle(
    shared: &Shared,
    snapshot: &Snapshot,
    buffer: &mut [u8],
    len: usize,
    transport: Transport,
    counters: &Counters,
) -> Outcome {
    counters.query();
    let mut header = [0; HEADER_OCTETS];
    for (slot, octet) in header.iter_mut().zip(buffer.iter()) {
        *slot = *octet;
    }
    // What a panic leaves half done is the buffer, of which only the copied header is used after.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        answer(shared, snapshot, buffer, len, transport, counters)
    }));
    outcome.unwrap_or_else(|_| {
        counters.panic();
        match servfail(&header).filter(|_| len >= HEADER_OCTETS) {
            Some(response) => {
                counters.response(response.len(), Rcode::SERVFAIL);
                Outcome::Respond(response)
            }
            None => Outcome::Nothing,
        }
    })
}

fn answer(
    shared: &Shared,
    snapshot: &Snapshot,
    buffer: &mut [u8],
    len: usize,
    transport: Transport,
    counters: &Counters,
) -> Outcome {
    let rules = shared.rules.load();
    if transport == Transport::Udp
        && let Some(fast_path) = &rules.fast_path
        && let Some((len, rcode)) = fast_path.answer(snapshot, buffer, len)
    {
        counters.fast();
        counters.response(len, rcode);
        return Outcome::InPlace(len);
    }
    let message = buffer.get(..len).unwrap_or_default();
    match decide(snapshot, message, transport, &rules.policy) {
        Decision::Ignore => {
            counters.ignored();
            Outcome::Nothing
        }
        Decision::Respond(response, rcode) => {
            counters.response(response.len(), rcode);
            Outcome::Respond(response)
        }
        Decision::Forward(query) => match &rules.forwarder {
            Some(forwarder) if forwarder.refuses(&query.name) => {
                let size = rules.policy.size(&query, transport);
                let response = write_error(&query, Rcode::REFUSED, size);
                counters.response(response.len(), Rcode::REFUSED);
                Outcome::Respond(response)
            }
            _ => Outcome::Forward,
        },
    }
}
