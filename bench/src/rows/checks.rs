//! Checking announcements.

use packetcrypt_bench_baseline::Checker;
use packetcrypt_core::announcement::{Announcement, BatchScratch, check_batch};
use packetcrypt_core::{AnnError, Backend, Hash32};
use packetcrypt_jit::AnyExecutor;

use super::{executor, wrong};
use crate::data::{self, MINED_BITS, TableMemory, request};
use crate::measure::Unit;
use crate::{Bench, BenchError, Outcome};

/// Announcements of one batch of few jobs.
const BATCH: usize = 1024;
/// The jobs they are of.
const JOBS: u32 = 4;
/// Announcements that the baseline checks between two looks at the clock.
const BASELINE_BATCH: usize = 64;

pub(super) fn of_few_jobs(bench: &mut Bench<'_>) -> Result<Vec<Outcome>, BenchError> {
    const WORK: &str = "announcement checks, 1024 of 4 jobs";
    bench.preparing(WORK);
    let mut memory = TableMemory::new();
    let mut exec = Box::new(AnyExecutor::best());
    let backend = Backend::best();
    let anns: Vec<Announcement> = (0..JOBS)
        .flat_map(|job| memory.mine(MINED_BITS, job, &mut *exec, backend, BATCH / JOBS as usize))
        .collect();
    checks(bench, WORK, &anns, false)
}

pub(super) fn of_other_jobs(bench: &mut Bench<'_>) -> Result<Vec<Outcome>, BenchError> {
    const WORK: &str = "announcement checks, each of another job";
    bench.preparing(WORK);
    // Nothing is left from one batch to the next: every program has to be generated.
    checks(bench, WORK, data::of_other_jobs(), true)
}

fn checks(
    bench: &mut Bench<'_>,
    work: &'static str,
    anns: &[Announcement],
    forget: bool,
) -> Result<Vec<Outcome>, BenchError> {
    let (options, sodium) = (bench.options, bench.sodium);
    let parent = request(0).parent_block_hash;
    let mut bad = *anns[0].to_bytes();
    bad[1000] ^= 1;
    let bad = *Announcement::from_bytes(&bad);
    let mut batch: Vec<_> = anns.iter().map(|ann| (ann, &parent)).collect();
    let ours = |batch: &[(&Announcement, &Hash32)]| {
        let mut results = vec![Err(AnnError::Inval); batch.len()];
        let mut scratch = Box::new(BatchScratch::new());
        check_batch(batch, &mut results, &mut scratch, &mut *executor(options), options.backend);
        results
    };
    let theirs = |batch: &[(&Announcement, &Hash32)]| {
        let mut checker = Checker::new(sodium);
        batch.iter().map(|(ann, parent)| checker.check(ann, parent)).collect::<Vec<_>>()
    };
    if let Some(error) = ours(&batch).into_iter().find_map(Result::err) {
        return Err(wrong(options, work, format!("a good announcement is refused: {error}")));
    }
    batch[1].0 = &bad;
    let results = ours(&batch);
    if results[1] != Err(AnnError::InvalItem4) || results != theirs(&batch) {
        return Err(wrong(options, work, "the baseline has other results"));
    }
    batch[1].0 = &anns[1];
    let batch = &batch;
    let row = bench.measure(
        work,
        Unit::PerSecond("checks/s"),
        |_, repeat| {
            let mut results = vec![Err(AnnError::Inval); batch.len()];
            let mut scratch = Box::new(BatchScratch::new());
            let mut exec = executor(options);
            repeat(&mut || {
                if forget {
                    *scratch = BatchScratch::new();
                }
                check_batch(batch, &mut results, &mut scratch, &mut *exec, options.backend);
                batch.len() as u64
            });
        },
        |_, repeat| {
            let mut checker = Checker::new(sodium);
            let mut parts = batch.chunks(BASELINE_BATCH).cycle();
            repeat(&mut || {
                let part = parts.next().unwrap_or_default();
                for (ann, parent) in part {
                    std::hint::black_box(checker.check(ann, parent).is_ok());
                }
                part.len() as u64
            });
        },
    );
    Ok(vec![Outcome::Row(row)])
}
