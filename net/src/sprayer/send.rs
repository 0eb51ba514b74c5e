//! The thread that sends: chunks to subscribers, subscriptions to sources.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use packetcrypt_proto::datagram::RECORD_BYTES;

use super::peers::Job;
use super::{Shared, Socket, THREAD_TICK_MS, socket};
use crate::limits::{SPRAYER_DATAGRAM_RECORDS_MAX, SPRAYER_REFRESH_MS};

/// How often a datagram is tried again while the socket's buffer is full.
const SEND_TRIES_MAX: u32 = 4;

pub(super) struct Sender {
    shared: Arc<Shared>,
    socket: Socket,
    subscription: Vec<u8>,
    subscribed: Option<Instant>,
    datagram: Vec<u8>,
}

impl Sender {
    pub(super) fn new(shared: Arc<Shared>, socket: Socket, subscription: Vec<u8>) -> Self {
        Self { shared, socket, subscription, subscribed: None, datagram: Vec::new() }
    }

    pub(super) fn run(mut self) {
        let mut jobs = Vec::new();
        while !self.shared.shutdown.is_triggered() {
            self.refresh_subscriptions();
            // New chunks are looked for between any two chunks of a peer, so the newest goes first.
            let wait = if jobs.is_empty() { THREAD_TICK_MS } else { 0 };
            let first = self.shared.outgoing.pop_timeout(Duration::from_millis(wait));
            let now = Instant::now();
            // They come newest first and are queued oldest first.
            let rest = std::iter::from_fn(|| self.shared.outgoing.try_pop());
            let chunks: Vec<_> = first.into_iter().chain(rest.take(128)).collect();
            jobs.clear();
            {
                let mut peers = self.shared.lock_peers();
                for chunk in chunks.iter().rev() {
                    peers.distribute(chunk, now);
                }
                peers.take_jobs(now, &mut jobs);
            }
            for job in &jobs {
                let (sent, errors) = self.send_chunk(job);
                self.shared.lock_peers().sent(job.to, sent, errors);
            }
        }
    }

    /// Sends a chunk; how many records went out and how many did not.
    fn send_chunk(&mut self, job: &Job) -> (u64, u64) {
        let is_own = socket::is_own_address(self.shared.local_addr, job.to);
        let fitting = self.shared.options.mss_bytes / RECORD_BYTES;
        let per_datagram = if is_own {
            SPRAYER_DATAGRAM_RECORDS_MAX
        } else {
            fitting.min(SPRAYER_DATAGRAM_RECORDS_MAX)
        };
        let (mut sent, mut errors) = (0, 0);
        let mut sequence = job.sequence;
        for records in job.chunk.chunks(per_datagram.max(1)) {
            self.datagram.clear();
            for announcement in records {
                self.datagram.extend_from_slice(&sequence.to_le_bytes());
                self.datagram.extend_from_slice(announcement);
                sequence += 1;
            }
            match self.send_datagram(job) {
                Ok(()) => sent += records.len() as u64,
                Err(e) => {
                    errors += records.len() as u64;
                    tracing::debug!("sprayer to {}: {e}", job.to);
                }
            }
            if self.shared.shutdown.is_triggered() {
                break;
            }
        }
        (sent, errors)
    }

    fn send_datagram(&self, job: &Job) -> io::Result<()> {
        let mut tries = 0;
        loop {
            match self.socket.send_to(&self.datagram, job.to) {
                Ok(_) => return Ok(()),
                Err(e) => {
                    tries += 1;
                    // ECONNREFUSED is about a former datagram: this one has not been sent yet.
                    let is_passing = matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock
                            | io::ErrorKind::Interrupted
                            | io::ErrorKind::ConnectionRefused
                    );
                    if !is_passing || tries >= SEND_TRIES_MAX {
                        return Err(e);
                    }
                }
            }
        }
    }

    fn refresh_subscriptions(&mut self) {
        let period = Duration::from_millis(SPRAYER_REFRESH_MS);
        if self.subscribed.is_some_and(|at| at.elapsed() < period) {
            return;
        }
        self.subscribed = Some(Instant::now());
        self.shared.lock_peers().remove_expired(Instant::now());
        if self.shared.options.multicast.is_some() {
            return;
        }
        for source in &self.shared.options.subscribe_to {
            if let Err(e) = self.socket.send_to(&self.subscription, source) {
                tracing::debug!("sprayer: subscription to {source}: {e}");
            }
        }
    }
}
