//! Whether an announcement is good (spec 03, 2.9 and 2.10).
//!
//! The input is hostile: any bytes give a result after a bounded number of steps, and nothing of
//! what was checked before is left in a scratch that could change it. What the caller has to
//! decide, such as which heights and versions are allowed at all, is not looked at here.
//!
//! [`check`] is written to be read beside the specification and takes little memory.
//! [`check_batch`] gives the same results for many.

mod batch;
mod programs;

pub use batch::{BATCH_LANES, BatchScratch, GROUP_MAX, check_batch};

use super::Announcement;
use super::header::{seed_2, soft_nonce_max};
use super::item::{item_v0, items_v1};
use super::seal::{xor_prefix, xor_siblings};
use crate::backend::Backend;
use crate::bytes::{Hash32, Hash64};
use crate::cryptocycle::State;
use crate::error::AnnError;
use crate::merkle;
use crate::params::{
    CYCLES_V0, INSNS_MAX, ITEM_READS, ITEM4_PREFIX_BYTES, OPS_MAX, SIBLINGS_BYTES, TABLE_ITEMS,
    WINDOW_WORDS,
};
use crate::primitives::compress64;
use crate::randhash::{Generator, Interpreter, Program};

/// What programs may be and do. The defaults are the consensus; others serve to test what happens
/// at the limits, which no known announcement reaches.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest program, in words.
    pub insns_max: usize,
    /// Most words that one cycle may execute.
    pub ops_max: u32,
}

impl Limits {
    /// The limits of the consensus.
    pub const CONSENSUS: Limits = Limits { insns_max: INSNS_MAX, ops_max: OPS_MAX };
}

/// Memory to check one announcement at a time: about 32 KiB.
#[derive(Debug)]
pub struct CheckScratch {
    program: Program,
    generator: Generator,
    interpreter: Interpreter,
    search: State,
    item: State,
}

impl CheckScratch {
    /// Fresh memory.
    #[must_use]
    pub const fn new() -> CheckScratch {
        CheckScratch::with_limits(Limits::CONSENSUS)
    }

    /// Fresh memory for checks with other limits.
    #[doc(hidden)]
    #[must_use]
    pub const fn with_limits(limits: Limits) -> CheckScratch {
        CheckScratch {
            program: Program::EMPTY,
            generator: Generator::with_limit(limits.insns_max),
            interpreter: Interpreter::with_limit(limits.ops_max),
            search: State::ZERO,
            item: State::ZERO,
        }
    }

    /// `make_program` of spec 03, 2.4.
    fn make_program(&mut self, seed: &[u8; 32]) -> Result<(), AnnError> {
        self.generator.generate(seed, &mut self.program).map_err(|_| AnnError::BadProgram)
    }

    /// Makes an item of the present program's table: the first half of `self.item`.
    fn make_item(&mut self, seed: &[u8; 32], num: u64) -> Result<(), AnnError> {
        let item = core::slice::from_mut(&mut self.item);
        items_v1(&self.program, seed, &[num], item, &mut self.interpreter, Backend::Soft)
            .map_err(|_| AnnError::BadProgramExec)
    }
}

impl Default for CheckScratch {
    fn default() -> Self {
        CheckScratch::new()
    }
}

/// Checks one announcement whose parent block has this hash, and returns its work hash.
///
/// The announcement is not modified. Its version must be 1 or more; see [`check_v0`] for historic
/// ones.
///
/// # Errors
/// The first step of spec 03, 2.9 that fails.
pub fn check(
    announcement: &Announcement,
    parent_block_hash: &Hash32,
    scratch: &mut CheckScratch,
) -> Result<Hash32, AnnError> {
    check_fields(announcement)?;
    let root = announcement.root();
    let ann_hash_0 = announcement.header().ann_hash_0(parent_block_hash);
    let ann_hash_1 = announcement.header().ann_hash_1(root);
    let seed_2 = seed_2(root, &ann_hash_0);
    scratch.make_program(seed_2.lo())?;

    let mut num = 0;
    scratch.search.init(ann_hash_1.lo(), u64::from(announcement.soft_nonce()));
    for _ in 0..ITEM_READS {
        num = item_index(&scratch.search);
        scratch.make_item(seed_2.hi(), num)?;
        scratch.search.update(scratch.item.first_half());
    }
    scratch.search.finish();
    let work_hash = Hash32(*scratch.search.head());

    if !has_good_prefix(announcement, &scratch.search) {
        return Err(AnnError::InvalItem4);
    }
    scratch.make_program(ann_hash_0.lo())?;
    scratch.make_item(ann_hash_0.hi(), num)?;
    let leaf = compress64(scratch.item.first_half());
    let mut siblings = *announcement.siblings();
    xor_siblings(&mut siblings, &scratch.search);
    check_end(announcement, &siblings, &leaf, num, work_hash)
}

/// Checks one historic announcement of version 0 in the form of the consensus (spec 03, 2.10), and
/// returns its work hash.
///
/// # Errors
/// The first step that fails; [`AnnError::Inval`] for another version.
pub fn check_v0(
    announcement: &Announcement,
    parent_block_hash: &Hash32,
    scratch: &mut CheckScratch,
) -> Result<Hash32, AnnError> {
    if announcement.version() != 0 {
        return Err(AnnError::Inval);
    }
    if !announcement.work_bits().is_well_formed() {
        return Err(AnnError::BadWorkBits);
    }
    let ann_hash_0 = announcement.header().ann_hash_0(parent_block_hash);
    let ann_hash_1 = announcement.header().ann_hash_1(announcement.root());

    let CheckScratch { program, generator, interpreter, search, item } = scratch;
    let item = item.first_half_mut();
    let mut num = 0;
    search.init(ann_hash_1.lo(), u64::from(announcement.soft_nonce()));
    for _ in 0..ITEM_READS {
        num = item_index(search);
        item_v0(ann_hash_0.lo(), num as u32, item);
        // Consensus: the item is both the seed of the program and all of its memory.
        let seed = item.last_chunk().expect("an item is longer than a seed");
        generator.generate(seed, program).map_err(|_| AnnError::BadProgram)?;
        let words: [[u8; 4]; WINDOW_WORDS] = zerocopy::transmute!(*item);
        let window = words.map(u32::from_le_bytes);
        interpreter
            .interpret(program.words(), &window, search, CYCLES_V0)
            .map_err(|_| AnnError::BadProgramExec)?;
        search.update(item);
    }
    search.finish();

    if item[..ITEM4_PREFIX_BYTES] != *announcement.item4_prefix() {
        return Err(AnnError::InvalItem4);
    }
    let leaf = compress64(item);
    let siblings = announcement.siblings();
    check_end(announcement, siblings, &leaf, num, Hash32(*search.head()))
}

/// Steps 0a to 2.
fn check_fields(announcement: &Announcement) -> Result<(), AnnError> {
    // Consensus: made explicitly, as version 1 data under a version byte of 0 passes all the rest.
    if announcement.version() == 0 {
        return Err(AnnError::Inval);
    }
    let max = soft_nonce_max(announcement.work_bits()).ok_or(AnnError::BadWorkBits)?;
    if announcement.soft_nonce() > max {
        return Err(AnnError::SoftNonceHigh);
    }
    Ok(())
}

/// Step 5: whether the final state of the search decrypts the prefix to zeros.
fn has_good_prefix(announcement: &Announcement, state: &State) -> bool {
    let mut prefix = *announcement.item4_prefix();
    xor_prefix(&mut prefix, state);
    prefix == [0; ITEM4_PREFIX_BYTES]
}

/// Steps 8 and 9, with the decrypted siblings.
fn check_end(
    announcement: &Announcement,
    siblings: &[u8; SIBLINGS_BYTES],
    leaf: &Hash64,
    num: u64,
    work_hash: Hash32,
) -> Result<Hash32, AnnError> {
    if !merkle::verify(siblings, announcement.root(), leaf, num as usize) {
        return Err(AnnError::Inval);
    }
    if !announcement.work_bits().is_met_by(&work_hash) {
        return Err(AnnError::InsufPow(work_hash));
    }
    Ok(work_hash)
}

/// The number of the item in its table that a state asks for next.
fn item_index(state: &State) -> u64 {
    state.item_number() % TABLE_ITEMS as u64
}
