//! HTTP server of the control plane: a router on a socket, with bounds.
//!
//! What axum leaves open is closed here: how many connections there are, how long a head and a
//! whole request may take, how long a body may be, and that a stop lets requests in progress end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::http1::gate::{Crowded, Gate, Pass};
use crate::metrics::Metrics;
use crate::{Shutdown, limits, metrics};

/// Bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct ControlLimits {
    /// Open connections; one more is closed at once and counted.
    pub connections_max: usize,
    /// Open connections of one source: an IPv4 address, or an IPv6 network of 64 bits. Addresses of
    /// this machine and of private networks, where proxies stand, are not bounded by it.
    pub connections_per_source_max: usize,
    /// Length of a request's body, bytes; a longer one is answered 413 by axum's extractors.
    pub body_bytes_max: usize,
    /// Time for a request's head, and idle time of a kept connection, ms.
    pub head_ms_max: u64,
    /// Time from the head to the reply, ms; then 408.
    pub request_ms_max: u64,
}

impl Default for ControlLimits {
    fn default() -> Self {
        Self {
            connections_max: limits::CONTROL_CONNECTIONS_MAX,
            connections_per_source_max: limits::CONTROL_CONNECTIONS_PER_SOURCE_MAX,
            body_bytes_max: limits::CONTROL_BODY_BYTES_MAX,
            head_ms_max: limits::CONTROL_HEAD_MS_MAX,
            request_ms_max: limits::CONTROL_REQUEST_MS_MAX,
        }
    }
}

/// The server can not listen.
#[derive(Debug, thiserror::Error)]
#[error("can not listen on {addr}: {cause}")]
pub struct ListenError {
    /// The address.
    pub addr: SocketAddr,
    /// What the system says.
    pub cause: std::io::Error,
}

/// What the servers of a role count. A clone counts into the same place, so that one role's servers
/// have one set.
#[derive(Clone, Debug, Default)]
pub struct ControlCounters {
    connections: Counter,
    refused_total: Counter,
    refused_source: Counter,
    failed: Counter,
    accepts_failed: Counter,
    timed_out: Counter,
}

/// The values of [`ControlCounters`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ControlFigures {
    /// Connections let in.
    pub connections: u64,
    /// Connections closed at once because there were too many.
    pub connections_refused: u64,
    /// Connections closed at once because their source had too many.
    pub connections_refused_source: u64,
    /// Connections that were cut or ended with an error: reset, head too slow, no HTTP.
    pub connections_failed: u64,
    /// Accepts that failed: no file descriptors, or the peer was gone.
    pub accepts_failed: u64,
    /// Requests answered 408 because they took too long.
    pub requests_timed_out: u64,
}

impl ControlCounters {
    /// Puts the counters into a role's metrics, as `control_..`.
    pub fn register(&self, metrics: &mut Metrics) {
        for ((name, help), counter) in ControlFigures::NAMES.into_iter().zip(self.all()) {
            metrics.registry_mut().register(name, help, counter.clone());
        }
    }

    /// The values now.
    pub fn figures(&self) -> ControlFigures {
        let [connections, refused_total, refused_source, failed, accepts_failed, timed_out] =
            self.all().map(Counter::get);
        ControlFigures {
            connections,
            connections_refused: refused_total,
            connections_refused_source: refused_source,
            connections_failed: failed,
            accepts_failed,
            requests_timed_out: timed_out,
        }
    }

    fn all(&self) -> [&Counter; 6] {
        let Self { connections, refused_total, refused_source, .. } = self;
        let Self { failed, accepts_failed, timed_out, .. } = self;
        [connections, refused_total, refused_source, failed, accepts_failed, timed_out]
    }
}

impl ControlFigures {
    /// Names and meanings in `/metrics`, in the order of [`ControlFigures::values`].
    pub const NAMES: [(&str, &str); 6] = [
        ("control_connections", "Connections let in by the control plane"),
        ("control_connections_refused", "Connections closed at once: too many"),
        (
            "control_connections_refused_source",
            "Connections closed at once: too many of one source",
        ),
        ("control_connections_failed", "Connections cut: reset, head too slow, no HTTP"),
        ("control_accepts_failed", "Accepts that failed"),
        ("control_requests_timed_out", "Requests answered 408"),
    ];

    /// The values in the order of [`ControlFigures::NAMES`].
    pub fn values(&self) -> [u64; 6] {
        [
            self.connections,
            self.connections_refused,
            self.connections_refused_source,
            self.connections_failed,
            self.accepts_failed,
            self.requests_timed_out,
        ]
    }
}

/// A running server.
#[derive(Debug)]
pub struct ControlServer {
    local_addr: SocketAddr,
    task: JoinHandle<()>,
}

impl ControlServer {
    /// The address it listens on, with the port that the system chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Returns when the server has stopped: some time after the signal.
    pub async fn join(self) {
        // The task ends by itself and does not panic; an abort of the runtime is an end too.
        let _ = self.task.await;
    }
}

/// Serves `router` on `addr` until `shutdown`, for programs that show no counters: see [`serve_counted`].
///
/// # Errors
/// The socket can not be opened.
pub async fn serve(
    addr: SocketAddr,
    router: Router,
    limits: ControlLimits,
    shutdown: Shutdown,
) -> Result<ControlServer, ListenError> {
    serve_counted(addr, router, limits, &ControlCounters::default(), shutdown).await
}

/// Serves `router` on `addr` until `shutdown`. Handlers find the peer's address as
/// [`ConnectInfo<SocketAddr>`].
///
/// # Errors
/// The socket can not be opened.
pub async fn serve_counted(
    addr: SocketAddr,
    router: Router,
    limits: ControlLimits,
    counters: &ControlCounters,
    shutdown: Shutdown,
) -> Result<ControlServer, ListenError> {
    let failed = |cause| ListenError { addr, cause };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let local_addr = listener.local_addr().map_err(failed)?;
    let timed_out = counters.timed_out.clone();
    let request_time = Duration::from_millis(limits.request_ms_max);
    let router = router.layer(DefaultBodyLimit::max(limits.body_bytes_max)).layer(
        middleware::from_fn(move |request: Request, next: Next| {
            bounded_time(request, next, request_time, timed_out.clone())
        }),
    );
    let server = Server { router, limits, counters: counters.clone(), shutdown };
    let task = tokio::spawn(server.run(listener));
    Ok(ControlServer { local_addr, task })
}

/// `/metrics` and `/stats.json` from two closures, to be merged in a role's router.
pub fn observation_routes<M, S, T>(metrics: M, stats: S) -> Router
where
    M: Fn() -> String + Clone + Send + Sync + 'static,
    S: Fn() -> T + Clone + Send + Sync + 'static,
    T: serde::Serialize + 'static,
{
    let metrics = move || {
        let text = metrics();
        async move { ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text) }
    };
    let stats = move || {
        let text = serde_json::to_string_pretty(&stats());
        async move {
            match text {
                Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
                Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
            }
        }
    };
    Router::new().route("/metrics", get(metrics)).route("/stats.json", get(stats))
}

async fn bounded_time(
    request: Request,
    next: Next,
    limit: Duration,
    timed_out: Counter,
) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            timed_out.inc();
            let close = [(header::CONNECTION, "close")];
            (StatusCode::REQUEST_TIMEOUT, close, "request took too long").into_response()
        }
    }
}

struct Server {
    router: Router,
    limits: ControlLimits,
    counters: ControlCounters,
    shutdown: Shutdown,
}

impl Server {
    async fn run(self, listener: TcpListener) {
        let per_source_max = self.limits.connections_per_source_max;
        let gate = Arc::new(Gate::new(self.limits.connections_max, per_source_max));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = self.shutdown.cancelled() => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(e) => {
                    // No file descriptors, or a connection that is gone: neither ends a server.
                    self.counters.accepts_failed.inc();
                    tracing::warn!("accept: {e}");
                    self.shutdown.sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let per_source_max = if is_near(peer.ip()) { usize::MAX } else { per_source_max };
            match gate.enter_within(peer, per_source_max) {
                Ok(pass) => {
                    self.counters.connections.inc();
                    connections.spawn(self.connection(stream, peer, pass));
                }
                Err(Crowded::Total) => {
                    self.counters.refused_total.inc();
                }
                Err(Crowded::Source) => {
                    self.counters.refused_source.inc();
                }
            }
        }
        drop(listener);
        let grace = Duration::from_millis(limits::CONTROL_GRACE_MS_MAX);
        let all = async { while connections.join_next().await.is_some() {} };
        // Connections that outlast the grace are cut when the set is dropped.
        let _ = tokio::time::timeout(grace, all).await;
    }

    fn connection(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        pass: Pass,
    ) -> impl Future<Output = ()> + Send + 'static {
        let router = self.router.clone().layer(axum::Extension(ConnectInfo(peer)));
        let failed = self.counters.failed.clone();
        let shutdown = self.shutdown.clone();
        let head_time = Duration::from_millis(self.limits.head_ms_max);
        async move {
            let _pass = pass;
            // Without it small replies wait for the peer's delayed acknowledgement.
            let _ = stream.set_nodelay(true);
            let service = TowerToHyperService::new(router);
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(head_time)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            let outcome = tokio::select! {
                outcome = connection.as_mut() => outcome,
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if outcome.is_err() {
                failed.inc();
            }
        }
    }
}

/// Whether an address is of this machine or of a private network. Nobody has it who comes from the
/// Internet; a proxy, behind which all clients are one source, often does.
fn is_near(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
