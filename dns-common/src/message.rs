//! What the responder needs of the packet that a query came in.

use crate::blob::Table;
use crate::encloser::{self, Ancestor};
use crate::name;
use crate::question::Edns;
use crate::rate_limit::Allowance;
use crate::sum::Sums;
use crate::verdict::Verdict;

/// A DNS message in a buffer that can be loaded from, resized and stored to. Offsets count from
/// the start of the message; words are little-endian.
pub trait Message: Sized {
    /// Octets of the message.
    fn octets(&self) -> u32;
    /// Eight octets, `None` where that is outside the buffer. Where the message ends in them, what
    /// follows is anything.
    fn load_u64(&self, at: u32) -> Option<u64>;
    /// Four octets, `None` outside the message.
    fn load_u32(&self, at: u32) -> Option<u32>;
    /// The octets of a word of which the first `left` count: the others are zero. `None` if more
    /// than eight count, or where that is outside the message.
    ///
    /// They are loaded with those before them: behind there may be nothing, and there is always a
    /// header before.
    #[inline(always)]
    fn last_word(&self, at: u32, left: u32) -> Option<u64> {
        if left > name::WORD {
            return None;
        }
        let missing = name::WORD.wrapping_sub(left);
        let word = self.load_u64(at.wrapping_sub(missing))?;
        // In two steps, as a shift by a whole word is none.
        Some((word >> (missing.wrapping_mul(4) & 63)) >> (missing.wrapping_mul(4) & 63))
    }
    /// Gives `value` back. In the kernel, as a number of which the verifier knows nothing: a value
    /// that it knows exactly, such as the trip count of a loop, has all that follows verified once
    /// for each.
    fn forget(&self, value: u64) -> u64;
    /// The same with a smaller number.
    #[inline(always)]
    fn blur(&self, value: u32) -> u32 {
        self.forget(u64::from(value)) as u32
    }
    /// Gives an offset below 4096 back. In the kernel, masked out of the compiler's sight, so that
    /// an offset which a loop moves on has the same range in every turn.
    fn bound(&self, offset: u32) -> u32;
    /// Accepts the query's checksum and makes room for a response of `octets` octets, of which the
    /// first `kept` stay those of the query. An error leaves everything as it was.
    ///
    /// # Errors
    /// [`Verdict::Checksum`] or [`Verdict::Resize`].
    fn resize(&mut self, octets: u32, kept: u32, query: &Sums) -> Result<(), Verdict>;
    /// Stores eight octets, `None` outside the message.
    fn store_u64(&mut self, at: u32, word: u64) -> Option<()>;
    /// Stores `WORDS` times eight octets, `None` outside the message.
    fn store_words<const WORDS: usize>(&mut self, at: u32, words: [u64; WORDS]) -> Option<()>;
    /// Stores four octets, `None` outside the message.
    fn store_u32(&mut self, at: u32, word: u32) -> Option<()>;
    /// Stores two octets, `None` outside the message.
    fn store_u16(&mut self, at: u32, word: u16) -> Option<()>;
    /// [`encloser::ancestor`]. In the kernel a function of its own, which the verifier sees once.
    #[inline(always)]
    fn ancestor<T: Table>(&self, table: &T, at: u32, octets: u32) -> Ancestor {
        encloser::ancestor(self, table, at, octets)
    }
    /// Leaves so many octets of what was resized. `None` if it cannot be done.
    fn shrink(&mut self, octets: u32) -> Option<()>;
    /// Takes a response to the question that ends there from the share of the client's prefix. What
    /// slips is then the response of [`slip`].
    #[inline(always)]
    fn ration(&mut self, _end: u32, _edns: Edns, _question_sum: u64) -> Allowance {
        Allowance::Answer
    }
    /// Completes what surrounds the message: lengths, addresses, checksums.
    fn seal(&mut self, response: &Sums) -> Option<()>;
}
