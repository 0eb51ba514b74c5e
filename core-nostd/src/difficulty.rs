//! Compact targets, exact integers, ageing and the effective target (spec 04, 2).
//!
//! All arithmetic is on non-negative integers with floor division. The largest value is the cube of
//! a block's work: a well-formed target is at least 1, so its work is at most 2^255 and the cube has
//! at most 766 bits, which leaves room in the 1024 bits of [`Natural`]. No floating point.
//!
//! Words that are not well-formed never give work: every function here says what it returns for
//! them, and none panics.

use core::cmp::Ordering;

use crypto_bigint::{NonZero, U1024};

use crate::bytes::{CompactTarget, Hash32};
use crate::params::ANN_WAIT_BLOCKS;

/// The aged target of an announcement that can not be used (spec 04, 2.3).
///
/// As a word it is above every target, so comparing words refuses it without a special case.
pub const NOT_USABLE: CompactTarget = CompactTarget(u32::MAX);

/// Bits of the largest aged target (spec 04, 2.3).
const AGED_TARGET_BITS_MAX: u32 = 255;
/// First proof version whose effective work falls with the square of the count.
const SQUARED_COUNT_VERSION_MIN: u64 = 2;

/// A non-negative integer of at most 1024 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Natural(U1024);

impl Natural {
    /// Bytes of the little-endian form.
    pub const BYTES: usize = 128;

    /// Zero.
    pub const ZERO: Natural = Natural(U1024::ZERO);

    /// A small integer.
    #[must_use]
    pub fn from_u64(value: u64) -> Natural {
        Natural(U1024::from_u64(value))
    }

    /// The integer of little-endian bytes; `None` when they are more than [`Natural::BYTES`].
    #[must_use]
    pub fn from_le_bytes(bytes: &[u8]) -> Option<Natural> {
        let mut whole = [0; Natural::BYTES];
        whole.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Natural(U1024::from_le_slice(&whole)))
    }

    /// The little-endian form.
    #[must_use]
    pub fn to_le_bytes(&self) -> [u8; Natural::BYTES] {
        let mut bytes = [0; Natural::BYTES];
        bytes.copy_from_slice(self.0.to_le_bytes().as_ref());
        bytes
    }

    /// The value, or `u64::MAX` where it is greater.
    #[must_use]
    pub fn saturating_u64(&self) -> u64 {
        let bytes = self.to_le_bytes();
        if self.0.bit_width_vartime() > u64::BITS {
            u64::MAX
        } else {
            crate::bytes::read_u64(&bytes, 0)
        }
    }

    fn two_to_256() -> U1024 {
        U1024::ONE.shl_vartime(256)
    }
}

/// Floor division; `None` for division by zero.
fn divide(dividend: &U1024, divisor: &U1024) -> Option<U1024> {
    let divisor: Option<NonZero<U1024>> = NonZero::new(*divisor).into();
    Some(dividend.wrapping_div_vartime(&divisor?))
}

/// The target of a word as an integer, or `None` for a word that stands for no valid target: with
/// the sign bit, or above [`CompactTarget::MAX`] (spec 01, 6).
#[must_use]
pub fn target(word: CompactTarget) -> Option<Natural> {
    Natural::from_le_bytes(&word.target()?)
}

/// The compact form of an integer: truncated, not rounded (spec 01, 6).
#[must_use]
pub fn encode(value: &Natural) -> CompactTarget {
    let bytes = value.to_le_bytes();
    let mut size = Natural::BYTES - bytes.iter().rev().take_while(|byte| **byte == 0).count();
    let byte = |at: Option<usize>| at.map_or(0, |at| u32::from(bytes[at]));
    let mut mantissa = byte(size.checked_sub(1)) << 16
        | byte(size.checked_sub(2)) << 8
        | byte(size.checked_sub(3));
    if mantissa & 0x0080_0000 != 0 {
        mantissa >>= 8;
        size += 1;
    }
    // At most 129 bytes: the size fits its 8 bits.
    CompactTarget((size as u32) << 24 | mantissa)
}

/// Expected number of hashes for a target: `floor(2^256 / (target + 1))` (spec 04, 2.1).
///
/// A target of 0 gives 2^256, one of 2^256 or more gives 0.
#[must_use]
pub fn work_for_target(target: &Natural) -> Natural {
    let divisor = target.0.wrapping_add(&U1024::ONE);
    // The divisor is zero only for the one target at the very end of 1024 bits.
    Natural(divide(&Natural::two_to_256(), &divisor).unwrap_or(U1024::ZERO))
}

/// The target that takes this work (spec 04, 2.1): 2^256 for work 0, and 0 for work above 2^256.
#[must_use]
pub fn target_for_work(work: &Natural) -> Natural {
    let Some(quotient) = divide(&Natural::two_to_256(), &work.0) else {
        return Natural(Natural::two_to_256());
    };
    if quotient == U1024::ZERO {
        // Consensus: the node computes -1 here, the library 0. No hash satisfies either.
        return Natural::ZERO;
    }
    Natural(quotient.wrapping_sub(&U1024::ONE))
}

/// The target for the work hash of a block or share (spec 04, 2.2).
///
/// `block` is the header's or the share's target, `ann` the committed least work, `count` the number
/// of announcements. In versions 0 and 1 the work falls with the count, not with its square.
/// Words that are not well-formed give 0, which no hash satisfies (spec 04, 11, step 3).
#[must_use]
pub fn effective_target(
    block: CompactTarget,
    ann: CompactTarget,
    count: u64,
    proof_version: u64,
) -> CompactTarget {
    let (Some(block_work), Some(ann_work)) = (well_formed_work(block), well_formed_work(ann))
    else {
        return CompactTarget(0);
    };
    let cube = block_work.wrapping_mul(&block_work).wrapping_mul(&block_work);
    let count = U1024::from_u64(count);
    let mut divisor = ann_work.wrapping_mul(&count);
    if proof_version >= SQUARED_COUNT_VERSION_MIN {
        divisor = divisor.wrapping_mul(&count).shl_vartime(10);
    }
    let work = divide(&cube, &divisor).unwrap_or_else(Natural::two_to_256);
    encode(&target_for_work(&Natural(work))).min(CompactTarget::MAX)
}

fn well_formed_work(word: CompactTarget) -> Option<U1024> {
    if !word.is_well_formed() {
        return None;
    }
    Some(work_for_target(&target(word)?).0)
}

/// The target that an announcement counts with, `age` blocks after its parent (spec 04, 2.3).
///
/// [`NOT_USABLE`] when it is too young, too old, or no well-formed target. A parent above the block
/// gives a huge age, so `block_height.wrapping_sub(parent_height)` is the right argument.
#[must_use]
pub fn aged_target(word: CompactTarget, age: u32, proof_version: u64) -> CompactTarget {
    let Some(fresh) = target(word).filter(|_| word.is_well_formed()) else {
        return NOT_USABLE;
    };
    let Some(older) = age.checked_sub(ANN_WAIT_BLOCKS) else {
        return NOT_USABLE;
    };
    if proof_version < SQUARED_COUNT_VERSION_MIN {
        return aged_target_v1(&fresh, older);
    }
    if older == 0 {
        // Consensus: unchanged, not normalised.
        return word;
    }
    if older > AGED_TARGET_BITS_MAX {
        return NOT_USABLE;
    }
    let aged = fresh.0.shl_vartime(older);
    match aged.bit_width_vartime().cmp(&AGED_TARGET_BITS_MAX) {
        Ordering::Greater => NOT_USABLE,
        _ => encode(&Natural(aged)),
    }
}

/// Proof versions 0 and 1: the work is divided by the age.
fn aged_target_v1(fresh: &Natural, older: u32) -> CompactTarget {
    if older == 0 {
        return encode(fresh);
    }
    let work = work_for_target(fresh).0;
    let aged_work = divide(&work, &U1024::from_u32(older)).unwrap_or(U1024::ZERO);
    let aged = encode(&target_for_work(&Natural(aged_work)));
    if aged > CompactTarget::MAX { NOT_USABLE } else { aged }
}

/// Whether a word may be the committed least work of a block (spec 04, 2.4): well-formed.
#[must_use]
pub fn min_ann_diff_ok(word: CompactTarget) -> bool {
    word.is_well_formed()
}

/// How many hashes one hash over `count` announcements of this target is worth, saturating
/// (spec 04, 2.2). For statistics only; 0 for a word that is not well-formed.
#[must_use]
pub fn hashrate_multiplier(ann: CompactTarget, count: u64) -> u64 {
    let Some(work) = well_formed_work(ann) else {
        return 0;
    };
    let count = U1024::from_u64(count);
    Natural(work.wrapping_mul(&count).wrapping_mul(&count).shr_vartime(10)).saturating_u64()
}

/// Whether a hash, as a little-endian number, is strictly below the target (spec 01, 7).
#[must_use]
pub fn work_ok(hash: &Hash32, word: CompactTarget) -> bool {
    word.is_met_by(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_specification() {
        for (block, ann, count, want) in [
            (0x1d00_ffff, 0x200f_ffff, 1_000_000, 0x1b3a_347a),
            (0x1b01_e0c4, 0x1f0f_ffff, 100_000_000, 0x183a_d3d8),
            (0x207f_ffff, 0x207f_ffff, 1, 0x207f_ffff),
        ] {
            let have = effective_target(CompactTarget(block), CompactTarget(ann), count, 2);
            assert_eq!(have, CompactTarget(want));
        }
        for (value, want) in [(0x1234_56ff, 0x0412_3456), (0x8000_0000, 0x0500_8000)] {
            assert_eq!(encode(&Natural::from_u64(value)), CompactTarget(want));
        }
    }

    #[test]
    fn words_that_are_not_well_formed_give_no_work() {
        let good = CompactTarget(0x207f_ffff);
        for word in [0, 0x2000_0000, 0x2080_0001, 0x217f_ffff, 0x0100_0001, u32::MAX] {
            let bad = CompactTarget(word);
            assert_eq!(effective_target(bad, good, 1000, 2), CompactTarget(0), "{word:08x}");
            assert_eq!(effective_target(good, bad, 1000, 2), CompactTarget(0), "{word:08x}");
            assert_eq!(aged_target(bad, 3, 2), NOT_USABLE, "{word:08x}");
            assert_eq!(aged_target(bad, 4, 1), NOT_USABLE, "{word:08x}");
            assert_eq!(hashrate_multiplier(bad, u64::MAX), 0, "{word:08x}");
            assert!(!min_ann_diff_ok(bad), "{word:08x}");
            assert!(!work_ok(&Hash32::ZERO, bad), "{word:08x}");
        }
    }

    #[test]
    fn no_announcements_are_no_work() {
        assert_eq!(effective_target(CompactTarget::MAX, CompactTarget::MAX, 0, 2).0, 0);
        assert_eq!(effective_target(CompactTarget::MAX, CompactTarget::MAX, 0, 0).0, 0);
    }

    #[test]
    fn announcements_live_until_their_target_passes_255_bits() {
        let word = CompactTarget(0x1f7f_ffff);
        assert_eq!(aged_target(word, 2, 2), NOT_USABLE);
        assert_eq!(aged_target(word, 3, 2), word);
        assert_eq!(aged_target(word, 11, 2), CompactTarget(0x207f_ffff));
        assert_eq!(aged_target(word, 12, 2), NOT_USABLE);
        assert_eq!(aged_target(CompactTarget(0x207f_ffff), 4, 2), NOT_USABLE);
        assert_eq!(aged_target(CompactTarget(0x0300_0001), 258, 2), NOT_USABLE);
        assert_eq!(aged_target(CompactTarget(0x0300_0001), 257, 2), CompactTarget(0x2040_0000));
        assert_eq!(aged_target(word, u32::MAX, 2), NOT_USABLE);
        assert_eq!(aged_target(word, u32::MAX, 1), NOT_USABLE);
    }

    #[test]
    fn words_are_not_normalised_at_age_3() {
        let word = CompactTarget(0x2000_0fff);
        assert_eq!(aged_target(word, 3, 2), word);
        assert_eq!(aged_target(word, 3, 1), CompactTarget(0x1f0f_ff00));
    }
}
