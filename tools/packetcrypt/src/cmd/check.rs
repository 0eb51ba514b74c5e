//! `packetcrypt check`: announcements, blocks and addresses, without network.

mod ann;
mod block;
mod lines;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use clap::{Args, Subcommand};
use packetcrypt_proto::address;

use crate::failure::Failure;

/// Check an announcement, a block or an address, without network
///
/// Checks things without network. Exit codes: 0 all valid, 1 something is invalid, 2 it can not be
/// checked (no such file, wrong usage).
#[derive(Args, Debug)]
pub(crate) struct Check {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Ann(ann::AnnArgs),
    Block(block::BlockArgs),
    /// Check an address: would pools and the node pay it?
    Address {
        /// The address
        address: String,
    },
}

impl Check {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.what {
            What::Ann(args) => ann::run(&args),
            What::Block(args) => block::run(&args),
            What::Address { address } => check_address(&address),
        }
    }
}

fn check_address(text: &str) -> Result<(), Failure> {
    match address::check(text) {
        Ok(()) => print(&format!("OK {text}")),
        Err(error) => {
            print(&format!("INVALID {text}: {error}"))?;
            if address::is_valid_pay_to(text) {
                print("note: pools credit it, but the node can not pay it")?;
            } else if address::payout_script(text).is_some() {
                print("note: the node can pay it, but pools do not credit it")?;
            }
            Err(Failure::Invalid)
        }
    }
}

/// A line on standard output. Who reads it may go away: then there is nothing left to do.
fn print(line: &str) -> Result<(), Failure> {
    use io::Write;
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::Invalid),
        Err(error) => Err(Failure::failed(format!("standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// A file, or standard input for `-`.
fn open(path: &Path) -> Result<Box<dyn Read>, Failure> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdin()));
    }
    let file =
        File::open(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    Ok(Box::new(file))
}

/// Everything of a file that may have at most so many bytes.
fn read_all(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    open(path)?
        .take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    if bytes.len() as u64 > bytes_max {
        let text = format!("{}: more than {bytes_max} bytes", path.display());
        return Err(Failure::usage(text));
    }
    Ok(bytes)
}
