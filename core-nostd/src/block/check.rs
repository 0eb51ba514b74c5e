//! The block check (spec 04, 11): steps 1 to 7, in their order, lack of work last.

use crate::announcement::{self, Announcement};
use crate::bytes::{CompactTarget, Hash32};
use crate::cryptocycle::State;
use crate::difficulty::{aged_target, effective_target, min_ann_diff_ok, work_ok};
use crate::error::AnnError;
use crate::primitives::ed25519;

use super::commitment::Commitment;
use super::content;
use super::entities::{ANNOUNCEMENTS, Entities};
use super::error::{AnnFault, BlockError, ContentError};
use super::header::BlockHeader;
use super::{proof, search, versions};

/// First height whose block ages its announcements; below it their own target counts.
const AGED_HEIGHT_MIN: u32 = 3;

/// What the caller knows of the parent block of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParentHash {
    /// Its id in internal order, on the chain of this block.
    Known(Hash32),
    /// There is no block at this height on that chain.
    Unknown,
}

/// What is checked, and against what.
#[derive(Clone, Copy, Debug)]
pub struct BlockCheck<'a> {
    /// The block's header.
    pub header: &'a BlockHeader,
    /// Its decoded entities. That they are in standard form, and their version is known and allowed
    /// at this height, is the caller's to check before (step 0).
    pub entities: &'a Entities<'a>,
    /// The commitment, `None` when the coinbase has none.
    pub commitment: Option<&'a Commitment>,
    /// Height of the block.
    pub height: u32,
    /// The share target, 0 for none. It goes through the effective target as the block's does.
    pub share_target: CompactTarget,
    /// The parent blocks of the four announcements, or `None` to leave the announcement check out.
    pub parent_hashes: Option<&'a [ParentHash; ANNOUNCEMENTS]>,
    /// Whether signatures are checked. A miner has none.
    pub check_signatures: bool,
}

/// What valid work is enough for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// `OK`: a block, whatever the share target is.
    Block,
    /// `SHARE_OK`: a share, not a block.
    Share,
}

impl BlockKind {
    /// The numeric result of spec 04, 11.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            BlockKind::Block => 0,
            BlockKind::Share => 0x100,
        }
    }

    /// The name of the result in spec 04, 11.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            BlockKind::Block => "OK",
            BlockKind::Share => "SHARE_OK",
        }
    }
}

/// A valid block or share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockOk {
    /// Which of the two.
    pub kind: BlockKind,
    /// The work hash.
    pub work_hash: Hash32,
    /// The item numbers that were drawn, not reduced.
    pub items: [u64; ANNOUNCEMENTS],
}

/// Memory for [`check_block`], used again for any number of checks; no result depends on what was
/// checked before.
pub struct CheckScratch {
    state: State,
    announcement: announcement::CheckScratch,
}

impl CheckScratch {
    /// Fresh memory.
    #[must_use]
    pub const fn new() -> CheckScratch {
        CheckScratch {
            state: State([0; crate::params::STATE_BYTES]),
            announcement: announcement::CheckScratch::new(),
        }
    }
}

impl Default for CheckScratch {
    fn default() -> Self {
        CheckScratch::new()
    }
}

/// Checks a block or share (spec 04, 11).
///
/// # Errors
/// [`BlockError`], the first step that fails; [`BlockError::InsufPow`] means that all else is in
/// order.
pub fn check_block(
    check: &BlockCheck<'_>,
    scratch: &mut CheckScratch,
) -> Result<BlockOk, BlockError> {
    let entities = check.entities;
    let commitment = checked_commitment(check.commitment)?;
    let header_hash = check.header.hash();
    let content_index = content::proof_index(&header_hash, entities.low_nonce);
    let content = content_proofs(entities, content_index)?;
    let announcements = &entities.announcements;
    let found =
        search::work(&header_hash, entities.low_nonce, announcements, &content, &mut scratch.state);
    let kind = work_kind(check, commitment, &found.work_hash);
    for (index, announcement) in announcements.iter().enumerate() {
        check_signature(check, index)?;
        if entities.version < 2 {
            content::check(announcement, content_index, content[index])
                .map_err(|error| BlockError::AnnContentInvalid(index, error))?;
        }
        if let Some(parents) = check.parent_hashes {
            check_announcement(
                announcement,
                &parents[index],
                entities.version,
                &mut scratch.announcement,
            )
            .map_err(|fault| BlockError::AnnInvalid(index, fault))?;
        }
        check_age(check, index, commitment.least_work())?;
    }
    let hashes = announcements.map(Announcement::hash);
    let proven = proof::pcp_hash(&hashes, commitment.count(), &found.items, entities.tree_proof)
        .map_err(BlockError::PcpInval)?;
    let committed = commitment.root();
    if proven != committed {
        return Err(BlockError::PcpMismatch { proven, committed });
    }
    let work_hash = found.work_hash;
    let kind = kind.ok_or(BlockError::InsufPow { work_hash })?;
    Ok(BlockOk { kind, work_hash, items: found.items })
}

/// Step 1.
fn checked_commitment(commitment: Option<&Commitment>) -> Result<&Commitment, BlockError> {
    let commitment = commitment
        .filter(|commitment| commitment.has_magic())
        .ok_or(BlockError::BadCoinbase { least_work: None })?;
    let least_work = commitment.least_work();
    if min_ann_diff_ok(least_work) {
        Ok(commitment)
    } else {
        Err(BlockError::BadCoinbase { least_work: Some(least_work) })
    }
}

/// Step 2.
fn content_proofs<'a>(
    entities: &Entities<'a>,
    index: u32,
) -> Result<content::Proofs<'a>, BlockError> {
    match entities.content_proofs {
        Some(_) if entities.version >= 2 => {
            Err(BlockError::AnnContentInvalid(0, ContentError::Forbidden))
        }
        entity => content::split(entity, &entities.announcements, index),
    }
}

/// Step 3: what the work is enough for. Words that are not well-formed give no work.
fn work_kind(
    check: &BlockCheck<'_>,
    commitment: &Commitment,
    work_hash: &Hash32,
) -> Option<BlockKind> {
    let enough = |target: CompactTarget| {
        let (least_work, count) = (commitment.least_work(), commitment.count());
        work_ok(work_hash, effective_target(target, least_work, count, check.entities.version))
    };
    if enough(check.header.bits()) {
        Some(BlockKind::Block)
    } else if enough(check.share_target) {
        // A share target of 0, which is none, is not well-formed and never enough.
        Some(BlockKind::Share)
    } else {
        None
    }
}

/// Step 4a.
fn check_signature(check: &BlockCheck<'_>, index: usize) -> Result<(), BlockError> {
    let announcement = check.entities.announcements[index];
    if !check.check_signatures || !announcement.is_signed() {
        return Ok(());
    }
    let verifies =
        |signature| ed25519::verify(announcement.signing_key(), announcement.to_bytes(), signature);
    if check.entities.signatures[index].is_some_and(verifies) {
        Ok(())
    } else {
        Err(BlockError::AnnSigInvalid(index))
    }
}

/// Step 4c.
fn check_announcement(
    announcement: &Announcement,
    parent: &ParentHash,
    proof_version: u64,
    scratch: &mut announcement::CheckScratch,
) -> Result<(), AnnFault> {
    let height = announcement.parent_block_height();
    let ParentHash::Known(parent) = parent else {
        return Err(AnnFault::UnknownParent { height });
    };
    let version = announcement.version();
    if !versions::announcement_allowed(version, height, proof_version) {
        return Err(AnnFault::Version { version, height });
    }
    let checked: Result<Hash32, AnnError> = if version == 0 {
        announcement::check_v0(announcement, parent, scratch)
    } else {
        announcement::check(announcement, parent, scratch)
    };
    checked.map(drop).map_err(AnnFault::Check)
}

/// Step 4d.
fn check_age(
    check: &BlockCheck<'_>,
    index: usize,
    least_work: CompactTarget,
) -> Result<(), BlockError> {
    let announcement = check.entities.announcements[index];
    let word = announcement.work_bits();
    let aged = if check.height < AGED_HEIGHT_MIN {
        word
    } else {
        let age = check.height.wrapping_sub(announcement.parent_block_height());
        aged_target(word, age, check.entities.version)
    };
    // Consensus: the words are compared, not the targets.
    if aged <= least_work {
        Ok(())
    } else {
        Err(BlockError::AnnInsufPow { index, aged, least_work })
    }
}
