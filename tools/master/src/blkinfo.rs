//! Information on blocks of the chain (spec 05, 4.5), fetched when it is wanted.
//!
//! The reference walks a thousand blocks back before it starts, one call after the other, keeps all
//! for ever, and never starts on a shorter chain (spec 05, 16.11). Here the few blocks that clients
//! follow are fetched before work is published; any other is asked of the node on request. What is
//! kept, how many questions run at once and how many unknown hashes are remembered is bounded.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use packetcrypt_core::bytes::Hash32;
use packetcrypt_node::{Node, NodeError};
use packetcrypt_proto::blkinfo::{BlockInfo, BlockInfoHeader};
use packetcrypt_proto::signing::SigningSeed;
use tokio::sync::Semaphore;

use crate::stats::Counters;

/// Questions of clients to the node at once; the work loop has its own.
const LOOKUPS_MAX: usize = 2;
/// Clients that may wait for their question's turn.
const LOOKUPS_WAITING_MAX: usize = 64;
/// Hashes remembered as unknown.
const UNKNOWN_LEN_MAX: usize = 4096;
/// How long a hash is taken for unknown without asking again: a block may become known.
const UNKNOWN_TIME: Duration = Duration::from_secs(5);

/// Why there is no information on a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LookupError {
    /// The node does not know it, or it is not on the main chain.
    NotFound,
    /// Too many questions at once.
    Busy,
    /// The node does not answer.
    NodeAway,
}

/// Block information by hash, behind it the node.
pub(crate) struct BlockInfos<N> {
    node: Arc<N>,
    signing_seed: Option<SigningSeed>,
    memory: Mutex<Memory>,
    turns: Semaphore,
    waiting: Semaphore,
    counters: Arc<Counters>,
}

impl<N: Node> BlockInfos<N> {
    pub(crate) fn new(
        node: Arc<N>,
        signing_seed: Option<SigningSeed>,
        len_max: usize,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            node,
            signing_seed,
            memory: Mutex::new(Memory::new(len_max)),
            turns: Semaphore::new(LOOKUPS_MAX),
            waiting: Semaphore::new(LOOKUPS_WAITING_MAX),
            counters,
        }
    }

    /// The JSON for a client.
    pub(crate) async fn lookup(&self, hash: Hash32) -> Result<Bytes, LookupError> {
        if let Some(known) = self.recall(hash) {
            return known;
        }
        let Ok(_waiting) = self.waiting.try_acquire() else {
            self.counters.lookups_refused.inc();
            return Err(LookupError::Busy);
        };
        let Ok(_turn) = self.turns.acquire().await else { return Err(LookupError::Busy) };
        // Somebody else may have asked the same meanwhile.
        if let Some(known) = self.recall(hash) {
            return known;
        }
        self.counters.lookups.inc();
        match self.fetch(hash).await {
            Ok(_) => self.recall(hash).unwrap_or(Err(LookupError::NotFound)),
            Err(e) if e.rpc().is_some() => {
                self.memory().note_unknown(hash);
                Err(LookupError::NotFound)
            }
            Err(_) => Err(LookupError::NodeAway),
        }
    }

    /// Fetches the block `tip` and those below it until `depth` are known, a known one is met, or the
    /// chain begins. Below the tip a block that the node can not tell is left to [`Self::lookup`].
    pub(crate) async fn walk(&self, tip: Hash32, depth: usize) -> Result<(), NodeError> {
        let mut next = tip;
        for _ in 0..depth {
            if next.is_zero() || matches!(self.recall(next), Some(Ok(_))) {
                return Ok(());
            }
            next = match self.fetch(next).await {
                Ok(header) => header.previous_hash,
                Err(e) if next == tip || e.rpc().is_none() => return Err(e),
                Err(_) => return Ok(()),
            };
        }
        Ok(())
    }

    async fn fetch(&self, hash: Hash32) -> Result<BlockInfoHeader, NodeError> {
        let header = self.node.block_header(&hash).await?.header;
        let key_height = header.height.saturating_add(1);
        let info = BlockInfo {
            sig_key: self.signing_seed.as_ref().map(|seed| seed.key(key_height).public()),
            header: header.clone(),
        };
        self.memory().remember(hash, info.to_json().into());
        Ok(header)
    }

    fn recall(&self, hash: Hash32) -> Option<Result<Bytes, LookupError>> {
        let memory = self.memory();
        if let Some(info) = memory.known.get(&hash) {
            return Some(Ok(info.clone()));
        }
        let since = memory.unknown.get(&hash)?;
        (since.elapsed() < UNKNOWN_TIME).then_some(Err(LookupError::NotFound))
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is kept, oldest first out.
#[derive(Debug)]
struct Memory {
    len_max: usize,
    known: HashMap<Hash32, Bytes>,
    known_order: VecDeque<Hash32>,
    unknown: HashMap<Hash32, Instant>,
    unknown_order: VecDeque<Hash32>,
}

impl Memory {
    fn new(len_max: usize) -> Self {
        Self {
            len_max,
            known: HashMap::new(),
            known_order: VecDeque::new(),
            unknown: HashMap::new(),
            unknown_order: VecDeque::new(),
        }
    }

    fn remember(&mut self, hash: Hash32, info: Bytes) {
        if self.known.insert(hash, info).is_none() {
            self.known_order.push_back(hash);
        }
        while self.known_order.len() > self.len_max {
            if let Some(oldest) = self.known_order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    fn note_unknown(&mut self, hash: Hash32) {
        if self.unknown.insert(hash, Instant::now()).is_none() {
            self.unknown_order.push_back(hash);
        }
        while self.unknown_order.len() > UNKNOWN_LEN_MAX {
            if let Some(oldest) = self.unknown_order.pop_front() {
                self.unknown.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded() {
        let mut memory = Memory::new(2);
        for n in 0..5u8 {
            memory.remember(Hash32([n; 32]), Bytes::from_static(b"{}"));
        }
        memory.remember(Hash32([4; 32]), Bytes::from_static(b"{}"));
        assert_eq!((memory.known.len(), memory.known_order.len()), (2, 2));
        assert!(memory.known.contains_key(&Hash32([3; 32])));
        for n in 0..u16::try_from(UNKNOWN_LEN_MAX).unwrap() + 3 {
            let mut hash = [0; 32];
            hash[..2].copy_from_slice(&n.to_le_bytes());
            memory.note_unknown(Hash32(hash));
            memory.note_unknown(Hash32(hash));
        }
        assert_eq!(memory.unknown.len(), UNKNOWN_LEN_MAX);
        assert_eq!(memory.unknown_order.len(), UNKNOWN_LEN_MAX);
    }
}
