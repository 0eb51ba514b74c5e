//! The keys of all announcements in the store: a fixed table that knows duplicates on arrival.
//!
//! Open addressing with linear probing. Keys are the first 8 bytes of a hash, which a hostile
//! peer can choose freely as long as proofs are not checked, so the place of a key also depends
//! on a secret of this process.

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
    cells: Vec<u64>,
    len: usize,
    capacity: usize,
    secret: u64,
}

impl KeySet {
    /// An empty set. `secret` should not be known to peers.
    pub(super) fn new(capacity: usize, secret: u64) -> KeySet {
        let cells = (capacity * CELLS_NUMERATOR).div_ceil(CELLS_DENOMINATOR).max(CELLS_MIN);
        KeySet { cells: vec![EMPTY; cells], len: 0, capacity, secret: secret | 1 }
    }

    /// Looks at the cells where keys may be, so that the following calls find them in the cache: the
    /// reads of one call do not wait for each other.
    pub(super) fn touch(&self, keys: &[u64]) {
        let cells = keys.iter().map(|key| self.cells[self.home(*key)]);
        std::hint::black_box(cells.fold(0, |sum: u64, cell| sum ^ cell));
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
                self.cells[free] = key;
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
        // Close the gap, so that no search ends too early: move back each following key that may
        // lie in the hole, until a free cell ends the run.
        let mut at = self.after(hole);
        while self.cells[at] != EMPTY {
            let home = self.home(self.cells[at]);
            if self.distance(home, at) >= self.distance(hole, at) {
                self.cells[hole] = self.cells[at];
                hole = at;
            }
            at = self.after(at);
        }
        self.cells[hole] = EMPTY;
        self.len -= 1;
        true
    }

    /// The cell of this key, or the free cell where it would go.
    fn find(&self, key: u64) -> Result<usize, usize> {
        let mut at = self.home(key);
        // There is always a free cell: keys fill two thirds at most.
        loop {
            match self.cells[at] {
                EMPTY => return Err(at),
                found if found == key => return Ok(at),
                _ => at = self.after(at),
            }
        }
    }

    fn home(&self, key: u64) -> usize {
        let mixed = (key ^ self.secret.rotate_left(32)).wrapping_mul(self.secret);
        let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(self.secret.rotate_left(17) | 1);
        ((u128::from(mixed) * self.cells.len() as u128) >> 64) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.cells.len() { 0 } else { at + 1 }
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.cells.len() - from }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_set_takes_no_more() {
        let mut set = KeySet::new(3, 99);
        assert!(set.insert(1) && set.insert(2) && set.insert(u64::MAX));
        assert!(!set.insert(4));
        assert!(set.remove(2) && set.insert(4));
        assert_eq!(set.len(), 3);
    }

    #[test]
    fn key_0_is_never_in() {
        let mut set = KeySet::new(3, 99);
        assert!(!set.insert(0));
        assert!(!set.contains(0) && !set.remove(0));
    }

    proptest! {
        /// Few different keys in a small table, so that runs of cells are long and wrap around.
        #[test]
        fn behaves_like_a_set(secret: u64, steps in prop::collection::vec((any::<bool>(), 1_u64..40), 0..400)) {
            let mut set = KeySet::new(24, secret);
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
