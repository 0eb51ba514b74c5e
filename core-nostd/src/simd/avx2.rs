//! AVX2: four lanes of 64 bits, eight of 32.
#![allow(unsafe_code)]

mod blake2b;

use core::arch::asm;
use core::arch::x86_64::*;
use core::ops::{Add, BitAnd, BitXor};

use super::{Kernel, LANES_32_MAX, LANES_64_MAX, Simd, Words32, Words64};

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
#[repr(transparent)]
pub(crate) struct U64x4(__m256i);

/// Eight words of 32 bits.
#[derive(Clone, Copy)]
pub(crate) struct U32x8(__m256i);

impl Simd for Avx2 {
    type W64 = U64x4;
    type W32 = U32x8;

    const LANES_64: usize = 4;
    const LANES_32: usize = 8;

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
    fn load_64(self, words: &[u64; LANES_64_MAX]) -> U64x4 {
        U64x4(avx2!(_mm256_loadu_si256(words.as_ptr().cast())))
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

    #[inline(always)]
    fn pairs_64(self, pairs: &[[u8; 16]]) -> (U64x4, U64x4) {
        let bytes: &[u8; 64] = pairs.as_flattened().first_chunk().expect("a pair a lane");
        let (ab, cd) = (load(bytes, 0), load(bytes, 1));
        avx2!((
            U64x4(_mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_unpacklo_epi64(ab, cd))),
            U64x4(_mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_unpackhi_epi64(ab, cd))),
        ))
    }

    #[inline(always)]
    fn blake2b_rounds(self, v: &mut [U64x4; 16], message: &[U64x4; 16]) {
        avx2!(blake2b::rounds(v, message));
    }

    #[inline(always)]
    fn splat_32(self, word: u32) -> U32x8 {
        U32x8(avx2!(_mm256_set1_epi32(word as i32)))
    }

    #[inline(always)]
    fn load_32(self, words: &[u32; LANES_32_MAX]) -> U32x8 {
        U32x8(avx2!(_mm256_loadu_si256(words.as_ptr().cast())))
    }

    #[inline(always)]
    fn columns_32(self, rows: &[&[u8; 64]; LANES_32_MAX]) -> [U32x8; 16] {
        let mut columns = [self.load_32(&[0; LANES_32_MAX]); 16];
        for at in 0..2 {
            let mut square = [columns[0].0; 8];
            for lane in 0..8 {
                square[lane] = load(rows[lane], at);
            }
            let square = transpose_32(square);
            for i in 0..8 {
                columns[8 * at + i] = U32x8(square[i]);
            }
        }
        columns
    }

    #[inline(always)]
    fn rows_32(self, columns: &[U32x8; 16], rows: &mut [[u8; 64]; LANES_32_MAX]) {
        for at in 0..2 {
            let square = square_32(columns, at);
            for lane in 0..8 {
                store(&mut rows[lane], at, square[lane]);
            }
        }
    }

    #[inline(always)]
    fn xor_rows_32(self, columns: &[U32x8; 16], rows: &mut [[u8; 64]]) {
        let rows: &mut [[u8; 64]; 8] = rows.try_into().expect("a row a lane");
        for at in 0..2 {
            let square = square_32(columns, at);
            for lane in 0..8 {
                let sum = avx2!(_mm256_xor_si256(load(&rows[lane], at), square[lane]));
                store(&mut rows[lane], at, sum);
            }
        }
    }
}

/// The `at`-th 32 bytes of a row.
#[inline(always)]
fn load<const BYTES: usize>(row: &[u8; BYTES], at: usize) -> __m256i {
    let (chunks, _) = row.as_chunks::<32>();
    let chunk: &[u8; 32] = &chunks[at];
    avx2!(_mm256_loadu_si256(chunk.as_ptr().cast()))
}

/// Writes the `at`-th 32 bytes of a row.
#[inline(always)]
fn store(row: &mut [u8; 64], at: usize, words: __m256i) {
    let chunk: &mut [u8; 32] = &mut row.as_chunks_mut().0[at];
    avx2!(_mm256_storeu_si256(chunk.as_mut_ptr().cast(), words));
}

/// The `at`-th 32 bytes of the rows of these columns.
#[inline(always)]
fn square_32(columns: &[U32x8; 16], at: usize) -> [__m256i; 8] {
    let mut square = [columns[0].0; 8];
    for i in 0..8 {
        square[i] = columns[8 * at + i].0;
    }
    transpose_32(square)
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

/// A square of 8 x 8 words with rows and columns exchanged.
#[inline(always)]
fn transpose_32([a, b, c, d, e, f, g, h]: [__m256i; 8]) -> [__m256i; 8] {
    avx2!({
        // In each half of a register: two words of two rows, then one word of four rows.
        let (ab_01, ab_23) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let (cd_01, cd_23) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        let (ef_01, ef_23) = (_mm256_unpacklo_epi32(e, f), _mm256_unpackhi_epi32(e, f));
        let (gh_01, gh_23) = (_mm256_unpacklo_epi32(g, h), _mm256_unpackhi_epi32(g, h));
        let (ad_0, ad_1) =
            (_mm256_unpacklo_epi64(ab_01, cd_01), _mm256_unpackhi_epi64(ab_01, cd_01));
        let (ad_2, ad_3) =
            (_mm256_unpacklo_epi64(ab_23, cd_23), _mm256_unpackhi_epi64(ab_23, cd_23));
        let (eh_0, eh_1) =
            (_mm256_unpacklo_epi64(ef_01, gh_01), _mm256_unpackhi_epi64(ef_01, gh_01));
        let (eh_2, eh_3) =
            (_mm256_unpacklo_epi64(ef_23, gh_23), _mm256_unpackhi_epi64(ef_23, gh_23));
        [
            _mm256_permute2x128_si256::<0x20>(ad_0, eh_0),
            _mm256_permute2x128_si256::<0x20>(ad_1, eh_1),
            _mm256_permute2x128_si256::<0x20>(ad_2, eh_2),
            _mm256_permute2x128_si256::<0x20>(ad_3, eh_3),
            _mm256_permute2x128_si256::<0x31>(ad_0, eh_0),
            _mm256_permute2x128_si256::<0x31>(ad_1, eh_1),
            _mm256_permute2x128_si256::<0x31>(ad_2, eh_2),
            _mm256_permute2x128_si256::<0x31>(ad_3, eh_3),
        ]
    })
}

/// An order of the bytes in each half of a register.
#[repr(align(32))]
struct Order(#[expect(dead_code, reason = "read by instructions")] [[u8; 16]; 2]);

/// Rotates words of 64 bits right by 16.
static ROTATE_64_16: Order = Order([[2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9]; 2]);
/// Rotates words of 32 bits by 16.
static ROTATE_32_16: Order = Order([[2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13]; 2]);

/// Shuffles bytes in one instruction. Of the intrinsic with one of the constant orders here the
/// compiler makes two shuffles of 16-bit words, and shuffles are what the kernels wait for.
macro_rules! shuffle_bytes {
    ($name:ident, $order:ident) => {
        #[inline]
        #[target_feature(enable = "avx2")]
        fn $name(words: __m256i) -> __m256i {
            let shuffled;
            // SAFETY: reads a static that is as long and as aligned as a register.
            unsafe {
                asm!(
                    "vpshufb {shuffled}, {words}, ymmword ptr [rip + {order}]",
                    shuffled = lateout(ymm_reg) shuffled,
                    words = in(ymm_reg) words,
                    order = sym $order,
                    options(pure, readonly, nostack, preserves_flags)
                );
            }
            shuffled
        }
    };
}
shuffle_bytes!(rotate_64_16, ROTATE_64_16);
shuffle_bytes!(rotate_32_16, ROTATE_32_16);

#[inline]
#[target_feature(enable = "avx2")]
fn opaque(words: __m256i) -> __m256i {
    let mut words = words;
    // SAFETY: does nothing.
    unsafe {
        asm!("/* {0} */", inout(ymm_reg) words, options(pure, nomem, nostack, preserves_flags));
    }
    words
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

impl BitAnd for U64x4 {
    type Output = U64x4;

    #[inline(always)]
    fn bitand(self, other: U64x4) -> U64x4 {
        U64x4(avx2!(_mm256_and_si256(self.0, other.0)))
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
        U64x4(avx2!(rotate_64_16(self.0)))
    }

    #[inline(always)]
    fn rotate_right_63(self) -> U64x4 {
        U64x4(avx2!(_mm256_or_si256(
            _mm256_srli_epi64::<63>(self.0),
            _mm256_add_epi64(self.0, self.0)
        )))
    }

    #[inline(always)]
    fn shift_left<const BITS: u32>(self) -> U64x4 {
        // The count is a constant: one instruction.
        U64x4(avx2!(_mm256_sll_epi64(self.0, _mm_cvtsi64_si128(BITS as i64))))
    }

    #[inline(always)]
    fn shift_right<const BITS: u32>(self) -> U64x4 {
        U64x4(avx2!(_mm256_srl_epi64(self.0, _mm_cvtsi64_si128(BITS as i64))))
    }

    #[inline(always)]
    fn multiply_low_halves(self, other: U64x4) -> U64x4 {
        U64x4(avx2!(_mm256_mul_epu32(self.0, other.0)))
    }

    #[inline(always)]
    fn opaque(self) -> U64x4 {
        U64x4(avx2!(opaque(self.0)))
    }

    #[inline(always)]
    fn store(self, words: &mut [u64; LANES_64_MAX]) {
        avx2!(_mm256_storeu_si256(words.as_mut_ptr().cast(), self.0));
    }
}

impl Add for U32x8 {
    type Output = U32x8;

    #[inline(always)]
    fn add(self, other: U32x8) -> U32x8 {
        U32x8(avx2!(_mm256_add_epi32(self.0, other.0)))
    }
}

impl BitXor for U32x8 {
    type Output = U32x8;

    #[inline(always)]
    fn bitxor(self, other: U32x8) -> U32x8 {
        U32x8(avx2!(_mm256_xor_si256(self.0, other.0)))
    }
}

impl Words32 for U32x8 {
    #[inline(always)]
    fn rotate_left_16(self) -> U32x8 {
        U32x8(avx2!(rotate_32_16(self.0)))
    }

    #[inline(always)]
    fn rotate_left_12(self) -> U32x8 {
        U32x8(avx2!(_mm256_or_si256(
            _mm256_slli_epi32::<12>(self.0),
            _mm256_srli_epi32::<20>(self.0)
        )))
    }

    #[inline(always)]
    fn rotate_left_8(self) -> U32x8 {
        U32x8(avx2!({
            let order = _mm_setr_epi8(3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14);
            _mm256_shuffle_epi8(self.0, _mm256_broadcastsi128_si256(order))
        }))
    }

    #[inline(always)]
    fn rotate_left_7(self) -> U32x8 {
        U32x8(avx2!(_mm256_or_si256(
            _mm256_slli_epi32::<7>(self.0),
            _mm256_srli_epi32::<25>(self.0)
        )))
    }
}
