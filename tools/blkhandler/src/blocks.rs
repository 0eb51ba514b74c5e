//! Blocks on their way to the node (spec 05, 10.2 step 6 and 16.20).
//!
//! Every full block is submitted, however soon after another. It is on disk before the node is
//! asked, and when the node gives no answer it is asked again, also after a restart, until it is
//! known whether the block was taken.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use packetcrypt_core::bytes::Hash32;
use packetcrypt_net::Shutdown;
use packetcrypt_net::paylog::PayLog;
use packetcrypt_node::{Node, NodeError, SubmitVerdict};
use tokio::sync::oneshot;

use crate::pending::{PendingBlock, PendingStore};
use crate::stats::Counters;

/// First and longest pause before a block is submitted again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// A node that closes the connection so often over one block will not take it.
const NO_REPLY_MAX: u32 = 20;

/// Submits blocks.
pub(crate) struct Blocks<N> {
    node: Arc<N>,
    store: PendingStore,
    pay_log: PayLog,
    counters: Arc<Counters>,
    shutdown: Shutdown,
    /// Blocks of an earlier run that wait for the node.
    resumed: Mutex<HashSet<Hash32>>,
}

/// The pause before a block is submitted again. A node that is not there is no burden to itself when
/// it is asked often, and the block is worth less with every second that it is back; one that fails
/// over the block is left alone for longer and longer.
fn pause_after(error: &NodeError, pause: Duration) -> Duration {
    if error.is_retryable() { RETRY.0 } else { (pause * 2).min(RETRY.1) }
}

impl<N: Node> Blocks<N> {
    pub(crate) fn new(
        node: Arc<N>,
        store: PendingStore,
        pay_log: PayLog,
        counters: Arc<Counters>,
        shutdown: Shutdown,
    ) -> Self {
        Self { node, store, pay_log, counters, shutdown, resumed: Mutex::default() }
    }

    /// Whether the block was found by an earlier run and waits for the node already. It may be found
    /// again, since the low nonce is not part of its id, and is settled once.
    pub(crate) fn is_resumed(&self, hash: &Hash32) -> bool {
        self.resumed().contains(hash)
    }

    fn resumed(&self) -> MutexGuard<'_, HashSet<Hash32>> {
        self.resumed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Submits a new block and waits for the verdict, but only so long. The caller logs a verdict
    /// and then calls [`Blocks::settled`]; without one the submission goes on in the background.
    pub(crate) async fn submit(
        self: &Arc<Self>,
        hash: Hash32,
        pending: PendingBlock,
        wait: Duration,
    ) -> Option<SubmitVerdict> {
        self.counters.blocks_submitted.inc();
        self.save(hash, &pending).await;
        let (tell, mut told) = oneshot::channel();
        tokio::spawn(self.clone().first_submission(hash, pending, tell));
        let verdict = match tokio::time::timeout(wait, &mut told).await {
            Ok(verdict) => verdict.ok(),
            // From here on the verdict is settled there, unless it came in this very moment.
            Err(_) => {
                told.close();
                told.try_recv().ok()
            }
        };
        match &verdict {
            Some(SubmitVerdict::Accepted) => {
                self.counters.blocks_taken.inc();
                tracing::info!("block {} taken", hash.display());
            }
            Some(verdict) if verdict.is_duplicate() => self.known(hash),
            Some(SubmitVerdict::Refused(text)) => {
                self.counters.blocks_refused.inc();
                tracing::error!("block {} refused: {text}", hash.display());
            }
            None => {}
        }
        verdict
    }

    /// Submits a block for the first time; a verdict that nobody waits for any more is settled here.
    async fn first_submission(
        self: Arc<Self>,
        hash: Hash32,
        pending: PendingBlock,
        tell: oneshot::Sender<SubmitVerdict>,
    ) {
        match self.ask(&pending).await {
            Ok(verdict) => match tell.send(verdict) {
                Ok(()) => {}
                Err(SubmitVerdict::Accepted) => self.taken(hash, &pending).await,
                Err(verdict) if verdict.is_duplicate() => {
                    self.known(hash);
                    self.settled(hash).await;
                }
                Err(SubmitVerdict::Refused(text)) => self.refused(hash, &text).await,
            },
            Err(e) => {
                tracing::warn!("block {} is submitted again: {e}", hash.display());
                drop(tell);
                self.insist(hash, pending).await;
            }
        }
    }

    /// Forgets a block whose verdict is in the pay log.
    pub(crate) async fn settled(&self, hash: Hash32) {
        let store = self.store.clone();
        let removed = tokio::task::spawn_blocking(move || store.remove(hash)).await;
        if let Ok(Err(e)) = removed {
            tracing::warn!("block {} is settled but its file stays: {e}", hash.display());
        }
    }

    /// The blocks that an earlier run left, for [`Blocks::resume`]. From here on no share submits one
    /// of them beside it.
    pub(crate) fn left_over(&self) -> std::io::Result<Vec<(Hash32, PendingBlock)>> {
        let left_over = self.store.load()?;
        self.resumed().extend(left_over.iter().map(|(hash, _)| *hash));
        Ok(left_over)
    }

    /// Takes up the blocks that an earlier run left.
    pub(crate) fn resume(self: &Arc<Self>, left_over: Vec<(Hash32, PendingBlock)>) {
        for (hash, pending) in left_over {
            self.counters.blocks_submitted.inc();
            let blocks = self.clone();
            tokio::spawn(async move {
                blocks.clone().insist(hash, pending).await;
                blocks.resumed().remove(&hash);
            });
        }
    }

    /// Submits a block until there is a verdict.
    async fn insist(self: Arc<Self>, hash: Hash32, pending: PendingBlock) {
        let mut pause = RETRY.0;
        let mut no_reply = 0;
        while self.shutdown.sleep(pause).await {
            self.counters.blocks_resubmitted.inc();
            let error = match self.ask(&pending).await {
                Ok(SubmitVerdict::Accepted) => return self.taken(hash, &pending).await,
                // An earlier submission was taken although its answer did not come.
                Ok(verdict) if verdict.is_duplicate() => return self.taken(hash, &pending).await,
                Ok(SubmitVerdict::Refused(text)) => return self.refused(hash, &text).await,
                Err(error) => error,
            };
            if let NodeError::ClosedWithoutReply { method } = &error {
                no_reply += 1;
                if no_reply == NO_REPLY_MAX {
                    let text = format!("{method}: no reply, {no_reply} times");
                    return self.refused(hash, &text).await;
                }
            }
            pause = pause_after(&error, pause);
        }
    }

    /// One submission; an error means that the node gave no verdict.
    async fn ask(&self, pending: &PendingBlock) -> Result<SubmitVerdict, NodeError> {
        match self.node.submit_block(&pending.block).await {
            // A block that the node can not even decode is refused, in other words.
            Err(e) => match e.rpc() {
                Some(rpc) => Ok(SubmitVerdict::Refused(rpc.message.clone())),
                None => Err(e),
            },
            verdict => verdict,
        }
    }

    /// Tells the paymaker of a block that was taken late. The share itself was logged before, with
    /// the same event id: it is not paid twice, but the block is counted.
    async fn taken(&self, hash: Hash32, pending: &PendingBlock) {
        let mut pause = RETRY.0;
        while let Err(e) = self.pay_log.append(pending.event.to_line()).await {
            tracing::error!("block {} is taken but not logged: {e}", hash.display());
            if !self.shutdown.sleep(pause).await {
                // The file stays, so that the next run logs it.
                return;
            }
            pause = (pause * 2).min(RETRY.1);
        }
        self.counters.blocks_taken.inc();
        tracing::info!("block {} taken", hash.display());
        self.settled(hash).await;
    }

    /// The node has the block: of another share with this header, before a restart of this handler.
    fn known(&self, hash: Hash32) {
        self.counters.blocks_known.inc();
        tracing::info!("block {} is known to the node", hash.display());
    }

    async fn refused(&self, hash: Hash32, text: &str) {
        self.counters.blocks_refused.inc();
        tracing::error!("block {} refused: {text}", hash.display());
        self.settled(hash).await;
    }

    async fn save(&self, hash: Hash32, pending: &PendingBlock) {
        let (store, pending) = (self.store.clone(), pending.clone());
        let saved = tokio::task::spawn_blocking(move || store.save(hash, &pending)).await;
        if let Ok(Err(e)) = saved {
            // It is submitted all the same.
            tracing::error!("block {} is not on disk: {e}", hash.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_comes_back_gets_the_block_soon() {
        let method = || "submitblock".to_owned();
        let closed = NodeError::ClosedWithoutReply { method: method() };
        let mut pause = RETRY.0;
        for _ in 0..NO_REPLY_MAX {
            pause = pause_after(&closed, pause);
        }
        assert_eq!(pause, RETRY.1);
        let away = [
            NodeError::Unreachable { method: method(), cause: "refused".to_owned() },
            NodeError::Timeout { method: method(), ms: 5000 },
            NodeError::Busy { method: method() },
        ];
        for error in away {
            assert_eq!(pause_after(&error, pause), RETRY.0, "{error}");
        }
    }
}
