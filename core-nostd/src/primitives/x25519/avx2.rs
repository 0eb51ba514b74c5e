//! Four lanes in AVX2: ten limbs of 26 and 25 bits in turn, one vector of 64-bit lanes a limb.
//!
//! A reduced value has limbs below 2^26 + 2^14 (even) and 2^25 + 2^14 (odd). With limbs of a first
//! factor up to 8 times and of a second factor up to 3.3 times as large, every partial product has
//! 32-bit factors and every sum of them is below 2^64.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop)] // Limbs of several numbers have one index.

use core::arch::x86_64::*;

use super::field::{FieldElement, TWICE_P};
use super::lanes::{FieldLanes, LANES_MAX, multiply_base};
use super::scalar::Multiplier;
use super::table::{FixedBaseTable, TableEntry};

/// [`multiply_base`] with AVX2.
///
/// # Safety
/// The CPU has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn multiply(
    multipliers: &[Multiplier],
    table: &FixedBaseTable<'_>,
    coordinates: &mut [[u8; 32]],
) {
    multiply_base::<Lanes>(multipliers, table, coordinates);
}

/// Four field elements, limb by limb. Values exist only where the CPU has AVX2: they are made in
/// [`multiply`] alone.
#[derive(Clone, Copy)]
struct Lanes([__m256i; 10]);

/// The lower limb of the two in a 51-bit limb.
const LOW_BITS: i32 = 26;
const LOW_MASK: i64 = (1 << LOW_BITS) - 1;
const HIGH_BITS: i32 = 25;
const HIGH_MASK: i64 = (1 << HIGH_BITS) - 1;

impl FieldLanes for Lanes {
    const LANES: usize = 4;

    #[inline(always)]
    fn load(elements: &[FieldElement; LANES_MAX]) -> Lanes {
        let [FieldElement(a), FieldElement(b), FieldElement(c), FieldElement(d), ..] = elements;
        // SAFETY: called where the CPU has AVX2.
        unsafe {
            let mut limbs = [_mm256_setzero_si256(); 5];
            for at in 0..5 {
                limbs[at] =
                    _mm256_set_epi64x(d[at] as i64, c[at] as i64, b[at] as i64, a[at] as i64);
            }
            Lanes::of_limbs(limbs)
        }
    }

    #[inline(always)]
    fn store(self, elements: &mut [FieldElement; LANES_MAX]) {
        for limb in 0..5 {
            // SAFETY: called where the CPU has AVX2; a vector is as large as four words.
            let words: [u64; 4] = unsafe {
                let high = _mm256_slli_epi64::<LOW_BITS>(self.0[2 * limb + 1]);
                core::mem::transmute(_mm256_add_epi64(self.0[2 * limb], high))
            };
            for (element, word) in elements.iter_mut().zip(words) {
                element.0[limb] = word;
            }
        }
    }

    #[inline(always)]
    fn load_entries(entries: &[&TableEntry; LANES_MAX], digits: &[i32; LANES_MAX]) -> [Lanes; 3] {
        let [a, b, c, d, ..] = *entries;
        let rows = [a, b, c, d];
        let [first, second, third, fourth, ..] = *digits;
        // SAFETY: called where the CPU has AVX2.
        unsafe {
            let [p0, p1, p2, p3] = transpose::<0>(rows);
            let [p4, m0, m1, m2] = transpose::<4>(rows);
            let [m3, m4, t0, t1] = transpose::<8>(rows);
            let [t2, t3, t4, _] = transpose::<12>(rows);
            let signs = _mm256_cvtepi32_epi64(_mm_set_epi32(fourth, third, second, first));
            let negative = _mm256_cmpgt_epi64(_mm256_setzero_si256(), signs);
            let mut plus = [p0, p1, p2, p3, p4];
            let mut minus = [m0, m1, m2, m3, m4];
            let mut xy2d = [t0, t1, t2, t3, t4];
            for at in 0..5 {
                let negated = _mm256_sub_epi64(_mm256_set1_epi64x(TWICE_P[at] as i64), xy2d[at]);
                xy2d[at] = _mm256_blendv_epi8(xy2d[at], negated, negative);
                let differing = _mm256_xor_si256(plus[at], minus[at]);
                let swapped = _mm256_and_si256(differing, negative);
                plus[at] = _mm256_xor_si256(plus[at], swapped);
                minus[at] = _mm256_xor_si256(minus[at], swapped);
            }
            [Lanes::of_limbs(plus), Lanes::of_limbs(minus), Lanes::of_limbs(xy2d)]
        }
    }

    #[inline(always)]
    fn add(self, rhs: Lanes) -> Lanes {
        let Lanes(mut sum) = self;
        for at in 0..10 {
            // SAFETY: called where the CPU has AVX2.
            sum[at] = unsafe { _mm256_add_epi64(sum[at], rhs.0[at]) };
        }
        Lanes(sum)
    }

    #[inline(always)]
    fn sub(self, rhs: Lanes) -> Lanes {
        let Lanes(mut difference) = self;
        for at in 0..10 {
            let twice_p = match at {
                0 => 2 * (LOW_MASK - 18),
                _ if at % 2 == 0 => 2 * LOW_MASK,
                _ => 2 * HIGH_MASK,
            };
            // SAFETY: called where the CPU has AVX2.
            unsafe {
                let raised = _mm256_add_epi64(difference[at], _mm256_set1_epi64x(twice_p));
                difference[at] = _mm256_sub_epi64(raised, rhs.0[at]);
            }
        }
        Lanes(difference)
    }

    #[inline(always)]
    fn mul(self, rhs: Lanes) -> Lanes {
        // SAFETY: called where the CPU has AVX2.
        unsafe { product(&self, &rhs) }
    }

    #[inline(always)]
    fn carry(self) -> Lanes {
        // SAFETY: called where the CPU has AVX2.
        unsafe { self.carried() }
    }
}

impl Lanes {
    /// From limbs of 51 bits, or of 52 bits: then the result is loose.
    ///
    /// # Safety
    /// The CPU has AVX2.
    #[inline(always)]
    unsafe fn of_limbs(limbs: [__m256i; 5]) -> Lanes {
        // SAFETY: as the caller promises.
        unsafe {
            let mut split = [_mm256_setzero_si256(); 10];
            for at in 0..5 {
                split[2 * at] = _mm256_and_si256(limbs[at], _mm256_set1_epi64x(LOW_MASK));
                split[2 * at + 1] = _mm256_srli_epi64::<LOW_BITS>(limbs[at]);
            }
            Lanes(split)
        }
    }

    /// Carries limbs below 2^64 - 2^40: in two chains, from limb 0 and from limb 4 on.
    ///
    /// # Safety
    /// The CPU has AVX2.
    #[inline(always)]
    unsafe fn carried(self) -> Lanes {
        let Lanes(mut h) = self;
        // SAFETY: as the caller promises.
        unsafe {
            carry_low::<0, 1>(&mut h);
            carry_low::<4, 5>(&mut h);
            carry_high::<1, 2>(&mut h);
            carry_high::<5, 6>(&mut h);
            carry_low::<2, 3>(&mut h);
            carry_low::<6, 7>(&mut h);
            carry_high::<3, 4>(&mut h);
            carry_high::<7, 8>(&mut h);
            carry_low::<4, 5>(&mut h);
            carry_low::<8, 9>(&mut h);
            // 2^255 is 19 = 16 + 2 + 1.
            let over = _mm256_srli_epi64::<HIGH_BITS>(h[9]);
            h[9] = _mm256_and_si256(h[9], _mm256_set1_epi64x(HIGH_MASK));
            let times_3 = _mm256_add_epi64(over, _mm256_slli_epi64::<1>(over));
            let times_19 = _mm256_add_epi64(times_3, _mm256_slli_epi64::<4>(over));
            h[0] = _mm256_add_epi64(h[0], times_19);
            carry_low::<0, 1>(&mut h);
        }
        Lanes(h)
    }
}

/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn carry_low<const FROM: usize, const TO: usize>(h: &mut [__m256i; 10]) {
    // SAFETY: as the caller promises.
    unsafe {
        h[TO] = _mm256_add_epi64(h[TO], _mm256_srli_epi64::<LOW_BITS>(h[FROM]));
        h[FROM] = _mm256_and_si256(h[FROM], _mm256_set1_epi64x(LOW_MASK));
    }
}

/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn carry_high<const FROM: usize, const TO: usize>(h: &mut [__m256i; 10]) {
    // SAFETY: as the caller promises.
    unsafe {
        h[TO] = _mm256_add_epi64(h[TO], _mm256_srli_epi64::<HIGH_BITS>(h[FROM]));
        h[FROM] = _mm256_and_si256(h[FROM], _mm256_set1_epi64x(HIGH_MASK));
    }
}

/// Words `AT` to `AT + 3` of four entries, each with its four lanes.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn transpose<const AT: usize>(entries: [&TableEntry; 4]) -> [__m256i; 4] {
    const { assert!(AT + 4 <= 16) };
    let [a, b, c, d] = entries;
    // SAFETY: as the caller promises; an entry has 16 words.
    unsafe {
        let a = _mm256_loadu_si256(a.0.as_ptr().add(AT).cast());
        let b = _mm256_loadu_si256(b.0.as_ptr().add(AT).cast());
        let c = _mm256_loadu_si256(c.0.as_ptr().add(AT).cast());
        let d = _mm256_loadu_si256(d.0.as_ptr().add(AT).cast());
        let (ab_even, ab_odd) = (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
        let (cd_even, cd_odd) = (_mm256_unpacklo_epi64(c, d), _mm256_unpackhi_epi64(c, d));
        [
            _mm256_permute2x128_si256::<0x20>(ab_even, cd_even),
            _mm256_permute2x128_si256::<0x20>(ab_odd, cd_odd),
            _mm256_permute2x128_si256::<0x31>(ab_even, cd_even),
            _mm256_permute2x128_si256::<0x31>(ab_odd, cd_odd),
        ]
    }
}

/// The product, reduced. Two odd limbs stand for 2^51 where their places say 2^50, so their product
/// counts twice; what passes limb 9 counts 19 times.
///
/// # Safety
/// The CPU has AVX2.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn product(Lanes(f): &Lanes, Lanes(g): &Lanes) -> Lanes {
    // SAFETY: as the caller promises.
    unsafe {
        let nineteen = _mm256_set1_epi64x(19);
        let [f0, f1, f2, f3, f4, f5, f6, f7, f8, f9] = *f;
        let [g0, g1, g2, g3, g4, g5, g6, g7, g8, g9] = *g;
        let (d1, d3, d5) = (twice(f1), twice(f3), twice(f5));
        let (d7, d9) = (twice(f7), twice(f9));
        let (n1, n2, n3) = (m(g1, nineteen), m(g2, nineteen), m(g3, nineteen));
        let (n4, n5, n6) = (m(g4, nineteen), m(g5, nineteen), m(g6, nineteen));
        let (n7, n8, n9) = (m(g7, nineteen), m(g8, nineteen), m(g9, nineteen));
        #[rustfmt::skip]
        let h = [
            sum([m(f0,g0), m(d1,n9), m(f2,n8), m(d3,n7), m(f4,n6), m(d5,n5), m(f6,n4), m(d7,n3), m(f8,n2), m(d9,n1)]),
            sum([m(f0,g1), m(f1,g0), m(f2,n9), m(f3,n8), m(f4,n7), m(f5,n6), m(f6,n5), m(f7,n4), m(f8,n3), m(f9,n2)]),
            sum([m(f0,g2), m(d1,g1), m(f2,g0), m(d3,n9), m(f4,n8), m(d5,n7), m(f6,n6), m(d7,n5), m(f8,n4), m(d9,n3)]),
            sum([m(f0,g3), m(f1,g2), m(f2,g1), m(f3,g0), m(f4,n9), m(f5,n8), m(f6,n7), m(f7,n6), m(f8,n5), m(f9,n4)]),
            sum([m(f0,g4), m(d1,g3), m(f2,g2), m(d3,g1), m(f4,g0), m(d5,n9), m(f6,n8), m(d7,n7), m(f8,n6), m(d9,n5)]),
            sum([m(f0,g5), m(f1,g4), m(f2,g3), m(f3,g2), m(f4,g1), m(f5,g0), m(f6,n9), m(f7,n8), m(f8,n7), m(f9,n6)]),
            sum([m(f0,g6), m(d1,g5), m(f2,g4), m(d3,g3), m(f4,g2), m(d5,g1), m(f6,g0), m(d7,n9), m(f8,n8), m(d9,n7)]),
            sum([m(f0,g7), m(f1,g6), m(f2,g5), m(f3,g4), m(f4,g3), m(f5,g2), m(f6,g1), m(f7,g0), m(f8,n9), m(f9,n8)]),
            sum([m(f0,g8), m(d1,g7), m(f2,g6), m(d3,g5), m(f4,g4), m(d5,g3), m(f6,g2), m(d7,g1), m(f8,g0), m(d9,n9)]),
            sum([m(f0,g9), m(f1,g8), m(f2,g7), m(f3,g6), m(f4,g5), m(f5,g4), m(f6,g3), m(f7,g2), m(f8,g1), m(f9,g0)]),
        ];
        Lanes(h).carried()
    }
}

/// The 64-bit products of the low 32 bits.
///
/// The intrinsic is a multiplication of 64-bit numbers cut to 32 bits, and where the compiler moves
/// the cutting into another block it multiplies in many instructions. So the one is named here.
///
/// # Safety
/// The CPU has AVX2.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn m(a: __m256i, b: __m256i) -> __m256i {
    let product;
    // SAFETY: as the caller promises; nothing but registers is used.
    unsafe {
        core::arch::asm!(
            "vpmuludq {product}, {a}, {b}",
            product = lateout(ymm_reg) product,
            a = in(ymm_reg) a,
            b = in(ymm_reg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    product
}

/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn twice(a: __m256i) -> __m256i {
    // SAFETY: as the caller promises.
    unsafe { _mm256_add_epi64(a, a) }
}

/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn sum(terms: [__m256i; 10]) -> __m256i {
    let mut sum = terms[0];
    for term in &terms[1..] {
        // SAFETY: as the caller promises.
        sum = unsafe { _mm256_add_epi64(sum, *term) };
    }
    sum
}
