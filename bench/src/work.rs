//! What is measured: a function for each row.

use packetcrypt_core::announcement::{
    Announcement, BatchScratch, CheckScratch, Prepared, Request, Table, check, check_batch, prepare,
};
use packetcrypt_core::block::header::BlockHeader;
use packetcrypt_core::block::search::HeaderSearch;
use packetcrypt_core::block::tree;
use packetcrypt_core::cryptocycle::State;
use packetcrypt_core::params::{CYCLES, ITEM_BYTES, NODE_BYTES, TABLE_ITEMS, TREE_NODES};
use packetcrypt_core::primitives::{compress32, expand};
use packetcrypt_core::randhash::{AnyExecutor, Execute, Executor, Generator, Interpreter, Program};
use packetcrypt_core::{AnnError, Backend, CompactTarget, Hash32};

use crate::measure::{Unit, measure};
use crate::report::Row;
use crate::{BenchError, Options};

/// Measures one row of the report.
pub(crate) type Measure = fn(&Options) -> Result<Row, BenchError>;

/// Every row.
pub(crate) const ALL: &[Measure] = &[
    announcement_nonces,
    job,
    items,
    generation,
    checks_grouped,
    checks_ungrouped,
    block_nonces,
    tree_of_block,
];

/// Announcements of one batch of checks.
const BATCH: usize = 1024;
/// Nonces between two looks at the clock.
const NONCES: u32 = 4096;
/// The `work_bits` of searches that find next to nothing.
const HARD: u32 = 0x1c00_ffff;
/// A target that no nonce of a measurement meets.
const HARDEST: CompactTarget = CompactTarget(0x0300_0001);

fn wrong(options: &Options, work: &'static str, what: impl Into<String>) -> BenchError {
    let Options { backend, executor, .. } = *options;
    BenchError::WrongAnswer { work, backend, executor, what: what.into() }
}

fn executor(options: &Options) -> Box<AnyExecutor> {
    Box::new(AnyExecutor::new(options.executor, options.backend))
}

fn seed(topic: u8, number: u64) -> [u8; 32] {
    let mut seed = [topic; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    seed
}

fn request(work_bits: u32) -> Request {
    Request {
        version: 1,
        work_bits: CompactTarget(work_bits),
        parent_block_height: 200_000,
        parent_block_hash: Hash32([0x42; 32]),
        content_type: 0,
        content_length: 0,
        content_hash: [0; 32],
        signing_key: [0; 32],
    }
}

/// The memory of a table.
struct Memory {
    items: Vec<[u8; ITEM_BYTES]>,
    nodes: Vec<[u8; NODE_BYTES]>,
}

impl Memory {
    fn new() -> Memory {
        Memory {
            items: vec![[0; ITEM_BYTES]; TABLE_ITEMS],
            nodes: vec![[0; NODE_BYTES]; TREE_NODES],
        }
    }

    /// Prepares the first job from a hard nonce on that has good programs.
    fn prepared<R>(
        &mut self,
        options: &Options,
        work_bits: u32,
        hard_nonce: u32,
        exec: &mut AnyExecutor,
        then: impl FnOnce(&Prepared<'_>) -> R,
    ) -> R {
        let mut table = Table::new(&mut self.items, &mut self.nodes).expect("memory of a table");
        let request = request(work_bits);
        let mut nonce = hard_nonce;
        loop {
            match prepare(&request, nonce, &mut table, exec, options.backend, &|| false) {
                Ok(prepared) => return then(&prepared),
                Err(error) => assert!(error.is_of_hard_nonce(), "{error}"),
            }
            nonce += 1;
        }
    }
}

/// Some announcements of a job.
fn mine(options: &Options, hard_nonce: u32, count: usize) -> Vec<Announcement> {
    let mut found = Vec::new();
    Memory::new().prepared(options, 0x201f_ffff, hard_nonce, &mut executor(options), |prepared| {
        let mut nonce = 0;
        while found.len() < count && nonce <= prepared.soft_nonce_max() {
            prepared.search(nonce..nonce + 512, &mut |ann| found.push(*ann));
            nonce += 512;
        }
    });
    found.truncate(count);
    found
}

fn announcement_nonces(options: &Options) -> Result<Row, BenchError> {
    const WORK: &str = "announcement nonces";
    let parent = request(0).parent_block_hash;
    let mut scratch = Box::new(CheckScratch::new());
    for ann in mine(options, 1, 20) {
        if let Err(error) = check(&ann, &parent, &mut scratch) {
            return Err(wrong(options, WORK, format!("a found announcement is bad: {error}")));
        }
    }
    Ok(measure(options, WORK, Unit::PerSecond("nonces/s"), |thread, repeat| {
        let hard_nonce = 100 * thread as u32;
        let mut exec = executor(options);
        Memory::new().prepared(options, HARD, hard_nonce, &mut exec, |prepared| {
            let mut first = 0;
            repeat(&mut || {
                prepared.search(first..first + NONCES, &mut |_| ());
                first = (first + NONCES) & 0x3f_ffff;
                u64::from(NONCES)
            });
        });
    }))
}

fn job(options: &Options) -> Result<Row, BenchError> {
    const WORK: &str = "one job: two tables and a tree";
    let plain = Options { backend: Backend::Soft, executor: Executor::Interpreter, ..*options };
    if mine(options, 2, 20) != mine(&plain, 2, 20) {
        return Err(wrong(options, WORK, "the plain code finds other announcements"));
    }
    Ok(measure(options, WORK, Unit::Milliseconds, |thread, repeat| {
        let mut memory = Memory::new();
        let mut exec = executor(options);
        let mut hard_nonce = 1000 * thread as u32;
        repeat(&mut || {
            hard_nonce += 1;
            memory.prepared(options, HARD, hard_nonce, &mut exec, |_| ());
            1
        });
    }))
}

fn programs(count: u64) -> Vec<Program> {
    let mut generator = Generator::new();
    let mut generate = |number| {
        let mut program = Program::EMPTY;
        generator.generate(&seed(1, number), &mut program).ok().map(|()| program)
    };
    (0..count).filter_map(&mut generate).collect()
}

/// The states of items, before their program runs.
fn states_of(nums: &[u64]) -> Vec<State> {
    let state = |num: &u64| {
        let mut state = State::ZERO;
        state.init(&seed(2, 0), *num);
        state
    };
    nums.iter().map(state).collect()
}

fn items(options: &Options) -> Result<Row, BenchError> {
    const WORK: &str = "program run of one item, 16 at a time";
    let programs = programs(if options.quick { 64 } else { 256 });
    let nums: Vec<u64> = (1770..1786).collect();
    let states = states_of(&nums);
    for program in &programs {
        let (mut fast, mut plain) = (states.clone(), states.clone());
        let mut exec = executor(options);
        exec.load(program);
        let fast_result = exec.run(program, &nums, &mut fast, CYCLES);
        let plain_result = Interpreter::new().run(program, &nums, &mut plain, CYCLES);
        let same = fast.iter().zip(&plain).all(|(fast, plain)| fast.0 == plain.0);
        if fast_result != plain_result || (plain_result.is_ok() && !same) {
            return Err(wrong(options, WORK, "the interpreter gives other states"));
        }
    }
    Ok(measure(options, WORK, Unit::Microseconds, |_, repeat| {
        let mut exec = executor(options);
        let mut states = states.clone();
        repeat(&mut || {
            for program in &programs {
                exec.load(program);
                // As many as a table has would take long; loading is then a small part.
                for _ in 0..8 {
                    // A failed program takes its time as well.
                    let _ = exec.run(program, &nums, &mut states, CYCLES);
                }
            }
            (programs.len() * 8 * nums.len()) as u64
        });
    }))
}

fn generation(options: &Options) -> Result<Row, BenchError> {
    Ok(measure(options, "program generation, mean", Unit::Microseconds, |thread, repeat| {
        let mut generator = Generator::new();
        let mut program = Program::EMPTY;
        repeat(&mut || {
            // The same programs each time: they differ much in length.
            for number in 0..500 {
                // One that is too big takes its time as well.
                let _ = generator.generate(&seed(3, number), &mut program);
                std::hint::black_box(&program);
            }
            std::hint::black_box(thread);
            500
        });
    }))
}

fn checks_grouped(options: &Options) -> Result<Row, BenchError> {
    const WORK: &str = "announcement checks, 1024 of 4 jobs";
    let jobs: Vec<Vec<_>> = (0..4).map(|job| mine(options, 10 * job, BATCH / 4)).collect();
    checks(options, WORK, &jobs.concat())
}

fn checks_ungrouped(options: &Options) -> Result<Row, BenchError> {
    const WORK: &str = "announcement checks, each of another job";
    let jobs: Vec<Vec<_>> = (0..16).map(|job| mine(options, 10 * job, 16)).collect();
    let mixed: Vec<_> = (0..16).flat_map(|at| jobs.iter().map(move |job| job[at])).collect();
    checks(options, WORK, &mixed)
}

fn checks(options: &Options, work: &'static str, anns: &[Announcement]) -> Result<Row, BenchError> {
    let parent = request(0).parent_block_hash;
    let mut bad = anns[0].to_bytes().to_owned();
    bad[1000] ^= 1;
    let bad = *Announcement::from_bytes(&bad);
    let mut batch: Vec<_> = anns.iter().map(|ann| (ann, &parent)).collect();
    let verify = |batch: &[(&Announcement, &Hash32)]| {
        let mut results = vec![Err(AnnError::Inval); batch.len()];
        let mut scratch = Box::new(BatchScratch::new());
        let mut exec = executor(options);
        check_batch(batch, &mut results, &mut scratch, &mut *exec, options.backend);
        results
    };
    if let Some(error) = verify(&batch).into_iter().find_map(Result::err) {
        return Err(wrong(options, work, format!("a good announcement is refused: {error}")));
    }
    batch[1].0 = &bad;
    if verify(&batch).into_iter().filter(Result::is_err).count() != 1 {
        return Err(wrong(options, work, "of one bad announcement among good ones"));
    }
    batch[1].0 = &anns[1];
    Ok(measure(options, work, Unit::PerSecond("checks/s"), |_, repeat| {
        let mut results = vec![Err(AnnError::Inval); batch.len()];
        let mut scratch = Box::new(BatchScratch::new());
        let mut exec = executor(options);
        repeat(&mut || {
            check_batch(&batch, &mut results, &mut scratch, &mut *exec, options.backend);
            batch.len() as u64
        });
    }))
}

fn block_nonces(options: &Options) -> Result<Row, BenchError> {
    const WORK: &str = "block nonces, 256 MiB of announcements";
    const ANNOUNCEMENTS: u64 = 256 << 10;
    let mut anns = vec![[0; 1024]; ANNOUNCEMENTS as usize];
    for (number, ann) in anns.iter_mut().enumerate() {
        expand(&seed(4, 0), number as u32, ann);
    }
    let of = |number: u64| &anns[number as usize];
    let header = BlockHeader([7; 80]);
    let easy = CompactTarget(0x201f_ffff);
    let found =
        |backend| HeaderSearch::new(&header, backend).search(0, 1000, easy, ANNOUNCEMENTS, of);
    if found(options.backend) != found(Backend::Soft) {
        return Err(wrong(options, WORK, "the plain code finds another solution"));
    }
    Ok(measure(options, WORK, Unit::PerSecond("nonces/s"), |thread, repeat| {
        let header = header.with_nonce(thread as u32);
        let mut search = Box::new(HeaderSearch::new(&header, options.backend));
        let mut first = 0u32;
        repeat(&mut || {
            std::hint::black_box(search.search(first, 256, HARDEST, ANNOUNCEMENTS, of));
            first = first.wrapping_add(256);
            256
        });
    }))
}

fn tree_of_block(options: &Options) -> Result<Row, BenchError> {
    let count: u64 = if options.quick { 1_000_000 } else { 10_000_000 } - 1;
    Ok(measure(
        options,
        "index and tree of a block's announcements",
        Unit::PerSecond("hashes/s"),
        |thread, repeat| {
            let fresh: Vec<Hash32> =
                (0..count).map(|number| compress32(&seed(5 + thread as u8, number))).collect();
            let len = tree::entries_len(count + 1).expect("a small tree") as usize;
            let mut entries = vec![tree::Entry::PAD; len];
            repeat(&mut || {
                let mut hashes = fresh.clone();
                let kept = tree::odd_count(tree::index(&mut hashes) as u64);
                let len = tree::entries_len(kept).expect("a small tree") as usize;
                let tree =
                    tree::Tree::build(kept, &mut entries[..len], |number| hashes[number as usize]);
                std::hint::black_box(tree.expect("sorted hashes"));
                kept
            });
        },
    ))
}
