//! Blocks of key streams side by side, a block a lane.

use super::{BLOCK_BYTES, KeyStream, Run};
use crate::bytes::read_u32;
use crate::simd::{Kernel, LANES_32_MAX, Simd, Words32};

/// Runs of key streams that are XORed into some data.
pub(super) struct Runs<'a> {
    pub(super) data: &'a mut [u8],
    pub(super) streams: &'a [KeyStream],
    pub(super) runs: &'a [Run],
}

impl<S: Simd> Kernel<S> for Runs<'_> {
    #[inline(always)]
    fn run(self, simd: S) {
        let Runs { data, streams, runs } = self;
        let whole = S::LANES_32 * BLOCK_BYTES;
        let mut blocks = [[0; BLOCK_BYTES]; LANES_32_MAX];
        let mut ends = Ends::new();
        // What is left of the run that is being worked on.
        let (mut run, mut next_run) = (Run { stream: 0, counter: 0, at: 0, len: 0 }, 0);
        loop {
            let is_whole = run.len >= whole;
            let input = if is_whole {
                series(simd, &streams[run.stream], COUNTER, run.counter)
            } else {
                ends.take(&mut run, streams, S::LANES_32);
                if ends.filled < S::LANES_32 && next_run < runs.len() {
                    run = runs[next_run];
                    next_run += 1;
                    continue;
                }
                if ends.filled == 0 {
                    return;
                }
                ends.columns(simd)
            };
            let columns = mix(&input);
            if is_whole {
                simd.xor_rows_32(&columns, data[run.at..run.at + whole].as_chunks_mut().0);
                run.at += whole;
                run.len -= whole;
                run.counter = run.counter.wrapping_add(S::LANES_32 as u32);
            } else {
                simd.rows_32(&columns, &mut blocks);
                for (block, (at, len)) in blocks.iter().zip(ends.places).take(ends.filled) {
                    xor(&mut data[at..at + len], block);
                }
                ends.filled = 0;
            }
        }
    }
}

/// Blocks behind those that fill all lanes, of several runs.
struct Ends<'a> {
    inputs: [&'a [u8; BLOCK_BYTES]; LANES_32_MAX],
    counters: [u32; LANES_32_MAX],
    /// Where each block goes, and how many bytes of it.
    places: [(usize, usize); LANES_32_MAX],
    /// Lanes that have a block.
    filled: usize,
}

impl<'a> Ends<'a> {
    #[inline(always)]
    fn new() -> Self {
        Ends {
            inputs: [&[0; BLOCK_BYTES]; LANES_32_MAX],
            counters: [0; LANES_32_MAX],
            places: [(0, 0); LANES_32_MAX],
            filled: 0,
        }
    }

    /// Takes blocks from a run as long as there are lanes.
    #[inline(always)]
    fn take(&mut self, run: &mut Run, streams: &'a [KeyStream], lanes: usize) {
        while run.len > 0 && self.filled < lanes {
            let len = run.len.min(BLOCK_BYTES);
            self.inputs[self.filled] = &streams[run.stream].0;
            self.counters[self.filled] = run.counter;
            self.places[self.filled] = (run.at, len);
            run.counter = run.counter.wrapping_add(1);
            run.at += len;
            run.len -= len;
            self.filled += 1;
        }
    }

    /// The words of the blocks before the rounds. Idle lanes have those of a block before.
    #[inline(always)]
    fn columns<S: Simd>(&self, simd: S) -> [S::W32; 16] {
        let mut columns = simd.columns_32(&self.inputs);
        columns[COUNTER] = simd.load_32(&self.counters);
        columns
    }
}

const LANE_NUMBERS: [u32; LANES_32_MAX] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// The words of blocks of one stream before the rounds: one word is counted up from lane to lane.
#[inline(always)]
fn series<S: Simd>(simd: S, stream: &KeyStream, word: usize, first: u32) -> [S::W32; 16] {
    let mut columns = [simd.splat_32(0); 16];
    for (i, column) in columns.iter_mut().enumerate() {
        *column = simd.splat_32(read_u32(&stream.0, 4 * i));
    }
    columns[word] = simd.splat_32(first) + simd.load_32(&LANE_NUMBERS);
    columns
}

/// Blocks of one key stream, or first blocks of key streams with consecutive numbers: what differs from
/// block to block is one word, counted up.
pub(super) struct Series<'a> {
    pub(super) stream: &'a KeyStream,
    /// The word that is counted up: [`COUNTER`] or [`NUMBER`].
    pub(super) word: usize,
    pub(super) first: u32,
    /// Where the blocks go, the last one cut.
    pub(super) out: &'a mut [u8],
}

/// The word of a block that is its counter.
pub(super) const COUNTER: usize = 12;
/// The word of a block of the byte expander that is its number.
pub(super) const NUMBER: usize = 13;

impl<S: Simd> Kernel<S> for Series<'_> {
    #[inline(always)]
    fn run(self, simd: S) {
        let mut next = self.first;
        let mut blocks = [[0; BLOCK_BYTES]; LANES_32_MAX];
        for out in self.out.chunks_mut(S::LANES_32 * BLOCK_BYTES) {
            let columns = mix(&series(simd, self.stream, self.word, next));
            simd.rows_32(&columns, &mut blocks);
            next = next.wrapping_add(S::LANES_32 as u32);
            let len = out.len();
            out.copy_from_slice(&blocks.as_flattened()[..len]);
        }
    }
}

/// XORs a block, or the beginning of one, into some data.
#[inline(always)]
fn xor(data: &mut [u8], block: &[u8; BLOCK_BYTES]) {
    if let Ok(data) = <&mut [u8; BLOCK_BYTES]>::try_from(&mut *data) {
        for i in 0..BLOCK_BYTES {
            data[i] ^= block[i];
        }
    } else {
        for i in 0..data.len() {
            data[i] ^= block[i];
        }
    }
}

/// The block function (RFC 8439, 2.3) on blocks whose words are in columns.
#[inline(always)]
fn mix<W: Words32>(input: &[W; 16]) -> [W; 16] {
    let mut v = *input;
    for _ in 0..10 {
        quarter_rounds(&mut v, [[0, 4, 8, 12], [1, 5, 9, 13]]);
        quarter_rounds(&mut v, [[2, 6, 10, 14], [3, 7, 11, 15]]);
        quarter_rounds(&mut v, [[0, 5, 10, 15], [1, 6, 11, 12]]);
        quarter_rounds(&mut v, [[2, 7, 8, 13], [3, 4, 9, 14]]);
    }
    for i in 0..16 {
        v[i] = v[i] + input[i];
    }
    v
}

/// Two quarter rounds step by step: so few registers are in use that most of them suffice.
#[inline(always)]
fn quarter_rounds<W: Words32>(v: &mut [W; 16], columns: [[usize; 4]; 2]) {
    for [a, b, _, d] in columns {
        v[a] = v[a] + v[b];
        v[d] = (v[d] ^ v[a]).rotate_left_16();
    }
    for [_, b, c, d] in columns {
        v[c] = v[c] + v[d];
        v[b] = (v[b] ^ v[c]).rotate_left_12();
    }
    for [a, b, _, d] in columns {
        v[a] = v[a] + v[b];
        v[d] = (v[d] ^ v[a]).rotate_left_8();
    }
    for [_, b, c, d] in columns {
        v[c] = v[c] + v[d];
        v[b] = (v[b] ^ v[c]).rotate_left_7();
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;
    use crate::simd::plain::Plain;

    #[test]
    fn lanes_of_any_width_are_single_blocks() {
        let streams = [3, 4, 5].map(|num| KeyStream::of_expand(&[num; 32], u32::from(num)));
        let run = |stream, counter, at, len| Run { stream, counter, at, len };
        let runs = [
            run(2, 0, 0, 64),
            run(0, 7, 100, 640),
            run(1, u32::MAX, 1000, 200),
            run(1, 1, 1200, 0),
            run(1, 1, 1200, 16),
            run(2, 2, 1300, 1700),
        ];
        let mut wanted = vec![0x55; 3000];
        for run in runs {
            streams[run.stream].apply(run.counter, &mut wanted[run.at..run.at + run.len]);
        }
        let mut two = vec![0x55; 3000];
        Plain::<2>.vectorize(Runs { data: &mut two, streams: &streams, runs: &runs });
        assert!(two == wanted);
        let mut eight = vec![0x55; 3000];
        Plain::<8>.vectorize(Runs { data: &mut eight, streams: &streams, runs: &runs });
        assert!(eight == wanted);
    }

    #[test]
    fn a_series_is_its_blocks_one_by_one() {
        let stream = KeyStream::of_expand(&[7; 32], 9);
        for len in [0, 1, 64, 1000, 2048] {
            let mut wanted = vec![0; len];
            stream.write(u32::MAX - 2, &mut wanted);
            let (mut out, first) = (vec![1; len], u32::MAX - 2);
            Plain::<4>.vectorize(Series { stream: &stream, word: COUNTER, first, out: &mut out });
            assert!(out == wanted);
        }
        let mut out = [0; 40 * BLOCK_BYTES];
        Plain::<8>.vectorize(Series { stream: &stream, word: NUMBER, first: 3, out: &mut out });
        for (num, block) in (3..).zip(out.as_chunks::<BLOCK_BYTES>().0) {
            let mut wanted = [0; BLOCK_BYTES];
            KeyStream::of_expand(&[7; 32], num).write(0, &mut wanted);
            assert!(*block == wanted);
        }
    }
}
