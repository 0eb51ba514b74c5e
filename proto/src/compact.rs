//! The arithmetic of share targets and payments: IEEE doubles, as the reference computes
//! (spec 05, 2.3).
//!
//! Not the consensus arithmetic, which is exact and lives in the core: operators compare share
//! targets and payouts with the reference bit for bit, so the operations and their order are kept.

use num_bigint::BigUint;
use packetcrypt_core::bytes::CompactTarget;

/// 2^256, the double that the reference uses.
const TWO_POW_256: f64 = 1.157_920_892_373_162e77;

/// Hashes of difficulty 1, and of a "multiple" of work.
const HASHES_PER_MULTIPLE: f64 = 4096.0;

/// The target of a compact word; 0 for the word 0.
#[must_use]
pub fn target_to_double(target: CompactTarget) -> f64 {
    // The reference shifts a signed 32-bit word.
    let word = target.0.cast_signed();
    if word < 1 {
        return 0.0;
    }
    f64::from(word & 0x007f_ffff) * power_of_256((word >> 24) - 3)
}

/// 256^n, exact for every exponent that a compact word can have.
fn power_of_256(exponent: i32) -> f64 {
    f64::from_bits(((1023 + 8 * i64::from(exponent)) as u64) << 52)
}

/// The compact word of a target, truncated; 0x207fffff for all above it.
#[must_use]
pub fn double_to_target(mut target: f64) -> CompactTarget {
    let mut exponent = 3u32;
    // Not a number leaves the loop at once and truncates to 0.
    while target > f64::from(0x007f_ffff_u32) {
        target /= 256.0;
        exponent += 1;
        if exponent > 0x20 {
            return CompactTarget::MAX;
        }
    }
    CompactTarget(exponent << 24 | target as u32)
}

/// Expected hashes for a target.
#[must_use]
pub fn work_for_target(target: f64) -> f64 {
    TWO_POW_256 / (target + 1.0)
}

/// The target that takes so many hashes.
#[must_use]
pub fn target_for_work(work: f64) -> f64 {
    if work <= 0.0 { TWO_POW_256 } else { (TWO_POW_256 - work) / work }
}

/// `annWorkToTarget`: the announcement target that takes so many hashes; 128 gives 0x20020000.
#[must_use]
pub fn ann_work_to_target(work: f64) -> CompactTarget {
    double_to_target(target_for_work(work))
}

/// `workMultipleToTarget`: the target of so many times 4096 hashes.
#[must_use]
pub fn work_multiple_to_target(multiple: f64) -> CompactTarget {
    ann_work_to_target(multiple * HASHES_PER_MULTIPLE)
}

/// `getWorkMultiple`: the work of a target in units of 4096 hashes.
#[must_use]
pub fn work_multiple(target: CompactTarget) -> f64 {
    work_for_target(target_to_double(target)) / HASHES_PER_MULTIPLE
}

/// The share target of a block target: its work divided by `divisor` (spec 05, 4.7 step 3).
#[must_use]
pub fn share_target(block_target: CompactTarget, divisor: f64) -> CompactTarget {
    work_multiple_to_target(work_multiple(block_target) / divisor)
}

/// `encryptions` of a share: how many encryptions it stands for, as the event tells it.
///
/// Exact integers, then one conversion to a double. `None` when the commitment counts no
/// announcements or its target leaves no work, in which case there is no such number: the share is
/// invalid.
#[must_use]
pub fn encryptions(
    share_target: CompactTarget,
    ann_min_work: CompactTarget,
    ann_count: u64,
) -> Option<f64> {
    let work = |target| BigUint::from_double(work_for_target(target_to_double(target)));
    let block = work(share_target)?;
    let ann = work(ann_min_work)?;
    if ann == BigUint::ZERO || ann_count == 0 {
        return None;
    }
    let count = BigUint::from(ann_count);
    let encryptions = ((block.pow(3) >> 10u32) / ann) / (&count * &count);
    Some(nearest_double(&(encryptions * 2u32)))
}

trait FromDouble: Sized {
    fn from_double(number: f64) -> Option<Self>;
}

impl FromDouble for BigUint {
    /// The integer part of a finite number from 0.
    fn from_double(number: f64) -> Option<Self> {
        if !number.is_finite() || number < 0.0 {
            return None;
        }
        let bits = number.to_bits();
        let exponent = (bits >> 52) as i32 - 1075;
        let mantissa = BigUint::from(bits & ((1 << 52) - 1) | 1 << 52);
        Some(match exponent {
            // Denormal numbers and all below 1 shift out entirely.
            ..=-53 => BigUint::ZERO,
            -52..0 => mantissa >> exponent.unsigned_abs(),
            0.. => mantissa << exponent.unsigned_abs(),
        })
    }
}

/// Rounds to nearest, ties to even, as ECMAScript's `Number(bigint)` does.
fn nearest_double(number: &BigUint) -> f64 {
    // The decimal parser of the standard library is correctly rounded for any length.
    number.to_string().parse().unwrap_or(f64::INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_examples_of_the_specification() {
        assert_eq!(ann_work_to_target(128.0), CompactTarget(0x2002_0000));
        assert!((work_multiple(CompactTarget(0x2000_0fff)) - 1.0).abs() < 1e-3);
        assert_eq!(target_to_double(CompactTarget(0)), 0.0);
        assert_eq!(target_to_double(CompactTarget(0x8000_0001)), 0.0);
        assert_eq!(target_to_double(CompactTarget(0x0100_ff00)), f64::from(0xff00) / 65536.0);
    }

    #[test]
    fn targets_have_no_sign_bit_and_saturate() {
        assert_eq!(double_to_target(f64::INFINITY), CompactTarget::MAX);
        assert_eq!(double_to_target(f64::NAN), CompactTarget(0x0300_0000));
        assert_eq!(double_to_target(8_388_608.0), CompactTarget(0x0400_8000));
        assert_eq!(target_for_work(0.0), TWO_POW_256);
    }

    #[test]
    fn no_announcements_are_no_encryptions() {
        let target = CompactTarget(0x1e7b_e99b);
        assert_eq!(encryptions(target, target, 0), None);
        assert!(encryptions(target, target, u64::MAX).is_some());
    }

    proptest::proptest! {
        #[test]
        fn integer_parts_are_exact(number in 0..(1u64 << 53), shift in 0..200u32) {
            let double = number as f64 * 2f64.powi(shift as i32);
            assert_eq!(BigUint::from_double(double).unwrap(), BigUint::from(number) << shift);
            assert_eq!(nearest_double(&BigUint::from_double(double).unwrap()), double);
        }

        #[test]
        fn fractions_are_cut(number in 0.0..1e9f64) {
            assert_eq!(BigUint::from_double(number).unwrap(), BigUint::from(number as u64));
        }

        #[test]
        fn no_word_makes_it_panic(a: u32, b: u32, count: u64, work: f64) {
            let _ = encryptions(CompactTarget(a), CompactTarget(b), count);
            let _ = ann_work_to_target(work);
            let _ = share_target(CompactTarget(a), work);
        }
    }
}
