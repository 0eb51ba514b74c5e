//! The tree proof of four drawn announcements (spec 04, 5): layout, making, checking.
//!
//! The proof has no flags and no lengths: its layout follows from the number of announcements and
//! the four leaf numbers. Node `(d, i)` is the subtree of height `d` over the leaves `i * 2^d` to
//! `(i + 1) * 2^d - 1`; numbering by `i` instead of by the first leaf keeps all sums below 2^64 for
//! every count up to 2^64 - 2. Recursion is at most 64 deep.

use crate::bytes::{Hash32, read_u64};

use super::entities::ANNOUNCEMENTS;
use super::error::{ProofError, TreeError};
use super::tree::{self, Entry};

/// Most bytes of a tree proof: a node with range and hash beside each node of four paths.
pub const PROOF_BYTES_MAX: usize = ANNOUNCEMENTS * 64 * (RANGE_BYTES + HASH_BYTES);

const RANGE_BYTES: usize = 8;
const HASH_BYTES: usize = 32;
/// Nodes that wait on a preorder walk: one right child a level, and the node in hand.
const WAITING_MAX: usize = 66;

/// What a node of the walk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A: the leaf of a drawn announcement.
    Drawn,
    /// C: an inner node above a drawn leaf.
    Computed,
    /// P: nothing but pads.
    Pad,
    /// S: a subtree that the proof provides.
    Provided,
}

/// One node of the walk over a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Height above the leaves.
    pub depth: u32,
    /// Number of the node in its layer.
    pub index: u64,
    /// What it is.
    pub kind: NodeKind,
}

impl Node {
    /// The first leaf below it.
    #[must_use]
    pub fn first_leaf(&self) -> u64 {
        first_leaf(self.depth, self.index)
    }

    /// Whether its range is written.
    #[must_use]
    pub fn writes_range(&self) -> bool {
        match self.kind {
            NodeKind::Drawn => self.is_right(),
            NodeKind::Provided => self.depth > 0 || self.is_right(),
            NodeKind::Computed | NodeKind::Pad => false,
        }
    }

    /// Whether its hash is written, behind the range.
    #[must_use]
    pub fn writes_hash(&self) -> bool {
        self.kind == NodeKind::Provided
    }

    fn is_right(&self) -> bool {
        !self.index.is_multiple_of(2)
    }
}

/// The four leaf numbers and the size of the tree they lie in.
#[derive(Clone, Copy, Debug)]
struct Draws {
    leaves: [u64; ANNOUNCEMENTS],
    /// Leaves of the tree with the zero entry.
    leaf_count: u64,
    height: u32,
}

impl Draws {
    /// `None` for a count of 0 or `u64::MAX`.
    fn new(count: u64, items: &[u64; ANNOUNCEMENTS]) -> Option<Draws> {
        if count == 0 || count == u64::MAX {
            return None;
        }
        let leaves = items.map(|item| item % count + 1);
        Some(Draws { leaves, leaf_count: count + 1, height: tree::height(count) })
    }

    fn kind(&self, depth: u32, index: u64) -> NodeKind {
        let above = |leaf: &u64| leaf.checked_shr(depth).unwrap_or(0) == index;
        if self.leaves.iter().any(above) {
            if depth == 0 { NodeKind::Drawn } else { NodeKind::Computed }
        } else if first_leaf(depth, index) >= self.leaf_count {
            NodeKind::Pad
        } else {
            NodeKind::Provided
        }
    }
}

fn first_leaf(depth: u32, index: u64) -> u64 {
    // At depth 64 there is one node only, which begins at leaf 0.
    index.checked_shl(depth).unwrap_or(0)
}

/// The nodes of a proof in the order in which their parts are written: preorder, left first.
#[derive(Clone, Debug)]
pub struct Walk {
    draws: Draws,
    waiting: heapless::Vec<(u32, u64), WAITING_MAX>,
}

/// Walks the layout of the proof of four item numbers in a tree of `count` announcements.
///
/// # Errors
/// [`ProofError::Count`] for 0 and 2^64 - 1 announcements, which no tree has.
pub fn layout(count: u64, items: &[u64; ANNOUNCEMENTS]) -> Result<Walk, ProofError> {
    let draws = Draws::new(count, items).ok_or(ProofError::Count { count })?;
    let mut waiting = heapless::Vec::new();
    // An empty list has room for one.
    let _ = waiting.push((draws.height, 0));
    Ok(Walk { draws, waiting })
}

impl Iterator for Walk {
    type Item = Node;

    fn next(&mut self) -> Option<Node> {
        let (depth, index) = self.waiting.pop()?;
        let kind = self.draws.kind(depth, index);
        if kind == NodeKind::Computed {
            for child in [2 * index + 1, 2 * index] {
                let pushed = self.waiting.push((depth - 1, child));
                debug_assert!(pushed.is_ok(), "one node waits at each of 64 heights");
            }
        }
        Some(Node { depth, index, kind })
    }
}

/// Makes the proof of four item numbers (spec 04, 5.2) and returns its length in bytes.
///
/// `entry_of` gives an entry by layer and number; [`make`] is the form for a stored
/// [`Tree`](super::Tree). [`PROOF_BYTES_MAX`] bytes are always enough.
///
/// # Errors
/// [`TreeError`] when the tree has no such size, the buffer is too short, or the last announcement
/// of an even count is drawn, of which no proof is accepted.
pub fn make_with(
    count: u64,
    items: &[u64; ANNOUNCEMENTS],
    mut entry_of: impl FnMut(u32, u64) -> Entry,
    out: &mut [u8],
) -> Result<usize, TreeError> {
    let walk = layout(count, items).map_err(|_| TreeError::Count { count })?;
    if count.is_multiple_of(2) && walk.draws.leaves.contains(&count) {
        return Err(TreeError::LastOfEven);
    }
    let full = TreeError::Buffer { have: out.len() };
    let mut len = 0;
    let mut put = |bytes: &[u8]| {
        out.get_mut(len..len + bytes.len()).ok_or(full)?.copy_from_slice(bytes);
        len += bytes.len();
        Ok(())
    };
    for node in walk {
        if !node.writes_range() && !node.writes_hash() {
            continue;
        }
        let entry = entry_of(node.depth, node.index);
        if node.writes_range() {
            put(&entry.range().to_le_bytes())?;
        }
        if node.writes_hash() {
            put(&entry.hash.0)?;
        }
    }
    Ok(len)
}

/// [`make_with`] from a stored tree.
///
/// # Errors
/// As [`make_with`].
pub fn make(
    tree: &super::Tree<'_>,
    items: &[u64; ANNOUNCEMENTS],
    out: &mut [u8],
) -> Result<usize, TreeError> {
    // A node that is written has an entry: it begins before the last leaf.
    make_with(tree.count(), items, |layer, index| tree.layer(layer)[index as usize], out)
}

/// The root to which a proof leads (spec 04, 5.3). The caller compares it with the committed one.
///
/// `hashes` are those of the four announcements, `items` their item numbers, not reduced.
///
/// # Errors
/// [`ProofError`]; the rules are the stricter of node and library in every case (spec 04, 5.5).
pub fn pcp_hash(
    hashes: &[Hash32; ANNOUNCEMENTS],
    count: u64,
    items: &[u64; ANNOUNCEMENTS],
    proof: &[u8],
) -> Result<Hash32, ProofError> {
    let draws = Draws::new(count, items).ok_or(ProofError::Count { count })?;
    let mut check = Check { draws, hashes, proof };
    check.same_leaf_same_hash()?;
    let top = check.computed(draws.height, 0, 0)?;
    if !check.proof.is_empty() {
        return Err(ProofError::LeftOver { bytes: check.proof.len() });
    }
    if top.end() != u64::MAX {
        return Err(ProofError::RootEnd { end: top.end() });
    }
    Ok(tree::root(&top))
}

struct Check<'a> {
    draws: Draws,
    hashes: &'a [Hash32; ANNOUNCEMENTS],
    /// What was not read yet.
    proof: &'a [u8],
}

impl Check<'_> {
    fn same_leaf_same_hash(&self) -> Result<(), ProofError> {
        for (at, leaf) in self.draws.leaves.iter().enumerate() {
            if self.drawn(*leaf).is_some_and(|first| first != self.hashes[at]) {
                return Err(ProofError::DrawnTwice { leaf: *leaf });
            }
        }
        Ok(())
    }

    /// The entry of an inner node above a drawn leaf. `start` is where its left neighbour ends.
    fn computed(&mut self, depth: u32, index: u64, start: u64) -> Result<Entry, ProofError> {
        if depth == 1 {
            return self.leaf_pair(index, start);
        }
        let left = self.subtree(depth - 1, 2 * index, start)?;
        ensure_range(&left)?;
        let (kind, right) = (2 * index + 1, left.end());
        if self.draws.kind(depth - 1, kind) == NodeKind::Pad {
            if right != Entry::PAD.start() {
                return Err(ProofError::BeforePad { end: right });
            }
            return Ok(tree::parent(&left, &Entry::PAD));
        }
        let right = self.subtree(depth - 1, kind, right)?;
        ensure_range(&right)?;
        Ok(tree::parent(&left, &right))
    }

    /// The entry of an inner node that is no pad.
    fn subtree(&mut self, depth: u32, index: u64, start: u64) -> Result<Entry, ProofError> {
        if self.draws.kind(depth, index) == NodeKind::Computed {
            return self.computed(depth, index, start);
        }
        let range = self.take_range()?;
        Ok(Entry::new(self.take_hash()?, start, start.wrapping_add(range)))
    }

    /// The entry above two leaves of which one or both are drawn.
    fn leaf_pair(&mut self, index: u64, start: u64) -> Result<Entry, ProofError> {
        let (left_leaf, right_leaf) = (2 * index, 2 * index + 1);
        if right_leaf >= self.draws.leaf_count {
            // Consensus: the node never learns where such a leaf ends (spec 04, 5.4).
            return Err(ProofError::LastOfEven);
        }
        let left_hash = self.leaf_hash(left_leaf)?;
        let left_start = tree::key(&left_hash);
        if left_start != start {
            return Err(ProofError::Start { leaf: left_leaf, want: start, have: left_start });
        }
        let range = self.take_range()?;
        let right_hash = self.leaf_hash(right_leaf)?;
        let right_start = tree::key(&right_hash);
        let left = Entry::new(left_hash, start, right_start);
        let right = Entry::new(right_hash, right_start, right_start.wrapping_add(range));
        ensure_range(&left)?;
        ensure_range(&right)?;
        Ok(tree::parent(&left, &right))
    }

    /// The hash of a leaf: of the announcement when drawn, else from the proof.
    fn leaf_hash(&mut self, leaf: u64) -> Result<Hash32, ProofError> {
        match self.drawn(leaf) {
            Some(hash) => Ok(hash),
            None => self.take_hash(),
        }
    }

    fn drawn(&self, leaf: u64) -> Option<Hash32> {
        let at = self.draws.leaves.iter().position(|drawn| *drawn == leaf)?;
        Some(self.hashes[at])
    }

    fn take_range(&mut self) -> Result<u64, ProofError> {
        self.take(RANGE_BYTES).map(|bytes| read_u64(bytes, 0))
    }

    fn take_hash(&mut self) -> Result<Hash32, ProofError> {
        let mut hash = Hash32::ZERO;
        hash.0.copy_from_slice(self.take(HASH_BYTES)?);
        Ok(hash)
    }

    fn take(&mut self, count: usize) -> Result<&[u8], ProofError> {
        let (taken, rest) = self.proof.split_at_checked(count).ok_or(ProofError::Truncated)?;
        self.proof = rest;
        Ok(taken)
    }
}

/// Additions wrap, and a wrapped end is not above its start.
fn ensure_range(entry: &Entry) -> Result<(), ProofError> {
    let (start, end) = (entry.start(), entry.end());
    if end > start { Ok(()) } else { Err(ProofError::Range { start, end }) }
}
