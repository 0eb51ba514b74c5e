//! Which announcements were seen lately: what ends circles of relays.

use std::sync::atomic::{AtomicU64, Ordering};

use super::AnnouncementBytes;
use crate::limits::SPRAYER_RECENT_LEN;

/// Places in which a hash may be.
const BUCKET_LEN: usize = 4;

/// A table of hashes in which a new one takes the place of an older one. It forgets, so it never
/// fills; forgetting costs a repetition, nothing more.
#[derive(Debug)]
pub(super) struct Recent {
    places: Box<[AtomicU64]>,
    keys: [u64; 4],
}

impl Recent {
    pub(super) fn new() -> Self {
        let places = (0..SPRAYER_RECENT_LEN).map(|_| AtomicU64::new(0)).collect();
        Self { places, keys: rand::random() }
    }

    /// Enters an announcement; false when it was there.
    pub(super) fn insert(&self, announcement: &AnnouncementBytes) -> bool {
        // 0 marks an empty place.
        let hash = self.hash(announcement).max(1);
        let buckets = (SPRAYER_RECENT_LEN / BUCKET_LEN) as u64;
        let first = usize::try_from(hash % buckets).unwrap_or(0) * BUCKET_LEN;
        let bucket = &self.places[first..first + BUCKET_LEN];
        let held = |place: &AtomicU64| place.load(Ordering::Relaxed);
        if bucket.iter().any(|place| held(place) == hash) {
            return false;
        }
        let free = bucket.iter().position(|place| held(place) == 0);
        // In a full bucket the hash itself says who has to go.
        let place = free.unwrap_or((hash >> 60) as usize % BUCKET_LEN);
        // Two threads with the same announcement: the second one sees it here.
        bucket[place].swap(hash, Ordering::Relaxed) != hash
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
}
