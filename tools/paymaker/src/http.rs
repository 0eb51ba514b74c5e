//! The endpoints (spec 05, 12.1).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use packetcrypt_proto::json;
use packetcrypt_proto::reply::Reply;
use serde::Serialize;

use crate::event::NewestError;
use crate::public::{NoAnswer, Public};
use crate::service::{PostError, Service};

/// The endpoints of one paymaker.
struct Endpoints {
    service: Arc<Service>,
    public: Arc<Public>,
    authorization: String,
    /// Requests but those of the public.
    in_progress: AtomicUsize,
}

/// Counts a request as long as it lives.
struct InProgress<'a>(&'a AtomicUsize);

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Memory {
    rss: u64,
    heap_total: u64,
    heap_used: u64,
    external: u64,
    array_buffers: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatsReply {
    blocks: usize,
    compressed_ann_slots: usize,
    shares: usize,
    memory: Memory,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    event_id: String,
}

pub(crate) fn router(service: Arc<Service>) -> Router {
    let password = service.config.paymaker_http_password.expose();
    let authorization = format!("Basic {}", base64(format!("x:{password}").as_bytes()));
    let public = Arc::new(Public::new(service.clone()));
    let in_progress = AtomicUsize::new(0);
    let endpoints = Endpoints { service, public, authorization, in_progress };
    Router::new().fallback(answer).with_state(Arc::new(endpoints))
}

async fn answer(State(endpoints): State<Arc<Endpoints>>, request: Request) -> Response {
    let service = &endpoints.service;
    service.counters.requests.inc();
    match (Endpoint::of(request.uri()), request.method()) {
        (Endpoint::Stats, &Method::GET) => reply(StatusCode::OK, stats(service)),
        (Endpoint::WhoToPay(max_time), &Method::GET) => who_to_pay(&endpoints, max_time).await,
        (what, _) => answer_counted(&endpoints, what, request).await,
    }
}

/// For anybody: takes no place of a handler's request.
async fn who_to_pay(endpoints: &Endpoints, max_time: f64) -> Response {
    match endpoints.public.who_to_pay(max_time).await {
        Ok(text) => reply(StatusCode::OK, text),
        Err(NoAnswer::NotReady) => reply(StatusCode::INTERNAL_SERVER_ERROR, "500 Not ready"),
        Err(NoAnswer::Overloaded) => {
            endpoints.service.counters.public_overloaded.inc();
            reply(StatusCode::NOT_IMPLEMENTED, "overloaded")
        }
    }
}

async fn answer_counted(endpoints: &Endpoints, what: Endpoint, request: Request) -> Response {
    let service = &endpoints.service;
    let before = endpoints.in_progress.fetch_add(1, Ordering::Relaxed);
    let _in_progress = InProgress(&endpoints.in_progress);
    if before >= service.config.max_connections {
        service.counters.overloaded.inc();
        return reply(StatusCode::NOT_IMPLEMENTED, "overloaded");
    }
    if !service.is_ready() {
        return reply(StatusCode::INTERNAL_SERVER_ERROR, "500 Not ready");
    }
    match what {
        Endpoint::Events if !endpoints.is_authorized(&request) => {
            service.counters.unauthorized.inc();
            let mut response = reply(StatusCode::UNAUTHORIZED, "401 Unauthorized");
            let realm = HeaderValue::from_static("Basic realm=paymaker");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
            response
        }
        Endpoint::Events if request.method() == Method::POST => post(service, request).await,
        Endpoint::Events | Endpoint::Stats | Endpoint::WhoToPay(_) => {
            reply(StatusCode::METHOD_NOT_ALLOWED, "")
        }
        Endpoint::Unknown => reply(StatusCode::NOT_FOUND, "not found"),
    }
}

/// What a URL asks for, by its end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Endpoint {
    Stats,
    Events,
    /// With events up to this time, ms.
    WhoToPay(f64),
    Unknown,
}

impl Endpoint {
    fn of(uri: &Uri) -> Self {
        let path = uri.path();
        match uri.query() {
            None if path.ends_with("/stats") => Self::Stats,
            None if path.ends_with("/events") => Self::Events,
            None if path.ends_with("/whotopay") => Self::WhoToPay(f64::INFINITY),
            Some(query) if path.ends_with("/whotopay") => match query.strip_prefix("maxtime=") {
                Some(text) => Self::WhoToPay(max_time(text)),
                None => Self::Unknown,
            },
            _ => Self::Unknown,
        }
    }
}

fn max_time(text: &str) -> f64 {
    text.parse().ok().filter(|time: &f64| time.is_finite()).unwrap_or(f64::INFINITY)
}

impl Endpoints {
    fn is_authorized(&self, request: &Request) -> bool {
        let given = request.headers().get(header::AUTHORIZATION);
        given.is_some_and(|given| equal_in_constant_time(given.as_bytes(), &self.authorization))
    }
}

/// Takes as long for a wrong first byte as for a wrong last one.
fn equal_in_constant_time(given: &[u8], wanted: &str) -> bool {
    let mut difference = given.len() ^ wanted.len();
    for (index, wanted) in wanted.bytes().enumerate() {
        let given = given.get(index).copied().unwrap_or(0);
        difference |= usize::from(given ^ wanted);
    }
    std::hint::black_box(difference) == 0
}

async fn post(service: &Arc<Service>, request: Request) -> Response {
    // Bounded by the server's longest body.
    let body = match Bytes::from_request(request, &()).await {
        Ok(body) => body,
        Err(cause) if cause.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            service.counters.posts_refused.inc();
            let bytes_max = service.config.body_bytes_max;
            let text = format!("the log is longer than {bytes_max} bytes");
            return failed(StatusCode::PAYLOAD_TOO_LARGE, text);
        }
        // No fault of the log: its sender may try again.
        Err(cause) => {
            service.counters.posts_cut.inc();
            let text = format!("the log did not arrive whole: {cause}");
            return failed(StatusCode::REQUEST_TIMEOUT, text);
        }
    };
    // The connection may go away, the log is taken nevertheless.
    let taker = service.clone();
    match tokio::task::spawn_blocking(move || taker.post(&body)).await {
        Ok(Ok(event_id)) => {
            reply(StatusCode::OK, Reply::ok(Posted { event_id }).to_paymaker_json())
        }
        // Right later on (spec 05, 16.7): the sender keeps it.
        Ok(Err(error @ PostError::Newest(NewestError::Ahead { .. }))) => {
            failed(StatusCode::TOO_EARLY, error.to_string())
        }
        Ok(Err(error @ (PostError::NotText | PostError::Newest(_)))) => {
            failed(StatusCode::BAD_REQUEST, error.to_string())
        }
        Ok(Err(error)) => failed(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        Err(_) => failed(StatusCode::INTERNAL_SERVER_ERROR, "the paymaker is stopping".into()),
    }
}

fn failed(status: StatusCode, text: String) -> Response {
    reply(status, Reply::<Posted>::failed(text).to_paymaker_json())
}

fn stats(service: &Service) -> String {
    let stats = service.stats();
    let rss = resident_bytes();
    json::to_line(&StatsReply {
        blocks: stats.blocks,
        compressed_ann_slots: stats.slots,
        shares: stats.shares,
        // Only the first is a figure of this program; the others are of the reference's runtime.
        memory: Memory { rss, heap_total: rss, heap_used: rss, external: 0, array_buffers: 0 },
    })
}

/// Memory of the process, where the system says it in this way; else 0.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok());
    kib.map_or(0, |kib: u64| kib << 10)
}

/// Without a content type, as the reference (spec 05, 2.5).
fn reply(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
}

fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_matched_by_their_end() {
        let of = |text: &str| Endpoint::of(&text.parse().expect("uri"));
        assert_eq!(of("/pool/x/stats"), Endpoint::Stats);
        assert_eq!(of("/events"), Endpoint::Events);
        assert_eq!(of("/events?x"), Endpoint::Unknown);
        assert_eq!(of("/a/whotopay"), Endpoint::WhoToPay(f64::INFINITY));
        assert_eq!(of("/whotopay?maxtime=0"), Endpoint::WhoToPay(0.0));
        for ignored in ["", "abc", "NaN", "inf", "5&x=1"] {
            let uri = format!("/whotopay?maxtime={ignored}");
            assert_eq!(of(&uri), Endpoint::WhoToPay(f64::INFINITY), "{uri}");
        }
        assert_eq!(of("/whotopay?x=1"), Endpoint::Unknown);
    }

    #[test]
    fn passwords_are_compared_whole() {
        assert!(equal_in_constant_time(b"abc", "abc"));
        for other in ["", "ab", "abd", "abcd", "Abc"] {
            assert!(!equal_in_constant_time(other.as_bytes(), "abc"), "{other}");
        }
    }
}
