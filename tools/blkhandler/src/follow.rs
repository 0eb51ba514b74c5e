//! Follows the master: work, template, blocks of the chain.

use std::sync::Arc;
use std::time::{Duration, Instant};

use packetcrypt_net::client::Request;
use packetcrypt_net::pool_client::{PoolClient, PoolUpdate};
use packetcrypt_net::{Clock, Shutdown};
use packetcrypt_proto::config::MasterConfig;
use packetcrypt_proto::template::{BlockTemplate, TEMPLATE_BYTES_MAX};
use packetcrypt_proto::work::WorkFile;
use tokio::sync::{mpsc, watch};

use crate::RunError;
use crate::chain::Noticed;
use crate::config::Config;
use crate::stats::Counters;
use crate::work::{Work, Works};

/// Pause before the template is asked for again.
const TEMPLATE_RETRY: Duration = Duration::from_secs(1);
/// Time of one download of a template; it may be some megabytes.
const TEMPLATE_MS_MAX: u64 = 20_000;

/// The task that keeps [`Works`] up to date.
pub(crate) struct Follower {
    pub(crate) config: Config,
    pub(crate) pool: PoolClient,
    pub(crate) works: watch::Sender<Works>,
    pub(crate) paymaker_url: watch::Sender<Option<String>>,
    pub(crate) noticed: mpsc::Sender<Noticed>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) shutdown: Shutdown,
}

impl Follower {
    /// Runs until the signal.
    ///
    /// # Errors
    /// [`RunError::NotListed`] when the master does not list this handler at start (spec 05, 10.5).
    pub(crate) async fn run(self) -> Result<(), RunError> {
        let mut is_first = true;
        let mut wanted: Option<Arc<Work>> = None;
        loop {
            let retry = async {
                match &wanted {
                    Some(_) => tokio::time::sleep(TEMPLATE_RETRY).await,
                    None => std::future::pending().await,
                }
            };
            let update = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Ok(()),
                update = self.pool.next() => update,
                () = retry => {
                    wanted = self.complete(wanted).await;
                    continue;
                }
            };
            let Some(update) = update else { return Ok(()) };
            self.check_listed(&update.config, is_first)?;
            is_first = false;
            let is_work_told = update.work.is_some();
            match self.announce(update) {
                Some(work) => wanted = self.complete(Some(work)).await,
                // The present work again: no other one is wanted any more.
                None if is_work_told => wanted = wanted.filter(|work| self.is_present(work)),
                None => {}
            }
        }
    }

    fn is_present(&self, work: &Arc<Work>) -> bool {
        self.works.borrow().present().is_some_and(|present| Arc::ptr_eq(present, work))
    }

    fn check_listed(&self, config: &MasterConfig, is_first: bool) -> Result<(), RunError> {
        let url = self.config.submit_url();
        if config.submit_block_urls.contains(&url) {
            return Ok(());
        }
        let error = RunError::NotListed { url, listed: config.submit_block_urls.join(", ") };
        if is_first {
            return Err(error);
        }
        tracing::error!("{error}");
        Ok(())
    }

    /// Takes over what the master says; returns a work that is not the present one.
    fn announce(&self, update: PoolUpdate) -> Option<Arc<Work>> {
        let PoolUpdate { config, new_blocks, work } = update;
        let paymaker_url = Some(config.paymaker_url.clone()).filter(|url| !url.is_empty());
        self.paymaker_url.send_if_modified(|url| {
            let is_new = *url != paymaker_url;
            *url = paymaker_url;
            is_new
        });
        let mut wanted = None;
        self.works.send_modify(|works| {
            works.announced = Some(config.tip_hash);
            works.extend_chain(&new_blocks, config.current_height - 1);
            let is_present =
                |file: &WorkFile| works.present().is_some_and(|present| *present.file == *file);
            wanted = work
                .filter(|file| !is_present(file))
                .map(|file| works.work_of(file, self.config.shares_per_work_max));
            works.coming.clone_from(&wanted);
        });
        wanted
    }

    /// Fetches the template of a work and makes it the present one. Without its template a work on
    /// another block is present too, so that stale shares are told apart; then it is returned, to be
    /// tried again.
    async fn complete(&self, work: Option<Arc<Work>>) -> Option<Arc<Work>> {
        let work = work?;
        let mut missing = None;
        if work.template.get().is_none() {
            match self.fetch_template(&work.file).await {
                // Nobody else sets it.
                Ok(template) => drop(work.template.set(template)),
                Err(text) => {
                    tracing::warn!("no block template: {text}");
                    missing = Some(work.clone());
                }
            }
        }
        let is_refresh = self.works.borrow().is_on(work.file.previous_hash());
        if missing.is_none() || !is_refresh {
            self.advance(work);
        }
        missing
    }

    fn advance(&self, work: Arc<Work>) {
        if self.is_present(&work) {
            // Wakes who waits for its template.
            self.works.send_modify(|_| {});
            return;
        }
        let former = self.works.borrow().present().cloned();
        let hash = work.file.previous_hash();
        let height = work.file.height;
        let grace = Duration::from_millis(self.config.previous_work_grace_ms);
        self.works.send_modify(|works| works.advance(work, Instant::now(), grace));
        if former.as_ref().is_some_and(|former| former.file.previous_hash() == hash) {
            self.counters.works_refreshed.inc();
            tracing::debug!("work {height} refreshed");
            return;
        }
        self.counters.work_height_is(height);
        tracing::info!("work {height} on {}", hash.display());
        if former.is_some() {
            let noticed = Noticed { hash, time_ms: self.clock.now_ms() };
            if self.noticed.try_send(noticed).is_err() {
                self.counters.block_events_lost.inc();
                tracing::error!("no event for block {}: too many wait", hash.display());
            }
        }
    }

    async fn fetch_template(&self, work: &WorkFile) -> Result<BlockTemplate, String> {
        let url = format!("{}/bt_{}.bin", self.config.master_url, work.height);
        // A cache on the way may hold the template of a block that a reorganisation replaced.
        let request = Request::get(&url)
            .headers(&[("cache-control", "no-cache")])
            .request_ms_max(TEMPLATE_MS_MAX)
            .reply_bytes_max(TEMPLATE_BYTES_MAX);
        let bytes = self.pool.http().fetch(request).await.map_err(|e| e.to_string())?;
        let template = BlockTemplate::parse(&bytes).map_err(|e| format!("{url}: {e}"))?;
        if template.height != work.height || template.header != work.header {
            return Err(format!("{url}: is not the template of work_{}.bin", work.height));
        }
        Ok(template)
    }
}
