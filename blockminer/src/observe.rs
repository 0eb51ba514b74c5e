//! Puts the figures of all parts together: [`Stats`], the line, `/metrics`.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use packetcrypt_net::Shutdown;
use packetcrypt_net::control::{ControlCounters, ControlFigures};
use packetcrypt_net::pool_client::PoolClient;
use packetcrypt_net::sprayer::Sprayer;

use crate::chain::Chain;
use crate::choose;
use crate::jobs::JobsStatus;
use crate::peers::Peers;
use crate::search::Workers;
use crate::stats::{
    ArrivalCounters, ArrivalFigures, DropReason, JobFigures, ShareCounters, Stats, StoreStats,
    hashes_of, poisson_95,
};
use crate::store::Store;
use crate::upload::UploadQueue;

/// The rate is that of this many seconds.
const RATE_SECONDS: usize = 10;

/// Announcements that a nonce reads from memory: the first draw is the same for all nonces of a
/// header, so it stays in the cache (spec 04, 6).
const READ_BYTES_PER_NONCE: f64 = 3.0 * packetcrypt_core::params::ANNOUNCEMENT_BYTES as f64;
/// How often the pages of the arena are looked at.
const PAGES_EVERY: Duration = Duration::from_secs(60);

/// Bytes of the arena, and of them in huge pages where the system tells.
type PageBytes = (u64, Option<u64>);

/// Everything that figures are read from.
pub(crate) struct Observer {
    pub(crate) pool: Arc<PoolClient>,
    pub(crate) store: Arc<Store>,
    pub(crate) chain: Arc<Chain>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) jobs: Arc<JobsStatus>,
    pub(crate) arrivals: Arc<ArrivalCounters>,
    pub(crate) shares: Arc<ShareCounters>,
    pub(crate) uploads: Arc<UploadQueue>,
    pub(crate) sprayer: Option<Arc<Sprayer>>,
    pub(crate) control: ControlCounters,
    pub(crate) backend: &'static str,
    /// Nonces at the last seconds, the oldest first.
    pub(crate) samples: Mutex<VecDeque<(Instant, u64)>>,
    /// Bytes of the arena and of its huge pages, and when they were looked at.
    pub(crate) pages: Mutex<Option<(Instant, PageBytes)>>,
}

impl Observer {
    /// The figures of this moment.
    pub(crate) fn stats(&self) -> Stats {
        let (not_mining, age, builds) = self.jobs.read();
        let job = self.workers.job();
        let height = self.chain.next().map(|next| next.height);
        let nonces_per_second = self.rate();
        let effective = job.as_ref().map_or(0.0, |job| nonces_per_second * job.multiplier() as f64);
        let job = job.map(|job| {
            let least_work = job.commitment().least_work();
            JobFigures {
                height: job.height(),
                announcements: job.tree().count(),
                least_work: least_work.to_string(),
                least_work_hashes: hashes_of(least_work),
                mining_target: job.mining_target().to_string(),
                multiplier: job.multiplier(),
                age_ms: age.as_millis() as u64,
            }
        });
        let mut shares = self.shares.figures();
        shares.queued = self.uploads.len() as u64;
        shares.expected = self.workers.expected();
        shares.expected_95 = poisson_95(shares.expected);
        let (arena_bytes, huge_page_bytes) = self.pages();
        Stats {
            pool: self.pool.status(),
            height,
            not_mining: not_mining.filter(|_| job.is_none()),
            job,
            threads: self.workers.threads() as u64,
            backend: self.backend,
            nonces: self.workers.nonces(),
            nonces_per_second,
            effective_per_second: effective,
            read_bytes_per_second: nonces_per_second * READ_BYTES_PER_NONCE,
            arena_bytes,
            huge_page_bytes,
            builds,
            store: self.store_stats(height),
            announcements: self.arrivals(),
            peers: self.peers.figures(),
            shares,
            control: self.control.figures(),
        }
    }

    /// What arrived, with what the sprayer had no room for and what waits there.
    fn arrivals(&self) -> ArrivalFigures {
        let mut figures = self.arrivals.figures();
        if let Some(sprayer) = &self.sprayer {
            let udp = sprayer.received().counters();
            figures.received += udp.dropped + udp.queued;
            figures.queued += udp.queued;
            *figures.dropped.entry(DropReason::QueueFull.name()).or_default() += udp.dropped;
        }
        figures
    }

    fn store_stats(&self, height: Option<u32>) -> StoreStats {
        let figures = self.store.figures();
        let classes = self.store.classes();
        let count = |of: &dyn Fn(&crate::class::ClassSummary) -> bool| {
            classes.iter().filter(|class| of(class)).map(|class| u64::from(class.count)).sum()
        };
        let height = height.unwrap_or(0);
        let usable = |class: &crate::class::ClassSummary| {
            choose::least_work(std::slice::from_ref(class), height).is_some()
        };
        StoreStats {
            slots: figures.slots,
            held: figures.held,
            usable: count(&usable),
            waiting: count(&|class| {
                !usable(class) && class.key.age(height) < packetcrypt_core::params::ANN_WAIT_BLOCKS
            }),
            pinned: figures.pinned,
            recycled: figures.recycled,
            classes: figures.classes,
        }
    }

    /// Bytes of the arena, and of them in huge pages. Looked at now and then, since the system walks
    /// all pages for it.
    fn pages(&self) -> PageBytes {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        match *pages {
            Some((at, bytes)) if at.elapsed() < PAGES_EVERY => bytes,
            _ => {
                let bytes = self.store.page_bytes();
                *pages = Some((Instant::now(), bytes));
                bytes
            }
        }
    }

    /// Nonces a second since the oldest sample.
    fn rate(&self) -> f64 {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(&(since, nonces)) = samples.front() else { return 0.0 };
        let seconds = since.elapsed().as_secs_f64();
        if seconds <= 0.0 { 0.0 } else { (self.workers.nonces() - nonces) as f64 / seconds }
    }

    /// Takes a sample each second and writes the line now and then, until the signal.
    pub(crate) async fn run(self: Arc<Self>, every: Duration, shutdown: Shutdown) {
        let mut before = self.peers.figures();
        let mut last_line = Instant::now();
        loop {
            {
                let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
                samples.push_back((Instant::now(), self.workers.nonces()));
                if samples.len() > RATE_SECONDS {
                    samples.pop_front();
                }
            }
            if !every.is_zero() && last_line.elapsed() >= every {
                let stats = self.stats();
                tracing::info!("{}", stats.line(&before));
                before = stats.peers;
                last_line = Instant::now();
            }
            if !shutdown.sleep(Duration::from_secs(1)).await {
                return;
            }
        }
    }

    /// The text of `/metrics`.
    pub(crate) fn metrics(&self) -> String {
        metrics_of(&self.stats())
    }
}

/// The figures in the OpenMetrics form.
fn metrics_of(stats: &Stats) -> String {
    let mut text = Text::default();
    text.counter("nonces", "Nonces tried", &[(String::new(), stats.nonces as f64)]);
    text.gauge("nonces_per_second", "Nonces tried a second", stats.nonces_per_second);
    text.gauge(
        "effective_per_second",
        "Nonces a second times the multiplier of the job",
        stats.effective_per_second,
    );
    text.gauge(
        "read_bytes_per_second",
        "Bytes of announcements read a second for nonces",
        stats.read_bytes_per_second,
    );
    text.gauge("arena_bytes", "Bytes of the arena", stats.arena_bytes as f64);
    let huge = stats.huge_page_bytes.unwrap_or(0);
    text.gauge("huge_page_bytes", "Bytes of the arena in huge pages", huge as f64);
    text.counter(
        "shares_expected",
        "Solutions that the nonces tried should have found on average",
        &[(String::new(), stats.shares.expected)],
    );
    text.gauge("mining", "1 while a job is mined", f64::from(u8::from(stats.job.is_some())));
    text.gauge("height", "Height of the block to be mined", stats.height.map_or(0.0, f64::from));
    let announcements = stats.job.as_ref().map_or(0, |job| job.announcements);
    text.gauge("job_announcements", "Announcements in the tree", announcements as f64);
    let store = &stats.store;
    text.gauge("store_slots", "Announcements that fit the store", store.slots as f64);
    text.gauge("store_held", "Announcements in the store", store.held as f64);
    text.gauge("store_usable", "Announcements usable in the next block", store.usable as f64);
    text.gauge("store_classes", "Classes of announcements", store.classes as f64);
    let one = |name: &str, count: u64| (format!("{{outcome=\"{name}\"}}"), count as f64);
    let arrivals = &stats.announcements;
    let mut rows = vec![one("stored", arrivals.stored), one("duplicate", arrivals.duplicate)];
    rows.extend(arrivals.dropped.iter().map(|(name, count)| one(name, *count)));
    text.counter("announcements", "Announcements that arrived, by what became of them", &rows);
    let shares = &stats.shares;
    let rows = [
        one("accepted", shares.accepted),
        one("duplicate", shares.duplicate),
        one("rejected", shares.rejected_total()),
        one("stale", shares.stale),
        one("lost", shares.lost),
    ];
    text.counter("shares", "Shares found, by what became of them", &rows);
    text.gauge("shares_in_flight", "Shares found and not yet done", shares.in_flight as f64);
    text.counter("blocks", "Shares taken as blocks", &[(String::new(), shares.blocks as f64)]);
    text.counter("jobs", "Jobs started", &[(String::new(), stats.builds.jobs as f64)]);
    text.counter("trees", "Trees built", &[(String::new(), stats.builds.trees as f64)]);
    for ((name, help), count) in ControlFigures::NAMES.into_iter().zip(stats.control.values()) {
        text.counter(name, help, &[(String::new(), count as f64)]);
    }
    text.0.push_str("# EOF\n");
    text.0
}

/// Text of metrics. The figures are snapshots of many counters taken together, which a registry of
/// live counters could not give.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        // Writing to a string does not fail, here and below.
        let _ = writeln!(self.0, "# HELP packetcrypt_blockminer_{name} {help}.");
        let _ = writeln!(self.0, "# TYPE packetcrypt_blockminer_{name} {kind}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, help, "gauge");
        let _ = writeln!(self.0, "packetcrypt_blockminer_{name} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, rows: &[(String, f64)]) {
        self.head(name, help, "counter");
        for (labels, value) in rows {
            let _ = writeln!(self.0, "packetcrypt_blockminer_{name}_total{labels} {value}");
        }
    }
}
