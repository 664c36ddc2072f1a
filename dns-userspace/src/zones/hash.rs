//! The keyed hash under which a name is found: the same number in user space and in the BPF index.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

/// A map by such hashes.
pub(crate) type ByHash<V> = HashMap<u64, V, OwnerHasher>;

/// Hashes an owner name in folded wire form (the form of [`Name::wire`](super::Name::wire)).
///
/// `seed` is drawn once per process, so that a tenant who chooses task names cannot aim at one
/// bucket. Equal hashes never decide an answer: the whole name is compared after the look-up.
#[must_use]
pub fn owner_hash(seed: u64, wire: &[u8]) -> u64 {
    dns_common::name::hash(seed, wire)
}

/// The same hash for maps by name or part of one; `HashMap`'s default is slower and no safer here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnerHasher(u64);

impl OwnerHasher {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl BuildHasher for OwnerHasher {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        *self
    }
}

impl Hasher for OwnerHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        self.0 = owner_hash(self.0, octets);
    }

    /// A number is such a hash already.
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    /// The length that precedes a slice; [`owner_hash`] has it in.
    fn write_usize(&mut self, _: usize) {}
}
