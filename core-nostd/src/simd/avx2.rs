//! AVX2: four lanes of 64 bits, eight of 32.
#![allow(unsafe_code)]

use core::arch::x86_64::*;
use core::ops::{Add, BitXor};

use super::{Kernel, Simd, Words64};

/// The proof that the CPU has AVX2.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The proof, without looking.
    ///
    /// # Safety
    /// The CPU has AVX2.
    pub(crate) unsafe fn new_unchecked() -> Avx2 {
        Avx2(())
    }
}

/// Intrinsics in a place that only a holder of an [`Avx2`] or of a vector made from one reaches.
macro_rules! avx2 {
    ($intrinsics:expr) => {
        // SAFETY: an `Avx2` and the vectors made from it exist only where the CPU has AVX2, and the
        // intrinsics here work on registers, or on memory that a reference of their width covers.
        unsafe { $intrinsics }
    };
}

/// Four words of 64 bits.
#[derive(Clone, Copy)]
pub(crate) struct U64x4(__m256i);

impl Simd for Avx2 {
    type W64 = U64x4;

    const LANES_64: usize = 4;

    #[inline(always)]
    fn vectorize<K: Kernel<Self>>(self, kernel: K) {
        #[target_feature(enable = "avx2")]
        fn inner<K: Kernel<Avx2>>(simd: Avx2, kernel: K) {
            kernel.run(simd);
        }
        avx2!(inner(self, kernel));
    }

    #[inline(always)]
    fn splat_64(self, word: u64) -> U64x4 {
        U64x4(avx2!(_mm256_set1_epi64x(word as i64)))
    }

    #[inline(always)]
    fn columns_64(self, rows: &[&[u8; 128]]) -> [U64x4; 16] {
        let mut columns = [self.splat_64(0); 16];
        for at in 0..4 {
            let mut square = [self.splat_64(0).0; 4];
            for lane in 0..4 {
                square[lane] = load(rows[lane], at);
            }
            columns[4 * at..4 * at + 4].copy_from_slice(&transpose_64(square));
        }
        columns
    }
}

/// The `at`-th 32 bytes of a row.
#[inline(always)]
fn load<const BYTES: usize>(row: &[u8; BYTES], at: usize) -> __m256i {
    let (chunks, _) = row.as_chunks::<32>();
    let chunk: &[u8; 32] = &chunks[at];
    avx2!(_mm256_loadu_si256(chunk.as_ptr().cast()))
}

#[inline(always)]
fn transpose_64([a, b, c, d]: [__m256i; 4]) -> [U64x4; 4] {
    avx2!({
        let (ab_even, ab_odd) = (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
        let (cd_even, cd_odd) = (_mm256_unpacklo_epi64(c, d), _mm256_unpackhi_epi64(c, d));
        [
            U64x4(_mm256_permute2x128_si256::<0x20>(ab_even, cd_even)),
            U64x4(_mm256_permute2x128_si256::<0x20>(ab_odd, cd_odd)),
            U64x4(_mm256_permute2x128_si256::<0x31>(ab_even, cd_even)),
            U64x4(_mm256_permute2x128_si256::<0x31>(ab_odd, cd_odd)),
        ]
    })
}

impl Add for U64x4 {
    type Output = U64x4;

    #[inline(always)]
    fn add(self, other: U64x4) -> U64x4 {
        U64x4(avx2!(_mm256_add_epi64(self.0, other.0)))
    }
}

impl BitXor for U64x4 {
    type Output = U64x4;

    #[inline(always)]
    fn bitxor(self, other: U64x4) -> U64x4 {
        U64x4(avx2!(_mm256_xor_si256(self.0, other.0)))
    }
}

impl Words64 for U64x4 {
    #[inline(always)]
    fn rotate_right_32(self) -> U64x4 {
        U64x4(avx2!(_mm256_shuffle_epi32::<0b10_11_00_01>(self.0)))
    }

    #[inline(always)]
    fn rotate_right_24(self) -> U64x4 {
        U64x4(avx2!({
            let order = _mm_setr_epi8(3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10);
            _mm256_shuffle_epi8(self.0, _mm256_broadcastsi128_si256(order))
        }))
    }

    #[inline(always)]
    fn rotate_right_16(self) -> U64x4 {
        U64x4(avx2!({
            let order = _mm_setr_epi8(2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9);
            _mm256_shuffle_epi8(self.0, _mm256_broadcastsi128_si256(order))
        }))
    }

    #[inline(always)]
    fn rotate_right_63(self) -> U64x4 {
        U64x4(avx2!(_mm256_or_si256(
            _mm256_srli_epi64::<63>(self.0),
            _mm256_add_epi64(self.0, self.0)
        )))
    }

    #[inline(always)]
    fn store(self, words: &mut [u64]) {
        let words: &mut [u64; 4] = words.first_chunk_mut().expect("a word a lane");
        avx2!(_mm256_storeu_si256(words.as_mut_ptr().cast(), self.0));
    }
}
