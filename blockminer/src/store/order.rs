//! The order of the index of a tree (spec 04, 4.1): announcements by key, found by several threads.
//!
//! [`sort`] does it from nothing. [`merge`] starts from the order of an earlier tree: what is in
//! both is in order already, so only what came since is sorted, and one pass over both, cut by key
//! into a piece for each thread, leaves out what went.

use std::ops::Range;
use std::thread;

use packetcrypt_core::block::tree;
use packetcrypt_net::hw;

use super::arena::{Arena, Pages};

/// Below this many announcements one thread does all.
const PARALLEL_MIN: usize = 1 << 14;
/// Keys that are gathered at a time: their reads do not wait for each other.
const GATHER_LEN: usize = 64;

/// Key and slot: 12 bytes, since a `(u64, u32)` takes 16.
#[derive(Clone, Copy)]
struct Keyed {
    key: [u32; 2],
    slot: u32,
}

impl Keyed {
    fn new(key: u64, slot: u32) -> Keyed {
        Keyed { key: [(key >> 32) as u32, key as u32], slot }
    }

    fn key(&self) -> u64 {
        u64::from(self.key[0]) << 32 | u64::from(self.key[1])
    }
}

/// Published slots of an arena, none of which is claimed as vacant as long as this lives.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    arena: &'a Arena,
}

impl<'a> Keys<'a> {
    /// # Safety
    /// All slots that are asked for are published, and are not claimed as vacant as long as this
    /// value lives.
    pub(super) unsafe fn new(arena: &'a Arena) -> Keys<'a> {
        Keys { arena }
    }

    fn of(self, slot: u32) -> u64 {
        // SAFETY: by the promise of `new`.
        tree::key(unsafe { self.arena.hash(slot) })
    }

    /// Calls `each` with every slot and its key, in order.
    fn gather(self, slots: &[u32], mut each: impl FnMut(u64, u32)) {
        let mut keys = [0; GATHER_LEN];
        for slots in slots.chunks(GATHER_LEN) {
            for (key, slot) in keys.iter_mut().zip(slots) {
                *key = self.of(*slot);
            }
            for (key, slot) in keys.iter().zip(slots) {
                each(*key, *slot);
            }
        }
    }
}

/// Slots in the order of their keys; those with keys that may not be in a tree are left out, and
/// of equal keys all but one.
pub(super) fn sort(keys: Keys<'_>, slots: &[u32], threads: usize) -> Vec<u32> {
    let threads = threads_for(slots.len(), threads);
    let share = slots.len().div_ceil(threads).max(1);
    let mut scattered: Vec<Vec<Vec<Keyed>>> = thread::scope(|scope| {
        let workers: Vec<_> = slots
            .chunks(share)
            .map(|slots| scope.spawn(move || scatter(keys, slots, threads)))
            .collect();
        workers.into_iter().map(joined).collect()
    });
    // The range of all keys is cut in equal parts, one a thread.
    let parts: Vec<Vec<Vec<Keyed>>> = (0..threads)
        .map(|part| scattered.iter_mut().map(|pieces| std::mem::take(&mut pieces[part])).collect())
        .collect();
    let sorted: Vec<Vec<u32>> = thread::scope(|scope| {
        let workers: Vec<_> =
            parts.into_iter().map(|pieces| scope.spawn(move || sort_part(pieces))).collect();
        workers.into_iter().map(joined).collect()
    });
    joined_up(&sorted, keys.arena)
}

/// Parts of an order one after the other, in huge pages where the arena has them: mining looks up
/// three places of it for each nonce.
fn joined_up(parts: &[Vec<u32>], arena: &Arena) -> Vec<u32> {
    let mut order = Vec::with_capacity(parts.iter().map(Vec::len).sum());
    if arena.pages() != Pages::Ordinary {
        // Without them it is slower and right.
        let memory = order.spare_capacity_mut();
        let _ = hw::ask_for_huge_pages(memory.as_ptr().cast(), size_of_val(memory));
    }
    parts.iter().for_each(|part| order.extend_from_slice(part));
    order
}

fn scatter(keys: Keys<'_>, slots: &[u32], parts: usize) -> Vec<Vec<Keyed>> {
    let room = slots.len() / parts;
    let mut scattered: Vec<_> = (0..parts).map(|_| Vec::with_capacity(room + room / 64)).collect();
    keys.gather(slots, |key, slot| {
        let part = (u128::from(key) * parts as u128) >> 64;
        scattered[part as usize].push(Keyed::new(key, slot));
    });
    scattered
}

fn sort_part(pieces: Vec<Vec<Keyed>>) -> Vec<u32> {
    let mut all = pieces.concat();
    drop(pieces);
    let kept = tree::index_by_key(&mut all, Keyed::key);
    all[..kept].iter().map(|keyed| keyed.slot).collect()
}

/// A set of slots.
pub(super) struct SlotSet {
    words: Vec<u64>,
}

impl SlotSet {
    /// The set of these slots, all of them below `slots_max`.
    pub(super) fn of(slots: impl Iterator<Item = u32>, slots_max: u32) -> SlotSet {
        let mut words = vec![0u64; slots_max as usize / 64 + 1];
        for slot in slots {
            words[slot as usize / 64] |= 1 << (slot % 64);
        }
        SlotSet { words }
    }

    /// Whether the slot is one of them.
    pub(super) fn contains(&self, slot: u32) -> bool {
        self.words[slot as usize / 64] >> (slot % 64) & 1 == 1
    }
}

/// The order of what is in `before`, an order already, but for `gone`, and of `added`.
pub(super) fn merge(
    keys: Keys<'_>,
    before: &[u32],
    gone: &SlotSet,
    added: &[u32],
    threads: usize,
) -> Vec<u32> {
    let added = sort(keys, added, threads);
    let threads = threads_for(before.len(), threads);
    let pieces: Vec<Vec<u32>> = thread::scope(|scope| {
        let added = &added;
        let workers: Vec<_> = cuts(keys, before, added, threads)
            .into_iter()
            .map(|(old, new)| {
                let (old, new) = (&before[old], &added[new]);
                scope.spawn(move || merge_part(keys, old, gone, new))
            })
            .collect();
        workers.into_iter().map(joined).collect()
    });
    joined_up(&pieces, keys.arena)
}

/// Pieces of both orders between the same keys.
fn cuts(
    keys: Keys<'_>,
    before: &[u32],
    added: &[u32],
    pieces: usize,
) -> Vec<(Range<usize>, Range<usize>)> {
    let share = before.len().div_ceil(pieces).max(1);
    let mut from = (0, 0);
    let mut cuts = Vec::with_capacity(pieces);
    for piece in 1..=pieces {
        let old = (piece * share).min(before.len());
        let new = match before.get(old) {
            Some(slot) if piece < pieces => {
                let key = keys.of(*slot);
                added.partition_point(|slot| keys.of(*slot) < key)
            }
            _ => added.len(),
        };
        cuts.push((from.0..old, from.1..new));
        from = (old, new);
    }
    cuts
}

fn merge_part(keys: Keys<'_>, before: &[u32], gone: &SlotSet, added: &[u32]) -> Vec<u32> {
    let mut order = Vec::with_capacity(before.len() + added.len());
    let mut added = added.iter().map(|slot| (keys.of(*slot), *slot)).peekable();
    let mut last = 0;
    let mut put = |key: u64, slot: u32| {
        // Of an announcement that is there twice, one counts; both orders are strictly ascending.
        if key != last {
            last = key;
            order.push(slot);
        }
    };
    keys.gather(before, |key, slot| {
        while let Some((new, slot)) = added.next_if(|(new, _)| *new < key) {
            put(new, slot);
        }
        if !gone.contains(slot) {
            put(key, slot);
        }
    });
    for (key, slot) in added {
        put(key, slot);
    }
    order
}

fn threads_for(len: usize, threads: usize) -> usize {
    if len < PARALLEL_MIN { 1 } else { threads.max(1) }
}

/// The result of a worker; its panic is ours.
pub(crate) fn joined<T>(worker: thread::ScopedJoinHandle<'_, T>) -> T {
    worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
