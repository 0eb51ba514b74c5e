//! Figures of the miner's own parts, on synthetic announcements: random bytes with headers that
//! fit together. Everything else is what mines: store, tree, job, threads, feeds.
//!
//! Answers are checked: a tree that was made of another one has the root of one made from nothing,
//! jobs pass their self test, and every announcement is in the store in the end.

mod blk;
mod ingest;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_core::params::ANNOUNCEMENT_BYTES;
use serde::Serialize;

use crate::class::SourceId;
use crate::hash::hash_each;
use crate::store::{LANDING_LEN_MAX, Landed, Numa, Store};

pub use blk::{Baseline, blk};
pub use ingest::ingest;

/// Target of the synthetic announcements.
const WORK_BITS: CompactTarget = CompactTarget(0x2000_ffff);
/// Parent height of the first ones.
const PARENT_HEIGHT: u32 = 1_000_000;
/// The block that is mined with them.
const HEIGHT: u32 = PARENT_HEIGHT + 3;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Memory for announcements, MiB.
    pub memory_mib: u32,
    /// Mining and tree threads.
    pub threads: usize,
    /// Length of a measurement of a rate.
    pub time: Duration,
    /// Announcements of the trees that are measured.
    pub tree_announcements: u32,
    /// Whether to ask for huge pages.
    pub huge_pages: bool,
    /// Where memory comes from.
    pub numa: Numa,
    /// Keep the announcements in this file and measure a restart too.
    pub file: Option<PathBuf>,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// A part can not be started.
    #[error("{0}")]
    Start(String),
    /// Something was computed wrongly, or got lost.
    #[error("wrong answer of {work}: {what}")]
    WrongAnswer {
        /// The row.
        work: &'static str,
        /// What differs.
        what: String,
    },
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was done.
    pub work: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// With what it is to be compared, in the same unit.
    pub baseline: Option<(String, f64)>,
    /// What else there is to know.
    pub note: String,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.value < 1000.0 { 2 } else { 0 };
        write!(f, "{:<52} {:>12.digits$} {}", self.work, self.value, self.unit)?;
        if let Some((what, value)) = &self.baseline {
            write!(f, "  [{what}: {value:.digits$}]")?;
        }
        if self.note.is_empty() { Ok(()) } else { write!(f, "  ({})", self.note) }
    }
}

fn row(work: impl Into<String>, value: f64, unit: &'static str) -> Row {
    Row { work: work.into(), value, unit, baseline: None, note: String::new() }
}

impl Row {
    fn beside(mut self, what: impl Into<String>, value: f64) -> Row {
        self.baseline = Some((what.into(), value));
        self
    }

    fn note(mut self, note: impl Into<String>) -> Row {
        self.note = note.into();
        self
    }
}

/// The value in the middle, and the lowest and the highest one in words.
fn median(mut values: Vec<f64>) -> (f64, String) {
    values.sort_by(f64::total_cmp);
    let (first, last) = (values.first().copied(), values.last().copied());
    let middle = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    (middle, format!("{:.2} to {:.2}", first.unwrap_or(f64::NAN), last.unwrap_or(f64::NAN)))
}

fn wrong(work: &'static str, what: impl Into<String>) -> MeasureError {
    MeasureError::WrongAnswer { work, what: what.into() }
}

fn cannot(error: impl fmt::Display) -> MeasureError {
    MeasureError::Start(error.to_string())
}

/// Numbers that are random enough to have different hashes, far faster than the memory takes them.
fn fill_with_numbers(bytes: &mut [u8], seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for word in bytes.as_chunks_mut::<8>().0 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *word = state.to_le_bytes();
    }
}

/// A synthetic announcement: only its header means something.
fn synthesize(number: u64, parent_height: u32, bytes: &mut [u8; ANNOUNCEMENT_BYTES]) {
    fill_with_numbers(bytes, number + 1);
    bytes[0] = 1;
    bytes[8..12].copy_from_slice(&WORK_BITS.0.to_le_bytes());
    bytes[12..16].copy_from_slice(&parent_height.to_le_bytes());
    // No signing key.
    bytes[56..88].fill(0);
}

/// Fills a store with synthetic announcements, hashed, by several threads.
fn fill(store: &Arc<Store>, count: u64, threads: usize) -> Result<Duration, MeasureError> {
    let started = Instant::now();
    let next = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut landing = store.landing(LANDING_LEN_MAX);
                let len = landing.len() as u64;
                loop {
                    let first = next.fetch_add(len, std::sync::atomic::Ordering::Relaxed);
                    if first >= count {
                        return;
                    }
                    let some = len.min(count - first) as usize;
                    for at in 0..some {
                        synthesize(first + at as u64, PARENT_HEIGHT, landing.at(at));
                    }
                    let bytes: Vec<_> = (0..some).map(|at| landing.announcement(at)).collect();
                    let landed: Vec<_> = hash_each(&bytes)
                        .into_iter()
                        .enumerate()
                        .map(|(at, hash)| landed(at, hash, PARENT_HEIGHT))
                        .collect();
                    landing.admit(&landed, SourceId(0), HEIGHT, store.epoch());
                }
            });
        }
    });
    let held = store.figures().held;
    if held == count {
        Ok(started.elapsed())
    } else {
        Err(wrong("fill", format!("{held} of {count}")))
    }
}

/// Fills a store with hashes alone: the announcements' memory is not touched, so it is not taken.
/// `classes` parent heights from the first one on get the same share.
fn fill_hashes(store: &Arc<Store>, count: u32, first_parent: u32, classes: u32) {
    let mut landing = store.landing(LANDING_LEN_MAX);
    let height = first_parent + classes;
    for class in 0..classes {
        let mut left = count / classes;
        let mut seed = u64::from(first_parent + class) << 32;
        while left > 0 {
            let some = left.min(landing.len() as u32);
            let landed: Vec<_> = (0..some as usize)
                .map(|at| {
                    seed += 1;
                    let mut hash = Hash32::ZERO;
                    fill_with_numbers(&mut hash.0, seed);
                    landed(at, hash, first_parent + class)
                })
                .collect();
            landing.admit(&landed, SourceId(0), height, store.epoch());
            left -= some;
        }
    }
}

fn landed(at: usize, hash: Hash32, parent_height: u32) -> Landed {
    Landed { at, hash, parent_height, work_bits: WORK_BITS }
}

/// Bytes of this process in memory, reserved huge pages too; zero where the system does not tell.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    (kib("VmRSS:").unwrap_or(0) + kib("HugetlbPages:").unwrap_or(0)) << 10
}
