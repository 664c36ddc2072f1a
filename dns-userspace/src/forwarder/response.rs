//! A response of an upstream, read as far as a forwarder must understand it: where its records are,
//! which of them is OPT, and what they are worth keeping for.

use crate::answers::edns::{option, options};
use crate::answers::query::HEADER_OCTETS;
use crate::answers::{ExtendedError, Rcode};
use crate::zones::Rtype;

const TC: u8 = 0b10;

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) start: usize,
    /// Where type, class, TTL and length are.
    pub(super) fixed: usize,
    pub(super) end: usize,
    /// 0 answer, 1 authority, 2 additional.
    pub(super) section: usize,
    pub(super) rtype: Rtype,
    /// Seconds.
    pub(super) ttl: u32,
}

impl Record {
    /// Where its TTL is.
    pub(super) const fn ttl_at(&self) -> usize {
        self.fixed + 4
    }

    /// Where its RDATA is.
    pub(super) const fn data_at(&self) -> usize {
        self.fixed + 10
    }
}

/// A response without its OPT record.
#[derive(Debug, Clone)]
pub(super) struct Response {
    pub(super) octets: Vec<u8>,
    pub(super) records: Vec<Record>,
    /// All twelve bits.
    pub(super) rcode: Rcode,
    pub(super) has_opt: bool,
    pub(super) extended_error: Option<ExtendedError>,
}

impl Response {
    /// Reads what answers `question`, whose octets follow the header but for letter case. A bare
    /// header gets the question, which stub resolvers look for. OPT is taken out, with what
    /// follows it: that is additional, and moving it would break pointers. `None` for what cannot
    /// be walked to its stated end, has OPT where none may be, or a record that is not sound.
    pub(super) fn read(mut octets: Vec<u8>, question: &[u8]) -> Option<Self> {
        let body = HEADER_OCTETS + question.len();
        if octets.len() == HEADER_OCTETS {
            octets.extend_from_slice(question);
            set(&mut octets, 4, &[0, 1, 0, 0, 0, 0, 0, 0]);
        }
        let mut records = walk(&octets, body)?;
        let class = u16_at(question, question.len().checked_sub(2)?)?;
        if !records.iter().all(|one| is_sound(&octets, one, class)) {
            return None;
        }
        let mut rcode = u16::from(octets.get(3)? & 0xf);
        let mut extended_error = None;
        let opt = records.iter().position(|one| one.rtype == Rtype::OPT);
        if let Some(opt) = opt.and_then(|at| records.get(at).copied()) {
            if opt.section != 2 {
                return None;
            }
            rcode |= u16::from(*octets.get(opt.ttl_at())?) << 4;
            let data = octets.get(opt.data_at()..opt.end)?;
            extended_error = options(data)
                .find(|(code, _)| *code == option::EXTENDED_ERROR)
                .and_then(|(_, data)| data.first_chunk())
                .map(|code| ExtendedError(u16::from_be_bytes(*code)));
        }
        let keep = opt.unwrap_or(records.len());
        records.truncate(keep);
        octets.truncate(records.last().map_or(body, |last| last.end));
        let additionals = records.iter().filter(|one| one.section == 2).count();
        set(
            &mut octets,
            10,
            &u16::try_from(additionals).ok()?.to_be_bytes(),
        );
        Some(Self {
            octets,
            records,
            rcode: Rcode(rcode),
            has_opt: opt.is_some(),
            extended_error,
        })
    }

    pub(super) fn is_truncated(&self) -> bool {
        is_truncated(&self.octets)
    }

    /// Whether it decides the matter: the other codes say something of the upstream rather than of
    /// the name, and another may know better.
    pub(super) const fn is_final(&self) -> bool {
        matches!(
            self.rcode,
            Rcode::NOERROR | Rcode::NXDOMAIN | Rcode::YXDOMAIN
        )
    }

    /// Seconds for which a denial holds (RFC 2308, section 5): the lesser of the SOA's own TTL and
    /// its last field. `None` without an SOA.
    pub(super) fn negative_ttl(&self) -> Option<u32> {
        let soa = self
            .records
            .iter()
            .find(|one| one.section == 1 && one.rtype == Rtype::SOA)?;
        let minimum = self.octets.get(soa.data_at()..soa.end)?.last_chunk()?;
        Some(soa.ttl.min(u32::from_be_bytes(*minimum)))
    }
}

/// Whether TC is set.
pub(super) fn is_truncated(octets: &[u8]) -> bool {
    octets.get(2).is_some_and(|flags| flags & TC != 0)
}

/// Finds the records behind the question, which ends at `body`.
pub(super) fn walk(octets: &[u8], body: usize) -> Option<Vec<Record>> {
    let mut at = body;
    let mut records = Vec::new();
    for section in 0..3 {
        let count = u16_at(octets, 6 + 2 * section)?;
        for _ in 0..count {
            let start = at;
            let fixed = after_name(octets, at)?;
            let end = fixed + 10 + usize::from(u16_at(octets, fixed + 8)?);
            if end > octets.len() {
                return None;
            }
            records.push(Record {
                start,
                fixed,
                end,
                section,
                rtype: Rtype(u16_at(octets, fixed)?),
                ttl: u32_at(octets, fixed + 4)?,
            });
            at = end;
        }
    }
    Some(records)
}

/// Whether a record can be read by whoever gets it: its owner, its class, and the data of the types
/// that have names or a fixed length. Other types are opaque (RFC 3597).
fn is_sound(octets: &[u8], record: &Record, class: u16) -> bool {
    const MX: Rtype = Rtype(15);
    if record.rtype == Rtype::OPT {
        return true;
    }
    // A signature of the message has a class of its own.
    let has_class = record.section == 2 || u16_at(octets, record.fixed + 2) == Some(class);
    let (at, end) = (record.data_at(), record.end);
    let is_name = |at| after_sound_name(octets, at) == Some(end);
    let has_data = match record.rtype {
        Rtype::A => end == at + 4,
        Rtype::AAAA => end == at + 16,
        Rtype::NS | Rtype::CNAME | Rtype::PTR | Rtype::DNAME => is_name(at),
        MX => is_name(at + 2),
        Rtype::SRV => is_name(at + 6),
        Rtype::SOA => {
            let names = after_sound_name(octets, at).and_then(|at| after_sound_name(octets, at));
            names.is_some_and(|at| end == at + 20)
        }
        _ => true,
    };
    has_class && has_data && after_sound_name(octets, record.start) == Some(record.fixed)
}

/// The offset after a name that has an end and 255 octets at most, and whose pointers lead to what
/// comes before (RFC 1035, sections 2.3.4 and 4.1.4).
fn after_sound_name(octets: &[u8], start: usize) -> Option<usize> {
    /// More labels and as many pointers as a name of 255 octets can have.
    const MAX_STEPS: usize = 256;
    let (mut at, mut segment) = (start, start);
    let mut expanded = 1;
    let mut after = None;
    for _ in 0..MAX_STEPS {
        match *octets.get(at)? {
            0 => return Some(after.unwrap_or(at + 1)),
            len @ 1..=63 => {
                let label = 1 + usize::from(len);
                expanded += label;
                at += label;
                if expanded > 255 {
                    return None;
                }
            }
            0xc0.. => {
                let target = usize::from(u16_at(octets, at)? & 0x3fff);
                after = after.or(Some(at + 2));
                if !(HEADER_OCTETS..segment).contains(&target) {
                    return None;
                }
                (at, segment) = (target, target);
            }
            _ => return None,
        }
    }
    None
}

/// The offset after a name, compressed or not. Each step goes forward.
fn after_name(octets: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match octets.get(at)? {
            0 => return Some(at + 1),
            len @ 1..=63 => at += 1 + usize::from(*len),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

pub(super) fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*octets.get(at..)?.first_chunk()?))
}

pub(super) fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*octets.get(at..)?.first_chunk()?))
}

/// Writes as much of `octets` as there is room for behind `at`.
pub(super) fn set(out: &mut [u8], at: usize, octets: &[u8]) {
    if let Some(slot) = out.get_mut(at..at + octets.len()) {
        slot.copy_from_slice(octets);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `web.example A IN`.
    pub(in super::super) const QUESTION: &[u8] = b"\x03web\x07example\x00\x00\x01\x00\x01";

    const OPT: &[u8] = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x06\x00\x0f\x00\x02\x00\x16";

    /// A response to [`QUESTION`] with these flags and records, each by section and octets.
    pub(in super::super) fn response(flags: u16, records: &[(usize, &[u8])]) -> Vec<u8> {
        let mut out = vec![0xbe, 0xef];
        out.extend_from_slice(&flags.to_be_bytes());
        let count = |section| records.iter().filter(|one| one.0 == section).count() as u16;
        for count in [1, count(0), count(1), count(2)] {
            out.extend_from_slice(&count.to_be_bytes());
        }
        out.extend_from_slice(QUESTION);
        for (_, record) in records {
            out.extend_from_slice(record);
        }
        out
    }

    /// An address of the question's name.
    pub(in super::super) fn address(last: u8, ttl: u32) -> Vec<u8> {
        let mut out = b"\xc0\x0c\x00\x01\x00\x01".to_vec();
        out.extend_from_slice(&ttl.to_be_bytes());
        out.extend_from_slice(&[0, 4, 192, 0, 2, last]);
        out
    }

    /// An SOA of `example`.
    pub(in super::super) fn soa(ttl: u32, minimum: u32) -> Vec<u8> {
        let mut out = b"\xc0\x10\x00\x06\x00\x01".to_vec();
        out.extend_from_slice(&ttl.to_be_bytes());
        out.extend_from_slice(&[0, 24, 0xc0, 0x10, 0xc0, 0x10]);
        for field in [1, 2, 3, 4, minimum] {
            out.extend_from_slice(&u32::to_be_bytes(field));
        }
        out
    }

    pub(in super::super) fn read(flags: u16, records: &[(usize, &[u8])]) -> Option<Response> {
        Response::read(response(flags, records), QUESTION)
    }

    #[test]
    fn opt_is_taken_out_and_its_code_kept() {
        let one = address(1, 60);
        let read = read(0x8180, &[(0, &one), (2, OPT)]).unwrap();
        assert_eq!(read.octets, response(0x8180, &[(0, &one)]));
        assert!(read.has_opt);
        assert_eq!(read.extended_error, Some(ExtendedError(22)));
    }

    #[test]
    fn what_is_behind_opt_goes_with_it() {
        let (one, two) = (address(1, 60), address(2, 60));
        let read = read(0x8180, &[(0, &one), (2, &one), (2, OPT), (2, &two)]).unwrap();
        assert_eq!(read.octets, response(0x8180, &[(0, &one), (2, &one)]));
    }

    #[test]
    fn rfc6891_6_1_1_opt_is_additional_or_the_response_is_broken() {
        assert!(read(0x8180, &[(0, OPT)]).is_none());
        assert!(read(0x8180, &[(1, OPT)]).is_none());
    }

    #[test]
    fn rfc6891_6_1_3_the_upper_bits_of_the_code_count() {
        let mut opt = OPT.to_vec();
        opt[5] = 1;
        let read = read(0x8180, &[(2, &opt)]).unwrap();
        assert_eq!(read.rcode, Rcode::BADVERS);
        assert!(!read.is_final());
    }

    #[test]
    fn surplus_is_dropped_and_a_cut_is_broken() {
        let one = address(1, 60);
        let whole = response(0x8180, &[(0, &one)]);
        let longer = [&whole, b"rubbish".as_slice()].concat();
        assert_eq!(Response::read(longer, QUESTION).unwrap().octets, whole);
        for len in HEADER_OCTETS + 1..whole.len() {
            let cut = whole[..len].to_vec();
            assert!(Response::read(cut, QUESTION).is_none(), "{len}");
        }
    }

    /// Names that end nowhere, and data of another length than its type has, would be the client's to
    /// deal with.
    #[test]
    fn rfc1035_4_1_4_records_that_cannot_be_read_are_broken() {
        let with = |owner: &[u8], rtype: u8, class: u8, data: &[u8]| {
            let fixed = [0, rtype, 0, class, 0, 0, 0, 60, 0, data.len() as u8];
            let record = [owner, &fixed, data].concat();
            read(0x8180, &[(0, &record)]).is_some()
        };
        // The question's name is at 12, the record at 29, and its data, behind a pointer, at 41.
        let own = b"\xc0\x0c";
        for (rtype, data) in [
            (1, [10, 0, 0, 1].as_slice()),
            (28, &[1; 16]),
            (5, b"\x01a\xc0\x0c"),
            (2, b"\xc0\x10"),
            (12, b"\0"),
            (15, b"\0\x0a\xc0\x0c"),
            (33, b"\0\0\0\x01\0\x50\x01a\xc0\x0c"),
            (39, b"\x01d\0"),
            (
                6,
                b"\xc0\x0c\x01r\xc0\x0c\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01",
            ),
            // RFC 3597: unknown to us.
            (200, b"\xc0\xff"),
        ] {
            assert!(with(own, rtype, 1, data), "{rtype} {data:02x?}");
        }
        for (rtype, data) in [
            (1, [10, 0, 0].as_slice()),
            (1, &[]),
            (28, &[1; 4]),
            (5, b"\xc0\x29"),
            (5, b"\x01a\xc0\x29"),
            (5, b"\xc0\xff"),
            (5, b"\xc0\x02"),
            (5, b"\xc0\x0c\0"),
            (5, b"\x01a"),
            (12, &[]),
            (15, b"\0\x0a"),
            (33, b"\0\0\0\x01\0\x50\xc0\x2f"),
            (6, b"\xc0\x0c\xc0\x0c\0\0\0\x01"),
        ] {
            assert!(!with(own, rtype, 1, data), "{rtype} {data:02x?}");
        }
        let address = [10, 0, 0, 1];
        assert!(!with(own, 1, 3, &address), "class CH");
        for owner in [b"\xc0\x1d".as_slice(), b"\x01a\xc0\x1d", b"\xc0\xff"] {
            assert!(!with(owner, 1, 1, &address), "{owner:02x?}");
        }
        // 13 octets are the name at 12 of the question, and 1 those of a root.
        let labels = |count: usize, last: usize| {
            let mut owner = [b"\x3f".as_slice(), &[b'x'; 63]].concat().repeat(count);
            owner.push(last as u8);
            owner.extend(vec![b'x'; last]);
            owner.extend_from_slice(own);
            owner
        };
        assert!(with(&labels(3, 49), 1, 1, &address), "255 octets");
        assert!(!with(&labels(3, 50), 1, 1, &address), "256 octets");
    }

    #[test]
    fn a_bare_header_gets_the_question() {
        let bare = b"\xbe\xef\x81\x81\0\0\0\0\0\0\0\0".to_vec();
        let read = Response::read(bare, QUESTION).unwrap();
        assert_eq!(read.octets, response(0x8181, &[]));
        assert_eq!(read.rcode, Rcode::FORMERR);
    }

    #[test]
    fn rfc2308_5_a_denial_holds_for_the_lesser_of_ttl_and_minimum() {
        let negative = |ttl, minimum| {
            let soa = soa(ttl, minimum);
            read(0x8183, &[(1, &soa)]).unwrap().negative_ttl()
        };
        assert_eq!(negative(300, 60), Some(60));
        assert_eq!(negative(60, 300), Some(60));
        assert_eq!(read(0x8183, &[]).unwrap().negative_ttl(), None);
    }

    proptest! {
        #[test]
        fn any_octets_are_read_without_panic(mut octets: Vec<u8>, counts: [u8; 3]) {
            let mut whole = response(0x8180, &[]);
            for (at, count) in [7, 9, 11].into_iter().zip(counts) {
                whole[at] = count % 4;
            }
            whole.append(&mut octets);
            if let Some(read) = Response::read(whole, QUESTION) {
                let body = HEADER_OCTETS + QUESTION.len();
                prop_assert_eq!(walk(&read.octets, body), Some(read.records.clone()));
                let _ = read.negative_ttl();
            }
        }
    }
}
