//! Uploads of shares to the block handlers (spec 05, 9.4).
//!
//! The queue is bounded and gives the newest share first. A share whose upload failed in a way that
//! may pass (time-out, broken connection, overload) goes back to its place and is tried again as
//! long as its block is mined, or was until lately; after that it is stale.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use packetcrypt_core::bytes::Hash32;
use packetcrypt_net::client::{ClientError, HttpClient, Request, Response};
use packetcrypt_net::limits;
use packetcrypt_net::seldom::Seldom;
use packetcrypt_proto::config::MasterConfig;
use packetcrypt_proto::headers;
use packetcrypt_proto::reply::Reply;
use packetcrypt_proto::share::ShareRejection;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use crate::chain::Chain;
use crate::share::Share;
use crate::stats::{ShareCounters, ShareOutcome, Ticket};

/// First and longest pause before a share is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Replies in a row that are not understood before a share is given up.
const NONSENSE_MAX: u32 = 3;
/// How long the shares at hand may take once the miner stops.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(10);
/// The warning by which our block handler tells that it knew the share (spec 05, 16.1).
const DUPLICATE_WARNING: &str = "Duplicate share";

/// A checked share on its way. It holds neither tree nor announcements.
pub(crate) struct Outgoing {
    body: Bytes,
    /// Chooses the handler.
    number: u32,
    event_id: String,
    previous_block: Hash32,
    height: u32,
    ticket: Ticket,
    /// Failed attempts.
    attempts: u32,
    nonsense: u32,
    /// An attempt may have been taken although no reply came.
    may_be_known: bool,
}

impl Outgoing {
    pub(crate) fn new(share: &Share, ticket: Ticket) -> Outgoing {
        Outgoing {
            body: Bytes::from(share.upload().to_json()),
            number: share.id(),
            event_id: share.event_id(),
            previous_block: share.job().previous_block(),
            height: share.job().height(),
            ticket,
            attempts: 0,
            nonsense: 0,
            may_be_known: false,
        }
    }
}

/// Shares that wait, by the order in which they were found.
pub(crate) struct UploadQueue {
    state: Mutex<Waiting>,
    news: Notify,
    len_max: usize,
}

#[derive(Default)]
struct Waiting {
    shares: BTreeMap<u64, Outgoing>,
    /// Shares that are tried again after a pause.
    pausing: BTreeMap<u64, Outgoing>,
    next: u64,
    /// Nothing new comes.
    ended: bool,
    /// Nothing is taken, and nothing is left.
    closed: bool,
}

impl Waiting {
    /// Takes the oldest share out when there are more than `len_max`.
    fn take_above(&mut self, len_max: usize) -> Option<Outgoing> {
        if self.shares.len() + self.pausing.len() <= len_max {
            return None;
        }
        let first = |shares: &BTreeMap<u64, Outgoing>| {
            shares.first_key_value().map_or(u64::MAX, |(place, _)| *place)
        };
        let oldest = if first(&self.pausing) < first(&self.shares) {
            self.pausing.pop_first()
        } else {
            self.shares.pop_first()
        };
        oldest.map(|(_, share)| share)
    }
}

impl UploadQueue {
    pub(crate) fn new(len_max: usize) -> UploadQueue {
        UploadQueue { state: Mutex::default(), news: Notify::new(), len_max: len_max.max(1) }
    }

    /// Adds a share; when there are too many the oldest is lost.
    pub(crate) fn push(&self, share: Outgoing) {
        let mut state = self.locked();
        let place = state.next;
        state.next += 1;
        self.put(state, place, share);
    }

    fn put(&self, mut state: MutexGuard<'_, Waiting>, place: u64, share: Outgoing) {
        if state.closed {
            drop(state);
            return share.ticket.finish(ShareOutcome::Lost);
        }
        state.shares.insert(place, share);
        let oldest = state.take_above(self.len_max);
        drop(state);
        if let Some(share) = oldest {
            share.ticket.finish(ShareOutcome::Lost);
        }
        self.news.notify_one();
    }

    /// Keeps a share aside until [`UploadQueue::put_back`].
    fn pause(&self, place: u64, share: Outgoing) {
        let mut state = self.locked();
        if state.closed {
            drop(state);
            return share.ticket.finish(ShareOutcome::Lost);
        }
        state.pausing.insert(place, share);
        let oldest = state.take_above(self.len_max);
        drop(state);
        if let Some(share) = oldest {
            share.ticket.finish(ShareOutcome::Lost);
        }
    }

    /// Puts a share that paused back to its place.
    fn put_back(&self, place: u64) {
        let mut state = self.locked();
        if let Some(share) = state.pausing.remove(&place) {
            self.put(state, place, share);
        }
    }

    /// The newest share; waits for one. `None` when the last one was given after
    /// [`UploadQueue::end`].
    async fn pop(&self) -> Option<(u64, Outgoing)> {
        loop {
            let news = self.news.notified();
            let (newest, is_end) = {
                let mut state = self.locked();
                let newest = state.shares.pop_last();
                let is_end = state.ended && state.shares.is_empty() && state.pausing.is_empty();
                if is_end || !state.shares.is_empty() {
                    // One notice may stand for several shares, and the end is for every uploader.
                    self.news.notify_one();
                }
                (newest, is_end)
            };
            match newest {
                Some(newest) => return Some(newest),
                None if is_end => return None,
                None => news.await,
            }
        }
    }

    /// Nothing new comes: the uploaders end with the last share. What pauses is tried at once: there
    /// is less time than it would wait.
    pub(crate) fn end(&self) {
        let mut state = self.locked();
        state.ended = true;
        let Waiting { shares, pausing, .. } = &mut *state;
        shares.append(pausing);
        drop(state);
        self.news.notify_one();
    }

    fn has_ended(&self) -> bool {
        self.locked().ended
    }

    /// Shares that wait for an uploader.
    pub(crate) fn len(&self) -> usize {
        let state = self.locked();
        state.shares.len() + state.pausing.len()
    }

    /// What is in the queue is lost, and what comes later.
    pub(crate) fn close(&self) {
        let shares = {
            let mut state = self.locked();
            (state.ended, state.closed) = (true, true);
            [std::mem::take(&mut state.shares), std::mem::take(&mut state.pausing)]
        };
        for share in shares.into_iter().flat_map(BTreeMap::into_values) {
            share.ticket.finish(ShareOutcome::Lost);
        }
    }

    fn locked(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an uploader needs.
pub(crate) struct Uploader {
    pub(crate) http: HttpClient,
    pub(crate) queue: Arc<UploadQueue>,
    pub(crate) chain: Arc<Chain>,
    pub(crate) config: watch::Receiver<Option<Arc<MasterConfig>>>,
    pub(crate) counters: Arc<ShareCounters>,
    pub(crate) payment_address: String,
    pub(crate) timeout: Duration,
    /// Said when a share is tried again.
    pub(crate) retries: Seldom,
    /// Said when the block handler warns.
    pub(crate) warnings: Seldom,
}

/// What the answer to an upload means.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// What became of the share.
    Done(ShareOutcome),
    /// Try again.
    Again {
        why: String,
        /// The share may have been taken nevertheless.
        may_be_known: bool,
    },
    /// The handler mines another block.
    OtherWork,
    /// The reply is none.
    Nonsense(String),
}

impl Uploader {
    /// Uploads shares until the queue has ended and is empty.
    pub(crate) async fn run(self: Arc<Self>) {
        while let Some((place, share)) = self.queue.pop().await {
            self.clone().upload(place, share).await;
        }
    }

    async fn upload(self: Arc<Self>, place: u64, mut share: Outgoing) {
        if !self.chain.takes_shares_on(&share.previous_block) {
            return share.ticket.finish(ShareOutcome::Stale);
        }
        let (url, answer) = match self.handler_of(&share) {
            None => (
                "-".to_owned(),
                Answer::Again {
                    why: "the pool names no block handler".to_owned(),
                    may_be_known: false,
                },
            ),
            Some(url) => {
                let reply = self.post(&url, &share).await;
                (url, answer_of(reply, share.may_be_known, |warning| self.said_by_handler(warning)))
            }
        };
        match answer {
            Answer::Done(outcome) => self.finish(share, &url, outcome),
            Answer::OtherWork if self.chain.is_mined_on(&share.previous_block) => {
                self.again(place, share, &url, "it is behind with its work".to_owned());
            }
            Answer::OtherWork => share.ticket.finish(ShareOutcome::Stale),
            Answer::Nonsense(what) => {
                share.nonsense += 1;
                share.may_be_known = true;
                if share.nonsense < NONSENSE_MAX {
                    self.again(place, share, &url, what);
                } else {
                    let reason = "the reply is not understood".to_owned();
                    self.finish(share, &url, ShareOutcome::Rejected(reason));
                }
            }
            Answer::Again { why, may_be_known } => {
                share.may_be_known |= may_be_known;
                self.again(place, share, &url, why);
            }
        }
    }

    /// The handler of a share: its number modulo the number of handlers. After a failure the next
    /// one, since which of them takes a share is not enforced (spec 05, 10.5).
    fn handler_of(&self, share: &Outgoing) -> Option<String> {
        let config = self.config.borrow().clone()?;
        let urls = &config.submit_block_urls;
        let first = share.number as usize % urls.len().max(1);
        urls.get((first + share.attempts as usize) % urls.len().max(1)).cloned()
    }

    async fn post(&self, url: &str, share: &Outgoing) -> Result<Response, ClientError> {
        let version = headers::MINER_SOFTWARE_VERSION.to_string();
        let fields = [
            (headers::PAY_TO, self.payment_address.as_str()),
            (headers::SOFTWARE_VERSION, version.as_str()),
            ("content-type", "application/json"),
        ];
        let request = Request::post(url, share.body.clone())
            .headers(&fields)
            .reply_bytes_max(limits::REPLY_BYTES_MAX)
            .request_ms_max(self.timeout.as_millis() as u64);
        self.http.send(request).await
    }

    /// Tries again after a pause, in the share's place in the queue.
    fn again(self: &Arc<Self>, place: u64, mut share: Outgoing, url: &str, why: String) {
        let (first, longest) = RETRY;
        let longest = if self.queue.has_ended() { first } else { longest };
        let pause = first.saturating_mul(1 << share.attempts.min(10)).min(longest);
        share.attempts += 1;
        self.counters.retried();
        if let Some(held_back) = self.retries.say() {
            tracing::warn!(
                "share {} of height {}: {url}: {why}; again in {} ms{held_back}",
                share.event_id,
                share.height,
                pause.as_millis()
            );
        }
        self.queue.pause(place, share);
        let queue = self.queue.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            queue.put_back(place);
        });
    }

    fn said_by_handler(&self, warning: &str) {
        if let Some(held_back) = self.warnings.say() {
            tracing::warn!("the block handler warns: {warning}{held_back}");
        }
    }

    fn finish(&self, share: Outgoing, url: &str, outcome: ShareOutcome) {
        let (id, height) = (&share.event_id, share.height);
        match &outcome {
            ShareOutcome::Accepted { block: true } => {
                tracing::info!("share {id} of height {height} is a BLOCK, taken by {url}");
            }
            ShareOutcome::Accepted { block: false } => {
                tracing::info!("share {id} of height {height} taken by {url}");
            }
            ShareOutcome::Duplicate => tracing::warn!("share {id} was known to {url}"),
            ShareOutcome::Rejected(reason) => {
                tracing::warn!("share {id} of height {height} refused by {url}: {reason}");
            }
            ShareOutcome::Stale | ShareOutcome::Lost => {}
        }
        share.ticket.finish(outcome);
    }
}

/// What a reply means; `may_be_known` says that an earlier attempt may have been taken, `warn` is
/// told the warnings of the reply.
fn answer_of(
    reply: Result<Response, ClientError>,
    may_be_known: bool,
    warn: impl Fn(&str),
) -> Answer {
    let reply = match reply {
        Ok(reply) => reply,
        Err(error @ ClientError::TooLong { .. }) => return Answer::Nonsense(error.to_string()),
        Err(error @ ClientError::BadUrl { .. }) => {
            return Answer::Again { why: error.to_string(), may_be_known: false };
        }
        Err(error) => return Answer::Again { why: error.to_string(), may_be_known: true },
    };
    let status = reply.status;
    match Reply::<Value>::parse(&reply.body) {
        Ok(parsed) => answer_of_reply(status, &parsed, may_be_known, warn),
        Err(_) if status >= 500 || is_for_now(status) => {
            Answer::Again { why: format!("status {status}"), may_be_known: false }
        }
        Err(error) if status == 200 => Answer::Nonsense(error.to_string()),
        Err(_) => Answer::Done(ShareOutcome::Rejected(format!("status {status}"))),
    }
}

/// Statuses that say something of the transfer and nothing of the share: it came too slowly (408),
/// or there are too many (429).
fn is_for_now(status: u16) -> bool {
    matches!(status, 408 | 429)
}

fn answer_of_reply(
    status: u16,
    reply: &Reply<Value>,
    may_be_known: bool,
    warn: impl Fn(&str),
) -> Answer {
    for warning in reply.warn.iter().filter(|warning| !warning.contains(DUPLICATE_WARNING)) {
        warn(warning);
    }
    let Some(error) = reply.error.first() else {
        // An event, or a text (spec 05, 9.4).
        if status != 200 || !matches!(reply.result, Some(Value::Object(_) | Value::String(_))) {
            return Answer::Nonsense(format!("status {status} with neither result nor error"));
        }
        let known = reply.warn.iter().any(|warning| warning.contains(DUPLICATE_WARNING));
        let field = reply.result.as_ref().and_then(|result| result.get("block"));
        let block = field.and_then(Value::as_bool).unwrap_or(false);
        // What our own first attempt left there is no duplicate.
        return Answer::Done(if known && !may_be_known {
            ShareOutcome::Duplicate
        } else {
            ShareOutcome::Accepted { block }
        });
    };
    if ShareRejection::is_stale_text(error) {
        return Answer::OtherWork;
    }
    if status >= 500 || is_for_now(status) {
        return Answer::Again { why: error.clone(), may_be_known: false };
    }
    if status == 409 && may_be_known {
        return Answer::Done(ShareOutcome::Accepted { block: true });
    }
    Answer::Done(ShareOutcome::Rejected(error.clone()))
}

#[cfg(test)]
mod tests;
