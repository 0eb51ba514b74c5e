//! Announcements over UDP: subscriptions, relay, bounded queues (spec 05, 7).
//!
//! A sprayer sends announcements to its subscribers and to the addresses it sprays at, receives
//! them from the addresses it subscribes to, hands them on, and relays them to its own
//! subscribers. The newest go first; what does not fit is dropped, oldest first, and counted.
//!
//! Unlike the reference ours hands received announcements on within 250 ms however few they are,
//! sends nothing back to where it came from, and drops what it has seen before, so that relays in
//! a circle do not go on for ever.
//!
//! Nothing here is authentic: the source of a datagram can be forged, and the password travels in
//! clear. What is received has to be checked by whoever takes it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use packetcrypt_proto::ANNOUNCEMENT_BYTES;
use packetcrypt_proto::datagram::{RECORD_BYTES, Subscription};
use serde::Serialize;

use crate::queue::{NewestFirst, QueueCounters};
use crate::{Shutdown, limits};

#[cfg(target_os = "linux")]
mod batch;
#[cfg(not(target_os = "linux"))]
#[path = "sprayer/single.rs"]
mod batch;
mod peers;
mod receive;
mod recent;
mod send;
mod socket;

/// One announcement's bytes.
pub type AnnouncementBytes = [u8; ANNOUNCEMENT_BYTES];

/// How a sprayer works.
#[derive(Clone)]
pub struct SprayerOptions {
    /// The address of its socket.
    pub bind: SocketAddr,
    /// What subscribers must know and what it tells those it subscribes to.
    pub password: String,
    /// Addresses that may subscribe. The source of a subscription can be forged, and whoever it
    /// names is sent everything for half a minute (spec 05, 16.17): name yours. Empty: everybody
    /// with the password, and only this machine itself when the password is empty too.
    pub subscribers_allow: Vec<IpAddr>,
    /// From whom it receives, and, without `multicast`, to whom it subscribes.
    pub subscribe_to: Vec<SocketAddr>,
    /// Who always gets everything.
    pub spray_at: Vec<SocketAddr>,
    /// Payload of a datagram, bytes: 1472 fits an Ethernet frame and holds one record.
    pub mss_bytes: usize,
    /// A group to join on the bind interface instead of subscribing.
    pub multicast: Option<Ipv4Addr>,
    /// Threads that receive.
    pub receive_threads: usize,
    /// Batches that wait to be taken by the program.
    pub received_batches_max: usize,
}

impl SprayerOptions {
    /// The usual values for a socket at `bind` that only sends.
    pub fn new(bind: SocketAddr, password: impl Into<String>) -> Self {
        Self {
            bind,
            password: password.into(),
            subscribers_allow: Vec::new(),
            subscribe_to: Vec::new(),
            spray_at: Vec::new(),
            mss_bytes: 1472,
            multicast: None,
            receive_threads: 1,
            received_batches_max: limits::SPRAYER_CHUNKS_MAX,
        }
    }
}

impl SprayerOptions {
    /// Whether a subscription from there with the right password is taken.
    pub(crate) fn may_subscribe(&self, from: IpAddr) -> bool {
        let from = from.to_canonical();
        match &self.subscribers_allow[..] {
            [] => !self.password.is_empty() || from.is_loopback(),
            allowed => allowed.iter().any(|address| address.to_canonical() == from),
        }
    }
}

impl std::fmt::Debug for SprayerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SprayerOptions")
            .field("bind", &self.bind)
            .field("subscribers_allow", &self.subscribers_allow)
            .field("subscribe_to", &self.subscribe_to)
            .field("spray_at", &self.spray_at)
            .field("mss_bytes", &self.mss_bytes)
            .field("multicast", &self.multicast)
            .finish_non_exhaustive()
    }
}

/// A sprayer can not start.
#[derive(Debug, thiserror::Error)]
pub enum SprayerError {
    /// No record fits a datagram.
    #[error("mss is {mss_bytes} bytes but a record has {RECORD_BYTES}")]
    MssTooSmall {
        /// What was asked for.
        mss_bytes: usize,
    },
    /// The password leaves no room for a subscription.
    #[error("the password has {0} bytes, too many for a subscription")]
    PasswordTooLong(usize),
    /// The multicast group is none, or the socket is not an IPv4 one.
    #[error("{group} can not be joined from {bind}: it must be a multicast group and IPv4")]
    NotMulticast {
        /// The group.
        group: Ipv4Addr,
        /// The socket's address.
        bind: SocketAddr,
    },
    /// The socket can not be made.
    #[error("UDP socket at {bind}: {cause}")]
    Socket {
        /// The address.
        bind: SocketAddr,
        /// What the system says.
        cause: io::Error,
    },
}

/// Announcements that came together from one source.
#[derive(Clone, Debug)]
pub struct ReceivedBatch {
    /// Who sent them, or claims to.
    pub from: SocketAddr,
    /// The announcements, unchecked.
    pub announcements: Vec<AnnouncementBytes>,
}

/// What a sprayer did; records are announcements.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SprayerStats {
    /// Records given to [`Sprayer::send`]: `queued`, `popped` by the sender, `dropped`.
    pub outgoing: QueueCounters,
    /// Records received, new and handed on: `queued`, `popped` by the program, `dropped`.
    pub incoming: QueueCounters,
    /// Records received from those subscribed to, duplicates included.
    pub received: u64,
    /// Received records that were seen before.
    pub duplicates: u64,
    /// Datagrams that mean nothing, and subscriptions from addresses that may not send data with
    /// them.
    pub garbage_datagrams: u64,
    /// Data from addresses that are not subscribed to, in datagrams.
    pub stranger_datagrams: u64,
    /// Subscriptions with a wrong password.
    pub wrong_passwords: u64,
    /// Subscriptions with the right password from addresses that may not subscribe.
    pub unlisted_subscriptions: u64,
    /// Subscriptions refused because there were too many subscribers.
    pub subscribers_refused: u64,
    /// Each peer.
    pub peers: Vec<PeerStats>,
}

/// What passed between a sprayer and one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerStats {
    /// The peer's address.
    pub addr: SocketAddr,
    /// Whether it is sent to now.
    pub is_subscriber: bool,
    /// Records sent to it.
    pub sent: u64,
    /// Records dropped because it could not be sent to fast enough.
    pub dropped: u64,
    /// Records that wait for it.
    pub queued: u64,
    /// Records that the system refused to send.
    pub send_errors: u64,
    /// Records received from it.
    pub received: u64,
}

#[derive(Debug, Default)]
struct Counters {
    received: AtomicU64,
    duplicates: AtomicU64,
    garbage_datagrams: AtomicU64,
    stranger_datagrams: AtomicU64,
    wrong_passwords: AtomicU64,
    unlisted_subscriptions: AtomicU64,
}

/// A chunk on its way to the subscribers, and where it came from (to whom it is not sent back).
#[derive(Clone, Debug)]
struct Outgoing {
    source: Option<SocketAddr>,
    announcements: Arc<Vec<AnnouncementBytes>>,
}

#[derive(Debug)]
struct Shared {
    options: SprayerOptions,
    local_addr: SocketAddr,
    outgoing: NewestFirst<Outgoing>,
    incoming: NewestFirst<ReceivedBatch>,
    peers: Mutex<peers::Peers>,
    recent: recent::Recent,
    counters: Counters,
    shutdown: Shutdown,
}

/// A running sprayer. Dropping it ends it.
#[derive(Debug)]
pub struct Sprayer {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Sprayer {
    /// Opens the socket and starts the threads.
    ///
    /// # Errors
    /// [`SprayerError`]: options that make no sense, or a socket that can not be had.
    pub fn start(options: SprayerOptions, shutdown: &Shutdown) -> Result<Self, SprayerError> {
        if options.mss_bytes < RECORD_BYTES {
            return Err(SprayerError::MssTooSmall { mss_bytes: options.mss_bytes });
        }
        let subscription = Subscription::new(&options.password).to_bytes();
        let subscription =
            subscription.ok_or(SprayerError::PasswordTooLong(options.password.len()))?;
        let socket = socket::open(&options)?;
        let bind = options.bind;
        let failed = move |cause| SprayerError::Socket { bind, cause };
        let local_addr = socket.local_addr().map_err(failed)?;
        let sources = options.subscribe_to.iter().copied();
        let peers = peers::Peers::new(&options.spray_at, sources);
        let shared = Arc::new(Shared {
            local_addr,
            outgoing: NewestFirst::new(limits::SPRAYER_CHUNKS_MAX),
            incoming: NewestFirst::new(options.received_batches_max),
            peers: Mutex::new(peers),
            recent: recent::Recent::new(),
            counters: Counters::default(),
            shutdown: shutdown.child(),
            options,
        });
        let mut sprayer = Self { shared, threads: Vec::new() };
        // An error on the way drops `sprayer`, which ends the threads already started.
        let receivers = sprayer.shared.options.receive_threads.max(1);
        for index in 0..receivers {
            let socket = socket.try_clone().map_err(failed)?;
            let run = receive::Receiver::new(sprayer.shared.clone(), socket);
            sprayer.spawn(format!("spray-recv-{index}"), move || run.run()).map_err(failed)?;
        }
        let run = send::Sender::new(sprayer.shared.clone(), socket, subscription);
        sprayer.spawn("spray-send".to_owned(), move || run.run()).map_err(failed)?;
        Ok(sprayer)
    }

    /// The address of the socket.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr
    }

    /// Queues announcements for all subscribers. Never waits: when there is too much already,
    /// the oldest are dropped. Returns how many were.
    pub fn send(&self, announcements: Vec<AnnouncementBytes>) -> u64 {
        for announcement in &announcements {
            // What comes back through other relays is known then.
            self.shared.recent.insert(announcement);
        }
        self.shared.enqueue(None, announcements)
    }

    /// The newest batch that was received; waits for one. None after the shutdown.
    pub async fn receive(&self) -> Option<ReceivedBatch> {
        self.shared.incoming.pop().await
    }

    /// The received batches, for a thread or another task; it outlives this handle.
    pub fn received(&self) -> NewestFirst<ReceivedBatch> {
        self.shared.incoming.clone()
    }

    /// The counters.
    pub fn stats(&self) -> SprayerStats {
        let counters = &self.shared.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let peers = self.shared.lock_peers();
        SprayerStats {
            outgoing: self.shared.outgoing.counters(),
            incoming: self.shared.incoming.counters(),
            received: count(&counters.received),
            duplicates: count(&counters.duplicates),
            garbage_datagrams: count(&counters.garbage_datagrams),
            stranger_datagrams: count(&counters.stranger_datagrams),
            wrong_passwords: count(&counters.wrong_passwords),
            unlisted_subscriptions: count(&counters.unlisted_subscriptions),
            subscribers_refused: peers.subscribers_refused(),
            peers: peers.stats(),
        }
    }

    fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(std::thread::Builder::new().name(name).spawn(run)?);
        Ok(())
    }
}

impl Drop for Sprayer {
    fn drop(&mut self) {
        self.shared.shutdown.trigger();
        self.shared.outgoing.close();
        for thread in self.threads.drain(..) {
            // They look at the signal ten times a second.
            let _ = thread.join();
        }
        self.shared.incoming.close();
    }
}

impl Shared {
    fn enqueue(&self, source: Option<SocketAddr>, announcements: Vec<AnnouncementBytes>) -> u64 {
        let mut dropped = 0;
        if announcements.len() <= limits::SPRAYER_CHUNK_RECORDS_MAX {
            dropped += self.enqueue_chunk(source, announcements);
        } else {
            for chunk in announcements.chunks(limits::SPRAYER_CHUNK_RECORDS_MAX) {
                dropped += self.enqueue_chunk(source, chunk.to_vec());
            }
        }
        dropped
    }

    fn enqueue_chunk(&self, source: Option<SocketAddr>, chunk: Vec<AnnouncementBytes>) -> u64 {
        let weight = chunk.len() as u64;
        if weight == 0 {
            return 0;
        }
        self.outgoing.push(Outgoing { source, announcements: Arc::new(chunk) }, weight)
    }

    fn lock_peers(&self) -> std::sync::MutexGuard<'_, peers::Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a thread waits before it looks at the signal again.
const THREAD_TICK_MS: u64 = 50;

const _: () = {
    assert!(limits::SPRAYER_DATAGRAM_RECORDS_MAX == packetcrypt_proto::datagram::RECORDS_LEN_MAX);
    assert!(THREAD_TICK_MS < limits::SPRAYER_FLUSH_MS_MAX);
};

/// The socket of a sprayer is shared by its threads.
type Socket = UdpSocket;

#[cfg(test)]
mod tests;
