//! An answer on its way to the client: the client's own id, question and OPT, TTLs by age, and no
//! more octets than the client can take.

use super::ask::understands_ad;
use super::kept::{Kept, Kind, body_at};
use super::response::{Record, set, u32_at, walk};
use crate::answers::edns::EXTENDED_ERROR_OCTETS;
use crate::answers::message::{Size, push_opt};
use crate::answers::query::HEADER_OCTETS;
use crate::answers::{ExtendedError, Query, Rcode};

const TC: u16 = 1 << 9;
const RA: u16 = 1 << 7;
const AD: u16 = 1 << 5;

/// Octets of an OPT record without options.
const OPT_OCTETS: usize = 11;
/// Seconds that a stale answer is given (RFC 8767, section 4).
const STALE_TTL: u32 = 30;

/// What is done to an answer as it is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hand {
    /// It came this moment, and goes as it is.
    New,
    /// So many seconds of it are gone.
    Aged(u32),
    /// Its time is over.
    Stale,
}

/// Makes the response to `query`.
///
/// AA is never set, as what comes by way of a forwarder is nobody's own data; RA and AD are the
/// upstream's, AD for those only who understand it. Addresses of a kept answer start with another
/// one for each message id. OPT is ours.
///
/// A section that does not fit is left out whole, with those after it; TC says so unless only the
/// additional section is missing (RFC 2181, section 9). Without the truncate bit as many records
/// as fit are kept, and an upstream's TC is cleared, both as mesos-dns does it.
pub(super) fn to_client(query: &Query<'_>, kept: &Kept, hand: Hand, size: Size) -> Vec<u8> {
    let extended_error = match (hand, kept.kind) {
        (Hand::Stale, _) => Some(ExtendedError::STALE_ANSWER),
        (Hand::Aged(_), Kind::Failure) => kept.extended_error.or(Some(ExtendedError::CACHED_ERROR)),
        _ => kept.extended_error,
    };
    let mut out = Vec::with_capacity(kept.octets.len() + OPT_OCTETS + EXTENDED_ERROR_OCTETS);
    out.extend_from_slice(&kept.octets);
    age(&mut out, kept, hand);
    if hand != Hand::New {
        turn(&mut out, kept, query.id);
    }
    set(&mut out, 0, &query.id.to_be_bytes());
    set(&mut out, HEADER_OCTETS, query.question);
    let [_, _, high, low, ..] = *kept.octets else {
        return out;
    };
    let mut flags = u16::from_be_bytes([high, low]) & (RA | AD | TC);
    if !understands_ad(query) {
        flags &= !AD;
    }
    let opt = opt(query, kept, extended_error, size);
    if out.len() + opt.len() > size.limit && cut(&mut out, query, size, opt.len()) {
        flags |= TC;
    }
    if !size.sets_truncate_bit {
        flags &= !TC;
    }
    // Without an OPT record there is no place for the upper bits (RFC 6891, section 6.1.3).
    let rcode = match query.edns {
        None if kept.rcode.0 > 0xf => Rcode::SERVFAIL,
        _ => kept.rcode,
    };
    flags |= query.response_flags() | (rcode.0 & 0xf);
    set(&mut out, 2, &flags.to_be_bytes());
    if !opt.is_empty() {
        out.extend_from_slice(&opt);
        if let Some(additionals) = out.get(10..).and_then(|rest| rest.first_chunk()) {
            let additionals = u16::from_be_bytes(*additionals).saturating_add(1);
            set(&mut out, 10, &additionals.to_be_bytes());
        }
    }
    out
}

fn age(out: &mut [u8], kept: &Kept, hand: Hand) {
    if matches!(hand, Hand::New | Hand::Aged(0)) {
        return;
    }
    for &at in &kept.ttls {
        let at = usize::from(at);
        let ttl = match hand {
            Hand::Stale => STALE_TTL,
            Hand::Aged(gone) => u32_at(out, at).unwrap_or(0).saturating_sub(gone).max(1),
            Hand::New => return,
        };
        set(out, at, &ttl.to_be_bytes());
    }
}

/// Puts the addresses of another record in each place. Only RDATA moves, and addresses hold no
/// names, so every pointer goes on to point at what it did.
fn turn(out: &mut [u8], kept: &Kept, id: u16) {
    let Some(turning) = kept.turning else {
        return;
    };
    let shift = usize::from(id).checked_rem(turning.count).unwrap_or(0);
    let place = |n: usize| turning.first + n * turning.stride;
    for n in 0..turning.count {
        let from = place((n + shift) % turning.count);
        if let Some(data) = kept.octets.get(from..from + turning.octets) {
            set(out, place(n), data);
        }
    }
}

/// The OPT record for a client that has one.
fn opt(
    query: &Query<'_>,
    kept: &Kept,
    extended_error: Option<ExtendedError>,
    size: Size,
) -> Vec<u8> {
    let Some(edns) = query.edns else {
        return Vec::new();
    };
    let mut out = Vec::with_capacity(OPT_OCTETS + EXTENDED_ERROR_OCTETS);
    push_opt(
        &mut out,
        size.edns_size,
        kept.rcode,
        edns.dnssec_ok,
        extended_error,
    );
    out
}

/// Cuts a message without OPT so that `reserved` octets more fit. Whether TC says so.
fn cut(out: &mut Vec<u8>, query: &Query<'_>, size: Size, reserved: usize) -> bool {
    let body = body_at(query.question.len());
    let room = size.limit.saturating_sub(reserved);
    let records = walk(out, body).unwrap_or_default();
    let mut counts = [0u16; 3];
    let mut end = body;
    let mut truncated = records.is_empty();
    let together = |a: &Record, b: &Record| size.sets_truncate_bit && a.section == b.section;
    for group in records.chunk_by(together) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        if last.end > room {
            truncated = first.section < 2;
            break;
        }
        end = last.end;
        if let Some(count) = counts.get_mut(first.section) {
            *count = count.saturating_add(u16::try_from(group.len()).unwrap_or(u16::MAX));
        }
    }
    out.truncate(end);
    for (at, count) in [6, 8, 10].into_iter().zip(counts) {
        set(out, at, &count.to_be_bytes());
    }
    truncated
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Message;
    use hickory_proto::serialize::binary::BinDecodable;
    use proptest::prelude::*;

    use super::super::kept::TtlBounds;
    use super::super::response::Response;
    use super::super::response::tests::{QUESTION, address, response, soa};
    use super::*;
    use crate::zones::Rtype;

    const QUERY: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03Web\x07example\x00\x00\x01\x00\x01";
    const OPT: &[u8] = b"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00";
    const PLAIN: Size = Size {
        limit: 512,
        sets_truncate_bit: true,
        edns_size: 1232,
    };

    fn with_opt(dnssec_ok: bool) -> Vec<u8> {
        let mut query = [QUERY, OPT].concat();
        query[11] = 1;
        query[QUERY.len() + 7] = if dnssec_ok { 0x80 } else { 0 };
        query
    }

    fn kept(flags: u16, records: &[(usize, &[u8])]) -> Kept {
        let response = Response::read(response(flags, records), QUESTION).unwrap();
        Kept::new(response, Rtype::A, &TtlBounds::default(), 0)
    }

    #[test]
    fn rfc6891_6_1_3_a_code_of_twelve_bits_is_servfail_without_opt() {
        let badvers = b"\0\0\x29\x04\xd0\x01\0\0\0\0\0";
        let kept = kept(0x8180, &[(2, badvers)]);
        assert_eq!(kept.rcode, Rcode::BADVERS);
        let rcode = |query: &[u8]| {
            let query = Query::parse(query).unwrap();
            let octets = to_client(&query, &kept, Hand::New, PLAIN);
            u16::from(Message::from_bytes(&octets).unwrap().metadata.response_code)
        };
        assert_eq!(rcode(QUERY), 2);
        assert_eq!(rcode(&with_opt(false)), 16);
    }

    fn addresses(counts: [u16; 3]) -> Kept {
        let record = address(1, 60);
        let records: Vec<(usize, &[u8])> = counts
            .into_iter()
            .enumerate()
            .flat_map(|(section, count)| (0..count).map(move |_| section))
            .map(|section| (section, record.as_slice()))
            .collect();
        kept(0x8180, &records)
    }

    fn handed(query: &[u8], kept: &Kept, hand: Hand, size: Size) -> (Vec<u8>, Message) {
        let query = Query::parse(query).unwrap();
        let out = to_client(&query, kept, hand, size);
        let message = Message::from_bytes(&out).unwrap();
        (out, message)
    }

    fn ttls(message: &Message) -> Vec<u32> {
        message
            .answers
            .iter()
            .chain(&message.authorities)
            .map(|record| record.ttl)
            .collect()
    }

    #[test]
    fn id_and_letter_case_are_the_clients() {
        let (out, message) = handed(QUERY, &addresses([2, 1, 1]), Hand::New, PLAIN);
        assert_eq!(out[..2], QUERY[..2]);
        assert_eq!(out[12..QUERY.len()], QUERY[12..]);
        assert_eq!(message.answers.len(), 2);
        assert!(!message.metadata.truncation && message.edns.is_none());
    }

    #[test]
    fn opt_is_for_those_who_have_one() {
        let kept = addresses([1, 0, 0]);
        let (_, message) = handed(&with_opt(false), &kept, Hand::New, PLAIN);
        let edns = message.edns.unwrap();
        assert_eq!(edns.max_payload(), 1232);
        assert!(!edns.flags().dnssec_ok);
        let (_, message) = handed(&with_opt(true), &kept, Hand::New, PLAIN);
        assert!(message.edns.unwrap().flags().dnssec_ok);
    }

    #[test]
    fn aa_is_never_set_and_ad_for_those_who_understand() {
        let kept = kept(0x85a0, &[(0, &address(1, 60))]);
        let flags = |query: &[u8]| handed(query, &kept, Hand::New, PLAIN).1.metadata;
        assert!(!flags(QUERY).authoritative);
        assert!(flags(QUERY).recursion_available);
        assert!(!flags(QUERY).authentic_data);
        assert!(flags(&with_opt(true)).authentic_data);
        let mut with_ad = QUERY.to_vec();
        with_ad[3] |= 0x20;
        assert!(flags(&with_ad).authentic_data);
    }

    #[test]
    fn ttls_fall_with_age_and_a_stale_answer_has_thirty_seconds() {
        let one = address(1, 60);
        let kept = kept(0x8180, &[(0, &one), (1, &soa(300, 300))]);
        let seen = |hand| ttls(&handed(QUERY, &kept, hand, PLAIN).1);
        assert_eq!(seen(Hand::New), [60, 300]);
        assert_eq!(seen(Hand::Aged(59)), [1, 241]);
        assert_eq!(seen(Hand::Stale), [30, 30]);
        let (out, _) = handed(&with_opt(false), &kept, Hand::Stale, PLAIN);
        // RFC 8914, section 4.4.
        assert!(out.ends_with(&[0, 15, 0, 2, 0, 3]));
        // Not to one without EDNS.
        assert!(handed(QUERY, &kept, Hand::Stale, PLAIN).1.edns.is_none());
    }

    #[test]
    fn kept_addresses_take_turns() {
        let records = [address(1, 60), address(2, 60), address(3, 60)];
        let records: Vec<(usize, &[u8])> = records.iter().map(|one| (0, one.as_slice())).collect();
        let kept = kept(0x8180, &records);
        let order = |id: u16, hand| {
            let mut query = QUERY.to_vec();
            query[..2].copy_from_slice(&id.to_be_bytes());
            let (_, message) = handed(&query, &kept, hand, PLAIN);
            let text = |record: &hickory_proto::rr::Record| record.data.to_string();
            message.answers.iter().map(text).collect::<Vec<_>>()
        };
        let new = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
        assert_eq!(order(1, Hand::New), new);
        assert_eq!(order(3, Hand::Aged(0)), new);
        assert_eq!(
            order(1, Hand::Aged(0)),
            ["192.0.2.2", "192.0.2.3", "192.0.2.1"]
        );
    }

    #[test]
    fn additional_records_go_without_the_truncate_bit() {
        let (_, message) = handed(QUERY, &addresses([2, 1, 60]), Hand::New, PLAIN);
        assert_eq!((message.answers.len(), message.authorities.len()), (2, 1));
        assert!(message.additionals.is_empty());
        assert!(!message.metadata.truncation);
    }

    #[test]
    fn without_the_truncate_bit_as_many_records_as_fit_are_kept() {
        let size = Size {
            sets_truncate_bit: false,
            ..PLAIN
        };
        let (_, message) = handed(&with_opt(false), &addresses([60, 0, 0]), Hand::New, size);
        // (512 - 29 - 11) / 16
        assert_eq!(message.answers.len(), 29);
        assert!(!message.metadata.truncation);
    }

    #[test]
    fn rfc8914_the_upstreams_reason_is_passed_on() {
        let opt = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x06\x00\x0f\x00\x02\x00\x09";
        let kept = kept(0x8182, &[(2, opt)]);
        let (out, _) = handed(&with_opt(false), &kept, Hand::New, PLAIN);
        assert!(out.ends_with(&[0, 15, 0, 2, 0, 9]));
    }

    proptest! {
        #[test]
        fn the_limit_holds_and_a_section_is_whole_or_absent(
            counts in [0u16..80, 0u16..80, 0u16..80],
            limit in 512usize..4096,
            has_opt: bool,
        ) {
            let size = Size { limit, ..PLAIN };
            let query = if has_opt { with_opt(false) } else { QUERY.to_vec() };
            let (out, message) = handed(&query, &addresses(counts), Hand::Aged(1), size);
            prop_assert!(out.len() <= limit);
            prop_assert_eq!(message.edns.is_some(), has_opt);
            let sent = [
                message.answers.len(),
                message.authorities.len(),
                message.additionals.len(),
            ];
            let mut missing = false;
            for (sent, meant) in sent.into_iter().zip(counts) {
                prop_assert!(sent == 0 || sent == usize::from(meant));
                missing |= sent != usize::from(meant);
                prop_assert!(!missing || sent == 0, "nothing after what is missing");
            }
            let needed = (sent[0], sent[1]) != (usize::from(counts[0]), usize::from(counts[1]));
            prop_assert_eq!(message.metadata.truncation, needed);
        }

        #[test]
        fn any_octets_pass_without_panic(mut octets: Vec<u8>, counts: [u8; 3], limit in 0usize..300) {
            let query = Query::parse(QUERY).unwrap();
            let mut whole = response(0x8180, &[]);
            for (at, count) in [7, 9, 11].into_iter().zip(counts) {
                whole[at] = count % 4;
            }
            whole.append(&mut octets);
            if let Some(read) = Response::read(whole, QUESTION) {
                let kept = Kept::new(read, Rtype::A, &TtlBounds::default(), 0);
                for hand in [Hand::New, Hand::Aged(7), Hand::Stale] {
                    let _ = to_client(&query, &kept, hand, Size { limit, ..PLAIN });
                }
            }
        }
    }
}
