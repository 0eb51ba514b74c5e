//! The feeds: HTTP from a local server, UDP from a local sprayer.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use packetcrypt_core::bytes::Hash32;
use packetcrypt_core::params::ANNOUNCEMENT_BYTES;
use packetcrypt_net::Shutdown;
use packetcrypt_net::client::{ClientOptions, HttpClient};
use packetcrypt_net::engine::{self, Body, Engine, EngineKind, Placement};
use packetcrypt_net::http1::{Http1Limits, Http1Shared, Request, Response, Service, serve};
use packetcrypt_net::hw::{CpuSet, available_cpus, threads_cpu_time};
use packetcrypt_net::sprayer::{Sprayer, SprayerOptions};
use packetcrypt_proto::anns_index::{AnnFile, AnnsIndex, FILE_PATH_PREFIX, INDEX_PATH, store_id};
use tokio::sync::Semaphore;

use super::{HEIGHT, MeasureError, Options, PARENT_HEIGHT, Row};
use super::{cannot, median, row, synthesize, wrong};
use crate::chain::{Chain, Next};
use crate::config::SprayerConfig;
use crate::fetch::{Feed, Lines};
use crate::hash::hash_each;
use crate::intake::{Intake, Taker};
use crate::peers::Peers;
use crate::spray;
use crate::stats::ArrivalCounters;
use crate::store::{self, Snapshot, Store};

const HTTP_WORK: &str = "ingest by HTTP into slots, hashed and indexed";
/// Any port of this machine alone.
const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Announcements of a chunk of the sprayer.
const CHUNK_LEN: usize = 1024;
/// Announcements that wait for being sent at most, so that the sender itself drops none.
const UNSENT_MAX: u64 = 16 * CHUNK_LEN as u64;
/// How long hashes alone are made in each round.
const HASHING: Duration = Duration::from_millis(300);
/// Rounds in which the engines take turns: the machine may be lent to others meanwhile.
const ROUNDS: usize = 6;
/// Nothing more comes after this time without news.
const QUIET: Duration = Duration::from_secs(2);

/// Measures the rows of the feeds. Each is handed over as soon as it is there. Must be called
/// within a tokio runtime.
///
/// # Errors
/// [`MeasureError`].
pub async fn ingest(options: &Options, show: &mut dyn FnMut(Row)) -> Result<(), MeasureError> {
    let count = store::slots_for_memory(options.memory_mib) as usize;
    let mut announcements = vec![0; count * ANNOUNCEMENT_BYTES];
    for (number, bytes) in announcements.as_chunks_mut().0.iter_mut().enumerate() {
        synthesize(number as u64, PARENT_HEIGHT, bytes);
    }
    let announcements = Bytes::from(announcements);
    http(options, &announcements, show).await?;
    udp(options, &announcements, show).await
}

/// The part of an ingest that can not be less: one thread hashes what is in memory. GB/s.
fn hash_rate(announcements: &Bytes) -> f64 {
    let (all, _) = announcements.as_chunks::<ANNOUNCEMENT_BYTES>();
    let (started, mut done) = (Instant::now(), 0);
    for batch in all.chunks(CHUNK_LEN) {
        std::hint::black_box(hash_each(&batch.iter().collect::<Vec<_>>()));
        done += batch.len() * ANNOUNCEMENT_BYTES;
        if started.elapsed() > HASHING {
            break;
        }
    }
    done as f64 / 1e9 / started.elapsed().as_secs_f64()
}

/// A store with everything around it that a feed needs.
fn intake(options: &Options, count: u32) -> Result<Arc<Intake>, MeasureError> {
    let store = Arc::new(Store::new(count, options.huge_pages).map_err(cannot)?);
    let chain = Arc::new(Chain::default());
    let previous_block = Hash32([1; 32]);
    chain.learn_block(PARENT_HEIGHT, previous_block, None);
    chain.learn_work(Next { height: HEIGHT, previous_block }, Duration::ZERO);
    Ok(Arc::new(Intake {
        store,
        chain,
        counters: Arc::new(ArrivalCounters::default()),
        peers: Arc::new(Peers::new(Duration::from_secs(1), None)),
        doubts: Mutex::default(),
        check_chance: 0.0,
    }))
}

/// Serves one file of announcements, as a handler does.
#[derive(Clone)]
struct Files {
    announcements: Bytes,
    sockets: Arc<std::sync::Mutex<Vec<std::net::TcpListener>>>,
    shutdown: Shutdown,
}

impl Body for Files {
    async fn run<E: Engine>(self, engine: E) {
        let socket = self.sockets.lock().ok().and_then(|mut sockets| sockets.pop());
        let Some(socket) = socket else { return };
        let shared = Http1Shared::new(Http1Limits::default());
        let shutdown = self.shutdown.clone();
        if let Err(error) = serve(engine, socket, Rc::new(self), shared, shutdown).await {
            tracing::error!("the measurement's server: {error}");
        }
    }
}

impl<E: Engine> Service<E> for Files {
    async fn call(&self, request: &mut Request<'_, E>) -> Response {
        if request.head.path() == INDEX_PATH {
            let file = AnnFile {
                number: 0,
                bytes: self.announcements.len() as u64,
                parent_height_min: i64::from(PARENT_HEIGHT),
                parent_height_max: i64::from(PARENT_HEIGHT),
                complete: true,
            };
            let index = AnnsIndex { store: store_id([1; 16]), files: vec![file] };
            return Response::json(200, index.to_json());
        }
        let range = request.head.field_text("range").and_then(|range| {
            let range = range.strip_prefix("bytes=")?;
            let (from, to) = range.split_once('-')?;
            Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()?))
        });
        let total = self.announcements.len();
        let Some((from, to)) = range.filter(|(from, to)| from <= to && *to < total) else {
            return Response::new(416);
        };
        if !request.head.path().starts_with(FILE_PATH_PREFIX) {
            return Response::new(404);
        }
        Response::new(206)
            .with_field("content-range", format!("bytes {from}-{to}/{total}"))
            .with_body(self.announcements.slice(from..=to))
    }
}

async fn http(
    options: &Options,
    announcements: &Bytes,
    show: &mut dyn FnMut(Row),
) -> Result<(), MeasureError> {
    let mut hashes = Vec::new();
    let mut engines = [EngineKind::Auto, EngineKind::Epoll].map(|kind| (kind, Vec::new()));
    for round in 0..ROUNDS {
        hashes.push(hash_rate(announcements));
        for turn in 0..engines.len() {
            // Who comes first finds another machine than who comes second.
            let at = (round + turn) % engines.len();
            let (kind, rounds) = &mut engines[at];
            rounds.push(http_round(options, announcements, *kind).await?);
        }
    }
    let (rate, range) = median(hashes);
    show(row("hashes alone, 1 thread", rate, "GB/s").note(range));
    for (_, rounds) in engines {
        let Some(name) = rounds.first().map(|round| round.engine.clone()) else { continue };
        let (rate, range) = median(rounds.iter().map(|round| round.by_cpu).collect());
        let (by_clock, _) = median(rounds.iter().map(|round| round.by_clock).collect());
        show(row(HTTP_WORK, rate, "GB/s a core").note(format!(
            "{range}; {name}, {by_clock:.2} GB/s by the clock with the server on the other core, \
             {} MiB",
            announcements.len() >> 20
        )));
    }
    Ok(())
}

/// What one ingest by HTTP came to.
struct HttpRound {
    engine: String,
    /// GB a second of CPU time of who fetches.
    by_cpu: f64,
    /// GB a second of the clock.
    by_clock: f64,
}

async fn http_round(
    options: &Options,
    announcements: &Bytes,
    engine: EngineKind,
) -> Result<HttpRound, MeasureError> {
    let count = (announcements.len() / ANNOUNCEMENT_BYTES) as u64;
    let shutdown = Shutdown::new();
    let sockets = engine::bind(LOCAL, 1).map_err(cannot)?;
    let addr = sockets[0].local_addr().map_err(cannot)?;
    let files = Files {
        announcements: announcements.clone(),
        sockets: Arc::new(std::sync::Mutex::new(sockets)),
        shutdown: shutdown.clone(),
    };
    let (fetching, serving) = two_cpus();
    let placement = Placement { name: "serve".to_owned(), executors: 1, cpus: serving };
    let server = engine::start(EngineKind::Epoll, &placement, files).map_err(cannot)?;
    let intake = intake(options, count as u32)?;
    // First touch of memory is not what is measured: a miner's slots are in use all the time.
    intake.store.populate().map_err(cannot)?;
    let (lines, executors) = Lines::start(engine, 1, fetching, &intake).map_err(cannot)?;
    let engine = executors.to_string();
    let feed = Arc::new(Feed {
        http: HttpClient::new(ClientOptions::default()).map_err(cannot)?,
        chain: intake.chain.clone(),
        peers: intake.peers.clone(),
        lines,
        connections: 2,
        permits: Semaphore::new(1),
        poll: Duration::from_secs(1),
        keeper: None,
        before: Snapshot::default(),
    });
    let (cpu, started) = (threads_cpu_time(&["blk-fetch"]), Instant::now());
    let following = tokio::spawn(feed.follow(format!("http://{addr}"), shutdown.clone()));
    let held = until_quiet(&intake.store, count).await;
    let (took, cpu) = (started.elapsed(), threads_cpu_time(&["blk-fetch"]) - cpu);
    shutdown.trigger();
    let _ = following.await;
    let _ = tokio::join!(executors.join(), server.join());
    if held != count {
        return Err(wrong(HTTP_WORK, format!("{held} of {count} announcements are in the store")));
    }
    let bytes = announcements.len() as f64 / 1e9;
    let (by_cpu, by_clock) = (bytes / cpu.as_secs_f64(), bytes / took.as_secs_f64());
    Ok(HttpRound { engine, by_cpu, by_clock })
}

/// A CPU for who fetches and one for who serves: left to itself the system puts both on one now and
/// then, since each wakes the other. None where there is one CPU.
fn two_cpus() -> (Option<CpuSet>, Option<CpuSet>) {
    match *available_cpus().cpus() {
        [first, .., last] => (Some(CpuSet::new([first])), Some(CpuSet::new([last]))),
        _ => (None, None),
    }
}

/// Waits until a store holds so many, or nothing more comes; returns how many it holds.
async fn until_quiet(store: &Store, count: u64) -> u64 {
    let (mut held, mut since) = (0, Instant::now());
    loop {
        let now = store.figures().held;
        if now != held {
            (held, since) = (now, Instant::now());
        }
        if held >= count || since.elapsed() > QUIET {
            return held;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn udp(
    options: &Options,
    announcements: &Bytes,
    show: &mut dyn FnMut(Row),
) -> Result<(), MeasureError> {
    const WORK: &str = "ingest by sprayer into slots, hashed and indexed";
    const THREADS: [&str; 2] = ["spray-recv", "blk-intake"];
    let (all, _) = announcements.as_chunks::<ANNOUNCEMENT_BYTES>();
    let count = all.len() as u64;
    let shutdown = Shutdown::new();
    let sender = Sprayer::start(SprayerOptions::new(LOCAL, ""), &shutdown).map_err(cannot)?;
    let intake = intake(options, count as u32)?;
    intake.store.populate().map_err(cannot)?;
    let config = SprayerConfig {
        bind: LOCAL,
        subscribe: vec![sender.local_addr()],
        threads: 1,
        ..SprayerConfig::default()
    };
    let receiver = Arc::new(spray::open(&config, &shutdown).map_err(cannot)?);
    let taker = Taker::new(intake.clone());
    let thread = spray::follow(receiver.clone(), intake.peers.clone(), taker, shutdown.clone());
    let thread = thread.map_err(cannot)?;
    let since = Instant::now();
    while !sender.stats().peers.iter().any(|peer| peer.is_subscriber) {
        if since.elapsed() > QUIET {
            return Err(cannot("the sprayer has no subscriber"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (cpu, started) = (threads_cpu_time(&THREADS), Instant::now());
    for chunk in all.chunks(CHUNK_LEN) {
        while unsent(&sender) > UNSENT_MAX {
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        sender.send(chunk.to_vec());
    }
    let held = until_quiet(&intake.store, count).await;
    let (took, cpu) = (started.elapsed(), threads_cpu_time(&THREADS) - cpu);
    let stats = receiver.stats();
    shutdown.trigger();
    let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    show(row(WORK, held as f64 / cpu.as_secs_f64(), "announcements/s a core").note(format!(
        "{held} of {count} came, {} dropped by the queue, {:.0} a second by the clock with the \
         sender on the other core",
        stats.incoming.dropped,
        held as f64 / took.as_secs_f64()
    )));
    Ok(())
}

fn unsent(sender: &Sprayer) -> u64 {
    let stats = sender.stats();
    stats.outgoing.queued + stats.peers.iter().map(|peer| peer.queued).sum::<u64>()
}
