//! The peers that send announcements: their numbers, their figures, and which of them are dropped.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::class::SourceId;
use crate::stats::PeerFigures;
use crate::store::Keeper;

/// What the names of peers begin with who send datagrams, and whose addresses can be forged.
const FORGEABLE_PREFIX: &str = "udp ";
/// Peers that are told apart.
const PEERS_LEN_MAX: usize = 4096;
/// A peer stays dropped for at most this long.
const DROPPED_MAX: Duration = Duration::from_secs(3600);

/// The peers that send announcements.
pub(crate) struct Peers {
    peers: Mutex<Vec<Peer>>,
    drop_first: Duration,
    keeper: Option<Arc<Keeper>>,
    /// Tells the one who builds trees that announcements were given up.
    pub(crate) given_up: Notify,
}

struct Peer {
    name: String,
    received: u64,
    stored: u64,
    /// Bytes a second of the last long download.
    rate: f64,
    dropped_until: Option<Instant>,
    drops: u32,
    trouble: Option<String>,
}

impl Peer {
    fn new(name: &str) -> Peer {
        Peer {
            name: name.to_owned(),
            received: 0,
            stored: 0,
            rate: 0.0,
            dropped_until: None,
            drops: 0,
            trouble: None,
        }
    }
}

impl Peers {
    /// `keeper` remembers their names over a restart.
    pub(crate) fn new(drop_first: Duration, keeper: Option<Arc<Keeper>>) -> Peers {
        Peers { peers: Mutex::default(), drop_first, keeper, given_up: Notify::new() }
    }

    /// The number of a peer. When there are too many the last number stands for all further ones.
    pub(crate) fn source(&self, name: &str) -> SourceId {
        let mut peers = self.locked();
        if let Some(at) = peers.iter().position(|peer| peer.name == name) {
            return SourceId(at as u32);
        }
        if peers.len() < PEERS_LEN_MAX {
            peers.push(Peer::new(name));
            if let Some(keeper) = &self.keeper {
                // Before anything is stored under this number.
                let names = peers.iter().map(|peer| peer.name.clone()).collect();
                keeper.change(|snapshot| snapshot.sources = names);
            }
        }
        SourceId(peers.len() as u32 - 1)
    }

    /// The number of a peer that sends datagrams from this address.
    pub(crate) fn source_udp(&self, from: SocketAddr) -> SourceId {
        self.source(&format!("{FORGEABLE_PREFIX}{from}"))
    }

    /// Whether somebody else can send in this peer's name.
    pub(crate) fn is_forgeable(&self, source: SourceId) -> bool {
        let peers = self.locked();
        peers.get(source.0 as usize).is_some_and(|peer| peer.name.starts_with(FORGEABLE_PREFIX))
    }

    /// Gives peers of before a restart their numbers again.
    pub(crate) fn restore(&self, names: &[String]) {
        *self.locked() = names.iter().take(PEERS_LEN_MAX).map(|name| Peer::new(name)).collect();
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
            "announcements: {} dropped for {} s, what it sent is given up: {why}",
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

    /// Remembers at which rate a download came, bytes a second.
    pub(crate) fn set_rate(&self, source: SourceId, rate: f64) {
        if let Some(peer) = self.locked().get_mut(source.0 as usize) {
            peer.rate = rate;
        }
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
                download_bytes_per_second: peer.rate,
                dropped_for_ms: left(peer).unwrap_or(0),
                trouble: peer.trouble.clone(),
            })
            .collect()
    }

    /// Counts announcements that came from a peer.
    pub(crate) fn count(&self, source: SourceId, received: u64, stored: u64) {
        if let Some(peer) = self.locked().get_mut(source.0 as usize) {
            peer.received += received;
            peer.stored += stored;
        }
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
