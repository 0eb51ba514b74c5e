//! What is measured: the rows of the table.

mod announcements;
mod blocks;
mod checks;

use packetcrypt_jit::AnyExecutor;

use crate::{Bench, BenchError, Options, Outcome};

/// Measures some rows of the report.
pub(crate) type Measure = fn(&mut Bench<'_>) -> Result<Vec<Outcome>, BenchError>;

/// Every row.
pub(crate) const ALL: &[Measure] = &[
    announcements::nonces,
    announcements::job,
    announcements::found,
    announcements::generation,
    checks::of_few_jobs,
    checks::of_other_jobs,
    blocks::nonces_256_mib,
    blocks::nonces_8_gib,
    blocks::tree,
];

fn wrong(options: &Options, work: &'static str, what: impl Into<String>) -> BenchError {
    let Options { backend, executor, .. } = *options;
    BenchError::WrongAnswer { work, backend, executor, what: what.into() }
}

fn executor(options: &Options) -> Box<AnyExecutor> {
    Box::new(AnyExecutor::new(options.executor, options.backend))
}
