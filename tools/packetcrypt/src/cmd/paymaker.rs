//! `packetcrypt paymaker`.

use clap::Args;
use packetcrypt_net::SystemClock;
use packetcrypt_paymaker::Config;

use super::{PoolSettings, node_settings};
use crate::failure::Failure;
use crate::pool_file::{PoolFile, Role};
use crate::role;

/// Run the paymaker of a pool: who is paid by the next block
///
/// The paymaker takes the events of all handlers and tells the node whom the next block pays.
#[derive(Args, Debug)]
#[command(after_help = "Tables of the file: [paymaker] and [node]. Environment: \
    PACKETCRYPT_PAYMAKER_<KEY>, PACKETCRYPT_NODE_<KEY>.\n\n\
    Example:\n  packetcrypt paymaker --config pool.toml")]
pub(crate) struct Paymaker {
    #[command(flatten)]
    settings: PoolSettings,
}

impl Paymaker {
    pub(super) fn run(self) -> Result<(), Failure> {
        let file = PoolFile::find(self.settings.config.as_deref())?;
        let layers = file.layers(Role::Paymaker, None, &self.settings.set)?;
        let print = self.settings.print_config;
        let nodes = node_settings::nodes(&file, &self.settings)?;
        let config = role::settings("paymaker", &layers, print, Config::validate)?;
        let Some(nodes) = nodes else { return Ok(()) };
        role::run(async |shutdown| {
            let running = packetcrypt_paymaker::start(config, nodes, SystemClock, shutdown)
                .await
                .map_err(Failure::failed)?;
            tracing::info!(listen = %running.local_addr(), "paymaker");
            running.join().await.map_err(Failure::failed)
        })
    }
}
