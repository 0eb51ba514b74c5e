//! Intake: the way of arriving announcements into the store, the same for all feeds.
//!
//! Trust is limited. Of each announcement version, target, height, key and signing key are looked
//! at; of some the proof is checked, many in lanes. A peer that sends a bad one is dropped for a
//! while, with a message, and everything it sent is given up ([`crate::peers`]). Of a datagram,
//! whose sender may be forged, the batch is given up, and the sender only when most are bad
//! ([`crate::doubt`]).
//!
//! Every feed has a [`Taker`]: announcements are received into a landing of the store, judged and
//! hashed there by the thread that received them, and admitted in one step.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use packetcrypt_core::AnnError;
use packetcrypt_core::announcement::{self, Announcement, BatchScratch, CheckScratch};
use packetcrypt_core::backend::Backend;
use packetcrypt_core::block::{tree, versions};
use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_core::params::ANNOUNCEMENT_BYTES;
use packetcrypt_jit::{AnyExecutor, Executor};

use crate::chain::{Chain, Parent};
use crate::class::{ClassKey, SourceId};
use crate::doubt::{Doubts, Verdict};
use crate::hash::hash_each;
use crate::peers::Peers;
use crate::stats::{ArrivalCounters, DropReason};
use crate::store::{Landed, Landing, Store};

/// Blocks above the one to be mined whose announcements are taken: the handlers may have heard of
/// them before this miner.
const BLOCKS_AHEAD_MAX: u32 = 2;

/// What all feeds have in common.
pub(crate) struct Intake {
    pub(crate) store: Arc<Store>,
    pub(crate) chain: Arc<Chain>,
    pub(crate) counters: Arc<ArrivalCounters>,
    pub(crate) peers: Arc<Peers>,
    /// What is known of peers whose address can be forged.
    pub(crate) doubts: Mutex<Doubts>,
    /// Part of the announcements of which the proof is checked.
    pub(crate) check_chance: f64,
}

impl Intake {
    /// Gives up all that a peer sent, and takes nothing of it for a while.
    pub(crate) fn drop_peer(&self, source: SourceId, why: &str) {
        self.store.retire_source(source);
        self.peers.drop_peer(source, why);
    }

    /// Takes over what a check of an announcement that was taken in has shown: `fault` is what is
    /// wrong with it. Who sent a bad one is dropped, if it is certain who that was.
    pub(crate) fn checked(&self, class: ClassKey, fault: Option<&str>) {
        if !self.peers.is_forgeable(class.source) {
            if let Some(why) = fault {
                self.drop_peer(class.source, why);
            }
            return;
        }
        let mut doubts = self.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        match doubts.weigh(class, fault.is_some()) {
            Verdict::Believed => {}
            Verdict::BadClass(class) => {
                let count = self.store.retire_classes(|key| *key == class);
                tracing::warn!("{count} announcements are given up, most like them are bad");
                self.peers.given_up.notify_one();
            }
            Verdict::BadSource(source) => {
                let is_bad = |key: &ClassKey| key.source == source && !doubts.is_good(key);
                self.store.retire_classes(is_bad);
                self.peers.drop_peer(source, fault.unwrap_or("most of what it sends is bad"));
            }
        }
    }
}

/// Takes the announcements of one feed in. Belongs to one thread.
pub(crate) struct Taker {
    intake: Arc<Intake>,
    checker: Checker,
}

impl Taker {
    pub(crate) fn new(intake: Arc<Intake>) -> Taker {
        Taker { intake, checker: Checker::new() }
    }

    /// Where to receive up to `len` announcements, or fewer when other feeds leave fewer slots.
    pub(crate) fn landing(&self, len: usize) -> Landing {
        self.intake.store.landing(len)
    }

    /// Copies announcements to slots and takes them in.
    pub(crate) fn take_copies(
        &mut self,
        source: SourceId,
        announcements: &[[u8; ANNOUNCEMENT_BYTES]],
    ) {
        let mut landing = self.landing(announcements.len());
        if landing.is_empty() {
            self.intake.count_lost(source, DropReason::NoRoom, announcements.len());
            return;
        }
        for announcements in announcements.chunks(landing.len()) {
            for (at, announcement) in announcements.iter().enumerate() {
                *landing.at(at) = *announcement;
            }
            self.take(&mut landing, source, announcements.len());
        }
    }

    /// Takes in what lies at the first `count` places of a landing. Every announcement is counted
    /// once: stored, duplicate, or dropped for a reason.
    pub(crate) fn take(&mut self, landing: &mut Landing, source: SourceId, count: usize) {
        let Taker { intake, checker } = self;
        intake.counters.received.fetch_add(count as u64, Ordering::Relaxed);
        if intake.peers.dropped_for(source).is_some() {
            return intake.count_dropped(source, DropReason::DroppedPeer, count);
        }
        // From here on: what is given up meanwhile is not stored.
        let epoch = intake.store.epoch();
        let Some(next) = intake.chain.next() else {
            return intake.count_dropped(source, DropReason::NoWork, count);
        };
        let mut judge =
            Judge { intake, height: next.height, last: None, parent: None, suspects: Vec::new() };
        let mut landed = Vec::with_capacity(count);
        for at in 0..count {
            let announcement = Announcement::from_bytes(landing.announcement(at));
            match judge.look_at(at, announcement) {
                Ok(()) => landed.push(Landed {
                    at,
                    hash: Hash32::ZERO,
                    parent_height: announcement.parent_block_height(),
                    work_bits: announcement.work_bits(),
                }),
                Err(reason) => intake.counters.dropped(reason, 1),
            }
        }
        let suspects = judge.suspects;
        let arrived: Vec<_> = landed.iter().map(|of| landing.announcement(of.at)).collect();
        for (of, hash) in landed.iter_mut().zip(hash_each(&arrived)) {
            of.hash = hash;
        }
        let looked_at = landed.len();
        landed.retain(|of| !matches!(tree::key(&of.hash), 0 | u64::MAX));
        intake.counters.dropped(DropReason::Key, (looked_at - landed.len()) as u64);
        intake.counters.checked.fetch_add(suspects.len() as u64, Ordering::Relaxed);
        let mut bad = Vec::new();
        for (at, fault) in checker.faults(landing, &suspects) {
            let before = landed.len();
            landed.retain(|of| of.at != at);
            match fault {
                _ if before == landed.len() => {}
                Fault::Replaced => intake.counters.dropped(DropReason::Replaced, 1),
                Fault::Bad(why) => bad.push((at, why)),
            }
        }
        for (at, _) in &suspects {
            let announcement = Announcement::from_bytes(landing.announcement(*at));
            let fault = bad.iter().find(|(of, _)| of == at).map(|(_, why)| why.as_str());
            intake.checked(ClassKey::of(announcement, source), fault);
            if fault.is_some() && intake.peers.dropped_for(source).is_some() {
                // Once is enough.
                break;
            }
        }
        if !bad.is_empty() {
            // The rest of the batch goes with it.
            intake.counters.dropped(DropReason::BadProof, bad.len() as u64);
            intake.counters.dropped(DropReason::DroppedPeer, landed.len() as u64);
            return intake.peers.count(source, count as u64, 0);
        }
        let inserted = landing.admit(&landed, source, next.height, epoch);
        let counters = &intake.counters;
        counters.stored.fetch_add(inserted.stored, Ordering::Relaxed);
        counters.duplicate.fetch_add(inserted.duplicate, Ordering::Relaxed);
        counters.dropped(DropReason::NoRoom, inserted.no_room);
        counters.dropped(DropReason::TooManyClasses, inserted.too_many_classes);
        counters.dropped(DropReason::Replaced, inserted.retired);
        intake.peers.count(source, count as u64, inserted.stored);
    }
}

impl Intake {
    /// Counts announcements that arrived and were not even looked at.
    pub(crate) fn count_lost(&self, source: SourceId, reason: DropReason, count: usize) {
        self.counters.received.fetch_add(count as u64, Ordering::Relaxed);
        self.count_dropped(source, reason, count);
    }

    fn count_dropped(&self, source: SourceId, reason: DropReason, count: usize) {
        self.peers.count(source, count as u64, 0);
        self.counters.dropped(reason, count as u64);
    }
}

/// What the header of an announcement says, as far as its use depends on it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    version: u8,
    parent_height: u32,
    bits: CompactTarget,
}

impl Seen {
    /// Whether it may be of use in a block of this height or a later one.
    fn judge(self, height: u32) -> Result<(), DropReason> {
        let Seen { version, parent_height, bits } = self;
        if !versions::announcement_allowed(version, parent_height, crate::PROOF_VERSION) {
            return Err(DropReason::Version);
        }
        if !bits.is_well_formed() {
            return Err(DropReason::Target);
        }
        if parent_height > height.saturating_add(BLOCKS_AHEAD_MAX) {
            return Err(DropReason::TooNew);
        }
        // The source does not matter for the value.
        let class = ClassKey { parent_height, work_bits: bits, source: SourceId(0) };
        if class.value(height) > CompactTarget::MAX { Err(DropReason::TooOld) } else { Ok(()) }
    }
}

/// Looks at the announcements of one batch.
struct Judge<'a> {
    intake: &'a Intake,
    height: u32,
    /// The header judged last.
    last: Option<(Seen, Result<(), DropReason>)>,
    /// The block looked up last: announcements of a batch mostly have the same parent.
    parent: Option<(u32, Option<Arc<Parent>>)>,
    /// Places of announcements of which the proof shall be checked, and their parents.
    suspects: Vec<(usize, Arc<Parent>)>,
}

impl Judge<'_> {
    fn look_at(&mut self, at: usize, announcement: &Announcement) -> Result<(), DropReason> {
        let parent_height = announcement.parent_block_height();
        let seen =
            Seen { version: announcement.version(), parent_height, bits: announcement.work_bits() };
        // Announcements of a batch mostly have these in common.
        match self.last {
            Some((last, verdict)) if last == seen => verdict?,
            _ => {
                let verdict = seen.judge(self.height);
                self.last = Some((seen, verdict));
                verdict?;
            }
        }
        if let Some(parent) = self.parent(parent_height) {
            let key = parent.signing_key.map(|key| key.0);
            if announcement.is_signed() && key.as_ref() != Some(announcement.signing_key()) {
                return Err(DropReason::SigningKey);
            }
            if rand::random::<f64>() < self.intake.check_chance {
                self.suspects.push((at, parent));
            }
        } else if parent_height < self.height {
            // Nobody could hold it against its sender that it is bad. Those on blocks that the
            // pool has not told of yet are taken: before they are usable their blocks are known.
            return Err(DropReason::UnknownParent);
        }
        Ok(())
    }

    fn parent(&mut self, height: u32) -> Option<Arc<Parent>> {
        if self.parent.as_ref().is_none_or(|(of, _)| *of != height) {
            let parent = self.intake.chain.parent(height).map(Arc::new);
            if parent.is_none() {
                self.intake.chain.miss(height);
            }
            self.parent = Some((height, parent));
        }
        self.parent.as_ref()?.1.clone()
    }
}

/// What is wrong with the proof of an announcement.
pub(crate) enum Fault {
    /// Valid on a block that left the chain: useless, but honestly made.
    Replaced,
    /// Not valid, and why.
    Bad(String),
}

/// Checks proofs. About a MiB: one for each thread.
pub(crate) struct Checker {
    batch: Box<BatchScratch>,
    executor: Box<AnyExecutor>,
    single: Box<CheckScratch>,
    backend: Backend,
}

impl Checker {
    pub(crate) fn new() -> Checker {
        let backend = Backend::best();
        Checker {
            batch: Box::new(BatchScratch::new()),
            executor: Box::new(AnyExecutor::new(Executor::best(), backend)),
            single: Box::new(CheckScratch::new()),
            backend,
        }
    }

    /// The faults among announcements of a landing, by place.
    fn faults(
        &mut self,
        landing: &Landing,
        suspects: &[(usize, Arc<Parent>)],
    ) -> Vec<(usize, Fault)> {
        if suspects.is_empty() {
            return Vec::new();
        }
        let of = |at: usize| Announcement::from_bytes(landing.announcement(at));
        let batch: Vec<_> = suspects.iter().map(|(at, parent)| (of(*at), &parent.hash)).collect();
        let mut results = vec![Err(AnnError::Inval); batch.len()];
        let (scratch, exec) = (&mut self.batch, &mut *self.executor);
        announcement::check_batch(&batch, &mut results, scratch, exec, self.backend);
        let refused = suspects.iter().zip(results).filter(|(_, result)| result.is_err());
        refused.filter_map(|((at, parent), _)| Some((*at, self.fault(of(*at), parent)?))).collect()
    }

    /// What is wrong with the proof of an announcement, if anything: it is checked against the
    /// block it should have been made on, and if that fails against those that were there before a
    /// reorganisation.
    pub(crate) fn fault(&mut self, announcement: &Announcement, parent: &Parent) -> Option<Fault> {
        let error = announcement::check(announcement, &parent.hash, &mut self.single).err()?;
        let mut valid_on = |hash| announcement::check(announcement, hash, &mut self.single).is_ok();
        if parent.replaced.iter().any(&mut valid_on) {
            return Some(Fault::Replaced);
        }
        let height = announcement.parent_block_height();
        Some(Fault::Bad(format!(
            "announcement on block {height} ({}) is {}: {error}",
            parent.hash.display(),
            error.name()
        )))
    }
}

#[cfg(test)]
mod tests;
