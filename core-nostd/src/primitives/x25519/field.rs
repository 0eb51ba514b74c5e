//! Numbers modulo p = 2^255 - 19 in five limbs of 51 bits: portable code.
//!
//! A *reduced* element has limbs below 2^51 + 2^13 and may still be p or more. Sums and differences
//! are not carried: what may be multiplied has limbs below 2^54. Nothing here is constant in time,
//! since nothing that a nonce is made of is secret.

/// Bits of a limb.
const BITS: u32 = 51;
/// The bits of a limb.
const MASK: u64 = (1 << BITS) - 1;
/// Twice p, in limbs that are not below those of a reduced element.
pub(super) const TWICE_P: [u64; 5] = [2 * (MASK - 18), 2 * MASK, 2 * MASK, 2 * MASK, 2 * MASK];

/// A number modulo p.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldElement(pub(super) [u64; 5]);

impl FieldElement {
    pub(super) const ZERO: FieldElement = FieldElement([0; 5]);
    pub(super) const ONE: FieldElement = FieldElement([1, 0, 0, 0, 0]);

    /// Reads 32 bytes, of which bit 255 is ignored.
    pub(super) const fn from_bytes(bytes: &[u8; 32]) -> FieldElement {
        const fn word(bytes: &[u8; 32], at: usize) -> u64 {
            let mut word = 0;
            let mut byte = 8;
            while byte > 0 {
                byte -= 1;
                word = word << 8 | bytes[at + byte] as u64;
            }
            word
        }
        FieldElement([
            word(bytes, 0) & MASK,
            word(bytes, 6) >> 3 & MASK,
            word(bytes, 12) >> 6 & MASK,
            word(bytes, 19) >> 1 & MASK,
            word(bytes, 24) >> 12 & MASK,
        ])
    }

    /// The number below p in 32 bytes.
    pub(super) fn to_bytes(self) -> [u8; 32] {
        let FieldElement([a, b, c, d, e]) = self.canonical();
        zerocopy::transmute!([
            (a | b << 51).to_le_bytes(),
            (b >> 13 | c << 38).to_le_bytes(),
            (c >> 26 | d << 25).to_le_bytes(),
            (d >> 39 | e << 12).to_le_bytes(),
        ])
    }

    /// The number below p, with limbs below 2^51.
    pub(super) fn canonical(self) -> FieldElement {
        let FieldElement(mut limbs) = self.carry();
        // The value is below 2p, so p fits into it once at most: it does when adding 19 reaches
        // bit 255.
        let mut quotient = (limbs[0] + 19) >> BITS;
        for limb in &limbs[1..] {
            quotient = (limb + quotient) >> BITS;
        }
        limbs[0] += 19 * quotient;
        for at in 0..4 {
            limbs[at + 1] += limbs[at] >> BITS;
            limbs[at] &= MASK;
        }
        limbs[4] &= MASK;
        FieldElement(limbs)
    }

    /// The sum, not carried.
    #[inline(always)]
    pub(super) fn add(self, rhs: FieldElement) -> FieldElement {
        FieldElement(core::array::from_fn(|at| self.0[at] + rhs.0[at]))
    }

    /// The difference, not carried; `rhs` is reduced. Limbs grow by 2^52 at most.
    #[inline(always)]
    pub(super) fn sub(self, rhs: FieldElement) -> FieldElement {
        FieldElement(core::array::from_fn(|at| self.0[at] + TWICE_P[at] - rhs.0[at]))
    }

    /// The same number reduced.
    #[inline(always)]
    pub(super) fn carry(self) -> FieldElement {
        let [a, b, c, d, e] = self.0;
        FieldElement([
            (a & MASK) + 19 * (e >> BITS),
            (b & MASK) + (a >> BITS),
            (c & MASK) + (b >> BITS),
            (d & MASK) + (c >> BITS),
            (e & MASK) + (d >> BITS),
        ])
    }

    /// The product, reduced.
    #[inline(always)]
    pub(super) fn mul(self, rhs: FieldElement) -> FieldElement {
        let m = |a: u64, b: u64| u128::from(a) * u128::from(b);
        let ([a0, a1, a2, a3, a4], [b0, b1, b2, b3, b4]) = (self.0, rhs.0);
        // 2^255 is 19.
        let (c1, c2, c3, c4) = (19 * b1, 19 * b2, 19 * b3, 19 * b4);
        FieldElement::of_products([
            m(a0, b0) + m(a1, c4) + m(a2, c3) + m(a3, c2) + m(a4, c1),
            m(a0, b1) + m(a1, b0) + m(a2, c4) + m(a3, c3) + m(a4, c2),
            m(a0, b2) + m(a1, b1) + m(a2, b0) + m(a3, c4) + m(a4, c3),
            m(a0, b3) + m(a1, b2) + m(a2, b1) + m(a3, b0) + m(a4, c4),
            m(a0, b4) + m(a1, b3) + m(a2, b2) + m(a3, b1) + m(a4, b0),
        ])
    }

    /// The square, reduced.
    #[inline(always)]
    fn square(self) -> FieldElement {
        let m = |a: u64, b: u64| u128::from(a) * u128::from(b);
        let [a0, a1, a2, a3, a4] = self.0;
        let (d0, d1, d2) = (2 * a0, 2 * a1, 2 * a2);
        let (c3, c4) = (19 * a3, 19 * a4);
        FieldElement::of_products([
            m(a0, a0) + m(d1, c4) + m(d2, c3),
            m(d0, a1) + m(d2, c4) + m(a3, c3),
            m(d0, a2) + m(a1, a1) + m(2 * a3, c4),
            m(d0, a3) + m(d1, a2) + m(a4, c4),
            m(d0, a4) + m(d1, a3) + m(a2, a2),
        ])
    }

    /// Squares `count` times.
    fn square_times(self, count: u32) -> FieldElement {
        (0..count).fold(self, |number, _| number.square())
    }

    /// Carries sums of products of which the last has no factor 19, so that with limbs below 2^54
    /// its part above 51 bits times 19 is below 2^64.
    #[inline(always)]
    fn of_products(sums: [u128; 5]) -> FieldElement {
        let mut limbs = [0; 5];
        let mut carry = 0;
        for (limb, sum) in limbs.iter_mut().zip(sums) {
            let sum = sum + u128::from(carry);
            carry = (sum >> BITS) as u64;
            *limb = sum as u64 & MASK;
        }
        limbs[0] += 19 * carry;
        limbs[1] += limbs[0] >> BITS;
        limbs[0] &= MASK;
        FieldElement(limbs)
    }

    /// The inverse, by the exponent p - 2 = 2^255 - 21; 0 of 0.
    pub(super) fn invert(self) -> FieldElement {
        // The names say which power of two, less 1, the exponent is.
        let x2 = self.square();
        let x9 = x2.square_times(2).mul(self);
        let x11 = x9.mul(x2);
        let e5 = x11.square().mul(x9);
        let e10 = e5.square_times(5).mul(e5);
        let e20 = e10.square_times(10).mul(e10);
        let e40 = e20.square_times(20).mul(e20);
        let e50 = e40.square_times(10).mul(e10);
        let e100 = e50.square_times(50).mul(e50);
        let e200 = e100.square_times(100).mul(e100);
        let e250 = e200.square_times(50).mul(e50);
        e250.square_times(5).mul(x11)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigUint;
    use proptest::prelude::*;

    fn p() -> BigUint {
        (BigUint::from(1_u8) << 255) - 19_u8
    }

    fn big(number: FieldElement) -> BigUint {
        let limbs = number.0.iter().rev();
        limbs.fold(BigUint::ZERO, |sum, limb| (sum << BITS) + limb) % p()
    }

    fn bytes(number: &BigUint) -> [u8; 32] {
        let mut bytes = [0; 32];
        let digits = number.to_bytes_le();
        bytes[..digits.len()].copy_from_slice(&digits);
        bytes
    }

    /// Limbs as large as a multiplication may be given, often at the ends.
    fn limbs(bits: u32) -> impl Strategy<Value = FieldElement> {
        let max = (1_u64 << bits) - 1;
        let limb = prop_oneof![0..=max, Just(0), Just(max), Just(MASK), Just(MASK - 18)];
        prop::array::uniform5(limb).prop_map(FieldElement)
    }

    proptest! {
        #[test]
        fn agrees_with_big_integers(a in limbs(54), b in limbs(54), c in limbs(51)) {
            let p = p();
            prop_assert_eq!(big(a.mul(b)), big(a) * big(b) % &p);
            prop_assert_eq!(big(a.square()), big(a) * big(a) % &p);
            prop_assert_eq!(big(a.carry()), big(a));
            prop_assert_eq!(big(a.sub(c)), (big(a) + &p - big(c)) % &p);
            prop_assert_eq!(big(a.add(b)), (big(a) + big(b)) % &p);
            prop_assert_eq!(a.to_bytes(), bytes(&big(a)));
            for of in [a.mul(b), a.square(), a.carry()] {
                prop_assert!(of.0.iter().all(|limb| *limb < (1 << 51) + (1 << 13)));
            }
        }

        #[test]
        fn bytes_are_read_and_written(bytes: [u8; 32]) {
            let mut low = bytes;
            low[31] &= 0x7f;
            let number = BigUint::from_bytes_le(&low) % p();
            prop_assert_eq!(FieldElement::from_bytes(&bytes).to_bytes(), super::tests::bytes(&number));
        }
    }

    #[test]
    fn inverses() {
        for number in [1_u64, 2, 19, MASK] {
            let number = FieldElement([number, 7, MASK, 0, 1]);
            assert_eq!(number.invert().mul(number).to_bytes(), FieldElement::ONE.to_bytes());
        }
        assert_eq!(FieldElement::ZERO.invert().to_bytes(), [0; 32]);
        // p itself is 0.
        assert_eq!(FieldElement([MASK - 18, MASK, MASK, MASK, MASK]).to_bytes(), [0; 32]);
    }
}
