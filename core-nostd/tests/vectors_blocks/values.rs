//! Reads values of the vector files.

use packetcrypt_core::announcement::Announcement;
use packetcrypt_core::block::{BlockHeader, Commitment, Entry, tree};
use packetcrypt_core::difficulty::Natural;
use packetcrypt_core::{CompactTarget, Hash32};
pub(crate) use packetcrypt_vectors::values::{list, text};
use packetcrypt_vectors::{named, unhex, unhex_array};
use serde_json::Value;

/// The node's word for a target of -1, for which ours is 0.
pub(crate) const NODE_NEGATIVE_TARGET: u32 = 0x0181_0000;

/// A number, or the decimal string of one.
pub(crate) fn number(value: &Value) -> u64 {
    match value {
        Value::String(digits) => digits.parse().expect("a decimal number"),
        other => other.as_u64().expect("a number"),
    }
}

pub(crate) fn word(value: &Value) -> CompactTarget {
    CompactTarget(u32::try_from(number(value)).expect("a 32-bit word"))
}

pub(crate) fn hash(value: &Value) -> Hash32 {
    Hash32(unhex_array(text(value)))
}

pub(crate) fn header(value: &Value) -> BlockHeader {
    BlockHeader(unhex_array(text(value)))
}

pub(crate) fn commitment(value: &Value) -> Commitment {
    Commitment(unhex_array(text(value)))
}

pub(crate) fn four<T: std::fmt::Debug>(value: &Value, each: impl Fn(&Value) -> T) -> [T; 4] {
    list(value).iter().map(each).collect::<Vec<T>>().try_into().expect("four of them")
}

pub(crate) fn hashes(concatenated: &Value) -> Vec<Hash32> {
    unhex(text(concatenated)).as_chunks::<32>().0.iter().map(|hash| Hash32(*hash)).collect()
}

pub(crate) fn natural(hex: &str) -> Natural {
    let even = if hex.len().is_multiple_of(2) { hex.to_owned() } else { format!("0{hex}") };
    let mut bytes = unhex(&even);
    bytes.reverse();
    Natural::from_le_bytes(&bytes).expect("at most 1024 bits")
}

pub(crate) fn entries_of(count: u64) -> Vec<Entry> {
    vec![Entry::PAD; usize::try_from(tree::entries_len(count).unwrap()).unwrap()]
}

/// The announcements of a file, if the set has it.
pub(crate) fn announcements(file: &str) -> Option<Vec<[u8; 1024]>> {
    let bytes = named("blocks", file)?.bytes();
    let (announcements, rest) = bytes.as_chunks::<1024>();
    assert!(rest.is_empty(), "{file} is made of whole announcements");
    Some(announcements.to_vec())
}

/// The announcements of groups in the order of the index, if the set has them.
pub(crate) fn indexed_groups(case: &Value) -> Option<Vec<[u8; 1024]>> {
    let first = case.get("index_first").map_or(usize::MAX, |first| number(first) as usize);
    let mut all = Vec::new();
    for group in list(&case["index_from"]) {
        let file = announcements(&format!("anns_{}.bin", text(group)))?;
        all.extend(file.into_iter().take(first));
    }
    let kept = tree::index_by_key(&mut all, |ann| Announcement::from_bytes(ann).key());
    all.truncate(kept);
    Some(all)
}

pub(crate) fn ann_hash(ann: &[u8; 1024]) -> Hash32 {
    Announcement::from_bytes(ann).hash()
}
