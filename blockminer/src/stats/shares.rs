//! Shares that are found: each is accepted, known, rejected for a reason, stale, lost, or in flight.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// Different reasons of a rejection that are counted apart; further ones count as "other".
const REJECTIONS_LEN_MAX: usize = 32;
/// Characters of a reason.
const REASON_CHARS_MAX: usize = 80;

/// What becomes of a share, each exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShareOutcome {
    /// The block handler took it.
    Accepted {
        /// As a block.
        block: bool,
    },
    /// The block handler knew it.
    Duplicate,
    /// It is not valid, by our own check or the block handler's.
    Rejected(String),
    /// It is for a block that is not mined any more.
    Stale,
    /// It could not be delivered, or the miner stopped before it was.
    Lost,
}

/// Counters of shares. Made to be shared; each share holds a [`Ticket`].
#[derive(Debug, Default)]
pub(crate) struct ShareCounters {
    figures: Mutex<ShareFigures>,
}

/// Shares since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ShareFigures {
    /// Solutions found by the mining threads.
    pub found: u64,
    /// Taken by a block handler.
    pub accepted: u64,
    /// Taken as blocks; accepted ones too.
    pub blocks: u64,
    /// Known to the block handler already.
    pub duplicate: u64,
    /// Not valid, by reason. Reasons that begin with "own check" never left this miner.
    pub rejected: BTreeMap<String, u64>,
    /// For a block that was not mined any more.
    pub stale: u64,
    /// Not delivered: the queue was full, or the miner stopped.
    pub lost: u64,
    /// Found and none of these yet.
    pub in_flight: u64,
    /// Of those in flight: wait for an uploader.
    pub queued: u64,
    /// Uploads that failed and were tried again.
    pub retries: u64,
    /// Solutions that the nonces tried should have found on average.
    pub expected: f64,
    /// Between these two counts a miner that works right has found, 19 times of 20.
    pub expected_95: (u64, u64),
}

impl ShareFigures {
    /// Rejected for any reason.
    #[must_use]
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Whether every share found is in exactly one place.
    #[must_use]
    pub fn is_conserved(&self) -> bool {
        let done = self.accepted + self.duplicate + self.rejected_total() + self.stale + self.lost;
        self.found == done + self.in_flight
    }
}

impl ShareCounters {
    /// Counts a share that was found; the ticket counts what becomes of it.
    pub(crate) fn found(self: &Arc<Self>) -> Ticket {
        let mut figures = self.locked();
        figures.found += 1;
        figures.in_flight += 1;
        Ticket { counters: self.clone(), open: true }
    }

    /// Counts an upload that is tried again.
    pub(crate) fn retried(&self) {
        self.locked().retries += 1;
    }

    /// The figures of this moment, without the length of the queue.
    pub(crate) fn figures(&self) -> ShareFigures {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, ShareFigures> {
        // Nothing panics between the parts of a change.
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stands for one share found. Counts its outcome; dropped without one, the share is lost.
#[derive(Debug)]
pub(crate) struct Ticket {
    counters: Arc<ShareCounters>,
    open: bool,
}

impl Ticket {
    /// Counts what became of the share.
    pub(crate) fn finish(mut self, outcome: ShareOutcome) {
        self.count(outcome);
    }

    fn count(&mut self, outcome: ShareOutcome) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let mut figures = self.counters.locked();
        figures.in_flight -= 1;
        match outcome {
            ShareOutcome::Accepted { block } => {
                figures.accepted += 1;
                figures.blocks += u64::from(block);
            }
            ShareOutcome::Duplicate => figures.duplicate += 1,
            ShareOutcome::Rejected(reason) => {
                let reason = reason_key(&reason);
                let full = figures.rejected.len() >= REJECTIONS_LEN_MAX;
                let known = figures.rejected.contains_key(&reason);
                let key = if full && !known { "other".to_owned() } else { reason };
                *figures.rejected.entry(key).or_default() += 1;
            }
            ShareOutcome::Stale => figures.stale += 1,
            ShareOutcome::Lost => figures.lost += 1,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.count(ShareOutcome::Lost);
    }
}

/// The part of a reason that is the same for all shares: what stands before details in brackets.
fn reason_key(reason: &str) -> String {
    let end = reason.find('[').unwrap_or(reason.len());
    reason[..end].trim().chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_share_is_counted_once() {
        let counters = Arc::new(ShareCounters::default());
        let outcomes = [
            ShareOutcome::Accepted { block: true },
            ShareOutcome::Accepted { block: false },
            ShareOutcome::Duplicate,
            ShareOutcome::Rejected("Failed validation of share [{..}]".to_owned()),
            ShareOutcome::Rejected("Failed validation of share [other]".to_owned()),
            ShareOutcome::Stale,
            ShareOutcome::Lost,
        ];
        for outcome in outcomes {
            counters.found().finish(outcome);
        }
        drop(counters.found());
        let open = counters.found();
        let figures = counters.figures();
        assert!(figures.is_conserved());
        assert_eq!((figures.found, figures.in_flight), (9, 1));
        assert_eq!((figures.accepted, figures.blocks, figures.lost), (2, 1, 2));
        assert_eq!(figures.rejected["Failed validation of share"], 2);
        drop(open);
        assert!(counters.figures().is_conserved());
    }

    #[test]
    fn reasons_are_bounded() {
        let counters = Arc::new(ShareCounters::default());
        for reason in 0..100 {
            counters.found().finish(ShareOutcome::Rejected(format!("reason {reason}")));
        }
        let figures = counters.figures();
        assert_eq!(figures.rejected.len(), REJECTIONS_LEN_MAX + 1);
        assert_eq!(figures.rejected_total(), 100);
        assert_eq!(reason_key(&"x".repeat(1000)).len(), REASON_CHARS_MAX);
    }
}
