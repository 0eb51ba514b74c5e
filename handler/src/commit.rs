//! From a verified post to an acknowledged one: the committer.
//!
//! One thread owns the announcement files and the slots of parent blocks. It takes all verified
//! posts that wait, makes them durable together (the order of steps is that of
//! [`crate::publish`]), and answers them. Posts of one batch see each other's reservations, so an
//! announcement in two of them is accepted once; the batch succeeds or fails as a whole, so the
//! duplicate is one in either case.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use packetcrypt_core::announcement::Announcement;
use packetcrypt_core::bytes::CompactTarget;
use packetcrypt_net::pool_client::PoolUpdate;
use packetcrypt_net::seldom::Seldom;
use packetcrypt_proto::events::{AnnsCounts, AnnsEvent};

use crate::admit::{Overload, Refusal};
use crate::dedup::{Entry, Reservation};
use crate::overload::PROOF_COST;
use crate::parents::Follower;
use crate::publish::{Record, Store};
use crate::submit::Front;
use crate::verify::Verified;

/// Posts made durable together.
const BATCH_POSTS_MAX: usize = 64;
/// Verified posts that wait for the committer; a worker waits when there are more.
const COMMIT_QUEUE_LEN_MAX: usize = 64;

/// The way to the committer.
#[derive(Clone, Debug)]
pub(crate) struct CommitQueue {
    sender: SyncSender<Message>,
}

/// The committer's end of it.
#[derive(Debug)]
pub(crate) struct CommitReceiver {
    receiver: Receiver<Message>,
}

#[derive(Debug)]
enum Message {
    Post(Box<Verified>),
    Report(Box<PoolUpdate>),
}

impl CommitQueue {
    /// An empty queue.
    pub(crate) fn new() -> (Self, CommitReceiver) {
        let (sender, receiver) = sync_channel(COMMIT_QUEUE_LEN_MAX);
        (Self { sender }, CommitReceiver { receiver })
    }

    /// Hands a post over; waits while the queue is full.
    pub(crate) fn push(&self, verified: Verified) {
        if let Err(error) = self.sender.send(Message::Post(Box::new(verified)))
            && let Message::Post(verified) = error.0
        {
            verified.post.answer(Err(Refusal::Disconnected));
        }
    }

    /// Hands a report of the pool client over; waits while the queue is full. `false` when the
    /// committer has ended.
    pub(crate) fn report(&self, report: PoolUpdate) -> bool {
        self.sender.send(Message::Report(Box::new(report))).is_ok()
    }
}

/// Where events become durable.
pub(crate) trait EventLog: Send {
    /// Appends the lines in order; when it returns they are durable. On an error none of them is
    /// in the log.
    fn append(&mut self, lines: Vec<String>) -> Result<(), String>;
}

/// Who gets accepted announcements at once.
pub(crate) trait Spray: Send {
    /// Queues the announcements; never waits.
    fn spray(&mut self, anns: &mut dyn Iterator<Item = &Announcement>);
}

/// The committer.
pub(crate) struct Committer {
    /// The announcement files.
    pub(crate) store: Store,
    /// Keeps the slots.
    pub(crate) follower: Follower,
    /// The pay log.
    pub(crate) log: Box<dyn EventLog>,
    /// The sprayer.
    pub(crate) spray: Option<Box<dyn Spray>>,
    /// The slots, the counters, the budgets, the clock.
    pub(crate) front: Arc<Front>,
    /// Errors that come with every post while they last.
    pub(crate) errors: Seldom,
    /// Runs found damaged, for the statistics.
    pub(crate) damaged_runs: Arc<std::sync::atomic::AtomicU64>,
}

/// A post of a batch whose hashes are reserved and whose bytes are written.
struct Prepared {
    verified: Verified,
    event: AnnsEvent,
    reserved: Vec<(u32, Entry)>,
}

impl Committer {
    /// Works until every [`CommitQueue`] is dropped.
    pub(crate) fn run(mut self, queue: CommitReceiver) {
        while let Ok(first) = queue.receiver.recv() {
            let mut posts = Vec::new();
            let mut report = None;
            match first {
                Message::Post(verified) => posts.push(*verified),
                Message::Report(new) => report = Some(new),
            }
            while report.is_none() && posts.len() < BATCH_POSTS_MAX {
                match queue.receiver.try_recv() {
                    Ok(Message::Post(verified)) => posts.push(*verified),
                    Ok(Message::Report(new)) => report = Some(new),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            if !posts.is_empty() {
                self.commit(posts);
            }
            if let Some(report) = report {
                self.follower.apply(&report, &mut self.store);
                let damaged = self.store.damaged_runs();
                self.damaged_runs.store(damaged, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }

    /// Accepts or refuses each post of the batch, all in one step to durable storage.
    pub(crate) fn commit(&mut self, posts: Vec<Verified>) {
        let mut prepared = Vec::with_capacity(posts.len());
        for verified in posts {
            match self.prepare(&verified) {
                Ok((event, reserved)) => prepared.push(Prepared { verified, event, reserved }),
                Err(refusal) => verified.post.answer(Err(refusal)),
            }
        }
        // An event with nothing accepted is not logged (spec 05, 16.3).
        let lines: Vec<String> = prepared
            .iter()
            .filter(|post| post.event.accepted > 0)
            .map(|post| post.event.to_line())
            .collect();
        if !lines.is_empty() {
            if let Err(error) = self.log.append(lines) {
                self.front.counters.commit_failures.inc();
                self.warn("pay log", &error);
                return self.give_back(prepared);
            }
            self.front.counters.commits.inc();
            self.store.commit();
        }
        for post in prepared {
            self.acknowledge(post);
        }
    }

    /// Reserves the hashes of a post and writes its bytes; leaves nothing behind on an error.
    fn prepare(&mut self, of: &Verified) -> Result<(AnnsEvent, Vec<(u32, Entry)>), Refusal> {
        let parent = &of.post.parent;
        if !self.front.parents.is_current(parent) {
            return Err(Refusal::BlockChanged);
        }
        // Looked at before they are reserved, in a loop in which the waits for their memory overlap.
        let is_new = |&&(_, hash): &&(u32, u64)| !parent.known.is_committed(hash);
        let candidates: Vec<(u32, u64)> = of.candidates.iter().filter(is_new).copied().collect();
        let mut reserved = Vec::with_capacity(candidates.len());
        let mut check = 0;
        for (index, hash) in candidates {
            match parent.known.reserve(hash) {
                Reservation::Fresh(entry) => {
                    reserved.push((index, entry));
                    check ^= hash;
                }
                // Another post of this batch has it.
                Reservation::Committed | Reservation::Reserved => {}
                Reservation::Full => {
                    release(parent, &reserved);
                    self.warn("table of known announcements", &"full, raise dedup_capacity");
                    return Err(Refusal::Overloaded(Overload::KnownAnnouncements));
                }
            }
        }
        let event = self.event(of, &reserved);
        if !reserved.is_empty() {
            let record = Record {
                first: 0,
                count: 0,
                parent_height: u32::try_from(parent.height).unwrap_or(0),
                time_ms: event.time,
                check,
                event_id: of.event_id,
                parent_hash: parent.hash.0,
            };
            let anns = anns_of(of);
            let run = reserved.iter().map(|&(index, _)| anns[index as usize].to_bytes());
            if let Err(error) = self.store.prepare(record, run) {
                release(parent, &reserved);
                self.warn("announcement files", &error);
                return Err(Refusal::Overloaded(Overload::Storage));
            }
        }
        Ok((event, reserved))
    }

    fn event(&self, of: &Verified, reserved: &[(u32, Entry)]) -> AnnsEvent {
        let anns = anns_of(of);
        let is_unsigned = |&&(index, _): &&(u32, Entry)| !anns[index as usize].is_signed();
        let target = match CompactTarget(of.work_bits_max) {
            CompactTarget(0) => of.post.parent.min_work,
            target => target,
        };
        // A post has at most 2^20 announcements: the counts fit and the difference is no less
        // than 0, since each reserved announcement is one of the post.
        let counts = AnnsCounts {
            accepted: reserved.len() as u32,
            dup: (anns.len() - reserved.len()) as u32,
            unsigned: reserved.iter().filter(is_unsigned).count() as u32,
            target,
        };
        let id = hex::encode(of.event_id);
        AnnsEvent::new(&counts, &of.post.head.pay_to, self.front.clock.now_ms(), id)
    }

    fn acknowledge(&mut self, post: Prepared) {
        let Prepared { verified, event, reserved } = post;
        for (_, entry) in &reserved {
            verified.post.parent.known.commit(*entry);
        }
        if let Some(spray) = &mut self.spray {
            let anns = anns_of(&verified);
            spray.spray(&mut reserved.iter().map(|&(index, _)| &anns[index as usize]));
        }
        // Only what is new counts in favour of a source. Duplicates are cheap to send and take
        // hashing and a place in the queue; who repeats a post once stays far below the ratio.
        let good = reserved.len() as u64 * PROOF_COST;
        let duplicates = u64::from(event.dup);
        let (source, now_ms) = (verified.post.source, self.front.clock.now_ms());
        self.front.budgets.book(source, good, true, now_ms);
        self.front.budgets.book(source, duplicates, false, now_ms);
        verified.post.answer(Ok(event));
    }

    /// The batch could not be made durable: as if none of it had come.
    fn give_back(&mut self, prepared: Vec<Prepared>) {
        self.store.roll_back();
        for post in prepared {
            release(&post.verified.post.parent, &post.reserved);
            post.verified.post.answer(Err(Refusal::Overloaded(Overload::Storage)));
        }
    }

    fn warn(&self, what: &str, error: &dyn std::fmt::Display) {
        if let Some(held_back) = self.errors.say() {
            tracing::error!("{what}: {error}: posts are answered 503 overloaded{held_back}");
        }
    }
}

fn anns_of(of: &Verified) -> &[Announcement] {
    Announcement::slice_from_bytes(of.post.body.bytes()).unwrap_or(&[])
}

fn release(parent: &crate::admit::Parent, reserved: &[(u32, Entry)]) {
    for (_, entry) in reserved {
        parent.known.release(*entry);
    }
}

#[cfg(test)]
mod tests;
