//! A small master and a handler that follows it, over real sockets.

// Each test file uses its own part of this.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use packetcrypt_handler::{Config, Running, start};
use packetcrypt_jit::force_by_environment;
use packetcrypt_net::Shutdown;
use packetcrypt_net::control::{self, ControlLimits};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The name under which the handler stands in the pool's list; nobody connects to it.
pub(crate) const PUBLIC_URL: &str = "http://handler.invalid/submit";
/// A valid address.
pub(crate) const PAY_TO: &str = "pkt1q6hqsqhqdgqfd8t3xwgceulu7k9d9w5t2amath0qxyfjlvl3s3u4sjza2g2";

/// Names the engine that the tests of a child process must run on.
pub(crate) const ENGINE_VARIABLE: &str = "PACKETCRYPT_TEST_ENGINE";

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// What the master serves.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    /// Display hash and height of each block, newest first.
    pub(crate) blocks: Vec<(String, i64)>,
    /// `submitAnnUrls`.
    pub(crate) handlers: Vec<String>,
}

/// A master on loopback.
pub(crate) struct Master {
    pub(crate) chain: Arc<Mutex<Chain>>,
    pub(crate) url: String,
    shutdown: Shutdown,
}

impl Chain {
    /// Eight blocks up to this one; the hashes below it are made up.
    pub(crate) fn to(hash: &str, height: i64) -> Self {
        let below = (1..8).map(|depth| (format!("{depth:02x}").repeat(32), height - depth));
        let blocks = std::iter::once((hash.to_owned(), height)).chain(below).collect();
        Self { blocks, handlers: vec![PUBLIC_URL.to_owned()] }
    }

    fn config(&self) -> Value {
        json!({
            "tipHash": self.blocks[0].0, "currentHeight": self.blocks[0].1 + 1, "masterUrl": "",
            "submitAnnUrls": self.handlers, "downloadAnnUrls": [], "submitBlockUrls": [],
            "paymakerUrl": "", "version": 3, "softVersion": 1, "annVersions": [1],
            "mineOldAnns": 0, "annTarget": 0x207f_ffff,
        })
    }

    fn blkinfo(&self, hash: &str) -> Option<Value> {
        let at = self.blocks.iter().position(|(of, _)| of == hash)?;
        let zero = "00".repeat(32);
        let previous = self.blocks.get(at + 1).map_or(zero.clone(), |(hash, _)| hash.clone());
        Some(json!({"header": {
            "hash": hash, "height": self.blocks[at].1, "version": 1, "versionHex": "00000001",
            "merkleroot": zero, "time": 1, "nonce": 1, "bits": "1d00ffff", "difficulty": 1.0,
            "previousblockhash": previous,
        }, "sigKey": null}))
    }
}

impl Master {
    pub(crate) async fn start(chain: Chain) -> Self {
        let chain = Arc::new(Mutex::new(chain));
        let router = Router::new().route("/{name}", get(serve)).with_state(Arc::clone(&chain));
        let shutdown = Shutdown::new();
        let limits = ControlLimits::default();
        let server = control::serve(LOCAL, router, limits, shutdown.clone()).await.unwrap();
        Self { chain, url: format!("http://{}", server.local_addr()), shutdown }
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

/// The long poll for work that is not there yet: answered when anything changed.
async fn long_poll(chain: &Mutex<Chain>) -> Response {
    let config = || chain.lock().unwrap().config();
    let before = config();
    for _ in 0..1000 {
        if config() != before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    StatusCode::MULTIPLE_CHOICES.into_response()
}

async fn serve(State(chain): State<Arc<Mutex<Chain>>>, UrlPath(name): UrlPath<String>) -> Response {
    if name.starts_with("work_") {
        return long_poll(&chain).await;
    }
    let chain = chain.lock().unwrap();
    let found = match name.strip_prefix("blkinfo_").and_then(|name| name.strip_suffix(".json")) {
        Some(hash) => chain.blkinfo(hash),
        None => (name == "config.json").then(|| chain.config()),
    };
    match found {
        Some(json) => json.to_string().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A handler that runs, with its own signal.
pub(crate) struct Handler {
    pub(crate) running: Running,
    pub(crate) addr: SocketAddr,
    shutdown: Shutdown,
}

/// A small configuration in `dir`.
pub(crate) fn config(master: &Master, dir: &Path) -> Config {
    Config { master_url: master.url.clone(), ..config_in(dir) }
}

/// The same without the master.
pub(crate) fn config_in(dir: &Path) -> Config {
    force_by_environment(std::env::var).expect("engines of this machine");
    Config {
        root_workdir: dir.to_owned(),
        public_url: PUBLIC_URL.to_owned(),
        bind_pub: LOCAL,
        num_workers: 2,
        io_threads: 2,
        file_anns: 4096,
        files_to_keep: 4,
        dedup_capacity: 1 << 16,
        ..Config::default()
    }
}

impl Handler {
    /// Starts it and waits until it knows the tip.
    pub(crate) async fn start(config: Config, tip: i64) -> Self {
        let shutdown = Shutdown::new();
        let running = start(config, shutdown.clone()).await.unwrap();
        if let Ok(engine) = std::env::var(ENGINE_VARIABLE) {
            assert_eq!(running.engine(), engine);
        }
        let addr = running.local_addr();
        let handler = Self { running, addr, shutdown };
        let knows_tip = |handler: &Self| {
            handler.running.stats().parents.first().map(|parent| i64::from(parent.height))
                == Some(tip)
        };
        for _ in 0..6000 {
            if knows_tip(&handler) {
                return handler;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the handler did not follow the master: {:?}", handler.running.stats());
    }

    /// Ends it in the usual way.
    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        self.running.join().await.unwrap();
    }

    /// Posts a body with the usual headers.
    pub(crate) async fn post(&self, sver: u32, worknum: i64, body: &[u8]) -> (u16, String) {
        let head = post_head(sver, worknum, PAY_TO);
        let head = format!("{head}content-length: {}\r\n\r\n", body.len());
        self.exchange(&[head.as_bytes(), body].concat()).await
    }

    /// As `post`, in chunks of these lengths, over and over.
    pub(crate) async fn post_chunked(
        &self,
        worknum: i64,
        body: &[u8],
        lens: &[usize],
    ) -> (u16, String) {
        let head = post_head(1, worknum, PAY_TO);
        let mut request = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
        let mut rest = body;
        for len in lens.iter().cycle() {
            let (chunk, next) = rest.split_at(rest.len().min(*len));
            request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            request.extend_from_slice(chunk);
            request.extend_from_slice(b"\r\n");
            rest = next;
            if chunk.is_empty() {
                break;
            }
        }
        self.exchange(&request).await
    }

    /// Sends bytes, which end the connection, and returns status and body of the reply.
    pub(crate) async fn exchange(&self, request: &[u8]) -> (u16, String) {
        let (head, body) = self.exchange_bytes(request).await;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, String::from_utf8(body).unwrap())
    }

    /// As `exchange`: head and body as they came.
    pub(crate) async fn exchange_bytes(&self, request: &[u8]) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        // A refusal can come before the end of the request.
        let _ = stream.write_all(request).await;
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply).await;
        let end = reply.windows(4).position(|w| w == b"\r\n\r\n").map_or(reply.len(), |at| at + 4);
        let body = reply.split_off(end);
        (String::from_utf8(reply).unwrap(), body)
    }

    /// GET with more header lines.
    pub(crate) async fn get(&self, target: &str, fields: &str) -> (String, Vec<u8>) {
        let request =
            format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{fields}\r\n");
        self.exchange_bytes(request.as_bytes()).await
    }
}

/// The head of a post without its end.
pub(crate) fn post_head(sver: u32, worknum: i64, pay_to: &str) -> String {
    format!(
        "POST /submit HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-pc-sver: {sver}\r\n\
         x-pc-annver: 1\r\nx-pc-worknum: {worknum}\r\nx-pc-payto: {pay_to}\r\n"
    )
}

/// `accepted` and `dup` of a reply 200.
pub(crate) fn counts(reply: &(u16, String)) -> (u64, u64) {
    assert_eq!(reply.0, 200, "{}", reply.1);
    let json: Value = serde_json::from_str(&reply.1).unwrap();
    let count = |key: &str| json["result"][key].as_u64().unwrap();
    (count("accepted"), count("dup"))
}

/// The text of `error[0]`.
pub(crate) fn error(reply: &(u16, String)) -> String {
    let json: Value = serde_json::from_str(&reply.1).unwrap_or_else(|e| panic!("{e}: {reply:?}"));
    assert!(json["result"].is_null());
    json["error"][0].as_str().unwrap().to_owned()
}

/// All lines of the pay log below a work directory.
pub(crate) fn logged(dir: &Path) -> Vec<Value> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(dir.join("ah/paylogdir")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        lines.extend(text.lines().map(|line| serde_json::from_str(line).unwrap()));
    }
    lines
}
