//! BLAKE2b without key, salt and personalisation (spec 01, 2): single messages, many messages of one
//! length a call, and messages that are hashed as a whole and part by part.

pub(crate) mod lanes;
mod twofold;

use core::borrow::Borrow;

use blake2::{Blake2b256, Blake2b512, Digest};

use crate::backend::Backend;
use crate::bytes::{Hash32, Hash64};

pub use twofold::{PARTS_TOGETHER, compress32_twofold};

/// BLAKE2b with digest length 32. Not the first half of [`compress64`].
#[must_use]
pub fn compress32(message: &[u8]) -> Hash32 {
    Hash32(Blake2b256::digest(message).into())
}

/// BLAKE2b with digest length 64.
#[must_use]
pub fn compress64(message: &[u8]) -> Hash64 {
    Hash64(Blake2b512::digest(message).into())
}

/// [`compress64`] of `left || right`: an inner node of an announcement's tree.
#[must_use]
pub fn compress64_pair(left: &[u8], right: &[u8]) -> Hash64 {
    Hash64(Blake2b512::new().chain_update(left).chain_update(right).finalize().into())
}

/// [`compress32`] of each message. The messages may be arrays side by side or references to arrays
/// anywhere.
///
/// # Panics
/// When the number of messages and of hashes differ.
pub fn compress32_many<const N: usize, M: Borrow<[u8; N]>>(
    messages: &[M],
    hashes: &mut [Hash32],
    backend: Backend,
) {
    lanes::hash_many(messages, hashes, backend);
}

/// [`compress64`] of each message. The messages may be arrays side by side or references to arrays
/// anywhere.
///
/// # Panics
/// When the number of messages and of hashes differ.
pub fn compress64_many<const N: usize, M: Borrow<[u8; N]>>(
    messages: &[M],
    hashes: &mut [Hash64],
    backend: Backend,
) {
    lanes::hash_many(messages, hashes, backend);
}
