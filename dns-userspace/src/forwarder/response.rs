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
    /// be walked to its stated end or has OPT where none may be.
    pub(super) fn read(mut octets: Vec<u8>, question: &[u8]) -> Option<Self> {
        let body = HEADER_OCTETS + question.len();
        if octets.len() == HEADER_OCTETS {
            octets.extend_from_slice(question);
            set(&mut octets, 4, &[0, 1, 0, 0, 0, 0, 0, 0]);
        }
        let mut records = walk(&octets, body)?;
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
