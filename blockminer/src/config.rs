//! The block miner's configuration.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use packetcrypt_net::engine::EngineKind;
use packetcrypt_proto::address;
pub use packetcrypt_proto::settings::{ConfigError, Secret};
use packetcrypt_proto::settings::{connect_url, ensure};
use serde::{Deserialize, Serialize};

use crate::store::{self, Numa};

/// Mining threads and tree threads at most.
const THREADS_MAX: usize = 4096;
/// Uploaders and downloads at most.
const TASKS_MAX: usize = 1024;
/// Bytes of a sprayer record: a smaller segment carries none.
const RECORD_BYTES: usize = 1032;
/// Largest payload of a UDP datagram over IPv4, bytes.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// What the block miner is told. Keys of a file have the names of the fields.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Base URL of the pool's master: `config.json` and the work are below it. Required.
    pub pool_url: String,
    /// Address that is paid for shares. Required: there is no default.
    pub payment_address: String,
    /// Whether an address is taken that is none of the PKT main network. Off by default: such a
    /// share is not credited.
    pub any_address: bool,
    /// Mining threads; 0, the default, for one on each core.
    pub threads: usize,
    /// Threads that build trees, beside the mining ones; 0, the default, for as many as mine.
    pub tree_threads: usize,
    /// Memory for announcements in MiB, everything included
    /// ([`store::MEMORY_PER_ANNOUNCEMENT_BYTES`] each). Default 4096.
    pub memory_mib: u32,
    /// Part of the memory, 0 to 0.9, that is never mined with, so that there is always room for
    /// newer announcements. Default 0.1.
    pub min_free: f64,
    /// Whether to ask the system for huge pages. Default true; without them mining is slower.
    pub huge_pages: bool,
    /// A file in which the announcements outlive the process, so that a restarted miner goes on
    /// within seconds. Not used by default: announcements are in memory alone. Its length is that
    /// of the memory but for index and trees.
    pub arena_file: Option<PathBuf>,
    /// Where the memory for announcements comes from on a machine with several memory nodes:
    /// `default`, `interleave` (from all in turn), `replicate` (a copy for each node, which takes
    /// its memory in addition).
    pub numa: Numa,
    /// Whether mining threads stay on a CPU each, when there are not more of them than CPUs.
    /// Default true.
    pub pin_threads: bool,
    /// Part of the arriving announcements, 0 to 1, of which the proof is checked. Default 0.01.
    pub check_chance: f64,
    /// How long a peer that sent a bad announcement is dropped at first, s. Doubles each time.
    /// Default 120.
    pub drop_peer_s: u64,
    /// Whether to download announcements from the handlers by HTTP. Default true.
    pub download: bool,
    /// Handlers from which is downloaded at the same time, at most. Default 30.
    pub downloaders: usize,
    /// Connections to one handler. Default 2.
    pub download_connections: usize,
    /// Threads that download, hash and take in; 0, the default, for one in four cores.
    pub download_threads: usize,
    /// What downloads run on: `uring` (io_uring), `glommio` (io_uring), `epoll` or `auto`, the
    /// default: the first of these that works.
    pub engine: EngineKind,
    /// Handlers to download from beside those that the pool names, by their URL. None by default.
    pub handlers: Vec<String>,
    /// How long to wait before asking again for a handler's new announcements, ms. Default 500.
    pub download_poll_ms: u64,
    /// Announcements by UDP; not used by default.
    pub sprayer: Option<SprayerConfig>,
    /// Uploads of shares at the same time. Default 4.
    pub uploaders: usize,
    /// Time for one upload, s. Default 30.
    pub upload_timeout_s: u64,
    /// Shares that wait for an uploader; the oldest are dropped beyond. Default 1000.
    pub upload_queue_len: usize,
    /// How long shares for the block before the present one are still sent, ms. Default 5000.
    pub stale_grace_ms: u64,
    /// After this time a job is replaced by one with the announcements that came meanwhile, s.
    /// Default 300.
    pub job_age_max_s: u64,
    /// A job is replaced sooner when the announcements at hand are worth this factor more hashes.
    /// Default 1.2.
    pub job_gain: f64,
    /// But not before this time, ms. Default 2000.
    pub job_age_min_ms: u64,
    /// Address on which `/metrics` and `/stats.json` are served; not served by default.
    pub metrics_listen: Option<SocketAddr>,
    /// How often the statistics line is written to the log, s; 0 for never. Default 10.
    pub stats_interval_s: u64,
}

/// How announcements are received by UDP (spec 05, 7).
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SprayerConfig {
    /// Address and port to listen on.
    pub bind: SocketAddr,
    /// Peers to subscribe to; data from any other address is ignored.
    pub subscribe: Vec<SocketAddr>,
    /// Password of those peers.
    pub password: Secret,
    /// Receiving threads. Default 4.
    pub threads: usize,
    /// Largest segment in bytes. Default 1472.
    pub mss: usize,
    /// Multicast group to join instead of subscribing.
    pub mcast: Option<Ipv4Addr>,
}

impl Default for SprayerConfig {
    fn default() -> Self {
        SprayerConfig {
            bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            subscribe: Vec::new(),
            password: Secret::default(),
            threads: 4,
            mss: 1472,
            mcast: None,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            pool_url: String::new(),
            payment_address: String::new(),
            any_address: false,
            threads: 0,
            tree_threads: 0,
            memory_mib: 4096,
            min_free: 0.1,
            huge_pages: true,
            arena_file: None,
            numa: Numa::Default,
            pin_threads: true,
            check_chance: 0.01,
            drop_peer_s: 120,
            download: true,
            downloaders: 30,
            download_connections: 2,
            download_threads: 0,
            engine: EngineKind::Auto,
            handlers: Vec::new(),
            download_poll_ms: 500,
            sprayer: None,
            uploaders: 4,
            upload_timeout_s: 30,
            upload_queue_len: 1000,
            stale_grace_ms: 5000,
            job_age_max_s: 300,
            job_gain: 1.2,
            job_age_min_ms: 2000,
            metrics_listen: None,
            stats_interval_s: 10,
        }
    }
}

impl Config {
    /// Checks every value that has a rule.
    ///
    /// # Errors
    /// The first [`ConfigError`].
    pub fn validate(&self) -> Result<(), ConfigError> {
        connect_url("pool_url", &self.pool_url)?;
        self.validate_address()?;
        within("threads", self.threads, 0, THREADS_MAX)?;
        within("tree_threads", self.tree_threads, 0, THREADS_MAX)?;
        let slots = store::slots_for_memory(self.memory_mib);
        ensure("memory_mib", self.memory_mib, slots > 0, "must be at least 1")?;
        let free = (0.0..=0.9).contains(&self.min_free);
        ensure("min_free", self.min_free, free, "must be from 0 to 0.9")?;
        let chance = (0.0..=1.0).contains(&self.check_chance);
        ensure("check_chance", self.check_chance, chance, "must be from 0 to 1")?;
        within("downloaders", self.downloaders, 1, TASKS_MAX)?;
        within("download_connections", self.download_connections, 1, TASKS_MAX)?;
        within("download_threads", self.download_threads, 0, TASKS_MAX)?;
        for (index, url) in self.handlers.iter().enumerate() {
            connect_url(format!("handlers[{index}]"), url)?;
        }
        let poll = self.download_poll_ms >= 10;
        ensure("download_poll_ms", self.download_poll_ms, poll, "must be at least 10")?;
        within("uploaders", self.uploaders, 1, TASKS_MAX)?;
        ensure(
            "upload_timeout_s",
            self.upload_timeout_s,
            self.upload_timeout_s > 0,
            "must not be 0",
        )?;
        ensure(
            "upload_queue_len",
            self.upload_queue_len,
            self.upload_queue_len > 0,
            "must not be 0",
        )?;
        let gain = self.job_gain > 1.0 && self.job_gain.is_finite();
        ensure("job_gain", self.job_gain, gain, "must be above 1")?;
        self.sprayer.as_ref().map_or(Ok(()), SprayerConfig::validate)
    }

    fn validate_address(&self) -> Result<(), ConfigError> {
        let address = &self.payment_address;
        if self.any_address {
            let ok = !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_graphic());
            return ensure("payment_address", address, ok, "must not be empty or hold blanks");
        }
        let error = |error: address::AddressError| {
            ConfigError::new("payment_address", address, error.to_string())
        };
        address::check(address).map_err(error)
    }
}

impl SprayerConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let peers = !self.subscribe.is_empty();
        ensure("sprayer.subscribe", "[]", peers, "must name a peer: data from others is ignored")?;
        within("sprayer.threads", self.threads, 1, TASKS_MAX)?;
        within("sprayer.mss", self.mss, RECORD_BYTES, DATAGRAM_BYTES_MAX)?;
        let group = self.mcast.is_none_or(|group| group.is_multicast());
        let shown = self.mcast.map_or_else(String::new, |group| group.to_string());
        ensure("sprayer.mcast", shown, group, "must be a multicast address")
    }
}

fn within(key: &'static str, value: usize, least: usize, most: usize) -> Result<(), ConfigError> {
    let text = format!("must be from {least} to {most}");
    ensure(key, value, (least..=most).contains(&value), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The default address of the reference's miners.
    const ADDRESS: &str = "pkt1q6hqsqhqdgqfd8t3xwgceulu7k9d9w5t2amath0qxyfjlvl3s3u4sjza2g2";

    fn good() -> Config {
        let pool_url = "http://pool.example".to_owned();
        Config { pool_url, payment_address: ADDRESS.to_owned(), ..Config::default() }
    }

    fn broken(change: impl FnOnce(&mut Config)) -> String {
        let mut config = good();
        change(&mut config);
        config.validate().unwrap_err().key
    }

    #[test]
    fn defaults_are_good_but_for_pool_and_address() {
        assert_eq!(good().validate(), Ok(()));
        assert_eq!(Config::default().validate().unwrap_err().key, "pool_url");
        assert_eq!(broken(|config| config.payment_address.clear()), "payment_address");
    }

    #[test]
    fn addresses_are_checked_strictly_unless_told_otherwise() {
        let typing_error = ADDRESS.replace("6hq", "6hp");
        assert_eq!(
            broken(|config| config.payment_address = typing_error.clone()),
            "payment_address"
        );
        let config = Config { payment_address: typing_error, any_address: true, ..good() };
        assert_eq!(config.validate(), Ok(()));
        let blank = "a b".to_owned();
        let config = Config { payment_address: blank, any_address: true, ..good() };
        assert!(config.validate().is_err());
    }

    #[test]
    fn broken_rules_name_their_key() {
        assert_eq!(broken(|config| config.pool_url = "https://p".to_owned()), "pool_url");
        let tls = || vec!["http://h".to_owned(), "https://h".to_owned()];
        assert_eq!(broken(|config| config.handlers = tls()), "handlers[1]");
        assert_eq!(broken(|config| config.memory_mib = 0), "memory_mib");
        assert_eq!(broken(|config| config.min_free = 1.0), "min_free");
        assert_eq!(broken(|config| config.check_chance = f64::NAN), "check_chance");
        assert_eq!(broken(|config| config.uploaders = 0), "uploaders");
        assert_eq!(broken(|config| config.job_gain = 1.0), "job_gain");
        let sprayer = |change: fn(&mut SprayerConfig)| {
            let mut sprayer = SprayerConfig {
                subscribe: vec![SocketAddr::from(([127, 0, 0, 1], 9))],
                ..SprayerConfig::default()
            };
            change(&mut sprayer);
            broken(|config| config.sprayer = Some(sprayer))
        };
        assert_eq!(sprayer(|sprayer| sprayer.subscribe.clear()), "sprayer.subscribe");
        assert_eq!(sprayer(|sprayer| sprayer.mss = 1031), "sprayer.mss");
        assert_eq!(sprayer(|sprayer| sprayer.mcast = Some(Ipv4Addr::LOCALHOST)), "sprayer.mcast");
    }

    #[test]
    fn keys_are_those_of_the_fields_and_no_others() {
        let parsed: Config = serde_json::from_str(
            r#"{"pool_url":"http://p","memory_mib":64,"sprayer":{"bind":"0.0.0.0:7"}}"#,
        )
        .unwrap();
        assert_eq!(parsed.memory_mib, 64);
        assert_eq!(parsed.sprayer.unwrap().mss, 1472);
        assert!(serde_json::from_str::<Config>(r#"{"memory":64}"#).is_err());
    }
}
