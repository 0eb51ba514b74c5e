//! Configuration of the paymaker (spec 05, 13).

use std::net::SocketAddr;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use packetcrypt_proto::address;
use packetcrypt_proto::settings::{ConfigError, Secret, connect_url, ensure};
use serde::{Deserialize, Serialize};

use crate::history::HistoryRules;
use crate::whotopay::PayRules;

/// Greatest depth of the history, s: 400 days.
const HISTORY_S_MAX: u64 = 400 * 86_400;
/// Most payees. The node takes any number, but makes templates of blocks that it then refuses when
/// the coinbase is too long (spec 06, 4): an output takes 43 bytes.
const PAYEES_MAX: usize = 20_000;
const OUTPUT_BYTES_MAX: usize = 43;
/// Bytes of a block without witness, and of the longest proof with all of its signatures.
const BLOCK_BYTES_MAX: usize = 1_000_000;
const PROOF_BYTES_MAX: usize = 131_072 + 4 * 64;
/// What remains for header, the other outputs and other transactions.
const _: () = assert!(PAYEES_MAX * OUTPUT_BYTES_MAX + PROOF_BYTES_MAX + 8_000 < BLOCK_BYTES_MAX);

/// Announcement slots.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnnCompressor {
    /// Length of a slot, ms. Default 60000.
    #[serde(alias = "timespanMs")]
    pub timespan_ms: u64,
    /// How many of the newest slots know their event ids: later events are lost. Default 10.
    #[serde(alias = "slotsToKeepEvents")]
    pub slots_to_keep_events: u64,
}

impl Default for AnnCompressor {
    fn default() -> Self {
        Self { timespan_ms: 60_000, slots_to_keep_events: 10 }
    }
}

/// Configuration of the paymaker. The reference's names are understood too, except `host` and `port`
/// (here `listen`), `rpc` (the node is given to `start`) and `updateHook` (a program text).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where handlers post events. Default `[::]:8083`.
    pub listen: SocketAddr,
    /// Where handlers find it; for the other roles of the same file. Default
    /// `http://localhost:8083`.
    pub url: String,
    /// Where `/metrics` and `/stats.json` are served. Off by default.
    pub metrics_listen: Option<SocketAddr>,
    /// Directory of the posted logs. That of a reference paymaker can be taken over. Default
    /// `./datastore/pool/paymaker_8083`.
    pub dir: PathBuf,
    /// Password of the handlers. No default.
    #[serde(alias = "paymakerHttpPasswd", alias = "http_password")]
    pub paymaker_http_password: Secret,
    /// Seed of the signing keys. Only whether there is one matters here: unsigned announcements are
    /// not paid then. Off by default.
    #[serde(alias = "privateSeed")]
    pub private_seed: Option<Secret>,
    /// How often the node is told whom to pay, s; 0 is never. Parts of a second are allowed. Default 120.
    #[serde(alias = "updateCycle", alias = "update_cycle")]
    pub update_cycle_s: f64,
    /// How often it is checked that the node still pays by our map (it forgets it when it restarts),
    /// s; 0 is never. Default 10.
    pub node_check_s: u64,
    /// How long events are remembered, s. Default 172800.
    #[serde(alias = "historyDepth", alias = "history_depth")]
    pub history_depth_s: u64,
    /// Requests in progress; one more is answered 501. Default 50.
    #[serde(alias = "maxConnections")]
    pub max_connections: usize,
    /// Longest log that is taken, bytes. Default 64 MiB.
    pub body_bytes_max: usize,
    /// Longest time for a whole request, ms. Default 60000.
    pub request_ms_max: u64,
    /// Announcement slots.
    #[serde(alias = "annCompressor")]
    pub ann_compressor: AnnCompressor,
    /// Part of the block miners, 0 to 1. Default 0.5.
    #[serde(alias = "blockPayoutFraction")]
    pub block_payout_fraction: f64,
    /// Part of the pool, 0 to less than 1. Default none.
    #[serde(alias = "poolFee")]
    pub pool_fee: Option<f64>,
    /// Where it goes; needed when there is one.
    #[serde(alias = "poolFeeAddress")]
    pub pool_fee_address: String,
    /// Window of the announcement miners. Default 0.125.
    #[serde(alias = "pplnsAnnConstantX")]
    pub pplns_ann_constant_x: f64,
    /// Window of the block miners. Default 2.
    #[serde(alias = "pplnsBlkConstantX")]
    pub pplns_blk_constant_x: f64,
    /// Gets what nobody has earned. No default.
    #[serde(alias = "defaultAddress")]
    pub default_address: String,
    /// Gets everything when the map can not be made or is refused. No default.
    #[serde(alias = "errorAddress")]
    pub error_address: String,
    /// Most addresses in a map, 1 to 20000 (as many as fit in a coinbase); the weights of the least go
    /// to `default_address`. Default 10000, which is less than half of a block.
    pub payees_max: usize,
    /// Do not delete logs that are of no more use. Default false.
    pub keep_old_logs: bool,
    /// Zero credit hides the rest of its slot, as in the reference. Default false.
    pub zero_credit_hides_slot: bool,
    /// Slots and restart as in the reference. Default false.
    pub reference_slots: bool,
    /// A block counts in `blocksPerHour` and `winsPerHour` as often as it is told of, as in the
    /// reference. Default false.
    pub reference_hours: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0u16; 8], 8083)),
            url: "http://localhost:8083".to_owned(),
            metrics_listen: None,
            dir: PathBuf::from("./datastore/pool/paymaker_8083"),
            paymaker_http_password: Secret::default(),
            private_seed: None,
            update_cycle_s: 120.0,
            node_check_s: 10,
            history_depth_s: 172_800,
            max_connections: 50,
            body_bytes_max: 64 << 20,
            request_ms_max: 60_000,
            ann_compressor: AnnCompressor::default(),
            block_payout_fraction: 0.5,
            pool_fee: None,
            pool_fee_address: String::new(),
            pplns_ann_constant_x: 0.125,
            pplns_blk_constant_x: 2.0,
            default_address: String::new(),
            error_address: String::new(),
            payees_max: 10_000,
            keep_old_logs: false,
            zero_credit_hides_slot: false,
            reference_slots: false,
            reference_hours: false,
        }
    }
}

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// The first value that breaks a rule, with the rule.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let password = !self.paymaker_http_password.is_empty();
        let rule = "must be set and equal to the handlers'";
        ensure("paymaker_http_password", "\"\"", password, rule)?;
        let seed = self.private_seed.as_ref().is_none_or(|seed| !seed.is_empty());
        let rule = "must not be empty: with a seed no unsigned announcement is paid; leave it out";
        ensure("private_seed", "\"\"", seed, rule)?;
        // Our handlers post their logs there.
        connect_url("url", &self.url)?;
        let depth = self.history_depth_s;
        let rule = "must be 1 to 34560000 (400 days)";
        ensure("history_depth_s", depth, (1..=HISTORY_S_MAX).contains(&depth), rule)?;
        let span = self.ann_compressor.timespan_ms;
        let rule = "must be 1 to 86400000";
        ensure("ann_compressor.timespan_ms", span, (1..=86_400_000).contains(&span), rule)?;
        let keep = self.ann_compressor.slots_to_keep_events;
        let rule = "must be at least 1, and the slots must fit in history_depth_s";
        let fits = keep >= 1 && keep.saturating_mul(span) <= depth * 1000;
        ensure("ann_compressor.slots_to_keep_events", keep, fits, rule)?;
        let fraction = self.block_payout_fraction;
        let rule = "must be 0 to 1";
        ensure("block_payout_fraction", fraction, (0.0..=1.0).contains(&fraction), rule)?;
        let fee = self.pool_fee.unwrap_or(0.0);
        ensure("pool_fee", fee, (0.0..1.0).contains(&fee), "must be at least 0 and below 1")?;
        for (key, constant) in [
            ("pplns_ann_constant_x", self.pplns_ann_constant_x),
            ("pplns_blk_constant_x", self.pplns_blk_constant_x),
        ] {
            let holds = constant.is_finite() && constant > 0.0;
            ensure(key, constant, holds, "must be greater than 0")?;
        }
        let limits = [
            ("max_connections", self.max_connections, 100_000, ""),
            ("body_bytes_max", self.body_bytes_max, 1 << 30, ""),
            ("payees_max", self.payees_max, PAYEES_MAX, ": a coinbase with more fits in no block"),
        ];
        for (key, value, most, reason) in limits {
            let rule = format!("must be 1 to {most}{reason}");
            ensure(key, value, (1..=most).contains(&value), &rule)?;
        }
        let time = self.request_ms_max;
        ensure("request_ms_max", time, time >= 1000, "must be at least 1000")?;
        let cycle = self.update_cycle_s;
        ensure("update_cycle_s", cycle, (0.0..=86_400.0).contains(&cycle), "must be 0 to 86400")?;
        let check = self.node_check_s;
        ensure("node_check_s", check, check <= 86_400, "must be at most 86400")?;
        let rule = "must be an address of the PKT network (pkt1.. or p..)";
        let fee_address = (fee != 0.0).then_some(("pool_fee_address", &self.pool_fee_address));
        let addresses =
            [("default_address", &self.default_address), ("error_address", &self.error_address)];
        for (key, value) in addresses.into_iter().chain(fee_address) {
            ensure(key, value, address::check(value).is_ok(), rule)?;
        }
        Ok(())
    }

    /// The rules of memory.
    #[must_use]
    pub fn history_rules(&self) -> HistoryRules {
        HistoryRules {
            depth_ms: self.history_depth_s as f64 * 1000.0,
            timespan_ms: self.ann_compressor.timespan_ms as f64,
            slots_to_keep_events: self.ann_compressor.slots_to_keep_events as f64,
            is_signing: self.private_seed.is_some(),
            reference_slots: self.reference_slots,
            reference_hours: self.reference_hours,
            zone: TimeZone::system(),
        }
    }

    /// The rules of payment.
    #[must_use]
    pub fn pay_rules(&self) -> PayRules {
        PayRules {
            block_payout_fraction: self.block_payout_fraction,
            pplns_blk_constant_x: self.pplns_blk_constant_x,
            pplns_ann_constant_x: self.pplns_ann_constant_x,
            default_address: self.default_address.as_str().into(),
            pool_fee: self.pool_fee,
            pool_fee_address: self.pool_fee_address.as_str().into(),
            zero_credit_hides_slot: self.zero_credit_hides_slot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "pkt1q6hqsqhqdgqfd8t3xwgceulu7k9d9w5t2amath0qxyfjlvl3s3u4sjza2g2";

    fn good() -> Config {
        Config {
            paymaker_http_password: Secret::new("hush"),
            default_address: ADDRESS.into(),
            error_address: ADDRESS.into(),
            ..Config::default()
        }
    }

    #[test]
    fn errors_name_key_value_and_rule() {
        assert_eq!(good().validate(), Ok(()));
        let bad = [
            Config { pool_fee: Some(1.0), ..good() },
            Config { pool_fee: Some(0.1), pool_fee_address: "nonsense".into(), ..good() },
            Config { block_payout_fraction: f64::NAN, ..good() },
            Config { history_depth_s: 0, ..good() },
            Config { pplns_ann_constant_x: 0.0, ..good() },
            Config { default_address: format!("{ADDRESS}x"), ..good() },
            Config { paymaker_http_password: Secret::default(), ..good() },
            Config { payees_max: 20_001, ..good() },
        ];
        let keys = [
            "pool_fee = 1",
            "pool_fee_address = nonsense",
            "block_payout_fraction = NaN",
            "history_depth_s = 0",
            "pplns_ann_constant_x = 0",
            "default_address = pkt1",
            "paymaker_http_password",
            "payees_max = 20001: must be 1 to 20000: a coinbase with more fits in no block",
        ];
        for (config, key) in bad.iter().zip(keys) {
            let text = config.validate().expect_err(key).to_string();
            assert!(text.starts_with(key), "{text}");
        }
    }

    #[test]
    fn names_of_the_reference_are_understood_and_secrets_not_shown() {
        let text = format!(
            r#"{{"paymakerHttpPasswd":"hush","updateCycle":1,"historyDepth":3600,"privateSeed":"",
            "annCompressor":{{"timespanMs":1000,"slotsToKeepEvents":5}},"poolFee":0.2,
            "poolFeeAddress":"{ADDRESS}","defaultAddress":"{ADDRESS}","errorAddress":"{ADDRESS}"}}"#
        );
        let config: Config = serde_json::from_str(&text).expect("parse");
        assert_eq!(config.ann_compressor.timespan_ms, 1000);
        // "" is a seed here and none at the other roles (spec 05, 4.6 and 12.3): nobody can mean it.
        assert!(config.history_rules().is_signing);
        assert_eq!(config.validate().unwrap_err().key, "private_seed");
        assert_eq!(Config { private_seed: None, ..config.clone() }.validate(), Ok(()));
        assert!(!good().history_rules().is_signing);
        assert!(!format!("{config:?}").contains("hush"));
    }
}
