//! The pools that announcements are offered to, and which of them decides what is mined.
//!
//! One task owns all of it: updates of the pools, announcements of the mining threads and the
//! clock arrive one after the other, so nothing here needs a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use packetcrypt_core::announcement::{Announcement, Request};
use packetcrypt_net::Shutdown;
use packetcrypt_net::client::{ClientError, HttpClient};
use packetcrypt_net::pool_client::{PoolClient, PoolOptions, PoolUpdate};
use packetcrypt_proto::config::MasterConfig;

use crate::batch::OpenBatches;
use crate::config::Config;
use crate::stats::PoolCounters;
use crate::upload::{HandlerQueue, UploadContext};
use crate::work::RecentBlocks;

/// One pool.
pub(crate) struct Pool {
    pub(crate) client: PoolClient,
    pub(crate) counters: Arc<PoolCounters>,
    context: Arc<UploadContext>,
    blocks: RecentBlocks,
    config: Option<Arc<MasterConfig>>,
    handlers: Vec<(Arc<HandlerQueue>, OpenBatches)>,
    uploaders: usize,
}

impl Pool {
    pub(crate) fn start(
        url: &str,
        config: &Config,
        http: &HttpClient,
        shutdown: &Shutdown,
    ) -> Result<Self, ClientError> {
        let counters = Arc::new(PoolCounters::new(url));
        Ok(Self {
            client: PoolClient::start(url, PoolOptions::default(), shutdown)?,
            context: Arc::new(UploadContext {
                http: http.clone(),
                pay_to: config.payment_address.clone(),
                timeout_ms: config.upload_timeout_s * 1000,
                queue_len_max: config.queue_len_max,
                counters: Arc::clone(&counters),
                tip_height: AtomicU32::new(0),
                shutdown: shutdown.clone(),
            }),
            counters,
            blocks: RecentBlocks::default(),
            config: None,
            handlers: Vec::new(),
            uploaders: config.uploaders,
        })
    }

    /// Takes in what the pool published.
    pub(crate) fn update(&mut self, update: &PoolUpdate) {
        for block in &update.new_blocks {
            self.blocks.insert(Arc::clone(block));
        }
        let tip = u32::try_from(update.config.current_height - 1).unwrap_or(0);
        self.context.tip_height.store(tip, Relaxed);
        self.config = Some(Arc::clone(&update.config));
        self.follow_handlers(&update.config.submit_ann_urls);
    }

    /// Makes the handlers those of the list, in its order: the order decides who owns what.
    fn follow_handlers(&mut self, urls: &[String]) {
        let same = self.handlers.len() == urls.len()
            && self.handlers.iter().zip(urls).all(|((queue, _), url)| queue.url() == url);
        if same {
            return;
        }
        let mut old = core::mem::take(&mut self.handlers);
        for url in urls {
            let known = old.iter().position(|(queue, _)| queue.url() == url);
            self.handlers.push(match known {
                Some(at) => old.swap_remove(at),
                None => {
                    let queue = HandlerQueue::start(url, self.uploaders, &self.context);
                    (queue, OpenBatches::default())
                }
            });
        }
        for (queue, mut open) in old {
            tracing::info!(handler = queue.url(), "handler left the pool's list");
            let waiting: u64 = open.take_all().iter().map(|b| b.len() as u64).sum();
            self.counters.update(|c| {
                c.waiting -= waiting;
                c.failed += waiting;
            });
            queue.close(&self.context);
        }
    }

    /// What this pool wants to be mined.
    pub(crate) fn request(&self, mine_old: Option<u32>) -> Result<Request, String> {
        let config = self.config.as_ref().ok_or("the pool has not answered yet")?;
        self.blocks.request(config, mine_old).map_err(|e| e.to_string())
    }

    /// Puts an announcement into the batch of the handler that owns it (spec 05, 6.2: sver 1).
    pub(crate) fn offer(&mut self, announcement: &Announcement, key: u64, now: Instant) {
        if self.handlers.is_empty() {
            self.counters.update(|c| {
                c.offered += 1;
                c.failed += 1;
            });
            return;
        }
        let owner = (key % self.handlers.len() as u64) as usize;
        let (queue, open) = &mut self.handlers[owner];
        let full = open.push(announcement, now);
        self.counters.update(|c| {
            c.offered += 1;
            c.waiting += 1;
        });
        if let Some(batch) = full {
            let len = batch.len() as u64;
            self.counters.update(|c| c.waiting -= len);
            queue.push(batch, &self.context);
        }
    }

    /// Sends the batches that are old enough; all of them at the end.
    pub(crate) fn flush(&mut self, now: Instant, age_max: Duration) {
        for (queue, open) in &mut self.handlers {
            let due = if age_max.is_zero() { open.take_all() } else { open.take_due(now, age_max) };
            for batch in due {
                let len = batch.len() as u64;
                self.counters.update(|c| c.waiting -= len);
                queue.push(batch, &self.context);
            }
        }
    }

    /// Whether nothing waits or is under way any more.
    pub(crate) fn is_drained(&self) -> bool {
        let counters = self.counters.snapshot();
        counters.waiting + counters.queued + counters.uploading == 0
            && self.handlers.iter().all(|(queue, _)| queue.is_empty())
    }

    /// Ends all uploads; what was not delivered is counted as failed.
    pub(crate) fn close(&mut self) {
        for (queue, mut open) in self.handlers.drain(..) {
            let waiting: u64 = open.take_all().iter().map(|b| b.len() as u64).sum();
            self.counters.update(|c| {
                c.waiting -= waiting;
                c.failed += waiting;
            });
            queue.close(&self.context);
        }
    }
}

/// Which pool decides, and what is mined.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Lead {
    /// This pool, this job.
    Mine(usize, Box<Request>),
    /// Nobody, for this reason.
    Idle(String),
}

/// The first pool that is alive and has a job leads (users expect fail-over: mining goes on when
/// the first pool dies, and returns to it when it comes back).
pub(crate) fn choose_lead(pools: &[Pool], mine_old: Option<u32>) -> Lead {
    let mut reasons = Vec::new();
    for (index, pool) in pools.iter().enumerate() {
        if !pool.client.status().connected {
            reasons.push(format!("{}: not connected", pool.counters.snapshot().url));
            continue;
        }
        match pool.request(mine_old) {
            Ok(request) => return Lead::Mine(index, Box::new(request)),
            Err(reason) => reasons.push(format!("{}: {reason}", pool.counters.snapshot().url)),
        }
    }
    Lead::Idle(reasons.join("; "))
}
