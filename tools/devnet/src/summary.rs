//! The summary of a run: what happened, and whether all of it holds.

mod payouts;

use std::fmt;

use serde::Serialize;

use crate::node::EmbeddedNode;
use crate::node::accept::revalidate;
use crate::pool::{Pool, PoolStats};

/// One thing that must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it says.
    pub name: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// The figures that it was judged by.
    pub detail: String,
}

/// What a payee got over all blocks of the pool.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Paid {
    /// Who.
    pub name: String,
    /// Address.
    pub address: String,
    /// Coins.
    pub coins: f64,
}

/// What happened.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Seconds from start to end.
    pub seconds: f64,
    /// Blocks of this pool on the main chain.
    pub blocks: u32,
    /// Blocks of this pool that a reorganisation threw out.
    pub orphans: usize,
    /// Announcements found.
    pub announcements_made: u64,
    /// Announcements found, per second.
    pub announcements_per_second: f64,
    /// Block hashes tried.
    pub block_hashes: u64,
    /// Block hashes tried, per second.
    pub block_hashes_per_second: f64,
    /// Shares found.
    pub shares: u64,
    /// Who was paid what by the blocks on the main chain.
    pub paid: Vec<Paid>,
    /// Everything that must hold.
    pub checks: Vec<Check>,
    /// All counters.
    pub stats: PoolStats,
}

impl Summary {
    /// Whether everything holds.
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }

    /// What the counters of the pool say.
    pub(crate) fn of(pool: &Pool, stats: PoolStats) -> Self {
        let mut checks = Vec::new();
        let mut paid = Vec::new();
        if let Some(node) = pool.node() {
            checks.push(check_blocks(node, &stats));
            checks.push(check_known(node.known(), &stats));
            checks.push(payouts::check_payees(node, stats.seconds));
            checks.push(payouts::check_maps(node, &pool.sent_maps()));
            paid = payouts::payments(node, pool);
        }
        checks.push(check_announcements(&stats));
        checks.push(check_handlers(&stats));
        checks.push(check_shares(&stats));
        checks.push(check_block_handler_log(&stats));
        checks.push(check_events(&stats));
        checks.push(check_nothing_dropped(&stats));
        let seconds = stats.seconds.max(0.001);
        let made = stats.ann_miner.iter().map(|s| s.made).sum();
        let hashes = stats.block_miner.iter().map(|s| s.nonces).sum();
        Self {
            seconds: stats.seconds,
            blocks: stats.blocks,
            orphans: stats.orphans,
            announcements_made: made,
            announcements_per_second: made as f64 / seconds,
            block_hashes: hashes,
            block_hashes_per_second: hashes as f64 / seconds,
            shares: stats.block_miner.iter().map(|s| s.shares.found).sum(),
            paid,
            checks,
            stats,
        }
    }
}

fn check(name: &'static str, holds: bool, detail: String) -> Check {
    Check { name, holds, detail }
}

/// Every block is validated again, from what the chain holds.
fn check_blocks(node: &EmbeddedNode, stats: &PoolStats) -> Check {
    let name = "every block validates again, none was refused";
    let refused = node.refused();
    let (good, bad) = node.with_chain(|chain| {
        let mut good = 0;
        let mut bad = Vec::new();
        for block in chain.main_from(0).filter(|block| !block.is_placeholder()) {
            match revalidate(chain, block) {
                Ok(()) => good += 1,
                Err(error) => bad.push(format!("height {}: {error}", block.height)),
            }
        }
        (good, bad)
    });
    let holds = bad.is_empty() && refused.is_empty() && good == stats.blocks;
    let mut detail = format!("{good} of {} blocks", stats.blocks);
    for line in bad.iter().chain(&refused).take(5) {
        detail.push_str("; ");
        detail.push_str(line);
    }
    check(name, holds, detail)
}

/// A block is submitted once, but for two reasons: the node gave no answer, or the block handler was
/// started again and has forgotten which headers it had submitted.
fn check_known(known: u64, stats: &PoolStats) -> Check {
    let name = "every block is submitted once, but for lost answers and restarts";
    let again: u64 = stats.block_handler.iter().map(|life| life.blocks_resubmitted).sum();
    let restarted: u64 = stats.block_handler.iter().skip(1).map(|life| life.blocks_submitted).sum();
    let detail = format!(
        "{known} known to the node before, {again} submitted again, {restarted} after a restart"
    );
    check(name, known <= again + restarted, detail)
}

fn check_announcements(stats: &PoolStats) -> Check {
    let name = "announcements made = accepted + duplicate + rejected + overload + lost + in flight";
    let holds = stats
        .ann_miner
        .iter()
        .all(|life| life.pools.iter().all(|pool| pool.is_conserved() && pool.offered == life.made));
    let mut detail = String::new();
    for life in &stats.ann_miner {
        for pool in &life.pools {
            let under_way = pool.waiting + pool.queued + pool.uploading;
            detail.push_str(&format!(
                "{} = {} + {} + {} + {} + {} + {under_way} ",
                life.made,
                pool.accepted,
                pool.duplicate,
                pool.rejected_total(),
                pool.overload,
                pool.lost()
            ));
        }
    }
    check(name, holds, detail.trim_end().to_owned())
}

/// What miners were told is what handlers did. A handler that ended between its commit and its reply
/// has accepted what the miner then sees as a duplicate, or as lost.
fn check_handlers(stats: &PoolStats) -> Check {
    let name = "announcements accepted at the handlers = accepted at the miner";
    let at_handlers: u64 = stats.ann_handlers.iter().map(|s| s.announcements.accepted).sum();
    let pools = || stats.ann_miner.iter().flat_map(|life| &life.pools);
    let accepted: u64 = pools().map(|p| p.accepted).sum();
    let unsure: u64 = pools().map(|p| p.duplicate + p.lost() + p.overload).sum();
    let holds = (accepted..=accepted + unsure).contains(&at_handlers);
    check(name, holds, format!("{at_handlers} at the handlers, {accepted} at the miner"))
}

fn check_shares(stats: &PoolStats) -> Check {
    let name = "shares found = accepted + duplicate + rejected + stale + lost + in flight";
    let conserved = stats.block_miner.iter().all(|life| life.shares.is_conserved());
    let sum = |count: &dyn Fn(&packetcrypt_blockminer::stats::ShareFigures) -> u64| -> u64 {
        stats.block_miner.iter().map(|life| count(&life.shares)).sum()
    };
    let accepted = sum(&|s| s.accepted);
    let confirmed = accepted + sum(&|s| s.duplicate);
    let at_handler: u64 = stats.block_handler.iter().map(|s| s.accepted).sum();
    let possible = confirmed + sum(&|s| s.lost + s.stale + s.rejected_total());
    let holds = conserved && (accepted..=possible).contains(&at_handler);
    let detail = format!(
        "{} = {accepted} + {} + {} + {} + {} + {}; {at_handler} at the block handler",
        sum(&|s| s.found),
        sum(&|s| s.duplicate),
        sum(&|s| s.rejected_total()),
        sum(&|s| s.stale),
        sum(&|s| s.lost),
        sum(&|s| s.in_flight + s.queued),
    );
    check(name, holds, detail)
}

/// Every share that was accepted and every block that was noticed is an event.
fn check_block_handler_log(stats: &PoolStats) -> Check {
    let name = "shares and blocks counted = events logged by the block handler";
    let sum = |count: &dyn Fn(&packetcrypt_blkhandler::Stats) -> u64| -> u64 {
        stats.block_handler.iter().map(count).sum()
    };
    let (shares, blocks) = (sum(&|s| s.accepted), sum(&|s| s.block_events));
    let logged = sum(&|s| s.pay_log.appended);
    // A block that the node took late, after it was away, is logged once more as a block.
    let late = sum(&|s| s.blocks_taken);
    let counted = shares + blocks;
    let holds = (counted..=counted + late).contains(&logged);
    check(name, holds, format!("{shares} shares, {blocks} blocks; {logged} logged"))
}

fn check_events(stats: &PoolStats) -> Check {
    let name = "events logged = events at the paymaker";
    let (logged, received) = (stats.events_logged(), stats.events_received());
    check(name, logged == received, format!("{logged} logged, {received} received"))
}

fn check_nothing_dropped(stats: &PoolStats) -> Check {
    let name = "nothing dropped";
    let overflow: u64 = stats.ann_miner.iter().flat_map(|s| &s.pools).map(|p| p.overflow).sum();
    let failures: u64 =
        stats.ann_handlers.iter().map(|s| s.commit_failures + s.worker_panics).sum();
    let damaged: u64 = stats.ann_handlers.iter().map(|s| s.damaged_runs).sum();
    let shares: u64 = stats.block_miner.iter().map(|s| s.shares.lost).sum();
    let of_ann_handlers = stats.ann_handlers.iter().filter_map(|s| s.pay_log.as_ref());
    let logs = of_ann_handlers.chain(stats.block_handler.iter().map(|s| &s.pay_log));
    let unlogged: u64 = logs.map(|log| log.refused + log.failed + log.files_refused).sum();
    let sprayers = || stats.ann_handlers.iter().filter_map(|s| s.sprayer.as_ref());
    let unsent: u64 = sprayers()
        .map(|s| {
            let of_peers: u64 = s.peers.iter().map(|peer| peer.dropped).sum();
            s.outgoing.dropped + s.incoming.dropped + of_peers
        })
        .sum();
    let queue_full = packetcrypt_blockminer::stats::DropReason::QueueFull.name();
    let untaken: u64 =
        stats.block_miner.iter().filter_map(|s| s.announcements.dropped.get(queue_full)).sum();
    let uncredited: u64 = stats
        .paymaker
        .iter()
        .map(|s| &s.events)
        .map(|e| e.lost + e.old + e.ahead + e.invalid_pay_to + e.unknown + e.malformed)
        .sum();
    let dropped = [overflow, unsent, untaken, failures, damaged, unlogged, uncredited, shares];
    let detail = format!(
        "announcements dropped from the miner's queues {overflow}, by sprayers {unsent}, at the \
         block miner {untaken}; failed commits {failures}, damaged files {damaged}, events or files \
         of events not logged or refused {unlogged}, events not credited {uncredited}; shares lost {shares}"
    );
    check(name, dropped.iter().all(|&count| count == 0), detail)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{} blocks in {:.1} s, {} orphaned",
            self.blocks, self.seconds, self.orphans
        )?;
        writeln!(
            f,
            "{} announcements ({:.0}/s), {} block hashes ({:.0}/s), {} shares",
            self.announcements_made,
            self.announcements_per_second,
            self.block_hashes,
            self.block_hashes_per_second,
            self.shares
        )?;
        for paid in &self.paid {
            writeln!(f, "{:>14.6} coins to the {} {}", paid.coins, paid.name, paid.address)?;
        }
        for check in &self.checks {
            let mark = if check.holds { "ok  " } else { "FAIL" };
            writeln!(f, "{mark} {}: {}", check.name, check.detail)?;
        }
        write!(f, "{}", if self.holds() { "everything holds" } else { "NOT everything holds" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three announcements: two confirmed by a handler, one still waiting.
    fn stats() -> PoolStats {
        let pool = packetcrypt_miner::PoolStats {
            offered: 3,
            accepted: 2,
            waiting: 1,
            ..packetcrypt_miner::PoolStats::default()
        };
        let mut stats = PoolStats::default();
        stats.ann_miner.push(packetcrypt_miner::Stats {
            made: 3,
            pools: vec![pool],
            ..packetcrypt_miner::Stats::default()
        });
        let mut handler = packetcrypt_handler::Stats::default();
        handler.announcements.accepted = 2;
        stats.ann_handlers.push(handler);
        let mut block_handler =
            packetcrypt_blkhandler::Stats { accepted: 4, block_events: 1, ..Default::default() };
        block_handler.pay_log.appended = 5;
        stats.block_handler.push(block_handler);
        let mut paymaker = packetcrypt_paymaker::Stats::default();
        paymaker.events.received = 5;
        stats.paymaker.push(paymaker);
        stats
    }

    /// Every check holds for [`stats`], and does not after `change`.
    fn breaks(check: fn(&PoolStats) -> Check, change: fn(&mut PoolStats)) {
        let mut stats = stats();
        let before = check(&stats);
        assert!(before.holds, "{before:?}");
        change(&mut stats);
        let after = check(&stats);
        assert!(!after.holds, "{after:?}");
    }

    #[test]
    fn what_is_missing_is_noticed() {
        // Found and nowhere.
        breaks(check_announcements, |stats| stats.ann_miner[0].made = 4);
        breaks(check_announcements, |stats| stats.ann_miner[0].pools[0].waiting = 0);
        // Acknowledged and not there; there and never sent.
        breaks(check_handlers, |stats| stats.ann_handlers[0].announcements.accepted = 1);
        breaks(check_handlers, |stats| stats.ann_handlers[0].announcements.accepted = 3);
        // Accepted and not logged; logged and never accepted, and no block taken late.
        breaks(check_block_handler_log, |stats| stats.block_handler[0].accepted = 5);
        breaks(check_block_handler_log, |stats| stats.block_handler[0].block_events = 0);
        breaks(check_block_handler_log, |stats| stats.block_handler[0].pay_log.appended = 4);
        breaks(check_block_handler_log, |stats| stats.block_handler[0].pay_log.appended = 6);
        // Logged and not at the paymaker; at the paymaker and never logged, also when a block was
        // taken, late or not.
        breaks(check_events, |stats| stats.paymaker[0].events.received = 4);
        breaks(check_events, |stats| stats.paymaker[0].events.received = 6);
        breaks(check_events, |stats| {
            stats.block_handler[0].blocks_taken = 1;
            stats.paymaker[0].events.received = 6;
        });
        breaks(check_events, |stats| stats.block_handler[0].pay_log.appended = 6);
        breaks(check_nothing_dropped, |stats| stats.ann_miner[0].pools[0].overflow = 1);
        breaks(check_nothing_dropped, |stats| stats.ann_handlers[0].worker_panics = 1);
        breaks(check_nothing_dropped, |stats| stats.paymaker[0].events.lost = 1);
        breaks(check_nothing_dropped, |stats| {
            stats.ann_handlers[0].pay_log = Some(packetcrypt_net::paylog::PayLogStats {
                refused: 1,
                ..packetcrypt_net::paylog::PayLogStats::default()
            });
        });
        breaks(check_nothing_dropped, |stats| {
            let mut handler = packetcrypt_blkhandler::Stats::default();
            handler.pay_log.files_refused = 1;
            stats.block_handler.push(handler);
        });
        breaks(check_nothing_dropped, |stats| {
            let mut miner = packetcrypt_blockminer::Stats::default();
            miner.announcements.dropped.insert("queue_full", 1);
            stats.block_miner.push(miner);
        });
    }

    #[test]
    fn a_block_told_twice_needs_a_reason() {
        let mut stats = stats();
        stats.block_handler[0].blocks_submitted = 5;
        assert!(check_known(0, &stats).holds);
        assert!(!check_known(1, &stats).holds);
        stats.block_handler[0].blocks_resubmitted = 1;
        assert!(check_known(1, &stats).holds);
        assert!(!check_known(2, &stats).holds);
        let again = packetcrypt_blkhandler::Stats { blocks_submitted: 1, ..Default::default() };
        stats.block_handler.push(again);
        assert!(check_known(2, &stats).holds);
        assert!(!check_known(3, &stats).holds);
    }

    #[test]
    fn a_share_that_nobody_found_is_noticed() {
        let mut stats = stats();
        assert!(!check_shares(&stats).holds);
        stats.block_handler[0].accepted = 0;
        assert!(check_shares(&stats).holds);
    }
}
