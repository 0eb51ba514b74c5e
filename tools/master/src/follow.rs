//! The work loop (spec 05, 4.7): follows the tip of the node and publishes work for it.
//!
//! A node that is away for any time changes nothing for clients: the last work stays published, and
//! the loop asks again with a growing pause. Work is keyed by height and previous block, so that a
//! reorganisation at the same height gives new work at once, and a node whose template lags behind
//! its best block is asked once a poll interval, not in a tight loop.
//!
//! The template of a key is not refreshed while the key stays: block miners fetch the work of a
//! height once, and a share can only be checked against the template that it was mined with. So a
//! height that lasts long has the time and the transactions of its beginning.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use packetcrypt_net::Shutdown;
use packetcrypt_node::Node;
use packetcrypt_proto::template::BlockTemplate;
use tokio::sync::watch;

use crate::blkinfo::BlockInfos;
use crate::config::Config;
use crate::publish;
use crate::serve::Published;
use crate::stats::Counters;
use crate::store::{Index, Pair, Store, WorkKey};

/// First and longest pause after something failed.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// What the work loop works with.
pub(crate) struct Follower<N> {
    pub(crate) config: Arc<Config>,
    pub(crate) node: Arc<N>,
    pub(crate) infos: Arc<BlockInfos<N>>,
    pub(crate) store: Arc<Mutex<Store>>,
    pub(crate) published: watch::Sender<Option<Arc<Published>>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) shutdown: Shutdown,
}

impl<N: Node> Follower<N> {
    /// Runs until the signal.
    pub(crate) async fn run(self) {
        let mut pause = RETRY.0;
        while !self.shutdown.is_triggered() {
            let shutdown = self.shutdown.clone();
            let step = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                step = self.step() => step,
            };
            if let Some(key) = step {
                pause = RETRY.0;
                self.wait_for_change(key).await;
            } else {
                self.shutdown.sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
            }
        }
    }

    /// Publishes the work of the node's template when it is another one. None: something failed and
    /// was logged.
    async fn step(&self) -> Option<WorkKey> {
        let template = match self.node.raw_block_template().await {
            Ok(template) => template,
            Err(e) => {
                self.counters.node_errors.inc();
                tracing::warn!("no block template: {e}");
                return None;
            }
        };
        let key = publish::key_of(&template);
        if self.published.borrow().as_ref().is_some_and(|present| present.key == key) {
            return Some(key);
        }
        if let Err(e) = self.infos.walk(key.previous, self.config.blkinfo_depth).await {
            self.counters.node_errors.inc();
            tracing::warn!("no header of a block below {}: {e}", key.previous.display());
            return None;
        }
        let (pair, index) = self.stored(template, key).await?;
        self.publish(key, pair, index);
        Some(key)
    }

    /// The files of the key, made when they are not stored yet, on a thread that may wait for the
    /// disk.
    async fn stored(&self, template: BlockTemplate, key: WorkKey) -> Option<(Pair, Index)> {
        let (store, config) = (self.store.clone(), self.config.clone());
        let counters = self.counters.clone();
        let work = move || {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            let pair = pair_of(&mut store, &template, key, &config, &counters)?;
            if let Err(e) = store.prune(key.height) {
                counters.file_errors.inc();
                tracing::warn!("{}: {e}", config.dir.display());
            }
            Some((pair, store.index().clone()))
        };
        // The thread does not panic; it is lost only when the runtime ends.
        tokio::task::spawn_blocking(work).await.ok().flatten()
    }

    fn publish(&self, key: WorkKey, pair: Pair, index: Index) {
        let config = publish::master_config(&self.config, key).to_json();
        let published = Published {
            key,
            config: config.into(),
            work: pair.work.into(),
            template: pair.template.into(),
            index,
        };
        let before = self.published.send_replace(Some(Arc::new(published)));
        self.counters.works.inc();
        self.counters.work_height_is(key.height);
        if before.is_some_and(|before| before.key.height >= key.height) {
            self.counters.reorganisations.inc();
        }
        tracing::info!("work {} on {}", key.height, key.previous.display());
    }

    /// Returns when the best block is another than the parent of the present work.
    async fn wait_for_change(&self, key: WorkKey) {
        let interval = Duration::from_millis(self.config.poll_interval_ms);
        let mut pause = interval;
        while self.shutdown.sleep(pause).await {
            let best = tokio::select! {
                best = self.node.best_block_hash() => best,
                () = self.shutdown.cancelled() => return,
            };
            match best {
                Ok(best) if best == key.previous => pause = interval,
                Ok(_) => return,
                Err(e) => {
                    self.counters.node_errors.inc();
                    tracing::warn!("no best block hash: {e}");
                    pause = (pause * 2).clamp(RETRY.0, RETRY.1);
                }
            }
        }
    }
}

/// The stored files of the key, or else new ones, stored. None: it failed and was logged.
fn pair_of(
    store: &mut Store,
    template: &BlockTemplate,
    key: WorkKey,
    config: &Config,
    counters: &Counters,
) -> Option<Pair> {
    match store.load(key) {
        Ok(Some(pair)) if publish::is_pair_of(&pair, key) => {
            store.choose(key);
            return Some(pair);
        }
        Ok(_) => {}
        Err(e) => {
            counters.file_errors.inc();
            tracing::warn!("files of height {} are made anew: {e}", key.height);
        }
    }
    let pair = match publish::files_of(template, config) {
        Ok(pair) => pair,
        Err(e) => {
            counters.templates_refused.inc();
            tracing::error!("height {}: {e}", key.height);
            return None;
        }
    };
    if let Err(e) = store.save(key, &pair) {
        counters.file_errors.inc();
        tracing::error!("{}: {e}", config.dir.display());
        return None;
    }
    Some(pair)
}
