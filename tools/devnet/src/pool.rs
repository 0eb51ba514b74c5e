//! The pool itself: every role started, restarted, stopped and counted.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use packetcrypt_core::bytes::CompactTarget;
use packetcrypt_net::{Shutdown, SystemClock};
use packetcrypt_node::{Node as _, NodeError};
use serde::Serialize;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::config::{Config, ConfigError};
use crate::guard::{SharedNetwork, require_private};
use crate::node::rpc::{Credentials, serve};
use crate::node::{BadPayee, EmbeddedNode, NodeConfig};
use crate::roles::Plan;
use crate::slot::{Slot, StopOnDrop, lives};
use crate::summary::Summary;

/// Target of the first block: about a quarter of a million hashes when 512 announcements of the
/// usual work are there. The chain adjusts from the second block on.
const FIRST_BITS: CompactTarget = CompactTarget(0x1e7f_ffff);
/// How long the last blocks may take at the end to the node, and the pay logs to the paymaker.
const SETTLE_MS_MAX: u64 = 20_000;
/// How long the node may take to give the first template.
const READY_MS_MAX: u64 = 30_000;
/// How long a role may take to stop.
const STOP_MS_MAX: u64 = 15_000;

/// A role that can be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The master.
    Master,
    /// The announcement handler of this number.
    AnnHandler(usize),
    /// The block handler.
    BlockHandler,
    /// The paymaker.
    Paymaker,
    /// The announcement miner.
    AnnMiner,
    /// The block miner.
    BlockMiner,
}

/// Why the pool did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting breaks a rule.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A directory or socket can not be had.
    #[error("{what}: {error}")]
    System {
        /// What was wanted.
        what: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// The embedded node.
    #[error("embedded node: {0}")]
    Payee(#[from] BadPayee),
    /// The node can not be used.
    #[error("node: {0}")]
    Node(#[from] NodeError),
    /// The node may be one of the main network.
    #[error(
        "{0}: it may be one of a network that others use. A development network tells its node to \
         pay invented addresses, of which nobody has the key; --yes-real-network does it all the same"
    )]
    SharedNetwork(#[from] SharedNetwork),
    /// A role did not start.
    #[error("{role}: {cause}")]
    Role {
        /// Its name.
        role: String,
        /// Why.
        cause: String,
    },
}

fn role_error(role: &str, cause: impl std::fmt::Display) -> StartError {
    StartError::Role { role: role.to_owned(), cause: cause.to_string() }
}

/// A pool at work. See the module documentation of the crate.
pub struct Pool {
    pub(crate) plan: Plan,
    node: Option<Arc<EmbeddedNode>>,
    master: Slot<packetcrypt_master::Running, packetcrypt_master::Stats>,
    block_handler: Slot<packetcrypt_blkhandler::Running, packetcrypt_blkhandler::Stats>,
    paymaker: Slot<packetcrypt_paymaker::Running, packetcrypt_paymaker::Stats>,
    ann_handlers: Vec<Slot<packetcrypt_handler::Running, packetcrypt_handler::Stats>>,
    ann_miner: Slot<packetcrypt_miner::Running, packetcrypt_miner::Stats>,
    block_miner: Slot<packetcrypt_blockminer::Running, packetcrypt_blockminer::Stats>,
    node_stop: StopOnDrop,
    started: Instant,
    /// Height of the chain at the start, on a real node.
    first_height: u32,
    /// Removed when the pool is dropped.
    _temporary: Option<TempDir>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("plan", &self.plan.dir).finish_non_exhaustive()
    }
}

/// What all lives of all roles counted so far.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PoolStats {
    /// Seconds since the start.
    pub seconds: f64,
    /// Height of the best block.
    pub height: u32,
    /// Blocks of this pool on the main chain.
    pub blocks: u32,
    /// Blocks of this pool that a reorganisation threw out.
    pub orphans: usize,
    /// The announcement miner, each life.
    pub ann_miner: Vec<packetcrypt_miner::Stats>,
    /// The announcement handlers, each life of each.
    pub ann_handlers: Vec<packetcrypt_handler::Stats>,
    /// The block miner, each life.
    pub block_miner: Vec<packetcrypt_blockminer::Stats>,
    /// The block handler, each life.
    pub block_handler: Vec<packetcrypt_blkhandler::Stats>,
    /// The paymaker, each life.
    pub paymaker: Vec<packetcrypt_paymaker::Stats>,
    /// The master, each life.
    pub master: Vec<packetcrypt_master::Stats>,
}

impl Pool {
    /// Starts everything. When the future is dropped, what had started is stopped.
    ///
    /// # Errors
    /// [`StartError`] with the role that did not start; what had started is stopped.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        config.validate()?;
        let (dir, temporary) = match &config.data_dir {
            Some(dir) => (dir.clone(), None),
            None => {
                let temporary = tempfile::Builder::new()
                    .prefix("packetcrypt-devnet-")
                    .tempdir()
                    .map_err(|error| StartError::System {
                        what: "temporary directory".to_owned(),
                        error,
                    })?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let ports = |error| StartError::System { what: "loopback ports".to_owned(), error };
        let plan = Plan::new(config, dir).map_err(ports)?;
        let node_stop = StopOnDrop(Shutdown::new());
        let node = match plan.config.node_url {
            Some(_) => None,
            None => Some(start_node(&plan, &node_stop.0).await?),
        };
        let first_height = match &node {
            Some(node) => node.with_chain(|chain| chain.tip().height),
            None => {
                let info = plan.node_client()?.info().await?;
                if !plan.config.any_network {
                    require_private(&info)?;
                }
                u32::try_from(info.blocks).unwrap_or(0)
            }
        };
        let master = start_master(&plan).await?;
        until_ready(&master).await?;
        let paymaker = start_paymaker(&plan).await?;
        let block_handler = start_block_handler(&plan).await?;
        let mut ann_handlers = Vec::new();
        for index in 0..plan.config.handlers {
            ann_handlers.push(start_ann_handler(&plan, index).await?);
        }
        let block_miner = start_block_miner(&plan).await?;
        let ann_miner = start_ann_miner(&plan).await?;
        Ok(Self {
            plan,
            node,
            master,
            block_handler,
            paymaker,
            ann_handlers,
            ann_miner,
            block_miner,
            node_stop,
            started: Instant::now(),
            first_height,
            _temporary: temporary,
        })
    }

    /// The embedded node; `None` when a real one is used.
    pub fn node(&self) -> Option<&Arc<EmbeddedNode>> {
        self.node.as_ref()
    }

    /// Directory of all roles.
    pub fn dir(&self) -> &Path {
        &self.plan.dir
    }

    /// Base URL of the master: what a miner is given.
    pub fn pool_url(&self) -> String {
        format!("http://{}", self.plan.master)
    }

    /// Addresses of the announcement handlers.
    pub fn ann_handler_addresses(&self) -> &[std::net::SocketAddr] {
        &self.plan.ann_handlers
    }

    /// Addresses of everything of the control plane that listens: master, block handler, paymaker.
    pub fn control_addresses(&self) -> [std::net::SocketAddr; 3] {
        [self.plan.master, self.plan.block_handler, self.plan.paymaker]
    }

    /// Shares that the block handler paid without a verdict of the node.
    pub fn shares_without_node(&self) -> u64 {
        self.block_handler_stats().iter().map(|s| s.accepted_without_node).sum()
    }

    /// Blocks of this pool on the main chain.
    pub fn blocks(&self) -> u32 {
        match &self.node {
            Some(node) => node.with_chain(|chain| {
                chain.main_from(self.first_height + 1).filter(|b| !b.is_placeholder()).count()
                    as u32
            }),
            None => self.block_handler_stats().iter().map(|s| s.blocks_taken as u32).sum(),
        }
    }

    /// All counters.
    pub fn stats(&self) -> PoolStats {
        let (height, orphans) = match &self.node {
            Some(node) => node.with_chain(|chain| (chain.tip().height, chain.orphans())),
            None => (self.first_height + self.blocks(), 0),
        };
        PoolStats {
            seconds: self.started.elapsed().as_secs_f64(),
            height,
            blocks: self.blocks(),
            orphans,
            ann_miner: lives(&self.ann_miner, packetcrypt_miner::Running::stats),
            ann_handlers: self
                .ann_handlers
                .iter()
                .flat_map(|slot| lives(slot, packetcrypt_handler::Running::stats))
                .collect(),
            block_miner: lives(&self.block_miner, packetcrypt_blockminer::Running::stats),
            block_handler: self.block_handler_stats(),
            paymaker: lives(&self.paymaker, packetcrypt_paymaker::Running::stats),
            master: lives(&self.master, packetcrypt_master::Running::stats),
        }
    }

    fn block_handler_stats(&self) -> Vec<packetcrypt_blkhandler::Stats> {
        lives(&self.block_handler, packetcrypt_blkhandler::Running::stats)
    }

    /// Payout maps that the paymaker sent, all lives.
    pub fn sent_maps(&self) -> Vec<Vec<(String, f64)>> {
        self.paymaker
            .past
            .iter()
            .cloned()
            .chain(self.paymaker.running.as_ref().map(packetcrypt_paymaker::Running::stats))
            .flat_map(|stats| stats.sent_maps)
            .map(|map| map.weights)
            .collect()
    }

    /// Stops a role as at the end of its process and starts it again on the same directory.
    ///
    /// # Errors
    /// [`StartError`] when it does not start again.
    pub async fn restart(&mut self, role: Role) -> Result<(), StartError> {
        match role {
            Role::Master => {
                let stats = stop_master(&mut self.master).await;
                let mut fresh = start_master(&self.plan).await?;
                fresh.past = stats;
                self.master = fresh;
            }
            Role::AnnHandler(index) => {
                let stats = stop_ann_handler(&mut self.ann_handlers[index]).await;
                let mut fresh = start_ann_handler(&self.plan, index).await?;
                fresh.past = stats;
                self.ann_handlers[index] = fresh;
            }
            Role::BlockHandler => {
                let stats = stop_block_handler(&mut self.block_handler).await;
                let mut fresh = start_block_handler(&self.plan).await?;
                fresh.past = stats;
                self.block_handler = fresh;
            }
            Role::Paymaker => {
                let stats = stop_paymaker(&mut self.paymaker).await;
                let mut fresh = start_paymaker(&self.plan).await?;
                fresh.past = stats;
                self.paymaker = fresh;
            }
            Role::AnnMiner => {
                let stats = stop_ann_miner(&mut self.ann_miner).await;
                let mut fresh = start_ann_miner(&self.plan).await?;
                fresh.past = stats;
                self.ann_miner = fresh;
            }
            Role::BlockMiner => {
                let stats = stop_block_miner(&mut self.block_miner).await;
                let mut fresh = start_block_miner(&self.plan).await?;
                fresh.past = stats;
                self.block_miner = fresh;
            }
        }
        Ok(())
    }

    /// Stops mining, lets everything under way arrive, checks, and stops the rest.
    pub async fn finish(mut self) -> Summary {
        self.ann_miner.past = stop_ann_miner(&mut self.ann_miner).await;
        self.block_miner.past = stop_block_miner(&mut self.block_miner).await;
        let stats = self.settle().await;
        for slot in &mut self.ann_handlers {
            slot.past = stop_ann_handler(slot).await;
        }
        self.block_handler.past = stop_block_handler(&mut self.block_handler).await;
        self.paymaker.past = stop_paymaker(&mut self.paymaker).await;
        self.master.past = stop_master(&mut self.master).await;
        // Not before: the paymaker may be sending a map, which the node has and it has not noted.
        let summary = Summary::of(&self, stats);
        self.node_stop.0.trigger();
        summary
    }

    /// Waits until nothing is under way any more; gives the counters of that moment, or those at the
    /// end of the time.
    async fn settle(&self) -> PoolStats {
        let end = Instant::now() + Duration::from_millis(SETTLE_MS_MAX);
        loop {
            let stats = self.stats();
            if stats.is_settled() || Instant::now() >= end {
                return stats;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl PoolStats {
    /// Payment events that handlers and block handler made durable, as their pay logs count them.
    pub fn events_logged(&self) -> u64 {
        let of_ann_handlers = self.ann_handlers.iter().filter_map(|s| s.pay_log.as_ref());
        let logs = of_ann_handlers.chain(self.block_handler.iter().map(|s| &s.pay_log));
        logs.map(|log| log.appended).sum()
    }

    /// Payment events that reached the paymaker.
    pub fn events_received(&self) -> u64 {
        self.paymaker.iter().map(|s| s.events.received).sum()
    }

    /// Whether the node has answered for every block, and every event has reached the paymaker.
    fn is_settled(&self) -> bool {
        // Blocks that wait when the block handler ends are taken up by its next life.
        self.block_handler.last().is_none_or(|life| life.blocks_pending == 0)
            && self.events_logged() == self.events_received()
    }
}

/// Waits for the first work, so that nobody is told "Server not ready" at the start.
async fn until_ready(
    master: &Slot<packetcrypt_master::Running, packetcrypt_master::Stats>,
) -> Result<(), StartError> {
    let end = Instant::now() + Duration::from_millis(READY_MS_MAX);
    while master.running.as_ref().is_none_or(|running| running.stats().works == 0) {
        if Instant::now() >= end {
            let cause = format!("no work from the node within {READY_MS_MAX} ms");
            return Err(role_error("master", cause));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

async fn start_node(plan: &Plan, shutdown: &Shutdown) -> Result<Arc<EmbeddedNode>, StartError> {
    let node = Arc::new(EmbeddedNode::new(NodeConfig {
        first_bits: FIRST_BITS,
        block_time_ms: plan.config.block_time_ms,
        seed: plan.config.seed,
        first_payee: plan.pool_address.clone(),
    })?);
    let listener = TcpListener::bind(plan.node).await.map_err(|error| StartError::System {
        what: format!("embedded node on {}", plan.node),
        error,
    })?;
    let credentials = Credentials { user: "devnet".to_owned(), password: plan.password.clone() };
    tokio::spawn(serve(listener, Arc::clone(&node), credentials, shutdown.clone()));
    Ok(node)
}

macro_rules! role {
    ($start:ident, $stop:ident, $package:ident, $name:literal, |$plan:ident, $shutdown:ident $(, $index:ident)?| $running:expr) => {
        async fn $start($plan: &Plan $(, $index: usize)?) -> Result<Slot<$package::Running, $package::Stats>, StartError> {
            let stop = StopOnDrop(Shutdown::new());
            let $shutdown = stop.0.clone();
            let running = $running.await.map_err(|e| role_error($name, e))?;
            Ok(Slot::new(running, stop))
        }

        /// Stops the role; gives the counters of all its lives.
        async fn $stop(slot: &mut Slot<$package::Running, $package::Stats>) -> Vec<$package::Stats> {
            let mut past = core::mem::take(&mut slot.past);
            if let Some(running) = slot.running.take() {
                slot.stop.0.trigger();
                let before = running.stats();
                let limit = Duration::from_millis(STOP_MS_MAX);
                past.push(match tokio::time::timeout(limit, running.finish()).await {
                    Ok(Ok(stats)) => stats,
                    Ok(Err(error)) => {
                        tracing::error!(role = $name, %error, "ended with an error");
                        before
                    }
                    Err(_) => {
                        tracing::error!(role = $name, limit_ms = STOP_MS_MAX, "does not stop");
                        before
                    }
                });
            }
            past
        }
    };
}

role!(start_master, stop_master, packetcrypt_master, "master", |plan, shutdown| {
    packetcrypt_master::start(plan.master_config(), plan.node_client()?, shutdown.clone())
});
role!(start_paymaker, stop_paymaker, packetcrypt_paymaker, "paymaker", |plan, shutdown| {
    let clock = Arc::new(SystemClock);
    packetcrypt_paymaker::start(
        plan.paymaker_config(),
        vec![plan.node_client()?],
        clock,
        shutdown.clone(),
    )
});
role!(
    start_block_handler,
    stop_block_handler,
    packetcrypt_blkhandler,
    "block handler",
    |plan, shutdown| {
        packetcrypt_blkhandler::start(
            plan.block_handler_config(),
            plan.node_client()?,
            shutdown.clone(),
        )
    }
);
role!(
    start_ann_handler,
    stop_ann_handler,
    packetcrypt_handler,
    "announcement handler",
    |plan, shutdown, index| {
        packetcrypt_handler::start(plan.ann_handler_config(index), shutdown.clone())
    }
);
role!(
    start_ann_miner,
    stop_ann_miner,
    packetcrypt_miner,
    "announcement miner",
    |plan, shutdown| { packetcrypt_miner::start(plan.ann_miner_config(), shutdown.clone()) }
);
role!(
    start_block_miner,
    stop_block_miner,
    packetcrypt_blockminer,
    "block miner",
    |plan, shutdown| { packetcrypt_blockminer::start(plan.block_miner_config(), shutdown.clone()) }
);
