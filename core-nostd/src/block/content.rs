//! Content proofs of proof versions 0 and 1 (spec 04, 10): history only.
//!
//! The tree over the content has the raw blocks as its leaves, and an unpaired last node rises
//! unchanged. A proof is the block that the index chooses, and the sibling of each level that has
//! one.

use crate::announcement::Announcement;
use crate::bytes::{Hash32, read_u32};
use crate::primitives::compress32;

use super::entities::ANNOUNCEMENTS;
use super::error::{BlockError, ContentError};

/// Bytes of a block of content, and of a hash above it.
pub const BLOCK_BYTES: usize = 32;
/// Content of at most this length has no proof.
pub const UNPROVEN_LEN_MAX: u32 = 32;

/// The index that chooses the block of content, the same for all announcements of a block.
#[must_use]
pub fn proof_index(header_hash: &Hash32, low_nonce: u32) -> u32 {
    read_u32(&header_hash.0, 0) ^ low_nonce
}

/// The block that the index chooses of content longer than 32 bytes.
#[must_use]
pub fn block_number(content_len: u32, index: u32) -> u32 {
    index % block_count(content_len)
}

fn block_count(content_len: u32) -> u32 {
    content_len.div_ceil(BLOCK_BYTES as u32).max(1)
}

/// For each level of the tree whether the node above the chosen block has a sibling there.
fn siblings(content_len: u32, index: u32) -> impl Iterator<Item = (u32, bool)> {
    let levels = u32::BITS - (block_count(content_len) - 1).leading_zeros();
    let number = block_number(content_len, index);
    (0..levels).map(move |level| {
        let node = number >> level;
        let sibling_at = (BLOCK_BYTES as u64 * u64::from(node ^ 1)) << level;
        (node, sibling_at < u64::from(content_len))
    })
}

/// Bytes of the proof of content of this length: 0 for content that has none.
#[must_use]
pub fn proof_bytes(content_len: u32, index: u32) -> usize {
    if content_len <= UNPROVEN_LEN_MAX {
        return 0;
    }
    (1 + siblings(content_len, index).filter(|(_, there)| *there).count()) * BLOCK_BYTES
}

/// Whether a proof, of exactly [`proof_bytes`], leads to the content hash.
#[must_use]
pub fn proof_ok(content_len: u32, content_hash: &[u8; 32], index: u32, proof: &[u8]) -> bool {
    let (blocks, rest) = proof.as_chunks::<BLOCK_BYTES>();
    let Some((block, mut provided)) = blocks.split_first() else { return false };
    if !rest.is_empty() || proof.len() != proof_bytes(content_len, index) {
        return false;
    }
    let mut node_hash = *block;
    for (node, there) in siblings(content_len, index) {
        if !there {
            continue;
        }
        let Some((sibling, behind)) = provided.split_first() else { return false };
        provided = behind;
        let mut pair = [0; 2 * BLOCK_BYTES];
        let (left, right) =
            if node.is_multiple_of(2) { (&node_hash, sibling) } else { (sibling, &node_hash) };
        pair[..BLOCK_BYTES].copy_from_slice(left);
        pair[BLOCK_BYTES..].copy_from_slice(right);
        node_hash = compress32(&pair).0;
    }
    node_hash == *content_hash
}

/// The proofs of a block, each `None` for an announcement without, or without the entity.
pub type Proofs<'a> = [Option<&'a [u8]>; ANNOUNCEMENTS];

/// Splits the entity of a block of proof version 0 or 1 among its announcements: step 2 of
/// spec 04, 11. An absent entity gives no proofs.
///
/// # Errors
/// `ANN_CONTENT_INVALID` of the announcement at which the bytes ran out, of 3 for bytes left over.
pub fn split<'a>(
    entity: Option<&'a [u8]>,
    announcements: &[&Announcement; ANNOUNCEMENTS],
    index: u32,
) -> Result<Proofs<'a>, BlockError> {
    let mut proofs = [None; ANNOUNCEMENTS];
    let Some(mut rest) = entity else { return Ok(proofs) };
    for (at, announcement) in announcements.iter().enumerate() {
        let len = proof_bytes(announcement.content_length(), index);
        if len > 0 {
            let (proof, behind) = rest
                .split_at_checked(len)
                .ok_or(BlockError::AnnContentInvalid(at, ContentError::Truncated))?;
            (proofs[at], rest) = (Some(proof), behind);
        }
    }
    if rest.is_empty() {
        Ok(proofs)
    } else {
        let error = ContentError::LeftOver { bytes: rest.len() };
        Err(BlockError::AnnContentInvalid(ANNOUNCEMENTS - 1, error))
    }
}

/// Checks the content proof of one announcement: step 4b of spec 04, 11.
///
/// # Errors
/// [`ContentError`] when there is content and its proof is missing or does not fit.
pub fn check(
    announcement: &Announcement,
    index: u32,
    proof: Option<&[u8]>,
) -> Result<(), ContentError> {
    let content_len = announcement.content_length();
    if content_len <= UNPROVEN_LEN_MAX {
        return Ok(());
    }
    let proof = proof.ok_or(ContentError::Missing)?;
    if proof_ok(content_len, announcement.content_hash(), index, proof) {
        Ok(())
    } else {
        Err(ContentError::Mismatch)
    }
}
