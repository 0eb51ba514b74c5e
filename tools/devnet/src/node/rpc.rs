//! The JSON-RPC face of the embedded node: HTTP as the real node speaks it (spec 06, 1.1).
//!
//! Basic authentication, HTTP 200 also for errors, one reply a connection, 503 beyond ten calls in
//! progress, and no reply at all to a body that is not JSON.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use packetcrypt_net::shutdown::Shutdown;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::EmbeddedNode;

/// What the real node prints in front of every error text.
pub const VERSION_TEXT: &str = "0.0.0-devnet";
/// Calls in progress at the most, as the real node's default.
const CALLS_MAX: usize = 10;
/// A full block is below 1 MB; hex doubles it, and `checkpcshare` repeats the coinbase.
const BODY_LEN_MAX: usize = 8 * 1024 * 1024;
/// The request must arrive within this time.
const REQUEST_TIME_S_MAX: u64 = 10;

/// An error reply: code (left out when 0) and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    /// Numeric code; 0 is not sent.
    pub code: i32,
    /// Text, without the version in front.
    pub message: String,
}

impl RpcError {
    /// An error with a code.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn to_json(&self) -> Value {
        let mut error = serde_json::Map::new();
        if self.code != 0 {
            error.insert("code".to_owned(), json!(self.code));
        }
        let text = format!("{VERSION_TEXT} {}\n\ndevnet: no call stack", self.message);
        error.insert("message".to_owned(), json!(text));
        error.insert("stack".to_owned(), json!(["devnet: no call stack"]));
        Value::Object(error)
    }
}

/// Name and password of the only user.
#[derive(Clone)]
pub struct Credentials {
    /// User name.
    pub user: String,
    /// Password; never printed.
    pub password: String,
}

impl core::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The connection is closed without a reply.
#[derive(Debug)]
struct NoReply;

impl core::fmt::Display for NoReply {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("closed without a reply")
    }
}

impl std::error::Error for NoReply {}

/// Serves the node on `listener` until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    node: Arc<EmbeddedNode>,
    credentials: Credentials,
    shutdown: Shutdown,
) {
    let calls = Arc::new(Semaphore::new(CALLS_MAX));
    let expected = Arc::new(expected_header(&credentials));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "embedded node: accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if node.is_down() {
            // As a node that is not there, or that is stuck: nothing is answered.
            if node.hangs() {
                tokio::spawn(hold(stream, Arc::clone(&node)));
            }
            continue;
        }
        let (node, calls, expected) =
            (Arc::clone(&node), Arc::clone(&calls), Arc::clone(&expected));
        tokio::spawn(async move { connection(stream, peer, node, calls, expected).await });
    }
}

/// Holds a connection until the node is back, then closes it.
async fn hold(stream: tokio::net::TcpStream, node: Arc<EmbeddedNode>) {
    while node.is_down() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(stream);
}

async fn connection(
    stream: tokio::net::TcpStream,
    peer: SocketAddr,
    node: Arc<EmbeddedNode>,
    calls: Arc<Semaphore>,
    expected: Arc<String>,
) {
    let service = service_fn(move |request| {
        answer(request, Arc::clone(&node), Arc::clone(&calls), Arc::clone(&expected))
    });
    let served = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(REQUEST_TIME_S_MAX))
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%peer, %error, "embedded node: connection ended");
    }
}

fn expected_header(credentials: &Credentials) -> String {
    let text = format!("{}:{}", credentials.user, credentials.password);
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
}

async fn answer(
    request: Request<Incoming>,
    node: Arc<EmbeddedNode>,
    calls: Arc<Semaphore>,
    expected: Arc<String>,
) -> Result<Response<Full<Bytes>>, NoReply> {
    let authorised = request
        .headers()
        .get(AUTHORIZATION)
        .is_some_and(|given| given.as_bytes() == expected.as_bytes());
    if !authorised {
        let mut reply = text(StatusCode::UNAUTHORIZED, "401 Unauthorized.\n");
        let realm = hyper::header::HeaderValue::from_static("Basic realm=\"pktd RPC\"");
        reply.headers_mut().insert(WWW_AUTHENTICATE, realm);
        return Ok(reply);
    }
    let Ok(_permit) = calls.try_acquire_owned() else {
        return Ok(text(StatusCode::SERVICE_UNAVAILABLE, "503 Too busy.  Try again later.\n"));
    };
    let body = Limited::new(request.into_body(), BODY_LEN_MAX).collect();
    let body = tokio::time::timeout(Duration::from_secs(REQUEST_TIME_S_MAX), body).await;
    let Ok(Ok(body)) = body else { return Err(NoReply) };
    let call: Value = serde_json::from_slice(&body.to_bytes()).map_err(|_| NoReply)?;
    // Validation of a share hashes for about a millisecond, of a whole block not much longer.
    let reply = tokio::task::spawn_blocking(move || reply_to(&node, &call));
    let reply = reply.await.map_err(|_| NoReply)?.ok_or(NoReply)?;
    let mut body = reply.to_string();
    body.push('\n');
    let mut response = Response::new(Full::new(Bytes::from(body)));
    let json_type = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json_type);
    Ok(response)
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let plain = hyper::header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// One call or an array of calls; `None` = not a call at all.
fn reply_to(node: &EmbeddedNode, call: &Value) -> Option<Value> {
    match call {
        Value::Array(calls) => {
            Some(Value::Array(calls.iter().map(|c| reply_to_one(node, c)).collect()))
        }
        Value::Object(_) => Some(reply_to_one(node, call)),
        _ => None,
    }
}

fn reply_to_one(node: &EmbeddedNode, call: &Value) -> Value {
    let id = call.get("id").cloned().unwrap_or(Value::Null);
    let empty = Vec::new();
    let params = call.get("params").and_then(Value::as_array).unwrap_or(&empty);
    let method = call.get("method").and_then(Value::as_str).unwrap_or_default();
    match node.call(method, params) {
        Ok(result) => json!({"result": result, "error": null, "id": id}),
        Err(error) => json!({"result": null, "error": error.to_json(), "id": id}),
    }
}
