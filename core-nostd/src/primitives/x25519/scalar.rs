//! The scalar of two multiplications in one, and its digits.

use curve25519_dalek::scalar::{Scalar, clamp_integer};

/// The order L of the base point, 2^252 + 27742317777372353535851937790883648493, in words of 64
/// bits.
const ORDER: [u64; 4] = [0x5812_631a_5cf5_d3ed, 0x14de_f9de_a2f7_9cd6, 0, 1 << 60];
/// Half of L, rounded down: the greatest [`Multiplier`].
const HALF_ORDER: [u64; 4] = [0x2c09_318d_2e7a_e9f6, 0x0a6f_7cef_517b_ce6b, 0, 1 << 59];
/// Digits of a multiplier have this many bits in all: it is below 2^252, and as signed digits too,
/// since one above 2^251 is so close to it that no carry reaches its highest digit.
pub(super) const DIGIT_BITS: u32 = 252;
/// Most digits of a multiplier.
pub(super) const DIGITS_MAX: usize = DIGIT_BITS.div_ceil(super::table::WINDOW_BITS_MIN) as usize;

/// The product modulo L of two scalars, each clamped as RFC 7748 says. It is not 0, as
/// [above](super) shows.
pub(super) fn product([a, b]: &[[u8; 32]; 2]) -> Scalar {
    let (a, b) = (words(&clamp_integer(*a)), words(&clamp_integer(*b)));
    let mut wide = [0_u64; 8];
    for (at, a) in a.iter().enumerate() {
        let mut carry = 0;
        for (wide, b) in wide[at..].iter_mut().zip(b) {
            let sum = u128::from(*a) * u128::from(b) + u128::from(*wide) + u128::from(carry);
            (*wide, carry) = (sum as u64, (sum >> 64) as u64);
        }
        wide[at + 4] = carry;
    }
    Scalar::from_bytes_mod_order_wide(&zerocopy::transmute!(wide.map(u64::to_le_bytes)))
}

/// A scalar k or -k modulo L, whichever is the smaller number: both lead to the same coordinate u.
/// To be multiplied by, it must not be 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Multiplier([u64; 4]);

impl Multiplier {
    /// Of no use as a result: it fills lanes that have nothing to do.
    pub(super) const ONE: Multiplier = Multiplier([1, 0, 0, 0]);

    /// The multiplier of a scalar.
    pub(super) fn new(scalar: &Scalar) -> Multiplier {
        let scalar = words(scalar.as_bytes());
        let is_greater = scalar.iter().rev().gt(HALF_ORDER.iter().rev());
        Multiplier(if is_greater { difference(ORDER, scalar) } else { scalar })
    }

    /// Its digits to the base 2^`bits`, the lowest first, each from -2^(bits-1) + 1 to 2^(bits-1).
    pub(super) fn digits(self, bits: u32, digits: &mut [i32]) {
        let mut carry = 0;
        for (at, digit) in digits.iter_mut().enumerate() {
            let value = self.window(bits * at as u32, bits) + carry;
            carry = i32::from(value > 1 << (bits - 1));
            *digit = value - (carry << bits);
        }
        debug_assert!(carry == 0, "a multiplier is below half of the order");
    }

    /// `bits` bits from bit `from` on; zeros behind the end.
    fn window(self, from: u32, bits: u32) -> i32 {
        let (at, shift) = ((from / 64) as usize, from % 64);
        let low = self.0[at] >> shift;
        let high = self.0.get(at + 1).map_or(0, |word| (word << 1) << (63 - shift));
        ((low | high) & ((1 << bits) - 1)) as i32
    }
}

fn words(bytes: &[u8; 32]) -> [u64; 4] {
    let words: [[u8; 8]; 4] = zerocopy::transmute!(*bytes);
    words.map(u64::from_le_bytes)
}

/// `a - b` where `a` is not smaller.
fn difference(a: [u64; 4], b: [u64; 4]) -> [u64; 4] {
    let mut borrow = false;
    core::array::from_fn(|at| {
        let (rest, under) = a[at].overflowing_sub(b[at]);
        let (rest, under_again) = rest.overflowing_sub(u64::from(borrow));
        borrow = under || under_again;
        rest
    })
}

#[cfg(test)]
mod tests {
    use super::super::table::{WINDOW_BITS_MAX, WINDOW_BITS_MIN};
    use super::*;
    use num_bigint::{BigInt, BigUint};
    use proptest::prelude::*;

    fn big(words: [u64; 4]) -> BigUint {
        words.iter().rev().fold(BigUint::ZERO, |sum, word| (sum << 64) + word)
    }

    fn scalar(number: &BigUint) -> Scalar {
        let mut bytes = [0; 32];
        let digits = number.to_bytes_le();
        bytes[..digits.len()].copy_from_slice(&digits);
        Scalar::from_canonical_bytes(bytes).unwrap()
    }

    fn assert_multiplier(number: &BigUint) {
        let order = big(ORDER);
        let multiplier = Multiplier::new(&scalar(number));
        let value = big(multiplier.0);
        assert!(&value == number || &order - &value == *number);
        assert!(value <= &order / 2_u8);
        for bits in WINDOW_BITS_MIN..=WINDOW_BITS_MAX {
            let mut digits = [0; DIGITS_MAX];
            let digits = &mut digits[..DIGIT_BITS.div_ceil(bits) as usize];
            multiplier.digits(bits, digits);
            let half = 1 << (bits - 1);
            assert!(digits.iter().all(|digit| (1 - half..=half).contains(digit)));
            let sum = digits.iter().rev().fold(BigInt::ZERO, |sum, digit| (sum << bits) + digit);
            assert_eq!(sum, BigInt::from(value.clone()), "{bits} bits");
        }
    }

    #[test]
    fn multipliers_at_the_ends() {
        let order = big(ORDER);
        let half: BigUint = &order / 2_u8;
        assert_eq!(half, big(HALF_ORDER));
        let power = BigUint::from(1_u8) << 251;
        for distance in 0_u32..40 {
            let small = BigUint::from(distance);
            assert_multiplier(&small);
            assert_multiplier(&(&order - 1_u8 - &small));
            for middle in [&half, &power] {
                assert_multiplier(&(middle + &small));
                assert_multiplier(&(middle - &small));
            }
        }
    }

    proptest! {
        #[test]
        fn multipliers_of_any_scalar(bytes: [u8; 32]) {
            assert_multiplier(&(BigUint::from_bytes_le(&bytes) % big(ORDER)));
        }

        #[test]
        fn products_are_those_of_big_integers(a: [u8; 32], b: [u8; 32]) {
            let clamped = |bytes| BigUint::from_bytes_le(&clamp_integer(bytes));
            let expected = clamped(a) * clamped(b) % big(ORDER);
            prop_assert_eq!(product(&[a, b]), scalar(&expected));
        }
    }
}
