//! What the vectors do not show: waiting, reorganisations, restarts, a node that is away, bounds.

#[path = "support/node.rs"]
mod node;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use node::{ScriptedNode, previous_of};
use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_master::{Config, Running, StartError, Stats};
use packetcrypt_net::Shutdown;
use packetcrypt_net::client::{ClientOptions, HttpClient, Request, Response};
use packetcrypt_node::BlockHeaderReply;
use packetcrypt_proto::blkinfo::{BlockInfo, BlockInfoHeader};
use packetcrypt_proto::config::MasterConfig;
use packetcrypt_proto::template::BlockTemplate;
use packetcrypt_proto::work::WorkFile;

/// For what comes by itself, however busy the machine is.
const WAIT_MAX: Duration = Duration::from_secs(120);

fn hash(height: i32, branch: u8) -> Hash32 {
    let mut bytes = [branch; 32];
    bytes[..4].copy_from_slice(&height.to_le_bytes());
    Hash32(bytes)
}

/// A template on the block `height - 1` of a branch; `time` tells templates of one parent apart.
fn template(height: i32, branch: u8, time: u32) -> BlockTemplate {
    let mut header = [0; 80];
    header[4..36].copy_from_slice(&hash(height - 1, branch).0);
    header[68..72].copy_from_slice(&time.to_le_bytes());
    header[72..76].copy_from_slice(&0x1d00_ffff_u32.to_le_bytes());
    let mut coinbase = vec![7; 100];
    coinbase.extend([0x6a, 0x30, 0x09, 0xf9, 0x11, 0x02]);
    coinbase.extend([0xfc; 44]);
    BlockTemplate {
        height,
        header,
        coinbase_no_witness: coinbase.clone(),
        merkle_branch: Vec::new(),
        transactions: vec![coinbase],
    }
}

/// A node with the blocks 0 to `tip` of branch 1, of which it tells all headers.
fn node_with_chain(tip: i32) -> ScriptedNode {
    let node = ScriptedNode::default();
    extend(&node, 0..=tip, 1);
    node.script().template = Some(template(tip + 1, 1, 100));
    node
}

fn extend(node: &ScriptedNode, heights: impl Iterator<Item = i32>, branch: u8) {
    for height in heights {
        let header = BlockInfoHeader {
            hash: hash(height, branch),
            height,
            version: 4,
            merkle_root: Hash32::ZERO,
            time: 1,
            nonce: 0,
            bits: CompactTarget(0x00ff_ffff),
            difficulty: 1.0,
            previous_hash: if height == 0 { Hash32::ZERO } else { hash(height - 1, branch) },
        };
        let reply = BlockHeaderReply { header, confirmations: 1, next_hash: None };
        node.script().headers.insert(hash(height, branch), reply);
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    node: ScriptedNode,
    shutdown: Shutdown,
    master: Running,
}

impl Fixture {
    async fn start(node: ScriptedNode) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), node).await
    }

    async fn start_in(dir: tempfile::TempDir, node: ScriptedNode) -> Self {
        Self::start_with(dir, node, |_| {}).await
    }

    async fn start_with(
        dir: tempfile::TempDir,
        node: ScriptedNode,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            metrics_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            dir: dir.path().to_owned(),
            poll_interval_ms: 20,
            // Longer than anything here takes.
            long_poll_ms: 60_000,
            long_polls_max: 2,
            heights_kept: 3,
            blkinfo_depth: 4,
            ..Config::default()
        };
        change(&mut config);
        let shutdown = Shutdown::new();
        let master = packetcrypt_master::start(config, node.clone(), shutdown.clone());
        Self { master: master.await.unwrap(), dir, node, shutdown }
    }

    async fn get(&self, path: &str) -> Response {
        get(self.master.local_addr(), path).await
    }

    async fn until(&self, what: &str, holds: impl Fn(&Stats) -> bool) {
        let deadline = Instant::now() + WAIT_MAX;
        while !holds(&self.master.stats()) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.master.stats());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn works(&self, count: u64) {
        self.until("works", |stats| stats.works == count).await;
    }

    async fn config(&self) -> MasterConfig {
        MasterConfig::parse(&self.get("/config.json").await.body).unwrap()
    }

    async fn work(&self, height: i32) -> WorkFile {
        WorkFile::parse(&self.get(&format!("/work_{height}.bin")).await.body).unwrap()
    }

    async fn stop(self) -> tempfile::TempDir {
        self.shutdown.trigger();
        self.master.join().await.unwrap();
        self.dir
    }
}

fn client() -> HttpClient {
    let request_ms_max = WAIT_MAX.as_millis() as u64;
    HttpClient::new(ClientOptions { request_ms_max, ..ClientOptions::default() }).unwrap()
}

async fn get(addr: SocketAddr, path: &str) -> Response {
    client().send(Request::get(&format!("http://{addr}{path}"))).await.unwrap()
}

#[tokio::test]
async fn a_short_chain_is_enough_and_the_method_does_not_matter() {
    let fixture = Fixture::start(node_with_chain(2)).await;
    fixture.works(1).await;
    assert_eq!(fixture.config().await.current_height, 3);
    let url = format!("http://{}/config.json", fixture.master.local_addr());
    let post = client().send(Request::post(&url, "body")).await.unwrap();
    assert_eq!(post.body, fixture.get("/config.json").await.body);
    // All the way down to the genesis block, bits padded.
    for height in 0..=2 {
        let path = format!("/blkinfo_{}.json", hash(height, 1).display());
        let body = fixture.get(&path).await.body;
        assert!(String::from_utf8_lossy(&body).contains("\"bits\": \"00ffffff\""));
        assert_eq!(BlockInfo::parse(&body).unwrap().header.height, height);
    }
    fixture.stop().await;
}

#[tokio::test]
async fn nothing_is_served_before_the_first_work_and_a_node_that_comes_back_is_found() {
    let node = node_with_chain(10);
    node.script().is_away = true;
    let fixture = Fixture::start(node).await;
    for path in ["/config.json", "/work_11.bin", "/x"] {
        let response = fixture.get(path).await;
        assert_eq!((response.status, &response.body[..]), (500, &b"Server not ready"[..]));
    }
    fixture.until("tried", |stats| stats.node_errors > 0).await;
    fixture.node.script().is_away = false;
    fixture.works(1).await;
    // Away again: the last work stays, and what is not known can not be told.
    fixture.node.script().is_away = true;
    let before = fixture.master.stats().node_errors;
    fixture.until("away", |stats| stats.node_errors > before).await;
    assert_eq!(fixture.work(11).await.height, 11);
    let path = format!("/blkinfo_{}.json", hash(1, 1).display());
    assert_eq!(fixture.get(&path).await.status, 503);
    fixture.node.script().template = Some(template(12, 1, 100));
    extend(&fixture.node, 11..=11, 1);
    fixture.node.script().is_away = false;
    fixture.works(2).await;
    assert_eq!(fixture.config().await.tip_hash, hash(11, 1));
    fixture.stop().await;
}

#[tokio::test]
async fn a_long_poll_ends_with_300_when_nothing_happens() {
    let short = |config: &mut Config| config.long_poll_ms = 400;
    let fixture =
        Fixture::start_with(tempfile::tempdir().unwrap(), node_with_chain(10), short).await;
    fixture.works(1).await;
    let start = Instant::now();
    let response = fixture.get("/work_12.bin").await;
    assert!(start.elapsed() >= Duration::from_millis(400));
    assert_eq!((response.status, response.body.len()), (300, 0));
    assert_eq!(response.headers["x-pc-longpoll"], "try-again");
    assert_eq!(response.headers["cache-control"], "no-store");
    fixture.stop().await;
}

#[tokio::test]
async fn long_polls_are_bounded() {
    let fixture = Fixture::start(node_with_chain(10)).await;
    fixture.works(1).await;
    // Two may wait; the third is told to ask again, and not so soon that it makes a circle.
    let addr = fixture.master.local_addr();
    let waiting: Vec<_> =
        (0..2).map(|_| tokio::spawn(async move { get(addr, "/work_12.bin").await })).collect();
    fixture.until("waiting", |stats| stats.long_polls == 2).await;
    let start = Instant::now();
    assert_eq!(fixture.get("/work_12.bin").await.status, 300);
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(fixture.master.stats().long_polls_refused, 1);
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
    extend(&fixture.node, 11..=11, 1);
    fixture.node.script().template = Some(template(12, 1, 100));
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().status, 200);
    }
    fixture.stop().await;
}

#[tokio::test]
async fn a_reorganisation_at_the_same_height_gives_new_work_at_once() {
    let fixture = Fixture::start(node_with_chain(10)).await;
    fixture.works(1).await;
    let first = fixture.work(11).await;
    let addr = fixture.master.local_addr();
    let waiting = tokio::spawn(async move { get(addr, "/work_12.bin").await });
    fixture.until("waiting", |stats| stats.long_polls == 1).await;
    extend(&fixture.node, 10..=10, 2);
    fixture.node.script().template = Some(template(11, 2, 200));
    fixture.works(2).await;
    // Who waits is woken.
    assert_eq!(waiting.await.unwrap().status, 300);
    assert_eq!(fixture.config().await.tip_hash, hash(10, 2));
    assert_eq!(fixture.work(11).await.previous_hash(), hash(10, 2));
    assert_eq!(fixture.get("/bt_11.bin").await.headers["cache-control"], "no-store");
    assert_eq!(fixture.master.stats().reorganisations, 1);
    // And back, with another template for the first parent: its first one stays in use.
    fixture.node.script().template = Some(template(11, 1, 300));
    fixture.works(3).await;
    assert_eq!(fixture.work(11).await, first);
    fixture.stop().await;
}

#[tokio::test]
async fn a_height_that_lasts_has_its_template_taken_anew() {
    let refresh = |config: &mut Config| config.template_refresh_ms = 100;
    let fixture =
        Fixture::start_with(tempfile::tempdir().unwrap(), node_with_chain(10), refresh).await;
    fixture.works(1).await;
    let first = fixture.work(11).await;
    assert_eq!(fixture.config().await.work_hash, Some(first.file_hash()));
    let cached = fixture.get("/work_11.bin").await.headers["cache-control"].clone();
    assert_eq!(cached, fixture.get("/config.json").await.headers["cache-control"]);
    // The node learns whom to pay; whoever waits for news is told.
    let addr = fixture.master.local_addr();
    let waiting = tokio::spawn(async move { get(addr, "/work_12.bin").await });
    fixture.until("waiting", |stats| stats.long_polls == 1).await;
    let mut other = template(11, 1, 130);
    other.coinbase_no_witness[0] = 8;
    other.transactions[0][0] = 8;
    fixture.node.script().template = Some(other.clone());
    fixture.until("a refresh", |stats| stats.refreshes == 1).await;
    assert_eq!(waiting.await.unwrap().status, 300);
    let second = fixture.work(11).await;
    assert_eq!((second.header, second.coinbase[0]), (other.header, 8));
    assert_eq!(fixture.config().await.work_hash, Some(second.file_hash()));
    let served = BlockTemplate::parse(&fixture.get("/bt_11.bin").await.body).unwrap();
    assert_eq!(served, other);
    // A template that did not change is no news; a node that is away changes nothing.
    fixture.node.script().is_away = true;
    fixture.until("away", |stats| stats.node_errors > 0).await;
    fixture.node.script().is_away = false;
    let asked = fixture.node.calls("getrawblocktemplate");
    while fixture.node.calls("getrawblocktemplate") < asked + 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stats = fixture.master.stats();
    assert_eq!((stats.works, stats.refreshes, stats.reorganisations), (1, 1, 0));
    // The last one of the height is what a restart finds.
    let node = fixture.node.clone();
    let dir = fixture.stop().await;
    let fixture = Fixture::start_in(dir, node).await;
    fixture.works(1).await;
    assert_eq!(fixture.work(11).await, second);
    // And the next block is a new work.
    extend(&fixture.node, 11..=11, 1);
    fixture.node.script().template = Some(template(12, 1, 160));
    fixture.works(2).await;
    assert_eq!(fixture.work(12).await.height, 12);
    fixture.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_the_first_template_and_old_files_go() {
    let fixture = Fixture::start(node_with_chain(10)).await;
    fixture.works(1).await;
    let first = fixture.work(11).await;
    let node = fixture.node.clone();
    let dir = fixture.stop().await;
    node.script().template = Some(template(11, 1, 999));
    let fixture = Fixture::start_in(dir, node).await;
    fixture.works(1).await;
    assert_eq!(fixture.work(11).await, first);
    for height in 12..=15 {
        extend(&fixture.node, height - 1..=height - 1, 1);
        fixture.node.script().template = Some(template(height, 1, 100));
        fixture.works(1 + (height - 11) as u64).await;
    }
    let statuses = |path: &'static str| {
        let fixture = &fixture;
        async move { fixture.get(path).await.status }
    };
    assert_eq!(statuses("/work_12.bin").await, 404);
    assert_eq!(statuses("/bt_12.bin").await, 404);
    assert_eq!(statuses("/work_13.bin").await, 200);
    assert_eq!(statuses("/bt_13.bin").await, 200);
    assert_eq!(std::fs::read_dir(fixture.dir.path()).unwrap().count(), 6);
    fixture.stop().await;
}

#[tokio::test]
async fn two_blocks_at_once_do_not_leave_a_client_waiting() {
    let fixture = Fixture::start(node_with_chain(10)).await;
    fixture.works(1).await;
    let addr = fixture.master.local_addr();
    let waiting = tokio::spawn(async move { get(addr, "/work_12.bin").await });
    fixture.until("waiting", |stats| stats.long_polls == 1).await;
    extend(&fixture.node, 11..=12, 1);
    fixture.node.script().template = Some(template(13, 1, 100));
    assert_eq!(waiting.await.unwrap().status, 404);
    fixture.stop().await;
}

#[tokio::test]
async fn a_template_that_lags_behind_does_not_make_a_tight_loop() {
    let fixture = Fixture::start(node_with_chain(10)).await;
    fixture.works(1).await;
    fixture.node.script().best = Some(hash(11, 1));
    let (before, since) = (fixture.node.calls("getrawblocktemplate"), Instant::now());
    let calls = || fixture.node.calls("getrawblocktemplate") - before;
    while calls() < 5 {
        assert!(since.elapsed() < WAIT_MAX, "{} templates", calls());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (calls, ms) = (calls() as u128, since.elapsed().as_millis());
    assert!(calls <= 2 + ms / 20, "{calls} templates in {ms} ms at an interval of 20 ms");
    fixture.stop().await;
}

#[tokio::test]
async fn block_information_is_fetched_when_it_is_wanted_and_once() {
    let fixture = Fixture::start(node_with_chain(100)).await;
    fixture.works(1).await;
    assert_eq!(fixture.node.calls("getblockheader"), 4);
    let old = format!("/blkinfo_{}.json", hash(5, 1).display());
    let unknown = format!("/blkinfo_{}.json", hash(5, 9).display());
    for _ in 0..3 {
        assert_eq!(fixture.get(&old).await.status, 200);
        assert_eq!(fixture.get(&unknown).await.status, 404);
    }
    assert_eq!(fixture.node.calls("getblockheader"), 6);
    assert_eq!(fixture.master.stats().lookups, 2);
    fixture.stop().await;
}

#[tokio::test]
async fn templates_that_nobody_can_mine_are_not_published() {
    let node = node_with_chain(10);
    let mut bad = template(11, 1, 100);
    bad.coinbase_no_witness[120] = 0;
    node.script().template = Some(bad);
    let fixture = Fixture::start(node).await;
    fixture.until("refused", |stats| stats.templates_refused > 0).await;
    let mut bad = template(11, 1, 100);
    bad.header[72..76].fill(0xff);
    fixture.node.script().template = Some(bad);
    fixture.until("refused", |stats| stats.templates_refused > 1).await;
    assert_eq!(fixture.get("/config.json").await.status, 500);
    fixture.node.script().template = Some(template(11, 1, 100));
    fixture.works(1).await;
    assert_eq!(previous_of(&template(11, 1, 100)), fixture.config().await.tip_hash);
    fixture.stop().await;
}

#[tokio::test]
async fn statistics_are_served_and_errors_of_the_start_are_told() {
    let fixture = Fixture::start(node_with_chain(10)).await;
    fixture.works(1).await;
    let addr = fixture.master.metrics_addr().unwrap();
    let metrics = get(addr, "/metrics").await.body;
    assert!(String::from_utf8_lossy(&metrics).contains("packetcrypt_master_works_total 1"));
    let stats: serde_json::Value =
        serde_json::from_slice(&get(addr, "/stats.json").await.body).unwrap();
    assert_eq!(stats["work_height"], 11);
    let taken = Config {
        listen: fixture.master.local_addr(),
        dir: fixture.dir.path().join("second"),
        ..Config::default()
    };
    let error = packetcrypt_master::start(taken, node_with_chain(1), Shutdown::new()).await;
    assert!(matches!(error.unwrap_err(), StartError::Listen(_)));
    let wrong = Config { ann_versions: Vec::new(), ..Config::default() };
    let error = packetcrypt_master::start(wrong, node_with_chain(1), Shutdown::new()).await;
    assert!(error.unwrap_err().to_string().starts_with("ann_versions = []"));
    fixture.stop().await;
}
