//! Queries and responses broken down as monitoring asks for them: queries by address family and type,
//! responses by code, size and time, and all of those by where the response comes from.
//!
//! Counting is a few additions to one array, which a worker has for itself.

use std::time::Duration;

use dns_common::wire::HEADER_OCTETS;

use crate::answers::Rcode;

/// Where a response comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Our zones, or we ourselves.
    Zones,
    /// Upstreams, or the cache of their answers.
    Upstreams,
}

impl Source {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Zones, Self::Upstreams];

    /// Its name among labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Zones => "zones",
            Self::Upstreams => "upstreams",
        }
    }
}

/// Types that are counted one by one, those that clients of a cluster ask for and those that are worth
/// a look; the others are one. Names as CoreDNS has them.
pub const TYPES: [&str; 16] = [
    "A", "AAAA", "SRV", "PTR", "TXT", "SOA", "NS", "CNAME", "MX", "NAPTR", "DS", "HTTPS", "AXFR",
    "IXFR", "ANY", "other",
];
/// Codes that are counted one by one, and the others.
pub const CODES: [&str; 9] = [
    "NOERROR",
    "FORMERR",
    "SERVFAIL",
    "NXDOMAIN",
    "NOTIMP",
    "REFUSED",
    "BADVERS",
    "BADCOOKIE",
    "other",
];
/// Most octets of a response in each bucket but the last: those of CoreDNS.
pub const SIZES: [u32; 14] = [
    0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16_000, 32_000, 48_000, 64_000,
];
/// Longest time of a response in each bucket but the last, in microseconds.
pub const TIMES: [u32; 18] = [
    10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000,
];

/// Address families.
const FAMILIES: usize = 2;
/// Where each table starts. A table has one row after the other.
const REQUESTS_AT: usize = 0;
const CODES_AT: usize = REQUESTS_AT + FAMILIES * TYPES.len();
const SIZES_AT: usize = CODES_AT + Source::ALL.len() * CODES.len();
const TIMES_AT: usize = SIZES_AT + Source::ALL.len() * (SIZES.len() + 1);
const OCTETS_AT: usize = TIMES_AT + Source::ALL.len() * (TIMES.len() + 1);
const NANOSECONDS_AT: usize = OCTETS_AT + Source::ALL.len();
/// All cells.
pub(super) const CELLS: usize = NANOSECONDS_AT + Source::ALL.len();

/// The counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breakdown {
    pub(super) cells: [u64; CELLS],
}

impl Default for Breakdown {
    fn default() -> Self {
        Self { cells: [0; CELLS] }
    }
}

/// A histogram: what each bucket has for itself, the last one without bound, and the sum of all values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Histogram<'b> {
    /// Values in each bucket.
    pub buckets: &'b [u64],
    /// The sum of the values.
    pub sum: u64,
}

impl Breakdown {
    /// Counts a query by the client's family and the type asked for.
    #[inline]
    pub(crate) fn request(&mut self, is_ipv6: bool, message: &[u8]) {
        let family = usize::from(is_ipv6);
        let rtype = question_type(message).map_or(TYPES.len() - 1, place_of_type);
        self.add(REQUESTS_AT + family * TYPES.len() + rtype, 1);
    }

    /// Counts a response by its code and size.
    #[inline]
    pub(crate) fn response(&mut self, source: Source, octets: usize, rcode: Rcode) {
        let row = source as usize;
        self.add(CODES_AT + row * CODES.len() + place_of_code(rcode), 1);
        let size = SIZES.iter().position(|most| octets <= *most as usize);
        let size = size.unwrap_or(SIZES.len());
        self.add(SIZES_AT + row * (SIZES.len() + 1) + size, 1);
        self.add(OCTETS_AT + row, octets as u64);
    }

    /// All responses counted so far took this long.
    pub(crate) fn took(&mut self, time: Duration) {
        let microseconds = time.as_nanos().div_ceil(1000);
        let bucket = TIMES
            .iter()
            .position(|most| microseconds <= u128::from(*most));
        let bucket = bucket.unwrap_or(TIMES.len());
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        for source in Source::ALL {
            let row = source as usize;
            let count = self.codes(source).iter().sum();
            self.add(TIMES_AT + row * (TIMES.len() + 1) + bucket, count);
            self.add(NANOSECONDS_AT + row, count.saturating_mul(nanoseconds));
        }
    }

    /// Queries over IPv4, or over IPv6, by [`TYPES`].
    #[must_use]
    pub fn requests(&self, is_ipv6: bool) -> &[u64] {
        self.row(REQUESTS_AT, usize::from(is_ipv6), TYPES.len())
    }

    /// Responses by [`CODES`].
    #[must_use]
    pub fn codes(&self, source: Source) -> &[u64] {
        self.row(CODES_AT, source as usize, CODES.len())
    }

    /// Responses by [`SIZES`], in octets.
    #[must_use]
    pub fn sizes(&self, source: Source) -> Histogram<'_> {
        Histogram {
            buckets: self.row(SIZES_AT, source as usize, SIZES.len() + 1),
            sum: self.row(OCTETS_AT, source as usize, 1).iter().sum(),
        }
    }

    /// Responses by [`TIMES`], in nanoseconds.
    #[must_use]
    pub fn times(&self, source: Source) -> Histogram<'_> {
        Histogram {
            buckets: self.row(TIMES_AT, source as usize, TIMES.len() + 1),
            sum: self.row(NANOSECONDS_AT, source as usize, 1).iter().sum(),
        }
    }

    fn row(&self, table: usize, row: usize, len: usize) -> &[u64] {
        let start = table + row * len;
        self.cells.get(start..start + len).unwrap_or_default()
    }

    #[inline]
    fn add(&mut self, at: usize, count: u64) {
        if let Some(cell) = self.cells.get_mut(at) {
            *cell = cell.wrapping_add(count);
        }
    }
}

/// The type of the first question, if there is one that can be read without decompression.
#[inline]
fn question_type(message: &[u8]) -> Option<u16> {
    /// A name and a type (RFC 1035, section 3.1).
    const MOST: usize = 255 + 2;
    let (header, rest) = message.split_at_checked(HEADER_OCTETS as usize)?;
    if header.get(4..6)? == [0, 0] {
        return None;
    }
    let mut rest = rest.get(..rest.len().min(MOST))?;
    loop {
        let (&len, after) = rest.split_first()?;
        match len {
            0 => return after.first_chunk().map(|rtype| u16::from_be_bytes(*rtype)),
            1..=63 => rest = after.get(usize::from(len)..)?,
            _ => return None,
        }
    }
}

const fn place_of_type(rtype: u16) -> usize {
    match rtype {
        1 => 0,
        28 => 1,
        33 => 2,
        12 => 3,
        16 => 4,
        6 => 5,
        2 => 6,
        5 => 7,
        15 => 8,
        35 => 9,
        43 => 10,
        65 => 11,
        252 => 12,
        251 => 13,
        255 => 14,
        _ => TYPES.len() - 1,
    }
}

/// Where a code is counted.
pub(crate) fn place_of_code(rcode: Rcode) -> usize {
    match rcode.0 {
        code @ 0..=5 => usize::from(code),
        16 => 6,
        23 => 7,
        _ => CODES.len() - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{Message, Query, ResponseCode};
    use hickory_proto::rr::{Name, RecordType};

    fn message(rtype: RecordType) -> Vec<u8> {
        let mut message = Message::query();
        let name = Name::from_ascii("_web._tcp.marathon.mesos.").unwrap();
        message.add_query(Query::query(name, rtype));
        message.to_vec().unwrap()
    }

    /// The other program knows the numbers of the types and codes.
    #[test]
    fn types_and_codes_have_their_names() {
        for (place, name) in TYPES.iter().enumerate() {
            let rtype = match *name {
                "other" => RecordType::CAA,
                // RFC 1995, section 2.
                "IXFR" => RecordType::from(251),
                name => name.parse().unwrap(),
            };
            let mut breakdown = Breakdown::default();
            breakdown.request(place % 2 == 1, &message(rtype));
            let requests = breakdown.requests(place % 2 == 1);
            assert_eq!(requests.iter().sum::<u64>(), 1);
            assert_eq!(requests[place], 1, "{name}");
        }
        for (code, name) in [
            (ResponseCode::NoError, "NOERROR"),
            (ResponseCode::FormErr, "FORMERR"),
            (ResponseCode::ServFail, "SERVFAIL"),
            (ResponseCode::NXDomain, "NXDOMAIN"),
            (ResponseCode::NotImp, "NOTIMP"),
            (ResponseCode::Refused, "REFUSED"),
            (ResponseCode::BADVERS, "BADVERS"),
            (ResponseCode::BADCOOKIE, "BADCOOKIE"),
            (ResponseCode::YXDomain, "other"),
        ] {
            assert_eq!(CODES[place_of_code(Rcode(code.into()))], name);
        }
    }

    #[test]
    fn what_has_no_readable_question_is_of_another_type() {
        let whole = message(RecordType::A);
        let mut none = whole.clone();
        none[5] = 0;
        let mut pointer = whole.clone();
        pointer[12] = 0xc0;
        let long = [&whole[..12], &[1, b'a'].repeat(300), &[0, 0, 1, 0, 1]].concat();
        for odd in [
            &[][..],
            &whole[..11],
            &whole[..20],
            &whole[..whole.len() - 3],
            &none,
            &pointer,
            &long,
        ] {
            let mut breakdown = Breakdown::default();
            breakdown.request(false, odd);
            assert_eq!(breakdown.requests(false)[TYPES.len() - 1], 1, "{odd:02x?}");
        }
    }

    #[test]
    fn sizes_and_times_are_in_their_buckets() {
        let mut breakdown = Breakdown::default();
        for octets in [0, 1, 100, 101, 511, 512, 64_000, 64_001] {
            breakdown.response(Source::Zones, octets, Rcode::NOERROR);
        }
        breakdown.response(Source::Upstreams, 50, Rcode::SERVFAIL);
        let sizes = breakdown.sizes(Source::Zones);
        assert_eq!(sizes.buckets, [1, 2, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(sizes.sum, 129_226);
        assert_eq!(breakdown.codes(Source::Upstreams)[2], 1);
        breakdown.took(Duration::from_micros(10));
        assert_eq!(breakdown.times(Source::Zones).buckets[0], 8);
        assert_eq!(breakdown.times(Source::Zones).sum, 80_000);
        assert_eq!(breakdown.times(Source::Upstreams).buckets[0], 1);
        let mut slow = Breakdown::default();
        slow.response(Source::Upstreams, 50, Rcode::SERVFAIL);
        let mut slower = slow;
        slow.took(Duration::from_nanos(10_001));
        assert_eq!(slow.times(Source::Upstreams).buckets[1], 1);
        slower.took(Duration::from_secs(6));
        assert_eq!(slower.times(Source::Upstreams).buckets.last(), Some(&1));
    }
}
