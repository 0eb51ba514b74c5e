//! Measurements of PacketCrypt with checked answers.
//!
//! [`run`] measures every kind of work that miners and validators pay for, on one back end and
//! executor, beside the steps of the reference implementation on libsodium
//! (`packetcrypt-bench-baseline`), and gives a [`Report`]: print it as a table or serialise it. Both
//! sides take turns within one run, each figure is the median of several rounds, and a measurement
//! whose answers differ from those of the other side fails. `docs/performance.md` explains the
//! rows.
//!
//! ```no_run
//! let options = packetcrypt_bench::Options { quick: true, ..Default::default() };
//! let report = packetcrypt_bench::run(&options, &mut |_| ())?;
//! println!("{report}");
//! # Ok::<(), packetcrypt_bench::BenchError>(())
//! ```

mod data;
#[cfg(target_os = "linux")]
pub mod handler;
mod measure;
mod report;
mod rows;
mod scaling;

#[doc(hidden)]
pub use data::announcements_of_jobs;
pub use report::{Figure, Machine, Report, Row, Skipped};

use packetcrypt_bench_baseline::{Kernels, Libsodium};
use packetcrypt_core::Backend;
use packetcrypt_jit::Executor;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Fewer and shorter rounds, smaller data: under a minute.
    pub quick: bool,
    /// The kernels of batch calls.
    pub backend: Backend,
    /// What runs programs.
    pub executor: Executor,
    /// Threads that do the same work at the same time; rates are those of all together. With more
    /// than one, each row also says how many times the rate of one thread that is.
    pub threads: usize,
}

impl Default for Options {
    /// The fastest of this machine, full length, one thread.
    fn default() -> Options {
        Options { quick: false, backend: Backend::best(), executor: Executor::best(), threads: 1 }
    }
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The CPU lacks the back end, or there are no kernels for it.
    #[error("the back end {0} is not available on this machine")]
    Backend(Backend),
    /// No threads were asked for.
    #[error("0 threads were asked for, at least 1 is needed")]
    NoThreads,
    /// Something was computed wrongly.
    #[error("wrong answer of {work} with {backend}, {executor}: {what}")]
    WrongAnswer {
        /// The row.
        work: &'static str,
        /// The back end that was measured.
        backend: Backend,
        /// The executor that was measured.
        executor: Executor,
        /// What differs.
        what: String,
    },
}

/// What happens while a report is made: it takes a while.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// The data of a row are made.
    Preparing(&'static str),
    /// A round of a row begins.
    Round {
        /// The row.
        work: &'static str,
        /// Number of the round, from 1.
        round: usize,
        /// Rounds in all.
        rounds: usize,
    },
    /// A row is done.
    Row(&'a Row),
    /// A row could not be measured.
    Skipped(&'a Skipped),
}

/// What every row is given.
pub(crate) struct Bench<'a> {
    options: &'a Options,
    sodium: &'a Libsodium,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

/// A row, or why it was left out.
pub(crate) enum Outcome {
    Row(Row),
    Skipped(Skipped),
}

/// Measures all rows.
///
/// # Errors
/// [`BenchError`] when the options can not be had or an answer is wrong.
pub fn run(
    options: &Options,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report, BenchError> {
    if !options.backend.is_available() {
        return Err(BenchError::Backend(options.backend));
    }
    if options.threads == 0 {
        return Err(BenchError::NoThreads);
    }
    // The soft back end is what runs where there are no kernels: compared with what libsodium has
    // there.
    let is_soft = options.backend == Backend::Soft;
    let sodium = Libsodium::start(if is_soft { Kernels::Portable } else { Kernels::Fastest });
    let mut bench = Bench { options, sodium: &sodium, progress };
    let (mut done, mut skipped) = (Vec::new(), Vec::new());
    for measure in rows::ALL {
        for outcome in measure(&mut bench)? {
            match outcome {
                Outcome::Row(row) => {
                    (bench.progress)(Progress::Row(&row));
                    done.push(row);
                }
                Outcome::Skipped(row) => {
                    (bench.progress)(Progress::Skipped(&row));
                    skipped.push(row);
                }
            }
        }
    }
    Ok(Report {
        machine: Machine::this(),
        backend: options.backend.name(),
        executor: options.executor.name(),
        threads: options.threads,
        baseline: sodium.name(),
        quick: options.quick,
        rows: done,
        skipped,
    })
}
