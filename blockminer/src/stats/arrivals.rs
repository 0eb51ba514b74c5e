//! Announcements that arrive: each is stored, known, dropped for a reason, or still queued.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Why an announcement that arrived is not in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The pool has given no work yet, so nothing is known of heights.
    NoWork,
    /// Its version is not allowed at its parent height.
    Version,
    /// Its work target is not well-formed.
    Target,
    /// It is worth nothing any more.
    TooOld,
    /// Its parent height is above any block there may be.
    TooNew,
    /// Its parent block is not known (yet), so nothing of it can be checked.
    UnknownParent,
    /// Its key may not be in a tree.
    Key,
    /// It is signed with another key than the pool's.
    SigningKey,
    /// Its proof was checked and is wrong.
    BadProof,
    /// It was made on a block that left the chain.
    Replaced,
    /// Its sender was dropped for sending bad ones, or it came in one batch with a bad one.
    DroppedPeer,
    /// Nothing worth less could be recycled for it.
    NoRoom,
    /// Its sender has too many classes.
    TooManyClasses,
    /// It arrived faster than it could be taken in.
    QueueFull,
}

impl DropReason {
    /// Every reason, in the order of the counters.
    pub const ALL: [DropReason; 14] = [
        DropReason::NoWork,
        DropReason::Version,
        DropReason::Target,
        DropReason::TooOld,
        DropReason::TooNew,
        DropReason::UnknownParent,
        DropReason::Key,
        DropReason::SigningKey,
        DropReason::BadProof,
        DropReason::Replaced,
        DropReason::DroppedPeer,
        DropReason::NoRoom,
        DropReason::TooManyClasses,
        DropReason::QueueFull,
    ];

    /// The name in statistics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DropReason::NoWork => "no_work",
            DropReason::Version => "version",
            DropReason::Target => "target",
            DropReason::TooOld => "too_old",
            DropReason::TooNew => "too_new",
            DropReason::UnknownParent => "unknown_parent",
            DropReason::Key => "key",
            DropReason::SigningKey => "signing_key",
            DropReason::BadProof => "bad_proof",
            DropReason::Replaced => "replaced",
            DropReason::DroppedPeer => "dropped_peer",
            DropReason::NoRoom => "no_room",
            DropReason::TooManyClasses => "too_many_classes",
            DropReason::QueueFull => "queue_full",
        }
    }
}

/// Counters of arriving announcements.
#[derive(Debug, Default)]
pub(crate) struct ArrivalCounters {
    pub(crate) received: AtomicU64,
    pub(crate) stored: AtomicU64,
    pub(crate) duplicate: AtomicU64,
    /// Proofs checked on arrival.
    pub(crate) checked: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
}

impl ArrivalCounters {
    /// Counts announcements that were dropped.
    pub(crate) fn dropped(&self, reason: DropReason, count: u64) {
        self.dropped[reason as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// The figures of this moment.
    pub(crate) fn figures(&self) -> ArrivalFigures {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // What has arrived is read last, so that no difference is below zero.
        let dropped: BTreeMap<_, _> = DropReason::ALL
            .iter()
            .map(|reason| (reason.name(), of(&self.dropped[*reason as usize])))
            .collect();
        let (stored, duplicate, checked) =
            (of(&self.stored), of(&self.duplicate), of(&self.checked));
        let received = of(&self.received);
        let done = stored + duplicate + dropped.values().sum::<u64>();
        ArrivalFigures {
            received,
            stored,
            duplicate,
            dropped,
            queued: received.saturating_sub(done),
            checked,
        }
    }
}

/// Announcements that arrived since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ArrivalFigures {
    /// Came from any feed.
    pub received: u64,
    /// Went into the store.
    pub stored: u64,
    /// Were in the store already.
    pub duplicate: u64,
    /// Did not go in, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Wait for being looked at.
    pub queued: u64,
    /// Of them the proof was checked on arrival.
    pub checked: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_reasons_have_each_their_counter() {
        let counters = ArrivalCounters::default();
        counters.received.fetch_add(200, Ordering::Relaxed);
        for (at, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
            counters.dropped(reason, at as u64);
        }
        let figures = counters.figures();
        assert_eq!(figures.dropped.len(), DropReason::ALL.len());
        assert_eq!(figures.dropped["bad_proof"], DropReason::BadProof as u64);
        assert_eq!(figures.queued, 200 - figures.dropped.values().sum::<u64>());
    }
}
