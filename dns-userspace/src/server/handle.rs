//! One message, whatever it came over: who may ask, the fast path, the slow path, and the net under
//! all of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use dns_common::Allowance;

use crate::answers::message::{write_error, write_explained, write_truncated};
use crate::answers::query::HEADER_OCTETS;
use crate::answers::respond::{decide_query, reject, servfail};
use crate::answers::{Decision, ExtendedError, Query, Rcode, Rejection, Transport};
use crate::transfer::{Outgoing, Responder, Response};
use crate::zones::Snapshot;

use super::breakdown::Source;
use super::counters::Totals;
use super::terms::{Client, Extras, Malformed};
use super::{Rules, header_rcode};

/// What a worker does with a message.
pub(super) enum Outcome {
    /// Nothing.
    Nothing,
    /// Sends the first octets of the buffer.
    InPlace(usize),
    /// Sends this.
    Respond(Vec<u8>),
    /// Gives the query, which is unchanged in the buffer, to the forwarder, and adds these to what
    /// comes back.
    Forward(Extras),
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
            Some(response) => respond(response, Rcode::SERVFAIL, tally),
            None => Outcome::Nothing,
        }
    }
}

fn respond(response: Vec<u8>, rcode: Rcode, tally: &mut Totals) -> Outcome {
    tally.response(Source::Zones, response.len(), rcode);
    Outcome::Respond(response)
}

impl Basis<'_> {
    /// As [`answer`](Self::answer), for a message that comes alone.
    pub(super) fn answer_guarded(
        self,
        message: &mut [u8],
        client: Client,
        tally: &mut Totals,
    ) -> Outcome {
        let len = message.len();
        let header = Header::of(message, len);
        // What a panic leaves half done is the buffer, of which only the header, copied before, is
        // used after.
        let answering = AssertUnwindSafe(|| self.answer(message, len, client, tally));
        catch_unwind(answering).unwrap_or_else(|_| header.after_panic(tally))
    }

    fn claims(self, message: &[u8]) -> bool {
        self.transfers.is_some_and(|one| one.claims(message))
    }

    /// Answers the query in the first `len` octets of `buffer`, and counts it. May panic.
    pub(super) fn answer(
        self,
        buffer: &mut [u8],
        len: usize,
        client: Client,
        tally: &mut Totals,
    ) -> Outcome {
        tally.queries += 1;
        let asked = buffer.get(..len).unwrap_or_default();
        tally.breakdown.request(client.address.is_ipv6(), asked);
        let rules = self.rules;
        let guard = &rules.terms.guard;
        let is_udp = client.transport == Transport::Udp;
        let take = || match is_udp {
            true => guard.take(client.address),
            false => Allowance::Answer,
        };
        if !guard.allows(client.address) {
            // Zone transfers have a list of their own.
            return match self.claims(asked) {
                true => self.claim(asked, client, take(), tally),
                false => self.prohibit(asked, client, take(), tally),
            };
        }
        let allowance = take();
        if is_udp
            && allowance == Allowance::Answer
            && let Some(fast_path) = &rules.fast_path
            && let Some((len, rcode)) = fast_path.answer(self.snapshot, &rules.policy, buffer, len)
        {
            tally.fast += 1;
            tally.response(Source::Zones, len, rcode);
            return Outcome::InPlace(len);
        }
        let message = buffer.get(..len).unwrap_or_default();
        if self.claims(message) {
            return self.claim(message, client, allowance, tally);
        }
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(_) if allowance != Allowance::Answer => {
                tally.limited += 1;
                return Outcome::Nothing;
            }
            Err(rejection) => return self.reject(message, rejection, client, tally),
        };
        self.answer_query(query, client, allowance, tally)
    }

    /// Leaves a message to [`Self::transfer`]. Beyond the client's share it gets nothing: without the
    /// signature that it waits for, an empty response would not be believed.
    fn claim(
        self,
        message: &[u8],
        client: Client,
        allowance: Allowance,
        tally: &mut Totals,
    ) -> Outcome {
        let has_good_cookie = || {
            let edns = Query::parse(message).ok().and_then(|query| query.edns);
            let extras = self.rules.terms.extras(edns, client);
            extras.is_ok_and(|extras| extras.has_good_cookie())
        };
        if allowance == Allowance::Answer || has_good_cookie() {
            return Outcome::Claimed;
        }
        tally.limited += 1;
        Outcome::Nothing
    }

    /// Sends to TCP, which has room for it, whoever sent a message over UDP of which the buffer has
    /// only the front.
    pub(super) fn answer_cut(self, front: &[u8], client: Client, tally: &mut Totals) -> Outcome {
        tally.queries += 1;
        tally.breakdown.request(client.address.is_ipv6(), front);
        let guard = &self.rules.terms.guard;
        if !guard.allows(client.address) {
            tally.prohibited += 1;
            return Outcome::Nothing;
        }
        if guard.take(client.address) == Allowance::Drop {
            tally.limited += 1;
            return Outcome::Nothing;
        }
        match Query::parse_front(front) {
            Ok(query) => {
                let size = self.rules.policy.size(&query, client.transport);
                respond(write_truncated(&query, size), Rcode::NOERROR, tally)
            }
            Err(rejection) => self.reject(front, rejection, client, tally),
        }
    }

    /// Responds to a message that is no query, or has no question.
    fn reject(
        self,
        message: &[u8],
        mut rejection: Rejection<'_>,
        client: Client,
        tally: &mut Totals,
    ) -> Outcome {
        let rules = self.rules;
        let mut extras = Extras::default();
        if let Rejection::WithOpt(rcode, edns) = &mut rejection {
            match rules.terms.extras(Some(*edns), client) {
                Ok(found) => extras = found,
                Err(Malformed) => *rcode = Rcode::FORMERR,
            }
            // Who has no question may ask for a cookie (RFC 7873, section 5.4).
            if *rcode == Rcode::FORMERR
                && edns.version == 0
                && let Some(found) = extras.cookie_rcode()
            {
                *rcode = found;
            }
        }
        match reject(message, rejection, &rules.policy) {
            Decision::Respond(mut response, rcode) => {
                extras.add_to(&mut response);
                respond(response, rcode, tally)
            }
            other => carry_out(other, tally),
        }
    }

    fn answer_query(
        self,
        query: Query<'_>,
        client: Client,
        allowance: Allowance,
        tally: &mut Totals,
    ) -> Outcome {
        let rules = self.rules;
        let size = rules.policy.size(&query, client.transport);
        let extras = match rules.terms.extras(query.edns, client) {
            Ok(extras) => extras,
            Err(Malformed) if allowance == Allowance::Answer => {
                let response = write_error(&query, Rcode::FORMERR, size);
                return respond(response, Rcode::FORMERR, tally);
            }
            Err(Malformed) => Extras::default(),
        };
        let finish = |mut response: Vec<u8>, rcode, tally: &mut Totals| {
            extras.add_to(&mut response);
            respond(response, rcode, tally)
        };
        if allowance != Allowance::Answer && !extras.has_good_cookie() {
            if rules.terms.badcookie && extras.has_cookie() {
                tally.slipped += 1;
                let response = write_error(&query, Rcode::BADCOOKIE, size);
                return finish(response, Rcode::BADCOOKIE, tally);
            }
            if allowance == Allowance::Slip {
                tally.slipped += 1;
                return finish(write_truncated(&query, size), Rcode::NOERROR, tally);
            }
            tally.limited += 1;
            return Outcome::Nothing;
        }
        if let Some(response) = rules.terms.identity.answer(&query, size) {
            return finish(response, Rcode::NOERROR, tally);
        }
        match decide_query(self.snapshot, query, client.transport, &rules.policy) {
            Decision::Respond(response, rcode) => finish(response, rcode, tally),
            Decision::Forward(query) => match &rules.forwarder {
                Some(forwarder) if forwarder.refuses(&query.name) => finish(
                    write_error(&query, Rcode::REFUSED, size),
                    Rcode::REFUSED,
                    tally,
                ),
                Some(forwarder) => match forwarder.cached(&query, size) {
                    Some(mut response) => {
                        let rcode = header_rcode(&response);
                        extras.add_to(&mut response);
                        tally.response(Source::Upstreams, response.len(), rcode);
                        Outcome::Respond(response)
                    }
                    None => Outcome::Forward(extras),
                },
                None => Outcome::Forward(extras),
            },
            Decision::Ignore => carry_out(Decision::Ignore, tally),
        }
    }

    /// Answers a message that has to do with zone transfers, from `client`.
    pub(super) fn transfer(self, message: &[u8], client: Client, tally: &mut Totals) -> Outcome {
        let policy = &self.rules.policy;
        let response = self.transfers.map(|one| {
            one.respond(
                self.snapshot,
                message,
                client.address,
                client.transport,
                policy,
            )
        });
        match response {
            None | Some(Response::Ignore) => {
                tally.ignored += 1;
                Outcome::Nothing
            }
            Some(Response::One(response, rcode)) => {
                tally.response(Source::Zones, response.len(), rcode);
                Outcome::Respond(response)
            }
            Some(Response::Many(outgoing)) => Outcome::Transfer(outgoing),
        }
    }

    /// REFUSED with the reason, for a client that must not ask; nothing for what is no query, nor
    /// beyond the client's share: over UDP its address may be that of somebody else.
    fn prohibit(
        self,
        message: &[u8],
        client: Client,
        allowance: Allowance,
        tally: &mut Totals,
    ) -> Outcome {
        tally.prohibited += 1;
        let Ok(query) = Query::parse(message) else {
            return Outcome::Nothing;
        };
        if allowance != Allowance::Answer {
            tally.limited += 1;
            return Outcome::Nothing;
        }
        let size = self.rules.policy.size(&query, client.transport);
        let why = ExtendedError::PROHIBITED;
        let response = write_explained(&query, Rcode::REFUSED, why, size);
        respond(response, Rcode::REFUSED, tally)
    }
}

fn carry_out(decision: Decision<'_>, tally: &mut Totals) -> Outcome {
    match decision {
        Decision::Respond(response, rcode) => respond(response, rcode, tally),
        Decision::Ignore | Decision::Forward(_) => {
            tally.ignored += 1;
            Outcome::Nothing
        }
    }
}
