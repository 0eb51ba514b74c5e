//! What the miner counts, and the line that says it.
//!
//! Every announcement that was offered to a pool is in exactly one place: `offered = accepted +
//! duplicate + rejected + overload + lost + waiting + queued + uploading`, see
//! [`PoolStats::is_conserved`].

use core::fmt::Write as _;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::collections::BTreeMap;
use std::sync::Mutex;

use packetcrypt_net::control::ControlFigures;
use serde::Serialize;

/// Snapshot of the whole miner.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stats {
    /// Announcements found by this process.
    pub made: u64,
    /// Hashes tried: soft nonces whose work hash was computed.
    pub nonces: u64,
    /// Jobs (pairs of tables) that were built.
    pub tables: u64,
    /// Jobs abandoned because their program can not be generated or run (spec 03, 2.8).
    pub tables_failed: u64,
    /// Expected encryptions of the announcements found: announcements × work of the target.
    pub encryptions: f64,
    /// Parent block height that is mined at present, or `None` when not mining.
    pub parent_height: Option<u32>,
    /// Why nothing is mined at present; empty while mining.
    pub idle_reason: String,
    /// Each pool, in the order of the configuration.
    pub pools: Vec<PoolStats>,
    /// Connections to `/metrics` and `/stats.json`, in what these serve.
    pub control: ControlFigures,
}

/// Snapshot of the announcements that were offered to one pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PoolStats {
    /// Base URL.
    pub url: String,
    /// Whether this pool decides what is mined.
    pub leads: bool,
    /// Whether it has answered lately.
    pub connected: bool,
    /// Announcements that were meant for this pool.
    pub offered: u64,
    /// Confirmed as new by a handler.
    pub accepted: u64,
    /// Confirmed as known before.
    pub duplicate: u64,
    /// Refused by a handler, by its reason.
    pub rejected: BTreeMap<String, u64>,
    /// In posts that a handler was too busy to take, until they were too old.
    pub overload: u64,
    /// In posts that got no answer, or none that can be understood, until they were too old.
    pub failed: u64,
    /// Dropped because the queue of a handler was full.
    pub overflow: u64,
    /// In open batches.
    pub waiting: u64,
    /// In the queues of the handlers.
    pub queued: u64,
    /// In posts that are under way.
    pub uploading: u64,
}

impl PoolStats {
    /// Refused for any reason.
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Never confirmed nor refused: no answer, or no place in the queue.
    pub fn lost(&self) -> u64 {
        self.failed + self.overflow
    }

    /// Whether every offered announcement is accounted for.
    pub fn is_conserved(&self) -> bool {
        let settled = self.accepted + self.duplicate + self.rejected_total() + self.overload;
        self.offered == settled + self.lost() + self.waiting + self.queued + self.uploading
    }

    /// Accepted share of what was settled, in percent; 100 while nothing was.
    pub fn good_percent(&self) -> f64 {
        let bad = self.duplicate + self.rejected_total() + self.overload + self.lost();
        match self.accepted + bad {
            0 => 100.0,
            all => self.accepted as f64 * 100.0 / all as f64,
        }
    }
}

/// Counters of one pool, kept under one lock so that a snapshot is conserved. They are touched
/// once a batch, not once an announcement, except for `offered`.
#[derive(Debug, Default)]
pub(crate) struct PoolCounters(Mutex<PoolStats>);

impl PoolCounters {
    pub(crate) fn new(url: &str) -> Self {
        Self(Mutex::new(PoolStats { url: url.to_owned(), ..PoolStats::default() }))
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut PoolStats)) {
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    pub(crate) fn snapshot(&self) -> PoolStats {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// Counters of the mining threads.
#[derive(Debug, Default)]
pub(crate) struct MiningCounters {
    pub(crate) made: AtomicU64,
    pub(crate) nonces: AtomicU64,
    pub(crate) tables: AtomicU64,
    pub(crate) tables_failed: AtomicU64,
    /// Sum of the work of the targets of all announcements found, in whole hashes.
    pub(crate) work: AtomicU64,
}

impl MiningCounters {
    pub(crate) fn fill(&self, stats: &mut Stats) {
        stats.made = self.made.load(Relaxed);
        stats.nonces = self.nonces.load(Relaxed);
        stats.tables = self.tables.load(Relaxed);
        stats.tables_failed = self.tables_failed.load(Relaxed);
        stats.encryptions = self.work.load(Relaxed) as f64;
    }
}

/// The statistics line: what happened between two snapshots that are `seconds` apart.
///
/// `e/s` expected encryptions a second (announcements × work of their target), `ann/s`
/// announcements a second, `h/s` soft nonces a second, bit rate of the announcements to all pools
/// (steps of 1024 as the reference miner), then one entry a pool: `overflow` dropped from full
/// queues, `uploading` in posts under way, `accept/reject/overload` with duplicates counted as
/// rejected, `goodrate` accepted of all that was settled.
pub fn line(before: &Stats, now: &Stats, seconds: f64) -> String {
    let seconds = seconds.max(0.001);
    let rate = |a: u64, b: u64| b.saturating_sub(a) as f64 / seconds;
    let made = rate(before.made, now.made);
    let mut text = format!(
        "{} e/s  {:.1} ann/s  {} h/s  {}b/s ",
        thousands((now.encryptions - before.encryptions).max(0.0) / seconds),
        made,
        thousands(rate(before.nonces, now.nonces)),
        kibi(made * now.pools.len() as f64 * 8192.0),
    );
    let empty = PoolStats::default();
    let pairs: Vec<(&PoolStats, &PoolStats)> = now
        .pools
        .iter()
        .enumerate()
        .map(|(i, pool)| (before.pools.get(i).unwrap_or(&empty), pool))
        .collect();
    let mut column = |title: &str, cell: &dyn Fn(&PoolStats, &PoolStats) -> String| {
        let cells: Vec<String> = pairs.iter().map(|(a, b)| cell(a, b)).collect();
        let _ = write!(text, " {title}: [{}]", cells.join(","));
    };
    column("overflow", &|a, b| (b.overflow - a.overflow).to_string());
    column("uploading", &|_, b| b.uploading.to_string());
    column("accept/reject/overload", &|a, b| {
        let rejected = |s: &PoolStats| s.duplicate + s.rejected_total();
        format!(
            "{}/{}/{}",
            b.accepted - a.accepted,
            rejected(b) - rejected(a),
            b.overload - a.overload
        )
    });
    column("goodrate", &|a, b| format!("{:.0}%", since(a, b).good_percent()));
    if !now.idle_reason.is_empty() {
        let _ = write!(text, "  NOT MINING: {}", now.idle_reason);
    }
    text
}

fn since(before: &PoolStats, now: &PoolStats) -> PoolStats {
    let rejected = now
        .rejected
        .iter()
        .map(|(reason, n)| (reason.clone(), n - before.rejected.get(reason).unwrap_or(&0)));
    PoolStats {
        accepted: now.accepted - before.accepted,
        duplicate: now.duplicate - before.duplicate,
        rejected: rejected.collect(),
        overload: now.overload - before.overload,
        failed: now.failed - before.failed,
        overflow: now.overflow - before.overflow,
        ..PoolStats::default()
    }
}

/// Steps of 1000 from 10000 up, as the reference miner prints encryptions.
fn thousands(value: f64) -> String {
    scaled(value, 1000.0, &["", "K", "M", "G", "T", "P", "E"], 10_000.0)
}

/// Steps of 1024, as the reference miner prints bit rates.
fn kibi(value: f64) -> String {
    scaled(value, 1024.0, &["", "K", "M", "G", "T", "P", "E"], 1024.0)
}

fn scaled(mut value: f64, step: f64, units: &[&str], from: f64) -> String {
    let mut unit = 0;
    while value >= from && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    if unit == 0 { format!("{value:.0}") } else { format!("{value:.2}{}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_differences() {
        let mut before = Stats::default();
        before.pools.push(PoolStats { accepted: 10, overload: 5, ..PoolStats::default() });
        let mut now = before.clone();
        now.made = 30;
        now.encryptions = 128.0 * 30.0;
        now.pools[0].accepted = 20;
        now.pools[0].duplicate = 10;
        let text = line(&before, &now, 10.0);
        assert!(text.starts_with("384 e/s  3.0 ann/s  0 h/s  24.00Kb/s"), "{text}");
        assert!(text.contains("accept/reject/overload: [10/10/0]"), "{text}");
        assert!(text.contains("goodrate: [50%]"), "{text}");
    }

    #[test]
    fn an_unaccounted_announcement_is_noticed() {
        let mut pool = PoolStats { offered: 3, accepted: 1, queued: 2, ..PoolStats::default() };
        assert!(pool.is_conserved());
        pool.queued = 1;
        assert!(!pool.is_conserved());
    }

    #[test]
    fn a_dead_pool_is_not_good() {
        let pool = PoolStats { offered: 3, failed: 3, ..PoolStats::default() };
        assert_eq!(pool.good_percent(), 0.0);
        assert_eq!(PoolStats::default().good_percent(), 100.0);
    }
}
