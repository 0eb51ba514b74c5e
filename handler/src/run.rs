//! Starting and ending a handler.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use packetcrypt_net::control::{self, ControlLimits};
use packetcrypt_net::engine::{self, Body, Engine, EngineKind, Executors, Placement};
use packetcrypt_net::http1::{Http1Limits, Http1Shared, serve};
use packetcrypt_net::metrics::Metrics;
use packetcrypt_net::pool_client::{PoolClient, PoolOptions};
use packetcrypt_net::seldom::Seldom;
use packetcrypt_net::{Clock, Shutdown, SystemClock, progress};
use tokio::task::JoinHandle;

use crate::body::BodyMemory;
use crate::commit::{CommitQueue, CommitReceiver, Committer};
use crate::config::{Config, ConfigError};
use crate::download::IndexText;
use crate::outlets::{PayLogs, Sprayers};
use crate::overload::Budgets;
use crate::parents::Follower;
use crate::publish::{Reader, Record, Store, StoreError, StoreOptions};
use crate::queue::PostQueue;
use crate::stats::{self, Counters, Stats};
use crate::submit::{Front, FrontService};
use crate::verify::{Engines, Workers};

/// How often the statistics line is told (spec 05, 6.5).
const STATS_EVERY: Duration = Duration::from_secs(5);
/// Sources that `/stats.json` shows.
const SOURCES_SHOWN_MAX: usize = 20;
/// Bodies a little longer than a post are still received, to be refused by our own reply.
const BODY_SLACK_BYTES: u64 = 1024;

/// Why a handler can not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration breaks a rule.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The announcement files can not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The pay log can not be opened.
    #[error("pay log: {0}")]
    PayLog(String),
    /// The sprayer can not be started.
    #[error("sprayer: {0}")]
    Sprayer(#[from] packetcrypt_net::sprayer::SprayerError),
    /// The address for miners can not be listened on.
    #[error("bind_pub = {addr}: {cause}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The address for metrics can not be listened on.
    #[error("metrics_listen: {0}")]
    MetricsListen(#[from] control::ListenError),
    /// The executors can not be started.
    #[error(transparent)]
    Engine(#[from] engine::EngineError),
    /// A thread can not be started.
    #[error("thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The client of the master can not be made.
    #[error("master_url: {0}")]
    Pool(#[from] packetcrypt_net::client::ClientError),
}

/// What went wrong in a handler that ran.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// Threads panicked: a fault of ours.
    #[error("{0} threads of the handler panicked")]
    Panicked(usize),
}

/// A handler that runs.
#[derive(Debug)]
pub struct Running {
    local_addr: SocketAddr,
    metrics_addr: Option<SocketAddr>,
    sprayer_addr: Option<SocketAddr>,
    engine: &'static str,
    view: Arc<View>,
    task: JoinHandle<Result<(), RunError>>,
}

/// What statistics are made of.
#[derive(Debug)]
struct View {
    front: Arc<Front>,
    metrics: Metrics,
    http: Arc<Http1Shared>,
    damaged_runs: Arc<AtomicU64>,
    pool: Arc<PoolClient>,
    pay_logs: PayLogs,
    sprayers: Option<Sprayers>,
}

impl Running {
    /// Where miners post, with the port that the system chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where `/metrics` and `/stats.json` are served.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_addr
    }

    /// Where the sprayer listens.
    pub fn sprayer_addr(&self) -> Option<SocketAddr> {
        self.sprayer_addr
    }

    /// The engine that receives and sends.
    pub fn engine(&self) -> &'static str {
        self.engine
    }

    /// All figures now.
    pub fn stats(&self) -> Stats {
        self.view.stats()
    }

    /// Returns when the handler has ended, some time after the shutdown was triggered: accepted
    /// posts are answered, the others are counted as lost.
    ///
    /// # Errors
    /// A thread of the handler panicked.
    pub async fn join(self) -> Result<(), RunError> {
        self.task.await.unwrap_or(Err(RunError::Panicked(1)))
    }

    /// As [`join`](Self::join), then the last counters.
    ///
    /// # Errors
    /// A thread of the handler panicked.
    pub async fn finish(self) -> Result<Stats, RunError> {
        let view = Arc::clone(&self.view);
        self.join().await?;
        Ok(view.stats())
    }
}

/// Starts a handler; it ends when `shutdown` is triggered. Must be called within a tokio runtime.
///
/// # Errors
/// See [`StartError`]. A master that is not there is no error: posts are answered `server not
/// ready` until it comes.
pub async fn start(config: Config, shutdown: Shutdown) -> Result<Running, StartError> {
    start_with_clock(config, Arc::new(SystemClock), shutdown).await
}

/// As [`start`], with another clock for the times of events and budgets.
///
/// # Errors
/// As [`start`].
pub async fn start_with_clock(
    config: Config,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) -> Result<Running, StartError> {
    config.validate()?;
    let mut metrics = Metrics::new("handler");
    let counters = Arc::new(Counters::new(&mut metrics));
    let pool = PoolClient::start(&config.master_url, PoolOptions::default(), &shutdown)?;
    let pool = Arc::new(pool);
    let pay_logs = PayLogs::open(&workdir(&config).join("paylogdir"), config.pay_log_switch_ms)?;
    pay_logs.figures().register(&mut metrics);
    let store = open_store(&config, &pay_logs).await?;
    // The log ends after everything that writes to it: it has a signal of its own.
    let log_shutdown = Shutdown::new();
    pay_logs.upload(&config, &pool, &log_shutdown).await?;
    let front = front(&config, counters, store.reader(), clock, &shutdown);
    let sprayers = Sprayers::start(&config, &shutdown)?;
    let (commits, receiver) = CommitQueue::new();
    let damaged_runs = Arc::<AtomicU64>::default();
    let committer = Committer {
        store,
        follower: Follower::new(
            Arc::clone(&front.parents),
            config.public_url.clone(),
            config.dedup_capacity,
        ),
        log: Box::new(pay_logs.writer()),
        spray: sprayers.clone().map(|sprayers| Box::new(sprayers) as _),
        front: Arc::clone(&front),
        errors: Seldom::default(),
        damaged_runs: Arc::clone(&damaged_runs),
    };
    let workers = Arc::new(Workers {
        front: Arc::clone(&front),
        commits: commits.clone(),
        skip_threshold: config.skip_threshold(),
        count: config.workers(),
    });
    let cannot_listen = |cause| StartError::Listen { addr: config.bind_pub, cause };
    let sockets = engine::bind_when_free(config.bind_pub, config.io_threads(), &shutdown)
        .await
        .map_err(cannot_listen)?;
    let local_addr = sockets[0].local_addr().map_err(cannot_listen)?;
    let http = Http1Shared::new(http_limits(&config));
    let view = Arc::new(View {
        front,
        metrics,
        http,
        damaged_runs,
        pool: Arc::clone(&pool),
        pay_logs,
        sprayers,
    });
    let metrics_server = serve_metrics(&config, &view, &shutdown).await?;
    let metrics_addr = metrics_server.as_ref().map(control::ControlServer::local_addr);
    let sprayer_addr = view.sprayers.as_ref().map(Sprayers::local_addr);
    let parts = Parts {
        committer: spawn_committer(committer, receiver)?,
        workers: Workers::start(
            &workers,
            Engines { executor: config.executor, backend: config.backend },
        )?,
        executors: start_executors(config.engine, sockets, &view, &shutdown)?,
        follower: tokio::spawn(follow(pool, commits)),
        metrics_server,
        view: Arc::clone(&view),
    };
    let engine = parts.executors.engine();
    // The workers' own handles are the last: the committer ends when they have ended.
    drop(workers);
    tracing::info!(
        %local_addr, workers = config.workers(), executors = config.io_threads(),
        "announcement handler started"
    );
    tokio::spawn(tell(Arc::clone(&view), shutdown.clone()));
    let task = tokio::spawn(parts.supervise(shutdown, log_shutdown));
    Ok(Running { local_addr, metrics_addr, sprayer_addr, engine, view, task })
}

fn front(
    config: &Config,
    counters: Arc<Counters>,
    reader: Reader,
    clock: Arc<dyn Clock>,
    shutdown: &Shutdown,
) -> Arc<Front> {
    Arc::new(Front {
        parents: Arc::default(),
        counters,
        queue: PostQueue::new(config.input_queue_len),
        bodies: BodyMemory::new(
            config.body_bytes_max(),
            config.body_bytes_per_source_max(),
            config.post_anns_max * packetcrypt_proto::ANNOUNCEMENT_BYTES,
        ),
        budgets: Budgets::new(config.source_limits()),
        downloaders: config.downloaders_allow.iter().map(IpAddr::to_canonical).collect(),
        reader,
        clock,
        post_anns_max: config.post_anns_max,
        shutdown: shutdown.clone(),
    })
}

/// What has to be ended, in this order.
struct Parts {
    executors: Executors,
    follower: JoinHandle<()>,
    workers: Vec<thread::JoinHandle<()>>,
    committer: thread::JoinHandle<()>,
    metrics_server: Option<control::ControlServer>,
    view: Arc<View>,
}

impl Parts {
    async fn supervise(self, shutdown: Shutdown, log_shutdown: Shutdown) -> Result<(), RunError> {
        shutdown.cancelled().await;
        let mut panicked = self.executors.join().await.err().unwrap_or(0);
        // Nobody waits for an answer any more: what is left in the queue is given up.
        self.view.front.queue.close();
        panicked += usize::from(self.follower.await.is_err());
        let threads = self.workers.into_iter().chain([self.committer]);
        let joined = tokio::task::spawn_blocking(move || {
            threads.filter_map(|thread| thread.join().err()).count()
        });
        panicked += joined.await.unwrap_or(1);
        log_shutdown.trigger();
        self.view.pay_logs.ended().await;
        if let Some(server) = self.metrics_server {
            server.join().await;
        }
        if panicked == 0 { Ok(()) } else { Err(RunError::Panicked(panicked)) }
    }
}

impl View {
    fn stats(&self) -> Stats {
        let front = &self.front;
        let mut stats = front.counters.snapshot();
        stats.queue_len = front.queue.len();
        stats.body_bytes = front.bodies.used();
        stats.files = front.reader.files().len();
        stats.damaged_runs = self.damaged_runs.load(Ordering::Relaxed);
        stats.parents = front.parents.stats();
        stats.sources = front.budgets.worst(SOURCES_SHOWN_MAX, front.clock.now_ms());
        let http = self.http.snapshot();
        stats.timeouts += http.writes_failed;
        stats.http = http;
        stats.pool = Some(self.pool.status());
        stats.pay_log = Some(self.pay_logs.figures().stats());
        stats.sprayer = self.sprayers.as_ref().map(Sprayers::stats);
        stats
    }
}

impl View {
    /// The metrics, the connections of miners, and the sources with the most refused work.
    fn metrics(&self) -> String {
        /// What ends a text of metrics.
        const END: &str = "# EOF\n";
        let mut text = self.metrics.encode();
        text.truncate(text.strip_suffix(END).map_or(text.len(), str::len));
        let front = &self.front;
        let sources = front.budgets.worst(SOURCES_SHOWN_MAX, front.clock.now_ms());
        text.push_str(&stats::http_metrics(&self.http.snapshot()));
        text.push_str(&stats::source_metrics(&sources));
        text.push_str(END);
        text
    }
}

/// The directory of this role.
fn workdir(config: &Config) -> PathBuf {
    config.root_workdir.join("ah")
}

async fn open_store(config: &Config, pay_logs: &PayLogs) -> Result<Store, StartError> {
    let logged = pay_logs.logged_events()?;
    let options = StoreOptions {
        dir: workdir(config).join("anns"),
        file_anns: config.file_anns,
        files_to_keep: config.files_to_keep,
    };
    let what = format!("reading the announcement files in {}", options.dir.display());
    let open = move || {
        progress::said(&what, || {
            Store::open(options, |record: &Record| {
                logged.contains(&(hex::encode(record.event_id), record.time_ms))
            })
        })
    };
    let opened = tokio::task::spawn_blocking(open).await;
    Ok(opened.map_err(|panic| StartError::Thread(std::io::Error::other(panic)))??)
}

fn http_limits(config: &Config) -> Http1Limits {
    let post_bytes = config.post_anns_max * packetcrypt_proto::ANNOUNCEMENT_BYTES;
    Http1Limits {
        body_bytes_max: 2 * post_bytes as u64 + BODY_SLACK_BYTES,
        connections_max: config.connections_max,
        connections_per_source_max: config.connections_per_source_max,
        ..Http1Limits::default()
    }
}

fn spawn_committer(
    committer: Committer,
    receiver: CommitReceiver,
) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("ann-commit".to_owned()).spawn(move || committer.run(receiver))
}

/// What runs on each executor.
#[derive(Clone)]
struct ServeMiners {
    sockets: Arc<Vec<std::net::TcpListener>>,
    view: Arc<View>,
    shutdown: Shutdown,
}

impl Body for ServeMiners {
    async fn run<E: Engine>(self, engine: E) {
        let service = Rc::new(FrontService {
            front: Arc::clone(&self.view.front),
            engine: engine.clone(),
            index: IndexText::default(),
        });
        let http = Arc::clone(&self.view.http);
        let served = match self.sockets[engine.index()].try_clone() {
            Ok(socket) => serve(engine, socket, service, http, self.shutdown).await,
            Err(error) => Err(error),
        };
        if let Err(error) = served {
            tracing::error!(%error, "an executor can not listen");
        }
    }
}

fn start_executors(
    wanted: EngineKind,
    sockets: Vec<std::net::TcpListener>,
    view: &Arc<View>,
    shutdown: &Shutdown,
) -> Result<Executors, StartError> {
    let placement = Placement { name: "ann-io".to_owned(), executors: sockets.len(), cpus: None };
    let (sockets, view) = (Arc::new(sockets), Arc::clone(view));
    let body = ServeMiners { sockets, view, shutdown: shutdown.clone() };
    Ok(engine::start(wanted, &placement, body)?)
}

async fn serve_metrics(
    config: &Config,
    view: &Arc<View>,
    shutdown: &Shutdown,
) -> Result<Option<control::ControlServer>, StartError> {
    let Some(addr) = config.metrics_listen else { return Ok(None) };
    let (for_metrics, for_stats) = (Arc::clone(view), Arc::clone(view));
    let routes =
        control::observation_routes(move || for_metrics.metrics(), move || for_stats.stats());
    let (counted, limits) = (&view.front.counters.control, ControlLimits::default());
    Ok(Some(control::serve_counted(addr, routes, limits, counted, shutdown.clone()).await?))
}

/// Hands the pool's updates to the committer until the pool client or the committer ends.
async fn follow(pool: Arc<PoolClient>, commits: CommitQueue) {
    while let Some(update) = pool.next().await {
        let commits = commits.clone();
        // It waits while the committer is busy.
        let reported = tokio::task::spawn_blocking(move || commits.report(update)).await;
        if !matches!(reported, Ok(true)) {
            return;
        }
    }
}

/// The statistics lines: that of the reference (spec 05, 6.5) and a fuller one.
async fn tell(view: Arc<View>, shutdown: Shutdown) {
    let mut before = Stats::default();
    while shutdown.sleep(STATS_EVERY).await {
        let now = view.stats();
        tracing::info!(
            "overloads: {} timeout: {} q: {}",
            now.overloads - before.overloads,
            now.timeouts.saturating_sub(before.timeouts),
            now.queue_len
        );
        let (anns, was) = (&now.announcements, &before.announcements);
        tracing::info!(
            "anns in {:.0} s: accepted {} dup {} rejected {} overloaded {} lost {} in flight {}; \
             proofs {} skipped {}; files {} downloaded {} MiB; connections {}; {}",
            STATS_EVERY.as_secs_f64(),
            anns.accepted - was.accepted,
            anns.duplicate - was.duplicate,
            anns.rejected - was.rejected,
            anns.overloaded - was.overloaded,
            anns.lost - was.lost,
            anns.in_flight,
            now.proofs_checked - before.proofs_checked,
            now.proofs_skipped - before.proofs_skipped,
            now.files,
            (now.bytes_downloaded - before.bytes_downloaded) >> 20,
            now.http.connections_open,
            now.pay_log.unwrap_or_default(),
        );
        before = now;
    }
}
