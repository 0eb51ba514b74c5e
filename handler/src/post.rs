//! A post whose body came whole: it is answered once, whatever becomes of it.

use std::net::IpAddr;
use std::sync::Arc;

use packetcrypt_proto::events::AnnsEvent;
use tokio::sync::oneshot;

use crate::admit::{Head, Parent, Refusal};
use crate::body::Body;
use crate::stats::Counters;

/// What a client is told.
pub(crate) type Answer = Result<AnnsEvent, Refusal>;

/// A post whose body came whole. Each is answered once; one that is dropped is counted as lost.
#[derive(Debug)]
pub(crate) struct Post {
    /// What its head says.
    pub(crate) head: Head,
    /// The block of its announcements, as it was when the head came.
    pub(crate) parent: Arc<Parent>,
    /// The announcements.
    pub(crate) body: Body,
    /// Who sent it.
    pub(crate) source: IpAddr,
    counters: Arc<Counters>,
    answer: Option<oneshot::Sender<Answer>>,
}

impl Post {
    /// A post and where its answer will come. It is counted as received.
    pub(crate) fn new(
        head: Head,
        parent: Arc<Parent>,
        body: Body,
        source: IpAddr,
        counters: Arc<Counters>,
    ) -> (Self, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        counters.posts_received.inc();
        let post = Self { head, parent, body, source, counters, answer: Some(answer) };
        post.counters.anns_received.inc_by(post.anns());
        (post, answered)
    }

    /// Whether nobody waits for the answer any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Answers and counts.
    pub(crate) fn answer(mut self, answer: Answer) {
        let (counters, anns) = (Arc::clone(&self.counters), self.anns());
        match &answer {
            Ok(event) => {
                counters.posts_accepted.inc();
                counters.anns_accepted.inc_by(u64::from(event.accepted));
                counters.anns_duplicate.inc_by(u64::from(event.dup));
            }
            Err(refusal) => {
                counters.refused_because(refusal);
                if refusal.status() == 503 {
                    counters.posts_overloaded.inc();
                    counters.anns_overloaded.inc_by(anns);
                } else {
                    counters.posts_refused.inc();
                    counters.anns_rejected.inc_by(anns);
                }
            }
        }
        let sender = self.answer.take();
        // Its memory is free before the next post of the same miner comes.
        drop(self);
        if sender.is_none_or(|sender| sender.send(answer).is_err()) {
            counters.timeouts.inc();
        }
    }

    fn anns(&self) -> u64 {
        // Of a body that is no list of announcements the whole ones count.
        (self.body.bytes().len() / packetcrypt_proto::ANNOUNCEMENT_BYTES) as u64
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        if self.answer.take().is_some() {
            self.counters.posts_lost.inc();
            self.counters.anns_lost.inc_by(self.anns());
            self.counters.timeouts.inc();
        }
    }
}
