//! Multiples of the base point, for multiplications that are additions only.

use core::fmt;

use super::field::FieldElement;
use super::scalar::DIGIT_BITS;

/// Narrowest windows.
pub(super) const WINDOW_BITS_MIN: u32 = 4;
/// Widest windows.
pub(super) const WINDOW_BITS_MAX: u32 = 16;

/// d of the curve -x^2 + y^2 = 1 + d x^2 y^2: -121665 / 121666.
const D: FieldElement = FieldElement::from_bytes(&[
    0xa3, 0x78, 0x59, 0x13, 0xca, 0x4d, 0xeb, 0x75, 0xab, 0xd8, 0x41, 0x41, 0x4d, 0x0a, 0x70, 0x00,
    0x98, 0xe8, 0x79, 0x77, 0x79, 0x40, 0xc7, 0x8c, 0x73, 0xfe, 0x6f, 0x2b, 0xee, 0x6c, 0x03, 0x52,
]);
/// x of the base point, the one whose u is 9.
const BASE_X: FieldElement = FieldElement::from_bytes(&[
    0x1a, 0xd5, 0x25, 0x8f, 0x60, 0x2d, 0x56, 0xc9, 0xb2, 0xa7, 0x25, 0x95, 0x60, 0xc7, 0x2c, 0x69,
    0x5c, 0xdc, 0xd6, 0xfd, 0x31, 0xe2, 0xa4, 0xc0, 0xfe, 0x53, 0x6e, 0xcd, 0xd3, 0x36, 0x69, 0x21,
]);
/// y of the base point: 4 / 5.
const BASE_Y: FieldElement = FieldElement::from_bytes(&{
    let mut bytes = [0x66; 32];
    bytes[0] = 0x58;
    bytes
});

/// An affine point in the form that is added with the least work: y + x, y - x and 2dxy, each in
/// five limbs of 51 bits. Two cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(128))]
pub struct TableEntry(pub(super) [u64; 16]);

impl TableEntry {
    /// Memory to be built in; no point.
    pub const ZERO: TableEntry = TableEntry([0; 16]);

    /// The neutral point (0, 1).
    const NEUTRAL: TableEntry =
        TableEntry::of_elements([FieldElement::ONE, FieldElement::ONE, FieldElement::ZERO]);

    const fn of_elements([plus, minus, xy2d]: [FieldElement; 3]) -> TableEntry {
        let mut words = [0; 16];
        let mut at = 0;
        while at < 5 {
            (words[at], words[5 + at], words[10 + at]) = (plus.0[at], minus.0[at], xy2d.0[at]);
            at += 1;
        }
        TableEntry(words)
    }

    fn of_affine(x: FieldElement, y: FieldElement) -> TableEntry {
        let xy2d = x.mul(y).mul(D.add(D));
        TableEntry::of_elements([y.add(x), y.sub(x), xy2d].map(FieldElement::canonical))
    }

    /// y + x, y - x and 2dxy.
    #[inline(always)]
    pub(super) fn elements(&self) -> [FieldElement; 3] {
        let limbs = |at| core::array::from_fn(|limb| self.0[at + limb]);
        [0, 5, 10].map(|at| FieldElement(limbs(at)))
    }
}

/// Memory or windows with which there can be no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedBaseTableError {
    /// Bits of a window that were asked for.
    pub window_bits: u32,
    /// Entries for which there is room.
    pub entries: usize,
}

impl fmt::Display for FixedBaseTableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FixedBaseTableError { window_bits, entries } = self;
        match FixedBaseTable::entries_len(*window_bits) {
            Some(len) => write!(
                f,
                "a table of {window_bits}-bit windows has {len} entries, the memory is for {entries}"
            ),
            None => write!(
                f,
                "windows have {WINDOW_BITS_MIN} to {WINDOW_BITS_MAX} bits, not {window_bits}"
            ),
        }
    }
}

impl core::error::Error for FixedBaseTableError {}

/// For each window of a scalar the multiples of the base point that its digit selects, 0 to
/// 2^(bits - 1).
///
/// Wider windows need fewer additions and more memory. It is read only: one serves all threads.
#[derive(Clone, Copy)]
pub struct FixedBaseTable<'t> {
    entries: &'t [TableEntry],
    window_bits: u32,
}

impl fmt::Debug for FixedBaseTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FixedBaseTable").field("window_bits", &self.window_bits).finish()
    }
}

impl<'t> FixedBaseTable<'t> {
    /// Bits of a window that serve well where a table may take 5.3 MiB: it lies in the third level
    /// of the caches.
    pub const WINDOW_BITS: u32 = 12;

    /// Entries of a table with windows of 4 to 16 bits; `None` for others.
    #[must_use]
    pub const fn entries_len(window_bits: u32) -> Option<usize> {
        if window_bits < WINDOW_BITS_MIN || window_bits > WINDOW_BITS_MAX {
            return None;
        }
        Some(DIGIT_BITS.div_ceil(window_bits) as usize * window_len(window_bits))
    }

    /// Computes the multiples: some 20 ms at 12 bits, twice that for each bit more.
    ///
    /// # Errors
    /// [`FixedBaseTableError`] when there are not exactly [`FixedBaseTable::entries_len`] entries.
    pub fn build(
        window_bits: u32,
        entries: &'t mut [TableEntry],
    ) -> Result<FixedBaseTable<'t>, FixedBaseTableError> {
        if FixedBaseTable::entries_len(window_bits) != Some(entries.len()) {
            return Err(FixedBaseTableError { window_bits, entries: entries.len() });
        }
        let mut base = TableEntry::of_affine(BASE_X, BASE_Y);
        for window in entries.chunks_exact_mut(window_len(window_bits)) {
            window[0] = TableEntry::NEUTRAL;
            fill_multiples(&base, &mut window[1..]);
            // The last multiple is 2^(bits - 1) times the base of this window.
            let mut next = [TableEntry::ZERO; 2];
            fill_multiples(window.last().expect("a window has entries"), &mut next);
            base = next[1];
        }
        Ok(FixedBaseTable { entries, window_bits })
    }

    /// Bits of a window.
    #[must_use]
    pub fn window_bits(&self) -> u32 {
        self.window_bits
    }

    /// Number of windows.
    pub(super) fn windows(&self) -> usize {
        DIGIT_BITS.div_ceil(self.window_bits) as usize
    }

    /// The multiple that a digit selects, without its sign.
    #[inline(always)]
    pub(super) fn entry(&self, window: usize, digit: i32) -> &'t TableEntry {
        &self.entries[window * window_len(self.window_bits) + digit.unsigned_abs() as usize]
    }
}

/// Entries of a window.
const fn window_len(window_bits: u32) -> usize {
    (1 << (window_bits - 1)) + 1
}

/// Points that are made affine with one inversion.
const NORMALIZED_TOGETHER: usize = 64;

/// Fills in 1, 2, 3, ... times a point.
fn fill_multiples(base: &TableEntry, multiples: &mut [TableEntry]) {
    let mut sum = Projective::NEUTRAL;
    for multiples in multiples.chunks_mut(NORMALIZED_TOGETHER) {
        let mut points = [Projective::NEUTRAL; NORMALIZED_TOGETHER];
        let points = &mut points[..multiples.len()];
        // The product of all z up to each point.
        let mut products = [FieldElement::ONE; NORMALIZED_TOGETHER];
        let mut product = FieldElement::ONE;
        for (point, product_here) in points.iter_mut().zip(&mut products) {
            sum = sum.plus(base);
            *point = sum;
            *product_here = product;
            product = product.mul(sum.z);
        }
        let mut inverse = product.invert();
        for ((multiple, point), product) in multiples.iter_mut().zip(points).zip(products).rev() {
            let z_inverse = inverse.mul(product);
            inverse = inverse.mul(point.z);
            *multiple = TableEntry::of_affine(point.x.mul(z_inverse), point.y.mul(z_inverse));
        }
    }
}

/// The point (x/z, y/z), with t = xy/z.
#[derive(Clone, Copy)]
struct Projective {
    x: FieldElement,
    y: FieldElement,
    z: FieldElement,
    t: FieldElement,
}

impl Projective {
    const NEUTRAL: Projective = Projective {
        x: FieldElement::ZERO,
        y: FieldElement::ONE,
        z: FieldElement::ONE,
        t: FieldElement::ZERO,
    };

    /// The sum with an affine point, by the formulas of [`super::lanes`].
    fn plus(&self, point: &TableEntry) -> Projective {
        let [plus, minus, xy2d] = point.elements();
        let a = self.y.sub(self.x).mul(minus);
        let b = self.y.add(self.x).mul(plus);
        let c = self.t.mul(xy2d);
        let d = self.z.add(self.z);
        let (e, f, g, h) = (b.sub(a), d.sub(c), d.add(c), b.add(a));
        Projective { x: e.mul(f), y: g.mul(h), z: f.mul(g), t: e.mul(h) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
    use curve25519_dalek::edwards::EdwardsPoint;
    use curve25519_dalek::scalar::Scalar;
    use std::vec;

    /// y of a point as dalek has it, with the lowest bit of x on top.
    fn compressed(entry: &TableEntry) -> [u8; 32] {
        let [plus, minus, xy2d] = entry.elements();
        let half = FieldElement([2, 0, 0, 0, 0]).invert();
        let (x, y) = (plus.sub(minus).mul(half), plus.add(minus).mul(half));
        let two_d = FieldElement([2, 0, 0, 0, 0]).mul(D);
        assert_eq!(x.mul(y).mul(two_d).to_bytes(), xy2d.to_bytes());
        let mut bytes = y.to_bytes();
        bytes[31] |= x.to_bytes()[0] << 7;
        bytes
    }

    #[test]
    fn constants_are_those_of_the_curve() {
        let base = TableEntry::of_affine(BASE_X, BASE_Y);
        assert_eq!(compressed(&base), ED25519_BASEPOINT_POINT.compress().0);
        let inverse = FieldElement([121_666, 0, 0, 0, 0]).invert();
        let d = FieldElement::ZERO.sub(FieldElement([121_665, 0, 0, 0, 0])).mul(inverse);
        assert_eq!(D.to_bytes(), d.to_bytes());
    }

    #[test]
    fn entries_are_multiples_of_the_base_point() {
        for bits in [4, 5, 9] {
            let mut memory = vec![TableEntry::ZERO; FixedBaseTable::entries_len(bits).unwrap()];
            let table = FixedBaseTable::build(bits, &mut memory).unwrap();
            assert_eq!(table.window_bits(), bits);
            let mut window_base = Scalar::ONE;
            for window in 0..table.windows() {
                for digit in [0, 1, 2, 3, 7, 8, 1 << (bits - 1)] {
                    let multiple = Scalar::from(digit as u64) * window_base;
                    let point = EdwardsPoint::mul_base(&multiple).compress();
                    assert_eq!(compressed(table.entry(window, digit)), point.0, "{bits} {window}");
                    assert!(core::ptr::eq(table.entry(window, digit), table.entry(window, -digit)));
                }
                window_base *= Scalar::from(1_u64 << bits);
            }
        }
    }

    #[test]
    fn wrong_memory_is_refused() {
        assert_eq!(FixedBaseTable::entries_len(3), None);
        assert_eq!(FixedBaseTable::entries_len(17), None);
        for (bits, len) in [(4, 1), (17, 4), (0, 0), (4, 63 * 9 + 1)] {
            let error = FixedBaseTable::build(bits, &mut vec![TableEntry::ZERO; len]).unwrap_err();
            assert_eq!(error, FixedBaseTableError { window_bits: bits, entries: len });
        }
    }
}
