//! What a miner is asked to make.

use crate::bytes::{CompactTarget, Hash32};

/// The fields of the announcements to mine, and the block they build on (spec 03, 2.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// `version`: 1 at present.
    pub version: u8,
    /// `work_bits`: the target.
    pub work_bits: CompactTarget,
    /// `parent_block_height`.
    pub parent_block_height: u32,
    /// The hash, in internal order, of the block at that height. Not part of the announcement.
    pub parent_block_hash: Hash32,
    /// `content_type`.
    pub content_type: u32,
    /// `content_length`.
    pub content_length: u32,
    /// `content_hash`: all zero in the practice of the reference.
    pub content_hash: [u8; 32],
    /// `signing_key`: all zero for announcements without signature.
    pub signing_key: [u8; 32],
}
