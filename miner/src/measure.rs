//! Figures of mining as it is done, without a pool: jobs are made and searched by the threads of the
//! miner, and what they find is checked.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use packetcrypt_core::announcement::{CheckScratch, Request, check};
use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_core::difficulty;
use packetcrypt_net::hw;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::config::TableSharing;
use crate::stats::{MiningCounters, Stats};
use crate::threads::{self, Threads};
use crate::worker::Found;
use crate::{Config, StartError};

/// Announcements between the threads and the check at the most.
const FOUND_LEN_MAX: usize = 4096;
/// One in so many announcements is checked: a check costs the threads' processors time.
const CHECK_EVERY: u64 = 64;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads, processors, engines; pools and address do not matter.
    pub config: Config,
    /// Target of the announcements.
    pub work_bits: CompactTarget,
    /// Length of a round.
    pub time: Duration,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The threads do not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// An announcement was found that is none.
    #[error("wrong answer: an announcement of hard nonce {hard_nonce} is refused: {cause}")]
    WrongAnswer {
        /// Its job.
        hard_nonce: u32,
        /// What the check says.
        cause: String,
    },
    /// There was nothing to check.
    #[error("wrong answer: nothing was found with {nonces} nonces, {expected:.0} were expected")]
    NothingFound {
        /// Nonces tried.
        nonces: u64,
        /// Announcements that they should have given.
        expected: f64,
    },
    /// A thread ended by a panic: a fault of the program.
    #[error("{0} mining threads ended by a panic")]
    Panicked(usize),
}

/// The figures of one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Round {
    /// Whose tables were searched.
    pub table: TableSharing,
    /// Mining threads.
    pub threads: usize,
    /// Announcements a second that can be expected of the nonces that were tried, so that luck is no
    /// speed.
    pub announcements_per_s: f64,
    /// The same for a second of CPU time of the mining threads; `None` where the system does not
    /// tell.
    pub announcements_per_cpu_s: Option<f64>,
    /// Nonces a second.
    pub nonces_per_s: f64,
    /// Pairs of tables a second.
    pub jobs_per_s: f64,
    /// Announcements that were checked.
    pub checked: u64,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = format!("{} threads, tables {}", self.threads, self.table);
        write!(f, "{tables:<28} {:>9.0} announcements/s", self.announcements_per_s)?;
        if let Some(rate) = self.announcements_per_cpu_s {
            write!(f, " {rate:>9.0} /cpu-s")?;
        }
        write!(f, "  ({:.0} nonces/s, {:.1} jobs/s)", self.nonces_per_s, self.jobs_per_s)
    }
}

/// Mines for a while on a made-up block, after every thread has searched.
///
/// # Errors
/// [`MeasureError`].
pub fn measure(options: &Options, table: TableSharing) -> Result<Round, MeasureError> {
    let config = Config { table, ..options.config.clone() };
    let counters = Arc::new(MiningCounters::default());
    let (sender, found) = mpsc::channel(FOUND_LEN_MAX);
    let mining = Threads::start(&config, Arc::clone(&counters), sender)?;
    let request = request(options.work_bits);
    let checking = std::thread::spawn(move || check_found(found, &request));
    let threads = mining.handles.len();
    mining.board.set(Some(request));
    let stats = || {
        let mut stats = Stats::default();
        counters.fill(&mut stats);
        stats
    };
    while stats().nonces == 0 || stats().tables < threads as u64 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let (before, cpu_before, began) = (stats(), hw::threads_cpu_time(&["ann-"]), Instant::now());
    std::thread::sleep(options.time);
    let (after, cpu_after, took) =
        (stats(), hw::threads_cpu_time(&["ann-"]), began.elapsed().as_secs_f64());
    mining.board.stop();
    let panicked = threads::join(mining.handles);
    let checked = checking.join().map_err(|_| MeasureError::Panicked(1))??;
    if panicked > 0 {
        return Err(MeasureError::Panicked(panicked));
    }
    let nonces = after.nonces - before.nonces;
    let expected = nonces as f64 / work_of(options.work_bits);
    if checked == 0 && expected > 10.0 * CHECK_EVERY as f64 {
        return Err(MeasureError::NothingFound { nonces, expected });
    }
    let cpu = cpu_after.saturating_sub(cpu_before).as_secs_f64();
    Ok(Round {
        table,
        threads,
        announcements_per_s: expected / took,
        announcements_per_cpu_s: (cpu > 0.0).then_some(expected / cpu),
        nonces_per_s: nonces as f64 / took,
        jobs_per_s: (after.tables - before.tables) as f64 / took,
        checked,
    })
}

/// Hashes that are expected for an announcement.
fn work_of(work_bits: CompactTarget) -> f64 {
    let target = difficulty::target(work_bits);
    target.map_or(1.0, |target| difficulty::work_for_target(&target).saturating_u64() as f64)
}

fn request(work_bits: CompactTarget) -> Request {
    Request {
        version: 1,
        work_bits,
        parent_block_height: 1_000_000,
        parent_block_hash: Hash32([0x5a; 32]),
        content_type: 0,
        content_length: 0,
        content_hash: [0; 32],
        signing_key: [0; 32],
    }
}

/// Checks the first of what is found and then one in some, and returns how many that were.
fn check_found(mut found: mpsc::Receiver<Found>, request: &Request) -> Result<u64, MeasureError> {
    let mut scratch = CheckScratch::new();
    let (mut number, mut checked) = (0_u64, 0);
    let mut outcome = Ok(());
    while let Some(announcement) = found.blocking_recv() {
        // What comes after a bad one is taken out as well: the threads wait for room.
        if number.is_multiple_of(CHECK_EVERY) && outcome.is_ok() {
            outcome = check(&announcement, &request.parent_block_hash, &mut scratch)
                .map(|_| ())
                .map_err(|cause| MeasureError::WrongAnswer {
                    hard_nonce: announcement.hard_nonce(),
                    cause: cause.to_string(),
                });
            checked += 1;
        }
        number += 1;
    }
    outcome.map(|()| checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_tables_are_measured_and_their_answers_checked() {
        let options = |ms| Options {
            config: Config { threads: 2, ..Config::default() },
            work_bits: CompactTarget(0x200f_ffff),
            time: Duration::from_millis(ms),
        };
        for table in [TableSharing::Own, TableSharing::Shared] {
            // Longer where the machine has no time for it.
            let rounds = (0..8).map(|tried| measure(&options(300 << tried), table).unwrap());
            let mut rounds = rounds.skip_while(|of| of.checked == 0 || of.nonces_per_s == 0.0);
            let round = rounds.next().expect("one that found something");
            assert_eq!((round.table, round.threads), (table, 2));
            assert!(round.announcements_per_s > 0.0, "{round:?}");
            assert!(round.to_string().starts_with(&format!("2 threads, tables {table}")));
        }
    }
}
