//! `packetcrypt devnet`: a whole pool on loopback.

use std::path::PathBuf;

use clap::Args;
use packetcrypt_devnet::Config;
use packetcrypt_devnet::StartError;
use packetcrypt_devnet::run::{RunError, Show, run};
use packetcrypt_node::NodeError;

use crate::failure::Failure;
use crate::role;

/// Run a whole pool on this machine, on loopback, with a summary that checks itself
///
/// Runs a whole pool in this process, on loopback: a chain node with an easy chain, master,
/// announcement handlers, block handler, paymaker, announcement miner and block miner. Ends with a
/// summary that checks itself; the exit code says whether everything holds.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  packetcrypt devnet --blocks 10\n  \
    packetcrypt devnet --duration 60 --json > summary.json\n  \
    packetcrypt devnet --node http://user:password@127.0.0.1:64513")]
pub(crate) struct Devnet {
    /// End after this many blocks; without it and --duration: at Ctrl-C
    #[arg(long, value_name = "N")]
    blocks: Option<u32>,
    /// End after this many seconds
    #[arg(long, value_name = "SECONDS")]
    duration: Option<u64>,
    /// Where everything invented comes from: history, mempool, addresses
    #[arg(long, default_value_t = Config::default().seed, value_name = "N")]
    seed: u64,
    /// Work of an announcement: hashes that are expected for one
    #[arg(long, default_value_t = Config::default().ann_work, value_name = "HASHES")]
    ann_work: f64,
    /// Wanted time between blocks, milliseconds
    #[arg(long, default_value_t = Config::default().block_time_ms, value_name = "MS")]
    block_time: u64,
    /// Directory of all roles, kept [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Use a real node instead of the embedded one; blocks and payouts are then not checked again
    #[arg(long, value_name = "http://USER:PASSWORD@HOST:PORT", env = "PACKETCRYPT_DEVNET_NODE")]
    #[arg(hide_env_values = true)]
    node: Option<String>,
    /// Take the node of --node although it has peers or a high difficulty, so that it may be one of
    /// the main network: blocks then pay invented addresses, of which nobody has the key
    #[arg(long, requires = "node")]
    yes_real_network: bool,
    /// Announcement handlers
    #[arg(long, default_value_t = Config::default().handlers, value_name = "N")]
    handlers: usize,
    /// Announcement mining threads
    #[arg(long, default_value_t = Config::default().ann_threads, value_name = "N")]
    ann_threads: usize,
    /// Block mining threads
    #[arg(long, default_value_t = Config::default().block_threads, value_name = "N")]
    block_threads: usize,
    /// Memory of the block miner, MiB
    #[arg(short, long, default_value_t = Config::default().memory_mib, value_name = "MIB")]
    memory: u32,
    /// Print the summary as one JSON object and nothing while running
    #[arg(long)]
    json: bool,
}

impl Devnet {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = Config {
            blocks: self.blocks,
            duration_s: self.duration,
            seed: self.seed,
            ann_work: self.ann_work,
            block_time_ms: self.block_time,
            data_dir: self.data_dir,
            node_url: self.node,
            any_network: self.yes_real_network,
            handlers: self.handlers,
            ann_threads: self.ann_threads,
            block_threads: self.block_threads,
            memory_mib: self.memory,
        };
        config.validate().map_err(Failure::usage)?;
        let show = if self.json { Show::Nothing } else { Show::Automatic };
        role::run(async |shutdown| {
            let summary = match run(config, show, shutdown).await {
                Ok(summary) => summary,
                Err(stopped @ RunError::Stopped) => {
                    eprintln!("packetcrypt: {stopped}");
                    return Ok(());
                }
                Err(RunError::Start(
                    error @ (StartError::SharedNetwork(_)
                    | StartError::Node(NodeError::Config { .. })),
                )) => return Err(Failure::usage(error)),
                Err(error) => return Err(Failure::failed(error)),
            };
            if self.json {
                println!("{}", serde_json::to_string_pretty(&summary).map_err(Failure::failed)?);
            } else {
                println!("{summary}");
            }
            if summary.holds() { Ok(()) } else { Err(Failure::Invalid) }
        })
    }
}
