//! The server: connections in, each with its own task.

use std::cell::Cell;
use std::future::Future;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::connection::{Connection, Request, linger};
use super::gate::{Crowded, Gate};
use super::response::Response;
use crate::engine::{Engine, Listener, Stream};
use crate::{Shutdown, limits};

/// How long open connections are waited for when a server stops.
const GRACE_MS_MAX: u64 = 2_000;
/// Pause after the system refused to accept: out of file descriptors, most often.
const ACCEPT_PAUSE_MS: u64 = 20;

/// Answers requests. One value serves all connections of an executor.
pub trait Service<E: Engine>: 'static {
    /// Answers a request. The body is received as far as the service asks for it; what it leaves
    /// is dropped.
    fn call(&self, request: &mut Request<'_, E>) -> impl Future<Output = Response>;
}

/// Bounds of a server; every bound has its counter in [`Http1Counters`].
#[derive(Clone, Copy, Debug)]
pub struct Http1Limits {
    /// Length of a head, bytes; then 431. At least [`limits::HTTP1_HEAD_BYTES_MIN`].
    pub head_bytes_max: usize,
    /// Fields of a head; then 431. At most [`limits::HTTP1_HEADERS_MAX`].
    pub fields_max: usize,
    /// Time from the first byte of a head to its last, ms; then 408.
    pub head_ms_max: u64,
    /// Length of a body, bytes; then 413.
    pub body_bytes_max: u64,
    /// Time for a whole body, ms; then 408.
    pub body_ms_max: u64,
    /// Time to write an answer, ms.
    pub write_ms_max: u64,
    /// A long answer has another ms for each so many bytes; 0 is taken as 1.
    pub write_bytes_per_ms_min: u64,
    /// Time between requests, ms.
    pub idle_ms_max: u64,
    /// Open connections of all executors; then 503.
    pub connections_max: usize,
    /// Open connections from one address; then 503.
    pub connections_per_source_max: usize,
}

impl Default for Http1Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: limits::HTTP1_HEAD_BYTES_MAX,
            fields_max: limits::HTTP1_HEADERS_MAX,
            head_ms_max: limits::HTTP1_HEAD_MS_MAX,
            body_bytes_max: limits::HTTP1_BODY_BYTES_MAX,
            body_ms_max: limits::HTTP1_BODY_MS_MAX,
            write_ms_max: limits::HTTP1_WRITE_MS_MAX,
            write_bytes_per_ms_min: limits::HTTP1_WRITE_BYTES_PER_MS_MIN,
            idle_ms_max: limits::HTTP1_IDLE_MS_MAX,
            connections_max: limits::HTTP1_CONNECTIONS_MAX,
            connections_per_source_max: limits::HTTP1_CONNECTIONS_PER_SOURCE_MAX,
        }
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// What a server counted, live.
        #[derive(Debug, Default)]
        pub struct Http1Counters {
            $($(#[doc = $doc])* pub $name: AtomicU64,)*
        }

        /// What a server counted, at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct Http1Snapshot {
            /// Connections open now.
            pub connections_open: u64,
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl Http1Snapshot {
            /// Every counter with its name and what it counts, for `/metrics`.
            pub fn counters(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), concat!($($doc),*).trim_ascii(), self.$name),)*].into_iter()
            }
        }

        impl Http1Shared {
            /// The counters at this moment.
            pub fn snapshot(&self) -> Http1Snapshot {
                Http1Snapshot {
                    connections_open: self.gate.open() as u64,
                    $($name: self.counters.$name.load(Ordering::Relaxed),)*
                }
            }
        }
    };
}

counters! {
    /// Connections let in.
    connections,
    /// Connections answered 503 because there were too many.
    connections_refused_total,
    /// Connections answered 503 because their address had too many.
    connections_refused_source,
    /// Accepts that failed.
    accepts_failed,
    /// Requests with a complete head.
    requests,
    /// Heads answered 400, 417 or 501, or 431 for their number of fields.
    heads_malformed,
    /// Heads answered 431 for their length.
    heads_too_large,
    /// Heads answered 408.
    heads_too_slow,
    /// Bodies whose chunks made no sense.
    bodies_malformed,
    /// Bodies longer than allowed.
    bodies_too_long,
    /// Bodies that did not arrive in time.
    bodies_too_slow,
    /// Bodies whose connection ended within them.
    bodies_cut,
    /// Connections closed because nothing was asked for.
    idle_closed,
    /// Answers that the client did not take.
    writes_failed,
}

/// What all executors of one server share: its bounds, its counters, its number of connections.
#[derive(Debug)]
pub struct Http1Shared {
    /// The bounds.
    pub limits: Http1Limits,
    /// The counters.
    pub counters: Http1Counters,
    gate: Arc<Gate>,
}

impl Http1Shared {
    /// A server's shared part.
    pub fn new(mut limits: Http1Limits) -> Arc<Self> {
        limits.head_bytes_max = limits.head_bytes_max.max(limits::HTTP1_HEAD_BYTES_MIN);
        let gate = Gate::new(limits.connections_max, limits.connections_per_source_max);
        Arc::new(Self { limits, counters: Http1Counters::default(), gate: Arc::new(gate) })
    }

    pub(super) fn count(&self, counter: impl Fn(&Http1Counters) -> &AtomicU64) {
        counter(&self.counters).fetch_add(1, Ordering::Relaxed);
    }
}

/// Serves connections on one executor until `shutdown`, then gives requests in progress a moment.
///
/// # Errors
/// The engine can not take the socket.
pub async fn serve<E: Engine, S: Service<E>>(
    engine: E,
    socket: TcpListener,
    service: Rc<S>,
    shared: Arc<Http1Shared>,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    let mut listener = engine.listen(socket)?;
    let (open, refusals) = (Count::default(), Count::default());
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(_) => {
                shared.count(|c| &c.accepts_failed);
                engine.sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                continue;
            }
        };
        match shared.gate.enter(stream.peer_addr()) {
            Ok(pass) => {
                shared.count(|c| &c.connections);
                let place = (pass, open.enter());
                let (shared, shutdown) = (shared.clone(), shutdown.clone());
                let (service, handle) = (service.clone(), engine.clone());
                engine.spawn_local(async move {
                    let _place = place;
                    Connection { engine: handle, stream, shared, shutdown }.run(&*service).await;
                });
            }
            Err(crowded) => {
                shared.count(|c| match crowded {
                    Crowded::Total => &c.connections_refused_total,
                    Crowded::Source => &c.connections_refused_source,
                });
                refuse(&engine, stream, &refusals);
            }
        }
    }
    drop(listener);
    let deadline = Instant::now() + Duration::from_millis(GRACE_MS_MAX);
    while open.now() > 0 && Instant::now() < deadline {
        engine.sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Says that it is too crowded, if that can be said quickly.
fn refuse<E: Engine>(engine: &E, mut stream: E::Stream, refusals: &Count) {
    if refusals.now() >= limits::HTTP1_REFUSALS_LEN_MAX {
        return;
    }
    let (handle, place) = (engine.clone(), refusals.enter());
    engine.spawn_local(async move {
        let _place = place;
        let say = async {
            let response = Response::text(503, "overloaded").and_close();
            let (head, body) = response.encode(false, false);
            stream.write_all_two(&head, body).await?;
            linger(&mut stream).await
        };
        // It is a courtesy: a client that does not take it gets none.
        let _ = handle.timeout(Duration::from_millis(limits::HTTP1_REFUSAL_MS_MAX), say).await;
    });
}

/// Counts the tasks of one kind on an executor.
#[derive(Clone, Debug, Default)]
struct Count(Rc<Cell<usize>>);

impl Count {
    fn now(&self) -> usize {
        self.0.get()
    }

    /// Counts one more until the result is dropped, however its task ends.
    fn enter(&self) -> Counted {
        self.0.set(self.0.get() + 1);
        Counted(self.0.clone())
    }
}

#[derive(Debug)]
struct Counted(Rc<Cell<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests;
