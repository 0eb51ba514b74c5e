//! Vectors of words, over which the batch kernels are written once.
//!
//! A kernel implements [`Kernel`] for every [`Simd`]: it names no instruction set. Each instruction
//! set is a file with a value that proves that the CPU has it ([`Avx2`], [`Avx512`], [`Neon`]), the
//! two vector types and their operations. The value can only be had from the detection in
//! [`backend`](crate::backend), vectors can only be made from it, and so all operations are safe.
//!
//! [`Simd::vectorize`] is the only way into code that is compiled for an instruction set. Everything
//! that a kernel calls down to the operations must be `#[inline(always)]` and free of closures that
//! could stay calls: what is not inlined would be compiled without the instruction set, which gives
//! the same results slowly.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;
#[cfg(test)]
pub(crate) mod plain;
mod prefetch;
#[cfg(test)]
mod tests;

use core::ops::{Add, BitAnd, BitXor};

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
pub(crate) use neon::Neon;
pub(crate) use prefetch::prefetch;

use crate::primitives::blake2b;

/// The most lanes of 64-bit words that an instruction set has.
pub(crate) const LANES_64_MAX: usize = 8;
/// The most lanes of 32-bit words that an instruction set has.
pub(crate) const LANES_32_MAX: usize = 16;

/// An instruction set with vectors that this CPU has.
#[derive(Clone, Copy)]
pub(crate) enum Level {
    /// The proof of AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// The proof of AVX-512.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// The proof of NEON.
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    Neon(Neon),
}

impl Level {
    /// Lanes of 64-bit words.
    pub(crate) fn lanes_64(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => Avx2::LANES_64,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => Avx512::LANES_64,
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Level::Neon(_) => Neon::LANES_64,
        }
    }

    /// Runs a kernel compiled for this instruction set.
    pub(crate) fn run<K: WideKernel>(self, kernel: K) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(simd) => simd.vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(simd) => simd.vectorize(kernel),
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Level::Neon(simd) => simd.vectorize(kernel),
        }
    }
}

/// Code that is written over the vectors of an instruction set.
pub(crate) trait Kernel<S: Simd> {
    /// Does it. Implementations must be `#[inline(always)]`.
    fn run(self, simd: S);
}

/// A [`Kernel`] of every instruction set of the architecture.
#[cfg(target_arch = "x86_64")]
pub(crate) trait WideKernel: Kernel<Avx2> + Kernel<Avx512> {}
#[cfg(target_arch = "x86_64")]
impl<K: Kernel<Avx2> + Kernel<Avx512>> WideKernel for K {}

/// A [`Kernel`] of every instruction set of the architecture.
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
pub(crate) trait WideKernel: Kernel<Neon> {}
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
impl<K: Kernel<Neon>> WideKernel for K {}

/// A [`Kernel`] of every instruction set of the architecture: it has none.
#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little"))))]
pub(crate) trait WideKernel {}
#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little"))))]
impl<K> WideKernel for K {}

/// The proof that the CPU has an instruction set, and the vectors of that set.
///
/// In memory words are little-endian, whatever their lane.
pub(crate) trait Simd: Copy {
    /// Vectors of 64-bit words.
    type W64: Words64;
    /// Vectors of 32-bit words.
    type W32: Words32;

    /// Words of a [`Simd::W64`].
    const LANES_64: usize;
    /// Words of a [`Simd::W32`].
    const LANES_32: usize;

    /// Runs a kernel compiled for the instruction set.
    fn vectorize<K: Kernel<Self>>(self, kernel: K);

    /// The same word in each lane.
    fn splat_64(self, word: u64) -> Self::W64;

    /// Reads a vector: the first [`Simd::LANES_64`] words.
    fn load_64(self, words: &[u64; LANES_64_MAX]) -> Self::W64;

    /// The words of [`Simd::LANES_64`] rows, one row a lane: vector `i` has word `i` of each row.
    fn columns_64(self, rows: &[&[u8; 128]]) -> [Self::W64; 16];

    /// The first and the second words of pairs that lie side by side, one pair a lane, of which
    /// there are [`Simd::LANES_64`].
    fn pairs_64(self, pairs: &[[u8; 16]]) -> (Self::W64, Self::W64);

    /// The twelve rounds of BLAKE2b on its working vector (RFC 7693, 3.2), a message a lane.
    #[inline(always)]
    fn blake2b_rounds(self, v: &mut [Self::W64; 16], message: &[Self::W64; 16]) {
        blake2b::lanes::rounds(v, message);
    }

    /// The same word in each lane.
    fn splat_32(self, word: u32) -> Self::W32;

    /// Reads a vector: the first [`Simd::LANES_32`] words.
    fn load_32(self, words: &[u32; LANES_32_MAX]) -> Self::W32;

    /// The words of [`Simd::LANES_32`] rows, one row a lane: vector `i` has word `i` of each row.
    fn columns_32(self, rows: &[&[u8; 64]; LANES_32_MAX]) -> [Self::W32; 16];

    /// The rows of which [`Simd::columns_32`] makes these columns.
    fn rows_32(self, columns: &[Self::W32; 16], rows: &mut [[u8; 64]; LANES_32_MAX]);

    /// XORs these rows into others, of which there are [`Simd::LANES_32`].
    fn xor_rows_32(self, columns: &[Self::W32; 16], rows: &mut [[u8; 64]]);
}

/// A vector of 64-bit words. All operations work word by word; sums wrap.
pub(crate) trait Words64:
    Copy + Add<Output = Self> + BitXor<Output = Self> + BitAnd<Output = Self>
{
    /// Rotates right by 32 bits.
    fn rotate_right_32(self) -> Self;
    /// Rotates right by 24 bits.
    fn rotate_right_24(self) -> Self;
    /// Rotates right by 16 bits.
    fn rotate_right_16(self) -> Self;
    /// Rotates right by 63 bits.
    fn rotate_right_63(self) -> Self;
    /// Shifts to the left.
    fn shift_left<const BITS: u32>(self) -> Self;
    /// Shifts to the right, zeros in.
    fn shift_right<const BITS: u32>(self) -> Self;
    /// The products of the low halves of the words.
    fn multiply_low_halves(self, other: Self) -> Self;
    /// The same words, about which the compiler knows nothing any more.
    ///
    /// Where it can prove that the high halves are zero it forgets that a product is one of low
    /// halves, and later, when it does not see the proof any more, multiplies whole words.
    fn opaque(self) -> Self {
        self
    }
    /// Writes the words, one a lane, to the first places.
    fn store(self, words: &mut [u64; LANES_64_MAX]);
}

/// 64-bit words that can be multiplied as words of 52 bits.
#[cfg(any(target_arch = "x86_64", test))]
pub(crate) trait Words52: Words64 {
    /// Adds the low 52 bits of the products of the low 52 bits of the words.
    fn add_product_low(self, a: Self, b: Self) -> Self;
    /// Adds the high 52 bits of the products of the low 52 bits of the words.
    fn add_product_high(self, a: Self, b: Self) -> Self;
}

/// A vector of 32-bit words. All operations work word by word; sums wrap.
pub(crate) trait Words32: Copy + Add<Output = Self> + BitXor<Output = Self> {
    /// Rotates left by 16 bits.
    fn rotate_left_16(self) -> Self;
    /// Rotates left by 12 bits.
    fn rotate_left_12(self) -> Self;
    /// Rotates left by 8 bits.
    fn rotate_left_8(self) -> Self;
    /// Rotates left by 7 bits.
    fn rotate_left_7(self) -> Self;
}
