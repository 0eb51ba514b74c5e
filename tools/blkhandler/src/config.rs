//! What the operator says: parsed once, checked once.

use std::net::SocketAddr;
use std::path::PathBuf;

pub use packetcrypt_proto::settings::{ConfigError, Secret};
use packetcrypt_proto::settings::{connect_url, ensure, ensure_range, published_url};
use packetcrypt_proto::signing::SigningSeed;
use serde::{Deserialize, Serialize};

/// Configuration of a block handler.
///
/// Every key may be written as here or, where it is named, as the reference pool writes it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address on which shares are taken. Default `[::]:8082`.
    pub listen: SocketAddr,
    /// URL of this handler as the master lists it, with or without `/submit` (`url`).
    /// Default `http://localhost:8082`.
    #[serde(alias = "url")]
    pub public_url: String,
    /// URL of the master (`masterUrl`). Default `http://localhost:8080`.
    #[serde(alias = "masterUrl")]
    pub master_url: String,
    /// Directory of the pay log and of blocks whose fate is not yet known. It is made when it does
    /// not exist. Default `./datastore/pool/blk`.
    pub dir: PathBuf,
    /// Secret from which the signing keys of announcements are made, the same as the master's;
    /// absent or empty: signed announcements are refused (`privateSeed`). Default absent.
    #[serde(alias = "privateSeed")]
    pub private_seed: Option<Secret>,
    /// Password of the paymaker's `/events` (`paymakerHttpPasswd`). Default empty.
    #[serde(alias = "paymakerHttpPasswd")]
    pub paymaker_http_password: Secret,
    /// Requests served at once, from the moment their body is there; above it they are answered 501
    /// (`maxConnections`). Default 50.
    #[serde(alias = "maxConnections")]
    pub max_connections: usize,
    /// Open connections of one address (IPv6: /64) outside of private networks; more are closed at
    /// once. Default 256.
    pub connections_per_source_max: usize,
    /// Time in which the body of a request must arrive, in milliseconds. Default 10000.
    pub body_timeout_ms: u64,
    /// Time during which shares for the previous work are still paid, in milliseconds; 0: never.
    /// Default 10000.
    pub previous_work_grace_ms: u64,
    /// Whether every share is checked here before the node is asked; when false the node alone
    /// decides. Default true.
    pub own_check: bool,
    /// How long a share waits for the node, in milliseconds: for its check, and again for a block.
    /// After that the own check decides, and a block is submitted in the background. Default 5000.
    pub node_wait_ms: u64,
    /// Accepted shares of one work that are remembered, so that none is paid twice; above it shares
    /// are answered 501. Default 100000.
    pub shares_per_work_max: usize,
    /// Time between two questions for the master's configuration, in milliseconds. Default 5000; the
    /// long poll brings new work at once, whatever this is.
    pub poll_interval_ms: u64,
    /// Time after which a pay log file that is not empty is closed and uploaded, in milliseconds.
    /// Default 60000.
    pub pay_log_switch_ms: u64,
    /// Address of `/metrics` and `/stats.json`. Default absent: not served.
    pub metrics_listen: Option<SocketAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0u16; 8], 8082)),
            public_url: "http://localhost:8082".to_owned(),
            master_url: "http://localhost:8080".to_owned(),
            dir: PathBuf::from("./datastore/pool/blk"),
            private_seed: None,
            paymaker_http_password: Secret::default(),
            max_connections: 50,
            connections_per_source_max: 256,
            body_timeout_ms: 10_000,
            previous_work_grace_ms: 10_000,
            own_check: true,
            node_wait_ms: 5000,
            shares_per_work_max: 100_000,
            poll_interval_ms: 5000,
            pay_log_switch_ms: 60_000,
            metrics_listen: None,
        }
    }
}

impl Config {
    /// The secret of the signing keys, when announcements are signed (spec 05, 4.6).
    pub fn signing_seed(&self) -> Option<SigningSeed> {
        SigningSeed::new(self.private_seed.as_ref().map(Secret::expose))
    }

    /// The URL that the master must list: `public_url` with `/submit`.
    pub fn submit_url(&self) -> String {
        let base = self.public_url.strip_suffix("/submit").unwrap_or(&self.public_url);
        format!("{base}/submit")
    }

    /// Checks every key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        published_url("public_url", &self.public_url)?;
        connect_url("master_url", &self.master_url)?;
        for (key, url) in [("public_url", &self.public_url), ("master_url", &self.master_url)] {
            ensure(key, url, !url.ends_with('/'), "must not end with a slash")?;
        }
        let connections = self.max_connections as u64;
        ensure_range("max_connections", connections, [1, 65_535], "requests")?;
        let of_one = self.connections_per_source_max as u64;
        ensure_range("connections_per_source_max", of_one, [1, 65_535], "connections")?;
        ensure_range("body_timeout_ms", self.body_timeout_ms, [100, 600_000], "ms")?;
        let grace = self.previous_work_grace_ms;
        ensure_range("previous_work_grace_ms", grace, [0, 600_000], "ms")?;
        ensure_range("node_wait_ms", self.node_wait_ms, [100, 60_000], "ms")?;
        let shares = self.shares_per_work_max as u64;
        ensure_range("shares_per_work_max", shares, [1, 1 << 32], "shares")?;
        ensure_range("poll_interval_ms", self.poll_interval_ms, [50, 60_000], "ms")?;
        let switch = self.pay_log_switch_ms;
        ensure_range("pay_log_switch_ms", switch, [100, 3_600_000], "ms")
    }
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
        assert_eq!(error_key(|c| c.public_url = "ftp://x".into()), "public_url");
        assert_eq!(error_key(|c| c.master_url = "http://m/".into()), "master_url");
        assert_eq!(error_key(|c| c.master_url = "http://m m".into()), "master_url");
        assert_eq!(error_key(|c| c.master_url = "https://m".into()), "master_url");
        assert_eq!(error_key(|c| c.max_connections = 0), "max_connections");
        assert_eq!(error_key(|c| c.connections_per_source_max = 0), "connections_per_source_max");
        assert_eq!(error_key(|c| c.body_timeout_ms = 1), "body_timeout_ms");
        assert_eq!(error_key(|c| c.previous_work_grace_ms = 600_001), "previous_work_grace_ms");
        assert_eq!(error_key(|c| c.node_wait_ms = 0), "node_wait_ms");
        assert_eq!(error_key(|c| c.shares_per_work_max = 0), "shares_per_work_max");
        assert_eq!(error_key(|c| c.poll_interval_ms = 1), "poll_interval_ms");
        assert_eq!(error_key(|c| c.pay_log_switch_ms = 99), "pay_log_switch_ms");
    }

    #[test]
    fn the_listed_url_has_submit_once() {
        let url = |text: &str| Config { public_url: text.into(), ..Config::default() }.submit_url();
        assert_eq!(url("http://h:8082"), "http://h:8082/submit");
        assert_eq!(url("http://h:8082/submit"), "http://h:8082/submit");
    }

    #[test]
    fn secrets_are_not_printed() {
        let config = Config {
            private_seed: Some(Secret::new("correct horse")),
            paymaker_http_password: Secret::new("battery"),
            ..Config::default()
        };
        let text = format!("{config:?}");
        assert!(!text.contains("horse") && !text.contains("battery"), "{text}");
        assert_eq!(config.signing_seed(), SigningSeed::new(Some("correct horse")));
    }
}
