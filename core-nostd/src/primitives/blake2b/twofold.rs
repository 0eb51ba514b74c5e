//! Messages that are hashed as a whole and part by part, in one pass over their bytes.
//!
//! A post of announcements is such a message. One half of the lanes hashes messages, the other half their
//! parts: each block is read once and given to two lanes. So two messages fill four lanes, where whole
//! messages side by side would need four, and each byte would come from memory twice.

use blake2::{Blake2b256, Digest};

use super::compress32;
use super::lanes::{BLOCK_BYTES, compress, hash_many, initial};
use crate::backend::Backend;
use crate::bytes::Hash32;
use crate::simd::{Kernel, LANES_64_MAX, Level, Simd, Words64};

/// Parts of a message whose hashes are looked at together.
pub const PARTS_TOGETHER: usize = 16;

/// The most messages side by side.
const SLOTS_MAX: usize = LANES_64_MAX / 2;

/// [`compress32`] of each message, which is its parts one behind the other, and of each part of it.
///
/// `look` gets the number of a message, the number of a part of it, and the hashes of this part and of
/// some after it, at most [`PARTS_TOGETHER`]; those of one message come in order. When it answers
/// `false` that message is left: it is not looked at again, and its place in `wholes` stays as it was.
///
/// # Panics
/// When the numbers of messages and of `wholes` differ.
pub fn compress32_twofold<const N: usize>(
    messages: &[&[[u8; N]]],
    wholes: &mut [Hash32],
    mut look: impl FnMut(usize, usize, &[Hash32]) -> bool,
    backend: Backend,
) {
    const { assert!(N > 0 && N.is_multiple_of(BLOCK_BYTES), "blocks are not shared by parts") };
    assert_eq!(messages.len(), wholes.len(), "a hash for each message");
    match backend.level() {
        // One message in two of four lanes or more takes longer than without them.
        Some(level) if messages.len() >= 2.min(level.lanes_64() / 2) => {
            Slots::new(messages, level).run(wholes, look);
        }
        _ => {
            for (number, (message, whole)) in messages.iter().zip(wholes).enumerate() {
                let look = |first, hashes: &[Hash32]| look(number, first, hashes);
                if let Some(hash) = alone(message, look, backend) {
                    *whole = hash;
                }
            }
        }
    }
}

/// The hash of one message; None when it is left.
fn alone<const N: usize>(
    message: &[[u8; N]],
    mut look: impl FnMut(usize, &[Hash32]) -> bool,
    backend: Backend,
) -> Option<Hash32> {
    let mut whole = Blake2b256::new();
    let mut hashes = [Hash32::ZERO; PARTS_TOGETHER];
    for (step, parts) in message.chunks(PARTS_TOGETHER).enumerate() {
        let hashes = &mut hashes[..parts.len()];
        hash_many(parts, hashes, backend);
        if !look(step * PARTS_TOGETHER, hashes) {
            return None;
        }
        whole.update(parts.as_flattened());
    }
    Some(Hash32(whole.finalize().into()))
}

/// A message that is being hashed.
#[derive(Clone, Copy)]
struct Slot<'m, const N: usize> {
    number: usize,
    message: &'m [[u8; N]],
    /// Parts that were taken in.
    done: usize,
}

/// The messages side by side, and those that come after them.
struct Slots<'m, const N: usize> {
    level: Level,
    messages: &'m [&'m [[u8; N]]],
    /// Messages that have been in a slot.
    begun: usize,
    slots: [Option<Slot<'m, N>>; SLOTS_MAX],
    /// Row `i` has word `i` of the state of each slot's message.
    states: [[u64; LANES_64_MAX]; 8],
}

impl<'m, const N: usize> Slots<'m, N> {
    fn new(messages: &'m [&'m [[u8; N]]], level: Level) -> Self {
        let slots = [None; SLOTS_MAX];
        Self { level, messages, begun: 0, slots, states: [[0; LANES_64_MAX]; 8] }
    }

    fn run(mut self, wholes: &mut [Hash32], mut look: impl FnMut(usize, usize, &[Hash32]) -> bool) {
        let mut hashes = [[Hash32::ZERO; PARTS_TOGETHER]; SLOTS_MAX];
        loop {
            self.fill(wholes);
            let Some(first) = self.slots.iter().flatten().next().copied() else { return };
            let rest = |slot: &Slot<'m, N>| slot.message.len() - slot.done;
            let count = self.slots.iter().flatten().map(rest).min().unwrap_or(0);
            let count = count.min(PARTS_TOGETHER);
            // Idle lanes do once more what those of another message do.
            let parts = self.slots.map(|slot| {
                let slot = slot.unwrap_or(first);
                &slot.message[slot.done..slot.done + count]
            });
            self.level.run(Twofold {
                parts,
                taken: self.slots.map(|slot| (slot.unwrap_or(first).done * N) as u64),
                lens: self.slots.map(|slot| (slot.unwrap_or(first).message.len() * N) as u64),
                states: &mut self.states,
                hashes: &mut hashes,
            });
            for (at, hashes) in hashes.iter().enumerate() {
                let Some(slot) = &mut self.slots[at] else { continue };
                let is_wanted = look(slot.number, slot.done, &hashes[..count]);
                slot.done += count;
                let is_whole = slot.done == slot.message.len();
                if is_wanted && is_whole {
                    let words = self.states.map(|row| row[at].to_le_bytes());
                    let (digest, _) = words.as_flattened().split_at(32);
                    wholes[slot.number].0.copy_from_slice(digest);
                }
                if !is_wanted || is_whole {
                    self.slots[at] = None;
                }
            }
        }
    }

    /// Puts the next messages into empty slots.
    fn fill(&mut self, wholes: &mut [Hash32]) {
        for at in 0..self.level.lanes_64() / 2 {
            while self.slots[at].is_none() && self.begun < self.messages.len() {
                let (number, message) = (self.begun, self.messages[self.begun]);
                self.begun += 1;
                if message.is_empty() {
                    wholes[number] = compress32(&[]);
                    continue;
                }
                self.slots[at] = Some(Slot { number, message, done: 0 });
                for (row, word) in self.states.iter_mut().zip(initial(size_of::<Hash32>())) {
                    row[at] = word;
                }
            }
        }
    }
}

/// Takes in some parts of each message: the first half of the lanes has the messages, the second half the
/// parts that the first one is at.
struct Twofold<'a, const N: usize> {
    parts: [&'a [[u8; N]]; SLOTS_MAX],
    /// Bytes of each message that were taken in before.
    taken: [u64; SLOTS_MAX],
    /// Bytes of each message.
    lens: [u64; SLOTS_MAX],
    states: &'a mut [[u64; LANES_64_MAX]; 8],
    hashes: &'a mut [[Hash32; PARTS_TOGETHER]; SLOTS_MAX],
}

impl<S: Simd, const N: usize> Kernel<S> for Twofold<'_, N> {
    #[inline(always)]
    fn run(self, simd: S) {
        let half = S::LANES_64 / 2;
        let mut mask = [0; LANES_64_MAX];
        mask[..half].fill(u64::MAX);
        let is_whole = simd.load_64(&mask);
        let is_part = is_whole ^ simd.splat_64(u64::MAX);
        // Loops, since a closure for the words may stay a call.
        let mut fresh = [is_part; 8];
        for (fresh, word) in fresh.iter_mut().zip(initial(size_of::<Hash32>())) {
            *fresh = simd.splat_64(word) & is_part;
        }
        let mut state = [is_part; 8];
        for (word, row) in state.iter_mut().zip(&*self.states) {
            *word = simd.load_64(row);
        }
        let mut columns = [[0; LANES_64_MAX]; 8];
        for part in 0..self.parts[0].len() {
            for (word, fresh) in state.iter_mut().zip(fresh) {
                *word = (*word & is_whole) ^ fresh;
            }
            for block in 0..N / BLOCK_BYTES {
                let (from, end) = (block * BLOCK_BYTES, ((block + 1) * BLOCK_BYTES) as u64);
                let mut rows = [&[0; BLOCK_BYTES]; LANES_64_MAX];
                let mut ends = [end; LANES_64_MAX];
                let mut last = [if end == N as u64 { u64::MAX } else { 0 }; LANES_64_MAX];
                for lane in 0..half {
                    if let Some(row) = self.parts[lane][part][from..].first_chunk() {
                        (rows[lane], rows[half + lane]) = (row, row);
                    }
                    ends[lane] = self.taken[lane] + (part * N) as u64 + end;
                    last[lane] = if ends[lane] == self.lens[lane] { u64::MAX } else { 0 };
                }
                let words = simd.columns_64(&rows[..S::LANES_64]);
                let (ends, last) = (simd.load_64(&ends), simd.load_64(&last));
                compress(simd, &mut state, &words, ends, last);
            }
            for (word, column) in state.into_iter().zip(&mut columns) {
                word.store(column);
            }
            for lane in 0..half {
                let (words, _) = self.hashes[lane][part].0.as_chunks_mut::<8>();
                for (word, column) in words.iter_mut().zip(&columns) {
                    *word = column[half + lane].to_le_bytes();
                }
            }
        }
        *self.states = columns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitives::expand;
    use crate::simd::plain::Plain;

    /// Lanes of any width against single messages.
    fn check<const LANES: usize>() {
        const PARTS: usize = 3;
        let mut messages = [[[0; 256]; PARTS]; SLOTS_MAX];
        for (number, message) in (0..).zip(&mut messages) {
            expand(&[4; 32], number, message.as_flattened_mut());
        }
        let half = LANES / 2;
        let mut states = initial(32).map(|word| [word; LANES_64_MAX]);
        let mut hashes = [[Hash32::ZERO; PARTS_TOGETHER]; SLOTS_MAX];
        // The last message is longer than what is taken in.
        let lens: [u64; SLOTS_MAX] =
            core::array::from_fn(|slot| 256 * if slot + 1 == half { 4 } else { PARTS as u64 });
        for (from, to) in [(0, 1), (1, PARTS)] {
            let mut some = [[Hash32::ZERO; PARTS_TOGETHER]; SLOTS_MAX];
            Plain::<LANES>.vectorize(Twofold {
                parts: messages.each_ref().map(|message| &message[from..to]),
                taken: [256 * from as u64; SLOTS_MAX],
                lens,
                states: &mut states,
                hashes: &mut some,
            });
            for (all, some) in hashes.iter_mut().zip(some) {
                all[from..to].copy_from_slice(&some[..to - from]);
            }
        }
        for slot in 0..half {
            for (part, hash) in messages[slot].iter().zip(&hashes[slot]) {
                assert_eq!(*hash, compress32(part));
            }
            let words = states.map(|row| row[slot].to_le_bytes());
            let is_same = words.as_flattened()[..32] == compress32(messages[slot].as_flattened()).0;
            assert_eq!(is_same, slot + 1 != half, "slot {slot} of {half}");
        }
    }

    #[test]
    fn lanes_of_any_width_are_single_messages() {
        check::<2>();
        check::<4>();
        check::<8>();
    }
}
