//! The announcement miner: follows its pools, mines announcements on all cores and uploads them
//! to the handlers that own them (spec 05, 8).
//!
//! ```text
//!  pool clients ──updates──▶ coordinator ──job──▶ mining threads
//!                                ▲  │                   │
//!                                │  └─batches─▶ queues ─┼─▶ uploaders ──POST──▶ handlers
//!                                └──────── found ◀──────┘
//! ```
//! Mining runs on threads of its own; everything else is one coordinator task and a few uploader
//! tasks a handler. Every queue is bounded, and every announcement ends in exactly one counter
//! ([`stats::PoolStats::is_conserved`]).

pub mod batch;
pub mod config;
pub mod measure;
mod memory;
mod observe;
mod pools;
mod shared_table;
mod sharing;
pub mod stats;
mod threads;
mod upload;
pub mod work;
mod worker;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use config::{Config, ConfigError, TableSharing};
use packetcrypt_net::Shutdown;
use packetcrypt_net::client::{ClientError, ClientOptions, HttpClient};
use packetcrypt_net::control::ListenError;
use packetcrypt_net::hw::CpuSetError;
use pools::{Lead, Pool};
use stats::{MiningCounters, PoolCounters};
pub use stats::{PoolStats, Stats};
use threads::Threads;
use tokio::sync::mpsc;
use worker::Found;

/// Announcements between the mining threads and the coordinator at the most.
const FOUND_LEN_MAX: usize = 4096;
/// How often due batches and the lead are looked at.
const TICK_MS: u64 = 100;
/// How long uploads may go on after the end of mining.
const DRAIN_MS_MAX: u64 = 10_000;

/// Why the miner did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting breaks a rule.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The HTTP client can not be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The list of processors can not be read, or names one that is not there.
    #[error("cpus = {0:?}: {1}")]
    Cpus(String, CpuSetError),
    /// A thread can not be started.
    #[error("mining thread {index}: {error}")]
    Thread {
        /// Number of the thread.
        index: u32,
        /// What the system says.
        error: std::io::Error,
    },
    /// There is no memory for the tables.
    #[error("no memory for the tables of {threads} threads: {error}")]
    Memory {
        /// Threads, each with a table.
        threads: usize,
        /// What the system says.
        error: std::io::Error,
    },
    /// The statistics can not be served.
    #[error("metrics_listen: {0}")]
    Metrics(#[from] ListenError),
}

/// A part of the miner broke: a fault of the program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the miner ended unexpectedly: {0}")]
pub struct RunError(String);

/// A miner at work.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    coordinator: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    mining: Arc<MiningCounters>,
    pools: Vec<Arc<PoolCounters>>,
    /// Present parent height, or why there is none.
    state: Mutex<(Option<u32>, String)>,
}

impl Shared {
    fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.mining.fill(&mut stats);
        stats.pools = self.pools.iter().map(|pool| pool.snapshot()).collect();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (stats.parent_height, stats.idle_reason) = state.clone();
        stats
    }

    fn set_state(&self, height: Option<u32>, reason: String) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = (height, reason);
    }
}

impl Running {
    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Waits until mining has ended and the last announcements are delivered or given up.
    ///
    /// # Errors
    /// [`RunError`] when a part ended by itself.
    pub async fn join(self) -> Result<(), RunError> {
        self.finish().await.map(|_| ())
    }

    /// As [`join`](Self::join), then the last counters.
    ///
    /// # Errors
    /// [`RunError`] when a part ended by itself.
    pub async fn finish(self) -> Result<Stats, RunError> {
        self.coordinator.await.map_err(|error| RunError(error.to_string()))?;
        Ok(self.shared.stats())
    }
}

/// Starts mining; it ends when `shutdown` is triggered.
pub async fn start(config: Config, shutdown: Shutdown) -> Result<Running, StartError> {
    config.validate()?;
    let http = HttpClient::new(ClientOptions::default())?;
    // Uploads go on for a while when mining ends, so the pools stop later than the miner.
    let pools_end = Shutdown::new();
    let pools = config
        .pools
        .iter()
        .map(|url| Pool::start(url, &config, &http, &pools_end))
        .collect::<Result<Vec<_>, _>>()?;
    let shared = Arc::new(Shared {
        mining: Arc::default(),
        pools: pools.iter().map(|pool| Arc::clone(&pool.counters)).collect(),
        state: Mutex::new((None, "no pool has answered yet".to_owned())),
    });
    let (found_sender, found) = mpsc::channel(FOUND_LEN_MAX);
    let mining = match Threads::start(&config, Arc::clone(&shared.mining), found_sender) {
        Ok(threads) => threads,
        Err(error) => {
            pools_end.trigger();
            return Err(error);
        }
    };
    tracing::info!("{}", mining.line);
    if let Some(address) = config.metrics_listen {
        let shared = Arc::clone(&shared);
        if let Err(error) = observe::serve(address, move || shared.stats(), &shutdown).await {
            mining.board.stop();
            pools_end.trigger();
            return Err(error.into());
        }
    }
    let coordinator = Coordinator {
        mine_old: u32::try_from(config.mine_old_anns).ok(),
        batch_age_max: Duration::from_millis(config.batch_age_ms_max),
        stats_interval: Duration::from_secs(config.stats_interval_s),
        pools,
        mining,
        found,
        shared: Arc::clone(&shared),
        lead: Lead::Idle(String::new()),
        pools_end,
    };
    Ok(Running { shared, coordinator: tokio::spawn(coordinator.run(shutdown)) })
}

struct Coordinator {
    mine_old: Option<u32>,
    batch_age_max: Duration,
    stats_interval: Duration,
    pools: Vec<Pool>,
    mining: Threads,
    found: mpsc::Receiver<Found>,
    shared: Arc<Shared>,
    lead: Lead,
    pools_end: Shutdown,
}

impl Coordinator {
    async fn run(mut self, shutdown: Shutdown) {
        let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut printed = (Instant::now(), self.shared.stats());
        let mut arrived = Vec::with_capacity(FOUND_LEN_MAX);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = tick.tick() => {
                    self.follow_pools();
                    self.flush(self.batch_age_max);
                    self.print_stats(&mut printed);
                }
                // Closed only when every thread has panicked; the ticks go on and say so.
                n = self.found.recv_many(&mut arrived, FOUND_LEN_MAX), if !self.found.is_closed() => {
                    debug_assert_eq!(n, arrived.len());
                    self.offer(&mut arrived);
                }
            }
        }
        self.finish().await;
    }

    /// Takes in the updates of all pools and moves the lead if it has to move.
    fn follow_pools(&mut self) {
        for pool in &mut self.pools {
            while let Some(update) = pool.client.try_next() {
                pool.update(&update);
            }
            let connected = pool.client.status().connected;
            pool.counters.update(|c| c.connected = connected);
        }
        let lead = pools::choose_lead(&self.pools, self.mine_old);
        if lead == self.lead {
            return;
        }
        match &lead {
            Lead::Mine(index, request) => {
                tracing::info!(
                    pool = self.shared.pools[*index].snapshot().url,
                    parent_height = request.parent_block_height,
                    target = format_args!("{:08x}", request.work_bits.0),
                    "mining announcements"
                );
                self.shared.set_state(Some(request.parent_block_height), String::new());
                self.mining.board.set(Some(**request));
            }
            Lead::Idle(reason) => {
                tracing::warn!(%reason, "not mining");
                self.shared.set_state(None, reason.clone());
                self.mining.board.set(None);
            }
        }
        for (index, counters) in self.shared.pools.iter().enumerate() {
            counters
                .update(|c| c.leads = matches!(&lead, Lead::Mine(leader, _) if *leader == index));
        }
        self.lead = lead;
    }

    fn offer(&mut self, arrived: &mut Vec<Found>) {
        let now = Instant::now();
        for announcement in arrived.drain(..) {
            let key = announcement.key();
            for pool in &mut self.pools {
                pool.offer(&announcement, key, now);
            }
        }
    }

    fn flush(&mut self, age_max: Duration) {
        let now = Instant::now();
        for pool in &mut self.pools {
            pool.flush(now, age_max);
        }
    }

    fn print_stats(&self, printed: &mut (Instant, Stats)) {
        let elapsed = printed.0.elapsed();
        if self.stats_interval.is_zero() || elapsed < self.stats_interval {
            return;
        }
        let now = self.shared.stats();
        tracing::info!("{}", stats::line(&printed.1, &now, elapsed.as_secs_f64()));
        *printed = (Instant::now(), now);
    }

    /// Ends the threads, then delivers what is left, for a limited time.
    async fn finish(mut self) {
        self.mining.board.stop();
        let handles = core::mem::take(&mut self.mining.handles);
        let ended = tokio::task::spawn_blocking(move || threads::join(handles));
        // The channel closes when the last thread is gone; a thread that waits for a place in it
        // is released by this loop.
        let mut arrived = Vec::new();
        while self.found.recv_many(&mut arrived, FOUND_LEN_MAX).await > 0 {
            self.offer(&mut arrived);
        }
        if let Ok(panicked @ 1..) = ended.await {
            tracing::error!(panicked, "mining threads ended by a panic");
        }
        self.shared.set_state(None, "stopped".to_owned());
        self.flush(Duration::ZERO);
        let end = Instant::now() + Duration::from_millis(DRAIN_MS_MAX);
        while Instant::now() < end && !self.pools.iter().all(Pool::is_drained) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for pool in &mut self.pools {
            pool.close();
        }
        // Uploads that were cut off by the close still have to be counted.
        let end = Instant::now() + Duration::from_millis(1000);
        while Instant::now() < end && !self.pools.iter().all(Pool::is_drained) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.pools_end.trigger();
    }
}
