//! Figures: counters that are conserved, the snapshot, the line, and `/metrics`.
//!
//! Announcements: `received = stored + duplicate + dropped(every reason) + queued`.
//! Shares: `found = accepted + duplicate + rejected(every reason) + stale + lost + in_flight`.

mod arrivals;
mod shares;

use std::fmt::Write as _;

use packetcrypt_core::bytes::CompactTarget;
use packetcrypt_core::difficulty;
use packetcrypt_net::control::ControlFigures;
use packetcrypt_net::pool_client::PoolStatus;
use serde::Serialize;

pub(crate) use arrivals::ArrivalCounters;
pub use arrivals::{ArrivalFigures, DropReason};
pub(crate) use shares::{ShareCounters, Ticket};
pub use shares::{ShareFigures, ShareOutcome};

/// The job that is mined.
#[derive(Clone, Debug, Serialize)]
pub struct JobFigures {
    /// Height of the block that is mined.
    pub height: u32,
    /// Announcements in the tree.
    pub announcements: u64,
    /// The committed least work, as a compact word in hex.
    pub least_work: String,
    /// Expected hashes for one announcement of the least work.
    pub least_work_hashes: u64,
    /// What a work hash must be below, as a compact word in hex.
    pub mining_target: String,
    /// How many hashes one hash is worth.
    pub multiplier: u64,
    /// How long it has been mined, ms.
    pub age_ms: u64,
}

/// Trees and jobs since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct BuildFigures {
    /// Jobs given to the mining threads.
    pub jobs: u64,
    /// Of them with a tree that was ready before their work came.
    pub jobs_with_ready_tree: u64,
    /// Trees built.
    pub trees: u64,
    /// Trees and works that made no job: see the log.
    pub failed: u64,
    /// Announcements in the last tree.
    pub last_announcements: u64,
    /// Time the last tree's index took, ms.
    pub last_index_ms: f64,
    /// Time the last tree's layers took, ms.
    pub last_layers_ms: f64,
}

/// Figures of the store, in announcements unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StoreStats {
    /// Room.
    pub slots: u64,
    /// Held.
    pub held: u64,
    /// Held and usable in the next block.
    pub usable: u64,
    /// Held and not yet usable in the next block.
    pub waiting: u64,
    /// Referred to by the job that is mined or by a prepared tree.
    pub pinned: u64,
    /// Recycled since the start.
    pub recycled: u64,
    /// Classes (parent height, target, sender).
    pub classes: u64,
}

/// A peer that sends announcements.
#[derive(Clone, Debug, Serialize)]
pub struct PeerFigures {
    /// Its address.
    pub name: String,
    /// Announcements that came from it.
    pub received: u64,
    /// Of them new.
    pub stored: u64,
    /// Rate of the last long download from it, bytes a second; 0 before there was one.
    pub download_bytes_per_second: f64,
    /// For how long it stays dropped, ms; 0 when it is not.
    pub dropped_for_ms: u64,
    /// What goes wrong with it, if anything.
    pub trouble: Option<String>,
}

/// All figures at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stats {
    /// The pool.
    pub pool: PoolStatus,
    /// Height of the block to be mined next, `None` before the first work.
    pub height: Option<u32>,
    /// The job, `None` while nothing is mined.
    pub job: Option<JobFigures>,
    /// Why nothing is mined.
    pub not_mining: Option<String>,
    /// Mining threads.
    pub threads: u64,
    /// Instruction set of the kernels.
    pub backend: &'static str,
    /// Nonces tried since the start.
    pub nonces: u64,
    /// Nonces tried a second, over the last ten seconds.
    pub nonces_per_second: f64,
    /// That times the job's multiplier.
    pub effective_per_second: f64,
    /// Bytes of announcements read a second for these nonces: of the four that a nonce draws, the
    /// first is the same for all nonces of a header.
    pub read_bytes_per_second: f64,
    /// Bytes of the arena.
    pub arena_bytes: u64,
    /// Of them in huge pages, looked at once a minute; `None` where the system does not tell.
    pub huge_page_bytes: Option<u64>,
    /// Trees and jobs.
    pub builds: BuildFigures,
    /// The store.
    pub store: StoreStats,
    /// Announcements that arrived.
    pub announcements: ArrivalFigures,
    /// Who sent them.
    pub peers: Vec<PeerFigures>,
    /// Shares.
    pub shares: ShareFigures,
    /// Connections to `/metrics` and `/stats.json`.
    pub control: ControlFigures,
}

impl Stats {
    /// The line of spec 05, 9.5, and behind it what else matters: shares by outcome, and the
    /// reason when nothing is mined. `before` are the peers' figures of the last line.
    #[must_use]
    pub fn line(&self, before: &[PeerFigures]) -> String {
        let (announcements, least_work) =
            self.job.as_ref().map_or((0, 0), |job| (job.announcements, job.least_work_hashes));
        let mut line = format!(
            "shr: {} real: {} eff: {} anns: {announcements} @ {least_work} rdy: {} spr: {} imm: {} cls: {}",
            self.shares.accepted,
            rate(self.nonces_per_second),
            rate(self.effective_per_second),
            self.store.usable,
            self.store.slots - self.store.held,
            self.store.waiting,
            self.store.classes,
        );
        let thousands: Vec<String> = self
            .peers
            .iter()
            .map(|peer| {
                let old = before.iter().find(|old| old.name == peer.name);
                let new = peer.received - old.map_or(0, |old| old.received);
                format!("{:.1}", new as f64 / 1000.0)
            })
            .collect();
        let shares = &self.shares;
        // Writing to a string does not fail.
        let _ = write!(
            line,
            " <- [{}] exp: {:.1} ({} to {}) mem: {:.2} GB/s rej: {} stale: {} lost: {} q: {}",
            thousands.join(", "),
            shares.expected,
            shares.expected_95.0,
            shares.expected_95.1,
            self.read_bytes_per_second / 1e9,
            shares.rejected_total() + shares.duplicate,
            shares.stale,
            shares.lost,
            shares.in_flight,
        );
        if let Some(reason) = &self.not_mining {
            let _ = write!(line, " not mining: {reason}");
        }
        line
    }
}

/// Expected hashes for a target, saturating.
pub(crate) fn hashes_of(target: CompactTarget) -> u64 {
    difficulty::target(target)
        .map_or(0, |target| difficulty::work_for_target(&target).saturating_u64())
}

/// The counts between which a Poisson distribution of this mean has 95 % of its values.
pub(crate) fn poisson_95(mean: f64) -> (u64, u64) {
    /// Above it the normal distribution is as good.
    const SUMMED_MAX: f64 = 400.0;
    if mean > SUMMED_MAX {
        let width = 1.959_964 * mean.sqrt();
        return ((mean - width).floor() as u64, (mean + width).ceil() as u64);
    }
    let (mut count, mut term) = (0_u64, (-mean).exp());
    let mut sum = term;
    let mut low = None;
    loop {
        if sum > 0.025 {
            low.get_or_insert(count);
        }
        if sum >= 0.975 {
            return (low.unwrap_or(0), count);
        }
        count += 1;
        term *= mean / count as f64;
        sum += term;
    }
}

/// A rate as the reference prints it: steps of 1000 from 10000 up (spec 05, 8.7).
fn rate(per_second: f64) -> String {
    const UNITS: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];
    let mut value = per_second;
    let mut unit = 0;
    while value >= 10_000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.0} {}e/s", UNITS[unit])
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_luck_explains_is_told() {
        assert_eq!(poisson_95(0.0), (0, 0));
        // Values of tables of the distribution.
        assert_eq!(poisson_95(1.0), (0, 3));
        assert_eq!(poisson_95(10.0), (4, 17));
        assert_eq!(poisson_95(100.0), (81, 120));
        let (low, high) = poisson_95(1e6);
        assert!((998_030..=998_050).contains(&low) && (1_001_950..=1_001_970).contains(&high));
    }

    #[test]
    fn rates_step_from_ten_thousand_up() {
        assert_eq!(rate(766.0), "766 e/s");
        assert_eq!(rate(9999.0), "9999 e/s");
        assert_eq!(rate(12_345.0), "12 Ke/s");
        assert_eq!(rate(2.5e10), "25 Ge/s");
    }
}
