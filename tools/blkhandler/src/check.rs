//! The handler's own check of a share, before and besides the node's.
//!
//! It guards the node against floods of invalid shares, and it lets shares be paid while the node is
//! away. It needs the ids of the announcements' parent blocks: the master tells those of the last
//! blocks, the node is asked for others, once a work, and only for a share that has work.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use packetcrypt_core::block::check::{BlockKind, CheckScratch, ParentHash};
use packetcrypt_core::block::share::{
    ShareCheck, validate_share, validate_share_without_announcements,
};
use packetcrypt_core::bytes::read_u32;
use packetcrypt_node::{Node, RpcError};
use packetcrypt_proto::share::ShareUpload;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Semaphore;

use crate::assemble::Assembled;
use crate::patient::PatientNode;
use crate::refusal::Refusal;
use crate::work::{Work, Works};

/// The code of the node for an invalid share (spec 06, 1.3).
const NODE_CODE_INVALID: i64 = -32603;
/// Offset of the parent height in an announcement.
const PARENT_HEIGHT_AT: usize = 12;

/// Checks shares on threads of their own, as many at once as there are cores.
pub(crate) struct OwnCheck {
    turns: Semaphore,
    /// Parent blocks asked of the node.
    asked: Counter,
    /// Scratch memory, used again.
    scratch: Arc<Mutex<Vec<Box<CheckScratch>>>>,
}

impl OwnCheck {
    pub(crate) fn new(asked: Counter) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { turns: Semaphore::new(cores), asked, scratch: Arc::default() }
    }

    /// What the share is, by the rules of spec 04, 11.
    ///
    /// # Errors
    /// [`Refusal::InvalidHere`], or [`Refusal::NodeAway`] when a parent block is not known and the
    /// node can not be asked.
    pub(crate) async fn check<N: Node>(
        &self,
        node: &PatientNode<N>,
        works: &Works,
        work: &Arc<Work>,
        upload: &ShareUpload,
        assembled: &Arc<Assembled>,
    ) -> Result<BlockKind, Refusal> {
        let (mut parents, unknown) = known_parents(works, work, upload);
        if !unknown.is_empty() {
            // Everybody can make up a share that asks the node for four blocks.
            self.run(work, assembled, None).await?;
            self.asked.inc_by(unknown.len() as u64);
            ask_for_parents(node, work, &unknown, &mut parents).await?;
        }
        self.run(work, assembled, Some(parents)).await
    }

    /// One pass, without parents one without the announcements.
    async fn run(
        &self,
        work: &Arc<Work>,
        assembled: &Arc<Assembled>,
        parents: Option<HashMap<u32, ParentHash>>,
    ) -> Result<BlockKind, Refusal> {
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await;
        let (work, assembled, pool) = (work.clone(), assembled.clone(), self.scratch.clone());
        let job = move || {
            let free = lock(&pool).pop();
            let mut scratch = free.unwrap_or_else(|| Box::new(CheckScratch::new()));
            let share = assembled.share();
            let check = ShareCheck {
                block: &share,
                coinbase: &assembled.coinbase,
                merkle_branch: &work.file.merkle_branch,
                height: work.file.height.cast_unsigned(),
                share_target: work.file.share_target,
                check_signatures: true,
            };
            let outcome = match parents {
                None => validate_share_without_announcements(&check, &mut scratch),
                Some(parents) => {
                    let parent_at =
                        |height| parents.get(&height).copied().unwrap_or(ParentHash::Unknown);
                    validate_share(&check, parent_at, &mut scratch)
                }
            };
            lock(&pool).push(scratch);
            outcome
        };
        match tokio::task::spawn_blocking(job).await {
            Ok(Ok(found)) => Ok(found.kind),
            Ok(Err(e)) => Err(Refusal::InvalidHere(error_json(e.to_string()))),
            Err(e) => Err(Refusal::NodeAway(e.to_string())),
        }
    }
}

/// Refuses a share whose commitment counts no announcements, for which the reference has no answer
/// (spec 05, 2.3).
pub(crate) fn no_encryptions() -> Refusal {
    let text = "the commitment counts no announcements or its target leaves no work";
    Refusal::InvalidHere(error_json(text.to_owned()))
}

/// The error object of a share that is refused here, in the form of the node's.
fn error_json(message: String) -> String {
    RpcError { code: Some(NODE_CODE_INVALID), message }.to_json()
}

/// The parent blocks of the four announcements by height, and the heights of which nothing is known.
fn known_parents(
    works: &Works,
    work: &Work,
    upload: &ShareUpload,
) -> (HashMap<u32, ParentHash>, BTreeSet<u32>) {
    let (mut parents, mut unknown) = (HashMap::new(), BTreeSet::new());
    for announcement in upload.announcements() {
        let height = read_u32(announcement, PARENT_HEIGHT_AT);
        match works.block_at(height.cast_signed(), work).or_else(|| work.parent(height)) {
            Some(hash) => {
                parents.insert(height, ParentHash::Known(hash));
            }
            None => {
                unknown.insert(height);
            }
        }
    }
    (parents, unknown)
}

/// Asks the node for blocks.
async fn ask_for_parents<N: Node>(
    node: &PatientNode<N>,
    work: &Work,
    heights: &BTreeSet<u32>,
    parents: &mut HashMap<u32, ParentHash>,
) -> Result<(), Refusal> {
    for &height in heights {
        let parent = match node.block_hash(height.cast_signed()).await {
            Ok(hash) => {
                work.remember_parent(height, hash);
                ParentHash::Known(hash)
            }
            Err(e) if e.rpc().is_some() => ParentHash::Unknown,
            Err(e) => return Err(Refusal::NodeAway(e.to_string())),
        };
        parents.insert(height, parent);
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A list of free memory is never half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
