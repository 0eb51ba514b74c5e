//! The sprayer beside a loop of one `sendto` a datagram.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use packetcrypt_net::Shutdown;
use packetcrypt_net::sprayer::{Sprayer, SprayerOptions};
use packetcrypt_proto::datagram::RECORD_BYTES;

use super::load::cpu_seconds;
use super::scene::{Place, failed};
use super::{ANN_BYTES, Bare, Compared, HandlerBenchError};

/// Who gets everything.
const SUBSCRIBERS: u8 = 4;
/// Announcements handed to the sprayer at a time.
const BATCH: usize = 256;
/// Announcements that may wait in the sprayer: half of what its queues take in pieces of [`BATCH`].
const QUEUED_MAX: u64 = 64 * BATCH as u64;
/// Receive buffer of each subscriber, so that only a sprayer that is too fast for them loses.
const BUFFER_BYTES: usize = 64 << 20;

fn subscriber(number: u8) -> std::io::Result<UdpSocket> {
    // Another address than that of the sprayer: datagrams as they are on a wire.
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 2 + number], 0)))?;
    let option = |level, name, value: libc::c_int| {
        let len = size_of_val(&value) as libc::socklen_t;
        // SAFETY: the kernel reads `len` bytes at the address of `value`.
        unsafe {
            libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len)
        };
    };
    option(libc::SOL_SOCKET, libc::SO_RCVBUF, BUFFER_BYTES as libc::c_int);
    option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER_BYTES as libc::c_int);
    option(libc::SOL_UDP, libc::UDP_GRO, 1);
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(socket)
}

/// What came of `send` on the serving CPU.
struct Outcome<T> {
    /// Records that the subscribers received.
    received: u64,
    /// Processor time of all but the subscribers, seconds.
    serving: f64,
    sent: T,
}

fn with_subscribers<T: Send>(
    place: &Place,
    subscribers: &[UdpSocket],
    send: impl FnOnce() -> T + Send,
) -> Outcome<T> {
    let is_over = &AtomicBool::new(false);
    let receive = |socket: &UdpSocket| {
        let (mut buffer, mut bytes) = (vec![0; 64 << 10], 0);
        loop {
            match socket.recv(&mut buffer) {
                Ok(len) => bytes += len,
                // Nothing came for a while.
                Err(_) if is_over.load(Ordering::Relaxed) => break,
                Err(_) => {}
            }
        }
        ((bytes / RECORD_BYTES) as u64, cpu_seconds(libc::RUSAGE_THREAD))
    };
    let start = cpu_seconds(libc::RUSAGE_SELF);
    let (received, sent) = std::thread::scope(|scope| {
        let received = scope.spawn(|| {
            place.ask(|| {
                std::thread::scope(|scope| {
                    let threads: Vec<_> =
                        subscribers.iter().map(|socket| scope.spawn(|| receive(socket))).collect();
                    let join = threads.into_iter().map(|thread| thread.join());
                    join.map(|joined| joined.unwrap_or_default()).collect::<Vec<_>>()
                })
            })
        });
        let sent = place.serve(send);
        is_over.store(true, Ordering::Relaxed);
        (received.join().unwrap_or_default(), sent)
    });
    let asking: f64 = received.iter().map(|(_, seconds)| seconds).sum();
    let serving = (cpu_seconds(libc::RUSAGE_SELF) - start - asking).max(1e-6);
    Outcome { received: received.iter().map(|(records, _)| records).sum(), serving, sent }
}

/// The row of the sprayer.
pub(super) fn sprayed(
    place: &Place,
    add: &mut dyn FnMut(Compared),
) -> Result<(), HandlerBenchError> {
    let duration = Duration::from_millis(if place.quick { 400 } else { 1_500 });
    let subscribers: std::io::Result<Vec<_>> = (0..SUBSCRIBERS).map(subscriber).collect();
    let subscribers = subscribers.map_err(failed("subscriber"))?;
    let addrs: Vec<SocketAddr> =
        subscribers.iter().filter_map(|socket| socket.local_addr().ok()).collect();
    let bare = with_subscribers(place, &subscribers, || one_by_one(&addrs, duration));
    let bare = bare.sent.map_err(failed("sendto"))? as f64 / bare.serving;
    let fast = with_subscribers(place, &subscribers, || spray(&addrs, duration, None));
    let (records, wall) = fast.sent?;
    let pace = records as f64 / wall * 0.8;
    let paced = with_subscribers(place, &subscribers, || spray(&addrs, duration, Some(pace)));
    let (paced_records, _) = paced.sent?;
    let lost = paced_records.saturating_sub(paced.received);
    add(Compared {
        work: "sprayer to 4 subscribers",
        unit: "anns/core s",
        value: records as f64 / fast.serving,
        bare: Some(Bare { what: "one sendto a datagram", value: bare }),
        note: format!(
            "each of them counted once a subscriber; at 80 % of the rate ({pace:.0}/s) {lost} of \
             {paced_records} were lost"
        ),
    });
    Ok(())
}

/// Sprays for some time as fast as it goes, or so many records a second: how many were sent, and the
/// time it took.
fn spray(
    to: &[SocketAddr],
    duration: Duration,
    pace: Option<f64>,
) -> Result<(u64, f64), HandlerBenchError> {
    let options = SprayerOptions {
        spray_at: to.to_vec(),
        ..SprayerOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)), "")
    };
    let sprayer = Sprayer::start(options, &Shutdown::new()).map_err(failed("sprayer"))?;
    let (start, mut queued, mut number) = (Instant::now(), 0u64, 0u64);
    let sent = || sprayer.stats().peers.iter().map(|peer| peer.sent).sum::<u64>();
    while start.elapsed() < duration {
        let is_due = pace.is_none_or(|pace| {
            (queued * to.len() as u64) as f64 <= pace * start.elapsed().as_secs_f64()
        });
        // No more than the queues hold: what is dropped is not sprayed.
        let stats = sprayer.stats();
        let waiting = stats.peers.iter().map(|peer| peer.queued).max().unwrap_or(0);
        if !is_due || waiting + stats.outgoing.queued > QUEUED_MAX {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        let batch = (0..BATCH as u64).map(|at| {
            let mut ann = [0x5a; ANN_BYTES];
            ann[..8].copy_from_slice(&(number + at).to_le_bytes());
            ann
        });
        sprayer.send(batch.collect());
        number += BATCH as u64;
        queued += BATCH as u64;
    }
    let end = Instant::now() + Duration::from_secs(5);
    while sent() < queued * to.len() as u64 && Instant::now() < end {
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok((sent(), start.elapsed().as_secs_f64()))
}

/// One datagram and one call for each record: how many.
fn one_by_one(to: &[SocketAddr], duration: Duration) -> std::io::Result<u64> {
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let (start, mut datagram, mut count) = (Instant::now(), [0x5a; RECORD_BYTES], 0u64);
    while start.elapsed() < duration {
        for _ in 0..64 {
            datagram[..8].copy_from_slice(&count.to_le_bytes());
            for addr in to {
                socket.send_to(&datagram, addr)?;
                count += 1;
            }
        }
    }
    Ok(count)
}
