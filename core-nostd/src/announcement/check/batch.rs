//! Checking many announcements: what announcements of one job share is done once, and the rest of
//! them side by side.

use core::cmp::Ordering;
use core::ops::Range;

use heapless::Vec;
use zerocopy::IntoBytes;

use super::programs::{Loader, PROGRAMS_MAX, Programs};
use super::{check_fields, has_good_prefix, item_index};
use crate::announcement::Announcement;
use crate::announcement::header::seed_2;
use crate::announcement::item::items_v1;
use crate::announcement::seal::xor_siblings;
use crate::backend::Backend;
use crate::bytes::{Hash32, Hash64};
use crate::cryptocycle::{State, lanes};
use crate::error::AnnError;
use crate::params::{INSNS_MAX, ITEM_BYTES, ITEM_READS, NODE_BYTES, SIBLINGS_BYTES, TREE_LEVELS};
use crate::primitives::blake2b::compress64_many;
use crate::randhash::{Execute, Planned};

/// Announcements that are worked on in registers side by side: fewer take as long.
pub const BATCH_LANES: usize = lanes::LANES;

/// Announcements of one job that are worked on together.
pub const GROUP_MAX: usize = 64;

/// Announcements of different jobs that are worked on together: the more, the more programs are made
/// ready at once, but all of them are in memory.
pub(super) const MIXED_MAX: usize = 32;

/// Announcements that are put in the order of their jobs at once; a longer batch is taken in parts.
const SORTED_MAX: usize = 1024;

/// Fewer of one job than these are worked on together with those of other jobs.
const OWN_PART_MIN: usize = 8;

/// Memory for [`check_batch`]: about 520 KiB. It keeps some programs between batches.
#[derive(Debug)]
pub struct BatchScratch {
    programs: Programs,
    search: [State; GROUP_MAX],
    items: [State; GROUP_MAX],
}

impl BatchScratch {
    /// Fresh memory.
    #[must_use]
    pub const fn new() -> BatchScratch {
        BatchScratch::with_insns_max(INSNS_MAX)
    }

    /// Fresh memory for checks with another limit of the length of programs.
    #[doc(hidden)]
    #[must_use]
    pub const fn with_insns_max(insns_max: usize) -> BatchScratch {
        BatchScratch {
            programs: Programs::new(insns_max),
            search: [const { State::ZERO }; GROUP_MAX],
            items: [const { State::ZERO }; GROUP_MAX],
        }
    }
}

impl Default for BatchScratch {
    fn default() -> Self {
        BatchScratch::new()
    }
}

/// An announcement, and the hash of its parent block.
type Candidate<'a> = (&'a Announcement, &'a Hash32);

/// Checks many announcements, each with the hash of its parent block: `results[i]` is what
/// [`check`](super::check) says of `batch[i]`.
///
/// Announcements of one job, that is with equal header but for the soft nonce, equal root and equal
/// parent block, share their two programs: the more of them are in a batch the better, in whatever
/// order.
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
    let BatchScratch { programs, search, items } = scratch;
    let mut verifier = Verifier { programs, loader: Loader::new(exec), search, items, backend };
    for (batch, results) in batch.chunks(SORTED_MAX).zip(results.chunks_mut(SORTED_MAX)) {
        check_sorted(batch, results, &mut verifier);
    }
}

/// Checks at most [`SORTED_MAX`] announcements, job by job.
fn check_sorted(
    batch: &[Candidate<'_>],
    results: &mut [Result<Hash32, AnnError>],
    verifier: &mut Verifier<'_>,
) {
    let mut order: Vec<u16, SORTED_MAX> = Vec::new();
    for (index, (announcement, _)) in batch.iter().enumerate() {
        match check_fields(announcement) {
            Ok(()) => order.push(index as u16).expect("as long as a part"),
            Err(error) => results[index] = Err(error),
        }
    }
    let by_job = |a: &u16, b: &u16| job_order(batch[*a as usize], batch[*b as usize]);
    order.sort_unstable_by(|a, b| by_job(a, b).then(a.cmp(b)));

    let mut mixed: Vec<u16, MIXED_MAX> = Vec::new();
    for group in order.chunk_by(|a, b| by_job(a, b) == Ordering::Equal) {
        if group.len() >= OWN_PART_MIN {
            group.chunks(GROUP_MAX).for_each(|part| verifier.check_part(batch, part, results));
            continue;
        }
        for index in group {
            if mixed.is_full() {
                verifier.check_part(batch, &mixed, results);
                mixed.clear();
            }
            let _ = mixed.push(*index); // There is room now.
        }
    }
    verifier.check_part(batch, &mixed, results);
}

/// An order in which announcements of one job are equal. Roots are hashes: they mostly decide.
fn job_order((a, a_parent): Candidate<'_>, (b, b_parent): Candidate<'_>) -> Ordering {
    let header = |ann: &Announcement| ann.header().with_soft_nonce(0);
    (a.root().0)
        .cmp(&b.root().0)
        .then_with(|| a_parent.0.cmp(&b_parent.0))
        .then_with(|| header(a).as_bytes().cmp(header(b).as_bytes()))
}

/// Lanes of a part whose announcements are of one job.
struct Job {
    lanes: Range<usize>,
    ann_hash_0: Hash64,
    seed_2: Hash64,
}

/// Checks parts of a batch, side by side.
struct Verifier<'a> {
    programs: &'a mut Programs,
    loader: Loader<'a>,
    search: &'a mut [State; GROUP_MAX],
    items: &'a mut [State; GROUP_MAX],
    backend: Backend,
}

/// A part of a batch on its way.
struct Part<'a, 'b> {
    batch: &'a [Candidate<'b>],
    /// The announcement of each lane, those of one job beside each other.
    indexes: &'a [u16],
    jobs: Vec<Job, GROUP_MAX>,
    /// The number of the item that each lane read last, and then of its item in table 1.
    nums: [u64; GROUP_MAX],
    /// What is wrong with it.
    errors: [Option<AnnError>; GROUP_MAX],
}

impl<'b> Part<'_, 'b> {
    fn candidate(&self, lane: usize) -> Candidate<'b> {
        self.batch[self.indexes[lane] as usize]
    }

    fn len(&self) -> usize {
        self.indexes.len()
    }
}

impl Verifier<'_> {
    /// Steps 3 to 9 for at most [`GROUP_MAX`] announcements, in the order of their jobs.
    fn check_part(
        &mut self,
        batch: &[Candidate<'_>],
        indexes: &[u16],
        results: &mut [Result<Hash32, AnnError>],
    ) {
        let (nums, errors) = ([0; GROUP_MAX], [None; GROUP_MAX]);
        let mut part = Part { batch, indexes, jobs: Vec::new(), nums, errors };
        self.start(&mut part);
        self.search(&mut part);
        self.prove(&mut part);
        for lane in 0..part.len() {
            let (announcement, _) = part.candidate(lane);
            let work_hash = Hash32(*self.search[lane].head());
            results[indexes[lane] as usize] = match part.errors[lane] {
                Some(error) => Err(error),
                None if !announcement.work_bits().is_met_by(&work_hash) => {
                    Err(AnnError::InsufPow(work_hash))
                }
                None => Ok(work_hash),
            };
        }
    }

    /// Finds the jobs of a part and initialises the search of each lane.
    fn start(&mut self, part: &mut Part<'_, '_>) {
        let mut from = 0;
        while from < part.len() {
            let first = part.candidate(from);
            let same = |lane: &usize| job_order(part.candidate(*lane), first) == Ordering::Equal;
            let to = from + (from..part.len()).take_while(same).count();
            let (announcement, parent_block_hash) = first;
            let header = announcement.header();
            let ann_hash_0 = header.ann_hash_0(parent_block_hash);
            let seed_2 = seed_2(announcement.root(), &ann_hash_0);
            let ann_hash_1 = header.ann_hash_1(announcement.root());
            let nonces: Vec<u64, GROUP_MAX> =
                (from..to).map(|lane| u64::from(part.candidate(lane).0.soft_nonce())).collect();
            lanes::init(&mut self.search[from..to], ann_hash_1.lo(), &nonces, self.backend);
            let _ = part.jobs.push(Job { lanes: from..to, ann_hash_0, seed_2 });
            from = to;
        }
    }

    /// Steps 3 to 5: the work hash, and whether the prefix belongs to it.
    ///
    /// Job by job, so that a program that was just run is still in the nearest caches for the next
    /// read.
    fn search(&mut self, part: &mut Part<'_, '_>) {
        self.load_ahead(part, |job| &job.seed_2, ITEM_READS);
        for job in &part.jobs {
            let lanes = job.lanes.clone();
            let (nums, errors) = (&mut part.nums[lanes.clone()], &mut part.errors[lanes.clone()]);
            for read in 1..=ITEM_READS {
                for (num, state) in nums.iter_mut().zip(&self.search[lanes.clone()]) {
                    *num = item_index(state);
                }
                let places = self.make_items(&lanes, &job.seed_2, nums, errors);
                let items: Vec<&[u8; ITEM_BYTES], GROUP_MAX> =
                    places.iter().map(|place| self.items[*place].first_half()).collect();
                let states = &mut self.search[lanes.clone()];
                if read < ITEM_READS {
                    lanes::update_between(states, &items, self.backend);
                } else {
                    lanes::update(states, &items, self.backend);
                }
            }
        }
        lanes::finish(&mut self.search[..part.len()], self.backend);
        for lane in 0..part.len() {
            let (announcement, _) = part.candidate(lane);
            if part.errors[lane].is_none() && !has_good_prefix(announcement, &self.search[lane]) {
                part.errors[lane] = Some(AnnError::InvalItem4);
            }
        }
    }

    /// Steps 6 to 8: the item that was read last, in table 1, is in the tree.
    fn prove(&mut self, part: &mut Part<'_, '_>) {
        if part.errors[..part.len()].iter().all(Option::is_some) {
            return;
        }
        self.load_ahead(part, |job| &job.ann_hash_0, 1);
        let mut places: Vec<usize, GROUP_MAX> = Vec::new();
        for Job { lanes, ann_hash_0, .. } in &part.jobs {
            let (nums, errors) = (&part.nums[lanes.clone()], &mut part.errors[lanes.clone()]);
            places.extend(self.make_items(lanes, ann_hash_0, nums, errors));
        }
        let leaves: Vec<&[u8; ITEM_BYTES], GROUP_MAX> =
            places.iter().map(|place| self.items[*place].first_half()).collect();
        let mut hashes = [Hash64::ZERO; GROUP_MAX];
        compress64_many(&leaves, &mut hashes[..part.len()], self.backend);

        let mut pairs = [[0; 2 * NODE_BYTES]; GROUP_MAX];
        let mut siblings = [[0; SIBLINGS_BYTES]; GROUP_MAX];
        for (lane, siblings) in siblings[..part.len()].iter_mut().enumerate() {
            *siblings = *part.candidate(lane).0.siblings();
            xor_siblings(siblings, &self.search[lane]);
        }
        for level in 0..TREE_LEVELS {
            for lane in 0..part.len() {
                let own_at = if part.nums[lane] >> level & 1 == 0 { 0 } else { NODE_BYTES };
                let sibling = &siblings[lane][level * NODE_BYTES..][..NODE_BYTES];
                pairs[lane][own_at..][..NODE_BYTES].copy_from_slice(&hashes[lane].0);
                pairs[lane][NODE_BYTES - own_at..][..NODE_BYTES].copy_from_slice(sibling);
            }
            compress64_many(&pairs[..part.len()], &mut hashes[..part.len()], self.backend);
        }
        for (lane, root) in hashes[..part.len()].iter().enumerate() {
            if part.errors[lane].is_none() && root != part.candidate(lane).0.root() {
                part.errors[lane] = Some(AnnError::Inval);
            }
        }
    }

    /// Generates the programs of the tables of these seeds, each of which is then run so many times,
    /// and has them made ready together. Jobs without program get their error.
    fn load_ahead(&mut self, part: &mut Part<'_, '_>, seed: fn(&Job) -> &Hash64, calls: usize) {
        let mut places: Vec<(usize, usize), PROGRAMS_MAX> = Vec::new();
        for job in &part.jobs {
            let errors = &mut part.errors[job.lanes.clone()];
            if errors.iter().all(Option::is_some) {
                continue;
            }
            match self.programs.place_of(seed(job).lo(), self.backend) {
                // A part has no more jobs than there is room for; others would be loaded one by one.
                Ok(place) => _ = places.push((place, job.lanes.len())),
                Err(_) => {
                    errors.iter_mut().for_each(|e| *e = e.or(Some(AnnError::BadProgram)));
                }
            }
        }
        let programs = &self.programs;
        let plan = |&(place, items)| Planned { program: programs.at(place), items, calls };
        let plans: Vec<Planned<'_>, PROGRAMS_MAX> = places.iter().map(plan).collect();
        self.loader.exec.load_ahead(&plans);
    }

    /// Makes the items `nums` that the lanes of a job want of a table, by the seed of the table, each
    /// item once; returns where the item of each lane is. Lanes that have an error get any.
    fn make_items(
        &mut self,
        lanes: &Range<usize>,
        seed: &Hash64,
        nums: &[u64],
        errors: &mut [Option<AnnError>],
    ) -> Vec<usize, GROUP_MAX> {
        let own_places = lanes.clone().collect();
        if errors.iter().all(Option::is_some) {
            return own_places;
        }
        let Ok(program) = self.programs.of_seed(seed.lo(), self.backend) else {
            errors.iter_mut().for_each(|error| *error = error.or(Some(AnnError::BadProgram)));
            return own_places;
        };
        self.loader.load(seed.lo(), program);
        let (wanted, place_of) = distinct(nums);
        let items = &mut self.items[lanes.start..][..wanted.len()];
        let exec = &mut *self.loader.exec;
        if items_v1(program, seed.hi(), &wanted, items, exec, self.backend).is_ok() {
            return place_of.iter().map(|place| lanes.start + usize::from(*place)).collect();
        }
        // One of them failed, and with it all: they are made one by one.
        for (lane, num) in nums.iter().enumerate() {
            let item = core::slice::from_mut(&mut self.items[lanes.start + lane]);
            if items_v1(program, seed.hi(), &[*num], item, exec, self.backend).is_err() {
                errors[lane] = errors[lane].or(Some(AnnError::BadProgramExec));
            }
        }
        own_places
    }
}

/// The different numbers among some, and where each of them is.
fn distinct(nums: &[u64]) -> (Vec<u64, GROUP_MAX>, Vec<u8, GROUP_MAX>) {
    let mut order: Vec<u8, GROUP_MAX> = (0..nums.len() as u8).collect();
    order.sort_unstable_by_key(|at| nums[usize::from(*at)]);
    let mut wanted: Vec<u64, GROUP_MAX> = Vec::new();
    let mut place_of: Vec<u8, GROUP_MAX> = nums.iter().map(|_| 0).collect();
    for at in order.iter().map(|at| usize::from(*at)) {
        if wanted.last() != Some(&nums[at]) {
            let _ = wanted.push(nums[at]); // As many as numbers at the most.
        }
        place_of[at] = wanted.len() as u8 - 1;
    }
    (wanted, place_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_have_one_place() {
        let (wanted, place_of) = distinct(&[7, 3, 7, 9, 3]);
        assert_eq!(wanted, [3, 7, 9]);
        assert_eq!(place_of, [1, 0, 1, 2, 0]);
        assert!(distinct(&[]).0.is_empty());
        assert_eq!(distinct(&[5; GROUP_MAX]).0, [5]);
    }
}
