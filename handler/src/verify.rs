//! From a received post to a verified one: the workers.
//!
//! Workers are OS threads of their own, fed by a bounded queue, so that the threads that receive
//! and send stay responsive while proofs are checked. What is verified goes to the committer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use packetcrypt_core::announcement::{Announcement, BATCH_LANES, BatchScratch, check_batch};
use packetcrypt_core::backend::Backend;
use packetcrypt_core::bytes::Hash32;
use packetcrypt_core::error::AnnError;
use packetcrypt_jit::{AnyExecutor, Executor};

use crate::admit::{AnnRefusal, Refusal, announcements};
use crate::commit::CommitQueue;
use crate::overload::PROOF_COST;
use crate::post::Post;
use crate::queue::Work;
use crate::sift::{Found, Sifted};
use crate::submit::Front;

/// Proofs of a post that are checked before looking whether it is junk: fewer take as long.
const GROUP_FIRST_LEN: usize = BATCH_LANES;
/// Proofs that are checked in one call. The batch check works job by job, best with many of one.
const GROUP_LEN_MAX: usize = 1024;

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
    pub(crate) fn guard<T>(
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

#[cfg(test)]
mod tests;
