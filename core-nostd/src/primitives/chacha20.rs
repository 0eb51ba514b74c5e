//! ChaCha20 of RFC 8439 with a 32-bit block counter and a 12-byte nonce, and the byte expander.

use chacha20::cipher::{Block, StreamCipherCore};
use chacha20::variants::Ietf;
use chacha20::{ChaChaCore, KeyIvInit, R20};

/// Bytes of one block of key stream.
pub const BLOCK_BYTES: usize = 64;

type Core = ChaChaCore<R20, Ietf>;
type StreamBlock = Block<Core>;

/// The end of the nonce of the byte expander, behind its number.
const EXPAND_NONCE_TAIL: &[u8; 8] = b"PC_EXPND";

/// A key stream: generates any run of its blocks.
pub struct KeyStream(Core);

impl KeyStream {
    /// The key stream of a key and a nonce.
    #[must_use]
    pub fn new(key: &[u8; 32], nonce: &[u8; 12]) -> Self {
        KeyStream(ChaChaCore::new(key.into(), nonce.into()))
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
    pub fn write(&mut self, counter: u32, out: &mut [u8]) {
        out.fill(0);
        self.apply(counter, out);
    }

    /// XORs the stream from block `counter` on into `data`.
    /// The counter wraps at 2^32, which no message of this system reaches.
    pub fn apply(&mut self, counter: u32, data: &mut [u8]) {
        let (blocks, rest) = StreamBlock::slice_as_chunks_mut(data);
        self.0.set_block_pos(counter);
        self.0.apply_keystream_blocks(blocks);
        if !rest.is_empty() {
            let mut last = StreamBlock::default();
            self.0.write_keystream_block(&mut last);
            for (byte, key) in rest.iter_mut().zip(last) {
                *byte ^= key;
            }
        }
    }
}

/// `expand(seed, len, num)` with the length of `out` (spec 01, 3).
pub fn expand(seed: &[u8; 32], num: u32, out: &mut [u8]) {
    KeyStream::of_expand(seed, num).write(0, out);
}
