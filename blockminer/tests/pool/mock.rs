//! A small HTTP server that plays master, announcement handler and block handler, with recorded
//! announcements and an easy target, and faults on request.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use packetcrypt_blockminer::{Config, Stats};
use packetcrypt_core::block::{
    BlockHeader, CheckScratch, ParentHash, ShareCheck, coinbase, validate_share,
};
use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_jit::force_by_environment;
use packetcrypt_net::Shutdown;
use packetcrypt_proto::anns_index::{AnnFile, AnnsIndex, store_id};
use packetcrypt_proto::share::ShareUpload;
use packetcrypt_proto::work::WorkFile;
use packetcrypt_vectors::{dir, unhex, unhex_array};
use serde_json::{Value, json};

pub(crate) const HEIGHT: u32 = 300_000;
/// Enough for few shares a second at the nonce rate of one busy core.
pub(crate) const SHARE_TARGET: u32 = 0x2000_ffff;
/// For what comes by itself, however busy the machine is.
const DEADLINE: Duration = Duration::from_secs(300);

/// The chain as the pool tells it; all of it changes at one moment.
#[derive(Clone, Copy)]
struct Chain {
    /// Height of the block that is mined.
    next: u32,
    /// The block below it.
    tip: Hash32,
    /// Blocks from this height on are others than the recorded ones.
    forked_from: u32,
}

/// What the pool knows and what came to it.
pub(crate) struct Pool {
    addr: Mutex<Option<SocketAddr>>,
    chain: Mutex<Chain>,
    parents: HashMap<u32, Hash32>,
    pub(crate) announcements: Mutex<Vec<u8>>,
    /// The number in the identity of the handler's store.
    pub(crate) store: Mutex<u8>,
    coinbase: Vec<u8>,
    /// The merkle branch of the work as it was refreshed, the present one last.
    branches: Mutex<Vec<Hash32>>,
    /// Shares accepted for the present one of them.
    pub(crate) accepted_newest: AtomicU64,
    /// Replies to shares, the last one first; then all are judged.
    pub(crate) replies: Mutex<Vec<(StatusCode, &'static str)>>,
    /// How long every share and every range takes.
    pub(crate) delay: Mutex<Duration>,
    /// Requests so far, counted when they come.
    pub(crate) shares_asked: AtomicUsize,
    pub(crate) ranges_asked: AtomicUsize,
    /// Whether shares that come now get no answer, ever.
    pub(crate) shares_hang: AtomicBool,
    /// Whether the announcement handler answers 503 to everything.
    pub(crate) is_down: AtomicBool,
    /// Whether nothing is told of blocks.
    pub(crate) blocks_are_down: AtomicBool,
    pub(crate) accepted: Mutex<Vec<String>>,
    pub(crate) faults: Mutex<Vec<String>>,
}

fn vectors(name: &str) -> Value {
    let bytes = std::fs::read(dir().join("blocks").join(name)).expect("the vectors");
    serde_json::from_slice(&bytes).expect("JSON")
}

impl Pool {
    pub(crate) fn new(announcements: Vec<u8>) -> Arc<Pool> {
        let anns = vectors("anns.json");
        let parents: HashMap<u32, Hash32> = anns["parents"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(height, hash)| {
                (height.parse().unwrap(), Hash32(unhex_array(hash.as_str().unwrap())))
            })
            .collect();
        let share = &vectors("mining.json")["share"];
        let mut coinbase = unhex(share["coinbase"].as_str().unwrap());
        let commit = unhex(share["coinbase_commit"].as_str().unwrap());
        let at = coinbase.windows(48).position(|window| window == commit).unwrap();
        coinbase[at..at + 48].copy_from_slice(&coinbase::PLACEHOLDER[2..]);
        Arc::new(Pool {
            addr: Mutex::default(),
            chain: Mutex::new(Chain { next: HEIGHT, tip: Hash32([7; 32]), forked_from: u32::MAX }),
            parents,
            announcements: Mutex::new(announcements),
            store: Mutex::new(1),
            coinbase,
            branches: Mutex::new(vec![Hash32([3; 32])]),
            accepted_newest: AtomicU64::new(0),
            delay: Mutex::default(),
            shares_asked: AtomicUsize::new(0),
            ranges_asked: AtomicUsize::new(0),
            shares_hang: AtomicBool::new(false),
            is_down: AtomicBool::new(false),
            blocks_are_down: AtomicBool::new(false),
            replies: Mutex::default(),
            accepted: Mutex::default(),
            faults: Mutex::default(),
        })
    }

    pub(crate) async fn serve(self: &Arc<Self>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        *self.addr.lock().unwrap() = Some(addr);
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{addr}")
    }

    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.addr.lock().unwrap().unwrap())
    }

    fn chain(&self) -> Chain {
        *self.chain.lock().unwrap()
    }

    /// The block that is mined is that of this height, on the same tip.
    pub(crate) fn set_height(&self, next: u32) {
        self.chain.lock().unwrap().next = next;
    }

    /// The block of this height is mined, on another tip.
    pub(crate) fn advance(&self, next: u32, tip: Hash32) {
        let mut chain = self.chain.lock().unwrap();
        *chain = Chain { next, tip, ..*chain };
    }

    /// Blocks from this height on are replaced at one moment.
    pub(crate) fn reorganise(&self, forked_from: u32, tip: Hash32) {
        let mut chain = self.chain.lock().unwrap();
        *chain = Chain { tip, forked_from, ..*chain };
    }

    /// The work of the height becomes another one, for which no share is accepted yet.
    pub(crate) fn refresh(&self) {
        let mut branches = self.branches.lock().unwrap();
        let next = Hash32([branches.len() as u8 ^ 0x80; 32]);
        branches.push(next);
        self.accepted_newest.store(0, Ordering::Relaxed);
    }

    fn work(&self, chain: Chain) -> WorkFile {
        let mut header = [0; 80];
        header[4..36].copy_from_slice(&chain.tip.0);
        header[72..76].copy_from_slice(&0x1d00_ffff_u32.to_le_bytes());
        WorkFile {
            header,
            signing_key: Hash32::ZERO,
            share_target: CompactTarget(SHARE_TARGET),
            ann_target: CompactTarget::MAX,
            height: chain.next.cast_signed(),
            coinbase: self.coinbase.clone(),
            merkle_branch: self.branches.lock().unwrap().last().copied().into_iter().collect(),
        }
    }

    fn config(&self) -> String {
        let (base, chain) = (self.base(), self.chain());
        json!({
            "tipHash": chain.tip.display().to_string(),
            "currentHeight": chain.next, "masterUrl": base,
            // No downloadAnnUrls: they follow from where announcements are posted.
            "submitAnnUrls": [format!("{base}/submit")], "downloadAnnUrls": [],
            "submitBlockUrls": [format!("{base}/blk/submit")], "paymakerUrl": "",
            "version": 3, "softVersion": 1, "annVersions": [1], "mineOldAnns": 0,
            "annTarget": 0x207f_ffff, "workHash": self.work(chain).file_hash().display().to_string(),
        })
        .to_string()
    }

    /// The block with this hash, with the recorded hashes where there are some.
    fn blkinfo(&self, hash: &str) -> Option<String> {
        let Chain { next, tip, forked_from } = self.chain();
        let hash_at = |height: u32| {
            if height + 1 == next {
                return tip;
            }
            let made = Hash32([height as u8; 32]);
            if height >= forked_from {
                return Hash32([height as u8 ^ 0xf0; 32]);
            }
            self.parents.get(&height).copied().unwrap_or(made)
        };
        let height = (next - 60..next).find(|at| hash_at(*at).display().to_string() == hash)?;
        let header = json!({
            "hash": hash, "height": height, "version": 1, "versionHex": "00000001",
            "merkleroot": "00".repeat(32), "time": 1, "nonce": 0, "bits": "1d00ffff",
            "difficulty": 1.0, "previousblockhash": hash_at(height - 1).display().to_string(),
        });
        Some(json!({ "header": header, "sigKey": null }).to_string())
    }

    fn index(&self) -> String {
        let bytes = self.announcements.lock().unwrap().len() as u64;
        let file = AnnFile {
            number: 4,
            bytes,
            parent_height_min: 299_995,
            parent_height_max: 299_997,
            complete: false,
        };
        AnnsIndex { store: store_id([*self.store.lock().unwrap(); 16]), files: vec![file] }
            .to_json()
    }

    fn range(&self, headers: &HeaderMap) -> Response {
        let range = headers["range"].to_str().unwrap().strip_prefix("bytes=").unwrap().to_owned();
        let (from, to) = range.split_once('-').unwrap();
        let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
        let announcements = self.announcements.lock().unwrap();
        let Some(bytes) = announcements.get(from..=to) else {
            return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
        };
        let range = format!("bytes {from}-{to}/{}", announcements.len());
        let fields = [("content-range", range)];
        (StatusCode::PARTIAL_CONTENT, fields, bytes.to_vec()).into_response()
    }

    /// Judges a share as a node would.
    fn share(&self, headers: &HeaderMap, body: &[u8]) -> Response {
        if let Some((status, text)) = self.replies.lock().unwrap().pop() {
            return (status, text).into_response();
        }
        if headers["x-pc-payto"] != "test-address" || headers["x-pc-sver"] != "1" {
            self.faults.lock().unwrap().push("headers".to_owned());
        }
        let upload = ShareUpload::parse(body).unwrap();
        let chain = self.chain();
        let work = self.work(chain);
        if upload.previous_hash() != work.previous_hash() {
            let text = "Share is for wrong work, expecting previous hash [a] but got [b]";
            return failed(text);
        }
        let mut coinbase = work.coinbase.clone();
        let commitment = packetcrypt_core::block::Commitment(*upload.commitment());
        let branches = self.branches.lock().unwrap().clone();
        let is_of = |branch: &Hash32| {
            let work = WorkFile { merkle_branch: vec![*branch], ..work.clone() };
            work.merkle_root_with(&commitment) == Ok(upload.merkle_root())
        };
        let branch = branches.iter().rposition(is_of).unwrap_or(0);
        coinbase::put_commitment(&mut coinbase, &commitment).unwrap();
        let mut block = upload.header_and_proof().to_vec();
        block.extend_from_slice(&[0, 0, 0]);
        let check = ShareCheck {
            block: &block,
            coinbase: &coinbase,
            merkle_branch: &branches[branch..=branch],
            height: work.height.cast_unsigned(),
            share_target: work.share_target,
            check_signatures: false,
        };
        let parent_at = |height: u32| {
            if height >= chain.forked_from {
                return ParentHash::Known(Hash32([height as u8 ^ 0xf0; 32]));
            }
            self.parents.get(&height).map_or(ParentHash::Unknown, |hash| ParentHash::Known(*hash))
        };
        if let Err(error) = validate_share(&check, parent_at, &mut CheckScratch::new()) {
            self.faults.lock().unwrap().push(error.to_string());
            return failed("Failed validation of share [x]");
        }
        let id = upload.event_id(&BlockHeader(*upload.header()).0);
        self.accepted.lock().unwrap().push(id);
        // The work may have become another one while the share was judged.
        let branches = self.branches.lock().unwrap();
        self.accepted_newest.fetch_add(u64::from(branch + 1 == branches.len()), Ordering::Relaxed);
        drop(branches);
        let reply = r#"{"result":{"type":"share","block":false},"error":[],"warn":[]}"#;
        (StatusCode::OK, reply).into_response()
    }
}

fn failed(text: &str) -> Response {
    let body = json!({ "result": "", "error": [text], "warn": [] }).to_string();
    (StatusCode::BAD_REQUEST, body).into_response()
}

async fn answer(
    State(pool): State<Arc<Pool>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path();
    let chain = pool.chain();
    if path == "/config.json" {
        return pool.config().into_response();
    }
    if path == format!("/work_{}.bin", chain.next) {
        return pool.work(chain).to_bytes().into_response();
    }
    if path.starts_with("/work_") {
        tokio::time::sleep(Duration::from_millis(500)).await;
        return StatusCode::NOT_FOUND.into_response();
    }
    if let Some(hash) = path.strip_prefix("/blkinfo_").and_then(|p| p.strip_suffix(".json")) {
        let is_down = pool.blocks_are_down.load(Ordering::Relaxed);
        return Some(hash)
            .filter(|_| !is_down)
            .and_then(|hash| pool.blkinfo(hash))
            .map_or(StatusCode::NOT_FOUND.into_response(), |text| text.into_response());
    }
    let delay = *pool.delay.lock().unwrap();
    if path.starts_with("/anns/") && pool.is_down.load(Ordering::Relaxed) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match path {
        "/anns/index.json" => pool.index().into_response(),
        "/anns/anns_4.bin" => {
            pool.ranges_asked.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(delay).await;
            pool.range(&headers)
        }
        "/blk/submit" => {
            pool.shares_asked.fetch_add(1, Ordering::Relaxed);
            if pool.shares_hang.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(delay).await;
            pool.share(&headers, &body)
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Waits until more than `seen` requests came. With a delay the newest is mostly under way then.
pub(crate) async fn until_more(requests: &AtomicUsize, seen: usize) {
    let started = Instant::now();
    while requests.load(Ordering::Relaxed) <= seen {
        assert!(started.elapsed() < DEADLINE, "{seen} requests came, and no more");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub(crate) fn group(name: &str) -> Vec<u8> {
    std::fs::read(dir().join("blocks").join(name)).expect("announcements")
}

pub(crate) fn config(pool_url: String) -> Config {
    force_by_environment(std::env::var).expect("engines of this machine");
    Config {
        pool_url,
        payment_address: "test-address".to_owned(),
        any_address: true,
        threads: 1,
        memory_mib: 4,
        huge_pages: false,
        check_chance: 1.0,
        job_age_min_ms: 200,
        download_poll_ms: 50,
        ..Config::default()
    }
}

pub(crate) async fn wait_for(
    what: &str,
    stats: impl Fn() -> Stats,
    done: impl Fn(&Stats) -> bool,
) -> Stats {
    let started = Instant::now();
    loop {
        let now = stats();
        if done(&now) {
            return now;
        }
        assert!(started.elapsed() < DEADLINE, "{what}: {now:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Stops the miner and checks that every announcement and every share is in one place.
pub(crate) async fn stop(miner: packetcrypt_blockminer::Running, shutdown: Shutdown) -> Stats {
    shutdown.trigger();
    let stats = miner.finish().await.unwrap();
    assert!(stats.shares.is_conserved(), "{:?}", stats.shares);
    assert_eq!(stats.shares.in_flight, 0, "{:?}", stats.shares);
    let arrivals = &stats.announcements;
    let done = arrivals.stored + arrivals.duplicate + arrivals.dropped.values().sum::<u64>();
    assert_eq!(arrivals.received, done + arrivals.queued);
    stats
}
