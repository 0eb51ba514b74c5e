//! Configuration: the keys of `[ann_handler.<name>]` (spec 05, 13) and ours.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use packetcrypt_core::Backend;
use packetcrypt_jit::{Executor, require};
use packetcrypt_net::engine::EngineKind;
use packetcrypt_proto::anns_index::FILES_LEN_MAX;
pub use packetcrypt_proto::settings::{ConfigError, Secret};
use packetcrypt_proto::settings::{by_name, connect_url, ensure, published_url};
use serde::{Deserialize, Serialize};

use crate::dedup;
use crate::overload::{Limits, PROOF_COST};

/// Everything that a handler is told.
///
/// `master_url`, `root_workdir` and `paymaker_http_password` stand at the top of the pool's file;
/// who reads it fills them in.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Base URL of the master. Must be set.
    pub master_url: String,
    /// Directory under which `ah/` holds announcement files and pay log. Must be set; two
    /// handlers must not share it.
    pub root_workdir: PathBuf,
    /// Password of the paymaker's `/events`. Default empty.
    pub paymaker_http_password: Secret,

    /// Full upload URL of this handler with `/submit`, exactly as in the master's `submitAnnUrls`.
    /// Must be set.
    pub public_url: String,
    /// Address on which miners post and block miners download. Must be set.
    pub bind_pub: SocketAddr,
    /// UDP address of the sprayer. Default none: no sprayer.
    pub bind_pvt: Option<SocketAddr>,
    /// Password of sprayer subscriptions. Default empty: then only `subscribers_allow`, or this
    /// machine.
    pub block_miner_passwd: Secret,
    /// Addresses that may subscribe to the sprayer. Default empty: everybody with the password.
    pub subscribers_allow: Vec<IpAddr>,
    /// Addresses that may download announcement files. Default empty: everybody, also another pool.
    pub downloaders_allow: Vec<IpAddr>,
    /// Part of the announcements whose proof is not checked, 0 to 1. Default 0: all are checked.
    pub skip_check_chance: f64,
    /// Threads that check proofs. Default 0: one a core.
    pub num_workers: usize,
    /// What runs random programs: `jit`, `lanes` or `interpreter`. Default none: the best.
    #[serde(with = "by_name")]
    pub executor: Option<Executor>,
    /// Instruction set: `avx512`, `avx2`, `neon` or `soft`. Default none: the best of the machine.
    #[serde(with = "by_name")]
    pub backend: Option<Backend>,
    /// Posts that wait for a worker; one more is answered 503 `overloaded`. Default 256.
    pub input_queue_len: usize,
    /// Threads of the sprayer. Default 1.
    pub spray_workers: usize,
    /// Sprayers to subscribe to; what they send is relayed. Default none.
    pub subscribe_to: Vec<SocketAddr>,
    /// Addresses that always get all announcements. Default none.
    pub spray_at: Vec<SocketAddr>,
    /// Greatest UDP payload, bytes. Default 1472.
    pub mss: usize,
    /// Announcement files that are kept for download and for the time after a crash. They must
    /// hold the announcements of six blocks. Default 256.
    pub files_to_keep: usize,

    /// Announcements in a file. Default 16384: 16 MiB.
    pub file_anns: u32,
    /// Known announcements for each parent block; one more is answered 503 `overloaded`.
    /// 18 to 36 bytes each, for six blocks. Default 1048576.
    pub dedup_capacity: usize,
    /// Announcements in one post. Default 4096; miners send at most 1024.
    pub post_anns_max: usize,
    /// Memory for bodies that are received, wait or are checked, MiB; a post that does not fit
    /// is answered 503 `overloaded`. Default 128.
    pub body_memory_mib: usize,
    /// The part of it that the posts of one address may take, MiB; those of `allow` take what they
    /// need. Default 32.
    pub body_memory_per_source_mib: usize,
    /// Threads that receive and send. Default 0: one a core.
    pub io_threads: usize,
    /// What they run on: `uring` (io_uring), `glommio` (io_uring), `epoll` or `auto`, the default:
    /// the first of these that works.
    pub engine: EngineKind,
    /// Open connections. Default 20000.
    pub connections_max: usize,
    /// Open connections from one address. Default 1024.
    pub connections_per_source_max: usize,
    /// Greatest refused part of the work of one address; 1 turns nobody away. Default 0.5.
    pub invalid_ratio_max: f64,
    /// Wrong proofs that an address may send before the ratio counts. Default 256.
    pub invalid_free_proofs: u64,
    /// Addresses that are never turned away for invalid work. Default none.
    pub allow: Vec<IpAddr>,
    /// How often the pay log is switched to a new file and the old one uploaded, ms.
    /// Default 60000.
    pub pay_log_switch_ms: u64,
    /// Where `/metrics` and `/stats.json` are served. Default none: off.
    pub metrics_listen: Option<SocketAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            master_url: String::new(),
            root_workdir: PathBuf::new(),
            paymaker_http_password: Secret::default(),
            public_url: String::new(),
            bind_pub: SocketAddr::from(([0, 0, 0, 0], 0)),
            bind_pvt: None,
            block_miner_passwd: Secret::default(),
            subscribers_allow: Vec::new(),
            downloaders_allow: Vec::new(),
            skip_check_chance: 0.0,
            num_workers: 0,
            executor: None,
            backend: None,
            input_queue_len: 256,
            spray_workers: 1,
            subscribe_to: Vec::new(),
            spray_at: Vec::new(),
            mss: 1472,
            files_to_keep: 256,
            file_anns: 16_384,
            dedup_capacity: 1 << 20,
            post_anns_max: 4096,
            body_memory_mib: 128,
            body_memory_per_source_mib: 32,
            io_threads: 0,
            engine: EngineKind::Auto,
            connections_max: 20_000,
            connections_per_source_max: 1024,
            invalid_ratio_max: 0.5,
            invalid_free_proofs: 256,
            allow: Vec::new(),
            pay_log_switch_ms: 60_000,
            metrics_listen: None,
        }
    }
}

/// Bytes of a sprayer record (spec 05, 7): a smaller payload could not hold one.
const SPRAYER_RECORD_BYTES: usize = 1032;
const THREADS_MAX: usize = 1024;

impl Config {
    /// Checks every key.
    ///
    /// # Errors
    /// The first key whose value breaks its rule.
    pub fn validate(&self) -> Result<(), ConfigError> {
        connect_url("master_url", &self.master_url)?;
        let workdir = self.root_workdir.display();
        ensure("root_workdir", workdir, !self.root_workdir.as_os_str().is_empty(), "a directory")?;
        published_url("public_url", &self.public_url)?;
        let is_submit = self.public_url.ends_with("/submit");
        let rule = "the full upload URL, http://HOST/submit, as in the master's submitAnnUrls";
        ensure("public_url", &self.public_url, is_submit, rule)?;
        let chance = self.skip_check_chance;
        ensure("skip_check_chance", chance, (0.0..=1.0).contains(&chance), "0 to 1")?;
        let ratio = self.invalid_ratio_max;
        ensure("invalid_ratio_max", ratio, (0.0..=1.0).contains(&ratio), "0 to 1")?;
        let rule = "1032 (one record) to 65507 (a UDP payload)";
        ensure("mss", self.mss, (SPRAYER_RECORD_BYTES..=65_507).contains(&self.mss), rule)?;
        for (key, threads) in [
            ("num_workers", self.num_workers),
            ("io_threads", self.io_threads),
            ("spray_workers", self.spray_workers),
        ] {
            ensure(key, threads, threads <= THREADS_MAX, "at most 1024 threads")?;
        }
        require(self.executor, self.backend).map_err(|error| {
            let (key, name) = error.asked();
            ConfigError::new(key, name, error.to_string())
        })?;
        let len = self.input_queue_len;
        ensure("input_queue_len", len, (1..=1 << 20).contains(&len), "1 to 1048576 posts")?;
        let files = self.files_to_keep;
        ensure("files_to_keep", files, (2..=FILES_LEN_MAX).contains(&files), "2 to 16384 files")?;
        let (post, file) = (self.post_anns_max, self.file_anns);
        ensure("post_anns_max", post, (1..=1 << 20).contains(&post), "1 to 1048576")?;
        let rule = "at least post_anns_max, at most 1048576";
        ensure("file_anns", file, (post..=1 << 20).contains(&(file as usize)), rule)?;
        let capacity = self.dedup_capacity;
        let rule = "post_anns_max to 2^31 announcements";
        ensure("dedup_capacity", capacity, (post..=dedup::CAPACITY_MAX).contains(&capacity), rule)?;
        let rule = "at least two posts of post_anns_max KiB";
        let memory = self.body_memory_mib;
        ensure("body_memory_mib", memory, memory.saturating_mul(1024) >= 2 * post, rule)?;
        let rule = "at least one post of post_anns_max KiB";
        let memory = self.body_memory_per_source_mib;
        ensure("body_memory_per_source_mib", memory, memory.saturating_mul(1024) >= post, rule)?;
        ensure("connections_max", self.connections_max, self.connections_max > 0, "at least 1")?;
        let connections = self.connections_per_source_max;
        ensure("connections_per_source_max", connections, connections > 0, "at least 1")?;
        let switch = self.pay_log_switch_ms;
        let rule = "100 to 3600000 ms";
        ensure("pay_log_switch_ms", switch, (100..=3_600_000).contains(&switch), rule)
    }

    /// Threads that check proofs, the default resolved.
    pub(crate) fn workers(&self) -> usize {
        or_cores(self.num_workers)
    }

    /// Threads that receive and send, the default resolved.
    pub(crate) fn io_threads(&self) -> usize {
        or_cores(self.io_threads)
    }

    /// Memory for bodies, bytes.
    pub(crate) fn body_bytes_max(&self) -> usize {
        self.body_memory_mib.saturating_mul(1 << 20)
    }

    /// Memory for the bodies of one source, bytes.
    pub(crate) fn body_bytes_per_source_max(&self) -> usize {
        self.body_memory_per_source_mib.saturating_mul(1 << 20)
    }

    /// When a source is turned away.
    pub(crate) fn source_limits(&self) -> Limits {
        Limits {
            ratio_max: self.invalid_ratio_max,
            free_cost: self.invalid_free_proofs.saturating_mul(PROOF_COST),
            allow: self.allow.iter().map(IpAddr::to_canonical).collect::<HashSet<_>>(),
        }
    }

    /// Proofs are skipped when a random byte is below this (spec 05, 6.6): 0 to 256.
    pub(crate) fn skip_threshold(&self) -> u16 {
        (self.skip_check_chance * 256.0).round() as u16
    }
}

fn or_cores(threads: usize) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    if threads == 0 { cores() } else { threads }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> Config {
        Config {
            master_url: "http://127.0.0.1:8080".to_owned(),
            root_workdir: "/tmp/pool".into(),
            public_url: "http://127.0.0.1:8081/submit".to_owned(),
            ..Config::default()
        }
    }

    #[test]
    fn defaults_are_valid_and_each_rule_names_its_key() {
        assert_eq!(valid().validate(), Ok(()));
        type Break = fn(&mut Config);
        let broken: [(&str, Break); 16] = [
            ("master_url", |c| c.master_url = "ftp://x".to_owned()),
            ("master_url", |c| c.master_url = "https://x".to_owned()),
            ("root_workdir", |c| c.root_workdir = PathBuf::new()),
            ("public_url", |c| c.public_url = "http://127.0.0.1:8081".to_owned()),
            ("skip_check_chance", |c| c.skip_check_chance = 1.01),
            ("skip_check_chance", |c| c.skip_check_chance = f64::NAN),
            ("invalid_ratio_max", |c| c.invalid_ratio_max = -0.1),
            ("mss", |c| c.mss = 1031),
            ("num_workers", |c| c.num_workers = 1025),
            ("input_queue_len", |c| c.input_queue_len = 0),
            ("files_to_keep", |c| c.files_to_keep = 1),
            ("post_anns_max", |c| c.post_anns_max = 0),
            ("file_anns", |c| c.file_anns = 4095),
            ("dedup_capacity", |c| c.dedup_capacity = 4095),
            ("body_memory_mib", |c| c.body_memory_mib = 7),
            ("connections_max", |c| c.connections_max = 0),
        ];
        for (key, break_it) in broken {
            let mut config = valid();
            break_it(&mut config);
            assert_eq!(config.validate().unwrap_err().key, key);
        }
        let error = Config { mss: 5, ..valid() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "mss = 5: 1032 (one record) to 65507 (a UDP payload)");
    }

    #[test]
    fn the_threshold_has_nine_bits() {
        let threshold = |chance| Config { skip_check_chance: chance, ..valid() }.skip_threshold();
        assert_eq!([0.0, 0.001, 0.5, 0.99, 1.0].map(threshold), [0, 0, 128, 253, 256]);
    }

    #[test]
    fn passwords_are_not_shown_and_unknown_keys_are_refused() {
        let config = Config { paymaker_http_password: "hunter2".into(), ..valid() };
        assert!(!format!("{config:?}").contains("hunter2"));
        let unknown = serde_json::from_str::<Config>(r#"{"num_worker": 3}"#).unwrap_err();
        assert!(unknown.to_string().contains("num_worker"), "{unknown}");
        let config: Config = serde_json::from_str(
            r#"{"block_miner_passwd":"x","skip_check_chance":0.5,"num_workers":4,
            "input_queue_len":256,"public_url":"http://a/submit","bind_pub":"0.0.0.0:8081",
            "bind_pvt":"0.0.0.0:8082","spray_workers":4,"subscribe_to":[],"files_to_keep":512,
            "mss":1472,"spray_at":["127.0.0.1:1"]}"#,
        )
        .unwrap();
        assert_eq!(config.num_workers, 4);
    }
}
