//! Blocks of one message side by side.
//!
//! With `n` lanes the polynomial is evaluated as `n` polynomials in `r^n`, of which each lane has
//! every `n`-th coefficient; at the end each lane is multiplied by the power of `r` that is missing
//! to it. Lanes in front of the first block hold zero.

use super::Message;
use super::field::Element;
use crate::simd::{LANES_64_MAX, Simd};

/// How the numbers modulo 2^130 - 5 lie in vectors, a number a lane.
pub(super) trait Radix<S: Simd> {
    /// A number in each lane.
    type Numbers: Copy;
    /// A number to multiply by in each lane.
    type Factors;

    /// The bit behind a block, in its uppermost limb.
    const TOP_BIT: u64;

    /// Zero in each lane.
    fn zero(simd: S) -> Self::Numbers;

    /// Adds a block in each lane; `tops` are [`Radix::TOP_BIT`], or zero in lanes without a block.
    fn add_blocks(
        simd: S,
        numbers: Self::Numbers,
        blocks: &[[u8; 16]],
        tops: S::W64,
    ) -> Self::Numbers;

    /// Makes ready to multiply by these numbers.
    fn factors(simd: S, numbers: &[Element; LANES_64_MAX]) -> Self::Factors;

    /// Multiplies in each lane.
    fn multiply(simd: S, numbers: Self::Numbers, factors: &Self::Factors) -> Self::Numbers;

    /// Multiplies two numbers in each lane, each by its factor, and adds the products.
    fn multiply_two(
        simd: S,
        numbers: [Self::Numbers; 2],
        factors: [&Self::Factors; 2],
    ) -> Self::Numbers;

    /// The sum of all lanes.
    fn sum(numbers: Self::Numbers) -> Element;
}

/// The tag of a message.
#[inline(always)]
#[expect(clippy::manual_memcpy, reason = "a copy of unknown length would be a call")]
pub(super) fn tag<S: Simd, R: Radix<S>>(simd: S, message: &Message<'_>) -> [u8; 16] {
    let lanes = S::LANES_64;
    let powers = powers(&message.r(), lanes);
    let step = R::factors(simd, &[powers[0]; LANES_64_MAX]);
    let last = R::factors(simd, &powers);

    // The lanes in front of the first block, such that the tail falls into the last lane.
    let blanks = lanes - 1 - message.blocks.len() % lanes;
    let first_len = (lanes - blanks).min(message.blocks.len());
    let (first, rest) = message.blocks.split_at(first_len);
    let mut blocks = [[0; 16]; LANES_64_MAX];
    let mut tops = [0; LANES_64_MAX];
    for lane in 0..lanes {
        if lane >= blanks && lane < blanks + first_len {
            blocks[lane] = first[lane - blanks];
        }
        tops[lane] = if lane >= blanks { R::TOP_BIT } else { 0 };
    }
    let mut numbers = R::zero(simd);
    if first_len == lanes - blanks {
        // There are more blocks than these, be it the tail alone.
        numbers = R::add_blocks(simd, numbers, &blocks, simd.load_64(&tops));
        numbers = R::multiply(simd, numbers, &step);
        let (pairs, rest) = rest.split_at(rest.len() - rest.len() % (2 * lanes));
        if !pairs.is_empty() {
            numbers = add_pairs::<S, R>(simd, numbers, pairs, &powers[0], &step);
        }
        let groups = rest.chunks_exact(lanes);
        let remainder = groups.remainder();
        for blocks in groups {
            numbers = R::add_blocks(simd, numbers, blocks, simd.splat_64(R::TOP_BIT));
            numbers = R::multiply(simd, numbers, &step);
        }
        for lane in 0..lanes - 1 {
            blocks[lane] = remainder[lane];
        }
        tops = [R::TOP_BIT; LANES_64_MAX];
    }
    blocks[lanes - 1] = message.tail;
    numbers = R::add_blocks(simd, numbers, &blocks, simd.load_64(&tops));
    numbers = R::multiply(simd, numbers, &last);
    message.tag_of(R::sum(numbers))
}

/// Goes on with two blocks in each lane at a time: nothing waits for the first of them, and carries
/// run once for both. `step` are the factors of `power`.
#[inline(always)]
fn add_pairs<S: Simd, R: Radix<S>>(
    simd: S,
    mut numbers: R::Numbers,
    pairs: &[[u8; 16]],
    power: &Element,
    step: &R::Factors,
) -> R::Numbers {
    let square = R::factors(simd, &[power.multiply(power); LANES_64_MAX]);
    let tops = simd.splat_64(R::TOP_BIT);
    for pair in pairs.chunks_exact(2 * S::LANES_64) {
        let (first, second) = pair.split_at(S::LANES_64);
        numbers = R::add_blocks(simd, numbers, first, tops);
        let second = R::add_blocks(simd, R::zero(simd), second, tops);
        numbers = R::multiply_two(simd, [numbers, second], [&square, step]);
    }
    numbers
}

/// The first powers of a number, as many as there are lanes, the highest first.
#[inline(always)]
fn powers(r: &Element, lanes: usize) -> [Element; LANES_64_MAX] {
    let mut powers = [*r; LANES_64_MAX];
    for exponent in 2..=lanes {
        let half = exponent / 2;
        let (low, high) = (powers[lanes - half], powers[lanes - (exponent - half)]);
        powers[lanes - exponent] = low.multiply(&high);
    }
    powers
}

#[cfg(test)]
mod tests {
    use core::array;

    use super::*;
    use crate::primitives::expand;
    use crate::primitives::poly1305::{radix_26, radix_44};
    use crate::simd::plain::Plain;

    /// Messages of all lengths around the widths, and the longest, at keys with many bits.
    #[test]
    fn lanes_of_any_width_are_single_blocks() {
        let mut data = [[0; 16]; 128];
        for (num, full) in [(0, 0), (1, 0), (2, 30), (3, 128)] {
            expand(&[8; 32], num, data.as_flattened_mut());
            data[..full].fill([0xff; 16]);
            let mut key = [0xff; 32];
            if num < 3 {
                expand(&[9; 32], num, &mut key);
            }
            let message = |len| Message { key: &key, blocks: &data[..len], tail: data[127 - len] };
            let messages: [_; 40] =
                array::from_fn(|at| message(if at < 34 { at } else { at + 86 }));
            let wanted = messages.map(|message| message.tag());
            let mut tags = [[0; 16]; 40];
            let mut check = |run: &mut dyn FnMut(&mut [[u8; 16]])| {
                tags.fill([0; 16]);
                run(&mut tags);
                assert_eq!(tags, wanted);
            };
            let messages = &messages;
            check(&mut |tags| Plain::<2>.vectorize(radix_26::Tags { messages, tags }));
            check(&mut |tags| Plain::<4>.vectorize(radix_26::Tags { messages, tags }));
            check(&mut |tags| Plain::<8>.vectorize(radix_26::Tags { messages, tags }));
            check(&mut |tags| Plain::<4>.vectorize(radix_44::Tags { messages, tags }));
            check(&mut |tags| Plain::<8>.vectorize(radix_44::Tags { messages, tags }));
        }
    }
}
