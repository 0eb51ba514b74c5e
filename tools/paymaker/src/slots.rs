//! Announcement events, aggregated by minute (spec 05, 12.3 "Slots" and 16.4).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use indexmap::IndexMap;

/// What an address did in one slot: plain sums in the order of arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Entry {
    /// Credit.
    pub credit: f64,
    /// Expected hashes.
    pub encryptions: f64,
    /// Announcements.
    pub accepted: f64,
}

/// One slot.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    /// Who did what, in order of first arrival.
    pub entries: IndexMap<Arc<str>, Entry>,
    /// Event ids (reference rule only); `None` when they were dropped.
    ids: Option<HashSet<Arc<str>>>,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It was added.
    Added,
    /// It was there already.
    Duplicate,
    /// Its slot is too old to tell duplicates.
    Lost,
}

/// Time of a slot as a key that is ordered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ordered(pub(crate) f64);
impl Eq for Ordered {}
impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// The slots.
#[derive(Clone, Debug)]
pub struct Slots {
    timespan_ms: f64,
    keep: f64,
    is_reference: bool,
    slots: BTreeMap<Ordered, Slot>,
    /// Our rule: one set for all slots that are new enough, with the slot of each id.
    ids: HashMap<Arc<str>, Ordered>,
}

impl Slots {
    /// Slots of `timespan_ms`, the newest `keep` of which know their event ids; `is_reference`
    /// chooses the rule of the reference (spec 05, 12.3) instead of ours (16.4).
    #[must_use]
    pub fn new(timespan_ms: f64, keep: f64, is_reference: bool) -> Self {
        Self { timespan_ms, keep, is_reference, slots: BTreeMap::new(), ids: HashMap::new() }
    }

    /// Newest to oldest.
    pub fn newest_first(&self) -> impl Iterator<Item = (f64, &Slot)> {
        self.slots.iter().rev().map(|(time, slot)| (time.0, slot))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Time of the newest, ms.
    #[must_use]
    pub fn newest(&self) -> Option<f64> {
        self.slots.last_key_value().map(|(time, _)| time.0)
    }

    /// Adds an event.
    pub fn insert(&mut self, time: f64, id: &Arc<str>, pay_to: &str, add: Entry) -> Inserted {
        let key = if self.is_reference {
            let key = self.reference_slot(time);
            let slot = self.slots.entry(key).or_insert_with(Slot::with_ids);
            let Some(ids) = &mut slot.ids else { return Inserted::Lost };
            if !ids.insert(id.clone()) {
                return Inserted::Duplicate;
            }
            key
        } else {
            let t = self.timespan_ms;
            let key = Ordered((time / t).floor() * t + t);
            if self.newest().is_some_and(|newest| key.0 <= newest - t * self.keep) {
                return Inserted::Lost;
            }
            if self.ids.contains_key(id) {
                return Inserted::Duplicate;
            }
            let is_newest = self.newest().is_none_or(|newest| key.0 > newest);
            self.ids.insert(id.clone(), key);
            if is_newest {
                let bound = key.0 - t * self.keep;
                self.ids.retain(|_, slot| slot.0 > bound);
            }
            key
        };
        let slot = self.slots.entry(key).or_default();
        let entry = match slot.entries.get_mut(pay_to) {
            Some(entry) => entry,
            None => slot.entries.entry(pay_to.into()).or_default(),
        };
        entry.credit += add.credit;
        entry.encryptions += add.encryptions;
        entry.accepted += add.accepted;
        Inserted::Added
    }

    /// The slot of the reference's rule: one step after the newest that is not later, even after a
    /// long gap; the oldest when all are later.
    fn reference_slot(&self, time: f64) -> Ordered {
        let mut found = None;
        for slot in self.slots.keys().rev() {
            if time < slot.0 {
                found = Some(*slot);
            } else {
                return found.unwrap_or(Ordered(slot.0 + self.timespan_ms));
            }
        }
        found.unwrap_or(Ordered(time - time % self.timespan_ms))
    }

    /// Removes slots older than `expiry` and forgets the ids of old ones (spec 05, 12.4).
    pub fn collect_garbage(&mut self, expiry: f64) {
        let newest = self.newest();
        self.slots = self.slots.split_off(&Ordered(expiry));
        if self.is_reference {
            if let Some(newest) = newest {
                let bound = Ordered(newest - self.timespan_ms * self.keep);
                self.slots.range_mut(..=bound).for_each(|(_, slot)| slot.ids = None);
            }
        } else {
            self.ids.retain(|_, slot| slot.0 >= expiry);
        }
    }
}

impl Slot {
    fn with_ids() -> Self {
        Self { entries: IndexMap::new(), ids: Some(HashSet::new()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: f64 = 60_000.0;

    fn add(slots: &mut Slots, time: f64, id: &str) -> Inserted {
        let entry = Entry { credit: 1.0, encryptions: 2.0, accepted: 3.0 };
        slots.insert(time, &id.into(), "a", entry)
    }

    fn times(slots: &Slots) -> Vec<f64> {
        slots.newest_first().map(|(time, _)| time / T).collect()
    }

    #[test]
    fn ours_is_the_end_of_the_minute_after_any_gap() {
        let mut slots = Slots::new(T, 10.0, false);
        assert_eq!(add(&mut slots, 0.0, "a"), Inserted::Added);
        assert_eq!(add(&mut slots, T - 1.0, "b"), Inserted::Added);
        assert_eq!(add(&mut slots, 5.0 * T, "c"), Inserted::Added);
        assert_eq!(add(&mut slots, 2.0 * T, "d"), Inserted::Added);
        assert_eq!(times(&slots), [6.0, 3.0, 1.0]);
    }

    #[test]
    fn ours_never_credits_twice_and_loses_what_is_too_old() {
        let mut slots = Slots::new(T, 10.0, false);
        assert_eq!(add(&mut slots, 0.0, "a"), Inserted::Added);
        assert_eq!(add(&mut slots, 8.0 * T, "b"), Inserted::Added);
        assert_eq!(add(&mut slots, 0.0, "a"), Inserted::Duplicate);
        assert_eq!(add(&mut slots, 3.0 * T, "a"), Inserted::Duplicate);
        // Newest slot 10: slot 1 is still newer than 0.
        assert_eq!(add(&mut slots, 9.0 * T, "c"), Inserted::Added);
        assert_eq!(add(&mut slots, 0.0, "a"), Inserted::Duplicate);
        // Newest slot 11: slot 1 is now `<=` 11 - 10.
        assert_eq!(add(&mut slots, 10.0 * T, "d"), Inserted::Added);
        assert_eq!(add(&mut slots, 0.0, "a"), Inserted::Lost);
        assert_eq!(add(&mut slots, T, "e"), Inserted::Added);
        // The id left the set with its slot.
        assert_eq!(add(&mut slots, 10.0 * T, "a"), Inserted::Added);
    }

    #[test]
    fn reference_steps_once_after_a_gap_and_credits_the_first_again() {
        let mut slots = Slots::new(T, 10.0, true);
        assert_eq!(add(&mut slots, 30.0, "a"), Inserted::Added);
        assert_eq!(times(&slots), [0.0]);
        assert_eq!(add(&mut slots, 30.0, "a"), Inserted::Added);
        assert_eq!(add(&mut slots, 9.0 * T, "b"), Inserted::Added);
        assert_eq!(times(&slots), [2.0, 1.0, 0.0]);
    }

    #[test]
    fn reference_drops_id_sets_at_the_limit_itself() {
        let mut slots = Slots::new(T, 2.0, true);
        for (at, id) in [(0.0, "a"), (T, "b"), (2.0 * T, "c")] {
            add(&mut slots, at, id);
        }
        assert_eq!(times(&slots), [2.0, 1.0, 0.0]);
        slots.collect_garbage(0.0);
        // The limit is 0: the slot at 0 has lost its ids, that at 1 has not.
        assert_eq!(add(&mut slots, -5.0, "x"), Inserted::Lost);
        assert_eq!(add(&mut slots, 1.0, "b"), Inserted::Duplicate);
        add(&mut slots, 3.0 * T, "d");
        assert_eq!(add(&mut slots, 1.0, "y"), Inserted::Added, "until garbage is collected");
        slots.collect_garbage(0.0);
        assert_eq!(add(&mut slots, 1.0, "b"), Inserted::Lost);
        assert_eq!(add(&mut slots, T, "c"), Inserted::Duplicate);
    }

    #[test]
    fn a_slot_at_the_age_limit_stays() {
        for is_reference in [false, true] {
            let mut slots = Slots::new(T, 10.0, is_reference);
            add(&mut slots, 1.0, "a");
            let oldest = slots.newest().expect("one");
            slots.collect_garbage(oldest);
            assert_eq!(slots.len(), 1);
            slots.collect_garbage(oldest + 1.0);
            assert!(slots.is_empty());
        }
    }
}
