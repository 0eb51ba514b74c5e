//! Identifiers of files, posts, shares, blocks and announcements (spec 05, 2.2).

use packetcrypt_core::bytes::Hash32;
use packetcrypt_core::primitives::compress32;
use sha2::{Digest, Sha256};

use crate::HEADER_BYTES;

/// Bytes of an identifier; it is written as 32 hex digits.
const ID_BYTES: usize = 16;

/// Identifier of a posted file: SHA-256, cut.
#[must_use]
pub fn file_id(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..ID_BYTES])
}

/// `eventId` of a post of announcements: BLAKE2b-256 of the whole body, cut. For miners that check
/// which post a reply is of; handlers hash many bodies at once.
#[must_use]
pub fn ann_post_id(body: &[u8]) -> String {
    hex::encode(&compress32(body).0[..ID_BYTES])
}

/// `eventId` of a share: of its header and low nonce.
///
/// Callers pass the header in which the pool's own fields are already set, not the one that was
/// uploaded: else a share could be sent again under another identifier (spec 05, 16.1).
#[must_use]
pub fn share_event_id(header: &[u8; HEADER_BYTES], low_nonce: u32) -> String {
    hex::encode(&share_hash(header, low_nonce)[..ID_BYTES])
}

/// The number that chooses the block handler of a share: handler `number mod n` (spec 05, 9.4).
#[must_use]
pub fn share_number(header: &[u8; HEADER_BYTES], low_nonce: u32) -> u32 {
    let [a, b, c, d, ..] = share_hash(header, low_nonce);
    u32::from_le_bytes([a, b, c, d])
}

fn share_hash(header: &[u8; HEADER_BYTES], low_nonce: u32) -> [u8; 32] {
    let mut hash = compress32(header).0;
    for (byte, nonce) in hash.iter_mut().zip(low_nonce.to_le_bytes()) {
        *byte ^= nonce;
    }
    hash
}

/// `eventId` of a block: the first 32 hex digits of its hash in display order.
#[must_use]
pub fn block_event_id(hash: &Hash32) -> String {
    let mut bytes = hash.0;
    bytes.reverse();
    hex::encode(&bytes[..ID_BYTES])
}

/// The hash by which an announcement is known: u64 of the first 8 bytes of BLAKE2b-256 over its
/// 1024 bytes.
#[must_use]
pub fn dedup_hash(announcement: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = compress32(announcement).0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Index of the handler that owns an announcement among `handlers`, for peers that send
/// `x-pc-sver` 0 or 1 (spec 05, 6.2). 0 when there are none.
#[must_use]
pub fn owner_by_dedup_hash(dedup_hash: u64, handlers: usize) -> usize {
    dedup_hash.checked_rem(handlers as u64).map_or(0, |index| index as usize)
}

/// Index of the handler that owns an announcement among `handlers`, for peers that send
/// `x-pc-sver` 2 and above (spec 05, 6.2). 0 when there are none.
#[must_use]
pub fn owner_by_hard_nonce(hard_nonce: u32, handlers: usize) -> usize {
    u64::from(hard_nonce).checked_rem(handlers as u64).map_or(0, |index| index as usize)
}
