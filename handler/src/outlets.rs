//! Where accepted posts go besides the files: the pay log and the sprayer.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use packetcrypt_core::announcement::Announcement;
use packetcrypt_net::paylog::{
    PayLog, PayLogFigures, PayLogOptions, PaymakerPassword, Uploader, UploaderOptions,
};
use packetcrypt_net::pool_client::PoolClient;
use packetcrypt_net::sprayer::{Sprayer, SprayerOptions, SprayerStats};
use packetcrypt_net::{Shutdown, progress};
use packetcrypt_proto::events::AnnsEvent;
use tokio::sync::{Mutex, watch};

use crate::commit::{EventLog, Spray};
use crate::config::Config;
use crate::run::StartError;

/// The pay log of a handler and its upload.
#[derive(Debug)]
pub(crate) struct PayLogs {
    log: PayLog,
    uploader: Mutex<Option<Uploader>>,
}

/// Writes events.
#[derive(Debug)]
pub(crate) struct LogWriter(PayLog);

impl EventLog for LogWriter {
    fn append(&mut self, lines: Vec<String>) -> Result<(), String> {
        let lines = lines.into_iter().map(String::into_bytes).collect();
        self.0.append_all_blocking(lines).map_err(|error| error.to_string())
    }
}

impl PayLogs {
    /// Opens the log in `dir`, switched every `switch_ms`. Nothing is uploaded yet.
    pub(crate) fn open(dir: &Path, switch_ms: u64) -> Result<Self, StartError> {
        let options = PayLogOptions { rotate_ms: switch_ms, ..PayLogOptions::new(dir) };
        let log = PayLog::open(options).map_err(|error| StartError::PayLog(error.to_string()))?;
        Ok(Self { log, uploader: Mutex::new(None) })
    }

    /// Which events are in the files that are there: event id and time.
    pub(crate) fn logged_events(&self) -> Result<HashSet<(String, u64)>, StartError> {
        let mut events = HashSet::new();
        let what = format!("reading the pay logs in {}", self.log.dir().display());
        let read = progress::said(&what, || {
            self.log.read_lines(|line| {
                // A line that is no event of announcements is not one of ours and does not matter.
                if let Ok(event) = serde_json::from_slice::<AnnsEvent>(line) {
                    events.insert((event.event_id, event.time));
                }
            })
        });
        read.map_err(|error| {
            StartError::PayLog(format!("reading {}: {error}", self.log.dir().display()))
        })?;
        Ok(events)
    }

    /// Begins to upload closed files to the paymaker of the pool's configuration.
    pub(crate) async fn upload(
        &self,
        config: &Config,
        pool: &PoolClient,
        shutdown: &Shutdown,
    ) -> Result<(), StartError> {
        let (paymaker, paymaker_url) = watch::channel(None);
        let mut configs = pool.config_watch();
        tokio::spawn(async move {
            loop {
                let url = configs.borrow_and_update().as_ref().map(|c| c.paymaker_url.clone());
                let gone = paymaker.send(url).is_err();
                if gone || configs.changed().await.is_err() {
                    return;
                }
            }
        });
        let password = PaymakerPassword::new(config.paymaker_http_password.expose());
        let options = UploaderOptions::new(paymaker_url, password);
        let uploader = Uploader::start(&self.log, options, shutdown.clone())
            .map_err(|error| StartError::PayLog(error.to_string()))?;
        *self.uploader.lock().await = Some(uploader);
        Ok(())
    }

    /// Writes to the log.
    pub(crate) fn writer(&self) -> LogWriter {
        LogWriter(self.log.clone())
    }

    /// What was written and uploaded.
    pub(crate) fn figures(&self) -> PayLogFigures {
        self.log.figures()
    }

    /// Returns when the uploader has ended.
    pub(crate) async fn ended(&self) {
        if let Some(uploader) = self.uploader.lock().await.take() {
            uploader.join().await;
        }
    }
}

/// The sprayer of a handler; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Sprayers(Arc<Sprayer>);

impl Sprayers {
    /// Starts it when the configuration names an address for it.
    pub(crate) fn start(config: &Config, shutdown: &Shutdown) -> Result<Option<Self>, StartError> {
        let Some(bind) = config.bind_pvt else { return Ok(None) };
        let options = SprayerOptions {
            subscribe_to: config.subscribe_to.clone(),
            spray_at: config.spray_at.clone(),
            subscribers_allow: config.subscribers_allow.clone(),
            mss_bytes: config.mss,
            receive_threads: config.spray_workers.max(1),
            // What comes from others is relayed by the sprayer itself and needed for nothing else.
            received_batches_max: 1,
            ..SprayerOptions::new(bind, config.block_miner_passwd.expose())
        };
        Ok(Some(Self(Arc::new(Sprayer::start(options, shutdown)?))))
    }

    /// The address of its socket.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.0.local_addr()
    }

    /// What it sent and dropped.
    pub(crate) fn stats(&self) -> SprayerStats {
        self.0.stats()
    }
}

impl Spray for Sprayers {
    fn spray(&mut self, anns: &mut dyn Iterator<Item = &Announcement>) {
        // What does not fit is dropped, oldest first, and counted there.
        self.0.send(anns.map(|ann| *ann.to_bytes()).collect());
    }
}
