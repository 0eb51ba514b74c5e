//! `packetcrypt bench`.

use std::io::{IsTerminal, Write};

use clap::{Args, Subcommand};
use packetcrypt_bench::{BenchError, Options, Progress};

use super::bench_blk;
use super::bench_program::DumpProgram;
use crate::failure::Failure;

/// Measure what this machine can do, with checked answers
///
/// Measures what this machine can do, without network, beside the steps of the reference
/// implementation on libsodium. What is computed is compared in the same run: wrong answers end it
/// with exit code 1.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
#[command(
    after_help = "Each figure is the median of several rounds; docs/performance.md explains \
    the rows.\n\n\
    Examples:\n  packetcrypt bench --quick\n  packetcrypt bench -t 4 --json > before.json\n  \
    packetcrypt bench ann\n  packetcrypt bench blk -m 4096"
)]
pub(crate) struct Bench {
    #[command(subcommand)]
    kind: Option<Kind>,
    /// Less than a minute with one thread: fewer and shorter rounds, smaller data
    #[arg(long)]
    quick: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Threads that do the same work at the same time; rates are those of all together, and each
    /// row says how many times the rate of one thread that is
    #[arg(short, long, default_value_t = 1, value_name = "N")]
    threads: usize,
}

/// Whole parts instead of single kinds of work.
#[derive(Debug, Subcommand)]
enum Kind {
    Ann(super::bench_ann::BenchAnn),
    Blk(bench_blk::Blk),
    Ingest(bench_blk::Ingest),
    #[cfg(target_os = "linux")]
    Handler(super::bench_handler::BenchHandler),
    DumpProgram(DumpProgram),
}

impl Bench {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.kind {
            Some(Kind::Ann(ann)) => return ann.run(),
            Some(Kind::Blk(blk)) => return blk.run(),
            Some(Kind::Ingest(ingest)) => return ingest.run(),
            #[cfg(target_os = "linux")]
            Some(Kind::Handler(handler)) => return handler.run(),
            Some(Kind::DumpProgram(dump)) => return dump.run(),
            None => {}
        }
        let options = Options { quick: self.quick, threads: self.threads, ..Options::default() };
        let report = packetcrypt_bench::run(&options, &mut show).map_err(|error| match error {
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

/// Shows what is going on: on a terminal in one line that is written over, else a line a row.
fn show(progress: Progress<'_>) {
    let mut out = std::io::stderr().lock();
    let is_terminal = out.is_terminal();
    let _ = match progress {
        Progress::Preparing(work) if is_terminal => {
            write!(out, "\r\x1b[K{work}: data are made, answers compared")
                .and_then(|()| out.flush())
        }
        Progress::Round { work, round, rounds } if is_terminal => {
            write!(out, "\r\x1b[K{work}: round {round} of {rounds}").and_then(|()| out.flush())
        }
        Progress::Preparing(work) => writeln!(out, "measuring {work}"),
        Progress::Round { .. } => Ok(()),
        Progress::Row(_) | Progress::Skipped(_) if is_terminal => {
            write!(out, "\r\x1b[K").and_then(|()| out.flush())
        }
        Progress::Row(row) => writeln!(out, "{row}"),
        Progress::Skipped(row) => writeln!(out, "{row}"),
    };
}
