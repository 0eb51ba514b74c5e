//! Classes: announcements that are worth the same.
//!
//! A class holds all announcements of one parent height and one work target that came from one
//! source. All its members have the same value at every height, so every choice (which to mine
//! with, which to recycle) is made among classes. The source belongs to the class because what a
//! peer sent must be forgotten together when that peer turns out to send bad announcements.
//!
//! Members are kept in the order of their arrival. A job refers to a *prefix* of a class, so a
//! class can grow and shrink at its end while it is mined with, and what a job refers to is one
//! number.

use packetcrypt_core::announcement::Announcement;
use packetcrypt_core::bytes::CompactTarget;
use packetcrypt_core::difficulty;
use packetcrypt_core::params::ANN_WAIT_BLOCKS;

/// The word that stands for "not usable" (spec 04, 2.3).
pub const UNUSABLE: CompactTarget = CompactTarget(u32::MAX);

/// A class of the store. No two classes of a process have the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(pub u64);

/// A peer that sends announcements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u32);

/// What the members of a class have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClassKey {
    /// Height of the block that the announcements were made on.
    pub parent_height: u32,
    /// Work target of the announcements.
    pub work_bits: CompactTarget,
    /// Who sent them.
    pub source: SourceId,
}

impl ClassKey {
    /// The class of an announcement.
    #[must_use]
    pub(crate) fn of(announcement: &Announcement, source: SourceId) -> ClassKey {
        let (parent_height, work_bits) =
            (announcement.parent_block_height(), announcement.work_bits());
        ClassKey { parent_height, work_bits, source }
    }

    /// Age in a block of this height, 0 when the parent is not below it.
    #[must_use]
    pub fn age(&self, height: u32) -> u32 {
        height.saturating_sub(self.parent_height)
    }

    /// The aged target in a block of this height, [`UNUSABLE`] while it waits and when it is too
    /// old (spec 04, 2.3).
    #[must_use]
    pub fn aged_target(&self, height: u32) -> CompactTarget {
        difficulty::aged_target(self.work_bits, self.age(height), crate::PROOF_VERSION)
    }

    /// What an announcement is worth to a miner who mines this height now: its aged target, where
    /// one that still waits counts as what it will be when it can be used first. Greater words
    /// are worth less, [`UNUSABLE`] nothing.
    #[must_use]
    pub fn value(&self, height: u32) -> CompactTarget {
        let age = self.age(height).max(ANN_WAIT_BLOCKS);
        difficulty::aged_target(self.work_bits, age, crate::PROOF_VERSION)
    }
}

/// A class as the choice of the set sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassSummary {
    /// The class.
    pub id: ClassId,
    /// What its members have in common.
    pub key: ClassKey,
    /// Number of members.
    pub count: u32,
}

/// One class of the store.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) key: ClassKey,
    /// Slots in the order of arrival. Only ever pushed to and popped from.
    pub(crate) slots: Vec<u32>,
    /// Prefixes that jobs refer to, with the pin's number.
    pins: Vec<(u64, u32)>,
    /// No longer to be mined with: its parent block left the chain, or its source was dropped.
    pub(crate) retired: bool,
}

impl Class {
    pub(crate) fn new(key: ClassKey) -> Class {
        Class { key, slots: Vec::new(), pins: Vec::new(), retired: false }
    }

    /// Number of members.
    pub(crate) fn count(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Number of members that a job refers to: the first ones.
    pub(crate) fn pinned(&self) -> u32 {
        self.pins.iter().map(|&(_, prefix)| prefix).max().unwrap_or(0)
    }

    /// Holds on to the first `prefix` members.
    pub(crate) fn pin(&mut self, pin: u64, prefix: u32) {
        assert!(prefix <= self.count(), "prefix {prefix} of {} members", self.count());
        self.pins.push((pin, prefix));
    }

    /// Ends a pin.
    pub(crate) fn unpin(&mut self, pin: u64) {
        self.pins.retain(|&(of, _)| of != pin);
    }

    /// Takes out the newest member that no job refers to.
    pub(crate) fn pop_unpinned(&mut self) -> Option<u32> {
        if self.count() > self.pinned() { self.slots.pop() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parent_height: u32, work_bits: u32) -> ClassKey {
        ClassKey { parent_height, work_bits: CompactTarget(work_bits), source: SourceId(0) }
    }

    #[test]
    fn waiting_announcements_are_unusable_but_not_worthless() {
        let key = key(100, 0x2000_ffff);
        assert_eq!(key.aged_target(102), UNUSABLE);
        assert_eq!(key.value(102), CompactTarget(0x2000_ffff));
        assert_eq!(key.aged_target(103), key.value(103));
        assert_eq!(key.value(103), CompactTarget(0x2000_ffff));
    }

    #[test]
    fn value_falls_with_age_until_nothing_is_left() {
        let key = key(100, 0x1f7f_ffff);
        let mut last = key.value(103);
        for height in 104..=111 {
            assert!(key.value(height) > last, "height {height}");
            last = key.value(height);
        }
        assert_eq!(key.value(112), UNUSABLE);
    }

    #[test]
    fn only_the_end_behind_all_pins_is_taken() {
        let mut class = Class::new(key(100, 0x2000_ffff));
        class.slots.extend(0..6);
        class.pin(1, 2);
        class.pin(2, 4);
        assert_eq!((class.pop_unpinned(), class.pop_unpinned()), (Some(5), Some(4)));
        assert_eq!(class.pop_unpinned(), None);
        class.unpin(2);
        assert_eq!(class.pinned(), 2);
        assert_eq!((class.pop_unpinned(), class.pop_unpinned()), (Some(3), Some(2)));
        assert_eq!(class.pop_unpinned(), None);
    }
}
