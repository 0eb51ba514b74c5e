//! Figures, each with one definition.
//!
//! Announcements are conserved: at any moment
//! `received = accepted + duplicate + rejected + overloaded + lost + in_flight`, where *received*
//! counts the announcements of bodies that came whole. The same holds for posts, whose *answered*
//! kinds are accepted, refused, overloaded and lost.

use std::fmt::Write as _;

use packetcrypt_net::control::{ControlCounters, ControlFigures};
use packetcrypt_net::http1::Http1Snapshot;
use packetcrypt_net::paylog::PayLogStats;
use packetcrypt_net::pool_client::PoolStatus;
use packetcrypt_net::sprayer::SprayerStats;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use serde::Serialize;

use crate::admit::{AnnRefusal, Overload, Refusal};
use crate::overload::SourceStats;

/// The counters of a handler, registered for `/metrics`.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) posts_received: Counter,
    pub(crate) posts_accepted: Counter,
    pub(crate) posts_refused: Counter,
    pub(crate) posts_overloaded: Counter,
    pub(crate) posts_lost: Counter,
    pub(crate) anns_received: Counter,
    pub(crate) anns_accepted: Counter,
    pub(crate) anns_duplicate: Counter,
    pub(crate) anns_rejected: Counter,
    pub(crate) anns_overloaded: Counter,
    pub(crate) anns_lost: Counter,
    pub(crate) heads_refused: Counter,
    pub(crate) heads_overloaded: Counter,
    pub(crate) timeouts: Counter,
    pub(crate) proofs_checked: Counter,
    pub(crate) proofs_skipped: Counter,
    pub(crate) worker_panics: Counter,
    pub(crate) commits: Counter,
    pub(crate) commit_failures: Counter,
    pub(crate) bytes_downloaded: Counter,
    pub(crate) downloads: Counter,
    pub(crate) downloads_refused: Counter,
    pub(crate) control: ControlCounters,
    refusals: Family<Reason, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// A snapshot of all figures.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stats {
    /// Posts whose body came whole.
    pub posts: Flow,
    /// The announcements in them.
    pub announcements: AnnFlow,
    /// Posts refused by their head alone; their bodies are in no other figure.
    pub heads_refused: u64,
    /// Posts answered `overloaded` by their head alone.
    pub heads_overloaded: u64,
    /// All answers `overloaded` (the `overloads` of the statistics line, spec 05, 6.5).
    pub overloads: u64,
    /// Posts given up, and replies of any kind that the client did not take (the `timeout` of that line).
    pub timeouts: u64,
    /// Posts that wait for a worker (the `q` of that line).
    pub queue_len: usize,
    /// Bytes of bodies in memory.
    pub body_bytes: usize,
    /// Proofs checked.
    pub proofs_checked: u64,
    /// Proofs not checked because of `skip_check_chance`.
    pub proofs_skipped: u64,
    /// Checks that panicked: a fault of ours; the posts are among the lost.
    pub worker_panics: u64,
    /// Batches of posts made durable together.
    pub commits: u64,
    /// Batches that could not be made durable; their posts were answered `overloaded`.
    pub commit_failures: u64,
    /// Announcement files there are.
    pub files: usize,
    /// Runs of announcements that a power failure damaged.
    pub damaged_runs: u64,
    /// Range downloads answered with data.
    pub downloads: u64,
    /// Requests for files or their index from addresses that may not download.
    pub downloads_refused: u64,
    /// Bytes of announcements sent to downloaders.
    pub bytes_downloaded: u64,
    /// The parent blocks whose announcements are taken, highest first.
    pub parents: Vec<ParentStats>,
    /// Refused posts by reason.
    pub refusals: std::collections::BTreeMap<&'static str, u64>,
    /// The sources with the most refused work.
    pub sources: Vec<SourceStats>,
    /// Connections and requests of miners and downloaders.
    pub http: Http1Snapshot,
    /// Connections to `/metrics` and `/stats.json`.
    pub control: ControlFigures,
    /// The pay log; `None` in figures of the counters alone.
    pub pay_log: Option<PayLogStats>,
    /// The client of the master; `None` in figures of the counters alone.
    pub pool: Option<PoolStatus>,
    /// The sprayer; `None` when there is none.
    pub sprayer: Option<SprayerStats>,
}

/// What became of posts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// Bodies that came whole.
    pub received: u64,
    /// Answered 200.
    pub accepted: u64,
    /// Answered 4xx.
    pub refused: u64,
    /// Answered 503.
    pub overloaded: u64,
    /// Given up: the client had gone before the work began, or the handler ended.
    pub lost: u64,
    /// Not answered yet.
    pub in_flight: u64,
}

/// What became of announcements.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AnnFlow {
    /// In bodies that came whole.
    pub received: u64,
    /// New, in a file and in the pay log.
    pub accepted: u64,
    /// Known before, or earlier in the same post; of accepted posts.
    pub duplicate: u64,
    /// Of refused posts, the good ones too.
    pub rejected: u64,
    /// Of posts answered 503.
    pub overloaded: u64,
    /// Of posts that were given up.
    pub lost: u64,
    /// Of posts that are not answered yet.
    pub in_flight: u64,
}

/// One parent block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParentStats {
    /// Its height.
    pub height: i32,
    /// Its hash, display order.
    pub hash: String,
    /// Known announcements.
    pub known: usize,
    /// The greatest number of them.
    pub capacity: usize,
}

impl Counters {
    /// Registers all counters.
    pub(crate) fn new(metrics: &mut packetcrypt_net::metrics::Metrics) -> Self {
        let control = ControlCounters::default();
        control.register(metrics);
        let refusals = Family::default();
        let help = "Posts refused or overloaded, by reason";
        metrics.registry_mut().register("refusals", help, Family::clone(&refusals));
        let mut counter = |name: &str, help: &str| metrics.counter(name, help);
        Self {
            posts_received: counter("posts_received", "Posts whose body came whole"),
            posts_accepted: counter("posts_accepted", "Posts answered 200"),
            posts_refused: counter("posts_refused", "Posts answered 4xx"),
            posts_overloaded: counter("posts_overloaded", "Posts answered 503"),
            posts_lost: counter("posts_lost", "Posts given up without an answer"),
            anns_received: counter("anns_received", "Announcements in bodies that came whole"),
            anns_accepted: counter("anns_accepted", "New announcements, stored and logged"),
            anns_duplicate: counter("anns_duplicate", "Known announcements of accepted posts"),
            anns_rejected: counter("anns_rejected", "Announcements of refused posts"),
            anns_overloaded: counter("anns_overloaded", "Announcements of posts answered 503"),
            anns_lost: counter("anns_lost", "Announcements of posts given up"),
            heads_refused: counter("heads_refused", "Posts refused by their head alone"),
            heads_overloaded: counter("heads_overloaded", "Posts answered 503 by their head"),
            timeouts: counter("timeouts", "Posts whose client was gone before the reply"),
            proofs_checked: counter("proofs_checked", "Proofs of announcements checked"),
            proofs_skipped: counter("proofs_skipped", "Proofs not checked by configuration"),
            worker_panics: counter("worker_panics", "Checks that panicked"),
            commits: counter("commits", "Batches of posts made durable together"),
            commit_failures: counter("commit_failures", "Batches that could not be made durable"),
            downloads: counter("downloads", "Range downloads answered with data"),
            downloads_refused: counter("downloads_refused", "Downloads from other addresses"),
            bytes_downloaded: counter("bytes_downloaded", "Announcement bytes sent"),
            control,
            refusals,
        }
    }

    /// Counts a refusal by its reason; the kinds are counted where the post is answered.
    pub(crate) fn refused_because(&self, refusal: &Refusal) {
        self.refusals.get_or_create(&Reason { reason: reason(refusal) }).inc();
    }

    /// The figures of the counters; the others are zero.
    pub(crate) fn snapshot(&self) -> Stats {
        // The parts first, the whole last: nothing in flight is ever counted negative.
        let mut posts = Flow {
            accepted: self.posts_accepted.get(),
            refused: self.posts_refused.get(),
            overloaded: self.posts_overloaded.get(),
            lost: self.posts_lost.get(),
            ..Flow::default()
        };
        let mut anns = AnnFlow {
            accepted: self.anns_accepted.get(),
            duplicate: self.anns_duplicate.get(),
            rejected: self.anns_rejected.get(),
            overloaded: self.anns_overloaded.get(),
            lost: self.anns_lost.get(),
            ..AnnFlow::default()
        };
        posts.received = self.posts_received.get();
        anns.received = self.anns_received.get();
        let answered = posts.accepted + posts.refused + posts.overloaded + posts.lost;
        posts.in_flight = posts.received.saturating_sub(answered);
        let answered = anns.accepted + anns.duplicate + anns.rejected + anns.overloaded + anns.lost;
        anns.in_flight = anns.received.saturating_sub(answered);
        let refusals = REASONS
            .iter()
            .map(|&reason| (reason, self.refusals.get_or_create(&Reason { reason }).get()))
            .filter(|(_, count)| *count > 0)
            .collect();
        Stats {
            overloads: posts.overloaded + self.heads_overloaded.get(),
            posts,
            announcements: anns,
            heads_refused: self.heads_refused.get(),
            heads_overloaded: self.heads_overloaded.get(),
            timeouts: self.timeouts.get(),
            proofs_checked: self.proofs_checked.get(),
            proofs_skipped: self.proofs_skipped.get(),
            worker_panics: self.worker_panics.get(),
            commits: self.commits.get(),
            commit_failures: self.commit_failures.get(),
            downloads: self.downloads.get(),
            downloads_refused: self.downloads_refused.get(),
            bytes_downloaded: self.bytes_downloaded.get(),
            control: self.control.figures(),
            refusals,
            ..Stats::default()
        }
    }
}

/// Every reason that [`reason`] gives.
const REASONS: &[&str] = &[
    "missing_header",
    "invalid_header",
    "not_ready",
    "other_height",
    "invalid_payto",
    "bad_size",
    "too_big",
    "block_changed",
    "overload_queue",
    "overload_body_memory",
    "overload_source_body_memory",
    "overload_known_announcements",
    "overload_storage",
    "disconnected",
    "over_budget",
    "wrong_signing_key",
    "unexpected_signed",
    "wrong_height",
    "not_enough_work",
    "zero_or_fff_hash",
    "submit_elsewhere",
    "unsupported_version",
    "proof",
];

fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::MissingHeader(_) => "missing_header",
        Refusal::InvalidHeader(_) => "invalid_header",
        Refusal::NotReady => "not_ready",
        Refusal::OtherHeight { .. } => "other_height",
        Refusal::PayTo(_) => "invalid_payto",
        Refusal::BadSize => "bad_size",
        Refusal::TooBig(_) => "too_big",
        Refusal::BlockChanged => "block_changed",
        Refusal::Overloaded(Overload::Queue) => "overload_queue",
        Refusal::Overloaded(Overload::BodyMemory) => "overload_body_memory",
        Refusal::Overloaded(Overload::SourceBodyMemory) => "overload_source_body_memory",
        Refusal::Overloaded(Overload::KnownAnnouncements) => "overload_known_announcements",
        Refusal::Overloaded(Overload::Storage) => "overload_storage",
        Refusal::Disconnected => "disconnected",
        Refusal::OverBudget => "over_budget",
        Refusal::Announcement(refusal) => match refusal {
            AnnRefusal::WrongSigningKey => "wrong_signing_key",
            AnnRefusal::UnexpectedSigned => "unexpected_signed",
            AnnRefusal::WrongHeight { .. } => "wrong_height",
            AnnRefusal::NotEnoughWork => "not_enough_work",
            AnnRefusal::ZeroOrFffHash => "zero_or_fff_hash",
            AnnRefusal::SubmitElsewhere => "submit_elsewhere",
            AnnRefusal::UnsupportedVersion => "unsupported_version",
            AnnRefusal::Proof(_) => "proof",
        },
    }
}

/// The connections and requests of miners and downloaders in the text form of `/metrics`: they are
/// counted by the server, not by a registry.
pub(crate) fn http_metrics(http: &Http1Snapshot) -> String {
    let mut text = String::new();
    // Writing into a String does not fail.
    let _ =
        writeln!(text, "# HELP packetcrypt_handler_http_connections_open Connections open now.");
    let _ = writeln!(text, "# TYPE packetcrypt_handler_http_connections_open gauge");
    let _ = writeln!(text, "packetcrypt_handler_http_connections_open {}", http.connections_open);
    for (name, help, value) in http.counters() {
        let name = format!("packetcrypt_handler_http_{}", name.trim_end_matches("_total"));
        let _ = writeln!(text, "# HELP {name} {help}");
        let _ = writeln!(text, "# TYPE {name} counter");
        let _ = writeln!(text, "{name}_total {value}");
    }
    text
}

/// The budgets of sources in the text form of `/metrics`. They are no part of a registry: who is
/// shown changes with every scrape.
pub(crate) fn source_metrics(sources: &[SourceStats]) -> String {
    type Value = fn(&SourceStats) -> u64;
    let families: [(&str, &str, Value); 3] = [
        ("source_refused_cost", "Recent cost of refused work of a source", |of| of.bad_cost),
        ("source_good_cost", "Recent cost of accepted work of a source", |of| of.good_cost),
        ("source_over_budget", "1 when posts of a source are turned away", |of| {
            u64::from(of.is_over_budget)
        }),
    ];
    let mut text = String::new();
    for (name, help, value) in families {
        // Writing into a String does not fail.
        let _ = writeln!(text, "# HELP packetcrypt_handler_{name} {help}.");
        let _ = writeln!(text, "# TYPE packetcrypt_handler_{name} gauge");
        for of in sources {
            let (source, value) = (of.source, value(of));
            let _ = writeln!(text, "packetcrypt_handler_{name}{{source=\"{source}\"}} {value}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_answered_is_in_flight() {
        let mut metrics = packetcrypt_net::metrics::Metrics::new("handler");
        let counters = Counters::new(&mut metrics);
        counters.posts_received.inc_by(5);
        counters.posts_accepted.inc_by(2);
        counters.posts_overloaded.inc_by(1);
        counters.anns_received.inc_by(50);
        counters.anns_accepted.inc_by(18);
        counters.anns_duplicate.inc_by(2);
        counters.anns_overloaded.inc_by(10);
        counters.refused_because(&Refusal::Overloaded(Overload::SourceBodyMemory));
        let stats = counters.snapshot();
        assert_eq!((stats.posts.in_flight, stats.announcements.in_flight), (2, 20));
        assert_eq!(stats.refusals["overload_source_body_memory"], 1);
        let line = "refusals_total{reason=\"overload_source_body_memory\"} 1";
        assert!(metrics.encode().contains(line));
    }

    #[test]
    fn connections_are_shown() {
        let http = Http1Snapshot { connections_refused_total: 3, ..Http1Snapshot::default() };
        let text = http_metrics(&http);
        let want = "# HELP packetcrypt_handler_http_connections_refused Connections answered 503 \
                    because there were too many.\n\
                    # TYPE packetcrypt_handler_http_connections_refused counter\n\
                    packetcrypt_handler_http_connections_refused_total 3\n";
        assert!(text.contains(want), "{text}");
    }

    #[test]
    fn every_reason_is_in_the_list() {
        let refusals = [
            Refusal::NotReady,
            Refusal::PayTo(packetcrypt_proto::address::HandlerAddressError::TooLong),
            Refusal::BadSize,
            Refusal::TooBig(1),
            Refusal::BlockChanged,
            Refusal::Overloaded(Overload::Queue),
            Refusal::Overloaded(Overload::BodyMemory),
            Refusal::Overloaded(Overload::KnownAnnouncements),
            Refusal::Overloaded(Overload::Storage),
            Refusal::Disconnected,
            Refusal::OverBudget,
            Refusal::Announcement(AnnRefusal::Proof("INVAL")),
            Refusal::Announcement(AnnRefusal::ZeroOrFffHash),
        ];
        for refusal in refusals {
            assert!(REASONS.contains(&reason(&refusal)), "{refusal}");
        }
    }
}
