//! The pool's view of the chain (spec 06): the trait [`Node`] and its JSON-RPC client [`RpcNode`].
//!
//! ```no_run
//! use packetcrypt_node::{Node, RpcConfig, RpcNode};
//!
//! # async fn example() -> Result<(), packetcrypt_node::NodeError> {
//! let config = RpcConfig { user: "x".into(), password: "y".into(), ..RpcConfig::default() };
//! let node = RpcNode::new(&config)?;
//! println!("tip {}", node.best_block_hash().await?.display());
//! # Ok(())
//! # }
//! ```
//!
//! The node is a peer that fails in its own ways: errors come with status 200, texts hold call
//! stacks, a call that goes wrong inside closes the connection without a reply. [`NodeError`] keeps
//! these apart, because some must be tried again and some never.

mod error;
mod replies;
mod rpc;

use std::sync::Arc;

use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_proto::ANNOUNCEMENT_BYTES;
use packetcrypt_proto::template::BlockTemplate;

pub use error::{NodeError, RpcError, first_paragraph};
pub use replies::{BlockHeaderReply, BlockReply, NodeInfo, ShareVerdict, SubmitVerdict};
pub use rpc::{RpcConfig, RpcNode, RpcStats};

/// A share for `checkpcshare` (spec 06, 1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareToCheck {
    /// Target that is enough for a share.
    pub share_target: CompactTarget,
    /// Height of the block.
    pub height: i32,
    /// Header, proof elements, end element, and a zero byte for "no transactions".
    pub block: Vec<u8>,
    /// Coinbase with the commitment, with or without its witness.
    pub coinbase: Vec<u8>,
    /// Merkle branch of the coinbase, internal order.
    pub merkle_branch: Vec<Hash32>,
}

/// What the pool asks of a chain node. Implemented by [`RpcNode`] and, in process, by the
/// development network.
///
/// Every call may fail with any [`NodeError`].
pub trait Node: Send + Sync + 'static {
    /// Which node this is, for the log: its URL without credentials where it has one.
    fn name(&self) -> String {
        "node".to_owned()
    }

    /// The block to mine next: `getrawblocktemplate`.
    fn raw_block_template(&self) -> impl Future<Output = Result<BlockTemplate, NodeError>> + Send;

    /// Hash of the best block: `getbestblockhash`.
    fn best_block_hash(&self) -> impl Future<Output = Result<Hash32, NodeError>> + Send;

    /// Header of a block of the main chain: `getblockheader`.
    fn block_header(
        &self,
        hash: &Hash32,
    ) -> impl Future<Output = Result<BlockHeaderReply, NodeError>> + Send;

    /// A block: `getblock`.
    fn block(&self, hash: &Hash32) -> impl Future<Output = Result<BlockReply, NodeError>> + Send;

    /// Hash of the main chain's block at a height: `getblockhash`.
    fn block_hash(&self, height: i32) -> impl Future<Output = Result<Hash32, NodeError>> + Send;

    /// Whether a share is good: `checkpcshare`.
    ///
    /// The caller has made sure that the parents of the announcements are at most `height - 3`, that
    /// no announcement has a target with mantissa 0, and that the header's own fields are those of
    /// its template: the node does not check this, or is hurt by it (spec 06, 1.3 and 1.5).
    fn check_share(
        &self,
        share: &ShareToCheck,
    ) -> impl Future<Output = Result<ShareVerdict, NodeError>> + Send;

    /// Hands in a block: `submitblock`.
    fn submit_block(
        &self,
        block: &[u8],
    ) -> impl Future<Output = Result<SubmitVerdict, NodeError>> + Send;

    /// Says who is paid by the next coinbase, by weights: `configureminingpayouts`.
    ///
    /// Forgotten by the node when it restarts. Weights must be positive: the node does not refuse
    /// negative ones, so this call does.
    fn configure_mining_payouts(
        &self,
        weights: &[(String, f64)],
    ) -> impl Future<Output = Result<(), NodeError>> + Send;

    /// Who is paid by the present template, in coins: `getminingpayouts`. Not for accounting
    /// (spec 06, 1.3).
    fn mining_payouts(&self) -> impl Future<Output = Result<Vec<(String, f64)>, NodeError>> + Send;

    /// State of the node: `getinfo`.
    fn info(&self) -> impl Future<Output = Result<NodeInfo, NodeError>> + Send;

    /// Work hash of a valid announcement: `checkpcann`, for the parent given, or else for the main
    /// chain's block at its parent height. The caller refuses targets with mantissa 0 itself.
    fn check_ann(
        &self,
        announcement: &[u8; ANNOUNCEMENT_BYTES],
        proof_version: u32,
        parent: Option<&Hash32>,
    ) -> impl Future<Output = Result<Hash32, NodeError>> + Send;
}

impl<N: Node> Node for Arc<N> {
    fn name(&self) -> String {
        N::name(self)
    }

    fn raw_block_template(&self) -> impl Future<Output = Result<BlockTemplate, NodeError>> + Send {
        N::raw_block_template(self)
    }

    fn best_block_hash(&self) -> impl Future<Output = Result<Hash32, NodeError>> + Send {
        N::best_block_hash(self)
    }

    fn block_header(
        &self,
        hash: &Hash32,
    ) -> impl Future<Output = Result<BlockHeaderReply, NodeError>> + Send {
        N::block_header(self, hash)
    }

    fn block(&self, hash: &Hash32) -> impl Future<Output = Result<BlockReply, NodeError>> + Send {
        N::block(self, hash)
    }

    fn block_hash(&self, height: i32) -> impl Future<Output = Result<Hash32, NodeError>> + Send {
        N::block_hash(self, height)
    }

    fn check_share(
        &self,
        share: &ShareToCheck,
    ) -> impl Future<Output = Result<ShareVerdict, NodeError>> + Send {
        N::check_share(self, share)
    }

    fn submit_block(
        &self,
        block: &[u8],
    ) -> impl Future<Output = Result<SubmitVerdict, NodeError>> + Send {
        N::submit_block(self, block)
    }

    fn configure_mining_payouts(
        &self,
        weights: &[(String, f64)],
    ) -> impl Future<Output = Result<(), NodeError>> + Send {
        N::configure_mining_payouts(self, weights)
    }

    fn mining_payouts(&self) -> impl Future<Output = Result<Vec<(String, f64)>, NodeError>> + Send {
        N::mining_payouts(self)
    }

    fn info(&self) -> impl Future<Output = Result<NodeInfo, NodeError>> + Send {
        N::info(self)
    }

    fn check_ann(
        &self,
        announcement: &[u8; ANNOUNCEMENT_BYTES],
        proof_version: u32,
        parent: Option<&Hash32>,
    ) -> impl Future<Output = Result<Hash32, NodeError>> + Send {
        N::check_ann(self, announcement, proof_version, parent)
    }
}
