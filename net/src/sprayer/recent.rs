//! Which announcements were seen lately: what ends circles of relays.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::AnnouncementBytes;
use crate::limits::SPRAYER_RECENT_LEN;

/// Hashes of two generations. The newest [`SPRAYER_RECENT_LEN`] are always known, at most twice as
/// many are held; forgetting costs a repetition, nothing more.
#[derive(Debug)]
pub(super) struct Recent {
    generations: Mutex<Generations>,
    keys: [u64; 4],
}

#[derive(Debug)]
struct Generations {
    young: HashSet<u64>,
    old: HashSet<u64>,
}

impl Recent {
    pub(super) fn new() -> Self {
        let generation = || HashSet::with_capacity(SPRAYER_RECENT_LEN);
        let generations = Generations { young: generation(), old: generation() };
        Self { generations: Mutex::new(generations), keys: rand::random() }
    }

    /// Enters an announcement; false when it was there.
    pub(super) fn insert(&self, announcement: &AnnouncementBytes) -> bool {
        let hash = self.hash(announcement);
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.old.contains(&hash) || !generations.young.insert(hash) {
            return false;
        }
        if generations.young.len() >= SPRAYER_RECENT_LEN {
            let Generations { young, old } = &mut *generations;
            std::mem::swap(young, old);
            // Keeps its memory.
            young.clear();
        }
        true
    }

    /// A hash keyed at random, so that nobody can make announcements that pass for others: each
    /// 16 bytes are multiplied into the state to 128 bits and folded.
    fn hash(&self, announcement: &AnnouncementBytes) -> u64 {
        let [k0, k1, mut a, mut b] = self.keys;
        for part in announcement.chunks_exact(32) {
            a = fold(word(part, 0) ^ k0, word(part, 8) ^ a);
            b = fold(word(part, 16) ^ k1, word(part, 24) ^ b);
        }
        fold(a ^ k1, b ^ k0)
    }
}

fn fold(x: u64, y: u64) -> u64 {
    let product = u128::from(x) * u128::from(y);
    // Cuts on purpose: both halves are used.
    (product as u64) ^ ((product >> 64) as u64)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_known_and_every_byte_counts() {
        let recent = Recent::new();
        let first = [7; 1024];
        assert!(recent.insert(&first));
        assert!(!recent.insert(&first));
        let hash = recent.hash(&first);
        for at in 0..1024 {
            let mut other = first;
            other[at] ^= 1;
            assert_ne!(recent.hash(&other), hash, "byte {at}");
        }
        assert!(recent.insert(&[0; 1024]));
        assert!(!recent.insert(&[0; 1024]));
    }

    #[test]
    fn nothing_is_forgotten_early_and_memory_is_bounded() {
        let recent = Recent::new();
        let numbered = |n: usize| {
            let mut bytes = [0x5a; 1024];
            bytes[..8].copy_from_slice(&(n as u64).to_le_bytes());
            bytes
        };
        let count = SPRAYER_RECENT_LEN * 5 / 2;
        for n in 0..count {
            assert!(recent.insert(&numbered(n)), "{n}");
        }
        for n in count - SPRAYER_RECENT_LEN..count {
            assert!(!recent.insert(&numbered(n)), "{n} of {count} was forgotten");
        }
        assert!(recent.insert(&numbered(0)));
        let held = recent.generations.lock().unwrap();
        assert!(held.young.len() + held.old.len() <= 2 * SPRAYER_RECENT_LEN);
    }
}
