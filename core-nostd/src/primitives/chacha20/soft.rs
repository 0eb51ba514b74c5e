//! One block in portable code.

use super::BLOCK_BYTES;
use crate::bytes::read_u32;

/// Four words that are worked on alike: compilers put them into one register where they can.
type Row = [u32; 4];

/// The block of a key stream with this counter (RFC 8439, 2.3).
#[inline]
pub(super) fn block(input: &[u8; BLOCK_BYTES], counter: u32) -> [u8; BLOCK_BYTES] {
    let row = |at: usize| -> Row { core::array::from_fn(|i| read_u32(input, 16 * at + 4 * i)) };
    let mut input = [row(0), row(1), row(2), row(3)];
    input[3][0] = counter;
    let [mut a, mut b, mut c, mut d] = input;
    for _ in 0..10 {
        quarter_rounds(&mut a, &mut b, &mut c, &mut d);
        // The diagonals become columns, and columns again.
        (b, c, d) = (rotate::<1>(b), rotate::<2>(c), rotate::<3>(d));
        quarter_rounds(&mut a, &mut b, &mut c, &mut d);
        (b, c, d) = (rotate::<3>(b), rotate::<2>(c), rotate::<1>(d));
    }
    let mut block = [[[0; 4]; 4]; 4];
    for (at, row) in [a, b, c, d].into_iter().enumerate() {
        for i in 0..4 {
            block[at][i] = row[i].wrapping_add(input[at][i]).to_le_bytes();
        }
    }
    zerocopy::transmute!(block)
}

/// The quarter round of each column.
#[inline(always)]
fn quarter_rounds(a: &mut Row, b: &mut Row, c: &mut Row, d: &mut Row) {
    add_xor_rotate::<16>(a, b, d);
    add_xor_rotate::<12>(c, d, b);
    add_xor_rotate::<8>(a, b, d);
    add_xor_rotate::<7>(c, d, b);
}

#[inline(always)]
fn add_xor_rotate<const BITS: u32>(sum: &mut Row, term: &Row, rotated: &mut Row) {
    for i in 0..4 {
        sum[i] = sum[i].wrapping_add(term[i]);
    }
    for i in 0..4 {
        rotated[i] = (rotated[i] ^ sum[i]).rotate_left(BITS);
    }
}

/// The words of a row, from word `BY` on.
#[inline(always)]
fn rotate<const BY: usize>(row: Row) -> Row {
    [row[BY], row[(BY + 1) % 4], row[(BY + 2) % 4], row[(BY + 3) % 4]]
}
