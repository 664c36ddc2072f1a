//! A query that came over a stream and that an upstream is to answer, with what it takes to count
//! and finish the response.

use std::sync::Arc;

use tokio::time::Instant;

use crate::answers::Transport;
use crate::forwarder::{Forwarder, Permit, servfail};

use super::breakdown::Source;
use super::counters::{Counters, Totals};
use super::terms::{Client, Extras};
use super::{Rules, header_rcode};

/// A query with a place among those under way.
pub(super) struct Forward {
    rules: Arc<Rules>,
    forwarder: Arc<Forwarder>,
    permit: Permit,
    query: Query,
}

/// The query, and what its response gets besides.
pub(super) struct Query {
    pub(super) message: Vec<u8>,
    pub(super) extras: Extras,
    pub(super) counters: Arc<Counters>,
    /// When it was taken in.
    pub(super) received: Instant,
}

impl Query {
    /// Takes a place for it. Without room, or by rules that stopped forwarding a moment ago, it
    /// gives the response to that, if it deserves one.
    pub(super) fn admit(
        self,
        rules: Arc<Rules>,
        client: Client,
    ) -> Result<Forward, Option<Vec<u8>>> {
        let forwarder = rules.forwarder.as_ref();
        let admitted =
            forwarder.and_then(|one| Some((Arc::clone(one), one.admit(client.address)?)));
        match admitted {
            Some((forwarder, permit)) => Ok(Forward {
                rules,
                forwarder,
                permit,
                query: self,
            }),
            None => {
                let mut tally = Totals::default();
                tally.shed += 1;
                let response = servfail(&self.message, Transport::Tcp, &rules.policy);
                Err(response.map(|response| self.finish(response, tally)))
            }
        }
    }

    fn finish(&self, mut response: Vec<u8>, mut tally: Totals) -> Vec<u8> {
        self.extras.add_to(&mut response);
        tally.response(Source::Upstreams, response.len(), header_rcode(&response));
        tally.breakdown.took(self.received.elapsed());
        self.counters.take(&mut tally);
        response
    }
}

impl Forward {
    /// The response.
    pub(super) async fn run(self) -> Vec<u8> {
        let mut tally = Totals::default();
        tally.forwarded += 1;
        self.query.counters.take(&mut tally);
        let (message, policy) = (&self.query.message, &self.rules.policy);
        let forwarding = self
            .forwarder
            .forward(message, Transport::Tcp, policy, self.permit);
        let response = forwarding.await;
        self.query.finish(response, tally)
    }
}
