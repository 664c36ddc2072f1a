//! From the octets of a message to what is done with it: answered, forwarded or ignored. The one
//! place where the rules that hold for every response are applied, whatever the transport.

use crate::zones::{Rtype, Snapshot};

use super::cookie;
use super::edns::{ExtendedError, KEEPALIVE_OCTETS, OPTION_HEADER_OCTETS, option};
use super::message::{self, Size};
use super::query::{CLASS_IN, Query, RD, Rejection, rejected_header};
use super::resolve::{Rcode, resolve_within};

/// What a client without EDNS can take over UDP (RFC 1035, section 4.2.1).
pub const PLAIN_UDP_OCTETS: u16 = 512;

/// How a message came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// In a datagram.
    Udp,
    /// Over a stream, with its length before it.
    Tcp,
}

/// What the operator decides about responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Octets of a UDP response at most, whatever the client offers. 1232 keeps the packet whole
    /// on any path that IPv6 allows (DNS flag day 2020).
    pub max_udp_octets: u16,
    /// `SetTruncateBit` of mesos-dns.
    pub sets_truncate_bit: bool,
    /// Whether names that are not ours are forwarded; if not they are refused.
    pub forwards: bool,
    /// Whether queries with a COOKIE option get one back (RFC 7873).
    pub cookies: bool,
    /// Octets of the identifier that those get who ask for it; 0 for none (RFC 5001).
    pub nsid_octets: u16,
    /// Whether ANY over UDP gets one RRset rather than all (RFC 8482, section 4.1).
    pub minimal_any: bool,
    /// Octets to be kept free for a signature of the response (RFC 8945); 0 for none.
    pub signature_octets: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_udp_octets: 1232,
            sets_truncate_bit: true,
            forwards: false,
            cookies: false,
            nsid_octets: 0,
            minimal_any: false,
            signature_octets: 0,
        }
    }
}

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<'m> {
    /// Nothing is sent.
    Ignore,
    /// This is sent back; it has this code, of which the header holds the lower four bits.
    Respond(Vec<u8>, Rcode),
    /// The name is not ours and the policy is to forward: an upstream has the answer.
    Forward(Query<'m>),
}

impl Policy {
    /// EDNS options that finished answers know nothing of, a bit for each code below 32: see
    /// [`dns_common::Policy::raised_options`].
    #[must_use]
    pub const fn raised_options(&self) -> u32 {
        let cookie = (self.cookies as u32) << option::COOKIE;
        let nsid = ((self.nsid_octets != 0) as u32) << option::NSID;
        cookie | nsid
    }

    /// Octets to be kept free for the options of the response.
    fn options_octets(&self, query: &Query<'_>, transport: Transport) -> usize {
        let Some(edns) = query.edns.filter(|edns| !edns.options.is_empty()) else {
            return 0;
        };
        let has = |code| edns.option(code).is_some();
        let mut octets = 0;
        if self.cookies && has(option::COOKIE) {
            octets += cookie::OPTION_OCTETS;
        }
        if self.nsid_octets != 0 && has(option::NSID) {
            octets += OPTION_HEADER_OCTETS + usize::from(self.nsid_octets);
        }
        if transport == Transport::Tcp && has(option::KEEPALIVE) {
            octets += KEEPALIVE_OCTETS;
        }
        octets
    }

    /// The bounds of a response to `query`.
    #[must_use]
    pub fn size(&self, query: &Query<'_>, transport: Transport) -> Size {
        let limit = match (transport, query.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => PLAIN_UDP_OCTETS,
            // A size below 512 counts as 512 (RFC 6891, section 6.2.3).
            (Transport::Udp, Some(edns)) => edns.size.clamp(PLAIN_UDP_OCTETS, self.edns_size()),
        };
        let reserved = self.options_octets(query, transport) + self.signature_octets;
        Size {
            limit: usize::from(limit).saturating_sub(reserved),
            sets_truncate_bit: self.sets_truncate_bit,
            edns_size: self.edns_size(),
        }
    }

    /// The UDP size that OPT records of responses offer.
    #[must_use]
    pub const fn edns_size(&self) -> u16 {
        if self.max_udp_octets > PLAIN_UDP_OCTETS {
            self.max_udp_octets
        } else {
            PLAIN_UDP_OCTETS
        }
    }
}

/// Decides about one message.
#[must_use]
pub fn decide<'m>(
    snapshot: &Snapshot,
    message: &'m [u8],
    transport: Transport,
    policy: &Policy,
) -> Decision<'m> {
    match Query::parse(message) {
        Ok(query) => decide_query(snapshot, query, transport, policy),
        Err(rejection) => reject(message, rejection, policy),
    }
}

/// What becomes of a message that is no query.
#[must_use]
pub fn reject(message: &[u8], rejection: Rejection<'_>, policy: &Policy) -> Decision<'static> {
    let Some((id, flags)) = rejected_header(message) else {
        return Decision::Ignore;
    };
    // As in mesos-dns nothing but the opcode is taken from what could not be read.
    let flags = flags & !RD;
    match rejection {
        Rejection::Ignore => Decision::Ignore,
        Rejection::Header(rcode) => {
            Decision::Respond(message::write_header(id, flags, rcode), rcode)
        }
        Rejection::WithOpt(rcode, edns) => {
            // Whatever else is wrong, it is said in another version (RFC 6891, section 6.1.3).
            let rcode = match edns.version {
                0 => rcode,
                _ => Rcode::BADVERS,
            };
            let size = policy.edns_size();
            let response = message::write_header_with_opt((id, flags), rcode, edns, size);
            Decision::Respond(response, rcode)
        }
    }
}

/// Decides about one query.
#[must_use]
pub fn decide_query<'m>(
    snapshot: &Snapshot,
    query: Query<'m>,
    transport: Transport,
    policy: &Policy,
) -> Decision<'m> {
    let size = policy.size(&query, transport);
    let error = |rcode| Decision::Respond(message::write_error(&query, rcode, size), rcode);
    if query.edns.is_some_and(|edns| edns.version != 0) {
        return error(Rcode::BADVERS);
    }
    if let Some(rcode) = refusal(&query, transport) {
        return error(rcode);
    }
    match resolve_within(snapshot, &query.name, query.rtype, size.limit) {
        Some(mut resolution) => {
            if policy.minimal_any && query.rtype == Rtype::ANY && transport == Transport::Udp {
                resolution.keep_one_rrset();
            }
            let response = message::write(&query, &resolution, size);
            Decision::Respond(response, resolution.rcode)
        }
        None if policy.forwards => Decision::Forward(query),
        None => {
            let why = ExtendedError::NOT_AUTHORITATIVE;
            let response = message::write_explained(&query, Rcode::REFUSED, why, size);
            Decision::Respond(response, Rcode::REFUSED)
        }
    }
}

/// SERVFAIL for a message of which only the header is trusted: the response of last resort.
/// `None` for less than a header and for responses.
#[must_use]
pub fn servfail(message: &[u8]) -> Option<Vec<u8>> {
    let (id, flags) = rejected_header(message)?;
    let is_query = message.get(2).is_some_and(|octet| octet & 0x80 == 0);
    is_query.then(|| message::write_header(id, flags, Rcode::SERVFAIL))
}

/// Why a well-formed query is not looked up at all: a class other than IN, or a type that is no
/// data and names an operation (RFC 6895, section 3.1).
fn refusal(query: &Query<'_>, transport: Transport) -> Option<Rcode> {
    const IXFR: u16 = 251;
    const AXFR: u16 = 252;
    if query.class != CLASS_IN {
        return Some(Rcode::REFUSED);
    }
    match query.rtype {
        Rtype::OPT => Some(Rcode::FORMERR),
        // AXFR is defined over TCP only (RFC 5936, section 4.2).
        Rtype(AXFR) if transport == Transport::Udp => Some(Rcode::FORMERR),
        Rtype(IXFR | AXFR) => Some(Rcode::REFUSED),
        Rtype::ANY => None,
        Rtype(128..=254) => Some(Rcode::NOTIMP),
        _ => None,
    }
}
