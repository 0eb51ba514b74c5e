//! Reads values of the vector files.

use packetcrypt_core::CompactTarget;
use packetcrypt_core::primitives::{compress64, expand};
use packetcrypt_vectors::unhex_array;
pub(crate) use packetcrypt_vectors::values::{list, number, text};
use serde_json::Value;

pub(crate) fn compact(value: &Value) -> CompactTarget {
    CompactTarget(u32::from_str_radix(text(value), 16).expect("a word of 8 hex digits"))
}

pub(crate) fn expanded(seed: &Value, len: usize, num: u32) -> Vec<u8> {
    let mut out = vec![0; len];
    expand(&unhex_array(text(seed)), num, &mut out);
    out
}

#[track_caller]
pub(crate) fn assert_compress64(bytes: &[u8], wanted: &Value) {
    assert_eq!(compress64(bytes).hex().to_string(), text(wanted));
}
