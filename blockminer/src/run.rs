//! Starts the parts and stops them in order.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use packetcrypt_core::backend::Backend;
use packetcrypt_net::client::{ClientError, ClientOptions, HttpClient};
use packetcrypt_net::control::{self, ControlCounters, ControlLimits, ControlServer, ListenError};
use packetcrypt_net::hw::{self, HugePages};
use packetcrypt_net::pool_client::{PoolClient, PoolOptions};
use packetcrypt_net::seldom::Seldom;
use packetcrypt_net::sprayer::{Sprayer, SprayerError};
use packetcrypt_net::{Shutdown, progress};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::chain::Chain;
use crate::config::{Config, ConfigError};
use crate::fetch::{Feed, Lines, LinesError, download_urls};
use crate::intake::{Intake, Taker};
use crate::jobs::{JobRules, Jobs, JobsStatus, State};
use crate::observe::Observer;
use crate::peers::Peers;
use crate::prove::Prover;
use crate::search::{self, Workers};
use crate::spray;
use crate::stats::{ArrivalCounters, ShareCounters, Stats};
use crate::store::{
    self, Keeper, Numa, Pages, Restored, Snapshot, Store, StoreError, StoreOptions,
};
use crate::upload::{self, UploadQueue, Uploader};

/// Of so many cores one downloads, when the settings do not say how many.
const CORES_PER_DOWNLOAD_THREAD: usize = 4;
/// Blocks below the tip whose ids are asked for, so that proofs of their announcements can be
/// checked. At usual targets older announcements are worth nothing; when some come that are, their
/// blocks are asked for too.
const PARENTS_DEPTH: u32 = 24;

/// Why the block miner does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting breaks a rule.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The memory or the file for announcements can not be had.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The threads that download can not be started.
    #[error("downloads: {0}")]
    Downloads(#[from] LinesError),
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
    let Opened { store, keeper, before } = open_store(&config)?;
    let drop_first = Duration::from_secs(config.drop_peer_s);
    let peers = Arc::new(Peers::new(drop_first, keeper.clone()));
    peers.restore(&before.sources);
    let (chain, arrivals) = (Arc::new(Chain::default()), Arc::new(ArrivalCounters::default()));
    chain.remember(&before.blocks);
    let intake = Arc::new(Intake {
        store: store.clone(),
        chain: chain.clone(),
        counters: arrivals.clone(),
        peers: peers.clone(),
        doubts: Mutex::default(),
        check_chance: config.check_chance,
    });
    let uploads = Arc::new(UploadQueue::new(config.upload_queue_len));
    let prover = Prover { intake: intake.clone(), uploads: uploads.clone() };
    let (found, prover_thread) = prover.start().map_err(StartError::Thread)?;
    let shares = Arc::new(ShareCounters::default());
    let threads = if config.threads == 0 { hw::available_cores() } else { config.threads };
    let places = search::places(threads, config.pin_threads);
    let workers = Workers::start(&places, backend, &found, &shares).map_err(StartError::Thread)?;
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
        keeper: keeper.clone(),
        state: State::default(),
    };
    let mut threads = vec![prover_thread];
    let sprayer = open_sprayer(&config, &intake, &shutdown, &mut threads)?;
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
        sprayer,
        control: ControlCounters::default(),
        backend: backend.name(),
        samples: Mutex::new(VecDeque::new()),
        pages: Mutex::new(None),
    });
    let metrics = serve_metrics(&config, &observer, &shutdown).await?;
    let uploaders = start_uploads(&config, &pool, &chain, &uploads, &shares)?;
    let mut tasks = JoinSet::new();
    if config.download {
        start_downloads(&config, &pool, intake, keeper, before, &shutdown, &mut tasks)?;
    }
    let every = Duration::from_secs(config.stats_interval_s);
    tasks.spawn(observer.clone().run(every, shutdown.clone()));
    tasks.spawn(ask_for_missed(chain, pool.clone(), shutdown.clone()));
    tasks.spawn(jobs.run(pool, shutdown.clone()));
    Ok(Running { observer, tasks, uploads, uploaders, metrics, threads, shutdown })
}

impl Running {
    /// The figures of this moment.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.observer.stats()
    }

    /// Where `/metrics` is served, when it is.
    #[must_use]
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(ControlServer::local_addr)
    }

    /// Returns when the miner has stopped, some time after the signal. Shares that were found have
    /// ten seconds to arrive.
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
        // With the mining threads the last sender of solutions ends, and so does the prover.
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
        self.observer.store.unlock();
        failure.map_or_else(|| Ok(self.observer.stats()), Err)
    }
}

/// Has the pool asked for blocks that were missed.
async fn ask_for_missed(chain: Arc<Chain>, pool: Arc<PoolClient>, shutdown: Shutdown) {
    let mut missed = chain.missed();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = missed.changed() => if changed.is_err() { return },
        }
        pool.deepen(*missed.borrow_and_update());
    }
}

/// The store, and what an earlier process left beside it.
struct Opened {
    store: Arc<Store>,
    keeper: Option<Arc<Keeper>>,
    before: Snapshot,
}

fn open_store(config: &Config) -> Result<Opened, StartError> {
    let slots = store::slots_for_memory(config.memory_mib);
    let nodes: Vec<usize> = hw::memory_nodes().iter().map(|node| node.id).collect();
    let options = StoreOptions {
        slots,
        huge_pages: config.huge_pages,
        numa: config.numa,
        nodes,
        file: config.arena_file.clone(),
        threads: hw::available_cores(),
    };
    let started = Instant::now();
    let what = match &config.arena_file {
        Some(file) => format!("opening {}", file.display()),
        None => format!("taking {} MiB of memory", config.memory_mib),
    };
    let (store, restored, kept) = progress::said(&what, || Store::open(&options))?;
    tracing::info!("{} MiB hold {slots} announcements", config.memory_mib);
    tell_numa(config.numa, options.nodes.len());
    if config.huge_pages {
        tell_pages(&store);
    }
    if let Some(file) = &config.arena_file {
        let Restored { announcements, hashed, dropped } = restored;
        tracing::info!(
            "{}: {announcements} announcements of an earlier run found in {} ms ({hashed} hashed \
             again, {dropped} dropped)",
            file.display(),
            started.elapsed().as_millis()
        );
    }
    let (keeper, before) = kept.unzip();
    let before = before.unwrap_or_default();
    Ok(Opened { store: Arc::new(store), keeper: keeper.map(Arc::new), before })
}

fn tell_numa(numa: Numa, nodes: usize) {
    match numa {
        Numa::Default => {}
        _ if nodes < 2 => {
            tracing::info!("numa: this machine has 1 memory node, so {numa:?} changes nothing");
        }
        Numa::Interleave => tracing::info!("numa: announcements come from {nodes} nodes in turn"),
        Numa::Replicate => tracing::info!("numa: announcements are copied to {nodes} nodes"),
    }
}

/// Says which pages the announcements lie in, and what to run for better ones.
fn tell_pages(store: &Store) {
    let (bytes, _) = store.page_bytes();
    let wanted = HugePages::read().check(bytes);
    match (store.pages(), wanted) {
        (Pages::Huge, _) => tracing::info!("huge pages: {} MiB reserved ones", bytes >> 20),
        (Pages::HugeAdvised, Err(error)) => tracing::info!(
            "huge pages: none reserved ({error}); the system gives what it has of transparent ones"
        ),
        (Pages::HugeAdvised, Ok(())) => {
            tracing::info!("huge pages: the system gives what it has of transparent ones");
        }
        (Pages::Ordinary, Err(error)) => {
            tracing::warn!("no huge pages, mining will be slower: {error}");
        }
        (Pages::Ordinary, Ok(())) => tracing::warn!(
            "no huge pages, mining will be slower: the file system of the file gives none (a \
             hugetlbfs does)"
        ),
    }
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
    let (counted, limits) = (&observer.control, ControlLimits::default());
    Ok(Some(control::serve_counted(addr, router, limits, counted, shutdown.clone()).await?))
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
        retries: Seldom::default(),
        warnings: Seldom::default(),
    });
    let mut uploaders = JoinSet::new();
    for _ in 0..config.uploaders {
        uploaders.spawn(uploader.clone().run());
    }
    Ok(uploaders)
}

/// Opens the sprayer, when there is one, and the thread that takes in what it receives.
fn open_sprayer(
    config: &Config,
    intake: &Arc<Intake>,
    shutdown: &Shutdown,
    threads: &mut Vec<JoinHandle<()>>,
) -> Result<Option<Arc<Sprayer>>, StartError> {
    let Some(settings) = &config.sprayer else { return Ok(None) };
    let sprayer = Arc::new(spray::open(settings, shutdown)?);
    tracing::info!("sprayer at {}", sprayer.local_addr());
    let taker = Taker::new(intake.clone());
    let thread = spray::follow(sprayer.clone(), intake.peers.clone(), taker, shutdown.clone());
    threads.push(thread.map_err(StartError::Thread)?);
    Ok(Some(sprayer))
}

fn start_downloads(
    config: &Config,
    pool: &PoolClient,
    intake: Arc<Intake>,
    keeper: Option<Arc<Keeper>>,
    before: Snapshot,
    shutdown: &Shutdown,
    tasks: &mut JoinSet<()>,
) -> Result<(), StartError> {
    let executors = match config.download_threads {
        0 => hw::available_cores().div_ceil(CORES_PER_DOWNLOAD_THREAD),
        threads => threads,
    };
    let (lines, executors) = Lines::start(config.engine, executors, None, &intake)?;
    let feed = Feed {
        http: HttpClient::new(ClientOptions::default())?,
        chain: intake.chain.clone(),
        peers: intake.peers.clone(),
        lines,
        connections: config.download_connections,
        permits: Semaphore::new(config.downloaders),
        poll: Duration::from_millis(config.download_poll_ms),
        keeper,
        before,
    };
    let (feed, own) = (Arc::new(feed), config.handlers.clone());
    let (pool_config, shutdown) = (pool.config_watch(), shutdown.clone());
    tasks.spawn(async move {
        follow_handlers(feed, own, pool_config, shutdown).await;
        // The feed is gone, and with it the senders for which the executors wait.
        if let Err(panicked) = executors.join().await {
            tracing::error!("{panicked} threads of downloads ended with a panic");
        }
    });
    Ok(())
}

/// Follows our own handlers and those that the pool names, as the list changes.
async fn follow_handlers(
    feed: Arc<Feed>,
    own: Vec<String>,
    mut config: tokio::sync::watch::Receiver<Option<Arc<packetcrypt_proto::config::MasterConfig>>>,
    shutdown: Shutdown,
) {
    let mut followed: HashMap<String, Shutdown> = HashMap::new();
    let mut downloads = JoinSet::new();
    loop {
        let now = config.borrow_and_update().clone();
        let urls = download_urls(now.as_deref(), &own);
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
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = config.changed() => if changed.is_err() { break },
        }
    }
    followed.into_values().for_each(|stop| stop.trigger());
    while downloads.join_next().await.is_some() {}
}
