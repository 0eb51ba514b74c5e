//! `packetcrypt bench handler`.

use std::path::PathBuf;

use clap::Args;
use packetcrypt_bench::handler::{Group, HandlerBenchError, HandlerOptions, run_handler};
use packetcrypt_net::engine::EngineKind;

use crate::failure::Failure;

/// An announcement handler beside loops that only move and hash bytes
///
/// Measures an announcement handler on one core, with a load generator on another, beside loops
/// that only move and hash bytes. Every accepted announcement is looked for in the files and every
/// reply in the pay log: wrong answers end it with exit code 1.
#[derive(Args, Debug)]
#[command(after_help = "Rates are per second of processor time of the serving side.\n\n\
    Examples:\n  packetcrypt bench handler --quick\n  packetcrypt bench handler --engine epoll --json")]
pub(crate) struct BenchHandler {
    /// Fewer posts and rounds
    #[arg(long)]
    quick: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// What the handler receives and sends with: auto, uring, glommio or epoll
    #[arg(long, value_name = "ENGINE", default_value_t = EngineKind::Auto)]
    engine: EngineKind,
    /// Where its files lie while it is measured [default: memory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Measure only these, separated by commas: validated, unvalidated (with downloads and small
    /// requests), slow, sprayer
    #[arg(long, value_name = "ROWS", value_delimiter = ',')]
    only: Vec<Group>,
}

impl BenchHandler {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { quick, engine, dir, only, json } = self;
        let options = HandlerOptions { quick, engine, dir, only };
        let report = run_handler(&options, &mut |row| {
            if !json {
                eprintln!("{row}");
            }
        });
        let report = report.map_err(|error| match error {
            HandlerBenchError::OneCpu(_) => Failure::usage(error),
            _ => Failure::failed(error),
        })?;
        if json {
            println!("{}", serde_json::to_string_pretty(&report).map_err(Failure::failed)?);
        } else {
            print!("{report}");
        }
        Ok(())
    }
}
