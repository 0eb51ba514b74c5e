//! Making announcements.

use std::hint::black_box;

use packetcrypt_bench_baseline::{Checker, Job, Libsodium};
use packetcrypt_core::announcement::{Announcement, CheckScratch, check};
use packetcrypt_core::randhash::{Generator, Program};
use packetcrypt_core::{CompactTarget, Hash32};

use super::{executor, wrong};
use crate::data::{self, TableMemory, request};
use crate::measure::Unit;
use crate::{Bench, BenchError, Options, Outcome};

/// Nonces between two looks at the clock.
const NONCES: u32 = 1024;
/// The `work_bits` of searches that find next to nothing, with the full range of soft nonces.
const HARD: u32 = 0x1c00_ffff;
/// The `work_bits` of answers that are compared: one nonce in 16 does.
const EASY: u32 = 0x200f_ffff;
/// A target of today's pools: one nonce in 128 does, and a job has 32768.
const USUAL: u32 = 0x2002_0000;
/// Announcements that can be expected from a job at that target.
const EXPECTED: u64 = 256;

/// The hard nonces of the jobs that are measured, at [`USUAL`]. Programs differ much: the four of these
/// jobs execute 2555 words a cycle in the mean, random ones 2543 (spec 02, 10.9).
const JOBS: [u32; 2] = [1028, 1018];

/// Mines a hard nonce with both sides: the announcements must be the same, and good.
fn same_announcements(
    options: &Options,
    sodium: &Libsodium,
    work: &'static str,
    hard_nonce: u32,
) -> Result<(), BenchError> {
    const NONCES: u32 = 512;
    let mut ours = Vec::new();
    let mut exec = executor(options);
    TableMemory::new().prepared(EASY, hard_nonce, &mut *exec, options.backend, |prepared| {
        prepared.search(0..NONCES, &mut |ann| ours.push(*ann));
    });
    let Some(first) = ours.first() else {
        return Err(wrong(options, work, "nothing was found"));
    };
    let parent = request(EASY).parent_block_hash;
    let mut scratch = Box::new(CheckScratch::new());
    let mut checked = Vec::new();
    for ann in &ours {
        match check(ann, &parent, &mut scratch) {
            Ok(hash) => checked.push((ann.soft_nonce(), hash)),
            Err(error) => {
                return Err(wrong(options, work, format!("a found announcement is bad: {error}")));
            }
        }
    }
    let mut theirs = Vec::new();
    let mut job = Job::new(sodium);
    if let Some(search) = job.prepare(first.header(), &parent, CompactTarget(EASY)) {
        if search.root() != first.root() {
            return Err(wrong(options, work, "the baseline has another tree"));
        }
        search.search(0, NONCES, &mut |nonce, hash| theirs.push((nonce, hash)));
    }
    if theirs == checked {
        Ok(())
    } else {
        Err(wrong(options, work, "the baseline finds other announcements"))
    }
}

/// The header of a hard nonce, to give to the baseline.
fn header_of(hard_nonce: u32, work_bits: u32) -> Announcement {
    let mut bytes = [0; 1024];
    let request = request(work_bits);
    bytes[0] = request.version;
    bytes[4..8].copy_from_slice(&hard_nonce.to_le_bytes());
    bytes[8..12].copy_from_slice(&work_bits.to_le_bytes());
    bytes[12..16].copy_from_slice(&request.parent_block_height.to_le_bytes());
    *Announcement::from_bytes(&bytes)
}

pub(super) fn nonces(bench: &mut Bench<'_>) -> Result<Vec<Outcome>, BenchError> {
    const WORK: &str = "announcement nonces";
    let (options, sodium) = (bench.options, bench.sodium);
    bench.preparing(WORK);
    same_announcements(options, sodium, WORK, 1)?;
    let parent = request(HARD).parent_block_hash;
    let row = bench.measure(
        WORK,
        Unit::PerSecond("nonces/s"),
        |thread, repeat| {
            let mut exec = executor(options);
            let hard_nonce = 2 + thread as u32;
            TableMemory::new().prepared(
                HARD,
                hard_nonce,
                &mut *exec,
                options.backend,
                |prepared| {
                    let mut first = 0;
                    repeat(&mut || {
                        prepared.search(first..first + NONCES, &mut |_| ());
                        first = (first + NONCES) & 0x3f_ffff;
                        u64::from(NONCES)
                    });
                },
            );
        },
        |thread, repeat| {
            let header = header_of(2 + thread as u32, HARD);
            let mut job = Job::new(sodium);
            let search = job.prepare(header.header(), &parent, CompactTarget(HARD));
            let search = search.expect("a job that was prepared before");
            let mut first = 0;
            repeat(&mut || {
                search.search(first, NONCES, &mut |_, _| ());
                first = (first + NONCES) & 0x3f_ffff;
                u64::from(NONCES)
            });
        },
    );
    Ok(vec![Outcome::Row(row)])
}

pub(super) fn job(bench: &mut Bench<'_>) -> Result<Vec<Outcome>, BenchError> {
    const WORK: &str = "one job: two tables and a tree";
    let (options, sodium) = (bench.options, bench.sodium);
    bench.preparing(WORK);
    same_announcements(options, sodium, WORK, JOBS[0])?;
    let parent = request(USUAL).parent_block_hash;
    let row = bench.measure(
        WORK,
        Unit::Milliseconds,
        |_, repeat| {
            let mut memory = TableMemory::new();
            let mut exec = executor(options);
            repeat(&mut || {
                for hard_nonce in JOBS {
                    memory.prepared(USUAL, hard_nonce, &mut *exec, options.backend, |_| ());
                }
                JOBS.len() as u64
            });
        },
        |_, repeat| {
            let mut job = Job::new(sodium);
            repeat(&mut || {
                for hard_nonce in JOBS {
                    let header = header_of(hard_nonce, USUAL);
                    black_box(job.prepare(header.header(), &parent, CompactTarget(USUAL)));
                }
                JOBS.len() as u64
            });
        },
    );
    Ok(vec![Outcome::Row(row)])
}

pub(super) fn found(bench: &mut Bench<'_>) -> Result<Vec<Outcome>, BenchError> {
    const WORK: &str = "announcements at 20020000, jobs included";
    let (options, sodium) = (bench.options, bench.sodium);
    bench.preparing(WORK);
    let mut exec = executor(options);
    let found = TableMemory::new().mine(USUAL, 200, &mut *exec, options.backend, usize::MAX).len();
    if !(EXPECTED as usize * 3 / 4..=EXPECTED as usize * 5 / 4).contains(&found) {
        return Err(wrong(options, WORK, format!("{found} found, about {EXPECTED} expected")));
    }
    let parent = request(USUAL).parent_block_hash;
    // Whole jobs each time. One counts as the number that can be expected of it, so that luck is no
    // speed.
    let row = bench.measure(
        WORK,
        Unit::PerCpuSecond("/cpu-s"),
        |_, repeat| {
            let mut memory = TableMemory::new();
            let mut exec = executor(options);
            repeat(&mut || {
                for job in JOBS {
                    black_box(memory.mine(USUAL, job, &mut *exec, options.backend, usize::MAX));
                }
                JOBS.len() as u64 * EXPECTED
            });
        },
        |_, repeat| {
            let mut job = Job::new(sodium);
            let mut jobs = JOBS.iter().cycle();
            repeat(&mut || {
                let header = header_of(*jobs.next().unwrap_or(&0), USUAL);
                let search = job.prepare(header.header(), &parent, CompactTarget(USUAL));
                let search = search.expect("a job with good programs");
                let mut anns: Vec<(u32, Hash32)> = Vec::new();
                search.search(0, search.soft_nonce_max() + 1, &mut |nonce, hash| {
                    anns.push((nonce, hash));
                });
                black_box(anns);
                EXPECTED
            });
        },
    );
    Ok(vec![Outcome::Row(row)])
}

pub(super) fn generation(bench: &mut Bench<'_>) -> Result<Vec<Outcome>, BenchError> {
    const WORK: &str = "program generation, mean";
    /// They differ much in length, so it is always the same ones.
    const PROGRAMS: u64 = 500;
    let (options, sodium) = (bench.options, bench.sodium);
    bench.preparing(WORK);
    let mut generator = Generator::new();
    let mut program = Program::EMPTY;
    let mut checker = Checker::new(sodium);
    for number in 0..PROGRAMS {
        let seed = data::seed(3, number);
        let ours = generator
            .generate_on(&seed, &mut program, options.backend)
            .ok()
            .map(|()| program.memory());
        if ours != checker.generate(&seed).map(Program::memory) {
            return Err(wrong(options, WORK, format!("program {number} is another one")));
        }
    }
    let row = bench.measure(
        WORK,
        Unit::Microseconds,
        |_, repeat| {
            let mut generator = Generator::new();
            let mut program = Program::EMPTY;
            repeat(&mut || {
                for number in 0..PROGRAMS {
                    // One that is too big takes its time as well.
                    let _ = black_box(generator.generate_on(
                        &data::seed(3, number),
                        &mut program,
                        options.backend,
                    ));
                }
                PROGRAMS
            });
        },
        |_, repeat| {
            let mut checker = Checker::new(sodium);
            repeat(&mut || {
                for number in 0..PROGRAMS {
                    black_box(checker.generate(&data::seed(3, number)));
                }
                PROGRAMS
            });
        },
    );
    Ok(vec![Outcome::Row(row)])
}
