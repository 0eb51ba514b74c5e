//! Paymaker of a PacketCrypt pool: says who is paid by the next coinbase (spec 05, 12).
//!
//! Handlers post their logs of events; the paymaker stores them durably ([`ledger`]), credits shares
//! and announcements against the difficulty of the chain ([`history`]), and tells the node in
//! cycles whom to pay ([`whotopay`], [`payout`]).
//!
//! What differs from the reference, by spec 05, 16: an event without credit hides nobody (16.3),
//! announcements are credited once (16.4), no line of a log can harm (16.6, 16.7: events more than ten
//! minutes ahead are counted and skipped; a log of nothing else is refused with 425, so that its sender
//! keeps it; a clock that is set forward is believed only when it stays so), odd times are found
//! again (16.8), a restart gives the credits from before it, old logs are deleted, the public has
//! its own small part of the machine, a block counts once in the hours (16.19), and the map is
//! sent again when the node forgot it. [`Config::zero_credit_hides_slot`],
//! [`Config::reference_slots`] and [`Config::reference_hours`] bring back the reference's rules.

mod believed;
pub mod config;
pub mod event;
pub mod history;
mod hours;
mod http;
pub mod ledger;
pub mod payout;
mod public;
mod service;
pub mod slots;
mod stats;
pub mod whotopay;

use std::net::SocketAddr;
use std::sync::Arc;

use packetcrypt_net::control::{self, ControlLimits, ControlServer, ListenError};
use packetcrypt_net::metrics::Metrics;
use packetcrypt_net::{Clock, Shutdown};
use packetcrypt_node::Node;
use tokio::task::JoinHandle;

pub use config::Config;
pub use history::EventCounts;
pub use ledger::{Ledger, LedgerError};
pub use packetcrypt_proto::settings::{ConfigError, Secret};
pub use payout::{SentMap, SentMaps};
pub use service::read_history;
pub use stats::Stats;
pub use whotopay::WhoToPay;

use service::Service;
use stats::Counters;

/// Connections for each request that may be in progress: idle ones must not shut others out.
const CONNECTIONS_PER_REQUEST: usize = 8;

/// Why a paymaker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A configured value breaks a rule.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store can not be opened.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// An address can not be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Why a paymaker ended without being told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The history can not be read: paying by a part of it would be wrong.
    #[error("the history can not be read: {0}")]
    Ledger(#[from] LedgerError),
    /// A task broke: a fault of the program.
    #[error("a task ended: {0}")]
    Task(String),
}

/// A running paymaker. It runs until the shutdown signal that was given to [`start`].
pub struct Running {
    server: ControlServer,
    metrics_server: Option<ControlServer>,
    work: JoinHandle<Result<(), RunError>>,
    service: Arc<Service>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("local_addr", &self.local_addr()).finish_non_exhaustive()
    }
}

impl Running {
    /// Where handlers post, with the port that the system chose for port 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// The address of `/metrics` and `/stats.json`, when they are served.
    #[must_use]
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_server.as_ref().map(ControlServer::local_addr)
    }

    /// The counters now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        snapshot(&self.service)
    }

    /// The maps that were sent to the node; the handle stays good while the paymaker runs.
    #[must_use]
    pub fn sent_maps(&self) -> SentMaps {
        self.service.sent.clone()
    }

    /// Who would be paid now by events up to `max_time` (infinity for all), ms; `None` while the
    /// history is read.
    pub async fn who_to_pay(&self, max_time: f64) -> Option<Arc<WhoToPay>> {
        self.service.who_to_pay(max_time).await
    }

    /// Returns when everything has stopped, after the signal.
    ///
    /// # Errors
    /// [`RunError`] when it ended for another reason.
    pub async fn join(self) -> Result<(), RunError> {
        let ended = self.work.await.map_err(|cause| RunError::Task(cause.to_string()))?;
        self.server.join().await;
        if let Some(server) = self.metrics_server {
            server.join().await;
        }
        ended
    }

    /// As [`join`](Self::join); gives the last counters.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub async fn finish(self) -> Result<Stats, RunError> {
        let service = self.service.clone();
        self.join().await?;
        Ok(snapshot(&service))
    }
}

fn snapshot(service: &Service) -> Stats {
    Stats { sent_maps: service.sent.all(), ..service.stats() }
}

/// Starts a paymaker. It listens at once and answers 500 until the history is read.
///
/// # Errors
/// [`StartError`] when the configuration is wrong, the store is in use, or a socket is taken.
pub async fn start(
    config: Config,
    nodes: Vec<impl Node>,
    clock: impl Clock,
    shutdown: Shutdown,
) -> Result<Running, StartError> {
    config.validate()?;
    let files = ledger::Files::open(&config.dir)?;
    start_with(config, Box::new(files), nodes, clock, shutdown).await
}

/// As [`start`], with another store.
///
/// # Errors
/// As [`start`].
pub async fn start_with(
    config: Config,
    ledger: Box<dyn Ledger>,
    nodes: Vec<impl Node>,
    clock: impl Clock,
    shutdown: Shutdown,
) -> Result<Running, StartError> {
    config.validate()?;
    // Ends with the caller's signal, and by itself when the history can not be read.
    let shutdown = shutdown.child();
    let mut metrics = Metrics::new("paymaker");
    let counters = Counters::new(&mut metrics);
    let limits = ControlLimits {
        connections_max: config.max_connections * CONNECTIONS_PER_REQUEST,
        body_bytes_max: config.body_bytes_max,
        request_ms_max: config.request_ms_max,
        ..ControlLimits::default()
    };
    let (listen, metrics_listen) = (config.listen, config.metrics_listen);
    let counted = counters.control.clone();
    let service = Arc::new(Service::new(config, Arc::new(clock), ledger, counters));
    let router = http::router(service.clone());
    let server = control::serve_counted(listen, router, limits, &counted, shutdown.clone()).await?;
    let metrics_server = match metrics_listen {
        Some(addr) => {
            let (metrics, stats) = (Arc::new(metrics), service.clone());
            let routes =
                control::observation_routes(move || metrics.encode(), move || stats.stats());
            let limits = ControlLimits::default();
            Some(control::serve_counted(addr, routes, limits, &counted, shutdown.clone()).await?)
        }
        None => None,
    };
    let work = tokio::spawn(work(service.clone(), nodes, shutdown));
    Ok(Running { server, metrics_server, work, service })
}

async fn work<N: Node>(
    service: Arc<Service>,
    nodes: Vec<N>,
    shutdown: Shutdown,
) -> Result<(), RunError> {
    let loader = service.clone();
    let loaded = tokio::task::spawn_blocking(move || loader.load()).await;
    let loaded = loaded.map_err(|cause| RunError::Task(cause.to_string()));
    if let Err(cause) = loaded.and_then(|loaded| loaded.map_err(RunError::from)) {
        tracing::error!(%cause, "the paymaker stops");
        shutdown.trigger();
        return Err(cause);
    }
    let senders = nodes
        .into_iter()
        .map(|node| payout::Sender::new(node, service.clone(), shutdown.clone()).run());
    futures_util::future::join_all(senders).await;
    shutdown.cancelled().await;
    Ok(())
}
