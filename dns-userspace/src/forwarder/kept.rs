//! An answer as it is kept: a whole response under its question, in wire format, with the places of
//! its TTLs. Nothing of it is ever used to answer another question, so what an upstream adds to a
//! response harms that response only.
//!
//! Wire format rather than records: handing out is a copy and a few octets written over it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::response::{Record, Response, set};
use crate::answers::query::HEADER_OCTETS;
use crate::answers::{ExtendedError, Rcode};
use crate::zones::Rtype;

/// Milliseconds for which a failure is not asked for again (RFC 9520, section 3.2: at least one
/// second, at most five minutes).
const FAILURE_MS: u64 = 2_000;

/// Bounds of TTLs, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TtlBounds {
    /// Data is kept at least so long.
    pub min: u32,
    /// Data is kept at most so long.
    pub max: u32,
    /// Denials are kept at most so long.
    pub negative_max: u32,
}

impl Default for TtlBounds {
    fn default() -> Self {
        Self {
            min: 0,
            // RFC 8767, section 4.
            max: 604_800,
            // RFC 2308, section 5.
            negative_max: 3_600,
        }
    }
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Records of the type asked for.
    Data,
    /// There are none, or a part of the answer only.
    Negative,
    /// No upstream had an answer.
    Failure,
}

/// How old an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// Its TTLs have not run out; so many seconds are gone.
    Fresh(u32),
    /// They have, and it may serve while nothing better is to be had.
    Stale,
    /// It must not be used.
    Expired,
}

/// Addresses of one owner, which are handed out in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turning {
    /// Where the RDATA of the first is.
    pub(super) first: usize,
    /// From one to the next.
    pub(super) stride: usize,
    pub(super) count: usize,
    /// Octets of each.
    pub(super) octets: usize,
}

/// A response under its question. Its id is not set.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) octets: Box<[u8]>,
    /// Where TTLs are.
    pub(super) ttls: Box<[u16]>,
    pub(super) turning: Option<Turning>,
    pub(super) rcode: Rcode,
    pub(super) kind: Kind,
    pub(super) extended_error: Option<ExtendedError>,
    /// When it came, and for how long it is fresh; milliseconds of the clock.
    stored: u64,
    lifetime: u64,
    uses: AtomicU32,
    is_refreshing: AtomicBool,
    /// Before this, upstreams are not asked for it again.
    retry: AtomicU64,
}

impl Kept {
    /// What is kept of a response that came at `now`, its TTLs brought within bounds. One that
    /// must not be kept has no lifetime: it is truncated, or a TTL is 0, or it denies without an
    /// SOA (RFC 2308, section 5).
    pub(super) fn new(response: Response, rtype: Rtype, bounds: &TtlBounds, now: u64) -> Self {
        let kind = kind(&response, rtype);
        let mut lifetime = None;
        let negative = match kind {
            Kind::Negative => Some(
                response
                    .negative_ttl()
                    .map_or(0, |ttl| ttl.min(bounds.negative_max).min(bounds.max)),
            ),
            _ => None,
        };
        let truncated = response.is_truncated();
        let turning = turning(&response);
        let mut octets = response.octets;
        let mut ttls = Vec::with_capacity(response.records.len());
        for record in &response.records {
            let mut ttl = record.ttl.clamp(bounds.min, bounds.max.max(bounds.min));
            if let Some(negative) = negative
                && record.section == 1
                && record.rtype == Rtype::SOA
            {
                ttl = negative;
            }
            lifetime = Some(lifetime.map_or(ttl, |least: u32| least.min(ttl)));
            if ttl != record.ttl {
                set(&mut octets, record.ttl_at(), &ttl.to_be_bytes());
            }
            ttls.extend(u16::try_from(record.ttl_at()));
        }
        let seconds = match (kind, negative) {
            _ if truncated => 0,
            (Kind::Negative, None | Some(0)) => 0,
            _ => lifetime.unwrap_or(0),
        };
        let lifetime = match kind {
            Kind::Failure => FAILURE_MS,
            _ => u64::from(seconds) * 1_000,
        };
        Self {
            octets: octets.into(),
            ttls: ttls.into(),
            turning,
            rcode: response.rcode,
            kind,
            extended_error: response.extended_error,
            stored: now,
            lifetime,
            uses: AtomicU32::new(0),
            is_refreshing: AtomicBool::new(false),
            retry: AtomicU64::new(0),
        }
    }

    /// SERVFAIL for `question`, made here.
    pub(super) fn failure(question: &[u8], why: ExtendedError, now: u64) -> Self {
        // QR and SERVFAIL; one question.
        let mut octets = b"\0\0\x80\x02\0\x01\0\0\0\0\0\0".to_vec();
        octets.extend_from_slice(question);
        Self {
            octets: octets.into(),
            ttls: Box::default(),
            turning: None,
            rcode: Rcode::SERVFAIL,
            kind: Kind::Failure,
            extended_error: Some(why),
            stored: now,
            lifetime: FAILURE_MS,
            uses: AtomicU32::new(0),
            is_refreshing: AtomicBool::new(false),
            retry: AtomicU64::new(0),
        }
    }

    pub(super) const fn may_be_kept(&self) -> bool {
        self.lifetime > 0
    }

    /// How old it is at `now`. Data stays usable for `stale_ms` after its time; a denial or a
    /// failure does not, lest a name that has come to be stays denied.
    pub(super) fn age(&self, now: u64, stale_ms: u64) -> Age {
        let gone = now.saturating_sub(self.stored);
        if gone < self.lifetime {
            Age::Fresh(u32::try_from(gone / 1_000).unwrap_or(u32::MAX))
        } else if self.kind == Kind::Data && gone < self.lifetime.saturating_add(stale_ms) {
            Age::Stale
        } else {
            Age::Expired
        }
    }

    /// Counts a use; whether it is time to fetch it anew: less than `percent` of its time is left,
    /// and it was asked for before. Says so once.
    pub(super) fn use_once(&self, now: u64, percent: u64) -> bool {
        let earlier = self.uses.load(Ordering::Relaxed);
        if earlier == 0 {
            self.uses.store(1, Ordering::Relaxed);
        }
        let left = self
            .stored
            .saturating_add(self.lifetime)
            .saturating_sub(now);
        earlier > 0
            && self.kind != Kind::Failure
            && left.saturating_mul(100) < self.lifetime.saturating_mul(percent)
            && !self.is_refreshing.swap(true, Ordering::Relaxed)
    }

    /// Whether upstreams failed for it so short a while ago that they are left alone.
    pub(super) fn is_resting(&self, now: u64) -> bool {
        now < self.retry.load(Ordering::Relaxed)
    }

    /// Leaves upstreams alone until then.
    pub(super) fn rest_until(&self, until: u64) {
        self.retry.store(until, Ordering::Relaxed);
    }
}

fn kind(response: &Response, rtype: Rtype) -> Kind {
    if !response.is_final() {
        return Kind::Failure;
    }
    let answers = |one: &Record| one.section == 0 && (one.rtype == rtype || rtype == Rtype::ANY);
    if response.rcode == Rcode::NOERROR && response.records.iter().any(answers) {
        Kind::Data
    } else {
        Kind::Negative
    }
}

/// The first RRset of several addresses in the answer section, laid out evenly.
fn turning(response: &Response) -> Option<Turning> {
    let owner = |one: &Record| response.octets.get(one.start..one.fixed);
    let alike = |a: &Record, b: &Record| {
        a.section == 0
            && b.section == 0
            && matches!(a.rtype, Rtype::A | Rtype::AAAA)
            && a.rtype == b.rtype
            && a.end - a.start == b.end - b.start
            && owner(a) == owner(b)
    };
    let run = response.records.chunk_by(alike).find(|run| run.len() > 1)?;
    let first = run.first()?;
    Some(Turning {
        first: first.data_at(),
        stride: first.end - first.start,
        count: run.len(),
        octets: first.end - first.data_at(),
    })
}

/// Octets up to the end of the question.
pub(super) const fn body_at(question_octets: usize) -> usize {
    HEADER_OCTETS + question_octets
}

#[cfg(test)]
mod tests {
    use super::super::response::tests::{address, read, soa};
    use super::*;

    const A_DAY_MS: u64 = 86_400_000;

    fn kept(flags: u16, records: &[(usize, &[u8])], bounds: &TtlBounds) -> Kept {
        Kept::new(read(flags, records).unwrap(), Rtype::A, bounds, 1_000)
    }

    fn lifetime(flags: u16, records: &[(usize, &[u8])]) -> u64 {
        kept(flags, records, &TtlBounds::default()).lifetime / 1_000
    }

    #[test]
    fn the_least_ttl_decides() {
        let (short, long) = (address(1, 60), address(2, 300));
        assert_eq!(lifetime(0x8180, &[(0, &long)]), 300);
        assert_eq!(lifetime(0x8180, &[(0, &long), (2, &short)]), 60);
    }

    #[test]
    fn rfc8767_4_a_large_ttl_is_a_week_and_zero_is_not_kept() {
        let day = 86_400;
        assert_eq!(lifetime(0x8180, &[(0, &address(1, 7 * day))]), 604_800);
        assert_eq!(lifetime(0x8180, &[(0, &address(1, 8 * day))]), 604_800);
        assert_eq!(lifetime(0x8180, &[(0, &address(1, 1 << 31))]), 604_800);
        let zero = kept(0x8180, &[(0, &address(1, 0))], &TtlBounds::default());
        assert!(!zero.may_be_kept());
        // Handed out as it came.
        let ttl = usize::from(zero.ttls[0]);
        assert_eq!(zero.octets[ttl..ttl + 4], [0; 4]);
    }

    #[test]
    fn bounds_are_written_into_the_records() {
        let bounds = TtlBounds {
            min: 10,
            max: 20,
            negative_max: 5,
        };
        let (low, high) = (address(1, 1), address(2, 99));
        let kept = kept(0x8180, &[(0, &low), (0, &high)], &bounds);
        let ttls: Vec<u8> = kept
            .ttls
            .iter()
            .map(|&at| kept.octets[usize::from(at) + 3])
            .collect();
        assert_eq!(ttls, [10, 20]);
        assert_eq!(kept.lifetime, 10_000);
    }

    #[test]
    fn rfc2308_5_denials_are_kept_by_their_soa_and_not_without() {
        assert_eq!(lifetime(0x8183, &[(1, &soa(300, 60))]), 60);
        assert_eq!(lifetime(0x8180, &[(1, &soa(60, 300))]), 60);
        assert_eq!(lifetime(0x8183, &[(1, &soa(86_400, 86_400))]), 3_600);
        assert_eq!(lifetime(0x8183, &[]), 0);
        assert_eq!(lifetime(0x8180, &[]), 0);
        assert_eq!(lifetime(0x8183, &[(1, &soa(300, 0))]), 0);
    }

    #[test]
    fn a_referral_and_an_alias_without_its_end_are_not_kept() {
        // The address is of no type that was asked for.
        let ns = b"\xc0\x10\x00\x02\x00\x01\x00\x00\x0e\x10\x00\x02\xc0\x10";
        let cname = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x0e\x10\x00\x02\xc0\x10";
        assert_eq!(lifetime(0x8180, &[(1, ns)]), 0);
        assert_eq!(lifetime(0x8180, &[(0, cname)]), 0);
        assert_eq!(lifetime(0x8180, &[(0, cname), (1, &soa(60, 60))]), 60);
        assert_eq!(lifetime(0x8180, &[(0, cname), (0, &address(1, 9))]), 9);
    }

    #[test]
    fn truncated_is_never_kept() {
        assert_eq!(lifetime(0x8380, &[(0, &address(1, 60))]), 0);
    }

    #[test]
    fn rfc9520_3_2_failures_are_kept_for_seconds() {
        for rcode in [1, 2, 4, 5, 9] {
            let kept = kept(0x8180 | rcode, &[], &TtlBounds::default());
            assert_eq!((kept.kind, kept.lifetime), (Kind::Failure, FAILURE_MS));
        }
    }

    #[test]
    fn data_grows_stale_and_denials_end() {
        let data = kept(0x8180, &[(0, &address(1, 60))], &TtlBounds::default());
        assert_eq!(data.age(1_000, A_DAY_MS), Age::Fresh(0));
        assert_eq!(data.age(1_999, A_DAY_MS), Age::Fresh(0));
        assert_eq!(data.age(60_999, A_DAY_MS), Age::Fresh(59));
        assert_eq!(data.age(61_000, A_DAY_MS), Age::Stale);
        assert_eq!(data.age(61_000, 0), Age::Expired);
        assert_eq!(data.age(60_999 + A_DAY_MS, A_DAY_MS), Age::Stale);
        assert_eq!(data.age(61_000 + A_DAY_MS, A_DAY_MS), Age::Expired);
        let denial = kept(0x8183, &[(1, &soa(60, 60))], &TtlBounds::default());
        assert_eq!(denial.age(61_000, A_DAY_MS), Age::Expired);
    }

    #[test]
    fn a_name_asked_for_again_near_its_end_is_fetched_once() {
        let data = kept(0x8180, &[(0, &address(1, 100))], &TtlBounds::default());
        assert!(!data.use_once(91_000, 10), "the first use");
        assert!(!data.use_once(91_000, 10), "exactly a tenth is left");
        assert!(data.use_once(91_001, 10));
        assert!(!data.use_once(91_002, 10), "under way");
        let cold = kept(0x8180, &[(0, &address(1, 100))], &TtlBounds::default());
        assert!(!cold.use_once(99_000, 10));
        let off = kept(0x8180, &[(0, &address(1, 100))], &TtlBounds::default());
        assert!(!off.use_once(99_000, 0) && !off.use_once(100_999, 0));
    }

    #[test]
    fn even_addresses_turn() {
        let (one, two) = (address(1, 60), address(2, 60));
        let cname = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x0e\x10\x00\x02\xc0\x10";
        let bounds = TtlBounds::default();
        let kept = kept(0x8180, &[(0, cname), (0, &one), (0, &two)], &bounds);
        let turning = kept.turning.unwrap();
        assert_eq!((turning.count, turning.stride, turning.octets), (2, 16, 4));
        assert_eq!(kept.octets[turning.first..][..4], [192, 0, 2, 1]);
        assert_eq!(super::super::kept::body_at(17), 29);
    }
}
