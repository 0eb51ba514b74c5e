//! Limbs of 44, 44 and 42 bits, for multiplications of 52 by 52 bits.

use super::Message;
use super::field::Element;
use super::lanes::{self, Radix};
use crate::simd::{Kernel, LANES_64_MAX, Simd, Words52, Words64};

const MASK_44: u64 = (1 << 44) - 1;
const MASK_42: u64 = (1 << 42) - 1;

/// The tag of each message.
pub(super) struct Tags<'a> {
    pub(super) messages: &'a [Message<'a>],
    pub(super) tags: &'a mut [[u8; 16]],
}

impl<S: Simd<W64: Words52>> Kernel<S> for Tags<'_> {
    #[inline(always)]
    fn run(self, simd: S) {
        for (message, tag) in self.messages.iter().zip(self.tags) {
            *tag = lanes::tag::<S, Radix44>(simd, message);
        }
    }
}

struct Radix44;

/// Limbs to multiply by.
struct Factors<W> {
    limbs: [W; 3],
    /// The limbs for products that wrap around: limb 3 would have the weight 2^132, which is 20.
    wrapped: [W; 3],
}

impl<S: Simd<W64: Words52>> Radix<S> for Radix44 {
    type Numbers = [S::W64; 3];
    type Factors = Factors<S::W64>;

    const TOP_BIT: u64 = 1 << 40;

    #[inline(always)]
    fn zero(simd: S) -> [S::W64; 3] {
        [simd.splat_64(0); 3]
    }

    #[inline(always)]
    fn add_blocks(
        simd: S,
        [h0, h1, h2]: [S::W64; 3],
        blocks: &[[u8; 16]],
        tops: S::W64,
    ) -> [S::W64; 3] {
        let mask = simd.splat_64(MASK_44);
        let (low, high) = simd.pairs_64(blocks);
        [
            h0 + (low & mask),
            h1 + ((low.shift_right::<44>() + high.shift_left::<20>()) & mask),
            h2 + (high.shift_right::<24>() + tops),
        ]
    }

    #[inline(always)]
    fn factors(simd: S, numbers: &[Element; LANES_64_MAX]) -> Factors<S::W64> {
        let mut limbs = [simd.splat_64(0); 3];
        let mut wrapped = limbs;
        for i in 0..3 {
            let mut column = [0; LANES_64_MAX];
            for lane in 0..S::LANES_64 {
                column[lane] = numbers[lane].0[i];
            }
            limbs[i] = simd.load_64(&column);
            wrapped[i] = limbs[i].shift_left::<4>() + limbs[i].shift_left::<2>();
        }
        Factors { limbs, wrapped }
    }

    #[inline(always)]
    fn multiply(simd: S, numbers: [S::W64; 3], factors: &Factors<S::W64>) -> [S::W64; 3] {
        let [low, high] = products(simd, numbers, factors);
        carry(simd, low, high)
    }

    #[inline(always)]
    fn multiply_two(
        simd: S,
        [a, b]: [[S::W64; 3]; 2],
        [of_a, of_b]: [&Factors<S::W64>; 2],
    ) -> [S::W64; 3] {
        let [low_a, high_a] = products(simd, a, of_a);
        let [low_b, high_b] = products(simd, b, of_b);
        carry(simd, sum(low_a, low_b), sum(high_a, high_b))
    }

    #[inline(always)]
    fn sum(numbers: [S::W64; 3]) -> Element {
        let mut sums = [0; 3];
        for (sum, limb) in sums.iter_mut().zip(numbers) {
            let mut words = [0; LANES_64_MAX];
            limb.store(&mut words);
            for word in &words[..S::LANES_64] {
                *sum += word;
            }
        }
        Element(sums).carried()
    }
}

/// The limbs of the products, not yet of their width: sums of low halves, and of high ones, which
/// have the weight 2^52 in their limb.
#[inline(always)]
fn products<S: Simd<W64: Words52>>(
    simd: S,
    [h0, h1, h2]: [S::W64; 3],
    factors: &Factors<S::W64>,
) -> [[S::W64; 3]; 2] {
    let [r0, r1, r2] = factors.limbs;
    let [_, s1, s2] = factors.wrapped;
    let limb_0 = [(h0, r0), (h1, s2), (h2, s1)];
    let limb_1 = [(h0, r1), (h1, r0), (h2, s2)];
    let limb_2 = [(h0, r2), (h1, r1), (h2, r0)];
    [
        [low(simd, limb_0), low(simd, limb_1), low(simd, limb_2)],
        [high(simd, limb_0), high(simd, limb_1), high(simd, limb_2)],
    ]
}

#[inline(always)]
fn sum<W: Words64>([a0, a1, a2]: [W; 3], [b0, b1, b2]: [W; 3]) -> [W; 3] {
    [a0 + b0, a1 + b1, a2 + b2]
}

/// Brings the limbs of at most two products to their width, the middle one to a few bits more.
#[inline(always)]
fn carry<S: Simd<W64: Words52>>(
    simd: S,
    [d0, low_1, low_2]: [S::W64; 3],
    [high_0, high_1, high_2]: [S::W64; 3],
) -> [S::W64; 3] {
    // The high halves have the weight 2^52: in the next limb 2^8, and above the uppermost, which
    // ends at 2^130, 2^10.
    let d1 = low_1 + high_0.shift_left::<8>();
    let d2 = low_2 + high_1.shift_left::<8>();

    let mask = simd.splat_64(MASK_44);
    let (d1, d0) = (d1 + d0.shift_right::<44>(), d0 & mask);
    let (d2, d1) = (d2 + d1.shift_right::<44>(), d1 & mask);
    let out = d2.shift_right::<42>() + high_2.shift_left::<10>();
    let (d0, d2) = (d0 + (out + out.shift_left::<2>()), d2 & simd.splat_64(MASK_42));
    [d0 & mask, d1 + d0.shift_right::<44>(), d2]
}

/// The sum of the low 52 bits of three products.
#[inline(always)]
fn low<S: Simd<W64: Words52>>(simd: S, [a, b, c]: [(S::W64, S::W64); 3]) -> S::W64 {
    let sum = simd.splat_64(0).add_product_low(a.0, a.1);
    sum.add_product_low(b.0, b.1).add_product_low(c.0, c.1)
}

/// The sum of the bits above them of three products.
#[inline(always)]
fn high<S: Simd<W64: Words52>>(simd: S, [a, b, c]: [(S::W64, S::W64); 3]) -> S::W64 {
    let sum = simd.splat_64(0).add_product_high(a.0, a.1);
    sum.add_product_high(b.0, b.1).add_product_high(c.0, c.1)
}
