//! The 48 bytes by which a coinbase commits to a tree of announcements (spec 04, 3).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bytes::{CompactTarget, Hash32, read_u32, read_u64};

/// Magic at the front of a commitment.
pub const MAGIC: [u8; 4] = [0x09, 0xf9, 0x11, 0x02];

/// A commitment as its 48 bytes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct Commitment(pub [u8; 48]);

impl Commitment {
    /// Bytes of a commitment.
    pub const BYTES: usize = 48;

    /// The commitment to a tree: the greatest aged target of its announcements as a word, its root
    /// and its number of announcements, the zero entry not counted.
    #[must_use]
    pub fn new(least_work: CompactTarget, root: &Hash32, count: u64) -> Commitment {
        let mut bytes = [0; 48];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&least_work.0.to_le_bytes());
        bytes[8..40].copy_from_slice(&root.0);
        bytes[40..].copy_from_slice(&count.to_le_bytes());
        Commitment(bytes)
    }

    /// Whether the magic is right.
    #[must_use]
    pub fn has_magic(&self) -> bool {
        self.0[..4] == MAGIC
    }

    /// The target that every drawn announcement must meet when aged, compared as a word.
    #[must_use]
    pub fn least_work(&self) -> CompactTarget {
        CompactTarget(read_u32(&self.0, 4))
    }

    /// Root of the announcement tree.
    #[must_use]
    pub fn root(&self) -> Hash32 {
        let mut root = Hash32::ZERO;
        root.0.copy_from_slice(&self.0[8..40]);
        root
    }

    /// Number of announcements.
    #[must_use]
    pub fn count(&self) -> u64 {
        read_u64(&self.0, 40)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        let commitment = Commitment::new(CompactTarget(0x1f0f_ffff), &Hash32([7; 32]), 0x0102);
        assert!(commitment.has_magic());
        assert_eq!(commitment.least_work(), CompactTarget(0x1f0f_ffff));
        assert_eq!(commitment.root(), Hash32([7; 32]));
        assert_eq!(commitment.count(), 0x0102);
        assert_eq!(commitment.0[40..], [2, 1, 0, 0, 0, 0, 0, 0]);
        assert!(!Commitment([0; 48]).has_magic());
    }
}
