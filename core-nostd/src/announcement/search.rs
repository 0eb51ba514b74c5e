//! Making announcements: the search for soft nonces in the tables of a job (spec 03, 2.8).
//!
//! The caller chooses ranges of soft nonces; everything here runs on the caller's thread. `search`
//! keeps some 70 KiB of states on the stack.

use core::ops::Range;

use heapless::Vec;

use super::seal::seal;
use super::{Announcement, Header};
use crate::backend::Backend;
use crate::bytes::{CompactTarget, Hash32, Hash64};
use crate::cryptocycle::{State, lanes};
use crate::merkle;
use crate::params::{ITEM_BYTES, ITEM_READS, ITEM4_PREFIX_BYTES, TABLE_ITEMS};
use crate::simd::prefetch;

/// Nonces that are worked on side by side.
const LANES: usize = lanes::LANES;
/// Nonces whose search is under way at the same time.
const IN_FLIGHT: usize = 2 * LANES;

/// A hard nonce with its tables made, ready for the search.
#[derive(Debug)]
pub struct Prepared<'t> {
    pub(super) header: Header,
    pub(super) work_bits: CompactTarget,
    pub(super) soft_nonce_max: u32,
    pub(super) root: Hash64,
    /// The search state before the soft nonce is set: the expanded `ann_hash_1`.
    pub(super) start: State,
    /// Table 2.
    pub(super) items: &'t [[u8; ITEM_BYTES]],
    /// The tree of table 1.
    pub(super) nodes: &'t [Hash64],
    pub(super) backend: Backend,
}

impl Prepared<'_> {
    /// The largest soft nonce that the target allows (spec 03, 2.2).
    #[must_use]
    pub fn soft_nonce_max(&self) -> u32 {
        self.soft_nonce_max
    }

    /// Tries the soft nonces of a range, as far as they are allowed, and hands over each
    /// announcement found (step 6 of spec 03, 2.8).
    pub fn search(&self, soft_nonces: Range<u32>, found: &mut dyn FnMut(&Announcement)) {
        let end = soft_nonces.end.min(self.soft_nonce_max + 1);
        let mut states = [const { State::ZERO }; IN_FLIGHT];
        let mut first = soft_nonces.start;
        while first < end {
            let nonces: Vec<u64, IN_FLIGHT> = (first..end).take(IN_FLIGHT).map(u64::from).collect();
            self.search_some(&nonces, &mut states[..nonces.len()], found);
            first += nonces.len() as u32;
        }
    }

    fn search_some(
        &self,
        nonces: &[u64],
        states: &mut [State],
        found: &mut dyn FnMut(&Announcement),
    ) {
        lanes::init_from(states, &self.start, nonces);
        // All nonces begin with the same item.
        let mut nums = [self.num_of(&self.start); IN_FLIGHT];
        for read in 1..=ITEM_READS {
            // Groups take turns: while one is worked on, the items of the others are on their way.
            for (states, nums) in states.chunks_mut(LANES).zip(nums.chunks_mut(LANES)) {
                let items: Vec<&[u8; ITEM_BYTES], LANES> =
                    nums[..states.len()].iter().map(|num| &self.items[*num]).collect();
                if read == ITEM_READS {
                    lanes::update(states, &items, self.backend);
                    continue;
                }
                lanes::update_between(states, &items, self.backend);
                for (num, state) in nums.iter_mut().zip(states) {
                    *num = self.num_of(state);
                    prefetch(&self.items[*num]);
                }
            }
        }
        lanes::finish(states, self.backend);
        for ((nonce, state), num) in nonces.iter().zip(states).zip(nums) {
            if self.work_bits.is_met_by(&Hash32(*state.head())) {
                found(&self.assemble(*nonce as u32, num, state));
            }
        }
    }

    /// The number of the item that a state wants next.
    fn num_of(&self, state: &State) -> usize {
        (state.item_number() % TABLE_ITEMS as u64) as usize
    }

    /// The announcement of a nonce whose search ended with this item and state.
    fn assemble(&self, soft_nonce: u32, num: usize, state: &State) -> Announcement {
        let mut announcement = Announcement::from_parts(
            self.header.with_soft_nonce(soft_nonce),
            merkle::branch(self.nodes, num),
            &self.root,
            [0; ITEM4_PREFIX_BYTES],
        );
        seal(&mut announcement, state);
        announcement
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::vec::Vec;

    use super::*;
    use crate::announcement::prepare::tests::{Memory, REQUEST};
    use crate::announcement::{
        CheckScratch, Preparation, PrepareError, Request, check, check_v0, prepare, soft_nonce_max,
    };
    use crate::error::AnnError;
    use crate::randhash::Interpreter;

    #[test]
    fn what_is_mined_is_good() {
        let mut memory = Memory::new();
        let mut table = memory.table();
        let mut exec = Interpreter::new();
        let prepared =
            prepare(&REQUEST, 77, &mut table, &mut exec, Backend::best(), &|| false).unwrap();
        let max = prepared.soft_nonce_max();
        assert_eq!(Some(max), soft_nonce_max(REQUEST.work_bits));

        let mut scratch = Box::new(CheckScratch::new());
        let mut found = Vec::new();
        prepared.search(0..u32::MAX, &mut |ann| found.push(*ann));
        // 2^bits nonces, of which one in 16 to 32 does.
        let expected = (max as usize + 1) / 16;
        assert!((expected * 3 / 4..expected * 5 / 4).contains(&found.len()), "{}", found.len());
        for ann in &found {
            let work_hash = check(ann, &REQUEST.parent_block_hash, &mut scratch).unwrap();
            assert!(REQUEST.work_bits.is_met_by(&work_hash));
            assert_eq!(ann.hard_nonce(), 77);
            assert_eq!(ann.parent_block_height(), REQUEST.parent_block_height);
            assert_eq!((ann.content_type(), ann.content_length()), (1, 2));
            assert_eq!((ann.content_hash(), ann.signing_key()), (&[3; 32], &[4; 32]));
            assert!(ann.is_signed());
            let wrong = check(ann, &Hash32([0x43; 32]), &mut scratch);
            assert_eq!(wrong, Err(AnnError::InvalItem4));
        }

        // Any division of the range finds the same.
        let mut parts = Vec::new();
        for from in (0..=max).step_by(501) {
            prepared.search(from..from + 501, &mut |ann| parts.push(*ann));
        }
        assert!(parts == found);
        prepared.search(max + 1..u32::MAX, &mut |_| panic!("above the largest soft nonce"));
    }

    /// No vector has this: version-1 data under a version byte of 0 passes every step but the
    /// explicit one (spec 03, 2.9).
    #[test]
    fn version_0_made_by_the_rules_of_version_1_is_refused() {
        let mut memory = Memory::new();
        let mut table = memory.table();
        let mut exec = Interpreter::new();
        let request = Request { version: 0, ..REQUEST };
        let result = prepare(&request, 0, &mut table, &mut exec, Backend::Soft, &|| false);
        assert_eq!(result.err(), Some(PrepareError::Version0));

        let preparation = Preparation::of_version_1(&request, 0).unwrap();
        let prepared = preparation.run(&mut table, &mut exec, Backend::Soft, &|| false).unwrap();
        let mut scratch = Box::new(CheckScratch::new());
        let mut count = 0;
        prepared.search(0..2000, &mut |ann| {
            let parent = &request.parent_block_hash;
            assert_eq!(check(ann, parent, &mut scratch), Err(AnnError::Inval));
            assert!(check_v0(ann, parent, &mut scratch).is_err());
            count += 1;
        });
        assert!(count > 0);
    }

    #[test]
    fn every_back_end_finds_the_same() {
        let mut memory = Memory::new();
        let mut table = memory.table();
        let mut exec = Interpreter::new();
        let prepared =
            prepare(&REQUEST, 3, &mut table, &mut exec, Backend::Soft, &|| false).unwrap();
        let preparation = Preparation::new(&REQUEST, 3).unwrap();
        let found = |backend| {
            let mut found = Vec::new();
            let prepared = preparation.ready(prepared.items, prepared.nodes, backend);
            // Full groups, one that is not full, and one nonce.
            for range in [0..1000, 1000..1017, 1017..1018] {
                prepared.search(range, &mut |ann| found.push(*ann));
            }
            found
        };
        let wanted = found(Backend::Soft);
        assert!(!wanted.is_empty());
        for backend in Backend::available() {
            assert!(found(backend) == wanted, "{backend}");
        }
    }
}
