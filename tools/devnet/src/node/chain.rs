//! The chain of the embedded node: blocks in memory, one main branch, side branches kept.
//!
//! The chain begins with *placeholder* blocks below [`FIRST_MINED_HEIGHT`]: correct headers and
//! links, no proof. They stand for the history of a real chain, so that announcements have parents
//! and heights are past the version gates (spec 06, 2). Blocks that a requested reorganisation
//! brings in are placeholders too. Every other block came through `submitblock` and was validated.

use std::collections::HashMap;

use packetcrypt_core::bytes::{CompactTarget, Hash32};
use packetcrypt_core::primitives::dsha256;

/// Height of the first block that the pool mines: past the gates of proof version 2 (113949) and
/// of proof versions 0 and 1 (122621), spec 04, 8.
pub const FIRST_MINED_HEIGHT: u32 = 122_700;
/// Placeholder blocks in front of it: enough for every parent that clients look up.
pub const PLACEHOLDERS: u32 = 24;
/// Easiest block target, that of the real network (spec 06, 2).
pub const EASIEST_BITS: u32 = 0x1f0f_ffff;

/// One block.
#[derive(Clone, Debug)]
pub struct Block {
    /// Id: `dsha256` of the header, internal order.
    pub hash: Hash32,
    /// Height.
    pub height: u32,
    /// The 80 header bytes.
    pub header: [u8; 80],
    /// PacketCrypt entities, end included; empty for a placeholder.
    pub entities: Vec<u8>,
    /// Transactions as serialised in the block; empty for a placeholder.
    pub transactions: Vec<Vec<u8>>,
    /// When this node took it, milliseconds since the epoch.
    pub received_ms: u64,
}

impl Block {
    /// Whether the block has no proof (history, or a requested reorganisation).
    pub fn is_placeholder(&self) -> bool {
        self.entities.is_empty()
    }

    /// Id of the previous block, internal order.
    pub fn previous(&self) -> Hash32 {
        Hash32(field(&self.header, 4))
    }

    /// Compact block target.
    pub fn bits(&self) -> CompactTarget {
        CompactTarget(u32::from_le_bytes(field(&self.header, 72)))
    }

    /// Header time, seconds since the epoch.
    pub fn time(&self) -> u32 {
        u32::from_le_bytes(field(&self.header, 68))
    }

    /// Header version.
    pub fn version(&self) -> u32 {
        u32::from_le_bytes(field(&self.header, 0))
    }

    /// Header nonce.
    pub fn nonce(&self) -> u32 {
        u32::from_le_bytes(field(&self.header, 76))
    }

    /// Merkle root of the transactions, internal order.
    pub fn merkle_root(&self) -> Hash32 {
        Hash32(field(&self.header, 36))
    }
}

/// `N` bytes of a header; the offsets are constants of this module.
fn field<const N: usize>(header: &[u8; 80], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

/// Puts a header together (spec 04, 1).
pub fn header(
    previous: &Hash32,
    merkle_root: &Hash32,
    time: u32,
    bits: CompactTarget,
    nonce: u32,
) -> [u8; 80] {
    let mut bytes = [0; 80];
    bytes[0..4].copy_from_slice(&0x2000_0000_u32.to_le_bytes());
    bytes[4..36].copy_from_slice(&previous.0);
    bytes[36..68].copy_from_slice(&merkle_root.0);
    bytes[68..72].copy_from_slice(&time.to_le_bytes());
    bytes[72..76].copy_from_slice(&bits.0.to_le_bytes());
    bytes[76..80].copy_from_slice(&nonce.to_le_bytes());
    bytes
}

/// What became of a block that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is the new tip.
    Tip,
    /// It is valid, but another block of its height was first.
    Side,
}

/// All blocks.
#[derive(Debug)]
pub struct Chain {
    blocks: HashMap<Hash32, Block>,
    /// Main branch, from the first placeholder upwards.
    main: Vec<Hash32>,
    first_height: u32,
    block_time_ms: u64,
}

impl Chain {
    /// A chain of placeholders whose last block has the time `now_ms`.
    pub fn new(bits: CompactTarget, block_time_ms: u64, now_ms: u64, seed: u64) -> Self {
        let first_height = FIRST_MINED_HEIGHT - PLACEHOLDERS;
        let mut chain =
            Self { blocks: HashMap::new(), main: Vec::new(), first_height, block_time_ms };
        let mut previous = dsha256(&[b"devnet".as_slice(), &seed.to_le_bytes()].concat());
        for height in first_height..FIRST_MINED_HEIGHT {
            let age_s = u64::from(FIRST_MINED_HEIGHT - height) * 60;
            let time = (now_ms / 1000).saturating_sub(age_s) as u32;
            let block = placeholder(&previous, height, time, bits, now_ms);
            previous = block.hash;
            chain.main.push(block.hash);
            chain.blocks.insert(block.hash, block);
        }
        chain
    }

    /// The best block.
    pub fn tip(&self) -> &Block {
        let hash = self.main.last().expect("the chain begins with placeholders");
        &self.blocks[hash]
    }

    /// Any block that is known.
    pub fn block(&self, hash: &Hash32) -> Option<&Block> {
        self.blocks.get(hash)
    }

    /// The block of the main branch at a height.
    pub fn at_height(&self, height: u32) -> Option<&Block> {
        let index = height.checked_sub(self.first_height)? as usize;
        self.main.get(index).map(|hash| &self.blocks[hash])
    }

    /// Whether a block is on the main branch.
    pub fn is_main(&self, block: &Block) -> bool {
        self.at_height(block.height).is_some_and(|main| main.hash == block.hash)
    }

    /// The block at `height` on the branch that ends in `tip`.
    pub fn ancestor(&self, tip: &Hash32, height: u32) -> Option<&Block> {
        let mut block = self.blocks.get(tip)?;
        while block.height > height {
            if self.is_main(block) {
                return self.at_height(height);
            }
            block = self.blocks.get(&block.previous())?;
        }
        (block.height == height).then_some(block)
    }

    /// Blocks of the main branch from `height` upwards.
    pub fn main_from(&self, height: u32) -> impl Iterator<Item = &Block> {
        let skip = height.saturating_sub(self.first_height) as usize;
        self.main.iter().skip(skip).map(|hash| &self.blocks[hash])
    }

    /// Blocks with a proof that are not on the main branch.
    pub fn orphans(&self) -> usize {
        self.blocks.values().filter(|b| !b.is_placeholder() && !self.is_main(b)).count()
    }

    /// Adds a validated block whose parent is known.
    pub fn add(&mut self, block: Block) -> Added {
        let extends_tip = block.previous() == self.tip().hash;
        let hash = block.hash;
        self.blocks.insert(hash, block);
        if extends_tip {
            self.main.push(hash);
            Added::Tip
        } else {
            Added::Side
        }
    }

    /// Replaces the last `depth` blocks by `depth + 1` placeholders, as if the rest of the network
    /// had found a better branch. The chain never goes below the placeholders it began with.
    pub fn reorganise(&mut self, depth: u32, now_ms: u64) -> u32 {
        let depth = depth.min(self.tip().height + 1 - FIRST_MINED_HEIGHT);
        let bits = self.tip().bits();
        let fork_height = self.tip().height - depth;
        self.main.truncate((fork_height + 1 - self.first_height) as usize);
        for _ in 0..=depth {
            let tip = self.tip();
            let time = tip.time().max((now_ms / 1000) as u32) + 1;
            // The nonce makes it another block than an earlier placeholder of this height.
            let nonce_time = time ^ (now_ms as u32).rotate_left(16);
            let root = dsha256(&nonce_time.to_le_bytes());
            let head = header(&tip.hash, &root, time, bits, nonce_time);
            let block = Block {
                hash: dsha256(&head),
                height: tip.height + 1,
                header: head,
                entities: Vec::new(),
                transactions: Vec::new(),
                received_ms: now_ms,
            };
            self.main.push(block.hash);
            self.blocks.insert(block.hash, block);
        }
        depth
    }

    /// Median of the times of the last 11 blocks: a new block must be later.
    pub fn median_time(&self) -> u32 {
        let mut times: Vec<u32> =
            self.main.iter().rev().take(11).map(|hash| self.blocks[hash].time()).collect();
        times.sort_unstable();
        times[times.len() / 2]
    }

    /// Target of the next block.
    ///
    /// The work of a PacketCrypt block grows with the *cube* of the block's work (spec 04, 2.2), so
    /// after each block the target is multiplied by the cube root of (time taken ÷ time wanted), the
    /// quotient kept within 1/8 to 8, and never made easier than the real network's limit.
    pub fn next_bits(&self) -> CompactTarget {
        let tip = self.tip();
        let Some(parent) = self.blocks.get(&tip.previous()) else { return tip.bits() };
        if tip.is_placeholder() || parent.is_placeholder() {
            return tip.bits();
        }
        let taken_ms = tip.received_ms.saturating_sub(parent.received_ms).max(1);
        adjust(tip.bits(), taken_ms, self.block_time_ms)
    }
}

fn adjust(bits: CompactTarget, taken_ms: u64, wanted_ms: u64) -> CompactTarget {
    let ratio = (taken_ms as f64 / wanted_ms.max(1) as f64).clamp(0.125, 8.0).cbrt();
    let exponent = bits.0 >> 24;
    // Two more bytes of mantissa, so that small changes are not lost.
    let mantissa = (f64::from(bits.0 & 0x007f_ffff) * 65536.0 * ratio) as u64;
    let (mut exponent, mut mantissa) = (exponent.saturating_sub(2), mantissa.max(1));
    while mantissa > 0x007f_ffff {
        mantissa >>= 8;
        exponent += 1;
    }
    CompactTarget(((exponent << 24) | mantissa as u32).min(EASIEST_BITS))
}

fn placeholder(
    previous: &Hash32,
    height: u32,
    time: u32,
    bits: CompactTarget,
    now_ms: u64,
) -> Block {
    let root = dsha256(&height.to_le_bytes());
    let head = header(previous, &root, time, bits, height);
    Block {
        hash: dsha256(&head),
        height,
        header: head,
        entities: Vec::new(),
        transactions: Vec::new(),
        received_ms: now_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Chain {
        Chain::new(CompactTarget(0x1e0f_ffff), 4000, 1_700_000_000_000, 1)
    }

    #[test]
    fn placeholders_link() {
        let chain = chain();
        assert_eq!(chain.tip().height, FIRST_MINED_HEIGHT - 1);
        for block in chain.main_from(FIRST_MINED_HEIGHT - PLACEHOLDERS + 1) {
            let parent = chain.block(&block.previous()).expect("parent is known");
            assert_eq!(parent.height + 1, block.height);
            assert_eq!(chain.ancestor(&chain.tip().hash, block.height).unwrap().hash, block.hash);
        }
    }

    #[test]
    fn a_reorganisation_is_longer_and_keeps_the_old_branch() {
        let mut chain = chain();
        for i in 0..4_u32 {
            let root = dsha256(&i.to_le_bytes());
            let head =
                header(&chain.tip().hash, &root, chain.tip().time() + 1, chain.tip().bits(), i);
            let block = Block {
                hash: dsha256(&head),
                height: chain.tip().height + 1,
                header: head,
                entities: vec![0, 0],
                transactions: vec![vec![0]],
                received_ms: 1,
            };
            assert_eq!(chain.add(block), Added::Tip);
        }
        let old = chain.tip().clone();
        assert_eq!(chain.reorganise(2, 1_700_000_100_000), 2);
        assert_eq!(chain.tip().height, old.height + 1);
        assert_eq!(chain.orphans(), 2);
        assert!(!chain.is_main(&old));
        assert_eq!(chain.ancestor(&old.hash, old.height - 1).unwrap().hash, old.previous());
        assert_eq!(chain.reorganise(1000, 1_700_000_200_000), 5, "never into the placeholders");
    }

    #[test]
    fn difficulty_follows_the_cube_root() {
        let bits = CompactTarget(0x1d40_0000);
        assert_eq!(adjust(bits, 4000, 4000), bits);
        assert_eq!(adjust(bits, 500, 4000), CompactTarget(0x1d20_0000), "8 times too fast: half");
        assert_eq!(adjust(bits, 1, 4000), CompactTarget(0x1d20_0000), "bounded");
        let easier = adjust(bits, 32_000, 4000);
        assert_eq!(easier, CompactTarget(0x1e00_8000), "8 times too slow: double");
        assert_eq!(adjust(CompactTarget(EASIEST_BITS), 32_000, 4000), CompactTarget(EASIEST_BITS));
    }
}
