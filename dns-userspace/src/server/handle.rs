//! One message, whatever it came over: the fast path, the slow path, and the net under both.

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::answers::message::write_error;
use crate::answers::query::HEADER_OCTETS;
use crate::answers::respond::servfail;
use crate::answers::{Decision, Rcode, Transport, decide};
use crate::transfer::{Outgoing, Responder, Response};
use crate::zones::Snapshot;

use super::counters::Totals;
use super::{Rules, header_rcode};

/// What a worker does with a message.
pub(super) enum Outcome {
    /// Nothing.
    Nothing,
    /// Sends the first octets of the buffer.
    InPlace(usize),
    /// Sends this.
    Respond(Vec<u8>),
    /// Gives the query, which is unchanged in the buffer, to the forwarder.
    Forward,
    /// Gives the message, which is unchanged in the buffer, to [`Basis::transfer`].
    Claimed,
    /// Sends the messages of a zone transfer.
    Transfer(Box<Outgoing>),
}

/// What a message is answered by, the same for as many as come at a time.
#[derive(Clone, Copy)]
pub(super) struct Basis<'b> {
    pub(super) rules: &'b Rules,
    pub(super) snapshot: &'b Arc<Snapshot>,
    pub(super) transfers: Option<&'b Responder>,
}

/// The start of a message, which is all of it that a panic cannot leave half done.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Header {
    octets: [u8; HEADER_OCTETS],
    is_whole: bool,
}

impl Header {
    /// That of the message in the first `len` octets of `buffer`.
    pub(super) fn of(buffer: &[u8], len: usize) -> Self {
        Self {
            octets: buffer.first_chunk().copied().unwrap_or_default(),
            is_whole: len >= HEADER_OCTETS,
        }
    }

    /// What a panic costs the client: a SERVFAIL for this query, and nobody else anything.
    pub(super) fn after_panic(&self, tally: &mut Totals) -> Outcome {
        tally.panics += 1;
        match servfail(&self.octets).filter(|_| self.is_whole) {
            Some(response) => {
                tally.response(response.len(), Rcode::SERVFAIL);
                Outcome::Respond(response)
            }
            None => Outcome::Nothing,
        }
    }
}

impl Basis<'_> {
    /// As [`answer`](Self::answer), for a message that comes alone.
    pub(super) fn answer_guarded(
        self,
        message: &mut [u8],
        transport: Transport,
        tally: &mut Totals,
    ) -> Outcome {
        let len = message.len();
        let header = Header::of(message, len);
        // What a panic leaves half done is the buffer, of which only the header, copied before, is
        // used after.
        let answering = AssertUnwindSafe(|| self.answer(message, len, transport, tally));
        catch_unwind(answering).unwrap_or_else(|_| header.after_panic(tally))
    }

    /// Answers the query in the first `len` octets of `buffer`, and counts it. May panic.
    pub(super) fn answer(
        self,
        buffer: &mut [u8],
        len: usize,
        transport: Transport,
        tally: &mut Totals,
    ) -> Outcome {
        tally.queries += 1;
        let Self {
            rules, snapshot, ..
        } = self;
        if transport == Transport::Udp
            && let Some(fast_path) = &rules.fast_path
            && let Some((len, rcode)) = fast_path.answer(snapshot, buffer, len)
        {
            tally.fast += 1;
            tally.response(len, rcode);
            return Outcome::InPlace(len);
        }
        let message = buffer.get(..len).unwrap_or_default();
        if self.transfers.is_some_and(|one| one.claims(message)) {
            return Outcome::Claimed;
        }
        match decide(snapshot, message, transport, &rules.policy) {
            Decision::Ignore => {
                tally.ignored += 1;
                Outcome::Nothing
            }
            Decision::Respond(response, rcode) => {
                tally.response(response.len(), rcode);
                Outcome::Respond(response)
            }
            Decision::Forward(query) => match &rules.forwarder {
                Some(forwarder) if forwarder.refuses(&query.name) => {
                    let size = rules.policy.size(&query, transport);
                    let response = write_error(&query, Rcode::REFUSED, size);
                    tally.response(response.len(), Rcode::REFUSED);
                    Outcome::Respond(response)
                }
                Some(forwarder) => {
                    let size = rules.policy.size(&query, transport);
                    match forwarder.cached(&query, size) {
                        Some(response) => {
                            tally.response(response.len(), header_rcode(&response));
                            Outcome::Respond(response)
                        }
                        None => Outcome::Forward,
                    }
                }
                None => Outcome::Forward,
            },
        }
    }

    /// Answers a message that has to do with zone transfers, from `peer`.
    pub(super) fn transfer(
        self,
        message: &[u8],
        peer: IpAddr,
        transport: Transport,
        tally: &mut Totals,
    ) -> Outcome {
        let policy = &self.rules.policy;
        let response = self
            .transfers
            .map(|one| one.respond(self.snapshot, message, peer, transport, policy));
        match response {
            None | Some(Response::Ignore) => {
                tally.ignored += 1;
                Outcome::Nothing
            }
            Some(Response::One(response, rcode)) => {
                tally.response(response.len(), rcode);
                Outcome::Respond(response)
            }
            Some(Response::Many(outgoing)) => Outcome::Transfer(outgoing),
        }
    }
}
