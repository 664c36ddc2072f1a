//! Answers to what is not an ordinary query: transfers, NOTIFY, and whatever is signed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};
use tracing::{debug, info};

use super::outgoing::{Content, Outgoing};
use super::tsig::{self, Checked, Keys, Signer};
use super::versions::Versions;
use super::wire::{
    AXFR, CLASS_IN, Envelope, HEADER_OCTETS, IXFR, Message, flags, get_u16, set_u16,
};
use super::{Prefix, count, unix_seconds};
use crate::answers::message::write_truncated;
use crate::answers::respond::PLAIN_UDP_OCTETS;
use crate::answers::{Decision, Policy, Query, Rcode, Transport, decide};
use crate::zones::{Name, Rdata, Rtype, Snapshot, Zone, ZoneIndex, serial};

/// One way to be allowed to transfer: what is given must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// Where the request comes from.
    pub prefix: Option<Prefix>,
    /// What it is signed with.
    pub key: Option<Name>,
}

/// Who may transfer.
#[derive(Debug)]
pub struct Access {
    /// The keys that requests can be signed with.
    pub keys: Keys,
    /// One of these must fit; none is nobody.
    pub allow: Vec<Allowed>,
    /// Transfers at one time.
    pub max_transfers: usize,
    /// Within this a transfer must be over.
    pub timeout: Duration,
}

/// Who may say that a zone has changed at its primary, and who wants to know.
#[derive(Debug)]
pub struct Hearing {
    /// Where from, without a signature.
    pub from: Vec<Prefix>,
    /// The key of the primaries: with it, from anywhere.
    pub key: Option<Name>,
    /// Who is woken.
    pub wake: Arc<Notify>,
}

/// What is sent back.
pub enum Response {
    /// Nothing.
    Ignore,
    /// One message with this code.
    One(Vec<u8>, Rcode),
    /// As many as it takes.
    Many(Box<Outgoing>),
}

/// Answers transfers, NOTIFY and signed queries.
pub struct Responder {
    access: Access,
    places: Arc<Semaphore>,
    versions: Arc<Versions>,
    hearing: HashMap<Name, Hearing>,
}

impl Responder {
    /// By these rules, from these versions. `hearing` has the zones that are transferred from
    /// elsewhere.
    #[must_use]
    pub fn new(access: Access, versions: Arc<Versions>, hearing: HashMap<Name, Hearing>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(access.max_transfers)),
            access,
            versions,
            hearing,
        }
    }

    /// Whether a message is for [`Self::respond`]: NOTIFY, AXFR or IXFR, or anything with a
    /// signature, wherever it stands.
    #[must_use]
    pub fn claims(&self, message: &[u8]) -> bool {
        let Some(header) = get_u16(message, 2) else {
            return false;
        };
        if header & (flags::QR | flags::OPCODE) == flags::NOTIFY {
            return true;
        }
        if header & (flags::QR | flags::OPCODE) != 0 {
            return false;
        }
        let rtype = || {
            let mut at = HEADER_OCTETS;
            while let Some(&len) = message.get(at) {
                at += 1 + usize::from(len);
                if len == 0 {
                    return get_u16(message, at).map(Rtype);
                }
            }
            None
        };
        let is_signed = |one: Message| {
            let sections = [&one.answer, &one.authority, &one.additional];
            sections.into_iter().flatten().any(tsig::is_signature)
        };
        matches!(rtype(), Some(AXFR | IXFR))
            || (tsig::may_be_signed(message) && Message::read(message).is_ok_and(is_signed))
    }

    /// Answers a message from `peer`.
    #[must_use]
    pub fn respond(
        &self,
        snapshot: &Arc<Snapshot>,
        octets: &[u8],
        peer: IpAddr,
        transport: Transport,
        policy: &Policy,
    ) -> Response {
        let Ok(message) = Message::read(octets) else {
            return plain(snapshot, octets, transport, policy);
        };
        let udp_octets = policy.edns_size();
        let now = unix_seconds();
        let limit = match transport {
            Transport::Tcp => u16::MAX,
            Transport::Udp => {
                let opt = message.opt().ok().flatten();
                opt.map_or(PLAIN_UDP_OCTETS, |opt| {
                    opt.class.clamp(PLAIN_UDP_OCTETS, udp_octets)
                })
            }
        };
        let keys = &self.access.keys;
        let checked = tsig::check(keys, octets, &message, udp_octets, limit.into(), now);
        let key = checked.key().cloned();
        let (octets, mut signer) = match checked {
            Checked::Unsigned => (octets.to_vec(), None),
            Checked::Signed(octets, signer) => (octets, Some(signer)),
            Checked::Refused(response) => {
                count(&self.versions.counters.unbelieved);
                info!(%peer, "a message with a signature that does not hold is refused");
                let rcode = get_u16(&response, 2).unwrap_or_default() & flags::RCODE;
                return Response::One(response, Rcode(rcode));
            }
        };
        let head = |rcode: Rcode| tsig::response_head(&octets, &message, rcode.0, udp_octets);
        let refusal = match message.opt() {
            Err(_) => Some(Rcode::FORMERR),
            Ok(opt) => opt
                .filter(|opt| opt.edns_version() != 0)
                .map(|_| Rcode::BADVERS),
        };
        if let Some(rcode) = refusal {
            return finish(head(rcode), rcode, signer.as_mut());
        }
        let policy = &Policy {
            signature_octets: signer.as_ref().map_or(0, Signer::octets),
            ..*policy
        };
        if message.flags & flags::OPCODE == flags::NOTIFY {
            let rcode = self.hear(&message, peer, key.as_ref());
            let mut response = head(rcode);
            let with_aa = get_u16(&response, 2).unwrap_or_default() | flags::AA;
            set_u16(&mut response, 2, with_aa);
            return finish(response, rcode, signer.as_mut());
        }
        let response = match &message.question {
            Some((zone, rtype @ (AXFR | IXFR), class)) => {
                let asked = Asked {
                    octets: &octets,
                    message: &message,
                    zone,
                    is_whole: *rtype == AXFR,
                    class: *class,
                };
                let access = self.admit(&asked, snapshot, peer, key.as_ref(), transport);
                match access {
                    Ok((index, held)) => {
                        return self
                            .transfer(&asked, snapshot, index, &held, transport, policy, signer);
                    }
                    Err(rcode) => error(&octets, rcode, transport, policy),
                }
            }
            _ => plain(snapshot, &octets, transport, policy),
        };
        match response {
            Response::One(response, rcode) => finish(response, rcode, signer.as_mut()),
            other => other,
        }
    }

    /// Takes a NOTIFY in (RFC 1996, section 3.11).
    fn hear(&self, message: &Message, peer: IpAddr, key: Option<&Name>) -> Rcode {
        count(&self.versions.counters.notifies_received);
        let Some((zone, Rtype::SOA, CLASS_IN)) = &message.question else {
            return Rcode::FORMERR;
        };
        let Some(hearing) = self.hearing.get(zone) else {
            return Rcode::NOTAUTH;
        };
        let is_keyed = key.is_some() && key == hearing.key.as_ref();
        if !is_keyed && !hearing.from.iter().any(|one| one.contains(peer)) {
            debug!(%zone, %peer, "a NOTIFY from a stranger is refused");
            return Rcode::REFUSED;
        }
        hearing.wake.notify_one();
        Rcode::NOERROR
    }

    /// Whether the transfer that is asked for may be had, and which zone it is.
    fn admit(
        &self,
        asked: &Asked<'_>,
        snapshot: &Snapshot,
        peer: IpAddr,
        key: Option<&Name>,
        transport: Transport,
    ) -> Result<(ZoneIndex, Arc<Zone>), Rcode> {
        if asked.is_whole && transport == Transport::Udp {
            // AXFR is defined over TCP only (RFC 5936, section 4.2).
            return Err(Rcode::FORMERR);
        }
        let fits = |allowed: &Allowed| {
            allowed.prefix.is_none_or(|prefix| prefix.contains(peer))
                && allowed.key.as_ref().is_none_or(|one| Some(one) == key)
        };
        if !self.access.allow.iter().any(fits) {
            count(&self.versions.counters.refused);
            let zone = asked.zone;
            info!(%zone, %peer, "a transfer is refused");
            return Err(Rcode::REFUSED);
        }
        let mut zones = (0u8..).map(ZoneIndex).zip(snapshot.zones());
        let found = zones.find(|(_, zone)| zone.apex == *asked.zone);
        let (index, zone) = found
            .filter(|_| asked.class == CLASS_IN)
            .ok_or(Rcode::NOTAUTH)?;
        if zone.withdrawn || !zone.complete {
            return Err(Rcode::SERVFAIL);
        }
        Ok((index, Arc::clone(zone)))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "all of a request that was granted"
    )]
    fn transfer(
        &self,
        asked: &Asked<'_>,
        snapshot: &Arc<Snapshot>,
        index: ZoneIndex,
        zone: &Arc<Zone>,
        transport: Transport,
        policy: &Policy,
        mut signer: Option<Signer>,
    ) -> Response {
        let content = if asked.is_whole {
            Content::Whole(Arc::clone(snapshot), index)
        } else {
            match asked.held_serial() {
                Some(held) => self.since(held, snapshot, index, zone, transport),
                None => return error_finished(asked, Rcode::FORMERR, transport, policy, signer),
            }
        };
        let mut outgoing = Outgoing {
            zone: Arc::clone(zone),
            content,
            envelope: asked.envelope(),
            opt: asked.message.opt_of_response(0, policy.edns_size()),
            signer: None,
            deadline: Instant::now() + self.access.timeout,
            versions: Arc::clone(&self.versions),
            place: None,
        };
        if transport == Transport::Udp {
            // What does not fit is not sent: the client comes by TCP (RFC 1995, section 2).
            let limit = asked.udp_limit(policy);
            let whole = outgoing.in_one(limit);
            let response = whole.or_else(|| {
                outgoing.content = Content::Nothing;
                outgoing.in_one(limit)
            });
            let response = response.unwrap_or_default();
            return finish(response, Rcode::NOERROR, signer.as_mut());
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            count(&self.versions.counters.refused);
            info!(zone = %zone.apex, "a transfer is refused: too many are under way");
            return error_finished(asked, Rcode::SERVFAIL, transport, policy, signer);
        };
        outgoing.place = Some(place);
        outgoing.signer = signer;
        Response::Many(Box::new(outgoing))
    }

    /// What to send to one who holds a serial.
    fn since(
        &self,
        held: u32,
        snapshot: &Arc<Snapshot>,
        index: ZoneIndex,
        zone: &Zone,
        transport: Transport,
    ) -> Content {
        let own = zone.soa.serial;
        if !serial::is_after(own, held) {
            return Content::Nothing;
        }
        let history = &self.versions.history;
        let steps = history.between(&zone.apex, held, own);
        // Changes that are more than the zone itself help nobody (RFC 1995, section 2).
        let is_less = |steps: &Vec<Arc<super::history::Step>>| {
            let names: usize = steps.iter().map(|step| step.names()).sum();
            names <= snapshot.len()
        };
        match steps.filter(is_less) {
            Some(steps) => Content::Changes(steps),
            // Whether a zone fits into a datagram is known after a walk over all names there are, for
            // one whose address proves nothing. The client comes by TCP (RFC 1995, section 2).
            None if transport == Transport::Udp => Content::Nothing,
            None => Content::Whole(Arc::clone(snapshot), index),
        }
    }
}

/// A transfer as it was asked for.
struct Asked<'m> {
    octets: &'m [u8],
    message: &'m Message,
    zone: &'m Name,
    is_whole: bool,
    class: u16,
}

impl Asked<'_> {
    /// The serial in the SOA of the authority section (RFC 1995, section 3).
    fn held_serial(&self) -> Option<u32> {
        self.message
            .authority
            .iter()
            .find_map(|one| match &one.data {
                Rdata::Soa(soa) if one.owner == *self.zone => Some(soa.serial),
                _ => None,
            })
    }

    fn envelope(&self) -> Envelope {
        let head = tsig::response_head(self.octets, self.message, 0, 0);
        Envelope {
            id: self.message.id,
            flags: get_u16(&head, 2).unwrap_or_default() | flags::AA,
            question: tsig::question_of(self.octets, self.message).to_vec(),
        }
    }

    fn udp_limit(&self, policy: &Policy) -> usize {
        let query = Query::parse(self.octets);
        let plain = usize::from(PLAIN_UDP_OCTETS).saturating_sub(policy.signature_octets);
        query.map_or(plain, |query| policy.size(&query, Transport::Udp).limit)
    }
}

fn finish(mut response: Vec<u8>, rcode: Rcode, signer: Option<&mut Signer>) -> Response {
    if let Some(signer) = signer {
        signer.sign_alone(&mut response, unix_seconds());
    }
    Response::One(response, rcode)
}

fn error_finished(
    asked: &Asked<'_>,
    rcode: Rcode,
    transport: Transport,
    policy: &Policy,
    mut signer: Option<Signer>,
) -> Response {
    match error(asked.octets, rcode, transport, policy) {
        Response::One(response, rcode) => finish(response, rcode, signer.as_mut()),
        other => other,
    }
}

/// The code and no data.
fn error(octets: &[u8], rcode: Rcode, transport: Transport, policy: &Policy) -> Response {
    match Query::parse(octets) {
        Ok(query) => {
            let size = policy.size(&query, transport);
            let response = crate::answers::message::write_error(&query, rcode, size);
            Response::One(response, rcode)
        }
        Err(_) => Response::Ignore,
    }
}

/// An ordinary query; names that are not ours are not forwarded for one who signs.
fn plain(snapshot: &Snapshot, octets: &[u8], transport: Transport, policy: &Policy) -> Response {
    let policy = Policy {
        forwards: false,
        ..*policy
    };
    match decide(snapshot, octets, transport, &policy) {
        Decision::Respond(response, rcode) => {
            // Beside a signature nothing is left of what is too large (RFC 8945, section 5.3).
            let has_tc = get_u16(&response, 2).is_some_and(|bits| bits & flags::TC != 0);
            if policy.signature_octets > 0
                && has_tc
                && let Ok(query) = Query::parse(octets)
            {
                let size = policy.size(&query, transport);
                return Response::One(write_truncated(&query, size), Rcode::NOERROR);
            }
            Response::One(response, rcode)
        }
        Decision::Ignore | Decision::Forward(_) => Response::Ignore,
    }
}
