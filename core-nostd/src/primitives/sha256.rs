//! SHA-256 applied twice: ids of blocks and transactions, nodes of the transaction tree.

use sha2::{Digest, Sha256};

use crate::bytes::Hash32;

/// SHA-256 of the SHA-256 of a message (spec 01, 2).
#[must_use]
pub fn dsha256(message: &[u8]) -> Hash32 {
    dsha256_parts(&[message])
}

/// [`dsha256`] of the parts one after the other, for messages that do not lie in one piece.
#[must_use]
pub fn dsha256_parts(parts: &[&[u8]]) -> Hash32 {
    let mut inner = Sha256::new();
    for part in parts {
        inner.update(part);
    }
    Hash32(Sha256::digest(inner.finalize()).into())
}
