//! Eight lanes in AVX-512 with IFMA: five limbs of 51 bits, one vector of 64-bit lanes a limb.
//!
//! IFMA multiplies numbers of 52 bits, so factors have limbs below 2^52: sums and differences are
//! carried at once. A reduced value has limbs below 2^51 + 2^15.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop)] // Limbs of several numbers have one index.

use core::arch::x86_64::*;

use super::field::{FieldElement, TWICE_P};
use super::lanes::{FieldLanes, LANES_MAX, multiply_base};
use super::scalar::Multiplier;
use super::table::{FixedBaseTable, TableEntry};

/// [`multiply_base`] with AVX-512.
///
/// # Safety
/// The CPU has AVX-512 F, DQ and IFMA.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) unsafe fn multiply(
    multipliers: &[Multiplier],
    table: &FixedBaseTable<'_>,
    coordinates: &mut [[u8; 32]],
) {
    multiply_base::<Lanes>(multipliers, table, coordinates);
}

/// Eight field elements, limb by limb. Values exist only where the CPU has AVX-512: they are made in
/// [`multiply`] alone.
#[derive(Clone, Copy)]
struct Lanes([__m512i; 5]);

const BITS: u32 = 51;
const MASK: i64 = (1 << BITS) - 1;

impl FieldLanes for Lanes {
    const LANES: usize = 8;

    #[inline(always)]
    fn load(elements: &[FieldElement; LANES_MAX]) -> Lanes {
        // SAFETY: called where the CPU has AVX-512; a vector is as large as eight words.
        unsafe {
            let mut limbs = [_mm512_setzero_si512(); 5];
            for at in 0..5 {
                let mut words = [0; LANES_MAX];
                for (word, element) in words.iter_mut().zip(elements) {
                    *word = element.0[at];
                }
                limbs[at] = _mm512_loadu_si512(words.as_ptr().cast());
            }
            Lanes(limbs)
        }
    }

    #[inline(always)]
    fn store(self, elements: &mut [FieldElement; LANES_MAX]) {
        for at in 0..5 {
            let mut words = [0; LANES_MAX];
            // SAFETY: called where the CPU has AVX-512; a vector is as large as eight words.
            unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), self.0[at]) };
            for (element, word) in elements.iter_mut().zip(words) {
                element.0[at] = word;
            }
        }
    }

    #[inline(always)]
    fn load_entries(entries: &[&TableEntry; LANES_MAX], digits: &[i32; LANES_MAX]) -> [Lanes; 3] {
        // SAFETY: called where the CPU has AVX-512; half of a vector is as large as eight digits.
        unsafe {
            let [p0, p1, p2, p3, p4, m0, m1, m2] = transpose::<0>(entries);
            let [m3, m4, t0, t1, t2, t3, t4, _] = transpose::<8>(entries);
            let signs = _mm512_cvtepi32_epi64(_mm256_loadu_si256(digits.as_ptr().cast()));
            let negative = _mm512_movepi64_mask(signs);
            let (plus, minus) = ([p0, p1, p2, p3, p4], [m0, m1, m2, m3, m4]);
            let mut chosen_plus = plus;
            let mut chosen_minus = minus;
            let mut xy2d = [t0, t1, t2, t3, t4];
            for at in 0..5 {
                chosen_plus[at] = _mm512_mask_blend_epi64(negative, plus[at], minus[at]);
                chosen_minus[at] = _mm512_mask_blend_epi64(negative, minus[at], plus[at]);
                let twice_p = _mm512_set1_epi64(TWICE_P[at] as i64);
                xy2d[at] = _mm512_mask_sub_epi64(xy2d[at], negative, twice_p, xy2d[at]);
            }
            [Lanes(chosen_plus), Lanes(chosen_minus), Lanes(xy2d)]
        }
    }

    #[inline(always)]
    fn add(self, rhs: Lanes) -> Lanes {
        let Lanes(mut sum) = self;
        for at in 0..5 {
            // SAFETY: called where the CPU has AVX-512.
            sum[at] = unsafe { _mm512_add_epi64(sum[at], rhs.0[at]) };
        }
        Lanes(sum).carry()
    }

    #[inline(always)]
    fn sub(self, rhs: Lanes) -> Lanes {
        let Lanes(mut difference) = self;
        for at in 0..5 {
            // SAFETY: called where the CPU has AVX-512.
            unsafe {
                let twice_p = _mm512_set1_epi64(TWICE_P[at] as i64);
                let raised = _mm512_add_epi64(difference[at], twice_p);
                difference[at] = _mm512_sub_epi64(raised, rhs.0[at]);
            }
        }
        Lanes(difference).carry()
    }

    #[inline(always)]
    fn mul(self, rhs: Lanes) -> Lanes {
        // SAFETY: called where the CPU has AVX-512 with IFMA.
        unsafe { product(self, rhs) }
    }

    /// Carries limbs below 2^61, all at once.
    #[inline(always)]
    fn carry(self) -> Lanes {
        let [a, b, c, d, e] = self.0;
        // SAFETY: called where the CPU has AVX-512.
        unsafe {
            Lanes([
                _mm512_add_epi64(low(a), times_19(_mm512_srli_epi64::<BITS>(e))),
                _mm512_add_epi64(low(b), _mm512_srli_epi64::<BITS>(a)),
                _mm512_add_epi64(low(c), _mm512_srli_epi64::<BITS>(b)),
                _mm512_add_epi64(low(d), _mm512_srli_epi64::<BITS>(c)),
                _mm512_add_epi64(low(e), _mm512_srli_epi64::<BITS>(d)),
            ])
        }
    }
}

/// The lowest 51 bits.
///
/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
unsafe fn low(limb: __m512i) -> __m512i {
    // SAFETY: as the caller promises.
    unsafe { _mm512_and_si512(limb, _mm512_set1_epi64(MASK)) }
}

/// 19 = 16 + 2 + 1 times.
///
/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
unsafe fn times_19(limb: __m512i) -> __m512i {
    // SAFETY: as the caller promises.
    unsafe {
        let times_3 = _mm512_add_epi64(limb, _mm512_slli_epi64::<1>(limb));
        _mm512_add_epi64(times_3, _mm512_slli_epi64::<4>(limb))
    }
}

/// The product. The lower 52 bits of a partial product stand in its place, the upper ones in the next
/// place twice, since a place has 51 bits; what passes the fifth place counts 19 times. A place then
/// is below 5 * 2^52 * 3 * 20 < 2^61.
///
/// # Safety
/// The CPU has AVX-512 with IFMA.
#[inline(always)]
unsafe fn product(Lanes(f): Lanes, Lanes(g): Lanes) -> Lanes {
    // SAFETY: as the caller promises.
    unsafe {
        let mut lower = [_mm512_setzero_si512(); 10];
        let mut upper = [_mm512_setzero_si512(); 10];
        for i in 0..5 {
            for k in 0..5 {
                lower[i + k] = _mm512_madd52lo_epu64(lower[i + k], f[i], g[k]);
                upper[i + k + 1] = _mm512_madd52hi_epu64(upper[i + k + 1], f[i], g[k]);
            }
        }
        let mut places = lower;
        for at in 0..10 {
            places[at] = _mm512_add_epi64(lower[at], _mm512_slli_epi64::<1>(upper[at]));
        }
        let mut limbs = f;
        for at in 0..5 {
            limbs[at] = _mm512_add_epi64(places[at], times_19(places[at + 5]));
        }
        Lanes(limbs).carry()
    }
}

/// Words `AT` to `AT + 7` of eight entries, each with its eight lanes.
///
/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
unsafe fn transpose<const AT: usize>(entries: &[&TableEntry; 8]) -> [__m512i; 8] {
    const { assert!(AT + 8 <= 16) };
    // SAFETY: as the caller promises; an entry has 16 words.
    unsafe {
        let mut rows = [_mm512_setzero_si512(); 8];
        for (row, entry) in rows.iter_mut().zip(entries) {
            *row = _mm512_loadu_si512(entry.0.as_ptr().add(AT).cast());
        }
        let [c0, c2, c4, c6] = quarters(
            _mm512_unpacklo_epi64(rows[0], rows[1]),
            _mm512_unpacklo_epi64(rows[2], rows[3]),
            _mm512_unpacklo_epi64(rows[4], rows[5]),
            _mm512_unpacklo_epi64(rows[6], rows[7]),
        );
        let [c1, c3, c5, c7] = quarters(
            _mm512_unpackhi_epi64(rows[0], rows[1]),
            _mm512_unpackhi_epi64(rows[2], rows[3]),
            _mm512_unpackhi_epi64(rows[4], rows[5]),
            _mm512_unpackhi_epi64(rows[6], rows[7]),
        );
        [c0, c1, c2, c3, c4, c5, c6, c7]
    }
}

/// Four rows of four quarters of a vector as columns.
///
/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
unsafe fn quarters(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> [__m512i; 4] {
    // SAFETY: as the caller promises.
    unsafe {
        let ab_even = _mm512_shuffle_i64x2::<0x88>(a, b);
        let ab_odd = _mm512_shuffle_i64x2::<0xdd>(a, b);
        let cd_even = _mm512_shuffle_i64x2::<0x88>(c, d);
        let cd_odd = _mm512_shuffle_i64x2::<0xdd>(c, d);
        [
            _mm512_shuffle_i64x2::<0x88>(ab_even, cd_even),
            _mm512_shuffle_i64x2::<0x88>(ab_odd, cd_odd),
            _mm512_shuffle_i64x2::<0xdd>(ab_even, cd_even),
            _mm512_shuffle_i64x2::<0xdd>(ab_odd, cd_odd),
        ]
    }
}
