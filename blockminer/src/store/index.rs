//! The index of the store: which slots are free, which are in which class, and every decision on
//! them. All of it lies in main memory; a restart makes it anew from the marks of the arena.

use std::collections::{BTreeMap, HashMap};
use std::io;

use packetcrypt_core::block::tree;
use packetcrypt_core::bytes::CompactTarget;
use packetcrypt_core::params::ANN_WAIT_BLOCKS;

use super::arena::{Arena, VacantSlot};
use super::keys::KeySet;
use super::landing::Landed;
use super::{CLASSES_PER_SOURCE_MAX, Epoch, Inserted};
use crate::class::{Class, ClassId, ClassKey, ClassSummary, SourceId};

/// Age from which an announcement may be replaced by one of the same value.
const REPLACEABLE_AGE: u32 = ANN_WAIT_BLOCKS + 1;

/// The index. Slots that are neither in a class nor lent to a landing are free.
pub(super) struct Index {
    pub(super) classes: BTreeMap<ClassId, Class>,
    open: HashMap<ClassKey, ClassId>,
    pub(super) keys: KeySet,
    /// Announcements in classes at most; the arena has more slots, for landings.
    capacity: u32,
    held: u32,
    pub(super) free: Vec<u32>,
    /// Slots from here on were never used.
    pub(super) untouched: u32,
    /// All slots of the arena.
    slots: u32,
    pub(super) lent: u32,
    next_class: u64,
    next_pin: u64,
    /// Counts retirements, so that arrivals judged before are not published after.
    retirements: u64,
    pub(super) recycled: u64,
}

impl Index {
    /// Of an arena of `slots` free slots, `capacity` of which may be in classes at a time.
    ///
    /// # Errors
    /// When the system does not give the address space.
    pub(super) fn new(capacity: u32, slots: u32, huge_pages: bool) -> io::Result<Index> {
        Ok(Index {
            classes: BTreeMap::new(),
            open: HashMap::new(),
            keys: KeySet::new(capacity as usize, rand::random(), huge_pages)?,
            capacity,
            held: 0,
            free: Vec::new(),
            untouched: 0,
            slots,
            lent: 0,
            next_class: 0,
            next_pin: 0,
            retirements: 0,
            recycled: 0,
        })
    }

    pub(super) fn retirements(&self) -> u64 {
        self.retirements
    }

    /// Takes up slots that were found sealed, and no others; all slots are in one of the two
    /// lists. A key that is there twice frees the second slot.
    pub(super) fn restore(&mut self, arena: &Arena, found: Vec<(ClassKey, Vec<u32>)>) {
        let mut used = vec![false; self.slots as usize];
        for (key, slots) in found {
            let id = self.open_class(key);
            for batch in slots.chunks(64) {
                // SAFETY: the slots are sealed, and nobody else has the arena yet.
                let hashes: Vec<_> =
                    batch.iter().map(|slot| tree::key(unsafe { arena.hash(*slot) })).collect();
                self.keys.touch(&hashes);
                for (slot, hash) in batch.iter().zip(hashes) {
                    if self.held < self.capacity && self.keys.insert(hash) {
                        self.publish(id, *slot);
                        used[*slot as usize] = true;
                    } else {
                        arena.unseal(*slot);
                    }
                }
            }
        }
        self.drop_empty();
        self.untouched = self.slots;
        // The last one is taken first: slots are used in ascending order.
        self.free = (0..self.slots).rev().filter(|slot| !used[*slot as usize]).collect();
    }

    /// Lends free slots to a landing; as many as there are beyond those for announcements.
    pub(super) fn lend(&mut self, want: usize) -> Vec<VacantSlot> {
        let spare = (self.slots - self.capacity - self.lent) as usize;
        let lent: Vec<_> = (0..want.min(spare)).map_while(|_| self.take_free()).collect();
        self.lent += lent.len() as u32;
        lent
    }

    pub(super) fn take_back(&mut self, slots: Vec<VacantSlot>) {
        self.lent -= slots.len() as u32;
        // Turned round, so that they are lent in the same order again.
        self.free.extend(slots.iter().rev().map(VacantSlot::number));
    }

    /// Publishes the arrivals that are new and worth it; each one's place in the landing gets a
    /// free slot instead.
    pub(super) fn admit(
        &mut self,
        arena: &Arena,
        landing: &mut [VacantSlot],
        arrivals: &[Landed],
        source: SourceId,
        height: u32,
        epoch: Epoch,
    ) -> Inserted {
        let mut inserted = Inserted::default();
        if epoch.0 != self.retirements {
            inserted.retired = arrivals.len() as u64;
            return inserted;
        }
        let keys: Vec<_> = arrivals.iter().map(|arrival| tree::key(&arrival.hash)).collect();
        self.keys.touch(&keys);
        // The value for which nothing could be recycled: nor can it for less.
        let mut hopeless = None;
        // The class of the arrival before, which is there as long as nothing is recycled.
        let mut open: Option<(ClassKey, ClassId)> = None;
        for (at, (arrival, key)) in arrivals.iter().zip(keys).enumerate() {
            if self.keys.contains(key) {
                inserted.duplicate += 1;
                continue;
            }
            let Landed { parent_height, work_bits, .. } = *arrival;
            let class = ClassKey { parent_height, work_bits, source };
            let known = open.filter(|(of, _)| *of == class).map(|(_, id)| id);
            if known.is_none() && !self.may_open(&class) {
                inserted.too_many_classes += 1;
                continue;
            }
            let mut known = known;
            if self.is_full() {
                let value = class.value(height);
                if hopeless.is_none_or(|of| value < of) {
                    self.recycle(arena, height, value, arrivals.len() - at);
                    known = None;
                }
                if self.is_full() {
                    hopeless = Some(value);
                }
            }
            // One is free then: announcements and landings together have fewer slots than there are.
            let free = if self.is_full() { None } else { self.take_free() };
            let Some(free) = free else {
                inserted.no_room += 1;
                continue;
            };
            self.keys.insert(key);
            let id = known.unwrap_or_else(|| self.open_class(class));
            open = Some((class, id));
            let slot = std::mem::replace(&mut landing[arrival.at], free);
            self.publish(id, arena.seal(slot, &class));
            inserted.stored += 1;
        }
        self.drop_empty();
        inserted
    }

    fn publish(&mut self, id: ClassId, slot: u32) {
        if let Some(class) = self.classes.get_mut(&id) {
            class.slots.push(slot);
            self.held += 1;
        }
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

    fn is_full(&self) -> bool {
        self.held == self.capacity
    }

    fn take_free(&mut self) -> Option<VacantSlot> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.untouched < self.slots => {
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
            arena.unseal(slot);
            // SAFETY: the slot was published in this class until now and is not claimed while the
            // lock is held.
            let hash = unsafe { arena.hash(slot) };
            self.keys.remove(tree::key(hash));
            self.free.push(slot);
            freed += 1;
        }
        self.held -= freed as u32;
        freed
    }

    /// Takes hold of members; the number of the pin, and what was pinned.
    pub(super) fn pin(
        &mut self,
        members: &[(ClassId, u32)],
    ) -> Option<(u64, Vec<ClassSummary>, Vec<u32>)> {
        let mut classes = Vec::with_capacity(members.len());
        let count = members.iter().map(|(_, count)| *count as usize).sum();
        let mut slots = Vec::with_capacity(count);
        for &(id, count) in members {
            let class = self.classes.get(&id)?;
            if class.retired || class.count() < count {
                return None;
            }
            slots.extend_from_slice(&class.slots[..count as usize]);
            classes.push(ClassSummary { id, key: class.key, count });
        }
        let pin = self.next_pin;
        self.next_pin += 1;
        for &(id, count) in members {
            if let Some(class) = self.classes.get_mut(&id) {
                class.pin(pin, count);
            }
        }
        Some((pin, classes, slots))
    }

    /// The members of classes at these places.
    pub(super) fn members(
        &self,
        of: impl Iterator<Item = (ClassId, std::ops::Range<u32>)>,
    ) -> Vec<u32> {
        let mut slots = Vec::new();
        for (id, places) in of {
            let class = self.classes.get(&id).map_or(&[][..], |class| &class.slots);
            slots.extend(class.get(places.start as usize..places.end as usize).unwrap_or(&[]));
        }
        slots
    }

    pub(super) fn unpin(&mut self, arena: &Arena, pin: u64, classes: &[ClassSummary]) {
        for of in classes {
            if let Some(class) = self.classes.get_mut(&of.id) {
                class.unpin(pin);
                if class.retired {
                    self.release(arena, of.id, usize::MAX);
                }
            }
        }
        self.drop_empty();
    }

    /// Gives classes up. A job may still refer to their members, but a restart finds none of them.
    pub(super) fn retire(&mut self, arena: &Arena, of: impl Fn(&ClassKey) -> bool) -> u64 {
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
                class.slots.iter().for_each(|slot| arena.unseal(*slot));
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
