//! Block handler of a PacketCrypt pool: takes shares of block miners, pays them, and makes blocks of
//! those that are good enough (spec 05, 10 and 11).
//!
//! A share is put together with the pool's own header, signatures and coinbase, checked by this
//! program and by the node, logged for the paymaker, and only then acknowledged. A full block is
//! handed to the node until the node has said what became of it.
//!
//! ```no_run
//! # async fn example(node: impl packetcrypt_node::Node) -> Result<(), Box<dyn std::error::Error>> {
//! let config = packetcrypt_blkhandler::Config {
//!     public_url: "http://pool.example:8082".into(),
//!     master_url: "http://pool.example:8080".into(),
//!     paymaker_http_password: packetcrypt_blkhandler::Secret::new("..."),
//!     ..Default::default()
//! };
//! let shutdown = packetcrypt_net::Shutdown::new();
//! let handler = packetcrypt_blkhandler::start(config, node, shutdown).await?;
//! println!("shares are taken at {}", handler.local_addr());
//! handler.join().await?;
//! # Ok(())
//! # }
//! ```
//!
//! What differs from the reference (spec 05, 16):
//!
//! * The event id is that of the effective header, and a share that was accepted before is answered
//!   200 with its first event, `block` false and the warning `Duplicate share` (16.1).
//! * Hostile uploads are refused, not fatal (16.5); nothing is fetched for a share (16.9).
//! * A share for the previous work is paid for a time of grace, as no block (16.12).
//! * Every full block is submitted, also soon after another one. When the node refuses the block the
//!   miner gets the error, but the share behind it is logged and so paid, with `block` false. When
//!   the node gives no answer the share is logged, and the block is submitted again until there is
//!   one; then a second event with the same id, `block` true and the hash is logged, which the
//!   paymaker counts as a win and does not pay again (16.20).
//! * While the node is away or hangs, shares that pass the own check are paid; a share that can not
//!   be checked is answered 503 and is worth sending again.

mod assemble;
mod blocks;
mod chain;
mod check;
mod config;
mod duplicates;
mod follow;
mod handler;
mod patient;
mod pending;
mod refusal;
mod serve;
mod stats;
mod work;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use packetcrypt_net::client::ClientError;
use packetcrypt_net::control::{self, ControlLimits, ControlServer, ListenError};
use packetcrypt_net::metrics::Metrics;
use packetcrypt_net::paylog::{
    OpenError, PayLog, PayLogOptions, PaymakerPassword, Uploader, UploaderOptions,
};
use packetcrypt_net::pool_client::{PoolClient, PoolOptions};
use packetcrypt_net::{Clock, Shutdown, SystemClock};
use packetcrypt_node::Node;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

pub use config::{Config, ConfigError, Secret};
pub use stats::Stats;

use blocks::Blocks;
use chain::{ChainLog, NOTICED_LEN_MAX};
use check::OwnCheck;
use follow::Follower;
use handler::Handler;
use patient::PatientNode;
use pending::PendingStore;
use serve::Service;
use stats::Counters;
use work::Works;

/// Connections beside those that may be served at once: they are told `overloaded`.
const CONNECTIONS_MAX: usize = 1024;
/// How many blocks below the tip are known without asking the node.
const CHAIN_DEPTH_BLOCKS: u32 = 24;
/// Longest pause before something that the master did not give is asked for again.
const POOL_RETRY_MS: u64 = 1000;
/// Time for a request: its body and the calls to the node.
const REQUEST_MS_MAX: u64 = 120_000;
/// How often the statistics line is told.
const STATS_EVERY: Duration = Duration::from_secs(10);
/// How long shares in progress are waited for at the end.
const FINISH_TIME_MAX: Duration = Duration::from_secs(30);

/// Why a block handler does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A configured value breaks a rule.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The directory can not be used.
    #[error("{dir}: {cause}")]
    Directory {
        /// The configured directory.
        dir: String,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The pay log can not be opened.
    #[error(transparent)]
    PayLog(#[from] OpenError),
    /// The master can not be followed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// An address can not be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Why a block handler ended without being told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The master does not list this handler, so no miner would send it shares (spec 05, 10.5). The
    /// reference ends with exit status 100.
    #[error("public_url {url} is not in submitBlockUrls of the master: [{listed}]")]
    NotListed {
        /// The configured URL, with `/submit`.
        url: String,
        /// What the master lists.
        listed: String,
    },
    /// A task broke: a fault of the program.
    #[error("a task ended: {0}")]
    Task(String),
}

/// A running block handler. It runs until the shutdown signal that was given to [`start`].
pub struct Running {
    server: ControlServer,
    metrics_server: Option<ControlServer>,
    follower: JoinHandle<Result<(), RunError>>,
    chain_log: JoinHandle<()>,
    uploader: Uploader,
    slots: Arc<Semaphore>,
    max_connections: u32,
    counters: Arc<Counters>,
    shutdown: Shutdown,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("local_addr", &self.local_addr()).finish_non_exhaustive()
    }
}

impl Running {
    /// The address shares are taken on, with the port that the system chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// The address of `/metrics` and `/stats.json`, when they are served.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_server.as_ref().map(ControlServer::local_addr)
    }

    /// The counters now.
    pub fn stats(&self) -> Stats {
        self.counters.snapshot()
    }

    /// Returns when everything has stopped, after the signal: no share is taken any more, those in
    /// progress are decided and logged.
    ///
    /// # Errors
    /// [`RunError`] when a part ended by itself; the others are then stopped.
    pub async fn join(self) -> Result<(), RunError> {
        let outcome = match self.follower.await {
            Ok(outcome) => outcome,
            Err(e) => Err(RunError::Task(e.to_string())),
        };
        self.shutdown.trigger();
        self.server.join().await;
        // Every share in progress holds a slot.
        let all = self.slots.acquire_many(self.max_connections);
        if tokio::time::timeout(FINISH_TIME_MAX, all).await.is_err() {
            tracing::error!("shares are still in progress after {FINISH_TIME_MAX:?}");
        }
        let chain_log = self.chain_log.await;
        self.uploader.join().await;
        if let Some(metrics) = self.metrics_server {
            metrics.join().await;
        }
        outcome?;
        chain_log.map_err(|e| RunError::Task(e.to_string()))
    }

    /// As [`join`](Self::join), then the last counters.
    ///
    /// # Errors
    /// [`RunError`] when a part ended by itself.
    pub async fn finish(self) -> Result<Stats, RunError> {
        let counters = Arc::clone(&self.counters);
        self.join().await?;
        Ok(counters.snapshot())
    }
}

/// Starts a block handler on a node. Shares are answered `server not ready` until the master has
/// told its configuration; a master or node that is away is waited for.
///
/// # Errors
/// [`StartError`].
pub async fn start(
    config: Config,
    node: impl Node,
    shutdown: Shutdown,
) -> Result<Running, StartError> {
    start_with_clock(config, node, Arc::new(SystemClock), shutdown).await
}

/// As [`start`], with another clock for the times in events.
///
/// # Errors
/// [`StartError`].
pub async fn start_with_clock(
    config: Config,
    node: impl Node,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) -> Result<Running, StartError> {
    config.validate()?;
    // A part that ends by itself ends the others, but not the caller's other roles.
    let shutdown = shutdown.child();
    let node = Arc::new(node);
    let mut metrics = Metrics::new("blkhandler");
    let pay_log = PayLog::open(PayLogOptions {
        rotate_ms: config.pay_log_switch_ms,
        ..PayLogOptions::new(config.dir.join("paylogdir"))
    })?;
    let counters = Arc::new(Counters::new(&mut metrics, pay_log.figures()));
    let blocks_dir = config.dir.join("blocks");
    let in_blocks_dir =
        |cause| StartError::Directory { dir: blocks_dir.display().to_string(), cause };
    let blocks = Arc::new(Blocks::new(
        node.clone(),
        PendingStore::open(&blocks_dir).map_err(in_blocks_dir)?,
        pay_log.clone(),
        counters.clone(),
        shutdown.clone(),
    ));
    // Before the first share is taken, which may be of one of these blocks.
    let left_over = blocks.left_over().map_err(in_blocks_dir)?;
    let pool_options = PoolOptions {
        depth_blocks: if config.own_check { CHAIN_DEPTH_BLOCKS } else { 1 },
        want_work: true,
        poll_ms: config.poll_interval_ms,
        retry_ms: config.poll_interval_ms.min(POOL_RETRY_MS),
        ..PoolOptions::default()
    };
    let pool = PoolClient::start(&config.master_url, pool_options, &shutdown)?;
    let (works, works_watch) = watch::channel(Works::default());
    let handler = Arc::new(Handler {
        seed: config.signing_seed(),
        config: config.clone(),
        node: PatientNode::new(node.clone(), Duration::from_millis(config.node_wait_ms)),
        works: works_watch,
        own_check: OwnCheck::new(counters.parents_asked.clone()),
        blocks: blocks.clone(),
        pay_log: pay_log.clone(),
        clock: clock.clone(),
        counters: counters.clone(),
    });
    let slots = Arc::new(Semaphore::new(config.max_connections));
    let server = serve_shares(&config, handler, slots.clone(), shutdown.clone()).await?;
    let metrics_server = serve_metrics(&config, metrics, &counters, shutdown.clone()).await?;
    let (paymaker_url, paymaker_watch) = watch::channel(None);
    let password = PaymakerPassword::new(config.paymaker_http_password.expose());
    let upload = UploaderOptions::new(paymaker_watch, password);
    let uploader = Uploader::start(&pay_log, upload, shutdown.clone())?;
    // Nothing can go wrong with the start any more.
    blocks.resume(left_over);
    let (noticed, noticed_queue) = mpsc::channel(NOTICED_LEN_MAX);
    let chain_log =
        ChainLog { node, pay_log, counters: counters.clone(), shutdown: shutdown.clone() };
    let chain_log = tokio::spawn(chain_log.run(noticed_queue));
    // At most 65535, as the configuration was checked.
    let max_connections = u32::try_from(config.max_connections).unwrap_or(u32::MAX);
    let follower = Follower {
        config,
        pool,
        works,
        paymaker_url,
        noticed,
        clock,
        counters: counters.clone(),
        shutdown: shutdown.clone(),
    };
    let follower = tokio::spawn(follower.run());
    tokio::spawn(tell(counters.clone(), shutdown.clone()));
    Ok(Running {
        server,
        metrics_server,
        follower,
        chain_log,
        uploader,
        slots,
        max_connections,
        counters,
        shutdown,
    })
}

/// Tells the statistics line.
async fn tell(counters: Arc<Counters>, shutdown: Shutdown) {
    while shutdown.sleep(STATS_EVERY).await {
        tracing::info!("{}", counters.snapshot());
    }
}

async fn serve_shares<N: Node>(
    config: &Config,
    handler: Arc<Handler<N>>,
    slots: Arc<Semaphore>,
    shutdown: Shutdown,
) -> Result<ControlServer, ListenError> {
    let body_time = Duration::from_millis(config.body_timeout_ms);
    let counted = handler.counters.control.clone();
    let router = serve::router(Arc::new(Service { handler, slots, body_time }));
    let limits = ControlLimits {
        connections_max: CONNECTIONS_MAX + config.max_connections,
        connections_per_source_max: config.connections_per_source_max,
        request_ms_max: REQUEST_MS_MAX + config.body_timeout_ms,
        ..ControlLimits::default()
    };
    control::serve_counted(config.listen, router, limits, &counted, shutdown).await
}

async fn serve_metrics(
    config: &Config,
    metrics: Metrics,
    counters: &Arc<Counters>,
    shutdown: Shutdown,
) -> Result<Option<ControlServer>, ListenError> {
    let Some(addr) = config.metrics_listen else { return Ok(None) };
    let (metrics, counters) = (Arc::new(metrics), counters.clone());
    let (counted, limits) = (counters.control.clone(), ControlLimits::default());
    let routes = control::observation_routes(move || metrics.encode(), move || counters.snapshot());
    control::serve_counted(addr, routes, limits, &counted, shutdown).await.map(Some)
}
