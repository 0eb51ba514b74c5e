//! Any count, item numbers, hashes and proof bytes: the check ends with a root or an error, and a
//! proof has the length that its layout says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packetcrypt_core::Hash32;
use packetcrypt_core::block::proof;

/// Count, four item numbers, four hashes.
const HEAD_BYTES: usize = 8 + 4 * 8 + 4 * 32;

fuzz_target!(|bytes: &[u8]| {
    let Some((head, proof)) = bytes.split_at_checked(HEAD_BYTES) else { return };
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap());
    let count = number(0);
    let items = [8, 16, 24, 32].map(number);
    let hashes = [40, 72, 104, 136].map(|at| Hash32(head[at..at + 32].try_into().unwrap()));
    let checked = proof::pcp_hash(&hashes, count, &items, proof);
    let Ok(walk) = proof::layout(count, &items) else {
        assert!(checked.is_err());
        return;
    };
    let len: usize = walk
        .map(|node| 8 * usize::from(node.writes_range()) + 32 * usize::from(node.writes_hash()))
        .sum();
    assert!(len <= proof::PROOF_BYTES_MAX);
    assert!(checked.is_err() || len == proof.len());
});
