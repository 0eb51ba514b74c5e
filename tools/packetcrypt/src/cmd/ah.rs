//! `packetcrypt ah NAME`.

use clap::Args;
use packetcrypt_handler::Config;
use packetcrypt_net::engine::EngineKind;

use super::PoolSettings;
use crate::engines::Engines;
use crate::failure::Failure;
use crate::pool_file::{PoolFile, Role};
use crate::role;

/// Run an announcement handler of a pool
///
/// An announcement handler takes announcements, checks them, notes them for the paymaker and hands
/// them to block miners.
#[derive(Args, Debug)]
#[command(after_help = "Table of the file: [ann_handler.NAME]. Environment: \
    PACKETCRYPT_ANN_HANDLER_<NAME>_<KEY>.\n\n\
    Example:\n  packetcrypt ah east --config pool.toml")]
pub(crate) struct Ah {
    /// Name of the handler: its table of the file is [ann_handler.NAME]
    name: String,
    /// What receives and sends: uring (io_uring), glommio (io_uring), epoll, or auto: the first of
    /// these that works [setting `engine`, default: auto]
    #[arg(long, value_name = "ENGINE")]
    engine: Option<EngineKind>,
    #[command(flatten)]
    settings: PoolSettings,
}

impl Ah {
    pub(super) fn run(self, engines: Engines) -> Result<(), Failure> {
        let file = PoolFile::find(self.settings.config.as_deref())?;
        let mut set = self.settings.set;
        set.extend(self.engine.map(|engine| format!("engine={engine}")));
        let mut layers = file.layers(Role::AnnHandler, Some(&self.name), &set)?;
        engines.set(&mut layers);
        let print = self.settings.print_config;
        let title = format!("ann_handler.{}", self.name);
        let config = role::settings(&title, &layers, print, Config::validate)?;
        if print {
            return Ok(());
        }
        role::run(async |shutdown| {
            let running =
                packetcrypt_handler::start(config, shutdown).await.map_err(Failure::failed)?;
            tracing::info!(
                engine = running.engine(),
                listen = %running.local_addr(),
                sprayer = ?running.sprayer_addr(),
                "announcement handler"
            );
            running.join().await.map_err(Failure::failed)
        })
    }
}
