//! Measurements of PacketCrypt with checked answers.
//!
//! [`run`] measures every kind of work that miners and validators pay for, on one back end and
//! executor, and gives a [`Report`]: print it as a table or serialise it. Each figure is the median
//! of several rounds. What was computed is compared with the plain code in the same run: a
//! measurement whose answers are wrong fails.
//!
//! ```no_run
//! let options = packetcrypt_bench::Options { quick: true, ..Default::default() };
//! let report = packetcrypt_bench::run(&options)?;
//! println!("{report}");
//! # Ok::<(), packetcrypt_bench::BenchError>(())
//! ```

mod measure;
mod report;
mod work;

pub use report::{Machine, Report, Row};

use packetcrypt_core::Backend;
use packetcrypt_core::randhash::Executor;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Fewer and shorter rounds, smaller data: under a minute.
    pub quick: bool,
    /// The kernels of batch calls.
    pub backend: Backend,
    /// What runs programs.
    pub executor: Executor,
    /// Threads that do the same work at the same time; rates are those of all together.
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

/// Measures all rows.
///
/// # Errors
/// [`BenchError`] when the options can not be had or an answer is wrong.
pub fn run(options: &Options) -> Result<Report, BenchError> {
    run_with(options, &mut |_| ())
}

/// As [`run`], and shows each row as soon as it is measured.
///
/// # Errors
/// As [`run`].
pub fn run_with(options: &Options, progress: &mut dyn FnMut(&Row)) -> Result<Report, BenchError> {
    if !options.backend.is_available() {
        return Err(BenchError::Backend(options.backend));
    }
    if options.threads == 0 {
        return Err(BenchError::NoThreads);
    }
    let mut rows = Vec::new();
    for work in work::ALL {
        let row = work(options)?;
        progress(&row);
        rows.push(row);
    }
    Ok(Report {
        machine: Machine::this(),
        backend: options.backend.name(),
        executor: options.executor.name(),
        threads: options.threads,
        quick: options.quick,
        rows,
    })
}
