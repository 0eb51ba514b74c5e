//! How far senders are believed whose address anybody can forge.
//!
//! Who sends a bad announcement over UDP may be another than the one whose address the datagram
//! bears. So a single bad one drops nobody: good and bad proofs are set against each other, and only
//! a sender of whose announcements most are bad is dropped. What was found good stays then.

use std::collections::{BTreeMap, HashMap};

use crate::class::{ClassKey, SourceId};

/// Proofs that must have been checked before there is a verdict.
const CHECKED_MIN: u32 = 8;
/// When so many were checked, older ones count half.
const CHECKED_MAX: u32 = 64;
/// Classes of which it is known what was checked; those on the oldest blocks are forgotten beyond.
const CLASSES_MAX: usize = 4096;

/// What follows from a checked proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Believed,
    /// Most of the class are bad, of the rest of this sender they are not.
    BadClass(ClassKey),
    /// Most of what this sender sends is bad.
    BadSource(SourceId),
}

/// Proofs that were checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    good: u32,
    bad: u32,
}

impl Tally {
    fn count(&mut self, is_bad: bool) {
        if is_bad {
            self.bad += 1;
        } else {
            self.good += 1;
        }
        if self.good + self.bad >= CHECKED_MAX {
            self.good /= 2;
            self.bad /= 2;
        }
    }

    fn is_mostly_bad(self) -> bool {
        self.good + self.bad >= CHECKED_MIN && self.bad > self.good
    }
}

/// What is known of all such senders.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    sources: HashMap<SourceId, Tally>,
    /// In the order of the parent heights.
    classes: BTreeMap<(u32, u32, SourceId), Tally>,
}

fn place(class: ClassKey) -> (u32, u32, SourceId) {
    (class.parent_height, class.work_bits.0, class.source)
}

impl Doubts {
    /// Takes over what a check of a proof of this class has shown.
    pub(crate) fn weigh(&mut self, class: ClassKey, is_bad: bool) -> Verdict {
        let of_source = self.sources.entry(class.source).or_default();
        of_source.count(is_bad);
        let of_class = self.classes.entry(place(class)).or_default();
        of_class.count(is_bad);
        let verdict = if of_source.is_mostly_bad() {
            // It begins anew when it is heard again.
            self.sources.remove(&class.source);
            Verdict::BadSource(class.source)
        } else if of_class.is_mostly_bad() {
            self.classes.remove(&place(class));
            Verdict::BadClass(class)
        } else {
            Verdict::Believed
        };
        while self.classes.len() > CLASSES_MAX {
            self.classes.pop_first();
        }
        verdict
    }

    /// Whether a class was mostly found good.
    pub(crate) fn is_good(&self, class: &ClassKey) -> bool {
        self.classes.get(&place(*class)).is_some_and(|tally| tally.good > tally.bad)
    }
}

#[cfg(test)]
mod tests {
    use packetcrypt_core::bytes::CompactTarget;

    use super::*;

    fn class(parent_height: u32, source: u32) -> ClassKey {
        let work_bits = CompactTarget(0x207f_ffff);
        ClassKey { parent_height, work_bits, source: SourceId(source) }
    }

    #[test]
    fn a_few_forged_ones_do_not_matter() {
        let mut doubts = Doubts::default();
        for round in 0..1000 {
            let is_bad = round % 3 == 2;
            assert_eq!(doubts.weigh(class(10, 1), is_bad), Verdict::Believed, "{round}");
        }
        assert!(doubts.is_good(&class(10, 1)));
        assert!(!doubts.is_good(&class(11, 1)), "of it nothing was checked");
    }

    #[test]
    fn a_sender_of_mostly_bad_ones_is_found_out() {
        let mut doubts = Doubts::default();
        for round in 0..7 {
            assert_eq!(doubts.weigh(class(10, 1), true), Verdict::Believed, "{round}");
            assert_eq!(doubts.weigh(class(10, 2), false), Verdict::Believed, "{round}");
        }
        assert_eq!(doubts.weigh(class(10, 1), true), Verdict::BadSource(SourceId(1)));
        // After that it has as many attempts as before.
        assert_eq!(doubts.weigh(class(11, 1), true), Verdict::Believed);
    }

    #[test]
    fn a_bad_class_among_good_ones_goes_alone() {
        let mut doubts = Doubts::default();
        for _ in 0..30 {
            doubts.weigh(class(10, 1), false);
        }
        let verdicts: Vec<_> = (0..8).map(|_| doubts.weigh(class(11, 1), true)).collect();
        assert!(verdicts[..7].iter().all(|verdict| *verdict == Verdict::Believed));
        assert_eq!(verdicts[7], Verdict::BadClass(class(11, 1)));
        assert!(doubts.is_good(&class(10, 1)));
    }

    #[test]
    fn memory_of_classes_is_bounded() {
        let mut doubts = Doubts::default();
        for height in 0..CLASSES_MAX as u32 + 10 {
            doubts.weigh(class(height, 1), false);
        }
        assert_eq!(doubts.classes.len(), CLASSES_MAX);
        assert!(!doubts.is_good(&class(9, 1)) && doubts.is_good(&class(10, 1)));
    }
}
