//! Whether an announcement is good (spec 03, 2.9 and 2.10).
//!
//! The input is hostile: any bytes give a result after a bounded number of steps, and nothing of
//! what was checked before is left in a scratch that could change it. What the caller has to
//! decide, such as which heights and versions are allowed at all, is not looked at here.

use heapless::Vec;

use super::Announcement;
use super::header::{seed_2, soft_nonce_max};
use super::item::{item_v0, items_v1};
use super::seal::{xor_prefix, xor_siblings};
use crate::backend::Backend;
use crate::bytes::{Hash32, Hash64};
use crate::cryptocycle::{State, lanes};
use crate::error::{AnnError, ProgramError};
use crate::merkle;
use crate::params::{
    CYCLES_V0, INSNS_MAX, ITEM_BYTES, ITEM_READS, ITEM4_PREFIX_BYTES, OPS_MAX, SIBLINGS_BYTES,
    TABLE_ITEMS, WINDOW_WORDS,
};
use crate::primitives::compress64;
use crate::randhash::{Execute, Generator, Interpreter, Program};

/// Announcements of one job that [`check_batch`] works on side by side.
pub const BATCH_LANES: usize = lanes::LANES;

/// Announcements of one job between two changes of the loaded program in [`check_batch`].
pub const GROUP_MAX: usize = 64;

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

/// Memory to check one announcement at a time: about 36 KiB.
#[derive(Debug)]
pub struct CheckScratch {
    program: [Program; 1],
    generator: Generator,
    interpreter: Interpreter,
    search: [State; 1],
    items: [State; 1],
    pending: [Pending; 1],
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
            program: [Program::EMPTY],
            generator: Generator::with_limit(limits.insns_max),
            interpreter: Interpreter::with_limit(limits.ops_max),
            search: [State::ZERO],
            items: [State::ZERO],
            pending: [Pending::NONE],
        }
    }

    fn verifier(&mut self) -> Verifier<'_> {
        Verifier {
            programs: Programs::new(&mut self.program, &mut self.generator),
            exec: &mut self.interpreter,
            search: &mut self.search,
            items: &mut self.items,
            pending: &mut self.pending,
            pending_len: 0,
            backend: Backend::Soft,
        }
    }
}

impl Default for CheckScratch {
    fn default() -> Self {
        CheckScratch::new()
    }
}

/// Memory for [`check_batch`]: about 145 KiB.
#[derive(Debug)]
pub struct BatchScratch {
    programs: [Program; 2],
    generator: Generator,
    search: [State; BATCH_LANES],
    items: [State; BATCH_LANES],
    pending: [Pending; GROUP_MAX],
}

impl BatchScratch {
    /// Fresh memory.
    #[must_use]
    pub const fn new() -> BatchScratch {
        BatchScratch {
            programs: [Program::EMPTY, Program::EMPTY],
            generator: Generator::new(),
            search: [const { State::ZERO }; BATCH_LANES],
            items: [const { State::ZERO }; BATCH_LANES],
            pending: [const { Pending::NONE }; GROUP_MAX],
        }
    }
}

impl Default for BatchScratch {
    fn default() -> Self {
        BatchScratch::new()
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
    let job = Job::of(announcement, parent_block_hash);
    let mut result = [Err(AnnError::Inval)];
    scratch.verifier().check_group(&job, &[(announcement, parent_block_hash)], &[0], &mut result);
    let [result] = result;
    result
}

/// Checks many announcements, each with the hash of its parent block: `results[i]` is what
/// [`check`] says of `batch[i]`.
///
/// Announcements of one job, that is with equal header but for the soft nonce, equal root and equal
/// parent block, share their two programs: leave them one behind the other, as miners send them.
///
/// # Panics
/// When there are not as many results as announcements.
pub fn check_batch(
    batch: &[(&Announcement, &Hash32)],
    results: &mut [Result<Hash32, AnnError>],
    scratch: &mut BatchScratch,
    exec: &mut dyn Execute,
    backend: Backend,
) {
    assert_eq!(batch.len(), results.len(), "a result for each announcement");
    let mut verifier = Verifier {
        programs: Programs::new(&mut scratch.programs, &mut scratch.generator),
        exec,
        search: &mut scratch.search,
        items: &mut scratch.items,
        pending: &mut scratch.pending,
        pending_len: 0,
        backend,
    };
    let mut group: Vec<usize, GROUP_MAX> = Vec::new();
    let mut group_job = None;
    for (index, (announcement, parent_block_hash)) in batch.iter().enumerate() {
        if let Err(error) = check_fields(announcement) {
            results[index] = Err(error);
            continue;
        }
        let job = Job::of(announcement, parent_block_hash);
        if let Some(open) = group_job.filter(|open| *open != job || group.is_full()) {
            verifier.check_group(&open, batch, &group, results);
            group.clear();
        }
        group_job = Some(job);
        let _ = group.push(index); // There is room: a full group was just checked.
    }
    if let Some(open) = group_job {
        verifier.check_group(&open, batch, &group, results);
    }
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

    let [state] = &mut scratch.search;
    let [item_state] = &mut scratch.items;
    let [program] = &mut scratch.program;
    let item = item_state.first_half_mut();
    let mut num = 0;
    state.init(ann_hash_1.lo(), u64::from(announcement.soft_nonce()));
    for _ in 0..ITEM_READS {
        num = item_index(state);
        item_v0(ann_hash_0.lo(), num as u32, item);
        // Consensus: the item is both the seed of the program and all of its memory.
        let seed = item.last_chunk().expect("an item is longer than a seed");
        scratch.generator.generate(seed, program).map_err(|_| AnnError::BadProgram)?;
        let words: [[u8; 4]; WINDOW_WORDS] = zerocopy::transmute!(*item);
        let window = words.map(u32::from_le_bytes);
        scratch
            .interpreter
            .interpret(program.words(), &window, state, CYCLES_V0)
            .map_err(|_| AnnError::BadProgramExec)?;
        state.update(item);
    }
    state.finish();

    if item[..ITEM4_PREFIX_BYTES] != *announcement.item4_prefix() {
        return Err(AnnError::InvalItem4);
    }
    let leaf = compress64(item);
    let siblings = announcement.siblings();
    check_end(announcement, siblings, &leaf, num, Hash32(*state.head()))
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

/// What announcements of one table have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Job {
    ann_hash_0: Hash64,
    root: Hash64,
}

impl Job {
    fn of(announcement: &Announcement, parent_block_hash: &Hash32) -> Job {
        Job {
            ann_hash_0: announcement.header().ann_hash_0(parent_block_hash),
            root: *announcement.root(),
        }
    }
}

/// What is kept of an announcement between step 5 and step 6.
#[derive(Debug)]
struct Pending {
    /// Its index in the batch.
    index: usize,
    /// `num4`.
    num: u64,
    work_hash: Hash32,
    /// Decrypted.
    siblings: [u8; SIBLINGS_BYTES],
}

impl Pending {
    const NONE: Pending =
        Pending { index: 0, num: 0, work_hash: Hash32::ZERO, siblings: [0; SIBLINGS_BYTES] };
}

/// The programs that a check needs, in one place or two.
struct Programs<'a> {
    slots: &'a mut [Program],
    /// The seeds of the programs in the slots.
    seeds: [Option<[u8; 32]>; 2],
    /// The slot of the program that was loaded last.
    loaded: usize,
    generator: &'a mut Generator,
}

impl<'a> Programs<'a> {
    fn new(slots: &'a mut [Program], generator: &'a mut Generator) -> Programs<'a> {
        Programs { slots, seeds: [None; 2], loaded: 0, generator }
    }

    /// Loads the program of a seed, generated unless it is in a slot.
    fn load(&mut self, seed: &[u8; 32], exec: &mut dyn Execute) -> Result<(), ProgramError> {
        if self.seeds[self.loaded] == Some(*seed) {
            return Ok(());
        }
        let other = (self.loaded + 1) % self.slots.len();
        if self.seeds[other] != Some(*seed) {
            self.seeds[other] = None;
            self.generator.generate(seed, &mut self.slots[other])?;
            self.seeds[other] = Some(*seed);
        }
        exec.load(&self.slots[other]);
        self.loaded = other;
        Ok(())
    }

    fn loaded(&self) -> &Program {
        &self.slots[self.loaded]
    }
}

/// Checks announcements of one job at a time, several side by side.
struct Verifier<'a> {
    programs: Programs<'a>,
    exec: &'a mut dyn Execute,
    search: &'a mut [State],
    items: &'a mut [State],
    pending: &'a mut [Pending],
    pending_len: usize,
    backend: Backend,
}

/// Which lanes of a batch call failed.
type Failed = [bool; BATCH_LANES];

impl Verifier<'_> {
    /// Steps 3 to 9 for the announcements of one job, `group` being their indexes in the batch: at
    /// most as many as there are places for pending ones.
    fn check_group(
        &mut self,
        job: &Job,
        batch: &[(&Announcement, &Hash32)],
        group: &[usize],
        results: &mut [Result<Hash32, AnnError>],
    ) {
        self.pending_len = 0;
        let seed_2 = seed_2(&job.root, &job.ann_hash_0);
        if self.programs.load(seed_2.lo(), self.exec).is_err() {
            group.iter().for_each(|index| results[*index] = Err(AnnError::BadProgram));
            return;
        }
        for group in group.chunks(self.search.len()) {
            self.search_lanes(job, &seed_2, batch, group, results);
        }
        if self.pending_len == 0 {
            return;
        }
        if self.programs.load(job.ann_hash_0.lo(), self.exec).is_err() {
            for pending in &self.pending[..self.pending_len] {
                results[pending.index] = Err(AnnError::BadProgram);
            }
            return;
        }
        for from in (0..self.pending_len).step_by(self.items.len()) {
            let to = self.pending_len.min(from + self.items.len());
            self.prove_lanes(job, batch, from..to, results);
        }
    }

    /// Steps 4 and 5: the work hash, and whether the prefix belongs to it.
    fn search_lanes(
        &mut self,
        job: &Job,
        seed_2: &Hash64,
        batch: &[(&Announcement, &Hash32)],
        group: &[usize],
        results: &mut [Result<Hash32, AnnError>],
    ) {
        let count = group.len();
        let ann_hash_1 = batch[group[0]].0.header().ann_hash_1(&job.root);
        let nonces: Vec<u64, BATCH_LANES> =
            group.iter().map(|index| u64::from(batch[*index].0.soft_nonce())).collect();
        lanes::init(&mut self.search[..count], ann_hash_1.lo(), &nonces, self.backend);

        let mut failed = [false; BATCH_LANES];
        let mut nums: Vec<u64, BATCH_LANES> = Vec::new();
        for read in 1..=ITEM_READS {
            nums = self.search[..count].iter().map(item_index).collect();
            self.make_items(seed_2.hi(), &nums, &mut failed);
            let items: Vec<&[u8; ITEM_BYTES], BATCH_LANES> =
                self.items[..count].iter().map(State::first_half).collect();
            let states = &mut self.search[..count];
            if read < ITEM_READS {
                lanes::update_between(states, &items, self.backend);
            } else {
                lanes::update(states, &items, self.backend);
            }
        }
        lanes::finish(&mut self.search[..count], self.backend);

        for (lane, (index, num)) in group.iter().zip(nums).enumerate() {
            let (announcement, _) = batch[*index];
            let state = &self.search[lane];
            let mut prefix = *announcement.item4_prefix();
            xor_prefix(&mut prefix, state);
            if failed[lane] {
                results[*index] = Err(AnnError::BadProgramExec);
            } else if prefix != [0; ITEM4_PREFIX_BYTES] {
                results[*index] = Err(AnnError::InvalItem4);
            } else {
                let pending = &mut self.pending[self.pending_len];
                self.pending_len += 1;
                pending.index = *index;
                pending.num = num;
                pending.work_hash = Hash32(*state.head());
                pending.siblings = *announcement.siblings();
                xor_siblings(&mut pending.siblings, state);
            }
        }
    }

    /// Steps 7 to 9: the fourth item of table 1 is in the tree, and the work suffices.
    fn prove_lanes(
        &mut self,
        job: &Job,
        batch: &[(&Announcement, &Hash32)],
        lanes: core::ops::Range<usize>,
        results: &mut [Result<Hash32, AnnError>],
    ) {
        let mut failed = [false; BATCH_LANES];
        let nums: Vec<u64, BATCH_LANES> =
            self.pending[lanes.clone()].iter().map(|pending| pending.num).collect();
        self.make_items(job.ann_hash_0.hi(), &nums, &mut failed);
        for (lane, pending) in self.pending[lanes].iter().enumerate() {
            results[pending.index] = if failed[lane] {
                Err(AnnError::BadProgramExec)
            } else {
                let leaf = compress64(self.items[lane].first_half());
                let (announcement, _) = batch[pending.index];
                check_end(announcement, &pending.siblings, &leaf, pending.num, pending.work_hash)
            };
        }
    }

    /// Makes the items of the loaded program's table. Where one fails, the others are made
    /// nevertheless.
    fn make_items(&mut self, seed: &[u8; 32], nums: &[u64], failed: &mut Failed) {
        let program = self.programs.loaded();
        let items = &mut self.items[..nums.len()];
        if items_v1(program, seed, nums, items, self.exec, self.backend).is_ok() {
            return;
        }
        if let [_] = nums {
            failed[0] = true;
            return;
        }
        for (lane, (num, item)) in nums.iter().zip(items).enumerate() {
            let (num, item) = (core::slice::from_ref(num), core::slice::from_mut(item));
            failed[lane] |= items_v1(program, seed, num, item, self.exec, self.backend).is_err();
        }
    }
}
