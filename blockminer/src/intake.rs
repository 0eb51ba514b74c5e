//! Intake: the way of arriving announcements into the store, the same for all feeds.
//!
//! Trust is limited. Of each announcement version, target, height, key and signing key are looked
//! at; of some the proof is checked. A peer that sends a bad one is dropped for a while, with a
//! message, and everything it sent is given up.
//!
//! The work is done on a thread of its own behind a bounded queue: the HTTP feed waits for room in
//! it, the UDP feed drops and counts.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use packetcrypt_core::announcement::{self, Announcement};
use packetcrypt_core::block::tree;
use packetcrypt_core::block::versions;
use packetcrypt_core::params::ANNOUNCEMENT_BYTES;
use tokio::sync::{Notify, mpsc};

use crate::chain::{Chain, Parent};
use crate::class::{ClassKey, SourceId, UNUSABLE};
use crate::stats::{ArrivalCounters, DropReason, PeerFigures};
use crate::store::{Arrival, Store};

/// Batches that wait for the intake.
const QUEUE_LEN_MAX: usize = 64;
/// Announcements that are looked at before the store is asked.
const BATCH_LEN_MAX: usize = 1024;
/// Blocks above the one to be mined whose announcements are taken: the handlers may have heard of
/// them before this miner.
const BLOCKS_AHEAD_MAX: u32 = 2;
/// Peers that are told apart.
const PEERS_LEN_MAX: usize = 4096;
/// A peer stays dropped for at most this long.
const DROPPED_MAX: Duration = Duration::from_secs(3600);

/// Announcements from one peer.
pub(crate) struct Batch {
    pub(crate) source: SourceId,
    /// Whole announcements; a rest is ignored.
    pub(crate) bytes: Bytes,
}

/// The peers that send announcements.
pub(crate) struct Peers {
    peers: Mutex<Vec<Peer>>,
    drop_first: Duration,
    /// Tells the one who builds trees that announcements were given up.
    pub(crate) given_up: Notify,
}

struct Peer {
    name: String,
    received: u64,
    stored: u64,
    dropped_until: Option<Instant>,
    drops: u32,
    trouble: Option<String>,
}

impl Peers {
    pub(crate) fn new(drop_first: Duration) -> Peers {
        Peers { peers: Mutex::default(), drop_first, given_up: Notify::new() }
    }

    /// The number of a peer. When there are too many the last number stands for all further ones.
    pub(crate) fn source(&self, name: &str) -> SourceId {
        let mut peers = self.locked();
        let at = peers.iter().position(|peer| peer.name == name).unwrap_or_else(|| {
            if peers.len() < PEERS_LEN_MAX {
                peers.push(Peer {
                    name: name.to_owned(),
                    received: 0,
                    stored: 0,
                    dropped_until: None,
                    drops: 0,
                    trouble: None,
                });
            }
            peers.len() - 1
        });
        SourceId(at as u32)
    }

    /// For how long the peer stays dropped, `None` when it is not.
    pub(crate) fn dropped_for(&self, source: SourceId) -> Option<Duration> {
        let peers = self.locked();
        let until = peers.get(source.0 as usize)?.dropped_until?;
        Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// Drops a peer, twice as long as the last time.
    pub(crate) fn drop_peer(&self, source: SourceId, why: &str) {
        let mut peers = self.locked();
        let Some(peer) = peers.get_mut(source.0 as usize) else { return };
        let time = self.drop_first.saturating_mul(1 << peer.drops.min(12)).min(DROPPED_MAX);
        peer.drops += 1;
        peer.dropped_until = Some(Instant::now() + time);
        tracing::warn!(
            "announcements: {} dropped for {} s, all it sent is given up: {why}",
            peer.name,
            time.as_secs()
        );
        peer.trouble = Some(why.to_owned());
        drop(peers);
        self.given_up.notify_one();
    }

    /// Remembers what is wrong with a peer, or that nothing is; true when that is new.
    pub(crate) fn set_trouble(&self, source: SourceId, trouble: Option<String>) -> bool {
        let mut peers = self.locked();
        let Some(peer) = peers.get_mut(source.0 as usize) else { return false };
        let is_new = peer.trouble != trouble;
        peer.trouble = trouble;
        is_new
    }

    pub(crate) fn figures(&self) -> Vec<PeerFigures> {
        let now = Instant::now();
        let left = |peer: &Peer| {
            let until = peer.dropped_until?;
            Some(until.saturating_duration_since(now).as_millis() as u64)
        };
        self.locked()
            .iter()
            .map(|peer| PeerFigures {
                name: peer.name.clone(),
                received: peer.received,
                stored: peer.stored,
                dropped_for_ms: left(peer).unwrap_or(0),
                trouble: peer.trouble.clone(),
            })
            .collect()
    }

    fn count(&self, source: SourceId, received: u64, stored: u64) {
        if let Some(peer) = self.locked().get_mut(source.0 as usize) {
            peer.received += received;
            peer.stored += stored;
        }
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes announcements in. Shared by the thread and, in tests, called directly.
pub(crate) struct Intake {
    pub(crate) store: Arc<Store>,
    pub(crate) chain: Arc<Chain>,
    pub(crate) counters: Arc<ArrivalCounters>,
    pub(crate) peers: Arc<Peers>,
    /// Part of the announcements of which the proof is checked.
    pub(crate) check_chance: f64,
}

/// A clone of this sends batches.
#[derive(Clone)]
pub(crate) struct Inlet {
    queue: mpsc::Sender<Batch>,
    counters: Arc<ArrivalCounters>,
}

impl Inlet {
    /// Sends a batch; waits for room. False when the intake has ended.
    pub(crate) async fn send(&self, batch: Batch) -> bool {
        let count = announcements_in(&batch.bytes);
        let Ok(room) = self.queue.reserve().await else { return false };
        self.counters.received.fetch_add(count, Ordering::Relaxed);
        room.send(batch);
        true
    }

    /// Sends a batch, or drops it when there is no room.
    pub(crate) fn offer(&self, batch: Batch) {
        let count = announcements_in(&batch.bytes);
        self.counters.received.fetch_add(count, Ordering::Relaxed);
        if self.queue.try_send(batch).is_err() {
            self.counters.dropped(DropReason::QueueFull, count);
        }
    }
}

fn announcements_in(bytes: &Bytes) -> u64 {
    (bytes.len() / ANNOUNCEMENT_BYTES) as u64
}

impl Intake {
    /// Starts the thread. It ends when every [`Inlet`] is gone.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(self: Arc<Self>) -> io::Result<(Inlet, JoinHandle<()>)> {
        let (queue, mut batches) = mpsc::channel(QUEUE_LEN_MAX);
        let inlet = Inlet { queue, counters: self.counters.clone() };
        let thread = thread::Builder::new().name("blk-intake".to_owned()).spawn(move || {
            let mut scratch = Box::new(announcement::CheckScratch::new());
            while let Some(batch) = batches.blocking_recv() {
                self.take_in(&batch, &mut scratch);
            }
        })?;
        Ok((inlet, thread))
    }

    fn take_in(&self, batch: &Batch, scratch: &mut announcement::CheckScratch) {
        let (announcements, _) = batch.bytes.as_chunks::<ANNOUNCEMENT_BYTES>();
        for announcements in announcements.chunks(BATCH_LEN_MAX) {
            self.take_some(batch.source, announcements, scratch);
        }
    }

    /// Every announcement is counted once: stored, duplicate, or dropped for a reason.
    fn take_some(
        &self,
        source: SourceId,
        announcements: &[[u8; ANNOUNCEMENT_BYTES]],
        scratch: &mut announcement::CheckScratch,
    ) {
        let count = announcements.len() as u64;
        if self.peers.dropped_for(source).is_some() {
            self.peers.count(source, count, 0);
            return self.counters.dropped(DropReason::DroppedPeer, count);
        }
        let Some(next) = self.chain.next() else {
            self.peers.count(source, count, 0);
            return self.counters.dropped(DropReason::NoWork, count);
        };
        let mut judge = Judge::new(self, next.height, scratch);
        let mut arrivals = Vec::with_capacity(announcements.len());
        for (at, bytes) in announcements.iter().enumerate() {
            match judge.look_at(bytes) {
                Ok(arrival) => arrivals.push(arrival),
                Err(Refusal::This(reason)) => self.counters.dropped(reason, 1),
                Err(Refusal::Peer(why)) => {
                    // The rest of the batch and what was good so far goes with it.
                    let rest = (announcements.len() - at - 1 + arrivals.len()) as u64;
                    self.counters.dropped(DropReason::BadProof, 1);
                    self.counters.dropped(DropReason::DroppedPeer, rest);
                    self.peers.count(source, count, 0);
                    return self.drop_peer(source, &why);
                }
            }
        }
        let inserted = self.store.insert(&arrivals, source, next.height);
        self.counters.stored.fetch_add(inserted.stored, Ordering::Relaxed);
        self.counters.duplicate.fetch_add(inserted.duplicate, Ordering::Relaxed);
        self.counters.dropped(DropReason::NoRoom, inserted.no_room);
        self.counters.dropped(DropReason::TooManyClasses, inserted.too_many_classes);
        self.counters.dropped(DropReason::Replaced, inserted.retired);
        self.peers.count(source, count, inserted.stored);
    }

    /// Gives up all that a peer sent, and takes nothing of it for a while.
    pub(crate) fn drop_peer(&self, source: SourceId, why: &str) {
        self.store.retire_source(source);
        self.peers.drop_peer(source, why);
    }
}

enum Refusal {
    /// This announcement is not taken.
    This(DropReason),
    /// Nor is any other of this peer.
    Peer(String),
}

/// Looks at the announcements of one batch.
struct Judge<'a> {
    intake: &'a Intake,
    height: u32,
    scratch: &'a mut announcement::CheckScratch,
    /// The block looked up last: announcements of a batch mostly have the same parent.
    parent: Option<(u32, Option<Parent>)>,
    checked: &'a AtomicU64,
}

impl<'a> Judge<'a> {
    fn new(
        intake: &'a Intake,
        height: u32,
        scratch: &'a mut announcement::CheckScratch,
    ) -> Judge<'a> {
        Judge { intake, height, scratch, parent: None, checked: &intake.counters.checked }
    }

    fn look_at<'b>(&mut self, bytes: &'b [u8; ANNOUNCEMENT_BYTES]) -> Result<Arrival<'b>, Refusal> {
        let announcement = Announcement::from_bytes(bytes);
        let parent_height = announcement.parent_block_height();
        let work_bits = announcement.work_bits();
        let refuse = |reason| Err(Refusal::This(reason));
        if !versions::announcement_allowed(
            announcement.version(),
            parent_height,
            crate::PROOF_VERSION,
        ) {
            return refuse(DropReason::Version);
        }
        if !work_bits.is_well_formed() {
            return refuse(DropReason::Target);
        }
        if parent_height > self.height.saturating_add(BLOCKS_AHEAD_MAX) {
            return refuse(DropReason::TooNew);
        }
        // The source does not matter for the value.
        let class = ClassKey { parent_height, work_bits, source: SourceId(0) };
        if class.value(self.height) > packetcrypt_core::CompactTarget::MAX {
            debug_assert_eq!(class.value(self.height), UNUSABLE);
            return refuse(DropReason::TooOld);
        }
        let hash = announcement.hash();
        if matches!(tree::key(&hash), 0 | u64::MAX) {
            return refuse(DropReason::Key);
        }
        if let Some(parent) = self.parent(parent_height).cloned() {
            let key = parent.signing_key.map(|key| key.0);
            if announcement.is_signed() && key.as_ref() != Some(announcement.signing_key()) {
                return refuse(DropReason::SigningKey);
            }
            if rand::random::<f64>() < self.intake.check_chance {
                self.check_proof(announcement, &parent)?;
            }
        }
        Ok(Arrival { bytes, hash, parent_height, work_bits })
    }

    fn check_proof(&mut self, announcement: &Announcement, parent: &Parent) -> Result<(), Refusal> {
        self.checked.fetch_add(1, Ordering::Relaxed);
        match check_proof(announcement, parent, self.scratch) {
            ProofCheck::Good => Ok(()),
            ProofCheck::Replaced => Err(Refusal::This(DropReason::Replaced)),
            ProofCheck::Bad(why) => Err(Refusal::Peer(why)),
        }
    }

    fn parent(&mut self, height: u32) -> Option<&Parent> {
        if self.parent.as_ref().is_none_or(|(of, _)| *of != height) {
            self.parent = Some((height, self.intake.chain.parent(height)));
        }
        self.parent.as_ref()?.1.as_ref()
    }
}

/// What the proof of an announcement is worth.
pub(crate) enum ProofCheck {
    /// Valid on its parent block.
    Good,
    /// Valid on a block that left the chain: useless, but honestly made.
    Replaced,
    /// Not valid, and why.
    Bad(String),
}

/// Checks the proof of an announcement against the block it should have been made on, and if that
/// fails against those that were there before a reorganisation.
pub(crate) fn check_proof(
    announcement: &Announcement,
    parent: &Parent,
    scratch: &mut announcement::CheckScratch,
) -> ProofCheck {
    let Err(error) = announcement::check(announcement, &parent.hash, scratch) else {
        return ProofCheck::Good;
    };
    let mut valid_on = |hash| announcement::check(announcement, hash, scratch).is_ok();
    if parent.replaced.iter().any(&mut valid_on) {
        return ProofCheck::Replaced;
    }
    let height = announcement.parent_block_height();
    ProofCheck::Bad(format!(
        "announcement on block {height} ({}) is {}: {error}",
        parent.hash.display(),
        error.name()
    ))
}
