//! The rows of a handler's HTTP side without proof checks.

use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use packetcrypt_core::CompactTarget;

use super::load::{
    Acknowledged, CONNECTIONS, Client, Cost, POST_ANNS, Posts, ask_in_rounds, asked, post_all,
    wrong_files, wrong_log,
};
use super::scene::{HEIGHT, Place, Scene, failed};
use super::{ANN_BYTES, Bare, Compared, HandlerBenchError, bare};

/// Half of the nonces of a job give an announcement, and a job has 1024: 512 of a job, as usual.
pub(super) const WORK_BITS: CompactTarget = CompactTarget(0x207f_ffff);
/// Connections of the slow clients.
const SLOW_CONNECTIONS: usize = 2_000;

pub(super) type Add<'a> = &'a mut dyn FnMut(Compared);

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub(super) fn check_answers(
    work: &'static str,
    wrong: Option<String>,
) -> Result<(), HandlerBenchError> {
    match wrong {
        None => Ok(()),
        Some(what) => Err(HandlerBenchError::WrongAnswer { work, what }),
    }
}

/// An announcement that passes every check but that of its proof.
fn unproven(height: i32) -> [u8; ANN_BYTES] {
    let mut ann = [0x5a; ANN_BYTES];
    ann[..88].fill(0);
    ann[0] = 1;
    ann[8..12].copy_from_slice(&WORK_BITS.0.to_le_bytes());
    ann[12..16].copy_from_slice(&height.to_le_bytes());
    ann
}

/// Makes post `number` of different announcements; the first call on a connection makes all of it.
fn unproven_post(height: i32, number: usize, bytes: &mut Vec<u8>) {
    if bytes.len() != bare::PIECE_BYTES || bytes[12..16] != height.to_le_bytes() {
        *bytes = unproven(height).repeat(POST_ANNS);
    }
    for (at, ann) in bytes.chunks_exact_mut(ANN_BYTES).enumerate() {
        ann[96..104].copy_from_slice(&((number * POST_ANNS + at) as u64).to_le_bytes());
    }
}

/// Posts whose proofs are not checked, then downloads and small requests of what they left.
pub(super) fn unvalidated(place: &Place, add: Add<'_>) -> Result<(), HandlerBenchError> {
    const WORK: &str = "accepted without proof check, posts of 1 MiB";
    const FILES: usize = 8;
    const FILE_ANNS: u32 = 64 << 10;
    let posts = if place.quick { 128 } else { (FILES - 1) * FILE_ANNS as usize / POST_ANNS };
    let scene = place.scene(false, |config| {
        config.skip_check_chance = 1.0;
        config.post_anns_max = POST_ANNS;
        config.file_anns = FILE_ANNS;
        config.files_to_keep = FILES;
    })?;
    let mut told: Vec<Acknowledged> = Vec::new();
    let (mut rates, mut bares, mut with_ids) = (Vec::new(), Vec::new(), Vec::new());
    // Fills every file once, so that each is recycled from then on, as in a pool that has run for
    // a while.
    let mut height = HEIGHT;
    for round in 0..4 {
        let count = if round == 0 { FILES * FILE_ANNS as usize / POST_ANNS } else { posts };
        let body = |number: usize, bytes: &mut Vec<u8>| unproven_post(height, number, bytes);
        let (new, cost) = post_all(place, scene.addr, height, &Posts::Made(&body), count)?;
        if round > 0 {
            rates.push((count * bare::PIECE_BYTES) as f64 / cost.serving / 1e9);
            bares.push(bare::receive(place, count, false, body)? / 1e9);
            with_ids.push(bare::receive(place, count, true, body)? / 1e9);
            check_answers(WORK, wrong_files(&scene, height, &new)?)?;
        }
        told.extend(new);
        height = scene.pass_blocks()?;
    }
    check_answers(WORK, wrong_log(&scene, &told)?)?;
    let (value, without_ids) = (median(rates), median(bares));
    add(Compared {
        work: WORK,
        unit: "GB/core s",
        value,
        bare: Some(Bare { what: "receive, hash, event ids", value: median(with_ids) }),
        note: format!("{:.2} x of {without_ids:.2} without event ids", value / without_ids),
    });
    downloads(place, &scene, add)?;
    small_requests(place, &scene, add)?;
    scene.stop()
}

fn downloads(place: &Place, scene: &Scene, add: Add<'_>) -> Result<(), HandlerBenchError> {
    let index =
        Client::connect(scene.addr).and_then(|mut client| client.get("/anns/index.json", ""));
    let index = packetcrypt_proto::anns_index::AnnsIndex::parse(&index.map_err(failed("index"))?);
    let files = index.map_err(failed("index"))?.files;
    let full: Vec<String> = files.iter().filter(|f| f.complete).map(|f| f.name()).collect();
    let duration = Duration::from_millis(if place.quick { 300 } else { 1_000 });
    let (mut rates, mut bares) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (got, cost) = asked(place, CONNECTIONS, |first| {
            let mut client = Client::connect(scene.addr)?;
            let (start, mut bytes, mut at) = (Instant::now(), 0, first);
            while start.elapsed() < duration {
                let target = format!("/anns/{}", full[at % full.len()]);
                let offset = at / full.len() % 64 * bare::PIECE_BYTES;
                let range = format!("range: bytes={offset}-{}\r\n", offset + bare::PIECE_BYTES - 1);
                bytes += client.discard(&target, &range)?;
                at += CONNECTIONS;
            }
            Ok(bytes)
        });
        let got: std::io::Result<Vec<usize>> = got.into_iter().collect();
        let bytes: usize = got.map_err(failed("download"))?.into_iter().sum();
        rates.push(bytes as f64 / cost.serving / 1e9);
        bares.push(bare::send(place, duration)? / 1e9);
    }
    add(Compared {
        work: "range downloads of 1 MiB",
        unit: "GB/core s",
        value: median(rates),
        bare: Some(Bare { what: "send from the mapping", value: median(bares) }),
        note: String::new(),
    });
    Ok(())
}

fn small_requests(place: &Place, scene: &Scene, add: Add<'_>) -> Result<(), HandlerBenchError> {
    let duration = Duration::from_millis(if place.quick { 300 } else { 1_000 });
    let (mut rates, mut bares) = (Vec::new(), Vec::new());
    let clients: std::io::Result<Vec<Client>> =
        (0..bare::SMALL_CONNECTIONS).map(|_| Client::connect(scene.addr)).collect();
    let mut clients = clients.map_err(failed("connect"))?;
    // Nothing is published meanwhile, so all answers are alike.
    let mut answer_bytes = 0;
    for client in &mut clients {
        answer_bytes = client.answer_bytes("/anns/index.json").map_err(failed("index"))?;
    }
    let mut streams: Vec<TcpStream> = clients.into_iter().map(Client::into_stream).collect();
    for _ in 0..3 {
        bares.push(bare::answer(place, duration, answer_bytes)?);
        let streams = Mutex::new(&mut streams);
        let (mut got, cost) = asked(place, 1, |_| {
            let mut streams = streams.lock().unwrap_or_else(PoisonError::into_inner);
            ask_in_rounds(&mut streams, bare::SMALL_REQUEST, answer_bytes, duration)
        });
        let count = got.remove(0).map_err(failed("small requests"))?;
        rates.push(f64::from(count) / cost.serving);
    }
    add(Compared {
        work: "small GETs (index.json)",
        unit: "/core s",
        value: median(rates),
        bare: Some(Bare { what: "epoll, read and write", value: median(bares) }),
        note: format!("{} connections, one request at a time on each", bare::SMALL_CONNECTIONS),
    });
    Ok(())
}

/// Many connections that send a byte a second, and what an honest miner sees of it.
pub(super) fn slow_connections(place: &Place, add: Add<'_>) -> Result<(), HandlerBenchError> {
    const WORK: &str = "memory with 2000 connections of a byte a second";
    let scene = place.scene(false, |config| {
        config.skip_check_chance = 1.0;
        config.post_anns_max = POST_ANNS;
        config.connections_per_source_max = SLOW_CONNECTIONS + 100;
    })?;
    let post = |first: usize| {
        let body = |number: usize, bytes: &mut Vec<u8>| {
            unproven_post(HEIGHT, first + number, bytes);
        };
        post_all(place, scene.addr, HEIGHT, &Posts::Made(&body), 16)
    };
    let (mut told, before) = post(0)?;
    let head = "POST /submit HTTP/1.1\r\nhost: x\r\nx-pc-payto: pkt1\r\nx-pc-sver: 1\r\n\
        x-pc-worknum: 200001\r\ncontent-length: 1048576\r\n\r\n";
    let slow = place.ask(|| {
        (0..SLOW_CONNECTIONS)
            .map(|number| {
                let mut stream = TcpStream::connect(scene.addr)?;
                // Half of them are slow with the head, half with the body.
                let sent = if number % 2 == 0 { head } else { &head[..60] };
                std::io::Write::write_all(&mut stream, sent.as_bytes())?;
                Ok(stream)
            })
            .collect::<std::io::Result<Vec<_>>>()
    });
    let mut slow = slow.map_err(failed("connect"))?;
    let mut after = Cost::default();
    for round in 1..=if place.quick { 2 } else { 5 } {
        let start = Instant::now();
        for stream in &mut slow {
            // Those whose head took too long are closed in the end: that is the point.
            let _ = std::io::Write::write_all(stream, b"x");
        }
        let (new, cost) = post(16 * round)?;
        told.extend(new);
        after = cost;
        std::thread::sleep(Duration::from_secs(1).saturating_sub(start.elapsed()));
    }
    let open = scene.running.stats().http.connections_open;
    let resident = resident_mib().ok_or_else(|| failed("memory")("/proc/self/status"))?;
    check_answers(WORK, wrong_log(&scene, &told)?)?;
    add(Compared {
        work: WORK,
        unit: "MiB",
        value: resident,
        bare: None,
        note: format!(
            "resident without shared file pages, load generator included; {open} open; 16 honest \
             posts took {:.0} ms, without them {:.0} ms",
            after.wall * 1e3,
            before.wall * 1e3
        ),
    });
    drop(slow);
    scene.stop()
}

/// Resident memory of this process that is not pages of files, MiB.
fn resident_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok().map(|kib| kib / 1024.0)
}
