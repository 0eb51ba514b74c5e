//! The encryption of siblings and item prefix by the final state of the search (spec 03, 2.7).

use super::Announcement;
use crate::cryptocycle::State;
use crate::params::{ITEM4_PREFIX_BYTES, SIBLINGS_BYTES};

/// Encrypts or decrypts the siblings: the operation is its own inverse.
pub(super) fn xor_siblings(siblings: &mut [u8; SIBLINGS_BYTES], state: &State) {
    xor(siblings, state.part::<0, SIBLINGS_BYTES>());
}

/// Encrypts or decrypts the item prefix: the operation is its own inverse.
pub(super) fn xor_prefix(prefix: &mut [u8; ITEM4_PREFIX_BYTES], state: &State) {
    xor(prefix, state.part::<SIBLINGS_BYTES, ITEM4_PREFIX_BYTES>());
}

/// Encrypts an announcement in place with the state after `final`.
pub(super) fn seal(announcement: &mut Announcement, state: &State) {
    let (siblings, prefix) = announcement.sealed_parts_mut();
    xor_siblings(siblings, state);
    xor_prefix(prefix, state);
}

fn xor<const N: usize>(bytes: &mut [u8; N], key: &[u8; N]) {
    for (byte, key) in bytes.iter_mut().zip(key) {
        *byte ^= key;
    }
}
