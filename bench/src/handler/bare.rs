//! The bare loops that the handler is compared with.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use memmap2::MmapMut;
use packetcrypt_core::announcement::{Announcement, BatchScratch, check_batch};
use packetcrypt_core::primitives::blake2b::compress32_many;
use packetcrypt_core::{AnnError, Backend, Hash32};
use packetcrypt_jit::AnyExecutor;

use super::load::{CONNECTIONS, POST_ANNS, ask_in_rounds, cpu_seconds, discard};
use super::scene::{Place, failed, on_cpu};
use super::{ANN_BYTES, HandlerBenchError};

/// Bytes of a post, and of a range that is downloaded.
pub(super) const PIECE_BYTES: usize = POST_ANNS * ANN_BYTES;

/// How many times as much the engine checks in a second on two CPUs as on one.
pub(super) fn gain_of_two(
    place: &Place,
    posts: &[Vec<u8>],
    parent: &Hash32,
) -> Result<f64, String> {
    let start = Instant::now();
    check(place.serving, posts, parent)?;
    let one = start.elapsed();
    let start = Instant::now();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| check(place.asking, posts, parent));
        let one = check(place.serving, posts, parent);
        one.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    Ok(2.0 * one.as_secs_f64() / start.elapsed().as_secs_f64())
}

/// Announcements a second of processor time that the engine checks, posts as they came, those of
/// one job one behind the other.
pub(super) fn check(cpu: usize, posts: &[Vec<u8>], parent: &Hash32) -> Result<f64, String> {
    on_cpu(Some(cpu), || {
        let mut exec = Box::new(AnyExecutor::best());
        let mut scratch = Box::new(BatchScratch::new());
        let mut results = vec![Err(AnnError::Inval); POST_ANNS];
        let start = cpu_seconds(libc::RUSAGE_THREAD);
        let mut count = 0;
        for post in posts {
            let (anns, _) = post.as_chunks();
            let mut batch: Vec<_> =
                anns.iter().map(|ann| (Announcement::from_bytes(ann), parent)).collect();
            batch.sort_by_key(|(ann, _)| (ann.hard_nonce(), ann.root().0));
            let results = &mut results[..batch.len()];
            check_batch(&batch, results, &mut scratch, &mut *exec, Backend::best());
            if let Some(error) = results.iter().find_map(|result| result.as_ref().err()) {
                return Err(format!("a mined announcement is bad: {error}"));
            }
            count += batch.len();
        }
        Ok(count as f64 / (cpu_seconds(libc::RUSAGE_THREAD) - start))
    })
}

/// Connections of small requests.
pub(super) const SMALL_CONNECTIONS: usize = 64;
/// A small request.
pub(super) const SMALL_REQUEST: &[u8] = b"GET /anns/index.json HTTP/1.1\r\nhost: x\r\n\r\n";

/// A mapping like that of announcement files, resident.
fn mapping(place: &Place, bytes: usize) -> Result<MmapMut, HandlerBenchError> {
    let path = place.dir().join("bare.bin");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
    let file = file.map_err(failed("file"))?;
    file.set_len(bytes as u64).map_err(failed("file"))?;
    // SAFETY: nobody else uses this file, which is removed at once.
    let mut map = unsafe { MmapMut::map_mut(&file) }.map_err(failed("map"))?;
    std::fs::remove_file(&path).map_err(failed("file"))?;
    map.chunks_mut(4096).for_each(|page| page[0] = 1);
    Ok(map)
}

fn connections(count: usize) -> Result<(Vec<TcpStream>, Vec<TcpStream>), HandlerBenchError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed("listen"))?;
    let addr = listener.local_addr().map_err(failed("listen"))?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..count {
        theirs.push(TcpStream::connect(addr).map_err(failed("connect"))?);
        ours.push(listener.accept().map_err(failed("accept"))?.0);
    }
    Ok((ours, theirs))
}

/// Posts whose event ids a bare loop makes side by side.
const TOGETHER: usize = 4;

/// Bytes a second of a loop that receives posts into a mapping and hashes each announcement in
/// lanes; with `event_ids` also whole posts, some side by side in lanes, which gives their event ids.
pub(super) fn receive(
    place: &Place,
    posts: usize,
    event_ids: bool,
    body: impl Fn(usize, &mut Vec<u8>) + Sync,
) -> Result<f64, HandlerBenchError> {
    let mut map = mapping(place, posts * PIECE_BYTES)?;
    let (mut ours, theirs) = connections(CONNECTIONS)?;
    let body = &body;
    let rate = std::thread::scope(|scope| {
        let send = move || {
            place.ask(|| {
                std::thread::scope(|scope| {
                    for (first, mut stream) in theirs.into_iter().enumerate() {
                        scope.spawn(move || {
                            let mut bytes = Vec::new();
                            for number in (first..posts).step_by(CONNECTIONS) {
                                body(number, &mut bytes);
                                // The loop below notices what does not come.
                                let _ = stream.write_all(&bytes);
                            }
                        });
                    }
                });
            });
        };
        scope.spawn(send);
        place.serve(|| {
            let start = cpu_seconds(libc::RUSAGE_THREAD);
            let mut hashes = vec![Hash32::ZERO; POST_ANNS];
            let mut ids = [Hash32::ZERO; TOGETHER];
            let numbers = (0..posts).step_by(TOGETHER);
            for (first, places) in numbers.zip(map.chunks_mut(TOGETHER * PIECE_BYTES)) {
                let (places, _) = places.as_chunks_mut::<PIECE_BYTES>();
                for (number, place) in (first..).zip(&mut *places) {
                    ours[number % CONNECTIONS].read_exact(place)?;
                    let (anns, _) = place.as_chunks::<ANN_BYTES>();
                    compress32_many(anns, &mut hashes, Backend::best());
                }
                if event_ids {
                    compress32_many(places, &mut ids[..places.len()], Backend::best());
                }
            }
            std::hint::black_box((&hashes, ids));
            Ok::<_, io::Error>(cpu_seconds(libc::RUSAGE_THREAD) - start)
        })
    });
    let seconds = rate.map_err(failed("receive"))?;
    Ok((posts * PIECE_BYTES) as f64 / seconds)
}

/// Bytes a second of a loop that sends pieces of a mapping.
pub(super) fn send(place: &Place, duration: Duration) -> Result<f64, HandlerBenchError> {
    const MAP_PIECES: usize = 256;
    let map = mapping(place, MAP_PIECES * PIECE_BYTES)?;
    let (mut ours, theirs) = connections(CONNECTIONS)?;
    let rate = std::thread::scope(|scope| {
        scope.spawn(move || {
            place.ask(|| {
                std::thread::scope(|scope| {
                    for stream in theirs {
                        // Until the sender ends its side.
                        scope.spawn(move || while discard(&stream, PIECE_BYTES).is_ok() {});
                    }
                });
            });
        });
        place.serve(|| {
            let (start, begun) = (cpu_seconds(libc::RUSAGE_THREAD), Instant::now());
            let mut pieces = map.chunks(PIECE_BYTES).cycle().zip(0..);
            let mut sent = 0;
            while begun.elapsed() < duration {
                let Some((piece, number)) = pieces.next() else { break };
                let number: usize = number;
                ours[number % CONNECTIONS].write_all(piece)?;
                sent += piece.len();
            }
            let seconds = cpu_seconds(libc::RUSAGE_THREAD) - start;
            ours.clear();
            Ok::<_, io::Error>(sent as f64 / seconds)
        })
    });
    rate.map_err(failed("send"))
}

/// Small requests a second of processor time of a loop that waits for many with epoll, reads each
/// and writes an answer of `answer_bytes`.
pub(super) fn answer(
    place: &Place,
    duration: Duration,
    answer_bytes: usize,
) -> Result<f64, HandlerBenchError> {
    let (ours, mut theirs) = connections(SMALL_CONNECTIONS)?;
    for stream in ours.iter().chain(&theirs) {
        stream.set_nodelay(true).map_err(failed("connection"))?;
    }
    let answer = vec![b'x'; answer_bytes];
    let (served, asked) = std::thread::scope(|scope| {
        let serving = scope.spawn(|| place.serve(|| answer_each(ours, &answer)));
        let asked = place.ask(move || {
            // The connections end with this, and with them the serving side.
            ask_in_rounds(&mut theirs, SMALL_REQUEST, answer_bytes, duration)
        });
        (serving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), asked)
    });
    let count = asked.map_err(failed("small requests"))?;
    Ok(f64::from(count) / served.map_err(failed("epoll"))?)
}

/// Answers on all connections until they end: what that took of the processor, seconds.
fn answer_each(mut connections: Vec<TcpStream>, answer: &[u8]) -> io::Result<f64> {
    // SAFETY: makes a descriptor or fails.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if epoll < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: made above, and nobody else has it.
    let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
    for (number, stream) in (0..).zip(&connections) {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: number };
        let (op, fd) = (libc::EPOLL_CTL_ADD, stream.as_raw_fd());
        // SAFETY: the kernel reads one event at the address.
        if unsafe { libc::epoll_ctl(epoll.as_raw_fd(), op, fd, &raw mut event) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; SMALL_CONNECTIONS];
    let (mut open, mut request) = (connections.len(), [0; 4096]);
    while open > 0 {
        let (place, len) = (events.as_mut_ptr(), SMALL_CONNECTIONS as libc::c_int);
        // SAFETY: the kernel writes at most `len` events, for which there is room.
        let ready = unsafe { libc::epoll_wait(epoll.as_raw_fd(), place, len, -1) };
        for event in &events[..usize::try_from(ready).unwrap_or(0)] {
            let stream = &mut connections[event.u64 as usize];
            if stream.read(&mut request).is_ok_and(|len| len > 0) {
                stream.write_all(answer)?;
            } else {
                let (op, fd) = (libc::EPOLL_CTL_DEL, stream.as_raw_fd());
                // SAFETY: removes the descriptor; nothing is read at the address.
                unsafe { libc::epoll_ctl(epoll.as_raw_fd(), op, fd, std::ptr::null_mut()) };
                open -= 1;
            }
        }
    }
    Ok(cpu_seconds(libc::RUSAGE_THREAD))
}
