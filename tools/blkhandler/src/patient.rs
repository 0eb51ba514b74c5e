//! The node as a share sees it: only so long.
//!
//! A node that is not there fails at once; one that hangs takes the time of every call with it, and
//! each share that waits for it holds one of `max_connections`. So a share waits for `node_wait_ms`
//! and no longer, and after a call without an answer the node counts as away: for a moment shares
//! that pass the own check are decided without it, then one of them asks again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use packetcrypt_core::bytes::Hash32;
use packetcrypt_node::{Node, NodeError, ShareToCheck, ShareVerdict};

/// How long a node that gave no answer is left alone.
const AWAY: Duration = Duration::from_secs(1);

/// A node, and how long its answers are waited for.
pub(crate) struct PatientNode<N> {
    node: Arc<N>,
    wait: Duration,
    /// Until when the node is left alone; `None` while it answers.
    away_until: Mutex<Option<Instant>>,
}

impl<N: Node> PatientNode<N> {
    pub(crate) fn new(node: Arc<N>, wait: Duration) -> Self {
        Self { node, wait, away_until: Mutex::new(None) }
    }

    /// How long an answer is waited for.
    pub(crate) fn wait(&self) -> Duration {
        self.wait
    }

    /// Whether a share that can do without the node should do so. While the node is away this is
    /// false for one share a moment: the one that finds out whether it is back.
    pub(crate) fn is_away(&self) -> bool {
        let now = Instant::now();
        let mut away_until = self.away_until.lock().unwrap_or_else(PoisonError::into_inner);
        match *away_until {
            None => false,
            Some(until) if now < until => true,
            Some(_) => {
                *away_until = Some(now + self.wait + AWAY);
                false
            }
        }
    }

    /// [`Node::block_hash`], waited for so long.
    ///
    /// # Errors
    /// Those of the node, [`NodeError::Timeout`] after the wait.
    pub(crate) async fn block_hash(&self, height: i32) -> Result<Hash32, NodeError> {
        self.ask("getblockhash", self.node.block_hash(height)).await
    }

    /// [`Node::check_share`], waited for so long.
    ///
    /// # Errors
    /// As [`PatientNode::block_hash`].
    pub(crate) async fn check_share(
        &self,
        share: &ShareToCheck,
    ) -> Result<ShareVerdict, NodeError> {
        self.ask("checkpcshare", self.node.check_share(share)).await
    }

    async fn ask<T>(
        &self,
        method: &str,
        call: impl Future<Output = Result<T, NodeError>>,
    ) -> Result<T, NodeError> {
        let outcome = tokio::time::timeout(self.wait, call).await.unwrap_or_else(|_| {
            let ms = self.wait.as_millis() as u64;
            Err(NodeError::Timeout { method: method.to_owned(), ms })
        });
        let has_answered = match &outcome {
            Ok(_) => true,
            Err(error) => error.rpc().is_some(),
        };
        let away_until = (!has_answered).then(|| Instant::now() + AWAY);
        *self.away_until.lock().unwrap_or_else(PoisonError::into_inner) = away_until;
        outcome
    }
}
