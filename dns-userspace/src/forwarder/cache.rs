//! Answers of upstreams, for as long as their TTLs allow, in a bounded number of octets.

use std::collections::hash_map::RandomState;
use std::mem::size_of;
use std::sync::Arc;

use quick_cache::{Weighter, sync};

use super::kept::{Age, Kept, Kind, TtlBounds};
use super::response::is_truncated;

/// Milliseconds for which upstreams that failed are not asked for a stale answer again (RFC 8767,
/// section 5, failure recheck timer).
const RECHECK_MS: u64 = 30_000;
/// What an answer takes as a rule, by which tables are sized.
const USUAL_OCTETS: u64 = 512;

/// What is kept, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSettings {
    /// Octets of memory at most; 0 keeps nothing.
    pub max_octets: u64,
    /// Bounds of TTLs.
    pub ttl: TtlBounds,
    /// Seconds for which data serves after its TTL when upstreams fail (RFC 8767); 0 is never.
    pub serve_stale: u32,
    /// Percent of a TTL that is left when an answer that is asked for again is fetched anew; 0 is
    /// never.
    pub prefetch: u8,
}

impl CacheSettings {
    /// Nothing is kept: each query is asked anew, as mesos-dns does it.
    pub const OFF: Self = Self {
        max_octets: 0,
        ttl: TtlBounds {
            min: 0,
            max: u32::MAX,
            negative_max: u32::MAX,
        },
        serve_stale: 0,
        prefetch: 0,
    };
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            max_octets: 32 << 20,
            ttl: TtlBounds::default(),
            serve_stale: 86_400,
            prefetch: 10,
        }
    }
}

/// Memory of an entry: its allocations, and its part of the tables.
#[derive(Debug, Clone)]
struct Octets;

/// What the allocator and the tables take for an entry, beside its content.
const OVERHEAD_OCTETS: usize = 192;

impl Weighter<Box<[u8]>, Arc<Kept>> for Octets {
    fn weight(&self, key: &Box<[u8]>, kept: &Arc<Kept>) -> u64 {
        let content = key.len() + kept.octets.len() + 2 * kept.ttls.len();
        (content + size_of::<Kept>() + OVERHEAD_OCTETS) as u64
    }
}

type Answers = sync::Cache<Box<[u8]>, Arc<Kept>, Octets, RandomState>;

/// Answers by key. Eviction is that of the library: names asked for once do not push out those
/// asked for often. The hash is keyed at random, so that nobody can choose names that collide.
pub(super) struct Cache {
    answers: Option<Answers>,
    stale_ms: u64,
    percent: u64,
}

impl Cache {
    pub(super) fn new(settings: &CacheSettings) -> Self {
        let answers = (settings.max_octets > 0).then(|| {
            let usual = settings.max_octets / USUAL_OCTETS;
            sync::Cache::with(
                usize::try_from(usual).unwrap_or(usize::MAX),
                settings.max_octets,
                Octets,
                RandomState::new(),
                sync::DefaultLifecycle::default(),
            )
        });
        Self {
            answers,
            stale_ms: u64::from(settings.serve_stale) * 1_000,
            percent: u64::from(settings.prefetch),
        }
    }

    /// What is there that may be used at `now`, and how old it is.
    pub(super) fn get(&self, key: &[u8], now: u64) -> Option<(Arc<Kept>, Age)> {
        let kept = self.answers.as_ref()?.get(key)?;
        match kept.age(now, self.stale_ms) {
            Age::Expired => None,
            age => Some((kept, age)),
        }
    }

    /// Counts a use; whether it is time to fetch the answer anew.
    pub(super) fn use_once(&self, kept: &Kept, now: u64) -> bool {
        kept.use_once(now, self.percent)
    }

    /// Takes in what upstreams said. A failure does not push out data, fresh or stale; upstreams
    /// are left alone with it for a while.
    pub(super) fn put(&self, key: &[u8], kept: &Arc<Kept>, now: u64) {
        let Some(answers) = &self.answers else {
            return;
        };
        if kept.kind == Kind::Failure
            && let Some((old, _)) = self.get(key, now)
            && old.kind != Kind::Failure
        {
            old.rest_until(now + RECHECK_MS);
            return;
        }
        if kept.may_be_kept() {
            answers.insert(key.into(), Arc::clone(kept));
        } else if !is_truncated(&kept.octets) {
            // What was known is out of date all the same.
            answers.remove(key);
        }
    }

    pub(super) fn entries(&self) -> u64 {
        self.answers.as_ref().map_or(0, |one| one.len() as u64)
    }

    pub(super) fn octets(&self) -> u64 {
        self.answers.as_ref().map_or(0, sync::Cache::weight)
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("entries", &self.entries())
            .field("octets", &self.octets())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::response::tests::{address, read, soa};
    use super::*;
    use crate::zones::Rtype;

    fn kept(flags: u16, record: (usize, &[u8]), now: u64) -> Arc<Kept> {
        let response = read(flags, &[record]).unwrap();
        Arc::new(Kept::new(response, Rtype::A, &TtlBounds::default(), now))
    }

    fn data(ttl: u32, now: u64) -> Arc<Kept> {
        kept(0x8180, (0, &address(1, ttl)), now)
    }

    fn failure(now: u64) -> Arc<Kept> {
        let response = read(0x8182, &[]).unwrap();
        Arc::new(Kept::new(response, Rtype::A, &TtlBounds::default(), now))
    }

    #[test]
    fn memory_is_bounded_under_ever_new_names() {
        let settings = CacheSettings {
            max_octets: 1 << 20,
            ..CacheSettings::default()
        };
        let cache = Cache::new(&settings);
        let kept = data(300, 0);
        for n in 0..100_000u32 {
            cache.put(&n.to_be_bytes(), &kept, 0);
            assert!(cache.octets() <= 1 << 20);
        }
        assert!(cache.octets() > 1 << 19, "{}", cache.octets());
        assert!(cache.entries() < 5_000);
    }

    #[test]
    fn names_asked_for_often_survive_a_flood_of_others() {
        let settings = CacheSettings {
            max_octets: 1 << 20,
            ..CacheSettings::default()
        };
        let cache = Cache::new(&settings);
        let hot: Vec<[u8; 5]> = (0..100).map(|n| [n, b'h', b'o', b't', 0]).collect();
        for key in &hot {
            cache.put(key, &data(300, 0), 0);
        }
        let flood = data(300, 0);
        for n in 0..50_000u32 {
            cache.put(&n.to_be_bytes(), &flood, 0);
            if n % 10 == 0 {
                let _ = cache.get(&hot[(n / 10) as usize % hot.len()], 0);
            }
        }
        let survived = hot.iter().filter(|key| cache.get(*key, 0).is_some());
        assert!(survived.count() > 90);
    }

    #[test]
    fn a_failure_never_pushes_out_data_and_keeps_for_a_while_from_asking() {
        let cache = Cache::new(&CacheSettings::default());
        cache.put(b"k", &data(60, 0), 0);
        cache.put(b"k", &failure(70_000), 70_000);
        let (kept, age) = cache.get(b"k", 70_000).unwrap();
        assert_eq!((kept.kind, age), (Kind::Data, Age::Stale));
        assert!(kept.is_resting(99_999) && !kept.is_resting(100_000));
        cache.put(b"other", &failure(0), 0);
        assert_eq!(cache.get(b"other", 1_999).unwrap().0.kind, Kind::Failure);
        assert!(cache.get(b"other", 2_000).is_none());
    }

    #[test]
    fn a_denial_takes_the_place_of_stale_data() {
        let cache = Cache::new(&CacheSettings::default());
        cache.put(b"k", &data(60, 0), 0);
        let denial = kept(0x8183, (1, &soa(60, 60)), 70_000);
        cache.put(b"k", &denial, 70_000);
        assert_eq!(cache.get(b"k", 70_000).unwrap().0.kind, Kind::Negative);
        // And no longer than it may: it never turns stale.
        assert!(cache.get(b"k", 130_000).is_none());
        // One that cannot be kept ends the data too.
        cache.put(b"j", &data(60, 0), 0);
        let unkeepable = Arc::new(Kept::new(
            read(0x8183, &[]).unwrap(),
            Rtype::A,
            &TtlBounds::default(),
            70_000,
        ));
        cache.put(b"j", &unkeepable, 70_000);
        assert!(cache.get(b"j", 70_000).is_none());
    }

    #[test]
    fn nothing_is_kept_where_the_cache_is_off() {
        let cache = Cache::new(&CacheSettings::OFF);
        cache.put(b"k", &data(60, 0), 0);
        assert!(cache.get(b"k", 0).is_none());
        assert_eq!((cache.entries(), cache.octets()), (0, 0));
    }
}
