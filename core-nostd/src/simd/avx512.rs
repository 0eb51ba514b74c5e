//! AVX-512 as CPUs since Ice Lake and Zen 4 have it: eight lanes of 64 bits, sixteen of 32.
#![allow(unsafe_code)]

use core::arch::x86_64::*;
use core::ops::{Add, BitAnd, BitXor};

use super::{Kernel, LANES_32_MAX, LANES_64_MAX, Simd, Words32, Words52, Words64};

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

/// Sixteen words of 32 bits.
#[derive(Clone, Copy)]
pub(crate) struct U32x16(__m512i);

impl Simd for Avx512 {
    type W64 = U64x8;
    type W32 = U32x16;

    const LANES_64: usize = 8;
    const LANES_32: usize = 16;

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
    fn load_64(self, words: &[u64; LANES_64_MAX]) -> U64x8 {
        U64x8(avx512!(_mm512_loadu_si512(words.as_ptr().cast())))
    }

    #[inline(always)]
    fn columns_64(self, rows: &[&[u8; 128]]) -> [U64x8; 16] {
        let mut columns = [self.splat_64(0); 16];
        for at in 0..2 {
            let mut square = [self.splat_64(0).0; 8];
            for lane in 0..8 {
                square[lane] = load(rows[lane], at);
            }
            let square = transpose_64(square);
            for i in 0..8 {
                columns[8 * at + i] = U64x8(square[i]);
            }
        }
        columns
    }

    #[inline(always)]
    fn pairs_64(self, pairs: &[[u8; 16]]) -> (U64x8, U64x8) {
        let bytes: &[u8; 128] = pairs.as_flattened().first_chunk().expect("a pair a lane");
        let (ad, eh) = (load(bytes, 0), load(bytes, 1));
        avx512!({
            let first = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
            let second = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
            (
                U64x8(_mm512_permutex2var_epi64(ad, first, eh)),
                U64x8(_mm512_permutex2var_epi64(ad, second, eh)),
            )
        })
    }

    #[inline(always)]
    fn splat_32(self, word: u32) -> U32x16 {
        U32x16(avx512!(_mm512_set1_epi32(word as i32)))
    }

    #[inline(always)]
    fn load_32(self, words: &[u32; LANES_32_MAX]) -> U32x16 {
        U32x16(avx512!(_mm512_loadu_si512(words.as_ptr().cast())))
    }

    #[inline(always)]
    fn columns_32(self, rows: &[&[u8; 64]; LANES_32_MAX]) -> [U32x16; 16] {
        let mut columns = [self.load_32(&[0; LANES_32_MAX]); 16];
        for lane in 0..16 {
            columns[lane].0 = load(rows[lane], 0);
        }
        transpose_32(columns)
    }

    #[inline(always)]
    fn rows_32(self, columns: &[U32x16; 16], rows: &mut [[u8; 64]; LANES_32_MAX]) {
        let square = transpose_32(*columns);
        for lane in 0..16 {
            avx512!(_mm512_storeu_si512(rows[lane].as_mut_ptr().cast(), square[lane].0));
        }
    }

    #[inline(always)]
    fn xor_rows_32(self, columns: &[U32x16; 16], rows: &mut [[u8; 64]]) {
        let rows: &mut [[u8; 64]; 16] = rows.try_into().expect("a row a lane");
        let square = transpose_32(*columns);
        for lane in 0..16 {
            let sum = avx512!(_mm512_xor_si512(load(&rows[lane], 0), square[lane].0));
            avx512!(_mm512_storeu_si512(rows[lane].as_mut_ptr().cast(), sum));
        }
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
fn transpose_64([a, b, c, d, e, f, g, h]: [__m512i; 8]) -> [__m512i; 8] {
    avx512!({
        // In each quarter of a register one word of two rows.
        let (ab_even, ab_odd) = (_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
        let (cd_even, cd_odd) = (_mm512_unpacklo_epi64(c, d), _mm512_unpackhi_epi64(c, d));
        let (ef_even, ef_odd) = (_mm512_unpacklo_epi64(e, f), _mm512_unpackhi_epi64(e, f));
        let (gh_even, gh_odd) = (_mm512_unpacklo_epi64(g, h), _mm512_unpackhi_epi64(g, h));
        let [c0, c2, c4, c6] = transpose_quarters([ab_even, cd_even, ef_even, gh_even]);
        let [c1, c3, c5, c7] = transpose_quarters([ab_odd, cd_odd, ef_odd, gh_odd]);
        [c0, c1, c2, c3, c4, c5, c6, c7]
    })
}

/// A square of 16 x 16 words with rows and columns exchanged.
#[inline(always)]
fn transpose_32(square: [U32x16; 16]) -> [U32x16; 16] {
    // In each quarter of a register one word of four rows: of words 0, 4, 8 and 12 in the first
    // register, and so on to those of words 3, 7, 11 and 15.
    let a = transpose_quarters_32([square[0], square[1], square[2], square[3]]);
    let b = transpose_quarters_32([square[4], square[5], square[6], square[7]]);
    let c = transpose_quarters_32([square[8], square[9], square[10], square[11]]);
    let d = transpose_quarters_32([square[12], square[13], square[14], square[15]]);
    let mut columns = square;
    for i in 0..4 {
        let of_fours = transpose_quarters([a[i], b[i], c[i], d[i]]);
        for j in 0..4 {
            columns[4 * j + i] = U32x16(of_fours[j]);
        }
    }
    columns
}

/// In each quarter of four registers a square of 4 x 4 words, with rows and columns exchanged.
#[inline(always)]
fn transpose_quarters_32([a, b, c, d]: [U32x16; 4]) -> [__m512i; 4] {
    avx512!({
        let (ab_01, ab_23) = (_mm512_unpacklo_epi32(a.0, b.0), _mm512_unpackhi_epi32(a.0, b.0));
        let (cd_01, cd_23) = (_mm512_unpacklo_epi32(c.0, d.0), _mm512_unpackhi_epi32(c.0, d.0));
        [
            _mm512_unpacklo_epi64(ab_01, cd_01),
            _mm512_unpackhi_epi64(ab_01, cd_01),
            _mm512_unpacklo_epi64(ab_23, cd_23),
            _mm512_unpackhi_epi64(ab_23, cd_23),
        ]
    })
}

/// A square of 4 x 4 quarters of registers with rows and columns exchanged.
#[inline(always)]
fn transpose_quarters([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    avx512!({
        let ab_02 = _mm512_shuffle_i64x2::<0b10_00_10_00>(a, b);
        let ab_13 = _mm512_shuffle_i64x2::<0b11_01_11_01>(a, b);
        let cd_02 = _mm512_shuffle_i64x2::<0b10_00_10_00>(c, d);
        let cd_13 = _mm512_shuffle_i64x2::<0b11_01_11_01>(c, d);
        [
            _mm512_shuffle_i64x2::<0b10_00_10_00>(ab_02, cd_02),
            _mm512_shuffle_i64x2::<0b10_00_10_00>(ab_13, cd_13),
            _mm512_shuffle_i64x2::<0b11_01_11_01>(ab_02, cd_02),
            _mm512_shuffle_i64x2::<0b11_01_11_01>(ab_13, cd_13),
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

impl BitAnd for U64x8 {
    type Output = U64x8;

    #[inline(always)]
    fn bitand(self, other: U64x8) -> U64x8 {
        U64x8(avx512!(_mm512_and_si512(self.0, other.0)))
    }
}

impl Words52 for U64x8 {
    #[inline(always)]
    fn add_product_low(self, a: U64x8, b: U64x8) -> U64x8 {
        U64x8(avx512!(_mm512_madd52lo_epu64(self.0, a.0, b.0)))
    }

    #[inline(always)]
    fn add_product_high(self, a: U64x8, b: U64x8) -> U64x8 {
        U64x8(avx512!(_mm512_madd52hi_epu64(self.0, a.0, b.0)))
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
    fn shift_left<const BITS: u32>(self) -> U64x8 {
        U64x8(avx512!(_mm512_slli_epi64::<BITS>(self.0)))
    }

    #[inline(always)]
    fn shift_right<const BITS: u32>(self) -> U64x8 {
        U64x8(avx512!(_mm512_srli_epi64::<BITS>(self.0)))
    }

    #[inline(always)]
    fn multiply_low_halves(self, other: U64x8) -> U64x8 {
        U64x8(avx512!(_mm512_mul_epu32(self.0, other.0)))
    }

    #[inline(always)]
    fn store(self, words: &mut [u64; LANES_64_MAX]) {
        avx512!(_mm512_storeu_si512(words.as_mut_ptr().cast(), self.0));
    }
}

impl Add for U32x16 {
    type Output = U32x16;

    #[inline(always)]
    fn add(self, other: U32x16) -> U32x16 {
        U32x16(avx512!(_mm512_add_epi32(self.0, other.0)))
    }
}

impl BitXor for U32x16 {
    type Output = U32x16;

    #[inline(always)]
    fn bitxor(self, other: U32x16) -> U32x16 {
        U32x16(avx512!(_mm512_xor_si512(self.0, other.0)))
    }
}

impl Words32 for U32x16 {
    #[inline(always)]
    fn rotate_left_16(self) -> U32x16 {
        U32x16(avx512!(_mm512_rol_epi32::<16>(self.0)))
    }

    #[inline(always)]
    fn rotate_left_12(self) -> U32x16 {
        U32x16(avx512!(_mm512_rol_epi32::<12>(self.0)))
    }

    #[inline(always)]
    fn rotate_left_8(self) -> U32x16 {
        U32x16(avx512!(_mm512_rol_epi32::<8>(self.0)))
    }

    #[inline(always)]
    fn rotate_left_7(self) -> U32x16 {
        U32x16(avx512!(_mm512_rol_epi32::<7>(self.0)))
    }
}
