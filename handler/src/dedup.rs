//! Which announcements of one parent block are known: a fixed-capacity table of 64-bit hashes.
//!
//! One table belongs to one parent block. It never forgets: it goes as a whole when its block
//! leaves the slots, and when it is full the handler is *overloaded* (design, section 6). All
//! operations take `&self`, take no lock and may be called from every core at once.
//!
//! A hash goes through two steps, so that a post that is refused or dies in the middle leaves
//! nothing behind that counts as a duplicate:
//!
//! ```text
//! absent ── reserve ──> reserved ── commit ──> committed
//!               ^           │
//!               └─ release ─┘
//! ```
//!
//! Open addressing with linear probing over twice as many places as the capacity, so a probe is
//! short and always ends. A place holds the hash itself; 0 means empty (a dedup hash of 0 or
//! 2^64-1 is refused before, spec 05, 6.2). A released hash keeps its place until the table goes:
//! it took real work to get there, and the capacity bounds their number.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use packetcrypt_net::hw;

const ABSENT: u8 = 0;
const RESERVED: u8 = 1;
const COMMITTED: u8 = 2;

/// A key and a state.
const PLACE_BYTES: usize = size_of::<AtomicU64>() + size_of::<AtomicU8>();

/// The greatest capacity of a table, hashes: 36 GiB of places.
pub const CAPACITY_MAX: usize = 1 << 31;

/// Known hashes of one parent block, see the module.
#[derive(Debug)]
pub struct DedupTable {
    /// Untouched zero pages at first, huge ones where there are some: a hash lies anywhere, and with
    /// small pages each of the first few thousand would cost a page fault. The key of each place,
    /// then the state of each place.
    memory: MmapRaw,
    /// A power of two.
    places: usize,
    capacity: usize,
    used: AtomicUsize,
    shift: u32,
}

/// A place that the caller has reserved and must commit or release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a reserved hash must be committed or released"]
pub struct Entry(usize);

/// What [`DedupTable::reserve`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// New: it is the caller's now.
    Fresh(Entry),
    /// Reserved by somebody who has not committed yet.
    Reserved,
    /// Known: a duplicate.
    Committed,
    /// New, but the table holds as many hashes as it may.
    Full,
}

/// The table can not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory for a table of {capacity} hashes")]
pub struct NoMemory {
    /// The capacity that was wanted, hashes.
    pub capacity: usize,
}

impl DedupTable {
    /// An empty table for at most `capacity` hashes (1 to [`CAPACITY_MAX`], others are clamped).
    ///
    /// The memory, 18 to 36 bytes a hash, is taken at once but touched only as hashes come.
    pub fn new(capacity: usize) -> Result<Self, NoMemory> {
        let capacity = capacity.clamp(1, CAPACITY_MAX);
        let places = (capacity * 2).next_power_of_two();
        let memory = MmapOptions::new().len(places * PLACE_BYTES).map_anon();
        let memory = MmapRaw::from(memory.map_err(|_| NoMemory { capacity })?);
        // Small pages do as well, only slower.
        let _ = hw::ask_for_huge_pages(memory.as_ptr(), memory.len());
        Ok(Self {
            memory,
            places,
            capacity,
            used: AtomicUsize::new(0),
            shift: u64::BITS - places.trailing_zeros(),
        })
    }

    /// Whether `hash` is committed.
    pub fn is_committed(&self, hash: u64) -> bool {
        let mut place = self.home(hash);
        loop {
            // Asked for beside the key, also of a new hash: its reservation, which comes soon, then
            // waits for no memory. Here the waits for many hashes overlap.
            let state = self.state(place).load(Ordering::Acquire);
            match self.key(place).load(Ordering::Acquire) {
                0 => return false,
                key if key == hash => return self.is_committed_at(place, state),
                _ => place = self.next(place),
            }
        }
    }

    /// Whether the hash at its place is committed, whose state was `state` before the key was read.
    fn is_committed_at(&self, place: usize, state: u8) -> bool {
        state == COMMITTED || self.state(place).load(Ordering::Acquire) == COMMITTED
    }

    /// Reserves `hash` (not 0) for the caller, or says why not.
    pub fn reserve(&self, hash: u64) -> Reservation {
        debug_assert_ne!(hash, 0, "0 marks an empty place");
        let Some(place) = self.find_or_claim(hash) else { return Reservation::Full };
        let state = self.state(place);
        match state.compare_exchange(ABSENT, RESERVED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Reservation::Fresh(Entry(place)),
            Err(COMMITTED) => Reservation::Committed,
            Err(_) => Reservation::Reserved,
        }
    }

    /// The reserved hash becomes a known one.
    pub fn commit(&self, entry: Entry) {
        self.state(entry.0).store(COMMITTED, Ordering::Release);
    }

    /// The reserved hash is as if it had never come.
    pub fn release(&self, entry: Entry) {
        self.state(entry.0).store(ABSENT, Ordering::Release);
    }

    /// Hashes that hold a place (committed, reserved and released).
    pub fn len(&self) -> usize {
        self.used.load(Ordering::Relaxed).min(self.capacity)
    }

    /// Whether no hash holds a place.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The greatest number of hashes.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The place of `hash`, claimed when it is new; `None` when it is new and the table is full.
    fn find_or_claim(&self, hash: u64) -> Option<usize> {
        let mut place = self.home(hash);
        loop {
            match self.key(place).load(Ordering::Acquire) {
                0 => {
                    if self.used.fetch_add(1, Ordering::AcqRel) >= self.capacity {
                        self.used.fetch_sub(1, Ordering::AcqRel);
                        return None;
                    }
                    let claim = self.key(place).compare_exchange(
                        0,
                        hash,
                        Ordering::AcqRel,
                        Ordering::Acquire,
                    );
                    if claim.is_ok() {
                        return Some(place);
                    }
                    // Another core took the place. Look again: it may be the same hash.
                    self.used.fetch_sub(1, Ordering::AcqRel);
                }
                key if key == hash => return Some(place),
                _ => place = self.next(place),
            }
        }
    }

    /// The hashes of one handler agree in `hash mod n`, so the place is taken from the high bits
    /// of a product and not from the low bits of the hash.
    fn home(&self, hash: u64) -> usize {
        (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    fn next(&self, place: usize) -> usize {
        (place + 1) & (self.places - 1)
    }

    fn key(&self, place: usize) -> &AtomicU64 {
        assert!(place < self.places, "places come from `home` and `next`");
        // SAFETY: the mapping begins with `places` keys, lives as long as `self`, and begins at a
        // page, which aligns it. The word is accessed through this function only.
        unsafe { AtomicU64::from_ptr(self.memory.as_mut_ptr().cast::<u64>().add(place)) }
    }

    fn state(&self, place: usize) -> &AtomicU8 {
        assert!(place < self.places, "places come from `home` and `next`");
        // SAFETY: behind the keys there is a byte for each place; as for `key`.
        unsafe {
            let states = self.memory.as_mut_ptr().add(self.places * size_of::<AtomicU64>());
            AtomicU8::from_ptr(states.add(place))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn fresh(table: &DedupTable, hash: u64) -> Entry {
        match table.reserve(hash) {
            Reservation::Fresh(entry) => entry,
            other => panic!("{hash}: {other:?}"),
        }
    }

    #[test]
    fn a_hash_goes_through_its_states() {
        let table = DedupTable::new(4).unwrap();
        assert!(!table.is_committed(7));
        let entry = fresh(&table, 7);
        assert_eq!(table.reserve(7), Reservation::Reserved);
        assert!(!table.is_committed(7));
        table.release(entry);
        let entry = fresh(&table, 7);
        table.commit(entry);
        assert!(table.is_committed(7));
        assert_eq!(table.reserve(7), Reservation::Committed);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn full_refuses_the_new_and_knows_the_old() {
        let table = DedupTable::new(3).unwrap();
        for hash in 1..=3 {
            let entry = fresh(&table, hash);
            table.commit(entry);
        }
        assert_eq!(table.reserve(4), Reservation::Full);
        assert_eq!(table.len(), 3);
        for hash in 1..=3 {
            assert_eq!(table.reserve(hash), Reservation::Committed);
        }
        assert!(!table.is_committed(4));
    }

    #[test]
    fn capacity_one_and_wrap_around_of_the_probe() {
        let table = DedupTable::new(1).unwrap();
        let entry = fresh(&table, u64::MAX - 1);
        table.commit(entry);
        for hash in 1..100 {
            assert_eq!(table.reserve(hash), Reservation::Full);
        }
        assert!(table.is_committed(u64::MAX - 1));
    }

    #[test]
    fn cores_that_reserve_the_same_hashes_get_each_once() {
        const HASHES: u64 = 20_000;
        const CORES: u64 = 4;
        let table = DedupTable::new(HASHES as usize).unwrap();
        let won: u64 = std::thread::scope(|scope| {
            let cores: Vec<_> = (0..CORES)
                .map(|core| {
                    let table = &table;
                    scope.spawn(move || {
                        let mut won = 0;
                        for i in 0..HASHES {
                            let at = (i + core * HASHES / CORES) % HASHES;
                            let hash = (at + 1).wrapping_mul(0x5851_f42d_4c95_7f2d) | 1;
                            if let Reservation::Fresh(entry) = table.reserve(hash) {
                                table.commit(entry);
                                won += 1;
                            }
                        }
                        won
                    })
                })
                .collect();
            cores.into_iter().map(|core| core.join().unwrap()).sum()
        });
        let distinct: std::collections::HashSet<u64> =
            (0..HASHES).map(|at| (at + 1).wrapping_mul(0x5851_f42d_4c95_7f2d) | 1).collect();
        assert_eq!(won, distinct.len() as u64);
        assert_eq!(table.len(), distinct.len());
    }

    proptest! {
        #[test]
        fn behaves_as_a_map(operations in prop::collection::vec((1u64..24, 0u8..3), 0..200)) {
            let table = DedupTable::new(16).unwrap();
            let mut places: HashMap<u64, u8> = HashMap::new();
            let mut held: HashMap<u64, Entry> = HashMap::new();
            for (hash, operation) in operations {
                match operation {
                    0 => {
                        let want_full = !places.contains_key(&hash) && places.len() == 16;
                        match table.reserve(hash) {
                            Reservation::Fresh(entry) => {
                                prop_assert!(!want_full);
                                prop_assert_eq!(places.get(&hash).copied().unwrap_or(ABSENT), ABSENT);
                                places.insert(hash, RESERVED);
                                held.insert(hash, entry);
                            }
                            Reservation::Reserved => prop_assert_eq!(places[&hash], RESERVED),
                            Reservation::Committed => prop_assert_eq!(places[&hash], COMMITTED),
                            Reservation::Full => prop_assert!(want_full),
                        }
                    }
                    1 => if let Some(entry) = held.remove(&hash) {
                        table.commit(entry);
                        places.insert(hash, COMMITTED);
                    },
                    _ => if let Some(entry) = held.remove(&hash) {
                        table.release(entry);
                        places.insert(hash, ABSENT);
                    },
                }
                prop_assert_eq!(
                    table.is_committed(hash),
                    places.get(&hash).copied() == Some(COMMITTED)
                );
            }
        }
    }
}
