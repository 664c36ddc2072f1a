//! The keyed hash under which a name is found: the same number in user space and in the BPF index.

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
