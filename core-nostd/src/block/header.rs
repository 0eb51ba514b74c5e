//! The 80 bytes of a block header (spec 04, 1).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bytes::{CompactTarget, Hash32, read_u32};
use crate::primitives::{compress32, dsha256};

/// A block header as its 80 bytes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct BlockHeader(pub [u8; 80]);

impl BlockHeader {
    /// Bytes of a header.
    pub const BYTES: usize = 80;

    /// Version, LE32 at 0.
    #[must_use]
    pub fn version(&self) -> u32 {
        read_u32(&self.0, 0)
    }

    /// Id of the previous block in internal order, at 4.
    #[must_use]
    pub fn previous_block(&self) -> Hash32 {
        self.hash_at(4)
    }

    /// Root of the transaction tree in internal order, at 36.
    #[must_use]
    pub fn merkle_root(&self) -> Hash32 {
        self.hash_at(36)
    }

    /// Time in seconds, LE32 at 68.
    #[must_use]
    pub fn time_s(&self) -> u32 {
        read_u32(&self.0, 68)
    }

    /// Compact target of the block, LE32 at 72.
    #[must_use]
    pub fn bits(&self) -> CompactTarget {
        CompactTarget(read_u32(&self.0, 72))
    }

    /// The high nonce, LE32 at 76. The low nonce is stored with the proof.
    #[must_use]
    pub fn nonce(&self) -> u32 {
        read_u32(&self.0, 76)
    }

    /// Replaces the root of the transaction tree.
    pub fn set_merkle_root(&mut self, root: &Hash32) {
        self.0[36..68].copy_from_slice(&root.0);
    }

    /// Replaces the high nonce.
    pub fn set_nonce(&mut self, nonce: u32) {
        self.0[76..].copy_from_slice(&nonce.to_le_bytes());
    }

    /// The same header with another high nonce.
    #[must_use]
    pub fn with_nonce(mut self, nonce: u32) -> BlockHeader {
        self.set_nonce(nonce);
        self
    }

    /// The block id in internal order: `dsha256`. It is not the work hash and needs no zero bits.
    #[must_use]
    pub fn id(&self) -> Hash32 {
        dsha256(&self.0)
    }

    /// `compress32` of the header: the seed of the search (spec 04, 6) and of share ids.
    #[must_use]
    pub fn hash(&self) -> Hash32 {
        compress32(&self.0)
    }

    fn hash_at(&self, at: usize) -> Hash32 {
        let mut hash = Hash32::ZERO;
        hash.0.copy_from_slice(&self.0[at..at + 32]);
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_table_says() {
        let mut bytes = [0; 80];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = at as u8;
        }
        let mut header = BlockHeader(bytes);
        assert_eq!(header.version(), 0x0302_0100);
        assert_eq!(header.previous_block().0[0], 4);
        assert_eq!(header.merkle_root().0[31], 67);
        assert_eq!(header.time_s(), 0x4746_4544);
        assert_eq!(header.bits(), CompactTarget(0x4b4a_4948));
        assert_eq!(header.nonce(), 0x4f4e_4d4c);
        header.set_merkle_root(&Hash32([9; 32]));
        header.set_nonce(5);
        assert_eq!((header.merkle_root(), header.nonce()), (Hash32([9; 32]), 5));
        assert_eq!(header.0[..36], bytes[..36]);
        assert_eq!(header.0[68..76], bytes[68..76]);
    }
}
