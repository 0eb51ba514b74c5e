//! The asking side: posts, downloads, small requests; on blocking sockets, one thread each.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use packetcrypt_core::announcement::Announcement;
use packetcrypt_proto::anns_index::AnnsIndex;
use serde_json::Value;

use super::scene::{Place, Scene, failed};
use super::{ANN_BYTES, HandlerBenchError};

/// Announcements of a full post.
pub(super) const POST_ANNS: usize = 1024;
/// Connections that post or download at the same time.
pub(super) const CONNECTIONS: usize = 8;
const PAY_TO: &str = "pkt1q6hqsqhqdgqfd8t3xwgceulu7k9d9w5t2amath0qxyfjlvl3s3u4sjza2g2";

/// What a load came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    /// From the first request to the last answer.
    pub(super) wall: f64,
    /// Processor time of this process without the asking threads, seconds.
    pub(super) serving: f64,
    /// Processor time of the asking threads, seconds.
    pub(super) asking: f64,
}

/// Processor time, seconds.
pub(super) fn cpu_seconds(of: libc::c_int) -> f64 {
    // SAFETY: all of its fields may be zero.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `rusage` at the address.
    unsafe { libc::getrusage(of, &raw mut usage) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Runs `ask` on some threads of the asking CPU; what they return, and what it cost.
pub(super) fn asked<T: Send>(
    place: &Place,
    threads: usize,
    ask: impl Fn(usize) -> T + Sync,
) -> (Vec<T>, Cost) {
    let start = (Instant::now(), cpu_seconds(libc::RUSAGE_SELF));
    let outcomes = place.ask(|| {
        std::thread::scope(|scope| {
            let ask = &ask;
            let threads: Vec<_> = (0..threads)
                .map(|number| {
                    scope.spawn(move || {
                        let outcome = ask(number);
                        (outcome, cpu_seconds(libc::RUSAGE_THREAD))
                    })
                })
                .collect();
            let join = threads.into_iter().map(|thread| thread.join());
            join.map(|joined| joined.unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
        })
    });
    let (wall, all) = (start.0.elapsed(), cpu_seconds(libc::RUSAGE_SELF) - start.1);
    let outcomes: Vec<(T, f64)> = outcomes;
    let asking: f64 = outcomes.iter().map(|(_, seconds)| seconds).sum();
    let cost = Cost { wall: wall.as_secs_f64(), serving: (all - asking).max(1e-6), asking };
    (outcomes.into_iter().map(|(outcome, _)| outcome).collect(), cost)
}

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// With its length.
    Sized,
    /// A chunk for each announcement.
    Chunked,
}

/// What is posted.
pub(super) enum Posts<'a> {
    /// Whole requests, which cost the asking side no more than sending them.
    Ready(&'a [Vec<u8>]),
    /// Bodies that are made from their number, in place of the one before on the same connection.
    Made(&'a (dyn Fn(usize, &mut Vec<u8>) + Sync)),
}

/// The bytes of a post.
pub(super) fn request(height: i32, framing: Framing, body: &[u8]) -> Vec<u8> {
    let mut request = head(height, framing, body.len()).into_bytes();
    match framing {
        Framing::Sized => request.extend_from_slice(body),
        Framing::Chunked => {
            for chunk in body.chunks(ANN_BYTES) {
                request.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                request.extend_from_slice(chunk);
                request.extend_from_slice(b"\r\n");
            }
            request.extend_from_slice(b"0\r\n\r\n");
        }
    }
    request
}

fn head(height: i32, framing: Framing, body_bytes: usize) -> String {
    let framed = match framing {
        Framing::Sized => format!("content-length: {body_bytes}"),
        Framing::Chunked => "transfer-encoding: chunked".to_owned(),
    };
    format!(
        "POST /submit HTTP/1.1\r\nhost: x\r\nx-pc-payto: {PAY_TO}\r\nx-pc-sver: 1\r\n\
         x-pc-annver: 1\r\nx-pc-worknum: {}\r\n{framed}\r\n\r\n",
        height + 1
    )
}

/// What was answered to a post.
#[derive(Clone, Debug)]
pub(super) struct Acknowledged {
    pub(super) event_id: String,
    pub(super) accepted: u64,
}

/// Posts so many of them over some connections.
pub(super) fn post_all(
    place: &Place,
    addr: SocketAddr,
    height: i32,
    posts: &Posts<'_>,
    count: usize,
) -> Result<(Vec<Acknowledged>, Cost), HandlerBenchError> {
    let next = AtomicUsize::new(0);
    let (outcomes, cost) = asked(place, CONNECTIONS, |_| {
        let mut client = Client::connect(addr)?;
        let (mut bytes, mut acknowledged) = (Vec::new(), Vec::new());
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(acknowledged);
            }
            match posts {
                Posts::Ready(requests) => client.stream.write_all(&requests[number])?,
                Posts::Made(make) => {
                    make(number, &mut bytes);
                    let head = head(height, Framing::Sized, bytes.len());
                    client.stream.write_all(head.as_bytes())?;
                    client.stream.write_all(&bytes)?;
                }
            }
            acknowledged.push(client.acknowledged()?);
        }
    });
    let outcomes: io::Result<Vec<Vec<Acknowledged>>> = outcomes.into_iter().collect();
    Ok((outcomes.map_err(failed("post"))?.concat(), cost))
}

/// One connection.
pub(super) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    pub(super) fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Sends a request that is to be refused.
    pub(super) fn refused(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request)?;
        let reply = self.reply()?;
        let json: Value = serde_json::from_slice(&reply).map_err(io::Error::other)?;
        if json["result"].is_null() { Ok(()) } else { Err(io::Error::other("not refused")) }
    }

    /// What is answered to a post.
    fn acknowledged(&mut self) -> io::Result<Acknowledged> {
        let reply = self.reply()?;
        let json: Value = serde_json::from_slice(&reply).map_err(io::Error::other)?;
        let count = |key: &str| json["result"][key].as_u64();
        match (json["result"]["eventId"].as_str(), count("accepted")) {
            (Some(id), Some(accepted)) => Ok(Acknowledged { event_id: id.to_owned(), accepted }),
            _ => Err(io::Error::other(format!("refused: {json}"))),
        }
    }

    /// Asks for something small and reads the answer.
    pub(super) fn get(&mut self, target: &str, fields: &str) -> io::Result<Vec<u8>> {
        let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\n{fields}\r\n");
        self.stream.write_all(request.as_bytes())?;
        self.reply()
    }

    /// As [`get`](Self::get), without looking at the body: how long it was.
    pub(super) fn discard(&mut self, target: &str, fields: &str) -> io::Result<usize> {
        let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\n{fields}\r\n");
        self.stream.write_all(request.as_bytes())?;
        let (_, length) = self.head()?;
        let mut left = length - self.received.len().min(length);
        self.received.clear();
        while left > 0 {
            left -= discard(&self.stream, left)?;
        }
        Ok(length)
    }

    /// Asks for something small: the length of the whole answer.
    pub(super) fn answer_bytes(&mut self, target: &str) -> io::Result<usize> {
        let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n");
        self.stream.write_all(request.as_bytes())?;
        let (head_bytes, body_bytes) = self.head()?;
        self.body(body_bytes)?;
        Ok(head_bytes + body_bytes)
    }

    /// The connection, between two requests.
    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn reply(&mut self) -> io::Result<Vec<u8>> {
        let (_, length) = self.head()?;
        self.body(length)
    }

    fn body(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let have = self.received.len().min(length);
        let mut body = vec![0; length];
        body[..have].copy_from_slice(&self.received[..have]);
        self.received.drain(..have);
        self.stream.read_exact(&mut body[have..])?;
        Ok(body)
    }

    /// Reads a head of a success: its length, and that of what follows it.
    fn head(&mut self) -> io::Result<(usize, usize)> {
        loop {
            if let Some(end) = self.received.windows(4).position(|end| end == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.received[..end]).into_owned();
                self.received.drain(..end + 4);
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                return length
                    .and_then(|text| Some((end + 4, text.parse().ok()?)))
                    .ok_or_else(|| io::Error::other(head.clone()));
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len => self.received.extend_from_slice(&piece[..len]),
            }
        }
    }
}

/// Asks the same on all connections, then takes all answers, each of so many bytes, and so on for
/// some time: how many. One thread does it, which costs the asking side as little as can be, and the
/// serving side finds many requests at a time.
pub(super) fn ask_in_rounds(
    connections: &mut [TcpStream],
    request: &[u8],
    answer_bytes: usize,
    duration: Duration,
) -> io::Result<u32> {
    let (start, mut answer, mut count) = (Instant::now(), vec![0; answer_bytes], 0);
    while start.elapsed() < duration {
        for connection in &mut *connections {
            connection.write_all(request)?;
        }
        for connection in &mut *connections {
            connection.read_exact(&mut answer)?;
            count += 1;
        }
    }
    Ok(count)
}

/// Takes up to `len` bytes from a connection without copying them anywhere.
pub(super) fn discard(stream: &TcpStream, len: usize) -> io::Result<usize> {
    // SAFETY: with MSG_TRUNC a TCP socket drops the bytes and writes nothing.
    let taken =
        unsafe { libc::recv(stream.as_raw_fd(), std::ptr::null_mut(), len, libc::MSG_TRUNC) };
    match usize::try_from(taken) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(taken) => Ok(taken),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// What is wrong with the files of a handler that acknowledged these posts with announcements of
/// this parent height: each accepted one must be in a file, once.
pub(super) fn wrong_files(
    scene: &Scene,
    height: i32,
    acknowledged: &[Acknowledged],
) -> Result<Option<String>, HandlerBenchError> {
    let accepted: u64 = acknowledged.iter().map(|post| post.accepted).sum();
    let mut seen = HashMap::<u64, u32>::new();
    let mut client = Client::connect(scene.addr).map_err(failed("connect"))?;
    let index = client.get("/anns/index.json", "").map_err(failed("index"))?;
    for file in AnnsIndex::parse(&index).map_err(failed("index"))?.files {
        let path = format!("/anns/{}", file.name());
        let bytes = client.get(&path, "").map_err(failed("file"))?;
        let height = u32::try_from(height).unwrap_or(0);
        let anns = bytes.as_chunks().0.iter().map(Announcement::from_bytes);
        for ann in anns.filter(|ann| ann.parent_block_height() == height) {
            let mut hasher = DefaultHasher::new();
            hasher.write(ann.to_bytes());
            *seen.entry(hasher.finish()).or_default() += 1;
        }
    }
    let (stored, twice) = (seen.len(), seen.values().filter(|&&times| times > 1).count());
    Ok((twice > 0 || stored as u64 != accepted)
        .then(|| format!("{accepted} accepted, {stored} in the files, {twice} of them twice")))
}

/// What is wrong with the pay log of a handler that acknowledged these posts: each that brought
/// something must be there, once and with what was told, and nothing else.
pub(super) fn wrong_log(
    scene: &Scene,
    acknowledged: &[Acknowledged],
) -> Result<Option<String>, HandlerBenchError> {
    let mut logged = HashMap::new();
    let dir = scene.workdir.join("ah/paylogdir");
    for entry in std::fs::read_dir(dir).map_err(failed("pay log"))? {
        let path = entry.map_err(failed("pay log"))?.path();
        for line in std::fs::read_to_string(path).map_err(failed("pay log"))?.lines() {
            let event: Value = serde_json::from_str(line).map_err(failed("pay log"))?;
            let id = event["eventId"].as_str().unwrap_or_default().to_owned();
            if logged.insert(id, event["accepted"].as_u64()).is_some() {
                return Ok(Some(format!("logged twice: {line}")));
            }
        }
    }
    for post in acknowledged.iter().filter(|post| post.accepted > 0) {
        if logged.remove(&post.event_id) != Some(Some(post.accepted)) {
            return Ok(Some(format!("the pay log does not match {post:?}")));
        }
    }
    Ok((!logged.is_empty()).then(|| format!("{} events nobody was told of", logged.len())))
}
