//! What a block handler counts. Every share that arrives is in exactly one place:
//! `received = accepted + duplicate + rejected + overloaded + failed + in flight`.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use packetcrypt_net::control::{ControlCounters, ControlFigures};
use packetcrypt_net::metrics::Metrics;
use packetcrypt_net::paylog::{PayLogFigures, PayLogStats};
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

/// Where a request to `/submit` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    Duplicate,
    Malformed,
    WrongWork,
    BadAnnouncement,
    InvalidHere,
    InvalidAtNode,
    /// Too many shares in hand.
    Crowded,
    /// More shares of one work than may be remembered.
    TooManyShares,
    Failed,
}

/// A snapshot of the counters; all count from the start of the handler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// POST requests to `/submit`, whatever became of them.
    pub received: u64,
    /// Shares that were logged, so that they are paid; those for the previous work and those whose
    /// block was refused too.
    pub accepted: u64,
    /// Shares that had been accepted before; answered 200 and not logged.
    pub duplicate: u64,
    /// Shares refused: the sum of the five causes that follow.
    pub rejected: u64,
    /// ... because the upload has not the right form.
    pub rejected_malformed: u64,
    /// ... because it builds on another block than the present work (stale).
    pub rejected_wrong_work: u64,
    /// ... because of an announcement's parent, signing key or target.
    pub rejected_announcement: u64,
    /// ... because it failed this handler's own check.
    pub rejected_invalid: u64,
    /// ... because the node refused it.
    pub rejected_by_node: u64,
    /// Answered 501: the sum of the two causes that follow.
    pub overloaded: u64,
    /// ... because `max_connections` shares were in hand.
    pub overloaded_crowded: u64,
    /// ... because `shares_per_work_max` shares of this work were accepted.
    pub overloaded_too_many_shares: u64,
    /// Answered 500: no work, no template, node or disk out of order.
    pub failed: u64,
    /// In progress now.
    pub in_flight: u64,
    /// Accepted shares that were for the previous work; part of `accepted`.
    pub accepted_previous_work: u64,
    /// Accepted shares that the node could not be asked about; part of `accepted`.
    pub accepted_without_node: u64,
    /// Blocks handed to the node, each counted once.
    pub blocks_submitted: u64,
    /// ... taken by the node.
    pub blocks_taken: u64,
    /// ... refused by the node.
    pub blocks_refused: u64,
    /// ... that the node had already: found with another low nonce, or submitted before a restart.
    pub blocks_known: u64,
    /// ... about which the node has not answered yet; they are handed to it again.
    pub blocks_pending: u64,
    /// Submissions beyond the first of a block, as long as the node gave no answer.
    pub blocks_resubmitted: u64,
    /// Events of blocks of the chain logged (spec 05, 10.4).
    pub block_events: u64,
    /// Events of blocks of the chain given up: orphaned, or too many while the node was away.
    pub block_events_lost: u64,
    /// Parent blocks of announcements that the node was asked for, since the master had not told
    /// them.
    pub parents_asked: u64,
    /// Height of the present work; 0 before the first.
    pub work_height: i32,
    /// Works that the master gave for a block on which there was one.
    pub works_refreshed: u64,
    /// Connections, those of `/metrics` too.
    pub control: ControlFigures,
    /// The pay log.
    pub pay_log: PayLogStats,
}

impl fmt::Display for Stats {
    /// The statistics line; counts from the start.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "shares: accepted {} dup {} rejected {} overloaded {} failed {} in flight {}; blocks: \
             taken {} refused {} known {} pending {}; {}",
            self.accepted,
            self.duplicate,
            self.rejected,
            self.overloaded,
            self.failed,
            self.in_flight,
            self.blocks_taken,
            self.blocks_refused,
            self.blocks_known,
            self.blocks_pending,
            self.pay_log
        )
    }
}

/// The counters behind [`Stats`], as the Prometheus registry holds them.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) received: Counter,
    pub(crate) accepted: Counter,
    pub(crate) duplicate: Counter,
    malformed: Counter,
    wrong_work: Counter,
    announcement: Counter,
    invalid: Counter,
    by_node: Counter,
    crowded: Counter,
    too_many_shares: Counter,
    failed: Counter,
    pub(crate) previous_work: Counter,
    pub(crate) without_node: Counter,
    pub(crate) blocks_submitted: Counter,
    pub(crate) blocks_taken: Counter,
    pub(crate) blocks_refused: Counter,
    pub(crate) blocks_known: Counter,
    pub(crate) blocks_resubmitted: Counter,
    pub(crate) block_events: Counter,
    pub(crate) block_events_lost: Counter,
    pub(crate) works_refreshed: Counter,
    pub(crate) parents_asked: Counter,
    pub(crate) control: ControlCounters,
    work_height: AtomicU64,
    pay_log: PayLogFigures,
}

impl Counters {
    /// Registers all counters.
    pub(crate) fn new(metrics: &mut Metrics, pay_log: PayLogFigures) -> Self {
        let control = ControlCounters::default();
        control.register(metrics);
        pay_log.register(metrics);
        let mut counter = |name: &str, help: &str| metrics.counter(name, help);
        Self {
            received: counter("shares_received", "POST requests to /submit"),
            accepted: counter("shares_accepted", "Shares logged, so that they are paid"),
            duplicate: counter("shares_duplicate", "Shares that had been accepted before"),
            malformed: counter("shares_malformed", "Shares refused for their form"),
            wrong_work: counter("shares_wrong_work", "Shares refused for another previous block"),
            announcement: counter("shares_bad_announcement", "Shares refused before any check"),
            invalid: counter("shares_invalid", "Shares refused by the own check"),
            by_node: counter("shares_refused_by_node", "Shares refused by the node"),
            crowded: counter("shares_crowded", "Shares answered 501: too many in hand"),
            too_many_shares: counter(
                "shares_too_many",
                "Shares answered 501: as many of their work as may be remembered",
            ),
            failed: counter("shares_failed", "Requests answered 500"),
            previous_work: counter("shares_previous_work", "Accepted, for the previous work"),
            without_node: counter("shares_without_node", "Accepted while the node was away"),
            blocks_submitted: counter("blocks_submitted", "Blocks handed to the node"),
            blocks_taken: counter("blocks_taken", "Blocks taken by the node"),
            blocks_refused: counter("blocks_refused", "Blocks refused by the node"),
            blocks_known: counter("blocks_known", "Blocks that the node had already"),
            blocks_resubmitted: counter("blocks_resubmitted", "Blocks handed to the node again"),
            block_events: counter("block_events", "Events of chain blocks logged"),
            block_events_lost: counter("block_events_lost", "Events of chain blocks given up"),
            works_refreshed: counter("works_refreshed", "Works that replaced one of their height"),
            parents_asked: counter("parents_asked", "Parent blocks asked of the node for shares"),
            control,
            work_height: AtomicU64::new(0),
            pay_log,
        }
    }

    /// Counts the end of a request.
    pub(crate) fn count(&self, outcome: Outcome) {
        match outcome {
            Outcome::Accepted => self.accepted.inc(),
            Outcome::Duplicate => self.duplicate.inc(),
            Outcome::Malformed => self.malformed.inc(),
            Outcome::WrongWork => self.wrong_work.inc(),
            Outcome::BadAnnouncement => self.announcement.inc(),
            Outcome::InvalidHere => self.invalid.inc(),
            Outcome::InvalidAtNode => self.by_node.inc(),
            Outcome::Crowded => self.crowded.inc(),
            Outcome::TooManyShares => self.too_many_shares.inc(),
            Outcome::Failed => self.failed.inc(),
        };
    }

    pub(crate) fn work_height_is(&self, height: i32) {
        self.work_height.store(u64::try_from(height).unwrap_or(0), Ordering::Relaxed);
    }

    /// The values now. The ends are read before the beginning, so that `in_flight` is never short.
    pub(crate) fn snapshot(&self) -> Stats {
        let mut stats = Stats {
            accepted: self.accepted.get(),
            duplicate: self.duplicate.get(),
            rejected_malformed: self.malformed.get(),
            rejected_wrong_work: self.wrong_work.get(),
            rejected_announcement: self.announcement.get(),
            rejected_invalid: self.invalid.get(),
            rejected_by_node: self.by_node.get(),
            overloaded_crowded: self.crowded.get(),
            overloaded_too_many_shares: self.too_many_shares.get(),
            failed: self.failed.get(),
            accepted_previous_work: self.previous_work.get(),
            accepted_without_node: self.without_node.get(),
            blocks_taken: self.blocks_taken.get(),
            blocks_refused: self.blocks_refused.get(),
            blocks_known: self.blocks_known.get(),
            blocks_resubmitted: self.blocks_resubmitted.get(),
            block_events: self.block_events.get(),
            block_events_lost: self.block_events_lost.get(),
            parents_asked: self.parents_asked.get(),
            control: self.control.figures(),
            work_height: i32::try_from(self.work_height.load(Ordering::Relaxed)).unwrap_or(0),
            works_refreshed: self.works_refreshed.get(),
            pay_log: self.pay_log.stats(),
            ..Stats::default()
        };
        stats.rejected = stats.rejected_malformed
            + stats.rejected_wrong_work
            + stats.rejected_announcement
            + stats.rejected_invalid
            + stats.rejected_by_node;
        stats.overloaded = stats.overloaded_crowded + stats.overloaded_too_many_shares;
        stats.blocks_submitted = self.blocks_submitted.get();
        stats.blocks_pending = stats
            .blocks_submitted
            .saturating_sub(stats.blocks_taken + stats.blocks_refused + stats.blocks_known);
        stats.received = self.received.get();
        let ended =
            stats.accepted + stats.duplicate + stats.rejected + stats.overloaded + stats.failed;
        stats.in_flight = stats.received.saturating_sub(ended);
        stats
    }
}

#[cfg(test)]
mod tests {
    use packetcrypt_net::paylog::{PayLog, PayLogOptions};

    use super::*;

    #[test]
    fn every_request_is_in_one_place() {
        let dir = tempfile::tempdir().unwrap();
        let pay_log = PayLog::open(PayLogOptions::new(dir.path())).unwrap();
        let mut metrics = Metrics::new("blkhandler");
        let counters = Counters::new(&mut metrics, pay_log.figures());
        let outcomes = [
            Outcome::Accepted,
            Outcome::Duplicate,
            Outcome::Malformed,
            Outcome::WrongWork,
            Outcome::BadAnnouncement,
            Outcome::InvalidHere,
            Outcome::InvalidAtNode,
            Outcome::Crowded,
            Outcome::TooManyShares,
            Outcome::Failed,
        ];
        for outcome in outcomes {
            counters.received.inc();
            counters.count(outcome);
        }
        counters.received.inc();
        let stats = counters.snapshot();
        assert_eq!((stats.received, stats.rejected, stats.in_flight), (11, 5, 1));
        assert_eq!(stats.overloaded, 2);
        let ended = stats.accepted + stats.duplicate + stats.overloaded + stats.failed;
        assert_eq!(ended + stats.rejected + stats.in_flight, stats.received);
        assert_eq!(
            stats.to_string(),
            "shares: accepted 1 dup 1 rejected 5 overloaded 2 failed 1 in flight 1; blocks: taken 0 \
             refused 0 known 0 pending 0; pay log: 0 events, files 0 sent 0 waiting"
        );
        let text = metrics.encode();
        assert!(text.contains("packetcrypt_blkhandler_paylog_files_begun_total 1\n"), "{text}");
    }
}
