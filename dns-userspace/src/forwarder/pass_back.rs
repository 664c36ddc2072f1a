//! An upstream's response on its way to the client: the client's own id and question, and no more
//! octets than the client can take.

use crate::answers::Query;
use crate::answers::message::Size;
use crate::answers::query::HEADER_OCTETS;
use crate::zones::Rtype;

/// Gives `response` the id and the letter case of `query`, and cuts it to `size`.
///
/// A section that does not fit is left out whole, with those after it; TC says so unless only the
/// additional section is missing (RFC 2181, section 9). Without the truncate bit as many records
/// as fit are kept, and an upstream's TC is cleared, both as mesos-dns does it. OPT stays.
pub(super) fn to_client(query: &Query<'_>, mut response: Vec<u8>, size: Size) -> Vec<u8> {
    let bare = response.len() < HEADER_OCTETS + query.question.len();
    if bare {
        // A bare header gets the question, which stub resolvers look for.
        response.truncate(HEADER_OCTETS);
        response.extend_from_slice(query.question);
        set(&mut response, 4, &[0, 1, 0, 0, 0, 0, 0, 0]);
    }
    set(&mut response, 0, &query.id.to_be_bytes());
    set(&mut response, HEADER_OCTETS, query.question);
    if response.len() > size.limit {
        response = cut(response, query.question.len(), size);
    }
    if !size.sets_truncate_bit {
        clear_truncation(&mut response);
    }
    response
}

/// Where a record is and to which section it belongs: 0 answer, 1 authority, 2 additional.
struct Record {
    start: usize,
    end: usize,
    section: usize,
    is_opt: bool,
}

fn cut(response: Vec<u8>, question_octets: usize, size: Size) -> Vec<u8> {
    let body = HEADER_OCTETS + question_octets;
    // What cannot be walked is not passed on in part.
    let records = walk(&response, body).unwrap_or_default();
    let opt = records
        .iter()
        .find(|record| record.is_opt)
        .and_then(|record| response.get(record.start..record.end))
        .unwrap_or_default()
        .to_vec();
    let room = size.limit.saturating_sub(opt.len());
    let mut counts = [0u16; 3];
    let mut end = body;
    let mut truncated = records.is_empty();
    let data: Vec<&Record> = records.iter().filter(|record| !record.is_opt).collect();
    for group in data.chunk_by(|a, b| size.sets_truncate_bit && a.section == b.section) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        // Records behind an OPT in the middle would have to move, and their pointers with them.
        if first.start != end || last.end > room {
            truncated |= first.section < 2;
            break;
        }
        end = last.end;
        if let Some(count) = counts.get_mut(first.section) {
            *count = count.saturating_add(u16::try_from(group.len()).unwrap_or(u16::MAX));
        }
    }
    let mut out = response;
    out.truncate(end);
    out.extend_from_slice(&opt);
    let [answers, authorities, mut additionals] = counts;
    if !opt.is_empty() {
        additionals += 1;
    }
    for (at, count) in [(6, answers), (8, authorities), (10, additionals)] {
        set(&mut out, at, &count.to_be_bytes());
    }
    if truncated && let Some(flags) = out.get_mut(2) {
        *flags |= 0b10;
    }
    out
}

fn clear_truncation(response: &mut [u8]) {
    if let Some(flags) = response.get_mut(2) {
        *flags &= !0b10;
    }
}

fn set(out: &mut [u8], at: usize, octets: &[u8]) {
    for (slot, octet) in out.iter_mut().skip(at).zip(octets) {
        *slot = *octet;
    }
}

fn walk(response: &[u8], body: usize) -> Option<Vec<Record>> {
    let mut at = body;
    let mut records = Vec::new();
    for section in 0..3 {
        let count = u16_at(response, 6 + 2 * section)?;
        for _ in 0..count {
            let start = at;
            at = after_name(response, at)?;
            let rtype = u16_at(response, at)?;
            at += 10 + usize::from(u16_at(response, at + 8)?);
            if at > response.len() {
                return None;
            }
            records.push(Record {
                start,
                end: at,
                section,
                is_opt: section == 2 && rtype == Rtype::OPT.0,
            });
        }
    }
    Some(records)
}

/// The offset after a name, compressed or not. Each step goes forward.
fn after_name(response: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match response.get(at)? {
            0 => return Some(at + 1),
            len @ 1..=63 => at += 1 + usize::from(*len),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    let pair = octets.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(pair.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Message;
    use hickory_proto::serialize::binary::BinDecodable;
    use proptest::prelude::*;

    use super::*;

    const QUERY: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03Web\x07example\x00\x00\x01\x00\x01";
    const OPT: &[u8] = b"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00";

    /// A response with another id and case, `counts` A records per section, and an OPT record.
    fn response(counts: [u16; 3]) -> Vec<u8> {
        let mut out = QUERY.to_ascii_lowercase();
        set(&mut out, 0, &[0xbe, 0xef, 0x81, 0x80]);
        for (section, count) in counts.into_iter().enumerate() {
            let stated = if section == 2 { count + 1 } else { count };
            set(&mut out, 6 + 2 * section, &stated.to_be_bytes());
            for n in 0..count {
                out.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00");
                out.extend_from_slice(&n.to_be_bytes());
            }
        }
        out.extend_from_slice(OPT);
        out
    }

    fn passed(counts: [u16; 3], limit: usize, sets_truncate_bit: bool) -> (Vec<u8>, Message) {
        let query = Query::parse(QUERY).unwrap();
        let size = Size {
            limit,
            sets_truncate_bit,
            edns_size: 1232,
        };
        let out = to_client(&query, response(counts), size);
        let message = Message::from_bytes(&out).unwrap();
        (out, message)
    }

    #[test]
    fn id_and_letter_case_are_the_clients() {
        let (out, message) = passed([2, 1, 1], 512, true);
        assert_eq!(out[..2], QUERY[..2]);
        assert_eq!(out[12..QUERY.len()], QUERY[12..]);
        assert_eq!(message.answers.len(), 2);
        assert!(!message.metadata.truncation && message.edns.is_some());
    }

    #[test]
    fn additional_records_go_without_the_truncate_bit() {
        let (_, message) = passed([2, 1, 60], 512, true);
        assert_eq!((message.answers.len(), message.authorities.len()), (2, 1));
        assert!(message.additionals.is_empty() && message.edns.is_some());
        assert!(!message.metadata.truncation);
    }

    #[test]
    fn without_the_truncate_bit_as_many_records_as_fit_are_kept() {
        let (_, message) = passed([60, 0, 0], 512, false);
        // (512 - 29 - 11) / 16
        assert_eq!(message.answers.len(), 29);
        assert!(!message.metadata.truncation);
    }

    #[test]
    fn a_bare_header_gets_the_question() {
        let query = Query::parse(QUERY).unwrap();
        let size = Size {
            limit: 512,
            sets_truncate_bit: true,
            edns_size: 1232,
        };
        let bare = b"\xbe\xef\x81\x81\0\0\0\0\0\0\0\0".to_vec();
        let message = Message::from_bytes(&to_client(&query, bare, size)).unwrap();
        assert_eq!(message.queries.len(), 1);
    }

    proptest! {
        #[test]
        fn the_limit_holds_and_a_section_is_whole_or_absent(
            counts in [0u16..80, 0u16..80, 0u16..80],
            limit in 512usize..4096,
        ) {
            let (out, message) = passed(counts, limit, true);
            prop_assert!(out.len() <= limit);
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
        fn any_octets_pass_without_panic(mut octets: Vec<u8>, limit in 0usize..300) {
            let query = Query::parse(QUERY).unwrap();
            let size = Size { limit, sets_truncate_bit: true, edns_size: 1232 };
            let mut whole = response([3, 0, 0]);
            whole.truncate(QUERY.len());
            whole.append(&mut octets);
            let _ = to_client(&query, whole, size);
        }
    }
}
