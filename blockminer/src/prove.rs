//! From solutions to shares: a thread that proves each solution, checks the share as the pool will,
//! and checks its four announcements, before anything leaves the miner.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use crate::class::ClassKey;
use crate::intake::{Checker, Fault, Intake};
use crate::search::Found;
use crate::share::Share;
use crate::stats::ShareOutcome;
use crate::upload::{Outgoing, UploadQueue};

/// Solutions that wait for being checked; the mining threads wait beyond.
const QUEUE_LEN_MAX: usize = 64;

/// Checks solutions and hands shares to the uploaders.
pub(crate) struct Prover {
    pub(crate) intake: Arc<Intake>,
    pub(crate) uploads: Arc<UploadQueue>,
}

impl Prover {
    /// Starts the thread. It ends when every sender is gone.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(self) -> io::Result<(SyncSender<Found>, JoinHandle<()>)> {
        let (sender, receiver) = sync_channel(QUEUE_LEN_MAX);
        let thread = thread::Builder::new()
            .name("blk-prove".to_owned())
            .spawn(move || self.run(&receiver))?;
        Ok((sender, thread))
    }

    fn run(&self, found: &Receiver<Found>) {
        let mut checker = Checker::new();
        while let Ok(found) = found.recv() {
            self.prove(found, &mut checker);
        }
    }

    fn prove(&self, found: Found, checker: &mut Checker) {
        let Found { job, header_nonce, solution, ticket } = found;
        if !self.intake.chain.takes_shares_on(&job.previous_block()) {
            return ticket.finish(ShareOutcome::Stale);
        }
        let checked = Share::assemble(job, header_nonce, &solution)
            .and_then(|share| share.check().map(|_| share))
            .map_err(|fault| fault.to_string())
            .and_then(|share| self.check_announcements(&share, checker).map(|()| share));
        match checked {
            Ok(share) => self.uploads.push(Outgoing::new(&share, ticket)),
            Err(fault) => {
                tracing::error!("a share failed its own check and is not sent: {fault}");
                ticket.finish(ShareOutcome::Rejected(format!("own check: {fault}")));
            }
        }
    }

    /// Checks the proofs of the four announcements. Who sent a bad one is dropped. What can not be
    /// checked, as its parent block is not known, is not sent, and the block is asked for.
    fn check_announcements(&self, share: &Share, checker: &mut Checker) -> Result<(), String> {
        for (at, announcement) in share.announcements().into_iter().enumerate() {
            let height = announcement.parent_block_height();
            let Some(parent) = self.intake.chain.parent(height) else {
                self.intake.chain.miss(height);
                return Err("the parent block of an announcement is not known".to_owned());
            };
            let class = ClassKey::of(announcement, share.source_of(at));
            match checker.fault(announcement, &parent) {
                None => self.intake.checked(class, None),
                Some(Fault::Replaced) => {
                    return Err("an announcement was made on a replaced block".to_owned());
                }
                Some(Fault::Bad(why)) => {
                    self.intake.checked(class, Some(&why));
                    return Err(format!("bad announcement [{why}]"));
                }
            }
        }
        Ok(())
    }
}
