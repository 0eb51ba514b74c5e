//! What a master counts.

use std::sync::atomic::{AtomicI32, Ordering};

use packetcrypt_net::control::{ControlCounters, ControlFigures};
use packetcrypt_net::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

/// A snapshot of the counters; all count from the start of the master.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Height of the present work; 0 before the first.
    pub work_height: i32,
    /// Works published, reorganisations included and refreshes not.
    pub works: u64,
    /// ... that replaced a work of the same or a greater height.
    pub reorganisations: u64,
    /// Works that replaced one of the same height and parent.
    pub refreshes: u64,
    /// Requests of clients, whatever the answer.
    pub requests: u64,
    /// Requests waiting for the next work now.
    pub long_polls: usize,
    /// Requests for the next work that were answered at once because too many wait.
    pub long_polls_refused: u64,
    /// Block information asked of the node because a client wanted it.
    pub lookups: u64,
    /// ... and not asked because too many such questions wait.
    pub lookups_refused: u64,
    /// Calls to the node by the work loop that failed.
    pub node_errors: u64,
    /// Templates that could not be used.
    pub templates_refused: u64,
    /// Failures to write or remove files.
    pub file_errors: u64,
    /// Connections, those of `/metrics` too.
    pub control: ControlFigures,
}

/// The counters behind [`Stats`].
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) works: Counter,
    pub(crate) reorganisations: Counter,
    pub(crate) refreshes: Counter,
    pub(crate) requests: Counter,
    pub(crate) long_polls_refused: Counter,
    pub(crate) lookups: Counter,
    pub(crate) lookups_refused: Counter,
    pub(crate) node_errors: Counter,
    pub(crate) templates_refused: Counter,
    pub(crate) file_errors: Counter,
    pub(crate) control: ControlCounters,
    work_height: AtomicI32,
}

impl Counters {
    /// Registers all counters.
    pub(crate) fn new(metrics: &mut Metrics) -> Self {
        let control = ControlCounters::default();
        control.register(metrics);
        let mut counter = |name: &str, help: &str| metrics.counter(name, help);
        Self {
            works: counter("works", "Works published"),
            reorganisations: counter("reorganisations", "Works that replaced one of their height"),
            refreshes: counter("refreshes", "Templates of a height that lasts taken anew"),
            requests: counter("requests", "Requests of clients"),
            long_polls_refused: counter("long_polls_refused", "Long polls above the bound"),
            lookups: counter("lookups", "Blocks asked of the node for clients"),
            lookups_refused: counter("lookups_refused", "Blocks not asked: too many at once"),
            node_errors: counter("node_errors", "Failed calls of the work loop"),
            templates_refused: counter("templates_refused", "Templates that can not be used"),
            file_errors: counter("file_errors", "Failures to write or remove files"),
            control,
            work_height: AtomicI32::new(0),
        }
    }

    pub(crate) fn work_height_is(&self, height: i32) {
        self.work_height.store(height, Ordering::Relaxed);
    }

    /// The values now.
    pub(crate) fn snapshot(&self, long_polls: usize) -> Stats {
        Stats {
            work_height: self.work_height.load(Ordering::Relaxed),
            works: self.works.get(),
            reorganisations: self.reorganisations.get(),
            refreshes: self.refreshes.get(),
            requests: self.requests.get(),
            long_polls,
            long_polls_refused: self.long_polls_refused.get(),
            lookups: self.lookups.get(),
            lookups_refused: self.lookups_refused.get(),
            node_errors: self.node_errors.get(),
            templates_refused: self.templates_refused.get(),
            file_errors: self.file_errors.get(),
            control: self.control.figures(),
        }
    }
}
