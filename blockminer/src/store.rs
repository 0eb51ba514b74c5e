//! The store: every announcement that this miner holds.
//!
//! One mapped arena of slots, sized once. What was announced lies in *classes*
//! ([`crate::class`]); a table of keys knows duplicates on arrival, whichever feed they come from.
//! An announcement can be mined with as soon as it is in.
//!
//! # Who may touch a slot
//! A slot is free, or vacant in a [`Landing`] (being received), or published in exactly one class.
//! A job takes a [`PinnedSet`]: it pins the first members of some classes. Slots go back to the
//! free list only from behind the pinned prefix of their class, so what a set refers to is
//! immutable until the set is dropped. All of this is decided under one lock, which is held for
//! index work only: announcements are received, hashed and copied outside of it.
//!
//! # Recycling
//! When the store is full, an arriving announcement takes the place of one that is worth less
//! (`ClassKey::value`): the worst first, of equals the oldest. One of the same value is replaced
//! only when it had its best block already (it is 4 blocks old or more), so that a small store
//! comes to hold some announcements of each age and never only such that still wait.
//!
//! # Restart
//! The arena may be a file. Then a restarted miner finds what was published before, whatever ended
//! its predecessor (modules `restore` and `state`).

mod arena;
mod index;
mod keys;
mod landing;
mod layers;
mod order;
mod restore;
mod set;
mod state;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use packetcrypt_core::block::compact_tree;
use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_core::params::ANNOUNCEMENT_BYTES;

use crate::class::{Class, ClassId, ClassKey, ClassSummary, SourceId};
use arena::{Arena, HASH_BYTES, MARK_BYTES};
use index::Index;
use keys::KEY_BYTES;

pub use arena::Numa;
pub(crate) use arena::Pages;
pub use landing::{Landed, Landing};
pub(crate) use layers::{LayerMemory, Layers};
pub(crate) use order::joined;
pub(crate) use restore::Keeper;
pub use restore::{Restored, StoreError};
pub use set::PinnedSet;
pub(crate) use state::{Download, Snapshot};

/// Classes that one source may have. More than any honest pool makes; it bounds what a peer that
/// invents targets costs.
pub const CLASSES_PER_SOURCE_MAX: usize = 1024;
/// Announcements of one landing at most: what is asked for at a time.
pub const LANDING_LEN_MAX: usize = 1024;

/// Bytes of a slot number in a class or in the free list.
const SLOT_NUMBER_BYTES: usize = 4;
/// Bytes that a tree takes for each announcement: its slot in key order, and the hashes of all layers
/// above the leaves (half as many as leaves, and half of that, and so on).
const TREE_BYTES: usize = SLOT_NUMBER_BYTES + HASH_BYTES;
/// Trees at a time: the one that is mined with, and the next.
const TREES: usize = 2;

/// Memory for each announcement, everything included: its bytes, hash and mark, its key in the
/// table of duplicates, its place in a class, and two trees. While a tree is built the sort takes
/// memory that its layers take afterwards.
pub const MEMORY_PER_ANNOUNCEMENT_BYTES: usize = ANNOUNCEMENT_BYTES
    + HASH_BYTES
    + MARK_BYTES
    + KEY_BYTES
    + SLOT_NUMBER_BYTES
    + TREES * TREE_BYTES;

const _: () = assert!(MEMORY_PER_ANNOUNCEMENT_BYTES <= 1200);

/// Slots of a store that are there for landings, beside those for announcements.
#[must_use]
fn landing_slots(slots: u32) -> u32 {
    (slots / 16).clamp(64, 32 * LANDING_LEN_MAX as u32)
}

/// Announcements that fit this many MiB.
#[must_use]
pub fn slots_for_memory(memory_mib: u32) -> u32 {
    let fit = (u64::from(memory_mib) << 20) / MEMORY_PER_ANNOUNCEMENT_BYTES as u64;
    let fit = u32::try_from(fit).unwrap_or(u32::MAX);
    fit.saturating_sub(landing_slots(fit))
}

/// What a store is made of.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// Announcements that fit.
    pub slots: u32,
    /// Whether to ask for huge pages.
    pub huge_pages: bool,
    /// Where memory comes from on a machine with several memory nodes.
    pub numa: Numa,
    /// The numbers of those nodes.
    pub nodes: Vec<usize>,
    /// A file in which the announcements outlive the process.
    pub file: Option<PathBuf>,
    /// Threads that look through the file at the start; 0 counts as 1.
    pub threads: usize,
}

/// An announcement at the door of the store, with what was read and computed from it already.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The announcement.
    pub bytes: &'a [u8; ANNOUNCEMENT_BYTES],
    /// Its hash (spec 04, 4.1).
    pub hash: Hash32,
    /// Its parent height.
    pub parent_height: u32,
    /// Its work target.
    pub work_bits: CompactTarget,
}

/// What became of a batch of arrivals: each is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inserted {
    /// Now in the store.
    pub stored: u64,
    /// Were there already, or twice in the batch.
    pub duplicate: u64,
    /// Nothing worth less could be recycled for them.
    pub no_room: u64,
    /// Their source has too many classes.
    pub too_many_classes: u64,
    /// Their source or parent block was given up while they were judged.
    pub retired: u64,
}

impl std::ops::AddAssign for Inserted {
    fn add_assign(&mut self, other: Inserted) {
        self.stored += other.stored;
        self.duplicate += other.duplicate;
        self.no_room += other.no_room;
        self.too_many_classes += other.too_many_classes;
        self.retired += other.retired;
    }
}

/// When announcements were judged: between two times that something was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(u64);

/// Figures of the store at one moment, in announcements unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreFigures {
    /// Announcements that fit.
    pub slots: u64,
    /// In a class.
    pub held: u64,
    /// Held and referred to by a job.
    pub pinned: u64,
    /// Recycled since the start.
    pub recycled: u64,
    /// Number of classes.
    pub classes: u64,
}

/// The store. Shared by feeds, the builder of trees, and (through [`PinnedSet`]) the jobs.
pub struct Store {
    arena: Arena,
    slots: u32,
    index: Mutex<Index>,
    layers: Arc<LayerMemory>,
}

impl Store {
    /// Maps a store of this many announcements in anonymous memory.
    ///
    /// # Errors
    /// When the system does not give the address space.
    pub fn new(slots: u32, huge_pages: bool) -> io::Result<Store> {
        let arena = Arena::anonymous(slots.saturating_add(landing_slots(slots)), huge_pages)?;
        let index = Index::new(slots, arena.slots(), huge_pages)?;
        Ok(Store::of(arena, slots, index))
    }

    fn of(arena: Arena, slots: u32, index: Index) -> Store {
        let hashes_max = compact_tree::hashes_len(u64::from(slots)).unwrap_or(0);
        let layers = LayerMemory::new(hashes_max, arena.pages() != Pages::Ordinary);
        Store { arena, slots, index: Mutex::new(index), layers }
    }

    /// Number of announcements that fit.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots
    }

    pub(crate) fn pages(&self) -> Pages {
        self.arena.pages()
    }

    /// Bytes of the arena, and how many of them are in huge pages now; `None` where the system
    /// does not tell. Takes long when there are many small pages.
    #[must_use]
    pub fn page_bytes(&self) -> (u64, Option<u64>) {
        (self.arena.bytes() as u64, self.arena.huge_page_bytes())
    }

    /// Has the system give all memory of the arena now, not at the first write into each page.
    ///
    /// # Errors
    /// When there is not enough, or the system can not do that.
    pub fn populate(&self) -> io::Result<()> {
        self.arena.populate()
    }

    /// Lets another process have the file, when there is one. For the end, when nothing is written
    /// any more.
    pub(crate) fn unlock(&self) {
        if let Err(error) = self.arena.unlock() {
            tracing::warn!("the arena's file stays locked until this process ends: {error}");
        }
    }

    /// Vacant slots for a feed: at most so many, [`LANDING_LEN_MAX`], and what other feeds leave.
    #[must_use]
    pub fn landing(self: &Arc<Self>, want: usize) -> Landing {
        let slots = self.locked().lend(want.min(LANDING_LEN_MAX));
        Landing::new(self.clone(), slots)
    }

    /// When it is now.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch(self.locked().retirements())
    }

    /// Puts arrivals in that are new and worth a slot. `height` is that of the next block, by which
    /// announcements are valued; `epoch` was taken before they were judged.
    pub fn insert(
        self: &Arc<Self>,
        arrivals: &[Arrival<'_>],
        source: SourceId,
        height: u32,
        epoch: Epoch,
    ) -> Inserted {
        let mut inserted = Inserted::default();
        let mut landing = self.landing(arrivals.len());
        if landing.is_empty() {
            inserted.no_room = arrivals.len() as u64;
            return inserted;
        }
        for arrivals in arrivals.chunks(landing.len()) {
            let landed: Vec<_> = arrivals
                .iter()
                .enumerate()
                .map(|(at, arrival)| {
                    *landing.at(at) = *arrival.bytes;
                    let Arrival { hash, parent_height, work_bits, .. } = *arrival;
                    Landed { at, hash, parent_height, work_bits }
                })
                .collect();
            inserted += landing.admit(&landed, source, height, epoch);
        }
        inserted
    }

    /// All classes that can be mined with, as far as their age allows.
    #[must_use]
    pub fn classes(&self) -> Vec<ClassSummary> {
        self.locked()
            .classes
            .iter()
            .filter(|(_, class)| !class.retired && class.count() > 0)
            .map(|(&id, class)| ClassSummary { id, key: class.key, count: class.count() })
            .collect()
    }

    /// Takes hold of the first members of classes. `None` when one of the classes has become
    /// smaller or was given up since it was looked at.
    #[must_use]
    pub fn pin(self: &Arc<Self>, members: &[(ClassId, u32)]) -> Option<PinnedSet> {
        let (pin, classes, slots) = self.locked().pin(members)?;
        // SAFETY: the slots were published and lie in prefixes that are pinned from now on until
        // `unpin`, which only the drop of the set calls.
        Some(unsafe { PinnedSet::new(self.clone(), pin, classes, slots) })
    }

    /// Whether all classes of a set may still be mined with.
    #[must_use]
    pub fn is_sound(&self, set: &PinnedSet) -> bool {
        let index = self.locked();
        set.classes().iter().all(|of| index.classes.get(&of.id).is_some_and(|class| !class.retired))
    }

    /// Gives up every announcement made on this height or above: those blocks left the chain.
    pub fn retire_from_height(&self, height: u32) -> u64 {
        self.locked().retire(&self.arena, |key| key.parent_height >= height)
    }

    /// Gives up some classes. Returns the number of announcements.
    pub(crate) fn retire_classes(&self, of: impl Fn(&ClassKey) -> bool) -> u64 {
        self.locked().retire(&self.arena, of)
    }

    /// Gives up everything that a source sent.
    pub fn retire_source(&self, source: SourceId) -> u64 {
        self.locked().retire(&self.arena, |key| key.source == source)
    }

    /// The figures of this moment.
    #[must_use]
    pub fn figures(&self) -> StoreFigures {
        let index = self.locked();
        let sum = |of: fn(&Class) -> u32| index.classes.values().map(|c| u64::from(of(c))).sum();
        StoreFigures {
            slots: u64::from(self.slots),
            held: sum(Class::count),
            pinned: sum(Class::pinned),
            recycled: index.recycled,
            classes: index.classes.len() as u64,
        }
    }

    fn source_of(&self, slot: u32) -> SourceId {
        self.arena.source(slot)
    }

    fn unpin(&self, pin: u64, classes: &[ClassSummary]) {
        self.locked().unpin(&self.arena, pin, classes);
    }

    fn locked(&self) -> MutexGuard<'_, Index> {
        // Nothing panics while the index is between two states; a poisoned lock is as good.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod restart_tests;
#[cfg(test)]
mod tests;
