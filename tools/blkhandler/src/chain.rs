//! Events of new blocks of the chain (spec 05, 10.4).
//!
//! They tell the paymaker the difficulty by which shares are measured, so a node that is away delays
//! them but does not lose them.

use std::sync::Arc;
use std::time::Duration;

use packetcrypt_core::bytes::Hash32;
use packetcrypt_net::Shutdown;
use packetcrypt_net::paylog::PayLog;
use packetcrypt_node::Node;
use packetcrypt_proto::events::BlockEvent;
use tokio::sync::mpsc;

use crate::stats::Counters;

/// Blocks that may wait for a node that is away: at one a minute, four hours.
pub(crate) const NOTICED_LEN_MAX: usize = 256;

/// First and longest pause before the node is asked again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// A block that became the parent of the present work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noticed {
    pub(crate) hash: Hash32,
    /// When, ms since the epoch.
    pub(crate) time_ms: u64,
}

/// Logs the events of blocks, in the order in which they were noticed.
pub(crate) struct ChainLog<N> {
    pub(crate) node: Arc<N>,
    pub(crate) pay_log: PayLog,
    pub(crate) counters: Arc<Counters>,
    pub(crate) shutdown: Shutdown,
}

impl<N: Node> ChainLog<N> {
    /// Runs until the signal or until the sender is gone.
    pub(crate) async fn run(self, mut noticed: mpsc::Receiver<Noticed>) {
        loop {
            let next = tokio::select! {
                next = noticed.recv() => next,
                () = self.shutdown.cancelled() => None,
            };
            let Some(block) = next else { return };
            let mut pause = RETRY.0;
            while !self.log(block).await {
                if !self.shutdown.sleep(pause).await {
                    return;
                }
                pause = (pause * 2).min(RETRY.1);
            }
        }
    }

    /// False: to be tried again.
    async fn log(&self, noticed: Noticed) -> bool {
        let hash = noticed.hash;
        let block = match self.node.block(&hash).await {
            Ok(block) => block,
            Err(e) if e.rpc().is_none() => {
                tracing::warn!("block {}: {e}", hash.display());
                return false;
            }
            Err(e) => {
                self.counters.block_events_lost.inc();
                if e.is_orphaned() {
                    // Nothing is measured by it.
                    tracing::info!("no event for block {}: no longer on the chain", hash.display());
                } else {
                    tracing::warn!("no event for block {}: {e}", hash.display());
                }
                return true;
            }
        };
        let event = BlockEvent::new(hash, block.height, block.difficulty, noticed.time_ms);
        match self.pay_log.append(event.to_line()).await {
            Ok(()) => {
                self.counters.block_events.inc();
                true
            }
            Err(e) => {
                tracing::error!("block {} is not logged: {e}", hash.display());
                false
            }
        }
    }
}
