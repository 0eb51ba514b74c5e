//! Logging to standard error, so that standard output holds results only.

use std::io::IsTerminal;

use packetcrypt_devnet::screen::AboveView;
use tracing_subscriber::EnvFilter;

/// Starts logging: `RUST_LOG` decides, without it the number of `-v`. A command that shows its own
/// progress is quiet: it logs warnings, and what takes long at its start.
pub(crate) fn start(verbose: u8, quiet: bool) {
    let level = match verbose {
        0 if quiet => "warn,packetcrypt_net::progress=info",
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let written = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let (filter, problem) = match written.as_deref().map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(level), Some(error)),
        None => (EnvFilter::new(level), None),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Lines go above the live view of a devnet, where there is one.
        .with_writer(|| AboveView(std::io::stderr()))
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    if let Some(error) = problem {
        tracing::warn!(%error, "RUST_LOG is not understood; logging at {level}");
    }
}
