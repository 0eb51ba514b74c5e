//! The tree over the announcements of a block in little memory, made by several threads.
//!
//! It is the tree of [`super::tree`], and gives the same entries. Stored are the 32-byte hashes of the
//! layers above the leaves alone, about one for each announcement in all. The leaves are the hashes
//! of the announcements, which the caller keeps anyway, and where a subtree begins and ends follows
//! from the keys in them: an entry of layer `k` begins at the key of its first leaf and ends at that of
//! the leaf 2^k further on.
//!
//! [`parts`] cuts the memory into parts that threads can fill side by side, each with its own part of
//! the low layers; a block (`BLOCK_LAYERS`) of leaves is taken through all of them while it is in
//! the cache. [`CompactTree::finish`] makes the few entries above.

use zerocopy::IntoBytes;

use crate::backend::Backend;
use crate::bytes::Hash32;
use crate::primitives::blake2b::compress32_many;

use super::error::TreeError;
use super::tree::{Entry, height, key, root};

/// Layers that are made together, of 2^9 leaves: 24 KiB of entries.
const BLOCK_LAYERS: usize = 9;
const BLOCK_LEAVES: usize = 1 << BLOCK_LAYERS;

/// Hashes of the layers above the leaves, without pads; `None` where there is no such tree, or it is
/// larger than memory can be.
#[must_use]
pub const fn hashes_len(count: u64) -> Option<usize> {
    let Some(leaves) = count.checked_add(1) else { return None };
    if count == 0 || leaves > usize::MAX as u64 / 2 {
        return None;
    }
    Some(layer_start(count, height(count)) + 1)
}

/// Entries of a layer without pad.
const fn layer_len(count: u64, layer: u32) -> usize {
    (count as usize + 1).div_ceil(1 << layer)
}

/// Where the hashes of a layer above the leaves begin.
const fn layer_start(count: u64, layer: u32) -> usize {
    let mut start = 0;
    let mut below = 1;
    while below < layer {
        start += layer_len(count, below);
        below += 1;
    }
    start
}

/// Where the subtree of a leaf begins, which is where that before it ends.
fn start_of_leaf(count: u64, leaf: u64, hash_of: &impl Fn(u64) -> Hash32) -> u64 {
    match leaf.checked_sub(1) {
        None => 0,
        Some(number) if number < count => key(&hash_of(number)),
        Some(_) => u64::MAX,
    }
}

/// The low layers of consecutive blocks of leaves: the work of one thread.
#[derive(Debug)]
pub struct Part<'h> {
    count: u64,
    first_leaf: u64,
    leaves: usize,
    /// Layers 1 and up; empty ones above the top of the tree.
    layers: [&'h mut [Hash32]; BLOCK_LAYERS],
}

/// Cuts the memory of a tree of `count` announcements, exactly [`hashes_len`] hashes, into at most
/// `parts` parts of about the same size. All of them must be filled, in any order.
///
/// # Errors
/// [`TreeError`] when there are no announcements, or the memory has another size.
pub fn parts<'h>(
    count: u64,
    hashes: &'h mut [Hash32],
    parts: usize,
) -> Result<impl Iterator<Item = Part<'h>>, TreeError> {
    check_len(count, hashes.len())?;
    let mut rest = hashes;
    let mut layers: [&mut [Hash32]; BLOCK_LAYERS] = core::array::from_fn(|below| {
        let layer = below as u32 + 1;
        let len = if layer <= height(count) { layer_len(count, layer) } else { 0 };
        rest.split_off_mut(..len).expect("all layers fit")
    });
    let mut leaves_left = count as usize + 1;
    let blocks_each = leaves_left.div_ceil(BLOCK_LEAVES).div_ceil(parts.max(1));
    let mut first_leaf = 0;
    Ok(core::iter::from_fn(move || {
        if leaves_left == 0 {
            return None;
        }
        let leaves = leaves_left.min(blocks_each * BLOCK_LEAVES);
        let part = Part { count, first_leaf, leaves, layers: split_layers(&mut layers, leaves) };
        first_leaf += leaves as u64;
        leaves_left -= leaves;
        Some(part)
    }))
}

/// Takes the hashes above `leaves` leaves from the front of each layer.
fn split_layers<'h>(
    layers: &mut [&'h mut [Hash32]; BLOCK_LAYERS],
    leaves: usize,
) -> [&'h mut [Hash32]; BLOCK_LAYERS] {
    let mut layer = 0;
    layers.each_mut().map(|hashes| {
        layer += 1;
        let len = leaves.div_ceil(1 << layer).min(hashes.len());
        hashes.split_off_mut(..len).expect("not longer than the layer")
    })
}

impl Part<'_> {
    /// Makes the hashes. `hash_of` gives the hash of an announcement by number.
    ///
    /// # Errors
    /// [`TreeError::Unsorted`] when keys are not strictly ascending between 0 and `u64::MAX`.
    pub fn fill(
        mut self,
        hash_of: impl Fn(u64) -> Hash32,
        backend: Backend,
    ) -> Result<(), TreeError> {
        let mut entries = [Entry::PAD; BLOCK_LEAVES];
        while self.leaves > 0 {
            let leaves = self.leaves.min(BLOCK_LEAVES);
            read_leaves(self.count, self.first_leaf, &mut entries[..leaves], &hash_of)?;
            let layers = split_layers(&mut self.layers, leaves);
            fold_block(&mut entries, leaves, layers, backend);
            self.first_leaf += leaves as u64;
            self.leaves -= leaves;
        }
        Ok(())
    }
}

/// The entries of leaves from `first` on.
fn read_leaves(
    count: u64,
    first: u64,
    leaves: &mut [Entry],
    hash_of: &impl Fn(u64) -> Hash32,
) -> Result<(), TreeError> {
    let mut start = start_of_leaf(count, first, hash_of);
    let mut hash = first.checked_sub(1).map_or(Hash32::ZERO, hash_of);
    for (leaf, at) in leaves.iter_mut().zip(first..) {
        let next = if at < count { hash_of(at) } else { Hash32([0xff; 32]) };
        let end = key(&next);
        if end <= start || (at < count && end == u64::MAX) {
            // Announcement `at` is leaf `at + 1`; behind the last one there is none to blame but it.
            return Err(TreeError::Unsorted { number: at.min(count - 1) });
        }
        *leaf = Entry::new(hash, start, end);
        (hash, start) = (next, end);
    }
    Ok(())
}

/// Makes the layers above the first `len` entries, which become entries of the last layer.
fn fold_block(
    entries: &mut [Entry; BLOCK_LEAVES],
    mut len: usize,
    layers: [&mut [Hash32]; BLOCK_LAYERS],
    backend: Backend,
) {
    for hashes in layers {
        if hashes.is_empty() {
            return;
        }
        fold(entries, &mut len, hashes, backend);
    }
}

/// Makes the hashes above the first `len` entries, and puts the entries of that layer in their place.
fn fold(entries: &mut [Entry], len: &mut usize, hashes: &mut [Hash32], backend: Backend) {
    if !len.is_multiple_of(2) {
        entries[*len] = Entry::PAD;
    }
    let above = len.div_ceil(2);
    let pairs = entries[..2 * above].as_bytes().as_chunks::<{ 2 * Entry::BYTES }>().0;
    compress32_many(pairs, hashes, backend);
    for (at, hash) in hashes.iter().enumerate() {
        entries[at] = Entry::new(*hash, entries[2 * at].start(), entries[2 * at + 1].end());
    }
    *len = above;
}

/// A tree of which the hashes above the leaves are stored, in a slice or vector.
#[derive(Clone, Debug)]
pub struct CompactTree<H> {
    count: u64,
    hashes: H,
}

impl<H: AsRef<[Hash32]>> CompactTree<H> {
    /// Makes the layers above those of the [`parts`], all of which were filled.
    ///
    /// # Errors
    /// [`TreeError`] when there are no announcements, or the memory has another size.
    pub fn finish(
        count: u64,
        mut hashes: H,
        hash_of: impl Fn(u64) -> Hash32,
        backend: Backend,
    ) -> Result<CompactTree<H>, TreeError>
    where
        H: AsMut<[Hash32]>,
    {
        check_len(count, hashes.as_ref().len())?;
        for layer in BLOCK_LAYERS as u32..height(count) {
            let (below, above) = hashes.as_mut().split_at_mut(layer_start(count, layer + 1));
            let below = &below[layer_start(count, layer)..];
            let above = &mut above[..layer_len(count, layer + 1)];
            for (block, above) in above.chunks_mut(BLOCK_LEAVES / 2).enumerate() {
                let first = block * BLOCK_LEAVES;
                let mut entries = [Entry::PAD; BLOCK_LEAVES];
                let mut len = BLOCK_LEAVES.min(below.len() - first);
                for (entry, number) in entries[..len].iter_mut().zip(first..) {
                    let ends = ends_of(count, layer, number as u64, &hash_of);
                    *entry = Entry::new(below[number], ends.0, ends.1);
                }
                fold(&mut entries, &mut len, above, backend);
            }
        }
        Ok(CompactTree { count, hashes })
    }

    /// Number of announcements, the zero entry not counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// An entry by layer and number; the pad behind the end of a layer. [`make_with`] wants it.
    ///
    /// [`make_with`]: super::proof::make_with
    #[must_use]
    pub fn entry(&self, layer: u32, number: u64, hash_of: impl Fn(u64) -> Hash32) -> Entry {
        let count = self.count;
        if layer > height(count) || number >= layer_len(count, layer) as u64 {
            return Entry::PAD;
        }
        let hash = match (layer, number.checked_sub(1)) {
            (0, None) => Hash32::ZERO,
            (0, Some(before)) => hash_of(before),
            _ => self.hashes.as_ref()[layer_start(count, layer) + number as usize],
        };
        let (start, end) = ends_of(count, layer, number, &hash_of);
        Entry::new(hash, start, end)
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Hash32 {
        let top = *self.hashes.as_ref().last().expect("no tree is empty");
        root(&Entry::new(top, 0, u64::MAX))
    }
}

/// Where an entry begins and ends.
fn ends_of(count: u64, layer: u32, number: u64, hash_of: &impl Fn(u64) -> Hash32) -> (u64, u64) {
    // The tree is in memory, so leaf numbers are far below 2^63.
    let start = start_of_leaf(count, number << layer, hash_of);
    (start, start_of_leaf(count, (number + 1) << layer, hash_of))
}

fn check_len(count: u64, have: usize) -> Result<(), TreeError> {
    let want = hashes_len(count).ok_or(TreeError::Count { count })?;
    if want == have { Ok(()) } else { Err(TreeError::Entries { have, want: want as u64 }) }
}

#[cfg(test)]
mod tests {
    use super::super::tree::{Tree, entries_len};
    use super::*;
    use crate::primitives::compress32;
    use std::vec;
    use std::vec::Vec;

    fn sorted_hashes(count: u64) -> Vec<Hash32> {
        let mut hashes: Vec<_> = (0..count).map(|n| compress32(&n.to_le_bytes())).collect();
        assert_eq!(super::super::index::index(&mut hashes) as u64, count);
        hashes
    }

    fn build(
        sorted: &[Hash32],
        pieces: usize,
        backend: Backend,
    ) -> Result<CompactTree<Vec<Hash32>>, TreeError> {
        let count = sorted.len() as u64;
        let hash_of = |number: u64| sorted[number as usize];
        let mut hashes = vec![Hash32::ZERO; hashes_len(count).unwrap_or(0)];
        // Parts do not depend on each other's order.
        let mut all: Vec<_> = parts(count, &mut hashes, pieces)?.collect();
        all.reverse();
        all.into_iter().try_for_each(|part| part.fill(hash_of, backend))?;
        CompactTree::finish(count, hashes, hash_of, backend)
    }

    fn assert_same(sorted: &[Hash32], pieces: usize, backend: Backend) {
        let count = sorted.len() as u64;
        let hash_of = |number: u64| sorted[number as usize];
        let compact = build(sorted, pieces, backend).unwrap();
        let mut entries = vec![Entry::PAD; entries_len(count).unwrap() as usize];
        let plain = Tree::build(count, &mut entries, hash_of).unwrap();
        assert_eq!((compact.root(), compact.count()), (plain.root(), count));
        for layer in 0..=height(count) {
            for (entry, number) in plain.layer(layer).iter().zip(0..) {
                let have = compact.entry(layer, number, hash_of);
                assert_eq!(have, *entry, "{count} announcements, layer {layer}, entry {number}");
            }
            let behind = plain.layer(layer).len() as u64;
            assert_eq!(compact.entry(layer, behind, hash_of), Entry::PAD);
        }
    }

    #[test]
    fn entries_are_those_of_the_plain_tree() {
        let sorted = sorted_hashes(6000);
        for backend in Backend::available() {
            let block = BLOCK_LEAVES;
            let around = [block - 2, block - 1, block, 2 * block - 1, 2 * block, 5000, 6000];
            for count in (1..70).chain(around) {
                assert_same(&sorted[..count], 1 + count % 4, backend);
            }
        }
    }

    #[test]
    fn layers_above_the_blocks_are_folded_in_blocks_too() {
        // More than one block of entries in layer 9.
        let sorted = sorted_hashes((BLOCK_LEAVES * BLOCK_LEAVES + 3 * BLOCK_LEAVES + 77) as u64);
        assert_same(&sorted, 2, Backend::best());
    }

    #[test]
    fn memory_is_one_hash_an_announcement() {
        assert_eq!(hashes_len(0), None);
        assert_eq!(hashes_len(u64::MAX), None);
        assert_eq!((hashes_len(1), hashes_len(2), hashes_len(3)), (Some(1), Some(3), Some(3)));
        assert_eq!(hashes_len(100_000_000), Some(100_000_015));
    }

    #[test]
    fn what_is_no_index_is_refused() {
        let mut sorted = sorted_hashes(2000);
        sorted.swap(1300, 1301);
        let unsorted = |number| Err(TreeError::Unsorted { number });
        assert_eq!(build(&sorted, 1, Backend::Soft).map(|tree| tree.root()), unsorted(1301));
        let edges: [(&[Hash32], u64); 4] = [
            (&[Hash32([1; 32]), Hash32([1; 32])], 1),
            (&[Hash32::ZERO], 0),
            (&[Hash32([0xff; 32])], 0),
            (&[Hash32([1; 32]), Hash32([0xff; 32])], 1),
        ];
        for (hashes, number) in edges {
            let built = build(hashes, 1, Backend::Soft).map(|tree| tree.root());
            assert_eq!(built, unsorted(number));
        }
        assert!(matches!(build(&[], 1, Backend::Soft), Err(TreeError::Count { count: 0 })));
        let short = parts(3, &mut [Hash32::ZERO; 2], 1).map(|_| ());
        assert_eq!(short, Err(TreeError::Entries { have: 2, want: 3 }));
    }
}
