//! Every operation of every instruction set of this CPU against plain arrays.

use std::vec::Vec;

use super::plain::Plain;
use super::{Kernel, LANES_64_MAX, Simd, Words64};
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

/// The results of all operations, as words in the order of the lanes.
struct Operations<'a> {
    rows: &'a [[u8; 128]],
    results: &'a mut Vec<u64>,
}

impl<S: Simd> Kernel<S> for Operations<'_> {
    fn run(self, simd: S) {
        let mut keep = |vector: S::W64| {
            let mut words = [0; LANES_64_MAX];
            vector.store(&mut words[..S::LANES_64]);
            self.results.extend_from_slice(&words[..S::LANES_64]);
        };
        let rows: Vec<&[u8; 128]> = self.rows.iter().collect();
        let first = simd.columns_64(&rows[..S::LANES_64]);
        let second = simd.columns_64(&rows[S::LANES_64..2 * S::LANES_64]);
        for (a, b) in first.into_iter().zip(second) {
            keep(a);
            keep(a + b);
            keep(a ^ b);
            keep(a ^ simd.splat_64(0x0123_4567_89ab_cdef));
            keep(a.rotate_right_32());
            keep(a.rotate_right_24());
            keep(a.rotate_right_16());
            keep(a.rotate_right_63());
        }
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
