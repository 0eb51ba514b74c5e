//! What surrounds a block handler under test: a node and a master that do what a test says, and the
//! handler between them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request as ServerRequest;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use packetcrypt_blkhandler::{Config, RunError, Running, Secret, Stats};
use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_net::control::{self, ControlLimits, ControlServer};
use packetcrypt_net::{Shutdown, TestClock};
use packetcrypt_node::{
    BlockHeaderReply, BlockReply, Node, NodeError, NodeInfo, RpcError, ShareToCheck, ShareVerdict,
    SubmitVerdict,
};
use packetcrypt_proto::ANNOUNCEMENT_BYTES;
use packetcrypt_proto::config::MasterConfig;
use packetcrypt_proto::template::BlockTemplate;
use packetcrypt_proto::work::WorkFile;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// For what comes by itself, however busy the machine is.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(120);

/// The time of every event, ms.
pub(crate) const NOW_MS: u64 = 1_795_353_484_280;

/// A call that the handler made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    CheckShare(ShareToCheck),
    SubmitBlock(Vec<u8>),
    Block(Hash32),
    BlockHash(i32),
}

/// A node that does what a test says. Clones share the script.
#[derive(Clone, Default)]
pub(crate) struct ScriptedNode(Arc<Mutex<Script>>);

pub(crate) struct Script {
    pub(crate) share: Result<ShareVerdict, NodeError>,
    pub(crate) submit: Result<SubmitVerdict, NodeError>,
    pub(crate) hashes: HashMap<i32, Hash32>,
    /// Time that a check of a share takes.
    pub(crate) check_time: Duration,
    /// Whether submissions get no answer for now.
    pub(crate) holds_submissions: bool,
    pub(crate) calls: Vec<Call>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            share: Ok(ShareVerdict::Ok),
            submit: Ok(SubmitVerdict::Accepted),
            hashes: HashMap::new(),
            check_time: Duration::ZERO,
            holds_submissions: false,
            calls: Vec::new(),
        }
    }
}

impl ScriptedNode {
    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    /// The calls about shares, in their order.
    pub(crate) fn share_calls(&self) -> Vec<Call> {
        let is_about_shares =
            |call: &&Call| matches!(call, Call::CheckShare(_) | Call::SubmitBlock(_));
        self.script().calls.iter().filter(is_about_shares).cloned().collect()
    }
}

pub(crate) fn away(method: &str) -> NodeError {
    NodeError::Unreachable { method: method.to_owned(), cause: "connection refused".to_owned() }
}

pub(crate) fn refused(code: i64, text: &str) -> NodeError {
    let error = RpcError { code: Some(code), message: text.to_owned() };
    NodeError::Rpc { method: "scripted".to_owned(), error }
}

impl Node for ScriptedNode {
    async fn raw_block_template(&self) -> Result<BlockTemplate, NodeError> {
        panic!("a block handler asks the master for templates")
    }

    async fn best_block_hash(&self) -> Result<Hash32, NodeError> {
        panic!("a block handler asks the master for the tip")
    }

    async fn block_header(&self, _: &Hash32) -> Result<BlockHeaderReply, NodeError> {
        panic!("a block handler asks for no headers")
    }

    async fn block(&self, hash: &Hash32) -> Result<BlockReply, NodeError> {
        self.script().calls.push(Call::Block(*hash));
        Ok(BlockReply {
            hash: *hash,
            height: 77,
            difficulty: 1_048_591.000_228_89,
            confirmations: 1,
            transaction_ids: Vec::new(),
            ann_count: None,
            ann_target: None,
        })
    }

    async fn block_hash(&self, height: i32) -> Result<Hash32, NodeError> {
        let mut script = self.script();
        script.calls.push(Call::BlockHash(height));
        script.hashes.get(&height).copied().ok_or_else(|| refused(-8, "Block number out of range"))
    }

    async fn check_share(&self, share: &ShareToCheck) -> Result<ShareVerdict, NodeError> {
        let (verdict, time) = {
            let mut script = self.script();
            script.calls.push(Call::CheckShare(share.clone()));
            (script.share.clone(), script.check_time)
        };
        tokio::time::sleep(time).await;
        verdict
    }

    async fn submit_block(&self, block: &[u8]) -> Result<SubmitVerdict, NodeError> {
        let verdict = {
            let mut script = self.script();
            script.calls.push(Call::SubmitBlock(block.to_vec()));
            script.submit.clone()
        };
        while self.script().holds_submissions {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        verdict
    }

    async fn configure_mining_payouts(&self, _: &[(String, f64)]) -> Result<(), NodeError> {
        panic!("a block handler pays nobody")
    }

    async fn mining_payouts(&self) -> Result<Vec<(String, f64)>, NodeError> {
        panic!("a block handler pays nobody")
    }

    async fn info(&self) -> Result<NodeInfo, NodeError> {
        panic!("a block handler does not ask for the state of the node")
    }

    async fn check_ann(
        &self,
        _: &[u8; ANNOUNCEMENT_BYTES],
        _: u32,
        _: Option<&Hash32>,
    ) -> Result<Hash32, NodeError> {
        panic!("a block handler checks no announcements alone")
    }
}

/// The files a master serves, by name.
type Files = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// A handler with its surroundings.
pub(crate) struct Pool {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) node: ScriptedNode,
    pub(crate) handler: Running,
    pub(crate) addr: SocketAddr,
    files: Files,
    master: ControlServer,
    shutdown: Shutdown,
}

/// A handler's URL as the scripted master lists it.
const PUBLIC_URL: &str = "http://127.0.0.1:9";

impl Pool {
    pub(crate) async fn start(node: ScriptedNode, change: impl FnOnce(&mut Config)) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), node, change).await
    }

    pub(crate) async fn start_in(
        dir: tempfile::TempDir,
        node: ScriptedNode,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let shutdown = Shutdown::new();
        let files = Files::default();
        let served = files.clone();
        let answer = move |request: ServerRequest| {
            let name = request.uri().path().trim_start_matches('/').to_owned();
            let file = served.lock().unwrap().get(&name).cloned();
            async move {
                file.map_or_else(
                    || StatusCode::NOT_FOUND.into_response(),
                    IntoResponse::into_response,
                )
            }
        };
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let router = Router::new().fallback(answer);
        let limits = ControlLimits::default();
        let master = control::serve(loopback, router, limits, shutdown.clone()).await.unwrap();
        let mut config = Config {
            listen: loopback,
            public_url: PUBLIC_URL.to_owned(),
            master_url: format!("http://{}", master.local_addr()),
            dir: dir.path().to_owned(),
            paymaker_http_password: Secret::new("x"),
            poll_interval_ms: 50,
            own_check: false,
            ..Config::default()
        };
        change(&mut config);
        let clock = Arc::new(TestClock::new(NOW_MS));
        let handler =
            packetcrypt_blkhandler::start_with_clock(config, node.clone(), clock, shutdown.clone());
        let handler = handler.await.unwrap();
        let addr = handler.local_addr();
        Self { dir, node, handler, addr, files, master, shutdown }
    }

    /// Publishes a work as a master does, without waiting for the handler.
    pub(crate) fn publish(&self, work: &[u8], template: &[u8]) {
        let file = WorkFile::parse(work).unwrap();
        let mut files = self.files.lock().unwrap();
        files.insert(format!("work_{}.bin", file.height), work.to_vec());
        files.insert(format!("bt_{}.bin", file.height), template.to_vec());
        drop(files);
        self.publish_config(&file, &[&format!("{PUBLIC_URL}/submit")]);
    }

    /// Publishes a configuration whose work may not be there.
    pub(crate) fn publish_config(&self, work: &WorkFile, submit_block_urls: &[&str]) {
        let config = MasterConfig {
            tip_hash: work.previous_hash(),
            current_height: work.height,
            master_url: String::new(),
            submit_ann_urls: Vec::new(),
            download_ann_urls: Vec::new(),
            submit_block_urls: submit_block_urls.iter().map(|url| (*url).to_owned()).collect(),
            paymaker_url: String::new(),
            version: 3,
            soft_version: 1,
            ann_versions: vec![1],
            mine_old_anns: 2,
            ann_target: Some(CompactTarget(0x2002_0000)),
            blkinfo_url: None,
            work_hash: Some(work.file_hash()),
        };
        let mut files = self.files.lock().unwrap();
        files.insert("config.json".to_owned(), config.to_json().into_bytes());
    }

    /// Publishes a work and waits until the handler has it.
    pub(crate) async fn advance(&self, work: &[u8], template: &[u8]) {
        self.publish(work, template);
        let height = WorkFile::parse(work).unwrap().height;
        self.until("work", |stats| stats.work_height == height).await;
    }

    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Stats) -> bool) {
        let deadline = Instant::now() + WAIT_MAX;
        while !holds(&self.handler.stats()) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.handler.stats());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        send(self.addr, method, path, headers, body).await
    }

    /// Posts a share with valid headers.
    pub(crate) async fn share(&self, body: &str) -> Answer {
        self.send("POST", "/submit", SHARE_HEADERS, body.as_bytes()).await
    }

    /// The lines of all pay logs, in the order of the files.
    pub(crate) fn pay_log(&self) -> Vec<String> {
        pay_log(self.dir.path().join("paylogdir"))
    }

    pub(crate) async fn stop(self) -> (tempfile::TempDir, Result<(), RunError>) {
        self.shutdown.trigger();
        let outcome = self.handler.join().await;
        self.master.join().await;
        (self.dir, outcome)
    }
}

/// The headers of a well-behaved miner.
pub(crate) const SHARE_HEADERS: &[(&str, &str)] =
    &[("x-pc-payto", "pDSxcZunaUSUSxHrL6r8zpGJvoEropJ3Es"), ("x-pc-sver", "1")];

fn pay_log(dir: PathBuf) -> Vec<String> {
    let number = |path: &PathBuf| -> u64 {
        let name = path.file_stem().unwrap().to_str().unwrap();
        name.strip_prefix("paylog_").unwrap().parse().unwrap()
    };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort_by_key(number);
    let lines = files.iter().flat_map(|path| {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    lines.collect()
}

/// A reply as the handler wrote it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) has_content_type: bool,
    pub(crate) body: String,
}

/// A request over a connection of its own.
pub(crate) async fn send(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    read_answer(stream).await
}

pub(crate) async fn read_answer(mut stream: TcpStream) -> Answer {
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.unwrap();
    let reply = String::from_utf8(reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {reply}"));
    Answer {
        status: head[9..12].parse().unwrap(),
        has_content_type: head.to_lowercase().contains("content-type:"),
        body: body.to_owned(),
    }
}
