//! A job: one work of the pool over one tree, ready to be hashed.
//!
//! A job is immutable and holds its tree, and a solution holds its job: what was found is always
//! proven from the tree and the work it was found with (spec 05, 9.4).

use std::sync::Arc;

use packetcrypt_core::backend::Backend;
use packetcrypt_core::block::self_test;
use packetcrypt_core::block::{BlockError, BlockHeader, Commitment};
use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_core::difficulty;
use packetcrypt_proto::work::{CommitError, WorkFile};

use crate::choose;
use crate::share::{Share, ShareFault};
use crate::tree::AnnTree;

/// Why a tree and a work make no job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// An announcement of the tree is too old for this height, or still waits.
    #[error("the tree holds announcements that are not usable at height {height}")]
    NotUsable {
        /// The height to mine.
        height: u32,
    },
    /// The coinbase of the work takes no commitment.
    #[error("the work of height {height} is unusable: {cause}")]
    Coinbase {
        /// The height to mine.
        height: u32,
        /// What is wrong.
        cause: CommitError,
    },
    /// The self test did not come to a valid share.
    #[error("self test of the job of height {height} failed: {cause}")]
    SelfTest {
        /// The height to mine.
        height: u32,
        /// What is wrong.
        cause: String,
    },
}

/// What the workers hash.
pub struct Job {
    number: u64,
    work: Arc<WorkFile>,
    tree: Arc<AnnTree>,
    commitment: Commitment,
    header: BlockHeader,
    mining_target: CompactTarget,
    multiplier: u64,
}

impl Job {
    /// Puts a tree into a work (spec 04, 13.1): the commitment at the work's height, coinbase,
    /// header, mining target. `number` tells this job from others.
    ///
    /// # Errors
    /// [`JobError`], all but the self test.
    pub fn assemble(number: u64, work: Arc<WorkFile>, tree: Arc<AnnTree>) -> Result<Job, JobError> {
        let height = work.height.cast_unsigned();
        let least_work =
            choose::least_work(tree.classes(), height).ok_or(JobError::NotUsable { height })?;
        let commitment = Commitment::new(least_work, tree.root(), tree.count());
        let root = work
            .merkle_root_with(&commitment)
            .map_err(|cause| JobError::Coinbase { height, cause })?;
        let mut header = BlockHeader(work.header);
        header.set_merkle_root(&root);
        // The easier of both: a share target harder than the block's would lose blocks.
        let target =
            |of| difficulty::effective_target(of, least_work, tree.count(), crate::PROOF_VERSION);
        let mining_target = target(work.share_target).max(target(header.bits()));
        let multiplier = difficulty::hashrate_multiplier(least_work, tree.count());
        Ok(Job { number, work, tree, commitment, header, mining_target, multiplier })
    }

    /// Mines at the easiest target and checks the result as a share ("fake mine", spec 04, 13.2).
    /// Lack of work counts as good there.
    ///
    /// # Errors
    /// [`JobError::SelfTest`]: nothing found with this job would be valid.
    pub fn self_test(self: &Arc<Self>, backend: Backend) -> Result<Share, JobError> {
        let failed = |cause: String| JobError::SelfTest { height: self.height(), cause };
        let solution = self_test::search(
            &self.header,
            self.tree.count(),
            |n| self.tree.announcement(n),
            backend,
        )
        .ok_or_else(|| failed("nothing found at the easiest target".to_owned()))?;
        let share = Share::assemble(self.clone(), self_test::HEADER_NONCE, &solution)
            .map_err(|cause| failed(cause.to_string()))?;
        match share.check() {
            Ok(_) | Err(ShareFault::Block(BlockError::InsufPow { .. })) => Ok(share),
            Err(cause) => Err(failed(cause.to_string())),
        }
    }

    /// Which job of this process.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The work it was made from.
    #[must_use]
    pub fn work(&self) -> &Arc<WorkFile> {
        &self.work
    }

    /// The announcements.
    #[must_use]
    pub fn tree(&self) -> &Arc<AnnTree> {
        &self.tree
    }

    /// Height of the block that is mined.
    #[must_use]
    pub fn height(&self) -> u32 {
        // A parsed work file has no negative height.
        self.work.height.cast_unsigned()
    }

    /// Id of the block that is mined on, in internal order.
    #[must_use]
    pub fn previous_block(&self) -> Hash32 {
        self.header.previous_block()
    }

    /// The commitment in the coinbase.
    #[must_use]
    pub fn commitment(&self) -> &Commitment {
        &self.commitment
    }

    /// The header, its nonce that of the work.
    #[must_use]
    pub fn header(&self) -> &BlockHeader {
        &self.header
    }

    /// What a work hash must be below.
    #[must_use]
    pub fn mining_target(&self) -> CompactTarget {
        self.mining_target
    }

    /// How many hashes one hash of this job is worth.
    #[must_use]
    pub fn multiplier(&self) -> u64 {
        self.multiplier
    }
}
