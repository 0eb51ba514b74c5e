//! What a job holds of the store: slots that stay as they are.

use std::sync::Arc;

use packetcrypt_core::block::tree;
use packetcrypt_core::bytes::Hash32;
use packetcrypt_core::params::ANNOUNCEMENT_BYTES;

use super::order::{self, Keys, SlotSet};
use super::{LayerMemory, Store};
use crate::class::{ClassId, ClassSummary, SourceId};

/// Of what is in a base, at least this part must be in the new set for a merge to pay.
const MERGE_PART_MIN: f64 = 0.5;

/// Announcements of the store, by number. They can not be recycled as long as this lives.
pub struct PinnedSet {
    store: Arc<Store>,
    pin: u64,
    classes: Vec<ClassSummary>,
    slots: Vec<u32>,
    /// The member that [`PinnedSet::make_odd`] dropped.
    left_out: Option<u32>,
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
        PinnedSet { store, pin, classes, slots, left_out: None }
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

    /// The announcement with this number, as near to a memory node as there is a copy of it.
    ///
    /// # Panics
    /// When there are not that many.
    #[must_use]
    pub fn announcement_on(&self, node: usize, number: usize) -> &[u8; ANNOUNCEMENT_BYTES] {
        // SAFETY: as `announcement`.
        unsafe { self.store.arena.announcement_on(node, self.slots[number]) }
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

    /// Who sent the announcement with this number.
    ///
    /// # Panics
    /// When there are not that many.
    #[must_use]
    pub fn source_of(&self, number: usize) -> SourceId {
        self.store.source_of(self.slots[number])
    }

    /// Memory for the layers of a tree over announcements of the store.
    pub(crate) fn layer_memory(&self) -> &Arc<LayerMemory> {
        &self.store.layers
    }

    /// Brings the announcements in the order of the index and drops those that may not be in a tree
    /// (spec 04, 4.1). A set that is in that order already, taken from the same store, saves most
    /// of the work as far as the two have the same members.
    #[must_use]
    pub fn into_index(mut self, base: Option<&PinnedSet>, threads: usize) -> PinnedSet {
        // SAFETY: both sets keep their slots as they are while they are borrowed or owned here.
        let keys = unsafe { Keys::new(&self.store.arena) };
        let base = base.filter(|base| Arc::ptr_eq(&base.store, &self.store));
        let order = match base.and_then(|base| base.difference_to(&self)) {
            Some(Difference { before, gone, added }) => {
                order::merge(keys, before, &gone, &added, threads)
            }
            None => order::sort(keys, &self.slots, threads),
        };
        self.slots = order;
        self
    }

    /// How this index differs from a set that is in the order of its classes; `None` when too much.
    fn difference_to<'a>(&'a self, new: &PinnedSet) -> Option<Difference<'a>> {
        let count_in = |set: &PinnedSet, id: ClassId| {
            set.classes.iter().find(|class| class.id == id).map_or(0, |class| class.count)
        };
        let mut added = Vec::new();
        let mut rest = new.slots.as_slice();
        for class in &new.classes {
            let (members, others) = rest.split_at(class.count as usize);
            rest = others;
            let known = count_in(self, class.id).min(class.count);
            added.extend_from_slice(&members[known as usize..]);
        }
        let kept = new.slots.len() - added.len();
        if (kept as f64) < MERGE_PART_MIN * self.slots.len().max(new.slots.len()) as f64 {
            return None;
        }
        let gone = self.classes.iter().filter_map(|class| {
            let kept = count_in(new, class.id).min(class.count);
            (kept < class.count).then_some((class.id, kept..class.count))
        });
        let gone = self.store.locked().members(gone);
        let gone = SlotSet::of(gone.into_iter(), self.store.arena.slots());
        added.extend(self.left_out.filter(|slot| !gone.contains(*slot)));
        Some(Difference { before: &self.slots, gone, added })
    }

    /// Drops the last announcement of an even number of them: a drawn one beside the pad has no
    /// proof that everybody accepts (spec 04, 5.4).
    pub fn make_odd(&mut self) {
        if tree::odd_count(self.slots.len() as u64) as usize != self.slots.len() {
            self.left_out = self.slots.pop();
        }
    }
}

/// Two sets, one of them an index.
struct Difference<'a> {
    /// The index.
    before: &'a [u32],
    /// Members of it that the other set has not.
    gone: SlotSet,
    /// Members of the other set that the index was not made of.
    added: Vec<u32>,
}

impl Drop for PinnedSet {
    fn drop(&mut self) {
        self.store.unpin(self.pin, &self.classes);
    }
}
