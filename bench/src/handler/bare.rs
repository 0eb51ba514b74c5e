//! The bare loops that the handler is compared with.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use memmap2::MmapMut;
use packetcrypt_core::announcement::{Announcement, BatchScratch, check_batch};
use packetcrypt_core::primitives::blake2b::{compress32, compress32_many};
use packetcrypt_core::{AnnError, Backend, Hash32};
use packetcrypt_jit::AnyExecutor;

use super::load::{CONNECTIONS, POST_ANNS, cpu_seconds, discard};
use super::scene::{Place, failed, on_cpu};
use super::{ANN_BYTES, HandlerBenchError};

/// Bytes of a post, and of a range that is downloaded.
pub(super) const PIECE_BYTES: usize = POST_ANNS * ANN_BYTES;

/// Announcements a second of the wall clock that the engine checks on two CPUs, each all posts.
pub(super) fn check_on_two(
    place: &Place,
    posts: &[Vec<u8>],
    parent: &Hash32,
) -> Result<f64, String> {
    let start = Instant::now();
    let anns: usize = posts.iter().map(|post| post.len() / ANN_BYTES).sum();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| check(place.asking, posts, parent));
        let one = check(place.serving, posts, parent);
        one.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    Ok(2.0 * anns as f64 / start.elapsed().as_secs_f64())
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
pub(super) const SMALL_CONNECTIONS: usize = 32;
const SMALL_REQUEST: &[u8] = b"GET /anns/index.json HTTP/1.1\r\nhost: x\r\n\r\n";

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

fn connections() -> Result<(Vec<TcpStream>, Vec<TcpStream>), HandlerBenchError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed("listen"))?;
    let addr = listener.local_addr().map_err(failed("listen"))?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        theirs.push(TcpStream::connect(addr).map_err(failed("connect"))?);
        ours.push(listener.accept().map_err(failed("accept"))?.0);
    }
    Ok((ours, theirs))
}

/// Bytes a second of a loop that receives posts into a mapping and hashes each announcement in
/// lanes; with `event_ids` also the whole post, which gives its event id.
pub(super) fn receive(
    place: &Place,
    posts: usize,
    event_ids: bool,
    body: impl Fn(usize, &mut Vec<u8>) + Sync,
) -> Result<f64, HandlerBenchError> {
    let mut map = mapping(place, posts * PIECE_BYTES)?;
    let (mut ours, theirs) = connections()?;
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
            let mut last = Hash32::ZERO;
            for (number, place) in map.chunks_mut(PIECE_BYTES).enumerate() {
                ours[number % CONNECTIONS].read_exact(place)?;
                let (anns, _) = place.as_chunks::<ANN_BYTES>();
                compress32_many(anns, &mut hashes, Backend::best());
                if event_ids {
                    last = compress32(place);
                }
            }
            std::hint::black_box((&hashes, last));
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
    let (mut ours, theirs) = connections()?;
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

/// Small requests a second of processor time of threads that read one and write an answer of
/// `answer_bytes`, one thread a connection.
pub(super) fn answer(
    place: &Place,
    duration: Duration,
    answer_bytes: usize,
) -> Result<f64, HandlerBenchError> {
    let mut pairs = Vec::new();
    for _ in 0..SMALL_CONNECTIONS.div_ceil(CONNECTIONS) {
        let (ours, theirs) = connections()?;
        pairs.extend(ours.into_iter().zip(theirs));
    }
    let counts = std::thread::scope(|scope| {
        let (ours, theirs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let serving = scope.spawn(|| place.serve(|| answer_each(ours, answer_bytes)));
        place.ask(|| {
            std::thread::scope(|scope| {
                for mut stream in theirs {
                    scope.spawn(move || {
                        let (begun, mut reply) = (Instant::now(), vec![0; answer_bytes]);
                        while begun.elapsed() < duration {
                            let asked = stream.write_all(SMALL_REQUEST);
                            if asked.and_then(|()| stream.read_exact(&mut reply)).is_err() {
                                break;
                            }
                        }
                    });
                }
            });
        });
        serving.join()
    });
    let counts = counts.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let (count, seconds) =
        counts.into_iter().fold((0, 0.0), |sum, (count, cpu)| (sum.0 + count, sum.1 + cpu));
    Ok(f64::from(count) / seconds)
}

/// Requests answered on each connection, and what that took of the processor.
fn answer_each(connections: Vec<TcpStream>, answer_bytes: usize) -> Vec<(u32, f64)> {
    std::thread::scope(|scope| {
        let answer = |mut stream: TcpStream| {
            let (mut request, answer) = ([0; 4096], vec![b'x'; answer_bytes]);
            let mut count = 0;
            while stream.read(&mut request).is_ok_and(|len| len > 0) {
                if stream.write_all(&answer).is_err() {
                    break;
                }
                count += 1;
            }
            (count, cpu_seconds(libc::RUSAGE_THREAD))
        };
        let threads: Vec<_> =
            connections.into_iter().map(|stream| scope.spawn(move || answer(stream))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect()
    })
}
