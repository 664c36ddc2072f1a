//! The keyed hash under which a name is found: the same number in user space and in the BPF index.

use std::hash::{BuildHasher, Hasher};

/// Hashes an owner name in folded wire form (the form of [`Name::wire`](super::Name::wire)).
///
/// `seed` is drawn once per process, so that a tenant who chooses task names cannot aim at one
/// bucket. Equal hashes never decide an answer: the whole name is compared after the look-up.
#[must_use]
pub fn owner_hash(seed: u64, wire: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = seed ^ ODD;
    for chunk in wire.chunks(8) {
        let mut word = [0u8; 8];
        for (slot, octet) in word.iter_mut().zip(chunk) {
            *slot = *octet;
        }
        state = (state ^ u64::from_le_bytes(word)).wrapping_mul(ODD);
        state ^= state >> 29;
    }
    state ^= wire.len() as u64;
    state = state.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state ^ (state >> 32)
}

/// The same hash for the editor's own maps; `HashMap`'s default is slower and no safer here.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnerHasher(u64);

impl OwnerHasher {
    pub(super) const fn new(seed: u64) -> Self {
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

    /// The length that precedes a slice; [`owner_hash`] has it in.
    fn write_usize(&mut self, _: usize) {}
}
