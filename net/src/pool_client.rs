//! Follows one pool: its configuration, its newest blocks, its work (spec 05, 5).
//!
//! The master is polled, and a long poll for the next work file wakes the poll the moment there is
//! news. What failed is tried again whether or not the configuration changes (spec 05, 16.15), and
//! every request has a time-out, so that a client is back within seconds of any fault.
//!
//! Updates are merged until somebody takes them: a slow reader gets fewer and larger ones, and
//! never misses a block.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use packetcrypt_proto::blkinfo::BlockInfo;
use packetcrypt_proto::config::MasterConfig;
use packetcrypt_proto::work::WorkFile;
use serde::Serialize;
use tokio::sync::{Notify, watch};

use crate::client::{ClientError, ClientOptions, HttpClient};
use crate::{Shutdown, limits};

mod follow;
mod long_poll;

/// Blocks that wait in one update at most; the oldest are dropped beyond.
pub const NEW_BLOCKS_LEN_MAX: usize = 1_024;
/// The greatest depth: the consensus knows no older announcements (spec 03).
pub const DEPTH_BLOCKS_MAX: u32 = 1_000;
/// A pool that gave no configuration for this long is disconnected (spec 05, 5.2).
pub const DISCONNECTED_MS: u64 = 15_000;

/// How to follow a pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolOptions {
    /// How many blocks below the tip must be known: 6 for announcement miners and handlers, 1 for
    /// block miners.
    pub depth_blocks: u32,
    /// Whether the work files are wanted.
    pub want_work: bool,
    /// Time between two polls of the configuration when nothing wakes them, ms.
    pub poll_ms: u64,
    /// Time before something that failed is tried again, ms.
    pub retry_ms: u64,
    /// Whether to hold a long poll for the next work file.
    pub long_poll: bool,
}

impl Default for PoolOptions {
    /// An announcement miner's or handler's.
    fn default() -> Self {
        Self { depth_blocks: 6, want_work: false, poll_ms: 5_000, retry_ms: 1_000, long_poll: true }
    }
}

impl PoolOptions {
    /// A block miner's: one block, and the work.
    pub fn block_miner() -> Self {
        Self { depth_blocks: 1, want_work: true, poll_ms: 1_000, ..Self::default() }
    }
}

/// What is new at the pool.
#[derive(Clone, Debug)]
pub struct PoolUpdate {
    /// The configuration, the present one even when it did not change.
    pub config: Arc<MasterConfig>,
    /// Blocks that were not reported before, newest first, one a height.
    pub new_blocks: Vec<Arc<BlockInfo>>,
    /// The work of `config`; None while it is not wanted or not yet there (another update follows
    /// with it).
    pub work: Option<Arc<WorkFile>>,
}

/// How it stands with a pool, for statistics.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PoolStatus {
    /// The address the client was started with.
    pub url: String,
    /// Whether a configuration came within the last 15 s.
    pub connected: bool,
    /// How long it has been connected or disconnected, ms.
    pub since_ms: u64,
    /// What went wrong last, and is not yet right again.
    pub last_error: Option<String>,
    /// Polls of the configuration that succeeded.
    pub polls: u64,
    /// Requests that failed, of any kind: no reply, a wrong status, nonsense.
    pub failures: u64,
    /// Answers of the long poll.
    pub long_poll_answers: u64,
    /// Updates made; merged ones count each.
    pub updates: u64,
    /// Blocks dropped from an update that nobody took.
    pub blocks_dropped: u64,
    /// Height of the current work, -1 before the first configuration.
    pub current_height: i32,
}

/// A pool that is being followed. Dropping it ends that.
#[derive(Debug)]
pub struct PoolClient {
    shared: Arc<Shared>,
    http: HttpClient,
    shutdown: Shutdown,
}

impl PoolClient {
    /// Begins to follow the pool at `url` (the base of `config.json`). Must be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// The HTTP client can not be made. A pool that is not there is no error: it may come.
    pub fn start(
        url: &str,
        options: PoolOptions,
        shutdown: &Shutdown,
    ) -> Result<Self, ClientError> {
        let http = HttpClient::new(ClientOptions::default())?;
        let shutdown = shutdown.child();
        let shared = Arc::new(Shared::new(url.trim_end_matches('/')));
        shared.depth_blocks.store(options.depth_blocks, Ordering::Relaxed);
        let follower =
            follow::Follower::new(shared.clone(), http.clone(), options, shutdown.clone());
        tokio::spawn(follower.run());
        if options.long_poll {
            let poll =
                long_poll::LongPoll::new(shared.clone(), http.clone(), options, shutdown.clone());
            tokio::spawn(poll.run());
        }
        Ok(Self { shared, http, shutdown })
    }

    /// The next update; waits for one. None after the shutdown.
    ///
    /// Nothing is lost when the future is dropped, so it may stand in a `select!`.
    pub async fn next(&self) -> Option<PoolUpdate> {
        loop {
            let notified = self.shared.news.notified();
            if let Some(update) = self.shared.take_pending() {
                return Some(update);
            }
            tokio::select! {
                () = notified => {}
                () = self.shutdown.cancelled() => return self.shared.take_pending(),
            }
        }
    }

    /// The update that waits, if there is one.
    pub fn try_next(&self) -> Option<PoolUpdate> {
        self.shared.take_pending()
    }

    /// The present configuration and all to come.
    pub fn config_watch(&self) -> watch::Receiver<Option<Arc<MasterConfig>>> {
        self.shared.config.subscribe()
    }

    /// How it stands.
    pub fn status(&self) -> PoolStatus {
        self.shared.status()
    }

    /// From now on so many blocks below the tip must be known, at most [`DEPTH_BLOCKS_MAX`]; never
    /// fewer than before. Those further down come by and by, in updates of their own.
    pub fn deepen(&self, depth_blocks: u32) {
        let depth_blocks = depth_blocks.min(DEPTH_BLOCKS_MAX);
        if self.shared.depth_blocks.fetch_max(depth_blocks, Ordering::Relaxed) < depth_blocks {
            self.shared.wake.notify_one();
        }
    }

    /// The client that talks to the pool, for more requests of the same session.
    pub fn http(&self) -> &HttpClient {
        &self.http
    }
}

impl Drop for PoolClient {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

/// What the tasks and the handle of a pool share.
#[derive(Debug)]
struct Shared {
    url: String,
    pending: Mutex<Option<PoolUpdate>>,
    news: Notify,
    /// Wakes the poll of the configuration.
    wake: Notify,
    /// How many blocks below the tip must be known now.
    depth_blocks: AtomicU32,
    /// The height that the long poll has seen: the configuration is behind while it is lower.
    height_seen: AtomicI32,
    config: watch::Sender<Option<Arc<MasterConfig>>>,
    health: Mutex<Health>,
    counters: Counters,
}

#[derive(Debug)]
struct Health {
    last_config: Option<Instant>,
    connected_since: Option<Instant>,
    started: Instant,
    last_error: Option<String>,
}

#[derive(Debug, Default)]
struct Counters {
    polls: AtomicU64,
    failures: AtomicU64,
    long_poll_answers: AtomicU64,
    updates: AtomicU64,
    blocks_dropped: AtomicU64,
}

impl Shared {
    fn new(url: &str) -> Self {
        let health = Health {
            last_config: None,
            connected_since: None,
            started: Instant::now(),
            last_error: None,
        };
        Self {
            url: url.to_owned(),
            pending: Mutex::default(),
            news: Notify::new(),
            wake: Notify::new(),
            depth_blocks: AtomicU32::new(1),
            height_seen: AtomicI32::new(-1),
            config: watch::Sender::new(None),
            health: Mutex::new(health),
            counters: Counters::default(),
        }
    }

    fn take_pending(&self) -> Option<PoolUpdate> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Adds an update to the one that nobody has taken yet.
    fn publish(&self, update: PoolUpdate) {
        self.counters.updates.fetch_add(1, Ordering::Relaxed);
        {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            let older = pending.take();
            let (merged, dropped) = merge(older, update);
            self.counters.blocks_dropped.fetch_add(dropped, Ordering::Relaxed);
            *pending = Some(merged);
        }
        self.news.notify_one();
    }

    fn config_received(&self) {
        self.counters.polls.fetch_add(1, Ordering::Relaxed);
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if !health.is_connected(now) {
            health.connected_since = Some(now);
        }
        health.last_config = Some(now);
    }

    /// Remembers what went wrong; says so in the log when it is something new.
    fn failed(&self, error: &str) {
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if health.last_error.as_deref() != Some(error) {
            tracing::warn!("pool {}: {error}", self.url);
            health.last_error = Some(error.to_owned());
        }
    }

    fn all_right(&self) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if health.last_error.take().is_some() {
            tracing::info!("pool {}: all right again", self.url);
        }
    }

    fn status(&self) -> PoolStatus {
        let config = self.config.borrow().clone();
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let connected = health.is_connected(now);
        let since = if connected { health.connected_since } else { health.last_config };
        let since = now.saturating_duration_since(since.unwrap_or(health.started));
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PoolStatus {
            url: self.url.clone(),
            connected,
            since_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            last_error: health.last_error.clone(),
            polls: count(&self.counters.polls),
            failures: count(&self.counters.failures),
            long_poll_answers: count(&self.counters.long_poll_answers),
            updates: count(&self.counters.updates),
            blocks_dropped: count(&self.counters.blocks_dropped),
            current_height: config.map_or(-1, |config| config.current_height),
        }
    }
}

impl Health {
    fn is_connected(&self, now: Instant) -> bool {
        let limit = Duration::from_millis(DISCONNECTED_MS);
        self.last_config.is_some_and(|last| now.saturating_duration_since(last) < limit)
    }
}

/// Joins an update with an older one that nobody took: all blocks, but only the newest of each
/// height and none above the new tip, as after a reorganisation the others are off the chain.
/// Also returns how many blocks found no place.
fn merge(older: Option<PoolUpdate>, mut newer: PoolUpdate) -> (PoolUpdate, u64) {
    let heights: Vec<i32> = newer.new_blocks.iter().map(|b| b.header.height).collect();
    for block in older.into_iter().flat_map(|older| older.new_blocks) {
        let height = block.header.height;
        if height < newer.config.current_height && !heights.contains(&height) {
            newer.new_blocks.push(block);
        }
    }
    newer.new_blocks.sort_by_key(|block| std::cmp::Reverse(block.header.height));
    let dropped = newer.new_blocks.len().saturating_sub(NEW_BLOCKS_LEN_MAX);
    newer.new_blocks.truncate(NEW_BLOCKS_LEN_MAX);
    (newer, dropped as u64)
}

const _: () = {
    assert!(limits::REQUEST_MS_MAX < DISCONNECTED_MS);
    assert!(DEPTH_BLOCKS_MAX as usize <= NEW_BLOCKS_LEN_MAX);
};

#[cfg(test)]
mod tests;
