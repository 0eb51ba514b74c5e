//! Range downloads straight into the caller's memory, for the block miner.
//!
//! One connection, kept between downloads. What the server says is believed only as far as it
//! fits what was asked for: the range, its length, the caller's memory.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

use super::head::decimal;
use crate::{USER_AGENT, limits};

/// Downloads pieces of files from one server.
#[derive(Debug)]
pub struct RangeClient {
    host: String,
    port: u16,
    host_field: String,
    base_path: String,
    stream: Option<TcpStream>,
    received: Vec<u8>,
}

/// A piece that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// How many bytes of the caller's memory were filled.
    pub len: usize,
    /// Length of the whole file, where the server says it.
    pub total_bytes: Option<u64>,
    /// The file's `ETag`.
    pub etag: Option<String>,
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
    range: Option<(RangeInclusive<u64>, Option<u64>)>,
    etag: Option<String>,
    keep_alive: bool,
}

impl RangeClient {
    /// A client for the server of `base_url`; paths are appended to the path of that.
    ///
    /// # Errors
    /// [`DownloadError::BadUrl`].
    pub fn new(base_url: &str) -> Result<Self, DownloadError> {
        let bad = || DownloadError::BadUrl(base_url.to_owned());
        let url = Url::parse(base_url).map_err(|_| bad())?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(bad)?;
        let port = url.port_or_known_default().ok_or_else(bad)?;
        if url.scheme() != "http" {
            return Err(bad());
        }
        Ok(Self {
            // Addresses of IPv6 stand in brackets in a URL.
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            host_field: url.port().map_or(host.to_owned(), |port| format!("{host}:{port}")),
            base_path: url.path().trim_end_matches('/').to_owned(),
            stream: None,
            received: Vec::new(),
        })
    }

    /// Fetches bytes of `path` from `first_byte` on, at most as many as fit `into`. The server may
    /// give fewer, at the end of the file.
    ///
    /// # Errors
    /// See [`DownloadError`]. What is in `into` then means nothing.
    pub async fn fetch(
        &mut self,
        path: &str,
        first_byte: u64,
        into: &mut [u8],
    ) -> Result<Piece, DownloadError> {
        if into.is_empty() || path.bytes().any(|b| !b.is_ascii_graphic()) {
            return Err(self.nonsense("an empty range or a path with blanks was asked for"));
        }
        let limit_ms = limits::HTTP1_DOWNLOAD_MS_MAX;
        let host = self.host_field.clone();
        let fetch = self.fetch_kept(path, first_byte, into);
        let outcome = tokio::time::timeout(Duration::from_millis(limit_ms), fetch).await;
        let outcome = outcome.unwrap_or(Err(DownloadError::TooSlow { host, limit_ms }));
        if outcome.is_err() {
            // Whatever is still under way there belongs to nobody.
            self.stream = None;
            self.received.clear();
        }
        outcome
    }

    /// On a kept connection first; a server may have closed that at any time, so once more on a
    /// new one when it ended before a reply began.
    async fn fetch_kept(
        &mut self,
        path: &str,
        first_byte: u64,
        into: &mut [u8],
    ) -> Result<Piece, DownloadError> {
        if self.stream.is_some() {
            match self.request(path, first_byte, into).await {
                Err(DownloadError::Broken { .. }) if self.received.is_empty() => {}
                outcome => return outcome,
            }
        }
        self.connect().await?;
        self.request(path, first_byte, into).await
    }

    async fn connect(&mut self) -> Result<(), DownloadError> {
        self.received.clear();
        self.stream = None;
        let connect = TcpStream::connect((self.host.as_str(), self.port));
        let stream = self.within(limits::CONNECT_MS_MAX, connect).await?;
        // Without it a request can wait for a delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        self.stream = Some(stream);
        Ok(())
    }

    async fn request(
        &mut self,
        path: &str,
        first_byte: u64,
        into: &mut [u8],
    ) -> Result<Piece, DownloadError> {
        let last_byte = first_byte.saturating_add(into.len() as u64 - 1);
        let text = format!(
            "GET {}{path} HTTP/1.1\r\nhost: {}\r\nuser-agent: {USER_AGENT}\r\n\
             range: bytes={first_byte}-{last_byte}\r\n\r\n",
            self.base_path, self.host_field
        );
        let mut stream = self.stream.take().ok_or_else(|| self.nonsense("no connection"))?;
        self.within(limits::HTTP1_DOWNLOAD_STALL_MS_MAX, stream.write_all(text.as_bytes())).await?;
        let head = self.receive_head(&mut stream).await?;
        let len = self.checked_length(&head, first_byte, into.len())?;
        let piece = &mut into[..len];
        let buffered = piece.len().min(self.received.len());
        piece[..buffered].copy_from_slice(&self.received[..buffered]);
        self.received.drain(..buffered);
        let mut filled = buffered;
        while filled < piece.len() {
            let read = stream.read(&mut piece[filled..]);
            match self.within(limits::HTTP1_DOWNLOAD_STALL_MS_MAX, read).await? {
                0 => return Err(self.nonsense("connection ended within the piece")),
                len => filled += len,
            }
        }
        // Bytes behind the piece were not asked for: such a connection is not used again.
        if head.keep_alive && self.received.is_empty() {
            self.stream = Some(stream);
        }
        let total_bytes = match head.range {
            Some((_, total)) => total,
            None => head.length,
        };
        Ok(Piece { len, total_bytes, etag: head.etag })
    }

    async fn receive_head(&mut self, stream: &mut TcpStream) -> Result<ReplyHead, DownloadError> {
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
            if started.elapsed() > Duration::from_millis(limit_ms) {
                return Err(DownloadError::TooSlow { host: self.host_field.clone(), limit_ms });
            }
            let mut received = std::mem::take(&mut self.received);
            let outcome = self.within(limit_ms, stream.read_buf(&mut received)).await;
            self.received = received;
            if outcome? == 0 {
                let cause = std::io::ErrorKind::UnexpectedEof.into();
                return Err(DownloadError::Broken { host: self.host_field.clone(), cause });
            }
        }
    }

    /// The length of the piece, if the reply is what was asked for.
    fn checked_length(
        &self,
        head: &ReplyHead,
        first_byte: u64,
        room: usize,
    ) -> Result<usize, DownloadError> {
        if head.status != 206 && head.status != 200 {
            return Err(DownloadError::Status {
                host: self.host_field.clone(),
                status: head.status,
            });
        }
        let length = head.length.ok_or_else(|| self.nonsense("reply without a length"))?;
        let len = usize::try_from(length).ok().filter(|len| *len <= room);
        let len = len.ok_or_else(|| {
            self.nonsense(&format!("{length} bytes came but {room} were asked for"))
        })?;
        if head.status == 206 {
            let Some((range, _)) = &head.range else {
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
        task: impl Future<Output = std::io::Result<T>>,
    ) -> Result<T, DownloadError> {
        let host = || self.host_field.clone();
        match tokio::time::timeout(Duration::from_millis(limit_ms), task).await {
            Ok(outcome) => outcome.map_err(|cause| DownloadError::Broken { host: host(), cause }),
            Err(_) => Err(DownloadError::TooSlow { host: host(), limit_ms }),
        }
    }

    fn nonsense(&self, what: &str) -> DownloadError {
        DownloadError::Nonsense { host: self.host_field.clone(), what: what.to_owned() }
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
            } else if is("etag") {
                head.etag = std::str::from_utf8(field.value).ok().map(str::to_owned);
            } else if is("connection") && field.value.eq_ignore_ascii_case(b"close") {
                head.keep_alive = false;
            }
        }
        Ok(Some((head, len)))
    }
}

/// `bytes 0-99/200` or `bytes 0-99/*`.
fn content_range(value: &[u8]) -> Option<(RangeInclusive<u64>, Option<u64>)> {
    let text = std::str::from_utf8(value).ok()?.strip_prefix("bytes ")?;
    let (range, total) = text.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (decimal(first.as_bytes())?, decimal(last.as_bytes())?);
    let total = if total == "*" { None } else { Some(decimal(total.as_bytes())?) };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first..=last, total))
}

#[cfg(test)]
mod tests;
