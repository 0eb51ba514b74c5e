//! The numbers modulo 2^130 - 5, in three limbs of 44, 44 and 42 bits.

use crate::bytes::read_u64;

const MASK_44: u64 = (1 << 44) - 1;
const MASK_42: u64 = (1 << 42) - 1;

/// A number, of which a few multiples of the modulus may not have been taken off.
///
/// Between operations the limbs may be a few bits longer than their width: as terms of a product
/// up to 47 bits.
#[derive(Clone, Copy)]
pub(super) struct Element(pub(super) [u64; 3]);

impl Element {
    pub(super) const ZERO: Element = Element([0; 3]);

    /// The number of 128 bits with the bits cleared that RFC 8439 wants cleared in `r`.
    pub(super) fn clamped(low: u64, high: u64) -> Element {
        Element::of_bits(low & 0x0fff_fffc_0fff_ffff, high & 0x0fff_fffc_0fff_fffc, 0)
    }

    /// A block as a number: its bytes and a bit behind them.
    #[inline(always)]
    pub(super) fn of_block(block: &[u8; 16]) -> Element {
        Element::of_bits(read_u64(block, 0), read_u64(block, 8), 1)
    }

    #[inline(always)]
    fn of_bits(low: u64, high: u64, top: u64) -> Element {
        Element([low & MASK_44, (low >> 44 | high << 20) & MASK_44, high >> 24 | top << 40])
    }

    #[inline(always)]
    pub(super) fn add(self, other: Element) -> Element {
        let ([a0, a1, a2], [b0, b1, b2]) = (self.0, other.0);
        Element([a0 + b0, a1 + b1, a2 + b2])
    }

    #[inline(always)]
    pub(super) fn multiply(self, other: &Element) -> Element {
        let [a0, a1, a2] = self.0;
        let [b0, b1, b2] = other.0;
        // Limb 3 would have the weight 2^132, which is 4 * 5.
        let (b1_wrapped, b2_wrapped) = (20 * b1, 20 * b2);
        let product = |a, b| u128::from(a) * u128::from(b);
        let d0 = product(a0, b0) + product(a1, b2_wrapped) + product(a2, b1_wrapped);
        let d1 = product(a0, b1) + product(a1, b0) + product(a2, b2_wrapped);
        let d2 = product(a0, b2) + product(a1, b1) + product(a2, b0);
        let d1 = d1 + (d0 >> 44);
        let d2 = d2 + (d1 >> 44);
        let h0 = (d0 as u64 & MASK_44) + 5 * (d2 >> 42) as u64;
        let h1 = (d1 as u64 & MASK_44) + (h0 >> 44);
        Element([h0 & MASK_44, h1, d2 as u64 & MASK_42])
    }

    /// The same number with limbs of their width, except that the middle one may be a bit longer.
    pub(super) fn carried(self) -> Element {
        let [h0, h1, h2] = self.0;
        let h1 = h1 + (h0 >> 44);
        let h2 = h2 + (h1 >> 44);
        let h0 = (h0 & MASK_44) + 5 * (h2 >> 42);
        Element([h0 & MASK_44, (h1 & MASK_44) + (h0 >> 44), h2 & MASK_42])
    }

    /// The low 128 bits of the number below the modulus.
    pub(super) fn low_128_bits(self) -> u128 {
        // Twice, as a carry from the top limb can run through all of them once.
        let [h0, h1, h2] = self.carried().carried().0;
        // Adding 5 carries out of the top exactly if the modulus is to be taken off.
        let carry = (h0 + 5) >> 44;
        let carry = (h1 + carry) >> 44;
        let carry = (h2 + carry) >> 42;
        let low = u128::from(h0) + (u128::from(h1) << 44) + 5 * u128::from(carry);
        low.wrapping_add(u128::from(h2) << 88)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use num_bigint::BigUint;

    use super::*;

    fn modulus() -> BigUint {
        (BigUint::from(1_u32) << 130_u32) - 5_u32
    }

    fn value(element: Element) -> BigUint {
        let [h0, h1, h2] = element.0.map(BigUint::from);
        h0 + (h1 << 44_u32) + (h2 << 88_u32)
    }

    fn edges() -> Vec<Element> {
        let limbs = [0, 1, 4, 5, MASK_42, MASK_44 - 5, MASK_44 - 4, MASK_44, (1 << 47) - 1];
        let mut elements = Vec::new();
        for h0 in limbs {
            for h1 in limbs {
                for h2 in limbs {
                    elements.push(Element([h0, h1, h2]));
                }
            }
        }
        elements
    }

    #[test]
    fn operations_are_those_of_numbers() {
        let edges = edges();
        for (at, a) in edges.iter().enumerate() {
            assert_eq!(value(a.carried()) % modulus(), value(*a) % modulus());
            let low = (value(*a) % modulus()) & BigUint::from(u128::MAX);
            assert_eq!(BigUint::from(a.low_128_bits()), low, "{:?}", a.0);
            for b in edges.iter().skip(at % 7).step_by(7) {
                let product = a.multiply(b);
                assert_eq!(value(product) % modulus(), value(*a) * value(*b) % modulus());
                assert!(product.0[0] <= MASK_44 && product.0[1] < 1 << 45);
                assert!(product.0[2] <= MASK_42);
            }
        }
    }
}
