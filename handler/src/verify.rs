//! From a received post to a verified one: the workers.
//!
//! Workers are OS threads of their own, fed by a bounded queue, so that the threads that receive
//! and send stay responsive while proofs are checked. What is verified goes to the committer.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use packetcrypt_core::announcement::{Announcement, BATCH_LANES, BatchScratch, check_batch};
use packetcrypt_core::backend::Backend;
use packetcrypt_core::bytes::Hash32;
use packetcrypt_core::error::AnnError;
use packetcrypt_core::primitives::blake2b::{compress32, compress32_many};
use packetcrypt_jit::{AnyExecutor, Executor};

use crate::admit::{AnnRefusal, Parent, Refusal, announcements};
use crate::commit::CommitQueue;
use crate::overload::PROOF_COST;
use crate::post::Post;
use crate::queue::Work;
use crate::submit::Front;

/// Proofs of a post that are checked before looking whether it is junk: fewer take as long.
const GROUP_FIRST_LEN: usize = BATCH_LANES;
/// Proofs that are checked in one call. The batch check works job by job, best with many of one.
const GROUP_LEN_MAX: usize = 1024;
/// Announcements whose hashes are computed before looking whether the post is junk.
const HASHED_TOGETHER: usize = 64;
/// Length of the body of a full post of the announcement miner (spec 05, 8.4).
const FULL_POST_BYTES: usize = 1024 * packetcrypt_proto::ANNOUNCEMENT_BYTES;

/// A post that passed all checks but those of its proofs.
#[derive(Debug)]
pub(crate) struct Sifted {
    /// The post.
    pub(crate) post: Post,
    found: Found,
    event_id: [u8; 16],
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
        while let Some(work) = self.front.queue.next() {
            match work {
                Work::Sift(posts) => self.sift_all(posts, prover.backend),
                Work::Prove(sifted) => {
                    if !self.prove_one(sifted, &mut prover) {
                        // It panicked: what it checks with may be in the middle of something.
                        prover = Prover::new(engines);
                    }
                }
            }
        }
    }

    /// All checks of some posts but the proofs, and their event ids.
    fn sift_all(&self, posts: Vec<Post>, backend: Backend) {
        // Abandoned ones are dropped: nobody would learn what became of them.
        let posts = posts.into_iter().filter(|post| !post.is_abandoned());
        let sound: Vec<_> = posts.filter_map(|post| self.guard(post, Self::sift)).collect();
        let ids = event_ids(sound.iter().map(|(post, _)| post.body.bytes()), backend);
        let sifted = sound.into_iter().zip(ids).map(|((post, found), event_id)| Sifted {
            post,
            found,
            event_id,
        });
        self.front.queue.push_sifted(sifted);
    }

    /// The proofs of a post, which then goes to the committer. False after a panic.
    fn prove_one(&self, sifted: Sifted, prover: &mut Prover) -> bool {
        let Sifted { post, found: Found { candidates, work_bits_max }, event_id } = sifted;
        let mut is_whole = false;
        let proven = self.guard(post, |workers, post| {
            let outcome = workers.prove(post, &candidates, prover);
            is_whole = true;
            outcome
        });
        if let Some((post, ())) = proven {
            self.commits.push(Verified { post, candidates, event_id, work_bits_max });
        }
        is_whole
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
    fn sift(&self, post: &Post) -> Result<Found, (Refusal, u64)> {
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
        Ok(Found {
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
            results: Vec::with_capacity(GROUP_LEN_MAX),
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
            group_len = (group_len * 4).min(GROUP_LEN_MAX);
        }
        Ok(())
    }
}

/// What [`Workers::sift`] found out.
#[derive(Debug)]
struct Found {
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
    let mut seen = HashSet::with_capacity(hashes.len());
    hashes.retain(|&(_, hash)| seen.insert(hash) && !parent.known.is_committed(hash));
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

/// Event ids of the posts with these bodies (spec 05, 2.2). Full posts are hashed side by side:
/// one alone takes as long as four.
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
impl Sifted {
    /// A post in which nothing was found.
    pub(crate) fn of(post: Post) -> Self {
        let found = Found { candidates: Vec::new(), work_bits_max: 0 };
        Self { post, found, event_id: [0; 16] }
    }
}

#[cfg(test)]
mod tests;
