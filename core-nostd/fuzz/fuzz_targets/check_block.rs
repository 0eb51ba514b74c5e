//! Any bytes as a share: an easy share target, known parents, all steps.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packetcrypt_core::block::{CheckScratch, ParentHash, ShareCheck, validate_share};
use packetcrypt_core::{CompactTarget, Hash32};

/// Height and length of the coinbase, both in front.
const HEAD_BYTES: usize = 4 + 2;

fuzz_target!(|bytes: &[u8]| {
    let Some((head, rest)) = bytes.split_at_checked(HEAD_BYTES) else { return };
    let coinbase_len = usize::from(u16::from_le_bytes([head[4], head[5]]));
    let Some((coinbase, block)) = rest.split_at_checked(coinbase_len) else { return };
    let share = ShareCheck {
        block,
        coinbase,
        merkle_branch: &[],
        height: u32::from_le_bytes([head[0], head[1], head[2], head[3]]),
        share_target: CompactTarget::MAX,
        check_signatures: true,
    };
    let parent_at = |height: u32| match height % 2 {
        0 => ParentHash::Known(Hash32::ZERO),
        _ => ParentHash::Unknown,
    };
    let mut scratch = Box::new(CheckScratch::new());
    let first = validate_share(&share, parent_at, &mut scratch);
    assert_eq!(first, validate_share(&share, parent_at, &mut scratch));
});
