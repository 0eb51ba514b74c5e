//! Vectors of plain arrays, as wide as one likes: what the operations mean. Tests compare the
//! instruction sets with it, and run kernels at the widths of CPUs that they do not run on.

use core::array;
use core::ops::{Add, BitXor};

use super::{Kernel, Simd, Words64};
use crate::bytes::read_u64;

/// As many lanes of 64 bits as an instruction set may have.
#[derive(Clone, Copy)]
pub(crate) struct Plain<const LANES_64: usize>;

/// `N` words of 64 bits.
#[derive(Clone, Copy)]
pub(crate) struct Plain64<const N: usize>(pub(crate) [u64; N]);

impl<const LANES: usize> Simd for Plain<LANES> {
    type W64 = Plain64<LANES>;

    const LANES_64: usize = LANES;

    fn vectorize<K: Kernel<Self>>(self, kernel: K) {
        kernel.run(self);
    }

    fn splat_64(self, word: u64) -> Plain64<LANES> {
        Plain64([word; LANES])
    }

    fn columns_64(self, rows: &[&[u8; 128]]) -> [Plain64<LANES>; 16] {
        array::from_fn(|column| Plain64(array::from_fn(|row| read_u64(rows[row], 8 * column))))
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

    fn store(self, words: &mut [u64]) {
        words[..N].copy_from_slice(&self.0);
    }
}
