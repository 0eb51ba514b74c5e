//! The works for which shares are taken: those on the present block, and for a while those on the one
//! before it.
//!
//! The master refreshes the work of a height that lasts. Miners go on with the work that they have
//! until they see the new one, and a reference miner does so for the whole height; so the first work
//! on a block and the newest ones are all good, also for blocks, and a share is told from its merkle
//! root to be of one of them.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use packetcrypt_core::block::Commitment;
use packetcrypt_core::bytes::Hash32;
use packetcrypt_proto::blkinfo::BlockInfo;
use packetcrypt_proto::events::ShareEvent;
use packetcrypt_proto::share::ShareUpload;
use packetcrypt_proto::template::BlockTemplate;
use packetcrypt_proto::work::WorkFile;

use crate::duplicates::Duplicates;

/// Works remembered with their accepted shares: after a reorganisation and back, a share of the
/// first time is still known.
const RECENT_LEN_MAX: usize = 16;
/// Works on one block that are kept: the first and the newest.
const REFRESHES_LEN_MAX: usize = 8;
/// Where the time is in a header.
const TIME_AT: std::ops::Range<usize> = 68..72;
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

    /// Whether a share was mined with this work: its merkle root has this coinbase in it.
    fn is_of(&self, share: &ShareUpload) -> bool {
        let root = self.file.merkle_root_with(&Commitment(*share.commitment()));
        root.is_ok_and(|root| root == share.merkle_root())
    }

    fn has_time_of(&self, share: &ShareUpload) -> bool {
        self.file.header[TIME_AT] == share.header()[TIME_AT]
    }
}

/// The works on one block, oldest first. Never empty.
#[derive(Clone, Debug)]
struct Refreshes(Vec<Arc<Work>>);

impl Refreshes {
    fn add(&mut self, work: Arc<Work>) {
        self.0.retain(|known| !Arc::ptr_eq(known, &work));
        self.0.push(work);
        if self.0.len() > REFRESHES_LEN_MAX {
            self.0.remove(1);
        }
    }

    fn newest(&self) -> &Arc<Work> {
        self.0.last().expect("made of one work, and none is taken out but the second of many")
    }

    fn is_on(&self, previous_hash: Hash32) -> bool {
        self.newest().file.previous_hash() == previous_hash
    }

    /// The work that a share was mined with.
    fn of(&self, share: &ShareUpload) -> Option<&Arc<Work>> {
        let mut with_root = self.0.iter().rev().filter(|work| work.is_of(share)).peekable();
        let newest = with_root.peek().copied();
        // Where nothing but the time was refreshed the share says which it was.
        with_root.find(|work| work.has_time_of(share)).or(newest)
    }
}

/// The state of the handler, swapped whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Works {
    /// Previous block of the master's newest configuration, whose work may still be on its way.
    pub(crate) announced: Option<Hash32>,
    /// The work that becomes the present one when its template is here.
    pub(crate) coming: Option<Arc<Work>>,
    present: Option<Refreshes>,
    /// The works before, and until when their shares are paid.
    previous: Option<(Refreshes, Instant)>,
    /// Works that were present, one a block.
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
        self.present.as_ref().map(Refreshes::newest)
    }

    /// Whether the present work builds on this block.
    pub(crate) fn is_on(&self, previous_hash: Hash32) -> bool {
        self.present.as_ref().is_some_and(|present| present.is_on(previous_hash))
    }

    /// The work that a share was mined with. When it is none on its block, the newest of that block:
    /// the share is then refused for its merkle root.
    pub(crate) fn find(&self, share: &ShareUpload, now: Instant) -> Found {
        let Some(present) = &self.present else { return Found::NoWork };
        let expected = present.newest().file.previous_hash();
        let previous_hash = share.previous_hash();
        if present.is_on(previous_hash) {
            return match present.of(share) {
                Some(work) => Found::Present(work.clone()),
                None if self.is_coming(share) => Found::Announced { expected },
                None => Found::Present(present.newest().clone()),
            };
        }
        if self.announced == Some(previous_hash) {
            return Found::Announced { expected };
        }
        match &self.previous {
            Some((works, until)) if works.is_on(previous_hash) && now < *until => {
                Found::Previous(works.of(share).unwrap_or(works.newest()).clone())
            }
            _ => Found::Other { expected },
        }
    }

    fn is_coming(&self, share: &ShareUpload) -> bool {
        self.coming.as_ref().is_some_and(|work| work.is_of(share))
    }

    /// The work of a file: the one known before or a new one.
    pub(crate) fn work_of(&self, file: Arc<WorkFile>, shares_max: usize) -> Arc<Work> {
        let previous = self.previous.as_ref().map(|(works, _)| works);
        let near = self.present.iter().chain(previous).flat_map(|works| &works.0);
        let known = near.chain(&self.recent).find(|work| work.is_same(&file));
        known.cloned().unwrap_or_else(|| Arc::new(Work::new(file, shares_max)))
    }

    /// Makes `work` the present one. Those on another block are paid until `grace` has passed.
    pub(crate) fn advance(&mut self, work: Arc<Work>, now: Instant, grace: Duration) {
        let previous_hash = work.file.previous_hash();
        self.coming = None;
        match &mut self.present {
            Some(present) if present.is_on(previous_hash) => present.add(work.clone()),
            present => {
                let former = present.replace(Refreshes(vec![work.clone()]));
                if let Some(former) = former {
                    self.previous = Some((former, now + grace));
                }
            }
        }
        // The master comes back to the last work of a block only.
        self.recent.retain(|known| known.file.previous_hash() != previous_hash);
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

    const COMMITMENT: Commitment = Commitment([0xaa; 48]);

    /// A work whose coinbase and time tell it from others on its block.
    fn refreshed(previous: u8, coinbase: u8, time: u8) -> Arc<WorkFile> {
        let mut file = WorkFile::clone(&work(7, previous));
        file.header[TIME_AT].fill(time);
        file.coinbase = vec![1, 0, 0, 0, 1];
        file.coinbase.extend([coinbase; 36]);
        file.coinbase.extend([0, 0xff, 0xff, 0xff, 0xff, 1]);
        file.coinbase.extend([0; 8]);
        file.coinbase.extend([50, 0x6a, 0x30, 0x09, 0xf9, 0x11, 0x02]);
        file.coinbase.extend([0xfc; 44]);
        file.coinbase.extend([0; 4]);
        Arc::new(file)
    }

    /// A share mined with a work, or one on a block whose merkle root is of no work.
    fn share_of(file: &WorkFile) -> ShareUpload {
        let root = file.merkle_root_with(&COMMITMENT).unwrap_or(Hash32::ZERO);
        let mut proof = file.header.to_vec();
        proof[36..68].copy_from_slice(&root.0);
        let content = [0; 4 + 4 * 1024 + 1];
        packetcrypt_proto::varint::write(1, &mut proof);
        packetcrypt_proto::varint::write_bytes(&content, &mut proof);
        ShareUpload::new(COMMITMENT.0, proof).unwrap()
    }

    fn on(previous: u8) -> ShareUpload {
        share_of(&work(0, previous))
    }

    #[test]
    fn the_former_work_is_paid_for_the_time_of_grace() {
        let now = Instant::now();
        let grace = Duration::from_secs(10);
        let mut works = Works::default();
        assert!(matches!(works.find(&on(1), now), Found::NoWork));
        works.advance(works.work_of(work(7, 1), 9), now, grace);
        assert!(matches!(works.find(&on(1), now), Found::Present(_)));
        works.advance(works.work_of(work(8, 2), 9), now, grace);
        assert!(matches!(works.find(&on(1), now), Found::Previous(_)));
        let late = works.find(&on(1), now + grace);
        assert!(matches!(late, Found::Other { expected } if expected == hash(2)));
        works.announced = Some(hash(3));
        assert!(matches!(works.find(&on(3), now), Found::Announced { .. }));
        // Without grace the former work is over at once.
        works.advance(works.work_of(work(9, 3), 9), now, Duration::ZERO);
        assert!(matches!(works.find(&on(2), now), Found::Other { .. }));
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

    #[test]
    fn shares_of_a_block_find_the_work_they_were_mined_with() {
        let now = Instant::now();
        let grace = Duration::from_secs(10);
        let mut works = Works::default();
        let files: Vec<_> = (0..20).map(|n| refreshed(1, n, n)).collect();
        let mut made = Vec::new();
        for file in &files {
            made.push(works.work_of(file.clone(), 9));
            works.advance(made[made.len() - 1].clone(), now, grace);
        }
        assert_eq!(works.recent.len(), 1, "one of a block is enough to come back to");
        let found = |works: &Works, file: &WorkFile| match works.find(&share_of(file), now) {
            Found::Present(work) | Found::Previous(work) => work,
            other => panic!("{other:?}"),
        };
        // The first and the newest; any other has the newest's refusal.
        let last = files.len() - 1;
        for n in [0].into_iter().chain(last - 6..=last) {
            assert!(Arc::ptr_eq(&found(&works, &files[n]), &made[n]), "{n}");
            assert!(Arc::ptr_eq(&works.work_of(files[n].clone(), 9), &made[n]), "{n}");
        }
        assert!(Arc::ptr_eq(&found(&works, &files[5]), &made[last]));
        // One whose template is on its way is waited for.
        let coming = refreshed(1, 99, 99);
        works.coming = Some(works.work_of(coming.clone(), 9));
        assert!(matches!(works.find(&share_of(&coming), now), Found::Announced { .. }));
        assert!(matches!(works.find(&share_of(&files[5]), now), Found::Present(_)));
        // All of them are paid for the time of grace when the next block is there.
        works.advance(works.work_of(refreshed(2, 0, 0), 9), now, grace);
        assert!(works.coming.is_none());
        assert!(Arc::ptr_eq(&found(&works, &files[0]), &made[0]));
        assert!(matches!(works.find(&share_of(&files[0]), now), Found::Previous(_)));
    }

    #[test]
    fn works_that_differ_in_their_time_alone_are_told_apart() {
        let now = Instant::now();
        let mut works = Works::default();
        let made: Vec<_> = (0..3)
            .map(|time| {
                let work = works.work_of(refreshed(1, 5, time), 9);
                works.advance(work.clone(), now, Duration::ZERO);
                work
            })
            .collect();
        for (time, work) in made.iter().enumerate() {
            let share = share_of(&refreshed(1, 5, time as u8));
            let Found::Present(found) = works.find(&share, now) else { panic!("{time}") };
            assert!(Arc::ptr_eq(&found, work), "{time}");
        }
        let Found::Present(found) = works.find(&share_of(&refreshed(1, 5, 77)), now) else {
            panic!("no work")
        };
        assert!(Arc::ptr_eq(&found, &made[2]));
    }
}
