//! Starts the parts and stops them in order.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use packetcrypt_core::backend::Backend;
use packetcrypt_net::client::{ClientError, ClientOptions, HttpClient};
use packetcrypt_net::control::{self, ControlLimits, ControlServer, ListenError};
use packetcrypt_net::pool_client::{PoolClient, PoolOptions};
use packetcrypt_net::sprayer::SprayerError;
use packetcrypt_net::{Shutdown, hw};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::chain::Chain;
use crate::config::{Config, ConfigError};
use crate::fetch::{Feed, download_urls};
use crate::intake::{Inlet, Intake, Peers};
use crate::jobs::{JobRules, Jobs, JobsStatus, State};
use crate::observe::Observer;
use crate::prove::Prover;
use crate::search::Workers;
use crate::spray;
use crate::stats::{ArrivalCounters, ShareCounters, Stats};
use crate::store::{self, Pages, Store};
use crate::upload::{self, UploadQueue, Uploader};

/// Blocks below the tip whose ids are asked for, so that proofs of their announcements can be
/// checked. At usual targets older announcements are worth nothing.
const PARENTS_DEPTH: u32 = 24;

/// Why the block miner does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting breaks a rule.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The memory for announcements can not be had.
    #[error("{memory_mib} MiB for announcements: {cause}")]
    Memory {
        /// MiB that were asked for.
        memory_mib: u32,
        /// What the system says.
        cause: io::Error,
    },
    /// The system gives no thread.
    #[error("no thread: {0}")]
    Thread(io::Error),
    /// No HTTP client can be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The address for metrics can not be listened on.
    #[error("metrics_listen: {0}")]
    Listen(#[from] ListenError),
    /// The sprayer can not be started.
    #[error("sprayer: {0}")]
    Sprayer(#[from] SprayerError),
}

/// Why the block miner ended other than by its signal.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A part of it ended with a panic.
    #[error("a part of the block miner failed: {0}")]
    Part(String),
}

/// A block miner that runs.
pub struct Running {
    observer: Arc<Observer>,
    tasks: JoinSet<()>,
    uploads: Arc<UploadQueue>,
    uploaders: JoinSet<()>,
    metrics: Option<ControlServer>,
    threads: Vec<JoinHandle<()>>,
    shutdown: Shutdown,
}

/// Starts a block miner; it runs until the signal. Must be called within a tokio runtime.
///
/// A pool that can not be reached is no error: it may come.
///
/// # Errors
/// [`StartError`].
pub async fn start(config: Config, shutdown: Shutdown) -> Result<Running, StartError> {
    config.validate()?;
    let backend = Backend::best();
    let store = open_store(&config)?;
    let peers = Arc::new(Peers::new(Duration::from_secs(config.drop_peer_s)));
    let (chain, arrivals) = (Arc::new(Chain::default()), Arc::new(ArrivalCounters::default()));
    let intake = Arc::new(Intake {
        store: store.clone(),
        chain: chain.clone(),
        counters: arrivals.clone(),
        peers: peers.clone(),
        check_chance: config.check_chance,
    });
    let (inlet, intake_thread) = intake.clone().start().map_err(StartError::Thread)?;
    let uploads = Arc::new(UploadQueue::new(config.upload_queue_len));
    let prover = Prover { intake, uploads: uploads.clone() };
    let (found, prover_thread) = prover.start().map_err(StartError::Thread)?;
    let shares = Arc::new(ShareCounters::default());
    let threads = if config.threads == 0 { hw::available_cores() } else { config.threads };
    let workers = Workers::start(threads, backend, &found, &shares).map_err(StartError::Thread)?;
    drop(found);
    let workers = Arc::new(workers);
    let options = PoolOptions { depth_blocks: PARENTS_DEPTH, ..PoolOptions::block_miner() };
    let pool = Arc::new(PoolClient::start(&config.pool_url, options, &shutdown)?);
    let jobs = Jobs {
        rules: job_rules(&config, &store, threads, backend),
        store: store.clone(),
        chain: chain.clone(),
        peers: peers.clone(),
        workers: workers.clone(),
        status: Arc::new(JobsStatus::default()),
        state: State::default(),
    };
    let observer = Arc::new(Observer {
        pool: pool.clone(),
        store,
        chain: chain.clone(),
        peers: peers.clone(),
        workers,
        jobs: jobs.status.clone(),
        arrivals,
        shares: shares.clone(),
        uploads: uploads.clone(),
        backend: backend.name(),
        samples: Mutex::new(VecDeque::new()),
    });
    let metrics = serve_metrics(&config, &observer, &shutdown).await?;
    let uploaders = start_uploads(&config, &pool, &chain, &uploads, &shares)?;
    let mut tasks = JoinSet::new();
    start_feeds(&config, &pool, &chain, &peers, inlet, &shutdown, &mut tasks)?;
    let every = Duration::from_secs(config.stats_interval_s);
    tasks.spawn(observer.clone().run(every, shutdown.clone()));
    tasks.spawn(jobs.run(pool, shutdown.clone()));
    let threads = vec![intake_thread, prover_thread];
    Ok(Running { observer, tasks, uploads, uploaders, metrics, threads, shutdown })
}

impl Running {
    /// The figures of this moment.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.observer.stats()
    }

    /// A handle that reads the figures, also after [`Running::join`] took this value.
    pub fn stats_reader(&self) -> impl Fn() -> Stats + Send + Sync + Clone + 'static {
        let observer = self.observer.clone();
        move || observer.stats()
    }

    /// Where `/metrics` is served, when it is.
    #[must_use]
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(ControlServer::local_addr)
    }

    /// Returns when the miner has stopped, some time after the signal. Shares that were found have
    /// three seconds to arrive.
    ///
    /// # Errors
    /// [`RunError`] when a part ended with a panic; the others are stopped then.
    pub async fn join(self) -> Result<(), RunError> {
        self.finish().await.map(|_| ())
    }

    /// As [`Running::join`], with the figures of the end.
    ///
    /// # Errors
    /// As [`Running::join`].
    pub async fn finish(mut self) -> Result<Stats, RunError> {
        let mut failure = None;
        while !self.tasks.is_empty() {
            let ended = tokio::select! {
                Some(ended) = self.tasks.join_next() => ended,
                Some(ended) = self.uploaders.join_next() => ended,
            };
            if let Err(error) = ended {
                failure.get_or_insert(RunError::Part(error.to_string()));
                self.shutdown.trigger();
            }
        }
        // With the mining threads the last sender of solutions ends, and so does the prover; the
        // feeds have ended, and so does the intake.
        self.observer.workers.request_stop();
        for thread in self.threads.drain(..) {
            let joined = tokio::task::spawn_blocking(move || thread.join().is_ok()).await;
            if !joined.unwrap_or(false) {
                failure.get_or_insert(RunError::Part("a thread".to_owned()));
            }
        }
        // Every share found is in the queue now.
        self.uploads.end();
        let delivered = async { while self.uploaders.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(upload::STOP_GRACE, delivered).await;
        self.uploaders.shutdown().await;
        self.uploads.close();
        if let Some(metrics) = self.metrics.take() {
            metrics.join().await;
        }
        failure.map_or_else(|| Ok(self.observer.stats()), Err)
    }
}

fn open_store(config: &Config) -> Result<Arc<Store>, StartError> {
    let memory_mib = config.memory_mib;
    let slots = store::slots_for_memory(memory_mib);
    let store = Store::new(slots, config.huge_pages)
        .map_err(|cause| StartError::Memory { memory_mib, cause })?;
    tracing::info!("{memory_mib} MiB hold {slots} announcements");
    if config.huge_pages && store.pages() == Pages::Ordinary {
        tracing::warn!(
            "no huge pages, mining will be slower: the system refuses MADV_HUGEPAGE; see \
             /sys/kernel/mm/transparent_hugepage/enabled"
        );
    }
    Ok(Arc::new(store))
}

fn job_rules(config: &Config, store: &Store, threads: usize, backend: Backend) -> JobRules {
    let slots = f64::from(store.slots());
    JobRules {
        count_max: ((slots * (1.0 - config.min_free)) as u64).max(1),
        tree_threads: if config.tree_threads == 0 { threads } else { config.tree_threads },
        gain: config.job_gain,
        age_min: Duration::from_millis(config.job_age_min_ms),
        age_max: Duration::from_secs(config.job_age_max_s),
        grace: Duration::from_millis(config.stale_grace_ms),
        backend,
    }
}

async fn serve_metrics(
    config: &Config,
    observer: &Arc<Observer>,
    shutdown: &Shutdown,
) -> Result<Option<ControlServer>, StartError> {
    let Some(addr) = config.metrics_listen else { return Ok(None) };
    let (for_metrics, for_stats) = (observer.clone(), observer.clone());
    let router =
        control::observation_routes(move || for_metrics.metrics(), move || for_stats.stats());
    let limits = ControlLimits::default();
    Ok(Some(control::serve(addr, router, limits, shutdown.clone()).await?))
}

fn start_uploads(
    config: &Config,
    pool: &PoolClient,
    chain: &Arc<Chain>,
    queue: &Arc<UploadQueue>,
    counters: &Arc<ShareCounters>,
) -> Result<JoinSet<()>, StartError> {
    let uploader = Arc::new(Uploader {
        http: HttpClient::new(ClientOptions::default())?,
        queue: queue.clone(),
        chain: chain.clone(),
        config: pool.config_watch(),
        counters: counters.clone(),
        payment_address: config.payment_address.clone(),
        timeout: Duration::from_secs(config.upload_timeout_s),
    });
    let mut uploaders = JoinSet::new();
    for _ in 0..config.uploaders {
        uploaders.spawn(uploader.clone().run());
    }
    Ok(uploaders)
}

/// Starts the feeds. The inlet goes with them, so that the intake ends when they do.
fn start_feeds(
    config: &Config,
    pool: &PoolClient,
    chain: &Arc<Chain>,
    peers: &Arc<Peers>,
    inlet: Inlet,
    shutdown: &Shutdown,
    tasks: &mut JoinSet<()>,
) -> Result<(), StartError> {
    if let Some(settings) = &config.sprayer {
        let sprayer = spray::open(settings, shutdown)?;
        tracing::info!("sprayer at {}", sprayer.local_addr());
        tasks.spawn(spray::follow(sprayer, peers.clone(), inlet.clone(), shutdown.clone()));
    }
    if config.download {
        let feed = Feed {
            http: HttpClient::new(ClientOptions::default())?,
            chain: chain.clone(),
            peers: peers.clone(),
            inlet: inlet.clone(),
            permits: Semaphore::new(config.downloaders),
            poll: Duration::from_millis(config.download_poll_ms),
        };
        tasks.spawn(follow_handlers(Arc::new(feed), pool.config_watch(), shutdown.clone()));
    }
    Ok(())
}

/// Follows the handlers that the pool names, as the list changes.
async fn follow_handlers(
    feed: Arc<Feed>,
    mut config: tokio::sync::watch::Receiver<Option<Arc<packetcrypt_proto::config::MasterConfig>>>,
    shutdown: Shutdown,
) {
    let mut followed: HashMap<String, Shutdown> = HashMap::new();
    let mut downloads = JoinSet::new();
    loop {
        let now = config.borrow_and_update().clone();
        if let Some(now) = now {
            let urls = download_urls(&now);
            followed.retain(|url, stop| {
                let keep = urls.contains(url);
                if !keep {
                    stop.trigger();
                }
                keep
            });
            for url in urls {
                followed.entry(url.clone()).or_insert_with(|| {
                    let stop = shutdown.child();
                    downloads.spawn(feed.clone().follow(url, stop.clone()));
                    stop
                });
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = config.changed() => if changed.is_err() { break },
        }
    }
    followed.into_values().for_each(|stop| stop.trigger());
    while downloads.join_next().await.is_some() {}
}
