//! What must hold whatever octets an upstream sends: for the fuzz target `upstream`.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a broken invariant ends the run"
)]

use hickory_proto::op::Message;
use hickory_proto::serialize::binary::BinDecodable;

use super::exchange::{Match, matching};
use super::kept::{Age, Kept, Kind, TtlBounds};
use super::pass_back::{Hand, to_client};
use super::response::{Response, walk};
use crate::answers::{Policy, Query, Transport};
use crate::zones::Rtype;

/// As we sent it.
const ID: u16 = 0xbeef;
const QUESTION: &[u8] = b"\x03wEb\x07exAmple\x00\x00\x01\x00\x01";
/// As the client did.
const PLAIN: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03Web\x07example\x00\x00\x01\x00\x01";
const OPT: &[u8] = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";

const BOUNDS: TtlBounds = TtlBounds {
    min: 5,
    max: 1000,
    negative_max: 100,
};

/// Checks one input: a whole message, or what follows the id in one to our question.
///
/// # Panics
/// An invariant does not hold.
pub fn run(octets: &[u8]) {
    one(octets);
    if let Some((head, rest)) = octets.split_first_chunk::<8>() {
        let mut message = ID.to_be_bytes().to_vec();
        message.extend([head[0] | 0x80, head[1], 0, 1]);
        // Few records of each section: the octets do not reach further.
        for count in &head[2..5] {
            message.extend([0, count % 8]);
        }
        message.extend_from_slice(QUESTION);
        message.extend_from_slice(rest);
        one(&message);
    }
}

fn one(octets: &[u8]) {
    match matching(octets, ID, QUESTION) {
        Match::Other => return,
        found => {
            assert_eq!(octets[..2], ID.to_be_bytes());
            assert!(octets[2] & 0x80 != 0, "a query is no response");
            let echoed = octets.get(12..12 + QUESTION.len());
            match found {
                // An error without anything (RFC 1035, section 4.1.1).
                Match::Exact if echoed.is_none() => {
                    assert!(octets.len() == 12 && octets[3] & 0xf != 0)
                }
                Match::Exact => assert_eq!(echoed, Some(QUESTION)),
                _ => assert!(echoed.is_some_and(|one| one.eq_ignore_ascii_case(QUESTION))),
            }
        }
    }
    let Some(response) = Response::read(octets.to_vec(), QUESTION) else {
        return;
    };
    let is_truncated = response.is_truncated();
    let records = response.records.len();
    let kept = Kept::new(response, Rtype::A, &BOUNDS, 0);
    lifetime(&kept, is_truncated);
    // hickory reads more strictly; what it takes from the upstream it takes from us.
    let theirs = Message::from_bytes(octets).ok();
    let theirs = theirs.filter(|one| one.signature.is_none() && points_at_names(octets));
    let mut with_opt = [PLAIN, OPT].concat();
    with_opt[11] = 1;
    for query in [PLAIN, &with_opt] {
        let query = Query::parse(query).unwrap();
        for transport in [Transport::Udp, Transport::Tcp] {
            let size = Policy::default().size(&query, transport);
            for hand in [Hand::New, Hand::Aged(7), Hand::Stale] {
                let out = to_client(&query, &kept, hand, size);
                assert!(out.len() <= size.limit);
                handed(&out, &query, hand);
                if theirs.is_some() {
                    Message::from_bytes(&out).unwrap();
                }
                if transport == Transport::Tcp {
                    let body = 12 + QUESTION.len();
                    let walked = walk(&out, body).unwrap().len();
                    assert_eq!(walked, records + usize::from(query.edns.is_some()));
                }
            }
        }
    }
}

/// Whether names can only point at the question. One that points at a TTL or an address changes with
/// it; that is the upstream's own doing and harms this response alone.
fn points_at_names(octets: &[u8]) -> bool {
    let pointers = octets.windows(2).filter(|pair| pair[0] >= 0xc0);
    let targets = pointers.map(|pair| usize::from(pair[0] & 0x3f) << 8 | usize::from(pair[1]));
    // 0 is our id, which no name can begin with, and 192.0.0.0 is an address.
    let mut targets = targets.filter(|target| *target != 0);
    targets.all(|target| (12..12 + QUESTION.len()).contains(&target))
}

/// How long an answer is kept.
fn lifetime(kept: &Kept, is_truncated: bool) {
    if !kept.may_be_kept() {
        return;
    }
    let is_fresh = |seconds: u32| matches!(kept.age(u64::from(seconds) * 1000, 0), Age::Fresh(_));
    assert!(!is_fresh(BOUNDS.max));
    match kept.kind {
        Kind::Data => assert!(!is_truncated && is_fresh(BOUNDS.min - 1)),
        Kind::Negative => assert!(!is_truncated && !is_fresh(BOUNDS.negative_max)),
        Kind::Failure => assert!(!is_fresh(5)),
    }
}

/// A response to the client's own question and nothing else, complete to its end.
fn handed(out: &[u8], query: &Query<'_>, hand: Hand) {
    assert_eq!(out[..2], query.id.to_be_bytes());
    assert!(out[2] & 0x80 != 0, "QR");
    assert!(out[2] & 0x04 == 0, "AA");
    let body = 12 + query.question.len();
    assert_eq!(out[12..body], *query.question);
    let records = walk(out, body).unwrap();
    assert_eq!(records.last().map_or(body, |last| last.end), out.len());
    let opts = records.iter().filter(|one| one.rtype == Rtype::OPT);
    assert_eq!(opts.count(), usize::from(query.edns.is_some()));
    for record in records.iter().filter(|one| one.rtype != Rtype::OPT) {
        match hand {
            Hand::New => assert!(record.ttl <= BOUNDS.max),
            Hand::Aged(gone) => assert!(record.ttl >= 1 && record.ttl <= (BOUNDS.max - gone)),
            Hand::Stale => assert_eq!(record.ttl, 30),
        }
    }
}
