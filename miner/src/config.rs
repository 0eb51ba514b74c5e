//! What the announcement miner can be told, with the bounds of each value.

use core::fmt;

use packetcrypt_core::Backend;
use packetcrypt_jit::{Executor, require};
use packetcrypt_proto::address;
pub use packetcrypt_proto::settings::ConfigError;
use packetcrypt_proto::settings::{by_name, connect_url};
use serde::{Deserialize, Serialize};

pub use crate::sharing::TableSharing;

/// Settings of one announcement miner.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Base URLs of the pools. The first one that is alive decides what is mined; every
    /// announcement is offered to all of them.
    pub pools: Vec<String>,
    /// Who is paid. There is no default: an announcement for nobody is lost work.
    pub payment_address: String,
    /// Mining threads; 0 = one for each processor.
    pub threads: usize,
    /// Processors to pin the threads to, e.g. `0-3,8`; empty = to one each where there are as many
    /// threads as processors, else not pinned.
    pub cpus: String,
    /// Uploads in progress to one handler at the most.
    pub uploaders: usize,
    /// Seconds until an upload without an answer is given up.
    pub upload_timeout_s: u64,
    /// How many blocks below the tip to work; -1 = as the pool says.
    pub mine_old_anns: i64,
    /// Batches that wait for one handler at the most; then the oldest is dropped and counted.
    pub queue_len_max: usize,
    /// Milliseconds after which a batch is sent although it is not full.
    pub batch_age_ms_max: u64,
    /// Seconds between two statistics lines; 0 = none.
    pub stats_interval_s: u64,
    /// Whether threads search tables of their own, 9 MiB each, or two for all threads of a
    /// last-level cache: `own`, `shared`, or `auto`, shared where pinned threads would overfill it.
    pub table: TableSharing,
    /// Scheduling priority of the mining threads as of nice(1), 0..=19.
    pub nice: u8,
    /// What runs random programs: `jit`, `lanes` or `interpreter`; absent = the best.
    #[serde(with = "by_name")]
    pub executor: Option<Executor>,
    /// Instruction set: `avx512`, `avx2`, `neon` or `soft`; absent = the best of the machine.
    #[serde(with = "by_name")]
    pub backend: Option<Backend>,
    /// Where `/metrics` and `/stats.json` are served; absent = nowhere.
    pub metrics_listen: Option<std::net::SocketAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pools: Vec::new(),
            payment_address: String::new(),
            threads: 0,
            cpus: String::new(),
            uploaders: 10,
            upload_timeout_s: 30,
            mine_old_anns: -1,
            queue_len_max: 100,
            batch_age_ms_max: 10_000,
            stats_interval_s: 10,
            table: TableSharing::Auto,
            nice: 0,
            executor: None,
            backend: None,
            metrics_listen: None,
        }
    }
}

impl Config {
    /// Checks every value against its rule.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let broken = |key: &str, value: &dyn fmt::Display, rule: &str| {
            Err(ConfigError::new(key, value, rule))
        };
        if self.payment_address.is_empty() {
            return broken("payment_address", &"", "an address to be paid at must be given");
        }
        if let Err(reason) = address::check(&self.payment_address) {
            let rule = format!("must be an address of the PKT network: {reason}");
            return broken("payment_address", &self.payment_address, &rule);
        }
        if self.pools.is_empty() {
            return broken("pools", &"", "at least one pool URL must be given");
        }
        for pool in &self.pools {
            connect_url("pools", pool)?;
        }
        if self.threads > THREADS_MAX {
            return broken("threads", &self.threads, "at most 4096");
        }
        if self.uploaders == 0 || self.uploaders > 1000 {
            return broken("uploaders", &self.uploaders, "1 to 1000");
        }
        if self.upload_timeout_s == 0 || self.upload_timeout_s > 3600 {
            return broken("upload_timeout_s", &self.upload_timeout_s, "1 to 3600 seconds");
        }
        if !(-1..=i64::from(u32::MAX)).contains(&self.mine_old_anns) {
            return broken("mine_old_anns", &self.mine_old_anns, "-1 or a number of blocks");
        }
        if self.queue_len_max == 0 || self.queue_len_max > 100_000 {
            return broken("queue_len_max", &self.queue_len_max, "1 to 100000 batches");
        }
        if !(10..=600_000).contains(&self.batch_age_ms_max) {
            return broken("batch_age_ms_max", &self.batch_age_ms_max, "10 to 600000 milliseconds");
        }
        if self.nice > 19 {
            return broken("nice", &self.nice, "0 to 19");
        }
        require(self.executor, self.backend).or_else(|error| {
            let (key, name) = error.asked();
            broken(key, &name, &error.to_string())
        })
    }
}

/// No machine has more processors; a larger number is a typing error.
const THREADS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_urls() {
        let with_pool = |pool: &str| Config {
            pools: vec![pool.to_owned()],
            payment_address: "pkt1q6hqsqhqdgqfd8t3xwgceulu7k9d9w5t2amath0qxyfjlvl3s3u4sjza2g2"
                .to_owned(),
            ..Config::default()
        };
        for good in ["http://pool.example", "http://10.0.0.1:8080/pfx/", "http://[::1]:80"] {
            assert_eq!(with_pool(good).validate(), Ok(()), "{good}");
        }
        for bad in ["pool.example", "http://", "http:///x", "https://p", "http://a b", ""] {
            assert_eq!(with_pool(bad).validate().unwrap_err().key, "pools", "{bad}");
        }
    }
}
