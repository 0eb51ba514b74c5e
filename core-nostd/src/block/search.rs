//! The work hash of a block and the search for it (spec 04, 6 and 13.2).
//!
//! The state of a nonce is initialised from the header, and the low nonce only replaces its first 8
//! bytes: so one expansion serves all low nonces of a header, and the first announcement drawn is the
//! same for all of them. A search that waits for a particular first draw must change the header.

use crate::announcement::Announcement;
use crate::backend::Backend;
use crate::bytes::{CompactTarget, Hash32};
use crate::cryptocycle::{State, lanes};

use super::content;
use super::entities::ANNOUNCEMENTS;
use super::header::BlockHeader;

/// Nonces that are computed together.
pub const LANES: usize = 8;

/// A nonce and what it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solution {
    /// The low nonce.
    pub low_nonce: u32,
    /// The four item numbers as drawn, not reduced.
    pub items: [u64; ANNOUNCEMENTS],
    /// The work hash.
    pub work_hash: Hash32,
}

impl Solution {
    /// The numbers of the four announcements in a tree of `count`, which is not 0.
    #[must_use]
    pub fn announcement_numbers(&self, count: u64) -> [u64; ANNOUNCEMENTS] {
        self.items.map(|item| item % count)
    }
}

/// The search over the low nonces of one header.
///
/// About 18 KiB: keep one for each worker, not on a deep stack.
pub struct HeaderSearch {
    /// The state of low nonce 0.
    initial: State,
    states: [State; LANES],
    backend: Backend,
}

impl HeaderSearch {
    /// Prepares the search of a header, its nonce included.
    #[must_use]
    pub fn new(header: &BlockHeader, backend: Backend) -> HeaderSearch {
        let mut search = HeaderSearch {
            initial: State::default(),
            states: [const { State([0; 2048]) }; LANES],
            backend,
        };
        search.set_header(header);
        search
    }

    /// Prepares the search of another header in the same memory.
    pub fn set_header(&mut self, header: &BlockHeader) {
        self.initial.init(&header.hash().0, 0);
    }

    /// Tries `nonces` low nonces from `first` on, wrapping, and returns the first whose work hash is
    /// below the target; go on with the low nonce behind it. `None` when none is, or when there are
    /// no announcements.
    ///
    /// `count` is that of the tree. `announcement_of` gives an announcement by its number in the
    /// index of the tree and is asked for numbers below `count` only.
    pub fn search<'a>(
        &mut self,
        first: u32,
        nonces: u32,
        target: CompactTarget,
        count: u64,
        announcement_of: impl Fn(u64) -> &'a [u8; 1024],
    ) -> Option<Solution> {
        let mut done = 0;
        while done < nonces && count > 0 {
            let lanes = (nonces - done).min(LANES as u32);
            let first = first.wrapping_add(done);
            let draws = self.run(first, lanes as usize, count, &announcement_of);
            for (lane, state) in self.states[..lanes as usize].iter().enumerate() {
                let work_hash = Hash32(*state.head());
                if target.is_met_by(&work_hash) {
                    let low_nonce = first.wrapping_add(lane as u32);
                    return Some(Solution { low_nonce, items: items_of(&draws, lane), work_hash });
                }
            }
            done += lanes;
        }
        None
    }

    /// What one low nonce leads to; `None` when there are no announcements.
    pub fn solution<'a>(
        &mut self,
        low_nonce: u32,
        count: u64,
        announcement_of: impl Fn(u64) -> &'a [u8; 1024],
    ) -> Option<Solution> {
        if count == 0 {
            return None;
        }
        let draws = self.run(low_nonce, 1, count, announcement_of);
        let work_hash = Hash32(*self.states[0].head());
        Some(Solution { low_nonce, items: items_of(&draws, 0), work_hash })
    }

    /// Leaves the final states of `lanes` nonces in `states` and returns their item numbers, those
    /// of the first draw of all nonces first.
    fn run<'a>(
        &mut self,
        first: u32,
        lanes: usize,
        count: u64,
        announcement_of: impl Fn(u64) -> &'a [u8; 1024],
    ) -> [[u64; LANES]; ANNOUNCEMENTS] {
        let states = &mut self.states[..lanes];
        for (lane, state) in states.iter_mut().enumerate() {
            let low_nonce = u64::from(first.wrapping_add(lane as u32));
            state.0.copy_from_slice(&self.initial.0);
            state.0[..8].copy_from_slice(&low_nonce.to_le_bytes());
        }
        let mut draws = [[0; LANES]; ANNOUNCEMENTS];
        for items in &mut draws {
            let mut drawn = [announcement_of(0); LANES];
            for (lane, state) in states.iter().enumerate() {
                items[lane] = state.item_number();
                drawn[lane] = announcement_of(items[lane] % count);
            }
            lanes::update(states, &drawn[..lanes], self.backend);
        }
        lanes::smul(states, self.backend);
        lanes::finish(states, self.backend);
        draws
    }
}

/// The item numbers of one nonce of a batch.
fn items_of(draws: &[[u64; LANES]; ANNOUNCEMENTS], lane: usize) -> [u64; ANNOUNCEMENTS] {
    draws.map(|items| items[lane])
}

/// The work hash and item numbers of a proof, as a validator computes them (spec 04, 6): the
/// announcements are taken in order, whatever their numbers.
///
/// `content` are the content proofs of versions 0 and 1, whose first 32 bytes enter the state.
pub(super) fn work(
    header_hash: &Hash32,
    low_nonce: u32,
    announcements: &[&Announcement; ANNOUNCEMENTS],
    content: &content::Proofs<'_>,
    state: &mut State,
) -> Solution {
    let mut items = [0; ANNOUNCEMENTS];
    state.init(&header_hash.0, u64::from(low_nonce));
    for (at, announcement) in announcements.iter().enumerate() {
        items[at] = state.item_number();
        match content[at].and_then(|proof| proof.first_chunk::<{ content::BLOCK_BYTES }>()) {
            Some(block) => state.update_with_content(announcement.to_bytes(), block),
            None => state.update(announcement.to_bytes()),
        }
    }
    state.smul();
    state.finish();
    Solution { low_nonce, items, work_hash: Hash32(*state.head()) }
}
