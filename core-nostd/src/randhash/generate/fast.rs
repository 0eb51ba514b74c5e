//! Drawing many blocks at once, and looking for variables in sets of bits.

use super::{Entry, Kind, Source};
use crate::backend::Backend;
use crate::primitives::chacha20::{BLOCK_BYTES, expand_numbers};
use crate::randhash::VARIABLES_MAX;

/// Blocks that are drawn at once: as many as the widest registers mix side by side.
const BLOCKS: usize = 16;
/// Words of them.
const WORDS: usize = BLOCKS * BLOCK_BYTES / 4;
/// Bits of a word of a set.
const BITS: usize = 64;
/// Words of the set of variables.
const SET_WORDS: usize = VARIABLES_MAX.div_ceil(BITS);

/// The largest number that a toss has: 4 times 11 items.
const TOSS_MAX: usize = 44;

/// `2^64 / n`, rounded up, by `n`. A 32-bit `d` is a multiple of `n` exactly when `d * factor` is at
/// most `factor - 1`, both modulo `2^64`.
static FACTORS: [u64; TOSS_MAX + 1] = {
    let mut factors = [0; TOSS_MAX + 1];
    let mut n = 1;
    while n <= TOSS_MAX {
        factors[n] = (u64::MAX / n as u64).wrapping_add(1);
        n += 1;
    }
    factors
};

/// The random stream 16 blocks at a time, and a bit for each variable.
#[derive(Clone)]
pub(super) struct FastSource {
    seed: [u8; 32],
    backend: Backend,
    words: [u32; WORDS],
    /// Which of the words are multiples of 8.
    eighths: [u64; WORDS / BITS],
    /// The next of the words.
    next: usize,
    /// Blocks that were drawn, those of `words` included.
    blocks: u32,
    /// Which entries of the variable stack are FREE. Bits above its height mean nothing.
    free: [u64; SET_WORDS],
}

impl FastSource {
    pub(super) const fn new() -> FastSource {
        FastSource {
            seed: [0; 32],
            backend: Backend::Soft,
            words: [0; WORDS],
            eighths: [0; WORDS / BITS],
            next: WORDS,
            blocks: 0,
            free: [0; SET_WORDS],
        }
    }

    /// Begins the stream of a seed.
    pub(super) fn start(&mut self, seed: &[u8; 32], backend: Backend) {
        self.seed = *seed;
        self.backend = backend;
        self.next = WORDS;
        self.blocks = 0;
    }

    #[cold]
    #[inline(never)]
    fn refill(&mut self) {
        let blocks: &mut [[u8; BLOCK_BYTES]; BLOCKS] = zerocopy::transmute_mut!(&mut self.words);
        expand_numbers(&self.seed, self.blocks, blocks, self.backend);
        self.blocks += BLOCKS as u32;
        self.next = 0;
        for word in &mut self.words {
            *word = u32::from_le(*word);
        }
        for (set, words) in self.eighths.iter_mut().zip(self.words.as_chunks::<BITS>().0) {
            *set = eighths(words);
        }
    }

    /// Tosses 8 again and again until one succeeds, but `1 + misses_max` times at the most; says how
    /// many missed before.
    #[inline(always)]
    fn misses(&mut self, misses_max: usize) -> usize {
        let mut misses = 0;
        loop {
            if self.next == WORDS {
                self.refill();
            }
            let in_set = BITS - self.next % BITS;
            let set = self.eighths[self.next / BITS] >> (self.next % BITS);
            let first = (set.trailing_zeros() as usize).min(misses_max - misses);
            if first < in_set {
                self.next += first + 1;
                return misses + first;
            }
            misses += in_set;
            self.next += in_set;
        }
    }

    /// The first variable from `from` to `to - 1` that would do without a toss.
    #[inline(always)]
    fn first_free(&self, kind: Kind, from: usize, to: usize) -> Option<usize> {
        let mut word = from / BITS;
        let mut ahead = u64::MAX << (from % BITS);
        while word * BITS < to {
            let mut set = self.free[word];
            if kind == Kind::Double {
                // The one before is in the same scope: `from` is not the first of it.
                let carried = if word == 0 { 0 } else { self.free[word - 1] >> (BITS - 1) };
                set &= set << 1 | carried;
            }
            set &= ahead;
            if set != 0 {
                let index = word * BITS + set.trailing_zeros() as usize;
                return (index < to).then_some(index);
            }
            ahead = u64::MAX;
            word += 1;
        }
        None
    }
}

/// Which words are multiples of 8: eight of them at a time, a byte for each.
#[inline(always)]
fn eighths(words: &[u32; BITS]) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    /// Brings the lowest bit of byte `i` to bit `56 + i`.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let rests = words.map(|word| word as u8 % 8);
    let mut set = 0;
    for (at, rests) in rests.as_chunks::<8>().0.iter().enumerate() {
        // The sum has bit 3 unless the rest is 0.
        let others = (u64::from_le_bytes(*rests) + 7 * ONES) >> 3 & ONES;
        set |= ((others ^ ONES).wrapping_mul(GATHER) >> 56) << (8 * at);
    }
    set
}

impl Source for FastSource {
    #[inline(always)]
    fn draw(&mut self) -> u32 {
        if self.next == WORDS {
            self.refill();
        }
        let word = self.words[self.next];
        self.next += 1;
        word
    }

    fn draws(&self) -> u64 {
        (self.blocks as usize * (BLOCK_BYTES / 4) + self.next - WORDS) as u64
    }

    #[inline(always)]
    fn toss(&mut self, n: u32) -> bool {
        let factor = FACTORS[n as usize];
        u64::from(self.draw()).wrapping_mul(factor) <= factor.wrapping_sub(1)
    }

    #[inline(always)]
    fn append(&mut self, end: usize, entry: Entry) -> Option<()> {
        let len = entry.len();
        if end + len > VARIABLES_MAX {
            return None;
        }
        let is_free = entry != Entry::Mark;
        for at in end..end + len {
            let bit = 1 << (at % BITS);
            let set = &mut self.free[at / BITS];
            *set = if is_free { *set | bit } else { *set & !bit };
        }
        Some(())
    }

    #[inline(always)]
    fn search(&mut self, kind: Kind, lo: usize, hi: usize, start: usize) -> usize {
        // Where a toss is made: at the second half of no pair there is none.
        let first = lo + if kind == Kind::Single { 1 } else { 2 };
        let from = if start < hi { start } else { first };
        let ahead = self.first_free(kind, from, hi).map(|free| free - from);
        let round = || self.first_free(kind, first, from).map(|free| hi - from + free - first);
        // Without a free one only a toss ends the search.
        let misses_max = ahead.or_else(round).unwrap_or(usize::MAX);
        let misses = self.misses(misses_max);
        let mut index = from + misses;
        while index >= hi {
            index -= hi - first;
        }
        index
    }

    #[inline(always)]
    fn mark_used(&mut self, index: usize) {
        self.free[index / BITS] &= !(1 << (index % BITS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eighths_are_multiples_of_8() {
        let mut words = [0; BITS];
        for step in [1, 3, 0x9e37_79b9] {
            for (number, word) in (0_u32..).zip(&mut words) {
                *word = number.wrapping_mul(step).wrapping_add(step >> 5);
            }
            let set = eighths(&words);
            for (bit, word) in words.iter().enumerate() {
                assert_eq!(set >> bit & 1 == 1, word % 8 == 0, "{word}");
            }
        }
        assert_eq!(eighths(&[8; BITS]), u64::MAX);
    }

    #[test]
    fn a_product_says_what_is_a_multiple() {
        for n in 1..=TOSS_MAX as u32 {
            let quotients = [0, 1, 2, 3, 1000, u32::MAX / n - 1, u32::MAX / n];
            for multiple in quotients.map(|quotient| quotient * n) {
                for d in [multiple.wrapping_sub(1), multiple, multiple.wrapping_add(1)] {
                    let factor = FACTORS[n as usize];
                    let says = u64::from(d).wrapping_mul(factor) <= factor.wrapping_sub(1);
                    assert_eq!(says, d.is_multiple_of(n), "{d} {n}");
                }
            }
        }
    }
}
