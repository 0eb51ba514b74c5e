//! What can be wrong with the form of bytes: integers, transactions, coinbases, proof entities.

use core::fmt;

/// Why bytes are no variable-length integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VarintError {
    /// The bytes end inside of it.
    Truncated,
    /// It is written with more bytes than it needs.
    NotShortest {
        /// The integer.
        value: u64,
        /// Bytes it was written with.
        width: usize,
    },
}

impl fmt::Display for VarintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VarintError::Truncated => f.write_str("the bytes end inside of a varint"),
            VarintError::NotShortest { value, width } => {
                write!(f, "varint {value} is written with {width} bytes, which is not the shortest")
            }
        }
    }
}

impl core::error::Error for VarintError {}

/// Why bytes are no transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionError {
    /// The bytes end inside of it.
    Truncated,
    /// A count or length is no variable-length integer.
    Varint(VarintError),
    /// The flag of the witness form is not 1.
    Flag {
        /// The flag that came.
        flag: u8,
    },
    /// Bytes are left over behind it.
    LeftOver {
        /// How many.
        bytes: usize,
    },
}

impl From<VarintError> for TransactionError {
    fn from(error: VarintError) -> Self {
        match error {
            VarintError::Truncated => TransactionError::Truncated,
            VarintError::NotShortest { .. } => TransactionError::Varint(error),
        }
    }
}

impl fmt::Display for TransactionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransactionError::Truncated => f.write_str("the bytes end inside of the transaction"),
            TransactionError::Varint(error) => error.fmt(f),
            TransactionError::Flag { flag } => {
                write!(f, "the witness flag of the transaction is {flag}, not 1")
            }
            TransactionError::LeftOver { bytes } => {
                write!(f, "{bytes} bytes are left over behind the transaction")
            }
        }
    }
}

impl core::error::Error for TransactionError {}

/// Why a coinbase gives or takes no commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoinbaseError {
    /// There is no placeholder to write the commitment to.
    NoPlaceholder,
}

impl fmt::Display for CoinbaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CoinbaseError::NoPlaceholder => {
                f.write_str("the coinbase holds no placeholder for the commitment")
            }
        }
    }
}

impl core::error::Error for CoinbaseError {}

/// Why bytes are no proof entities (spec 04, 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntityError {
    /// The bytes end before the end entity.
    Truncated,
    /// A type, a length or the version is no variable-length integer.
    Varint(VarintError),
    /// The end came and no proof before it.
    NoProof,
    /// The proof entity is not longer than its nonce and announcements, or too long.
    ProofLen {
        /// The length given.
        len: u64,
    },
    /// Signatures or content proofs came before the proof.
    BeforeProof {
        /// Type of the entity.
        kind: u64,
    },
    /// The signatures are not 64 bytes for each announcement with a key.
    SignaturesLen {
        /// The length given.
        len: u64,
        /// The length wanted.
        want: u64,
    },
    /// The varint of the version does not take the entity's bytes exactly.
    VersionLen {
        /// The length given.
        len: u64,
    },
}

impl From<VarintError> for EntityError {
    fn from(error: VarintError) -> Self {
        match error {
            VarintError::Truncated => EntityError::Truncated,
            VarintError::NotShortest { .. } => EntityError::Varint(error),
        }
    }
}

impl fmt::Display for EntityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EntityError::Truncated => f.write_str("the bytes end before the end of the proof"),
            EntityError::Varint(error) => error.fmt(f),
            EntityError::NoProof => f.write_str("the entities end without a proof"),
            EntityError::ProofLen { len } => write!(
                f,
                "the proof entity has {len} bytes, not more than {} and at most {}",
                crate::block::entities::PROOF_HEAD_BYTES,
                crate::block::entities::PROOF_BYTES_MAX
            ),
            EntityError::BeforeProof { kind } => {
                write!(f, "entity {kind} comes before the proof")
            }
            EntityError::SignaturesLen { len, want } => {
                write!(f, "the signatures have {len} bytes, {want} belong to the announcements")
            }
            EntityError::VersionLen { len } => {
                write!(f, "the version does not take the {len} bytes of its entity")
            }
        }
    }
}

impl core::error::Error for EntityError {}
