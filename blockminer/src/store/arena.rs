//! The arena: one mapped region of announcement slots and one of their hashes.
//!
//! A slot is in one of three hands at any time, and the tokens of this module say in which:
//! *vacant* ([`VacantSlot`]: one owner, may be written), *published* (in a class of the store, not
//! written), or *free* (in the store's free list, neither read nor written). The store takes a
//! published slot back only when no pinned set refers to it; see [`super`].

use std::io;

use memmap2::{MmapMut, MmapRaw};
use packetcrypt_core::bytes::Hash32;
use packetcrypt_core::params::ANNOUNCEMENT_BYTES;

/// Bytes of an announcement's hash.
pub(crate) const HASH_BYTES: usize = 32;

/// What the system gave for the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pages {
    /// Huge pages were asked for and the system took the advice.
    HugeAdvised,
    /// Ordinary pages.
    Ordinary,
}

/// A slot which only the holder of this value refers to.
#[derive(Debug)]
pub(super) struct VacantSlot(u32);

impl VacantSlot {
    /// Takes a slot in hand.
    ///
    /// # Safety
    /// The slot is below [`Arena::slots`], and nobody else has a token of it or reads it until
    /// this token was turned into a published slot.
    pub(super) unsafe fn claim(slot: u32) -> VacantSlot {
        VacantSlot(slot)
    }

    /// The number of the slot; the token ends, so that it is written no more.
    pub(super) fn publish(self) -> u32 {
        self.0
    }
}

/// The mapped slots.
pub(crate) struct Arena {
    announcements: MmapRaw,
    hashes: MmapRaw,
    slots: u32,
    pages: Pages,
}

impl Arena {
    /// Maps room for `slots` announcements. Memory is taken by the system at the first write.
    pub(super) fn map(slots: u32, huge_pages: bool) -> io::Result<Arena> {
        let announcements = anonymous(slots as usize * ANNOUNCEMENT_BYTES)?;
        let hashes = anonymous(slots as usize * HASH_BYTES)?;
        let advised = huge_pages && advise_huge(&announcements) && advise_huge(&hashes);
        let pages = if advised { Pages::HugeAdvised } else { Pages::Ordinary };
        Ok(Arena { announcements, hashes, slots, pages })
    }

    /// Number of slots.
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    /// Which pages the arena has.
    pub(crate) fn pages(&self) -> Pages {
        self.pages
    }

    /// Fills a slot.
    pub(super) fn write(
        &self,
        slot: &mut VacantSlot,
        announcement: &[u8; ANNOUNCEMENT_BYTES],
        hash: &Hash32,
    ) {
        let at = slot.0 as usize;
        assert!(slot.0 < self.slots, "slot {at} of {}", self.slots);
        // SAFETY: the token proves that nobody else reads or writes the slot, and the assertion
        // that it lies in both mappings; the sources are other memory.
        unsafe {
            let to = self.announcements.as_mut_ptr().add(at * ANNOUNCEMENT_BYTES);
            to.copy_from_nonoverlapping(announcement.as_ptr(), ANNOUNCEMENT_BYTES);
            let to = self.hashes.as_mut_ptr().add(at * HASH_BYTES);
            to.copy_from_nonoverlapping(hash.0.as_ptr(), HASH_BYTES);
        }
    }

    /// The announcement in a slot.
    ///
    /// # Safety
    /// The slot is below [`Arena::slots`], was published, and is not claimed as vacant again as
    /// long as the reference lives.
    pub(super) unsafe fn announcement(&self, slot: u32) -> &[u8; ANNOUNCEMENT_BYTES] {
        debug_assert!(slot < self.slots);
        // SAFETY: in the mapping and immutable, as the caller promises; bytes need no alignment.
        unsafe {
            let at = self.announcements.as_ptr().add(slot as usize * ANNOUNCEMENT_BYTES);
            &*at.cast::<[u8; ANNOUNCEMENT_BYTES]>()
        }
    }

    /// The hash of the announcement in a slot.
    ///
    /// # Safety
    /// As [`Arena::announcement`].
    pub(super) unsafe fn hash(&self, slot: u32) -> &Hash32 {
        debug_assert!(slot < self.slots);
        // SAFETY: in the mapping and immutable, as the caller promises; `Hash32` is 32 bytes
        // without alignment.
        unsafe { &*self.hashes.as_ptr().add(slot as usize * HASH_BYTES).cast::<Hash32>() }
    }
}

fn anonymous(bytes: usize) -> io::Result<MmapRaw> {
    Ok(MmapMut::map_anon(bytes.max(1))?.into())
}

#[cfg(target_os = "linux")]
fn advise_huge(map: &MmapRaw) -> bool {
    map.advise(memmap2::Advice::HugePage).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn advise_huge(_map: &MmapRaw) -> bool {
    false
}
