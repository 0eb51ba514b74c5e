//! Vectors of plain arrays, as wide as one likes: what the operations mean. Tests compare the
//! instruction sets with it, and run kernels at the widths of CPUs that they do not run on.

use core::array;
use core::ops::{Add, BitAnd, BitXor};

use super::{Kernel, LANES_32_MAX, LANES_64_MAX, Simd, Words32, Words52, Words64};
use crate::bytes::{read_u32, read_u64};

/// As many lanes of 64 bits, and twice as many of 32 bits, as an instruction set may have.
#[derive(Clone, Copy)]
pub(crate) struct Plain<const LANES_64: usize>;

/// `N` words of 64 bits.
#[derive(Clone, Copy)]
pub(crate) struct Plain64<const N: usize>([u64; N]);

/// `2 * N` words of 32 bits, in pairs.
#[derive(Clone, Copy)]
pub(crate) struct Plain32<const N: usize>([[u32; 2]; N]);

impl<const N: usize> Plain32<N> {
    fn from_fn(word: impl Fn(usize) -> u32) -> Plain32<N> {
        Plain32(array::from_fn(|pair| [word(2 * pair), word(2 * pair + 1)]))
    }

    fn words(&self) -> &[u32] {
        self.0.as_flattened()
    }
}

impl<const LANES: usize> Simd for Plain<LANES> {
    type W64 = Plain64<LANES>;
    type W32 = Plain32<LANES>;

    const LANES_64: usize = LANES;
    const LANES_32: usize = 2 * LANES;

    fn vectorize<K: Kernel<Self>>(self, kernel: K) {
        kernel.run(self);
    }

    fn splat_64(self, word: u64) -> Plain64<LANES> {
        Plain64([word; LANES])
    }

    fn load_64(self, words: &[u64; LANES_64_MAX]) -> Plain64<LANES> {
        Plain64(array::from_fn(|lane| words[lane]))
    }

    fn columns_64(self, rows: &[&[u8; 128]]) -> [Plain64<LANES>; 16] {
        array::from_fn(|column| Plain64(array::from_fn(|row| read_u64(rows[row], 8 * column))))
    }

    fn pairs_64(self, pairs: &[[u8; 16]]) -> (Plain64<LANES>, Plain64<LANES>) {
        (
            Plain64(array::from_fn(|lane| read_u64(&pairs[lane], 0))),
            Plain64(array::from_fn(|lane| read_u64(&pairs[lane], 8))),
        )
    }

    fn splat_32(self, word: u32) -> Plain32<LANES> {
        Plain32::from_fn(|_| word)
    }

    fn load_32(self, words: &[u32; LANES_32_MAX]) -> Plain32<LANES> {
        Plain32::from_fn(|lane| words[lane])
    }

    fn columns_32(self, rows: &[&[u8; 64]; LANES_32_MAX]) -> [Plain32<LANES>; 16] {
        array::from_fn(|column| Plain32::from_fn(|row| read_u32(rows[row], 4 * column)))
    }

    fn rows_32(self, columns: &[Plain32<LANES>; 16], rows: &mut [[u8; 64]; LANES_32_MAX]) {
        for (lane, row) in rows[..2 * LANES].iter_mut().enumerate() {
            *row = zerocopy::transmute!(columns.map(|column| column.words()[lane].to_le_bytes()));
        }
    }

    fn xor_rows_32(self, columns: &[Plain32<LANES>; 16], rows: &mut [[u8; 64]]) {
        assert_eq!(rows.len(), 2 * LANES, "a row a lane");
        let mut others = [[0; 64]; LANES_32_MAX];
        self.rows_32(columns, &mut others);
        for (byte, other) in rows.as_flattened_mut().iter_mut().zip(others.as_flattened()) {
            *byte ^= other;
        }
    }
}

impl<const N: usize> Add for Plain64<N> {
    type Output = Plain64<N>;

    fn add(self, other: Plain64<N>) -> Plain64<N> {
        Plain64(array::from_fn(|lane| self.0[lane].wrapping_add(other.0[lane])))
    }
}

impl<const N: usize> BitXor for Plain64<N> {
    type Output = Plain64<N>;

    fn bitxor(self, other: Plain64<N>) -> Plain64<N> {
        Plain64(array::from_fn(|lane| self.0[lane] ^ other.0[lane]))
    }
}

impl<const N: usize> BitAnd for Plain64<N> {
    type Output = Plain64<N>;

    fn bitand(self, other: Plain64<N>) -> Plain64<N> {
        Plain64(array::from_fn(|lane| self.0[lane] & other.0[lane]))
    }
}

impl<const N: usize> Words64 for Plain64<N> {
    fn rotate_right_32(self) -> Plain64<N> {
        Plain64(self.0.map(|word| word.rotate_right(32)))
    }

    fn rotate_right_24(self) -> Plain64<N> {
        Plain64(self.0.map(|word| word.rotate_right(24)))
    }

    fn rotate_right_16(self) -> Plain64<N> {
        Plain64(self.0.map(|word| word.rotate_right(16)))
    }

    fn rotate_right_63(self) -> Plain64<N> {
        Plain64(self.0.map(|word| word.rotate_right(63)))
    }

    fn shift_left<const BITS: u32>(self) -> Plain64<N> {
        Plain64(self.0.map(|word| word << BITS))
    }

    fn shift_right<const BITS: u32>(self) -> Plain64<N> {
        Plain64(self.0.map(|word| word >> BITS))
    }

    fn multiply_low_halves(self, other: Plain64<N>) -> Plain64<N> {
        let low = |word: u64| u64::from(word as u32);
        Plain64(array::from_fn(|lane| low(self.0[lane]) * low(other.0[lane])))
    }

    fn store(self, words: &mut [u64; LANES_64_MAX]) {
        words[..N].copy_from_slice(&self.0);
    }
}

impl<const N: usize> Words52 for Plain64<N> {
    fn add_product_low(self, a: Plain64<N>, b: Plain64<N>) -> Plain64<N> {
        let low = |lane| product_52(a.0[lane], b.0[lane]) as u64 & MASK_52;
        Plain64(array::from_fn(|lane| self.0[lane].wrapping_add(low(lane))))
    }

    fn add_product_high(self, a: Plain64<N>, b: Plain64<N>) -> Plain64<N> {
        let high = |lane| (product_52(a.0[lane], b.0[lane]) >> 52) as u64;
        Plain64(array::from_fn(|lane| self.0[lane].wrapping_add(high(lane))))
    }
}

const MASK_52: u64 = (1 << 52) - 1;

fn product_52(a: u64, b: u64) -> u128 {
    u128::from(a & MASK_52) * u128::from(b & MASK_52)
}

impl<const N: usize> Add for Plain32<N> {
    type Output = Plain32<N>;

    fn add(self, other: Plain32<N>) -> Plain32<N> {
        Plain32::from_fn(|lane| self.words()[lane].wrapping_add(other.words()[lane]))
    }
}

impl<const N: usize> BitXor for Plain32<N> {
    type Output = Plain32<N>;

    fn bitxor(self, other: Plain32<N>) -> Plain32<N> {
        Plain32::from_fn(|lane| self.words()[lane] ^ other.words()[lane])
    }
}

impl<const N: usize> Words32 for Plain32<N> {
    fn rotate_left_16(self) -> Plain32<N> {
        Plain32::from_fn(|lane| self.words()[lane].rotate_left(16))
    }

    fn rotate_left_12(self) -> Plain32<N> {
        Plain32::from_fn(|lane| self.words()[lane].rotate_left(12))
    }

    fn rotate_left_8(self) -> Plain32<N> {
        Plain32::from_fn(|lane| self.words()[lane].rotate_left(8))
    }

    fn rotate_left_7(self) -> Plain32<N> {
        Plain32::from_fn(|lane| self.words()[lane].rotate_left(7))
    }
}
