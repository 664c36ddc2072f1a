//! A question as upstreams get it. Nothing else of a client's query leaves this host: options of
//! EDNS are between neighbours (RFC 6891, section 6.2.6), and the client's are its own affair.

use crate::answers::query::CLASS_IN;
use crate::answers::{Query, Transport};
use crate::zones::{Name, Rtype};

const RD: u16 = 1 << 8;
const CD: u16 = 1 << 4;
const AD: u16 = 1 << 5;

/// Octets of the longest key: name, type, bits.
const MAX_KEY_OCTETS: usize = 255 + 2 + 1;

/// What we offer upstreams to send over UDP: it stays whole on any path that IPv6 allows.
const EDNS_OCTETS: u16 = 1232;

/// What makes answers different: name, type, and the bits RD, CD and DO. AD is no part of it; we
/// always ask for it and keep it from those who did not.
pub(super) struct Key {
    octets: [u8; MAX_KEY_OCTETS],
    len: usize,
}

impl Key {
    pub(super) fn of(query: &Query<'_>) -> Self {
        let mut key = Self {
            octets: [0; MAX_KEY_OCTETS],
            len: 0,
        };
        let bits = Bits::of(query);
        key.push(query.name.wire());
        key.push(&query.rtype.0.to_be_bytes());
        key.push(&[bits.0]);
        key
    }

    fn push(&mut self, more: &[u8]) {
        let end = self.len + more.len();
        if let Some(slot) = self.octets.get_mut(self.len..end) {
            slot.copy_from_slice(more);
            self.len = end;
        }
    }

    pub(super) fn octets(&self) -> &[u8] {
        self.octets.get(..self.len).unwrap_or_default()
    }
}

/// RD, CD and DO in one octet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bits(u8);

impl Bits {
    const RD: u8 = 1;
    const CD: u8 = 2;
    const DO: u8 = 4;

    fn of(query: &Query<'_>) -> Self {
        let mut bits = 0;
        let dnssec_ok = query.edns.is_some_and(|edns| edns.dnssec_ok);
        for (is_set, bit) in [
            (query.flags & RD != 0, Self::RD),
            (query.flags & CD != 0, Self::CD),
            (dnssec_ok, Self::DO),
        ] {
            if is_set {
                bits |= bit;
            }
        }
        Self(bits)
    }

    const fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// Whether the client understands AD (RFC 6840, section 5.7).
pub(super) fn understands_ad(query: &Query<'_>) -> bool {
    query.flags & AD != 0 || query.edns.is_some_and(|edns| edns.dnssec_ok)
}

/// A question that is independent of the query it came in.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) name: Name,
    pub(super) rtype: Rtype,
    /// What the client used, which is what upstreams are asked over first.
    pub(super) transport: Transport,
    pub(super) key: Box<[u8]>,
    bits: Bits,
}

impl Ask {
    pub(super) fn new(query: &Query<'_>, key: &Key, transport: Transport) -> Self {
        Self {
            name: query.name.clone(),
            rtype: query.rtype,
            transport,
            key: key.octets().into(),
            bits: Bits::of(query),
        }
    }

    /// The question section with the name folded.
    pub(super) fn question(&self) -> Vec<u8> {
        let mut out = self.name.wire().to_vec();
        out.extend_from_slice(&self.rtype.0.to_be_bytes());
        out.extend_from_slice(&CLASS_IN.to_be_bytes());
        out
    }

    /// The question section with letters in random case (draft-vixie-dnsext-dns0x20).
    pub(super) fn question_in_random_case(&self) -> Vec<u8> {
        let mut question = self.question();
        let name = self.name.wire().len();
        let random: [u8; 32] = rand::random();
        let bits = random
            .iter()
            .flat_map(|octet| (0..8).map(move |bit| octet >> bit & 1 == 1));
        // Octets of length are at most 63, and no letters.
        for (octet, is_upper) in question.iter_mut().take(name).zip(bits) {
            if is_upper {
                octet.make_ascii_uppercase();
            }
        }
        question
    }

    /// The query. With EDNS there is an OPT record, whether the client has one or not.
    pub(super) fn message(&self, id: u16, question: &[u8], with_edns: bool) -> Vec<u8> {
        let mut flags = AD;
        for (bit, flag) in [(Bits::RD, RD), (Bits::CD, CD)] {
            if self.bits.has(bit) {
                flags |= flag;
            }
        }
        let mut out = Vec::with_capacity(question.len() + 12 + 11);
        for field in [id, flags, 1, 0, 0, u16::from(with_edns)] {
            out.extend_from_slice(&field.to_be_bytes());
        }
        out.extend_from_slice(question);
        if with_edns {
            let dnssec_ok = if self.bits.has(Bits::DO) { 0x80 } else { 0 };
            out.push(0);
            out.extend_from_slice(&Rtype::OPT.0.to_be_bytes());
            out.extend_from_slice(&EDNS_OCTETS.to_be_bytes());
            out.extend_from_slice(&[0, 0, dnssec_ok, 0, 0, 0]);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Web.example A IN` with RD and AD, and an OPT with a client cookie and client subnet.
    const QUERY: &[u8] =
        b"\x12\x34\x01\x20\x00\x01\x00\x00\x00\x00\x00\x01\x03Web\x07example\x00\x00\x01\x00\x01\
        \x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x17\
        \x00\x0a\x00\x08abcdefgh\x00\x08\x00\x07\x00\x01\x18\x00\xc0\x00\x02";

    fn key(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut message = QUERY.to_vec();
        change(&mut message);
        Key::of(&Query::parse(&message).unwrap()).octets().to_vec()
    }

    #[test]
    fn nothing_of_the_client_but_the_question_goes_out() {
        let query = Query::parse(QUERY).unwrap();
        let ask = Ask::new(&query, &Key::of(&query), Transport::Udp);
        let message = ask.message(0xbeef, &ask.question(), true);
        let expected: &[u8] =
            b"\xbe\xef\x01\x20\x00\x01\x00\x00\x00\x00\x00\x01\x03web\x07example\x00\x00\x01\x00\x01\
            \x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00";
        assert_eq!(message, expected);
        let plain = ask.message(0xbeef, &ask.question(), false);
        assert_eq!(plain.len(), expected.len() - 11);
    }

    #[test]
    fn keys_differ_where_answers_may() {
        let same = key(|_| {});
        assert_eq!(same, key(|message| message[13] = b'w'), "letter case");
        assert_eq!(same, key(|message| message[3] = 0), "AD");
        assert_eq!(same, key(|message| message[0] = 0), "id");
        assert_ne!(same, key(|message| message[3] |= 0x10), "CD");
        assert_ne!(same, key(|message| message[2] = 0), "RD");
        assert_ne!(same, key(|message| message[36] = 0), "DO");
        assert_ne!(same, key(|message| message[26] = 28), "type");
        assert_ne!(same, key(|message| message[14] = b'x'), "name");
    }

    #[test]
    fn the_case_of_letters_is_random_and_nothing_else_changes() {
        let query = Query::parse(QUERY).unwrap();
        let ask = Ask::new(&query, &Key::of(&query), Transport::Udp);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..64 {
            let question = ask.question_in_random_case();
            assert_eq!(question.to_ascii_lowercase(), ask.question());
            seen.insert(question);
        }
        // 64 of 1,024 ways to write ten letters.
        assert!(seen.len() > 48, "{}", seen.len());
    }
}
