//! The configuration of every role of the development network, and their addresses.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use packetcrypt_core::primitives::dsha256;
use packetcrypt_net::engine::ReservedPort;
use packetcrypt_node::{NodeError, RpcConfig, RpcNode};
use packetcrypt_proto::address;

use crate::config::Config;
use crate::ports;

/// How often the paymaker tells the node who is paid, seconds.
const UPDATE_CYCLE_S: f64 = 2.0;
/// Size of the payment windows. So small that they are filled by the work of a few blocks: then the
/// miners are paid in full from the first minute on, which in a real pool takes days.
const PPLNS_CONSTANT_X: f64 = 0.002;
/// How often pay logs are switched and so uploaded, milliseconds.
const PAY_LOG_SWITCH_MS: u64 = 1_000;
/// How long an announcement waits for its batch to become full, milliseconds.
const BATCH_AGE_MS: u64 = 500;
/// Shares are this many times less work than blocks, before the cube of spec 04, 2.2.
const SHARE_WORK_DIVISOR: f64 = 2.0;

/// Where everything is and who is paid.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) config: Config,
    pub(crate) dir: PathBuf,
    /// What keeps the TCP ports for the roles.
    _ports: Arc<Vec<ReservedPort>>,
    /// Password of the paymaker's events and, on the embedded node, of the RPC.
    pub(crate) password: String,
    pub(crate) node: SocketAddr,
    pub(crate) master: SocketAddr,
    pub(crate) paymaker: SocketAddr,
    pub(crate) block_handler: SocketAddr,
    pub(crate) ann_handlers: Vec<SocketAddr>,
    pub(crate) sprayers: Vec<SocketAddr>,
    pub(crate) block_miner_sprayer: SocketAddr,
    pub(crate) ann_miner_address: String,
    pub(crate) block_miner_address: String,
    /// Paid by the node until the paymaker says otherwise.
    pub(crate) pool_address: String,
}

impl Plan {
    pub(crate) fn new(config: Config, dir: PathBuf) -> std::io::Result<Self> {
        let ports = ports::tcp(4 + config.handlers)?;
        let mut tcp = ports.iter().map(ReservedPort::addr);
        let mut udp = ports::udp(1 + config.handlers)?.into_iter();
        let mut next = || tcp.next().ok_or_else(|| std::io::Error::other("no port"));
        let seed = config.seed;
        Ok(Self {
            password: hex::encode(rand::random::<[u8; 16]>()),
            node: next()?,
            master: next()?,
            paymaker: next()?,
            block_handler: next()?,
            ann_handlers: (0..config.handlers).map(|_| next()).collect::<Result<_, _>>()?,
            block_miner_sprayer: udp.next().ok_or_else(|| std::io::Error::other("no port"))?,
            sprayers: udp.collect(),
            ann_miner_address: invented_address(seed, "announcement miner"),
            block_miner_address: invented_address(seed, "block miner"),
            pool_address: invented_address(seed, "pool"),
            _ports: Arc::new(ports),
            config,
            dir,
        })
    }

    /// A client of the node; each role has its own, as if it were a process of its own.
    pub(crate) fn node_client(&self) -> Result<RpcNode, NodeError> {
        let embedded = || RpcConfig {
            urls: vec![http(self.node)],
            user: "devnet".to_owned(),
            password: self.password.clone(),
            connect_ms_max: 2_000,
            call_ms_max: 20_000,
            ..RpcConfig::default()
        };
        let Some(url) = &self.config.node_url else { return RpcNode::new(&embedded()) };
        let (user, password, url) = split_credentials(url);
        RpcNode::new(&RpcConfig { urls: vec![url], user, password, ..RpcConfig::default() })
    }

    pub(crate) fn master_config(&self) -> packetcrypt_master::Config {
        packetcrypt_master::Config {
            listen: self.master,
            master_url: http(self.master),
            dir: self.dir.join("master"),
            ann_handlers: self.ann_handlers.iter().map(|a| http(*a).as_str().into()).collect(),
            blk_handlers: vec![http(self.block_handler).as_str().into()],
            paymaker_url: http(self.paymaker),
            ann_target: self.config.ann_target().0,
            share_work_divisor: SHARE_WORK_DIVISOR,
            poll_interval_ms: 200,
            // Less than a height lasts, so that every run has refreshed works.
            template_refresh_ms: 1_000,
            ..packetcrypt_master::Config::default()
        }
    }

    pub(crate) fn block_handler_config(&self) -> packetcrypt_blkhandler::Config {
        packetcrypt_blkhandler::Config {
            listen: self.block_handler,
            public_url: http(self.block_handler),
            master_url: http(self.master),
            dir: self.dir.join("block-handler"),
            paymaker_http_password: packetcrypt_blkhandler::Secret::new(&self.password),
            pay_log_switch_ms: PAY_LOG_SWITCH_MS,
            ..packetcrypt_blkhandler::Config::default()
        }
    }

    pub(crate) fn paymaker_config(&self) -> packetcrypt_paymaker::Config {
        packetcrypt_paymaker::Config {
            listen: self.paymaker,
            url: http(self.paymaker),
            dir: self.dir.join("paymaker"),
            paymaker_http_password: packetcrypt_paymaker::Secret::new(&self.password),
            update_cycle_s: UPDATE_CYCLE_S,
            default_address: self.pool_address.clone(),
            error_address: self.pool_address.clone(),
            pplns_ann_constant_x: PPLNS_CONSTANT_X,
            pplns_blk_constant_x: PPLNS_CONSTANT_X,
            pool_fee: Some(0.02),
            pool_fee_address: self.pool_address.clone(),
            ..packetcrypt_paymaker::Config::default()
        }
    }

    pub(crate) fn ann_handler_config(&self, index: usize) -> packetcrypt_handler::Config {
        packetcrypt_handler::Config {
            master_url: http(self.master),
            root_workdir: self.dir.join(format!("ann-handler-{index}")),
            paymaker_http_password: self.password.as_str().into(),
            public_url: format!("{}/submit", http(self.ann_handlers[index])),
            bind_pub: self.ann_handlers[index],
            bind_pvt: Some(self.sprayers[index]),
            block_miner_passwd: self.password.as_str().into(),
            num_workers: 1,
            io_threads: 1,
            files_to_keep: 16,
            file_anns: 4096,
            dedup_capacity: 1 << 18,
            pay_log_switch_ms: PAY_LOG_SWITCH_MS,
            ..packetcrypt_handler::Config::default()
        }
    }

    pub(crate) fn ann_miner_config(&self) -> packetcrypt_miner::Config {
        packetcrypt_miner::Config {
            pools: vec![http(self.master)],
            payment_address: self.ann_miner_address.clone(),
            threads: self.config.ann_threads,
            batch_age_ms_max: BATCH_AGE_MS,
            stats_interval_s: 0,
            ..packetcrypt_miner::Config::default()
        }
    }

    pub(crate) fn block_miner_config(&self) -> packetcrypt_blockminer::Config {
        packetcrypt_blockminer::Config {
            pool_url: http(self.master),
            payment_address: self.block_miner_address.clone(),
            threads: self.config.block_threads,
            tree_threads: 1,
            memory_mib: self.config.memory_mib,
            // A restarted block miner finds its announcements again.
            arena_file: Some(self.dir.join("block-miner").join("arena")),
            huge_pages: false,
            stats_interval_s: 0,
            job_age_min_ms: 1_000,
            sprayer: Some(packetcrypt_blockminer::SprayerConfig {
                bind: self.block_miner_sprayer,
                subscribe: self.sprayers.clone(),
                password: self.password.as_str().into(),
                threads: 1,
                ..packetcrypt_blockminer::SprayerConfig::default()
            }),
            ..packetcrypt_blockminer::Config::default()
        }
    }
}

fn http(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// An address nobody has the key of, from the seed and a name.
fn invented_address(seed: u64, name: &str) -> String {
    let hash = dsha256(&[&seed.to_le_bytes(), name.as_bytes()].concat());
    let script = [&[0x00, 0x14], &hash.0[..20]].concat();
    address::of_script(&script).expect("a program of 20 bytes has an address")
}

/// User, password and the URL without them.
fn split_credentials(url: &str) -> (String, String, String) {
    let Some((scheme, rest)) = url.split_once("://") else {
        return (String::new(), String::new(), url.to_owned());
    };
    let Some((credentials, host)) = rest.rsplit_once('@') else {
        return (String::new(), String::new(), url.to_owned());
    };
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    (user.to_owned(), password.to_owned(), format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_taken_out_of_a_node_url() {
        let split = split_credentials("http://u:p:q@127.0.0.1:64513");
        assert_eq!(split, ("u".to_owned(), "p:q".to_owned(), "http://127.0.0.1:64513".to_owned()));
        assert_eq!(split_credentials("http://h:1").2, "http://h:1");
    }

    #[test]
    fn invented_addresses_are_good_and_differ() {
        let a = invented_address(1, "pool");
        assert_eq!(address::check(&a), Ok(()));
        assert_ne!(a, invented_address(2, "pool"));
        assert_ne!(a, invented_address(1, "block miner"));
    }
}
