//! Every operation of every instruction set of this CPU against plain arrays.

use std::vec::Vec;

use super::plain::Plain;
use super::{Kernel, LANES_32_MAX, LANES_64_MAX, Simd, Words32, Words64};
use crate::Backend;
use crate::primitives::expand;

/// Random bytes, and words at the edges of what additions and rotations do.
fn rows() -> Vec<[u8; 128]> {
    let mut rows = std::vec![[0; 128]; 2 * LANES_64_MAX];
    for (num, row) in (0..).zip(&mut rows) {
        expand(&[5; 32], num, row);
    }
    rows[1][..16].fill(0xff);
    rows[2][8..24].fill(0);
    rows
}

/// The results of all operations, as bytes in the order of the lanes.
struct Operations<'a> {
    rows: &'a [[u8; 128]],
    results: &'a mut Vec<u8>,
}

impl Operations<'_> {
    fn keep_64(&mut self, vector: impl Words64, lanes: usize) {
        let mut words = [0; LANES_64_MAX];
        vector.store(&mut words);
        words[..lanes].iter().for_each(|word| self.results.extend(word.to_le_bytes()));
    }

    fn words_64<S: Simd>(&mut self, simd: S) {
        let rows: Vec<&[u8; 128]> = self.rows.iter().collect();
        let first = simd.columns_64(&rows[..S::LANES_64]);
        let second = simd.columns_64(&rows[S::LANES_64..2 * S::LANES_64]);
        for (a, b) in first.into_iter().zip(second) {
            self.keep_64(a, S::LANES_64);
            self.keep_64(a + b, S::LANES_64);
            self.keep_64(a ^ b, S::LANES_64);
            self.keep_64(a & b, S::LANES_64);
            self.keep_64(a ^ simd.splat_64(0x0123_4567_89ab_cdef), S::LANES_64);
            self.keep_64(a.rotate_right_32(), S::LANES_64);
            self.keep_64(a.rotate_right_24(), S::LANES_64);
            self.keep_64(a.rotate_right_16(), S::LANES_64);
            self.keep_64(a.rotate_right_63(), S::LANES_64);
            self.keep_64(a.shift_left::<12>(), S::LANES_64);
            self.keep_64(a.shift_right::<26>(), S::LANES_64);
            self.keep_64(a.multiply_low_halves(b), S::LANES_64);
        }
        let (pairs, _) = self.rows[3].as_chunks();
        let (a, b) = simd.pairs_64(pairs);
        self.keep_64(a, S::LANES_64);
        self.keep_64(b, S::LANES_64);
        self.keep_64(simd.load_64(&[1, 2, 3, 4, 5, 6, 7, 8]), S::LANES_64);
    }

    fn keep_32<S: Simd>(&mut self, simd: S, columns: [S::W32; 16]) {
        let mut rows = [[0; 64]; LANES_32_MAX];
        simd.rows_32(&columns, &mut rows);
        rows[..S::LANES_32].iter().for_each(|row| self.results.extend(row));
    }

    fn words_32<S: Simd>(&mut self, simd: S) {
        let rows = |at: usize| {
            let mut rows = [&[0; 64]; LANES_32_MAX];
            for (row, long) in rows.iter_mut().zip(self.rows) {
                *row = long[at..].first_chunk().expect("longer rows");
            }
            rows
        };
        let a = simd.columns_32(&rows(0));
        let b = simd.columns_32(&rows(64));
        self.keep_32(simd, a);
        let mut rows = [[0x5a; 64]; LANES_32_MAX];
        simd.xor_rows_32(&a, &mut rows[..S::LANES_32]);
        rows.iter().for_each(|row| self.results.extend(row));
        self.keep_32(simd, core::array::from_fn(|i| a[i] + b[i]));
        self.keep_32(simd, core::array::from_fn(|i| a[i] ^ b[i]));
        self.keep_32(simd, a.map(Words32::rotate_left_16));
        self.keep_32(simd, a.map(Words32::rotate_left_12));
        self.keep_32(simd, a.map(Words32::rotate_left_8));
        self.keep_32(simd, a.map(Words32::rotate_left_7));
        let counting = simd.load_32(&core::array::from_fn(|lane| lane as u32));
        self.keep_32(simd, [counting; 16]);
        self.keep_32(simd, [simd.splat_32(0x0123_4567); 16]);
    }
}

impl<S: Simd> Kernel<S> for Operations<'_> {
    fn run(mut self, simd: S) {
        self.words_64(simd);
        self.words_32(simd);
    }
}

#[test]
fn operations_are_those_of_plain_arrays() {
    let rows = rows();
    for backend in Backend::available() {
        let Some(level) = backend.level() else { continue };
        let (mut results, mut plain) = (Vec::new(), Vec::new());
        let operations = Operations { rows: &rows, results: &mut plain };
        match level.lanes_64() {
            2 => Plain::<2>.vectorize(operations),
            4 => Plain::<4>.vectorize(operations),
            8 => Plain::<8>.vectorize(operations),
            lanes => panic!("no plain arrays of {lanes} lanes"),
        }
        level.run(Operations { rows: &rows, results: &mut results });
        assert!(!plain.is_empty() && results == plain, "{backend}");
    }
}

/// The products of 52-bit words, of the instruction sets that have them.
#[cfg(target_arch = "x86_64")]
#[test]
fn products_of_52_bits_are_those_of_plain_arrays() {
    use super::{Level, Words52};

    struct Products<'a> {
        rows: &'a [[u8; 128]],
        results: &'a mut Vec<[u64; LANES_64_MAX]>,
    }

    impl<S: Simd<W64: Words52>> Kernel<S> for Products<'_> {
        fn run(self, simd: S) {
            let rows: Vec<&[u8; 128]> = self.rows.iter().collect();
            for [a, b, c, ..] in rows.windows(S::LANES_64).map(|rows| simd.columns_64(rows)) {
                for result in [a.add_product_low(b, c), a.add_product_high(b, c)] {
                    let mut words = [0; LANES_64_MAX];
                    result.store(&mut words);
                    self.results.push(words);
                }
            }
        }
    }

    let rows = rows();
    let (mut results, mut plain) = (Vec::new(), Vec::new());
    if let Some(Level::Avx512(simd)) = Backend::Avx512.level() {
        simd.vectorize(Products { rows: &rows, results: &mut results });
        Plain::<8>.vectorize(Products { rows: &rows, results: &mut plain });
    }
    assert_eq!(results, plain);
}
