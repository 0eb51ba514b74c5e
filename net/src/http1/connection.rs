//! One connection: requests one after the other.

use std::time::{Duration, Instant};

use super::body::Body;
use super::buffer::Buffer;
use super::head::Head;
use super::response::Response;
use super::server::{Http1Shared, Service};
use crate::Shutdown;
use crate::engine::{Engine, Stream};
use crate::limits::{HTTP1_LINGER_BYTES_MAX, HTTP1_LINGER_MS_MAX};

/// A request as a service sees it.
#[derive(Debug)]
pub struct Request<'c, E: Engine> {
    /// The head.
    pub head: Head,
    /// The body, not received yet.
    pub body: Body<'c, E>,
    /// The other side of the connection.
    pub peer: std::net::SocketAddr,
}

/// A connection and what belongs to it.
pub(super) struct Connection<E: Engine> {
    pub(super) engine: E,
    pub(super) stream: E::Stream,
    pub(super) shared: std::sync::Arc<Http1Shared>,
    pub(super) shutdown: Shutdown,
}

/// How a wait for a head ended.
enum NextHead {
    Head(Box<Head>),
    Refused(Response),
    /// Nothing to say: the client is gone, was idle, or the server stops.
    Over,
}

impl<E: Engine> Connection<E> {
    /// Serves requests until one side has enough.
    pub(super) async fn run<S: Service<E>>(mut self, service: &S) {
        let mut buffer = Buffer::new(self.shared.limits.head_bytes_max);
        loop {
            match self.next_head(&mut buffer).await {
                NextHead::Over => return,
                NextHead::Refused(response) => {
                    let _ = self.write(&response, false, false).await;
                    return self.linger().await;
                }
                NextHead::Head(head) => {
                    if !self.exchange(service, *head, &mut buffer).await {
                        return;
                    }
                }
            }
            buffer.release_if_empty();
        }
    }

    /// Answers one request; true when another one may follow.
    async fn exchange<S: Service<E>>(
        &mut self,
        service: &S,
        head: Head,
        buffer: &mut Buffer,
    ) -> bool {
        let shared = self.shared.clone();
        shared.count(|c| &c.requests);
        let (is_head, wants_more) = (head.method() == "HEAD", head.keep_alive());
        let peer = self.stream.peer_addr();
        let body = Body::new(&self.engine, &mut self.stream, buffer, &shared, &head);
        let mut request = Request { head, body, peer };
        // A length that is too long is refused before the service spends anything on it.
        let response = match request.body.check_declared() {
            Err(e) => e.response(),
            Ok(()) => service.call(&mut request).await,
        };
        let keep = wants_more
            && !response.closes()
            && !request.body.is_failed()
            // Whether a client that waits for leave will still send the body is anybody's guess.
            && (request.body.is_complete() || !request.body.owes_continue())
            && !self.shutdown.is_triggered();
        let progress = request.body.progress();
        // The answer goes first: a client may wait for it in the middle of its body.
        if !self.write(&response, keep, is_head).await {
            return false;
        }
        let mut rest = Body::resume(&self.engine, &mut self.stream, buffer, &shared, progress);
        if keep && rest.drain().await.is_ok() {
            return true;
        }
        self.linger().await;
        false
    }

    async fn next_head(&mut self, buffer: &mut Buffer) -> NextHead {
        let limits = self.shared.limits;
        buffer.skip_empty_lines();
        if buffer.filled().is_empty() {
            let idle = Duration::from_millis(limits.idle_ms_max);
            let received = tokio::select! {
                received = self.engine.timeout(idle, buffer.receive(&mut self.stream)) => received,
                () = self.shutdown.cancelled() => return NextHead::Over,
            };
            match received {
                Some(Ok(len)) if len > 0 => {}
                Some(_) => return NextHead::Over,
                None => {
                    self.shared.count(|c| &c.idle_closed);
                    return NextHead::Over;
                }
            }
        }
        let deadline = Instant::now() + Duration::from_millis(limits.head_ms_max);
        let mut searched = 0;
        loop {
            // The end of a head is the first empty line behind something; however the bytes were
            // cut, the answer is the same.
            buffer.skip_empty_lines();
            let bytes = buffer.filled();
            // Parsing begins when an empty line is there: a head that comes byte by byte must
            // not be parsed once a byte.
            let has_end = has_empty_line(&bytes[searched..]);
            searched = bytes.len().saturating_sub(3);
            if has_end {
                match Head::parse(bytes, limits.fields_max) {
                    Ok(Some((head, len))) => {
                        buffer.consume(len);
                        return NextHead::Head(Box::new(head));
                    }
                    Ok(None) => {}
                    Err(e) => {
                        self.shared.count(|c| &c.heads_malformed);
                        return NextHead::Refused(e.response());
                    }
                }
            }
            if buffer.is_full() {
                self.shared.count(|c| &c.heads_too_large);
                return NextHead::Refused(Response::text(431, "head is too large").and_close());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.engine.timeout(left, buffer.receive(&mut self.stream)).await {
                Some(Ok(len)) if len > 0 => {}
                Some(_) => return NextHead::Over,
                None => {
                    self.shared.count(|c| &c.heads_too_slow);
                    return NextHead::Refused(
                        Response::text(408, "head took too long").and_close(),
                    );
                }
            }
        }
    }

    /// Writes an answer; false when the client does not take it.
    async fn write(&mut self, response: &Response, keep: bool, is_head: bool) -> bool {
        let (head, body) = response.encode(keep, is_head);
        // A large piece of a file may take longer, at the least speed that is worth a connection.
        let limits = self.shared.limits;
        let body_ms = body.len() as u64 / limits.write_bytes_per_ms_min.max(1);
        let limit = Duration::from_millis(limits.write_ms_max.saturating_add(body_ms));
        let stream = &mut self.stream;
        let write = async {
            if body.is_empty() {
                stream.write_all(&head).await
            } else {
                stream.write_all_two(&head, body).await
            }
        };
        let is_written = matches!(self.engine.timeout(limit, write).await, Some(Ok(())));
        if !is_written {
            self.shared.count(|c| &c.writes_failed);
        }
        is_written
    }

    async fn linger(&mut self) {
        let limit = Duration::from_millis(HTTP1_LINGER_MS_MAX);
        // However it ends, the connection is closed.
        let _ = self.engine.timeout(limit, linger(&mut self.stream)).await;
    }
}

/// Ends the writing side and reads on until the client has ended too: closing at once would answer
/// the bytes under way with a reset, which can destroy the answer before the client reads it.
pub(super) async fn linger<S: Stream>(stream: &mut S) -> std::io::Result<()> {
    let mut scratch = vec![0; 16 << 10];
    let mut seen = 0;
    stream.shutdown_write().await?;
    while seen < HTTP1_LINGER_BYTES_MAX {
        match stream.read(&mut scratch).await? {
            0 => break,
            len => seen += len as u64,
        }
    }
    Ok(())
}

/// Whether there is the end of a line and an empty line behind it.
fn has_empty_line(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"\n\n") || bytes.windows(3).any(|end| end == b"\n\r\n")
}
