//! What can be wrong with a block, one enum an operation, with the numeric results of spec 04, 11.

mod form;

use core::fmt;

use crate::bytes::{CompactTarget, Hash32};
use crate::error::AnnError;

pub use form::{CoinbaseError, EntityError, TransactionError, VarintError};

/// Why a tree can not be built or a proof not be made from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeError {
    /// No announcements, or 2^64 - 1 of them.
    Count {
        /// The count given.
        count: u64,
    },
    /// The slice of entries has the wrong length.
    Entries {
        /// Entries given.
        have: usize,
        /// Entries that a tree of this count has.
        want: u64,
    },
    /// Keys are not strictly ascending, or one is 0 or `u64::MAX`.
    Unsorted {
        /// Number of the announcement at which it shows.
        number: u64,
    },
    /// The last announcement of an even count is drawn: nobody accepts a proof of it
    /// (spec 04, 5.4).
    LastOfEven,
    /// The proof does not fit the buffer.
    Buffer {
        /// Bytes of the buffer.
        have: usize,
    },
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TreeError::Count { count } => write!(f, "a tree of {count} announcements"),
            TreeError::Entries { have, want } => {
                write!(f, "{have} entries given, the tree has {want}")
            }
            TreeError::Unsorted { number } => {
                write!(f, "the key of announcement {number} does not follow the one before it")
            }
            TreeError::LastOfEven => f.write_str("the last announcement of an even count is drawn"),
            TreeError::Buffer { have } => {
                write!(f, "the proof does not fit a buffer of {have} bytes")
            }
        }
    }
}

impl core::error::Error for TreeError {}

/// Why a tree proof is invalid (spec 04, 5.3): all of these are the result `PCP_INVAL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofError {
    /// The tree has no announcements, or 2^64 - 1 of them.
    Count {
        /// The committed count.
        count: u64,
    },
    /// The same leaf is drawn twice with different announcements.
    DrawnTwice {
        /// The leaf number.
        leaf: u64,
    },
    /// The proof ends inside of the tree.
    Truncated,
    /// The proof goes on behind the tree.
    LeftOver {
        /// Bytes left over.
        bytes: usize,
    },
    /// The last announcement of an even count is drawn (spec 04, 5.4).
    LastOfEven,
    /// The key of a leaf is not where its left neighbour ends.
    Start {
        /// The leaf number.
        leaf: u64,
        /// Where the neighbour ends.
        want: u64,
        /// The key of the leaf.
        have: u64,
    },
    /// A node ends where the pad on its right does not begin.
    BeforePad {
        /// Where the node ends.
        end: u64,
    },
    /// A range is empty or passes 2^64.
    Range {
        /// Start of the node.
        start: u64,
        /// Its end.
        end: u64,
    },
    /// The root does not end at 2^64 - 1.
    RootEnd {
        /// Where it ends.
        end: u64,
    },
}

impl fmt::Display for ProofError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProofError::Count { count } => write!(f, "a tree of {count} announcements"),
            ProofError::DrawnTwice { leaf } => {
                write!(f, "leaf {leaf} is drawn twice with different announcements")
            }
            ProofError::Truncated => f.write_str("the tree proof is too short"),
            ProofError::LeftOver { bytes } => {
                write!(f, "{bytes} bytes are left over behind the tree proof")
            }
            ProofError::LastOfEven => {
                f.write_str("the last announcement of an even count is drawn")
            }
            ProofError::Start { leaf, want, have } => {
                write!(f, "leaf {leaf} begins at {have:016x}, its neighbour ends at {want:016x}")
            }
            ProofError::BeforePad { end } => {
                write!(f, "the node left of the pad ends at {end:016x}")
            }
            ProofError::Range { start, end } => {
                write!(f, "a node from {start:016x} to {end:016x}")
            }
            ProofError::RootEnd { end } => write!(f, "the root ends at {end:016x}"),
        }
    }
}

impl core::error::Error for ProofError {}

/// Why content proofs are invalid (spec 04, 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentError {
    /// There is a content proof entity, which proof version 2 forbids.
    Forbidden,
    /// The entity ends inside of the proof of this announcement.
    Truncated,
    /// Bytes are left over behind the proofs.
    LeftOver {
        /// How many.
        bytes: usize,
    },
    /// The announcement has content and the block no content proofs.
    Missing,
    /// The proof does not lead to the content hash.
    Mismatch,
}

impl fmt::Display for ContentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ContentError::Forbidden => f.write_str("proof version 2 has no content proofs"),
            ContentError::Truncated => f.write_str("the content proofs are too short"),
            ContentError::LeftOver { bytes } => {
                write!(f, "{bytes} bytes are left over behind the content proofs")
            }
            ContentError::Missing => f.write_str("the content proof is missing"),
            ContentError::Mismatch => f.write_str("the content proof misses the content hash"),
        }
    }
}

impl core::error::Error for ContentError {}

/// Why an announcement may not be in a block (`ANN_INVALID`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnFault {
    /// Its parent block is not known on the chain of this block.
    UnknownParent {
        /// The parent height.
        height: u32,
    },
    /// Its version is not allowed with this parent height and proof version.
    Version {
        /// The announcement's version.
        version: u8,
        /// Its parent height.
        height: u32,
    },
    /// The announcement check refuses it.
    Check(AnnError),
}

impl fmt::Display for AnnFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnnFault::UnknownParent { height } => {
                write!(f, "no parent block at height {height} is known")
            }
            AnnFault::Version { version, height } => {
                write!(f, "version {version} with parent height {height} is not allowed here")
            }
            AnnFault::Check(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for AnnFault {}

/// Why [`check_block`](super::check_block) refuses a block or share (spec 04, 11).
///
/// An index is that of the announcement in the order of the proof, 0 to 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockError {
    /// No commitment, wrong magic, or a least work that is no well-formed target (`BAD_COINBASE`).
    BadCoinbase {
        /// The least work, `None` when there is no commitment or its magic is wrong.
        least_work: Option<CompactTarget>,
    },
    /// The content proof entity, or the content proof of an announcement (`ANN_CONTENT_INVALID`).
    AnnContentInvalid(usize, ContentError),
    /// The signature of an announcement is missing or wrong (`ANN_SIG_INVALID`).
    AnnSigInvalid(usize),
    /// An announcement is not valid in this block (`ANN_INVALID`).
    AnnInvalid(usize, AnnFault),
    /// The aged target of an announcement is above the committed one (`ANN_INSUF_POW`).
    AnnInsufPow {
        /// The announcement.
        index: usize,
        /// Its target at this height, [`NOT_USABLE`](crate::difficulty::NOT_USABLE) when it is too
        /// young or too old.
        aged: CompactTarget,
        /// The committed least work.
        least_work: CompactTarget,
    },
    /// The tree proof is invalid (`PCP_INVAL`).
    PcpInval(ProofError),
    /// The tree proof leads to another root than the committed one (`PCP_MISMATCH`).
    PcpMismatch {
        /// The root of the proof.
        proven: Hash32,
        /// The committed root.
        committed: Hash32,
    },
    /// All is well but the work (`INSUF_POW`): reported last.
    InsufPow {
        /// The work hash.
        work_hash: Hash32,
    },
}

impl BlockError {
    /// The numeric result of spec 04, 11, with the index in the low byte.
    #[must_use]
    pub fn code(&self) -> u32 {
        // An index is 0 to 3 and fits the byte.
        let indexed = |base: u32| base + self.index().unwrap_or(0) as u32;
        match self {
            BlockError::AnnInvalid(..) => indexed(0x200),
            BlockError::AnnInsufPow { .. } => indexed(0x300),
            BlockError::AnnSigInvalid(_) => indexed(0x400),
            BlockError::AnnContentInvalid(..) => indexed(0x500),
            BlockError::PcpInval(_) => 0x600,
            BlockError::PcpMismatch { .. } => 0x700,
            BlockError::InsufPow { .. } => 0x800,
            BlockError::BadCoinbase { .. } => 0x900,
        }
    }

    /// The name of the result in spec 04, 11, without the index.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            BlockError::AnnInvalid(..) => "ANN_INVALID",
            BlockError::AnnInsufPow { .. } => "ANN_INSUF_POW",
            BlockError::AnnSigInvalid(_) => "ANN_SIG_INVALID",
            BlockError::AnnContentInvalid(..) => "ANN_CONTENT_INVALID",
            BlockError::PcpInval(_) => "PCP_INVAL",
            BlockError::PcpMismatch { .. } => "PCP_MISMATCH",
            BlockError::InsufPow { .. } => "INSUF_POW",
            BlockError::BadCoinbase { .. } => "BAD_COINBASE",
        }
    }

    /// The announcement at fault, for the results that have one.
    #[must_use]
    pub fn index(&self) -> Option<usize> {
        match self {
            BlockError::AnnInvalid(index, _)
            | BlockError::AnnSigInvalid(index)
            | BlockError::AnnContentInvalid(index, _)
            | BlockError::AnnInsufPow { index, .. } => Some(*index),
            _ => None,
        }
    }
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        if let Some(index) = self.index() {
            write!(f, "({index})")?;
        }
        f.write_str(": ")?;
        match self {
            BlockError::BadCoinbase { least_work: None } => {
                f.write_str("the coinbase holds no commitment")
            }
            BlockError::BadCoinbase { least_work: Some(word) } => {
                write!(f, "committed least work {word} is no target")
            }
            BlockError::AnnContentInvalid(_, error) => error.fmt(f),
            BlockError::AnnSigInvalid(_) => f.write_str("the signature is missing or wrong"),
            BlockError::AnnInvalid(_, fault) => fault.fmt(f),
            BlockError::AnnInsufPow { aged, least_work, .. } => {
                write!(f, "aged target {aged} is above the committed {least_work}")
            }
            BlockError::PcpInval(error) => error.fmt(f),
            BlockError::PcpMismatch { proven, committed } => {
                write!(f, "proven root {} is not the committed {}", proven.hex(), committed.hex())
            }
            BlockError::InsufPow { work_hash } => {
                write!(f, "work hash {} is not below the target", work_hash.display())
            }
        }
    }
}

impl core::error::Error for BlockError {}

/// Why [`validate_share`](super::validate_share) refuses the bytes of a share or block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareError {
    /// The bytes end inside of the header.
    Header {
        /// Bytes that came.
        bytes: usize,
    },
    /// The entities do not decode.
    Entities(EntityError),
    /// No count of transactions follows the entities.
    TransactionCount(VarintError),
    /// The coinbase does not parse.
    Coinbase(TransactionError),
    /// The coinbase and branch do not lead to the root in the header.
    MerkleRoot {
        /// The root in the header.
        header: Hash32,
        /// The root of coinbase and branch.
        computed: Hash32,
    },
    /// The entities are not in the form in which the node writes them (spec 04, 8).
    NotStandard,
    /// The proof version is above 2.
    UnknownVersion {
        /// The version.
        version: u64,
    },
    /// The proof version is not allowed at this height.
    VersionHeight {
        /// The version.
        version: u64,
        /// The height.
        height: u32,
    },
    /// The block check refuses it.
    Block(BlockError),
}

impl fmt::Display for ShareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShareError::Header { bytes } => write!(f, "{bytes} bytes are no block header"),
            ShareError::Entities(error) => write!(f, "proof entities: {error}"),
            ShareError::TransactionCount(error) => write!(f, "number of transactions: {error}"),
            ShareError::Coinbase(error) => write!(f, "coinbase: {error}"),
            ShareError::MerkleRoot { header, computed } => write!(
                f,
                "merkle root {} in the header, but {} computed",
                header.display(),
                computed.display()
            ),
            ShareError::NotStandard => f.write_str("the proof entities are not in standard form"),
            ShareError::UnknownVersion { version } => {
                write!(f, "proof version {version} is above {}", super::versions::CURRENT)
            }
            ShareError::VersionHeight { version, height } => {
                write!(f, "proof version {version} is not allowed at height {height}")
            }
            ShareError::Block(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ShareError {}

impl From<BlockError> for ShareError {
    fn from(error: BlockError) -> Self {
        ShareError::Block(error)
    }
}
