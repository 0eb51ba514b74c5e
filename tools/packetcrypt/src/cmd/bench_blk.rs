//! `packetcrypt bench blk` and `packetcrypt bench ingest`: the block miner's own parts.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use packetcrypt_bench_baseline::{Kernels, Libsodium, Nonces};
use packetcrypt_blockminer::measure::{self, Baseline, MeasureError, Options, Row};
use packetcrypt_blockminer::store::Numa;
use packetcrypt_core::{CompactTarget, Hash32};
use packetcrypt_net::hw;
use tokio::runtime::Runtime;

use crate::failure::Failure;

/// The block miner: trees, nonces, change of the job, restart
///
/// Measures the block miner on synthetic announcements: trees, memory, nonces, change of the job,
/// restart. What is computed is checked.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  packetcrypt bench blk -m 4096 -t 2\n  \
    packetcrypt bench blk -m 11264 --file /dev/shm/arena")]
pub(crate) struct Blk {
    /// Memory for announcements, MiB
    #[arg(short, long = "memorysizemb", default_value_t = 1024, value_name = "MIB")]
    memory_mib: u32,
    /// Mining and tree threads [default: one for each processor]
    #[arg(short, long, value_name = "N")]
    threads: Option<usize>,
    /// Announcements of the trees that are measured; they take 320 bytes each for that time
    #[arg(long, default_value_t = 10_000_000, value_name = "N")]
    tree: u32,
    /// Keep the announcements in this file, and measure a restart too; what is in it is lost
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Do not ask for huge pages
    #[arg(long)]
    small_pages: bool,
    /// Memory on several nodes: interleave or replicate
    #[arg(long, value_name = "HOW", value_parser = numa)]
    numa: Option<Numa>,
    /// Time for measuring nonces, seconds
    #[arg(long, default_value_t = 4, value_name = "SECONDS")]
    time: u64,
    /// Print one JSON object a row
    #[arg(long)]
    json: bool,
}

/// Announcements into the block miner, by HTTP and by UDP
///
/// Measures how fast announcements come into the block miner's slots: by HTTP from a local server,
/// and by UDP from a local sprayer. Every announcement is hashed and in the index in the end.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  packetcrypt bench ingest -m 4096")]
pub(crate) struct Ingest {
    /// Memory for announcements, MiB; the data that is sent takes as much again
    #[arg(short, long = "memorysizemb", default_value_t = 1024, value_name = "MIB")]
    memory_mib: u32,
    /// Print one JSON object a row
    #[arg(long)]
    json: bool,
}

impl Blk {
    pub(super) fn run(self) -> Result<(), Failure> {
        let options = Options {
            memory_mib: self.memory_mib,
            threads: self.threads.unwrap_or_else(hw::available_cores).max(1),
            time: Duration::from_secs(self.time.max(1)),
            tree_announcements: self.tree.max(1000),
            huge_pages: !self.small_pages,
            numa: self.numa.unwrap_or_default(),
            file: self.file,
        };
        if let Some(file) = &options.file {
            // A file of an earlier run would be mined with, and the figures would be others.
            match std::fs::remove_file(file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Failure::failed(format!("{}: {error}", file.display())));
                }
                _ => {}
            }
        }
        head(self.json);
        let sodium = Libsodium::start(Kernels::Fastest);
        let announcements = baseline_announcements();
        let name = format!("{}, {} threads", sodium.name(), options.threads);
        let nonces = |time| baseline_nonces(&sodium, &announcements, options.threads, time);
        let baseline = Baseline { name, nonces: &nonces };
        measure::blk(&options, &baseline, &mut show(self.json)).map_err(failure)
    }
}

impl Ingest {
    pub(super) fn run(self) -> Result<(), Failure> {
        let options = Options {
            memory_mib: self.memory_mib,
            threads: 1,
            time: Duration::from_secs(1),
            tree_announcements: 1000,
            huge_pages: true,
            numa: Numa::Default,
            file: None,
        };
        head(self.json);
        let runtime = Runtime::new().map_err(Failure::failed)?;
        runtime.block_on(measure::ingest(&options, &mut show(self.json))).map_err(failure)
    }
}

/// Announcements for the baseline's nonces: far more than any cache holds, few enough to be made in
/// no time.
const BASELINE_ANNOUNCEMENTS: usize = 256 << 10;
/// A target that nothing meets.
const HARDEST: CompactTarget = CompactTarget(0x0300_0001);

fn baseline_announcements() -> Vec<[u8; 1024]> {
    let mut announcements = vec![[0; 1024]; BASELINE_ANNOUNCEMENTS];
    for (number, announcement) in announcements.iter_mut().enumerate() {
        announcement[512..520].copy_from_slice(&(number as u64).to_le_bytes());
    }
    announcements
}

/// Nonces a second of the reference's steps on libsodium, all threads together.
fn baseline_nonces(
    sodium: &Libsodium,
    announcements: &[[u8; 1024]],
    threads: usize,
    time: Duration,
) -> f64 {
    let one = move |number: usize| {
        let mut header = [7; 32];
        header[..8].copy_from_slice(&(number as u64).to_le_bytes());
        let mut nonces = Nonces::new(sodium, &Hash32(header), announcements);
        let (started, mut tried) = (Instant::now(), 0_u32);
        while started.elapsed() < time {
            nonces.search(tried, 32, HARDEST, &mut |_, _| ());
            tried += 32;
        }
        f64::from(tried) / started.elapsed().as_secs_f64()
    };
    let rates: Vec<f64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|number| scope.spawn(move || one(number))).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
    });
    rates.iter().sum()
}

fn head(json: bool) {
    if !json {
        println!("{}", hw::topology_line());
    }
}

fn show(json: bool) -> impl FnMut(Row) {
    move |row| match serde_json::to_string(&row) {
        Ok(text) if json => println!("{text}"),
        _ => println!("{row}"),
    }
}

fn failure(error: MeasureError) -> Failure {
    Failure::failed(error)
}

fn numa(name: &str) -> Result<Numa, String> {
    match name {
        "default" => Ok(Numa::Default),
        "interleave" => Ok(Numa::Interleave),
        "replicate" => Ok(Numa::Replicate),
        other => Err(format!("{other} is none of default, interleave, replicate")),
    }
}
