//! The work loop (spec 05, 4.7): follows the tip of the node and publishes work for it.
//!
//! A node that is away for any time changes nothing for clients: the last work stays published, and
//! the loop asks again with a growing pause. Work is keyed by height and previous block, so that a
//! reorganisation at the same height gives new work at once, and a node whose template lags behind
//! its best block is asked once a poll interval, not in a tight loop.
//!
//! While a key stays its template is taken anew every `template_refresh_ms` (spec 05, 16.11): a node
//! that did not know yet whom to pay must not have a whole height mined for somebody else. Shares of
//! the works before stay good: block handlers keep them, each with its template.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
        let mut refresh_at = self.next_refresh();
        while !self.shutdown.is_triggered() {
            let is_due = refresh_at.is_some_and(|at| at <= Instant::now());
            let shutdown = self.shutdown.clone();
            let step = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                step = self.step(is_due) => step,
            };
            if let Some((key, is_new)) = step {
                pause = RETRY.0;
                if is_new || is_due {
                    refresh_at = self.next_refresh();
                }
                self.wait_for_change(key, refresh_at).await;
            } else {
                self.shutdown.sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
            }
        }
    }

    /// When the template of the present key is taken anew, None: never.
    fn next_refresh(&self) -> Option<Instant> {
        let interval = Duration::from_millis(self.config.template_refresh_ms);
        Some(Instant::now() + interval).filter(|_| !interval.is_zero())
    }

    /// Publishes the work of the node's template when its key is another one, or when it is time to
    /// refresh it. Returns the key and whether it is new. None: something failed and was logged.
    async fn step(&self, refresh: bool) -> Option<(WorkKey, bool)> {
        let template = match self.node.raw_block_template().await {
            Ok(template) => template,
            Err(e) => {
                self.counters.node_errors.inc();
                tracing::warn!("no block template: {e}");
                return None;
            }
        };
        let key = publish::key_of(&template);
        let present = self.published.borrow().clone();
        if let Some(present) = present.filter(|present| present.key == key) {
            if refresh {
                let (pair, index) = self.files(template, key, true).await?;
                if pair.work != present.work || pair.template != present.template {
                    self.publish(key, pair, index);
                }
            }
            return Some((key, false));
        }
        if let Err(e) = self.infos.walk(key.previous, self.config.blkinfo_depth).await {
            self.counters.node_errors.inc();
            tracing::warn!("no header of a block below {}: {e}", key.previous.display());
            return None;
        }
        let (pair, index) = self.files(template, key, false).await?;
        self.publish(key, pair, index);
        Some((key, true))
    }

    /// The files of the key, made when they are not stored yet or when they are wanted `anew`, on a
    /// thread that may wait for the disk.
    async fn files(
        &self,
        template: BlockTemplate,
        key: WorkKey,
        anew: bool,
    ) -> Option<(Pair, Index)> {
        let (store, config) = (self.store.clone(), self.config.clone());
        let counters = self.counters.clone();
        let work = move || {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            let stored = (!anew).then(|| stored_pair(&mut store, key, &counters)).flatten();
            let pair = match stored {
                Some(pair) => pair,
                None => new_pair(&mut store, &template, key, &config, &counters)?,
            };
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
        let config = publish::master_config(&self.config, key, &pair.work).to_json();
        let published = Published {
            key,
            config: config.into(),
            work: pair.work.into(),
            template: pair.template.into(),
            index,
            may_change: self.config.template_refresh_ms > 0,
        };
        let before = self.published.send_replace(Some(Arc::new(published)));
        if before.as_ref().is_some_and(|before| before.key == key) {
            self.counters.refreshes.inc();
            tracing::debug!("work {} refreshed", key.height);
            return;
        }
        self.counters.works.inc();
        self.counters.work_height_is(key.height);
        if before.is_some_and(|before| before.key.height >= key.height) {
            self.counters.reorganisations.inc();
        }
        tracing::info!("work {} on {}", key.height, key.previous.display());
    }

    /// Returns when the best block is another than the parent of the present work, or when its
    /// template is to be refreshed.
    async fn wait_for_change(&self, key: WorkKey, refresh_at: Option<Instant>) {
        let interval = Duration::from_millis(self.config.poll_interval_ms);
        let mut pause = interval;
        while self.shutdown.sleep(pause).await {
            if refresh_at.is_some_and(|at| at <= Instant::now()) {
                return;
            }
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

/// The stored files of the key.
fn stored_pair(store: &mut Store, key: WorkKey, counters: &Counters) -> Option<Pair> {
    match store.load(key) {
        Ok(Some(pair)) if publish::is_pair_of(&pair, key) => {
            store.choose(key);
            Some(pair)
        }
        Ok(_) => None,
        Err(e) => {
            counters.file_errors.inc();
            tracing::warn!("files of height {} are made anew: {e}", key.height);
            None
        }
    }
}

/// New files of the key, stored. None: it failed and was logged.
fn new_pair(
    store: &mut Store,
    template: &BlockTemplate,
    key: WorkKey,
    config: &Config,
    counters: &Counters,
) -> Option<Pair> {
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
