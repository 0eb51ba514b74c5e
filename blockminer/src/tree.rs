//! The tree over a set of announcements (spec 04, 4), built by several threads.
//!
//! It is the core's compact one: leaves are the hashes that the store keeps anyway, and of the layers
//! above them only the hashes are stored.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use packetcrypt_core::backend::Backend;
use packetcrypt_core::block::compact_tree::{self, CompactTree};
use packetcrypt_core::block::proof::{self, PROOF_BYTES_MAX};
use packetcrypt_core::block::{Entry, TreeError};
use packetcrypt_core::bytes::Hash32;
use packetcrypt_core::params::ANNOUNCEMENT_BYTES;

use crate::class::ClassSummary;
use crate::store::{Layers, PinnedSet, joined};

/// Parts of a tree for each thread: one that is kept off its core for a while gets fewer of them.
const PARTS_PER_THREAD: usize = 8;

/// Whether the number of announcements is made odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountRule {
    /// One announcement is left out of an even number (spec 04, 5.4). To mine with.
    Odd,
    /// As the reference does. To be compared with it.
    AsItIs,
}

/// How long the parts of building a tree took.
#[derive(Clone, Copy, Debug, Default)]
pub struct BuildTimes {
    /// Keys gathered and sorted.
    pub index: Duration,
    /// Layers hashed.
    pub layers: Duration,
}

impl BuildTimes {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.index + self.layers
    }
}

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Most often that no announcement is left.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The system gives no memory for the layers.
    #[error("no memory for the layers of the tree: {0}")]
    Memory(#[from] io::Error),
}

/// A finished tree with the announcements it is over.
pub struct AnnTree {
    set: PinnedSet,
    layers: CompactTree<Layers>,
    root: Hash32,
    times: BuildTimes,
}

impl AnnTree {
    /// Builds the tree over a set with this many threads. `base` is the set of another tree: what
    /// is in both is in order already.
    ///
    /// # Errors
    /// [`BuildError`]: no announcement is left, or there is no memory for the layers.
    pub fn build(
        set: PinnedSet,
        base: Option<&PinnedSet>,
        rule: CountRule,
        threads: usize,
    ) -> Result<AnnTree, BuildError> {
        let started = Instant::now();
        let mut set = set.into_index(base, threads);
        if rule == CountRule::Odd {
            set.make_odd();
        }
        let index = started.elapsed();
        let layers = build_layers(&set, threads)?;
        let root = layers.root();
        let times = BuildTimes { index, layers: started.elapsed() - index };
        Ok(AnnTree { set, layers, root, times })
    }

    /// Number of announcements.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.set.len() as u64
    }

    /// The root that is committed to.
    #[must_use]
    pub fn root(&self) -> &Hash32 {
        &self.root
    }

    /// The classes that the announcements are from.
    #[must_use]
    pub fn classes(&self) -> &[ClassSummary] {
        self.set.classes()
    }

    /// The announcements by number.
    #[must_use]
    pub fn set(&self) -> &PinnedSet {
        &self.set
    }

    /// The announcement with this number, below [`AnnTree::count`].
    #[must_use]
    pub fn announcement(&self, number: u64) -> &[u8; ANNOUNCEMENT_BYTES] {
        self.set.announcement(number as usize)
    }

    /// The announcement with this number as near to a memory node as there is a copy of it.
    #[must_use]
    pub fn announcement_on(&self, node: usize, number: u64) -> &[u8; ANNOUNCEMENT_BYTES] {
        self.set.announcement_on(node, number as usize)
    }

    /// How long the parts of building took.
    #[must_use]
    pub fn times(&self) -> BuildTimes {
        self.times
    }

    /// An entry by layer and number; the pad behind the end of a layer.
    #[must_use]
    pub fn entry(&self, layer: u32, number: u64) -> Entry {
        self.layers.entry(layer, number, |number| *self.set.hash(number as usize))
    }

    /// The proof of four drawn item numbers (spec 04, 5.2).
    ///
    /// # Errors
    /// [`TreeError::LastOfEven`], which an odd count never gives.
    pub fn prove(&self, items: &[u64; 4]) -> Result<Vec<u8>, TreeError> {
        let mut proof = vec![0; PROOF_BYTES_MAX];
        let entry_of = |layer, number| self.entry(layer, number);
        let len = proof::make_with(self.count(), items, entry_of, &mut proof)?;
        proof.truncate(len);
        Ok(proof)
    }
}

/// The layers above an index.
fn build_layers(set: &PinnedSet, threads: usize) -> Result<CompactTree<Layers>, BuildError> {
    let count = set.len() as u64;
    let len = compact_tree::hashes_len(count).ok_or(TreeError::Count { count })?;
    let mut hashes = set.layer_memory().take(len)?;
    let hash_of = |number: u64| *set.hash(number as usize);
    fill_parts(count, hashes.as_mut(), hash_of, threads.max(1))?;
    let backend = Backend::best();
    Ok(CompactTree::finish(count, hashes, hash_of, backend)?)
}

/// The low layers, whichever thread has time for the next part.
fn fill_parts(
    count: u64,
    hashes: &mut [Hash32],
    hash_of: impl Fn(u64) -> Hash32 + Copy + Sync,
    threads: usize,
) -> Result<(), TreeError> {
    let backend = Backend::best();
    let parts = Mutex::new(compact_tree::parts(count, hashes, threads * PARTS_PER_THREAD)?);
    let fill = || -> Result<(), TreeError> {
        loop {
            let part = parts.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(part) = part else { return Ok(()) };
            part.fill(hash_of, backend)?;
        }
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(fill)).collect();
        let mine = fill();
        others.into_iter().map(joined).fold(mine, Result::and)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use packetcrypt_core::block::{Tree, tree};
    use packetcrypt_core::bytes::CompactTarget;
    use packetcrypt_core::primitives::compress32;

    use super::*;
    use crate::class::SourceId;
    use crate::store::{Arrival, Store};

    fn set_of(count: u32) -> PinnedSet {
        let store = Arc::new(Store::new(count, false).unwrap());
        for number in 0..count {
            let mut bytes = [0; ANNOUNCEMENT_BYTES];
            bytes[..4].copy_from_slice(&number.to_le_bytes());
            let arrival = Arrival {
                bytes: &bytes,
                hash: compress32(&bytes),
                parent_height: 100,
                work_bits: CompactTarget(0x2000_ffff),
            };
            assert_eq!(store.insert(&[arrival], SourceId(0), 103, store.epoch()).stored, 1);
        }
        let members: Vec<_> = store.classes().iter().map(|of| (of.id, of.count)).collect();
        store.pin(&members).unwrap()
    }

    /// The tree is that of the core, which stores all layers and uses one thread.
    fn assert_same_tree(count: u32, threads: usize) {
        let built = AnnTree::build(set_of(count), None, CountRule::AsItIs, threads).unwrap();
        let len = tree::entries_len(u64::from(count)).unwrap() as usize;
        let mut entries = vec![Entry::PAD; len];
        let hash_of = |number| *built.set().hash(number as usize);
        let plain = Tree::build(u64::from(count), &mut entries, hash_of).unwrap();
        assert_eq!(*built.root(), plain.root(), "{count} announcements");
        for layer in 0..=tree::height(u64::from(count)) {
            for (number, entry) in plain.layer(layer).iter().enumerate() {
                let have = built.entry(layer, number as u64);
                assert_eq!(have, *entry, "{count} announcements, layer {layer}, entry {number}");
            }
        }
    }

    #[test]
    fn small_trees_are_those_of_the_core() {
        for count in (1..=70).chain([127, 128, 129, 1000]) {
            assert_same_tree(count, 1);
        }
    }

    #[test]
    fn threads_change_nothing() {
        assert_same_tree(20_011, 3);
    }

    #[test]
    fn the_count_is_made_odd() {
        let tree = AnnTree::build(set_of(10), None, CountRule::Odd, 1).unwrap();
        assert_eq!(tree.count(), 9);
        // Every draw has a proof, the last announcement included.
        for item in 0..9 {
            assert!(tree.prove(&[item; 4]).is_ok());
        }
        let tree = AnnTree::build(set_of(10), None, CountRule::AsItIs, 1).unwrap();
        assert_eq!(tree.prove(&[0, 1, 2, 9]), Err(TreeError::LastOfEven));
    }

    #[test]
    fn nothing_has_no_tree() {
        let store = Arc::new(Store::new(1, false).unwrap());
        let none = AnnTree::build(store.pin(&[]).unwrap(), None, CountRule::Odd, 1);
        assert!(matches!(none, Err(BuildError::Tree(TreeError::Count { count: 0 }))));
    }
}
