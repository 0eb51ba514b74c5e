//! The works for which shares are taken: the present one, and for a while the one before it.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use packetcrypt_core::bytes::Hash32;
use packetcrypt_proto::blkinfo::BlockInfo;
use packetcrypt_proto::events::ShareEvent;
use packetcrypt_proto::template::BlockTemplate;
use packetcrypt_proto::work::WorkFile;

use crate::duplicates::Duplicates;

/// Works remembered with their accepted shares: after a reorganisation and back, a share of the
/// first time is still known.
const RECENT_LEN_MAX: usize = 16;
/// Blocks of the chain remembered by height.
const CHAIN_LEN_MAX: usize = 512;
/// Parent blocks remembered for one work.
const PARENTS_LEN_MAX: usize = 512;

/// One work with what belongs to it.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) file: Arc<WorkFile>,
    /// Not set while the template could not be read from the master.
    pub(crate) template: OnceLock<BlockTemplate>,
    /// Shares accepted for this work.
    pub(crate) shares: Duplicates<ShareEvent>,
    /// Parent blocks of announcements that the node was asked for. Kept for this work only: at the
    /// next one the chain may be another.
    parents: Mutex<HashMap<u32, Hash32>>,
    /// Blocks of this work that were handed to the node, by id. At most as many as shares.
    blocks: Mutex<HashSet<Hash32>>,
}

impl Work {
    pub(crate) fn new(file: Arc<WorkFile>, shares_max: usize) -> Self {
        Self {
            file,
            template: OnceLock::new(),
            shares: Duplicates::new(shares_max),
            parents: Mutex::default(),
            blocks: Mutex::default(),
        }
    }

    /// Whether a block is to be submitted: true once for each id. The low nonce and the proof are
    /// not part of the id, so another solution of the same header is the same block to the node,
    /// which would refuse it as known.
    pub(crate) fn claim_block(&self, hash: Hash32) -> bool {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner).insert(hash)
    }

    /// The node refused the block; another proof of the same header may be good.
    pub(crate) fn release_block(&self, hash: &Hash32) {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner).remove(hash);
    }

    /// The block at a height, when the node has told it for this work.
    pub(crate) fn parent(&self, height: u32) -> Option<Hash32> {
        self.parents().get(&height).copied()
    }

    /// Keeps what the node told. Usable parents are at most 259 blocks old, so that the bound is met
    /// only by shares that are refused anyway.
    pub(crate) fn remember_parent(&self, height: u32, hash: Hash32) {
        let mut parents = self.parents();
        if parents.len() < PARENTS_LEN_MAX {
            parents.insert(height, hash);
        }
    }

    fn parents(&self) -> MutexGuard<'_, HashMap<u32, Hash32>> {
        self.parents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_same(&self, file: &WorkFile) -> bool {
        *self.file == *file
    }
}

/// The state of the handler, swapped whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Works {
    /// Previous block of the master's newest configuration, whose work may still be on its way.
    pub(crate) announced: Option<Hash32>,
    present: Option<Arc<Work>>,
    /// The work before, and until when its shares are paid.
    previous: Option<(Arc<Work>, Instant)>,
    recent: VecDeque<Arc<Work>>,
    /// Ids of blocks of the chain by height, as far as the master told.
    chain: BTreeMap<i32, Hash32>,
}

/// Which work a share is for.
#[derive(Debug)]
pub(crate) enum Found {
    /// The present one.
    Present(Arc<Work>),
    /// The one before, within the time of grace.
    Previous(Arc<Work>),
    /// One that the master has announced and not yet given.
    Announced {
        /// Previous block of the present work.
        expected: Hash32,
    },
    /// None of these.
    Other {
        /// Previous block of the present work.
        expected: Hash32,
    },
    /// There is no work yet.
    NoWork,
}

impl Works {
    pub(crate) fn present(&self) -> Option<&Arc<Work>> {
        self.present.as_ref()
    }

    /// The work that builds on `previous_hash`.
    pub(crate) fn find(&self, previous_hash: Hash32, now: Instant) -> Found {
        let Some(present) = &self.present else { return Found::NoWork };
        let expected = present.file.previous_hash();
        if expected == previous_hash {
            return Found::Present(present.clone());
        }
        if self.announced == Some(previous_hash) {
            return Found::Announced { expected };
        }
        match &self.previous {
            Some((work, until)) if work.file.previous_hash() == previous_hash && now < *until => {
                Found::Previous(work.clone())
            }
            _ => Found::Other { expected },
        }
    }

    /// The work of a file: the one known before or a new one.
    pub(crate) fn work_of(&self, file: Arc<WorkFile>, shares_max: usize) -> Arc<Work> {
        let known = self.recent.iter().find(|work| work.is_same(&file));
        known.cloned().unwrap_or_else(|| Arc::new(Work::new(file, shares_max)))
    }

    /// Makes `work` the present one. The former one is paid until `grace` has passed.
    pub(crate) fn advance(&mut self, work: Arc<Work>, now: Instant, grace: Duration) {
        if let Some(former) = self.present.replace(work.clone())
            && former.file.previous_hash() != work.file.previous_hash()
        {
            self.previous = Some((former, now + grace));
        }
        self.recent.retain(|known| !Arc::ptr_eq(known, &work));
        self.recent.push_back(work);
        if self.recent.len() > RECENT_LEN_MAX {
            self.recent.pop_front();
        }
    }

    /// Takes over blocks that the master reported.
    pub(crate) fn extend_chain(&mut self, blocks: &[Arc<BlockInfo>], tip_height: i32) {
        for block in blocks {
            self.chain.insert(block.header.height, block.header.hash);
        }
        // Blocks above the tip were of another branch.
        self.chain.retain(|height, _| *height <= tip_height);
        while self.chain.len() > CHAIN_LEN_MAX {
            self.chain.pop_first();
        }
    }

    /// The id of the block at a height of the chain that `work` builds on, when it is known here.
    pub(crate) fn block_at(&self, height: i32, work: &Work) -> Option<Hash32> {
        let tip = work.file.height - 1;
        let on_this_chain = self.chain.get(&tip) == Some(&work.file.previous_hash());
        self.chain.get(&height).filter(|_| on_this_chain && height <= tip).copied()
    }
}

#[cfg(test)]
mod tests {
    use packetcrypt_core::bytes::CompactTarget;

    use super::*;

    fn work(height: i32, previous: u8) -> Arc<WorkFile> {
        let mut header = [0; 80];
        header[4..36].fill(previous);
        Arc::new(WorkFile {
            header,
            signing_key: Hash32::ZERO,
            share_target: CompactTarget(0x2000_ffff),
            ann_target: CompactTarget(0x207f_ffff),
            height,
            coinbase: Vec::new(),
            merkle_branch: Vec::new(),
        })
    }

    fn hash(byte: u8) -> Hash32 {
        Hash32([byte; 32])
    }

    #[test]
    fn the_former_work_is_paid_for_the_time_of_grace() {
        let now = Instant::now();
        let grace = Duration::from_secs(10);
        let mut works = Works::default();
        assert!(matches!(works.find(hash(1), now), Found::NoWork));
        works.advance(works.work_of(work(7, 1), 9), now, grace);
        assert!(matches!(works.find(hash(1), now), Found::Present(_)));
        works.advance(works.work_of(work(8, 2), 9), now, grace);
        assert!(matches!(works.find(hash(1), now), Found::Previous(_)));
        let late = works.find(hash(1), now + grace);
        assert!(matches!(late, Found::Other { expected } if expected == hash(2)));
        works.announced = Some(hash(3));
        assert!(matches!(works.find(hash(3), now), Found::Announced { .. }));
        // Without grace the former work is over at once.
        works.advance(works.work_of(work(9, 3), 9), now, Duration::ZERO);
        assert!(matches!(works.find(hash(2), now), Found::Other { .. }));
    }

    #[test]
    fn a_work_that_comes_back_keeps_its_shares() {
        let now = Instant::now();
        let mut works = Works::default();
        let first = works.work_of(work(7, 1), 9);
        works.advance(first.clone(), now, Duration::ZERO);
        works.advance(works.work_of(work(7, 2), 9), now, Duration::ZERO);
        assert!(Arc::ptr_eq(&works.work_of(work(7, 1), 9), &first));
        for n in 10..40 {
            works.advance(works.work_of(work(7, n), 9), now, Duration::ZERO);
        }
        assert_eq!(works.recent.len(), RECENT_LEN_MAX);
    }
}
