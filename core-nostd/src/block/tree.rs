//! The tree over the announcements of a block (spec 04, 4): index, entries, layers, root.
//!
//! A tree of `count` announcements has `count + 1` leaves, the first of which is the zero entry.
//! Layers follow each other in one slice, each with its pad. [`Tree`] is the plain form: whole entries,
//! made on one core. A miner takes [`CompactTree`](super::CompactTree), which gives the same entries
//! in a third of the memory, made by as many threads as it likes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::backend::Backend;
use crate::bytes::{Hash32, read_u64};
use crate::primitives::blake2b::compress32_many;
use crate::primitives::compress32;

use super::error::TreeError;

pub use super::index::{index, index_by_key};

/// One entry of a layer: 48 bytes, as they are hashed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Entry {
    /// Hash of the announcement or of the pair below.
    pub hash: Hash32,
    start: [u8; 8],
    end: [u8; 8],
}

const _: () = assert!(size_of::<Entry>() == Entry::BYTES);

impl Entry {
    /// Bytes of an entry.
    pub const BYTES: usize = 48;

    /// The entry that makes the length of a layer even: all bytes `ff`.
    pub const PAD: Entry = Entry { hash: Hash32([0xff; 32]), start: [0xff; 8], end: [0xff; 8] };

    /// An entry of its parts.
    #[must_use]
    pub const fn new(hash: Hash32, start: u64, end: u64) -> Entry {
        Entry { hash, start: start.to_le_bytes(), end: end.to_le_bytes() }
    }

    /// First key of the subtree.
    #[must_use]
    pub const fn start(&self) -> u64 {
        u64::from_le_bytes(self.start)
    }

    /// First key behind the subtree.
    #[must_use]
    pub const fn end(&self) -> u64 {
        u64::from_le_bytes(self.end)
    }

    /// `end - start`, as the proof carries it.
    #[must_use]
    pub const fn range(&self) -> u64 {
        self.end().wrapping_sub(self.start())
    }
}

/// The key of an announcement hash: its first 8 bytes, little-endian.
#[must_use]
pub fn key(hash: &Hash32) -> u64 {
    read_u64(&hash.0, 0)
}

/// The greatest odd count not above `count`: an even one would put its last announcement beside a
/// pad, where no proof of it is accepted (spec 04, 5.4). 0 stays 0.
#[must_use]
pub const fn odd_count(count: u64) -> u64 {
    if count.is_multiple_of(2) { count.saturating_sub(1) } else { count }
}

/// Height of the tree: `ceil(log2(count + 1))`, 1 to 64; 0 for no announcements.
#[must_use]
pub const fn height(count: u64) -> u32 {
    // For n1 = count + 1 leaves this is the number of bits of n1 - 1.
    u64::BITS - count.leading_zeros()
}

/// Entries over all layers, pads included (spec 04, 4.2), or `None` where they pass 2^64 or there
/// are no announcements.
#[must_use]
pub const fn entries_len(count: u64) -> Option<u64> {
    match layer_range(count, height(count)) {
        Some((start, len)) if count > 0 => start.checked_add(len),
        _ => None,
    }
}

/// Where a layer begins and how many entries it has, its pad included. Layer 0 is that of the
/// leaves; the last one, [`height`], holds the top entry.
///
/// `None` where the numbers pass 2^64, or the tree has no such layer.
#[must_use]
pub const fn layer_range(count: u64, layer: u32) -> Option<(u64, u64)> {
    if layer > height(count) {
        return None;
    }
    let Some(mut len) = count.checked_add(1) else { return None };
    let mut start = 0u64;
    let mut at = 0;
    while at < layer {
        let Some(even) = len.checked_add(len % 2) else { return None };
        start = match start.checked_add(even) {
            Some(next) => next,
            None => return None,
        };
        len = even / 2;
        at += 1;
    }
    if layer < height(count) {
        match len.checked_add(len % 2) {
            Some(even) => len = even,
            None => return None,
        }
    }
    Some((start, len))
}

/// The leaf entry of an announcement: `next` is the hash of the one behind it, `None` for the last.
#[must_use]
pub fn leaf(hash: &Hash32, next: Option<&Hash32>) -> Entry {
    Entry::new(*hash, key(hash), next.map_or(u64::MAX, key))
}

/// The zero entry, in front of the announcement with this hash.
#[must_use]
pub fn zero_entry(first: &Hash32) -> Entry {
    Entry::new(Hash32::ZERO, 0, key(first))
}

/// The entry above a pair.
#[must_use]
pub fn parent(left: &Entry, right: &Entry) -> Entry {
    let mut pair = [0; 2 * Entry::BYTES];
    pair[..Entry::BYTES].copy_from_slice(left.as_bytes());
    pair[Entry::BYTES..].copy_from_slice(right.as_bytes());
    Entry { hash: compress32(&pair), start: left.start, end: right.end }
}

/// The entries above many pairs: `parents[i]` above `children[2 * i]` and `children[2 * i + 1]`.
///
/// Any part of a layer may be done alone, so a caller can spread a layer over threads.
///
/// # Panics
/// When there are not two children for each parent.
pub fn parents(children: &[Entry], parents: &mut [Entry]) {
    let (pairs, rest) = children.as_chunks::<2>();
    assert!(rest.is_empty() && pairs.len() == parents.len(), "two children for each parent");
    for ([left, right], above) in pairs.iter().zip(parents) {
        *above = parent(left, right);
    }
}

/// Pairs that [`parents_in_lanes`] hashes a call.
const PAIRS: usize = 64;

/// [`parents`], hashed side by side by the back end.
///
/// # Panics
/// When there are not two children for each parent.
pub fn parents_in_lanes(children: &[Entry], parents: &mut [Entry], backend: Backend) {
    assert_eq!(children.len(), 2 * parents.len(), "two children for each parent");
    for (children, parents) in children.chunks(2 * PAIRS).zip(parents.chunks_mut(PAIRS)) {
        let mut hashes = [Hash32::ZERO; PAIRS];
        let messages = children.as_bytes().as_chunks::<{ 2 * Entry::BYTES }>().0;
        compress32_many(messages, &mut hashes[..parents.len()], backend);
        let pairs = children.as_chunks::<2>().0;
        for ((above, [left, right]), hash) in parents.iter_mut().zip(pairs).zip(hashes) {
            *above = Entry { hash, start: left.start, end: right.end };
        }
    }
}

/// The root of a tree from its top entry.
#[must_use]
pub fn root(top: &Entry) -> Hash32 {
    compress32(top.as_bytes())
}

/// A whole tree in a slice of the caller.
#[derive(Clone, Copy, Debug)]
pub struct Tree<'e> {
    count: u64,
    entries: &'e [Entry],
}

impl<'e> Tree<'e> {
    /// Builds the tree of `count` announcements whose hashes `hash_of` gives by number, in the order
    /// of [`index_by_key`], into exactly [`entries_len`] entries.
    ///
    /// # Errors
    /// [`TreeError`] when the slice has another length, or the keys are not strictly ascending
    /// between 0 and `u64::MAX`.
    pub fn build(
        count: u64,
        entries: &'e mut [Entry],
        mut hash_of: impl FnMut(u64) -> Hash32,
    ) -> Result<Tree<'e>, TreeError> {
        check_len(count, entries.len())?;
        let mut before = Entry::new(Hash32::ZERO, 0, 0);
        for number in 0..count {
            let hash = hash_of(number);
            let start = key(&hash);
            if start <= before.start() || start == u64::MAX {
                return Err(TreeError::Unsorted { number });
            }
            before.end = start.to_le_bytes();
            entries[number as usize] = before;
            before = Entry::new(hash, start, u64::MAX);
        }
        entries[count as usize] = before;
        fold_layers(count, entries);
        Ok(Tree { count, entries })
    }

    /// A tree whose entries were computed elsewhere, e.g. on several cores.
    ///
    /// # Errors
    /// [`TreeError`] when the number of entries is not that of such a tree. The entries themselves
    /// are taken as they are.
    pub fn from_entries(count: u64, entries: &'e [Entry]) -> Result<Tree<'e>, TreeError> {
        check_len(count, entries.len())?;
        Ok(Tree { count, entries })
    }

    /// Number of announcements, the zero entry not counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All entries, layer by layer from the leaves up, pads included.
    #[must_use]
    pub fn entries(&self) -> &'e [Entry] {
        self.entries
    }

    /// The entries of a layer, its pad included; empty above the top.
    #[must_use]
    pub fn layer(&self, layer: u32) -> &'e [Entry] {
        let Some((start, len)) = layer_range(self.count, layer) else { return &[] };
        // The slice holds all layers, so the numbers fit.
        &self.entries[start as usize..(start + len) as usize]
    }

    /// The top entry: from 0 to `u64::MAX`.
    #[must_use]
    pub fn top(&self) -> &'e Entry {
        &self.entries[self.entries.len() - 1]
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Hash32 {
        root(self.top())
    }

    /// The key and hash of an announcement, which is leaf `number + 1`; `None` when there are not so
    /// many.
    #[must_use]
    pub fn announcement(&self, number: u64) -> Option<&'e Entry> {
        if number < self.count { self.entries.get(number as usize + 1) } else { None }
    }
}

fn check_len(count: u64, have: usize) -> Result<(), TreeError> {
    let want = entries_len(count).ok_or(TreeError::Count { count })?;
    if usize::try_from(want) == Ok(have) { Ok(()) } else { Err(TreeError::Entries { have, want }) }
}

/// Makes all layers above the leaves, which are in place.
fn fold_layers(count: u64, entries: &mut [Entry]) {
    let mut start = 0;
    let mut len = count as usize + 1;
    while len > 1 {
        if !len.is_multiple_of(2) {
            entries[start + len] = Entry::PAD;
            len += 1;
        }
        let (below, above) = entries.split_at_mut(start + len);
        parents(&below[start..], &mut above[..len / 2]);
        start += len;
        len /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn repeated(count: u64) -> (Hash32, usize) {
        let mut entries = vec![Entry::PAD; entries_len(count).unwrap() as usize];
        let tree = Tree::build(count, &mut entries, |i| Hash32([i as u8 + 1; 32])).unwrap();
        assert_eq!((tree.top().start(), tree.top().end()), (0, u64::MAX));
        (tree.root(), tree.entries().len())
    }

    #[test]
    fn worked_examples() {
        for (count, root, entries) in [
            (1, "c4f227b4043c27baed17e318a55def777d0c1a533a9488f3dbccd62958bd8ff8", 3),
            (2, "10b8c78c9b8c5d428949456e2f3661a3f46f3ef967b562bee58630a123bf1f61", 7),
            (3, "d46ca5404a83688bfd068266c27f387082d02f9e2db1abb04588350d22b559ca", 7),
        ] {
            assert_eq!(repeated(count), (Hash32::from_hex(root).unwrap(), entries));
        }
    }

    #[test]
    fn keys_are_compared_as_little_endian_numbers() {
        let hash = |first: u8, eighth: u8| {
            let mut hash = Hash32::ZERO;
            (hash.0[0], hash.0[7]) = (first, eighth);
            hash
        };
        let (small, great) = (hash(9, 1), hash(1, 2));
        let mut hashes = [great, hash(0, 0), small, Hash32([0xff; 32]), small];
        assert_eq!(index(&mut hashes), 2);
        assert_eq!(hashes[..2], [small, great]);
        assert_eq!(index(&mut []), 0);
        assert_eq!(index(&mut [Hash32::ZERO, Hash32([0xff; 32])]), 0);
    }

    #[test]
    fn lanes_give_the_same_parents() {
        let children: vec::Vec<_> =
            (0..402).map(|n| Entry::new(compress32(&[n as u8, 1]), n, n + 1)).collect();
        for backend in Backend::available() {
            for len in [0, 1, 2, 63, 64, 65, 201] {
                let (mut plain, mut wide) = (vec![Entry::PAD; len], vec![Entry::PAD; len]);
                parents(&children[..2 * len], &mut plain);
                parents_in_lanes(&children[..2 * len], &mut wide, backend);
                assert_eq!(plain, wide);
            }
        }
    }

    #[test]
    fn sizes_at_the_ends() {
        assert_eq!((height(0), height(1), height(2), height(3), height(4)), (0, 1, 2, 2, 3));
        assert_eq!(height(u64::MAX - 1), 64);
        assert_eq!(entries_len(0), None);
        assert_eq!(entries_len(u64::MAX), None);
        assert_eq!(entries_len(u64::MAX - 1), None);
        assert_eq!(entries_len(100_000_000), Some(200_000_031));
        assert_eq!((odd_count(0), odd_count(1), odd_count(2), odd_count(7)), (0, 1, 1, 7));
    }

    #[test]
    fn what_is_no_index_is_refused() {
        let mut entries = [Entry::PAD; 7];
        let same = Tree::build(2, &mut entries, |_| Hash32([1; 32])).map(|tree| tree.root());
        assert_eq!(same, Err(TreeError::Unsorted { number: 1 }));
        let zero = Tree::build(1, &mut entries[..3], |_| Hash32::ZERO).map(|tree| tree.root());
        assert_eq!(zero, Err(TreeError::Unsorted { number: 0 }));
        let last =
            Tree::build(1, &mut entries[..3], |_| Hash32([0xff; 32])).map(|tree| tree.root());
        assert_eq!(last, Err(TreeError::Unsorted { number: 0 }));
        let short = Tree::build(1, &mut entries, |_| Hash32([1; 32])).map(|tree| tree.root());
        assert_eq!(short, Err(TreeError::Entries { have: 7, want: 3 }));
        let none = Tree::from_entries(0, &[]).map(|tree| tree.root());
        assert_eq!(none, Err(TreeError::Count { count: 0 }));
    }
}
