//! NEON: two lanes of 64 bits, four of 32.
#![allow(unsafe_code)]

use core::arch::aarch64::*;
use core::ops::{Add, BitAnd, BitXor};

use super::{Kernel, LANES_32_MAX, LANES_64_MAX, Simd, Words32, Words64};

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

/// Four words of 32 bits.
#[derive(Clone, Copy)]
pub(crate) struct U32x4(uint32x4_t);

impl Simd for Neon {
    type W64 = U64x2;
    type W32 = U32x4;

    const LANES_64: usize = 2;
    const LANES_32: usize = 4;

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
    fn load_64(self, words: &[u64; LANES_64_MAX]) -> U64x2 {
        U64x2(neon!(vld1q_u64(words.as_ptr())))
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

    #[inline(always)]
    fn pairs_64(self, pairs: &[[u8; 16]]) -> (U64x2, U64x2) {
        let bytes: &[u8; 32] = pairs.as_flattened().first_chunk().expect("a pair a lane");
        let (a, b) = (load(bytes, 0), load(bytes, 1));
        neon!((U64x2(vtrn1q_u64(a, b)), U64x2(vtrn2q_u64(a, b))))
    }

    #[inline(always)]
    fn splat_32(self, word: u32) -> U32x4 {
        U32x4(neon!(vdupq_n_u32(word)))
    }

    #[inline(always)]
    fn load_32(self, words: &[u32; LANES_32_MAX]) -> U32x4 {
        U32x4(neon!(vld1q_u32(words.as_ptr())))
    }

    #[inline(always)]
    fn columns_32(self, rows: &[&[u8; 64]; LANES_32_MAX]) -> [U32x4; 16] {
        let mut columns = [self.load_32(&[0; LANES_32_MAX]); 16];
        for at in 0..4 {
            let mut square = [load(rows[0], at); 4];
            for lane in 1..4 {
                square[lane] = load(rows[lane], at);
            }
            let square = transpose_32(square);
            for i in 0..4 {
                columns[4 * at + i] = U32x4(neon!(vreinterpretq_u32_u64(square[i])));
            }
        }
        columns
    }

    #[inline(always)]
    fn rows_32(self, columns: &[U32x4; 16], rows: &mut [[u8; 64]; LANES_32_MAX]) {
        for at in 0..4 {
            let square = square_32(columns, at);
            for lane in 0..4 {
                store(&mut rows[lane], at, square[lane]);
            }
        }
    }

    #[inline(always)]
    fn xor_rows_32(self, columns: &[U32x4; 16], rows: &mut [[u8; 64]]) {
        let rows: &mut [[u8; 64]; 4] = rows.try_into().expect("a row a lane");
        for at in 0..4 {
            let square = square_32(columns, at);
            for lane in 0..4 {
                let sum = neon!(veorq_u64(load(&rows[lane], at), square[lane]));
                store(&mut rows[lane], at, sum);
            }
        }
    }
}

/// Writes the `at`-th 16 bytes of a row.
#[inline(always)]
fn store(row: &mut [u8; 64], at: usize, words: uint64x2_t) {
    let chunk: &mut [u8; 16] = &mut row.as_chunks_mut().0[at];
    neon!(vst1q_u8(chunk.as_mut_ptr(), vreinterpretq_u8_u64(words)));
}

/// The `at`-th 16 bytes of the rows of these columns.
#[inline(always)]
fn square_32(columns: &[U32x4; 16], at: usize) -> [uint64x2_t; 4] {
    let mut square = [neon!(vreinterpretq_u64_u32(columns[4 * at].0)); 4];
    for i in 1..4 {
        square[i] = neon!(vreinterpretq_u64_u32(columns[4 * at + i].0));
    }
    transpose_32(square)
}

/// A square of 4 x 4 words of 32 bits with rows and columns exchanged.
#[inline(always)]
fn transpose_32([a, b, c, d]: [uint64x2_t; 4]) -> [uint64x2_t; 4] {
    neon!({
        let (a, b) = (vreinterpretq_u32_u64(a), vreinterpretq_u32_u64(b));
        let (c, d) = (vreinterpretq_u32_u64(c), vreinterpretq_u32_u64(d));
        let ab_02 = vreinterpretq_u64_u32(vtrn1q_u32(a, b));
        let ab_13 = vreinterpretq_u64_u32(vtrn2q_u32(a, b));
        let cd_02 = vreinterpretq_u64_u32(vtrn1q_u32(c, d));
        let cd_13 = vreinterpretq_u64_u32(vtrn2q_u32(c, d));
        [
            vtrn1q_u64(ab_02, cd_02),
            vtrn1q_u64(ab_13, cd_13),
            vtrn2q_u64(ab_02, cd_02),
            vtrn2q_u64(ab_13, cd_13),
        ]
    })
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

impl BitAnd for U64x2 {
    type Output = U64x2;

    #[inline(always)]
    fn bitand(self, other: U64x2) -> U64x2 {
        U64x2(neon!(vandq_u64(self.0, other.0)))
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
    fn shift_left<const BITS: u32>(self) -> U64x2 {
        // The count is a constant: one instruction.
        U64x2(neon!(vshlq_u64(self.0, vdupq_n_s64(BITS as i64))))
    }

    #[inline(always)]
    fn shift_right<const BITS: u32>(self) -> U64x2 {
        U64x2(neon!(vshlq_u64(self.0, vdupq_n_s64(-(BITS as i64)))))
    }

    #[inline(always)]
    fn multiply_low_halves(self, other: U64x2) -> U64x2 {
        U64x2(neon!(vmull_u32(vmovn_u64(self.0), vmovn_u64(other.0))))
    }

    #[inline(always)]
    fn store(self, words: &mut [u64; LANES_64_MAX]) {
        neon!(vst1q_u64(words.as_mut_ptr(), self.0));
    }
}

impl Add for U32x4 {
    type Output = U32x4;

    #[inline(always)]
    fn add(self, other: U32x4) -> U32x4 {
        U32x4(neon!(vaddq_u32(self.0, other.0)))
    }
}

impl BitXor for U32x4 {
    type Output = U32x4;

    #[inline(always)]
    fn bitxor(self, other: U32x4) -> U32x4 {
        U32x4(neon!(veorq_u32(self.0, other.0)))
    }
}

impl Words32 for U32x4 {
    #[inline(always)]
    fn rotate_left_16(self) -> U32x4 {
        U32x4(neon!(vreinterpretq_u32_u16(vrev32q_u16(vreinterpretq_u16_u32(self.0)))))
    }

    #[inline(always)]
    fn rotate_left_12(self) -> U32x4 {
        U32x4(neon!(vsriq_n_u32::<20>(vshlq_n_u32::<12>(self.0), self.0)))
    }

    #[inline(always)]
    fn rotate_left_8(self) -> U32x4 {
        U32x4(neon!(vsriq_n_u32::<24>(vshlq_n_u32::<8>(self.0), self.0)))
    }

    #[inline(always)]
    fn rotate_left_7(self) -> U32x4 {
        U32x4(neon!(vsriq_n_u32::<25>(vshlq_n_u32::<7>(self.0), self.0)))
    }
}
