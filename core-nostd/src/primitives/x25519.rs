//! X25519 of RFC 7748 (spec 01, 4): clamps the scalar and ignores bit 255 of the coordinate.
//!
//! # Two multiplications in one
//!
//! A block nonce needs X25519(a, X25519(b, 9)) (spec 03, 1.4). With A and B for the clamped scalars
//! and P for the base point, u = 9, that is the coordinate u of `[AB mod L]P`, one multiplication of
//! a fixed point, which [`base_products`] does:
//!
//! * P has the prime order L, so `[B]P` is in its group, and `[A][B]P = [AB]P = [AB mod L]P`. That
//!   A and B are multiples of the cofactor 8 is of no use here: no point outside of the group comes
//!   in.
//! * X25519(b, 9) hands on u of `[B]P` and loses the sign of its other coordinate. u of `[A]Q` and
//!   of `[A](-Q)` are the same, so nothing depends on it, and k or -k modulo L may be multiplied by.
//! * u is written as a number below p, so ignoring bit 255 of it changes nothing.
//! * The neutral point, which has no u and is written as 0, does not occur. A clamped scalar is a
//!   positive multiple of 8 below 2^255, L is odd, and 8L is above 2^255: so L divides neither A nor
//!   B, and being prime not AB. The point (0, 0) with u = 0 is of order 2 and not in the group.
//!
//! Nothing of it is secret: nonces, announcements and headers are all published. So nothing here
//! needs to be, or is, constant in time; do not use it with secrets.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod field;
mod lanes;
mod scalar;
mod soft;
mod table;

use curve25519_dalek::montgomery::MontgomeryPoint;
use heapless::Vec;

use crate::backend::Backend;
#[cfg(target_arch = "x86_64")]
use crate::simd::Level;
use scalar::{Multiplier, product};

pub use table::{FixedBaseTable, FixedBaseTableError, TableEntry};

/// The scalar multiple of a point given by its u-coordinate.
#[must_use]
pub fn x25519(scalar: &[u8; 32], point: &[u8; 32]) -> [u8; 32] {
    MontgomeryPoint(*point).mul_clamped(*scalar).0
}

/// The scalar multiple of the base point, u = 9.
#[must_use]
pub fn x25519_base(scalar: &[u8; 32]) -> [u8; 32] {
    MontgomeryPoint::mul_base_clamped(*scalar).0
}

/// Pairs that are multiplied together.
const TOGETHER: usize = 128;

/// X25519(a, X25519(b, 9)) of each pair `[a, b]`, in one multiplication (see [above](self)).
///
/// Without a table each is done alone, by a table of 30 KiB inside a library.
///
/// # Panics
/// When the number of pairs and of results differ.
pub fn base_products(
    pairs: &[[[u8; 32]; 2]],
    results: &mut [[u8; 32]],
    table: Option<&FixedBaseTable<'_>>,
    backend: Backend,
) {
    assert_eq!(pairs.len(), results.len(), "a result for each pair");
    let Some(table) = table else {
        for (pair, result) in pairs.iter().zip(results) {
            *result = MontgomeryPoint::mul_base(&product(pair)).0;
        }
        return;
    };
    for (pairs, results) in pairs.chunks(TOGETHER).zip(results.chunks_mut(TOGETHER)) {
        let multipliers: Vec<Multiplier, TOGETHER> =
            pairs.iter().map(|pair| Multiplier::new(&product(pair))).collect();
        multiply(&multipliers, table, results, backend);
    }
}

fn multiply(
    multipliers: &[Multiplier],
    table: &FixedBaseTable<'_>,
    results: &mut [[u8; 32]],
    backend: Backend,
) {
    match backend.level() {
        // SAFETY: the level proves that the CPU has AVX2.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Some(Level::Avx2(_)) => unsafe { avx2::multiply(multipliers, table, results) },
        // SAFETY: the level proves that the CPU has AVX-512 with DQ and IFMA.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Some(Level::Avx512(_)) => unsafe { avx512::multiply(multipliers, table, results) },
        _ => soft::multiply(multipliers, table, results),
    }
}
