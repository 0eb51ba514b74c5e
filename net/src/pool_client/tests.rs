//! The client against a small master that does what a test says.

use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::extract::Request as ServerRequest;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_proto::blkinfo::BlockInfoHeader;

use super::*;
use crate::control::{self, ControlLimits};

/// So long that nothing happens by it in a test.
const NEVER_MS: u64 = 3_600_000;
const WAIT: Duration = Duration::from_secs(60);

/// What the master does, and what it was asked.
#[derive(Default)]
struct Script {
    /// Height of the work.
    height: i32,
    /// Polls of the configuration that still show the height before.
    behind: u32,
    /// Requests for blocks that fail.
    failing_blocks: u32,
    /// Which work of the height it is.
    revision: u32,
    /// Whether a long poll for the next height waits.
    holds: bool,
    /// Requests for the configuration, and those of them that a cache may not answer.
    configs: u32,
    fresh_configs: u32,
    blocks: Vec<i32>,
    work_is_fresh: bool,
}

type Master = Arc<Mutex<Script>>;

fn hash_at(height: i32) -> Hash32 {
    let mut bytes = [0x5a; 32];
    bytes[..4].copy_from_slice(&height.to_le_bytes());
    Hash32(bytes)
}

fn config(height: i32) -> MasterConfig {
    MasterConfig {
        tip_hash: hash_at(height - 1),
        current_height: height,
        master_url: String::new(),
        submit_ann_urls: Vec::new(),
        download_ann_urls: Vec::new(),
        submit_block_urls: Vec::new(),
        paymaker_url: String::new(),
        version: 3,
        soft_version: 1,
        ann_versions: vec![1],
        mine_old_anns: 0,
        ann_target: None,
        blkinfo_url: None,
        work_hash: None,
    }
}

fn work(height: i32) -> WorkFile {
    let mut header = [0; 80];
    header[4..36].copy_from_slice(&hash_at(height - 1).0);
    WorkFile {
        header,
        signing_key: Hash32::ZERO,
        share_target: CompactTarget(0x2000_ffff),
        ann_target: CompactTarget::MAX,
        height,
        coinbase: vec![1; 60],
        merkle_branch: Vec::new(),
    }
}

/// The work of a height as it is after so many refreshes.
fn revised(height: i32, revision: u32) -> WorkFile {
    let mut work = work(height);
    work.header[68..72].copy_from_slice(&revision.to_le_bytes());
    work
}

fn block(height: i32) -> BlockInfo {
    let header = BlockInfoHeader {
        hash: hash_at(height),
        height,
        version: 1,
        merkle_root: Hash32::ZERO,
        time: 1,
        nonce: 0,
        bits: CompactTarget(0x1f0f_ffff),
        difficulty: 1.0,
        previous_hash: hash_at(height - 1),
    };
    BlockInfo { header, sig_key: None }
}

async fn answer(master: Master, request: ServerRequest) -> Response {
    let name = request.uri().path().trim_start_matches('/').to_owned();
    let is_fresh = request.headers().get("cache-control").is_some_and(|value| value == "no-cache");
    if name == "config.json" {
        let mut script = master.lock().unwrap();
        script.configs += 1;
        script.fresh_configs += u32::from(is_fresh);
        let shown = script.height - i32::from(script.behind > 0);
        script.behind = script.behind.saturating_sub(1);
        let mut shown = config(shown);
        shown.work_hash =
            (script.revision > 0).then(|| revised(script.height, script.revision).file_hash());
        return shown.to_json().into_response();
    }
    if let Some(hash) = name.strip_prefix("blkinfo_").and_then(|name| name.strip_suffix(".json")) {
        let mut script = master.lock().unwrap();
        if script.failing_blocks > 0 {
            script.failing_blocks -= 1;
            return StatusCode::NOT_FOUND.into_response();
        }
        let found = (0..script.height).find(|at| hash_at(*at).display().to_string() == hash);
        let Some(height) = found else { return StatusCode::NOT_FOUND.into_response() };
        script.blocks.push(height);
        return block(height).to_json().into_response();
    }
    let digits = name.strip_prefix("work_").and_then(|name| name.strip_suffix(".bin"));
    let Some(height) = digits.and_then(|digits| digits.parse().ok()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    loop {
        {
            let mut script = master.lock().unwrap();
            if height <= script.height {
                script.work_is_fresh |= is_fresh;
                return revised(height, script.revision).to_bytes().into_response();
            }
            if !script.holds {
                return StatusCode::NOT_FOUND.into_response();
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Starts a master and a client that polls only when it is woken.
async fn start(script: Script, options: PoolOptions) -> (Master, PoolClient, Shutdown) {
    let master = Arc::new(Mutex::new(script));
    let served = master.clone();
    let router = Router::new().fallback(move |request| answer(served.clone(), request));
    let shutdown = Shutdown::new();
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let limits = ControlLimits::default();
    let server = control::serve(local, router, limits, shutdown.clone()).await.unwrap();
    let url = format!("http://{}/", server.local_addr());
    let client = PoolClient::start(&url, options, &shutdown).unwrap();
    (master, client, shutdown)
}

async fn next(client: &PoolClient) -> PoolUpdate {
    tokio::time::timeout(WAIT, client.next()).await.expect("an update").expect("no shutdown")
}

fn heights(update: &PoolUpdate) -> Vec<i32> {
    update.new_blocks.iter().map(|block| block.header.height).collect()
}

#[tokio::test]
async fn configuration_work_and_blocks_come_together_and_past_any_cache() {
    let options = PoolOptions {
        depth_blocks: 3,
        want_work: true,
        poll_ms: NEVER_MS,
        long_poll: false,
        ..PoolOptions::default()
    };
    let (master, client, shutdown) =
        start(Script { height: 100, ..Default::default() }, options).await;
    let update = next(&client).await;
    assert_eq!((update.config.current_height, heights(&update)), (100, vec![99, 98, 97]));
    assert_eq!(update.work.as_deref(), Some(&work(100)));
    {
        let script = master.lock().unwrap();
        assert_eq!((script.configs, script.fresh_configs, script.work_is_fresh), (1, 1, true));
    }
    // Blocks further down, some with each poll, none twice.
    client.deepen(2);
    client.deepen(43);
    let mut deep = Vec::new();
    while deep.len() < 40 {
        deep.extend(heights(&next(&client).await));
    }
    assert_eq!(deep, (57..97).rev().collect::<Vec<_>>());
    assert_eq!(master.lock().unwrap().blocks.len(), 43);
    assert!(master.lock().unwrap().configs >= 4, "the tip does not wait for old blocks");
    shutdown.trigger();
    assert!(client.next().await.is_none());
}

#[tokio::test]
async fn the_long_poll_brings_new_work_also_when_the_configuration_is_behind() {
    let options = PoolOptions { poll_ms: NEVER_MS, ..PoolOptions::block_miner() };
    let script = Script { height: 100, holds: true, ..Default::default() };
    let (master, client, shutdown) = start(script, options).await;
    assert_eq!(next(&client).await.config.current_height, 100);
    {
        let mut script = master.lock().unwrap();
        (script.height, script.behind) = (101, 5);
    }
    let update = next(&client).await;
    assert_eq!((update.config.current_height, heights(&update)), (101, vec![100]));
    assert_eq!(update.work.as_deref(), Some(&work(101)));
    let status = client.status();
    assert!(status.long_poll_answers >= 1 && status.polls >= 6, "{status:?}");
    assert_eq!((status.failures, status.current_height), (0, 101));
    shutdown.trigger();
}

#[tokio::test]
async fn what_failed_is_tried_again_without_a_change() {
    let options = PoolOptions {
        depth_blocks: 2,
        poll_ms: NEVER_MS,
        retry_ms: 10,
        long_poll: false,
        ..PoolOptions::default()
    };
    let script = Script { height: 100, failing_blocks: 3, ..Default::default() };
    let (_master, client, shutdown) = start(script, options).await;
    let mut blocks = Vec::new();
    while blocks.len() < 2 {
        blocks.extend(heights(&next(&client).await));
    }
    assert_eq!(blocks, [99, 98]);
    assert_eq!(client.status().failures, 3);
    shutdown.trigger();
}

#[tokio::test]
async fn a_refreshed_work_is_taken_again_by_those_who_want_work() {
    let options = PoolOptions { poll_ms: 10, long_poll: false, ..PoolOptions::block_miner() };
    let script = Script { height: 100, revision: 1, ..Default::default() };
    let (master, client, shutdown) = start(script, options).await;
    let other = PoolOptions { want_work: false, ..options };
    let idle = PoolClient::start(&client.status().url, other, &shutdown).unwrap();
    assert_eq!(next(&client).await.work, Some(Arc::new(revised(100, 1))));
    assert_eq!(next(&idle).await.work, None);
    master.lock().unwrap().revision = 2;
    let update = next(&client).await;
    assert_eq!(update.work, Some(Arc::new(revised(100, 2))));
    assert_eq!((update.config.current_height, heights(&update)), (100, vec![]));
    // Polled since, without news.
    let polls = idle.status().polls;
    while idle.status().polls < polls + 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((idle.status().updates, client.status().updates), (1, 2));
    shutdown.trigger();
}
