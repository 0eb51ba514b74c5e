//! Block nonces, and the tree of a block.

use std::fs;
use std::hint::black_box;
use std::thread;

use packetcrypt_bench_baseline::{Nonces, tree_root};
use packetcrypt_core::block::header::BlockHeader;
use packetcrypt_core::block::search::HeaderSearch;
use packetcrypt_core::block::{CompactTree, compact_tree, tree};
use packetcrypt_core::primitives::compress32;
use packetcrypt_core::primitives::x25519::{FixedBaseTable, TableEntry};
use packetcrypt_core::{CompactTarget, Hash32};

use super::wrong;
use crate::data::{self, Memory};
use crate::measure::Unit;
use crate::{Bench, BenchError, Outcome, Skipped};

/// A target that no nonce of a measurement meets.
const HARDEST: CompactTarget = CompactTarget(0x0300_0001);
/// A target of answers that are compared: one nonce in 8 does.
const EASY: CompactTarget = CompactTarget(0x201f_ffff);
/// Nonces between two looks at the clock.
const NONCES: u32 = 256;

pub(super) fn nonces_256_mib(bench: &mut Bench<'_>) -> Result<Vec<Outcome>, BenchError> {
    nonces(bench, "block nonces, 256 MiB of announcements", 256 << 20)
}

pub(super) fn nonces_8_gib(bench: &mut Bench<'_>) -> Result<Vec<Outcome>, BenchError> {
    nonces(bench, "block nonces, 8 GiB of announcements", 8 << 30)
}

fn nonces(
    bench: &mut Bench<'_>,
    work: &'static str,
    bytes: usize,
) -> Result<Vec<Outcome>, BenchError> {
    let (options, sodium) = (bench.options, bench.sodium);
    bench.preparing(work);
    let mut memory = match memory_of(bytes) {
        Ok(memory) => memory,
        Err(reason) => return Ok(vec![Outcome::Skipped(Skipped { work, reason })]),
    };
    number_all(memory.rows());
    let anns: &[[u8; 1024]] = memory.rows();
    let count = anns.len() as u64;
    let of = |number: u64| &anns[number as usize];
    let header = BlockHeader([7; 80]);
    let bits = FixedBaseTable::WINDOW_BITS;
    let len = FixedBaseTable::entries_len(bits).expect("windows of a table");
    let mut entries = vec![TableEntry::ZERO; len];
    let table = FixedBaseTable::build(bits, &mut entries).expect("memory of a table");

    let mut theirs = Vec::new();
    Nonces::new(sodium, &header.hash(), anns).search(0, NONCES, EASY, &mut |nonce, hash| {
        theirs.push((nonce, hash));
    });
    let mut search = Box::new(HeaderSearch::new(&header, options.backend));
    search.set_table(&table);
    let mut ours = Vec::new();
    let mut first = 0;
    while let Some(found) = search.search(first, NONCES - first, EASY, count, of) {
        ours.push((found.low_nonce, found.work_hash));
        first = found.low_nonce + 1;
    }
    if ours.is_empty() || ours != theirs {
        return Err(wrong(options, work, "the baseline finds other solutions"));
    }
    let row = bench.measure(
        work,
        Unit::PerSecond("nonces/s"),
        |thread, repeat| {
            let header = header.with_nonce(thread as u32);
            let mut search = Box::new(HeaderSearch::new(&header, options.backend));
            search.set_table(&table);
            let mut first = 0u32;
            repeat(&mut || {
                black_box(search.search(first, NONCES, HARDEST, count, of));
                first = first.wrapping_add(NONCES);
                u64::from(NONCES)
            });
        },
        |thread, repeat| {
            let header = header.with_nonce(thread as u32);
            let mut search = Nonces::new(sodium, &header.hash(), anns);
            let mut first = 0u32;
            repeat(&mut || {
                search.search(first, NONCES, HARDEST, &mut |nonce, _| {
                    black_box(nonce);
                });
                first = first.wrapping_add(NONCES);
                u64::from(NONCES)
            });
        },
    );
    Ok(vec![Outcome::Row(row)])
}

/// Writes its number into each announcement, so that no two are alike. Every page is touched, for
/// the first time: all CPUs do a part, as the system takes seconds to clear many GiB.
fn number_all(anns: &mut [[u8; 1024]]) {
    let part_len = anns.len().div_ceil(thread::available_parallelism().map_or(1, usize::from));
    thread::scope(|scope| {
        for (first, part) in (0u64..).step_by(part_len).zip(anns.chunks_mut(part_len)) {
            scope.spawn(move || {
                for (number, ann) in (first..).zip(part) {
                    ann[512..520].copy_from_slice(&number.to_le_bytes());
                }
            });
        }
    });
}

/// Memory, if there is so much that this machine does not notice.
fn memory_of(bytes: usize) -> Result<Memory, String> {
    const SPARE_BYTES: u64 = 1 << 30;
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = info
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    match available {
        Some(kib) if kib * 1024 < bytes as u64 + SPARE_BYTES => Err(format!(
            "{} MiB of memory are available, {} are needed",
            kib / 1024,
            (bytes as u64 + SPARE_BYTES) >> 20
        )),
        _ => Memory::new(bytes).map_err(|error| error.to_string()),
    }
}

pub(super) fn tree(bench: &mut Bench<'_>) -> Result<Vec<Outcome>, BenchError> {
    let (work, count) = if bench.options.quick {
        ("index and tree of 10^6 announcements", 1_000_000u64)
    } else {
        ("index and tree of 10^7 announcements", 10_000_000)
    };
    let (options, sodium) = (bench.options, bench.sodium);
    bench.preparing(work);
    let fresh: Vec<Hash32> = (0..count).map(|number| compress32(&data::seed(5, number))).collect();
    let ours = |hashes: &mut [Hash32], above: &mut [Hash32]| {
        let kept = tree::odd_count(tree::index(hashes) as u64);
        let len = compact_tree::hashes_len(kept).expect("a small tree");
        let above = &mut above[..len];
        let hash_of = |number: u64| hashes[number as usize];
        for part in compact_tree::parts(kept, above, 1).expect("memory of a tree") {
            part.fill(hash_of, options.backend).expect("sorted hashes");
        }
        let tree = CompactTree::finish(kept, above, hash_of, options.backend);
        tree.expect("memory of a tree").root()
    };
    let len = compact_tree::hashes_len(count).expect("a small tree");
    let (mut above, mut layer) = (vec![Hash32::ZERO; len], Vec::new());
    if ours(&mut fresh.clone(), &mut above) != tree_root(sodium, &mut fresh.clone(), &mut layer) {
        return Err(wrong(options, work, "the baseline has another root"));
    }
    let row = bench.measure(
        work,
        Unit::Milliseconds,
        |_, repeat| {
            let (mut hashes, mut above) = (fresh.clone(), vec![Hash32::ZERO; len]);
            repeat(&mut || {
                hashes.copy_from_slice(&fresh);
                black_box(ours(&mut hashes, &mut above));
                1
            });
        },
        |_, repeat| {
            let (mut hashes, mut layer) = (fresh.clone(), Vec::with_capacity(fresh.len() + 2));
            repeat(&mut || {
                hashes.clone_from(&fresh);
                black_box(tree_root(sodium, &mut hashes, &mut layer));
                1
            });
        },
    );
    Ok(vec![Outcome::Row(row)])
}
