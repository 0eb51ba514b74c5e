//! Who is sent to, and what waits for each.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{AnnouncementBytes, Outgoing, PeerStats};
use crate::limits::{SPRAYER_CHUNKS_MAX, SPRAYER_SUBSCRIBER_MS_MAX, SPRAYER_SUBSCRIBERS_MAX};

/// Everybody that a sprayer has to do with.
#[derive(Debug)]
pub(super) struct Peers {
    peers: BTreeMap<SocketAddr, Peer>,
    refused: u64,
}

#[derive(Debug, Default)]
struct Peer {
    /// Always sent to (`spray_at`).
    is_fixed: bool,
    /// Listed in `subscribe_to`, so it stays in the list.
    is_source: bool,
    subscribed: Option<Instant>,
    chunks: VecDeque<Arc<Vec<AnnouncementBytes>>>,
    sequence: u64,
    sent: u64,
    dropped: u64,
    send_errors: u64,
    received: u64,
}

/// A chunk to be sent now.
pub(super) struct Job {
    pub(super) to: SocketAddr,
    pub(super) chunk: Arc<Vec<AnnouncementBytes>>,
    /// Number of the chunk's first record.
    pub(super) sequence: u64,
}

impl Peer {
    fn is_sent_to(&self, now: Instant) -> bool {
        let limit = Duration::from_millis(SPRAYER_SUBSCRIBER_MS_MAX);
        self.is_fixed || self.subscribed.is_some_and(|at| now.saturating_duration_since(at) < limit)
    }

    fn queued(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.len() as u64).sum()
    }
}

impl Peers {
    pub(super) fn new(spray_at: &[SocketAddr], sources: impl Iterator<Item = SocketAddr>) -> Self {
        let mut peers = BTreeMap::<SocketAddr, Peer>::new();
        for addr in spray_at {
            peers.entry(*addr).or_default().is_fixed = true;
        }
        for addr in sources {
            peers.entry(addr).or_default().is_source = true;
        }
        Self { peers, refused: 0 }
    }

    /// A subscription with the right password; false when there are too many subscribers.
    pub(super) fn subscribe(&mut self, addr: SocketAddr, now: Instant) -> bool {
        if let Some(peer) = self.peers.get_mut(&addr) {
            peer.subscribed = Some(now);
            return true;
        }
        self.remove_expired(now);
        let subscribers = self.peers.values().filter(|peer| peer.is_sent_to(now)).count();
        if subscribers >= SPRAYER_SUBSCRIBERS_MAX {
            self.refused += 1;
            return false;
        }
        self.peers.insert(addr, Peer { subscribed: Some(now), ..Peer::default() });
        true
    }

    /// Counts records received from `addr`.
    pub(super) fn received(&mut self, addr: SocketAddr, records: u64) {
        if let Some(peer) = self.peers.get_mut(&addr) {
            peer.received += records;
        }
    }

    /// Queues a chunk for everybody but its source; the oldest chunk of a full queue is dropped.
    pub(super) fn distribute(&mut self, outgoing: &Outgoing, now: Instant) {
        for (addr, peer) in &mut self.peers {
            if Some(*addr) == outgoing.source || !peer.is_sent_to(now) {
                continue;
            }
            while peer.chunks.len() >= SPRAYER_CHUNKS_MAX {
                let oldest = peer.chunks.pop_front();
                peer.dropped += oldest.map_or(0, |chunk| chunk.len() as u64);
            }
            peer.chunks.push_back(outgoing.announcements.clone());
        }
    }

    /// The newest chunk of each peer.
    pub(super) fn take_jobs(&mut self, now: Instant, jobs: &mut Vec<Job>) {
        for (addr, peer) in &mut self.peers {
            if !peer.is_sent_to(now) {
                // It is not heard of any more: what waits for it is lost.
                peer.dropped += peer.queued();
                peer.chunks.clear();
            } else if let Some(chunk) = peer.chunks.pop_back() {
                let sequence = peer.sequence;
                peer.sequence += chunk.len() as u64;
                jobs.push(Job { to: *addr, chunk, sequence });
            }
        }
    }

    /// Counts what became of a job.
    pub(super) fn sent(&mut self, addr: SocketAddr, sent: u64, errors: u64) {
        if let Some(peer) = self.peers.get_mut(&addr) {
            peer.sent += sent;
            peer.send_errors += errors;
        }
    }

    /// Forgets subscribers that were not heard of.
    pub(super) fn remove_expired(&mut self, now: Instant) {
        self.peers.retain(|_, peer| peer.is_source || peer.is_sent_to(now));
    }

    pub(super) fn subscribers_refused(&self) -> u64 {
        self.refused
    }

    pub(super) fn stats(&self) -> Vec<PeerStats> {
        let now = Instant::now();
        let stats = self.peers.iter().map(|(addr, peer)| PeerStats {
            addr: *addr,
            is_subscriber: peer.is_sent_to(now),
            sent: peer.sent,
            dropped: peer.dropped,
            queued: peer.queued(),
            send_errors: peer.send_errors,
            received: peer.received,
        });
        stats.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn chunk(first: u8, source: Option<SocketAddr>) -> Outgoing {
        Outgoing { source, announcements: Arc::new(vec![[first; 1024]; 2]) }
    }

    #[test]
    fn subscribers_expire_and_are_bounded() {
        let start = Instant::now();
        let later = |ms| start + Duration::from_millis(ms);
        let mut peers = Peers::new(&[addr(1)], [addr(2)].into_iter());
        for port in 0..300 {
            peers.subscribe(addr(1000 + port), start);
        }
        // The fixed one counts too.
        assert_eq!(peers.subscribers_refused(), 300 + 1 - SPRAYER_SUBSCRIBERS_MAX as u64);
        assert!(peers.subscribe(addr(1000), later(SPRAYER_SUBSCRIBER_MS_MAX - 1)));
        assert!(!peers.subscribe(addr(9), later(SPRAYER_SUBSCRIBER_MS_MAX - 1)));
        assert!(peers.subscribe(addr(9), later(SPRAYER_SUBSCRIBER_MS_MAX)));
        let left: Vec<_> = peers.peers.keys().map(SocketAddr::port).collect();
        assert_eq!(left, [1, 2, 9, 1000]);
    }

    #[test]
    fn newest_first_oldest_dropped_never_back_to_the_source() {
        let now = Instant::now();
        let mut peers = Peers::new(&[addr(1), addr(2)], std::iter::empty());
        peers.distribute(&chunk(0, Some(addr(2))), now);
        for first in 1..=128u8 {
            peers.distribute(&chunk(first, None), now);
        }
        let mut jobs = Vec::new();
        peers.take_jobs(now, &mut jobs);
        peers.take_jobs(now, &mut jobs);
        let seen: Vec<_> =
            jobs.iter().map(|job| (job.to.port(), job.chunk[0][0], job.sequence)).collect();
        assert_eq!(seen, [(1, 128, 0), (2, 128, 0), (1, 127, 2), (2, 127, 2)]);
        peers.sent(addr(1), 3, 1);
        let stats = peers.stats();
        assert_eq!((stats[0].dropped, stats[1].dropped), (2, 0));
        assert_eq!((stats[0].queued, stats[0].sent, stats[0].send_errors), (252, 3, 1));
    }
}
