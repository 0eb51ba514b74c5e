//! The poll of the configuration, and what follows from a new one: blocks and work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use packetcrypt_core::bytes::Hash32;
use packetcrypt_proto::PROTOCOL_VERSION;
use packetcrypt_proto::blkinfo::BlockInfo;
use packetcrypt_proto::config::MasterConfig;
use packetcrypt_proto::work::WorkFile;

use super::{DEPTH_BLOCKS_MAX, PoolOptions, PoolUpdate, Shared};
use crate::client::{HttpClient, Request};
use crate::{Shutdown, limits};

/// How soon the configuration is read again while it is behind what the long poll has seen: the
/// master writes the work file first and the configuration after it (spec 05, 4.7).
const BEHIND_POLL_MS: u64 = 100;
/// How long that goes on: longer than a cache on the way may give out an old configuration, 8 and 2
/// seconds, if it does not heed that we want none (spec 05, 4.1).
const BEHIND_MS_MAX: u64 = 12_000;
/// What is asked with everything that changes under the same name.
const FRESH: &[(&str, &str)] = &[("cache-control", "no-cache")];
/// Blocks below the depth of the options that one poll asks for: what is new at the tip must not
/// wait for old ones.
const DEEP_BLOCKS_PER_POLL: usize = 16;

/// The task that polls one pool.
pub(super) struct Follower {
    shared: Arc<Shared>,
    http: HttpClient,
    options: PoolOptions,
    shutdown: Shutdown,
    config: Option<Arc<MasterConfig>>,
    work: Option<Arc<WorkFile>>,
    /// The chain as far as it was asked for, by height.
    known: BTreeMap<i32, Arc<BlockInfo>>,
    version_warned: bool,
    behind_since: Option<(i32, Instant)>,
}

impl Follower {
    pub(super) fn new(
        shared: Arc<Shared>,
        http: HttpClient,
        options: PoolOptions,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            shared,
            http,
            options,
            shutdown,
            config: None,
            work: None,
            known: BTreeMap::new(),
            version_warned: false,
            behind_since: None,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let outcome = tokio::select! {
                () = self.shutdown.clone().cancelled_owned() => return,
                outcome = self.poll() => outcome,
            };
            let pause_ms = match outcome {
                Ok(()) => {
                    self.shared.all_right();
                    if self.is_behind() { BEHIND_POLL_MS } else { self.options.poll_ms }
                }
                Err(error) => {
                    self.shared.failed(&error);
                    self.options.retry_ms
                }
            };
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
            }
        }
    }

    /// One poll. An error is what kept it from being complete; what was got is published.
    async fn poll(&mut self) -> Result<(), String> {
        let config = self.fetch_config().await?;
        self.shared.config_received();
        let is_new = self.config.as_deref() != Some(&config);
        if is_new {
            self.warn_version(&config);
            let config = Arc::new(config);
            self.config = Some(config.clone());
            self.shared.config.send_replace(Some(config));
        }
        let Some(config) = self.config.clone() else { return Ok(()) };
        let work = self.refresh_work(&config).await;
        let mut new_blocks = Vec::new();
        let blocks = self.discover(&config, &mut new_blocks).await;
        if is_new || !new_blocks.is_empty() || matches!(work, Ok(true)) {
            self.shared.publish(PoolUpdate { config, new_blocks, work: self.work.clone() });
        }
        work?;
        blocks
    }

    async fn fetch_config(&self) -> Result<MasterConfig, String> {
        let url = format!("{}/config.json", self.shared.url);
        let request = Request::get(&url).headers(FRESH).reply_bytes_max(limits::CONFIG_BYTES_MAX);
        let body = self.http.fetch(request).await.map_err(|e| e.to_string())?;
        let mut config = MasterConfig::parse(&body).map_err(|e| format!("{url}: {e}"))?;
        if !self.options.want_work {
            // Who takes no work has no news when it is refreshed.
            config.work_hash = None;
        }
        Ok(config)
    }

    /// Gets the work of `config` unless it is there; true when it is another than before. A master
    /// may refresh it within a height; the work before is good as long as it is not replaced.
    async fn refresh_work(&mut self, config: &MasterConfig) -> Result<bool, String> {
        if !self.options.want_work {
            return Ok(false);
        }
        let is_current = |work: &WorkFile| {
            work.height == config.current_height && work.previous_hash() == config.tip_hash
        };
        let is_newest =
            |work: &WorkFile| config.work_hash.is_none_or(|hash| hash == work.file_hash());
        match self.work.as_deref() {
            Some(work) if is_current(work) && is_newest(work) => return Ok(false),
            Some(work) if is_current(work) => {}
            // Old work must not be taken for work of the new configuration.
            _ => self.work = None,
        }
        let url = format!("{}/work_{}.bin", self.shared.url, config.current_height);
        // A cache on the way may hold the work of a block that a reorganisation replaced.
        let request = Request::get(&url).headers(FRESH).reply_bytes_max(limits::WORK_BYTES_MAX);
        let body = self.http.fetch(request).await.map_err(|e| e.to_string())?;
        let work = WorkFile::parse(&body).map_err(|e| format!("{url}: {e}"))?;
        if !is_current(&work) {
            return Err(format!(
                "{url}: work of height {} on {} but the configuration says {} on {}",
                work.height,
                work.previous_hash().display(),
                config.current_height,
                config.tip_hash.display()
            ));
        }
        // It may be newer than the configuration: then the next one names it.
        let is_other = self.work.as_deref() != Some(&work);
        self.work = Some(Arc::new(work));
        Ok(is_other)
    }

    /// Follows the chain down from the tip through what is known, and asks for what is not. So a
    /// hole that a failure left is closed by a later poll.
    async fn discover(
        &mut self,
        config: &MasterConfig,
        new_blocks: &mut Vec<Arc<BlockInfo>>,
    ) -> Result<(), String> {
        let tip = config.current_height.saturating_sub(1);
        let depth = self.shared.depth_blocks.load(Ordering::Relaxed).clamp(1, DEPTH_BLOCKS_MAX);
        let floor = tip.saturating_sub_unsigned(depth).max(-1);
        let deep = tip.saturating_sub_unsigned(self.options.depth_blocks.max(1));
        let mut deep_blocks = 0;
        self.known.retain(|height, _| *height > floor && *height <= tip);
        let base = config.blkinfo_url.as_deref().unwrap_or(&self.shared.url);
        let base = base.trim_end_matches('/').to_owned();
        let mut hash = config.tip_hash;
        for height in (floor + 1..=tip).rev() {
            let known = self.known.get(&height).filter(|block| block.header.hash == hash);
            let block = match known.cloned() {
                Some(block) => block,
                None => {
                    deep_blocks += usize::from(height <= deep);
                    if deep_blocks > DEEP_BLOCKS_PER_POLL {
                        self.shared.wake.notify_one();
                        break;
                    }
                    let block = Arc::new(self.fetch_block(&base, hash, height).await?);
                    self.known.insert(height, block.clone());
                    new_blocks.push(block.clone());
                    block
                }
            };
            hash = block.header.previous_hash;
        }
        Ok(())
    }

    async fn fetch_block(
        &self,
        base: &str,
        hash: Hash32,
        height: i32,
    ) -> Result<BlockInfo, String> {
        let url = format!("{base}/blkinfo_{}.json", hash.display());
        let request = Request::get(&url).reply_bytes_max(limits::BLKINFO_BYTES_MAX);
        let body = self.http.fetch(request).await.map_err(|e| e.to_string())?;
        let block = BlockInfo::parse(&body).map_err(|e| format!("{url}: {e}"))?;
        if block.header.hash != hash || block.header.height != height {
            return Err(format!(
                "{url}: is about block {} at height {}, not {height}",
                block.header.hash.display(),
                block.header.height
            ));
        }
        Ok(block)
    }

    /// Whether the long poll has seen a height that the configuration does not show yet.
    fn is_behind(&mut self) -> bool {
        let seen = self.shared.height_seen.load(Ordering::Relaxed);
        let shown = self.config.as_ref().map_or(i32::MAX, |config| config.current_height);
        if seen <= shown {
            self.behind_since = None;
            return false;
        }
        let now = Instant::now();
        let (_, since) = match self.behind_since {
            Some((height, since)) if height == seen => (height, since),
            _ => *self.behind_since.insert((seen, now)),
        };
        now.saturating_duration_since(since) < Duration::from_millis(BEHIND_MS_MAX)
    }

    fn warn_version(&mut self, config: &MasterConfig) {
        if config.version != PROTOCOL_VERSION && !self.version_warned {
            self.version_warned = true;
            tracing::warn!(
                "pool {}: protocol version {} but this program speaks {PROTOCOL_VERSION}",
                self.shared.url,
                config.version
            );
        }
    }
}
