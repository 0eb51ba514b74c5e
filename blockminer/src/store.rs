//! The store: every announcement that this miner holds.
//!
//! One mapped arena of slots, sized once. What was announced lies in *classes*
//! ([`crate::class`]); a table of keys knows duplicates on arrival, whichever feed they come from.
//! An announcement can be mined with as soon as it is in.
//!
//! # Who may touch a slot
//! A slot is free, or vacant (claimed by one arriving announcement, being written), or published in
//! exactly one class. A job takes a [`PinnedSet`]: it pins the first members of some classes. Slots
//! go back to the free list only from behind the pinned prefix of their class, so what a set refers
//! to is immutable until the set is dropped. All of this is decided under one lock, which is held
//! for index work only: announcements are copied outside of it.
//!
//! # Recycling
//! When no slot is free, an arriving announcement takes the place of one that is worth less
//! ([`ClassKey::value`]): the worst first, of equals the oldest. One of the same value is replaced
//! only when it had its best block already (it is 4 blocks old or more), so that a small store
//! comes to hold some announcements of each age and never only such that still wait.

mod arena;
mod keys;
mod set;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use packetcrypt_core::block::tree;
use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_core::params::{ANN_WAIT_BLOCKS, ANNOUNCEMENT_BYTES};

use crate::class::{Class, ClassId, ClassKey, ClassSummary, SourceId};
use arena::{Arena, HASH_BYTES, VacantSlot};
use keys::{KEY_BYTES, KeySet};

pub(crate) use arena::Pages;
pub use set::PinnedSet;

/// Classes that one source may have. More than any honest pool makes; it bounds what a peer that
/// invents targets costs.
pub const CLASSES_PER_SOURCE_MAX: usize = 1024;
/// Age from which an announcement may be replaced by one of the same value.
const REPLACEABLE_AGE: u32 = ANN_WAIT_BLOCKS + 1;

/// Bytes of a slot number in a class or in the free list.
const SLOT_NUMBER_BYTES: usize = 4;
/// Bytes that a tree takes for each announcement: its slot in key order, and all layers above the
/// leaves (half as many entries as leaves, and half of that, and so on; 48 bytes each).
const TREE_BYTES: usize = SLOT_NUMBER_BYTES + tree::Entry::BYTES;
/// Trees at a time: the one that is mined with, and the next.
const TREES: usize = 2;

/// Memory for each announcement, everything included: its bytes, its hash, its key in the table
/// of duplicates, its place in a class, and two trees. While a tree is built the sort takes memory
/// that its layers take afterwards.
pub const MEMORY_PER_ANNOUNCEMENT_BYTES: usize =
    ANNOUNCEMENT_BYTES + HASH_BYTES + KEY_BYTES + SLOT_NUMBER_BYTES + TREES * TREE_BYTES;

const _: () = assert!(MEMORY_PER_ANNOUNCEMENT_BYTES <= 1200);

/// Announcements that fit this many MiB.
#[must_use]
pub fn slots_for_memory(memory_mib: u32) -> u32 {
    let bytes = u64::from(memory_mib) << 20;
    u32::try_from(bytes / MEMORY_PER_ANNOUNCEMENT_BYTES as u64).unwrap_or(u32::MAX)
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
    /// Their source or parent block was given up while they were copied.
    pub retired: u64,
}

/// Figures of the store at one moment, in announcements unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreFigures {
    /// Slots of the arena.
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
    index: Mutex<Index>,
}

struct Index {
    classes: BTreeMap<ClassId, Class>,
    open: HashMap<ClassKey, ClassId>,
    keys: KeySet,
    free: Vec<u32>,
    /// Slots from here on were never used.
    untouched: u32,
    next_class: u64,
    next_pin: u64,
    /// Counts retirements, so that arrivals copied meanwhile are not published.
    retirements: u64,
    recycled: u64,
}

/// Arrivals that have their key in the table and their slot in hand.
struct Reserved<'a> {
    taken: Vec<(VacantSlot, &'a Arrival<'a>)>,
    retirements: u64,
}

impl Store {
    /// Maps a store of this many announcements.
    ///
    /// # Errors
    /// When the system does not give the address space.
    pub fn new(slots: u32, huge_pages: bool) -> io::Result<Store> {
        let index = Index {
            classes: BTreeMap::new(),
            open: HashMap::new(),
            keys: KeySet::new(slots as usize, rand::random()),
            free: Vec::new(),
            untouched: 0,
            next_class: 0,
            next_pin: 0,
            retirements: 0,
            recycled: 0,
        };
        Ok(Store { arena: Arena::map(slots, huge_pages)?, index: Mutex::new(index) })
    }

    /// Number of announcements that fit.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.arena.slots()
    }

    pub(crate) fn pages(&self) -> Pages {
        self.arena.pages()
    }

    /// Puts arrivals in that are new and worth a slot. `height` is that of the next block, by which
    /// announcements are valued.
    pub fn insert(&self, arrivals: &[Arrival<'_>], source: SourceId, height: u32) -> Inserted {
        let mut inserted = Inserted::default();
        let mut reserved =
            self.locked().reserve(&self.arena, arrivals, source, height, &mut inserted);
        for (slot, arrival) in &mut reserved.taken {
            self.arena.write(slot, arrival.bytes, &arrival.hash);
        }
        self.locked().publish(reserved, source, &mut inserted);
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
        let mut index = self.locked();
        let mut classes = Vec::with_capacity(members.len());
        let mut slots = Vec::new();
        for &(id, count) in members {
            let class = index.classes.get(&id)?;
            if class.retired || class.count() < count {
                return None;
            }
            slots.extend_from_slice(&class.slots[..count as usize]);
            classes.push(ClassSummary { id, key: class.key, count });
        }
        let pin = index.next_pin;
        index.next_pin += 1;
        for &(id, count) in members {
            if let Some(class) = index.classes.get_mut(&id) {
                class.pin(pin, count);
            }
        }
        drop(index);
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
            slots: u64::from(self.arena.slots()),
            held: sum(Class::count),
            pinned: sum(Class::pinned),
            recycled: index.recycled,
            classes: index.classes.len() as u64,
        }
    }

    fn source_of(&self, classes: &[ClassSummary], slot: u32) -> Option<SourceId> {
        let index = self.locked();
        let holds = |of: &ClassSummary| {
            let class = index.classes.get(&of.id)?;
            class.slots.contains(&slot).then_some(class.key.source)
        };
        classes.iter().find_map(holds)
    }

    fn unpin(&self, pin: u64, classes: &[ClassSummary]) {
        let mut index = self.locked();
        for of in classes {
            if let Some(class) = index.classes.get_mut(&of.id) {
                class.unpin(pin);
                if class.retired {
                    index.release(&self.arena, of.id, usize::MAX);
                }
            }
        }
    }

    fn locked(&self) -> MutexGuard<'_, Index> {
        // Nothing panics while the index is between two states; a poisoned lock is as good.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn reserve<'a>(
        &mut self,
        arena: &Arena,
        arrivals: &'a [Arrival<'a>],
        source: SourceId,
        height: u32,
        inserted: &mut Inserted,
    ) -> Reserved<'a> {
        let mut taken = Vec::with_capacity(arrivals.len());
        // The value for which nothing could be recycled: nor can it for less.
        let mut hopeless = None;
        for (at, arrival) in arrivals.iter().enumerate() {
            let key = tree::key(&arrival.hash);
            if self.keys.contains(key) {
                inserted.duplicate += 1;
                continue;
            }
            let class = key_of(arrival, source);
            if !self.may_open(&class) {
                inserted.too_many_classes += 1;
                continue;
            }
            let value = class.value(height);
            if !self.has_free(arena) && hopeless.is_none_or(|of| value < of) {
                self.recycle(arena, height, value, arrivals.len() - at);
            }
            let Some(slot) = self.take_free(arena) else {
                hopeless = Some(value);
                inserted.no_room += 1;
                continue;
            };
            self.keys.insert(key);
            self.open_class(class);
            taken.push((slot, arrival));
        }
        Reserved { taken, retirements: self.retirements }
    }

    fn publish(&mut self, reserved: Reserved<'_>, source: SourceId, inserted: &mut Inserted) {
        let given_up = reserved.retirements != self.retirements;
        for (slot, arrival) in reserved.taken {
            if given_up {
                self.keys.remove(tree::key(&arrival.hash));
                self.free.push(slot.publish());
                inserted.retired += 1;
                continue;
            }
            let id = self.open_class(key_of(arrival, source));
            if let Some(class) = self.classes.get_mut(&id) {
                class.slots.push(slot.publish());
                inserted.stored += 1;
            }
        }
        self.drop_empty();
    }

    /// Whether the class exists or its source may have one more.
    fn may_open(&self, key: &ClassKey) -> bool {
        self.open.contains_key(key)
            || self.classes.len() < CLASSES_PER_SOURCE_MAX
            || self.open.keys().filter(|of| of.source == key.source).count()
                < CLASSES_PER_SOURCE_MAX
    }

    fn open_class(&mut self, key: ClassKey) -> ClassId {
        if let Some(&id) = self.open.get(&key) {
            return id;
        }
        let id = ClassId(self.next_class);
        self.next_class += 1;
        self.classes.insert(id, Class::new(key));
        self.open.insert(key, id);
        id
    }

    fn has_free(&self, arena: &Arena) -> bool {
        !self.free.is_empty() || self.untouched < arena.slots()
    }

    fn take_free(&mut self, arena: &Arena) -> Option<VacantSlot> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.untouched < arena.slots() => {
                self.untouched += 1;
                self.untouched - 1
            }
            None => return None,
        };
        // SAFETY: a slot of the free list, or one never used, has no token, is in no class and so
        // in no set; it is below the arena's number of slots.
        Some(unsafe { VacantSlot::claim(slot) })
    }

    /// Frees up to `want` slots of announcements that are worth less than `value`.
    fn recycle(&mut self, arena: &Arena, height: u32, value: CompactTarget, want: usize) {
        let mut victims: Vec<_> = self
            .classes
            .iter()
            .filter(|(_, class)| class.count() > class.pinned())
            .map(|(&id, class)| (class.key.value(height), class.key, id))
            .filter(|(worth, key, _)| {
                *worth > value || *worth == value && key.age(height) >= REPLACEABLE_AGE
            })
            .collect();
        victims.sort_by_key(|(worth, key, id)| (u32::MAX - worth.0, key.parent_height, *id));
        let mut left = want;
        for (_, _, id) in victims {
            if left == 0 {
                break;
            }
            let freed = self.release(arena, id, left);
            self.recycled += freed as u64;
            left -= freed;
        }
        self.drop_empty();
    }

    /// Frees up to `want` members of a class that no job refers to.
    fn release(&mut self, arena: &Arena, id: ClassId, want: usize) -> usize {
        let Some(class) = self.classes.get_mut(&id) else { return 0 };
        let mut freed = 0;
        while freed < want {
            let Some(slot) = class.pop_unpinned() else { break };
            // SAFETY: the slot was published in this class until now and is not claimed while the
            // lock is held.
            let hash = unsafe { arena.hash(slot) };
            self.keys.remove(tree::key(hash));
            self.free.push(slot);
            freed += 1;
        }
        freed
    }

    fn retire(&mut self, arena: &Arena, of: impl Fn(&ClassKey) -> bool) -> u64 {
        self.retirements += 1;
        let given_up: Vec<_> = self
            .classes
            .iter()
            .filter(|(_, class)| !class.retired && of(&class.key))
            .map(|(&id, class)| (id, class.count()))
            .collect();
        for &(id, _) in &given_up {
            if let Some(class) = self.classes.get_mut(&id) {
                class.retired = true;
                let key = class.key;
                self.open.remove(&key);
            }
            self.release(arena, id, usize::MAX);
        }
        self.drop_empty();
        given_up.iter().map(|&(_, count)| u64::from(count)).sum()
    }

    fn drop_empty(&mut self) {
        let open = &mut self.open;
        self.classes.retain(|_, class| {
            let keep = class.count() > 0;
            if !keep && !class.retired {
                open.remove(&class.key);
            }
            keep
        });
    }
}

fn key_of(arrival: &Arrival<'_>, source: SourceId) -> ClassKey {
    ClassKey { parent_height: arrival.parent_height, work_bits: arrival.work_bits, source }
}

#[cfg(test)]
mod tests;
