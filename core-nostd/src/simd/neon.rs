//! NEON: two lanes of 64 bits, four of 32.
#![allow(unsafe_code)]

use core::arch::aarch64::*;
use core::ops::{Add, BitXor};

use super::{Kernel, Simd, Words64};

/// The proof that the CPU has NEON.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

impl Neon {
    /// The proof, without looking.
    ///
    /// # Safety
    /// The CPU has NEON.
    pub(crate) unsafe fn new_unchecked() -> Neon {
        Neon(())
    }
}

/// Intrinsics in a place that only a holder of a [`Neon`] or of a vector made from one reaches.
macro_rules! neon {
    ($intrinsics:expr) => {
        // SAFETY: a `Neon` and the vectors made from it exist only where the CPU has NEON, and the
        // intrinsics here work on registers, or on memory that a reference of their width covers.
        unsafe { $intrinsics }
    };
}

/// Two words of 64 bits.
#[derive(Clone, Copy)]
pub(crate) struct U64x2(uint64x2_t);

impl Simd for Neon {
    type W64 = U64x2;

    const LANES_64: usize = 2;

    #[inline(always)]
    fn vectorize<K: Kernel<Self>>(self, kernel: K) {
        #[target_feature(enable = "neon")]
        fn inner<K: Kernel<Neon>>(simd: Neon, kernel: K) {
            kernel.run(simd);
        }
        neon!(inner(self, kernel));
    }

    #[inline(always)]
    fn splat_64(self, word: u64) -> U64x2 {
        U64x2(neon!(vdupq_n_u64(word)))
    }

    #[inline(always)]
    fn columns_64(self, rows: &[&[u8; 128]]) -> [U64x2; 16] {
        let mut columns = [self.splat_64(0); 16];
        for at in 0..8 {
            let (a, b) = (load(rows[0], at), load(rows[1], at));
            columns[2 * at] = U64x2(neon!(vtrn1q_u64(a, b)));
            columns[2 * at + 1] = U64x2(neon!(vtrn2q_u64(a, b)));
        }
        columns
    }
}

/// The `at`-th 16 bytes of a row.
#[inline(always)]
fn load<const BYTES: usize>(row: &[u8; BYTES], at: usize) -> uint64x2_t {
    let (chunks, _) = row.as_chunks::<16>();
    let chunk: &[u8; 16] = &chunks[at];
    neon!(vreinterpretq_u64_u8(vld1q_u8(chunk.as_ptr())))
}

impl Add for U64x2 {
    type Output = U64x2;

    #[inline(always)]
    fn add(self, other: U64x2) -> U64x2 {
        U64x2(neon!(vaddq_u64(self.0, other.0)))
    }
}

impl BitXor for U64x2 {
    type Output = U64x2;

    #[inline(always)]
    fn bitxor(self, other: U64x2) -> U64x2 {
        U64x2(neon!(veorq_u64(self.0, other.0)))
    }
}

impl Words64 for U64x2 {
    #[inline(always)]
    fn rotate_right_32(self) -> U64x2 {
        U64x2(neon!(vreinterpretq_u64_u32(vrev64q_u32(vreinterpretq_u32_u64(self.0)))))
    }

    #[inline(always)]
    fn rotate_right_24(self) -> U64x2 {
        U64x2(neon!(vsriq_n_u64::<24>(vshlq_n_u64::<40>(self.0), self.0)))
    }

    #[inline(always)]
    fn rotate_right_16(self) -> U64x2 {
        U64x2(neon!(vsriq_n_u64::<16>(vshlq_n_u64::<48>(self.0), self.0)))
    }

    #[inline(always)]
    fn rotate_right_63(self) -> U64x2 {
        U64x2(neon!(vsriq_n_u64::<63>(vaddq_u64(self.0, self.0), self.0)))
    }

    #[inline(always)]
    fn store(self, words: &mut [u64]) {
        let words: &mut [u64; 2] = words.first_chunk_mut().expect("a word a lane");
        neon!(vst1q_u64(words.as_mut_ptr(), self.0));
    }
}
