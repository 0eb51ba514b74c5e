//! What a paymaker counts.

use packetcrypt_net::control::{ControlCounters, ControlFigures};
use packetcrypt_net::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;

use crate::history::EventCounts;
use crate::payout::SentMap;

/// A snapshot; counters run from the start of the paymaker. Every request is counted once in
/// `requests`; every post of an authorised peer once more in one of the `posts_` counters, unless
/// its body never arrived.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Whether the history is read, so that posts are taken.
    pub is_ready: bool,
    /// Requests, whatever the answer.
    pub requests: u64,
    /// ... answered 501 because too many were in progress.
    pub overloaded: u64,
    /// ... of the public answered 501 because too many waited for an answer.
    pub public_overloaded: u64,
    /// ... answered 401.
    pub unauthorized: u64,
    /// Posts stored and acknowledged.
    pub posts_accepted: u64,
    /// Posts answered 400, 413 or 425: no text, no time, too long, too far ahead.
    pub posts_refused: u64,
    /// Posts answered 408 because their body did not arrive whole.
    pub posts_cut: u64,
    /// Posts answered 500 because they could not be stored.
    pub posts_failed: u64,
    /// What became of the lines of accepted posts; those of a log that was stored before are not
    /// counted again.
    pub events: EventCounts,
    /// Lines read back at start.
    pub events_read_back: u64,
    /// Posts accepted that were stored before.
    pub posts_repeated: u64,
    /// Blocks remembered.
    pub blocks: usize,
    /// Announcement slots remembered.
    pub slots: usize,
    /// Shares remembered.
    pub shares: usize,
    /// Logs deleted because they are of no more use.
    pub logs_pruned: u64,
    /// Maps the node took.
    pub payouts_accepted: u64,
    /// Maps the node refused, or may not have got. One that is not to be reached gets none.
    pub payouts_refused: u64,
    /// Maps sent out of turn because the node was away or paid somebody else.
    pub payouts_sent_again: u64,
    /// Connections, those of `/metrics` too.
    pub control: ControlFigures,
    /// Nodes that are not to be reached now.
    pub nodes_away: u64,
    /// The maps, oldest first; see [`SentMaps::all`](crate::SentMaps::all). Not in `/stats.json`.
    #[serde(skip)]
    pub sent_maps: Vec<SentMap>,
}

/// The counters behind [`Stats`].
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) requests: Counter,
    pub(crate) overloaded: Counter,
    pub(crate) public_overloaded: Counter,
    pub(crate) unauthorized: Counter,
    pub(crate) posts_accepted: Counter,
    pub(crate) posts_repeated: Counter,
    pub(crate) posts_refused: Counter,
    pub(crate) posts_cut: Counter,
    pub(crate) posts_failed: Counter,
    pub(crate) logs_pruned: Counter,
    pub(crate) payouts_accepted: Counter,
    pub(crate) payouts_refused: Counter,
    pub(crate) payouts_sent_again: Counter,
    pub(crate) control: ControlCounters,
    pub(crate) nodes_away: Gauge,
}

impl Counters {
    pub(crate) fn new(metrics: &mut Metrics) -> Self {
        let control = ControlCounters::default();
        control.register(metrics);
        let nodes_away = metrics.gauge("nodes_away", "Nodes that are not to be reached now");
        let mut counter = |name: &str, help: &str| metrics.counter(name, help);
        Self {
            control,
            requests: counter("requests", "Requests"),
            overloaded: counter("overloaded", "Requests refused: too many in progress"),
            public_overloaded: counter("public_overloaded", "Requests of the public refused"),
            unauthorized: counter("unauthorized", "Requests with a wrong password"),
            posts_accepted: counter("posts_accepted", "Logs stored and acknowledged"),
            posts_repeated: counter("posts_repeated", "Logs that were stored before"),
            posts_refused: counter("posts_refused", "Logs that can not be taken"),
            posts_cut: counter("posts_cut", "Logs that did not arrive whole"),
            posts_failed: counter("posts_failed", "Logs that could not be stored"),
            logs_pruned: counter("logs_pruned", "Logs deleted as older than the history"),
            payouts_accepted: counter("payouts_accepted", "Maps taken by the node"),
            payouts_refused: counter("payouts_refused", "Maps refused by the node"),
            payouts_sent_again: counter("payouts_sent_again", "Maps sent out of turn"),
            nodes_away,
        }
    }
}
