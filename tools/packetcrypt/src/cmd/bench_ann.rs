//! `packetcrypt bench ann`: the announcement miner without a pool.

use std::time::Duration;

use clap::Args;
use packetcrypt_core::Backend;
use packetcrypt_core::CompactTarget;
use packetcrypt_jit::AnyExecutor;
use packetcrypt_miner::measure::{self, MeasureError, Options, Round};
use packetcrypt_miner::{Config, TableSharing};
use packetcrypt_net::hw;

use crate::failure::Failure;

/// The announcement miner: jobs made and searched by its threads
///
/// Measures the announcement miner: its threads make jobs and search them, without a network.
/// Own and shared tables take turns; what is found is checked.
#[derive(Args, Debug)]
#[command(after_help = "Announcements a second are those that can be expected of the nonces \
    tried, so that luck is no speed; the\nreference's steps beside ours: `packetcrypt bench`.\n\n\
    Examples:\n  packetcrypt bench ann -t 2\n  packetcrypt bench ann --table shared --cpus 0-7")]
pub(crate) struct BenchAnn {
    /// Mining threads [default: one for each processor]
    #[arg(short, long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    threads: usize,
    /// Processors to pin the threads to, e.g. 0-3,8 [default: one each, if there are as
    /// many threads as processors]
    #[arg(long, default_value = "", hide_default_value = true, value_name = "LIST")]
    cpus: String,
    /// Measure only these tables: own, shared or auto [default: own and shared]
    #[arg(long, value_name = "WHOSE")]
    table: Option<TableSharing>,
    /// Target of the announcements, a compact target in hex
    #[arg(long, default_value = "20020000", value_name = "HEX", value_parser = target)]
    target: CompactTarget,
    /// Length of a round, seconds
    #[arg(long, default_value_t = 4, value_name = "SECONDS")]
    time: u64,
    /// Rounds of each kind; the medians are printed last
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// No effect: taken since the reference has the same options for `ann` and `blk`. The tables take
    /// 10 MiB each
    #[arg(short, long = "memorysizemb", value_name = "MIB")]
    memory_mib: Option<u32>,
    /// Print one JSON object a round
    #[arg(long)]
    json: bool,
}

impl BenchAnn {
    pub(super) fn run(self) -> Result<(), Failure> {
        let options = Options {
            config: Config { threads: self.threads, cpus: self.cpus.clone(), ..Config::default() },
            work_bits: self.target,
            time: Duration::from_secs(self.time.max(1)),
        };
        let kinds = match self.table {
            Some(table) => vec![table],
            None => vec![TableSharing::Own, TableSharing::Shared],
        };
        if let Some(memory) = self.memory_mib {
            tracing::info!("-m {memory} has no effect: the tables take 10 MiB each");
        }
        if !self.json {
            println!("{}", hw::topology_line());
            let (backend, executor) = (Backend::best(), AnyExecutor::best().executor());
            println!("back end {backend}, executor {executor}, target {}", self.target);
        }
        let mut of_kinds = vec![Vec::new(); kinds.len()];
        for _ in 0..self.rounds.max(1) {
            for (table, rounds) in kinds.iter().zip(&mut of_kinds) {
                let round = measure::measure(&options, *table).map_err(failure)?;
                self.show(&round)?;
                rounds.push(round);
            }
        }
        if !self.json {
            for rounds in &mut of_kinds {
                println!("median  {}", median(rounds));
            }
        }
        Ok(())
    }

    fn show(&self, round: &Round) -> Result<(), Failure> {
        if self.json {
            println!("{}", serde_json::to_string(round).map_err(Failure::failed)?);
        } else {
            println!("        {round}");
        }
        Ok(())
    }
}

/// The round in the middle.
fn median(rounds: &mut [Round]) -> Round {
    rounds.sort_by(|a, b| a.announcements_per_s.total_cmp(&b.announcements_per_s));
    rounds[rounds.len() / 2]
}

fn target(text: &str) -> Result<CompactTarget, String> {
    let word = u32::from_str_radix(text.trim_start_matches("0x"), 16);
    let target = CompactTarget(word.map_err(|error| error.to_string())?);
    let is_good = target.is_well_formed();
    is_good.then_some(target).ok_or_else(|| format!("{target} is no well-formed compact target"))
}

fn failure(error: MeasureError) -> Failure {
    match error {
        MeasureError::Start(_) => Failure::usage(error),
        _ => Failure::failed(error),
    }
}
