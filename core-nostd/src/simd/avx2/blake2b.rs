//! The rounds of BLAKE2b in the order in which a CPU can do most of it at once.
//!
//! The working vector fills the sixteen registers, and a rotation by 63 needs one more. A compiler
//! takes the four columns one after the other and moves words to memory and back where the next
//! instruction waits for them; here the four go step by step, and the one word that lives in memory is
//! one that is not needed until four instructions after it was made.

use core::arch::asm;
use core::arch::x86_64::__m256i;

use super::{Order, ROTATE_64_16, U64x4};
use crate::primitives::blake2b::lanes::SIGMA;

/// Rotates words of 64 bits right by 24.
static ROTATE_64_24: Order = Order([[3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10]; 2]);

/// The four columns, then the four diagonals, as indexes of SIGMA's pairs in a round: the one with word
/// 11 of the working vector last.
const ORDER: [[usize; 4]; 2] = [[0, 1, 2, 3], [4, 6, 7, 5]];

/// Where the message word of a round is, in bytes: the first or second one of the `at`-th mixture of a
/// half of the round.
const fn place(round: usize, half: usize, at: usize, second: usize) -> usize {
    size_of::<__m256i>() * SIGMA[round][2 * ORDER[half][at] + second]
}

/// The twelve rounds.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn rounds(v: &mut [U64x4; 16], message: &[U64x4; 16]) {
    let [mut a0, mut a1, mut a2, mut a3, mut b0, mut b1, mut b2, mut b3, ..] = *v;
    let [.., mut c0, mut c1, mut c2, mut c3, mut d0, mut d1, mut d2, mut d3] = *v;
    macro_rules! rounds {
        ($($round:literal)*) => {$(
            mix::<$round, 0>(
                [&mut a0, &mut a1, &mut a2, &mut a3],
                [&mut b0, &mut b1, &mut b2, &mut b3],
                [&mut c0, &mut c1, &mut c2],
                &mut c3,
                [&mut d0, &mut d1, &mut d2, &mut d3],
                message,
            );
            mix::<$round, 1>(
                [&mut a0, &mut a2, &mut a3, &mut a1],
                [&mut b1, &mut b3, &mut b0, &mut b2],
                [&mut c2, &mut c0, &mut c1],
                &mut c3,
                [&mut d3, &mut d1, &mut d2, &mut d0],
                message,
            );
        )*};
    }
    rounds!(0 1 2 3 4 5 6 7 8 9 10 11);
    *v = [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3];
}

/// The mixing function of RFC 7693, 3.1 on four columns or diagonals: half a round. The third word of
/// the last one is in memory.
#[inline]
#[target_feature(enable = "avx2")]
fn mix<const ROUND: usize, const HALF: usize>(
    [a0, a1, a2, a3]: [&mut U64x4; 4],
    [b0, b1, b2, b3]: [&mut U64x4; 4],
    [c0, c1, c2]: [&mut U64x4; 3],
    c3: &mut U64x4,
    [d0, d1, d2, d3]: [&mut U64x4; 4],
    message: &[U64x4; 16],
) {
    // SAFETY: reads the message, whose words the places are of, and two statics; reads and writes
    // `c3`; all are as aligned as a register.
    unsafe {
        asm!(
            "vpaddq {a0}, {a0}, [{message} + {x0}]",
            "vpaddq {a1}, {a1}, [{message} + {x1}]",
            "vpaddq {a2}, {a2}, [{message} + {x2}]",
            "vpaddq {a3}, {a3}, [{message} + {x3}]",
            "vpaddq {a0}, {a0}, {b0}",
            "vpaddq {a1}, {a1}, {b1}",
            "vpaddq {a2}, {a2}, {b2}",
            "vpaddq {a3}, {a3}, {b3}",
            "vpxor {d0}, {d0}, {a0}",
            "vpxor {d1}, {d1}, {a1}",
            "vpxor {d2}, {d2}, {a2}",
            "vpxor {d3}, {d3}, {a3}",
            "vpshufd {d0}, {d0}, 0xb1",
            "vpshufd {d1}, {d1}, 0xb1",
            "vpshufd {d2}, {d2}, 0xb1",
            "vpshufd {d3}, {d3}, 0xb1",
            "vpaddq {c0}, {c0}, {d0}",
            "vpaddq {c1}, {c1}, {d1}",
            "vpaddq {c2}, {c2}, {d2}",
            "vpaddq {t}, {d3}, [{c3}]",
            "vpxor {b0}, {b0}, {c0}",
            "vpxor {b1}, {b1}, {c1}",
            "vpxor {b2}, {b2}, {c2}",
            "vpxor {b3}, {b3}, {t}",
            "vpshufb {b0}, {b0}, [rip + {rotate_24}]",
            "vpshufb {b1}, {b1}, [rip + {rotate_24}]",
            "vpshufb {b2}, {b2}, [rip + {rotate_24}]",
            "vpshufb {b3}, {b3}, [rip + {rotate_24}]",
            "vpaddq {a0}, {a0}, [{message} + {y0}]",
            "vpaddq {a1}, {a1}, [{message} + {y1}]",
            "vpaddq {a2}, {a2}, [{message} + {y2}]",
            "vpaddq {a3}, {a3}, [{message} + {y3}]",
            "vpaddq {a0}, {a0}, {b0}",
            "vpaddq {a1}, {a1}, {b1}",
            "vpaddq {a2}, {a2}, {b2}",
            "vpaddq {a3}, {a3}, {b3}",
            "vpxor {d0}, {d0}, {a0}",
            "vpxor {d1}, {d1}, {a1}",
            "vpxor {d2}, {d2}, {a2}",
            "vpxor {d3}, {d3}, {a3}",
            "vpshufb {d0}, {d0}, [rip + {rotate_16}]",
            "vpshufb {d1}, {d1}, [rip + {rotate_16}]",
            "vpshufb {d2}, {d2}, [rip + {rotate_16}]",
            "vpshufb {d3}, {d3}, [rip + {rotate_16}]",
            "vpaddq {c0}, {c0}, {d0}",
            "vpaddq {c1}, {c1}, {d1}",
            "vpaddq {c2}, {c2}, {d2}",
            "vpaddq {t}, {t}, {d3}",
            "vmovdqa [{c3}], {t}",
            "vpxor {b0}, {b0}, {c0}",
            "vpxor {b1}, {b1}, {c1}",
            "vpxor {b2}, {b2}, {c2}",
            "vpxor {b3}, {b3}, {t}",
            "vpaddq {t}, {b3}, {b3}",
            "vpsrlq {b3}, {b3}, 63",
            "vpor {b3}, {b3}, {t}",
            "vpaddq {t}, {b0}, {b0}",
            "vpsrlq {b0}, {b0}, 63",
            "vpor {b0}, {b0}, {t}",
            "vpaddq {t}, {b1}, {b1}",
            "vpsrlq {b1}, {b1}, 63",
            "vpor {b1}, {b1}, {t}",
            "vpaddq {t}, {b2}, {b2}",
            "vpsrlq {b2}, {b2}, 63",
            "vpor {b2}, {b2}, {t}",
            a0 = inout(ymm_reg) a0.0, a1 = inout(ymm_reg) a1.0,
            a2 = inout(ymm_reg) a2.0, a3 = inout(ymm_reg) a3.0,
            b0 = inout(ymm_reg) b0.0, b1 = inout(ymm_reg) b1.0,
            b2 = inout(ymm_reg) b2.0, b3 = inout(ymm_reg) b3.0,
            c0 = inout(ymm_reg) c0.0, c1 = inout(ymm_reg) c1.0, c2 = inout(ymm_reg) c2.0,
            d0 = inout(ymm_reg) d0.0, d1 = inout(ymm_reg) d1.0,
            d2 = inout(ymm_reg) d2.0, d3 = inout(ymm_reg) d3.0,
            t = out(ymm_reg) _,
            c3 = in(reg) c3,
            message = in(reg) message,
            x0 = const place(ROUND, HALF, 0, 0), y0 = const place(ROUND, HALF, 0, 1),
            x1 = const place(ROUND, HALF, 1, 0), y1 = const place(ROUND, HALF, 1, 1),
            x2 = const place(ROUND, HALF, 2, 0), y2 = const place(ROUND, HALF, 2, 1),
            x3 = const place(ROUND, HALF, 3, 0), y3 = const place(ROUND, HALF, 3, 1),
            rotate_24 = sym ROTATE_64_24,
            rotate_16 = sym ROTATE_64_16,
            options(nostack, preserves_flags)
        );
    }
}
