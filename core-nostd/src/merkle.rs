//! The merkle tree of an announcement: 8192 leaves, 13 levels, 64-byte nodes (spec 03, 2.5).

use zerocopy::{FromBytes, IntoBytes};

use crate::backend::Backend;
use crate::bytes::Hash64;
use crate::params::{ITEM_BYTES, NODE_BYTES, SIBLINGS_BYTES, TABLE_ITEMS, TREE_LEVELS, TREE_NODES};
use crate::primitives::blake2b::{compress64_many, compress64_pair};

/// Index of the first node of a level; the leaves are level 0.
const fn level_start(level: usize) -> usize {
    2 * TABLE_ITEMS - ((2 * TABLE_ITEMS) >> level)
}

const _: () = assert!(level_start(1) == TABLE_ITEMS && level_start(TREE_LEVELS) == TREE_NODES - 1);

/// Hashes the items into all nodes of their tree: the leaves, each level upwards, the root last.
///
/// # Panics
/// When there are not [`TABLE_ITEMS`] items and [`TREE_NODES`] nodes.
pub fn build(items: &[[u8; ITEM_BYTES]], nodes: &mut [Hash64], backend: Backend) {
    assert_eq!((items.len(), nodes.len()), (TABLE_ITEMS, TREE_NODES), "a whole table and tree");
    compress64_many(items, &mut nodes[..TABLE_ITEMS], backend);
    build_on_leaves(nodes, backend);
}

/// Hashes the leaves, the first [`TABLE_ITEMS`] nodes, into all other nodes of their tree. A leaf is
/// the 64-byte hash of its item.
///
/// # Panics
/// When there are not [`TREE_NODES`] nodes.
pub fn build_on_leaves(nodes: &mut [Hash64], backend: Backend) {
    assert_eq!(nodes.len(), TREE_NODES, "a whole tree");
    for level in 1..=TREE_LEVELS {
        let (below, above) = nodes.split_at_mut(level_start(level));
        let (pairs, _) =
            below[level_start(level - 1)..].as_bytes().as_chunks::<{ 2 * NODE_BYTES }>();
        compress64_many(pairs, &mut above[..pairs.len()], backend);
    }
}

/// The root of a tree made by [`build`].
///
/// # Panics
/// When there are no nodes.
#[must_use]
pub fn root(nodes: &[Hash64]) -> &Hash64 {
    nodes.last().expect("a tree has a root")
}

/// The siblings of item `num` in a tree made by [`build`], from the leaf level upwards.
///
/// # Panics
/// When there are fewer than [`TREE_NODES`] nodes, or the item number is not below
/// [`TABLE_ITEMS`].
#[must_use]
pub fn branch(nodes: &[Hash64], num: usize) -> [u8; SIBLINGS_BYTES] {
    let mut siblings = [[0; NODE_BYTES]; TREE_LEVELS];
    for (level, sibling) in siblings.iter_mut().enumerate() {
        *sibling = nodes[level_start(level) + ((num >> level) ^ 1)].0;
    }
    zerocopy::transmute!(siblings)
}

/// Whether the branch of item `num` leads from its leaf to the root.
#[must_use]
pub fn verify(siblings: &[u8; SIBLINGS_BYTES], root: &Hash64, leaf: &Hash64, num: usize) -> bool {
    let siblings: &[[u8; NODE_BYTES]; TREE_LEVELS] = zerocopy::transmute_ref!(siblings);
    let mut hash = *leaf;
    for (level, sibling) in siblings.iter().enumerate() {
        hash = if num >> level & 1 == 0 {
            compress64_pair(&hash.0, sibling)
        } else {
            compress64_pair(sibling, &hash.0)
        };
    }
    hash == *root
}

/// Nodes of a tree in memory of 64-byte rows.
#[must_use]
pub fn nodes_in_rows(rows: &[[u8; NODE_BYTES]]) -> &[Hash64] {
    <[Hash64]>::ref_from_bytes(rows.as_bytes()).expect("a row is as long as a node")
}

/// Nodes of a tree in memory of 64-byte rows, to be made.
#[must_use]
pub fn nodes_of_rows(rows: &mut [[u8; NODE_BYTES]]) -> &mut [Hash64] {
    <[Hash64]>::mut_from_bytes(rows.as_mut_bytes()).expect("a row is as long as a node")
}
