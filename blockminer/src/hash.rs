//! Hashes of announcements, in lanes.

use packetcrypt_core::backend::Backend;
use packetcrypt_core::bytes::Hash32;
use packetcrypt_core::params::ANNOUNCEMENT_BYTES;
use packetcrypt_core::primitives::blake2b::compress32_many;

/// The hash of each announcement (spec 04, 4.1).
pub(crate) fn hash_each(announcements: &[&[u8; ANNOUNCEMENT_BYTES]]) -> Vec<Hash32> {
    let mut hashes = vec![Hash32::ZERO; announcements.len()];
    compress32_many(announcements, &mut hashes, Backend::best());
    hashes
}
