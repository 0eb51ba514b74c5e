//! A thread that receives: data, subscriptions, and everything else.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use packetcrypt_proto::datagram::{Datagram, Record, Tail};

use super::{AnnouncementBytes, ReceivedBatch, Shared, Socket, batch};
use crate::limits::{
    SPRAYER_CHUNK_RECORDS_MAX, SPRAYER_DATAGRAM_RECORDS_MAX, SPRAYER_FLUSH_MS_MAX,
};

pub(super) struct Receiver {
    socket: Socket,
    intake: Intake,
}

/// What was received and not handed on.
struct Intake {
    shared: Arc<Shared>,
    /// By source: a handful, those subscribed to.
    open: Vec<OpenBatch>,
}

struct OpenBatch {
    from: SocketAddr,
    since: Instant,
    announcements: Vec<AnnouncementBytes>,
}

impl Receiver {
    pub(super) fn new(shared: Arc<Shared>, socket: Socket) -> Self {
        Self { socket, intake: Intake { shared, open: Vec::new() } }
    }

    pub(super) fn run(mut self) {
        batch::coalesce(&self.socket);
        let mut messages = batch::Receiver::new();
        while !self.intake.shared.shutdown.is_triggered() {
            let intake = &mut self.intake;
            match messages.receive(&self.socket, |bytes, from| intake.datagram(bytes, from)) {
                Ok(()) => {}
                Err(e) if is_idle(&e) => {}
                Err(e) => {
                    // An ICMP error of a former send, for instance; it must not become a busy loop.
                    tracing::debug!("sprayer receive: {e}");
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            self.intake.flush(false);
        }
        self.intake.flush(true);
    }
}

impl Intake {
    fn datagram(&mut self, bytes: &[u8], from: SocketAddr) {
        let datagram = Datagram::parse(bytes);
        match datagram.tail {
            Tail::None => {}
            Tail::Subscription(subscription) => {
                let options = &self.shared.options;
                if !subscription.has_password(&options.password) {
                    self.count_wrong_password(from);
                } else if options.may_subscribe(from.ip()) {
                    self.shared.lock_peers().subscribe(from, Instant::now());
                } else {
                    self.count_unlisted(from);
                }
            }
            Tail::Garbage => {
                self.shared.counters.garbage_datagrams.fetch_add(1, Ordering::Relaxed);
                // Records in front of garbage are no datagram of a sprayer.
                return;
            }
        }
        if datagram.records.is_empty() {
            if bytes.is_empty() {
                self.shared.counters.garbage_datagrams.fetch_add(1, Ordering::Relaxed);
            }
            return;
        }
        if self.is_heard(from) {
            self.records(datagram.records, from);
        } else {
            self.shared.counters.stranger_datagrams.fetch_add(1, Ordering::Relaxed);
            tracing::debug!("sprayer: data from {from}, which is not subscribed to");
        }
    }

    fn count_wrong_password(&self, from: SocketAddr) {
        self.shared.counters.wrong_passwords.fetch_add(1, Ordering::Relaxed);
        tracing::debug!("sprayer: subscription of {from} with a wrong password");
    }

    fn count_unlisted(&self, from: SocketAddr) {
        self.shared.counters.unlisted_subscriptions.fetch_add(1, Ordering::Relaxed);
        tracing::debug!("sprayer: subscription of {from}, which is not in subscribers_allow");
    }

    fn is_heard(&self, from: SocketAddr) -> bool {
        self.shared.options.subscribe_to.contains(&from)
    }

    fn records(&mut self, records: &[Record], from: SocketAddr) {
        let shared = Arc::clone(&self.shared);
        let counters = &shared.counters;
        counters.received.fetch_add(records.len() as u64, Ordering::Relaxed);
        shared.lock_peers().received(from, records.len() as u64);
        let known = self.open.iter().position(|batch| batch.from == from);
        let index = known.unwrap_or_else(|| {
            let announcements = Vec::new();
            self.open.push(OpenBatch { from, since: Instant::now(), announcements });
            self.open.len() - 1
        });
        for record in records {
            if self.open[index].announcements.len() >= SPRAYER_CHUNK_RECORDS_MAX {
                self.flush(false);
            }
            if self.shared.recent.insert(&record.announcement) {
                let batch = &mut self.open[index];
                if batch.announcements.is_empty() {
                    batch.since = Instant::now();
                }
                batch.announcements.push(record.announcement);
            } else {
                counters.duplicates.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Hands on what is full or old enough (or everything).
    fn flush(&mut self, all: bool) {
        let age_max = Duration::from_millis(SPRAYER_FLUSH_MS_MAX);
        for batch in &mut self.open {
            let len = batch.announcements.len();
            // One more datagram might not fit a chunk.
            let is_full = len + SPRAYER_DATAGRAM_RECORDS_MAX > SPRAYER_CHUNK_RECORDS_MAX;
            if len == 0 || !(all || is_full || batch.since.elapsed() >= age_max) {
                continue;
            }
            let announcements = std::mem::take(&mut batch.announcements);
            if self.shared.has_subscribers() {
                self.shared.enqueue(Some(batch.from), announcements.clone());
            }
            let received = ReceivedBatch { from: batch.from, announcements };
            self.shared.incoming.push(received, len as u64);
        }
    }
}

impl Shared {
    fn has_subscribers(&self) -> bool {
        self.lock_peers().stats().iter().any(|peer| peer.is_subscriber)
    }
}

/// Whether nothing came within the tick.
fn is_idle(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}
