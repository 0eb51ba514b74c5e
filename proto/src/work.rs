//! `work_<n>.bin`: what a block miner works on (spec 05, 4.3).

use std::fmt;

use packetcrypt_core::block::{CoinbaseError, Commitment, Transaction, TransactionError, coinbase};
use packetcrypt_core::bytes::{CompactTarget, Hash32, read_u32};
use packetcrypt_core::primitives::dsha256;

use crate::template::BlockTemplate;
use crate::{HEADER_BYTES, MERKLE_BRANCH_LEN_MAX};

/// Most bytes of a work file that a client reads; a coinbase is at most a whole block of 1 MB.
pub const WORK_BYTES_MAX: usize = 2 << 20;

const FIXED_BYTES: usize = 128;

/// The work of one height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkFile {
    /// Block header with nonce 0 and the merkle root of the placeholder coinbase.
    pub header: [u8; HEADER_BYTES],
    /// Key that signs announcements of this work, zero when signing is off.
    pub signing_key: Hash32,
    /// Target of shares, before announcements are counted in.
    pub share_target: CompactTarget,
    /// The easiest target of announcements that the pool accepts.
    pub ann_target: CompactTarget,
    /// Height of the block to be mined, the work number.
    pub height: i32,
    /// Coinbase without witness, with the placeholder of the commitment.
    pub coinbase: Vec<u8>,
    /// Merkle branch of the coinbase, bottom up, internal order.
    pub merkle_branch: Vec<Hash32>,
}

/// Why bytes are not a work file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkError {
    /// More than [`WORK_BYTES_MAX`] bytes.
    TooLong {
        /// Bytes that came.
        bytes: usize,
    },
    /// The file ends before its fields do.
    Truncated {
        /// Bytes that came.
        bytes: usize,
        /// Bytes that the fields need.
        bytes_wanted: usize,
    },
    /// What follows the coinbase is not a whole number of hashes.
    BranchNotWhole {
        /// Bytes behind the coinbase.
        bytes: usize,
    },
    /// The merkle branch is longer than that of any block.
    BranchTooLong {
        /// Hashes in the branch.
        len: usize,
    },
    /// The height is negative.
    NegativeHeight(i32),
    /// The share target is no target.
    ShareTarget(CompactTarget),
    /// The announcement target is no target.
    AnnTarget(CompactTarget),
}

impl fmt::Display for WorkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes } => {
                write!(f, "work file of {bytes} bytes, at most {WORK_BYTES_MAX} are accepted")
            }
            Self::Truncated { bytes, bytes_wanted } => {
                write!(f, "work file of {bytes} bytes, its fields need {bytes_wanted}")
            }
            Self::BranchNotWhole { bytes } => {
                write!(f, "work file: merkle branch of {bytes} bytes, not a multiple of 32")
            }
            Self::BranchTooLong { len } => {
                write!(f, "work file: merkle branch of {len}, at most {MERKLE_BRANCH_LEN_MAX}")
            }
            Self::NegativeHeight(height) => write!(f, "work file: height {height} is negative"),
            Self::ShareTarget(target) => write!(f, "work file: share target {target} is invalid"),
            Self::AnnTarget(target) => {
                write!(f, "work file: announcement target {target} is invalid")
            }
        }
    }
}

impl std::error::Error for WorkError {}

/// Why the coinbase of a work takes no commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitError {
    /// There is no place for it.
    Placeholder(CoinbaseError),
    /// The coinbase is no transaction.
    Transaction(TransactionError),
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Placeholder(cause) => cause.fmt(f),
            Self::Transaction(cause) => cause.fmt(f),
        }
    }
}

impl std::error::Error for CommitError {}

impl WorkFile {
    /// The work that belongs to a template of the node.
    #[must_use]
    pub fn from_template(
        template: &BlockTemplate,
        signing_key: Option<Hash32>,
        share_target: CompactTarget,
        ann_target: CompactTarget,
    ) -> Self {
        Self {
            header: template.header,
            signing_key: signing_key.unwrap_or(Hash32::ZERO),
            share_target,
            ann_target,
            height: template.height,
            coinbase: template.coinbase_no_witness.clone(),
            merkle_branch: template.merkle_branch.clone(),
        }
    }

    /// Parses a work file. There is no checksum: what the pool sent is what is mined.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, WorkError> {
        if bytes.len() > WORK_BYTES_MAX {
            return Err(WorkError::TooLong { bytes: bytes.len() });
        }
        let truncated = |bytes_wanted| WorkError::Truncated { bytes: bytes.len(), bytes_wanted };
        let (fixed, rest) =
            bytes.split_first_chunk::<FIXED_BYTES>().ok_or(truncated(FIXED_BYTES))?;
        let coinbase_bytes = read_u32(fixed, 124) as usize;
        let (coinbase, branch) = rest
            .split_at_checked(coinbase_bytes)
            .ok_or(truncated(FIXED_BYTES.saturating_add(coinbase_bytes)))?;
        let (hashes, odd) = branch.as_chunks::<32>();
        if !odd.is_empty() {
            return Err(WorkError::BranchNotWhole { bytes: branch.len() });
        }
        if hashes.len() > MERKLE_BRANCH_LEN_MAX {
            return Err(WorkError::BranchTooLong { len: hashes.len() });
        }
        let work = Self {
            header: *fixed.first_chunk().expect("128 bytes hold a header"),
            signing_key: Hash32(*fixed[80..].first_chunk().expect("48 bytes hold a key")),
            share_target: CompactTarget(read_u32(fixed, 112)),
            ann_target: CompactTarget(read_u32(fixed, 116)),
            height: read_u32(fixed, 120) as i32,
            coinbase: coinbase.to_vec(),
            merkle_branch: hashes.iter().copied().map(Hash32).collect(),
        };
        work.check()?;
        Ok(work)
    }

    fn check(&self) -> Result<(), WorkError> {
        if self.height < 0 {
            return Err(WorkError::NegativeHeight(self.height));
        }
        if !self.share_target.is_well_formed() {
            return Err(WorkError::ShareTarget(self.share_target));
        }
        if !self.ann_target.is_well_formed() {
            return Err(WorkError::AnnTarget(self.ann_target));
        }
        Ok(())
    }

    /// The bytes of the file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let len = FIXED_BYTES + self.coinbase.len() + 32 * self.merkle_branch.len();
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(&self.header);
        bytes.extend_from_slice(&self.signing_key.0);
        bytes.extend_from_slice(&self.share_target.0.to_le_bytes());
        bytes.extend_from_slice(&self.ann_target.0.to_le_bytes());
        bytes.extend_from_slice(&self.height.to_le_bytes());
        bytes.extend_from_slice(&(self.coinbase.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.coinbase);
        for hash in &self.merkle_branch {
            bytes.extend_from_slice(&hash.0);
        }
        bytes
    }

    /// What tells this work from others of its height: dsha256 of the file.
    #[must_use]
    pub fn file_hash(&self) -> Hash32 {
        dsha256(&self.to_bytes())
    }

    /// Hash of the previous block: the parent of this work.
    #[must_use]
    pub fn previous_hash(&self) -> Hash32 {
        previous_hash(&self.header)
    }

    /// `bits` of the header: the target of a block.
    #[must_use]
    pub fn block_target(&self) -> CompactTarget {
        block_target(&self.header)
    }

    /// The merkle root when the coinbase has this transaction id (spec 05, 3).
    #[must_use]
    pub fn merkle_root(&self, coinbase_txid: Hash32) -> Hash32 {
        merkle_root(coinbase_txid, &self.merkle_branch)
    }

    /// The merkle root of a block of this work: that of its coinbase with the commitment.
    ///
    /// # Errors
    /// [`CommitError`]: no block can be made of this work.
    pub fn merkle_root_with(&self, commitment: &Commitment) -> Result<Hash32, CommitError> {
        let mut bytes = self.coinbase.clone();
        coinbase::put_commitment(&mut bytes, commitment).map_err(CommitError::Placeholder)?;
        let transaction = Transaction::parse(&bytes).map_err(CommitError::Transaction)?;
        Ok(self.merkle_root(transaction.id()))
    }
}

/// Hash of the previous block in a header.
#[must_use]
pub fn previous_hash(header: &[u8; HEADER_BYTES]) -> Hash32 {
    Hash32(*header[4..].first_chunk().expect("a header holds its parent's hash"))
}

/// The target of a block in a header.
#[must_use]
pub fn block_target(header: &[u8; HEADER_BYTES]) -> CompactTarget {
    CompactTarget(read_u32(header, 72))
}

/// Folds a merkle branch over the id of transaction 0: `h = dsha256(h || element)`.
#[must_use]
pub fn merkle_root(coinbase_txid: Hash32, branch: &[Hash32]) -> Hash32 {
    coinbase::merkle_root(coinbase_txid, branch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> WorkFile {
        WorkFile {
            header: [7; HEADER_BYTES],
            signing_key: Hash32::ZERO,
            share_target: CompactTarget(0x1f0f_ffff),
            ann_target: CompactTarget(0x207f_ffff),
            height: 5,
            coinbase: vec![1, 2, 3],
            merkle_branch: vec![Hash32([9; 32])],
        }
    }

    #[test]
    fn every_fault_has_its_error() {
        let good = sample().to_bytes();
        assert_eq!(WorkFile::parse(&good), Ok(sample()));
        for len in 0..131 {
            assert!(matches!(WorkFile::parse(&good[..len]), Err(WorkError::Truncated { .. })));
        }
        assert_eq!(WorkFile::parse(&good[..140]), Err(WorkError::BranchNotWhole { bytes: 9 }));
        let changed = |change: fn(&mut WorkFile)| {
            let mut work = sample();
            change(&mut work);
            WorkFile::parse(&work.to_bytes()).unwrap_err()
        };
        assert_eq!(changed(|w| w.height = -1), WorkError::NegativeHeight(-1));
        let negative = CompactTarget(0x1f80_0001);
        assert_eq!(
            changed(|w| w.share_target = CompactTarget(0x1f80_0001)),
            WorkError::ShareTarget(negative)
        );
        assert_eq!(changed(|w| w.ann_target.0 = 0), WorkError::AnnTarget(CompactTarget(0)));
        let long = changed(|w| w.merkle_branch = vec![Hash32::ZERO; 33]);
        assert_eq!(long, WorkError::BranchTooLong { len: 33 });
        let mut huge = good;
        huge[124..128].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(WorkFile::parse(&huge), Err(WorkError::Truncated { .. })));
        let too_long = vec![0; WORK_BYTES_MAX + 1];
        assert!(matches!(WorkFile::parse(&too_long), Err(WorkError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn what_parses_is_written_back_alike(
            fixed in proptest::collection::vec(any::<u8>(), 0..140),
            tail in proptest::collection::vec(any::<u8>(), 0..300),
            coinbase_bytes in 0..400u32,
            patch: bool,
        ) {
            let mut bytes = [fixed, tail].concat();
            if patch && bytes.len() >= FIXED_BYTES {
                bytes[112..120].copy_from_slice(&[0xff, 0xff, 0x0f, 0x1f, 0xff, 0xff, 0x7f, 0x20]);
                bytes[123] &= 0x7f;
                bytes[124..128].copy_from_slice(&coinbase_bytes.to_le_bytes());
            }
            if let Ok(work) = WorkFile::parse(&bytes) {
                prop_assert_eq!(work.to_bytes(), bytes);
            }
        }
    }
}
