//! The work hash of a block and the search for it (spec 04, 6 and 13.2).
//!
//! The state of a nonce is initialised from the header, and the low nonce only replaces its first 8
//! bytes: so one expansion serves all low nonces of a header, and the first announcement drawn is the
//! same for all of them. A search that waits for a particular first draw must change the header.

use crate::announcement::Announcement;
use crate::backend::Backend;
use crate::bytes::{CompactTarget, Hash32};
use crate::cryptocycle::{State, lanes};
use crate::prefetch;
use crate::primitives::x25519::FixedBaseTable;

use super::content;
use super::entities::ANNOUNCEMENTS;
use super::header::BlockHeader;

/// Nonces that are in flight together: while the announcements of some come from memory, others are
/// hashed.
pub const IN_FLIGHT: usize = 64;
/// Nonces of one step of hashing.
const GROUP: usize = lanes::LANES;

const _: () = assert!(IN_FLIGHT.is_multiple_of(GROUP));

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
/// About 130 KiB: keep one for each worker, not on the stack.
pub struct HeaderSearch<'t> {
    /// The state of low nonce 0.
    initial: State,
    states: [State; IN_FLIGHT],
    table: Option<&'t FixedBaseTable<'t>>,
    backend: Backend,
}

impl<'t> HeaderSearch<'t> {
    /// Prepares the search of a header, its nonce included.
    #[must_use]
    pub fn new(header: &BlockHeader, backend: Backend) -> HeaderSearch<'t> {
        let mut search = HeaderSearch {
            initial: State::ZERO,
            states: [const { State::ZERO }; IN_FLIGHT],
            table: None,
            backend,
        };
        search.set_header(header);
        search
    }

    /// Uses a table from now on, which spares most of the time of the scalar multiplications. One
    /// table serves all workers.
    pub fn set_table(&mut self, table: &'t FixedBaseTable<'t>) {
        self.table = Some(table);
    }

    /// Prepares the search of another header in the same memory.
    pub fn set_header(&mut self, header: &BlockHeader) {
        self.initial.init(&header.hash().0, 0);
    }

    /// Tries `nonces` low nonces from `first` on, wrapping, and returns the first whose work hash is
    /// below the target; go on with the low nonce behind it. `None` when none is, or when there are
    /// no announcements. Multiples of [`IN_FLIGHT`] nonces take the least time.
    ///
    /// `count` is that of the tree. `announcement_of` gives an announcement by its number in the
    /// index of the tree and is asked for numbers below `count` only. It should not read the
    /// announcement: that is fetched from memory while other nonces are hashed.
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
            let together = (nonces - done).min(IN_FLIGHT as u32);
            let first = first.wrapping_add(done);
            let draws = self.run(first, together as usize, count, &announcement_of);
            for (at, state) in self.states[..together as usize].iter().enumerate() {
                let work_hash = Hash32(*state.head());
                if target.is_met_by(&work_hash) {
                    let low_nonce = first.wrapping_add(at as u32);
                    return Some(Solution { low_nonce, items: items_of(&draws, at), work_hash });
                }
            }
            done += together;
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

    /// Leaves the final states of `nonces` nonces in `states` and returns their item numbers, those
    /// of the first draw of all nonces first.
    fn run<'a>(
        &mut self,
        first: u32,
        nonces: usize,
        count: u64,
        announcement_of: impl Fn(u64) -> &'a [u8; 1024],
    ) -> Draws {
        let (table, backend) = (self.table, self.backend);
        let states = &mut self.states[..nonces];
        // The first draw is that of the header.
        let mut draws = [[self.initial.item_number(); IN_FLIGHT]; ANNOUNCEMENTS];
        let mut drawn = [announcement_of(draws[0][0] % count); IN_FLIGHT];
        for (at, state) in states.iter_mut().enumerate() {
            let low_nonce = u64::from(first.wrapping_add(at as u32));
            state.0.copy_from_slice(&self.initial.0);
            state.0[..8].copy_from_slice(&low_nonce.to_le_bytes());
        }
        for items in &mut draws[1..] {
            let groups = states.chunks_mut(GROUP).zip(drawn.chunks_mut(GROUP));
            for ((states, drawn), items) in groups.zip(items.chunks_mut(GROUP)) {
                let drawn = &mut drawn[..states.len()];
                lanes::update_between(states, drawn, backend);
                // All are looked up before any is asked for: look-ups wait for memory too.
                for ((drawn, item), state) in drawn.iter_mut().zip(items).zip(states) {
                    *item = state.item_number();
                    *drawn = announcement_of(*item % count);
                }
                drawn.iter().for_each(|announcement| prefetch::read(*announcement));
            }
        }
        for (states, drawn) in states.chunks_mut(GROUP).zip(drawn.chunks(GROUP)) {
            lanes::update(states, &drawn[..states.len()], backend);
        }
        lanes::smul(states, table, backend);
        lanes::finish(states, backend);
        draws
    }
}

/// Item numbers, those of the first draw of all nonces first.
type Draws = [[u64; IN_FLIGHT]; ANNOUNCEMENTS];

/// The item numbers of one nonce of a batch.
fn items_of(draws: &Draws, at: usize) -> [u64; ANNOUNCEMENTS] {
    draws.map(|items| items[at])
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
