//! Choice of the set: with which announcements to mine (spec 05, 9.2).
//!
//! Effective work grows with the square of the number of announcements and with the work of the
//! *worst* one. So a best set is made of the best classes down to some worst one, all of each: for
//! a given worst member nothing is gained by leaving out a better one.

use packetcrypt_core::bytes::CompactTarget;
use packetcrypt_core::difficulty;

use crate::class::{ClassId, ClassSummary, UNUSABLE};

/// The block target for which sets are compared. Any would do that neither saturates the formula
/// for small sets nor for large ones; this is the reference's (spec 05, 9.2).
const COMPARED_BLOCK_TARGET: CompactTarget = CompactTarget(0x1c16_0000);

/// A set of announcements, chosen for one height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The classes, best first, and how many of the first members of each. All members of all but
    /// the last one, unless the limit was reached.
    pub members: Vec<(ClassId, u32)>,
    /// Number of announcements.
    pub count: u64,
    /// The greatest aged target among them: the `least_work` of the commitment.
    pub least_work: CompactTarget,
    /// By how much mining with this set multiplies the real hash rate (spec 04, 2.2).
    pub multiplier: u64,
}

/// Chooses the set of at most `count_max` announcements with the most effective work in a block of
/// this height. `None` when no class can be used.
///
/// Where the reference ends before the class with which the count would pass the limit, as many of
/// its members as there is room for are taken here. Classes are in the order of their *words*, which
/// for words that are not normalised is not that of their targets; so those behind the limit are
/// looked at too.
#[must_use]
pub fn choose(classes: &[ClassSummary], height: u32, count_max: u64) -> Option<Choice> {
    let usable = usable(classes, height);
    let mut best: Option<(CompactTarget, usize, u64)> = None;
    let mut count = 0;
    for (at, (aged, class)) in usable.iter().enumerate() {
        count = (count + u64::from(class.count)).min(count_max);
        if count == 0 {
            return None;
        }
        let effective =
            difficulty::effective_target(COMPARED_BLOCK_TARGET, *aged, count, crate::PROOF_VERSION);
        // A greater target is easier to meet. The last of equals wins (spec 05, 9.2).
        if best.is_none_or(|(of_best, ..)| effective >= of_best) {
            best = Some((effective, at, count));
        }
    }
    let (_, last, count) = best?;
    Some(take(&usable[..=last], count))
}

/// The greatest aged target of classes at a height: the `least_work` that a set of them commits to
/// there. `None` when one of them can not be used there, or there are none.
#[must_use]
pub fn least_work(classes: &[ClassSummary], height: u32) -> Option<CompactTarget> {
    let least = classes.iter().map(|class| class.key.aged_target(height)).max()?;
    (least <= CompactTarget::MAX).then_some(least)
}

/// Usable classes with their aged target, best first.
fn usable(classes: &[ClassSummary], height: u32) -> Vec<(CompactTarget, ClassSummary)> {
    let mut usable: Vec<_> = classes
        .iter()
        .filter(|class| class.count > 0)
        .map(|class| (class.key.aged_target(height), *class))
        .filter(|(aged, _)| *aged <= CompactTarget::MAX && *aged != UNUSABLE)
        .collect();
    // Of equal value the younger first: when not all of a value fit, those stay useful longer.
    usable.sort_by_key(|(aged, class)| (*aged, u32::MAX - class.key.parent_height, class.id));
    usable
}

fn take(classes: &[(CompactTarget, ClassSummary)], count: u64) -> Choice {
    let mut members = Vec::with_capacity(classes.len());
    let Some(((_, worst), better)) = classes.split_last() else {
        return Choice { members, count: 0, least_work: UNUSABLE, multiplier: 0 };
    };
    // One of the worst is in, since its target is the one that is committed to.
    let mut left = count - 1;
    for (_, class) in better {
        let taken = left.min(u64::from(class.count));
        if taken > 0 {
            members.push((class.id, taken as u32));
        }
        left -= taken;
    }
    members.push((worst.id, left as u32 + 1));
    let least_work = classes.last().map_or(UNUSABLE, |(aged, _)| *aged);
    let multiplier = difficulty::hashrate_multiplier(least_work, count);
    Choice { members, count, least_work, multiplier }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::class::{ClassKey, SourceId};

    fn class(id: u64, parent_height: u32, work_bits: u32, count: u32) -> ClassSummary {
        let work_bits = CompactTarget(work_bits);
        let key = ClassKey { parent_height, work_bits, source: SourceId(0) };
        ClassSummary { id: ClassId(id), key, count }
    }

    fn effective(aged: CompactTarget, count: u64) -> CompactTarget {
        difficulty::effective_target(COMPARED_BLOCK_TARGET, aged, count, crate::PROOF_VERSION)
    }

    /// The most effective of all subsets and all counts: what `choose` must reach.
    fn best_of_all_subsets(
        classes: &[ClassSummary],
        height: u32,
        max: u64,
    ) -> Option<CompactTarget> {
        (1_u32..1 << classes.len())
            .filter_map(|subset| {
                let of: Vec<_> = (0..classes.len())
                    .filter(|at| subset >> at & 1 == 1)
                    .map(|at| classes[at])
                    // An empty class is in no set, however well its target would suit.
                    .filter(|class| class.count > 0)
                    .collect();
                let aged = least_work(&of, height)?;
                let count: u64 = of.iter().map(|class| u64::from(class.count)).sum();
                (count > 0).then(|| effective(aged, count.min(max)))
            })
            .max()
    }

    #[test]
    fn few_good_ones_beat_many_bad_ones_only_when_good_enough() {
        let few = class(1, 100, 0x1f00_ffff, 100);
        let many = class(2, 100, 0x2000_ffff, 1000);
        // 10 times the count is 100 times the work, the target costs only a factor of 256.
        assert_eq!(choose(&[few, many], 103, 5000).unwrap().members, [(few.id, 100)]);
        let many = class(2, 100, 0x2000_ffff, 2000);
        let both = choose(&[few, many], 103, 5000).unwrap();
        assert_eq!(both.members, [(few.id, 100), (many.id, 2000)]);
        assert_eq!(both.count, 2100);
        assert_eq!(both.least_work, CompactTarget(0x2000_ffff));
    }

    #[test]
    fn waiting_and_expired_classes_are_left_out() {
        let waiting = class(1, 101, 0x2000_ffff, 50);
        let expired = class(2, 10, 0x2000_ffff, 50);
        let empty = class(3, 100, 0x2000_ffff, 0);
        assert_eq!(choose(&[waiting, expired, empty], 103, 5000), None);
        let ready = class(4, 100, 0x2000_ffff, 7);
        assert_eq!(choose(&[waiting, ready, expired], 103, 5000).unwrap().members, [(ready.id, 7)]);
    }

    #[test]
    fn the_limit_cuts_the_worst_class() {
        let (a, b) = (class(1, 99, 0x2000_0fff, 60), class(2, 100, 0x2000_0fff, 60));
        let choice = choose(&[a, b], 104, 100).unwrap();
        // Parent 100 is one block younger, so better.
        assert_eq!(choice.members, [(b.id, 60), (a.id, 40)]);
        assert_eq!(choice.count, 100);
        assert_eq!(choose(&[a, b], 104, 0), None);
    }

    proptest! {
        #[test]
        fn no_subset_is_better(
            classes in prop::collection::vec(
                (85_u32..104, prop::sample::select(vec![0x2000_ffff, 0x1f0f_ffff, 0x2000_0fff, 0x207f_ffff]), 0_u32..300),
                0..9,
            ),
            max in 1_u64..1000,
        ) {
            let classes: Vec<_> = classes
                .into_iter()
                .enumerate()
                .map(|(id, (parent, bits, count))| class(id as u64, parent, bits, count))
                .collect();
            let choice = choose(&classes, 104, max);
            prop_assert_eq!(
                choice.as_ref().map(|choice| effective(choice.least_work, choice.count)),
                best_of_all_subsets(&classes, 104, max)
            );
            if let Some(choice) = choice {
                prop_assert!(choice.count <= max);
                prop_assert_eq!(choice.members.iter().map(|(_, n)| u64::from(*n)).sum::<u64>(), choice.count);
            }
        }
    }
}
