//! The commands, one file each.

mod ah;
mod ann;
mod bench;
mod bench_ann;
mod bench_blk;
#[cfg(target_os = "linux")]
mod bench_handler;
mod bench_program;
mod bh;
mod blk;
mod check;
mod devnet;
mod master;
mod node_settings;
mod paymaker;
mod solo;
mod sprayer;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::engines::Engines;
use crate::failure::Failure;

/// What to do. What `help` says of a command stands at its type: a line, then more.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Ann(ann::Ann),
    Blk(Box<blk::Blk>),
    Ah(ah::Ah),
    Bh(bh::Bh),
    Master(master::Master),
    Paymaker(paymaker::Paymaker),
    Sprayer(sprayer::Sprayer),
    Devnet(devnet::Devnet),
    Check(check::Check),
    Bench(bench::Bench),
}

impl Command {
    /// Does it, with engines that are forced already.
    pub(crate) fn run(self, engines: Engines) -> Result<(), Failure> {
        match self {
            Self::Ann(command) => command.run(engines),
            Self::Blk(command) => command.run(),
            Self::Ah(command) => command.run(engines),
            Self::Bh(command) => command.run(),
            Self::Master(command) => command.run(),
            Self::Paymaker(command) => command.run(),
            Self::Sprayer(command) => command.run(),
            Self::Devnet(command) => command.run(),
            Self::Check(command) => command.run(),
            Self::Bench(command) => command.run(),
        }
    }
}

/// Where the settings of a role of the pool come from.
#[derive(Args, Debug)]
pub(crate) struct PoolSettings {
    /// The pool's TOML file [default: ./pool.toml where it is]
    #[arg(short = 'C', long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Set a key of this role, before environment and file; may be repeated. Of roles with a node
    /// also a key of the node table, e.g. --set node.urls=http://10.0.0.5:64765
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Print the settings and where each one comes from, and end
    #[arg(long)]
    pub(crate) print_config: bool,
}
