//! Range downloads straight into the caller's memory, for the block miner.
//!
//! One connection of an [`Engine`], kept between downloads. A piece may be received into many
//! parts of memory, one after the other. What the server says is believed only as far as it
//! fits what was asked for: the range, its length, the caller's memory.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use url::Url;

use super::head::decimal;
use crate::engine::{Engine, Stream};
use crate::{USER_AGENT, limits};

/// Bytes that are asked for while the head of a reply is expected: what comes behind the head with
/// them is copied, all else goes to its place directly.
const HEAD_READ_BYTES: usize = 1024;
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Downloads pieces of files from one server.
#[derive(Debug)]
pub struct RangeClient<E: Engine> {
    engine: E,
    host: String,
    port: u16,
    host_field: String,
    base_path: String,
    stream: Option<E::Stream>,
    received: Vec<u8>,
}

/// A piece on its way. It is received in steps, so that what came can be worked on while it is in
/// the cache. Dropped before its end it takes its connection with it.
#[derive(Debug)]
pub struct Download<'c, E: Engine> {
    client: &'c mut RangeClient<E>,
    /// None when everything came.
    stream: Option<E::Stream>,
    keep_alive: bool,
    missing: usize,
    until: Instant,
}

/// Why there is no piece.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The address is not an `http://` URL.
    #[error("{0:?} is not an http URL")]
    BadUrl(String),
    /// No connection, or it broke.
    #[error("{host}: {cause}")]
    Broken {
        /// The server.
        host: String,
        /// What the system says.
        cause: std::io::Error,
    },
    /// It took too long in all, or stood still for too long.
    #[error("{host}: download stood still or took longer than {limit_ms} ms")]
    TooSlow {
        /// The server.
        host: String,
        /// The bound that was hit.
        limit_ms: u64,
    },
    /// Another status than 200 or 206: 404 when the file is gone, 416 when the range is not there
    /// yet.
    #[error("{host}: status {status}")]
    Status {
        /// The server.
        host: String,
        /// The status.
        status: u16,
    },
    /// The reply is no HTTP, or not what was asked for.
    #[error("{host}: {what}")]
    Nonsense {
        /// The server.
        host: String,
        /// What is wrong.
        what: String,
    },
}

/// The parts of a reply's head that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
struct ReplyHead {
    status: u16,
    length: Option<u64>,
    range: Option<RangeInclusive<u64>>,
    keep_alive: bool,
}

impl<E: Engine> RangeClient<E> {
    /// A client for the server of `base_url`; paths are appended to the path of that.
    ///
    /// # Errors
    /// [`DownloadError::BadUrl`].
    pub fn new(engine: E, base_url: &str) -> Result<Self, DownloadError> {
        let bad = || DownloadError::BadUrl(base_url.to_owned());
        let url = Url::parse(base_url).map_err(|_| bad())?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(bad)?;
        let port = url.port_or_known_default().ok_or_else(bad)?;
        if url.scheme() != "http" {
            return Err(bad());
        }
        Ok(Self {
            engine,
            // Addresses of IPv6 stand in brackets in a URL.
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            host_field: url.port().map_or(host.to_owned(), |port| format!("{host}:{port}")),
            base_path: url.path().trim_end_matches('/').to_owned(),
            stream: None,
            received: Vec::new(),
        })
    }

    /// Asks for `len` bytes of `path` from `first_byte` on. The server may give fewer, at the end
    /// of the file.
    ///
    /// # Errors
    /// See [`DownloadError`].
    pub async fn open(
        &mut self,
        path: &str,
        first_byte: u64,
        len: usize,
    ) -> Result<Download<'_, E>, DownloadError> {
        if len == 0 || path.bytes().any(|b| !b.is_ascii_graphic()) {
            return Err(self.nonsense("an empty range or a path with blanks was asked for"));
        }
        let limit = Duration::from_millis(limits::HTTP1_DOWNLOAD_MS_MAX);
        let until = Instant::now() + limit;
        let engine = self.engine.clone();
        let opened = engine.timeout(limit, self.request_kept(path, first_byte, len)).await;
        let (stream, head) = opened.unwrap_or_else(|| Err(self.too_slow(limit)))?;
        let missing = self.checked_length(&head, first_byte, len)?;
        let keep_alive = head.keep_alive;
        let mut download =
            Download { client: self, stream: Some(stream), keep_alive, missing, until };
        if missing == 0 {
            download.end();
        }
        Ok(download)
    }

    /// On a kept connection first; a server may have closed that at any time, so once more on a
    /// new one when it ended before a reply began.
    async fn request_kept(
        &mut self,
        path: &str,
        first_byte: u64,
        len: usize,
    ) -> Result<(E::Stream, ReplyHead), DownloadError> {
        if self.stream.is_some() {
            match self.request(path, first_byte, len).await {
                Err(DownloadError::Broken { .. }) if self.received.is_empty() => {}
                outcome => return outcome,
            }
        }
        self.connect().await?;
        self.request(path, first_byte, len).await
    }

    async fn connect(&mut self) -> Result<(), DownloadError> {
        self.received.clear();
        self.stream = None;
        let resolve = resolve(self.host.clone(), self.port);
        let addrs = self.within(limits::CONNECT_MS_MAX, resolve).await?;
        let mut outcome = Err(io::ErrorKind::AddrNotAvailable.into());
        for addr in addrs.into_iter().take(ADDRESSES_MAX) {
            let connect = self.engine.connect(addr);
            let connected =
                self.engine.timeout(Duration::from_millis(limits::CONNECT_MS_MAX), connect);
            outcome = connected.await.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
            if outcome.is_ok() {
                break;
            }
        }
        self.stream = Some(outcome.map_err(|cause| self.broken(cause))?);
        Ok(())
    }

    /// Asks for a piece, and receives the head of the reply.
    async fn request(
        &mut self,
        path: &str,
        first_byte: u64,
        len: usize,
    ) -> Result<(E::Stream, ReplyHead), DownloadError> {
        let last_byte = first_byte.saturating_add(len as u64 - 1);
        let text = format!(
            "GET {}{path} HTTP/1.1\r\nhost: {}\r\nuser-agent: {USER_AGENT}\r\n\
             range: bytes={first_byte}-{last_byte}\r\n\r\n",
            self.base_path, self.host_field
        );
        let mut stream = self.stream.take().ok_or_else(|| self.nonsense("no connection"))?;
        self.within(limits::HTTP1_DOWNLOAD_STALL_MS_MAX, stream.write_all(text.as_bytes())).await?;
        let head = self.receive_head(&mut stream).await?;
        Ok((stream, head))
    }

    async fn receive_head(&mut self, stream: &mut E::Stream) -> Result<ReplyHead, DownloadError> {
        self.received.clear();
        let started = Instant::now();
        loop {
            if !self.received.is_empty() {
                let parsed = ReplyHead::parse(&self.received).map_err(|e| self.nonsense(&e))?;
                if let Some((head, len)) = parsed {
                    self.received.drain(..len);
                    if !(100..200).contains(&head.status) {
                        return Ok(head);
                    }
                    continue;
                }
            }
            if self.received.len() >= limits::HTTP1_HEAD_BYTES_MAX {
                return Err(self.nonsense("head of the reply is too large"));
            }
            let limit_ms = limits::HTTP1_DOWNLOAD_STALL_MS_MAX;
            let limit = Duration::from_millis(limit_ms);
            if started.elapsed() > limit {
                return Err(self.too_slow(limit));
            }
            let mut more = [0; HEAD_READ_BYTES];
            match self.within(limit_ms, stream.read(&mut more)).await? {
                0 => return Err(self.broken(io::ErrorKind::UnexpectedEof.into())),
                len => self.received.extend_from_slice(&more[..len]),
            }
        }
    }

    /// The length of the piece, if the reply is what was asked for: `wanted` bytes at most.
    fn checked_length(
        &self,
        head: &ReplyHead,
        first_byte: u64,
        wanted: usize,
    ) -> Result<usize, DownloadError> {
        if head.status != 206 && head.status != 200 {
            return Err(DownloadError::Status {
                host: self.host_field.clone(),
                status: head.status,
            });
        }
        let length = head.length.ok_or_else(|| self.nonsense("reply without a length"))?;
        let len = usize::try_from(length).ok().filter(|len| *len <= wanted);
        let len = len.ok_or_else(|| {
            self.nonsense(&format!("{length} bytes came but {wanted} were asked for"))
        })?;
        if head.status == 206 {
            let Some(range) = &head.range else {
                return Err(self.nonsense("206 without a content-range"));
            };
            let range_len = (range.end() - range.start()).saturating_add(1);
            if *range.start() != first_byte || range_len != length {
                return Err(self.nonsense(&format!(
                    "bytes {}-{} of {length} came but those from {first_byte} were asked for",
                    range.start(),
                    range.end()
                )));
            }
        } else if first_byte != 0 {
            return Err(self.nonsense("the whole file came instead of a range"));
        }
        Ok(len)
    }

    async fn within<T>(
        &self,
        limit_ms: u64,
        task: impl Future<Output = io::Result<T>>,
    ) -> Result<T, DownloadError> {
        let limit = Duration::from_millis(limit_ms);
        match self.engine.timeout(limit, task).await {
            Some(outcome) => outcome.map_err(|cause| self.broken(cause)),
            None => Err(self.too_slow(limit)),
        }
    }

    fn broken(&self, cause: io::Error) -> DownloadError {
        DownloadError::Broken { host: self.host_field.clone(), cause }
    }

    fn too_slow(&self, limit: Duration) -> DownloadError {
        let limit_ms = limit.as_millis() as u64;
        DownloadError::TooSlow { host: self.host_field.clone(), limit_ms }
    }

    fn nonsense(&self, what: &str) -> DownloadError {
        DownloadError::Nonsense { host: self.host_field.clone(), what: what.to_owned() }
    }
}

impl<E: Engine> Download<'_, E> {
    /// Bytes that have yet to come.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.missing
    }

    /// Receives the next bytes and fills parts of memory with them, one after the other, or what
    /// of them the rest of the piece fills. Returns the number of bytes.
    ///
    /// # Errors
    /// See [`DownloadError`]. What is in the parts then means nothing, and nothing more comes.
    pub async fn read(&mut self, parts: &mut [IoSliceMut<'_>]) -> Result<usize, DownloadError> {
        let room: usize = parts.iter().map(|part| part.len()).sum();
        let len = room.min(self.missing);
        let mut parts = cut(parts, len);
        let mut parts = parts.as_mut_slice();
        let buffered = len.min(self.client.received.len());
        fill(&mut parts, &self.client.received[..buffered]);
        self.client.received.drain(..buffered);
        let mut filled = buffered;
        while filled < len {
            let read = self.receive(parts).await?;
            filled += read;
            IoSliceMut::advance_slices(&mut parts, read);
        }
        self.missing -= len;
        if self.missing == 0 {
            self.end();
        }
        Ok(len)
    }

    /// Receives what is there, at least a byte. The connection is gone after an error.
    async fn receive(&mut self, parts: &mut [IoSliceMut<'_>]) -> Result<usize, DownloadError> {
        let client = &*self.client;
        let left = self.until.saturating_duration_since(Instant::now()).as_millis() as u64;
        let ended = || client.nonsense("connection ended within the piece");
        let mut stream = self.stream.take().ok_or_else(ended)?;
        if left == 0 {
            return Err(client.too_slow(Duration::from_millis(limits::HTTP1_DOWNLOAD_MS_MAX)));
        }
        let read = stream.read_scattered(parts);
        let read = client.within(left.min(limits::HTTP1_DOWNLOAD_STALL_MS_MAX), read).await?;
        if read == 0 {
            return Err(ended());
        }
        self.stream = Some(stream);
        Ok(read)
    }

    /// Everything came: the connection is kept, unless bytes came that were not asked for.
    fn end(&mut self) {
        let stream = self.stream.take();
        if self.keep_alive && self.client.received.is_empty() {
            self.client.stream = stream;
        }
    }
}

/// The addresses of a host. Names are looked up on a thread of their own, since the system's
/// call waits.
async fn resolve(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let (found, addrs) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("resolve".to_owned()).spawn(move || {
        let addrs = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
        // Whoever asked may have given up.
        let _ = found.send(addrs);
    })?;
    addrs.await.unwrap_or(Err(io::ErrorKind::Other.into()))
}

/// The parts of memory that `len` bytes fill.
fn cut<'p>(parts: &'p mut [IoSliceMut<'_>], len: usize) -> Vec<IoSliceMut<'p>> {
    let mut left = len;
    let mut filled = Vec::with_capacity(parts.len());
    for part in parts.iter_mut().filter(|part| !part.is_empty()) {
        let taken = left.min(part.len());
        if taken == 0 {
            break;
        }
        left -= taken;
        filled.push(IoSliceMut::new(&mut part[..taken]));
    }
    filled
}

/// Copies bytes into parts and leaves the rest of these.
fn fill(parts: &mut &mut [IoSliceMut<'_>], mut bytes: &[u8]) {
    while !bytes.is_empty() && !parts.is_empty() {
        let len = bytes.len().min(parts[0].len());
        parts[0][..len].copy_from_slice(&bytes[..len]);
        bytes = &bytes[len..];
        IoSliceMut::advance_slices(parts, len);
    }
}

impl ReplyHead {
    /// Parses a head; None while it is not complete.
    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, String> {
        let mut fields = [httparse::EMPTY_HEADER; limits::HTTP1_HEADERS_MAX];
        let mut parsed = httparse::Response::new(&mut fields);
        let len = match parsed.parse(bytes).map_err(|e| format!("malformed reply: {e}"))? {
            httparse::Status::Complete(len) => len,
            httparse::Status::Partial => return Ok(None),
        };
        let mut head = Self { status: parsed.code.unwrap_or(0), ..Self::default() };
        head.keep_alive = parsed.version == Some(1);
        for field in parsed.headers.iter() {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                let length = decimal(field.value).ok_or("content-length is not a number")?;
                if head.length.replace(length).is_some_and(|other| other != length) {
                    return Err("two lengths".to_owned());
                }
            } else if is("transfer-encoding") {
                return Err("a piece must have a length, but it is chunked".to_owned());
            } else if is("content-range") {
                head.range = content_range(field.value);
            } else if is("connection") && field.value.eq_ignore_ascii_case(b"close") {
                head.keep_alive = false;
            }
        }
        Ok(Some((head, len)))
    }
}

/// `bytes 0-99/200` or `bytes 0-99/*`.
fn content_range(value: &[u8]) -> Option<RangeInclusive<u64>> {
    let text = std::str::from_utf8(value).ok()?.strip_prefix("bytes ")?;
    let (range, total) = text.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (decimal(first.as_bytes())?, decimal(last.as_bytes())?);
    let total = if total == "*" { None } else { Some(decimal(total.as_bytes())?) };
    (first <= last && total.is_none_or(|total| last < total)).then_some(first..=last)
}

#[cfg(test)]
mod tests;
