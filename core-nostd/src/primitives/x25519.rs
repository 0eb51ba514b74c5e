//! X25519 of RFC 7748 (spec 01, 4): clamps the scalar and ignores bit 255 of the coordinate.

use curve25519_dalek::montgomery::MontgomeryPoint;

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
