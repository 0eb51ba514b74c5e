//! BLAKE2b of messages of one length side by side, a message a lane (RFC 7693).

use core::borrow::Borrow;

use zerocopy::{FromBytes, IntoBytes};

use crate::backend::Backend;
use crate::bytes::{Hash32, Hash64};
use crate::primitives::{compress32, compress64};
use crate::simd::{Kernel, LANES_64_MAX, Level, Simd, Words64};

/// Bytes of a block of a message.
pub(super) const BLOCK_BYTES: usize = 128;

/// The initialization vector: that of SHA-512.
const IV: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// The order of the message words in each round; rounds 10 and 11 are as 0 and 1.
pub(crate) const SIGMA: [[usize; 16]; 12] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
];

/// A digest, whose length is a parameter of the hash.
pub(super) trait Digest: IntoBytes + FromBytes {
    /// The digest of one message.
    fn of(message: &[u8]) -> Self;
}

impl Digest for Hash32 {
    fn of(message: &[u8]) -> Hash32 {
        compress32(message)
    }
}

impl Digest for Hash64 {
    fn of(message: &[u8]) -> Hash64 {
        compress64(message)
    }
}

/// Hashes each message: in lanes as far as they can be filled well, alone otherwise.
pub(super) fn hash_many<const N: usize, M: Borrow<[u8; N]>, D: Digest>(
    messages: &[M],
    digests: &mut [D],
    backend: Backend,
) {
    assert_eq!(messages.len(), digests.len(), "a hash for each message");
    let level = backend.level();
    let lanes = level.map_or(1, Level::lanes_64);
    for (messages, digests) in messages.chunks(lanes).zip(digests.chunks_mut(lanes)) {
        match level {
            // Lanes take as long as about two single messages, however few are filled.
            Some(level) if messages.len() > lanes / 4 => hash_lanes(messages, digests, level),
            _ => {
                for (message, digest) in messages.iter().zip(digests) {
                    *digest = D::of(message.borrow());
                }
            }
        }
    }
}

/// Hashes at most as many messages as there are lanes.
fn hash_lanes<const N: usize, M: Borrow<[u8; N]>, D: Digest>(
    messages: &[M],
    digests: &mut [D],
    level: Level,
) {
    // Idle lanes hash the last message once more.
    let last = messages.len() - 1;
    let mut rows = [[0; LANES_64_MAX]; 8];
    level.run(Lanes {
        messages: core::array::from_fn(|lane| messages[lane.min(last)].borrow().as_slice()),
        digest_bytes: size_of::<D>(),
        columns: &mut rows,
    });
    for (lane, digest) in digests.iter_mut().enumerate() {
        let (words, _) = digest.as_mut_bytes().as_chunks_mut::<8>();
        for (word, row) in words.iter_mut().zip(&rows) {
            *word = row[lane].to_le_bytes();
        }
    }
}

/// A message a lane, all of one length.
struct Lanes<'a> {
    messages: [&'a [u8]; LANES_64_MAX],
    digest_bytes: usize,
    /// Where the digests go: row `i` has word `i` of each lane.
    columns: &'a mut [[u64; LANES_64_MAX]; 8],
}

impl<S: Simd> Kernel<S> for Lanes<'_> {
    #[inline(always)]
    fn run(self, simd: S) {
        let len = self.messages[0].len();
        let mut state = initial(self.digest_bytes).map(|word| simd.splat_64(word));

        // One loop for all blocks: two copies of the rounds do not fit where a CPU keeps what it
        // has decoded.
        let blocks = len.div_ceil(BLOCK_BYTES).max(1);
        let mut padded = [[0; BLOCK_BYTES]; LANES_64_MAX];
        for block in 0..blocks {
            let from = block * BLOCK_BYTES;
            if len - from < BLOCK_BYTES {
                for (block, message) in padded[..S::LANES_64].iter_mut().zip(self.messages) {
                    block[..len - from].copy_from_slice(&message[from..]);
                }
            }
            let mut rows = padded.each_ref();
            for (row, message) in rows.iter_mut().zip(self.messages) {
                *row = message[from..].first_chunk().unwrap_or(*row);
            }
            let words = simd.columns_64(&rows[..S::LANES_64]);
            let end = simd.splat_64(len.min(from + BLOCK_BYTES) as u64);
            let last = simd.splat_64(if block + 1 == blocks { u64::MAX } else { 0 });
            compress(simd, &mut state, &words, end, last);
        }
        for (word, column) in state.into_iter().zip(self.columns) {
            word.store(column);
        }
    }
}

/// The state before the first block.
pub(super) fn initial(digest_bytes: usize) -> [u64; 8] {
    let mut state = IV;
    // The parameter block: digest length, no key, fanout and depth 1.
    state[0] ^= 0x0101_0000 ^ digest_bytes as u64;
    state
}

/// The compression function: takes in a block of which the message so far ends at byte `end`. All ones
/// in `last` for the last block, else zero.
#[inline(always)]
pub(super) fn compress<S: Simd>(
    simd: S,
    state: &mut [S::W64; 8],
    message: &[S::W64; 16],
    end: S::W64,
    last: S::W64,
) {
    let mut v = [state[0]; 16];
    v[..8].copy_from_slice(state);
    for (word, iv) in v[8..].iter_mut().zip(IV) {
        *word = simd.splat_64(iv);
    }
    v[12] = v[12] ^ end;
    v[14] = v[14] ^ last;

    simd.blake2b_rounds(&mut v, message);
    for i in 0..8 {
        state[i] = state[i] ^ v[i] ^ v[i + 8];
    }
}

/// The rounds of the compression function, for every instruction set.
#[inline(always)]
pub(crate) fn rounds<W: Words64>(v: &mut [W; 16], message: &[W; 16]) {
    // Written out, so that the message words of a round are named at compile time.
    round::<0, _>(v, message);
    round::<1, _>(v, message);
    round::<2, _>(v, message);
    round::<3, _>(v, message);
    round::<4, _>(v, message);
    round::<5, _>(v, message);
    round::<6, _>(v, message);
    round::<7, _>(v, message);
    round::<8, _>(v, message);
    round::<9, _>(v, message);
    round::<10, _>(v, message);
    round::<11, _>(v, message);
}

#[inline(always)]
fn round<const R: usize, W: Words64>(v: &mut [W; 16], message: &[W; 16]) {
    mix(v, [0, 4, 8, 12], message[SIGMA[R][0]], message[SIGMA[R][1]]);
    mix(v, [1, 5, 9, 13], message[SIGMA[R][2]], message[SIGMA[R][3]]);
    mix(v, [2, 6, 10, 14], message[SIGMA[R][4]], message[SIGMA[R][5]]);
    mix(v, [3, 7, 11, 15], message[SIGMA[R][6]], message[SIGMA[R][7]]);
    mix(v, [0, 5, 10, 15], message[SIGMA[R][8]], message[SIGMA[R][9]]);
    mix(v, [1, 6, 11, 12], message[SIGMA[R][10]], message[SIGMA[R][11]]);
    mix(v, [2, 7, 8, 13], message[SIGMA[R][12]], message[SIGMA[R][13]]);
    mix(v, [3, 4, 9, 14], message[SIGMA[R][14]], message[SIGMA[R][15]]);
}

/// The mixing function of RFC 7693, 3.1.
#[inline(always)]
fn mix<W: Words64>(v: &mut [W; 16], [a, b, c, d]: [usize; 4], x: W, y: W) {
    v[a] = v[a] + v[b] + x;
    v[d] = (v[d] ^ v[a]).rotate_right_32();
    v[c] = v[c] + v[d];
    v[b] = (v[b] ^ v[c]).rotate_right_24();
    v[a] = v[a] + v[b] + y;
    v[d] = (v[d] ^ v[a]).rotate_right_16();
    v[c] = v[c] + v[d];
    v[b] = (v[b] ^ v[c]).rotate_right_63();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitives::expand;
    use crate::simd::plain::Plain;

    /// Lanes of any width against single messages.
    fn check<const LANES: usize, const N: usize>() {
        let mut messages = [[0; N]; LANES_64_MAX];
        for (num, message) in (0..).zip(&mut messages) {
            expand(&[3; 32], num, message);
        }
        let mut columns = [[0; LANES_64_MAX]; 8];
        Plain::<LANES>.vectorize(Lanes {
            messages: messages.each_ref().map(|message| message.as_slice()),
            digest_bytes: 64,
            columns: &mut columns,
        });
        for (lane, message) in messages[..LANES].iter().enumerate() {
            let words = columns.map(|column| column[lane].to_le_bytes());
            assert_eq!(words.as_flattened(), compress64(message).0);
        }
    }

    #[test]
    fn lanes_of_any_width_are_single_messages() {
        check::<2, 1024>();
        check::<4, 1024>();
        check::<8, 1024>();
        check::<1, 0>();
        check::<8, 128>();
        check::<3, 129>();
    }
}
