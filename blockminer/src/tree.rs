//! The tree over a set of announcements (spec 04, 4), built by several threads.
//!
//! Layer 0 is not stored: its entries follow from the hashes that the store keeps anyway. That
//! saves half of a tree's memory.

use std::thread;
use std::time::{Duration, Instant};

use packetcrypt_core::backend::Backend;
use packetcrypt_core::block::proof::{self, PROOF_BYTES_MAX};
use packetcrypt_core::block::tree;
use packetcrypt_core::block::{Entry, TreeError};
use packetcrypt_core::bytes::Hash32;
use packetcrypt_core::params::ANNOUNCEMENT_BYTES;
use packetcrypt_core::primitives::blake2b::compress32_many;
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::class::ClassSummary;
use crate::store::PinnedSet;

/// Entries of a layer that are put together at a time: a few batches of lanes.
const LEAF_BATCH: usize = 64;
/// Entries below which a layer is not worth another thread.
const ENTRIES_PER_THREAD_MIN: usize = 2048;

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

/// A finished tree with the announcements it is over.
pub struct AnnTree {
    set: PinnedSet,
    /// Layers 1 and up, each with its pad; the last one is the top entry alone.
    layers: Vec<Layer>,
    root: Hash32,
    times: BuildTimes,
}

impl AnnTree {
    /// Builds the tree over a set with this many threads. `base` is the set of another tree: what
    /// is in both is in order already.
    ///
    /// # Errors
    /// [`TreeError::Count`] when no announcement is left.
    pub fn build(
        set: PinnedSet,
        base: Option<&PinnedSet>,
        rule: CountRule,
        threads: usize,
    ) -> Result<AnnTree, TreeError> {
        let started = Instant::now();
        let mut set = set.into_index(base, threads);
        if rule == CountRule::Odd {
            set.make_odd();
        }
        if set.is_empty() {
            return Err(TreeError::Count { count: 0 });
        }
        let index = started.elapsed();
        let layers = build_layers(&set, threads);
        // A tree of one announcement or more has a layer above its leaves.
        let top = layers.last().and_then(|layer| layer.entries().first()).unwrap_or(&Entry::PAD);
        let root = tree::root(top);
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
        match layer.checked_sub(1) {
            None => leaf(&self.set, number as usize),
            Some(above) => self
                .layers
                .get(above as usize)
                .and_then(|layer| layer.entries().get(number as usize))
                .copied()
                .unwrap_or(Entry::PAD),
        }
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

/// A leaf of the tree: the zero entry, an announcement, or the pad.
fn leaf(set: &PinnedSet, number: usize) -> Entry {
    if number > set.len() {
        return Entry::PAD;
    }
    match number.checked_sub(1) {
        None => tree::zero_entry(set.hash(0)),
        Some(at) => tree::leaf(set.hash(at), (number < set.len()).then(|| set.hash(number))),
    }
}

/// One layer. Its memory comes zeroed: the system gives each page when a thread first writes there,
/// so that is done by all of them too.
struct Layer {
    /// The entries and, behind an odd number of them other than one, the pad.
    bytes: Vec<[u8; Entry::BYTES]>,
    /// Entries without the pad.
    len: usize,
}

impl Layer {
    fn blank(len: usize) -> Layer {
        let with_pad = if len > 1 { len.next_multiple_of(2) } else { len };
        let mut bytes = vec![[0; Entry::BYTES]; with_pad];
        if let Some(pad) = bytes.get_mut(len) {
            pad.copy_from_slice(Entry::PAD.as_bytes());
        }
        Layer { bytes, len }
    }

    /// The entries, the pad included.
    fn entries(&self) -> &[Entry] {
        // Entries are bytes of their number and length, without alignment: this always succeeds.
        <[Entry]>::ref_from_bytes(self.bytes.as_flattened()).unwrap_or_default()
    }

    /// The entries without the pad.
    fn entries_mut(&mut self) -> &mut [Entry] {
        let len = self.len;
        let entries = <[Entry]>::mut_from_bytes(self.bytes.as_flattened_mut());
        &mut entries.unwrap_or_default()[..len]
    }
}

fn build_layers(set: &PinnedSet, threads: usize) -> Vec<Layer> {
    let leaves = set.len() + 1;
    let mut layers = Vec::new();
    let mut above = Layer::blank(leaves.div_ceil(2));
    in_parallel(above.entries_mut(), threads, |first, entries| {
        for (batch, entries) in entries.chunks_mut(LEAF_BATCH / 2).enumerate() {
            let mut children = [Entry::PAD; LEAF_BATCH];
            let first = 2 * (first + batch * LEAF_BATCH / 2);
            let children = &mut children[..2 * entries.len()];
            for (at, child) in children.iter_mut().enumerate() {
                *child = leaf(set, first + at);
            }
            parents(children, entries);
        }
    });
    while above.len > 1 {
        let below = above;
        above = Layer::blank(below.entries().len() / 2);
        in_parallel(above.entries_mut(), threads, |first, entries| {
            let below = &below.entries()[2 * first..2 * (first + entries.len())];
            for (children, entries) in
                below.chunks(LEAF_BATCH).zip(entries.chunks_mut(LEAF_BATCH / 2))
            {
                parents(children, entries);
            }
        });
        layers.push(below);
    }
    layers.push(above);
    layers
}

/// [`tree::parents`] of at most [`LEAF_BATCH`] children, hashed in lanes.
fn parents(children: &[Entry], entries: &mut [Entry]) {
    const PAIR_BYTES: usize = 2 * Entry::BYTES;
    let (pairs, _) = children.as_bytes().as_chunks::<PAIR_BYTES>();
    let mut hashes = [Hash32::ZERO; LEAF_BATCH / 2];
    let hashes = &mut hashes[..pairs.len()];
    compress32_many(pairs, hashes, Backend::best());
    for (at, (entry, hash)) in entries.iter_mut().zip(hashes).enumerate() {
        *entry = Entry::new(*hash, children[2 * at].start(), children[2 * at + 1].end());
    }
}

/// Fills a layer in pieces; each piece is told the number of its first entry.
fn in_parallel(entries: &mut [Entry], threads: usize, fill: impl Fn(usize, &mut [Entry]) + Sync) {
    let share = entries.len().div_ceil(threads.max(1)).max(ENTRIES_PER_THREAD_MIN);
    if entries.len() <= share {
        return fill(0, entries);
    }
    let fill = &fill;
    thread::scope(|scope| {
        for (piece, entries) in entries.chunks_mut(share).enumerate() {
            scope.spawn(move || fill(piece * share, entries));
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use packetcrypt_core::block::Tree;
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
        assert!(matches!(none, Err(TreeError::Count { count: 0 })));
    }
}
