//! What a job holds of the store: slots that stay as they are.

use std::sync::Arc;
use std::thread;

use packetcrypt_core::block::tree;
use packetcrypt_core::bytes::Hash32;
use packetcrypt_core::params::ANNOUNCEMENT_BYTES;

use super::Store;
use crate::class::{ClassSummary, SourceId};

/// Sets below this many announcements are sorted by one thread.
const PARALLEL_SORT_MIN: usize = 1 << 14;

/// Announcements of the store, by number. They can not be recycled as long as this lives.
pub struct PinnedSet {
    store: Arc<Store>,
    pin: u64,
    classes: Vec<ClassSummary>,
    slots: Vec<u32>,
}

/// Key and slot: 12 bytes, since a `(u64, u32)` takes 16.
#[derive(Clone, Copy)]
struct Keyed {
    key: [u32; 2],
    slot: u32,
}

impl Keyed {
    fn key(&self) -> u64 {
        u64::from(self.key[0]) << 32 | u64::from(self.key[1])
    }
}

impl PinnedSet {
    /// # Safety
    /// Every slot is published, and is not claimed as vacant until [`Store::unpin`] was called with
    /// this pin.
    pub(super) unsafe fn new(
        store: Arc<Store>,
        pin: u64,
        classes: Vec<ClassSummary>,
        slots: Vec<u32>,
    ) -> PinnedSet {
        PinnedSet { store, pin, classes, slots }
    }

    /// The classes it was taken from; `count` is the number of members taken.
    #[must_use]
    pub fn classes(&self) -> &[ClassSummary] {
        &self.classes
    }

    /// Number of announcements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The announcement with this number.
    ///
    /// # Panics
    /// When there are not that many.
    #[must_use]
    pub fn announcement(&self, number: usize) -> &[u8; ANNOUNCEMENT_BYTES] {
        // SAFETY: by the promise of `new`; the reference ends before the pin does.
        unsafe { self.store.arena.announcement(self.slots[number]) }
    }

    /// The hash of the announcement with this number.
    ///
    /// # Panics
    /// When there are not that many.
    #[must_use]
    pub fn hash(&self, number: usize) -> &Hash32 {
        // SAFETY: as `announcement`.
        unsafe { self.store.arena.hash(self.slots[number]) }
    }

    /// Who sent the announcement with this number. Looks through whole classes: for the rare case
    /// that one turns out bad.
    ///
    /// # Panics
    /// When there are not that many.
    #[must_use]
    pub fn source_of(&self, number: usize) -> Option<SourceId> {
        self.store.source_of(&self.classes, self.slots[number])
    }

    /// Brings the announcements in the order of the index and drops those that may not be in a tree
    /// (spec 04, 4.1).
    #[must_use]
    pub fn into_index(mut self, threads: usize) -> PinnedSet {
        let threads = if self.slots.len() < PARALLEL_SORT_MIN { 1 } else { threads.max(1) };
        let mut parts = self.scatter(threads);
        thread::scope(|scope| {
            for part in &mut parts {
                scope.spawn(|| part.sort_unstable_by_key(Keyed::key));
            }
        });
        self.slots.clear();
        let mut last = 0;
        for keyed in parts.iter().flatten() {
            let key = keyed.key();
            if key != last && key != u64::MAX {
                last = key;
                self.slots.push(keyed.slot);
            }
        }
        self
    }

    /// Drops the last announcement of an even number of them: a drawn one beside the pad has no
    /// proof that everybody accepts (spec 04, 5.4).
    pub fn make_odd(&mut self) {
        self.slots.truncate(tree::odd_count(self.slots.len() as u64) as usize);
    }

    /// Keys with slots, the range of all keys cut in equal parts.
    fn scatter(&self, parts: usize) -> Vec<Vec<Keyed>> {
        let share = self.slots.len().div_ceil(parts).max(1);
        let pieces: Vec<Vec<Vec<Keyed>>> = thread::scope(|scope| {
            let workers: Vec<_> = (0..self.slots.len())
                .step_by(share)
                .map(|from| {
                    let numbers = from..(from + share).min(self.slots.len());
                    scope.spawn(move || self.scatter_some(numbers, parts))
                })
                .collect();
            workers.into_iter().map(joined).collect()
        });
        (0..parts)
            .map(|part| pieces.iter().flat_map(|piece| piece[part].iter().copied()).collect())
            .collect()
    }

    fn scatter_some(&self, numbers: std::ops::Range<usize>, parts: usize) -> Vec<Vec<Keyed>> {
        let mut scattered = vec![Vec::with_capacity(numbers.len() / parts + 16); parts];
        for number in numbers {
            let key = tree::key(self.hash(number));
            let part = (u128::from(key) * parts as u128) >> 64;
            let halves = [(key >> 32) as u32, key as u32];
            scattered[part as usize].push(Keyed { key: halves, slot: self.slots[number] });
        }
        scattered
    }
}

/// The result of a worker; its panic is ours.
fn joined<T>(worker: thread::ScopedJoinHandle<'_, T>) -> T {
    worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Drop for PinnedSet {
    fn drop(&mut self) {
        self.store.unpin(self.pin, &self.classes);
    }
}
