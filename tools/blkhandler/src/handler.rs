//! One share from its upload to its reply (spec 05, 10.2 and 16).

use std::sync::Arc;
use std::time::{Duration, Instant};

use packetcrypt_core::block::check::BlockKind;
use packetcrypt_core::bytes::CompactTarget;
use packetcrypt_net::Clock;
use packetcrypt_net::paylog::PayLog;
use packetcrypt_node::{Node, NodeError, ShareToCheck, ShareVerdict, SubmitVerdict};
use packetcrypt_proto::compact;
use packetcrypt_proto::events::{ShareEvent, ShareFacts};
use packetcrypt_proto::share::{ShareRejection, ShareUpload};
use packetcrypt_proto::signing::SigningSeed;
use tokio::sync::watch;

use crate::assemble::{self, Assembled};
use crate::blocks::Blocks;
use crate::check::{self, OwnCheck};
use crate::config::Config;
use crate::duplicates::Claim;
use crate::patient::PatientNode;
use crate::pending::PendingBlock;
use crate::refusal::{self, Refusal};
use crate::stats::{Counters, Outcome};
use crate::work::{Found, Work, Works};

/// How long a share waits for a work that the master has announced and not yet given.
const ANNOUNCED_TIME_MAX: Duration = Duration::from_secs(5);

/// Warning of a share that was paid before (spec 05, 16.1).
const WARN_DUPLICATE: &str = "Duplicate share";
/// Warning of a share for the work before the present one.
const WARN_PREVIOUS_WORK: &str =
    "Share is for the previous work, it is paid but can not be a block";
/// Warning of a block whose fate is not known yet.
const WARN_PENDING: &str = "Block submission is pending, the node does not answer";

/// What all requests share.
pub(crate) struct Handler<N> {
    pub(crate) config: Config,
    pub(crate) seed: Option<SigningSeed>,
    pub(crate) node: PatientNode<N>,
    pub(crate) works: watch::Receiver<Works>,
    pub(crate) own_check: OwnCheck,
    pub(crate) blocks: Arc<Blocks<N>>,
    pub(crate) pay_log: PayLog,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counters: Arc<Counters>,
}

/// A share that is answered with 200.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) event: ShareEvent,
    pub(crate) warning: Option<&'static str>,
    pub(crate) outcome: Outcome,
}

/// What a verdict rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdict {
    is_block: bool,
    by_node: bool,
}

impl<N: Node> Handler<N> {
    /// Decides about a share. Runs to its end also when the miner has gone away: a block in it is
    /// worth more than the reply.
    ///
    /// # Errors
    /// [`Refusal`]; a share whose block was refused is logged nevertheless.
    pub(crate) async fn take(&self, upload: ShareUpload, pay_to: &str) -> Result<Taken, Refusal> {
        let (works, work, is_previous) = self.work_of(&upload).await?;
        let template = work.template.get().ok_or(ShareRejection::NoTemplate)?;
        let assembled = assemble::assemble(&upload, template, self.seed.as_ref())?;
        let assembled = Arc::new(assembled);
        let claimed = match work.shares.claim(assembled.event_id.clone()).await {
            Claim::Fresh(claimed) => claimed,
            Claim::Full => return Err(Refusal::TooManyShares),
            Claim::Duplicate(event) => {
                let warning = Some(WARN_DUPLICATE);
                return Ok(Taken { event, warning, outcome: Outcome::Duplicate });
            }
        };
        let facts = facts_of(&upload, work.file.share_target)?;
        let verdict = self.verdict(&works, &work, &upload, &assembled).await?;
        let event_of = |facts: &ShareFacts| {
            ShareEvent::new(facts, pay_to, self.clock.now_ms(), assembled.event_id.clone())
        };
        let mut refused = None;
        let mut warning = is_previous.then_some(WARN_PREVIOUS_WORK);
        let mut event = event_of(&facts);
        let mut settled = None;
        let hash = assembled.hash;
        let may_be_block = verdict.is_block && !is_previous;
        if may_be_block && !self.blocks.is_resumed(&hash) && work.claim_block(hash) {
            let as_block = event_of(&ShareFacts { block: Some(hash), ..facts });
            let block = assembled.block(template);
            let pending = PendingBlock { block, event: as_block.clone() };
            // A node that just gave no answer is not waited for again: each wait would hold an
            // upload of the miner, which has only a few.
            let wait = if verdict.by_node { self.node.wait() } else { Duration::ZERO };
            let verdict = self.blocks.submit(hash, pending, wait).await;
            let is_known = verdict.as_ref().is_some_and(SubmitVerdict::is_duplicate);
            match verdict {
                Some(SubmitVerdict::Accepted) => event = as_block,
                Some(SubmitVerdict::Refused(text)) => {
                    if !is_known {
                        work.release_block(&hash);
                    }
                    refused = Some(refusal::block_refused(text));
                }
                None => warning = Some(WARN_PENDING),
            }
            settled = Some(hash);
        }
        self.log(&event).await?;
        if let Some(hash) = settled.filter(|_| warning != Some(WARN_PENDING)) {
            self.blocks.settled(hash).await;
        }
        claimed.accept(event.without_block());
        self.count_circumstances(is_previous, verdict);
        match refused {
            Some(refused) => Err(refused),
            None => Ok(Taken { event, warning, outcome: Outcome::Accepted }),
        }
    }

    /// The work that a share builds on, with the state it was found in, and whether it is the one
    /// before the present.
    async fn work_of(&self, upload: &ShareUpload) -> Result<(Works, Arc<Work>, bool), Refusal> {
        let got = upload.previous_hash();
        let mut receiver = self.works.clone();
        let deadline = tokio::time::Instant::now() + ANNOUNCED_TIME_MAX;
        loop {
            let works = receiver.borrow_and_update().clone();
            match works.find(upload, Instant::now()) {
                Found::Present(work) => return Ok((works, work, false)),
                Found::Previous(work) => return Ok((works, work, true)),
                Found::NoWork => return Err(ShareRejection::NoCurrentWork.into()),
                Found::Other { expected } => {
                    return Err(ShareRejection::WrongWork { expected, got }.into());
                }
                Found::Announced { expected } => {
                    let changed = tokio::time::timeout_at(deadline, receiver.changed()).await;
                    if !matches!(changed, Ok(Ok(()))) {
                        return Err(ShareRejection::WrongWork { expected, got }.into());
                    }
                }
            }
        }
    }

    /// Own check first, as far as it is switched on, then the node's.
    async fn verdict(
        &self,
        works: &Works,
        work: &Arc<Work>,
        upload: &ShareUpload,
        assembled: &Arc<Assembled>,
    ) -> Result<Verdict, Refusal> {
        assemble::check_targets(upload)?;
        let own = if self.config.own_check {
            Some(self.own_check.check(&self.node, works, work, upload, assembled).await?)
        } else {
            None
        };
        if let Some(kind) = own.filter(|_| self.node.is_away()) {
            return Ok(Verdict { is_block: kind == BlockKind::Block, by_node: false });
        }
        let request = ShareToCheck {
            share_target: work.file.share_target,
            height: work.file.height,
            block: assembled.share(),
            coinbase: assembled.coinbase.clone(),
            merkle_branch: work.file.merkle_branch.clone(),
        };
        let is_block = match self.node.check_share(&request).await {
            Ok(ShareVerdict::Ok) => false,
            Ok(ShareVerdict::ResubmitAsBlock) => true,
            Ok(ShareVerdict::Other(result)) => {
                return Err(ShareRejection::UnexpectedResult { result }.into());
            }
            Err(e) => return without_node(&e, own),
        };
        if own.is_some_and(|own| (own == BlockKind::Block) != is_block) {
            tracing::warn!("share {}: the node disagrees: {is_block}", assembled.event_id);
        }
        Ok(Verdict { is_block, by_node: true })
    }

    async fn log(&self, event: &ShareEvent) -> Result<(), Refusal> {
        self.pay_log.append(event.to_line()).await.map_err(|e| {
            tracing::error!("share {} is not logged: {e}", event.event_id);
            Refusal::NotLogged
        })
    }

    fn count_circumstances(&self, is_previous: bool, verdict: Verdict) {
        if is_previous {
            self.counters.previous_work.inc();
        }
        if !verdict.by_node {
            self.counters.without_node.inc();
        }
    }
}

/// What becomes of a share when the node gave no verdict: a refusal of the node is final; when the
/// node is away the own check decides.
fn without_node(error: &NodeError, own: Option<BlockKind>) -> Result<Verdict, Refusal> {
    if let Some(refusal) = error.rpc() {
        let error_json = refusal.to_json();
        return Err(ShareRejection::FailedValidation { error_json }.into());
    }
    match own {
        Some(kind) => Ok(Verdict { is_block: kind == BlockKind::Block, by_node: false }),
        None => Err(Refusal::NodeAway(error.to_string())),
    }
}

fn facts_of(upload: &ShareUpload, target: CompactTarget) -> Result<ShareFacts, Refusal> {
    let (ann_count, ann_min_work) = (upload.ann_count(), upload.ann_min_work());
    let encryptions =
        compact::encryptions(target, ann_min_work, ann_count).ok_or_else(check::no_encryptions)?;
    Ok(ShareFacts { block: None, target, ann_count, ann_min_work, encryptions })
}
