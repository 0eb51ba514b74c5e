//! Properties of the store: no duplicate, nothing lost, and pinned announcements stay as they are.

use packetcrypt_core::block::tree;
use proptest::prelude::*;

use super::*;
use crate::choose::choose;

/// An announcement that tells which one it is.
pub(super) fn announcement(
    number: u64,
    parent_height: u32,
    work_bits: u32,
) -> Box<[u8; ANNOUNCEMENT_BYTES]> {
    let mut bytes = Box::new([0; ANNOUNCEMENT_BYTES]);
    for (at, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&(number * 1000 + at as u64).to_le_bytes());
    }
    bytes[8..12].copy_from_slice(&work_bits.to_le_bytes());
    bytes[12..16].copy_from_slice(&parent_height.to_le_bytes());
    bytes
}

pub(super) fn arrival(bytes: &[u8; ANNOUNCEMENT_BYTES]) -> Arrival<'_> {
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    Arrival {
        bytes,
        hash: packetcrypt_core::primitives::compress32(bytes),
        parent_height: word(12),
        work_bits: CompactTarget(word(8)),
    }
}

fn insert(
    store: &Arc<Store>,
    numbers: std::ops::Range<u64>,
    parent_height: u32,
    height: u32,
) -> Inserted {
    insert_from(store, SourceId(0), numbers, parent_height, height)
}

pub(super) fn insert_from(
    store: &Arc<Store>,
    source: SourceId,
    numbers: std::ops::Range<u64>,
    parent_height: u32,
    height: u32,
) -> Inserted {
    let bytes: Vec<_> = numbers.map(|n| announcement(n, parent_height, 0x2000_ffff)).collect();
    let arrivals: Vec<_> = bytes.iter().map(|bytes| arrival(bytes)).collect();
    store.insert(&arrivals, source, height, store.epoch())
}

fn store(slots: u32) -> Arc<Store> {
    Arc::new(Store::new(slots, false).unwrap())
}

fn pin_all(store: &Arc<Store>) -> PinnedSet {
    let members: Vec<_> = store.classes().iter().map(|class| (class.id, class.count)).collect();
    store.pin(&members).unwrap()
}

#[test]
fn duplicates_are_known_whatever_feed_they_come_from() {
    let store = store(100);
    assert_eq!(insert(&store, 0..10, 100, 103).stored, 10);
    let again = insert_from(&store, SourceId(1), 5..15, 100, 103);
    assert_eq!((again.stored, again.duplicate), (5, 5));
    let bytes = announcement(99, 100, 0x2000_ffff);
    let twice = store.insert(&[arrival(&bytes), arrival(&bytes)], SourceId(0), 103, store.epoch());
    assert_eq!((twice.stored, twice.duplicate), (1, 1));
    assert_eq!(store.figures().held, 16);
}

#[test]
fn the_worst_and_oldest_go_first() {
    let store = store(30);
    for parent in 95..98 {
        insert(&store, u64::from(parent) * 100..u64::from(parent) * 100 + 10, parent, 103);
    }
    assert_eq!(insert(&store, 0..15, 100, 103).stored, 15);
    let left: Vec<_> =
        store.classes().iter().map(|class| (class.key.parent_height, class.count)).collect();
    assert_eq!(left, [(96, 5), (97, 10), (100, 15)]);
    assert_eq!(store.figures().recycled, 15);
}

#[test]
fn what_waits_never_replaces_what_can_be_used_now() {
    let store = store(20);
    insert(&store, 0..20, 100, 103);
    // The same value: the older ones have their best block before them.
    let refused = insert(&store, 20..30, 102, 103);
    assert_eq!((refused.stored, refused.no_room), (0, 10));
    // One block later they had it.
    assert_eq!(insert(&store, 20..30, 102, 104).stored, 10);
}

#[test]
fn a_pinned_set_keeps_its_members_until_it_is_dropped() {
    let store = store(20);
    insert(&store, 0..10, 90, 103);
    let set = pin_all(&store);
    insert(&store, 10..20, 90, 103);
    assert_eq!(
        insert(&store, 20..40, 100, 103),
        Inserted { stored: 10, no_room: 10, ..Inserted::default() }
    );
    for number in 0..10 {
        assert_eq!(set.announcement(number), &*announcement(number as u64, 90, 0x2000_ffff));
    }
    drop(set);
    assert_eq!(insert(&store, 40..60, 100, 103).stored, 10);
    assert_eq!(store.figures().held, 20);
}

#[test]
fn what_was_recycled_may_come_again() {
    let store = store(10);
    insert(&store, 0..10, 90, 95);
    insert(&store, 10..20, 100, 103);
    assert_eq!(insert(&store, 0..1, 101, 105).stored, 1);
    assert_eq!(store.figures().held, 10);
}

#[test]
fn a_retired_class_is_not_mined_with_and_freed_when_unpinned() {
    let store = store(30);
    insert(&store, 0..10, 100, 104);
    insert(&store, 10..20, 101, 104);
    let set = pin_all(&store);
    assert!(store.is_sound(&set));
    assert_eq!(store.retire_from_height(101), 10);
    assert!(!store.is_sound(&set));
    assert_eq!(set.len(), 20);
    assert_eq!(set.announcement(19), &*announcement(19, 101, 0x2000_ffff));
    assert_eq!(store.classes().len(), 1);
    // New ones on the same height make a class of their own.
    insert(&store, 20..25, 101, 104);
    assert_eq!(store.classes().iter().map(|class| class.count).sum::<u32>(), 15);
    drop(set);
    assert_eq!(store.figures().held, 15);
    assert_eq!(insert(&store, 10..20, 101, 104).stored, 10);
}

#[test]
fn a_source_is_given_up_alone() {
    let store = store(30);
    insert_from(&store, SourceId(1), 0..10, 100, 103);
    insert_from(&store, SourceId(2), 10..20, 100, 103);
    assert_eq!(store.retire_source(SourceId(1)), 10);
    let left = store.classes();
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].key.source, left[0].count), (SourceId(2), 10));
}

#[test]
fn invented_targets_are_bounded() {
    let store = store(2 * CLASSES_PER_SOURCE_MAX as u32);
    let bytes: Vec<_> = (0..CLASSES_PER_SOURCE_MAX as u32 + 10)
        .map(|n| announcement(u64::from(n), 100, 0x2000_1000 + n))
        .collect();
    let arrivals: Vec<_> = bytes.iter().map(|bytes| arrival(bytes)).collect();
    let inserted = store.insert(&arrivals, SourceId(0), 103, store.epoch());
    assert_eq!(inserted.stored, CLASSES_PER_SOURCE_MAX as u64);
    assert_eq!(inserted.too_many_classes, 10);
    // Another source has its own room.
    assert_eq!(insert_from(&store, SourceId(1), 5000..5001, 100, 103).stored, 1);
}

#[test]
fn a_store_smaller_than_one_class_is_mined_with_whole() {
    let store = store(50);
    let inserted = insert(&store, 0..200, 100, 103);
    assert_eq!((inserted.stored, inserted.no_room), (50, 150));
    let choice = choose(&store.classes(), 103, 50).unwrap();
    let set = store.pin(&choice.members).unwrap().into_index(None, 2);
    assert_eq!(set.len(), 50);
    // All of it is pinned: nothing comes in until the job is another one.
    assert_eq!(insert(&store, 200..210, 101, 108).no_room, 10);
    drop(set);
    assert_eq!(insert(&store, 200..210, 101, 108).stored, 10);
}

#[test]
fn a_merged_index_is_that_of_a_sort() {
    let store = store(40_000);
    insert(&store, 0..9000, 90, 103);
    insert(&store, 9000..30_000, 100, 103);
    let mut base = pin_all(&store).into_index(None, 2);
    base.make_odd();
    let check = |threads| {
        let merged = pin_all(&store).into_index(Some(&base), threads);
        let sorted = pin_all(&store).into_index(None, threads);
        let numbers = |set: &PinnedSet| (0..set.len()).map(|n| *set.hash(n)).collect::<Vec<_>>();
        assert_eq!(numbers(&merged), numbers(&sorted));
        merged.len()
    };
    // What make_odd left out is there again.
    assert_eq!(check(1), 30_000);
    // Some come, some go: the members of a class at its end, and a class as a whole.
    insert(&store, 30_000..31_000, 101, 103);
    assert_eq!(check(3), 31_000);
    store.retire_from_height(101);
    assert_eq!(check(2), 30_000);
    let class = store.classes()[1].id;
    let part = store.pin(&[(class, 20_000)]).unwrap().into_index(Some(&base), 3);
    let all = store.pin(&[(class, 20_000)]).unwrap().into_index(None, 1);
    assert_eq!(part.len(), 20_000);
    assert!((0..20_000).all(|number| part.hash(number) == all.hash(number)));
}

#[test]
fn copies_for_other_nodes_have_the_same_content() {
    // Two nodes; the machine need not have the second one: then it says so.
    let options = |numa, nodes: &[usize]| StoreOptions {
        slots: 100,
        numa,
        nodes: nodes.to_vec(),
        ..StoreOptions::default()
    };
    let open = |options| Store::open(&options).map(|(store, ..)| Arc::new(store));
    for numa in [Numa::Default, Numa::Interleave, Numa::Replicate] {
        // A container may forbid to place memory.
        let Ok(store) = open(options(numa, &[0])) else { continue };
        insert(&store, 0..50, 100, 103);
        let set = pin_all(&store);
        assert!((0..50).all(|number| set.announcement_on(7, number) == set.announcement(number)));
    }
    let Ok(store) = open(options(Numa::Replicate, &[0, 0])) else { return };
    insert(&store, 0..50, 100, 103);
    let set = pin_all(&store);
    for number in 0..50 {
        let (near, far) = (set.announcement_on(0, number), set.announcement_on(1, number));
        assert_ne!(near.as_ptr(), far.as_ptr());
        assert_eq!(near, far);
    }
}

#[test]
fn a_stale_choice_is_not_pinned() {
    let store = store(10);
    insert(&store, 0..10, 90, 95);
    let choice = choose(&store.classes(), 95, 100).unwrap();
    insert(&store, 10..15, 100, 103);
    assert!(store.pin(&choice.members).is_none());
}

#[test]
fn the_index_is_sorted_and_odd_with_any_number_of_threads() {
    let store = store(20_000);
    insert(&store, 0..20_000, 100, 103);
    let keys = |threads| {
        let mut set = pin_all(&store).into_index(None, threads);
        assert_eq!(set.len(), 20_000);
        set.make_odd();
        (0..set.len()).map(|number| tree::key(set.hash(number))).collect::<Vec<_>>()
    };
    let one = keys(1);
    assert_eq!(one.len(), 19_999);
    assert!(one.is_sorted_by(|a, b| a < b));
    assert_eq!(keys(3), one);
}

#[test]
fn memory_is_counted_whole() {
    assert_eq!(slots_for_memory(0), 0);
    let slots = slots_for_memory(1024) as usize;
    let all = slots + landing_slots(slots as u32) as usize;
    assert!(all * MEMORY_PER_ANNOUNCEMENT_BYTES <= 1 << 30);
    // Landings take a few per cent of a small memory and next to nothing of a large one.
    assert!((slots + 33 * 1024) * MEMORY_PER_ANNOUNCEMENT_BYTES > 1 << 30);
}

#[derive(Clone, Debug)]
enum Step {
    Insert { first: u64, count: u64, parent_height: u32, source: u32 },
    Pin,
    Unpin { which: usize },
    RetireHeight { height: u32 },
    RetireSource { source: u32 },
    Block,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u64..300, 1_u64..30, 0_u32..6, 0_u32..3).prop_map(|(first, count, above, source)| {
            Step::Insert { first, count, parent_height: above, source }
        }),
        2 => Just(Step::Pin),
        2 => (0_usize..4).prop_map(|which| Step::Unpin { which }),
        1 => (0_u32..6).prop_map(|height| Step::RetireHeight { height }),
        1 => (0_u32..3).prop_map(|source| Step::RetireSource { source }),
        2 => Just(Step::Block),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever arrives, is recycled or given up: what a set refers to never changes, no
    /// announcement is there twice, and no slot gets lost.
    #[test]
    fn recycling_never_touches_pinned_slots(steps in prop::collection::vec(step(), 1..60)) {
        let store = store(64);
        let mut height = 110;
        let mut sets: Vec<(PinnedSet, Vec<Vec<u8>>)> = Vec::new();
        for step in steps {
            match step {
                Step::Insert { first, count, parent_height, source } => {
                    let parent = height - 7 + parent_height;
                    let done = insert_from(&store, SourceId(source), first..first + count, parent, height);
                    prop_assert_eq!(done.stored + done.duplicate + done.no_room, count);
                }
                Step::Pin => {
                    let set = match choose(&store.classes(), height, 48) {
                        Some(choice) => store.pin(&choice.members).unwrap().into_index(None, 1),
                        None => continue,
                    };
                    let content = (0..set.len()).map(|n| set.announcement(n).to_vec()).collect();
                    sets.push((set, content));
                }
                Step::Unpin { which } if which < sets.len() => drop(sets.swap_remove(which)),
                Step::Unpin { .. } => {}
                Step::RetireHeight { height: above } => {
                    store.retire_from_height(height - 7 + above);
                }
                Step::RetireSource { source } => {
                    store.retire_source(SourceId(source));
                }
                Step::Block => height += 1,
            }
            for (set, content) in &sets {
                for (number, bytes) in content.iter().enumerate() {
                    prop_assert_eq!(&set.announcement(number)[..], &bytes[..]);
                    let hash = packetcrypt_core::primitives::compress32(bytes);
                    prop_assert_eq!(set.hash(number), &hash);
                }
            }
            let index = store.locked();
            let held: usize = index.classes.values().map(|class| class.slots.len()).sum();
            prop_assert_eq!(held, index.keys.len());
            prop_assert_eq!(held + index.free.len(), index.untouched as usize);
            prop_assert_eq!(index.lent, 0);
            let sealed = |slot: u32| {
                // SAFETY: this thread alone has the store, and no landing.
                let key = unsafe { store.arena.sealed(slot) };
                key.is_some()
            };
            let sealed = (0..store.arena.slots()).filter(|slot| sealed(*slot)).count();
            let live = index.classes.values().filter(|class| !class.retired);
            prop_assert_eq!(sealed, live.map(|class| class.slots.len()).sum::<usize>());
        }
        drop(sets);
        let all = pin_all(&store);
        let mut hashes: Vec<_> = (0..all.len()).map(|n| *all.hash(n)).collect();
        hashes.sort();
        hashes.dedup();
        prop_assert_eq!(hashes.len(), all.len());
        prop_assert_eq!(store.figures().pinned as usize, all.len());
    }
}
