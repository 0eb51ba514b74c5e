//! Figures: counters that are conserved, the snapshot, the line, and `/metrics`.
//!
//! Announcements: `received = stored + duplicate + dropped(every reason) + queued`.
//! Shares: `found = accepted + duplicate + rejected(every reason) + stale + lost + in_flight`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use packetcrypt_core::bytes::CompactTarget;
use packetcrypt_core::difficulty;
use packetcrypt_net::control::ControlFigures;
use packetcrypt_net::pool_client::PoolStatus;
use serde::Serialize;

/// Different reasons of a rejection that are counted apart; further ones count as "other".
const REJECTIONS_LEN_MAX: usize = 32;
/// Characters of a reason.
const REASON_CHARS_MAX: usize = 80;

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
