//! The queue of batches for one handler, and the uploads that empty it.
//!
//! Newest first: an announcement loses half of its value with each block. A post that was not
//! taken (handler busy, connection lost, no answer) is tried again while its announcements can
//! still be accepted; what can not be delivered is counted, never forgotten.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use packetcrypt_net::Shutdown;
use packetcrypt_net::client::{HttpClient, Request};
use packetcrypt_proto::events::AnnsEvent;
use packetcrypt_proto::headers;
use packetcrypt_proto::reply::Reply;
use tokio::sync::Notify;

use crate::batch::Batch;
use crate::stats::PoolCounters;

/// A handler keeps the blocks of the last six heights (spec 05, 6.1): older parents are refused.
const HANDLER_HEIGHTS: u32 = 6;
/// Attempts to deliver one batch at the most.
const ATTEMPTS_MAX: u32 = 8;
/// Wait before the second attempt; doubled for each further one.
const RETRY_WAIT_MS: u64 = 250;
/// Longest wait between two attempts.
const RETRY_WAIT_MS_MAX: u64 = 8_000;
/// A reply is a few hundred bytes.
const REPLY_BYTES_MAX: usize = 64 * 1024;
/// The text of [`headers::MINER_SOFTWARE_VERSION`].
const SOFTWARE_VERSION_TEXT: &str = "1";
const _: () = assert!(headers::MINER_SOFTWARE_VERSION == 1);

/// What one handler needs to know about the pool it belongs to.
#[derive(Debug)]
pub(crate) struct UploadContext {
    pub(crate) http: HttpClient,
    pub(crate) pay_to: String,
    pub(crate) timeout_ms: u64,
    pub(crate) queue_len_max: usize,
    pub(crate) counters: Arc<PoolCounters>,
    /// Greatest height of which announcements may be made at present.
    pub(crate) tip_height: AtomicU32,
    pub(crate) shutdown: Shutdown,
}

/// A batch and how often it was tried.
#[derive(Debug)]
struct Pending {
    batch: Batch,
    attempts: u32,
}

/// The queue of one handler.
#[derive(Debug)]
pub(crate) struct HandlerQueue {
    url: String,
    queue: Mutex<VecDeque<Pending>>,
    /// Wakes one uploader for each batch.
    arrived: Notify,
    /// No more uploads: the handler left the list of the pool, or the miner ends.
    closed: Shutdown,
}

/// How one attempt ended.
enum Outcome {
    /// The handler answered with a result.
    Taken(Box<AnnsEvent>),
    /// The handler refused the post for this reason.
    Refused(String),
    /// The handler is too busy.
    Overloaded,
    /// The handler refused the post for a reason that may pass.
    NotYet(String),
    /// No answer, or none that can be understood.
    NoAnswer(String),
}

impl HandlerQueue {
    pub(crate) fn start(url: &str, uploaders: usize, context: &Arc<UploadContext>) -> Arc<Self> {
        let queue = Arc::new(Self {
            url: url.to_owned(),
            queue: Mutex::default(),
            arrived: Notify::new(),
            closed: Shutdown::new(),
        });
        for _ in 0..uploaders {
            tokio::spawn(Arc::clone(&queue).run(Arc::clone(context)));
        }
        queue
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Puts a batch in front of the queue; drops the oldest when it is full.
    pub(crate) fn push(&self, batch: Batch, context: &UploadContext) {
        self.put(Pending { batch, attempts: 0 }, context);
    }

    fn put(&self, pending: Pending, context: &UploadContext) {
        let added = pending.batch.len() as u64;
        let dropped = {
            let mut queue = self.lock();
            queue.push_back(pending);
            if queue.len() > context.queue_len_max { queue.pop_front() } else { None }
        };
        let dropped = dropped.map_or(0, |old| old.batch.len() as u64);
        context.counters.update(|c| {
            c.queued = c.queued + added - dropped;
            c.overflow += dropped;
        });
        self.arrived.notify_one();
    }

    /// Ends the uploaders; what still waits is counted as failed.
    pub(crate) fn close(&self, context: &UploadContext) {
        self.closed.trigger();
        let left: u64 = self.lock().drain(..).map(|p| p.batch.len() as u64).sum();
        context.counters.update(|c| {
            c.queued -= left;
            c.failed += left;
        });
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Pending>> {
        self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// One uploader: newest batch first, until closed.
    async fn run(self: Arc<Self>, context: Arc<UploadContext>) {
        loop {
            let next = self.lock().pop_back();
            let Some(pending) = next else {
                tokio::select! {
                    () = self.arrived.notified() => continue,
                    () = self.closed.cancelled() => return,
                }
            };
            let len = pending.batch.len() as u64;
            context.counters.update(|c| {
                c.queued -= len;
                c.uploading += len;
            });
            let outcome = self.attempt(&pending.batch, &context).await;
            self.settle(pending, outcome, &context).await;
        }
    }

    async fn attempt(&self, batch: &Batch, context: &UploadContext) -> Outcome {
        if host_is_invalid(&self.url) {
            return Outcome::Refused("handler host is \"invalid\"".to_owned());
        }
        let work_number = (batch.parent_height + 1).to_string();
        let fields = [
            (headers::PAY_TO, context.pay_to.as_str()),
            (headers::SOFTWARE_VERSION, SOFTWARE_VERSION_TEXT),
            (headers::ANNOUNCEMENT_VERSION, "1"),
            (headers::WORK_NUMBER, &work_number),
        ];
        let request = Request::post(&self.url, batch.bytes.clone())
            .headers(&fields)
            .request_ms_max(context.timeout_ms)
            .reply_bytes_max(REPLY_BYTES_MAX);
        let answer = tokio::select! {
            answer = context.http.send(request) => answer,
            () = self.closed.cancelled() => return Outcome::NoAnswer("stopped".to_owned()),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Outcome::NoAnswer(error.to_string()),
        };
        match Reply::<AnnsEvent>::parse(&answer.body) {
            Ok(reply) => match (reply.error.into_iter().next(), reply.result) {
                (Some(error), _) if error == "overloaded" => Outcome::Overloaded,
                (Some(error), _) if answer.status == 429 || may_pass(&error, batch) => {
                    Outcome::NotYet(error)
                }
                (Some(error), _) => Outcome::Refused(error),
                (None, Some(event)) => Outcome::Taken(Box::new(event)),
                (None, None) => Outcome::NoAnswer("reply without error and result".to_owned()),
            },
            Err(_) if matches!(answer.status, 429 | 503) => Outcome::Overloaded,
            Err(error) => Outcome::NoAnswer(format!("status {}: {error}", answer.status)),
        }
    }

    async fn settle(&self, mut pending: Pending, outcome: Outcome, context: &UploadContext) {
        let len = pending.batch.len() as u64;
        match outcome {
            Outcome::Taken(event) => context.counters.update(|c| {
                let accepted = u64::from(event.accepted).min(len);
                let duplicate = u64::from(event.dup).min(len - accepted);
                c.uploading -= len;
                c.accepted += accepted;
                c.duplicate += duplicate;
                let rest = len - accepted - duplicate;
                if rest > 0 {
                    *c.rejected.entry("not accepted, no reason given".to_owned()).or_default() +=
                        rest;
                }
            }),
            Outcome::Refused(reason) => self.refused(len, &reason, context),
            Outcome::NotYet(reason) => {
                if !self.again(&mut pending, context).await {
                    self.refused(len, &reason, context);
                }
            }
            Outcome::Overloaded => {
                if !self.again(&mut pending, context).await {
                    context.counters.update(|c| {
                        c.uploading -= len;
                        c.overload += len;
                    });
                }
            }
            Outcome::NoAnswer(reason) => {
                tracing::debug!(handler = %self.url, %reason, "post not answered");
                if !self.again(&mut pending, context).await {
                    context.counters.update(|c| {
                        c.uploading -= len;
                        c.failed += len;
                    });
                }
            }
        }
    }

    fn refused(&self, len: u64, reason: &str, context: &UploadContext) {
        tracing::debug!(handler = %self.url, %reason, "post refused");
        context.counters.update(|c| {
            c.uploading -= len;
            *c.rejected.entry(reason_class(reason).to_owned()).or_default() += len;
        });
    }

    /// Waits and puts the batch back, unless it has become useless. The wait is in the uploader,
    /// so that a handler in trouble gets fewer connections, not more.
    async fn again(&self, pending: &mut Pending, context: &UploadContext) -> bool {
        pending.attempts += 1;
        let tip = context.tip_height.load(Relaxed);
        let too_old = pending.batch.parent_height + HANDLER_HEIGHTS <= tip;
        if pending.attempts >= ATTEMPTS_MAX || too_old || self.closed.is_triggered() {
            return false;
        }
        let wait = (RETRY_WAIT_MS << (pending.attempts - 1)).min(RETRY_WAIT_MS_MAX);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(wait)) => {}
            () = self.closed.cancelled() => return false,
            () = context.shutdown.cancelled() => {}
        }
        let len = pending.batch.len() as u64;
        context.counters.update(|c| c.uploading -= len);
        let batch = pending.batch.clone();
        self.put(Pending { batch, attempts: pending.attempts }, context);
        true
    }
}

/// A pool that has no handler yet publishes a URL with this host (spec 05, 8 item 6).
fn host_is_invalid(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    host.eq_ignore_ascii_case("invalid")
}

/// Whether the reason of a refusal is that the handler does not know the pool or its newest block
/// yet (spec 05, 6.1): such a post is good, and taken a moment later.
fn may_pass(reason: &str, batch: &Batch) -> bool {
    if reason.starts_with("server not ready") {
        return true;
    }
    let expected = reason.strip_prefix("block number out of range, expect ");
    let expected = expected.and_then(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse::<u64>().ok()
    });
    expected.is_some_and(|expected| expected < u64::from(batch.parent_height))
}

/// The reason without its numbers and names, so that a hostile handler can not fill the memory
/// with ever new reasons.
fn reason_class(reason: &str) -> &'static str {
    const KNOWN: &[&str] = &[
        "handler host is \"invalid\"",
        "server not ready",
        "block number out of range",
        "invalid payto",
        "payto too long",
        "size not an even multiple of 1024",
        "wrong signing key",
        "unexpected signed ann",
        "wrong parent block height",
        "not enough work",
        "zero or fff hash",
        "submit elsewhere",
        "unsupported ann version",
        "check_ann()",
        "disconnected",
    ];
    KNOWN.iter().find(|known| reason.starts_with(**known)).copied().unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_classes() {
        assert_eq!(
            reason_class("wrong parent block height, want 5 got 6"),
            "wrong parent block height"
        );
        assert_eq!(reason_class("anything else"), "other");
    }

    #[test]
    fn an_invalid_host_is_seen_in_any_form() {
        for url in ["http://invalid/submit", "http://INVALID:80/submit", "invalid"] {
            assert!(host_is_invalid(url), "{url}");
        }
        assert!(!host_is_invalid("http://invalid.example/submit"));
    }
}
