//! Which block announcements are made for (spec 05, 8 item 2).

use std::sync::Arc;

use packetcrypt_core::announcement::Request;
use packetcrypt_proto::blkinfo::BlockInfo;
use packetcrypt_proto::config::MasterConfig;

/// Blocks that are remembered: the slot of a block is its height modulo this.
const BLOCKS_LEN: usize = 8;

/// The last blocks of one pool.
#[derive(Debug, Default)]
pub struct RecentBlocks {
    by_height: [Option<Arc<BlockInfo>>; BLOCKS_LEN],
}

/// Why a pool gives nothing to mine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWork {
    /// No block is known yet.
    #[error("no block of the pool is known yet")]
    NoBlock,
    /// The block to work on is not known.
    #[error("block {height} is not known yet")]
    BlockUnknown {
        /// Height of it.
        height: i64,
    },
    /// `config.json` names no announcement target.
    #[error("the pool names no announcement target (annTarget)")]
    NoTarget,
}

impl RecentBlocks {
    /// Remembers a block; an older one in its slot is forgotten, a newer one stays.
    pub fn insert(&mut self, block: Arc<BlockInfo>) {
        if block.header.height < 0 {
            return;
        }
        let slot = &mut self.by_height[block.header.height as usize % BLOCKS_LEN];
        if slot.as_ref().is_none_or(|known| known.header.height <= block.header.height) {
            *slot = Some(block);
        }
    }

    /// What to mine: the block `mine_old` below the greatest known height, the pool's own number
    /// when it is `None`.
    ///
    /// After a reorganisation to a lower height the blocks above the tip of `config` are ignored.
    ///
    /// # Errors
    /// [`NoWork`] with what is missing.
    pub fn request(&self, config: &MasterConfig, mine_old: Option<u32>) -> Result<Request, NoWork> {
        let tip = i64::from(config.current_height) - 1;
        let known =
            || self.by_height.iter().flatten().filter(|b| i64::from(b.header.height) <= tip);
        let top = known().map(|b| i64::from(b.header.height)).max().ok_or(NoWork::NoBlock)?;
        let height = top - i64::from(mine_old.unwrap_or(config.mine_old_anns));
        let block = known()
            .find(|b| i64::from(b.header.height) == height)
            .ok_or(NoWork::BlockUnknown { height })?;
        let target = config.ann_target.ok_or(NoWork::NoTarget)?;
        Ok(Request {
            version: 1,
            work_bits: target,
            parent_block_height: block.header.height as u32,
            parent_block_hash: block.header.hash,
            content_type: 0,
            content_length: 0,
            content_hash: [0; 32],
            signing_key: block.sig_key.map_or([0; 32], |key| key.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use packetcrypt_core::bytes::{CompactTarget, Hash32};
    use packetcrypt_proto::blkinfo::BlockInfoHeader;

    use super::*;

    fn block(height: i32, hash: u8) -> Arc<BlockInfo> {
        Arc::new(BlockInfo {
            header: BlockInfoHeader {
                hash: Hash32([hash; 32]),
                height,
                version: 0x2000_0000,
                merkle_root: Hash32([0; 32]),
                time: 1,
                nonce: 0,
                bits: CompactTarget(0x1f0f_ffff),
                difficulty: 1.0,
                previous_hash: Hash32([0; 32]),
            },
            sig_key: None,
        })
    }

    fn config(current_height: i32, mine_old_anns: u32) -> MasterConfig {
        let text = format!(
            r#"{{"tipHash":"{}","currentHeight":{current_height},"submitAnnUrls":[],
                "submitBlockUrls":[],"version":3,"mineOldAnns":{mine_old_anns},
                "annTarget":536936447}}"#,
            "11".repeat(32)
        );
        MasterConfig::parse(text.as_bytes()).expect("a configuration")
    }

    #[test]
    fn the_pool_or_the_user_chooses_the_age() {
        let mut blocks = RecentBlocks::default();
        for height in 100..107 {
            blocks.insert(block(height, height as u8));
        }
        let height = |config: &MasterConfig, old| {
            blocks.request(config, old).map(|request| request.parent_block_height)
        };
        assert_eq!(height(&config(107, 2), None), Ok(104));
        assert_eq!(height(&config(107, 2), Some(0)), Ok(106));
        assert_eq!(height(&config(105, 0), None), Ok(104), "blocks above the tip are gone");
        assert_eq!(height(&config(107, 7), None), Err(NoWork::BlockUnknown { height: 99 }));
    }

    #[test]
    fn a_reorganisation_replaces_the_block_of_a_height() {
        let mut blocks = RecentBlocks::default();
        blocks.insert(block(100, 1));
        blocks.insert(block(100, 2));
        let request = blocks.request(&config(101, 0), None).expect("work");
        assert_eq!(request.parent_block_hash, Hash32([2; 32]));
        assert_eq!((request.version, request.signing_key), (1, [0; 32]));
        blocks.insert(block(92, 3));
        let request = blocks.request(&config(101, 0), None).expect("work");
        assert_eq!(request.parent_block_height, 100, "an older block of the slot is not taken");
    }

    #[test]
    fn nothing_known_is_said() {
        let blocks = RecentBlocks::default();
        assert_eq!(blocks.request(&config(101, 0), None), Err(NoWork::NoBlock));
    }
}
