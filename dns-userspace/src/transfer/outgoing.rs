//! The messages of a transfer that was granted.

use std::iter::once;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;
use tracing::{debug, warn};

use super::history::Step;
use super::tsig::Signer;
use super::versions::Versions;
use super::wire::{Envelope, Line, Pack, push_additional, soa_data};
use super::{count, unix_seconds};
use crate::zones::{Rdata, Rtype, Snapshot, Zone, ZoneIndex};

/// What is sent.
pub(super) enum Content {
    /// All of a zone (RFC 5936, section 2.2).
    Whole(Arc<Snapshot>, ZoneIndex),
    /// What changed, version by version (RFC 1995, section 4).
    Changes(Vec<Arc<Step>>),
    /// That nothing changed: the SOA alone.
    Nothing,
}

/// A transfer under way, over TCP.
pub struct Outgoing {
    pub(super) zone: Arc<Zone>,
    pub(super) content: Content,
    pub(super) envelope: Envelope,
    /// The OPT record of the first message (RFC 5936, section 2.2.5).
    pub(super) opt: Option<Vec<u8>>,
    pub(super) signer: Option<Signer>,
    pub(super) deadline: Instant,
    pub(super) versions: Arc<Versions>,
    pub(super) place: Option<OwnedSemaphorePermit>,
}

impl Outgoing {
    /// Makes one message after the other and gives it to `send`, which waits as long as it must
    /// and says whether to go on. Whether all of it was sent: if not, the connection must end.
    pub fn run(mut self, mut send: impl FnMut(Vec<u8>) -> bool) -> bool {
        let mut signer = self.signer.take();
        let mut opt = self.opt.take();
        let (deadline, envelope) = (self.deadline, self.envelope.clone());
        let complete = self.with_lines(|lines| {
            for mut message in Pack::new(envelope, lines) {
                if let Some(opt) = opt.take() {
                    push_additional(&mut message, &opt);
                }
                if let Some(signer) = &mut signer {
                    signer.sign(&mut message, unix_seconds());
                }
                // A zone without the record that no message can hold would be another zone.
                let is_too_long = message.len() > usize::from(u16::MAX);
                if is_too_long {
                    warn!(zone = %self.zone.apex, "a record is too long for a message with OPT or a signature");
                }
                if is_too_long || Instant::now() > deadline || !send(message) {
                    return false;
                }
            }
            true
        });
        let counters = &self.versions.counters;
        count(match (complete, &self.content) {
            (false, _) => &counters.broken_out,
            (true, Content::Whole(..)) => &counters.whole_out,
            (true, Content::Changes(_)) => &counters.changes_out,
            (true, Content::Nothing) => return true,
        });
        debug!(zone = %self.zone.apex, serial = self.zone.soa.serial, complete, "transferred");
        drop(self.place);
        complete
    }

    /// All in one unsigned message of at most `limit` octets, if that can be.
    pub(super) fn in_one(&self, limit: usize) -> Option<Vec<u8>> {
        self.with_lines(|lines| {
            let mut messages = Pack::new(self.envelope.clone(), lines);
            let mut first = messages.next()?;
            if let Some(opt) = &self.opt {
                push_additional(&mut first, opt);
            }
            let is_all = first.len() <= limit && messages.next().is_none();
            is_all.then_some(first)
        })
    }

    fn with_lines<T>(&self, work: impl FnOnce(&mut dyn Iterator<Item = Line<'_>>) -> T) -> T {
        with_lines(&self.zone, &self.content, work)
    }
}

/// Makes the messages of a transfer one after the other.
pub(super) fn whole_of(
    zone: &Zone,
    content: &Content,
    envelope: Envelope,
    take: impl FnMut(Vec<u8>),
) {
    with_lines(zone, content, |lines| {
        Pack::new(envelope, lines).for_each(take)
    });
}

/// Does something with the records of a transfer, in order.
fn with_lines<T>(
    zone: &Zone,
    content: &Content,
    work: impl FnOnce(&mut dyn Iterator<Item = Line<'_>>) -> T,
) -> T {
    let soa = soa_data(zone);
    let edge = Line::new(&zone.apex, zone.soa_ttl, &soa);
    match content {
        Content::Nothing => work(&mut once(edge)),
        Content::Whole(snapshot, index) => {
            let nodes = snapshot.nodes().filter(|node| node.zone() == *index);
            let inner = nodes.flat_map(|node| {
                let rrsets = node.rrsets().iter();
                let rrsets = rrsets.filter(|one| one.rtype() != Rtype::SOA);
                rrsets.flat_map(|rrset| {
                    let data = rrset.data().iter();
                    data.map(|data| Line::new(node.owner(), rrset.ttl(), data))
                })
            });
            work(&mut once(edge).chain(inner).chain(once(edge)))
        }
        Content::Changes(steps) => {
            let soas: Vec<[Rdata; 2]> = steps
                .iter()
                .map(|step| [soa_data(&step.before), soa_data(&step.after)])
                .collect();
            let inner = steps.iter().zip(&soas).flat_map(|(step, [before, after])| {
                let line = |zone: &'_ Zone, data| (zone.soa_ttl, data);
                let (before, after) = (line(&step.before, before), line(&step.after, after));
                let apex = &zone.apex;
                once(Line::new(apex, before.0, before.1))
                    .chain(step.deleted())
                    .chain(once(Line::new(apex, after.0, after.1)))
                    .chain(step.added())
            });
            work(&mut once(edge).chain(inner).chain(once(edge)))
        }
    }
}
