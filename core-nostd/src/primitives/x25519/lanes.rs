//! Multiplication of the base point, several scalars side by side: written once for all back ends.
//!
//! # Formulas
//!
//! On the curve -x^2 + y^2 = 1 + d x^2 y^2 (RFC 7748, edwards25519) the sum of a point
//! (X/Z, Y/Z), T = XY/Z, and an affine point (x, y) is (E/G, H/F) with
//!
//! ```text
//! A = (Y - X)(y - x)   B = (Y + X)(y + x)   C = T 2dxy   D = 2Z
//! E = B - A            F = D - C            G = D + C    H = B + A
//! ```
//!
//! They are complete: F and G are never 0, also for equal, opposite and neutral points, because d is
//! no square. X = EF, Y = GH, Z = FG, T = EH begin the next addition. The coordinate u of X25519 is
//! (1 + y) / (1 - y) = (F + H) / (F - H), so the last addition needs three multiplications. The
//! denominator is 0 for the neutral point only, which no [`Multiplier`] leads to.

use heapless::Vec;

use super::field::FieldElement;
use super::scalar::{DIGITS_MAX, Multiplier};
use super::table::{FixedBaseTable, TableEntry};
use crate::prefetch;

/// Most lanes of a back end.
pub(super) const LANES_MAX: usize = 8;
/// Sets of lanes that share one inversion.
const SETS: usize = 32;
/// Windows between asking for a table entry and adding it.
const PREFETCH_WINDOWS: usize = 3;

/// 1 / 2d: what makes xy of the 2dxy of a table entry.
const INVERSE_2D: FieldElement = FieldElement::from_bytes(&[
    0x18, 0xfc, 0xe4, 0x66, 0x3b, 0x79, 0xf0, 0x12, 0x17, 0xaa, 0x3c, 0x21, 0x4c, 0xeb, 0xae, 0x05,
    0xb3, 0xe7, 0xdc, 0x66, 0x8a, 0x10, 0x8b, 0x95, 0x21, 0xe7, 0x6a, 0x0a, 0x69, 0x3f, 0x48, 0x60,
]);

/// A field element in each of several lanes.
///
/// *Reduced* values are what [`mul`](FieldLanes::mul) and [`carry`](FieldLanes::carry) return and
/// what [`load`](FieldLanes::load) reads; *loose* ones may have been added or subtracted as often as
/// the formulas above need it. How many bits that is, is the business of the back end.
pub(super) trait FieldLanes: Copy {
    /// Number of lanes.
    const LANES: usize;

    /// Each lane from an element of its own; elements are reduced.
    fn load(elements: &[FieldElement; LANES_MAX]) -> Self;

    /// The elements of the lanes.
    fn store(self, elements: &mut [FieldElement; LANES_MAX]);

    /// y + x, y - x and 2dxy of an entry for each lane, of its negative where the digit is negative.
    /// The last of the three may be loose.
    fn load_entries(entries: &[&TableEntry; LANES_MAX], digits: &[i32; LANES_MAX]) -> [Self; 3];

    /// The sum of two reduced values, or of a reduced and a doubled one: loose.
    fn add(self, rhs: Self) -> Self;

    /// The difference, loose; `self` is reduced or doubled, `rhs` is reduced.
    fn sub(self, rhs: Self) -> Self;

    /// The reduced product of loose values.
    fn mul(self, rhs: Self) -> Self;

    /// A loose value reduced.
    fn carry(self) -> Self;
}

/// The coordinate u of the multiple of the base point for each multiplier.
///
/// # Panics
/// When the number of multipliers and of coordinates differ.
#[inline(always)]
pub(super) fn multiply_base<F: FieldLanes>(
    multipliers: &[Multiplier],
    table: &FixedBaseTable<'_>,
    coordinates: &mut [[u8; 32]],
) {
    assert_eq!(multipliers.len(), coordinates.len(), "a coordinate for each multiplier");
    let together = SETS * F::LANES;
    for (multipliers, us) in multipliers.chunks(together).zip(coordinates.chunks_mut(together)) {
        let mut fractions: Vec<Fraction<F>, SETS> = Vec::new();
        for multipliers in multipliers.chunks(F::LANES) {
            fractions.push(fraction(multipliers, table)).ok().expect("a chunk has not more sets");
        }
        divide(&fractions, us);
    }
}

/// u as numerator and denominator, both reduced.
#[derive(Clone, Copy)]
struct Fraction<F> {
    numerator: F,
    denominator: F,
}

/// E, F, G and H of an addition.
struct Sum<F> {
    e: F,
    f: F,
    g: F,
    h: F,
}

impl<F: FieldLanes> Sum<F> {
    /// Adds a table entry to a point given by Y - X, Y + X, T and 2Z.
    #[inline(always)]
    fn new(minus: F, plus: F, t: F, z2: F, entry: [F; 3]) -> Sum<F> {
        let a = minus.mul(entry[1]);
        let b = plus.mul(entry[0]);
        let c = t.mul(entry[2]);
        Sum { e: b.sub(a), f: z2.sub(c), g: z2.add(c), h: b.add(a) }
    }

    #[inline(always)]
    fn plus(&self, entry: [F; 3]) -> Sum<F> {
        let x = self.f.mul(self.e);
        let y = self.h.mul(self.g);
        let t = self.h.mul(self.e);
        let z = self.f.mul(self.g);
        Sum::new(y.sub(x), y.add(x), t, z.add(z), entry)
    }
}

/// Multiplies the base point by up to as many multipliers as there are lanes.
#[inline(always)]
fn fraction<F: FieldLanes>(multipliers: &[Multiplier], table: &FixedBaseTable<'_>) -> Fraction<F> {
    let windows = table.windows();
    // By window, then lane.
    let mut digits = [[0; LANES_MAX]; DIGITS_MAX];
    for lane in 0..F::LANES {
        let mut of_lane = [0; DIGITS_MAX];
        let multiplier = multipliers.get(lane).copied().unwrap_or(Multiplier::ONE);
        multiplier.digits(table.window_bits(), &mut of_lane[..windows]);
        for (digits, digit) in digits.iter_mut().zip(of_lane) {
            digits[lane] = digit;
        }
    }
    for (window, digits) in digits[..windows].iter().enumerate().take(PREFETCH_WINDOWS) {
        prefetch_entries::<F>(table, window, digits);
    }
    let [plus, minus, xy2d] = load_entries::<F>(table, 0, &digits[0]);
    let t = xy2d.mul(F::load(&[INVERSE_2D; LANES_MAX]));
    let two = F::load(&[FieldElement([2, 0, 0, 0, 0]); LANES_MAX]);
    let second = load_entries(table, 1, &digits[1]);
    let mut sum = Sum::new(minus, plus, t, two, second);
    for window in 2..windows {
        let ahead = window + PREFETCH_WINDOWS - 2;
        if ahead < windows {
            prefetch_entries::<F>(table, ahead, &digits[ahead]);
        }
        sum = sum.plus(load_entries(table, window, &digits[window]));
    }
    let (f, h) = (sum.f.carry(), sum.h.carry());
    Fraction { numerator: f.add(h).carry(), denominator: f.sub(h).carry() }
}

/// Asks for the entries that the digits select.
#[inline(always)]
fn prefetch_entries<F: FieldLanes>(
    table: &FixedBaseTable<'_>,
    window: usize,
    digits: &[i32; LANES_MAX],
) {
    for digit in &digits[..F::LANES] {
        prefetch::read(table.entry(window, *digit));
    }
}

/// The entries that the digits select.
#[inline(always)]
fn load_entries<F: FieldLanes>(
    table: &FixedBaseTable<'_>,
    window: usize,
    digits: &[i32; LANES_MAX],
) -> [F; 3] {
    let mut entries = [table.entry(window, 0); LANES_MAX];
    for (entry, digit) in entries.iter_mut().zip(digits).take(F::LANES) {
        *entry = table.entry(window, *digit);
    }
    F::load_entries(&entries, digits)
}

/// Divides all fractions with one inversion.
#[inline(always)]
fn divide<F: FieldLanes>(fractions: &[Fraction<F>], quotients: &mut [[u8; 32]]) {
    let Some((first, rest)) = fractions.split_first() else { return };
    // The product of all denominators up to each set; lanes stay apart.
    let mut products: Vec<F, SETS> = Vec::new();
    let mut product = first.denominator;
    for fraction in rest {
        products.push(product).ok().expect("not more than fractions");
        product = product.mul(fraction.denominator);
    }
    let mut inverse = invert_lanes(product);
    let sets = quotients.chunks_mut(F::LANES).zip(fractions).rev();
    for (quotients, fraction) in sets {
        let of_this = products.pop().map_or(inverse, |product| inverse.mul(product));
        inverse = inverse.mul(fraction.denominator);
        let mut us = [FieldElement::ZERO; LANES_MAX];
        fraction.numerator.mul(of_this).store(&mut us);
        for (quotient, u) in quotients.iter_mut().zip(us) {
            *quotient = u.to_bytes();
        }
    }
}

/// The inverse of each lane. No lane is 0.
#[inline(always)]
fn invert_lanes<F: FieldLanes>(numbers: F) -> F {
    let mut elements = [FieldElement::ZERO; LANES_MAX];
    numbers.store(&mut elements);
    let mut products = [FieldElement::ONE; LANES_MAX];
    let mut product = FieldElement::ONE;
    for (element, product_here) in elements.iter().zip(&mut products).take(F::LANES) {
        *product_here = product;
        product = product.mul(*element);
    }
    let mut inverse = product.invert();
    for (element, product) in elements.iter_mut().zip(products).take(F::LANES).rev() {
        (*element, inverse) = (inverse.mul(product), inverse.mul(*element));
    }
    F::load(&elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inverse_of_twice_d() {
        let d =
            FieldElement([121_666, 0, 0, 0, 0]).invert().mul(FieldElement([121_665, 0, 0, 0, 0]));
        let minus_2d = d.add(d).carry();
        let product = FieldElement::ZERO.sub(minus_2d).mul(INVERSE_2D);
        assert_eq!(product.to_bytes(), FieldElement::ONE.to_bytes());
    }
}
