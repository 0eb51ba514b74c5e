//! The miner against a small pool on loopback: one server that plays master and handlers.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use packetcrypt_core::announcement::{Announcement, CheckScratch, check};
use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_jit::force_by_environment;
use packetcrypt_miner::{Config, Stats, start};
use packetcrypt_net::Shutdown;
use packetcrypt_net::control::{self, ControlLimits, ControlServer};
use packetcrypt_proto::blkinfo::{BlockInfo, BlockInfoHeader};
use packetcrypt_proto::config::MasterConfig;
use packetcrypt_proto::events::{AnnsCounts, AnnsEvent};
use packetcrypt_proto::headers;
use packetcrypt_proto::ids;
use packetcrypt_proto::reply::Reply;

const ADDRESS: &str = "pkt1q6hqsqhqdgqfd8t3xwgceulu7k9d9w5t2amath0qxyfjlvl3s3u4sjza2g2";
/// One hash in sixteen is an announcement: what a fast machine makes is little for a slow one.
const TARGET: CompactTarget = CompactTarget(0x200f_ffff);
const TIP: i32 = 123_456;
const WAIT: Duration = Duration::from_secs(300);

/// A pool with two handlers behind one address.
#[derive(Default)]
struct Pool {
    address: Mutex<String>,
    /// Announcements taken, by handler.
    taken: Mutex<[Vec<Vec<u8>>; 2]>,
    known: Mutex<HashSet<u64>>,
    /// Status that handlers answer with; 0 = they do their work.
    refuse_with: AtomicU16,
    posts: AtomicUsize,
    /// Answers of a handler that has not heard of everything yet, the last one first.
    not_yet: Mutex<Vec<(u16, String)>>,
}

fn hash_at(height: i32) -> Hash32 {
    let mut bytes = [0x5a; 32];
    bytes[..4].copy_from_slice(&height.to_le_bytes());
    Hash32(bytes)
}

impl Pool {
    fn config(&self) -> MasterConfig {
        let base = self.address.lock().unwrap().clone();
        MasterConfig {
            tip_hash: hash_at(TIP),
            current_height: TIP + 1,
            master_url: base.clone(),
            submit_ann_urls: vec![format!("{base}/0/submit"), format!("{base}/1/submit")],
            download_ann_urls: Vec::new(),
            submit_block_urls: Vec::new(),
            paymaker_url: base,
            version: 3,
            soft_version: 1,
            ann_versions: vec![1],
            mine_old_anns: 2,
            ann_target: Some(TARGET),
            blkinfo_url: None,
            work_hash: None,
        }
    }
}

async fn blkinfo(Path(name): Path<String>) -> Response {
    let hash = name.trim_start_matches("blkinfo_").trim_end_matches(".json");
    let found = (TIP - 20..=TIP).find(|h| hash_at(*h).display().to_string() == hash);
    let Some(height) = found else { return StatusCode::NOT_FOUND.into_response() };
    let header = BlockInfoHeader {
        hash: hash_at(height),
        height,
        version: 0x2000_0000,
        merkle_root: Hash32([0; 32]),
        time: 1_700_000_000,
        nonce: 0,
        bits: CompactTarget(0x1f0f_ffff),
        difficulty: 1.0,
        previous_hash: hash_at(height - 1),
    };
    BlockInfo { header, sig_key: None }.to_json().into_response()
}

async fn submit(
    State(pool): State<Arc<Pool>>,
    Path(handler): Path<usize>,
    fields: HeaderMap,
    body: Bytes,
) -> Response {
    pool.posts.fetch_add(1, SeqCst);
    if let Some((status, text)) = pool.not_yet.lock().unwrap().pop() {
        let reply = Reply::<AnnsEvent>::failed(&text).to_ann_json();
        return (StatusCode::from_u16(status).unwrap(), reply).into_response();
    }
    let refuse_with = pool.refuse_with.load(SeqCst);
    if refuse_with == 503 {
        let reply = Reply::<AnnsEvent>::failed("overloaded").to_ann_json();
        return (StatusCode::SERVICE_UNAVAILABLE, reply).into_response();
    } else if refuse_with != 0 {
        return StatusCode::from_u16(refuse_with).unwrap().into_response();
    }
    let field = |name: &str| fields.get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(field(headers::PAY_TO), ADDRESS);
    assert_eq!(field(headers::SOFTWARE_VERSION), "1");
    assert_eq!(field(headers::WORK_NUMBER), (TIP - 2 + 1).to_string());
    assert_eq!(body.len() % 1024, 0);
    let mut accepted = 0;
    for bytes in body.chunks(1024) {
        if pool.known.lock().unwrap().insert(ids::dedup_hash(bytes)) {
            accepted += 1;
            pool.taken.lock().unwrap()[handler].push(bytes.to_vec());
        }
    }
    let dup = (body.len() / 1024) as u32 - accepted;
    let counts = AnnsCounts { accepted, dup, unsigned: accepted, target: TARGET };
    Reply::ok(AnnsEvent::new(&counts, ADDRESS, 1, ids::ann_post_id(&body)))
        .to_ann_json()
        .into_response()
}

/// Starts a pool; it serves until `shutdown`.
async fn serve(shutdown: &Shutdown) -> Arc<Pool> {
    serve_until(shutdown).await.0
}

async fn serve_until(shutdown: &Shutdown) -> (Arc<Pool>, ControlServer) {
    let pool = Arc::new(Pool::default());
    let config = |State(pool): State<Arc<Pool>>| async move { pool.config().to_json() };
    let router = Router::new()
        .route("/config.json", get(config))
        .route("/{handler}/submit", post(submit))
        .route("/{name}", get(blkinfo))
        .with_state(Arc::clone(&pool));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let limits = ControlLimits { body_bytes_max: 2 << 20, ..ControlLimits::default() };
    let server = control::serve(address, router, limits, shutdown.clone()).await.unwrap();
    *pool.address.lock().unwrap() = format!("http://{}", server.local_addr());
    (pool, server)
}

fn config(pools: &[&Arc<Pool>]) -> Config {
    force_by_environment(std::env::var).expect("engines of this machine");
    Config {
        pools: pools.iter().map(|pool| pool.address.lock().unwrap().clone()).collect(),
        payment_address: ADDRESS.to_owned(),
        threads: 1,
        batch_age_ms_max: 50,
        // Nothing is dropped, however long uploads are kept waiting by other things.
        queue_len_max: 100_000,
        stats_interval_s: 0,
        ..Config::default()
    }
}

async fn until(mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + WAIT;
    while Instant::now() < end {
        if done() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

fn assert_conserved(stats: &Stats) {
    for pool in &stats.pools {
        assert!(pool.is_conserved(), "{pool:?}");
        assert_eq!(pool.offered, stats.made, "every announcement is offered to every pool");
        assert_eq!(pool.waiting + pool.queued + pool.uploading, 0, "{pool:?}");
    }
}

#[tokio::test]
async fn announcements_reach_their_owners_and_are_good() {
    let end = Shutdown::new();
    let pool = serve(&end).await;
    let shutdown = Shutdown::new();
    let miner = start(config(&[&pool]), shutdown.clone()).await.unwrap();
    assert!(until(|| miner.stats().pools[0].accepted >= 200).await, "{:?}", miner.stats());
    shutdown.trigger();
    let stats = miner.finish().await.unwrap();
    assert_conserved(&stats);
    assert_eq!(stats.pools[0].accepted, stats.made, "{stats:?}");
    assert_eq!(stats.pools[0].good_percent(), 100.0);

    let taken = pool.taken.lock().unwrap().clone();
    let mut scratch = Box::new(CheckScratch::new());
    for (handler, announcements) in taken.iter().enumerate() {
        assert!(!announcements.is_empty(), "handler {handler} got nothing");
        for bytes in announcements {
            let owner = ids::owner_by_dedup_hash(ids::dedup_hash(bytes), 2);
            assert_eq!(owner, handler);
        }
        let first: &[u8; 1024] = announcements[0].as_slice().try_into().unwrap();
        let announcement = Announcement::from_bytes(first);
        assert_eq!(announcement.parent_block_height(), (TIP - 2) as u32);
        check(announcement, &hash_at(TIP - 2), &mut scratch).expect("a good announcement");
    }
    end.trigger();
}

#[tokio::test]
async fn a_busy_handler_is_tried_again_and_nothing_is_lost() {
    let end = Shutdown::new();
    let pool = serve(&end).await;
    pool.refuse_with.store(503, SeqCst);
    let shutdown = Shutdown::new();
    let miner = start(config(&[&pool]), shutdown.clone()).await.unwrap();
    assert!(until(|| pool.posts.load(SeqCst) >= 3).await);
    pool.refuse_with.store(0, SeqCst);
    assert!(until(|| miner.stats().pools[0].accepted >= 100).await, "{:?}", miner.stats());
    shutdown.trigger();
    let stats = miner.finish().await.unwrap();
    assert_conserved(&stats);
    assert_eq!(stats.pools[0].accepted, stats.made, "{stats:?}");
    end.trigger();
}

#[tokio::test]
async fn a_handler_that_is_behind_is_tried_again_and_nothing_is_lost() {
    let end = Shutdown::new();
    let pool = serve(&end).await;
    let parent = TIP - 2;
    let behind = format!("block number out of range, expect {} got {parent}", parent - 6);
    *pool.not_yet.lock().unwrap() = vec![
        (400, behind),
        (429, "slow down".to_owned()),
        (400, "server not ready".to_owned()),
        (400, "server not ready".to_owned()),
    ];
    let shutdown = Shutdown::new();
    let miner = start(config(&[&pool]), shutdown.clone()).await.unwrap();
    assert!(until(|| pool.not_yet.lock().unwrap().is_empty()).await);
    assert!(until(|| miner.stats().pools[0].accepted >= 100).await, "{:?}", miner.stats());
    shutdown.trigger();
    let stats = miner.finish().await.unwrap();
    assert_conserved(&stats);
    assert_eq!(stats.pools[0].accepted, stats.made, "{stats:?}");
    end.trigger();
}

/// A handler that is ahead took the block off: that does not pass.
#[tokio::test]
async fn a_handler_that_is_ahead_is_not_tried_again() {
    let end = Shutdown::new();
    let pool = serve(&end).await;
    let parent = TIP - 2;
    let ahead = format!("block number out of range, expect {} got {parent}", parent + 6);
    *pool.not_yet.lock().unwrap() = vec![(400, ahead)];
    let shutdown = Shutdown::new();
    let miner = start(config(&[&pool]), shutdown.clone()).await.unwrap();
    assert!(until(|| miner.stats().pools[0].accepted >= 100).await, "{:?}", miner.stats());
    shutdown.trigger();
    let stats = miner.finish().await.unwrap();
    assert_conserved(&stats);
    assert!(stats.pools[0].rejected["block number out of range"] > 0, "{stats:?}");
    end.trigger();
}

#[tokio::test]
async fn the_second_pool_leads_when_the_first_is_gone() {
    let first_end = Shutdown::new();
    let (first, first_server) = serve_until(&first_end).await;
    let end = Shutdown::new();
    let second = serve(&end).await;
    let config = config(&[&first, &second]);
    first_end.trigger();
    first_server.join().await;
    let shutdown = Shutdown::new();
    let miner = start(config, shutdown.clone()).await.unwrap();
    assert!(until(|| miner.stats().pools[1].accepted >= 50).await, "{:?}", miner.stats());
    let stats = miner.stats();
    assert!(stats.pools[1].leads && !stats.pools[0].leads);
    shutdown.trigger();
    let stats = miner.finish().await.unwrap();
    assert_conserved(&stats);
    assert_eq!(stats.pools[0].failed, stats.made, "a dead pool gets nothing, and that is counted");
    end.trigger();
}

#[tokio::test]
async fn without_an_address_nothing_starts() {
    let config = Config { pools: vec!["http://127.0.0.1:1".to_owned()], ..Config::default() };
    let error = start(config, Shutdown::new()).await.unwrap_err().to_string();
    assert!(error.contains("payment_address"), "{error}");
}
