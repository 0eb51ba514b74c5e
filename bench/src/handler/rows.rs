//! The rows of a handler's HTTP side.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use packetcrypt_core::announcement::{Request, Table, prepare};
use packetcrypt_core::params::{ITEM_BYTES, NODE_BYTES, TABLE_ITEMS, TREE_NODES};
use packetcrypt_core::{Backend, CompactTarget, Hash32};
use packetcrypt_jit::AnyExecutor;

use super::load::{
    Acknowledged, CONNECTIONS, Client, Cost, Framing, POST_ANNS, asked, post_all, wrong_files,
    wrong_log,
};
use super::scene::{HEIGHT, Place, Scene, failed};
use super::{ANN_BYTES, Bare, Compared, HandlerBenchError, bare};

/// The parent block of the announcements that are mined here.
const PARENT: Hash32 = Hash32([0x42; 32]);
/// Half of the nonces of a job give an announcement, and a job has 1024: 512 of a job, as usual.
const WORK_BITS: CompactTarget = CompactTarget(0x207f_ffff);
/// Connections of the slow clients.
const SLOW_CONNECTIONS: usize = 2_000;

type Add<'a> = &'a mut dyn FnMut(Compared);

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn check_answers(work: &'static str, wrong: Option<String>) -> Result<(), HandlerBenchError> {
    match wrong {
        None => Ok(()),
        Some(what) => Err(HandlerBenchError::WrongAnswer { work, what }),
    }
}

/// Full posts of valid announcements, of few jobs each.
fn mined_posts(count: usize) -> Result<Vec<Vec<u8>>, HandlerBenchError> {
    let request = Request {
        version: 1,
        work_bits: WORK_BITS,
        parent_block_height: HEIGHT.unsigned_abs(),
        parent_block_hash: PARENT,
        content_type: 0,
        content_length: 0,
        content_hash: [0; 32],
        signing_key: [0; 32],
    };
    let mut items = vec![[0; ITEM_BYTES]; TABLE_ITEMS];
    let mut nodes = vec![[0; NODE_BYTES]; TREE_NODES];
    let mut exec = Box::new(AnyExecutor::best());
    let mut bytes = Vec::with_capacity((count + 1) * bare::PIECE_BYTES);
    for hard_nonce in 0.. {
        if bytes.len() >= count * bare::PIECE_BYTES {
            break;
        }
        let mut table = Table::new(&mut items, &mut nodes).map_err(failed("table"))?;
        let job = prepare(&request, hard_nonce, &mut table, &mut *exec, Backend::best(), &|| false);
        match job {
            Ok(job) => job.search(0..job.soft_nonce_max() + 1, &mut |ann| {
                bytes.extend_from_slice(ann.to_bytes());
            }),
            Err(error) if error.is_of_hard_nonce() => {}
            Err(error) => return Err(failed("job")(error)),
        }
    }
    Ok(bytes.chunks_exact(bare::PIECE_BYTES).take(count).map(<[u8]>::to_vec).collect())
}

/// Posts whose proofs are checked: on one core beside the engine alone, then on all cores with
/// small requests between.
pub(super) fn validated(place: &Place, add: Add<'_>) -> Result<(), HandlerBenchError> {
    const WORK: &str = "validated announcements, posts of 1024";
    let posts = mined_posts(if place.quick { 6 } else { 24 })?;
    let rounds = if place.quick { 1 } else { 3 };
    let count = (posts.len() * POST_ANNS) as f64;
    let (mut rates, mut alone, mut walls) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let wrong = |what| HandlerBenchError::WrongAnswer { work: WORK, what };
        alone.push(bare::check(place.serving, &posts, &PARENT).map_err(wrong)?);
        let scene = place.scene(false, |config| config.post_anns_max = POST_ANNS)?;
        let cost = post_mined(place, &scene, &posts, WORK)?;
        rates.push(count / cost.serving);
        walls.push(count / cost.wall);
        scene.stop()?;
    }
    let (value, engine) = (median(rates), median(alone));
    add(Compared {
        work: WORK,
        unit: "anns/core s",
        value,
        bare: Some(Bare { what: "batch check alone", value: engine }),
        note: "chunked, every one in a file and in the pay log".to_owned(),
    });
    let both = bare::check_on_two(place, &posts, &PARENT);
    let both = both.map_err(|what| HandlerBenchError::WrongAnswer { work: WORK, what })?;
    let note = format!("the engine alone: {:.2} x", both / engine);
    two_cores(place, &posts, median(walls), note, add)
}

fn post_mined(
    place: &Place,
    scene: &Scene,
    posts: &[Vec<u8>],
    work: &'static str,
) -> Result<Cost, HandlerBenchError> {
    let body = |number: usize, bytes: &mut Vec<u8>| bytes.clone_from(&posts[number]);
    let (told, cost) = post_all(place, scene.addr, HEIGHT, Framing::Chunked, posts.len(), body)?;
    let all = (posts.len() * POST_ANNS) as u64;
    let accepted: u64 = told.iter().map(|post| post.accepted).sum();
    if accepted != all {
        let what = format!("{accepted} of {all} were accepted");
        return Err(HandlerBenchError::WrongAnswer { work, what });
    }
    check_answers(work, wrong_files(scene, HEIGHT, &told)?)?;
    check_answers(work, wrong_log(scene, &told)?)?;
    Ok(cost)
}

/// The same on two cores, which the load generator has a little of; and how long a small request
/// takes meanwhile.
fn two_cores(
    place: &Place,
    posts: &[Vec<u8>],
    one_core: f64,
    note: String,
    add: Add<'_>,
) -> Result<(), HandlerBenchError> {
    const WORK: &str = "validated announcements on two cores";
    let scene = place.scene(true, |config| {
        config.post_anns_max = POST_ANNS;
        (config.num_workers, config.io_threads) = (2, 2);
    })?;
    let is_over = AtomicBool::new(false);
    let (cost, mut waits) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut waits = Vec::new();
            let mut client = Client::connect(scene.addr)?;
            while !is_over.load(Ordering::Relaxed) {
                let start = Instant::now();
                client.get("/anns/index.json", "")?;
                waits.push(start.elapsed().as_secs_f64() * 1e3);
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok::<_, std::io::Error>(waits)
        });
        let cost = post_mined(place, &scene, posts, WORK);
        is_over.store(true, Ordering::Relaxed);
        (cost, asking.join())
    });
    let cost = cost?;
    let waits = match &mut waits {
        Ok(Ok(waits)) if !waits.is_empty() => waits,
        other => return Err(HandlerBenchError::Failed(format!("small requests: {other:?}"))),
    };
    waits.sort_by(f64::total_cmp);
    add(Compared {
        work: WORK,
        unit: "anns/s",
        value: (posts.len() * POST_ANNS) as f64 / cost.wall,
        bare: Some(Bare { what: "one core, wall", value: one_core }),
        note,
    });
    add(Compared {
        work: "small request while both cores check, p99",
        unit: "ms",
        value: waits[waits.len() * 99 / 100],
        bare: None,
        note: format!("{} requests, longest {:.1} ms", waits.len(), waits[waits.len() - 1]),
    });
    scene.stop()
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
        let (new, cost) = post_all(place, scene.addr, height, Framing::Sized, count, body)?;
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
    let (value, ids) = (median(rates), median(with_ids));
    add(Compared {
        work: WORK,
        unit: "GB/core s",
        value,
        bare: Some(Bare { what: "receive, hash", value: median(bares) }),
        note: format!("{:.2} x of {ids:.2} with the event id too", value / ids),
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
    for _ in 0..3 {
        bares.push(bare::answer(place, duration, 1_500)?);
        let (got, cost) = asked(place, bare::SMALL_CONNECTIONS, |_| {
            let mut client = Client::connect(scene.addr)?;
            let (start, mut count) = (Instant::now(), 0);
            while start.elapsed() < duration {
                client.get("/anns/index.json", "")?;
                count += 1;
            }
            Ok(count)
        });
        let got: std::io::Result<Vec<u32>> = got.into_iter().collect();
        let count: u32 = got.map_err(failed("small requests"))?.into_iter().sum();
        rates.push(f64::from(count) / cost.serving);
    }
    add(Compared {
        work: "small GETs (index.json)",
        unit: "/core s",
        value: median(rates),
        bare: Some(Bare { what: "read and write", value: median(bares) }),
        note: format!("{} connections", bare::SMALL_CONNECTIONS),
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
        post_all(place, scene.addr, HEIGHT, Framing::Sized, 16, |number, bytes| {
            unproven_post(HEIGHT, first + number, bytes);
        })
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
