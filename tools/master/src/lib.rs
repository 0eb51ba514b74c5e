//! Master of a PacketCrypt pool: tells miners and handlers what to work on (spec 05, 4).
//!
//! The master follows the tip of its node and serves `config.json`, `work_<n>.bin`, `bt_<n>.bin` and
//! `blkinfo_<hash>.json`, byte for byte as the reference pool does, to any number of clients; who
//! asks for the next work is answered when it is there.
//!
//! ```no_run
//! # async fn example(node: impl packetcrypt_node::Node) -> Result<(), Box<dyn std::error::Error>> {
//! let config = packetcrypt_master::Config {
//!     master_url: "http://pool.example:8080".into(),
//!     ann_handlers: vec!["http://pool.example:8081".into()],
//!     blk_handlers: vec!["http://pool.example:8082".into()],
//!     ..Default::default()
//! };
//! let shutdown = packetcrypt_net::Shutdown::new();
//! let master = packetcrypt_master::start(config, node, shutdown).await?;
//! println!("serving on {}", master.local_addr());
//! master.join().await?;
//! # Ok(())
//! # }
//! ```
//!
//! What differs from the reference, and why, is said at [`Config`] and in spec 05, 16.10 to 16.12:
//! work is keyed by height and previous block, a short chain is enough, old files go, block
//! information is fetched when it is wanted, a height that lasts has its template taken anew, and a
//! waiting client is told of that and of a reorganisation.

mod blkinfo;
mod config;
mod follow;
mod publish;
mod serve;
mod stats;
mod store;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use packetcrypt_net::Shutdown;
use packetcrypt_net::control::{self, ControlLimits, ControlServer, ListenError};
use packetcrypt_net::metrics::Metrics;
use packetcrypt_node::Node;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use config::{Config, ConfigError, HANDLERS_MAX, HandlerUrl, Secret};
pub use stats::Stats;

use blkinfo::BlockInfos;
use follow::Follower;
use serve::Service;
use stats::Counters;
use store::Store;

/// Connections beside those of long polls.
const CONNECTIONS_MAX: usize = 1024;
/// So many addresses outside of private networks it takes to use all connections.
const SOURCES_MIN: usize = 4;
/// Requests of clients have no body that is read.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Why a master does not start.
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
    /// An address can not be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Why a master ended without being told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The task of the work loop broke: a fault of the program.
    #[error("the work loop ended: {0}")]
    WorkLoop(String),
}

/// A running master. It runs until the shutdown signal that was given to [`start`].
pub struct Running {
    server: ControlServer,
    metrics_server: Option<ControlServer>,
    work_loop: JoinHandle<()>,
    stats: Arc<dyn Fn() -> Stats + Send + Sync>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("local_addr", &self.local_addr()).finish_non_exhaustive()
    }
}

impl Running {
    /// The address clients are served on, with the port that the system chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// The address of `/metrics` and `/stats.json`, when they are served.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_server.as_ref().map(ControlServer::local_addr)
    }

    /// The counters now.
    pub fn stats(&self) -> Stats {
        (self.stats)()
    }

    /// Returns when everything has stopped, after the signal.
    ///
    /// # Errors
    /// [`RunError`] when a part ended by itself.
    pub async fn join(self) -> Result<(), RunError> {
        let work_loop = self.work_loop.await;
        self.server.join().await;
        if let Some(metrics) = self.metrics_server {
            metrics.join().await;
        }
        work_loop.map_err(|e| RunError::WorkLoop(e.to_string()))
    }

    /// As [`join`](Self::join), then the last counters.
    ///
    /// # Errors
    /// [`RunError`] when a part ended by itself.
    pub async fn finish(self) -> Result<Stats, RunError> {
        let stats = Arc::clone(&self.stats);
        self.join().await?;
        Ok(stats())
    }
}

/// Starts a master on a node. Clients are answered `Server not ready` until the node has given the
/// first template; a node that is away is waited for.
///
/// # Errors
/// [`StartError`].
pub async fn start(
    config: Config,
    node: impl Node,
    shutdown: Shutdown,
) -> Result<Running, StartError> {
    config.validate()?;
    let store = Store::open(&config.dir, config.heights_kept)
        .map_err(|cause| StartError::Directory { dir: config.dir.display().to_string(), cause })?;
    let mut metrics = Metrics::new("master");
    let counters = Arc::new(Counters::new(&mut metrics));
    let node = Arc::new(node);
    let infos = Arc::new(BlockInfos::new(
        node.clone(),
        config.signing_seed(),
        config.blkinfo_cache_len_max,
        counters.clone(),
    ));
    let (published, watch) = watch::channel(None);
    let service = Arc::new(Service {
        published: watch,
        infos: infos.clone(),
        counters: counters.clone(),
        long_poll: Duration::from_millis(config.long_poll_ms),
        long_polls_max: config.long_polls_max,
        long_polls: AtomicUsize::new(0),
        shutdown: shutdown.clone(),
    });
    let stats: Arc<dyn Fn() -> Stats + Send + Sync> = {
        let (counters, service) = (counters.clone(), service.clone());
        Arc::new(move || counters.snapshot(service.long_polls.load(Ordering::Relaxed)))
    };
    let connections_max = CONNECTIONS_MAX + config.long_polls_max;
    let limits = ControlLimits {
        connections_max,
        // Clients hold a connection each, and many may come through one proxy.
        connections_per_source_max: connections_max / SOURCES_MIN,
        body_bytes_max: BODY_BYTES_MAX,
        ..ControlLimits::default()
    };
    let router = serve::router(service);
    let counted = &counters.control;
    let server =
        control::serve_counted(config.listen, router, limits, counted, shutdown.clone()).await?;
    let metrics_server = match config.metrics_listen {
        None => None,
        Some(addr) => {
            let (metrics, stats) = (Arc::new(metrics), stats.clone());
            let routes = control::observation_routes(move || metrics.encode(), move || stats());
            let limits = ControlLimits::default();
            Some(control::serve_counted(addr, routes, limits, counted, shutdown.clone()).await?)
        }
    };
    let follower = Follower {
        config: Arc::new(config),
        node,
        infos,
        store: Arc::new(Mutex::new(store)),
        published,
        counters,
        shutdown,
    };
    let work_loop = tokio::spawn(follower.run());
    Ok(Running { server, metrics_server, work_loop, stats })
}
