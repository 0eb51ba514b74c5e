//! What a run shows while it runs: a few lines drawn again and again on a terminal, plain lines
//! elsewhere.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::pool::{Pool, PoolStats};
use crate::screen;

/// The view of one run.
#[derive(Debug)]
pub struct View {
    live: bool,
    /// Addresses of the payees and what they are called.
    payees: Vec<(String, &'static str)>,
    blocks_shown: u32,
    last: Option<(Instant, PoolStats)>,
    printed: Instant,
}

impl View {
    /// A view of a pool; `live` = draw over what was drawn before.
    pub fn new(pool: &Pool, live: bool) -> Self {
        let payees = vec![
            (pool.plan.ann_miner_address.clone(), "announcement miner"),
            (pool.plan.block_miner_address.clone(), "block miner"),
            (pool.plan.pool_address.clone(), "pool"),
        ];
        Self { live, payees, blocks_shown: 0, last: None, printed: Instant::now() }
    }

    /// What is said once, at the start.
    pub fn head(&self, pool: &Pool) -> String {
        let plan = &pool.plan;
        let handlers: Vec<String> = plan.ann_handlers.iter().map(ToString::to_string).collect();
        format!(
            "PacketCrypt development network, seed {}\n\
             pool {}  announcement handlers {}  block handler {}  paymaker {}  node {}\n\
             announcement target {:08x} (work {})  data in {}",
            plan.config.seed,
            plan.master,
            handlers.join(" "),
            plan.block_handler,
            plan.paymaker,
            plan.config
                .node_url
                .as_ref()
                .map_or_else(|| format!("embedded on {}", plan.node), |_| "external".to_owned()),
            plan.config.ann_target().0,
            plan.config.ann_work,
            plan.dir.display(),
        )
    }

    /// Draws the state, or prints a line for each new block and now and then one of figures.
    ///
    /// # Errors
    /// The output can not be written.
    pub fn draw(
        &mut self,
        out: &mut impl Write,
        stats: &PoolStats,
        quiet: Duration,
    ) -> io::Result<()> {
        let lines = self.lines(stats);
        if self.live {
            screen::draw(out, lines)?;
        } else if stats.blocks != self.blocks_shown || self.printed.elapsed() >= quiet {
            writeln!(out, "{}", lines.join(" | "))?;
            self.printed = Instant::now();
        }
        self.blocks_shown = stats.blocks;
        let older = self.last.as_ref().is_none_or(|(at, _)| at.elapsed() >= Duration::from_secs(3));
        if older {
            self.last = Some((Instant::now(), stats.clone()));
        }
        Ok(())
    }

    fn lines(&self, stats: &PoolStats) -> Vec<String> {
        let (seconds, before) = match &self.last {
            Some((at, before)) => (at.elapsed().as_secs_f64().max(0.001), before.clone()),
            None => (stats.seconds.max(0.001), PoolStats::default()),
        };
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        let made = |s: &PoolStats| s.ann_miner.iter().map(|life| life.made).sum::<u64>();
        let hashes = |s: &PoolStats| s.block_miner.iter().map(|life| life.nonces).sum::<u64>();
        let pools = || stats.ann_miner.iter().flat_map(|life| &life.pools);
        let shares = |count: &dyn Fn(&packetcrypt_blockminer::stats::ShareFigures) -> u64| -> u64 {
            stats.block_miner.iter().map(|life| count(&life.shares)).sum()
        };
        let miner = stats.block_miner.last();
        let job = miner.and_then(|m| m.job.as_ref()).map_or_else(
            || miner.and_then(|m| m.not_mining.clone()).unwrap_or_else(|| "starting".to_owned()),
            |job| format!("{} announcements at height {}", job.announcements, job.height),
        );
        vec![
            format!("{:>4.0} s  height {}  blocks {}", stats.seconds, stats.height, stats.blocks),
            format!(
                "announcements {:.0}/s  accepted {} duplicate {} rejected {} overload {} lost {}",
                rate(made(stats), made(&before)),
                pools().map(|p| p.accepted).sum::<u64>(),
                pools().map(|p| p.duplicate).sum::<u64>(),
                pools().map(packetcrypt_miner::PoolStats::rejected_total).sum::<u64>(),
                pools().map(|p| p.overload).sum::<u64>(),
                pools().map(|p| p.failed + p.overflow).sum::<u64>(),
            ),
            format!("block hashes {:.0}/s  {job}", rate(hashes(stats), hashes(&before))),
            format!(
                "shares found {} accepted {} rejected {} stale {}",
                shares(&|s| s.found),
                shares(&|s| s.accepted),
                shares(&|s| s.rejected_total()),
                shares(&|s| s.stale),
            ),
            format!("events {}  payouts {}", stats.events_received(), self.payouts(stats)),
        ]
    }

    /// Whom the next block pays, in percent.
    fn payouts(&self, stats: &PoolStats) -> String {
        let last = stats.paymaker.iter().rev().find_map(|life| life.sent_maps.last());
        last.map_or_else(|| "none yet".to_owned(), |map| shown_map(&map.weights, &self.payees))
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if self.live {
            screen::leave();
        }
    }
}

fn shown_map(weights: &[(String, f64)], payees: &[(String, &str)]) -> String {
    let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
    let shown: Vec<String> = weights
        .iter()
        .map(|(address, weight)| {
            let payee = payees.iter().find(|(known, _)| known == address);
            let name = payee.map_or(address.as_str(), |(_, name)| name);
            format!("{name} {:.1} %", 100.0 * weight / total)
        })
        .collect();
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payouts_are_shown_by_name() {
        let weights = [("a".to_owned(), 0.75), ("x".to_owned(), 0.25)];
        let shown = shown_map(&weights, &[("a".to_owned(), "block miner")]);
        assert_eq!(shown, "block miner 75.0 %, x 25.0 %");
    }
}
