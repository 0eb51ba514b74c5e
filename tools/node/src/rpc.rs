//! The JSON-RPC client (spec 06, 1.1).

mod config;
mod envelope;

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use packetcrypt_core::bytes::Hash32;
use packetcrypt_proto::fields::{self, MessageError};
use packetcrypt_proto::template::BlockTemplate;
use packetcrypt_proto::{ANNOUNCEMENT_BYTES, json};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use url::Url;

pub use config::RpcConfig;
use config::{hidden, parse_url};
use envelope::{not_understood, reply_of, request, result_of};

use crate::error::NodeError;
use crate::replies::{self, BlockHeaderReply, BlockReply, NodeInfo, ShareVerdict, SubmitVerdict};
use crate::{Node, ShareToCheck};

/// The `id` of our requests; the node only echoes it.
const REQUEST_ID: &str = "packetcrypt";
/// Hands a block over.
const SUBMIT_BLOCK: &str = "submitblock";
/// Calls that a node answers from memory, and the longest time for one: a node that hangs must be
/// noticed soon, and a master that follows it must be back soon after it.
const QUICK_CALLS: [&str; 5] =
    ["getbestblockhash", "getblockhash", "getblockheader", "getinfo", "getminingpayouts"];
const QUICK_MS_MAX: u64 = 10_000;
/// How long another node is in use before the first one is tried again.
const GO_BACK_AFTER: Duration = Duration::from_secs(60);

/// Counters of a client. `calls` = succeeded + `refused` + `failed` + in progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RpcStats {
    /// Calls begun.
    pub calls: u64,
    /// Calls that the node answered with an error of its own.
    pub refused: u64,
    /// Calls that failed otherwise.
    pub failed: u64,
    /// Times that another node was taken because there was no connection.
    pub failovers: u64,
}

/// The client of one or more chain nodes.
pub struct RpcNode {
    http: reqwest::Client,
    urls: Vec<Url>,
    user: String,
    password: String,
    calls: Semaphore,
    /// A place for blocks alone: one that waits for others to be checked may come too late.
    block_calls: Semaphore,
    call_ms_max: u64,
    reply_bytes_max: usize,
    /// Index of the node in use.
    current: AtomicUsize,
    /// When it was taken.
    since: Mutex<Instant>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    calls: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    failovers: AtomicU64,
}

impl fmt::Debug for RpcNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<&str> = self.urls.iter().map(Url::as_str).collect();
        f.debug_struct("RpcNode").field("urls", &urls).finish_non_exhaustive()
    }
}

impl RpcNode {
    /// A client. It connects with the first call.
    ///
    /// # Errors
    /// [`NodeError::Config`] with the key that makes no sense.
    pub fn new(config: &RpcConfig) -> Result<Self, NodeError> {
        let refuse = |key, rule: String| NodeError::Config { key, rule };
        if config.urls.is_empty() {
            return Err(refuse("url", "at least one node is needed".to_owned()));
        }
        if config.calls_max == 0 || config.calls_max > Semaphore::MAX_PERMITS {
            return Err(refuse(
                "calls_max",
                format!("{} is not a number from 1", config.calls_max),
            ));
        }
        let urls = config.urls.iter().map(|text| parse_url(text)).collect::<Result<Vec<_>, _>>()?;
        let http = reqwest::Client::builder()
            .user_agent(packetcrypt_proto::USER_AGENT)
            .connect_timeout(Duration::from_millis(config.connect_ms_max))
            // The node closes after each reply: a kept connection would only look like a failure.
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|e| refuse("url", e.to_string()))?;
        Ok(Self {
            http,
            urls,
            user: config.user.clone(),
            password: config.password.clone(),
            calls: Semaphore::new(config.calls_max),
            block_calls: Semaphore::new(1),
            call_ms_max: config.call_ms_max,
            reply_bytes_max: config.reply_bytes_max,
            current: AtomicUsize::new(0),
            since: Mutex::new(Instant::now()),
            counters: Counters::default(),
        })
    }

    /// A client for each of the nodes alone, in their order: for what every node must be told.
    ///
    /// # Errors
    /// As [`RpcNode::new`].
    pub fn for_each(config: &RpcConfig) -> Result<Vec<Self>, NodeError> {
        let alone =
            |url: &String| Self::new(&RpcConfig { urls: vec![url.clone()], ..config.clone() });
        Self::new(config)?;
        config.urls.iter().map(alone).collect()
    }

    /// A snapshot of the counters.
    #[must_use]
    pub fn stats(&self) -> RpcStats {
        let Counters { calls, refused, failed, failovers } = &self.counters;
        RpcStats {
            calls: calls.load(Ordering::Relaxed),
            refused: refused.load(Ordering::Relaxed),
            failed: failed.load(Ordering::Relaxed),
            failovers: failovers.load(Ordering::Relaxed),
        }
    }

    /// Calls any method.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, NodeError> {
        let request = json::to_line(&request(method, params, REQUEST_ID.into()));
        let reply = self.counted(self.post(method, request)).await?;
        self.count(result_of(method, reply))
    }

    /// Makes several calls in one request; the replies are in the order of the calls. The roles of a
    /// pool make single calls; this is for programs that read much of a chain.
    ///
    /// # Errors
    /// [`NodeError`] of the request as a whole. A call that fails has its own error in its place.
    pub async fn call_batch(
        &self,
        calls: &[(&str, Value)],
    ) -> Result<Vec<Result<Value, NodeError>>, NodeError> {
        let numbered = (1..).zip(calls);
        let requests: Vec<Value> = numbered
            .map(|(id, (method, params))| request(method, params.clone(), Value::from(id)))
            .collect();
        let reply = self.counted(self.post("batch", json::to_line(&requests))).await?;
        let Value::Array(replies) = reply else {
            return self.count(Err(not_understood("batch", "not a list of replies")));
        };
        if replies.len() != calls.len() {
            let cause = format!("{} replies to {} calls", replies.len(), calls.len());
            return self.count(Err(not_understood("batch", cause)));
        }
        let pairs = calls.iter().zip(replies);
        Ok(pairs.map(|((method, _), reply)| result_of(method, reply)).collect())
    }

    /// A call whose result is `read`.
    async fn typed<T>(
        &self,
        method: &str,
        params: Value,
        read: impl FnOnce(&Value) -> Result<T, MessageError>,
    ) -> Result<T, NodeError> {
        let result = self.call(method, params).await?;
        self.count(read(&result).map_err(|e| not_understood(method, e)))
    }

    async fn counted<T>(
        &self,
        call: impl Future<Output = Result<T, NodeError>>,
    ) -> Result<T, NodeError> {
        self.counters.calls.fetch_add(1, Ordering::Relaxed);
        self.count(call.await)
    }

    /// Counts the outcome of a call that failed.
    fn count<T>(&self, outcome: Result<T, NodeError>) -> Result<T, NodeError> {
        match &outcome {
            Ok(_) => {}
            Err(NodeError::Rpc { .. }) => {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        outcome
    }

    /// Posts a request to the node in use, or to the next one when there is no connection: only
    /// then is it certain that the call was not made.
    async fn post(&self, method: &str, request: String) -> Result<Value, NodeError> {
        let permit = if method == SUBMIT_BLOCK {
            // A second block waits neither for the first nor for all others.
            tokio::select! {
                biased;
                permit = self.block_calls.acquire() => permit,
                permit = self.calls.acquire() => permit,
            }
        } else {
            self.calls.acquire().await
        };
        let _permit = permit.expect("the semaphores are never closed");
        let mut last = None;
        self.go_back(Instant::now());
        for _ in &self.urls {
            let index = self.current.load(Ordering::Relaxed);
            match self.post_to(&self.urls[index], method, request.clone()).await {
                Err(error @ NodeError::Unreachable { .. }) => {
                    self.leave(index, &error);
                    last = Some(error);
                }
                outcome => return outcome,
            }
        }
        Err(last.expect("there is at least one node"))
    }

    /// The first node is the best: it is tried again when another one was in use for a while, so
    /// that all roles of a pool come back to the same node by themselves.
    fn go_back(&self, now: Instant) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = now.saturating_duration_since(*since) >= GO_BACK_AFTER;
        if is_time && self.current.swap(0, Ordering::Relaxed) != 0 {
            *since = now;
            tracing::info!(node = self.urls[0].as_str(), "the first node is tried again");
        }
    }

    /// Makes the next node the one in use, unless another call did so already.
    fn leave(&self, index: usize, error: &NodeError) {
        let next = (index + 1) % self.urls.len();
        let order = Ordering::Relaxed;
        if next != index && self.current.compare_exchange(index, next, order, order).is_ok() {
            self.counters.failovers.fetch_add(1, order);
            *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            let (from, to) = (self.urls[index].as_str(), self.urls[next].as_str());
            tracing::warn!(%error, from, to, "no connection to the node, another one is taken");
        }
    }

    async fn post_to(&self, url: &Url, method: &str, request: String) -> Result<Value, NodeError> {
        let ms_max = self.ms_max(method);
        let failed = |error: reqwest::Error| self.transport_error(method, ms_max, &error);
        let mut response = self
            .http
            .post(url.clone())
            .basic_auth(&self.user, Some(&self.password))
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .timeout(Duration::from_millis(ms_max))
            .body(request)
            .send()
            .await
            .map_err(failed)?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > self.reply_bytes_max {
                let method = method.to_owned();
                return Err(NodeError::TooLong { method, bytes_max: self.reply_bytes_max });
            }
            body.extend_from_slice(&chunk);
        }
        reply_of(method, status, &body)
    }

    /// Longest time for a call.
    fn ms_max(&self, method: &str) -> u64 {
        let is_quick = QUICK_CALLS.contains(&method);
        if is_quick { self.call_ms_max.min(QUICK_MS_MAX) } else { self.call_ms_max }
    }

    fn transport_error(&self, method: &str, ms: u64, error: &reqwest::Error) -> NodeError {
        let method = method.to_owned();
        if error.is_connect() {
            let url = error.url().map_or_else(String::new, |url| format!("{url}: "));
            return NodeError::Unreachable { method, cause: url + &innermost(error) };
        }
        if error.is_timeout() {
            return NodeError::Timeout { method, ms };
        }
        // The connection stood and the request was sent: it ended before the reply did.
        NodeError::ClosedWithoutReply { method }
    }
}

/// The text of the cause that lies deepest; it names no address.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

impl Node for RpcNode {
    fn name(&self) -> String {
        let names: Vec<String> = self.urls.iter().map(|url| hidden(url.as_str())).collect();
        names.join(", ")
    }

    async fn raw_block_template(&self) -> Result<BlockTemplate, NodeError> {
        self.typed("getrawblocktemplate", json!([]), replies::template).await
    }

    async fn best_block_hash(&self) -> Result<Hash32, NodeError> {
        self.typed("getbestblockhash", json!([]), replies::hash).await
    }

    async fn block_header(&self, hash: &Hash32) -> Result<BlockHeaderReply, NodeError> {
        let params = json!([hash.display().to_string(), true]);
        self.typed("getblockheader", params, BlockHeaderReply::from_json).await
    }

    async fn block(&self, hash: &Hash32) -> Result<BlockReply, NodeError> {
        let params = json!([hash.display().to_string(), true]);
        self.typed("getblock", params, BlockReply::from_json).await
    }

    async fn block_hash(&self, height: i32) -> Result<Hash32, NodeError> {
        self.typed("getblockhash", json!([height]), replies::hash).await
    }

    async fn check_share(&self, share: &ShareToCheck) -> Result<ShareVerdict, NodeError> {
        let params = replies::share_params(share);
        self.typed("checkpcshare", params, |value| Ok(ShareVerdict::from_json(value))).await
    }

    async fn submit_block(&self, block: &[u8]) -> Result<SubmitVerdict, NodeError> {
        let params = json!([hex::encode(block)]);
        self.typed(SUBMIT_BLOCK, params, SubmitVerdict::from_json).await
    }

    async fn configure_mining_payouts(&self, weights: &[(String, f64)]) -> Result<(), NodeError> {
        if let Some((address, weight)) =
            weights.iter().find(|(_, weight)| !weight.is_finite() || *weight < 0.0)
        {
            let rule = format!("weight {weight} of {address} is not a number from 0");
            return Err(NodeError::Config { key: "payouts", rule });
        }
        let map: serde_json::Map<String, Value> =
            weights.iter().map(|(address, weight)| (address.clone(), json!(weight))).collect();
        let nothing = |value: &Value| match value {
            Value::Null => Ok(()),
            other => Err(fields::invalid("result", "null", other)),
        };
        self.typed("configureminingpayouts", json!([map]), nothing).await
    }

    async fn mining_payouts(&self) -> Result<Vec<(String, f64)>, NodeError> {
        self.typed("getminingpayouts", json!([]), replies::payouts).await
    }

    async fn info(&self) -> Result<NodeInfo, NodeError> {
        self.typed("getinfo", json!([]), NodeInfo::from_json).await
    }

    async fn check_ann(
        &self,
        announcement: &[u8; ANNOUNCEMENT_BYTES],
        proof_version: u32,
        parent: Option<&Hash32>,
    ) -> Result<Hash32, NodeError> {
        let mut params = vec![json!(hex::encode(announcement)), json!(proof_version)];
        params.extend(parent.map(|hash| json!(hash.display().to_string())));
        self.typed("checkpcann", Value::Array(params), replies::work_hash).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_node_is_tried_again_after_a_while() {
        let urls = ["http://a.example:1", "http://b.example:1"].map(str::to_owned).to_vec();
        let config = RpcConfig { urls, ..RpcConfig::default() };
        let node = RpcNode::new(&config).unwrap();
        let in_use = || node.current.load(Ordering::Relaxed);
        let away = NodeError::Unreachable { method: "x".to_owned(), cause: "y".to_owned() };
        let start = Instant::now();
        node.leave(0, &away);
        node.go_back(start + GO_BACK_AFTER / 2);
        assert_eq!(in_use(), 1);
        node.go_back(start + 2 * GO_BACK_AFTER);
        assert_eq!(in_use(), 0);
        let each = RpcNode::for_each(&config).unwrap();
        assert_eq!(each.len(), 2);
        assert_eq!(each[1].urls[0].as_str(), "http://b.example:1/");
    }
}
