//! What a development network can be told.

use std::path::PathBuf;

use packetcrypt_core::bytes::CompactTarget;
use packetcrypt_proto::compact;
pub use packetcrypt_proto::settings::ConfigError;
use packetcrypt_proto::settings::ensure;

/// Settings of one run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Ends after this many blocks of the main chain were mined; `None` = not by number.
    pub blocks: Option<u32>,
    /// Ends after this many seconds; `None` = not by time.
    pub duration_s: Option<u64>,
    /// Where everything invented comes from: history, mempool, addresses.
    pub seed: u64,
    /// Work of an announcement: hashes that are expected for one. The target follows from it.
    pub ann_work: f64,
    /// Wanted time between blocks, milliseconds.
    pub block_time_ms: u64,
    /// Directory of all roles; `None` = a temporary one, removed at the end.
    pub data_dir: Option<PathBuf>,
    /// A real node instead of the embedded one, `http://user:password@host:port`.
    pub node_url: Option<String>,
    /// Take that node although it may be one of a network that others use, see [`crate::guard`].
    pub any_network: bool,
    /// Announcement handlers.
    pub handlers: usize,
    /// Announcement mining threads.
    pub ann_threads: usize,
    /// Block mining threads.
    pub block_threads: usize,
    /// Memory of the block miner, MiB.
    pub memory_mib: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            blocks: None,
            duration_s: None,
            seed: 1,
            ann_work: 128.0,
            block_time_ms: 4_000,
            data_dir: None,
            node_url: None,
            any_network: false,
            handlers: 2,
            ann_threads: 1,
            block_threads: 1,
            memory_mib: 64,
        }
    }
}

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// The first value that breaks its rule.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let work = self.ann_work;
        let work_rule = "2 to 1000000 hashes";
        ensure("ann_work", work.to_string(), (2.0..=1e6).contains(&work), work_rule)?;
        let target = self.ann_target();
        ensure("ann_work", work.to_string(), target.is_well_formed(), work_rule)?;
        let time = self.block_time_ms;
        let time_rule = "100 to 600000 milliseconds";
        ensure("block_time_ms", time.to_string(), (100..=600_000).contains(&time), time_rule)?;
        let handlers = self.handlers;
        ensure("handlers", handlers.to_string(), (1..=16).contains(&handlers), "1 to 16")?;
        for (key, threads) in
            [("ann_threads", self.ann_threads), ("block_threads", self.block_threads)]
        {
            ensure(key, threads.to_string(), (1..=1024).contains(&threads), "1 to 1024 threads")?;
        }
        let memory = self.memory_mib;
        ensure("memory_mib", memory.to_string(), memory >= 16, "at least 16 MiB")?;
        let blocks = self.blocks.unwrap_or(1);
        ensure("blocks", blocks.to_string(), blocks >= 1, "at least 1")
    }

    /// Announcement target of the pool.
    pub fn ann_target(&self) -> CompactTarget {
        compact::ann_work_to_target(self.ann_work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_nonsense_is_named() {
        assert_eq!(Config::default().validate(), Ok(()));
        let bad = Config { ann_work: 0.5, ..Config::default() };
        assert_eq!(bad.validate().unwrap_err().key, "ann_work");
        let bad = Config { blocks: Some(0), ..Config::default() };
        assert_eq!(bad.validate().unwrap_err().to_string(), "blocks = 0: at least 1");
    }

    #[test]
    fn the_usual_work_has_the_usual_target() {
        assert_eq!(Config::default().ann_target(), CompactTarget(0x2002_0000));
    }
}
