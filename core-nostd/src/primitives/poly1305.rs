//! Poly1305 of RFC 8439 over whole 16-byte blocks (spec 01, 4).

mod field;
mod lanes;
mod radix_26;
#[cfg(any(target_arch = "x86_64", test))]
mod radix_44;

use crate::backend::Backend;
use crate::bytes::read_u64;
use field::Element;

/// A message to be authenticated.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    /// The one-time key: `r`, then `s`.
    pub(crate) key: &'a [u8; 32],
    /// Whole blocks.
    pub(crate) blocks: &'a [[u8; 16]],
    /// The block behind them.
    pub(crate) tail: [u8; 16],
}

impl Message<'_> {
    /// The number by which each block is multiplied.
    fn r(&self) -> Element {
        Element::clamped(read_u64(self.key, 0), read_u64(self.key, 8))
    }

    /// The tag when the polynomial has this value.
    fn tag_of(&self, value: Element) -> [u8; 16] {
        let s = u128::from(read_u64(self.key, 24)) << 64 | u128::from(read_u64(self.key, 16));
        value.low_128_bits().wrapping_add(s).to_le_bytes()
    }

    /// The tag of this message, a block after the other.
    fn tag(&self) -> [u8; 16] {
        let r = self.r();
        let mut value = Element::ZERO;
        for block in self.blocks.iter().chain([&self.tail]) {
            value = value.add(Element::of_block(block)).multiply(&r);
        }
        self.tag_of(value)
    }
}

/// The tag of `message || tail` under a one-time key.
///
/// # Panics
/// When the message is not made of whole blocks of 16 bytes.
#[must_use]
pub fn tag(key: &[u8; 32], message: &[u8], tail: &[u8; 16]) -> [u8; 16] {
    let (blocks, rest) = message.as_chunks();
    assert!(rest.is_empty(), "a message of whole blocks");
    Message { key, blocks, tail: *tail }.tag()
}

/// The tag of each message, several blocks of a message side by side.
///
/// # Panics
/// When the number of messages and of tags differ.
pub(crate) fn tags(messages: &[Message<'_>], tags: &mut [[u8; 16]], backend: Backend) {
    assert_eq!(messages.len(), tags.len(), "a tag for each message");
    match backend.level() {
        #[cfg(target_arch = "x86_64")]
        Some(crate::simd::Level::Avx512(simd)) => {
            use crate::simd::Simd;
            simd.vectorize(radix_44::Tags { messages, tags });
        }
        Some(level) => level.run(radix_26::Tags { messages, tags }),
        None => {
            for (message, tag) in messages.iter().zip(tags) {
                *tag = message.tag();
            }
        }
    }
}
