//! The keys of all announcements in the store: a fixed table that knows duplicates on arrival.
//!
//! Open addressing with linear probing, in huge pages where the system gives them: every key is looked
//! for at another place, and with small pages most of the time goes into finding out where that is.
//! Keys are the first 8 bytes of a hash, which a hostile
//! peer can choose freely as long as proofs are not checked, so the place of a key also depends
//! on a secret of this process.

use std::io;

use memmap2::{MmapMut, MmapOptions};
use packetcrypt_net::hw;
use zerocopy::FromBytes as _;

/// Cells for each key that the table may hold, as a fraction: keys fill at most two thirds.
const CELLS_NUMERATOR: usize = 3;
const CELLS_DENOMINATOR: usize = 2;
/// Cells of the smallest table.
const CELLS_MIN: usize = 8;
/// The content of a cell without a key. No announcement in the store has key 0 (spec 04, 4.1).
const EMPTY: u64 = 0;

/// Bytes that the table takes for each key of its capacity.
pub(crate) const KEY_BYTES: usize = 8 * CELLS_NUMERATOR / CELLS_DENOMINATOR;

/// A set of at most `capacity` keys other than 0.
pub(super) struct KeySet {
    memory: MmapMut,
    len: usize,
    capacity: usize,
    secret: u64,
}

impl KeySet {
    /// An empty set. `secret` should not be known to peers.
    ///
    /// # Errors
    /// When the system does not give the address space.
    pub(super) fn new(capacity: usize, secret: u64, huge_pages: bool) -> io::Result<KeySet> {
        let cells = (capacity * CELLS_NUMERATOR).div_ceil(CELLS_DENOMINATOR).max(CELLS_MIN);
        // Zeros, which are empty cells.
        let memory = MmapOptions::new().len(cells * size_of::<u64>()).map_anon()?;
        if huge_pages {
            // Without them it works too; what the arena has is told at the start.
            let _ = hw::ask_for_huge_pages(memory.as_ptr(), memory.len());
        }
        Ok(KeySet { memory, len: 0, capacity, secret: secret | 1 })
    }

    fn cells(&self) -> &[u64] {
        // A mapping begins with a page, and was made of whole cells.
        <[u64]>::ref_from_bytes(&self.memory).unwrap_or_default()
    }

    fn cells_mut(&mut self) -> &mut [u64] {
        <[u64]>::mut_from_bytes(&mut self.memory).unwrap_or_default()
    }

    /// Looks at the cells where keys may be, so that the following calls find them in the cache: the
    /// reads of one call do not wait for each other.
    pub(super) fn touch(&self, keys: &[u64]) {
        let cells = self.cells();
        let found = keys.iter().map(|key| cells[home(self.secret, *key, cells.len())]);
        std::hint::black_box(found.fold(0, |sum: u64, cell| sum ^ cell));
    }

    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a key; false when it is there already, is 0, or the set is full.
    pub(super) fn insert(&mut self, key: u64) -> bool {
        if key == EMPTY || self.len == self.capacity {
            return false;
        }
        match self.find(key) {
            Ok(_) => false,
            Err(free) => {
                self.cells_mut()[free] = key;
                self.len += 1;
                true
            }
        }
    }

    /// Whether the key is there.
    pub(super) fn contains(&self, key: u64) -> bool {
        key != EMPTY && self.find(key).is_ok()
    }

    /// Takes a key out; false when it was not there.
    pub(super) fn remove(&mut self, key: u64) -> bool {
        if key == EMPTY {
            return false;
        }
        let Ok(mut hole) = self.find(key) else { return false };
        let secret = self.secret;
        let cells = self.cells_mut();
        let len = cells.len();
        // Close the gap, so that no search ends too early: move back each following key that may
        // lie in the hole, until a free cell ends the run.
        let mut at = after(hole, len);
        while cells[at] != EMPTY {
            let home = home(secret, cells[at], len);
            if distance(home, at, len) >= distance(hole, at, len) {
                cells[hole] = cells[at];
                hole = at;
            }
            at = after(at, len);
        }
        cells[hole] = EMPTY;
        self.len -= 1;
        true
    }

    /// The cell of this key, or the free cell where it would go.
    fn find(&self, key: u64) -> Result<usize, usize> {
        let cells = self.cells();
        let mut at = home(self.secret, key, cells.len());
        // There is always a free cell: keys fill two thirds at most.
        loop {
            match cells[at] {
                EMPTY => return Err(at),
                found if found == key => return Ok(at),
                _ => at = after(at, cells.len()),
            }
        }
    }
}

/// The first of `cells` where a key may be.
fn home(secret: u64, key: u64, cells: usize) -> usize {
    let mixed = (key ^ secret.rotate_left(32)).wrapping_mul(secret);
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(secret.rotate_left(17) | 1);
    ((u128::from(mixed) * cells as u128) >> 64) as usize
}

fn after(at: usize, cells: usize) -> usize {
    if at + 1 == cells { 0 } else { at + 1 }
}

fn distance(from: usize, to: usize, cells: usize) -> usize {
    if to >= from { to - from } else { to + cells - from }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_set_takes_no_more() {
        let mut set = KeySet::new(3, 99, false).unwrap();
        assert!(set.insert(1) && set.insert(2) && set.insert(u64::MAX));
        assert!(!set.insert(4));
        assert!(set.remove(2) && set.insert(4));
        assert_eq!(set.len(), 3);
    }

    #[test]
    fn key_0_is_never_in() {
        let mut set = KeySet::new(3, 99, false).unwrap();
        assert!(!set.insert(0));
        assert!(!set.contains(0) && !set.remove(0));
    }

    proptest! {
        /// Few different keys in a small table, so that runs of cells are long and wrap around.
        #[test]
        fn behaves_like_a_set(secret: u64, steps in prop::collection::vec((any::<bool>(), 1_u64..40), 0..400)) {
            let mut set = KeySet::new(24, secret, true).unwrap();
            let mut model = HashSet::new();
            for (add, key) in steps {
                if add {
                    let fits = model.len() < 24;
                    prop_assert_eq!(set.insert(key), fits && model.insert(key));
                } else {
                    prop_assert_eq!(set.remove(key), model.remove(&key));
                }
                prop_assert_eq!(set.len(), model.len());
                for key in 1..40 {
                    prop_assert_eq!(set.contains(key), model.contains(&key));
                }
            }
        }
    }
}
