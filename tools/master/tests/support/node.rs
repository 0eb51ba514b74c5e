//! A node that does what a test says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use packetcrypt_core::bytes::Hash32;
use packetcrypt_node::{
    BlockHeaderReply, BlockReply, Node, NodeError, NodeInfo, RpcError, ShareToCheck, ShareVerdict,
    SubmitVerdict,
};
use packetcrypt_proto::ANNOUNCEMENT_BYTES;
use packetcrypt_proto::template::BlockTemplate;

/// Clones share the script.
#[derive(Clone, Default)]
pub(crate) struct ScriptedNode(Arc<Mutex<Script>>);

#[derive(Default)]
pub(crate) struct Script {
    /// What is given out; its parent is the best block.
    pub(crate) template: Option<BlockTemplate>,
    /// Another best block than the parent of the template: a node whose template lags behind.
    pub(crate) best: Option<Hash32>,
    pub(crate) headers: HashMap<Hash32, BlockHeaderReply>,
    pub(crate) is_away: bool,
    /// Calls by method.
    pub(crate) calls: HashMap<&'static str, usize>,
}

impl ScriptedNode {
    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    pub(crate) fn calls(&self, method: &str) -> usize {
        self.script().calls.get(method).copied().unwrap_or(0)
    }

    fn call(&self, method: &'static str) -> Result<MutexGuard<'_, Script>, NodeError> {
        let mut script = self.script();
        *script.calls.entry(method).or_default() += 1;
        if script.is_away {
            let (method, cause) = (method.to_owned(), "connection refused".to_owned());
            return Err(NodeError::Unreachable { method, cause });
        }
        Ok(script)
    }
}

/// An error of the node itself.
pub(crate) fn refused(method: &str, code: i64, text: &str) -> NodeError {
    let error = RpcError { code: Some(code), message: format!("scripted {text}") };
    NodeError::Rpc { method: method.to_owned(), error }
}

pub(crate) fn previous_of(template: &BlockTemplate) -> Hash32 {
    packetcrypt_proto::work::previous_hash(&template.header)
}

impl Node for ScriptedNode {
    async fn raw_block_template(&self) -> Result<BlockTemplate, NodeError> {
        let script = self.call("getrawblocktemplate")?;
        let none = || refused("getrawblocktemplate", -32603, "no payout address");
        script.template.clone().ok_or_else(none)
    }

    async fn best_block_hash(&self) -> Result<Hash32, NodeError> {
        let script = self.call("getbestblockhash")?;
        let of_template = script.template.as_ref().map(previous_of);
        script.best.or(of_template).ok_or_else(|| refused("getbestblockhash", -5, "no block"))
    }

    async fn block_header(&self, hash: &Hash32) -> Result<BlockHeaderReply, NodeError> {
        let script = self.call("getblockheader")?;
        let unknown = || refused("getblockheader", -5, "Block not found");
        script.headers.get(hash).cloned().ok_or_else(unknown)
    }

    async fn block(&self, _: &Hash32) -> Result<BlockReply, NodeError> {
        panic!("a master asks for no blocks")
    }

    async fn block_hash(&self, _: i32) -> Result<Hash32, NodeError> {
        panic!("a master asks for no heights")
    }

    async fn check_share(&self, _: &ShareToCheck) -> Result<ShareVerdict, NodeError> {
        panic!("a master checks no shares")
    }

    async fn submit_block(&self, _: &[u8]) -> Result<SubmitVerdict, NodeError> {
        panic!("a master submits no blocks")
    }

    async fn configure_mining_payouts(&self, _: &[(String, f64)]) -> Result<(), NodeError> {
        panic!("a master pays nobody")
    }

    async fn mining_payouts(&self) -> Result<Vec<(String, f64)>, NodeError> {
        panic!("a master pays nobody")
    }

    async fn info(&self) -> Result<NodeInfo, NodeError> {
        panic!("a master does not ask for the state of the node")
    }

    async fn check_ann(
        &self,
        _: &[u8; ANNOUNCEMENT_BYTES],
        _: u32,
        _: Option<&Hash32>,
    ) -> Result<Hash32, NodeError> {
        panic!("a master checks no announcements")
    }
}
