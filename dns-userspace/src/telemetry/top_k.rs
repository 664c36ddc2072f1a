//! The most frequent of many, in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;

/// The Space-Saving sketch (Metwally, Agrawal and El Abbadi, 2005): it holds `capacity` counters;
/// what is new takes over the smallest. A key that makes up more than one in `capacity` of all is
/// always among them, and no count is too low; it is too high by at most its error.
#[derive(Debug, Clone)]
pub struct TopK<K> {
    capacity: usize,
    counters: HashMap<K, Counter>,
    total: u64,
}

#[derive(Debug, Clone, Copy)]
struct Counter {
    count: u64,
    error: u64,
}

impl<K: Hash + Eq + Clone + Ord> TopK<K> {
    /// A sketch of at most `capacity` counters, at least one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            capacity,
            counters: HashMap::with_capacity(capacity),
            total: 0,
        }
    }

    /// Counts one.
    pub fn add(&mut self, key: K) {
        self.total += 1;
        if let Some(counter) = self.counters.get_mut(&key) {
            counter.count += 1;
            return;
        }
        let mut error = 0;
        if self.counters.len() >= self.capacity {
            let smallest = self.counters.iter().min_by_key(|(_, one)| one.count);
            let Some((key, counter)) = smallest.map(|(key, one)| (key.clone(), *one)) else {
                return;
            };
            self.counters.remove(&key);
            error = counter.count;
        }
        let count = error + 1;
        self.counters.insert(key, Counter { count, error });
    }

    /// How many were counted.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The first `most` by count, each with its count and how much of that may be others'.
    #[must_use]
    pub fn first(&self, most: usize) -> Vec<(K, u64, u64)> {
        let counters = self.counters.iter();
        let mut all: Vec<_> = counters
            .map(|(key, one)| (key.clone(), one.count, one.error))
            .collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        all.truncate(most);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_fits_is_counted_exactly() {
        let mut top = TopK::new(3);
        for key in ["a", "b", "a", "c", "a", "b"] {
            top.add(key);
        }
        assert_eq!(top.first(2), [("a", 3, 0), ("b", 2, 0)]);
        assert_eq!(top.total(), 6);
    }

    proptest! {
        /// Theorems 1 and 2 of the paper, against exact counts.
        #[test]
        fn the_frequent_are_never_lost(keys in prop::collection::vec(0u8..40, 1..2000)) {
            const CAPACITY: usize = 10;
            let mut top = TopK::new(CAPACITY);
            let mut exact = HashMap::new();
            for key in &keys {
                top.add(*key);
                *exact.entry(*key).or_insert(0u64) += 1;
            }
            let held = top.first(CAPACITY);
            prop_assert!(held.len() <= CAPACITY);
            for (key, count, error) in &held {
                let truth = exact[key];
                prop_assert!(count - error <= truth && truth <= *count);
            }
            for (key, truth) in exact {
                if truth > (keys.len() / CAPACITY) as u64 {
                    prop_assert!(held.iter().any(|(one, _, _)| *one == key));
                }
            }
        }
    }
}
