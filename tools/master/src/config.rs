//! What the operator says: parsed once, checked once.

use std::net::SocketAddr;
use std::path::PathBuf;

use packetcrypt_core::bytes::CompactTarget;
pub use packetcrypt_proto::settings::{ConfigError, Secret};
use packetcrypt_proto::settings::{connect_url, ensure, ensure_range, published_url};
use packetcrypt_proto::signing::SigningSeed;
use serde::{Deserialize, Serialize};

/// Greatest number of handlers of one kind that a `config.json` may list.
pub const HANDLERS_MAX: usize = 256;
/// Announcement target of a work of 128 hashes, the default of the reference.
const ANN_TARGET_DEFAULT: u32 = 0x2002_0000;
/// Share work divisor where neither rule is configured (spec 05, 4.7).
pub(crate) const SHARE_WORK_DIVISOR_DEFAULT: f64 = 64.0;

/// Configuration of a master.
///
/// Every key may be written as here or, where it is named, as the reference pool writes it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address on which the master serves. Default `[::]:8080`.
    pub listen: SocketAddr,
    /// URL under which clients reach this master, without a slash at the end (`masterUrl`).
    /// Default `http://localhost:8080`.
    #[serde(alias = "masterUrl")]
    pub master_url: String,
    /// Directory of the work and template files. It is made when it does not exist.
    /// Default `./datastore/pool/master`.
    pub dir: PathBuf,
    /// Secret from which the signing keys of announcements are made; absent or empty: announcements
    /// are not signed (`privateSeed`). Default absent.
    #[serde(alias = "privateSeed")]
    pub private_seed: Option<Secret>,
    /// Base URLs of the announcement handlers, without `/submit`. The order decides which handler
    /// owns an announcement (`annHandlers`). Default empty.
    #[serde(alias = "annHandlers")]
    pub ann_handlers: Vec<HandlerUrl>,
    /// Base URLs of the block handlers, without `/submit` (`blkHandlers`). Default empty.
    #[serde(alias = "blkHandlers")]
    pub blk_handlers: Vec<HandlerUrl>,
    /// Base URL of the paymaker, without `/events`; empty where nobody is paid by one: pay logs then
    /// stay where they are. Default `http://localhost:8083`.
    #[serde(alias = "paymakerUrl")]
    pub paymaker_url: String,
    /// Work target that announcements must meet: a compact target, despite the name in the reference
    /// (`annMinWork`). Default 0x20020000, a work of 128 hashes.
    #[serde(alias = "annMinWork", alias = "ann_min_work")]
    pub ann_target: u32,
    /// Shares are this many times easier than blocks (`shareWorkDivisor`). Comes before
    /// `share_target`. Default 4; give 0 to use `share_target`.
    #[serde(alias = "shareWorkDivisor")]
    pub share_work_divisor: f64,
    /// Compact target of shares when `share_work_divisor` is 0 (`shareMinWork`). Default absent, which
    /// then means a divisor of 64.
    #[serde(alias = "shareMinWork", alias = "share_min_work")]
    pub share_target: Option<u32>,
    /// Accepted announcement versions; announcement handlers use the first (`annVersions`).
    /// Default `[1]`.
    #[serde(alias = "annVersions")]
    pub ann_versions: Vec<u8>,
    /// How many blocks below the tip announcement miners work (`mineOldAnns`). Default 2, so that an
    /// announcement can be used at once.
    #[serde(alias = "mineOldAnns")]
    pub mine_old_anns: u32,
    /// Time between two questions for the best block, in milliseconds. Default 1000.
    pub poll_interval_ms: u64,
    /// How often the template of a height that lasts is taken anew, in milliseconds: so that its
    /// block pays whom the node pays now, holds new transactions and has a fresh time. 0: a height
    /// keeps its first template, as in the reference. Default 30000.
    pub template_refresh_ms: u64,
    /// Time a long poll is held, in milliseconds. Default 30000.
    pub long_poll_ms: u64,
    /// Requests for the next work that may wait at once; above it they are told to ask again at
    /// once. Default 4096.
    pub long_polls_max: usize,
    /// Heights whose work and template files are kept, the present one included. Default 1024.
    pub heights_kept: usize,
    /// Blocks below the tip whose information is fetched before new work is published; older ones
    /// are asked of the node when somebody wants them. Default 16.
    pub blkinfo_depth: usize,
    /// Block information kept in memory, in blocks. Default 8192.
    pub blkinfo_cache_len_max: usize,
    /// Address of `/metrics` and `/stats.json`. Default absent: not served.
    pub metrics_listen: Option<SocketAddr>,
}

/// Where clients reach a handler.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(from = "HandlerEntry")]
pub struct HandlerUrl {
    /// Base URL, without a slash at the end; shares and announcements go to `<url>/submit`.
    pub url: String,
}

/// A handler may be written as its URL or, as in the reference, as a table with its URL.
#[derive(Deserialize)]
#[serde(untagged)]
enum HandlerEntry {
    Url(String),
    Table { url: String },
}

impl From<HandlerEntry> for HandlerUrl {
    fn from(entry: HandlerEntry) -> Self {
        match entry {
            HandlerEntry::Url(url) | HandlerEntry::Table { url } => Self { url },
        }
    }
}

impl From<&str> for HandlerUrl {
    fn from(url: &str) -> Self {
        Self { url: url.to_owned() }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0u16; 8], 8080)),
            master_url: "http://localhost:8080".to_owned(),
            dir: PathBuf::from("./datastore/pool/master"),
            private_seed: None,
            ann_handlers: Vec::new(),
            blk_handlers: Vec::new(),
            paymaker_url: "http://localhost:8083".to_owned(),
            ann_target: ANN_TARGET_DEFAULT,
            share_work_divisor: 4.0,
            share_target: None,
            ann_versions: vec![1],
            mine_old_anns: 2,
            poll_interval_ms: 1000,
            template_refresh_ms: 30_000,
            long_poll_ms: 30_000,
            long_polls_max: 4096,
            heights_kept: 1024,
            blkinfo_depth: 16,
            blkinfo_cache_len_max: 8192,
            metrics_listen: None,
        }
    }
}

impl Config {
    /// The secret of the signing keys, when announcements are signed (spec 05, 4.6).
    pub fn signing_seed(&self) -> Option<SigningSeed> {
        SigningSeed::new(self.private_seed.as_ref().map(Secret::expose))
    }

    /// Checks every key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_base("master_url", &self.master_url)?;
        if !self.paymaker_url.is_empty() {
            // Our handlers post their logs there.
            connect_url("paymaker_url", &self.paymaker_url)?;
            check_base("paymaker_url", &self.paymaker_url)?;
        }
        check_handlers("ann_handlers", &self.ann_handlers)?;
        check_handlers("blk_handlers", &self.blk_handlers)?;
        let well_formed = |target| CompactTarget(target).is_well_formed();
        let target_rule = "must be a well-formed compact target, at most 0x207fffff";
        ensure("ann_target", hex_word(self.ann_target), well_formed(self.ann_target), target_rule)?;
        if let Some(target) = self.share_target {
            ensure("share_target", hex_word(target), well_formed(target), target_rule)?;
        }
        let divisor = self.share_work_divisor;
        ensure(
            "share_work_divisor",
            divisor,
            divisor.is_finite() && divisor >= 0.0,
            "must be 0 (off) or a positive number",
        )?;
        ensure(
            "ann_versions",
            format!("{:?}", self.ann_versions),
            !self.ann_versions.is_empty() && self.ann_versions.iter().all(|&v| v <= 1),
            "must name at least one of the versions 0 and 1",
        )?;
        ensure_range("mine_old_anns", u64::from(self.mine_old_anns), [0, 255], "blocks")?;
        ensure_range("poll_interval_ms", self.poll_interval_ms, [10, 60_000], "ms")?;
        let refresh = self.template_refresh_ms;
        ensure(
            "template_refresh_ms",
            refresh,
            refresh == 0 || (100..=3_600_000).contains(&refresh),
            "must be 0 (never) or 100 to 3600000 ms",
        )?;
        ensure_range("long_poll_ms", self.long_poll_ms, [100, 60_000], "ms")?;
        let len = |n: usize| n as u64;
        ensure_range("long_polls_max", len(self.long_polls_max), [1, 1 << 20], "")?;
        ensure_range("heights_kept", len(self.heights_kept), [2, 1 << 24], "")?;
        ensure_range("blkinfo_depth", len(self.blkinfo_depth), [1, 1024], "blocks")?;
        let cache = len(self.blkinfo_cache_len_max);
        let least = 2 * len(self.blkinfo_depth);
        ensure(
            "blkinfo_cache_len_max",
            cache,
            (least..=1 << 20).contains(&cache),
            "must be at least twice blkinfo_depth and at most 1048576",
        )
    }
}

fn hex_word(word: u32) -> String {
    format!("{word:#010x}")
}

fn check_handlers(key: &str, handlers: &[HandlerUrl]) -> Result<(), ConfigError> {
    ensure(key, handlers.len(), handlers.len() <= HANDLERS_MAX, "must be at most 256 handlers")?;
    for (index, handler) in handlers.iter().enumerate() {
        let key = format!("{key}[{index}].url");
        check_base(&key, &handler.url)?;
        let repeated = handlers[..index].contains(handler);
        ensure(&key, &handler.url, !repeated, "must be listed once")?;
    }
    Ok(())
}

/// URLs are printed in `config.json` and other paths are appended to them.
fn check_base(key: &str, url: &str) -> Result<(), ConfigError> {
    published_url(key, url)?;
    ensure(key, url, !url.ends_with('/'), "must not end with a slash")?;
    ensure(key, url, !url.ends_with("/submit"), "must be the base URL, without /submit")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_key(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        let error = config.validate().expect_err("must break a rule");
        assert!(!error.rule.is_empty());
        error.key
    }

    #[test]
    fn the_default_is_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn every_rule_names_its_key() {
        assert_eq!(error_key(|c| c.master_url = "localhost:8080".into()), "master_url");
        assert_eq!(error_key(|c| c.master_url = "http:///x".into()), "master_url");
        assert_eq!(error_key(|c| c.paymaker_url.push('/')), "paymaker_url");
        assert_eq!(error_key(|c| c.paymaker_url = "https://p".into()), "paymaker_url");
        assert_eq!(error_key(|c| c.ann_handlers = vec!["x".into()]), "ann_handlers[0].url");
        let twice = vec!["http://a/submit".into()];
        assert_eq!(error_key(|c| c.blk_handlers = twice), "blk_handlers[0].url");
        let twice = vec!["http://a".into(), "http://a".into()];
        assert_eq!(error_key(|c| c.blk_handlers = twice), "blk_handlers[1].url");
        assert_eq!(error_key(|c| c.ann_target = 0x2000_0000), "ann_target");
        assert_eq!(error_key(|c| c.share_target = Some(0x2080_0000)), "share_target");
        assert_eq!(error_key(|c| c.share_work_divisor = -0.5), "share_work_divisor");
        assert_eq!(error_key(|c| c.share_work_divisor = f64::NAN), "share_work_divisor");
        assert_eq!(error_key(|c| c.ann_versions.clear()), "ann_versions");
        assert_eq!(error_key(|c| c.ann_versions.push(2)), "ann_versions");
        assert_eq!(error_key(|c| c.mine_old_anns = 256), "mine_old_anns");
        assert_eq!(error_key(|c| c.poll_interval_ms = 1), "poll_interval_ms");
        assert_eq!(error_key(|c| c.template_refresh_ms = 99), "template_refresh_ms");
        assert_eq!(error_key(|c| c.long_poll_ms = 60_001), "long_poll_ms");
        assert_eq!(error_key(|c| c.long_polls_max = 0), "long_polls_max");
        assert_eq!(error_key(|c| c.heights_kept = 1), "heights_kept");
        assert_eq!(error_key(|c| c.blkinfo_depth = 0), "blkinfo_depth");
        assert_eq!(error_key(|c| c.blkinfo_cache_len_max = 31), "blkinfo_cache_len_max");
    }

    #[test]
    fn an_error_says_key_value_and_rule() {
        let config = Config { poll_interval_ms: 1, ..Config::default() };
        let text = config.validate().unwrap_err().to_string();
        assert_eq!(text, "poll_interval_ms = 1: must be 10 to 60000 ms");
    }

    #[test]
    fn the_names_of_the_reference_are_understood() {
        let text = r#"{"masterUrl":"http://m","annMinWork":536936447,"shareWorkDivisor":16,
            "annVersions":[0,1],"mineOldAnns":0,"privateSeed":"x",
            "annHandlers":[{"url":"http://a"},"http://b"]}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.ann_handlers, ["http://a".into(), "http://b".into()]);
        assert_eq!(config.signing_seed(), SigningSeed::new(Some("x")));
        assert!(serde_json::from_str::<Config>(r#"{"unknown_key":1}"#).is_err());
    }

    #[test]
    fn secrets_are_not_printed() {
        let seed = Some(Secret::new("correct horse"));
        let config = Config { private_seed: seed, ..Config::default() };
        assert!(!format!("{config:?}").contains("horse"));
        let empty = Config { private_seed: Some(Secret::new("")), ..Config::default() };
        assert_eq!(empty.signing_seed(), None);
    }
}
