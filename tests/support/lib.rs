//! What the end-to-end tests share: a pool with small settings, waiting with an end, and one pool
//! at a time (a pool keeps two cores busy; two of them would only test the scheduler).

use std::time::{Duration, Instant};

use packetcrypt_devnet::{Config, Pool, Summary};
use packetcrypt_jit::force_by_environment;
use tokio::sync::{Mutex, MutexGuard};

/// How long anything may take before the test fails.
pub const WAIT_MAX: Duration = Duration::from_secs(180);

static ONE_POOL: Mutex<()> = Mutex::const_new(());

/// A pool that has the machine for itself, within this test program.
#[derive(Debug)]
pub struct TestPool {
    /// The pool.
    pub pool: Pool,
    _turn: MutexGuard<'static, ()>,
}

impl TestPool {
    /// Starts a pool with blocks every second or two.
    pub async fn start(seed: u64) -> Self {
        Self::start_with(Config { seed, block_time_ms: 1_500, ..Config::default() }).await
    }

    /// Starts a pool, with the engines that the environment forces.
    pub async fn start_with(config: Config) -> Self {
        let turn = ONE_POOL.lock().await;
        force_by_environment(std::env::var).expect("engines of this machine");
        let pool = Pool::start(config).await.expect("the pool starts");
        Self { pool, _turn: turn }
    }

    /// Waits until the pool has this many blocks on the main chain.
    pub async fn until_blocks(&self, blocks: u32) {
        self.until(&format!("{blocks} blocks"), |pool| pool.blocks() >= blocks).await;
    }

    /// Waits until something holds; fails with the counters when it does not within
    /// [`WAIT_MAX`].
    pub async fn until(&self, what: &str, holds: impl Fn(&Pool) -> bool) {
        let end = Instant::now() + WAIT_MAX;
        while !holds(&self.pool) {
            assert!(Instant::now() < end, "no {what} in {WAIT_MAX:?}: {:#?}", self.pool.stats());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends the pool and demands that everything holds.
    pub async fn finish(self) -> Summary {
        let summary = self.pool.finish().await;
        assert!(summary.holds(), "{summary}\n{:#?}", summary.stats);
        summary
    }
}

/// Announcements that the handlers accepted so far.
pub fn accepted(pool: &Pool) -> u64 {
    pool.stats().ann_handlers.iter().map(|s| s.announcements.accepted).sum()
}
