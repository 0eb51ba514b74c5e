//! `packetcrypt bh NAME`.

use clap::Args;
use packetcrypt_blkhandler::{Config, RunError};

use super::{PoolSettings, node_settings};
use crate::failure::Failure;
use crate::pool_file::{PoolFile, Role};
use crate::role;

/// Run a block handler of a pool: takes shares, submits blocks
///
/// A block handler checks shares, notes them for the paymaker, and submits blocks to the node.
#[derive(Args, Debug)]
#[command(after_help = "Tables of the file: [block_handler.NAME] and [node]. Environment: \
    PACKETCRYPT_BLOCK_HANDLER_<NAME>_<KEY>, PACKETCRYPT_NODE_<KEY>.\n\n\
    Example:\n  packetcrypt bh main --config pool.toml")]
pub(crate) struct Bh {
    /// Name of the handler: its table of the file is [block_handler.NAME]
    name: String,
    #[command(flatten)]
    settings: PoolSettings,
}

impl Bh {
    pub(super) fn run(self) -> Result<(), Failure> {
        let file = PoolFile::find(self.settings.config.as_deref())?;
        let layers = file.layers(Role::BlockHandler, Some(&self.name), &self.settings.set)?;
        let print = self.settings.print_config;
        let node = node_settings::node(&file, &self.settings)?;
        let title = format!("block_handler.{}", self.name);
        let config = role::settings(&title, &layers, print, Config::validate)?;
        let Some(node) = node else { return Ok(()) };
        role::run(async |shutdown| {
            let running = packetcrypt_blkhandler::start(config, node, shutdown)
                .await
                .map_err(Failure::failed)?;
            tracing::info!(listen = %running.local_addr(), "block handler");
            running.join().await.map_err(|error| match error {
                RunError::NotListed { .. } => Failure::NotListed(error.to_string()),
                error => Failure::failed(error),
            })
        })
    }
}
