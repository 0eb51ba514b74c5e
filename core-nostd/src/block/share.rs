//! A share or block that comes as bytes (spec 04, 11; spec 06, 1.3): the steps before the block
//! check, and all of them in one call.

use crate::bytes::{CompactTarget, Hash32};

use super::check::{BlockCheck, BlockOk, CheckScratch, ParentHash, check_block};
use super::coinbase;
use super::entities::{ANNOUNCEMENTS, Entities};
use super::error::ShareError;
use super::header::BlockHeader;
use super::transaction::Transaction;
use super::{varint, versions};

/// The parts of a serialised block, borrowed from its bytes.
#[derive(Clone, Copy, Debug)]
pub struct SerializedBlock<'a> {
    /// The header.
    pub header: &'a BlockHeader,
    /// The proof.
    pub entities: Entities<'a>,
    /// Number of transactions that follow: 0 for a share.
    pub transaction_count: u64,
    /// The transactions, not parsed.
    pub transactions: &'a [u8],
}

impl<'a> SerializedBlock<'a> {
    /// Splits a block: header, entities, number of transactions, transactions.
    ///
    /// # Errors
    /// [`ShareError`] of the part that does not decode.
    pub fn decode(bytes: &'a [u8]) -> Result<SerializedBlock<'a>, ShareError> {
        let short = ShareError::Header { bytes: bytes.len() };
        let (header, rest) = bytes.split_at_checked(BlockHeader::BYTES).ok_or(short)?;
        let header = zerocopy::FromBytes::ref_from_bytes(header).map_err(|_| short)?;
        let (entities, mut transactions) = Entities::decode(rest).map_err(ShareError::Entities)?;
        let transaction_count =
            varint::take(&mut transactions).map_err(ShareError::TransactionCount)?;
        Ok(SerializedBlock { header, entities, transaction_count, transactions })
    }

    /// Whether the proof may be judged at all: standard form, known version, height gate (step 0
    /// of spec 04, 11). That the previous block is known is the caller's to check.
    ///
    /// # Errors
    /// [`ShareError::NotStandard`], [`ShareError::UnknownVersion`], [`ShareError::VersionHeight`].
    pub fn check_form(&self, height: u32) -> Result<(), ShareError> {
        let version = self.entities.version;
        if !self.entities.is_standard() {
            Err(ShareError::NotStandard)
        } else if !versions::is_known(version) {
            Err(ShareError::UnknownVersion { version })
        } else if !versions::allowed_at(version, height) {
            Err(ShareError::VersionHeight { version, height })
        } else {
            Ok(())
        }
    }

    /// Whether coinbase and branch lead to the root in the header.
    ///
    /// # Errors
    /// [`ShareError::MerkleRoot`].
    pub fn check_merkle_root(
        &self,
        coinbase: &Transaction<'_>,
        branch: &[Hash32],
    ) -> Result<(), ShareError> {
        let computed = coinbase::merkle_root(coinbase.id(), branch);
        let header = self.header.merkle_root();
        if header == computed { Ok(()) } else { Err(ShareError::MerkleRoot { header, computed }) }
    }
}

/// What a share comes with, and what it is measured by.
#[derive(Clone, Copy, Debug)]
pub struct ShareCheck<'a> {
    /// Header, entities with end, number of transactions.
    pub block: &'a [u8],
    /// The coinbase with the commitment, with or without witness.
    pub coinbase: &'a [u8],
    /// The branch from the coinbase to the root in the header, bottom up.
    pub merkle_branch: &'a [Hash32],
    /// Height of the block.
    pub height: u32,
    /// The share target, 0 for none.
    pub share_target: CompactTarget,
    /// Whether signatures are checked.
    pub check_signatures: bool,
}

/// Validates a share or block from its bytes: decoding, standard form, version, height gate, merkle
/// root, then [`check_block`].
///
/// `parent_at` gives the id of the block at a height on the chain of this block; it is asked for the
/// parents of the four announcements. Neither the previous block nor header bits and time are
/// looked at: they belong to the caller's chain or template.
///
/// # Errors
/// [`ShareError`], the first step that fails.
pub fn validate_share(
    share: &ShareCheck<'_>,
    mut parent_at: impl FnMut(u32) -> ParentHash,
    scratch: &mut CheckScratch,
) -> Result<BlockOk, ShareError> {
    validate(share, Some(&mut parent_at), scratch)
}

/// All of [`validate_share`] but the proofs of the announcements: what can be said of a share whose
/// parent blocks are not known. Cheap, and what fails here fails there.
///
/// # Errors
/// [`ShareError`], the first step that fails.
pub fn validate_share_without_announcements(
    share: &ShareCheck<'_>,
    scratch: &mut CheckScratch,
) -> Result<BlockOk, ShareError> {
    validate(share, None, scratch)
}

fn validate(
    share: &ShareCheck<'_>,
    parent_at: Option<&mut dyn FnMut(u32) -> ParentHash>,
    scratch: &mut CheckScratch,
) -> Result<BlockOk, ShareError> {
    let block = SerializedBlock::decode(share.block)?;
    let coinbase = Transaction::parse(share.coinbase).map_err(ShareError::Coinbase)?;
    block.check_merkle_root(&coinbase, share.merkle_branch)?;
    block.check_form(share.height)?;
    let parent_hashes: Option<[ParentHash; ANNOUNCEMENTS]> = parent_at.map(|parent_at| {
        block.entities.announcements.map(|ann| parent_at(ann.parent_block_height()))
    });
    let commitment = coinbase::find_commitment(&coinbase);
    let check = BlockCheck {
        header: block.header,
        entities: &block.entities,
        commitment: commitment.as_ref(),
        height: share.height,
        share_target: share.share_target,
        parent_hashes: parent_hashes.as_ref(),
        check_signatures: share.check_signatures,
    };
    Ok(check_block(&check, scratch)?)
}
