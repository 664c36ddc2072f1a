//! The responder of `dns_common` over a snapshot and a buffer: the fast path of the UDP server,
//! and by construction what the kernel answers.

use dns_common::blob::{SliceBlob, Table};
use dns_common::{Message, Sums, Verdict};

use super::respond::Policy;
use crate::zones::{Snapshot, ZoneIndex};

/// Answers the query in the first `octets` octets of `buffer` in place. The verdict says whether
/// it did; the number is the response's octets.
pub fn answer(
    snapshot: &Snapshot,
    policy: &Policy,
    buffer: &mut [u8],
    octets: usize,
) -> (Verdict, usize) {
    let Ok(octets) = u32::try_from(octets.min(buffer.len())) else {
        return (Verdict::Length, 0);
    };
    let mut message = Datagram { buffer, octets };
    let result = dns_common::respond(&mut message, &SnapshotTable { snapshot, policy });
    let verdict = result.map_or_else(|verdict| verdict, |response| response.verdict);
    (verdict, message.octets as usize)
}

/// A message at the start of a buffer that is larger.
struct Datagram<'b> {
    buffer: &'b mut [u8],
    octets: u32,
}

impl Datagram<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let end = at.checked_add(N as u32)?;
        if end > self.octets {
            return None;
        }
        self.buffer.get(at as usize..)?.first_chunk().copied()
    }

    #[inline(always)]
    fn store<const N: usize>(&mut self, at: u32, octets: [u8; N]) -> Option<()> {
        *self.buffer.get_mut(at as usize..)?.first_chunk_mut()? = octets;
        Some(())
    }
}

impl Message for Datagram<'_> {
    #[inline(always)]
    fn octets(&self) -> u32 {
        self.octets
    }

    #[inline(always)]
    fn load_u64(&self, at: u32) -> Option<u64> {
        self.load(at).map(u64::from_le_bytes)
    }

    #[inline(always)]
    fn load_u32(&self, at: u32) -> Option<u32> {
        self.load(at).map(u32::from_le_bytes)
    }

    #[inline(always)]
    fn forget(&self, value: u64) -> u64 {
        value
    }

    #[inline(always)]
    fn bound(&self, offset: u32) -> u32 {
        offset
    }

    #[inline(always)]
    fn resize(&mut self, octets: u32, _: u32, _: &Sums) -> Result<(), Verdict> {
        if octets as usize > self.buffer.len() {
            return Err(Verdict::Resize);
        }
        self.octets = octets;
        Ok(())
    }

    #[inline(always)]
    fn shrink(&mut self, octets: u32) -> Option<()> {
        self.octets = octets;
        Some(())
    }

    #[inline(always)]
    fn store_u64(&mut self, at: u32, word: u64) -> Option<()> {
        self.store(at, word.to_le_bytes())
    }

    #[inline(always)]
    fn store_words<const WORDS: usize>(&mut self, at: u32, words: [u64; WORDS]) -> Option<()> {
        let place = self.buffer.get_mut(at as usize..)?.as_chunks_mut().0;
        let place: &mut [[u8; 8]; WORDS] = place.first_chunk_mut()?;
        *place = words.map(u64::to_le_bytes);
        Some(())
    }

    #[inline(always)]
    fn store_u32(&mut self, at: u32, word: u32) -> Option<()> {
        self.store(at, word.to_le_bytes())
    }

    #[inline(always)]
    fn store_u16(&mut self, at: u32, word: u16) -> Option<()> {
        self.store(at, word.to_le_bytes())
    }

    #[inline(always)]
    fn seal(&mut self, _: &Sums) -> Option<()> {
        Some(())
    }
}

/// The blobs of a snapshot.
struct SnapshotTable<'s> {
    snapshot: &'s Snapshot,
    policy: &'s Policy,
}

impl<'s> Table for SnapshotTable<'s> {
    type Blob = SliceBlob<'s>;

    #[inline(always)]
    fn seed(&self) -> u64 {
        self.snapshot.seed()
    }

    #[inline(always)]
    fn max_udp(&self) -> u32 {
        u32::from(self.policy.max_udp_octets)
    }

    #[inline(always)]
    fn truncates(&self) -> bool {
        self.policy.sets_truncate_bit
    }

    #[inline(always)]
    fn raised_options(&self) -> u32 {
        self.policy.raised_options()
    }

    #[inline(always)]
    fn find(&self, hash: u64) -> Option<SliceBlob<'s>> {
        self.snapshot.blob(hash).map(SliceBlob)
    }

    #[inline(always)]
    fn soa(&self, zone: u8) -> Option<SliceBlob<'s>> {
        self.snapshot.denial(ZoneIndex(zone)).map(SliceBlob)
    }
}
