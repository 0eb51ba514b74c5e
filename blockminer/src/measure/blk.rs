//! Store, tree, job and search.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use packetcrypt_core::backend::Backend;
use packetcrypt_core::block::coinbase::PLACEHOLDER;
use packetcrypt_core::block::{Tree, tree};
use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_core::params::ANNOUNCEMENT_BYTES;
use packetcrypt_net::hw;
use packetcrypt_proto::work::WorkFile;

use super::{HEIGHT, MeasureError, Options, Row, cannot, fill, fill_hashes, median, row, wrong};
use super::{PARENT_HEIGHT, resident_bytes};
use crate::choose::choose;
use crate::job::Job;
use crate::search::{self, Workers};
use crate::stats::ShareCounters;
use crate::store::{self, MEMORY_PER_ANNOUNCEMENT_BYTES, PinnedSet, Snapshot, Store, StoreOptions};
use crate::tree::{AnnTree, BuildTimes, CountRule};

/// Classes of the trees that are measured: when one of so many goes and another comes, 95 % of the
/// announcements were there before.
const CLASSES: u32 = 20;
/// A block target that nothing meets.
const HARDEST: u32 = 0x0500_ffff;
/// Rounds in which ours and the baseline take turns: the machine may be lent to others meanwhile.
const ROUNDS: u32 = 5;
/// Nonces of a thread after which a job is surely being hashed.
const FIRST_NONCES: u64 = 32;

/// What block nonces are compared with.
pub struct Baseline<'a> {
    /// What it is.
    pub name: String,
    /// Works for about this time, on as many threads as ours; nonces a second of all together.
    pub nonces: &'a dyn Fn(Duration) -> f64,
}

/// Measures the rows of the block miner. Each is handed over as soon as it is there.
///
/// # Errors
/// [`MeasureError`].
pub fn blk(
    options: &Options,
    baseline: &Baseline<'_>,
    show: &mut dyn FnMut(Row),
) -> Result<(), MeasureError> {
    trees(options, show)?;
    let slots = store::slots_for_memory(options.memory_mib);
    let store_options = StoreOptions {
        slots,
        huge_pages: options.huge_pages,
        numa: options.numa,
        nodes: hw::memory_nodes().iter().map(|node| node.id).collect(),
        file: options.file.clone(),
        threads: options.threads,
    };
    let resident = resident_bytes();
    let (store, _, kept) = Store::open(&store_options).map_err(cannot)?;
    if let Some((keeper, _)) = &kept {
        keeper.change(|snapshot: &mut Snapshot| snapshot.sources = vec!["synthetic".to_owned()]);
    }
    let store = Arc::new(store);
    let took = fill(&store, u64::from(slots), options.threads)?;
    let per_second = f64::from(slots) / took.as_secs_f64();
    show(
        row("made, hashed and indexed in slots", per_second, "announcements/s")
            .note(format!("{slots} announcements, {}", pages_of(&store))),
    );
    let mined = Arc::new(build(&store, None, options.threads)?);
    let next = build(&store, Some(mined.set()), options.threads)?;
    if next.root() != mined.root() {
        return Err(wrong("the next tree", "another root of the same set"));
    }
    let bytes = resident_bytes().saturating_sub(resident) as f64 / f64::from(slots);
    show(
        row("memory an announcement, two trees included", bytes, "bytes")
            .beside("planned", MEMORY_PER_ANNOUNCEMENT_BYTES as f64),
    );
    drop(next);
    nonces(options, &store, &mined, baseline, show)?;
    drop((mined, store));
    match kept {
        Some(_) => restart(&store_options, options, show),
        None => Ok(()),
    }
}

fn pages_of(store: &Store) -> String {
    match store.page_bytes() {
        (bytes, Some(huge)) => format!("{} of {} MiB in huge pages", huge >> 20, bytes >> 20),
        (bytes, None) => format!("{} MiB", bytes >> 20),
    }
}

fn build(
    store: &Arc<Store>,
    base: Option<&PinnedSet>,
    threads: usize,
) -> Result<AnnTree, MeasureError> {
    let choice = choose(&store.classes(), HEIGHT, u64::MAX).ok_or_else(|| cannot("no set"))?;
    let set = store.pin(&choice.members).ok_or_else(|| cannot("the set changed"))?;
    AnnTree::build(set, base, CountRule::Odd, threads).map_err(cannot)
}

/// The trees of hashes alone, from nothing and from another tree.
fn trees(options: &Options, show: &mut dyn FnMut(Row)) -> Result<(), MeasureError> {
    let count = options.tree_announcements / CLASSES * CLASSES;
    let store = Store::new(count + count / CLASSES, options.huge_pages).map_err(cannot)?;
    let store = Arc::new(store);
    fill_hashes(&store, count, PARENT_HEIGHT, CLASSES);
    let all = |store: &Store, from: u32| -> Vec<_> {
        let classes = store.classes();
        let kept = classes.iter().filter(|class| class.key.parent_height >= from);
        kept.map(|class| (class.id, class.count)).collect()
    };
    let threads = options.threads;
    let pin = |from| store.pin(&all(&store, from)).ok_or_else(|| cannot("the set changed"));
    let first = AnnTree::build(pin(0)?, None, CountRule::Odd, threads).map_err(cannot)?;
    let plain = plain_tree(first.set());
    show(
        row("index and tree from nothing", first.times().total().as_secs_f64(), "s")
            .beside("core's plain code, 1 thread", plain.as_secs_f64())
            .note(format!("{count} announcements, {threads} threads: {}", parts_of(first.times()))),
    );
    // The first touch of memory was measured above: from its third tree on a miner uses what it has.
    drop(AnnTree::build(pin(0)?, Some(first.set()), CountRule::Odd, threads).map_err(cannot)?);
    fill_hashes(&store, count / CLASSES, PARENT_HEIGHT + CLASSES, 1);
    let (mut incremental, mut from_nothing) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let build = |base| -> Result<AnnTree, MeasureError> {
            let set = pin(PARENT_HEIGHT + 1)?;
            AnnTree::build(set, base, CountRule::Odd, threads).map_err(cannot)
        };
        let next = build(Some(first.set()))?;
        let (root, count) = (*next.root(), next.count());
        incremental.push(next.times());
        // The memory of the one is that of the other.
        drop(next);
        let again = build(None)?;
        if (root, count) != (*again.root(), again.count()) {
            return Err(wrong("the incremental tree", "another root than from nothing"));
        }
        from_nothing.push(again.times());
    }
    let seconds = |times: &[BuildTimes]| -> Vec<f64> {
        times.iter().map(|times| times.total().as_secs_f64()).collect()
    };
    let ((value, range), (beside, _)) =
        (median(seconds(&incremental)), median(seconds(&from_nothing)));
    incremental.sort_by_key(BuildTimes::total);
    let row = row("the same, 95 % there before", value, "s").beside("from nothing", beside);
    show(row.note(format!("{range}; {}", parts_of(incremental[incremental.len() / 2]))));
    Ok(())
}

fn parts_of(times: BuildTimes) -> String {
    format!("index {} ms, layers {} ms", times.index.as_millis(), times.layers.as_millis())
}

/// What the core's readable code takes for the same.
fn plain_tree(set: &PinnedSet) -> Duration {
    let mut hashes: Vec<Hash32> = (0..set.len()).map(|number| *set.hash(number)).collect();
    // An order that is none: the index is sorted already.
    let len = hashes.len();
    for at in 0..len {
        hashes.swap(at, (at * 48_271 + 7) % len);
    }
    let started = Instant::now();
    let count = tree::index(&mut hashes) as u64;
    let len = tree::entries_len(count).unwrap_or(0) as usize;
    let mut entries = vec![tree::Entry::PAD; len];
    let built = Tree::build(count, &mut entries, |number| hashes[number as usize]);
    std::hint::black_box(built.is_ok());
    started.elapsed()
}

fn work(merkle: u8) -> Arc<WorkFile> {
    // One input from nowhere, and one output that takes the commitment.
    let mut coinbase = vec![1, 0, 0, 0, 1];
    coinbase.extend([0; 32]);
    coinbase.extend([0xff, 0xff, 0xff, 0xff, 2, 0x51, 0x51, 0xff, 0xff, 0xff, 0xff, 1]);
    coinbase.extend([0; 8]);
    coinbase.push(PLACEHOLDER.len() as u8);
    coinbase.extend(PLACEHOLDER);
    coinbase.extend([0; 4]);
    let mut header = [0; 80];
    header[72..76].copy_from_slice(&HARDEST.to_le_bytes());
    Arc::new(WorkFile {
        header,
        signing_key: Hash32::ZERO,
        share_target: CompactTarget(HARDEST),
        ann_target: CompactTarget::MAX,
        height: HEIGHT.cast_signed(),
        coinbase,
        merkle_branch: vec![Hash32([merkle; 32])],
    })
}

/// Rate of the mining threads, and how fast they take another job.
fn nonces(
    options: &Options,
    store: &Arc<Store>,
    tree: &Arc<AnnTree>,
    baseline: &Baseline<'_>,
    show: &mut dyn FnMut(Row),
) -> Result<(), MeasureError> {
    let backend = Backend::best();
    let (found, solutions) = sync_channel(64);
    let counters = Arc::new(ShareCounters::default());
    let places = search::places(options.threads, true);
    let workers = Workers::start(&places, backend, &found, &counters).map_err(cannot)?;
    drop(found);
    let start = |number: u64| -> Result<(), MeasureError> {
        let job = Job::assemble(number, work(number as u8), tree.clone()).map_err(cannot)?;
        let job = Arc::new(job);
        job.self_test(backend).map_err(cannot)?;
        workers.set_job(Some(job));
        Ok(())
    };
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let time = options.time / ROUNDS;
    for _ in 0..ROUNDS {
        workers.set_job(None);
        let beside = (baseline.nonces)(time);
        start(0)?;
        // Caches, page tables and clocks come to rest.
        std::thread::sleep(time / 4);
        let (before, started) = (workers.nonces(), Instant::now());
        std::thread::sleep(time);
        let rate = (workers.nonces() - before) as f64 / started.elapsed().as_secs_f64();
        ours.push(rate);
        theirs.push(beside);
        ratios.push(rate / beside);
    }
    let ((per_second, _), (beside, _), (ratio, range)) =
        (median(ours), median(theirs), median(ratios));
    show(row("block nonces", per_second, "nonces/s").beside(&baseline.name, beside).note(format!(
        "{ratio:.2} times ({range}); {} MiB of announcements, {} threads, {}, \
         {:.2} GB/s read, {}",
        (tree.count() * ANNOUNCEMENT_BYTES as u64) >> 20,
        options.threads,
        backend.name(),
        per_second * 3.0 * ANNOUNCEMENT_BYTES as f64 / 1e9,
        pages_of(store)
    )));
    let mut worst = Duration::ZERO;
    for number in 1..=10 {
        let started = Instant::now();
        start(number)?;
        // What the threads had begun of the job before may come once more each.
        let enough = workers.nonces() + 2 * FIRST_NONCES * options.threads as u64;
        while workers.nonces() < enough {
            std::thread::sleep(Duration::from_micros(200));
        }
        worst = worst.max(started.elapsed());
    }
    show(
        row("job switch with a ready tree, worst of 10", worst.as_secs_f64() * 1e3, "ms")
            .note("from new work to hashing, self test included"),
    );
    workers.set_job(None);
    drop(workers);
    match solutions.try_recv() {
        Ok(_) => Err(wrong("block nonces", "a hash met a target that none can meet")),
        Err(_) => Ok(()),
    }
}

/// From opening the file to hashing.
fn restart(
    store_options: &StoreOptions,
    options: &Options,
    show: &mut dyn FnMut(Row),
) -> Result<(), MeasureError> {
    const WORK: &str = "restart: from opening the file to hashing";
    let started = Instant::now();
    let (store, restored, _kept) = Store::open(store_options).map_err(cannot)?;
    let opened = started.elapsed();
    if restored.announcements != u64::from(store_options.slots) {
        return Err(wrong(WORK, format!("{restored:?} of {}", store_options.slots)));
    }
    let store = Arc::new(store);
    let tree = Arc::new(build(&store, None, options.threads)?);
    let times = tree.times();
    let job = Arc::new(Job::assemble(0, work(0), tree).map_err(cannot)?);
    job.self_test(Backend::best()).map_err(cannot)?;
    let (found, _solutions) = sync_channel(64);
    let counters = Arc::new(ShareCounters::default());
    let places = search::places(options.threads, true);
    let workers = Workers::start(&places, Backend::best(), &found, &counters).map_err(cannot)?;
    workers.set_job(Some(job));
    while workers.nonces() == 0 {
        std::thread::sleep(Duration::from_micros(200));
    }
    show(row(WORK, started.elapsed().as_secs_f64(), "s").note(format!(
        "{} MiB in the file: found in {} ms, index {} ms, layers {} ms",
        (u64::from(store_options.slots) * ANNOUNCEMENT_BYTES as u64) >> 20,
        opened.as_millis(),
        times.index.as_millis(),
        times.layers.as_millis()
    )));
    Ok(())
}
