//! `packetcrypt bench`.

use clap::Args;
use packetcrypt_bench::{BenchError, Options};
use packetcrypt_core::Backend;
use packetcrypt_core::randhash::Executor;

use crate::failure::Failure;

/// Measures what this machine can do, without network. What is computed is compared with the plain
/// code in the same run: wrong answers end it with exit code 1.
#[derive(Args, Debug)]
#[command(after_help = "Each figure is the median of several rounds.\n\n\
    Examples:\n  packetcrypt bench --quick\n  packetcrypt bench -t 4 --json > before.json")]
pub(crate) struct Bench {
    /// Less than a minute: fewer and shorter rounds, smaller data
    #[arg(long)]
    quick: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Threads that do the same work at the same time; rates are those of all together
    #[arg(short, long, default_value_t = 1, value_name = "N")]
    threads: usize,
    /// Kernels of batch calls: soft, avx2, avx512 or neon [default: the best of this machine]
    #[arg(long, value_name = "NAME")]
    backend: Option<Backend>,
    /// What runs the random programs; a wrong name lists the right ones [default: the best]
    #[arg(long, value_name = "NAME")]
    executor: Option<Executor>,
}

impl Bench {
    pub(super) fn run(self) -> Result<(), Failure> {
        let best = Options::default();
        let options = Options {
            quick: self.quick,
            backend: self.backend.unwrap_or(best.backend),
            executor: self.executor.unwrap_or(best.executor),
            threads: self.threads,
        };
        let report = packetcrypt_bench::run_with(&options, &mut |row| {
            if !self.json {
                eprintln!("{row}");
            }
        });
        let report = report.map_err(|error| match error {
            BenchError::WrongAnswer { .. } => Failure::failed(error),
            BenchError::Backend(_) | BenchError::NoThreads => Failure::usage(error),
        })?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report).map_err(Failure::failed)?);
        } else {
            print!("{report}");
        }
        Ok(())
    }
}
