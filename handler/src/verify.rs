//! From a received post to a verified one: the workers.
//!
//! Workers are OS threads of their own, fed by a bounded queue, so that the threads that receive
//! and send stay responsive while proofs are checked. What is verified goes to the committer.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use packetcrypt_core::announcement::{Announcement, BatchScratch, GROUP_MAX, check_batch};
use packetcrypt_core::backend::Backend;
use packetcrypt_core::bytes::Hash32;
use packetcrypt_core::error::AnnError;
use packetcrypt_core::primitives::blake2b::{compress32, compress32_many};
use packetcrypt_jit::{AnyExecutor, Executor};
use packetcrypt_proto::events::AnnsEvent;
use tokio::sync::oneshot;

use crate::admit::{AnnRefusal, Head, Parent, Refusal, announcements};
use crate::body::Body;
use crate::commit::CommitQueue;
use crate::overload::PROOF_COST;
use crate::stats::Counters;
use crate::submit::Front;

/// Proofs of a post that are checked before looking whether it is junk.
const GROUP_FIRST_LEN: usize = 4;
/// Announcements whose hashes are computed before looking whether the post is junk.
const HASHED_TOGETHER: usize = 64;
/// Posts that a worker takes together: their event ids are hashed side by side.
const TAKEN_TOGETHER: usize = 4;
/// Length of the body of a full post of the announcement miner (spec 05, 8.4).
const FULL_POST_BYTES: usize = 1024 * packetcrypt_proto::ANNOUNCEMENT_BYTES;

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

/// The bounded queue in front of the workers.
#[derive(Debug)]
pub(crate) struct PostQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
    len_max: usize,
}

#[derive(Debug)]
struct QueueState {
    posts: VecDeque<Post>,
    is_closed: bool,
}

impl PostQueue {
    /// An empty queue of at most `len_max` posts.
    pub(crate) fn new(len_max: usize) -> Arc<Self> {
        let state = QueueState { posts: VecDeque::with_capacity(len_max), is_closed: false };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new(), len_max })
    }

    /// Posts that wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().posts.len()
    }

    /// Whether one more post would be refused now.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.len_max
    }

    /// Puts the post behind the others, or answers it.
    pub(crate) fn push(&self, post: Post) {
        let mut state = self.lock();
        let refusal = if state.is_closed {
            Refusal::Disconnected
        } else if state.posts.len() >= self.len_max {
            Refusal::Overloaded
        } else {
            state.posts.push_back(post);
            drop(state);
            self.changed.notify_one();
            return;
        };
        drop(state);
        post.answer(Err(refusal));
    }

    /// The next posts: waits for one, and takes a fair part of those that wait beside it, one of
    /// `takers`. None at all when the queue is closed and empty.
    pub(crate) fn pop(&self, takers: usize) -> Vec<Post> {
        let mut state = self.lock();
        loop {
            let len = state.posts.len().div_ceil(takers.max(1)).min(TAKEN_TOGETHER);
            if len > 0 {
                return state.posts.drain(..len).collect();
            }
            if state.is_closed {
                return Vec::new();
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// No more posts; those that wait are still worked off.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // Nothing panics while the lock is held; if it did, the queue would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A post that may be accepted, on its way to the committer.
#[derive(Debug)]
pub(crate) struct Verified {
    /// The post.
    pub(crate) post: Post,
    /// Index and dedup hash of the announcements that were new when they were looked up, each hash
    /// once, in order of the index.
    pub(crate) candidates: Vec<(u32, u64)>,
    /// Event id of the post.
    pub(crate) event_id: [u8; 16],
    /// The greatest work bits of the post.
    pub(crate) work_bits_max: u32,
}

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Workers {
    /// The queue, the counters, the budgets.
    pub(crate) front: Arc<Front>,
    /// Where verified posts go.
    pub(crate) commits: CommitQueue,
    /// Proofs are skipped when a byte is below this.
    pub(crate) skip_threshold: u16,
    /// How many workers there are.
    pub(crate) count: usize,
}

impl Workers {
    /// Starts the workers. They end when the queue is closed and empty.
    pub(crate) fn start(
        self: &Arc<Self>,
        engines: Engines,
    ) -> std::io::Result<Vec<thread::JoinHandle<()>>> {
        tracing::info!(workers = self.count, "random programs are run by: {}", engines.executor());
        (0..self.count)
            .map(|index| {
                let workers = Arc::clone(self);
                thread::Builder::new()
                    .name(format!("ann-check-{index}"))
                    .spawn(move || workers.run(engines))
            })
            .collect()
    }

    fn run(&self, engines: Engines) {
        let mut prover = Prover::new(engines);
        loop {
            let posts = self.front.queue.pop(self.count);
            if posts.is_empty() {
                return;
            }
            // Abandoned ones are dropped: nobody would learn what became of them.
            let posts = posts.into_iter().filter(|post| !post.is_abandoned());
            let sound: Vec<_> = posts.filter_map(|post| self.guard(post, Self::sift)).collect();
            let ids = event_ids(sound.iter().map(|(post, _)| post.body.bytes()), prover.backend);
            for ((post, sifted), event_id) in sound.into_iter().zip(ids) {
                let mut is_whole = false;
                let proven = self.guard(post, |workers, post| {
                    let outcome = workers.prove(post, &sifted.candidates, &mut prover);
                    is_whole = true;
                    outcome
                });
                if !is_whole {
                    // It panicked: what it checks with may be in the middle of something.
                    prover = Prover::new(engines);
                }
                let Some((post, ())) = proven else { continue };
                let Sifted { candidates, work_bits_max } = sifted;
                self.commits.push(Verified { post, candidates, event_id, work_bits_max });
            }
        }
    }

    /// Does a step of the check of a post; answers the post when it is refused.
    ///
    /// A panic would be a fault of ours. It costs this post, never the worker.
    fn guard<T>(
        &self,
        post: Post,
        step: impl FnOnce(&Self, &Post) -> Result<T, (Refusal, u64)>,
    ) -> Option<(Post, T)> {
        match catch_unwind(AssertUnwindSafe(|| step(self, &post))) {
            Ok(Ok(outcome)) => Some((post, outcome)),
            Ok(Err((refusal, cost))) => {
                self.front.budgets.book(post.source, cost, false, self.front.clock.now_ms());
                post.answer(Err(refusal));
                None
            }
            Err(_) => {
                tracing::error!("a check panicked; its post is lost, the worker goes on");
                self.front.counters.worker_panics.inc();
                None
            }
        }
    }

    /// All checks of a post but the proofs. An error carries what was spent until it was found.
    fn sift(&self, post: &Post) -> Result<Sifted, (Refusal, u64)> {
        let body = post.body.bytes();
        let anns = announcements(body, self.front.post_anns_max).map_err(|r| (r, 1))?;
        let mut hashes = Vec::with_capacity(anns.len());
        let mut hashed = [Hash32::ZERO; HASHED_TOGETHER];
        for (first, part) in (0u32..).step_by(HASHED_TOGETHER).zip(body_parts(body)) {
            let hashed = &mut hashed[..part.len()];
            compress32_many(part, hashed, Backend::best());
            for ((index, bytes), hash) in (first..).zip(part).zip(&*hashed) {
                let hash = dedup_hash(hash);
                let ann = Announcement::from_bytes(bytes);
                let checked = post.parent.check_cheaply(post.head.sver, ann, hash);
                checked.map_err(|refusal| (refusal.into(), u64::from(index) + 1))?;
                hashes.push((index, hash));
            }
        }
        Ok(Sifted {
            candidates: candidates(hashes, &post.parent),
            work_bits_max: anns.iter().map(|ann| ann.work_bits().0).max().unwrap_or(0),
        })
    }

    /// Checks the proofs of the candidates. An error carries what was spent until it was found.
    fn prove(
        &self,
        post: &Post,
        candidates: &[(u32, u64)],
        prover: &mut Prover,
    ) -> Result<(), (Refusal, u64)> {
        let anns = announcements(post.body.bytes(), self.front.post_anns_max).unwrap_or(&[]);
        let to_prove = self.to_prove(candidates, anns);
        self.front.counters.proofs_skipped.inc_by((candidates.len() - to_prove.len()) as u64);
        let checked = prover.check(&to_prove, &post.parent.hash);
        let (proofs, result) = match checked {
            Ok(()) => (to_prove.len(), Ok(())),
            Err((proofs, error)) => (proofs, Err(error)),
        };
        self.front.counters.proofs_checked.inc_by(proofs as u64);
        let cost = anns.len() as u64 + proofs as u64 * PROOF_COST;
        result.map_err(|error| (proof_refusal(error), cost))
    }

    /// The candidates whose proof is checked (spec 05, 6.6 and 16.13), those of one job one behind
    /// the other.
    fn to_prove<'a>(
        &self,
        candidates: &[(u32, u64)],
        anns: &'a [Announcement],
    ) -> Vec<&'a Announcement> {
        let skip_byte: u8 = rand::random();
        let is_checked =
            |&&(_, hash): &&(u32, u64)| u16::from(hash as u8 ^ skip_byte) >= self.skip_threshold;
        let checked = candidates.iter().filter(is_checked);
        let mut anns: Vec<_> = checked.map(|&(index, _)| &anns[index as usize]).collect();
        anns.sort_by_key(|ann| (ann.hard_nonce(), ann.root().0));
        anns
    }
}

/// What proofs are to be checked with; the best where nothing is said.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Engines {
    pub(crate) executor: Option<Executor>,
    pub(crate) backend: Option<Backend>,
}

impl Engines {
    fn executor(self) -> AnyExecutor {
        AnyExecutor::wanted(self.executor, self.backend)
    }
}

/// What one worker checks proofs with.
struct Prover {
    scratch: Box<BatchScratch>,
    exec: AnyExecutor,
    backend: Backend,
    results: Vec<Result<Hash32, AnnError>>,
}

impl Prover {
    fn new(engines: Engines) -> Self {
        Self {
            scratch: Box::new(BatchScratch::new()),
            exec: engines.executor(),
            backend: engines.backend.unwrap_or_else(Backend::best),
            results: Vec::with_capacity(GROUP_MAX),
        }
    }

    /// Checks the proofs in order; an error is the first bad one and how many were checked.
    ///
    /// The first groups are small: a post of junk is found out by few proofs.
    fn check(
        &mut self,
        anns: &[&Announcement],
        parent_hash: &Hash32,
    ) -> Result<(), (usize, AnnError)> {
        let (mut done, mut group_len) = (0, GROUP_FIRST_LEN);
        while done < anns.len() {
            let group = &anns[done..anns.len().min(done + group_len)];
            let batch: Vec<_> = group.iter().map(|&ann| (ann, parent_hash)).collect();
            self.results.clear();
            self.results.resize(batch.len(), Err(AnnError::Inval));
            let Self { scratch, exec, backend, results } = self;
            check_batch(&batch, results, scratch, exec, *backend);
            done += batch.len();
            if let Some(error) = self.results.iter().find_map(|result| result.err()) {
                return Err((done, error));
            }
            group_len = (group_len * 4).min(GROUP_MAX);
        }
        Ok(())
    }
}

/// What [`Workers::sift`] found out.
struct Sifted {
    candidates: Vec<(u32, u64)>,
    work_bits_max: u32,
}

/// The announcements of a body, some at a time.
fn body_parts(body: &[u8]) -> impl Iterator<Item = &[[u8; packetcrypt_proto::ANNOUNCEMENT_BYTES]]> {
    body.as_chunks().0.chunks(HASHED_TOGETHER)
}

/// The dedup hash (spec 05, 2.2) in the hash of an announcement.
fn dedup_hash(hash: &Hash32) -> u64 {
    let [word, ..] = hash.0.as_chunks().0 else { return 0 };
    u64::from_le_bytes(*word)
}

/// The first occurrence of each hash that is not known yet, in order of the index. The others are
/// duplicates, of an announcement whose proof was checked before or is checked now.
fn candidates(mut hashes: Vec<(u32, u64)>, parent: &Parent) -> Vec<(u32, u64)> {
    hashes.sort_unstable_by_key(|&(index, hash)| (hash, index));
    hashes.dedup_by_key(|&mut (_, hash)| hash);
    hashes.retain(|&(_, hash)| !parent.known.is_committed(hash));
    hashes.sort_unstable();
    hashes
}

/// The names of the reference, which has no others (spec 03, 2.9).
fn proof_refusal(error: AnnError) -> Refusal {
    Refusal::Announcement(AnnRefusal::Proof(match error {
        AnnError::InvalItem4 => "INVAL_ITEM4",
        AnnError::InsufPow(_) => "INSUF_POW",
        AnnError::SoftNonceHigh => "SOFT_NONCE_HIGH",
        AnnError::Inval
        | AnnError::BadWorkBits
        | AnnError::BadProgram
        | AnnError::BadProgramExec => "INVAL",
    }))
}

/// Event ids of the posts with these bodies (spec 05, 2.2). Full posts are hashed side by side.
fn event_ids<'a>(bodies: impl Iterator<Item = &'a [u8]>, backend: Backend) -> Vec<[u8; 16]> {
    let bodies: Vec<&[u8]> = bodies.collect();
    let full: Vec<&[u8; FULL_POST_BYTES]> =
        bodies.iter().filter_map(|body| (*body).try_into().ok()).collect();
    let mut hashes = vec![Hash32::ZERO; full.len()];
    compress32_many(&full, &mut hashes, backend);
    let mut of_full = hashes.into_iter();
    let hash = |body: &&[u8]| match body.len() {
        FULL_POST_BYTES => of_full.next().unwrap_or_else(|| compress32(body)),
        _ => compress32(body),
    };
    let first_half = |hash: Hash32| std::array::from_fn(|i| hash.0[i]);
    bodies.iter().map(hash).map(first_half).collect()
}

#[cfg(test)]
mod tests;
