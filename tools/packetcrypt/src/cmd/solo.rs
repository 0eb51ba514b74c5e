//! `packetcrypt blk --offline`: mines without a pool, for a node of one's own.
//!
//! Nothing is done in another way than in a pool: a master and a block handler on loopback make
//! works of the node's templates and blocks of shares, checked as any pool's. There is no paymaker:
//! the node is told to pay the miner's address alone.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use packetcrypt_blockminer::Config;
use packetcrypt_net::Shutdown;
use packetcrypt_node::{Node as _, RpcConfig, RpcNode};
use url::Url;

use crate::failure::Failure;

/// Names the node; no key of the configuration.
pub(crate) const NODE_VARIABLE: &str = "PACKETCRYPT_BLK_NODE";
/// How often the node is asked for news, ms.
const POLL_INTERVAL_MS: u64 = 250;
/// How long to wait before the node is told again whom to pay: a restarted node has forgotten it.
const PAY_EVERY: Duration = Duration::from_secs(60);

/// Options of mining without a pool.
#[derive(Args, Debug)]
pub(crate) struct Solo {
    /// Mine without a pool: needs --node; announcements come from --handler, sprayers and the
    /// arena file
    #[arg(long, requires = "node", conflicts_with = "pool")]
    offline: bool,
    /// The node to mine for
    #[arg(long, value_name = "http://USER:PASSWORD@HOST:PORT", env = NODE_VARIABLE)]
    #[arg(hide_env_values = true)]
    node: Option<String>,
    /// Where works, templates and blocks whose fate is not known are kept
    #[arg(long, value_name = "DIR", default_value = "./datastore/solo")]
    solo_dir: PathBuf,
    /// Where announcement miners and handlers find this miner's works [default: any port of
    /// loopback]
    #[arg(long, value_name = "ADDR:PORT")]
    solo_listen: Option<SocketAddr>,
}

/// A node and what serves its works.
pub(crate) struct Prepared {
    node: Arc<RpcNode>,
    master: SocketAddr,
    block_handler: SocketAddr,
    dir: PathBuf,
}

impl Solo {
    /// Whether there is no pool.
    pub(crate) fn is_wanted(&self) -> bool {
        self.offline
    }

    /// Finds addresses, and points the miner at them.
    pub(crate) fn prepare(&self, config: &mut Config) -> Result<Prepared, Failure> {
        let Some(node) = &self.node else { return Err(Failure::usage("--offline needs --node")) };
        let node = Arc::new(RpcNode::new(&rpc_config(node)?).map_err(Failure::usage)?);
        let master = match self.solo_listen {
            Some(addr) => addr,
            None => free_port()?,
        };
        config.pool_url = format!("http://{master}");
        Ok(Prepared { node, master, block_handler: free_port()?, dir: self.solo_dir.clone() })
    }
}

impl Prepared {
    /// Serves the works until the signal, while `mine` mines them.
    pub(crate) async fn run(
        self,
        config: &Config,
        shutdown: &Shutdown,
        mine: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        let Prepared { node, master, block_handler, dir } = self;
        pay(&node, &config.payment_address).await.map_err(Failure::failed)?;
        let works = master_config(config, master, block_handler, &dir);
        // What serves the miner ends after it: its last block must still be taken.
        let serving = Shutdown::new();
        let works = packetcrypt_master::start(works, node.clone(), serving.clone());
        let works = works.await.map_err(Failure::failed)?;
        let blocks = packetcrypt_blkhandler::Config {
            listen: block_handler,
            public_url: format!("http://{block_handler}"),
            master_url: format!("http://{master}"),
            dir: dir.join("blocks"),
            poll_interval_ms: POLL_INTERVAL_MS,
            ..packetcrypt_blkhandler::Config::default()
        };
        let blocks = packetcrypt_blkhandler::start(blocks, node.clone(), serving.clone());
        let blocks = blocks.await.map_err(Failure::failed)?;
        let keep_paid = keep_paid(node, config.payment_address.clone(), shutdown.clone());
        let mine = async {
            let mined = mine.await;
            // It may have ended by itself.
            shutdown.trigger();
            mined
        };
        let (mined, ()) = tokio::join!(mine, keep_paid);
        serving.trigger();
        let blocks = blocks.finish().await.map_err(Failure::failed)?;
        works.join().await.map_err(Failure::failed)?;
        tracing::info!("solo: {} blocks were taken by the node", blocks.blocks_taken);
        mined
    }
}

fn master_config(
    config: &Config,
    master: SocketAddr,
    block_handler: SocketAddr,
    dir: &Path,
) -> packetcrypt_master::Config {
    packetcrypt_master::Config {
        listen: master,
        master_url: format!("http://{master}"),
        dir: dir.join("works"),
        ann_handlers: config.handlers.iter().map(|url| url.as_str().into()).collect(),
        blk_handlers: vec![format!("http://{block_handler}").as_str().into()],
        paymaker_url: String::new(),
        // Shares pay nobody here: only blocks are sent.
        share_work_divisor: 1.0,
        poll_interval_ms: POLL_INTERVAL_MS,
        ..packetcrypt_master::Config::default()
    }
}

async fn pay(node: &RpcNode, address: &str) -> Result<(), packetcrypt_node::NodeError> {
    node.configure_mining_payouts(&[(address.to_owned(), 1.0)]).await
}

async fn keep_paid(node: Arc<RpcNode>, address: String, shutdown: Shutdown) {
    while shutdown.sleep(PAY_EVERY).await {
        if let Err(error) = pay(&node, &address).await {
            tracing::warn!("solo: the node was not told whom to pay: {error}");
        }
    }
}

/// The client of a node with name and password in its URL.
fn rpc_config(text: &str) -> Result<RpcConfig, Failure> {
    let mut url = Url::parse(text).map_err(|error| Failure::usage(format!("--node: {error}")))?;
    let (user, password) =
        (url.username().to_owned(), url.password().unwrap_or_default().to_owned());
    // A URL that takes a host takes these.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let urls = vec![url.as_str().trim_end_matches('/').to_owned()];
    Ok(RpcConfig { urls, user, password, ..RpcConfig::default() })
}

fn free_port() -> Result<SocketAddr, Failure> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
    port.map_err(|error| Failure::failed(format!("a port of loopback: {error}")))
}

#[cfg(test)]
mod tests {

    use packetcrypt_devnet::node::rpc::{Credentials, serve};
    use packetcrypt_devnet::{Config as DevnetConfig, Pool};

    use super::*;

    #[test]
    fn name_and_password_are_no_part_of_the_url() {
        let rpc = rpc_config("http://u:p@127.0.0.1:64765").unwrap();
        assert_eq!((rpc.user.as_str(), rpc.password.as_str()), ("u", "p"));
        assert_eq!(rpc.urls, ["http://127.0.0.1:64765"]);
        assert!(rpc_config("nonsense").is_err());
    }

    /// A pool makes announcements and blocks; this miner takes the announcements from the pool's
    /// handler and mines for the same node, without the pool.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn blocks_are_mined_without_a_pool() {
        let config = DevnetConfig { seed: 77, block_time_ms: 1_500, ..DevnetConfig::default() };
        let pool = Pool::start(config).await.expect("the pool starts");
        let node = Arc::clone(pool.node().expect("an embedded node"));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://u:p@{}", listener.local_addr().unwrap());
        let shutdown = Shutdown::new();
        let credentials = Credentials { user: "u".to_owned(), password: "p".to_owned() };
        tokio::spawn(serve(listener, node.clone(), credentials, shutdown.clone()));
        let dir = tempfile::tempdir().unwrap();
        let solo = Solo {
            offline: true,
            node: Some(url),
            solo_dir: dir.path().to_owned(),
            solo_listen: None,
        };
        let address = "pkt1q6hqsqhqdgqfd8t3xwgceulu7k9d9w5t2amath0qxyfjlvl3s3u4sjza2g2";
        let handlers = pool.ann_handler_addresses().iter().map(|addr| format!("http://{addr}"));
        let mut config = Config {
            payment_address: address.to_owned(),
            threads: 1,
            memory_mib: 64,
            huge_pages: false,
            job_age_min_ms: 500,
            handlers: handlers.collect(),
            ..Config::default()
        };
        let prepared = solo.prepare(&mut config).unwrap();
        let (mining, stop) = (config.clone(), shutdown.clone());
        let mine = async move {
            let miner = packetcrypt_blockminer::start(mining, stop.clone()).await.unwrap();
            let end = std::time::Instant::now() + Duration::from_secs(120);
            while miner.stats().shares.blocks == 0 {
                assert!(std::time::Instant::now() < end, "{:#?}", miner.stats());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            stop.trigger();
            let stats = miner.finish().await.unwrap();
            assert!(stats.shares.is_conserved(), "{:?}", stats.shares);
            Ok(())
        };
        prepared.run(&config, &shutdown, mine).await.unwrap();
        let told = |payouts: &packetcrypt_devnet::node::Payouts| {
            payouts.payees.len() == 1 && payouts.payees[0].address == address
        };
        assert!(node.payouts().iter().any(told), "the node was told whom to pay");
        drop(pool);
    }
}
