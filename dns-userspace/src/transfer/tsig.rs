//! Transaction signatures (RFC 8945): who sent a message is known by a shared key.
//!
//! A signature covers the message as it is, so this works on octets: the TSIG record is the last
//! one, found by walking over the others, and added behind a message that is finished.

use std::collections::HashMap;
use std::sync::Arc;

use data_encoding::BASE64;
use ring::hmac;

use super::wire::{HEADER_OCTETS, Malformed, Message, flags, get_u16, push_additional, set_u16};
use crate::answers::Rcode;
use crate::config::Secret;
use crate::zones::{Name, Rdata, Rtype};

const TSIG: Rtype = Rtype(250);
const CLASS_ANY: u16 = 255;
const ARCOUNT_AT: usize = 10;
/// Seconds by which clocks may differ, as recommended by section 10.
const FUDGE: u16 = 300;
/// Messages without a signature that may come between signed ones (section 5.3.1).
const MAX_UNSIGNED: usize = 99;

/// Errors that a TSIG record can state (section 3).
mod error {
    pub(super) const BADSIG: u16 = 16;
    pub(super) const BADKEY: u16 = 17;
    pub(super) const BADTIME: u16 = 18;
    pub(super) const BADTRUNC: u16 = 22;
}
/// The response code of all of them.
const NOTAUTH: u16 = Rcode::NOTAUTH.0;
const FORMERR: u16 = Rcode::FORMERR.0;

/// An algorithm that signatures are made with (section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// `hmac-sha1`, for old servers.
    Sha1,
    /// `hmac-sha256`.
    Sha256,
    /// `hmac-sha384`.
    Sha384,
    /// `hmac-sha512`.
    Sha512,
}

impl Algorithm {
    /// Names in a configuration, which are those on the wire.
    pub const ALL: [(&'static str, Self); 4] = [
        ("hmac-sha256", Self::Sha256),
        ("hmac-sha384", Self::Sha384),
        ("hmac-sha512", Self::Sha512),
        ("hmac-sha1", Self::Sha1),
    ];

    fn wire(self) -> &'static [u8] {
        match self {
            Self::Sha1 => b"\x09hmac-sha1\0",
            Self::Sha256 => b"\x0bhmac-sha256\0",
            Self::Sha384 => b"\x0bhmac-sha384\0",
            Self::Sha512 => b"\x0bhmac-sha512\0",
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn octets(self) -> usize {
        self.hmac().digest_algorithm().output_len()
    }
}

/// A shared key.
#[derive(Debug)]
pub struct Key {
    name: Name,
    algorithm: Algorithm,
    hmac: hmac::Key,
}

impl Key {
    /// A key from its base64 text; `None` if that is none, or empty.
    #[must_use]
    pub fn new(name: Name, algorithm: Algorithm, secret: &Secret) -> Option<Self> {
        let octets = BASE64.decode(secret.expose().as_bytes()).ok()?;
        let hmac = hmac::Key::new(algorithm.hmac(), &octets);
        (!octets.is_empty()).then_some(Self {
            name,
            algorithm,
            hmac,
        })
    }

    /// Whether `mac`, whole or truncated, is of `signed`.
    fn made(&self, mac: &[u8], signed: &[u8]) -> bool {
        let whole = hmac::sign(&self.hmac, signed);
        // What the key signs equally is equal; this compares in constant time.
        let expected = whole.as_ref().get(..mac.len());
        expected.is_some_and(|expected| {
            let proof = hmac::sign(&self.hmac, expected);
            hmac::verify(&self.hmac, mac, proof.as_ref()).is_ok()
        })
    }

    /// The name that both sides know it by.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }
}

/// The keys that are configured, by name.
#[derive(Debug, Default)]
pub struct Keys(HashMap<Name, Arc<Key>>);

impl FromIterator<Key> for Keys {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        let keys = keys.into_iter();
        Self(keys.map(|key| (key.name.clone(), Arc::new(key))).collect())
    }
}

impl Keys {
    /// The key of a name.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<&Arc<Key>> {
        self.0.get(name)
    }
}

/// The fields of a TSIG record (section 4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    key: Name,
    /// In wire form, folded.
    algorithm: Vec<u8>,
    /// Seconds since 1970, 48 bits.
    time: u64,
    fudge: u16,
    mac: Vec<u8>,
    original_id: u16,
    error: u16,
    other: Vec<u8>,
}

impl Record {
    fn read(key: Name, data: &[u8]) -> Option<Self> {
        let algorithm_octets = name_octets(data)?;
        let (algorithm, rest) = data.split_at_checked(algorithm_octets)?;
        let (time, rest) = rest.split_first_chunk::<6>()?;
        let (fudge, rest) = rest.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let (mac, rest) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
        let (id, rest) = rest.split_first_chunk()?;
        let (error, rest) = rest.split_first_chunk()?;
        let (len, other) = rest.split_first_chunk()?;
        if other.len() != usize::from(u16::from_be_bytes(*len)) {
            return None;
        }
        Some(Self {
            key,
            algorithm: algorithm.to_ascii_lowercase(),
            time: time
                .iter()
                .fold(0, |sum, octet| sum << 8 | u64::from(*octet)),
            fudge: u16::from_be_bytes(*fudge),
            mac: mac.to_vec(),
            original_id: u16::from_be_bytes(*id),
            error: u16::from_be_bytes(*error),
            other: other.to_vec(),
        })
    }

    fn time_octets(&self) -> [u8; 6] {
        let [_, _, time @ ..] = self.time.to_be_bytes();
        time
    }

    /// What the signature covers besides messages (section 4.3.3).
    fn variables(&self) -> Vec<u8> {
        let mut out = self.key.wire().to_vec();
        out.extend_from_slice(&CLASS_ANY.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.algorithm);
        out.extend_from_slice(&self.timers());
        out.extend_from_slice(&self.error.to_be_bytes());
        push_counted(&mut out, &self.other);
        out
    }

    /// The same after the first message of several (section 5.3.1).
    fn timers(&self) -> [u8; 8] {
        let mut out = [0; 8];
        let octets = self
            .time_octets()
            .into_iter()
            .chain(self.fudge.to_be_bytes());
        for (slot, octet) in out.iter_mut().zip(octets) {
            *slot = octet;
        }
        out
    }

    /// Octets that it has.
    fn octets(&self) -> usize {
        let data = self.algorithm.len() + 16 + self.mac.len() + self.other.len();
        self.key.wire().len() + 10 + data
    }

    fn append_to(&self, message: &mut Vec<u8>) {
        let mut record = self.key.wire().to_vec();
        record.extend_from_slice(&TSIG.0.to_be_bytes());
        record.extend_from_slice(&CLASS_ANY.to_be_bytes());
        record.extend_from_slice(&[0; 4]);
        let mut data = self.algorithm.clone();
        data.extend_from_slice(&self.timers());
        push_counted(&mut data, &self.mac);
        data.extend_from_slice(&self.original_id.to_be_bytes());
        data.extend_from_slice(&self.error.to_be_bytes());
        push_counted(&mut data, &self.other);
        push_counted(&mut record, &data);
        push_additional(message, &record);
    }
}

fn push_counted(out: &mut Vec<u8>, octets: &[u8]) {
    let len = u16::try_from(octets.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(octets);
}

fn name_octets(wire: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let len = usize::from(*wire.get(at)?);
        at += 1 + len;
        match len {
            0 => return Some(at),
            1..=63 => {}
            _ => return None,
        }
    }
}

/// Whether a message has the octets of the type of a signature. Nearly every query has an OPT record
/// and no signature: this spares reading all of them record by record.
pub(super) fn may_be_signed(message: &[u8]) -> bool {
    message
        .windows(2)
        .any(|octets| octets == TSIG.0.to_be_bytes())
}

/// Whether a record is a signature.
pub(super) fn is_signature(record: &super::wire::Record) -> bool {
    record.data.rtype() == TSIG
}

/// A message without its TSIG record: as it was signed.
struct Stripped {
    octets: Vec<u8>,
    record: Record,
}

/// Takes the TSIG record off. One that is not the last, or not alone, is malformed (section 5.2).
fn strip(octets: &[u8], message: &Message) -> Result<Option<Stripped>, Malformed> {
    let others = message.answer.iter().chain(&message.authority);
    let Some((last, front)) = message.additional.split_last() else {
        return if others.clone().any(is_signature) {
            Err(Malformed)
        } else {
            Ok(None)
        };
    };
    if others.chain(front).any(is_signature) {
        return Err(Malformed);
    }
    let Rdata::Opaque(TSIG, data) = &last.data else {
        return Ok(None);
    };
    let is_framed = last.class == CLASS_ANY && last.ttl == 0;
    let record = Record::read(last.owner.clone(), data).filter(|_| is_framed);
    let record = record.ok_or(Malformed)?;
    let mut octets = octets.get(..last.start).ok_or(Malformed)?.to_vec();
    let count = u16::try_from(front.len()).map_err(|_| Malformed)?;
    set_u16(&mut octets, ARCOUNT_AT, count);
    Ok(Some(Stripped { octets, record }))
}

/// Leaves the header of a response that has no room for so many octets more, with TC: names may be so
/// long that question and signature together pass the 512 octets of a plain client.
fn shorten(response: &mut Vec<u8>, more: usize, limit: usize) {
    if response.len() + more > limit {
        response.truncate(HEADER_OCTETS);
        let bits = get_u16(response, 2).unwrap_or_default();
        set_u16(response, 2, bits | flags::TC);
        for count in [4, 6, 8, 10] {
            set_u16(response, count, 0);
        }
    }
}

/// Makes a message as it was when its sender signed it: a forwarder may have changed the id.
fn with_original_id(octets: &mut [u8], record: &Record) {
    set_u16(octets, 0, record.original_id);
}

/// Signs the responses to one request, and knows what the last signature was.
#[derive(Debug, Clone)]
pub(super) struct Signer {
    key: Arc<Key>,
    /// Of the request, then of the last message.
    mac: Vec<u8>,
    is_first: bool,
    /// Octets that a message may have with its signature.
    limit: usize,
}

impl Signer {
    /// Octets that a signature adds: a record with the key as its owner, whose data has 16 octets
    /// besides algorithm and MAC (section 4.2).
    pub(super) fn octets(&self) -> usize {
        let algorithm = self.key.algorithm;
        let data = algorithm.wire().len() + 16 + algorithm.octets();
        self.key.name.wire().len() + 10 + data
    }

    /// Signs a finished message, the first or a further one.
    pub(super) fn sign(&mut self, message: &mut Vec<u8>, now: u64) {
        self.sign_with(message, now, 0, Vec::new());
    }

    /// The same for a response of one message, which is kept within the limit. Of a transfer nothing may
    /// be left out.
    pub(super) fn sign_alone(&mut self, message: &mut Vec<u8>, now: u64) {
        shorten(message, self.octets(), self.limit);
        self.sign(message, now);
    }

    fn sign_with(&mut self, message: &mut Vec<u8>, time: u64, error: u16, other: Vec<u8>) {
        let mut record = Record {
            key: self.key.name.clone(),
            algorithm: self.key.algorithm.wire().to_vec(),
            time,
            fudge: FUDGE,
            mac: Vec::new(),
            original_id: get_u16(message, 0).unwrap_or_default(),
            error,
            other,
        };
        let mut digest = hmac::Context::with_key(&self.key.hmac);
        if !self.mac.is_empty() {
            let mut counted = Vec::with_capacity(self.mac.len() + 2);
            push_counted(&mut counted, &self.mac);
            digest.update(&counted);
        }
        digest.update(message);
        if self.is_first {
            digest.update(&record.variables());
        } else {
            digest.update(&record.timers());
        }
        record.mac = digest.sign().as_ref().to_vec();
        record.append_to(message);
        self.is_first = false;
        self.mac = record.mac;
    }
}

/// A request after its signature was looked at.
pub(super) enum Checked {
    /// It has none.
    Unsigned,
    /// It is the key holder's. The octets are those without the TSIG record.
    Signed(Vec<u8>, Signer),
    /// It is not to be believed; this says so.
    Refused(Vec<u8>),
}

impl Checked {
    /// Who signed it.
    pub(super) fn key(&self) -> Option<&Name> {
        match self {
            Self::Signed(_, signer) => Some(signer.key.name()),
            Self::Unsigned | Self::Refused(_) => None,
        }
    }
}

/// Looks at the signature of a request: key, MAC, time and truncation, in this order (section 5.2).
/// `now` is in seconds since 1970, `udp_octets` what the OPT record of a refusal offers, and `limit`
/// what a response may have, in octets.
pub(super) fn check(
    keys: &Keys,
    octets: &[u8],
    message: &Message,
    udp_octets: u16,
    limit: usize,
    now: u64,
) -> Checked {
    let refused = |rcode: u16, record: Option<&Record>, error: u16| {
        let mut response = response_head(octets, message, rcode, udp_octets);
        if let Some(record) = record {
            // Without a signature: there is no key to make one with (section 5.3.2).
            let answer = Record {
                mac: Vec::new(),
                error,
                other: Vec::new(),
                ..record.clone()
            };
            shorten(&mut response, answer.octets(), limit);
            if response.len() + answer.octets() <= limit {
                answer.append_to(&mut response);
            }
        }
        Checked::Refused(response)
    };
    let stripped = match strip(octets, message) {
        Ok(None) => return Checked::Unsigned,
        Ok(Some(stripped)) => stripped,
        Err(Malformed) => return refused(FORMERR, None, 0),
    };
    let Stripped { mut octets, record } = stripped;
    let key = keys.get(&record.key);
    let Some(key) = key.filter(|key| key.algorithm.wire() == record.algorithm) else {
        return refused(NOTAUTH, Some(&record), error::BADKEY);
    };
    let whole = key.algorithm.octets();
    // Section 5.2.2.1.
    if record.mac.len() > whole || record.mac.len() < 10.max(whole / 2) {
        return refused(FORMERR, None, 0);
    }
    let id = get_u16(&octets, 0).unwrap_or_default();
    with_original_id(&mut octets, &record);
    let mut signed = octets.clone();
    signed.extend_from_slice(&record.variables());
    set_u16(&mut octets, 0, id);
    if !key.made(&record.mac, &signed) {
        return refused(NOTAUTH, Some(&record), error::BADSIG);
    }
    let mut signer = Signer {
        key: Arc::clone(key),
        mac: record.mac.clone(),
        is_first: true,
        limit,
    };
    // Who has the key gets a signed error (section 5.3.2).
    let mut refused_signed = |time, error, other: Vec<u8>| {
        let mut response = response_head(&octets, message, NOTAUTH, udp_octets);
        shorten(&mut response, signer.octets() + other.len(), limit);
        signer.sign_with(&mut response, time, error, other);
        Checked::Refused(response)
    };
    if now.abs_diff(record.time) > u64::from(record.fudge) {
        let [_, _, time @ ..] = now.to_be_bytes();
        return refused_signed(record.time, error::BADTIME, time.to_vec());
    }
    // Shorter than it could be is allowed by section 5.2.2.1, and against our policy.
    if record.mac.len() < whole {
        return refused_signed(now, error::BADTRUNC, Vec::new());
    }
    Checked::Signed(octets, signer)
}

/// The question of a request, octet for octet.
pub(super) fn question_of<'m>(octets: &'m [u8], message: &Message) -> &'m [u8] {
    let behind = octets.get(HEADER_OCTETS..).unwrap_or_default();
    let name = message.question.as_ref().and_then(|_| name_octets(behind));
    let question = name.and_then(|name| behind.get(..name + 4));
    question.unwrap_or_default()
}

/// A response to a request, without records but for OPT.
pub(super) fn response_head(
    octets: &[u8],
    message: &Message,
    rcode: u16,
    udp_octets: u16,
) -> Vec<u8> {
    let question = question_of(octets, message);
    let mut out = octets.get(..HEADER_OCTETS).unwrap_or_default().to_vec();
    out.extend_from_slice(question);
    let kept = message.flags & (flags::OPCODE | 1 << 8);
    set_u16(&mut out, 2, flags::QR | kept | rcode & flags::RCODE);
    set_u16(&mut out, 4, u16::from(!question.is_empty()));
    for count in [6, 8, 10] {
        set_u16(&mut out, count, 0);
    }
    if let Some(opt) = message.opt_of_response(rcode, udp_octets) {
        push_additional(&mut out, &opt);
    }
    out
}

/// Why a response is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unbelieved {
    /// It should be signed and is not.
    #[error("the response is not signed")]
    Unsigned,
    /// By another key than the request.
    #[error("the response is signed by another key")]
    OtherKey,
    /// The signature does not fit.
    #[error("the signature of the response is wrong")]
    BadSignature,
    /// The clocks differ.
    #[error("the response was signed {0} s away from our clock")]
    BadTime(u64),
    /// The other side has an error to tell.
    #[error("TSIG error {0}")]
    Told(&'static str),
}

/// Signs a request, and checks the responses to it (section 5.3).
#[derive(Debug)]
pub(super) struct Exchange {
    key: Arc<Key>,
    mac: Vec<u8>,
    is_first: bool,
    /// Messages since the last that was signed, to be covered by the next signature.
    unsigned: Vec<Vec<u8>>,
}

impl Exchange {
    /// Signs `message`.
    pub(super) fn begin(key: &Arc<Key>, message: &mut Vec<u8>, now: u64) -> Self {
        let mut signer = Signer {
            key: Arc::clone(key),
            mac: Vec::new(),
            is_first: true,
            limit: u16::MAX.into(),
        };
        signer.sign(message, now);
        Self {
            key: signer.key,
            mac: signer.mac,
            is_first: true,
            unsigned: Vec::new(),
        }
    }

    /// Checks the next message of the response. What is believed only by a later signature is
    /// taken for now: see [`Self::is_settled`].
    pub(super) fn check(
        &mut self,
        octets: &[u8],
        message: &Message,
        now: u64,
    ) -> Result<(), Unbelieved> {
        let stripped = strip(octets, message).map_err(|Malformed| Unbelieved::BadSignature)?;
        let Some(Stripped { mut octets, record }) = stripped else {
            if self.is_first || self.unsigned.len() >= MAX_UNSIGNED {
                return Err(Unbelieved::Unsigned);
            }
            self.unsigned.push(octets.to_vec());
            return Ok(());
        };
        let told = match record.error {
            error::BADSIG => Some("BADSIG"),
            error::BADKEY => Some("BADKEY"),
            error::BADTIME => Some("BADTIME"),
            error::BADTRUNC => Some("BADTRUNC"),
            _ => None,
        };
        if let Some(told) = told {
            return Err(Unbelieved::Told(told));
        }
        if record.key != self.key.name || record.algorithm != self.key.algorithm.wire() {
            return Err(Unbelieved::OtherKey);
        }
        with_original_id(&mut octets, &record);
        let mut signed = Vec::new();
        push_counted(&mut signed, &self.mac);
        for one in self.unsigned.drain(..) {
            signed.extend_from_slice(&one);
        }
        signed.extend_from_slice(&octets);
        if self.is_first {
            signed.extend_from_slice(&record.variables());
        } else {
            signed.extend_from_slice(&record.timers());
        }
        hmac::verify(&self.key.hmac, &signed, &record.mac).map_err(|_| Unbelieved::BadSignature)?;
        let away = now.abs_diff(record.time);
        if away > u64::from(record.fudge) {
            return Err(Unbelieved::BadTime(away));
        }
        self.is_first = false;
        self.mac = record.mac;
        Ok(())
    }

    /// Whether every message so far is covered by a signature.
    pub(super) fn is_settled(&self) -> bool {
        self.unsigned.is_empty() && !self.is_first
    }
}

#[cfg(test)]
#[path = "tsig_tests.rs"]
mod tests;
