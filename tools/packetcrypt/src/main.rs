//! PacketCrypt in one command: `packetcrypt help` lists what it does.
//!
//! The command is thin: every role is a library of its own. Here are the command line, the settings
//! in layers ([`layers`], [`pool_file`]), signals and exit codes.

mod cmd;
mod effective;
mod engines;
mod failure;
mod layers;
mod logging;
mod pool_file;
mod role;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};

/// PacketCrypt: announcement miner, block miner, and a whole pool.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Cli {
    /// Log more: -v debug, -vv trace. RUST_LOG, e.g. `RUST_LOG=packetcrypt_net=trace`, comes first.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    #[arg(help_heading = "Options of every command")]
    verbose: u8,
    #[command(flatten)]
    engines: engines::Engines,
    #[command(subcommand)]
    command: cmd::Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed (check: invalid; devnet: the summary found something; bench: a wrong answer)
  2    wrong usage or settings
  100  a block handler that the master does not list
  130  ended at once by a second Ctrl-C
  252  ended by SIGUSR2

Settings come, in this order, from the command line, the environment, a file, and the defaults;
`packetcrypt ROLE --print-config` shows them all and where each one comes from.";

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    cli.engines.note_sources(&matches);
    logging::start(cli.verbose, matches!(cli.command, cmd::Command::Devnet(_)));
    match cli.engines.force().and_then(|()| cli.command.run(cli.engines)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(text) = failure.text() {
                eprintln!("packetcrypt: {text}");
            }
            failure.exit_code()
        }
    }
}
