//! The layout of an announcement (spec 03, 2.1) and the hashes made of its header (2.3).

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bytes::{CompactTarget, Hash32, Hash64};
use crate::params::{
    ANNOUNCEMENT_BYTES, HEADER_BYTES, ITEM4_PREFIX_BYTES, SIBLINGS_BYTES, SOFT_NONCE_FIELD_MAX,
};
use crate::primitives::{compress32, compress64};

/// Bytes that are hashed to `ann_hash_0` and `ann_hash_1`: a header and 64 more.
const HASHED_BYTES: usize = HEADER_BYTES + 64;

/// The first 88 bytes of an announcement, in wire layout.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Header {
    version: u8,
    soft_nonce: [u8; 3],
    hard_nonce: U32,
    work_bits: U32,
    parent_block_height: U32,
    content_type: U32,
    content_length: U32,
    content_hash: [u8; 32],
    signing_key: [u8; 32],
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);

/// An announcement in wire layout: any 1024 bytes are one, [`check`](crate::announcement::check)
/// says whether it is good.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Announcement {
    header: Header,
    siblings: [u8; SIBLINGS_BYTES],
    root: [u8; 64],
    item4_prefix: [u8; ITEM4_PREFIX_BYTES],
}

const _: () = assert!(size_of::<Announcement>() == ANNOUNCEMENT_BYTES);

impl Announcement {
    /// Reads an announcement in place.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; ANNOUNCEMENT_BYTES]) -> &Announcement {
        zerocopy::transmute_ref!(bytes)
    }

    /// Reads a run of announcements in place, or `None` when the length is no multiple of 1024.
    #[must_use]
    pub fn slice_from_bytes(bytes: &[u8]) -> Option<&[Announcement]> {
        <[Announcement]>::ref_from_bytes(bytes).ok()
    }

    /// The bytes as transmitted.
    #[must_use]
    pub fn to_bytes(&self) -> &[u8; ANNOUNCEMENT_BYTES] {
        zerocopy::transmute_ref!(self)
    }

    /// The identity: de-duplication and the block's tree go by it (spec 03, 2.1). Not the work
    /// hash.
    #[must_use]
    pub fn hash(&self) -> Hash32 {
        compress32(self.to_bytes())
    }

    /// The key of the block's tree: the first 8 bytes of [`hash`](Announcement::hash) as a number.
    #[must_use]
    pub fn key(&self) -> u64 {
        crate::bytes::read_u64(&self.hash().0, 0)
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// `version`; 1 at present.
    #[must_use]
    pub fn version(&self) -> u8 {
        self.header.version
    }

    /// `soft_nonce`, 24 bits.
    #[must_use]
    pub fn soft_nonce(&self) -> u32 {
        let [b0, b1, b2] = self.header.soft_nonce;
        u32::from_le_bytes([b0, b1, b2, 0])
    }

    /// `hard_nonce`.
    #[must_use]
    pub fn hard_nonce(&self) -> u32 {
        self.header.hard_nonce.get()
    }

    /// `work_bits`, not necessarily well-formed.
    #[must_use]
    pub fn work_bits(&self) -> CompactTarget {
        CompactTarget(self.header.work_bits.get())
    }

    /// `parent_block_height`.
    #[must_use]
    pub fn parent_block_height(&self) -> u32 {
        self.header.parent_block_height.get()
    }

    /// `content_type`.
    #[must_use]
    pub fn content_type(&self) -> u32 {
        self.header.content_type.get()
    }

    /// `content_length`.
    #[must_use]
    pub fn content_length(&self) -> u32 {
        self.header.content_length.get()
    }

    /// `content_hash`.
    #[must_use]
    pub fn content_hash(&self) -> &[u8; 32] {
        &self.header.content_hash
    }

    /// `signing_key`, all zero when unsigned.
    #[must_use]
    pub fn signing_key(&self) -> &[u8; 32] {
        &self.header.signing_key
    }

    /// Whether a block that uses this announcement must carry a signature of it.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.header.signing_key != [0; 32]
    }

    /// `siblings`, as stored: encrypted in version 1 and above.
    #[must_use]
    pub fn siblings(&self) -> &[u8; SIBLINGS_BYTES] {
        &self.siblings
    }

    /// `root`, the merkle root of table 1.
    #[must_use]
    pub fn root(&self) -> &Hash64 {
        zerocopy::transmute_ref!(&self.root)
    }

    /// `item4_prefix`, as stored: encrypted in version 1 and above.
    #[must_use]
    pub fn item4_prefix(&self) -> &[u8; ITEM4_PREFIX_BYTES] {
        &self.item4_prefix
    }

    pub(super) fn from_parts(
        header: Header,
        siblings: [u8; SIBLINGS_BYTES],
        root: &Hash64,
        item4_prefix: [u8; ITEM4_PREFIX_BYTES],
    ) -> Announcement {
        Announcement { header, siblings, root: root.0, item4_prefix }
    }

    /// The encrypted parts, siblings and prefix, to be changed in place.
    pub(super) fn sealed_parts_mut(
        &mut self,
    ) -> (&mut [u8; SIBLINGS_BYTES], &mut [u8; ITEM4_PREFIX_BYTES]) {
        (&mut self.siblings, &mut self.item4_prefix)
    }
}

impl core::fmt::Debug for Announcement {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Announcement").field("header", &self.header).finish_non_exhaustive()
    }
}

impl Header {
    /// A header with soft nonce 0.
    pub(super) fn of_request(request: &super::Request, hard_nonce: u32) -> Header {
        Header {
            version: request.version,
            soft_nonce: [0; 3],
            hard_nonce: U32::new(hard_nonce),
            work_bits: U32::new(request.work_bits.0),
            parent_block_height: U32::new(request.parent_block_height),
            content_type: U32::new(request.content_type),
            content_length: U32::new(request.content_length),
            content_hash: request.content_hash,
            signing_key: request.signing_key,
        }
    }

    /// This header with another soft nonce, of which the low 24 bits are taken.
    pub(super) fn with_soft_nonce(&self, soft_nonce: u32) -> Header {
        let [b0, b1, b2, _] = soft_nonce.to_le_bytes();
        Header { soft_nonce: [b0, b1, b2], ..*self }
    }

    /// `ann_hash_0`: which table 1 this header asks for (spec 03, 2.3).
    #[must_use]
    pub fn ann_hash_0(&self, parent_block_hash: &Hash32) -> Hash64 {
        self.hash_with(|tail| tail[..32].copy_from_slice(&parent_block_hash.0))
    }

    /// `ann_hash_1`: where the search begins (spec 03, 2.3).
    #[must_use]
    pub fn ann_hash_1(&self, root: &Hash64) -> Hash64 {
        self.hash_with(|tail| tail.copy_from_slice(&root.0))
    }

    fn hash_with(&self, fill: impl FnOnce(&mut [u8])) -> Hash64 {
        let mut message = [0; HASHED_BYTES];
        let (head, tail) = message.split_at_mut(HEADER_BYTES);
        head.copy_from_slice(self.with_soft_nonce(0).as_bytes());
        fill(tail);
        compress64(&message)
    }
}

/// `seed_2`: which table 2 belongs to a table 1 (spec 03, 2.4).
pub(super) fn seed_2(root: &Hash64, ann_hash_0: &Hash64) -> Hash64 {
    crate::primitives::blake2b::compress64_pair(&root.0, &ann_hash_0.0)
}

/// The largest soft nonce that a target allows (spec 03, 2.2), or `None` for a target that is not
/// well-formed.
#[must_use]
pub fn soft_nonce_max(work_bits: CompactTarget) -> Option<u32> {
    if !work_bits.is_well_formed() {
        return None;
    }
    // Well-formed: the mantissa is not 0 and the exponent at most 32, so that bits is 10 or more.
    let bits = (22 - work_bits.mantissa().ilog2()) + (32 - work_bits.exponent()) * 8 + 10;
    Some(if bits >= 24 { SOFT_NONCE_FIELD_MAX } else { SOFT_NONCE_FIELD_MAX >> (24 - bits) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_layout_says() {
        let mut bytes = [0; ANNOUNCEMENT_BYTES];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = (at % 251) as u8;
        }
        let ann = Announcement::from_bytes(&bytes);
        assert_eq!(ann.version(), bytes[0]);
        assert_eq!(ann.soft_nonce(), 0x0003_0201);
        assert_eq!(ann.hard_nonce(), 0x0706_0504);
        assert_eq!(ann.work_bits(), CompactTarget(0x0b0a_0908));
        assert_eq!(ann.parent_block_height(), 0x0f0e_0d0c);
        assert_eq!(ann.content_type(), 0x1312_1110);
        assert_eq!(ann.content_length(), 0x1716_1514);
        assert_eq!(ann.content_hash(), &bytes[24..56]);
        assert_eq!(ann.signing_key(), &bytes[56..88]);
        assert_eq!(ann.siblings(), &bytes[88..920]);
        assert_eq!(ann.root().0, bytes[920..984]);
        assert_eq!(ann.item4_prefix(), &bytes[984..1024]);
        assert_eq!(ann.to_bytes(), &bytes);
    }

    #[test]
    fn the_soft_nonce_is_not_part_of_the_header_hashes() {
        let header = *Announcement::from_bytes(&[7; ANNOUNCEMENT_BYTES]).header();
        let other = header.with_soft_nonce(0x00ab_cdef);
        assert_ne!(header, other);
        assert_eq!(header.ann_hash_0(&Hash32::ZERO), other.ann_hash_0(&Hash32::ZERO));
        assert_eq!(header.ann_hash_1(&Hash64::ZERO), other.ann_hash_1(&Hash64::ZERO));
    }
}
