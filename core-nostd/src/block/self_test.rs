//! The self test of a block miner (spec 04, 13.2, "fake mine"): a search at the easiest target whose
//! result is proven and checked as a share would be.

use core::fmt;

use crate::announcement::Announcement;
use crate::backend::Backend;
use crate::bytes::CompactTarget;

use super::check::{BlockCheck, CheckScratch, check_block};
use super::commitment::Commitment;
use super::entities::Entities;
use super::error::{BlockError, TreeError};
use super::header::BlockHeader;
use super::proof::{self, PROOF_BYTES_MAX};
use super::search::{HeaderSearch, Solution};
use super::tree::Tree;

/// Header nonce of the self test.
pub const HEADER_NONCE: u32 = 123;
/// Low nonce at which it begins.
pub const LOW_NONCE_FIRST: u32 = 457;
/// Low nonces that it tries: each succeeds with probability 1/2.
const LOW_NONCES_MAX: u32 = 256;

/// Why the self test failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelfTestError {
    /// No low nonce succeeded, or there are no announcements.
    NothingFound,
    /// No proof can be made.
    Tree(TreeError),
    /// The proof made is not valid.
    Block(BlockError),
}

impl fmt::Display for SelfTestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SelfTestError::NothingFound => {
                write!(f, "none of {LOW_NONCES_MAX} low nonces meets the easiest target")
            }
            SelfTestError::Tree(error) => write!(f, "no proof can be made: {error}"),
            SelfTestError::Block(error) => write!(f, "the proof made is not valid: {error}"),
        }
    }
}

impl core::error::Error for SelfTestError {}

/// The search of the self test alone.
pub fn search<'a>(
    header: &BlockHeader,
    count: u64,
    announcement_of: impl Fn(u64) -> &'a [u8; 1024],
    backend: Backend,
) -> Option<Solution> {
    let target = CompactTarget::MAX;
    HeaderSearch::new(&header.with_nonce(HEADER_NONCE), backend).search(
        LOW_NONCE_FIRST,
        LOW_NONCES_MAX,
        target,
        count,
        announcement_of,
    )
}

/// Searches, makes a proof and checks it without parent hashes and signatures. Lack of work counts
/// as good: the header's own target is not tried for.
///
/// The tree should have an odd count, as any tree that is mined with (spec 04, 5.4).
///
/// # Errors
/// [`SelfTestError`].
pub fn run<'a>(
    header: &BlockHeader,
    tree: &Tree<'_>,
    announcement_of: impl Fn(u64) -> &'a [u8; 1024],
    commitment: &Commitment,
    height: u32,
    backend: Backend,
    scratch: &mut CheckScratch,
) -> Result<Solution, SelfTestError> {
    let header = header.with_nonce(HEADER_NONCE);
    let found = search(&header, tree.count(), &announcement_of, backend)
        .ok_or(SelfTestError::NothingFound)?;
    let mut proof = [0; PROOF_BYTES_MAX];
    let len = proof::make(tree, &found.items, &mut proof).map_err(SelfTestError::Tree)?;
    let announcements = found
        .announcement_numbers(tree.count())
        .map(|number| Announcement::from_bytes(announcement_of(number)));
    let check = BlockCheck {
        header: &header,
        entities: &Entities::new(found.low_nonce, announcements, &proof[..len]),
        commitment: Some(commitment),
        height,
        share_target: CompactTarget::default(),
        parent_hashes: None,
        check_signatures: false,
    };
    match check_block(&check, scratch) {
        Ok(_) | Err(BlockError::InsufPow { .. }) => Ok(found),
        Err(error) => Err(SelfTestError::Block(error)),
    }
}
