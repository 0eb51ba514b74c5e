//! States and windows into the frame, and outputs back: words of a lane become columns.

use core::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_loadu_si256, _mm256_permute2x128_si256, _mm256_setzero_si256,
    _mm256_storeu_si256, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpacklo_epi32,
    _mm256_unpacklo_epi64,
};

use packetcrypt_core::cryptocycle::State;
use packetcrypt_core::params::{WINDOW_WORDS, WINDOWS};
use packetcrypt_core::randhash::Program;

use super::frame::Layout;

/// Half of a state, or a window.
const HALF_BYTES: usize = 4 * WINDOW_WORDS;
/// Lanes that are transposed at once.
pub(super) const LANES: usize = 8;
/// Bytes of eight lanes in a row.
pub(super) const ROW: usize = 4 * LANES;

type Half = [u8; HALF_BYTES];

/// Items that run side by side: as many as there are lanes, or fewer.
#[derive(Clone, Copy)]
pub(super) struct Group<'a> {
    pub(super) layout: Layout,
    /// Output positions differ: outputs are kept lane by lane.
    pub(super) diverges: bool,
    pub(super) program: &'a Program,
    pub(super) items: &'a [u64],
}

impl Group<'_> {
    /// Runs cycles of a program over the states of the items.
    pub(super) fn run(
        &self,
        frame: &mut [u8],
        states: &mut [State],
        cycles: u32,
        cycle: impl Fn(&mut [u8]),
    ) {
        self.load_windows(frame);
        for number in 0..cycles {
            let is_even = number.is_multiple_of(2);
            self.load_states(frame, states, is_even);
            cycle(frame);
            self.store_outputs(frame, states, is_even);
        }
    }

    fn load_windows(&self, frame: &mut [u8]) {
        let rows = &mut frame[self.layout.window()..];
        let row = self.layout.row() as usize;
        let lanes = self.layout.lanes();
        let first = self.items[0] % WINDOWS;
        let follows = |(lane, item): (usize, &u64)| item % WINDOWS == first + lane as u64;
        if self.items.len() == lanes && self.items.iter().enumerate().all(follows) {
            // SAFETY: there is an engine, so the CPU has AVX2.
            unsafe { words_to_rows(&self.program.memory()[first as usize..], rows, row) };
            return;
        }
        let windows = |lane: usize| {
            let window = self.program.window(self.items[lane]);
            // SAFETY: as many bytes as 256 words have; on this architecture they are little-endian.
            unsafe { &*core::ptr::from_ref(window).cast::<Half>() }
        };
        self.columns(rows, windows);
    }

    /// Writes a half of each lane into its column; lanes without an item repeat the last.
    fn columns<'h>(&self, rows: &mut [u8], half: impl Fn(usize) -> &'h Half) {
        let row = self.layout.row() as usize;
        let last = self.items.len() - 1;
        for first in (0..self.layout.lanes()).step_by(LANES) {
            let lanes = core::array::from_fn(|lane| half((first + lane).min(last)));
            // SAFETY: there is an engine, so the CPU has AVX2.
            unsafe { lanes_to_rows(lanes, &mut rows[4 * first..], row) };
        }
    }

    fn load_states(&self, frame: &mut [u8], states: &[State], is_even: bool) {
        let layout = self.layout;
        let input = |lane: usize| halves(&states[lane], is_even).0;
        self.columns(&mut frame[layout.input()..], input);
        let output = layout.output() as usize;
        let positions = layout.positions() as usize;
        if self.diverges {
            frame[positions..positions + layout.row() as usize].fill(0);
            let last = states.len() - 1;
            for lane in 0..layout.lanes() {
                let at = layout.lane_output(lane) as usize;
                frame[at..at + HALF_BYTES]
                    .copy_from_slice(halves(&states[lane.min(last)], is_even).1);
                frame[at + HALF_BYTES..at + 3 * HALF_BYTES].fill(0);
            }
        } else {
            let beyond = output + WINDOW_WORDS * layout.row() as usize;
            frame[beyond..beyond + WINDOW_WORDS * layout.row() as usize].fill(0);
            self.columns(&mut frame[output..], |lane| halves(&states[lane], is_even).1);
        }
    }

    /// Adds what was output beyond the end to the beginning, and writes all to the states.
    fn store_outputs(&self, frame: &mut [u8], states: &mut [State], is_even: bool) {
        let layout = self.layout;
        if self.diverges {
            let outputs = states.iter_mut().map(|state| output_mut(state, is_even));
            for (lane, output) in outputs.enumerate() {
                let at = layout.lane_output(lane) as usize;
                // SAFETY: there is an engine, so the CPU has AVX2.
                unsafe {
                    fold(&mut frame[at + HALF_BYTES..at + 3 * HALF_BYTES]);
                    fold(&mut frame[at..at + 2 * HALF_BYTES]);
                }
                output.copy_from_slice(&frame[at..at + HALF_BYTES]);
            }
            return;
        }
        let row = layout.row() as usize;
        let rows = &mut frame[layout.output() as usize..][..2 * WINDOW_WORDS * row];
        // SAFETY: there is an engine, so the CPU has AVX2.
        unsafe { fold(rows) };
        let mut first = 0;
        for states in states.chunks_mut(LANES) {
            // SAFETY: as above.
            unsafe { rows_to_lanes(&rows[4 * first..], row, states, is_even) };
            first += LANES;
        }
    }
}

/// The halves that a cycle reads and adds to.
fn halves(state: &State, is_even: bool) -> (&Half, &Half) {
    let (first, second) = state.0.split_at(HALF_BYTES);
    let (input, output) = if is_even { (first, second) } else { (second, first) };
    (input.first_chunk().expect("half a state"), output.first_chunk().expect("half a state"))
}

fn output_mut(state: &mut State, is_even: bool) -> &mut Half {
    let (first, second) = state.0.split_at_mut(HALF_BYTES);
    let output = if is_even { second } else { first };
    output.first_chunk_mut().expect("half a state")
}

/// Adds the second half of words to the first.
#[target_feature(enable = "avx2")]
fn fold(words: &mut [u8]) {
    let (low, high) = words.split_at_mut(words.len() / 2);
    for (low, high) in low.chunks_exact_mut(ROW).zip(high.chunks_exact(ROW)) {
        store(low, _mm256_add_epi32(load(low), load(high)));
    }
}

/// Copies adjacent words into 256 rows of `stride` bytes: each row begins one word further on.
#[target_feature(enable = "avx2")]
fn words_to_rows(words: &[u32], rows: &mut [u8], stride: usize) {
    for (at, row) in rows.chunks_exact_mut(stride).take(WINDOW_WORDS).enumerate() {
        for (part, row) in row.chunks_exact_mut(ROW).enumerate() {
            let from: &[u32; LANES] =
                words[at + LANES * part..].first_chunk().expect("windows end with the memory");
            // SAFETY: reads exactly these words, from any alignment.
            store(row, unsafe { _mm256_loadu_si256(from.as_ptr().cast()) });
        }
    }
}

/// Transposes eight halves into 256 rows that are `stride` bytes apart.
#[target_feature(enable = "avx2")]
fn lanes_to_rows(lanes: [&Half; LANES], rows: &mut [u8], stride: usize) {
    for at in (0..HALF_BYTES).step_by(ROW) {
        let mut words = [_mm256_setzero_si256(); LANES];
        for (words, lane) in words.iter_mut().zip(lanes) {
            *words = load(&lane[at..]);
        }
        for (number, row) in transpose(words).into_iter().enumerate() {
            store(&mut rows[(at / 4 + number) * stride..], row);
        }
    }
}

/// Transposes 256 rows that are `stride` bytes apart into the outputs of up to eight states.
#[target_feature(enable = "avx2")]
fn rows_to_lanes(rows: &[u8], stride: usize, states: &mut [State], is_even: bool) {
    for at in (0..HALF_BYTES).step_by(ROW) {
        let mut words = [_mm256_setzero_si256(); LANES];
        for (number, words) in words.iter_mut().enumerate() {
            *words = load(&rows[(at / 4 + number) * stride..]);
        }
        for (state, lane) in states.iter_mut().zip(transpose(words)) {
            store(&mut output_mut(state, is_even)[at..], lane);
        }
    }
}

#[target_feature(enable = "avx2")]
fn load(from: &[u8]) -> __m256i {
    let from: &[u8; ROW] = from.first_chunk().expect("32 bytes");
    // SAFETY: reads exactly these bytes, from any alignment.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn store(to: &mut [u8], value: __m256i) {
    let to: &mut [u8; ROW] = to.first_chunk_mut().expect("32 bytes");
    // SAFETY: writes exactly these bytes, at any alignment.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), value) };
}

/// Transposes an 8 by 8 matrix of words.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn transpose([a, b, c, d, e, f, g, h]: [__m256i; 8]) -> [__m256i; 8] {
    let pairs = [
        _mm256_unpacklo_epi32(a, b),
        _mm256_unpackhi_epi32(a, b),
        _mm256_unpacklo_epi32(c, d),
        _mm256_unpackhi_epi32(c, d),
        _mm256_unpacklo_epi32(e, f),
        _mm256_unpackhi_epi32(e, f),
        _mm256_unpacklo_epi32(g, h),
        _mm256_unpackhi_epi32(g, h),
    ];
    let fours = [
        _mm256_unpacklo_epi64(pairs[0], pairs[2]),
        _mm256_unpackhi_epi64(pairs[0], pairs[2]),
        _mm256_unpacklo_epi64(pairs[1], pairs[3]),
        _mm256_unpackhi_epi64(pairs[1], pairs[3]),
        _mm256_unpacklo_epi64(pairs[4], pairs[6]),
        _mm256_unpackhi_epi64(pairs[4], pairs[6]),
        _mm256_unpacklo_epi64(pairs[5], pairs[7]),
        _mm256_unpackhi_epi64(pairs[5], pairs[7]),
    ];
    [
        _mm256_permute2x128_si256::<0x20>(fours[0], fours[4]),
        _mm256_permute2x128_si256::<0x20>(fours[1], fours[5]),
        _mm256_permute2x128_si256::<0x20>(fours[2], fours[6]),
        _mm256_permute2x128_si256::<0x20>(fours[3], fours[7]),
        _mm256_permute2x128_si256::<0x31>(fours[0], fours[4]),
        _mm256_permute2x128_si256::<0x31>(fours[1], fours[5]),
        _mm256_permute2x128_si256::<0x31>(fours[2], fours[6]),
        _mm256_permute2x128_si256::<0x31>(fours[3], fours[7]),
    ]
}
