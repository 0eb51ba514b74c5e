//! Five limbs of 26 bits, for multiplications of 32 by 32 bits.

use super::Message;
use super::field::Element;
use super::lanes::{self, Radix};
use crate::simd::{Kernel, LANES_64_MAX, Simd, Words64};

const MASK: u64 = (1 << 26) - 1;

/// The tag of each message.
pub(super) struct Tags<'a> {
    pub(super) messages: &'a [Message<'a>],
    pub(super) tags: &'a mut [[u8; 16]],
}

impl<S: Simd> Kernel<S> for Tags<'_> {
    #[inline(always)]
    fn run(self, simd: S) {
        for (message, tag) in self.messages.iter().zip(self.tags) {
            *tag = lanes::tag::<S, Radix26>(simd, message);
        }
    }
}

struct Radix26;

/// Limbs to multiply by.
struct Factors<W> {
    limbs: [W; 5],
    /// The limbs for products that wrap around: limb 5 would have the weight 2^130, which is 5.
    wrapped: [W; 5],
}

impl<S: Simd> Radix<S> for Radix26 {
    type Numbers = [S::W64; 5];
    type Factors = Factors<S::W64>;

    const TOP_BIT: u64 = 1 << 24;

    #[inline(always)]
    fn zero(simd: S) -> [S::W64; 5] {
        [simd.splat_64(0); 5]
    }

    #[inline(always)]
    fn add_blocks(
        simd: S,
        [h0, h1, h2, h3, h4]: [S::W64; 5],
        blocks: &[[u8; 16]],
        tops: S::W64,
    ) -> [S::W64; 5] {
        let mask = simd.splat_64(MASK);
        let (low, high) = simd.pairs_64(blocks);
        [
            h0 + (low & mask),
            h1 + (low.shift_right::<26>() & mask),
            h2 + ((low.shift_right::<52>() + high.shift_left::<12>()) & mask),
            h3 + (high.shift_right::<14>() & mask),
            h4 + (high.shift_right::<40>() + tops),
        ]
    }

    #[inline(always)]
    fn factors(simd: S, numbers: &[Element; LANES_64_MAX]) -> Factors<S::W64> {
        let mut columns = [[0; LANES_64_MAX]; 5];
        for lane in 0..S::LANES_64 {
            let limbs = limbs_of(&numbers[lane]);
            for i in 0..5 {
                columns[i][lane] = limbs[i];
            }
        }
        let mut limbs = [simd.splat_64(0); 5];
        let mut wrapped = limbs;
        for i in 0..5 {
            limbs[i] = simd.load_64(&columns[i]);
            wrapped[i] = product(limbs[i], simd.splat_64(5));
        }
        Factors { limbs, wrapped }
    }

    #[inline(always)]
    fn multiply(simd: S, numbers: [S::W64; 5], factors: &Factors<S::W64>) -> [S::W64; 5] {
        carry(simd, products(numbers, factors))
    }

    #[inline(always)]
    fn multiply_two(
        simd: S,
        [a, b]: [[S::W64; 5]; 2],
        [of_a, of_b]: [&Factors<S::W64>; 2],
    ) -> [S::W64; 5] {
        let [a0, a1, a2, a3, a4] = products(a, of_a);
        let [b0, b1, b2, b3, b4] = products(b, of_b);
        carry(simd, [a0 + b0, a1 + b1, a2 + b2, a3 + b3, a4 + b4])
    }

    #[inline(always)]
    fn sum(numbers: [S::W64; 5]) -> Element {
        let mut sums = [0; 5];
        for (sum, limb) in sums.iter_mut().zip(numbers) {
            let mut words = [0; LANES_64_MAX];
            limb.store(&mut words);
            for word in &words[..S::LANES_64] {
                *sum += word;
            }
        }
        element_of(sums)
    }
}

/// The limbs of the products, not yet of their width.
#[inline(always)]
fn products<W: Words64>(numbers: [W; 5], factors: &Factors<W>) -> [W; 5] {
    let [h0, h1, h2, h3, h4] = numbers;
    let (h0, h1, h2) = (h0.opaque(), h1.opaque(), h2.opaque());
    let (h3, h4) = (h3.opaque(), h4.opaque());
    let [r0, r1, r2, r3, r4] = factors.limbs;
    let [_, s1, s2, s3, s4] = factors.wrapped;
    let d0 = product(h0, r0) + product(h1, s4) + product(h2, s3) + product(h3, s2);
    let d1 = product(h0, r1) + product(h1, r0) + product(h2, s4) + product(h3, s3);
    let d2 = product(h0, r2) + product(h1, r1) + product(h2, r0) + product(h3, s4);
    let d3 = product(h0, r3) + product(h1, r2) + product(h2, r1) + product(h3, r0);
    let d4 = product(h0, r4) + product(h1, r3) + product(h2, r2) + product(h3, r1);
    [
        d0 + product(h4, s1),
        d1 + product(h4, s2),
        d2 + product(h4, s3),
        d3 + product(h4, s4),
        d4 + product(h4, r0),
    ]
}

#[inline(always)]
fn product<W: Words64>(a: W, b: W) -> W {
    a.multiply_low_halves(b)
}

/// Brings the limbs of at most two products back to 26 bits, a few more in limbs 1 and 4. Two chains
/// of carries run beside each other.
#[inline(always)]
fn carry<S: Simd>(simd: S, [d0, d1, d2, d3, d4]: [S::W64; 5]) -> [S::W64; 5] {
    let mask = simd.splat_64(MASK);
    let (d4, d3) = (d4 + d3.shift_right::<26>(), d3 & mask);
    let (d1, d0) = (d1 + d0.shift_right::<26>(), d0 & mask);
    // No product in limb 4 wraps around, so that what leaves it is shorter than 32 bits.
    let (d0, d4) = (d0 + product(d4.shift_right::<26>(), simd.splat_64(5)), d4 & mask);
    let (d2, d1) = (d2 + d1.shift_right::<26>(), d1 & mask);
    let (d3, d2) = (d3 + d2.shift_right::<26>(), d2 & mask);
    let (d1, d0) = (d1 + d0.shift_right::<26>(), d0 & mask);
    let (d4, d3) = (d4 + d3.shift_right::<26>(), d3 & mask);
    [d0, d1, d2, d3, d4]
}

/// The limbs of a product of elements; the uppermost may be a bit longer.
#[inline(always)]
fn limbs_of(number: &Element) -> [u64; 5] {
    let [h0, h1, h2] = number.0;
    let low = u128::from(h0) + (u128::from(h1) << 44);
    let high = (low >> 78) as u64 + (h2 << 10);
    let limb = |at: u32| (low >> at) as u64 & MASK;
    [limb(0), limb(26), limb(52), high & MASK, high >> 26]
}

/// The number with these limbs, each of at most 32 bits.
#[inline(always)]
fn element_of(limbs: [u64; 5]) -> Element {
    let [d0, d1, d2, d3, d4] = limbs.map(u128::from);
    let low = d0 + (d1 << 26) + (d2 << 52);
    let high = (low >> 44) + (d3 << 34) + (d4 << 60);
    const MASK_44: u128 = (1 << 44) - 1;
    Element([(low & MASK_44) as u64, (high & MASK_44) as u64, (high >> 44) as u64]).carried()
}
