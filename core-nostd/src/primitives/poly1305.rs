//! Poly1305 of RFC 8439 over whole 16-byte blocks (spec 01, 4).

use poly1305::universal_hash::{KeyInit, UniversalHash};
use poly1305::{Block, Poly1305};

/// The tag of `message || tail` under a one-time key.
///
/// # Panics
/// When the message is not made of whole blocks of 16 bytes.
#[must_use]
pub fn tag(key: &[u8; 32], message: &[u8], tail: &[u8; 16]) -> [u8; 16] {
    let (blocks, rest) = Block::slice_as_chunks(message);
    assert!(rest.is_empty(), "a message of whole blocks");
    let mut mac = Poly1305::new(key.into());
    mac.update(blocks);
    mac.update(&[Block::from(*tail)]);
    mac.finalize().into()
}
