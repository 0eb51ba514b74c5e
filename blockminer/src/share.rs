//! Shares: a solution made into what the block handler takes, and checked before it leaves.

use std::sync::Arc;

use packetcrypt_core::announcement::Announcement;
use packetcrypt_core::block::entities::{EntityWriter, PROOF_HEAD_BYTES};
use packetcrypt_core::block::search::Solution;
use packetcrypt_core::block::{
    BlockCheck, BlockError, BlockHeader, BlockOk, CheckScratch, Entities, TreeError, check_block,
};
use packetcrypt_proto::ids;
use packetcrypt_proto::share::ShareUpload;

use crate::class::SourceId;
use crate::job::Job;

/// Bytes that the proof and version entities have around the proof's content, at most.
const ENTITY_HEADS_BYTES_MAX: usize = 16;

/// Why a solution makes no share that can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareFault {
    /// No proof can be made.
    #[error("no proof: {0}")]
    Tree(TreeError),
    /// The proof does not fit a proof entity.
    #[error("the proof does not fit its entity")]
    TooLong,
    /// The share is not valid.
    #[error("{0}")]
    Block(BlockError),
}

/// A share, with the job that found it.
pub struct Share {
    job: Arc<Job>,
    header: BlockHeader,
    low_nonce: u32,
    items: [u64; 4],
    proof: Vec<u8>,
    upload: ShareUpload,
}

impl Share {
    /// Makes the share of a solution, from the tree and the work of its own job (spec 04, 13.3).
    ///
    /// # Errors
    /// [`ShareFault`] when no proof can be made. Whether the share is valid is [`Share::check`].
    pub fn assemble(
        job: Arc<Job>,
        header_nonce: u32,
        solution: &Solution,
    ) -> Result<Share, ShareFault> {
        let header = job.header().with_nonce(header_nonce);
        let proof = job.tree().prove(&solution.items).map_err(ShareFault::Tree)?;
        let announcements = announcements(&job, &solution.items);
        let mut bytes = header.0.to_vec();
        bytes.resize(
            BlockHeader::BYTES + PROOF_HEAD_BYTES + proof.len() + ENTITY_HEADS_BYTES_MAX,
            0,
        );
        let mut writer = EntityWriter::new(&mut bytes[BlockHeader::BYTES..]);
        let entities = Entities::new(solution.low_nonce, announcements, &proof);
        let written = writer
            .proof(entities.low_nonce, &entities.announcements, entities.tree_proof)
            .and_then(|writer| writer.version(crate::PROOF_VERSION))
            .map_err(|_| ShareFault::TooLong)?
            .written();
        bytes.truncate(BlockHeader::BYTES + written);
        let upload =
            ShareUpload::new(job.commitment().0, bytes).map_err(|_| ShareFault::TooLong)?;
        let (low_nonce, items) = (solution.low_nonce, solution.items);
        Ok(Share { job, header, low_nonce, items, proof, upload })
    }

    /// Checks the share as the pool will, without parent hashes and signatures, which are the
    /// block handler's (spec 04, 13.3).
    ///
    /// # Errors
    /// [`ShareFault::Block`]: what would be answered. Only a share that passes is worth sending.
    pub fn check(&self) -> Result<BlockOk, ShareFault> {
        let entities = Entities::new(self.low_nonce, self.announcements(), &self.proof);
        let check = BlockCheck {
            header: &self.header,
            entities: &entities,
            commitment: Some(self.job.commitment()),
            height: self.job.height(),
            share_target: self.job.work().share_target,
            parent_hashes: None,
            check_signatures: false,
        };
        check_block(&check, &mut CheckScratch::new()).map_err(ShareFault::Block)
    }

    /// The four drawn announcements, in order.
    #[must_use]
    pub fn announcements(&self) -> [&Announcement; 4] {
        announcements(&self.job, &self.items)
    }

    /// Who sent the drawn announcement number `at`, 0 to 3.
    #[must_use]
    pub fn source_of(&self, at: usize) -> SourceId {
        let tree = self.job.tree();
        tree.set().source_of((self.items[at] % tree.count()) as usize)
    }

    /// The job that found it.
    #[must_use]
    pub fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// The header with its nonce.
    #[must_use]
    pub fn header(&self) -> &BlockHeader {
        &self.header
    }

    /// The low nonce.
    #[must_use]
    pub fn low_nonce(&self) -> u32 {
        self.low_nonce
    }

    /// The number by which the block handler is chosen (spec 04, 13.3).
    #[must_use]
    pub fn id(&self) -> u32 {
        ids::share_number(&self.header.0, self.low_nonce)
    }

    /// The id of the share's event, 32 hex digits (spec 05, 2.2).
    #[must_use]
    pub fn event_id(&self) -> String {
        ids::share_event_id(&self.header.0, self.low_nonce)
    }

    /// What is sent.
    #[must_use]
    pub fn upload(&self) -> &ShareUpload {
        &self.upload
    }
}

fn announcements<'j>(job: &'j Job, items: &[u64; 4]) -> [&'j Announcement; 4] {
    let tree = job.tree();
    items.map(|item| {
        Announcement::from_bytes(tree.set().announcement((item % tree.count()) as usize))
    })
}
