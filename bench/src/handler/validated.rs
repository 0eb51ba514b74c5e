//! The rows of posts whose proofs are checked: one core, two cores, and how long others wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use packetcrypt_core::announcement::{Request, Table, prepare};
use packetcrypt_core::params::{ITEM_BYTES, NODE_BYTES, TABLE_ITEMS, TREE_NODES};
use packetcrypt_core::{Backend, Hash32};
use packetcrypt_jit::AnyExecutor;

use super::load::{
    Acknowledged, CONNECTIONS, Client, Cost, Framing, POST_ANNS, Posts, asked, cpu_seconds,
    post_all, request, wrong_files, wrong_log,
};
use super::rows::{Add, WORK_BITS, check_answers, median};
use super::scene::{HEIGHT, Place, Scene, failed};
use super::{Bare, Compared, HandlerBenchError, bare};

/// All of a round fits in the first file, which is there before the first post.
const FILE_ANNS: u32 = 128 << 10;
/// The parent block of the announcements that are mined here.
const PARENT: Hash32 = Hash32([0x42; 32]);

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
    // Long enough that the cores' last posts, which do not end together, are a small part.
    let posts = mined_posts(if place.quick { 16 } else { 128 })?;
    let rounds = if place.quick { 1 } else { 3 };
    let count = (posts.len() * POST_ANNS) as f64;
    let requests: Vec<Vec<u8>> =
        posts.iter().map(|post| request(HEIGHT, Framing::Chunked, post)).collect();
    let wrong = |what| HandlerBenchError::WrongAnswer { work: WORK, what };
    let (mut rates, mut alone) = (Vec::new(), Vec::new());
    let (mut one_core, mut two_cores, mut gains) = (Vec::new(), Vec::new(), Vec::new());
    let (mut busy, mut waits) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        alone.push(bare::check(place.serving, &posts, &PARENT).map_err(wrong)?);
        let scene = place.scene(false, |config| {
            config.post_anns_max = POST_ANNS;
            config.file_anns = FILE_ANNS;
        })?;
        warm_up(place, &scene)?;
        let (told, cost) = post_mined(place, &scene, &requests)?;
        check_mined(&scene, &told, WORK)?;
        rates.push(count / cost.serving);
        one_core.push(count / cost.wall);
        scene.stop()?;
        gains.push(bare::gain_of_two(place, &posts, &PARENT).map_err(wrong)?);
        let (cost, longest) = on_two_cores(place, &requests)?;
        // What the two cores had for the handler: idle time counts against it.
        let core_seconds = 2.0 * cost.wall - cost.asking;
        two_cores.push(2.0 * count / core_seconds);
        busy.push(cost.serving / core_seconds);
        waits.extend(longest);
    }
    add(Compared {
        work: WORK,
        unit: "anns/core s",
        value: median(rates),
        bare: Some(Bare { what: "batch check alone", value: median(alone) }),
        note: "chunked, every one in a file and in the pay log".to_owned(),
    });
    add(Compared {
        work: "validated announcements on two cores",
        unit: "anns/s",
        value: median(two_cores),
        bare: Some(Bare { what: "on one core", value: median(one_core) }),
        note: format!(
            "time that the load generator took of the two left out; busy for {:.0} % of the rest; \
             the engine alone gains {:.2} x",
            median(busy) * 100.0,
            median(gains)
        ),
    });
    waits.sort_by(f64::total_cmp);
    add(Compared {
        work: "small request while both cores check, p99",
        unit: "ms",
        value: waits[waits.len() * 99 / 100],
        bare: None,
        note: format!("{} requests, longest {:.1} ms", waits.len(), waits[waits.len() - 1]),
    });
    Ok(())
}

/// Posts that are received whole and then refused, as they are of another block: the memory for
/// bodies is there afterwards, as in a handler that has run for a while.
fn warm_up(place: &Place, scene: &Scene) -> Result<(), HandlerBenchError> {
    let body = vec![0; bare::PIECE_BYTES];
    let request = request(HEIGHT, Framing::Chunked, &body);
    let (outcomes, _) =
        asked(place, CONNECTIONS, |_| Client::connect(scene.addr)?.refused(&request));
    let outcomes: std::io::Result<()> = outcomes.into_iter().collect();
    outcomes.map_err(failed("warm-up"))
}

fn post_mined(
    place: &Place,
    scene: &Scene,
    requests: &[Vec<u8>],
) -> Result<(Vec<Acknowledged>, Cost), HandlerBenchError> {
    post_all(place, scene.addr, HEIGHT, &Posts::Ready(requests), requests.len())
}

/// Whether all was accepted and is where it should be.
fn check_mined(
    scene: &Scene,
    told: &[Acknowledged],
    work: &'static str,
) -> Result<(), HandlerBenchError> {
    let all = (told.len() * POST_ANNS) as u64;
    let accepted: u64 = told.iter().map(|post| post.accepted).sum();
    let missing = (accepted != all).then(|| format!("{accepted} of {all} were accepted"));
    check_answers(work, missing)?;
    check_answers(work, wrong_files(scene, HEIGHT, told)?)?;
    check_answers(work, wrong_log(scene, told)?)
}

/// The same on two cores, of which the load generator has a little; and how long small requests
/// took meanwhile, milliseconds.
fn on_two_cores(
    place: &Place,
    requests: &[Vec<u8>],
) -> Result<(Cost, Vec<f64>), HandlerBenchError> {
    const WORK: &str = "validated announcements on two cores";
    let scene = place.scene(true, |config| {
        config.post_anns_max = POST_ANNS;
        config.file_anns = FILE_ANNS;
        (config.num_workers, config.io_threads) = (2, 2);
    })?;
    warm_up(place, &scene)?;
    let is_over = AtomicBool::new(false);
    let (posted, waits) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut waits = Vec::new();
            let mut client = Client::connect(scene.addr)?;
            while !is_over.load(Ordering::Relaxed) {
                let start = Instant::now();
                client.get("/anns/index.json", "")?;
                waits.push(start.elapsed().as_secs_f64() * 1e3);
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok::<_, std::io::Error>((waits, cpu_seconds(libc::RUSAGE_THREAD)))
        });
        let posted = post_mined(place, &scene, requests);
        is_over.store(true, Ordering::Relaxed);
        (posted, asking.join())
    });
    let (told, mut cost) = posted?;
    check_mined(&scene, &told, WORK)?;
    let waits = match waits {
        Ok(Ok((waits, seconds))) if !waits.is_empty() => {
            cost.asking += seconds;
            cost.serving -= seconds;
            waits
        }
        other => return Err(HandlerBenchError::Failed(format!("small requests: {other:?}"))),
    };
    scene.stop()?;
    Ok((cost, waits))
}
