//! The thread that sends: chunks to subscribers, subscriptions to sources.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use packetcrypt_proto::datagram::RECORD_BYTES;

use super::batch::{self, Cut};
use super::peers::Job;
use super::{Shared, Socket, THREAD_TICK_MS, socket};
use crate::limits::{SPRAYER_DATAGRAM_RECORDS_MAX, SPRAYER_REFRESH_MS, SPRAYER_SUBSCRIBERS_MAX};

/// How often a message is tried again while the socket's buffer is full.
const SEND_TRIES_MAX: u32 = 4;

pub(super) struct Sender {
    shared: Arc<Shared>,
    socket: Socket,
    subscription: Vec<u8>,
    subscribed: Option<Instant>,
    /// Whether the kernel cuts messages into datagrams.
    can_segment: bool,
    /// Peers on the way to which it can not.
    plain: HashSet<SocketAddr>,
}

impl Sender {
    pub(super) fn new(shared: Arc<Shared>, socket: Socket, subscription: Vec<u8>) -> Self {
        let can_segment = batch::can_segment(&socket);
        let (subscribed, plain) = (None, HashSet::new());
        Self { shared, socket, subscription, subscribed, can_segment, plain }
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
        let (mut at, mut errors, mut tries) = (0, 0, 0);
        while at < job.chunk.len() && !self.shared.shutdown.is_triggered() {
            let cut = self.cut(job);
            let (rest, sequence) = (&job.chunk[at..], job.sequence + at as u64);
            let (sent, outcome) = batch::send(&self.socket, job.to, rest, sequence, cut);
            at += sent;
            let Err(e) = outcome else {
                tries = 0;
                continue;
            };
            if matches!(cut, Cut::Segments(_)) && is_about_segments(&e) {
                tracing::info!("sprayer to {}: {e}: datagrams are not left to the kernel", job.to);
                self.plain.insert(job.to);
                continue;
            }
            tries += 1;
            // ECONNREFUSED is about a former datagram: this one has not been sent yet.
            let is_passing = matches!(
                e.kind(),
                io::ErrorKind::WouldBlock
                    | io::ErrorKind::Interrupted
                    | io::ErrorKind::ConnectionRefused
            );
            if !is_passing || tries >= SEND_TRIES_MAX {
                tracing::debug!("sprayer to {}: {e}", job.to);
                let given_up = cut.records_per_message().min(rest.len());
                at += given_up;
                errors += given_up;
                tries = 0;
            }
        }
        ((at - errors) as u64, errors as u64)
    }

    /// How the records of a job become datagrams.
    fn cut(&self, job: &Job) -> Cut {
        if socket::is_own_address(self.shared.local_addr, job.to) {
            return Cut::Whole(SPRAYER_DATAGRAM_RECORDS_MAX);
        }
        let fitting = self.shared.options.mss_bytes / RECORD_BYTES;
        let records = fitting.clamp(1, SPRAYER_DATAGRAM_RECORDS_MAX);
        if self.can_segment && !self.plain.contains(&job.to) {
            Cut::Segments(records)
        } else {
            Cut::Whole(records)
        }
    }

    fn refresh_subscriptions(&mut self) {
        let period = Duration::from_millis(SPRAYER_REFRESH_MS);
        if self.subscribed.is_some_and(|at| at.elapsed() < period) {
            return;
        }
        self.subscribed = Some(Instant::now());
        self.shared.lock_peers().remove_expired(Instant::now());
        if self.plain.len() > SPRAYER_SUBSCRIBERS_MAX {
            // They come and go; those that are still there are found out again.
            self.plain.clear();
        }
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

/// Whether the kernel or the network card can not cut messages on the way to a peer.
#[cfg(target_os = "linux")]
fn is_about_segments(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE))
}

#[cfg(not(target_os = "linux"))]
fn is_about_segments(_error: &io::Error) -> bool {
    false
}
