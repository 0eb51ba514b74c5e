//! The paymaker's state: takes logs, answers who is paid.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use packetcrypt_net::{Clock, progress};
use packetcrypt_proto::ids;

use crate::believed::BelievedTime;
use crate::config::Config;
use crate::event::{self, NewestError};
use crate::history::{EventCounts, History};
use crate::ledger::{Arrival, Ledger, LedgerError, Order, Replayed, Stored};
use crate::payout::SentMaps;
use crate::stats::{Counters, Stats};
use crate::whotopay::{PayRules, WhoToPay, who_to_pay};

/// Files between two collections of garbage at a restart by name (spec 05, 12.7).
const GARBAGE_EVERY: usize = 100;
/// How long an answer is given again while nothing arrives, ms: the address is public and the
/// computation goes over the whole history (spec 05, 16.19).
const CACHE_MS: u64 = 1000;

/// Why a log is not acknowledged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    /// It is not UTF-8.
    #[error("the log is not valid UTF-8")]
    NotText,
    /// It has no usable time.
    #[error(transparent)]
    Newest(#[from] NewestError),
    /// The history is not read yet.
    #[error("500 Not ready")]
    NotReady,
    /// It can not be stored.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

#[derive(Debug)]
struct Cached {
    revision: u64,
    at_ms: u64,
    answer: Arc<WhoToPay>,
}

pub(crate) struct Service {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counters: Counters,
    pub(crate) sent: SentMaps,
    rules: PayRules,
    /// Locked over storing and taking: logs are taken strictly one after the other.
    ledger: Mutex<Box<dyn Ledger>>,
    /// `None` while it is read. Locked as long as an answer takes, so by no task of the runtime.
    history: Mutex<Option<History>>,
    /// What is told of the history, `None` while it is read.
    figures: Mutex<Option<Figures>>,
    computing: Mutex<()>,
    cache: Mutex<Option<Cached>>,
    revision: AtomicU64,
    /// Lines read at start.
    read_back: AtomicU64,
    /// Judges the times of events.
    time: Mutex<BelievedTime>,
    pruned: Mutex<Option<Pruned>>,
}

/// Counts of a history.
#[derive(Clone, Copy, Debug)]
struct Figures {
    events: EventCounts,
    /// Blocks, slots, shares.
    sizes: (usize, usize, usize),
}

impl Figures {
    fn of(history: &History) -> Self {
        Self { events: history.counts(), sizes: history.sizes() }
    }
}

/// When old logs were looked for last.
#[derive(Clone, Copy, Debug)]
struct Pruned {
    /// Steady time, ms.
    steady_ms: u64,
    /// Time of the newest event then, ms.
    newest_ms: f64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under a lock would be a fault of the program; the state is still the best there is.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    pub(crate) fn new(
        config: Config,
        clock: Arc<dyn Clock>,
        ledger: Box<dyn Ledger>,
        counters: Counters,
    ) -> Self {
        Self {
            rules: config.pay_rules(),
            time: Mutex::new(BelievedTime::new(&clock)),
            config,
            clock,
            counters,
            sent: SentMaps::default(),
            ledger: Mutex::new(ledger),
            history: Mutex::new(None),
            figures: Mutex::new(None),
            computing: Mutex::new(()),
            cache: Mutex::new(None),
            revision: AtomicU64::new(0),
            read_back: AtomicU64::new(0),
            pruned: Mutex::new(None),
        }
    }

    fn now_ms(&self) -> f64 {
        self.clock.now_ms() as f64
    }

    /// Reads the history. Blocks.
    pub(crate) fn load(&self) -> Result<(), LedgerError> {
        let mut ledger = lock(&self.ledger);
        let mut history = History::new(self.config.history_rules());
        let what = format!("reading the history in {}", self.config.dir.display());
        progress::said(&what, || read_history(ledger.as_mut(), &mut history, self.now_ms()))?;
        self.prune(ledger.as_mut(), &history);
        tracing::info!(events = ?history.counts(), "history is read");
        self.read_back.store(history.counts().received, Ordering::Relaxed);
        history.set_counts(EventCounts::default());
        let figures = Figures::of(&history);
        *lock(&self.history) = Some(history);
        *lock(&self.figures) = Some(figures);
        Ok(())
    }

    pub(crate) fn is_ready(&self) -> bool {
        lock(&self.figures).is_some()
    }

    /// Takes a posted log; gives its id once it is durable and counted. Blocks.
    pub(crate) fn post(&self, body: &[u8]) -> Result<String, PostError> {
        let outcome = self.take(body);
        match &outcome {
            Ok(_) => self.counters.posts_accepted.inc(),
            Err(PostError::NotText | PostError::Newest(_)) => self.counters.posts_refused.inc(),
            Err(cause) => {
                tracing::error!(%cause, "a log could not be stored");
                self.counters.posts_failed.inc()
            }
        };
        outcome
    }

    fn take(&self, body: &[u8]) -> Result<String, PostError> {
        let log = std::str::from_utf8(body).map_err(|_| PostError::NotText)?;
        let id = ids::file_id(body);
        let mut ledger = lock(&self.ledger);
        let known_ms = lock(&self.history).as_ref().ok_or(PostError::NotReady)?.newest_ms();
        let now_ms = lock(&self.time).now_ms(&self.clock, known_ms);
        let newest_ms = event::newest_time(log, now_ms)?;
        let stored = ledger.store(&Arrival { now_ms, known_ms, newest_ms }, &id, log)?;
        let mut history = lock(&self.history);
        let history = history.as_mut().ok_or(PostError::NotReady)?;
        let counts = history.counts();
        history.take_log(log, newest_ms, now_ms);
        if stored == Stored::Again {
            self.counters.posts_repeated.inc();
            history.set_counts(counts);
        }
        *lock(&self.figures) = Some(Figures::of(history));
        self.revision.fetch_add(1, Ordering::Relaxed);
        self.prune(ledger.as_mut(), history);
        Ok(id)
    }

    /// Deletes logs older than twice the history (the oldest credit depends on no older one), not
    /// at each post. Goes by the newest event that was known at the last look, a tenth of the
    /// history ago, and never beyond the clock: a wrong time lets the memory forget, but what it
    /// forgot can be read again without the log of that time.
    fn prune(&self, ledger: &mut dyn Ledger, history: &History) {
        if self.config.keep_old_logs {
            return;
        }
        let depth_ms = history.rules().depth_ms;
        let now = Pruned { steady_ms: self.clock.steady_ms(), newest_ms: history.newest_ms() };
        let mut pruned = lock(&self.pruned);
        let known_ms = match *pruned {
            Some(last)
                if (now.steady_ms.saturating_sub(last.steady_ms) as f64) < depth_ms / 10.0 =>
            {
                return;
            }
            Some(last) => last.newest_ms,
            None => now.newest_ms,
        };
        *pruned = Some(now);
        match ledger.prune(known_ms.min(self.now_ms()) - 2.0 * depth_ms) {
            Ok(removed) => drop(self.counters.logs_pruned.inc_by(removed as u64)),
            Err(cause) => tracing::warn!(%cause, "old logs could not be deleted"),
        }
    }

    /// The answer, or `None` while the history is read.
    pub(crate) async fn who_to_pay(self: &Arc<Self>, max_time: f64) -> Option<Arc<WhoToPay>> {
        let service = self.clone();
        tokio::task::spawn_blocking(move || service.compute(max_time)).await.ok()?
    }

    /// The answer, computed when the last one is not good any more. Blocks.
    pub(crate) fn compute(&self, max_time: f64) -> Option<Arc<WhoToPay>> {
        // One computation at a time, whoever wants it.
        let _turn = lock(&self.computing);
        let is_whole = max_time == f64::INFINITY;
        if let Some(answer) = self.still_good().filter(|_| is_whole) {
            return Some(answer);
        }
        let at_ms = self.clock.now_ms();
        let revision = self.revision.load(Ordering::Relaxed);
        let history = lock(&self.history);
        let answer = who_to_pay(history.as_ref()?, &self.rules, at_ms as f64, max_time);
        let answer = Arc::new(answer);
        if is_whole {
            *lock(&self.cache) = Some(Cached { revision, at_ms, answer: answer.clone() });
        }
        Some(answer)
    }

    /// The last answer for all times, while nothing arrived and it is not a second old.
    pub(crate) fn still_good(&self) -> Option<Arc<WhoToPay>> {
        let (at_ms, revision) = (self.clock.now_ms(), self.revision.load(Ordering::Relaxed));
        let cache = lock(&self.cache);
        let is_good = |it: &&Cached| it.revision == revision && at_ms.abs_diff(it.at_ms) < CACHE_MS;
        cache.as_ref().filter(is_good).map(|cached| cached.answer.clone())
    }

    /// The counters, without the maps.
    pub(crate) fn stats(&self) -> Stats {
        let figures = *lock(&self.figures);
        let (blocks, slots, shares) = figures.map_or((0, 0, 0), |figures| figures.sizes);
        let counters = &self.counters;
        Stats {
            is_ready: figures.is_some(),
            requests: counters.requests.get(),
            overloaded: counters.overloaded.get(),
            public_overloaded: counters.public_overloaded.get(),
            unauthorized: counters.unauthorized.get(),
            posts_accepted: counters.posts_accepted.get(),
            posts_refused: counters.posts_refused.get(),
            posts_cut: counters.posts_cut.get(),
            posts_failed: counters.posts_failed.get(),
            events: figures.map(|figures| figures.events).unwrap_or_default(),
            events_read_back: self.read_back.load(Ordering::Relaxed),
            posts_repeated: counters.posts_repeated.get(),
            blocks,
            slots,
            shares,
            logs_pruned: counters.logs_pruned.get(),
            payouts_accepted: counters.payouts_accepted.get(),
            payouts_refused: counters.payouts_refused.get(),
            payouts_sent_again: counters.payouts_sent_again.get(),
            control: counters.control.figures(),
            nodes_away: u64::try_from(counters.nodes_away.get()).unwrap_or(0),
            sent_maps: Vec::new(),
        }
    }
}

/// Fills a history from a ledger: in order of arrival, or by the reference's rules (spec 05, 12.7)
/// when the history makes slots as the reference does.
///
/// # Errors
/// [`LedgerError`] when it can not be read; the history is then of no use.
pub fn read_history(
    ledger: &mut dyn Ledger,
    history: &mut History,
    now_ms: f64,
) -> Result<(), LedgerError> {
    let order = if history.rules().reference_slots { Order::Name } else { Order::Arrival };
    let depth_ms = history.rules().depth_ms;
    ledger.replay(order, now_ms, depth_ms, &mut |step| match step {
        Replayed::Log(arrival, log) => {
            history.set_newest_ms(arrival.known_ms);
            history.take_log(log, arrival.newest_ms, arrival.now_ms);
        }
        Replayed::Unknown(newest_ms) => {
            history.set_newest_ms(history.newest_ms().max(newest_ms));
        }
        Replayed::Named(index, now_ms, log) => {
            if index % GARBAGE_EVERY == 0 {
                history.collect_garbage();
            }
            history.take_lines(log, now_ms);
        }
    })?;
    history.collect_garbage();
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
