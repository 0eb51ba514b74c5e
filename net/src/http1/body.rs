//! A body on its way from the socket into the service's memory.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::buffer::Buffer;
use super::chunked::{Chunked, Step};
use super::head::{Framing, Head};
use super::response::Response;
use super::server::Http1Shared;
use crate::engine::{Engine, Stream};

/// Why a body can not be received.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is longer than the server allows.
    #[error("body is longer than {0} bytes")]
    TooLong(u64),
    /// It did not arrive in time.
    #[error("body took longer than {0} ms")]
    TooSlow(u64),
    /// It is not chunked as it says.
    #[error("malformed chunk")]
    BadChunk,
    /// The client ended the connection in the middle.
    #[error("connection ended within the body")]
    Ended,
    /// The connection broke.
    #[error("connection broke: {0}")]
    Broken(io::Error),
}

impl BodyError {
    /// The refusal to send; where the client is gone it will not be read.
    pub fn response(&self) -> Response {
        let status = match self {
            Self::TooLong(_) => 413,
            Self::TooSlow(_) => 408,
            Self::BadChunk | Self::Ended | Self::Broken(_) => 400,
        };
        Response::text(status, self.to_string()).and_close()
    }
}

/// How far a body was received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    state: State,
    declared: Option<u64>,
    received: u64,
    /// From the first time it is asked for.
    deadline: Option<Instant>,
    owes_continue: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Sized(u64),
    Chunked(Chunked),
    Failed,
}

/// A body that is received piece by piece, straight into memory of the service.
#[derive(Debug)]
pub struct Body<'c, E: Engine> {
    engine: &'c E,
    stream: &'c mut E::Stream,
    buffer: &'c mut Buffer,
    shared: &'c Http1Shared,
    progress: Progress,
}

impl<'c, E: Engine> Body<'c, E> {
    pub(super) fn new(
        engine: &'c E,
        stream: &'c mut E::Stream,
        buffer: &'c mut Buffer,
        shared: &'c Http1Shared,
        head: &Head,
    ) -> Self {
        let (state, declared) = match head.framing() {
            Framing::Length(length) => (State::Sized(length), Some(length)),
            Framing::Chunked => (State::Chunked(Chunked::Size), None),
        };
        let owes_continue = head.expects_continue() && declared != Some(0);
        let progress = Progress { state, declared, received: 0, deadline: None, owes_continue };
        Self::resume(engine, stream, buffer, shared, progress)
    }

    /// A body of which something was received already.
    pub(super) fn resume(
        engine: &'c E,
        stream: &'c mut E::Stream,
        buffer: &'c mut Buffer,
        shared: &'c Http1Shared,
        progress: Progress,
    ) -> Self {
        Self { engine, stream, buffer, shared, progress }
    }

    /// The length that the head declares; None for a chunked body.
    pub fn declared_bytes(&self) -> Option<u64> {
        self.progress.declared
    }

    /// Fills `into` from the body. Returns how many bytes there were: fewer than `into` holds
    /// only at the end of the body.
    ///
    /// # Errors
    /// See [`BodyError`]; after one, the connection is of no use.
    pub async fn read(&mut self, into: &mut [u8]) -> Result<usize, BodyError> {
        let mut filled = 0;
        while filled < into.len() {
            match self.some(&mut into[filled..]).await? {
                0 => break,
                len => filled += len,
            }
        }
        Ok(filled)
    }

    /// Whether the body ends here. Of a chunked body this may have to be received.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn is_at_end(&mut self) -> Result<bool, BodyError> {
        Ok(self.left().await? == 0)
    }

    /// Receives and drops the rest, so that the next request can be read.
    pub(super) async fn drain(&mut self) -> Result<(), BodyError> {
        const SCRATCH_BYTES: usize = 16 << 10;
        let mut scratch = Vec::new();
        while self.left().await? > 0 {
            scratch.resize(SCRATCH_BYTES, 0);
            self.some(&mut scratch).await?;
        }
        Ok(())
    }

    /// How far it was received.
    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    /// Whether the body is known to be complete, without waiting.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.progress.state, State::Sized(0) | State::Chunked(Chunked::Done))
    }

    /// Whether what follows on the connection has no meaning any more.
    pub(super) fn is_failed(&self) -> bool {
        matches!(self.progress.state, State::Failed)
    }

    /// Whether the declared length is within the bound.
    pub(super) fn check_declared(&mut self) -> Result<(), BodyError> {
        self.check_length(self.progress.declared.unwrap_or(0))
    }

    /// Whether the client still waits for leave to send the body.
    pub(super) fn owes_continue(&self) -> bool {
        self.progress.owes_continue
    }

    async fn some(&mut self, into: &mut [u8]) -> Result<usize, BodyError> {
        let left = self.left().await?;
        let len_max = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        if len_max == 0 {
            return Ok(0);
        }
        let place = &mut into[..len_max];
        let mut len = self.buffer.take(place);
        if len == 0 {
            // The whole rest of a chunk fits: what follows it can come along.
            let is_rest_of_chunk =
                matches!(self.progress.state, State::Chunked(_)) && len_max as u64 == left;
            len = self.receive(place, is_rest_of_chunk).await?;
        }
        self.progress.received += len as u64;
        match &mut self.progress.state {
            State::Sized(left) => *left -= len as u64,
            State::Chunked(chunked) => chunked.took(len as u64),
            State::Failed => {}
        }
        Ok(len)
    }

    /// Reads framing until data is due: how much of it, at least. 0 at the end.
    async fn left(&mut self) -> Result<u64, BodyError> {
        if let State::Sized(left) = self.progress.state {
            return Ok(left);
        }
        loop {
            let State::Chunked(chunked) = &mut self.progress.state else {
                return Err(BodyError::Ended);
            };
            let (used, step) = match chunked.advance(self.buffer.filled()) {
                Ok(advanced) => advanced,
                Err(_) => {
                    self.progress.state = State::Failed;
                    self.shared.count(|c| &c.bodies_malformed);
                    return Err(BodyError::BadChunk);
                }
            };
            let now_at = *chunked;
            self.buffer.consume(used);
            match (step, now_at) {
                (Step::Ready, Chunked::Data(left)) => {
                    self.check_length(self.progress.received.saturating_add(left))?;
                    return Ok(left);
                }
                (Step::Ready, _) => return Ok(0),
                (Step::More, _) => {
                    self.receive(&mut [], true).await?;
                }
            }
        }
    }

    fn check_length(&mut self, length: u64) -> Result<(), BodyError> {
        let bytes_max = self.shared.limits.body_bytes_max;
        if length <= bytes_max {
            return Ok(());
        }
        self.progress.state = State::Failed;
        self.shared.count(|c| &c.bodies_too_long);
        Err(BodyError::TooLong(bytes_max))
    }

    /// Receives into `place`, and what follows into the buffer when asked. Returns how many bytes
    /// came into `place`.
    async fn receive(&mut self, place: &mut [u8], and_more: bool) -> Result<usize, BodyError> {
        let limit_ms = self.shared.limits.body_ms_max;
        let now = Instant::now();
        let deadline = *self.progress.deadline.get_or_insert(now + Duration::from_millis(limit_ms));
        let left = deadline.saturating_duration_since(now);
        let owes_continue = std::mem::take(&mut self.progress.owes_continue);
        let (stream, buffer) = (&mut *self.stream, &mut *self.buffer);
        let place_len = place.len();
        let room_len = if and_more { buffer.room().len() } else { 0 };
        let receive = async {
            if owes_continue {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            }
            if !and_more {
                stream.read(place).await
            } else if place.is_empty() {
                stream.read(buffer.room()).await
            } else {
                stream.read_two(place, buffer.room()).await
            }
        };
        let outcome = self.engine.timeout(left, receive).await;
        let (error, counter): (_, fn(&super::Http1Counters) -> &AtomicU64) = match outcome {
            Some(Ok(len)) if len > 0 => {
                let in_place = len.min(place_len);
                self.buffer.filled_more(len - in_place);
                if and_more && len == place_len + room_len {
                    self.buffer.widen();
                }
                return Ok(in_place);
            }
            Some(Ok(_)) => (BodyError::Ended, |c| &c.bodies_cut),
            Some(Err(e)) => (BodyError::Broken(e), |c| &c.bodies_cut),
            None => (BodyError::TooSlow(limit_ms), |c| &c.bodies_too_slow),
        };
        self.progress.state = State::Failed;
        counter(&self.shared.counters).fetch_add(1, Ordering::Relaxed);
        Err(error)
    }
}
