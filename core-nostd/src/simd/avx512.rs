//! AVX-512 as CPUs since Ice Lake and Zen 4 have it: eight lanes of 64 bits, sixteen of 32.
#![allow(unsafe_code)]

use core::arch::x86_64::*;
use core::ops::{Add, BitXor};

use super::{Kernel, Simd, Words64};

/// The proof that the CPU has the AVX-512 instructions of [`Backend::Avx512`].
///
/// [`Backend::Avx512`]: crate::Backend::Avx512
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The proof, without looking.
    ///
    /// # Safety
    /// The CPU has all of the instructions.
    pub(crate) unsafe fn new_unchecked() -> Avx512 {
        Avx512(())
    }
}

/// Intrinsics in a place that only a holder of an [`Avx512`] or of a vector made from one reaches.
macro_rules! avx512 {
    ($intrinsics:expr) => {
        // SAFETY: an `Avx512` and the vectors made from it exist only where the CPU has these
        // instructions, and the intrinsics here work on registers, or on memory that a reference of
        // their width covers.
        unsafe { $intrinsics }
    };
}

/// Eight words of 64 bits.
#[derive(Clone, Copy)]
pub(crate) struct U64x8(__m512i);

impl Simd for Avx512 {
    type W64 = U64x8;

    const LANES_64: usize = 8;

    #[inline(always)]
    fn vectorize<K: Kernel<Self>>(self, kernel: K) {
        #[target_feature(
            enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi,avx512vbmi2"
        )]
        #[target_feature(enable = "avx512bitalg,avx512vpopcntdq")]
        fn inner<K: Kernel<Avx512>>(simd: Avx512, kernel: K) {
            kernel.run(simd);
        }
        avx512!(inner(self, kernel));
    }

    #[inline(always)]
    fn splat_64(self, word: u64) -> U64x8 {
        U64x8(avx512!(_mm512_set1_epi64(word as i64)))
    }

    #[inline(always)]
    fn columns_64(self, rows: &[&[u8; 128]]) -> [U64x8; 16] {
        let mut columns = [self.splat_64(0); 16];
        for at in 0..2 {
            let mut square = [self.splat_64(0).0; 8];
            for lane in 0..8 {
                square[lane] = load(rows[lane], at);
            }
            columns[8 * at..8 * at + 8].copy_from_slice(&transpose_64(square));
        }
        columns
    }
}

/// The `at`-th 64 bytes of a row.
#[inline(always)]
fn load<const BYTES: usize>(row: &[u8; BYTES], at: usize) -> __m512i {
    let (chunks, _) = row.as_chunks::<64>();
    let chunk: &[u8; 64] = &chunks[at];
    avx512!(_mm512_loadu_si512(chunk.as_ptr().cast()))
}

#[inline(always)]
fn transpose_64([a, b, c, d, e, f, g, h]: [__m512i; 8]) -> [U64x8; 8] {
    avx512!({
        // Pairs of rows: in each 128 bits the words of one column.
        let (ab_even, ab_odd) = (_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
        let (cd_even, cd_odd) = (_mm512_unpacklo_epi64(c, d), _mm512_unpackhi_epi64(c, d));
        let (ef_even, ef_odd) = (_mm512_unpacklo_epi64(e, f), _mm512_unpackhi_epi64(e, f));
        let (gh_even, gh_odd) = (_mm512_unpacklo_epi64(g, h), _mm512_unpackhi_epi64(g, h));
        let [c0, c2, c4, c6] = every_other_column([ab_even, cd_even, ef_even, gh_even]);
        let [c1, c3, c5, c7] = every_other_column([ab_odd, cd_odd, ef_odd, gh_odd]);
        [c0, c1, c2, c3, c4, c5, c6, c7]
    })
}

/// The even or odd columns of eight rows, of which pairs lie beside each other in each 128 bits.
#[inline(always)]
fn every_other_column([ab, cd, ef, gh]: [__m512i; 4]) -> [U64x8; 4] {
    avx512!({
        // Of the four columns the first and third, and the second and fourth.
        let abcd_13 = _mm512_shuffle_i64x2::<0b10_00_10_00>(ab, cd);
        let abcd_24 = _mm512_shuffle_i64x2::<0b11_01_11_01>(ab, cd);
        let efgh_13 = _mm512_shuffle_i64x2::<0b10_00_10_00>(ef, gh);
        let efgh_24 = _mm512_shuffle_i64x2::<0b11_01_11_01>(ef, gh);
        [
            U64x8(_mm512_shuffle_i64x2::<0b10_00_10_00>(abcd_13, efgh_13)),
            U64x8(_mm512_shuffle_i64x2::<0b10_00_10_00>(abcd_24, efgh_24)),
            U64x8(_mm512_shuffle_i64x2::<0b11_01_11_01>(abcd_13, efgh_13)),
            U64x8(_mm512_shuffle_i64x2::<0b11_01_11_01>(abcd_24, efgh_24)),
        ]
    })
}

impl Add for U64x8 {
    type Output = U64x8;

    #[inline(always)]
    fn add(self, other: U64x8) -> U64x8 {
        U64x8(avx512!(_mm512_add_epi64(self.0, other.0)))
    }
}

impl BitXor for U64x8 {
    type Output = U64x8;

    #[inline(always)]
    fn bitxor(self, other: U64x8) -> U64x8 {
        U64x8(avx512!(_mm512_xor_si512(self.0, other.0)))
    }
}

impl Words64 for U64x8 {
    #[inline(always)]
    fn rotate_right_32(self) -> U64x8 {
        U64x8(avx512!(_mm512_ror_epi64::<32>(self.0)))
    }

    #[inline(always)]
    fn rotate_right_24(self) -> U64x8 {
        U64x8(avx512!(_mm512_ror_epi64::<24>(self.0)))
    }

    #[inline(always)]
    fn rotate_right_16(self) -> U64x8 {
        U64x8(avx512!(_mm512_ror_epi64::<16>(self.0)))
    }

    #[inline(always)]
    fn rotate_right_63(self) -> U64x8 {
        U64x8(avx512!(_mm512_ror_epi64::<63>(self.0)))
    }

    #[inline(always)]
    fn store(self, words: &mut [u64]) {
        let words: &mut [u64; 8] = words.first_chunk_mut().expect("a word a lane");
        avx512!(_mm512_storeu_si512(words.as_mut_ptr().cast(), self.0));
    }
}
