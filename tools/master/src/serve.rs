//! What clients can ask for (spec 05, 4.1).
//!
//! Paths are matched by their end, so that a proxy may add any prefix; the method is not looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use packetcrypt_core::bytes::Hash32;
use packetcrypt_net::Shutdown;
use packetcrypt_node::Node;
use packetcrypt_proto::headers;
use tokio::sync::watch;

use crate::blkinfo::{BlockInfos, LookupError};
use crate::stats::Counters;
use crate::store::{Index, Kind, WorkKey};

const CACHE_CONFIG: &str = "max-age=8 stale-while-revalidate=2";
const CACHE_FILE: &str = "max-age=1000";
const CACHE_BLKINFO: &str = "max-age=999999999";
const CACHE_NONE: &str = "no-store";

const JSON: &str = "application/json";
const BINARY: &str = "application/octet-stream";

/// When a long poll above the bound is answered.
const LONG_POLL_REFUSAL: Duration = Duration::from_millis(1500);

/// The present work with everything that is served for it.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) key: WorkKey,
    pub(crate) config: Bytes,
    pub(crate) work: Bytes,
    pub(crate) template: Bytes,
    /// Whether these files may be replaced by others of the same key.
    pub(crate) may_change: bool,
    /// The files of other heights.
    pub(crate) index: Index,
}

/// The present work as it changes; None before the first.
pub(crate) type PublishedWatch = watch::Receiver<Option<Arc<Published>>>;

/// What requests are answered from.
pub(crate) struct Service<N> {
    pub(crate) published: PublishedWatch,
    pub(crate) infos: Arc<BlockInfos<N>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) long_poll: Duration,
    pub(crate) long_polls_max: usize,
    pub(crate) long_polls: AtomicUsize,
    pub(crate) shutdown: Shutdown,
}

/// The routes of a master.
pub(crate) fn router<N: Node>(service: Arc<Service<N>>) -> Router {
    Router::new().fallback(answer::<N>).with_state(service)
}

async fn answer<N: Node>(State(service): State<Arc<Service<N>>>, request: Request) -> Response {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    service.counters.requests.inc();
    let present = service.published.borrow().clone();
    let Some(present) = present else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "Server not ready");
    };
    match Resource::parse(target) {
        Some(Resource::Config) => cached(JSON, CACHE_CONFIG, present.config.clone()),
        Some(Resource::Work(height)) if present.key.height.checked_add(1) == Some(height) => {
            service.long_poll(height).await
        }
        Some(Resource::Work(height)) => service.file(Kind::Work, height, &present).await,
        Some(Resource::Template(height)) => service.file(Kind::Template, height, &present).await,
        Some(Resource::BlockInfo(hash)) => service.block_info(hash).await,
        None => not_found(),
    }
}

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Config,
    Work(i32),
    Template(i32),
    BlockInfo(Hash32),
}

impl Resource {
    fn parse(target: &str) -> Option<Self> {
        let (_, name) = target.rsplit_once('/')?;
        if name == "config.json" {
            return Some(Self::Config);
        }
        if let Some(hash) = between(name, "blkinfo_", ".json") {
            let lower_hex = hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            return Hash32::from_display_hex(hash).ok().filter(|_| lower_hex).map(Self::BlockInfo);
        }
        let height = |digits: &str| {
            let all_digits = digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse::<i32>().ok().filter(|_| all_digits)
        };
        if let Some(digits) = between(name, "work_", ".bin") {
            return height(digits).map(Self::Work);
        }
        between(name, "bt_", ".bin").and_then(height).map(Self::Template)
    }
}

fn between<'a>(name: &'a str, prefix: &str, suffix: &str) -> Option<&'a str> {
    name.strip_prefix(prefix)?.strip_suffix(suffix)
}

impl<N: Node> Service<N> {
    /// Waits until the work of `height`, the one after the present, is there.
    ///
    /// A reorganisation at the present height ends the wait with 300 at once: whoever waits learns
    /// that something changed, and an old peer just repeats its request.
    async fn long_poll(&self, height: i32) -> Response {
        let Some(_waiting) = self.wait_slot() else {
            self.counters.long_polls_refused.inc();
            // An old peer asks again at once (spec 05, 5.1): answered at once, each would be a
            // circle of its own.
            self.shutdown.sleep(LONG_POLL_REFUSAL).await;
            return try_again();
        };
        let mut published = self.published.clone();
        let start = published.borrow_and_update().as_ref().map(|present| present.key);
        if start.is_some_and(|start| start.height.checked_add(1) == Some(height)) {
            tokio::select! {
                _ = published.changed() => {}
                () = tokio::time::sleep(self.long_poll) => {}
                () = self.shutdown.cancelled() => {}
            }
        }
        let present = published.borrow().clone();
        match present {
            // Two blocks came at once: the file is there, or never will be.
            Some(present) if present.key.height >= height => {
                self.file(Kind::Work, height, &present).await
            }
            _ => try_again(),
        }
    }

    fn wait_slot(&self) -> Option<WaitSlot<'_>> {
        let waiting = self.long_polls.fetch_add(1, Ordering::Relaxed);
        let slot = WaitSlot(&self.long_polls);
        (waiting < self.long_polls_max).then_some(slot)
    }

    async fn file(&self, kind: Kind, height: i32, present: &Published) -> Response {
        // Copies of the file of a height that has seen another work may be anywhere.
        let is_present = height == present.key.height;
        let cache = match present.index.is_ambiguous(height) {
            true => CACHE_NONE,
            // No longer than the configuration that names it.
            false if is_present && present.may_change => CACHE_CONFIG,
            false => CACHE_FILE,
        };
        if is_present {
            let bytes = match kind {
                Kind::Work => &present.work,
                Kind::Template => &present.template,
            };
            return cached(BINARY, cache, bytes.clone());
        }
        let Some(path) = present.index.path(kind, height) else {
            return empty(StatusCode::NOT_FOUND);
        };
        match tokio::fs::read(&path).await {
            Ok(bytes) => cached(BINARY, cache, bytes.into()),
            // Pruned in this very moment.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => empty(StatusCode::NOT_FOUND),
            Err(e) => {
                tracing::error!("{}: {e}", path.display());
                empty(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    async fn block_info(&self, hash: Hash32) -> Response {
        match self.infos.lookup(hash).await {
            Ok(info) => cached(JSON, CACHE_BLKINFO, info),
            Err(LookupError::NotFound) => not_found(),
            Err(LookupError::Busy) => text(StatusCode::SERVICE_UNAVAILABLE, "Too busy"),
            Err(LookupError::NodeAway) => {
                text(StatusCode::SERVICE_UNAVAILABLE, "Node does not answer")
            }
        }
    }
}

struct WaitSlot<'a>(&'a AtomicUsize);

impl Drop for WaitSlot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn reply(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
}

fn cached(content_type: &'static str, cache: &'static str, body: Bytes) -> Response {
    let mut response = reply(StatusCode::OK, body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    response
}

fn text(status: StatusCode, body: &'static str) -> Response {
    reply(status, body)
}

fn empty(status: StatusCode) -> Response {
    reply(status, Body::empty())
}

fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "Not found")
}

fn try_again() -> Response {
    let mut response = empty(StatusCode::MULTIPLE_CHOICES);
    let fields = response.headers_mut();
    fields.insert(headers::LONG_POLL, HeaderValue::from_static(headers::LONG_POLL_TRY_AGAIN));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHE_NONE));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_matched_by_their_end() {
        let parse = Resource::parse;
        assert_eq!(parse("/config.json"), Some(Resource::Config));
        assert_eq!(parse("/any/prefix/config.json"), Some(Resource::Config));
        assert_eq!(parse("/config.json?x=1"), None);
        assert_eq!(parse("/xconfig.json"), None);
        assert_eq!(parse("/p/work_12.bin"), Some(Resource::Work(12)));
        assert_eq!(parse("/bt_12.bin"), Some(Resource::Template(12)));
        let hash = "00".repeat(31) + "0f";
        let found = parse(&format!("/blkinfo_{hash}.json"));
        assert_eq!(found, Some(Resource::BlockInfo(Hash32::from_display_hex(&hash).unwrap())));
        let upper = hash.to_uppercase();
        for other in [
            "/",
            "/work_.bin",
            "/work_-1.bin",
            "/work_+1.bin",
            "/work_99999999999.bin",
            "/bt_1.bin?",
            "/blkinfo_00.json",
            &format!("/blkinfo_{upper}.json"),
            &format!("/blkinfo_{hash}0.json"),
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
