//! Memory for the layers of trees: in huge pages where they can be had, and used again.
//!
//! A miner builds trees all the time. New memory costs about as much as the hashing: the system has
//! to find and blank each page of it at the first write. So a tree that is dropped leaves its memory
//! to the next one.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use memmap2::{MmapMut, MmapOptions};
use packetcrypt_core::bytes::Hash32;
use packetcrypt_net::hw;
use zerocopy::FromBytes as _;

use super::TREES;
use super::arena::HASH_BYTES;

/// The memory for the trees of one store, [`TREES`] at a time.
pub(crate) struct LayerMemory {
    /// Hashes of the largest tree. The system gives the pages that a tree really needs.
    hashes_max: usize,
    huge_pages: bool,
    regions: Mutex<Regions>,
}

#[derive(Default)]
struct Regions {
    /// Of trees that were dropped.
    spare: Vec<MmapMut>,
    /// Regions that trees have.
    taken: usize,
}

impl LayerMemory {
    /// For trees of at most so many hashes.
    pub(super) fn new(hashes_max: usize, huge_pages: bool) -> Arc<LayerMemory> {
        Arc::new(LayerMemory { hashes_max, huge_pages, regions: Mutex::default() })
    }

    /// Memory for `len` hashes. What is in them means nothing.
    ///
    /// # Errors
    /// When the system does not give the address space, or no tree of the store is that large.
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> io::Result<Layers> {
        if len > self.hashes_max {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let mut regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
        let region = match regions.spare.pop() {
            Some(region) => region,
            None => self.map()?,
        };
        regions.taken += 1;
        Ok(Layers { region: Some(region), len, home: self.clone() })
    }

    fn map(&self) -> io::Result<MmapMut> {
        let bytes = self.hashes_max.checked_mul(HASH_BYTES).ok_or(io::ErrorKind::OutOfMemory)?;
        let region = MmapOptions::new().len(bytes.max(1)).map_anon()?;
        if self.huge_pages {
            // Without them it works too; what the arena has is told at the start.
            let _ = hw::ask_for_huge_pages(region.as_ptr(), region.len());
        }
        Ok(region)
    }

    /// Keeps a region when it is not one too many: a job that a solution still holds is a tree more
    /// than [`TREES`] for a moment.
    fn give_back(&self, region: MmapMut) {
        let mut regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
        regions.taken -= 1;
        if regions.taken + regions.spare.len() < TREES {
            regions.spare.push(region);
        }
    }
}

/// The hashes of one tree's layers.
pub(crate) struct Layers {
    /// There until this is dropped.
    region: Option<MmapMut>,
    len: usize,
    home: Arc<LayerMemory>,
}

impl Drop for Layers {
    fn drop(&mut self) {
        if let Some(region) = self.region.take() {
            self.home.give_back(region);
        }
    }
}

impl AsRef<[Hash32]> for Layers {
    fn as_ref(&self) -> &[Hash32] {
        let bytes = self.region.as_ref().map_or(&[][..], |region| &region[..self.len * HASH_BYTES]);
        // Hashes are bytes without alignment: this always succeeds.
        <[Hash32]>::ref_from_bytes(bytes).unwrap_or_default()
    }
}

impl AsMut<[Hash32]> for Layers {
    fn as_mut(&mut self) -> &mut [Hash32] {
        let bytes = self.len * HASH_BYTES;
        let region = self.region.as_mut().map_or(&mut [][..], |region| &mut region[..bytes]);
        <[Hash32]>::mut_from_bytes(region).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_regions_are_kept_as_trees_may_be() {
        let memory = LayerMemory::new(10, false);
        let spare = || memory.regions.lock().unwrap().spare.len();
        let mut first = memory.take(10).unwrap();
        first.as_mut()[9] = Hash32([7; 32]);
        let others = (memory.take(3).unwrap(), memory.take(0).unwrap());
        assert_eq!((others.0.as_ref().len(), others.1.as_ref().len()), (3, 0));
        drop(others);
        assert_eq!(spare(), TREES - 1);
        drop(first);
        assert_eq!(spare(), TREES);
        // It is the memory of before, not blanked again.
        assert_eq!(memory.take(10).unwrap().as_ref()[9], Hash32([7; 32]));
        assert!(memory.take(11).is_err());
    }
}
