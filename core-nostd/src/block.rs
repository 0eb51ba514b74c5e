//! Blocks: header, commitment, announcement tree, proof, search and validation (spec 04).
//!
//! Nothing here allocates: trees lie in slices of the caller, entities are borrowed from the bytes
//! they were decoded from, and [`check_block`] works in a [`CheckScratch`] that is used again.
//!
//! A block or share that comes as bytes goes through [`validate_share`], which does the steps before
//! [`check_block`] too; a miner that holds the parts calls [`check_block`] itself.

pub mod check;
pub mod coinbase;
pub mod commitment;
pub mod compact_tree;
pub mod content;
pub mod entities;
pub mod error;
pub mod header;
pub mod index;
pub mod proof;
pub mod search;
pub mod self_test;
pub mod share;
pub mod transaction;
pub mod tree;
pub mod varint;
pub mod versions;

pub use check::{BlockCheck, BlockKind, BlockOk, CheckScratch, ParentHash, check_block};
pub use commitment::Commitment;
pub use compact_tree::CompactTree;
pub use entities::Entities;
pub use error::{
    AnnFault, BlockError, CoinbaseError, ContentError, EntityError, ProofError, ShareError,
    TransactionError, TreeError, VarintError,
};
pub use header::BlockHeader;
pub use search::{HeaderSearch, Solution};
pub use share::{SerializedBlock, ShareCheck, validate_share};
pub use transaction::Transaction;
pub use tree::{Entry, Tree};
