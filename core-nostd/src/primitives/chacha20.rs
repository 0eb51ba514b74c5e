//! ChaCha20 of RFC 8439 with a 32-bit block counter and a 12-byte nonce, and the byte expander.

mod lanes;
mod soft;

use crate::backend::Backend;

/// Bytes of one block of key stream.
pub const BLOCK_BYTES: usize = 64;

/// The first words of every block before it is mixed.
const CONSTANT: &[u8; 16] = b"expand 32-byte k";
/// The end of the nonce of the byte expander, behind its number.
const EXPAND_NONCE_TAIL: &[u8; 8] = b"PC_EXPND";

/// A key stream: generates any run of its blocks.
///
/// It is the block that is mixed for counter 0.
#[derive(Clone, Copy)]
pub struct KeyStream([u8; BLOCK_BYTES]);

impl KeyStream {
    /// The key stream of a key and a nonce.
    #[must_use]
    pub fn new(key: &[u8; 32], nonce: &[u8; 12]) -> Self {
        let mut block = [0; BLOCK_BYTES];
        block[..16].copy_from_slice(CONSTANT);
        block[16..48].copy_from_slice(key);
        block[52..].copy_from_slice(nonce);
        KeyStream(block)
    }

    /// The key stream of the byte expander for a seed and a number (spec 01, 3).
    #[must_use]
    pub fn of_expand(seed: &[u8; 32], num: u32) -> Self {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&num.to_le_bytes());
        nonce[4..].copy_from_slice(EXPAND_NONCE_TAIL);
        KeyStream::new(seed, &nonce)
    }

    /// Fills `out` with the stream from block `counter` on.
    pub fn write(&self, counter: u32, out: &mut [u8]) {
        out.fill(0);
        self.apply(counter, out);
    }

    /// XORs the stream from block `counter` on into `data`.
    /// The counter wraps at 2^32, which no message of this system reaches.
    pub fn apply(&self, counter: u32, data: &mut [u8]) {
        let mut counter = counter;
        for data in data.chunks_mut(BLOCK_BYTES) {
            let key = soft::block(&self.0, counter);
            for (byte, key) in data.iter_mut().zip(key) {
                *byte ^= key;
            }
            counter = counter.wrapping_add(1);
        }
    }
}

/// A part of some data into which a part of a key stream is to be XORed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Index of the key stream.
    pub(crate) stream: usize,
    /// The first block of the stream.
    pub(crate) counter: u32,
    /// Offset in the data.
    pub(crate) at: usize,
    /// Bytes.
    pub(crate) len: usize,
}

/// [`KeyStream::apply`] for many streams and parts of some data at once: blocks of all runs fill
/// the lanes together.
///
/// # Panics
/// When a run names a stream that is not there, or ends behind the data.
pub(crate) fn apply_runs(data: &mut [u8], streams: &[KeyStream], runs: &[Run], backend: Backend) {
    match backend.level() {
        Some(level) => level.run(lanes::Runs { data, streams, runs }),
        None => {
            for run in runs {
                streams[run.stream].apply(run.counter, &mut data[run.at..run.at + run.len]);
            }
        }
    }
}

/// `expand(seed, len, num)` with the length of `out` (spec 01, 3).
pub fn expand(seed: &[u8; 32], num: u32, out: &mut [u8]) {
    KeyStream::of_expand(seed, num).write(0, out);
}

/// [`expand`] on a back end: for outputs of many blocks.
pub fn expand_long(seed: &[u8; 32], num: u32, out: &mut [u8], backend: Backend) {
    let stream = &KeyStream::of_expand(seed, num);
    match backend.level() {
        Some(level) => level.run(lanes::Series { stream, word: lanes::COUNTER, first: 0, out }),
        None => stream.write(0, out),
    }
}

/// `expand(seed, 64, num)` for consecutive numbers.
pub fn expand_numbers(
    seed: &[u8; 32],
    first: u32,
    out: &mut [[u8; BLOCK_BYTES]],
    backend: Backend,
) {
    if let Some(level) = backend.level() {
        let (stream, out) = (&KeyStream::of_expand(seed, first), out.as_flattened_mut());
        return level.run(lanes::Series { stream, word: lanes::NUMBER, first, out });
    }
    for (num, out) in out.iter_mut().enumerate() {
        expand(seed, first.wrapping_add(num as u32), out);
    }
}
