//! What clients are given besides answers, and which of them: the rules that hold for every
//! response, whoever made it and whatever carries it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::answers::cookie::{Secrets, Verified};
use crate::answers::edns::{self, OPTION_HEADER_OCTETS, option};
use crate::answers::identity::Identity;
use crate::answers::{Edns, Policy, Rcode, Transport};

use super::guard::Guard;

/// Responses over an encrypted transport are filled up to a multiple of this (RFC 8467, section
/// 4.1).
const PADDED_OCTETS: usize = 468;

/// The terms.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// Who is answered, and how often.
    pub guard: Arc<Guard>,
    /// Secrets of server cookies; without them cookies are ignored.
    pub cookies: Option<Secrets>,
    /// Whether a client beyond its share that has a client cookie is told BADCOOKIE, so that it can
    /// come back with a server cookie, for which nothing is limited.
    pub badcookie: bool,
    /// The identifier of this server for those who ask with NSID; empty for none.
    pub nsid: Vec<u8>,
    /// What those are told who ask in class CHAOS.
    pub identity: Identity,
}

/// Who asks, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    pub(super) address: IpAddr,
    pub(super) transport: Transport,
    /// Whether nobody on the way can read along, so that sizes are hidden too.
    pub(super) is_encrypted: bool,
    /// How long a connection may be silent, where that is for DNS to say.
    pub(super) idle: Option<Duration>,
}

/// Options for the response to one query.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extras {
    cookie: Option<Verified>,
    nsid: Vec<u8>,
    keepalive: Option<u16>,
    pads: bool,
}

/// The COOKIE option has a length that none has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Terms {
    /// What `decide` must know of them.
    #[must_use]
    pub fn applied_to(&self, policy: Policy) -> Policy {
        Policy {
            cookies: self.cookies.is_some(),
            nsid_octets: u16::try_from(self.nsid.len()).unwrap_or(0),
            ..policy
        }
    }

    /// The options that the response to a query with this OPT record gets.
    pub(super) fn extras(
        &self,
        edns: Option<Edns<'_>>,
        client: Client,
    ) -> Result<Extras, Malformed> {
        let mut extras = Extras::default();
        let Some(edns) = edns else {
            return Ok(extras);
        };
        if let (Some(secrets), Some(cookie)) = (&self.cookies, edns.option(option::COOKIE)) {
            let verified = secrets.verify(cookie, client.address, unix_time());
            extras.cookie = Some(verified.ok_or(Malformed)?);
        }
        if !self.nsid.is_empty() && edns.option(option::NSID).is_some() {
            extras.nsid.clone_from(&self.nsid);
        }
        if let Some(idle) = client.idle
            && edns.option(option::KEEPALIVE).is_some()
        {
            let tenths = idle.as_millis() / 100;
            extras.keepalive = Some(u16::try_from(tenths).unwrap_or(u16::MAX));
        }
        // RFC 8467, section 4.1: only for those who pad.
        extras.pads = client.is_encrypted && edns.option(option::PADDING).is_some();
        Ok(extras)
    }
}

impl Extras {
    /// Whether the client has shown that its address is its own.
    pub(super) fn has_good_cookie(&self) -> bool {
        self.cookie.is_some_and(|cookie| cookie.is_good)
    }

    pub(super) const fn has_cookie(&self) -> bool {
        self.cookie.is_some()
    }

    /// The response code for one who asks for nothing but a cookie: NOERROR, or BADCOOKIE if the
    /// server cookie that was sent is not good (RFC 7873, section 5.4). `None` without a cookie.
    pub(super) fn cookie_rcode(&self) -> Option<Rcode> {
        let cookie = self.cookie?;
        let is_fine = cookie.is_good || !cookie.has_server_cookie;
        Some(if is_fine {
            Rcode::NOERROR
        } else {
            Rcode::BADCOOKIE
        })
    }

    /// Adds them to a finished response, in place of those that another server put there: they
    /// hold for one hop (RFC 6891, section 6.2.1).
    pub(super) fn add_to(&self, response: &mut Vec<u8>) {
        if *self == Self::default() {
            return;
        }
        let keepalive = self.keepalive.map(u16::to_be_bytes);
        let mut more: Vec<(u16, &[u8])> = Vec::new();
        if let Some(cookie) = &self.cookie {
            more.push((option::COOKIE, &cookie.option));
        }
        if !self.nsid.is_empty() {
            more.push((option::NSID, &self.nsid));
        }
        if let Some(keepalive) = &keepalive {
            more.push((option::KEEPALIVE, keepalive));
        }
        let is_theirs = |code| {
            matches!(
                code,
                option::COOKIE | option::NSID | option::KEEPALIVE | option::PADDING
            )
        };
        edns::rewrite(response, |code| !is_theirs(code), &more);
        if self.pads {
            let bare = response.len() + OPTION_HEADER_OCTETS;
            let padding = bare.next_multiple_of(PADDED_OCTETS) - bare;
            let zeros = vec![0; padding];
            // One that is too large already stays as it is.
            edns::rewrite(response, |_| true, &[(option::PADDING, &zeros)]);
        }
    }
}

/// Seconds, modulo 2^32 as cookies count them.
fn unix_time() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as u32)
}
