//! Landings: vacant slots into which announcements are received before anything is known of them.

use std::io::IoSliceMut;
use std::sync::Arc;

use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_core::params::ANNOUNCEMENT_BYTES;

use super::arena::VacantSlot;
use super::{Epoch, Inserted, Store};
use crate::class::SourceId;

/// Vacant slots of one feed. What it receives lies in its final place at once; an announcement
/// that is admitted keeps its slot, and the landing gets another one for it.
pub struct Landing {
    store: Arc<Store>,
    slots: Vec<VacantSlot>,
}

/// An announcement in a landing, with what was read and computed from it.
#[derive(Clone, Copy, Debug)]
pub struct Landed {
    /// Its place in the landing.
    pub at: usize,
    /// Its hash (spec 04, 4.1).
    pub hash: Hash32,
    /// Its parent height.
    pub parent_height: u32,
    /// Its work target.
    pub work_bits: CompactTarget,
}

impl Landing {
    pub(super) fn new(store: Arc<Store>, slots: Vec<VacantSlot>) -> Landing {
        Landing { store, slots }
    }

    /// Number of places.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The first `count` places, in order, to be received into: adjacent slots are one part.
    ///
    /// # Panics
    /// When there are not that many.
    pub fn parts(&mut self, count: usize) -> Vec<IoSliceMut<'_>> {
        let arena = &self.store.arena;
        self.slots[..count]
            .chunk_by_mut(|a, b| a.number() + 1 == b.number())
            .map(|run| IoSliceMut::new(arena.vacant_run(run)))
            .collect()
    }

    /// A place, to be written.
    ///
    /// # Panics
    /// When there is no such place.
    pub fn at(&mut self, at: usize) -> &mut [u8; ANNOUNCEMENT_BYTES] {
        self.store.arena.vacant_bytes(&mut self.slots[at])
    }

    /// What was received at a place.
    ///
    /// # Panics
    /// When there is no such place.
    #[must_use]
    pub fn announcement(&self, at: usize) -> &[u8; ANNOUNCEMENT_BYTES] {
        // SAFETY: the slot is vacant and this landing its only owner, borrowed as long as the
        // reference lives; whatever bytes it has are an announcement as far as types go.
        unsafe { self.store.arena.announcement(self.slots[at].number()) }
    }

    /// Puts those in the store that are new and worth a slot. `height` is that of the next block,
    /// by which announcements are valued; `epoch` was taken before they were judged.
    ///
    /// # Panics
    /// When a place does not exist.
    pub fn admit(
        &mut self,
        arrivals: &[Landed],
        source: SourceId,
        height: u32,
        epoch: Epoch,
    ) -> Inserted {
        for arrival in arrivals {
            let slot = &mut self.slots[arrival.at];
            self.store.arena.set_hash(slot, &arrival.hash);
            self.store.arena.copy_to_nodes(slot);
        }
        let Landing { store, slots } = self;
        store.locked().admit(&store.arena, slots, arrivals, source, height, epoch)
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.store.locked().take_back(std::mem::take(&mut self.slots));
    }
}
