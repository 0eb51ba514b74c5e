//! The commitment in a coinbase transaction, and the root of the transaction tree (spec 04, 3).

use crate::bytes::Hash32;
use crate::primitives::sha256::dsha256_parts;

use super::commitment::Commitment;
use super::error::CoinbaseError;
use super::transaction::Transaction;

/// Bytes of the output script that carries a commitment: OP_RETURN, push of 48, the commitment.
pub const SCRIPT_BYTES: usize = 2 + Commitment::BYTES;
/// The first bytes of that script, in which the magic is included.
pub const SCRIPT_PREFIX: [u8; 6] = [0x6a, 0x30, 0x09, 0xf9, 0x11, 0x02];
/// The script by which a template of the node marks where the commitment goes.
pub const PLACEHOLDER: [u8; SCRIPT_BYTES] = placeholder();

/// Finds the commitment as the node does (spec 04, 3): the first output whose script has more than
/// 6 bytes and begins with [`SCRIPT_PREFIX`].
///
/// Consensus: a longer script is cut, missing bytes are zero, the value does not matter, and later
/// outputs that match are ignored.
#[must_use]
pub fn find_commitment(coinbase: &Transaction<'_>) -> Option<Commitment> {
    let script = coinbase
        .outputs()
        .map(|output| output.script)
        .find(|script| script.len() > SCRIPT_PREFIX.len() && script.starts_with(&SCRIPT_PREFIX))?;
    let pushed = &script[2..script.len().min(SCRIPT_BYTES)];
    let mut commitment = Commitment([0; Commitment::BYTES]);
    commitment.0[..pushed.len()].copy_from_slice(pushed);
    Some(commitment)
}

/// Where the placeholder begins in the bytes of a coinbase: its first occurrence.
#[must_use]
pub fn find_placeholder(coinbase: &[u8]) -> Option<usize> {
    coinbase.windows(SCRIPT_BYTES).position(|window| window == PLACEHOLDER)
}

/// Writes the commitment in place of the placeholder's.
///
/// # Errors
/// [`CoinbaseError::NoPlaceholder`]: the work is unusable.
pub fn put_commitment(coinbase: &mut [u8], commitment: &Commitment) -> Result<(), CoinbaseError> {
    let at = find_placeholder(coinbase).ok_or(CoinbaseError::NoPlaceholder)? + 2;
    coinbase[at..at + Commitment::BYTES].copy_from_slice(&commitment.0);
    Ok(())
}

/// Folds a branch over the id of the coinbase: the root of the transaction tree.
///
/// The coinbase is the first transaction, so it is the left side of every pair.
#[must_use]
pub fn merkle_root<'a>(id: Hash32, branch: impl IntoIterator<Item = &'a Hash32>) -> Hash32 {
    branch.into_iter().fold(id, |node, element| dsha256_parts(&[&node.0, &element.0]))
}

const fn placeholder() -> [u8; SCRIPT_BYTES] {
    let mut script = [0xfc; SCRIPT_BYTES];
    let mut at = 0;
    while at < SCRIPT_PREFIX.len() {
        script[at] = SCRIPT_PREFIX[at];
        at += 1;
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::CompactTarget;

    #[test]
    fn the_first_of_two_placeholders_is_replaced() {
        let mut coinbase = [0u8; 210];
        coinbase[11..61].copy_from_slice(&PLACEHOLDER);
        coinbase[100..150].copy_from_slice(&PLACEHOLDER);
        let commitment = Commitment::new(CompactTarget(1), &Hash32([5; 32]), 9);
        assert_eq!(put_commitment(&mut coinbase, &commitment), Ok(()));
        assert_eq!(coinbase[11..13], [0x6a, 0x30]);
        assert_eq!(coinbase[13..61], commitment.0);
        assert_eq!(coinbase[100..150], PLACEHOLDER);
        assert_eq!(find_placeholder(&coinbase), Some(100));
    }

    #[test]
    fn work_without_placeholder_is_unusable() {
        let mut coinbase = [0xfc; 100];
        let commitment = Commitment([0; 48]);
        let none = Err(CoinbaseError::NoPlaceholder);
        assert_eq!(put_commitment(&mut coinbase, &commitment), none);
        assert_eq!(put_commitment(&mut coinbase[..10], &commitment), none);
    }
}
