//! Announcements on their way to one handler, collected into posts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use packetcrypt_core::announcement::Announcement;

/// Announcements in one post at the most (spec 05, 6.1).
pub const BATCH_LEN_MAX: usize = 1024;

/// Announcements of one parent height for one handler.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Parent block height of every announcement inside.
    pub parent_height: u32,
    /// Concatenated announcements, 1024 bytes each.
    pub bytes: Bytes,
    /// When the first one came.
    pub since: Instant,
}

impl Batch {
    /// How many announcements it holds.
    pub fn len(&self) -> usize {
        self.bytes.len() / size_of::<Announcement>()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// A batch that still grows.
#[derive(Debug)]
struct Open {
    bytes: BytesMut,
    since: Instant,
}

impl Open {
    fn len(&self) -> usize {
        self.bytes.len() / size_of::<Announcement>()
    }
}

/// The open batches of one handler, one for each parent height.
///
/// One for each height, because a post carries one work number; when the work changes the few
/// announcements that still arrive for the old block go with their own kind instead of being lost.
#[derive(Debug, Default)]
pub struct OpenBatches {
    by_height: BTreeMap<u32, Open>,
}

impl OpenBatches {
    /// Adds an announcement; gives back the batch that became full by it.
    pub fn push(&mut self, announcement: &Announcement, now: Instant) -> Option<Batch> {
        let height = announcement.parent_block_height();
        let open = self.by_height.entry(height).or_insert_with(|| Open {
            bytes: BytesMut::with_capacity(BATCH_LEN_MAX * size_of::<Announcement>()),
            since: now,
        });
        open.bytes.extend_from_slice(announcement.to_bytes());
        if open.len() >= BATCH_LEN_MAX { self.take(height) } else { None }
    }

    fn take(&mut self, parent_height: u32) -> Option<Batch> {
        let open = self.by_height.remove(&parent_height)?;
        Some(Batch { parent_height, bytes: open.bytes.freeze(), since: open.since })
    }

    /// Takes out the batches that are older than `age_max`, and those below the greatest height:
    /// more of them is not to be expected.
    pub fn take_due(&mut self, now: Instant, age_max: Duration) -> Vec<Batch> {
        let Some((&top, _)) = self.by_height.last_key_value() else { return Vec::new() };
        let due: Vec<u32> = self
            .by_height
            .iter()
            .filter(|(height, open)| **height < top || now.duration_since(open.since) >= age_max)
            .map(|(height, _)| *height)
            .collect();
        due.into_iter().filter_map(|height| self.take(height)).collect()
    }

    /// Takes out everything, for the end.
    pub fn take_all(&mut self) -> Vec<Batch> {
        let heights: Vec<u32> = self.by_height.keys().copied().collect();
        heights.into_iter().filter_map(|height| self.take(height)).collect()
    }

    /// Announcements that wait in open batches.
    pub fn waiting(&self) -> usize {
        self.by_height.values().map(Open::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement(parent_height: u32) -> [u8; 1024] {
        let mut bytes = [7; 1024];
        bytes[12..16].copy_from_slice(&parent_height.to_le_bytes());
        bytes
    }

    #[test]
    fn a_full_batch_leaves_at_once() {
        let now = Instant::now();
        let mut open = OpenBatches::default();
        let bytes = announcement(5);
        for i in 1..BATCH_LEN_MAX {
            assert!(open.push(Announcement::from_bytes(&bytes), now).is_none());
            assert_eq!(open.waiting(), i);
        }
        let full = open.push(Announcement::from_bytes(&bytes), now).expect("full");
        assert_eq!((full.len(), full.parent_height, open.waiting()), (1024, 5, 0));
    }

    #[test]
    fn age_and_a_higher_parent_make_a_batch_due() {
        let start = Instant::now();
        let mut open = OpenBatches::default();
        open.push(Announcement::from_bytes(&announcement(5)), start);
        let age_max = Duration::from_secs(10);
        assert!(open.take_due(start + Duration::from_secs(9), age_max).is_empty());
        open.push(Announcement::from_bytes(&announcement(6)), start + Duration::from_secs(9));
        let due = open.take_due(start + Duration::from_secs(9), age_max);
        assert_eq!(due.iter().map(|b| b.parent_height).collect::<Vec<_>>(), [5]);
        // One of the old height that comes late is not lost.
        open.push(Announcement::from_bytes(&announcement(5)), start + Duration::from_secs(9));
        assert_eq!(open.take_due(start + Duration::from_secs(19), age_max).len(), 2);
        assert_eq!(open.waiting(), 0);
    }
}
