//! `packetcrypt master`.

use clap::Args;
use packetcrypt_master::Config;

use super::{PoolSettings, node_settings};
use crate::failure::Failure;
use crate::pool_file::{PoolFile, Role};
use crate::role;

/// Run the master of a pool: tells miners and handlers what to work on
///
/// The master follows the chain node, makes the work of each height and tells miners and handlers.
#[derive(Args, Debug)]
#[command(after_help = "Tables of the file: [master] and [node]. Environment: \
    PACKETCRYPT_MASTER_<KEY>, PACKETCRYPT_NODE_<KEY>.\n\n\
    Examples:\n  packetcrypt master --config pool.toml\n  \
    packetcrypt master --set listen=127.0.0.1:8080 --print-config")]
pub(crate) struct Master {
    #[command(flatten)]
    settings: PoolSettings,
}

impl Master {
    pub(super) fn run(self) -> Result<(), Failure> {
        let file = PoolFile::find(self.settings.config.as_deref())?;
        let layers = file.layers(Role::Master, None, &self.settings.set)?;
        let print = self.settings.print_config;
        let node = node_settings::node(&file, &self.settings)?;
        let config = role::settings("master", &layers, print, Config::validate)?;
        let Some(node) = node else { return Ok(()) };
        role::run(async |shutdown| {
            let running =
                packetcrypt_master::start(config, node, shutdown).await.map_err(Failure::failed)?;
            tracing::info!(listen = %running.local_addr(), "master");
            running.join().await.map_err(Failure::failed)
        })
    }
}
